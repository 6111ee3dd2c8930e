/* bench_sides.c - the two databases that are measured, and small things that all of the
 * benchmark uses. */
#define _GNU_SOURCE
#include "test/bench/bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

uint64_t bench_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t bench_mix(uint64_t x)
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

void bench_key(uint64_t row, char key[BENCH_KEY_LEN + 1])
{
    static const char digits[] = "0123456789abcdef";
    uint64_t bits = bench_mix(row);
    int i;

    for (i = 0; i < BENCH_KEY_LEN; i++, bits <<= 4)
        key[i] = digits[bits >> 60];
    key[BENCH_KEY_LEN] = '\0';
}

void bench_fail(struct bench *b, const char *format, ...)
{
    va_list args;

    if (atomic_exchange(&b->failed, true))
        return;
    fprintf(stderr, "bench: ");
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n");
}

/* ---- Databases ------------------------------------------------------------- */

void bench_exec(struct bench *b, sqlite3 *db, const char *sql)
{
    char *message = NULL;

    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
        bench_fail(b, "%s: %s", sql, message != NULL ? message : "?");
    sqlite3_free(message);
}

sqlite3_stmt *bench_prepare(struct bench *b, sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL)
        != SQLITE_OK)
        bench_fail(b, "%s: %s", sql, sqlite3_errmsg(db));
    return stmt;
}

int64_t bench_number(struct bench *b, sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt = bench_prepare(b, db, sql);
    int64_t number = -1;

    if (sqlite3_step(stmt) == SQLITE_ROW)
        number = sqlite3_column_int64(stmt, 0);
    else
        bench_fail(b, "%s: %s", sql, sqlite3_errmsg(db));
    sqlite3_finalize(stmt);
    return number;
}

static void open_armdb(struct bench *b, const struct bench_side *side, sqlite3 *db,
                       const char *table, const char *sync)
{
    char *message = NULL, *sql, *path = NULL;

    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, NULL);
    if (sqlite3_load_extension(db, b->extension, NULL, &message) != SQLITE_OK)
        bench_fail(b, "%s: %s", b->extension, message != NULL ? message : "?");
    sqlite3_free(message);
    if (b->place == BENCH_TEMP)
        path = sqlite3_mprintf(", path='%q/store'", side->folder);
    sql = sqlite3_mprintf("CREATE VIRTUAL TABLE IF NOT EXISTS %s%s USING "
                          "armdb(k TEXT PRIMARY KEY, v BLOB, sync=%s%s)",
                          b->place == BENCH_TEMP ? "temp." : "", table, sync,
                          path != NULL ? path : "");
    bench_exec(b, db, sql);
    sqlite3_free(sql);
    sqlite3_free(path);
}

static void open_native(struct bench *b, sqlite3 *db, const char *table, const char *sync)
{
    char *sql = sqlite3_mprintf(
        "PRAGMA cache_size=-262144; PRAGMA mmap_size=1073741824;"
        "PRAGMA synchronous=%s; CREATE TABLE IF NOT EXISTS %s(k TEXT PRIMARY KEY, "
        "v BLOB) WITHOUT ROWID",
        sync, table);

    bench_exec(b, db, sql);
    sqlite3_free(sql);
}

sqlite3 *bench_open(struct bench *b, const struct bench_side *side, const char *table,
                    const char *sync)
{
    bool armdb = side->armdb && b->extension != NULL;
    bool memory = b->place == BENCH_MEMORY || (armdb && b->place == BENCH_TEMP);
    char path[700];
    sqlite3 *db = NULL;

    snprintf(path, sizeof path, "%s/db", side->folder);
    if (sqlite3_open(memory ? ":memory:" : path, &db) != SQLITE_OK)
        bench_fail(b, "%s: %s", path, sqlite3_errmsg(db));
    sqlite3_busy_timeout(db, 20000);
    bench_exec(b, db, "PRAGMA journal_mode=WAL");
    if (armdb)
        open_armdb(b, side, db, table, sync);
    else
        open_native(b, db, table, sync);
    return db;
}

void bench_close(struct bench *b, sqlite3 *db)
{
    if (sqlite3_close(db) != SQLITE_OK)
        bench_fail(b, "close: %s", sqlite3_errmsg(db));
}

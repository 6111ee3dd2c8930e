/* list.c - armdb_list beside the GROUP BY that gives the same answer.
 *
 *   list [--rows=N] [--root=DIR] [--json=FILE]
 *
 * Two sets of keys: every file below DIR (/usr/share), and N (a million) keys of an
 * object store, bucket/yyyy/mm/dd/hhmmss-id. Each set is in an armdb table and in a
 * native WITHOUT ROWID table, both on disk and in memory caches large enough for all of
 * it. What lies directly under a prefix is asked in three ways, and the answers must be
 * the same:
 *
 *   armdb_list(t, prefix, '/')
 *   SELECT <up to the first '/' behind the prefix> ... GROUP BY, over the native table's
 *   range of the prefix
 *   a recursive query on the native table that seeks from one folder to the next, as one
 *   may write it by hand
 *
 * Reported is the median of some runs of each, and how many times faster the first is.
 * The goal is 100 times the GROUP BY for what a listing is for: folders with much below
 * them. Where there is little to skip no way can be much faster than reading it. */
#define _GNU_SOURCE
#include <ftw.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test/bench/bench.h"

int sqlite3_armdbvtab_init(sqlite3 *db, char **err, const void *api);

enum { RUNS_MAX = 50, RUN_NS = 300000000 };

static const char create[] =
    "PRAGMA journal_mode=WAL; PRAGMA cache_size=-524288; PRAGMA mmap_size=1073741824;"
    "CREATE TABLE native(k TEXT PRIMARY KEY, v) WITHOUT ROWID;"
    "CREATE VIRTUAL TABLE temp.t USING armdb(k TEXT PRIMARY KEY, v, path='%s/store',"
    " cache_size='1G', sync=off)";

static const char by_list[] = "SELECT key FROM armdb_list('t', ?1, '/')";

static const char by_group[] =
    "SELECT iif(instr(substr(k, length(?1) + 1), '/'), substr(k, 1, length(?1) + "
    "instr(substr(k, length(?1) + 1), '/')), k) AS entry FROM native "
    "WHERE k >= ?1 AND k < ?2 GROUP BY entry ORDER BY entry";

/* The next key behind 'a/b/' and all below it is the first from 'a/b0' on: '0' is the
 * character behind '/'. */
static const char by_seeks[] =
    "WITH RECURSIVE e(entry, k) AS (SELECT NULL, (SELECT min(k) FROM native WHERE k >= "
    "?1 "
    "AND k < ?2) UNION ALL SELECT iif(instr(substr(k, length(?1) + 1), '/'), substr(k, "
    "1, length(?1) + instr(substr(k, length(?1) + 1), '/')), k), "
    "iif(instr(substr(k, length(?1) + 1), '/'), (SELECT min(n.k) FROM native AS n WHERE "
    "n.k >= substr(e.k, 1, length(?1) + instr(substr(e.k, length(?1) + 1), '/') - 1) || "
    "'0' AND n.k < ?2), (SELECT min(n.k) FROM native AS n WHERE n.k > e.k AND n.k < ?2)) "
    "FROM e WHERE k IS NOT NULL) SELECT entry FROM e WHERE entry IS NOT NULL";

static sqlite3_stmt *insert_stmt[2]; /* nftw() hands nothing through */
static uint64_t inserted;

static void must(bool good, sqlite3 *db, const char *what)
{
    if (good)
        return;
    (void)fprintf(stderr, "list: %s: %s\n", what, db != NULL ? sqlite3_errmsg(db) : "");
    exit(1);
}

static void insert(const char *key)
{
    for (int i = 0; i < 2; i++) {
        sqlite3_bind_text(insert_stmt[i], 1, key, -1, SQLITE_STATIC);
        must(sqlite3_step(insert_stmt[i]) == SQLITE_DONE,
             sqlite3_db_handle(insert_stmt[i]), key);
        sqlite3_reset(insert_stmt[i]);
    }
    inserted++;
}

static int insert_file(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    insert(path);
    return 0;
}

static void insert_objects(uint64_t rows)
{
    char key[80];

    for (uint64_t i = 0; i < rows; i++) {
        uint64_t r = bench_mix(i);

        (void)snprintf(key, sizeof key, "bucket-%02u/%u/%02u/%02u/%06u-%08x",
                       (unsigned)(r % 16), 2020 + (unsigned)(r >> 8) % 5,
                       1 + (unsigned)(r >> 16) % 12, 1 + (unsigned)(r >> 24) % 28,
                       (unsigned)(r >> 32) % 240000, (unsigned)i);
        insert(key);
    }
}

/* ---- Asking ---- */

/* Runs a statement once; the digest tells one answer from another, in its order. */
static uint64_t run(sqlite3_stmt *stmt, const char *prefix, uint64_t *rows)
{
    char above[200];
    uint64_t digest = 0;
    int rc;

    (void)snprintf(above, sizeof above, "%s", prefix);
    if (above[0] == '\0')
        (void)strcpy(above, "\x7f");
    else
        above[strlen(above) - 1]++;
    sqlite3_bind_text(stmt, 1, prefix, -1, SQLITE_STATIC);
    if (sqlite3_bind_parameter_count(stmt) > 1)
        sqlite3_bind_text(stmt, 2, above, -1, SQLITE_STATIC);
    *rows = 0;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        const unsigned char *text = sqlite3_column_text(stmt, 0);

        for (; text != NULL && *text != '\0'; text++)
            digest = bench_mix(digest ^ *text);
        digest = bench_mix(digest + 256);
        (*rows)++;
    }
    must(rc == SQLITE_DONE, sqlite3_db_handle(stmt), sqlite3_sql(stmt));
    sqlite3_reset(stmt);
    return digest;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* The median of at least 3 and at most RUNS_MAX runs, as many as fit into RUN_NS. */
static double measure(sqlite3 *db, const char *sql, const char *prefix, uint64_t *rows,
                      uint64_t *digest)
{
    uint64_t taken[RUNS_MAX];
    uint64_t begin = bench_now();
    sqlite3_stmt *stmt = NULL;
    int count = 0;

    must(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK, db, sql);
    *digest = run(stmt, prefix, rows);
    while (count < RUNS_MAX && (count < 3 || bench_now() - begin < RUN_NS)) {
        uint64_t from = bench_now();

        must(run(stmt, prefix, rows) == *digest, NULL, "an answer changed");
        taken[count++] = bench_now() - from;
    }
    sqlite3_finalize(stmt);
    qsort(taken, (size_t)count, sizeof *taken, compare);
    return (double)taken[count / 2] / 1000.0;
}

static void ask(sqlite3 *db, const char *prefix, FILE *json)
{
    static const char *const questions[3] = {by_list, by_group, by_seeks};
    uint64_t rows[3];
    uint64_t digest[3];
    double us[3];

    for (int i = 0; i < 3; i++)
        us[i] = measure(db, questions[i], prefix, &rows[i], &digest[i]);
    must(rows[0] == rows[1] && rows[0] == rows[2] && digest[0] == digest[1] &&
             digest[0] == digest[2],
         NULL, "the answers differ");
    (void)printf("  %-22s %6llu rows %9.1f us; GROUP BY %10.1f us, %7.1f times; "
                 "seeks by hand %8.1f us, %5.1f times\n",
                 prefix[0] == '\0' ? "(the top)" : prefix, (unsigned long long)rows[0],
                 us[0], us[1], us[1] / us[0], us[2], us[2] / us[0]);
    if (json != NULL)
        (void)fprintf(json, "  \"%s\": [%llu, %.1f, %.1f, %.1f],\n", prefix,
                      (unsigned long long)rows[0], us[0], us[1], us[2]);
}

static sqlite3 *open_database(const char *folder)
{
    char sql[1200];
    sqlite3 *db = NULL;

    (void)snprintf(sql, sizeof sql, "%s/db", folder);
    must(sqlite3_open(sql, &db) == SQLITE_OK &&
             sqlite3_armdbvtab_init(db, NULL, NULL) == SQLITE_OK,
         db, "open");
    (void)snprintf(sql, sizeof sql, create, folder);
    must(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK, db, sql);
    must(sqlite3_prepare_v2(db, "INSERT INTO t(k, v) VALUES (?, 1)", -1, &insert_stmt[0],
                            NULL) == SQLITE_OK &&
             sqlite3_prepare_v2(db, "INSERT INTO native(k, v) VALUES (?, 1)", -1,
                                &insert_stmt[1], NULL) == SQLITE_OK,
         db, "prepare");
    must(sqlite3_exec(db, "BEGIN", NULL, NULL, NULL) == SQLITE_OK, db, "BEGIN");
    inserted = 0;
    return db;
}

static void end_inserts(sqlite3 *db)
{
    sqlite3_finalize(insert_stmt[0]);
    sqlite3_finalize(insert_stmt[1]);
    must(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK, db, "COMMIT");
}

static void remove_folder(const char *folder)
{
    char command[400];

    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    must(system(command) == 0, NULL, command);
}

static void make_folder(char folder[300])
{
    const char *base = getenv("TMPDIR");

    (void)snprintf(folder, 300, "%s/armdb-list-XXXXXX", base != NULL ? base : "/tmp");
    must(mkdtemp(folder) != NULL, NULL, folder);
}

static void list_tree(const char *root, FILE *json)
{
    char folder[300];
    char prefix[300];
    sqlite3 *db;

    make_folder(folder);
    db = open_database(folder);
    must(nftw(root, insert_file, 64, FTW_PHYS) == 0, NULL, root);
    end_inserts(db);
    (void)printf("%llu files below %s:\n", (unsigned long long)inserted, root);
    (void)snprintf(prefix, sizeof prefix, "%s/", root);
    ask(db, "", json);
    ask(db, prefix, json);
    (void)snprintf(prefix, sizeof prefix, "%s/doc/", root);
    ask(db, prefix, json);
    sqlite3_close(db);
    remove_folder(folder);
}

static void list_objects(uint64_t rows, FILE *json)
{
    char folder[300];
    sqlite3 *db;

    make_folder(folder);
    db = open_database(folder);
    insert_objects(rows);
    end_inserts(db);
    (void)printf("%llu objects, bucket/yyyy/mm/dd/hhmmss-id:\n",
                 (unsigned long long)inserted);
    ask(db, "", json);
    ask(db, "bucket-07/", json);
    ask(db, "bucket-07/2022/", json);
    ask(db, "bucket-07/2022/03/", json);
    ask(db, "bucket-07/2022/03/14/", json);
    sqlite3_close(db);
    remove_folder(folder);
}

int main(int argc, char **argv)
{
    const char *root = "/usr/share";
    uint64_t rows = 1000000;
    FILE *json = NULL;

    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--rows=", 7) == 0)
            rows = strtoull(argv[i] + 7, NULL, 10);
        else if (strncmp(argv[i], "--root=", 7) == 0)
            root = argv[i] + 7;
        else if (strncmp(argv[i], "--json=", 7) == 0)
            json = fopen(argv[i] + 7, "w");
    }
    if (json != NULL)
        (void)fprintf(json, "{\n");
    list_tree(root, json);
    list_objects(rows, json);
    if (json != NULL) {
        (void)fprintf(json, "  \"unit\": \"rows, us, us, us\"\n}\n");
        (void)fclose(json);
    }
    return 0;
}

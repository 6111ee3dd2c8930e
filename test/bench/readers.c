/* readers.c - how long reads take while a writer commits at full speed.
 *
 *   readers [--seconds=N] [--rows=N] [--json=FILE]
 *
 * Two connections read at random, each on a thread of its own, first alone, then beside
 * one that commits single rows, in rounds that take turns: look-ups of one row, then
 * ranges of 20. Reported is the median over the rounds of the 99th percentile of all
 * their reads, and the ratio. The goal is a ratio of at most 2.
 *
 * Three kinds of table: armdb in the TEMP schema over one store, armdb in a database
 * file, and for comparison a native one in such a file (WAL). With sync=full the writer
 * waits for the disk most of the time, with sync=off it never does. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test/bench/bench.h"

int sqlite3_armdbvtab_init(sqlite3 *db, char **err, const void *api);

enum {
    READERS = 2,
    ROUNDS = 5,
    SAMPLES = 1000000, /* of one reader in one round, at most */
    VALUE_BYTES = 100,
    RANGE_ROWS = 20
};

enum kind { ARMDB_TEMP, ARMDB_FILE, NATIVE, KINDS };

static const char *const kind_names[KINDS] = {"armdb, TEMP", "armdb, file", "native"};

struct world {
    char folder[300];
    enum kind kind;
    const char *sync;
    bool ranges;
    uint64_t rows;
    _Atomic bool stop;
    _Atomic uint64_t commits;
};

struct reader {
    struct world *world;
    sqlite3 *db;
    uint64_t random;
    uint32_t *sample; /* nanoseconds */
    size_t count;
};

static void must(bool good, sqlite3 *db, const char *what)
{
    if (good)
        return;
    (void)fprintf(stderr, "readers: %s: %s\n", what, sqlite3_errmsg(db));
    exit(1);
}

static sqlite3 *connect_to(const struct world *world)
{
    char text[900];
    sqlite3 *db = NULL;

    (void)snprintf(text, sizeof text, "%s/db", world->folder);
    must(sqlite3_open(world->kind == ARMDB_TEMP ? ":memory:" : text, &db) == SQLITE_OK &&
             sqlite3_armdbvtab_init(db, NULL, NULL) == SQLITE_OK,
         db, "open");
    (void)sqlite3_busy_timeout(db, 5000);
    if (world->kind == NATIVE)
        (void)snprintf(text, sizeof text,
                       "PRAGMA journal_mode=WAL; PRAGMA synchronous=%s; CREATE TABLE IF "
                       "NOT EXISTS t(k INTEGER PRIMARY KEY, v) WITHOUT ROWID",
                       world->sync);
    else
        (void)snprintf(text, sizeof text,
                       "PRAGMA journal_mode=WAL; CREATE VIRTUAL TABLE IF NOT EXISTS %s.t "
                       "USING armdb(k INTEGER PRIMARY KEY, v, path='%s/store', sync=%s)",
                       world->kind == ARMDB_TEMP ? "temp" : "main", world->folder,
                       world->sync);
    must(sqlite3_exec(db, text, NULL, NULL, NULL) == SQLITE_OK, db, text);
    return db;
}

/* Reads once: all rows are there, whole. */
static void read_rows(struct reader *reader, sqlite3_stmt *stmt)
{
    const struct world *world = reader->world;
    int wanted = world->ranges ? RANGE_ROWS : 1;
    int rc;

    reader->random = bench_mix(reader->random);
    sqlite3_bind_int64(stmt, 1,
                       (sqlite3_int64)(reader->random % (world->rows - RANGE_ROWS)));
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        must(sqlite3_column_bytes(stmt, 0) == VALUE_BYTES, reader->db, "a value");
        wanted--;
    }
    must(rc == SQLITE_DONE && wanted == 0, reader->db, "read");
    sqlite3_reset(stmt);
}

static void *read_at_random(void *arg)
{
    struct reader *reader = arg;
    sqlite3_stmt *stmt = NULL;
    const char *sql = reader->world->ranges
                          ? "SELECT v FROM t WHERE k >= ? ORDER BY k LIMIT 20"
                          : "SELECT v FROM t WHERE k = ?";

    must(sqlite3_prepare_v2(reader->db, sql, -1, &stmt, NULL) == SQLITE_OK, reader->db,
         "prepare");
    reader->count = 0;
    /* Only a flag to end by. */
    while (!atomic_load_explicit(&reader->world->stop, memory_order_relaxed) &&
           reader->count < SAMPLES) {
        uint64_t begin = bench_now();

        read_rows(reader, stmt);
        reader->sample[reader->count++] = (uint32_t)(bench_now() - begin);
    }
    sqlite3_finalize(stmt);
    return NULL;
}

static void *commit_rows(void *arg)
{
    struct world *world = arg;
    sqlite3 *db = connect_to(world);
    sqlite3_stmt *stmt = NULL;
    uint64_t random = 77;

    must(sqlite3_prepare_v2(db, "UPDATE t SET v = randomblob(100) WHERE k = ?", -1, &stmt,
                            NULL) == SQLITE_OK,
         db, "prepare");
    while (!atomic_load_explicit(&world->stop, memory_order_relaxed)) {
        random = bench_mix(random);
        sqlite3_bind_int64(stmt, 1, (sqlite3_int64)(random % world->rows));
        must(sqlite3_step(stmt) == SQLITE_DONE, db, "commit");
        sqlite3_reset(stmt);
        atomic_fetch_add_explicit(&world->commits, 1, memory_order_relaxed);
    }
    sqlite3_finalize(stmt);
    (void)sqlite3_close(db);
    return NULL;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static double compare_p99(struct reader readers[READERS])
{
    static uint32_t all[READERS * SAMPLES];
    size_t count = 0;

    for (int i = 0; i < READERS; i++) {
        memcpy(all + count, readers[i].sample, readers[i].count * sizeof *all);
        count += readers[i].count;
    }
    qsort(all, count, sizeof *all, compare);
    return count == 0 ? 0.0 : all[count - count / 100 - 1] / 1000.0;
}

static double one_round(struct world *world, struct reader readers[READERS], bool writer,
                        unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    pthread_t threads[READERS + 1];
    int count = READERS + (writer ? 1 : 0);

    atomic_store_explicit(&world->stop, false, memory_order_relaxed);
    for (int i = 0; i < count; i++) {
        if (pthread_create(&threads[i], NULL, i < READERS ? read_at_random : commit_rows,
                           i < READERS ? (void *)&readers[i] : (void *)world) != 0)
            abort();
    }
    (void)nanosleep(&t, NULL);
    atomic_store_explicit(&world->stop, true, memory_order_relaxed);
    for (int i = 0; i < count; i++)
        (void)pthread_join(threads[i], NULL);
    return compare_p99(readers);
}

static double median(double value[ROUNDS])
{
    for (int i = 1; i < ROUNDS; i++) {
        for (int j = i; j > 0 && value[j] < value[j - 1]; j--) {
            double other = value[j];

            value[j] = value[j - 1];
            value[j - 1] = other;
        }
    }
    return value[ROUNDS / 2];
}

/* Opens the readers' connections, the first of which fills the table. */
static void open_readers(struct world *world, struct reader readers[READERS])
{
    static uint32_t samples[READERS][SAMPLES];
    const char *base = getenv("TMPDIR");
    char text[300];

    (void)snprintf(world->folder, sizeof world->folder, "%s/armdb-readers-XXXXXX",
                   base != NULL ? base : "/tmp");
    must(mkdtemp(world->folder) != NULL, NULL, world->folder);
    for (int i = 0; i < READERS; i++) {
        readers[i] = (struct reader){
            .world = world, .random = (uint64_t)i + 1, .sample = samples[i]};
        readers[i].db = connect_to(world);
    }
    (void)snprintf(text, sizeof text,
                   "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n "
                   "WHERE i + 1 < %llu) INSERT INTO t SELECT i, randomblob(100) FROM n",
                   (unsigned long long)world->rows);
    must(sqlite3_exec(readers[0].db, text, NULL, NULL, NULL) == SQLITE_OK, readers[0].db,
         text);
}

static void close_readers(struct world *world, struct reader readers[READERS])
{
    char command[400];

    for (int i = 0; i < READERS; i++)
        (void)sqlite3_close(readers[i].db);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", world->folder);
    must(system(command) == 0, NULL, command);
}

static void measure(struct world *world, double seconds, FILE *json)
{
    struct reader readers[READERS];
    double p99[2][ROUNDS];
    unsigned ms = (unsigned)(seconds * 1000.0 / (2 * ROUNDS));
    const char *what = world->ranges ? "ranges" : "look-ups";
    double alone, beside, rate;

    open_readers(world, readers);
    for (int round = 0; round < ROUNDS; round++) {
        for (int writer = 0; writer < 2; writer++)
            p99[writer][round] = one_round(world, readers, writer == 1, ms);
    }
    alone = median(p99[0]);
    beside = median(p99[1]);
    rate = (double)atomic_load(&world->commits) * 1000.0 / (ms * ROUNDS);
    (void)printf("%-12s sync=%-5s p99 of %-8s %7.1f us alone, %7.1f us beside %6.0f "
                 "commits/s: %.2f times\n",
                 kind_names[world->kind], world->sync, what, alone, beside, rate,
                 beside / alone);
    (void)fflush(stdout);
    if (json != NULL)
        (void)fprintf(json, "  \"%s, %s, %s\": [%.2f, %.2f, %.0f],\n",
                      kind_names[world->kind], world->sync, what, alone, beside, rate);
    close_readers(world, readers);
}

int main(int argc, char **argv)
{
    static const char *const syncs[] = {"full", "off"};
    double seconds = 4.0; /* of each measurement */
    uint64_t rows = 100000;
    FILE *json = NULL;

    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--seconds=", 10) == 0)
            seconds = atof(argv[i] + 10);
        else if (strncmp(argv[i], "--rows=", 7) == 0)
            rows = strtoull(argv[i] + 7, NULL, 10);
        else if (strncmp(argv[i], "--json=", 7) == 0)
            json = fopen(argv[i] + 7, "w");
    }
    if (json != NULL)
        (void)fprintf(json, "{\n");
    for (size_t i = 0; i < (size_t)KINDS * 4; i++) {
        struct world world = {.kind = (enum kind)(i / 4),
                              .sync = syncs[i / 2 % 2],
                              .ranges = i % 2 != 0,
                              .rows = rows};

        measure(&world, seconds, json);
    }
    if (json != NULL) {
        (void)fprintf(json, "  \"unit\": \"us, us, 1/s\"\n}\n");
        (void)fclose(json);
    }
    return 0;
}

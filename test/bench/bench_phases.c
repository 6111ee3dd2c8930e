/* bench_phases.c - what is measured, through SQL with prepared statements.
 *
 * Row i has the key hex(mix(i)), 16 characters in random order, and a value that
 * begins with i and its version. So every row that comes back can be checked, and is:
 * a fast wrong answer is no answer. */
#define _GNU_SOURCE
#include "test/bench/bench.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Rows ------------------------------------------------------------------ */

static void bind_key(sqlite3_stmt *stmt, int at, uint64_t row, char *key)
{
    bench_key(row, key);
    sqlite3_bind_text(stmt, at, key, BENCH_KEY_LEN, SQLITE_STATIC);
}

static void bind_value(const struct bench *b, sqlite3_stmt *stmt, int at,
                       unsigned char *value, uint64_t row, unsigned char version)
{
    uint64_t head[2] = { row, version };

    memcpy(value, head, b->value_len < sizeof head ? b->value_len : sizeof head);
    sqlite3_bind_blob64(stmt, at, value, b->value_len, SQLITE_STATIC);
}

/* Checks that column `at` is a value of this row. */
static bool check_value(struct bench *b, sqlite3_stmt *stmt, int at, uint64_t row)
{
    const unsigned char *value = sqlite3_column_blob(stmt, at);
    uint64_t got;

    if ((uint64_t)sqlite3_column_bytes(stmt, at) != b->value_len) {
        bench_fail(b, "row %llu has %d bytes", (unsigned long long)row,
                   sqlite3_column_bytes(stmt, at));
        return false;
    }
    if (b->value_len < sizeof got)
        return true;
    memcpy(&got, value, sizeof got);
    if (got != row)
        bench_fail(b, "asked for row %llu, got %llu", (unsigned long long)row,
                   (unsigned long long)got);
    return got == row;
}

static void finish_write(struct bench *b, sqlite3_stmt *stmt)
{
    if (sqlite3_step(stmt) != SQLITE_DONE)
        bench_fail(b, "%s: %s", sqlite3_sql(stmt),
                   sqlite3_errmsg(sqlite3_db_handle(stmt)));
    sqlite3_reset(stmt);
}

static bool in_time(uint64_t done, uint64_t deadline)
{
    return done % 16 != 0 || bench_now() < deadline;
}

/* A row number that repeats only after all others: a walk with a large odd step. */
static uint64_t scattered(const struct bench *b, uint64_t i)
{
    return bench_mix(i * 2 + 1) % b->rows;
}

/* ---- Loading --------------------------------------------------------------- */

static uint64_t put_rows(struct bench *b, struct bench_side *side, const char *sql,
                         bool sorted, uint64_t count, unsigned char version)
{
    sqlite3_stmt *put = bench_prepare(b, side->db, sql);
    char key[BENCH_KEY_LEN + 1];
    uint64_t i;

    for (i = 0; i < count && !b->failed; i++) {
        uint64_t row = sorted ? b->order[i] : i;

        if (i % BENCH_BATCH == 0)
            bench_exec(b, side->db, i == 0 ? "BEGIN" : "COMMIT; BEGIN");
        bind_key(put, 1, row, key);
        bind_value(b, put, 2, b->value, row, version);
        finish_write(b, put);
    }
    bench_exec(b, side->db, "COMMIT");
    sqlite3_finalize(put);
    return i;
}

static uint64_t load_random(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    uint64_t n = put_rows(b, side, "INSERT INTO t VALUES (?1, ?2)", false, b->rows, 0);

    (void)deadline;
    return n;
}

static uint64_t load_sorted(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    uint64_t n, begin = bench_now();

    (void)deadline;
    bench_close(b, side->db);
    side->db = bench_open(b, side, "s", "full");
    b->untimed_ns += bench_now() - begin;
    n = put_rows(b, side, "INSERT INTO s VALUES (?1, ?2)", true, b->rows, 0);
    return n;
}

static uint64_t overwrite(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    uint64_t count = b->rows < 200000 ? b->rows : 200000;
    uint64_t n = put_rows(b, side, "INSERT OR REPLACE INTO t VALUES (?1, ?2)", false,
                          count, 1);
    uint64_t begin = bench_now();

    (void)deadline;
    if (bench_number(b, side->db, "SELECT count(*) FROM t WHERE substr(v, 9, 1) = x'01'")
        != (int64_t)count)
        bench_fail(b, "not all rows were overwritten");
    b->untimed_ns += bench_now() - begin;
    return n;
}

static uint64_t delete_rows(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    sqlite3_stmt *del = bench_prepare(b, side->db, "DELETE FROM t WHERE k = ?1");
    uint64_t count = b->rows < 200000 ? b->rows : 200000, i, begin;
    char key[BENCH_KEY_LEN + 1];

    (void)deadline;
    for (i = 0; i < count && !b->failed; i++) {
        if (i % BENCH_BATCH == 0)
            bench_exec(b, side->db, i == 0 ? "BEGIN" : "COMMIT; BEGIN");
        bind_key(del, 1, i, key);
        finish_write(b, del);
        if (sqlite3_changes(side->db) != 1)
            bench_fail(b, "DELETE of row %llu changed nothing", (unsigned long long)i);
    }
    bench_exec(b, side->db, "COMMIT");
    sqlite3_finalize(del);
    begin = bench_now();
    if (bench_number(b, side->db, "SELECT count(*) FROM t") != (int64_t)(b->rows - count))
        bench_fail(b, "count(*) is wrong after the deletes");
    b->untimed_ns += bench_now() - begin;
    return i;
}

/* ---- Reading --------------------------------------------------------------- */

static uint64_t get_rows(struct bench *b, sqlite3 *db, uint64_t deadline, uint64_t shift,
                         bool present)
{
    sqlite3_stmt *get = bench_prepare(b, db, "SELECT v FROM t WHERE k = ?1");
    char key[BENCH_KEY_LEN + 1];
    uint64_t n;

    for (n = 0; !b->failed && in_time(n, deadline); n++) {
        uint64_t row = scattered(b, n + shift) + (present ? 0 : b->rows * 7);
        int rc;

        bind_key(get, 1, row, key);
        rc = sqlite3_step(get);
        if (rc == SQLITE_ROW && present)
            check_value(b, get, 0, row);
        else if (rc != (present ? SQLITE_ROW : SQLITE_DONE))
            bench_fail(b, "row %llu: %d %s", (unsigned long long)row, rc,
                       sqlite3_errmsg(db));
        sqlite3_reset(get);
    }
    sqlite3_finalize(get);
    return n;
}

static uint64_t point(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    return get_rows(b, side->db, deadline, 0, true);
}

static uint64_t point_begin(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    uint64_t n;

    bench_exec(b, side->db, "BEGIN");
    n = get_rows(b, side->db, deadline, 7777, true);
    bench_exec(b, side->db, "COMMIT");
    return n;
}

static uint64_t miss(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    return get_rows(b, side->db, deadline, 5, false);
}

static uint64_t in_list(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    static const char sql[] = "SELECT count(*), sum(length(v)) FROM t WHERE k IN "
                              "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
    sqlite3_stmt *get = bench_prepare(b, side->db, sql);
    char key[16][BENCH_KEY_LEN + 1];
    uint64_t n;
    int i;

    for (n = 0; !b->failed && in_time(n, deadline); n++) {
        uint64_t first = scattered(b, n);

        for (i = 0; i < 16; i++) /* 16 different rows */
            bind_key(get, i + 1, (first + (uint64_t)i) % b->rows, key[i]);
        if (sqlite3_step(get) != SQLITE_ROW
            || (uint64_t)sqlite3_column_int64(get, 0) != (b->rows < 16 ? b->rows : 16)
            || (uint64_t)sqlite3_column_int64(get, 1)
                   != b->value_len * (b->rows < 16 ? b->rows : 16))
            bench_fail(b, "IN (16 keys) gives %d rows", sqlite3_column_int(get, 0));
        sqlite3_reset(get);
    }
    sqlite3_finalize(get);
    return n;
}

static uint64_t range(struct bench *b, struct bench_side *side, uint64_t deadline,
                      bool up)
{
    sqlite3_stmt *get = bench_prepare(
        b, side->db,
        up ? "SELECT k, v FROM t WHERE k >= ?1 ORDER BY k LIMIT 100"
           : "SELECT k, v FROM t WHERE k <= ?1 ORDER BY k DESC LIMIT 100");
    char key[BENCH_KEY_LEN + 1];
    uint64_t n, i;

    for (n = 0; !b->failed && in_time(n, deadline); n++) {
        uint64_t at = scattered(b, n);
        uint64_t left = up ? b->rows - at : at + 1;

        bind_key(get, 1, b->order[at], key);
        for (i = 0; i < 100 && i < left && sqlite3_step(get) == SQLITE_ROW; i++)
            if (!check_value(b, get, 1, b->order[up ? at + i : at - i]))
                break;
        if (i < 100 && i < left)
            bench_fail(b, "range of 100 ends after %llu rows", (unsigned long long)i);
        sqlite3_reset(get);
    }
    sqlite3_finalize(get);
    return n;
}

static uint64_t range_up(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    return range(b, side, deadline, true);
}

static uint64_t range_down(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    return range(b, side, deadline, false);
}

/* Where the keys that begin with these characters start in b->order. */
static uint64_t lower_bound(const struct bench *b, const char *prefix)
{
    uint64_t low = 0, high = b->rows;
    char key[BENCH_KEY_LEN + 1];

    while (low < high) {
        uint64_t middle = (low + high) / 2;

        bench_key(b->order[middle], key);
        if (strcmp(key, prefix) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The rows of one statement must be those from `low` to below `high`. */
static void check_rows(struct bench *b, sqlite3_stmt *get, const char *low,
                       const char *high)
{
    uint64_t first = lower_bound(b, low), end = lower_bound(b, high), i;

    for (i = first; sqlite3_step(get) == SQLITE_ROW; i++)
        if (i < end && !check_value(b, get, 1, b->order[i]))
            break;
    if (i != end)
        bench_fail(b, "prefix gives %llu rows, not %llu", (unsigned long long)(i - first),
                   (unsigned long long)(end - first));
    sqlite3_reset(get);
}

static uint64_t prefix(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    sqlite3_stmt *get = bench_prepare(b, side->db,
                                      "SELECT k, v FROM t WHERE k >= ?1 AND k < ?2");
    char low[8], high[8];
    uint64_t n;

    for (n = 0; !b->failed && bench_now() < deadline; n++) {
        unsigned number = (unsigned)(bench_mix(n) % 4095);

        snprintf(low, sizeof low, "%03x", number);
        snprintf(high, sizeof high, "%03x", number + 1);
        sqlite3_bind_text(get, 1, low, -1, SQLITE_STATIC);
        sqlite3_bind_text(get, 2, high, -1, SQLITE_STATIC);
        check_rows(b, get, low, high);
    }
    sqlite3_finalize(get);
    return n;
}

/* A pattern is planned with the statement: prepared anew, as users write it. */
static uint64_t prefix_glob(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    char sql[100], low[8], high[8];
    sqlite3_stmt *get;
    uint64_t n;

    for (n = 0; !b->failed && bench_now() < deadline; n++) {
        unsigned number = (unsigned)(bench_mix(n) % 4095);

        snprintf(sql, sizeof sql, "SELECT k, v FROM t WHERE k GLOB '%03x*'", number);
        snprintf(low, sizeof low, "%03x", number);
        snprintf(high, sizeof high, "%03x", number + 1);
        get = bench_prepare(b, side->db, sql);
        check_rows(b, get, low, high);
        sqlite3_finalize(get);
    }
    return n;
}

static uint64_t scan(struct bench *b, struct bench_side *side, uint64_t deadline,
                     const char *sql, bool values)
{
    sqlite3_stmt *get = bench_prepare(b, side->db, sql);
    uint64_t passes = 0, i;

    do {
        for (i = 0; sqlite3_step(get) == SQLITE_ROW && i < b->rows; i++) {
            if (values && !check_value(b, get, 1, b->order[i]))
                break;
            if (!values && sqlite3_column_bytes(get, 0) != BENCH_KEY_LEN)
                bench_fail(b, "a key of another length");
        }
        if (i != b->rows)
            bench_fail(b, "a full scan gives %llu rows", (unsigned long long)i);
        sqlite3_reset(get);
        passes++;
    } while (!b->failed && bench_now() < deadline);
    sqlite3_finalize(get);
    return passes;
}

static uint64_t scan_values(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    return scan(b, side, deadline, "SELECT k, v FROM t ORDER BY k", true);
}

static uint64_t scan_keys(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    return scan(b, side, deadline, "SELECT k FROM t", false);
}

static uint64_t numbers(struct bench *b, struct bench_side *side, uint64_t deadline,
                        const char *sql, uint64_t expected)
{
    uint64_t passes = 0;

    do {
        if ((uint64_t)bench_number(b, side->db, sql) != expected)
            bench_fail(b, "%s gives another number", sql);
        passes++;
    } while (!b->failed && bench_now() < deadline);
    return passes;
}

static uint64_t count_rows(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    return numbers(b, side, deadline, "SELECT count(*) FROM t", b->rows);
}

static uint64_t sum_lengths(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    return numbers(b, side, deadline, "SELECT sum(length(v)) FROM t",
                   b->rows * b->value_len);
}

/* ---- Commits, also from several threads ------------------------------------ */

struct worker {
    struct bench *b;
    struct bench_side *side;
    const char *sync;
    int number;
    int threads;
    uint64_t deadline; /* 0 until all have opened */
    uint64_t ended;    /* when it had done its last one */
    uint64_t done;
    bool reads;
    pthread_barrier_t *barrier;
};

static _Atomic uint64_t next_commit; /* every row of table c is new */

static void commit_rows(struct worker *w, sqlite3 *db)
{
    sqlite3_stmt *put = bench_prepare(w->b, db, "INSERT INTO c VALUES (?1, ?2)");
    unsigned char *value = calloc(1, w->b->value_len + 16);
    char key[BENCH_KEY_LEN + 1];

    if (value == NULL)
        abort();
    for (w->done = 0; !w->b->failed && bench_now() < w->deadline; w->done++) {
        uint64_t row = next_commit++;

        bind_key(put, 1, row, key);
        bind_value(w->b, put, 2, value, row, 0);
        finish_write(w->b, put);
    }
    free(value);
    sqlite3_finalize(put);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    uint64_t length = w->deadline;
    sqlite3 *db = bench_open(w->b, w->side, w->reads ? "t" : "c", w->sync);

    sqlite3_busy_timeout(db, 20000);
    if (w->barrier != NULL)
        pthread_barrier_wait(w->barrier);
    w->deadline = bench_now() + length;
    if (w->reads)
        w->done = get_rows(w->b, db, w->deadline, (uint64_t)w->number * 1000000, true);
    else
        commit_rows(w, db);
    w->ended = bench_now();
    bench_close(w->b, db);
    return NULL;
}

/* Runs `threads` workers for the time that is left; returns their operations. The
 * connection of the side stays open: the store is not opened anew. Opening the workers'
 * own connections, closing them and counting the rows is not timed. */
static uint64_t run_workers(struct bench *b, struct bench_side *side, uint64_t deadline,
                            int threads, const char *sync, bool reads)
{
    struct worker worker[BENCH_THREADS_MAX];
    pthread_t thread[BENCH_THREADS_MAX];
    pthread_barrier_t barrier;
    uint64_t entered = bench_now();
    uint64_t done = 0, began, ended = 0;
    sqlite3 *db = bench_open(b, side, reads ? "t" : "c", sync);
    int64_t before = 0;
    int i;

    if (!reads)
        before = bench_number(b, db, "SELECT count(*) FROM c");
    pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
    for (i = 0; i < threads; i++) {
        worker[i] = (struct worker){ .b = b, .side = side, .sync = sync, .number = i,
                                     .threads = threads, .reads = reads,
                                     .barrier = &barrier };
        worker[i].deadline = deadline - bench_now();
        if (pthread_create(&thread[i], NULL, work, &worker[i]) != 0)
            abort();
    }
    pthread_barrier_wait(&barrier);
    began = bench_now();
    for (i = 0; i < threads; i++) {
        pthread_join(thread[i], NULL);
        done += worker[i].done;
        ended = worker[i].ended > ended ? worker[i].ended : ended;
    }
    pthread_barrier_destroy(&barrier);
    if (!reads
        && bench_number(b, db, "SELECT count(*) FROM c") != before + (int64_t)done)
        bench_fail(b, "commits are missing");
    bench_close(b, db);
    b->untimed_ns += (began - entered) + (bench_now() - ended);
    return done;
}

static uint64_t commit_1(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    return run_workers(b, side, deadline, 1, "full", false);
}

static uint64_t commit_4(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    return run_workers(b, side, deadline, 4, "full", false);
}

static uint64_t commit_8(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    return run_workers(b, side, deadline, 8, "full", false);
}

static uint64_t commit_off(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    return run_workers(b, side, deadline, 1, "off", false);
}

static uint64_t point_4(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    return run_workers(b, side, deadline, 4, "full", true);
}

/* ---- Reopening; large values ----------------------------------------------- */

static uint64_t reopen(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    sqlite3_stmt *get;
    char key[BENCH_KEY_LEN + 1];

    (void)deadline;
    side->db = bench_open(b, side, "t", "full");
    get = bench_prepare(b, side->db, "SELECT v FROM t WHERE k = ?1");
    bind_key(get, 1, b->rows / 2, key);
    if (sqlite3_step(get) != SQLITE_ROW)
        bench_fail(b, "the row is not there after reopening");
    else
        check_value(b, get, 0, b->rows / 2);
    sqlite3_finalize(get);
    return 1;
}

enum { LARGE_ROWS = 1000, LARGE_BYTES = 65536 };

static uint64_t large_load(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    sqlite3 *db = bench_open(b, side, "l", "full");
    sqlite3_stmt *put = bench_prepare(b, db, "INSERT INTO l VALUES (?1, ?2)");
    unsigned char *value = calloc(1, LARGE_BYTES);
    char key[BENCH_KEY_LEN + 1];
    uint64_t i;

    (void)deadline;
    if (value == NULL)
        abort();
    for (i = 0; i < LARGE_ROWS && !b->failed; i++) {
        if (i % 100 == 0)
            bench_exec(b, db, i == 0 ? "BEGIN" : "COMMIT; BEGIN");
        bind_key(put, 1, i, key);
        memcpy(value, &i, sizeof i);
        sqlite3_bind_blob(put, 2, value, LARGE_BYTES, SQLITE_STATIC);
        finish_write(b, put);
    }
    bench_exec(b, db, "COMMIT");
    sqlite3_finalize(put);
    bench_close(b, side->db);
    side->db = db;
    free(value);
    return i;
}

static uint64_t large_point(struct bench *b, struct bench_side *side, uint64_t deadline)
{
    sqlite3_stmt *get = bench_prepare(b, side->db, "SELECT v FROM l WHERE k = ?1");
    char key[BENCH_KEY_LEN + 1];
    uint64_t n, got;

    for (n = 0; !b->failed && in_time(n, deadline); n++) {
        uint64_t row = bench_mix(n) % LARGE_ROWS;

        bind_key(get, 1, row, key);
        got = UINT64_MAX;
        if (sqlite3_step(get) == SQLITE_ROW
            && sqlite3_column_bytes(get, 0) == LARGE_BYTES)
            memcpy(&got, sqlite3_column_blob(get, 0), sizeof got);
        if (got != row)
            bench_fail(b, "large row %llu is not there", (unsigned long long)row);
        sqlite3_reset(get);
    }
    sqlite3_finalize(get);
    return n;
}

/* In this order; what changes rows comes behind what counts on them. */
const struct bench_phase bench_phases[] = {
    { "load", "load, random order, 1,000 a transaction", load_random, 1, 600e3, false,
      "rows/s" },
    { "point", "point lookup", point, 3, 900e3, false, "1/s" },
    { "point", "point lookup inside BEGIN", point_begin, 3, 1.2e6, false, "1/s" },
    { "point", "point lookup, 4 threads", point_4, 3, 1.2e6, true, "1/s" },
    { "miss", "point lookup, absent key", miss, 3, 1.1e6, false, "1/s" },
    { "in", "IN (16 keys)", in_list, 3, 50e3, false, "1/s" },
    { "range", "range of 100 rows, up", range_up, 3, 26e3, false, "1/s" },
    { "range", "range of 100 rows, down", range_down, 3, 26e3, false, "1/s" },
    { "prefix", "prefix of 3 characters, as a range", prefix, 3, 12e3, false, "1/s" },
    { "prefix", "prefix of 3 characters, GLOB", prefix_glob, 3, 0, false, "1/s" },
    { "scan", "full scan, keys and values", scan_values, 3, 3.5, false, "passes/s" },
    { "scan", "full scan, keys alone", scan_keys, 3, 5.5, false, "passes/s" },
    { "scan", "count(*)", count_rows, 3, 0, false, "1/s" },
    { "scan", "sum(length(v))", sum_lengths, 3, 0, false, "1/s" },
    { "commit", "durable commits, 1 connection", commit_1, 3, 4.5e3, true, "1/s" },
    { "commit", "durable commits, 4 connections", commit_4, 3, 15e3, true, "1/s" },
    { "commit", "durable commits, 8 connections", commit_8, 3, 0, true, "1/s" },
    { "commit", "autocommits, sync=off", commit_off, 3, 0, true, "1/s" },
    { "reopen", "open to the first row", reopen, 0, 1 / 0.150, true, "1/s" },
    { "overwrite", "overwrite, 1,000 a transaction", overwrite, 1, 600e3, false,
      "rows/s" },
    { "delete", "delete, 1,000 a transaction", delete_rows, 1, 600e3, false, "rows/s" },
    { "sorted", "load in key order, 1,000 a transaction", load_sorted, 1, 0, false,
      "rows/s" },
    { "large", "load of 64 KiB values, 100 a transaction", large_load, 1, 0, false,
      "rows/s" },
    { "large", "point lookup of 64 KiB values", large_point, 3, 400e3, false, "1/s" },
};
const int bench_phase_count = (int)(sizeof bench_phases / sizeof bench_phases[0]);

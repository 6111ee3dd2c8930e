/* history.c - random concurrent transactions, recorded, and checked for the anomalies
 * that snapshot isolation forbids.
 *
 *   history [--seed=N] [--runs=N] [--first=N]
 *
 * Each row holds a list; a transaction appends elements that nobody else has, and reads
 * lists. A list read therefore names every transaction that wrote to it, and in which
 * order, so that all dependencies are known: write-write from one element to the next,
 * write-read from an element to who read a list that ends in it, read-write from a reader
 * to who appended the next element. This is Kingsbury and Alvaro's way (Elle, VLDB 2020),
 * with the names of Adya's thesis for what is looked for:
 *
 *   lost      an append that was acknowledged is not in the final list, or lists that
 *             were read do not continue one another (lost update)
 *   G1a       an element of a transaction that was rolled back was read (aborted read),
 *             or of one that had not committed at that moment (dirty read)
 *   G1b       a list read ends between two appends of one transaction
 *   internal  two reads in one transaction differ by more than its own appends
 *   G0, G1c   a cycle of write-write and write-read dependencies
 *   G-single  a cycle with one read-write dependency among them (read skew)
 *   G2        any cycle: only where tables lie in a database file, which are serializable
 *
 * Stages: connections that take turns on one thread, by a seeded scheduler, so that a run
 * replays exactly; and threads. TEMP tables over one store have parallel writers. Before
 * that, six kinds of mistakes are planted in the way the transactions are run, and each
 * must be found. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <sqlite3.h>

#include "ext/ext.h"

enum {
    CONNECTIONS = 4,
    KEYS = 4,
    TXNS = 28, /* of one run */
    OPS_MAX = 5,
    ELEMENTS_MAX = TXNS * OPS_MAX,
    LIST_TEXT = ELEMENTS_MAX * 5 + 1
};

enum plant {
    PLANT_NONE,
    PLANT_LOST,      /* an append writes the list as another connection saw it before */
    PLANT_DIRTY,     /* a read is done inside another connection's transaction */
    PLANT_SKEW,      /* reads are done outside the transaction */
    PLANT_ABORTED,   /* what is noted as rolled back was committed */
    PLANT_FORGOTTEN, /* what is noted as committed was rolled back */
    PLANT_WEAK,      /* snapshot isolation where serializable is claimed */
    PLANTS
};

struct list {
    int count;
    int element[ELEMENTS_MAX];
};

struct op {
    int key;
    int append; /* the element, or -1: a read */
    struct list seen;
    bool done;
    int when;
};

struct txn {
    struct op op[OPS_MAX];
    int op_count;
    bool committed;
    int committed_at;
};

struct run {
    struct txn txn[TXNS];
    struct list final[KEYS];
    sqlite3 *db[CONNECTIONS];
    sqlite3 *outside;
    int64_t base; /* the first key of this run */
    int clock;
    bool serial; /* tables in a database file */
    bool threads;
    enum plant plant;
    char wrong[200];
    bool edge[TXNS][TXNS][2]; /* [1]: read-write */
};

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static int below(uint64_t *random, int n)
{
    return (int)(next_random(random) % (uint64_t)n);
}

static bool found(struct run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Notes the first anomaly. */
static bool found(struct run *run, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    if (run->wrong[0] == '\0')
        (void)vsnprintf(run->wrong, sizeof run->wrong, format, args);
    va_end(args);
    return false;
}

static void fail(sqlite3 *db, const char *what)
{
    printf("not ok - %s: %s\n", what, sqlite3_errmsg(db));
    exit(1);
}

/* ---- Statements ---- */

static int writer_of(int element)
{
    return element / OPS_MAX;
}

static void parse_list(const char *text, struct list *list)
{
    list->count = 0;
    while (*text != '\0' && list->count < ELEMENTS_MAX) {
        char *end;

        list->element[list->count++] = (int)strtol(text, &end, 10);
        text = *end == ',' ? end + 1 : end;
    }
}

static int read_list(const struct run *run, sqlite3 *db, int key, struct list *list)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, "SELECT v FROM h WHERE k = ?", -1, &stmt, NULL);

    if (rc == SQLITE_OK) {
        sqlite3_bind_int64(stmt, 1, run->base + key);
        rc = sqlite3_step(stmt);
        if (rc == SQLITE_ROW) {
            parse_list((const char *)sqlite3_column_text(stmt, 0), list);
            rc = SQLITE_OK;
        } else if (rc == SQLITE_DONE) {
            fail(db, "a row is missing");
        }
    }
    sqlite3_finalize(stmt);
    return rc;
}

static int append(const struct run *run, sqlite3 *db, int key, int element)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, "UPDATE h SET v = v || ? || ',' WHERE k = ?", -1,
                                &stmt, NULL);

    if (rc == SQLITE_OK) {
        sqlite3_bind_int(stmt, 1, element);
        sqlite3_bind_int64(stmt, 2, run->base + key);
        rc = sqlite3_step(stmt);
    }
    sqlite3_finalize(stmt);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int set_list(const struct run *run, sqlite3 *db, int key, const struct list *list)
{
    char text[LIST_TEXT] = "";
    sqlite3_stmt *stmt = NULL;
    int at = 0;
    int rc = sqlite3_prepare_v2(db, "UPDATE h SET v = ? WHERE k = ?", -1, &stmt, NULL);

    for (int i = 0; i < list->count; i++)
        at += snprintf(text + at, sizeof text - (size_t)at, "%d,", list->element[i]);
    if (rc == SQLITE_OK) {
        sqlite3_bind_text(stmt, 1, text, -1, SQLITE_STATIC);
        sqlite3_bind_int64(stmt, 2, run->base + key);
        rc = sqlite3_step(stmt);
    }
    sqlite3_finalize(stmt);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int exec(sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

/* ---- Running ---- */

static void plan_txn(struct run *run, int number, uint64_t *random)
{
    struct txn *txn = &run->txn[number];

    memset(txn, 0, sizeof *txn);
    txn->op_count = 1 + below(random, OPS_MAX);
    for (int i = 0; i < txn->op_count; i++) {
        txn->op[i].key = below(random, KEYS);
        txn->op[i].append = below(random, 100) < 45 ? number * OPS_MAX + i : -1;
    }
}

static int planted_append(struct run *run, int connection, struct op *op)
{
    struct list old;
    int rc = read_list(run, run->outside, op->key, &old);

    if (rc == SQLITE_OK && old.count < ELEMENTS_MAX) {
        old.element[old.count++] = op->append;
        /* As if the reading had been long ago. */
        if (old.count > 1) {
            old.element[old.count - 2] = op->append;
            old.count--;
        }
        rc = set_list(run, run->db[connection], op->key, &old);
    }
    return rc;
}

static int run_op(struct run *run, int connection, struct op *op)
{
    sqlite3 *db = run->db[connection];
    int rc;

    if (run->plant == PLANT_DIRTY && op->append < 0)
        db = run->db[(connection + 1) % CONNECTIONS];
    if (run->plant == PLANT_SKEW && op->append < 0)
        db = run->outside;
    if (run->plant == PLANT_LOST && op->append >= 0 && op->key == 0)
        rc = planted_append(run, connection, op);
    else
        rc = op->append < 0 ? read_list(run, db, op->key, &op->seen)
                            : append(run, db, op->key, op->append);
    op->done = rc == SQLITE_OK;
    op->when = ++run->clock; /* in threads only a number */
    return rc;
}

static void end_txn(struct run *run, int connection, struct txn *txn, bool commit)
{
    bool really = commit;

    if (run->plant == PLANT_ABORTED && !commit)
        really = true;
    if (run->plant == PLANT_FORGOTTEN && txn->op_count == 1)
        really = false;
    if (really && exec(run->db[connection], "COMMIT") != SQLITE_OK)
        commit = false;
    if (!sqlite3_get_autocommit(run->db[connection]) &&
        exec(run->db[connection], "ROLLBACK") != SQLITE_OK)
        fail(run->db[connection], "ROLLBACK");
    txn->committed = commit;
    txn->committed_at = ++run->clock;
}

/* Connections take turns, an operation at a time. */
static void run_turns(struct run *run, uint64_t *random)
{
    int at[CONNECTIONS];
    int txn[CONNECTIONS];
    int next = 0;
    int left = 0;

    for (int c = 0; c < CONNECTIONS; c++)
        txn[c] = -1;
    while (next < TXNS || left > 0) {
        int c = below(random, CONNECTIONS);
        struct txn *now;
        int rc;

        if (txn[c] < 0) {
            if (next == TXNS)
                continue;
            txn[c] = next++;
            at[c] = 0;
            left++;
            plan_txn(run, txn[c], random);
            if (exec(run->db[c], "BEGIN") != SQLITE_OK)
                fail(run->db[c], "BEGIN");
            continue;
        }
        now = &run->txn[txn[c]];
        rc = at[c] < now->op_count ? run_op(run, c, &now->op[at[c]++]) : SQLITE_DONE;
        if (rc == SQLITE_OK)
            continue;
        if (rc != SQLITE_DONE && (rc & 0xff) != SQLITE_BUSY)
            fail(run->db[c], "an operation");
        end_txn(run, c, now, rc == SQLITE_DONE && below(random, 8) != 0);
        txn[c] = -1;
        left--;
    }
}

struct thread {
    struct run *run;
    int connection;
    uint64_t random;
};

static void *run_thread(void *arg)
{
    struct thread *thread = arg;
    struct run *run = thread->run;

    for (int n = thread->connection; n < TXNS; n += CONNECTIONS) {
        struct txn *txn = &run->txn[n];
        int rc = exec(run->db[thread->connection], "BEGIN");

        plan_txn(run, n, &thread->random);
        for (int i = 0; rc == SQLITE_OK && i < txn->op_count; i++) {
            struct op *op = &txn->op[i];

            rc = op->append < 0
                     ? read_list(run, run->db[thread->connection], op->key, &op->seen)
                     : append(run, run->db[thread->connection], op->key, op->append);
            op->done = rc == SQLITE_OK;
        }
        txn->committed = rc == SQLITE_OK && below(&thread->random, 8) != 0 &&
                         exec(run->db[thread->connection], "COMMIT") == SQLITE_OK;
        if (!sqlite3_get_autocommit(run->db[thread->connection]))
            (void)exec(run->db[thread->connection], "ROLLBACK");
    }
    return NULL;
}

static void run_threads(struct run *run, uint64_t *random)
{
    pthread_t id[CONNECTIONS];
    struct thread thread[CONNECTIONS];

    for (int c = 0; c < CONNECTIONS; c++) {
        thread[c] = (struct thread){run, c, next_random(random) | 1};
        if (pthread_create(&id[c], NULL, run_thread, &thread[c]) != 0)
            fail(run->db[c], "a thread");
    }
    for (int c = 0; c < CONNECTIONS; c++)
        (void)pthread_join(id[c], NULL);
}

/* ---- Checking ---- */

static bool check_element(struct run *run, const struct op *op, int reader, int element)
{
    int writer = writer_of(element);

    if (writer == reader)
        return true;
    if (writer < 0 || writer >= TXNS || !run->txn[writer].committed)
        return found(run, "G1a: %d reads element %d of %d, which was rolled back", reader,
                     element, writer);
    if (!run->threads && run->txn[writer].committed_at > op->when)
        return found(run, "G1a: %d reads element %d before %d has committed", reader,
                     element, writer);
    return true;
}

/* The part of a list that others wrote must begin the final list, and end where a
 * transaction ends. */
static bool check_read(struct run *run, int reader, const struct op *op)
{
    const struct list *final = &run->final[op->key];
    int others = 0;

    for (int i = 0; i < op->seen.count; i++) {
        int element = op->seen.element[i];

        if (!check_element(run, op, reader, element))
            return false;
        if (writer_of(element) == reader)
            continue;
        if (others != i)
            return found(run, "lost: others append behind %d's own element", reader);
        if (others >= final->count || final->element[others] != element)
            return found(run, "lost: %d reads element %d, which is elsewhere at the end",
                         reader, element);
        others++;
    }
    if (others > 0 && others < final->count &&
        writer_of(final->element[others]) == writer_of(final->element[others - 1]))
        return found(run, "G1b: %d reads half of what %d appended", reader,
                     writer_of(final->element[others]));
    return true;
}

/* What the transaction itself did shows, and nothing else changes under it. */
static bool check_inside(struct run *run, int number)
{
    const struct txn *txn = &run->txn[number];

    for (int key = 0; key < KEYS; key++) {
        const struct list *first = NULL;
        int own_before = 0;
        int own = 0;

        for (int i = 0; i < txn->op_count && txn->op[i].done; i++) {
            const struct op *op = &txn->op[i];

            if (op->key != key)
                continue;
            if (op->append >= 0) {
                own++;
            } else if (first == NULL) {
                first = &op->seen;
                own_before = own;
            } else if (op->seen.count != first->count + own - own_before) {
                return found(run,
                             "internal: %d reads key %d again, %d elements became %d",
                             number, key, first->count, op->seen.count);
            }
        }
    }
    return true;
}

static bool check_final(struct run *run)
{
    for (int n = 0; n < TXNS; n++) {
        const struct txn *txn = &run->txn[n];

        for (int i = 0; i < txn->op_count; i++) {
            const struct list *final = &run->final[txn->op[i].key];
            int count = 0;

            if (txn->op[i].append < 0)
                continue;
            for (int e = 0; e < final->count; e++)
                count += final->element[e] == txn->op[i].append;
            if (count != (txn->committed ? 1 : 0))
                return found(run, "lost: element %d of %d is there %d times at the end",
                             txn->op[i].append, n, count);
        }
    }
    return true;
}

static void add_edge(struct run *run, int from, int to, bool read_write)
{
    if (from != to)
        run->edge[from][to][read_write] = true;
}

static void build_graph(struct run *run)
{
    memset(run->edge, 0, sizeof run->edge);
    for (int key = 0; key < KEYS; key++) {
        const struct list *final = &run->final[key];

        for (int e = 1; e < final->count; e++)
            add_edge(run, writer_of(final->element[e - 1]), writer_of(final->element[e]),
                     false);
    }
    for (int n = 0; n < TXNS; n++) {
        const struct txn *txn = &run->txn[n];

        for (int i = 0; txn->committed && i < txn->op_count; i++) {
            const struct op *op = &txn->op[i];
            const struct list *final = &run->final[op->key];
            int others = 0;

            if (op->append >= 0 || !op->done)
                continue;
            while (others < op->seen.count && writer_of(op->seen.element[others]) != n)
                others++;
            if (others > 0)
                add_edge(run, writer_of(op->seen.element[others - 1]), n, false);
            while (others < final->count && writer_of(final->element[others]) == n)
                others++;
            if (others < final->count)
                add_edge(run, n, writer_of(final->element[others]), true);
        }
    }
}

static bool reaches(const struct run *run, int from, int to, bool all, bool *seen)
{
    if (from == to)
        return true;
    seen[from] = true;
    for (int n = 0; n < TXNS; n++) {
        if (!seen[n] && (run->edge[from][n][0] || (all && run->edge[from][n][1])) &&
            reaches(run, n, to, all, seen))
            return true;
    }
    return false;
}

static bool check_cycles(struct run *run)
{
    build_graph(run);
    for (int a = 0; a < TXNS; a++) {
        for (int b = 0; b < TXNS; b++) {
            bool seen[TXNS] = {false};
            bool all[TXNS] = {false};

            if (run->edge[a][b][0] && reaches(run, b, a, false, seen))
                return found(run, "G0 or G1c: %d and %d depend on each other", a, b);
            memset(seen, 0, sizeof seen);
            if (run->edge[a][b][1] && reaches(run, b, a, false, seen))
                return found(run,
                             "G-single: %d missed what %d wrote, and %d depends on it", a,
                             b, a);
            if (run->serial && (run->edge[a][b][0] || run->edge[a][b][1]) &&
                reaches(run, b, a, true, all))
                return found(run, "G2: no order has both %d and %d", a, b);
        }
    }
    return true;
}

static bool check(struct run *run)
{
    if (!check_final(run))
        return false;
    for (int n = 0; n < TXNS; n++) {
        const struct txn *txn = &run->txn[n];

        for (int i = 0; i < txn->op_count; i++)
            if (txn->op[i].done && txn->op[i].append < 0 &&
                !check_read(run, n, &txn->op[i]))
                return false;
        if (!check_inside(run, n))
            return false;
    }
    return check_cycles(run);
}

/* ---- Stages ---- */

static char folder[300];

static sqlite3 *open_one(const char *name, bool serial, bool first)
{
    sqlite3 *db = NULL;
    char sql[600];
    char *err = NULL;

    (void)snprintf(sql, sizeof sql, "%s/%s.db", folder, name);
    if (sqlite3_open(serial ? sql : ":memory:", &db) != SQLITE_OK ||
        sqlite3_armdbvtab_init(db, &err, NULL) != SQLITE_OK)
        fail(db, "opening");
    (void)snprintf(sql, sizeof sql,
                   "CREATE VIRTUAL TABLE %s.h USING armdb(k INTEGER PRIMARY KEY, v TEXT, "
                   "path='%s/%s', sync=off)",
                   serial ? "main" : "temp", folder, name);
    if (serial && first &&
        exec(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF") != 0)
        fail(db, "WAL");
    if ((!serial || first) && exec(db, sql) != SQLITE_OK)
        fail(db, "CREATE");
    return db;
}

static void begin_run(struct run *run, int64_t number)
{
    char sql[300];

    run->base = number * KEYS;
    run->clock = 0;
    run->wrong[0] = '\0';
    (void)snprintf(
        sql, sizeof sql,
        "WITH RECURSIVE r(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM r LIMIT %d) "
        "INSERT INTO h SELECT %lld + i, '' FROM r",
        (int)KEYS, (long long)run->base);
    if (exec(run->db[0], sql) != SQLITE_OK)
        fail(run->db[0], "beginning a run");
}

/* Runs until the first anomaly; its number, or -1 when there is none. */
static int64_t stage(struct run *run, const char *name, uint64_t seed, int64_t first,
                     int64_t runs)
{
    int64_t bad = -1;

    for (int c = 0; c < CONNECTIONS; c++) {
        run->db[c] = open_one(name, run->serial && run->plant != PLANT_WEAK, c == 0);
        sqlite3_busy_timeout(run->db[c], run->threads ? 2000 : 0);
    }
    run->outside = open_one(name, run->serial && run->plant != PLANT_WEAK, false);
    for (int64_t n = first; bad < 0 && n < first + runs; n++) {
        uint64_t random = (seed + (uint64_t)n) * UINT64_C(0x9E3779B97F4A7C15) | 1;

        begin_run(run, n);
        for (int warm = 0; warm < 4; warm++)
            (void)next_random(&random);
        if (run->threads)
            run_threads(run, &random);
        else
            run_turns(run, &random);
        for (int key = 0; key < KEYS; key++)
            if (read_list(run, run->outside, key, &run->final[key]) != SQLITE_OK)
                fail(run->outside, "the final lists");
        if (!check(run))
            bad = n;
    }
    for (int c = 0; c < CONNECTIONS; c++)
        sqlite3_close(run->db[c]);
    sqlite3_close(run->outside);
    return bad;
}

static bool report(const struct run *run, const char *what, int64_t bad, int64_t runs,
                   uint64_t seed)
{
    if (bad < 0)
        printf("ok - %s: %lld runs of %d transactions, no anomaly\n", what,
               (long long)runs, (int)TXNS);
    else
        printf("not ok - %s: %s (--seed=%llu --first=%lld --runs=1)\n", what, run->wrong,
               (unsigned long long)seed, (long long)bad);
    return bad < 0;
}

static bool find_plants(struct run *run, uint64_t seed)
{
    static const char *const names[PLANTS] = {
        [PLANT_LOST] = "a lost update",
        [PLANT_DIRTY] = "a dirty read",
        [PLANT_SKEW] = "reads of several moments",
        [PLANT_ABORTED] = "an aborted read",
        [PLANT_FORGOTTEN] = "a forgotten commit",
        [PLANT_WEAK] = "write skew",
    };
    bool all = true;

    for (int p = PLANT_NONE + 1; p < PLANTS; p++) {
        char name[40];
        int64_t bad;

        run->plant = (enum plant)p;
        run->serial = p == PLANT_WEAK;
        run->threads = false;
        (void)snprintf(name, sizeof name, "plant%d", p);
        bad = stage(run, name, seed, 0, 200);
        printf("%s - planted: %s: %s\n", bad >= 0 ? "ok" : "not ok", names[p],
               bad >= 0 ? run->wrong : "not found");
        all = all && bad >= 0;
    }
    run->plant = PLANT_NONE;
    return all;
}

int main(int argc, char **argv)
{
    const char *given = getenv("SEED");
    const char *base = getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp";
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    long long first = 0, runs = 3000;
    unsigned long long number;
    struct run *run = calloc(1, sizeof *run);
    char command[400];
    bool ok;

    for (int i = 1; i < argc; i++) {
        if (sscanf(argv[i], "--seed=%llu", &number) == 1)
            seed = number;
        else if (sscanf(argv[i], "--first=%lld", &first) != 1)
            (void)sscanf(argv[i], "--runs=%lld", &runs);
    }
    printf("seed %llu\n", (unsigned long long)seed);
    (void)snprintf(folder, sizeof folder, "%s/armdb-history-XXXXXX", base);
    if (run == NULL || mkdtemp(folder) == NULL)
        return 1;
    ok = find_plants(run, seed);
    run->serial = run->threads = false;
    ok &= report(run, "turns, TEMP tables over one store",
                 stage(run, "turns", seed, first, runs), runs, seed);
    run->serial = true;
    ok &= report(run, "turns, a database file, serializable",
                 stage(run, "serial", seed, first, runs), runs, seed);
    run->serial = false;
    run->threads = true;
    ok &= report(run, "threads, TEMP tables over one store",
                 stage(run, "threads", seed, first, runs / 3), runs / 3, seed);
    run->serial = true;
    ok &= report(run, "threads, a database file, serializable",
                 stage(run, "file", seed, first, runs / 10), runs / 10, seed);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    ok &= system(command) == 0;
    free(run);
    return ok ? 0 : 1;
}

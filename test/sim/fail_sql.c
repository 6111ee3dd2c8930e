/* fail_sql.c - the extension while its allocations, SQLite's, and its I/O fail.
 *
 *   fail_sql [--seed=N] [--kind=NAME] [--step=N]
 *
 * Statements run on an armdb table on the simulated disk; what succeeds is done to a
 * native table of another connection too, where nothing fails. The n-th time the n-th
 * allocation of the engine, of SQLite (the extension's among them), or the n-th I/O
 * call fails, once or from then on. Each time the statement that met it gives the code
 * that belongs to the failure, the two tables are the same afterwards, the connection
 * closes, nothing is left in memory or open, and what is opened again is the same: or,
 * where an I/O error came over a commit, with or without this one. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "test/sim/sim_disk.h"
#include "test/sim/sim_run.h"
#include "test/sim/sim_sched.h"

int sqlite3_armdbvtab_init(sqlite3 *db, char **err, const void *api);

enum { DUMP_BYTES = 1 << 16 };

/* "@" before a statement: of armdb alone; its rows are not compared. */
static const char *const statements[] = {
    "INSERT INTO t VALUES('a', 1, x'00')",
    "INSERT INTO t VALUES('b', 2, 'text'), ('c', 3, zeroblob(5000))",
    "UPDATE t SET a = a + 10 WHERE k = 'a'",
    "SELECT count(*), sum(a) FROM t WHERE k >= 'a' AND k < 'z'",
    "BEGIN",
    "INSERT INTO t VALUES('d', 4, NULL)",
    "SAVEPOINT s",
    "INSERT INTO t VALUES('e', 5, NULL)",
    "UPDATE t SET b = zeroblob(9000) WHERE k = 'c'",
    "ROLLBACK TO s",
    "UPDATE t SET a = -a WHERE k > 'b'",
    "COMMIT",
    "DELETE FROM t WHERE k = 'b'",
    "SELECT length(b) FROM t WHERE k IN ('a', 'c', 'x') ORDER BY k DESC",
    "INSERT OR REPLACE INTO t SELECT 'r' || k, a, b FROM t",
    "INSERT OR IGNORE INTO t VALUES('a', 9, 9), ('f', 6, NULL)",
    "SELECT k FROM t WHERE k GLOB 'r*' AND a <> 4",
    "BEGIN",
    "DELETE FROM t WHERE k GLOB 'r*'",
    "ROLLBACK",
    "ALTER TABLE t RENAME TO u",
    "INSERT INTO u VALUES('g', 7, 'g')",
    "ALTER TABLE u RENAME TO t",
    "INSERT INTO t VALUES('h', 8, NULL)", /* the store hears of the name with it */
    "@SELECT * FROM armdb_stat('t')",
    "@SELECT armdb_count('t'), armdb_flush('t')",
};
enum { STATEMENTS = sizeof statements / sizeof statements[0] };

static const char create_armdb[] =
    "CREATE VIRTUAL TABLE t USING armdb(k TEXT PRIMARY KEY, a INTEGER, b, "
    "path='/sim', cache_size=1048576, io_engine=plain, shards=2)";
static const char attach_armdb[] =
    "CREATE VIRTUAL TABLE t USING armdb(path='/sim', cache_size=1048576, "
    "io_engine=plain)";
static const char attach_renamed[] =
    "CREATE VIRTUAL TABLE t USING armdb(path='/sim', table='u', cache_size=1048576, "
    "io_engine=plain)";
static const char has_table[] = "SELECT 1 FROM t";
static const char create_native[] =
    "CREATE TABLE t(k TEXT PRIMARY KEY, a INTEGER, b) WITHOUT ROWID";

enum source { ENGINE_MEMORY, SQLITE_MEMORY, IO_CALLS };
struct kind {
    const char *name;
    enum source source;
    bool sticky;
    int error;
};
static const struct kind kinds[] = {
    {"engine", ENGINE_MEMORY, false, 0},    {"engine-all", ENGINE_MEMORY, true, 0},
    {"sqlite", SQLITE_MEMORY, false, 0},    {"sqlite-all", SQLITE_MEMORY, true, 0},
    {"eio", IO_CALLS, false, EIO},          {"eio-all", IO_CALLS, true, EIO},
    {"enospc", IO_CALLS, false, ENOSPC},    {"enospc-all", IO_CALLS, true, ENOSPC},
    {"emfile-all", IO_CALLS, true, EMFILE},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static uint64_t seed;
static uint64_t step = 3;

/* ---- SQLite's allocator, failing ---- */

static sqlite3_mem_methods real;
static uint64_t sqlite_left; /* allocations until the one that fails; 0 = off */
static bool sqlite_sticky;
static uint64_t sqlite_hits;

static bool sqlite_fails(void)
{
    if (sqlite_left == 0)
        return false;
    if (sqlite_left > 1) {
        sqlite_left--;
        return false;
    }
    if (!sqlite_sticky)
        sqlite_left = 0;
    sqlite_hits++;
    return true;
}

static void *failing_malloc(int n)
{
    return sqlite_fails() ? NULL : real.xMalloc(n);
}

static void *failing_realloc(void *p, int n)
{
    return sqlite_fails() ? NULL : real.xRealloc(p, n);
}

static void install_allocator(void)
{
    sqlite3_mem_methods failing;

    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real) != SQLITE_OK)
        sim_fail("SQLite does not tell its allocator");
    failing = real;
    failing.xMalloc = failing_malloc;
    failing.xRealloc = failing_realloc;
    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &failing) != SQLITE_OK)
        sim_fail("SQLite does not take an allocator");
}

/* ---- One trial ---- */

struct trial {
    const struct kind *kind;
    uint64_t n;
    struct sim_disk *disk;
    sqlite3 *db;     /* armdb's */
    sqlite3 *native; /* nothing fails there */
    bool hit;
    bool has_doubt;         /* a commit met an I/O error: */
    char doubt[DUMP_BYTES]; /* what is there if it was carried out */
};

static void arm(struct trial *t)
{
    struct sim_fault fault = {
        .at = t->n, .sticky = t->kind->sticky, .error = t->kind->error};

    switch (t->kind->source) {
    case ENGINE_MEMORY:
        (void)adb_mem_failures();
        adb_mem_fail_at(t->n, t->kind->sticky);
        break;
    case SQLITE_MEMORY:
        sqlite_hits = 0;
        sqlite_sticky = t->kind->sticky;
        sqlite_left = t->n;
        break;
    case IO_CALLS:
        sim_disk_fault(t->disk, &fault);
        break;
    }
}

static bool is_hit(const struct trial *t)
{
    switch (t->kind->source) {
    case ENGINE_MEMORY:
        break; /* asking resets the count: see disarm() */
    case SQLITE_MEMORY:
        return sqlite_hits > 0;
    case IO_CALLS:
        return t->disk->faults_hit > 0;
    }
    return true;
}

static void disarm(struct trial *t)
{
    adb_mem_fail_at(0, false);
    sqlite_left = 0;
    t->hit = t->kind->source == ENGINE_MEMORY ? adb_mem_failures() > 0 : is_hit(t);
    sim_disk_fault(t->disk, NULL);
}

static void must(sqlite3 *db, int rc, const char *what)
{
    if (rc != SQLITE_OK)
        sim_fail("%s: %d (%s)", what, rc, sqlite3_errmsg(db));
}

/* All rows as text; false when the table is not there. */
static bool dump(sqlite3 *db, char *out)
{
    static const char *const tables[] = {"t", "u"};
    size_t used = 0;

    out[0] = '\0';
    for (int i = 0; i < 2; i++) {
        sqlite3_stmt *stmt = NULL;
        char sql[100];
        int rc;

        (void)snprintf(
            sql, sizeof sql,
            "SELECT k, a, quote(substr(b, 1, 9)), length(b) FROM %s ORDER BY k",
            tables[i]);
        if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
            continue;
        used += (size_t)snprintf(out + used, DUMP_BYTES - used, "%s:", tables[i]);
        while ((rc = sqlite3_step(stmt)) == SQLITE_ROW)
            for (int c = 0; c < 4; c++)
                used += (size_t)snprintf(out + used, DUMP_BYTES - used, "%s%c",
                                         sqlite3_column_text(stmt, c) != NULL
                                             ? (const char *)sqlite3_column_text(stmt, c)
                                             : "NULL",
                                         c == 3 ? ';' : ',');
        if (sqlite3_finalize(stmt) != SQLITE_OK)
            sim_fail("reading %s: %s", tables[i], sqlite3_errmsg(db));
        return true;
    }
    return false;
}

/* The codes that may come of the failure. */
static bool is_right(const struct kind *kind, int rc)
{
    rc &= 0xff;
    switch (kind->source) {
    case ENGINE_MEMORY:
    case SQLITE_MEMORY:
        if (rc == SQLITE_NOMEM)
            return true;
        /* SQLite's own files, where it has no memory for them. */
        return kind->source == SQLITE_MEMORY &&
               (rc == SQLITE_IOERR || rc == SQLITE_CANTOPEN);
    case IO_CALLS:
        break;
    }
    if (kind->error == ENOSPC)
        return rc == SQLITE_FULL || rc == SQLITE_IOERR;
    return rc == SQLITE_IOERR || rc == SQLITE_CANTOPEN;
}

/* On the native table nothing fails. */
static int run_native(struct trial *t, const char *sql)
{
    uint64_t left = sqlite_left;
    int rc;

    sqlite_left = 0;
    rc = sqlite3_exec(t->native, sql, NULL, NULL, NULL);
    sqlite_left = left;
    return rc;
}

static void must_native(struct trial *t, const char *sql)
{
    int rc = run_native(t, sql);

    if (rc != SQLITE_OK)
        sim_fail("%s on the native table: %d (%s)", sql, rc, sqlite3_errmsg(t->native));
}

/* The native table as the failed statement would have left it. */
static void note_doubt(struct trial *t, const char *sql)
{
    bool commit = strcmp(sql, "COMMIT") == 0;

    /* The first one: then the store is wounded. */
    if (t->has_doubt || t->kind->source != IO_CALLS ||
        (!commit && !sqlite3_get_autocommit(t->native)))
        return;
    if (!commit) {
        must_native(t, "BEGIN");
        must_native(t, sql);
    }
    t->has_doubt = dump(t->native, t->doubt);
    if (!commit)
        must_native(t, "ROLLBACK");
}

/* Runs one statement on both tables; a failed transaction ends on both. */
static void run_statement(struct trial *t, const char *sql)
{
    bool both = sql[0] != '@';
    int rc = sqlite3_exec(t->db, sql + !both, NULL, NULL, NULL);

    if (rc == SQLITE_OK) {
        if (both)
            must_native(t, sql);
        if (sqlite3_get_autocommit(t->db) != sqlite3_get_autocommit(t->native))
            sim_fail("%s succeeds and the transaction is gone", sql);
        return;
    }
    /* COMMIT without the BEGIN that failed, a table without its new name */
    if ((rc & 0xff) == SQLITE_ERROR && run_native(t, both ? sql : has_table) == rc)
        return;
    if (!is_right(t->kind, rc))
        sim_fail("%s: code %d (%s)", sql, rc, sqlite3_errmsg(t->db));
    if (both)
        note_doubt(t, sql);
    if (!sqlite3_get_autocommit(t->native)) {
        uint64_t left = sqlite_left;

        sqlite_left = 0; /* else not even the text of the statement is read */
        if (!sqlite3_get_autocommit(t->db))
            (void)sqlite3_exec(t->db, "ROLLBACK", NULL, NULL, NULL);
        sqlite_left = left;
        if (!sqlite3_get_autocommit(t->db))
            sim_fail("%s failed, and ROLLBACK does not end the transaction", sql);
        must_native(t, "ROLLBACK");
    }
}

static sqlite3 *open_database(bool with_armdb)
{
    sqlite3 *db = NULL;

    if (sqlite3_open(":memory:", &db) != SQLITE_OK)
        sim_fail("no database");
    if (with_armdb && sqlite3_armdbvtab_init(db, NULL, NULL) != SQLITE_OK)
        sim_fail("the extension does not start: %s", sqlite3_errmsg(db));
    return db;
}

static void check_same(sqlite3 *db, const struct trial *t, const char *when)
{
    static char found[DUMP_BYTES];
    static char wanted[DUMP_BYTES];
    bool has = dump(db, found);
    bool should = dump(t->native, wanted);

    if (has != should || strcmp(found, wanted) != 0)
        sim_fail("%s: found %.300s, expected %.300s", when, found, wanted);
}

static void close_database(sqlite3 *db)
{
    if (sqlite3_close(db) != SQLITE_OK)
        sim_fail("the connection does not close: %s", sqlite3_errmsg(db));
}

static void check_nothing_left(const char *when, sqlite3_int64 before)
{
    if (adb_mem_used_total() != 0)
        sim_fail("%s: %llu bytes of the engine are left", when,
                 (unsigned long long)adb_mem_used_total());
    if (sqlite3_memory_used() != before)
        sim_fail("%s: %lld bytes of SQLite's are left", when,
                 (long long)(sqlite3_memory_used() - before));
    if (sim_disk_handles() != 0 || sim_sched_count() != 0 || sim_sched_locks_held() != 0)
        sim_fail("%s: %u files, %u threads, %u locks are left", when, sim_disk_handles(),
                 sim_sched_count(), sim_sched_locks_held());
}

/* The table under the name that the store has for it: with the next transaction that
 * writes it follows a RENAME. One that never had a row may be gone: without the database
 * that it was created in nobody knows that its CREATE was committed. */
static bool reopen_as(struct trial *t, const char *attach, const char *wanted)
{
    static char found[DUMP_BYTES];
    sqlite3 *db = open_database(true);
    bool same;

    must(db, sqlite3_exec(db, attach, NULL, NULL, NULL), "attaching again");
    (void)dump(db, found);
    if (getenv("SIM_VERBOSE") != NULL) /* as the others do */
        printf("# %s\n# found %.300s\n# wanted %.300s\n# doubt %.300s\n", attach, found,
               wanted, t->doubt);
    /* Rows alone: dump() begins with the table's name. */
    same = found[0] != '\0' && (strcmp(found + 1, wanted + 1) == 0 ||
                                (t->has_doubt && strcmp(found + 1, t->doubt + 1) == 0));
    close_database(db);
    return same;
}

static void reopen(struct trial *t)
{
    static char wanted[DUMP_BYTES];

    if (dump(t->native, wanted) && strlen(wanted) > 2 &&
        !reopen_as(t, attach_armdb, wanted) && !reopen_as(t, attach_renamed, wanted))
        sim_fail("opened again: not %.400s", wanted);
}

/* False when nothing failed any more. `bare`: CREATE and DROP alone. */
static bool try_once(const struct kind *kind, uint64_t n, bool bare)
{
    static struct trial t;
    sqlite3_int64 before = sqlite3_memory_used();
    int rc;

    memset(&t, 0, sizeof t);
    t.kind = kind;
    t.n = n;
    t.disk = sim_disk_create(n);
    sim_sched_seed(n, 0);
    sim_disk_mount(t.disk);
    t.native = open_database(false);
    t.db = open_database(true);
    arm(&t);
    rc = sqlite3_exec(t.db, create_armdb, NULL, NULL, NULL);
    if (rc != SQLITE_OK && !is_right(kind, rc))
        sim_fail("CREATE: code %d (%s)", rc, sqlite3_errmsg(t.db));
    if (rc == SQLITE_OK) {
        must_native(&t, create_native);
        for (size_t i = 0; !bare && i < STATEMENTS; i++) {
            sim_context("%s, number %llu, statement %zu: %s", kind->name,
                        (unsigned long long)n, i, statements[i]);
            run_statement(&t, statements[i]);
        }
        if (bare)
            run_statement(&t, "DROP TABLE t");
    }
    disarm(&t);
    check_same(t.db, &t, "afterwards");
    close_database(t.db);
    if (!bare)
        reopen(&t);
    close_database(t.native);
    sim_disk_destroy(t.disk);
    check_nothing_left("closed", before);
    return t.hit;
}

/* ---- All of them ---- */

struct job {
    const struct kind *kind;
    bool bare;
    uint64_t seed;
    uint64_t step;   /* of SQLite's allocations every step-th, the seed says from where */
    uint64_t *count; /* shared with the parent */
};

static void run_kind(void *arg)
{
    struct job *job = arg;
    bool hit = true;

    for (uint64_t n = 1 + job->seed % job->step; hit; n += job->step) {
        sim_context("%s, number %llu%s", job->kind->name, (unsigned long long)n,
                    job->bare ? ", CREATE and DROP" : "");
        hit = try_once(job->kind, n, job->bare);
        *job->count += hit;
    }
}

/* Every jobs-th kind, from `index` on, each in a process of its own. */
static bool run_share(uint64_t index, uint64_t jobs, const char *only, uint64_t *counts)
{
    bool good = true;

    for (uint64_t i = index; i < 2 * KINDS; i += jobs) {
        struct job job = {&kinds[i % KINDS], i >= KINDS, seed, 1, &counts[i]};

        if (job.kind->source == SQLITE_MEMORY)
            job.step = step;
        if (only == NULL || strcmp(only, job.kind->name) == 0)
            good = sim_run_apart(run_kind, &job) && good;
    }
    return good;
}

int main(int argc, char **argv)
{
    const char *wanted_jobs = getenv("JOBS");
    const char *wanted_seed = getenv("SEED");
    uint64_t jobs = wanted_jobs != NULL ? strtoull(wanted_jobs, NULL, 10) : 1;
    int status;
    const char *only = NULL;
    uint64_t *counts;
    uint64_t sum[3] = {0, 0, 0};
    time_t began = time(NULL);
    bool good = true;

    sim_fix_addresses(argv);
    seed = wanted_seed != NULL ? strtoull(wanted_seed, NULL, 10) : (uint64_t)began;
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], "--kind=", 7) == 0)
            only = argv[i] + 7;
        else if (strncmp(argv[i], "--seed=", 7) == 0)
            seed = strtoull(argv[i] + 7, NULL, 10);
        else if (strncmp(argv[i], "--step=", 7) == 0)
            step = strtoull(argv[i] + 7, NULL, 10);
    counts = mmap(NULL, 2 * KINDS * sizeof *counts, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (counts == MAP_FAILED)
        return 1;
    printf("seed %llu\n", (unsigned long long)seed);
    if (step < 1)
        return 1;
    install_allocator();
    jobs = jobs < 1 || jobs > 64 ? 1 : jobs;
    (void)fflush(stdout);
    for (uint64_t j = 0; j < jobs; j++)
        if (fork() == 0)
            _exit(run_share(j, jobs, only, counts) ? 0 : 1);
    while (wait(&status) > 0)
        good = good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    for (size_t i = 0; i < 2 * KINDS; i++)
        sum[kinds[i % KINDS].source] += counts[i];
    printf(
        "%llu allocations of the engine, %llu of SQLite, %llu I/O calls failed, in %lld "
        "s\n",
        (unsigned long long)sum[0], (unsigned long long)sum[1],
        (unsigned long long)sum[2], (long long)(time(NULL) - began));
    if (good)
        printf("ok - the extension while allocations and I/O fail\n");
    return good ? 0 : 1;
}

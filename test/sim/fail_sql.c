/* fail_sql.c - the extension while its allocations, SQLite's, and its I/O fail.
 *
 *   fail_sql [--seed=N] [--kind=NAME] [--script=NAME] [--step=N]
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
#include <stdatomic.h>
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
#include "test/sim/sql_scripts.h"

int sqlite3_armdbvtab_init(sqlite3 *db, char **err, const void *api);

enum { DUMP_BYTES = 1 << 16 };

/* What follows the columns, or stands alone. */
#define OPTIONS "path='/sim', cache_size=1048576, io_engine=plain"
static const char attach_armdb[] = "CREATE VIRTUAL TABLE t USING armdb(" OPTIONS ")";
static const char attach_renamed[] =
    "CREATE VIRTUAL TABLE t USING armdb(" OPTIONS ", table='u')";
static const char has_table[] = "SELECT 1 FROM t";

enum source { ENGINE_MEMORY, SQLITE_MEMORY, IO_CALLS };
struct kind {
    const char *name;
    enum source source;
    bool sticky;
    int error;
    bool only_sync; /* one fails, the next one succeeds */
};
static const struct kind kinds[] = {
    {"engine", ENGINE_MEMORY, false, 0, false},
    {"engine-all", ENGINE_MEMORY, true, 0, false},
    {"sqlite", SQLITE_MEMORY, false, 0, false},
    {"sqlite-all", SQLITE_MEMORY, true, 0, false},
    {"eio", IO_CALLS, false, EIO, false},
    {"eio-all", IO_CALLS, true, EIO, false},
    {"enospc", IO_CALLS, false, ENOSPC, false},
    {"enospc-all", IO_CALLS, true, ENOSPC, false},
    {"edquot", IO_CALLS, false, EDQUOT, false},
    {"emfile-all", IO_CALLS, true, EMFILE, false},
    {"sync", IO_CALLS, false, EIO, true},
};
enum { KINDS = sizeof kinds / sizeof kinds[0], SCRIPTS_MAX = 20 };

static uint64_t seed;
static uint64_t step = 5;

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
    const struct sql_script *script;
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
    struct sim_fault fault = {.at = t->n,
                              .sticky = t->kind->sticky,
                              .error = t->kind->error,
                              .only_sync = t->kind->only_sync};

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

/* Rows as text: of each value its beginning and its length. Returns the statement's
 * code. */
static int rows_as_text(sqlite3 *db, const char *sql, char *out, size_t room)
{
    sqlite3_stmt *stmt = NULL;
    size_t used = 0;
    int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);

    out[0] = '\0';
    while (rc == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW) {
        for (int c = 0; c < sqlite3_column_count(stmt); c++) {
            const char *text = (const char *)sqlite3_column_text(stmt, c);

            used += (size_t)snprintf(
                out + used, room - used, "%d %.9s %d,", sqlite3_column_type(stmt, c),
                text != NULL ? text : "", sqlite3_column_bytes(stmt, c));
        }
        used += (size_t)snprintf(out + used, room - used, ";");
    }
    return stmt == NULL ? rc : sqlite3_finalize(stmt);
}

/* The table's rows; false when it is not there. */
static bool dump(sqlite3 *db, char *out)
{
    static const char *const tables[] = {"t", "u"};

    for (int i = 0; i < 2; i++) {
        char sql[100];

        (void)snprintf(sql, sizeof sql, "SELECT * FROM %s ORDER BY 1, 2", tables[i]);
        out[0] = tables[i][0];
        if (rows_as_text(db, sql, out + 1, DUMP_BYTES - 1) == SQLITE_OK)
            return true;
        (void)snprintf(sql, sizeof sql, "SELECT 1 FROM %s", tables[i]);
        if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
            sim_fail("reading %s: %s", tables[i], sqlite3_errmsg(db));
    }
    out[0] = '\0';
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
    if (kind->error == ENOSPC || kind->error == EDQUOT)
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

/* Errors that have nothing to do with failing: both tables have them. */
static bool is_ordinary(int rc)
{
    return (rc & 0xff) == SQLITE_ERROR || (rc & 0xff) == SQLITE_CONSTRAINT;
}

/* A failed transaction ends on both. */
static void end_transaction(struct trial *t, const char *sql)
{
    uint64_t left = sqlite_left;

    if (sqlite3_get_autocommit(t->native))
        return;
    sqlite_left = 0; /* else not even the text of the statement is read */
    if (!sqlite3_get_autocommit(t->db))
        (void)sqlite3_exec(t->db, "ROLLBACK", NULL, NULL, NULL);
    sqlite_left = left;
    if (!sqlite3_get_autocommit(t->db))
        sim_fail("%s failed, and ROLLBACK does not end the transaction", sql);
    must_native(t, "ROLLBACK");
}

/* A query's rows are those of the native table. */
static int compare_rows(struct trial *t, const char *sql)
{
    static char found[DUMP_BYTES];
    static char wanted[DUMP_BYTES];
    uint64_t left;
    int rc = rows_as_text(t->db, sql, found, sizeof found);

    if (rc != SQLITE_OK)
        return rc;
    left = sqlite_left;
    sqlite_left = 0;
    must(t->native, rows_as_text(t->native, sql, wanted, sizeof wanted), sql);
    sqlite_left = left;
    if (strcmp(found, wanted) != 0)
        sim_fail("%s: found %.300s, expected %.300s", sql, found, wanted);
    return SQLITE_OK;
}

/* Runs one statement on both tables. */
static void run_statement(struct trial *t, const char *statement)
{
    bool alone = statement[0] == '@';
    const char *line_end = strchr(statement, '\n');
    const char *native = line_end != NULL ? line_end + 1 : alone ? NULL : statement;
    bool query = !alone && strncmp(statement, "SELECT", 6) == 0;
    size_t len = strcspn(statement + alone, "\n");
    char sql[400];
    int rc;

    if (len >= sizeof sql)
        sim_fail("a statement is too long");
    memcpy(sql, statement + alone, len);
    sql[len] = '\0';
    rc = query ? compare_rows(t, sql) : sqlite3_exec(t->db, sql, NULL, NULL, NULL);
    if (rc == SQLITE_OK) {
        if (native != NULL && !query)
            must_native(t, native);
        if (sqlite3_get_autocommit(t->db) != sqlite3_get_autocommit(t->native))
            sim_fail("%s succeeds and the transaction is gone", sql);
        return;
    }
    /* COMMIT without the BEGIN that failed, a table without its new name */
    if (is_ordinary(rc) && run_native(t, native != NULL ? native : has_table) == rc)
        return;
    if (!is_right(t->kind, rc))
        sim_fail("%s: code %d (%s)", sql, rc, sqlite3_errmsg(t->db));
    if (native != NULL && !query)
        note_doubt(t, native);
    end_transaction(t, sql);
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

/* The table in both databases. */
static int create(struct trial *t)
{
    char sql[600];
    int rc;

    (void)snprintf(sql, sizeof sql,
                   "CREATE VIRTUAL TABLE t USING armdb(%s, shards=2, " OPTIONS ")",
                   t->script->columns);
    rc = sqlite3_exec(t->db, sql, NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return rc;
    (void)snprintf(sql, sizeof sql, "CREATE TABLE t(%s) WITHOUT ROWID",
                   t->script->columns);
    must_native(t, sql);
    return SQLITE_OK;
}

/* A new connection with the table; SQLite's code. */
static int open_again(struct trial *t)
{
    int rc;

    close_database(t->db);
    t->db = NULL;
    arm(t);
    rc = sqlite3_open(":memory:", &t->db);
    if (rc == SQLITE_OK)
        rc = sqlite3_armdbvtab_init(t->db, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(t->db, attach_armdb, NULL, NULL, NULL);
    return rc;
}

/* Everything before the statements, with the first failure in it if the script has
 * nothing to set up. False: there is no table. */
static bool set_up(struct trial *t)
{
    int rc;

    t->native = open_database(false);
    t->db = open_database(true);
    if (t->script->setup[0] == NULL)
        arm(t);
    rc = create(t);
    for (int i = 0; rc == SQLITE_OK && t->script->setup[i] != NULL; i++)
        run_statement(t, t->script->setup[i]);
    if (t->script->opens)
        rc = open_again(t);
    else if (t->script->setup[0] != NULL)
        arm(t);
    if (rc != SQLITE_OK && !is_right(t->kind, rc))
        sim_fail("the table: code %d (%s)", rc, sqlite3_errmsg(t->db));
    return rc == SQLITE_OK;
}

/* Without a table: what was there before is there still. */
static void after_no_table(struct trial *t)
{
    (void)sqlite3_close(t->db); /* may be NULL */
    t->db = open_database(true);
    if (t->script->opens)
        must(t->db, sqlite3_exec(t->db, attach_armdb, NULL, NULL, NULL), "attaching");
}

/* False when nothing failed any more. */
static bool try_once(const struct kind *kind, const struct sql_script *script, uint64_t n)
{
    static struct trial t;
    sqlite3_int64 before = sqlite3_memory_used();
    bool there;

    memset(&t, 0, sizeof t);
    t.kind = kind;
    t.script = script;
    t.n = n;
    t.disk = sim_disk_create(n);
    sim_sched_seed(n, 0);
    sim_disk_mount(t.disk);
    there = set_up(&t);
    for (int i = 0; there && script->statements[i] != NULL; i++) {
        sim_context("--kind=%s --script=%s, number %llu, statement %d: %s", kind->name,
                    script->name, (unsigned long long)n, i, script->statements[i]);
        run_statement(&t, script->statements[i]);
    }
    disarm(&t);
    if (!there)
        after_no_table(&t);
    check_same(t.db, &t, "afterwards");
    close_database(t.db);
    if (!script->drops)
        reopen(&t);
    close_database(t.native);
    sim_disk_destroy(t.disk);
    check_nothing_left("closed", before);
    return t.hit;
}

/* ---- All of them ---- */

struct job {
    const struct kind *kind;
    const struct sql_script *script;
    uint64_t seed;
    uint64_t step;   /* of SQLite's allocations every step-th, the seed says from where */
    uint64_t *count; /* shared with the parent */
};

static void run_kind(void *arg)
{
    struct job *job = arg;
    bool hit = true;

    for (uint64_t n = 1 + job->seed % job->step; hit; n += job->step) {
        sim_context("--kind=%s --script=%s, number %llu", job->kind->name,
                    job->script->name, (unsigned long long)n);
        hit = try_once(job->kind, job->script, n);
        *job->count += hit;
    }
}

/* What is to be done, from the command line. */
static const char *only_kind;
static const char *only_script;

/* Between the processes. */
struct shared {
    _Atomic uint64_t next; /* combination of kind and script that nobody has taken */
    uint64_t counts[SCRIPTS_MAX * KINDS];
};

/* Combinations, as long as there are any, each in a process of its own. */
static bool run_share(struct shared *shared)
{
    bool good = true;

    for (;;) {
        /* Relaxed: each number is given once, nothing else depends on it. */
        uint64_t i = atomic_fetch_add_explicit(&shared->next, 1, memory_order_relaxed);
        struct job job = {.seed = seed, .step = 1};

        if (i >= (uint64_t)sql_script_count * KINDS)
            return good;
        job.kind = &kinds[i % KINDS];
        job.script = &sql_scripts[i / KINDS];
        job.count = &shared->counts[i];
        if (job.kind->source == SQLITE_MEMORY)
            job.step = step;
        if ((only_kind == NULL || strcmp(only_kind, job.kind->name) == 0) &&
            (only_script == NULL || strcmp(only_script, job.script->name) == 0))
            good = sim_run_apart(run_kind, &job) && good;
    }
}

int main(int argc, char **argv)
{
    const char *wanted_jobs = getenv("JOBS");
    const char *wanted_seed = getenv("SEED");
    uint64_t jobs = wanted_jobs != NULL ? strtoull(wanted_jobs, NULL, 10) : 1;
    int status;
    struct shared *shared;
    uint64_t sum[3] = {0, 0, 0};
    time_t began = time(NULL);
    bool good = true;

    sim_fix_addresses(argv);
    seed = wanted_seed != NULL ? strtoull(wanted_seed, NULL, 10) : (uint64_t)began;
    if (getenv("STEP") != NULL)
        step = strtoull(getenv("STEP"), NULL, 10);
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], "--kind=", 7) == 0)
            only_kind = argv[i] + 7;
        else if (strncmp(argv[i], "--script=", 9) == 0)
            only_script = argv[i] + 9;
        else if (strncmp(argv[i], "--seed=", 7) == 0)
            seed = strtoull(argv[i] + 7, NULL, 10);
        else if (strncmp(argv[i], "--step=", 7) == 0)
            step = strtoull(argv[i] + 7, NULL, 10);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || step < 1 || sql_script_count > SCRIPTS_MAX)
        return 1;
    printf("seed %llu\n", (unsigned long long)seed);
    install_allocator();
    jobs = jobs < 1 || jobs > 64 ? 1 : jobs;
    (void)fflush(stdout);
    for (uint64_t j = 0; j < jobs; j++)
        if (fork() == 0)
            _exit(run_share(shared) ? 0 : 1);
    while (wait(&status) > 0)
        good = good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    for (size_t i = 0; i < sizeof shared->counts / sizeof shared->counts[0]; i++)
        sum[kinds[i % KINDS].source] += shared->counts[i];
    printf(
        "%llu allocations of the engine, %llu of SQLite, %llu I/O calls failed, in %lld "
        "s\n",
        (unsigned long long)sum[0], (unsigned long long)sum[1],
        (unsigned long long)sum[2], (long long)(time(NULL) - began));
    if (good)
        printf("ok - the extension while allocations and I/O fail\n");
    return good ? 0 : 1;
}

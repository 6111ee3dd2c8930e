/* kill.c - kill -9 at a random moment; everything acknowledged is there afterwards.
 *
 *   kill [options] [extension]      (or ARMDB_EXTENSION, ARMDB_VTAB)
 *
 * A child process writes numbered transactions (kill_model.h) over two tables of one
 * store and notes in shared memory which it has begun and which were acknowledged. The
 * parent kills it after a random time, sometimes kills the next opening (recovery) as
 * well, and lets a third process compare the tables with the model: with n the last
 * transaction found,
 *
 *     acknowledged <= n <= begun     nothing acknowledged is lost, nothing invented
 *     tables = state after 1..n      nothing half, a prefix of the commit order,
 *                                    nothing that was rolled back
 *     files = those of the manifest  and hints of them: no orphans
 *
 * Then it goes on with the same store. Each stage has its own options: sync mode, I/O
 * engine, table in the database file or TEMP, one thread or several.
 *
 *   --seed=N --rounds=N (kills per stage) --stage=N
 *   --self-test     native tables; two planted faults must be found: transactions
 *                   acknowledged too early, and committed in two halves */
#define _GNU_SOURCE
#include "test/crash/kill_model.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum plant { PLANT_NONE, PLANT_EARLY, PLANT_HALF };
struct stage {
    const char *name;
    const char *options; /* of the armdb tables; NULL = native tables */
    bool temp;
    int threads;
    enum plant plant;
    bool compact; /* one more thread compacts all the time */
};
static const struct stage stages[] = {
    { "sync=full", "sync=full", false, 1, PLANT_NONE, false },
    { "sync=full, plain I/O", "sync=full, io_engine=plain", false, 1, PLANT_NONE, false },
    { "sync=full, io_uring", "sync=full, io_engine=uring", true, 1, PLANT_NONE, false },
    { "sync=normal", "sync=normal, segment_size=1048576", false, 1, PLANT_NONE, false },
    { "sync=normal, io_uring",
      "sync=normal, io_engine=uring", true, 1, PLANT_NONE, false },
    { "sync=off, small segments", "sync=off, segment_size=1048576, io_engine=plain",
      false, 1, PLANT_NONE, false },
    { "sync=off, io_uring", "sync=off, io_engine=uring, segment_size=1048576", true, 1,
      PLANT_NONE, false },
    { "4 threads, sync=full",
      "sync=full, segment_size=1048576", true, 4, PLANT_NONE, false },
    { "4 threads, sync=off",
      "sync=off, segment_size=1048576", true, 4, PLANT_NONE, false },
    { "4 threads, sync=normal, plain I/O", "sync=normal, io_engine=plain", true, 4,
      PLANT_NONE, false },
    { "4 threads in the database file", "sync=off", false, 4, PLANT_NONE, false },
    { "compaction, 3 threads, sync=full",
      "sync=full, segment_size=1048576, compact_at=0.01", true, 3, PLANT_NONE, true },
    { "compaction, 3 threads, sync=off, plain I/O",
      "sync=off, segment_size=1048576, compact_at=0.01, io_engine=plain", true, 3,
      PLANT_NONE, true },
};
static const struct stage native_stages[] = {
    { "native tables", NULL, false, 1, PLANT_NONE, false },
    { "native tables, 4 threads", NULL, false, 4, PLANT_NONE, false },
    { "planted: acknowledged too early", NULL, false, 1, PLANT_EARLY, false },
    { "planted: committed in halves", NULL, false, 1, PLANT_HALF, false },
};

/* What survives the child's death. */
struct shared {
    _Atomic bool created; /* both tables are there, acknowledged */
    _Atomic int64_t begun[KILL_THREADS_MAX];
    _Atomic int64_t acknowledged[KILL_THREADS_MAX];
    _Atomic bool failed;
    char text[1000];
};
struct job {
    const char *extension;
    uint64_t seed;
    int rounds;
    const struct stage *stage;
    char folder[500];
    struct shared *shared;
};
struct writer {
    const struct job *job;
    sqlite3 *db;
    int thread;
    sqlite3_stmt *put, *del, *slot;
    struct kill_tx tx;
};

/* ---- In the children ------------------------------------------------------- */

static void give_up(const struct job *job, const char *what, const char *why)
{
    if (!atomic_exchange(&job->shared->failed, true))
        snprintf(job->shared->text, sizeof job->shared->text, "%s: %s", what, why);
    _exit(3);
}

static void exec(const struct job *job, sqlite3 *db, const char *sql)
{
    char *message = NULL;

    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
        give_up(job, sql, message != NULL ? message : "?");
}

static void create_tables(const struct job *job, sqlite3 *db)
{
    static const char *const tables[2][2] = {
        { "acc", "k TEXT PRIMARY KEY, tx INTEGER, v BLOB" },
        { "log", "slot INTEGER PRIMARY KEY, tx INTEGER" },
    };
    const struct stage *stage = job->stage;
    char sql[900], path[600] = "";
    int i;

    if (stage->temp)
        snprintf(path, sizeof path, ", path='%s/store'", job->folder);
    for (i = 0; i < 2; i++) {
        if (stage->options == NULL)
            snprintf(sql, sizeof sql, "CREATE TABLE IF NOT EXISTS %s(%s) WITHOUT ROWID",
                     tables[i][0], tables[i][1]);
        else
            snprintf(sql, sizeof sql,
                     "CREATE VIRTUAL TABLE IF NOT EXISTS %s%s USING armdb(%s, %s%s)",
                     stage->temp ? "temp." : "", tables[i][0], tables[i][1],
                     stage->options, path);
        exec(job, db, sql);
    }
}

static sqlite3 *open_database(const struct job *job)
{
    char path[600], *message = NULL;
    sqlite3 *db = NULL;

    snprintf(path, sizeof path, "%s/db", job->folder);
    if (sqlite3_open(job->stage->temp ? ":memory:" : path, &db) != SQLITE_OK)
        give_up(job, path, sqlite3_errmsg(db));
    sqlite3_busy_timeout(db, 20000);
    if (job->stage->options != NULL) {
        sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, NULL);
        if (sqlite3_load_extension(db, job->extension, NULL, &message) != SQLITE_OK)
            give_up(job, job->extension, message != NULL ? message : "?");
    } else {
        exec(job, db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL");
    }
    return db;
}

static sqlite3_stmt *prepare(const struct writer *w, const char *sql)
{
    sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(w->db, sql, -1, &stmt, NULL) != SQLITE_OK)
        give_up(w->job, sql, sqlite3_errmsg(w->db));
    return stmt;
}

static void finish(const struct writer *w, sqlite3_stmt *stmt)
{
    if (sqlite3_step(stmt) != SQLITE_DONE)
        give_up(w->job, sqlite3_sql(stmt), sqlite3_errmsg(w->db));
    sqlite3_reset(stmt);
}

static void bind_row(const struct writer *w, sqlite3_stmt *stmt, int first, int key,
                     int64_t number)
{
    static _Thread_local unsigned char value[KILL_VALUE_MAX];
    size_t len = key < 0 ? 0 : kill_value(w->job->seed, w->thread, number, key, value);
    char text[32];

    kill_key_text(text, w->thread, key);
    sqlite3_bind_text(stmt, first, text, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(stmt, first + 1, number);
    sqlite3_bind_blob(stmt, first + 2, value, (int)len, SQLITE_TRANSIENT);
}

static void put_row(struct writer *w, int key, int64_t number)
{
    bind_row(w, w->put, 1, key, number);
    finish(w, w->put);
}

static void apply_op(struct writer *w, const struct kill_op *op)
{
    char text[32];

    if (op->put) {
        put_row(w, op->key, w->tx.number);
        return;
    }
    kill_key_text(text, w->thread, op->key);
    sqlite3_bind_text(w->del, 1, text, -1, SQLITE_TRANSIENT);
    finish(w, w->del);
}

/* All rows of the transaction and its counter in one autocommitted statement. */
static void run_single(struct writer *w)
{
    char sql[200 + 9 * 10] = "INSERT OR REPLACE INTO acc VALUES (?,?,?)";
    sqlite3_stmt *stmt;
    int i;

    for (i = 0; i < w->tx.op_count; i++)
        strcat(sql, ",(?,?,?)");
    stmt = prepare(w, sql);
    for (i = 0; i < w->tx.op_count; i++)
        bind_row(w, stmt, 1 + 3 * i, w->tx.op[i].key, w->tx.number);
    bind_row(w, stmt, 1 + 3 * i, -1, w->tx.number);
    finish(w, stmt);
    sqlite3_finalize(stmt);
}

/* Rows marked -1 are never to be seen. */
static void write_forbidden(struct writer *w)
{
    int first = w->thread * KILL_SLOTS, i;
    char sql[100];

    for (i = 0; i < 5; i++)
        put_row(w, (int)((w->tx.number * 7 + i * 31) % KILL_KEYS), -1);
    snprintf(sql, sizeof sql, "DELETE FROM log WHERE slot BETWEEN %d AND %d", first + 5,
             first + KILL_SLOTS - 1);
    exec(w->job, w->db, sql);
}

static void run_explicit(struct writer *w)
{
    const struct job *job = w->job;
    const char *begin = job->stage->temp ? "BEGIN" : "BEGIN IMMEDIATE";
    int i;

    if (w->tx.aborted) {
        exec(job, w->db, begin);
        write_forbidden(w);
        exec(job, w->db, "ROLLBACK");
    }
    exec(job, w->db, begin);
    for (i = 0; i < w->tx.op_count; i++) {
        apply_op(w, &w->tx.op[i]);
        if (job->stage->plant == PLANT_HALF && i == 2)
            exec(job, w->db, "COMMIT; BEGIN");
    }
    if (w->tx.savepoint) {
        exec(job, w->db, "SAVEPOINT s");
        write_forbidden(w);
        exec(job, w->db, "ROLLBACK TO s; RELEASE s");
    }
    sqlite3_bind_int64(w->slot, 1,
                       w->thread * KILL_SLOTS + w->tx.number % KILL_SLOTS);
    sqlite3_bind_int64(w->slot, 2, w->tx.number);
    finish(w, w->slot);
    put_row(w, -1, w->tx.number);
    if (job->stage->plant == PLANT_EARLY)
        atomic_store(&job->shared->acknowledged[w->thread], w->tx.number);
    exec(job, w->db, "COMMIT");
}

static void *write_for_ever(void *arg)
{
    struct writer *w = arg;
    struct shared *shared = w->job->shared;
    char text[300];
    int64_t number;

    if (!kill_state_count(w->db, w->thread, &number, text, sizeof text))
        give_up(w->job, "reopened", text);
    w->put = prepare(w, "INSERT OR REPLACE INTO acc VALUES (?, ?, ?)");
    w->del = prepare(w, "DELETE FROM acc WHERE k = ?");
    w->slot = prepare(w, "INSERT OR REPLACE INTO log VALUES (?, ?)");
    for (;;) {
        number++;
        kill_tx_make(&w->tx, w->job->seed, w->thread, number);
        atomic_store(&shared->begun[w->thread], number);
        if (w->tx.single)
            run_single(w);
        else
            run_explicit(w);
        atomic_store(&shared->acknowledged[w->thread], number);
    }
    return NULL;
}

static void *compact_for_ever(void *arg)
{
    const struct job *job = arg;
    sqlite3 *db = open_database(job);

    create_tables(job, db);
    for (;;) {
        exec(job, db, "SELECT armdb_compact('acc')");
        usleep(2000);
    }
    return NULL;
}

static void child_write(const struct job *job)
{
    static struct writer writers[KILL_THREADS_MAX];
    pthread_t thread;
    int i;

    for (i = 0; i < job->stage->threads; i++) {
        writers[i] = (struct writer){ .job = job, .thread = i };
        writers[i].db = open_database(job);
        if (i == 0 || job->stage->temp)
            create_tables(job, writers[i].db);
    }
    atomic_store(&job->shared->created, true);
    for (i = 1; i < job->stage->threads; i++)
        if (pthread_create(&thread, NULL, write_for_ever, &writers[i]) != 0)
            give_up(job, "pthread_create", strerror(errno));
    if (job->stage->compact &&
        pthread_create(&thread, NULL, compact_for_ever, (void *)(uintptr_t)job) != 0)
        give_up(job, "pthread_create", strerror(errno));
    write_for_ever(&writers[0]);
}

/* Once the store is closed, its folder holds what its manifest lists, hints of that, and
 * nothing else. */
static void check_files(const struct job *job)
{
    unsigned char bytes[8];
    char path[600], other[1000], text[700] = "";
    uint64_t listed = 0, found = 0;
    struct dirent *entry;
    FILE *manifest;
    DIR *dir;
    int i;

    snprintf(path, sizeof path, "%s/%s", job->folder,
             job->stage->temp ? "store" : "db-armdb");
    snprintf(other, sizeof other, "%s/manifest", path);
    manifest = fopen(other, "rb");
    if (manifest == NULL || fseek(manifest, 80, SEEK_SET) != 0 ||
        fread(bytes, 1, 8, manifest) != 8)
        give_up(job, other, "cannot be read");
    for (i = 7; i >= 0; i--)
        listed = listed << 8 | bytes[i];
    fclose(manifest);
    dir = opendir(path);
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        const char *dot = strrchr(entry->d_name, '.');
        struct stat st;

        if (entry->d_name[0] == '.' || dot == NULL)
            continue; /* ., .., lock, manifest, superblock */
        if (strcmp(dot, ".seg") == 0) {
            found++;
            continue;
        }
        snprintf(other, sizeof other, "%s/%.*s.seg", path, (int)(dot - entry->d_name),
                 entry->d_name);
        if (strcmp(dot, ".hint") != 0 || stat(other, &st) != 0)
            snprintf(text, sizeof text, "%.200s is an orphan", entry->d_name);
    }
    if (dir != NULL)
        closedir(dir);
    if (text[0] == '\0' && found != listed)
        snprintf(text, sizeof text, "%llu segments are listed, %llu are there",
                 (unsigned long long)listed, (unsigned long long)found);
    if (text[0] != '\0')
        give_up(job, "files", text);
}

static void child_check(const struct job *job)
{
    struct shared *shared = job->shared;
    sqlite3 *db = open_database(job);
    int64_t count[KILL_THREADS_MAX];
    char text[800];
    int i;

    if (job->stage->temp || !atomic_load(&shared->created))
        create_tables(job, db);
    for (i = 0; i < job->stage->threads; i++) {
        int64_t acknowledged = atomic_load(&shared->acknowledged[i]);
        int64_t begun = atomic_load(&shared->begun[i]);

        if (!kill_state_count(db, i, &count[i], text, sizeof text))
            give_up(job, "after the kill", text);
        if (count[i] < acknowledged || count[i] > begun) {
            snprintf(text, sizeof text,
                     "thread %d: %lld transactions found, %lld acknowledged, %lld begun",
                     i, (long long)count[i], (long long)acknowledged, (long long)begun);
            give_up(job, "after the kill", text);
        }
        atomic_store(&shared->acknowledged[i], count[i]);
        atomic_store(&shared->begun[i], count[i]);
    }
    if (!kill_state_check(db, job->seed, job->stage->threads, count, text, sizeof text))
        give_up(job, "after the kill", text);
    if (sqlite3_close(db) != SQLITE_OK)
        give_up(job, "close", sqlite3_errmsg(db));
    if (job->stage->options != NULL)
        check_files(job);
    _exit(0);
}

/* ---- In the parent --------------------------------------------------------- */

static void sleep_us(unsigned us)
{
    struct timespec t = { .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000L };

    nanosleep(&t, NULL);
}

static pid_t start(const struct job *job, void (*what)(const struct job *))
{
    pid_t child;

    fflush(NULL);
    child = fork();
    if (child < 0) {
        perror("fork");
        exit(2);
    }
    if (child == 0) {
        alarm(120);
        what(job);
        _exit(0);
    }
    return child;
}

/* True unless the child ended by itself before it was killed. */
static bool kill_after(const struct job *job, pid_t child, unsigned us)
{
    int status;

    sleep_us(us);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        return true;
    if (!atomic_load(&job->shared->failed) && WIFSIGNALED(status))
        snprintf(job->shared->text, sizeof job->shared->text, "died by signal %d",
                 WTERMSIG(status));
    return false;
}

static bool one_round(const struct job *job, int round)
{
    uint64_t bits = kill_mix(job->seed + (uint64_t)round * 977);
    pid_t child = start(job, child_write);
    int status, tries;

    /* Mostly in the middle of writing, now and then while the store opens. */
    for (tries = 0; bits % 8 != 0 && tries < 5000; tries++) {
        if (atomic_load(&job->shared->created)
            && atomic_load(&job->shared->begun[0]) > 0)
            break;
        sleep_us(1000);
    }
    if (!kill_after(job, child, (unsigned)((bits >> 8) % 120000)))
        return false;
    while (bits % 5 < 2) { /* the next opening is killed too */
        bits = kill_mix(bits);
        if (!kill_after(job, start(job, child_write), (unsigned)((bits >> 8) % 15000)))
            return false;
    }
    waitpid(start(job, child_check), &status, 0);
    if (status != 0 && WIFSIGNALED(status) && !atomic_load(&job->shared->failed))
        snprintf(job->shared->text, sizeof job->shared->text,
                 "the check died by signal %d", WTERMSIG(status));
    return status == 0;
}

static void remove_folder(const char *folder)
{
    char command[600];

    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0)
        fprintf(stderr, "kill: cannot remove %s\n", folder);
}

/* Returns whether all rounds went well. */
static bool run_stage(struct job *job, const struct stage *stage, bool quiet)
{
    const char *base = getenv("TMPDIR");
    int64_t transactions = 0;
    bool good = true;
    int round, i;

    job->stage = stage;
    memset(job->shared, 0, sizeof *job->shared);
    snprintf(job->folder, sizeof job->folder, "%s/armdb-kill-XXXXXX",
             base != NULL ? base : "/tmp");
    if (mkdtemp(job->folder) == NULL) {
        perror(job->folder);
        exit(2);
    }
    for (round = 0; round < job->rounds && good; round++)
        good = one_round(job, round);
    for (i = 0; i < stage->threads; i++)
        transactions += atomic_load(&job->shared->acknowledged[i]);
    if (!quiet || good)
        printf("%s - %s: %d kills, %lld transactions%s%s\n",
               good == !quiet ? "ok" : "not ok", stage->name, round,
               (long long)transactions, good ? "" : ": ", job->shared->text);
    else
        printf("ok - %s: found after %d kills (%s)\n", stage->name, round,
               job->shared->text);
    if (!good && !quiet)
        printf("seed %llu; folder kept: %s\n", (unsigned long long)job->seed,
               job->folder);
    else
        remove_folder(job->folder);
    fflush(stdout);
    return good;
}

static uint64_t first_seed(void)
{
    const char *given = getenv("SEED");

    if (given != NULL && given[0] != '\0')
        return strtoull(given, NULL, 0);
    return ((uint64_t)time(NULL) ^ ((uint64_t)getpid() << 20)) & 0xffffffffu;
}

static int run_all(struct job *job, const struct stage *list, int count, int only)
{
    int i, failed = 0;

    for (i = 0; i < count; i++) {
        bool planted = list[i].plant != PLANT_NONE;
        int rounds = job->rounds;

        if (only >= 0 && i != only)
            continue;
        if (planted)
            job->rounds = 400; /* until it is found */
        failed += run_stage(job, &list[i], planted) == planted;
        job->rounds = rounds;
    }
    return failed;
}

int main(int argc, char **argv)
{
    struct job job = { .seed = first_seed(), .rounds = 6 };
    bool self_test = false;
    int i, failed, only = -1;

    job.extension = getenv("ARMDB_EXTENSION");
    if (job.extension == NULL)
        job.extension = getenv("ARMDB_VTAB");
    for (i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--seed=", 7) == 0)
            job.seed = strtoull(argv[i] + 7, NULL, 0);
        else if (strncmp(argv[i], "--rounds=", 9) == 0)
            job.rounds = atoi(argv[i] + 9);
        else if (strncmp(argv[i], "--stage=", 8) == 0)
            only = atoi(argv[i] + 8);
        else if (strcmp(argv[i], "--self-test") == 0)
            self_test = true;
        else
            job.extension = argv[i];
    }
    if (job.extension == NULL && !self_test) {
        fprintf(stderr, "kill: name the extension, or say --self-test\n");
        return 2;
    }
    job.shared = mmap(NULL, sizeof *job.shared, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (job.shared == MAP_FAILED) {
        perror("mmap");
        return 2;
    }
    printf("kill: seed %llu, %d rounds a stage\n", (unsigned long long)job.seed,
           job.rounds);
    if (self_test)
        failed = run_all(&job, native_stages, 4, only);
    else
        failed = run_all(&job, stages, (int)(sizeof stages / sizeof stages[0]), only);
    return failed > 0;
}

/* The bank, through SQL: 8 threads move money between 1,000 accounts while readers sum
 * them. Every sum is right: in the middle, after ROLLBACKs, and after kill -9. The tables
 * lie in TEMP schemas over one store (parallel writers, snapshot isolation) and in a
 * database file. Built for ThreadSanitizer as well. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "engine/base/thread.h"
#include "ext/ext.h"

enum { ACCOUNTS = 1000, START = 100, WRITERS = 8, READERS = 2, BUSY_MS = 30000 };

struct bank {
    char folder[200];
    char database[300]; /* ":memory:" with TEMP tables */
    char create[600];   /* run by every connection with TEMP tables */
    bool temp;
    int moves; /* of each writer; 0 = until killed */
    _Atomic int wrong;
    _Atomic int writers_left;
    _Atomic uint64_t moved, sums, retries;
};

struct worker {
    struct bank *bank;
    uint64_t random;
};

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void complain(struct bank *bank, sqlite3 *db, const char *what)
{
    if (atomic_exchange(&bank->wrong, 1) == 0)
        (void)fprintf(stderr, "%s: %s\n", what, db != NULL ? sqlite3_errmsg(db) : "");
}

static sqlite3 *open_connection(struct bank *bank)
{
    sqlite3 *db = NULL;
    char *err = NULL;

    if (sqlite3_open(bank->database, &db) != SQLITE_OK ||
        sqlite3_busy_timeout(db, BUSY_MS) != SQLITE_OK ||
        sqlite3_armdbvtab_init(db, &err, NULL) != SQLITE_OK ||
        (bank->temp && sqlite3_exec(db, bank->create, NULL, NULL, NULL) != SQLITE_OK)) {
        complain(bank, db, "opening");
        sqlite3_close(db);
        return NULL;
    }
    return db;
}

/* The first column of the first row; -1 and complaint when there is none. */
static int64_t ask(struct bank *bank, sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt = NULL;
    int64_t answer = -1;

    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW)
        answer = sqlite3_column_int64(stmt, 0);
    else
        complain(bank, db, sql);
    sqlite3_finalize(stmt);
    return answer;
}

/* One try to move money. SQLITE_BUSY and its like: roll back and begin again. */
static int try_move(sqlite3 *db, sqlite3_stmt *take, sqlite3_stmt *give, uint64_t *random,
                    bool immediate)
{
    int64_t amount = (int64_t)(next_random(random) % 50);
    int rc = sqlite3_exec(db, immediate ? "BEGIN IMMEDIATE" : "BEGIN", NULL, NULL, NULL);

    if (rc != SQLITE_OK)
        return rc;
    sqlite3_bind_int64(take, 1, amount);
    sqlite3_bind_int64(take, 2, (int64_t)(next_random(random) % ACCOUNTS));
    sqlite3_bind_int64(give, 1, amount);
    sqlite3_bind_int64(give, 2, (int64_t)(next_random(random) % ACCOUNTS));
    rc = sqlite3_step(take);
    (void)sqlite3_reset(take);
    if (rc == SQLITE_DONE) {
        rc = sqlite3_step(give);
        (void)sqlite3_reset(give);
    }
    if (rc != SQLITE_DONE)
        return rc;
    if (next_random(random) % 8 == 0)
        return SQLITE_INTERRUPT; /* changed our mind */
    return sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
}

static void move_money(void *arg)
{
    struct worker *worker = arg;
    struct bank *bank = worker->bank;
    sqlite3 *db = open_connection(bank);
    sqlite3_stmt *take = NULL;
    sqlite3_stmt *give = NULL;
    int done = 0;

    if (db == NULL)
        goto out;
    if (sqlite3_prepare_v2(db, "UPDATE bank SET v = v - ?1 WHERE k = ?2", -1, &take,
                           NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(db, "UPDATE bank SET v = v + ?1 WHERE k = ?2", -1, &give,
                           NULL) != SQLITE_OK)
        complain(bank, db, "preparing");
    while ((bank->moves == 0 || done < bank->moves) && atomic_load(&bank->wrong) == 0) {
        bool immediate = !bank->temp && next_random(&worker->random) % 2 == 0;
        int rc = try_move(db, take, give, &worker->random, immediate);

        if (rc == SQLITE_OK) {
            done++;
            atomic_fetch_add(&bank->moved, 1);
            continue;
        }
        if ((rc & 0xff) != SQLITE_BUSY && rc != SQLITE_INTERRUPT)
            complain(bank, db, "moving");
        atomic_fetch_add(&bank->retries, 1);
        if (!sqlite3_get_autocommit(db) &&
            sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL) != SQLITE_OK)
            complain(bank, db, "rolling back");
    }
out:
    sqlite3_finalize(take);
    sqlite3_finalize(give);
    sqlite3_close(db);
    atomic_fetch_sub(&bank->writers_left, 1);
}

/* Two sums of one transaction are of one moment; between transactions others commit. */
static void audit(void *arg)
{
    struct worker *worker = arg;
    struct bank *bank = worker->bank;
    sqlite3 *db = open_connection(bank);

    while (db != NULL && atomic_load(&bank->writers_left) > 0 &&
           atomic_load(&bank->wrong) == 0) {
        int64_t first;
        int64_t squares;

        if (sqlite3_exec(db, "BEGIN", NULL, NULL, NULL) != SQLITE_OK)
            complain(bank, db, "BEGIN");
        squares = ask(bank, db, "SELECT sum(v * v) FROM bank");
        first = ask(bank, db, "SELECT sum(v) FROM bank");
        if (first != ACCOUNTS * START)
            complain(bank, NULL, "a sum is wrong");
        if (ask(bank, db, "SELECT sum(v * v) FROM bank WHERE k >= 0") != squares)
            complain(bank, NULL, "two reads of one transaction differ");
        if (sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
            complain(bank, db, "COMMIT");
        atomic_fetch_add(&bank->sums, 1);
    }
    sqlite3_close(db);
}

static void make_bank(struct bank *bank, bool temp, const char *sync)
{
    const char *base = getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp";
    sqlite3 *db;
    char sql[300];

    memset(bank, 0, sizeof *bank);
    (void)snprintf(bank->folder, sizeof bank->folder, "%s/armdb_test_sql_bank_XXXXXX",
                   base);
    assert_non_null(mkdtemp(bank->folder));
    bank->temp = temp;
    if (temp)
        (void)snprintf(bank->database, sizeof bank->database, ":memory:");
    else
        (void)snprintf(bank->database, sizeof bank->database, "%s/bank.db", bank->folder);
    (void)snprintf(bank->create, sizeof bank->create,
                   "CREATE VIRTUAL TABLE %sbank USING armdb(k INTEGER PRIMARY KEY, "
                   "v INTEGER, path='%s/store', sync=%s, segment_size='1M')",
                   temp ? "temp." : "", bank->folder, sync);
    db = open_connection(bank);
    assert_non_null(db);
    if (!temp) {
        assert_int_equal(sqlite3_exec(db, "PRAGMA journal_mode=WAL", NULL, NULL, NULL),
                         SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, bank->create, NULL, NULL, NULL), SQLITE_OK);
    }
    (void)snprintf(sql, sizeof sql,
                   "WITH RECURSIVE r(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM r "
                   "LIMIT %d) INSERT INTO bank SELECT i, %d FROM r",
                   (int)ACCOUNTS, (int)START);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void remove_bank(const struct bank *bank)
{
    char command[300];

    (void)snprintf(command, sizeof command, "rm -rf '%s'", bank->folder);
    assert_int_equal(system(command), 0);
}

/* In the process that calls it; false when a thread could not be started. */
static bool run_threads(struct bank *bank, uint64_t seed)
{
    struct adb_thread threads[WRITERS + READERS];
    struct worker workers[WRITERS + READERS];
    int started = 0;

    atomic_store(&bank->writers_left, WRITERS);
    for (; started < WRITERS + READERS; started++) {
        workers[started].bank = bank;
        workers[started].random =
            (seed + (uint64_t)started) * UINT64_C(0x9E3779B97F4A7C15) + 1;
        if (adb_thread_start(&threads[started], started < WRITERS ? move_money : audit,
                             &workers[started]) != ARMDB_OK)
            break;
    }
    for (int i = 0; i < started; i++)
        adb_thread_join(&threads[i]);
    return started == WRITERS + READERS;
}

static void check_sum(struct bank *bank)
{
    sqlite3 *db = open_connection(bank);

    assert_non_null(db);
    assert_int_equal(ask(bank, db, "SELECT sum(v) FROM bank"), ACCOUNTS * START);
    assert_int_equal(ask(bank, db, "SELECT count(*) FROM bank"), ACCOUNTS);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static uint64_t choose_seed(void)
{
    const char *text = getenv("SEED");
    uint64_t seed =
        text != NULL ? strtoull(text, NULL, 10) : (uint64_t)time(NULL) % 1000000;

    (void)printf("SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

static void run_bank(bool temp, const char *sync, int moves)
{
    struct bank bank;

    make_bank(&bank, temp, sync);
    bank.moves = moves;
    assert_true(run_threads(&bank, choose_seed()));
    assert_int_equal(bank.wrong, 0);
    assert_int_equal(bank.moved, (uint64_t)WRITERS * (uint64_t)moves);
    (void)printf("moved %llu, began again %llu, summed %llu\n",
                 (unsigned long long)bank.moved, (unsigned long long)bank.retries,
                 (unsigned long long)bank.sums);
    check_sum(&bank);
    remove_bank(&bank);
}

static void every_sum_is_right_over_parallel_writers(void **state)
{
    (void)state;
    run_bank(true, "off", 400);
    run_bank(true, "full", 60);
}

static void every_sum_is_right_in_a_database_file(void **state)
{
    (void)state;
    run_bank(false, "normal", 60);
}

static void every_sum_is_right_after_a_kill(void **state)
{
    static const char *const modes[] = {"full", "normal", "off"};
    uint64_t random = choose_seed() * 2 + 1;

    (void)state;
    for (int round = 0; round < 9; round++) {
        struct bank bank;
        struct timespec wait = {0, 0};
        int status = 0;
        pid_t child;

        make_bank(&bank, round % 2 == 0, modes[round % 3]);
        wait.tv_nsec = 20000000 + (long)(next_random(&random) % 180000000);
        child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            (void)run_threads(&bank, next_random(&random));
            _exit(1); /* it ends only when something is wrong */
        }
        (void)nanosleep(&wait, NULL);
        (void)kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        check_sum(&bank);
        assert_int_equal(bank.wrong, 0);
        remove_bank(&bank);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_sum_is_right_after_a_kill),
        cmocka_unit_test(every_sum_is_right_over_parallel_writers),
        cmocka_unit_test(every_sum_is_right_in_a_database_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

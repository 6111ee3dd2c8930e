/* Many sessions at once: money moves between accounts while readers sum them. Every
 * sum is the same at every moment, whatever commits, conflicts and rollbacks happen.
 * Built for ThreadSanitizer as well. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/armdb.h"
#include "engine/base/thread.h"

enum { ACCOUNTS = 200, WRITERS = 5, READERS = 3, MOVES = 800, START = 1000 };

struct bank {
    struct armdb *store;
    _Atomic int wrong;
    _Atomic int writers_left;
    _Atomic uint64_t moved;
    _Atomic uint64_t sums;
    _Atomic uint64_t retries;
    _Atomic uint64_t waited;
};

struct worker {
    struct bank *bank;
    uint64_t random;
    enum armdb_sync sync;
};

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void complain(struct bank *bank, const char *what, const char *text)
{
    if (atomic_exchange(&bank->wrong, 1) == 0)
        (void)fprintf(stderr, "%s: %s\n", what, text);
}

static enum armdb_rc read_balance(struct armdb_cursor *cursor, uint32_t account,
                                  int64_t *balance, struct armdb_error *err)
{
    struct armdb_value value;
    enum armdb_rc rc = armdb_cursor_seek_key(cursor, &account, sizeof account, err);

    if (rc == ARMDB_OK)
        rc = armdb_cursor_value(cursor, &value, err);
    if (rc == ARMDB_OK)
        memcpy(balance, value.data, sizeof *balance);
    armdb_cursor_reset(cursor);
    return rc;
}

/* One try; ARMDB_BUSY and ARMDB_BUSY_SNAPSHOT mean: roll back and try again. */
static enum armdb_rc try_move(struct armdb_session *session, struct armdb_table *table,
                              struct armdb_cursor *cursor, uint64_t *random,
                              struct armdb_error *err)
{
    uint32_t from = (uint32_t)(next_random(random) % ACCOUNTS);
    uint32_t to = (uint32_t)(next_random(random) % ACCOUNTS);
    int64_t amount = (int64_t)(next_random(random) % 100);
    int64_t a = 0;
    int64_t b = 0;
    enum armdb_rc rc;

    if (from == to)
        return ARMDB_OK;
    rc = armdb_begin(session, err);
    if (rc == ARMDB_OK)
        rc = armdb_snapshot_acquire(session, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = read_balance(cursor, from, &a, err);
    if (rc == ARMDB_OK)
        rc = read_balance(cursor, to, &b, err);
    a -= amount;
    b += amount;
    if (rc == ARMDB_OK)
        rc = armdb_put(session, table, &from, sizeof from, &a, sizeof a, err);
    if (rc == ARMDB_OK)
        rc = armdb_put(session, table, &to, sizeof to, &b, sizeof b, err);
    if (rc == ARMDB_OK && next_random(random) % 8 == 0)
        rc = ARMDB_MISMATCH; /* changed our mind: roll back */
    armdb_snapshot_release(session);
    return rc;
}

static void move_money(void *arg)
{
    struct worker *worker = arg;
    struct bank *bank = worker->bank;
    struct armdb_session *session = NULL;
    struct armdb_table *table = NULL;
    struct armdb_cursor *cursor = NULL;
    struct armdb_error err = {ARMDB_OK, 0, ""};

    if (armdb_session_open(bank->store, &session, &err) != ARMDB_OK ||
        armdb_table_open(session, "bank", NULL, &table, &err) != ARMDB_OK ||
        armdb_cursor_open(session, table, &cursor, &err) != ARMDB_OK) {
        complain(bank, "setup", err.text);
        goto out;
    }
    armdb_table_set_sync(table, worker->sync);
    for (int done = 0; done < MOVES && atomic_load(&bank->wrong) == 0;) {
        enum armdb_rc rc = try_move(session, table, cursor, &worker->random, &err);

        if (rc == ARMDB_OK) {
            if (armdb_commit(session, &err) != ARMDB_OK)
                complain(bank, "commit", err.text);
            atomic_fetch_add(&bank->moved, 1);
            done++;
            continue;
        }
        if (rc == ARMDB_BUSY && armdb_wait(session, 1) == ARMDB_OK)
            atomic_fetch_add(&bank->waited, 1);
        if (armdb_rollback(session, &err) != ARMDB_OK)
            complain(bank, "rollback", err.text);
        if (rc != ARMDB_BUSY && rc != ARMDB_BUSY_SNAPSHOT && rc != ARMDB_MISMATCH)
            complain(bank, "move", err.text);
        atomic_fetch_add(&bank->retries, 1);
    }
out:
    armdb_cursor_close(cursor);
    armdb_table_close(table);
    armdb_session_close(session);
    atomic_fetch_sub(&bank->writers_left, 1);
}

static int64_t sum_accounts(struct armdb_cursor *cursor, bool reverse, int *rows,
                            struct armdb_error *err)
{
    struct armdb_range all = {.reverse = reverse};
    int64_t sum = 0;
    enum armdb_rc rc;

    *rows = 0;
    for (rc = armdb_cursor_seek_range(cursor, &all, err); rc == ARMDB_OK;
         rc = armdb_cursor_next(cursor, err)) {
        struct armdb_value value;
        int64_t balance;

        if (armdb_cursor_value(cursor, &value, err) != ARMDB_OK)
            return INT64_MIN;
        memcpy(&balance, value.data, sizeof balance);
        sum += balance;
        (*rows)++;
    }
    armdb_cursor_reset(cursor);
    return rc == ARMDB_DONE ? sum : INT64_MIN;
}

static void audit(void *arg)
{
    struct worker *worker = arg;
    struct bank *bank = worker->bank;
    struct armdb_session *session = NULL;
    struct armdb_table *table = NULL;
    struct armdb_cursor *cursor = NULL;
    struct armdb_error err = {ARMDB_OK, 0, ""};

    if (armdb_session_open(bank->store, &session, &err) != ARMDB_OK ||
        armdb_table_open(session, "bank", NULL, &table, &err) != ARMDB_OK ||
        armdb_cursor_open(session, table, &cursor, &err) != ARMDB_OK) {
        complain(bank, "setup", err.text);
        goto out;
    }
    while (atomic_load(&bank->writers_left) > 0 && atomic_load(&bank->wrong) == 0) {
        int rows;
        int64_t sum =
            sum_accounts(cursor, next_random(&worker->random) % 2 == 0, &rows, &err);

        if (rows != ACCOUNTS || sum != (int64_t)ACCOUNTS * START) {
            (void)fprintf(stderr, "rows %d, sum %lld: ", rows, (long long)sum);
            complain(bank, "sum", err.text);
        }
        atomic_fetch_add(&bank->sums, 1);
    }
out:
    armdb_cursor_close(cursor);
    armdb_table_close(table);
    armdb_session_close(session);
}

static void open_bank(struct bank *bank, const char *path)
{
    struct armdb_options options;
    struct armdb_session *session;
    struct armdb_table *table;
    struct armdb_error err;
    int64_t start = START;

    memset(bank, 0, sizeof *bank);
    armdb_options_init(&options);
    options.segment_size = 1 << 20;
    options.cache_size = 1 << 20;
    assert_int_equal(armdb_open(path, &options, &bank->store, &err), ARMDB_OK);
    assert_int_equal(armdb_session_open(bank->store, &session, &err), ARMDB_OK);
    assert_int_equal(armdb_table_create(session, "bank", "", 0, &table, &err), ARMDB_OK);
    for (uint32_t i = 0; i < ACCOUNTS; i++)
        assert_int_equal(
            armdb_put(session, table, &i, sizeof i, &start, sizeof start, &err),
            ARMDB_OK);
    assert_int_equal(armdb_commit(session, &err), ARMDB_OK);
    armdb_table_close(table);
    armdb_session_close(session);
    atomic_store(&bank->writers_left, WRITERS);
}

static void run_bank(struct bank *bank, uint64_t seed)
{
    struct adb_thread threads[WRITERS + READERS];
    struct worker workers[WRITERS + READERS];

    for (int i = 0; i < WRITERS + READERS; i++) {
        workers[i].bank = bank;
        workers[i].random = (seed + (uint64_t)i) * UINT64_C(0x9E3779B97F4A7C15) + 1;
        workers[i].sync = i % 3 == 0 ? ARMDB_SYNC_OFF : ARMDB_SYNC_FULL;
        assert_int_equal(
            adb_thread_start(&threads[i], i < WRITERS ? move_money : audit, &workers[i]),
            ARMDB_OK);
    }
    for (int i = 0; i < WRITERS + READERS; i++)
        adb_thread_join(&threads[i]);
    (void)printf("moved %llu, retried %llu, summed %llu\n",
                 (unsigned long long)bank->moved, (unsigned long long)bank->retries,
                 (unsigned long long)bank->sums);
    assert_int_equal(bank->wrong, 0);
    assert_int_equal(bank->moved, WRITERS * MOVES);
}

static uint64_t choose_seed(void)
{
    const char *text = getenv("SEED");
    uint64_t seed = text != NULL ? strtoull(text, NULL, 10) : adb_mono_ns() % 1000000;

    (void)printf("SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

/* ---- A counter ---- */

enum { COUNTER_THREADS = 6, COUNTER_STEPS = 6000 };

/* One increment that has read nothing before. */
static enum armdb_rc increment(struct armdb_session *session, struct armdb_table *table,
                               struct armdb_cursor *cursor, struct armdb_error *err)
{
    uint32_t key = 0;
    int64_t count = 0;
    enum armdb_rc rc = armdb_begin(session, err);

    if (rc != ARMDB_OK)
        return rc;
    armdb_expect_write(session);
    rc = read_balance(cursor, key, &count, err);
    count++;
    if (rc == ARMDB_OK)
        rc = armdb_put(session, table, &key, sizeof key, &count, sizeof count, err);
    if (rc == ARMDB_OK)
        rc = armdb_commit(session, err);
    return rc;
}

static void count_up(void *arg)
{
    struct worker *worker = arg;
    struct bank *bank = worker->bank;
    struct armdb_session *session = NULL;
    struct armdb_table *table = NULL;
    struct armdb_cursor *cursor = NULL;
    struct armdb_error err = {ARMDB_OK, 0, ""};

    if (armdb_session_open(bank->store, &session, &err) != ARMDB_OK ||
        armdb_table_open(session, "bank", NULL, &table, &err) != ARMDB_OK ||
        armdb_cursor_open(session, table, &cursor, &err) != ARMDB_OK)
        complain(bank, "setup", err.text);
    for (int done = 0; done < COUNTER_STEPS && atomic_load(&bank->wrong) == 0;) {
        enum armdb_rc rc = increment(session, table, cursor, &err);

        done += rc == ARMDB_OK;
        if (rc == ARMDB_BUSY && armdb_wait(session, 1000) != ARMDB_OK)
            complain(bank, "wait", "nobody let go of the key");
        if (rc != ARMDB_OK &&
            rc != ARMDB_BUSY) /* ARMDB_BUSY_SNAPSHOT, too: nothing was read before */
            complain(bank, "increment", err.text);
        if (rc != ARMDB_OK && armdb_rollback(session, &err) != ARMDB_OK)
            complain(bank, "rollback", err.text);
    }
    armdb_cursor_close(cursor);
    armdb_table_close(table);
    armdb_session_close(session);
}

static void no_increment_is_lost(void **state)
{
    struct adb_thread threads[COUNTER_THREADS];
    struct worker worker;
    struct bank bank;
    struct armdb_session *session;
    struct armdb_table *table;
    struct armdb_cursor *cursor;
    struct armdb_error err;
    int64_t count = 0;

    (void)state;
    open_bank(&bank, ":memory:");
    worker.bank = &bank;
    for (int i = 0; i < COUNTER_THREADS; i++)
        assert_int_equal(adb_thread_start(&threads[i], count_up, &worker), ARMDB_OK);
    for (int i = 0; i < COUNTER_THREADS; i++)
        adb_thread_join(&threads[i]);
    assert_int_equal(bank.wrong, 0);
    assert_int_equal(armdb_session_open(bank.store, &session, &err), ARMDB_OK);
    assert_int_equal(armdb_table_open(session, "bank", NULL, &table, &err), ARMDB_OK);
    assert_int_equal(armdb_cursor_open(session, table, &cursor, &err), ARMDB_OK);
    assert_int_equal(read_balance(cursor, 0, &count, &err), ARMDB_OK);
    assert_int_equal(count, START + COUNTER_THREADS * COUNTER_STEPS);
    armdb_cursor_close(cursor);
    armdb_table_close(table);
    armdb_session_close(session);
    armdb_close(bank.store);
}

static void every_sum_is_right_in_a_memory_store(void **state)
{
    struct bank bank;

    (void)state;
    open_bank(&bank, ":memory:");
    run_bank(&bank, choose_seed());
    armdb_close(bank.store);
}

static void every_sum_is_right_on_disk_and_after_reopening(void **state)
{
    char folder[256];
    char command[300];
    struct armdb_options options;
    struct armdb_session *session;
    struct armdb_table *table;
    struct armdb_cursor *cursor;
    struct armdb_error err;
    struct bank bank;
    int rows;

    (void)state;
    (void)snprintf(folder, sizeof folder, "%s/armdb_test_bank_XXXXXX",
                   getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(folder));
    open_bank(&bank, folder);
    run_bank(&bank, choose_seed());
    armdb_close(bank.store);

    armdb_options_init(&options);
    assert_int_equal(armdb_open(folder, &options, &bank.store, &err), ARMDB_OK);
    assert_int_equal(armdb_session_open(bank.store, &session, &err), ARMDB_OK);
    assert_int_equal(armdb_table_open(session, "bank", NULL, &table, &err), ARMDB_OK);
    assert_int_equal(armdb_cursor_open(session, table, &cursor, &err), ARMDB_OK);
    assert_int_equal(sum_accounts(cursor, false, &rows, &err), (int64_t)ACCOUNTS * START);
    assert_int_equal(rows, ACCOUNTS);
    armdb_cursor_close(cursor);
    armdb_table_close(table);
    armdb_session_close(session);
    armdb_close(bank.store);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_increment_is_lost),
        cmocka_unit_test(every_sum_is_right_in_a_memory_store),
        cmocka_unit_test(every_sum_is_right_on_disk_and_after_reopening),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

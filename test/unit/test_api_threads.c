/* Changes in one step from many threads: nothing is lost, nothing is half done, write
 * hooks are told of each in the order of the commits; snapshots that threads share. */
#include "test/unit/api_fixture.h"

#include <stdatomic.h>
#include <string.h>

#include "engine/base/thread.h"

enum { THREADS = 4, ROUNDS = 1200, COUNTERS = 3, ACCOUNTS = 20, EACH = 100 };

struct worker {
    struct armdb *store;
    unsigned number;
    int failed; /* 0, or which check did */
    uint64_t done;
    uint64_t met; /* swaps that came too late */
    const struct armdb_snapshot *snapshot;
    struct api own; /* this thread's session */
    struct armdb_error err;
};

static bool join_store(struct worker *w)
{
    memset(&w->own, 0, sizeof w->own);
    if (armdb_session_open(w->store, &w->own.session, &w->err) != ARMDB_OK ||
        armdb_table_open(w->own.session, "t", NULL, &w->own.table, &w->err) != ARMDB_OK)
        w->failed = 1;
    else
        armdb_session_set_wait(w->own.session, 60000);
    return w->failed == 0;
}

static void leave_store(struct worker *w)
{
    armdb_table_close(w->own.table);
    armdb_session_close(w->own.session);
}

/* Runs `work` on all threads and expects that none failed. */
static void run_workers(const struct api *f, struct worker *workers, void (*work)(void *))
{
    struct adb_thread threads[THREADS];

    for (unsigned i = 0; i < THREADS; i++) {
        workers[i].store = f->store;
        workers[i].number = i;
        OK(adb_thread_start(&threads[i], work, &workers[i]));
    }
    for (unsigned i = 0; i < THREADS; i++)
        adb_thread_join(&threads[i]);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(workers[i].failed, 0);
}

static uint64_t number_in(struct api *f, const char *key, size_t key_len)
{
    struct armdb_value value;
    uint64_t number;

    OK(armdb_get(f->session, f->table, key, key_len, &value, &api_err));
    assert_int_equal(value.len, sizeof number);
    memcpy(&number, value.data, sizeof number);
    armdb_value_release(&value);
    return number;
}

/* ---- Counters --------------------------------------------------------------------- */

static enum armdb_verdict add_one(void *arg, const void *value, size_t value_len,
                                  const void **fresh, size_t *fresh_len)
{
    uint64_t *number = arg;

    *number = 0;
    if (value != NULL && value_len == sizeof *number)
        memcpy(number, value, sizeof *number);
    ++*number;
    *fresh = number;
    *fresh_len = sizeof *number;
    return ARMDB_UPDATE;
}

/* The rows are not there at first: that, too, only one can be first at. */
static void count_up(void *arg)
{
    struct worker *w = arg;
    uint64_t number;

    if (join_store(w))
        for (unsigned i = 0; i < ROUNDS && w->failed == 0; i++) {
            char key = (char)('a' + (i + w->number) % COUNTERS);

            if (armdb_modify(w->own.session, w->own.table, &key, 1, add_one, &number,
                             &w->err) != ARMDB_OK)
                w->failed = 2;
        }
    leave_store(w);
}

struct told {
    uint64_t last[256];
    uint64_t calls;
    uint64_t last_commit;
    int disorder;
};

/* Each counter goes up by one from call to call. */
static void hear(void *arg, struct armdb_change *change)
{
    struct told *told = arg;
    const unsigned char *key = change->key;
    struct armdb_value value;
    struct armdb_error ignored;
    uint64_t number = 0;

    if (change->key_len != 1 || change->commit <= told->last_commit ||
        armdb_change_value(change, &value, &ignored) != ARMDB_OK ||
        value.len != sizeof number) {
        told->disorder++;
        return;
    }
    memcpy(&number, value.data, sizeof number);
    if (number != told->last[key[0]] + 1 ||
        (change->kind == ARMDB_CHANGE_INSERT) != (number == 1))
        told->disorder++;
    told->last[key[0]] = number;
    told->last_commit = change->commit;
    told->calls++;
}

static void no_increment_is_lost_and_hooks_hear_each_in_order(void **state)
{
    struct api f;
    struct worker workers[THREADS] = {{.failed = 0}};
    struct told told = {.calls = 0};
    struct armdb_table *tables[1];
    struct armdb_hook_options options = {
        .tables = tables, .table_count = 1, .call = hear, .arg = &told};
    struct armdb_hook *hook;
    uint64_t sum = 0;

    (void)state;
    api_open(&f);
    tables[0] = f.table;
    OK(armdb_hook_add(f.store, &options, &hook, &api_err));
    run_workers(&f, workers, count_up);
    for (int i = 0; i < COUNTERS; i++) {
        char key = (char)('a' + i);

        sum += number_in(&f, &key, 1);
    }
    assert_int_equal(sum, THREADS * ROUNDS);
    assert_int_equal(told.disorder, 0);
    assert_int_equal(told.calls, THREADS * ROUNDS);
    OK(armdb_hook_remove(hook));
    api_close(&f);
}

/* ---- Compare-and-swap ---------------------------------------------------------------
 */

/* Reads, then swaps what was read for one more; again when another was first. */
static void swap_up(void *arg)
{
    struct worker *w = arg;

    if (join_store(w))
        while (w->done < ROUNDS && w->failed == 0) {
            struct armdb_value old = {.data = NULL};
            uint64_t number = 0;
            enum armdb_rc rc =
                armdb_get(w->own.session, w->own.table, "n", 1, &old, &w->err);

            if (rc == ARMDB_OK)
                memcpy(&number, old.data, sizeof number);
            number++;
            if (rc >= 0)
                rc = armdb_cas(w->own.session, w->own.table, "n", 1, old.data, old.len,
                               &number, sizeof number, &w->err);
            armdb_value_release(&old);
            if (rc == ARMDB_OK)
                w->done++;
            else if (rc == ARMDB_MISMATCH)
                w->met++;
            else
                w->failed = 3;
        }
    leave_store(w);
}

static void each_swap_that_matched_counts_once(void **state)
{
    struct api f;
    struct worker workers[THREADS] = {{.failed = 0}};

    (void)state;
    api_open(&f);
    run_workers(&f, workers, swap_up);
    assert_int_equal(number_in(&f, "n", 1), THREADS * ROUNDS);
    api_close(&f);
}

/* Who gets the lock writes its own number; who has it gives it back by deleting. */
static void lock_and_unlock(void *arg)
{
    struct worker *w = arg;
    static _Atomic int inside;

    if (join_store(w))
        while (w->done < ROUNDS / 4 && w->failed == 0) {
            enum armdb_rc rc = armdb_cas(w->own.session, w->own.table, "lock", 4, NULL, 0,
                                         &w->number, sizeof w->number, &w->err);

            if (rc == ARMDB_MISMATCH)
                continue;
            if (rc != ARMDB_OK || atomic_fetch_add(&inside, 1) != 0)
                w->failed = 4;
            w->done++;
            (void)atomic_fetch_sub(&inside, 1);
            rc = armdb_cas(w->own.session, w->own.table, "lock", 4, &w->number,
                           sizeof w->number, NULL, 0, &w->err);
            if (rc != ARMDB_OK)
                w->failed = 5;
        }
    leave_store(w);
}

static void a_row_that_comes_and_goes_is_a_lock(void **state)
{
    struct api f;
    struct worker workers[THREADS] = {{.failed = 0}};

    (void)state;
    api_open(&f);
    run_workers(&f, workers, lock_and_unlock);
    api_assert_row(&f, "lock", NULL);
    assert_int_equal(armdb_count(f.table), 0);
    api_close(&f);
}

/* ---- Batches ------------------------------------------------------------------------
 */

/* Batches that put a number into all rows, in any order: all rows agree at all times. */
static void put_everywhere(void *arg)
{
    struct worker *w = arg;
    struct armdb_op ops[ACCOUNTS];
    unsigned char keys[ACCOUNTS];

    if (join_store(w))
        for (unsigned round = 0; round < ROUNDS / 4 && w->failed == 0; round++) {
            uint64_t number = round * THREADS + w->number;

            for (unsigned i = 0; i < ACCOUNTS; i++) {
                /* Half of the threads go backwards: cycles of waiters come about. */
                keys[i] = (unsigned char)(w->number % 2 == 0 ? i : ACCOUNTS - 1 - i);
                ops[i] = (struct armdb_op){.kind = ARMDB_OP_PUT,
                                           .table = w->own.table,
                                           .key = &keys[i],
                                           .key_len = 1,
                                           .value = &number,
                                           .value_len = sizeof number};
            }
            if (armdb_batch(w->own.session, ops, ACCOUNTS, NULL, &w->err) != ARMDB_OK)
                w->failed = 6;
        }
    leave_store(w);
}

/* All rows as one moment shows them; false when they differ. */
static bool rows_agree(struct worker *w)
{
    struct armdb_cursor *cursor = NULL;
    struct armdb_range all = {.low_bound = ARMDB_BOUND_OPEN};
    uint64_t first = 0;
    uint64_t rows = 0;
    enum armdb_rc rc = armdb_cursor_open(w->own.session, w->own.table, &cursor, &w->err);
    bool agree = rc == ARMDB_OK;

    for (rc = agree ? armdb_cursor_seek_range(cursor, &all, &w->err) : rc;
         rc == ARMDB_OK && agree; rc = armdb_cursor_next(cursor, &w->err)) {
        struct armdb_value value;
        uint64_t number;

        if (armdb_cursor_value(cursor, &value, &w->err) != ARMDB_OK)
            agree = false;
        if (agree) {
            memcpy(&number, value.data, sizeof number);
            first = rows == 0 ? number : first;
            agree = number == first;
        }
        rows++;
    }
    armdb_cursor_close(cursor);
    return agree && rc == ARMDB_DONE && (rows == 0 || rows == ACCOUNTS);
}

static void write_or_look(void *arg)
{
    struct worker *w = arg;

    if (w->number < THREADS - 1) {
        put_everywhere(w);
        return;
    }
    if (join_store(w))
        for (unsigned i = 0; i < ROUNDS && w->failed == 0; i++)
            if (!rows_agree(w))
                w->failed = 7;
    leave_store(w);
}

static void batches_are_seen_whole_and_never_lock_up(void **state)
{
    struct api f;
    struct worker workers[THREADS] = {{.failed = 0}};

    (void)state;
    api_open(&f);
    run_workers(&f, workers, write_or_look);
    assert_int_equal(armdb_count(f.table), ACCOUNTS);
    api_close(&f);
}

/* ---- A bank of steps inside transactions ----------------------------------------------
 */

struct transfer {
    int64_t by;
    int64_t balance;
};

static enum armdb_verdict move_money(void *arg, const void *value, size_t value_len,
                                     const void **fresh, size_t *fresh_len)
{
    struct transfer *transfer = arg;

    memcpy(&transfer->balance, value, value_len);
    transfer->balance += transfer->by;
    *fresh = &transfer->balance;
    *fresh_len = sizeof transfer->balance;
    return ARMDB_UPDATE;
}

static void transfer_money(void *arg)
{
    struct worker *w = arg;
    uint32_t random = 12345 + w->number;

    if (!join_store(w))
        goto out;
    while (w->done < ROUNDS / 2 && w->failed == 0) {
        unsigned char from;
        unsigned char to;
        struct transfer out = {.by = -1};
        struct transfer in = {.by = 1};
        enum armdb_rc rc;

        random = random * 1664525 + 1013904223;
        from = (unsigned char)(random >> 16) % ACCOUNTS;
        to = (unsigned char)((from + 1 + (random >> 24) % (ACCOUNTS - 1)) % ACCOUNTS);
        rc = armdb_begin(w->own.session, &w->err);
        if (rc == ARMDB_OK)
            rc = armdb_modify(w->own.session, w->own.table, &from, 1, move_money, &out,
                              &w->err);
        if (rc == ARMDB_OK)
            rc = armdb_modify(w->own.session, w->own.table, &to, 1, move_money, &in,
                              &w->err);
        if (rc == ARMDB_OK)
            rc = armdb_commit(w->own.session, &w->err);
        if (rc == ARMDB_OK)
            w->done++;
        else if (armdb_rollback(w->own.session, &w->err) != ARMDB_OK)
            w->failed = 8;
        if (rc < 0 && rc != ARMDB_BUSY && rc != ARMDB_BUSY_SNAPSHOT)
            w->failed = 9;
    }
out:
    leave_store(w);
}

static void money_moved_by_two_steps_of_a_transaction_stays_the_same(void **state)
{
    struct api f;
    struct worker workers[THREADS] = {{.failed = 0}};
    int64_t balance = EACH;
    int64_t sum = 0;

    (void)state;
    api_open(&f);
    for (unsigned char i = 0; i < ACCOUNTS; i++)
        OK(armdb_put(f.session, f.table, &i, 1, &balance, sizeof balance, &api_err));
    OK(armdb_commit(f.session, &api_err));
    run_workers(&f, workers, transfer_money);
    for (unsigned char i = 0; i < ACCOUNTS; i++)
        sum += (int64_t)number_in(&f, (const char *)&i, 1);
    assert_int_equal(sum, ACCOUNTS * EACH);
    api_close(&f);
}

/* ---- Snapshots ----------------------------------------------------------------------
 */

/* One writes on, the others read the shared moment again and again. */
static void read_the_moment(void *arg)
{
    struct worker *w = arg;
    uint64_t number;

    if (!join_store(w))
        goto out;
    for (unsigned i = 0; i < ROUNDS && w->failed == 0; i++) {
        uint64_t count = 0;
        struct armdb_value value;

        if (w->number == 0) {
            char key = (char)('a' + i % COUNTERS);

            if (armdb_modify(w->own.session, w->own.table, &key, 1, add_one, &number,
                             &w->err) != ARMDB_OK)
                w->failed = 10;
            continue;
        }
        if (armdb_snapshot_use(w->own.session, w->snapshot, &w->err) != ARMDB_OK ||
            armdb_range_count(w->own.session, w->own.table, NULL, NULL, &count,
                              &w->err) != ARMDB_OK ||
            armdb_get(w->own.session, w->own.table, "a", 1, &value, &w->err) != ARMDB_OK)
            w->failed = 11;
        if (w->failed == 0) {
            memcpy(&number, value.data, sizeof number);
            armdb_value_release(&value);
            armdb_snapshot_release(w->own.session);
            if (count != 1 || number != 1)
                w->failed = 12;
        }
    }
out:
    leave_store(w);
}

static void threads_share_a_moment_while_others_write(void **state)
{
    struct api f;
    struct worker workers[THREADS] = {{.failed = 0}};
    struct armdb_snapshot *snapshot;
    uint64_t number;

    (void)state;
    api_open(&f);
    OK(armdb_modify(f.session, f.table, "a", 1, add_one, &number, &api_err));
    OK(armdb_snapshot_open(f.session, &snapshot, &api_err));
    for (int i = 0; i < THREADS; i++)
        workers[i].snapshot = snapshot;
    run_workers(&f, workers, read_the_moment);
    armdb_snapshot_close(snapshot);
    assert_true(number_in(&f, "a", 1) > 1);
    api_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_increment_is_lost_and_hooks_hear_each_in_order),
        cmocka_unit_test(each_swap_that_matched_counts_once),
        cmocka_unit_test(a_row_that_comes_and_goes_is_a_lock),
        cmocka_unit_test(batches_are_seen_whole_and_never_lock_up),
        cmocka_unit_test(money_moved_by_two_steps_of_a_transaction_stays_the_same),
        cmocka_unit_test(threads_share_a_moment_while_others_write),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Backups while writers go on: every copy is opened and is one moment of the bank. Money
 * moves between accounts, so the sum is the same at every moment; each writer counts its
 * transactions in a row of its own, in the same transaction, so that a copy holds at
 * least what was acknowledged before the backup began and nothing begun after it ended.
 * Built for ThreadSanitizer as well. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/armdb.h"
#include "engine/base/thread.h"

enum {
    ACCOUNTS = 64,
    WRITERS = 4,
    COPIERS = 2,
    COPIES = 6,
    START = 1000,
    PADDING = 250
};

struct bank {
    char folder[200];
    struct armdb *store;
    _Atomic int wrong;
    _Atomic int stop;
    _Atomic uint64_t begun[WRITERS]; /* transactions a writer has begun */
    _Atomic uint64_t acked[WRITERS]; /* and those that were acknowledged */
    _Atomic uint64_t opened;
};

struct worker {
    struct bank *bank;
    uint32_t number;
    uint64_t random;
    enum armdb_sync sync;
};

struct row {
    int64_t amount;
    char padding[PADDING]; /* so that segments fill and are sealed */
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

static enum armdb_rc read_row(struct armdb_cursor *cursor, uint32_t key, int64_t *amount,
                              struct armdb_error *err)
{
    struct armdb_value value;
    enum armdb_rc rc = armdb_cursor_seek_key(cursor, &key, sizeof key, err);

    if (rc == ARMDB_OK)
        rc = armdb_cursor_value(cursor, &value, err);
    if (rc == ARMDB_OK)
        memcpy(amount, value.data, sizeof *amount);
    armdb_cursor_reset(cursor);
    return rc;
}

static enum armdb_rc write_amount(struct armdb_session *session,
                                  struct armdb_table *table, uint32_t key, int64_t amount,
                                  struct armdb_error *err)
{
    struct row row = {.amount = amount};

    return armdb_put(session, table, &key, sizeof key, &row, sizeof row, err);
}

/* Moves an amount and counts the move as the writer's `count`-th. */
static enum armdb_rc try_move(struct worker *worker, struct armdb_session *session,
                              struct armdb_table *table, struct armdb_cursor *cursor,
                              uint64_t count, struct armdb_error *err)
{
    uint32_t from = (uint32_t)(next_random(&worker->random) % ACCOUNTS);
    uint32_t to =
        (from + 1 + (uint32_t)(next_random(&worker->random) % (ACCOUNTS - 1))) % ACCOUNTS;
    int64_t amount = (int64_t)(next_random(&worker->random) % 100);
    int64_t a = 0;
    int64_t b = 0;
    enum armdb_rc rc = armdb_begin(session, err);

    if (rc == ARMDB_OK)
        rc = armdb_snapshot_acquire(session, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = read_row(cursor, from, &a, err);
    if (rc == ARMDB_OK)
        rc = read_row(cursor, to, &b, err);
    if (rc == ARMDB_OK)
        rc = write_amount(session, table, from, a - amount, err);
    if (rc == ARMDB_OK)
        rc = write_amount(session, table, to, b + amount, err);
    if (rc == ARMDB_OK)
        rc = write_amount(session, table, ACCOUNTS + worker->number, (int64_t)count, err);
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
    uint64_t count = 1;

    if (armdb_session_open(bank->store, &session, &err) != ARMDB_OK ||
        armdb_table_open(session, "bank", NULL, &table, &err) != ARMDB_OK ||
        armdb_cursor_open(session, table, &cursor, &err) != ARMDB_OK)
        complain(bank, "setup", err.text);
    else
        armdb_table_set_sync(table, worker->sync);
    while (!atomic_load(&bank->stop) && !atomic_load(&bank->wrong)) {
        enum armdb_doubt doubt = count % 3 == 0 ? ARMDB_DOUBT_ABORT : ARMDB_DOUBT_COMMIT;
        struct timespec pause = {0, 1000000}; /* no compaction: the store only grows */
        enum armdb_rc rc;

        (void)nanosleep(&pause, NULL);
        atomic_store(&bank->begun[worker->number], count);
        rc = try_move(worker, session, table, cursor, count, &err);
        if (rc == ARMDB_OK)
            rc = armdb_prepare(session, doubt, &err);
        if (rc == ARMDB_OK && next_random(&worker->random) % 8 == 0)
            rc = ARMDB_MISMATCH; /* changed our mind, on the log already */
        if (rc == ARMDB_OK) {
            rc = armdb_commit(session, &err);
            if (rc == ARMDB_OK)
                atomic_store(&bank->acked[worker->number], count++);
        }
        if (rc == ARMDB_BUSY || rc == ARMDB_BUSY_SNAPSHOT || rc == ARMDB_MISMATCH) {
            if (armdb_rollback(session, &err) != ARMDB_OK)
                complain(bank, "rollback", err.text);
            if (rc == ARMDB_BUSY && armdb_wait(session, 100) != ARMDB_OK)
                continue;
        } else if (rc != ARMDB_OK) {
            complain(bank, "move", err.text);
        }
    }
    armdb_cursor_close(cursor);
    armdb_table_close(table);
    armdb_session_close(session);
}

/* Opens a copy and checks it against what was known before and after it was made. */
static void check_copy(struct bank *bank, const char *path, const uint64_t *before,
                       const uint64_t *after)
{
    struct armdb_options options;
    struct armdb *store = NULL;
    struct armdb_session *session = NULL;
    struct armdb_table *table = NULL;
    struct armdb_cursor *cursor = NULL;
    struct armdb_error err = {ARMDB_OK, 0, ""};
    int64_t sum = 0;

    armdb_options_init(&options);
    options.create = false;
    options.cache_size = 4 << 20;
    if (armdb_open(path, &options, &store, &err) != ARMDB_OK) {
        complain(bank, "opening a copy", err.text);
        return;
    }
    if (armdb_session_open(store, &session, &err) != ARMDB_OK ||
        armdb_table_open(session, "bank", NULL, &table, &err) != ARMDB_OK ||
        armdb_cursor_open(session, table, &cursor, &err) != ARMDB_OK)
        complain(bank, "reading a copy", err.text);
    for (uint32_t key = 0; table != NULL && key < ACCOUNTS + WRITERS; key++) {
        int64_t amount = 0;

        if (read_row(cursor, key, &amount, &err) != ARMDB_OK)
            complain(bank, "an account of a copy", err.text);
        if (key < ACCOUNTS)
            sum += amount;
        else if ((uint64_t)amount < before[key - ACCOUNTS] ||
                 (uint64_t)amount > after[key - ACCOUNTS])
            complain(bank, "a copy is of another moment", path);
    }
    if (sum != (int64_t)ACCOUNTS * START)
        complain(bank, "a copy is of no one moment", path);
    atomic_fetch_add(&bank->opened, 1);
    armdb_cursor_close(cursor);
    armdb_table_close(table);
    armdb_session_close(session);
    armdb_close(store);
}

static void make_copies(void *arg)
{
    struct worker *worker = arg;
    struct bank *bank = worker->bank;

    for (int i = 0; i < COPIES && !atomic_load(&bank->wrong); i++) {
        struct armdb_backup_info info;
        struct armdb_error err = {ARMDB_OK, 0, ""};
        uint64_t before[WRITERS];
        uint64_t after[WRITERS];
        char path[256];
        struct timespec pause = {0, 30000000};
        enum armdb_rc rc;

        (void)nanosleep(&pause, NULL);
        (void)snprintf(path, sizeof path, "%s/copy-%u-%d", bank->folder, worker->number,
                       i);
        for (int w = 0; w < WRITERS; w++)
            before[w] = atomic_load(&bank->acked[w]);
        rc = armdb_backup(bank->store, path, NULL, &info, &err);
        for (int w = 0; w < WRITERS; w++)
            after[w] = atomic_load(&bank->begun[w]);
        if (rc != ARMDB_OK)
            complain(bank, "backup", err.text);
        else
            check_copy(bank, path, before, after);
    }
}

static void open_bank(struct bank *bank, const char *path)
{
    struct armdb_options options;
    struct armdb_session *session;
    struct armdb_table *table;
    struct armdb_error err = {ARMDB_OK, 0, ""};

    armdb_options_init(&options);
    options.segment_size = 1 << 20;
    assert_int_equal(armdb_open(path, &options, &bank->store, &err), ARMDB_OK);
    assert_int_equal(armdb_session_open(bank->store, &session, &err), ARMDB_OK);
    assert_int_equal(armdb_table_create(session, "bank", "", 0, &table, &err), ARMDB_OK);
    for (uint32_t key = 0; key < ACCOUNTS + WRITERS; key++)
        assert_int_equal(
            write_amount(session, table, key, key < ACCOUNTS ? START : 0, &err),
            ARMDB_OK);
    assert_int_equal(armdb_commit(session, &err), ARMDB_OK);
    armdb_table_close(table);
    armdb_session_close(session);
}

static void run_bank(bool memory)
{
    struct bank bank;
    struct worker workers[WRITERS + COPIERS];
    struct adb_thread threads[WRITERS + COPIERS];
    char path[256];
    char command[300];

    memset(&bank, 0, sizeof bank);
    (void)snprintf(bank.folder, sizeof bank.folder, "%s/armdb_test_backups_XXXXXX",
                   getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
    assert_non_null(mkdtemp(bank.folder));
    (void)snprintf(path, sizeof path, "%s/store", bank.folder);
    open_bank(&bank, memory ? ":memory:" : path);
    for (uint32_t i = 0; i < WRITERS + COPIERS; i++) {
        workers[i].bank = &bank;
        workers[i].number = i;
        workers[i].random = UINT64_C(0x9E3779B97F4A7C15) * (i + 1);
        workers[i].sync = i % 2 == 0 ? ARMDB_SYNC_FULL : ARMDB_SYNC_NORMAL;
        assert_int_equal(adb_thread_start(&threads[i],
                                          i < WRITERS ? move_money : make_copies,
                                          &workers[i]),
                         ARMDB_OK);
    }
    for (int i = WRITERS; i < WRITERS + COPIERS; i++)
        adb_thread_join(&threads[i]);
    atomic_store(&bank.stop, 1);
    for (int i = 0; i < WRITERS; i++)
        adb_thread_join(&threads[i]);
    armdb_close(bank.store);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", bank.folder);
    assert_int_equal(system(command), 0);
    assert_int_equal(bank.wrong, 0);
    assert_int_equal(bank.opened, COPIERS * COPIES);
}

static void every_copy_of_a_store_on_disk_is_one_moment(void **state)
{
    (void)state;
    run_bank(false);
}

static void every_copy_of_a_store_in_memory_is_one_moment(void **state)
{
    (void)state;
    run_bank(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_copy_of_a_store_on_disk_is_one_moment),
        cmocka_unit_test(every_copy_of_a_store_in_memory_is_one_moment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

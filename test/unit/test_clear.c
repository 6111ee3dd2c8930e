/* Clearing a table: one write of the catalogue, so it commits, rolls back and is read by
 * snapshots like any other; it meets writers as a row does; bytes and memory come back.
 */
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

enum { ROWS = 3000, VALUE = 200 };

static char folder[200];
static struct armdb_error err;

#define OK(call) assert_int_equal((call), ARMDB_OK)

static int make_folder(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)state;
    (void)snprintf(folder, sizeof folder, "%s/armdb_test_clear_XXXXXX",
                   tmp != NULL ? tmp : "/tmp");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    char command[300];

    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) != 0;
}

struct user {
    struct armdb *store;
    struct armdb_session *session;
    struct armdb_table *table;
};

static void open_store(struct armdb **store, const char *path)
{
    struct armdb_options options;

    armdb_options_init(&options);
    options.segment_size = 1 << 20;
    OK(armdb_open(path, &options, store, &err));
}

static void open_user(struct user *u, struct armdb *store)
{
    u->store = store;
    OK(armdb_session_open(store, &u->session, &err));
    if (armdb_table_open(u->session, "t", NULL, &u->table, &err) == ARMDB_NOT_FOUND) {
        OK(armdb_table_create(u->session, "t", "schema", 6, &u->table, &err));
        OK(armdb_commit(u->session, &err));
    }
}

static void close_user(struct user *u)
{
    armdb_table_close(u->table);
    armdb_session_close(u->session);
}

static enum armdb_rc put(struct user *u, uint32_t key, char letter)
{
    char value[VALUE];

    memset(value, letter, sizeof value);
    return armdb_put(u->session, u->table, &key, sizeof key, value, sizeof value, &err);
}

static void fill(struct user *u, uint32_t from, uint32_t to, char letter)
{
    for (uint32_t i = from; i < to; i++)
        OK(put(u, i, letter));
    OK(armdb_commit(u->session, &err));
}

/* Rows that a scan of the session finds; each is filled with `letter`. */
static uint32_t rows(struct user *u, char letter)
{
    struct armdb_cursor *cursor;
    struct armdb_range all = {.low_bound = ARMDB_BOUND_OPEN};
    uint32_t found = 0;
    enum armdb_rc rc;

    armdb_statement_begin(u->session);
    OK(armdb_cursor_open(u->session, u->table, &cursor, &err));
    rc = armdb_cursor_seek_range(cursor, &all, &err);
    for (; rc == ARMDB_OK; rc = armdb_cursor_next(cursor, &err)) {
        struct armdb_value value;

        OK(armdb_cursor_value(cursor, &value, &err));
        assert_int_equal(((const char *)value.data)[VALUE - 1], letter);
        found++;
    }
    assert_int_equal(rc, ARMDB_DONE);
    armdb_cursor_close(cursor);
    return found;
}

static enum armdb_rc clear(struct user *u)
{
    return armdb_table_clear(u->session, u->table, &err);
}

static void find_number(void *arg, const struct armdb_stat *row)
{
    uint64_t *live = arg;

    if (strcmp(row->name, "bytes_live") == 0)
        *live = row->value;
}

static uint64_t live_bytes(struct user *u)
{
    uint64_t live = UINT64_MAX;

    armdb_stat_each(u->table, find_number, &live);
    return live;
}

/* Waits until what was cleared counts as dead. */
static void expect_live_below(struct user *u, uint64_t bytes)
{
    struct timespec pause = {0, 10000000};

    for (int i = 0; i < 500 && live_bytes(u) >= bytes; i++)
        (void)nanosleep(&pause, NULL);
    assert_true(live_bytes(u) < bytes);
}

/* ---- One session ---- */

static void a_cleared_table_is_empty_for_everybody_and_stays_so(void **state)
{
    struct armdb *store;
    struct user u;
    struct user other;

    (void)state;
    open_store(&store, folder);
    open_user(&u, store);
    open_user(&other, store);
    fill(&u, 0, ROWS, 'a');
    assert_int_equal(rows(&other, 'a'), ROWS);
    OK(clear(&u));
    assert_int_equal(rows(&u, 'a'), 0);
    assert_int_equal(rows(&other, 'a'), ROWS); /* not committed */
    assert_int_equal(armdb_count(other.table), ROWS);
    OK(armdb_commit(u.session, &err));
    assert_int_equal(rows(&u, 'a'), 0);
    assert_int_equal(rows(&other, 'a'), 0);
    assert_int_equal(armdb_count(u.table), 0);
    assert_int_equal(armdb_count(other.table), 0);
    expect_live_below(&u, 1000);
    fill(&other, 0, 10, 'b');
    assert_int_equal(rows(&u, 'b'), 10);
    close_user(&other);
    close_user(&u);
    armdb_close(store);
    for (int round = 0; round < 2; round++) {
        open_store(&store, folder);
        open_user(&u, store);
        assert_int_equal(rows(&u, 'b'), 10);
        assert_int_equal(armdb_count(u.table), 10);
        assert_true(live_bytes(&u) < 10000); /* right after reopening, too */
        close_user(&u);
        armdb_close(store);
    }
}

static void a_rollback_brings_the_rows_back(void **state)
{
    struct armdb *store;
    struct user u;
    struct user other;

    (void)state;
    open_store(&store, folder);
    open_user(&u, store);
    open_user(&other, store);
    fill(&u, 0, 100, 'a');
    for (int prepared = 0; prepared <= 1; prepared++) {
        OK(put(&u, 500, 'a'));
        OK(clear(&u));
        OK(put(&u, 1, 'b'));
        OK(clear(&u)); /* twice */
        OK(put(&u, 2, 'c'));
        assert_int_equal(rows(&u, 'c'), 1);
        if (prepared)
            OK(armdb_prepare(u.session, ARMDB_DOUBT_COMMIT, &err));
        OK(armdb_rollback(u.session, &err));
        assert_int_equal(rows(&u, 'a'), 100);
        assert_int_equal(armdb_count(u.table), 100);
    }
    fill(&other, 100, 101, 'a'); /* the table is free again */
    assert_int_equal(rows(&u, 'a'), 101);
    close_user(&u);
    close_user(&other);
    armdb_close(store);
}

static void a_rollback_to_a_savepoint_brings_the_rows_back(void **state)
{
    struct armdb *store;
    struct user u;
    struct armdb_cursor *cursor;
    struct armdb_range all = {.low_bound = ARMDB_BOUND_OPEN};

    (void)state;
    open_store(&store, folder);
    open_user(&u, store);
    fill(&u, 0, 100, 'a');
    OK(put(&u, 100, 'a'));
    OK(armdb_savepoint(u.session, 1, &err));
    OK(clear(&u));
    OK(put(&u, 0, 'b'));
    OK(put(&u, 1, 'b'));
    armdb_statement_begin(u.session);
    OK(armdb_cursor_open(u.session, u.table, &cursor, &err));
    OK(armdb_cursor_seek_range(cursor, &all, &err));
    OK(armdb_savepoint(u.session, 2, &err));
    OK(clear(&u));
    assert_int_equal(rows(&u, '-'), 0);
    OK(armdb_savepoint_rollback(u.session, 2, &err));
    assert_int_equal(rows(&u, 'b'), 2);
    OK(armdb_savepoint_rollback(u.session, 1, &err));
    assert_int_equal(rows(&u, 'a'), 101);
    armdb_cursor_close(cursor); /* it stood on rows that came to nothing */
    OK(clear(&u));
    OK(armdb_commit(u.session, &err));
    assert_int_equal(rows(&u, 'a'), 0);
    close_user(&u);
    armdb_close(store);
}

static void an_older_snapshot_reads_the_old_rows(void **state)
{
    struct armdb *store;
    struct user u;
    struct user reader;
    struct armdb_cursor *cursor;
    struct armdb_range all = {.low_bound = ARMDB_BOUND_OPEN};
    uint32_t found = 1;
    enum armdb_rc rc;

    (void)state;
    open_store(&store, ":memory:");
    open_user(&u, store);
    open_user(&reader, store);
    fill(&u, 0, ROWS, 'a');
    OK(armdb_snapshot_acquire(reader.session, &err));
    OK(armdb_cursor_open(reader.session, reader.table, &cursor, &err));
    OK(armdb_cursor_seek_range(cursor, &all, &err));
    OK(clear(&u));
    OK(armdb_commit(u.session, &err));
    fill(&u, 0, 10, 'b');
    OK(clear(&u));
    OK(armdb_commit(u.session, &err));
    fill(&u, 0, 20, 'c');
    while ((rc = armdb_cursor_next(cursor, &err)) == ARMDB_OK) {
        struct armdb_value value;

        OK(armdb_cursor_value(cursor, &value, &err));
        assert_int_equal(((const char *)value.data)[0], 'a');
        found++;
    }
    assert_int_equal(rc, ARMDB_DONE);
    assert_int_equal(found, ROWS);
    armdb_cursor_close(cursor);
    assert_int_equal(rows(&reader, 'a'), ROWS);
    assert_true(live_bytes(&u) > ROWS * VALUE);
    assert_int_equal(put(&reader, 1, 'x'), ARMDB_BUSY_SNAPSHOT);
    OK(armdb_rollback(reader.session, &err));
    armdb_snapshot_release(reader.session);
    assert_int_equal(rows(&reader, 'c'), 20);
    expect_live_below(&u, 30 * (VALUE + 60));
    close_user(&u);
    close_user(&reader);
    armdb_close(store);
}

/* ---- Meeting writers ---- */

static void clear_and_other_writers_do_not_pass_each_other(void **state)
{
    struct armdb *store;
    struct user u;
    struct user other;

    (void)state;
    open_store(&store, ":memory:");
    open_user(&u, store);
    open_user(&other, store);
    fill(&u, 0, 100, 'a');
    OK(put(&other, 5, 'o'));
    assert_int_equal(clear(&u), ARMDB_BUSY); /* who would lose the row written */
    assert_int_equal(armdb_wait(u.session, 0), ARMDB_BUSY);
    OK(armdb_commit(other.session, &err));
    OK(armdb_wait(u.session, 0));
    OK(clear(&u));
    assert_int_equal(put(&other, 6, 'o'), ARMDB_BUSY);
    assert_int_equal(clear(&other), ARMDB_BUSY);
    OK(armdb_rollback(other.session, &err));
    OK(armdb_commit(u.session, &err));
    OK(put(&other, 6, 'o')); /* autocommit: goes to the new rows */
    OK(armdb_commit(other.session, &err));
    assert_int_equal(rows(&u, 'o'), 1);
    /* What changed after the snapshot was not seen: it may not be cleared away. */
    OK(armdb_snapshot_acquire(u.session, &err));
    assert_int_equal(rows(&u, 'o'), 1);
    fill(&other, 7, 8, 'o');
    assert_int_equal(clear(&u), ARMDB_BUSY_SNAPSHOT);
    OK(armdb_rollback(u.session, &err));
    armdb_snapshot_release(u.session);
    OK(clear(&u));
    OK(armdb_commit(u.session, &err));
    assert_int_equal(rows(&other, 'o'), 0);
    close_user(&u);
    close_user(&other);
    armdb_close(store);
}

/* The last to come as a writer has gone, an earlier one has not: that one is waited for,
 * for as long as was asked, rather than tried for again and again. */
static void clear_waits_for_whoever_writes(void **state)
{
    struct armdb *store;
    struct user u;
    struct user open;
    struct user gone;
    uint64_t began;

    (void)state;
    open_store(&store, ":memory:");
    open_user(&u, store);
    open_user(&open, store);
    open_user(&gone, store);
    OK(put(&open, 1, 'a'));
    fill(&gone, 2, 3, 'a');
    assert_int_equal(clear(&u), ARMDB_BUSY);
    began = adb_mono_ns();
    assert_int_equal(armdb_wait(u.session, 60), ARMDB_BUSY);
    assert_true(adb_mono_ns() - began >= UINT64_C(50000000));
    OK(armdb_rollback(u.session, &err));
    OK(armdb_commit(open.session, &err));
    OK(clear(&u));
    OK(armdb_commit(u.session, &err));
    close_user(&gone);
    close_user(&open);
    close_user(&u);
    armdb_close(store);
}

static void a_table_renamed_by_another_is_found_and_cleared(void **state)
{
    struct armdb *store;
    struct user u;
    struct user other;

    (void)state;
    open_store(&store, folder);
    open_user(&u, store);
    open_user(&other, store);
    fill(&u, 0, 100, 'a');
    OK(armdb_table_rename(other.session, other.table, "renamed", &err));
    OK(armdb_commit(other.session, &err));
    OK(clear(&u));
    OK(armdb_commit(u.session, &err));
    assert_int_equal(rows(&other, 'a'), 0);
    fill(&other, 0, 5, 'b');
    assert_int_equal(rows(&u, 'b'), 5);
    OK(armdb_table_rename(other.session, other.table, "again", &err));
    OK(armdb_commit(other.session, &err));
    close_user(&u);
    close_user(&other);
    armdb_close(store);
    open_store(&store, folder);
    OK(armdb_session_open(store, &u.session, &err));
    OK(armdb_table_open(u.session, "again", NULL, &u.table, &err));
    assert_int_equal(rows(&u, 'b'), 5);
    close_user(&u);
    armdb_close(store);
}

static void a_dropped_table_gives_its_bytes_back_at_once(void **state)
{
    struct armdb *store;
    struct user u;
    struct armdb_table *second;

    (void)state;
    open_store(&store, folder);
    open_user(&u, store);
    OK(armdb_table_create(u.session, "second", "", 0, &second, &err));
    for (uint32_t i = 0; i < ROWS; i++)
        OK(armdb_put(u.session, second, &i, sizeof i, folder, 100, &err));
    OK(armdb_commit(u.session, &err));
    assert_true(live_bytes(&u) > ROWS * 100);
    OK(armdb_table_drop(u.session, second, &err));
    OK(armdb_commit(u.session, &err));
    armdb_table_close(second);
    expect_live_below(&u, 1000);
    close_user(&u);
    armdb_close(store);
}

/* ---- Threads ---- */

enum { WRITERS = 4, ROUNDS = 250, BATCH = 8 };

struct crowd {
    struct armdb *store;
    _Atomic int wrong;
    _Atomic int left;
    _Atomic uint64_t clears;
};

struct member {
    struct crowd *crowd;
    uint32_t number;
};

static void complain(struct crowd *crowd, const char *what, const char *text)
{
    if (atomic_exchange(&crowd->wrong, 1) == 0)
        (void)fprintf(stderr, "%s: %s\n", what, text);
}

/* Writes a batch of rows, all or none, or clears the table; keys are the member's own. */
static enum armdb_rc one_step(struct member *m, struct user *u, int round,
                              struct armdb_error *why)
{
    enum armdb_rc rc = armdb_begin(u->session, why);

    if (rc == ARMDB_OK && round % 7 == 3) {
        rc = armdb_table_clear(u->session, u->table, why);
        if (rc == ARMDB_OK && round % 2 == 0)
            rc = ARMDB_MISMATCH; /* rolled back */
        if (rc == ARMDB_OK)
            atomic_fetch_add(&m->crowd->clears, 1);
    }
    for (uint32_t i = 0; rc == ARMDB_OK && i < BATCH; i++) {
        uint32_t key[2] = {m->number, i};

        rc = armdb_put(u->session, u->table, key, sizeof key, &round, sizeof round, why);
    }
    return rc;
}

static void write_and_clear(void *arg)
{
    struct member *m = arg;
    struct user u = {.store = m->crowd->store};
    struct armdb_error why = {ARMDB_OK, 0, ""};

    if (armdb_session_open(u.store, &u.session, &why) != ARMDB_OK ||
        armdb_table_open(u.session, "t", NULL, &u.table, &why) != ARMDB_OK)
        complain(m->crowd, "setup", why.text);
    else
        armdb_table_set_sync(u.table, ARMDB_SYNC_OFF);
    for (int round = 0; round < ROUNDS && !atomic_load(&m->crowd->wrong); round++) {
        enum armdb_rc rc = one_step(m, &u, round, &why);

        if (rc == ARMDB_OK)
            rc = armdb_commit(u.session, &why);
        if (rc == ARMDB_BUSY || rc == ARMDB_BUSY_SNAPSHOT || rc == ARMDB_MISMATCH) {
            if (armdb_rollback(u.session, &why) != ARMDB_OK)
                complain(m->crowd, "rollback", why.text);
            if (rc == ARMDB_BUSY && armdb_wait(u.session, 5) != ARMDB_OK)
                continue;
        } else if (rc != ARMDB_OK) {
            complain(m->crowd, "step", why.text);
        }
    }
    armdb_table_close(u.table);
    armdb_session_close(u.session);
    atomic_fetch_sub(&m->crowd->left, 1);
}

/* A scan sees each member's batch whole and of one round, or not at all. */
static void check_batches(void *arg)
{
    struct member *m = arg;
    struct user u = {.store = m->crowd->store};
    struct armdb_error why = {ARMDB_OK, 0, ""};
    struct armdb_range all = {.low_bound = ARMDB_BOUND_OPEN};
    struct armdb_cursor *cursor = NULL;

    if (armdb_session_open(u.store, &u.session, &why) != ARMDB_OK ||
        armdb_table_open(u.session, "t", NULL, &u.table, &why) != ARMDB_OK ||
        armdb_cursor_open(u.session, u.table, &cursor, &why) != ARMDB_OK)
        complain(m->crowd, "setup", why.text);
    while (atomic_load(&m->crowd->left) > 0 && !atomic_load(&m->crowd->wrong)) {
        int round[WRITERS];
        int count[WRITERS] = {0};
        enum armdb_rc rc = armdb_cursor_seek_range(cursor, &all, &why);

        for (; rc == ARMDB_OK; rc = armdb_cursor_next(cursor, &why)) {
            struct armdb_value value;
            const void *key;
            size_t len;
            uint32_t who;
            int found;

            armdb_cursor_key(cursor, &key, &len);
            memcpy(&who, key, sizeof who);
            rc = armdb_cursor_value(cursor, &value, &why);
            if (rc != ARMDB_OK)
                break;
            memcpy(&found, value.data, sizeof found);
            if (count[who % WRITERS]++ > 0 && round[who % WRITERS] != found)
                complain(m->crowd, "two rounds in one batch", "");
            round[who % WRITERS] = found;
        }
        if (rc != ARMDB_DONE)
            complain(m->crowd, "scan", why.text);
        for (int i = 0; i < WRITERS; i++)
            if (count[i] != 0 && count[i] != BATCH)
                complain(m->crowd, "half a batch", "");
        (void)armdb_count(u.table);
        armdb_cursor_reset(cursor);
    }
    armdb_cursor_close(cursor);
    armdb_table_close(u.table);
    armdb_session_close(u.session);
}

static void readers_and_writers_go_on_while_tables_are_cleared(void **state)
{
    struct crowd crowd;
    struct member members[WRITERS + 2];
    struct adb_thread threads[WRITERS + 2];
    struct user u;

    (void)state;
    memset(&crowd, 0, sizeof crowd);
    open_store(&crowd.store, ":memory:");
    open_user(&u, crowd.store);
    crowd.left = WRITERS;
    for (uint32_t i = 0; i < WRITERS + 2; i++) {
        members[i].crowd = &crowd;
        members[i].number = i;
        OK(adb_thread_start(&threads[i], i < WRITERS ? write_and_clear : check_batches,
                            &members[i]));
    }
    for (int i = 0; i < WRITERS + 2; i++)
        adb_thread_join(&threads[i]);
    assert_int_equal(crowd.wrong, 0);
    assert_true(crowd.clears > 0);
    OK(clear(&u));
    OK(armdb_commit(u.session, &err));
    expect_live_below(&u, 1000); /* every byte was accounted for */
    close_user(&u);
    armdb_close(crowd.store);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_cleared_table_is_empty_for_everybody_and_stays_so),
        TEST(a_rollback_brings_the_rows_back),
        TEST(a_rollback_to_a_savepoint_brings_the_rows_back),
        TEST(an_older_snapshot_reads_the_old_rows),
        TEST(clear_and_other_writers_do_not_pass_each_other),
        TEST(clear_waits_for_whoever_writes),
        TEST(a_table_renamed_by_another_is_found_and_cleared),
        TEST(a_dropped_table_gives_its_bytes_back_at_once),
        TEST(readers_and_writers_go_on_while_tables_are_cleared),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

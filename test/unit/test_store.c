/* The engine through its public interface: rows, scans, transactions, conflicts,
 * snapshots, reopening. Each store lives in a folder of its own under TMPDIR. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/armdb.h"

static char folder[256];
static struct armdb_error err;

#define OK(call) assert_int_equal((call), ARMDB_OK)

static int make_folder(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)state;
    (void)snprintf(folder, sizeof folder, "%s/armdb_test_store_XXXXXX",
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

struct fixture {
    struct armdb *store;
    struct armdb_session *session;
    struct armdb_table *table;
};

static void open_fixture(struct fixture *f, const char *path)
{
    struct armdb_options options;

    armdb_options_init(&options);
    options.segment_size = 1 << 20;
    OK(armdb_open(path, &options, &f->store, &err));
    OK(armdb_session_open(f->store, &f->session, &err));
    if (armdb_table_open(f->session, "t", NULL, &f->table, &err) == ARMDB_NOT_FOUND) {
        OK(armdb_table_create(f->session, "t", "schema", 6, &f->table, &err));
        OK(armdb_commit(f->session, &err));
    }
}

static void close_fixture(struct fixture *f)
{
    armdb_table_close(f->table);
    armdb_session_close(f->session);
    armdb_close(f->store);
}

static enum armdb_rc put(struct fixture *f, const char *key, const char *value)
{
    return armdb_put(f->session, f->table, key, strlen(key), value, strlen(value), &err);
}

/* The value of a key as text in a static buffer; NULL when absent. */
static const char *get(struct armdb_session *session, struct armdb_table *table,
                       const char *key)
{
    static char text[64];
    struct armdb_cursor *cursor;
    struct armdb_value value;
    enum armdb_rc rc;

    armdb_statement_begin(session);
    OK(armdb_cursor_open(session, table, &cursor, &err));
    rc = armdb_cursor_seek_key(cursor, key, strlen(key), &err);
    if (rc == ARMDB_OK) {
        OK(armdb_cursor_value(cursor, &value, &err));
        assert_true(value.len < sizeof text);
        memcpy(text, value.data, value.len);
        text[value.len] = '\0';
    } else {
        assert_int_equal(rc, ARMDB_DONE);
    }
    armdb_cursor_close(cursor);
    return rc == ARMDB_OK ? text : NULL;
}

/* The same for a long value that begins with text. */
static const char *get_prefix(struct armdb_session *session, struct armdb_table *table,
                              const char *key)
{
    static char text[16];
    struct armdb_cursor *cursor;
    struct armdb_value value;
    enum armdb_rc rc;

    armdb_statement_begin(session);
    OK(armdb_cursor_open(session, table, &cursor, &err));
    rc = armdb_cursor_seek_key(cursor, key, strlen(key), &err);
    if (rc == ARMDB_OK) {
        OK(armdb_cursor_value(cursor, &value, &err));
        assert_int_equal(value.len, 1000);
        memcpy(text, value.data, sizeof text - 1);
    } else {
        assert_int_equal(rc, ARMDB_DONE);
    }
    armdb_cursor_close(cursor);
    return rc == ARMDB_OK ? text : NULL;
}

static void rows_are_found_again_after_reopening(void **state)
{
    struct fixture f;
    char key[32];
    char value[32];

    (void)state;
    open_fixture(&f, folder);
    for (int i = 0; i < 3000; i++) {
        (void)snprintf(key, sizeof key, "key%05d", i * 7 % 3000);
        (void)snprintf(value, sizeof value, "value%d", i * 7 % 3000);
        OK(put(&f, key, value));
        if (i % 100 == 99)
            OK(armdb_commit(f.session, &err));
    }
    OK(armdb_delete(f.session, f.table, "key00007", 8, &err));
    OK(armdb_commit(f.session, &err));
    assert_int_equal(armdb_count(f.table), 2999);
    for (int round = 0; round < 3; round++) {
        close_fixture(&f);
        open_fixture(&f, folder);
        assert_int_equal(armdb_count(f.table), 2999);
        assert_string_equal(get(f.session, f.table, "key00008"), "value8");
        assert_string_equal(get(f.session, f.table, "key02999"), "value2999");
        assert_null(get(f.session, f.table, "key00007"));
    }
    close_fixture(&f);
}

static void keys_deleted_again_and_again_stay_deleted(void **state)
{
    struct fixture f;
    char key[32];

    (void)state;
    open_fixture(&f, folder);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 500; i++) {
            (void)snprintf(key, sizeof key, "key%05d", i);
            OK(put(&f, key, "v"));
            OK(armdb_commit(f.session, &err));
            if (round < 3 || i % 2 == 0) {
                OK(armdb_delete(f.session, f.table, key, strlen(key), &err));
                OK(armdb_commit(f.session, &err));
            }
        }
        close_fixture(&f);
        open_fixture(&f, folder);
        assert_int_equal(armdb_count(f.table), round < 3 ? 0 : 250);
    }
    assert_null(get(f.session, f.table, "key00002"));
    assert_string_equal(get(f.session, f.table, "key00003"), "v");
    close_fixture(&f);
}

static void a_range_gives_rows_in_order_both_ways(void **state)
{
    struct fixture f;
    char key[32];
    struct armdb_cursor *cursor;
    struct armdb_range range = {.low = "k0100",
                                .low_len = 5,
                                .low_bound = ARMDB_BOUND_INCLUSIVE,
                                .high = "k0900",
                                .high_len = 5,
                                .high_bound = ARMDB_BOUND_EXCLUSIVE};

    (void)state;
    open_fixture(&f, ":memory:");
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(key, sizeof key, "k%04d", i * 337 % 1000);
        OK(put(&f, key, key));
    }
    OK(armdb_commit(f.session, &err));
    OK(armdb_cursor_open(f.session, f.table, &cursor, &err));
    for (int reverse = 0; reverse < 2; reverse++) {
        int expected = reverse ? 899 : 100;
        enum armdb_rc rc;

        range.reverse = reverse != 0;
        for (rc = armdb_cursor_seek_range(cursor, &range, &err); rc == ARMDB_OK;
             rc = armdb_cursor_next(cursor, &err)) {
            const void *k;
            size_t len;
            struct armdb_value value;

            (void)snprintf(key, sizeof key, "k%04d", expected);
            armdb_cursor_key(cursor, &k, &len);
            assert_int_equal(len, 5);
            assert_memory_equal(k, key, 5);
            OK(armdb_cursor_value(cursor, &value, &err));
            assert_memory_equal(value.data, key, 5);
            expected += reverse ? -1 : 1;
        }
        assert_int_equal(rc, ARMDB_DONE);
        assert_int_equal(expected, reverse ? 99 : 900);
    }
    armdb_cursor_close(cursor);
    close_fixture(&f);
}

static void a_list_of_keys_comes_in_its_order(void **state)
{
    struct fixture f;
    struct armdb_cursor *cursor;
    struct armdb_key keys[3] = {{"c", 1}, {"x", 1}, {"a", 1}};
    const void *k;
    size_t len;

    (void)state;
    open_fixture(&f, ":memory:");
    OK(put(&f, "a", "1"));
    OK(put(&f, "b", "2"));
    OK(put(&f, "c", "3"));
    OK(armdb_commit(f.session, &err));
    OK(armdb_cursor_open(f.session, f.table, &cursor, &err));
    OK(armdb_cursor_seek_keys(cursor, keys, 3, &err));
    armdb_cursor_key(cursor, &k, &len);
    assert_memory_equal(k, "c", 1);
    OK(armdb_cursor_next(cursor, &err));
    armdb_cursor_key(cursor, &k, &len);
    assert_memory_equal(k, "a", 1);
    assert_int_equal(armdb_cursor_next(cursor, &err), ARMDB_DONE);
    armdb_cursor_close(cursor);
    close_fixture(&f);
}

static void others_see_a_commit_whole_and_only_then(void **state)
{
    struct fixture f;
    struct armdb_session *other;
    struct armdb_table *table;

    (void)state;
    open_fixture(&f, ":memory:");
    OK(armdb_session_open(f.store, &other, &err));
    OK(armdb_table_open(other, "t", NULL, &table, &err));
    OK(put(&f, "a", "1"));
    OK(put(&f, "b", "2"));
    assert_null(get(other, table, "a"));
    assert_string_equal(get(f.session, f.table, "a"), "1");
    OK(armdb_prepare(f.session, ARMDB_DOUBT_COMMIT, &err));
    assert_null(get(other, table, "a"));
    OK(armdb_snapshot_acquire(other, &err));
    OK(armdb_commit(f.session, &err));
    assert_null(get(other, table, "b"));
    armdb_snapshot_release(other);
    assert_string_equal(get(other, table, "b"), "2");
    armdb_table_close(table);
    armdb_session_close(other);
    close_fixture(&f);
}

static void rollback_and_savepoints_undo_exactly(void **state)
{
    struct fixture f;

    (void)state;
    open_fixture(&f, ":memory:");
    OK(put(&f, "a", "1"));
    OK(armdb_commit(f.session, &err));
    OK(put(&f, "a", "2"));
    OK(armdb_savepoint(f.session, 0, &err));
    OK(put(&f, "a", "3"));
    OK(put(&f, "b", "4"));
    OK(armdb_savepoint(f.session, 1, &err));
    OK(armdb_delete(f.session, f.table, "a", 1, &err));
    assert_null(get(f.session, f.table, "a"));
    OK(armdb_savepoint_rollback(f.session, 1, &err));
    assert_string_equal(get(f.session, f.table, "a"), "3");
    OK(armdb_savepoint_rollback(f.session, 0, &err));
    assert_string_equal(get(f.session, f.table, "a"), "2");
    assert_null(get(f.session, f.table, "b"));
    OK(armdb_rollback(f.session, &err));
    assert_string_equal(get(f.session, f.table, "a"), "1");
    assert_int_equal(armdb_count(f.table), 1);
    close_fixture(&f);
}

static void the_first_writer_wins(void **state)
{
    struct fixture f;
    struct armdb_session *other;
    struct armdb_table *table;

    (void)state;
    open_fixture(&f, ":memory:");
    OK(armdb_session_open(f.store, &other, &err));
    OK(armdb_table_open(other, "t", NULL, &table, &err));
    OK(put(&f, "a", "1"));
    assert_int_equal(armdb_put(other, table, "a", 1, "2", 1, &err), ARMDB_BUSY);
    assert_int_equal(armdb_wait(other, 1), ARMDB_BUSY);
    OK(armdb_commit(f.session, &err));
    OK(armdb_wait(other, 1000));
    OK(armdb_put(other, table, "a", 1, "2", 1, &err)); /* it had read nothing yet */
    OK(armdb_rollback(other, &err));
    assert_null(get(other, table, "zzz"));
    OK(armdb_begin(other, &err));
    OK(armdb_snapshot_acquire(other, &err));
    assert_string_equal(get(other, table, "a"), "1");
    OK(put(&f, "a", "3"));
    OK(armdb_commit(f.session, &err));
    assert_int_equal(armdb_put(other, table, "a", 1, "4", 1, &err), ARMDB_BUSY_SNAPSHOT);
    armdb_snapshot_release(other);
    OK(armdb_rollback(other, &err));
    assert_string_equal(get(other, table, "a"), "3");
    armdb_table_close(table);
    armdb_session_close(other);
    close_fixture(&f);
}

static void a_rollback_after_prepare_survives_reopening(void **state)
{
    struct fixture f;

    (void)state;
    open_fixture(&f, folder);
    OK(put(&f, "stays", "1"));
    OK(armdb_commit(f.session, &err));
    OK(put(&f, "gone", "1"));
    OK(armdb_prepare(f.session, ARMDB_DOUBT_COMMIT, &err));
    OK(armdb_rollback(f.session, &err));
    OK(put(&f, "later", "1"));
    OK(armdb_prepare(f.session, ARMDB_DOUBT_ABORT, &err));
    OK(put(&f, "more", "2")); /* goes on after the prepare, then prepares again */
    OK(armdb_prepare(f.session, ARMDB_DOUBT_ABORT, &err));
    OK(armdb_commit(f.session, &err));
    close_fixture(&f);
    open_fixture(&f, folder);
    assert_string_equal(get(f.session, f.table, "stays"), "1");
    assert_null(get(f.session, f.table, "gone"));
    assert_string_equal(get(f.session, f.table, "later"), "1");
    assert_string_equal(get(f.session, f.table, "more"), "2");
    assert_int_equal(armdb_count(f.table), 3);
    close_fixture(&f);
}

static void values_of_all_sizes_come_back_whole(void **state)
{
    static const size_t sizes[] = {0,    1,    63,   64,   100,   3900,    4000,
                                   4095, 4096, 4097, 8000, 65536, 1000000, 3000000};
    struct fixture f;
    unsigned char *bytes = malloc(3000100);
    struct armdb_cursor *cursor;
    struct armdb_value value;

    (void)state;
    for (size_t i = 0; i < 3000100; i++)
        bytes[i] = (unsigned char)(i * 131 >> 3);
    open_fixture(&f, folder);
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            uint32_t key = round * 100 + i;

            OK(armdb_put(f.session, f.table, &key, sizeof key, bytes + i, sizes[i],
                         &err));
            if (round == 1)
                OK(armdb_commit(f.session, &err));
        }
        OK(armdb_commit(f.session, &err));
    }
    for (int reopened = 0; reopened < 2; reopened++) {
        OK(armdb_cursor_open(f.session, f.table, &cursor, &err));
        for (uint32_t round = 0; round < 2; round++) {
            for (uint32_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                uint32_t key = round * 100 + i;

                OK(armdb_cursor_seek_key(cursor, &key, sizeof key, &err));
                assert_int_equal(armdb_cursor_value_len(cursor), sizes[i]);
                OK(armdb_cursor_value(cursor, &value, &err));
                assert_int_equal(value.len, sizes[i]);
                if (sizes[i] > 0) {
                    armdb_unpin unpin = armdb_value_pin(&value, value.data);
                    void *p = (void *)(uintptr_t)value.data;

                    assert_memory_equal(value.data, bytes + i, sizes[i]);
                    assert_non_null(unpin);
                    unpin(p);
                }
            }
        }
        armdb_cursor_close(cursor);
        close_fixture(&f);
        open_fixture(&f, folder);
    }
    close_fixture(&f);
    free(bytes);
}

static void tables_are_created_renamed_and_dropped_in_transactions(void **state)
{
    struct fixture f;
    struct armdb_table *second;
    const void *schema;
    size_t len;

    (void)state;
    open_fixture(&f, folder);
    OK(armdb_table_create(f.session, "u", "abc", 3, &second, &err));
    armdb_table_close(second);
    OK(armdb_rollback(f.session, &err));
    assert_int_equal(armdb_table_open(f.session, "u", NULL, &second, &err),
                     ARMDB_NOT_FOUND);
    OK(armdb_table_create(f.session, "u", "abc", 3, &second, &err));
    OK(armdb_put(f.session, second, "k", 1, "v", 1, &err));
    OK(armdb_commit(f.session, &err));
    OK(armdb_table_rename(f.session, second, "w", &err));
    OK(armdb_commit(f.session, &err));
    armdb_table_close(second);
    close_fixture(&f);
    open_fixture(&f, folder);
    OK(armdb_table_open(f.session, "w", NULL, &second, &err));
    armdb_table_schema(second, &schema, &len);
    assert_int_equal(len, 3);
    assert_memory_equal(schema, "abc", 3);
    assert_string_equal(get(f.session, second, "k"), "v");
    OK(armdb_table_drop(f.session, second, &err));
    OK(armdb_commit(f.session, &err));
    armdb_table_close(second);
    close_fixture(&f);
    open_fixture(&f, folder);
    assert_int_equal(armdb_table_open(f.session, "w", NULL, &second, &err),
                     ARMDB_NOT_FOUND);
    close_fixture(&f);
}

static void a_child_after_fork_is_refused(void **state)
{
    struct fixture f;
    int status;
    pid_t pid;

    (void)state;
    open_fixture(&f, folder);
    pid = fork();
    if (pid == 0)
        _exit(put(&f, "a", "1") == ARMDB_FORKED ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    OK(put(&f, "a", "1"));
    OK(armdb_commit(f.session, &err));
    close_fixture(&f);
}

static void a_read_modify_write_of_one_key_is_never_refused(void **state)
{
    struct fixture f;
    struct armdb_session *other;
    struct armdb_table *table;
    struct armdb_cursor *cursor;

    (void)state;
    open_fixture(&f, ":memory:");
    OK(armdb_session_open(f.store, &other, &err));
    OK(armdb_table_open(other, "t", NULL, &table, &err));
    OK(put(&f, "a", "1"));
    OK(armdb_commit(f.session, &err));
    OK(armdb_begin(f.session, &err));
    armdb_expect_write(f.session);
    OK(armdb_cursor_open(f.session, f.table, &cursor, &err));
    OK(armdb_cursor_seek_key(cursor, "a", 1, &err)); /* takes the key as a writer */
    assert_int_equal(armdb_put(other, table, "a", 1, "9", 1, &err), ARMDB_BUSY);
    armdb_cursor_close(cursor);
    OK(put(&f, "a", "2"));
    OK(armdb_commit(f.session, &err));
    OK(armdb_rollback(other, &err));
    assert_string_equal(get(other, table, "a"), "2");
    OK(armdb_begin(f.session, &err));
    armdb_expect_write(f.session);
    OK(armdb_cursor_open(f.session, f.table, &cursor, &err));
    OK(armdb_cursor_seek_key(cursor, "a", 1, &err));
    armdb_cursor_close(cursor);
    OK(armdb_commit(f.session, &err)); /* locked, not written: nothing changes */
    assert_string_equal(get(other, table, "a"), "2");
    OK(armdb_put(other, table, "a", 1, "3", 1, &err));
    OK(armdb_commit(other, &err));
    assert_string_equal(get(f.session, f.table, "a"), "3");
    armdb_table_close(table);
    armdb_session_close(other);
    close_fixture(&f);
}

/* A transaction of about 20 MB with a cache of 1 MiB: it goes to the log in chunks. */
static void write_large(struct fixture *f, int from, int to, const char *tag)
{
    char key[32];
    char value[1000];

    memset(value, 'v', sizeof value);
    for (int i = from; i < to; i++) {
        (void)snprintf(key, sizeof key, "%s%06d", tag, i);
        (void)snprintf(value, sizeof value, "%d", i);
        OK(armdb_put(f->session, f->table, key, strlen(key), value, sizeof value, &err));
    }
}

static void open_small(struct fixture *f)
{
    struct armdb_options options;

    armdb_options_init(&options);
    options.segment_size = 4 << 20;
    options.cache_size = 1 << 20;
    OK(armdb_open(folder, &options, &f->store, &err));
    OK(armdb_session_open(f->store, &f->session, &err));
    if (armdb_table_open(f->session, "t", NULL, &f->table, &err) == ARMDB_NOT_FOUND) {
        OK(armdb_table_create(f->session, "t", "", 0, &f->table, &err));
        OK(armdb_commit(f->session, &err));
    }
}

static void a_transaction_larger_than_memory_commits_or_vanishes_whole(void **state)
{
    struct fixture f;

    (void)state;
    open_small(&f);
    write_large(&f, 0, 10000, "a");
    OK(armdb_savepoint(f.session, 0, &err));
    write_large(&f, 5000, 15000, "a");
    write_large(&f, 0, 3000, "b");
    assert_string_equal(get_prefix(f.session, f.table, "a014000"), "14000");
    OK(armdb_savepoint_rollback(f.session, 0, &err));
    assert_null(get_prefix(f.session, f.table, "a014000"));
    OK(armdb_delete(f.session, f.table, "a000007", 7, &err));
    OK(armdb_prepare(f.session, ARMDB_DOUBT_COMMIT, &err));
    write_large(&f, 20000, 20010, "a"); /* prepared once, goes on, prepares again */
    OK(armdb_commit(f.session, &err));
    write_large(&f, 0, 8000, "c");
    OK(armdb_rollback(f.session, &err));
    write_large(&f, 0, 8000, "d");
    OK(armdb_prepare(f.session, ARMDB_DOUBT_COMMIT, &err));
    OK(armdb_rollback(f.session, &err));
    for (int round = 0; round < 3; round++) {
        assert_int_equal(armdb_count(f.table), 10009);
        assert_string_equal(get_prefix(f.session, f.table, "a000000"), "0");
        assert_string_equal(get_prefix(f.session, f.table, "a009999"), "9999");
        assert_string_equal(get_prefix(f.session, f.table, "a020009"), "20009");
        assert_null(get_prefix(f.session, f.table, "a000007"));
        assert_null(get_prefix(f.session, f.table, "a014000"));
        assert_null(get_prefix(f.session, f.table, "b000001"));
        assert_null(get_prefix(f.session, f.table, "c000001"));
        assert_null(get_prefix(f.session, f.table, "d000001"));
        close_fixture(&f);
        open_small(&f);
    }
    close_fixture(&f);
}

static void a_scan_passes_an_empty_key_once(void **state)
{
    struct armdb_range all = {.low_bound = ARMDB_BOUND_OPEN};
    struct armdb_cursor *cursor;
    struct fixture f;
    const void *key;
    size_t len;

    (void)state;
    open_fixture(&f, ":memory:");
    OK(put(&f, "", "nothing"));
    for (int with_more = 0; with_more < 2; with_more++) {
        OK(armdb_commit(f.session, &err));
        OK(armdb_cursor_open(f.session, f.table, &cursor, &err));
        OK(armdb_cursor_seek_range(cursor, &all, &err));
        armdb_cursor_key(cursor, &key, &len);
        assert_non_null(key);
        assert_int_equal(len, 0);
        if (with_more == 1)
            OK(armdb_cursor_next(cursor, &err));
        assert_int_equal(armdb_cursor_next(cursor, &err), ARMDB_DONE);
        armdb_cursor_close(cursor);
        OK(put(&f, "a", "1"));
    }
    close_fixture(&f);
}

static void a_held_table_is_known_to_others_until_the_handle_closes(void **state)
{
    struct armdb_table *second = NULL;
    struct armdb_table *other = NULL;
    struct fixture f;

    (void)state;
    open_fixture(&f, ":memory:");
    OK(armdb_table_create(f.session, "other", NULL, 0, &other, &err));
    OK(armdb_commit(f.session, &err));
    OK(armdb_table_open(f.session, "t", NULL, &second, &err));
    assert_false(armdb_table_is_held(f.table));
    armdb_table_hold(second);
    armdb_table_hold(second);
    armdb_table_hold(other);
    assert_true(armdb_table_is_held(f.table));
    assert_false(armdb_table_is_held(second)); /* by no other one */
    assert_false(armdb_table_is_held(other));
    armdb_table_close(second);
    assert_false(armdb_table_is_held(f.table));
    armdb_table_close(other);
    close_fixture(&f);
}

/* ---- Skipping ---- */

enum { SKIP_KEYS = 400, SKIP_KEY_MAX = 7 };

struct skip_key {
    unsigned char bytes[SKIP_KEY_MAX];
    size_t len;
};

static uint64_t skip_seed;

static uint64_t skip_random(uint64_t below)
{
    skip_seed = skip_seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (skip_seed >> 33) % below;
}

static struct skip_key make_skip_key(void)
{
    static const unsigned char letters[] = {0x00, 'a', 'b', 0xfe, 0xff};
    struct skip_key key;

    key.len = (size_t)skip_random(SKIP_KEY_MAX + 1);
    for (size_t i = 0; i < key.len; i++)
        key.bytes[i] = letters[skip_random(sizeof letters)];
    return key;
}

static int compare_skip_keys(const void *a, const void *b)
{
    const struct skip_key *x = a;
    const struct skip_key *y = b;
    int order = memcmp(x->bytes, y->bytes, x->len < y->len ? x->len : y->len);

    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

/* Walks over the sorted keys with a cursor, skipping and stepping at random; what the
 * session undoes meanwhile was never seen. */
static void walk_with_skips(struct fixture *f, const struct skip_key *keys, size_t count,
                            bool reverse)
{
    struct armdb_range range = {
        .reverse = reverse, .keys_only = true, .limit_hint = skip_random(40)};
    struct armdb_cursor *cursor;
    size_t at = 0;
    enum armdb_rc rc;

    OK(armdb_cursor_open(f->session, f->table, &cursor, &err));
    rc = armdb_cursor_seek_range(cursor, &range, &err);
    while (at < count) {
        const struct skip_key *want = &keys[reverse ? count - 1 - at : at];
        const void *key;
        size_t len;

        assert_int_equal(rc, ARMDB_OK);
        armdb_cursor_key(cursor, &key, &len);
        assert_int_equal(len, want->len);
        assert_memory_equal(key, want->bytes, len);
        assert_int_equal(armdb_cursor_skip(cursor, len + 1, &err), ARMDB_MISUSE);
        if (skip_random(20) == 0) {
            struct skip_key own = make_skip_key();

            OK(armdb_savepoint(f->session, 1, &err));
            OK(armdb_put(f->session, f->table, own.bytes, own.len, "x", 1, &err));
            OK(armdb_savepoint_rollback(f->session, 1, &err));
        }
        if (skip_random(3) == 0) {
            rc = armdb_cursor_next(cursor, &err);
            at++;
        } else {
            size_t n = len == 0 ? 0 : 1 + (size_t)skip_random(len);

            rc = armdb_cursor_skip(cursor, n, &err);
            for (; at < count; at++) {
                const struct skip_key *other = &keys[reverse ? count - 1 - at : at];

                if (other->len < n || memcmp(other->bytes, want->bytes, n) != 0)
                    break;
            }
        }
    }
    assert_int_equal(rc, ARMDB_DONE);
    assert_int_equal(armdb_cursor_skip(cursor, 0, &err), ARMDB_MISUSE);
    armdb_cursor_close(cursor);
}

static void a_skip_goes_behind_all_keys_of_one_beginning(void **state)
{
    struct skip_key keys[SKIP_KEYS];
    const char *given = getenv("SEED");
    struct fixture f;

    (void)state;
    skip_seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)getpid();
    print_message("seed %llu\n", (unsigned long long)skip_seed);
    for (int round = 0; round < 30; round++) {
        size_t wanted = (size_t)skip_random(SKIP_KEYS);
        size_t count = 0;

        open_fixture(&f, ":memory:");
        for (size_t i = 0; i < wanted; i++) {
            struct skip_key key = make_skip_key();

            if (armdb_insert(f.session, f.table, key.bytes, key.len, "v", 1, &err) ==
                ARMDB_OK)
                keys[count++] = key;
        }
        /* Some deleted again: their nodes are still in the index. */
        for (size_t i = count / 3; i > 0; i--) {
            count--;
            OK(armdb_delete(f.session, f.table, keys[count].bytes, keys[count].len,
                            &err));
        }
        OK(armdb_commit(f.session, &err));
        qsort(keys, count, sizeof *keys, compare_skip_keys);
        walk_with_skips(&f, keys, count, false);
        walk_with_skips(&f, keys, count, true);
        close_fixture(&f);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        T(a_scan_passes_an_empty_key_once),
        T(rows_are_found_again_after_reopening),
        T(keys_deleted_again_and_again_stay_deleted),
        T(a_range_gives_rows_in_order_both_ways),
        T(a_list_of_keys_comes_in_its_order),
        T(others_see_a_commit_whole_and_only_then),
        T(rollback_and_savepoints_undo_exactly),
        T(the_first_writer_wins),
        T(a_rollback_after_prepare_survives_reopening),
        T(values_of_all_sizes_come_back_whole),
        T(tables_are_created_renamed_and_dropped_in_transactions),
        T(a_child_after_fork_is_refused),
        T(a_read_modify_write_of_one_key_is_never_refused),
        T(a_transaction_larger_than_memory_commits_or_vanishes_whole),
        T(a_held_table_is_known_to_others_until_the_handle_closes),
        T(a_skip_goes_behind_all_keys_of_one_beginning),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

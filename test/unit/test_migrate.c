/* The migration pass: each row once, keep, update or delete as told; beside writers;
 * stopped and gone on with; without write hooks. */
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
#include "engine/base/mem.h"
#include "engine/base/thread.h"

enum { ROWS = 2500, WRITERS = 3 };

static struct armdb_error err;

#define OK(call) assert_int_equal((call), ARMDB_OK)

struct fixture {
    struct armdb *store;
    struct armdb_session *session;
    struct armdb_table *table;
    struct armdb_table *places;
};

static void key_of(uint32_t i, unsigned char key[4])
{
    key[0] = (unsigned char)(i >> 24);
    key[1] = (unsigned char)(i >> 16);
    key[2] = (unsigned char)(i >> 8);
    key[3] = (unsigned char)i;
}

static uint32_t number_of(const unsigned char *key)
{
    return ((uint32_t)key[0] << 24) | ((uint32_t)key[1] << 16) | ((uint32_t)key[2] << 8) |
           key[3];
}

static void put_number(struct fixture *f, uint32_t i, uint64_t value)
{
    unsigned char key[4];

    key_of(i, key);
    OK(armdb_put(f->session, f->table, key, sizeof key, &value, sizeof value, &err));
}

/* Rows 0 to `rows` - 1, each with value 0. */
static void open_fixture(struct fixture *f, uint32_t rows)
{
    struct armdb_options options;

    memset(f, 0, sizeof *f);
    armdb_options_init(&options);
    options.segment_size = 1 << 20;
    OK(armdb_open(":memory:", &options, &f->store, &err));
    OK(armdb_session_open(f->store, &f->session, &err));
    OK(armdb_table_create(f->session, "t", "", 0, &f->table, &err));
    OK(armdb_table_create(f->session, "places", "", 0, &f->places, &err));
    for (uint32_t i = 0; i < rows; i++)
        put_number(f, i, 0);
    OK(armdb_commit(f->session, &err));
}

static void close_fixture(struct fixture *f)
{
    armdb_table_close(f->table);
    armdb_table_close(f->places);
    armdb_session_close(f->session);
    armdb_close(f->store);
}

/* The row's value; UINT64_MAX when there is none. */
static uint64_t get_number(struct fixture *f, uint32_t i)
{
    struct armdb_cursor *cursor = NULL;
    struct armdb_value value;
    unsigned char key[4];
    uint64_t number = UINT64_MAX;
    enum armdb_rc rc;

    key_of(i, key);
    armdb_statement_begin(f->session);
    OK(armdb_cursor_open(f->session, f->table, &cursor, &err));
    rc = armdb_cursor_seek_key(cursor, key, sizeof key, &err);
    if (rc == ARMDB_OK) {
        OK(armdb_cursor_value(cursor, &value, &err));
        assert_int_equal(value.len, sizeof number);
        memcpy(&number, value.data, sizeof number);
    }
    armdb_cursor_close(cursor);
    return number;
}

/* ---- What the pass does ---------------------------------------------------------- */

struct visits {
    unsigned char count[ROWS * 2];
    uint64_t total;
    uint64_t stop_after; /* 0 = never: watch says stop at so many visits */
    uint64_t new_value;
    int disorder;
    uint32_t last;
};

/* Adds one to the values of rows 3n, deletes rows 3n + 1, keeps rows 3n + 2. */
static enum armdb_verdict visit(void *arg, const void *key, size_t key_len,
                                const void *value, size_t value_len,
                                const void **new_value, size_t *new_len)
{
    struct visits *visits = arg;
    uint32_t i = key_len == 4 ? number_of(key) : 0;

    if (key_len != 4 || value_len != sizeof visits->new_value || i >= ROWS * 2 ||
        (visits->total > 0 && i <= visits->last))
        visits->disorder++;
    else
        visits->count[i]++;
    visits->total++;
    visits->last = i;
    if (i % 3 == 1)
        return ARMDB_DELETE;
    if (i % 3 == 2)
        return ARMDB_KEEP;
    memcpy(&visits->new_value, value, sizeof visits->new_value);
    visits->new_value++;
    *new_value = &visits->new_value;
    *new_len = sizeof visits->new_value;
    return ARMDB_UPDATE;
}

static bool is_enough(void *arg)
{
    struct visits *visits = arg;

    return visits->stop_after > 0 && visits->total >= visits->stop_after;
}

static void assert_migrated(struct fixture *f, const struct visits *visits)
{
    for (uint32_t i = 0; i < ROWS; i++) {
        assert_int_equal(visits->count[i], 1);
        assert_true(get_number(f, i) == (i % 3 == 0 ? 1 : i % 3 == 1 ? UINT64_MAX : 0));
    }
    assert_int_equal(visits->disorder, 0);
}

static void each_row_is_visited_once_and_treated_as_told(void **state)
{
    struct fixture f;
    struct visits visits = {.total = 0};
    struct armdb_migrate_options options = {.visit = visit, .arg = &visits};
    struct armdb_migrate_info info;
    struct armdb_value last;

    (void)state;
    open_fixture(&f, ROWS);
    OK(armdb_migrate(f.session, f.table, &options, &info, &last, &err));
    assert_migrated(&f, &visits);
    assert_int_equal(info.visited, ROWS);
    assert_int_equal(info.updated, (ROWS + 2) / 3);
    assert_int_equal(info.deleted, (ROWS + 1) / 3);
    assert_int_equal(info.batches, ROWS / 1000 + 1);
    assert_int_equal(last.len, 4);
    assert_int_equal(number_of(last.data), ROWS - 1);
    assert_int_equal(armdb_count(f.table), ROWS - (ROWS + 1) / 3);
    armdb_value_release(&last);
    close_fixture(&f);
}

static void an_empty_table_is_done_at_once(void **state)
{
    struct fixture f;
    struct visits visits = {.total = 0};
    struct armdb_migrate_options options = {.visit = visit, .arg = &visits};
    struct armdb_migrate_info info;
    struct armdb_value last;

    (void)state;
    open_fixture(&f, 0);
    OK(armdb_migrate(f.session, f.table, &options, &info, &last, &err));
    assert_int_equal(info.visited, 0);
    assert_null(last.data);
    assert_int_equal(visits.total, 0);
    close_fixture(&f);
}

static void a_stopped_pass_goes_on_behind_its_last_key(void **state)
{
    struct fixture f;
    struct visits visits = {.stop_after = 730};
    struct armdb_watch watch = {is_enough, &visits};
    struct armdb_migrate_options options = {
        .visit = visit, .arg = &visits, .batch_rows = 100};
    struct armdb_migrate_info info;
    struct armdb_value last;

    (void)state;
    open_fixture(&f, ROWS);
    options.watch = &watch;
    assert_int_equal(armdb_migrate(f.session, f.table, &options, &info, &last, &err),
                     ARMDB_INTERRUPT);
    assert_int_equal(info.visited, 730); /* what was visited is committed */
    assert_int_equal(number_of(last.data), 729);
    assert_true(get_number(&f, 729) == 1);
    visits.stop_after = 0;
    options.after = last.data;
    options.after_len = last.len;
    OK(armdb_migrate(f.session, f.table, &options, &info, NULL, &err));
    assert_int_equal(info.visited, ROWS - 730);
    armdb_value_release(&last);
    assert_migrated(&f, &visits);
    close_fixture(&f);
}

static void a_pass_keeps_its_place_in_a_table(void **state)
{
    struct fixture f;
    struct visits visits = {.stop_after = 555};
    struct armdb_watch watch = {is_enough, &visits};
    struct armdb_migrate_options options = {.visit = visit,
                                            .arg = &visits,
                                            .batch_rows = 100,
                                            .place_key = "pass",
                                            .place_key_len = 4};
    struct armdb_migrate_info info;

    (void)state;
    open_fixture(&f, ROWS);
    options.watch = &watch;
    options.place_table = f.places;
    assert_int_equal(armdb_migrate(f.session, f.table, &options, &info, NULL, &err),
                     ARMDB_INTERRUPT);
    assert_int_equal(armdb_count(f.places), 1);
    visits.stop_after = 0;
    OK(armdb_migrate(f.session, f.table, &options, &info, NULL, &err));
    assert_int_equal(info.visited, ROWS - 555);
    assert_int_equal(armdb_count(f.places), 0); /* done: nothing is left of it */
    assert_migrated(&f, &visits);
    close_fixture(&f);
}

static void an_open_transaction_or_snapshot_is_refused(void **state)
{
    struct fixture f;
    struct visits visits = {.total = 0};
    struct armdb_migrate_options options = {.visit = visit, .arg = &visits};
    struct armdb_migrate_info info;

    (void)state;
    open_fixture(&f, 10);
    OK(armdb_begin(f.session, &err));
    assert_int_equal(armdb_migrate(f.session, f.table, &options, &info, NULL, &err),
                     ARMDB_MISUSE);
    OK(armdb_rollback(f.session, &err));
    OK(armdb_snapshot_acquire(f.session, &err));
    assert_int_equal(armdb_migrate(f.session, f.table, &options, &info, NULL, &err),
                     ARMDB_MISUSE);
    armdb_snapshot_release(f.session);
    assert_int_equal(visits.total, 0);
    close_fixture(&f);
}

static void a_row_that_is_not_let_go_stops_the_pass_before_it(void **state)
{
    struct fixture f;
    struct visits visits = {.total = 0};
    struct armdb_migrate_options options = {.visit = visit, .arg = &visits, .wait_ms = 5};
    struct armdb_migrate_info info;
    struct armdb_session *other = NULL;
    struct armdb_table *table = NULL;
    struct armdb_value last;
    unsigned char key[4];

    (void)state;
    open_fixture(&f, ROWS);
    key_of(42, key);
    OK(armdb_session_open(f.store, &other, &err));
    OK(armdb_table_open(other, "t", NULL, &table, &err));
    OK(armdb_put(other, table, key, sizeof key, "12345678", 8, &err));
    assert_int_equal(armdb_migrate(f.session, f.table, &options, &info, &last, &err),
                     ARMDB_BUSY);
    assert_int_equal(info.visited, 42);
    assert_int_equal(number_of(last.data), 41);
    OK(armdb_rollback(other, &err));
    options.after = last.data;
    options.after_len = last.len;
    OK(armdb_migrate(f.session, f.table, &options, &info, NULL, &err));
    assert_migrated(&f, &visits);
    armdb_value_release(&last);
    armdb_table_close(table);
    armdb_session_close(other);
    close_fixture(&f);
}

static void count_call(void *arg, struct armdb_change *change)
{
    (void)change;
    (*(int *)arg)++;
}

static void write_hooks_are_not_told(void **state)
{
    struct fixture f;
    struct visits visits = {.total = 0};
    struct armdb_migrate_options options = {.visit = visit, .arg = &visits};
    struct armdb_hook_options hook_options = {.table_count = 1, .call = count_call};
    struct armdb_migrate_info info;
    struct armdb_hook *hook = NULL;
    int calls = 0;

    (void)state;
    open_fixture(&f, ROWS);
    hook_options.tables = &f.table;
    hook_options.arg = &calls;
    OK(armdb_hook_add(f.store, &hook_options, &hook, &err));
    OK(armdb_migrate(f.session, f.table, &options, &info, NULL, &err));
    assert_int_equal(calls, 0);
    assert_migrated(&f, &visits);
    put_number(&f, 7, 7);
    OK(armdb_commit(f.session, &err));
    assert_int_equal(calls, 1); /* others' writes are told as before */
    OK(armdb_hook_remove(hook));
    close_fixture(&f);
}

static void a_failed_allocation_loses_nothing(void **state)
{
    struct fixture f;
    struct visits visits = {.total = 0};
    struct armdb_migrate_options options = {.visit = visit,
                                            .arg = &visits,
                                            .batch_rows = 50,
                                            .place_key = "",
                                            .place_key_len = 0};
    struct armdb_migrate_info info;
    uint64_t done = 0;
    uint64_t n;
    enum armdb_rc rc = ARMDB_NOMEM;

    (void)state;
    open_fixture(&f, 300);
    options.place_table = f.places;
    for (n = 1; rc == ARMDB_NOMEM; n++) {
        adb_mem_fail_at(n, false);
        rc = armdb_migrate(f.session, f.table, &options, &info, NULL, &err);
        adb_mem_fail_at(0, false);
        visits.total = 0; /* the order begins anew */
        done += info.visited;
        assert_false(armdb_in_transaction(f.session));
    }
    OK(rc);
    assert_true(n > 4);
    assert_int_equal(done, 300); /* each row in one committed batch */
    for (uint32_t i = 0; i < 300; i++)
        assert_true(get_number(&f, i) == (i % 3 == 0 ? 1 : i % 3 == 1 ? UINT64_MAX : 0));
    close_fixture(&f);
}

/* ---- Beside writers -------------------------------------------------------------- */

struct writer {
    struct armdb *store;
    uint32_t first; /* rows first, first + WRITERS, ...: nobody else's */
    uint64_t added[ROWS];
    int failed;
    _Atomic bool *stop;
};

static enum armdb_rc add_thousand(struct armdb_session *session,
                                  struct armdb_table *table, struct armdb_cursor *cursor,
                                  uint32_t i, struct armdb_error *why)
{
    unsigned char key[4];
    struct armdb_value value;
    uint64_t number = 0;
    enum armdb_rc rc;

    key_of(i, key);
    armdb_statement_begin(session);
    rc = armdb_lock_key(session, table, key, sizeof key, why);
    if (rc == ARMDB_EXISTS)
        rc = armdb_cursor_seek_key(cursor, key, sizeof key, why);
    if (rc == ARMDB_OK)
        rc = armdb_cursor_value(cursor, &value, why);
    if (rc == ARMDB_OK) {
        memcpy(&number, value.data, sizeof number);
        number += 1000;
        rc = armdb_put(session, table, key, sizeof key, &number, sizeof number, why);
    }
    armdb_cursor_reset(cursor);
    return rc;
}

static void keep_adding(void *arg)
{
    struct writer *writer = arg;
    struct armdb_session *session = NULL;
    struct armdb_table *table = NULL;
    struct armdb_cursor *cursor = NULL;
    struct armdb_error why;
    uint32_t i = writer->first;

    if (armdb_session_open(writer->store, &session, &why) != ARMDB_OK ||
        armdb_table_open(session, "t", NULL, &table, &why) != ARMDB_OK ||
        armdb_cursor_open(session, table, &cursor, &why) != ARMDB_OK)
        writer->failed = 1;
    while (writer->failed == 0 && !atomic_load(writer->stop)) {
        enum armdb_rc rc = add_thousand(session, table, cursor, i, &why);

        if (rc == ARMDB_OK) {
            rc = armdb_commit(session, &why);
            writer->added[i] += 1000;
        } else if (armdb_rollback(session, &why) != ARMDB_OK) {
            writer->failed = 2;
        }
        if (rc < 0 && rc != ARMDB_BUSY && rc != ARMDB_BUSY_SNAPSHOT)
            writer->failed = 3;
        i = i + WRITERS < ROWS ? i + WRITERS : writer->first;
    }
    armdb_cursor_close(cursor);
    armdb_table_close(table);
    armdb_session_close(session);
}

static void no_write_is_lost_beside_a_pass(void **state)
{
    struct fixture f;
    struct visits visits = {.total = 0};
    struct armdb_migrate_options options = {
        .visit = visit, .arg = &visits, .batch_rows = 64, .wait_ms = 10000};
    struct armdb_migrate_info info;
    struct writer *writers = calloc(WRITERS, sizeof *writers);
    struct adb_thread threads[WRITERS];
    _Atomic bool stop = false;

    (void)state;
    assert_non_null(writers);
    open_fixture(&f, ROWS);
    for (uint32_t i = 0; i < WRITERS; i++) {
        writers[i].store = f.store;
        writers[i].first = i;
        writers[i].stop = &stop;
        OK(adb_thread_start(&threads[i], keep_adding, &writers[i]));
    }
    OK(armdb_migrate(f.session, f.table, &options, &info, NULL, &err));
    atomic_store(&stop, true);
    for (int i = 0; i < WRITERS; i++)
        adb_thread_join(&threads[i]);
    assert_int_equal(info.visited, ROWS);
    for (uint32_t i = 0; i < ROWS; i++) {
        const struct writer *writer = &writers[i % WRITERS];

        assert_int_equal(writer->failed, 0);
        assert_int_equal(visits.count[i], 1);
        assert_true(get_number(&f, i) == (i % 3 == 0   ? writer->added[i] + 1
                                          : i % 3 == 1 ? UINT64_MAX
                                                       : writer->added[i]));
    }
    free(writers);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_row_is_visited_once_and_treated_as_told),
        cmocka_unit_test(an_empty_table_is_done_at_once),
        cmocka_unit_test(a_stopped_pass_goes_on_behind_its_last_key),
        cmocka_unit_test(a_pass_keeps_its_place_in_a_table),
        cmocka_unit_test(an_open_transaction_or_snapshot_is_refused),
        cmocka_unit_test(a_row_that_is_not_let_go_stops_the_pass_before_it),
        cmocka_unit_test(write_hooks_are_not_told),
        cmocka_unit_test(a_failed_allocation_loses_nothing),
        cmocka_unit_test(no_write_is_lost_beside_a_pass),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

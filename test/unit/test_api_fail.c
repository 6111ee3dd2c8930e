/* Warming up, and the calls of engine/armdb.h when memory, disk or file say no: an error,
 * nothing half done, everything usable afterwards. */
#include "test/unit/api_fixture.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "engine/base/mem.h"

enum { ROWS = 4000, ROW_BYTES = 300, LARGE = 6, LARGE_BYTES = 30000 };

/* ---- A store that is larger than nothing ------------------------------------------- */

static void open_cold(struct api *f, const char *path, uint64_t cache_size)
{
    struct armdb_options options;

    armdb_options_init(&options);
    options.segment_size = 1 << 20;
    options.cache_size = cache_size;
    api_open_with(f, path, &options);
}

static void fill_store(const char *path)
{
    struct api f;
    static char bytes[LARGE_BYTES];
    char key[16];

    memset(bytes, 'v', sizeof bytes);
    open_cold(&f, path, 32 << 20);
    for (int i = 0; i < ROWS; i++) {
        (void)snprintf(key, sizeof key, "k%05d", i * 7 % ROWS);
        OK(armdb_put(f.session, f.table, key, 6, bytes, ROW_BYTES, &api_err));
        if (i % (ROWS / LARGE) == 0)
            OK(armdb_put(f.session, f.table, key, 5, bytes, LARGE_BYTES, &api_err));
        if (i % 100 == 99)
            OK(armdb_commit(f.session, &api_err));
    }
    OK(armdb_commit(f.session, &api_err));
    api_close(&f);
}

struct wanted {
    const char *name;
    uint64_t value;
};

static void find_statistic(void *arg, const struct armdb_stat *row)
{
    struct wanted *wanted = arg;

    if (strcmp(row->name, wanted->name) == 0)
        wanted->value = row->value;
}

static uint64_t statistic(struct api *f, const char *name)
{
    struct wanted wanted = {name, UINT64_MAX};

    armdb_stat_each(f->table, find_statistic, &wanted);
    assert_true(wanted.value != UINT64_MAX);
    return wanted.value;
}

static void read_all(struct api *f)
{
    struct armdb_cursor *cursor;
    struct armdb_range all = {.low_bound = ARMDB_BOUND_OPEN};
    struct armdb_value value;
    enum armdb_rc rc;
    int rows = 0;

    OK(armdb_cursor_open(f->session, f->table, &cursor, &api_err));
    for (rc = armdb_cursor_seek_range(cursor, &all, &api_err); rc == ARMDB_OK;
         rc = armdb_cursor_next(cursor, &api_err), rows++)
        OK(armdb_cursor_value(cursor, &value, &api_err));
    assert_int_equal(rc, ARMDB_DONE);
    assert_true(rows >= ROWS);
    armdb_cursor_close(cursor);
}

/* ---- Warming up ----------------------------------------------------------------------
 */

static void after_warming_up_nothing_is_read_from_the_disk(void **state)
{
    struct api f;
    struct armdb_warm_info info;
    uint64_t read;

    fill_store(*state);
    open_cold(&f, *state, 32 << 20);
    OK(armdb_warm(f.session, f.table, NULL, &info, &api_err));
    assert_int_equal(info.rows, armdb_count(f.table));
    assert_true(info.pages_found + info.pages_read > ROWS * ROW_BYTES / 4096);
    assert_int_equal(info.large_read, LARGE + 1);
    assert_false(info.full);
    read = statistic(&f, "pages_read");
    read_all(&f);
    assert_int_equal(statistic(&f, "pages_read"), read);
    /* Warm already: nothing to do. */
    OK(armdb_warm(f.session, f.table, NULL, &info, &api_err));
    assert_int_equal(info.pages_read, 0);
    api_close(&f);
}

static void warming_up_stops_when_the_cache_is_full(void **state)
{
    struct api f;
    struct armdb_warm_info info;
    uint64_t evicted;

    fill_store(*state);
    open_cold(&f, *state, 1 << 20);
    evicted = statistic(&f, "cache_evictions");
    OK(armdb_warm(f.session, f.table, NULL, &info, &api_err));
    assert_true(info.full);
    assert_true(info.pages_read > 0);
    assert_true(info.pages_read + info.pages_found < ROWS * ROW_BYTES / 4096);
    assert_int_equal(statistic(&f, "cache_evictions"), evicted);
    read_all(&f);
    api_close(&f);
}

static void deleted_and_uncommitted_rows_are_not_warmed(void **state)
{
    struct api f;
    struct armdb_warm_info info;

    (void)state;
    api_open(&f);
    OK(armdb_warm(f.session, f.table, NULL, &info, &api_err));
    assert_int_equal(info.rows, 0);
    api_put_committed(&f, "", "empty key");
    api_put_committed(&f, "a", "1");
    api_put_committed(&f, "b", "1");
    OK(armdb_delete(f.session, f.table, "b", 1, &api_err));
    OK(armdb_commit(f.session, &api_err));
    OK(api_put(&f, "c", "staged")); /* in the transaction's memory: seen, not read */
    OK(armdb_warm(f.session, f.table, NULL, &info, &api_err));
    assert_int_equal(info.rows, 3);
    assert_in_range(info.pages_read + info.pages_found, 1, 2); /* two shards */
    OK(armdb_rollback(f.session, &api_err));
    OK(armdb_warm(f.session, f.table, NULL, NULL, &api_err));
    api_close(&f);
}

/* ---- Bytes that cannot be read
 * --------------------------------------------------------- */

#define DAMAGED "k02000"

/* Flips a byte of the value of row DAMAGED in the file if it holds it. */
static bool damage_file(const char *name)
{
    static char bytes[8 << 20];
    FILE *file = fopen(name, "r+");
    size_t len;
    bool done = false;

    assert_non_null(file);
    len = fread(bytes, 1, sizeof bytes, file);
    for (size_t i = 0; i + 50 < len && !done; i++) {
        if (memcmp(bytes + i, DAMAGED, 6) != 0 || memcmp(bytes + i + 24, "vvvv", 4) != 0)
            continue;
        assert_int_equal(fseek(file, (long)i + 24, SEEK_SET), 0);
        assert_int_not_equal(fputc('w', file), EOF);
        done = true;
    }
    assert_int_equal(fclose(file), 0);
    return done;
}

static void damage_a_row(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    bool done = false;

    assert_non_null(dir);
    while (!done && (entry = readdir(dir)) != NULL) {
        char name[700];

        (void)snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        done = strstr(entry->d_name, ".seg") != NULL && damage_file(name);
    }
    (void)closedir(dir);
    assert_true(done);
}

/* The record is damaged after the opening: its key answers ARMDB_CORRUPT, to every call
 * that needs the value, and warming up passes it by. */
static void a_damaged_row_is_an_error_and_never_absent(void **state)
{
    struct api f;
    struct armdb_warm_info info;
    struct armdb_value value;
    struct armdb_range range = {
        .low = DAMAGED, .low_len = 6, .low_bound = ARMDB_BOUND_INCLUSIVE};
    uint64_t n;
    char key[16];
    struct armdb_op op = {.kind = ARMDB_OP_PUT, .key = DAMAGED, .key_len = 6};

    fill_store(*state);
    open_cold(&f, *state, 1 << 20);
    damage_a_row(*state);
    OK(armdb_warm(f.session, f.table, NULL, &info, &api_err));
    for (int i = 0; i < ROWS; i++) {
        enum armdb_rc rc;

        (void)snprintf(key, sizeof key, "k%05d", i);
        rc = armdb_get(f.session, f.table, key, 6, &value, &api_err);
        assert_int_equal(rc, i == 2000 ? ARMDB_CORRUPT : ARMDB_OK);
        assert_true((value.data != NULL) == (i != 2000));
        armdb_value_release(&value);
    }
    OK(armdb_value_len(f.session, f.table, DAMAGED, 6, &n, &api_err));
    assert_int_equal(n, ROW_BYTES);
    REFUSED(armdb_first(f.session, f.table, &range, NULL, &value, &api_err),
            ARMDB_CORRUPT);
    assert_null(value.data);
    OK(armdb_range_count(f.session, f.table, &range, NULL, &n, &api_err));
    assert_true(n > ROWS / 2 - LARGE);
    REFUSED(armdb_cas(f.session, f.table, DAMAGED, 6, "x", 1, "y", 1, &api_err),
            ARMDB_CORRUPT);
    assert_false(armdb_in_transaction(f.session));
    /* A scan that comes from a neighbour in the same page meets it, too, and goes on. */
    range.low = "k01990";
    range.limit_hint = 40;
    for (int reverse = 0; reverse < 2; reverse++) {
        struct armdb_cursor *cursor;

        if (reverse) {
            range =
                (struct armdb_range){.high = "k02010", .high_len = 6, .reverse = true};
            range.high_bound = ARMDB_BOUND_INCLUSIVE;
        }
        OK(armdb_cursor_open(f.session, f.table, &cursor, &api_err));
        OK(armdb_cursor_seek_range(cursor, &range, &api_err));
        for (int i = 0; i < 20; i++) {
            const void *at;
            size_t len;

            armdb_cursor_key(cursor, &at, &len);
            REFUSED(armdb_cursor_value(cursor, &value, &api_err),
                    memcmp(at, DAMAGED, 6) == 0 ? ARMDB_CORRUPT : ARMDB_OK);
            OK(armdb_cursor_next(cursor, &api_err));
        }
        armdb_cursor_close(cursor);
    }
    /* What needs no old value mends it. */
    op.table = f.table;
    OK(armdb_batch(f.session, &op, 1, NULL, &api_err));
    OK(armdb_cas(f.session, f.table, DAMAGED, 6, "", 0, "z", 1, &api_err));
    api_close(&f);
}

/* ---- A full disk
 * ------------------------------------------------------------------------ */

static void a_full_disk_refuses_a_step_and_leaves_nothing(void **state)
{
    struct api f;
    static char bytes[400000];
    struct armdb_op ops[8];
    struct rlimit before;
    struct rlimit limit;
    uint64_t count;

    memset(bytes, 'b', sizeof bytes);
    (void)signal(SIGXFSZ, SIG_IGN);
    open_cold(&f, *state, 4 << 20);
    api_put_committed(&f, "a", "1");
    for (int i = 0; i < 8; i++)
        ops[i] = (struct armdb_op){.kind = ARMDB_OP_PUT,
                                   .table = f.table,
                                   .key = &"bcdefghi"[i],
                                   .key_len = 1,
                                   .value = bytes,
                                   .value_len = sizeof bytes};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = 1 << 20;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    REFUSED(armdb_batch(f.session, ops, 8, NULL, &api_err), ARMDB_FULL);
    assert_false(armdb_in_transaction(f.session));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    OK(armdb_range_count(f.session, f.table, NULL, NULL, &count, &api_err));
    assert_int_equal(count, 1);
    OK(armdb_batch(f.session, ops, 8, NULL, &api_err));
    OK(armdb_range_count(f.session, f.table, NULL, NULL, &count, &api_err));
    assert_int_equal(count, 9);
    api_close(&f);
}

/* ---- No memory
 * ---------------------------------------------------------------------------- */

static enum armdb_verdict add_letter(void *arg, const void *value, size_t value_len,
                                     const void **fresh, size_t *fresh_len)
{
    static char text[16];

    (void)arg;
    if (value_len > 0)
        memcpy(text, value, value_len);
    text[value_len] = 'm';
    *fresh = text;
    *fresh_len = value_len + 1;
    return ARMDB_UPDATE;
}

/* Everything once; the first call that fails ends it. */
static enum armdb_rc use_all(struct api *f, struct armdb_table *table)
{
    struct armdb_value value = {.data = NULL};
    struct armdb_value key = {.data = NULL};
    struct armdb_snapshot *snapshot = NULL;
    struct armdb_op ops[3] = {
        {.kind = ARMDB_OP_PUT, .key = "b", .key_len = 1, .value = "b", .value_len = 1},
        {.kind = ARMDB_OP_INSERT, .key = "c", .key_len = 1, .value = "c", .value_len = 1},
        {.kind = ARMDB_OP_DELETE, .key = "c", .key_len = 1}};
    uint64_t count;
    enum armdb_rc rc;

    for (int i = 0; i < 3; i++)
        ops[i].table = table;
    rc = armdb_cas(f->session, table, "a", 1, "1", 1, "2", 1, &api_err);
    if (rc == ARMDB_OK || rc == ARMDB_MISMATCH) /* done by an earlier try */
        rc = armdb_modify(f->session, table, "a", 1, add_letter, NULL, &api_err);
    if (rc == ARMDB_OK)
        rc = armdb_batch(f->session, ops, 3, NULL, &api_err);
    if (rc == ARMDB_OK)
        rc = armdb_get(f->session, table, "a", 1, &value, &api_err);
    armdb_value_release(&value);
    if (rc == ARMDB_OK)
        rc = armdb_first(f->session, table, NULL, &key, &value, &api_err);
    armdb_value_release(&key);
    armdb_value_release(&value);
    if (rc == ARMDB_OK)
        rc = armdb_range_count(f->session, table, NULL, NULL, &count, &api_err);
    if (rc == ARMDB_OK)
        rc = armdb_snapshot_open(f->session, &snapshot, &api_err);
    if (rc == ARMDB_OK)
        rc = armdb_snapshot_use(f->session, snapshot, &api_err);
    if (rc == ARMDB_OK) {
        rc = armdb_get(f->session, table, "b", 1, &value, &api_err);
        armdb_value_release(&value);
        armdb_snapshot_release(f->session);
    }
    armdb_snapshot_close(snapshot);
    if (rc == ARMDB_OK)
        rc = armdb_warm(f->session, table, NULL, NULL, &api_err);
    return rc;
}

static void each_failed_allocation_is_an_error_and_no_more(void **state)
{
    uint64_t n;
    enum armdb_rc rc = ARMDB_NOMEM;

    (void)state;
    for (n = 1; rc != ARMDB_OK; n++) {
        struct api f;
        struct armdb_value value;
        uint64_t count = 0;
        uint64_t before = adb_mem_used_total();

        api_open(&f);
        api_put_committed(&f, "a", "1");
        adb_mem_fail_at(n, false);
        rc = use_all(&f, f.table);
        adb_mem_fail_at(0, false);
        assert_true(rc == ARMDB_OK || rc == ARMDB_NOMEM);
        assert_false(armdb_in_transaction(f.session));
        /* Each step has happened whole or not at all. */
        OK(armdb_get(f.session, f.table, "a", 1, &value, &api_err));
        assert_true((value.len == 1 && ((const char *)value.data)[0] == '1') ||
                    (value.len == 1 && ((const char *)value.data)[0] == '2') ||
                    (value.len == 2 && memcmp(value.data, "2m", 2) == 0));
        armdb_value_release(&value);
        OK(armdb_range_count(f.session, f.table, NULL, NULL, &count, &api_err));
        assert_true(count == 1 || count == 2);
        OK(use_all(&f, f.table));
        api_close(&f);
        assert_int_equal(adb_mem_used_total(), before);
    }
    print_message("allocations that failed: %d\n", (int)n - 2);
    assert_true(n > 5);
}

/* The same inside a transaction, which goes on and commits. */
static void a_transaction_goes_on_after_a_step_without_memory(void **state)
{
    uint64_t n;
    enum armdb_rc rc = ARMDB_NOMEM;

    (void)state;
    for (n = 1; rc != ARMDB_OK; n++) {
        struct api f;
        struct api other;

        api_open(&f);
        api_join(&other, &f);
        OK(api_put(&f, "z", "before"));
        adb_mem_fail_at(n, false);
        rc = armdb_modify(f.session, f.table, "a", 1, add_letter, NULL, &api_err);
        if (rc == ARMDB_OK)
            rc = armdb_cas(f.session, f.table, "a", 1, "m", 1, NULL, 0, &api_err);
        adb_mem_fail_at(0, false);
        assert_true(rc == ARMDB_OK || rc == ARMDB_NOMEM);
        OK(armdb_commit(f.session, &api_err));
        api_assert_row(&other, "z", "before");
        api_leave(&other);
        api_close(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(after_warming_up_nothing_is_read_from_the_disk,
                                        api_make_folder, api_remove_folder),
        cmocka_unit_test_setup_teardown(warming_up_stops_when_the_cache_is_full,
                                        api_make_folder, api_remove_folder),
        cmocka_unit_test(deleted_and_uncommitted_rows_are_not_warmed),
        cmocka_unit_test_setup_teardown(a_damaged_row_is_an_error_and_never_absent,
                                        api_make_folder, api_remove_folder),
        cmocka_unit_test_setup_teardown(a_full_disk_refuses_a_step_and_leaves_nothing,
                                        api_make_folder, api_remove_folder),
        cmocka_unit_test(each_failed_allocation_is_an_error_and_no_more),
        cmocka_unit_test(a_transaction_goes_on_after_a_step_without_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

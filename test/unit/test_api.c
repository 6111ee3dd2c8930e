/* The calls of engine/armdb.h that answer one question: what each of them promises, its
 * edges and its refusals. Changes: test_api_steps; with threads: test_api_threads. */
#include "test/unit/api_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- One row -------------------------------------------------------------------- */

static void get_sees_the_present_and_own_writes_at_once(void **state)
{
    struct api f;
    struct api other;

    (void)state;
    api_open(&f);
    api_join(&other, &f);
    api_put_committed(&f, "a", "1");
    api_assert_row(&other, "a", "1");
    /* In the same statement: a cursor would not see it yet. */
    OK(api_put(&f, "a", "2"));
    OK(api_put(&f, "b", "new"));
    api_assert_row(&f, "a", "2");
    api_assert_row(&f, "b", "new");
    api_assert_row(&other, "a", "1");
    api_assert_row(&other, "b", NULL);
    OK(armdb_delete(f.session, f.table, "a", 1, &api_err));
    api_assert_row(&f, "a", NULL);
    OK(armdb_commit(f.session, &api_err));
    api_assert_row(&other, "a", NULL);
    api_assert_row(&other, "b", "new");
    api_leave(&other);
    api_close(&f);
}

static void get_keeps_to_the_snapshot_held(void **state)
{
    struct api f;
    struct api other;

    (void)state;
    api_open(&f);
    api_join(&other, &f);
    api_put_committed(&f, "a", "old");
    OK(armdb_snapshot_acquire(other.session, &api_err));
    api_assert_row(&other, "a", "old");
    api_put_committed(&f, "a", "fresh");
    api_put_committed(&f, "b", "fresh");
    api_assert_row(&other, "a", "old");
    api_assert_row(&other, "b", NULL);
    armdb_snapshot_release(other.session);
    api_assert_row(&other, "a", "fresh");
    api_assert_row(&other, "b", "fresh");
    api_leave(&other);
    api_close(&f);
}

/* Handed out it stays, whatever becomes of the row and the store. */
static void a_value_outlives_its_row_and_store(void **state)
{
    struct api f;
    struct armdb_value small;
    struct armdb_value large;
    struct armdb_value own;
    char *long_text = malloc(100000);

    (void)state;
    assert_non_null(long_text);
    memset(long_text, 'x', 100000);
    api_open(&f);
    OK(api_put(&f, "small", "s"));
    OK(armdb_put(f.session, f.table, "large", 5, long_text, 100000, &api_err));
    OK(armdb_commit(f.session, &api_err));
    OK(armdb_get(f.session, f.table, "small", 5, &small, &api_err));
    OK(armdb_get(f.session, f.table, "large", 5, &large, &api_err));
    OK(api_put(&f, "own", "mine"));
    OK(armdb_get(f.session, f.table, "own", 3, &own, &api_err));
    OK(armdb_rollback(f.session, &api_err));
    OK(armdb_delete(f.session, f.table, "small", 5, &api_err));
    OK(armdb_delete(f.session, f.table, "large", 5, &api_err));
    OK(armdb_commit(f.session, &api_err));
    api_close(&f);
    assert_memory_equal(small.data, "s", 1);
    assert_int_equal(large.len, 100000);
    assert_memory_equal(large.data, long_text, 100000);
    assert_memory_equal(own.data, "mine", 4);
    armdb_value_release(&small);
    armdb_value_release(&large);
    armdb_value_release(&own);
    assert_null(own.data);
    free(long_text);
}

static void empty_keys_and_values_are_keys_and_values(void **state)
{
    struct api f;
    struct armdb_value value;

    (void)state;
    api_open(&f);
    api_assert_row(&f, "", NULL);
    OK(armdb_put(f.session, f.table, NULL, 0, NULL, 0, &api_err));
    OK(api_put(&f, "k", ""));
    api_assert_row(&f, "", "");
    OK(armdb_commit(f.session, &api_err));
    OK(armdb_get(f.session, f.table, NULL, 0, &value, &api_err));
    assert_non_null(value.data);
    assert_int_equal(value.len, 0);
    armdb_value_release(&value);
    api_assert_row(&f, "k", "");
    REFUSED(armdb_cas(f.session, f.table, "k", 1, NULL, 0, "x", 1, &api_err),
            ARMDB_MISMATCH);
    OK(armdb_cas(f.session, f.table, "k", 1, "", 0, "x", 1, &api_err));
    OK(armdb_cas(f.session, f.table, NULL, 0, "", 0, NULL, 0, &api_err));
    api_assert_row(&f, "", NULL);
    api_close(&f);
}

static void keys_and_values_over_their_limits_are_refused(void **state)
{
    struct api f;
    unsigned char *key = calloc(1, ARMDB_KEY_BYTES_MAX + 1);
    struct armdb_value value;
    struct armdb_op op = {.kind = ARMDB_OP_PUT, .key_len = 1, .key = "k"};

    (void)state;
    assert_non_null(key);
    api_open(&f);
    REFUSED(armdb_put(f.session, f.table, key, ARMDB_KEY_BYTES_MAX + 1, "", 0, &api_err),
            ARMDB_TOOBIG);
    OK(armdb_rollback(f.session, &api_err));
    OK(armdb_cas(f.session, f.table, key, ARMDB_KEY_BYTES_MAX, NULL, 0, "v", 1,
                 &api_err));
    OK(armdb_get(f.session, f.table, key, ARMDB_KEY_BYTES_MAX, &value, &api_err));
    assert_int_equal(value.len, 1);
    armdb_value_release(&value);
    /* Only asked for, a key that cannot be is simply not there. */
    REFUSED(armdb_get(f.session, f.table, key, ARMDB_KEY_BYTES_MAX + 1, &value, &api_err),
            ARMDB_NOT_FOUND);
    REFUSED(armdb_cas(f.session, f.table, key, ARMDB_KEY_BYTES_MAX + 1, NULL, 0, "v", 1,
                      &api_err),
            ARMDB_TOOBIG);
    /* The length alone is looked at: no such value is needed. */
    REFUSED(armdb_cas(f.session, f.table, "k", 1, NULL, 0, key,
                      (size_t)ARMDB_VALUE_BYTES_MAX + 1, &api_err),
            ARMDB_TOOBIG);
    op.table = f.table;
    op.value = key;
    op.value_len = (size_t)ARMDB_VALUE_BYTES_MAX + 1;
    REFUSED(armdb_batch(f.session, &op, 1, NULL, &api_err), ARMDB_TOOBIG);
    assert_false(armdb_in_transaction(f.session));
    api_assert_row(&f, "k", NULL);
    free(key);
    api_close(&f);
}

static enum armdb_verdict keep(void *arg, const void *value, size_t value_len,
                               const void **fresh, size_t *fresh_len)
{
    (void)value;
    (void)value_len;
    (void)fresh;
    (void)fresh_len;
    ++*(int *)arg;
    return ARMDB_KEEP;
}

static void null_where_something_is_wanted_is_refused(void **state)
{
    struct api f;
    struct api other;
    struct armdb_value value;
    struct armdb_range range = {.low_bound = ARMDB_BOUND_INCLUSIVE, .low_len = 1};
    struct armdb_op op = {.kind = ARMDB_OP_PUT, .key = NULL, .key_len = 3};
    uint64_t n;
    size_t at;
    int calls = 0;

    (void)state;
    api_open(&f);
    api_join(&other, &f);
    REFUSED(armdb_get(NULL, f.table, "k", 1, &value, &api_err), ARMDB_INVALID);
    REFUSED(armdb_get(f.session, NULL, "k", 1, &value, &api_err), ARMDB_INVALID);
    REFUSED(armdb_get(f.session, f.table, NULL, 1, &value, &api_err), ARMDB_INVALID);
    REFUSED(armdb_get(f.session, f.table, "k", 1, NULL, &api_err), ARMDB_INVALID);
    REFUSED(armdb_value_len(f.session, f.table, NULL, 1, &n, &api_err), ARMDB_INVALID);
    REFUSED(armdb_value_len(f.session, f.table, "k", 1, NULL, &api_err), ARMDB_INVALID);
    REFUSED(armdb_put(f.session, f.table, NULL, 1, "", 0, &api_err), ARMDB_INVALID);
    REFUSED(armdb_put(f.session, f.table, "k", 1, NULL, 1, &api_err), ARMDB_INVALID);
    REFUSED(armdb_insert(f.session, f.table, NULL, 1, "", 0, &api_err), ARMDB_INVALID);
    REFUSED(armdb_delete(f.session, f.table, NULL, 1, &api_err), ARMDB_INVALID);
    REFUSED(armdb_cas(f.session, f.table, NULL, 1, NULL, 0, NULL, 0, &api_err),
            ARMDB_INVALID);
    REFUSED(armdb_cas(f.session, f.table, "k", 1, NULL, 1, "", 0, &api_err),
            ARMDB_INVALID);
    REFUSED(armdb_cas(f.session, f.table, "k", 1, "", 0, NULL, 1, &api_err),
            ARMDB_INVALID);
    REFUSED(armdb_modify(f.session, f.table, "k", 1, NULL, NULL, &api_err),
            ARMDB_INVALID);
    REFUSED(armdb_modify(f.session, f.table, NULL, 1, keep, &calls, &api_err),
            ARMDB_INVALID);
    assert_int_equal(calls, 0);
    REFUSED(armdb_first(f.session, NULL, NULL, &value, NULL, &api_err), ARMDB_INVALID);
    REFUSED(armdb_last(f.session, f.table, &range, &value, NULL, &api_err),
            ARMDB_INVALID);
    REFUSED(armdb_range_count(f.session, f.table, NULL, NULL, NULL, &api_err),
            ARMDB_INVALID);
    REFUSED(armdb_range_count(f.session, f.table, &range, NULL, &n, &api_err),
            ARMDB_INVALID);
    REFUSED(armdb_warm(f.session, NULL, NULL, NULL, &api_err), ARMDB_INVALID);
    REFUSED(armdb_batch(f.session, &op, 1, NULL, &api_err), ARMDB_INVALID);
    op.table = f.table;
    REFUSED(armdb_batch(f.session, &op, 1, &at, &api_err), ARMDB_INVALID);
    assert_int_equal(at, 0);
    /* Another session's table is none of this one's. */
    REFUSED(armdb_get(f.session, other.table, "k", 1, &value, &api_err), ARMDB_MISUSE);
    REFUSED(armdb_cas(f.session, other.table, "k", 1, NULL, 0, "", 0, &api_err),
            ARMDB_MISUSE);
    assert_false(armdb_in_transaction(other.session));
    /* The error text may be done without. */
    REFUSED(armdb_get(f.session, f.table, "k", 1, &value, NULL), ARMDB_NOT_FOUND);
    REFUSED(armdb_cas(f.session, f.table, "k", 1, "x", 1, "", 0, NULL), ARMDB_MISMATCH);
    api_leave(&other);
    api_close(&f);
}

static void a_dropped_table_has_no_rows_for_new_sessions_of_its_name(void **state)
{
    struct api f;
    struct api other;
    struct armdb_table *again;

    (void)state;
    api_open(&f);
    api_join(&other, &f);
    api_put_committed(&f, "a", "1");
    OK(armdb_snapshot_acquire(other.session, &api_err));
    api_assert_row(&other, "a", "1");
    OK(armdb_table_drop(f.session, f.table, &api_err));
    OK(armdb_commit(f.session, &api_err));
    /* Who sees the moment before sees the table as it was. */
    api_assert_row(&other, "a", "1");
    armdb_snapshot_release(other.session);
    REFUSED(armdb_table_open(other.session, "t", NULL, &again, &api_err),
            ARMDB_NOT_FOUND);
    api_leave(&other);
    api_close(&f);
}

static void key_shards_follow_the_whole_key_or_its_prefix(void **state)
{
    struct api f;
    struct armdb_options options;
    uint32_t hits[8] = {0};
    char key[16];

    (void)state;
    armdb_options_init(&options);
    options.shards = 8;
    options.given = ARMDB_GIVEN_SHARDS;
    api_open_with(&f, ":memory:", &options);
    for (int i = 0; i < 1000; i++) {
        int len = snprintf(key, sizeof key, "key%d", i);
        uint32_t shard = armdb_key_shard(f.store, key, (size_t)len);

        assert_true(shard < 8);
        assert_int_equal(shard, armdb_key_shard(f.store, key, (size_t)len));
        hits[shard]++;
    }
    for (int i = 0; i < 8; i++)
        assert_true(hits[i] > 60);
    api_close(&f);

    /* 12 bits: keys that agree in one and a half bytes go together. */
    options.shard_prefix_bits = 12;
    options.given |= ARMDB_GIVEN_PREFIX_BITS;
    api_open_with(&f, ":memory:", &options);
    memset(hits, 0, sizeof hits);
    for (int i = 0; i < 256; i++) {
        char same[4] = {'A', (char)(0x40 | (i & 15)), (char)i, 0};
        char differs[2] = {(char)i, 0};

        assert_int_equal(armdb_key_shard(f.store, same, 4),
                         armdb_key_shard(f.store, "A@zz", 4));
        hits[armdb_key_shard(f.store, differs, 2)]++;
    }
    for (int i = 0; i < 8; i++)
        assert_true(hits[i] > 8);
    api_close(&f);
}

static void release_and_features_are_told(void **state)
{
    (void)state;
    assert_string_equal(armdb_release(), ARMDB_RELEASE);
    assert_true(((armdb_features() & ARMDB_FEATURE_URING) != 0) ==
                armdb_uring_available());
#ifdef ADB_DEBUG
    assert_true((armdb_features() & ARMDB_FEATURE_CHECKS) != 0);
#else
    assert_true((armdb_features() & ARMDB_FEATURE_CHECKS) == 0);
#endif
}

/* ---- Ranges --------------------------------------------------------------------- */

/* First and last key and number of rows of a range; first NULL: it is empty. */
static void assert_range(struct api *f, const struct armdb_range *range,
                         const char *first, const char *last, uint64_t count)
{
    struct armdb_value key;
    struct armdb_value value;
    uint64_t counted = 77;

    OK(armdb_range_count(f->session, f->table, range, NULL, &counted, &api_err));
    assert_int_equal(counted, count);
    if (first == NULL) {
        REFUSED(armdb_first(f->session, f->table, range, &key, &value, &api_err),
                ARMDB_NOT_FOUND);
        assert_null(key.data);
        assert_null(value.data);
        REFUSED(armdb_last(f->session, f->table, range, &key, NULL, &api_err),
                ARMDB_NOT_FOUND);
        return;
    }
    OK(armdb_first(f->session, f->table, range, &key, &value, &api_err));
    api_assert_text(&key, first);
    api_assert_text(&value, first);
    OK(armdb_last(f->session, f->table, range, &key, NULL, &api_err));
    api_assert_text(&key, last);
    OK(armdb_last(f->session, f->table, range, NULL, &value, &api_err));
    api_assert_text(&value, last);
}

static void bounds_are_inclusive_exclusive_or_open_at_both_ends(void **state)
{
    struct api f;
    char key[8];
    struct armdb_range range;
    static const enum armdb_bound bounds[] = {ARMDB_BOUND_OPEN, ARMDB_BOUND_INCLUSIVE,
                                              ARMDB_BOUND_EXCLUSIVE};

    (void)state;
    api_open(&f);
    assert_range(&f, NULL, NULL, NULL, 0);
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(key, sizeof key, "k%03d", i * 7 % 1000);
        OK(api_put(&f, key, key));
    }
    assert_range(&f, NULL, "k000", "k999", 1000); /* its own, not committed */
    OK(armdb_commit(f.session, &api_err));
    assert_range(&f, NULL, "k000", "k999", 1000);
    for (int i = 0; i < 9; i++) {
        enum armdb_bound low = bounds[i / 3];
        enum armdb_bound high = bounds[i % 3];
        int from = low == ARMDB_BOUND_OPEN ? 0 : low == ARMDB_BOUND_INCLUSIVE ? 100 : 101;
        int to = high == ARMDB_BOUND_OPEN        ? 999
                 : high == ARMDB_BOUND_INCLUSIVE ? 899
                                                 : 898;
        char first[8];
        char last[8];

        (void)snprintf(first, sizeof first, "k%03d", from);
        (void)snprintf(last, sizeof last, "k%03d", to);
        range = (struct armdb_range){.low = "k100",
                                     .low_len = 4,
                                     .low_bound = low,
                                     .high = "k899",
                                     .high_len = 4,
                                     .high_bound = high,
                                     .reverse = i % 2 != 0};
        assert_range(&f, &range, first, last, (uint64_t)(to - from + 1));
    }
    /* Upside down, and one key. */
    range = (struct armdb_range){.low = "k500",
                                 .low_len = 4,
                                 .low_bound = ARMDB_BOUND_INCLUSIVE,
                                 .high = "k400",
                                 .high_len = 4,
                                 .high_bound = ARMDB_BOUND_INCLUSIVE};
    assert_range(&f, &range, NULL, NULL, 0);
    range.high = "k500";
    assert_range(&f, &range, "k500", "k500", 1);
    range.high_bound = ARMDB_BOUND_EXCLUSIVE;
    assert_range(&f, &range, NULL, NULL, 0);
    api_close(&f);
}

static void prefixes_cover_their_keys_and_no_others(void **state)
{
    struct api f;
    struct armdb_range range;
    char buffer[8];
    static const char *const keys[] = {
        "",   "a",    "ab",       "ab\xff",      "ab\xff\xff", "ab\xff\xff\x01",
        "ac", "\xff", "\xff\xff", "\xff\xff\xff"};
    static const struct {
        const char *prefix;
        const char *first;
        const char *last;
        uint64_t count;
    } cases[] = {
        {"", "", "\xff\xff\xff", 10},
        {"a", "a", "ac", 6},
        {"ab", "ab", "ab\xff\xff\x01", 4},
        {"ab\xff", "ab\xff", "ab\xff\xff\x01", 3},
        {"ab\xff\xff", "ab\xff\xff", "ab\xff\xff\x01", 2},
        {"ab\xff\xff\x02", NULL, NULL, 0},
        {"b", NULL, NULL, 0},
        {"\xff", "\xff", "\xff\xff\xff", 3},
        {"\xff\xff", "\xff\xff", "\xff\xff\xff", 2},
        {"\xff\xff\xff\xff", NULL, NULL, 0},
    };

    (void)state;
    api_open(&f);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        OK(api_put(&f, keys[i], keys[i]));
    OK(armdb_commit(f.session, &api_err));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        armdb_range_prefix(&range, cases[i].prefix, strlen(cases[i].prefix), buffer);
        assert_range(&f, &range, cases[i].first, cases[i].last, cases[i].count);
    }
    api_close(&f);
}

static void a_cursor_walks_a_prefix_both_ways(void **state)
{
    struct api f;
    struct armdb_range range;
    char buffer[8];

    (void)state;
    api_open(&f);
    api_put_committed(&f, "a/1", "");
    api_put_committed(&f, "a/2", "");
    api_put_committed(&f, "a0", "");
    api_put_committed(&f, "a", "");
    armdb_range_prefix(&range, "a/", 2, buffer);
    api_assert_scan(&f, &range, "a/1 a/2 ");
    range.reverse = true;
    api_assert_scan(&f, &range, "a/2 a/1 ");
    range.low_bound = ARMDB_BOUND_OPEN;
    api_assert_scan(&f, &range, "a/2 a/1 a ");
    range.high_bound = ARMDB_BOUND_OPEN;
    api_assert_scan(&f, &range, "a0 a/2 a/1 a ");
    api_close(&f);
}

/* Values of many lengths, some of one page, some over it; asked for here and there, held
 * on to while the cursor moves. Compacted, neighbours lie beside one another. */
static void values_are_right_whichever_rows_are_asked(void **state)
{
    struct api f;
    struct armdb_compact_info info;
    static unsigned char bytes[9000];

    (void)state;
    api_open(&f);
    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i < 3000; i++) {
            unsigned char key[2] = {(unsigned char)(i >> 8), (unsigned char)i};
            size_t len = i % 97 == 0 ? 8000 : i % 7 == 0 ? i % 20 : 50 + i % 300;

            memset(bytes, (int)(i % 251), len);
            OK(armdb_put(f.session, f.table, key, 2, bytes, len, &api_err));
            if (i % 50 == 49)
                OK(armdb_commit(f.session, &api_err));
        }
    for (uint32_t turn = 0; turn < 8; turn++) {
        struct armdb_range range = {.reverse = turn % 2 != 0};
        struct armdb_cursor *cursor;
        enum armdb_rc rc;
        uint32_t rows = 0;

        if (turn == 4)
            OK(armdb_compact(f.store, NULL, &info, &api_err));
        OK(armdb_cursor_open(f.session, f.table, &cursor, &api_err));
        for (rc = armdb_cursor_seek_range(cursor, &range, &api_err); rc == ARMDB_OK;
             rc = armdb_cursor_next(cursor, &api_err), rows++) {
            uint32_t i = range.reverse ? 2999 - rows : rows;
            struct armdb_value value;

            if (rows % (turn / 2 % 2 + 1) != 0)
                continue; /* every row, or every second one */
            OK(armdb_cursor_value(cursor, &value, &api_err));
            assert_int_equal(value.len, armdb_cursor_value_len(cursor));
            assert_int_equal(value.len, i % 97 == 0  ? 8000
                                        : i % 7 == 0 ? i % 20
                                                     : 50 + i % 300);
            for (size_t n = 0; n < value.len; n += 49)
                assert_int_equal(((const unsigned char *)value.data)[n], i % 251);
        }
        assert_int_equal(rc, ARMDB_DONE);
        assert_int_equal(rows, 3000);
        armdb_cursor_close(cursor);
    }
    api_close(&f);
}

static bool says_stop(void *arg)
{
    return ++*(int *)arg > 1;
}

static void a_long_count_and_a_warming_can_be_stopped(void **state)
{
    struct api f;
    int asked = 0;
    struct armdb_watch watch = {says_stop, &asked};
    struct armdb_warm_info info;
    uint64_t count;
    char key[16];

    (void)state;
    api_open(&f);
    for (int i = 0; i < 5000; i++) {
        (void)snprintf(key, sizeof key, "k%04d", i);
        OK(api_put(&f, key, key));
    }
    OK(armdb_commit(f.session, &api_err));
    REFUSED(armdb_range_count(f.session, f.table, NULL, &watch, &count, &api_err),
            ARMDB_INTERRUPT);
    assert_int_equal(asked, 2);
    asked = 0;
    REFUSED(armdb_warm(f.session, f.table, &watch, &info, &api_err), ARMDB_INTERRUPT);
    assert_int_equal(asked, 2);
    assert_true(info.rows > 0 && info.rows < 5000);
    api_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(get_sees_the_present_and_own_writes_at_once),
        cmocka_unit_test(get_keeps_to_the_snapshot_held),
        cmocka_unit_test(a_value_outlives_its_row_and_store),
        cmocka_unit_test(empty_keys_and_values_are_keys_and_values),
        cmocka_unit_test(keys_and_values_over_their_limits_are_refused),
        cmocka_unit_test(null_where_something_is_wanted_is_refused),
        cmocka_unit_test(a_dropped_table_has_no_rows_for_new_sessions_of_its_name),
        cmocka_unit_test(key_shards_follow_the_whole_key_or_its_prefix),
        cmocka_unit_test(release_and_features_are_told),
        cmocka_unit_test(bounds_are_inclusive_exclusive_or_open_at_both_ends),
        cmocka_unit_test(prefixes_cover_their_keys_and_no_others),
        cmocka_unit_test(a_cursor_walks_a_prefix_both_ways),
        cmocka_unit_test(values_are_right_whichever_rows_are_asked),
        cmocka_unit_test(a_long_count_and_a_warming_can_be_stopped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

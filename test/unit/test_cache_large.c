/* test_cache_large.c - the buffer manager's large values, one thread at a time. */
#include "test/unit/cache_fixture.h"

static void a_large_value_is_read_in_one_batch_and_verified_once(void **state)
{
    struct fixture *t = set_up_sized(64 * MIB, UINT64_C(64) * MIB, false);
    struct verdict v = {.at = 5000, .number = 1};
    const unsigned char *bytes;
    const unsigned char *again;
    void *owner;
    void *owner2;

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(cache_large_pin(t->cf[0], 5000, 5 * MIB + 3, verify_bytes, &v,
                                         i == 0 ? &bytes : &again,
                                         i == 0 ? &owner : &owner2, NULL),
                         ARMDB_OK);
    }
    assert_int_equal(v.calls, 1);
    assert_ptr_equal(bytes, again);
    assert_int_equal(t->io.submits, 1);
    assert_int_equal(t->io.bytes_read, 5 * MIB + 3);
    assert_in_range(stats_of(t).large_bytes, 5 * MIB, 5 * MIB + 3 * 4096);
    cache_large_unpin(owner);
    cache_large_unpin(owner2);
    owner = pin_large(t, 5000, 5 * MIB + 3, &bytes);
    cache_large_unpin(owner);
    assert_int_equal(t->io.submits, 1);
    tear_down(t);
}

static void a_large_value_comes_from_dirty_and_clean_pages_and_the_file(void **state)
{
    struct fixture *t = set_up_sized(8 * MIB, 20 * 4096, false);
    const unsigned char *bytes;
    void *owner;

    (void)state;
    fake_fail(&t->files[0], 3 * 4096, 4 * 4096, 100, EIO); /* not to be read */
    fill_dirty(t, 0, 3);
    touch(t, 0, 10);
    for (uint64_t i = 20; i < 26; i++)
        fill_dirty(t, 0, i); /* behind the end of the file */
    owner = pin_large(t, 2 * 4096 + 9, 22 * 4096 + 1, &bytes);
    assert_int_equal(t->io.submits, 2); /* of which one for page 10 */
    assert_int_equal(t->io.ops, 1 + 3); /* 2, 4 to 9, 11 to 19 */
    cache_large_unpin(owner);
    cache_pages_written(t->cf[0], 3, 1);
    cache_pages_written(t->cf[0], 20, 6);
    tear_down(t);
}

static void a_large_value_of_a_direct_file_is_read_aligned(void **state)
{
    struct fixture *t = set_up_sized(8 * MIB, 30 * 4096 + 77, true);
    const unsigned char *bytes;
    void *owner;

    (void)state;
    touch(t, 0, 8);
    owner = pin_large(t, 4096 * 2 + 1000, 4096 * 10, &bytes);
    cache_large_unpin(owner);
    owner =
        pin_large(t, 4096 * 20 + 1000, 4096 * 10 + 77 - 1000, &bytes); /* to the end */
    cache_large_unpin(owner);
    assert_false(t->io.misaligned);
    tear_down(t);
}

static void a_large_value_that_fails_is_not_kept(void **state)
{
    struct fixture *t = set_up_sized(MIB, 20 * 4096, false);
    struct verdict v = {.rc = ARMDB_CORRUPT, .at = 4096, .number = 1};
    struct armdb_error err;
    const unsigned char *bytes;
    void *owner;

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(cache_large_pin(t->cf[0], 4096, 20000, verify_bytes, &v, &bytes,
                                         &owner, &err),
                         ARMDB_CORRUPT);
        assert_string_equal(err.text, "verify says no");
        assert_null(bytes);
        assert_null(owner);
    }
    assert_int_equal(v.calls, 2);
    fake_fail(&t->files[0], 8192, 8193, 1, EIO);
    assert_int_equal(
        cache_large_pin(t->cf[0], 4096, 20000, NULL, NULL, &bytes, &owner, &err),
        ARMDB_IO);
    assert_int_equal(
        cache_large_pin(t->cf[0], 4096, 20 * 4096, NULL, NULL, &bytes, &owner, &err),
        ARMDB_CORRUPT); /* one page longer than the file */
    assert_int_equal(cache_large_pin(t->cf[0], 4096, UINT64_MAX - 10, NULL, NULL, &bytes,
                                     &owner, &err),
                     ARMDB_CORRUPT);
    assert_int_equal(cache_large_pin(t->cf[0], 4096, 0, NULL, NULL, &bytes, &owner, NULL),
                     ARMDB_CORRUPT);
    assert_int_equal(stats_of(t).large_bytes, 0);
    owner = pin_large(t, 4096, 20000, &bytes);
    cache_large_unpin(owner);
    tear_down(t);
}

static void a_large_value_over_the_budget_goes_with_its_last_pin(void **state)
{
    struct fixture *t = set_up();
    const unsigned char *bytes;
    const unsigned char *more;
    void *owner;

    (void)state;
    for (uint64_t i = 0; i < 300; i++)
        touch(t, 1, i);
    owner = pin_large(t, 100, 3 * MIB, &bytes);
    assert_in_range(stats_of(t).used_bytes, 3 * MIB, 5 * MIB);
    assert_ptr_equal(pin_large(t, 100, 3 * MIB, &more), owner);
    cache_large_unpin(owner);
    assert_true(fake_is(1, 100, bytes, 3 * MIB));
    cache_large_unpin(owner);
    assert_int_equal(stats_of(t).large_bytes, 0);
    assert_in_range(stats_of(t).used_bytes, 0, MIB);
    tear_down(t);
}

static void large_values_and_pages_share_the_budget(void **state)
{
    struct fixture *t = set_up_sized(16 * MIB, UINT64_C(64) * MIB, false);
    const unsigned char *bytes;
    uint64_t large;

    (void)state;
    for (uint64_t i = 0; i < 8000; i++)
        touch(t, 1, i);
    assert_in_range(stats_of(t).used_bytes, 15 * MIB, 16 * MIB);
    /* Large values take from pages, up to half. */
    for (uint64_t i = 0; i < 400; i++)
        cache_large_unpin(pin_large(t, i * 70000, 65536, &bytes));
    assert_in_range(stats_of(t).large_bytes, 6 * MIB, 9 * MIB);
    assert_in_range(stats_of(t).used_bytes, 8 * MIB, 16 * MIB);
    assert_null(cache_check(t->cache));
    /* Without pages they take all; pages take their half back. */
    cache_file_destroy(t->cf[1]);
    assert_int_equal(cache_file_create(t->cache, &t->files[1].file, "again",
                                       UINT64_C(1) << 20, &t->cf[1]),
                     ARMDB_OK);
    for (uint64_t i = 0; i < 800; i++)
        cache_large_unpin(pin_large(t, i * 70000, 65536, &bytes));
    large = stats_of(t).large_bytes;
    assert_in_range(large, 7 * MIB, 16 * MIB);
    for (uint64_t i = 0; i < 8000; i++)
        touch(t, 1, i);
    assert_in_range(stats_of(t).large_bytes, 1, 9 * MIB);
    assert_in_range(stats_of(t).used_bytes, 12 * MIB, 17 * MIB);
    tear_down(t);
}

static void a_scan_of_large_values_leaves_the_hot_ones(void **state)
{
    struct fixture *t = set_up_sized(16 * MIB, UINT64_C(256) * MIB, false);
    const unsigned char *bytes;
    uint64_t submits;

    (void)state;
    for (int round = 0; round < 2; round++)
        for (uint64_t i = 0; i < 50; i++)
            cache_large_unpin(pin_large(t, i * 20000, 16384, &bytes));
    for (uint64_t i = 50; i < 5000; i++)
        cache_large_unpin(pin_large(t, i * 20000, 16384, &bytes));
    submits = t->io.submits;
    for (uint64_t i = 0; i < 50; i++)
        cache_large_unpin(pin_large(t, i * 20000, 16384, &bytes));
    assert_in_range(t->io.submits - submits, 0, 10);
    tear_down(t);
}

static void inner_pins_find_their_buffer_by_address(void **state)
{
    struct fixture *t = set_up_sized(8 * MIB, UINT64_C(64) * MIB, false);
    const unsigned char *bytes;
    unsigned char *inner;
    void *owner = pin_large(t, 300, 30000, &bytes);

    (void)state;
    inner = (unsigned char *)(uintptr_t)bytes + 100;
    assert_true(cache_large_pin_inner(owner, inner));
    assert_true(cache_large_pin_inner(owner, inner));
    assert_true(cache_large_pin_inner(owner, inner + 1));
    cache_large_unpin(owner);
    tear_down_objects(t);
    cache_large_unpin_inner(inner);
    assert_true(fake_is(1, 400, inner, 29900));
    cache_large_unpin_inner(inner + 1);
    assert_true(fake_is(1, 400, inner, 29900));
    cache_large_unpin_inner(inner);
    check_memory(t);
}

static void discarding_pages_forgets_large_values_over_them(void **state)
{
    struct fixture *t = set_up_sized(8 * MIB, 0, false);
    struct verdict v = {.at = 4096, .number = 1};
    const unsigned char *bytes;
    const unsigned char *gone;
    void *owner;
    void *other;

    (void)state;
    for (uint64_t i = 0; i < 20; i++)
        fill_dirty(t, 0, i);
    owner = pin_large(t, 4096, 20000, &bytes);
    cache_large_unpin(pin_large(t, 40960, 20000, &gone));
    cache_pages_discard(t->cf[0], 5, 15);
    assert_true(fake_is(1, 4096, bytes, 20000));
    assert_int_equal(
        cache_large_pin(t->cf[0], 4096, 20000, verify_bytes, &v, &gone, &other, NULL),
        ARMDB_CORRUPT);
    assert_int_equal(
        cache_large_pin(t->cf[0], 40960, 20000, verify_bytes, &v, &gone, &other, NULL),
        ARMDB_CORRUPT);
    cache_large_unpin(owner);
    cache_pages_discard(t->cf[0], 0, 5);
    tear_down(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_large_value_is_read_in_one_batch_and_verified_once),
        cmocka_unit_test(a_large_value_comes_from_dirty_and_clean_pages_and_the_file),
        cmocka_unit_test(a_large_value_of_a_direct_file_is_read_aligned),
        cmocka_unit_test(a_large_value_that_fails_is_not_kept),
        cmocka_unit_test(a_large_value_over_the_budget_goes_with_its_last_pin),
        cmocka_unit_test(large_values_and_pages_share_the_budget),
        cmocka_unit_test(a_scan_of_large_values_leaves_the_hot_ones),
        cmocka_unit_test(inner_pins_find_their_buffer_by_address),
        cmocka_unit_test(discarding_pages_forgets_large_values_over_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

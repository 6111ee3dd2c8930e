/* test_manifest.c - the list of segments, in memory and as a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/bytes.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/log/manifest.h"

static const unsigned char uuid[16] = "sixteen bytes id";

static struct manifest_segment segment(uint64_t number, bool sealed)
{
    struct manifest_segment s = {.number = number,
                                 .shard = (uint32_t)(number % 3),
                                 .kind = sealed && number % 2 == 0 ? SEGMENT_OUTPUT
                                                                   : SEGMENT_LOG,
                                 .sealed = sealed,
                                 .length = sealed ? 8192 + number : 0,
                                 .gsn_low = sealed ? number : 0,
                                 .gsn_high = sealed ? number + 10 : 0};

    memset(s.identity, (int)number, sizeof s.identity);
    return s;
}

static void fill(struct manifest *m)
{
    static const uint64_t numbers[] = {7, 3, 9, 1, 4};
    struct manifest_verdict *verdicts = adb_alloc(ADB_MEM_LOG, 2 * sizeof *verdicts);
    struct manifest_close *closes = adb_alloc_zero(ADB_MEM_LOG, 2 * sizeof *closes);

    manifest_init(m);
    m->edit = 5;
    m->next_segment = 10;
    m->watermark = 99;
    m->feed_horizon = 12;
    m->next_table = 33;
    for (size_t i = 0; i < 5; i++) {
        struct manifest_segment s = segment(numbers[i], numbers[i] != 9);

        assert_int_equal(manifest_add(m, &s), ARMDB_OK);
    }
    verdicts[0] = (struct manifest_verdict){.gsn = 6, .outcome = 2};
    verdicts[1] = (struct manifest_verdict){.gsn = 8, .outcome = 1};
    m->verdicts = verdicts;
    m->verdict_count = 2;
    closes[0].txid_edit = 1;
    closes[0].txid_count = 2;
    closes[0].gsn = 5;
    closes[0].void_runs = adb_alloc(ADB_MEM_LOG, 4 * sizeof(uint64_t));
    closes[0].void_run_count = 2;
    for (uint64_t i = 0; i < 4; i++)
        closes[0].void_runs[i] = 10 * i;
    closes[1].gsn = 4;
    m->closes = closes;
    m->close_count = 2;
}

static void assert_same(const struct manifest *a, const struct manifest *b)
{
    assert_int_equal(a->edit, b->edit);
    assert_int_equal(a->next_segment, b->next_segment);
    assert_int_equal(a->watermark, b->watermark);
    assert_int_equal(a->feed_horizon, b->feed_horizon);
    assert_int_equal(a->next_table, b->next_table);
    assert_int_equal(a->segment_count, b->segment_count);
    for (size_t i = 0; i < a->segment_count; i++) {
        assert_int_equal(a->segments[i].number, b->segments[i].number);
        assert_memory_equal(a->segments[i].identity, b->segments[i].identity, 16);
        assert_int_equal(a->segments[i].shard, b->segments[i].shard);
        assert_int_equal(a->segments[i].kind, b->segments[i].kind);
        assert_int_equal(a->segments[i].sealed, b->segments[i].sealed);
        assert_int_equal(a->segments[i].length, b->segments[i].length);
        assert_int_equal(a->segments[i].gsn_low, b->segments[i].gsn_low);
        assert_int_equal(a->segments[i].gsn_high, b->segments[i].gsn_high);
    }
    assert_int_equal(a->verdict_count, b->verdict_count);
    for (size_t i = 0; i < a->verdict_count; i++) {
        assert_int_equal(a->verdicts[i].gsn, b->verdicts[i].gsn);
        assert_int_equal(a->verdicts[i].outcome, b->verdicts[i].outcome);
    }
    assert_int_equal(a->close_count, b->close_count);
    for (size_t i = 0; i < a->close_count; i++) {
        assert_int_equal(a->closes[i].gsn, b->closes[i].gsn);
        assert_int_equal(a->closes[i].txid_edit, b->closes[i].txid_edit);
        assert_int_equal(a->closes[i].txid_count, b->closes[i].txid_count);
        assert_int_equal(a->closes[i].void_run_count, b->closes[i].void_run_count);
        for (size_t run = 0; run < 2 * (size_t)a->closes[i].void_run_count; run++)
            assert_int_equal(a->closes[i].void_runs[run], b->closes[i].void_runs[run]);
    }
}

static void segments_are_kept_in_order_and_found(void **state)
{
    struct manifest m;
    struct manifest_segment again = segment(3, true);

    (void)state;
    fill(&m);
    for (size_t i = 1; i < m.segment_count; i++)
        assert_true(m.segments[i - 1].number < m.segments[i].number);
    assert_int_equal(manifest_find(&m, 7)->number, 7);
    assert_null(manifest_find(&m, 5));
    assert_int_equal(manifest_add(&m, &again), ARMDB_INTERNAL);
    manifest_remove(&m, 3);
    manifest_remove(&m, 9);
    manifest_remove(&m, 3);
    assert_int_equal(m.segment_count, 3);
    assert_null(manifest_find(&m, 3));
    assert_int_equal(manifest_find(&m, 4)->length, 8196);
    manifest_fini(&m);
    assert_int_equal(adb_mem_used(ADB_MEM_LOG), 0);
}

static void it_survives_encoding_and_copying(void **state)
{
    struct manifest m;
    struct manifest back;
    struct manifest copy;
    unsigned char *bytes;
    size_t n;

    (void)state;
    fill(&m);
    manifest_init(&back);
    manifest_init(&copy);
    assert_int_equal(manifest_encode(&m, uuid, &bytes, &n), ARMDB_OK);
    assert_int_equal(manifest_decode(bytes, n, uuid, &back, NULL), ARMDB_OK);
    assert_same(&m, &back);
    assert_int_equal(manifest_copy(&m, &copy), ARMDB_OK);
    assert_int_equal(manifest_copy(&back, &copy), ARMDB_OK);
    assert_same(&m, &copy);
    adb_free(ADB_MEM_LOG, bytes);
    manifest_fini(&m);
    manifest_fini(&copy);
    /* An empty one, into one that holds something. */
    assert_int_equal(manifest_encode(&m, uuid, &bytes, &n), ARMDB_OK);
    assert_int_equal(manifest_decode(bytes, n, uuid, &back, NULL), ARMDB_OK);
    assert_same(&m, &back);
    adb_free(ADB_MEM_LOG, bytes);
    manifest_fini(&back);
    assert_int_equal(adb_mem_used(ADB_MEM_LOG), 0);
}

static void each_flipped_bit_and_each_cut_is_damage(void **state)
{
    struct manifest m;
    struct manifest back;
    unsigned char *bytes;
    size_t n;

    (void)state;
    fill(&m);
    manifest_init(&back);
    assert_int_equal(manifest_encode(&m, uuid, &bytes, &n), ARMDB_OK);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        assert_int_equal(manifest_decode(bytes, n, uuid, &back, NULL), ARMDB_CORRUPT);
        bytes[bit / 8] ^= (unsigned char)(1u << (bit % 8));
    }
    for (size_t left = 0; left < n; left++)
        assert_int_equal(manifest_decode(bytes, left, uuid, &back, NULL), ARMDB_CORRUPT);
    assert_int_equal(
        manifest_decode(bytes, n, (const unsigned char *)"another store id", &back, NULL),
        ARMDB_CORRUPT);
    adb_free(ADB_MEM_LOG, bytes);
    manifest_fini(&m);
}

static void rebind(unsigned char *bytes, size_t n)
{
    adb_put_u64(bytes + n - 8,
                adb_check_bind(adb_check_raw(bytes, n - 8), adb_check_seed(uuid), n - 8));
}

static void every_field_is_checked_behind_a_right_check(void **state)
{
    enum { FIRST_SEGMENT = 104, SEGMENT = 56 };
    static const struct {
        size_t at;
        uint64_t word;
        enum armdb_rc rc;
    } cases[] = {
        {8, 2, ARMDB_VERSION},
        {32, 1, ARMDB_CORRUPT},
        {48, 9, ARMDB_CORRUPT}, /* next segment below a listed one */
        {56, UINT64_MAX, ARMDB_CORRUPT},
        {80, UINT64_MAX, ARMDB_CORRUPT},
        {80, 4, ARMDB_CORRUPT},
        {80, 6, ARMDB_CORRUPT},
        {88, UINT64_MAX / 16, ARMDB_CORRUPT},
        {96, UINT64_MAX / 32 + 1, ARMDB_CORRUPT},
        {96, 3, ARMDB_CORRUPT},
        {FIRST_SEGMENT, 0, ARMDB_CORRUPT},
        {FIRST_SEGMENT, 3, ARMDB_CORRUPT},
        {FIRST_SEGMENT + 24, UINT64_C(0x300000000), ARMDB_CORRUPT},   /* kind */
        {FIRST_SEGMENT + 24, UINT64_C(0x20100000000), ARMDB_CORRUPT}, /* sealed */
        {FIRST_SEGMENT + 24, UINT64_C(0x1010100000000), ARMDB_CORRUPT},
        {FIRST_SEGMENT + 32, 4095, ARMDB_CORRUPT},
        {FIRST_SEGMENT + 32, UINT64_MAX, ARMDB_CORRUPT},
        {FIRST_SEGMENT + 40, 100, ARMDB_CORRUPT},
        {FIRST_SEGMENT + 48, UINT64_MAX, ARMDB_CORRUPT},
        {FIRST_SEGMENT + 4 * SEGMENT + 32, 4096, ARMDB_CORRUPT}, /* open with length */
        {FIRST_SEGMENT + 5 * SEGMENT + 8, 3, ARMDB_CORRUPT},     /* outcome */
        {FIRST_SEGMENT + 5 * SEGMENT + 32 + 24, 1000, ARMDB_CORRUPT},
        {FIRST_SEGMENT + 5 * SEGMENT + 32 + 32, 11, ARMDB_CORRUPT}, /* run backwards */
    };
    struct manifest m;
    struct manifest back;
    unsigned char *bytes;
    size_t n;

    (void)state;
    fill(&m);
    manifest_init(&back);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct armdb_error err = {.rc = ARMDB_OK};

        assert_int_equal(manifest_encode(&m, uuid, &bytes, &n), ARMDB_OK);
        adb_put_u64(bytes + cases[i].at, cases[i].word);
        rebind(bytes, n);
        assert_int_equal(manifest_decode(bytes, n, uuid, &back, &err), cases[i].rc);
        assert_int_equal(err.rc, cases[i].rc);
        adb_free(ADB_MEM_LOG, bytes);
    }
    manifest_fini(&m);
    assert_int_equal(adb_mem_used(ADB_MEM_LOG), 0);
}

static void a_failed_allocation_changes_nothing(void **state)
{
    struct manifest m;
    struct manifest copy;
    struct manifest other;
    unsigned char *bytes;
    size_t n;

    (void)state;
    fill(&m);
    fill(&other);
    other.edit = 77;
    manifest_init(&copy);
    assert_int_equal(manifest_copy(&other, &copy), ARMDB_OK);
    assert_int_equal(manifest_encode(&m, uuid, &bytes, &n), ARMDB_OK);
    for (uint64_t i = 1;; i++) {
        enum armdb_rc rc;

        adb_mem_fail_at(i, false);
        rc = i % 2 == 0 ? manifest_copy(&m, &copy)
                        : manifest_decode(bytes, n, uuid, &copy, NULL);
        adb_mem_fail_at(0, false);
        if (rc == ARMDB_OK)
            break;
        assert_int_equal(rc, ARMDB_NOMEM);
        assert_same(&other, &copy);
    }
    assert_same(&m, &copy);
    adb_free(ADB_MEM_LOG, bytes);
    manifest_fini(&m);
    manifest_fini(&other);
    manifest_fini(&copy);
    assert_int_equal(adb_mem_used(ADB_MEM_LOG), 0);
}

static void each_replacement_has_a_higher_edit_number(void **state)
{
    struct adb_io *io = NULL;
    struct adb_dir *dir = NULL;
    struct manifest m;
    struct manifest back;

    (void)state;
    fill(&m);
    manifest_init(&back);
    assert_int_equal(adb_io_mem_create(&io, NULL), ARMDB_OK);
    assert_int_equal(io->ops->dir_open(io, "/store", true, &dir, NULL), ARMDB_OK);
    assert_int_equal(manifest_read(dir, uuid, &back, NULL), ARMDB_NOT_FOUND);
    assert_int_equal(manifest_write(dir, uuid, &m, NULL), ARMDB_OK);
    assert_int_equal(m.edit, 6);
    assert_int_equal(manifest_write(dir, uuid, &m, NULL), ARMDB_OK);
    assert_int_equal(manifest_read(dir, uuid, &back, NULL), ARMDB_OK);
    assert_int_equal(back.edit, 7);
    assert_same(&m, &back);
    adb_mem_fail_at(1, true);
    assert_int_equal(manifest_write(dir, uuid, &m, NULL), ARMDB_NOMEM);
    adb_mem_fail_at(0, false);
    assert_int_equal(m.edit, 7);
    manifest_fini(&m);
    manifest_fini(&back);
    io->ops->dir_close(dir);
    io->ops->destroy(io);
    assert_int_equal(adb_mem_used_total(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments_are_kept_in_order_and_found),
        cmocka_unit_test(it_survives_encoding_and_copying),
        cmocka_unit_test(each_flipped_bit_and_each_cut_is_damage),
        cmocka_unit_test(every_field_is_checked_behind_a_right_check),
        cmocka_unit_test(a_failed_allocation_changes_nothing),
        cmocka_unit_test(each_replacement_has_a_higher_edit_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

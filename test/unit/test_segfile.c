/* test_segfile.c - names and header pages of segment files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/bytes.h"
#include "engine/base/check.h"
#include "engine/log/segfile.h"

static struct segment_header sample(void)
{
    struct segment_header h = {.number = 0x1234,
                               .shard = 3,
                               .kind = SEGMENT_OUTPUT,
                               .check_kind = SEGMENT_CHECK_XXH3,
                               .cipher_kind = SEGMENT_CIPHER_NONE,
                               .key_id = 7,
                               .watermark = 1000};

    memset(h.store_uuid, 0x11, sizeof h.store_uuid);
    memset(h.identity, 0x22, sizeof h.identity);
    memset(h.salt, 0x33, sizeof h.salt);
    return h;
}

static void rebind(unsigned char *page)
{
    uint64_t seed = adb_check_seed(page + 32);

    adb_put_u64(page + 4088, adb_check_bind(adb_check_raw(page, 4088), seed, 4088));
}

static void names_go_both_ways(void **state)
{
    static const char *const wrong[] = {
        "",
        "1.seg",
        "0000000000000000.seg",
        "000000000000000A.seg",
        "000000000000000a.seg.tmp",
        "000000000000000a.se",
        "000000000000000a",
        "x00000000000000a.seg",
        "00000000000000000a.seg",
        "manifest",
        "000000000000000a/seg",
    };
    char name[SEGMENT_NAME_MAX];
    uint64_t number;

    (void)state;
    segment_name(0x2a, name);
    assert_string_equal(name, "000000000000002a.seg");
    assert_true(segment_name_parse(name, &number));
    assert_int_equal(number, 0x2a);
    segment_name(UINT64_MAX, name);
    assert_true(segment_name_parse(name, &number));
    assert_int_equal(number, UINT64_MAX);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(segment_name_parse(wrong[i], &number));
}

static void a_header_survives_encoding(void **state)
{
    struct segment_header h = sample();
    struct segment_header back;
    unsigned char page[SEGMENT_HEADER_BYTES];

    (void)state;
    segment_header_encode(&h, page);
    assert_int_equal(segment_header_decode(page, "x", &back, NULL), ARMDB_OK);
    assert_memory_equal(h.store_uuid, back.store_uuid, 16);
    assert_memory_equal(h.identity, back.identity, 16);
    assert_memory_equal(h.salt, back.salt, 24);
    assert_int_equal(h.number, back.number);
    assert_int_equal(h.shard, back.shard);
    assert_int_equal(h.kind, back.kind);
    assert_int_equal(h.check_kind, back.check_kind);
    assert_int_equal(h.cipher_kind, back.cipher_kind);
    assert_int_equal(h.key_id, back.key_id);
    assert_int_equal(h.watermark, back.watermark);
}

static void each_flipped_bit_of_the_page_is_damage(void **state)
{
    struct segment_header h = sample();
    struct segment_header back;
    unsigned char page[SEGMENT_HEADER_BYTES];

    (void)state;
    segment_header_encode(&h, page);
    for (size_t bit = 0; bit < 8 * sizeof page; bit += bit < 1024 ? 1 : 13) {
        page[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        assert_int_equal(segment_header_decode(page, "x", &back, NULL), ARMDB_CORRUPT);
        page[bit / 8] ^= (unsigned char)(1u << (bit % 8));
    }
}

static void unknown_versions_and_kinds_are_named(void **state)
{
    static const struct {
        size_t at;
        const char *text;
    } cases[] = {{8, "version 99"}, {64, "kind 99"}, {68, "check 99"}, {72, "kind 99"}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct segment_header h = sample();
        struct segment_header back;
        unsigned char page[SEGMENT_HEADER_BYTES];
        struct armdb_error err = {.rc = ARMDB_OK};

        segment_header_encode(&h, page);
        page[cases[i].at] = 99;
        rebind(page);
        assert_int_equal(segment_header_decode(page, "abc.seg", &back, &err),
                         ARMDB_VERSION);
        assert_non_null(strstr(err.text, cases[i].text));
        assert_non_null(strstr(err.text, "abc.seg"));
    }
}

static void reserved_bytes_must_be_zero(void **state)
{
    static const size_t places[] = {76, 112, 2000, 4087};

    (void)state;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        struct segment_header h = sample();
        struct segment_header back;
        unsigned char page[SEGMENT_HEADER_BYTES];

        segment_header_encode(&h, page);
        page[places[i]] = 1;
        rebind(page);
        assert_int_equal(segment_header_decode(page, "x", &back, NULL), ARMDB_CORRUPT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_go_both_ways),
        cmocka_unit_test(a_header_survives_encoding),
        cmocka_unit_test(each_flipped_bit_of_the_page_is_damage),
        cmocka_unit_test(unknown_versions_and_kinds_are_named),
        cmocka_unit_test(reserved_bytes_must_be_zero),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

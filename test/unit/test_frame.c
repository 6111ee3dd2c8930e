/* test_frame.c - frame headers and their typed fields. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/bytes.h"
#include "engine/base/check.h"
#include "engine/log/frame.h"

enum { SEED = 0xabcdef, OFFSET = 12288 };

static struct frame sample(void)
{
    struct frame f = {.kind = FRAME_COMMIT,
                      .doubt = FRAME_DOUBT_ABORT,
                      .body_len = 1000,
                      .gsn = 17,
                      .txid_edit = 3,
                      .txid_count = 4,
                      .watermark = 15,
                      .settled = 14,
                      .durable_bytes = 8000,
                      .record_count = 6,
                      .digest = UINT64_C(0x1122334455667788),
                      .arg_a = 8,
                      .arg_b = 9};

    return f;
}

/* Writes the check anew after a test has changed a field. */
static void rebind(unsigned char *p)
{
    adb_put_u64(p + 112, adb_check_bind(adb_check_raw(p, 112), SEED, OFFSET + 112));
}

static void assert_same(const struct frame *a, const struct frame *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->doubt, b->doubt);
    assert_int_equal(a->body_len, b->body_len);
    assert_int_equal(a->gsn, b->gsn);
    assert_int_equal(a->txid_edit, b->txid_edit);
    assert_int_equal(a->txid_count, b->txid_count);
    assert_int_equal(a->watermark, b->watermark);
    assert_int_equal(a->settled, b->settled);
    assert_int_equal(a->durable_bytes, b->durable_bytes);
    assert_int_equal(a->record_count, b->record_count);
    assert_int_equal(a->digest, b->digest);
    assert_int_equal(a->arg_a, b->arg_a);
    assert_int_equal(a->arg_b, b->arg_b);
    assert_int_equal(a->outcome, b->outcome);
    assert_int_equal(a->optional_len, b->optional_len);
    assert_int_equal(a->check, b->check);
}

static void every_kind_survives_encoding(void **state)
{
    (void)state;
    for (int kind = FRAME_COMMIT; kind <= FRAME_SEAL; kind++) {
        struct frame f = sample();
        struct frame back;
        unsigned char p[FRAME_HEADER_BYTES];

        f.kind = (enum frame_kind)kind;
        if (kind == FRAME_CHUNK || kind == FRAME_MOVED || kind == FRAME_SEAL)
            f.gsn = 0;
        if (kind == FRAME_VERDICT)
            f.outcome = FRAME_OUTCOME_ABORT;
        if (kind == FRAME_VERDICT || kind == FRAME_SEAL) {
            f.record_count = 0;
            f.body_len = 0;
        }
        frame_encode(&f, p, SEED, OFFSET);
        assert_true(frame_has_magic(p));
        assert_int_equal(frame_decode(p, sizeof p, SEED, OFFSET, &back), ARMDB_OK);
        assert_same(&f, &back);
        assert_int_equal(frame_decode(p, sizeof p, SEED, OFFSET + 8, &back),
                         ARMDB_CORRUPT);
        assert_int_equal(frame_decode(p, sizeof p, SEED + 1, OFFSET, &back),
                         ARMDB_CORRUPT);
    }
}

static void each_flipped_bit_is_seen(void **state)
{
    struct frame f = sample();
    unsigned char optional[24] = {FRAME_FIELD_TOKEN, 0, 0, 0, 16};
    unsigned char p[FRAME_HEADER_BYTES + sizeof optional];
    struct frame back;

    (void)state;
    memset(optional + 8, 0x77, 16);
    f.optional = optional;
    f.optional_len = sizeof optional;
    assert_int_equal(frame_head_len(&f), sizeof p);
    frame_encode(&f, p, SEED, OFFSET);
    for (size_t bit = 0; bit < 8 * sizeof p; bit++) {
        p[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        assert_int_equal(frame_decode(p, sizeof p, SEED, OFFSET, &back),
                         bit < 64 ? ARMDB_NOT_FOUND : ARMDB_CORRUPT);
        p[bit / 8] ^= (unsigned char)(1u << (bit % 8));
    }
    for (size_t left = 0; left < sizeof p; left++)
        assert_int_equal(frame_decode(p, left, SEED, OFFSET, &back),
                         left < 8 ? ARMDB_NOT_FOUND : ARMDB_CORRUPT);
    assert_int_equal(frame_decode_header(p, FRAME_HEADER_BYTES, SEED, OFFSET, &back),
                     ARMDB_OK);
    assert_int_equal(back.optional_len, sizeof optional);
    memset(p, 0, sizeof p);
    assert_int_equal(frame_decode(p, sizeof p, SEED, OFFSET, &back), ARMDB_NOT_FOUND);
}

static void typed_fields_are_found(void **state)
{
    unsigned char optional[16 + 24 + 24];
    struct frame f = sample();
    struct frame back;
    unsigned char p[FRAME_HEADER_BYTES + sizeof optional];
    const unsigned char *bytes;
    uint32_t len;

    (void)state;
    memset(optional, 0, sizeof optional);
    adb_put_u16(optional, FRAME_FIELD_CHUNK_SEGMENTS);
    adb_put_u32(optional + 4, 8);
    adb_put_u64(optional + 8, 42);
    adb_put_u16(optional + 16, FRAME_FIELD_VOID_RUNS);
    adb_put_u32(optional + 20, 16);
    adb_put_u64(optional + 24, 5);
    adb_put_u64(optional + 32, 6);
    adb_put_u16(optional + 40, FRAME_FIELD_TOKEN);
    adb_put_u32(optional + 44, 16);
    f.kind = FRAME_CLOSE;
    f.optional = optional;
    f.optional_len = sizeof optional;
    frame_encode(&f, p, SEED, OFFSET);
    assert_int_equal(frame_decode(p, sizeof p, SEED, OFFSET, &back), ARMDB_OK);
    assert_int_equal(frame_field(&back, FRAME_FIELD_VOID_RUNS, &bytes, &len), ARMDB_OK);
    assert_int_equal(len, 16);
    assert_int_equal(adb_get_u64(bytes + 8), 6);
    assert_int_equal(frame_field(&back, FRAME_FIELD_CHUNK_SEGMENTS, &bytes, &len),
                     ARMDB_OK);
    assert_int_equal(adb_get_u64(bytes), 42);
    assert_int_equal(frame_field(&back, FRAME_FIELD_TOKEN, &bytes, &len), ARMDB_OK);
    back.optional_len = 16;
    assert_int_equal(frame_field(&back, FRAME_FIELD_TOKEN, &bytes, &len),
                     ARMDB_NOT_FOUND);
    assert_null(bytes);
}

/* Decodes a frame with these optional bytes and a right check. */
static enum armdb_rc decode_with(const unsigned char *optional, uint32_t n)
{
    struct frame f = sample();
    struct frame back;
    unsigned char p[FRAME_HEADER_BYTES + 64];

    f.optional = optional;
    f.optional_len = n;
    frame_encode(&f, p, SEED, OFFSET);
    return frame_decode(p, FRAME_HEADER_BYTES + n, SEED, OFFSET, &back);
}

static void fields_are_checked_against_the_area(void **state)
{
    unsigned char o[32];

    (void)state;
    memset(o, 0, sizeof o);
    o[0] = FRAME_FIELD_TOKEN;
    o[4] = 17;
    assert_int_equal(decode_with(o, 32), ARMDB_OK);
    o[25] = 1; /* padding */
    assert_int_equal(decode_with(o, 32), ARMDB_CORRUPT);
    o[25] = 0;
    o[4] = 25;
    assert_int_equal(decode_with(o, 32), ARMDB_CORRUPT);
    memset(o + 4, 0xff, 4);
    assert_int_equal(decode_with(o, 32), ARMDB_CORRUPT);
    memset(o + 4, 0, 4);
    o[4] = 24;
    o[2] = 1; /* reserved */
    assert_int_equal(decode_with(o, 32), ARMDB_CORRUPT);
    o[2] = 0;
    o[0] = 200; /* unknown */
    assert_int_equal(decode_with(o, 32), ARMDB_VERSION);
    o[0] = FRAME_FIELD_VOID_RUNS;
    assert_int_equal(decode_with(o, 32), ARMDB_CORRUPT);
    assert_int_equal(decode_with(o, 12), ARMDB_CORRUPT);
}

static void unknown_kinds_are_another_version_and_reserved_bytes_damage(void **state)
{
    static const struct {
        size_t at;
        unsigned char byte;
        enum armdb_rc rc;
    } cases[] = {
        {8, 7, ARMDB_VERSION},  {8, 0, ARMDB_VERSION},  {9, 3, ARMDB_VERSION},
        {10, 3, ARMDB_VERSION}, {10, 1, ARMDB_CORRUPT}, {11, 1, ARMDB_CORRUPT},
        {20, 1, ARMDB_CORRUPT}, {12, 4, ARMDB_CORRUPT}, {32, 0, ARMDB_CORRUPT},
        {8, 2, ARMDB_CORRUPT},  {8, 6, ARMDB_CORRUPT},  {16, 0, ARMDB_CORRUPT},
    };
    struct frame back;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct frame f = sample();
        unsigned char p[FRAME_HEADER_BYTES];

        frame_encode(&f, p, SEED, OFFSET);
        p[cases[i].at] = cases[i].byte;
        rebind(p);
        assert_int_equal(frame_decode(p, sizeof p, SEED, OFFSET, &back), cases[i].rc);
    }
}

static void the_digest_over_chunks_depends_on_their_order(void **state)
{
    uint64_t a = frame_chain_chunk(frame_chain_chunk(FRAME_DIGEST_START, 1), 2);
    uint64_t b = frame_chain_chunk(frame_chain_chunk(FRAME_DIGEST_START, 2), 1);

    (void)state;
    assert_int_not_equal(a, b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_survives_encoding),
        cmocka_unit_test(each_flipped_bit_is_seen),
        cmocka_unit_test(typed_fields_are_found),
        cmocka_unit_test(fields_are_checked_against_the_area),
        cmocka_unit_test(unknown_kinds_are_another_version_and_reserved_bytes_damage),
        cmocka_unit_test(the_digest_over_chunks_depends_on_their_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_record.c - encoding, binding, decoding and verifying of records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/bytes.h"
#include "engine/base/check.h"
#include "engine/base/thread.h"
#include "engine/log/frame.h"
#include "engine/log/record.h"

enum { SEED = 0x5eed, OFFSET = 8192 };

static uint64_t random_state;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static size_t write_record(const struct record *record, unsigned char *p, uint64_t offset,
                           uint64_t *digest)
{
    size_t size = record_size(record);
    size_t head_check_at;

    record_encode(record, p, &head_check_at);
    record_bind(p, size, head_check_at, record->kind == RECORD_PUT, SEED, offset, digest);
    return size;
}

static void assert_same(const struct record *a, const struct record *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->table, b->table);
    assert_int_equal(a->ordinal, b->ordinal);
    assert_int_equal(a->gsn, b->gsn);
    assert_int_equal(a->expiry, b->expiry);
    assert_int_equal(a->key_len, b->key_len);
    assert_int_equal(a->value_len, b->value_len);
    if (a->key_len > 0)
        assert_memory_equal(a->key, b->key, a->key_len);
    if (a->value_len > 0)
        assert_memory_equal(a->value, b->value, a->value_len);
}

static void round_trip(const struct record *record)
{
    size_t size = record_size(record);
    unsigned char *p = malloc(size); /* exactly, so that sanitizers see every overrun */
    struct record back;
    uint64_t written = FRAME_DIGEST_START;
    uint64_t read = FRAME_DIGEST_START;

    assert_non_null(p);
    assert_int_equal(write_record(record, p, OFFSET, &written), size);
    assert_int_equal(record_decode(p, size, &back), ARMDB_OK);
    assert_same(record, &back);
    assert_int_equal(back.size, size);
    assert_true(record_verify(p, &back, SEED, OFFSET, &read));
    assert_int_equal(written, read);
    assert_true(record_head_ok(p, &back, SEED, OFFSET));
    assert_true(record_value_ok(p, &back, SEED, OFFSET));
    assert_false(record_verify(p, &back, SEED, OFFSET + 1, NULL));
    assert_false(record_head_ok(p, &back, SEED + 1, OFFSET));
    for (size_t left = 0; left < size; left++)
        assert_int_equal(record_decode(p, left, &back), ARMDB_CORRUPT);
    if (size >= RECORD_HEAD_MAX) {
        assert_int_equal(record_decode_head(p, RECORD_HEAD_MAX, &back), ARMDB_OK);
        assert_int_equal(back.size, size);
        assert_int_equal(back.key_len, record->key_len);
        assert_int_equal(back.value_len, record->value_len);
    }
    free(p);
}

static void every_kind_and_flag_survives_encoding(void **state)
{
    static unsigned char key[300];
    static unsigned char value[70000];
    static const size_t lens[] = {0, 1, 20, 127, 128, 300};
    struct record r;

    (void)state;
    memset(key, 'k', sizeof key);
    memset(value, 'v', sizeof value);
    for (unsigned flags = 0; flags < 8; flags++) {
        for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
            memset(&r, 0, sizeof r);
            r.flags = flags << 4;
            r.table = i == 0 ? 0 : UINT64_MAX >> (8 * i);
            if ((r.flags & RECORD_HAS_ORDINAL) != 0)
                r.ordinal = 1000 * i;
            if ((r.flags & RECORD_HAS_GSN) != 0)
                r.gsn = RECORD_NUMBER_LIMIT - 1 - i;
            r.key = key;
            r.key_len = lens[i];
            if ((r.flags & RECORD_HAS_EXPIRY) == 0) {
                r.kind = RECORD_DELETE;
                round_trip(&r);
                r.kind = RECORD_RANGE_DELETE;
                r.value = key;
                r.value_len = lens[5 - i];
                round_trip(&r);
            }
            r.kind = RECORD_PUT;
            r.value = value;
            r.expiry = (r.flags & RECORD_HAS_EXPIRY) != 0 ? UINT64_MAX - 5 : 0;
            r.value_len = lens[5 - i];
            round_trip(&r);
        }
    }
    memset(&r, 0, sizeof r);
    r.kind = RECORD_CLEAR_TABLE;
    r.table = 77;
    round_trip(&r);
    r.kind = RECORD_PUT;
    r.key = key;
    r.key_len = 3;
    r.value = value;
    r.value_len = 2000;
    round_trip(&r);
}

static struct record sample_put(void)
{
    struct record r = {.kind = RECORD_PUT,
                       .flags = RECORD_HAS_EXPIRY,
                       .table = 5,
                       .expiry = 99,
                       .key = (const unsigned char *)"the key",
                       .key_len = 7,
                       .value = (const unsigned char *)"the value",
                       .value_len = 9};

    return r;
}

static void each_check_covers_its_part_and_names_the_damage(void **state)
{
    struct record r = sample_put();
    unsigned char p[64];
    uint64_t digest = 1;
    size_t size = write_record(&r, p, OFFSET, &digest);

    (void)state;
    for (size_t at = 0; at < size; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            struct record back;
            bool in_head;

            p[at] ^= (unsigned char)(1u << bit);
            in_head = at < size - 9 - 8 - 8;
            if (record_decode(p, size, &back) == ARMDB_OK) {
                assert_false(record_verify(p, &back, SEED, OFFSET, NULL));
                assert_int_equal(record_head_ok(p, &back, SEED, OFFSET), !in_head);
                if (!in_head)
                    assert_false(record_value_ok(p, &back, SEED, OFFSET));
            } else {
                assert_true(in_head);
            }
            p[at] ^= (unsigned char)(1u << bit);
        }
    }
}

static void decode_refuses_lengths_that_wrap(void **state)
{
    static const uint64_t lens[] = {64,
                                    RECORD_KEY_BYTES_MAX,
                                    RECORD_KEY_BYTES_MAX + 1,
                                    RECORD_VALUE_BYTES_MAX,
                                    RECORD_VALUE_BYTES_MAX + 1,
                                    UINT32_MAX,
                                    (UINT64_C(1) << 40) + 1,
                                    INT64_MAX,
                                    UINT64_MAX - 8,
                                    UINT64_MAX};
    unsigned char p[64];
    struct record back;

    (void)state;
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        for (int which = 0; which < 2; which++) {
            uint64_t most = which == 0 ? RECORD_KEY_BYTES_MAX : RECORD_VALUE_BYTES_MAX;
            size_t n = 2;

            memset(p, 1, sizeof p);
            p[0] = RECORD_PUT;
            n += adb_put_varint(p + n, which == 0 ? lens[i] : 1);
            n += adb_put_varint(p + n, which == 0 ? 1 : lens[i]);
            assert_int_equal(record_decode(p, sizeof p, &back), ARMDB_CORRUPT);
            assert_int_equal(record_decode_head(p, sizeof p, &back),
                             lens[i] <= most ? ARMDB_OK : ARMDB_CORRUPT);
        }
    }
}

static void decode_refuses_unknown_kinds_flags_and_long_varints(void **state)
{
    unsigned char p[32] = {RECORD_DELETE, 1, 1, 0, 'k'};
    struct record back;

    (void)state;
    assert_int_equal(record_decode(p, sizeof p, &back), ARMDB_OK);
    for (unsigned first = 0; first < 256; first++) {
        unsigned kind = first & 15;

        if (kind >= RECORD_PUT && kind <= RECORD_RANGE_DELETE &&
            (first & RECORD_RESERVED_FLAG) == 0)
            continue;
        p[0] = (unsigned char)first;
        assert_int_equal(record_decode(p, sizeof p, &back), ARMDB_CORRUPT);
    }
    p[0] = RECORD_DELETE | RECORD_HAS_EXPIRY;
    assert_int_equal(record_decode(p, sizeof p, &back), ARMDB_CORRUPT);
    p[0] = RECORD_CLEAR_TABLE; /* has a key */
    assert_int_equal(record_decode(p, sizeof p, &back), ARMDB_CORRUPT);
    p[0] = RECORD_DELETE;
    p[3] = 1; /* has a value */
    assert_int_equal(record_decode(p, sizeof p, &back), ARMDB_CORRUPT);
    p[3] = 0;
    p[1] = 0x81; /* table 1 in two bytes */
    p[2] = 0x00;
    assert_int_equal(record_decode(p, sizeof p, &back), ARMDB_CORRUPT);
}

static void random_bytes_never_lead_past_their_end(void **state)
{
    (void)state;
    for (int i = 0; i < 200000; i++) {
        size_t n = next_random() % 40;
        unsigned char *p = malloc(n + 1);
        struct record back;

        for (size_t at = 0; at < n; at++)
            p[at] = (unsigned char)(next_random() >> 20);
        if (n > 0 && i % 2 == 0)
            p[0] = (unsigned char)(1 + next_random() % 4);
        if (record_decode(p, n, &back) == ARMDB_OK) {
            assert_true(back.size <= n);
            assert_false(record_verify(p, &back, SEED, 0, NULL));
        }
        if (record_decode_head(p, n, &back) == ARMDB_OK && back.key != NULL)
            assert_true(back.key + back.key_len <= p + n);
        free(p);
    }
}

static void records_of_one_page_never_straddle(void **state)
{
    (void)state;
    for (uint64_t offset = 4096; offset < 3 * 4096; offset += 7) {
        for (uint64_t size = 10; size < 6000; size += 331) {
            uint64_t at = record_place(offset, size);

            assert_true(at >= offset && at - offset < 4096);
            if (size <= 4096)
                assert_int_equal(at / 4096, (at + size - 1) / 4096);
            else
                assert_int_equal(at, offset);
        }
    }
}

static void encoding_is_fast(void **state)
{
    enum { ROUNDS = 1000000 };
    static unsigned char value[100];
    struct record r = {.kind = RECORD_PUT,
                       .table = 1,
                       .key = (const unsigned char *)"0123456789abcdef",
                       .key_len = 16,
                       .value = value,
                       .value_len = sizeof value};
    unsigned char p[256] = {0};
    uint64_t digest = 0;
    uint64_t start = adb_mono_ns();
    uint64_t middle;
    uint64_t end;
    struct record back;
    size_t head_check_at;

    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        value[0] = (unsigned char)i;
        record_encode(&r, p, &head_check_at);
        record_bind(p, 140, head_check_at, true, SEED, (uint64_t)i, &digest);
    }
    middle = adb_mono_ns();
    for (int i = 0; i < ROUNDS; i++) {
        p[130] = (unsigned char)i;
        assert_true(record_decode(p, sizeof p, &back) == ARMDB_OK);
        (void)record_verify(p, &back, SEED, 0, &digest);
    }
    end = adb_mono_ns();
    print_message("size and encode+bind %.1f ns, decode+verify %.1f ns (%llx)\n",
                  (double)(middle - start) / ROUNDS, (double)(end - middle) / ROUNDS,
                  (unsigned long long)digest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_and_flag_survives_encoding),
        cmocka_unit_test(each_check_covers_its_part_and_names_the_damage),
        cmocka_unit_test(decode_refuses_lengths_that_wrap),
        cmocka_unit_test(decode_refuses_unknown_kinds_flags_and_long_varints),
        cmocka_unit_test(random_bytes_never_lead_past_their_end),
        cmocka_unit_test(records_of_one_page_never_straddle),
        cmocka_unit_test(encoding_is_fast),
    };
    const char *seed = getenv("SEED");

    random_state = seed != NULL ? strtoull(seed, NULL, 0) : (uint64_t)adb_mono_ns() | 1;
    printf("SEED=%llu\n", (unsigned long long)random_state);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

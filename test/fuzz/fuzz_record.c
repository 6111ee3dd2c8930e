/* fuzz_record.c - any bytes as a record; any record as bytes.
 *
 * Input: a byte of choices, then (bit 0 off) the bytes of a record, (on) the fields of
 * one. Bytes that are accepted encode to themselves, and cut off at any length they are
 * refused; a record that is encoded and bound verifies, decodes to what it was, and no
 * more so after one bit of it is turned. */
#include <stdlib.h>
#include <string.h>

#include "engine/log/record.h"
#include "test/fuzz/harness.h"
#include "test/fuzz/reseal.h"

const struct fuzz_setup fuzz_setup = {"record", 500000, 600, 0, 0};

static const uint64_t seed = UINT64_C(0x0FEDCBA987654321);

static bool is_same(const struct record *a, const struct record *b)
{
    return a->kind == b->kind && a->flags == b->flags && a->table == b->table &&
           a->ordinal == b->ordinal && a->gsn == b->gsn && a->expiry == b->expiry &&
           a->key_len == b->key_len && a->value_len == b->value_len &&
           a->head_check_at == b->head_check_at && a->value_at == b->value_at &&
           a->size == b->size;
}

/* The head alone says the same, whatever part of the rest is there. */
static void check_head(const unsigned char *bytes, const struct record *record)
{
    for (size_t n = 0; n < record->size; n++) {
        struct record head;
        struct record none;
        uint8_t *part = fuzz_copy(bytes, n);

        FUZZ_CHECK(record_decode(part, n, &none) == ARMDB_CORRUPT);
        if (record_decode_head(part, n, &head) == ARMDB_OK && n >= record->head_check_at)
            FUZZ_CHECK(head.size == record->size && head.key_len == record->key_len &&
                       head.table == record->table && head.gsn == record->gsn);
        free(part);
        if (n > RECORD_HEAD_MAX)
            n += n / 8;
    }
}

static void accepted(unsigned char *bytes, const struct record *record, uint64_t offset)
{
    unsigned char *again;
    size_t head_check_at;
    uint64_t bound = 7;
    uint64_t verified = 7;
    struct record decoded;

    FUZZ_CHECK(record_size(record) == record->size);
    again = malloc(record->size);
    record_encode(record, again, &head_check_at);
    FUZZ_CHECK(head_check_at == record->head_check_at);
    record_bind(again, record->size, head_check_at, record->kind == RECORD_PUT, seed,
                offset, &bound);
    FUZZ_CHECK(reseal_record(bytes, record->size, seed, offset, &verified) ==
               record->size);
    FUZZ_CHECK(bound == verified);
    FUZZ_CHECK(memcmp(again, bytes, record->size) == 0);
    verified = 7;
    FUZZ_CHECK(record_decode(again, record->size, &decoded) == ARMDB_OK);
    FUZZ_CHECK(is_same(&decoded, record));
    FUZZ_CHECK(record_verify(again, &decoded, seed, offset, &verified));
    FUZZ_CHECK(bound == verified);
    FUZZ_CHECK(record_head_ok(again, &decoded, seed, offset));
    FUZZ_CHECK(record_value_ok(again, &decoded, seed, offset));
    FUZZ_CHECK(!record_head_ok(again, &decoded, seed, offset + 1));
    free(again);
}

static void decode(unsigned char *bytes, size_t n, uint64_t offset)
{
    struct record record;

    FUZZ_SCRIBBLE(record);
    if (record_decode(bytes, n, &record) != ARMDB_OK)
        return;
    FUZZ_CHECK(record.size <= n);
    FUZZ_CHECK(record.key >= bytes && record.key_len <= n);
    check_head(bytes, &record);
    accepted(bytes, &record, offset);
}

static void encode(struct fuzz_input *in, unsigned turn, uint64_t offset)
{
    struct record record;
    struct record decoded;
    unsigned char *bytes;
    size_t head_check_at;
    uint64_t digest = 0;
    uint64_t again = 0;
    unsigned flags = fuzz_u8(in);

    memset(&record, 0, sizeof record);
    record.kind = (enum record_kind)(1 + (flags & 3));
    record.flags = flags & (RECORD_HAS_ORDINAL | RECORD_HAS_GSN);
    if (record.kind == RECORD_PUT)
        record.flags |= flags & RECORD_HAS_EXPIRY;
    record.table = fuzz_number(in) % RECORD_NUMBER_LIMIT;
    record.ordinal = (flags & RECORD_HAS_ORDINAL) != 0 ? fuzz_number(in) : 0;
    record.gsn =
        (flags & RECORD_HAS_GSN) != 0 ? fuzz_number(in) % RECORD_NUMBER_LIMIT : 0;
    record.expiry = (record.flags & RECORD_HAS_EXPIRY) != 0 ? fuzz_number(in) : 0;
    if (record.kind != RECORD_CLEAR_TABLE)
        record.key = fuzz_bytes(in, fuzz_u8(in), &record.key_len);
    if (record.kind == RECORD_PUT || record.kind == RECORD_RANGE_DELETE)
        record.value = fuzz_bytes(in, fuzz_u16(in), &record.value_len);
    record.size = record_size(&record);
    bytes = malloc(record.size);
    record_encode(&record, bytes, &head_check_at);
    record_bind(bytes, record.size, head_check_at, record.kind == RECORD_PUT, seed,
                offset, &digest);
    FUZZ_CHECK(record_decode(bytes, record.size, &decoded) == ARMDB_OK);
    record.head_check_at = head_check_at;
    record.value_at = decoded.value_at;
    FUZZ_CHECK(is_same(&record, &decoded));
    FUZZ_CHECK(record_verify(bytes, &decoded, seed, offset, &again) && again == digest);
    bytes[turn / 8 % record.size] ^= (unsigned char)(1u << (turn % 8));
    if (record_decode(bytes, record.size, &decoded) == ARMDB_OK &&
        decoded.size == record.size) {
        again = 0;
        FUZZ_CHECK(!record_verify(bytes, &decoded, seed, offset, &again));
    }
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    uint8_t how = fuzz_u8(&in);
    uint64_t offset = fuzz_number(&in);

    if ((how & 1) != 0) {
        encode(&in, fuzz_u16(&in), offset);
    } else {
        uint8_t *bytes = fuzz_copy(in.p, in.left);

        decode(bytes, in.left, offset);
        free(bytes);
    }
    return 0;
}

/* record.c - one put or delete as bytes: encoding, binding, decoding, verifying.
 *
 * A record has two checks. The head check covers everything before it, so that a
 * damaged value still names its key; the value check covers the optional fields and
 * the value. Only puts carry a value check: the high end of a range delete is a
 * key and stands before the head check, behind the low end.
 *
 *   put           | head varints | key       | head check | expiry? | value | check |
 *   range delete  | head varints | low, high | head check |
 *   delete        | head varints | key       | head check |
 *   clear table   | head varints |             head check |
 *
 * Writing takes two steps. record_encode() runs before the record's place is known
 * and leaves raw hashes in the check fields; record_bind() runs under the append
 * lock and turns them into checks bound to segment and offset: two multiplications
 * and a few shifts per check, no hashing, no allocation. It also chains the raw
 * hashes into the frame's digest:
 *
 *   digest = adb_check_bind(raw head, digest, raw value or 0)
 *
 * record_verify() does the same from the bytes; the two must agree.
 *
 * A reader trusts nothing: a varint must have its shortest form, lengths are held
 * against what a row may have first (so that sums cannot wrap) and then against the
 * bytes at hand. A record with an unknown kind or flag is no record. */
#include "engine/log/record.h"

#include <assert.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/check.h"

enum { CHECK_BYTES = 8, EXPIRY_BYTES = 8, KIND_MASK = 0x0f };

static_assert(sizeof(size_t) >= sizeof(uint64_t), "lengths of a record fit a size_t");

static size_t head_varints_len(const struct record *record)
{
    size_t n = 1 + adb_varint_len(record->table);

    if ((record->flags & RECORD_HAS_ORDINAL) != 0)
        n += adb_varint_len(record->ordinal);
    if ((record->flags & RECORD_HAS_GSN) != 0)
        n += adb_varint_len(record->gsn);
    return n + adb_varint_len(record->key_len) + adb_varint_len(record->value_len);
}

static size_t expiry_len(const struct record *record)
{
    return (record->flags & RECORD_HAS_EXPIRY) != 0 ? EXPIRY_BYTES : 0;
}

size_t record_size(const struct record *record)
{
    size_t n = head_varints_len(record) + record->key_len + CHECK_BYTES;

    if (record->kind == RECORD_PUT)
        return n + expiry_len(record) + record->value_len + CHECK_BYTES;
    return n + record->value_len;
}

size_t record_size_plain(const struct record *record)
{
    size_t n = record->size;

    if ((record->flags & RECORD_HAS_ORDINAL) != 0)
        n -= adb_varint_len(record->ordinal);
    if ((record->flags & RECORD_HAS_GSN) != 0)
        n -= adb_varint_len(record->gsn);
    return n;
}

static size_t put_varint(unsigned char *p, uint64_t v)
{
    if (v < 0x80) {
        *p = (unsigned char)v;
        return 1;
    }
    return adb_put_varint(p, v);
}

static size_t put_bytes(unsigned char *p, const unsigned char *bytes, size_t n)
{
    if (n > 0)
        memcpy(p, bytes, n);
    return n;
}

void record_encode(const struct record *record, unsigned char *p, size_t *head_check_at)
{
    size_t at = 1;
    size_t covered_from;

    p[0] = (unsigned char)((unsigned)record->kind | record->flags);
    at += put_varint(p + at, record->table);
    if ((record->flags & RECORD_HAS_ORDINAL) != 0)
        at += put_varint(p + at, record->ordinal);
    if ((record->flags & RECORD_HAS_GSN) != 0)
        at += put_varint(p + at, record->gsn);
    at += put_varint(p + at, record->key_len);
    at += put_varint(p + at, record->value_len);
    at += put_bytes(p + at, record->key, record->key_len);
    if (record->kind != RECORD_PUT)
        at += put_bytes(p + at, record->value, record->value_len);
    *head_check_at = at;
    adb_put_u64(p + at, adb_check_raw(p, at));
    at += CHECK_BYTES;
    if (record->kind != RECORD_PUT)
        return;
    covered_from = at;
    if ((record->flags & RECORD_HAS_EXPIRY) != 0) {
        adb_put_u64(p + at, record->expiry);
        at += EXPIRY_BYTES;
    }
    at += put_bytes(p + at, record->value, record->value_len);
    adb_put_u64(p + at, adb_check_raw(p + covered_from, at - covered_from));
}

void record_bind(unsigned char *p, size_t size, size_t head_check_at,
                 bool has_value_check, uint64_t seed, uint64_t offset, uint64_t *digest)
{
    uint64_t raw_head = adb_get_u64(p + head_check_at);
    uint64_t raw_value = 0;
    size_t value_check_at = size - CHECK_BYTES;

    adb_put_u64(p + head_check_at,
                adb_check_bind(raw_head, seed, offset + head_check_at));
    if (has_value_check) {
        raw_value = adb_get_u64(p + value_check_at);
        adb_put_u64(p + value_check_at,
                    adb_check_bind(raw_value, seed, offset + value_check_at));
    }
    *digest = adb_check_bind(raw_head, *digest, raw_value);
}

/* Reads one varint at *at and moves *at past it; false when there is none. */
static inline bool take_varint(const unsigned char *p, size_t left, size_t *at,
                               uint64_t *v)
{
    size_t n;

    if (*at < left && p[*at] < 0x80) {
        *v = p[(*at)++];
        return true;
    }
    n = adb_get_varint(p + *at, left - *at, v);
    *at += n;
    return n != 0;
}

/* What a record of each kind may hold. */
static bool is_sound(const struct record *record)
{
    if (record->key_len > RECORD_KEY_BYTES_MAX ||
        record->value_len > RECORD_VALUE_BYTES_MAX ||
        record->gsn >= RECORD_NUMBER_LIMIT || record->table >= RECORD_NUMBER_LIMIT)
        return false;
    if (record->kind == RECORD_PUT)
        return true;
    if ((record->flags & RECORD_HAS_EXPIRY) != 0)
        return false;
    if (record->kind == RECORD_RANGE_DELETE)
        return true;
    if (record->value_len != 0)
        return false;
    return record->kind == RECORD_DELETE || record->key_len == 0;
}

/* Sets everything but the pointers; *key_at is the key's position. */
static enum armdb_rc parse_head(const unsigned char *p, size_t left,
                                struct record *record, size_t *key_at)
{
    uint64_t key_len;
    uint64_t value_len;
    unsigned kind;
    size_t at = 1;

    memset(record, 0, sizeof *record);
    *key_at = 0;
    if (left == 0)
        return ARMDB_CORRUPT;
    kind = p[0] & (unsigned)KIND_MASK;
    record->flags = p[0] & ~(unsigned)KIND_MASK;
    if (kind < RECORD_PUT || kind > RECORD_RANGE_DELETE ||
        (record->flags & RECORD_RESERVED_FLAG) != 0)
        return ARMDB_CORRUPT;
    record->kind = (enum record_kind)kind;
    if (!take_varint(p, left, &at, &record->table) ||
        ((record->flags & RECORD_HAS_ORDINAL) != 0 &&
         !take_varint(p, left, &at, &record->ordinal)) ||
        ((record->flags & RECORD_HAS_GSN) != 0 &&
         !take_varint(p, left, &at, &record->gsn)) ||
        !take_varint(p, left, &at, &key_len) || !take_varint(p, left, &at, &value_len))
        return ARMDB_CORRUPT;
    record->key_len = key_len;
    record->value_len = value_len;
    if (!is_sound(record))
        return ARMDB_CORRUPT;
    *key_at = at;
    at += record->key_len;
    if (record->kind == RECORD_PUT) {
        record->head_check_at = at;
        record->value_at = at + CHECK_BYTES + expiry_len(record);
        record->size = record->value_at + record->value_len + CHECK_BYTES;
    } else {
        record->value_at = at;
        record->head_check_at = at + record->value_len;
        record->size = record->head_check_at + CHECK_BYTES;
    }
    return ARMDB_OK;
}

static bool has_value(const struct record *record)
{
    return record->kind == RECORD_PUT || record->kind == RECORD_RANGE_DELETE;
}

enum armdb_rc record_decode(const unsigned char *p, size_t left, struct record *record)
{
    size_t key_at;
    enum armdb_rc rc = parse_head(p, left, record, &key_at);

    if (rc != ARMDB_OK)
        return rc;
    if (record->size > left)
        return ARMDB_CORRUPT;
    record->key = p + key_at;
    if (has_value(record))
        record->value = p + record->value_at;
    if ((record->flags & RECORD_HAS_EXPIRY) != 0)
        record->expiry = adb_get_u64(p + record->value_at - EXPIRY_BYTES);
    return ARMDB_OK;
}

enum armdb_rc record_decode_head(const unsigned char *p, size_t left,
                                 struct record *record)
{
    size_t key_at;
    enum armdb_rc rc = parse_head(p, left, record, &key_at);

    if (rc != ARMDB_OK)
        return rc;
    if (key_at <= left && record->key_len <= left - key_at)
        record->key = p + key_at;
    if (has_value(record) && record->value_at <= left) {
        if ((record->flags & RECORD_HAS_EXPIRY) != 0)
            record->expiry = adb_get_u64(p + record->value_at - EXPIRY_BYTES);
        if (record->value_len <= left - record->value_at)
            record->value = p + record->value_at;
    }
    return ARMDB_OK;
}

static bool check_ok(const unsigned char *p, size_t check_at, uint64_t raw, uint64_t seed,
                     uint64_t offset)
{
    return adb_get_u64(p + check_at) == adb_check_bind(raw, seed, offset + check_at);
}

static uint64_t hash_value(const unsigned char *p, const struct record *record)
{
    size_t from = record->head_check_at + CHECK_BYTES;

    return adb_check_raw(p + from, record->size - CHECK_BYTES - from);
}

bool record_head_ok(const unsigned char *p, const struct record *record, uint64_t seed,
                    uint64_t offset)
{
    return check_ok(p, record->head_check_at, adb_check_raw(p, record->head_check_at),
                    seed, offset);
}

bool record_value_ok(const unsigned char *p, const struct record *record, uint64_t seed,
                     uint64_t offset)
{
    if (record->kind != RECORD_PUT)
        return true;
    return check_ok(p, record->size - CHECK_BYTES, hash_value(p, record), seed, offset);
}

bool record_verify(const unsigned char *p, const struct record *record, uint64_t seed,
                   uint64_t offset, uint64_t *digest)
{
    uint64_t raw_head = adb_check_raw(p, record->head_check_at);
    uint64_t raw_value = 0;
    bool ok = check_ok(p, record->head_check_at, raw_head, seed, offset);

    if (record->kind == RECORD_PUT) {
        raw_value = hash_value(p, record);
        ok = check_ok(p, record->size - CHECK_BYTES, raw_value, seed, offset) && ok;
    }
    if (digest != NULL)
        *digest = adb_check_bind(raw_head, *digest, raw_value);
    return ok;
}

/* frame.c - frame headers: encoding, decoding, typed fields.
 *
 *   offset size  field
 *        0    8  magic
 *        8    1  kind
 *        9    1  in-doubt rule
 *       10    1  outcome (VERDICT, else 0)
 *       11    1  zero
 *       12    4  length of the optional area, a multiple of 8
 *       16    4  number of records
 *       20    4  zero
 *       24    8  length of the body
 *       32    8  GSN
 *       40   16  txid: manifest edit number, counter
 *       56    8  watermark W
 *       64    8  settled D
 *       72    8  durable bytes of this segment
 *       80    8  digest over the records' raw hashes
 *       88   16  arguments a and b, by kind
 *      104    8  raw hash of the optional area, 0 when it is empty
 *      112    8  check over the 112 bytes before, bound to seed and its own offset
 *      120       optional area
 *
 * Header and optional area are hashed apart so that a reader who looks for frames at
 * every multiple of 8 hashes 112 bytes per candidate, whatever lengths the bytes
 * claim; nothing in a header is believed before its check. */
#include "engine/log/frame.h"

#include <assert.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/log/record.h"

enum { /* on disk: never renumber */
       AT_KIND = 8,
       AT_DOUBT = 9,
       AT_OUTCOME = 10,
       AT_ZERO_BYTE = 11,
       AT_OPTIONAL_LEN = 12,
       AT_RECORD_COUNT = 16,
       AT_ZERO_WORD = 20,
       AT_BODY_LEN = 24,
       AT_GSN = 32,
       AT_TXID_EDIT = 40,
       AT_TXID_COUNT = 48,
       AT_WATERMARK = 56,
       AT_SETTLED = 64,
       AT_DURABLE = 72,
       AT_DIGEST = 80,
       AT_ARG_A = 88,
       AT_ARG_B = 96,
       AT_OPTIONAL_HASH = 104,
       AT_CHECK = 112,
       FIELD_HEAD_BYTES = 8
};

static_assert(AT_CHECK + 8 == FRAME_HEADER_BYTES, "the check ends the header");
static_assert(FRAME_HEADER_BYTES % FRAME_ALIGNMENT == 0, "the optional area is aligned");

/* Not text: a log of text never looks like frames. */
static const unsigned char magic[8] = {0xA7, 'a', 'd', 'b', 'F', 'r', 'm', 0x1A};

static uint64_t hash_optional(const unsigned char *p, size_t n)
{
    return n == 0 ? 0 : adb_check_raw(p, n);
}

void frame_encode(struct frame *frame, unsigned char *p, uint64_t seed, uint64_t offset)
{
    memcpy(p, magic, sizeof magic);
    p[AT_KIND] = (unsigned char)frame->kind;
    p[AT_DOUBT] = (unsigned char)frame->doubt;
    p[AT_OUTCOME] = (unsigned char)frame->outcome;
    p[AT_ZERO_BYTE] = 0;
    adb_put_u32(p + AT_OPTIONAL_LEN, frame->optional_len);
    adb_put_u32(p + AT_RECORD_COUNT, frame->record_count);
    adb_put_u32(p + AT_ZERO_WORD, 0);
    adb_put_u64(p + AT_BODY_LEN, frame->body_len);
    adb_put_u64(p + AT_GSN, frame->gsn);
    adb_put_u64(p + AT_TXID_EDIT, frame->txid_edit);
    adb_put_u64(p + AT_TXID_COUNT, frame->txid_count);
    adb_put_u64(p + AT_WATERMARK, frame->watermark);
    adb_put_u64(p + AT_SETTLED, frame->settled);
    adb_put_u64(p + AT_DURABLE, frame->durable_bytes);
    adb_put_u64(p + AT_DIGEST, frame->digest);
    adb_put_u64(p + AT_ARG_A, frame->arg_a);
    adb_put_u64(p + AT_ARG_B, frame->arg_b);
    adb_put_u64(p + AT_OPTIONAL_HASH,
                hash_optional(frame->optional, frame->optional_len));
    frame->check = adb_check_bind(adb_check_raw(p, AT_CHECK), seed, offset + AT_CHECK);
    adb_put_u64(p + AT_CHECK, frame->check);
    if (frame->optional_len > 0)
        memcpy(p + FRAME_HEADER_BYTES, frame->optional, frame->optional_len);
}

bool frame_has_magic(const unsigned char p[8])
{
    return memcmp(p, magic, sizeof magic) == 0;
}

/* The values that version 1 knows. */
static bool is_known(unsigned kind, unsigned doubt, unsigned outcome)
{
    return kind >= FRAME_COMMIT && kind <= FRAME_SEAL && doubt <= FRAME_DOUBT_ASK &&
           outcome <= FRAME_OUTCOME_ABORT;
}

static bool takes_gsn(enum frame_kind kind)
{
    return kind == FRAME_COMMIT || kind == FRAME_CLOSE || kind == FRAME_VERDICT;
}

/* What the fields say together. */
static bool is_sound(const struct frame *frame)
{
    if (takes_gsn(frame->kind) != (frame->gsn != 0) || frame->gsn >= RECORD_NUMBER_LIMIT)
        return false;
    if (frame->watermark >= RECORD_NUMBER_LIMIT || frame->settled >= RECORD_NUMBER_LIMIT)
        return false;
    if ((frame->kind == FRAME_VERDICT) != (frame->outcome != 0))
        return false;
    if ((frame->kind == FRAME_VERDICT || frame->kind == FRAME_SEAL) &&
        frame->record_count != 0)
        return false;
    return (frame->record_count == 0) == (frame->body_len == 0);
}

enum armdb_rc frame_decode_header(const unsigned char *p, size_t left, uint64_t seed,
                                  uint64_t offset, struct frame *frame)
{
    memset(frame, 0, sizeof *frame);
    if (left < sizeof magic || !frame_has_magic(p))
        return ARMDB_NOT_FOUND;
    if (left < FRAME_HEADER_BYTES)
        return ARMDB_CORRUPT;
    frame->check = adb_get_u64(p + AT_CHECK);
    if (frame->check !=
        adb_check_bind(adb_check_raw(p, AT_CHECK), seed, offset + AT_CHECK))
        return ARMDB_CORRUPT;
    if (!is_known(p[AT_KIND], p[AT_DOUBT], p[AT_OUTCOME]))
        return ARMDB_VERSION;
    frame->kind = (enum frame_kind)p[AT_KIND];
    frame->doubt = (enum frame_doubt)p[AT_DOUBT];
    frame->outcome = p[AT_OUTCOME];
    frame->optional_len = adb_get_u32(p + AT_OPTIONAL_LEN);
    frame->record_count = adb_get_u32(p + AT_RECORD_COUNT);
    frame->body_len = adb_get_u64(p + AT_BODY_LEN);
    frame->gsn = adb_get_u64(p + AT_GSN);
    frame->txid_edit = adb_get_u64(p + AT_TXID_EDIT);
    frame->txid_count = adb_get_u64(p + AT_TXID_COUNT);
    frame->watermark = adb_get_u64(p + AT_WATERMARK);
    frame->settled = adb_get_u64(p + AT_SETTLED);
    frame->durable_bytes = adb_get_u64(p + AT_DURABLE);
    frame->digest = adb_get_u64(p + AT_DIGEST);
    frame->arg_a = adb_get_u64(p + AT_ARG_A);
    frame->arg_b = adb_get_u64(p + AT_ARG_B);
    if (p[AT_ZERO_BYTE] != 0 || adb_get_u32(p + AT_ZERO_WORD) != 0 ||
        frame->optional_len % FRAME_ALIGNMENT != 0 || !is_sound(frame))
        return ARMDB_CORRUPT;
    return ARMDB_OK;
}

/* A field at p: its length with padding, or 0 when it does not fit into `left`. */
static uint32_t field_span(const unsigned char *p, uint32_t left, uint32_t *len)
{
    *len = 0;
    if (left < FIELD_HEAD_BYTES)
        return 0;
    *len = adb_get_u32(p + 4);
    if (*len > left - FIELD_HEAD_BYTES)
        return 0;
    /* `left` is a multiple of 8, so rounding up stays within it. */
    return FIELD_HEAD_BYTES + ((*len + 7u) & ~7u);
}

/* Length that a field of a known type must have; false for others. */
static bool field_len_ok(unsigned type, uint32_t len)
{
    switch ((enum frame_field)type) {
    case FRAME_FIELD_CHUNK_SEGMENTS:
        return len % 8 == 0;
    case FRAME_FIELD_VOID_RUNS:
        return len % 16 == 0;
    case FRAME_FIELD_TOKEN:
        return len >= 16;
    }
    return false;
}

static enum armdb_rc check_fields(const unsigned char *p, uint32_t left)
{
    enum armdb_rc rc = ARMDB_OK;

    while (left > 0) {
        uint32_t len;
        uint32_t span = field_span(p, left, &len);
        unsigned type;

        if (span == 0 || adb_get_u16(p + 2) != 0)
            return ARMDB_CORRUPT;
        type = adb_get_u16(p);
        if (type < FRAME_FIELD_CHUNK_SEGMENTS || type > FRAME_FIELD_TOKEN)
            rc = ARMDB_VERSION;
        else if (!field_len_ok(type, len))
            return ARMDB_CORRUPT;
        for (uint32_t i = FIELD_HEAD_BYTES + len; i < span; i++) {
            if (p[i] != 0)
                return ARMDB_CORRUPT;
        }
        p += span;
        left -= span;
    }
    return rc;
}

enum armdb_rc frame_decode(const unsigned char *p, size_t left, uint64_t seed,
                           uint64_t offset, struct frame *frame)
{
    enum armdb_rc rc = frame_decode_header(p, left, seed, offset, frame);
    const unsigned char *optional = p + FRAME_HEADER_BYTES;

    if (rc != ARMDB_OK)
        return rc;
    if (frame->optional_len > left - FRAME_HEADER_BYTES)
        return ARMDB_CORRUPT;
    if (hash_optional(optional, frame->optional_len) != adb_get_u64(p + AT_OPTIONAL_HASH))
        return ARMDB_CORRUPT;
    frame->optional = optional;
    return check_fields(optional, frame->optional_len);
}

enum armdb_rc frame_field(const struct frame *frame, enum frame_field type,
                          const unsigned char **p, uint32_t *len)
{
    const unsigned char *at = frame->optional;
    uint32_t left = frame->optional_len;

    *p = NULL;
    *len = 0;
    while (left > 0) {
        uint32_t field_len;
        uint32_t span = field_span(at, left, &field_len);

        if (span == 0)
            break;
        if (adb_get_u16(at) == (unsigned)type) {
            *p = at + FIELD_HEAD_BYTES;
            *len = field_len;
            return ARMDB_OK;
        }
        at += span;
        left -= span;
    }
    return ARMDB_NOT_FOUND;
}

/* record.h - one put or delete of one key, as bytes.
 *
 *   | kind+flags 1 | table varint | ordinal varint? | gsn varint? |
 *   | key_len varint | value_len varint | key | head check 8 |
 *   | expiry 8? | value | value check 8 |
 *
 * kind is in the low four bits (never 0, so that padding cannot be taken for a
 * record). The head check covers everything before it; the value check covers the
 * optional fields and the value, and is there for puts alone. The high end of a
 * range delete is part of the head: it follows the low end, before the head check.
 * A check is adb_check_bind(raw hash, segment seed, offset of the check field).
 *
 * A record of at most one page never straddles a page: zero bytes fill the page
 * before it. Normative text: FORMAT.md, "Record". Layer 2. */
#ifndef ADB_ENGINE_LOG_RECORD_H
#define ADB_ENGINE_LOG_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/rc.h"

enum record_kind { /* on disk: never renumber */
                   RECORD_PUT = 1,
                   RECORD_DELETE = 2,
                   RECORD_CLEAR_TABLE = 3,
                   RECORD_RANGE_DELETE =
                       4 /* key = low end, value = high end (exclusive) */
};

enum { /* on disk: never renumber */
       RECORD_HAS_ORDINAL = 1 << 4,
       RECORD_HAS_GSN = 1 << 5,
       RECORD_HAS_EXPIRY = 1 << 6,
       RECORD_RESERVED_FLAG = 1 << 7
};

/* On disk: every GSN, table id and segment number, in whatever file, and the manifest's
 * counters are below this: in memory one bit of 64 says something else, and none may
 * wrap. A file that claims more is damaged. A store that has counted beyond
 * NUMBER_OPEN_MAX does not open, so no writer comes near the limit: there are years
 * between them. */
#define RECORD_NUMBER_LIMIT (UINT64_C(1) << 63)
#define RECORD_NUMBER_OPEN_MAX (UINT64_C(1) << 62)
/* The limits of engine/armdb.h, for a reader. */
enum { RECORD_KEY_BYTES_MAX = 1 << 20, RECORD_VALUE_BYTES_MAX = 1 << 30 };

struct record {
    enum record_kind kind;
    unsigned flags;   /* RECORD_HAS_ bits */
    uint64_t table;   /* table id */
    uint64_t ordinal; /* place in its transaction; chunks and moved records */
    uint64_t gsn;     /* moved records */
    uint64_t expiry;
    const unsigned char *key;
    size_t key_len;
    const unsigned char *value; /* NULL unless a put or range delete */
    size_t value_len;
    /* Set by record_decode(): the layout. */
    size_t head_check_at; /* position of the head check in the record */
    size_t value_at;      /* position of the value */
    size_t size;          /* of the whole record */
};

enum { RECORD_HEAD_MAX = 1 + 5 * 10 }; /* bytes before the key, at most */

/* Bytes that record_encode() will write. */
size_t record_size(const struct record *record);
/* What a decoded record would take without ordinal and GSN: as live bytes are counted. */
size_t record_size_plain(const struct record *record);
/* Writes the record with RAW hashes in its check fields; stores the position of the
 * head check. Cannot fail; the caller keeps the limits. */
void record_encode(const struct record *record, unsigned char *p, size_t *head_check_at);
/* Turns the raw hashes of an encoded record at p into checks bound to the place
 * where it lies; also chains them into *digest, the digest over a frame's records. */
void record_bind(unsigned char *p, size_t size, size_t head_check_at,
                 bool has_value_check, uint64_t seed, uint64_t offset, uint64_t *digest);

/* Reads the structure of a record from at most `left` bytes; verifies nothing but
 * bounds. ARMDB_CORRUPT when the bytes are no record of a known kind that fits. */
enum armdb_rc record_decode(const unsigned char *p, size_t left,
                            struct record *record) ADB_MUST_CHECK;
/* Like record_decode() for at least RECORD_HEAD_MAX (or all) bytes of the record's
 * beginning when the rest may not be at hand: sets lengths and positions, no key or
 * value pointers need be readable. */
enum armdb_rc record_decode_head(const unsigned char *p, size_t left,
                                 struct record *record) ADB_MUST_CHECK;
/* Verify a decoded record whose bytes start at p and lie at `offset` of the segment
 * with `seed`. record_verify chains the raw hashes into *digest (may be NULL). */
bool record_head_ok(const unsigned char *p, const struct record *record, uint64_t seed,
                    uint64_t offset);
bool record_value_ok(const unsigned char *p, const struct record *record, uint64_t seed,
                     uint64_t offset);
bool record_verify(const unsigned char *p, const struct record *record, uint64_t seed,
                   uint64_t offset, uint64_t *digest);

/* Where a record of `size` bytes is put when the log's end is at `offset`: there, or
 * at the next page when it would straddle one although it fits into one. */
static inline uint64_t record_place(uint64_t offset, uint64_t size)
{
    uint64_t in_page = offset & 4095u;

    if (size <= 4096 && in_page + size > 4096)
        return offset + (4096 - in_page);
    return offset;
}

#endif

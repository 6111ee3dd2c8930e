/* frame.h - what makes records a transaction.
 *
 * A frame is a header (FRAME_HEADER_BYTES, then an optional area of typed fields)
 * followed by its records. It starts at a multiple of 8; the gap before it is zero.
 * The header's check, its last 8 bytes, covers the header and, through raw hashes in
 * it, the optional area and the checks of all records. Normative text: FORMAT.md,
 * "Frame". Layer 2. */
#ifndef ADB_ENGINE_LOG_FRAME_H
#define ADB_ENGINE_LOG_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/check.h"
#include "engine/base/rc.h"

enum frame_kind { /* on disk: never renumber */
                  FRAME_COMMIT = 1,
                  FRAME_CHUNK = 2,
                  FRAME_CLOSE = 3,
                  FRAME_VERDICT = 4,
                  FRAME_MOVED = 5,
                  FRAME_SEAL = 6
};

enum frame_doubt { /* on disk: never renumber; equal to enum armdb_doubt */
                   FRAME_DOUBT_COMMIT = 0,
                   FRAME_DOUBT_ABORT = 1,
                   FRAME_DOUBT_ASK = 2
};

enum frame_outcome { FRAME_OUTCOME_COMMIT = 1, FRAME_OUTCOME_ABORT = 2 };

/* Types of fields in the optional area: | type 2 | zero 2 | length 4 | bytes, padded
 * to 8 |. On disk: never renumber. */
enum frame_field {
    FRAME_FIELD_CHUNK_SEGMENTS = 1, /* CLOSE: numbers (8 each) of the chunks' segments */
    FRAME_FIELD_VOID_RUNS = 2,      /* CLOSE: (first, last) ordinals, 8 each */
    FRAME_FIELD_TOKEN = 3           /* doubt ask: 16-byte token, database identity */
};

enum { FRAME_ALIGNMENT = 8, FRAME_HEADER_BYTES = 120 };

struct frame {
    enum frame_kind kind;
    enum frame_doubt doubt;
    uint64_t body_len;      /* bytes behind header and optional area, padding included */
    uint64_t gsn;           /* 0 for CHUNK, MOVED, SEAL */
    uint64_t txid_edit;     /* txid: manifest edit number at open ... */
    uint64_t txid_count;    /* ... and a counter */
    uint64_t watermark;     /* W when written */
    uint64_t settled;       /* D when written */
    uint64_t durable_bytes; /* of this segment, when written */
    uint32_t record_count;
    uint64_t digest; /* over the records' raw hashes, from FRAME_DIGEST_START on */
    /* By kind: CHUNK: number from 0. CLOSE: number of chunks. VERDICT: target GSN.
     * SEAL: lowest GSN. */
    uint64_t arg_a;
    /* CLOSE: digest over the chunks' header checks, see frame_chain_chunk().
     * VERDICT: target's segment number. SEAL: highest GSN. */
    uint64_t arg_b;
    uint32_t outcome;              /* VERDICT */
    const unsigned char *optional; /* borrowed */
    uint32_t optional_len;         /* a multiple of 8 */
    uint64_t check;                /* as stored; set by encode and decode */
};

/* Start of the digest chain over a frame's records, and over chunk checks. */
#define FRAME_DIGEST_START UINT64_C(0x61726d6462667261)

/* Adds a chunk's check to a CLOSE's digest (arg_b), in the order of chunk numbers. */
static inline uint64_t frame_chain_chunk(uint64_t digest, uint64_t chunk_check)
{
    return adb_check_bind(chunk_check, digest, 0);
}

/* Header and optional area. */
static inline size_t frame_head_len(const struct frame *frame)
{
    return (size_t)FRAME_HEADER_BYTES + frame->optional_len;
}

/* Writes frame_head_len() bytes, the check bound to (seed, offset), into p. */
void frame_encode(struct frame *frame, unsigned char *p, uint64_t seed, uint64_t offset);
/* ARMDB_NOT_FOUND: the bytes are no frame header (wrong magic, all zero).
 * ARMDB_CORRUPT: looks like one but its check, a reserved byte or a length is wrong,
 * or `left` is less than its head. ARMDB_VERSION: valid, of an unknown kind, in-doubt
 * rule, outcome or field. The optional area is bounds-checked field by field. */
enum armdb_rc frame_decode(const unsigned char *p, size_t left, uint64_t seed,
                           uint64_t offset, struct frame *frame) ADB_MUST_CHECK;
/* The same for the first FRAME_HEADER_BYTES alone: optional_len is set, `optional` is
 * NULL and not verified. */
enum armdb_rc frame_decode_header(const unsigned char *p, size_t left, uint64_t seed,
                                  uint64_t offset, struct frame *frame) ADB_MUST_CHECK;
/* True when the 8 bytes at p are those that every frame begins with. */
bool frame_has_magic(const unsigned char p[8]);
/* Bytes of a typed field in the optional area; ARMDB_NOT_FOUND when it has none. */
enum armdb_rc frame_field(const struct frame *frame, enum frame_field type,
                          const unsigned char **p, uint32_t *len) ADB_MUST_CHECK;

#endif

/* reseal.c - recomputes checks over changed bytes.
 *
 * Offsets and the order of hashing are those of FORMAT.md; they are written down here a
 * second time, so a change of the format that the text does not tell is seen here. What
 * the engine's own encoders do is used for nothing but the hash. */
#include "test/fuzz/reseal.h"

#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/check.h"
#include "engine/log/frame.h"
#include "engine/log/record.h"

enum {
    PAGE = 4096,
    PAGE_CHECK = PAGE - 8,
    UUID_AT = 16,
    IDENTITY_AT = 32,
    MANIFEST_LENGTH = 32,
    MANIFEST_LEAST = 112,
    OPTIONAL_LEN = 12,
    RECORD_COUNT = 16,
    BODY_LEN = 24,
    DIGEST = 80,
    OPTIONAL_HASH = 104,
    FRAME_CHECK = 112,
    FRAME_HEAD = 120
};

static void seal_page(unsigned char *page, size_t id_at)
{
    adb_put_u64(page + PAGE_CHECK,
                adb_check_bind(adb_check_raw(page, PAGE_CHECK),
                               adb_check_seed(page + id_at), PAGE_CHECK));
}

size_t reseal_superblock(unsigned char *page)
{
    seal_page(page, UUID_AT);
    return 1;
}

size_t reseal_segment_header(unsigned char *page)
{
    seal_page(page, IDENTITY_AT);
    return 1;
}

size_t reseal_manifest(unsigned char *bytes, size_t n)
{
    if (n < MANIFEST_LEAST)
        return 0;
    memcpy(bytes, "armdbMan", 8);
    adb_put_u64(bytes + MANIFEST_LENGTH, n);
    adb_put_u64(bytes + n - 8, adb_check_bind(adb_check_raw(bytes, n - 8),
                                              adb_check_seed(bytes + UUID_AT), n - 8));
    return 1;
}

static void seal_at(unsigned char *p, size_t at, uint64_t raw, uint64_t seed,
                    uint64_t offset)
{
    adb_put_u64(p + at, adb_check_bind(raw, seed, offset + at));
}

size_t reseal_record(unsigned char *p, size_t left, uint64_t seed, uint64_t offset,
                     uint64_t *digest)
{
    struct record record;
    uint64_t raw_head;
    uint64_t raw_value = 0;
    size_t value_from;

    if (record_decode(p, left, &record) != ARMDB_OK)
        return 0;
    raw_head = adb_check_raw(p, record.head_check_at);
    seal_at(p, record.head_check_at, raw_head, seed, offset);
    if (record.kind == RECORD_PUT) {
        value_from = record.head_check_at + 8;
        raw_value = adb_check_raw(p + value_from, record.size - 8 - value_from);
        seal_at(p, record.size - 8, raw_value, seed, offset);
    }
    *digest = adb_check_bind(raw_head, *digest, raw_value);
    return record.size;
}

/* Where the record behind `pos` lies: there, or on the next page behind zeros. */
static uint64_t record_at(const unsigned char *p, uint64_t pos, uint64_t end,
                          uint64_t offset)
{
    uint64_t page = ((offset + pos) | (PAGE - 1)) + 1 - offset;

    return pos < end && p[pos] == 0 && page < end ? page : pos;
}

/* The records of a body of at most `end` bytes that begins at *pos; *pos becomes the end
 * of the last one. */
static uint32_t seal_records(unsigned char *p, uint64_t *pos, uint64_t end, uint64_t seed,
                             uint64_t offset, uint32_t count, uint64_t *digest)
{
    uint32_t i;

    for (i = 0; i < count; i++) {
        uint64_t at = record_at(p, *pos, end, offset);
        size_t size = 0;

        if (at < end)
            size = reseal_record(p + at, (size_t)(end - at), seed, offset + at, digest);
        if (size == 0)
            break;
        *pos = at + size;
    }
    return i;
}

/* The next frame's beginning, or the end: no body reaches further. */
static uint64_t next_frame(const unsigned char *p, uint64_t from, uint64_t left)
{
    uint64_t at = (from + 7) & ~UINT64_C(7);

    while (at <= left && left - at >= 8 && (p[at] != 0xA7 || !frame_has_magic(p + at)))
        at += 8;
    return at <= left && left - at >= 8 ? at : left;
}

size_t reseal_frame(unsigned char *p, size_t left, uint64_t seed, uint64_t offset,
                    bool fit)
{
    uint64_t digest = FRAME_DIGEST_START;
    uint64_t optional_len;
    uint64_t body_len;
    uint64_t body;
    uint64_t pos;
    uint32_t count = 0;

    if (left < FRAME_HEAD)
        return 0;
    optional_len = adb_get_u32(p + OPTIONAL_LEN);
    body_len = adb_get_u64(p + BODY_LEN);
    if (optional_len <= left - FRAME_HEAD) {
        adb_put_u64(
            p + OPTIONAL_HASH,
            optional_len == 0 ? 0 : adb_check_raw(p + FRAME_HEAD, (size_t)optional_len));
        body = FRAME_HEAD + optional_len;
        pos = body;
        if (fit)
            body_len = next_frame(p, body, left) - body;
        else if (body_len > left - body)
            body_len = left - body;
        count = seal_records(p, &pos, body + body_len, seed, offset,
                             fit ? UINT32_MAX : adb_get_u32(p + RECORD_COUNT), &digest);
        if (fit) {
            adb_put_u32(p + RECORD_COUNT, count);
            adb_put_u64(p + BODY_LEN, pos - body);
        }
        adb_put_u64(p + DIGEST, digest);
    }
    seal_at(p, FRAME_CHECK, adb_check_raw(p, FRAME_CHECK), seed, offset);
    return 1 + 2 * (size_t)count;
}

size_t reseal_segment(unsigned char *bytes, size_t n, bool fit)
{
    size_t count;
    uint64_t seed;

    if (n < PAGE)
        return 0;
    count = reseal_segment_header(bytes);
    seed = adb_check_seed(bytes + IDENTITY_AT);
    for (size_t at = PAGE; at <= n && n - at >= FRAME_HEAD; at += 8) {
        if (bytes[at] == 0xA7 && frame_has_magic(bytes + at))
            count += reseal_frame(bytes + at, n - at, seed, at, fit);
    }
    return count;
}

/* ---- Hints -------------------------------------------------------------------- */

enum {
    HINT_FOOTER = 208,
    HINT_IDENTITY = 32,
    HINT_BLOCKS = 128,
    HINT_INDEX = 136,
    HINT_INDEX_CHECK = 144,
    HINT_LINES = 152,
    HINT_FILTER_CHECK = 160,
    HINT_NOTES_BYTES = 176,
    HINT_NOTES_CHECK = 184,
    HINT_CHECK = 200,
    HINT_ENTRY = 24,
    HINT_LINE = 64
};

static uint64_t part_check(const unsigned char *p, uint64_t at, uint64_t n, uint64_t seed)
{
    return adb_check_bind(adb_check_raw(p + at, (size_t)n), seed, at);
}

static void seal_blocks(unsigned char *p, uint64_t index, uint64_t blocks, uint64_t seed)
{
    for (uint64_t i = 0; i < blocks; i++) {
        unsigned char *entry = p + index + i * HINT_ENTRY;
        uint64_t at = adb_get_u64(entry);
        uint64_t len = adb_get_u32(entry + 8);

        if (at <= index && len <= index - at)
            adb_put_u64(entry + 16, part_check(p, at, len, seed));
    }
}

size_t reseal_hint(unsigned char *p, size_t n, bool fit)
{
    unsigned char *footer;
    uint64_t left;
    uint64_t seed;
    uint64_t blocks;
    uint64_t lines;
    uint64_t notes;
    uint64_t index;

    if (n < HINT_FOOTER)
        return 0;
    left = n - HINT_FOOTER;
    footer = p + left;
    seed = adb_check_seed(footer + HINT_IDENTITY);
    blocks = adb_get_u64(footer + HINT_BLOCKS);
    lines = adb_get_u64(footer + HINT_LINES);
    notes = adb_get_u64(footer + HINT_NOTES_BYTES);
    memcpy(footer, "armdbHnt", 8);
    if (notes <= left && lines <= (left - notes) / HINT_LINE &&
        blocks <= (left - notes - lines * HINT_LINE) / HINT_ENTRY) {
        index = left - notes - lines * HINT_LINE - blocks * HINT_ENTRY;
        if (fit)
            adb_put_u64(footer + HINT_INDEX, index);
        seal_blocks(p, index, blocks, seed);
        adb_put_u64(footer + HINT_INDEX_CHECK,
                    part_check(p, index, blocks * HINT_ENTRY, seed));
        adb_put_u64(footer + HINT_FILTER_CHECK,
                    part_check(p, index + blocks * HINT_ENTRY, lines * HINT_LINE, seed));
        adb_put_u64(footer + HINT_NOTES_CHECK, part_check(p, left - notes, notes, seed));
    }
    adb_put_u64(footer + HINT_CHECK,
                adb_check_bind(adb_check_raw(footer, HINT_CHECK), seed, n - HINT_FOOTER));
    return 1;
}

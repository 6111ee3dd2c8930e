/* scan.c - from the bytes of a segment to its frames.
 *
 * The file is read once, from front to back, through a window that is moved in
 * pieces of about 1 MiB and grows only for a frame that is larger, never beyond
 * what the file really holds: a length is believed only after the header's check,
 * and then held against the file's end by subtraction.
 *
 *      end of the frame before      at                        frame_end
 *            |  gap (zeros)  |  header, optional  |  body        |
 *
 * At each place one of four things stands:
 *
 *   1. a whole frame: delivered, its records too;
 *   2. a header that checks with a body that does not: `damaged`, and the records
 *      whose heads check, up to the first that does not; from there to the frame's
 *      end is a stretch (the lengths behind a bad head cannot be trusted);
 *   3. neither, but further on a header that checks: the bytes up to it are a stretch;
 *   4. neither, and nothing behind it: the tail.
 *
 * A visitor without `stretch` sees the frames up to the first place of kind 2 to 4.
 * Behind that, and behind a SEAL, headers are still searched for at every multiple
 * of 8: the watermark and the durable length that they carry were true when they
 * were written, whether or not their bodies arrived, and are what tells a torn tail
 * from a damaged one. A header's check is bound to this segment and to its offset,
 * so stale frames of another file or place, and images of frames inside values,
 * testify nothing.
 *
 * Each candidate costs one comparison of 8 bytes, and 112 bytes of hashing when they
 * are the magic number, so a scan's work is linear in the file's length whatever the
 * file holds. */
#include "engine/log/scan.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/base/plant.h"
#include "engine/log/zeros.h"

enum { PAGE_BYTES = 4096, PIECE_BYTES = 1 << 20 };

struct scanner {
    struct adb_file *file; /* borrowed, as all of these */
    const char *name;
    const struct scan_visitor *visitor;
    struct scan_result *result;
    struct armdb_error *err;
    uint64_t seed;
    enum segment_kind kind;
    uint64_t limit;        /* bytes from here on are not looked at; <= the file's size */
    unsigned char *window; /* owned; bytes [from, from + len) of the file */
    size_t window_bytes;
    uint64_t from;
    size_t len;
    bool ended; /* `end` is set */
};

/* A frame as found at `at`. */
struct found {
    struct frame frame;
    const unsigned char *p; /* its bytes in the window */
    uint64_t at;
    uint64_t body;  /* offset of the first byte of the body */
    uint64_t end;   /* of the body; for a damaged frame at most the limit */
    bool header_ok; /* the header and the optional area check */
};

static uint64_t align_up(uint64_t offset)
{
    return (offset + FRAME_ALIGNMENT - 1) & ~(uint64_t)(FRAME_ALIGNMENT - 1);
}

/* ---- The window --------------------------------------------------------------- */

static enum armdb_rc grow_window(struct scanner *s, size_t bytes)
{
    unsigned char *grown;

    if (bytes <= s->window_bytes)
        return ARMDB_OK;
    grown = adb_alloc_aligned(ADB_MEM_LOG, bytes, PAGE_BYTES);
    if (grown == NULL)
        return ADB_FAIL(ARMDB_NOMEM, s->err, "no memory (%zu bytes) to read segment %s",
                        bytes, s->name);
    if (s->len > 0)
        memcpy(grown, s->window, s->len);
    adb_free_aligned(ADB_MEM_LOG, s->window);
    s->window = grown;
    s->window_bytes = bytes;
    return ARMDB_OK;
}

/* Page by page, with zeros for what cannot be read. */
static enum armdb_rc read_patiently(struct scanner *s, unsigned char *p, size_t n,
                                    uint64_t offset)
{
    for (size_t at = 0; at < n;) {
        size_t left = n - at;
        size_t step = PAGE_BYTES - (size_t)((offset + at) % PAGE_BYTES);
        enum armdb_rc rc;

        step = step < left ? step : left;
        rc = adb_file_read(s->file, s->name, p + at, step, offset + at, s->err);
        if (rc == ARMDB_NOMEM)
            return rc;
        if (rc != ARMDB_OK)
            memset(p + at, 0, step);
        at += step;
    }
    return ARMDB_OK;
}

/* Makes bytes [offset, offset + n) readable at *p; they lie below the limit. Bytes
 * before `offset` may leave the window. */
static enum armdb_rc look_at(struct scanner *s, uint64_t offset, uint64_t n,
                             const unsigned char **p)
{
    uint64_t start = offset & ~(uint64_t)(PAGE_BYTES - 1);
    uint64_t stop;
    enum armdb_rc rc;

    if (offset >= s->from && offset - s->from <= s->len &&
        n <= s->len - (offset - s->from)) {
        *p = s->window + (offset - s->from);
        return ARMDB_OK;
    }
    stop = offset + n - start > PIECE_BYTES ? offset + n : start + PIECE_BYTES;
    if (stop > s->limit)
        stop = s->limit;
    if (start >= s->from && start - s->from < s->len) {
        s->len -= (size_t)(start - s->from);
        memmove(s->window, s->window + (start - s->from), s->len);
    } else {
        s->len = 0;
    }
    s->from = start;
    rc = grow_window(s, (size_t)(stop - start));
    if (rc != ARMDB_OK)
        return rc;
    rc = adb_file_read(s->file, s->name, s->window + s->len,
                       (size_t)(stop - start) - s->len, start + s->len, s->err);
    if (rc != ARMDB_OK && rc != ARMDB_NOMEM && s->visitor->patient)
        rc = read_patiently(s, s->window + s->len, (size_t)(stop - start) - s->len,
                            start + s->len);
    if (rc != ARMDB_OK) {
        s->len = 0;
        return rc;
    }
    s->len = (size_t)(stop - start);
    *p = s->window + (offset - start);
    return ARMDB_OK;
}

/* ---- One frame ---------------------------------------------------------------- */

/* Notes why the frames end at `end`; the first reason stays. */
ADB_PRINTF(3, 4)
static void note_end(struct scanner *s, uint64_t end, const char *format, ...)
{
    va_list args;

    if (s->ended)
        return;
    s->ended = true;
    s->result->end = end;
    va_start(args, format);
    (void)vsnprintf(s->result->why, sizeof s->result->why, format, args);
    va_end(args);
}

static void note_marks(struct scanner *s, const struct frame *frame)
{
    if (frame->watermark > s->result->w_max)
        s->result->w_max = frame->watermark;
    if (frame->durable_bytes > s->result->durable_max)
        s->result->durable_max = frame->durable_bytes;
}

static enum armdb_rc fail_version(struct scanner *s, uint64_t at)
{
    return ADB_FAIL(
        ARMDB_VERSION, s->err,
        "segment %s has a frame at offset %llu of a kind "
        "or with a field that format version 1 does not know: use a newer armdb",
        s->name, (unsigned long long)at);
}

/* Outputs hold moved records alone, logs none. */
static bool fits_segment(const struct scanner *s, const struct frame *frame)
{
    return frame->kind == FRAME_SEAL ||
           (frame->kind == FRAME_MOVED) == (s->kind == SEGMENT_OUTPUT);
}

/* What records of this kind of frame must carry. */
static bool fits_frame(const struct frame *frame, const struct record *record)
{
    if (frame->kind == FRAME_CHUNK && (record->flags & RECORD_HAS_ORDINAL) == 0)
        return false;
    return (frame->kind == FRAME_MOVED) == ((record->flags & RECORD_HAS_GSN) != 0);
}

/* Decodes the record that follows `pos`: there, or on the next page behind zeros.
 * Its value may reach past found->end; *where is its offset. */
static bool decode_at(const struct found *found, uint64_t pos, struct record *record,
                      uint64_t *where)
{
    const unsigned char *p = found->p;

    *where = pos;
    if (pos >= found->end)
        return false;
    if (p[pos - found->at] == 0) {
        uint64_t page = (pos | (PAGE_BYTES - 1)) + 1;

        if (page >= found->end ||
            zeros_count(p + (pos - found->at), (size_t)(page - pos)) != page - pos)
            return false;
        *where = page;
    }
    return record_decode_head(p + (*where - found->at), (size_t)(found->end - *where),
                              record) == ARMDB_OK &&
           record_place(pos, record->size) == *where && fits_frame(&found->frame, record);
}

/* True when every record of the frame checks and together they fill the body. */
static bool body_ok(const struct scanner *s, const struct found *found)
{
    uint64_t digest = FRAME_DIGEST_START;
    uint64_t pos = found->body;

    for (uint32_t i = 0; i < found->frame.record_count; i++) {
        struct record record;
        uint64_t where;

        if (!decode_at(found, pos, &record, &where) || record.size > found->end - where ||
            (!record_verify(found->p + (where - found->at), &record, s->seed, where,
                            &digest) &&
             !ADB_PLANTED("check_not_verified")))
            return false;
        pos = where + record.size;
    }
    return pos == found->end &&
           (digest == found->frame.digest || ADB_PLANTED("check_not_verified"));
}

/* Looks for a frame at `at`, where a header has room. ARMDB_OK: a whole one.
 * ARMDB_NOT_FOUND: none; found->header_ok tells case 2 from cases 3 and 4. */
static enum armdb_rc find_frame(struct scanner *s, uint64_t at, struct found *found)
{
    enum armdb_rc rc;
    struct frame *frame = &found->frame;
    uint64_t left = s->limit - at;
    uint64_t total;

    memset(found, 0, sizeof *found);
    found->at = at;
    rc = look_at(s, at, FRAME_HEADER_BYTES, &found->p);
    if (rc != ARMDB_OK)
        return rc;
    rc = frame_decode_header(found->p, FRAME_HEADER_BYTES, s->seed, at, frame);
    if (rc == ARMDB_VERSION)
        return fail_version(s, at);
    if (rc != ARMDB_OK)
        return ARMDB_NOT_FOUND;
    note_marks(s, frame);
    if (!fits_segment(s, frame) || frame->optional_len > left - FRAME_HEADER_BYTES)
        return ARMDB_NOT_FOUND;
    found->body = at + frame_head_len(frame);
    total = left - frame_head_len(frame) < frame->body_len
                ? left
                : frame_head_len(frame) + frame->body_len;
    found->end = at + total;
    rc = look_at(s, at, total, &found->p);
    if (rc != ARMDB_OK)
        return rc;
    rc = frame_decode(found->p, (size_t)total, s->seed, at, frame);
    if (rc == ARMDB_VERSION)
        return fail_version(s, at);
    if (rc != ARMDB_OK)
        return ARMDB_NOT_FOUND;
    found->header_ok = true;
    return found->end - found->body == frame->body_len && body_ok(s, found)
               ? ARMDB_OK
               : ARMDB_NOT_FOUND;
}

static enum armdb_rc deliver_frame(struct scanner *s, const struct found *found)
{
    enum armdb_rc rc = s->visitor->frame(s->visitor->arg, &found->frame, found->at);
    uint64_t pos = found->body;

    if (rc == ARMDB_DONE || (rc == ARMDB_OK && s->visitor->record == NULL))
        return ARMDB_OK;
    for (uint32_t i = 0; rc == ARMDB_OK && i < found->frame.record_count; i++) {
        struct record record;
        uint64_t where;

        if (!decode_at(found, pos, &record, &where))
            return ADB_FAIL(ARMDB_INTERNAL, s->err,
                            "record %u of the frame at offset %llu "
                            "of segment %s was there and is gone",
                            i, (unsigned long long)found->at, s->name);
        rc = s->visitor->record(s->visitor->arg, &found->frame, &record, where);
        pos = where + record.size;
    }
    return rc;
}

/* Delivers the records of a damaged frame whose heads check; *trusted is the end of
 * the last of them. */
static enum armdb_rc deliver_damaged(struct scanner *s, const struct found *found,
                                     bool wanted, uint64_t *trusted)
{
    enum armdb_rc rc = ARMDB_OK;

    *trusted = found->body;
    for (uint32_t i = 0; rc == ARMDB_OK && i < found->frame.record_count; i++) {
        struct record record;
        uint64_t where;
        const unsigned char *p;

        if (!decode_at(found, *trusted, &record, &where) ||
            record.head_check_at + 8 > found->end - where)
            break;
        p = found->p + (where - found->at);
        if (!record_head_ok(p, &record, s->seed, where))
            break;
        if (record.size > found->end - where ||
            !record_value_ok(p, &record, s->seed, where))
            record.value = NULL;
        if (wanted && s->visitor->record != NULL)
            rc = s->visitor->record(s->visitor->arg, &found->frame, &record, where);
        *trusted = record.size > found->end - where ? found->end : where + record.size;
    }
    return rc;
}

/* ---- The whole segment -------------------------------------------------------- */

/* Searches [from, limit) for headers that check. With `next` it stops at the first
 * and stores its offset, or the limit. Also finds out whether all bytes are zero. */
static enum armdb_rc search_headers(struct scanner *s, uint64_t from, uint64_t *next)
{
    uint64_t at = from;

    while (s->limit - at >= FRAME_HEADER_BYTES) {
        uint64_t n = s->limit - at < PIECE_BYTES / 2 ? s->limit - at : PIECE_BYTES / 2;
        const unsigned char *p;
        size_t i = 0;
        enum armdb_rc rc = look_at(s, at, n, &p);

        if (rc != ARMDB_OK)
            return rc;
        for (; n - i >= FRAME_HEADER_BYTES; i += FRAME_ALIGNMENT) {
            struct frame frame;

            i += zeros_count(p + i, (size_t)n - i) & ~(size_t)(FRAME_ALIGNMENT - 1);
            if (n - i < FRAME_HEADER_BYTES)
                break;
            s->result->clean = false;
            if (!frame_has_magic(p + i))
                continue;
            rc = frame_decode_header(p + i, FRAME_HEADER_BYTES, s->seed, at + i, &frame);
            if (rc == ARMDB_VERSION)
                return fail_version(s, at + i);
            if (rc != ARMDB_OK)
                continue;
            note_marks(s, &frame);
            if (next != NULL) {
                *next = at + i;
                return ARMDB_OK;
            }
        }
        at += i;
    }
    if (next != NULL)
        *next = s->limit;
    return ARMDB_OK;
}

/* True in *zero when [from, to) is zero; short ranges. */
static enum armdb_rc range_is_zero(struct scanner *s, uint64_t from, uint64_t to,
                                   bool *zero)
{
    const unsigned char *p;
    enum armdb_rc rc;

    *zero = true;
    if (from >= to)
        return ARMDB_OK;
    rc = look_at(s, from, to - from, &p);
    if (rc == ARMDB_OK)
        *zero = zeros_count(p, (size_t)(to - from)) == to - from;
    return rc;
}

/* Names the stretch and goes on behind it, or stops the delivery. */
static enum armdb_rc pass_stretch(struct scanner *s, uint64_t from, uint64_t to,
                                  bool *stop)
{
    enum armdb_rc rc = s->visitor->stretch(s->visitor->arg, from, to);

    *stop = rc == ARMDB_DONE;
    return *stop ? ARMDB_OK : rc;
}

/* Case 2. */
static enum armdb_rc pass_damaged(struct scanner *s, const struct found *found,
                                  bool *stop)
{
    uint64_t trusted;
    enum armdb_rc rc = s->visitor->damaged(s->visitor->arg, &found->frame, found->at);
    bool wanted = rc == ARMDB_OK;

    if (rc != ARMDB_OK && rc != ARMDB_DONE)
        return rc;
    rc = deliver_damaged(s, found, wanted, &trusted);
    s->result->tail = found->end;
    if (rc == ARMDB_OK && trusted < found->end)
        rc = pass_stretch(s, trusted, found->end, stop);
    return rc;
}

/* Cases 3 and 4: no header at `at`, or a gap before it that is not zero. */
static enum armdb_rc pass_invalid(struct scanner *s, uint64_t search_from, bool *stop)
{
    uint64_t next = s->limit;
    enum armdb_rc rc = search_headers(s, search_from, &next);

    if (rc != ARMDB_OK)
        return rc;
    if (next == s->limit) {
        *stop = true;
        return ARMDB_OK;
    }
    rc = pass_stretch(s, s->result->tail, next, stop);
    if (rc == ARMDB_OK && !*stop)
        s->result->tail = next;
    return rc;
}

/* Looks at the place behind result->tail. */
static enum armdb_rc step(struct scanner *s, bool *stop)
{
    uint64_t tail = s->result->tail;
    uint64_t at = align_up(tail);
    struct found found;
    bool zero;
    enum armdb_rc rc;

    if (at > s->limit || s->limit - at < FRAME_HEADER_BYTES) {
        note_end(s, tail, "the file or its counted part ends");
        *stop = true;
        return ARMDB_OK;
    }
    rc = range_is_zero(s, tail, at, &zero);
    if (rc != ARMDB_OK)
        return rc;
    if (!zero) {
        note_end(s, tail, "the gap before the frame at offset %llu is not zero",
                 (unsigned long long)at);
        *stop = s->visitor->stretch == NULL;
        return *stop ? ARMDB_OK : pass_invalid(s, at, stop);
    }
    rc = find_frame(s, at, &found);
    if (rc == ARMDB_OK) {
        s->result->tail = found.end;
        s->result->sealed = found.frame.kind == FRAME_SEAL;
        *stop = s->result->sealed;
        if (*stop)
            note_end(s, found.end, "the segment is sealed here");
        return deliver_frame(s, &found);
    }
    if (rc != ARMDB_NOT_FOUND)
        return rc;
    note_end(s, tail,
             found.header_ok ? "the body of the frame at offset %llu is torn or "
                               "damaged"
                             : "no valid frame header at offset %llu",
             (unsigned long long)at);
    *stop = s->visitor->stretch == NULL;
    if (*stop)
        return ARMDB_OK;
    return found.header_ok ? pass_damaged(s, &found, stop)
                           : pass_invalid(s, at + FRAME_ALIGNMENT, stop);
}

/* Behind the last frame delivered: marks, and whether anything is there at all. */
static enum armdb_rc search_tail(struct scanner *s)
{
    uint64_t tail = s->result->tail;
    uint64_t at = align_up(tail) < s->limit ? align_up(tail) : s->limit;
    uint64_t last = at; /* start of what is too short for a header */
    bool zero;
    enum armdb_rc rc;

    s->result->clean = true;
    rc = search_headers(s, at, NULL);
    if (rc != ARMDB_OK)
        return rc;
    rc = range_is_zero(s, tail, at, &zero);
    s->result->clean = s->result->clean && zero;
    if (s->limit - at >= FRAME_HEADER_BYTES)
        last = s->limit - FRAME_HEADER_BYTES;
    if (rc == ARMDB_OK)
        rc = range_is_zero(s, last, s->limit, &zero);
    s->result->clean = s->result->clean && zero;
    return rc;
}

enum armdb_rc scan_segment(struct adb_file *file, const char *name,
                           const struct segment_header *header, uint64_t limit,
                           const struct scan_visitor *visitor, struct scan_result *result,
                           struct armdb_error *err)
{
    struct scanner s = {.file = file,
                        .name = name,
                        .visitor = visitor,
                        .result = result,
                        .err = err,
                        .kind = header->kind,
                        .seed = adb_check_seed(header->identity)};
    enum armdb_rc rc;
    bool stop = false;

    memset(result, 0, sizeof *result);
    result->end = SEGMENT_FIRST_FRAME;
    result->tail = SEGMENT_FIRST_FRAME;
    rc = file->io->ops->file_size(file, &s.limit, err);
    if (rc != ARMDB_OK)
        goto out;
    if (limit < s.limit)
        s.limit = limit;
    if (s.limit < SEGMENT_FIRST_FRAME) {
        note_end(&s, SEGMENT_FIRST_FRAME, "the file has %llu bytes",
                 (unsigned long long)s.limit);
        result->clean = true;
        goto out;
    }
    while (rc == ARMDB_OK && !stop)
        rc = step(&s, &stop);
    if (rc == ARMDB_OK)
        rc = search_tail(&s);
out:
    adb_free_aligned(ADB_MEM_LOG, s.window);
    return rc;
}

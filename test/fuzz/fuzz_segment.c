/* fuzz_segment.c - any bytes as a segment, read as recovery reads it.
 *
 * Input: a byte of choices, where bytes are moved apart (a number), the bytes of the
 * frames. They lie behind a right header.
 *
 *   bit 0   checks stay as they are; else they are made right
 *   bit 1   lengths and counts of frames stay as they are; else they fit the records
 *   bit 2   an output of a compaction
 *   bit 3   the reader's limit is not the file's end
 *   bit 4   the header page comes from the input too
 *   bits 5, 6  zeros are put in, so that windows move: none, a page, 600 KiB, 1.2 MiB
 *
 * Each frame and record that is delivered lies where it says, in rising order; a reader
 * that stops at damage sees a beginning of what one sees who goes on. */
#include <stdlib.h>
#include <string.h>

#include "engine/log/scan.h"
#include "test/fuzz/harness.h"
#include "test/fuzz/reseal.h"

const struct fuzz_setup fuzz_setup = {"segment", 60000, 6000, 5 << 20, 40};

enum { FRAMES_MAX = 4096, HEADER = SEGMENT_HEADER_BYTES };

struct memory_file {
    struct adb_file base;
    const unsigned char *bytes;
    size_t n;
};

static enum armdb_rc file_size(struct adb_file *file, uint64_t *bytes,
                               struct armdb_error *err)
{
    (void)err;
    *bytes = ((struct memory_file *)file)->n;
    return ARMDB_OK;
}

static void submit(struct adb_io *io, struct adb_io_op *ops, size_t count)
{
    (void)io;
    for (size_t i = 0; i < count; i++) {
        const struct memory_file *file = (const struct memory_file *)ops[i].file;
        uint64_t at = ops[i].offset;

        FUZZ_CHECK(ops[i].kind == ADB_IO_READ);
        for (uint32_t v = 0; v < ops[i].iov_count; v++) {
            /* Reading past the file's end is asking for more than it has. */
            FUZZ_CHECK(at <= file->n && ops[i].iov[v].iov_len <= file->n - at);
            memcpy(ops[i].iov[v].iov_base, file->bytes + at, ops[i].iov[v].iov_len);
            at += ops[i].iov[v].iov_len;
        }
        ops[i].sys_errno = 0;
    }
}

static const struct adb_io_ops ops = {
    .name = "bytes", .file_size = file_size, .submit = submit};
static struct adb_io io = {.ops = &ops};

struct seen {
    const unsigned char *bytes;
    uint64_t limit;
    uint64_t last; /* end of what was delivered */
    uint64_t offsets[FRAMES_MAX];
    size_t count;
    uint64_t stretch_to;
};

static enum armdb_rc see_frame(void *arg, const struct frame *frame, uint64_t offset)
{
    struct seen *seen = arg;

    FUZZ_CHECK(offset % 8 == 0 && offset >= HEADER && offset >= seen->last);
    FUZZ_CHECK(offset < seen->limit && frame_head_len(frame) <= seen->limit - offset);
    if (frame->optional_len > 0)
        FUZZ_CHECK(memcmp(frame->optional, seen->bytes + offset + FRAME_HEADER_BYTES,
                          frame->optional_len) == 0);
    if (seen->count < FRAMES_MAX)
        seen->offsets[seen->count++] = offset;
    seen->last = offset + frame_head_len(frame);
    return ARMDB_OK;
}

static enum armdb_rc see_record(void *arg, const struct frame *frame,
                                const struct record *record, uint64_t offset)
{
    struct seen *seen = arg;

    (void)frame;
    FUZZ_CHECK(offset >= seen->last && offset < seen->limit);
    FUZZ_CHECK(record->head_check_at + 8 <= seen->limit - offset);
    FUZZ_CHECK(record->key_len == 0 ||
               memcmp(record->key,
                      seen->bytes + offset + record->head_check_at - record->key_len -
                          (record->kind == RECORD_RANGE_DELETE ? record->value_len : 0),
                      record->key_len) == 0);
    if (record->value != NULL && record->kind == RECORD_PUT && record->value_len > 0)
        FUZZ_CHECK(memcmp(record->value, seen->bytes + offset + record->value_at,
                          record->value_len) == 0);
    seen->last = offset + record->head_check_at + 8;
    return ARMDB_OK;
}

static enum armdb_rc see_stretch(void *arg, uint64_t from, uint64_t to)
{
    struct seen *seen = arg;

    FUZZ_CHECK(from < to && to <= seen->limit && from >= seen->stretch_to);
    seen->stretch_to = to;
    return ARMDB_OK;
}

static void scan(const unsigned char *bytes, size_t n,
                 const struct segment_header *header, uint64_t limit)
{
    static struct seen all;
    static struct seen first;
    struct memory_file file = {{&io}, bytes, n};
    struct scan_visitor visitor = {.arg = &all,
                                   .frame = see_frame,
                                   .record = see_record,
                                   .damaged = see_frame,
                                   .stretch = see_stretch};
    struct scan_result result;
    struct scan_result strict;
    struct armdb_error err;
    enum armdb_rc rc;
    enum armdb_rc strict_rc;

    memset(&all, 0, sizeof all);
    all.bytes = bytes;
    all.limit = limit < n ? limit : n;
    first = all;
    FUZZ_SCRIBBLE(result);
    rc = scan_segment(&file.base, "s", header, limit, &visitor, &result, &err);
    FUZZ_CHECK(rc == ARMDB_OK || rc == ARMDB_VERSION);
    visitor.arg = &first;
    visitor.damaged = NULL;
    visitor.stretch = NULL;
    FUZZ_SCRIBBLE(strict);
    strict_rc = scan_segment(&file.base, "s", header, limit, &visitor, &strict, &err);
    /* Behind damage they look at different places: who goes on reads frames, the other
     * one searches headers everywhere. */
    FUZZ_CHECK(strict_rc == ARMDB_OK || strict_rc == ARMDB_VERSION);
    if (rc != ARMDB_OK || strict_rc != ARMDB_OK)
        return;
    FUZZ_CHECK(result.end <= all.limit || result.end == HEADER);
    FUZZ_CHECK(result.tail >= result.end && strict.end == result.end);
    FUZZ_CHECK(first.count <= all.count);
    FUZZ_CHECK(memcmp(first.offsets, all.offsets, first.count * sizeof *all.offsets) ==
               0);
}

static uint8_t *build(struct fuzz_input *in, uint8_t how, uint64_t apart, size_t *n)
{
    static const size_t zeros[4] = {0, 4096, 600 << 10, 1200 << 10};
    /* Long files are slow: one in 256 of those that ask for it. */
    size_t more = (how & 0x40) != 0 && (apart & 255) != 255 ? 0 : zeros[how >> 5 & 3];
    size_t before = (size_t)(apart % (in->left + 1)) & ~(size_t)7;
    size_t at = (how & 0x10) != 0 ? 0 : HEADER;
    uint8_t *bytes;

    *n = at + in->left + more;
    if (*n < HEADER)
        *n = HEADER;
    bytes = calloc(1, *n);
    memcpy(bytes + at, in->p, before);
    memcpy(bytes + at + before + more, in->p + before, in->left - before);
    return bytes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct segment_header header = {.number = 1,
                                    .identity = "identity",
                                    .kind = SEGMENT_LOG,
                                    .check_kind = SEGMENT_CHECK_XXH3};
    struct fuzz_input in = {data, size};
    struct armdb_error err;
    uint8_t how = fuzz_u8(&in);
    uint64_t apart = fuzz_u16(&in);
    uint64_t limit = (how & 8) != 0 ? HEADER + (apart >> 3) : UINT64_MAX;
    size_t n;
    uint8_t *bytes = build(&in, how, apart, &n);

    fuzz_begin(n);
    if ((how & 4) != 0)
        header.kind = SEGMENT_OUTPUT;
    if ((how & 0x10) == 0)
        segment_header_encode(&header, bytes);
    if ((how & 1) == 0)
        (void)reseal_segment(bytes, n, (how & 2) == 0);
    if (segment_header_decode(bytes, "s", &header, &err) == ARMDB_OK) {
        uint8_t page[HEADER];

        segment_header_encode(&header, page);
        FUZZ_CHECK(memcmp(page, bytes, HEADER) == 0);
        scan(bytes, n, &header, limit);
    }
    free(bytes);
    fuzz_end();
    return 0;
}

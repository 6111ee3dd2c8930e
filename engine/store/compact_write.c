/* compact_write.c - the output of a compaction.
 *
 * A segment of kind output: MOVED frames of about 256 KiB, records in key order, each
 * with its GSN and ordinal. Written past the buffer manager, in pieces that begin at a
 * page, through one buffer; synced, its name too, before it returns. Nobody knows of the
 * file yet: whatever fails here, the inputs are as they were. */
#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/plant.h"
#include "engine/log/frame.h"
#include "engine/store/compact_internal.h"

enum { FRAME_BODY_BYTES = 256 << 10 };

struct writer {
    struct compaction *c;
    unsigned char *buffer; /* owned; bytes [from, ...) of the file; `from` is a page's */
    size_t capacity;
    uint64_t from;
    uint64_t end; /* of what counts */
};

static uint64_t page_up(uint64_t bytes)
{
    return (bytes + CACHE_PAGE_BYTES - 1) & ~(uint64_t)(CACHE_PAGE_BYTES - 1);
}

/* Where the frame of [first, last) would end when it begins at `start`. */
static uint64_t frame_stop(const struct compaction *c, size_t first, size_t last,
                           uint64_t start)
{
    uint64_t offset = start + FRAME_HEADER_BYTES;

    for (size_t i = first; i < last; i++)
        if (!c->moved[i].dropped)
            offset = record_place(offset, c->moved[i].size) + c->moved[i].size;
    return offset;
}

/* An upper bound of the output's length. */
static uint64_t bytes_bound(const struct compaction *c)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < c->moved_count; i++)
        if (!c->moved[i].dropped)
            bytes += c->moved[i].size;
    /* Gaps are at most the records (see engine/log/shard.c); frames are many records. */
    return page_up(SEGMENT_FIRST_FRAME + 2 * bytes +
                   (bytes / FRAME_BODY_BYTES + 1) * 256);
}

static enum armdb_rc make_room(struct writer *w, uint64_t end)
{
    size_t wanted = (size_t)(page_up(end) - w->from);
    unsigned char *grown;

    if (wanted <= w->capacity)
        return ARMDB_OK;
    wanted += FRAME_BODY_BYTES;
    wanted = (size_t)page_up(wanted);
    grown = adb_alloc_aligned(ADB_MEM_LOG, wanted, CACHE_PAGE_BYTES);
    if (grown == NULL)
        return ADB_FAIL(ARMDB_NOMEM, w->c->err, "out of memory for a compaction");
    memset(grown, 0, wanted);
    if (w->buffer != NULL)
        memcpy(grown, w->buffer, w->capacity);
    adb_free_aligned(ADB_MEM_LOG, w->buffer);
    w->buffer = grown;
    w->capacity = wanted;
    return ARMDB_OK;
}

/* Writes the whole pages there are; `all`: the last one too. */
static enum armdb_rc write_out(struct writer *w, bool all)
{
    struct segment *output = w->c->output;
    uint64_t to = all ? page_up(w->end) : w->end & ~(uint64_t)(CACHE_PAGE_BYTES - 1);
    size_t n = (size_t)(to - w->from);
    enum armdb_rc rc;

    if (n == 0)
        return ARMDB_OK;
    rc = compact_pace(w->c, n);
    if (rc == ARMDB_OK)
        rc = adb_file_write(output->file, output->name, w->buffer, n, w->from, w->c->err);
    if (rc != ARMDB_OK)
        return rc;
    (void)atomic_fetch_add_explicit(&w->c->store->compactor.bytes_moved, n,
                                    memory_order_relaxed);
    if (!all) {
        size_t rest = (size_t)(w->end - to);

        memmove(w->buffer, w->buffer + n, rest);
        memset(w->buffer + rest, 0, w->capacity - rest);
        w->from = to;
    }
    return ARMDB_OK;
}

static void note_gsn(struct compaction *c, uint64_t gsn)
{
    if (c->gsn_low == 0 || gsn < c->gsn_low)
        c->gsn_low = gsn;
    if (gsn > c->gsn_high)
        c->gsn_high = gsn;
}

/* As live bytes are counted: gaps, GSNs and ordinals, which no further compaction takes
 * away, are not among them. */
static void count_body(struct compaction *c, const struct moved *moved)
{
    struct record record = {.kind = RECORD_PUT, .table = moved->table};
    uint64_t bytes;

    record.key_len = moved->key_len;
    if (moved->value_len == VERSION_DELETED)
        record.kind = RECORD_DELETE;
    else
        record.value_len = moved->value_len;
    bytes = record_size(&record);
    (void)atomic_fetch_add_explicit(&c->output->body_bytes, bytes, memory_order_relaxed);
    if (moved->value_len != VERSION_DELETED)
        return;
    c->kept_bytes += bytes;
    if (c->kept_gsn == 0 || moved->gsn < c->kept_gsn)
        c->kept_gsn = moved->gsn;
}

static enum armdb_rc write_frame(struct writer *w, size_t first, size_t last,
                                 uint32_t count)
{
    struct compaction *c = w->c;
    struct segment *output = c->output;
    struct frame frame = {.kind = FRAME_MOVED, .record_count = count};
    uint64_t start = (w->end + FRAME_ALIGNMENT - 1) & ~(uint64_t)(FRAME_ALIGNMENT - 1);
    uint64_t stop = frame_stop(c, first, last, start);
    uint64_t offset = start + FRAME_HEADER_BYTES;
    enum armdb_rc rc = make_room(w, stop);

    if (rc != ARMDB_OK)
        return rc;
    frame.digest = FRAME_DIGEST_START;
    for (size_t i = first; i < last; i++) {
        struct moved *moved = &c->moved[i];

        if (moved->dropped)
            continue;
        offset = record_place(offset, moved->size);
        record_bind(moved->bytes, moved->size, moved->head_check_at,
                    moved->value_len != VERSION_DELETED, output->seed, offset,
                    &frame.digest);
        ADB_ASSERT(w->buffer != NULL); /* make_room() */
        memcpy(w->buffer + (offset - w->from), moved->bytes, moved->size);
        moved->to = offset;
        note_gsn(c, moved->gsn);
        count_body(c, moved);
        (void)atomic_fetch_add_explicit(&output->records, 1, memory_order_relaxed);
        offset += moved->size;
    }
    frame.watermark = gsn_durable(&c->store->log.gsn);
    frame.settled = gsn_settled(&c->store->log.gsn);
    frame.durable_bytes = SEGMENT_FIRST_FRAME;
    frame.body_len = stop - start - FRAME_HEADER_BYTES;
    frame_encode(&frame, w->buffer + (start - w->from), output->seed, start);
    w->end = stop;
    return write_out(w, false);
}

static enum armdb_rc write_frames(struct writer *w)
{
    struct compaction *c = w->c;
    enum armdb_rc rc = ARMDB_OK;
    size_t first = 0;
    uint64_t bytes = 0;
    uint32_t count = 0;

    for (size_t i = 0; rc == ARMDB_OK && i < c->moved_count; i++) {
        if (c->moved[i].dropped)
            continue;
        bytes += c->moved[i].size;
        count++;
        if (bytes < FRAME_BODY_BYTES)
            continue;
        rc = write_frame(w, first, i + 1, count);
        first = i + 1;
        bytes = 0;
        count = 0;
    }
    if (rc == ARMDB_OK && count > 0)
        rc = write_frame(w, first, c->moved_count, count);
    return rc == ARMDB_OK ? write_out(w, true) : rc;
}

static enum armdb_rc make_output(struct compaction *c)
{
    struct log *log = &c->store->log;
    struct segment_header header = {.kind = SEGMENT_OUTPUT,
                                    .check_kind = SEGMENT_CHECK_XXH3,
                                    .cipher_kind = SEGMENT_CIPHER_NONE,
                                    .shard = c->inputs[0]->header.shard};
    uint64_t bound = bytes_bound(c);
    enum armdb_rc rc;

    if (bound > LOCATION_SEGMENT_BYTES_MAX)
        return ADB_FAIL(ARMDB_FULL, c->err, "a compaction would be too large");
    memcpy(header.store_uuid, log->uuid, 16);
    rc = log->dir->io->ops->random(log->dir->io, header.identity, 16, c->err);
    if (rc != ARMDB_OK)
        return rc;
    header.watermark = gsn_durable(&log->gsn);
    adb_mutex_lock(&log->manifest_lock);
    header.number = log->locked.manifest.next_segment++;
    log->locked.output = header.number;
    adb_mutex_unlock(&log->manifest_lock);
    rc = segment_create(log->dir, log->cache, &header, SEGMENT_FIRST_FRAME, bound,
                        log->direct, &c->output, c->err);
    if (rc == ARMDB_OK)
        c->output->slot = log_slot(log->slot_base, header.number);
    return rc;
}

enum armdb_rc compact_write(struct compaction *c)
{
    struct writer w = {.c = c, .from = SEGMENT_FIRST_FRAME, .end = SEGMENT_FIRST_FRAME};
    enum armdb_rc rc;
    bool any = false;

    for (size_t i = 0; !any && i < c->moved_count; i++)
        any = !c->moved[i].dropped;
    if (!any)
        return ARMDB_OK; /* the inputs just go */
    rc = make_output(c);
    if (rc == ARMDB_OK)
        rc = write_frames(&w);
    if (rc == ARMDB_OK && !ADB_PLANTED("output_not_synced"))
        rc = adb_file_sync(c->output->file, c->output->name, c->err);
    if (rc == ARMDB_OK)
        rc = c->store->io->ops->dir_sync(c->store->dir, c->err);
    if (rc == ARMDB_OK) {
        c->output->length = w.end;
        c->output->gsn_low = c->gsn_low;
        c->output->gsn_high = c->gsn_high;
        c->output->sealed = true;
        c->output->kept_bytes = c->kept_bytes;
        c->output->kept_gsn = c->kept_gsn;
        c->output->blocker = c->blocker;
        c->output->blocker_lacks_hint = c->blocker_lacks_hint;
        c->output->tries = c->tries;
    }
    adb_free_aligned(ADB_MEM_LOG, w.buffer);
    return rc;
}

/* salvage_write.c - the segments of the new store.
 *
 * They are as a compaction's outputs are: MOVED frames, records by table and key, each
 * with the GSN and ordinal that it had, so that whoever knew a row by its GSN knows it
 * on. A batch of records is sorted in memory and becomes one segment. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/store/internal.h"
#include "engine/store/salvage_internal.h"

enum { FRAME_BODY_BYTES = 256 << 10, BATCH_BYTES = 32 << 20 };

/* One segment being written. */
struct writer {
    struct salvage *s;
    struct adb_file *file; /* owned */
    char name[SEGMENT_NAME_MAX];
    struct manifest_segment listed;
    uint64_t seed;
    unsigned char *buffer; /* owned: one frame and the gap before it */
    size_t capacity;
};

static int compare_salvaged(const void *a, const void *b)
{
    const struct salvaged *x = a;
    const struct salvaged *y = b;
    size_t shorter = x->key_len < y->key_len ? x->key_len : y->key_len;
    int order;

    if (x->table != y->table)
        return x->table < y->table ? -1 : 1;
    order = memcmp(x->bytes + x->head_check_at - x->key_len,
                   y->bytes + y->head_check_at - y->key_len, shorter);
    if (order != 0)
        return order;
    return x->key_len < y->key_len ? -1 : x->key_len > y->key_len;
}

static enum armdb_rc make_room(struct writer *w, size_t bytes)
{
    if (bytes > w->capacity) {
        unsigned char *grown = adb_alloc(ADB_MEM_LOG, bytes);

        if (grown == NULL)
            return salvage_nomem(w->s);
        adb_free(ADB_MEM_LOG, w->buffer);
        w->buffer = grown;
        w->capacity = bytes;
    }
    memset(w->buffer, 0, bytes);
    return ARMDB_OK;
}

/* The frame of `count` records from `items` on, behind what is there. */
static enum armdb_rc write_frame(struct writer *w, const struct salvaged *items,
                                 size_t count)
{
    struct frame frame = {.kind = FRAME_MOVED,
                          .record_count = (uint32_t)count,
                          .watermark = w->s->gsn_max,
                          .settled = w->s->gsn_max,
                          .durable_bytes = SEGMENT_FIRST_FRAME,
                          .digest = FRAME_DIGEST_START};
    uint64_t from = w->listed.length;
    uint64_t start = align_to_frame(from);
    uint64_t offset = start + FRAME_HEADER_BYTES;
    enum armdb_rc rc = watch_ask(w->s->watch, w->s->err);

    for (size_t i = 0; i < count; i++)
        offset = record_place(offset, items[i].size) + items[i].size;
    frame.body_len = offset - start - FRAME_HEADER_BYTES;
    w->listed.length = offset;
    if (rc == ARMDB_OK)
        rc = make_room(w, (size_t)(offset - from));
    if (rc != ARMDB_OK)
        return rc;
    offset = start + FRAME_HEADER_BYTES;
    for (size_t i = 0; i < count; i++) {
        const struct salvaged *item = &items[i];

        offset = record_place(offset, item->size);
        record_bind(item->bytes, item->size, item->head_check_at, true, w->seed, offset,
                    &frame.digest);
        memcpy(w->buffer + (offset - from), item->bytes, item->size);
        offset += item->size;
        if (w->listed.gsn_low == 0 || item->gsn < w->listed.gsn_low)
            w->listed.gsn_low = item->gsn;
        if (item->gsn > w->listed.gsn_high)
            w->listed.gsn_high = item->gsn;
    }
    frame_encode(&frame, w->buffer + (start - from), w->seed, start);
    return adb_file_write(w->file, w->name, w->buffer, (size_t)(offset - from), from,
                          w->s->err);
}

static enum armdb_rc begin_segment(struct writer *w)
{
    struct salvage *s = w->s;
    struct adb_dir *dir = s->target.dir;
    struct segment_header header = {.kind = SEGMENT_OUTPUT,
                                    .check_kind = SEGMENT_CHECK_XXH3,
                                    .cipher_kind = SEGMENT_CIPHER_NONE,
                                    .watermark = s->gsn_max};
    enum armdb_rc rc =
        dir->io->ops->random(dir->io, header.identity, sizeof header.identity, s->err);

    if (rc != ARMDB_OK)
        return rc;
    memcpy(header.store_uuid, s->sb.uuid, sizeof header.store_uuid);
    header.number = s->made.next_segment++;
    w->seed = adb_check_seed(header.identity);
    w->listed.number = header.number;
    memcpy(w->listed.identity, header.identity, sizeof w->listed.identity);
    w->listed.kind = SEGMENT_OUTPUT;
    w->listed.sealed = true;
    w->listed.length = SEGMENT_FIRST_FRAME;
    segment_name(header.number, w->name);
    rc = dir->io->ops->file_open(dir, w->name, ADB_OPEN_WRITE | ADB_OPEN_CREATE, &w->file,
                                 s->err);
    if (rc == ARMDB_OK)
        rc = make_room(w, SEGMENT_HEADER_BYTES);
    if (rc != ARMDB_OK)
        return rc;
    segment_header_encode(&header, w->buffer);
    return adb_file_write(w->file, w->name, w->buffer, SEGMENT_HEADER_BYTES, 0, s->err);
}

static enum armdb_rc write_frames(struct writer *w, const struct salvaged *items,
                                  size_t count)
{
    enum armdb_rc rc = ARMDB_OK;
    size_t first = 0;
    uint64_t bytes = 0;

    for (size_t i = 0; rc == ARMDB_OK && i < count; i++) {
        bytes += items[i].size;
        if (bytes < FRAME_BODY_BYTES && i + 1 < count)
            continue;
        rc = write_frame(w, items + first, i + 1 - first);
        first = i + 1;
        bytes = 0;
    }
    return rc;
}

enum armdb_rc salvage_flush(struct salvage *s)
{
    struct writer w = {.s = s};
    struct bump_mark all = {NULL, 0};
    enum armdb_rc rc;

    if (s->batch.count == 0)
        return ARMDB_OK;
    list_sort(&s->batch, sizeof(struct salvaged), compare_salvaged);
    rc = begin_segment(&w);
    if (rc == ARMDB_OK)
        rc = write_frames(&w, s->batch.items, s->batch.count);
    if (rc == ARMDB_OK)
        rc = adb_file_sync(w.file, w.name, s->err);
    if (rc == ARMDB_OK && manifest_add(&s->made, &w.listed) != ARMDB_OK)
        rc = salvage_nomem(s);
    if (w.file != NULL)
        w.file->io->ops->file_close(w.file);
    adb_free(ADB_MEM_LOG, w.buffer);
    s->info->bytes += rc == ARMDB_OK ? w.listed.length : 0;
    s->batch.count = 0;
    s->batch_bytes = 0;
    bump_back(&s->records, all);
    return rc;
}

enum armdb_rc salvage_put(struct salvage *s, const struct record *record, uint64_t gsn,
                          uint64_t ordinal)
{
    struct record copy = *record;
    struct salvaged *item = list_push(&s->batch, sizeof *item);

    if (item == NULL)
        return salvage_nomem(s);
    copy.flags |= RECORD_HAS_GSN | RECORD_HAS_ORDINAL;
    copy.gsn = gsn;
    copy.ordinal = ordinal;
    item->table = record->table;
    item->gsn = gsn;
    item->ordinal = ordinal;
    item->key_len = record->key_len;
    item->size = record_size(&copy);
    item->bytes = bump_alloc(&s->records, item->size);
    if (item->bytes == NULL)
        return salvage_nomem(s);
    record_encode(&copy, item->bytes, &item->head_check_at);
    s->batch_bytes += item->size;
    return s->batch_bytes < BATCH_BYTES ? ARMDB_OK : salvage_flush(s);
}

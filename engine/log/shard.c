/* shard.c - one shard's tail: append, flush, rotate.
 *
 * Appending is memory work under the shard's lock: room is made certain first
 * (preallocated file space for the frame, for a verdict of each undecided frame and
 * for the SEAL; page frames in the buffer manager), then the GSN is taken, then the
 * bytes are placed. After the GSN nothing can fail but I/O, and that wounds.
 *
 * A flush is done by whoever needs it and finds none running: it notes the end of the
 * shard under the lock, writes the dirty pages up to there without it and syncs.
 * Others append meanwhile and wait; the next flush carries all of them (group commit).
 * The last page is written from a copy taken under the lock, since appenders go on
 * filling it. One flush at a time means that no page is ever in two writes at once.
 *
 * Rotation happens inside an append that finds no room: the new segment is made and
 * listed in the manifest first (which may fail without harm), then the old one gets
 * its SEAL and is synced, then the new one becomes active. Appenders wait.
 *
 * Preallocation: 1 MiB at first, doubling up to 8 MiB. While flushes are small the new
 * part is also written with zeros: a later sync then changes no metadata, which makes
 * a small durable commit about twice as fast; for large flushes that would only double
 * the bytes written. */
#include <string.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/base/plant.h"
#include "engine/log/log.h"
#include "engine/log/record.h"

enum {
    VERDICT_ROOM = FRAME_HEADER_BYTES + FRAME_ALIGNMENT,
    RESERVE_STEP_MIN = 1 << 20,
    RESERVE_STEP_MAX = 8 << 20,
    SMALL_FLUSH_BYTES = 32 << 10, /* below it, preallocated space is written */
    WRITE_IOV_MAX = 1024,         /* pages in one write */
    WRITE_OPS_MAX = 16            /* writes in one batch */
};

ADB_NOT_SHARED enum armdb_rc shard_init(struct shard *shard, uint32_t id)
{
    enum armdb_rc rc;

    memset(&shard->locked, 0, sizeof shard->locked);
    shard->id = id;
    shard->locked.reserve_step = RESERVE_STEP_MIN;
    atomic_init(&shard->unsynced_bytes, 0);
    shard->locked.tail =
        adb_alloc_aligned(ADB_MEM_LOG, CACHE_PAGE_BYTES, CACHE_PAGE_BYTES);
    if (shard->locked.tail == NULL)
        return ARMDB_NOMEM;
    rc = adb_mutex_init(&shard->lock, ADB_RANK_SHARD);
    if (rc == ARMDB_OK) {
        rc = adb_cond_init(&shard->changed);
        if (rc != ARMDB_OK)
            adb_mutex_fini(&shard->lock);
    }
    if (rc != ARMDB_OK)
        adb_free_aligned(ADB_MEM_LOG, shard->locked.tail);
    return rc;
}

ADB_NOT_SHARED void shard_fini(struct shard *shard)
{
    adb_cond_fini(&shard->changed);
    adb_mutex_fini(&shard->lock);
    adb_free_aligned(ADB_MEM_LOG, shard->locked.tail);
    adb_free(ADB_MEM_LOG, shard->locked.pages);
}

/* ---- Appending ---- */

/* Where the frame and its records would lie. */
struct placement {
    uint64_t start; /* of the frame header */
    uint64_t end;
};

static struct placement place_frame(const struct segment *segment,
                                    const struct frame *frame,
                                    const struct log_record *records, size_t count)
{
    struct placement place;

    place.start =
        (segment->length + FRAME_ALIGNMENT - 1) & ~(uint64_t)(FRAME_ALIGNMENT - 1);
    place.end = place.start + frame_head_len(frame);
    for (size_t i = 0; i < count; i++)
        place.end = record_place(place.end, records[i].size) + records[i].size;
    return place;
}

/* More than the frame can take wherever it lies. */
static uint64_t frame_bytes_bound(const struct frame *frame,
                                  const struct log_record *records, size_t count)
{
    uint64_t bytes = FRAME_ALIGNMENT + frame_head_len(frame);

    for (size_t i = 0; i < count; i++)
        bytes += records[i].size;
    /* A page with a gap holds at least one byte of it less than half full only when
     * the next record is larger than half a page: the gaps are at most the records. */
    return bytes * 2 + 2 * (uint64_t)CACHE_PAGE_BYTES;
}

/* Preallocates the file up to at least `end`. Under the shard's lock: room has to be
 * certain before a GSN is given, and steps are few. */
static enum armdb_rc reserve_room(struct log *log, struct shard *shard,
                                  struct segment *segment, uint64_t end,
                                  struct armdb_error *err) ADB_REQUIRES(shard->lock)
{
    enum armdb_rc rc;
    uint64_t bytes = segment->reserved + shard->locked.reserve_step;
    bool written = shard->locked.flush_bytes < SMALL_FLUSH_BYTES;

    if (end <= segment->reserved)
        return ARMDB_OK;
    if (bytes > log->segment_size)
        bytes = log->segment_size;
    if (bytes < end)
        bytes = end;
    bytes = (bytes + CACHE_PAGE_BYTES - 1) & ~(uint64_t)(CACHE_PAGE_BYTES - 1);
    rc = segment->file->io->ops->file_reserve(segment->file, bytes, written, err);
    if (rc == ARMDB_FULL && bytes > end) {
        /* The disk may have room for this frame though not for the whole step. */
        bytes = (end + CACHE_PAGE_BYTES - 1) & ~(uint64_t)(CACHE_PAGE_BYTES - 1);
        written = false;
        rc = segment->file->io->ops->file_reserve(segment->file, bytes, written, err);
    }
    if (rc == ARMDB_IO)
        log_wound(log, err); /* writing the zeros may have used up a write's error */
    if (rc != ARMDB_OK)
        return rc;
    if (written)
        (void)atomic_fetch_add_explicit(&log->stats.zeroed, bytes - segment->reserved,
                                        memory_order_relaxed);
    segment->reserved = bytes;
    if (shard->locked.reserve_step < RESERVE_STEP_MAX)
        shard->locked.reserve_step *= 2;
    return ARMDB_OK;
}

/* Takes dirty frames for the pages of [start, end) into shard->pages. */
static enum armdb_rc take_pages(struct shard *shard, struct segment *segment,
                                const struct placement *place, struct armdb_error *err)
    ADB_REQUIRES(shard->lock)
{
    uint64_t first = place->start / CACHE_PAGE_BYTES;
    size_t count = (size_t)((place->end - 1) / CACHE_PAGE_BYTES - first + 1);
    /* The page that already holds earlier bytes stays, whatever happens. */
    uint64_t fresh = (segment->length + CACHE_PAGE_BYTES - 1) / CACHE_PAGE_BYTES;

    if (count > shard->locked.pages_capacity) {
        unsigned char **pages =
            adb_realloc(ADB_MEM_LOG, shard->locked.pages, count * sizeof *pages);

        if (pages == NULL)
            return ADB_FAIL(ARMDB_NOMEM, err, "out of memory for a transaction's pages");
        shard->locked.pages = pages;
        shard->locked.pages_capacity = count;
    }
    for (size_t i = 0; i < count; i++) {
        enum armdb_rc rc = cache_dirty(segment->cf, first + i, &shard->locked.pages[i]);

        if (rc != ARMDB_OK) {
            if (first + i > fresh)
                cache_pages_discard(segment->cf, fresh, first + i - fresh);
            return ADB_FAIL(rc, err, "out of memory for a transaction's pages");
        }
    }
    return ARMDB_OK;
}

/* Copies bytes to their place in the pages taken. */
static void copy_in(struct shard *shard, uint64_t first_page, uint64_t offset,
                    const unsigned char *bytes, size_t n) ADB_REQUIRES(shard->lock)
{
    while (n > 0) {
        size_t in_page = (size_t)(offset % CACHE_PAGE_BYTES);
        size_t piece = CACHE_PAGE_BYTES - in_page < n ? CACHE_PAGE_BYTES - in_page : n;
        unsigned char *page = shard->locked.pages[offset / CACHE_PAGE_BYTES - first_page];

        memcpy(page + in_page, bytes, piece);
        bytes += piece;
        offset += piece;
        n -= piece;
    }
}

/* Binds and copies the records, publishes their locations, then the header. */
static void fill_frame(struct shard *shard, struct segment *segment, struct frame *frame,
                       const struct placement *place, const struct log_record *records,
                       size_t count, unsigned char *head) ADB_REQUIRES(shard->lock)
{
    uint64_t first_page = place->start / CACHE_PAGE_BYTES;
    uint64_t offset = place->start + frame_head_len(frame);

    frame->digest = FRAME_DIGEST_START;
    for (size_t i = 0; i < count; i++) {
        const struct log_record *record = &records[i];

        offset = record_place(offset, record->size);
        record_bind(record->bytes, record->size, record->head_check_at,
                    record->has_value_check, segment->seed, offset, &frame->digest);
        copy_in(shard, first_page, offset, record->bytes, record->size);
        if (record->location != NULL)
            /* Pairs with the acquire of whoever reads the record. */
            atomic_store_explicit(record->location, location_make(segment->slot, offset),
                                  memory_order_release);
        offset += record->size;
    }
    frame->body_len = place->end - place->start - frame_head_len(frame);
    frame->record_count = (uint32_t)count;
    frame_encode(frame, head, segment->seed, place->start);
    copy_in(shard, first_page, place->start, head, frame_head_len(frame));
}

static bool takes_gsn(const struct frame *frame)
{
    return frame->kind == FRAME_COMMIT || frame->kind == FRAME_CLOSE ||
           frame->kind == FRAME_VERDICT;
}

static void note_gsn(struct segment *segment, uint64_t gsn)
{
    if (segment->gsn_low == 0)
        segment->gsn_low = gsn;
    segment->gsn_high = gsn;
}

/* Room is certain and pages are taken: nothing here can fail. */
static void put_frame(struct log *log, struct shard *shard, struct segment *segment,
                      struct frame *frame, const struct placement *place,
                      const struct log_record *records, size_t count, unsigned char *head,
                      struct gsn_undecided *undecided) ADB_REQUIRES(shard->lock)
{
    uint64_t bytes = 0;

    frame->watermark = gsn_durable(&log->gsn);
    frame->settled = gsn_settled(&log->gsn);
    frame->durable_bytes = shard->locked.synced;
    if (takes_gsn(frame)) {
        frame->gsn = gsn_take(&log->gsn, shard->id, undecided);
        note_gsn(segment, frame->gsn);
    }
    if (frame->kind == FRAME_CHUNK)
        segment->open_chunks++;
    fill_frame(shard, segment, frame, place, records, count, head);
    (void)atomic_fetch_add_explicit(&shard->unsynced_bytes, place->end - segment->length,
                                    memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&log->stats.bytes, place->end - segment->length,
                                    memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&log->stats.frames, 1, memory_order_relaxed);
    for (size_t i = 0; i < count; i++)
        bytes += records[i].size - records[i].ordinal_bytes;
    (void)atomic_fetch_add_explicit(&segment->body_bytes, bytes, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&segment->records, count, memory_order_relaxed);
    segment->length = place->end;
    if (undecided != NULL)
        shard->locked.undecided++;
}

/* ---- Flushing ---- */

/* What one flush writes, noted under the lock. */
struct flush {
    struct segment *segment;
    uint64_t from; /* first byte of the first page to write */
    uint64_t to;   /* end of the bytes that count */
    bool sync;
};

/* Collects the pages [first, last) as one write; the tail page comes from `tail`. */
static uint32_t build_iov(const struct flush *flush, uint64_t first, uint64_t last,
                          unsigned char *tail, struct iovec *iov)
{
    uint32_t n = 0;
    uint64_t tail_page = flush->to / CACHE_PAGE_BYTES;

    for (uint64_t page = first; page < last; page++) {
        bool is_tail = page == tail_page; /* only if it is not full */
        unsigned char *p = is_tail ? tail : cache_dirty_find(flush->segment->cf, page);

        if (n > 0 && (unsigned char *)iov[n - 1].iov_base + iov[n - 1].iov_len == p) {
            iov[n - 1].iov_len += CACHE_PAGE_BYTES;
            continue;
        }
        iov[n].iov_base = p;
        iov[n].iov_len = CACHE_PAGE_BYTES;
        n++;
    }
    return n;
}

/* Runs a batch and reports its first failure. */
static enum armdb_rc run_ops(struct segment *segment, struct adb_io_op *ops, size_t count,
                             struct armdb_error *err)
{
    adb_io_run(segment->file->io, ops, count);
    if (ops[count - 1].kind == ADB_IO_SYNC && ops[count - 1].sys_errno != 0 &&
        ADB_PLANTED("failed_sync_believed"))
        adb_io_run(segment->file->io, &ops[count - 1], 1);
    for (size_t i = 0; i < count; i++)
        if (ops[i].sys_errno != 0)
            return adb_fail_errno(ops[i].sys_errno, ARMDB_IO, err, "%s %s",
                                  ops[i].kind == ADB_IO_SYNC ? "syncing" : "writing",
                                  segment->name);
    return ARMDB_OK;
}

/* Writes the pages in batches; the sync goes with the last batch. */
static enum armdb_rc write_pages(const struct flush *flush, unsigned char *tail,
                                 struct armdb_error *err)
{
    enum armdb_rc rc = ARMDB_OK;
    struct adb_io_op ops[WRITE_OPS_MAX + 1];
    uint64_t page = flush->from / CACHE_PAGE_BYTES;
    uint64_t last = (flush->to + CACHE_PAGE_BYTES - 1) / CACHE_PAGE_BYTES;
    size_t pages = (size_t)(last - page);
    size_t ops_max = (pages + WRITE_IOV_MAX - 1) / WRITE_IOV_MAX;
    struct iovec small[16];
    struct iovec *iov = small;
    size_t count;

    if (ops_max > WRITE_OPS_MAX)
        ops_max = WRITE_OPS_MAX;
    if (pages > sizeof small / sizeof small[0]) {
        size_t iov_max =
            pages < ops_max * WRITE_IOV_MAX ? pages : ops_max * WRITE_IOV_MAX;

        iov = adb_alloc(ADB_MEM_LOG, iov_max * sizeof *iov);
        if (iov == NULL) /* as slow as it must be, but it goes on */
            iov = small;
    }
    do {
        size_t used = 0;
        bool one_by_one = iov == small;

        for (count = 0; page < last && count < (one_by_one ? 1 : ops_max); count++) {
            uint64_t piece = one_by_one ? sizeof small / sizeof small[0] : WRITE_IOV_MAX;
            uint64_t stop = last - page > piece ? page + piece : last;

            memset(&ops[count], 0, sizeof ops[count]);
            ops[count].file = flush->segment->file;
            ops[count].kind = ADB_IO_WRITE;
            ops[count].iov = iov + used;
            ops[count].iov_count = build_iov(flush, page, stop, tail, iov + used);
            ops[count].offset = page * CACHE_PAGE_BYTES;
            used += ops[count].iov_count;
            page = stop;
        }
        if (page == last && flush->sync && count <= 1) {
            memset(&ops[count], 0, sizeof ops[count]);
            ops[count].file = flush->segment->file;
            ops[count].kind = ADB_IO_SYNC;
            ops[count].after_previous = count > 0;
            count++;
        }
        rc = run_ops(flush->segment, ops, count, err);
        if (rc == ARMDB_OK && page == last && flush->sync && count > 1 &&
            ops[count - 1].kind != ADB_IO_SYNC)
            rc = adb_file_sync(flush->segment->file, flush->segment->name, err);
    } while (rc == ARMDB_OK && page < last);
    if (iov != small)
        adb_free(ADB_MEM_LOG, iov);
    return rc;
}

/* Writes what the shard holds now. On entry and exit the lock is held, in between not;
 * the caller has seen that no flush is running. A failure wounds the store. */
static enum armdb_rc flush_locked(struct log *log, struct shard *shard, bool sync,
                                  struct armdb_error *err) ADB_REQUIRES(shard->lock)
{
    enum armdb_rc rc;
    struct flush flush;
    unsigned char *tail = shard->locked.tail; /* its only user is the running flush */
    uint64_t full;
    uint64_t bytes;
    uint64_t began;

    ADB_ASSERT(!shard->locked.flushing);
    flush.segment = shard->locked.active;
    flush.from = shard->locked.written & ~(uint64_t)(CACHE_PAGE_BYTES - 1);
    flush.to = flush.segment->length;
    flush.sync = sync && !ADB_PLANTED("sync_skipped");
    if (shard->locked.written == flush.to)
        flush.from =
            (flush.to + CACHE_PAGE_BYTES - 1) & ~(uint64_t)(CACHE_PAGE_BYTES - 1);
    else if (flush.to % CACHE_PAGE_BYTES != 0)
        memcpy(tail, cache_dirty_find(flush.segment->cf, flush.to / CACHE_PAGE_BYTES),
               CACHE_PAGE_BYTES);
    bytes = flush.to - shard->locked.written;
    shard->locked.flush_bytes = (shard->locked.flush_bytes * 7 + bytes) / 8;
    shard->locked.flushing = true;
    gsn_capture(&log->gsn, shard->id);
    adb_mutex_unlock(&shard->lock);

    began = sync ? adb_mono_ns() : 0;
    rc = write_pages(&flush, tail, err);
    if (rc == ARMDB_OK) {
        atomic_store_explicit(&flush.segment->written_ns, (int64_t)adb_mono_coarse_ns(),
                              memory_order_relaxed);
        if (sync)
            histogram_add(&log->stats.sync, adb_mono_ns() - began);
        full = flush.to / CACHE_PAGE_BYTES;
        if (full > flush.from / CACHE_PAGE_BYTES)
            cache_pages_written(flush.segment->cf, flush.from / CACHE_PAGE_BYTES,
                                full - flush.from / CACHE_PAGE_BYTES);
        (void)atomic_fetch_add_explicit(&log->stats.flushes, 1, memory_order_relaxed);
        if (sync)
            (void)atomic_fetch_add_explicit(&log->stats.syncs, 1, memory_order_relaxed);
    }

    adb_mutex_lock(&shard->lock);
    shard->locked.flushing = false;
    if (rc == ARMDB_OK) {
        shard->locked.written = flush.to;
        if (sync) {
            shard->locked.synced = flush.to;
            atomic_store_explicit(&shard->unsynced_bytes,
                                  flush.segment->length - flush.to, memory_order_relaxed);
        }
        gsn_flushed(&log->gsn, shard->id, sync);
    } else {
        log_wound(log, err);
    }
    adb_cond_broadcast(&shard->changed);
    return rc;
}

enum armdb_rc log_flush(struct log *log, uint32_t shard_id, bool sync,
                        struct armdb_error *err)
{
    enum armdb_rc rc = ARMDB_OK;
    struct shard *shard = &log->shards[shard_id];
    uint64_t generation;
    uint64_t target;

    adb_mutex_lock(&shard->lock);
    while (shard->locked.rotating)
        adb_cond_wait(&shard->changed, &shard->lock);
    if (shard->locked.active == NULL)
        goto out;
    generation = shard->locked.generation;
    target = shard->locked.active->length;
    /* A rotation meanwhile has synced the segment that held the target. */
    while (generation == shard->locked.generation &&
           (sync ? shard->locked.synced : shard->locked.written) < target) {
        if (atomic_load_explicit(&log->wounded, memory_order_acquire)) {
            rc = log_writable(log, err);
            break;
        }
        if ((shard->locked.flushing && !ADB_PLANTED("two_writes_in_flight")) ||
            shard->locked.rotating) {
            adb_cond_wait(&shard->changed, &shard->lock);
            continue;
        }
        rc = flush_locked(log, shard, sync, err);
        if (rc != ARMDB_OK)
            break;
    }
out:
    adb_mutex_unlock(&shard->lock);
    return rc;
}

enum armdb_rc log_cover(struct log *log, uint32_t shard, uint64_t gsn, bool sync,
                        struct armdb_error *err)
{
    if (ADB_PLANTED("ack_before_sync"))
        sync = false;
    if (!sync && ADB_PLANTED("ack_before_written"))
        return ARMDB_OK;
    for (;;) {
        enum armdb_rc rc = log_flush(log, shard, sync, err);

        if (rc != ARMDB_OK)
            return rc;
        switch (gsn_ask(&log->gsn, gsn, sync, &shard)) {
        case GSN_COVERED:
            return ARMDB_OK;
        case GSN_WOUNDED:
            return log_writable(log, err);
        case GSN_BEHIND:
            if (ADB_PLANTED("lower_gsn_not_waited_for"))
                return ARMDB_OK;
            break; /* a lower GSN lies in `shard`: flush that one */
        }
    }
}

enum armdb_rc log_sync_all(struct log *log, struct armdb_error *err)
{
    for (uint32_t i = 0; i < log->shard_count; i++) {
        enum armdb_rc rc = log_flush(log, i, true, err);

        if (rc != ARMDB_OK)
            return rc;
    }
    return ARMDB_OK;
}

/* ---- Rotation ---- */

/* Appends the SEAL, for which room was kept, and syncs the segment. */
static enum armdb_rc seal_locked(struct log *log, struct shard *shard,
                                 struct armdb_error *err) ADB_REQUIRES(shard->lock)
{
    enum armdb_rc rc;
    struct segment *segment = shard->locked.active;
    struct frame frame = {.kind = FRAME_SEAL};
    struct placement place = place_frame(segment, &frame, NULL, 0);
    unsigned char head[FRAME_HEADER_BYTES];

    frame.arg_a = segment->gsn_low;
    frame.arg_b = segment->gsn_high;
    rc = take_pages(shard, segment, &place, err);
    if (rc != ARMDB_OK)
        return rc;
    put_frame(log, shard, segment, &frame, &place, NULL, 0, head, NULL);
    rc = flush_locked(log, shard, !ADB_PLANTED("seal_not_synced"), err);
    segment->sealed = rc == ARMDB_OK;
    return rc;
}

/* The tail page of a sealed segment is an ordinary page now. */
static void release_tail(struct segment *segment)
{
    if (segment->length % CACHE_PAGE_BYTES != 0)
        cache_pages_written(segment->cf, segment->length / CACHE_PAGE_BYTES, 1);
}

/* Makes a segment with room for `bytes` the active one. The lock is held on entry and
 * exit; other appenders wait meanwhile. */
static enum armdb_rc rotate(struct log *log, struct shard *shard, uint64_t bytes,
                            struct armdb_error *err) ADB_REQUIRES(shard->lock)
{
    enum armdb_rc rc;
    struct segment *old = shard->locked.active;
    struct segment *next = NULL;

    shard->locked.rotating = true;
    adb_mutex_unlock(&shard->lock);
    rc = log_new_segment(log, shard->id, bytes, &next, err);
    adb_mutex_lock(&shard->lock);
    if (rc == ARMDB_OK && old != NULL) {
        while (shard->locked.flushing)
            adb_cond_wait(&shard->changed, &shard->lock);
        /* A flush that failed meanwhile must not be followed by one that succeeds: it
         * would be believed. */
        if (!ADB_PLANTED("wound_forgotten"))
            rc = log_writable(log, err);
        if (rc == ARMDB_OK)
            rc = seal_locked(log, shard, err);
    }
    if (rc == ARMDB_OK) {
        shard->locked.active = next;
        shard->locked.generation++;
        shard->locked.written = SEGMENT_FIRST_FRAME;
        shard->locked.synced = SEGMENT_FIRST_FRAME;
        if (old != NULL) {
            release_tail(old);
            adb_mutex_unlock(&shard->lock);
            log_note_sealed(log, old);
            adb_mutex_lock(&shard->lock);
        }
    }
    shard->locked.rotating = false;
    adb_cond_broadcast(&shard->changed);
    return rc;
}

ADB_NOT_SHARED enum armdb_rc shard_seal(struct log *log, struct shard *shard,
                                        struct armdb_error *err)
{
    enum armdb_rc rc;
    struct segment *segment = shard->locked.active;

    adb_mutex_lock(&shard->lock);
    rc = seal_locked(log, shard, err);
    if (rc == ARMDB_OK) {
        release_tail(segment);
        shard->locked.active = NULL;
    }
    adb_mutex_unlock(&shard->lock);
    if (rc != ARMDB_OK)
        return rc;
    log_note_sealed(log, segment);
    if (segment->reserved > segment->length) {
        struct armdb_error ignored; /* a file that stays longer does no harm */

        (void)segment->file->io->ops->file_truncate(segment->file, segment->length,
                                                    &ignored);
    }
    return ARMDB_OK;
}

enum armdb_rc log_seal_active(struct log *log, uint32_t shard_id, struct armdb_error *err)
{
    enum armdb_rc rc = ARMDB_OK;
    struct shard *shard = &log->shards[shard_id];
    struct segment *segment;
    bool cut = false;

    adb_mutex_lock(&shard->lock);
    while (shard->locked.rotating || shard->locked.flushing)
        adb_cond_wait(&shard->changed, &shard->lock);
    segment = shard->locked.active;
    /* A verdict's room was kept in this segment: it must stay the active one. */
    if (segment == NULL || segment->length == SEGMENT_FIRST_FRAME ||
        shard->locked.undecided > 0)
        goto out;
    rc = log_writable(log, err);
    if (rc != ARMDB_OK)
        goto out;
    shard->locked.rotating = true;
    rc = seal_locked(log, shard, err);
    if (rc == ARMDB_OK) {
        release_tail(segment);
        shard->locked.active = NULL;
        shard->locked.generation++;
        shard->locked.written = SEGMENT_FIRST_FRAME;
        shard->locked.synced = SEGMENT_FIRST_FRAME;
        cut = segment->reserved > segment->length;
    }
    adb_mutex_unlock(&shard->lock);
    if (cut) {
        struct armdb_error ignored; /* a file that stays longer does no harm */

        (void)segment->file->io->ops->file_truncate(segment->file, segment->length,
                                                    &ignored);
    }
    if (rc == ARMDB_OK)
        log_note_sealed(log, segment);
    adb_mutex_lock(&shard->lock);
    shard->locked.rotating = false;
    adb_cond_broadcast(&shard->changed);
out:
    adb_mutex_unlock(&shard->lock);
    return rc;
}

enum armdb_rc log_append(struct log *log, uint32_t shard_id, struct frame *frame,
                         const struct log_record *records, size_t count,
                         struct gsn_undecided *undecided, uint64_t *segment_number,
                         struct armdb_error *err)
{
    enum armdb_rc rc;
    struct shard *shard = &log->shards[shard_id];
    struct segment *segment;
    struct placement place;
    unsigned char small[FRAME_HEADER_BYTES + 128];
    unsigned char *head = small;
    uint64_t bound = frame_bytes_bound(frame, records, count);
    uint64_t room;

    if (frame_head_len(frame) > sizeof small) {
        head = adb_alloc(ADB_MEM_LOG, frame_head_len(frame));
        if (head == NULL)
            return ADB_FAIL(ARMDB_NOMEM, err, "out of memory for a frame");
    }
    adb_mutex_lock(&shard->lock);
    for (;;) {
        rc = log_writable(log, err);
        if (rc != ARMDB_OK)
            goto out;
        if (shard->locked.rotating) {
            adb_cond_wait(&shard->changed, &shard->lock);
            continue;
        }
        room = ((uint64_t)shard->locked.undecided + 3) * VERDICT_ROOM;
        segment = shard->locked.active;
        if (segment != NULL) {
            place = place_frame(segment, frame, records, count);
            if (place.end + room <= log->segment_size ||
                segment->length == SEGMENT_FIRST_FRAME || frame->kind == FRAME_VERDICT)
                break;
        }
        rc = rotate(log, shard, bound + room, err);
        if (rc != ARMDB_OK)
            goto out;
    }
    /* A verdict's room was kept when its target was appended. */
    rc = frame->kind == FRAME_VERDICT && place.end <= segment->reserved
             ? ARMDB_OK
             : reserve_room(log, shard, segment, place.end + room, err);
    if (rc != ARMDB_OK)
        goto out;
    rc = take_pages(shard, segment, &place, err);
    if (rc != ARMDB_OK)
        goto out;
    put_frame(log, shard, segment, frame, &place, records, count, head, undecided);
    if (segment_number != NULL)
        *segment_number = segment->header.number;
out:
    adb_mutex_unlock(&shard->lock);
    if (head != small)
        adb_free(ADB_MEM_LOG, head);
    return rc;
}

void log_chunks_ended(struct log *log, uint32_t shard_id, uint64_t segment_number,
                      uint32_t count, uint64_t gsn)
{
    struct shard *shard = &log->shards[shard_id];
    struct segment *segment =
        segtab_get(&log->segments, log_slot(log->slot_base, segment_number));
    bool sealed;

    if (segment == NULL)
        return; /* not while its chunks are open: compaction leaves it alone */
    adb_mutex_lock(&shard->lock);
    segment->open_chunks -= count;
    if (gsn != 0) {
        if (segment->gsn_low == 0 || gsn < segment->gsn_low)
            segment->gsn_low = gsn;
        if (gsn > segment->gsn_high)
            segment->gsn_high = gsn;
    }
    sealed = segment->sealed && segment->open_chunks == 0;
    adb_mutex_unlock(&shard->lock);
    if (sealed)
        log_note_sealed(log, segment);
}

void log_decided(struct log *log, uint32_t shard_id, struct gsn_undecided *undecided)
{
    struct shard *shard = &log->shards[shard_id];

    gsn_decided(&log->gsn, undecided);
    adb_mutex_lock(&shard->lock);
    shard->locked.undecided--;
    adb_mutex_unlock(&shard->lock);
}

/* log.c - opening and closing the log, its manifest, its wound.
 *
 * The manifest in memory is ahead of the file by what may be: a segment that was
 * sealed since (recovery finds its SEAL), and a higher watermark. A new segment is in
 * the file before a frame goes into it. */
#include "engine/log/log.h"

#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/plant.h"

/* Smallest preallocation of a segment. */
static const uint64_t reserve_bytes_min = UINT64_C(1) << 20;

static enum armdb_rc open_listed(struct log *log, struct armdb_error *err) ADB_NOT_SHARED
{
    for (size_t i = 0; i < log->locked.manifest.segment_count; i++) {
        struct segment *segment = NULL;
        enum armdb_rc rc =
            segment_open(log->dir, log->cache, &log->locked.manifest.segments[i],
                         log->uuid, log->direct, &segment, err);

        if (rc != ARMDB_OK)
            return rc;
        rc = segtab_add(&log->segments, log_slot(log->slot_base, segment->header.number),
                        segment);
        if (rc != ARMDB_OK) {
            segment_close(segment);
            return ADB_FAIL(rc, err, "too many segments, or out of memory for them");
        }
    }
    return ARMDB_OK;
}

uint32_t log_slot(uint64_t slot_base, uint64_t segment_number)
{
    uint64_t slot = segment_number - slot_base;

    return slot <= LOCATION_SLOT_MAX ? (uint32_t)slot : 0;
}

static enum armdb_rc make_shards(struct log *log)
{
    log->shards = adb_alloc_zero(ADB_MEM_LOG, log->shard_count * sizeof *log->shards);
    if (log->shards == NULL)
        return ARMDB_NOMEM;
    for (uint32_t i = 0; i < log->shard_count; i++) {
        enum armdb_rc rc = shard_init(&log->shards[i], i);

        if (rc != ARMDB_OK) {
            while (i > 0)
                shard_fini(&log->shards[--i]);
            adb_free(ADB_MEM_LOG, log->shards);
            log->shards = NULL;
            return rc;
        }
    }
    return ARMDB_OK;
}

static void free_log(struct log *log)
{
    segtab_fini(&log->segments);
    if (log->shards != NULL)
        for (uint32_t i = 0; i < log->shard_count; i++)
            shard_fini(&log->shards[i]);
    adb_free(ADB_MEM_LOG, log->shards);
    gsn_fini(&log->gsn);
    adb_mutex_fini(&log->wound_lock);
    adb_mutex_fini(&log->manifest_lock);
}

ADB_NOT_SHARED enum armdb_rc log_open(struct log *log, struct adb_dir *dir,
                                      struct cache *cache, const unsigned char uuid[16],
                                      uint32_t shard_count, uint64_t segment_size,
                                      bool direct, bool read_only,
                                      struct manifest *manifest, uint64_t slot_base,
                                      uint64_t last_gsn, struct armdb_error *err)
{
    enum armdb_rc rc;

    memset(log, 0, sizeof *log);
    log->dir = dir;
    log->cache = cache;
    memcpy(log->uuid, uuid, 16);
    log->shard_count = shard_count;
    log->segment_size = segment_size;
    log->direct = direct;
    log->read_only = read_only;
    log->txid_edit = manifest->edit;
    log->slot_base = slot_base;
    atomic_init(&log->next_table, manifest->next_table);
    segtab_init(&log->segments);
    rc = adb_mutex_init(&log->manifest_lock, ADB_RANK_MANIFEST);
    if (rc != ARMDB_OK)
        return ADB_FAIL(rc, err, "out of memory opening the log");
    rc = adb_mutex_init(&log->wound_lock, ADB_RANK_LEAF);
    if (rc != ARMDB_OK) {
        adb_mutex_fini(&log->manifest_lock);
        return ADB_FAIL(rc, err, "out of memory opening the log");
    }
    rc = gsn_init(&log->gsn, shard_count, last_gsn);
    if (rc != ARMDB_OK) {
        adb_mutex_fini(&log->wound_lock);
        adb_mutex_fini(&log->manifest_lock);
        return ADB_FAIL(rc, err, "out of memory opening the log");
    }
    log->locked.manifest = *manifest; /* ownership moves here */
    manifest_init(manifest);
    atomic_init(&log->stats.sealed, log->locked.manifest.segment_count);
    rc = make_shards(log);
    if (rc != ARMDB_OK)
        (void)ADB_FAIL(rc, err, "out of memory opening the log");
    else
        rc = open_listed(log, err);
    if (rc != ARMDB_OK) {
        manifest_fini(&log->locked.manifest);
        free_log(log);
    }
    return rc;
}

static bool is_empty(const struct segment *segment)
{
    return segment->length == SEGMENT_FIRST_FRAME;
}

/* Segments that never got a frame are no longer listed: now their files go, too. Before
 * the replacement of the manifest they must not. */
static void unlink_empty(struct log *log) ADB_NOT_SHARED
{
    for (uint32_t i = 0; i < log->shard_count; i++) {
        struct segment *active = log->shards[i].locked.active;
        struct armdb_error ignored;

        if (active != NULL && is_empty(active))
            (void)log->dir->io->ops->dir_unlink(log->dir, active->name, &ignored);
    }
}

/* Seals every shard. An error leaves the rest to recovery, which does the same. */
static enum armdb_rc seal_all(struct log *log, struct armdb_error *err) ADB_NOT_SHARED
{
    for (uint32_t i = 0; i < log->shard_count; i++) {
        struct segment *active = log->shards[i].locked.active;
        enum armdb_rc rc;

        if (active == NULL)
            continue;
        if (is_empty(active)) {
            manifest_remove(&log->locked.manifest, active->header.number);
            log->locked.changed = true;
            continue;
        }
        rc = shard_seal(log, &log->shards[i], err);
        if (rc != ARMDB_OK)
            return rc;
    }
    return ARMDB_OK;
}

ADB_NOT_SHARED void log_close(struct log *log)
{
    struct armdb_error err;
    bool wounded = atomic_load_explicit(&log->wounded, memory_order_acquire);

    if (!log->read_only && !wounded && seal_all(log, &err) == ARMDB_OK) {
        uint64_t durable = gsn_durable(&log->gsn);
        uint64_t next_table =
            atomic_load_explicit(&log->next_table, memory_order_relaxed);

        if (log->locked.changed || log->locked.manifest.watermark != durable) {
            log->locked.manifest.watermark = durable;
            log->locked.manifest.next_table = next_table;
            /* Should this fail, the manifest on disk still tells the truth: recovery
             * reads the segments that it calls open. */
            if (manifest_write(log->dir, log->uuid, &log->locked.manifest, &err) ==
                ARMDB_OK)
                unlink_empty(log);
        }
    }
    for (uint32_t i = 0; i < log->shard_count; i++) {
        struct segment *active = log->shards[i].locked.active;

        if (active != NULL)
            cache_pages_discard(active->cf, 0, active->length / CACHE_PAGE_BYTES + 1);
    }
    manifest_fini(&log->locked.manifest);
    free_log(log);
}

enum armdb_rc log_new_segment(struct log *log, uint32_t shard, uint64_t bytes,
                              struct segment **out, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct segment_header header = {.shard = shard,
                                    .kind = SEGMENT_LOG,
                                    .check_kind = SEGMENT_CHECK_XXH3,
                                    .cipher_kind = SEGMENT_CIPHER_NONE};
    struct manifest_segment listed = {.shard = shard, .kind = SEGMENT_LOG};
    uint64_t reserve = bytes + SEGMENT_FIRST_FRAME;
    uint64_t bytes_max;
    bool may_be_listed = false; /* in the manifest on disk */

    *out = NULL;
    reserve = (reserve + CACHE_PAGE_BYTES - 1) & ~(uint64_t)(CACHE_PAGE_BYTES - 1);
    if (reserve < reserve_bytes_min)
        reserve = reserve_bytes_min;
    bytes_max = reserve > log->segment_size ? reserve : log->segment_size;
    memcpy(header.store_uuid, log->uuid, 16);
    rc = log->dir->io->ops->random(log->dir->io, header.identity, 16, err);
    if (rc != ARMDB_OK)
        return rc;
    header.watermark = gsn_durable(&log->gsn);
    memcpy(listed.identity, header.identity, 16);

    adb_mutex_lock(&log->manifest_lock);
    header.number = log->locked.manifest.next_segment++;
    listed.number = header.number;
    rc = segment_create(log->dir, log->cache, &header, reserve, bytes_max, log->direct,
                        out, err);
    if (rc != ARMDB_OK)
        goto out;
    rc = manifest_add(&log->locked.manifest, &listed);
    if (rc != ARMDB_OK) {
        (void)ADB_FAIL(rc, err, "out of memory for the manifest");
        goto out;
    }
    /* A compaction may have raised it since. It never falls: below it segments have gone
     * whose frames nobody must look for. */
    if (header.watermark > log->locked.manifest.watermark)
        log->locked.manifest.watermark = header.watermark;
    log->locked.manifest.next_table =
        atomic_load_explicit(&log->next_table, memory_order_relaxed);
    may_be_listed = true;
    if (!ADB_PLANTED("segment_before_manifest"))
        rc = manifest_write(log->dir, log->uuid, &log->locked.manifest, err);
    if (rc != ARMDB_OK) {
        manifest_remove(&log->locked.manifest, header.number);
        goto out;
    }
    log->locked.changed = false;
    rc = segtab_add(&log->segments, log_slot(log->slot_base, header.number), *out);
    if (rc != ARMDB_OK) {
        log->locked.changed = true;
        manifest_remove(&log->locked.manifest, header.number);
        (void)ADB_FAIL(rc, err, "too many segments, or out of memory for them");
    }
out:
    if (rc != ARMDB_OK && *out != NULL) {
        struct armdb_error ignored;

        /* A replacement that failed may have taken place all the same: the file must
         * stay. Empty it does no harm, and the next opening removes it. */
        if (!may_be_listed)
            (void)log->dir->io->ops->dir_unlink(log->dir, (*out)->name, &ignored);
        segment_close(*out);
        *out = NULL;
    }
    adb_mutex_unlock(&log->manifest_lock);
    return rc;
}

void log_note_sealed(struct log *log, const struct segment *segment)
{
    struct manifest_segment *listed;

    if (segment->open_chunks > 0)
        return; /* noted when they have ended */
    adb_mutex_lock(&log->manifest_lock);
    listed = manifest_find(&log->locked.manifest, segment->header.number);
    if (listed != NULL) {
        listed->sealed = true;
        listed->length = segment->length;
        listed->gsn_low = segment->gsn_low;
        listed->gsn_high = segment->gsn_high;
        log->locked.changed = true;
        (void)atomic_fetch_add_explicit(&log->stats.sealed, 1, memory_order_relaxed);
    }
    adb_mutex_unlock(&log->manifest_lock);
}

void log_note_abort(struct log *log, uint64_t gsn)
{
    struct manifest *manifest = &log->locked.manifest;
    struct manifest_verdict *grown;

    adb_mutex_lock(&log->manifest_lock);
    grown = adb_realloc(ADB_MEM_LOG, manifest->verdicts,
                        (manifest->verdict_count + 1) * sizeof *grown);
    if (grown == NULL) {
        log->locked.abort_lost = true;
    } else {
        manifest->verdicts = grown;
        grown[manifest->verdict_count].gsn = gsn;
        grown[manifest->verdict_count++].outcome = FRAME_OUTCOME_ABORT;
        log->locked.changed = true;
    }
    adb_mutex_unlock(&log->manifest_lock);
}

void log_wound(struct log *log, const struct armdb_error *err)
{
    adb_mutex_lock(&log->wound_lock);
    if (!atomic_load_explicit(&log->wounded, memory_order_relaxed)) {
        log->wound_error = *err;
        /* Pairs with the acquire in log_writable(). */
        atomic_store_explicit(&log->wounded, true, memory_order_release);
    }
    adb_mutex_unlock(&log->wound_lock);
    gsn_wound(&log->gsn);
}

enum armdb_rc log_writable(struct log *log, struct armdb_error *err)
{
    if (log->read_only)
        return ADB_FAIL(ARMDB_READONLY, err, "the store is open for reading only");
    if (!atomic_load_explicit(&log->wounded, memory_order_acquire))
        return ARMDB_OK;
    adb_mutex_lock(&log->wound_lock);
    (void)ADB_FAIL(ARMDB_WOUNDED, err,
                   "an earlier write failed (%.300s); the store is read-only until every "
                   "connection has closed and it is opened again",
                   log->wound_error.text);
    adb_mutex_unlock(&log->wound_lock);
    return ARMDB_WOUNDED;
}

/* moment.c - a consistent picture of the log while writers go on.
 *
 *   manifest lock     the manifest is written if it has changed: what it then calls
 *       |             sealed is sealed on the disk, too, and never truncated again
 *   all shard locks   g = the last GSN given, and the length of every segment
 *       |
 *   gsn lock          who is prepared and undecided
 *
 * Inside a shard GSNs rise with the position and are given under its lock: with all
 * shard locks held, the bytes up to the lengths found are exactly the frames with a GSN
 * up to g (and chunks, which count only with their CLOSE). That is a prefix of the
 * commit order. What is undecided gets an abort in the copy's manifest: its outcome is
 * later than this moment, and nobody in the prefix has seen it. The locks are held for
 * as long as it takes to look at each segment; then the shards are synced, and the
 * bytes can be read from the files at leisure: below these lengths they never change. */
#include "engine/log/moment.h"

#include <string.h>

#include "engine/base/mem.h"

static ADB_NOT_SHARED void lock_shards(struct log *log)
{
    adb_mutex_lock(&log->shards[0].lock);
    for (uint32_t i = 1; i < log->shard_count; i++)
        adb_mutex_lock_next(&log->shards[i].lock);
}

static ADB_NOT_SHARED void unlock_shards(struct log *log)
{
    for (uint32_t i = 0; i < log->shard_count; i++)
        adb_mutex_unlock(&log->shards[i].lock);
}

/* Puts down an abort for every transaction that is prepared now. */
static ADB_NOT_SHARED enum armdb_rc note_undecided(struct log *log,
                                                   struct manifest *manifest)
{
    enum armdb_rc rc = ARMDB_OK;
    struct gsn *gsn = &log->gsn;
    size_t count = 0;
    struct manifest_verdict *verdicts;

    adb_mutex_lock(&gsn->lock);
    manifest->watermark = gsn->locked.last;
    for (struct gsn_undecided *u = gsn->locked.undecided_first; u != NULL; u = u->next)
        count++;
    if (count > 0) {
        verdicts = adb_realloc(ADB_MEM_LOG, manifest->verdicts,
                               (manifest->verdict_count + count) * sizeof *verdicts);
        if (verdicts == NULL) {
            rc = ARMDB_NOMEM;
        } else {
            manifest->verdicts = verdicts;
            for (struct gsn_undecided *u = gsn->locked.undecided_first; u != NULL;
                 u = u->next) {
                verdicts[manifest->verdict_count].gsn = u->gsn;
                verdicts[manifest->verdict_count++].outcome = FRAME_OUTCOME_ABORT;
            }
        }
    }
    adb_mutex_unlock(&gsn->lock);
    return rc;
}

/* Notes how far each segment goes; a segment without a frame is left out. All shards
 * and the manifest are locked. */
static void note_lengths(struct log *log, struct log_moment *moment)
{
    struct manifest *manifest = &moment->manifest;
    size_t kept = 0;

    for (size_t i = 0; i < manifest->segment_count; i++) {
        struct manifest_segment listed = manifest->segments[i];
        bool fixed = listed.sealed && !log->read_only;

        if (!listed.sealed) {
            const struct segment *segment =
                segtab_get(&log->segments, log_slot(log->slot_base, listed.number));

            if (segment == NULL || segment->length <= SEGMENT_FIRST_FRAME)
                continue;
            listed.sealed = true;
            listed.length = segment->length;
            listed.gsn_low = segment->gsn_low;
            listed.gsn_high = segment->gsn_high;
        }
        moment->fixed[kept] = fixed;
        manifest->segments[kept++] = listed;
    }
    manifest->segment_count = kept;
}

static ADB_NOT_SHARED enum armdb_rc take_locked(struct log *log,
                                                struct log_moment *moment,
                                                struct armdb_error *err)
{
    enum armdb_rc rc = ARMDB_OK;
    uint64_t next_table = atomic_load_explicit(&log->next_table, memory_order_relaxed);

    if (log->locked.changed && !log->read_only) {
        log->locked.manifest.next_table = next_table;
        rc = manifest_write(log->dir, log->uuid, &log->locked.manifest, err);
        if (rc != ARMDB_OK)
            return rc;
        log->locked.changed = false;
    }
    rc = manifest_copy(&log->locked.manifest, &moment->manifest);
    if (rc == ARMDB_OK)
        moment->fixed = adb_alloc_zero(
            ADB_MEM_LOG, moment->manifest.segment_count * sizeof *moment->fixed + 1);
    if (rc != ARMDB_OK || moment->fixed == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory for a copy of the manifest");
    lock_shards(log);
    /* A table made meanwhile has its id by now. */
    moment->manifest.next_table =
        atomic_load_explicit(&log->next_table, memory_order_relaxed);
    note_lengths(log, moment);
    rc = note_undecided(log, &moment->manifest);
    unlock_shards(log);
    if (rc != ARMDB_OK)
        return ADB_FAIL(rc, err, "out of memory for a copy of the manifest");
    log->locked.moments++;
    return ARMDB_OK;
}

ADB_NOT_SHARED enum armdb_rc log_moment_take(struct log *log, struct log_moment *moment,
                                             struct armdb_error *err)
{
    enum armdb_rc rc = ARMDB_OK;

    memset(moment, 0, sizeof *moment);
    manifest_init(&moment->manifest);
    if (!log->read_only)
        rc = log_writable(log, err);
    if (rc != ARMDB_OK)
        return rc;
    adb_mutex_lock(&log->manifest_lock);
    rc = take_locked(log, moment, err);
    adb_mutex_unlock(&log->manifest_lock);
    if (rc != ARMDB_OK) {
        manifest_fini(&moment->manifest);
        adb_free(ADB_MEM_LOG, moment->fixed);
        return rc;
    }
    rc = log_sync_all(log, err);
    if (rc != ARMDB_OK)
        log_moment_fini(log, moment);
    return rc;
}

ADB_NOT_SHARED void log_moment_fini(struct log *log, struct log_moment *moment)
{
    adb_mutex_lock(&log->manifest_lock);
    log->locked.moments--;
    adb_mutex_unlock(&log->manifest_lock);
    manifest_fini(&moment->manifest);
    adb_free(ADB_MEM_LOG, moment->fixed);
    moment->fixed = NULL;
}

ADB_NOT_SHARED bool log_has_moment(struct log *log)
{
    adb_mutex_assert_held(&log->manifest_lock);
    return log->locked.moments > 0;
}

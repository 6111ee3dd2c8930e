/* hints.c - which hints are written, when, and how they get their names.
 *
 * A thread of its own writes the hint of every sealed segment that has none: of those
 * sealed while the store is open, of a compaction's outputs, and of those that were
 * opened without a hint that could be used. It starts with the first such segment and
 * sleeps while there is none. Closing writes what is lacking, so that the next opening
 * need not read, with all processors, but no more than a second or so may take: a store
 * that came without hints, a restored backup, gets them while it is open. Segments of
 * fewer than hint_bytes_min bytes have none: reading them costs less than looking for a
 * file.
 *
 * Nothing waits for a hint, and a failure is only counted. One order matters:
 *
 *   1. all GSNs of the segment are durable and decided; m := the last GSN given
 *   2. the segment is read, the hint written beside it and synced
 *   3. W covers m, hence every verdict that decided something in 1: what the hint calls
 *      decided can never be undecided again
 *   4. the manifest's lock is held, the segment is listed: the hint gets its name.
 *      Compaction removes names under the same lock, so no hint outlives its segment */
#include "engine/store/hints.h"

#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/plant.h"
#include "engine/store/internal.h"

enum { HELPERS_MAX = 7 };

static const uint64_t retry_ns = UINT64_C(1000000000);
static const uint64_t close_bytes = UINT64_C(1) << 30; /* about a second's */

/* The listed segment of this number. False: there is none, or it is not sealed. */
static bool find_listed(struct armdb *store, uint64_t number,
                        struct manifest_segment *listed)
{
    const struct manifest_segment *found;

    adb_mutex_lock(&store->log.manifest_lock);
    found = manifest_find(&store->log.locked.manifest, number);
    if (found != NULL)
        *listed = *found;
    adb_mutex_unlock(&store->log.manifest_lock);
    return found != NULL && listed->sealed;
}

/* Step 1. */
static bool is_decided(struct armdb *store, const struct manifest_segment *listed)
{
    return listed->gsn_high <= gsn_durable(&store->log.gsn) &&
           listed->gsn_high <= gsn_settled(&store->log.gsn);
}

static bool is_same(const struct manifest_segment *a, const struct manifest_segment *b)
{
    return a->sealed && a->length == b->length && a->gsn_low == b->gsn_low &&
           a->gsn_high == b->gsn_high;
}

/* Step 4; *named as its name says. */
static enum armdb_rc name_hint(struct armdb *store, const struct manifest_segment *listed,
                               struct armdb_error *err)
{
    struct log *log = &store->log;
    const struct manifest_segment *now;
    struct segment *segment;
    enum armdb_rc rc = log_writable(log, err);

    adb_mutex_lock(&log->manifest_lock);
    now = manifest_find(&log->locked.manifest, listed->number);
    if (rc == ARMDB_OK && (now == NULL || !is_same(now, listed)) &&
        !ADB_PLANTED("orphan_hint"))
        rc = ADB_FAIL(ARMDB_BUSY, err, "segment %016llx has gone meanwhile",
                      (unsigned long long)listed->number);
    if (rc == ARMDB_OK)
        rc = hint_install(store->dir, listed->number, err);
    segment = segtab_get(&log->segments, log_slot(log->slot_base, listed->number));
    if (rc == ARMDB_OK && now != NULL && segment != NULL)
        segment->hinted = true;
    adb_mutex_unlock(&log->manifest_lock);
    return rc == ARMDB_OK ? store->io->ops->dir_sync(store->dir, err) : rc;
}

/* Writes the hint of one segment. */
static enum armdb_rc write_one(struct armdb *store, const struct manifest_segment *listed,
                               struct hints_closes *closes, struct armdb_error *err)
{
    uint64_t mark = gsn_last(&store->log.gsn);
    struct hint hint;
    uint64_t end_raw;
    enum armdb_rc rc = hints_make(store, listed, closes, &hint, &end_raw, err);

    if (rc != ARMDB_OK)
        return rc;
    rc = hint_write(store->dir, store->superblock.uuid, listed, end_raw, &hint, err);
    hint_fini(&hint);
    if (rc != ARMDB_OK)
        return rc;
    if (gsn_durable(&store->log.gsn) < mark)
        rc = log_sync_all(&store->log, err);
    if (rc == ARMDB_OK)
        rc = name_hint(store, listed, err);
    if (rc != ARMDB_OK) /* what is left the next opening removes */
        hint_remove(store->dir, listed->number);
    return rc;
}

/* ---- What is lacking --------------------------------------------------------------- */

/* Looks for a sealed segment without a hint; false when there is none. *waiting: there is
 * one that is not decided yet. With `take` nobody else finds it from now on. */
static bool find_lacking(struct armdb *store, bool take, struct manifest_segment *listed,
                         bool *waiting)
{
    struct log *log = &store->log;
    bool found = false;

    *waiting = false;
    adb_mutex_lock(&log->manifest_lock);
    for (size_t i = 0; !found && i < log->locked.manifest.segment_count; i++) {
        struct segment *segment;

        *listed = log->locked.manifest.segments[i];
        segment = segtab_get(&log->segments, log_slot(log->slot_base, listed->number));
        if (!listed->sealed || segment == NULL || segment->hint_done ||
            listed->length < store->options.hint_bytes_min ||
            listed->length > store->hinter.bytes_left)
            continue;
        found = is_decided(store, listed);
        *waiting = *waiting || !found;
        segment->hint_done = found && take;
        if (found && take && store->hinter.bytes_left != UINT64_MAX)
            store->hinter.bytes_left -= listed->length;
    }
    adb_mutex_unlock(&log->manifest_lock);
    return found;
}

/* A segment that was taken is lacking its hint again. */
static void give_back(struct armdb *store, uint64_t number)
{
    struct log *log = &store->log;
    struct segment *segment;

    adb_mutex_lock(&log->manifest_lock);
    segment = segtab_get(&log->segments, log_slot(log->slot_base, number));
    if (segment != NULL && manifest_find(&log->locked.manifest, number) != NULL)
        segment->hint_done = false;
    adb_mutex_unlock(&log->manifest_lock);
}

/* Writes hints while some are lacking. False: one has to wait. Any number of threads. */
static bool work(struct armdb *store)
{
    struct hinter *hinter = &store->hinter;
    struct hints_closes closes = {NULL, 0, 0, NULL, 0};
    struct manifest_segment listed;
    bool waiting = false;

    while (!atomic_load_explicit(&hinter->stopping, memory_order_relaxed) &&
           find_lacking(store, true, &listed, &waiting)) {
        struct armdb_error err;
        enum armdb_rc rc = write_one(store, &listed, &closes, &err);

        if (rc == ARMDB_OK) {
            stat_add(&hinter->written, 1);
        } else if (rc == ARMDB_BUSY) { /* the store closes, or the segment has gone */
            give_back(store, listed.number);
            waiting = true;
            break;
        } else { /* it would fail again */
            stat_add(&hinter->failures, 1);
        }
    }
    hints_closes_fini(&closes);
    return !waiting;
}

/* ---- The background ---------------------------------------------------------------- */

static void run_thread(void *arg)
{
    struct armdb *store = arg;
    struct hinter *hinter = &store->hinter;
    bool waiting = false;

    adb_mutex_lock(&hinter->wake_lock);
    while (!hinter->stop) {
        if (!hinter->wanted && waiting)
            (void)adb_cond_wait_until(&hinter->wake, &hinter->wake_lock,
                                      adb_mono_ns() + retry_ns);
        else if (!hinter->wanted)
            adb_cond_wait(&hinter->wake, &hinter->wake_lock);
        if (hinter->stop)
            break;
        hinter->wanted = false;
        adb_mutex_unlock(&hinter->wake_lock);
        waiting = !work(store);
        adb_mutex_lock(&hinter->wake_lock);
    }
    adb_mutex_unlock(&hinter->wake_lock);
}

static bool may_write(const struct armdb *store)
{
    return !store->read_only && !store->memory &&
           store->options.hint_bytes_min != UINT64_MAX;
}

void hinter_wake(struct armdb *store)
{
    struct hinter *hinter = &store->hinter;
    struct manifest_segment listed;
    bool waiting;

    if (!may_write(store) ||
        atomic_load_explicit(&hinter->stopping, memory_order_relaxed))
        return;
    atomic_store_explicit(
        &hinter->sealed_seen,
        atomic_load_explicit(&store->log.stats.sealed, memory_order_relaxed),
        memory_order_relaxed);
    if (!find_lacking(store, false, &listed, &waiting) && !waiting)
        return;
    adb_mutex_lock(&hinter->wake_lock);
    if (!hinter->running && !hinter->stop &&
        adb_thread_start(&hinter->thread, run_thread, store) == ARMDB_OK)
        hinter->running = true;
    hinter->wanted = true;
    adb_cond_signal(&hinter->wake);
    adb_mutex_unlock(&hinter->wake_lock);
}

enum armdb_rc hinter_init(struct armdb *store)
{
    struct hinter *hinter = &store->hinter;

    atomic_init(&hinter->stopping, true); /* until the store is open */
    hinter->bytes_left = UINT64_MAX;
    hinter->close_bytes = close_bytes;
    if (adb_mutex_init(&hinter->wake_lock, ADB_RANK_LEAF) != ARMDB_OK ||
        adb_cond_init(&hinter->wake) != ARMDB_OK)
        return ARMDB_NOMEM;
    return ARMDB_OK;
}

void hinter_allow(struct armdb *store)
{
    atomic_store_explicit(&store->hinter.stopping, false, memory_order_relaxed);
    hinter_wake(store);
}

void hinter_stop(struct armdb *store)
{
    struct hinter *hinter = &store->hinter;
    bool running;

    atomic_store_explicit(&hinter->stopping, true, memory_order_relaxed);
    adb_mutex_lock(&hinter->wake_lock);
    running = hinter->running;
    hinter->running = false;
    hinter->stop = true;
    adb_cond_signal(&hinter->wake);
    adb_mutex_unlock(&hinter->wake_lock);
    if (running)
        adb_thread_join(&hinter->thread);
}

static void work_once(void *arg)
{
    (void)work(arg);
}

/* Who closes waits for this: all processors help. */
static void work_together(struct armdb *store)
{
    struct adb_thread helpers[HELPERS_MAX];
    struct manifest_segment listed;
    unsigned count = 0;
    bool waiting;

    memset(helpers, 0, sizeof helpers);
    while (count < HELPERS_MAX && count + 1 < adb_cpu_count() &&
           count + 1 < store->log.shard_count &&
           find_lacking(store, false, &listed, &waiting) &&
           adb_thread_start(&helpers[count], work_once, store) == ARMDB_OK)
        count++;
    (void)work(store);
    for (unsigned i = 0; i < count; i++)
        adb_thread_join(&helpers[i]);
}

ADB_NOT_SHARED void hinter_finish(struct armdb *store)
{
    struct log *log = &store->log;
    struct armdb_error err;
    enum armdb_rc rc = ARMDB_OK;

    if (!may_write(store) || log_writable(log, &err) != ARMDB_OK)
        return;
    for (uint32_t i = 0; rc == ARMDB_OK && i < log->shard_count; i++) {
        const struct segment *active = log->shards[i].locked.active;

        if (active != NULL && active->length >= store->options.hint_bytes_min)
            rc = log_seal_active(log, i, &err);
    }
    if (rc != ARMDB_OK)
        return;
    adb_mutex_lock(&log->manifest_lock);
    store->hinter.bytes_left = store->hinter.close_bytes;
    adb_mutex_unlock(&log->manifest_lock);
    atomic_store_explicit(&store->hinter.stopping, false, memory_order_relaxed);
    work_together(store);
    atomic_store_explicit(&store->hinter.stopping, true, memory_order_relaxed);
}

void hinter_fini(struct armdb *store)
{
    adb_cond_fini(&store->hinter.wake);
    adb_mutex_fini(&store->hinter.wake_lock);
}

/* ---- Checking ---------------------------------------------------------------------- */

static bool same_notes(const struct hint *a, const struct hint *b)
{
    if (a->note_count != b->note_count)
        return false;
    for (size_t i = 0; i < a->note_count; i++) {
        const struct hint_note *x = &a->notes[i];
        const struct hint_note *y = &b->notes[i];

        if (x->kind != y->kind || x->outcome != y->outcome || x->offset != y->offset ||
            x->end != y->end || x->gsn != y->gsn || x->txid_edit != y->txid_edit ||
            x->txid_count != y->txid_count || x->arg_a != y->arg_a ||
            x->arg_b != y->arg_b || x->check != y->check ||
            x->void_run_count != y->void_run_count ||
            (x->void_run_count > 0 &&
             memcmp(x->void_runs, y->void_runs,
                    x->void_run_count * 2 * sizeof *x->void_runs) != 0))
            return false;
    }
    return true;
}

static bool same_hints(const struct hint *a, const struct hint *b)
{
    return a->run.entries == b->run.entries && a->run.len == b->run.len &&
           (a->run.len == 0 || memcmp(a->run.bytes, b->run.bytes, a->run.len) == 0) &&
           a->watermark_max == b->watermark_max && a->record_bytes == b->record_bytes &&
           a->record_count == b->record_count && same_notes(a, b);
}

enum armdb_rc hint_check(struct armdb *store, uint64_t segment_number,
                         struct armdb_error *err)
{
    struct hints_closes closes = {NULL, 0, 0, NULL, 0};
    struct manifest_segment listed;
    struct hint said = {.note_count = 0};
    struct hint held = {.note_count = 0};
    uint64_t end_raw;
    enum armdb_rc rc;

    if (!find_listed(store, segment_number, &listed))
        return ADB_FAIL(ARMDB_NOT_FOUND, err, "no sealed segment %016llx",
                        (unsigned long long)segment_number);
    if (!is_decided(store, &listed))
        return ADB_FAIL(ARMDB_BUSY, err, "segment %016llx is not decided yet",
                        (unsigned long long)segment_number);
    rc = hints_make(store, &listed, &closes, &held, &end_raw, err);
    hints_closes_fini(&closes);
    if (rc == ARMDB_OK)
        rc = hint_read(store->dir, store->superblock.uuid, &listed, end_raw, &said, err);
    else if (rc == ARMDB_CORRUPT || rc == ARMDB_VERSION)
        rc = ARMDB_BUSY; /* of the segment, which is not asked about here */
    if (rc == ARMDB_OK && !same_hints(&said, &held))
        rc = ADB_FAIL(ARMDB_CORRUPT, err,
                      "the hint %016llx.hint says another thing than its segment; remove "
                      "it, it will be written anew",
                      (unsigned long long)segment_number);
    hint_fini(&said);
    hint_fini(&held);
    return rc;
}

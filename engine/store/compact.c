/* compact.c - which segments are compacted, when, and how fast.
 *
 * A segment is worth it when the dead share of its records passes compact_at, or when
 * many small ones could be one (each open and close makes some). Candidates get a place
 * in a queue, once each, first in first out; the background takes one at a time, of
 * another shard than the last when there is one, and all small ones together. A call of
 * armdb_compact() seals what is being written and takes everything that has a dead byte,
 * in batches whose live bytes fit into a segment.
 *
 * One compaction at a time in a store (compactor.lock). It takes no lock that a commit
 * waits for, but for the manifest's while that is replaced (a commit that has to begin a
 * new segment waits for it) and one key's partition at a time. A failure gives the
 * compaction up, removes its output and leaves the inputs as they were; the background
 * waits a while before it tries again. */
#include "engine/store/compact.h"

#include <string.h>

#include "engine/base/mem.h"
#include "engine/store/compact_internal.h"

enum { SMALL_MANY = 8, SMALL_PART = 4, PAUSE_MS = 2, ROUNDS_MAX = 8 };
enum { PIECE_BYTES = 256 << 10, BURST_MS = 50, HOLD_BACK_NS_MAX = 10000000 };

static const uint64_t retry_ns = UINT64_C(1000000000);

/* ---- Pace ---- */

static bool is_asked_to_end(const struct compaction *c)
{
    const struct armdb_watch *watch = c->watch;

    /* Relaxed: a wish, nothing is ordered by it. */
    if (atomic_load_explicit(&c->store->compactor.stopping, memory_order_relaxed))
        return true;
    if (watch == NULL)
        return atomic_load_explicit(&c->store->compactor.paused, memory_order_relaxed);
    return watch->interrupted != NULL && watch->interrupted(watch->arg);
}

void compact_sleep(const struct compaction *c)
{
    struct compactor *compactor = &c->store->compactor;

    adb_mutex_lock(&compactor->wake_lock);
    (void)adb_cond_wait_until(&compactor->wake, &compactor->wake_lock,
                              adb_mono_ns() + PAUSE_MS * UINT64_C(1000000));
    adb_mutex_unlock(&compactor->wake_lock);
}

/* The budget is a queue of bytes that are paid one after the other, over all
 * compactions: what was not used can be used later, but no more than BURST_MS of it. */
static void pay(struct compactor *compactor, uint64_t bytes, uint64_t now)
{
    /* Relaxed: a wish, nothing is ordered by it. */
    uint64_t rate = atomic_load_explicit(&compactor->rate, memory_order_relaxed);
    uint64_t oldest = now - BURST_MS * UINT64_C(1000000);

    if (compactor->due_ns < oldest)
        compactor->due_ns = oldest;
    if (rate > 0) /* a piece is far below 2^34 bytes */
        compactor->due_ns += bytes * UINT64_C(1000000000) / rate;
}

enum armdb_rc compact_pace(struct compaction *c, uint64_t bytes)
{
    struct compactor *compactor = &c->store->compactor;
    uint64_t now;

    c->bytes += bytes;
    if (c->bytes - c->paced_bytes < PIECE_BYTES)
        return ARMDB_OK;
    now = adb_mono_ns();
    pay(compactor, c->bytes - c->paced_bytes, now);
    c->paced_bytes = c->bytes;
    while (!is_asked_to_end(c)) {
        if (compactor->due_ns <= now ||
            atomic_load_explicit(&compactor->rate, memory_order_relaxed) == 0)
            return ARMDB_OK;
        compact_sleep(c);
        now = adb_mono_ns();
    }
    return ADB_FAIL(ARMDB_INTERRUPT, c->err, "interrupted");
}

/* A compaction has ended: what its last piece owes, and how fast it was. */
static void end_pace(struct compaction *c)
{
    struct compactor *compactor = &c->store->compactor;
    uint64_t now = adb_mono_ns();
    uint64_t passed_us = (now - c->started_ns) / 1000;

    pay(compactor, c->bytes - c->paced_bytes, now);
    if (passed_us > 0)
        atomic_store_explicit(&compactor->speed,
                              (uint64_t)((double)c->bytes * 1e6 / (double)passed_us),
                              memory_order_relaxed);
}

/* ---- One compaction ---- */

static void release(struct compaction *c)
{
    adb_mutex_lock(&c->store->log.manifest_lock);
    c->store->log.locked.output = 0;
    adb_mutex_unlock(&c->store->log.manifest_lock);
    adb_mutex_lock(&c->store->catalog_lock);
    for (size_t i = 0; i < c->tab_count; i++)
        if (c->tabs[i].tab != NULL) {
            c->tabs[i].tab->handles--;
            c->tabs[i].tab->moving = false;
        }
    adb_mutex_unlock(&c->store->catalog_lock);
    manifest_fini(&c->manifest);
    bump_fini(&c->records);
    adb_free(ADB_MEM_MISC, c->moved);
    adb_free(ADB_MEM_MISC, c->tabs);
    adb_free(ADB_MEM_MISC, c->closes);
    adb_free(ADB_MEM_MISC, c->commits);
}

static void show_compacting(struct segment *const *inputs, size_t count, bool compacting)
{
    for (size_t i = 0; i < count; i++)
        atomic_store_explicit(&inputs[i]->compacting, compacting, memory_order_relaxed);
}

/* C1 to C6 for inputs that are eligible. The lock is held. */
static enum armdb_rc run(struct armdb *store, struct epoch_slot *slot,
                         const struct armdb_watch *watch, struct segment **inputs,
                         size_t count, struct armdb_error *err)
{
    struct compaction c = {.store = store,
                           .slot = slot,
                           .watch = watch,
                           .err = err,
                           .inputs = inputs,
                           .input_count = count,
                           .started_ns = adb_mono_ns()};
    enum armdb_rc rc;

    show_compacting(inputs, count, true);
    manifest_init(&c.manifest);
    adb_mutex_lock(&store->log.manifest_lock);
    rc = manifest_copy(&store->log.locked.manifest, &c.manifest);
    adb_mutex_unlock(&store->log.manifest_lock);
    if (rc != ARMDB_OK)
        rc = ADB_FAIL(rc, err, "out of memory for a compaction");
    if (rc == ARMDB_OK)
        rc = compact_gather(&c);
    if (rc == ARMDB_OK)
        rc = compact_write(&c);
    if (rc == ARMDB_OK)
        rc = compact_install(&c);
    if (rc != ARMDB_OK) {
        compact_discard(&c);
        show_compacting(inputs, count, false); /* else they may be closed by now */
    }
    end_pace(&c);
    stat_add(rc == ARMDB_OK ? &store->compactor.runs : &store->compactor.failures, 1);
    release(&c);
    return rc;
}

/* ---- Picking ---- */

struct candidate {
    struct segment *segment;
    uint64_t live;
    uint64_t dead;
    bool small;
    bool paired; /* goes_with_another(); armdb_compact() alone */
};

struct candidates {
    struct candidate *items; /* owned */
    size_t count;
    size_t small;
    uint64_t sealed_bytes; /* of all sealed segments, candidates or not */
    uint64_t live_bytes;   /* of all segments */
    size_t freed;          /* those whose tombstones may go since the last look */
};

/* What rewriting the segment is worth. One without records holds nothing that is needed.
 * Frames of single rows can be most of a log: an output has few. Gaps before records that
 * do not fit into a page are in both, and never more than the records. */
static void weigh(struct segment *segment, struct candidate *candidate)
{
    uint64_t body = atomic_load_explicit(&segment->body_bytes, memory_order_relaxed);
    uint64_t live = atomic_load_explicit(&segment->live_bytes, memory_order_relaxed);

    if (body == 0 && segment->length > SEGMENT_FIRST_FRAME)
        body = segment->length - SEGMENT_FIRST_FRAME;
    candidate->segment = segment;
    candidate->live = live;
    live += segment->kept_bytes;
    candidate->dead = body > live ? body - live : 0;
    if (segment->header.kind == SEGMENT_LOG &&
        segment->length > SEGMENT_FIRST_FRAME + 2 * body)
        candidate->dead += segment->length - SEGMENT_FIRST_FRAME - 2 * body;
}

/* The segment that blocked its tombstones has changed. Those may go now if only segments
 * that are younger are left, or if it lacked a hint (compact_tombs.c counts how often);
 * else one of the others is the blocker: two outputs that block one another are not
 * rewritten in turn for ever. */
static bool look_again(struct log *log, struct segment *segment)
    ADB_REQUIRES(log->manifest_lock)
{
    struct compaction alone = {.inputs = &segment, .input_count = 1};
    uint64_t blocker;

    if (compact_floor(log, &alone, &blocker) > segment->kept_gsn ||
        segment->blocker_lacks_hint) {
        segment->kept_bytes = 0;
        blocker = 0;
    }
    segment->blocker = blocker;
    segment->blocker_lacks_hint = false;
    return blocker == 0;
}

/* Is the segment that blocked its tombstones gone, or does it have a hint now? */
static bool has_blocker_changed(struct log *log, const struct segment *segment)
    ADB_REQUIRES(log->manifest_lock)
{
    const struct segment *blocker =
        segtab_get(&log->segments, log_slot(log->slot_base, segment->blocker));

    return manifest_find(&log->locked.manifest, segment->blocker) == NULL ||
           (segment->blocker_lacks_hint && blocker != NULL && blocker->hint_done);
}

/* Everything that C1 allows. The lock is held. */
static enum armdb_rc list_eligible(struct armdb *store, struct candidates *list,
                                   struct armdb_error *err)
{
    struct log *log = &store->log;
    uint64_t durable = gsn_durable(&log->gsn);
    uint64_t settled = gsn_settled(&log->gsn);
    enum armdb_rc rc = ARMDB_OK;

    memset(list, 0, sizeof *list);
    adb_mutex_lock(&log->manifest_lock);
    list->items = adb_alloc(ADB_MEM_MISC, (log->locked.manifest.segment_count + 1) *
                                              sizeof *list->items);
    if (list->items == NULL)
        rc = ADB_FAIL(ARMDB_NOMEM, err, "out of memory for a compaction");
    for (size_t i = 0; rc == ARMDB_OK && i < log->locked.manifest.segment_count; i++) {
        const struct manifest_segment *listed = &log->locked.manifest.segments[i];
        struct segment *segment =
            segtab_get(&log->segments, log_slot(log->slot_base, listed->number));
        struct candidate *candidate = &list->items[list->count];

        if (segment == NULL)
            continue;
        list->sealed_bytes += listed->length; /* 0 while it is open */
        list->live_bytes +=
            atomic_load_explicit(&segment->live_bytes, memory_order_relaxed);
        if (!listed->sealed || segment->damaged || listed->gsn_high > durable ||
            listed->gsn_high > settled)
            continue;
        if (segment->blocker != 0 && has_blocker_changed(log, segment))
            list->freed += look_again(log, segment);
        weigh(segment, candidate);
        candidate->small = listed->length < log->segment_size / SMALL_PART;
        list->small += candidate->small;
        list->count++;
    }
    if (log->locked.abort_lost)
        list->count = 0;
    adb_mutex_unlock(&log->manifest_lock);
    return rc;
}

static bool is_worth_it(const struct armdb *store, const struct candidate *candidate)
{
    uint64_t live = candidate->live + candidate->segment->kept_bytes;

    return candidate->dead > 0 &&
           candidate->dead * 100 >=
               atomic_load_explicit(&store->compactor.at, memory_order_relaxed) *
                   (candidate->dead + live);
}

/* Holds commits back, or not any more: while there is work and sealed segments take half
 * as much again as what is live, and two segments. With compact_at=0.3 nothing that keeps
 * up comes to that. */
static void note_behind(struct armdb *store, const struct candidates *list, uint64_t left)
{
    struct compactor *compactor = &store->compactor;
    uint64_t share = atomic_load_explicit(&compactor->at, memory_order_relaxed);
    uint64_t allowed = list->live_bytes + list->live_bytes / 2;
    bool behind;

    if (share > 30) /* less is dead where it is allowed to be more */
        allowed = list->live_bytes * 105 / (100 - share);
    behind = left > 0 && list->sealed_bytes > allowed + 2 * store->log.segment_size;
    if (atomic_exchange_explicit(&compactor->behind, behind, memory_order_relaxed) &&
        !behind) {
        adb_mutex_lock(&compactor->wake_lock);
        adb_cond_broadcast(&compactor->eased);
        adb_mutex_unlock(&compactor->wake_lock);
    }
}

/* Gives newcomers their place, returns the one whose turn it is. */
static struct segment *next_in_queue(struct armdb *store, const struct candidates *list,
                                     uint64_t *left)
{
    struct compactor *compactor = &store->compactor;
    struct segment *first = NULL;
    struct segment *other = NULL;

    *left = 0;
    for (size_t i = 0; i < list->count; i++) {
        struct segment *segment = list->items[i].segment;

        if (!is_worth_it(store, &list->items[i]))
            continue;
        (*left)++;
        if (segment->place == 0)
            segment->place = ++compactor->next_place;
        if (first == NULL || segment->place < first->place)
            first = segment;
        if (segment->header.shard != compactor->last_shard &&
            (other == NULL || segment->place < other->place))
            other = segment;
    }
    return other != NULL ? other : first;
}

/* One step of the background. ARMDB_DONE: nothing to do. The lock is held. */
static enum armdb_rc step(struct armdb *store, struct epoch_slot *slot,
                          struct armdb_error *err)
{
    struct candidates list;
    struct segment **inputs;
    struct segment *chosen;
    size_t count = 0;
    uint64_t left = 0;
    uint64_t live = 0;
    enum armdb_rc rc = list_eligible(store, &list, err);

    if (rc != ARMDB_OK)
        return rc;
    chosen = next_in_queue(store, &list, &left);
    note_behind(store, &list, left);
    inputs = adb_alloc(ADB_MEM_MISC, (list.count + 1) * sizeof *inputs);
    if (inputs == NULL) {
        adb_free(ADB_MEM_MISC, list.items);
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory for a compaction");
    }
    for (size_t i = 0; i < list.count; i++) {
        const struct candidate *candidate = &list.items[i];
        bool with = candidate->segment == chosen ||
                    (candidate->live == 0 && is_worth_it(store, candidate)) ||
                    (list.small >= SMALL_MANY && candidate->small);

        if (!with || (live + candidate->live > store->log.segment_size &&
                      candidate->segment != chosen))
            continue;
        live += candidate->live;
        inputs[count++] = candidate->segment;
    }
    atomic_store_explicit(&store->compactor.segments_left, left, memory_order_relaxed);
    if (count == 0) {
        rc = ARMDB_DONE;
    } else {
        ADB_ASSERT(inputs[0] != NULL);
        store->compactor.last_shard =
            chosen != NULL ? chosen->header.shard : inputs[0]->header.shard;
        rc = run(store, slot, NULL, inputs, count, err);
    }
    adb_free(ADB_MEM_MISC, inputs);
    adb_free(ADB_MEM_MISC, list.items);
    return rc;
}

/* ---- On demand ---- */

/* Everything that may be committed becomes durable, sealed and settled (C2). */
static enum armdb_rc seal_everything(struct armdb *store, struct epoch_slot *slot,
                                     struct armdb_error *err)
{
    enum armdb_rc rc = log_sync_all(&store->log, err);

    for (uint32_t i = 0; rc == ARMDB_OK && i < store->log.shard_count; i++)
        rc = log_seal_active(&store->log, i, err);
    if (rc == ARMDB_OK) {
        store_settle(store, slot);
        newid_reap(store, slot);
    }
    return rc;
}

/* Is this a segment whose tombstones are kept for a small one alone, or that small one?
 * Together they are one output, and the tombstones go; a segment without a hint, as small
 * ones are, would keep them for ever. */
static bool goes_with_another(const struct armdb *store, const struct candidates *list,
                              const struct candidate *candidate)
{
    const struct segment *own = candidate->segment;
    uint64_t small = store->log.segment_size / SMALL_PART;

    for (size_t i = 0; i < list->count; i++) {
        const struct candidate *other = &list->items[i];

        if (own->kept_bytes > 0 && own->blocker == other->segment->header.number &&
            other->live < small)
            return true;
        if (other->segment->kept_bytes > 0 &&
            other->segment->blocker == own->header.number && candidate->live < small)
            return true;
    }
    return false;
}

/* Runs batches over the list until it is used up. */
static enum armdb_rc run_batches(struct armdb *store, struct epoch_slot *slot,
                                 const struct armdb_watch *watch, struct candidates *list,
                                 struct armdb_error *err)
{
    enum armdb_rc rc = ARMDB_OK;
    size_t at = 0;
    struct segment **inputs = adb_alloc(ADB_MEM_MISC, (list->count + 1) * sizeof *inputs);

    if (inputs == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory for a compaction");
    /* Before the first batch: afterwards its segments are gone. */
    for (size_t i = 0; i < list->count; i++)
        list->items[i].paired = goes_with_another(store, list, &list->items[i]);
    while (rc == ARMDB_OK && at < list->count) {
        size_t count = 0;
        uint64_t live = 0;

        for (; at < list->count; at++) {
            const struct candidate *candidate = &list->items[at];

            if (candidate->dead == 0 && (!candidate->small || list->small < 2) &&
                !candidate->paired)
                continue;
            if (count > 0 && live + candidate->live > store->log.segment_size)
                break;
            live += candidate->live;
            inputs[count++] = candidate->segment;
        }
        atomic_store_explicit(&store->compactor.segments_left, list->count - at + count,
                              memory_order_relaxed);
        if (count > 0)
            rc = run(store, slot, watch, inputs, count, err);
        if (rc == ARMDB_CORRUPT || (rc == ARMDB_BUSY && count > 0))
            rc = ARMDB_OK; /* that batch stays as it is */
    }
    atomic_store_explicit(&store->compactor.segments_left, 0, memory_order_relaxed);
    adb_free(ADB_MEM_MISC, inputs);
    return rc;
}

/* Rewrites all there is to rewrite. What one batch removed may have kept tombstones in
 * another's output: those are looked at again. */
static enum armdb_rc compact_all(struct armdb *store, struct epoch_slot *slot,
                                 const struct armdb_watch *watch, struct armdb_error *err)
{
    enum armdb_rc rc = ARMDB_OK;
    bool more = true;

    for (int round = 0; rc == ARMDB_OK && more && round < ROUNDS_MAX; round++) {
        struct candidates list;

        rc = list_eligible(store, &list, err);
        more = rc == ARMDB_OK && (round < 2 || list.freed > 0);
        if (more)
            rc = run_batches(store, slot, watch, &list, err);
        adb_free(ADB_MEM_MISC, list.items);
    }
    return rc;
}

/* Bytes and number of the listed segments. */
static void measure(struct armdb *store, uint64_t *segments, uint64_t *bytes)
{
    const struct manifest *manifest = &store->log.locked.manifest;

    *bytes = 0;
    adb_mutex_lock(&store->log.manifest_lock);
    *segments = manifest->segment_count;
    for (size_t i = 0; i < manifest->segment_count; i++)
        *bytes += manifest->segments[i].length;
    adb_mutex_unlock(&store->log.manifest_lock);
}

enum armdb_rc armdb_compact(struct armdb *store, const struct armdb_watch *watch,
                            struct armdb_compact_info *info, struct armdb_error *err)
{
    static const struct armdb_watch never = {NULL, NULL};
    struct epoch_slot *slot = NULL;
    uint64_t moved;
    enum armdb_rc rc;

    memset(info, 0, sizeof *info);
    if (atomic_load_explicit(&store->foreign, memory_order_relaxed))
        return ADB_FAIL(ARMDB_FORKED, err, "this process is a fork of the store's own");
    rc = log_writable(&store->log, err);
    if (rc != ARMDB_OK)
        return rc;
    if (epoch_slot_create(store->epoch, &slot) != ARMDB_OK)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory for a compaction");
    adb_mutex_lock(&store->compactor.lock);
    moved = atomic_load_explicit(&store->compactor.bytes_moved, memory_order_relaxed);
    rc = seal_everything(store, slot, err);
    measure(store, &info->segments_before, &info->bytes_before);
    if (rc == ARMDB_OK)
        rc = compact_all(store, slot, watch != NULL ? watch : &never, err);
    compact_bury(store);
    measure(store, &info->segments_after, &info->bytes_after);
    info->bytes_moved =
        atomic_load_explicit(&store->compactor.bytes_moved, memory_order_relaxed) - moved;
    adb_mutex_unlock(&store->compactor.lock);
    epoch_slot_destroy(slot);
    return rc;
}

void armdb_compact_pause(struct armdb *store, bool paused)
{
    atomic_store_explicit(&store->compactor.paused, paused, memory_order_relaxed);
    if (paused)
        atomic_store_explicit(&store->compactor.behind, false, memory_order_relaxed);
    else
        compactor_wake(store);
}

void armdb_compact_rate(struct armdb *store, uint64_t bytes_per_second)
{
    atomic_store_explicit(&store->compactor.rate, bytes_per_second, memory_order_relaxed);
}

void armdb_compact_at(struct armdb *store, uint32_t percent)
{
    ADB_ASSERT(percent >= 1 && percent <= 99);
    atomic_store_explicit(&store->compactor.at, percent, memory_order_relaxed);
    compactor_wake(store);
}

/* ---- The background ---- */

/* Compacts while there is something to do. False after a failure. */
static bool work(struct armdb *store, struct epoch_slot *slot)
{
    struct compactor *compactor = &store->compactor;
    enum armdb_rc rc = ARMDB_OK;

    while (rc == ARMDB_OK &&
           !atomic_load_explicit(&compactor->stopping, memory_order_relaxed) &&
           !atomic_load_explicit(&compactor->paused, memory_order_relaxed)) {
        struct armdb_error err;

        adb_mutex_lock(&compactor->lock);
        rc = log_writable(&store->log, &err);
        if (rc == ARMDB_OK)
            rc = step(store, slot, &err);
        compact_bury(store);
        adb_mutex_unlock(&compactor->lock);
    }
    if (rc != ARMDB_OK) /* nothing to do, or it cannot be done: nothing to wait for */
        atomic_store_explicit(&compactor->behind, false, memory_order_relaxed);
    return rc == ARMDB_OK || rc == ARMDB_DONE;
}

void compactor_hold_back(struct armdb *store, uint64_t bytes)
{
    struct compactor *compactor = &store->compactor;
    uint64_t speed;
    uint64_t wait_ns = HOLD_BACK_NS_MAX;
    uint64_t until;

    if (!atomic_load_explicit(&compactor->behind, memory_order_relaxed))
        return;
    /* About as long as the background needs to give back what was added: of what it
     * reads and writes a quarter comes free. */
    speed = atomic_load_explicit(&compactor->speed, memory_order_relaxed);
    if (speed > 0 && (double)bytes * 4e9 / (double)speed < (double)HOLD_BACK_NS_MAX)
        wait_ns = (uint64_t)((double)bytes * 4e9 / (double)speed);
    stat_add(&compactor->delays, 1);
    until = adb_mono_ns() + wait_ns;
    adb_mutex_lock(&compactor->wake_lock);
    while (atomic_load_explicit(&compactor->behind, memory_order_relaxed) &&
           adb_cond_wait_until(&compactor->eased, &compactor->wake_lock, until))
        continue; /* others wake the same condition */
    adb_mutex_unlock(&compactor->wake_lock);
}

static void run_thread(void *arg)
{
    struct armdb *store = arg;
    struct compactor *compactor = &store->compactor;
    struct epoch_slot *slot = NULL;
    bool has_slot = epoch_slot_create(store->epoch, &slot) == ARMDB_OK;

    adb_mutex_lock(&compactor->wake_lock);
    while (!compactor->stop && has_slot) {
        if (!compactor->wanted)
            (void)adb_cond_wait_until(&compactor->wake, &compactor->wake_lock,
                                      adb_mono_ns() + retry_ns);
        compactor->wanted = false;
        if (compactor->stop)
            break;
        adb_mutex_unlock(&compactor->wake_lock);
        if (!work(store, slot)) {
            adb_mutex_lock(&compactor->wake_lock);
            compactor->wanted = false; /* not at once again */
        } else {
            adb_mutex_lock(&compactor->wake_lock);
        }
    }
    adb_mutex_unlock(&compactor->wake_lock);
    if (slot != NULL)
        epoch_slot_destroy(slot);
}

void compactor_wake(struct armdb *store)
{
    struct compactor *compactor = &store->compactor;

    if (store->read_only ||
        atomic_load_explicit(&compactor->stopping, memory_order_relaxed) ||
        atomic_load_explicit(&compactor->paused, memory_order_relaxed))
        return;
    atomic_store_explicit(
        &compactor->sealed_seen,
        atomic_load_explicit(&store->log.stats.sealed, memory_order_relaxed),
        memory_order_relaxed);
    adb_mutex_lock(&compactor->wake_lock);
    if (!compactor->running && !compactor->stop &&
        adb_thread_start(&compactor->thread, run_thread, store) == ARMDB_OK)
        compactor->running = true;
    compactor->wanted = true;
    adb_cond_signal(&compactor->wake);
    adb_mutex_unlock(&compactor->wake_lock);
}

enum armdb_rc compactor_init(struct armdb *store)
{
    struct compactor *compactor = &store->compactor;

    atomic_init(&compactor->stopping, true); /* until the store is open */
    atomic_init(&compactor->paused, store->options.compact_off);
    atomic_init(&compactor->at, store->options.compact_at);
    atomic_init(&compactor->rate, store->options.compact_rate);
    if (adb_mutex_init(&compactor->lock, ADB_RANK_COMPACT) != ARMDB_OK ||
        adb_mutex_init(&compactor->wake_lock, ADB_RANK_LEAF) != ARMDB_OK ||
        adb_cond_init(&compactor->wake) != ARMDB_OK ||
        adb_cond_init(&compactor->eased) != ARMDB_OK)
        return ARMDB_NOMEM;
    return ARMDB_OK;
}

void compactor_allow(struct armdb *store)
{
    atomic_store_explicit(&store->compactor.stopping, false, memory_order_relaxed);
}

void compactor_stop(struct armdb *store)
{
    struct compactor *compactor = &store->compactor;
    bool running;

    atomic_store_explicit(&compactor->stopping, true, memory_order_relaxed);
    atomic_store_explicit(&compactor->behind, false, memory_order_relaxed);
    adb_mutex_lock(&compactor->wake_lock);
    running = compactor->running;
    compactor->running = false;
    compactor->stop = true;
    adb_cond_signal(&compactor->wake);
    adb_mutex_unlock(&compactor->wake_lock);
    if (running)
        adb_thread_join(&compactor->thread);
}

void compactor_fini(struct armdb *store)
{
    struct compactor *compactor = &store->compactor;

    while (compactor->graves != NULL) {
        struct compact_grave *grave = compactor->graves;
        struct armdb_error ignored; /* the next opening removes what is left */

        compactor->graves = grave->next;
        if (grave->named) {
            (void)store->io->ops->dir_unlink(store->dir, grave->segment->name, &ignored);
            hint_remove(store->dir, grave->segment->header.number);
        }
        adb_free(ADB_MEM_MISC, grave); /* the segment is closed with the table */
    }
    adb_cond_fini(&compactor->wake);
    adb_cond_fini(&compactor->eased);
    adb_mutex_fini(&compactor->wake_lock);
    adb_mutex_fini(&compactor->lock);
}

/* segments.c - what every segment holds, for who wants to see where the space goes.
 *
 * The manifest in memory says which segments the store is made of. Others may be in the
 * table of slots as well: those that a compaction has replaced and that somebody still
 * reads. New ones come into both under the manifest's lock, so under it a segment that is
 * in the table and not in the manifest is one that goes; and inside an epoch none of them
 * is freed. What is found is copied, and shown when no lock is held any more. */
#include <string.h>

#include "engine/base/mem.h"
#include "engine/store/internal.h"

struct found {
    struct armdb_segment *items;     /* owned; names are filled in last */
    char (*names)[SEGMENT_NAME_MAX]; /* owned */
    size_t count;
    size_t capacity;
};

static uint64_t get(_Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static enum armdb_segment_state state_of(struct log *log, struct segment *segment)
    ADB_REQUIRES(log->manifest_lock)
{
    bool sealed;
    const struct manifest_segment *listed =
        manifest_find(&log->locked.manifest, segment->header.number);

    if (listed == NULL)
        return ARMDB_SEGMENT_RETIRED;
    sealed = listed->sealed || segment->sealed;
    if (!sealed)
        return ARMDB_SEGMENT_ACTIVE;
    return atomic_load_explicit(&segment->compacting, memory_order_relaxed)
               ? ARMDB_SEGMENT_COMPACTING
               : ARMDB_SEGMENT_SEALED;
}

static void measure_age(const struct segment *segment, struct armdb_segment *out)
{
    int64_t now = (int64_t)adb_mono_coarse_ns();
    int64_t then = atomic_load_explicit(&segment->written_ns, memory_order_relaxed);

    out->age_ms = now > then ? (uint64_t)(now - then) / 1000000 : 0;
}

static void fill_in(struct log *log, struct segment *segment, struct armdb_segment *out)
    ADB_REQUIRES(log->manifest_lock)
{
    struct shard *shard = &log->shards[segment->header.shard];
    struct armdb_error ignored;
    uint64_t bytes;

    memset(out, 0, sizeof *out);
    out->number = segment->header.number;
    out->shard = segment->header.shard;
    out->compacted = segment->header.kind == SEGMENT_OUTPUT;
    out->records = get(&segment->records);
    out->has_hint = segment->hinted;
    /* First: a record is counted in the length before it is counted as live. Pairs with
     * the release in account_writes(). */
    out->live_bytes = atomic_load_explicit(&segment->live_bytes, memory_order_acquire);
    adb_mutex_lock(&shard->lock);
    out->state = state_of(log, segment);
    out->length = segment->length;
    out->gsn_low = segment->gsn_low;
    out->gsn_high = segment->gsn_high;
    bytes = get(&segment->body_bytes);
    adb_mutex_unlock(&shard->lock);
    out->dead_bytes = bytes > out->live_bytes ? bytes - out->live_bytes : 0;
    if (segment->file->io->ops->file_size(segment->file, &out->file_bytes, &ignored) !=
        ARMDB_OK)
        out->file_bytes = out->length;
    measure_age(segment, out);
}

/* Room for one more; NULL: no memory. */
static struct armdb_segment *push(struct found *all)
{
    size_t capacity = all->capacity * 2 + 64;
    struct armdb_segment *items;
    char(*names)[SEGMENT_NAME_MAX];

    if (all->count < all->capacity)
        return &all->items[all->count];
    items = adb_realloc(ADB_MEM_MISC, all->items, capacity * sizeof *items);
    if (items == NULL)
        return NULL;
    all->items = items;
    names = adb_realloc(ADB_MEM_MISC, all->names, capacity * sizeof *names);
    if (names == NULL)
        return NULL;
    all->names = names;
    all->capacity = capacity;
    return &all->items[all->count];
}

static enum armdb_rc gather(struct log *log, struct found *all)
    ADB_REQUIRES(log->manifest_lock)
{
    uint32_t end = log_slot(log->slot_base, log->locked.manifest.next_segment);

    for (uint32_t slot = 1; slot < end; slot++) {
        struct segment *segment = segtab_get(&log->segments, slot);
        struct armdb_segment *out;

        if (segment == NULL)
            continue;
        out = push(all);
        if (out == NULL)
            return ARMDB_NOMEM;
        fill_in(log, segment, out);
        memcpy(all->names[all->count++], segment->name, SEGMENT_NAME_MAX);
    }
    return ARMDB_OK;
}

enum armdb_rc armdb_segment_each(struct armdb *store,
                                 void (*visit)(void *arg,
                                               const struct armdb_segment *segment),
                                 void *arg, struct armdb_error *err)
{
    struct found all = {NULL, NULL, 0, 0};
    struct epoch_slot *slot = NULL;
    struct log *log = &store->log;
    enum armdb_rc rc;

    if (atomic_load_explicit(&store->foreign, memory_order_acquire))
        return ADB_FAIL(ARMDB_FORKED, err, "the store %s was opened before fork()",
                        store->path);
    rc = epoch_slot_create(store->epoch, &slot);
    if (rc == ARMDB_OK) {
        adb_mutex_lock(&log->manifest_lock);
        epoch_enter(slot); /* behind the lock: nobody waits inside an epoch for I/O */
        rc = gather(log, &all);
        epoch_leave(slot);
        adb_mutex_unlock(&log->manifest_lock);
        epoch_slot_destroy(slot);
    }
    if (rc != ARMDB_OK)
        (void)ADB_FAIL(rc, err, "out of memory looking at the segments");
    for (size_t i = 0; rc == ARMDB_OK && i < all.count; i++) {
        all.items[i].name = all.names[i];
        visit(arg, &all.items[i]);
    }
    adb_free(ADB_MEM_MISC, all.items);
    adb_free(ADB_MEM_MISC, all.names);
    return rc;
}

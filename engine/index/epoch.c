/* epoch.c - safe memory reclamation for lock-free readers.
 *
 *   reader   enter: slot.at := current        (one exchange on a line of its own)
 *            ... follows pointers ...
 *            leave: slot.at := 0
 *   writer   unlinks a block, then retires it; the block notes `current`
 *   anyone   if every slot is 0 or `current`: current += 1
 *            what was retired at e is freed once current >= e + 2
 *
 * Why this is enough. Let X be retired at e. Retiring and advancing take the lock, so
 * the unlinking of X happens before current becomes e + 1, and that before the scan of
 * the slots that lets current become e + 2. For each slot this scan does a
 * read-modify-write, and so does enter, so the two are ordered:
 *  - enter comes later: it reads what the scan (or something after it) wrote, an
 *    acquire that pairs with the scan's release, and so the reader sees X unlinked;
 *  - enter comes first: the scan sees it. If the slot held e + 1, the reader had read
 *    current = e + 1, stored after X was unlinked, and never saw X. Any other value
 *    but 0 stops the advance. 0 means that the reader has left, and the scan's acquire
 *    pairs with the release in leave.
 * No fence is needed and ThreadSanitizer can follow every step.
 *
 * Retired things wait in two queues, in the order of their epochs: items, linked
 * through themselves, and blocks of handles. One thread at a time collects: it takes
 * what is due from the heads under the lock and frees it without. Every SCAN_EVERY-th
 * retirement tries to advance, so retiring costs O(1) amortized, and a batch has an
 * upper bound, so that no single call pays for a reader who stayed long. */
#include "engine/index/epoch.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "engine/base/mem.h"
#include "engine/base/thread.h"

enum {
    LINE_BYTES = 64,
    SCAN_EVERY = 64,       /* retirements between two tries to advance */
    BATCH_ITEMS = 256,     /* items freed by one try at most */
    BATCH_BLOCKS = 4,      /* and blocks of handles */
    BLOCK_HANDLES = 168,   /* a block takes 4 KiB */
    DRAIN_WAIT_NS = 100000 /* how long a drain sleeps between two tries */
};

struct epoch_slot {
    /* 0 = outside, else the epoch read at enter. Written by the slot's session;
     * collectors only add 0 to it. */
    _Alignas(LINE_BYTES) _Atomic uint64_t at;
    struct epoch *epoch;     /* borrowed */
    struct epoch_slot *next; /* guarded by the epoch's lock */
};

struct retired_handle {
    uint64_t handle;
    void (*free_handle)(void *context, uint64_t handle);
    void *context;
};

struct handle_block {
    struct handle_block *next;
    uint64_t at; /* epoch of the youngest handle */
    uint64_t count;
    struct retired_handle handles[BLOCK_HANDLES];
};

struct epoch {
    _Alignas(LINE_BYTES) _Atomic uint64_t current; /* >= 1; changed under the lock */
    _Alignas(LINE_BYTES) struct adb_mutex lock;    /* ADB_RANK_EPOCH */
    struct adb_cond freed;                         /* a batch has been freed */
    struct {
        struct epoch_slot *slots;
        struct epoch_item *first_item; /* oldest; NULL = none */
        struct epoch_item *last_item;
        struct handle_block *first_block;
        struct handle_block *last_block; /* the one being filled */
        struct handle_block *spare;      /* so that a lack of memory hits late; or NULL */
        uint64_t items_retired;
        uint64_t items_freed;
        uint64_t handles_retired;
        uint64_t handles_freed;
        uint32_t since_scan;
        bool collecting; /* a thread is freeing a batch */
    } locked ADB_GUARDED;
    _Atomic uint64_t pending; /* statistic: relaxed */
};

/* What a collector took out of the queues. */
struct batch {
    struct epoch_item *items;
    struct handle_block *blocks;
    uint64_t item_count;
    uint64_t handle_count;
};

enum armdb_rc epoch_create(struct epoch **out)
{
    enum armdb_rc rc = ARMDB_NOMEM;
    struct epoch *epoch;

    *out = NULL;
    epoch = adb_alloc_aligned(ADB_MEM_MISC, sizeof *epoch, LINE_BYTES);
    if (epoch == NULL)
        goto out;
    *epoch = (struct epoch){0};
    atomic_init(&epoch->current, 1);
    rc = adb_mutex_init(&epoch->lock, ADB_RANK_EPOCH);
    if (rc != ARMDB_OK)
        goto out;
    rc = adb_cond_init(&epoch->freed);
    if (rc != ARMDB_OK) {
        adb_mutex_fini(&epoch->lock);
        goto out;
    }
    *out = epoch;
    epoch = NULL;
out:
    adb_free_aligned(ADB_MEM_MISC, epoch);
    return rc;
}

/* Calls the free functions; no lock of this module is held. */
static void free_batch(struct batch *batch)
{
    while (batch->items != NULL) {
        struct epoch_item *item = batch->items;

        batch->items = item->next;
        item->free_item(item->context, item);
    }
    while (batch->blocks != NULL) {
        struct handle_block *block = batch->blocks;

        batch->blocks = block->next;
        for (uint64_t i = 0; i < block->count; i++) {
            struct retired_handle *retired = &block->handles[i];

            retired->free_handle(retired->context, retired->handle);
        }
        adb_free(ADB_MEM_MISC, block);
    }
}

ADB_NOT_SHARED void epoch_destroy(struct epoch *epoch)
{
    if (epoch == NULL)
        return;
    ADB_ASSERT(epoch->locked.slots == NULL);
    /* A free function may retire more, hence the loop. */
    while (epoch->locked.first_item != NULL || epoch->locked.first_block != NULL) {
        struct batch batch = {.items = epoch->locked.first_item,
                              .blocks = epoch->locked.first_block};

        epoch->locked.first_item = NULL;
        epoch->locked.last_item = NULL;
        epoch->locked.first_block = NULL;
        epoch->locked.last_block = NULL;
        epoch->locked.collecting = true;
        free_batch(&batch);
    }
    adb_free(ADB_MEM_MISC, epoch->locked.spare);
    adb_cond_fini(&epoch->freed);
    adb_mutex_fini(&epoch->lock);
    adb_free_aligned(ADB_MEM_MISC, epoch);
}

enum armdb_rc epoch_slot_create(struct epoch *epoch, struct epoch_slot **out)
{
    struct epoch_slot *slot;

    slot = adb_alloc_aligned(ADB_MEM_MISC, sizeof *slot, LINE_BYTES);
    *out = slot;
    if (slot == NULL)
        return ARMDB_NOMEM;
    atomic_init(&slot->at, 0);
    slot->epoch = epoch;
    adb_mutex_lock(&epoch->lock);
    slot->next = epoch->locked.slots;
    epoch->locked.slots = slot;
    adb_mutex_unlock(&epoch->lock);
    return ARMDB_OK;
}

void epoch_slot_destroy(struct epoch_slot *slot)
{
    struct epoch *epoch;
    struct epoch_slot **link;

    if (slot == NULL)
        return;
    ADB_ASSERT(atomic_load_explicit(&slot->at, memory_order_relaxed) == 0);
    epoch = slot->epoch;
    adb_mutex_lock(&epoch->lock);
    link = &epoch->locked.slots;
    while (*link != slot)
        link = &(*link)->next;
    *link = slot->next;
    adb_mutex_unlock(&epoch->lock);
    adb_free_aligned(ADB_MEM_MISC, slot);
}

void epoch_enter(struct epoch_slot *slot)
{
    /* Acquire pairs with the release in try_advance: see the essay. */
    uint64_t current = atomic_load_explicit(&slot->epoch->current, memory_order_acquire);
    uint64_t before;

    /* Acquire and release pair with the scan in try_advance. */
    before = atomic_exchange_explicit(&slot->at, current, memory_order_acq_rel);
    ADB_ASSERT(before == 0);
    (void)before;
}

void epoch_leave(struct epoch_slot *slot)
{
    ADB_ASSERT(atomic_load_explicit(&slot->at, memory_order_relaxed) != 0);
    /* Pairs with the scan in try_advance: all reads of this reader come before the
     * freeing of anything. */
    atomic_store_explicit(&slot->at, 0, memory_order_release);
}

/* Moves the epoch on by one unless a reader is still inside an older one. */
static bool try_advance(struct epoch *epoch) ADB_REQUIRES(epoch->lock)
{
    uint64_t current = atomic_load_explicit(&epoch->current, memory_order_relaxed);

    for (struct epoch_slot *slot = epoch->locked.slots; slot != NULL; slot = slot->next) {
        /* A read-modify-write, not a load: pairs with epoch_enter both ways. */
        uint64_t at = atomic_fetch_add_explicit(&slot->at, 0, memory_order_acq_rel);

        if (at != 0 && at != current)
            return false;
    }
    /* Pairs with the acquire load in epoch_enter. */
    atomic_store_explicit(&epoch->current, current + 1, memory_order_release);
    return true;
}

/* Takes what is due from the heads of both queues, with an upper bound. */
static bool take_batch(struct epoch *epoch, struct batch *batch) ADB_REQUIRES(epoch->lock)
{
    uint64_t current = atomic_load_explicit(&epoch->current, memory_order_relaxed);
    struct epoch_item **item_end = &batch->items;
    struct handle_block **block_end = &batch->blocks;
    size_t blocks = 0;

    *batch = (struct batch){0};
    while (epoch->locked.first_item != NULL && batch->item_count < BATCH_ITEMS &&
           epoch->locked.first_item->at + 2 <= current) {
        struct epoch_item *item = epoch->locked.first_item;

        *item_end = item;
        item_end = &item->next;
        epoch->locked.first_item = item->next;
        batch->item_count++;
    }
    *item_end = NULL;
    if (epoch->locked.first_item == NULL)
        epoch->locked.last_item = NULL;
    while (epoch->locked.first_block != NULL && blocks < BATCH_BLOCKS &&
           epoch->locked.first_block->at + 2 <= current) {
        struct handle_block *block = epoch->locked.first_block;

        *block_end = block;
        block_end = &block->next;
        epoch->locked.first_block = block->next;
        batch->handle_count += block->count;
        blocks++;
    }
    *block_end = NULL;
    if (epoch->locked.first_block == NULL)
        epoch->locked.last_block = NULL;
    return batch->item_count != 0 || batch->handle_count != 0;
}

/* Frees a batch that take_batch gave; the lock is let go meanwhile. `collecting`
 * keeps others, and free functions that retire more, from taking the next one: what
 * is freed is always a head of each queue, which epoch_drain relies on. */
static void free_taken(struct epoch *epoch, struct batch *batch) ADB_REQUIRES(epoch->lock)
{
    epoch->locked.collecting = true;
    adb_mutex_unlock(&epoch->lock);
    free_batch(batch);
    (void)atomic_fetch_sub_explicit(
        &epoch->pending, batch->item_count + batch->handle_count, memory_order_relaxed);
    adb_mutex_lock(&epoch->lock);
    epoch->locked.collecting = false;
    epoch->locked.items_freed += batch->item_count;
    epoch->locked.handles_freed += batch->handle_count;
    adb_cond_broadcast(&epoch->freed);
}

/* Called at each retirement: now and then advances and frees one batch. */
static void collect_sometimes(struct epoch *epoch) ADB_REQUIRES(epoch->lock)
{
    struct batch batch;

    if (++epoch->locked.since_scan < SCAN_EVERY || epoch->locked.collecting)
        return;
    epoch->locked.since_scan = 0;
    (void)try_advance(epoch);
    if (take_batch(epoch, &batch))
        free_taken(epoch, &batch);
}

void epoch_retire(struct epoch *epoch, struct epoch_item *item,
                  void (*free_item)(void *context, struct epoch_item *item),
                  void *context)
{
    item->next = NULL;
    item->free_item = free_item;
    item->context = context;
    (void)atomic_fetch_add_explicit(&epoch->pending, 1, memory_order_relaxed);
    adb_mutex_lock(&epoch->lock);
    item->at = atomic_load_explicit(&epoch->current, memory_order_relaxed);
    if (epoch->locked.last_item == NULL)
        epoch->locked.first_item = item;
    else
        epoch->locked.last_item->next = item;
    epoch->locked.last_item = item;
    epoch->locked.items_retired++;
    collect_sometimes(epoch);
    adb_mutex_unlock(&epoch->lock);
}

/* The block to put the next handle into; NULL when no memory can be had. */
static struct handle_block *open_block(struct epoch *epoch) ADB_REQUIRES(epoch->lock)
{
    struct handle_block *block = epoch->locked.last_block;

    if (block != NULL && block->count < BLOCK_HANDLES)
        return block;
    block = adb_alloc(ADB_MEM_MISC, sizeof *block);
    if (block == NULL) {
        block = epoch->locked.spare;
        epoch->locked.spare = NULL;
    } else if (epoch->locked.spare == NULL) {
        epoch->locked.spare = adb_alloc(ADB_MEM_MISC, sizeof *block);
    }
    if (block == NULL)
        return NULL;
    block->next = NULL;
    block->count = 0;
    if (epoch->locked.last_block == NULL)
        epoch->locked.first_block = block;
    else
        epoch->locked.last_block->next = block;
    epoch->locked.last_block = block;
    return block;
}

void epoch_retire_handle(struct epoch *epoch, uint64_t handle,
                         void (*free_handle)(void *context, uint64_t handle),
                         void *context)
{
    struct handle_block *block;

    adb_mutex_lock(&epoch->lock);
    block = open_block(epoch);
    /* Without a block the handle is given up: see the header. */
    if (block != NULL) {
        (void)atomic_fetch_add_explicit(&epoch->pending, 1, memory_order_relaxed);
        block->handles[block->count].handle = handle;
        block->handles[block->count].free_handle = free_handle;
        block->handles[block->count].context = context;
        block->count++;
        block->at = atomic_load_explicit(&epoch->current, memory_order_relaxed);
        epoch->locked.handles_retired++;
    }
    collect_sometimes(epoch);
    adb_mutex_unlock(&epoch->lock);
}

void epoch_collect(struct epoch *epoch)
{
    struct batch batch;

    if (atomic_load_explicit(&epoch->pending, memory_order_relaxed) == 0)
        return;
    if (!adb_mutex_trylock(&epoch->lock))
        return; /* somebody retires or collects: that is as good */
    if (!epoch->locked.collecting) {
        /* Two steps make due what was retired just before, if nobody is inside. */
        epoch->locked.since_scan = 0;
        if (try_advance(epoch))
            (void)try_advance(epoch);
        while (!epoch->locked.collecting && take_batch(epoch, &batch))
            free_taken(epoch, &batch);
    }
    adb_mutex_unlock(&epoch->lock);
}

void epoch_drain(struct epoch *epoch)
{
    struct batch batch;
    uint64_t items;
    uint64_t handles;

    adb_mutex_lock(&epoch->lock);
    items = epoch->locked.items_retired;
    handles = epoch->locked.handles_retired;
    while (epoch->locked.items_freed < items || epoch->locked.handles_freed < handles) {
        if (!epoch->locked.collecting) {
            if (try_advance(epoch))
                (void)try_advance(epoch);
            if (take_batch(epoch, &batch)) {
                free_taken(epoch, &batch);
                continue;
            }
        }
        (void)adb_cond_wait_until(&epoch->freed, &epoch->lock,
                                  adb_mono_ns() + DRAIN_WAIT_NS);
    }
    adb_mutex_unlock(&epoch->lock);
}

uint64_t epoch_pending(struct epoch *epoch)
{
    return atomic_load_explicit(&epoch->pending, memory_order_relaxed);
}

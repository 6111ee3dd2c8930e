/* cache.c - the buffer manager: life, pins, statistics.
 *
 * Picture.
 *
 *   cache_file            directory         extent            memory (4 MiB)
 *   leaves[page / 4096]   at[slot] -------> frames[index]     [head|page|page|...]
 *     ids[page % 4096] --^            ^       state  file        |
 *       = slot, index                 |       page   touch       |
 *                                     +--------------------------+ head -> extent
 *
 * Pin. From page number to frame is one chain of loads without a lock; then one
 * compare-and-swap adds a pin to the frame's state, which fails unless the frame
 * holds a page; and then the frame's name (file, page number), which cannot change
 * under a pin, is compared with what was looked for. A reader that came with an old
 * entry thus either finds a frame without a page or pins another page for a
 * moment and lets it go. It may look at a frame whose memory has gone: headers
 * lie apart from the pages and stay until the cache goes.
 *
 * Unpin. From the address to the extent's head, to the frame, one subtraction.
 * Only the last pin of a page that has left its table (DETACHED) does more: it
 * gives the frame back and, after cache_destroy(), the last of all frees the cache.
 *
 * The lock guards everything that changes slowly: free frames, the queues of
 * eviction, page table entries, large values. It is held for some hundred
 * nanoseconds, never during I/O or a caller's function. Hits do not take it.
 *
 * What this does not do: it verifies nothing itself (readers do, once for each
 * granule, and say so), writes nothing, and orders nothing between readers and
 * the appender of a dirty page: records are published elsewhere. */
#include "engine/io/cache_internal.h"

#include <string.h>

#include "engine/base/mem.h"

enum {
    EXTENTS_WANTED = 16, /* a smaller budget gets smaller extents, not fewer */
    EPOCH_SHARE = 128,   /* an epoch lasts for this part of the frames ... */
    EPOCH_LOADS_MIN = 2,
    EPOCH_LOADS_MAX = 32 /* ... within these bounds */
};

/* ---- Life --------------------------------------------------------------------- */

static uint32_t choose_extent_bytes(uint64_t budget_bytes)
{
    uint32_t bytes = CACHE_ALIGN_BYTES;

    while (bytes > CACHE_EXTENT_BYTES_MIN && budget_bytes / bytes < EXTENTS_WANTED)
        bytes /= 2;
    return bytes;
}

static uint32_t choose_epoch_loads(uint64_t budget_bytes)
{
    uint64_t loads = budget_bytes / CACHE_PAGE_BYTES / EPOCH_SHARE;

    if (loads < EPOCH_LOADS_MIN)
        loads = EPOCH_LOADS_MIN;
    return loads > EPOCH_LOADS_MAX ? EPOCH_LOADS_MAX : (uint32_t)loads;
}

ADB_NOT_SHARED enum armdb_rc cache_create(uint64_t budget_bytes, struct cache **out)
{
    struct cache *cache = adb_alloc_aligned(ADB_MEM_CACHE, sizeof *cache, 64);
    enum armdb_rc rc;

    *out = NULL;
    ADB_ASSERT(budget_bytes >= CACHE_BUDGET_BYTES_MIN);
    if (cache == NULL)
        return ARMDB_NOMEM;
    memset(cache, 0, sizeof *cache);
    cache->budget_bytes = budget_bytes;
    cache->extent_bytes = choose_extent_bytes(budget_bytes);
    cache->frames_per_extent = cache->extent_bytes / CACHE_PAGE_BYTES - 1;
    cache->epoch_loads = choose_epoch_loads(budget_bytes);
    cache->locked.epoch_left = cache->epoch_loads;
    atomic_init(&cache->dir, NULL);
    atomic_init(&cache->epoch, 0);
    atomic_init(&cache->used_bytes, 0);
    atomic_init(&cache->pages_read, 0);
    rc = adb_mutex_init(&cache->lock, ADB_RANK_CACHE);
    if (rc == ARMDB_OK) {
        rc = adb_cond_init(&cache->loaded);
        if (rc != ARMDB_OK)
            adb_mutex_fini(&cache->lock);
    }
    if (rc != ARMDB_OK) {
        adb_free_aligned(ADB_MEM_CACHE, cache);
        return rc;
    }
    *out = cache;
    return ARMDB_OK;
}

void cache_destroy(struct cache *cache)
{
    bool last;

    if (cache == NULL)
        return;
    adb_mutex_lock(&cache->lock);
    ADB_ASSERT(cache->locked.files == 0);
    cache->locked.closing = true;
    last = cache->locked.detached == 0;
    if (!last)
        cache_release_free_extents_locked(cache);
    adb_mutex_unlock(&cache->lock);
    if (last)
        cache_free(cache);
}

/* ---- Pins --------------------------------------------------------------------- */

/* The frame of the page that an address lies in. */
static inline struct cache_extent *find_extent(const void *inside, uint32_t *idx)
{
    uintptr_t address = (uintptr_t)inside;
    uintptr_t within = address & (CACHE_ALIGN_BYTES - 1);
    const struct cache_extent_head *head =
        (const void *)((const unsigned char *)inside - within);

    ADB_ASSERT(head->magic == CACHE_EXTENT_MAGIC);
    *idx = (uint32_t)(within / CACHE_PAGE_BYTES);
    ADB_ASSERT(*idx > 0);
    return head->extent;
}

/* Leaves a mark if the last touch is two epochs old (cache_page.c).
 * Relaxed and lossy: a hint for eviction. */
static inline void note_touch(struct cache *cache, struct cache_frame *frame)
{
    uint32_t touch = atomic_load_explicit(&frame->touch, memory_order_relaxed);
    uint32_t epoch = cache_epoch(cache);

    if (((epoch - touch) & TOUCH_EPOCH) < 2 && (touch & TOUCH_NEVER) == 0)
        return;
    atomic_store_explicit(&frame->touch,
                          (touch & TOUCH_NEVER) != 0 ? epoch : epoch | TOUCH_REFERENCED,
                          memory_order_relaxed);
}

static inline uint32_t try_pin(struct cache_file *cf, uint64_t page_no, uint64_t amount)
{
    struct cache *cache = cf->cache;
    _Atomic uint32_t *entry = cache_entry(cf, page_no);
    struct cache_frame *frame;
    uint64_t state;
    uint32_t id;

    if (entry == NULL)
        return 0;
    /* Acquire: pairs with the release in claim_locked() and cache_dirty(): who sees
     * an id sees the directory entry and the extent behind it. */
    id = cache_id_of(atomic_load_explicit(entry, memory_order_acquire));
    if (id == 0)
        return 0;
    frame = cache_frame_at(cache, id);
    state = atomic_load_explicit(&frame->state, memory_order_relaxed);
    do {
        if ((state & FRAME_PINNABLE) == 0)
            return 0;
        ADB_ASSERT((state & FRAME_PINS) < FRAME_PINS);
        /* Acquire: pairs with the release in cache_publish(), so that the bytes and
         * the name are seen. The other side of the race is in evict_locked(). */
    } while (!atomic_compare_exchange_weak_explicit(&frame->state, &state, state + amount,
                                                    memory_order_acquire,
                                                    memory_order_relaxed));
    if (atomic_load_explicit(&frame->page_no, memory_order_relaxed) != page_no ||
        atomic_load_explicit(&frame->file, memory_order_relaxed) != cf) {
        /* The entry was an old one: the frame holds another page by now. */
        cache_unpin_frame(cache, frame, id);
        return 0;
    }
    /* An appender that comes back to its page does not make it hot. */
    if ((amount & FRAME_HIT_ONE) != 0)
        note_touch(cache, frame);
    return id;
}

uint32_t cache_try_pin(struct cache_file *cf, uint64_t page_no, uint64_t amount)
{
    return try_pin(cf, page_no, amount);
}

const unsigned char *cache_pin_cached(struct cache_file *cf, uint64_t page_no)
{
    uint32_t id = try_pin(cf, page_no, FRAME_PIN_ONE | FRAME_HIT_ONE);

    return id == 0 ? NULL : cache_frame_bytes(cf->cache, id);
}

/* The entry may be an old one, its frame's memory may have gone: that is why nothing is
 * read here but the table, and the rest only prefetched, which never faults. */
uintptr_t cache_prefetch(struct cache_file *cf, uint64_t page_no, uint32_t at,
                         uint32_t bytes)
{
    _Atomic uint32_t *entry = cache_entry(cf, page_no);
    struct cache_dir *dir;
    struct cache_extent *extent;
    uint32_t id;
    uint32_t idx;
    uintptr_t from;

    if (entry == NULL)
        return 0;
    /* Acquire: as in try_pin(). */
    id = cache_id_of(atomic_load_explicit(entry, memory_order_acquire));
    if (id == 0)
        return 0;
    dir = atomic_load_explicit(&cf->cache->dir, memory_order_relaxed);
    extent = dir->at[id >> CACHE_SLOT_BITS];
    idx = id & (CACHE_SLOT_FRAMES - 1);
    __builtin_prefetch(&extent->frames[idx], 1);
    /* An address, never followed: the extent may be unmapped at this moment. */
    from = (uintptr_t)atomic_load_explicit(&extent->base, memory_order_relaxed) +
           (uintptr_t)idx * CACHE_PAGE_BYTES + at;
    cache_prefetch_bytes(from, bytes);
    return from;
}

void cache_prefetch_entry(struct cache_file *cf, uint64_t page_no)
{
    __builtin_prefetch(cache_entry(cf, page_no));
}

void cache_pin_again(const void *inside)
{
    uint32_t idx;
    struct cache_extent *extent = find_extent(inside, &idx);

    /* Relaxed: the caller's own pin keeps everything in place. */
    (void)atomic_fetch_add_explicit(&extent->frames[idx].state, FRAME_PIN_ONE,
                                    memory_order_relaxed);
}

/* The last pin of a page that is in no table any more has gone. Nobody else can come
 * to this frame, so nobody else is here for it. */
static void free_detached(struct cache *cache, struct cache_frame *frame, uint32_t id)
{
    bool last;

    adb_mutex_lock(&cache->lock);
    ADB_ASSERT((atomic_load_explicit(&frame->state, memory_order_relaxed) &
                (FRAME_STATUS | FRAME_PINS)) == FRAME_DETACHED);
    (void)frame;
    cache_frame_give_locked(cache, id);
    cache->locked.detached--;
    last = cache->locked.closing && cache->locked.detached == 0;
    adb_mutex_unlock(&cache->lock);
    if (last)
        cache_free(cache);
}

/* Takes a pin away; true when it was the last one of a detached frame. Release:
 * pairs with the acquire in evict_locked(), so that this reader's loads come before
 * the frame's next page; acquire: the same towards free_detached(). */
static inline bool drop_pin(struct cache_frame *frame)
{
    uint64_t before =
        atomic_fetch_sub_explicit(&frame->state, FRAME_PIN_ONE, memory_order_acq_rel);

    ADB_ASSERT((before & FRAME_PINS) > 0);
    return (before & (FRAME_STATUS | FRAME_PINS)) == (FRAME_DETACHED | FRAME_PIN_ONE);
}

void cache_unpin_frame(struct cache *cache, struct cache_frame *frame, uint32_t id)
{
    if (drop_pin(frame))
        free_detached(cache, frame, id);
}

void cache_unpin(const void *inside)
{
    uint32_t idx;
    struct cache_extent *extent = find_extent(inside, &idx);
    struct cache_frame *frame = &extent->frames[idx];

    if (drop_pin(frame))
        free_detached(extent->cache, frame, extent->slot * CACHE_SLOT_FRAMES + idx);
}

/* ---- Verified granules ---------------------------------------------------------- */

static inline uint64_t granule_bit(const void *inside)
{
    return UINT64_C(1) << (((uintptr_t)inside & (CACHE_PAGE_BYTES - 1)) / 64);
}

bool cache_verified(const void *inside)
{
    uint32_t idx;
    struct cache_extent *extent = find_extent(inside, &idx);

    return (atomic_load_explicit(&extent->frames[idx].verified, memory_order_relaxed) &
            granule_bit(inside)) != 0;
}

void cache_set_verified(const void *inside)
{
    uint32_t idx;
    struct cache_extent *extent = find_extent(inside, &idx);

    (void)atomic_fetch_or_explicit(&extent->frames[idx].verified, granule_bit(inside),
                                   memory_order_relaxed);
}

/* ---- Statistics and checks ------------------------------------------------------ */

/* Adds what only the frames know: hits since their pages came, and pins. */
static void add_frames_locked(struct cache *cache, struct cache_stats *stats)
    ADB_REQUIRES(cache->lock)
{
    struct cache_dir *dir = atomic_load_explicit(&cache->dir, memory_order_relaxed);

    for (uint32_t slot = 0; slot < cache->locked.slots; slot++) {
        if (atomic_load_explicit(&dir->at[slot]->base, memory_order_relaxed) != NULL)
            stats->free_bytes += (uint64_t)dir->at[slot]->free_count * CACHE_PAGE_BYTES;
        for (uint32_t i = 1; i <= cache->frames_per_extent; i++) {
            uint64_t state = atomic_load_explicit(&dir->at[slot]->frames[i].state,
                                                  memory_order_relaxed);

            stats->hits += state >> 32;
            if (state >> 63 != 0) {
                (void)atomic_fetch_sub_explicit(&dir->at[slot]->frames[i].state,
                                                UINT64_C(1) << 63, memory_order_relaxed);
                cache->locked.hits += UINT64_C(1) << 31;
            }
            stats->pages_pinned += (state & FRAME_PINS) != 0;
        }
    }
}

void cache_get_stats(struct cache *cache, struct cache_stats *stats)
{
    memset(stats, 0, sizeof *stats);
    stats->budget_bytes = cache->budget_bytes;
    stats->pages_read = atomic_load_explicit(&cache->pages_read, memory_order_relaxed);
    adb_mutex_lock(&cache->lock);
    stats->used_bytes = atomic_load_explicit(&cache->used_bytes, memory_order_relaxed);
    stats->dirty_bytes = cache->locked.dirty * CACHE_PAGE_BYTES;
    stats->large_bytes = cache->locked.large_bytes;
    stats->hits = cache->locked.hits;
    stats->misses = cache->locked.misses;
    stats->evictions = cache->locked.evictions;
    add_frames_locked(cache, stats);
    if (stats->used_bytes < stats->budget_bytes)
        stats->free_bytes += (stats->budget_bytes - stats->used_bytes) /
                             cache->extent_bytes * cache->frames_per_extent *
                             CACHE_PAGE_BYTES;
    adb_mutex_unlock(&cache->lock);
}

/* What a walk over all frames finds. */
struct census {
    uint64_t extents, dirty, detached, clean;
};

static const char *check_frame(struct cache *cache, uint32_t id, struct census *census)
{
    struct cache_frame *frame = cache_frame_at(cache, id);
    struct cache_dir *dir = atomic_load_explicit(&cache->dir, memory_order_relaxed);
    struct cache_extent *extent = dir->at[id >> CACHE_SLOT_BITS];
    struct cache_link *link = &extent->links[id & (CACHE_SLOT_FRAMES - 1)];
    uint64_t state = atomic_load_explicit(&frame->state, memory_order_relaxed);
    struct cache_file *cf = atomic_load_explicit(&frame->file, memory_order_relaxed);
    uint64_t status = state & FRAME_STATUS;
    _Atomic uint32_t *entry;

    census->dirty += status == FRAME_DIRTY;
    census->detached += status == FRAME_DETACHED;
    census->clean += status == FRAME_CLEAN;
    if (status == FRAME_LOADING || (state & FRAME_WAITED) != 0)
        return "a frame is loading";
    if (status == FRAME_FREE && (state & FRAME_PINS) != 0)
        return "a free frame is pinned";
    if ((status == FRAME_CLEAN) != (link->queue != CACHE_QUEUE_NONE))
        return "not the clean frames are queued";
    if ((state & FRAME_PINNABLE) == 0)
        return NULL;
    entry = cache_entry(cf, atomic_load_explicit(&frame->page_no, memory_order_relaxed));
    if (entry == NULL || atomic_load_explicit(entry, memory_order_relaxed) != id)
        return "a page's table entry does not lead to its frame";
    return NULL;
}

static const char *check_extent(struct cache *cache, struct cache_extent *extent,
                                struct census *census)
{
    uint32_t free_count = 0;

    if (atomic_load_explicit(&extent->base, memory_order_relaxed) == NULL)
        return NULL;
    census->extents++;
    for (uint32_t i = 1; i <= cache->frames_per_extent; i++) {
        const char *wrong =
            check_frame(cache, extent->slot * CACHE_SLOT_FRAMES + i, census);

        if (wrong != NULL)
            return wrong;
        free_count +=
            (atomic_load_explicit(&extent->frames[i].state, memory_order_relaxed) &
             FRAME_STATUS) == FRAME_FREE;
    }
    if (free_count != extent->free_count)
        return "an extent miscounts its free frames";
    for (uint32_t i = extent->free_head; i != 0; i = extent->links[i].next)
        free_count--;
    return free_count == 0 ? NULL : "an extent's stack of free frames is broken";
}

static const char *check_counts_locked(struct cache *cache, const struct census *census)
    ADB_REQUIRES(cache->lock)
{
    struct large_queue *queues = cache->locked.large_queues;
    uint64_t queued = queues[CACHE_QUEUE_PROBATION].count + queues[CACHE_QUEUE_HOT].count;

    if (census->extents != cache->locked.extents)
        return "extents are miscounted";
    if (census->dirty != cache->locked.dirty)
        return "dirty frames are miscounted";
    if (census->clean != (uint64_t)cache->locked.queues[CACHE_QUEUE_PROBATION].count +
                             cache->locked.queues[CACHE_QUEUE_HOT].count)
        return "queued frames are miscounted";
    if (census->detached > cache->locked.detached)
        return "detached frames are miscounted";
    if (queued != cache->locked.large_count)
        return "large values are miscounted";
    if (atomic_load_explicit(&cache->used_bytes, memory_order_relaxed) !=
        census->extents * cache->extent_bytes + cache->locked.large_bytes)
        return "bytes in use are miscounted";
    return cache->locked.waiters == NULL ? NULL : "somebody waits";
}

const char *cache_check(struct cache *cache)
{
    struct census census = {0, 0, 0, 0};
    const char *wrong = NULL;

    adb_mutex_lock(&cache->lock);
    for (uint32_t slot = 0; slot < cache->locked.slots && wrong == NULL; slot++) {
        struct cache_dir *dir = atomic_load_explicit(&cache->dir, memory_order_relaxed);

        wrong = check_extent(cache, dir->at[slot], &census);
    }
    if (wrong == NULL)
        wrong = check_counts_locked(cache, &census);
    adb_mutex_unlock(&cache->lock);
    return wrong;
}

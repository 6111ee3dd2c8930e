/* cache_page.c - frames: extents, the free ones, eviction, shrinking.
 *
 * Extents. Memory comes in extents (4 MiB, less for budgets under 64 MiB, so that
 * there are always about sixteen or more of them), each at a multiple of 4 MiB:
 *
 *   base            + 4096       + 8192
 *   | head -> extent | frame 1    | frame 2    | ...
 *
 *   address & ~(4 MiB - 1) -> head -> struct cache_extent -> frames[index]
 *
 * Eviction. A CLEAN frame is in one of two queues, a DIRTY one in none:
 *
 *   new page --> [ probation ] --> evicted, unless touched again: then
 *                     ^    |
 *    not touched for  |    v
 *    a whole round  [   hot   ] <-- touched: once more round
 *                        ^
 *   evicted not long ago |
 *
 * Both are walked in CLOCK's manner: a touch leaves a mark, and the hand that finds
 * it takes the mark away and lets the frame pass. Victims come from probation as
 * long as it has at least an eighth of the frames; only below that the hand of the
 * hot queue moves, three steps for each of the other. So a scan, however long, costs the
 * hot pages no more than an eighth of the room. A cursor touches a page once for each of
 * its records, all within a moment; that must not make the page hot. So time is cut into
 * epochs of a few loaded pages (a 128th of the frames, at most 32), and a mark is left
 * only by a touch two epochs after the last one.
 *
 * Pages that come back regularly, but not as fast as they pass through probation,
 * would never become hot. So a page table entry of an evicted page remembers when
 * that was (a ghost, as in 2Q: Johnson and Shasha, 1994), and a page that is read again
 * before as many others were evicted as there are frames is hot at once.
 *
 * The hand looks at a bounded number of frames: each step takes a mark away (64 at
 * most; after them marks do not count), moves a frame that is hot no longer, or
 * passes a pinned frame by. When it finds nothing the caller may go over the budget.
 *
 * Shrinking. Over the budget (dirty or pinned pages filled it, or large values
 * came), whole extents are given back: those that are free, else one after the
 * other in which no frame is dirty, pinned or loading, its clean pages thrown out.
 * Large values and pages are each sure of half the budget; who has more than half
 * gives first. Memory is unmapped after the lock is released.
 *
 * Everything here but the pin race happens under the cache's lock. */
#include "engine/io/cache_internal.h"

#include "engine/base/mem.h"

enum {
    SWEEP_MIN = 256,     /* frames that one eviction may look at ... */
    SWEEP_SHARE = 8,     /* ... or this part of all in the queues, if more */
    PROBATION_SHARE = 8, /* probation is kept at this part of the queued frames */
    MARKS_MAX = 64,      /* marks that one eviction respects */
    TRIM_CANDIDATES = 16,
    TRIM_PAUSE = 64, /* trims skipped after one that found nothing */
    DIR_FIRST = 64,
    HUGE_BYTES = 2 << 20
};

/* ---- Queues ----------------------------------------------------------------- */

static struct cache_extent *extent_of(struct cache *cache, uint32_t id)
{
    struct cache_dir *dir = atomic_load_explicit(&cache->dir, memory_order_relaxed);

    return dir->at[id >> CACHE_SLOT_BITS];
}

static struct cache_link *link_of(struct cache *cache, uint32_t id)
{
    return &extent_of(cache, id)->links[id & (CACHE_SLOT_FRAMES - 1)];
}

void cache_queue_add_locked(struct cache *cache, enum cache_queue_id queue, uint32_t id)
{
    struct cache_queue *q = &cache->locked.queues[queue];
    struct cache_link *link = link_of(cache, id);

    ADB_ASSERT(link->queue == CACHE_QUEUE_NONE);
    link->queue = queue;
    link->prev = q->tail;
    link->next = 0;
    if (q->tail != 0)
        link_of(cache, q->tail)->next = id;
    else
        q->head = id;
    q->tail = id;
    q->count++;
}

void cache_queue_remove_locked(struct cache *cache, uint32_t id)
{
    struct cache_link *link = link_of(cache, id);
    struct cache_queue *q = &cache->locked.queues[link->queue];

    if (link->queue == CACHE_QUEUE_NONE)
        return;
    if (link->prev != 0)
        link_of(cache, link->prev)->next = link->next;
    else
        q->head = link->next;
    if (link->next != 0)
        link_of(cache, link->next)->prev = link->prev;
    else
        q->tail = link->prev;
    q->count--;
    link->queue = CACHE_QUEUE_NONE;
}

static void move_to_tail(struct cache *cache, enum cache_queue_id queue, uint32_t id)
    ADB_REQUIRES(cache->lock)
{
    cache_queue_remove_locked(cache, id);
    cache_queue_add_locked(cache, queue, id);
}

/* ---- Extents ---------------------------------------------------------------- */

static void list_add(struct cache_extent **head, struct cache_extent *extent)
{
    extent->prev = NULL;
    extent->next = *head;
    if (*head != NULL)
        (*head)->prev = extent;
    *head = extent;
}

static void list_remove(struct cache_extent **head, struct cache_extent *extent)
{
    if (extent->prev != NULL)
        extent->prev->next = extent->next;
    else
        *head = extent->next;
    if (extent->next != NULL)
        extent->next->prev = extent->prev;
    extent->prev = NULL;
    extent->next = NULL;
}

/* Makes room for one more slot in the directory. */
static bool grow_dir_locked(struct cache *cache) ADB_REQUIRES(cache->lock)
{
    struct cache_dir *old = atomic_load_explicit(&cache->dir, memory_order_relaxed);
    uint32_t used = cache->locked.slots;
    uint32_t capacity = old == NULL ? DIR_FIRST : old->capacity * 2;
    struct cache_dir *dir;

    if (old != NULL && used < old->capacity)
        return true;
    if (capacity > CACHE_GHOST / CACHE_SLOT_FRAMES)
        return false;
    dir = adb_alloc_zero(ADB_MEM_CACHE,
                         sizeof *dir + (size_t)capacity * sizeof(dir->at[0]));
    if (dir == NULL)
        return false;
    dir->older = old;
    dir->capacity = capacity;
    for (uint32_t i = 0; old != NULL && i < used; i++)
        dir->at[i] = old->at[i];
    /* Release: pairs with nothing but the page table entries stored after it; a
     * reader whose id needs the new directory has seen such an entry. */
    atomic_store_explicit(&cache->dir, dir, memory_order_release);
    return true;
}

/* A description without memory: a spare one or a new one in a new slot. */
static struct cache_extent *take_description_locked(struct cache *cache)
    ADB_REQUIRES(cache->lock)
{
    size_t count = (size_t)cache->frames_per_extent + 1;
    struct cache_extent *extent = cache->locked.spare;
    size_t bytes = sizeof *extent + count * sizeof(extent->frames[0]);

    if (extent != NULL) {
        list_remove(&cache->locked.spare, extent);
        return extent;
    }
    if (!grow_dir_locked(cache))
        return NULL;
    extent = adb_alloc_aligned(ADB_MEM_CACHE, bytes, 64);
    if (extent == NULL)
        return NULL;
    extent->links = adb_alloc_zero(ADB_MEM_CACHE, count * sizeof(extent->links[0]));
    if (extent->links == NULL) {
        adb_free_aligned(ADB_MEM_CACHE, extent);
        return NULL;
    }
    extent->cache = cache;
    extent->slot = cache->locked.slots++;
    extent->prev = NULL;
    extent->next = NULL;
    atomic_init(&extent->base, NULL);
    for (size_t i = 0; i < count; i++) {
        atomic_init(&extent->frames[i].state, FRAME_FREE);
        atomic_init(&extent->frames[i].verified, 0);
        atomic_init(&extent->frames[i].file, NULL);
        atomic_init(&extent->frames[i].page_no, 0);
        atomic_init(&extent->frames[i].touch, 0);
    }
    atomic_load_explicit(&cache->dir, memory_order_relaxed)->at[extent->slot] = extent;
    return extent;
}

static void count_used(struct cache *cache, int64_t bytes)
{
    (void)atomic_fetch_add_explicit(&cache->used_bytes, (uint64_t)bytes,
                                    memory_order_relaxed);
}

/* Takes memory for one more extent; all its frames are free. */
static bool map_extent_locked(struct cache *cache) ADB_REQUIRES(cache->lock)
{
    struct cache_extent *extent = take_description_locked(cache);
    struct cache_extent_head *head;
    unsigned char *base;

    if (extent == NULL)
        return false;
    base = adb_map(ADB_MEM_CACHE, cache->extent_bytes, CACHE_ALIGN_BYTES,
                   cache->extent_bytes >= HUGE_BYTES);
    if (base == NULL) {
        list_add(&cache->locked.spare, extent);
        return false;
    }
    head = (struct cache_extent_head *)(void *)base;
    head->magic = CACHE_EXTENT_MAGIC;
    head->extent = extent;
    for (uint32_t i = 1; i <= cache->frames_per_extent; i++)
        extent->links[i].next = i < cache->frames_per_extent ? i + 1 : 0;
    extent->free_head = 1;
    extent->free_count = cache->frames_per_extent;
    /* Relaxed: read only by those who have pinned a page that came later. */
    atomic_store_explicit(&extent->base, base, memory_order_relaxed);
    list_add(&cache->locked.with_free, extent);
    cache->locked.extents++;
    count_used(cache, (int64_t)cache->extent_bytes);
    return true;
}

/* Takes a wholly free extent's memory away; it is to be unmapped by the caller. */
static unsigned char *unmap_extent_locked(struct cache *cache,
                                          struct cache_extent *extent)
    ADB_REQUIRES(cache->lock)
{
    unsigned char *base = atomic_load_explicit(&extent->base, memory_order_relaxed);

    ADB_ASSERT(extent->free_count == cache->frames_per_extent);
    list_remove(&cache->locked.with_free, extent);
    list_add(&cache->locked.spare, extent);
    atomic_store_explicit(&extent->base, NULL, memory_order_relaxed);
    cache->locked.extents--;
    count_used(cache, -(int64_t)cache->extent_bytes);
    return base;
}

/* ---- Giving, evicting, taking ------------------------------------------------- */

void cache_frame_give_locked(struct cache *cache, uint32_t id)
{
    struct cache_extent *extent = extent_of(cache, id);
    uint32_t idx = id & (CACHE_SLOT_FRAMES - 1);
    struct cache_frame *frame = &extent->frames[idx];

    ADB_ASSERT(extent->links[idx].queue == CACHE_QUEUE_NONE);
    /* Relaxed: a frame that is FREE is handed on under the lock only. */
    atomic_store_explicit(&frame->file, NULL, memory_order_relaxed);
    atomic_store_explicit(&frame->state, FRAME_FREE, memory_order_relaxed);
    extent->links[idx].next = extent->free_head;
    extent->free_head = idx;
    if (extent->free_count++ == 0)
        list_add(&cache->locked.with_free, extent);
}

static uint32_t take_free_locked(struct cache *cache) ADB_REQUIRES(cache->lock)
{
    struct cache_extent *extent = cache->locked.with_free;
    uint32_t idx;

    if (extent == NULL)
        return 0;
    idx = extent->free_head;
    extent->free_head = extent->links[idx].next;
    if (--extent->free_count == 0)
        list_remove(&cache->locked.with_free, extent);
    return extent->slot * CACHE_SLOT_FRAMES + idx;
}

/* Evicts the page of a frame if it is clean and nobody has it pinned: true, and
 * the frame is FREE, in no table and no queue. */
static bool evict_locked(struct cache *cache, uint32_t id) ADB_REQUIRES(cache->lock)
{
    struct cache_frame *frame = cache_frame_at(cache, id);
    uint64_t state = atomic_load_explicit(&frame->state, memory_order_relaxed);
    uint32_t ghost = CACHE_GHOST | (uint32_t)cache->locked.evictions;
    struct cache_file *cf;

    do {
        if ((state & (FRAME_STATUS | FRAME_PINS)) != FRAME_CLEAN)
            return false;
        /* Acquire: pairs with the release of the last unpin, so that its reader's
         * loads come before the bytes of the next page. The other side of the race
         * is the compare-and-swap in cache_try_pin(). */
    } while (!atomic_compare_exchange_weak_explicit(
        &frame->state, &state, FRAME_FREE, memory_order_acquire, memory_order_relaxed));
    cf = atomic_load_explicit(&frame->file, memory_order_relaxed);
    /* Relaxed: who still sees the old entry finds the frame not pinnable, or
     * pins another page and sees by its name that it is another. */
    atomic_store_explicit(
        cache_entry(cf, atomic_load_explicit(&frame->page_no, memory_order_relaxed)),
        ghost, memory_order_relaxed);
    cache_queue_remove_locked(cache, id);
    cache->locked.hits += state >> 32;
    cache->locked.evictions++;
    return true;
}

/* Takes the mark of a touch away; true when there was one. */
static bool take_mark(struct cache_frame *frame)
{
    uint32_t touch = atomic_load_explicit(&frame->touch, memory_order_relaxed);

    if ((touch & TOUCH_REFERENCED) == 0)
        return false;
    /* Relaxed, and a touch at the same moment may be lost: it is a hint. */
    atomic_store_explicit(&frame->touch, touch & ~TOUCH_REFERENCED, memory_order_relaxed);
    return true;
}

static uint32_t evict_some_locked(struct cache *cache) ADB_REQUIRES(cache->lock)
{
    struct cache_queue *probation = &cache->locked.queues[CACHE_QUEUE_PROBATION];
    struct cache_queue *hot = &cache->locked.queues[CACHE_QUEUE_HOT];
    uint32_t listed = probation->count + hot->count;
    uint32_t limit = listed / SWEEP_SHARE > SWEEP_MIN ? listed / SWEEP_SHARE : SWEEP_MIN;
    uint32_t stuck = 0; /* pinned frames that this call passed by */
    uint32_t mercy = MARKS_MAX;

    for (uint32_t i = 0; i < limit && listed > 0; i++) {
        bool none_else = stuck >= probation->count;
        bool refill = probation->count < listed / PROBATION_SHARE && i % 4 != 3;
        bool from_hot = hot->count > 0 && (none_else || refill);
        uint32_t id = from_hot ? hot->head : probation->head;

        if (id == 0)
            break;
        if (mercy > 0 && take_mark(cache_frame_at(cache, id))) {
            mercy--;
            move_to_tail(cache, CACHE_QUEUE_HOT, id);
        } else if (from_hot && !none_else) {
            move_to_tail(cache, CACHE_QUEUE_PROBATION, id);
        } else if (evict_locked(cache, id)) {
            return id;
        } else {
            move_to_tail(cache, CACHE_QUEUE_PROBATION, id);
            stuck++;
        }
    }
    return 0;
}

enum cache_queue_id cache_queue_for_locked(struct cache *cache, uint32_t entry)
{
    uint32_t listed = cache->locked.queues[CACHE_QUEUE_PROBATION].count +
                      cache->locked.queues[CACHE_QUEUE_HOT].count;
    uint32_t since = (uint32_t)cache->locked.evictions - entry;

    return (entry & CACHE_GHOST) != 0 && (since & ~CACHE_GHOST) < listed
               ? CACHE_QUEUE_HOT
               : CACHE_QUEUE_PROBATION;
}

uint32_t cache_frame_take_locked(struct cache *cache, bool may_exceed)
{
    uint64_t used = atomic_load_explicit(&cache->used_bytes, memory_order_relaxed);
    uint64_t more = (uint64_t)(cache->locked.extents + 1) * cache->extent_bytes;
    uint32_t id = take_free_locked(cache);

    if (id != 0)
        return id;
    /* Pages may have half the budget even if large values fill all of it: the
     * next cache_trim() takes it from those. */
    if ((used + cache->extent_bytes <= cache->budget_bytes ||
         more <= cache->budget_bytes / 2) &&
        map_extent_locked(cache))
        return take_free_locked(cache);
    id = evict_some_locked(cache);
    if (id != 0 || !may_exceed)
        return id;
    return map_extent_locked(cache) ? take_free_locked(cache) : 0;
}

void cache_frame_name_locked(struct cache *cache, uint32_t id, struct cache_file *cf,
                             uint64_t page_no, uint32_t touch)
{
    struct cache_frame *frame = cache_frame_at(cache, id);

    if (--cache->locked.epoch_left == 0) {
        cache->locked.epoch_left = cache->epoch_loads;
        atomic_store_explicit(&cache->epoch, (cache_epoch(cache) + 1) & TOUCH_EPOCH,
                              memory_order_relaxed);
    }
    /* Relaxed: nobody trusts these before the state has become CLEAN or DIRTY,
     * which cache_publish() stores with release. */
    atomic_store_explicit(&frame->file, cf, memory_order_relaxed);
    atomic_store_explicit(&frame->page_no, (uint32_t)page_no, memory_order_relaxed);
    atomic_store_explicit(&frame->verified, 0, memory_order_relaxed);
    atomic_store_explicit(&frame->touch, touch | cache_epoch(cache),
                          memory_order_relaxed);
    atomic_store_explicit(&frame->state, FRAME_LOADING, memory_order_relaxed);
}

/* ---- Shrinking ---------------------------------------------------------------- */

/* True when every frame of the extent is free or could be evicted. */
static bool could_empty(struct cache *cache, struct cache_extent *extent)
{
    for (uint32_t i = 1; i <= cache->frames_per_extent; i++) {
        uint64_t state =
            atomic_load_explicit(&extent->frames[i].state, memory_order_relaxed) &
            (FRAME_STATUS | FRAME_PINS);

        if (state != FRAME_FREE && state != FRAME_CLEAN)
            return false;
    }
    return true;
}

/* Throws out what the extent holds; true when nobody came in between. */
static bool empty_extent_locked(struct cache *cache, struct cache_extent *extent)
    ADB_REQUIRES(cache->lock)
{
    uint32_t first = extent->slot * CACHE_SLOT_FRAMES;

    for (uint32_t i = 1; i <= cache->frames_per_extent; i++)
        if (extent->links[i].queue != CACHE_QUEUE_NONE && evict_locked(cache, first + i))
            cache_frame_give_locked(cache, first + i);
    return extent->free_count == cache->frames_per_extent;
}

static struct cache_extent *find_free_extent_locked(struct cache *cache)
    ADB_REQUIRES(cache->lock)
{
    for (struct cache_extent *e = cache->locked.with_free; e != NULL; e = e->next)
        if (e->free_count == cache->frames_per_extent)
            return e;
    return NULL;
}

/* Gives the memory of one extent away, or NULL when all are in use. */
static unsigned char *give_up_extent_locked(struct cache *cache) ADB_REQUIRES(cache->lock)
{
    struct cache_extent *extent = find_free_extent_locked(cache);

    if (extent != NULL)
        return unmap_extent_locked(cache, extent);
    for (uint32_t tries = 0; tries < TRIM_CANDIDATES && tries < cache->locked.slots;
         tries++) {
        if (cache->locked.trim_slot == 0)
            cache->locked.trim_slot = cache->locked.slots;
        cache->locked.trim_slot--;
        extent = extent_of(cache, cache->locked.trim_slot * CACHE_SLOT_FRAMES);
        if (atomic_load_explicit(&extent->base, memory_order_relaxed) != NULL &&
            could_empty(cache, extent) && empty_extent_locked(cache, extent))
            return unmap_extent_locked(cache, extent);
    }
    return NULL;
}

/* One step down towards the budget; an extent to be unmapped goes to *base. */
static bool trim_step_locked(struct cache *cache, unsigned char **base)
    ADB_REQUIRES(cache->lock)
{
    bool done = false;

    if (atomic_load_explicit(&cache->used_bytes, memory_order_relaxed) <=
        cache->budget_bytes)
        return false;
    if (cache->locked.trim_pause > 0) {
        cache->locked.trim_pause--;
        return false;
    }
    if (cache->locked.large_bytes > cache->budget_bytes / 2)
        done = cache_large_evict_locked(cache);
    if (!done) {
        *base = give_up_extent_locked(cache);
        done = *base != NULL || cache_large_evict_locked(cache);
    }
    if (!done)
        cache->locked.trim_pause = TRIM_PAUSE;
    return done;
}

void cache_trim(struct cache *cache, uint64_t steps, bool again)
{
    bool done = true;

    /* Relaxed: a hint, looked at again under the lock. */
    while (done && steps-- > 0 &&
           atomic_load_explicit(&cache->used_bytes, memory_order_relaxed) >
               cache->budget_bytes) {
        unsigned char *base = NULL;

        adb_mutex_lock(&cache->lock);
        if (again)
            cache->locked.trim_pause = 0;
        done = trim_step_locked(cache, &base);
        adb_mutex_unlock(&cache->lock);
        adb_unmap(ADB_MEM_CACHE, base, cache->extent_bytes);
    }
}

void cache_release_free_extents_locked(struct cache *cache)
{
    struct cache_extent *extent;

    while ((extent = find_free_extent_locked(cache)) != NULL)
        adb_unmap(ADB_MEM_CACHE, unmap_extent_locked(cache, extent), cache->extent_bytes);
}

ADB_NOT_SHARED void cache_free(struct cache *cache)
{
    struct cache_dir *dir = atomic_load_explicit(&cache->dir, memory_order_relaxed);

    for (uint32_t i = 0; i < cache->locked.slots; i++) {
        struct cache_extent *extent = dir->at[i];

        adb_unmap(ADB_MEM_CACHE,
                  atomic_load_explicit(&extent->base, memory_order_relaxed),
                  cache->extent_bytes);
        adb_free(ADB_MEM_CACHE, extent->links);
        adb_free_aligned(ADB_MEM_CACHE, extent);
    }
    while (dir != NULL) {
        struct cache_dir *older = dir->older;

        adb_free(ADB_MEM_CACHE, dir);
        dir = older;
    }
    adb_free(ADB_MEM_CACHE, cache->locked.large_buckets);
    adb_cond_fini(&cache->loaded);
    adb_mutex_fini(&cache->lock);
    adb_free_aligned(ADB_MEM_CACHE, cache);
}

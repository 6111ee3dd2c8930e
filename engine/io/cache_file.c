/* cache_file.c - the pages of one file: table, dirty pages, going away.
 *
 * Table. Page number -> frame id, in leaves of 4,096 pages (16 MiB of the file)
 * that come when the first of their pages does, under an array of pointers that is
 * made at once; for large files that array is mapped, so that it costs memory only
 * where it is used. Leaves stay until the file goes: readers walk them without a
 * lock.
 *
 * Dirty pages. An appender asks for a page, fills its end, writes it from there and
 * says so; all that time readers may have it pinned and read what was published
 * before. cache_dirty() looks at memory only:
 *   1. the page is dirty: this frame (no lock);
 *   2. it is clean: the same frame, bytes and all, made dirty;
 *   3. it is being read: wait, then as 2, or as 4 if that failed;
 *   4. it is not there: a new frame of zeros. So who wants to go on filling a page
 *      that was written must not have let it become clean (it could have been
 *      evicted), or must pin it first: the log leaves its tail page dirty.
 *
 * The granules of a page that came from cache_dirty() count as verified. In case 2
 * the bits stay as they are: what came from the disk is checked once, and what is
 * appended to it as well. */
#include "engine/io/cache_internal.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"

enum {
    BATCH_PAGES = 128,      /* pages dealt with under one hold of the lock */
    MAPPED_BYTES = 64 << 10 /* arrays of leaves from here on are mapped */
};

/* ---- The table ---------------------------------------------------------------- */

_Atomic uint32_t *cache_entry_made_locked(struct cache *cache, struct cache_file *cf,
                                          uint64_t page_no)
{
    uint64_t first = page_no & ~(uint64_t)(CACHE_LEAF_PAGES - 1);
    uint64_t count = cf->pages_max - first;
    _Atomic uint32_t *entry = cache_entry(cf, page_no);
    struct cache_leaf *leaf;

    (void)cache; /* names the lock */
    if (entry != NULL)
        return entry;
    if (count > CACHE_LEAF_PAGES)
        count = CACHE_LEAF_PAGES;
    leaf = adb_alloc(ADB_MEM_CACHE, sizeof *leaf + (size_t)count * sizeof(leaf->ids[0]));
    if (leaf == NULL)
        return NULL;
    leaf->count = (uint32_t)count;
    for (uint32_t i = 0; i < leaf->count; i++)
        atomic_init(&leaf->ids[i], 0);
    /* Release: pairs with the acquire in cache_entry(). */
    atomic_store_explicit(&cf->leaves[page_no >> CACHE_LEAF_BITS].leaf, leaf,
                          memory_order_release);
    return &leaf->ids[page_no - first];
}

static bool make_leaves(struct cache_file *cf)
{
    size_t bytes = cf->leaf_count * sizeof(cf->leaves[0]);

    if (bytes >= MAPPED_BYTES) {
        cf->leaves = adb_map(ADB_MEM_CACHE, bytes, CACHE_PAGE_BYTES, false);
        cf->leaves_bytes = bytes;
    } else {
        cf->leaves = adb_alloc_zero(ADB_MEM_CACHE, bytes);
        cf->leaves_bytes = 0;
    }
    return cf->leaves != NULL;
}

static void free_file(struct cache_file *cf)
{
    if (cf->leaves_bytes > 0)
        adb_unmap(ADB_MEM_CACHE, cf->leaves, cf->leaves_bytes);
    else
        adb_free(ADB_MEM_CACHE, cf->leaves);
    adb_free(ADB_MEM_CACHE, cf);
}

enum armdb_rc cache_file_create(struct cache *cache, struct adb_file *file,
                                const char *name, uint64_t pages_max,
                                struct cache_file **out)
{
    struct cache_file *cf;

    *out = NULL;
    if (pages_max > UINT32_MAX)
        return ARMDB_TOOBIG;
    cf = adb_alloc_zero(ADB_MEM_CACHE, sizeof *cf);
    if (cf == NULL)
        return ARMDB_NOMEM;
    cf->cache = cache;
    cf->file = file;
    cf->pages_max = pages_max;
    cf->direct = file->io->ops->file_is_direct(file);
    cf->leaf_count = (size_t)((pages_max + CACHE_LEAF_PAGES - 1) >> CACHE_LEAF_BITS);
    (void)snprintf(cf->name, sizeof cf->name, "%s", name);
    if (!make_leaves(cf)) {
        adb_free(ADB_MEM_CACHE, cf);
        return ARMDB_NOMEM;
    }
    adb_mutex_lock(&cache->lock);
    cache->locked.files++;
    adb_mutex_unlock(&cache->lock);
    *out = cf;
    return ARMDB_OK;
}

void cache_detach_locked(struct cache *cache, struct cache_file *cf, uint64_t page_no)
{
    _Atomic uint32_t *entry = cache_entry(cf, page_no);
    uint32_t id = atomic_load_explicit(entry, memory_order_relaxed);
    struct cache_frame *frame = cache_frame_at(cache, id);
    uint64_t state = atomic_load_explicit(&frame->state, memory_order_relaxed);
    uint64_t after;

    ADB_ASSERT((state & FRAME_PINNABLE) != 0);
    atomic_store_explicit(entry, 0, memory_order_relaxed);
    cache_queue_remove_locked(cache, id);
    do {
        after = state & FRAME_PINS;
        after |= after > 0 ? FRAME_DETACHED : FRAME_FREE;
        /* Acquire: as in evict_locked(), when there is no pin. With pins, the last
         * unpin sees DETACHED in the same word. */
    } while (!atomic_compare_exchange_weak_explicit(
        &frame->state, &state, after, memory_order_acquire, memory_order_relaxed));
    cache->locked.hits += state >> 32;
    if ((state & FRAME_STATUS) == FRAME_DIRTY)
        cache->locked.dirty--;
    if (after == FRAME_FREE)
        cache_frame_give_locked(cache, id);
    else
        cache->locked.detached++;
}

void cache_file_destroy(struct cache_file *cf)
{
    struct cache *cache;

    if (cf == NULL)
        return;
    cache = cf->cache;
    for (size_t i = 0; i < cf->leaf_count; i++) {
        struct cache_leaf *leaf =
            atomic_load_explicit(&cf->leaves[i].leaf, memory_order_relaxed);

        if (leaf == NULL)
            continue;
        adb_mutex_lock(&cache->lock);
        for (uint32_t j = 0; j < leaf->count; j++)
            if (cache_id_of(atomic_load_explicit(&leaf->ids[j], memory_order_relaxed)) !=
                0)
                cache_detach_locked(cache, cf, ((uint64_t)i << CACHE_LEAF_BITS) + j);
        adb_mutex_unlock(&cache->lock);
        adb_free(ADB_MEM_CACHE, leaf);
    }
    adb_mutex_lock(&cache->lock);
    cache_large_forget_locked(cache, cf, 0, UINT64_MAX);
    cache->locked.files--;
    adb_mutex_unlock(&cache->lock);
    free_file(cf);
    cache_trim(cache, 4, true);
}

/* ---- Dirty pages -------------------------------------------------------------- */

/* The frame of the page if it is dirty, else 0. */
static uint32_t find_dirty(struct cache_file *cf, uint64_t page_no)
{
    uint32_t id = cache_try_pin(cf, page_no, FRAME_PIN_ONE);
    struct cache_frame *frame;
    bool dirty;

    if (id == 0)
        return 0;
    /* A dirty page stays what and where it is without a pin: only its appender,
     * who is the caller, ends that. The pin makes sure it is this page. */
    frame = cache_frame_at(cf->cache, id);
    dirty = (atomic_load_explicit(&frame->state, memory_order_relaxed) & FRAME_STATUS) ==
            FRAME_DIRTY;
    cache_unpin_frame(cf->cache, frame, id);
    return dirty ? id : 0;
}

/* Makes a page in memory dirty, or waits for it (case 3); false: not there. */
static bool dirty_present_locked(struct cache *cache, uint32_t id)
    ADB_REQUIRES(cache->lock)
{
    struct cache_frame *frame = cache_frame_at(cache, id);
    enum armdb_rc rc;

    if ((atomic_load_explicit(&frame->state, memory_order_relaxed) & FRAME_PINNABLE) ==
        0) {
        if (cache_wait_frame_locked(cache, id, &rc, NULL) != CACHE_PINNED)
            return false;
        /* The pin only held it until here: under the lock nothing is evicted. */
        (void)atomic_fetch_sub_explicit(&frame->state, FRAME_PIN_ONE,
                                        memory_order_release);
    }
    if ((atomic_fetch_or_explicit(&frame->state, FRAME_DIRTY_BIT, memory_order_relaxed) &
         FRAME_STATUS) == FRAME_CLEAN) {
        cache_queue_remove_locked(cache, id);
        cache->locked.dirty++;
    }
    return true;
}

enum armdb_rc cache_dirty(struct cache_file *cf, uint64_t page_no, unsigned char **p)
{
    struct cache *cache = cf->cache;
    uint32_t id = find_dirty(cf, page_no);
    _Atomic uint32_t *entry;
    bool made = false;

    *p = NULL;
    ADB_ASSERT(page_no < cf->pages_max);
    if (page_no >= cf->pages_max)
        return ARMDB_INTERNAL;
    if (id != 0) {
        *p = cache_frame_bytes(cache, id);
        return ARMDB_OK;
    }
    adb_mutex_lock(&cache->lock);
    entry = cache_entry_made_locked(cache, cf, page_no);
    while (entry != NULL &&
           (id = cache_id_of(atomic_load_explicit(entry, memory_order_relaxed))) != 0 &&
           !dirty_present_locked(cache, id))
        continue; /* the one who read it failed: look again */
    if (entry != NULL && id == 0) {
        id = cache_frame_take_locked(cache, true);
        made = id != 0;
    }
    if (made) {
        cache_frame_name_locked(cache, id, cf, page_no, 0);
        cache->locked.dirty++;
        /* Release: pairs with the acquire in cache_try_pin(). */
        atomic_store_explicit(entry, id, memory_order_release);
    }
    adb_mutex_unlock(&cache->lock);
    if (id == 0)
        return ARMDB_NOMEM;
    *p = cache_frame_bytes(cache, id);
    if (made) {
        /* Not under the lock: the first touch of new memory takes its time. */
        memset(*p, 0, CACHE_PAGE_BYTES);
        atomic_store_explicit(&cache_frame_at(cache, id)->verified, UINT64_MAX,
                              memory_order_relaxed);
        cache_publish(cache, id, FRAME_DIRTY, 0);
    }
    return ARMDB_OK;
}

unsigned char *cache_dirty_find(struct cache_file *cf, uint64_t page_no)
{
    uint32_t id = find_dirty(cf, page_no);

    ADB_ASSERT(id != 0);
    return id == 0 ? NULL : cache_frame_bytes(cf->cache, id);
}

static void clean_page_locked(struct cache *cache, struct cache_file *cf,
                              uint64_t page_no) ADB_REQUIRES(cache->lock)
{
    _Atomic uint32_t *entry = cache_entry(cf, page_no);
    uint32_t id = entry == NULL
                      ? 0
                      : cache_id_of(atomic_load_explicit(entry, memory_order_relaxed));
    struct cache_frame *frame;

    ADB_ASSERT(id != 0);
    if (id == 0)
        return;
    frame = cache_frame_at(cache, id);
    if ((atomic_load_explicit(&frame->state, memory_order_relaxed) & FRAME_STATUS) !=
        FRAME_DIRTY)
        return;
    /* Pins come and go meanwhile, in other bits of the word. Release: a later
     * evict_locked() by another thread comes after what was done with the page. */
    (void)atomic_fetch_and_explicit(&frame->state, ~FRAME_DIRTY_BIT,
                                    memory_order_release);
    cache->locked.dirty--;
    cache_queue_add_locked(cache, CACHE_QUEUE_PROBATION, id);
}

void cache_pages_written(struct cache_file *cf, uint64_t first, uint64_t count)
{
    struct cache *cache = cf->cache;
    uint64_t done = 0;

    while (done < count) {
        uint64_t until = count - done > BATCH_PAGES ? done + BATCH_PAGES : count;

        adb_mutex_lock(&cache->lock);
        for (; done < until; done++)
            clean_page_locked(cache, cf, first + done);
        adb_mutex_unlock(&cache->lock);
    }
    cache_trim(cache, count / cache->frames_per_extent + 2, true);
}

static void discard_page_locked(struct cache *cache, struct cache_file *cf,
                                uint64_t page_no) ADB_REQUIRES(cache->lock)
{
    _Atomic uint32_t *entry = cache_entry(cf, page_no);
    enum armdb_rc rc;
    uint32_t id;

    while (entry != NULL &&
           (id = cache_id_of(atomic_load_explicit(entry, memory_order_relaxed))) != 0) {
        struct cache_frame *frame = cache_frame_at(cache, id);

        if (atomic_load_explicit(&frame->state, memory_order_relaxed) & FRAME_PINNABLE) {
            cache_detach_locked(cache, cf, page_no);
            return;
        }
        if (cache_wait_frame_locked(cache, id, &rc, NULL) == CACHE_PINNED)
            (void)atomic_fetch_sub_explicit(&frame->state, FRAME_PIN_ONE,
                                            memory_order_release);
    }
}

void cache_pages_discard(struct cache_file *cf, uint64_t first, uint64_t count)
{
    struct cache *cache = cf->cache;
    uint64_t end = first < cf->pages_max && count < cf->pages_max - first ? first + count
                                                                          : cf->pages_max;
    uint64_t page_no = first;

    if (first >= end)
        return;
    while (page_no < end) {
        uint64_t until = end - page_no > BATCH_PAGES ? page_no + BATCH_PAGES : end;

        adb_mutex_lock(&cache->lock);
        for (; page_no < until; page_no++)
            discard_page_locked(cache, cf, page_no);
        adb_mutex_unlock(&cache->lock);
    }
    adb_mutex_lock(&cache->lock);
    cache_large_forget_locked(cache, cf, first * CACHE_PAGE_BYTES,
                              end * CACHE_PAGE_BYTES);
    adb_mutex_unlock(&cache->lock);
    cache_trim(cache, count / cache->frames_per_extent + 2, true);
}

/* cache_internal.h - what the parts of the buffer manager share.
 *
 * cache_page.c has frames: where they come from, eviction, shrinking. cache_file.c
 * has the page tables and dirty pages, cache_read.c brings pages in, cache_large.c
 * has large values, cache.c the rest. The essay on how they fit is in cache.c.
 * Private to the cache and its tests. Layer 1. */
#ifndef ADB_ENGINE_IO_CACHE_INTERNAL_H
#define ADB_ENGINE_IO_CACHE_INTERNAL_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/rc.h"
#include "engine/base/thread.h"
#include "engine/io/cache.h"
#include "engine/io/io.h"

enum {
    CACHE_ALIGN_BYTES = 4 << 20, /* every extent begins at a multiple of this */
    CACHE_EXTENT_BYTES_MIN = 256 << 10,
    CACHE_BUDGET_BYTES_MIN = 1 << 20,
    CACHE_SLOT_BITS = 10, /* a frame's id is its extent's slot and its index in it */
    CACHE_SLOT_FRAMES = 1 << CACHE_SLOT_BITS,
    CACHE_LEAF_BITS = 12, /* pages in one leaf of a page table */
    CACHE_LEAF_PAGES = 1 << CACHE_LEAF_BITS,
    CACHE_NAME_MAX = 64 /* with the final NUL */
};

/* ---- Frames ------------------------------------------------------------------- */

/* A frame's state is one word, so that pin against evict is one race on one word:
 *
 *   63 ........ 32 | 31     | 30 ... 24 | 23 .... 0
 *   hits           | waited | status    | pins
 *
 * hits    pins given since the page came in; a statistic. Whoever reads the statistics
 *         takes its highest bit away before it can overflow, and counts it apart.
 * waited  somebody sleeps until the page is loaded (with LOADING only).
 * status  FREE -> LOADING -> CLEAN or DIRTY, which change into each other;
 *         CLEAN with no pin -> FREE (eviction); a page thrown away is FREE at once
 *         or, while pinned, DETACHED until its last pin goes.
 *
 * Pins are taken by compare-and-swap and only from CLEAN and DIRTY (or by one who
 * holds one), so a frame in any other status gets no new pin: a DETACHED one has
 * exactly one last unpin, and FREE and LOADING ones belong to whoever put them
 * there. The status changes under the cache's lock, except LOADING -> CLEAN or
 * DIRTY, which its loader does. */
#define FRAME_PIN_ONE UINT64_C(1)
#define FRAME_PINS UINT64_C(0xffffff)
#define FRAME_STATUS (UINT64_C(0x7f) << 24)
#define FRAME_FREE UINT64_C(0)
#define FRAME_LOADING (UINT64_C(1) << 24)
#define FRAME_CLEAN (UINT64_C(2) << 24)
#define FRAME_DIRTY (UINT64_C(3) << 24)
#define FRAME_DETACHED (UINT64_C(4) << 24)
#define FRAME_PINNABLE (UINT64_C(2) << 24)  /* bit of CLEAN and DIRTY alone */
#define FRAME_DIRTY_BIT (UINT64_C(1) << 24) /* CLEAN | this = DIRTY */
#define FRAME_WAITED (UINT64_C(1) << 31)
#define FRAME_HIT_ONE (UINT64_C(1) << 32)

/* The touch word: when the page was last used, for eviction. Relaxed and lossy. */
#define TOUCH_EPOCH UINT32_C(0xffff) /* cache->epoch at the last touch that counted */
#define TOUCH_REFERENCED (UINT32_C(1) << 16) /* touched again some epochs later */
#define TOUCH_NEVER (UINT32_C(1) << 17)      /* read ahead, nobody came yet */

struct cache_frame {
    _Atomic uint64_t state;
    _Atomic uint64_t verified; /* one bit for each 64 bytes of the page */
    /* Which page this is; written while FREE or LOADING, stable under a pin. */
    _Atomic(struct cache_file *) file;
    _Atomic uint32_t page_no;
    _Atomic uint32_t touch;
};

static_assert(sizeof(struct cache_frame) == 32, "two frame headers to a cache line");
static_assert(CACHE_PAGE_BYTES == 64 * 64, "one verified bit for each 64 bytes");
static_assert(CACHE_SLOT_FRAMES * CACHE_PAGE_BYTES == CACHE_ALIGN_BYTES,
              "a slot numbers the frames of the largest extent");

enum cache_queue_id { CACHE_QUEUE_NONE, CACHE_QUEUE_PROBATION, CACHE_QUEUE_HOT };

/* A frame's place in its queue, or in its extent's stack of free frames (`next`,
 * an index there). Frame ids; 0 = none. Guarded by the cache's lock. */
struct cache_link {
    uint32_t prev;
    uint32_t next;
    enum cache_queue_id queue;
};

/* The description of an extent. It outlives the extent's memory: a reader with a
 * stale page table entry may look at a frame's state at any time, so descriptions
 * are kept (and used again) until the cache goes. */
struct cache_extent {
    _Atomic(unsigned char *) base; /* owned mapping; NULL = none. Stable under a pin */
    struct cache *cache;
    uint32_t slot;
    /* Under the cache's lock. */
    uint32_t free_count;
    uint32_t free_head;               /* index of the first free frame, 0 = none */
    struct cache_extent *prev, *next; /* among extents with free frames, or spare */
    struct cache_link *links;         /* owned; as many as frames */
    _Alignas(64) struct cache_frame frames[]; /* the first stands for the header page */
};

/* What lies at the start of an extent's memory, in place of its first frame. */
struct cache_extent_head {
    uint64_t magic;
    struct cache_extent *extent; /* borrowed */
};
#define CACHE_EXTENT_MAGIC UINT64_C(0x6164622d70616765)

/* Slot -> extent. Replaced by a larger one when full; the old ones are kept, since
 * readers may be inside. Entries never change once set. */
struct cache_dir {
    struct cache_dir *older; /* owned */
    uint32_t capacity;
    struct cache_extent *at[];
};

struct cache_queue {
    uint32_t head, tail, count;
};

/* ---- Files -------------------------------------------------------------------- */

#define CACHE_GHOST (UINT32_C(1) << 31)

/* Page -> frame id. Not in memory: 0, or, if it was evicted, CACHE_GHOST and the low
 * bits of the number of evictions until then. Written under the cache's lock. */
struct cache_leaf {
    uint32_t count;
    _Atomic uint32_t ids[];
};

struct cache_leaf_ref {
    _Atomic(struct cache_leaf *) leaf; /* owned; NULL until a page of it comes */
};

struct cache_file {
    /* Constant. */
    struct cache *cache;   /* borrowed */
    struct adb_file *file; /* borrowed */
    uint64_t pages_max;
    bool direct;
    size_t leaf_count;
    struct cache_leaf_ref *leaves; /* owned */
    size_t leaves_bytes;           /* of a mapping; 0 = from the heap */
    char name[CACHE_NAME_MAX];
};

/* ---- Waiting ------------------------------------------------------------------ */

enum cache_outcome {
    CACHE_WAITING,
    CACHE_PINNED, /* it came in, and the waiter has a pin */
    CACHE_FAILED, /* rc and err tell why */
    CACHE_RETRY   /* nobody reads it any more; look again */
};

/* Lies on the waiter's stack, in a list of the cache. */
struct cache_waiter {
    struct cache_waiter *next;
    const void *object; /* the frame or large value waited for */
    enum cache_outcome outcome;
    enum armdb_rc rc;
    struct armdb_error *err; /* may be NULL */
};

/* ---- Large values ------------------------------------------------------------- */

struct large {
    /* Constant. */
    struct cache *cache;
    uint64_t offset, len;
    unsigned char *buffer; /* owned */
    uint64_t buffer_bytes;
    const unsigned char *bytes; /* inside buffer */
    /* Under the cache's lock. */
    struct cache_file *file; /* NULL once detached */
    struct large *hash_next;
    struct large *prev, *next; /* in its queue */
    uint64_t pins;
    enum cache_queue_id queue; /* NONE: detached */
    bool loading, waited, referenced;
};

struct large_queue {
    struct large *head, *tail;
    uint64_t bytes, count;
};

/* ---- The cache ---------------------------------------------------------------- */

struct cache {
    /* Constant. */
    uint64_t budget_bytes;
    uint32_t extent_bytes;
    uint32_t frames_per_extent; /* without the header */
    uint32_t epoch_loads;       /* pages that come in until the epoch moves on */

    /* Read by every hit, seldom written. */
    _Alignas(64) _Atomic(struct cache_dir *) dir; /* owned */
    _Atomic uint32_t epoch;

    _Alignas(64) struct adb_mutex lock; /* rank CACHE; never held during I/O */
    struct adb_cond loaded;             /* something that was waited for is there */
    struct {
        struct cache_extent *with_free; /* extents that have free frames */
        struct cache_extent *spare;     /* descriptions without memory */
        uint32_t slots;                 /* used in dir */
        uint32_t extents;               /* that have memory */
        uint32_t trim_slot;             /* where the search for one to give up goes on */
        uint32_t trim_pause;            /* trims to be skipped after a vain one */
        uint32_t epoch_left;            /* loads until the epoch moves on */
        struct cache_queue queues[3];   /* by cache_queue_id; NONE is unused */
        uint64_t dirty;                 /* frames */
        uint64_t detached;              /* frames and large values, pinned */
        uint64_t files;
        struct cache_waiter *waiters;
        bool closing; /* cache_destroy() was called */

        struct large **large_buckets; /* owned */
        uint64_t large_bucket_count, large_count;
        uint64_t large_bytes; /* of all buffers, detached ones too */
        struct large_queue large_queues[3];

        uint64_t hits, misses, evictions; /* hits: of frames no longer in use */
    } locked ADB_GUARDED;

    /* Changed under the lock, read without it as a hint. */
    _Atomic uint64_t used_bytes; /* extents and large values */
    _Atomic uint64_t pages_read; /* statistic */
};

static inline struct cache_frame *cache_frame_at(struct cache *cache, uint32_t id)
{
    /* Relaxed: whoever has an id got it from a page table entry (acquire) or
     * under the lock, and the directory was there before the entry. */
    struct cache_dir *dir = atomic_load_explicit(&cache->dir, memory_order_relaxed);

    return &dir->at[id >> CACHE_SLOT_BITS]->frames[id & (CACHE_SLOT_FRAMES - 1)];
}

/* The page of a frame that cannot go away: pinned, dirty, or being loaded. */
static inline unsigned char *cache_frame_bytes(struct cache *cache, uint32_t id)
{
    struct cache_dir *dir = atomic_load_explicit(&cache->dir, memory_order_relaxed);
    struct cache_extent *extent = dir->at[id >> CACHE_SLOT_BITS];

    return atomic_load_explicit(&extent->base, memory_order_relaxed) +
           (size_t)(id & (CACHE_SLOT_FRAMES - 1)) * CACHE_PAGE_BYTES;
}

/* The page table entry, NULL when its leaf was never needed. */
static inline _Atomic uint32_t *cache_entry(struct cache_file *cf, uint64_t page_no)
{
    struct cache_leaf *leaf;

    if (page_no >= cf->pages_max)
        return NULL;
    /* Acquire: pairs with the release in cache_entry_made_locked(). */
    leaf = atomic_load_explicit(&cf->leaves[page_no >> CACHE_LEAF_BITS].leaf,
                                memory_order_acquire);
    return leaf == NULL ? NULL : &leaf->ids[page_no & (CACHE_LEAF_PAGES - 1)];
}

/* The frame that a page table entry names; 0 for none. */
static inline uint32_t cache_id_of(uint32_t entry)
{
    return (entry & CACHE_GHOST) != 0 ? 0 : entry;
}

/* Takes a pin (amount: FRAME_PIN_ONE, with FRAME_HIT_ONE when it counts as a hit)
 * if the page is in memory: its frame's id, else 0. Lock-free; may be called with
 * the lock (then no entry is an old one, and nothing is unpinned inside). */
uint32_t cache_try_pin(struct cache_file *cf, uint64_t page_no, uint64_t amount);
/* Gives back a pin by frame. */
void cache_unpin_frame(struct cache *cache, struct cache_frame *frame, uint32_t id);

/* ---- cache_page.c ------------------------------------------------------------- */

/* A frame for a new page: free, evicted, or from new memory; FREE and in no queue.
 * `may_exceed`: over the budget if it must be. 0 when there is none. */
uint32_t cache_frame_take_locked(struct cache *cache, bool may_exceed)
    ADB_REQUIRES(cache->lock);
/* Makes the frame FREE and gives it back; it is in no queue and nobody's page. */
void cache_frame_give_locked(struct cache *cache, uint32_t id) ADB_REQUIRES(cache->lock);
/* Names the page that a FREE frame is going to hold and makes it LOADING. */
void cache_frame_name_locked(struct cache *cache, uint32_t id, struct cache_file *cf,
                             uint64_t page_no, uint32_t touch) ADB_REQUIRES(cache->lock);
void cache_queue_add_locked(struct cache *cache, enum cache_queue_id queue, uint32_t id)
    ADB_REQUIRES(cache->lock);
void cache_queue_remove_locked(struct cache *cache, uint32_t id)
    ADB_REQUIRES(cache->lock);
/* The queue for a page that is read now and whose entry was this. */
enum cache_queue_id cache_queue_for_locked(struct cache *cache, uint32_t entry)
    ADB_REQUIRES(cache->lock);
/* When over the budget: gives up to `steps` extents or large values back. Must be
 * called without the lock. `again`: also if the last attempts were in vain. */
void cache_trim(struct cache *cache, uint64_t steps, bool again)
    ADB_EXCLUDES(cache->lock);
/* Unmaps every extent of which all frames are free. */
void cache_release_free_extents_locked(struct cache *cache) ADB_REQUIRES(cache->lock);
/* The epoch that a touch now belongs to. */
static inline uint32_t cache_epoch(struct cache *cache)
{
    return atomic_load_explicit(&cache->epoch, memory_order_relaxed);
}
/* Frees everything; nobody uses the cache any more. */
void cache_free(struct cache *cache);

/* ---- cache_file.c ------------------------------------------------------------- */

/* The page table entry, its leaf made when missing; NULL when there is no memory. */
_Atomic uint32_t *cache_entry_made_locked(struct cache *cache, struct cache_file *cf,
                                          uint64_t page_no) ADB_REQUIRES(cache->lock);
/* Takes the page out of its table: FREE or, while pinned, DETACHED. It is not
 * LOADING. */
void cache_detach_locked(struct cache *cache, struct cache_file *cf, uint64_t page_no)
    ADB_REQUIRES(cache->lock);

/* ---- cache_read.c ------------------------------------------------------------- */

/* Waits until the object is there, failed, or was given up. */
enum cache_outcome cache_wait_locked(struct cache *cache, const void *object,
                                     enum armdb_rc *rc, struct armdb_error *err)
    ADB_REQUIRES(cache->lock);
/* Tells everybody who waits for the object; returns how many. */
uint32_t cache_wake_locked(struct cache *cache, const void *object,
                           enum cache_outcome outcome, enum armdb_rc rc,
                           const struct armdb_error *err) ADB_REQUIRES(cache->lock);
/* Waits for a LOADING frame; see cache_wait_locked(). */
enum cache_outcome cache_wait_frame_locked(struct cache *cache, uint32_t id,
                                           enum armdb_rc *rc, struct armdb_error *err)
    ADB_REQUIRES(cache->lock);
/* LOADING -> status (CLEAN or DIRTY) with `pins` pins and one for each waiter. */
void cache_publish(struct cache *cache, uint32_t id, uint64_t status, uint32_t pins)
    ADB_EXCLUDES(cache->lock);
/* Reads bytes [offset, offset + bytes) of a file again, after a read of them failed
 * with ENODATA. What lies past the end of the file becomes zero, but the first
 * `needed` bytes must be there. */
enum armdb_rc cache_read_tail(struct cache_file *cf, unsigned char *p, uint64_t offset,
                              uint64_t bytes, uint64_t needed, struct armdb_error *err);

/* ---- cache_large.c ------------------------------------------------------------ */

/* Throws one unpinned large value out; false when there is none. */
bool cache_large_evict_locked(struct cache *cache) ADB_REQUIRES(cache->lock);
/* Forgets the large values of a file that overlap [offset, end). */
void cache_large_forget_locked(struct cache *cache, const struct cache_file *cf,
                               uint64_t offset, uint64_t end) ADB_REQUIRES(cache->lock);

/* ---- Tests -------------------------------------------------------------------- */

/* Verifies every invariant; nobody else may be using the cache. NULL, or what is
 * wrong. */
const char *cache_check(struct cache *cache);

#endif

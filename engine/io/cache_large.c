/* cache_large.c - values longer than a page.
 *
 * A large value lies in a buffer of its own, found by (file, offset, length) in a
 * hash table. The buffer begins at the start of the value's first page, so that a
 * direct file can be read straight into it; the pointer handed out is inside:
 *
 *   file    |.....vvv|vvvvvvvv|vvvv....|        v: the value
 *   buffer  |.....vvv|vvvvvvvv|vvvv....|        bytes = buffer + offset % 4096
 *
 * Filling it: pages in memory are copied, dirty ones first of all (an active
 * segment's newest records are not in its file yet), and of these only the value's
 * own bytes, since an appender may be busy behind them. A page that is not in memory
 * has been written. What is missing is read in one batch, in pieces of at most
 * 1 MiB so that the device has something to do in parallel. Then the caller's
 * function verifies it, once; others who want the value wait meanwhile. A value
 * that reaches past the end of its file is an error when its end is read; when the
 * last page is in memory, zeros take that place, as in the page, and the caller's
 * function has to find it out.
 *
 * Buffers count against the budget. Like frames they are in probation until they
 * are asked for again, then hot, and each queue is walked in CLOCK's manner; bytes
 * take the place of numbers. A pinned buffer stays, over the budget if need be; one
 * that would fill more than a quarter of the budget goes with its last pin.
 *
 * Inner pins. A destructor that gets nothing but an address gives back its pin
 * through a process-wide table: address -> buffer. It has no owner that could be
 * asked, because cache_large_unpin_inner() has no other argument. */
#include "engine/io/cache_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "engine/base/mem.h"

enum {
    PIECE_BYTES = 1 << 20, /* of one read */
    BATCH_OPS = 64,        /* reads submitted at once */
    MAPPED_FROM = 1 << 20, /* longer buffers are mapped, shorter ones from the heap */
    HUGE_FROM = 8 << 20,
    BUCKETS_FIRST = 64,
    KEEP_SHARE = 4,      /* longer than this part of the budget: not kept unpinned */
    PROBATION_SHARE = 8, /* of the bytes; below it, hot ones are asked to go too */
    INNER_BUCKETS = 1024,
    INNER_LOCKS = 16
};

/* ---- Buffers ------------------------------------------------------------------ */

static void free_large(struct large *large)
{
    if (large->buffer_bytes >= MAPPED_FROM)
        adb_unmap(ADB_MEM_CACHE, large->buffer, (size_t)large->buffer_bytes);
    else
        adb_free_aligned(ADB_MEM_CACHE, large->buffer);
    adb_free(ADB_MEM_CACHE, large);
}

/* A value without its bytes; NULL when there is no memory. */
static struct large *create_large(struct cache_file *cf, uint64_t offset, uint64_t len)
{
    struct large *large = adb_alloc_zero(ADB_MEM_CACHE, sizeof *large);
    uint64_t skip = offset % CACHE_PAGE_BYTES;
    uint64_t bytes = skip + len + (CACHE_PAGE_BYTES - 1);
    size_t size;

    bytes -= bytes % CACHE_PAGE_BYTES;
    size = (size_t)bytes;
    if (large == NULL || bytes < len || size != bytes)
        goto out;
    large->buffer =
        bytes >= MAPPED_FROM
            ? adb_map(ADB_MEM_CACHE, size, CACHE_PAGE_BYTES, size >= HUGE_FROM)
            : adb_alloc_aligned(ADB_MEM_CACHE, size, CACHE_PAGE_BYTES);
    if (large->buffer == NULL)
        goto out;
    large->cache = cf->cache;
    large->file = cf;
    large->offset = offset;
    large->len = len;
    large->buffer_bytes = bytes;
    large->bytes = large->buffer + skip;
    large->loading = true;
    large->pins = 1;
    return large;
out:
    adb_free(ADB_MEM_CACHE, large);
    return NULL;
}

/* ---- Hash table and queues ------------------------------------------------------ */

static uint64_t hash_key(const struct cache_file *cf, uint64_t offset)
{
    uint64_t x = (offset + (uint64_t)(uintptr_t)cf) * UINT64_C(0x9E3779B97F4A7C15);

    return x ^ (x >> 32);
}

static struct large **bucket_locked(struct cache *cache, const struct cache_file *cf,
                                    uint64_t offset) ADB_REQUIRES(cache->lock)
{
    uint64_t mask = cache->locked.large_bucket_count - 1;

    return &cache->locked.large_buckets[hash_key(cf, offset) & mask];
}

static struct large *find_locked(struct cache *cache, const struct cache_file *cf,
                                 uint64_t offset, uint64_t len) ADB_REQUIRES(cache->lock)
{
    struct large *large;

    if (cache->locked.large_bucket_count == 0)
        return NULL;
    large = *bucket_locked(cache, cf, offset);
    while (large != NULL &&
           (large->file != cf || large->offset != offset || large->len != len))
        large = large->hash_next;
    return large;
}

/* Doubles the table when it is full. Without memory the chains grow longer; only
 * the first buckets must be had. */
static bool make_buckets_locked(struct cache *cache) ADB_REQUIRES(cache->lock)
{
    uint64_t old_count = cache->locked.large_bucket_count;
    uint64_t count = old_count == 0 ? BUCKETS_FIRST : old_count * 2;
    struct large **old = cache->locked.large_buckets;
    struct large **buckets;

    if (cache->locked.large_count < old_count)
        return true;
    buckets = adb_alloc_zero(ADB_MEM_CACHE, (size_t)count * sizeof(struct large *));
    if (buckets == NULL)
        return old_count > 0;
    cache->locked.large_buckets = buckets;
    cache->locked.large_bucket_count = count;
    for (uint64_t i = 0; i < old_count; i++) {
        while (old[i] != NULL) {
            struct large *large = old[i];
            struct large **bucket = bucket_locked(cache, large->file, large->offset);

            old[i] = large->hash_next;
            large->hash_next = *bucket;
            *bucket = large;
        }
    }
    adb_free(ADB_MEM_CACHE, old);
    return true;
}

static void queue_add_locked(struct cache *cache, enum cache_queue_id queue,
                             struct large *large) ADB_REQUIRES(cache->lock)
{
    struct large_queue *q = &cache->locked.large_queues[queue];

    large->queue = queue;
    large->prev = q->tail;
    large->next = NULL;
    if (q->tail != NULL)
        q->tail->next = large;
    else
        q->head = large;
    q->tail = large;
    q->count++;
    q->bytes += large->buffer_bytes;
}

static void queue_remove_locked(struct cache *cache, struct large *large)
    ADB_REQUIRES(cache->lock)
{
    struct large_queue *q = &cache->locked.large_queues[large->queue];

    if (large->prev != NULL)
        large->prev->next = large->next;
    else
        q->head = large->next;
    if (large->next != NULL)
        large->next->prev = large->prev;
    else
        q->tail = large->prev;
    q->count--;
    q->bytes -= large->buffer_bytes;
    large->queue = CACHE_QUEUE_NONE;
}

static void count_bytes_locked(struct cache *cache, struct large *large, bool add)
    ADB_REQUIRES(cache->lock)
{
    uint64_t bytes = add ? large->buffer_bytes : UINT64_C(0) - large->buffer_bytes;

    cache->locked.large_bytes += bytes;
    (void)atomic_fetch_add_explicit(&cache->used_bytes, bytes, memory_order_relaxed);
}

/* Puts a value into table, queue and books; false when there is no memory. */
static bool insert_locked(struct cache *cache, struct large *large)
    ADB_REQUIRES(cache->lock)
{
    struct large **bucket;

    if (!make_buckets_locked(cache))
        return false;
    bucket = bucket_locked(cache, large->file, large->offset);
    large->hash_next = *bucket;
    *bucket = large;
    cache->locked.large_count++;
    queue_add_locked(cache, CACHE_QUEUE_PROBATION, large);
    count_bytes_locked(cache, large, true);
    return true;
}

/* Takes a value out of table and queue, so that nobody finds it any more. It goes
 * with its last pin; without a pin the caller frees it by drop_locked(). */
static void detach_locked(struct cache *cache, struct large *large)
    ADB_REQUIRES(cache->lock)
{
    struct large **link = bucket_locked(cache, large->file, large->offset);

    while (*link != large)
        link = &(*link)->hash_next;
    *link = large->hash_next;
    queue_remove_locked(cache, large);
    cache->locked.large_count--;
    large->file = NULL;
    if (large->pins > 0)
        cache->locked.detached++;
}

/* Frees a detached value without pins. */
static void drop_locked(struct cache *cache, struct large *large)
    ADB_REQUIRES(cache->lock)
{
    ADB_ASSERT(large->queue == CACHE_QUEUE_NONE && large->pins == 0);
    count_bytes_locked(cache, large, false);
    free_large(large);
}

bool cache_large_evict_locked(struct cache *cache)
{
    struct large_queue *probation = &cache->locked.large_queues[CACHE_QUEUE_PROBATION];
    struct large_queue *hot = &cache->locked.large_queues[CACHE_QUEUE_HOT];
    /* Each may be met with its mark, without it, and once more in probation. */
    uint64_t limit = 3 * cache->locked.large_count;
    uint64_t stuck = 0;

    for (uint64_t i = 0; i < limit; i++) {
        bool none_else = stuck >= probation->count;
        bool refill =
            probation->bytes < (probation->bytes + hot->bytes) / PROBATION_SHARE;
        bool from_hot = hot->count > 0 && (none_else || refill);
        struct large *large = from_hot ? hot->head : probation->head;

        if (large == NULL)
            break;
        if (large->pins == 0 && !large->referenced && (!from_hot || none_else)) {
            detach_locked(cache, large);
            cache->locked.evictions++;
            drop_locked(cache, large);
            return true;
        }
        stuck += large->pins > 0;
        queue_remove_locked(cache, large);
        queue_add_locked(
            cache, large->referenced ? CACHE_QUEUE_HOT : CACHE_QUEUE_PROBATION, large);
        large->referenced = false;
    }
    return false;
}

void cache_large_forget_locked(struct cache *cache, const struct cache_file *cf,
                               uint64_t offset, uint64_t end)
{
    for (int queue = CACHE_QUEUE_PROBATION; queue <= CACHE_QUEUE_HOT; queue++) {
        struct large *next = cache->locked.large_queues[queue].head;

        while (next != NULL) {
            struct large *large = next;

            next = large->next;
            if (large->file != cf || large->offset >= end ||
                large->offset + large->len <= offset)
                continue;
            detach_locked(cache, large);
            if (large->pins == 0)
                drop_locked(cache, large);
        }
    }
}

/* ---- Filling ------------------------------------------------------------------ */

struct filling {
    struct cache_file *cf;
    struct large *large;
    struct armdb_error *err;
    uint64_t run_from, run_to; /* bytes of the file to be read; none when equal */
    size_t op_count;
    struct adb_io_op ops[BATCH_OPS];
    struct iovec iov[BATCH_OPS];
};

/* Where a byte of the file lies in the buffer. */
static unsigned char *place_of(const struct large *large, uint64_t offset)
{
    return large->buffer + (offset - (large->offset - large->offset % CACHE_PAGE_BYTES));
}

/* An operation failed: ENODATA may mean only that the last page is cut short. */
static enum armdb_rc repair_op(struct filling *f, const struct adb_io_op *op)
{
    uint64_t end = f->large->offset + f->large->len;
    uint64_t bytes = op->iov->iov_len;
    uint64_t needed = end - op->offset < bytes ? end - op->offset : bytes;

    if (op->sys_errno == ENODATA)
        return cache_read_tail(f->cf, op->iov->iov_base, op->offset, bytes, needed,
                               f->err);
    return adb_fail_errno(op->sys_errno, ARMDB_IO, f->err,
                          "%s: reading %" PRIu64 " bytes at %" PRIu64, f->cf->name, bytes,
                          op->offset);
}

static enum armdb_rc submit_ops(struct filling *f)
{
    struct adb_io *io = f->cf->file->io;
    enum armdb_rc rc = ARMDB_OK;

    if (f->op_count > 0)
        adb_io_run(io, f->ops, f->op_count);
    for (size_t i = 0; i < f->op_count && rc == ARMDB_OK; i++) {
        if (f->ops[i].sys_errno != 0)
            rc = repair_op(f, &f->ops[i]);
        (void)atomic_fetch_add_explicit(&f->cf->cache->pages_read,
                                        (f->iov[i].iov_len + CACHE_PAGE_BYTES - 1) /
                                            CACHE_PAGE_BYTES,
                                        memory_order_relaxed);
    }
    f->op_count = 0;
    return rc;
}

/* Turns the run into operations; submits them when the batch is full. */
static enum armdb_rc end_run(struct filling *f)
{
    enum armdb_rc rc = ARMDB_OK;

    while (f->run_from < f->run_to && rc == ARMDB_OK) {
        uint64_t left = f->run_to - f->run_from;
        uint64_t bytes = left < PIECE_BYTES ? left : PIECE_BYTES;
        struct adb_io_op *op = &f->ops[f->op_count];
        struct iovec *iov = &f->iov[f->op_count];

        iov->iov_base = place_of(f->large, f->run_from);
        iov->iov_len = (size_t)bytes;
        memset(op, 0, sizeof *op);
        op->file = f->cf->file;
        op->kind = ADB_IO_READ;
        op->iov = iov;
        op->iov_count = 1;
        op->offset = f->run_from;
        f->run_from += bytes;
        if (++f->op_count == BATCH_OPS)
            rc = submit_ops(f);
    }
    return rc;
}

/* Copies one page from memory or adds it to the run. */
static enum armdb_rc fill_page(struct filling *f, uint64_t page_no)
{
    const struct large *large = f->large;
    uint64_t page_from = page_no * CACHE_PAGE_BYTES;
    uint64_t page_to = page_from + CACHE_PAGE_BYTES;
    uint64_t from = page_from > large->offset ? page_from : large->offset;
    uint64_t end = large->offset + large->len;
    uint64_t to = page_to < end ? page_to : end;
    uint32_t id = cache_try_pin(f->cf, page_no, FRAME_PIN_ONE);
    struct cache *cache = f->cf->cache;

    if (id != 0) {
        memcpy(place_of(large, from), cache_frame_bytes(cache, id) + (from - page_from),
               (size_t)(to - from));
        cache_unpin_frame(cache, cache_frame_at(cache, id), id);
        return end_run(f);
    }
    if (f->cf->direct) {
        from = page_from;
        to = page_to;
    }
    if (f->run_from == f->run_to)
        f->run_from = from;
    f->run_to = to;
    return ARMDB_OK;
}

static enum armdb_rc fill_large(struct cache_file *cf, struct large *large,
                                struct armdb_error *err)
{
    struct filling f;
    uint64_t last = (large->offset + large->len - 1) / CACHE_PAGE_BYTES;
    enum armdb_rc rc = ARMDB_OK;

    f.cf = cf;
    f.large = large;
    f.err = err;
    f.run_from = 0;
    f.run_to = 0;
    f.op_count = 0;
    for (uint64_t page_no = large->offset / CACHE_PAGE_BYTES;
         page_no <= last && rc == ARMDB_OK; page_no++)
        rc = fill_page(&f, page_no);
    if (rc == ARMDB_OK)
        rc = end_run(&f);
    if (rc == ARMDB_OK)
        rc = submit_ops(&f);
    return rc;
}

/* ---- Pins --------------------------------------------------------------------- */

/* Takes one pin away and frees what has no reason to stay. True: the cache itself
 * has none any more, the caller is to free it. */
static bool unpin_locked(struct cache *cache, struct large *large)
    ADB_REQUIRES(cache->lock)
{
    ADB_ASSERT(large->pins > 0);
    if (--large->pins > 0)
        return false;
    if (large->queue == CACHE_QUEUE_NONE)
        cache->locked.detached--;
    else if (large->buffer_bytes > cache->budget_bytes / KEEP_SHARE)
        detach_locked(cache, large);
    if (large->queue == CACHE_QUEUE_NONE)
        drop_locked(cache, large);
    /* Not by cache_trim(): once the lock is released the cache may go. */
    cache->locked.trim_pause = 0;
    while (atomic_load_explicit(&cache->used_bytes, memory_order_relaxed) >
               cache->budget_bytes &&
           cache->locked.large_bytes > cache->budget_bytes / 2 &&
           cache_large_evict_locked(cache))
        continue;
    return cache->locked.closing && cache->locked.detached == 0;
}

void cache_large_unpin(void *owner)
{
    struct large *large = owner;
    struct cache *cache = large->cache;
    bool last;

    adb_mutex_lock(&cache->lock);
    last = unpin_locked(cache, large);
    adb_mutex_unlock(&cache->lock);
    if (last)
        cache_free(cache);
}

/* The bytes are there, or not: tells those who wait, and takes a failed value out. */
static void finish_load(struct large *large, enum armdb_rc rc,
                        const struct armdb_error *err)
{
    struct cache *cache = large->cache;

    adb_mutex_lock(&cache->lock);
    large->loading = false;
    large->pins += cache_wake_locked(
        cache, large, rc == ARMDB_OK ? CACHE_PINNED : CACHE_FAILED, rc, err);
    if (rc != ARMDB_OK) {
        if (large->queue != CACHE_QUEUE_NONE)
            detach_locked(cache, large);
        large->pins = 0;
        cache->locked.detached--;
        drop_locked(cache, large);
    }
    adb_mutex_unlock(&cache->lock);
}

/* Looks the value up, waiting for it when somebody else brings it in. PINNED with
 * *found, FAILED, RETRY, or WAITING: `fresh` has been entered and is to be loaded,
 * or, when that is NULL, is to be made. */
static enum cache_outcome find_or_insert_locked(
    struct cache *cache, const struct cache_file *cf, uint64_t offset, uint64_t len,
    struct large *fresh, struct large **found, enum armdb_rc *rc, struct armdb_error *err)
    ADB_REQUIRES(cache->lock)
{
    enum cache_outcome outcome = CACHE_PINNED;

    *found = find_locked(cache, cf, offset, len);
    if (*found == NULL) {
        if (fresh != NULL && !insert_locked(cache, fresh)) {
            *rc = ADB_FAIL(ARMDB_NOMEM, err, "%s: no memory for a large value", cf->name);
            return CACHE_FAILED;
        }
        cache->locked.misses += fresh != NULL;
        return CACHE_WAITING;
    }
    if ((*found)->loading) {
        cache->locked.misses++;
        outcome = cache_wait_locked(cache, *found, rc, err);
    } else {
        cache->locked.hits++;
        (*found)->pins++;
        (*found)->referenced = true;
    }
    return outcome;
}

/* A range that can be in the file and in memory at all. */
static enum armdb_rc check_range(struct cache_file *cf, uint64_t offset, uint64_t len,
                                 struct armdb_error *err)
{
    uint64_t bytes_max = cf->pages_max * CACHE_PAGE_BYTES;

    if (len > 0 && offset < bytes_max && len <= bytes_max - offset)
        return ARMDB_OK;
    return ADB_FAIL(ARMDB_CORRUPT, err,
                    "%s: %" PRIu64 " bytes at %" PRIu64
                    " are asked for, but there are only %" PRIu64,
                    cf->name, len, offset, bytes_max);
}

enum armdb_rc cache_large_pin(
    struct cache_file *cf, uint64_t offset, uint64_t len,
    enum armdb_rc (*verify)(void *arg, const unsigned char *bytes, uint64_t len,
                            struct armdb_error *err),
    void *arg, const unsigned char **bytes, void **owner, struct armdb_error *err)
{
    struct cache *cache = cf->cache;
    struct large *fresh = NULL;
    struct large *found = NULL;
    struct armdb_error own;
    enum cache_outcome outcome = CACHE_RETRY;
    enum armdb_rc rc;

    *bytes = NULL;
    *owner = NULL;
    if (err == NULL)
        err = &own; /* waiters want the text */
    rc = check_range(cf, offset, len, err);
    if (rc != ARMDB_OK)
        return rc;
    /* First with nothing in hand, then, if it is not there, with a buffer. */
    while (outcome == CACHE_RETRY) {
        adb_mutex_lock(&cache->lock);
        outcome = find_or_insert_locked(cache, cf, offset, len, fresh, &found, &rc, err);
        adb_mutex_unlock(&cache->lock);
        if (outcome != CACHE_WAITING || fresh != NULL)
            break;
        fresh = create_large(cf, offset, len);
        if (fresh == NULL)
            return ADB_FAIL(ARMDB_NOMEM, err,
                            "%s: no memory for %" PRIu64 " bytes at %" PRIu64, cf->name,
                            len, offset);
        outcome = CACHE_RETRY;
    }
    if (outcome == CACHE_WAITING) {
        cache_trim(cache, fresh->buffer_bytes / CACHE_PAGE_BYTES + 4, true);
        rc = fill_large(cf, fresh, err);
        if (rc == ARMDB_OK && verify != NULL)
            rc = verify(arg, fresh->bytes, len, err);
        finish_load(fresh, rc, err);
        found = fresh;
    } else if (fresh != NULL) {
        free_large(fresh);
    }
    if (rc == ARMDB_OK) {
        *bytes = found->bytes;
        *owner = found;
    }
    return rc;
}

/* ---- Inner pins ----------------------------------------------------------------- */

struct inner {
    struct inner *next;
    const void *address;
    struct large *large; /* pinned as often as `count` says */
    uint64_t count;
};

/* Constant initializers, since nobody is there to call an init function. */
#define INNER_LOCK                                            \
    {                                                         \
        .m = PTHREAD_MUTEX_INITIALIZER, .rank = ADB_RANK_LEAF \
    }
#define INNER_LOCK_4 INNER_LOCK, INNER_LOCK, INNER_LOCK, INNER_LOCK

/* Each guards the buckets whose number it divides into. */
static struct adb_mutex inner_locks[INNER_LOCKS] = {INNER_LOCK_4, INNER_LOCK_4,
                                                    INNER_LOCK_4, INNER_LOCK_4};
static struct inner *inner_buckets[INNER_BUCKETS];

static size_t inner_bucket(const void *address)
{
    uint64_t x = (uint64_t)(uintptr_t)address * UINT64_C(0x9E3779B97F4A7C15);

    return (size_t)(x >> 32) % INNER_BUCKETS;
}

/* The link at which the address is, or would be. */
static struct inner **find_inner(size_t bucket, const void *address)
{
    struct inner **link = &inner_buckets[bucket];

    while (*link != NULL && (*link)->address != address)
        link = &(*link)->next;
    return link;
}

bool cache_large_pin_inner(void *owner, const void *inner)
{
    struct large *large = owner;
    size_t bucket = inner_bucket(inner);
    struct adb_mutex *lock = &inner_locks[bucket % INNER_LOCKS];
    struct inner *entry;

    adb_mutex_lock(lock);
    entry = *find_inner(bucket, inner);
    if (entry == NULL) {
        entry = adb_alloc_zero(ADB_MEM_CACHE, sizeof *entry);
        if (entry != NULL) {
            entry->address = inner;
            entry->large = large;
            entry->next = inner_buckets[bucket];
            inner_buckets[bucket] = entry;
        }
    }
    if (entry != NULL)
        entry->count++;
    adb_mutex_unlock(lock);
    if (entry == NULL)
        return false;
    adb_mutex_lock(&large->cache->lock);
    large->pins++;
    adb_mutex_unlock(&large->cache->lock);
    return true;
}

void cache_large_unpin_inner(void *inner)
{
    size_t bucket = inner_bucket(inner);
    struct adb_mutex *lock = &inner_locks[bucket % INNER_LOCKS];
    struct large *large = NULL;
    struct inner **link;

    adb_mutex_lock(lock);
    link = find_inner(bucket, inner);
    ADB_ASSERT(*link != NULL);
    if (*link != NULL) {
        struct inner *entry = *link;

        large = entry->large;
        if (--entry->count == 0) {
            *link = entry->next;
            adb_free(ADB_MEM_CACHE, entry);
        }
    }
    adb_mutex_unlock(lock);
    if (large != NULL)
        cache_large_unpin(large);
}

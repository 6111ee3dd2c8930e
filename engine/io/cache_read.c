/* cache_read.c - bringing pages in.
 *
 * One load of one page:
 *
 *   under the lock   entry is 0: take a frame, name it, LOADING, store the entry
 *   without it       read the page into the frame
 *   without it       LOADING -> CLEAN with a pin: published
 *   or, on failure   under the lock: entry 0, the frame free again
 *
 * Whoever meets a LOADING frame leaves a waiter (on its own stack) with the cache,
 * marks the frame as waited for, and sleeps. The mark and the publishing
 * compare-and-swap are in one word: either the loader sees the mark and takes the
 * lock to wake, or the waiter sees that the page is there. A waiter is woken with a
 * pin of its own or with a copy of the loader's error; so a failing device is
 * asked once for all of them.
 *
 * Read-ahead claims all missing pages, merges neighbours into one operation of
 * several iovecs, submits everything at once and publishes clean frames without a
 * pin. Where an operation fails nothing is said of its pages: waiters try for
 * themselves, because the failure may belong to a neighbour. A run that reached past the
 * end of its file, as the last one of a segment does, is read page by page.
 *
 * The last page of a file may be cut short. Its read fails with ENODATA; only then
 * the size is asked for, and the part that exists is read again, zeros behind it.
 * On a direct file the whole page is read again and ENODATA accepted: engines move
 * the bytes up to the end before they say so. */
#include "engine/io/cache_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "engine/base/mem.h"

enum { LOCK_TRIES = 50 };

/* Misses of several threads meet here, each for a time much shorter than going to
 * sleep takes; so the lock is tried for a moment first. With files in memory this
 * makes four threads up to twice as fast. */
static void lock_soon(struct cache *cache) ADB_ACQUIRES(cache->lock) ADB_NOT_SHARED;

static void lock_soon(struct cache *cache)
{
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (adb_mutex_trylock(&cache->lock))
            return;
        adb_cpu_relax();
    }
    adb_mutex_lock(&cache->lock);
}

/* ---- Waiting ------------------------------------------------------------------ */

enum cache_outcome cache_wait_locked(struct cache *cache, const void *object,
                                     enum armdb_rc *rc, struct armdb_error *err)
{
    struct cache_waiter **link = &cache->locked.waiters;
    struct cache_waiter waiter = {
        .next = NULL,
        .object = object,
        .outcome = CACHE_WAITING,
        .rc = ARMDB_OK,
        .err = err,
    };

    while (*link != NULL)
        link = &(*link)->next;
    *link = &waiter; /* cache_wake_locked() takes it out again */
    while (waiter.outcome == CACHE_WAITING)
        adb_cond_wait(&cache->loaded, &cache->lock);
    *rc = waiter.rc;
    return waiter.outcome;
}

uint32_t cache_wake_locked(struct cache *cache, const void *object,
                           enum cache_outcome outcome, enum armdb_rc rc,
                           const struct armdb_error *err)
{
    struct cache_waiter **link = &cache->locked.waiters;
    uint32_t woken = 0;

    while (*link != NULL) {
        struct cache_waiter *waiter = *link;

        if (waiter->object != object) {
            link = &waiter->next;
            continue;
        }
        *link = waiter->next;
        waiter->outcome = outcome;
        waiter->rc = rc;
        if (outcome == CACHE_FAILED && waiter->err != NULL && err != NULL)
            *waiter->err = *err;
        woken++;
    }
    if (woken > 0)
        adb_cond_broadcast(&cache->loaded);
    return woken;
}

enum cache_outcome cache_wait_frame_locked(struct cache *cache, uint32_t id,
                                           enum armdb_rc *rc, struct armdb_error *err)
{
    struct cache_frame *frame = cache_frame_at(cache, id);
    uint64_t state = atomic_load_explicit(&frame->state, memory_order_relaxed);

    *rc = ARMDB_OK;
    while ((state & FRAME_STATUS) == FRAME_LOADING)
        /* Relaxed: the word itself carries the message; see cache_publish(). */
        if (atomic_compare_exchange_weak_explicit(
                &frame->state, &state, FRAME_LOADING | FRAME_WAITED, memory_order_relaxed,
                memory_order_relaxed))
            return cache_wait_locked(cache, frame, rc, err);
    return CACHE_RETRY;
}

void cache_publish(struct cache *cache, uint32_t id, uint64_t status, uint32_t pins)
{
    struct cache_frame *frame = cache_frame_at(cache, id);
    uint64_t expected = FRAME_LOADING;
    uint32_t woken;

    /* Release: pairs with the acquire in cache_try_pin(); who gets a pin sees the
     * page's bytes and its name. */
    if (atomic_compare_exchange_strong_explicit(&frame->state, &expected, status | pins,
                                                memory_order_release,
                                                memory_order_relaxed))
        return;
    ADB_ASSERT(expected == (FRAME_LOADING | FRAME_WAITED));
    lock_soon(cache);
    woken = cache_wake_locked(cache, frame, CACHE_PINNED, ARMDB_OK, NULL);
    atomic_store_explicit(&frame->state, status | (pins + woken), memory_order_release);
    adb_mutex_unlock(&cache->lock);
}

/* ---- Claiming and giving up ---------------------------------------------------- */

struct load {
    struct cache_file *cf;
    uint32_t page_no;
    uint32_t id;
};

/* Puts a LOADING frame into the table. False: there is no frame, or no leaf. */
static bool claim_locked(struct cache *cache, struct cache_file *cf, uint64_t page_no,
                         bool ahead, struct load *load) ADB_REQUIRES(cache->lock)
{
    _Atomic uint32_t *entry = cache_entry_made_locked(cache, cf, page_no);
    enum cache_queue_id queue;
    uint32_t id = entry == NULL ? 0 : cache_frame_take_locked(cache, !ahead);

    if (id == 0)
        return false;
    queue =
        cache_queue_for_locked(cache, atomic_load_explicit(entry, memory_order_relaxed));
    cache_frame_name_locked(cache, id, cf, page_no, ahead ? TOUCH_NEVER : 0);
    cache_queue_add_locked(cache, queue, id);
    /* Release: pairs with the acquire in cache_try_pin(): who sees the id sees the
     * directory that has it. */
    atomic_store_explicit(entry, id, memory_order_release);
    load->cf = cf;
    load->page_no = (uint32_t)page_no;
    load->id = id;
    return true;
}

/* The page did not come: its frame is free again, its waiters are told. */
static void give_up(const struct load *load, enum cache_outcome outcome, enum armdb_rc rc,
                    const struct armdb_error *err)
{
    struct cache *cache = load->cf->cache;

    lock_soon(cache);
    atomic_store_explicit(cache_entry(load->cf, load->page_no), 0, memory_order_relaxed);
    cache_queue_remove_locked(cache, load->id);
    cache_frame_give_locked(cache, load->id);
    (void)cache_wake_locked(cache, cache_frame_at(cache, load->id), outcome, rc, err);
    adb_mutex_unlock(&cache->lock);
}

/* ---- Reading ------------------------------------------------------------------ */

/* One operation: 0 or why it failed. */
static int read_once(struct cache_file *cf, void *p, size_t bytes, uint64_t offset)
{
    struct iovec iov = {.iov_base = p, .iov_len = bytes};
    struct adb_io_op op = {
        .file = cf->file,
        .kind = ADB_IO_READ,
        .iov = &iov,
        .iov_count = 1,
        .offset = offset,
    };

    adb_io_run(cf->file->io, &op, 1);
    return op.sys_errno;
}

enum armdb_rc cache_read_tail(struct cache_file *cf, unsigned char *p, uint64_t offset,
                              uint64_t bytes, uint64_t needed, struct armdb_error *err)
{
    uint64_t size;
    uint64_t have;
    uint64_t whole;
    int failed = 0;
    enum armdb_rc rc = cf->file->io->ops->file_size(cf->file, &size, err);

    if (rc != ARMDB_OK)
        return rc;
    if (needed == 0 || size < offset || size - offset < needed)
        return ADB_FAIL(ARMDB_CORRUPT, err,
                        "%s ends at byte %" PRIu64 ", but bytes %" PRIu64 " to %" PRIu64
                        " are needed",
                        cf->name, size, offset, offset + needed);
    have = size - offset < bytes ? size - offset : bytes;
    whole = cf->direct ? have - have % CACHE_PAGE_BYTES : have;
    if (whole > 0)
        failed = read_once(cf, p, (size_t)whole, offset);
    if (failed == 0 && whole < have) {
        failed = read_once(cf, p + whole, CACHE_PAGE_BYTES, offset + whole);
        if (failed == ENODATA)
            failed = 0;
    }
    if (failed != 0)
        return adb_fail_errno(failed, ARMDB_IO, err,
                              "%s: reading %" PRIu64 " bytes at %" PRIu64, cf->name, have,
                              offset);
    memset(p + have, 0, (size_t)(bytes - have));
    return ARMDB_OK;
}

/* Reads the page that the caller has claimed; afterwards it is pinned for the caller,
 * or gone. */
static enum armdb_rc load_page(const struct load *load, struct armdb_error *err)
{
    struct cache_file *cf = load->cf;
    struct cache *cache = cf->cache;
    unsigned char *p = cache_frame_bytes(cache, load->id);
    uint64_t offset = (uint64_t)load->page_no * CACHE_PAGE_BYTES;
    int failed = read_once(cf, p, CACHE_PAGE_BYTES, offset);
    struct armdb_error own;
    enum armdb_rc rc = ARMDB_OK;

    /* Waiters want the text even when the caller does not. */
    if (err == NULL)
        err = &own;
    if (failed == ENODATA)
        rc = cache_read_tail(cf, p, offset, CACHE_PAGE_BYTES, 1, err);
    else if (failed != 0)
        rc = adb_fail_errno(failed, ARMDB_IO, err, "%s: reading the page at %" PRIu64,
                            cf->name, offset);
    if (rc == ARMDB_OK) {
        (void)atomic_fetch_add_explicit(&cache->pages_read, 1, memory_order_relaxed);
        cache_publish(cache, load->id, FRAME_CLEAN, 1);
    } else {
        give_up(load, CACHE_FAILED, rc, err);
    }
    return rc;
}

/* A page that was not in memory a moment ago: CACHE_PINNED with its frame in
 * load->id, CACHE_WAITING when the caller has claimed it and must read it now,
 * CACHE_FAILED, or CACHE_RETRY. */
static enum cache_outcome find_or_claim_locked(struct cache *cache, struct cache_file *cf,
                                               uint64_t page_no, struct load *load,
                                               enum armdb_rc *rc, struct armdb_error *err)
    ADB_REQUIRES(cache->lock)
{
    _Atomic uint32_t *entry = cache_entry(cf, page_no);
    enum cache_outcome outcome;

    load->id = cache_try_pin(cf, page_no, FRAME_PIN_ONE);
    if (load->id != 0)
        return CACHE_PINNED;
    cache->locked.misses++;
    load->id = entry == NULL
                   ? 0
                   : cache_id_of(atomic_load_explicit(entry, memory_order_relaxed));
    if (load->id != 0) {
        outcome = cache_wait_frame_locked(cache, load->id, rc, err);
    } else if (claim_locked(cache, cf, page_no, false, load)) {
        outcome = CACHE_WAITING;
    } else {
        *rc = ADB_FAIL(ARMDB_NOMEM, err, "%s: no memory for the page at %" PRIu64,
                       cf->name, page_no * CACHE_PAGE_BYTES);
        outcome = CACHE_FAILED;
    }
    return outcome;
}

enum armdb_rc cache_pin(struct cache_file *cf, uint64_t page_no, const unsigned char **p,
                        struct armdb_error *err)
{
    struct cache *cache = cf->cache;
    enum cache_outcome outcome = CACHE_RETRY;
    enum armdb_rc rc = ARMDB_OK;
    struct load load = {.cf = cf};

    *p = cache_pin_cached(cf, page_no);
    if (*p != NULL)
        return ARMDB_OK;
    if (page_no >= cf->pages_max)
        return ADB_FAIL(ARMDB_CORRUPT, err,
                        "%s: page %" PRIu64 " is asked for, but there are only %" PRIu64,
                        cf->name, page_no, cf->pages_max);
    while (outcome == CACHE_RETRY) {
        lock_soon(cache);
        outcome = find_or_claim_locked(cache, cf, page_no, &load, &rc, err);
        adb_mutex_unlock(&cache->lock);
    }
    if (outcome == CACHE_WAITING) {
        cache_trim(cache, 2, false);
        rc = load_page(&load, err);
    }
    if (rc == ARMDB_OK)
        *p = cache_frame_bytes(cache, load.id);
    return rc;
}

/* ---- Reading ahead ------------------------------------------------------------- */

enum {
    AHEAD_STACK = 64, /* pages of a batch that needs no memory */
    AHEAD_MAX = 4096, /* pages of the largest batch */
    RUN_MAX = 64      /* pages of one operation */
};

struct batch {
    struct load *loads;
    struct iovec *iov;
    struct adb_io_op *ops;
    size_t count;
    size_t op_count;
};

static bool comes_before(const struct load *a, const struct load *b)
{
    if (a->cf != b->cf)
        return (uintptr_t)a->cf < (uintptr_t)b->cf;
    return a->page_no < b->page_no;
}

/* Shell's sort: no memory, no recursion, and quick on what is nearly in order. */
static void sort_loads(struct load *loads, size_t count)
{
    for (size_t gap = count / 2; gap > 0; gap /= 2) {
        for (size_t i = gap; i < count; i++) {
            struct load moving = loads[i];
            size_t j = i;

            for (; j >= gap && comes_before(&moving, &loads[j - gap]); j -= gap)
                loads[j] = loads[j - gap];
            loads[j] = moving;
        }
    }
}

/* Relaxed: under the lock, or only a hint. */
static bool names_frame(const _Atomic uint32_t *entry)
{
    return entry != NULL &&
           cache_id_of(atomic_load_explicit(entry, memory_order_relaxed)) != 0;
}

/* Claims what is missing. Stops early when there are no frames left. */
static void claim_batch(struct cache *cache, struct batch *batch,
                        const struct cache_want *wants, size_t count)
{
    bool room = true;

    batch->count = 0;
    for (size_t i = 0; i < count && room; i++) {
        struct cache_file *cf = wants[i].cf;
        _Atomic uint32_t *entry = cache_entry(cf, wants[i].page_no);

        if (wants[i].page_no >= cf->pages_max || names_frame(entry))
            continue;
        lock_soon(cache);
        if (!names_frame(cache_entry(cf, wants[i].page_no))) {
            room = claim_locked(cache, cf, wants[i].page_no, true,
                                &batch->loads[batch->count]);
            batch->count += room;
        }
        adb_mutex_unlock(&cache->lock);
    }
}

/* One operation for each run of neighbours. */
static void build_ops(struct cache *cache, struct batch *batch)
{
    struct adb_io_op *op = NULL;

    sort_loads(batch->loads, batch->count);
    batch->op_count = 0;
    for (size_t i = 0; i < batch->count; i++) {
        const struct load *load = &batch->loads[i];

        batch->iov[i].iov_base = cache_frame_bytes(cache, load->id);
        batch->iov[i].iov_len = CACHE_PAGE_BYTES;
        if (op != NULL && load->cf == load[-1].cf &&
            load->page_no == load[-1].page_no + 1 && op->iov_count < RUN_MAX) {
            op->iov_count++;
            continue;
        }
        op = &batch->ops[batch->op_count++];
        op->file = load->cf->file;
        op->kind = ADB_IO_READ;
        op->after_previous = false;
        op->iov = &batch->iov[i];
        op->iov_count = 1;
        op->offset = (uint64_t)load->page_no * CACHE_PAGE_BYTES;
        op->sys_errno = 0;
    }
}

/* Submits the operations, all those of one engine together. */
static void submit_ops(struct batch *batch)
{
    size_t first = 0;

    while (first < batch->op_count) {
        struct adb_io *io = batch->ops[first].file->io;
        size_t end = first + 1;

        while (end < batch->op_count && batch->ops[end].file->io == io)
            end++;
        adb_io_run(io, &batch->ops[first], end - first);
        first = end;
    }
}

/* One page of a run that reached past the end of its file. */
static void finish_alone(struct cache *cache, const struct load *load)
{
    struct cache_file *cf = load->cf;
    unsigned char *p = cache_frame_bytes(cache, load->id);
    uint64_t offset = (uint64_t)load->page_no * CACHE_PAGE_BYTES;
    int failed = read_once(cf, p, CACHE_PAGE_BYTES, offset);
    struct armdb_error ignored;

    if (failed == ENODATA &&
        cache_read_tail(cf, p, offset, CACHE_PAGE_BYTES, 1, &ignored) == ARMDB_OK)
        failed = 0;
    if (failed != 0) {
        give_up(load, CACHE_RETRY, ARMDB_OK, NULL);
        return;
    }
    (void)atomic_fetch_add_explicit(&cache->pages_read, 1, memory_order_relaxed);
    cache_publish(cache, load->id, FRAME_CLEAN, 0);
}

static void finish_batch(struct cache *cache, struct batch *batch)
{
    const struct load *load = batch->loads;

    for (size_t i = 0; i < batch->op_count; i++) {
        const struct adb_io_op *op = &batch->ops[i];

        if (op->sys_errno == 0)
            (void)atomic_fetch_add_explicit(&cache->pages_read, op->iov_count,
                                            memory_order_relaxed);
        for (uint32_t n = op->iov_count; n > 0; n--, load++) {
            ADB_ASSERT(load->cf != NULL);
            if (op->sys_errno == 0)
                cache_publish(cache, load->id, FRAME_CLEAN, 0);
            else if (op->sys_errno == ENODATA)
                finish_alone(cache, load);
            else
                give_up(load, CACHE_RETRY, ARMDB_OK, NULL);
        }
    }
}

static void run_batch(struct cache *cache, struct batch *batch,
                      const struct cache_want *wants, size_t count)
{
    claim_batch(cache, batch, wants, count);
    if (batch->count == 0)
        return;
    build_ops(cache, batch);
    submit_ops(batch);
    finish_batch(cache, batch);
}

/* Up to AHEAD_STACK pages, in memory of the stack. */
static void run_small_batch(struct cache *cache, const struct cache_want *wants,
                            size_t count)
{
    struct load loads[AHEAD_STACK] = {{NULL, 0, 0}};
    struct iovec iov[AHEAD_STACK];
    struct adb_io_op ops[AHEAD_STACK];
    struct batch batch = {.loads = loads, .iov = iov, .ops = ops};

    ADB_ASSERT(count <= AHEAD_STACK);
    run_batch(cache, &batch, wants, count);
}

/* A batch of any size; false when there is no memory for it. */
static bool run_large_batch(struct cache *cache, const struct cache_want *wants,
                            size_t count)
{
    struct batch batch = {
        .loads = adb_alloc_zero(ADB_MEM_CACHE, count * sizeof(struct load)),
        .iov = adb_alloc(ADB_MEM_CACHE, count * sizeof(struct iovec)),
        .ops = adb_alloc(ADB_MEM_CACHE, count * sizeof(struct adb_io_op)),
    };
    bool ready = batch.loads != NULL && batch.iov != NULL && batch.ops != NULL;

    if (ready)
        run_batch(cache, &batch, wants, count);
    adb_free(ADB_MEM_CACHE, batch.loads);
    adb_free(ADB_MEM_CACHE, batch.iov);
    adb_free(ADB_MEM_CACHE, batch.ops);
    return ready;
}

void cache_read_ahead(struct cache *cache, const struct cache_want *wants, size_t count)
{
    while (count > 0) {
        size_t n = count < AHEAD_MAX ? count : AHEAD_MAX;

        if (n <= AHEAD_STACK || !run_large_batch(cache, wants, n)) {
            n = n < AHEAD_STACK ? n : AHEAD_STACK;
            run_small_batch(cache, wants, n);
        }
        wants += n;
        count -= n;
    }
    cache_trim(cache, 2, false);
}

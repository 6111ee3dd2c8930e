/* test_cache_threads.c - the buffer manager under several threads.
 *
 * Threads note what goes wrong in a variable; the main thread asserts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/thread.h"
#include "engine/io/cache.h"
#include "engine/io/cache_internal.h"
#include "test/unit/cache_fake_io.h"

enum { MIB = 1 << 20, FILES = 3, THREADS = 4 };

struct fixture {
    struct fake_io io;
    struct fake_file files[FILES];
    struct cache *cache;
    struct cache_file *cf[FILES];
    uint64_t mem_before;
};

static struct fixture *set_up(uint64_t size)
{
    struct fixture *t = test_calloc(1, sizeof *t);

    t->mem_before = adb_mem_used(ADB_MEM_CACHE);
    assert_true(fake_io_init(&t->io));
    assert_int_equal(cache_create(MIB, &t->cache), ARMDB_OK);
    for (uint32_t i = 0; i < FILES; i++) {
        fake_file_init(&t->io, &t->files[i], i + 1, size);
        assert_int_equal(cache_file_create(t->cache, &t->files[i].file, "some-file",
                                           UINT64_C(1) << 20, &t->cf[i]),
                         ARMDB_OK);
    }
    return t;
}

static void close_cache(struct fixture *t)
{
    assert_null(cache_check(t->cache));
    for (int i = 0; i < FILES; i++)
        cache_file_destroy(t->cf[i]);
    assert_null(cache_check(t->cache));
    cache_destroy(t->cache);
}

static void check_memory(struct fixture *t)
{
    assert_int_equal(adb_mem_used(ADB_MEM_CACHE), t->mem_before);
    fake_io_fini(&t->io);
    test_free(t);
}

static void tear_down(struct fixture *t)
{
    close_cache(t);
    check_memory(t);
}

static struct cache_stats stats_of(struct fixture *t)
{
    struct cache_stats stats;

    cache_get_stats(t->cache, &stats);
    return stats;
}

/* Until that many pins have come and found nothing: one of them reads, the others
 * are asleep or about to be, under the same lock. */
static void wait_for_misses(struct fixture *t, uint64_t count)
{
    while (stats_of(t).misses < count)
        adb_cpu_relax();
}

/* ---- Waiting for one page ------------------------------------------------------ */

struct pinner {
    struct fixture *t;
    struct adb_thread thread;
    uint64_t page_no;
    bool large;
    _Atomic unsigned *verified;
    enum armdb_rc verdict;
    /* Results. */
    enum armdb_rc rc;
    struct armdb_error err;
    const unsigned char *p;
    void *owner;
};

static enum armdb_rc verify_value(void *arg, const unsigned char *bytes, uint64_t len,
                                  struct armdb_error *err)
{
    struct pinner *pinner = arg;

    (void)atomic_fetch_add(pinner->verified, 1);
    if (pinner->verdict != ARMDB_OK)
        return ADB_FAIL(pinner->verdict, err, "verify says no");
    return fake_is(1, pinner->page_no * CACHE_PAGE_BYTES, bytes, len) ? ARMDB_OK
                                                                      : ARMDB_CORRUPT;
}

static void run_pinner(void *arg)
{
    struct pinner *p = arg;

    if (p->large)
        p->rc = cache_large_pin(p->t->cf[0], p->page_no * CACHE_PAGE_BYTES, 50000,
                                verify_value, p, &p->p, &p->owner, &p->err);
    else
        p->rc = cache_pin(p->t->cf[0], p->page_no, &p->p, &p->err);
}

/* Four threads ask for one missing thing while the gate is closed. */
static void start_pinners(struct fixture *t, struct pinner *pinners, bool large,
                          _Atomic unsigned *verified, enum armdb_rc verdict)
{
    uint64_t misses = stats_of(t).misses;

    memset(pinners, 0, THREADS * sizeof *pinners);
    fake_gate(&t->io, true);
    for (int i = 0; i < THREADS; i++) {
        pinners[i].t = t;
        pinners[i].page_no = 5;
        pinners[i].large = large;
        pinners[i].verified = verified;
        pinners[i].verdict = verdict;
        assert_int_equal(adb_thread_start(&pinners[i].thread, run_pinner, &pinners[i]),
                         ARMDB_OK);
    }
    wait_for_misses(t, misses + THREADS);
    fake_gate(&t->io, false);
    for (int i = 0; i < THREADS; i++)
        adb_thread_join(&pinners[i].thread);
}

static void a_missing_page_is_read_once_for_all_who_ask(void **state)
{
    struct fixture *t = set_up(UINT64_C(64) * MIB);
    struct pinner pinners[THREADS];

    (void)state;
    start_pinners(t, pinners, false, NULL, ARMDB_OK);
    assert_int_equal(t->io.submits, 1);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pinners[i].rc, ARMDB_OK);
        assert_true(fake_page_is(&t->files[0], 5, pinners[i].p));
        cache_unpin(pinners[i].p);
    }
    assert_int_equal(stats_of(t).pages_pinned, 0);
    tear_down(t);
}

static void a_failed_read_gives_its_error_to_all_who_wait(void **state)
{
    struct fixture *t = set_up(UINT64_C(64) * MIB);
    struct pinner pinners[THREADS];
    const unsigned char *p;

    (void)state;
    fake_fail(&t->files[0], 0, UINT64_MAX, 1, EIO);
    start_pinners(t, pinners, false, NULL, ARMDB_OK);
    assert_int_equal(t->io.submits, 1);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pinners[i].rc, ARMDB_IO);
        assert_int_equal(pinners[i].err.sys_errno, EIO);
        assert_string_equal(pinners[i].err.text, pinners[0].err.text);
        assert_null(pinners[i].p);
    }
    assert_null(cache_pin_cached(t->cf[0], 5));
    assert_int_equal(cache_pin(t->cf[0], 5, &p, NULL), ARMDB_OK);
    cache_unpin(p);
    tear_down(t);
}

static void a_large_value_is_read_and_verified_once_for_all_who_ask(void **state)
{
    struct fixture *t = set_up(UINT64_C(64) * MIB);
    struct pinner pinners[THREADS];
    _Atomic unsigned verified = 0;

    (void)state;
    start_pinners(t, pinners, true, &verified, ARMDB_OK);
    assert_int_equal(t->io.submits, 1);
    assert_int_equal(verified, 1);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pinners[i].rc, ARMDB_OK);
        assert_ptr_equal(pinners[i].p, pinners[0].p);
    }
    for (int i = 0; i < THREADS; i++)
        cache_large_unpin(pinners[i].owner);
    tear_down(t);
}

static void a_large_value_that_fails_gives_its_error_to_all_who_wait(void **state)
{
    struct fixture *t = set_up(UINT64_C(64) * MIB);
    struct pinner pinners[THREADS];
    _Atomic unsigned verified = 0;

    (void)state;
    start_pinners(t, pinners, true, &verified, ARMDB_CORRUPT);
    assert_int_equal(verified, 1);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pinners[i].rc, ARMDB_CORRUPT);
        assert_string_equal(pinners[i].err.text, "verify says no");
        assert_null(pinners[i].owner);
    }
    assert_int_equal(stats_of(t).large_bytes, 0);
    tear_down(t);
}

/* ---- Meeting a page that is being read -------------------------------------------- */

struct meeting {
    struct fixture *t;
    struct adb_thread reader, other;
    unsigned char *dirty;
    enum armdb_rc rc;
    _Atomic bool done;
};

static void run_ahead(void *arg)
{
    struct meeting *m = arg;
    struct cache_want wants[3] = {{m->t->cf[0], 8}, {m->t->cf[0], 9}, {m->t->cf[0], 10}};

    cache_read_ahead(m->t->cache, wants, 3);
}

static void run_dirty(void *arg)
{
    struct meeting *m = arg;

    m->rc = cache_dirty(m->t->cf[0], 9, &m->dirty);
}

static void run_discard(void *arg)
{
    struct meeting *m = arg;

    cache_pages_discard(m->t->cf[0], 8, 3);
    atomic_store(&m->done, true);
}

static void run_pin_9(void *arg)
{
    struct meeting *m = arg;
    const unsigned char *p;

    m->rc = cache_pin(m->t->cf[0], 9, &p, NULL);
    if (m->rc == ARMDB_OK) {
        atomic_store(&m->done, fake_page_is(&m->t->files[0], 9, p));
        cache_unpin(p);
    }
}

static bool has_waiter(struct fixture *t)
{
    bool found;

    adb_mutex_lock(&t->cache->lock);
    found = t->cache->locked.waiters != NULL;
    adb_mutex_unlock(&t->cache->lock);
    return found;
}

/* While a read-ahead of pages 8 to 10 is held up, somebody else comes. */
static void meet(struct meeting *m, struct fixture *t, void (*other)(void *))
{
    memset(m, 0, sizeof *m);
    m->t = t;
    fake_gate(&t->io, true);
    assert_int_equal(adb_thread_start(&m->reader, run_ahead, m), ARMDB_OK);
    fake_wait_at_gate(&t->io, 1);
    assert_null(cache_pin_cached(t->cf[0], 9)); /* never a page half read */
    assert_int_equal(adb_thread_start(&m->other, other, m), ARMDB_OK);
    while (!has_waiter(t))
        adb_cpu_relax();
    fake_gate(&t->io, false);
    adb_thread_join(&m->reader);
    adb_thread_join(&m->other);
}

static void an_appender_waits_for_a_page_that_is_being_read(void **state)
{
    struct fixture *t = set_up(UINT64_C(64) * MIB);
    struct meeting m;

    (void)state;
    meet(&m, t, run_dirty);
    assert_int_equal(m.rc, ARMDB_OK);
    assert_true(fake_page_is(&t->files[0], 9, m.dirty));
    assert_int_equal(stats_of(t).dirty_bytes, 4096);
    assert_int_equal(stats_of(t).pages_pinned, 0);
    cache_pages_written(t->cf[0], 9, 1);
    tear_down(t);
}

static void an_appender_gets_zeros_when_that_read_fails(void **state)
{
    struct fixture *t = set_up(UINT64_C(64) * MIB);
    struct meeting m;

    (void)state;
    fake_fail(&t->files[0], 0, UINT64_MAX, 1, EIO);
    meet(&m, t, run_dirty);
    assert_int_equal(m.rc, ARMDB_OK);
    for (int i = 0; i < 4096; i++)
        assert_int_equal(m.dirty[i], 0);
    cache_pages_discard(t->cf[0], 9, 1);
    tear_down(t);
}

static void a_discard_waits_for_a_page_that_is_being_read(void **state)
{
    struct fixture *t = set_up(UINT64_C(64) * MIB);
    struct meeting m;

    (void)state;
    meet(&m, t, run_discard);
    assert_true(m.done);
    assert_null(cache_pin_cached(t->cf[0], 8));
    assert_null(cache_pin_cached(t->cf[0], 10));
    tear_down(t);
}

static void a_read_ahead_that_fails_makes_those_who_wait_read_for_themselves(void **state)
{
    struct fixture *t = set_up(UINT64_C(64) * MIB);
    struct meeting m;

    (void)state;
    fake_fail(&t->files[0], 8 * 4096, 9 * 4096, 1, EIO); /* a neighbour's failure */
    meet(&m, t, run_pin_9);
    assert_int_equal(m.rc, ARMDB_OK);
    assert_true(m.done);
    tear_down(t);
}

/* ---- Pins given back elsewhere ------------------------------------------------------
 */

enum { GIVEN = 400 };

struct giver {
    struct adb_thread thread;
    const unsigned char *pins[GIVEN];
    void *inner[GIVEN];
};

static void run_giver(void *arg)
{
    struct giver *g = arg;

    for (int i = 0; i < GIVEN; i++) {
        cache_unpin(g->pins[i]);
        if (g->inner[i] != NULL)
            cache_large_unpin_inner(g->inner[i]);
    }
}

static void pins_are_given_back_by_other_threads_while_the_cache_goes(void **state)
{
    (void)state;
    for (int round = 0; round < 10; round++) {
        struct fixture *t = set_up(UINT64_C(64) * MIB);
        struct giver *givers = test_calloc(THREADS, sizeof *givers);
        const unsigned char *bytes;
        void *owner;

        assert_int_equal(
            cache_large_pin(t->cf[1], 100, 20000, NULL, NULL, &bytes, &owner, NULL),
            ARMDB_OK);
        for (int i = 0; i < THREADS; i++) {
            for (uint64_t j = 0; j < GIVEN; j++) {
                assert_int_equal(cache_pin(t->cf[0], j, &givers[i].pins[j], NULL),
                                 ARMDB_OK);
                givers[i].inner[j] = (void *)(uintptr_t)(bytes + j % 7);
                assert_true(cache_large_pin_inner(owner, givers[i].inner[j]));
            }
        }
        cache_large_unpin(owner);
        for (int i = 0; i < THREADS; i++)
            assert_int_equal(adb_thread_start(&givers[i].thread, run_giver, &givers[i]),
                             ARMDB_OK);
        for (int i = 0; i < FILES; i++)
            cache_file_destroy(t->cf[i]);
        cache_destroy(t->cache);
        for (int i = 0; i < THREADS; i++)
            adb_thread_join(&givers[i].thread);
        test_free(givers);
        check_memory(t);
    }
}

/* ---- Stress ---------------------------------------------------------------------------
 */

enum {
    SEALED_PAGES = 900,
    RECORD_BYTES = 256,
    LOG_PAGES_MAX = 6000,
    STRESS_STEPS = 100000
};

/* Files 0 and 1 are sealed, file 2 is a log: an appender fills its pages record by
 * record, publishes how far it is, and writes them now and then. */
struct stress {
    struct fixture *t;
    uint64_t seed;
    _Atomic uint64_t published; /* bytes of the log that readers may look at */
    _Atomic uint64_t failures;
    _Atomic unsigned readers_left;
    _Atomic uint64_t steps; /* of all readers */
    struct adb_thread appender;
};

struct reader {
    struct stress *s;
    struct adb_thread thread;
    uint64_t seed;
    const unsigned char *held[8];
    uint64_t held_page[8];
    int held_file[8];
};

static void note_failure(struct stress *s, bool failed)
{
    if (failed)
        (void)atomic_fetch_add(&s->failures, 1);
}

static void read_sealed(struct reader *r)
{
    struct stress *s = r->s;
    uint64_t i = fake_random(&r->seed) % 8;
    uint64_t x = fake_random(&r->seed);

    if (r->held[i] != NULL) {
        note_failure(
            s, !fake_page_is(&s->t->files[r->held_file[i]], r->held_page[i], r->held[i]));
        cache_unpin(r->held[i]);
        r->held[i] = NULL;
        return;
    }
    r->held_file[i] = (int)(x % 2);
    r->held_page[i] = (x >> 8) % (x % 3 == 0 ? 40 : SEALED_PAGES);
    r->held[i] = cache_pin_cached(s->t->cf[r->held_file[i]], r->held_page[i]);
    if (r->held[i] == NULL)
        note_failure(s, cache_pin(s->t->cf[r->held_file[i]], r->held_page[i], &r->held[i],
                                  NULL) != ARMDB_OK);
    if (r->held[i] != NULL && !cache_verified(r->held[i])) {
        note_failure(
            s, !fake_page_is(&s->t->files[r->held_file[i]], r->held_page[i], r->held[i]));
        cache_set_verified(r->held[i]);
    }
}

/* One published record, near the end more often than not. */
static void read_log(struct reader *r)
{
    struct stress *s = r->s;
    uint64_t records =
        atomic_load_explicit(&s->published, memory_order_acquire) / RECORD_BYTES;
    uint64_t x = fake_random(&r->seed);
    uint64_t back = x % 4 == 0 ? (x >> 8) : (x >> 8) % 64;
    const unsigned char *p;
    uint64_t at;

    if (records == 0)
        return;
    at = (records - 1 - back % records) * RECORD_BYTES;
    if (cache_pin(s->t->cf[2], at / CACHE_PAGE_BYTES, &p, NULL) != ARMDB_OK) {
        note_failure(s, true);
        return;
    }
    note_failure(s, !fake_is(3, at, p + at % CACHE_PAGE_BYTES, RECORD_BYTES));
    cache_unpin(p + at % CACHE_PAGE_BYTES);
}

/* A large value of the log or of a sealed file. */
static void read_large(struct reader *r)
{
    struct stress *s = r->s;
    uint64_t log_bytes = atomic_load_explicit(&s->published, memory_order_acquire);
    uint64_t x = fake_random(&r->seed);
    int file = x % 2 && log_bytes > 30000 ? 2 : 0;
    uint64_t end = file == 2 ? log_bytes : SEALED_PAGES * CACHE_PAGE_BYTES;
    uint64_t len = 5000 + (x >> 32) % 20000;
    uint64_t at = (x >> 8) % (end - len);
    const unsigned char *bytes;
    void *owner;

    at -= at % 4096 % 1024 == 0 ? 0 : at % 65536;
    if (cache_large_pin(s->t->cf[file], at, len, NULL, NULL, &bytes, &owner, NULL) !=
        ARMDB_OK) {
        note_failure(s, true);
        return;
    }
    note_failure(s, !fake_is(file == 2 ? 3 : 1, at, bytes, len));
    if (x % 3 == 0 && cache_large_pin_inner(owner, bytes + 1)) {
        cache_large_unpin(owner);
        cache_large_unpin_inner((void *)(uintptr_t)(bytes + 1));
    } else {
        cache_large_unpin(owner);
    }
}

static void read_ahead(struct reader *r)
{
    struct cache_want wants[16];
    uint64_t x = fake_random(&r->seed);

    for (uint64_t i = 0; i < 16; i++)
        wants[i] = (struct cache_want){r->s->t->cf[x % 2], (x >> 8) % SEALED_PAGES + i};
    cache_read_ahead(r->s->t->cache, wants, 16);
}

static void run_reader(void *arg)
{
    struct reader *r = arg;

    for (int step = 0; step < STRESS_STEPS; step++) {
        uint64_t what = fake_random(&r->seed) % 100;

        (void)atomic_fetch_add_explicit(&r->s->steps, 1, memory_order_relaxed);
        if (what < 60)
            read_sealed(r);
        else if (what < 94)
            read_log(r);
        else if (what < 97)
            read_large(r);
        else
            read_ahead(r);
    }
    for (int i = 0; i < 8; i++)
        if (r->held[i] != NULL)
            cache_unpin(r->held[i]);
    (void)atomic_fetch_sub(&r->s->readers_left, 1);
}

/* "Writes" pages to the file: from the dirty frames, as a log does. */
static void write_log(struct stress *s, uint64_t first, uint64_t end)
{
    struct fake_file *file = &s->t->files[2];

    for (uint64_t page_no = first; page_no < end; page_no++) {
        const unsigned char *p = cache_dirty_find(s->t->cf[2], page_no);

        note_failure(s, !fake_page_is(file, page_no, p));
        memcpy(file->bytes + page_no * CACHE_PAGE_BYTES, p, CACHE_PAGE_BYTES);
    }
    atomic_store_explicit(&file->size, end * CACHE_PAGE_BYTES, memory_order_release);
    cache_pages_written(s->t->cf[2], first, end - first);
}

static void run_appender(void *arg)
{
    struct stress *s = arg;
    uint64_t seed = s->seed ^ 0xABCDEF;
    uint64_t tail = 0;
    uint64_t written = 0; /* pages */

    while (atomic_load(&s->readers_left) > 0 && tail < LOG_PAGES_MAX * CACHE_PAGE_BYTES) {
        unsigned char *p;

        if (cache_dirty(s->t->cf[2], tail / CACHE_PAGE_BYTES, &p) != ARMDB_OK) {
            note_failure(s, true);
            break;
        }
        fake_fill(3, tail, p + tail % CACHE_PAGE_BYTES, RECORD_BYTES);
        tail += RECORD_BYTES;
        atomic_store_explicit(&s->published, tail, memory_order_release);
        if (fake_random(&seed) % 2000 == 0) {
            write_log(s, written, tail / CACHE_PAGE_BYTES);
            written = tail / CACHE_PAGE_BYTES;
        }
        /* About as fast as the readers, so that they meet. */
        while (atomic_load(&s->readers_left) > 0 &&
               tail / RECORD_BYTES > atomic_load(&s->steps) / 4 + 100)
            adb_cpu_relax();
    }
}

static void readers_and_an_appender_always_see_the_right_bytes(void **state)
{
    struct stress *s = test_calloc(1, sizeof *s);
    struct reader readers[THREADS - 1];

    (void)state;
    s->t = set_up(SEALED_PAGES * CACHE_PAGE_BYTES + 16 * CACHE_PAGE_BYTES);
    s->t->files[2].size = 0;
    s->t->files[2].bytes = test_calloc(LOG_PAGES_MAX + 1, CACHE_PAGE_BYTES);
    s->seed = fake_seed();
    s->readers_left = THREADS - 1;
    print_message("SEED=%llu\n", (unsigned long long)s->seed);
    memset(readers, 0, sizeof readers);
    assert_int_equal(adb_thread_start(&s->appender, run_appender, s), ARMDB_OK);
    for (uint64_t i = 0; i < THREADS - 1; i++) {
        readers[i].s = s;
        readers[i].seed = s->seed + 77 * (i + 1);
        assert_int_equal(adb_thread_start(&readers[i].thread, run_reader, &readers[i]),
                         ARMDB_OK);
    }
    for (int i = 0; i < THREADS - 1; i++)
        adb_thread_join(&readers[i].thread);
    adb_thread_join(&s->appender);
    assert_int_equal(s->failures, 0);
    cache_pages_discard(s->t->cf[2], 0, UINT64_MAX);
    assert_in_range(stats_of(s->t).evictions, 1000, UINT32_MAX);
    assert_int_equal(stats_of(s->t).pages_pinned, 0);
    print_message("%llu hits, %llu misses, %llu evictions, %llu KiB used\n",
                  (unsigned long long)stats_of(s->t).hits,
                  (unsigned long long)stats_of(s->t).misses,
                  (unsigned long long)stats_of(s->t).evictions,
                  (unsigned long long)stats_of(s->t).used_bytes / 1024);
    test_free(s->t->files[2].bytes);
    tear_down(s->t);
    test_free(s);
}

/* ---- Files that come and go under readers of others -------------------- */

struct churn {
    struct fixture *t;
    struct adb_thread threads[THREADS];
    _Atomic uint64_t failures;
    _Atomic uint32_t next;
};

/* Frames, extents and their descriptions are handed on all the time: dirty pages
 * far over the budget, thrown away again, in a file that lives for a moment. */
static void run_churn(void *arg)
{
    struct churn *c = arg;
    uint32_t number = atomic_fetch_add(&c->next, 1) + 100;

    for (int round = 0; round < 12; round++) {
        struct fake_file file;
        struct cache_file *cf;
        const unsigned char *p[200];

        fake_file_init(&c->t->io, &file, number, 1000 * 4096);
        if (cache_file_create(c->t->cache, &file.file, "moment", 2000, &cf) != ARMDB_OK) {
            (void)atomic_fetch_add(&c->failures, 1);
            return;
        }
        for (uint64_t i = 0; i < 200; i++) {
            unsigned char *d;

            if (cache_pin(cf, i, &p[i], NULL) != ARMDB_OK ||
                cache_dirty(cf, 1000 + i, &d) != ARMDB_OK) {
                (void)atomic_fetch_add(&c->failures, 1);
                return;
            }
            fake_fill(number, (1000 + i) * 4096, d, 4096);
        }
        for (uint64_t i = 0; i < 200; i++)
            if (!fake_page_is(&file, 1000 + i, cache_dirty_find(cf, 1000 + i)))
                (void)atomic_fetch_add(&c->failures, 1);
        cache_pages_discard(cf, 1000, 200);
        cache_file_destroy(cf);
        for (uint64_t i = 0; i < 200; i++) {
            if (!fake_page_is(&file, i, p[i]))
                (void)atomic_fetch_add(&c->failures, 1);
            cache_unpin(p[i]);
        }
    }
}

static void extents_come_and_go_under_readers(void **state)
{
    struct churn c = {.t = set_up(UINT64_C(64) * MIB)};

    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(adb_thread_start(&c.threads[i], run_churn, &c), ARMDB_OK);
    for (int i = 0; i < THREADS; i++)
        adb_thread_join(&c.threads[i]);
    assert_int_equal(c.failures, 0);
    assert_int_equal(stats_of(c.t).pages_pinned, 0);
    tear_down(c.t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_page_is_read_once_for_all_who_ask),
        cmocka_unit_test(a_failed_read_gives_its_error_to_all_who_wait),
        cmocka_unit_test(a_large_value_is_read_and_verified_once_for_all_who_ask),
        cmocka_unit_test(a_large_value_that_fails_gives_its_error_to_all_who_wait),
        cmocka_unit_test(an_appender_waits_for_a_page_that_is_being_read),
        cmocka_unit_test(an_appender_gets_zeros_when_that_read_fails),
        cmocka_unit_test(a_discard_waits_for_a_page_that_is_being_read),
        cmocka_unit_test(
            a_read_ahead_that_fails_makes_those_who_wait_read_for_themselves),
        cmocka_unit_test(pins_are_given_back_by_other_threads_while_the_cache_goes),
        cmocka_unit_test(readers_and_an_appender_always_see_the_right_bytes),
        cmocka_unit_test(extents_come_and_go_under_readers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_cache.c - the buffer manager's pages, one thread at a time. */
#include "test/unit/cache_fixture.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- Reading ---------------------------------------------------------------- */

static void pin_reads_a_page_once_and_then_hits(void **state)
{
    struct fixture *t = set_up();
    const unsigned char *p;
    const unsigned char *q;

    (void)state;
    assert_null(cache_pin_cached(t->cf[0], 7));
    p = pin(t, 0, 7);
    q = cache_pin_cached(t->cf[0], 7);
    assert_ptr_equal(p, q);
    assert_int_equal(stats_of(t).pages_pinned, 1);
    cache_pin_again(p + 100);
    cache_unpin(p + 4095);
    cache_unpin(p);
    cache_unpin(q);
    assert_int_equal(stats_of(t).pages_pinned, 0);
    assert_int_equal(t->io.submits, 1);
    assert_int_equal(stats_of(t).hits, 1);
    assert_int_equal(stats_of(t).misses, 1);
    assert_int_equal(stats_of(t).pages_read, 1);
    tear_down(t);
}

static void hits_of_one_page_do_not_overflow(void **state)
{
    struct fixture *t = set_up();
    uint64_t many = (UINT64_C(1) << 32) - 5; /* as if it had been pinned so often */
    uint64_t hits = many;
    struct cache_frame *frame;

    (void)state;
    touch(t, 0, 7);
    frame = cache_frame_at(t->cache, atomic_load(cache_entry(t->cf[0], 7)));
    (void)atomic_fetch_add(&frame->state, many << 32);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(stats_of(t).hits, hits); /* asking takes nothing away */
        for (int i = 0; i < 10; i++, hits++)
            touch(t, 0, 7);
    }
    assert_int_equal(stats_of(t).hits, hits);
    cache_pages_discard(t->cf[0], 7, 1);
    assert_int_equal(stats_of(t).hits, hits);
    tear_down(t);
}

static void pages_of_one_number_in_two_files_differ(void **state)
{
    struct fixture *t = set_up();

    (void)state;
    for (uint64_t page_no = 0; page_no < 20; page_no++)
        for (int file = 0; file < FILES; file++)
            touch(t, file, page_no);
    for (uint64_t page_no = 0; page_no < 20; page_no++)
        for (int file = 0; file < FILES; file++)
            touch(t, file, page_no);
    assert_int_equal(t->io.submits, 20 * FILES);
    tear_down(t);
}

static void a_file_of_one_tebibyte_takes_no_memory_up_front(void **state)
{
    struct fixture *t = set_up();
    uint64_t before = adb_mem_used(ADB_MEM_CACHE);
    uint64_t pages = UINT64_C(1) << 28;
    struct fake_file file;
    struct cache_file *cf;
    const unsigned char *p;

    (void)state;
    fake_file_init(&t->io, &file, 9, pages * CACHE_PAGE_BYTES);
    assert_int_equal(cache_file_create(t->cache, &file.file, "big", pages, &cf),
                     ARMDB_OK);
    /* Address space only: one pointer for 16 MiB of the file. */
    assert_in_range(adb_mem_used(ADB_MEM_CACHE) - before, 1, MIB);
    assert_int_equal(cache_pin(cf, pages - 1, &p, NULL), ARMDB_OK);
    assert_true(fake_page_is(&file, pages - 1, p));
    cache_unpin(p);
    cache_file_destroy(cf);
    assert_int_equal(
        cache_file_create(t->cache, &file.file, "too big", UINT64_C(1) << 32, &cf),
        ARMDB_TOOBIG);
    tear_down(t);
}

static void check_short_file(bool direct)
{
    struct fixture *t = set_up_sized(MIB, 3 * 4096 + 100, direct);
    struct armdb_error err;
    const unsigned char *p;

    touch(t, 0, 2);
    assert_int_equal(cache_pin(t->cf[0], 3, &p, &err), ARMDB_OK);
    assert_true(fake_is(1, UINT64_C(3) * 4096, p, 100));
    for (int i = 100; i < 4096; i++)
        assert_int_equal(p[i], 0);
    cache_unpin(p);
    assert_int_equal(cache_pin(t->cf[0], 4, &p, &err), ARMDB_CORRUPT);
    assert_null(p);
    assert_non_null(strstr(err.text, "some-file"));
    assert_int_equal(cache_pin(t->cf[0], UINT64_C(1) << 40, &p, &err), ARMDB_CORRUPT);
    assert_null(cache_pin_cached(t->cf[0], UINT64_C(1) << 40));
    tear_down(t);
}

static void a_page_cut_short_by_the_end_of_the_file_ends_in_zeros(void **state)
{
    (void)state;
    check_short_file(false);
}

static void a_direct_file_is_read_aligned_up_to_its_end(void **state)
{
    (void)state;
    check_short_file(true);
}

static void a_failed_read_is_an_error_and_leaves_nothing(void **state)
{
    struct fixture *t = set_up();
    struct armdb_error err;
    const unsigned char *p;

    (void)state;
    fake_fail(&t->files[0], 5 * 4096, 6 * 4096, 2, EIO);
    for (int i = 0; i < 2; i++) {
        memset(&err, 0, sizeof err);
        assert_int_equal(cache_pin(t->cf[0], 5, &p, i == 0 ? &err : NULL), ARMDB_IO);
        assert_null(p);
        assert_false(is_cached(t, 0, 5));
        assert_null(cache_check(t->cache));
        if (i == 0)
            assert_int_equal(err.sys_errno, EIO);
    }
    touch(t, 0, 5);
    tear_down(t);
}

static void verified_bits_belong_to_granules_and_go_with_the_page(void **state)
{
    struct fixture *t = set_up();
    const unsigned char *p = pin(t, 0, 1);

    (void)state;
    for (int i = 0; i < 4096; i += 64)
        assert_false(cache_verified(p + i));
    cache_set_verified(p + 64 * 3 + 10);
    cache_set_verified(p + 4095);
    for (int i = 0; i < 64; i++)
        assert_int_equal(cache_verified(p + 64 * i + 63), i == 3 || i == 63);
    cache_unpin(p);
    for (uint64_t i = 0; i < 2000; i++)
        touch(t, 1, i);
    assert_false(is_cached(t, 0, 1));
    p = pin(t, 0, 1);
    assert_false(cache_verified(p + 64 * 3));
    cache_unpin(p);
    tear_down(t);
}

/* ---- Eviction ----------------------------------------------------------------- */

/* Loads a hot set, touches it once more, scans ten budgets touching each page
 * `burst` times, and counts what is left. */
static unsigned scan_over_hot_set(uint64_t hot, int burst, bool ahead)
{
    struct fixture *t = set_up_sized(4 * MIB, UINT64_C(64) * MIB, false);
    unsigned left = 0;

    for (int round = 0; round < 2; round++)
        for (uint64_t i = 0; i < hot; i++)
            touch(t, 0, i);
    for (uint64_t i = 0; i < UINT64_C(10) * 1024; i++) {
        if (ahead && i % 32 == 0) {
            struct cache_want wants[32];

            for (uint64_t j = 0; j < 32; j++)
                wants[j] = (struct cache_want){t->cf[1], i + j};
            cache_read_ahead(t->cache, wants, 32);
        }
        for (int j = 0; j < burst; j++)
            touch(t, 1, i);
    }
    for (uint64_t i = 0; i < hot; i++)
        left += is_cached(t, 0, i);
    assert_in_range(stats_of(t).used_bytes, 1, 4 * MIB);
    tear_down(t);
    return left;
}

static void a_scan_of_ten_budgets_leaves_the_hot_pages(void **state)
{
    (void)state;
    assert_in_range(scan_over_hot_set(100, 1, false), 80, 100);
    assert_in_range(scan_over_hot_set(500, 1, false), 400, 500);
    assert_in_range(scan_over_hot_set(900, 1, false), 720, 900);
}

static void a_scan_that_touches_pages_often_leaves_the_hot_pages(void **state)
{
    (void)state;
    assert_in_range(scan_over_hot_set(500, 30, false), 400, 500);
}

static void a_scan_with_read_ahead_leaves_the_hot_pages(void **state)
{
    (void)state;
    assert_in_range(scan_over_hot_set(500, 30, true), 400, 500);
}

static void what_was_hot_once_makes_room_in_the_end(void **state)
{
    struct fixture *t = set_up();
    unsigned cached = 0;

    (void)state;
    for (int round = 0; round < 3; round++)
        for (uint64_t i = 0; i < 200; i++)
            touch(t, 0, i);
    for (int round = 0; round < 12; round++)
        for (uint64_t i = 0; i < 200; i++)
            touch(t, 1, i);
    for (uint64_t i = 0; i < 200; i++)
        cached += is_cached(t, 1, i);
    assert_in_range(cached, 150, 200);
    tear_down(t);
}

static void pinned_pages_stay_and_may_exceed_the_budget(void **state)
{
    enum { PAGES = 6000 }; /* 23 MiB in extents of 256 KiB: the directory grows */
    struct fixture *t = set_up();
    const unsigned char **pins = test_malloc(PAGES * sizeof *pins);

    (void)state;
    for (uint64_t i = 0; i < PAGES; i++)
        pins[i] = pin(t, 0, i);
    assert_int_equal(stats_of(t).pages_pinned, PAGES);
    for (uint64_t i = 0; i < PAGES; i++) {
        assert_ptr_equal(cache_pin_cached(t->cf[0], i), pins[i]);
        assert_true(fake_page_is(&t->files[0], i, pins[i]));
        cache_unpin(pins[i]);
        cache_unpin(pins[i]);
    }
    assert_null(cache_check(t->cache));
    for (uint64_t i = 0; i < 2000; i++)
        touch(t, 1, i);
    assert_in_range(stats_of(t).used_bytes, 1, MIB);
    test_free(pins);
    tear_down(t);
}

/* ---- Dirty pages ---------------------------------------------------------------- */

static void a_dirty_page_begins_with_zeros_verified_and_stays(void **state)
{
    struct fixture *t = set_up();
    unsigned char *p;

    (void)state;
    for (uint64_t i = 0; i < 600; i++)
        touch(t, 1, i); /* frames that were used before */
    p = dirty(t, 0, 3);
    for (int i = 0; i < 4096; i++)
        assert_int_equal(p[i], 0);
    assert_true(cache_verified(p) && cache_verified(p + 4095));
    p[17] = 42;
    for (uint64_t i = 0; i < 600; i++)
        touch(t, 1, i);
    assert_ptr_equal(dirty(t, 0, 3), p);
    assert_ptr_equal(cache_dirty_find(t->cf[0], 3), p);
    assert_ptr_equal(cache_pin_cached(t->cf[0], 3), p);
    assert_int_equal(p[17], 42);
    cache_unpin(p);
    assert_int_equal(stats_of(t).dirty_bytes, 4096);
    cache_pages_written(t->cf[0], 3, 1);
    assert_int_equal(stats_of(t).dirty_bytes, 0);
    tear_down(t);
}

static void a_written_page_is_clean_keeps_its_bytes_and_can_be_evicted(void **state)
{
    struct fixture *t = set_up();
    const unsigned char *p;

    (void)state;
    for (uint64_t i = 0; i < 8; i++)
        fill_dirty(t, 0, i);
    p = cache_pin_cached(t->cf[0], 2); /* a reader, while it is written */
    cache_pages_written(t->cf[0], 0, 8);
    assert_int_equal(stats_of(t).dirty_bytes, 0);
    for (uint64_t i = 0; i < 8; i++)
        assert_true(is_cached(t, 0, i));
    touch(t, 0, 2);
    assert_int_equal(t->io.submits, 0);
    for (uint64_t i = 0; i < 2000; i++)
        touch(t, 1, i);
    for (uint64_t i = 0; i < 8; i++)
        assert_int_equal(is_cached(t, 0, i), i == 2);
    cache_unpin(p);
    tear_down(t);
}

static void a_clean_page_in_memory_becomes_dirty_with_its_bytes(void **state)
{
    struct fixture *t = set_up();
    const unsigned char *p = pin(t, 0, 9);

    (void)state;
    cache_set_verified(p + 64);
    assert_ptr_equal(dirty(t, 0, 9), p);
    assert_true(fake_page_is(&t->files[0], 9, p));
    assert_false(cache_verified(p)); /* it came from the disk */
    assert_true(cache_verified(p + 64));
    assert_int_equal(stats_of(t).dirty_bytes, 4096);
    cache_unpin(p);
    for (uint64_t i = 0; i < 2000; i++)
        touch(t, 1, i);
    assert_ptr_equal(cache_dirty_find(t->cf[0], 9), p);
    cache_pages_written(t->cf[0], 9, 1);
    tear_down(t);
}

static void dirty_pages_exceed_the_budget_and_shrink_back_when_written(void **state)
{
    enum { PAGES = 3000 };
    struct fixture *t = set_up();

    (void)state;
    for (uint64_t i = 0; i < PAGES; i++)
        fill_dirty(t, 0, i);
    assert_in_range(stats_of(t).used_bytes, PAGES * 4096, PAGES * 4096 + MIB);
    for (uint64_t i = 0; i < PAGES; i++)
        assert_true(fake_page_is(&t->files[0], i, cache_dirty_find(t->cf[0], i)));
    cache_pages_written(t->cf[0], 0, PAGES - 1); /* the tail stays dirty */
    assert_null(cache_check(t->cache));
    assert_in_range(stats_of(t).used_bytes, 1, MIB);
    assert_int_equal(stats_of(t).dirty_bytes, 4096);
    for (uint64_t i = 0; i < PAGES; i++)
        touch(t, 0, i);
    cache_pages_written(t->cf[0], PAGES - 1, 1);
    tear_down(t);
}

static void dirty_pages_written_one_by_one_shrink_back_too(void **state)
{
    struct fixture *t = set_up();

    (void)state;
    for (uint64_t i = 0; i < 2000; i++)
        fill_dirty(t, 0, i);
    for (uint64_t i = 0; i < 2000; i++)
        cache_pages_written(t->cf[0], i, 1);
    assert_in_range(stats_of(t).used_bytes, 1, MIB);
    tear_down(t);
}

static void discarded_pages_are_gone_but_pins_on_them_hold(void **state)
{
    struct fixture *t = set_up();
    const unsigned char *p;
    unsigned char *q;

    (void)state;
    for (uint64_t i = 0; i < 5; i++)
        fill_dirty(t, 0, i);
    touch(t, 0, 6);
    p = cache_pin_cached(t->cf[0], 2);
    cache_pages_discard(t->cf[0], 1, 6);
    for (uint64_t i = 0; i < 7; i++)
        assert_int_equal(is_cached(t, 0, i), i == 0);
    assert_int_equal(stats_of(t).dirty_bytes, 4096);
    q = dirty(t, 0, 2); /* the page anew, in another frame */
    assert_ptr_not_equal(q, p);
    assert_int_equal(q[0], 0);
    cache_pin_again(p);
    assert_true(fake_page_is(&t->files[0], 2, p));
    cache_unpin(p);
    assert_true(fake_page_is(&t->files[0], 2, p));
    cache_unpin(p);
    assert_null(cache_check(t->cache));
    cache_pages_discard(t->cf[0], 0, UINT64_MAX);
    cache_pages_discard(t->cf[0], UINT64_MAX, 1);
    assert_int_equal(stats_of(t).dirty_bytes, 0);
    tear_down(t);
}

/* ---- Read-ahead ----------------------------------------------------------------- */

static void read_ahead_merges_neighbours_into_one_batch(void **state)
{
    static const uint64_t pages[] = {12, 3, 11, 4, 40, 10, 5, 4, 3};
    struct fixture *t = set_up();
    struct cache_want wants[10];

    (void)state;
    for (int i = 0; i < 9; i++)
        wants[i] = (struct cache_want){t->cf[0], pages[i]};
    wants[9] = (struct cache_want){t->cf[1], 13};
    touch(t, 0, 40);
    cache_read_ahead(t->cache, wants, 10);
    assert_int_equal(t->io.submits, 2);
    assert_int_equal(t->io.ops, 1 + 3); /* 3 to 5, 10 to 12, and file 1's 13 */
    assert_int_equal(stats_of(t).pages_read, 1 + 7);
    assert_int_equal(stats_of(t).pages_pinned, 0);
    for (int i = 0; i < 9; i++)
        touch(t, 0, pages[i]);
    touch(t, 1, 13);
    assert_int_equal(t->io.submits, 2);
    assert_int_equal(stats_of(t).misses, 1);
    tear_down(t);
}

static void read_ahead_of_many_pages_is_one_batch(void **state)
{
    struct fixture *t = set_up();
    struct cache_want wants[200];

    (void)state;
    for (uint64_t i = 0; i < 200; i++)
        wants[i] = (struct cache_want){t->cf[0], (i * 77) % 200};
    cache_read_ahead(t->cache, wants, 200);
    assert_int_equal(t->io.submits, 1);
    assert_int_equal(t->io.ops, 4); /* runs are at most 64 pages long */
    for (uint64_t i = 0; i < 200; i++)
        touch(t, 0, i);
    assert_int_equal(t->io.submits, 1);
    tear_down(t);
}

static void read_ahead_swallows_errors_which_pin_meets_again(void **state)
{
    struct fixture *t = set_up_sized(MIB, 10 * 4096 + 5, false);
    struct cache_want wants[6];
    const unsigned char *p;

    (void)state;
    for (uint64_t i = 0; i < 6; i++)
        wants[i] =
            (struct cache_want){t->cf[0], 7 + i}; /* 10 is short, 11 past the end */
    wants[0].page_no = UINT64_MAX;
    cache_read_ahead(t->cache, wants, 6);
    assert_null(cache_check(t->cache));
    assert_int_equal(stats_of(t).pages_pinned, 0);
    assert_int_equal(stats_of(t).pages_read, 3); /* the run's end costs its own page */
    touch(t, 0, 8);
    touch(t, 0, 9);
    assert_int_equal(cache_pin(t->cf[0], 10, &p, NULL), ARMDB_OK);
    cache_unpin(p);
    assert_int_equal(cache_pin(t->cf[0], 11, &p, NULL), ARMDB_CORRUPT);
    fake_fail(&t->files[0], 0, 4096, 1, EIO);
    wants[0].page_no = 0;
    cache_read_ahead(t->cache, wants, 1);
    touch(t, 0, 0);
    tear_down(t);
}

static void read_ahead_takes_no_frame_over_the_budget(void **state)
{
    struct fixture *t = set_up();
    struct cache_want wants[64];

    (void)state;
    for (uint64_t i = 0; i < 252; i++)
        (void)dirty(t, 0, i);
    for (uint64_t i = 0; i < 64; i++)
        wants[i] = (struct cache_want){t->cf[1], i};
    cache_read_ahead(t->cache, wants, 64);
    assert_int_equal(t->io.submits, 0);
    assert_int_equal(stats_of(t).used_bytes, MIB);
    cache_pages_discard(t->cf[0], 0, 252);
    tear_down(t);
}

/* ---- Going away with pins out ------------------------------------------------------ */

static void pins_outlive_file_and_cache(void **state)
{
    struct fixture *t = set_up();
    const unsigned char *p = pin(t, 0, 1);
    const unsigned char *q = pin(t, 0, 2);

    (void)state;
    cache_pin_again(p);
    tear_down_objects(t);
    assert_true(fake_page_is(&t->files[0], 1, p));
    cache_unpin(p);
    assert_true(fake_page_is(&t->files[0], 1, p));
    cache_unpin(p);
    assert_true(fake_page_is(&t->files[0], 2, q));
    cache_pin_again(q);
    cache_unpin(q);
    cache_unpin(q);
    check_memory(t);
}

static void a_new_file_does_not_see_pages_of_the_one_before(void **state)
{
    struct fixture *t = set_up();
    const unsigned char *p = pin(t, 0, 1);

    (void)state;
    cache_file_destroy(t->cf[0]);
    t->files[0].number = 77;
    assert_int_equal(
        cache_file_create(t->cache, &t->files[0].file, "new", 100, &t->cf[0]), ARMDB_OK);
    assert_null(cache_pin_cached(t->cf[0], 1));
    touch(t, 0, 1);
    assert_true(fake_is(1, 4096, p, 4096));
    cache_unpin(p);
    assert_null(cache_check(t->cache));
    tear_down(t);
}

/* ---- Out of memory ----------------------------------------------------- */

/* Everything once, with a code for whatever failed. */
static enum armdb_rc use_everything(struct fake_io *io, struct fake_file *file)
{
    struct cache *cache = NULL;
    struct cache_file *cf = NULL;
    struct cache_want wants[100];
    const unsigned char *p;
    const unsigned char *bytes;
    unsigned char *d;
    void *owner;
    enum armdb_rc rc = cache_create(MIB, &cache);

    (void)io;
    if (rc == ARMDB_OK)
        rc = cache_file_create(cache, &file->file, "f", 1 << 16, &cf);
    for (uint64_t i = 0; rc == ARMDB_OK && i < 70; i++) {
        rc = cache_pin(cf, i * 4096 % 9000, &p, NULL);
        if (rc == ARMDB_OK)
            cache_unpin(p);
    }
    for (uint64_t i = 0; rc == ARMDB_OK && i < 600; i++)
        rc = cache_dirty(cf, 20000 + i, &d);
    if (rc == ARMDB_OK) {
        cache_pages_written(cf, 20000, 600);
        for (uint64_t i = 0; i < 100; i++)
            wants[i] = (struct cache_want){cf, i * 2};
        cache_read_ahead(cache, wants, 100); /* swallows its failures */
        rc = cache_large_pin(cf, 1234, 2 * MIB, NULL, NULL, &bytes, &owner, NULL);
    }
    if (rc == ARMDB_OK) {
        if (cache_large_pin_inner(owner, bytes))
            cache_large_unpin_inner((void *)(uintptr_t)bytes);
        else
            rc = ARMDB_NOMEM;
        cache_large_unpin(owner);
    }
    if (cf != NULL) {
        cache_pages_discard(cf, 0, UINT64_MAX);
        if (rc == ARMDB_OK || rc == ARMDB_NOMEM)
            rc = cache_check(cache) == NULL ? rc : ARMDB_INTERNAL;
    }
    cache_file_destroy(cf);
    cache_destroy(cache);
    return rc;
}

static void running_out_of_memory_anywhere_leaves_no_trace(void **state)
{
    uint64_t before = adb_mem_used(ADB_MEM_CACHE);
    struct fake_io io;
    struct fake_file file;
    bool done = false;
    uint64_t failures = 0;

    (void)state;
    assert_true(fake_io_init(&io));
    fake_file_init(&io, &file, 1, UINT64_C(256) * MIB);
    (void)adb_mem_failures();
    for (int sticky = 0; sticky < 2; sticky++) {
        done = false;
        for (uint64_t n = 1; !done; n++) {
            enum armdb_rc rc;

            adb_mem_fail_at(n, sticky == 1);
            rc = use_everything(&io, &file);
            adb_mem_fail_at(0, false);
            done = adb_mem_failures() == 0;
            failures += !done;
            assert_true(rc == ARMDB_OK || (rc == ARMDB_NOMEM && !done));
            assert_int_equal(adb_mem_used(ADB_MEM_CACHE), before);
        }
    }
    assert_in_range(failures, 20, 1000);
    fake_io_fini(&io);
}

static void without_memory_for_more_frames_the_old_ones_serve(void **state)
{
    struct fixture *t = set_up();
    unsigned char *d;

    (void)state;
    touch(t, 0, 0);
    adb_mem_fail_at(1, true);
    for (uint64_t i = 0; i < 500; i++)
        touch(t, 0, i);
    for (uint64_t i = 0; i < 63; i++)
        assert_int_equal(cache_dirty(t->cf[0], 1000 + i, &d), ARMDB_OK);
    assert_int_equal(cache_dirty(t->cf[0], 2000, &d), ARMDB_NOMEM);
    assert_null(d);
    adb_mem_fail_at(0, false);
    assert_null(cache_check(t->cache));
    cache_pages_discard(t->cf[0], 0, UINT64_MAX);
    tear_down(t);
}

/* ---- Random operations against a model --------------------------------- */

enum { MODEL_PAGES = 700, MODEL_PINS = 150 };

struct model {
    struct fixture *t;
    uint64_t seed;
    uint64_t tail;       /* file 2: pages below are filled */
    uint64_t clean_upto; /* and these written */
    const unsigned char *pins[MODEL_PINS];
    uint64_t pin_at[MODEL_PINS]; /* file * 2^32 + page */
};

static void model_pin(struct model *m)
{
    uint64_t slot = fake_random(&m->seed) % MODEL_PINS;
    uint64_t file = fake_random(&m->seed) % FILES;
    uint64_t page_no = fake_random(&m->seed) % (file == 2 ? m->tail + 1 : MODEL_PAGES);

    if (m->pins[slot] != NULL) {
        uint64_t at = m->pin_at[slot];

        assert_true(fake_page_is(&m->t->files[at >> 32], at & UINT32_MAX, m->pins[slot]));
        cache_unpin(m->pins[slot]);
        m->pins[slot] = NULL;
    } else if (file != 2 || page_no < m->tail) {
        m->pins[slot] = pin(m->t, (int)file, page_no);
        m->pin_at[slot] = (file << 32) | page_no;
    }
}

static void model_append(struct model *m)
{
    if (fake_random(&m->seed) % 3 != 0 && m->tail < 5000) {
        fill_dirty(m->t, 2, m->tail++);
        atomic_store(&m->t->files[2].size, m->tail * CACHE_PAGE_BYTES);
    } else if (fake_random(&m->seed) % 40 == 0) {
        cache_pages_written(m->t->cf[2], m->clean_upto, m->tail - m->clean_upto);
        m->clean_upto = m->tail;
    }
}

static void model_large(struct model *m)
{
    uint64_t at = fake_random(&m->seed) % (MODEL_PAGES * 4096);
    uint64_t len = 1 + fake_random(&m->seed) % 40000;
    const unsigned char *bytes;

    at -= fake_random(&m->seed) % 2 ? 0 : at % 65536;
    cache_large_unpin(pin_large(m->t, at, len, &bytes));
}

static void model_ahead(struct model *m)
{
    struct cache_want wants[20];

    for (int i = 0; i < 20; i++)
        wants[i] = (struct cache_want){m->t->cf[fake_random(&m->seed) % 2],
                                       fake_random(&m->seed) % MODEL_PAGES};
    cache_read_ahead(m->t->cache, wants, 20);
}

static void random_operations_keep_every_invariant(void **state)
{
    struct model m = {.t = set_up(), .seed = fake_seed()};

    (void)state;
    print_message("SEED=%llu\n", (unsigned long long)m.seed);
    for (int step = 0; step < 20000; step++) {
        uint64_t what = fake_random(&m.seed) % 100;

        if (what < 70)
            model_pin(&m);
        else if (what < 96)
            model_append(&m);
        else if (what < 98)
            model_large(&m);
        else
            model_ahead(&m);
        if (step % 100 == 0)
            assert_null(cache_check(m.t->cache));
    }
    for (int i = 0; i < MODEL_PINS; i++)
        if (m.pins[i] != NULL)
            cache_unpin(m.pins[i]);
    cache_pages_discard(m.t->cf[2], 0, UINT64_MAX);
    tear_down(m.t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pin_reads_a_page_once_and_then_hits),
        cmocka_unit_test(hits_of_one_page_do_not_overflow),
        cmocka_unit_test(pages_of_one_number_in_two_files_differ),
        cmocka_unit_test(a_file_of_one_tebibyte_takes_no_memory_up_front),
        cmocka_unit_test(a_page_cut_short_by_the_end_of_the_file_ends_in_zeros),
        cmocka_unit_test(a_direct_file_is_read_aligned_up_to_its_end),
        cmocka_unit_test(a_failed_read_is_an_error_and_leaves_nothing),
        cmocka_unit_test(verified_bits_belong_to_granules_and_go_with_the_page),
        cmocka_unit_test(a_scan_of_ten_budgets_leaves_the_hot_pages),
        cmocka_unit_test(a_scan_that_touches_pages_often_leaves_the_hot_pages),
        cmocka_unit_test(a_scan_with_read_ahead_leaves_the_hot_pages),
        cmocka_unit_test(what_was_hot_once_makes_room_in_the_end),
        cmocka_unit_test(pinned_pages_stay_and_may_exceed_the_budget),
        cmocka_unit_test(a_dirty_page_begins_with_zeros_verified_and_stays),
        cmocka_unit_test(a_written_page_is_clean_keeps_its_bytes_and_can_be_evicted),
        cmocka_unit_test(a_clean_page_in_memory_becomes_dirty_with_its_bytes),
        cmocka_unit_test(dirty_pages_exceed_the_budget_and_shrink_back_when_written),
        cmocka_unit_test(dirty_pages_written_one_by_one_shrink_back_too),
        cmocka_unit_test(discarded_pages_are_gone_but_pins_on_them_hold),
        cmocka_unit_test(read_ahead_merges_neighbours_into_one_batch),
        cmocka_unit_test(read_ahead_of_many_pages_is_one_batch),
        cmocka_unit_test(read_ahead_swallows_errors_which_pin_meets_again),
        cmocka_unit_test(read_ahead_takes_no_frame_over_the_budget),
        cmocka_unit_test(pins_outlive_file_and_cache),
        cmocka_unit_test(a_new_file_does_not_see_pages_of_the_one_before),
        cmocka_unit_test(running_out_of_memory_anywhere_leaves_no_trace),
        cmocka_unit_test(without_memory_for_more_frames_the_old_ones_serve),
        cmocka_unit_test(random_operations_keep_every_invariant),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_cache_engines.c - the buffer manager over the real I/O engines: files that are
 * cut short in the middle of a page, buffered and direct. */
#define _DEFAULT_SOURCE /* mkdtemp */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants those four first. */
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "engine/io/cache.h"
#include "engine/io/cache_internal.h"
#include "engine/io/io.h"
#include "test/unit/cache_fake_io.h"

enum { PAGES = 40, CUT_BYTES = 100, FILE_BYTES = PAGES * CACHE_PAGE_BYTES + CUT_BYTES };

static void write_file(struct adb_dir *dir, unsigned flags, struct adb_file **file)
{
    const struct adb_io_ops *ops = dir->io->ops;
    size_t bytes = (PAGES + 1) * CACHE_PAGE_BYTES;
    unsigned char *p = adb_map(ADB_MEM_MISC, bytes, CACHE_PAGE_BYTES, false);

    assert_non_null(p);
    fake_fill(1, 0, p, bytes);
    assert_int_equal(ops->file_open(dir, "file", flags, file, NULL), ARMDB_OK);
    assert_int_equal(adb_file_write(*file, "file", p, bytes, 0, NULL), ARMDB_OK);
    assert_int_equal(ops->file_truncate(*file, FILE_BYTES, NULL), ARMDB_OK);
    adb_unmap(ADB_MEM_MISC, p, bytes);
}

static void check_pages(struct cache_file *cf)
{
    struct armdb_error err;
    const unsigned char *p;

    for (uint64_t page_no = 0; page_no <= PAGES; page_no++) {
        size_t have = page_no < PAGES ? CACHE_PAGE_BYTES : CUT_BYTES;

        if (cache_pin(cf, page_no, &p, &err) != ARMDB_OK)
            fail_msg("page %u: %s", (unsigned)page_no, err.text);
        assert_true(fake_is(1, page_no * CACHE_PAGE_BYTES, p, have));
        for (size_t i = have; i < CACHE_PAGE_BYTES; i++)
            assert_int_equal(p[i], 0);
        cache_unpin(p);
    }
    assert_int_equal(cache_pin(cf, PAGES + 1, &p, &err), ARMDB_CORRUPT);
}

/* From the middle of a page to the last byte of the file. */
static void check_large(struct cache_file *cf)
{
    struct armdb_error err;
    const unsigned char *bytes;
    void *owner;
    uint64_t at = 5 * CACHE_PAGE_BYTES + 77;

    if (cache_large_pin(cf, at, FILE_BYTES - at, NULL, NULL, &bytes, &owner, &err) !=
        ARMDB_OK)
        fail_msg("large: %s", err.text);
    assert_true(fake_is(1, at, bytes, FILE_BYTES - at));
    cache_large_unpin(owner);
}

/* One byte more than the file has. */
static void check_large_past_end(struct cache_file *cf)
{
    struct armdb_error err;
    const unsigned char *bytes;
    void *owner;

    assert_int_equal(
        cache_large_pin(cf, 77, FILE_BYTES - 77 + 1, NULL, NULL, &bytes, &owner, &err),
        ARMDB_CORRUPT);
}

static void check_file(struct adb_file *file)
{
    struct cache_want wants[PAGES];
    struct cache *cache;
    struct cache_file *cf;

    for (int ahead = 0; ahead < 2; ahead++) {
        assert_int_equal(cache_create(1 << 20, &cache), ARMDB_OK);
        assert_int_equal(cache_file_create(cache, file, "file", PAGES * 2, &cf),
                         ARMDB_OK);
        check_large(cf);
        check_large_past_end(cf);
        if (ahead == 1) {
            for (uint64_t i = 0; i < PAGES; i++)
                wants[i] = (struct cache_want){cf, i / 2 * 2 + 2};
            cache_read_ahead(cache, wants, PAGES);
        }
        check_pages(cf);
        check_large(cf);
        assert_null(cache_check(cache));
        cache_file_destroy(cf);
        cache_destroy(cache);
    }
}

static void check_engine(enum armdb_rc (*create)(struct adb_io **, struct armdb_error *))
{
    static const unsigned flags[] = {0, ADB_OPEN_DIRECT};
    const char *root = getenv("TMPDIR");
    uint64_t before = adb_mem_used(ADB_MEM_CACHE);
    struct armdb_error err;
    struct adb_io *io;
    char path[256];

    if (create(&io, &err) != ARMDB_OK)
        skip(); /* no rings here */
    for (int i = 0; i < 2; i++) {
        struct adb_dir *dir;
        struct adb_file *file;

        (void)snprintf(path, sizeof path, "%s/test_cache_engines-XXXXXX",
                       root != NULL ? root : "/tmp");
        assert_non_null(mkdtemp(path));
        assert_int_equal(io->ops->dir_open(io, path, true, &dir, &err), ARMDB_OK);
        write_file(dir, ADB_OPEN_WRITE | ADB_OPEN_CREATE | flags[i], &file);
        check_file(file);
        io->ops->file_close(file);
        assert_int_equal(io->ops->dir_unlink(dir, "file", &err), ARMDB_OK);
        io->ops->dir_close(dir);
        (void)rmdir(path);
    }
    io->ops->destroy(io);
    assert_int_equal(adb_mem_used(ADB_MEM_CACHE), before);
}

static void files_cut_short_read_right_through_system_calls(void **state)
{
    (void)state;
    check_engine(adb_io_plain_create);
}

static void files_cut_short_read_right_through_io_uring(void **state)
{
    (void)state;
    check_engine(adb_io_uring_create);
}

static void files_cut_short_read_right_in_memory(void **state)
{
    (void)state;
    check_engine(adb_io_mem_create);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_cut_short_read_right_through_system_calls),
        cmocka_unit_test(files_cut_short_read_right_through_io_uring),
        cmocka_unit_test(files_cut_short_read_right_in_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

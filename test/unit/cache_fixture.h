/* cache_fixture.h - a cache of three fake files, and what its tests do with it. */
#ifndef ADB_TEST_UNIT_CACHE_FIXTURE_H
#define ADB_TEST_UNIT_CACHE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants those four first. */
#include <cmocka.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/io/cache.h"
#include "engine/io/cache_internal.h"
#include "test/unit/cache_fake_io.h"

enum { MIB = 1 << 20, FILES = 3 };

/* A cache of 1 MiB: 4 extents of 63 frames. */
struct fixture {
    struct fake_io io;
    struct fake_file files[FILES];
    struct cache *cache;
    struct cache_file *cf[FILES];
    uint64_t mem_before;
};

static inline struct fixture *set_up_sized(uint64_t budget, uint64_t size, bool direct)
{
    struct fixture *t = test_calloc(1, sizeof *t);

    t->mem_before = adb_mem_used(ADB_MEM_CACHE);
    assert_true(fake_io_init(&t->io));
    assert_int_equal(cache_create(budget, &t->cache), ARMDB_OK);
    for (uint32_t i = 0; i < FILES; i++) {
        fake_file_init(&t->io, &t->files[i], i + 1, size);
        t->files[i].direct = direct;
        assert_int_equal(cache_file_create(t->cache, &t->files[i].file, "some-file",
                                           UINT64_C(1) << 20, &t->cf[i]),
                         ARMDB_OK);
    }
    return t;
}

static inline struct fixture *set_up(void)
{
    return set_up_sized(MIB, UINT64_C(64) * MIB, false);
}

/* The files and the cache go; what is pinned stays. */
static inline void tear_down_objects(struct fixture *t)
{
    assert_null(cache_check(t->cache));
    assert_false(t->io.misaligned);
    for (int i = 0; i < FILES; i++)
        cache_file_destroy(t->cf[i]);
    assert_null(cache_check(t->cache));
    cache_destroy(t->cache);
}

static inline void check_memory(struct fixture *t)
{
    assert_int_equal(adb_mem_used(ADB_MEM_CACHE), t->mem_before);
    fake_io_fini(&t->io);
    test_free(t);
}

static inline void tear_down(struct fixture *t)
{
    tear_down_objects(t);
    check_memory(t);
}

static inline struct cache_stats stats_of(struct fixture *t)
{
    struct cache_stats stats;

    cache_get_stats(t->cache, &stats);
    return stats;
}

static inline const unsigned char *pin(struct fixture *t, int file, uint64_t page_no)
{
    const unsigned char *p;

    assert_int_equal(cache_pin(t->cf[file], page_no, &p, NULL), ARMDB_OK);
    assert_true(fake_page_is(&t->files[file], page_no, p));
    return p;
}

static inline void touch(struct fixture *t, int file, uint64_t page_no)
{
    cache_unpin(pin(t, file, page_no));
}

/* Looks without touching. */
static inline bool is_cached(struct fixture *t, int file, uint64_t page_no)
{
    _Atomic uint32_t *entry = cache_entry(t->cf[file], page_no);

    return entry != NULL && cache_id_of(atomic_load(entry)) != 0;
}

static inline unsigned char *dirty(struct fixture *t, int file, uint64_t page_no)
{
    unsigned char *p;

    assert_int_equal(cache_dirty(t->cf[file], page_no, &p), ARMDB_OK);
    return p;
}

static inline void fill_dirty(struct fixture *t, int file, uint64_t page_no)
{
    fake_fill(t->files[file].number, page_no * CACHE_PAGE_BYTES, dirty(t, file, page_no),
              CACHE_PAGE_BYTES);
}

struct verdict {
    unsigned calls;
    enum armdb_rc rc;
    uint64_t at;
    uint32_t number;
};

static inline enum armdb_rc verify_bytes(void *arg, const unsigned char *bytes,
                                         uint64_t len, struct armdb_error *err)
{
    struct verdict *v = arg;

    v->calls++;
    if (v->rc != ARMDB_OK)
        return ADB_FAIL(v->rc, err, "verify says no");
    return fake_is(v->number, v->at, bytes, len) ? ARMDB_OK : ARMDB_CORRUPT;
}

static inline void *pin_large(struct fixture *t, uint64_t at, uint64_t len,
                              const unsigned char **bytes)
{
    struct verdict v = {.at = at, .number = 1};
    struct armdb_error err;
    void *owner;

    err.text[0] = 0;
    if (cache_large_pin(t->cf[0], at, len, verify_bytes, &v, bytes, &owner, &err) !=
        ARMDB_OK)
        fail_msg("large pin: %s", err.text);
    assert_in_range(v.calls, 0, 1);
    assert_true(fake_is(1, at, *bytes, len));
    return owner;
}

#endif

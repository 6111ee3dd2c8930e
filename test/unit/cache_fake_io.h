/* cache_fake_io.h - files for the tests of the cache.
 *
 * A fake file either computes its bytes from its number and the position (a file of
 * any size without memory) or keeps what it is given. Reads can be counted, made to
 * fail, and held up at a gate. Only what the cache calls is there. */
#ifndef ADB_TEST_UNIT_CACHE_FAKE_IO_H
#define ADB_TEST_UNIT_CACHE_FAKE_IO_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/thread.h"
#include "engine/io/cache.h"
#include "engine/io/io.h"

struct fake_io {
    struct adb_io io;
    struct adb_mutex lock; /* the gate */
    struct adb_cond changed;
    bool gate_closed;
    unsigned waiting; /* submits at the gate */
    _Atomic uint64_t submits, ops, iovecs, bytes_read;
    _Atomic bool misaligned; /* a direct file was read at an odd place */
    _Atomic uint64_t delay_ns;
};

struct fake_file {
    struct adb_file file;
    uint32_t number;
    bool direct;
    _Atomic uint64_t size;
    unsigned char *bytes; /* NULL: computed */
    /* Reads that touch [fail_from, fail_to) fail, `fail_count` times. */
    uint64_t fail_from, fail_to;
    _Atomic int64_t fail_count;
    int fail_errno;
};

/* The eight bytes at a multiple of eight: tell files, pages and places apart. */
static inline uint64_t fake_word(uint32_t number, uint64_t at)
{
    uint64_t x = (at / 8 + ((uint64_t)number << 48)) * UINT64_C(0x9E3779B97F4A7C15);

    return x ^ (x >> 29);
}

/* Walks over [at, at + n) word by word; `p` is filled, or compared. */
static inline bool fake_walk(uint32_t number, uint64_t at, unsigned char *fill,
                             const unsigned char *compare, size_t n)
{
    size_t done = 0;

    while (done < n) {
        uint64_t word = fake_word(number, at + done);
        size_t skip = (size_t)((at + done) % 8);
        size_t part = 8 - skip < n - done ? 8 - skip : n - done;

        if (fill != NULL)
            memcpy(fill + done, (unsigned char *)&word + skip, part);
        else if (memcmp(compare + done, (unsigned char *)&word + skip, part) != 0)
            return false;
        done += part;
    }
    return true;
}

static inline void fake_fill(uint32_t number, uint64_t at, unsigned char *p, size_t n)
{
    (void)fake_walk(number, at, p, NULL, n);
}

static inline bool fake_is(uint32_t number, uint64_t at, const unsigned char *p, size_t n)
{
    return fake_walk(number, at, NULL, p, n);
}

static inline bool fake_page_is(const struct fake_file *f, uint64_t page_no,
                                const unsigned char *p)
{
    return fake_is(f->number, page_no * CACHE_PAGE_BYTES, p, CACHE_PAGE_BYTES);
}

static bool fake_should_fail(struct fake_file *f, uint64_t from, uint64_t to)
{
    return from < f->fail_to && to > f->fail_from &&
           atomic_load_explicit(&f->fail_count, memory_order_relaxed) > 0 &&
           atomic_fetch_sub_explicit(&f->fail_count, 1, memory_order_relaxed) > 0;
}

static void fake_read(struct fake_io *io, struct adb_io_op *op)
{
    struct fake_file *f = (struct fake_file *)op->file;
    uint64_t size = atomic_load_explicit(&f->size, memory_order_acquire);
    uint64_t at = op->offset;

    for (uint32_t i = 0; i < op->iov_count; i++) {
        unsigned char *p = op->iov[i].iov_base;
        uint64_t n = op->iov[i].iov_len;
        uint64_t have = at >= size ? 0 : size - at < n ? size - at : n;

        if (f->direct && ((uintptr_t)p % 4096 != 0 || n % 4096 != 0 || at % 4096 != 0))
            atomic_store_explicit(&io->misaligned, true, memory_order_relaxed);
        if (fake_should_fail(f, at, at + n)) {
            memset(p, 0xEE, n); /* what a failed read leaves behind */
            op->sys_errno = f->fail_errno;
            return;
        }
        if (f->bytes != NULL && have > 0)
            memcpy(p, f->bytes + at, have);
        else
            fake_fill(f->number, at, p, have);
        (void)atomic_fetch_add_explicit(&io->bytes_read, have, memory_order_relaxed);
        (void)atomic_fetch_add_explicit(&io->iovecs, 1, memory_order_relaxed);
        if (have < n) {
            op->sys_errno = ENODATA;
            return;
        }
        at += n;
    }
    op->sys_errno = 0;
}

static void fake_pass_gate(struct fake_io *io)
{
    uint64_t delay = atomic_load_explicit(&io->delay_ns, memory_order_relaxed);
    uint64_t until = adb_mono_ns() + delay;

    adb_mutex_lock(&io->lock);
    io->waiting++;
    adb_cond_broadcast(&io->changed);
    while (io->gate_closed)
        adb_cond_wait(&io->changed, &io->lock);
    if (delay > 0)
        while (adb_cond_wait_until(&io->changed, &io->lock, until))
            continue;
    io->waiting--;
    adb_mutex_unlock(&io->lock);
}

static void fake_submit(struct adb_io *base, struct adb_io_op *ops, size_t count)
{
    struct fake_io *io = (struct fake_io *)base;

    (void)atomic_fetch_add_explicit(&io->submits, 1, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&io->ops, count, memory_order_relaxed);
    fake_pass_gate(io);
    for (size_t i = 0; i < count; i++)
        fake_read(io, &ops[i]);
}

static enum armdb_rc fake_size(struct adb_file *file, uint64_t *bytes,
                               struct armdb_error *err)
{
    (void)err;
    *bytes =
        atomic_load_explicit(&((struct fake_file *)file)->size, memory_order_acquire);
    return ARMDB_OK;
}

static bool fake_is_direct(struct adb_file *file)
{
    return ((struct fake_file *)file)->direct;
}

static const struct adb_io_ops fake_ops = {
    .name = "fake",
    .file_size = fake_size,
    .file_is_direct = fake_is_direct,
    .submit = fake_submit,
};

static inline bool fake_io_init(struct fake_io *io)
{
    memset(io, 0, sizeof *io);
    io->io.ops = &fake_ops;
    return adb_mutex_init(&io->lock, ADB_RANK_IO) == ARMDB_OK &&
           adb_cond_init(&io->changed) == ARMDB_OK;
}

static inline void fake_io_fini(struct fake_io *io)
{
    adb_cond_fini(&io->changed);
    adb_mutex_fini(&io->lock);
}

static inline void fake_gate(struct fake_io *io, bool closed)
{
    adb_mutex_lock(&io->lock);
    io->gate_closed = closed;
    adb_cond_broadcast(&io->changed);
    adb_mutex_unlock(&io->lock);
}

/* Waits until `count` submits stand at the gate. */
static inline void fake_wait_at_gate(struct fake_io *io, unsigned count)
{
    adb_mutex_lock(&io->lock);
    while (io->waiting < count)
        adb_cond_wait(&io->changed, &io->lock);
    adb_mutex_unlock(&io->lock);
}

static inline void fake_file_init(struct fake_io *io, struct fake_file *f,
                                  uint32_t number, uint64_t size)
{
    memset(f, 0, sizeof *f);
    f->file.io = &io->io;
    f->number = number;
    f->size = size;
}

static inline void fake_fail(struct fake_file *f, uint64_t from, uint64_t to,
                             int64_t count, int sys_errno)
{
    f->fail_from = from;
    f->fail_to = to;
    f->fail_errno = sys_errno;
    atomic_store_explicit(&f->fail_count, count, memory_order_relaxed);
}

/* xorshift64*: good enough to shuffle with. */
static inline uint64_t fake_random(uint64_t *state)
{
    uint64_t x = *state;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * UINT64_C(0x2545F4914F6CDD1D);
}

static inline uint64_t fake_seed(void)
{
    const char *text = getenv("SEED");
    uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : adb_mono_ns();

    return seed == 0 ? 1 : seed;
}

#endif

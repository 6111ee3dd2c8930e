/* mem.c - counted allocation.
 *
 * A block carries its size in a 16-byte header before the pointer that is
 * handed out, so that freeing can be counted without asking the C library.
 * Counters are relaxed atomics, one cache line per part: they are statistics,
 * ordered with nothing. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS, madvise */
#include "engine/base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HEADER_BYTES = 16, PAGE_BYTES = 4096 };

struct part_counter {
    _Alignas(64) _Atomic uint64_t bytes;
};

static struct part_counter counters[ADB_MEM_PARTS];
static _Atomic uint64_t fail_countdown; /* 0 = off */
static _Atomic bool fail_sticky;
static _Atomic uint64_t fail_count;

static void count_add(enum adb_mem_part part, uint64_t bytes)
{
    (void)atomic_fetch_add_explicit(&counters[part].bytes, bytes, memory_order_relaxed);
}

static void count_sub(enum adb_mem_part part, uint64_t bytes)
{
    (void)atomic_fetch_sub_explicit(&counters[part].bytes, bytes, memory_order_relaxed);
}

/* True when this allocation is the one that a test wants to fail. */
static bool injected_failure(void)
{
    uint64_t left = atomic_load_explicit(&fail_countdown, memory_order_relaxed);

    if (left == 0)
        return false;
    while (left > 1) {
        if (atomic_compare_exchange_weak_explicit(&fail_countdown, &left, left - 1,
                                                  memory_order_relaxed,
                                                  memory_order_relaxed))
            return false;
        if (left == 0)
            return false;
    }
    if (!atomic_load_explicit(&fail_sticky, memory_order_relaxed))
        atomic_store_explicit(&fail_countdown, 0, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&fail_count, 1, memory_order_relaxed);
    return true;
}

void adb_mem_fail_at(uint64_t n, bool sticky)
{
    atomic_store_explicit(&fail_sticky, sticky, memory_order_relaxed);
    atomic_store_explicit(&fail_countdown, n, memory_order_relaxed);
}

uint64_t adb_mem_failures(void)
{
    return atomic_exchange_explicit(&fail_count, 0, memory_order_relaxed);
}

void *adb_alloc(enum adb_mem_part part, size_t bytes)
{
    unsigned char *block;
    uint64_t size = bytes;

    if (bytes > SIZE_MAX - HEADER_BYTES || injected_failure())
        return NULL;
    block = malloc(bytes + HEADER_BYTES);
    if (block == NULL)
        return NULL;
    memcpy(block, &size, sizeof size);
    count_add(part, size);
    return block + HEADER_BYTES;
}

void *adb_alloc_zero(enum adb_mem_part part, size_t bytes)
{
    void *p = adb_alloc(part, bytes);

    if (p != NULL)
        memset(p, 0, bytes);
    return p;
}

void *adb_realloc(enum adb_mem_part part, void *p, size_t bytes)
{
    unsigned char *block;
    uint64_t old_size;
    uint64_t size = bytes;

    if (p == NULL)
        return adb_alloc(part, bytes);
    if (bytes > SIZE_MAX - HEADER_BYTES || injected_failure())
        return NULL;
    block = (unsigned char *)p - HEADER_BYTES;
    memcpy(&old_size, block, sizeof old_size);
    block = realloc(block, bytes + HEADER_BYTES);
    if (block == NULL)
        return NULL;
    memcpy(block, &size, sizeof size);
    count_add(part, size);
    count_sub(part, old_size);
    return block + HEADER_BYTES;
}

void adb_free(enum adb_mem_part part, void *p)
{
    unsigned char *block;
    uint64_t size;

    if (p == NULL)
        return;
    block = (unsigned char *)p - HEADER_BYTES;
    memcpy(&size, block, sizeof size);
    count_sub(part, size);
    free(block);
}

/* The size lies in the 16 bytes before an aligned block too, so one alignment
 * unit is spent on it. */
void *adb_alloc_aligned(enum adb_mem_part part, size_t bytes, size_t alignment)
{
    unsigned char *raw;
    unsigned char *p;
    uint64_t size = bytes;

    if (bytes > SIZE_MAX - alignment - HEADER_BYTES || injected_failure())
        return NULL;
    raw = malloc(bytes + alignment + HEADER_BYTES);
    if (raw == NULL)
        return NULL;
    p = raw + HEADER_BYTES;
    p += (alignment - (uintptr_t)p % alignment) % alignment;
    memcpy(p - 8, &raw, sizeof raw);
    memcpy(p - 16, &size, sizeof size);
    count_add(part, size);
    return p;
}

void adb_free_aligned(enum adb_mem_part part, void *p)
{
    unsigned char *raw;
    uint64_t size;

    if (p == NULL)
        return;
    memcpy(&raw, (unsigned char *)p - 8, sizeof raw);
    memcpy(&size, (unsigned char *)p - 16, sizeof size);
    count_sub(part, size);
    free(raw);
}

void *adb_map(enum adb_mem_part part, size_t bytes, size_t alignment, bool huge)
{
    size_t size = (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
    size_t span = alignment > PAGE_BYTES ? size + alignment : size;
    unsigned char *base;
    size_t head;

    if (bytes == 0 || span < bytes || injected_failure())
        return NULL;
    base = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return NULL;
    head = (alignment - (uintptr_t)base % alignment) % alignment;
    if (head > 0)
        (void)munmap(base, head);
    if (span - head > size)
        (void)munmap(base + head + size, span - head - size);
    if (huge)
        (void)madvise(base + head, size, MADV_HUGEPAGE);
    count_add(part, size);
    return base + head;
}

void adb_unmap(enum adb_mem_part part, void *p, size_t bytes)
{
    size_t size = (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);

    if (p == NULL)
        return;
    count_sub(part, size);
    (void)munmap(p, size);
}

uint64_t adb_mem_used(enum adb_mem_part part)
{
    return atomic_load_explicit(&counters[part].bytes, memory_order_relaxed);
}

uint64_t adb_mem_used_total(void)
{
    uint64_t sum = 0;

    for (int part = 0; part < ADB_MEM_PARTS; part++)
        sum += adb_mem_used((enum adb_mem_part)part);
    return sum;
}

/* mem_watch.h - how much memory the engine asks for at most.
 *
 * For programs linked with -Wl,--wrap for each function of engine/base/mem.h that takes
 * memory (MEM_WATCH_FLAGS in the Makefile): every demand passes here. Included by one
 * file of a program. */
#ifndef TEST_FUZZ_MEM_WATCH_H
#define TEST_FUZZ_MEM_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/mem.h"

static uint64_t mem_watch_peak;    /* bytes in use at once */
static uint64_t mem_watch_largest; /* one demand */
static void (*mem_watch_notify)(void);

void *__real_adb_alloc(enum adb_mem_part part, size_t bytes);
void *__real_adb_alloc_zero(enum adb_mem_part part, size_t bytes);
void *__real_adb_realloc(enum adb_mem_part part, void *p, size_t bytes);
void *__real_adb_alloc_aligned(enum adb_mem_part part, size_t bytes, size_t alignment);
void *__real_adb_map(enum adb_mem_part part, size_t bytes, size_t alignment, bool huge);
void *__wrap_adb_alloc(enum adb_mem_part part, size_t bytes);
void *__wrap_adb_alloc_zero(enum adb_mem_part part, size_t bytes);
void *__wrap_adb_realloc(enum adb_mem_part part, void *p, size_t bytes);
void *__wrap_adb_alloc_aligned(enum adb_mem_part part, size_t bytes, size_t alignment);
void *__wrap_adb_map(enum adb_mem_part part, size_t bytes, size_t alignment, bool huge);

static inline void mem_watch_reset(void)
{
    mem_watch_peak = adb_mem_used_total();
    mem_watch_largest = 0;
}

static inline void mem_watch_note(uint64_t bytes)
{
    uint64_t used = adb_mem_used_total();

    if (bytes > mem_watch_largest)
        mem_watch_largest = bytes;
    if (used > mem_watch_peak)
        mem_watch_peak = used;
    if (mem_watch_notify != NULL)
        mem_watch_notify();
}

void *__wrap_adb_alloc(enum adb_mem_part part, size_t bytes)
{
    void *p = __real_adb_alloc(part, bytes);

    mem_watch_note(bytes);
    return p;
}

void *__wrap_adb_alloc_zero(enum adb_mem_part part, size_t bytes)
{
    void *p = __real_adb_alloc_zero(part, bytes);

    mem_watch_note(bytes);
    return p;
}

void *__wrap_adb_realloc(enum adb_mem_part part, void *p, size_t bytes)
{
    void *grown = __real_adb_realloc(part, p, bytes);

    mem_watch_note(bytes);
    return grown;
}

void *__wrap_adb_alloc_aligned(enum adb_mem_part part, size_t bytes, size_t alignment)
{
    void *p = __real_adb_alloc_aligned(part, bytes, alignment);

    mem_watch_note(bytes);
    return p;
}

void *__wrap_adb_map(enum adb_mem_part part, size_t bytes, size_t alignment, bool huge)
{
    void *p = __real_adb_map(part, bytes, alignment, huge);

    mem_watch_note(bytes);
    return p;
}

#endif

/* mem.h - the one allocator: counted by part, with injectable failure.
 *
 * Every byte the engine takes is counted under the part that uses it, so that
 * armdb_stat can say where memory goes and tests can prove that nothing leaks.
 * Only mem.c calls malloc, free, mmap and munmap. Layer 0. */
#ifndef ADB_ENGINE_BASE_MEM_H
#define ADB_ENGINE_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Who uses the memory. */
enum adb_mem_part {
    ADB_MEM_MISC,  /* stores, tables, sessions, small things */
    ADB_MEM_NODES, /* index nodes and out-of-line versions */
    ADB_MEM_HASH,  /* hash map partitions */
    ADB_MEM_ORDER, /* leaves and inner blocks of the order index */
    ADB_MEM_CACHE, /* page frames, their headers, large values */
    ADB_MEM_LOG,   /* segments, shards, manifest, recovery */
    ADB_MEM_TXN,   /* write sets and staged records */
    ADB_MEM_IO,    /* I/O engines, rings, bounce buffers, memory files */
    ADB_MEM_PARTS  /* count */
};

/* Heap memory, aligned to 16 bytes. NULL when it cannot be had; size 0 gives a
 * valid pointer. Free with adb_free() of the same part. Thread-safe. */
void *adb_alloc(enum adb_mem_part part, size_t bytes);
void *adb_alloc_zero(enum adb_mem_part part, size_t bytes);
/* p may be NULL. On failure NULL is returned and p stays valid. */
void *adb_realloc(enum adb_mem_part part, void *p, size_t bytes);
void adb_free(enum adb_mem_part part, void *p); /* NULL is allowed */

/* Cache-line (64-byte) aligned heap memory; free with adb_free_aligned(). */
void *adb_alloc_aligned(enum adb_mem_part part, size_t bytes, size_t alignment);
void adb_free_aligned(enum adb_mem_part part, void *p);

/* Anonymous zeroed pages from the system, aligned to `alignment` (a power of
 * two, >= 4096), huge pages asked for when `huge`. Free with adb_unmap() and the
 * same byte count. NULL when they cannot be had. */
void *adb_map(enum adb_mem_part part, size_t bytes, size_t alignment, bool huge);
void adb_unmap(enum adb_mem_part part, void *p, size_t bytes);

/* Bytes in use now by a part (of the whole process). */
uint64_t adb_mem_used(enum adb_mem_part part);
uint64_t adb_mem_used_total(void);

/* Tests: the n-th allocation from now on fails (1 = the next), and, when
 * `sticky`, every later one too. n = 0 switches injection off. Returns nothing;
 * adb_mem_failures() counts the failures injected since the last call. */
void adb_mem_fail_at(uint64_t n, bool sticky);
uint64_t adb_mem_failures(void);

#endif

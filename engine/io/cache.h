/* cache.h - the buffer manager: every log page that is in memory.
 *
 * Memory comes in extents of 4 MiB (aligned to 4 MiB, huge pages asked for), taken
 * as needed up to a byte budget, cut into frames of 4 KiB; the first frame of an
 * extent holds its header, so that a frame and its cache are found from any address
 * inside it. A frame holds one page of one cache_file and is dirty (filled by an
 * appender, not yet written), clean, or free. Each cache_file has an array from
 * page number to frame, so that a hit is one array access and one pin, without a
 * lock. Eviction is CLOCK with a probation bit (a page touched once by a scan goes
 * first) and takes no dirty or pinned frame. Large values (records over one page)
 * pass by the frames into buffers of their own, which count against the same
 * budget and are found by (file, offset).
 * Layer 1, above io.h; knows nothing of frames and records of the log. */
#ifndef ADB_ENGINE_IO_CACHE_H
#define ADB_ENGINE_IO_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/rc.h"
#include "engine/io/io.h"

enum { CACHE_PAGE_BYTES = 4096 };

struct cache;
struct cache_file; /* one segment's pages */

/* `budget_bytes` >= 1 MiB; nothing is taken yet. */
enum armdb_rc cache_create(uint64_t budget_bytes, struct cache **out) ADB_MUST_CHECK;
/* All cache_files must be destroyed. Pins still out keep the memory alive: the last
 * unpin frees it. */
void cache_destroy(struct cache *cache);

/* Registers a file. `name` is for error texts (copied, up to 63 bytes). The file is
 * borrowed until cache_file_destroy(). `pages_max` bounds page numbers. */
enum armdb_rc cache_file_create(struct cache *cache, struct adb_file *file,
                                const char *name, uint64_t pages_max,
                                struct cache_file **out) ADB_MUST_CHECK;
/* Nobody may be inside a call on it, and no dirty page may be left; pinned pages
 * leave the table and are freed by their last unpin. */
void cache_file_destroy(struct cache_file *cf);

/* ---- Appending: dirty pages (one appender per file at a time) --------------- */

/* Gives page `page_no` as a dirty frame: the one that holds it, or a new zeroed
 * one. A dirty frame stays where it is until cache_pages_written(). May go over
 * the budget when everything else is dirty or pinned. Errors: ARMDB_NOMEM. */
enum armdb_rc cache_dirty(struct cache_file *cf, uint64_t page_no,
                          unsigned char **p) ADB_MUST_CHECK;
/* The frame of a page known to be dirty, for building the write's iovec. */
unsigned char *cache_dirty_find(struct cache_file *cf, uint64_t page_no);
/* The pages [first, first + count) have been written and are clean now. The
 * last page of a log stays dirty when more will be appended to it: leave it out. */
void cache_pages_written(struct cache_file *cf, uint64_t first, uint64_t count);
/* Throws pages [first, first + count) away, dirty or not (a write that failed). */
void cache_pages_discard(struct cache_file *cf, uint64_t first, uint64_t count);

/* ---- Reading ---------------------------------------------------------------- */

/* Pins the page if it is in memory; NULL if not. Lock-free. */
const unsigned char *cache_pin_cached(struct cache_file *cf, uint64_t page_no);
/* Pins the page, reading it first when needed. Concurrent readers of one missing
 * page read it once. Errors: ARMDB_IO, ARMDB_NOMEM, ARMDB_CORRUPT (past the end). */
enum armdb_rc cache_pin(struct cache_file *cf, uint64_t page_no, const unsigned char **p,
                        struct armdb_error *err) ADB_MUST_CHECK;
/* Brings `bytes` bytes at offset `at` of the page, and what a pin needs, towards the
 * processor if the page is in memory. Gives the address of that offset, only to be
 * prefetched around, never to be read; 0 when the page is not in memory. Takes no pin;
 * lock-free. */
uintptr_t cache_prefetch(struct cache_file *cf, uint64_t page_no, uint32_t at,
                         uint32_t bytes);
static inline void cache_prefetch_bytes(uintptr_t from, uint32_t bytes)
{
    for (uintptr_t p = from & ~(uintptr_t)63; p < from + bytes; p += 64)
        __builtin_prefetch((const void *)p);
}
/* The same for what cache_prefetch() itself looks at: called for many pages before it,
 * so that the misses overlap. */
void cache_prefetch_entry(struct cache_file *cf, uint64_t page_no);
/* Brings pages into memory with one batch of reads; a hint: errors and lack of
 * frames are swallowed here and met again by cache_pin(). */
struct cache_want {
    struct cache_file *cf;
    uint64_t page_no;
};
void cache_read_ahead(struct cache *cache, const struct cache_want *wants, size_t count);
/* One more pin for a page already pinned by the caller; any address inside it. */
void cache_pin_again(const void *inside);
/* Gives a pin back; any address inside the page, any thread, also after
 * cache_destroy(). */
void cache_unpin(const void *inside);

/* "Record starting in this 64-byte granule has been verified" bits of a pinned
 * page. Set by readers after checking, implied for pages filled by cache_dirty().
 * Relaxed: a lost bit costs one more check. */
bool cache_verified(const void *inside);
void cache_set_verified(const void *inside);

/* ---- Large values ----------------------------------------------------------- */

/* A buffer of `len` bytes holding bytes [offset, offset + len) of the file, pinned.
 * `verify(arg, bytes, len)` is called once when the bytes come in (from dirty or
 * cached pages, or the file) and not on a hit; its code is returned when it fails
 * and nothing is kept. Errors also: ARMDB_IO, ARMDB_NOMEM, ARMDB_CORRUPT. */
enum armdb_rc cache_large_pin(struct cache_file *cf, uint64_t offset, uint64_t len,
                              enum armdb_rc (*verify)(void *arg,
                                                      const unsigned char *bytes,
                                                      uint64_t len,
                                                      struct armdb_error *err),
                              void *arg, const unsigned char **bytes, void **owner,
                              struct armdb_error *err) ADB_MUST_CHECK;
void cache_large_unpin(void *owner);
/* A pin to be given back by an address inside the buffer: registers `inner` (as often
 * as it is called) so that cache_large_unpin_inner(inner) finds its buffer.
 * False when memory for the entry cannot be had. */
bool cache_large_pin_inner(void *owner, const void *inner);
void cache_large_unpin_inner(void *inner);

struct cache_stats {
    uint64_t budget_bytes, used_bytes, dirty_bytes, large_bytes;
    uint64_t free_bytes; /* what pages can take before one goes for another */
    uint64_t hits, misses, evictions, pages_read, pages_pinned;
};
void cache_get_stats(struct cache *cache, struct cache_stats *stats);

#endif

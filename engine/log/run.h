/* run.h - runs: the newest record of each key of a segment, sorted, in memory.
 *
 * A run names records; it does not hold their values. Entries lie in blocks, each of
 * which can be read without the others. The same bytes are the main part of a hint
 * file. Normative text: FORMAT.md, "Hint". Layer 2. */
#ifndef ADB_ENGINE_LOG_RUN_H
#define ADB_ENGINE_LOG_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/rc.h"

struct run_entry {
    uint64_t table;
    const unsigned char *key; /* borrowed */
    size_t key_len;
    uint64_t gsn;
    uint64_t ordinal;
    uint64_t offset;    /* of the record in its segment */
    uint32_t value_len; /* 0 when deleted */
    bool deleted;
};

/* Order of (table, key): memcmp, the shorter first. */
int run_compare_keys(const struct run_entry *a, const struct run_entry *b);
/* Is `a` the newer record of the two? */
static inline bool run_is_newer(const struct run_entry *a, const struct run_entry *b)
{
    return a->gsn != b->gsn ? a->gsn > b->gsn : a->ordinal > b->ordinal;
}

struct run_block {
    uint64_t at; /* in the run's bytes */
    uint32_t len;
    uint32_t count;
};

enum { RUN_KEY_MAX = 1 << 24, RUN_BLOCK_BYTES_MAX = (32 << 10) + RUN_KEY_MAX + 64 };

/* A zeroed struct run is valid and empty. */
struct run {
    unsigned char *bytes; /* owned: the blocks, one behind the other */
    size_t len;
    struct run_block *blocks; /* owned */
    size_t block_count;
    uint64_t entries;
    uint64_t gsn_base; /* entries give their GSN as a distance from it */
    size_t key_max;    /* length of the longest key */
};

void run_fini(struct run *run);
uint64_t run_bytes(const struct run *run); /* of memory */

/* What a run of unknown origin must keep to. */
struct run_limits {
    uint64_t offset_low;
    uint64_t offset_end;
    uint64_t gsn_low;
    uint64_t gsn_high;
};
/* Reads every entry: decodable, rising, within the limits, counts and key_max true. The
 * blocks must fill the bytes. Only a run that was built here or verified may be given to
 * a cursor. */
bool run_verify(const struct run *run, const struct run_limits *limits);

/* ---- Reading ---- */

struct run_cursor {
    const struct run *run;
    size_t block; /* the next one */
    uint32_t left;
    const unsigned char *p;
    unsigned char *key; /* owned, run->key_max bytes */
    uint64_t table;
};

/* Before the first entry. The caller owes run_cursor_fini(). */
enum armdb_rc run_cursor_init(struct run_cursor *cursor,
                              const struct run *run) ADB_MUST_CHECK;
void run_cursor_fini(struct run_cursor *cursor); /* zeroed is allowed */
/* The next entry; its key is valid until the next call. False behind the last. */
bool run_next(struct run_cursor *cursor, struct run_entry *entry);
/* Moves before the block in which the first entry at or behind (table, key) lies, or
 * before an earlier one: what run_next() gives may still be smaller. */
void run_seek(struct run_cursor *cursor, const struct run_entry *key);
/* Moves before a block (below block_count). */
void run_seek_block(struct run_cursor *cursor, size_t block);

/* ---- Building ---- */

struct run_builder; /* one thread's */

enum armdb_rc run_builder_create(struct run_builder **out) ADB_MUST_CHECK;
void run_builder_destroy(struct run_builder *builder); /* NULL is allowed */
/* Adds a record, in any order; copies its key, at most RUN_KEY_MAX - 1 bytes. */
enum armdb_rc run_builder_add(struct run_builder *builder,
                              const struct run_entry *entry) ADB_MUST_CHECK;
/* Sorts, keeps the newest record of each key, gives the run (to be freed with
 * run_fini()). The builder is empty again, whatever happens. */
enum armdb_rc run_builder_finish(struct run_builder *builder,
                                 struct run *out) ADB_MUST_CHECK;

#endif

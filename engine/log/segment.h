/* segment.h - segments in memory, and the table from slot to segment.
 *
 * A segment is an open file with its pages in the buffer manager. Its slot names it
 * in locations; slots are given once and never again while the store is open, so
 * that a location into a removed segment finds nothing rather than something else.
 * Layer 2. */
#ifndef ADB_ENGINE_LOG_SEGMENT_H
#define ADB_ENGINE_LOG_SEGMENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/base/rc.h"
#include "engine/io/cache.h"
#include "engine/io/io.h"
#include "engine/log/manifest.h"
#include "engine/log/segfile.h"

struct segment {
    /* Constant once the segment is in the table. */
    uint32_t slot;
    uint64_t seed; /* adb_check_seed(header.identity) */
    struct segment_header header;
    struct adb_file *file; /* owned */
    struct cache_file *cf; /* owned */
    char name[SEGMENT_NAME_MAX];

    /* Guarded by the shard's lock while the segment is active, constant later. */
    uint64_t length;   /* bytes that count */
    uint64_t reserved; /* bytes of the file that are preallocated */
    uint64_t gsn_low;  /* of the frames in it; 0 = none */
    uint64_t gsn_high;

    /* Guarded by the shard's lock. */
    uint32_t open_chunks; /* chunks of transactions that have not ended */
    bool sealed;          /* its SEAL is on the disk */

    _Atomic uint64_t live_bytes; /* of records in a version chain; relaxed */
    _Atomic uint64_t body_bytes; /* of all records, as live bytes are counted; relaxed */
    _Atomic uint64_t records;    /* in it; relaxed */
    _Atomic bool compacting;     /* is an input now; relaxed, for display */
    _Atomic int64_t written_ns;  /* when last, as adb_mono_ns(), coarse; relaxed */

    /* Guarded by the manifest's lock. */
    bool hint_done; /* it has a hint, or will have none */
    bool hinted;    /* it has one */

    /* Compaction's alone, under its lock. */
    uint64_t kept_bytes;     /* of tombstones that could not go */
    uint64_t kept_gsn;       /* the lowest of theirs */
    uint64_t blocker;        /* number of the segment because of which */
    bool blocker_lacks_hint; /* look again when it has one */
    uint32_t tries;          /* so often that was done since they left a log */
    uint64_t place;          /* in the queue, 0 = not yet */
    bool damaged;            /* a record does not check: stays for good */
};

enum { SEGTAB_CHUNK = 1024, SEGTAB_CHUNKS = 8192 };

struct segtab {
    /* Chunks appear once and stay; released by segtab_add, acquired by readers. */
    _Atomic(_Atomic(struct segment *) *) chunks[SEGTAB_CHUNKS];
};

/* The segment in a slot, or NULL when it was removed. The caller is inside an epoch
 * or holds the segment otherwise. Pairs with the release in segtab_add(). */
static inline struct segment *segtab_get(const struct segtab *table, uint32_t slot)
{
    _Atomic(struct segment *) *chunk;

    if (slot / SEGTAB_CHUNK >= SEGTAB_CHUNKS)
        return NULL;
    chunk =
        atomic_load_explicit(&table->chunks[slot / SEGTAB_CHUNK], memory_order_acquire);
    if (chunk == NULL)
        return NULL;
    return atomic_load_explicit(&chunk[slot % SEGTAB_CHUNK], memory_order_acquire);
}

void segtab_init(struct segtab *table);
void segtab_fini(struct segtab *table); /* closes every segment left in it */
/* Makes the segment findable under a slot that was never used before. One caller at a
 * time. ARMDB_FULL when the slot is beyond the table. */
enum armdb_rc segtab_add(struct segtab *table, uint32_t slot,
                         struct segment *segment) ADB_MUST_CHECK;

/* Takes a segment out: from now on its locations lead nowhere. The caller closes it once
 * no reader can be inside. One caller at a time with segtab_add(). */
void segtab_remove(struct segtab *table, uint32_t slot);

/* Creates the file with its header, durable (file and directory synced), `reserve`
 * bytes long. Gives *out, to be put into a table or closed with segment_close(). */
enum armdb_rc segment_create(struct adb_dir *dir, struct cache *cache,
                             const struct segment_header *header, uint64_t reserve,
                             uint64_t bytes_max, bool direct, struct segment **out,
                             struct armdb_error *err) ADB_MUST_CHECK;
/* Opens a sealed segment that the manifest lists and checks that it is that one. */
enum armdb_rc segment_open(struct adb_dir *dir, struct cache *cache,
                           const struct manifest_segment *listed,
                           const unsigned char store_uuid[16], bool direct,
                           struct segment **out, struct armdb_error *err) ADB_MUST_CHECK;
/* No reader may be inside. NULL is allowed. */
void segment_close(struct segment *segment);

#endif

/* compact_internal.h - what the files of compaction share.
 *
 * compact.c picks and drives, compact_scan.c reads the inputs and tells what is live,
 * compact_tombs.c which tombstones may go,
 * compact_write.c makes the output, compact_install.c puts it in their place. Layer 4. */
#ifndef ADB_ENGINE_STORE_COMPACT_INTERNAL_H
#define ADB_ENGINE_STORE_COMPACT_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/store/compact.h"
#include "engine/store/internal.h"

/* A record that goes into the output. */
struct moved {
    struct tab *tab; /* NULL: the table is gone (tombstones are dropped then) */
    uint64_t table;
    uint64_t gsn;
    uint64_t ordinal;
    uint64_t from; /* location */
    uint64_t to;
    unsigned char *bytes; /* encoded, unbound; in compaction.records */
    size_t size;
    size_t head_check_at;
    uint32_t key_len;
    uint32_t value_len; /* VERSION_DELETED: a tombstone */
    bool dropped;
    bool held; /* a tombstone that a segment outside the inputs keeps here */
};

static inline const unsigned char *moved_key(const struct moved *moved)
{
    return moved->bytes + moved->head_check_at - moved->key_len;
}

/* A CLOSE: the GSN of its chunks, and what of them is void. */
struct compact_close {
    uint64_t txid_edit;
    uint64_t txid_count;
    uint64_t gsn;
    uint64_t *void_runs; /* sorted pairs, apart; in compaction.records */
    uint32_t void_run_count;
    bool input; /* its segment goes */
};

struct compact_tab {
    uint64_t id;
    struct tab *tab; /* counted in handles; NULL: the catalogue lists none */
};

struct compaction {
    struct armdb *store;
    struct epoch_slot *slot;
    const struct armdb_watch *watch; /* NULL: the background */
    struct armdb_error *err;
    uint64_t started_ns;
    uint64_t bytes;       /* read and written */
    uint64_t paced_bytes; /* of them, counted against the budget */

    struct segment **inputs; /* owned array */
    size_t input_count;
    struct manifest manifest; /* as it was at the beginning */
    struct bump records;
    struct moved *moved; /* owned */
    size_t moved_count;
    size_t moved_capacity;
    struct compact_tab *tabs; /* owned */
    size_t tab_count;
    struct compact_close *closes; /* owned */
    size_t close_count;
    bool closes_known; /* those of every segment in question */
    bool closes_wanted;
    bool closes_damaged; /* some may stand behind damage */
    uint64_t *commits;   /* owned: targets of commit verdicts in the inputs */
    size_t commit_count;

    /* The frame being read. */
    const struct segment *reading;
    uint64_t gsn;
    const uint64_t *void_runs;
    uint32_t void_run_count;

    uint64_t dropped_gsn;  /* highest of a tombstone that goes by the others' GSNs */
    uint64_t filtered_gsn; /* and by their filters */
    uint64_t others_end;   /* segments from this number on were not asked */
    uint32_t tries;        /* see struct segment */
    bool blocker_lacks_hint;
    uint64_t kept_bytes; /* of tombstones that stay */
    uint64_t kept_gsn;   /* the lowest of theirs; 0: none stays */
    uint64_t blocker;
    uint64_t gsn_low; /* of the output */
    uint64_t gsn_high;
    struct segment *output;
};

/* ---- compact.c ---- */

/* Counts bytes against the budget, sleeps when they are ahead of it. ARMDB_INTERRUPT when
 * the call is to end. */
enum armdb_rc compact_pace(struct compaction *c, uint64_t bytes) ADB_MUST_CHECK;

/* Waits for two milliseconds, or until the compactor is woken. */
void compact_sleep(const struct compaction *c);

/* ---- compact_scan.c ---- */

/* Reads and verifies the inputs, gathers what must live on, in key order. */
enum armdb_rc compact_gather(struct compaction *c) ADB_MUST_CHECK;

/* ---- compact_tombs.c ---- */

/* Marks the tombstones that stay away from the output (moved.dropped), which are sorted
 * by key, the newest first. */
enum armdb_rc compact_drop_tombstones(struct compaction *c) ADB_MUST_CHECK;
/* Is what it did still right? */
bool compact_tombs_hold(struct log *log, const struct compaction *c)
    ADB_REQUIRES(log->manifest_lock);
/* The lowest GSN that any listed segment outside the inputs may hold; *blocker is that
 * segment. Of the compaction only the inputs matter. */
uint64_t compact_floor(struct log *log, const struct compaction *c, uint64_t *blocker)
    ADB_REQUIRES(log->manifest_lock);

/* ---- compact_write.c ---- */

/* Writes what was gathered into a new segment, durable and not yet listed. */
enum armdb_rc compact_write(struct compaction *c) ADB_MUST_CHECK;

/* ---- compact_install.c ---- */

/* C4 to C6. */
enum armdb_rc compact_install(struct compaction *c) ADB_MUST_CHECK;
/* Takes back an output that was not installed. */
void compact_discard(struct compaction *c);
/* Removes the names of segments that were replaced, and closes those that no snapshot
 * needs. Outside an epoch; compaction's lock held. */
void compact_bury(struct armdb *store);

#endif

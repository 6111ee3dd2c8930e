/* hints.h - writing hints: the state in a store, starting and ending it. Layer 4. */
#ifndef ADB_ENGINE_STORE_HINTS_H
#define ADB_ENGINE_STORE_HINTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/rc.h"
#include "engine/base/thread.h"
#include "engine/log/hint.h"

struct armdb;

/* A CLOSE that counts, and what of its chunks is void. */
struct hints_close {
    uint64_t txid_edit;
    uint64_t txid_count;
    uint64_t gsn;
    uint64_t *void_runs; /* pairs, rising and apart; owned */
    size_t void_run_count;
};

/* Closes read so far, and from which segments: a transaction of many chunks has them in
 * as many segments. */
struct hints_closes {
    struct hints_close *items; /* owned */
    size_t count;
    size_t room;
    uint64_t *searched; /* owned: numbers of segments */
    size_t searched_count;
};

struct hinter {
    struct adb_thread thread;
    struct adb_mutex wake_lock; /* rank ADB_RANK_LEAF: running, stop, wanted */
    struct adb_cond wake;
    bool running;
    bool stop;
    bool wanted;
    /* Relaxed: wishes and counters. */
    _Atomic bool stopping;
    _Atomic uint64_t sealed_seen;
    _Atomic uint64_t written, failures;
    /* Bytes of segments that may still be read: bounded only while the store closes.
     * Guarded by the manifest's lock. */
    uint64_t bytes_left;
    uint64_t close_bytes; /* what closing may read; constant but for tests */
    /* Constant once the store is open: how it was opened. */
    uint64_t used;
    uint64_t missing;
    uint64_t refused;
};

enum armdb_rc hinter_init(struct armdb *store) ADB_MUST_CHECK;
/* The store is open: hints may be written from now on. */
void hinter_allow(struct armdb *store);
/* A segment was sealed: write its hint in the background. */
void hinter_wake(struct armdb *store);
/* Ends the thread. */
void hinter_stop(struct armdb *store);
/* The store closes and nobody else uses it: seals what is long enough for a hint, and
 * writes all that are lacking. After hinter_stop(). */
void hinter_finish(struct armdb *store);
void hinter_fini(struct armdb *store);

/* Compares the hint of a sealed segment with what the segment's file holds.
 *
 * Errors:  ARMDB_NOT_FOUND (there is no hint, or no such segment), ARMDB_CORRUPT (the
 *          hint is damaged, of another segment, or says another thing than the segment:
 *          the text tells), ARMDB_VERSION (a newer format), ARMDB_BUSY (the segment is
 *          not decided, or going: nothing can be said), ARMDB_IO, ARMDB_NOMEM. A
 *          segment that is damaged itself is ARMDB_BUSY: its hint cannot be told.
 * Locking: any thread, none held; reads the segment once. */
enum armdb_rc hint_check(struct armdb *store, uint64_t segment_number,
                         struct armdb_error *err) ADB_MUST_CHECK;

/* ---- hints_make.c ---- */

/* What a hint of this sealed segment says now, by reading it. The caller has seen that
 * all in it is durable and decided. Gives *hint (hint_fini()) and *end_raw.
 * ARMDB_CORRUPT: the segment is damaged; ARMDB_VERSION: it holds what no hint can say;
 * ARMDB_BUSY: the segment, or one that has to be read with it, goes. */
enum armdb_rc hints_make(struct armdb *store, const struct manifest_segment *listed,
                         struct hints_closes *closes, struct hint *hint,
                         uint64_t *end_raw, struct armdb_error *err) ADB_MUST_CHECK;
void hints_closes_fini(struct hints_closes *closes);

#endif

/* compact.h - compaction: the state in a store, starting and ending it. Layer 4. */
#ifndef ADB_ENGINE_STORE_COMPACT_H
#define ADB_ENGINE_STORE_COMPACT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/base/rc.h"
#include "engine/base/thread.h"
#include "engine/index/epoch.h"

struct armdb;
struct segment;

/* A segment that was replaced: snapshots may still read it. */
struct compact_grave {
    struct epoch_item retired; /* first: closed through the epoch */
    struct compact_grave *next;
    struct segment *segment;
    uint64_t stamp; /* snapshots from here on do not need it */
    bool named;     /* its file is still in the folder */
};

struct compactor {
    struct adb_mutex lock;        /* rank ADB_RANK_COMPACT: one compaction at a time */
    struct compact_grave *graves; /* owned; guarded by `lock` */
    uint32_t last_shard;          /* guarded by `lock` */
    uint64_t next_place;          /* in the queue; guarded by `lock` */
    uint64_t due_ns;              /* when the bytes so far are paid; guarded by `lock` */
    struct adb_thread thread;
    struct adb_mutex wake_lock; /* rank ADB_RANK_LEAF: running, stop, wanted */
    struct adb_cond wake;
    struct adb_cond eased; /* commits need not wait any more */
    bool running;
    bool stop;
    bool wanted;
    /* Relaxed: wishes and counters. */
    _Atomic uint64_t sealed_seen;
    _Atomic bool stopping;
    _Atomic bool paused;
    _Atomic uint32_t at;   /* dead share in percent */
    _Atomic uint64_t rate; /* bytes per second, 0 = no limit */
    _Atomic bool behind;   /* commits are held back */
    _Atomic uint64_t segments_left;
    _Atomic uint64_t speed; /* bytes per second of the newest compaction */
    _Atomic uint64_t runs, failures, segments_removed, bytes_read, bytes_moved, delays;
};

enum armdb_rc compactor_init(struct armdb *store) ADB_MUST_CHECK;
/* The store is open: from now on segments may be compacted. */
void compactor_allow(struct armdb *store);
/* A segment was sealed or rows went: look for candidates in the background. */
void compactor_wake(struct armdb *store);
/* After a commit of so many bytes, no lock held: waits for up to ten milliseconds when
 * the background cannot keep up. */
void compactor_hold_back(struct armdb *store, uint64_t bytes);
/* Ends the thread, gives up what it does. */
void compactor_stop(struct armdb *store);
/* After compactor_stop(): removes the names of replaced segments. */
void compactor_fini(struct armdb *store);

#endif

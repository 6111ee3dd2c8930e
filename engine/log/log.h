/* log.h - the store's log: its segments, shards, manifest and marks.
 *
 * The log takes frames and answers with locations; it knows nothing of keys,
 * versions or snapshots. Appending fills dirty pages under one shard's lock; a flush
 * writes and syncs them outside of it, one flush a shard at a time, and carries
 * whatever was appended until it began (group commit). Layer 2. */
#ifndef ADB_ENGINE_LOG_LOG_H
#define ADB_ENGINE_LOG_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/base/histogram.h"
#include "engine/base/rc.h"
#include "engine/base/thread.h"
#include "engine/io/cache.h"
#include "engine/io/io.h"
#include "engine/log/frame.h"
#include "engine/log/gsn.h"
#include "engine/log/location.h"
#include "engine/log/manifest.h"
#include "engine/log/segment.h"

/* One shard's tail. */
struct shard {
    uint32_t id;             /* constant */
    struct adb_mutex lock;   /* rank ADB_RANK_SHARD */
    struct adb_cond changed; /* a flush or rotation ended */
    struct {
        struct segment *active; /* borrowed from the segment table; NULL at first */
        bool flushing;          /* somebody writes this shard's bytes: no second one */
        bool rotating;          /* the active segment is being replaced: do not append */
        uint64_t generation;    /* of the active segment */
        uint64_t written;       /* bytes of it that the kernel has */
        uint64_t synced;        /* bytes of it that are durable */
        uint32_t undecided;     /* prepared frames that may still need a verdict */
        uint64_t reserve_step;  /* next preallocation */
        uint64_t flush_bytes;   /* moving average of what one flush writes */
        unsigned char **pages;  /* owned: the pages of the frame being appended */
        size_t pages_capacity;
        unsigned char *tail; /* owned, 4 KiB: the tail page as it is written */
    } locked ADB_GUARDED;
    _Atomic uint64_t unsynced_bytes; /* relaxed: for the background sync */
};

struct log_stats {
    _Atomic uint64_t frames, bytes, flushes, syncs, writes;
    _Atomic uint64_t sealed; /* segments that may be worth a compaction */
    _Atomic uint64_t zeroed; /* bytes of preallocated room that were written */
    struct histogram sync;   /* ns of a flush that syncs, from its first write on */
};

struct log {
    /* Constant while open. */
    struct adb_dir *dir; /* borrowed */
    struct cache *cache; /* borrowed */
    unsigned char uuid[16];
    uint64_t segment_size;
    bool direct;
    bool read_only;
    uint32_t shard_count;
    struct shard *shards; /* owned */
    uint64_t txid_edit;   /* manifest edit number at open */
    uint64_t slot_base;   /* slot of a segment = its number - slot_base */

    struct segtab segments;
    struct gsn gsn;

    struct adb_mutex manifest_lock; /* rank ADB_RANK_MANIFEST; held across I/O */
    struct {
        struct manifest manifest;
        bool changed;     /* since it was last written */
        bool abort_lost;  /* log_note_abort() had no memory: nothing can be compacted */
        uint32_t moments; /* moment.h: while not 0 no segment's file loses its name */
        uint64_t output;  /* number of what a compaction makes, not listed yet; 0: none */
    } locked ADB_GUARDED;

    _Atomic uint64_t txid_count;
    _Atomic uint64_t next_table; /* table ids are never used again */
    _Atomic bool wounded;        /* release in log_wound(), acquire in readers */
    struct adb_mutex wound_lock; /* rank ADB_RANK_LEAF: wound_error */
    struct armdb_error wound_error;
    struct log_stats stats; /* relaxed */
};

/* A record ready to be appended: bytes as record_encode() made them (its checks are
 * bound in place), and where its location is to be stored. */
struct log_record {
    unsigned char *bytes;
    size_t size;
    size_t head_check_at;
    size_t ordinal_bytes; /* of its ordinal, which is no byte of a row; mostly 0 */
    bool has_value_check;
    _Atomic uint64_t *location; /* stored with release once the bytes are in place */
};

/* Takes over `manifest` (as recovery left it), opens its segments. */
enum armdb_rc log_open(struct log *log, struct adb_dir *dir, struct cache *cache,
                       const unsigned char uuid[16], uint32_t shard_count,
                       uint64_t segment_size, bool direct, bool read_only,
                       struct manifest *manifest, uint64_t slot_base, uint64_t last_gsn,
                       struct armdb_error *err) ADB_MUST_CHECK;
/* The slot of a segment number; 0 when there are more segments than slots. */
uint32_t log_slot(uint64_t slot_base, uint64_t segment_number);
/* Seals what was written, gives preallocated space back, writes the manifest. After a
 * wound it only closes. Nobody else may use the log any more. */
void log_close(struct log *log);

/* Appends one frame to a shard. `frame` comes with kind, doubt, txid, args, outcome
 * and optional area; the rest is filled in. COMMIT, CLOSE and VERDICT take a GSN,
 * given once room for the frame (and for verdicts) is certain. `undecided` is linked
 * at the same time (NULL for a VERDICT). Nothing is written to the disk yet: the frame
 * must be covered by log_flush() or log_cover(). On failure nothing has happened.
 * Errors: ARMDB_FULL, ARMDB_IO, ARMDB_NOMEM, ARMDB_WOUNDED, ARMDB_READONLY. */
enum armdb_rc log_append(struct log *log, uint32_t shard, struct frame *frame,
                         const struct log_record *records, size_t count,
                         struct gsn_undecided *undecided, uint64_t *segment_number,
                         struct armdb_error *err) ADB_MUST_CHECK;
/* The frame linked by `undecided` is decided: its room for a verdict is free again. */
void log_decided(struct log *log, uint32_t shard, struct gsn_undecided *undecided);

/* The transaction of `count` chunks in this segment has ended: with the GSN of its
 * CLOSE, or 0 when they will never count. */
void log_chunks_ended(struct log *log, uint32_t shard, uint64_t segment_number,
                      uint32_t count, uint64_t gsn);

/* Writes (and syncs) what the shard held when called. */
enum armdb_rc log_flush(struct log *log, uint32_t shard, bool sync,
                        struct armdb_error *err) ADB_MUST_CHECK;
/* Returns when W (sync) or C covers `gsn`, flushing shards as needed, `shard` first. */
enum armdb_rc log_cover(struct log *log, uint32_t shard, uint64_t gsn, bool sync,
                        struct armdb_error *err) ADB_MUST_CHECK;
/* Syncs every shard. */
enum armdb_rc log_sync_all(struct log *log, struct armdb_error *err) ADB_MUST_CHECK;

/* The store is not to be written any more; keeps the first error. */
void log_wound(struct log *log, const struct armdb_error *err);
/* ARMDB_OK, or ARMDB_WOUNDED / ARMDB_READONLY with the reason. */
enum armdb_rc log_writable(struct log *log, struct armdb_error *err) ADB_MUST_CHECK;

/* Seals the shard's active segment, so that it can be compacted; the next append makes a
 * new one. Nothing happens while a transaction in it is not decided. */
enum armdb_rc log_seal_active(struct log *log, uint32_t shard,
                              struct armdb_error *err) ADB_MUST_CHECK;
/* The frame of this GSN is aborted, and its verdict durable: from now on the manifest
 * says so, for as long as a listed segment may hold the frame. */
void log_note_abort(struct log *log, uint64_t gsn);

/* ---- For log.c and shard.c alone ---- */

enum armdb_rc shard_init(struct shard *shard, uint32_t id) ADB_MUST_CHECK;
void shard_fini(struct shard *shard);
/* Ends the shard's active segment for good (SEAL, sync, truncate). No other user. */
enum armdb_rc shard_seal(struct log *log, struct shard *shard,
                         struct armdb_error *err) ADB_MUST_CHECK;
/* Makes a segment that can hold a frame of `bytes`, lists it in the manifest. */
enum armdb_rc log_new_segment(struct log *log, uint32_t shard, uint64_t bytes,
                              struct segment **out,
                              struct armdb_error *err) ADB_MUST_CHECK;
/* Notes in the manifest (written with its next replacement) that it is sealed; not yet
 * while it holds chunks of an open transaction, whose GSN is not known. */
void log_note_sealed(struct log *log, const struct segment *segment);

#endif

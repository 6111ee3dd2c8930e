/* recover.h - from a folder to what counts in it (protocol R1 to R7).
 *
 * Reads superblock, manifest and segments, decides which frames count, and hands
 * every surviving record to the caller, shards in parallel. Layer 4. */
#ifndef ADB_ENGINE_STORE_RECOVER_H
#define ADB_ENGINE_STORE_RECOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/rc.h"
#include "engine/io/io.h"
#include "engine/log/manifest.h"
#include "engine/log/record.h"
#include "engine/log/superblock.h"

/* Receives the records that count, from several threads at once: records of one
 * segment come in log order, never from two threads at once; within each of recovery's
 * two steps segments of one shard come in rising number. The first step delivers what
 * lies at or below the watermark and waits for nothing, the second the rest, so a
 * record may come after a newer one of its key: (gsn, ordinal) decides, whatever the
 * order. A put whose value does not check comes with value NULL and its value_len. */
struct recover_sink {
    void *arg;
    /* The segment's identity within this recovery: index into recovered.manifest's
     * segments at the time of the call; `number` names it. */
    enum armdb_rc (*record)(void *arg, uint64_t segment_number, uint64_t offset,
                            const struct record *record, uint64_t gsn, uint64_t ordinal);
    /* Called before a second pass delivers everything anew (an abort verdict was met
     * for a frame already delivered): the caller forgets what it has. */
    enum armdb_rc (*restart)(void *arg);
};

/* A stretch of a log that is damaged and whose keys are not known. */
struct recover_damage {
    uint64_t segment_number;
    uint64_t from;
    uint64_t to;
    uint64_t gsn_high; /* no record in it has a higher GSN */
};

struct recovered {
    struct manifest manifest; /* as replaced in R7, or in memory when read-only */
    uint64_t gsn;             /* G: the highest GSN that counts */
    bool cut;                 /* a torn tail was cut (a notice, no error) */
    uint64_t cut_bytes;
    struct recover_damage *damage; /* owned */
    size_t damage_count;
};

/* `dir` is locked by the caller. With `read_only` nothing is changed on disk.
 * `threads` bounds the parallelism. Errors: ARMDB_CORRUPT (a listed segment missing or
 * foreign, damaged superblock or manifest: names the file and what to do),
 * ARMDB_IO, ARMDB_NOMEM, ARMDB_VERSION, what the sink returns. */
enum armdb_rc recover_store(struct adb_dir *dir, const struct superblock *sb,
                            bool read_only, unsigned threads,
                            const struct recover_sink *sink, struct recovered *out,
                            struct armdb_error *err) ADB_MUST_CHECK;
void recovered_fini(struct recovered *recovered);

#endif

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
#include "engine/log/run.h"
#include "engine/log/superblock.h"

/* Receives the records that count, from several threads at once: records of one
 * segment come in log order, never from two threads at once, segments in any order. The
 * first of recovery's two steps delivers what lies at or below the watermark and waits
 * for nothing, the second the rest, so a record may come after a newer one of its key:
 * (gsn, ordinal) decides, whatever the order. A put whose value does not check comes with
 * value NULL and its value_len. */
struct recover_sink {
    void *arg;
    /* The segment's identity within this recovery: index into recovered.manifest's
     * segments at the time of the call; `number` names it. */
    enum armdb_rc (*record)(void *arg, uint64_t segment_number, uint64_t offset,
                            const struct record *record, uint64_t gsn, uint64_t ordinal);
    /* Called before a second pass delivers everything anew (an abort verdict was met
     * for a frame already delivered): the caller forgets the records that it has. */
    enum armdb_rc (*restart)(void *arg);
    /* The thread that delivered a segment's records in this step has no more of them.
     * May be NULL. */
    enum armdb_rc (*segment_end)(void *arg, uint64_t segment_number);
    /* The records of a segment by its hint, instead of one by one; they count, also
     * after a restart. The callee takes the run over, whatever it answers. NULL: hints
     * are not used. */
    enum armdb_rc (*hint)(void *arg, uint64_t segment_number, struct run *run);
};

/* A stretch of a log that is damaged and whose keys are not known. */
struct recover_damage {
    uint64_t segment_number;
    uint64_t from;
    uint64_t to;
    uint64_t gsn_high; /* no record in it has a higher GSN */
};

/* How segments that might have a hint were read. */
struct recover_hints {
    uint64_t used;
    uint64_t missing;
    uint64_t refused; /* damaged, stale or foreign: their segments were read */
    char why[200];    /* about one that was refused */
};

/* All records of a segment, and the bytes that they would take alone, as live bytes are
 * counted. */
struct recover_bytes {
    uint64_t segment_number;
    uint64_t record_bytes;
    uint64_t record_count;
    bool hinted;
};

struct recovered {
    struct manifest manifest; /* as replaced in R7, or in memory when read-only */
    uint64_t gsn;             /* G: the highest GSN that counts */
    bool cut;                 /* a torn tail was cut (a notice, no error) */
    uint64_t cut_bytes;
    struct recover_damage *damage; /* owned */
    size_t damage_count;
    struct recover_bytes *bytes; /* owned; of every segment listed at the beginning */
    size_t bytes_count;
    struct recover_hints hints;
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

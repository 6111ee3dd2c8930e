/* manifest.h - the set of segments that must exist, replaced whole.
 *
 * Normative text: FORMAT.md, "Manifest". Layer 2. */
#ifndef ADB_ENGINE_LOG_MANIFEST_H
#define ADB_ENGINE_LOG_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/rc.h"
#include "engine/io/io.h"
#include "engine/log/segfile.h"

#define MANIFEST_NAME "manifest"

struct manifest_segment {
    uint64_t number;
    unsigned char identity[16];
    uint32_t shard;
    enum segment_kind kind;
    bool sealed;      /* length and GSN range are final */
    uint64_t length;  /* bytes that count; 0 while open */
    uint64_t gsn_low; /* 0 while open or without GSNs */
    uint64_t gsn_high;
};

struct manifest_verdict { /* of a frame whose own verdict's segment is gone */
    uint64_t gsn;
    uint32_t outcome; /* enum frame_outcome */
};

struct manifest_close { /* of chunks whose CLOSE's segment is gone */
    uint64_t txid_edit;
    uint64_t txid_count;
    uint64_t gsn;
    uint64_t *void_runs; /* (first, last) pairs; owned */
    uint32_t void_run_count;
};

struct manifest {
    uint64_t edit; /* grows with every replacement */
    uint64_t next_segment;
    uint64_t watermark;                /* Wm */
    uint64_t feed_horizon;             /* lowest GSN still complete */
    uint64_t next_table;               /* table ids are never used again */
    struct manifest_segment *segments; /* owned, in rising number */
    size_t segment_count;
    struct manifest_verdict *verdicts; /* owned */
    size_t verdict_count;
    struct manifest_close *closes; /* owned */
    size_t close_count;
};

void manifest_init(struct manifest *manifest);
void manifest_fini(struct manifest *manifest);
/* Deep copy; *to was initialised. */
enum armdb_rc manifest_copy(const struct manifest *from,
                            struct manifest *to) ADB_MUST_CHECK;
enum armdb_rc manifest_add(struct manifest *manifest,
                           const struct manifest_segment *segment) ADB_MUST_CHECK;
/* NULL when it lists none of this number. Valid until segments change. */
struct manifest_segment *manifest_find(struct manifest *manifest, uint64_t number);
void manifest_remove(struct manifest *manifest, uint64_t number);

/* The file carries the store's uuid; a manifest of another store is ARMDB_CORRUPT. */
enum armdb_rc manifest_encode(const struct manifest *manifest,
                              const unsigned char uuid[16], unsigned char **bytes,
                              size_t *n) ADB_MUST_CHECK; /* ADB_MEM_LOG */
/* *manifest was initialised; it is replaced when that succeeds. */
enum armdb_rc manifest_decode(const unsigned char *bytes, size_t n,
                              const unsigned char uuid[16], struct manifest *manifest,
                              struct armdb_error *err) ADB_MUST_CHECK;
/* Does the file in this folder begin as a manifest does, whoever's it is? */
enum armdb_rc manifest_is_there(struct adb_dir *dir, bool *is_there,
                                struct armdb_error *err) ADB_MUST_CHECK;
enum armdb_rc manifest_read(struct adb_dir *dir, const unsigned char uuid[16],
                            struct manifest *manifest,
                            struct armdb_error *err) ADB_MUST_CHECK;
/* Replaces the file durably (adb_file_replace), with edit + 1, and stores the new
 * edit number in *manifest when that succeeded. */
enum armdb_rc manifest_write(struct adb_dir *dir, const unsigned char uuid[16],
                             struct manifest *manifest,
                             struct armdb_error *err) ADB_MUST_CHECK;

#endif

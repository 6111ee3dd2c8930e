/* superblock.h - what a store is: written once, at creation.
 *
 * Normative text: FORMAT.md, "Superblock". Layer 2. */
#ifndef ADB_ENGINE_LOG_SUPERBLOCK_H
#define ADB_ENGINE_LOG_SUPERBLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/rc.h"
#include "engine/io/io.h"

#define SUPERBLOCK_NAME "superblock"
enum { SUPERBLOCK_BYTES = 4096, SUPERBLOCK_FORMAT_VERSION = 1 };

struct superblock {
    unsigned char uuid[16];
    uint32_t shards;
    uint32_t shard_prefix_bits;
    uint64_t features_compatible; /* unknown bits: ignore */
    uint64_t features_read_only;  /* unknown bits: open read-only */
    uint64_t features_required;   /* unknown bits: refuse */
    uint64_t created_wall_ns;     /* for display */
};

void superblock_encode(const struct superblock *sb,
                       unsigned char bytes[SUPERBLOCK_BYTES]);
/* ARMDB_NOTADB (wrong magic, wrong length), ARMDB_CORRUPT (check), ARMDB_VERSION
 * (newer format or unknown required feature; names the version). *read_only is set
 * when unknown read-only features forbid writing. */
enum armdb_rc superblock_decode(const unsigned char *bytes, size_t n,
                                struct superblock *sb, bool *read_only,
                                struct armdb_error *err) ADB_MUST_CHECK;
enum armdb_rc superblock_read(struct adb_dir *dir, struct superblock *sb, bool *read_only,
                              struct armdb_error *err) ADB_MUST_CHECK;
enum armdb_rc superblock_write(struct adb_dir *dir, const struct superblock *sb,
                               struct armdb_error *err) ADB_MUST_CHECK;

#endif

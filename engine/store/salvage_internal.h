/* salvage_internal.h - what the files of salvage share.
 *
 * salvage.c finds out what there is and drives, salvage_read.c reads the segments,
 * salvage_write.c makes the new store's. Layer 4. */
#ifndef ADB_ENGINE_STORE_SALVAGE_INTERNAL_H
#define ADB_ENGINE_STORE_SALVAGE_INTERNAL_H

#include "engine/armdb.h"
#include "engine/log/scan.h"
#include "engine/log/superblock.h"
#include "engine/store/bump.h"
#include "engine/store/decisions.h"
#include "engine/store/target.h"

struct salvage_segment {
    char name[SEGMENT_NAME_MAX];
    struct segment_header header;
    uint64_t limit; /* bytes that count */
    bool readable;  /* it is the right one */
};

/* The newest record of a key. Two hashes name it: 128 bits. */
struct winner {
    uint64_t hash[2];
    uint64_t gsn;
    uint64_t ordinal;
    uint64_t offset;
    uint32_t segment; /* index + 1; 0: an empty place */
    bool whole;       /* its value checks, or it has none */
};

/* The newest row of the catalogue under a name. */
struct salvage_table {
    char name[ARMDB_TABLE_NAME_BYTES_MAX + 1];
    uint64_t gsn;
    uint64_t ordinal;
    uint64_t id; /* 0: not known, or the table was dropped */
    bool lost;   /* the row is damaged */
    bool made;   /* here, for rows that no row of the catalogue names */
};

/* A record that goes into the new store. */
struct salvaged {
    uint64_t table;
    uint64_t gsn;
    uint64_t ordinal;
    unsigned char *bytes; /* encoded, unbound; in salvage.records */
    size_t size;
    size_t head_check_at;
    size_t key_len;
};

struct salvage {
    struct adb_dir *dir; /* borrowed: the damaged store's folder */
    struct superblock sb;
    struct manifest manifest; /* owned; empty when there is none that can be read */
    bool has_manifest;
    const struct armdb_watch *watch;
    armdb_finding_visit *visit;
    void *arg;
    struct armdb_error *err;
    struct armdb_salvage_info *info;

    struct salvage_segment *segments; /* owned, in rising number */
    size_t segment_count;
    uint64_t number_max; /* of any segment in the folder */

    /* What the readings found. */
    bool keys_lost; /* somewhere records may have stood whose keys are not known */
    struct decisions decisions;
    uint64_t gsn_max;
    uint64_t edit_max;
    uint64_t table_max;
    struct winner *winners; /* owned: open addressing */
    size_t winner_room;     /* a power of two, or 0 */
    size_t winner_count;
    struct list tables; /* struct salvage_table */

    /* What is being written. */
    struct target target;
    struct manifest made;
    struct bump records;
    struct list batch; /* struct salvaged */
    uint64_t batch_bytes;
};

/* ---- salvage.c ---- */

enum armdb_rc salvage_nomem(const struct salvage *s);
/* Something that cannot be saved, or that must be known of what can. */
ADB_PRINTF(5, 6)
void salvage_report(struct salvage *s, const struct armdb_finding *place, bool lost,
                    const char *todo, const char *format, ...);
/* NULL: no such table. */
struct salvage_table *salvage_find_table(const struct salvage *s, uint64_t id);
/* The table that takes the rows of an id which has no name. */
enum armdb_rc salvage_make_table(struct salvage *s, uint64_t id,
                                 struct salvage_table **out) ADB_MUST_CHECK;

/* ---- salvage_read.c ---- */

/* First reading: what decides over frames, and where records may be missing. */
enum armdb_rc salvage_decide(struct salvage *s) ADB_MUST_CHECK;
/* Second: the newest record of each key, and the catalogue. */
enum armdb_rc salvage_choose(struct salvage *s) ADB_MUST_CHECK;
/* Third: those that are rows go into the new store. */
enum armdb_rc salvage_copy(struct salvage *s) ADB_MUST_CHECK;

/* ---- salvage_write.c ---- */

/* Takes a copy of the record into the batch, which is written when it is full. */
enum armdb_rc salvage_put(struct salvage *s, const struct record *record, uint64_t gsn,
                          uint64_t ordinal) ADB_MUST_CHECK;
/* Writes what is left of the batch. */
enum armdb_rc salvage_flush(struct salvage *s) ADB_MUST_CHECK;

#endif

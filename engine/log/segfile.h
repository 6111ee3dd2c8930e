/* segfile.h - names and headers of segment files.
 *
 * A segment begins with one page that holds its header; frames start at
 * SEGMENT_FIRST_FRAME. Normative text: FORMAT.md, "Segment". Layer 2. */
#ifndef ADB_ENGINE_LOG_SEGFILE_H
#define ADB_ENGINE_LOG_SEGFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/rc.h"

enum segment_kind { SEGMENT_LOG = 1, SEGMENT_OUTPUT = 2 }; /* on disk */
enum { SEGMENT_CHECK_XXH3 = 1, SEGMENT_CIPHER_NONE = 0 };  /* on disk */
enum { SEGMENT_HEADER_BYTES = 4096, SEGMENT_FIRST_FRAME = 4096, SEGMENT_NAME_MAX = 32 };

struct segment_header {
    unsigned char store_uuid[16];
    unsigned char identity[16]; /* random */
    uint64_t number;            /* never used twice in a store */
    uint32_t shard;
    enum segment_kind kind;
    uint32_t check_kind;
    uint32_t cipher_kind;
    uint64_t key_id;
    unsigned char salt[24];
    uint64_t watermark; /* W at creation */
};

/* "0000000000000001.seg": the number in hex. `name` has SEGMENT_NAME_MAX bytes. */
void segment_name(uint64_t number, char *name);
/* True, and the number, when `name` is exactly a segment's name. */
bool segment_name_parse(const char *name, uint64_t *number);
void segment_header_encode(const struct segment_header *header,
                           unsigned char page[SEGMENT_HEADER_BYTES]);
/* ARMDB_CORRUPT (magic, check, reserved bytes), ARMDB_VERSION (newer version, or a
 * check or cipher kind that this build does not know). `name` for the text. */
enum armdb_rc segment_header_decode(const unsigned char page[SEGMENT_HEADER_BYTES],
                                    const char *name, struct segment_header *header,
                                    struct armdb_error *err) ADB_MUST_CHECK;

#endif

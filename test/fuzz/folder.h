/* folder.h - an input as the files of a store's folder, and the other way.
 *
 * An input is two bytes of choices and pieces, each | kind 1 | length 2 | bytes |. Files
 * are mostly zeros; a piece leaves them out. */
#ifndef TEST_FUZZ_FOLDER_H
#define TEST_FUZZ_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "test/fuzz/harness.h"
#include "test/sim/sim_disk.h"

enum folder_piece {
    PIECE_SUPERBLOCK, /* the beginning of its page */
    PIECE_MANIFEST,   /* without its check */
    PIECE_SEGMENT,    /* the beginning of a segment's header page; begins a segment */
    PIECE_BYTES,      /* more of that segment, at the next multiple of 8 */
    PIECE_ZEROS,      /* 2 bytes: so many times 8 zeros; more than a few make it slow */
    PIECE_HINT,       /* a hint of that segment */
    PIECE_FILE,       /* | length of a name 1 | name | content |: any other file */
    PIECES
};

enum folder_choice {
    FOLDER_NO_CHECKS = 1 << 0,   /* checks are as the input has them: wrong */
    FOLDER_NO_FIT = 1 << 1,      /* frames say of their bodies what the input says */
    FOLDER_NO_IDENTITY = 1 << 2, /* uuid, identities, numbers are the input's */
    FOLDER_NO_LENGTHS = 1 << 3   /* a sealed segment's length is the input's */
};

/* Makes the folder `path` on the disk. */
void folder_build(struct sim_disk *disk, const char *path, struct fuzz_input *in,
                  unsigned choices);
/* The input that makes the folder's files again; *n is its length. To be freed with
 * free(). Rooms of zeros behind a segment's frames are left out. */
uint8_t *folder_input(const struct sim_disk *disk, uint8_t choices, uint8_t more,
                      size_t *n);

#endif

/* reseal.h - makes the checks of damaged files right again.
 *
 * Every byte of a store stands under a check, so a fuzzer that flips bytes gets as far
 * as the checks and no further. These functions recompute them, over whatever the bytes
 * say now: what lies behind a check is then met with any content. Each returns how many
 * checks it set. Nothing is trusted: what a length claims is held against what there is.
 */
#ifndef TEST_FUZZ_RESEAL_H
#define TEST_FUZZ_RESEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A superblock, a segment's header page (4096 bytes). */
size_t reseal_superblock(unsigned char *page);
size_t reseal_segment_header(unsigned char *page);
/* A manifest: magic and length too. n >= 112. */
size_t reseal_manifest(unsigned char *bytes, size_t n);
/* One record at p, which lies at `offset` of a segment. Gives its size, 0 when the bytes
 * are none that fits, and chains it into *digest. */
size_t reseal_record(unsigned char *p, size_t left, uint64_t seed, uint64_t offset,
                     uint64_t *digest);
/* A frame at p: its optional area, its records as far as there are any, digest, check.
 * `fit`: length of the body and number of records become those of the records that are
 * there. */
size_t reseal_frame(unsigned char *p, size_t left, uint64_t seed, uint64_t offset,
                    bool fit);
/* A segment: its header and every frame. */
size_t reseal_segment(unsigned char *bytes, size_t n, bool fit);
/* A hint. `fit`: its index lies where the other parts leave room for it. */
size_t reseal_hint(unsigned char *p, size_t n, bool fit);

#endif

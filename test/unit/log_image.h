/* log_image.h - builds segments in memory for tests of readers. */
#ifndef ADB_TEST_UNIT_LOG_IMAGE_H
#define ADB_TEST_UNIT_LOG_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "engine/io/io.h"
#include "engine/log/frame.h"
#include "engine/log/record.h"
#include "engine/log/segfile.h"

struct log_image {
    struct segment_header header;
    unsigned char *bytes; /* header page and frames */
    size_t len;
    size_t size;
    uint64_t seed;
};

/* The identity is made from number and shard. */
void image_init(struct log_image *image, const unsigned char uuid[16], uint64_t number,
                uint32_t shard, enum segment_kind kind);
void image_fini(struct log_image *image);
/* Appends a frame; sets its body_len, record_count, digest and check. Returns the
 * offset at which it lies. */
uint64_t image_add(struct log_image *image, struct frame *frame,
                   const struct record *records, uint32_t count);
/* Writes the image as a segment file, followed by `zeros` zero bytes, and syncs. */
void image_store(const struct log_image *image, struct adb_dir *dir, size_t zeros);
/* Writes any bytes as file `name`. */
void store_bytes(struct adb_dir *dir, const char *name, const void *bytes, size_t n);

#endif

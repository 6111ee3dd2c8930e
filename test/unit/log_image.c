/* log_image.c - a writer of segments that knows nothing of transactions.
 *
 * It places frames and records by the rules of FORMAT.md and lets the test choose
 * every field, also those that a real writer would never write. */
#include "log_image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/check.h"

static void make_room(struct log_image *image, size_t bytes)
{
    if (bytes > image->size) {
        image->size = 2 * bytes;
        image->bytes = realloc(image->bytes, image->size);
        assert_non_null(image->bytes);
    }
    if (bytes > image->len)
        memset(image->bytes + image->len, 0, bytes - image->len);
    image->len = bytes;
}

void image_init(struct log_image *image, const unsigned char uuid[16], uint64_t number,
                uint32_t shard, enum segment_kind kind)
{
    memset(image, 0, sizeof *image);
    memcpy(image->header.store_uuid, uuid, 16);
    memset(image->header.identity, (int)(16 * number + shard + 1), 16);
    image->header.number = number;
    image->header.shard = shard;
    image->header.kind = kind;
    image->header.check_kind = SEGMENT_CHECK_XXH3;
    image->seed = adb_check_seed(image->header.identity);
    make_room(image, SEGMENT_FIRST_FRAME);
    segment_header_encode(&image->header, image->bytes);
}

void image_fini(struct log_image *image)
{
    free(image->bytes);
    memset(image, 0, sizeof *image);
}

uint64_t image_add(struct log_image *image, struct frame *frame,
                   const struct record *records, uint32_t count)
{
    uint64_t start = (image->len + 7) & ~(uint64_t)7;
    uint64_t body = start + frame_head_len(frame);
    uint64_t end = body;

    frame->digest = FRAME_DIGEST_START;
    for (uint32_t i = 0; i < count; i++) {
        size_t size = record_size(&records[i]);
        uint64_t at = record_place(end, size);
        size_t head_check_at;

        make_room(image, at + size);
        record_encode(&records[i], image->bytes + at, &head_check_at);
        record_bind(image->bytes + at, size, head_check_at, records[i].kind == RECORD_PUT,
                    image->seed, at, &frame->digest);
        end = at + size;
    }
    make_room(image, end);
    frame->body_len = end - body;
    frame->record_count = count;
    frame_encode(frame, image->bytes + start, image->seed, start);
    return start;
}

void store_bytes(struct adb_dir *dir, const char *name, const void *bytes, size_t n)
{
    struct adb_file *file = NULL;
    enum armdb_rc rc = dir->io->ops->dir_unlink(dir, name, NULL);

    assert_true(rc == ARMDB_OK || rc == ARMDB_NOT_FOUND);
    assert_int_equal(
        dir->io->ops->file_open(dir, name, ADB_OPEN_WRITE | ADB_OPEN_CREATE, &file, NULL),
        ARMDB_OK);
    if (n > 0)
        assert_int_equal(adb_file_write(file, name, bytes, n, 0, NULL), ARMDB_OK);
    assert_int_equal(adb_file_sync(file, name, NULL), ARMDB_OK);
    dir->io->ops->file_close(file);
}

void image_store(const struct log_image *image, struct adb_dir *dir, size_t zeros)
{
    unsigned char *bytes = calloc(1, image->len + zeros);
    char name[SEGMENT_NAME_MAX];

    assert_non_null(bytes);
    memcpy(bytes, image->bytes, image->len);
    segment_name(image->header.number, name);
    store_bytes(dir, name, bytes, image->len + zeros);
    free(bytes);
}

/* fuzz_frame.c - any bytes as the head of a frame.
 *
 * Input: a byte of choices (bit 0: no magic number is put in), the place (a number), the
 * bytes. They are decoded as they are and with their checks made right, whole and cut
 * off at each length: a decoder that reads a byte too far meets the sanitizer. What is
 * accepted encodes to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "engine/log/frame.h"
#include "test/fuzz/harness.h"
#include "test/fuzz/reseal.h"

const struct fuzz_setup fuzz_setup = {"frame", 200000, 700, 0, 0};

static const uint64_t seed = UINT64_C(0x123456789ABCDEF0);

static void look_at_fields(const struct frame *frame)
{
    for (int type = 0; type <= 4; type++) {
        const unsigned char *p;
        uint32_t len;
        enum armdb_rc rc = frame_field(frame, (enum frame_field)type, &p, &len);
        unsigned sum = 0;

        FUZZ_CHECK(rc == ARMDB_OK || rc == ARMDB_NOT_FOUND);
        FUZZ_CHECK((rc == ARMDB_OK) == (p != NULL));
        if (rc != ARMDB_OK)
            continue;
        FUZZ_CHECK(p >= frame->optional && len <= frame->optional_len &&
                   (size_t)(p - frame->optional) <= frame->optional_len - len);
        for (uint32_t i = 0; i < len; i++)
            sum += p[i];
        FUZZ_CHECK(sum <= len * 255u);
    }
}

static void accepted(const struct frame *frame, const unsigned char *bytes,
                     uint64_t offset)
{
    size_t n = frame_head_len(frame);
    unsigned char *again = malloc(n);
    struct frame copy = *frame;

    frame_encode(&copy, again, seed, offset);
    FUZZ_CHECK(copy.check == frame->check);
    FUZZ_CHECK(memcmp(again, bytes, n) == 0);
    free(again);
    look_at_fields(frame);
}

static void decode(const unsigned char *bytes, size_t n, uint64_t offset)
{
    struct frame frame;
    struct frame header;
    enum armdb_rc rc;
    enum armdb_rc head_rc;

    FUZZ_SCRIBBLE(frame);
    FUZZ_SCRIBBLE(header);
    rc = frame_decode(bytes, n, seed, offset, &frame);
    head_rc = frame_decode_header(bytes, n, seed, offset, &header);
    FUZZ_CHECK(rc == ARMDB_OK || rc == ARMDB_NOT_FOUND || rc == ARMDB_CORRUPT ||
               rc == ARMDB_VERSION);
    FUZZ_CHECK(rc != ARMDB_OK || head_rc == ARMDB_OK);
    FUZZ_CHECK(head_rc == ARMDB_OK || head_rc == rc);
    if (rc == ARMDB_OK) {
        FUZZ_CHECK(header.optional == NULL && header.gsn == frame.gsn);
        accepted(&frame, bytes, offset);
        /* It is bound to its place and its segment. */
        FUZZ_CHECK(frame_decode(bytes, n, seed, offset + 8, &frame) == ARMDB_CORRUPT);
        FUZZ_CHECK(frame_decode(bytes, n, seed + 1, offset, &frame) == ARMDB_CORRUPT);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned char magic[8] = {0xA7, 'a', 'd', 'b', 'F', 'r', 'm', 0x1A};
    struct fuzz_input in = {data, size};
    uint8_t how = fuzz_u8(&in);
    uint64_t offset = fuzz_number(&in) & ~UINT64_C(7);
    size_t n = in.left;
    uint8_t *bytes = fuzz_copy(in.p, n);

    decode(bytes, n, offset);
    if ((how & 1) == 0 && n >= 8)
        memcpy(bytes, magic, 8);
    (void)reseal_frame(bytes, n, seed, offset, (how & 2) != 0);
    decode(bytes, n, offset);
    for (size_t cut = how; cut < n; cut += 8 + (how & 0x3F)) {
        uint8_t *shorter = fuzz_copy(bytes, cut);

        decode(shorter, cut, offset);
        free(shorter);
    }
    free(bytes);
    return 0;
}

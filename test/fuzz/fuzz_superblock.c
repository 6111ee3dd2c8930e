/* fuzz_superblock.c - any bytes as a superblock; and as one whose check is right.
 *
 * Input: a byte of choices, then the page's beginning (bit 0: behind 4088 bytes of it
 * the input has a check of its own). What is accepted must be what it encodes to. */
#include <stdlib.h>
#include <string.h>

#include "engine/log/superblock.h"
#include "test/fuzz/harness.h"
#include "test/fuzz/reseal.h"

const struct fuzz_setup fuzz_setup = {"superblock", 150000, 4200, 0, 0};

static void decode(const unsigned char *bytes, size_t n)
{
    struct superblock sb;
    struct armdb_error err;
    bool read_only;
    enum armdb_rc rc;

    FUZZ_SCRIBBLE(sb);
    rc = superblock_decode(bytes, n, &sb, &read_only, &err);
    FUZZ_CHECK(rc == ARMDB_OK || rc == ARMDB_NOTADB || rc == ARMDB_CORRUPT ||
               rc == ARMDB_VERSION);
    if (rc == ARMDB_OK) {
        unsigned char again[SUPERBLOCK_BYTES];

        FUZZ_CHECK(sb.shards >= 1 && sb.shards <= 64 && sb.features_required == 0);
        FUZZ_CHECK(read_only == (sb.features_read_only != 0));
        superblock_encode(&sb, again);
        FUZZ_CHECK(memcmp(again, bytes, sizeof again) == 0);
    } else {
        FUZZ_CHECK(err.rc == rc && err.text[0] != '\0');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    uint8_t how = fuzz_u8(&in);
    uint8_t *raw;
    uint8_t *page;

    raw = fuzz_copy(in.p, in.left);
    decode(raw, in.left);
    page = calloc(1, SUPERBLOCK_BYTES);
    memcpy(page, raw, in.left < SUPERBLOCK_BYTES ? in.left : SUPERBLOCK_BYTES);
    if ((how & 1) == 0)
        memcpy(page, "armdbSup", 8);
    (void)reseal_superblock(page);
    decode(page, SUPERBLOCK_BYTES);
    free(page);
    free(raw);
    return 0;
}

/* fuzz_manifest.c - any bytes as a manifest; and as one of right length and check.
 *
 * The store's uuid is what stands in the bytes, or zeros (bit 0 of the first byte). What
 * is accepted encodes to the same bytes, can be copied, and every segment is found by
 * its number. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/log/manifest.h"
#include "test/fuzz/harness.h"
#include "test/fuzz/reseal.h"

const struct fuzz_setup fuzz_setup = {"manifest", 300000, 2000, 1000, 8};

enum { HEADER = 104, UUID_AT = 16 };

static void compare(const struct manifest *manifest, const unsigned char *uuid,
                    const unsigned char *bytes, size_t n)
{
    unsigned char *again;
    size_t again_len;

    FUZZ_CHECK(manifest_encode(manifest, uuid, &again, &again_len) == ARMDB_OK);
    FUZZ_CHECK(again_len == n && memcmp(again, bytes, n) == 0);
    adb_free(ADB_MEM_LOG, again);
}

static void accepted(struct manifest *manifest, const unsigned char *uuid,
                     const unsigned char *bytes, size_t n)
{
    struct manifest copy;

    compare(manifest, uuid, bytes, n);
    manifest_init(&copy);
    FUZZ_CHECK(manifest_copy(manifest, &copy) == ARMDB_OK);
    compare(&copy, uuid, bytes, n);
    for (size_t i = 0; i < copy.segment_count; i++) {
        uint64_t number = copy.segments[i].number;

        FUZZ_CHECK(manifest_find(&copy, number) == &copy.segments[i]);
        FUZZ_CHECK(number < copy.next_segment);
        FUZZ_CHECK(i == 0 || number > copy.segments[i - 1].number);
    }
    while (copy.segment_count > 0)
        manifest_remove(&copy, copy.segments[copy.segment_count / 2].number);
    for (size_t i = manifest->segment_count; i > 0; i--)
        FUZZ_CHECK(manifest_add(&copy, &manifest->segments[i - 1]) == ARMDB_OK);
    compare(&copy, uuid, bytes, n);
    manifest_fini(&copy);
}

static void decode(const unsigned char *bytes, size_t n, const unsigned char *uuid)
{
    struct manifest manifest;
    struct armdb_error err;
    enum armdb_rc rc;

    manifest_init(&manifest);
    rc = manifest_decode(bytes, n, uuid, &manifest, &err);
    FUZZ_CHECK(rc == ARMDB_OK || rc == ARMDB_CORRUPT || rc == ARMDB_VERSION ||
               rc == ARMDB_NOTADB);
    if (rc == ARMDB_OK)
        accepted(&manifest, uuid, bytes, n);
    else
        FUZZ_CHECK(err.rc == rc && err.text[0] != '\0' && manifest.segment_count == 0);
    manifest_fini(&manifest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const unsigned char zeros[16];
    struct fuzz_input in = {data, size};
    uint8_t how = fuzz_u8(&in);
    uint8_t *bytes;

    fuzz_begin(in.left);
    bytes = fuzz_copy(in.p, in.left);
    decode(bytes, in.left, zeros);
    if (in.left >= HEADER + 8) {
        (void)reseal_manifest(bytes, in.left);
        decode(bytes, in.left, (how & 1) != 0 ? zeros : bytes + UUID_AT);
    }
    free(bytes);
    fuzz_end();
    return 0;
}

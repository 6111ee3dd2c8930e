/* superblock.c - the file that says what a store is.
 *
 * Written once, when a store is created, as the last step of the creation: a folder
 * with a superblock is a store, one without is none. It never changes, so it is
 * never torn later; the file is exactly one page, the check stands in its last
 * 8 bytes in every version, bound to the uuid.
 *
 * Features come in three words, as in ext4: bits of features_compatible may be
 * ignored, unknown bits of features_read_only allow reading alone, unknown bits of
 * features_required forbid both. Version 1 defines none. */
#include "engine/log/superblock.h"

#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/log/zeros.h"

enum { /* on disk: never renumber */
       AT_VERSION = 8,
       AT_SHARDS = 12,
       AT_UUID = 16,
       AT_PREFIX_BITS = 32,
       AT_ZERO_WORD = 36,
       AT_COMPATIBLE = 40,
       AT_READ_ONLY = 48,
       AT_REQUIRED = 56,
       AT_CREATED = 64,
       AT_ZEROS = 72,
       AT_CHECK = SUPERBLOCK_BYTES - 8,
       SHARDS_MAX = 64
};

static const unsigned char magic[8] = {'a', 'r', 'm', 'd', 'b', 'S', 'u', 'p'};
static const uint64_t known_read_only; /* none in version 1 */
static const uint64_t known_required;

static uint64_t page_check(const unsigned char *bytes)
{
    return adb_check_bind(adb_check_raw(bytes, AT_CHECK), adb_check_seed(bytes + AT_UUID),
                          AT_CHECK);
}

void superblock_encode(const struct superblock *sb, unsigned char bytes[SUPERBLOCK_BYTES])
{
    memset(bytes, 0, SUPERBLOCK_BYTES);
    memcpy(bytes, magic, sizeof magic);
    adb_put_u32(bytes + AT_VERSION, SUPERBLOCK_FORMAT_VERSION);
    adb_put_u32(bytes + AT_SHARDS, sb->shards);
    memcpy(bytes + AT_UUID, sb->uuid, sizeof sb->uuid);
    adb_put_u32(bytes + AT_PREFIX_BITS, sb->shard_prefix_bits);
    adb_put_u64(bytes + AT_COMPATIBLE, sb->features_compatible);
    adb_put_u64(bytes + AT_READ_ONLY, sb->features_read_only);
    adb_put_u64(bytes + AT_REQUIRED, sb->features_required);
    adb_put_u64(bytes + AT_CREATED, sb->created_wall_ns);
    adb_put_u64(bytes + AT_CHECK, page_check(bytes));
}

static enum armdb_rc check_page(const unsigned char *bytes, size_t n,
                                struct armdb_error *err)
{
    uint32_t version;

    if (n != SUPERBLOCK_BYTES)
        return ADB_FAIL(ARMDB_NOTADB, err,
                        "the superblock has %zu bytes, not %d: this is "
                        "no armdb store",
                        n, SUPERBLOCK_BYTES);
    if (memcmp(bytes, magic, sizeof magic) != 0)
        return ADB_FAIL(ARMDB_NOTADB, err,
                        "the superblock has a foreign magic number: this "
                        "is no armdb store");
    if (adb_get_u64(bytes + AT_CHECK) != page_check(bytes))
        return ADB_FAIL(ARMDB_CORRUPT, err,
                        "the superblock is damaged (check at offset %d): "
                        "restore the file from a backup",
                        AT_CHECK);
    version = adb_get_u32(bytes + AT_VERSION);
    if (version != SUPERBLOCK_FORMAT_VERSION)
        return ADB_FAIL(ARMDB_VERSION, err,
                        "the store has format version %u; this build "
                        "reads version %d: use a newer armdb",
                        version, SUPERBLOCK_FORMAT_VERSION);
    return ARMDB_OK;
}

enum armdb_rc superblock_decode(const unsigned char *bytes, size_t n,
                                struct superblock *sb, bool *read_only,
                                struct armdb_error *err)
{
    enum armdb_rc rc;

    memset(sb, 0, sizeof *sb);
    *read_only = false;
    rc = check_page(bytes, n, err);
    if (rc != ARMDB_OK)
        return rc;
    memcpy(sb->uuid, bytes + AT_UUID, sizeof sb->uuid);
    sb->shards = adb_get_u32(bytes + AT_SHARDS);
    sb->shard_prefix_bits = adb_get_u32(bytes + AT_PREFIX_BITS);
    sb->features_compatible = adb_get_u64(bytes + AT_COMPATIBLE);
    sb->features_read_only = adb_get_u64(bytes + AT_READ_ONLY);
    sb->features_required = adb_get_u64(bytes + AT_REQUIRED);
    sb->created_wall_ns = adb_get_u64(bytes + AT_CREATED);
    if ((sb->features_required & ~known_required) != 0)
        return ADB_FAIL(ARMDB_VERSION, err,
                        "the store needs features of a newer armdb "
                        "(format version %d, bits 0x%llx)",
                        SUPERBLOCK_FORMAT_VERSION,
                        (unsigned long long)(sb->features_required & ~known_required));
    if (sb->shards == 0 || sb->shards > SHARDS_MAX)
        return ADB_FAIL(ARMDB_CORRUPT, err,
                        "the superblock says %u shards; 1 to %d are "
                        "possible",
                        sb->shards, SHARDS_MAX);
    if (adb_get_u32(bytes + AT_ZERO_WORD) != 0 ||
        zeros_count(bytes + AT_ZEROS, AT_CHECK - AT_ZEROS) != AT_CHECK - AT_ZEROS)
        return ADB_FAIL(ARMDB_CORRUPT, err,
                        "the superblock has reserved bytes that are not "
                        "zero");
    *read_only = (sb->features_read_only & ~known_read_only) != 0;
    return ARMDB_OK;
}

enum armdb_rc superblock_read(struct adb_dir *dir, struct superblock *sb, bool *read_only,
                              struct armdb_error *err)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    enum armdb_rc rc;

    memset(sb, 0, sizeof *sb);
    *read_only = false;
    rc = adb_file_slurp(dir, SUPERBLOCK_NAME, SUPERBLOCK_BYTES, &bytes, &n, err);
    if (rc == ARMDB_CORRUPT)
        rc = ADB_FAIL(ARMDB_NOTADB, err,
                      "the superblock is longer than %d bytes: this is no "
                      "armdb store",
                      SUPERBLOCK_BYTES);
    if (rc != ARMDB_OK)
        goto out;
    rc = superblock_decode(bytes, n, sb, read_only, err);
out:
    adb_free(ADB_MEM_IO, bytes);
    return rc;
}

enum armdb_rc superblock_write(struct adb_dir *dir, const struct superblock *sb,
                               struct armdb_error *err)
{
    unsigned char bytes[SUPERBLOCK_BYTES];

    superblock_encode(sb, bytes);
    return adb_file_replace(dir, SUPERBLOCK_NAME, bytes, sizeof bytes, err);
}

/* segfile.c - names and header pages of segment files.
 *
 * The header is one page of its own, written and synced before the manifest names
 * the segment, and never touched again. Its check is bound to the identity that it
 * holds, and every check in the frames behind it to the same identity: a page of
 * another file never passes, even when it stands at the right offset. The check
 * stands in the page's last 8 bytes in every version, so that a damaged page can be
 * told from one of a newer version. */
#include "engine/log/segfile.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/check.h"
#include "engine/log/record.h"
#include "engine/log/zeros.h"

enum { /* on disk: never renumber */
       SEGMENT_VERSION = 1,
       AT_VERSION = 8,
       AT_SHARD = 12,
       AT_STORE_UUID = 16,
       AT_IDENTITY = 32,
       AT_NUMBER = 48,
       AT_WATERMARK = 56,
       AT_KIND = 64,
       AT_CHECK_KIND = 68,
       AT_CIPHER_KIND = 72,
       AT_ZERO_WORD = 76,
       AT_KEY_ID = 80,
       AT_SALT = 88,
       AT_ZEROS = 112,
       AT_CHECK = SEGMENT_HEADER_BYTES - 8
};

enum { NUMBER_DIGITS = 16 };

static_assert(NUMBER_DIGITS + sizeof ".seg" <= SEGMENT_NAME_MAX, "a name has room");

static const unsigned char magic[8] = {'a', 'r', 'm', 'd', 'b', 'S', 'e', 'g'};

void segment_name(uint64_t number, char *name)
{
    (void)snprintf(name, SEGMENT_NAME_MAX, "%016llx.seg", (unsigned long long)number);
}

bool segment_name_parse(const char *name, uint64_t *number)
{
    uint64_t value = 0;

    *number = 0;
    for (int i = 0; i < NUMBER_DIGITS; i++) {
        unsigned digit;

        if (name[i] >= '0' && name[i] <= '9')
            digit = (unsigned)(name[i] - '0');
        else if (name[i] >= 'a' && name[i] <= 'f')
            digit = (unsigned)(name[i] - 'a') + 10;
        else
            return false;
        value = value << 4 | digit;
    }
    if (value == 0 || strcmp(name + NUMBER_DIGITS, ".seg") != 0)
        return false;
    *number = value;
    return true;
}

static uint64_t page_check(const unsigned char *page)
{
    return adb_check_bind(adb_check_raw(page, AT_CHECK),
                          adb_check_seed(page + AT_IDENTITY), AT_CHECK);
}

void segment_header_encode(const struct segment_header *header,
                           unsigned char page[SEGMENT_HEADER_BYTES])
{
    memset(page, 0, SEGMENT_HEADER_BYTES);
    memcpy(page, magic, sizeof magic);
    adb_put_u32(page + AT_VERSION, SEGMENT_VERSION);
    adb_put_u32(page + AT_SHARD, header->shard);
    memcpy(page + AT_STORE_UUID, header->store_uuid, sizeof header->store_uuid);
    memcpy(page + AT_IDENTITY, header->identity, sizeof header->identity);
    adb_put_u64(page + AT_NUMBER, header->number);
    adb_put_u64(page + AT_WATERMARK, header->watermark);
    adb_put_u32(page + AT_KIND, (uint32_t)header->kind);
    adb_put_u32(page + AT_CHECK_KIND, header->check_kind);
    adb_put_u32(page + AT_CIPHER_KIND, header->cipher_kind);
    adb_put_u64(page + AT_KEY_ID, header->key_id);
    memcpy(page + AT_SALT, header->salt, sizeof header->salt);
    adb_put_u64(page + AT_CHECK, page_check(page));
}

/* What this build can read, of a page whose check is right. */
static enum armdb_rc check_kinds(const unsigned char *page, const char *name,
                                 struct armdb_error *err)
{
    uint32_t version = adb_get_u32(page + AT_VERSION);
    uint32_t kind = adb_get_u32(page + AT_KIND);
    uint32_t check_kind = adb_get_u32(page + AT_CHECK_KIND);
    uint32_t cipher_kind = adb_get_u32(page + AT_CIPHER_KIND);

    if (version != SEGMENT_VERSION)
        return ADB_FAIL(ARMDB_VERSION, err,
                        "segment %s has format version %u; this build reads version %d: "
                        "use a newer armdb",
                        name, version, SEGMENT_VERSION);
    if (kind != SEGMENT_LOG && kind != SEGMENT_OUTPUT)
        return ADB_FAIL(ARMDB_VERSION, err,
                        "segment %s is of unknown kind %u: use a newer "
                        "armdb",
                        name, kind);
    if (check_kind != SEGMENT_CHECK_XXH3)
        return ADB_FAIL(ARMDB_VERSION, err,
                        "segment %s has the unknown kind of check %u: "
                        "use a newer armdb",
                        name, check_kind);
    if (cipher_kind != SEGMENT_CIPHER_NONE)
        return ADB_FAIL(ARMDB_VERSION, err,
                        "segment %s is encrypted (cipher kind %u): use "
                        "an armdb that can decrypt",
                        name, cipher_kind);
    return ARMDB_OK;
}

enum armdb_rc segment_header_decode(const unsigned char page[SEGMENT_HEADER_BYTES],
                                    const char *name, struct segment_header *header,
                                    struct armdb_error *err)
{
    enum armdb_rc rc;

    memset(header, 0, sizeof *header);
    if (memcmp(page, magic, sizeof magic) != 0)
        return ADB_FAIL(ARMDB_CORRUPT, err,
                        "%s does not begin with a segment header "
                        "(magic number)",
                        name);
    if (adb_get_u64(page + AT_CHECK) != page_check(page))
        return ADB_FAIL(ARMDB_CORRUPT, err,
                        "the header of segment %s is damaged (check at "
                        "offset %d)",
                        name, AT_CHECK);
    rc = check_kinds(page, name, err);
    if (rc != ARMDB_OK)
        return rc;
    header->watermark = adb_get_u64(page + AT_WATERMARK);
    if (header->watermark >= RECORD_NUMBER_LIMIT)
        return ADB_FAIL(ARMDB_CORRUPT, err,
                        "the header of segment %s has a watermark that no store reaches",
                        name);
    if (adb_get_u32(page + AT_ZERO_WORD) != 0 ||
        zeros_count(page + AT_ZEROS, AT_CHECK - AT_ZEROS) != AT_CHECK - AT_ZEROS)
        return ADB_FAIL(ARMDB_CORRUPT, err,
                        "the header of segment %s has reserved bytes "
                        "that are not zero",
                        name);
    memcpy(header->store_uuid, page + AT_STORE_UUID, sizeof header->store_uuid);
    memcpy(header->identity, page + AT_IDENTITY, sizeof header->identity);
    header->number = adb_get_u64(page + AT_NUMBER);
    header->shard = adb_get_u32(page + AT_SHARD);
    header->kind = (enum segment_kind)adb_get_u32(page + AT_KIND);
    header->check_kind = adb_get_u32(page + AT_CHECK_KIND);
    header->cipher_kind = adb_get_u32(page + AT_CIPHER_KIND);
    header->key_id = adb_get_u64(page + AT_KEY_ID);
    memcpy(header->salt, page + AT_SALT, sizeof header->salt);
    return ARMDB_OK;
}

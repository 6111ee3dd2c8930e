/* test_superblock.c - the file that says what a store is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/bytes.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/log/superblock.h"

static struct superblock sample(void)
{
    struct superblock sb = {.shards = 4,
                            .shard_prefix_bits = 16,
                            .features_compatible = 0xff00,
                            .created_wall_ns = 12345};

    memset(sb.uuid, 0x5a, sizeof sb.uuid);
    return sb;
}

static void rebind(unsigned char *bytes)
{
    uint64_t seed = adb_check_seed(bytes + 16);

    adb_put_u64(bytes + 4088, adb_check_bind(adb_check_raw(bytes, 4088), seed, 4088));
}

/* Changes one byte of a right superblock, rebinds it and decodes. */
static enum armdb_rc decode_changed(size_t at, unsigned char byte, bool *read_only,
                                    struct armdb_error *err)
{
    struct superblock sb = sample();
    unsigned char bytes[SUPERBLOCK_BYTES];

    superblock_encode(&sb, bytes);
    bytes[at] = byte;
    rebind(bytes);
    return superblock_decode(bytes, sizeof bytes, &sb, read_only, err);
}

static void it_survives_encoding(void **state)
{
    struct superblock sb = sample();
    struct superblock back;
    unsigned char bytes[SUPERBLOCK_BYTES];
    bool read_only = true;

    (void)state;
    superblock_encode(&sb, bytes);
    assert_int_equal(superblock_decode(bytes, sizeof bytes, &back, &read_only, NULL),
                     ARMDB_OK);
    assert_false(read_only);
    assert_memory_equal(sb.uuid, back.uuid, 16);
    assert_int_equal(sb.shards, back.shards);
    assert_int_equal(sb.shard_prefix_bits, back.shard_prefix_bits);
    assert_int_equal(sb.features_compatible, back.features_compatible);
    assert_int_equal(sb.created_wall_ns, back.created_wall_ns);
}

static void foreign_files_are_no_store_and_flipped_bits_are_damage(void **state)
{
    struct superblock sb = sample();
    struct superblock back;
    unsigned char bytes[SUPERBLOCK_BYTES];
    bool read_only;

    (void)state;
    superblock_encode(&sb, bytes);
    for (size_t n = 0; n < sizeof bytes; n += 511)
        assert_int_equal(superblock_decode(bytes, n, &back, &read_only, NULL),
                         ARMDB_NOTADB);
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit += bit < 1024 ? 1 : 13) {
        bytes[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        assert_int_equal(superblock_decode(bytes, sizeof bytes, &back, &read_only, NULL),
                         bit < 64 ? ARMDB_NOTADB : ARMDB_CORRUPT);
        bytes[bit / 8] ^= (unsigned char)(1u << (bit % 8));
    }
}

static void feature_bits_decide_what_is_allowed(void **state)
{
    struct armdb_error err = {.rc = ARMDB_OK};
    bool read_only;

    (void)state;
    assert_int_equal(decode_changed(8, 2, &read_only, &err), ARMDB_VERSION);
    assert_non_null(strstr(err.text, "version 2"));
    assert_int_equal(decode_changed(40, 0xff, &read_only, NULL), ARMDB_OK);
    assert_false(read_only);
    assert_int_equal(decode_changed(48, 1, &read_only, NULL), ARMDB_OK);
    assert_true(read_only);
    assert_int_equal(decode_changed(57, 2, &read_only, &err), ARMDB_VERSION);
    assert_non_null(strstr(err.text, "0x200"));
    assert_int_equal(decode_changed(12, 0, &read_only, NULL), ARMDB_CORRUPT);
    assert_int_equal(decode_changed(12, 65, &read_only, NULL), ARMDB_CORRUPT);
    assert_int_equal(decode_changed(36, 1, &read_only, NULL), ARMDB_CORRUPT);
    assert_int_equal(decode_changed(72, 1, &read_only, NULL), ARMDB_CORRUPT);
}

static void it_is_written_and_read_in_a_folder(void **state)
{
    struct adb_io *io = NULL;
    struct adb_dir *dir = NULL;
    struct superblock sb = sample();
    struct superblock back;
    unsigned char longer[SUPERBLOCK_BYTES + 1] = {0};
    bool read_only;

    (void)state;
    assert_int_equal(adb_io_mem_create(&io, NULL), ARMDB_OK);
    assert_int_equal(io->ops->dir_open(io, "/store", true, &dir, NULL), ARMDB_OK);
    assert_int_equal(superblock_read(dir, &back, &read_only, NULL), ARMDB_NOT_FOUND);
    assert_int_equal(superblock_write(dir, &sb, NULL), ARMDB_OK);
    assert_int_equal(superblock_read(dir, &back, &read_only, NULL), ARMDB_OK);
    assert_memory_equal(sb.uuid, back.uuid, 16);
    assert_int_equal(adb_file_replace(dir, SUPERBLOCK_NAME, longer, sizeof longer, NULL),
                     ARMDB_OK);
    assert_int_equal(superblock_read(dir, &back, &read_only, NULL), ARMDB_NOTADB);
    io->ops->dir_close(dir);
    io->ops->destroy(io);
    assert_int_equal(adb_mem_used_total(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_survives_encoding),
        cmocka_unit_test(foreign_files_are_no_store_and_flipped_bits_are_damage),
        cmocka_unit_test(feature_bits_decide_what_is_allowed),
        cmocka_unit_test(it_is_written_and_read_in_a_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

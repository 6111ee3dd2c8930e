/* check.c - XXH3, inlined from its header so that short keys cost no call. */
#include "engine/base/check.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t adb_check_raw(const void *p, size_t n)
{
    return XXH3_64bits(p, n);
}

uint64_t adb_hash_seeded(const void *p, size_t n, uint64_t seed)
{
    return XXH3_64bits_withSeed(p, n, seed);
}

uint64_t adb_check_seed(const unsigned char identity[16])
{
    return XXH3_64bits(identity, 16);
}

/* check.h - the checks over bytes on disk and the hash of keys (XXH3).
 *
 * A check has two steps, so that no hashing happens under the append lock:
 * adb_check_raw() hashes the bytes before their place is known; adb_check_bind()
 * mixes the result with the segment's identity and the offset at which the bytes
 * come to lie. The mix is a bijection of the raw hash, so a stale block of the
 * same file at another place, or of another file, never passes. Layer 0. */
#ifndef ADB_ENGINE_BASE_CHECK_H
#define ADB_ENGINE_BASE_CHECK_H

#include <stddef.h>
#include <stdint.h>

/* XXH3 (64 bits) over n bytes; p may be NULL when n is 0. */
uint64_t adb_check_raw(const void *p, size_t n);

/* XXH3 with a seed: hash map positions use a seed of their own so that they do
 * not follow the shard choice. */
uint64_t adb_hash_seeded(const void *p, size_t n, uint64_t seed);

/* A segment's identity (16 random bytes) as one word for adb_check_bind(). */
uint64_t adb_check_seed(const unsigned char identity[16]);

/* Binds a raw hash to a segment (its seed) and an offset in it. */
static inline uint64_t adb_check_bind(uint64_t raw, uint64_t seed, uint64_t offset)
{
    uint64_t x = raw ^ (seed + offset * UINT64_C(0x9E3779B97F4A7C15));

    /* The finalizer of MurmurHash3 (Appleby): a bijection on 64 bits. */
    x ^= x >> 33;
    x *= UINT64_C(0xFF51AFD7ED558CCD);
    x ^= x >> 33;
    x *= UINT64_C(0xC4CEB9FE1A85EC53);
    x ^= x >> 33;
    return x;
}

#endif

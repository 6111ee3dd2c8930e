/* hashmap.h - equality: key -> node, partitioned, read without locks.
 *
 * 8-byte slots of (32-bit hash, 32-bit node reference), linear probing, position by
 * multiplication, partitions that grow by 1.25 one at a time (staggered, so that no
 * insert pays for more than one small partition): index-notes' layout of 11.2 bytes a
 * key. A small table starts with one small partition and gains partitions as it grows
 * or has all of them tiny: an empty map takes under 4 KiB. A grown partition's old
 * array is retired by epochs; slots of removed keys are reused or cleaned at growth
 * so that insert/delete churn at a constant size never grows the map.
 * Hashes are XXH3 of the key with the map's own seed. Layer 2. */
#ifndef ADB_ENGINE_INDEX_HASHMAP_H
#define ADB_ENGINE_INDEX_HASHMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/rc.h"
#include "engine/base/thread.h"
#include "engine/index/epoch.h"
#include "engine/index/node.h"

struct hashmap;

enum armdb_rc hashmap_create(struct arena *arena, struct epoch *epoch,
                             struct hashmap **out) ADB_MUST_CHECK;
void hashmap_destroy(struct hashmap *map); /* no reader or writer inside */

uint64_t hashmap_hash(const struct hashmap *map, const void *key, size_t key_len);
/* The caller is inside an epoch, or holds the partition lock. 0 when absent. */
node_ref hashmap_find(const struct hashmap *map, uint64_t hash, const void *key,
                      size_t key_len);
/* Brings the slot's cache line in, and then the node's: stages of a batch look-up. */
void hashmap_prefetch(const struct hashmap *map, uint64_t hash);
void hashmap_prefetch_node(const struct hashmap *map, uint64_t hash);

/* Locks the partition of this hash against other writers (rank ADB_RANK_HASH). The
 * lock also guards the version chains of its keys. Returns the lock's token. */
struct adb_mutex *hashmap_lock(struct hashmap *map, uint64_t hash);
void hashmap_unlock(struct adb_mutex *token);
/* Under the lock. The key must not be in the map. */
enum armdb_rc hashmap_insert(struct hashmap *map, uint64_t hash,
                             node_ref node) ADB_MUST_CHECK;
/* Under the lock. The node must be in the map. The node itself is not freed. */
void hashmap_remove(struct hashmap *map, uint64_t hash, node_ref node);
/* Makes room for `count` more keys, so that loading pays for no growth. */
enum armdb_rc hashmap_reserve(struct hashmap *map, uint64_t count) ADB_MUST_CHECK;

/* Filling an empty map with keys that are all known before: each thread takes other
 * groups, no table grows on the way, and what is written stays in the processor's cache.
 * A hash belongs to one group. */
enum { HASHMAP_GROUP_BITS = 5, HASHMAP_GROUPS = 1 << HASHMAP_GROUP_BITS };
static inline size_t hashmap_group(uint64_t hash)
{
    return (size_t)(hash >> (64 - HASHMAP_GROUP_BITS));
}
struct hashmap_item {
    uint32_t hash; /* the low half */
    node_ref node;
};
struct hashmap_items {
    const struct hashmap_item *items; /* borrowed */
    size_t count;
};
/* The group has no keys yet and nobody else uses it; the pieces hold its keys, each key
 * once. On failure (ARMDB_NOMEM) it stays empty. */
enum armdb_rc hashmap_build_group(struct hashmap *map, size_t group,
                                  const struct hashmap_items *pieces,
                                  size_t count) ADB_MUST_CHECK;

uint64_t hashmap_count(const struct hashmap *map);
uint64_t hashmap_bytes(const struct hashmap *map);
/* Verifies every invariant; the map must be at rest. Tests. */
bool hashmap_check(const struct hashmap *map, char *why, size_t why_len);

#endif

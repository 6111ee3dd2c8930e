/* order.h - order: a skiplist with many keys per node ("leaves"), both ways.
 *
 * Leaves of 1 KiB with an unsorted tail and sorted 8-byte digests with 4-byte node
 * references, split when full; upper levels of blocks with separators. Blocks are
 * copied, never changed under a reader, but for the leaf's tail, which is published
 * by its count. Readers take no lock and no retry loop can starve them; writers of
 * one index take its mutex (rank ADB_RANK_ORDER) after finding the leaf without it.
 * Design and measurements: DESIGN.md, "Order index". Layer 2. */
#ifndef ADB_ENGINE_INDEX_ORDER_H
#define ADB_ENGINE_INDEX_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/rc.h"
#include "engine/index/epoch.h"
#include "engine/index/node.h"

struct order;

enum armdb_rc order_create(struct arena *arena, struct epoch *epoch,
                           struct order **out) ADB_MUST_CHECK;
void order_destroy(struct order *order); /* no reader or writer inside */

/* Inserts a node whose key is not in the index; removes one that is. Thread-safe.
 * The caller is inside an epoch of its own. remove never fails: when memory for a
 * copy cannot be had it edits by other means. */
enum armdb_rc order_insert(struct order *order, node_ref node) ADB_MUST_CHECK;
void order_remove(struct order *order, node_ref node);
/* Builds an empty index from nodes in rising key order, faster than inserting. */
enum armdb_rc order_build(struct order *order, const node_ref *sorted,
                          uint64_t count) ADB_MUST_CHECK;

enum { ORDER_BATCH_MAX = 128 };

/* Where a batch starts. */
struct order_from {
    const void *key; /* NULL: from the end of the index that `reverse` starts at */
    size_t key_len;
    bool inclusive; /* a node whose key equals `key` belongs to the batch */
    bool reverse;   /* falling keys */
};
/* Stores up to `max` (<= ORDER_BATCH_MAX) node references, in scan order, starting
 * at `from`, and their number in *count. 0 means that the index has no further key
 * in that direction (never merely that one leaf was empty). Every key that is in
 * the index during the whole call and lies between the first and last key delivered
 * is delivered; keys inserted or removed meanwhile may or may not be. The caller is
 * inside an epoch, in which the references stay valid. Prefetches the nodes. */
void order_scan(const struct order *order, const struct order_from *from, node_ref *nodes,
                size_t max, size_t *count);

/* Estimated number of keys below `key`, from a few blocks. */
uint64_t order_rank(const struct order *order, const void *key, size_t key_len);
uint64_t order_count(const struct order *order);
uint64_t order_bytes(const struct order *order);
/* Verifies every invariant (order, separators, digests, counts, both directions
 * give the same keys); the index must be at rest. Tests. */
bool order_check(const struct order *order, char *why, size_t why_len);

#endif

/* order_scan.c - reading the order index: batches of a scan, ranks.
 *
 * A batch begins with one descent and goes on from leaf to leaf (order_path.c). Each
 * leaf gives its references in order, tail sorted in; the nodes are prefetched as they
 * are delivered, the next leaf when one is entered, so that the misses of a batch
 * overlap.
 *
 * A scan keeps nothing between two batches: it starts again behind the last key
 * delivered. So it is never in the way of a writer and cannot lose its place. */
#include "engine/index/order.h"

#include "engine/index/order_block.h"

enum {
    LINE_BYTES = 64,
    WEIGH_MAX = 16 /* with so few children their sizes matter for a rank */
};

/* Brings in the leaf that comes after the path's. */
static void prefetch_next(const struct order_path *path, bool reverse)
{
    struct order_inner *inner;
    size_t at;

    if (path->depth == 0)
        return;
    inner = path->step[path->depth - 1].inner;
    at = path->step[path->depth - 1].at;
    if (reverse ? at > 0 : at + 1 < inner->block.count)
        block_prefetch(inner_child(inner, reverse ? at - 1 : at + 1));
}

static void deliver(const struct order *order, node_ref ref, node_ref *to)
{
    const char *node = (const char *)arena_node(order->arena, ref);

    __builtin_prefetch(node);
    __builtin_prefetch(node + LINE_BYTES);
    *to = ref;
}

void order_scan(const struct order *order, const struct order_from *from, node_ref *nodes,
                size_t max, size_t *count)
{
    struct order_key key = {from->key, from->key_len};
    const struct order_from *bound = from->key == NULL ? NULL : from;
    node_ref refs[LEAF_LIST_MAX];
    struct order_path path;
    size_t delivered = 0;
    bool more = true;

    ADB_ASSERT(max <= ORDER_BATCH_MAX);
    path_find(order, bound == NULL ? NULL : &key, from->reverse, &path);
    while (more && delivered < max) {
        size_t listed;
        size_t taken;

        /* One key is often all that is wanted, and its leaf has it. */
        if (max - delivered > LEAF_TAIL)
            prefetch_next(&path, from->reverse);
        listed = leaf_list(order, path.leaf, bound, refs);
        taken = listed < max - delivered ? listed : max - delivered;
        for (size_t i = 0; i < taken; i++)
            deliver(order, refs[from->reverse ? listed - 1 - i : i], &nodes[delivered++]);
        bound = NULL; /* later leaves lie wholly beyond the key */
        more = delivered < max && path_step(&path, from->reverse);
    }
    *count = delivered;
}

/* About how many keys are below a block, as a share: its children or entries. */
static uint64_t weight(struct order_block *block)
{
    if (block->level > 0)
        return block->count;
    return (uint64_t)block->count + 1 +
           atomic_load_explicit(&as_leaf(block)->tail_count, memory_order_relaxed);
}

/* Estimates as if all children of a block held the same number of keys, or, if they are
 * few and so may differ by much, in proportion to their own number of children. */
uint64_t order_rank(const struct order *order, const void *key, size_t key_len)
{
    struct order_key wanted = {key, key_len};
    struct order_path path;
    double low = 0;
    double share = 1;
    size_t below;

    path_find(order, &wanted, false, &path);
    for (size_t d = 0; d < path.depth; d++) {
        struct order_inner *inner = path.step[d].inner;
        uint64_t before = path.step[d].at;
        uint64_t own = 1;
        uint64_t all = inner->block.count;

        if (inner->block.count <= WEIGH_MAX) {
            before = 0;
            all = 0;
            for (size_t i = 0; i < inner->block.count; i++) {
                uint64_t of_child = weight(inner_child(inner, i));

                before += i < path.step[d].at ? of_child : 0;
                own = i == path.step[d].at ? of_child : own;
                all += of_child;
            }
        }
        low += share * (double)before / (double)all;
        share *= (double)own / (double)all;
    }
    below = leaf_position(
        order, path.leaf, &wanted,
        order_digest(wanted.bytes, wanted.len, path.leaf->block.prefix_len), false);
    low += share * (double)below / ((double)path.leaf->block.count + 1);
    return (uint64_t)(low * (double)order_count(order));
}

/* order_path.c - the way from the root to a leaf and from leaf to leaf.
 *
 * Leaves are not linked. Who goes from one to the next keeps the inner blocks he came
 * through and takes the next child of the lowest one that has one. Meanwhile writers
 * may replace any of these blocks. That does no harm: a replaced block is never
 * changed again, so it still leads to all keys that were below it when it was
 * replaced, which is after the walk began; of a key that is in the index all the time
 * there is an entry in what the walk still has before it. Nothing is ever tried
 * again. */
#include "engine/index/order_block.h"

void path_down(struct order_block *block, const struct order_key *key, bool last,
               struct order_path *path)
{
    path->depth = 0;
    while (block->level > 0) {
        struct order_inner *inner = as_inner(block);
        size_t at = last ? (size_t)inner->block.count - 1 : 0;

        if (key != NULL)
            at = inner_search(inner, key);
        ADB_ASSERT(path->depth < ORDER_LEVELS_MAX);
        path->step[path->depth].inner = inner;
        path->step[path->depth].at = at;
        path->depth++;
        block = inner_child(inner, at);
        block_prefetch(block);
    }
    path->leaf = as_leaf(block);
}

void path_find(const struct order *order, const struct order_key *key, bool last,
               struct order_path *path)
{
    path_down(order_root(order), key, last, path);
}

bool path_step(struct order_path *path, bool reverse)
{
    struct order_block *block;

    while (path->depth > 0) {
        size_t at = path->step[path->depth - 1].at;

        if (reverse ? at > 0 : at + 1 < path->step[path->depth - 1].inner->block.count)
            break;
        path->depth--;
    }
    if (path->depth == 0)
        return false;
    if (reverse)
        path->step[path->depth - 1].at--;
    else
        path->step[path->depth - 1].at++;
    block =
        inner_child(path->step[path->depth - 1].inner, path->step[path->depth - 1].at);
    while (block->level > 0) {
        struct order_inner *inner = as_inner(block);
        size_t at = reverse ? (size_t)inner->block.count - 1 : 0;

        path->step[path->depth].inner = inner;
        path->step[path->depth].at = at;
        path->depth++;
        block = inner_child(inner, at);
    }
    path->leaf = as_leaf(block);
    return true;
}

struct order_leaf *order_find_leaf(const struct order *order, const struct order_key *key)
{
    struct order_block *block = order_root(order);

    while (block->level > 0) {
        struct order_inner *inner = as_inner(block);

        block = inner_child(inner, inner_search(inner, key));
    }
    return as_leaf(block);
}

struct order_bounds path_bounds(const struct order_path *path)
{
    struct order_bounds bounds = {NULL, NULL};

    for (size_t d = path->depth; d > 0; d--) {
        struct order_inner *inner = path->step[d - 1].inner;
        size_t at = path->step[d - 1].at;

        if (bounds.low == NULL && at > 0)
            bounds.low = inner_seps(inner)[at - 1];
        if (bounds.high == NULL && at + 1 < inner->block.count)
            bounds.high = inner_seps(inner)[at];
    }
    return bounds;
}

/* order.c - order: creation, inserting, removing, building.
 *
 *                     [ inner: separators ]              levels 1, 2, ...
 *                    /         |           \
 *              [ leaf ]    [ leaf ]     [ leaf ]         level 0
 *               digests and node references
 *
 * The pieces: order_leaf.c and order_inner.c know one block, order_path.c finds the way
 * through them, order_edit.c changes the tree, order_scan.c reads it.
 *
 * An insert finds its leaf without the lock, which is where the cache misses are, and
 * then needs the lock for a few nanoseconds: a leaf that is still in the tree is still
 * the right one, since its bounds never change, and its tail mostly has room. Every
 * ninth insert finds the tail full and rebuilds the leaf, which is all that keeps
 * writers of one index apart. Removing stores one 0; small leaves are merged.
 *
 * This does the work of a skiplist whose towers are blocks: the same order on every
 * level, without pointers between neighbours and without drawn heights, which would
 * fill the leaves to 0.4 only. */
#include "engine/index/order.h"

#include "engine/base/mem.h"
#include "engine/index/order_block.h"

enum {
    LINE_BYTES = 64,
    BUILD_ENTRIES = LEAF_MAX * 9 / 10,  /* fill of a built leaf */
    BUILD_CHILDREN = INNER_MAX * 9 / 10 /* and of an inner block */
};

static struct order_leaf *create_empty_leaf(struct order *order)
{
    struct order_bounds bounds = {NULL, NULL};
    struct leaf_entries entries;

    entries.count = 0;
    entries.prefix_len = 0;
    return leaf_create(order, &entries, 0, 0, &bounds);
}

enum armdb_rc order_create(struct arena *arena, struct epoch *epoch, struct order **out)
{
    enum armdb_rc rc = ARMDB_NOMEM;
    struct order_leaf *leaf = NULL;
    struct order *order;

    *out = NULL;
    order = adb_alloc_aligned(ADB_MEM_ORDER, sizeof *order, LINE_BYTES);
    if (order == NULL)
        goto out;
    memset(order, 0, sizeof *order);
    order->arena = arena;
    order->epoch = epoch;
    leaf = create_empty_leaf(order);
    if (leaf == NULL)
        goto out;
    rc = adb_mutex_init(&order->lock, ADB_RANK_ORDER);
    if (rc != ARMDB_OK)
        goto out;
    atomic_init(&order->root, &leaf->block);
    atomic_init(&order->bytes, leaf_bytes(leaf));
    leaf = NULL;
    *out = order;
    order = NULL;
out:
    adb_free(ADB_MEM_ORDER, leaf);
    adb_free_aligned(ADB_MEM_ORDER, order);
    return rc;
}

/* Frees a tree that nobody else knows. */
static void free_tree(struct order_block *root)
{
    struct order_path path;
    bool more = true;

    path_down(root, NULL, false, &path);
    while (more) {
        adb_free(ADB_MEM_ORDER, path.leaf);
        /* The blocks that path_step is about to leave for good. */
        while (path.depth > 0 && path.step[path.depth - 1].at + 1 ==
                                     path.step[path.depth - 1].inner->block.count) {
            struct order_inner *inner = path.step[--path.depth].inner;

            for (size_t i = 0; i + 1 < inner->block.count; i++)
                adb_free(ADB_MEM_ORDER, inner_seps(inner)[i]);
            block_free(&inner->block);
        }
        more = path_step(&path, false);
    }
}

void order_destroy(struct order *order)
{
    if (order == NULL)
        return;
    free_tree(order_root(order));
    adb_mutex_fini(&order->lock);
    adb_free_aligned(ADB_MEM_ORDER, order);
}

static void add_count(struct order *order, uint64_t delta)
{
    uint64_t count = atomic_load_explicit(&order->count, memory_order_relaxed);

    atomic_store_explicit(&order->count, count + delta, memory_order_relaxed);
}

static bool tail_is_full(struct order_leaf *leaf)
{
    return atomic_load_explicit(&leaf->tail_count, memory_order_relaxed) == LEAF_TAIL;
}

/* `leaf` is where the key belonged a moment ago. */
static enum armdb_rc insert_locked(struct order *order, struct order_leaf *leaf,
                                   const struct order_key *key, node_ref node,
                                   struct order_block **old) ADB_REQUIRES(order->lock)
{
    struct order_path path;
    enum armdb_rc rc;

    adb_mutex_assert_held(&order->lock);
    if (leaf->block.replaced)
        leaf = order_find_leaf(order, key);
    if (tail_is_full(leaf)) {
        path_find(order, key, false, &path);
        rc = order_rebuild_leaf(order, &path, node, old);
        if (rc != ARMDB_OK)
            return rc;
    } else {
        leaf_append(leaf, key, node);
    }
    add_count(order, 1);
    return ARMDB_OK;
}

enum armdb_rc order_insert(struct order *order, node_ref node)
{
    struct order_key key = order_node_key(order, node);
    struct order_leaf *leaf = order_find_leaf(order, &key);
    struct order_block *old = NULL;
    enum armdb_rc rc;

    __builtin_prefetch(&leaf->block.level, 1);
    __builtin_prefetch(&leaf->tail_ref, 1);
    adb_mutex_lock(&order->lock);
    rc = insert_locked(order, leaf, &key, node, &old);
    adb_mutex_unlock(&order->lock);
    order_retire(order, old);
    return rc;
}

static void remove_locked(struct order *order, struct order_leaf *leaf,
                          const struct order_key *key, node_ref node,
                          struct order_block **old) ADB_REQUIRES(order->lock)
{
    bool found;
    size_t live;

    adb_mutex_assert_held(&order->lock);
    if (leaf->block.replaced)
        leaf = order_find_leaf(order, key);
    found = leaf_forget(order, leaf, node);
    ADB_ASSERT(found);
    if (!found)
        return;
    add_count(order, (uint64_t)0 - 1);
    live = leaf_live(leaf);
    if (live <= LEAF_MERGE_AT || (leaf->dead >= LEAF_MERGE_AT && leaf->dead >= live / 2))
        order_shrink(order, key, old);
}

void order_remove(struct order *order, node_ref node)
{
    struct order_key key = order_node_key(order, node);
    struct order_leaf *leaf = order_find_leaf(order, &key);
    struct order_block *old = NULL;

    block_prefetch(&leaf->block);
    adb_mutex_lock(&order->lock);
    remove_locked(order, leaf, &key, node, &old);
    adb_mutex_unlock(&order->lock);
    order_retire(order, old);
}

uint64_t order_count(const struct order *order)
{
    return atomic_load_explicit(&order->count, memory_order_relaxed);
}

uint64_t order_bytes(const struct order *order)
{
    return sizeof *order + atomic_load_explicit(&order->bytes, memory_order_relaxed);
}

/* ---- building ---- */

/* The trees that are to be one level of the index; all owned. */
struct build {
    struct order *order;
    size_t count;
    struct order_block **block;
    struct order_block **upper; /* room for the next level */
    struct order_sep **sep;     /* sep[i] stands between block[i] and block[i + 1] */
    uint64_t bytes;
};

/* Where piece i begins when `count` things are cut into even pieces. */
static uint64_t piece_start(uint64_t count, uint64_t pieces, uint64_t i)
{
    return count / pieces * i + (i < count % pieces ? i : count % pieces);
}

/* The next leaf: keys [from, to). */
static enum armdb_rc build_leaf(struct build *build, const node_ref *sorted,
                                uint64_t from, uint64_t to)
{
    size_t at = build->count;
    struct order_bounds bounds = {at == 0 ? NULL : build->sep[at - 1], build->sep[at]};
    struct leaf_entries entries;
    struct order_leaf *leaf;

    entries.count = (size_t)(to - from);
    entries.prefix_len = order_bounds_prefix(&bounds);
    for (uint64_t i = from; i < to; i++)
        __builtin_prefetch(arena_node(build->order->arena, sorted[i]));
    for (uint64_t i = from; i < to; i++) {
        struct order_key key = order_node_key(build->order, sorted[i]);

        entries.entry[i - from].digest =
            order_digest(key.bytes, key.len, entries.prefix_len);
        entries.entry[i - from].ref = sorted[i];
    }
    leaf = leaf_create(build->order, &entries, 0, entries.count, &bounds);
    if (leaf == NULL)
        return ARMDB_NOMEM;
    build->block[build->count++] = &leaf->block;
    build->bytes += leaf_bytes(leaf);
    return ARMDB_OK;
}

static enum armdb_rc build_leaves(struct build *build, const node_ref *sorted,
                                  uint64_t count, uint64_t leaves)
{
    enum armdb_rc rc = ARMDB_OK;

    for (uint64_t i = 0; i < leaves && rc == ARMDB_OK; i++) {
        uint64_t to = piece_start(count, leaves, i + 1);

        if (i + 1 < leaves) {
            build->sep[i] = sep_between(build->order, sorted[to - 1], sorted[to]);
            if (build->sep[i] == NULL)
                return ARMDB_NOMEM;
            build->bytes += sep_bytes(build->sep[i]);
        }
        rc = build_leaf(build, sorted, piece_start(count, leaves, i), to);
    }
    return rc;
}

/* Puts the next level over the blocks; they stay as they are without memory. */
static enum armdb_rc build_level(struct build *build)
{
    size_t blocks = (build->count + BUILD_CHILDREN - 1) / BUILD_CHILDREN;
    struct inner_list list;

    list.level = (uint8_t)(build->block[0]->level + 1);
    list.digests_valid = false;
    list.prefix_len = 0;
    for (size_t i = 0; i < blocks; i++) {
        size_t from = (size_t)piece_start(build->count, blocks, i);
        struct order_inner *inner;

        list.count = (size_t)piece_start(build->count, blocks, i + 1) - from;
        memcpy(list.child, build->block + from,
               list.count * sizeof(struct order_block *));
        memcpy(list.sep, build->sep + from, list.count * sizeof(struct order_sep *));
        inner = inner_create(&list, 0, list.count);
        if (inner == NULL) {
            while (i > 0)
                block_free(build->upper[--i]);
            return ARMDB_NOMEM;
        }
        build->upper[i] = &inner->block;
        build->bytes += inner_bytes(inner);
    }
    /* The separators between pieces are those of the new level. */
    for (size_t i = 0; i + 1 < blocks; i++)
        build->sep[i] = build->sep[piece_start(build->count, blocks, i + 1) - 1];
    for (size_t i = blocks - 1; i < build->count; i++)
        build->sep[i] = NULL;
    memcpy(build->block, build->upper, blocks * sizeof(struct order_block *));
    build->count = blocks;
    return ARMDB_OK;
}

static void publish_built(struct build *build, uint64_t count)
{
    struct order *order = build->order;
    struct order_block *empty;

    adb_mutex_lock(&order->lock);
    ADB_ASSERT(order_count(order) == 0);
    empty = order_root(order);
    empty->replaced = true;
    empty->retired.next = NULL;
    atomic_store_explicit(&order->bytes, build->bytes, memory_order_relaxed);
    add_count(order, count);
    /* Pairs with the acquire load in order_root(). */
    atomic_store_explicit(&order->root, build->block[0], memory_order_release);
    adb_mutex_unlock(&order->lock);
    order_retire(order, empty);
}

enum armdb_rc order_build(struct order *order, const node_ref *sorted, uint64_t count)
{
    uint64_t leaves = (count + BUILD_ENTRIES - 1) / BUILD_ENTRIES;
    size_t uppers = (size_t)leaves / BUILD_CHILDREN + 1;
    struct build build = {.order = order};
    enum armdb_rc rc = ARMDB_NOMEM;

    if (count == 0)
        return ARMDB_OK;
    build.block = adb_alloc(ADB_MEM_ORDER, (size_t)leaves * sizeof(struct order_block *));
    build.sep =
        adb_alloc_zero(ADB_MEM_ORDER, (size_t)leaves * sizeof(struct order_sep *));
    build.upper = adb_alloc(ADB_MEM_ORDER, uppers * sizeof(struct order_block *));
    if (build.block == NULL || build.sep == NULL || build.upper == NULL)
        goto out;
    rc = build_leaves(&build, sorted, count, leaves);
    while (rc == ARMDB_OK && build.count > 1)
        rc = build_level(&build);
    if (rc == ARMDB_OK) {
        publish_built(&build, count);
        build.count = 0;
    }
out:
    if (rc != ARMDB_OK) {
        for (size_t i = 0; i < build.count; i++)
            free_tree(build.block[i]);
        /* One may stand behind the last block; those not made yet are NULL. */
        for (size_t i = 0; build.sep != NULL && i <= build.count && i < leaves; i++)
            adb_free(ADB_MEM_ORDER, build.sep[i]);
    }
    adb_free(ADB_MEM_ORDER, build.upper);
    adb_free(ADB_MEM_ORDER, build.sep);
    adb_free(ADB_MEM_ORDER, build.block);
    return rc;
}

/* order_check.c - every invariant of the order index, for tests.
 *
 * Walks the tree leaf by leaf and looks at each inner block when the walk enters it.
 * Then scans in both directions and compares: that scans agree with the tree is not a
 * matter of course (a reverse scan that stops at a block's edge finds all keys of a
 * small index). */
#include "engine/index/order.h"

#include <stdio.h>

#include "engine/index/order_block.h"

struct check {
    const struct order *order;
    uint64_t keys;
    uint64_t bytes;
    struct order_key last; /* the key before; bytes NULL = none yet */
};

static struct order_key sep_key(const struct order_sep *sep)
{
    return (struct order_key){sep->bytes, sep->len};
}

static int compare(const struct order_key *a, const struct order_key *b)
{
    return order_compare(a->bytes, a->len, b->bytes, b->len);
}

static const char *check_inner(struct check *check, struct order_inner *inner)
{
    size_t seps = (size_t)inner->block.count - 1;
    uint32_t prefix_len = inner->block.prefix_len;

    if (inner->block.count < 1 || inner->block.count > INNER_MAX)
        return "an inner block has no or too many children";
    if (inner->block.replaced || inner->dropped != NULL)
        return "a replaced inner block is in the tree";
    for (size_t i = 0; i < inner->block.count; i++)
        if (inner_child(inner, i)->level + 1 != inner->block.level)
            return "levels do not follow each other";
    for (size_t i = 0; i < seps; i++) {
        const struct order_sep *sep = inner_seps(inner)[i];
        struct order_key key = sep_key(sep);

        if (sep->len < prefix_len ||
            memcmp(sep->bytes, inner_prefix(inner), prefix_len) != 0)
            return "a separator does not have the block's prefix";
        if (inner->digest[i] != order_digest(sep->bytes, sep->len, prefix_len))
            return "a separator's digest is wrong";
        if (i > 0) {
            struct order_key before = sep_key(inner_seps(inner)[i - 1]);

            if (compare(&before, &key) >= 0)
                return "separators do not rise";
        }
        if (inner_search(inner, &key) != i + 1)
            return "a separator is not found in its block";
        check->bytes += sep_bytes(sep);
    }
    check->bytes += inner_bytes(inner);
    return NULL;
}

/* The bounds of every block must lie inside those of the block above. */
static const char *check_bounds(const struct order_bounds *bounds,
                                const struct order_key *key)
{
    struct order_key edge;

    if (bounds->low != NULL) {
        edge = sep_key(bounds->low);
        if (compare(&edge, key) > 0)
            return "a key is below its leaf's low separator";
    }
    if (bounds->high != NULL) {
        edge = sep_key(bounds->high);
        if (compare(key, &edge) >= 0)
            return "a key is not below its leaf's high separator";
    }
    return NULL;
}

static const char *check_leaf(struct check *check, struct order_path *path)
{
    struct order_leaf *leaf = path->leaf;
    struct order_bounds bounds = path_bounds(path);
    uint32_t tail = atomic_load_explicit(&leaf->tail_count, memory_order_relaxed);
    node_ref refs[LEAF_LIST_MAX];
    size_t count = leaf_list(check->order, leaf, NULL, refs);
    const char *fault = NULL;

    if (leaf->block.replaced)
        return "a replaced leaf is in the tree";
    if (leaf->block.count > LEAF_MAX || tail > LEAF_TAIL)
        return "a leaf has too many entries";
    if (count != leaf_live(leaf))
        return "a leaf counts its removed keys wrongly";
    if (leaf->block.prefix_len > order_bounds_prefix(&bounds))
        return "a leaf's prefix is longer than its bounds allow";
    for (size_t i = 1; i < leaf->block.count; i++)
        if (leaf->digest[i - 1] > leaf->digest[i])
            return "digests do not rise";
    for (size_t i = 0; i < leaf->block.count + tail; i++) {
        bool sorted = i < leaf->block.count;
        size_t at = sorted ? i : i - leaf->block.count;
        node_ref ref = atomic_load_explicit(
            sorted ? &leaf_refs(leaf)[at] : &leaf->tail_ref[at], memory_order_relaxed);
        struct order_key key;

        if (ref == 0)
            continue;
        key = order_node_key(check->order, ref);
        if ((sorted ? leaf->digest[at] : leaf->tail_digest[at]) !=
            order_digest(key.bytes, key.len, leaf->block.prefix_len))
            return "a key's digest is wrong";
        if (order_find_leaf(check->order, &key) != leaf)
            return "a key is not found in its leaf";
    }
    for (size_t i = 0; i < count && fault == NULL; i++) {
        struct order_key key = order_node_key(check->order, refs[i]);

        if (check->last.bytes != NULL && compare(&check->last, &key) >= 0)
            return "keys do not rise";
        fault = check_bounds(&bounds, &key);
        check->last = key;
        check->keys++;
    }
    check->bytes += leaf_bytes(leaf);
    return fault;
}

static const char *check_tree(struct check *check)
{
    const char *fault = NULL;
    struct order_path path;
    bool more = true;

    path_find(check->order, NULL, false, &path);
    while (more && fault == NULL) {
        /* The blocks that the walk has just entered: it stands at their child 0. */
        for (size_t d = path.depth; d > 0 && fault == NULL; d--) {
            if (path.step[d - 1].at != 0)
                break;
            fault = check_inner(check, path.step[d - 1].inner);
        }
        if (fault == NULL)
            fault = check_leaf(check, &path);
        more = path_step(&path, false);
    }
    return fault;
}

/* Scans up, and for each batch down again from its last key. */
static const char *check_scans(struct check *check)
{
    struct order_from up = {.key = NULL};
    node_ref nodes[ORDER_BATCH_MAX];
    node_ref back[ORDER_BATCH_MAX];
    uint64_t keys = 0;
    size_t count;
    size_t down_count;

    for (;;) {
        struct order_from down = {.inclusive = true, .reverse = true};
        struct order_key last;

        order_scan(check->order, &up, nodes, ORDER_BATCH_MAX, &count);
        if (count == 0)
            break;
        keys += count;
        last = order_node_key(check->order, nodes[count - 1]);
        down.key = last.bytes;
        down.key_len = last.len;
        order_scan(check->order, &down, back, count, &down_count);
        if (down_count != count)
            return "a scan down ends too early";
        for (size_t i = 0; i < count; i++)
            if (back[count - 1 - i] != nodes[i])
                return "scans up and down differ";
        up.key = last.bytes;
        up.key_len = last.len;
    }
    return keys == check->keys ? NULL : "a scan does not find all keys";
}

bool order_check(const struct order *order, char *why, size_t why_len)
{
    struct check check = {.order = order};
    const char *fault = check_tree(&check);

    if (fault == NULL && check.keys != order_count(order))
        fault = "the count is wrong";
    if (fault == NULL && check.bytes + sizeof *order != order_bytes(order))
        fault = "the bytes are counted wrongly";
    if (fault == NULL)
        fault = check_scans(&check);
    (void)snprintf(why, why_len, "%s", fault == NULL ? "" : fault);
    return fault == NULL;
}

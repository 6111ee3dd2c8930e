/* order_block.h - the blocks of the order index: private to order*.c.
 *
 *   leaf:  | head | tail: 8 digests, 8 refs | sorted digests ... | sorted refs ... |
 *   inner: | head | digests ... | separators ... | children ... | prefix |
 *
 * A leaf holds the keys between two separators. Its sorted part never changes but for
 * references that become 0 (removed); new keys go into the tail, in any order, and are
 * published by tail_count. Child i of an inner block holds the keys from separator
 * i - 1 (inclusive) to separator i; the first and the last child go on to the bounds
 * of the block. Everything of an inner block is constant but its child pointers.
 *
 * A digest is 8 bytes of a key, big-endian, from prefix_len on, zero padded. All keys
 * of a leaf share their first prefix_len bytes because its two separators do, so a
 * leaf need not know these bytes. An inner block has them, because what is looked up
 * in it may differ there.
 *
 * Who may write: the holder of the order's lock. Layer 2. */
#ifndef ADB_ENGINE_INDEX_ORDER_BLOCK_H
#define ADB_ENGINE_INDEX_ORDER_BLOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "engine/base/thread.h"
#include "engine/index/epoch.h"
#include "engine/index/node.h"
#include "engine/index/order.h"

enum {
    LEAF_MAX = 72,       /* entries of a leaf when it is made */
    LEAF_TAIL = 8,       /* and in its tail */
    LEAF_MERGE_AT = 18,  /* with so few live entries a leaf looks for a neighbour */
    LEAF_MERGE_MAX = 54, /* and together they have at most so many */
    INNER_MAX = 128,     /* children */
    INNER_MERGE_AT = 32, /* as for leaves */
    INNER_MERGE_MAX = 96,
    INNER_PREFIX_MAX = 256, /* bytes of a common prefix that a block stores */
    ORDER_LEVELS_MAX = 16,
    ENTRIES_MAX = LEAF_MAX + LEAF_TAIL + 1 /* a full leaf and one more key */
};

/* A separator: bytes of its own, since the key it was made from may be freed. Belongs
 * to the one current inner block that has it. */
struct order_sep {
    struct order_sep *next; /* in a list of dropped separators */
    size_t len;
    unsigned char bytes[];
};

struct order_block {
    struct epoch_item retired; /* first: what the epoch frees */
    uint8_t level;             /* 0 = leaf */
    bool replaced;             /* no longer in the tree; guarded by the order's lock */
    uint16_t count;            /* leaf: sorted entries; inner: children */
    uint32_t prefix_len;
};

struct order_leaf {
    struct order_block block;
    _Atomic uint32_t tail_count; /* published entries of the tail: release / acquire */
    uint32_t dead;               /* entries whose reference is 0; guarded by the lock */
    uint64_t tail_digest[LEAF_TAIL];
    _Atomic node_ref tail_ref[LEAF_TAIL];
    uint64_t digest[]; /* sorted; the references follow */
};

struct order_inner {
    struct order_block block;
    struct order_sep *dropped; /* freed with this block; guarded by the order's lock */
    uint64_t digest[];         /* count - 1 of them; the other arrays follow */
};

struct order {
    /* Constant. */
    struct arena *arena; /* borrowed */
    struct epoch *epoch; /* borrowed */
    /* Written under the lock; release / acquire. */
    _Atomic(struct order_block *) root;
    /* Keys, and bytes of the blocks and separators of the tree: relaxed statistics. */
    _Alignas(64) _Atomic uint64_t count;
    _Atomic uint64_t bytes;
    _Alignas(64) struct adb_mutex lock; /* ADB_RANK_ORDER */
};

/* A key looked for. */
struct order_key {
    const unsigned char *bytes;
    size_t len;
};

/* One key of a leaf, while a new leaf is put together. */
struct leaf_entry {
    uint64_t digest;
    node_ref ref;
};

struct leaf_entries {
    size_t count;
    uint32_t prefix_len; /* of the digests */
    struct leaf_entry entry[ENTRIES_MAX];
};

/* The separators around a block; NULL = the end of the index. */
struct order_bounds {
    const struct order_sep *low;
    const struct order_sep *high;
};

/* Children and separators of one or two inner blocks, while new ones are put together.
 * sep[i] and digest[i] stand between child[i] and child[i + 1]. */
struct inner_list {
    size_t count;
    uint8_t level;
    bool digests_valid; /* digest[] was taken at prefix_len, which all sep[] share */
    uint32_t prefix_len;
    struct order_block *child[2 * INNER_MAX];
    struct order_sep *sep[2 * INNER_MAX];
    uint64_t digest[2 * INNER_MAX];
};

/* The way from the root to a leaf. */
struct order_path {
    size_t depth; /* inner blocks on the way */
    struct {
        struct order_inner *inner;
        size_t at; /* which child */
    } step[ORDER_LEVELS_MAX];
    struct order_leaf *leaf;
};

/* ---- keys ---- */

static inline uint64_t order_digest(const unsigned char *key, size_t len,
                                    size_t prefix_len)
{
    uint64_t digest = 0;

    if (len >= prefix_len + sizeof digest) {
        memcpy(&digest, key + prefix_len, sizeof digest);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        digest = __builtin_bswap64(digest);
#endif
        return digest;
    }
    for (size_t i = prefix_len; i < len; i++)
        digest |= (uint64_t)key[i] << (56 - 8 * (i - prefix_len));
    return digest;
}

/* memcmp order; a prefix comes first. */
static inline int order_compare(const unsigned char *a, size_t a_len,
                                const unsigned char *b, size_t b_len)
{
    size_t len = a_len < b_len ? a_len : b_len;
    int order = len == 0 ? 0 : memcmp(a, b, len);

    if (order != 0)
        return order;
    return (a_len > b_len) - (a_len < b_len);
}

static inline size_t order_common_prefix(const unsigned char *a, size_t a_len,
                                         const unsigned char *b, size_t b_len)
{
    size_t len = a_len < b_len ? a_len : b_len;
    size_t same = 0;

    while (same < len && a[same] == b[same])
        same++;
    return same;
}

static inline struct order_key order_node_key(const struct order *order, node_ref ref)
{
    const struct node *node = arena_node(order->arena, ref);

    return (struct order_key){node->key, node_key_len(node)};
}

/* What all keys between two separators share. */
static inline uint32_t order_bounds_prefix(const struct order_bounds *bounds)
{
    if (bounds->low == NULL || bounds->high == NULL)
        return 0;
    return (uint32_t)order_common_prefix(bounds->low->bytes, bounds->low->len,
                                         bounds->high->bytes, bounds->high->len);
}

/* ---- parts of blocks ---- */

static inline _Atomic node_ref *leaf_refs(struct order_leaf *leaf)
{
    return (_Atomic node_ref *)(void *)(leaf->digest + leaf->block.count);
}

static inline struct order_sep **inner_seps(struct order_inner *inner)
{
    return (struct order_sep **)(void *)(inner->digest + (inner->block.count - 1));
}

static inline _Atomic(struct order_block *) *inner_children(struct order_inner *inner)
{
    return (_Atomic(struct order_block *) *)(void *)(inner_seps(inner) +
                                                     (inner->block.count - 1));
}

static inline unsigned char *inner_prefix(struct order_inner *inner)
{
    return (unsigned char *)(void *)(inner_seps(inner) + (inner->block.count - 1)) +
           inner->block.count * sizeof(struct order_block *);
}

static inline struct order_leaf *as_leaf(struct order_block *block)
{
    return (struct order_leaf *)(void *)block;
}

static inline struct order_inner *as_inner(struct order_block *block)
{
    return (struct order_inner *)(void *)block;
}

/* Pairs with the release store in edit_publish() (order_edit.c). */
static inline struct order_block *inner_child(struct order_inner *inner, size_t i)
{
    return atomic_load_explicit(&inner_children(inner)[i], memory_order_acquire);
}

static inline struct order_block *order_root(const struct order *order)
{
    return atomic_load_explicit(&order->root, memory_order_acquire);
}

/* Live keys of a leaf; under the lock. */
static inline size_t leaf_live(struct order_leaf *leaf)
{
    return leaf->block.count +
           atomic_load_explicit(&leaf->tail_count, memory_order_relaxed) - leaf->dead;
}

/* ---- order_leaf.c ---- */

/* Brings in what a search in this block or a list of this leaf will read, without
 * looking at it: all of a leaf, as much of an inner block. */
void block_prefetch(const struct order_block *block);
/* The number of sorted entries with a key below `key`, or (`after`) not above it. */
size_t leaf_position(const struct order *order, struct order_leaf *leaf,
                     const struct order_key *key, uint64_t digest, bool after);
/* Stores the references of the leaf's keys, rising: all of them, or those that `from`
 * asks for. Room for LEAF_LIST_MAX. Returns their number. */
enum { LEAF_LIST_MAX = LEAF_MAX + LEAF_TAIL };
size_t leaf_list(const struct order *order, struct order_leaf *leaf,
                 const struct order_from *from, node_ref *refs);
/* Under the lock: puts a key into the tail, which has room. */
void leaf_append(struct order_leaf *leaf, const struct order_key *key, node_ref ref);
/* Under the lock: forgets a key of this leaf. False when the leaf does not have it. */
bool leaf_forget(const struct order *order, struct order_leaf *leaf, node_ref ref);
/* Under the lock: appends the live keys of the leaf, in order, and `extra` (0 = none),
 * a new key that belongs to it. */
void leaf_gather(const struct order *order, struct order_leaf *leaf, node_ref extra,
                 struct leaf_entries *entries);
/* Under the lock: the live keys of two neighbours with these bounds around both. */
void leaf_join(const struct order *order, struct order_leaf *left,
               struct order_leaf *right, const struct order_bounds *bounds,
               struct leaf_entries *entries);
/* A leaf of the entries [from, to); NULL without memory. Digests are taken anew when
 * that separates many more keys; the entries then have them too. */
struct order_leaf *leaf_create(struct order *order, struct leaf_entries *entries,
                               size_t from, size_t to, const struct order_bounds *bounds);
size_t leaf_bytes(const struct order_leaf *leaf);

/* ---- order_inner.c ---- */

struct order_sep *sep_create(const unsigned char *bytes, size_t len);
size_t sep_bytes(const struct order_sep *sep);
/* The shortest key above `left` and not above `right`; NULL without memory. */
struct order_sep *sep_between(const struct order *order, node_ref left, node_ref right);
/* The child that holds a key. */
size_t inner_search(struct order_inner *inner, const struct order_key *key);
/* Under the lock: the block's content, with `count` children from `at` on replaced. */
void inner_splice(struct order_inner *inner, size_t at, size_t count,
                  struct order_block *const *child, struct order_sep *const *sep,
                  size_t new_count, struct inner_list *list);
/* Under the lock: appends the content of the block's right neighbour. */
void inner_append(struct inner_list *list, struct order_sep *between,
                  struct order_inner *inner);
/* A block of the children [from, to); NULL without memory. */
struct order_inner *inner_create(const struct inner_list *list, size_t from, size_t to);
size_t inner_bytes(const struct order_inner *inner);
/* Frees a block that no reader can have, and what it dropped; not its children. */
void block_free(struct order_block *block);
size_t block_bytes(const struct order_block *block);

/* ---- order_path.c ---- */

/* Down from a block to the leaf for a key, or to the first or last leaf (key NULL). */
void path_down(struct order_block *block, const struct order_key *key, bool last,
               struct order_path *path);
/* The same from the root. */
void path_find(const struct order *order, const struct order_key *key, bool last,
               struct order_path *path);
/* Moves to the next or previous leaf; false at the end: the path is void then. */
bool path_step(struct order_path *path, bool reverse);
struct order_leaf *order_find_leaf(const struct order *order,
                                   const struct order_key *key);
struct order_bounds path_bounds(const struct order_path *path);

/* ---- order_edit.c: all under the lock ---- */

/* Rebuilds a leaf without its removed keys, with `extra` in it, split if need be. The
 * blocks that left the tree are put before *old. */
enum armdb_rc order_rebuild_leaf(struct order *order, struct order_path *path,
                                 node_ref extra, struct order_block **old) ADB_MUST_CHECK;
/* After a removal from this key's leaf: merges what became small, if there is memory. */
void order_shrink(struct order *order, const struct order_key *key,
                  struct order_block **old);
/* Retires a list that the two functions above gave; best without the lock. */
void order_retire(struct order *order, struct order_block *old);

#endif

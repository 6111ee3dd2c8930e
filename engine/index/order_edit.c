/* order_edit.c - changes to the tree of the order index.
 *
 * Every change replaces one or two neighbouring children of a block by one or two new
 * ones. One by one: the child pointer is stored, done. Otherwise the block itself is
 * copied (or split in two), and so the change climbs until it is one by one, at the
 * root at the latest. So
 *  - one store publishes the whole change, and a reader sees the tree before or after;
 *  - everything that needs memory comes before that store; when memory is lacking the
 *    new blocks are freed and nothing has happened;
 *  - the blocks that were replaced are retired, separators no longer needed with them.
 *
 * Kinds of changes:
 *  1. a leaf is rebuilt with its tail sorted in, the removed keys left out; too large
 *     for one leaf, it becomes two. New keys at the very end or beginning, as a sorted
 *     load brings them, leave the other leaf full;
 *  2. two leaves of which one has few keys become one (or two again, if one was empty
 *     and the other overfull);
 *  3. an inner block with few children and its neighbour become one, or two even ones;
 *  4. a root with a single child gives way to it.
 * A leaf whose parent has no other child finds no neighbour to merge with; so kinds 3
 * and 4 come first, from the root down. Kinds 2 to 4 are tried after a removal and
 * need not succeed: an empty leaf is a correct one. */
#include "engine/index/order_block.h"

#include "engine/base/mem.h"

enum {
    FULL_ENTRIES = LEAF_MAX - 2,  /* in the leaf that a sorted load leaves behind */
    FULL_CHILDREN = INNER_MAX - 8 /* and in the inner block */
};

/* A change being prepared. */
struct edit {
    struct order *order;
    struct order_path *path;
    struct order_sep *new_sep; /* owned until published; or NULL */
    size_t made_count;
    size_t old_count;
    struct order_block *made[2 * ORDER_LEVELS_MAX + 4]; /* owned until published */
    struct order_block *old[ORDER_LEVELS_MAX + 4];      /* in the tree until published */
};

/* What takes the place of `count` children from `at` on of the block at path->step
 * [depth - 1]; depth 0: of the root. */
struct change {
    size_t depth;
    size_t at;
    size_t count;
    size_t new_count;
    struct order_block *child[2];
    struct order_sep *sep;     /* between the two new ones */
    struct order_sep *dropped; /* was between the two old ones, in use no longer */
};

static void edit_begin(struct edit *edit, struct order *order, struct order_path *path)
{
    edit->order = order;
    edit->path = path;
    edit->new_sep = NULL;
    edit->made_count = 0;
    edit->old_count = 0;
}

static void edit_made(struct edit *edit, struct order_block *block)
{
    edit->made[edit->made_count++] = block;
}

static void edit_old(struct edit *edit, struct order_block *block)
{
    edit->old[edit->old_count++] = block;
}

static void edit_abandon(struct edit *edit)
{
    for (size_t i = 0; i < edit->made_count; i++)
        block_free(edit->made[i]);
    adb_free(ADB_MEM_ORDER, edit->new_sep);
}

/* The one store; then the books. */
static void edit_publish(struct edit *edit, _Atomic(struct order_block *) *where,
                         struct order_block *block, struct order_block **old)
{
    struct order *order = edit->order;
    uint64_t bytes = atomic_load_explicit(&order->bytes, memory_order_relaxed);

    /* Pairs with the acquire loads in inner_child() and order_root(). */
    atomic_store_explicit(where, block, memory_order_release);
    for (size_t i = 0; i < edit->made_count; i++)
        bytes += block_bytes(edit->made[i]);
    if (edit->new_sep != NULL)
        bytes += sep_bytes(edit->new_sep);
    for (size_t i = 0; i < edit->old_count; i++) {
        struct order_block *gone = edit->old[i];

        gone->replaced = true;
        bytes -= block_bytes(gone);
        if (gone->level > 0 && as_inner(gone)->dropped != NULL)
            bytes -= sep_bytes(as_inner(gone)->dropped);
        gone->retired.next = (struct epoch_item *)(void *)*old;
        *old = gone;
    }
    atomic_store_explicit(&order->bytes, bytes, memory_order_relaxed);
}

/* Copies the block whose children change; two blocks if they are too many. `change`
 * becomes that of its parent. */
static enum armdb_rc climb(struct edit *edit, struct change *change)
{
    struct order_inner *inner = edit->path->step[change->depth - 1].inner;
    bool at_end = change->at + change->count == inner->block.count;
    struct inner_list list;
    struct order_inner *made;
    size_t left;

    inner_splice(inner, change->at, change->count, change->child, &change->sep,
                 change->new_count, &list);
    edit_old(edit, &inner->block);
    change->depth--;
    change->at = change->depth == 0 ? 0 : edit->path->step[change->depth - 1].at;
    change->count = 1;
    change->new_count = list.count > INNER_MAX ? 2 : 1;
    left = change->new_count == 1 ? list.count : at_end ? FULL_CHILDREN : list.count / 2;
    for (size_t i = 0; i < change->new_count; i++) {
        made = inner_create(&list, i == 0 ? 0 : left, i == 0 ? left : list.count);
        if (made == NULL)
            return ARMDB_NOMEM;
        edit_made(edit, &made->block);
        change->child[i] = &made->block;
    }
    change->sep = change->new_count == 1 ? NULL : list.sep[left - 1];
    return ARMDB_OK;
}

/* Puts a root over two blocks. */
static enum armdb_rc raise_root(struct edit *edit, struct change *change)
{
    struct inner_list list;
    struct order_inner *made;

    if (change->child[0]->level + 2 > ORDER_LEVELS_MAX)
        return ARMDB_NOMEM;
    list.count = 2;
    list.level = (uint8_t)(change->child[0]->level + 1);
    list.prefix_len = 0;
    list.child[0] = change->child[0];
    list.child[1] = change->child[1];
    list.sep[0] = change->sep;
    list.digest[0] = order_digest(change->sep->bytes, change->sep->len, 0);
    list.digests_valid = true;
    made = inner_create(&list, 0, 2);
    if (made == NULL)
        return ARMDB_NOMEM;
    edit_made(edit, &made->block);
    change->child[0] = &made->block;
    change->new_count = 1;
    return ARMDB_OK;
}

/* Carries a change out, or (ARMDB_NOMEM) undoes the edit so far. */
static enum armdb_rc edit_finish(struct edit *edit, struct change *change,
                                 struct order_block **old)
{
    enum armdb_rc rc = ARMDB_OK;
    _Atomic(struct order_block *) *where = &edit->order->root;
    struct order_inner *owner = NULL; /* the replaced block that had `dropped` */

    if (change->dropped != NULL)
        owner = edit->path->step[change->depth - 1].inner;
    while (rc == ARMDB_OK && change->depth > 0 &&
           (change->count != 1 || change->new_count != 1))
        rc = climb(edit, change);
    if (rc == ARMDB_OK && change->new_count == 2)
        rc = raise_root(edit, change);
    if (rc != ARMDB_OK) {
        edit_abandon(edit);
        return rc;
    }
    if (change->depth > 0)
        where = &inner_children(edit->path->step[change->depth - 1].inner)[change->at];
    if (owner != NULL) {
        change->dropped->next = owner->dropped;
        owner->dropped = change->dropped;
    }
    edit_publish(edit, where, change->child[0], old);
    return ARMDB_OK;
}

/* How many of the entries go to the left leaf; all of them if one leaf will do. */
static size_t split_point(const struct leaf_entries *entries, node_ref extra)
{
    if (entries->count <= LEAF_MAX)
        return entries->count;
    if (extra != 0 && entries->entry[entries->count - 1].ref == extra)
        return FULL_ENTRIES;
    if (extra != 0 && entries->entry[0].ref == extra)
        return entries->count - FULL_ENTRIES;
    return entries->count / 2;
}

/* Makes one leaf or two of the entries and lets them take the place that `change`
 * says (its new children are filled in here). */
static enum armdb_rc put_leaves(struct edit *edit, struct leaf_entries *entries,
                                size_t left, const struct order_bounds *bounds,
                                struct change *change, struct order_block **old)
{
    struct order_bounds part = *bounds;
    struct order_leaf *leaf;

    change->new_count = left == entries->count ? 1 : 2;
    if (change->new_count == 2) {
        edit->new_sep = sep_between(edit->order, entries->entry[left - 1].ref,
                                    entries->entry[left].ref);
        if (edit->new_sep == NULL)
            goto nomem;
        part.high = edit->new_sep;
    }
    for (size_t i = 0; i < change->new_count; i++) {
        leaf = leaf_create(edit->order, entries, i == 0 ? 0 : left,
                           i == 0 ? left : entries->count, &part);
        if (leaf == NULL)
            goto nomem;
        edit_made(edit, &leaf->block);
        change->child[i] = &leaf->block;
        part.low = edit->new_sep;
        part.high = bounds->high;
    }
    change->sep = edit->new_sep;
    return edit_finish(edit, change, old);
nomem:
    edit_abandon(edit);
    return ARMDB_NOMEM;
}

enum armdb_rc order_rebuild_leaf(struct order *order, struct order_path *path,
                                 node_ref extra, struct order_block **old)
{
    struct order_bounds bounds = path_bounds(path);
    struct change change = {.depth = path->depth, .count = 1};
    struct leaf_entries entries;
    struct edit edit;

    edit_begin(&edit, order, path);
    edit_old(&edit, &path->leaf->block);
    entries.count = 0;
    leaf_gather(order, path->leaf, extra, &entries);
    if (path->depth > 0)
        change.at = path->step[path->depth - 1].at;
    return put_leaves(&edit, &entries, split_point(&entries, extra), &bounds, &change,
                      old);
}

/* Kind 2: the children `at` and `at` + 1 of the path's lowest block, both leaves. */
static enum armdb_rc join_leaves(struct order *order, struct order_path *path, size_t at,
                                 struct order_block **old)
{
    struct order_inner *inner = path->step[path->depth - 1].inner;
    struct order_leaf *left = as_leaf(inner_child(inner, at));
    struct order_leaf *right = as_leaf(inner_child(inner, at + 1));
    struct change change = {.depth = path->depth, .at = at, .count = 2};
    struct order_path edge = *path; /* the caller goes on with his if this fails */
    struct order_bounds bounds;
    struct leaf_entries entries;
    struct edit edit;

    edge.step[edge.depth - 1].at = at;
    bounds.low = path_bounds(&edge).low;
    edge.step[edge.depth - 1].at = at + 1;
    bounds.high = path_bounds(&edge).high;
    edit_begin(&edit, order, path);
    edit_old(&edit, &left->block);
    edit_old(&edit, &right->block);
    change.dropped = inner_seps(inner)[at];
    leaf_join(order, left, right, &bounds, &entries);
    return put_leaves(&edit, &entries, split_point(&entries, 0), &bounds, &change, old);
}

/* Kind 3: the children `at` and `at` + 1 of the block at path->step[depth - 1]. */
static enum armdb_rc join_inners(struct order *order, struct order_path *path,
                                 size_t depth, size_t at, struct order_block **old)
{
    struct order_inner *parent = path->step[depth - 1].inner;
    struct order_inner *left = as_inner(inner_child(parent, at));
    struct order_inner *right = as_inner(inner_child(parent, at + 1));
    struct change change = {.depth = depth, .at = at, .count = 2};
    struct inner_list list;
    struct order_inner *made;
    struct edit edit;
    size_t half;

    edit_begin(&edit, order, path);
    edit_old(&edit, &left->block);
    edit_old(&edit, &right->block);
    inner_splice(left, left->block.count, 0, NULL, NULL, 0, &list);
    inner_append(&list, inner_seps(parent)[at], right);
    change.new_count = list.count > INNER_MERGE_MAX ? 2 : 1;
    half = change.new_count == 1 ? list.count : list.count / 2;
    for (size_t i = 0; i < change.new_count; i++) {
        made = inner_create(&list, i == 0 ? 0 : half, i == 0 ? half : list.count);
        if (made == NULL) {
            edit_abandon(&edit);
            return ARMDB_NOMEM;
        }
        edit_made(&edit, &made->block);
        change.child[i] = &made->block;
    }
    /* The parent's separator moves down, and if two blocks remain another one up. */
    change.sep = change.new_count == 1 ? NULL : list.sep[half - 1];
    return edit_finish(&edit, &change, old);
}

/* Kind 4. */
static void lower_root(struct order *order, struct order_path *path,
                       struct order_block **old)
{
    struct order_inner *root = path->step[0].inner;
    struct edit edit;

    edit_begin(&edit, order, path);
    edit_old(&edit, &root->block);
    edit_publish(&edit, &order->root, inner_child(root, 0), old);
}

/* One step of kind 3 or 4 on the way to a key, the highest that is due. False when
 * there is none, or no memory for it. */
static bool improve_path(struct order *order, const struct order_key *key,
                         struct order_block **old)
{
    struct order_path path;

    path_find(order, key, false, &path);
    if (path.depth > 0 && path.step[0].inner->block.count == 1) {
        lower_root(order, &path, old);
        return true;
    }
    for (size_t d = 1; d < path.depth; d++) {
        size_t count = path.step[d].inner->block.count;
        struct order_inner *parent = path.step[d - 1].inner;
        size_t at = path.step[d - 1].at;

        if (count > INNER_MERGE_AT || parent->block.count < 2)
            continue;
        if (at + 1 == parent->block.count)
            at--;
        if (count > 1 &&
            (size_t)inner_child(parent, at)->count + inner_child(parent, at + 1)->count >
                INNER_MERGE_MAX)
            continue;
        return join_inners(order, &path, d, at, old) == ARMDB_OK;
    }
    return false;
}

/* Whether two leaves should become one. */
static bool may_join(struct order_leaf *left, struct order_leaf *right)
{
    size_t a = leaf_live(left);
    size_t b = leaf_live(right);

    return a + b <= LEAF_MERGE_MAX || a == 0 || b == 0;
}

/* Kind 2 for the leaf of a key; true when it was done. */
static bool join_with_neighbour(struct order *order, struct order_path *path,
                                struct order_block **old)
{
    struct order_inner *parent;
    size_t at;

    if (path->depth == 0)
        return false;
    parent = path->step[path->depth - 1].inner;
    at = path->step[path->depth - 1].at;
    if (at > 0 && may_join(as_leaf(inner_child(parent, at - 1)), path->leaf))
        return join_leaves(order, path, at - 1, old) == ARMDB_OK;
    if (at + 1 < parent->block.count &&
        may_join(path->leaf, as_leaf(inner_child(parent, at + 1))))
        return join_leaves(order, path, at, old) == ARMDB_OK;
    return false;
}

void order_shrink(struct order *order, const struct order_key *key,
                  struct order_block **old)
{
    struct order_path path;
    size_t live;
    bool joined = false;

    path_find(order, key, false, &path);
    live = leaf_live(path.leaf);
    if (live <= LEAF_MERGE_AT) {
        if (path.depth > 0 && path.step[path.depth - 1].inner->block.count == 1) {
            while (improve_path(order, key, old))
                continue;
            path_find(order, key, false, &path);
        }
        joined = join_with_neighbour(order, &path, old);
    }
    if (joined) {
        while (improve_path(order, key, old))
            continue;
        return;
    }
    /* At least the removed keys' entries can go; without memory they stay. */
    if (path.leaf->dead >= LEAF_MERGE_AT && path.leaf->dead >= live / 2)
        if (order_rebuild_leaf(order, &path, 0, old) != ARMDB_OK)
            return;
}

static void free_retired_block(void *context, struct epoch_item *item)
{
    (void)context;
    block_free((struct order_block *)(void *)item);
}

void order_retire(struct order *order, struct order_block *old)
{
    while (old != NULL) {
        struct order_block *next = (struct order_block *)(void *)old->retired.next;

        epoch_retire(order->epoch, &old->retired, free_retired_block, NULL);
        old = next;
    }
}

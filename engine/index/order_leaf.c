/* order_leaf.c - the leaves of the order index.
 *
 * A search compares digests, which lie in the leaf, and looks at a key in its node
 * only where digests are equal. So it costs a handful of cache lines next to each
 * other, asked for all at once by block_prefetch(), and one node for a key that exists.
 *
 * Removing stores 0 over a reference and needs no memory. The digest stays, so that
 * the digests stay sorted, but among equal digests an entry without a node has no
 * place in the order: searches pass over it.
 *
 * The prefix that digests leave out grows only when it has to: digests are taken anew,
 * which touches every node, when more than one in TIE_SHARE of them equals its
 * neighbour and the leaf's bounds share a longer prefix. Random keys never get there;
 * paths get there once per level of folders. */
#include "engine/index/order_block.h"

#include "engine/base/mem.h"

enum { LINE_BYTES = 64, TIE_SHARE = 8, PREFETCH_LINES = 13 };

_Static_assert(sizeof(struct order_leaf) == 144, "what a leaf takes beside its entries");

void block_prefetch(const struct order_block *block)
{
    const char *line = (const char *)&block->level;

    for (int i = 0; i < PREFETCH_LINES; i++)
        __builtin_prefetch(line + i * LINE_BYTES);
}

static node_ref load_ref(const _Atomic node_ref *ref)
{
    /* Relaxed: the leaf's pointer or its tail_count published the node; the store of
     * 0 in leaf_forget() publishes nothing. */
    return atomic_load_explicit(ref, memory_order_relaxed);
}

/* How the key of a node compares with `key`. */
static int compare_node(const struct order *order, node_ref ref,
                        const struct order_key *key)
{
    struct order_key own = order_node_key(order, ref);

    return order_compare(own.bytes, own.len, key->bytes, key->len);
}

/* Position among the equal digests [low, high). */
static size_t position_in_ties(const struct order *order, struct order_leaf *leaf,
                               const struct order_key *key, size_t low, size_t high,
                               bool after)
{
    _Atomic node_ref *refs = leaf_refs(leaf);

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        size_t probe = middle;
        node_ref ref = load_ref(&refs[probe]);
        int order_of;

        while (ref == 0 && probe + 1 < high)
            ref = load_ref(&refs[++probe]);
        if (ref == 0) {
            high = middle; /* nobody lives in [middle, high) */
            continue;
        }
        order_of = compare_node(order, ref, key);
        if (order_of < 0 || (after && order_of == 0))
            low = probe + 1;
        else
            high = middle;
    }
    return low;
}

/* The number of digests below `digest`. */
static size_t count_below(const uint64_t *digests, size_t count, uint64_t digest)
{
    size_t base = 0;

    /* Without branches that depend on the data. */
    while (count > 0) {
        size_t half = (count + 1) / 2;

        base += digests[base + half - 1] < digest ? half : 0;
        count -= half;
    }
    return base;
}

size_t leaf_position(const struct order *order, struct order_leaf *leaf,
                     const struct order_key *key, uint64_t digest, bool after)
{
    size_t count = leaf->block.count;
    size_t low = count_below(leaf->digest, count, digest);
    size_t high = low;

    while (high < count && leaf->digest[high] == digest)
        high++;
    return low == high ? low : position_in_ties(order, leaf, key, low, high, after);
}

/* True when a comes before b: digests first, then whole keys. */
static bool entry_before(const struct order *order, const struct leaf_entry *a,
                         const struct leaf_entry *b)
{
    struct order_key key;

    if (a->digest != b->digest)
        return a->digest < b->digest;
    key = order_node_key(order, b->ref);
    return compare_node(order, a->ref, &key) < 0;
}

static void insert_sorted(const struct order *order, struct leaf_entry *list,
                          size_t count, struct leaf_entry entry)
{
    while (count > 0 && entry_before(order, &entry, &list[count - 1])) {
        list[count] = list[count - 1];
        count--;
    }
    list[count] = entry;
}

/* Whether `from` asks for a key with this digest and node. */
static bool is_wanted(const struct order *order, const struct leaf_entry *entry,
                      const struct order_from *from, const struct order_key *key,
                      uint64_t digest)
{
    int order_of;

    if (entry->digest != digest)
        return (entry->digest > digest) != from->reverse;
    order_of = compare_node(order, entry->ref, key);
    if (order_of == 0)
        return from->inclusive;
    return (order_of > 0) != from->reverse;
}

/* The live entries of the tail, sorted, those that `from` asks for (NULL: all). */
static size_t sorted_tail(const struct order *order, struct order_leaf *leaf,
                          const struct order_from *from, const struct order_key *key,
                          uint64_t digest, struct leaf_entry *list)
{
    /* Pairs with the release store in leaf_append(). */
    size_t tail = atomic_load_explicit(&leaf->tail_count, memory_order_acquire);
    size_t count = 0;

    for (size_t i = 0; i < tail; i++) {
        struct leaf_entry entry = {leaf->tail_digest[i], load_ref(&leaf->tail_ref[i])};

        if (entry.ref == 0 ||
            (from != NULL && !is_wanted(order, &entry, from, key, digest)))
            continue;
        insert_sorted(order, list, count++, entry);
    }
    return count;
}

size_t leaf_list(const struct order *order, struct order_leaf *leaf,
                 const struct order_from *from, node_ref *refs)
{
    _Atomic node_ref *sorted = leaf_refs(leaf);
    struct leaf_entry tail[LEAF_TAIL];
    struct order_key key = {NULL, 0};
    uint64_t digest = 0;
    size_t i = 0;
    size_t end = leaf->block.count;
    size_t count = 0;
    size_t tail_count;

    if (from != NULL) {
        key = (struct order_key){from->key, from->key_len};
        digest = order_digest(key.bytes, key.len, leaf->block.prefix_len);
        if (from->reverse)
            end = leaf_position(order, leaf, &key, digest, from->inclusive);
        else
            i = leaf_position(order, leaf, &key, digest, !from->inclusive);
    }
    tail_count = sorted_tail(order, leaf, from, &key, digest, tail);
    for (size_t t = 0; t < tail_count; t++) {
        for (; i < end && leaf->digest[i] <= tail[t].digest; i++) {
            struct leaf_entry entry = {leaf->digest[i], load_ref(&sorted[i])};

            if (entry.ref == 0)
                continue;
            if (!entry_before(order, &entry, &tail[t]))
                break;
            refs[count++] = entry.ref;
        }
        refs[count++] = tail[t].ref;
    }
    for (; i < end; i++) {
        node_ref ref = load_ref(&sorted[i]);

        refs[count] = ref;
        count += ref != 0;
    }
    return count;
}

void leaf_append(struct order_leaf *leaf, const struct order_key *key, node_ref ref)
{
    uint32_t at = atomic_load_explicit(&leaf->tail_count, memory_order_relaxed);

    ADB_ASSERT(at < LEAF_TAIL && !leaf->block.replaced);
    leaf->tail_digest[at] = order_digest(key->bytes, key->len, leaf->block.prefix_len);
    atomic_store_explicit(&leaf->tail_ref[at], ref, memory_order_relaxed);
    /* Publishes the entry and its node; pairs with the acquire in sorted_tail(). */
    atomic_store_explicit(&leaf->tail_count, at + 1, memory_order_release);
}

bool leaf_forget(const struct order *order, struct order_leaf *leaf, node_ref ref)
{
    struct order_key key = order_node_key(order, ref);
    uint64_t digest = order_digest(key.bytes, key.len, leaf->block.prefix_len);
    size_t tail = atomic_load_explicit(&leaf->tail_count, memory_order_relaxed);
    _Atomic node_ref *refs = leaf_refs(leaf);
    _Atomic node_ref *found = NULL;
    size_t i = count_below(leaf->digest, leaf->block.count, digest);

    for (; i < leaf->block.count && leaf->digest[i] == digest && found == NULL; i++)
        if (load_ref(&refs[i]) == ref)
            found = &refs[i];
    for (i = 0; i < tail && found == NULL; i++)
        if (load_ref(&leaf->tail_ref[i]) == ref)
            found = &leaf->tail_ref[i];
    if (found == NULL)
        return false;
    /* Relaxed: a reader that misses it delivers a node that was in the index when its
     * call began, and the epoch keeps that node. */
    atomic_store_explicit(found, 0, memory_order_relaxed);
    leaf->dead++;
    return true;
}

/* Takes the digests of all entries anew. */
static void digest_anew(const struct order *order, struct leaf_entries *entries,
                        size_t from, size_t to, uint32_t prefix_len)
{
    for (size_t i = from; i < to; i++)
        __builtin_prefetch(arena_node(order->arena, entries->entry[i].ref));
    for (size_t i = from; i < to; i++) {
        struct order_key key = order_node_key(order, entries->entry[i].ref);

        entries->entry[i].digest = order_digest(key.bytes, key.len, prefix_len);
    }
}

void leaf_gather(const struct order *order, struct order_leaf *leaf, node_ref extra,
                 struct leaf_entries *entries)
{
    _Atomic node_ref *sorted = leaf_refs(leaf);
    struct leaf_entry tail[LEAF_TAIL + 1];
    size_t tail_count = sorted_tail(order, leaf, NULL, NULL, 0, tail);
    size_t count = entries->count;
    size_t i = 0;

    if (extra != 0) {
        struct order_key key = order_node_key(order, extra);
        struct leaf_entry entry = {
            order_digest(key.bytes, key.len, leaf->block.prefix_len), extra};

        insert_sorted(order, tail, tail_count++, entry);
    }
    for (size_t t = 0; t <= tail_count; t++) {
        for (; i < leaf->block.count; i++) {
            struct leaf_entry entry = {leaf->digest[i], load_ref(&sorted[i])};

            if (entry.ref == 0)
                continue;
            if (t < tail_count && !entry_before(order, &entry, &tail[t]))
                break;
            ADB_ASSERT(count < ENTRIES_MAX);
            entries->entry[count++] = entry;
        }
        if (t < tail_count)
            entries->entry[count++] = tail[t];
    }
    entries->count = count;
    entries->prefix_len = leaf->block.prefix_len;
}

void leaf_join(const struct order *order, struct order_leaf *left,
               struct order_leaf *right, const struct order_bounds *bounds,
               struct leaf_entries *entries)
{
    uint32_t shared = order_bounds_prefix(bounds);

    entries->count = 0;
    leaf_gather(order, left, 0, entries);
    leaf_gather(order, right, 0, entries);
    /* The bounds are wider now: the keys to come may share less. */
    if (left->block.prefix_len == right->block.prefix_len &&
        right->block.prefix_len <= shared)
        return;
    entries->prefix_len = shared;
    digest_anew(order, entries, 0, entries->count, shared);
}

static size_t leaf_bytes_for(size_t count)
{
    return sizeof(struct order_leaf) + count * (sizeof(uint64_t) + sizeof(node_ref));
}

size_t leaf_bytes(const struct order_leaf *leaf)
{
    return leaf_bytes_for(leaf->block.count);
}

/* The prefix for the digests of a new leaf: see the essay. */
static uint32_t choose_prefix(const struct leaf_entries *entries, size_t from, size_t to,
                              const struct order_bounds *bounds)
{
    size_t ties = 0;
    uint32_t shared;

    for (size_t i = from + 1; i < to; i++)
        ties += entries->entry[i].digest == entries->entry[i - 1].digest;
    if (ties * TIE_SHARE <= to - from)
        return entries->prefix_len;
    shared = order_bounds_prefix(bounds);
    return shared > entries->prefix_len ? shared : entries->prefix_len;
}

struct order_leaf *leaf_create(struct order *order, struct leaf_entries *entries,
                               size_t from, size_t to, const struct order_bounds *bounds)
{
    struct order_leaf *leaf = adb_alloc(ADB_MEM_ORDER, leaf_bytes_for(to - from));
    uint32_t prefix_len;
    _Atomic node_ref *refs;

    if (leaf == NULL)
        return NULL;
    prefix_len = choose_prefix(entries, from, to, bounds);
    if (prefix_len != entries->prefix_len)
        digest_anew(order, entries, from, to, prefix_len);
    leaf->block.level = 0;
    leaf->block.replaced = false;
    leaf->block.count = (uint16_t)(to - from);
    leaf->block.prefix_len = prefix_len;
    atomic_init(&leaf->tail_count, 0);
    leaf->dead = 0;
    refs = leaf_refs(leaf);
    for (size_t i = from; i < to; i++) {
        leaf->digest[i - from] = entries->entry[i].digest;
        atomic_init(&refs[i - from], entries->entry[i].ref);
    }
    return leaf;
}

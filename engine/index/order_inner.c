/* order_inner.c - separators and inner blocks of the order index.
 *
 * A separator is a key cut off after the first byte that tells its neighbours apart,
 * in memory of its own: the node it was made from may be freed long before it. Inner
 * blocks are copied at every split below them; the copy takes over the separators,
 * which therefore have one owner, the current block. A separator that is no longer
 * needed goes to the block that is replaced and is freed with it by the epoch.
 *
 * Copying must not touch the separators' bytes (a cache miss each), so the digests are
 * copied too, and taken anew only if the block's prefix does not fit a new separator
 * or if more than one in TIE_SHARE digests equals its neighbour while all separators
 * of the block share a longer prefix. */
#include "engine/index/order_block.h"

#include "engine/base/mem.h"

enum { TIE_SHARE = 8 };

_Static_assert(sizeof(struct order_inner) % sizeof(void *) == 0, "arrays are aligned");

struct order_sep *sep_create(const unsigned char *bytes, size_t len)
{
    struct order_sep *sep = adb_alloc(ADB_MEM_ORDER, sizeof *sep + len);

    if (sep == NULL)
        return NULL;
    sep->next = NULL;
    sep->len = len;
    memcpy(sep->bytes, bytes, len);
    return sep;
}

size_t sep_bytes(const struct order_sep *sep)
{
    return sizeof *sep + sep->len;
}

struct order_sep *sep_between(const struct order *order, node_ref left, node_ref right)
{
    struct order_key a = order_node_key(order, left);
    struct order_key b = order_node_key(order, right);
    size_t shared = order_common_prefix(a.bytes, a.len, b.bytes, b.len);

    ADB_ASSERT(order_compare(a.bytes, a.len, b.bytes, b.len) < 0);
    /* a < b, so b goes on after what they share. */
    return sep_create(b.bytes, shared + 1);
}

size_t inner_search(struct order_inner *inner, const struct order_key *key)
{
    size_t seps = (size_t)inner->block.count - 1;
    uint32_t prefix_len = inner->block.prefix_len;
    uint64_t digest;
    size_t low = 0;
    size_t high;

    if (prefix_len > 0) {
        size_t len = key->len < prefix_len ? key->len : prefix_len;
        int order_of = len == 0 ? 0 : memcmp(key->bytes, inner_prefix(inner), len);

        if (order_of > 0)
            return seps;
        if (order_of < 0 || key->len < prefix_len)
            return 0;
    }
    digest = order_digest(key->bytes, key->len, prefix_len);
    for (size_t count = seps; count > 0;) {
        size_t half = (count + 1) / 2;

        low += inner->digest[low + half - 1] < digest ? half : 0;
        count -= half;
    }
    high = low;
    while (high < seps && inner->digest[high] == digest)
        high++;
    /* Among equal digests: the first separator above the key. */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct order_sep *sep = inner_seps(inner)[middle];

        if (order_compare(sep->bytes, sep->len, key->bytes, key->len) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Whether the list's prefix is also the separator's; takes its digest if so. */
static bool digest_sep(struct inner_list *list, size_t at, const unsigned char *prefix)
{
    const struct order_sep *sep = list->sep[at];

    if (sep->len < list->prefix_len ||
        (list->prefix_len > 0 && memcmp(sep->bytes, prefix, list->prefix_len) != 0))
        return false;
    list->digest[at] = order_digest(sep->bytes, sep->len, list->prefix_len);
    return true;
}

/* Copies children [from, to) and the separators between them to the list's end. */
static void copy_children(struct inner_list *list, struct order_inner *inner, size_t from,
                          size_t to)
{
    for (size_t i = from; i < to; i++) {
        list->child[list->count] = inner_child(inner, i);
        if (i + 1 < to) {
            list->sep[list->count] = inner_seps(inner)[i];
            list->digest[list->count] = inner->digest[i];
        }
        list->count++;
    }
}

void inner_splice(struct order_inner *inner, size_t at, size_t count,
                  struct order_block *const *child, struct order_sep *const *sep,
                  size_t new_count, struct inner_list *list)
{
    list->count = 0;
    list->level = inner->block.level;
    list->digests_valid = true;
    list->prefix_len = inner->block.prefix_len;
    copy_children(list, inner, 0, at);
    for (size_t i = 0; i < new_count; i++) {
        if (list->count > 0 && i == 0) {
            list->sep[list->count - 1] = inner_seps(inner)[at - 1];
            list->digest[list->count - 1] = inner->digest[at - 1];
        }
        list->child[list->count] = child[i];
        if (i + 1 < new_count) {
            list->sep[list->count] = sep[i];
            if (!digest_sep(list, list->count, inner_prefix(inner)))
                list->digests_valid = false;
        }
        list->count++;
    }
    if (at + count < inner->block.count) {
        list->sep[list->count - 1] = inner_seps(inner)[at + count - 1];
        list->digest[list->count - 1] = inner->digest[at + count - 1];
        copy_children(list, inner, at + count, inner->block.count);
    }
}

void inner_append(struct inner_list *list, struct order_sep *between,
                  struct order_inner *inner)
{
    list->sep[list->count - 1] = between;
    /* `between` comes from another block; its digest does not fit. */
    list->digests_valid = false;
    copy_children(list, inner, 0, inner->block.count);
}

static size_t inner_bytes_for(size_t count, size_t prefix_len)
{
    return sizeof(struct order_inner) +
           (count - 1) * (sizeof(uint64_t) + sizeof(struct order_sep *)) +
           count * sizeof(struct order_block *) + prefix_len;
}

size_t inner_bytes(const struct order_inner *inner)
{
    return inner_bytes_for(inner->block.count, inner->block.prefix_len);
}

/* The prefix for the digests of a new block: see the essay. */
static uint32_t choose_prefix(const struct inner_list *list, size_t from, size_t to)
{
    size_t ties = 0;
    size_t shared;

    if (to - from < 2)
        return 0;
    if (list->digests_valid) {
        for (size_t i = from + 1; i + 1 < to; i++)
            ties += list->digest[i] == list->digest[i - 1];
        if (ties * TIE_SHARE <= to - from)
            return list->prefix_len;
    }
    /* They are sorted, so what the first and the last share all share. */
    shared = order_common_prefix(list->sep[from]->bytes, list->sep[from]->len,
                                 list->sep[to - 2]->bytes, list->sep[to - 2]->len);
    return shared < INNER_PREFIX_MAX ? (uint32_t)shared : INNER_PREFIX_MAX;
}

struct order_inner *inner_create(const struct inner_list *list, size_t from, size_t to)
{
    uint32_t prefix_len = choose_prefix(list, from, to);
    bool copy_digests = list->digests_valid && prefix_len == list->prefix_len;
    struct order_inner *inner;

    inner = adb_alloc(ADB_MEM_ORDER, inner_bytes_for(to - from, prefix_len));
    if (inner == NULL)
        return NULL;
    inner->block.level = list->level;
    inner->block.replaced = false;
    inner->block.count = (uint16_t)(to - from);
    inner->block.prefix_len = prefix_len;
    inner->dropped = NULL;
    for (size_t i = from; i < to; i++)
        atomic_init(&inner_children(inner)[i - from], list->child[i]);
    for (size_t i = from; i + 1 < to; i++) {
        const struct order_sep *sep = list->sep[i];

        inner_seps(inner)[i - from] = list->sep[i];
        inner->digest[i - from] = copy_digests
                                      ? list->digest[i]
                                      : order_digest(sep->bytes, sep->len, prefix_len);
    }
    if (prefix_len > 0)
        memcpy(inner_prefix(inner), list->sep[from]->bytes, prefix_len);
    return inner;
}

size_t block_bytes(const struct order_block *block)
{
    if (block->level == 0)
        return leaf_bytes((const struct order_leaf *)(const void *)block);
    return inner_bytes((const struct order_inner *)(const void *)block);
}

void block_free(struct order_block *block)
{
    if (block != NULL && block->level > 0) {
        struct order_inner *inner = as_inner(block);

        while (inner->dropped != NULL) {
            struct order_sep *sep = inner->dropped;

            inner->dropped = sep->next;
            adb_free(ADB_MEM_ORDER, sep);
        }
    }
    adb_free(ADB_MEM_ORDER, block);
}

/* run_build.c - from records in any order to a run.
 *
 * Records are gathered by table, their keys copied one behind the other. A table's
 * records are then sorted by the eight bytes that follow what all its keys share: by
 * counting, byte by byte, bytes that are equal everywhere left out; the upper four of
 * them mostly suffice. Only records in which they are equal are compared as a whole. What
 * a commit or a compaction wrote in key order is found sorted and not touched.
 *
 * Memory: 40 bytes and the key for each record of one segment while it is read, 24
 * bytes more for each while it is sorted; the run then takes about ten bytes a record
 * and what keys do not share. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/mem.h"
#include "engine/base/thread.h"
#include "engine/log/run.h"
#include "engine/log/run_block.h"

enum {
    KEYS_BYTES = 256 << 10, /* of a piece of memory for keys */
    BLOCK_BYTES = 32 << 10, /* a block ends with the entry that passes this */
    ENTRY_HEAD_MAX = 1 + 7 * ADB_VARINT_MAX,
    INSERTION_MAX = 12, /* so few are sorted by insertion */
    DIGEST_BYTES = 8
};

/* A record; its table is the list's. */
struct raw {
    const unsigned char *key;
    uint64_t offset;
    uint64_t gsn;
    uint64_t ordinal;
    uint32_t key_len;
    uint32_t value_len; /* UINT32_MAX: deleted */
};

struct item {
    uint64_t digest;
    const struct raw *raw;
};

struct raw_list {
    uint64_t table;
    struct raw *items; /* owned */
    size_t count;
    size_t room;
};

struct keys {
    struct keys *next;
    size_t used;
    size_t room;
    unsigned char bytes[];
};

struct run_builder {
    struct keys *keys;      /* owned */
    struct raw_list *lists; /* owned */
    size_t list_count;
    size_t last; /* the list used last */
};

enum armdb_rc run_builder_create(struct run_builder **out)
{
    *out = adb_alloc_zero(ADB_MEM_LOG, sizeof **out);
    return *out != NULL ? ARMDB_OK : ARMDB_NOMEM;
}

static void empty_builder(struct run_builder *b)
{
    while (b->keys != NULL) {
        struct keys *next = b->keys->next;

        adb_free(ADB_MEM_LOG, b->keys);
        b->keys = next;
    }
    for (size_t i = 0; i < b->list_count; i++)
        adb_free(ADB_MEM_LOG, b->lists[i].items);
    adb_free(ADB_MEM_LOG, b->lists);
    memset(b, 0, sizeof *b);
}

void run_builder_destroy(struct run_builder *b)
{
    if (b == NULL)
        return;
    empty_builder(b);
    adb_free(ADB_MEM_LOG, b);
}

/* ---- Gathering ---------------------------------------------------------------- */

static unsigned char *keep_key(struct run_builder *b, const unsigned char *key, size_t n)
{
    struct keys *keys = b->keys;
    unsigned char *kept;

    if (keys == NULL || n > keys->room - keys->used) {
        size_t room = n > KEYS_BYTES ? n : KEYS_BYTES;

        keys = adb_alloc(ADB_MEM_LOG, sizeof *keys + room);
        if (keys == NULL)
            return NULL;
        keys->next = b->keys;
        keys->used = 0;
        keys->room = room;
        b->keys = keys;
    }
    kept = keys->bytes + keys->used;
    if (n > 0)
        memcpy(kept, key, n);
    keys->used += n;
    return kept;
}

static struct raw_list *find_list(struct run_builder *b, uint64_t table)
{
    struct raw_list *grown;

    if (b->last < b->list_count && b->lists[b->last].table == table)
        return &b->lists[b->last];
    for (size_t i = 0; i < b->list_count; i++) {
        if (b->lists[i].table == table) {
            b->last = i;
            return &b->lists[i];
        }
    }
    grown = adb_realloc(ADB_MEM_LOG, b->lists, (b->list_count + 1) * sizeof *grown);
    if (grown == NULL)
        return NULL;
    b->lists = grown;
    b->last = b->list_count++;
    memset(&grown[b->last], 0, sizeof *grown);
    grown[b->last].table = table;
    return &grown[b->last];
}

enum armdb_rc run_builder_add(struct run_builder *b, const struct run_entry *e)
{
    struct raw_list *list = find_list(b, e->table);
    struct raw *raw;

    ADB_ASSERT(e->key_len < RUN_KEY_MAX);
    if (list == NULL)
        return ARMDB_NOMEM;
    if (list->count == list->room) {
        size_t room = list->room * 2 + 64;
        struct raw *grown = adb_realloc(ADB_MEM_LOG, list->items, room * sizeof *grown);

        if (grown == NULL)
            return ARMDB_NOMEM;
        list->items = grown;
        list->room = room;
    }
    raw = &list->items[list->count];
    raw->key = keep_key(b, e->key, e->key_len);
    if (raw->key == NULL)
        return ARMDB_NOMEM;
    raw->key_len = (uint32_t)e->key_len;
    raw->offset = e->offset;
    raw->gsn = e->gsn;
    raw->ordinal = e->ordinal;
    raw->value_len = e->deleted ? UINT32_MAX : e->value_len;
    list->count++;
    return ARMDB_OK;
}

/* ---- Sorting ------------------------------------------------------------------ */

static int compare_raws(const struct raw *a, const struct raw *b)
{
    size_t n = a->key_len < b->key_len ? a->key_len : b->key_len;
    int order = n == 0 ? 0 : memcmp(a->key, b->key, n);

    if (order != 0)
        return order;
    return (a->key_len > b->key_len) - (a->key_len < b->key_len);
}

/* By key, then the older first. */
static int compare_items(const void *a, const void *b)
{
    const struct raw *x = ((const struct item *)a)->raw;
    const struct raw *y = ((const struct item *)b)->raw;
    int order = compare_raws(x, y);

    if (order != 0)
        return order;
    if (x->gsn != y->gsn)
        return x->gsn < y->gsn ? -1 : 1;
    return (x->ordinal > y->ordinal) - (x->ordinal < y->ordinal);
}

static uint64_t digest_of(const struct raw *raw, size_t prefix)
{
    uint64_t digest = 0;

    if (raw->key_len >= prefix + DIGEST_BYTES)
        return adb_get_u64_be(raw->key + prefix);
    for (size_t i = prefix; i < raw->key_len; i++)
        digest |= (uint64_t)raw->key[i] << (56 - 8 * (i - prefix));
    return digest;
}

/* Bytes that all keys begin with. */
static size_t shared_prefix(const struct raw_list *list)
{
    const struct raw *first = &list->items[0];
    size_t shared = first->key_len;

    for (size_t i = 1; i < list->count; i++) {
        const struct raw *raw = &list->items[i];
        size_t n = 0;

        if (raw->key_len < shared)
            shared = raw->key_len;
        while (n < shared && raw->key[n] == first->key[n])
            n++;
        shared = n;
    }
    return shared;
}

static bool is_sorted(const struct raw_list *list)
{
    for (size_t i = 1; i < list->count; i++)
        if (compare_raws(&list->items[i - 1], &list->items[i]) >= 0)
            return false;
    return true;
}

/* Sorts by the bytes [first, DIGEST_BYTES) of the digest, the last byte counting most,
 * with room for as many items behind them. The result is in `items`. */
static void sort_bytes(struct item *items, size_t count, int first, size_t (*counts)[256])
{
    struct item *from = items;
    struct item *to = items + count;

    memset(counts, 0, DIGEST_BYTES * sizeof *counts);
    for (size_t i = 0; i < count; i++)
        for (int byte = first; byte < DIGEST_BYTES; byte++)
            counts[byte][items[i].digest >> (8 * byte) & 255]++;
    for (int byte = first; byte < DIGEST_BYTES; byte++) {
        size_t *starts = counts[byte];
        size_t sum = 0;
        struct item *other = to;

        if (starts[items[0].digest >> (8 * byte) & 255] == count)
            continue; /* equal everywhere */
        for (int i = 0; i < 256; i++) {
            size_t n = starts[i];

            starts[i] = sum;
            sum += n;
        }
        for (size_t i = 0; i < count; i++)
            to[starts[from[i].digest >> (8 * byte) & 255]++] = from[i];
        to = from;
        from = other;
    }
    if (from != items)
        memcpy(items, from, count * sizeof *items);
}

/* Sorts by digest: by its upper half first, which mostly tells all keys apart; *shift is
 * how far digests have to be shifted right so that equal ones stand together. */
static void sort_digests(struct item *items, size_t count, size_t (*counts)[256],
                         int *shift)
{
    size_t equal = 0;

    sort_bytes(items, count, DIGEST_BYTES / 2, counts);
    *shift = 8 * (DIGEST_BYTES / 2);
    for (size_t i = 1; i < count; i++)
        equal += items[i].digest >> *shift == items[i - 1].digest >> *shift;
    if (equal < count / 8)
        return;
    sort_bytes(items, count, 0, counts);
    *shift = 0;
}

/* Sorts items whose digests are equal. */
static void sort_equal(struct item *items, size_t count)
{
    if (count > INSERTION_MAX) {
        qsort(items, count, sizeof *items, compare_items);
        return;
    }
    for (size_t i = 1; i < count; i++) {
        struct item item = items[i];
        size_t at = i;

        for (; at > 0 && compare_items(&items[at - 1], &item) > 0; at--)
            items[at] = items[at - 1];
        items[at] = item;
    }
}

/* *out: the list's records, sorted; to be freed. */
static enum armdb_rc sort_list(const struct raw_list *list, bool sorted,
                               struct item **out)
{
    size_t count = list->count;
    size_t prefix = sorted ? 0 : shared_prefix(list);
    size_t(*counts)[256] = NULL;
    struct item *items;
    int shift;

    items = adb_alloc(ADB_MEM_LOG, (sorted ? 1 : 2) * count * sizeof *items);
    *out = items;
    if (items == NULL)
        return ARMDB_NOMEM;
    for (size_t i = 0; i < count; i++) {
        items[i].raw = &list->items[i];
        items[i].digest = sorted ? 0 : digest_of(&list->items[i], prefix);
    }
    if (sorted)
        return ARMDB_OK;
    counts = adb_alloc(ADB_MEM_LOG, DIGEST_BYTES * sizeof *counts);
    if (counts == NULL) {
        adb_free(ADB_MEM_LOG, items);
        *out = NULL;
        return ARMDB_NOMEM;
    }
    sort_digests(items, count, counts, &shift);
    adb_free(ADB_MEM_LOG, counts);
    for (size_t i = 0, end; i < count; i = end) {
        for (end = i + 1;
             end < count && items[end].digest >> shift == items[i].digest >> shift; end++)
            ;
        if (end > i + 1)
            sort_equal(items + i, end - i);
    }
    return ARMDB_OK;
}

/* ---- Encoding ----------------------------------------------------------------- */

struct encoder {
    struct run *run;
    size_t room;
    size_t block_room;
    uint64_t table;
    const struct raw *last; /* NULL: a block begins */
};

static bool begin_block(struct encoder *e)
{
    struct run *run = e->run;

    if (run->block_count == e->block_room) {
        size_t room = e->block_room * 2 + 16;
        struct run_block *grown =
            adb_realloc(ADB_MEM_LOG, run->blocks, room * sizeof *grown);

        if (grown == NULL)
            return false;
        run->blocks = grown;
        e->block_room = room;
    }
    run->blocks[run->block_count++] = (struct run_block){.at = run->len};
    return true;
}

static bool make_room(struct encoder *e, size_t bytes)
{
    size_t room = e->room * 2 + BLOCK_BYTES + bytes;
    unsigned char *grown;

    if (bytes <= e->room - e->run->len)
        return true;
    grown = adb_realloc(ADB_MEM_LOG, e->run->bytes, room);
    if (grown == NULL)
        return false;
    e->run->bytes = grown;
    e->room = room;
    return true;
}

static size_t common(const struct raw *a, const struct raw *b)
{
    size_t n = a->key_len < b->key_len ? a->key_len : b->key_len;
    size_t same = 0;

    while (same < n && a->key[same] == b->key[same])
        same++;
    return same;
}

static enum armdb_rc put_entry(struct encoder *e, uint64_t table, const struct raw *raw)
{
    struct run *run = e->run;
    bool first = e->last == NULL;
    bool named = first || table != e->table;
    size_t shared = named ? 0 : common(e->last, raw);
    bool deleted = raw->value_len == UINT32_MAX;
    struct run_block *block;
    unsigned char *p;

    if ((first && !begin_block(e)) || !make_room(e, raw->key_len + ENTRY_HEAD_MAX))
        return ARMDB_NOMEM;
    p = run->bytes + run->len;
    *p++ =
        (unsigned char)((deleted ? RUN_DELETED : 0) |
                        (raw->ordinal != 0 ? RUN_ORDINAL : 0) | (named ? RUN_TABLE : 0));
    if (named)
        p += adb_put_varint(p, table);
    p += adb_put_varint(p, shared);
    p += adb_put_varint(p, raw->key_len - shared);
    p += adb_put_varint(p, raw->offset);
    p += adb_put_varint(p, raw->gsn - run->gsn_base);
    if (raw->ordinal != 0)
        p += adb_put_varint(p, raw->ordinal);
    if (!deleted)
        p += adb_put_varint(p, raw->value_len);
    if (raw->key_len > shared)
        memcpy(p, raw->key + shared, raw->key_len - shared);
    run->len = (size_t)(p - run->bytes) + raw->key_len - shared;
    run->entries++;
    if (raw->key_len > run->key_max)
        run->key_max = raw->key_len;
    block = &run->blocks[run->block_count - 1];
    block->count++;
    block->len = (uint32_t)(run->len - block->at);
    e->table = table;
    e->last = block->len >= BLOCK_BYTES ? NULL : raw;
    return ARMDB_OK;
}

enum { AHEAD = 8 }; /* records whose memory is asked for before they are written */

static enum armdb_rc put_list(struct encoder *e, const struct raw_list *list)
{
    bool sorted = is_sorted(list);
    struct item *items;
    enum armdb_rc rc = sort_list(list, sorted, &items);

    for (size_t i = 0; rc == ARMDB_OK && i < list->count; i++) {
        if (i + 2 * AHEAD < list->count)
            __builtin_prefetch(items[i + 2 * AHEAD].raw);
        if (i + AHEAD < list->count)
            __builtin_prefetch(items[i + AHEAD].raw->key);
        if (sorted || i + 1 == list->count || items[i].digest != items[i + 1].digest ||
            compare_raws(items[i].raw, items[i + 1].raw) != 0)
            rc = put_entry(e, list->table, items[i].raw);
    }
    adb_free(ADB_MEM_LOG, items);
    return rc;
}

static int compare_lists(const void *a, const void *b)
{
    const struct raw_list *x = a;
    const struct raw_list *y = b;

    return x->table < y->table ? -1 : x->table > y->table;
}

static uint64_t lowest_gsn(const struct run_builder *b)
{
    uint64_t low = UINT64_MAX;

    for (size_t i = 0; i < b->list_count; i++)
        for (size_t k = 0; k < b->lists[i].count; k++)
            if (b->lists[i].items[k].gsn < low)
                low = b->lists[i].items[k].gsn;
    return low == UINT64_MAX ? 0 : low;
}

enum armdb_rc run_builder_finish(struct run_builder *b, struct run *out)
{
    struct encoder encoder = {.run = out};
    enum armdb_rc rc = ARMDB_OK;

    memset(out, 0, sizeof *out);
    out->gsn_base = lowest_gsn(b);
    if (b->list_count > 1)
        qsort(b->lists, b->list_count, sizeof *b->lists, compare_lists);
    for (size_t i = 0; rc == ARMDB_OK && i < b->list_count; i++)
        rc = put_list(&encoder, &b->lists[i]);
    empty_builder(b);
    if (rc == ARMDB_OK && encoder.room > out->len) {
        unsigned char *cut = adb_realloc(ADB_MEM_LOG, out->bytes, out->len);

        if (cut != NULL)
            out->bytes = cut;
    } else if (rc != ARMDB_OK) {
        run_fini(out);
    }
    return rc;
}

/* warm.c - brings what is live of a table into memory.
 *
 * The index says where every live row lies, the disk is fast when it is asked in its own
 * order. So first the index is walked, without reading a value, and a bit is set for
 * each page that holds a live row: 2 KiB of bits for 64 MiB of log, whatever the number
 * of rows. Then the pages that are not in memory yet are read, segment by segment, the
 * newest one first, in rising order, many at a time (cache_read_ahead() merges
 * neighbours), until the free part of the cache is used up: nothing that is in memory is
 * thrown out for it. Rows over a page have buffers of their own; they come last, by place
 * as well.
 *
 * All of it is a hint. A row that moves meanwhile is read where it was or not at all; a
 * page that cannot be read is met again, with its error, by whoever reads the row. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/log/location.h"
#include "engine/store/internal.h"

enum {
    WALK_NODES = ORDER_BATCH_MAX, /* in one epoch */
    READ_PAGES = 256,             /* between two questions whether to stop: 1 MiB */
    WORD_PAGES = 64
};

/* The pages of one segment that hold live rows. */
struct wanted_pages {
    uint64_t *bits; /* owned */
    size_t words;
};

struct large_row {
    uint64_t location;
    node_ref node; /* stays while the snapshot is held */
    uint32_t value_len;
};

struct warming {
    struct armdb_session *session; /* borrowed, as the next two */
    struct tab *tab;
    const struct armdb_watch *watch;
    struct armdb_warm_info *info;
    struct wanted_pages *segments; /* owned: by slot */
    size_t segment_count;
    struct large_row *large; /* owned */
    size_t large_count;
    size_t large_capacity;
    unsigned char *key; /* owned: behind which the walk goes on */
    size_t key_capacity;
    size_t key_len;
    uint64_t room_bytes; /* of the cache, free yet */
};

static enum armdb_rc no_memory(struct armdb_error *err)
{
    return ADB_FAIL(ARMDB_NOMEM, err, "out of memory warming a table up");
}

/* ---- The walk ---- */

/* Room for `count` things of `size` bytes, the new ones zeroed. */
static bool grow(void **things, size_t *capacity, size_t size, size_t count)
{
    size_t wanted = count < 16 ? 16 : count + count / 2;
    unsigned char *grown;

    if (count <= *capacity)
        return true;
    grown = adb_realloc(ADB_MEM_MISC, *things, wanted * size);
    if (grown == NULL)
        return false;
    memset(grown + *capacity * size, 0, (wanted - *capacity) * size);
    *things = grown;
    *capacity = wanted;
    return true;
}

static bool want_page(struct warming *w, uint64_t location)
{
    size_t slot = location_slot(location);
    uint64_t page = location_offset(location) / CACHE_PAGE_BYTES;
    size_t word = (size_t)(page / WORD_PAGES);
    void *segments = w->segments;
    struct wanted_pages *pages;
    void *bits;
    bool ok = grow(&segments, &w->segment_count, sizeof *w->segments, slot + 1);

    w->segments = segments;
    if (!ok)
        return false;
    pages = &w->segments[slot];
    bits = pages->bits;
    ok = grow(&bits, &pages->words, sizeof *pages->bits, word + 1);
    pages->bits = bits;
    if (ok)
        pages->bits[word] |= UINT64_C(1) << (page % WORD_PAGES);
    return ok;
}

static bool want_large(struct warming *w, uint64_t location, node_ref node,
                       uint32_t value_len)
{
    void *large = w->large;
    bool ok = grow(&large, &w->large_capacity, sizeof *w->large, w->large_count + 1);

    w->large = large;
    if (ok)
        w->large[w->large_count++] = (struct large_row){location, node, value_len};
    return ok;
}

/* Notes where a node's row lies. Inside an epoch. */
static bool want_row(struct warming *w, node_ref ref)
{
    const struct armdb_session *session = w->session;
    struct node *node = arena_node(w->tab->arena, ref);
    const struct version *version =
        version_visible(w->tab, node, session->snapshot, session->txn, UINT32_MAX);
    uint64_t location;

    if (version == NULL || version->value_len == VERSION_DELETED)
        return true;
    w->info->rows++;
    location = atomic_load_explicit(&version->location, memory_order_acquire);
    if (location_is_staged(location))
        return true;
    if (record_bytes(w->tab, node, version->value_len) > CACHE_PAGE_BYTES)
        return want_large(w, location, ref, version->value_len);
    return want_page(w, location);
}

/* One batch of the walk; *more is false at the end of the index. */
static enum armdb_rc walk_batch(struct warming *w, bool started, bool *more,
                                struct armdb_error *err)
{
    node_ref nodes[WALK_NODES];
    struct order_from from = {started ? w->key : NULL, w->key_len, false, false};
    const struct node *last;
    void *key = w->key;
    bool ok = true;
    size_t count;

    epoch_enter(w->session->slot);
    order_scan(w->tab->order, &from, nodes, WALK_NODES, &count);
    stat_bump(&w->session->nodes_touched, count);
    for (size_t i = 0; ok && i < count; i++)
        ok = want_row(w, nodes[i]);
    if (ok && count > 0) {
        last = arena_node(w->tab->arena, nodes[count - 1]);
        /* One more: an empty key has an address, too. */
        ok = grow(&key, &w->key_capacity, 1, (size_t)node_key_len(last) + 1);
        w->key = key;
        if (ok) {
            w->key_len = node_key_len(last);
            ADB_ASSERT(w->key != NULL);
            memcpy(w->key, last->key, w->key_len);
        }
    }
    epoch_leave(w->session->slot);
    *more = count > 0;
    return ok ? ARMDB_OK : no_memory(err);
}

static enum armdb_rc walk(struct warming *w, struct armdb_error *err)
{
    enum armdb_rc rc = ARMDB_OK;
    bool more = true;

    for (bool started = false; rc == ARMDB_OK && more; started = true) {
        rc = walk_batch(w, started, &more, err);
        if (rc == ARMDB_OK)
            rc = watch_ask(w->watch, err);
    }
    return rc;
}

/* ---- Reading ---- */

/* Takes part of the room; false when there is not enough. */
static bool take_room(struct warming *w, uint64_t bytes)
{
    if (bytes > w->room_bytes) {
        w->info->full = true;
        return false;
    }
    w->room_bytes -= bytes;
    return true;
}

/* Fills `wants` with pages that are not in memory, from page *page on. Inside an epoch.
 */
static size_t choose_pages(struct warming *w, const struct wanted_pages *pages,
                           struct segment *segment, uint64_t *page,
                           struct cache_want *wants)
{
    uint64_t end = (uint64_t)pages->words * WORD_PAGES;
    size_t count = 0;

    for (; *page < end && count < READ_PAGES; ++*page) {
        uint64_t word = pages->bits[*page / WORD_PAGES] >> (*page % WORD_PAGES);

        if (word == 0) {
            *page |= WORD_PAGES - 1;
            continue;
        }
        if ((word & 1) == 0)
            continue;
        if (cache_prefetch(segment->cf, *page, 0, 0) != 0) {
            w->info->pages_found++;
            continue;
        }
        if (!take_room(w, CACHE_PAGE_BYTES)) {
            *page = end;
            break;
        }
        wants[count++] = (struct cache_want){segment->cf, *page};
    }
    return count;
}

static enum armdb_rc read_segment(struct warming *w, size_t slot, struct armdb_error *err)
{
    struct armdb *store = w->session->store;
    const struct wanted_pages *pages = &w->segments[slot];
    uint64_t end = (uint64_t)pages->words * WORD_PAGES;
    enum armdb_rc rc = ARMDB_OK;

    for (uint64_t page = 0; rc == ARMDB_OK && page < end && !w->info->full;) {
        struct cache_want wants[READ_PAGES];
        struct segment *segment;
        size_t count = 0;

        epoch_enter(w->session->slot);
        segment = segtab_get(&store->log.segments, (uint32_t)slot);
        if (segment != NULL)
            count = choose_pages(w, pages, segment, &page, wants);
        else
            page = end; /* compacted meanwhile: its rows are hot where they went */
        if (count > 0)
            cache_read_ahead(store->cache, wants, count);
        epoch_leave(w->session->slot);
        w->info->pages_read += count;
        rc = watch_ask(w->watch, err);
    }
    return rc;
}

static int compare_large(const void *a, const void *b)
{
    const struct large_row *x = a;
    const struct large_row *y = b;

    return x->location < y->location ? -1 : x->location > y->location;
}

static enum armdb_rc read_large(struct warming *w, struct armdb_error *err)
{
    struct armdb_session *session = w->session;
    enum armdb_rc rc = ARMDB_OK;

    if (w->large_count > 0)
        qsort(w->large, w->large_count, sizeof *w->large, compare_large);
    for (size_t i = 0; rc == ARMDB_OK && i < w->large_count; i++) {
        const struct large_row *row = &w->large[i];
        const struct node *node = arena_node(w->tab->arena, row->node);
        struct fetch fetch = {.tab = w->tab,
                              .location = row->location,
                              .value_len = row->value_len,
                              .key = node->key,
                              .key_len = node_key_len(node)};
        struct armdb_value value;
        struct armdb_error ignored;

        if (!take_room(w, (uint64_t)row->value_len + CACHE_PAGE_BYTES))
            return ARMDB_OK;
        if (fetch_value(session, &fetch, &value, &ignored) == ARMDB_OK) {
            w->info->large_read++;
            armdb_value_release(&value);
        }
        rc = watch_ask(w->watch, err);
    }
    return rc;
}

static enum armdb_rc warm_table(struct warming *w, struct armdb_error *err)
{
    struct cache_stats stats;
    enum armdb_rc rc = walk(w, err);

    cache_get_stats(w->session->store->cache, &stats);
    w->room_bytes = stats.free_bytes;
    for (size_t slot = w->segment_count; rc == ARMDB_OK && slot > 0; slot--)
        rc = read_segment(w, slot - 1, err);
    if (rc == ARMDB_OK)
        rc = read_large(w, err);
    return rc;
}

enum armdb_rc armdb_warm(struct armdb_session *session, struct armdb_table *table,
                         const struct armdb_watch *watch, struct armdb_warm_info *info,
                         struct armdb_error *err)
{
    struct armdb_warm_info own = {.rows = 0};
    struct warming w = {.session = session, .watch = watch};
    enum armdb_rc rc = point_check(session, table, NULL, 0, err);

    w.info = info != NULL ? info : &own;
    memset(w.info, 0, sizeof *w.info);
    if (rc == ARMDB_OK)
        rc = armdb_snapshot_acquire(session, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = table_resolve(table, err);
    w.tab = table->tab;
    if (rc == ARMDB_OK)
        rc = warm_table(&w, err);
    for (size_t i = 0; i < w.segment_count; i++)
        adb_free(ADB_MEM_MISC, w.segments[i].bits);
    adb_free(ADB_MEM_MISC, w.segments);
    adb_free(ADB_MEM_MISC, w.large);
    adb_free(ADB_MEM_MISC, w.key);
    armdb_snapshot_release(session);
    return rc;
}

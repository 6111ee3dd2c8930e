/* cursor.c - look-ups and scans.
 *
 * A cursor reads ahead in batches: one call enters an epoch, asks the index for up to
 * 128 nodes, finds the version that the snapshot sees in each, copies keys and
 * locations into the cursor and leaves the epoch. Between calls it holds nothing but
 * its snapshot. The next batch starts behind the last key of this one, so inserts,
 * deletes and splits between batches do no harm.
 *
 * A location may have moved when a value is asked for (its segment was compacted): the
 * key is looked up again under the same snapshot. Own uncommitted rows lie in the
 * transaction's memory; when that may have gone (stage_generation), the rest of the
 * batch is thrown away and read again.
 *
 * Skipping (armdb_cursor_skip) passes by all keys with one beginning. Keys that share
 * one lie side by side, so the end of a group is found by bisection if it is in the
 * batch; if not, the index is asked for what comes behind the group. How many nodes that
 * seek brings follows what the last one was good for: twice as many if the batch held
 * the end of a group, half as many if it lay wholly in one. */
#include <string.h>

#include "engine/base/mem.h"
#include "engine/log/location.h"
#include "engine/store/internal.h"

enum {
    BATCH_FIRST = 16,
    BATCH_MAX = ORDER_BATCH_MAX,
    SKIP_BATCH_MIN = 2,
    SKIP_BATCH_MAX = 64,
    AHEAD_BYTES = 320 /* of a record: prefetched with its batch */
};

struct cursor_row {
    uint64_t location;
    uint64_t seq;
    size_t key_at; /* in cursor->bytes */
    node_ref node; /* never followed: an identity */
    uint32_t key_len;
    uint32_t value_len;
};

/* Compaction puts rows that follow one another into one page, or into as many as there
 * are shards. The page of a value stays pinned when the cursor moves on, one for each
 * segment or so, for the values behind it. */
enum { HELD_PAGES = 8 };

struct held_page {
    struct armdb_value pin; /* owned; any value in it */
    uint64_t location;      /* of that value's record */
};

enum cursor_mode { CURSOR_IDLE, CURSOR_KEY, CURSOR_LIST, CURSOR_RANGE };

struct armdb_cursor {
    struct armdb_session *session; /* borrowed */
    struct armdb_table *table;     /* borrowed: the table handle outlives cursors */
    struct tab *tab;               /* its rows; kept alive by the snapshot held */
    enum cursor_mode mode;
    bool holds_snapshot;
    bool sees_all;     /* own writes of the statement at work, too */
    uint64_t snapshot; /* what it sees, as are the next two: set by each seek */
    uint32_t statement_limit;
    uint64_t stage_generation;

    /* The batch. */
    struct cursor_row rows[BATCH_MAX];
    size_t row_count;
    size_t row_at;
    unsigned char *bytes; /* owned: keys of the batch */
    size_t bytes_used;
    size_t bytes_capacity;
    struct armdb_value value; /* of the current row; in a page that is held, or owned */
    bool has_value;
    struct held_page held[HELD_PAGES]; /* by slot of the segment */

    /* CURSOR_RANGE. */
    struct armdb_range range; /* its bounds point into `bounds` */
    unsigned char *bounds;    /* owned */
    size_t bounds_capacity;
    size_t continue_at; /* in bytes: the key behind which the next batch starts */
    size_t continue_len;
    bool continue_inclusive; /* ... or at which, after a skip */
    bool started;
    bool exhausted;
    bool skipped_in_batch; /* a skip ended inside the present batch */
    size_t batch;          /* size of the next one */
    size_t skip_batch;     /* the same after a skip */

    /* CURSOR_LIST. */
    struct armdb_key *list; /* owned; keys lie in `bounds` */
    size_t list_capacity;
    size_t list_count;
    size_t list_at;
};

enum armdb_rc armdb_cursor_open(struct armdb_session *session, struct armdb_table *table,
                                struct armdb_cursor **out, struct armdb_error *err)
{
    struct armdb_cursor *cursor;
    enum armdb_rc rc = session_check(session, err);

    *out = NULL;
    if (rc != ARMDB_OK)
        return rc;
    cursor = adb_alloc(ADB_MEM_MISC, sizeof *cursor);
    if (cursor == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory for a cursor");
    memset(cursor, 0, sizeof *cursor);
    cursor->session = session;
    cursor->table = table;
    *out = cursor;
    return ARMDB_OK;
}

/* The cursor moves on. */
static void leave_row(struct armdb_cursor *cursor)
{
    if (cursor->value.owner != NULL && !value_is_in_page(&cursor->value))
        armdb_value_release(&cursor->value);
    cursor->has_value = false;
}

static void drop_batch(struct armdb_cursor *cursor)
{
    leave_row(cursor);
    cursor->row_count = 0;
    cursor->row_at = 0;
}

static void drop_pages(struct armdb_cursor *cursor)
{
    leave_row(cursor);
    for (int i = 0; i < HELD_PAGES; i++)
        if (cursor->held[i].pin.owner != NULL)
            armdb_value_release(&cursor->held[i].pin);
}

void armdb_cursor_reset(struct armdb_cursor *cursor)
{
    drop_batch(cursor);
    drop_pages(cursor);
    cursor->mode = CURSOR_IDLE;
    if (cursor->holds_snapshot)
        armdb_snapshot_release(cursor->session);
    cursor->holds_snapshot = false;
}

void armdb_cursor_close(struct armdb_cursor *cursor)
{
    if (cursor == NULL)
        return;
    armdb_cursor_reset(cursor);
    adb_free(ADB_MEM_MISC, cursor->bytes);
    adb_free(ADB_MEM_MISC, cursor->bounds);
    adb_free(ADB_MEM_MISC, cursor->list);
    adb_free(ADB_MEM_MISC, cursor);
}

/* Room for n more bytes; addresses into the buffer may change. */
static enum armdb_rc grow(unsigned char **bytes, size_t *capacity, size_t needed)
{
    unsigned char *grown;
    size_t size = *capacity * 2 < 1024 ? 1024 : *capacity * 2;

    if (needed <= *capacity)
        return ARMDB_OK;
    if (size < needed)
        size = needed;
    grown = adb_realloc(ADB_MEM_MISC, *bytes, size);
    if (grown == NULL)
        return ARMDB_NOMEM;
    *bytes = grown;
    *capacity = size;
    return ARMDB_OK;
}

static enum armdb_rc start_seek(struct armdb_cursor *cursor, enum cursor_mode mode,
                                struct armdb_error *err)
{
    enum armdb_rc rc = ARMDB_OK;

    drop_batch(cursor);
    stat_bump(&cursor->session->seeks, 1);
    cursor->mode = mode;
    cursor->bytes_used = 0;
    if (!cursor->holds_snapshot) {
        rc = armdb_snapshot_acquire(cursor->session, err);
        cursor->holds_snapshot = rc == ARMDB_OK;
    } else {
        rc = session_check(cursor->session, err);
    }
    if (rc == ARMDB_OK)
        rc = table_resolve(cursor->table, err);
    cursor->tab = cursor->table->tab;
    cursor->snapshot = cursor->session->snapshot;
    cursor->statement_limit = cursor->sees_all ? UINT32_MAX : cursor->session->statement;
    cursor->stage_generation = cursor->session->stage_generation;
    return rc;
}

/* ---- One row ---- */

/* Adds the node's row to the batch if the snapshot sees one. Inside an epoch. */
static enum armdb_rc take_row(struct armdb_cursor *cursor, node_ref ref, bool *taken)
{
    enum armdb_rc rc;
    struct tab *tab = cursor->tab;
    struct node *node = arena_node(tab->arena, ref);
    struct version *version = version_visible(
        tab, node, cursor->snapshot, cursor->session->txn, cursor->statement_limit);
    struct cursor_row *row = &cursor->rows[cursor->row_count];
    uint64_t word;

    *taken = false;
    if (version == NULL || version->value_len == VERSION_DELETED)
        return ARMDB_OK;
    row->node = ref;
    row->key_len = node_key_len(node);
    /* One more: an empty key has an address, too, or the next batch would begin anew. */
    rc = grow(&cursor->bytes, &cursor->bytes_capacity,
              cursor->bytes_used + row->key_len + 1);
    if (rc != ARMDB_OK)
        return rc;
    memcpy(cursor->bytes + cursor->bytes_used, node->key, row->key_len);
    row->key_at = cursor->bytes_used;
    cursor->bytes_used += row->key_len;
    row->value_len = version->value_len;
    /* Pairs with the release of who moved the record or put it into the log. */
    row->location = atomic_load_explicit(&version->location, memory_order_acquire);
    word = atomic_load_explicit(&version->word, memory_order_acquire);
    row->seq = (word & 1) != 0
                   ? word >> 1
                   : ((const struct txn_write *)(uintptr_t)word)->txn->undecided.gsn;
    cursor->row_count++;
    *taken = true;
    return ARMDB_OK;
}

enum armdb_rc damage_check(const struct armdb *store, bool absent, uint64_t seq,
                           struct armdb_error *err)
{
    if (store->damage_gsn == 0 || (!absent && seq > store->damage_gsn))
        return ARMDB_OK;
    return ADB_FAIL(ARMDB_CORRUPT, err, "%s", store->damage_text);
}

static enum armdb_rc check_damage(const struct armdb_cursor *cursor, bool absent,
                                  struct armdb_error *err)
{
    return damage_check(cursor->session->store, absent,
                        absent ? 0 : cursor->rows[cursor->row_at].seq, err);
}

static enum armdb_rc out_of_memory(struct armdb_error *err)
{
    return ADB_FAIL(ARMDB_NOMEM, err, "out of memory reading a table");
}

/* The first row of the batch, or the end. */
static enum armdb_rc deliver(struct armdb_cursor *cursor, struct armdb_error *err)
{
    enum armdb_rc rc = check_damage(cursor, cursor->row_count == 0, err);

    if (rc != ARMDB_OK)
        return rc;
    return cursor->row_count > 0 ? ARMDB_OK : ARMDB_DONE;
}

/* The segment and page of a row on the log; NULL when there is none to bring. */
static struct segment *row_segment(const struct cursor_row *row, struct armdb *store)
{
    return location_is_staged(row->location)
               ? NULL
               : segtab_get(&store->log.segments, location_slot(row->location));
}

/* How much of a record is worth bringing ahead: its head, key and short value. */
static uint32_t ahead_bytes(const struct cursor_row *row, uint32_t in_page)
{
    uint64_t bytes = (uint64_t)RECORD_HEAD_MAX + row->key_len + row->value_len;

    if (bytes > AHEAD_BYTES)
        bytes = AHEAD_BYTES;
    if (bytes > CACHE_PAGE_BYTES - in_page)
        bytes = CACHE_PAGE_BYTES - in_page;
    return (uint32_t)bytes;
}

/* Brings a record towards the processor if its page is in memory; gives its address, 0
 * when the page has to be read. Inside an epoch. */
static uintptr_t prefetch_row(const struct segment *segment, const struct cursor_row *row)
{
    uint64_t offset = location_offset(row->location);
    uint32_t in_page = (uint32_t)(offset % CACHE_PAGE_BYTES);

    return cache_prefetch(segment->cf, offset / CACHE_PAGE_BYTES, in_page,
                          ahead_bytes(row, in_page));
}

/* The last row of a segment, or so, that was prefetched. */
struct ahead_page {
    uint64_t location;
    uintptr_t address; /* 0: its page is not in memory */
};

/* Is the row in the page of that one? Then its bytes lie at a known distance, and the
 * rest of the way there has been gone. */
static bool prefetch_beside(const struct ahead_page *page, const struct cursor_row *row)
{
    if ((page->location ^ row->location) >= CACHE_PAGE_BYTES)
        return false;
    if (page->address != 0)
        cache_prefetch_bytes(
            page->address + row->location - page->location,
            ahead_bytes(row, (uint32_t)(row->location % CACHE_PAGE_BYTES)));
    return true;
}

/* Brings the batch's records towards the processor: cached ones by prefetch, in stages,
 * so that their cache misses overlap, others with one batch of reads. In an epoch. */
static void read_ahead(struct armdb_cursor *cursor)
{
    struct armdb *store = cursor->session->store;
    struct cache_want wants[BATCH_MAX];
    struct ahead_page pages[HELD_PAGES] = {{LOCATION_NONE, 0}};
    size_t count = 0;

    for (size_t i = 0; i < cursor->row_count; i++) {
        const struct cursor_row *row = &cursor->rows[i];
        struct segment *segment = row_segment(row, store);

        if (segment != NULL)
            cache_prefetch_entry(segment->cf,
                                 location_offset(row->location) / CACHE_PAGE_BYTES);
    }
    for (size_t i = 0; i < cursor->row_count; i++) {
        const struct cursor_row *row = &cursor->rows[i];
        struct ahead_page *page = &pages[location_slot(row->location) % HELD_PAGES];
        struct segment *segment;

        if (prefetch_beside(page, row))
            continue;
        segment = row_segment(row, store);
        if (segment == NULL)
            continue;
        page->location = row->location;
        page->address = prefetch_row(segment, row);
        if (page->address != 0)
            continue;
        wants[count].cf = segment->cf;
        wants[count++].page_no = location_offset(row->location) / CACHE_PAGE_BYTES;
    }
    if (count > 1)
        cache_read_ahead(store->cache, wants, count);
}

/* ---- One key ---- */

/* In a statement that writes and has read nothing yet the key is taken as a writer
 * first: a read-modify-write of one row then never meets ARMDB_BUSY_SNAPSHOT. */
static enum armdb_rc lock_first(struct armdb_cursor *cursor, const void *key,
                                size_t key_len, struct armdb_error *err)
{
    struct armdb_session *session = cursor->session;
    enum armdb_rc rc;

    if (!session->expects_write)
        return ARMDB_OK;
    session->expects_write = false;
    if (session->snapshot_read || session->store->read_only)
        return ARMDB_OK;
    rc = armdb_lock_key(session, cursor->table, key, key_len, err);
    cursor->snapshot = session->snapshot; /* it may have moved forward */
    cursor->tab = cursor->table->tab;
    return rc < 0 ? rc : ARMDB_OK;
}

static enum armdb_rc find_one(struct armdb_cursor *cursor, const void *key,
                              size_t key_len, struct armdb_error *err)
{
    enum armdb_rc rc = ARMDB_OK;
    struct tab *tab = cursor->tab;
    uint64_t hash = hashmap_hash(tab->map, key, key_len);
    struct segment *segment;
    node_ref ref;
    bool taken;

    epoch_enter(cursor->session->slot);
    ref = hashmap_find(tab->map, hash, key, key_len);
    if (ref != 0) {
        stat_bump(&cursor->session->nodes_touched, 1);
        rc = take_row(cursor, ref, &taken);
        segment = rc == ARMDB_OK && taken
                      ? row_segment(&cursor->rows[0], cursor->session->store)
                      : NULL;
        if (segment != NULL)
            (void)prefetch_row(segment, &cursor->rows[0]);
    }
    epoch_leave(cursor->session->slot);
    cursor->session->snapshot_read = true;
    return rc == ARMDB_OK ? ARMDB_OK : out_of_memory(err);
}

static enum armdb_rc seek_key(struct armdb_cursor *cursor, const void *key,
                              size_t key_len, struct armdb_error *err)
{
    enum armdb_rc rc = start_seek(cursor, CURSOR_KEY, err);

    if (rc != ARMDB_OK)
        return rc;
    stat_bump(&cursor->session->gets, 1);
    rc = lock_first(cursor, key, key_len, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = find_one(cursor, key, key_len, err);
    if (rc != ARMDB_OK)
        return rc;
    return deliver(cursor, err);
}

enum armdb_rc armdb_cursor_seek_key(struct armdb_cursor *cursor, const void *key,
                                    size_t key_len, struct armdb_error *err)
{
    struct armdb_session *session = cursor->session;
    uint64_t began;
    enum armdb_rc rc;

    if (!stat_is_sampled(&session->seek_countdown))
        return seek_key(cursor, key, key_len, err);
    began = adb_mono_ns();
    rc = seek_key(cursor, key, key_len, err);
    histogram_add(&session->store->latencies.seek, adb_mono_ns() - began);
    return rc;
}

/* ---- A list of keys ---- */

/* The next part of the list that has a row. The look-ups go in stages, so that their
 * cache misses overlap. */
static enum armdb_rc fill_list(struct armdb_cursor *cursor, struct armdb_error *err)
{
    enum armdb_rc rc = ARMDB_OK;
    struct tab *tab = cursor->tab;
    uint64_t hashes[BATCH_MAX];

    drop_batch(cursor);
    cursor->bytes_used = 0;
    epoch_enter(cursor->session->slot);
    while (rc == ARMDB_OK && cursor->row_count == 0 &&
           cursor->list_at < cursor->list_count) {
        const struct armdb_key *keys = cursor->list + cursor->list_at;
        size_t n = cursor->list_count - cursor->list_at;
        uint64_t touched = 0;
        bool taken;

        n = n < BATCH_MAX ? n : BATCH_MAX;
        for (size_t i = 0; i < n; i++) {
            hashes[i] = hashmap_hash(tab->map, keys[i].data, keys[i].len);
            hashmap_prefetch(tab->map, hashes[i]);
        }
        for (size_t i = 0; i < n; i++)
            hashmap_prefetch_node(tab->map, hashes[i]);
        for (size_t i = 0; i < n && rc == ARMDB_OK; i++) {
            node_ref ref = hashmap_find(tab->map, hashes[i], keys[i].data, keys[i].len);

            if (ref == 0)
                continue;
            touched++;
            rc = take_row(cursor, ref, &taken);
        }
        stat_bump(&cursor->session->nodes_touched, touched);
        cursor->list_at += n;
    }
    if (rc == ARMDB_OK)
        read_ahead(cursor);
    epoch_leave(cursor->session->slot);
    cursor->session->snapshot_read = true;
    cursor->stage_generation = cursor->session->stage_generation;
    if (rc != ARMDB_OK)
        return out_of_memory(err);
    return deliver(cursor, err);
}

enum armdb_rc armdb_cursor_seek_keys(struct armdb_cursor *cursor,
                                     const struct armdb_key *keys, size_t key_count,
                                     struct armdb_error *err)
{
    enum armdb_rc rc = start_seek(cursor, CURSOR_LIST, err);
    size_t bytes = 0;

    if (rc != ARMDB_OK)
        return rc;
    cursor->session->expects_write = false;
    stat_bump(&cursor->session->gets, key_count);
    for (size_t i = 0; i < key_count; i++)
        bytes += keys[i].len;
    if (grow(&cursor->bounds, &cursor->bounds_capacity, bytes + 1) != ARMDB_OK)
        return out_of_memory(err);
    if (key_count > cursor->list_capacity) {
        struct armdb_key *list =
            adb_realloc(ADB_MEM_MISC, cursor->list, key_count * sizeof *list);

        if (list == NULL)
            return out_of_memory(err);
        cursor->list = list;
        cursor->list_capacity = key_count;
    }
    bytes = 0;
    for (size_t i = 0; i < key_count; i++) {
        if (keys[i].len > 0)
            memcpy(cursor->bounds + bytes, keys[i].data, keys[i].len);
        cursor->list[i].data = cursor->bounds + bytes;
        cursor->list[i].len = keys[i].len;
        bytes += keys[i].len;
    }
    cursor->list_count = key_count;
    cursor->list_at = 0;
    return fill_list(cursor, err);
}

/* ---- A range ---- */

static int compare_keys(const void *a, size_t a_len, const void *b, size_t b_len)
{
    size_t len = a_len < b_len ? a_len : b_len;
    int order = len > 0 ? memcmp(a, b, len) : 0;

    if (order != 0)
        return order;
    return a_len < b_len ? -1 : a_len > b_len;
}

/* Is the key past the bound at which the scan ends? */
static bool past_end(const struct armdb_range *range, const void *key, size_t key_len)
{
    enum armdb_bound bound = range->reverse ? range->low_bound : range->high_bound;
    int order;

    if (bound == ARMDB_BOUND_OPEN)
        return false;
    order = range->reverse ? compare_keys(range->low, range->low_len, key, key_len)
                           : compare_keys(key, key_len, range->high, range->high_len);
    return order > 0 || (order == 0 && bound == ARMDB_BOUND_EXCLUSIVE);
}

/* Where the next batch starts. */
static struct order_from batch_start(const struct armdb_cursor *cursor)
{
    const struct armdb_range *range = &cursor->range;
    struct order_from from = {NULL, 0, false, range->reverse};
    enum armdb_bound bound = range->reverse ? range->high_bound : range->low_bound;

    if (cursor->started) {
        from.key = cursor->bytes + cursor->continue_at;
        from.key_len = cursor->continue_len;
        from.inclusive = cursor->continue_inclusive;
    } else if (bound != ARMDB_BOUND_OPEN) {
        from.key = range->reverse ? range->high : range->low;
        from.key_len = range->reverse ? range->high_len : range->low_len;
        from.inclusive = bound == ARMDB_BOUND_INCLUSIVE;
    }
    return from;
}

/* Takes the visible rows among the nodes; notes where to go on. Inside an epoch. */
static enum armdb_rc take_nodes(struct armdb_cursor *cursor, const node_ref *nodes,
                                size_t count)
{
    struct tab *tab = cursor->tab;
    struct node *last = arena_node(tab->arena, nodes[count - 1]);
    bool check_all = past_end(&cursor->range, last->key, node_key_len(last));
    bool taken = false;
    enum armdb_rc rc;

    cursor->bytes_used = 0;
    for (size_t i = 0; i < count; i++) {
        if (check_all) {
            struct node *node = arena_node(tab->arena, nodes[i]);

            if (past_end(&cursor->range, node->key, node_key_len(node))) {
                cursor->exhausted = true;
                return ARMDB_OK;
            }
        }
        rc = take_row(cursor, nodes[i], &taken);
        if (rc != ARMDB_OK)
            return rc;
    }
    cursor->started = true;
    cursor->continue_inclusive = false;
    cursor->continue_len = node_key_len(last);
    if (taken) {
        cursor->continue_at = cursor->rows[cursor->row_count - 1].key_at;
        return ARMDB_OK;
    }
    rc = grow(&cursor->bytes, &cursor->bytes_capacity,
              cursor->bytes_used + cursor->continue_len + 1);
    if (rc != ARMDB_OK)
        return rc;
    memcpy(cursor->bytes + cursor->bytes_used, last->key, cursor->continue_len);
    cursor->continue_at = cursor->bytes_used;
    cursor->bytes_used += cursor->continue_len;
    return ARMDB_OK;
}

static enum armdb_rc fill_range(struct armdb_cursor *cursor, struct armdb_error *err)
{
    enum armdb_rc rc = ARMDB_OK;
    node_ref nodes[BATCH_MAX];

    drop_batch(cursor);
    cursor->skipped_in_batch = false;
    epoch_enter(cursor->session->slot);
    while (rc == ARMDB_OK && cursor->row_count == 0 && !cursor->exhausted) {
        struct order_from from = batch_start(cursor);
        size_t count;

        order_scan(cursor->tab->order, &from, nodes, cursor->batch, &count);
        stat_bump(&cursor->session->nodes_touched, count);
        if (count == 0)
            cursor->exhausted = true;
        else
            rc = take_nodes(cursor, nodes, count);
        cursor->batch = cursor->batch * 4 < BATCH_MAX ? cursor->batch * 4 : BATCH_MAX;
    }
    if (rc == ARMDB_OK && !cursor->range.keys_only)
        read_ahead(cursor);
    epoch_leave(cursor->session->slot);
    cursor->session->snapshot_read = true;
    cursor->stage_generation = cursor->session->stage_generation;
    if (rc != ARMDB_OK)
        return out_of_memory(err);
    return deliver(cursor, err);
}

/* Copies the bounds: the caller's may go away. */
static enum armdb_rc keep_bounds(struct armdb_cursor *cursor,
                                 const struct armdb_range *range)
{
    size_t low_len = range->low_bound == ARMDB_BOUND_OPEN ? 0 : range->low_len;
    size_t high_len = range->high_bound == ARMDB_BOUND_OPEN ? 0 : range->high_len;

    cursor->range = *range;
    if (grow(&cursor->bounds, &cursor->bounds_capacity, low_len + high_len + 1) !=
        ARMDB_OK)
        return ARMDB_NOMEM;
    if (low_len > 0)
        memcpy(cursor->bounds, range->low, low_len);
    if (high_len > 0)
        memcpy(cursor->bounds + low_len, range->high, high_len);
    cursor->range.low = cursor->bounds;
    cursor->range.low_len = low_len;
    cursor->range.high = cursor->bounds + low_len;
    cursor->range.high_len = high_len;
    return ARMDB_OK;
}

enum armdb_rc armdb_cursor_seek_range(struct armdb_cursor *cursor,
                                      const struct armdb_range *range,
                                      struct armdb_error *err)
{
    enum armdb_rc rc = start_seek(cursor, CURSOR_RANGE, err);

    if (rc != ARMDB_OK)
        return rc;
    cursor->session->expects_write = false;
    stat_bump(&cursor->session->scans, 1);
    if (keep_bounds(cursor, range) != ARMDB_OK)
        return out_of_memory(err);
    cursor->started = false;
    cursor->exhausted = false;
    cursor->skip_batch = SKIP_BATCH_MIN;
    cursor->batch = BATCH_FIRST;
    if (range->limit_hint > 0)
        cursor->batch =
            range->limit_hint < BATCH_MAX ? (size_t)range->limit_hint : BATCH_MAX;
    rc = fill_range(cursor, err);
    if (rc == ARMDB_OK)
        stat_bump(&cursor->session->scan_steps, 1);
    return rc;
}

/* ---- Moving on ---- */

/* Own staged rows of this batch may be gone: read on from the current key. */
static enum armdb_rc refill_behind_current(struct armdb_cursor *cursor,
                                           struct armdb_error *err)
{
    const struct cursor_row *row = &cursor->rows[cursor->row_at];

    cursor->started = true;
    cursor->exhausted = false;
    cursor->continue_inclusive = false;
    cursor->continue_at = row->key_at;
    cursor->continue_len = row->key_len;
    return fill_range(cursor, err);
}

static enum armdb_rc step(struct armdb_cursor *cursor, struct armdb_error *err)
{
    leave_row(cursor);
    if (cursor->mode == CURSOR_RANGE &&
        cursor->stage_generation != cursor->session->stage_generation)
        return refill_behind_current(cursor, err);
    if (++cursor->row_at < cursor->row_count)
        return check_damage(cursor, false, err);
    switch (cursor->mode) {
    case CURSOR_LIST:
        return fill_list(cursor, err);
    case CURSOR_RANGE:
        return fill_range(cursor, err);
    case CURSOR_KEY:
    case CURSOR_IDLE:
        break;
    }
    return ARMDB_DONE;
}

enum armdb_rc armdb_cursor_next(struct armdb_cursor *cursor, struct armdb_error *err)
{
    enum armdb_rc rc = step(cursor, err);

    if (rc == ARMDB_OK && cursor->mode == CURSOR_RANGE)
        stat_bump(&cursor->session->scan_steps, 1);
    return rc;
}

/* The first row of the batch that does not begin as the current one does; row_count when
 * all do. */
static size_t end_of_group(const struct armdb_cursor *cursor, size_t len)
{
    const unsigned char *first = cursor->bytes + cursor->rows[cursor->row_at].key_at;
    size_t low = cursor->row_at + 1;
    size_t high = cursor->row_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct cursor_row *row = &cursor->rows[middle];

        if (row->key_len >= len && memcmp(cursor->bytes + row->key_at, first, len) == 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Lets the next batch start behind all keys that begin as the current row's does. */
static void continue_behind(struct armdb_cursor *cursor, size_t len)
{
    size_t at = cursor->rows[cursor->row_at].key_at;
    bool reverse = cursor->range.reverse;

    if (!reverse) {
        /* The smallest key above them all; its place in the batch is needed no more. */
        while (len > 0 && cursor->bytes[at + len - 1] == 0xff)
            len--;
        if (len > 0)
            cursor->bytes[at + len - 1]++;
    }
    cursor->exhausted = len == 0;
    cursor->started = true;
    cursor->continue_at = at;
    cursor->continue_len = len;
    cursor->continue_inclusive = !reverse;
}

static enum armdb_rc skip(struct armdb_cursor *cursor, size_t len,
                          struct armdb_error *err)
{
    size_t end;

    if (cursor->mode != CURSOR_RANGE || cursor->row_at >= cursor->row_count ||
        len > cursor->rows[cursor->row_at].key_len)
        return ADB_FAIL(ARMDB_MISUSE, err,
                        "a skip wants a row of a range and a part of "
                        "its key");
    leave_row(cursor);
    end = end_of_group(cursor, len);
    if (end < cursor->row_count &&
        cursor->stage_generation == cursor->session->stage_generation) {
        cursor->row_at = end;
        cursor->skipped_in_batch = true;
        return check_damage(cursor, false, err);
    }
    if (cursor->skipped_in_batch && cursor->skip_batch < SKIP_BATCH_MAX)
        cursor->skip_batch *= 2;
    else if (!cursor->skipped_in_batch && cursor->skip_batch > SKIP_BATCH_MIN)
        cursor->skip_batch /= 2;
    cursor->batch = cursor->skip_batch;
    continue_behind(cursor, len);
    return fill_range(cursor, err);
}

enum armdb_rc armdb_cursor_skip(struct armdb_cursor *cursor, size_t len,
                                struct armdb_error *err)
{
    enum armdb_rc rc = skip(cursor, len, err);

    if (rc == ARMDB_OK)
        stat_bump(&cursor->session->scan_steps, 1);
    return rc;
}

void armdb_cursor_key(const struct armdb_cursor *cursor, const void **key, size_t *len)
{
    const struct cursor_row *row = &cursor->rows[cursor->row_at];

    *key = cursor->bytes + row->key_at;
    *len = row->key_len;
}

uint64_t armdb_cursor_value_len(const struct armdb_cursor *cursor)
{
    return cursor->rows[cursor->row_at].value_len;
}

uint64_t armdb_cursor_row_id(const struct armdb_cursor *cursor)
{
    /* A node that a snapshot sees is not freed, so its place is not given again. */
    return cursor->rows[cursor->row_at].node;
}

uint64_t armdb_cursor_seq(const struct armdb_cursor *cursor)
{
    return cursor->rows[cursor->row_at].seq;
}

/* Where the row lies now. False when the snapshot does not see it any more: an own row
 * that was rolled back under the cursor. */
static bool find_again(struct armdb_cursor *cursor, struct cursor_row *row)
{
    struct tab *tab = cursor->tab;
    const unsigned char *key = cursor->bytes + row->key_at;
    struct version *version = NULL;
    node_ref ref;

    epoch_enter(cursor->session->slot);
    ref = hashmap_find(tab->map, hashmap_hash(tab->map, key, row->key_len), key,
                       row->key_len);
    if (ref != 0)
        version = version_visible(tab, arena_node(tab->arena, ref), cursor->snapshot,
                                  cursor->session->txn, cursor->statement_limit);
    if (version != NULL && version->value_len != VERSION_DELETED) {
        row->location = atomic_load_explicit(&version->location, memory_order_acquire);
        row->value_len = version->value_len;
    } else {
        version = NULL;
    }
    epoch_leave(cursor->session->slot);
    return version != NULL;
}

/* The value of a record in a page that is held. */
static bool find_beside(struct armdb_cursor *cursor, const struct fetch *fetch)
{
    const struct held_page *held =
        &cursor->held[location_slot(fetch->location) % HELD_PAGES];

    if (held->pin.owner == NULL || (held->location ^ fetch->location) >= CACHE_PAGE_BYTES)
        return false;
    cursor->value = held->pin;
    return fetch_beside(fetch, &cursor->value);
}

/* The value came with a pin of its own: its page is held from now on. */
static void hold_page(struct armdb_cursor *cursor, uint64_t location)
{
    struct held_page *held = &cursor->held[location_slot(location) % HELD_PAGES];

    if (!value_is_in_page(&cursor->value))
        return;
    if (held->pin.owner != NULL)
        armdb_value_release(&held->pin);
    held->pin = cursor->value;
    held->location = location;
}

/* Reads the current row's value, wherever the record has gone meanwhile. */
static enum armdb_rc read_value(struct armdb_cursor *cursor, struct armdb_error *err)
{
    struct cursor_row *row = &cursor->rows[cursor->row_at];
    struct fetch fetch = {
        .tab = cursor->tab, .key = cursor->bytes + row->key_at, .key_len = row->key_len};
    enum armdb_rc rc = ARMDB_NOT_FOUND;

    while (rc == ARMDB_NOT_FOUND) {
        fetch.location = row->location;
        fetch.value_len = row->value_len;
        if (find_beside(cursor, &fetch)) {
            rc = ARMDB_OK;
            break;
        }
        rc = fetch_value(cursor->session, &fetch, &cursor->value, err);
        if (rc == ARMDB_OK)
            hold_page(cursor, row->location);
        if (rc == ARMDB_NOT_FOUND) {
            uint64_t gone = row->location;

            /* The record moved: the index knows where to, as long as the snapshot
             * holds. Each round sees a later move, so this ends; a location that did
             * not change means that the index is wrong, which is no absent row. */
            stat_add(&cursor->session->store->stats.stale_reads, 1);
            if (!find_again(cursor, row) || row->location == gone)
                return ADB_FAIL(ARMDB_INTERNAL, err,
                                "the index points into a segment that is gone");
        }
    }
    cursor->has_value = rc == ARMDB_OK;
    return rc;
}

enum armdb_rc armdb_cursor_value(struct armdb_cursor *cursor, struct armdb_value *value,
                                 struct armdb_error *err)
{
    struct cursor_row *row = &cursor->rows[cursor->row_at];
    enum armdb_rc rc = ARMDB_OK;

    if (!cursor->has_value) {
        if (location_is_staged(row->location) &&
            cursor->stage_generation != cursor->session->stage_generation &&
            !find_again(cursor, row))
            return ADB_FAIL(ARMDB_MISUSE, err,
                            "the row was rolled back while it was read");
        stat_bump(&cursor->session->values_read, 1);
        rc = read_value(cursor, err);
    }
    if (rc == ARMDB_OK)
        *value = cursor->value;
    return rc;
}

enum armdb_rc cursor_take_value(struct armdb_cursor *cursor, struct armdb_value *value,
                                struct armdb_error *err)
{
    enum armdb_rc rc = armdb_cursor_value(cursor, value, err);

    if (rc != ARMDB_OK)
        return rc;
    if (value_is_in_page(value))
        value_pin_again(value);
    else
        memset(&cursor->value, 0, sizeof cursor->value);
    cursor->has_value = false;
    return ARMDB_OK;
}

void cursor_see_all(struct armdb_cursor *cursor)
{
    cursor->sees_all = true;
}

/* ---- Estimates ---- */

uint64_t armdb_range_estimate(struct armdb_table *table, const struct armdb_range *range)
{
    struct armdb_session *session = table->session;
    struct armdb_error ignored;
    uint64_t low = 0;
    uint64_t high;
    bool held = armdb_snapshot_acquire(session, &ignored) == ARMDB_OK;

    if (held)
        ignored.rc = table_resolve(table, &ignored);
    epoch_enter(session->slot);
    high = order_count(table->tab->order);
    if (range->low_bound != ARMDB_BOUND_OPEN)
        low = order_rank(table->tab->order, range->low, range->low_len);
    if (range->high_bound != ARMDB_BOUND_OPEN)
        high = order_rank(table->tab->order, range->high, range->high_len);
    epoch_leave(session->slot);
    if (held)
        armdb_snapshot_release(session);
    return high > low ? high - low : 0;
}

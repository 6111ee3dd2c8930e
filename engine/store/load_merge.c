/* load_merge.c - building the index of a store from sorted runs.
 *
 *   runs       a run for each segment (a hint's, or sorted after reading): keys rise
 *     |  cut into key ranges of about equal size, by the first keys of their blocks
 *   ranges     each merged by one thread: of a key's records the newest stays; if it is
 *     |        a put, a node is made and its reference and hash are noted
 *   tables     the ranges' references, one behind the other, are the order index's
 *              leaves; the hashes, sorted by group while they were noted, fill the hash
 *              map group by group: two kinds of jobs that share nothing, for all threads
 *
 * So no key is looked up, no lock is contended and no table or leaf grows on the way; a
 * tombstone that is the newest of its key just leaves nothing behind. Between the steps
 * a key takes 12 bytes (reference, hash), besides its entry in the runs.
 *
 * The merge is a tournament: the leaves are the runs' next entries, each inner node holds
 * the loser of its match, so the winner's successor plays one match a level. Matches are
 * decided by eight bytes of the key, taken behind what all keys of the range share. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/mem.h"
#include "engine/log/record.h"
#include "engine/store/load.h"

enum {
    THREADS_MAX = 16,
    RANGES_MAX = 4 * THREADS_MAX,
    RANGE_ENTRIES_MIN = 20000,
    SAMPLES_MAX = 1 << 16, /* first keys of blocks that are looked at */
    DIGEST_BYTES = 8
};

/* What one range gives to one table. */
struct part {
    struct tab *tab;
    node_ref *nodes; /* owned; in key order */
    size_t count;
    size_t room;
    struct hashmap_item *items[HASHMAP_GROUPS]; /* owned */
    size_t item_count[HASHMAP_GROUPS];
    size_t item_room[HASHMAP_GROUPS];
    uint64_t *live; /* owned: bytes by run */
};

/* Keys from `low` (NULL: the first) to below `high` (NULL: to the end). */
struct range {
    const struct run_entry *low;
    const struct run_entry *high;
    struct part *parts; /* owned; in rising table id */
    size_t part_count;
};

struct load {
    struct armdb *store;
    struct load_run *runs;
    size_t run_count;
    struct run_entry *samples; /* owned, their keys too; sorted */
    size_t sample_count;
    struct range ranges[RANGES_MAX];
    size_t range_count;
    struct tab **tabs; /* owned: the tables met */
    size_t tab_count;
    /* Relaxed: who gets which job, and that somebody failed. */
    _Atomic size_t next_job;
    _Atomic bool failed;
};

/* ---- Jobs for threads ----------------------------------------------------------- */

struct worker {
    struct load *load;
    enum armdb_rc (*job)(struct load *load, size_t i);
    size_t jobs;
    struct adb_thread thread;
    enum armdb_rc rc;
};

static void run_worker(void *arg)
{
    struct worker *worker = arg;
    struct load *load = worker->load;

    while (!atomic_load_explicit(&load->failed, memory_order_relaxed)) {
        size_t i = atomic_fetch_add_explicit(&load->next_job, 1, memory_order_relaxed);

        if (i >= worker->jobs)
            return;
        worker->rc = worker->job(load, i);
        if (worker->rc != ARMDB_OK)
            atomic_store_explicit(&load->failed, true, memory_order_relaxed);
    }
}

/* The caller's thread works too; where the system gives fewer threads, fewer run. */
static enum armdb_rc run_jobs(struct load *load, unsigned threads, size_t jobs,
                              enum armdb_rc (*job)(struct load *load, size_t i))
{
    struct worker workers[THREADS_MAX];
    enum armdb_rc rc = ARMDB_OK;
    unsigned count = threads < 1 ? 1 : threads > THREADS_MAX ? THREADS_MAX : threads;

    memset(workers, 0, sizeof workers);
    atomic_store_explicit(&load->next_job, 0, memory_order_relaxed);
    for (unsigned i = 0; i < count; i++) {
        workers[i].load = load;
        workers[i].job = job;
        workers[i].jobs = jobs;
    }
    for (unsigned i = 1; i < count && i < jobs; i++)
        if (adb_thread_start(&workers[i].thread, run_worker, &workers[i]) != ARMDB_OK)
            break;
    run_worker(&workers[0]);
    for (unsigned i = 1; i < count; i++)
        adb_thread_join(&workers[i].thread);
    for (unsigned i = 0; rc == ARMDB_OK && i < count; i++)
        rc = workers[i].rc;
    return rc;
}

/* ---- Ranges --------------------------------------------------------------------- */

static int compare_samples(const void *a, const void *b)
{
    return run_compare_keys(a, b);
}

static enum armdb_rc take_sample(struct load *load, const struct run_entry *entry)
{
    unsigned char *key = adb_alloc(ADB_MEM_LOG, entry->key_len);

    if (key == NULL)
        return ARMDB_NOMEM;
    if (entry->key_len > 0)
        memcpy(key, entry->key, entry->key_len);
    load->samples[load->sample_count] = *entry;
    load->samples[load->sample_count++].key = key;
    return ARMDB_OK;
}

/* The first keys of blocks: blocks are of one size, so these cut the keys evenly. */
static enum armdb_rc take_samples(struct load *load)
{
    size_t blocks = 0;
    size_t stride;
    enum armdb_rc rc = ARMDB_OK;

    for (size_t i = 0; i < load->run_count; i++)
        blocks += load->runs[i].run.block_count;
    stride = blocks / SAMPLES_MAX + 1;
    load->samples = adb_alloc(ADB_MEM_LOG, (blocks / stride + load->run_count) *
                                               sizeof *load->samples);
    if (load->samples == NULL)
        return ARMDB_NOMEM;
    for (size_t i = 0; rc == ARMDB_OK && i < load->run_count; i++) {
        const struct run *run = &load->runs[i].run;
        struct run_cursor cursor;
        struct run_entry entry;

        rc = run_cursor_init(&cursor, run);
        for (size_t b = 0; rc == ARMDB_OK && b < run->block_count; b += stride) {
            run_seek_block(&cursor, b);
            if (run_next(&cursor, &entry))
                rc = take_sample(load, &entry);
        }
        run_cursor_fini(&cursor);
    }
    if (load->sample_count > 1)
        qsort(load->samples, load->sample_count, sizeof *load->samples, compare_samples);
    return rc;
}

static enum armdb_rc cut_ranges(struct load *load, unsigned threads)
{
    uint64_t entries = 0;
    size_t wanted;
    enum armdb_rc rc;

    for (size_t i = 0; i < load->run_count; i++)
        entries += load->runs[i].run.entries;
    wanted = (size_t)(entries / RANGE_ENTRIES_MIN) + 1;
    if (wanted > 4 * (size_t)threads)
        wanted = 4 * (size_t)threads;
    if (wanted > RANGES_MAX)
        wanted = RANGES_MAX;
    rc = take_samples(load);
    if (rc != ARMDB_OK)
        return rc;
    load->range_count = 1;
    for (size_t i = 1; i < wanted; i++) {
        const struct run_entry *cut = &load->samples[load->sample_count * i / wanted];
        struct range *last = &load->ranges[load->range_count - 1];

        if (run_compare_keys(last->low != NULL ? last->low : &load->samples[0], cut) >= 0)
            continue; /* the same key twice */
        last->high = cut;
        load->ranges[load->range_count++].low = cut;
    }
    return ARMDB_OK;
}

/* ---- Merging one range ---------------------------------------------------------- */

/* A run's place in the tournament. */
struct player {
    struct run_cursor cursor;
    struct run_entry entry;
    uint64_t digest;
    bool ended;
};

struct tournament {
    const struct load *load;
    const struct range *range;
    struct player *players; /* owned */
    size_t count;
    size_t *losers;       /* owned; [0] is the winner */
    size_t prefix;        /* bytes that all keys of the range share */
    uint64_t high_digest; /* of the range's end */
};

static uint64_t digest_of(const struct tournament *t, const struct run_entry *e)
{
    uint64_t digest = 0;

    if (e->key_len >= t->prefix + DIGEST_BYTES)
        return adb_get_u64_be(e->key + t->prefix);
    for (size_t i = t->prefix; i < e->key_len; i++)
        digest |= (uint64_t)e->key[i] << (56 - 8 * (i - t->prefix));
    return digest;
}

/* Below the end of the range? */
static bool is_inside(const struct tournament *t, const struct player *p)
{
    const struct run_entry *high = t->range->high;

    if (high == NULL || p->entry.table < high->table)
        return true;
    if (t->prefix == 0 && p->entry.table == high->table && p->digest < t->high_digest)
        return true;
    return run_compare_keys(&p->entry, high) < 0;
}

/* The player's next entry inside the range. */
static void step_player(const struct tournament *t, struct player *p)
{
    p->ended = !run_next(&p->cursor, &p->entry);
    if (p->ended)
        return;
    p->digest = digest_of(t, &p->entry);
    p->ended = !is_inside(t, p);
}

/* Rising keys; of one key the newest record first. */
static bool beats(const struct tournament *t, size_t a, size_t b)
{
    const struct player *x;
    const struct player *y;
    int order;

    if (a == t->count || b == t->count) /* a seat not taken yet: beats everybody */
        return a == t->count && b != t->count;
    x = &t->players[a];
    y = &t->players[b];
    if (x->ended || y->ended)
        return !x->ended;
    if (x->entry.table != y->entry.table)
        return x->entry.table < y->entry.table;
    if (x->digest != y->digest)
        return x->digest < y->digest;
    order = run_compare_keys(&x->entry, &y->entry);
    return order != 0 ? order < 0 : run_is_newer(&x->entry, &y->entry);
}

/* Player `s` has a new entry: plays its way up. */
static void play(struct tournament *t, size_t s)
{
    for (size_t seat = (s + t->count) / 2; seat > 0; seat /= 2) {
        if (beats(t, t->losers[seat], s)) {
            size_t winner = t->losers[seat];

            t->losers[seat] = s;
            s = winner;
        }
    }
    t->losers[0] = s;
}

static size_t common_prefix(const struct range *range)
{
    size_t n = 0;

    if (range->low == NULL || range->high == NULL ||
        range->low->table != range->high->table)
        return 0;
    while (n < range->low->key_len && n < range->high->key_len &&
           range->low->key[n] == range->high->key[n])
        n++;
    return n;
}

static void end_tournament(struct tournament *t)
{
    for (size_t i = 0; t->players != NULL && i < t->count; i++)
        run_cursor_fini(&t->players[i].cursor);
    adb_free(ADB_MEM_LOG, t->players);
    adb_free(ADB_MEM_LOG, t->losers);
}

static enum armdb_rc begin_tournament(struct tournament *t)
{
    const struct run_entry *low = t->range->low;
    enum armdb_rc rc = ARMDB_OK;

    t->count = t->load->run_count;
    t->prefix = common_prefix(t->range);
    t->high_digest = t->range->high == NULL ? 0 : digest_of(t, t->range->high);
    t->players = adb_alloc_zero(ADB_MEM_LOG, t->count * sizeof *t->players);
    t->losers = adb_alloc(ADB_MEM_LOG, t->count * sizeof *t->losers);
    if (t->players == NULL || t->losers == NULL)
        return ARMDB_NOMEM;
    for (size_t i = 0; rc == ARMDB_OK && i < t->count; i++) {
        struct player *p = &t->players[i];

        rc = run_cursor_init(&p->cursor, &t->load->runs[i].run);
        if (rc != ARMDB_OK)
            return rc;
        if (low != NULL)
            run_seek(&p->cursor, low);
        do
            step_player(t, p);
        while (!p->ended && low != NULL && run_compare_keys(&p->entry, low) < 0);
        t->losers[i] = t->count;
    }
    for (size_t i = t->count; i > 0; i--)
        play(t, i - 1);
    return ARMDB_OK;
}

/* ---- What a merge leaves -------------------------------------------------------- */

/* Room for one more item; *items may move. */
static bool make_room(void **items, size_t count, size_t *room, size_t size)
{
    size_t more = *room * 2 + 64;
    void *grown;

    if (count < *room)
        return true;
    grown = adb_realloc(ADB_MEM_LOG, *items, more * size);
    if (grown == NULL)
        return false;
    *items = grown;
    *room = more;
    return true;
}

static void free_part(struct part *part)
{
    adb_free(ADB_MEM_LOG, part->nodes);
    for (size_t g = 0; g < HASHMAP_GROUPS; g++)
        adb_free(ADB_MEM_LOG, part->items[g]);
    adb_free(ADB_MEM_LOG, part->live);
    memset(part, 0, sizeof *part);
}

/* The range's part of a table, which is the last one or new. */
static enum armdb_rc part_of_table(struct load *load, struct range *range, uint64_t table,
                                   struct part **out)
{
    struct part *part;
    struct part *grown;
    enum armdb_rc rc;

    *out = range->part_count > 0 ? &range->parts[range->part_count - 1] : NULL;
    if (*out != NULL && (*out)->tab->id == table)
        return ARMDB_OK;
    grown =
        adb_realloc(ADB_MEM_LOG, range->parts, (range->part_count + 1) * sizeof *grown);
    if (grown == NULL)
        return ARMDB_NOMEM;
    range->parts = grown;
    part = &grown[range->part_count++];
    memset(part, 0, sizeof *part);
    part->live = adb_alloc_zero(ADB_MEM_LOG, load->run_count * sizeof *part->live);
    rc = part->live == NULL ? ARMDB_NOMEM : tab_of_id(load->store, table, &part->tab);
    if (rc != ARMDB_OK) {
        adb_free(ADB_MEM_LOG, part->live);
        range->part_count--;
    }
    *out = part;
    return rc;
}

static uint64_t bytes_of(const struct run_entry *e)
{
    struct record record = {.kind = RECORD_PUT, .table = e->table};

    record.key_len = e->key_len;
    record.value_len = e->value_len;
    return record_size(&record);
}

/* A row: its node, and what the indexes will need to know of it. */
static enum armdb_rc keep_row(struct load *load, struct range *range, size_t run,
                              const struct run_entry *e)
{
    struct part *part;
    enum armdb_rc rc = part_of_table(load, range, e->table, &part);
    struct arena *arena;
    struct version *version;
    struct node *node;
    void *items;
    node_ref ref;
    uint64_t hash;
    size_t g;

    if (rc != ARMDB_OK)
        return rc;
    hash = hashmap_hash(part->tab->map, e->key, e->key_len);
    g = hashmap_group(hash);
    items = part->nodes;
    if (!make_room(&items, part->count, &part->room, sizeof *part->nodes))
        return ARMDB_NOMEM;
    part->nodes = items;
    items = part->items[g];
    if (!make_room(&items, part->item_count[g], &part->item_room[g],
                   sizeof *part->items[g]))
        return ARMDB_NOMEM;
    part->items[g] = items;
    arena = part->tab->arena;
    ref = arena_node_create(arena, e->key, e->key_len);
    if (ref == 0)
        return ARMDB_NOMEM;
    node = arena_node(arena, ref);
    version = &node->first;
    version->value_len = e->value_len;
    /* Relaxed: nobody knows the node before the threads have been joined. */
    atomic_store_explicit(&version->location,
                          location_make(load->runs[run].slot, e->offset),
                          memory_order_relaxed);
    atomic_store_explicit(&version->word, (e->gsn << 1) | 1, memory_order_relaxed);
    atomic_store_explicit(&node->key_len_flags, (uint32_t)e->key_len | NODE_INLINE_USED,
                          memory_order_relaxed);
    atomic_store_explicit(&node->head, arena_inline_version(arena, ref),
                          memory_order_relaxed);
    part->nodes[part->count++] = ref;
    part->items[g][part->item_count[g]].hash = (uint32_t)hash;
    part->items[g][part->item_count[g]++].node = ref;
    part->live[run] += bytes_of(e);
    return ARMDB_OK;
}

/* The key of the newest record seen, whose other records are passed over. */
struct newest {
    bool any;
    uint64_t digest;
    struct run_entry entry;
    unsigned char *key; /* owned */
};

static size_t longest_key(const struct load *load)
{
    size_t longest = 0;

    for (size_t i = 0; i < load->run_count; i++)
        if (load->runs[i].run.key_max > longest)
            longest = load->runs[i].run.key_max;
    return longest;
}

static bool is_older(const struct newest *newest, const struct player *p)
{
    return newest->any && p->digest == newest->digest &&
           run_compare_keys(&newest->entry, &p->entry) == 0;
}

static enum armdb_rc merge_range(struct load *load, size_t i)
{
    struct range *range = &load->ranges[i];
    struct tournament t = {.load = load, .range = range};
    struct newest newest = {.any = false};
    enum armdb_rc rc = begin_tournament(&t);

    newest.key = adb_alloc(ADB_MEM_LOG, longest_key(load));
    if (newest.key == NULL)
        rc = ARMDB_NOMEM;
    while (rc == ARMDB_OK) {
        size_t winner = t.losers[0];
        struct player *p = &t.players[winner];

        if (p->ended)
            break;
        if (!is_older(&newest, p)) {
            newest.any = true;
            newest.digest = p->digest;
            newest.entry = p->entry;
            if (p->entry.key_len > 0)
                memcpy(newest.key, p->entry.key, p->entry.key_len);
            newest.entry.key = newest.key;
            if (!p->entry.deleted)
                rc = keep_row(load, range, winner, &p->entry);
        }
        step_player(&t, p);
        play(&t, winner);
    }
    adb_free(ADB_MEM_LOG, newest.key);
    end_tournament(&t);
    return rc;
}

/* ---- Building the indexes -------------------------------------------------------- */

static enum armdb_rc list_tabs(struct load *load)
{
    size_t parts = 0;

    for (size_t r = 0; r < load->range_count; r++)
        parts += load->ranges[r].part_count;
    load->tabs = adb_alloc(ADB_MEM_LOG, parts * sizeof(struct tab *));
    if (load->tabs == NULL)
        return ARMDB_NOMEM;
    /* Ranges and their parts are in order, so a table's parts follow one another. */
    for (size_t r = 0; r < load->range_count; r++)
        for (size_t k = 0; k < load->ranges[r].part_count; k++) {
            struct tab *tab = load->ranges[r].parts[k].tab;

            if (load->tab_count == 0 || load->tabs[load->tab_count - 1] != tab)
                load->tabs[load->tab_count++] = tab;
        }
    return ARMDB_OK;
}

/* The range's part of a table, or NULL. */
static struct part *find_part(const struct range *range, const struct tab *tab)
{
    size_t low = 0;
    size_t high = range->part_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (range->parts[middle].tab->id < tab->id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < range->part_count && range->parts[low].tab == tab ? &range->parts[low]
                                                                   : NULL;
}

static enum armdb_rc build_order(struct load *load, struct tab *tab)
{
    size_t count = 0;
    node_ref *nodes;
    enum armdb_rc rc;

    for (size_t r = 0; r < load->range_count; r++) {
        const struct part *part = find_part(&load->ranges[r], tab);

        count += part == NULL ? 0 : part->count;
    }
    nodes = adb_alloc(ADB_MEM_LOG, count * sizeof *nodes);
    if (nodes == NULL)
        return ARMDB_NOMEM;
    atomic_store_explicit(&tab->live_rows, count, memory_order_relaxed);
    count = 0;
    for (size_t r = 0; r < load->range_count; r++) {
        const struct part *part = find_part(&load->ranges[r], tab);

        if (part == NULL)
            continue;
        memcpy(nodes + count, part->nodes, part->count * sizeof *nodes);
        count += part->count;
    }
    rc = order_build(tab->order, nodes, count);
    adb_free(ADB_MEM_LOG, nodes);
    return rc;
}

static enum armdb_rc build_group(struct load *load, struct tab *tab, size_t group)
{
    struct hashmap_items pieces[RANGES_MAX];
    size_t count = 0;

    for (size_t r = 0; r < load->range_count; r++) {
        const struct part *part = find_part(&load->ranges[r], tab);

        if (part == NULL || part->item_count[group] == 0)
            continue;
        pieces[count].items = part->items[group];
        pieces[count++].count = part->item_count[group];
    }
    return hashmap_build_group(tab->map, group, pieces, count);
}

/* Order indexes first: they take longest. */
static enum armdb_rc build_job(struct load *load, size_t i)
{
    if (i < load->tab_count)
        return build_order(load, load->tabs[i]);
    i -= load->tab_count;
    return build_group(load, load->tabs[i / HASHMAP_GROUPS], i % HASHMAP_GROUPS);
}

static enum armdb_rc note_bytes(struct load *load, struct load_result *out)
{
    size_t parts = 0;

    for (size_t r = 0; r < load->range_count; r++)
        parts += load->ranges[r].part_count;
    out->bytes = adb_alloc(ADB_MEM_LOG, parts * load->run_count * sizeof *out->bytes);
    if (out->bytes == NULL)
        return ARMDB_NOMEM;
    for (size_t r = 0; r < load->range_count; r++) {
        for (size_t k = 0; k < load->ranges[r].part_count; k++) {
            const struct part *part = &load->ranges[r].parts[k];

            for (size_t i = 0; i < load->run_count; i++) {
                if (part->live[i] == 0)
                    continue;
                out->bytes[out->count].table = part->tab->id;
                out->bytes[out->count].slot = load->runs[i].slot;
                out->bytes[out->count++].live = part->live[i];
            }
        }
    }
    return ARMDB_OK;
}

void load_result_fini(struct load_result *result)
{
    adb_free(ADB_MEM_LOG, result->bytes);
    memset(result, 0, sizeof *result);
}

/* ---- All of it ------------------------------------------------------------------- */

static void free_load(struct load *load)
{
    if (load == NULL)
        return;
    for (size_t i = 0; i < load->sample_count; i++)
        adb_free(ADB_MEM_LOG, (void *)(uintptr_t)load->samples[i].key);
    adb_free(ADB_MEM_LOG, load->samples);
    for (size_t r = 0; r < load->range_count; r++) {
        for (size_t k = 0; k < load->ranges[r].part_count; k++)
            free_part(&load->ranges[r].parts[k]);
        adb_free(ADB_MEM_LOG, load->ranges[r].parts);
    }
    adb_free(ADB_MEM_LOG, load->tabs);
    adb_free(ADB_MEM_LOG, load);
}

enum armdb_rc load_merge(struct armdb *store, struct load_run *runs, size_t count,
                         unsigned threads, struct load_result *out)
{
    struct load *load = adb_alloc_zero(ADB_MEM_LOG, sizeof *load);
    enum armdb_rc rc;

    memset(out, 0, sizeof *out);
    rc = load == NULL ? ARMDB_NOMEM : ARMDB_OK;
    if (rc == ARMDB_OK) {
        load->store = store;
        load->runs = runs;
        load->run_count = count;
        if (count > 0)
            rc = cut_ranges(load, threads);
    }
    if (rc == ARMDB_OK)
        rc = run_jobs(load, threads, load->range_count, merge_range);
    for (size_t i = 0; i < count; i++)
        run_fini(&runs[i].run);
    if (rc == ARMDB_OK)
        rc = list_tabs(load);
    if (rc == ARMDB_OK)
        rc = note_bytes(load, out);
    if (rc == ARMDB_OK)
        rc = run_jobs(load, threads, load->tab_count * (1 + HASHMAP_GROUPS), build_job);
    free_load(load);
    return rc;
}

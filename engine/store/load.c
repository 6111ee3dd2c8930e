/* load.c - filling the index from what recovery delivers.
 *
 * Recovery delivers each segment's records in log order, or its hint: either becomes a
 * run, the newest record of each key, sorted (engine/log/run.h). Records of one segment
 * come from one thread, so nothing is shared while they are gathered. load_merge.c then
 * makes the index of all runs. When recovery begins anew (an abort was found late), runs
 * that were read are forgotten; hints hold what was decided and stay. */
#include "engine/store/load.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/plant.h"
#include "engine/log/location.h"
#include "engine/store/recover.h"

enum { THREADS_MAX = 8 };

/* A segment being read. */
struct reader {
    uint64_t segment_number;
    struct run_builder *builder; /* owned */
};

struct loader {
    struct armdb *store;
    uint64_t slot_base;
    uint64_t id;           /* of this loading, in the process */
    struct adb_mutex lock; /* rank ADB_RANK_LEAF: the lists */
    struct load_run *runs; /* owned */
    size_t run_count;
    size_t run_room;
    struct reader *readers; /* owned */
    size_t reader_count;
    size_t reader_room;
};

/* The segment that this thread reads. */
static _Thread_local struct {
    uint64_t loader_id;
    struct reader reader;
} mine;
static _Atomic uint64_t last_loader_id; /* relaxed: only has to be unique */

/* Room for one more item; *items may move. The lock is held. */
static bool make_room(void **items, size_t count, size_t *room, size_t size)
{
    size_t more = *room * 2 + 16;
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

/* Begins to gather a segment's records on this thread. */
static enum armdb_rc begin_segment(struct loader *loader, uint64_t segment_number)
{
    struct run_builder *builder;
    enum armdb_rc rc = run_builder_create(&builder);
    void *items;

    if (rc != ARMDB_OK)
        return rc;
    adb_mutex_lock(&loader->lock);
    items = loader->readers;
    if (make_room(&items, loader->reader_count, &loader->reader_room,
                  sizeof *loader->readers)) {
        loader->readers = items;
        loader->readers[loader->reader_count].segment_number = segment_number;
        loader->readers[loader->reader_count++].builder = builder;
    } else {
        rc = ARMDB_NOMEM;
    }
    adb_mutex_unlock(&loader->lock);
    if (rc != ARMDB_OK) {
        run_builder_destroy(builder);
        return rc;
    }
    mine.loader_id = loader->id;
    mine.reader.segment_number = segment_number;
    mine.reader.builder = builder;
    return ARMDB_OK;
}

static enum armdb_rc load_record(void *arg, uint64_t segment_number, uint64_t offset,
                                 const struct record *record, uint64_t gsn,
                                 uint64_t ordinal)
{
    struct loader *loader = arg;
    struct run_entry entry = {.table = record->table,
                              .key = record->key,
                              .key_len = record->key_len,
                              .gsn = gsn,
                              .ordinal = ordinal,
                              .offset = offset,
                              .deleted = record->kind == RECORD_DELETE};

    if (record->kind != RECORD_PUT && record->kind != RECORD_DELETE)
        return ARMDB_VERSION;
    if (record->key_len >= RUN_KEY_MAX || record->value_len >= VERSION_DELETED)
        return ARMDB_VERSION;
    entry.value_len = entry.deleted ? 0 : (uint32_t)record->value_len;
    if (mine.loader_id != loader->id || mine.reader.builder == NULL ||
        mine.reader.segment_number != segment_number) {
        enum armdb_rc rc = begin_segment(loader, segment_number);

        if (rc != ARMDB_OK)
            return rc;
    }
    return run_builder_add(mine.reader.builder, &entry);
}

/* Takes a run over, whatever it answers. */
static enum armdb_rc add_run(struct loader *loader, uint64_t segment_number,
                             struct run *run, bool hinted)
{
    struct load_run added = {.run = *run, .hinted = hinted};
    enum armdb_rc rc = ARMDB_OK;
    void *items;

    memset(run, 0, sizeof *run);
    added.slot = log_slot(loader->slot_base, segment_number);
    if (added.slot == 0)
        rc = ARMDB_FULL;
    adb_mutex_lock(&loader->lock);
    items = loader->runs;
    if (rc == ARMDB_OK && added.run.entries > 0) {
        if (make_room(&items, loader->run_count, &loader->run_room,
                      sizeof *loader->runs)) {
            loader->runs = items;
            loader->runs[loader->run_count++] = added;
            memset(&added, 0, sizeof added);
        } else {
            rc = ARMDB_NOMEM;
        }
    }
    adb_mutex_unlock(&loader->lock);
    run_fini(&added.run);
    return rc;
}

/* Takes the builder from the list; NULL: the segment had no record. */
static struct run_builder *take_builder(struct loader *loader, uint64_t segment_number)
{
    struct run_builder *builder = NULL;

    adb_mutex_lock(&loader->lock);
    for (size_t i = 0; builder == NULL && i < loader->reader_count; i++) {
        if (loader->readers[i].segment_number != segment_number)
            continue;
        builder = loader->readers[i].builder;
        loader->readers[i] = loader->readers[--loader->reader_count];
    }
    adb_mutex_unlock(&loader->lock);
    mine.reader.builder = NULL;
    return builder;
}

static enum armdb_rc load_segment_end(void *arg, uint64_t segment_number)
{
    struct loader *loader = arg;
    struct run_builder *builder = take_builder(loader, segment_number);
    struct run run;
    enum armdb_rc rc;

    if (builder == NULL)
        return ARMDB_OK;
    rc = run_builder_finish(builder, &run);
    run_builder_destroy(builder);
    return rc == ARMDB_OK ? add_run(loader, segment_number, &run, false) : rc;
}

static enum armdb_rc load_hint(void *arg, uint64_t segment_number, struct run *run)
{
    return add_run(arg, segment_number, run, true);
}

/* Forgets what was read: recovery delivers it anew. */
static enum armdb_rc restart(void *arg)
{
    struct loader *loader = arg;
    size_t kept = 0;

    for (size_t i = 0; i < loader->run_count; i++) {
        if (loader->runs[i].hinted)
            loader->runs[kept++] = loader->runs[i];
        else
            run_fini(&loader->runs[i].run);
    }
    loader->run_count = kept;
    return ARMDB_OK;
}

static void free_loader(struct loader *loader)
{
    for (size_t i = 0; i < loader->run_count; i++)
        run_fini(&loader->runs[i].run);
    for (size_t i = 0; i < loader->reader_count; i++)
        run_builder_destroy(loader->readers[i].builder);
    adb_free(ADB_MEM_LOG, loader->runs);
    adb_free(ADB_MEM_LOG, loader->readers);
    adb_mutex_fini(&loader->lock);
}

/* ---- Live bytes ------------------------------------------------------------------- */

static bool is_listed(const struct armdb *store, uint64_t table)
{
    const struct tab *at = store->tabs;

    while (at != NULL && at->id != table)
        at = at->next;
    return at != NULL;
}

/* Counts the bytes of every segment: live ones of the tables that are left. Alone with
 * the store, segments open. */
static void count_bytes(struct armdb *store, uint64_t slot_base,
                        const struct load_result *loaded,
                        const struct recovered *recovered)
{
    uint64_t last = 0; /* the catalogue, which is always there */
    bool listed = true;

    for (size_t i = 0; i < recovered->bytes_count; i++) {
        struct segment *segment =
            segtab_get(&store->log.segments,
                       log_slot(slot_base, recovered->bytes[i].segment_number));

        if (segment == NULL)
            continue;
        segment->hint_done = recovered->bytes[i].hinted;
        segment->hinted = recovered->bytes[i].hinted;
        atomic_store_explicit(&segment->records, recovered->bytes[i].record_count,
                              memory_order_relaxed);
        if (!ADB_PLANTED("dead_bytes_forgotten"))
            atomic_store_explicit(&segment->body_bytes, recovered->bytes[i].record_bytes,
                                  memory_order_relaxed);
    }
    for (size_t i = 0; i < loaded->count; i++) {
        const struct load_bytes *bytes = &loaded->bytes[i];
        struct segment *segment = segtab_get(&store->log.segments, bytes->slot);

        if (bytes->table != last)
            listed = is_listed(store, bytes->table);
        last = bytes->table;
        if (segment != NULL && listed)
            (void)atomic_fetch_add_explicit(&segment->live_bytes, bytes->live,
                                            memory_order_relaxed);
    }
}

static void note_damage(struct armdb *store, const struct recovered *recovered)
{
    for (size_t i = 0; i < recovered->damage_count; i++) {
        const struct recover_damage *damage = &recovered->damage[i];

        if (damage->gsn_high < store->damage_gsn)
            continue;
        store->damage_gsn = damage->gsn_high;
        (void)snprintf(store->damage_text, sizeof store->damage_text,
                       "segment %016llx is damaged from byte %llu to %llu: rows may be "
                       "missing; restore it from a backup",
                       (unsigned long long)damage->segment_number,
                       (unsigned long long)damage->from, (unsigned long long)damage->to);
    }
}

/* The lowest slot base for the segments that the manifest lists now. */
static enum armdb_rc find_slot_base(struct armdb *store, uint64_t *base,
                                    struct armdb_error *err)
{
    enum armdb_rc rc;
    struct manifest manifest;

    manifest_init(&manifest);
    rc = manifest_read(store->dir, store->superblock.uuid, &manifest, err);
    *base =
        manifest.segment_count > 0 ? manifest.segments[0].number : manifest.next_segment;
    if (*base > 0)
        (*base)--;
    manifest_fini(&manifest);
    return rc;
}

static unsigned thread_count(void)
{
    unsigned count = adb_cpu_count();

    return count < THREADS_MAX ? count : THREADS_MAX;
}

/* Recovery, and the index from what it delivers. */
static enum armdb_rc load_index(struct loader *loader, struct recovered *recovered,
                                struct load_result *loaded, struct armdb_error *err)
{
    struct armdb *store = loader->store;
    struct recover_sink sink = {.arg = loader,
                                .record = load_record,
                                .restart = restart,
                                .segment_end = load_segment_end,
                                .hint = load_hint};
    enum armdb_rc rc = recover_store(store->dir, &store->superblock, store->read_only,
                                     thread_count(), &sink, recovered, err);

    if (rc == ARMDB_OK) {
        rc = load_merge(store, loader->runs, loader->run_count, thread_count(), loaded);
        loader->run_count = 0;
    }
    if (rc == ARMDB_NOMEM)
        (void)ADB_FAIL(rc, err, "out of memory reading the store %s", store->path);
    return rc;
}

enum armdb_rc load_store(struct armdb *store, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct loader loader = {.store = store};
    struct recovered recovered;
    struct load_result loaded = {NULL, 0};

    loader.id = atomic_fetch_add_explicit(&last_loader_id, 1, memory_order_relaxed) + 1;
    rc = adb_mutex_init(&loader.lock, ADB_RANK_LEAF);
    if (rc != ARMDB_OK)
        return ADB_FAIL(rc, err, "out of memory opening %s", store->path);
    memset(&recovered, 0, sizeof recovered);
    manifest_init(&recovered.manifest);
    rc = find_slot_base(store, &loader.slot_base, err);
    if (rc == ARMDB_OK)
        rc = load_index(&loader, &recovered, &loaded, err);
    if (rc != ARMDB_OK)
        goto out;
    note_damage(store, &recovered);
    store->recovered_bytes_cut = recovered.cut_bytes;
    store->hinter.used = recovered.hints.used;
    store->hinter.missing = recovered.hints.missing;
    store->hinter.refused = recovered.hints.refused;
    rc = log_open(&store->log, store->dir, store->cache, store->superblock.uuid,
                  store->superblock.shards, store->options.segment_size,
                  store->options.io_direct, store->read_only, &recovered.manifest,
                  loader.slot_base,
                  recovered.gsn - (ADB_PLANTED("gsn_reused") && recovered.gsn > 0), err);
    if (rc != ARMDB_OK)
        goto out;
    store->log_open = true;
    rc = catalog_sweep(store, err); /* rows of a table without a name are dead */
    if (rc == ARMDB_OK) {
        count_bytes(store, loader.slot_base, &loaded, &recovered);
        compactor_allow(store);
        hinter_allow(store);
    }
out:
    load_result_fini(&loaded);
    recovered_fini(&recovered);
    free_loader(&loader);
    return rc;
}

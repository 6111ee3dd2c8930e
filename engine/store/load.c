/* load.c - filling the index from what recovery delivers.
 *
 * Records come from several threads at once and in no order of time over shards: under
 * the lock of a key's hash partition the higher (GSN, ordinal) stays. A version that is
 * being loaded has no older one: the field holds the ordinal until the end. (Records of
 * one transaction do not come in its order: a compaction may have moved some.)
 * Tombstones are kept as versions while loading, since older puts may still come, and
 * their nodes are removed at the end. */
#include "engine/store/load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/plant.h"
#include "engine/log/location.h"

enum { THREADS_MAX = 8, SLOTS_MAX = 4 * THREADS_MAX };

struct tombstone {
    struct tab *tab;
    uint64_t hash;
    node_ref node;
};

struct loader {
    struct armdb *store;
    uint64_t slot_base;
    uint64_t id;                         /* of this loading, in the process */
    struct adb_mutex lock;               /* rank ADB_RANK_LEAF: tombstones and slots */
    struct epoch_slot *slots[SLOTS_MAX]; /* owned: one for each thread that delivers */
    size_t slot_count;
    struct tombstone *tombstones;
    size_t count;
    size_t capacity;
};

/* The epoch slot of the calling thread in this loading. */
static _Thread_local struct {
    uint64_t loader_id;
    struct epoch_slot *slot;
} mine;
static _Atomic uint64_t last_loader_id; /* relaxed: only has to be unique */

static enum armdb_rc thread_slot(struct loader *loader, struct epoch_slot **out)
{
    enum armdb_rc rc = ARMDB_OK;

    if (mine.loader_id != loader->id) {
        struct epoch_slot *slot = NULL;

        rc = epoch_slot_create(loader->store->epoch, &slot);
        if (rc != ARMDB_OK)
            return rc;
        adb_mutex_lock(&loader->lock);
        if (loader->slot_count == SLOTS_MAX)
            rc = ARMDB_INTERNAL;
        else
            loader->slots[loader->slot_count++] = slot;
        adb_mutex_unlock(&loader->lock);
        if (rc != ARMDB_OK) {
            epoch_slot_destroy(slot);
            return rc;
        }
        mine.loader_id = loader->id;
        mine.slot = slot;
    }
    *out = mine.slot;
    return ARMDB_OK;
}

static enum armdb_rc note_tombstone(struct loader *loader, struct tab *tab, uint64_t hash,
                                    node_ref node)
{
    enum armdb_rc rc = ARMDB_OK;

    adb_mutex_lock(&loader->lock);
    if (loader->count == loader->capacity) {
        size_t capacity = loader->capacity * 2 + 256;
        struct tombstone *grown =
            adb_realloc(ADB_MEM_LOG, loader->tombstones, capacity * sizeof *grown);

        if (grown == NULL) {
            rc = ARMDB_NOMEM;
        } else {
            loader->tombstones = grown;
            loader->capacity = capacity;
        }
    }
    if (rc == ARMDB_OK) {
        loader->tombstones[loader->count].tab = tab;
        loader->tombstones[loader->count].hash = hash;
        loader->tombstones[loader->count++].node = node;
    }
    adb_mutex_unlock(&loader->lock);
    return rc;
}

/* A record as a version. */
struct loaded {
    uint64_t word;
    uint64_t location;
    uint32_t value_len;
    uint32_t ordinal;
};

static void set_version(struct version *version, const struct loaded *loaded)
{
    version->value_len = loaded->value_len;
    atomic_store_explicit(&version->location, loaded->location, memory_order_relaxed);
    atomic_store_explicit(&version->older, loaded->ordinal, memory_order_relaxed);
    atomic_store_explicit(&version->word, loaded->word, memory_order_relaxed);
}

/* A key met for the first time. Partition lock held. */
static enum armdb_rc add_key(struct tab *tab, uint64_t hash, const struct record *record,
                             const struct loaded *loaded, node_ref *out)
{
    enum armdb_rc rc;
    node_ref ref = arena_node_create(tab->arena, record->key, record->key_len);
    struct node *node;
    version_ref inline_ref;

    if (ref == 0)
        return ARMDB_NOMEM;
    node = arena_node(tab->arena, ref);
    inline_ref = arena_inline_version(tab->arena, ref);
    (void)atomic_fetch_or_explicit(&node->key_len_flags, NODE_INLINE_USED,
                                   memory_order_relaxed);
    set_version(arena_version(tab->arena, inline_ref), loaded);
    atomic_store_explicit(&node->head, inline_ref, memory_order_release);
    rc = order_insert(tab->order, ref);
    if (rc == ARMDB_OK) {
        rc = hashmap_insert(tab->map, hash, ref);
        if (rc != ARMDB_OK)
            order_remove(tab->order, ref);
    }
    if (rc != ARMDB_OK) {
        arena_node_free(tab->arena, ref);
        return rc;
    }
    *out = ref;
    return ARMDB_OK;
}

/* Is what is loaded already older? */
static bool is_newer(const struct loaded *loaded, const struct version *version)
{
    uint64_t word = atomic_load_explicit(&version->word, memory_order_relaxed);

    if (word != loaded->word)
        return word < loaded->word;
    return atomic_load_explicit(&version->older, memory_order_relaxed) <= loaded->ordinal;
}

static enum armdb_rc load_record(void *arg, uint64_t segment_number, uint64_t offset,
                                 const struct record *record, uint64_t gsn,
                                 uint64_t ordinal)
{
    enum armdb_rc rc;
    struct loader *loader = arg;
    struct armdb *store = loader->store;
    struct tab *tab;
    struct adb_mutex *lock;
    struct epoch_slot *epoch_slot;
    uint64_t hash;
    node_ref ref;
    bool live = record->kind == RECORD_PUT;
    bool was_live = false;
    uint32_t slot = log_slot(loader->slot_base, segment_number);
    struct loaded loaded = {(gsn << 1) | 1, location_make(slot, offset),
                            live ? (uint32_t)record->value_len : VERSION_DELETED,
                            (uint32_t)ordinal};

    if (slot == 0)
        return ARMDB_FULL;
    if (record->kind != RECORD_PUT && record->kind != RECORD_DELETE)
        return ARMDB_VERSION;
    rc = tab_of_id(store, record->table, &tab);
    if (rc != ARMDB_OK)
        return rc;
    rc = thread_slot(loader, &epoch_slot);
    if (rc != ARMDB_OK)
        return rc;
    hash = hashmap_hash(tab->map, record->key, record->key_len);
    epoch_enter(epoch_slot);
    lock = hashmap_lock(tab->map, hash);
    ref = hashmap_find(tab->map, hash, record->key, record->key_len);
    if (ref == 0) {
        rc = add_key(tab, hash, record, &loaded, &ref);
    } else {
        struct node *node = arena_node(tab->arena, ref);
        struct version *version = arena_version(
            tab->arena, atomic_load_explicit(&node->head, memory_order_relaxed));

        was_live = version->value_len != VERSION_DELETED;
        if (is_newer(&loaded, version))
            set_version(version, &loaded);
        else
            live = was_live;
    }
    if (rc == ARMDB_OK && live && !was_live)
        (void)atomic_fetch_add_explicit(&tab->live_rows, 1, memory_order_relaxed);
    if (rc == ARMDB_OK && !live && was_live)
        (void)atomic_fetch_sub_explicit(&tab->live_rows, 1, memory_order_relaxed);
    hashmap_unlock(lock);
    epoch_leave(epoch_slot);
    if (rc == ARMDB_OK && !live)
        rc = note_tombstone(loader, tab, hash, ref);
    return rc;
}

/* Forgets everything: recovery delivers anew. */
static enum armdb_rc restart(void *arg)
{
    struct loader *loader = arg;
    struct armdb *store = loader->store;

    adb_mutex_lock(&store->catalog_lock);
    while (store->tabs != NULL) {
        struct tab *tab = store->tabs;

        store->tabs = tab->next;
        tab_destroy(tab);
    }
    adb_mutex_unlock(&store->catalog_lock);
    loader->count = 0;
    return tab_of_id(store, 0, &store->catalog);
}

static int compare_tombstones(const void *a, const void *b)
{
    const struct tombstone *x = a;
    const struct tombstone *y = b;

    if (x->tab->id != y->tab->id)
        return x->tab->id < y->tab->id ? -1 : 1;
    return x->node < y->node ? -1 : x->node > y->node;
}

/* Removes the nodes whose newest version is a tombstone. Alone with the store. A key
 * deleted several times was noted as often: each node is looked at once, for after its
 * removal it may be gone. */
static void remove_tombstones(struct loader *loader)
{
    if (loader->count > 1)
        qsort(loader->tombstones, loader->count, sizeof *loader->tombstones,
              compare_tombstones);
    for (size_t i = 0; i < loader->count; i++) {
        struct tombstone *t = &loader->tombstones[i];
        struct adb_mutex *lock;
        struct node *node;
        struct version *version;

        if (i > 0 && compare_tombstones(t - 1, t) == 0)
            continue;
        node = arena_node(t->tab->arena, t->node);
        version = arena_version(t->tab->arena,
                                atomic_load_explicit(&node->head, memory_order_relaxed));
        if (version->value_len != VERSION_DELETED)
            continue; /* written again later */
        lock = hashmap_lock(t->tab->map, t->hash);
        epoch_enter(loader->store->slot);
        node_unlink(t->tab, t->node, t->hash);
        epoch_leave(loader->store->slot);
        hashmap_unlock(lock);
    }
}

/* Counts the live bytes of every segment. Alone with the store, segments open. */
static void count_segments(struct armdb *store, struct tab *tab)
{
    node_ref nodes[ORDER_BATCH_MAX];
    struct order_from from = {NULL, 0, false, false};
    size_t count;

    epoch_enter(store->slot);
    for (;;) {
        order_scan(tab->order, &from, nodes, ORDER_BATCH_MAX, &count);
        if (count == 0)
            break;
        for (size_t i = 0; i < count; i++) {
            struct node *node = arena_node(tab->arena, nodes[i]);
            struct version *version = arena_version(
                tab->arena, atomic_load_explicit(&node->head, memory_order_relaxed));
            struct segment *segment;

            atomic_store_explicit(&version->older, 0, memory_order_relaxed);
            segment = segtab_get(&store->log.segments,
                                 location_slot(atomic_load_explicit(
                                     &version->location, memory_order_relaxed)));

            if (segment != NULL)
                (void)atomic_fetch_add_explicit(
                    &segment->live_bytes, record_bytes(tab, node, version->value_len),
                    memory_order_relaxed);
            from.key = node->key;
            from.key_len = node_key_len(node);
        }
    }
    epoch_leave(store->slot);
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

enum armdb_rc load_store(struct armdb *store, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct loader loader = {.store = store};
    struct recover_sink sink = {&loader, load_record, restart};
    struct recovered recovered;
    unsigned threads =
        store->superblock.shards < THREADS_MAX ? store->superblock.shards : THREADS_MAX;

    loader.id = atomic_fetch_add_explicit(&last_loader_id, 1, memory_order_relaxed) + 1;
    rc = adb_mutex_init(&loader.lock, ADB_RANK_LEAF);
    if (rc != ARMDB_OK)
        return ADB_FAIL(rc, err, "out of memory opening %s", store->path);
    memset(&recovered, 0, sizeof recovered);
    manifest_init(&recovered.manifest);
    rc = find_slot_base(store, &loader.slot_base, err);
    if (rc != ARMDB_OK)
        goto out;
    rc = recover_store(store->dir, &store->superblock, store->read_only, threads, &sink,
                       &recovered, err);
    if (rc != ARMDB_OK) {
        if (rc == ARMDB_NOMEM)
            (void)ADB_FAIL(rc, err, "out of memory reading the store %s", store->path);
        goto out;
    }
    note_damage(store, &recovered);
    store->recovered_bytes_cut = recovered.cut_bytes;
    rc = log_open(&store->log, store->dir, store->cache, store->superblock.uuid,
                  store->superblock.shards, store->options.segment_size,
                  store->options.io_direct, store->read_only, &recovered.manifest,
                  loader.slot_base,
                  recovered.gsn - (ADB_PLANTED("gsn_reused") && recovered.gsn > 0), err);
    if (rc != ARMDB_OK)
        goto out;
    store->log_open = true;
    remove_tombstones(&loader);
    rc = catalog_sweep(store, err); /* rows of a table without a name are dead */
    for (struct tab *tab = store->tabs; rc == ARMDB_OK && tab != NULL; tab = tab->next)
        count_segments(store, tab);
    if (rc == ARMDB_OK)
        compactor_allow(store);
out:
    for (size_t i = 0; i < loader.slot_count; i++)
        epoch_slot_destroy(loader.slots[i]);
    recovered_fini(&recovered);
    adb_free(ADB_MEM_LOG, loader.tombstones);
    adb_mutex_fini(&loader.lock);
    return rc;
}

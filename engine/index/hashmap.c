/* hashmap.c - equality: key -> node.
 *
 *   hash, 64 bits:  | group 5 | ........ | slot hash 32, its low 5 bits: part |
 *
 *   groups[32] -> directory {1 or 32 parts} -> table {capacity, slots}
 *   slot:  | slot hash 32 | node reference 32 |      0 = empty, reference 0 = mark
 *
 * A group has one lock, and at first one table; when that has SPLIT_CAPACITY slots it
 * is split into 32 parts, so that a large map has 1024 tables, each small enough to be
 * rebuilt in microseconds. A key's home in its table is slot hash * capacity / 2^32,
 * so a capacity is any number; a slot has all that growing and splitting need, so
 * neither touches a node. Keys probe linearly from home.
 *
 * What a reader without a lock relies on, for a key that is in the map during the
 * whole look-up:
 *  1. A key's slot never moves inside a table. A removed key leaves a mark, which an
 *     insert may use again. So between home and slot no slot is ever empty.
 *     One exception: marks in front of an empty slot are emptied, the last one first;
 *     no key's way leads over them, since it would lead over the empty slot too.
 *  2. A table that is replaced is complete and never changed again, and a replacement
 *     is complete before it is published. A reader that has the old table sees the keys
 *     that were there when it was replaced; those removed later were in the map when
 *     the look-up began. Old tables are retired through the epoch.
 *  3. A probe ends after `capacity` slots at the latest, whatever writers do meanwhile.
 *
 * Live slots and marks together fill at most 4/5 of a table. A table that is full is
 * rebuilt: at the same size if marks are many, so that churn at a constant number of
 * keys keeps its size, else larger by a quarter. Removing shrinks a table that is
 * less than a quarter full and drops an empty one. */
#include "engine/index/hashmap.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"

enum {
    LINE_BYTES = 64,
    GROUP_BITS = HASHMAP_GROUP_BITS,
    GROUPS = HASHMAP_GROUPS,
    PART_BITS = 5,
    PARTS_MAX = 1 << PART_BITS,
    CAPACITY_MIN = 8,
    LINE_SLOTS = LINE_BYTES / 8,
    SPLIT_CAPACITY = 8192,
    /* Load, in hundredths. */
    LOAD_MAX = 80,    /* live slots and marks */
    LOAD_KEEP = 72,   /* with fewer live slots a full table is only cleaned */
    LOAD_SHRINK = 20, /* with fewer live slots it shrinks */
    LOAD_GROWN = 64,  /* the load of a table after growing: LOAD_MAX / 1.25 */
    LOAD_STAGGER = 15 /* spread of that load over the parts of a new directory */
};

#define SLOT_MARK (UINT64_C(1) << 32) /* a removed key was here: reference 0 */

struct table {
    struct epoch_item retired;
    uint64_t capacity; /* in slots; constant */
    uint64_t pad[3];   /* the slots begin on a line of their own */
    _Atomic uint64_t slots[];
};

_Static_assert(offsetof(struct table, slots) == LINE_BYTES, "slots begin on a line");

/* Guarded by the group's lock; apart from the pointers, which readers use. */
struct part_count {
    uint32_t live;
    uint32_t marks;
};

struct directory {
    struct epoch_item retired;
    uint32_t bits;                    /* 0 or PART_BITS; constant */
    struct part_count *counts;        /* inside this block */
    _Atomic(struct table *) tables[]; /* NULL = no key */
};

struct group {
    _Alignas(LINE_BYTES) struct adb_mutex lock; /* ADB_RANK_HASH */
    _Atomic uint64_t count; /* keys; changed under the lock, read by all: relaxed */
};

struct hashmap {
    /* Constant. */
    struct arena *arena; /* borrowed */
    struct epoch *epoch; /* borrowed */
    uint64_t seed;
    /* Changed under the group's lock, seldom. */
    _Atomic(struct directory *) directories[GROUPS];
    _Atomic uint64_t bytes; /* directories and tables now in use; relaxed */
    struct group groups[GROUPS];
};

/* Where a hash belongs; under the group's lock. */
struct place {
    struct directory *directory; /* NULL = the group has none yet */
    struct table *table;         /* NULL = the part has none */
    size_t part;
};

static size_t group_of(uint64_t hash)
{
    return hashmap_group(hash);
}

static size_t part_of(const struct directory *directory, uint64_t hash)
{
    return (size_t)(hash & ((1u << directory->bits) - 1));
}

static uint64_t home_of(uint64_t capacity, uint32_t slot_hash)
{
    return (slot_hash * capacity) >> 32;
}

static uint32_t slot_hash_of(uint64_t slot)
{
    return (uint32_t)(slot >> 32);
}

static node_ref slot_node(uint64_t slot)
{
    return (node_ref)slot;
}

static size_t table_bytes(uint64_t capacity)
{
    return sizeof(struct table) + (size_t)capacity * sizeof(uint64_t);
}

static size_t directory_bytes(uint32_t bits)
{
    return sizeof(struct directory) +
           ((size_t)1 << bits) * (sizeof(struct table *) + sizeof(struct part_count));
}

static void add_bytes(struct hashmap *map, size_t bytes)
{
    (void)atomic_fetch_add_explicit(&map->bytes, bytes, memory_order_relaxed);
}

static void sub_bytes(struct hashmap *map, size_t bytes)
{
    (void)atomic_fetch_sub_explicit(&map->bytes, bytes, memory_order_relaxed);
}

/* ---- creation and destruction ---- */

enum armdb_rc hashmap_create(struct arena *arena, struct epoch *epoch,
                             struct hashmap **out)
{
    struct hashmap *map;
    size_t locks = 0;
    enum armdb_rc rc = ARMDB_OK;
    uint64_t entropy[2];

    *out = NULL;
    map = adb_alloc_aligned(ADB_MEM_HASH, sizeof *map, LINE_BYTES);
    if (map == NULL)
        return ARMDB_NOMEM;
    memset(map, 0, sizeof *map);
    map->arena = arena;
    map->epoch = epoch;
    entropy[0] = adb_mono_ns();
    entropy[1] = (uint64_t)(uintptr_t)map;
    map->seed = adb_check_raw(entropy, sizeof entropy);
    for (; locks < GROUPS && rc == ARMDB_OK; locks++)
        rc = adb_mutex_init(&map->groups[locks].lock, ADB_RANK_HASH);
    if (rc != ARMDB_OK) {
        for (size_t i = 0; i + 1 < locks; i++)
            adb_mutex_fini(&map->groups[i].lock);
        goto out;
    }
    *out = map;
    map = NULL;
out:
    adb_free_aligned(ADB_MEM_HASH, map);
    return rc;
}

static void free_directory(struct directory *directory)
{
    for (size_t i = 0; i < (size_t)1 << directory->bits; i++)
        adb_free_aligned(ADB_MEM_HASH, atomic_load_explicit(&directory->tables[i],
                                                            memory_order_relaxed));
    adb_free(ADB_MEM_HASH, directory);
}

void hashmap_destroy(struct hashmap *map)
{
    if (map == NULL)
        return;
    for (size_t g = 0; g < GROUPS; g++) {
        struct directory *directory =
            atomic_load_explicit(&map->directories[g], memory_order_relaxed);

        if (directory != NULL)
            free_directory(directory);
        adb_mutex_fini(&map->groups[g].lock);
    }
    adb_free_aligned(ADB_MEM_HASH, map);
}

/* Empty; NULL without memory. */
static struct table *create_table(uint64_t capacity)
{
    struct table *table;

    table = adb_alloc_aligned(ADB_MEM_HASH, table_bytes(capacity), LINE_BYTES);
    if (table == NULL)
        return NULL;
    memset(table, 0, table_bytes(capacity));
    table->capacity = capacity;
    return table;
}

static struct directory *create_directory(uint32_t bits)
{
    struct directory *directory;

    directory = adb_alloc_zero(ADB_MEM_HASH, directory_bytes(bits));
    if (directory == NULL)
        return NULL;
    directory->bits = bits;
    directory->counts = (void *)((unsigned char *)directory + sizeof *directory +
                                 ((size_t)1 << bits) * sizeof(struct table *));
    return directory;
}

static void free_retired_table(void *context, struct epoch_item *item)
{
    (void)context;
    adb_free_aligned(ADB_MEM_HASH, item); /* the item is the table's first member */
}

static void free_retired_directory(void *context, struct epoch_item *item)
{
    (void)context;
    adb_free(ADB_MEM_HASH, item); /* its tables went elsewhere */
}

static void retire_table(struct hashmap *map, struct table *table)
{
    if (table == NULL)
        return;
    sub_bytes(map, table_bytes(table->capacity));
    epoch_retire(map->epoch, &table->retired, free_retired_table, NULL);
}

/* ---- reading ---- */

uint64_t hashmap_hash(const struct hashmap *map, const void *key, size_t key_len)
{
    return adb_hash_seeded(key, key_len, map->seed);
}

/* The table that readers find for this hash; NULL when there is none. */
static struct table *find_table(const struct hashmap *map, uint64_t hash)
{
    /* Both pair with the release stores in publish_table() and split_group(). */
    struct directory *directory =
        atomic_load_explicit(&map->directories[group_of(hash)], memory_order_acquire);

    if (directory == NULL)
        return NULL;
    return atomic_load_explicit(&directory->tables[part_of(directory, hash)],
                                memory_order_acquire);
}

static bool same_key(const struct node *node, const void *key, size_t key_len)
{
    return node_key_len(node) == key_len &&
           (key_len == 0 || memcmp(node->key, key, key_len) == 0);
}

node_ref hashmap_find(const struct hashmap *map, uint64_t hash, const void *key,
                      size_t key_len)
{
    struct table *table = find_table(map, hash);
    uint32_t slot_hash = (uint32_t)hash;
    uint64_t i;

    if (table == NULL)
        return 0;
    i = home_of(table->capacity, slot_hash);
    for (uint64_t probes = 0; probes < table->capacity; probes++) {
        /* Pairs with the release store in hashmap_insert(): the node is complete. */
        uint64_t slot = atomic_load_explicit(&table->slots[i], memory_order_acquire);

        if (slot == 0)
            break;
        /* The key is compared even though the hashes match: 32 bits collide. */
        if (slot_hash_of(slot) == slot_hash && slot_node(slot) != 0 &&
            same_key(arena_node(map->arena, slot_node(slot)), key, key_len))
            return slot_node(slot);
        if (++i == table->capacity)
            i = 0;
    }
    return 0;
}

void hashmap_prefetch(const struct hashmap *map, uint64_t hash)
{
    struct table *table = find_table(map, hash);

    if (table != NULL)
        __builtin_prefetch(&table->slots[home_of(table->capacity, (uint32_t)hash)]);
}

void hashmap_prefetch_node(const struct hashmap *map, uint64_t hash)
{
    struct table *table = find_table(map, hash);
    uint32_t slot_hash = (uint32_t)hash;
    uint64_t i;

    if (table == NULL)
        return;
    i = home_of(table->capacity, slot_hash);
    for (uint64_t probes = 0; probes < table->capacity; probes++) {
        uint64_t slot = atomic_load_explicit(&table->slots[i], memory_order_acquire);

        if (slot == 0)
            return;
        if (slot_hash_of(slot) == slot_hash && slot_node(slot) != 0) {
            const struct node *node = arena_node(map->arena, slot_node(slot));

            __builtin_prefetch(node);
            __builtin_prefetch(node->key + LINE_BYTES - sizeof *node);
            return;
        }
        if (++i == table->capacity)
            i = 0;
    }
}

/* ---- writing: all under the group's lock ---- */

ADB_NOT_SHARED struct adb_mutex *hashmap_lock(struct hashmap *map, uint64_t hash)
{
    struct adb_mutex *lock = &map->groups[group_of(hash)].lock;

    adb_mutex_lock(lock);
    return lock;
}

ADB_NOT_SHARED void hashmap_unlock(struct adb_mutex *token)
{
    adb_mutex_unlock(token);
}

static void find_place(struct hashmap *map, uint64_t hash, struct place *place)
{
    adb_mutex_assert_held(&map->groups[group_of(hash)].lock);
    *place = (struct place){0};
    place->directory =
        atomic_load_explicit(&map->directories[group_of(hash)], memory_order_relaxed);
    if (place->directory == NULL)
        return;
    place->part = part_of(place->directory, hash);
    place->table = atomic_load_explicit(&place->directory->tables[place->part],
                                        memory_order_relaxed);
}

static void publish_table(struct hashmap *map, struct place *place, struct table *table)
{
    struct table *old = place->table;

    if (table != NULL)
        add_bytes(map, table_bytes(table->capacity));
    /* Pairs with find_table(). */
    atomic_store_explicit(&place->directory->tables[place->part], table,
                          memory_order_release);
    place->directory->counts[place->part].marks = 0;
    place->table = table;
    retire_table(map, old);
}

/* Puts a slot that is not there yet into a table that nobody else knows. */
static void put_slot(struct table *table, uint64_t slot)
{
    uint64_t i = home_of(table->capacity, slot_hash_of(slot));

    while (atomic_load_explicit(&table->slots[i], memory_order_relaxed) != 0)
        if (++i == table->capacity)
            i = 0;
    atomic_store_explicit(&table->slots[i], slot, memory_order_relaxed);
}

/* The capacity that `live` keys fill to `load` hundredths, in whole lines. */
static uint64_t capacity_for(uint64_t live, uint64_t load)
{
    uint64_t capacity = live * 100 / load + 1;

    capacity = (capacity + LINE_SLOTS - 1) / LINE_SLOTS * LINE_SLOTS;
    return capacity < CAPACITY_MIN ? CAPACITY_MIN : capacity;
}

/* Replaces the part's table by one of this capacity with the same keys. */
static enum armdb_rc rebuild(struct hashmap *map, struct place *place, uint64_t capacity)
{
    struct table *table = create_table(capacity);

    if (table == NULL)
        return ARMDB_NOMEM;
    for (uint64_t i = 0; place->table != NULL && i < place->table->capacity; i++) {
        uint64_t slot =
            atomic_load_explicit(&place->table->slots[i], memory_order_relaxed);

        if (slot_node(slot) != 0)
            put_slot(table, slot);
    }
    publish_table(map, place, table);
    return ARMDB_OK;
}

/* Counts the keys of each part and makes its table, with loads spread over a range so
 * that the parts do not all grow at the same time. */
static enum armdb_rc make_parts(struct table *old, struct directory *directory)
{
    for (uint64_t i = 0; i < old->capacity; i++) {
        uint64_t slot = atomic_load_explicit(&old->slots[i], memory_order_relaxed);

        if (slot_node(slot) != 0)
            directory->counts[part_of(directory, slot_hash_of(slot))].live++;
    }
    for (size_t part = 0; part < PARTS_MAX; part++) {
        uint64_t load = LOAD_GROWN + part * LOAD_STAGGER / PARTS_MAX;
        struct table *table =
            create_table(capacity_for(directory->counts[part].live + 1, load));

        if (table == NULL)
            return ARMDB_NOMEM;
        atomic_init(&directory->tables[part], table);
    }
    for (uint64_t i = 0; i < old->capacity; i++) {
        uint64_t slot = atomic_load_explicit(&old->slots[i], memory_order_relaxed);

        if (slot_node(slot) != 0)
            put_slot(atomic_load_explicit(
                         &directory->tables[part_of(directory, slot_hash_of(slot))],
                         memory_order_relaxed),
                     slot);
    }
    return ARMDB_OK;
}

/* Replaces the group's single table by one table for each part. */
static enum armdb_rc split_group(struct hashmap *map, size_t group, struct place *place)
{
    struct directory *directory = create_directory(PART_BITS);
    struct directory *old = place->directory;
    enum armdb_rc rc = ARMDB_NOMEM;

    if (directory == NULL)
        goto out;
    rc = make_parts(place->table, directory);
    if (rc != ARMDB_OK)
        goto out;
    add_bytes(map, directory_bytes(PART_BITS));
    for (size_t part = 0; part < PARTS_MAX; part++)
        add_bytes(map, table_bytes(atomic_load_explicit(&directory->tables[part],
                                                        memory_order_relaxed)
                                       ->capacity));
    /* Pairs with find_table(). */
    atomic_store_explicit(&map->directories[group], directory, memory_order_release);
    directory = NULL;
    retire_table(map, place->table);
    sub_bytes(map, directory_bytes(old->bits));
    epoch_retire(map->epoch, &old->retired, free_retired_directory, NULL);
out:
    if (directory != NULL)
        free_directory(directory);
    return rc;
}

/* A first directory for a group. */
static enum armdb_rc begin_group(struct hashmap *map, uint64_t hash, struct place *place)
{
    struct directory *directory = create_directory(0);

    if (directory == NULL)
        return ARMDB_NOMEM;
    add_bytes(map, directory_bytes(0));
    /* Pairs with find_table(). */
    atomic_store_explicit(&map->directories[group_of(hash)], directory,
                          memory_order_release);
    find_place(map, hash, place);
    return ARMDB_OK;
}

/* Makes sure that the place can take one key more. */
static enum armdb_rc make_room(struct hashmap *map, uint64_t hash, struct place *place)
{
    enum armdb_rc rc = ARMDB_OK;
    const struct part_count *count;
    uint64_t capacity;

    if (place->directory == NULL)
        rc = begin_group(map, hash, place);
    if (rc != ARMDB_OK)
        return rc;
    if (place->table == NULL)
        return rebuild(map, place, CAPACITY_MIN);
    count = &place->directory->counts[place->part];
    capacity = place->table->capacity;
    if (((uint64_t)count->live + count->marks + 1) * 100 <= capacity * LOAD_MAX)
        return ARMDB_OK;
    if ((uint64_t)count->live * 100 < capacity * LOAD_KEEP)
        return rebuild(map, place, capacity);
    if (place->directory->bits == 0 && capacity >= SPLIT_CAPACITY) {
        rc = split_group(map, group_of(hash), place);
        find_place(map, hash, place);
        if (rc == ARMDB_OK && place->table == NULL)
            rc = ARMDB_INTERNAL; /* every part has got a table */
        return rc;
    }
    /* The groups' sizes differ by the group's number, so that they do not all grow at
     * the same time either. */
    return rebuild(map, place,
                   capacity_for((uint64_t)count->live + 1,
                                LOAD_GROWN - (place->directory->bits == 0
                                                  ? group_of(hash) % LINE_SLOTS
                                                  : 0)));
}

static void add_count(struct hashmap *map, uint64_t hash, uint64_t delta)
{
    _Atomic uint64_t *count = &map->groups[group_of(hash)].count;

    atomic_store_explicit(count,
                          atomic_load_explicit(count, memory_order_relaxed) + delta,
                          memory_order_relaxed);
}

enum armdb_rc hashmap_insert(struct hashmap *map, uint64_t hash, node_ref node)
{
    uint64_t slot = ((uint64_t)(uint32_t)hash << 32) | node;
    struct place place;
    enum armdb_rc rc;
    uint64_t seen;
    uint64_t i;

    ADB_ASSERT(node != 0);
    find_place(map, hash, &place);
    rc = make_room(map, hash, &place);
    if (rc != ARMDB_OK)
        return rc;
    i = home_of(place.table->capacity, (uint32_t)hash);
    /* A mark is as good as an empty slot: the key is known to be absent. */
    for (;;) {
        seen = atomic_load_explicit(&place.table->slots[i], memory_order_relaxed);
        if (slot_node(seen) == 0)
            break;
        if (++i == place.table->capacity)
            i = 0;
    }
    if (seen == SLOT_MARK)
        place.directory->counts[place.part].marks--;
    place.directory->counts[place.part].live++;
    add_count(map, hash, 1);
    /* Publishes the node; pairs with the acquire load in hashmap_find(). */
    atomic_store_explicit(&place.table->slots[i], slot, memory_order_release);
    return ARMDB_OK;
}

/* Empties the slot at i, or marks it if a key's way may lead over it; then empties the
 * marks that now stand before an empty slot. */
static void clear_slot(struct table *table, struct part_count *count, uint64_t i)
{
    uint64_t next = i + 1 == table->capacity ? 0 : i + 1;

    count->live--;
    if (atomic_load_explicit(&table->slots[next], memory_order_relaxed) != 0) {
        /* Relaxed here and below: who misses these stores sees the key that was in
         * the map when its look-up began. */
        atomic_store_explicit(&table->slots[i], SLOT_MARK, memory_order_relaxed);
        count->marks++;
        return;
    }
    atomic_store_explicit(&table->slots[i], 0, memory_order_relaxed);
    for (;;) {
        i = i == 0 ? table->capacity - 1 : i - 1;
        if (atomic_load_explicit(&table->slots[i], memory_order_relaxed) != SLOT_MARK)
            break;
        atomic_store_explicit(&table->slots[i], 0, memory_order_relaxed);
        count->marks--;
    }
}

void hashmap_remove(struct hashmap *map, uint64_t hash, node_ref node)
{
    uint64_t slot = ((uint64_t)(uint32_t)hash << 32) | node;
    struct part_count *count;
    struct place place;
    uint64_t i;

    find_place(map, hash, &place);
    ADB_ASSERT(place.table != NULL);
    if (place.table == NULL)
        return;
    i = home_of(place.table->capacity, (uint32_t)hash);
    for (uint64_t probes = 0;; probes++) {
        ADB_ASSERT(probes < place.table->capacity);
        if (probes == place.table->capacity)
            return;
        if (atomic_load_explicit(&place.table->slots[i], memory_order_relaxed) == slot)
            break;
        if (++i == place.table->capacity)
            i = 0;
    }
    count = &place.directory->counts[place.part];
    clear_slot(place.table, count, i);
    add_count(map, hash, (uint64_t)0 - 1);
    if (count->live == 0)
        publish_table(map, &place, NULL);
    else if (place.table->capacity > CAPACITY_MIN &&
             (uint64_t)count->live * 100 < place.table->capacity * LOAD_SHRINK)
        /* Without memory the table just stays as large as it is. */
        if (rebuild(map, &place, capacity_for(count->live, LOAD_GROWN)) != ARMDB_OK)
            return;
}

/* How many of `count` keys one of 2^bits parts gets at most, but for luck: its share
 * and four times the spread that drawing at random has, the share's square root. */
static uint64_t share_of(uint64_t count, uint32_t bits)
{
    uint64_t share = (count >> bits) + 1;
    uint64_t root = 1;

    if (bits == 0)
        return share;
    while (root * root < share)
        root += 1 + root / 8;
    return share + 4 * root;
}

/* Makes room for `count` more keys in a group. */
static enum armdb_rc reserve_group(struct hashmap *map, size_t group, uint64_t count)
{
    uint64_t hash = (uint64_t)group << (64 - GROUP_BITS);
    enum armdb_rc rc = ARMDB_OK;
    struct place place;

    find_place(map, hash, &place);
    if (place.directory == NULL)
        rc = begin_group(map, hash, &place);
    if (rc == ARMDB_OK && place.table == NULL)
        rc = rebuild(map, &place, CAPACITY_MIN);
    if (rc == ARMDB_OK && place.directory->bits == 0 &&
        place.directory->counts[0].live + count > SPLIT_CAPACITY) {
        rc = split_group(map, group, &place);
        find_place(map, hash, &place);
    }
    if (rc != ARMDB_OK)
        return rc;
    count = share_of(count, place.directory->bits);
    for (place.part = 0; place.part < (size_t)1 << place.directory->bits; place.part++) {
        const struct part_count *now = &place.directory->counts[place.part];
        uint64_t capacity =
            capacity_for((uint64_t)now->live + now->marks + count, LOAD_MAX);

        place.table = atomic_load_explicit(&place.directory->tables[place.part],
                                           memory_order_relaxed);
        if (place.table == NULL || place.table->capacity < capacity)
            rc = rebuild(map, &place, capacity);
        if (rc != ARMDB_OK)
            return rc;
    }
    return ARMDB_OK;
}

enum armdb_rc hashmap_reserve(struct hashmap *map, uint64_t count)
{
    enum armdb_rc rc = ARMDB_OK;

    for (size_t group = 0; group < GROUPS && rc == ARMDB_OK; group++) {
        adb_mutex_lock(&map->groups[group].lock);
        rc = reserve_group(map, group, share_of(count, GROUP_BITS));
        adb_mutex_unlock(&map->groups[group].lock);
    }
    return rc;
}

/* ---- building ---- */

enum { BUILD_AHEAD = 8 }; /* slots whose lines are asked for before they are written */

static uint64_t items_total(const struct hashmap_items *pieces, size_t count)
{
    uint64_t total = 0;

    for (size_t i = 0; i < count; i++)
        total += pieces[i].count;
    return total;
}

/* Empty tables of the right size for what the directory's parts will hold. */
static enum armdb_rc make_tables(struct directory *directory,
                                 const struct hashmap_items *pieces, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < pieces[i].count; k++)
            directory->counts[part_of(directory, pieces[i].items[k].hash)].live++;
    for (size_t part = 0; part < (size_t)1 << directory->bits; part++) {
        uint64_t live = directory->counts[part].live;
        uint64_t load = LOAD_GROWN + part * LOAD_STAGGER / PARTS_MAX;
        struct table *table = NULL;

        if (live > 0) {
            table = create_table(capacity_for(live + 1, load));
            if (table == NULL)
                return ARMDB_NOMEM;
        }
        atomic_init(&directory->tables[part], table);
    }
    return ARMDB_OK;
}

static struct table *item_table(struct directory *directory,
                                const struct hashmap_item *item)
{
    return atomic_load_explicit(&directory->tables[part_of(directory, item->hash)],
                                memory_order_relaxed);
}

static void fill_tables(struct directory *directory, const struct hashmap_items *piece)
{
    for (size_t i = 0; i < piece->count; i++) {
        const struct hashmap_item *item = &piece->items[i];

        if (i + BUILD_AHEAD < piece->count) {
            const struct hashmap_item *ahead = item + BUILD_AHEAD;
            struct table *table = item_table(directory, ahead);

            __builtin_prefetch(&table->slots[home_of(table->capacity, ahead->hash)], 1);
        }
        put_slot(item_table(directory, item), (uint64_t)item->hash << 32 | item->node);
    }
}

/* Puts a directory in the place of an empty one. */
static void publish_group(struct hashmap *map, size_t group, struct directory *directory,
                          uint64_t keys)
{
    struct directory *old =
        atomic_load_explicit(&map->directories[group], memory_order_relaxed);

    add_bytes(map, directory_bytes(directory->bits));
    for (size_t part = 0; part < (size_t)1 << directory->bits; part++) {
        const struct table *table =
            atomic_load_explicit(&directory->tables[part], memory_order_relaxed);

        add_bytes(map, table == NULL ? 0 : table_bytes(table->capacity));
    }
    /* Pairs with find_table(). */
    atomic_store_explicit(&map->directories[group], directory, memory_order_release);
    atomic_store_explicit(&map->groups[group].count, keys, memory_order_relaxed);
    if (old == NULL)
        return;
    for (size_t part = 0; part < (size_t)1 << old->bits; part++)
        retire_table(map, atomic_load_explicit(&old->tables[part], memory_order_relaxed));
    sub_bytes(map, directory_bytes(old->bits));
    epoch_retire(map->epoch, &old->retired, free_retired_directory, NULL);
}

enum armdb_rc hashmap_build_group(struct hashmap *map, size_t group,
                                  const struct hashmap_items *pieces, size_t count)
{
    uint64_t keys = items_total(pieces, count);
    struct directory *directory;
    enum armdb_rc rc;

    if (keys == 0)
        return ARMDB_OK;
    directory = create_directory(keys * 2 > SPLIT_CAPACITY ? PART_BITS : 0);
    if (directory == NULL)
        return ARMDB_NOMEM;
    rc = make_tables(directory, pieces, count);
    if (rc != ARMDB_OK) {
        free_directory(directory);
        return rc;
    }
    for (size_t i = 0; i < count; i++)
        fill_tables(directory, &pieces[i]);
    adb_mutex_lock(&map->groups[group].lock);
    ADB_ASSERT(atomic_load_explicit(&map->groups[group].count, memory_order_relaxed) ==
               0);
    publish_group(map, group, directory, keys);
    adb_mutex_unlock(&map->groups[group].lock);
    return ARMDB_OK;
}

/* ---- numbers and checks ---- */

uint64_t hashmap_count(const struct hashmap *map)
{
    uint64_t sum = 0;

    for (size_t g = 0; g < GROUPS; g++)
        sum += atomic_load_explicit(&map->groups[g].count, memory_order_relaxed);
    return sum;
}

uint64_t hashmap_bytes(const struct hashmap *map)
{
    return sizeof *map + atomic_load_explicit(&map->bytes, memory_order_relaxed);
}

/* One part: every key is found where its hash says, and the counts are true. */
static const char *check_part(const struct hashmap *map, size_t group,
                              const struct directory *directory, size_t part)
{
    const struct part_count *count = &directory->counts[part];
    struct table *table =
        atomic_load_explicit(&directory->tables[part], memory_order_relaxed);
    uint64_t live = 0;
    uint64_t marks = 0;

    if (table == NULL)
        return count->live == 0 && count->marks == 0 ? NULL : "keys without a table";
    for (uint64_t i = 0; i < table->capacity; i++) {
        uint64_t slot = atomic_load_explicit(&table->slots[i], memory_order_relaxed);
        const struct node *node;
        uint64_t hash;

        marks += slot == SLOT_MARK;
        if (slot_node(slot) == 0 && slot != SLOT_MARK && slot != 0)
            return "a slot has a hash but no node";
        if (slot_node(slot) == 0)
            continue;
        live++;
        node = arena_node(map->arena, slot_node(slot));
        hash = hashmap_hash(map, node->key, node_key_len(node));
        if ((uint32_t)hash != slot_hash_of(slot))
            return "a slot's hash is not that of its key";
        if (group_of(hash) != group || part_of(directory, hash) != part)
            return "a key is in another part than its hash says";
        /* Also finds a second slot of the same key. */
        if (hashmap_find(map, hash, node->key, node_key_len(node)) != slot_node(slot))
            return "a key is not found from its home";
    }
    if (live != count->live || marks != count->marks)
        return "the counts of a part are wrong";
    if ((live + marks) * 100 > table->capacity * LOAD_MAX)
        return "a table is too full";
    return NULL;
}

bool hashmap_check(const struct hashmap *map, char *why, size_t why_len)
{
    const char *fault = NULL;
    uint64_t bytes = 0;

    for (size_t g = 0; g < GROUPS && fault == NULL; g++) {
        struct directory *directory =
            atomic_load_explicit(&map->directories[g], memory_order_acquire);
        uint64_t keys = 0;

        for (size_t p = 0;
             directory != NULL && fault == NULL && p < (size_t)1 << directory->bits;
             p++) {
            const struct table *table =
                atomic_load_explicit(&directory->tables[p], memory_order_relaxed);

            fault = check_part(map, g, directory, p);
            keys += directory->counts[p].live;
            bytes += table == NULL ? 0 : table_bytes(table->capacity);
        }
        bytes += directory == NULL ? 0 : directory_bytes(directory->bits);
        if (fault == NULL &&
            keys != atomic_load_explicit(&map->groups[g].count, memory_order_relaxed))
            fault = "a group's count is wrong";
    }
    if (fault == NULL && bytes != atomic_load_explicit(&map->bytes, memory_order_relaxed))
        fault = "the bytes are counted wrongly";
    (void)snprintf(why, why_len, "%s", fault == NULL ? "" : fault);
    return fault == NULL;
}

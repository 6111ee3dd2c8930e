/* node.c - the arena of nodes and versions.
 *
 *   reference: | 8 bits: which table | 9 bits: which slot of it | 15 bits: unit |
 *   tables[8 bits] -> slots[9 bits] -> 256 KiB of memory, or a part of them
 *
 * Memory comes from the system in chunks: a page for the first rows, 64 KiB for a small
 * arena, 2 MiB for a big one, so that a table of a few rows stays small (a folder can
 * hold one for every 30 bytes) and a large one gets huge pages. A chunk
 * smaller than a slot leaves the rest of the slot's references unused; these cost
 * nothing. A block over SMALL_BYTES_MAX (a node with a very long key) is a chunk of
 * its own and goes back to the system when it is freed.
 *
 * Small blocks have a size class, which follows from the key's length alone: no block
 * has a header. Free blocks of a class are linked through their first four bytes. What
 * is left of a chunk when the next one is begun is cut into free blocks.
 *
 * Lists and the chunk being cut belong to a lane. A thread takes the lane it took last
 * if that is free, else another: one thread alone uses one lane, and threads that meet
 * part for good. When a lane has neither a free block of the class nor room, the other
 * lanes' lists are asked before the system is, so that blocks freed by another thread
 * than the one that needs them are used again. */
#include "engine/index/node.h"

#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/thread.h"

enum {
    LINE_BYTES = 64,
    PAGE_BYTES = 4096,
    LANES = 4,
    TOP_SLOTS = 1 << ARENA_TOP_BITS,
    TABLE_SLOTS = 1 << ARENA_TABLE_BITS,
    SLOTS = TOP_SLOTS * TABLE_SLOTS,
    SLOT_BYTES = ARENA_UNIT_BYTES << ARENA_SLOT_UNIT_BITS,
    CHUNK_BYTES_FIRST = 4 * 1024,
    CHUNK_BYTES_MIN = 64 * 1024,
    CHUNK_BYTES_MAX = 2 * 1024 * 1024,
    /* Classes: exact up to EXACT_UNITS, then 8 steps for each doubling. */
    EXACT_UNITS = 64,
    EXACT_UNITS_LOG2 = 6,
    STEPS_LOG2 = 3,
    DOUBLINGS = 6,
    CLASSES = EXACT_UNITS + (DOUBLINGS << STEPS_LOG2) + 1,
    SMALL_BYTES_MAX = (EXACT_UNITS << DOUBLINGS) * ARENA_UNIT_BYTES,
    BLOCK_UNITS_MIN = sizeof(struct version) / ARENA_UNIT_BYTES
};

_Static_assert(sizeof(struct version) == 24, "a version takes 24 bytes");
_Static_assert(offsetof(struct node, key) == 32, "a node takes 32 bytes before its key");
_Static_assert(offsetof(struct node, first) % ARENA_UNIT_BYTES == 0,
               "the inline version has a reference");
_Static_assert(SMALL_BYTES_MAX <= CHUNK_BYTES_MIN, "a small block fits every chunk");

struct lane {
    _Alignas(LINE_BYTES) struct adb_mutex lock; /* ADB_RANK_ARENA */
    struct {
        uint32_t next_unit; /* first unit of the chunk not yet handed out */
        uint32_t units_left;
        uint32_t free_blocks[CLASSES]; /* heads of the lists; 0 = empty */
    } locked ADB_GUARDED;
    /* Bytes handed out minus bytes given back here; may be negative (wraps), only the
     * sum over the lanes means something. Relaxed: a statistic. */
    _Atomic uint64_t used_bytes;
};

/* The whole arena; what readers need comes first. */
struct arena_all {
    struct arena map;
    struct lane lanes[LANES];
    struct adb_mutex chunk_lock; /* ADB_RANK_LEAF: the map and what follows */
    struct {
        uint32_t first_free; /* no slot below this one is free */
    } chunks ADB_GUARDED;
    _Atomic uint64_t mapped_bytes; /* chunks and tables; relaxed */
};

/* The lane that this thread used last, of any arena: a hint. */
static _Thread_local unsigned lane_hint;

static struct arena_all *whole(struct arena *arena)
{
    return (struct arena_all *)(void *)arena;
}

/* The smallest class that holds `units` (1 to the largest class). */
static size_t class_of(size_t units)
{
    size_t step_log2 = 0;

    if (units <= EXACT_UNITS)
        return units;
    while (units > ((size_t)EXACT_UNITS << (step_log2 + 1)))
        step_log2++;
    /* units lies in (64, 128] << step_log2: in steps of 8 << step_log2. */
    units -= (size_t)EXACT_UNITS << step_log2;
    step_log2 += EXACT_UNITS_LOG2 - STEPS_LOG2;
    units = (units + ((size_t)1 << step_log2) - 1) >> step_log2;
    return EXACT_UNITS + ((step_log2 - (EXACT_UNITS_LOG2 - STEPS_LOG2)) << STEPS_LOG2) +
           units;
}

static size_t class_units(size_t class)
{
    size_t doubling;
    size_t step;

    if (class <= EXACT_UNITS)
        return class;
    doubling = (class - EXACT_UNITS - 1) >> STEPS_LOG2;
    step = ((class - EXACT_UNITS - 1) & ((1u << STEPS_LOG2) - 1)) + 1;
    return ((size_t)EXACT_UNITS << doubling) +
           (step << (doubling + EXACT_UNITS_LOG2 - STEPS_LOG2));
}

static size_t node_bytes(size_t key_len)
{
    size_t bytes = offsetof(struct node, key) + key_len;

    return (bytes + ARENA_UNIT_BYTES - 1) & ~(size_t)(ARENA_UNIT_BYTES - 1);
}

/* Bytes that a block of this many takes in the arena. */
static size_t block_bytes(size_t bytes)
{
    if (bytes > SMALL_BYTES_MAX)
        return (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
    return class_units(class_of(bytes / ARENA_UNIT_BYTES)) * ARENA_UNIT_BYTES;
}

enum armdb_rc arena_create(struct arena **out)
{
    struct arena_all *all;
    size_t lanes = 0;
    enum armdb_rc rc;

    *out = NULL;
    all = adb_alloc_aligned(ADB_MEM_NODES, sizeof *all, LINE_BYTES);
    if (all == NULL)
        return ARMDB_NOMEM;
    memset(all, 0, sizeof *all);
    rc = adb_mutex_init(&all->chunk_lock, ADB_RANK_LEAF);
    if (rc != ARMDB_OK)
        goto out;
    for (; lanes < LANES; lanes++) {
        rc = adb_mutex_init(&all->lanes[lanes].lock, ADB_RANK_ARENA);
        if (rc != ARMDB_OK)
            break;
    }
    if (rc != ARMDB_OK) {
        while (lanes > 0)
            adb_mutex_fini(&all->lanes[--lanes].lock);
        adb_mutex_fini(&all->chunk_lock);
        goto out;
    }
    *out = &all->map;
    all = NULL;
out:
    adb_free_aligned(ADB_MEM_NODES, all);
    return rc;
}

void arena_destroy(struct arena *arena)
{
    struct arena_all *all;

    if (arena == NULL)
        return;
    all = whole(arena);
    for (size_t t = 0; t < TOP_SLOTS; t++) {
        struct arena_table *table =
            atomic_load_explicit(&arena->tables[t], memory_order_relaxed);

        if (table == NULL)
            continue;
        /* A chunk that goes on in the next table was freed with its first slot. */
        for (size_t s = 0; s < TABLE_SLOTS; s++)
            if (table->chunk_pages[s] != 0)
                adb_unmap(ADB_MEM_NODES,
                          atomic_load_explicit(&table->slots[s], memory_order_relaxed),
                          (size_t)table->chunk_pages[s] * PAGE_BYTES);
        adb_free(ADB_MEM_NODES, table);
    }
    for (size_t i = 0; i < LANES; i++)
        adb_mutex_fini(&all->lanes[i].lock);
    adb_mutex_fini(&all->chunk_lock);
    adb_free_aligned(ADB_MEM_NODES, all);
}

static struct arena_table *table_of(const struct arena *arena, uint32_t slot)
{
    return atomic_load_explicit(&arena->tables[slot >> ARENA_TABLE_BITS],
                                memory_order_acquire);
}

static bool slot_is_free(const struct arena *arena, uint32_t slot)
{
    struct arena_table *table = table_of(arena, slot);

    return table == NULL || atomic_load_explicit(&table->slots[slot % TABLE_SLOTS],
                                                 memory_order_relaxed) == NULL;
}

/* The first of `count` free slots in a row; SLOTS when there are none. */
static uint32_t find_slots(struct arena_all *all, uint32_t count)
    ADB_REQUIRES(all->chunk_lock)
{
    uint32_t run = 0;
    uint32_t slot = all->chunks.first_free;

    while (slot < SLOTS && !slot_is_free(&all->map, slot))
        slot++;
    all->chunks.first_free = slot;
    for (; slot < SLOTS; slot++) {
        run = slot_is_free(&all->map, slot) ? run + 1 : 0;
        if (run == count)
            return slot + 1 - count;
    }
    return SLOTS;
}

/* Makes the tables that hold these slots. */
static bool make_tables(struct arena_all *all, uint32_t slot, uint32_t count)
    ADB_REQUIRES(all->chunk_lock)
{
    for (uint32_t t = slot / TABLE_SLOTS; t <= (slot + count - 1) / TABLE_SLOTS; t++) {
        struct arena_table *table;

        if (atomic_load_explicit(&all->map.tables[t], memory_order_relaxed) != NULL)
            continue;
        table = adb_alloc_zero(ADB_MEM_NODES, sizeof *table);
        if (table == NULL)
            return false;
        (void)atomic_fetch_add_explicit(&all->mapped_bytes, sizeof *table,
                                        memory_order_relaxed);
        /* Pairs with arena_address(). */
        atomic_store_explicit(&all->map.tables[t], table, memory_order_release);
    }
    return true;
}

/* Gives a chunk its slots. */
static void place_chunk(struct arena_all *all, uint32_t slot, unsigned char *chunk,
                        size_t bytes) ADB_REQUIRES(all->chunk_lock)
{
    table_of(&all->map, slot)->chunk_pages[slot % TABLE_SLOTS] =
        (uint32_t)(bytes / PAGE_BYTES);
    for (size_t off = 0; off < bytes; off += SLOT_BYTES, slot++)
        /* Pairs with arena_address(). */
        atomic_store_explicit(&table_of(&all->map, slot)->slots[slot % TABLE_SLOTS],
                              chunk + off, memory_order_release);
}

/* Takes a chunk (whole pages) from the system; its first slot, or SLOTS. */
static uint32_t add_chunk(struct arena_all *all, size_t bytes)
{
    uint32_t count = (uint32_t)((bytes + SLOT_BYTES - 1) / SLOT_BYTES);
    bool huge = bytes == CHUNK_BYTES_MAX;
    unsigned char *chunk;
    uint32_t slot = SLOTS;

    chunk = adb_map(ADB_MEM_NODES, bytes, huge ? CHUNK_BYTES_MAX : PAGE_BYTES, huge);
    if (chunk == NULL)
        return SLOTS;
    adb_mutex_lock(&all->chunk_lock);
    slot = find_slots(all, count);
    if (slot < SLOTS && !make_tables(all, slot, count))
        slot = SLOTS;
    if (slot < SLOTS)
        place_chunk(all, slot, chunk, bytes);
    adb_mutex_unlock(&all->chunk_lock);
    if (slot == SLOTS)
        adb_unmap(ADB_MEM_NODES, chunk, bytes);
    else
        (void)atomic_fetch_add_explicit(&all->mapped_bytes, bytes, memory_order_relaxed);
    return slot;
}

/* Gives a chunk back to the system. */
static void drop_chunk(struct arena_all *all, uint32_t slot, size_t bytes)
{
    unsigned char *chunk;

    adb_mutex_lock(&all->chunk_lock);
    chunk = atomic_load_explicit(&table_of(&all->map, slot)->slots[slot % TABLE_SLOTS],
                                 memory_order_relaxed);
    table_of(&all->map, slot)->chunk_pages[slot % TABLE_SLOTS] = 0;
    if (slot < all->chunks.first_free)
        all->chunks.first_free = slot;
    for (size_t off = 0; off < bytes; off += SLOT_BYTES, slot++)
        atomic_store_explicit(&table_of(&all->map, slot)->slots[slot % TABLE_SLOTS], NULL,
                              memory_order_relaxed);
    adb_mutex_unlock(&all->chunk_lock);
    (void)atomic_fetch_sub_explicit(&all->mapped_bytes, bytes, memory_order_relaxed);
    adb_unmap(ADB_MEM_NODES, chunk, bytes);
}

/* Locks the lane of this thread, or another one when that is taken. */
ADB_NOT_SHARED static struct lane *lock_lane(struct arena_all *all)
{
    unsigned hint = lane_hint;

    for (unsigned i = 0; i < LANES; i++) {
        unsigned lane = (hint + i) % LANES;

        if (adb_mutex_trylock(&all->lanes[lane].lock)) {
            if (i != 0)
                lane_hint = lane;
            return &all->lanes[lane];
        }
    }
    adb_mutex_lock(&all->lanes[hint % LANES].lock);
    return &all->lanes[hint % LANES];
}

static void add_used(struct lane *lane, uint64_t bytes) ADB_REQUIRES(lane->lock)
{
    atomic_store_explicit(&lane->used_bytes,
                          atomic_load_explicit(&lane->used_bytes, memory_order_relaxed) +
                              bytes,
                          memory_order_relaxed);
}

static void push_free(struct arena_all *all, struct lane *lane, uint32_t ref,
                      size_t class) ADB_REQUIRES(lane->lock)
{
    uint32_t *link = arena_address(&all->map, ref);

    *link = lane->locked.free_blocks[class];
    lane->locked.free_blocks[class] = ref;
}

static uint32_t pop_free(struct arena_all *all, struct lane *lane, size_t class)
    ADB_REQUIRES(lane->lock)
{
    uint32_t ref = lane->locked.free_blocks[class];

    if (ref != 0) {
        const uint32_t *link = arena_address(&all->map, ref);

        lane->locked.free_blocks[class] = *link;
        add_used(lane, class_units(class) * ARENA_UNIT_BYTES);
    }
    return ref;
}

/* Cuts a block off the lane's chunk; 0 when it is too short. */
static uint32_t cut_block(struct lane *lane, size_t class) ADB_REQUIRES(lane->lock)
{
    uint32_t units = (uint32_t)class_units(class);
    uint32_t ref = lane->locked.next_unit;

    if (lane->locked.units_left < units)
        return 0;
    lane->locked.next_unit += units;
    lane->locked.units_left -= units;
    add_used(lane, (uint64_t)units * ARENA_UNIT_BYTES);
    return ref;
}

/* Turns the rest of the lane's chunk into free blocks and begins another chunk. */
static bool refill_lane(struct arena_all *all, struct lane *lane, size_t block)
    ADB_REQUIRES(lane->lock)
{
    uint64_t mapped = atomic_load_explicit(&all->mapped_bytes, memory_order_relaxed);
    size_t bytes = mapped == 0 && block <= CHUNK_BYTES_FIRST - LINE_BYTES
                       ? CHUNK_BYTES_FIRST
                       : CHUNK_BYTES_MIN;
    uint32_t slot;

    while (bytes < CHUNK_BYTES_MAX && bytes < mapped / 4)
        bytes *= 2;
    slot = add_chunk(all, bytes);
    if (slot == SLOTS)
        return false;
    while (lane->locked.units_left >= BLOCK_UNITS_MIN) {
        size_t class = class_of(lane->locked.units_left);

        if (class_units(class) > lane->locked.units_left)
            class --;
        push_free(all, lane, lane->locked.next_unit, class);
        lane->locked.next_unit += (uint32_t)class_units(class);
        lane->locked.units_left -= (uint32_t)class_units(class);
    }
    lane->locked.next_unit = slot << ARENA_SLOT_UNIT_BITS;
    lane->locked.units_left = (uint32_t)(bytes / ARENA_UNIT_BYTES);
    if (slot == 0) {
        /* Reference 0 names nothing; a whole line is left out for alignment. */
        lane->locked.next_unit += LINE_BYTES / ARENA_UNIT_BYTES;
        lane->locked.units_left -= LINE_BYTES / ARENA_UNIT_BYTES;
    }
    return true;
}

/* A free block of this class from any lane but the given one; 0 when there is none.
 * The lane that had it becomes this thread's. */
static uint32_t pop_elsewhere(struct arena_all *all, const struct lane *own, size_t class)
{
    for (unsigned i = 0; i < LANES; i++) {
        struct lane *lane = &all->lanes[i];
        uint32_t ref;

        if (lane == own)
            continue;
        adb_mutex_lock(&lane->lock);
        ref = pop_free(all, lane, class);
        adb_mutex_unlock(&lane->lock);
        if (ref != 0) {
            lane_hint = i;
            return ref;
        }
    }
    return 0;
}

ADB_NOT_SHARED static uint32_t alloc_small(struct arena_all *all, size_t bytes)
{
    size_t class = class_of(bytes / ARENA_UNIT_BYTES);
    struct lane *lane = lock_lane(all);
    uint32_t ref = pop_free(all, lane, class);

    if (ref == 0)
        ref = cut_block(lane, class);
    adb_mutex_unlock(&lane->lock);
    if (ref != 0)
        return ref;
    ref = pop_elsewhere(all, lane, class);
    if (ref != 0)
        return ref;
    adb_mutex_lock(&lane->lock);
    ref = cut_block(lane, class); /* another thread may have refilled it */
    if (ref == 0 && refill_lane(all, lane, class_units(class) * ARENA_UNIT_BYTES))
        ref = cut_block(lane, class);
    adb_mutex_unlock(&lane->lock);
    return ref;
}

/* A block that is a chunk of its own. */
ADB_NOT_SHARED static uint32_t alloc_large(struct arena_all *all, size_t bytes)
{
    uint32_t slot = add_chunk(all, block_bytes(bytes));
    uint32_t ref = slot << ARENA_SLOT_UNIT_BITS;
    struct lane *lane;

    if (slot == SLOTS)
        return 0;
    if (slot == 0) {
        /* The very first chunk cannot be a block: its reference would be 0. Slot 0 is
         * given up, with one page in it, and the block goes elsewhere. */
        drop_chunk(all, slot, block_bytes(bytes));
        slot = add_chunk(all, PAGE_BYTES);
        if (slot == SLOTS)
            return 0;
        slot = add_chunk(all, block_bytes(bytes));
        if (slot == SLOTS)
            return 0;
        ref = slot << ARENA_SLOT_UNIT_BITS;
    }
    lane = lock_lane(all);
    add_used(lane, block_bytes(bytes));
    adb_mutex_unlock(&lane->lock);
    return ref;
}

static uint32_t alloc_block(struct arena *arena, size_t bytes)
{
    return bytes <= SMALL_BYTES_MAX ? alloc_small(whole(arena), bytes)
                                    : alloc_large(whole(arena), bytes);
}

ADB_NOT_SHARED static void free_block(struct arena *arena, uint32_t ref, size_t bytes)
{
    struct arena_all *all = whole(arena);
    struct lane *lane;

    if (bytes > SMALL_BYTES_MAX)
        drop_chunk(all, ref >> ARENA_SLOT_UNIT_BITS, block_bytes(bytes));
    lane = lock_lane(all);
    if (bytes <= SMALL_BYTES_MAX)
        push_free(all, lane, ref, class_of(bytes / ARENA_UNIT_BYTES));
    add_used(lane, (uint64_t)0 - block_bytes(bytes));
    adb_mutex_unlock(&lane->lock);
}

static void init_version(struct version *version)
{
    atomic_init(&version->word, 0);
    atomic_init(&version->location, 0);
    atomic_init(&version->older, 0);
    version->value_len = 0;
}

node_ref arena_node_create(struct arena *arena, const void *key, size_t key_len)
{
    struct node *node;
    node_ref ref;

    ADB_ASSERT(key_len < (size_t)1 << NODE_KEY_LEN_BITS);
    ref = alloc_block(arena, node_bytes(key_len));
    if (ref == 0)
        return 0;
    node = arena_node(arena, ref);
    atomic_init(&node->head, 0);
    atomic_init(&node->key_len_flags, (uint32_t)key_len);
    init_version(&node->first);
    if (key_len > 0)
        memcpy(node->key, key, key_len);
    return ref;
}

version_ref arena_version_create(struct arena *arena)
{
    version_ref ref = alloc_block(arena, sizeof(struct version));

    if (ref != 0)
        init_version(arena_version(arena, ref));
    return ref;
}

void arena_node_free(struct arena *arena, node_ref ref)
{
    free_block(arena, ref, node_bytes(node_key_len(arena_node(arena, ref))));
}

void arena_version_free(struct arena *arena, version_ref ref)
{
    free_block(arena, ref, sizeof(struct version));
}

uint64_t arena_bytes(const struct arena *arena)
{
    const struct arena_all *all = (const struct arena_all *)(const void *)arena;

    return sizeof *all + atomic_load_explicit(&all->mapped_bytes, memory_order_relaxed);
}

uint64_t arena_bytes_used(const struct arena *arena)
{
    const struct arena_all *all = (const struct arena_all *)(const void *)arena;
    uint64_t sum = 0;

    for (size_t i = 0; i < LANES; i++)
        sum += atomic_load_explicit(&all->lanes[i].used_bytes, memory_order_relaxed);
    return sum;
}

/* version.c - version chains: what a snapshot sees, undo, settling.
 *
 * A version's word is either settled, (GSN << 1) | 1: every snapshot that exists or
 * will exist sees it; or it is the address of the write entry of the transaction that
 * made it, whose stamp decides. A commit is therefore one store, into the
 * transaction; words are settled later, when no older snapshot is left, and at that
 * moment everything below in the chain is dropped too. A chain has at most: own
 * versions of one open transaction, committed unsettled ones, one settled one.
 *
 * The inline version of a node is used like any other. When it is dropped from a chain
 * readers may still be in it, so that it is marked free only after an epoch. */
#include <string.h>

#include "engine/log/location.h"
#include "engine/store/internal.h"

struct version *version_visible(const struct tab *tab, struct node *node,
                                uint64_t snapshot, const struct txn *own,
                                uint32_t statement_limit)
{
    /* Pairs with the release in version_push(). */
    version_ref ref = atomic_load_explicit(&node->head, memory_order_acquire);

    while (ref != 0) {
        struct version *version = arena_version(tab->arena, ref);
        uint64_t word = atomic_load_explicit(&version->word, memory_order_acquire);

        if ((word & 1) != 0)
            return version;
        {
            const struct txn_write *write = (const struct txn_write *)(uintptr_t)word;

            if (write->txn == own) {
                if (write->statement < statement_limit && write->kind != WRITE_LOCK)
                    return version;
            } else {
                /* Pairs with the release in the commit. */
                uint64_t stamp =
                    atomic_load_explicit(&write->txn->stamp, memory_order_acquire);

                if (stamp != 0 && stamp <= snapshot)
                    return version;
            }
        }
        ref = atomic_load_explicit(&version->older, memory_order_acquire);
    }
    return NULL;
}

uint64_t record_bytes(const struct tab *tab, const struct node *node, uint32_t value_len)
{
    struct record record;

    memset(&record, 0, sizeof record);
    record.kind = value_len == VERSION_DELETED ? RECORD_DELETE : RECORD_PUT;
    record.table = tab->id;
    record.key_len = node_key_len(node);
    record.value_len = value_len == VERSION_DELETED ? 0 : value_len;
    return record_size(&record);
}

/* The record of a version is dead from now on. */
static void count_dead(const struct tab *tab, const struct node *node,
                       const struct version *version)
{
    uint64_t location = atomic_load_explicit(&version->location, memory_order_relaxed);
    struct segment *segment;

    if (version->value_len == VERSION_DELETED || location == LOCATION_NONE ||
        location_is_staged(location))
        return;
    segment = segtab_get(&tab->store->log.segments, location_slot(location));
    if (segment != NULL)
        (void)atomic_fetch_sub_explicit(&segment->live_bytes,
                                        record_bytes(tab, node, version->value_len),
                                        memory_order_relaxed);
}

void tab_count_dead(struct tab *tab, struct epoch_slot *slot)
{
    node_ref nodes[ORDER_BATCH_MAX];
    struct order_from from = {NULL, 0, false, false};
    size_t count = ORDER_BATCH_MAX;

    while (count > 0) {
        epoch_enter(slot);
        order_scan(tab->order, &from, nodes, ORDER_BATCH_MAX, &count);
        for (size_t i = 0; i < count; i++) {
            const struct node *node = arena_node(tab->arena, nodes[i]);
            version_ref head = atomic_load_explicit(&node->head, memory_order_acquire);

            if (head != 0)
                count_dead(tab, node, arena_version(tab->arena, head));
            from.key = node->key; /* nodes of this table stay: nobody writes to it */
            from.key_len = node_key_len(node);
        }
        epoch_leave(slot);
    }
}

/* ---- Giving versions and nodes back ---- */

static void free_version(void *context, uint64_t handle)
{
    struct tab *tab = context;

    arena_version_free(tab->arena, (version_ref)handle);
}

static void free_inline(void *context, uint64_t handle)
{
    struct tab *tab = context;
    struct node *node = arena_node(tab->arena, (node_ref)handle);

    /* Pairs with the acquire in version_push(). */
    (void)atomic_fetch_and_explicit(&node->key_len_flags, ~(uint32_t)NODE_INLINE_USED,
                                    memory_order_release);
}

static void free_node(void *context, uint64_t handle)
{
    struct tab *tab = context;

    arena_node_free(tab->arena, (node_ref)handle);
}

static void retire_version(struct tab *tab, node_ref node, version_ref version)
{
    if (version == arena_inline_version(tab->arena, node))
        epoch_retire_handle(tab->store->epoch, node, free_inline, tab);
    else
        epoch_retire_handle(tab->store->epoch, version, free_version, tab);
}

void node_unlink(struct tab *tab, node_ref ref, uint64_t hash)
{
    struct node *node = arena_node(tab->arena, ref);

    (void)atomic_fetch_or_explicit(&node->key_len_flags, NODE_DEAD, memory_order_release);
    hashmap_remove(tab->map, hash, ref);
    order_remove(tab->order, ref);
    node_retire(tab, ref);
}

void node_retire(struct tab *tab, node_ref ref)
{
    /* Behind any free_inline() of this node, which was retired earlier. */
    epoch_retire_handle(tab->store->epoch, ref, free_node, tab);
}

/* ---- Pushing and undoing ---- */

enum armdb_rc version_push(struct txn_write *write, struct node *node, uint32_t value_len,
                           uint64_t location)
{
    struct tab *tab = write->tab;
    struct version *version;
    version_ref older;
    /* Pairs with the release in free_inline(): no reader is in it any more. */
    uint32_t flags = atomic_load_explicit(&node->key_len_flags, memory_order_acquire);

    if ((flags & NODE_INLINE_USED) == 0) {
        (void)atomic_fetch_or_explicit(&node->key_len_flags, NODE_INLINE_USED,
                                       memory_order_relaxed);
        write->version = arena_inline_version(tab->arena, write->node);
    } else {
        write->version = arena_version_create(tab->arena);
        if (write->version == 0)
            return ARMDB_NOMEM;
    }
    version = arena_version(tab->arena, write->version);
    version->value_len = value_len;
    older = atomic_load_explicit(&node->head, memory_order_relaxed);
    if (older != 0 || value_len == VERSION_DELETED)
        write->txn->drops = true;
    atomic_store_explicit(&version->older, older, memory_order_relaxed);
    atomic_store_explicit(&version->location, location, memory_order_relaxed);
    atomic_store_explicit(&version->word, (uint64_t)(uintptr_t)write,
                          memory_order_relaxed);
    /* Publishes the version; pairs with the acquire in version_visible(). */
    atomic_store_explicit(&node->head, write->version, memory_order_release);
    return ARMDB_OK;
}

/* The transaction's own write that this version belongs to, NULL when it is another's
 * or settled. Partition lock held. */
static struct txn_write *own_write(const struct tab *tab, version_ref ref,
                                   const struct txn *txn)
{
    uint64_t word;
    struct txn_write *write;

    if (ref == 0)
        return NULL;
    word =
        atomic_load_explicit(&arena_version(tab->arena, ref)->word, memory_order_relaxed);
    if ((word & 1) != 0)
        return NULL;
    write = (struct txn_write *)(uintptr_t)word;
    return write->txn == txn ? write : NULL;
}

void write_undo(struct txn_write *write)
{
    struct tab *tab = write->tab;
    struct adb_mutex *lock = hashmap_lock(tab->map, write->hash);
    struct node *node = arena_node(tab->arena, write->node);
    struct version *version = arena_version(tab->arena, write->version);
    version_ref older = atomic_load_explicit(&version->older, memory_order_relaxed);
    struct txn_write *below = own_write(tab, older, write->txn);

    ADB_ASSERT(atomic_load_explicit(&node->head, memory_order_relaxed) == write->version);
    if (below != NULL)
        below->superseded = false;
    /* Pairs with the acquire in version_visible(). */
    atomic_store_explicit(&node->head, older, memory_order_release);
    retire_version(tab, write->node, write->version);
    if (older == 0)
        node_unlink(tab, write->node, write->hash);
    hashmap_unlock(lock);
}

/* ---- Settling ---- */

void write_settle(struct txn_write *write, uint64_t gsn)
{
    struct tab *tab = write->tab;
    struct adb_mutex *lock;
    struct node *node;
    struct version *version;
    version_ref older;

    if (write->superseded)
        return; /* dropped together with the write that superseded it */
    lock = hashmap_lock(tab->map, write->hash);
    node = arena_node(tab->arena, write->node);
    version = arena_version(tab->arena, write->version);
    older = atomic_load_explicit(&version->older, memory_order_relaxed);
    atomic_store_explicit(&version->older, 0, memory_order_release);
    /* From here on nobody follows the entry: its memory can be retired. */
    atomic_store_explicit(&version->word, (gsn << 1) | 1, memory_order_release);
    while (older != 0) {
        struct version *dropped = arena_version(tab->arena, older);
        version_ref next = atomic_load_explicit(&dropped->older, memory_order_relaxed);
        uint64_t word = atomic_load_explicit(&dropped->word, memory_order_relaxed);

        if ((word & 1) != 0) /* own versions below were never on the log */
            count_dead(tab, node, dropped);
        retire_version(tab, write->node, older);
        older = next;
    }
    if (version->value_len == VERSION_DELETED &&
        atomic_load_explicit(&node->head, memory_order_relaxed) == write->version)
        node_unlink(tab, write->node, write->hash);
    hashmap_unlock(lock);
}

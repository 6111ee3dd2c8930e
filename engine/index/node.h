/* node.h - one node per key, with its chain of versions, in an arena.
 *
 * A node holds the key and room for one version (the inline one); further versions
 * are blocks of their own in the same arena. Nodes and versions are named by 32-bit
 * references in units of 8 bytes (32 GiB an arena, one arena per table), 0 = none.
 *
 *   node: | head 4 | key_len+flags 4 | inline version 24 | key ... |   (8-aligned)
 *   version: | word 8 | location 8 | older 4 | value_len 4 |
 *
 * `head` names the newest version: the inline one by the reference of its own
 * bytes, so that both kinds are followed alike. Chains end with 0.
 *
 * Who may write: a node's head and a version's older link change under the lock of
 * the key's hash partition. Readers follow them without a lock, inside an epoch.
 * A version's value_len and older are set before it is linked. word and location
 * are atomics: see below. Layer 2. */
#ifndef ADB_ENGINE_INDEX_NODE_H
#define ADB_ENGINE_INDEX_NODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/rc.h"

struct arena;

typedef uint32_t node_ref;    /* names a node; 0 = none */
typedef uint32_t version_ref; /* names a version; 0 = none */

struct version {
    /* Settled: (GSN << 1) | 1, visible to every snapshot. Else the address of the
     * transaction's write entry (even): see store/. 0 while being built. */
    _Atomic uint64_t word;
    /* Where the record lies: see log/location.h; changed by compaction. */
    _Atomic uint64_t location;
    _Atomic uint32_t older;
    uint32_t value_len;
};

/* value_len of a tombstone. */
#define VERSION_DELETED UINT32_MAX

struct node {
    _Atomic version_ref head;
    _Atomic uint32_t key_len_flags; /* low 24 bits: key length; high 8: NODE_ flags */
    struct version first;           /* the inline version */
    unsigned char key[];
};

enum {
    NODE_KEY_LEN_BITS = 24,
    NODE_DEAD = 1 << 24,       /* unlinked from the index: look the key up anew */
    NODE_INLINE_USED = 1 << 25 /* the inline version is in a chain or not yet
                                  free of readers */
};

static inline uint32_t node_key_len(const struct node *node)
{
    return atomic_load_explicit(&node->key_len_flags, memory_order_relaxed) &
           ((UINT32_C(1) << NODE_KEY_LEN_BITS) - 1);
}

/* An arena of nodes and versions. Chunks grow from 64 KiB to 2 MiB (huge pages
 * asked for), never move, and go back to the system when the arena is destroyed.
 * Freed blocks are kept in size classes and used again. Thread-safe. */
enum armdb_rc arena_create(struct arena **out) ADB_MUST_CHECK;
void arena_destroy(struct arena *arena);

/* A new node with this key, head 0, inline version free. Its key is at most
 * 2^24-1 bytes. 0 when memory or the arena's 32 GiB are used up. */
node_ref arena_node_create(struct arena *arena, const void *key, size_t key_len);
version_ref arena_version_create(struct arena *arena);
/* At once: the caller knows that no reader can hold them (see epoch.h). */
void arena_node_free(struct arena *arena, node_ref ref);
void arena_version_free(struct arena *arena, version_ref ref);

/* References count units of 8 bytes in a space of 32 GiB, cut into slots of 256 KiB.
 * A chunk takes one slot or several in a row. Tables of slots are made when needed
 * and stay until the arena is destroyed. */
enum {
    ARENA_UNIT_BYTES = 8,
    ARENA_SLOT_UNIT_BITS = 15,
    ARENA_TABLE_BITS = 9,
    ARENA_TABLE_UNIT_BITS = ARENA_SLOT_UNIT_BITS + ARENA_TABLE_BITS,
    ARENA_TOP_BITS = 32 - ARENA_TABLE_UNIT_BITS
};

struct arena_table {
    _Atomic(unsigned char *) slots[1 << ARENA_TABLE_BITS]; /* NULL = free */
    uint32_t chunk_pages[1 << ARENA_TABLE_BITS];           /* node.c's */
};

/* The part of an arena that readers need; node.c has the rest. */
struct arena {
    _Atomic(struct arena_table *) tables[1 << ARENA_TOP_BITS];
};

static inline void *arena_address(const struct arena *arena, uint32_t ref)
{
    /* Both pair with the release stores in place_chunk() (node.c). */
    struct arena_table *table = atomic_load_explicit(
        &arena->tables[ref >> ARENA_TABLE_UNIT_BITS], memory_order_acquire);
    unsigned char *slot = atomic_load_explicit(
        &table->slots[(ref >> ARENA_SLOT_UNIT_BITS) & ((1u << ARENA_TABLE_BITS) - 1)],
        memory_order_acquire);

    return slot + (size_t)(ref & ((1u << ARENA_SLOT_UNIT_BITS) - 1)) * ARENA_UNIT_BYTES;
}

/* Address of a reference that is not 0; two dependent loads. */
static inline struct node *arena_node(const struct arena *arena, node_ref ref)
{
    return (struct node *)arena_address(arena, ref);
}

static inline struct version *arena_version(const struct arena *arena, version_ref ref)
{
    return (struct version *)arena_address(arena, ref);
}

/* The reference of a node's inline version. */
static inline version_ref arena_inline_version(const struct arena *arena, node_ref ref)
{
    (void)arena;
    return ref + (uint32_t)(offsetof(struct node, first) / ARENA_UNIT_BYTES);
}

uint64_t arena_bytes(const struct arena *arena);      /* taken from the system */
uint64_t arena_bytes_used(const struct arena *arena); /* in live blocks */

#endif

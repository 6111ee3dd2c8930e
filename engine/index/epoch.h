/* epoch.h - safe memory reclamation for lock-free readers.
 *
 * Epoch-based reclamation (Fraser, "Practical lock-freedom", 2004): a reader is
 * inside an epoch for the length of one call; memory that was unlinked is freed when
 * every reader that could have seen it has left. Slots belong to sessions, not to
 * threads: one slot is used by one thread at a time. Layer 2. */
#ifndef ADB_ENGINE_INDEX_EPOCH_H
#define ADB_ENGINE_INDEX_EPOCH_H

#include <stdint.h>

#include "engine/base/rc.h"

struct epoch;      /* one per store */
struct epoch_slot; /* one per session or background thread */

enum armdb_rc epoch_create(struct epoch **out) ADB_MUST_CHECK;
/* No slot may be registered. Frees everything retired. */
void epoch_destroy(struct epoch *epoch);
enum armdb_rc epoch_slot_create(struct epoch *epoch,
                                struct epoch_slot **out) ADB_MUST_CHECK;
void epoch_slot_destroy(struct epoch_slot *slot);

/* Nesting is not allowed. What is reachable at enter() stays valid until leave(). */
void epoch_enter(struct epoch_slot *slot);
void epoch_leave(struct epoch_slot *slot);

/* Memory that can be retired begins with this. */
struct epoch_item {
    struct epoch_item *next;
    uint64_t at;
    void (*free_item)(void *context, struct epoch_item *item);
    void *context;
};
/* Calls item->free_item(item->context, item) once no reader can hold the item, from
 * a later call of this or of epoch_collect(), on any thread, with no epoch lock held. */
void epoch_retire(struct epoch *epoch, struct epoch_item *item,
                  void (*free_item)(void *context, struct epoch_item *item),
                  void *context);
/* The same for what has no room for an item: a 64-bit handle (a node's index).
 * Batched: the handle is stored in a block, and a spare block is kept for hard times.
 * When no block can be had at all the handle is given up: never freed, so what it
 * names stays used until its arena is destroyed. (Waiting for the readers instead
 * could wait for the caller itself, or for one who waits for a lock the caller holds.)
 *
 * Free functions run while the caller of retire may hold locks up to
 * ADB_RANK_ORDER: they may take ADB_RANK_ARENA and above. */
void epoch_retire_handle(struct epoch *epoch, uint64_t handle,
                         void (*free_handle)(void *context, uint64_t handle),
                         void *context);
/* Moves the epoch on if it can and frees what is due. Cheap when nothing is. */
void epoch_collect(struct epoch *epoch);
/* Waits until everything retired before the call has been freed. The caller must
 * be outside an epoch. */
void epoch_drain(struct epoch *epoch);
uint64_t epoch_pending(struct epoch *epoch); /* items not yet freed */

#endif

/* snapshot.c - snapshots that several sessions read.
 *
 * A session's own snapshot is a number in its slot (session.c). A snapshot object is the
 * same number in a list of the store, so that whoever settles commits respects it as well
 * (oldest_snapshot_locked). A session that uses one puts the number into its own slot
 * while the object still protects it; from then on neither needs the other.
 *
 * This is the one place where a session's snapshot goes back. Two things elsewhere rely
 * on its going forward: a handle caches which rows its table has (newid.c), so the
 * counter that such caches are checked against moves; and a write moves an unread
 * snapshot forward, so this one counts as read. */
#include <string.h>

#include "engine/base/mem.h"
#include "engine/store/internal.h"

struct armdb_snapshot {
    struct armdb *store; /* borrowed */
    uint64_t moment;     /* constant */
    /* Guarded by the store's txn lock. */
    struct armdb_snapshot *next;
    struct armdb_snapshot *previous;
};

enum armdb_rc armdb_snapshot_open(struct armdb_session *session,
                                  struct armdb_snapshot **out, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct armdb *store = session->store;
    struct armdb_snapshot *snapshot;

    *out = NULL;
    rc = armdb_snapshot_acquire(session, err);
    if (rc != ARMDB_OK)
        return rc;
    snapshot = adb_alloc_zero(ADB_MEM_MISC, sizeof *snapshot);
    if (snapshot == NULL) {
        armdb_snapshot_release(session);
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory for a snapshot");
    }
    snapshot->store = store;
    snapshot->moment = session_snapshot(session);
    adb_mutex_lock(&store->txn_lock);
    snapshot->next = store->snapshots;
    if (snapshot->next != NULL)
        snapshot->next->previous = snapshot;
    store->snapshots = snapshot;
    adb_mutex_unlock(&store->txn_lock);
    armdb_snapshot_release(session);
    *out = snapshot;
    return ARMDB_OK;
}

void armdb_snapshot_close(struct armdb_snapshot *snapshot)
{
    struct armdb *store;
    struct armdb_session *session = NULL;
    struct armdb_error ignored;

    if (snapshot == NULL)
        return;
    store = snapshot->store;
    adb_mutex_lock(&store->txn_lock);
    if (snapshot->previous != NULL)
        snapshot->previous->next = snapshot->next;
    else
        store->snapshots = snapshot->next;
    if (snapshot->next != NULL)
        snapshot->next->previous = snapshot->previous;
    adb_mutex_unlock(&store->txn_lock);
    adb_free(ADB_MEM_MISC, snapshot);
    /* It may have been all that kept old versions alive. Without memory for a session the
     * next commit finds them. */
    if (armdb_session_open(store, &session, &ignored) == ARMDB_OK)
        store_settle(store, session->slot);
    armdb_session_close(session);
}

enum armdb_rc armdb_snapshot_use(struct armdb_session *session,
                                 const struct armdb_snapshot *snapshot,
                                 struct armdb_error *err)
{
    enum armdb_rc rc = session_check(session, err);

    if (rc != ARMDB_OK)
        return rc;
    if (snapshot->store != session->store)
        return ADB_FAIL(ARMDB_INVALID, err, "the snapshot is one of another store");
    if (session->snapshot_refs > 0 || session->txn != NULL)
        return ADB_FAIL(ARMDB_MISUSE, err,
                        "the session has a snapshot or a transaction of its own: end it "
                        "first");
    /* The object protects the moment until this is seen: closing it takes the lock under
     * which the slots are read. */
    atomic_store_explicit(&session->snapshot_slot, snapshot->moment + 1,
                          memory_order_seq_cst);
    session->snapshot = snapshot->moment;
    session->snapshot_read = true;
    session->snapshot_refs = 1;
    table_note_change(session->store);
    return ARMDB_OK;
}

uint64_t snapshots_oldest_locked(const struct armdb *store, uint64_t oldest)
{
    for (const struct armdb_snapshot *s = store->snapshots; s != NULL; s = s->next)
        if (s->moment < oldest)
            oldest = s->moment;
    return oldest;
}

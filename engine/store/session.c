/* session.c - sessions and their snapshots.
 *
 * A snapshot is a value of the visible counter. Taking one must not take a lock that
 * all readers share, and whoever settles commits must never overlook one:
 *
 *   reader:  s = visible; slot = s + 1; again unless visible is still s
 *   settler: limit = visible; limit = min(limit, every slot - 1)
 *
 * All of it in one total order (seq_cst). Either the settler sees the slot, or it read
 * the slot before the reader wrote it, and then its limit is at most the value that the
 * reader found unchanged afterwards: what it settles is visible to the reader anyway. */
#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/plant.h"
#include "engine/store/internal.h"

enum armdb_rc session_check(const struct armdb_session *session, struct armdb_error *err)
{
    /* Pairs with the store in the fork handler. */
    if (atomic_load_explicit(&session->store->foreign, memory_order_acquire))
        return ADB_FAIL(ARMDB_FORKED, err,
                        "the store %s was opened before fork(); open a new connection in "
                        "the child process",
                        session->store->path);
    return ARMDB_OK;
}

enum armdb_rc armdb_session_open(struct armdb *store, struct armdb_session **out,
                                 struct armdb_error *err)
{
    enum armdb_rc rc;
    struct armdb_session *session;

    *out = NULL;
    if (atomic_load_explicit(&store->foreign, memory_order_acquire))
        return ADB_FAIL(
            ARMDB_FORKED, err,
            "the store %s was opened before fork(); open it anew in the child "
            "process",
            store->path);
    session = adb_alloc_aligned(ADB_MEM_MISC, sizeof *session, 64);
    if (session == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory for a session");
    memset(session, 0, sizeof *session);
    session->store = store;
    session->statement = 1;
    session_init_wait(session);
    session->stripe =
        atomic_fetch_add_explicit(&store->next_stripe, 1, memory_order_relaxed) %
        COMMIT_STRIPES;
    session->seek_countdown = SAMPLE_EVERY;
    session->read_countdown = SAMPLE_EVERY;
    rc = epoch_slot_create(store->epoch, &session->slot);
    if (rc != ARMDB_OK) {
        adb_free_aligned(ADB_MEM_MISC, session);
        return ADB_FAIL(rc, err, "out of memory for a session");
    }
    adb_mutex_lock(&store->txn_lock);
    session->next = store->sessions;
    if (session->next != NULL)
        session->next->previous = session;
    store->sessions = session;
    adb_mutex_unlock(&store->txn_lock);
    *out = session;
    return ARMDB_OK;
}

static void keep_counters(struct armdb_session *session)
{
    struct store_stats *stats = &session->store->stats;

#define KEEP(name, unit) \
    stat_add(&stats->name, atomic_load_explicit(&session->name, memory_order_relaxed));
    SESSION_COUNTERS(KEEP)
#undef KEEP
}

void armdb_session_close(struct armdb_session *session)
{
    struct armdb *store;

    if (session == NULL)
        return;
    store = session->store;
    if (session->txn != NULL &&
        !atomic_load_explicit(&store->foreign, memory_order_acquire)) {
        struct armdb_error ignored; /* a failed abort verdict has wounded the store */

        (void)armdb_rollback(session, &ignored);
    }
    newid_give_orphans(session);
    adb_mutex_lock(&store->txn_lock);
    if (session->previous != NULL)
        session->previous->next = session->next;
    else
        store->sessions = session->next;
    if (session->next != NULL)
        session->next->previous = session->previous;
    /* Who still sleeps over a transaction of this session must not lead others to it. */
    for (struct armdb_session *s = store->sessions; s != NULL; s = s->next)
        if (s->waits_for == session)
            s->waits_for = NULL;
    if (!ADB_PLANTED("closed_session_forgotten"))
        keep_counters(
            session); /* in one step with leaving the list: nothing counts twice */
    adb_mutex_unlock(&store->txn_lock);
    epoch_slot_destroy(session->slot);
    adb_free_aligned(ADB_MEM_MISC, session);
}

/* ---- Snapshots ---- */

void session_snapshot_refresh(struct armdb_session *session)
{
    struct armdb *store = session->store;
    uint64_t now;

    /* Before the slot: who reads the slot finds the time of this snapshot, or of one that
     * was taken since. */
    atomic_store_explicit(&session->snapshot_since, adb_mono_coarse_ns(),
                          memory_order_relaxed);
    do {
        now = atomic_load_explicit(&store->visible, memory_order_seq_cst);
        /* One total order with oldest_snapshot_locked(): see the essay. */
        atomic_store_explicit(&session->snapshot_slot, now + 1, memory_order_seq_cst);
    } while (atomic_load_explicit(&store->visible, memory_order_seq_cst) != now);
    session->snapshot = now;
    session->snapshot_read = false;
}

uint64_t session_snapshot(const struct armdb_session *session)
{
    ADB_ASSERT(session->snapshot_refs > 0);
    return session->snapshot;
}

void session_snapshot_advance(struct armdb_session *session)
{
    if (session->snapshot_refs == 0)
        return;
    session->snapshot =
        atomic_load_explicit(&session->store->visible, memory_order_seq_cst);
    session->snapshot_read = false;
}

enum armdb_rc armdb_snapshot_acquire(struct armdb_session *session,
                                     struct armdb_error *err)
{
    enum armdb_rc rc = session_check(session, err);

    if (rc != ARMDB_OK)
        return rc;
    if (session->snapshot_refs++ == 0)
        session_snapshot_refresh(session);
    return ARMDB_OK;
}

void armdb_snapshot_release(struct armdb_session *session)
{
    struct armdb *store = session->store;
    uint64_t held;

    ADB_ASSERT(session->snapshot_refs > 0);
    if (--session->snapshot_refs > 0)
        return;
    held = atomic_load_explicit(&session->snapshot_slot, memory_order_relaxed) - 1;
    /* Readers' loads come before it: what it protected may be freed now. */
    atomic_store_explicit(&session->snapshot_slot, 0, memory_order_release);
    if (session->orphans != NULL)
        newid_give_orphans(session);
    /* An old snapshot may have been all that kept old versions alive. */
    if (atomic_load_explicit(&store->unsettled, memory_order_relaxed) > 0 &&
        held < atomic_load_explicit(&store->visible, memory_order_relaxed))
        store_settle(store, session->slot);
}

bool armdb_snapshot_is_stale(const struct armdb_session *session)
{
    return session->snapshot_refs > 0 && session->snapshot_read &&
           session_snapshot(session) <
               /* Pairs with the release in publish_locked(). */
               atomic_load_explicit(&session->store->noticed, memory_order_acquire);
}

uint64_t oldest_snapshot_locked(struct armdb *store)
{
    uint64_t oldest = atomic_load_explicit(&store->visible, memory_order_seq_cst);

    for (struct armdb_session *s = store->sessions; s != NULL; s = s->next) {
        uint64_t slot = atomic_load_explicit(&s->snapshot_slot, memory_order_seq_cst);

        if (slot != 0 && slot - 1 < oldest)
            oldest = slot - 1;
    }
    return hooks_oldest_locked(store, snapshots_oldest_locked(store, oldest));
}

void armdb_statement_begin(struct armdb_session *session)
{
    session->statement++;
}

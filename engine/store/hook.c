/* hook.c - write hooks: a caller's function is told of every committed change.
 *
 * The queue of committed transactions is in the order of their stamps, and nothing in it
 * is settled while a snapshot from before it is held. A hook is such a holder: its mark
 * `delivered` counts as a snapshot in oldest_snapshot_locked(), so whatever it has not
 * been told of still has its versions, the new one and the one that it superseded. No
 * change is copied or queued anew, and values are read only if the hook asks for them.
 *
 * Who calls. The thread that commits, behind the commit and before armdb_commit()
 * returns, with no lock held:
 *
 *   commit with stamp s:   for each hook:  while delivered < s:
 *                              nobody calls it: call it for the first undelivered commit
 *                              else:            wait for its turn
 *
 * So a hook is called by one thread at a time, commit by commit, and a committer helps
 * with those before its own at most. The mark moves only behind the call.
 *
 * Inside a call. A hook may read, write and commit through a session of its own. A thread
 * that is inside a call never waits for another's (they could wait for each other in a
 * ring): where a hook is at work already, the commit is noted as owed, and whoever is at
 * work goes on with it before it leaves.
 *
 * Replay. A new hook takes its mark and a snapshot in one step with all commits (under
 * the txn lock). While it is told of the snapshot's rows, committers pass it by; then it
 * catches up from its mark: nothing is lost and nothing comes twice.
 *
 * Tables are known by their id. A transaction that gave a table another id tells so first
 * (CLEAR), then come the rows that it wrote under the new one. */
#include <string.h>

#include "engine/base/mem.h"
#include "engine/store/internal.h"

enum { WATCH_ROWS = 64 };  /* a replay asks so often whether to stop */
#define ID_GONE UINT64_MAX /* 0 is the catalogue's */

struct armdb_hook {
    struct armdb *store; /* constant, as the next three */
    void (*call)(void *arg, struct armdb_change *change);
    void *arg;
    size_t table_count;

    /* Guarded by the store's txn lock. */
    struct armdb_hook *next;
    struct txn *first;  /* the first undelivered commit; NULL: none */
    uint64_t delivered; /* it was told of all commits up to this stamp */
    uint64_t owed;      /* commits that a thread inside a call left to others */
    bool running;       /* somebody is at work on it */
    bool replaying;     /* by who adds it; committers pass it by */
    bool removed;       /* no call begins any more */
    bool orphaned;      /* who is at work frees it */

    uint64_t ids[]; /* of the tables, or ID_GONE; of who is at work, or txn lock */
};

/* One change while a hook looks at it. */
struct change {
    struct armdb_change shown; /* first: what the hook is given */
    struct armdb_session *session;
    struct armdb_cursor *cursor;   /* of a replay, else NULL */
    const struct txn_write *write; /* NULL: no single row */
    struct armdb_value value;
    struct armdb_value old;
};

/* Calls that this thread is inside of. */
static _Thread_local uint32_t inside;

/* ---- What a hook can ask ---- */

static enum armdb_rc fetch_version(const struct change *change,
                                   const struct version *version,
                                   struct armdb_value *value, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct fetch fetch;

    stat_bump(&change->session->values_read, 1);
    fetch.tab = change->write->tab;
    fetch.value_len = version->value_len;
    fetch.key = change->shown.key;
    fetch.key_len = change->shown.key_len;
    for (;;) {
        /* Pairs with the release of who moved the record or put it into the log. */
        fetch.location = atomic_load_explicit(&version->location, memory_order_acquire);
        rc = fetch_value(change->session, &fetch, value, err);
        if (rc != ARMDB_NOT_FOUND)
            return rc;
        /* The record moved meanwhile; if it did not, the index is wrong. */
        if (atomic_load_explicit(&version->location, memory_order_acquire) ==
            fetch.location)
            return ADB_FAIL(ARMDB_INTERNAL, err,
                            "the index points into a segment that is gone");
    }
}

enum armdb_rc armdb_change_value(struct armdb_change *shown, struct armdb_value *value,
                                 struct armdb_error *err)
{
    struct change *change = (struct change *)(void *)shown;
    enum armdb_rc rc = ARMDB_OK;

    memset(value, 0, sizeof *value);
    if (change->cursor != NULL)
        return armdb_cursor_value(change->cursor, value, err);
    if (change->write == NULL || change->write->kind != WRITE_PUT)
        return ARMDB_NOT_FOUND;
    if (change->value.owner == NULL)
        rc = fetch_version(
            change, arena_version(change->write->tab->arena, change->write->version),
            &change->value, err);
    if (rc == ARMDB_OK)
        *value = change->value;
    return rc;
}

enum armdb_rc armdb_change_old(struct armdb_change *shown, struct armdb_value *value,
                               struct armdb_error *err)
{
    struct change *change = (struct change *)(void *)shown;
    const struct txn_write *write = change->write;
    const struct version *version;
    enum armdb_rc rc = ARMDB_OK;
    uint64_t word;

    memset(value, 0, sizeof *value);
    if (write == NULL || !write->committed_live)
        return ARMDB_NOT_FOUND;
    version = arena_version(write->tab->arena, write->version);
    do { /* down to the one from before the transaction: it is kept until it is settled */
        version =
            arena_version(write->tab->arena,
                          atomic_load_explicit(&version->older, memory_order_acquire));
        word = atomic_load_explicit(&version->word, memory_order_acquire);
    } while ((word & 1) == 0 &&
             ((const struct txn_write *)(uintptr_t)word)->txn == write->txn);
    if (change->old.owner == NULL)
        rc = fetch_version(change, version, &change->old, err);
    if (rc == ARMDB_OK)
        *value = change->old;
    return rc;
}

/* ---- Telling ---- */

static void tell(struct armdb_hook *hook, struct change *change)
{
    inside++;
    hook->call(hook->arg, &change->shown);
    inside--;
    armdb_value_release(&change->value);
    armdb_value_release(&change->old);
}

/* The table's place among the hook's; table_count when it is none of them. */
static size_t find_table(const struct armdb_hook *hook, uint64_t id)
{
    size_t i = 0;

    while (i < hook->table_count && hook->ids[i] != id)
        i++;
    return i;
}

static void tell_swaps(struct armdb_session *session, struct armdb_hook *hook,
                       const struct txn *txn, uint64_t stamp)
{
    for (size_t i = 0; i < txn->swap_count; i++) {
        const struct tab_swap *swap = &txn->swaps[i];
        struct change change;
        size_t table = find_table(hook, swap->old->id);

        if (table == hook->table_count)
            continue;
        hook->ids[table] = swap->fresh != NULL ? swap->fresh->id : ID_GONE;
        memset(&change, 0, sizeof change);
        change.session = session;
        change.shown.table = table;
        change.shown.commit = stamp;
        change.shown.kind = swap->fresh != NULL ? ARMDB_CHANGE_CLEAR : ARMDB_CHANGE_DROP;
        tell(hook, &change);
    }
}

static void tell_row(struct armdb_session *session, struct armdb_hook *hook,
                     const struct txn_write *write, uint64_t stamp)
{
    const struct node *node = arena_node(write->tab->arena, write->node);
    struct change change;

    memset(&change, 0, sizeof change);
    change.shown.table = find_table(hook, write->tab->id);
    if (change.shown.table == hook->table_count)
        return;
    change.session = session;
    change.write = write;
    change.shown.commit = stamp;
    change.shown.kind = write->kind == WRITE_DELETE ? ARMDB_CHANGE_DELETE
                        : write->committed_live     ? ARMDB_CHANGE_UPDATE
                                                    : ARMDB_CHANGE_INSERT;
    change.shown.key = node->key;
    change.shown.key_len = node_key_len(node);
    if (write->kind == WRITE_PUT)
        change.shown.value_len =
            arena_version(write->tab->arena, write->version)->value_len;
    tell(hook, &change);
}

static void tell_commit(struct armdb_session *session, struct armdb_hook *hook,
                        const struct txn *txn, uint64_t stamp)
{
    tell_swaps(session, hook, txn, stamp);
    /* A committed transaction's list begins with its first write. */
    for (const struct txn_write *write = txn->last; write != NULL;
         write = write->previous)
        if (!write->superseded && write->kind != WRITE_LOCK &&
            (write->kind != WRITE_DELETE || write->committed_live))
            tell_row(session, hook, write, stamp);
}

/* Has the transaction anything for this hook? */
static bool concerns(const struct armdb_hook *hook, const struct txn *txn)
{
    if (txn->silent)
        return false;
    for (size_t i = 0; i < txn->swap_count; i++)
        if (find_table(hook, txn->swaps[i].old->id) < hook->table_count)
            return true;
    for (size_t i = 0; i < txn->tab_count; i++)
        if (txn->tabs[i].writes > 0 &&
            find_table(hook, txn->tabs[i].tab->id) < hook->table_count)
            return true;
    return false;
}

/* ---- Whose turn it is ---- */

static void unlink_hook_locked(struct armdb *store, struct armdb_hook *hook)
    ADB_REQUIRES(store->txn_lock)
{
    struct armdb_hook **link = &store->hooks;

    while (*link != hook)
        link = &(*link)->next;
    *link = hook->next;
}

/* Tells the hook, at which nobody is at work, of its first undelivered commit. */
static void deliver_one_locked(struct armdb *store, struct armdb_session *session,
                               struct armdb_hook *hook) ADB_REQUIRES(store->txn_lock)
{
    struct txn *txn = hook->first;
    uint64_t stamp = atomic_load_explicit(&txn->stamp, memory_order_relaxed);

    ADB_ASSERT(stamp > hook->delivered);
    if (concerns(hook, txn)) {
        hook->running = true;
        adb_mutex_unlock(&store->txn_lock);
        tell_commit(session, hook, txn, stamp);
        adb_mutex_lock(&store->txn_lock);
        hook->running = false;
        adb_cond_broadcast(&store->hook_turn);
    }
    hook->delivered = stamp;
    hook->first = txn->next_committed;
    if (hook->orphaned) {
        unlink_hook_locked(store, hook);
        adb_free(ADB_MEM_MISC, hook);
    }
}

/* A hook that has not been told of the commit `stamp` or of one that is owed; one at
 * which nobody is at work if there is one. */
static struct armdb_hook *find_late_locked(struct armdb *store, uint64_t stamp)
    ADB_REQUIRES(store->txn_lock)
{
    struct armdb_hook *busy = NULL;

    for (struct armdb_hook *hook = store->hooks; hook != NULL; hook = hook->next) {
        uint64_t goal = stamp > hook->owed ? stamp : hook->owed;

        if (hook->replaying || hook->removed || hook->delivered >= goal)
            continue;
        if (!hook->running)
            return hook;
        busy = hook;
    }
    return inside > 0 ? NULL : busy; /* inside a call nobody is waited for */
}

bool hooks_note_locked(struct armdb *store, struct txn *txn)
{
    for (struct armdb_hook *hook = store->hooks; hook != NULL; hook = hook->next)
        if (hook->first == NULL)
            hook->first = txn;
    return store->hooks != NULL;
}

void hooks_deliver(struct armdb_session *session, uint64_t stamp)
{
    struct armdb *store = session->store;
    struct armdb_hook *hook;

    adb_mutex_lock(&store->txn_lock);
    if (inside > 0)
        for (hook = store->hooks; hook != NULL; hook = hook->next)
            if (hook->owed < stamp)
                hook->owed = stamp;
    while ((hook = find_late_locked(store, stamp)) != NULL) {
        if (hook->running)
            adb_cond_wait(&store->hook_turn, &store->txn_lock);
        else
            deliver_one_locked(store, session, hook);
    }
    adb_mutex_unlock(&store->txn_lock);
}

uint64_t hooks_oldest_locked(const struct armdb *store, uint64_t oldest)
{
    for (const struct armdb_hook *hook = store->hooks; hook != NULL; hook = hook->next)
        if (hook->delivered < oldest)
            oldest = hook->delivered;
    return oldest;
}

void hooks_forget(struct armdb *store)
{
    while (store->hooks != NULL) {
        struct armdb_hook *hook = store->hooks;

        store->hooks = hook->next;
        adb_free(ADB_MEM_MISC, hook);
    }
}

/* ---- Adding and removing ---- */

static enum armdb_rc make_hook(struct armdb *store,
                               const struct armdb_hook_options *options,
                               struct armdb_hook **out, struct armdb_error *err)
{
    struct armdb_hook *hook;

    *out = NULL;
    if (options->table_count == 0 || options->call == NULL)
        return ADB_FAIL(ARMDB_INVALID, err,
                        "a write hook needs at least one table and a function");
    hook = adb_alloc_zero(ADB_MEM_MISC,
                          sizeof *hook + options->table_count * sizeof hook->ids[0]);
    if (hook == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory for a write hook");
    hook->store = store;
    hook->call = options->call;
    hook->arg = options->arg;
    hook->table_count = options->table_count;
    hook->replaying = true;
    *out = hook;
    return ARMDB_OK;
}

/* Takes the hook's mark and the session's snapshot at one moment, between two commits. */
static enum armdb_rc join(struct armdb_session *session, struct armdb_hook *hook,
                          struct armdb_error *err)
{
    struct armdb *store = session->store;
    enum armdb_rc rc;

    adb_mutex_lock(&store->txn_lock);
    rc = armdb_snapshot_acquire(session, err);
    if (rc == ARMDB_OK) {
        hook->delivered = session_snapshot(session);
        hook->next = store->hooks;
        store->hooks = hook;
    }
    adb_mutex_unlock(&store->txn_lock);
    return rc;
}

static enum armdb_rc replay_rows(struct armdb_hook *hook, size_t at,
                                 struct armdb_cursor *cursor,
                                 const struct armdb_watch *watch, struct armdb_error *err)
{
    struct armdb_range all = {.low_bound = ARMDB_BOUND_OPEN};
    enum armdb_rc rc = armdb_cursor_seek_range(cursor, &all, err);

    for (uint64_t n = 0; rc == ARMDB_OK; n++) {
        struct change change;

        if (watch != NULL && watch->interrupted != NULL && n % WATCH_ROWS == 0 &&
            watch->interrupted(watch->arg))
            return ADB_FAIL(ARMDB_INTERRUPT, err, "interrupted");
        memset(&change, 0, sizeof change);
        change.cursor = cursor;
        change.shown.table = at;
        change.shown.kind = ARMDB_CHANGE_REPLAY;
        change.shown.commit = hook->delivered; /* stays while replaying */
        armdb_cursor_key(cursor, &change.shown.key, &change.shown.key_len);
        change.shown.value_len = armdb_cursor_value_len(cursor);
        tell(hook, &change);
        rc = armdb_cursor_next(cursor, err);
    }
    return rc == ARMDB_DONE ? ARMDB_OK : rc;
}

/* Finds one of the hook's tables at the snapshot and tells of its rows if asked to. */
static enum armdb_rc bring_table(struct armdb_session *session, struct armdb_hook *hook,
                                 size_t at, const struct armdb_hook_options *options,
                                 struct armdb_error *err)
{
    enum armdb_rc rc;
    unsigned char uuid[16];
    struct armdb_table *table = NULL;
    struct armdb_cursor *cursor = NULL;

    armdb_table_uuid(options->tables[at], uuid);
    rc = armdb_table_open(session, NULL, uuid, &table, err);
    if (rc == ARMDB_NOT_FOUND)
        rc = ADB_FAIL(rc, err, "the store holds no committed table %s",
                      armdb_table_name(options->tables[at]));
    if (rc != ARMDB_OK)
        goto out;
    rc = table_resolve(table, err);
    if (rc != ARMDB_OK)
        goto out;
    hook->ids[at] = table->tab->id;
    if (!options->replay)
        goto out;
    rc = armdb_cursor_open(session, table, &cursor, err);
    if (rc == ARMDB_OK)
        rc = replay_rows(hook, at, cursor, options->watch, err);
out:
    armdb_cursor_close(cursor);
    armdb_table_close(table);
    return rc;
}

enum armdb_rc armdb_hook_add(struct armdb *store,
                             const struct armdb_hook_options *options,
                             struct armdb_hook **out, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct armdb_session *session = NULL; /* of its own: the caller's is not disturbed */
    struct armdb_hook *hook = NULL;
    bool joined = false;

    *out = NULL;
    rc = make_hook(store, options, &hook, err);
    if (rc == ARMDB_OK)
        rc = armdb_session_open(store, &session, err);
    if (rc != ARMDB_OK)
        goto out;
    rc = join(session, hook, err);
    joined = rc == ARMDB_OK;
    for (size_t i = 0; i < options->table_count && rc == ARMDB_OK; i++)
        rc = bring_table(session, hook, i, options, err);
    if (!joined)
        goto out;
    adb_mutex_lock(&store->txn_lock);
    hook->replaying = false;
    if (rc != ARMDB_OK)
        unlink_hook_locked(store, hook);
    adb_mutex_unlock(&store->txn_lock);
    armdb_snapshot_release(session);
    if (rc != ARMDB_OK)
        goto out;
    *out = hook;
    hook = NULL; /* the store's list has it */
    /* What was committed meanwhile: relaxed, any newer value is another's to deliver. */
    hooks_deliver(session, atomic_load_explicit(&store->visible, memory_order_relaxed));
out:
    adb_free(ADB_MEM_MISC, hook);
    armdb_session_close(session);
    return rc;
}

enum armdb_rc armdb_hook_remove(struct armdb_hook *hook)
{
    struct armdb *store;
    struct armdb_session *session = NULL;
    struct armdb_error ignored;

    /* In the child of a fork locks are frozen: everything is left alone. */
    if (hook == NULL || atomic_load_explicit(&hook->store->foreign, memory_order_acquire))
        return ARMDB_OK;
    store = hook->store;
    adb_mutex_lock(&store->txn_lock);
    hook->removed = true;
    if (hook->running && inside > 0) {
        hook->orphaned = true;
        adb_mutex_unlock(&store->txn_lock);
        return ARMDB_BUSY;
    }
    while (hook->running)
        adb_cond_wait(&store->hook_turn, &store->txn_lock);
    unlink_hook_locked(store, hook);
    adb_mutex_unlock(&store->txn_lock);
    adb_free(ADB_MEM_MISC, hook);
    /* What it held back goes now, or, without memory for that, with the next commit. */
    if (armdb_session_open(store, &session, &ignored) == ARMDB_OK)
        store_settle(store, session->slot);
    armdb_session_close(session);
    return ARMDB_OK;
}

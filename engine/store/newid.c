/* newid.c - a table gets another id: clear, and what a handle points to.
 *
 * Rows belong to a table id (struct tab); the catalogue's row says which id a table has.
 * Clearing a table is one write of that row with a fresh id. So it is a write like any
 * other: it commits, rolls back and is read by snapshots; the old rows stay where they
 * are for those who still see the old id.
 *
 * Handles. A handle caches its tab for a value of catalog_changes, which moves whenever
 * such a row is written and whenever that is undone. It is cached only when the row seen
 * is the newest of its chain: then nothing but such a change can make another one right,
 * for the session's snapshots only go forward (or count as such a change: snapshot.c).
 * Else the catalogue is asked at every call.
 *
 * Writers. Whoever writes rows of a tab and whoever replaces it must not pass each other
 * unseen. Each announces itself first and looks for the other afterwards, in one total
 * order (seq_cst), so at least one of the two sees the other:
 *
 *   writer:    writers + 1, then: is there a replacer?    (once a transaction and table)
 *   replacer:  replacer = me, then: are there writers?
 *
 * Who meets the other gets ARMDB_BUSY, as for a row; who comes with a snapshot from
 * before the replacement, or would replace rows it cannot see, gets ARMDB_BUSY_SNAPSHOT.
 *
 * Freeing. When the replacement is settled no snapshot sees the old rows. They leave the
 * store's list of tables, their bytes are counted as dead, and their index is freed once
 * the last handle has moved on: by the keeper, off everybody's way. */
#include <string.h>
#include <time.h>

#include "engine/base/mem.h"
#include "engine/store/table.h"

enum { AWAIT_ROUNDS = 100 }; /* of 200 us, for open writers to end */

/* ---- What the catalogue says ---- */

/* A row of the catalogue as the session sees it. */
struct seen {
    char name[ARMDB_TABLE_NAME_BYTES_MAX + 1];
    size_t name_len;
    struct catalog_row row;   /* points into `value` */
    struct armdb_value value; /* pinned when found */
    bool found;
    bool newest; /* of its chain: no other session's write lies above */
};

/* Finds the version of a node that the session sees. Inside an epoch. */
static void look_at_node(struct armdb_session *session, node_ref ref, struct seen *seen,
                         struct fetch *fetch)
{
    const struct tab *catalog = session->store->catalog;
    struct node *node = arena_node(catalog->arena, ref);
    version_ref head = atomic_load_explicit(&node->head, memory_order_acquire);
    struct version *version =
        version_visible(catalog, node, session->snapshot, session->txn, UINT32_MAX);

    seen->found = version != NULL && version->value_len != VERSION_DELETED;
    if (!seen->found)
        return;
    seen->newest = head != 0 && arena_version(catalog->arena, head) == version;
    fetch->tab = catalog;
    /* Pairs with the release of who moved the record or put it into the log. */
    fetch->location = atomic_load_explicit(&version->location, memory_order_acquire);
    fetch->value_len = version->value_len;
    fetch->key = seen->name;
    fetch->key_len = seen->name_len;
}

/* The row named seen->name. */
static enum armdb_rc look_up(struct armdb_session *session, struct seen *seen,
                             struct armdb_error *err)
{
    enum armdb_rc rc;
    const struct tab *catalog = session->store->catalog;
    struct fetch fetch;

    do {
        node_ref ref;

        seen->found = false;
        epoch_enter(session->slot);
        ref = hashmap_find(catalog->map,
                           hashmap_hash(catalog->map, seen->name, seen->name_len),
                           seen->name, seen->name_len);
        if (ref != 0)
            look_at_node(session, ref, seen, &fetch);
        epoch_leave(session->slot);
        if (!seen->found)
            return ARMDB_OK;
        rc = fetch_value(session, &fetch, &seen->value, err);
    } while (rc == ARMDB_NOT_FOUND); /* the record was moved meanwhile */
    if (rc == ARMDB_OK)
        rc = catalog_decode(&seen->value, &seen->row, err);
    if (rc != ARMDB_OK)
        armdb_value_release(&seen->value);
    return rc;
}

/* The name that follows *seen's in the catalogue; false at its end. */
static bool next_name(struct armdb_session *session, struct seen *seen, bool first)
{
    const struct tab *catalog = session->store->catalog;
    struct order_from from = {first ? NULL : seen->name, seen->name_len, false, false};
    node_ref ref;
    size_t count;

    epoch_enter(session->slot);
    order_scan(catalog->order, &from, &ref, 1, &count);
    if (count > 0) {
        const struct node *node = arena_node(catalog->arena, ref);
        size_t len = node_key_len(node);

        seen->name_len =
            len < ARMDB_TABLE_NAME_BYTES_MAX ? len : ARMDB_TABLE_NAME_BYTES_MAX;
        memcpy(seen->name, node->key, seen->name_len);
        seen->name[seen->name_len] = '\0';
    }
    epoch_leave(session->slot);
    return count > 0;
}

/* The row of the table's uuid: under the name that the handle knows, else, when somebody
 * has renamed it, wherever it is. The caller releases seen->value. */
static enum armdb_rc find_table(const struct armdb_table *table, struct seen *seen,
                                struct armdb_error *err)
{
    enum armdb_rc rc;
    bool first = true;

    memset(seen, 0, sizeof *seen);
    seen->name_len = strlen(table->name);
    memcpy(seen->name, table->name, seen->name_len + 1);
    rc = look_up(table->session, seen, err);
    if (rc != ARMDB_OK ||
        (seen->found && memcmp(seen->row.uuid, table->uuid, sizeof table->uuid) == 0))
        return rc;
    armdb_value_release(&seen->value);
    for (; next_name(table->session, seen, first); first = false) {
        rc = look_up(table->session, seen, err);
        if (rc != ARMDB_OK ||
            (seen->found && memcmp(seen->row.uuid, table->uuid, sizeof table->uuid) == 0))
            return rc;
        armdb_value_release(&seen->value);
    }
    seen->found = false;
    return ARMDB_OK;
}

/* ---- Handles ---- */

static enum armdb_rc move_handle(struct armdb_table *table, uint64_t id)
{
    enum armdb_rc rc;
    struct armdb *store = table->session->store;
    struct tab *tab;

    rc = tab_of_id(store, id, &tab);
    if (rc != ARMDB_OK)
        return rc;
    adb_mutex_lock(&store->catalog_lock);
    table->tab->handles--;
    tab->handles++;
    table->tab = tab;
    adb_mutex_unlock(&store->catalog_lock);
    return ARMDB_OK;
}

enum armdb_rc table_resolve_anew(struct armdb_table *table, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct seen seen;
    uint64_t changes = atomic_load_explicit(&table->session->store->catalog_changes,
                                            memory_order_acquire);

    if (table->name == NULL)
        return ARMDB_OK; /* the catalogue: its id is fixed */
    rc = find_table(table, &seen, err);
    if (rc != ARMDB_OK)
        return rc;
    /* A table that was dropped: what still uses the handle goes on with its rows. */
    if (seen.found && seen.row.id != table->tab->id) {
        rc = move_handle(table, seen.row.id);
        if (rc != ARMDB_OK)
            rc = ADB_FAIL(rc, err, "out of memory opening table %s", table->name);
    }
    if (rc == ARMDB_OK)
        table->resolved = seen.found && seen.newest ? changes : 0;
    armdb_value_release(&seen.value);
    return rc;
}

void table_note_change(struct armdb *store)
{
    /* Pairs with the acquire in table_resolve(). */
    (void)atomic_fetch_add_explicit(&store->catalog_changes, 1, memory_order_acq_rel);
}

/* ---- Writers and replacers ---- */

enum armdb_rc tab_join(struct armdb_session *session, struct tab *tab)
{
    uint64_t replacer;

    atomic_store_explicit(&tab->last_writer, session->txn->id, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&tab->users, 1, memory_order_relaxed);
    /* One total order with claim(): see the essay. */
    (void)atomic_fetch_add_explicit(&tab->writers, 1, memory_order_seq_cst);
    replacer = atomic_load_explicit(&tab->replacer, memory_order_seq_cst);
    if (replacer == 0)
        return ARMDB_OK;
    (void)atomic_fetch_sub_explicit(&tab->writers, 1, memory_order_release);
    (void)atomic_fetch_sub_explicit(&tab->users, 1, memory_order_release);
    if (replacer == TAB_REPLACED)
        return ARMDB_BUSY_SNAPSHOT;
    session->busy_txn = replacer;
    session->busy_any = false;
    return ARMDB_BUSY;
}

static bool has_joined(const struct txn *txn, const struct tab *tab)
{
    for (size_t i = 0; i < txn->tab_count; i++)
        if (txn->tabs[i].tab == tab)
            return true;
    return false;
}

/* With the claim made no new writer gets in: a short wait lets those go that are about
 * to commit, so that a stream of them cannot keep a replacement off for ever. */
static bool await_writers(const struct tab *tab, uint32_t own)
{
    struct timespec pause = {0, 200000};

    for (int i = 0; i < AWAIT_ROUNDS; i++) {
        /* One total order with tab_join(): see the essay. */
        if (atomic_load_explicit(&tab->writers, memory_order_seq_cst) <= own)
            return true;
        (void)nanosleep(&pause, NULL);
    }
    return false;
}

/* Makes the transaction the one that replaces these rows. */
static enum armdb_rc claim(struct armdb_session *session, struct tab *tab)
{
    struct txn *txn = session->txn;
    uint64_t replacer = 0;
    uint32_t own = has_joined(txn, tab) ? 1 : 0;

    /* One total order with tab_join(): see the essay. */
    if (!atomic_compare_exchange_strong_explicit(&tab->replacer, &replacer, txn->id,
                                                 memory_order_seq_cst,
                                                 memory_order_seq_cst)) {
        if (replacer == TAB_REPLACED)
            return ARMDB_BUSY_SNAPSHOT;
        session->busy_txn = replacer;
        session->busy_any = false;
        return ARMDB_BUSY;
    }
    if (!await_writers(tab, own)) {
        session->busy_txn = atomic_load_explicit(&tab->last_writer, memory_order_relaxed);
        session->busy_any = true; /* that one may have ended, and another not */
        atomic_store_explicit(&tab->replacer, 0, memory_order_seq_cst);
        return ARMDB_BUSY;
    }
    /* Who left as a writer before had stored it. */
    if (atomic_load_explicit(&tab->changed, memory_order_relaxed) >
        session_snapshot(session)) {
        if (session->snapshot_read) {
            atomic_store_explicit(&tab->replacer, 0, memory_order_seq_cst);
            return ARMDB_BUSY_SNAPSHOT;
        }
        session_snapshot_refresh(session);
    }
    return ARMDB_OK;
}

static struct tab_swap *add_swap(struct txn *txn)
{
    if (txn->swap_count == txn->swap_capacity) {
        size_t capacity = txn->swap_capacity * 2 + 2;
        struct tab_swap *swaps =
            adb_realloc(ADB_MEM_TXN, txn->swaps, capacity * sizeof *swaps);

        if (swaps == NULL)
            return NULL;
        txn->swaps = swaps;
        txn->swap_capacity = capacity;
    }
    return &txn->swaps[txn->swap_count];
}

bool newid_note_drop(struct txn *txn, struct tab *tab)
{
    struct tab_swap *swap = add_swap(txn);

    if (swap == NULL)
        return false;
    swap->old = tab;
    swap->fresh = NULL;
    swap->write = txn->last;
    txn->swap_count++;
    return true;
}

static void add_orphan(struct armdb_session *session, struct tab *tab)
{
    tab->next_retired = session->orphans;
    session->orphans = tab;
}

/* Writes the catalogue's row with a new id. The rows are claimed. */
static enum armdb_rc write_row(struct armdb_table *table, const struct seen *seen,
                               struct armdb_error *err)
{
    enum armdb_rc rc;
    struct armdb_session *session = table->session;
    struct armdb *store = session->store;
    struct armdb_table catalog = catalog_handle(session);
    struct catalog_row row = seen->row;
    struct tab_swap *swap = add_swap(session->txn);
    struct tab *fresh = NULL;
    unsigned char *bytes;
    size_t len = 0;

    row.id = atomic_fetch_add_explicit(&store->log.next_table, 1, memory_order_relaxed);
    bytes = catalog_encode(&row, &len);
    if (swap == NULL || bytes == NULL || tab_of_id(store, row.id, &fresh) != ARMDB_OK) {
        rc = ADB_FAIL(ARMDB_NOMEM, err, "out of memory clearing table %s", table->name);
        goto out;
    }
    rc = armdb_put(session, &catalog, seen->name, seen->name_len, bytes, len, err);
    if (rc != ARMDB_OK) {
        add_orphan(session, fresh);
        goto out;
    }
    swap->old = table->tab;
    swap->fresh = fresh;
    swap->write = session->txn->last;
    session->txn->swap_count++;
    table->resolved = 0;
    table_note_change(store);
out:
    adb_free(ADB_MEM_MISC, bytes);
    return rc;
}

static enum armdb_rc explain(struct armdb_session *session, enum armdb_rc rc,
                             struct armdb_error *err)
{
    struct store_stats *stats = &session->store->stats;

    if (rc == ARMDB_BUSY) {
        stat_add(&stats->busy, 1);
        return ADB_FAIL(rc, err, "another transaction has written to the table");
    }
    if (rc == ARMDB_BUSY_SNAPSHOT) {
        stat_add(&stats->busy_snapshot, 1);
        return ADB_FAIL(rc, err,
                        "the table changed after this transaction's snapshot was taken; "
                        "roll back and try again");
    }
    return rc;
}

enum armdb_rc armdb_table_clear(struct armdb_session *session, struct armdb_table *table,
                                struct armdb_error *err)
{
    enum armdb_rc rc;
    struct txn *txn;
    struct seen seen;
    bool again;

    memset(&seen, 0, sizeof seen);
    rc = txn_for_write(session, &txn, err);
    do {
        again = false;
        if (rc == ARMDB_OK)
            rc = table_resolve(table, err);
        if (rc != ARMDB_OK)
            return rc;
        rc = claim(session, table->tab);
        if (rc == ARMDB_BUSY_SNAPSHOT && !session->snapshot_read) {
            session_snapshot_refresh(session); /* somebody else was faster */
            rc = ARMDB_OK;
            again = true;
        }
    } while (again);
    if (rc != ARMDB_OK)
        return explain(session, rc, err);
    rc = find_table(table, &seen, err);
    if (rc == ARMDB_OK && !seen.found)
        rc = ADB_FAIL(ARMDB_NOT_FOUND, err, "the store holds no table %s any more",
                      table->name);
    if (rc == ARMDB_OK)
        rc = write_row(table, &seen, err);
    if (rc != ARMDB_OK)
        atomic_store_explicit(&table->tab->replacer, 0, memory_order_seq_cst);
    else if (table->sync > txn->sync)
        txn->sync = table->sync;
    armdb_value_release(&seen.value);
    return rc;
}

/* ---- The transaction's end ---- */

void newid_undone(struct armdb_session *session, const struct txn_write *write)
{
    struct txn *txn = session->txn;
    struct tab_swap *swap = &txn->swaps[txn->swap_count - 1];

    if (swap->write != write) /* the newest first, as writes are undone */
        return;
    txn->swap_count--;
    if (swap->fresh == NULL)
        return;
    add_orphan(session, swap->fresh);
    table_note_change(session->store);
    atomic_store_explicit(&swap->old->replacer, 0, memory_order_seq_cst);
}

void newid_committed(struct txn *txn)
{
    for (size_t i = 0; i < txn->swap_count; i++)
        if (txn->swaps[i].fresh != NULL)
            atomic_store_explicit(&txn->swaps[i].old->replacer, TAB_REPLACED,
                                  memory_order_seq_cst);
}

void newid_left(struct txn *txn)
{
    for (size_t i = 0; i < txn->tab_count; i++)
        /* Pairs with the load in claim(): it sees `changed`, too. */
        (void)atomic_fetch_sub_explicit(&txn->tabs[i].tab->writers, 1,
                                        memory_order_seq_cst);
}

void newid_forgotten(struct txn *txn)
{
    for (size_t i = 0; i < txn->tab_count; i++)
        /* Pairs with the acquire in is_unused(). */
        (void)atomic_fetch_sub_explicit(&txn->tabs[i].tab->users, 1,
                                        memory_order_release);
}

static void retire(struct armdb *store, struct tab *tab)
{
    adb_mutex_lock(&store->keeper_lock);
    tab->next_retired = store->retired;
    store->retired = tab;
    atomic_store_explicit(&store->has_retired, true, memory_order_relaxed);
    adb_mutex_unlock(&store->keeper_lock);
}

void newid_settled(struct armdb *store, struct txn *txn)
{
    for (size_t i = 0; i < txn->swap_count; i++)
        retire(store, txn->swaps[i].old);
    newid_forgotten(txn);
}

void newid_give_orphans(struct armdb_session *session)
{
    while (session->orphans != NULL) {
        struct tab *tab = session->orphans;

        session->orphans = tab->next_retired;
        retire(session->store, tab);
    }
}

/* ---- Freeing ---- */

/* No transaction refers to the rows; a handle may still point to them, but finds
 * others before it is used, unless the table was dropped. Nor does a compaction change
 * where they are: their bytes would be counted as dead in one place and live in another.
 * Catalog lock held. */
static bool is_unused(const struct tab *tab)
{
    /* Pairs with the release of the last who left. */
    return !tab->moving && atomic_load_explicit(&tab->users, memory_order_acquire) == 0 &&
           (tab->handles == 0 ||
            atomic_load_explicit(&tab->replacer, memory_order_relaxed) == TAB_REPLACED);
}

static void unlist(struct armdb *store, struct tab *tab) ADB_REQUIRES(store->catalog_lock)
{
    struct tab **link = &store->tabs;

    while (*link != NULL && *link != tab)
        link = &(*link)->next;
    if (*link != NULL)
        *link = tab->next;
    tab->unlisted = true;
}

/* Takes one retired table to be counted (not yet unlisted), or to be freed. */
static struct tab *take_retired(struct armdb *store, bool *to_count)
{
    struct tab **link;
    struct tab *tab = NULL;

    adb_mutex_lock(&store->catalog_lock);
    adb_mutex_lock(&store->keeper_lock);
    for (link = &store->retired; *link != NULL; link = &(*link)->next_retired) {
        if ((*link)->unlisted ? (*link)->handles > 0 : !is_unused(*link))
            continue;
        tab = *link;
        *link = tab->next_retired;
        *to_count = !tab->unlisted;
        if (*to_count) {
            unlist(store, tab);
            store->reaping++;
        }
        break;
    }
    if (store->retired == NULL)
        atomic_store_explicit(&store->has_retired, false, memory_order_relaxed);
    adb_mutex_unlock(&store->keeper_lock);
    adb_mutex_unlock(&store->catalog_lock);
    return tab;
}

void newid_reap(struct armdb *store, struct epoch_slot *slot)
{
    struct tab *tab;
    bool to_count = false;

    while ((tab = take_retired(store, &to_count)) != NULL) {
        if (to_count) {
            tab_count_dead(tab, slot);
            adb_mutex_lock(&store->catalog_lock);
            store->reaping--;
            adb_mutex_unlock(&store->catalog_lock);
            retire(store, tab); /* to be freed when no handle is left */
        } else {
            epoch_drain(store->epoch);
            tab_destroy(tab);
        }
    }
}

/* txn.c - SQLite's transactions as the engine's.
 *
 * All tables of one store share one session, so the first of them that hears xSync
 * prepares for all (the others find it done), the first that hears xCommit publishes
 * for all, and savepoints, which SQLite announces to each table, count once. What SQLite
 * calls when, and why everything that can fail is done in xSync, is in sqlite-notes of
 * engine/DESIGN.md: xCommit's result is thrown away, and after xSync everything can
 * still follow: xRollback, more writes, another xSync. The engine takes all of it.
 *
 * In doubt. A prepared transaction without verdict counts as committed after a crash,
 * for SQLite finishes its own commit right after xSync. The one exception: an
 * explicit COMMIT that returns SQLITE_BUSY because a file database needs an exclusive
 * lock (only outside WAL mode). The program may then go away and do its work again
 * later. Such a transaction is prepared with the rule "aborted unless a verdict says
 * otherwise", which costs one more sync in xCommit (conn_is_explicit, conn_may_park).
 *
 * Savepoints. An id is announced to every table that takes part, and again to a table
 * that joins late, which must not hide the older one of the same id. SQLite's ids are
 * depths, and before an id is announced anew everything at or above it has been
 * released or rolled back to a lower one; so "higher than the highest set" tells a new
 * one from a repetition. An id that was never announced, because everything joined
 * later, is the start of the transaction to the engine.
 *
 * Reading. What is guaranteed:
 *   - All cursors of a statement, and of all statements that overlap, see one moment.
 *   - A transaction that has written reads its own writes over the moment it began with.
 *   - Inside BEGIN ... COMMIT the first read of an armdb table fixes the moment for
 *     all its reads, until the transaction ends. It holds for the store, not across
 *     two stores, and not while PRAGMA query_only is on (see below).
 * The last one needs to hear when a transaction ends that has written nothing. Virtual
 * tables hear that only when xBegin was called for them, and xBegin is called only for
 * writes. Hooks are the application's, and asking sqlite3_get_autocommit() later cannot
 * tell one transaction from the next. So at the first read inside an explicit
 * transaction a statement that inserts no row is run on a helper: the virtual table
 * temp.armdb_snapshot, of a module of its own. It takes no lock but on the connection's
 * private TEMP database, and from then on the helper hears xCommit or xRollback. It is
 * made while the first statement on a table on disk is prepared (not when the extension
 * is loaded: that would read the schema, and fix the encoding, before the application has
 * said anything), and lives as long as the connection, visible in TEMP's schema. Two
 * things show: after that first read changes() answers 0; and a ROLLBACK of the very
 * transaction in which it was made makes SQLite read its schema again. Where TEMP cannot
 * be written (query_only), and where other statements were running whenever one was
 * prepared, there is no helper, and each statement has a moment of its own.
 * A memory store belongs to one connection and needs none of this. */
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "ext/drop.h"
#include "ext/errmap.h"
#include "ext/vtab.h"

SQLITE_EXTENSION_INIT3

#define HELPER "armdb_snapshot"

enum {
    ENDING_MS = 2000
}; /* for a commit whose file lock has gone: mostly microseconds */

/* ---- Begin, sync, commit, rollback ---- */

/* Names the database file, whose lock lets one transaction write at a time. */
static uint64_t file_group(const struct vtab *vtab)
{
    const char *file = sqlite3_db_filename(vtab->conn->db, vtab->schema_name);
    uint64_t hash = file == NULL ? 0 : XXH3_64bits(file, strlen(file));

    return hash == 0 ? 1 : hash;
}

/* Tables in a database file are serializable, as SQLite's own are in WAL mode: the file's
 * lock lets one write at a time, and it must not build on an old moment. SQLite lets that
 * lock go before it calls xCommit: so first the one before is waited for, a short time.
 */
static int begin_serializable(struct vtab *vtab)
{
    struct armdb_session *session = vtab->store->session;
    enum armdb_rc rc;

    do {
        rc = armdb_begin_in_group(session, file_group(vtab), NULL);
    } while (rc == ARMDB_BUSY && armdb_wait(session, ENDING_MS) == ARMDB_OK);
    /* The message is SQLite's own for the code. */
    return rc == ARMDB_OK ? SQLITE_OK : errmap_to_sqlite(rc);
}

int vtab_begin(sqlite3_vtab *base)
{
    struct vtab *vtab = (struct vtab *)base;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    int rc = vtab_use(vtab);

    if (rc != SQLITE_OK)
        return rc;
    if (vtab->store->drops != NULL && !armdb_in_transaction(vtab->store->session))
        drop_settle(vtab->store, 1);
    if (!vtab->temp && !vtab->store->memory)
        rc = begin_serializable(vtab);
    else
        rc = errmap_vtab(base, armdb_begin(vtab->store->session, &error), &error);
    if (rc == SQLITE_OK)
        armdb_expect_write(vtab->store->session);
    if (rc == SQLITE_OK && !vtab->enlisted) {
        vtab->enlisted = true;
        vtab->store->enlisted++;
    }
    return rc;
}

int vtab_sync(sqlite3_vtab *base)
{
    struct vtab *vtab = (struct vtab *)base;
    struct conn_store *store = vtab->store;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    enum armdb_doubt doubt = ARMDB_DOUBT_COMMIT;
    enum armdb_rc prepared;
    int rc;

    if (store == NULL || !armdb_in_transaction(store->session))
        return SQLITE_OK;
    rc = drop_reap(store, &error);
    if (rc != SQLITE_OK)
        return errmap_set(base, rc, sqlite3_mprintf("%s", error.text));
    if (!store->memory && conn_is_explicit(store->conn) && conn_may_park(store->conn))
        doubt = ARMDB_DOUBT_ABORT;
    prepared = armdb_prepare(store->session, doubt, &error);
    rc = errmap_vtab(base, prepared, &error);
    /* SQLITE_BUSY from here would look like a COMMIT that can be tried again. */
    return rc == SQLITE_BUSY ? SQLITE_IOERR : rc;
}

/* Forgets that the table takes part; true when its store's transaction is still open. */
static bool leave(struct vtab *vtab)
{
    if (vtab->store == NULL)
        return false;
    if (vtab->enlisted) {
        vtab->enlisted = false;
        vtab->store->enlisted--;
    }
    return armdb_in_transaction(vtab->store->session);
}

static void transaction_ended(struct conn_store *store)
{
    drop_transaction_ended(store);
    conn_store_transaction_ended(store);
}

int vtab_commit(sqlite3_vtab *base)
{
    struct vtab *vtab = (struct vtab *)base;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    enum armdb_rc rc = ARMDB_OK;

    if (leave(vtab)) {
        rc = armdb_commit(vtab->store->session, &error);
        /* Nobody listens: the verdict could not be written, the store is wounded and
         * says so from now on. */
        if (rc != ARMDB_OK)
            sqlite3_log(errmap_to_sqlite(rc), "armdb: commit of %s: %s", vtab->name,
                        error.text);
        transaction_ended(vtab->store);
    }
    vtab->is_new = false;
    vtab->remade = false;
    return errmap_vtab(base, rc, &error);
}

int vtab_rollback(sqlite3_vtab *base)
{
    struct vtab *vtab = (struct vtab *)base;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    enum armdb_rc rc = ARMDB_OK;

    if (leave(vtab)) {
        rc = armdb_rollback(vtab->store->session, &error);
        if (rc != ARMDB_OK)
            sqlite3_log(errmap_to_sqlite(rc), "armdb: rollback of %s: %s", vtab->name,
                        error.text);
        transaction_ended(vtab->store);
    }
    vtab->undone = vtab->is_new;
    vtab->is_new = false;
    vtab->confirmed = false;
    if (vtab->remade && vtab->open_count == 0) {
        /* The memory table went with the transaction; the next use makes it anew. */
        vtab_free_spares(vtab);
        armdb_cursor_close(vtab->old_row);
        vtab->old_row = NULL;
        armdb_table_close(vtab->table);
        vtab->table = NULL;
        vtab->remade = false;
    }
    return errmap_vtab(base, rc, &error);
}

/* ---- Savepoints ---- */

int vtab_savepoint(sqlite3_vtab *base, int id)
{
    struct vtab *vtab = (struct vtab *)base;
    struct conn_store *store = vtab->store;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    enum armdb_rc rc;

    if (store == NULL || id <= store->savepoint_top)
        return SQLITE_OK;
    rc = armdb_savepoint(store->session, id, &error);
    if (rc == ARMDB_OK)
        store->savepoint_top = id;
    return errmap_vtab(base, rc, &error);
}

int vtab_release(sqlite3_vtab *base, int id)
{
    struct vtab *vtab = (struct vtab *)base;
    struct conn_store *store = vtab->store;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    enum armdb_rc rc;

    if (store == NULL || id > store->savepoint_top)
        return SQLITE_OK;
    rc = armdb_savepoint_release(store->session, id, &error);
    if (rc == ARMDB_OK)
        store->savepoint_top = id - 1;
    return errmap_vtab(base, rc, &error);
}

int vtab_rollback_to(sqlite3_vtab *base, int id)
{
    struct vtab *vtab = (struct vtab *)base;
    struct conn_store *store = vtab->store;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    enum armdb_rc rc;

    if (store == NULL || !armdb_in_transaction(store->session))
        return SQLITE_OK;
    rc = armdb_savepoint_rollback(store->session, id, &error);
    if (rc == ARMDB_OK && store->savepoint_top > id)
        store->savepoint_top = id;
    vtab->confirmed = false;
    return errmap_vtab(base, rc, &error);
}

/* ---- The helper table ---- */

struct helper {
    sqlite3_vtab base;
    struct conn *conn; /* counted */
};

static int helper_connect(sqlite3 *db, void *aux, int argc, const char *const *argv,
                          sqlite3_vtab **out, char **err)
{
    struct helper *helper;
    int rc;

    (void)argc;
    (void)argv;
    (void)err;
    *out = NULL;
    rc = sqlite3_declare_vtab(db, "CREATE TABLE x(unused)");
    if (rc != SQLITE_OK)
        return rc;
    helper = sqlite3_malloc64(sizeof *helper);
    if (helper == NULL)
        return SQLITE_NOMEM;
    memset(helper, 0, sizeof *helper);
    helper->conn = conn_acquire(aux);
    *out = &helper->base;
    return SQLITE_OK;
}

static int helper_create(sqlite3 *db, void *aux, int argc, const char *const *argv,
                         sqlite3_vtab **out, char **err)
{
    int rc = helper_connect(db, aux, argc, argv, out, err);

    if (rc == SQLITE_OK)
        ((struct conn *)aux)->hold_enlisted = true; /* by being created */
    return rc;
}

static int helper_disconnect(sqlite3_vtab *base)
{
    struct helper *helper = (struct helper *)base;

    /* Its creation may have been rolled back: the next table that is prepared makes it
     * again, if it is not there. */
    helper->conn->helper_made = false;
    helper->conn->helper_missing = false;
    conn_release(helper->conn);
    sqlite3_free(helper);
    return SQLITE_OK;
}

static int helper_best_index(sqlite3_vtab *base, sqlite3_index_info *info)
{
    (void)base;
    info->estimatedCost = 1.0;
    info->estimatedRows = 1;
    return SQLITE_OK;
}

static int helper_open(sqlite3_vtab *base, sqlite3_vtab_cursor **out)
{
    sqlite3_vtab_cursor *cursor = sqlite3_malloc64(sizeof *cursor);

    (void)base;
    *out = cursor;
    if (cursor == NULL)
        return SQLITE_NOMEM;
    memset(cursor, 0, sizeof *cursor);
    return SQLITE_OK;
}

static int helper_close(sqlite3_vtab_cursor *cursor)
{
    sqlite3_free(cursor);
    return SQLITE_OK;
}

static int helper_filter(sqlite3_vtab_cursor *cursor, int number, const char *text,
                         int argc, sqlite3_value **argv)
{
    (void)cursor;
    (void)number;
    (void)text;
    (void)argc;
    (void)argv;
    return SQLITE_OK;
}

static int helper_next(sqlite3_vtab_cursor *cursor)
{
    (void)cursor;
    return SQLITE_OK;
}

static int helper_eof(sqlite3_vtab_cursor *cursor)
{
    (void)cursor;
    return 1; /* it has no rows */
}

static int helper_column(sqlite3_vtab_cursor *cursor, sqlite3_context *context,
                         int column)
{
    (void)cursor;
    (void)column;
    sqlite3_result_null(context);
    return SQLITE_OK;
}

static int helper_rowid(sqlite3_vtab_cursor *cursor, sqlite3_int64 *rowid)
{
    (void)cursor;
    *rowid = 0;
    return SQLITE_OK;
}

static int helper_update(sqlite3_vtab *base, int argc, sqlite3_value **argv,
                         sqlite3_int64 *rowid)
{
    (void)argc;
    (void)argv;
    (void)rowid;
    return errmap_set(base, SQLITE_READONLY,
                      sqlite3_mprintf(HELPER " holds no rows: it is armdb's own"));
}

static int helper_begin(sqlite3_vtab *base)
{
    ((struct helper *)base)->conn->hold_enlisted = true;
    return SQLITE_OK;
}

/* xCommit and xRollback: lets go of every snapshot held for reading. */
static int helper_end(sqlite3_vtab *base)
{
    struct conn *conn = ((struct helper *)base)->conn;

    conn->hold_enlisted = false;
    for (struct conn_store *store = conn->stores; store != NULL; store = store->next) {
        if (store->held) {
            store->held = false;
            armdb_snapshot_release(store->session);
        }
    }
    return SQLITE_OK;
}

int txn_register(struct conn *conn)
{
    static const sqlite3_module module = {
        .iVersion = 1,
        .xCreate = helper_create,
        .xConnect = helper_connect,
        .xBestIndex = helper_best_index,
        .xDisconnect = helper_disconnect,
        .xDestroy = helper_disconnect,
        .xOpen = helper_open,
        .xClose = helper_close,
        .xFilter = helper_filter,
        .xNext = helper_next,
        .xEof = helper_eof,
        .xColumn = helper_column,
        .xRowid = helper_rowid,
        .xUpdate = helper_update,
        .xBegin = helper_begin,
        .xCommit = helper_end,
        .xRollback = helper_end,
    };

    return sqlite3_create_module_v2(conn->db, HELPER, &module, conn_acquire(conn),
                                    conn_release);
}

int txn_make_helper(struct conn *conn)
{
    bool explicit_before = !sqlite3_get_autocommit(conn->db);
    int rc;

    /* CREATE expires all statements, those that are running too. */
    if (conn->helper_made || conn_is_running(conn))
        return SQLITE_OK;
    conn->helper_made = true; /* tried: where TEMP cannot be written there is none */
    conn->helper_missing = false;
    rc = conn_run(conn->db, NULL,
                  "CREATE VIRTUAL TABLE IF NOT EXISTS temp." HELPER " USING " HELPER);
    if (rc == SQLITE_NOMEM)
        conn->helper_made = false; /* that can be had later */
    if (explicit_before && (conn_is_fatal(rc) || sqlite3_get_autocommit(conn->db)))
        return rc;
    return SQLITE_OK;
}

/* Makes the helper take part in the explicit transaction that is open. After these
 * errors of a statement inside another one SQLite may have ended the transaction: to go
 * on would carry the rest of it out as if there had been none. */
static int enlist_helper(struct conn *conn)
{
    int rc;

    if (conn->hold_enlisted || conn->helper_missing)
        return SQLITE_OK;
    rc = conn_run(conn->db, NULL, "INSERT INTO temp." HELPER " SELECT NULL WHERE 0");
    if (conn_is_fatal(rc) || sqlite3_get_autocommit(conn->db))
        return rc;
    if (rc != SQLITE_OK) {
        conn->helper_made = false; /* a ROLLBACK or PRAGMA temp_store took it away */
        conn->helper_missing = true;
    }
    return SQLITE_OK;
}

int vtab_hold_snapshot(struct vtab *vtab)
{
    struct conn_store *store = vtab->store;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    enum armdb_rc rc;

    if (store->held || store->memory)
        return SQLITE_OK;
    if (store->enlisted == 0) {
        int sqlite_rc = SQLITE_OK;

        if (!sqlite3_get_autocommit(store->conn->db))
            sqlite_rc = enlist_helper(store->conn);
        if (sqlite_rc != SQLITE_OK || !store->conn->hold_enlisted)
            return sqlite_rc;
    }
    rc = armdb_snapshot_acquire(store->session, &error);
    store->held = rc == ARMDB_OK;
    return errmap_vtab(&vtab->base, rc, &error);
}

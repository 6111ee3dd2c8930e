/* ext.c - what SQLite calls when it loads armdb_vtab.so.
 *
 * One struct conn is made for the connection and handed to every module and function
 * as client data; SQLite gives it back when it forgets them, and the last one closes
 * the connection's stores.
 *
 * The library stays loaded when the connection closes (SQLITE_OK_LOAD_PERMANENTLY):
 * values handed out zero-copy carry pointers to functions in it, and a store that
 * another connection has open runs threads in it.
 *
 * Loading twice into one connection is harmless: a second struct conn would mean a second
 * session on each store, and the two would block each other, so the first stays. */
#include "ext/ext.h"

#include "ext/atomic.h"
#include "ext/config.h"
#include "ext/conn.h"
#include "ext/functions.h"
#include "ext/list.h"
#include "ext/maintain.h"
#include "ext/salvage.h"
#include "ext/tables.h"
#include "ext/verify.h"
#include "ext/vtab.h"

SQLITE_EXTENSION_INIT1

/* sqlite3_vtab_in, _distinct, _rhs_value: calling what is not there would crash. */
enum { SQLITE_VERSION_NEEDED = 3038000 };

/* The module as SQLite knows it from 3.44 on; earlier ones, and their headers, end before
 * the last method. */
struct module_4 {
    sqlite3_module methods;
#if SQLITE_VERSION_NUMBER < 3044000
    int (*xIntegrity)(sqlite3_vtab *base, const char *schema, const char *table,
                      int flags, char **err);
#endif
};

static const struct module_4 module = {
    .methods =
        {
            .iVersion = 4,
            .xCreate = vtab_create,
            .xConnect = vtab_connect,
            .xBestIndex = vtab_best_index,
            .xDisconnect = vtab_disconnect,
            .xDestroy = vtab_destroy,
            .xOpen = vtab_open,
            .xClose = vtab_close,
            .xFilter = vtab_filter,
            .xNext = vtab_next,
            .xEof = vtab_eof,
            .xColumn = vtab_column,
            .xRowid = vtab_rowid,
            .xUpdate = vtab_update,
            .xBegin = vtab_begin,
            .xSync = vtab_sync,
            .xCommit = vtab_commit,
            .xRollback = vtab_rollback,
            .xRename = vtab_rename,
            .xSavepoint = vtab_savepoint,
            .xRelease = vtab_release,
            .xRollbackTo = vtab_rollback_to,
            .xShadowName = vtab_shadow_name,
#if SQLITE_VERSION_NUMBER >= 3044000
            .xIntegrity = verify_integrity,
#endif
        },
#if SQLITE_VERSION_NUMBER < 3044000
    .xIntegrity = verify_integrity,
#endif
};

static bool is_loaded(sqlite3 *db)
{
    sqlite3_stmt *stmt = NULL;
    bool loaded =
        sqlite3_prepare_v2(db, "SELECT armdb_version()", -1, &stmt, NULL) == SQLITE_OK;

    sqlite3_finalize(stmt);
    return loaded;
}

static int register_all(sqlite3 *db)
{
    struct conn *conn = conn_create(db);
    int rc;

    if (conn == NULL)
        return SQLITE_NOMEM;
    rc = sqlite3_create_module_v2(db, "armdb", &module.methods, conn_acquire(conn),
                                  conn_release);
    if (rc == SQLITE_OK)
        rc = txn_register(conn);
    if (rc == SQLITE_OK)
        rc = tables_register(conn);
    if (rc == SQLITE_OK)
        rc = list_register(conn);
    if (rc == SQLITE_OK)
        rc = functions_register(conn);
    if (rc == SQLITE_OK)
        rc = maintain_register(conn);
    if (rc == SQLITE_OK)
        rc = config_register(conn);
    if (rc == SQLITE_OK)
        rc = atomic_register(conn);
    if (rc == SQLITE_OK)
        rc = verify_register(conn);
    if (rc == SQLITE_OK)
        rc = salvage_register(conn);
    conn_release(conn);
    return rc;
}

int sqlite3_armdbvtab_init(sqlite3 *db, char **err, const sqlite3_api_routines *api)
{
    int rc = SQLITE_OK;

    SQLITE_EXTENSION_INIT2(api);
    (void)api;
    if (sqlite3_libversion_number() < SQLITE_VERSION_NEEDED) {
        *err = sqlite3_mprintf("armdb needs SQLite 3.38 or later, this is %s",
                               sqlite3_libversion());
        return SQLITE_ERROR;
    }
    if (!is_loaded(db))
        rc = register_all(db);
#ifndef SQLITE_CORE
    if (rc == SQLITE_OK)
        rc = SQLITE_OK_LOAD_PERMANENTLY;
#endif
    return rc;
}

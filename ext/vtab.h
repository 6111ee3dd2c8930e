/* vtab.h - an armdb table as SQLite sees it: the structs that the methods share.
 *
 * The methods are SQLite's, named after them: xFilter is vtab_filter(). They live in
 *   vtab.c    xCreate xConnect xDisconnect xDestroy xRename xShadowName
 *   bestindex.c  xBestIndex
 *   filter.c  xFilter
 *   cursor.c  xOpen xClose xNext xEof xColumn xRowid
 *   update.c  xUpdate
 *   txn.c     xBegin xSync xCommit xRollback xSavepoint xRelease xRollbackTo
 * and ext.c puts them into the module. */
#ifndef ARMDB_EXT_VTAB_H
#define ARMDB_EXT_VTAB_H

#include <stdbool.h>

#include "engine/armdb.h"
#include "ext/bytebuf.h"
#include "ext/conn.h"
#include "ext/options.h"
#include "ext/schema.h"
#include "ext/shadow.h"
#include "sqlite3ext.h"

struct vtab_cursor; /* cursor.c */

struct vtab {
    sqlite3_vtab base;     /* first: SQLite's pointer is ours */
    struct conn *conn;     /* counted */
    struct schema *schema; /* owned */
    struct table_options options;
    char *schema_name; /* owned: "main", "temp", ... */
    char *name;        /* owned: the table's */
    bool temp;         /* in the TEMP schema */

    /* Known from the first use on; store and table are NULL before. */
    struct conn_store *store;  /* borrowed from conn */
    struct armdb_table *table; /* owned */
    struct shadow shadow;
    bool has_shadow;

    bool enlisted;  /* will hear xCommit or xRollback */
    bool is_new;    /* made by the running transaction */
    bool undone;    /* that was rolled back: SQLite will let it go */
    bool confirmed; /* the store knows that our CREATE was committed */
    bool remade;    /* the memory store's table was made by the running transaction */

    /* Scratch of xUpdate, used again and again. */
    struct sql_value *row;       /* owned: schema->column_count */
    struct sql_value *originals; /* owned: schema->key.part_count */
    struct bytebuf key;
    struct bytebuf old_key;
    struct bytebuf value;
    struct armdb_cursor *old_row; /* owned; reads what an UPDATE leaves alone */

    struct vtab_cursor *spare; /* owned list of closed cursors, ready for use */
    uint32_t spare_count;
    uint32_t open_count; /* cursors in use */
};

/* Opens the store and the table if that has not happened yet. Every method that
 * touches rows calls it first.
 * Errors: SQLite codes, with vtab->base.zErrMsg. */
int vtab_use(struct vtab *vtab);

/* Frees the list of spare cursors (cursor.c). */
void vtab_free_spares(struct vtab *vtab);

/* Makes the session hold its snapshot until the transaction ends, if there is one
 * (txn.c). To be called before the first read of a statement. */
int vtab_hold_snapshot(struct vtab *vtab);

int vtab_create(sqlite3 *db, void *aux, int argc, const char *const *argv,
                sqlite3_vtab **out, char **err);
int vtab_connect(sqlite3 *db, void *aux, int argc, const char *const *argv,
                 sqlite3_vtab **out, char **err);
int vtab_disconnect(sqlite3_vtab *base);
int vtab_destroy(sqlite3_vtab *base);
int vtab_rename(sqlite3_vtab *base, const char *new_name);
int vtab_shadow_name(const char *suffix);

int vtab_best_index(sqlite3_vtab *base, sqlite3_index_info *info);
int vtab_open(sqlite3_vtab *base, sqlite3_vtab_cursor **out);
int vtab_close(sqlite3_vtab_cursor *base);
int vtab_filter(sqlite3_vtab_cursor *base, int number, const char *text, int argc,
                sqlite3_value **argv);
int vtab_next(sqlite3_vtab_cursor *base);
int vtab_eof(sqlite3_vtab_cursor *base);
int vtab_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column);
int vtab_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *rowid);

int vtab_update(sqlite3_vtab *base, int argc, sqlite3_value **argv, sqlite3_int64 *rowid);

int vtab_begin(sqlite3_vtab *base);
int vtab_sync(sqlite3_vtab *base);
int vtab_commit(sqlite3_vtab *base);
int vtab_rollback(sqlite3_vtab *base);
int vtab_savepoint(sqlite3_vtab *base, int id);
int vtab_release(sqlite3_vtab *base, int id);
int vtab_rollback_to(sqlite3_vtab *base, int id);

/* Registers the helper module of txn.c. */
int txn_register(struct conn *conn);
/* Creates its table in TEMP, if it is not there and no statement is running. Called while
 * a statement is prepared. An error is one that may have ended an open transaction. */
int txn_make_helper(struct conn *conn);

#endif

/* restore.c - a table's rows replaced by those of a backup.
 *
 * The store in the folder is opened like any other (if this process has it open already,
 * it is that one), its table is looked at, and only when its columns mean the same are
 * the rows taken over, byte for byte, behind a savepoint of the engine's: what fails in
 * the middle leaves the old rows and a transaction that can go on. */
#include "ext/restore.h"

#include <string.h>

#include "ext/errmap.h"

SQLITE_EXTENSION_INIT3

enum { RESTORE_SAVEPOINT = 0x7ffffff2 };

struct source {
    struct armdb *store;
    struct armdb_session *session;
    struct armdb_table *table;
};

static void close_source(struct source *source)
{
    armdb_table_close(source->table);
    armdb_session_close(source->session);
    armdb_close(source->store);
}

static enum armdb_rc open_source(const struct restore *restore, uint32_t wait_ms,
                                 struct source *source, struct armdb_error *err)
{
    struct armdb_options options;
    enum armdb_rc rc;

    armdb_options_init(&options);
    options.create = false;
    options.lock_wait_ms = wait_ms;
    rc = armdb_open(restore->path, &options, &source->store, err);
    if (rc == ARMDB_OK)
        rc = armdb_session_open(source->store, &source->session, err);
    if (rc == ARMDB_OK)
        rc = armdb_table_open(source->session, restore->table, NULL, &source->table, err);
    return rc;
}

/* The stored columns must be what this table declares. */
static int check_columns(struct vtab *vtab, const struct restore *restore,
                         const struct source *source)
{
    struct schema *stored = NULL;
    char *difference = NULL;
    char *err = NULL;
    const void *text;
    size_t len;
    int rc;

    armdb_table_schema(source->table, &text, &len);
    rc = schema_parse_stored(vtab->name, text, len, &stored, &err);
    if (rc != SQLITE_OK)
        return errmap_set(&vtab->base, rc, err);
    rc = schema_agrees(vtab->schema, stored, &difference);
    if (rc == SQLITE_ERROR)
        rc = errmap_set(
            &vtab->base, rc,
            sqlite3_mprintf("the store in %s has a table %s with other columns: %s",
                            restore->path, restore->table, difference));
    sqlite3_free(difference);
    schema_destroy(stored);
    return rc;
}

static bool is_interrupted(void *arg)
{
    return conn_is_interrupted(arg);
}

/* Waits for other writers as a write of one row does. */
static enum armdb_rc take_rows(struct vtab *vtab, const struct source *source,
                               uint64_t *rows, struct armdb_error *err)
{
    struct armdb_watch watch = {is_interrupted, vtab->conn};
    uint64_t deadline_ms = 0;
    enum armdb_rc rc;

    do {
        rc = armdb_table_restore(vtab->store->session, vtab->table, source->session,
                                 source->table, &watch, rows, err);
        if (rc != ARMDB_BUSY)
            return rc;
        rc = conn_wait(vtab->store, &deadline_ms);
    } while (rc == ARMDB_OK);
    return rc;
}

int restore_table(struct vtab *vtab, struct restore *restore)
{
    struct armdb_session *session = vtab->store->session;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    struct source source = {NULL, NULL, NULL};
    enum armdb_rc undone;
    enum armdb_rc rc;
    int sqlite_rc = SQLITE_OK;
    uint32_t wait_ms;

    rc = conn_busy_timeout(vtab->conn, &wait_ms);
    if (rc == ARMDB_OK)
        rc = open_source(restore, wait_ms, &source, &error);
    if (rc != ARMDB_OK)
        goto out;
    sqlite_rc = check_columns(vtab, restore, &source);
    if (sqlite_rc != SQLITE_OK)
        goto out;
    rc = armdb_savepoint(session, RESTORE_SAVEPOINT, &error);
    if (rc != ARMDB_OK)
        goto out;
    rc = take_rows(vtab, &source, &restore->rows, &error);
    if (rc != ARMDB_OK) {
        undone = armdb_savepoint_rollback(session, RESTORE_SAVEPOINT, NULL);
        if (undone != ARMDB_OK)
            rc = ADB_FAIL(undone, &error, "armdb_restore cannot be undone; roll back");
    }
    undone = armdb_savepoint_release(session, RESTORE_SAVEPOINT, NULL);
    if (rc == ARMDB_OK)
        rc = undone;
out:
    close_source(&source);
    return sqlite_rc != SQLITE_OK ? sqlite_rc : errmap_vtab(&vtab->base, rc, &error);
}

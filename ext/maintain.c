/* maintain.c - armdb_backup, armdb_restore, armdb_clear: what is done with all rows at
 * once.
 *
 * The folder is named as the option path= names one: relative to the database's folder,
 * no link at its end, no control characters. The function is DIRECTONLY, so that a
 * schema from a stranger cannot have files written.
 *
 * A loop that may take long asks SQLite whether it was interrupted. */
#include "ext/maintain.h"

#include <string.h>

#include "ext/drop.h"
#include "ext/errmap.h"
#include "ext/functions.h"
#include "ext/path.h"
#include "ext/shadow.h"

SQLITE_EXTENSION_INIT3

static bool is_interrupted(void *arg)
{
    return conn_is_interrupted(arg);
}

/* The folder that an argument names, absolute (sqlite3_malloc); NULL when the function's
 * error was set. */
static char *folder_argument(sqlite3_context *context, const struct vtab *vtab,
                             sqlite3_value *value)
{
    const char *text = (const char *)sqlite3_value_text(value);
    bool memory = false;
    char *path = NULL;
    char *err = NULL;
    int rc;

    if (sqlite3_value_type(value) != SQLITE_TEXT || text == NULL || text[0] == '\0' ||
        strlen(text) != (size_t)sqlite3_value_bytes(value)) {
        sqlite3_result_error(context, "the name of a folder is wanted", -1);
        return NULL;
    }
    rc = path_resolve(vtab->conn->db, vtab->schema_name, text, &path, &memory, &err);
    if (rc == SQLITE_OK && memory) {
        rc = SQLITE_ERROR;
        err = sqlite3_mprintf("a folder on the disk is wanted, not :memory:");
    }
    if (rc != SQLITE_OK) {
        if (err != NULL)
            sqlite3_result_error(context, err, -1);
        sqlite3_result_error_code(context, rc);
        sqlite3_free(path);
        path = NULL;
    }
    sqlite3_free(err);
    return path;
}

/* ---- Before and after a backup ---- */

/* Does something in the session for a table of the schema and its shadow row. */
typedef enum armdb_rc for_table(const struct vtab *vtab, struct armdb_session *session,
                                const char *name, const struct shadow *shadow,
                                struct armdb_error *err);

/* Gives the table of `name` that name in the copy, where it is found under its own. */
static enum armdb_rc rename_one(const struct vtab *vtab, struct armdb_session *session,
                                const char *name, const struct shadow *shadow,
                                struct armdb_error *err)
{
    struct armdb_table *table = NULL;
    char *memory_name;
    enum armdb_rc rc;

    (void)vtab;
    if (shadow->label != NULL)
        return ARMDB_OK;
    memory_name = shadow_memory_name(shadow);
    if (memory_name == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory");
    rc = armdb_table_open(session, memory_name, NULL, &table, err);
    if (rc == ARMDB_OK)
        rc = armdb_table_rename(session, table, name, err);
    armdb_table_close(table);
    sqlite3_free(memory_name);
    /* Not in this store, or the name is taken: it keeps the one it has. */
    return rc == ARMDB_NOT_FOUND || rc == ARMDB_EXISTS ? ARMDB_OK : rc;
}

/* Its CREATE is committed: an attachment of it is no orphan, in the copy neither, when
 * the table has been dropped here and is attached there. */
static enum armdb_rc confirm_one(const struct vtab *vtab, struct armdb_session *session,
                                 const char *name, const struct shadow *shadow,
                                 struct armdb_error *err)
{
    struct conn_store here = *vtab->store; /* for its own session */
    unsigned char uuid[SHADOW_ID_BYTES];

    (void)name;
    armdb_uuid(here.store, uuid);
    if (memcmp(uuid, shadow->store, sizeof uuid) != 0)
        return ARMDB_OK;
    here.session = session;
    return drop_confirm(&here, vtab->schema_name, shadow, err);
}

/* What a statement on the schema gave other than its rows. */
static enum armdb_rc schema_error(int rc, struct armdb_error *err)
{
    switch (rc) {
    case SQLITE_DONE:
        return ARMDB_OK;
    case SQLITE_NOMEM:
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory");
    case SQLITE_INTERRUPT:
        return ADB_FAIL(ARMDB_INTERRUPT, err, "interrupted");
    case SQLITE_BUSY:
        return ADB_FAIL(ARMDB_BUSY, err, "the database is locked");
    default:
        return ADB_FAIL(ARMDB_INTERNAL, err, "the schema cannot be read");
    }
}

/* One transaction of a session of its own for all armdb tables of the schema. */
static enum armdb_rc for_each_table(const struct vtab *vtab, struct armdb *store,
                                    for_table *call, struct armdb_error *err)
{
    struct armdb_session *session = NULL;
    sqlite3_stmt *stmt = NULL;
    enum armdb_rc rc = armdb_session_open(store, &session, err);
    int step = SQLITE_OK;

    if (rc == ARMDB_OK)
        step = conn_prepare(vtab->conn->db, &stmt,
                            "SELECT name FROM \"%w\".sqlite_master WHERE type = 'table' "
                            "AND rootpage = 0",
                            vtab->schema_name);
    if (step == SQLITE_OK && rc == ARMDB_OK)
        step = sqlite3_step(stmt);
    for (; rc == ARMDB_OK && step == SQLITE_ROW; step = sqlite3_step(stmt)) {
        const char *name = (const char *)sqlite3_column_text(stmt, 0);
        int found = SQLITE_NOMEM;
        struct shadow shadow;
        char *unread = NULL;

        shadow_init(&shadow);
        if (name != NULL)
            found =
                shadow_read(vtab->conn->db, vtab->schema_name, name, &shadow, &unread);
        if (found == SQLITE_OK)
            rc = call(vtab, session, name, &shadow, err);
        else if (found == SQLITE_NOMEM) /* others are no armdb tables */
            rc = schema_error(found, err);
        sqlite3_free(unread);
        shadow_fini(&shadow);
    }
    if (rc == ARMDB_OK)
        rc = schema_error(step, err);
    sqlite3_finalize(stmt);
    if (rc == ARMDB_OK)
        rc = armdb_commit(session, err);
    armdb_session_close(session);
    return rc;
}

/* A store in memory knows its tables by the ids of their CREATE; in the copy they get
 * the names that SQL knows, so that they can be attached and restored by them. */
static enum armdb_rc name_tables(const struct vtab *vtab, const char *path,
                                 struct armdb_error *err)
{
    struct armdb_options options;
    struct armdb *store = NULL;
    enum armdb_rc rc;

    armdb_options_init(&options);
    options.create = false;
    rc = armdb_open(path, &options, &store, err);
    if (rc == ARMDB_OK)
        rc = for_each_table(vtab, store, rename_one, err);
    armdb_close(store);
    return rc;
}

/* Whether earlier CREATEs are committed can be told outside a transaction only. */
static enum armdb_rc confirm_tables(const struct vtab *vtab, struct armdb_error *err)
{
    if (vtab->store->memory || vtab->temp || armdb_is_read_only(vtab->store->store) ||
        !conn_is_settled(vtab->conn, 0) || armdb_in_transaction(vtab->store->session))
        return ARMDB_OK;
    return for_each_table(vtab, vtab->store->store, confirm_one, err);
}

/* ---- The functions ---- */

/* armdb_backup(t, dir): what was done, as text. */
static void backup_function(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    struct armdb_error error = {ARMDB_OK, 0, ""};
    struct armdb_backup_info info;
    struct armdb_watch watch = {is_interrupted, sqlite3_user_data(context)};
    struct vtab *vtab = NULL;
    sqlite3_stmt *stmt = NULL;
    char *path = NULL;
    enum armdb_rc rc;

    (void)argc;
    if (!functions_find_argument(context, argv, &vtab, &stmt))
        goto out;
    path = folder_argument(context, vtab, argv[1]);
    if (path == NULL)
        goto out;
    rc = confirm_tables(vtab, &error);
    if (rc == ARMDB_OK)
        rc = armdb_backup(vtab->store->store, path, &watch, &info, &error);
    if (rc == ARMDB_OK && vtab->store->memory)
        rc = name_tables(vtab, path, &error);
    if (rc != ARMDB_OK) {
        errmap_result(context, rc, &error);
    } else {
        char *text = sqlite3_mprintf("%lld segments linked, %lld copied (%lld bytes)",
                                     (sqlite3_int64)info.segments_linked,
                                     (sqlite3_int64)info.segments_copied,
                                     (sqlite3_int64)info.bytes_copied);

        if (text == NULL)
            sqlite3_result_error_nomem(context);
        else
            sqlite3_result_text(context, text, -1, sqlite3_free);
    }
out:
    sqlite3_free(path);
    sqlite3_finalize(stmt);
}

/* armdb_compact(t): what was done, as text. */
static void compact_function(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    struct armdb_error error = {ARMDB_OK, 0, ""};
    struct armdb_compact_info info;
    struct armdb_watch watch = {is_interrupted, sqlite3_user_data(context)};
    struct vtab *vtab = NULL;
    sqlite3_stmt *stmt = NULL;
    enum armdb_rc rc;
    char *text;

    (void)argc;
    if (!functions_find_argument(context, argv, &vtab, &stmt))
        goto out;
    rc = armdb_compact(vtab->store->store, &watch, &info, &error);
    if (rc != ARMDB_OK) {
        errmap_result(context, rc, &error);
        goto out;
    }
    text = sqlite3_mprintf(
        "%lld segments (%lld bytes), before %lld (%lld bytes)",
        (sqlite3_int64)info.segments_after, (sqlite3_int64)info.bytes_after,
        (sqlite3_int64)info.segments_before, (sqlite3_int64)info.bytes_before);
    if (text == NULL)
        sqlite3_result_error_nomem(context);
    else
        sqlite3_result_text(context, text, -1, sqlite3_free);
out:
    sqlite3_finalize(stmt);
}

/* Runs a command on the table as a statement of its own: only a write that SQLite sees
 * takes part in its transaction. False when the function's error was set. */
static bool run_command(sqlite3_context *context, const struct vtab *vtab,
                        const char *command)
{
    char *err = NULL;
    int rc =
        conn_run(vtab->conn->db, &err, "INSERT INTO \"%w\".\"%w\"(\"%w\") VALUES(%Q)",
                 vtab->schema_name, vtab->name, vtab->name, command);

    if (rc != SQLITE_OK) {
        if (err != NULL)
            sqlite3_result_error(context, err, -1);
        sqlite3_result_error_code(context, rc);
    }
    sqlite3_free(err);
    return rc == SQLITE_OK;
}

/* armdb_clear(t) */
static void clear_function(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    struct vtab *vtab = NULL;
    sqlite3_stmt *stmt = NULL;

    (void)argc;
    if (functions_find_argument(context, argv, &vtab, &stmt) &&
        run_command(context, vtab, "clear"))
        sqlite3_result_int(context, 1);
    sqlite3_finalize(stmt);
}

/* armdb_restore(t, dir [, table]): the number of rows. */
static void restore_function(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    struct conn *conn = sqlite3_user_data(context);
    struct restore restore = {NULL, NULL, 0};
    struct vtab *vtab = NULL;
    sqlite3_stmt *stmt = NULL;
    char *path = NULL;

    if (!functions_find_argument(context, argv, &vtab, &stmt))
        goto out;
    path = folder_argument(context, vtab, argv[1]);
    if (path == NULL)
        goto out;
    restore.path = path;
    if (argc == 3)
        restore.table = (const char *)sqlite3_value_text(argv[2]);
    else
        restore.table = vtab->options.table != NULL ? vtab->options.table : vtab->name;
    if (restore.table == NULL) {
        sqlite3_result_error(context, "the name of a table in the backup is wanted", -1);
        goto out;
    }
    if (conn->restore != NULL) {
        sqlite3_result_error(context, "armdb_restore runs already", -1);
        goto out;
    }
    conn->restore = &restore;
    if (run_command(context, vtab, "restore"))
        sqlite3_result_int64(context, (sqlite3_int64)restore.rows);
    conn->restore = NULL;
out:
    sqlite3_free(path);
    sqlite3_finalize(stmt);
}

int maintain_register(struct conn *conn)
{
    static const struct {
        const char *name;
        int argc;
        void (*call)(sqlite3_context *, int, sqlite3_value **);
    } functions[] = {
        {"armdb_backup", 2, backup_function},   {"armdb_restore", 2, restore_function},
        {"armdb_restore", 3, restore_function}, {"armdb_clear", 1, clear_function},
        {"armdb_compact", 1, compact_function},
    };
    int rc = SQLITE_OK;

    for (size_t i = 0; rc == SQLITE_OK && i < sizeof functions / sizeof functions[0]; i++)
        rc = sqlite3_create_function_v2(conn->db, functions[i].name, functions[i].argc,
                                        SQLITE_UTF8 | SQLITE_DIRECTONLY,
                                        conn_acquire(conn), functions[i].call, NULL, NULL,
                                        conn_release);
    return rc;
}

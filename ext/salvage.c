/* salvage.c - saving what is whole of a damaged store, from SQL.
 *
 *   armdb_salvage('t', 'dir')             the store that t lies in, open or not
 *   armdb_salvage_folder('old', 'dir')    a store's folder, when no table leads to it
 *
 * A store whose superblock or manifest is damaged does not open; its table still says
 * where it is, and the folder is read instead. The first row says what was saved, the
 * others what was not. Folders are named as the option path= names one. */
#include "ext/salvage.h"

#include <string.h>

#include "ext/errmap.h"
#include "ext/findings.h"
#include "ext/path.h"

SQLITE_EXTENSION_INIT3

/* The folder that an argument names, absolute (sqlite3_malloc). */
static int take_folder(struct conn *conn, const char *schema, sqlite3_value *value,
                       char **path, char **err)
{
    const char *text = (const char *)sqlite3_value_text(value);
    bool memory = false;
    int rc;

    if (sqlite3_value_type(value) != SQLITE_TEXT || text == NULL || text[0] == '\0' ||
        strlen(text) != (size_t)sqlite3_value_bytes(value)) {
        *err = sqlite3_mprintf("the name of a folder is wanted");
        return SQLITE_ERROR;
    }
    rc = path_resolve(conn->db, schema, text, path, &memory, err);
    if (rc == SQLITE_OK && memory) {
        *err = sqlite3_mprintf("a folder on the disk is wanted, not :memory:");
        rc = SQLITE_ERROR;
    }
    return rc;
}

/* Puts in front what was saved. */
static int sum_up(struct findings *findings, const struct armdb_salvage_info *info,
                  const char *target, char **err)
{
    char *text = sqlite3_mprintf(
        "saved: %lld rows of %lld tables, from %lld segments; losses: %lld",
        (sqlite3_int64)info->rows, (sqlite3_int64)info->tables,
        (sqlite3_int64)info->segments_read, (sqlite3_int64)info->lost);
    char *todo = sqlite3_mprintf("close the store and put %s in the place of its folder, "
                                 "or attach to it with path=",
                                 target);
    bool done = text != NULL && todo != NULL && !findings->failed &&
                findings_begin_with(findings, text, todo);

    sqlite3_free(text);
    sqlite3_free(todo);
    if (!done)
        *err = sqlite3_mprintf("out of memory");
    return done ? SQLITE_OK : SQLITE_NOMEM;
}

static int salvage_folder(struct conn *conn, const char *path, const char *target,
                          struct findings *findings, char **err)
{
    struct armdb_watch watch = {findings_interrupted, conn};
    struct armdb_error error = {ARMDB_OK, 0, ""};
    struct armdb_salvage_info info;
    int rc = errmap_text(err,
                         armdb_salvage_folder(path, target, &watch, findings_take,
                                              findings, &info, &error),
                         &error);

    return rc == SQLITE_OK ? sum_up(findings, &info, target, err) : rc;
}

static int run_folder(struct conn *conn, sqlite3_value **args, struct findings *findings,
                      char **err)
{
    char *path = NULL;
    char *target = NULL;
    int rc = take_folder(conn, "main", args[0], &path, err);

    if (rc == SQLITE_OK)
        rc = take_folder(conn, "main", args[1], &target, err);
    if (rc == SQLITE_OK)
        rc = salvage_folder(conn, path, target, findings, err);
    sqlite3_free(path);
    sqlite3_free(target);
    return rc;
}

static int salvage_open(const struct vtab *vtab, const char *target,
                        struct findings *findings, char **err)
{
    struct armdb_watch watch = {findings_interrupted, vtab->conn};
    struct armdb_error error = {ARMDB_OK, 0, ""};
    struct armdb_salvage_info info;
    int rc;

    findings->vtab = vtab;
    rc = errmap_text(err,
                     armdb_salvage(vtab->store->store, target, &watch, findings_take,
                                   findings, &info, &error),
                     &error);
    findings->vtab = NULL; /* it may go with the statement that found it */
    return rc == SQLITE_OK ? sum_up(findings, &info, target, err) : rc;
}

/* The table was found; its store could not be opened. */
static int salvage_closed(const struct vtab *vtab, const char *target,
                          struct findings *findings, char **err)
{
    bool memory = false;
    char *path = NULL;
    int rc = path_resolve(vtab->conn->db, vtab->schema_name, vtab->options.path, &path,
                          &memory, err);

    if (rc == SQLITE_OK)
        rc = salvage_folder(vtab->conn, path, target, findings, err);
    sqlite3_free(path);
    return rc;
}

static int run_table(struct conn *conn, sqlite3_value **args, struct findings *findings,
                     char **err)
{
    const char *name = (const char *)sqlite3_value_text(args[0]);
    struct vtab *vtab = NULL;
    sqlite3_stmt *stmt = NULL;
    char *target = NULL;
    bool closed;
    int rc;

    if (name == NULL) {
        *err = sqlite3_mprintf("the name of an armdb table is wanted");
        return SQLITE_ERROR;
    }
    rc = findings_find_table(conn, name, &vtab, &stmt, err);
    closed = vtab != NULL && vtab->store == NULL &&
             ((rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB);
    if (closed) {
        sqlite3_free(*err);
        *err = NULL;
        rc = SQLITE_OK;
    }
    if (rc == SQLITE_OK && vtab != NULL)
        rc = take_folder(conn, vtab->schema_name, args[1], &target, err);
    if (rc == SQLITE_OK && vtab != NULL)
        rc = closed || vtab->store == NULL ? salvage_closed(vtab, target, findings, err)
                                           : salvage_open(vtab, target, findings, err);
    sqlite3_finalize(stmt);
    sqlite3_free(target);
    return rc;
}

int salvage_register(struct conn *conn)
{
    static const struct findings_source of_table = {
        .name = "armdb_salvage",
        .columns = ", tbl HIDDEN, dir HIDDEN",
        .usage = "armdb_salvage wants the name of a table and a new folder: "
                 "SELECT * FROM armdb_salvage('t', 'dir')",
        .arg_count = 2,
        .run = run_table,
    };
    static const struct findings_source of_folder = {
        .name = "armdb_salvage_folder",
        .columns = ", folder HIDDEN, dir HIDDEN",
        .usage = "armdb_salvage_folder wants a store's folder and a new one: "
                 "SELECT * FROM armdb_salvage_folder('old', 'dir')",
        .arg_count = 2,
        .run = run_folder,
    };
    int rc = findings_register(conn, &of_table);

    return rc == SQLITE_OK ? findings_register(conn, &of_folder) : rc;
}

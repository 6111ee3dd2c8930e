/* shadow.c - the row that binds a table of a database to a table of a store.
 *
 *   CREATE TABLE <name>_armdb(store, tbl, attachment, columns, label, created)
 *
 * It is made by CREATE TABLE ... AS SELECT: unlike an INSERT that leaves changes()
 * and last_insert_rowid() as the user's own statements set them. A row that comes
 * from a file is not trusted: types and lengths are checked, the rest is checked by
 * those who use it (the uuid against the store, the columns by SQLite's parser). */
#include "ext/shadow.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

void shadow_init(struct shadow *shadow)
{
    memset(shadow, 0, sizeof *shadow);
}

void shadow_fini(struct shadow *shadow)
{
    sqlite3_free(shadow->columns);
    sqlite3_free(shadow->label);
    shadow_init(shadow);
}

static void to_hex(const unsigned char id[SHADOW_ID_BYTES],
                   char hex[2 * SHADOW_ID_BYTES + 1])
{
    static const char digits[] = "0123456789abcdef";

    for (int i = 0; i < SHADOW_ID_BYTES; i++) {
        hex[2 * i] = digits[id[i] >> 4];
        hex[2 * i + 1] = digits[id[i] & 15];
    }
    hex[2 * SHADOW_ID_BYTES] = '\0';
}

int shadow_create(sqlite3 *db, const char *schema, const char *name,
                  const struct shadow *shadow, char **err)
{
    char store[2 * SHADOW_ID_BYTES + 1];
    char table[2 * SHADOW_ID_BYTES + 1];
    char attachment[2 * SHADOW_ID_BYTES + 1];

    to_hex(shadow->store, store);
    to_hex(shadow->table, table);
    to_hex(shadow->attachment, attachment);
    return conn_run(db, err,
                    "CREATE TABLE \"%w\".\"%w_armdb\" AS SELECT x'%s' AS store, x'%s' AS "
                    "tbl, x'%s' AS attachment, %Q AS columns, %Q AS label, %d AS created",
                    schema, name, store, table, attachment, shadow->columns,
                    shadow->label, shadow->created ? 1 : 0);
}

char *shadow_memory_name(const struct shadow *shadow)
{
    char hex[2 * SHADOW_ID_BYTES + 1];

    if (shadow->label != NULL)
        return sqlite3_mprintf("%s", shadow->label);
    to_hex(shadow->attachment, hex);
    return sqlite3_mprintf("memory:%s", hex);
}

static bool read_id(sqlite3_stmt *stmt, int column, unsigned char id[SHADOW_ID_BYTES])
{
    if (sqlite3_column_type(stmt, column) != SQLITE_BLOB ||
        sqlite3_column_bytes(stmt, column) != SHADOW_ID_BYTES)
        return false;
    memcpy(id, sqlite3_column_blob(stmt, column), SHADOW_ID_BYTES);
    return true;
}

static int read_row(sqlite3_stmt *stmt, struct shadow *out)
{
    const unsigned char *label = NULL;
    const unsigned char *columns;

    if (!read_id(stmt, 0, out->store) || !read_id(stmt, 1, out->table) ||
        !read_id(stmt, 2, out->attachment) || sqlite3_column_type(stmt, 3) != SQLITE_TEXT)
        return SQLITE_CORRUPT_VTAB;
    columns = sqlite3_column_text(stmt, 3);
    if (columns == NULL)
        return SQLITE_NOMEM;
    out->columns = sqlite3_mprintf("%s", columns);
    if (out->columns == NULL)
        return SQLITE_NOMEM;
    if (sqlite3_column_type(stmt, 4) != SQLITE_NULL) {
        label = sqlite3_column_text(stmt, 4);
        if (label == NULL)
            return SQLITE_NOMEM;
        out->label = sqlite3_mprintf("%s", label);
        if (out->label == NULL)
            return SQLITE_NOMEM;
    }
    out->created = sqlite3_column_int(stmt, 5) != 0;
    return SQLITE_OK;
}

int shadow_read(sqlite3 *db, const char *schema, const char *name, struct shadow *out,
                char **err)
{
    sqlite3_stmt *stmt = NULL;
    int rc;

    shadow_init(out);
    rc = conn_prepare(db, &stmt,
                      "SELECT store, tbl, attachment, columns, label, created FROM "
                      "\"%w\".\"%w_armdb\"",
                      schema, name);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(stmt);
        if (rc == SQLITE_ROW)
            rc = read_row(stmt, out);
        else if (rc == SQLITE_DONE)
            rc = SQLITE_CORRUPT_VTAB;
    }
    sqlite3_finalize(stmt);
    if (rc == SQLITE_ERROR)
        rc = SQLITE_CORRUPT_VTAB; /* no such table, no such column */
    if (rc == SQLITE_CORRUPT_VTAB && *err == NULL)
        *err = sqlite3_mprintf("shadow table %s_armdb is missing or damaged: it says "
                               "where the rows of %s are",
                               name, name);
    if (rc != SQLITE_OK)
        shadow_fini(out);
    return rc;
}

int shadow_rename(sqlite3 *db, const char *schema, const char *name, const char *new_name,
                  char **err)
{
    return conn_run(db, err, "ALTER TABLE \"%w\".\"%w_armdb\" RENAME TO \"%w_armdb\"",
                    schema, name, new_name);
}

int shadow_drop(sqlite3 *db, const char *schema, const char *name, char **err)
{
    return conn_run(db, err, "DROP TABLE IF EXISTS \"%w\".\"%w_armdb\"", schema, name);
}

/* Compares the row of one shadow table; what is no shadow table does not match. */
static int matches(sqlite3 *db, const char *schema, const char *full_name,
                   const unsigned char *attachment, const unsigned char *table,
                   bool *found)
{
    sqlite3_stmt *stmt = NULL;
    int rc;

    *found = false;
    rc = conn_prepare(db, &stmt,
                      "SELECT 1 FROM \"%w\".\"%w\" WHERE (?1 IS NULL OR attachment=?1) "
                      "AND (?2 IS NULL OR tbl=?2)",
                      schema, full_name);
    if (rc != SQLITE_OK)
        return rc == SQLITE_ERROR ? SQLITE_OK : rc;
    if (attachment != NULL)
        rc = sqlite3_bind_blob(stmt, 1, attachment, SHADOW_ID_BYTES, SQLITE_STATIC);
    if (rc == SQLITE_OK && table != NULL)
        rc = sqlite3_bind_blob(stmt, 2, table, SHADOW_ID_BYTES, SQLITE_STATIC);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(stmt);
        *found = rc == SQLITE_ROW;
        if (rc == SQLITE_ROW || rc == SQLITE_DONE)
            rc = SQLITE_OK;
    }
    sqlite3_finalize(stmt);
    return rc;
}

int shadow_find(sqlite3 *db, const char *schema, const unsigned char *attachment,
                const unsigned char *table, bool *found)
{
    sqlite3_stmt *stmt = NULL;
    int rc;

    *found = false;
    if (sqlite3_stricmp(schema, "temp") != 0 && sqlite3_db_filename(db, schema) == NULL)
        return SQLITE_OK;
    rc = conn_prepare(db, &stmt,
                      "SELECT name FROM \"%w\".sqlite_schema WHERE type='table' AND name "
                      "LIKE '%%\\_armdb' ESCAPE '\\'",
                      schema);
    while (rc == SQLITE_OK && !*found) {
        const unsigned char *name;

        rc = sqlite3_step(stmt);
        if (rc != SQLITE_ROW)
            break;
        name = sqlite3_column_text(stmt, 0);
        rc = name == NULL
                 ? SQLITE_NOMEM
                 : matches(db, schema, (const char *)name, attachment, table, found);
    }
    if (rc == SQLITE_DONE || rc == SQLITE_ROW)
        rc = SQLITE_OK;
    sqlite3_finalize(stmt);
    return rc;
}

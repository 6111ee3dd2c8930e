/* tables.c - armdb_stat(t): the statistics of a table and its store, as rows.
 *
 *   SELECT name, value, unit FROM armdb_stat('t')
 *
 * An eponymous virtual table with one hidden column, the argument. xFilter takes all
 * rows at once, so that they belong together; xNext walks over the copy. */
#include "ext/tables.h"

#include <string.h>

#include "ext/errmap.h"
#include "ext/functions.h"

SQLITE_EXTENSION_INIT3

enum stat_column { STAT_NAME, STAT_VALUE, STAT_UNIT, STAT_TABLE };

struct stat_vtab {
    sqlite3_vtab base;
    struct conn *conn; /* counted */
};

struct stat_row {
    char *name; /* owned, as the two others */
    char *text; /* NULL: the value is a number */
    char *unit;
    uint64_t value;
    double ratio;
    bool is_ratio;
};

struct stat_cursor {
    sqlite3_vtab_cursor base;
    struct stat_row *rows; /* owned */
    size_t count;
    size_t capacity;
    size_t at;
    char *table; /* owned: the argument */
    bool failed; /* no memory for a row */
};

static int stat_connect(sqlite3 *db, void *aux, int argc, const char *const *argv,
                        sqlite3_vtab **out, char **err)
{
    struct stat_vtab *vtab;
    int rc;

    (void)argc;
    (void)argv;
    (void)err;
    *out = NULL;
    rc = sqlite3_declare_vtab(db, "CREATE TABLE x(name TEXT, value, unit TEXT, "
                                  "tbl HIDDEN)");
    if (rc == SQLITE_OK)
        rc = sqlite3_vtab_config(db, SQLITE_VTAB_DIRECTONLY);
    if (rc != SQLITE_OK)
        return rc;
    vtab = sqlite3_malloc64(sizeof *vtab);
    if (vtab == NULL)
        return SQLITE_NOMEM;
    memset(vtab, 0, sizeof *vtab);
    vtab->conn = conn_acquire(aux);
    *out = &vtab->base;
    return SQLITE_OK;
}

static int stat_disconnect(sqlite3_vtab *base)
{
    struct stat_vtab *vtab = (struct stat_vtab *)base;

    conn_release(vtab->conn);
    sqlite3_free(vtab);
    return SQLITE_OK;
}

/* The argument must be there: there are no statistics of no table. */
static int stat_best_index(sqlite3_vtab *base, sqlite3_index_info *info)
{
    bool usable = false;

    for (int i = 0; i < info->nConstraint; i++) {
        if (info->aConstraint[i].iColumn != STAT_TABLE ||
            info->aConstraint[i].op != SQLITE_INDEX_CONSTRAINT_EQ)
            continue;
        if (!info->aConstraint[i].usable)
            return SQLITE_CONSTRAINT;
        info->aConstraintUsage[i].argvIndex = 1;
        info->aConstraintUsage[i].omit = 1;
        usable = true;
        break;
    }
    if (!usable)
        return errmap_set(base, SQLITE_ERROR,
                          sqlite3_mprintf("armdb_stat wants the name of a table: "
                                          "SELECT * FROM armdb_stat('t')"));
    info->estimatedCost = 100.0;
    info->estimatedRows = 120;
    return SQLITE_OK;
}

static int stat_open(sqlite3_vtab *base, sqlite3_vtab_cursor **out)
{
    struct stat_cursor *cursor = sqlite3_malloc64(sizeof *cursor);

    (void)base;
    *out = NULL;
    if (cursor == NULL)
        return SQLITE_NOMEM;
    memset(cursor, 0, sizeof *cursor);
    *out = &cursor->base;
    return SQLITE_OK;
}

static void clear_rows(struct stat_cursor *cursor)
{
    for (size_t i = 0; i < cursor->count; i++) {
        sqlite3_free(cursor->rows[i].name);
        sqlite3_free(cursor->rows[i].text);
        sqlite3_free(cursor->rows[i].unit);
    }
    cursor->count = 0;
    cursor->at = 0;
    cursor->failed = false;
    sqlite3_free(cursor->table);
    cursor->table = NULL;
}

static int stat_close(sqlite3_vtab_cursor *base)
{
    struct stat_cursor *cursor = (struct stat_cursor *)base;

    clear_rows(cursor);
    sqlite3_free(cursor->rows);
    sqlite3_free(cursor);
    return SQLITE_OK;
}

static void add_row(void *arg, const struct armdb_stat *stat)
{
    struct stat_cursor *cursor = arg;
    struct stat_row *row;

    if (cursor->failed)
        return;
    if (cursor->count == cursor->capacity) {
        size_t capacity = cursor->capacity == 0 ? 64 : cursor->capacity * 2;
        struct stat_row *grown =
            sqlite3_realloc64(cursor->rows, capacity * sizeof *grown);

        if (grown == NULL) {
            cursor->failed = true;
            return;
        }
        cursor->rows = grown;
        cursor->capacity = capacity;
    }
    row = &cursor->rows[cursor->count++];
    row->value = stat->value;
    row->ratio = stat->ratio;
    row->is_ratio = strcmp(stat->unit, "ratio") == 0;
    row->name = sqlite3_mprintf("%s", stat->name);
    row->unit = sqlite3_mprintf("%s", stat->unit);
    row->text = stat->text == NULL ? NULL : sqlite3_mprintf("%s", stat->text);
    cursor->failed = row->name == NULL || row->unit == NULL ||
                     (stat->text != NULL && row->text == NULL);
}

static int stat_filter(sqlite3_vtab_cursor *base, int number, const char *text, int argc,
                       sqlite3_value **argv)
{
    struct stat_cursor *cursor = (struct stat_cursor *)base;
    struct stat_vtab *vtab = (struct stat_vtab *)base->pVtab;
    struct vtab *table = NULL;
    sqlite3_stmt *stmt = NULL;
    const char *name;
    char *err = NULL;
    int rc;

    (void)number;
    (void)text;
    clear_rows(cursor);
    if (argc != 1)
        return SQLITE_MISUSE;
    name = (const char *)sqlite3_value_text(argv[0]);
    if (name == NULL)
        return sqlite3_value_type(argv[0]) == SQLITE_NULL ? SQLITE_OK : SQLITE_NOMEM;
    cursor->table = sqlite3_mprintf("%s", name);
    if (cursor->table == NULL)
        return SQLITE_NOMEM;
    rc = functions_find_table(vtab->conn, name, &table, &stmt, &err);
    if (rc == SQLITE_OK) {
        armdb_stat_each(table->table, add_row, cursor);
        if (cursor->failed)
            rc = SQLITE_NOMEM;
    }
    sqlite3_finalize(stmt);
    return rc == SQLITE_OK ? rc : errmap_set(base->pVtab, rc, err);
}

static int stat_next(sqlite3_vtab_cursor *base)
{
    ((struct stat_cursor *)base)->at++;
    return SQLITE_OK;
}

static int stat_eof(sqlite3_vtab_cursor *base)
{
    struct stat_cursor *cursor = (struct stat_cursor *)base;

    return cursor->at >= cursor->count;
}

static int stat_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column)
{
    const struct stat_cursor *cursor = (struct stat_cursor *)base;
    const struct stat_row *row = &cursor->rows[cursor->at];
    const char *text = NULL;

    switch ((enum stat_column)column) {
    case STAT_NAME:
        text = row->name;
        break;
    case STAT_VALUE:
        text = row->text;
        break;
    case STAT_UNIT:
        text = row->unit;
        break;
    case STAT_TABLE:
        text = cursor->table;
        break;
    }
    if (column == STAT_VALUE && row->is_ratio)
        sqlite3_result_double(context, row->ratio);
    else if (column == STAT_VALUE && text == NULL)
        sqlite3_result_int64(context, (sqlite3_int64)row->value);
    else
        sqlite3_result_text(context, text, -1, SQLITE_TRANSIENT);
    return SQLITE_OK;
}

static int stat_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *rowid)
{
    *rowid = (sqlite3_int64)((struct stat_cursor *)base)->at;
    return SQLITE_OK;
}

int tables_register(struct conn *conn)
{
    static const sqlite3_module module = {
        .iVersion = 1,
        .xConnect = stat_connect, /* without xCreate: it is there by its name alone */
        .xBestIndex = stat_best_index,
        .xDisconnect = stat_disconnect,
        .xOpen = stat_open,
        .xClose = stat_close,
        .xFilter = stat_filter,
        .xNext = stat_next,
        .xEof = stat_eof,
        .xColumn = stat_column,
        .xRowid = stat_rowid,
    };

    return sqlite3_create_module_v2(conn->db, "armdb_stat", &module, conn_acquire(conn),
                                    conn_release);
}

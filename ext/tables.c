/* tables.c - what armdb does, as tables to select from:
 *
 *   armdb_stat('t')      the statistics of a table and its store: name, value, unit
 *   armdb_segments('t')  the log files of its store, one row each
 *   armdb_stores()       the stores that are open in this process
 *
 * The argument of the first two is a hidden column, `tbl`. Without it they give the rows
 * of every armdb table of the connection, one after the other, each with its name in
 * `tbl`: that is what views can be made of (sql/monitor.sql).
 *
 * Eponymous virtual tables. xFilter takes all rows at once, so that they belong together,
 * as cells in a list; xNext walks over it. */
#include "ext/tables.h"

#include <string.h>

#include "ext/errmap.h"
#include "ext/functions.h"

SQLITE_EXTENSION_INIT3

#define LAST_RESORT_COST 1e12

/* ---- Rows ---- */

struct cell {
    int type; /* SQLITE_INTEGER, SQLITE_FLOAT, SQLITE_TEXT, SQLITE_NULL */
    sqlite3_int64 number;
    double real;
    char *text; /* owned */
};

struct list {
    struct cell *cells; /* owned; row by row */
    size_t count;
    size_t capacity;
    const char *table; /* borrowed: whose rows are being added; NULL: nobody's */
    bool failed;       /* no memory for a cell */
};

static void clear_list(struct list *list)
{
    for (size_t i = 0; i < list->count; i++)
        sqlite3_free(list->cells[i].text);
    list->count = 0;
    list->failed = false;
}

/* The next cell, NULL inside; NULL: no memory, now or before. */
static struct cell *add_null(struct list *list)
{
    struct cell *cell;

    if (list->failed)
        return NULL;
    if (list->count == list->capacity) {
        size_t capacity = list->capacity * 2 + 256;
        struct cell *grown = sqlite3_realloc64(list->cells, capacity * sizeof *grown);

        list->failed = grown == NULL;
        if (list->failed)
            return NULL;
        list->cells = grown;
        list->capacity = capacity;
    }
    cell = &list->cells[list->count++];
    memset(cell, 0, sizeof *cell);
    cell->type = SQLITE_NULL;
    return cell;
}

static void add_number(struct list *list, uint64_t number)
{
    struct cell *cell = add_null(list);

    if (cell == NULL)
        return;
    cell->type = SQLITE_INTEGER;
    cell->number = (sqlite3_int64)number;
}

static void add_real(struct list *list, double real)
{
    struct cell *cell = add_null(list);

    if (cell == NULL)
        return;
    cell->type = SQLITE_FLOAT;
    cell->real = real;
}

static void add_text(struct list *list, const char *text)
{
    struct cell *cell = add_null(list);

    if (cell == NULL || text == NULL)
        return;
    cell->text = sqlite3_mprintf("%s", text);
    cell->type = SQLITE_TEXT;
    list->failed = cell->text == NULL;
}

/* ---- armdb_stat ---- */

static void add_stat(void *arg, const struct armdb_stat *stat)
{
    struct list *list = arg;

    add_text(list, stat->name);
    if (stat->text != NULL)
        add_text(list, stat->text);
    else if (strcmp(stat->unit, "ratio") == 0)
        add_real(list, stat->ratio);
    else
        add_number(list, stat->value);
    add_text(list, stat->unit);
    add_text(list, list->table);
}

static enum armdb_rc fill_stat(struct vtab *vtab, struct list *list,
                               struct armdb_error *err)
{
    (void)err;
    armdb_stat_each(vtab->table, add_stat, list);
    return ARMDB_OK;
}

/* ---- armdb_segments ---- */

static const char *state_name(enum armdb_segment_state state)
{
    switch (state) {
    case ARMDB_SEGMENT_ACTIVE:
        return "active";
    case ARMDB_SEGMENT_SEALED:
        return "sealed";
    case ARMDB_SEGMENT_COMPACTING:
        return "compacting";
    case ARMDB_SEGMENT_RETIRED:
        return "retired";
    }
    return NULL;
}

static void add_segment(void *arg, const struct armdb_segment *segment)
{
    struct list *list = arg;

    add_number(list, segment->shard);
    add_text(list, segment->name);
    add_text(list, state_name(segment->state));
    add_text(list, segment->compacted ? "compacted" : "log");
    add_number(list, segment->records);
    add_number(list, segment->live_bytes);
    add_number(list, segment->dead_bytes);
    add_number(list, segment->length);
    add_number(list, segment->file_bytes);
    if (segment->gsn_high == 0) {
        (void)add_null(list);
        (void)add_null(list);
    } else {
        add_number(list, segment->gsn_low);
        add_number(list, segment->gsn_high);
    }
    add_real(list, (double)segment->age_ms / 1000.0);
    add_number(list, segment->has_hint);
    add_text(list, list->table);
}

static enum armdb_rc fill_segments(struct vtab *vtab, struct list *list,
                                   struct armdb_error *err)
{
    return armdb_segment_each(vtab->store->store, add_segment, list, err);
}

/* ---- armdb_stores ---- */

static void add_store(void *arg, const struct armdb_store_info *info)
{
    struct list *list = arg;
    char uuid[2 * sizeof info->uuid + 1];

    for (size_t i = 0; i < sizeof info->uuid; i++)
        sqlite3_snprintf(3, uuid + 2 * i, "%02x", info->uuid[i]);
    add_text(list, info->path);
    add_text(list, uuid);
    add_text(list, info->io_engine);
    add_number(list, info->read_only);
    add_number(list, info->wounded);
    add_number(list, info->shards);
    add_number(list, info->openers);
    add_number(list, info->tables);
    add_number(list, info->sessions);
    add_number(list, info->open_transactions);
    add_number(list, info->snapshots);
    add_real(list, (double)info->uptime_ms / 1000.0);
}

static enum armdb_rc fill_stores(struct vtab *vtab, struct list *list,
                                 struct armdb_error *err)
{
    (void)vtab;
    return armdb_store_each(add_store, list, err);
}

/* ---- The kinds of tables ---- */

struct kind {
    const char *name;
    const char *declaration;
    int columns;
    bool of_table; /* the last column is hidden: the argument */
    double rows;   /* about */
    enum armdb_rc (*fill)(struct vtab *vtab, struct list *list, struct armdb_error *err);
};

static const struct kind kinds[] = {
    {"armdb_stat", "CREATE TABLE x(name TEXT, value, unit TEXT, tbl TEXT HIDDEN)", 4,
     true, 120, fill_stat},
    {"armdb_segments",
     "CREATE TABLE x(shard INTEGER, segment TEXT, state TEXT, kind TEXT, records "
     "INTEGER, "
     "live_bytes INTEGER, dead_bytes INTEGER, bytes INTEGER, file_bytes INTEGER, "
     "gsn_low INTEGER, gsn_high INTEGER, age REAL, has_hint INTEGER, tbl TEXT HIDDEN)",
     14, true, 20, fill_segments},
    {"armdb_stores",
     "CREATE TABLE x(path TEXT, uuid TEXT, io_engine TEXT, read_only INTEGER, "
     "wounded INTEGER, shards INTEGER, openers INTEGER, tables INTEGER, "
     "sessions INTEGER, open_transactions INTEGER, snapshots INTEGER, uptime REAL)",
     12, false, 5, fill_stores},
};

struct rows_vtab {
    sqlite3_vtab base;
    struct conn *conn; /* counted */
    const struct kind *kind;
};

struct rows_cursor {
    sqlite3_vtab_cursor base;
    struct list list;
    size_t at; /* first cell of the row */
};

/* SQLite gives the module's name as the first argument. */
static const struct kind *find_kind(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (sqlite3_stricmp(kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}

static int rows_connect(sqlite3 *db, void *aux, int argc, const char *const *argv,
                        sqlite3_vtab **out, char **err)
{
    const struct kind *kind = argc > 0 ? find_kind(argv[0]) : NULL;
    struct rows_vtab *vtab;
    int rc;

    (void)err;
    *out = NULL;
    if (kind == NULL)
        return SQLITE_INTERNAL;
    rc = sqlite3_declare_vtab(db, kind->declaration);
    if (rc == SQLITE_OK)
        rc = sqlite3_vtab_config(db, SQLITE_VTAB_DIRECTONLY);
    if (rc != SQLITE_OK)
        return rc;
    vtab = sqlite3_malloc64(sizeof *vtab);
    if (vtab == NULL)
        return SQLITE_NOMEM;
    memset(vtab, 0, sizeof *vtab);
    vtab->conn = conn_acquire(aux);
    vtab->kind = kind;
    *out = &vtab->base;
    return SQLITE_OK;
}

static int rows_disconnect(sqlite3_vtab *base)
{
    struct rows_vtab *vtab = (struct rows_vtab *)base;

    conn_release(vtab->conn);
    sqlite3_free(vtab);
    return SQLITE_OK;
}

/* An argument that comes from another table should be known first: then the rows are its
 * alone. When it cannot be (two of these joined with one another), SQLite compares it
 * with the names of all tables, which costs so much that it is the last resort. */
static int rows_best_index(sqlite3_vtab *base, sqlite3_index_info *info)
{
    const struct kind *kind = ((struct rows_vtab *)base)->kind;

    info->estimatedCost = kind->rows * 100.0;
    info->estimatedRows = (sqlite3_int64)kind->rows * 10;
    for (int i = 0; kind->of_table && i < info->nConstraint; i++) {
        if (info->aConstraint[i].iColumn != kind->columns - 1 ||
            info->aConstraint[i].op != SQLITE_INDEX_CONSTRAINT_EQ)
            continue;
        if (!info->aConstraint[i].usable) {
            info->estimatedCost = LAST_RESORT_COST;
            continue;
        }
        info->aConstraintUsage[i].argvIndex = 1;
        info->aConstraintUsage[i].omit = 1;
        info->estimatedCost = kind->rows;
        info->estimatedRows = (sqlite3_int64)kind->rows;
        break;
    }
    return SQLITE_OK;
}

static int rows_open(sqlite3_vtab *base, sqlite3_vtab_cursor **out)
{
    struct rows_cursor *cursor = sqlite3_malloc64(sizeof *cursor);

    (void)base;
    *out = NULL;
    if (cursor == NULL)
        return SQLITE_NOMEM;
    memset(cursor, 0, sizeof *cursor);
    *out = &cursor->base;
    return SQLITE_OK;
}

static int rows_close(sqlite3_vtab_cursor *base)
{
    struct rows_cursor *cursor = (struct rows_cursor *)base;

    clear_list(&cursor->list);
    sqlite3_free(cursor->list.cells);
    sqlite3_free(cursor);
    return SQLITE_OK;
}

static int fill_list(const struct kind *kind, struct vtab *vtab, const char *name,
                     struct list *list, char **err)
{
    struct armdb_error error = {ARMDB_OK, 0, ""};
    enum armdb_rc rc;

    list->table = name;
    rc = kind->fill(vtab, list, &error);
    list->table = NULL;
    if (rc == ARMDB_OK && list->failed)
        rc = ADB_FAIL(ARMDB_NOMEM, &error, "out of memory");
    return rc == ARMDB_OK ? SQLITE_OK : errmap_text(err, rc, &error);
}

/* The rows of one table; *err is its text, to be freed. *other: there is no such armdb
 * table. */
static int add_rows(struct conn *conn, const struct kind *kind, const char *name,
                    struct list *list, bool *other, char **err)
{
    struct vtab *vtab = NULL;
    sqlite3_stmt *stmt = NULL;
    int rc = functions_find_table(conn, name, &vtab, &stmt, err);

    *other = rc != SQLITE_OK && conn->planned == NULL && !conn_is_fatal(rc);
    if (rc == SQLITE_OK)
        rc = fill_list(kind, vtab, name, list, err);
    sqlite3_finalize(stmt);
    return rc;
}

/* Those of every armdb table of the connection. */
static int add_all_rows(struct conn *conn, const struct kind *kind, struct list *list,
                        char **err)
{
    sqlite3_stmt *names = NULL;
    int rc = conn_prepare(conn->db, &names,
                          "SELECT schema || '.' || name FROM pragma_table_list "
                          "WHERE type = 'virtual' ORDER BY schema, name");

    while (rc == SQLITE_OK && (rc = sqlite3_step(names)) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(names, 0);
        bool other = false;

        rc = name == NULL ? SQLITE_NOMEM : add_rows(conn, kind, name, list, &other, err);
        if (other) {
            sqlite3_free(*err);
            *err = NULL;
            rc = SQLITE_OK;
        }
    }
    if (rc == SQLITE_DONE)
        rc = SQLITE_OK;
    else if (*err == NULL)
        *err = sqlite3_mprintf("%s", sqlite3_errmsg(conn->db));
    sqlite3_finalize(names);
    return rc;
}

static int rows_filter(sqlite3_vtab_cursor *base, int number, const char *text, int argc,
                       sqlite3_value **argv)
{
    struct rows_cursor *cursor = (struct rows_cursor *)base;
    struct rows_vtab *self = (struct rows_vtab *)base->pVtab;
    const char *name;
    char *err = NULL;
    bool other;
    int rc;

    (void)number;
    (void)text;
    clear_list(&cursor->list);
    cursor->at = 0;
    if (!self->kind->of_table) {
        rc = fill_list(self->kind, NULL, NULL, &cursor->list, &err);
    } else if (argc == 0) {
        rc = add_all_rows(self->conn, self->kind, &cursor->list, &err);
    } else {
        name = (const char *)sqlite3_value_text(argv[0]);
        if (name == NULL)
            return sqlite3_value_type(argv[0]) == SQLITE_NULL ? SQLITE_OK : SQLITE_NOMEM;
        rc = add_rows(self->conn, self->kind, name, &cursor->list, &other, &err);
    }
    return rc == SQLITE_OK ? rc : errmap_set(base->pVtab, rc, err);
}

static int rows_next(sqlite3_vtab_cursor *base)
{
    struct rows_cursor *cursor = (struct rows_cursor *)base;

    cursor->at += (size_t)((struct rows_vtab *)base->pVtab)->kind->columns;
    return SQLITE_OK;
}

static int rows_eof(sqlite3_vtab_cursor *base)
{
    struct rows_cursor *cursor = (struct rows_cursor *)base;

    return cursor->at >= cursor->list.count;
}

static int rows_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column)
{
    const struct rows_cursor *cursor = (struct rows_cursor *)base;
    const struct cell *cell = &cursor->list.cells[cursor->at + (size_t)column];

    if (cell->type == SQLITE_INTEGER)
        sqlite3_result_int64(context, cell->number);
    else if (cell->type == SQLITE_FLOAT)
        sqlite3_result_double(context, cell->real);
    else if (cell->type == SQLITE_TEXT)
        sqlite3_result_text(context, cell->text, -1, SQLITE_TRANSIENT);
    return SQLITE_OK;
}

static int rows_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *rowid)
{
    *rowid = (sqlite3_int64)((struct rows_cursor *)base)->at;
    return SQLITE_OK;
}

int tables_register(struct conn *conn)
{
    static const sqlite3_module module = {
        .iVersion = 1,
        .xConnect = rows_connect, /* without xCreate: it is there by its name alone */
        .xBestIndex = rows_best_index,
        .xDisconnect = rows_disconnect,
        .xOpen = rows_open,
        .xClose = rows_close,
        .xFilter = rows_filter,
        .xNext = rows_next,
        .xEof = rows_eof,
        .xColumn = rows_column,
        .xRowid = rows_rowid,
    };
    int rc = SQLITE_OK;

    for (size_t i = 0; rc == SQLITE_OK && i < sizeof kinds / sizeof kinds[0]; i++)
        rc = sqlite3_create_module_v2(conn->db, kinds[i].name, &module,
                                      conn_acquire(conn), conn_release);
    return rc;
}

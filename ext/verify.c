/* verify.c - armdb_verify(t): a row for every finding, or one row "ok".
 *
 *   SELECT * FROM armdb_verify('t')    finding, file, offset, table_name, key, advice
 *   SELECT armdb_verify('t')           'ok', or how many and the first
 *   PRAGMA integrity_check             from SQLite 3.44 on
 *
 * The store is looked at as a whole: its tables share its files. All rows are taken by
 * xFilter, before the first is handed out. */
#include "ext/verify.h"

#include <string.h>

#include "ext/errmap.h"
#include "ext/functions.h"
#include "ext/keytext.h"
#include "ext/vtab.h"

SQLITE_EXTENSION_INIT3

enum verify_column {
    VERIFY_FINDING,
    VERIFY_FILE,
    VERIFY_OFFSET,
    VERIFY_TABLE_NAME,
    VERIFY_KEY,
    VERIFY_ADVICE,
    VERIFY_ARGUMENT
};

enum { INTEGRITY_LINES_MAX = 100 };

struct finding {
    struct finding *next;
    char *what; /* owned, as the others; NULL: not known */
    char *file;
    char *table;
    char *key;
    char *todo;
    bool has_offset;
    uint64_t offset;
};

/* What is found, in order. */
struct findings {
    struct finding *first; /* owned list */
    struct finding **end;
    uint64_t count;
    bool failed; /* no memory for one */
    const struct vtab *vtab;
};

static void findings_init(struct findings *findings, const struct vtab *vtab)
{
    memset(findings, 0, sizeof *findings);
    findings->end = &findings->first;
    findings->vtab = vtab;
}

static void findings_fini(struct findings *findings)
{
    while (findings->first != NULL) {
        struct finding *finding = findings->first;

        findings->first = finding->next;
        sqlite3_free(finding->what);
        sqlite3_free(finding->file);
        sqlite3_free(finding->table);
        sqlite3_free(finding->key);
        sqlite3_free(finding->todo);
        sqlite3_free(finding);
    }
    findings->count = 0;
}

/* ---- Taking findings ---- */

/* The key as SQL values where it is the asked table's, else its bytes in hexadecimal. */
static char *key_text(const struct vtab *vtab, const struct armdb_finding *found)
{
    const char *name = vtab->table == NULL ? NULL : armdb_table_name(vtab->table);
    bool ours = found->table != NULL && name != NULL && strcmp(name, found->table) == 0;

    return keytext_make(ours ? &vtab->schema->key : NULL, found->key, found->key_len);
}

/* A copy, or NULL for NULL; *failed when there is no memory. */
static char *copy_text(const char *text, bool *failed)
{
    char *copy = text == NULL ? NULL : sqlite3_mprintf("%s", text);

    *failed = *failed || (text != NULL && copy == NULL);
    return copy;
}

static void take_finding(void *arg, const struct armdb_finding *found)
{
    struct findings *findings = arg;
    struct finding *finding = sqlite3_malloc64(sizeof *finding);

    if (finding == NULL) {
        findings->failed = true;
        return;
    }
    memset(finding, 0, sizeof *finding);
    *findings->end = finding;
    findings->end = &finding->next;
    findings->count++;
    finding->what = copy_text(found->what, &findings->failed);
    finding->file = copy_text(found->file, &findings->failed);
    finding->table = copy_text(found->table, &findings->failed);
    finding->todo = copy_text(found->todo, &findings->failed);
    finding->has_offset = found->has_offset;
    finding->offset = found->offset;
    if (found->key != NULL) {
        finding->key = key_text(findings->vtab, found);
        findings->failed = findings->failed || finding->key == NULL;
    }
}

static bool is_interrupted(void *arg)
{
    return conn_is_interrupted(arg);
}

/* findings_fini() in any case. */
static enum armdb_rc find_all(const struct vtab *vtab, struct findings *findings,
                              struct armdb_error *error)
{
    struct armdb_watch watch = {is_interrupted, vtab->conn};
    enum armdb_rc rc;

    findings_init(findings, vtab);
    rc = armdb_verify(vtab->store->store, &watch, take_finding, findings, error);
    if (rc == ARMDB_OK && findings->failed)
        rc = ADB_FAIL(ARMDB_NOMEM, error, "out of memory");
    return rc;
}

/* "file at offset: what (key): todo" */
static void append_finding(sqlite3_str *out, const struct finding *finding)
{
    if (finding->file != NULL)
        sqlite3_str_appendf(out, "%s: ", finding->file);
    if (finding->has_offset)
        sqlite3_str_appendf(out, "offset %lld: ", (sqlite3_int64)finding->offset);
    sqlite3_str_appendall(out, finding->what);
    if (finding->key != NULL)
        sqlite3_str_appendf(out, " (key %s)", finding->key);
    sqlite3_str_appendf(out, "; %s", finding->todo);
}

/* Finds the table; one whose rows cannot be reached for damage will do, if its store is
 * open: that is when verifying is wanted most. */
static int find_table(struct conn *conn, const char *name, struct vtab **vtab,
                      sqlite3_stmt **stmt, char **err)
{
    int rc = functions_find_table(conn, name, vtab, stmt, err);

    if ((rc & 0xff) == SQLITE_CORRUPT && *vtab != NULL) {
        sqlite3_free(*err);
        *err = NULL;
        rc = SQLITE_OK;
    }
    return rc;
}

/* ---- The function ---- */

static void verify_function(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    struct armdb_error error = {ARMDB_OK, 0, ""};
    struct findings findings;
    struct vtab *vtab = NULL;
    sqlite3_stmt *stmt = NULL;
    const char *name;
    char *text = NULL;
    sqlite3_str *out;
    enum armdb_rc rc;
    int sql_rc;

    (void)argc;
    findings_init(&findings, NULL);
    name = (const char *)sqlite3_value_text(argv[0]);
    if (name == NULL) {
        sqlite3_result_error(context, "the name of an armdb table is wanted", -1);
        goto out;
    }
    sql_rc = find_table(sqlite3_user_data(context), name, &vtab, &stmt, &text);
    if (sql_rc != SQLITE_OK) {
        if (text != NULL)
            sqlite3_result_error(context, text, -1);
        sqlite3_result_error_code(context, sql_rc);
        goto out;
    }
    rc = find_all(vtab, &findings, &error);
    if (rc != ARMDB_OK) {
        errmap_result(context, rc, &error);
    } else if (findings.count == 0) {
        sqlite3_result_text(context, "ok", -1, SQLITE_STATIC);
    } else {
        out = sqlite3_str_new(NULL);
        sqlite3_str_appendf(out,
                            "%lld found; the first: ", (sqlite3_int64)findings.count);
        append_finding(out, findings.first);
        text = sqlite3_str_finish(out);
        if (text == NULL)
            sqlite3_result_error_nomem(context);
        else
            sqlite3_result_text(context, text, -1, SQLITE_TRANSIENT);
    }
out:
    sqlite3_free(text);
    findings_fini(&findings);
    sqlite3_finalize(stmt);
}

/* ---- PRAGMA integrity_check ---- */

int verify_integrity(sqlite3_vtab *base, const char *schema, const char *table, int flags,
                     char **err)
{
    struct vtab *vtab = (struct vtab *)base;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    struct findings findings;
    sqlite3_str *out;
    int lines = 0;
    int rc = vtab_use(vtab);
    enum armdb_rc found;

    (void)schema;
    if ((rc & 0xff) == SQLITE_CORRUPT && vtab->store != NULL)
        rc = SQLITE_OK; /* its rows cannot be reached: why, is what follows */
    if (rc != SQLITE_OK || (flags & 1) != 0) /* quick_check: it can be opened */
        return rc;
    found = find_all(vtab, &findings, &error);
    if (found != ARMDB_OK) {
        findings_fini(&findings);
        return errmap_vtab(base, found, &error);
    }
    if (findings.count > 0) {
        out = sqlite3_str_new(NULL);
        sqlite3_str_appendf(out, "%s:", table);
        for (const struct finding *finding = findings.first;
             finding != NULL && lines < INTEGRITY_LINES_MAX; finding = finding->next) {
            sqlite3_str_appendall(out, lines++ > 0 ? "\n" : " ");
            append_finding(out, finding);
        }
        *err = sqlite3_str_finish(out);
        rc = *err == NULL ? SQLITE_NOMEM : SQLITE_OK;
    }
    findings_fini(&findings);
    return rc;
}

/* ---- The table ---- */

struct verify_vtab {
    sqlite3_vtab base;
    struct conn *conn; /* counted */
};

struct verify_cursor {
    sqlite3_vtab_cursor base;
    struct findings findings;
    const struct finding *at;
    bool ok; /* the one row that says so */
    sqlite3_int64 row;
    char *table; /* owned: the argument */
};

static int verify_connect(sqlite3 *db, void *aux, int argc, const char *const *argv,
                          sqlite3_vtab **out, char **err)
{
    struct verify_vtab *vtab;
    int rc;

    (void)argc;
    (void)argv;
    (void)err;
    *out = NULL;
    rc = sqlite3_declare_vtab(db, "CREATE TABLE x(finding TEXT, file TEXT, "
                                  "offset INTEGER, table_name TEXT, key TEXT, "
                                  "advice TEXT, tbl HIDDEN)");
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

static int verify_disconnect(sqlite3_vtab *base)
{
    struct verify_vtab *vtab = (struct verify_vtab *)base;

    conn_release(vtab->conn);
    sqlite3_free(vtab);
    return SQLITE_OK;
}

static int verify_best_index(sqlite3_vtab *base, sqlite3_index_info *info)
{
    for (int i = 0; i < info->nConstraint; i++) {
        if (info->aConstraint[i].iColumn != VERIFY_ARGUMENT ||
            info->aConstraint[i].op != SQLITE_INDEX_CONSTRAINT_EQ)
            continue;
        if (!info->aConstraint[i].usable)
            return SQLITE_CONSTRAINT;
        info->aConstraintUsage[i].argvIndex = 1;
        info->aConstraintUsage[i].omit = 1;
        info->estimatedCost = 1e9;
        info->estimatedRows = 1;
        return SQLITE_OK;
    }
    return errmap_set(base, SQLITE_ERROR,
                      sqlite3_mprintf("armdb_verify wants the name of a table: "
                                      "SELECT * FROM armdb_verify('t')"));
}

static int verify_open(sqlite3_vtab *base, sqlite3_vtab_cursor **out)
{
    struct verify_cursor *cursor = sqlite3_malloc64(sizeof *cursor);

    (void)base;
    *out = NULL;
    if (cursor == NULL)
        return SQLITE_NOMEM;
    memset(cursor, 0, sizeof *cursor);
    findings_init(&cursor->findings, NULL);
    *out = &cursor->base;
    return SQLITE_OK;
}

static void clear_cursor(struct verify_cursor *cursor)
{
    findings_fini(&cursor->findings);
    findings_init(&cursor->findings, NULL);
    sqlite3_free(cursor->table);
    cursor->table = NULL;
    cursor->at = NULL;
    cursor->ok = false;
    cursor->row = 0;
}

static int verify_close(sqlite3_vtab_cursor *base)
{
    clear_cursor((struct verify_cursor *)base);
    sqlite3_free(base);
    return SQLITE_OK;
}

static int verify_filter(sqlite3_vtab_cursor *base, int number, const char *text,
                         int argc, sqlite3_value **argv)
{
    struct verify_cursor *cursor = (struct verify_cursor *)base;
    struct verify_vtab *self = (struct verify_vtab *)base->pVtab;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    struct vtab *vtab = NULL;
    sqlite3_stmt *stmt = NULL;
    const char *name;
    char *err = NULL;
    int rc;

    (void)number;
    (void)text;
    clear_cursor(cursor);
    if (argc != 1)
        return SQLITE_MISUSE;
    name = (const char *)sqlite3_value_text(argv[0]);
    if (name == NULL)
        return sqlite3_value_type(argv[0]) == SQLITE_NULL ? SQLITE_OK : SQLITE_NOMEM;
    cursor->table = sqlite3_mprintf("%s", name);
    if (cursor->table == NULL)
        return SQLITE_NOMEM;
    rc = find_table(self->conn, name, &vtab, &stmt, &err);
    if (rc == SQLITE_OK) {
        enum armdb_rc found = find_all(vtab, &cursor->findings, &error);

        if (found != ARMDB_OK)
            rc = errmap_text(&err, found, &error);
        cursor->findings.vtab = NULL; /* it is valid only as long as stmt */
        cursor->at = cursor->findings.first;
        cursor->ok = rc == SQLITE_OK && cursor->at == NULL;
    }
    sqlite3_finalize(stmt);
    return rc == SQLITE_OK ? rc : errmap_set(base->pVtab, rc, err);
}

static int verify_next(sqlite3_vtab_cursor *base)
{
    struct verify_cursor *cursor = (struct verify_cursor *)base;

    cursor->ok = false;
    cursor->row++;
    if (cursor->at != NULL)
        cursor->at = cursor->at->next;
    return SQLITE_OK;
}

static int verify_eof(sqlite3_vtab_cursor *base)
{
    const struct verify_cursor *cursor = (struct verify_cursor *)base;

    return cursor->at == NULL && !cursor->ok;
}

static int verify_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column)
{
    const struct verify_cursor *cursor = (struct verify_cursor *)base;
    const struct finding *finding = cursor->at;
    const char *text = NULL;

    if (column == VERIFY_ARGUMENT)
        text = cursor->table;
    else if (finding == NULL)
        text = column == VERIFY_FINDING ? "ok" : NULL;
    else if (column == VERIFY_FINDING)
        text = finding->what;
    else if (column == VERIFY_FILE)
        text = finding->file;
    else if (column == VERIFY_TABLE_NAME)
        text = finding->table;
    else if (column == VERIFY_KEY)
        text = finding->key;
    else if (column == VERIFY_ADVICE)
        text = finding->todo;
    if (column == VERIFY_OFFSET && finding != NULL && finding->has_offset)
        sqlite3_result_int64(context, (sqlite3_int64)finding->offset);
    else if (text != NULL)
        sqlite3_result_text(context, text, -1, SQLITE_TRANSIENT);
    return SQLITE_OK;
}

static int verify_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *rowid)
{
    *rowid = ((struct verify_cursor *)base)->row;
    return SQLITE_OK;
}

int verify_register(struct conn *conn)
{
    static const sqlite3_module module = {
        .iVersion = 1,
        .xConnect = verify_connect, /* without xCreate: it is there by its name alone */
        .xBestIndex = verify_best_index,
        .xDisconnect = verify_disconnect,
        .xOpen = verify_open,
        .xClose = verify_close,
        .xFilter = verify_filter,
        .xNext = verify_next,
        .xEof = verify_eof,
        .xColumn = verify_column,
        .xRowid = verify_rowid,
    };
    int rc = sqlite3_create_module_v2(conn->db, "armdb_verify", &module,
                                      conn_acquire(conn), conn_release);

    if (rc == SQLITE_OK)
        rc = sqlite3_create_function_v2(
            conn->db, "armdb_verify", 1, SQLITE_UTF8 | SQLITE_DIRECTONLY,
            conn_acquire(conn), verify_function, NULL, NULL, conn_release);
    return rc;
}

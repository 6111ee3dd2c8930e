/* findings.c - findings as a list, as a table, as a text.
 *
 *   SELECT * FROM name(args)    finding, file, offset, table_name, key, advice
 *   SELECT name(args)           'ok', or the first and how many
 *
 * All rows are taken by xFilter, before the first is handed out. */
#include "ext/findings.h"

#include <string.h>

#include "ext/errmap.h"
#include "ext/functions.h"
#include "ext/keytext.h"

SQLITE_EXTENSION_INIT3

enum { ARGS_MAX = 2 };

enum finding_column {
    FINDING_WHAT,
    FINDING_FILE,
    FINDING_OFFSET,
    FINDING_TABLE_NAME,
    FINDING_KEY,
    FINDING_ADVICE,
    FINDING_ARGUMENT /* the first of them */
};

void findings_init(struct findings *findings, const struct vtab *vtab)
{
    memset(findings, 0, sizeof *findings);
    findings->end = &findings->first;
    findings->vtab = vtab;
}

void findings_fini(struct findings *findings)
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
    const char *name =
        vtab == NULL || vtab->table == NULL ? NULL : armdb_table_name(vtab->table);
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

void findings_take(void *arg, const struct armdb_finding *found)
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

bool findings_begin_with(struct findings *findings, const char *what, const char *todo)
{
    struct finding *finding = sqlite3_malloc64(sizeof *finding);
    bool failed = false;

    if (finding == NULL)
        return false;
    memset(finding, 0, sizeof *finding);
    finding->next = findings->first;
    if (findings->first == NULL)
        findings->end = &finding->next;
    findings->first = finding;
    findings->count++;
    finding->what = copy_text(what, &failed);
    finding->todo = copy_text(todo, &failed);
    return !failed;
}

bool findings_interrupted(void *conn)
{
    return conn_is_interrupted(conn);
}

void findings_append(sqlite3_str *out, const struct finding *finding)
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

int findings_find_table(struct conn *conn, const char *name, struct vtab **vtab,
                        sqlite3_stmt **stmt, char **err)
{
    int rc = functions_find_table(conn, name, vtab, stmt, err);

    if ((rc & 0xff) == SQLITE_CORRUPT && *vtab != NULL && (*vtab)->store != NULL) {
        sqlite3_free(*err);
        *err = NULL;
        rc = SQLITE_OK;
    }
    return rc;
}

/* ---- The function ---- */

/* A source with the connection that it works for. */
struct holder {
    struct conn *conn; /* counted */
    const struct findings_source *source;
};

static void holder_destroy(void *arg)
{
    struct holder *holder = arg;

    conn_release(holder->conn);
    sqlite3_free(holder);
}

static struct holder *holder_create(struct conn *conn,
                                    const struct findings_source *source)
{
    struct holder *holder = sqlite3_malloc64(sizeof *holder);

    if (holder != NULL) {
        holder->conn = conn_acquire(conn);
        holder->source = source;
    }
    return holder;
}

static void findings_function(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    const struct holder *holder = sqlite3_user_data(context);
    struct findings findings;
    char *text = NULL;
    sqlite3_str *out;
    int rc;

    (void)argc;
    findings_init(&findings, NULL);
    rc = holder->source->run(holder->conn, argv, &findings, &text);
    if (rc != SQLITE_OK) {
        if (text != NULL)
            sqlite3_result_error(context, text, -1);
        sqlite3_result_error_code(context, rc);
    } else if (findings.count == 0) {
        sqlite3_result_text(context, "ok", -1, SQLITE_STATIC);
    } else {
        out = sqlite3_str_new(NULL);
        if (findings.count > 1)
            sqlite3_str_appendf(
                out, "%lld findings; the first: ", (sqlite3_int64)findings.count);
        findings_append(out, findings.first);
        text = sqlite3_str_finish(out);
        if (text == NULL)
            sqlite3_result_error_nomem(context);
        else
            sqlite3_result_text(context, text, -1, SQLITE_TRANSIENT);
    }
    sqlite3_free(text);
    findings_fini(&findings);
}

/* ---- The table ---- */

struct findings_vtab {
    sqlite3_vtab base;
    struct conn *conn; /* counted */
    const struct findings_source *source;
};

struct findings_cursor {
    sqlite3_vtab_cursor base;
    struct findings findings;
    const struct finding *at;
    bool ok; /* the one row that says so */
    sqlite3_int64 row;
    sqlite3_value *args[ARGS_MAX]; /* owned */
};

static int findings_connect(sqlite3 *db, void *aux, int argc, const char *const *argv,
                            sqlite3_vtab **out, char **err)
{
    const struct holder *holder = aux;
    struct findings_vtab *vtab;
    char *sql;
    int rc;

    (void)argc;
    (void)argv;
    (void)err;
    *out = NULL;
    sql = sqlite3_mprintf("CREATE TABLE x(finding TEXT, file TEXT, offset INTEGER, "
                          "table_name TEXT, key TEXT, advice TEXT%s)",
                          holder->source->columns);
    if (sql == NULL)
        return SQLITE_NOMEM;
    rc = sqlite3_declare_vtab(db, sql);
    sqlite3_free(sql);
    if (rc == SQLITE_OK)
        rc = sqlite3_vtab_config(db, SQLITE_VTAB_DIRECTONLY);
    if (rc != SQLITE_OK)
        return rc;
    vtab = sqlite3_malloc64(sizeof *vtab);
    if (vtab == NULL)
        return SQLITE_NOMEM;
    memset(vtab, 0, sizeof *vtab);
    vtab->conn = conn_acquire(holder->conn);
    vtab->source = holder->source;
    *out = &vtab->base;
    return SQLITE_OK;
}

static int findings_disconnect(sqlite3_vtab *base)
{
    struct findings_vtab *vtab = (struct findings_vtab *)base;

    conn_release(vtab->conn);
    sqlite3_free(vtab);
    return SQLITE_OK;
}

static int findings_best_index(sqlite3_vtab *base, sqlite3_index_info *info)
{
    const struct findings_source *source = ((struct findings_vtab *)base)->source;
    bool unusable = false;
    int found = 0;

    for (int i = 0; i < info->nConstraint; i++) {
        int arg = info->aConstraint[i].iColumn - FINDING_ARGUMENT;

        if (arg < 0 || info->aConstraint[i].op != SQLITE_INDEX_CONSTRAINT_EQ ||
            (found & 1 << arg) != 0)
            continue;
        if (!info->aConstraint[i].usable) {
            unusable = true;
            continue;
        }
        info->aConstraintUsage[i].argvIndex = arg + 1;
        info->aConstraintUsage[i].omit = 1;
        found |= 1 << arg;
    }
    info->estimatedCost = 1e9;
    info->estimatedRows = 1;
    if (found == (1 << source->arg_count) - 1)
        return SQLITE_OK;
    return unusable
               ? SQLITE_CONSTRAINT
               : errmap_set(base, SQLITE_ERROR, sqlite3_mprintf("%s", source->usage));
}

static int findings_open(sqlite3_vtab *base, sqlite3_vtab_cursor **out)
{
    struct findings_cursor *cursor = sqlite3_malloc64(sizeof *cursor);

    (void)base;
    *out = NULL;
    if (cursor == NULL)
        return SQLITE_NOMEM;
    memset(cursor, 0, sizeof *cursor);
    findings_init(&cursor->findings, NULL);
    *out = &cursor->base;
    return SQLITE_OK;
}

static void clear_cursor(struct findings_cursor *cursor)
{
    findings_fini(&cursor->findings);
    findings_init(&cursor->findings, NULL);
    for (int i = 0; i < ARGS_MAX; i++) {
        sqlite3_value_free(cursor->args[i]);
        cursor->args[i] = NULL;
    }
    cursor->at = NULL;
    cursor->ok = false;
    cursor->row = 0;
}

static int findings_close(sqlite3_vtab_cursor *base)
{
    clear_cursor((struct findings_cursor *)base);
    sqlite3_free(base);
    return SQLITE_OK;
}

static int findings_filter(sqlite3_vtab_cursor *base, int number, const char *text,
                           int argc, sqlite3_value **argv)
{
    struct findings_cursor *cursor = (struct findings_cursor *)base;
    const struct findings_vtab *self = (const struct findings_vtab *)base->pVtab;
    char *err = NULL;
    int rc;

    (void)number;
    (void)text;
    clear_cursor(cursor);
    if (argc != self->source->arg_count)
        return SQLITE_MISUSE;
    for (int i = 0; i < argc; i++) {
        if (sqlite3_value_type(argv[i]) == SQLITE_NULL)
            return SQLITE_OK;
        cursor->args[i] = sqlite3_value_dup(argv[i]);
        if (cursor->args[i] == NULL)
            return SQLITE_NOMEM;
    }
    rc = self->source->run(self->conn, argv, &cursor->findings, &err);
    if (rc != SQLITE_OK)
        return errmap_set(base->pVtab, rc, err);
    cursor->at = cursor->findings.first;
    cursor->ok = cursor->at == NULL;
    return SQLITE_OK;
}

static int findings_next(sqlite3_vtab_cursor *base)
{
    struct findings_cursor *cursor = (struct findings_cursor *)base;

    cursor->ok = false;
    cursor->row++;
    if (cursor->at != NULL)
        cursor->at = cursor->at->next;
    return SQLITE_OK;
}

static int findings_eof(sqlite3_vtab_cursor *base)
{
    const struct findings_cursor *cursor = (struct findings_cursor *)base;

    return cursor->at == NULL && !cursor->ok;
}

static int findings_column(sqlite3_vtab_cursor *base, sqlite3_context *context,
                           int column)
{
    const struct findings_cursor *cursor = (struct findings_cursor *)base;
    const struct finding *finding = cursor->at;
    const char *text = NULL;

    if (column >= FINDING_ARGUMENT) {
        sqlite3_result_value(context, cursor->args[column - FINDING_ARGUMENT]);
        return SQLITE_OK;
    }
    if (finding == NULL)
        text = column == FINDING_WHAT ? "ok" : NULL;
    else if (column == FINDING_WHAT)
        text = finding->what;
    else if (column == FINDING_FILE)
        text = finding->file;
    else if (column == FINDING_TABLE_NAME)
        text = finding->table;
    else if (column == FINDING_KEY)
        text = finding->key;
    else if (column == FINDING_ADVICE)
        text = finding->todo;
    if (column == FINDING_OFFSET && finding != NULL && finding->has_offset)
        sqlite3_result_int64(context, (sqlite3_int64)finding->offset);
    else if (text != NULL)
        sqlite3_result_text(context, text, -1, SQLITE_TRANSIENT);
    return SQLITE_OK;
}

static int findings_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *rowid)
{
    *rowid = ((struct findings_cursor *)base)->row;
    return SQLITE_OK;
}

int findings_register(struct conn *conn, const struct findings_source *source)
{
    static const sqlite3_module module = {
        .iVersion = 1,
        .xConnect = findings_connect, /* without xCreate: it is there by its name alone */
        .xBestIndex = findings_best_index,
        .xDisconnect = findings_disconnect,
        .xOpen = findings_open,
        .xClose = findings_close,
        .xFilter = findings_filter,
        .xNext = findings_next,
        .xEof = findings_eof,
        .xColumn = findings_column,
        .xRowid = findings_rowid,
    };
    struct holder *holder = holder_create(conn, source);
    int rc;

    if (holder == NULL)
        return SQLITE_NOMEM;
    rc =
        sqlite3_create_module_v2(conn->db, source->name, &module, holder, holder_destroy);
    if (rc != SQLITE_OK)
        return rc; /* SQLite has called holder_destroy() */
    holder = holder_create(conn, source);
    if (holder == NULL)
        return SQLITE_NOMEM;
    return sqlite3_create_function_v2(conn->db, source->name, source->arg_count,
                                      SQLITE_UTF8 | SQLITE_DIRECTONLY, holder,
                                      findings_function, NULL, NULL, holder_destroy);
}

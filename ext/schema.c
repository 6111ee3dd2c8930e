/* schema.c - from module arguments to columns, by way of SQLite's own parser.
 *
 *   arguments -> options                                     options.c
 *             -> definitions -> closed text? -> scratch table -> PRAGMAs -> struct schema
 *                                                             -> declaration (generated)
 *
 * 1. The definitions are joined to one text. Before that text goes anywhere it is cut
 *    into tokens: every quote, comment and parenthesis in it must end in it and no ';'
 *    may stand in it, so that `CREATE TABLE t( text ) WITHOUT ROWID` is one statement
 *    whatever the text is. (It may come from a foreign database file or store.) What
 *    SQLite then compiles is watched by an authorizer that lets it create that one table
 *    and nothing else.
 * 2. The scratch table has the real table's name, because a CHECK may say t.a. PRAGMAs
 *    tell what SQLite understood; what an armdb table cannot keep (UNIQUE beside the
 *    key, foreign keys, generated columns, ON CONFLICT) is refused with the reason,
 *    never ignored.
 * 3. The text for sqlite3_declare_vtab() is generated from what was understood, every
 *    name quoted; the user's text never reaches the user's connection.
 * 4. What rows will need of the scratch connection (DEFAULTs, CHECKs) is prepared by
 *    schema_row.c; when that is nothing the connection is closed.
 *
 * ON CONFLICT clauses of definitions are refused: the core tells a virtual table the
 * conflict clause of the statement only, and ABORT when it has none. So "none" and "OR
 * ABORT" cannot be told apart and a clause of the definition could not be honoured. */
#include "ext/schema.h"

#include <stdarg.h>
#include <string.h>

#include "ext/schema_private.h"
#include "ext/token.h"

SQLITE_EXTENSION_INIT3

static const char definitions_when_none[] = "key PRIMARY KEY, value";

/* Names that every table has hidden. */
static const char *const reserved_names[] = {"_command", "_size", "_seq", "_key"};

/* What a reading step works on. */
struct builder {
    struct schema *schema;
    sqlite3 *db; /* the scratch connection; moves to schema->priv if rows need it */
    char **err;
};

int schema_refuse(char **err, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    sqlite3_free(*err);
    *err = sqlite3_vmprintf(format, args);
    va_end(args);
    return *err == NULL ? SQLITE_NOMEM : SQLITE_ERROR;
}

/* ---- The definitions as text ----------------------------------------------- */

/* Goes over the whole text once (see 1. above); notes CHECKs. */
static int check_text(struct builder *builder)
{
    const char *rest = builder->schema->text;
    struct token before = {TOKEN_END, NULL, 0};
    bool item_begins = true;
    int depth = 0;

    for (;;) {
        struct token token;

        token_next(&rest, &token);
        if (token.kind == TOKEN_END)
            break;
        if (token.kind == TOKEN_BAD)
            return schema_refuse(builder->err, "a quote or comment does not end: %s",
                                 token.z);
        if (token_is_punct(&token, ';'))
            return schema_refuse(builder->err,
                                 "';' is not allowed in column definitions");
        if (token_is_punct(&token, '('))
            depth++;
        if (token_is_punct(&token, ')') && --depth < 0)
            return schema_refuse(builder->err, "a ')' has no '('");
        if (item_begins && token_is_word(&token, "index"))
            return schema_refuse(builder->err, "INDEX is not supported by this version");
        if (token_is_word(&token, "conflict") && token_is_word(&before, "on"))
            return schema_refuse(builder->err,
                                 "ON CONFLICT is not supported in definitions: write "
                                 "INSERT OR REPLACE, OR IGNORE, ...");
        if (token_is_word(&token, "check"))
            builder->schema->has_checks = true;
        item_begins = depth == 0 && token_is_punct(&token, ',');
        before = token;
    }
    if (depth != 0)
        return schema_refuse(builder->err, "a '(' has no ')'");
    return SQLITE_OK;
}

/* Collects the CHECKs of the text, normalized, each on a line of its own. */
static char *collect_checks(const char *text)
{
    sqlite3_str *out = sqlite3_str_new(NULL);
    const char *rest = text;
    struct token token;

    for (token_next(&rest, &token); token.kind != TOKEN_END; token_next(&rest, &token)) {
        const char *start = rest;
        size_t count = 0;
        int depth = 0;

        if (!token_is_word(&token, "check"))
            continue;
        do {
            token_next(&rest, &token);
            depth += token_is_punct(&token, '(') ? 1 : 0;
            depth -= token_is_punct(&token, ')') ? 1 : 0;
            count++;
        } while (depth > 0 && token.kind != TOKEN_END);
        token_normalize(start, count, out);
        sqlite3_str_appendchar(out, 1, '\n');
    }
    if (sqlite3_str_length(out) == 0)
        sqlite3_str_appendchar(out, 1, '\n'); /* so that NULL means "no memory" */
    return sqlite3_str_finish(out);
}

/* ---- The scratch table ----------------------------------------------------- */

/* Lets the scratch connection create the one table, with what that takes. */
static int authorize(void *arg, int action, const char *first, const char *second,
                     const char *database, const char *trigger)
{
    const struct schema *schema = arg;

    (void)database;
    (void)trigger;
    switch (action) {
    case SQLITE_CREATE_TABLE:
        return strcmp(first, schema->table_name) == 0 ? SQLITE_OK : SQLITE_DENY;
    case SQLITE_CREATE_INDEX: /* the one that SQLite makes for the key */
        return strcmp(second, schema->table_name) == 0 ? SQLITE_OK : SQLITE_DENY;
    case SQLITE_INSERT: /* the schema table's rows */
    case SQLITE_UPDATE:
    case SQLITE_READ:
        return sqlite3_strnicmp(first, "sqlite_", 7) == 0 ||
                       strcmp(first, schema->table_name) == 0
                   ? SQLITE_OK
                   : SQLITE_DENY;
    case SQLITE_FUNCTION: /* in CHECK and DEFAULT; compiled, not run */
    case SQLITE_SELECT:
        return SQLITE_OK;
    default:
        return SQLITE_DENY;
    }
}

/* Says what SQLite did not like, with advice where its own words give none. */
static int refuse_definitions(struct builder *builder)
{
    const char *text = sqlite3_errmsg(builder->db);

    if (sqlite3_errcode(builder->db) == SQLITE_NOMEM)
        return SQLITE_NOMEM;
    if (strncmp(text, "PRIMARY KEY missing", 19) == 0)
        return schema_refuse(builder->err,
                             "there is no PRIMARY KEY: say which column or columns are "
                             "the key, such as (name TEXT PRIMARY KEY, ...)");
    return schema_refuse(builder->err, "column definitions: %s", text);
}

static int create_scratch_table(struct builder *builder)
{
    struct schema *schema = builder->schema;
    char *sql = sqlite3_mprintf("CREATE TABLE \"%w\"(\n%s\n) WITHOUT ROWID",
                                schema->table_name, schema->text);
    sqlite3_stmt *stmt = NULL;
    const char *tail = "";
    struct token token;
    int rc = SQLITE_NOMEM;

    if (sql == NULL)
        goto out;
    (void)sqlite3_set_authorizer(builder->db, authorize, schema);
    rc = sqlite3_prepare_v2(builder->db, sql, -1, &stmt, &tail);
    if (rc == SQLITE_OK) {
        token_next(&tail, &token);
        if (token.kind != TOKEN_END || stmt == NULL) {
            rc = schema_refuse(builder->err, "column definitions: more than definitions");
            goto out;
        }
        rc = sqlite3_step(stmt);
    }
    (void)sqlite3_set_authorizer(builder->db, NULL, NULL);
    rc = rc == SQLITE_DONE ? SQLITE_OK : refuse_definitions(builder);
out:
    (void)sqlite3_finalize(stmt);
    sqlite3_free(sql);
    return rc;
}

/* ---- Reading what SQLite understood ---------------------------------------- */

/* Prepares a query about the table, whose name is ?1. */
static int ask(struct builder *builder, const char *sql, sqlite3_stmt **stmt)
{
    int rc = sqlite3_prepare_v2(builder->db, sql, -1, stmt, NULL);

    if (rc == SQLITE_OK)
        rc = sqlite3_bind_text(*stmt, 1, builder->schema->table_name, -1, SQLITE_STATIC);
    return rc;
}

/* Ends a query: the code of its last step, unless that was an ordinary one. */
static int end_query(struct builder *builder, sqlite3_stmt *stmt, int rc)
{
    if (rc == SQLITE_DONE || rc == SQLITE_ROW)
        rc = SQLITE_OK;
    else if (rc != SQLITE_NOMEM && *builder->err == NULL)
        rc = schema_refuse(builder->err, "reading the definitions: %s",
                           sqlite3_errmsg(builder->db));
    (void)sqlite3_finalize(stmt);
    return rc;
}

/* The first column of a query's first row as a number; 0 when there is none. */
static int ask_number(struct builder *builder, const char *sql, int *number)
{
    sqlite3_stmt *stmt = NULL;
    int rc = ask(builder, sql, &stmt);

    *number = 0;
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        *number = sqlite3_column_int(stmt, 0);
    return end_query(builder, stmt, rc);
}

static char *copy_text(const char *text)
{
    return sqlite3_mprintf("%s", text == NULL ? "" : text);
}

static int refuse_reserved(struct builder *builder, const char *name)
{
    size_t count = sizeof reserved_names / sizeof reserved_names[0];

    for (size_t i = 0; i < count; i++) {
        if (sqlite3_stricmp(name, reserved_names[i]) == 0)
            return schema_refuse(
                builder->err,
                "column name %s is reserved: every armdb table has it hidden",
                reserved_names[i]);
    }
    return SQLITE_OK;
}

/* A virtual table's column with this word in its type would vanish. */
static int refuse_hidden_type(struct builder *builder, const char *name, const char *type)
{
    struct token token;

    do {
        token_next(&type, &token);
        if (token_is_word(&token, "hidden"))
            return schema_refuse(builder->err,
                                 "column %s: the word HIDDEN is not allowed in a type",
                                 name);
    } while (token.kind != TOKEN_END);
    return SQLITE_OK;
}

/* Takes one row of PRAGMA table_xinfo. */
static int read_column(struct builder *builder, sqlite3_stmt *stmt,
                       struct schema_column *column)
{
    const char *name = (const char *)sqlite3_column_text(stmt, 0);
    const char *type = (const char *)sqlite3_column_text(stmt, 1);
    const char *dflt = (const char *)sqlite3_column_text(stmt, 3);
    const char *collation = NULL;
    int rc;

    if (name == NULL || type == NULL)
        return SQLITE_NOMEM;
    column->key_index = -1;
    column->row_index = -1;
    column->not_null =
        sqlite3_column_int(stmt, 2) != 0 || sqlite3_column_int(stmt, 4) != 0;
    if (sqlite3_column_int(stmt, 5) != 0)
        return schema_refuse(
            builder->err,
            "column %s: generated columns are not supported; compute the value "
            "in a view or in the INSERT",
            name);
    rc = refuse_reserved(builder, name);
    if (rc == SQLITE_OK)
        rc = refuse_hidden_type(builder, name, type);
    if (rc == SQLITE_OK)
        rc = sqlite3_table_column_metadata(builder->db, "main",
                                           builder->schema->table_name, name, NULL,
                                           &collation, NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return rc;
    column->affinity = affinity_of_type(type);
    column->name = copy_text(name);
    column->type = copy_text(type);
    column->collation = copy_text(collation == NULL ? "BINARY" : collation);
    if (dflt != NULL)
        column->dflt = copy_text(dflt);
    if (column->name == NULL || column->type == NULL || column->collation == NULL ||
        (dflt != NULL && column->dflt == NULL))
        return SQLITE_NOMEM;
    return SQLITE_OK;
}

static int read_columns(struct builder *builder)
{
    struct schema *schema = builder->schema;
    sqlite3_stmt *stmt = NULL;
    int count = 0;
    int rc = ask_number(builder, "SELECT count(*) FROM pragma_table_xinfo(?1)", &count);

    if (rc != SQLITE_OK)
        return rc;
    schema->columns = sqlite3_malloc64((uint64_t)count * sizeof *schema->columns + 1);
    if (schema->columns == NULL)
        return SQLITE_NOMEM;
    memset(schema->columns, 0, (size_t)count * sizeof *schema->columns);
    rc = ask(builder,
             "SELECT name, type, \"notnull\", dflt_value, pk, hidden "
             "FROM pragma_table_xinfo(?1) ORDER BY cid",
             &stmt);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    while (rc == SQLITE_ROW && schema->column_count < (uint32_t)count) {
        rc = read_column(builder, stmt, &schema->columns[schema->column_count++]);
        if (rc == SQLITE_OK)
            rc = sqlite3_step(stmt);
    }
    return end_query(builder, stmt, rc);
}

static int read_collation(struct builder *builder, const char *name, enum collation *out)
{
    if (sqlite3_stricmp(name, "BINARY") == 0)
        *out = COLLATION_BINARY;
    else if (sqlite3_stricmp(name, "NOCASE") == 0)
        *out = COLLATION_NOCASE;
    else if (sqlite3_stricmp(name, "RTRIM") == 0)
        *out = COLLATION_RTRIM;
    else
        return schema_refuse(
            builder->err,
            "collation %s is not supported in a key: use BINARY, NOCASE or "
            "RTRIM",
            name);
    return SQLITE_OK;
}

/* Reads the columns of the key from the index that SQLite made for it. */
static int read_key(struct builder *builder)
{
    struct schema *schema = builder->schema;
    struct key_layout *key = &schema->key;
    sqlite3_stmt *stmt = NULL;
    int rc;

    key->parts = sqlite3_malloc64(schema->column_count * sizeof *key->parts + 1);
    if (key->parts == NULL)
        return SQLITE_NOMEM;
    rc = ask(builder,
             "SELECT x.cid, x.desc, x.coll FROM pragma_index_list(?1) AS l, "
             "pragma_index_xinfo(l.name) AS x WHERE l.origin = 'pk' AND x.key "
             "ORDER BY x.seqno",
             &stmt);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    while (rc == SQLITE_ROW && key->part_count < schema->column_count) {
        struct key_part *part = &key->parts[key->part_count];
        const char *collation = (const char *)sqlite3_column_text(stmt, 2);
        int cid = sqlite3_column_int(stmt, 0);

        if (cid < 0 || (uint32_t)cid >= schema->column_count || collation == NULL) {
            rc = schema_refuse(builder->err, "the PRIMARY KEY has something but columns");
            break;
        }
        part->column = (uint32_t)cid;
        part->affinity = schema->columns[cid].affinity;
        part->desc = sqlite3_column_int(stmt, 1) != 0;
        schema->columns[cid].key_index = (int32_t)key->part_count++;
        schema->columns[cid].not_null = true;
        rc = read_collation(builder, collation, &part->collation);
        schema->columns[cid].sorted_by_key =
            sqlite3_stricmp(schema->columns[cid].collation, collation) == 0;
        if (rc == SQLITE_OK)
            rc = sqlite3_step(stmt);
    }
    rc = end_query(builder, stmt, rc);
    if (rc == SQLITE_OK && key->part_count == 0)
        rc = schema_refuse(builder->err, "the PRIMARY KEY has no columns");
    return rc;
}

/* What SQLite allows and an armdb table cannot keep. */
static int refuse_others(struct builder *builder)
{
    int found = 0;
    int rc = ask_number(builder,
                        "SELECT count(*) FROM pragma_index_list(?1) WHERE origin <> 'pk'",
                        &found);

    if (rc == SQLITE_OK && found > 0)
        return schema_refuse(builder->err,
                             "UNIQUE is supported for the PRIMARY KEY only: make the "
                             "columns the key, or keep a second table whose key they "
                             "are");
    if (rc == SQLITE_OK)
        rc = ask_number(builder, "SELECT count(*) FROM pragma_foreign_key_list(?1)",
                        &found);
    if (rc == SQLITE_OK && found > 0)
        return schema_refuse(builder->err, "REFERENCES and FOREIGN KEY are not "
                                           "supported: leave them out");
    return rc;
}

/* ---- The declared table ---------------------------------------------------- */

/* Numbers the columns outside the key. */
static int number_row_columns(struct builder *builder)
{
    struct schema *schema = builder->schema;

    schema->row_columns =
        sqlite3_malloc64(schema->column_count * sizeof *schema->row_columns + 1);
    if (schema->row_columns == NULL)
        return SQLITE_NOMEM;
    for (uint32_t c = 0; c < schema->column_count; c++) {
        if (schema->columns[c].key_index >= 0)
            continue;
        schema->columns[c].row_index = (int32_t)schema->row_count;
        schema->row_columns[schema->row_count++] = c;
    }
    return SQLITE_OK;
}

const char *schema_collation_name(enum collation collation)
{
    switch (collation) {
    case COLLATION_BINARY:
        return "BINARY";
    case COLLATION_NOCASE:
        return "NOCASE";
    case COLLATION_RTRIM:
        return "RTRIM";
    }
    return "BINARY";
}

static bool has_column(const struct schema *schema, const char *name)
{
    for (uint32_t c = 0; c < schema->column_count; c++) {
        if (sqlite3_stricmp(schema->columns[c].name, name) == 0)
            return true;
    }
    return false;
}

/* A hidden column may not have a name that another column has, whether a visible one
 * or another hidden one. */
static const char *command_name(const struct schema *schema)
{
    for (size_t i = 0; i < sizeof reserved_names / sizeof reserved_names[0]; i++) {
        if (sqlite3_stricmp(schema->table_name, reserved_names[i]) == 0)
            return "_command";
    }
    return has_column(schema, schema->table_name) ? "_command" : schema->table_name;
}

/* Types are quoted: SQLite reports them without the quotes they may need, and an
 * unbalanced one would end the name of the type early. */
static int generate_declaration(struct builder *builder)
{
    struct schema *schema = builder->schema;
    sqlite3_str *sql = sqlite3_str_new(NULL);

    sqlite3_str_appendall(sql, "CREATE TABLE x(");
    for (uint32_t c = 0; c < schema->column_count; c++) {
        const struct schema_column *column = &schema->columns[c];

        sqlite3_str_appendf(sql, "\"%w\"", column->name);
        if (column->type[0] != '\0')
            sqlite3_str_appendf(sql, " \"%w\"", column->type);
        if (sqlite3_stricmp(column->collation, "BINARY") != 0)
            sqlite3_str_appendf(sql, " COLLATE \"%w\"", column->collation);
        if (column->not_null)
            sqlite3_str_appendall(sql, " NOT NULL");
        sqlite3_str_appendall(sql, ", ");
    }
    sqlite3_str_appendf(sql, "\"%w\" HIDDEN, _size INTEGER HIDDEN, _seq INTEGER HIDDEN, ",
                        command_name(schema));
    schema->column_command = (int)schema->column_count;
    schema->column_size = schema->column_command + 1;
    schema->column_seq = schema->column_command + 2;
    schema->column_key = -1;
    if (schema->key.part_count > 1) {
        schema->column_key = schema->column_command + 3;
        sqlite3_str_appendall(sql, "_key BLOB HIDDEN NOT NULL, PRIMARY KEY(_key)");
    } else {
        const struct key_part *part = &schema->key.parts[0];

        sqlite3_str_appendf(sql, "PRIMARY KEY(\"%w\" COLLATE %s)",
                            schema->columns[part->column].name,
                            schema_collation_name(part->collation));
    }
    sqlite3_str_appendall(sql, ") WITHOUT ROWID");
    schema->declaration = sqlite3_str_finish(sql);
    return schema->declaration == NULL ? SQLITE_NOMEM : SQLITE_OK;
}

/* ---- All together ---------------------------------------------------------- */

static int allocate_private(struct schema *schema)
{
    struct schema_private *priv = schema->priv;
    size_t bytes = schema->column_count * sizeof *priv->defaults;

    priv->checks = collect_checks(schema->text);
    priv->defaults = sqlite3_malloc64(bytes + 1);
    if (priv->defaults != NULL)
        memset(priv->defaults, 0, bytes); /* the destructor looks at them */
    if (priv->checks == NULL || priv->defaults == NULL)
        return SQLITE_NOMEM;
    return SQLITE_OK;
}

/* Reads schema->text, which is set, as is schema->table_name. */
static int read_definitions(struct schema *schema, char **err)
{
    struct builder builder = {schema, NULL, err};
    int rc = check_text(&builder);

    if (rc == SQLITE_OK)
        rc = sqlite3_open_v2(
            ":memory:", &builder.db,
            SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc == SQLITE_OK)
        rc = create_scratch_table(&builder);
    if (rc == SQLITE_OK)
        rc = read_columns(&builder);
    if (rc == SQLITE_OK)
        rc = read_key(&builder);
    if (rc == SQLITE_OK)
        rc = refuse_others(&builder);
    if (rc == SQLITE_OK)
        rc = number_row_columns(&builder);
    if (rc == SQLITE_OK)
        rc = allocate_private(schema);
    if (rc == SQLITE_OK)
        rc = schema_prepare_rows(schema, builder.db, err);
    if (rc == SQLITE_OK)
        rc = generate_declaration(&builder);
    if (schema->priv->defaults_stmt != NULL || schema->priv->check_stmt != NULL)
        schema->priv->db = builder.db; /* rows need it; closed by schema_destroy() */
    else
        (void)sqlite3_close(builder.db);
    return rc;
}

static struct schema *allocate_schema(const char *table_name)
{
    struct schema *schema = sqlite3_malloc64(sizeof *schema);

    if (schema == NULL)
        return NULL;
    memset(schema, 0, sizeof *schema);
    schema->table_name = copy_text(table_name);
    schema->priv = sqlite3_malloc64(sizeof *schema->priv);
    if (schema->priv != NULL)
        memset(schema->priv, 0, sizeof *schema->priv);
    if (schema->table_name == NULL || schema->priv == NULL) {
        schema_destroy(schema);
        return NULL;
    }
    return schema;
}

/* Sorts the arguments into options and definitions; schema->text gets the latter. */
static int sort_arguments(struct schema *schema, int argc, const char *const *argv,
                          struct table_options *options, char **err)
{
    sqlite3_str *text = sqlite3_str_new(NULL);
    int rc = SQLITE_OK;

    for (int i = 0; rc == SQLITE_OK && i < argc; i++) {
        const char *rest = argv[i];
        struct token token;
        bool is_option = false;

        rc = options_parse(options, argv[i], &is_option, err);
        token_next(&rest, &token);
        if (rc != SQLITE_OK || is_option || (token.kind == TOKEN_END && argc == 1))
            continue;
        sqlite3_str_appendf(text, "%s%s", schema->columns_given ? ", " : "", token.z);
        schema->columns_given = true;
    }
    if (!schema->columns_given)
        sqlite3_str_appendall(text, definitions_when_none);
    schema->text = sqlite3_str_finish(text);
    if (rc == SQLITE_OK && schema->text == NULL)
        rc = SQLITE_NOMEM;
    if (rc == SQLITE_OK && strlen(schema->text) > ARMDB_SCHEMA_BYTES_MAX)
        rc = schema_refuse(err, "column definitions of more than %d bytes",
                           (int)ARMDB_SCHEMA_BYTES_MAX);
    return rc;
}

int schema_parse(const char *table_name, int argc, const char *const *argv,
                 struct table_options *options, struct schema **out, char **err)
{
    struct schema *schema = allocate_schema(table_name);
    int rc = SQLITE_NOMEM;

    *out = NULL;
    *err = NULL;
    if (schema != NULL)
        rc = sort_arguments(schema, argc, argv, options, err);
    if (rc == SQLITE_OK)
        rc = read_definitions(schema, err);
    if (rc == SQLITE_OK) {
        *out = schema;
        schema = NULL;
    }
    schema_destroy(schema);
    return rc;
}

int schema_parse_stored(const char *table_name, const void *text, size_t len,
                        struct schema **out, char **err)
{
    struct schema *schema = NULL;
    int rc = SQLITE_NOMEM;

    *out = NULL;
    *err = NULL;
    if (len == 0 || len > ARMDB_SCHEMA_BYTES_MAX || memchr(text, 0, len) != NULL)
        return schema_refuse(err, "the stored column definitions are no text");
    schema = allocate_schema(table_name);
    if (schema != NULL)
        schema->text = sqlite3_mprintf("%.*s", (int)len, (const char *)text);
    if (schema != NULL && schema->text != NULL) {
        schema->columns_given = true;
        rc = read_definitions(schema, err);
    }
    if (rc == SQLITE_OK) {
        *out = schema;
        schema = NULL;
    }
    schema_destroy(schema);
    return rc;
}

static void destroy_private(struct schema *schema)
{
    struct schema_private *priv = schema->priv;

    if (priv == NULL)
        return;
    for (uint32_t c = 0; priv->defaults != NULL && c < schema->column_count; c++)
        sqlite3_value_free(priv->defaults[c].held);
    (void)sqlite3_finalize(priv->defaults_stmt);
    (void)sqlite3_finalize(priv->check_stmt);
    (void)sqlite3_finalize(priv->delete_stmt);
    (void)sqlite3_close(priv->db);
    sqlite3_free(priv->defaults);
    sqlite3_free(priv->checks);
    sqlite3_free(priv);
}

void schema_destroy(struct schema *schema)
{
    if (schema == NULL)
        return;
    destroy_private(schema);
    for (uint32_t c = 0; c < schema->column_count; c++) {
        sqlite3_free(schema->columns[c].name);
        sqlite3_free(schema->columns[c].type);
        sqlite3_free(schema->columns[c].collation);
        sqlite3_free(schema->columns[c].dflt);
    }
    sqlite3_free(schema->columns);
    sqlite3_free(schema->key.parts);
    sqlite3_free(schema->row_columns);
    sqlite3_free(schema->declaration);
    sqlite3_free(schema->text);
    sqlite3_free(schema->table_name);
    sqlite3_free(schema);
}

int schema_rename(struct schema *schema, const char *table_name, char **err)
{
    struct schema *fresh = NULL;
    struct schema_private *priv;
    char *name;
    int rc =
        schema_parse_stored(table_name, schema->text, strlen(schema->text), &fresh, err);

    if (rc != SQLITE_OK || fresh == NULL)
        return rc;
    priv = schema->priv;
    name = schema->table_name;
    schema->priv = fresh->priv;
    schema->table_name = fresh->table_name;
    fresh->priv = priv;
    fresh->table_name = name;
    schema_destroy(fresh);
    return SQLITE_OK;
}

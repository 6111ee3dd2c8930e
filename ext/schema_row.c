/* schema_row.c - the rules that SQLite's core leaves to a virtual table.
 *
 * For an ordinary table the core does this with every row before it is stored:
 * defaults for omitted columns, affinities, NOT NULL, CHECK, PRIMARY KEY, in this order.
 * For a virtual table it does none of it.
 *
 * Affinity and NOT NULL are done here. Defaults and CHECKs are expressions, which only
 * SQLite can evaluate as SQLite does.
 *
 *   DEFAULT that is a literal   evaluated once, when the definitions are read
 *   any other DEFAULT           a column of a view in the scratch database, so that
 *                               SQLite applies its rules for expressions that come from
 *                               a schema (no function for direct use only); the view is
 *                               queried once for each row that needs one of them
 *   CHECK                       the row is inserted into the scratch table, which was
 *                               created with the same definitions: that gives SQLite's
 *                               verdict in SQLite's words. It is deleted again at once;
 *                               being alone, it meets no key conflict
 *
 * Only tables with such a DEFAULT or a CHECK pay for them. */
#include "ext/schema_private.h"
#include "ext/token.h"

SQLITE_EXTENSION_INIT3

/* ---- Preparing ------------------------------------------------------------- */

static bool is_time_word(const struct token *token)
{
    return token_is_word(token, "current_time") || token_is_word(token, "current_date") ||
           token_is_word(token, "current_timestamp");
}

/* True for a name, bare or quoted, which as a DEFAULT stands for its text. */
static bool is_name(const struct token *token)
{
    if (token->kind == TOKEN_QUOTED)
        return true;
    return token->kind == TOKEN_WORD && !is_time_word(token) &&
           !token_is_word(token, "null") && !token_is_word(token, "true") &&
           !token_is_word(token, "false");
}

/* Whether the DEFAULT's text is a literal. *expression: the same as an expression;
 * NULL when out of memory. */
static bool is_literal(const char *dflt, char **expression)
{
    const char *rest = dflt;
    struct token token;
    struct token next;
    bool sign;

    token_next(&rest, &token);
    sign = token_is_punct(&token, '-') || token_is_punct(&token, '+');
    if (sign)
        token_next(&rest, &token);
    token_next(&rest, &next);
    if (!sign && next.kind == TOKEN_END && is_name(&token)) {
        char *name = token_unquote(&token);

        *expression = name == NULL ? NULL : sqlite3_mprintf("%Q", name);
        sqlite3_free(name);
        return true;
    }
    *expression = sqlite3_mprintf("(%s\n)", dflt);
    if (next.kind != TOKEN_END)
        return false;
    if (token.kind == TOKEN_NUMBER)
        return true;
    return !sign && (token.kind == TOKEN_STRING || token.kind == TOKEN_BLOB ||
                     (token.kind == TOKEN_WORD && !is_time_word(&token)));
}

/* Evaluates a literal. */
static int evaluate_literal(sqlite3 *db, const char *expression, enum affinity affinity,
                            struct schema_default *dflt, char **err)
{
    char *sql = sqlite3_mprintf("SELECT %s", expression);
    sqlite3_stmt *stmt = NULL;
    int rc = SQLITE_NOMEM;

    if (sql == NULL)
        return rc;
    rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW && sqlite3_column_type(stmt, 0) != SQLITE_NULL) {
        dflt->held = sqlite3_value_dup(sqlite3_column_value(stmt, 0));
        rc = SQLITE_NOMEM;
        if (dflt->held != NULL)
            rc = affinity_store(dflt->held, affinity, &dflt->value);
        if (rc == SQLITE_OK)
            dflt->kind = DEFAULT_CONSTANT;
    } else if (rc == SQLITE_ROW) {
        rc = SQLITE_OK; /* DEFAULT NULL is none */
    } else if (rc != SQLITE_NOMEM) {
        rc = schema_refuse(err, "DEFAULT: %s", sqlite3_errmsg(db));
    }
    (void)sqlite3_finalize(stmt);
    sqlite3_free(sql);
    return rc;
}

/* Makes the view of the defaults that are no literals, and the query on it. */
static int prepare_view(struct schema *schema, sqlite3 *db, const char *expressions,
                        char **err)
{
    char *view = sqlite3_mprintf("CREATE VIEW \"%w_default\" AS SELECT %s",
                                 schema->table_name, expressions);
    char *query = sqlite3_mprintf("SELECT * FROM \"%w_default\"", schema->table_name);
    int rc = SQLITE_NOMEM;

    if (view != NULL && query != NULL)
        rc = sqlite3_exec(db, view, NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(db, query, -1, &schema->priv->defaults_stmt, NULL);
    if (rc != SQLITE_OK && rc != SQLITE_NOMEM)
        rc = schema_refuse(err, "DEFAULT: %s", sqlite3_errmsg(db));
    sqlite3_free(view);
    sqlite3_free(query);
    return rc;
}

static int read_defaults(struct schema *schema, sqlite3 *db, char **err)
{
    sqlite3_str *dynamic = sqlite3_str_new(NULL);
    int dynamic_count = 0;
    char *expressions;
    int rc = SQLITE_OK;

    for (uint32_t c = 0; rc == SQLITE_OK && c < schema->column_count; c++) {
        struct schema_default *dflt = &schema->priv->defaults[c];
        char *expression = NULL;

        if (schema->columns[c].dflt == NULL)
            continue;
        if (is_literal(schema->columns[c].dflt, &expression)) {
            rc = expression == NULL
                     ? SQLITE_NOMEM
                     : evaluate_literal(db, expression, schema->columns[c].affinity, dflt,
                                        err);
        } else if (expression == NULL) {
            rc = SQLITE_NOMEM;
        } else {
            dflt->kind = DEFAULT_DYNAMIC;
            dflt->result_column = dynamic_count++;
            sqlite3_str_appendf(dynamic, "%s%s AS c%d", dynamic_count > 1 ? ", " : "",
                                expression, dynamic_count);
        }
        sqlite3_free(expression);
    }
    expressions = sqlite3_str_finish(dynamic);
    if (rc == SQLITE_OK && dynamic_count > 0)
        rc = expressions == NULL ? SQLITE_NOMEM
                                 : prepare_view(schema, db, expressions, err);
    sqlite3_free(expressions);
    return rc;
}

static int prepare_checks(struct schema *schema, sqlite3 *db, char **err)
{
    sqlite3_str *insert = sqlite3_str_new(NULL);
    char *insert_sql;
    char *delete_sql;
    int rc = SQLITE_NOMEM;

    sqlite3_str_appendf(insert, "INSERT INTO \"%w\" VALUES(?", schema->table_name);
    for (uint32_t c = 1; c < schema->column_count; c++)
        sqlite3_str_appendall(insert, ",?");
    sqlite3_str_appendall(insert, ")");
    insert_sql = sqlite3_str_finish(insert);
    delete_sql = sqlite3_mprintf("DELETE FROM \"%w\"", schema->table_name);
    if (insert_sql != NULL && delete_sql != NULL)
        rc = sqlite3_prepare_v2(db, insert_sql, -1, &schema->priv->check_stmt, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(db, delete_sql, -1, &schema->priv->delete_stmt, NULL);
    if (rc != SQLITE_OK && rc != SQLITE_NOMEM)
        rc = schema_refuse(err, "CHECK: %s", sqlite3_errmsg(db));
    sqlite3_free(insert_sql);
    sqlite3_free(delete_sql);
    return rc;
}

int schema_prepare_rows(struct schema *schema, sqlite3 *db, char **err)
{
    int rc = read_defaults(schema, db, err);

    if (rc == SQLITE_OK && schema->has_checks)
        rc = prepare_checks(schema, db, err);
    return rc;
}

/* ---- Rows ------------------------------------------------------------------ */

static bool is_insert(enum schema_row_kind kind)
{
    return kind == SCHEMA_ROW_INSERT || kind == SCHEMA_ROW_INSERT_REPLACE;
}

static bool is_replace(enum schema_row_kind kind)
{
    return kind == SCHEMA_ROW_INSERT_REPLACE || kind == SCHEMA_ROW_UPDATE_REPLACE;
}

/* Passes on the scratch connection's failure. */
static int scratch_error(const struct schema *schema, char **err)
{
    int rc = sqlite3_extended_errcode(schema->priv->db);

    if (rc != SQLITE_NOMEM)
        *err = sqlite3_mprintf("%s", sqlite3_errmsg(schema->priv->db));
    return rc;
}

/* Evaluates all DYNAMIC defaults for the row at hand. */
static int evaluate_defaults(struct schema *schema, char **err)
{
    struct schema_private *priv = schema->priv;
    int rc = sqlite3_step(priv->defaults_stmt);

    if (rc != SQLITE_ROW) {
        rc = scratch_error(schema, err);
        (void)sqlite3_reset(priv->defaults_stmt);
        return rc;
    }
    rc = SQLITE_OK;
    for (uint32_t c = 0; rc == SQLITE_OK && c < schema->column_count; c++) {
        struct schema_default *dflt = &priv->defaults[c];

        if (dflt->kind != DEFAULT_DYNAMIC)
            continue;
        sqlite3_value_free(dflt->held);
        dflt->held = sqlite3_value_dup(
            sqlite3_column_value(priv->defaults_stmt, dflt->result_column));
        rc = dflt->held == NULL
                 ? SQLITE_NOMEM
                 : affinity_store(dflt->held, schema->columns[c].affinity, &dflt->value);
    }
    (void)sqlite3_reset(priv->defaults_stmt);
    priv->dynamic_ready = rc == SQLITE_OK;
    return rc;
}

/* Replaces row[c], which is NULL, by the column's DEFAULT, if it has one. */
static int take_default(struct schema *schema, uint32_t c, struct sql_value *row,
                        char **err)
{
    struct schema_default *dflt = &schema->priv->defaults[c];
    int rc = SQLITE_OK;

    if (dflt->kind == DEFAULT_NONE)
        return SQLITE_OK;
    if (dflt->kind == DEFAULT_DYNAMIC && !schema->priv->dynamic_ready)
        rc = evaluate_defaults(schema, err);
    if (rc == SQLITE_OK)
        row[c] = dflt->value;
    return rc;
}

int schema_row_load(struct schema *schema, sqlite3_value **argv,
                    enum schema_row_kind kind, struct sql_value *row, char **err)
{
    bool insert = is_insert(kind);
    int rc = SQLITE_OK;

    *err = NULL;
    schema->priv->dynamic_ready = false;
    for (uint32_t c = 0; rc == SQLITE_OK && c < schema->column_count; c++) {
        if (!insert && sqlite3_value_nochange(argv[c])) {
            sql_value_set_null(&row[c]);
            row[c].type = SQL_NOCHANGE;
            continue;
        }
        rc = affinity_store(argv[c], schema->columns[c].affinity, &row[c]);
        if (rc == SQLITE_OK && insert && row[c].type == SQLITE_NULL)
            rc = take_default(schema, c, row, err);
    }
    return rc;
}

static int check_not_null(struct schema *schema, enum schema_row_kind kind,
                          struct sql_value *row, char **err)
{
    for (uint32_t c = 0; c < schema->column_count; c++) {
        const struct schema_column *column = &schema->columns[c];

        if (!column->not_null || row[c].type != SQLITE_NULL)
            continue;
        if (is_replace(kind)) {
            int rc = take_default(schema, c, row, err);

            if (rc != SQLITE_OK)
                return rc;
        }
        if (row[c].type == SQLITE_NULL) {
            *err = sqlite3_mprintf("NOT NULL constraint failed: %s.%s",
                                   schema->table_name, column->name);
            return SQLITE_CONSTRAINT_NOTNULL;
        }
    }
    return SQLITE_OK;
}

/* Takes the row out of the scratch table again. */
static int empty_scratch(struct schema *schema, char **err)
{
    struct schema_private *priv = schema->priv;
    int rc = SQLITE_OK;

    if (sqlite3_step(priv->delete_stmt) != SQLITE_DONE)
        rc = scratch_error(schema, err);
    (void)sqlite3_reset(priv->delete_stmt);
    priv->has_row = rc != SQLITE_OK;
    return rc;
}

static int check_by_insert(struct schema *schema, const struct sql_value *row, char **err)
{
    struct schema_private *priv = schema->priv;
    int rc = SQLITE_OK;

    if (priv->has_row) /* memory was lacking when the last one was taken out */
        rc = empty_scratch(schema, err);
    if (rc != SQLITE_OK)
        return rc;
    for (uint32_t c = 0; rc == SQLITE_OK && c < schema->column_count; c++)
        rc = sql_value_bind(priv->check_stmt, (int)c + 1, &row[c]);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(priv->check_stmt);
    if (rc == SQLITE_DONE)
        rc = SQLITE_OK;
    else
        rc = scratch_error(schema, err);
    (void)sqlite3_reset(priv->check_stmt);
    (void)sqlite3_clear_bindings(priv->check_stmt); /* they borrow from the caller */
    return rc == SQLITE_OK ? empty_scratch(schema, err) : rc;
}

int schema_row_check(struct schema *schema, enum schema_row_kind kind,
                     struct sql_value *row, char **err)
{
    int rc;

    *err = NULL;
    rc = check_not_null(schema, kind, row, err);
    if (rc == SQLITE_OK && schema->has_checks)
        rc = check_by_insert(schema, row, err);
    return rc;
}

char *schema_unique_message(const struct schema *schema)
{
    sqlite3_str *text = sqlite3_str_new(NULL);

    for (uint32_t p = 0; p < schema->key.part_count; p++)
        sqlite3_str_appendf(text, "%s%s.%s", p == 0 ? "UNIQUE constraint failed: " : ", ",
                            schema->table_name,
                            schema->columns[schema->key.parts[p].column].name);
    return sqlite3_str_finish(text);
}

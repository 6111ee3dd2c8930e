/* atomic.c - armdb_cas and armdb_incr: reading and writing one row in one step.
 *
 * Both run a statement inside the one that calls them, on the same connection: only so
 * does the table hear xBegin, xSync and xRollback, and the change takes part in whatever
 * transaction and savepoint is open. Outside a transaction the inner statement commits
 * when it ends, before the function returns.
 *
 * What makes the step atomic is the table itself: an UPDATE by whole key takes the key as
 * a writer before it reads (filter.c), and waits for another writer as long as
 * busy_timeout says. The comparison of armdb_cas is therefore part of the WHERE clause,
 * and the sum of armdb_incr is made inside the UPDATE, by a second form of the function
 * that gets a pointer nobody else can make. Reading, adding and writing in three
 * statements would lose increments.
 *
 * A row that is not there is inserted. Another connection may insert it at the same
 * moment: then the insertion fails by its key, and the step begins again with a row to
 * change. Each round means that somebody else got through.
 *
 * NULL stands for "no row": armdb_cas(t, k, NULL, new) inserts, armdb_cas(t, k, old,
 * NULL) deletes. A row whose value is NULL passes for none. */
#include "ext/atomic.h"

#include <string.h>

#include "ext/functions.h"

SQLITE_EXTENSION_INIT3

#define STEP_POINTER "armdb_incr"

/* One call of either function. */
struct step {
    sqlite3_context *context;
    sqlite3 *db;
    const char *schema; /* borrowed, as the next three */
    const char *table;
    const char *key;
    const char *column;
};

/* What armdb_incr's inner form is given, and what it computed. */
struct sum {
    sqlite3_value *by; /* borrowed */
    bool is_real;
    sqlite3_int64 integer;
    double real;
};

/* ---- The table and its columns ---- */

/* Finds the table and the columns of key and value; false when the function's error was
 * set. *stmt is to be finalized in any case, and keeps what *step borrows. */
static bool begin_step(sqlite3_context *context, sqlite3_value **argv,
                       sqlite3_value *column, struct step *step, sqlite3_stmt **stmt)
{
    struct vtab *vtab = NULL;
    const struct schema *schema;
    const char *name = NULL;
    char *err;

    if (!functions_find_argument(context, argv, &vtab, stmt))
        return false;
    schema = vtab->schema;
    step->context = context;
    step->db = vtab->conn->db;
    step->schema = vtab->schema_name;
    step->table = vtab->name;
    step->column = NULL;
    if (schema->key.part_count != 1) {
        err = sqlite3_mprintf("%s has a key of %d columns; one is wanted", vtab->name,
                              (int)schema->key.part_count);
        goto refuse;
    }
    step->key = schema->columns[schema->key.parts[0].column].name;
    if (column != NULL)
        name = (const char *)sqlite3_value_text(column);
    if (column == NULL && schema->row_count == 1)
        name = schema->columns[schema->row_columns[0]].name;
    for (uint32_t i = 0; name != NULL && i < schema->row_count; i++) {
        const char *of = schema->columns[schema->row_columns[i]].name;

        if (sqlite3_stricmp(of, name) == 0)
            step->column = of;
    }
    if (step->column != NULL)
        return true;
    if (name != NULL)
        err = sqlite3_mprintf("%s has no column %s outside its key", vtab->name, name);
    else
        err = sqlite3_mprintf("%s has %d columns outside its key; name one as the last "
                              "argument",
                              vtab->name, (int)schema->row_count);
refuse:
    if (err == NULL)
        sqlite3_result_error_nomem(context);
    else
        sqlite3_result_error(context, err, -1);
    sqlite3_free(err);
    return false;
}

/* ---- Inner statements ---- */

/* Runs the statement with values bound to its parameters, to its end. *changed: rows that
 * it changed. The extended code; the message is the connection's. */
static int run(const struct step *step, sqlite3_stmt *stmt, sqlite3_value *const *values,
               int count, int *changed)
{
    int rc = SQLITE_OK;

    for (int i = 0; rc == SQLITE_OK && i < count; i++)
        rc = sqlite3_bind_value(stmt, i + 1, values[i]);
    if (rc == SQLITE_OK) {
        while ((rc = sqlite3_step(stmt)) == SQLITE_ROW)
            ;
        if (rc == SQLITE_DONE)
            rc = SQLITE_OK;
    }
    if (rc != SQLITE_OK)
        rc = sqlite3_extended_errcode(step->db);
    else
        *changed = sqlite3_changes(step->db);
    return rc;
}

static void report(const struct step *step, int rc)
{
    sqlite3_result_error(step->context, sqlite3_errmsg(step->db), -1);
    sqlite3_result_error_code(step->context, rc);
}

/* Prepares, runs and finalizes `sql`, whose first %w are schema and table. */
static int run_sql(const struct step *step, char *sql, sqlite3_value *const *values,
                   int count, int *changed)
{
    sqlite3_stmt *stmt = NULL;
    int rc = SQLITE_NOMEM;

    if (sql != NULL)
        rc = sqlite3_prepare_v2(step->db, sql, -1, &stmt, NULL);
    sqlite3_free(sql);
    if (rc == SQLITE_OK)
        rc = run(step, stmt, values, count, changed);
    /* Before the next statement takes the connection's message away. */
    if (rc != SQLITE_OK && rc != SQLITE_CONSTRAINT_PRIMARYKEY)
        report(step, rc);
    sqlite3_finalize(stmt);
    return rc;
}

static int insert_row(const struct step *step, sqlite3_value *key, sqlite3_value *value,
                      int *changed)
{
    sqlite3_value *values[] = {key, value};

    return run_sql(step,
                   sqlite3_mprintf("INSERT INTO \"%w\".\"%w\"(\"%w\", \"%w\") "
                                   "VALUES (?1, ?2)",
                                   step->schema, step->table, step->key, step->column),
                   values, 2, changed);
}

/* ---- armdb_cas ---- */

/* Changes or deletes the row whose value is the expected one. */
static int change_row(const struct step *step, sqlite3_value **argv, int *changed)
{
    sqlite3_value *values[] = {argv[1], argv[2], argv[3]};
    bool deletes = sqlite3_value_type(argv[3]) == SQLITE_NULL;
    char *sql;

    if (deletes)
        sql = sqlite3_mprintf("DELETE FROM \"%w\".\"%w\" WHERE \"%w\" = ?1 AND "
                              "\"%w\" IS ?2",
                              step->schema, step->table, step->key, step->column);
    else
        sql = sqlite3_mprintf("UPDATE \"%w\".\"%w\" SET \"%w\" = ?3 WHERE \"%w\" = ?1 "
                              "AND \"%w\" IS ?2",
                              step->schema, step->table, step->column, step->key,
                              step->column);
    return run_sql(step, sql, values, deletes ? 2 : 3, changed);
}

static int is_absent(const struct step *step, sqlite3_value *key, int *absent)
{
    sqlite3_stmt *stmt = NULL;
    char *sql = sqlite3_mprintf("SELECT 1 FROM \"%w\".\"%w\" WHERE \"%w\" = ?1",
                                step->schema, step->table, step->key);
    int rc = SQLITE_NOMEM;

    if (sql != NULL)
        rc = sqlite3_prepare_v2(step->db, sql, -1, &stmt, NULL);
    sqlite3_free(sql);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_value(stmt, 1, key);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    *absent = rc == SQLITE_DONE;
    if (rc == SQLITE_DONE || rc == SQLITE_ROW)
        rc = SQLITE_OK;
    else
        report(step, rc);
    sqlite3_finalize(stmt);
    return rc;
}

/* armdb_cas(t, key, expected, new [, column]) */
static void cas_function(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    sqlite3_stmt *stmt = NULL;
    struct step step;
    int changed = 0;
    int rc;

    if (!begin_step(context, argv, argc == 5 ? argv[4] : NULL, &step, &stmt))
        goto out;
    rc = change_row(&step, argv, &changed);
    if (rc == SQLITE_OK && changed == 0 && sqlite3_value_type(argv[2]) == SQLITE_NULL) {
        if (sqlite3_value_type(argv[3]) == SQLITE_NULL)
            rc = is_absent(&step, argv[1], &changed);
        else
            rc = insert_row(&step, argv[1], argv[3], &changed);
        if (rc == SQLITE_CONSTRAINT_PRIMARYKEY) { /* it is there */
            changed = 0;
            rc = SQLITE_OK;
        }
    }
    if (rc == SQLITE_OK)
        sqlite3_result_int(context, changed > 0);
out:
    sqlite3_finalize(stmt);
}

/* ---- armdb_incr ---- */

/* old + by into *sum; a text for what is no number or no sum, else NULL. */
static const char *add(sqlite3_value *old, struct sum *sum)
{
    int type = sqlite3_value_type(old);
    int by = sqlite3_value_type(sum->by);

    if (type != SQLITE_INTEGER && type != SQLITE_FLOAT && type != SQLITE_NULL)
        return "armdb_incr: the value is no number";
    sum->is_real = type == SQLITE_FLOAT || by == SQLITE_FLOAT;
    if (sum->is_real) {
        sum->real = sqlite3_value_double(old) + sqlite3_value_double(sum->by);
        return NULL;
    }
    if (__builtin_add_overflow(sqlite3_value_int64(old), sqlite3_value_int64(sum->by),
                               &sum->integer))
        return "armdb_incr: integer overflow";
    return NULL;
}

static void result_sum(sqlite3_context *context, const struct sum *sum)
{
    if (sum->is_real)
        sqlite3_result_double(context, sum->real);
    else
        sqlite3_result_int64(context, sum->integer);
}

/* The inner form, armdb_incr(pointer, old): what the UPDATE writes. */
static void sum_function(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    struct sum *sum = sqlite3_value_pointer(argv[0], STEP_POINTER);
    const char *wrong = "armdb_incr(t, key, by) is wanted";

    (void)argc;
    if (sum != NULL)
        wrong = add(argv[1], sum);
    if (wrong != NULL)
        sqlite3_result_error(context, wrong, -1);
    else
        result_sum(context, sum);
}

/* UPDATE of the row that is there; *changed is 0 when there is none. */
static int add_to_row(const struct step *step, sqlite3_value *key, struct sum *sum,
                      int *changed)
{
    sqlite3_stmt *stmt = NULL;
    char *sql =
        sqlite3_mprintf("UPDATE \"%w\".\"%w\" SET \"%w\" = armdb_incr(?2, \"%w\")"
                        " WHERE \"%w\" = ?1",
                        step->schema, step->table, step->column, step->column, step->key);
    int rc = SQLITE_NOMEM;

    if (sql != NULL)
        rc = sqlite3_prepare_v2(step->db, sql, -1, &stmt, NULL);
    sqlite3_free(sql);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_pointer(stmt, 2, sum, STEP_POINTER, NULL);
    if (rc == SQLITE_OK)
        rc = run(step, stmt, &key, 1, changed);
    if (rc != SQLITE_OK)
        report(step, rc);
    sqlite3_finalize(stmt);
    return rc;
}

/* armdb_incr(t, key, by [, column]) */
static void incr_function(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    struct sum sum = {.by = argv[2]};
    sqlite3_stmt *stmt = NULL;
    struct step step;
    int changed = 0;
    int rc;

    if (sqlite3_value_type(argv[2]) != SQLITE_INTEGER &&
        sqlite3_value_type(argv[2]) != SQLITE_FLOAT) {
        sqlite3_result_error(context, "armdb_incr: a number to add is wanted", -1);
        return;
    }
    if (!begin_step(context, argv, argc == 4 ? argv[3] : NULL, &step, &stmt))
        goto out;
    do {
        rc = add_to_row(&step, argv[1], &sum, &changed);
        if (rc == SQLITE_OK && changed == 0) {
            sum.is_real = sqlite3_value_type(argv[2]) == SQLITE_FLOAT;
            sum.integer = sqlite3_value_int64(argv[2]);
            sum.real = sqlite3_value_double(argv[2]);
            rc = insert_row(&step, argv[1], argv[2], &changed);
        }
    } while (rc == SQLITE_CONSTRAINT_PRIMARYKEY);
    if (rc == SQLITE_OK)
        result_sum(context, &sum);
out:
    sqlite3_finalize(stmt);
}

int atomic_register(struct conn *conn)
{
    static const struct {
        const char *name;
        int argc;
        void (*call)(sqlite3_context *, int, sqlite3_value **);
    } functions[] = {
        {"armdb_cas", 4, cas_function},   {"armdb_cas", 5, cas_function},
        {"armdb_incr", 2, sum_function},  {"armdb_incr", 3, incr_function},
        {"armdb_incr", 4, incr_function},
    };
    int rc = SQLITE_OK;

    for (size_t i = 0; rc == SQLITE_OK && i < sizeof functions / sizeof functions[0]; i++)
        rc = sqlite3_create_function_v2(conn->db, functions[i].name, functions[i].argc,
                                        SQLITE_UTF8 | SQLITE_DIRECTONLY,
                                        conn_acquire(conn), functions[i].call, NULL, NULL,
                                        conn_release);
    return rc;
}

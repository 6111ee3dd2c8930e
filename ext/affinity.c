/* affinity.c - values as columns store them and as comparisons see them.
 *
 * What text counts as a number, and how a number is written as text, is decided by
 * SQLite itself: sqlite3_value_numeric_type() applies numeric affinity in place and
 * sqlite3_value_text() writes numbers as text, both by the code that ordinary
 * tables use. What remains to be done here is the choice between integer and real:
 *
 *   NUMERIC, INTEGER  a real that is an integer in value becomes one, except at both
 *                     ends of the 64-bit range, where SQLite does not trust the
 *                     conversion; so -0.0 becomes 0
 *   REAL              integers become reals. SQLite does so by way of an integer
 *                     where it can, hence -0.0 becomes 0.0 here too
 *   BLOB, TEXT        -0.0 is kept (and written '-0.0' or '0.0', as SQLite likes)
 *
 * The length of text is asked for before its pointer: asking for the length makes
 * SQLite convert from UTF-16 where need be, and the pointer is then taken as a blob's,
 * which spares the copy that a terminating NUL would cost. */
#include "ext/affinity.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

/* One step of SQLite's scan: the type names are looked for anywhere in the text. */
static bool contains(const char *text, const char *word)
{
    size_t n = strlen(word);

    for (; *text != '\0'; text++) {
        if (sqlite3_strnicmp(text, word, (int)n) == 0)
            return true;
    }
    return false;
}

enum affinity affinity_of_type(const char *declared_type)
{
    if (declared_type == NULL || declared_type[0] == '\0')
        return AFFINITY_BLOB;
    if (contains(declared_type, "int"))
        return AFFINITY_INTEGER;
    if (contains(declared_type, "char") || contains(declared_type, "clob") ||
        contains(declared_type, "text"))
        return AFFINITY_TEXT;
    if (contains(declared_type, "blob"))
        return AFFINITY_BLOB;
    if (contains(declared_type, "real") || contains(declared_type, "floa") ||
        contains(declared_type, "doub"))
        return AFFINITY_REAL;
    return AFFINITY_NUMERIC;
}

const char *affinity_name(enum affinity affinity)
{
    switch (affinity) {
    case AFFINITY_BLOB:
        return "BLOB";
    case AFFINITY_TEXT:
        return "TEXT";
    case AFFINITY_NUMERIC:
        return "NUMERIC";
    case AFFINITY_INTEGER:
        return "INTEGER";
    case AFFINITY_REAL:
        return "REAL";
    }
    return "?";
}

/* Takes text or blob bytes where they lie. */
static int borrow_bytes(sqlite3_value *in, int type, struct sql_value *out)
{
    int n = sqlite3_value_bytes(in);

    out->type = type;
    out->n = (size_t)n;
    out->z = sqlite3_value_blob(in);
    if (n > 0 && out->z == NULL) {
        sql_value_set_null(out);
        return SQLITE_NOMEM;
    }
    return SQLITE_OK;
}

static int load_as(sqlite3_value *in, int type, struct sql_value *out)
{
    out->type = type;
    out->n = 0;
    switch (type) {
    case SQLITE_INTEGER:
        out->i = sqlite3_value_int64(in);
        return SQLITE_OK;
    case SQLITE_FLOAT:
        out->r = sqlite3_value_double(in);
        return SQLITE_OK;
    case SQLITE_TEXT:
    case SQLITE_BLOB:
        return borrow_bytes(in, type, out);
    default:
        sql_value_set_null(out);
        return SQLITE_OK;
    }
}

int sql_value_load(sqlite3_value *in, struct sql_value *out)
{
    return load_as(in, sqlite3_value_type(in), out);
}

/* Writes a number as text. */
static int load_number_as_text(sqlite3_value *in, struct sql_value *out)
{
    const unsigned char *z = sqlite3_value_text(in);

    if (z == NULL) {
        sql_value_set_null(out);
        return SQLITE_NOMEM;
    }
    out->type = SQLITE_TEXT;
    out->n = (size_t)sqlite3_value_bytes(in);
    out->z = z;
    return SQLITE_OK;
}

/* An integral real becomes an integer, strictly inside the 64-bit range. */
static void shorten_real(struct sql_value *value)
{
    double r = value->r;

    if (r > -9223372036854775808.0 && r < 9223372036854775808.0) {
        int64_t i = (int64_t)r;

        if ((double)i >= r && (double)i <= r) {
            value->type = SQLITE_INTEGER;
            value->i = i;
        }
    }
}

static void widen_to_real(struct sql_value *value)
{
    if (value->type == SQLITE_INTEGER) {
        value->type = SQLITE_FLOAT;
        value->r = (double)value->i;
    } else if (value->type == SQLITE_FLOAT) {
        value->r += 0.0; /* -0.0 + 0.0 is 0.0; every other value is unchanged */
    }
}

int affinity_store(sqlite3_value *in, enum affinity affinity, struct sql_value *out)
{
    int type = sqlite3_value_type(in);
    int rc;

    switch (affinity) {
    case AFFINITY_BLOB:
        break;
    case AFFINITY_TEXT:
        if (type == SQLITE_INTEGER || type == SQLITE_FLOAT)
            return load_number_as_text(in, out);
        break;
    case AFFINITY_NUMERIC:
    case AFFINITY_INTEGER:
        if (type == SQLITE_TEXT)
            type = sqlite3_value_numeric_type(in);
        rc = load_as(in, type, out);
        if (type == SQLITE_FLOAT)
            shorten_real(out);
        return rc;
    case AFFINITY_REAL:
        if (type == SQLITE_TEXT)
            type = sqlite3_value_numeric_type(in);
        rc = load_as(in, type, out);
        widen_to_real(out);
        return rc;
    }
    return load_as(in, type, out);
}

int affinity_compare(sqlite3_value *in, enum affinity affinity, struct sql_value *out,
                     enum rhs_fit *fit)
{
    int type = sqlite3_value_type(in);
    bool number = type == SQLITE_INTEGER || type == SQLITE_FLOAT;

    *fit = RHS_EXACT;
    if (type == SQLITE_NULL) {
        *fit = RHS_NEVER;
        sql_value_set_null(out);
        return SQLITE_OK;
    }
    switch (affinity) {
    case AFFINITY_BLOB:
        if (number)
            *fit = RHS_UNSURE;
        break;
    case AFFINITY_TEXT:
        if (number) {
            *fit = RHS_UNSURE;
            return load_number_as_text(in, out);
        }
        break;
    case AFFINITY_NUMERIC:
    case AFFINITY_INTEGER:
    case AFFINITY_REAL:
        /* Integer against real is compared by value, so the type that a number has
         * here makes no difference: no rounding of integers for REAL columns. */
        if (type == SQLITE_TEXT)
            type = sqlite3_value_numeric_type(in);
        break;
    }
    return load_as(in, type, out);
}

enum { TERMINATED_MAX = 128 };

/* A short text that SQLite copies is given with a zero behind it: sqlite3_column_text()
 * wants one, and would allocate anew for each row to add it. */
static void text_result(sqlite3_context *context, const struct sql_value *value,
                        sqlite3_destructor_type del)
{
    char text[TERMINATED_MAX + 1];

    if (value->n > TERMINATED_MAX || del != SQLITE_TRANSIENT ||
        memchr(value->z, 0, value->n) != NULL) {
        sqlite3_result_text64(context, value->z, value->n, del, SQLITE_UTF8);
        return;
    }
    memcpy(text, value->z, value->n);
    text[value->n] = '\0';
    sqlite3_result_text(context, text, -1, SQLITE_TRANSIENT);
}

void sql_value_result(sqlite3_context *context, const struct sql_value *value,
                      sqlite3_destructor_type del)
{
    switch (value->type) {
    case SQLITE_INTEGER:
        sqlite3_result_int64(context, value->i);
        break;
    case SQLITE_FLOAT:
        sqlite3_result_double(context, value->r);
        break;
    case SQLITE_TEXT:
        if (value->n == 0)
            sqlite3_result_text64(context, "", 0, SQLITE_STATIC, SQLITE_UTF8);
        else
            text_result(context, value, del);
        break;
    case SQLITE_BLOB:
        if (value->n == 0)
            sqlite3_result_blob64(context, "", 0, SQLITE_STATIC);
        else
            sqlite3_result_blob64(context, value->z, value->n, del);
        break;
    default:
        sqlite3_result_null(context);
        break;
    }
}

int sql_value_bind(sqlite3_stmt *stmt, int param, const struct sql_value *value)
{
    switch (value->type) {
    case SQLITE_INTEGER:
        return sqlite3_bind_int64(stmt, param, value->i);
    case SQLITE_FLOAT:
        return sqlite3_bind_double(stmt, param, value->r);
    case SQLITE_TEXT:
        return sqlite3_bind_text64(stmt, param, value->n == 0 ? "" : value->z, value->n,
                                   SQLITE_STATIC, SQLITE_UTF8);
    case SQLITE_BLOB:
        return sqlite3_bind_blob64(stmt, param, value->n == 0 ? "" : value->z, value->n,
                                   SQLITE_STATIC);
    default:
        return sqlite3_bind_null(stmt, param);
    }
}

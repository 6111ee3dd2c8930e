/* affinity.h - SQL values outside SQLite, and the conversions that types bring.
 *
 * A virtual table gets values as they were written: SQLite's core applies no
 * affinity to them, neither when they are stored nor when they are compared. This
 * module does both as SQLite does it to an ordinary table. */
#ifndef ARMDB_EXT_AFFINITY_H
#define ARMDB_EXT_AFFINITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sqlite3ext.h"

enum affinity {
    AFFINITY_BLOB = 0, /* also: no type declared */
    AFFINITY_TEXT,
    AFFINITY_NUMERIC,
    AFFINITY_INTEGER,
    AFFINITY_REAL
};

/* One SQL value. Text and blob bytes are borrowed from whatever the function
 * that filled it names. Text is UTF-8 as SQLite holds it, any bytes, not
 * necessarily followed by a NUL; z may be NULL when n is 0. */
struct sql_value {
    int type; /* SQLITE_INTEGER, _FLOAT, _TEXT, _BLOB, _NULL, or SQL_NOCHANGE */
    size_t n; /* bytes of TEXT and BLOB, else 0 */
    union {
        int64_t i;     /* INTEGER */
        double r;      /* FLOAT; never NaN */
        const void *z; /* TEXT, BLOB */
    };
};

/* type of a column that an UPDATE does not touch; see schema_row_load(). */
#define SQL_NOCHANGE 0

static inline void sql_value_set_null(struct sql_value *value)
{
    value->type = SQLITE_NULL;
    value->n = 0;
    value->i = 0;
}

/* The affinity that SQLite gives a column of this declared type ("" or NULL when
 * none was declared). */
enum affinity affinity_of_type(const char *declared_type);

/* "TEXT", "BLOB", ... for messages. */
const char *affinity_name(enum affinity affinity);

/* Reads a value as it is, without any conversion.
 *
 * Gives:  *out, borrowing from `in` until that changes or is freed.
 * Errors: SQLITE_NOMEM. */
int sql_value_load(sqlite3_value *in, struct sql_value *out);

/* Reads a value as a column of this affinity stores it: text that looks like a
 * number becomes one, integral reals become integers (in REAL columns integers
 * become reals), numbers become text. `in` may be changed by it, as SQLite's own
 * conversions do.
 *
 * Gives:  *out, borrowing from `in` until that changes or is freed.
 * Errors: SQLITE_NOMEM. */
int affinity_store(sqlite3_value *in, enum affinity affinity, struct sql_value *out);

/* What became of the right-hand side of `column OP rhs`. */
enum rhs_fit {
    /* *out is what SQLite compares the column with. */
    RHS_EXACT,
    /* No row satisfies the comparison, whatever the operator (rhs is NULL and the
     * operator is none of IS, IS NOT). */
    RHS_NEVER,
    /* A number against a TEXT or BLOB column. When the right-hand expression has
     * no affinity of its own (a literal, a parameter, a function) *out is what
     * SQLite compares with. When it has a numeric one (a column of another table,
     * a sub-select, a CAST) SQLite compares numerically: '5', '05' and 5.0 all
     * equal 5 then, and no key bound expresses that. A virtual table is not told
     * which: either the plan knows it for a literal (sqlite3_vtab_rhs_value()
     * answered SQLITE_OK), or the constraint must not narrow the scan. */
    RHS_UNSURE
};

/* Reads the right-hand side of a comparison with a column of this affinity, as it
 * arrives in xFilter, and converts it as SQLite would before comparing. For IS
 * and IS NOT test for NULL first. Exact for one purpose only: a numeric-affinity
 * expression that yields text (RHS_EXACT here) compares with a TEXT column that
 * holds numbers as text by type; do not omit a range constraint whose right-hand
 * side is no literal if that must be right to the letter.
 *
 * Gives:  *fit; *out unless RHS_NEVER, borrowing from `in`.
 * Errors: SQLITE_NOMEM. */
int affinity_compare(sqlite3_value *in, enum affinity affinity, struct sql_value *out,
                     enum rhs_fit *fit);

/* Hands a value to SQLite as a function's or column's result. Bytes of text and
 * blob: `del` is SQLITE_TRANSIENT (SQLite copies), SQLITE_STATIC (they live as
 * long as the process), or a destructor that SQLite calls with value->z when it
 * no longer needs them, also when the call fails. Not called for other types, nor
 * when n is 0 (then nothing is borrowed). */
void sql_value_result(sqlite3_context *context, const struct sql_value *value,
                      sqlite3_destructor_type del);

/* Binds a value to a parameter of a statement, borrowing its bytes. */
int sql_value_bind(sqlite3_stmt *stmt, int param, const struct sql_value *value);

#endif

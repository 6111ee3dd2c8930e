/* functions.h - the SQL functions armdb_*, and how they find the table they are given. */
#ifndef ARMDB_EXT_FUNCTIONS_H
#define ARMDB_EXT_FUNCTIONS_H

#include "ext/vtab.h"

/* Registers the functions with the connection. SQLite codes. */
int functions_register(struct conn *conn);

/* Finds an armdb table by name, 't' or 'schema.t', opened.
 *
 * Gives:  *out, valid until *stmt is finalized, which the caller does in any case.
 * Errors: SQLITE_ERROR and others, with *err (sqlite3_malloc). *out is given all the same
 *         when it was the store or the table in it that could not be opened. */
int functions_find_table(struct conn *conn, const char *name, struct vtab **out,
                         sqlite3_stmt **stmt, char **err);

/* The same for the first argument of a function whose user data is the conn; false when
 * the function's error was set. *stmt is to be finalized in any case. */
bool functions_find_argument(sqlite3_context *context, sqlite3_value **argv,
                             struct vtab **vtab, sqlite3_stmt **stmt);

#endif

/* path.h - where a table's store lies: from the option and the database to an
 * absolute path. Asks SQLite's VFS only; opens and creates nothing. */
#ifndef ARMDB_EXT_PATH_H
#define ARMDB_EXT_PATH_H

#include <stdbool.h>

#include "sqlite3ext.h"

/* Resolves the option path= (NULL: not given) of a table in `schema`:
 *   not given       "<database file>-armdb"; for a temporary or memory database, and
 *                   for the TEMP schema, a memory store
 *   ':memory:'      a memory store
 *   relative        below the folder of the database file (TEMP: of main's)
 * A memory store's path is ":memory:" and the schema's name: it belongs to the
 * connection and that schema.
 *
 * Gives:  *out (sqlite3_malloc), *memory.
 * Errors: SQLITE_ERROR with *err: control characters, too long, "..", a symbolic
 *         link at the end; SQLITE_NOMEM; SQLITE_CANTOPEN. */
int path_resolve(sqlite3 *db, const char *schema, const char *option, char **out,
                 bool *memory, char **err);

#endif

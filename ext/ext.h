/* ext.h - the entry point, for programs that link armdb instead of loading it. */
#ifndef ARMDB_EXT_EXT_H
#define ARMDB_EXT_EXT_H

#include "sqlite3ext.h"

#if defined(__GNUC__)
#define ARMDB_EXPORT __attribute__((visibility("default")))
#else
#define ARMDB_EXPORT
#endif

/* SQLite forms this name from the file name armdb_vtab.so. Registers everything with
 * one connection; called again for the same connection it does nothing.
 *
 * Gives:  SQLITE_OK_LOAD_PERMANENTLY when loaded, SQLITE_OK when linked.
 * Errors: SQLITE_ERROR with *err (SQLite is too old), SQLITE_NOMEM. */
ARMDB_EXPORT int sqlite3_armdbvtab_init(sqlite3 *db, char **err,
                                        const sqlite3_api_routines *api);

#endif

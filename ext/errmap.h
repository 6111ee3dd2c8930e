/* errmap.h - the engine's result codes as SQLite's.
 *
 * Every engine code that leaves ext/ passes here, with its text. */
#ifndef ARMDB_EXT_ERRMAP_H
#define ARMDB_EXT_ERRMAP_H

#include "engine/armdb.h"
#include "sqlite3ext.h"

/* The SQLite code for an engine code. ARMDB_NOT_FOUND, ARMDB_DONE and
 * ARMDB_MISMATCH are answers rather than failures; one that gets this far means
 * "the thing named is not there" and maps to SQLITE_ERROR. */
int errmap_to_sqlite(enum armdb_rc rc);

/* Maps rc and puts the text of *err into vtab->zErrMsg, in place of what was there.
 * For ARMDB_OK nothing is touched. err may be NULL or hold no text for this rc: then
 * the text is a plain sentence about the code. ARMDB_NOMEM sets no text (SQLite has
 * its own). */
int errmap_vtab(sqlite3_vtab *vtab, enum armdb_rc rc, const struct armdb_error *err);

/* The same for xCreate and xConnect's **pzErr, and for any other text that SQLite
 * frees with sqlite3_free(). */
int errmap_text(char **text, enum armdb_rc rc, const struct armdb_error *err);

/* The same for an SQL function: sqlite3_result_error and its code. */
void errmap_result(sqlite3_context *context, enum armdb_rc rc,
                   const struct armdb_error *err);

/* Sets vtab->zErrMsg to `text`, which it then owns (sqlite3_malloc; may be NULL), and
 * returns sqlite_code: for the texts of schema_row_check() and the like. */
int errmap_set(sqlite3_vtab *vtab, int sqlite_code, char *text);

#endif

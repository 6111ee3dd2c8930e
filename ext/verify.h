/* verify.h - armdb_verify(t), as a table and as a function, and PRAGMA integrity_check.
 */
#ifndef ARMDB_EXT_VERIFY_H
#define ARMDB_EXT_VERIFY_H

#include "ext/conn.h"

int verify_register(struct conn *conn); /* SQLite codes */

/* The method that SQLite calls from 3.44 on; its headers before do not know it. *err is
 * to be freed with sqlite3_free(). */
int verify_integrity(sqlite3_vtab *base, const char *schema, const char *table, int flags,
                     char **err);

#endif

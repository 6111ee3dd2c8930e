/* maintain.h - the functions that look after a store or a table as a whole:
 * armdb_backup, armdb_restore, armdb_clear. */
#ifndef ARMDB_EXT_MAINTAIN_H
#define ARMDB_EXT_MAINTAIN_H

#include "ext/conn.h"

/* Registers them with the connection. SQLite codes. */
int maintain_register(struct conn *conn);

#endif

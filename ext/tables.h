/* tables.h - the table-valued functions armdb_*. */
#ifndef ARMDB_EXT_TABLES_H
#define ARMDB_EXT_TABLES_H

#include "ext/conn.h"

/* Registers them with the connection. SQLite codes. */
int tables_register(struct conn *conn);

#endif

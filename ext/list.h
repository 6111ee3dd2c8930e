/* list.h - armdb_list: the "directories" and keys directly under a prefix. */
#ifndef ARMDB_EXT_LIST_H
#define ARMDB_EXT_LIST_H

#include "ext/conn.h"

/* Registers it with the connection. SQLite codes. */
int list_register(struct conn *conn);

#endif

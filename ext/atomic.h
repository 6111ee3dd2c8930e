/* atomic.h - armdb_cas and armdb_incr: reading and writing one row in one step. */
#ifndef ARMDB_EXT_ATOMIC_H
#define ARMDB_EXT_ATOMIC_H

#include "ext/conn.h"

/* Registers them with the connection. SQLite codes. */
int atomic_register(struct conn *conn);

#endif

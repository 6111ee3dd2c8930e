/* config.h - armdb_config: options of a store that may change while it is open. */
#ifndef ARMDB_EXT_CONFIG_H
#define ARMDB_EXT_CONFIG_H

#include "ext/conn.h"

/* Registers the function with the connection. SQLite codes. */
int config_register(struct conn *conn);

#endif

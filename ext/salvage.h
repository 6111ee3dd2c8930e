/* salvage.h - armdb_salvage(t, dir) and armdb_salvage_folder(folder, dir). */
#ifndef ARMDB_EXT_SALVAGE_H
#define ARMDB_EXT_SALVAGE_H

#include "ext/conn.h"

int salvage_register(struct conn *conn); /* SQLite codes */

#endif

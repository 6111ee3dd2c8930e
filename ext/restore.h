/* restore.h - a table's rows replaced by those of a backup, inside xUpdate. */
#ifndef ARMDB_EXT_RESTORE_H
#define ARMDB_EXT_RESTORE_H

#include "ext/vtab.h"

/* Replaces the rows and stores their number in restore->rows. All or nothing, within the
 * transaction. SQLite codes, with vtab->base.zErrMsg. */
int restore_table(struct vtab *vtab, struct restore *restore);

#endif

/* backup.h - the parts of a backup that opening a store and tests know. Layer 4. */
#ifndef ADB_ENGINE_STORE_BACKUP_H
#define ADB_ENGINE_STORE_BACKUP_H

#include "engine/armdb.h"
#include "engine/io/io.h"

/* armdb_backup() through a given engine of I/O. Files are linked when `from`, the store's
 * folder, belongs to the same kind of engine, else read through the store's own. */
enum armdb_rc backup_through(struct armdb *store, struct adb_io *io, struct adb_dir *from,
                             const char *path, const struct armdb_watch *watch,
                             struct armdb_backup_info *info,
                             struct armdb_error *err) ADB_MUST_CHECK;

#endif

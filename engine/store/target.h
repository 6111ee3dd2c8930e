/* target.h - a folder that becomes a store at once, or not at all. Layer 4. */
#ifndef ADB_ENGINE_STORE_TARGET_H
#define ADB_ENGINE_STORE_TARGET_H

#include <stdbool.h>

#include "engine/io/io.h"
#include "engine/log/manifest.h"
#include "engine/log/superblock.h"

/* Stands in a folder from before its first segment until everything is durable. */
#define BACKUP_MARK_NAME "backup.unfinished"

/* A zeroed one is valid, and none. */
struct target {
    struct adb_dir *dir;   /* owned */
    struct adb_file *lock; /* owned */
    const char *path;      /* borrowed */
    bool began;            /* the mark may be there: undo what follows it */
};

/* Takes the folder `path`, made when missing: it is empty, or was left unfinished. The
 * store in it will have this uuid. target_leave() in any case.
 * Errors: ARMDB_CANTOPEN (among others: not empty), ARMDB_NOTADB, ARMDB_LOCKED,
 *         ARMDB_IO, ARMDB_FULL, ARMDB_NOMEM. */
enum armdb_rc target_take(struct target *target, struct adb_io *io, const char *path,
                          const unsigned char uuid[16],
                          struct armdb_error *err) ADB_MUST_CHECK;
/* Its segments are there, durable: makes it a store. */
enum armdb_rc target_finish(struct target *target, struct manifest *manifest,
                            const struct superblock *sb,
                            struct armdb_error *err) ADB_MUST_CHECK;
/* Gives the folder back; after a failure empty, if that can be. */
void target_leave(struct target *target, bool failed);

#endif

/* moment.h - the log as it is at one moment, for a copy of it.
 *
 * Layer 2. Format: FORMAT.md, "Backup". */
#ifndef ADB_ENGINE_LOG_MOMENT_H
#define ADB_ENGINE_LOG_MOMENT_H

#include "engine/log/log.h"

struct log_moment {
    /* What a copy lists: every segment with frames sealed at its length of that moment,
     * the watermark at the last GSN given, an abort for what was undecided. */
    struct manifest manifest;
    /* One for each of its segments: the store's own manifest on the disk calls it sealed,
     * at this very length, so that its file never changes any more. */
    bool *fixed; /* owned */
};

/* Takes the moment and keeps every file that it names in the folder until
 * log_moment_fini(), to be called exactly when this succeeded. What the moment holds is
 * durable when it returns. Writers stand still for the time that it takes to look at each
 * segment, not for I/O.
 * Errors: ARMDB_WOUNDED, ARMDB_IO, ARMDB_FULL, ARMDB_NOMEM. */
enum armdb_rc log_moment_take(struct log *log, struct log_moment *moment,
                              struct armdb_error *err) ADB_MUST_CHECK;
void log_moment_fini(struct log *log, struct log_moment *moment);
/* True while a moment is held: no segment's file may lose its name. Whoever removes one
 * asks with the manifest lock held, under which moments are taken. */
bool log_has_moment(struct log *log);

#endif

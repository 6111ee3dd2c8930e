/* load.h - filling the index from what recovery delivers. Layer 4. */
#ifndef ADB_ENGINE_STORE_LOAD_H
#define ADB_ENGINE_STORE_LOAD_H

#include "engine/store/internal.h"
#include "engine/store/recover.h"

/* Recovers the store's folder into its tables and opens its log. The folder is locked,
 * superblock, cache, epoch and catalogue are there. */
enum armdb_rc load_store(struct armdb *store, struct armdb_error *err) ADB_MUST_CHECK;

#endif

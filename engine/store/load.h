/* load.h - from the log to the index, when a store is opened. Layer 4. */
#ifndef ADB_ENGINE_STORE_LOAD_H
#define ADB_ENGINE_STORE_LOAD_H

#include "engine/log/run.h"
#include "engine/store/internal.h"

/* Recovers the store, fills the index and opens the log. */
enum armdb_rc load_store(struct armdb *store, struct armdb_error *err) ADB_MUST_CHECK;

/* ---- load_merge.c ---- */

/* A run and the segment whose records it names. */
struct load_run {
    struct run run; /* owned */
    uint32_t slot;
    bool hinted; /* by its hint, not by reading the segment */
};

/* Bytes of live records in one segment, by table. */
struct load_bytes {
    uint64_t table;
    uint32_t slot;
    uint64_t live;
};

struct load_result {
    struct load_bytes *bytes; /* owned */
    size_t count;
};

/* Merges the runs into the store's tables, which are empty or do not exist yet, with
 * this many threads. The runs are freed on the way. */
enum armdb_rc load_merge(struct armdb *store, struct load_run *runs, size_t count,
                         unsigned threads, struct load_result *out) ADB_MUST_CHECK;
void load_result_fini(struct load_result *result);

#endif

/* sim_run.h - a workload on the mounted disk, and the history it leaves. */
#ifndef TEST_SIM_SIM_RUN_H
#define TEST_SIM_SIM_RUN_H

#include "test/sim/sim_disk.h"
#include "test/sim/sim_model.h"

enum {
    SIM_ODD_ENDS = 1 << 0, /* rollbacks, verdicts, re-prepares, savepoints */
    SIM_DDL = 1 << 1,      /* tables made, dropped, renamed */
    SIM_LARGE = 1 << 2,    /* values over several pages */
    SIM_CHUNKS = 1 << 3,   /* transactions stream to the log */
    SIM_ROTATE = 1 << 4,   /* segments are small */
    SIM_FLUSH = 1 << 5,    /* flushes in between */
    SIM_DIRECT = 1 << 6,   /* io=direct */
    SIM_BACKUP = 1 << 8,   /* a backup while sessions write */
    SIM_COMPACT = 1 << 9,  /* compactions while sessions write */
    SIM_STEPS = 1 << 10,   /* rows written by batches and read-modify-writes */
    SIM_HINTS = 1 << 11,   /* every sealed segment gets a hint */
    SIM_FAULTS = 1 << 7    /* calls may fail: the transaction is rolled back */
};

struct sim_plan {
    const char *name;
    uint32_t what; /* SIM_ flags above */
    uint32_t shards;
    uint32_t sessions;
    uint32_t transactions; /* of each session */
    int sync;              /* enum armdb_sync; -1 = drawn for each transaction */
};

/* Opens the store of the simulations, or its backup, on the mounted disk. */
enum armdb_rc sim_store_open(const struct sim_plan *plan, struct armdb **out,
                             struct armdb_error *err);
enum armdb_rc sim_backup_open(const struct sim_plan *plan, struct armdb **out,
                              struct armdb_error *err);

/* Runs the plan on an open store: `history` has its base set, the rest is filled in.
 * Every call must succeed, unless SIM_FAULTS. Closes the store when `close`. */
void sim_run(struct armdb *store, const struct sim_plan *plan, uint64_t seed, bool close,
             struct sim_history *history);
/* The number of the next transaction; numbers go on from run to run. */
uint32_t sim_run_next(void);
void sim_run_set_next(uint32_t tx);

#endif

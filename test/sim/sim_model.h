/* sim_model.h - what a store must hold: states, the history of a run, the comparison.
 *
 * Every transaction of a run writes, beside its rows, a marker row "its number: which
 * attempt"; what is found in a store thus says itself which transactions it holds. An
 * attempt is one prepared frame; a transaction that is prepared, changed and prepared
 * again has two, of which the first must never be seen. */
#ifndef TEST_SIM_SIM_MODEL_H
#define TEST_SIM_SIM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/armdb.h"

enum {
    SIM_TABLES = 4, /* t0, t1: everybody's; t2, t3 come and go */
    SIM_KEYS = 24,  /* of each table */
    SIM_TX_MAX = 400
};

enum sim_op_kind {
    SIM_PUT,
    SIM_DELETE,
    SIM_CREATE_TABLE,
    SIM_DROP,
    SIM_RENAME_TABLE,
    SIM_CLEAR
};

struct sim_op {
    enum sim_op_kind kind;
    uint32_t table;
    uint32_t key;
    uint32_t value; /* what was put: its number; never used twice */
};

struct sim_state {
    bool has_markers;            /* the marker table is there */
    uint32_t marker[SIM_TX_MAX]; /* attempt of each transaction; 0 = none */
    struct {
        bool exists;
        bool renamed;
        uint32_t rows[SIM_KEYS]; /* numbers of values; 0 = no row */
    } tables[SIM_TABLES];
};

static const size_t sim_never = SIZE_MAX;

/* Times are lengths of the journal: what had happened before them is in it. */
struct sim_attempt {
    uint32_t tx;
    uint32_t number;    /* from 1 */
    uint64_t gsn;       /* 0: never prepared */
    bool rule_abort;    /* in doubt it is out */
    bool full;          /* sync=full */
    bool makes_markers; /* creates the marker table */
    struct sim_op *ops; /* owned; what counts of it */
    size_t op_count;
    size_t begun;        /* prepare called */
    size_t commit_begun; /* commit called */
    size_t committed;    /* and acknowledged */
    size_t undo_begun;   /* rollback called, or another write after the prepare */
    size_t undone;       /* and acknowledged */
    size_t durable;      /* a flush or close after its commit was acknowledged */
};

struct sim_history {
    struct sim_state base;        /* before the run */
    struct sim_attempt *attempts; /* owned */
    size_t count;
    size_t capacity;
    size_t backup_begun;
    size_t backup_done; /* 0: none was made */
    uint32_t errors;    /* bit -rc: this error was met (SIM_FAULTS) */
};

void sim_history_fini(struct sim_history *history);

/* The bytes of a value; the length comes from its number, too. `bytes` has room for
 * SIM_VALUE_MAX. */
enum { SIM_VALUE_MAX = 70000 };
enum { SIM_VALUE_MIDDLE = 1 << 28, SIM_VALUE_LARGE = 2 << 28 }; /* classes of lengths */
size_t sim_value_make(uint32_t number, unsigned char *bytes);

void sim_table_name(char name[8], uint32_t table, bool renamed);

/* Reads everything that the store holds, by scans, look-ups and counts, which must
 * agree; ends the test when a read fails or a value is wrong. */
void sim_state_read(struct armdb *store, struct sim_state *state);

/* Is `found` what a cut after `at` events of the journal may leave? `killed`: the
 * process died, the kernel did not. Ends the test when not. */
void sim_history_check(const struct sim_history *history, const struct sim_state *found,
                       size_t at, bool killed);
/* Is `found` what the backup of this run must hold: what was committed when it began,
 * nothing that began after its end? */
void sim_history_check_backup(const struct sim_history *history,
                              const struct sim_state *found);
/* While the store is open: exactly what was committed is there. */
void sim_history_check_now(const struct sim_history *history,
                           const struct sim_state *found);
/* Both must be the same. */
void sim_state_same(const struct sim_state *a, const struct sim_state *b,
                    const char *what);

#endif

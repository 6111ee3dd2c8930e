/* kill_model.h - what the kill test writes, and what must be found.
 *
 * Every transaction is made from the seed, its thread and its number alone, so the
 * state after any number of them can be computed anew. */
#ifndef TEST_CRASH_KILL_MODEL_H
#define TEST_CRASH_KILL_MODEL_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    KILL_KEYS = 400,      /* keys of each thread */
    KILL_SLOTS = 50,      /* rows of each thread in the second table */
    KILL_THREADS_MAX = 4,
    KILL_OPS_MAX = 3000,
    KILL_VALUE_MAX = 3000
};

struct kill_op {
    int key;
    bool put; /* else delete */
};
struct kill_tx {
    int64_t number;
    int op_count;
    bool single;    /* one autocommitted statement in one table */
    bool aborted;   /* after an attempt that is rolled back */
    bool savepoint; /* with a part that is rolled back */
    struct kill_op op[KILL_OPS_MAX];
};
void kill_tx_make(struct kill_tx *tx, uint64_t seed, int thread, int64_t number);
/* The value that transaction `number` gives `key`; returns its length. */
size_t kill_value(uint64_t seed, int thread, int64_t number, int key,
                  unsigned char value[KILL_VALUE_MAX]);

struct kill_state {
    int64_t key_tx[KILL_KEYS];   /* who wrote the row; 0 = no row */
    int64_t slot_tx[KILL_SLOTS]; /* the same in the second table */
};
/* The state of one thread's rows after transactions 1 to `count`. */
void kill_state_make(struct kill_state *state, uint64_t seed, int thread, int64_t count);
/* Compares the tables with what each of `threads` left after count[] transactions.
 * Writes what differs into `text`. */
bool kill_state_check(sqlite3 *db, uint64_t seed, int threads, const int64_t *count,
                      char *text, size_t room);
/* How many transactions of the thread are there, by its own counter row. */
bool kill_state_count(sqlite3 *db, int thread, int64_t *count, char *text, size_t room);
void kill_key_text(char key[32], int thread, int number); /* -1 = the counter */
uint64_t kill_mix(uint64_t x);

#endif

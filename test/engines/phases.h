/* phases.h - what is measured, and what a child of the benchmark has at hand. */
#ifndef TEST_ENGINES_PHASES_H
#define TEST_ENGINES_PHASES_H

#include "test/engines/engine.h"

enum { WORLD_THREADS = 4 };

struct world {
    const struct engine *engine;
    const char *folder;
    void *db;
    void *user;
    uint64_t rows;
    size_t value_len;
    uint32_t *order;      /* row numbers in the order of their keys */
    uint64_t *key_sums;   /* of the first i rows in that order: rows + 1 sums */
    uint64_t *value_sums; /* the same of row numbers */
    uint64_t random;
    uint64_t modified; /* calls of modify so far */
    char *value;       /* room for one */
};

struct phase {
    const char *title;
    const char *unit;
    /* Runs until `deadline` (nanoseconds) or to its end; returns how often it did it. */
    uint64_t (*run)(struct world *w, uint64_t deadline);
    int rounds;
    bool synced; /* how the database is to be open */
};
extern const struct phase phases[];
extern const int phase_count;

/* Untimed, before and after it: closes what it opens anew, forgets what it reads cold. */
void phase_prepare(struct world *w, const struct phase *phase);
void phase_finish(struct world *w, const struct phase *phase);

uint64_t world_now(void);
void world_key(uint64_t row, char key[ENGINE_KEY_LEN]);
void world_open(struct world *w, bool synced);
void world_close(struct world *w);
/* Reads everything and ends the program if it is not what it must be. */
void world_check(struct world *w);

#endif

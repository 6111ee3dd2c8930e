/* bench.h - what the parts of the benchmark share.
 *
 * bench.c         arguments, sides, timing, the table of results, JSON
 * bench_sides.c   the databases, the clock
 * bench_phases.c  what is measured; every answer is checked */
#ifndef TEST_BENCH_BENCH_H
#define TEST_BENCH_BENCH_H

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BENCH_KEY_LEN = 16, BENCH_BATCH = 1000, BENCH_THREADS_MAX = 8 };
enum bench_place { BENCH_TEMP, BENCH_MAIN, BENCH_MEMORY };

struct bench_side {
    bool armdb;
    const char *name;
    char folder[600];
    sqlite3 *db;
};
struct bench {
    uint64_t rows;
    uint64_t value_len;
    enum bench_place place;
    const char *extension; /* NULL: native tables on both sides */
    const char *phases;    /* comma-separated, NULL = all */
    uint64_t budget_ns;    /* of one round of a timed phase */
    uint32_t *order;       /* row numbers in the order of their keys */
    struct bench_side side[2];
    unsigned char *value;  /* value_len bytes to start from */
    uint64_t untimed_ns; /* of the phase that runs: preparing and checking */
    _Atomic bool failed;
};

/* A phase runs on one side until `deadline` (or to its natural end) and returns how
 * many operations it did. */
struct bench_phase {
    const char *name;  /* word of --phases */
    const char *title; /* what the table says */
    uint64_t (*run)(struct bench *b, struct bench_side *side, uint64_t deadline);
    int rounds;        /* 1: runs to its end, once */
    double goal;       /* operations per second, 0 = none */
    bool needs_disk;   /* not with tables in memory */
    const char *unit;
};
extern const struct bench_phase bench_phases[];
extern const int bench_phase_count;

/* ---- bench.c --------------------------------------------------------------- */

uint64_t bench_now(void); /* nanoseconds */
uint64_t bench_mix(uint64_t x);
void bench_fail(struct bench *b, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* sync: "full" or "off". Makes the table `table` (k TEXT PRIMARY KEY, v BLOB) if it is
 * not there. */
sqlite3 *bench_open(struct bench *b, const struct bench_side *side, const char *table,
                    const char *sync);
void bench_close(struct bench *b, sqlite3 *db);
void bench_exec(struct bench *b, sqlite3 *db, const char *sql);
sqlite3_stmt *bench_prepare(struct bench *b, sqlite3 *db, const char *sql);
int64_t bench_number(struct bench *b, sqlite3 *db, const char *sql);
void bench_key(uint64_t row, char key[BENCH_KEY_LEN + 1]);

#endif

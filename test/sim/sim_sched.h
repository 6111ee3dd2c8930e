/* sim_sched.h - the engine's threads as coroutines of one thread, under a seed.
 *
 * sim_sched.c defines every function of engine/base/thread.h, so that a program of
 * this folder is linked with it instead of thread.c: nothing in the engine is changed,
 * and whatever it starts as a thread (the keeper, recovery's workers) runs here.
 * Exactly one coroutine runs at a time. Which one goes on is drawn from the seed at
 * every I/O call, at some locks, and wherever one has to wait; the clock is simulated
 * and jumps when all of them wait for it. A run is a function of its seed. */
#ifndef TEST_SIM_SIM_SCHED_H
#define TEST_SIM_SIM_SCHED_H

#include <stdbool.h>
#include <stdint.h>

/* A small generator for everything that is drawn. */
uint64_t sim_mix(uint64_t x);
uint64_t sim_next(uint64_t *state);                  /* 64 random bits */
uint32_t sim_below(uint64_t *state, uint32_t bound); /* 0 to bound - 1 */

/* Called first in main(): addresses are the same in every run, since some of the
 * engine's hashes are made of them. Starts the program anew where needed. */
void sim_fix_addresses(char **argv);
/* Runs job(arg) in a process of its own, whose memory is laid out the same whenever it
 * is run; false when it failed. */
bool sim_run_apart(void (*job)(void *arg), void *arg);

/* Starts anew with this seed: clock, choices. Only while no coroutine but the
 * caller's exists. `preempt` in 1000: how often a lock is a place to switch. */
void sim_sched_seed(uint64_t seed, uint32_t preempt);
/* A place where another coroutine may go on. */
void sim_sched_yield(void);
/* The n-th start of a thread from now on, and all later ones, is refused; 0 = none. */
void sim_sched_refuse_threads(uint64_t n);
uint64_t sim_sched_refused(void); /* starts refused since then */
/* While on, starting a coroutine needs nothing that a test lets fail. */
void sim_sched_spare(bool on);
/* Coroutines that exist beside the first one, and locks held by the running one. */
unsigned sim_sched_count(void);
unsigned sim_sched_locks_held(void);

/* Something that must never happen: prints it with the context last set, and ends the
 * program. */
void sim_fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
/* What sim_fail() prints to find the place again. */
void sim_context(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *sim_context_text(void);

#endif

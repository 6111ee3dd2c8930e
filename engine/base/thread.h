/* thread.h - mutexes with ranks, conditions, threads.
 *
 * Locks are taken in rising rank; debug builds check it at run time for every
 * thread. Several locks of one rank may not be held together, except by
 * adb_mutex_lock_next(). Only thread.c calls pthread functions. Layer 0. */
#ifndef ADB_ENGINE_BASE_THREAD_H
#define ADB_ENGINE_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/base/rc.h"

/* Lock order, lowest first. What each guards: DESIGN.md, "Locks". */
enum adb_rank {
    ADB_RANK_REGISTRY = 1, /* the process's list of stores */
    ADB_RANK_COMPACT,      /* one compaction of a store at a time; held across I/O */
    ADB_RANK_CATALOG,      /* a store's list of tables */
    ADB_RANK_MANIFEST,     /* the manifest and its replacement; may block on I/O */
    ADB_RANK_SETTLE,       /* making commits permanent: one at a time */
    ADB_RANK_HASH,         /* one partition of a hash map */
    ADB_RANK_ORDER,        /* writers of one order index */
    ADB_RANK_ARENA,        /* node arena free lists */
    ADB_RANK_SHARD,        /* one shard's tail */
    ADB_RANK_CACHE,        /* buffer manager: free list, eviction, large values */
    ADB_RANK_GSN,          /* GSN counter and watermarks */
    ADB_RANK_TXN,          /* transaction list, snapshots, waiters */
    ADB_RANK_EPOCH,        /* retired memory */
    ADB_RANK_IO,           /* inside an I/O engine */
    ADB_RANK_LEAF          /* last: locks under which nothing else is taken */
};

#if defined(__clang__)
#define ADB_TSA(x) __attribute__((x))
#else
#define ADB_TSA(x)
#endif
#define ADB_GUARDED ADB_TSA(guarded_var)
#define ADB_REQUIRES(...) ADB_TSA(exclusive_locks_required(__VA_ARGS__))
#define ADB_EXCLUDES(...) ADB_TSA(locks_excluded(__VA_ARGS__))
#define ADB_ACQUIRES(...) ADB_TSA(exclusive_lock_function(__VA_ARGS__))
#define ADB_RELEASES(...) ADB_TSA(unlock_function(__VA_ARGS__))
#define ADB_NOT_SHARED ADB_TSA(no_thread_safety_analysis)

struct ADB_TSA(lockable) adb_mutex {
    pthread_mutex_t m;
    enum adb_rank rank;
    _Atomic(void *) owner; /* debug builds: identity of the holder's thread */
};

struct adb_cond {
    pthread_cond_t c; /* waits on CLOCK_MONOTONIC */
};

struct adb_thread {
    pthread_t t;
    bool running;
};

enum armdb_rc adb_mutex_init(struct adb_mutex *mutex, enum adb_rank rank) ADB_MUST_CHECK;
void adb_mutex_fini(struct adb_mutex *mutex);
void adb_mutex_lock(struct adb_mutex *mutex) ADB_ACQUIRES(mutex);
/* Takes one more lock of the rank that the caller holds already, and none above it. All
 * who do so take them in one order. They are released together. */
void adb_mutex_lock_next(struct adb_mutex *mutex) ADB_ACQUIRES(mutex);
bool adb_mutex_trylock(struct adb_mutex *mutex)
    ADB_TSA(exclusive_trylock_function(1, mutex));
void adb_mutex_unlock(struct adb_mutex *mutex) ADB_RELEASES(mutex);
/* Debug builds: stops the test when the caller does not hold it. */
void adb_mutex_assert_held(struct adb_mutex *mutex);

enum armdb_rc adb_cond_init(struct adb_cond *cond) ADB_MUST_CHECK;
void adb_cond_fini(struct adb_cond *cond);
void adb_cond_signal(struct adb_cond *cond);
void adb_cond_broadcast(struct adb_cond *cond);
void adb_cond_wait(struct adb_cond *cond, struct adb_mutex *mutex) ADB_REQUIRES(mutex);
/* Waits until `deadline_ns` of adb_mono_ns(); false when it has passed. */
bool adb_cond_wait_until(struct adb_cond *cond, struct adb_mutex *mutex,
                         uint64_t deadline_ns) ADB_REQUIRES(mutex);

/* Starts run(arg) on a thread with all signals blocked (the host's handlers
 * never run on our threads). ARMDB_NOMEM when the system gives no thread. */
enum armdb_rc adb_thread_start(struct adb_thread *thread, void (*run)(void *),
                               void *arg) ADB_MUST_CHECK;
void adb_thread_join(struct adb_thread *thread); /* a thread not started is allowed */

/* Registers handlers around fork(), for the life of the process. */
enum armdb_rc adb_at_fork(void (*prepare)(void), void (*parent)(void),
                          void (*child)(void)) ADB_MUST_CHECK;

/* Runs init() once in the process, whoever comes first. */
struct adb_once {
    pthread_once_t once;
};
#define ADB_ONCE_INIT     \
    {                     \
        PTHREAD_ONCE_INIT \
    }
void adb_run_once(struct adb_once *once, void (*init)(void));

/* Processors that the system has at work; at least 1. */
unsigned adb_cpu_count(void);

/* Nanoseconds of CLOCK_MONOTONIC; for waiting and statistics, never for order. */
uint64_t adb_mono_ns(void);

/* The same clock, a few milliseconds late and at a fifth of the price: for ages. */
uint64_t adb_mono_coarse_ns(void);

/* A hint to the processor inside a short spin. */
static inline void adb_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* Assertions on our own code: on in debug and sanitizer builds, gone in release
 * builds. Never on bytes from disk, SQL input or the system. */
#ifdef ADB_DEBUG
void adb_assert_failed(const char *condition, const char *file, int line)
    __attribute__((noreturn));
#define ADB_ASSERT(cond) ((cond) ? (void)0 : adb_assert_failed(#cond, __FILE__, __LINE__))
#else
#define ADB_ASSERT(cond) ((void)sizeof(!(cond)))
#endif

#endif

/* thread.c - POSIX threads behind ranks.
 *
 * Debug builds keep, per thread, a bit set of the ranks held: taking a lock
 * whose rank is not above every held one stops the test at the place where the
 * wrong order is written, whether or not the other thread ever shows up. */
#include "engine/base/thread.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/mem.h"

#ifdef ADB_DEBUG
#include <stdio.h>
#include <stdlib.h>

static _Thread_local uint32_t ranks_held;
static _Thread_local char thread_mark; /* its address names the thread */

void adb_assert_failed(const char *condition, const char *file, int line)
{
    (void)fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, condition);
    abort();
}

static void note_acquire(struct adb_mutex *mutex)
{
    uint32_t bit = UINT32_C(1) << mutex->rank;

    ADB_ASSERT(ranks_held < bit);
    ranks_held |= bit;
    atomic_store_explicit(&mutex->owner, &thread_mark, memory_order_relaxed);
}

/* The rank is held, and nothing above it. */
static void note_acquire_next(struct adb_mutex *mutex)
{
    ADB_ASSERT(ranks_held >> mutex->rank == 1);
    atomic_store_explicit(&mutex->owner, &thread_mark, memory_order_relaxed);
}

static void note_release(struct adb_mutex *mutex)
{
    ADB_ASSERT(atomic_load_explicit(&mutex->owner, memory_order_relaxed) == &thread_mark);
    ranks_held &= ~(UINT32_C(1) << mutex->rank);
    atomic_store_explicit(&mutex->owner, NULL, memory_order_relaxed);
}
#else
#define note_acquire(mutex) ((void)(mutex))
#define note_acquire_next(mutex) ((void)(mutex))
#define note_release(mutex) ((void)(mutex))
#endif

enum armdb_rc adb_mutex_init(struct adb_mutex *mutex, enum adb_rank rank)
{
    mutex->rank = rank;
    atomic_init(&mutex->owner, NULL);
    return pthread_mutex_init(&mutex->m, NULL) == 0 ? ARMDB_OK : ARMDB_NOMEM;
}

void adb_mutex_fini(struct adb_mutex *mutex)
{
    (void)pthread_mutex_destroy(&mutex->m);
}

ADB_NOT_SHARED void adb_mutex_lock(struct adb_mutex *mutex)
{
    (void)pthread_mutex_lock(&mutex->m);
    note_acquire(mutex);
}

ADB_NOT_SHARED void adb_mutex_lock_next(struct adb_mutex *mutex)
{
    (void)pthread_mutex_lock(&mutex->m);
    note_acquire_next(mutex);
}

ADB_NOT_SHARED bool adb_mutex_trylock(struct adb_mutex *mutex)
{
    if (pthread_mutex_trylock(&mutex->m) != 0)
        return false;
    note_acquire(mutex);
    return true;
}

ADB_NOT_SHARED void adb_mutex_unlock(struct adb_mutex *mutex)
{
    note_release(mutex);
    (void)pthread_mutex_unlock(&mutex->m);
}

void adb_mutex_assert_held(struct adb_mutex *mutex)
{
#ifdef ADB_DEBUG
    ADB_ASSERT(atomic_load_explicit(&mutex->owner, memory_order_relaxed) == &thread_mark);
#else
    (void)mutex;
#endif
}

enum armdb_rc adb_cond_init(struct adb_cond *cond)
{
    pthread_condattr_t attr;
    int failed;

    if (pthread_condattr_init(&attr) != 0)
        return ARMDB_NOMEM;
    failed = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    if (failed == 0)
        failed = pthread_cond_init(&cond->c, &attr);
    (void)pthread_condattr_destroy(&attr);
    return failed == 0 ? ARMDB_OK : ARMDB_NOMEM;
}

void adb_cond_fini(struct adb_cond *cond)
{
    (void)pthread_cond_destroy(&cond->c);
}

void adb_cond_signal(struct adb_cond *cond)
{
    (void)pthread_cond_signal(&cond->c);
}

void adb_cond_broadcast(struct adb_cond *cond)
{
    (void)pthread_cond_broadcast(&cond->c);
}

void adb_cond_wait(struct adb_cond *cond, struct adb_mutex *mutex)
{
    note_release(mutex);
    (void)pthread_cond_wait(&cond->c, &mutex->m);
    note_acquire(mutex);
}

bool adb_cond_wait_until(struct adb_cond *cond, struct adb_mutex *mutex,
                         uint64_t deadline_ns)
{
    struct timespec deadline;
    int failed;

    deadline.tv_sec = (time_t)(deadline_ns / UINT64_C(1000000000));
    deadline.tv_nsec = (long)(deadline_ns % UINT64_C(1000000000));
    note_release(mutex);
    failed = pthread_cond_timedwait(&cond->c, &mutex->m, &deadline);
    note_acquire(mutex);
    return failed != ETIMEDOUT;
}

struct thread_start {
    void (*run)(void *);
    void *arg;
};

static void *thread_main(void *p)
{
    struct thread_start start = *(struct thread_start *)p;

    adb_free(ADB_MEM_MISC, p);
    start.run(start.arg);
    return NULL;
}

enum armdb_rc adb_thread_start(struct adb_thread *thread, void (*run)(void *), void *arg)
{
    struct thread_start *start = adb_alloc(ADB_MEM_MISC, sizeof *start);
    sigset_t all;
    sigset_t old;
    int failed;

    thread->running = false;
    if (start == NULL)
        return ARMDB_NOMEM;
    start->run = run;
    start->arg = arg;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    failed = pthread_create(&thread->t, NULL, thread_main, start);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (failed != 0) {
        adb_free(ADB_MEM_MISC, start);
        return ARMDB_NOMEM;
    }
    thread->running = true;
    return ARMDB_OK;
}

void adb_thread_join(struct adb_thread *thread)
{
    if (!thread->running)
        return;
    (void)pthread_join(thread->t, NULL);
    thread->running = false;
}

enum armdb_rc adb_at_fork(void (*prepare)(void), void (*parent)(void),
                          void (*child)(void))
{
    return pthread_atfork(prepare, parent, child) == 0 ? ARMDB_OK : ARMDB_NOMEM;
}

void adb_run_once(struct adb_once *once, void (*init)(void))
{
    (void)pthread_once(&once->once, init);
}

unsigned adb_cpu_count(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);

    return count < 1 ? 1 : (unsigned)count;
}

static uint64_t read_clock(clockid_t id)
{
    struct timespec now;

    (void)clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

uint64_t adb_mono_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t adb_mono_coarse_ns(void)
{
#ifdef CLOCK_MONOTONIC_COARSE
    return read_clock(CLOCK_MONOTONIC_COARSE);
#else
    return read_clock(CLOCK_MONOTONIC);
#endif
}

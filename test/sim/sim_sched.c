/* sim_sched.c - threads, locks, conditions and the clock, simulated.
 *
 * A coroutine has a stack of its own and a copy of the program's thread-local
 * variables, which is put in place while it runs: the engine's code sees what it would
 * see on a thread. There is no scheduler loop: whoever must wait or may be preempted
 * draws the next runnable coroutine and switches to it.
 *
 *     runnable   READY; WAIT_LOCK and the lock is free; WAIT_COND and signalled, or
 *                its deadline has passed; WAIT_JOIN and the other one has ended
 *     none       the clock jumps to the earliest deadline; without one it is a
 *                deadlock, which ends the program with the context that was set
 *
 * Ranks are checked here in every build, as thread.c does in debug builds: a lock
 * whose rank is not above all that are held is an error of the engine.
 *
 * The address sanitizer is told of every switch, since it keeps its own idea of the
 * stack. */
#define _GNU_SOURCE /* dl_iterate_phdr */
#include "test/sim/sim_sched.h"

#include <link.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "engine/base/thread.h"

#if defined(__has_feature) /* clang's way to say it */
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#define SWITCH_BEGINS(save, to) \
    __sanitizer_start_switch_fiber(save, (to)->stack_low, (to)->stack_bytes)
#define SWITCH_ENDED(save) __sanitizer_finish_switch_fiber(save, NULL, NULL)
#else
#define SWITCH_BEGINS(save, to) ((void)(save))
#define SWITCH_ENDED(save) ((void)(save))
#endif

enum { STACK_BYTES = 512 << 10, GUARD_BYTES = 4096, COROUTINES_MAX = 64 };

enum wait_kind { READY, WAIT_LOCK, WAIT_COND, WAIT_JOIN, ENDED };

struct coroutine {
    bool used;
    enum wait_kind state;
    void *on; /* the lock, condition or coroutine waited for */
    bool signalled;
    uint64_t deadline; /* 0 = none */
    uint32_t ranks;
    void (*run)(void *arg);
    void *arg;
    ucontext_t context;
    unsigned char *stack; /* kept for the next user of this slot */
    const void *stack_low;
    size_t stack_bytes;
    void *fake_stack;
    unsigned char *locals;
};

static struct coroutine all[COROUTINES_MAX];
static struct coroutine *running = &all[0];
static unsigned alive; /* beside all[0] */
static uint64_t clock_ns = 1000000000;
static uint64_t choices = 1;
static uint32_t preempt_in_1000;
static uint64_t refuse_at;
static uint64_t refused;
static bool spare;
static unsigned char *tls;
static size_t tls_bytes;
static unsigned char *first_locals; /* as the program began */
static char context_text[1024];

/* ---- Random numbers, context ---- */

uint64_t sim_mix(uint64_t x)
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

uint64_t sim_next(uint64_t *state)
{
    *state += UINT64_C(0x9E3779B97F4A7C15);
    return sim_mix(*state);
}

uint32_t sim_below(uint64_t *state, uint32_t bound)
{
    return (uint32_t)((sim_next(state) >> 32) % bound);
}

void sim_context(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(context_text, sizeof context_text, format, args);
    va_end(args);
}

const char *sim_context_text(void)
{
    return context_text;
}

void sim_fail(const char *format, ...)
{
    va_list args;

    (void)fflush(stdout);
    (void)printf("not ok - %s: ", context_text);
    va_start(args, format);
    (void)vprintf(format, args);
    va_end(args);
    (void)printf("\n");
    (void)fflush(stdout);
    if (getenv("SIM_ABORT") != NULL)
        abort();
    _exit(1);
}

/* ---- Processes ---- */

void sim_fix_addresses(char **argv)
{
    int now = personality(0xffffffff);

    if (now == -1 || (now & ADDR_NO_RANDOMIZE) != 0)
        return;
    if (personality((unsigned long)now | ADDR_NO_RANDOMIZE) != -1)
        (void)execv("/proc/self/exe", argv); /* fails: as good as it was */
}

bool sim_run_apart(void (*job)(void *arg), void *arg)
{
    int status;
    pid_t pid;

    (void)fflush(stdout);
    pid = fork();
    if (pid == 0) {
        job(arg);
        (void)fflush(stdout);
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return false;
    if (WIFSIGNALED(status))
        (void)printf("not ok - a process ended by signal %d\n", WTERMSIG(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- Switching ---- */

static int find_locals(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    /* The first object is the program itself. */
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_TLS) {
            tls = info->dlpi_tls_data;
            tls_bytes = info->dlpi_phdr[i].p_memsz;
        }
    return 1;
}

/* The first stack is the process's: the sanitizer must find it again. */
static void find_first_stack(void)
{
    pthread_attr_t attr;
    void *low;

    if (pthread_getattr_np(pthread_self(), &attr) != 0)
        return;
    if (pthread_attr_getstack(&attr, &low, &all[0].stack_bytes) == 0)
        all[0].stack_low = low;
    (void)pthread_attr_destroy(&attr);
}

static void init_first(void)
{
    if (all[0].used)
        return;
    all[0].used = true;
    find_first_stack();
    (void)dl_iterate_phdr(find_locals, NULL);
    all[0].locals = calloc(1, tls_bytes + 1);
    first_locals = calloc(1, tls_bytes + 1);
    memcpy(first_locals, tls, tls_bytes);
}

void sim_sched_seed(uint64_t seed, uint32_t preempt)
{
    init_first();
    if (alive > 0)
        sim_fail("%u threads are still there", alive);
    choices = sim_mix(seed ^ 0x5C4ED);
    preempt_in_1000 = preempt;
    clock_ns = 1000000000;
    refuse_at = 0;
}

void sim_sched_refuse_threads(uint64_t n)
{
    refuse_at = n;
    refused = 0;
}

uint64_t sim_sched_refused(void)
{
    return refused;
}

void sim_sched_spare(bool on)
{
    spare = on;
}

unsigned sim_sched_count(void)
{
    return alive;
}

unsigned sim_sched_locks_held(void)
{
    return (unsigned)__builtin_popcount(running->ranks);
}

static bool is_runnable(const struct coroutine *c)
{
    if (!c->used)
        return false;
    switch (c->state) {
    case READY:
        return true;
    case WAIT_LOCK:
        return atomic_load_explicit(&((struct adb_mutex *)c->on)->owner,
                                    memory_order_relaxed) == NULL;
    case WAIT_COND:
        return c->signalled || (c->deadline != 0 && c->deadline <= clock_ns);
    case WAIT_JOIN:
        return ((struct coroutine *)c->on)->state == ENDED;
    case ENDED:
        break;
    }
    return false;
}

static void print_all(void)
{
    static const char *const names[] = {"ready", "waits for a lock",
                                        "waits for a condition", "joins", "ended"};

    for (int i = 0; i < COROUTINES_MAX; i++)
        if (all[i].used)
            (void)printf("  coroutine %d %s %p, ranks held %#x\n", i, names[all[i].state],
                         all[i].on, all[i].ranks);
}

static struct coroutine *pick(void)
{
    for (;;) {
        struct coroutine *ready[COROUTINES_MAX];
        uint64_t first = UINT64_MAX;
        unsigned count = 0;

        for (int i = 0; i < COROUTINES_MAX; i++) {
            if (is_runnable(&all[i]))
                ready[count++] = &all[i];
            else if (all[i].used && all[i].state == WAIT_COND && all[i].deadline != 0 &&
                     all[i].deadline < first)
                first = all[i].deadline;
        }
        if (count > 0)
            return ready[count == 1 ? 0 : sim_below(&choices, count)];
        if (first == UINT64_MAX) {
            print_all();
            sim_fail("deadlock: every thread waits for ever");
        }
        clock_ns = first;
    }
}

static void switch_to(struct coroutine *next)
{
    struct coroutine *from = running;

    if (next == from)
        return;
    memcpy(from->locals, tls, tls_bytes);
    memcpy(tls, next->locals, tls_bytes);
    running = next;
    SWITCH_BEGINS(from->state == ENDED ? NULL : &from->fake_stack, next);
    (void)swapcontext(&from->context, &next->context);
    SWITCH_ENDED(from->fake_stack);
}

static void wait_now(enum wait_kind kind, void *on, uint64_t deadline)
{
    running->state = kind;
    running->on = on;
    running->deadline = deadline;
    running->signalled = false;
    switch_to(pick());
    running->state = READY;
}

void sim_sched_yield(void)
{
    clock_ns += 1000;
    if (alive > 0)
        switch_to(pick());
}

static void enter_coroutine(void)
{
    SWITCH_ENDED(NULL);
    running->run(running->arg);
    if (running->ranks != 0)
        sim_fail("a thread ended with locks held (ranks %#x)", running->ranks);
    running->state = ENDED;
    switch_to(pick());
    sim_fail("a thread that had ended went on");
}

/* ---- engine/base/thread.h ---- */

#ifdef ADB_DEBUG
void adb_assert_failed(const char *condition, const char *file, int line)
{
    sim_fail("%s:%d: assertion failed: %s", file, line, condition);
}
#endif

enum armdb_rc adb_mutex_init(struct adb_mutex *mutex, enum adb_rank rank)
{
    init_first();
    mutex->rank = rank;
    atomic_init(&mutex->owner, NULL);
    return ARMDB_OK;
}

void adb_mutex_fini(struct adb_mutex *mutex)
{
    if (atomic_load_explicit(&mutex->owner, memory_order_relaxed) != NULL)
        sim_fail("a lock of rank %d is held while it goes", (int)mutex->rank);
}

static void take(struct adb_mutex *mutex)
{
    uint32_t bit = UINT32_C(1) << mutex->rank;

    if (running->ranks >= bit)
        sim_fail("a lock of rank %d is taken while ranks %#x are held", (int)mutex->rank,
                 running->ranks);
    running->ranks |= bit;
    atomic_store_explicit(&mutex->owner, running, memory_order_relaxed);
}

static void give(struct adb_mutex *mutex)
{
    if (atomic_load_explicit(&mutex->owner, memory_order_relaxed) != running)
        sim_fail("a lock of rank %d is given back by a thread that has it not",
                 (int)mutex->rank);
    running->ranks &= ~(UINT32_C(1) << mutex->rank);
    atomic_store_explicit(&mutex->owner, NULL, memory_order_relaxed);
}

void adb_mutex_lock(struct adb_mutex *mutex)
{
    if (alive > 0 && sim_below(&choices, 1000) < preempt_in_1000)
        switch_to(pick());
    while (atomic_load_explicit(&mutex->owner, memory_order_relaxed) != NULL)
        wait_now(WAIT_LOCK, mutex, 0);
    take(mutex);
}

void adb_mutex_lock_next(struct adb_mutex *mutex)
{
    while (atomic_load_explicit(&mutex->owner, memory_order_relaxed) != NULL)
        wait_now(WAIT_LOCK, mutex, 0);
    if (running->ranks >> mutex->rank != 1)
        sim_fail("one more lock of rank %d is taken while ranks %#x are held",
                 (int)mutex->rank, running->ranks);
    atomic_store_explicit(&mutex->owner, running, memory_order_relaxed);
}

bool adb_mutex_trylock(struct adb_mutex *mutex)
{
    if (atomic_load_explicit(&mutex->owner, memory_order_relaxed) != NULL)
        return false;
    take(mutex);
    return true;
}

void adb_mutex_unlock(struct adb_mutex *mutex)
{
    give(mutex);
}

void adb_mutex_assert_held(struct adb_mutex *mutex)
{
    if (atomic_load_explicit(&mutex->owner, memory_order_relaxed) != running)
        sim_fail("a lock of rank %d should be held here", (int)mutex->rank);
}

enum armdb_rc adb_cond_init(struct adb_cond *cond)
{
    (void)cond;
    return ARMDB_OK;
}

void adb_cond_fini(struct adb_cond *cond)
{
    for (int i = 0; i < COROUTINES_MAX; i++)
        if (all[i].used && all[i].state == WAIT_COND && all[i].on == cond)
            sim_fail("somebody waits for a condition that goes");
}

void adb_cond_signal(struct adb_cond *cond)
{
    struct coroutine *waiting[COROUTINES_MAX];
    unsigned count = 0;

    for (int i = 0; i < COROUTINES_MAX; i++)
        if (all[i].used && all[i].state == WAIT_COND && all[i].on == cond &&
            !all[i].signalled)
            waiting[count++] = &all[i];
    if (count > 0)
        waiting[sim_below(&choices, count)]->signalled = true;
}

void adb_cond_broadcast(struct adb_cond *cond)
{
    for (int i = 0; i < COROUTINES_MAX; i++)
        if (all[i].used && all[i].state == WAIT_COND && all[i].on == cond)
            all[i].signalled = true;
}

void adb_cond_wait(struct adb_cond *cond, struct adb_mutex *mutex)
{
    give(mutex);
    wait_now(WAIT_COND, cond, 0);
    adb_mutex_lock(mutex);
}

bool adb_cond_wait_until(struct adb_cond *cond, struct adb_mutex *mutex,
                         uint64_t deadline_ns)
{
    bool signalled;

    give(mutex);
    wait_now(WAIT_COND, cond, deadline_ns);
    signalled = running->signalled;
    adb_mutex_lock(mutex);
    return signalled;
}

static bool prepare_stack(struct coroutine *c)
{
    if (c->stack == NULL) {
        unsigned char *base =
            mmap(NULL, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (base == MAP_FAILED)
            return false;
        (void)mprotect(base, GUARD_BYTES, PROT_NONE);
        c->stack = base + GUARD_BYTES;
        c->locals = calloc(1, tls_bytes + 1);
    }
    memcpy(c->locals, first_locals, tls_bytes);
    c->stack_low = c->stack;
    c->stack_bytes = STACK_BYTES;
    c->fake_stack = NULL;
    return true;
}

/* What thread.c allocates for the start may fail here too. */
static bool may_start(void)
{
    void *start;

    if (spare)
        return true;
    start = adb_alloc(ADB_MEM_MISC, 16);

    adb_free(ADB_MEM_MISC, start);
    refused += refuse_at == 1;
    if (start == NULL || refuse_at == 1)
        return false;
    if (refuse_at > 1)
        refuse_at--;
    return true;
}

static void prepare_context(struct coroutine *c)
{
    (void)getcontext(&c->context);
    c->context.uc_stack.ss_sp = c->stack;
    c->context.uc_stack.ss_size = STACK_BYTES;
    c->context.uc_link = NULL;
    makecontext(&c->context, enter_coroutine, 0);
}

enum armdb_rc adb_thread_start(struct adb_thread *thread, void (*run)(void *), void *arg)
{
    struct coroutine *c = &all[1];

    thread->running = false;
    while (c < &all[COROUTINES_MAX] && c->used)
        c++;
    if (!may_start() || c == &all[COROUTINES_MAX] || !prepare_stack(c))
        return ARMDB_NOMEM;
    prepare_context(c);
    c->run = run;
    c->arg = arg;
    c->ranks = 0;
    c->state = READY;
    c->used = true;
    alive++;
    /* pthread_t is a number wide enough for a slot. */
    thread->t = (pthread_t)(c - all);
    thread->running = true;
    return ARMDB_OK;
}

void adb_thread_join(struct adb_thread *thread)
{
    struct coroutine *c;

    if (!thread->running)
        return;
    c = &all[(int)thread->t];
    if (c->state != ENDED)
        wait_now(WAIT_JOIN, c, 0);
    c->used = false;
    alive--;
    thread->running = false;
}

enum armdb_rc adb_at_fork(void (*prepare)(void), void (*parent)(void),
                          void (*child)(void))
{
    (void)prepare;
    (void)parent;
    (void)child;
    return ARMDB_OK;
}

void adb_run_once(struct adb_once *once, void (*init)(void))
{
    if (once->once != PTHREAD_ONCE_INIT)
        return;
    once->once = PTHREAD_ONCE_INIT + 1;
    init();
}

unsigned adb_cpu_count(void)
{
    return 3; /* the same on every machine */
}

uint64_t adb_mono_ns(void)
{
    clock_ns += 100;
    return clock_ns;
}

uint64_t adb_mono_coarse_ns(void)
{
    return clock_ns;
}

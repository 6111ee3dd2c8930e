/* fail_calls.c - every I/O call and every allocation fails once, and from then on.
 *
 *   fail_calls [--seed=N] [--plan=NAME] [--step=N]
 *
 * A workload runs on a disk, new or with what an earlier run left, again and again: the
 * n-th time its n-th call fails, until it gets through without meeting the failure.
 * Each time:
 *
 *     during the run     an error where something failed, of the right kind; no crash,
 *                        deadlock, lock that stays held; what is read is right
 *     afterwards         the store holds exactly what was committed; it can be used on,
 *                        but for a store that was wounded; where memory or room was
 *                        lacking it is not wounded and everything works again
 *     closed             no memory, no open file is left
 *     opened again       after a crash at the end or somewhere before: the rules of
 *                        sim_model.c, transactions whose end failed being in doubt */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "engine/store/internal.h"
#include "test/sim/sim_disk.h"
#include "test/sim/sim_media.h"
#include "test/sim/sim_run.h"
#include "test/sim/sim_sched.h"

static const struct sim_plan plans[] = {
    {"one", SIM_ODD_ENDS | SIM_FAULTS, 1, 1, 6, ARMDB_SYNC_FULL},
    {"tables", SIM_ODD_ENDS | SIM_DDL | SIM_FAULTS, 2, 1, 7, ARMDB_SYNC_FULL},
    {"chunks", SIM_CHUNKS | SIM_ROTATE | SIM_ODD_ENDS | SIM_FAULTS, 1, 1, 5,
     ARMDB_SYNC_FULL},
    {"group", SIM_ROTATE | SIM_ODD_ENDS | SIM_FAULTS | SIM_FLUSH, 2, 3, 3, -1},
    {"backup", SIM_BACKUP | SIM_ROTATE | SIM_FAULTS, 2, 1, 4, ARMDB_SYNC_FULL},
    {"compact", SIM_COMPACT | SIM_ROTATE | SIM_ODD_ENDS | SIM_FAULTS, 2, 1, 5,
     ARMDB_SYNC_FULL},
    {"hints", SIM_HINTS | SIM_CHUNKS | SIM_ROTATE | SIM_ODD_ENDS | SIM_FAULTS, 2, 1, 4,
     -1},
    {"large", SIM_LARGE | SIM_FAULTS, 2, 1, 5, ARMDB_SYNC_NORMAL},
    {"steps", SIM_STEPS | SIM_CHUNKS | SIM_ODD_ENDS | SIM_FAULTS, 2, 1, 5,
     ARMDB_SYNC_FULL},
};
enum { PLANS = sizeof plans / sizeof plans[0], JOBS_MAX = 64 };

/* What fails. */
struct failure {
    const char *name;
    bool memory;
    bool threads;
    bool sticky;
    int error;
    bool partial;
    bool only_sync;
};

static const struct failure failures[] = {
    {.name = "a call with EIO", .error = EIO, .partial = true},
    {.name = "every call with EIO", .error = EIO, .sticky = true},
    {.name = "a call with ENOSPC", .error = ENOSPC},
    {.name = "every call with ENOSPC", .error = ENOSPC, .sticky = true, .partial = true},
    {.name = "a call with EDQUOT", .error = EDQUOT, .partial = true},
    {.name = "a call with EMFILE", .error = EMFILE},
    {.name = "every call with ENOMEM", .error = ENOMEM, .sticky = true},
    {.name = "a sync with EIO, the next one succeeds", .error = EIO, .only_sync = true},
    {.name = "a sync with ENOSPC", .error = ENOSPC, .only_sync = true},
    {.name = "an allocation", .memory = true},
    {.name = "every allocation", .memory = true, .sticky = true},
    {.name = "every start of a thread", .threads = true},
};
enum { FAILURES = sizeof failures / sizeof failures[0] };

struct counts {
    uint64_t calls;
    uint64_t allocations;
    uint64_t images;
};

struct job {
    uint64_t seed;
    uint64_t step; /* every step-th call */
    uint64_t jobs; /* processes */
    const char *plan;
    size_t plan_now; /* what this process is at */
    size_t failure_now;
    bool used_now;
    struct counts *counts; /* shared with the parent */
};

/* ---- One failure ---- */

struct trial {
    const struct sim_plan *plan;
    const struct failure *failure;
    uint64_t seed;
    uint64_t n;
    const struct sim_disk *base; /* NULL: a new disk */
    const struct sim_state *base_state;
    struct sim_disk *disk;
    struct sim_journal journal;
    struct sim_history history;
    bool hit;
};

static void arm(struct trial *t)
{
    struct sim_fault fault = {.at = t->n,
                              .sticky = t->failure->sticky,
                              .error = t->failure->error,
                              .partial = t->failure->partial,
                              .only_sync = t->failure->only_sync};

    if (t->failure->threads) {
        sim_sched_refuse_threads(t->n);
    } else if (t->failure->memory) {
        (void)adb_mem_failures();
        adb_mem_fail_at(t->n, t->failure->sticky);
    } else {
        sim_disk_fault(t->disk, &fault);
    }
}

static void disarm(struct trial *t)
{
    adb_mem_fail_at(0, false);
    t->hit = t->hit || adb_mem_failures() > 0 || t->disk->faults_hit > 0 ||
             sim_sched_refused() > 0;
    sim_disk_fault(t->disk, NULL);
    sim_sched_refuse_threads(0);
}

static uint32_t bit(enum armdb_rc rc)
{
    return UINT32_C(1) << -rc;
}

/* Errors that this failure may turn into. */
static uint32_t allowed_errors(const struct failure *failure)
{
    uint32_t io = bit(ARMDB_IO) | bit(ARMDB_CANTOPEN) | bit(ARMDB_WOUNDED);

    if (failure->threads)
        return 0; /* the callers do the work */
    if (failure->memory || failure->error == ENOMEM)
        return bit(ARMDB_NOMEM) | (failure->memory ? 0 : io);
    if (failure->error == ENOSPC || failure->error == EDQUOT)
        return bit(ARMDB_FULL) | bit(ARMDB_WOUNDED);
    return io;
}

static void check_errors(const struct trial *t, uint32_t errors)
{
    uint32_t wrong = errors & ~allowed_errors(t->failure);

    for (int rc = 1; wrong != 0 && rc < 32; rc++)
        if ((wrong & (UINT32_C(1) << rc)) != 0)
            sim_fail("the failure turned into %s", adb_rc_name((enum armdb_rc) - rc));
}

static void check_nothing_left(const char *what)
{
    if (adb_mem_used_total() != 0)
        sim_fail("%s: %llu bytes of memory are left", what,
                 (unsigned long long)adb_mem_used_total());
    if (sim_disk_handles() != 0)
        sim_fail("%s: %u files or folders are open", what, sim_disk_handles());
    if (sim_sched_count() != 0)
        sim_fail("%s: a thread is left", what);
    if (sim_sched_locks_held() != 0)
        sim_fail("%s: a lock is held", what);
}

/* Everything works again, unless an I/O error has wounded the store. */
static void use_on(struct trial *t, struct armdb *store)
{
    struct sim_plan more = *t->plan;
    bool wounded = atomic_load_explicit(&store->log.wounded, memory_order_acquire);
    struct sim_state found;

    sim_state_read(store, &found);
    sim_history_check_now(&t->history, &found);
    if (wounded && t->failure->memory)
        sim_fail("lack of memory wounded the store (%s)", store->log.wound_error.text);
    if (!wounded)
        more.what &= ~(uint32_t)SIM_FAULTS;
    more.transactions = 3;
    sim_run(store, &more, t->seed + 1, false, &t->history);
    sim_state_read(store, &found);
    sim_history_check_now(&t->history, &found);
}

/* A backup, perhaps made by another try into the same folder after one that failed. */
static void open_backup(struct trial *t)
{
    struct armdb *store = NULL;
    struct armdb_error err = {0};
    struct sim_state found;

    if (t->history.backup_done == 0)
        return;
    if (sim_backup_open(t->plan, &store, &err) != ARMDB_OK)
        sim_fail("the backup does not open: %s", err.text);
    sim_state_read(store, &found);
    sim_history_check_backup(&t->history, &found);
    armdb_close(store);
}

static void run(struct trial *t)
{
    struct armdb *store = NULL;
    struct armdb_error err = {0};
    enum armdb_rc rc;

    sim_disk_mount(t->disk);
    arm(t);
    rc = sim_store_open(t->plan, &store, &err);
    if (rc != ARMDB_OK) {
        t->history.errors |= bit(rc);
        if (err.text[0] == '\0')
            sim_fail("the store does not open and there is no text");
        disarm(t);
        check_nothing_left("after an opening that failed");
        rc = sim_store_open(t->plan, &store, &err);
        if (rc != ARMDB_OK)
            sim_fail("the store does not open any more: %s (%s)", adb_rc_name(rc),
                     err.text);
    }
    sim_run(store, t->plan, t->seed, false, &t->history);
    disarm(t);
    check_errors(t, t->history.errors);
    use_on(t, store);
    armdb_close(store);
    open_backup(t);
    check_nothing_left("after the run");
}

/* ---- What is found afterwards ---- */

static void open_image(const struct trial *t, struct sim_disk *disk, size_t at,
                       bool killed)
{
    struct armdb *store = NULL;
    struct armdb_error err = {0};
    struct sim_state found;
    enum armdb_rc rc;

    sim_disk_mount(disk);
    rc = sim_store_open(t->plan, &store, &err);
    if (rc != ARMDB_OK)
        sim_fail("the store does not open: %s (%s)", adb_rc_name(rc), err.text);
    sim_state_read(store, &found);
    sim_history_check(&t->history, &found, at, killed);
    armdb_close(store);
    check_nothing_left("after opening again");
}

/* After a sync that failed the kernel may drop what it had not written yet: then a
 * process that dies is no better off than one that loses power. */
static bool sync_failed(const struct sim_journal *journal, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (journal->events[i].kind == SIM_SYNC_FAILED)
            return true;
    return false;
}

static void crash_and_open(struct job *job, const struct trial *t,
                           const struct sim_disk *before)
{
    struct sim_media *media = sim_media_create(before, &t->journal);
    uint64_t random = sim_mix(t->seed + t->n);
    size_t somewhere = sim_below(&random, (uint32_t)t->journal.count + 1);
    size_t points[] = {somewhere, t->journal.count, t->journal.count};
    char context[1024];

    (void)snprintf(context, sizeof context, "%s", sim_context_text());
    if (getenv("SIM_VERBOSE") != NULL)
        sim_journal_print(&t->journal);
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        enum sim_cut cut = i == 1 ? SIM_KILL : (enum sim_cut)sim_below(&random, SIM_CUTS);
        struct sim_disk *image;

        sim_media_advance(media, points[i]);
        image = sim_media_image(media, cut, sim_next(&random));
        sim_context("%s, crash before event %zu of %zu: %s", context, points[i],
                    t->journal.count, sim_cut_name(cut));
        open_image(t, image, points[i],
                   cut == SIM_KILL && !sync_failed(&t->journal, points[i]));
        sim_disk_destroy(image);
        job->counts->images++;
    }
    sim_media_destroy(media);
}

/* A disk like another one; a new one without. */
static struct sim_disk *copy_disk(const struct sim_disk *disk, uint64_t seed)
{
    struct sim_journal nothing = {0};
    struct sim_disk *copy;
    struct sim_media *media;

    if (disk == NULL)
        return sim_disk_create(seed);
    media = sim_media_create(disk, &nothing);
    copy = sim_media_image(media, SIM_KILL, seed);
    sim_media_destroy(media);
    return copy;
}

/* False when the run got through without meeting the failure. */
static bool try_once(struct job *job, struct trial *t)
{
    struct sim_disk *before = copy_disk(t->base, t->seed);
    uint32_t tx = sim_run_next();

    sim_sched_seed(t->seed, 30);
    t->disk = copy_disk(t->base, t->seed);
    t->disk->journal = &t->journal;
    if (t->base_state != NULL)
        t->history.base = *t->base_state;
    run(t);
    t->disk->journal = NULL;
    crash_and_open(job, t, before);
    sim_run_set_next(tx);
    sim_history_fini(&t->history);
    sim_journal_fini(&t->journal);
    sim_disk_destroy(t->disk);
    sim_disk_destroy(before);
    if (t->failure->memory)
        job->counts->allocations += t->hit;
    else
        job->counts->calls += t->hit;
    return t->hit;
}

/* ---- All of them ---- */

/* A disk with the rest of a run on it, not closed, and what is to be found there. */
static struct sim_disk *used_disk(const struct sim_plan *plan, uint64_t seed,
                                  struct sim_state *state)
{
    struct sim_disk *disk = sim_disk_create(seed);
    struct sim_history history = {0};
    struct armdb_error err = {0};
    struct armdb *store = NULL;
    struct sim_plan before = *plan;

    before.what &= ~(uint32_t)SIM_BACKUP;
    sim_sched_seed(seed, 0);
    sim_disk_mount(disk);
    if (sim_store_open(plan, &store, &err) != ARMDB_OK)
        sim_fail("the store does not open: %s", err.text);
    sim_run(store, &before, seed, false, &history);
    sim_state_read(store, state);
    disk->dead = true;
    armdb_close(store);
    disk->dead = false;
    sim_history_fini(&history);
    return disk;
}

/* One kind of failure at every call of one workload. */
static void run_one(void *arg)
{
    struct job *job = arg;
    const struct sim_plan *plan = &plans[job->plan_now];
    const struct failure *failure = &failures[job->failure_now];
    struct sim_state state;
    struct sim_disk *disk = NULL;
    bool hit = true;

    sim_run_set_next(1);
    if (job->used_now)
        disk = used_disk(plan, job->seed, &state);
    for (uint64_t n = 1; hit; n += job->step) {
        struct trial t;

        memset(&t, 0, sizeof t);
        t.plan = plan;
        t.failure = failure;
        t.seed = sim_mix(job->seed);
        t.n = n;
        t.base = disk;
        t.base_state = job->used_now ? &state : NULL;
        sim_context("--seed=%llu --plan=%s, %s disk, fails: %s, number %llu",
                    (unsigned long long)job->seed, plan->name,
                    job->used_now ? "used" : "new", failure->name, (unsigned long long)n);
        hit = try_once(job, &t);
    }
    sim_disk_destroy(disk);
}

/* Every jobs-th of all combinations, from `index` on, each in a process of its own. */
static bool run_share(struct job *job, uint64_t index)
{
    bool good = true;

    for (uint64_t n = index; good && n < 2 * PLANS * FAILURES; n += job->jobs) {
        job->failure_now = n / 2 / PLANS;
        job->plan_now = n / 2 % PLANS;
        job->used_now = n % 2 == 1;
        if (job->plan == NULL || strcmp(job->plan, plans[job->plan_now].name) == 0)
            good = sim_run_apart(run_one, job);
    }
    return good;
}

static bool run_all(struct job *job, struct counts *shared)
{
    bool good = true;
    int status;

    (void)fflush(stdout);
    for (uint64_t i = 0; i < job->jobs; i++) {
        if (fork() == 0) {
            job->counts = &shared[i];
            _exit(run_share(job, i) ? 0 : 1);
        }
    }
    while (wait(&status) > 0)
        good = good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    return good;
}

int main(int argc, char **argv)
{
    const char *seed = getenv("SEED");
    const char *jobs = getenv("JOBS");
    struct job job = {.step = 1, .jobs = 1};
    struct counts sum = {0};
    struct counts *shared;
    time_t began = time(NULL);

    sim_fix_addresses(argv);
    if (jobs != NULL)
        job.jobs = strtoull(jobs, NULL, 10);
    job.seed = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)began;
    if (getenv("STEP") != NULL)
        job.step = strtoull(getenv("STEP"), NULL, 10);
    for (int i = 1; i < argc; i++) {
        const char *value = strchr(argv[i], '=');

        if (strncmp(argv[i], "--seed=", 7) == 0)
            job.seed = strtoull(value + 1, NULL, 10);
        else if (strncmp(argv[i], "--step=", 7) == 0)
            job.step = strtoull(value + 1, NULL, 10);
        else if (strncmp(argv[i], "--plan=", 7) == 0)
            job.plan = value + 1;
    }
    if (job.jobs < 1 || job.jobs > JOBS_MAX)
        job.jobs = 1;
    printf("seed %llu\n", (unsigned long long)job.seed);
    shared = mmap(NULL, JOBS_MAX * sizeof *shared, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || !run_all(&job, shared))
        return 1;
    for (uint64_t i = 0; i < job.jobs; i++) {
        sum.calls += shared[i].calls;
        sum.allocations += shared[i].allocations;
        sum.images += shared[i].images;
    }
    printf("%llu failed calls, %llu failed allocations, %llu disks opened after a crash, "
           "in %lld s\n",
           (unsigned long long)sum.calls, (unsigned long long)sum.allocations,
           (unsigned long long)sum.images, (long long)(time(NULL) - began));
    printf("ok - calls and allocations that fail\n");
    return 0;
}

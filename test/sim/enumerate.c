/* enumerate.c - a crash at every I/O call, and what is found afterwards.
 *
 *   enumerate [--seed=N] [--rounds=N | --seconds=N] [--plan=NAME] [--images=N] [--jobs=N]
 *
 * A workload (sim_run.c) runs once on a recorded disk. Then, for every event of the
 * journal, disks are built that a crash just before it could have left: the process
 * killed, and the power cut in several ways (sim_media.h). Each is opened and compared
 * with the model (sim_model.c). Of what is opened a part goes on:
 *
 *     closed and opened again      the same rows
 *     crash while it was opened    recovery is itself a workload: the same rules hold
 *     written to, crash, opened    what was found is now the base that must stay
 *
 * A failure names seed, round, plan, event and cut; the same --seed and --plan with
 * --rounds=1 and --first=ROUND replays it. */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "engine/log/hint.h"
#include "test/sim/sim_disk.h"
#include "test/sim/sim_media.h"
#include "test/sim/sim_run.h"
#include "test/sim/sim_sched.h"

static const struct sim_plan plans[] = {
    {"one", SIM_ODD_ENDS, 1, 1, 12, ARMDB_SYNC_FULL},
    {"shards", SIM_ODD_ENDS | SIM_DDL, 3, 1, 14, ARMDB_SYNC_FULL},
    {"group", SIM_ODD_ENDS, 2, 4, 6, ARMDB_SYNC_FULL},
    {"rotate", SIM_ODD_ENDS | SIM_ROTATE, 2, 3, 6, ARMDB_SYNC_FULL},
    {"chunks", SIM_ODD_ENDS | SIM_CHUNKS | SIM_ROTATE | SIM_DDL, 2, 2, 6,
     ARMDB_SYNC_FULL},
    {"large", SIM_LARGE | SIM_ODD_ENDS, 2, 2, 6, ARMDB_SYNC_FULL},
    {"normal", SIM_ODD_ENDS | SIM_ROTATE | SIM_FLUSH, 2, 3, 7, ARMDB_SYNC_NORMAL},
    {"off", SIM_ODD_ENDS | SIM_CHUNKS | SIM_FLUSH, 2, 3, 7, ARMDB_SYNC_OFF},
    {"mixed", SIM_ODD_ENDS | SIM_ROTATE | SIM_CHUNKS | SIM_DDL | SIM_FLUSH, 3, 4, 5, -1},
    {"backup", SIM_ODD_ENDS | SIM_ROTATE | SIM_DDL | SIM_BACKUP, 2, 3, 5, -1},
    {"compact", SIM_ODD_ENDS | SIM_ROTATE | SIM_DDL | SIM_COMPACT, 2, 3, 6, -1},
    {"moved", SIM_ODD_ENDS | SIM_ROTATE | SIM_CHUNKS | SIM_COMPACT, 2, 2, 7, -1},
    {"together", SIM_ODD_ENDS | SIM_ROTATE | SIM_COMPACT | SIM_BACKUP, 2, 3, 5, -1},
    {"hints", SIM_ODD_ENDS | SIM_ROTATE | SIM_DDL | SIM_HINTS, 2, 2, 7, -1},
    {"hinted", SIM_ODD_ENDS | SIM_ROTATE | SIM_CHUNKS | SIM_COMPACT | SIM_HINTS, 2, 2, 6,
     -1},
    {"direct", SIM_ODD_ENDS | SIM_ROTATE | SIM_DIRECT, 2, 2, 6, ARMDB_SYNC_FULL},
};
enum { PLANS = sizeof plans / sizeof plans[0], HASHES_MAX = 16, JOBS_MAX = 64 };

struct counts {
    uint64_t runs;
    uint64_t points;  /* events before which a crash was tried */
    uint64_t images;  /* disks opened after a crash */
    uint64_t reopens; /* openings after that */
    uint64_t again;   /* crashes while opening, or after writing on */
    uint64_t verified;
};

struct job {
    uint64_t seed;
    uint64_t first;
    uint64_t rounds;
    uint64_t seconds;
    uint32_t cuts; /* images tried at each event */
    uint64_t jobs; /* processes that share the rounds */
    const char *plan;
    const struct sim_plan *plan_now; /* what this process is at */
    uint64_t round_now;
    struct counts *counts; /* shared with the parent */
};

static const struct sim_plan *go_on_plan(const struct sim_plan *plan)
{
    static struct sim_plan shorter;

    shorter = *plan;
    shorter.sessions = plan->sessions > 2 ? 2 : plan->sessions;
    shorter.transactions = 2;
    shorter.what &= ~(uint32_t)SIM_BACKUP;
    return &shorter;
}

static struct armdb *open_store(const struct sim_plan *plan, struct sim_disk *disk)
{
    struct armdb_error err = {0};
    struct armdb *store = NULL;
    enum armdb_rc rc;

    disk->direct = (plan->what & SIM_DIRECT) != 0;
    sim_disk_mount(disk);
    rc = sim_store_open(plan, &store, &err);
    if (rc != ARMDB_OK)
        sim_fail("the store does not open: %s (%s)", adb_rc_name(rc), err.text);
    return store;
}

/* The process dies here: what its closing would do is not done. */
static void abandon(struct sim_disk *disk, struct armdb *store)
{
    disk->dead = true;
    armdb_close(store);
    disk->dead = false;
}

static void check_nothing_left(const char *what)
{
    if (adb_mem_used_total() != 0)
        sim_fail("%s: %llu bytes of memory are left", what,
                 (unsigned long long)adb_mem_used_total());
    if (sim_disk_handles() != 0)
        sim_fail("%s: %u files or folders are open", what, sim_disk_handles());
}

/* ---- One run, and a crash in it ---- */

/* A run that was recorded. */
struct recorded {
    const struct sim_plan *plan;
    const struct sim_disk *base;       /* the disk before it */
    const struct sim_journal *journal; /* from there on */
    const struct sim_history *history;
};

/* A copy of a disk: all that is on it is durable. */
static struct sim_disk *copy_disk(const struct sim_disk *disk, uint64_t seed)
{
    struct sim_journal nothing = {0};
    struct sim_media *media = sim_media_create(disk, &nothing);
    struct sim_disk *copy = sim_media_image(media, SIM_KILL, seed);

    sim_media_destroy(media);
    return copy;
}

/* Opens one image of a crash at event `at` of `run` and compares with the history;
 * `as_of` is the moment of it that counts: another one when the run came after. */
static void crash_again(struct job *job, const struct recorded *run, size_t at,
                        const struct sim_history *history, size_t as_of, uint64_t seed)
{
    uint64_t random = sim_mix(seed);
    enum sim_cut cut = (enum sim_cut)sim_below(&random, SIM_CUTS);
    struct sim_media *media = sim_media_create(run->base, run->journal);
    struct sim_state found;
    struct sim_disk *image;
    struct armdb *store;

    sim_media_advance(media, at);
    image = sim_media_image(media, cut, sim_next(&random));
    store = open_store(run->plan, image);
    sim_state_read(store, &found);
    sim_history_check(history, &found, as_of, cut == SIM_KILL && history == run->history);
    abandon(image, store);
    sim_disk_destroy(image);
    sim_media_destroy(media);
    job->counts->again++;
}

/* Opens the image with a journal, writes on, and crashes somewhere: first while it was
 * being opened, where the first history still rules, then where the new one does. When
 * only the process had died, what the kernel had not synced is still not durable: the
 * journal goes on. */
static void go_on(struct job *job, const struct recorded *run, struct sim_disk *image,
                  uint64_t seed, size_t at, bool killed)
{
    struct sim_disk *copy = copy_disk(image, sim_mix(seed + 1));
    struct sim_journal journal = {0};
    struct sim_history history = {0};
    struct recorded next = {run->plan, killed ? run->base : copy, &journal, &history};
    uint64_t random = sim_mix(seed);
    size_t start = killed ? at : 0;
    uint32_t tx = sim_run_next();
    struct armdb *store;
    size_t opened;
    char context[1024];

    (void)snprintf(context, sizeof context, "%s", sim_context_text());
    if (killed)
        sim_journal_copy(&journal, run->journal, at);
    image->journal = &journal;
    store = open_store(run->plan, image);
    opened = journal.count;
    sim_state_read(store, &history.base);
    sim_history_check(run->history, &history.base, at, killed);
    sim_run(store, go_on_plan(run->plan), sim_next(&random), sim_below(&random, 2) == 0,
            &history);
    sim_run_set_next(tx);
    if (sim_disk_handles() > 0)
        abandon(image, store);
    image->journal = NULL;
    for (int i = 0; i < 3; i++) {
        bool recovering = i == 0;
        size_t from = recovering ? start : opened;
        size_t to = recovering ? opened : journal.count;
        size_t point = from + sim_below(&random, (uint32_t)(to - from) + 1);

        recovering = point < opened;
        sim_context("%s, then %s event %zu of %zu", context,
                    recovering ? "in recovery," : "after writing on,", point,
                    journal.count);
        crash_again(job, &next, point, recovering ? run->history : &history,
                    recovering ? at : point, sim_next(&random));
    }
    sim_context("%s", context);
    sim_history_fini(&history);
    sim_journal_fini(&journal);
    sim_disk_destroy(copy);
}

static void on_finding(void *arg, const struct armdb_finding *finding)
{
    (void)arg;
    sim_fail("verify: %s at %llu: %s", finding->file == NULL ? "index" : finding->file,
             (unsigned long long)finding->offset, finding->what);
}

/* What a crash and recovery leave is no damage, and index and log agree. */
static void verify_store(struct job *job, struct armdb *store)
{
    struct armdb_error err = {0};
    enum armdb_rc rc = armdb_verify(store, NULL, on_finding, NULL, &err);

    if (rc != ARMDB_OK)
        sim_fail("verify: %s (%s)", adb_rc_name(rc), err.text);
    job->counts->verified++;
}

/* Closed, a store leaves no hint without its segment, and none on its way. */
static void check_names(const struct sim_disk *disk)
{
    for (size_t i = 0; i < disk->names.count; i++) {
        const struct sim_name *name = &disk->names.list[i];
        char segment[SIM_NAME_MAX];
        bool temporary;
        uint64_t number;

        if (!hint_name_parse(name->name, &number, &temporary))
            continue;
        segment_name(number, segment);
        if (temporary || sim_names_find(&disk->names, name->dir, segment) == NULL)
            sim_fail("%s is left in the folder of a closed store", name->name);
    }
}

static void close_and_reopen(struct job *job, const struct sim_plan *plan,
                             struct sim_disk *image, struct armdb *store,
                             const struct sim_state *found)
{
    struct sim_state again;

    armdb_close(store);
    check_names(image);
    store = open_store(plan, image);
    sim_state_read(store, &again);
    sim_state_same(&again, found, "opened again");
    verify_store(job, store);
    abandon(image, store);
    job->counts->reopens++;
}

/* A backup that was acknowledged is a store of its own. */
static void check_backup(const struct recorded *run, struct sim_disk *image, size_t at)
{
    struct armdb_error err = {0};
    struct armdb *store = NULL;
    struct sim_state found;
    enum armdb_rc rc;

    if (run->history->backup_done == 0 || run->history->backup_done > at)
        return;
    rc = sim_backup_open(run->plan, &store, &err);
    if (rc != ARMDB_OK)
        sim_fail("the backup does not open: %s (%s)", adb_rc_name(rc), err.text);
    sim_state_read(store, &found);
    sim_history_check_backup(run->history, &found);
    abandon(image, store);
}

/* ---- One crash ---- */

static void check_image(struct job *job, const struct recorded *run,
                        struct sim_disk *image, uint64_t seed, size_t at, bool killed)
{
    struct sim_state found;
    struct armdb *store;
    uint64_t random = sim_mix(seed + 77);
    uint32_t then = sim_below(&random, 16);

    job->counts->images++;
    if (then == 0) {
        go_on(job, run, image, sim_next(&random), at, killed);
        return;
    }
    store = open_store(run->plan, image);
    sim_state_read(store, &found);
    sim_history_check(run->history, &found, at, killed);
    if (then == 3 || then == 4)
        verify_store(job, store);
    if (then < 3)
        close_and_reopen(job, run->plan, image, store, &found);
    else
        abandon(image, store);
    check_backup(run, image, at);
}

/* The images of one moment. Those seen since the last acknowledgement are left out. */
static void crash_at(struct job *job, const struct recorded *run,
                     const struct sim_media *media, size_t at, uint64_t seed,
                     const char *context)
{
    uint64_t seen[HASHES_MAX];
    uint32_t seen_count = 0;
    uint64_t random = sim_mix(seed + at);
    uint32_t cuts = sim_media_pending(media) == 0 ? 1 : job->cuts;

    job->counts->points++;
    for (uint32_t i = 0; i < cuts; i++) {
        enum sim_cut cut = i == 0 ? SIM_KILL
                           : i == 1
                               ? SIM_LOST
                               : (enum sim_cut)(2 + sim_below(&random, SIM_CUTS - 2));
        uint64_t image_seed = sim_next(&random);
        struct sim_disk *image = sim_media_image(media, cut, image_seed);
        uint64_t hash = sim_disk_hash(image);
        bool known = false;

        for (uint32_t h = 0; h < seen_count; h++)
            known = known || seen[h] == hash;
        if (!known) {
            if (seen_count < HASHES_MAX)
                seen[seen_count++] = hash;
            sim_context("%s, event %zu, cut %u: %s", context, at, i, sim_cut_name(cut));
            check_image(job, run, image, image_seed, at, cut == SIM_KILL);
        }
        sim_disk_destroy(image);
        check_nothing_left("after a crash");
    }
}

static bool is_moment(const struct sim_event *event)
{
    return event->kind != SIM_SYNC_BEGIN && event->kind != SIM_DIR_SYNC_BEGIN;
}

static void run_once(void *arg)
{
    struct job *job = arg;
    const struct sim_plan *plan = job->plan_now;
    uint64_t round = job->round_now;
    uint64_t seed = sim_mix(job->seed * 1000003 + round);
    struct sim_disk *disk = sim_disk_create(seed);
    struct sim_disk *empty = sim_disk_create(seed);
    struct sim_journal journal = {0};
    struct sim_history history = {0};
    struct recorded run = {plan, empty, &journal, &history};
    struct sim_media *media;
    struct armdb *store;
    char context[200];

    (void)snprintf(context, sizeof context, "--seed=%llu --first=%llu --plan=%s",
                   (unsigned long long)job->seed, (unsigned long long)round, plan->name);
    sim_context("%s", context);
    sim_run_set_next(1);
    sim_sched_seed(seed, 30);
    disk->journal = &journal;
    store = open_store(plan, disk);
    sim_run(store, plan, seed, (seed & 1) != 0, &history);
    if ((seed & 1) == 0)
        abandon(disk, store);
    else
        check_names(disk);
    check_nothing_left("after the run");
    job->counts->runs++;

    sim_sched_seed(seed, 0);
    media = sim_media_create(empty, &journal);
    for (size_t at = 0; at <= journal.count; at++) {
        if (at < journal.count && !is_moment(&journal.events[at]))
            continue;
        sim_media_advance(media, at);
        crash_at(job, &run, media, at, seed, context);
    }
    sim_media_destroy(media);
    sim_history_fini(&history);
    sim_journal_fini(&journal);
    sim_disk_destroy(disk);
    sim_disk_destroy(empty);
}

static void parse(struct job *job, int argc, char **argv)
{
    const char *seed = getenv("SEED");
    const char *jobs = getenv("JOBS");

    job->seed = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    job->jobs = jobs != NULL ? strtoull(jobs, NULL, 10) : 1;
    if (getenv("ROUNDS") != NULL)
        job->rounds = strtoull(getenv("ROUNDS"), NULL, 10);
    for (int i = 1; i < argc; i++) {
        const char *value = strchr(argv[i], '=');
        uint64_t n = value != NULL ? strtoull(value + 1, NULL, 10) : 0;

        if (strncmp(argv[i], "--seed=", 7) == 0)
            job->seed = n;
        else if (strncmp(argv[i], "--first=", 8) == 0)
            job->first = n;
        else if (strncmp(argv[i], "--rounds=", 9) == 0)
            job->rounds = n;
        else if (strncmp(argv[i], "--seconds=", 10) == 0)
            job->seconds = n;
        else if (strncmp(argv[i], "--jobs=", 7) == 0)
            job->jobs = n;
        else if (strncmp(argv[i], "--images=", 9) == 0)
            job->cuts = (uint32_t)n;
        else if (strncmp(argv[i], "--plan=", 7) == 0)
            job->plan = value + 1;
    }
    if (job->jobs < 1 || job->jobs > JOBS_MAX)
        job->jobs = 1;
}

/* Every jobs-th pair of round and plan, from `index` on. */
static bool run_share(struct job *job, uint64_t index)
{
    bool good = true;
    time_t began = time(NULL);

    for (uint64_t n = index; good; n += job->jobs) {
        uint64_t round = job->first + n / PLANS;
        const struct sim_plan *plan = &plans[n % PLANS];

        if (job->seconds > 0 ? (uint64_t)(time(NULL) - began) >= job->seconds
                             : round >= job->first + job->rounds)
            break;
        job->plan_now = plan;
        job->round_now = round;
        if (job->plan == NULL || strcmp(job->plan, plan->name) == 0)
            good = sim_run_apart(run_once, job);
    }
    return good;
}

/* One process for each share; their counts come back through `shared`. */
static bool run_all(const struct job *job, struct counts *shared)
{
    bool good = true;

    (void)fflush(stdout);
    for (uint64_t i = 0; i < job->jobs; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            struct job own = *job;

            own.counts = &shared[i];
            _exit(run_share(&own, i) ? 0 : 1);
        }
        good = good && pid > 0;
    }
    for (;;) {
        int status;

        if (wait(&status) < 0)
            break;
        good = good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
        if (!WIFEXITED(status))
            printf("not ok - a process ended by signal %d\n", WTERMSIG(status));
    }
    return good;
}

int main(int argc, char **argv)
{
    struct job job = {.rounds = 20, .cuts = 5};
    struct counts sum = {0};
    struct counts *shared;
    time_t began = time(NULL);
    bool good;

    sim_fix_addresses(argv);
    parse(&job, argc, argv);
    printf("seed %llu\n", (unsigned long long)job.seed);
    shared = mmap(NULL, JOBS_MAX * sizeof *shared, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return 1;
    good = run_all(&job, shared);
    for (uint64_t i = 0; i < job.jobs; i++) {
        sum.runs += shared[i].runs;
        sum.points += shared[i].points;
        sum.images += shared[i].images;
        sum.again += shared[i].again;
        sum.reopens += shared[i].reopens;
        sum.verified += shared[i].verified;
    }
    printf("%llu runs, %llu crash points, %llu disks opened after a crash, %llu second "
           "crashes, %llu reopened after a close, %llu verified, in %lld s\n",
           (unsigned long long)sum.runs, (unsigned long long)sum.points,
           (unsigned long long)sum.images, (unsigned long long)sum.again,
           (unsigned long long)sum.reopens, (unsigned long long)sum.verified,
           (long long)(time(NULL) - began));
    if (good)
        printf("ok - everything acknowledged, a prefix, nothing torn\n");
    return good ? 0 : 1;
}

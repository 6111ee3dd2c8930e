/* harness.c - a libFuzzer program that is also a test.
 *
 *   fuzz_NAME                          in `make check`: seeds, then fuzz_setup.runs runs
 *   fuzz_NAME -runs=0 FILE...          some inputs
 *   fuzz_NAME -max_total_time=n DIR    as long as wanted (test/fuzz/run.sh)
 *
 * LLVMFuzzerInitialize() may change the arguments before libFuzzer reads them: without
 * any it puts in those of the check. Runs are counted, not timed, from the seed of SEED=
 * (36), so the same program does the same runs; nothing is written but an input that
 * fails, to build/results.
 *
 * Limits are libFuzzer's (an input may take 60 s, the process 2 GiB, one malloc() 512
 * MiB) and the program's own: every demand of the engine is held against what
 * fuzz_setup allows for an input of this size, so memory out of proportion is a failure
 * whatever the machine has. */
#include "test/fuzz/harness.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "test/fuzz/mem_watch.h"
#include "test/sim/sim_sched.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { ARGS_MAX = 12, TEXT_MAX = 200, LIST_MAX = 1 << 17 };

static uint64_t limit_bytes; /* 0 = not watched */
static uint64_t used_before;

void fuzz_failed(const char *condition, const char *file, int line)
{
    (void)fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
    abort();
}

static void watch(void)
{
    if (limit_bytes == 0)
        return;
    if (mem_watch_largest <= limit_bytes && mem_watch_peak - used_before <= limit_bytes)
        return;
    (void)fprintf(stderr, "%llu bytes in use, %llu in one piece; allowed are %llu\n",
                  (unsigned long long)(mem_watch_peak - used_before),
                  (unsigned long long)mem_watch_largest, (unsigned long long)limit_bytes);
    fuzz_failed("memory is in proportion", __FILE__, __LINE__);
}

void fuzz_begin(size_t input_bytes)
{
    limit_bytes = 0;
    used_before = adb_mem_used_total();
    mem_watch_reset();
    limit_bytes = fuzz_setup.mem_base + input_bytes * fuzz_setup.mem_factor;
}

void fuzz_end(void)
{
    limit_bytes = 0;
    FUZZ_CHECK(adb_mem_used_total() == used_before);
}

/* ---- Arguments ---------------------------------------------------------------- */

static char texts[ARGS_MAX][TEXT_MAX];
static char *args[ARGS_MAX + 2];
static char seeds[LIST_MAX];

static void add(int *count, const char *name, const char *value)
{
    FUZZ_CHECK(*count < ARGS_MAX);
    (void)snprintf(texts[*count], TEXT_MAX, "-%s=%s", name, value);
    args[*count] = texts[*count];
    (*count)++;
}

static void add_number(int *count, const char *name, unsigned value)
{
    char text[16];

    (void)snprintf(text, sizeof text, "%u", value);
    add(count, name, text);
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* "-seed_inputs=" and the seeds' names, in their order; false when there are none.
 * What is found stays in memory: the folder of the seeds is not to grow. */
static bool list_seeds(void)
{
    char folder[TEXT_MAX];
    struct dirent **names;
    int count;
    size_t n;

    (void)snprintf(folder, sizeof folder, "test/fuzz/seeds/%s", fuzz_setup.name);
    n = (size_t)snprintf(seeds, sizeof seeds, "-seed_inputs=");
    count = scandir(folder, &names, is_visible, alphasort);
    if (count <= 0)
        return false;
    for (int i = 0; i < count; i++) {
        n += (size_t)snprintf(seeds + n, sizeof seeds - n, "%s%s/%s", i > 0 ? "," : "",
                              folder, names[i]->d_name);
        FUZZ_CHECK(n < sizeof seeds);
        free(names[i]);
    }
    free(names);
    (void)printf("%d seeds from %s\n", count, folder);
    return true;
}

static void check_args(int *argc, char ***argv)
{
    const char *seed = getenv("SEED") != NULL ? getenv("SEED") : "36";
    char prefix[TEXT_MAX];
    int count = 1;

    args[0] = (*argv)[0];
    (void)mkdir("build/results", 0777);
    (void)snprintf(prefix, sizeof prefix, "build/results/%s-", fuzz_setup.name);
    (void)printf("seed %s\n", seed);
    add(&count, "seed", seed);
    add(&count, "artifact_prefix", prefix);
    add(&count, "print_final_stats", "1");
    add_number(&count, "runs", fuzz_setup.runs);
    add_number(&count, "max_len", fuzz_setup.len_max);
    add_number(&count, "timeout", 60);
    add_number(&count, "rss_limit_mb", 2048);
    add_number(&count, "malloc_limit_mb", 512);
    if (list_seeds())
        args[count++] = seeds;
    (void)fflush(stdout);
    *argc = count;
    *argv = args;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    sim_fix_addresses(*argv);
    (void)setenv("SIM_ABORT", "1", 1);
    mem_watch_notify = watch;
    if (*argc == 1)
        check_args(argc, argv);
    return 0;
}

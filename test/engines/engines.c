/* engines.c - armdb, LMDB and RocksDB, called directly, side by side, in one run.
 *
 *   engines [--rows=N] [--value=B] [--ms=N] [--folder=DIR] [--json=FILE]
 *           [--only=ENGINE] [--phase=PART OF A TITLE] [--cpu]
 *
 * Each engine lives in a child process of its own with the same rows in a folder of its
 * own. A phase runs in three rounds that alternate between the engines, `ms` milliseconds
 * each (default 500), and its median counts: machines are noisy, so only figures of one
 * run are compared. With --cpu a second is one that the engine's process was given, all
 * its threads together: on a machine with other work this says what an operation costs,
 * though not how long it waits. Engines get the same cache (LMDB uses the kernel's), the
 * same durability and their advised settings (engine_*.c). Every answer is checked; in
 * the end all rows are read, and the counters' sum must be the number of changes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "test/engines/phases.h"

enum { ENGINES = 3, ROUNDS_MAX = 3, PHASES_MAX = 40, CHECK = -1, STOP = -2 };

static const struct engine *const engines[ENGINES] = {&engine_armdb, &engine_lmdb,
                                                      &engine_rocksdb};

struct run {
    uint64_t rows;
    size_t value_len;
    uint64_t round_ns;
    bool cpu;
    char folder[900];
    const char *only;
    const char *phase; /* after the load, only those whose titles have this; NULL: all */
    const char *json;
};

/* What a child answers. */
struct answer {
    uint64_t done;
    uint64_t ns;
    uint64_t memory; /* resident, not of files, in bytes */
};

struct child {
    pid_t pid;
    int to;
    int from;
    char folder[1000];
};

void engine_fail(const char *engine, const char *what, const char *why)
{
    fprintf(stderr, "engines: %s: %s: %s\n", engine, what, why);
    _exit(1);
}

/* ---- A child --------------------------------------------------------------------------
 */

struct keyed {
    char key[ENGINE_KEY_LEN];
    uint32_t row;
};

static int compare_keyed(const void *a, const void *b)
{
    return memcmp(a, b, ENGINE_KEY_LEN);
}

static void make_world(struct world *w, const struct run *run)
{
    struct keyed *keyed = malloc(run->rows * sizeof *keyed);

    w->rows = run->rows;
    w->value_len = run->value_len;
    w->random = 36;
    w->order = malloc(w->rows * sizeof *w->order);
    w->key_sums = calloc(w->rows + 1, sizeof *w->key_sums);
    w->value_sums = calloc(w->rows + 1, sizeof *w->value_sums);
    for (uint64_t i = 0; i < w->rows; i++) {
        world_key(i, keyed[i].key);
        keyed[i].row = (uint32_t)i;
    }
    qsort(keyed, w->rows, sizeof *keyed, compare_keyed);
    for (uint64_t i = 0; i < w->rows; i++) {
        uint64_t number;

        memcpy(&number, keyed[i].key, sizeof number);
        w->order[i] = keyed[i].row;
        w->key_sums[i + 1] = w->key_sums[i] + number;
        w->value_sums[i + 1] = w->value_sums[i] + keyed[i].row;
    }
    free(keyed);
}

static uint64_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/status", "r");
    char line[200];
    unsigned long kib = 0;

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "RssAnon: %lu", &kib) == 1)
            break;
    if (file != NULL)
        (void)fclose(file);
    return (uint64_t)kib * 1024;
}

/* Nanoseconds that this process was given. */
static uint64_t cpu_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void run_phase(struct world *w, const struct phase *phase, bool *synced,
                      const struct run *run, struct answer *answer)
{
    uint64_t begun;
    uint64_t cpu;

    if (*synced != phase->synced) {
        world_close(w);
        world_open(w, phase->synced);
        *synced = phase->synced;
    }
    phase_prepare(w, phase);
    begun = world_now();
    cpu = cpu_now();
    answer->done = phase->run(w, begun + run->round_ns);
    answer->ns = run->cpu ? cpu_now() - cpu : world_now() - begun;
    phase_finish(w, phase);
}

static void serve(const struct engine *engine, const struct run *run,
                  const struct child *me, int from, int to)
{
    struct world w = {.engine = engine, .folder = me->folder};
    bool synced = true;
    uint64_t before;
    int command;

    make_world(&w, run);
    before = resident_bytes();
    world_open(&w, synced);
    while (read(from, &command, sizeof command) == sizeof command && command != STOP) {
        struct answer answer = {0, 0, 0};

        if (command == CHECK)
            world_check(&w);
        else
            run_phase(&w, &phases[command], &synced, run, &answer);
        answer.memory = resident_bytes() - before;
        if (write(to, &answer, sizeof answer) != sizeof answer)
            break;
    }
    world_close(&w);
    _exit(0);
}

/* ---- The parent
 * ------------------------------------------------------------------------ */

static void start_child(struct child *child, const struct engine *engine,
                        const struct run *run)
{
    int down[2];
    int up[2];

    (void)snprintf(child->folder, sizeof child->folder, "%s/%s", run->folder,
                   engine->name);
    if (mkdir(child->folder, 0700) != 0 || pipe(down) != 0 || pipe(up) != 0)
        engine_fail(engine->name, child->folder, "cannot be made");
    (void)fflush(NULL);
    child->pid = fork();
    if (child->pid == 0) {
        (void)close(down[1]);
        (void)close(up[0]);
        serve(engine, run, child, down[0], up[1]);
    }
    (void)close(down[0]);
    (void)close(up[1]);
    child->to = down[1];
    child->from = up[0];
}

static struct answer ask(const struct child *child, int command)
{
    struct answer answer;

    if (write(child->to, &command, sizeof command) != sizeof command ||
        read(child->from, &answer, sizeof answer) != sizeof answer)
        exit(1); /* the child has said why */
    return answer;
}

static int compare_rates(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static void print_rate(double rate)
{
    if (rate >= 1e6)
        printf(" %9.2fM", rate / 1e6);
    else if (rate >= 1e4)
        printf(" %9.0fk", rate / 1e3);
    else
        printf(" %10.*f", rate < 100 ? 2 : 0, rate);
}

static uint64_t bytes_below(const char *folder)
{
    char command[1100];
    unsigned long kib = 0;
    FILE *pipe_;

    (void)snprintf(command, sizeof command, "du -sk '%s'", folder);
    pipe_ = popen(command, "r");
    if (pipe_ == NULL || fscanf(pipe_, "%lu", &kib) != 1)
        kib = 0;
    if (pipe_ != NULL)
        (void)pclose(pipe_);
    return (uint64_t)kib * 1024;
}

static bool takes_part(const struct run *run, int e)
{
    return run->only == NULL || strcmp(run->only, engines[e]->name) == 0;
}

static void measure(const struct run *run, struct child *children, int p,
                    double rates[ENGINES])
{
    const struct phase *phase = &phases[p];
    double rounds[ENGINES][ROUNDS_MAX];

    for (int r = 0; r < phase->rounds; r++)
        for (int e = 0; e < ENGINES; e++) {
            struct answer answer;

            if (!takes_part(run, e))
                continue;
            answer = ask(&children[e], p);
            rounds[e][r] = (double)answer.done * 1e9 / (double)answer.ns;
        }
    printf("%-38s", phase->title);
    for (int e = 0; e < ENGINES; e++) {
        rates[e] = 0;
        if (!takes_part(run, e))
            continue;
        qsort(rounds[e], (size_t)phase->rounds, sizeof(double), compare_rates);
        rates[e] = rounds[e][phase->rounds / 2];
        print_rate(rates[e]);
    }
    for (int e = 1; e < ENGINES; e++)
        if (run->only == NULL)
            printf(" %7.2f", rates[0] / rates[e]);
    printf("  %s\n", phase->unit);
    (void)fflush(stdout);
}

static void write_json(const struct run *run, double rates[][ENGINES])
{
    FILE *file = run->json == NULL ? NULL : fopen(run->json, "w");

    if (file == NULL)
        return;
    fprintf(file, "{\"rows\": %llu, \"value\": %zu, \"phases\": {",
            (unsigned long long)run->rows, run->value_len);
    for (int p = 0; p < phase_count; p++) {
        fprintf(file, "%s\n  \"%s\": {", p == 0 ? "" : ",", phases[p].title);
        for (int e = 0; e < ENGINES; e++)
            fprintf(file, "%s\"%s\": %.2f", e == 0 ? "" : ", ", engines[e]->name,
                    rates[p][e]);
        fprintf(file, "}");
    }
    fprintf(file, "\n}}\n");
    (void)fclose(file);
}

static void print_sizes(const struct run *run, const struct child *children,
                        struct answer *last)
{
    printf("%-38s", "bytes on disk after the load");
    for (int e = 0; e < ENGINES; e++)
        if (takes_part(run, e))
            printf(" %9.0fM", (double)bytes_below(children[e].folder) / 1e6);
    printf("\n%-38s", "memory of its own after the load");
    for (int e = 0; e < ENGINES; e++)
        if (takes_part(run, e))
            printf(" %9.0fM", (double)last[e].memory / 1e6);
    printf("\n");
}

static int run_all(const struct run *run)
{
    static double rates[PHASES_MAX][ENGINES];
    struct child children[ENGINES];
    struct answer last[ENGINES] = {{0, 0, 0}};
    int failed = 0;

    for (int e = 0; e < ENGINES; e++)
        if (takes_part(run, e))
            start_child(&children[e], engines[e], run);
    printf("%llu rows of %d + %zu bytes, %s\n%-38s", (unsigned long long)run->rows,
           ENGINE_KEY_LEN, run->value_len, run->cpu ? "per CPU second" : "per second",
           "");
    for (int e = 0; e < ENGINES; e++)
        if (takes_part(run, e))
            printf(" %10s", engines[e]->name);
    printf("  armdb by  each other\n");
    for (int p = 0; p < phase_count; p++) {
        if (p > 0 && run->phase != NULL && strstr(phases[p].title, run->phase) == NULL)
            continue;
        measure(run, children, p, rates[p]);
        if (p == 0)
            for (int e = 0; e < ENGINES; e++)
                if (takes_part(run, e))
                    last[e] = ask(&children[e], CHECK);
        if (p == 0)
            print_sizes(run, children, last);
    }
    for (int e = 0; e < ENGINES; e++) {
        int status = 0;
        int stop = STOP;

        if (!takes_part(run, e))
            continue;
        (void)ask(&children[e], CHECK);
        if (write(children[e].to, &stop, sizeof stop) != sizeof stop)
            failed = 1;
        if (waitpid(children[e].pid, &status, 0) < 0 || status != 0)
            failed = 1;
    }
    write_json(run, rates);
    return failed;
}

int main(int argc, char **argv)
{
    struct run run = {.rows = 1000000, .value_len = 100, .round_ns = 500000000};
    const char *tmp = getenv("TMPDIR");
    char command[1000];
    int failed;

    for (int i = 1; i < argc; i++) {
        unsigned long long n = 0;

        if (sscanf(argv[i], "--rows=%llu", &n) == 1)
            run.rows = n;
        else if (sscanf(argv[i], "--value=%llu", &n) == 1)
            run.value_len = (size_t)n;
        else if (sscanf(argv[i], "--ms=%llu", &n) == 1)
            run.round_ns = n * 1000000;
        else if (strcmp(argv[i], "--cpu") == 0)
            run.cpu = true;
        else if (strncmp(argv[i], "--folder=", 9) == 0)
            tmp = argv[i] + 9;
        else if (strncmp(argv[i], "--only=", 7) == 0)
            run.only = argv[i] + 7;
        else if (strncmp(argv[i], "--phase=", 8) == 0)
            run.phase = argv[i] + 8;
        else if (strncmp(argv[i], "--json=", 7) == 0)
            run.json = argv[i] + 7;
        else
            n = UINT64_MAX;
        if (n == UINT64_MAX || run.rows < 1000 || run.rows > 100000000 ||
            run.value_len < 16 || run.value_len > 4000) {
            fprintf(stderr, "engines: %s: see test/engines/engines.c\n", argv[i]);
            return 1;
        }
    }
    (void)snprintf(run.folder, sizeof run.folder, "%s/armdb_engines_XXXXXX",
                   tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(run.folder) == NULL)
        engine_fail("folder", run.folder, "cannot be made");
    failed = run_all(&run);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", run.folder);
    if (system(command) != 0)
        failed = 1;
    return failed;
}

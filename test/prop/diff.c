/* diff.c - the differential test: armdb against native WITHOUT ROWID tables.
 *
 *   diff [options] [extension]
 *
 * Random schemas, random statements, everything compared (diff_run.c says what). The
 * extension comes as an argument or in ARMDB_EXTENSION or ARMDB_VTAB. Without options
 * it runs in four stages: native against native, where no difference may be found and
 * each planted one (diff_plant.c) must be; then armdb in autocommit, with transactions,
 * and with two connections.
 *
 *   --seed=N           replay (also: environment SEED); default: from the clock
 *   --schemas=N        how many schemas (default 320 in all)
 *   --statements=N     how many statements (default 128000 in all)
 *   --first=N          number of the first schema (to replay one of many)
 *   --transactions=0|1 one stage: with transactions, savepoints, open cursors, or not
 *   --connections=1|2  one stage: two connections taking turns, WAL
 *   --huge=0|1         values of up to 16 MiB now and then (default 1)
 *   --key-collations=0 no PRIMARY KEY(k COLLATE c)
 *   --keep-going=N     report up to N differences in a stage (default 1)
 *   --shrink=N         seconds for making a failing list smaller (default 20)
 *   --plant=N          one stage of native tables with planted difference N: shows how
 *                      a difference is reported
 *   --self-test        the first stage alone; needs no extension
 *
 * Exit code 0: no difference; 1: differences; 2: could not run. */
#define _GNU_SOURCE
#include "test/prop/diff.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct job {
    struct settings settings;
    uint64_t seed;
    int schemas;
    int first;
    int statements;
    int keep_going;
    int shrink_seconds;
    bool self_test;
    bool one_stage;
    bool quiet;
};
struct totals {
    int64_t statements;
    int64_t errors;
    int64_t rows;
    int refused;
    int passed;
    int failed;
};

static uint64_t schema_seed(uint64_t seed, int schema)
{
    struct rng rng = { seed ^ ((uint64_t)(unsigned)schema << 32) };

    return rng_next(&rng);
}

static void report_failure(const struct job *job, int number, const struct plan *plan,
                           const struct verdict *verdict)
{
    const struct settings *s = &job->settings;

    printf("DIFFERENCE in schema %d at step %d\n%s\n%s", number, verdict->step,
           plan->schema.create[1], verdict->text);
    printf("replay: --seed=%llu --first=%d --schemas=1 --statements=%d "
           "--transactions=%d --connections=%d --huge=%d --key-collations=%d\n",
           (unsigned long long)job->seed, number, s->steps, s->transactions,
           s->connections, s->huge, s->key_collations);
    if (job->shrink_seconds > 0)
        plan_shrink(plan, s, job->shrink_seconds, verdict);
    fflush(stdout);
}

static void run_job(struct job *job, struct totals *totals)
{
    int i;

    memset(totals, 0, sizeof *totals);
    job->settings.steps = job->statements / job->schemas;
    for (i = job->first; i < job->first + job->schemas; i++) {
        struct arena arena = { 0 };
        struct verdict verdict;
        struct plan plan;

        plan_random(&plan, &job->settings, schema_seed(job->seed, i), &arena);
        plan_run_child(&plan, &job->settings, NULL, &verdict);
        totals->statements += verdict.statements;
        totals->errors += verdict.errors;
        totals->rows += verdict.rows;
        totals->refused += verdict.refused;
        if (verdict.differs) {
            totals->failed++;
            if (!job->quiet)
                report_failure(job, i, &plan, &verdict);
        } else {
            totals->passed++;
        }
        arena_free(&arena);
        if (totals->failed >= job->keep_going)
            break;
    }
}

/* Native on both sides: silence without a plant, a difference with each. */
static bool self_test(const struct job *job)
{
    struct job with = *job;
    struct totals totals;
    int plant, again, missed = 0;

    with.settings.extension = NULL;
    with.settings.transactions = true;
    with.keep_going = 1;
    for (plant = 1; plant <= 2; plant++) {
        with.settings.connections = plant;
        run_job(&with, &totals);
        printf("%s - native against native, %d connections: %lld statements (%lld failed "
               "alike), %lld rows, %d differences\n",
               totals.failed > 0 ? "not ok" : "ok", plant, (long long)totals.statements,
               (long long)totals.errors, (long long)totals.rows, totals.failed);
        if (totals.failed > 0)
            return false;
    }
    with.quiet = true;
    for (plant = 0; plant < plant_count(); plant++) {
        with.settings.plant = plant;
        with.settings.connections = plant_needs_connections(plant) ? 2 : 1;
        with.seed = job->seed;
        run_job(&with, &totals);
        /* Some mistakes show only where several rare things meet. */
        for (again = 0; again < 8 && totals.failed == 0; again++) {
            with.seed += 1000003;
            run_job(&with, &totals);
        }
        if (job->self_test || totals.failed == 0)
            printf("  %s: %s after %lld statements\n", plant_name(plant),
                   totals.failed > 0 ? "found" : "MISSED", (long long)totals.statements);
        missed += totals.failed == 0;
    }
    printf("%s - of %d planted differences %d are found\n", missed > 0 ? "not ok" : "ok",
           plant_count(), plant_count() - missed);
    fflush(stdout);
    return missed == 0;
}

static bool stage(const struct job *job, bool transactions, int connections,
                  int percent)
{
    struct job with = *job;
    struct totals totals;

    with.settings.transactions = transactions;
    with.settings.connections = connections;
    with.schemas = job->schemas * percent / 100;
    with.statements = job->statements / 100 * percent;
    if (with.schemas < 1)
        with.schemas = 1;
    run_job(&with, &totals);
    printf("%s - %s%s: %lld statements (%lld failed alike on both sides), %lld rows in "
           "%d schemas (%d ended as armdb refused something), %d differences\n",
           totals.failed > 0 ? "not ok" : "ok",
           connections > 1 ? "two connections, " : "",
           transactions ? "with transactions" : "autocommit",
           (long long)totals.statements, (long long)totals.errors, (long long)totals.rows,
           totals.passed + totals.failed, totals.refused, totals.failed);
    fflush(stdout);
    return totals.failed == 0;
}

static bool number_option(const char *arg, const char *name, int *value)
{
    size_t len = strlen(name);

    if (strncmp(arg, name, len) != 0 || arg[len] != '=')
        return false;
    *value = atoi(arg + len + 1);
    return true;
}

static bool read_option(struct job *job, const char *arg)
{
    int value;

    if (strncmp(arg, "--seed=", 7) == 0)
        job->seed = strtoull(arg + 7, NULL, 0);
    else if (number_option(arg, "--schemas", &value))
        job->schemas = value > 0 ? value : 1;
    else if (number_option(arg, "--statements", &value))
        job->statements = value;
    else if (number_option(arg, "--first", &value))
        job->first = value;
    else if (number_option(arg, "--plant", &value) && value < plant_count()) {
        job->settings.plant = value;
        job->one_stage = true;
    } else if (number_option(arg, "--transactions", &value)) {
        job->settings.transactions = value != 0;
        job->one_stage = true;
    } else if (number_option(arg, "--connections", &value)) {
        job->settings.connections = value > 1 ? 2 : 1;
        job->one_stage = true;
    } else if (number_option(arg, "--huge", &value))
        job->settings.huge = value != 0;
    else if (number_option(arg, "--key-collations", &value))
        job->settings.key_collations = value != 0;
    else if (number_option(arg, "--keep-going", &value))
        job->keep_going = value > 0 ? value : 1;
    else if (number_option(arg, "--shrink", &value))
        job->shrink_seconds = value;
    else if (strcmp(arg, "--self-test") == 0)
        job->self_test = true;
    else if (arg[0] != '-')
        job->settings.extension = arg;
    else
        return false;
    return true;
}

static uint64_t first_seed(void)
{
    const char *given = getenv("SEED");

    if (given != NULL && given[0] != '\0')
        return strtoull(given, NULL, 0);
    return ((uint64_t)time(NULL) ^ ((uint64_t)getpid() << 20)) & 0xffffffffu;
}

static void remove_folder(const char *folder)
{
    char command[700];

    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) != 0)
        fprintf(stderr, "diff: cannot remove %s\n", folder);
}

static bool run_stages(const struct job *job)
{
    struct job first = *job;
    bool ok;

    if (job->self_test)
        return self_test(job);
    if (job->one_stage)
        return stage(job, job->settings.transactions, job->settings.connections, 100);
    first.statements = 30000;
    first.schemas = 100;
    ok = self_test(&first);
    ok &= stage(job, false, 1, 40);
    ok &= stage(job, true, 1, 40);
    ok &= stage(job, true, 2, 20);
    return ok;
}

int main(int argc, char **argv)
{
    const char *base = getenv("TMPDIR");
    char folder[500];
    struct job job = { .settings = { .plant = -1, .transactions = true,
                                     .connections = 1, .huge = true,
                                     .key_collations = true },
                       .seed = first_seed(), .schemas = 320, .statements = 128000,
                       .keep_going = 1, .shrink_seconds = 20 };
    bool ok;
    int i;

    job.settings.extension = getenv("ARMDB_EXTENSION");
    if (job.settings.extension == NULL)
        job.settings.extension = getenv("ARMDB_VTAB");
    for (i = 1; i < argc; i++) {
        if (!read_option(&job, argv[i])) {
            fprintf(stderr, "diff: unknown option %s\n", argv[i]);
            return 2;
        }
    }
    if (job.settings.plant >= 0)
        job.settings.extension = NULL;
    else if (job.settings.extension == NULL && !job.self_test) {
        fprintf(stderr, "diff: name the extension, or say --self-test\n");
        return 2;
    }
    snprintf(folder, sizeof folder, "%s/armdb-diff-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(folder) == NULL) {
        perror(folder);
        return 2;
    }
    job.settings.folder = folder;
    printf("diff: seed %llu, SQLite %s\n", (unsigned long long)job.seed,
           sqlite3_libversion());
    ok = run_stages(&job);
    remove_folder(folder);
    return ok ? 0 : 1;
}

/* bench.c - armdb and a native table, side by side, in one run.
 *
 *   bench [options] [extension]      (or ARMDB_EXTENSION, ARMDB_VTAB)
 *
 *   --rows=N      rows (default 1,000,000; environment N)
 *   --value=B     bytes of a value, at least 16 (default 100; environment VALUE)
 *   --folder=DIR  where the databases are made (default: a new one below TMPDIR)
 *   --place=P     temp: TEMP table on a path; main: in the database file; memory
 *   --phases=a,b  some of: load point miss in range prefix scan commit reopen
 *                 overwrite delete sorted large (load is always done)
 *   --json=FILE   where the figures go as JSON (default: bench.json in the folder)
 *   --native      native tables on both sides: how far two equal sides differ
 *
 * Both sides go through SQL with prepared statements. The native table is WITHOUT
 * ROWID in a WAL database with 256 MiB of cache, 1 GiB of mmap and synchronous=FULL.
 * A timed phase runs in three rounds that alternate between the sides, and its median
 * counts: machines are noisy, so only figures of one run are compared. Every answer
 * is checked; a wrong one ends the run with exit code 1. */
#define _GNU_SOURCE
#include "test/bench/bench.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct result {
    const struct bench_phase *phase;
    double rate[2];
};
struct results {
    struct result list[40];
    int count;
    double disk[2];   /* bytes on disk after the load */
    double memory[2]; /* resident bytes a key, by growth of the process */
    double stat_memory; /* bytes a key by armdb_stat, 0 = not there */
};

/* ---- Measuring ------------------------------------------------------------- */

static double median(double *list, int count)
{
    int i, j;

    for (i = 1; i < count; i++)
        for (j = i; j > 0 && list[j] < list[j - 1]; j--) {
            double swap = list[j];

            list[j] = list[j - 1];
            list[j - 1] = swap;
        }
    return list[count / 2];
}

static double measure_once(struct bench *b, const struct bench_phase *phase,
                           struct bench_side *side)
{
    uint64_t begin, end, done;

    if (phase->rounds == 0) { /* the opening itself is measured */
        bench_close(b, side->db);
        sync();
    }
    b->untimed_ns = 0;
    begin = bench_now();
    done = phase->run(b, side, begin + b->budget_ns);
    end = bench_now();
    return (double)done * 1e9 / (double)(end - begin - b->untimed_ns);
}

static void measure(struct bench *b, const struct bench_phase *phase,
                    struct results *results)
{
    struct result *result = &results->list[results->count++];
    int rounds = phase->rounds == 1 ? 1 : 3;
    double rate[2][3];
    int i, round;

    result->phase = phase;
    for (round = 0; round < rounds && !b->failed; round++)
        for (i = 0; i < 2; i++)
            rate[i][round] = measure_once(b, phase, &b->side[i]);
    if (b->failed)
        return;
    for (i = 0; i < 2; i++)
        result->rate[i] = median(rate[i], rounds);
}

static double folder_bytes(const char *folder)
{
    char command[800];
    double bytes = 0;
    FILE *pipe;

    snprintf(command, sizeof command, "du -s -B1 '%s'", folder);
    pipe = popen(command, "r");
    if (pipe == NULL || fscanf(pipe, "%lf", &bytes) != 1)
        bytes = 0;
    if (pipe != NULL)
        pclose(pipe);
    return bytes;
}

static double resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    unsigned long pages = 0;

    if (file == NULL || fscanf(file, "%*u %lu", &pages) != 1)
        pages = 0;
    if (file != NULL)
        fclose(file);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

/* armdb_stat's own figures; a build without it leaves 0. */
static double stat_number(struct bench *b, const char *like)
{
    sqlite3_stmt *stmt = NULL;
    double value = 0;
    char *sql = sqlite3_mprintf("SELECT value FROM armdb_stat('t') WHERE name LIKE '%s'",
                                like);

    if (sqlite3_prepare_v2(b->side[1].db, sql, -1, &stmt, NULL) == SQLITE_OK
        && sqlite3_step(stmt) == SQLITE_ROW)
        value = sqlite3_column_double(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_free(sql);
    return value;
}

/* The first phase alone tells disk and memory: sides are loaded one after the other. */
static void measure_load(struct bench *b, struct results *results)
{
    struct result *result = &results->list[results->count++];
    int i;

    result->phase = &bench_phases[0];
    for (i = 0; i < 2 && !b->failed; i++) {
        double before = resident_bytes();

        b->side[i].db = bench_open(b, &b->side[i], "t", "full");
        result->rate[i] = measure_once(b, &bench_phases[0], &b->side[i]);
        results->memory[i] = (resident_bytes() - before) / (double)b->rows;
        if (!b->side[i].armdb)
            bench_exec(b, b->side[i].db, "PRAGMA wal_checkpoint(TRUNCATE)");
        results->disk[i] = folder_bytes(b->side[i].folder);
    }
    results->stat_memory = stat_number(b, "memory_per_key");
}

/* ---- Showing --------------------------------------------------------------- */

enum { NUMBER_TEXT = 330 }; /* room for the digits of any double */

static void number_text(double number, char text[NUMBER_TEXT])
{
    if (number >= 1e6)
        snprintf(text, NUMBER_TEXT, "%.2fM", number / 1e6);
    else if (number >= 1e4)
        snprintf(text, NUMBER_TEXT, "%.0fk", number / 1e3);
    else if (number >= 1e3)
        snprintf(text, NUMBER_TEXT, "%.1fk", number / 1e3);
    else
        snprintf(text, NUMBER_TEXT, number >= 100 ? "%.0f" : "%.2f", number);
}

static void print_line(const struct result *result)
{
    char native[NUMBER_TEXT], armdb[NUMBER_TEXT], goal[NUMBER_TEXT] = "";

    number_text(result->rate[0], native);
    number_text(result->rate[1], armdb);
    if (result->phase->goal > 0)
        number_text(result->phase->goal, goal);
    printf("%-42s %9s %9s %8.2f %8s  %s\n", result->phase->title, native, armdb,
           result->rate[1] / result->rate[0], goal, result->phase->unit);
    fflush(stdout);
}

static void print_sizes(const struct bench *b, const struct results *results)
{
    double data = (double)b->rows * (double)(b->value_len + BENCH_KEY_LEN);

    printf("\n%.0f MB of keys and values; bytes on disk after the load: native %.0f MB, "
           "armdb %.0f MB\n",
           data / 1e6, results->disk[0] / 1e6, results->disk[1] / 1e6);
    printf("growth of resident memory, caches included, bytes a key: native %.0f, armdb "
           "%.0f\n",
           results->memory[0], results->memory[1]);
    if (results->stat_memory > 0)
        printf("armdb_stat: %.1f bytes of index a key (goal: 64 beyond the key)\n",
               results->stat_memory);
}

static void write_json(const struct bench *b, const struct results *results,
                       const char *name)
{
    static const char *const places[] = { "temp", "main", "memory" };
    FILE *file = fopen(name, "w");
    int i;

    if (file == NULL) {
        perror(name);
        return;
    }
    fprintf(file, "{\n  \"sqlite\": \"%s\", \"rows\": %llu, \"value_bytes\": %llu, "
                  "\"place\": \"%s\",\n",
            sqlite3_libversion(), (unsigned long long)b->rows,
            (unsigned long long)b->value_len, places[b->place]);
    for (i = 0; i < 2; i++)
        fprintf(file,
                "  \"%s\": {\"disk_bytes\": %.0f, \"resident_bytes_per_key\": %.1f},\n",
                b->side[i].name, results->disk[i], results->memory[i]);
    fprintf(file, "  \"index_bytes_per_key\": %.1f,\n  \"results\": [\n",
            results->stat_memory);
    for (i = 0; i < results->count; i++) {
        const struct result *r = &results->list[i];

        fprintf(file,
                "    {\"operation\": \"%s\", \"unit\": \"%s\", \"native\": %.2f, "
                "\"armdb\": %.2f, \"ratio\": %.3f, \"goal\": %.2f}%s\n",
                r->phase->title, r->phase->unit, r->rate[0], r->rate[1],
                r->rate[1] / r->rate[0], r->phase->goal,
                i + 1 < results->count ? "," : "");
    }
    fprintf(file, "  ]\n}\n");
    fclose(file);
    printf("figures as JSON: %s\n", name);
}

/* ---- Arguments ------------------------------------------------------------- */

static int compare_keys(const void *a, const void *b)
{
    uint64_t left = bench_mix(*(const uint32_t *)a);
    uint64_t right = bench_mix(*(const uint32_t *)b);

    return left < right ? -1 : left > right;
}

static bool wanted(const struct bench *b, const struct bench_phase *phase)
{
    size_t len = strlen(phase->name);
    const char *at;

    if (b->place == BENCH_MEMORY && phase->needs_disk)
        return false;
    if (b->phases == NULL)
        return true;
    for (at = b->phases; (at = strstr(at, phase->name)) != NULL; at += len)
        if ((at == b->phases || at[-1] == ',') && (at[len] == ',' || at[len] == '\0'))
            return true;
    return false;
}

static int run(struct bench *b, const char *json)
{
    struct results results = { .count = 0 };
    int i;

    printf("%llu rows, keys of 16 bytes, values of %llu; SQLite %s\n\n%-42s %9s %9s %8s "
           "%8s\n",
           (unsigned long long)b->rows, (unsigned long long)b->value_len,
           sqlite3_libversion(), "operation", "native", "armdb", "ratio", "goal");
    measure_load(b, &results);
    if (!b->failed)
        print_line(&results.list[0]);
    for (i = 1; i < bench_phase_count && !b->failed; i++) {
        if (!wanted(b, &bench_phases[i]))
            continue;
        measure(b, &bench_phases[i], &results);
        if (!b->failed)
            print_line(&results.list[results.count - 1]);
    }
    if (b->failed)
        return 1;
    for (i = 0; i < 2; i++)
        bench_close(b, b->side[i].db);
    print_sizes(b, &results);
    write_json(b, &results, json);
    return b->failed;
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *value = getenv(name);

    return value != NULL && value[0] != '\0' ? strtoull(value, NULL, 0) : otherwise;
}

static bool read_argument(struct bench *b, const char *arg, const char **folder,
                          const char **json)
{
    if (strncmp(arg, "--rows=", 7) == 0)
        b->rows = strtoull(arg + 7, NULL, 0);
    else if (strncmp(arg, "--value=", 8) == 0)
        b->value_len = strtoull(arg + 8, NULL, 0);
    else if (strncmp(arg, "--folder=", 9) == 0)
        *folder = arg + 9;
    else if (strncmp(arg, "--json=", 7) == 0)
        *json = arg + 7;
    else if (strncmp(arg, "--phases=", 9) == 0)
        b->phases = arg + 9;
    else if (strncmp(arg, "--budget-ms=", 12) == 0)
        b->budget_ns = strtoull(arg + 12, NULL, 0) * 1000000;
    else if (strcmp(arg, "--place=temp") == 0)
        b->place = BENCH_TEMP;
    else if (strcmp(arg, "--place=main") == 0)
        b->place = BENCH_MAIN;
    else if (strcmp(arg, "--place=memory") == 0)
        b->place = BENCH_MEMORY;
    else if (strcmp(arg, "--native") == 0)
        b->extension = NULL;
    else if (arg[0] != '-')
        b->extension = arg;
    else
        return false;
    return true;
}

static bool make_folders(struct bench *b, const char *folder)
{
    int i;

    for (i = 0; i < 2; i++) {
        b->side[i].armdb = i == 1;
        b->side[i].name = i == 0 ? "native" : "armdb";
        snprintf(b->side[i].folder, sizeof b->side[i].folder, "%s/%s", folder,
                 b->side[i].name);
        if (mkdir(b->side[i].folder, 0700) != 0) {
            perror(b->side[i].folder);
            return false;
        }
    }
    return true;
}

static void remove_folders(const struct bench *b)
{
    char command[700];
    int i;

    for (i = 0; i < 2; i++) {
        snprintf(command, sizeof command, "rm -rf '%s'", b->side[i].folder);
        if (system(command) != 0)
            fprintf(stderr, "bench: cannot remove %s\n", b->side[i].folder);
    }
}

int main(int argc, char **argv)
{
    struct bench b = { .rows = from_environment("N", 1000000),
                       .value_len = from_environment("VALUE", 100),
                       .budget_ns = 400000000 };
    const char *folder = NULL, *json = NULL, *base = getenv("TMPDIR");
    char made[500], json_made[600];
    bool own = true;
    uint64_t i;
    int rc;

    b.extension = getenv("ARMDB_EXTENSION");
    if (b.extension == NULL)
        b.extension = getenv("ARMDB_VTAB");
    for (i = 1; i < (uint64_t)argc; i++) {
        if (!read_argument(&b, argv[i], &folder, &json)) {
            fprintf(stderr, "bench: unknown option %s\n", argv[i]);
            return 2;
        }
    }
    snprintf(made, sizeof made, "%s/armdb-bench-XXXXXX", base != NULL ? base : "/tmp");
    if (folder != NULL) {
        snprintf(made, sizeof made, "%s", folder);
        own = false;
    } else if (mkdtemp(made) == NULL) {
        perror(made);
        return 2;
    }
    snprintf(json_made, sizeof json_made, "%s/bench.json", own ? "." : made);
    if (b.rows < 100 || b.rows > UINT32_MAX || b.value_len < 16
        || !make_folders(&b, made)) {
        fprintf(stderr, "bench: at least 100 rows of at least 16 bytes, and a folder\n");
        return 2;
    }
    b.order = malloc(sizeof *b.order * b.rows);
    b.value = calloc(1, b.value_len + 16);
    if (b.order == NULL || b.value == NULL)
        return 2;
    for (i = 0; i < b.rows; i++)
        b.order[i] = (uint32_t)i;
    qsort(b.order, b.rows, sizeof *b.order, compare_keys);
    rc = run(&b, json != NULL ? json : json_made);
    remove_folders(&b);
    if (own)
        rmdir(made);
    free(b.order);
    free(b.value);
    return rc;
}

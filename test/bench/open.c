/* open.c - how fast a store is opened: with its hints, without them, and beside that how
 * fast its files can be read at all.
 *
 *   open [--rows=N] [--value=BYTES] [--folder=PATH] [--rounds=N] [--json=FILE]
 *
 * N= and VALUE= are taken from the environment too. A store of N rows with keys of 16
 * random bytes is written in commits of 1,000, closed, and opened for reading only, which
 * changes nothing, several times in turn:
 *
 *   read        the segments' files read from front to back by one thread, after the
 *               kernel was told to forget them: what the disk gives
 *   hints       all hints in place
 *   scan        no hints; the files forgotten before
 *
 * Keys per second of wall time, and per second of processor time: what one core does.
 * Medians; the spread shows how quiet the machine was. */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/armdb.h"

enum { KEY_BYTES = 16, BATCH = 1000, ROUNDS_MAX = 99, PIECE_BYTES = 1 << 20 };

struct setup {
    uint64_t rows;
    uint64_t value;
    int rounds;
    char folder[400];
    const char *json;
};

struct sample {
    double wall; /* seconds */
    double cpu;
};

static struct armdb_error err;

static void must(enum armdb_rc rc, const char *what)
{
    if (rc == ARMDB_OK)
        return;
    (void)fprintf(stderr, "%s: %s\n", what, err.text);
    exit(1);
}

static double seconds(clockid_t id)
{
    struct timespec t;

    (void)clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 33;
    x *= UINT64_C(0xFF51AFD7ED558CCD);
    x ^= x >> 33;
    x *= UINT64_C(0xC4CEB9FE1A85EC53);
    return x ^ (x >> 33);
}

/* ---- The store ---- */

static void write_store(const struct setup *s)
{
    struct armdb_options options;
    struct armdb *store;
    struct armdb_session *session;
    struct armdb_table *table;
    unsigned char *value = calloc(1, s->value + 1);

    armdb_options_init(&options);
    must(armdb_open(s->folder, &options, &store, &err), "open");
    must(armdb_session_open(store, &session, &err), "session");
    must(armdb_table_create(session, "t", "", 0, &table, &err), "table");
    must(armdb_commit(session, &err), "commit");
    armdb_table_set_sync(table, ARMDB_SYNC_OFF);
    for (uint64_t i = 0; i < s->rows; i++) {
        unsigned char key[KEY_BYTES];
        uint64_t words[2] = {mix(i + 1), mix(~i)};

        memcpy(key, words, sizeof key);
        must(armdb_put(session, table, key, sizeof key, value, s->value, &err), "put");
        if (i % BATCH == BATCH - 1 || i + 1 == s->rows)
            must(armdb_commit(session, &err), "commit");
    }
    armdb_table_close(table);
    armdb_session_close(session);
    armdb_close(store);
    free(value);
}

/* Calls visit(path, arg) for every file of the folder whose name ends so. */
static void each_file(const char *folder, const char *end,
                      void (*visit)(const char *path, void *arg), void *arg)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        size_t n = strlen(entry->d_name);
        char path[700];

        if (n < strlen(end) || strcmp(entry->d_name + n - strlen(end), end) != 0)
            continue;
        (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        visit(path, arg);
    }
    if (dir != NULL)
        (void)closedir(dir);
}

static void forget_file(const char *path, void *arg)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    (void)arg;
    if (fd < 0)
        return;
    (void)fdatasync(fd);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    (void)close(fd);
}

static void forget_files(const struct setup *s)
{
    each_file(s->folder, ".seg", forget_file, NULL);
    each_file(s->folder, ".hint", forget_file, NULL);
}

static void read_file(const char *path, void *arg)
{
    static char piece[PIECE_BYTES];
    uint64_t *bytes = arg;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return;
    while ((n = read(fd, piece, sizeof piece)) > 0)
        *bytes += (uint64_t)n;
    (void)close(fd);
}

static void add_size(const char *path, void *arg)
{
    struct stat st;

    if (stat(path, &st) == 0)
        *(uint64_t *)arg += (uint64_t)st.st_size;
}

/* Hints are put aside and back. */
static void move_hint(const char *path, void *arg)
{
    char to[720];

    (void)arg;
    (void)snprintf(to, sizeof to, "%s.aside", path);
    (void)rename(path, to);
}

static void bring_back(const char *path, void *arg)
{
    char to[720];

    (void)arg;
    (void)snprintf(to, sizeof to, "%s", path);
    to[strlen(to) - strlen(".aside")] = '\0';
    (void)rename(path, to);
}

static void remove_file(const char *path, void *arg)
{
    (void)arg;
    (void)unlink(path);
}

/* ---- Measuring ---- */

static struct sample open_once(const struct setup *s)
{
    struct armdb_options options;
    struct armdb *store;
    struct armdb_session *session;
    struct armdb_table *table;
    struct sample sample;

    armdb_options_init(&options);
    options.read_only = true;
    sample.wall = seconds(CLOCK_MONOTONIC);
    sample.cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    must(armdb_open(s->folder, &options, &store, &err), "open");
    sample.wall = seconds(CLOCK_MONOTONIC) - sample.wall;
    sample.cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - sample.cpu;
    must(armdb_session_open(store, &session, &err), "session");
    must(armdb_table_open(session, "t", NULL, &table, &err), "table");
    if (armdb_count(table) != s->rows) {
        (void)fprintf(stderr, "%llu rows instead of %llu\n",
                      (unsigned long long)armdb_count(table),
                      (unsigned long long)s->rows);
        exit(1);
    }
    armdb_table_close(table);
    armdb_session_close(session);
    armdb_close(store);
    return sample;
}

static struct sample read_once(const struct setup *s, uint64_t *bytes)
{
    struct sample sample;

    *bytes = 0;
    forget_files(s);
    sample.wall = seconds(CLOCK_MONOTONIC);
    sample.cpu = 0;
    each_file(s->folder, ".seg", read_file, bytes);
    sample.wall = seconds(CLOCK_MONOTONIC) - sample.wall;
    return sample;
}

static int compare_walls(const void *a, const void *b)
{
    double x = ((const struct sample *)a)->wall;
    double y = ((const struct sample *)b)->wall;

    return (x > y) - (x < y);
}

static struct sample median(struct sample *samples, int count)
{
    qsort(samples, (size_t)count, sizeof *samples, compare_walls);
    return samples[count / 2];
}

static void report_open(const struct setup *s, const char *name, struct sample *samples,
                        uint64_t bytes, FILE *json)
{
    struct sample m = median(samples, s->rounds);
    double rows = (double)s->rows / 1e6;

    printf("%-8s %8.3f s  %7.2f M keys/s  %7.2f M keys/s per core  %8.1f MB/s   "
           "(%.3f to %.3f s)\n",
           name, m.wall, rows / m.wall, rows / m.cpu, (double)bytes / 1e6 / m.wall,
           samples[0].wall, samples[s->rounds - 1].wall);
    if (json != NULL)
        (void)fprintf(json,
                      "  \"%s\": {\"seconds\": %.4f, \"keys_per_second\": %.0f, "
                      "\"keys_per_core_second\": %.0f},\n",
                      name, m.wall, 1e6 * rows / m.wall, 1e6 * rows / m.cpu);
}

static void run(const struct setup *s)
{
    static struct sample raw[ROUNDS_MAX];
    static struct sample hinted[ROUNDS_MAX];
    static struct sample scanned[ROUNDS_MAX];
    FILE *json = s->json != NULL ? fopen(s->json, "w") : NULL;
    uint64_t bytes = 0;
    uint64_t hint_bytes = 0;
    double disk;

    write_store(s);
    each_file(s->folder, ".hint", add_size, &hint_bytes);
    for (int i = 0; i < s->rounds; i++) {
        raw[i] = read_once(s, &bytes);
        forget_files(s);
        hinted[i] = open_once(s);
        each_file(s->folder, ".hint", move_hint, NULL);
        forget_files(s);
        scanned[i] = open_once(s);
        each_file(s->folder, ".hint.aside", bring_back, NULL);
    }
    disk = (double)bytes / 1e6 / median(raw, s->rounds).wall;
    printf("%llu rows, keys of %d bytes, values of %llu: %.1f MB of segments, %.1f MB of "
           "hints\n",
           (unsigned long long)s->rows, KEY_BYTES, (unsigned long long)s->value,
           (double)bytes / 1e6, (double)hint_bytes / 1e6);
    if (json != NULL)
        (void)fprintf(json, "{\n");
    report_open(s, "hints", hinted, hint_bytes, json);
    report_open(s, "scan", scanned, bytes, json);
    printf("read     %8.3f s  %.1f MB/s by one thread   (%.3f to %.3f s)\n",
           median(raw, s->rounds).wall, disk, raw[0].wall, raw[s->rounds - 1].wall);
    if (json != NULL) {
        (void)fprintf(json, "  \"disk_mb_per_second\": %.1f\n}\n", disk);
        (void)fclose(json);
    }
}

int main(int argc, char **argv)
{
    struct setup s = {.rows = 1000000, .value = 100, .rounds = 5};
    const char *tmp = getenv("TMPDIR");

    if (getenv("N") != NULL)
        s.rows = strtoull(getenv("N"), NULL, 10);
    if (getenv("VALUE") != NULL)
        s.value = strtoull(getenv("VALUE"), NULL, 10);
    (void)snprintf(s.folder, sizeof s.folder, "%.300s", tmp != NULL ? tmp : "/tmp");
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--rows=", 7) == 0)
            s.rows = strtoull(argv[i] + 7, NULL, 10);
        else if (strncmp(argv[i], "--value=", 8) == 0)
            s.value = strtoull(argv[i] + 8, NULL, 10);
        else if (strncmp(argv[i], "--rounds=", 9) == 0)
            s.rounds = atoi(argv[i] + 9);
        else if (strncmp(argv[i], "--folder=", 9) == 0)
            (void)snprintf(s.folder, sizeof s.folder, "%.300s", argv[i] + 9);
        else if (strncmp(argv[i], "--json=", 7) == 0)
            s.json = argv[i] + 7;
    }
    if (s.rows == 0 || s.rounds < 1 || s.rounds > ROUNDS_MAX) {
        (void)fprintf(stderr, "open: at least one row, 1 to %d rounds\n", ROUNDS_MAX);
        return 2;
    }
    (void)strncat(s.folder, "/armdb_bench_open_XXXXXX",
                  sizeof s.folder - strlen(s.folder) - 1);
    if (mkdtemp(s.folder) == NULL) {
        perror(s.folder);
        return 1;
    }
    run(&s);
    each_file(s.folder, "", remove_file, NULL);
    (void)rmdir(s.folder);
    return 0;
}

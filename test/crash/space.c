/* space.c - how much room a store takes while it is overwritten and emptied.
 *
 *   space [--mib=N] [--times=N] [--churn=N] [--off]
 *
 * Fills N MiB (64) of rows of 1000 bytes, overwrites every row ten times, each time in
 * another order, deletes all, compacts. A thread measures the folder meanwhile. Never
 * may it have passed 2.2 times the live bytes and two segments; in the end it is below
 * one percent of its peak, also when the store was closed and opened. Then one key is
 * inserted and deleted N times (20,000), and the store stays in a few segments.
 *
 * The background has no limit of bytes per second here, and commits wait for their sync;
 * --off holds the background instead, to compare commits' latencies: nothing is checked
 * then. `make check` does the default; 1 GiB and a million by hand. */
#include <dirent.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/armdb.h"
#include "engine/base/thread.h"

enum { VALUE_BYTES = 1000, ROWS_COMMIT = 500, SAMPLE_US = 2000 };

struct figures {
    uint64_t moved, read, runs, live, dead, written, segments;
    double amplification;
};

static struct armdb *store;
static struct armdb_session *session;
static struct armdb_table *table;
static struct armdb_error err;
static char folder[300];
static uint64_t segment_size;
static bool failed;
static _Atomic bool stop;
static _Atomic uint64_t peak;

static void report(bool good, const char *what)
{
    printf("%s - %s\n", good ? "ok" : "not ok", what);
    failed = failed || !good;
}

static void must(enum armdb_rc rc, const char *what)
{
    if (rc == ARMDB_OK)
        return;
    printf("not ok - %s: %s\n", what, err.text);
    exit(1);
}

static uint64_t folder_bytes(void)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    uint64_t bytes = 0;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char path[700];
        struct stat st;

        (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
            bytes += (uint64_t)st.st_blocks * 512;
    }
    if (dir != NULL)
        (void)closedir(dir);
    return bytes;
}

static void measure(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop)) {
        struct timespec pause = {0, SAMPLE_US * 1000};
        uint64_t bytes = folder_bytes();

        if (bytes > atomic_load(&peak))
            atomic_store(&peak, bytes);
        (void)nanosleep(&pause, NULL);
    }
}

static void find_figure(void *arg, const struct armdb_stat *row)
{
    struct figures *f = arg;
    const struct {
        const char *name;
        uint64_t *value;
    } wanted[] = {
        {"compact_bytes_moved", &f->moved}, {"compact_bytes_read", &f->read},
        {"compactions", &f->runs},          {"bytes_live", &f->live},
        {"bytes_dead", &f->dead},           {"bytes_written", &f->written},
        {"segments", &f->segments},
    };

    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        if (strcmp(row->name, wanted[i].name) == 0)
            *wanted[i].value = row->value;
}

static struct figures figures(void)
{
    struct figures f = {0};

    armdb_stat_each(table, find_figure, &f);
    return f;
}

static void open_store(bool off)
{
    struct armdb_options options;

    armdb_options_init(&options);
    options.segment_size = segment_size;
    options.compact_rate = 0;
    options.compact_off = off;
    must(armdb_open(folder, &options, &store, &err), "open");
    must(armdb_session_open(store, &session, &err), "session");
    if (armdb_table_open(session, "t", NULL, &table, &err) == ARMDB_OK)
        return;
    must(armdb_table_create(session, "t", "", 0, &table, &err), "table");
    must(armdb_commit(session, &err), "table");
}

static void close_store(void)
{
    armdb_table_close(table);
    armdb_session_close(session);
    armdb_close(store);
}

static int compare_ns(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* One statement for each of `rows` rows, in an order that `pass` chooses. */
static void all_rows(uint64_t rows, uint64_t pass, bool delete, uint64_t *latencies,
                     size_t *count)
{
    static unsigned char value[VALUE_BYTES];
    const uint64_t stride = 7919 + 2 * pass; /* odd; rows is a power of two times 1000 */

    memset(value, (int)('a' + pass % 26), sizeof value);
    for (uint64_t i = 0; i < rows; i++) {
        uint64_t begun;
        uint64_t number = pass == 0 ? i : (i * stride) & (rows - 1);
        char key[24];

        (void)snprintf(key, sizeof key, "row%012llu", (unsigned long long)number);
        must(delete
                 ? armdb_delete(session, table, key, strlen(key), &err)
                 : armdb_put(session, table, key, strlen(key), value, sizeof value, &err),
             "write");
        if (i % ROWS_COMMIT != ROWS_COMMIT - 1 && i + 1 < rows)
            continue;
        begun = adb_mono_ns();
        must(armdb_commit(session, &err), "commit");
        latencies[(*count)++] = adb_mono_ns() - begun;
    }
}

static void say_latencies(uint64_t *latencies, size_t count)
{
    qsort(latencies, count, sizeof *latencies, compare_ns);
    printf("# %zu commits of %d rows: median %.2f ms, p99 %.2f ms, longest %.1f ms\n",
           count, ROWS_COMMIT, (double)latencies[count / 2] / 1e6,
           (double)latencies[count - count / 100 - 1] / 1e6,
           (double)latencies[count - 1] / 1e6);
}

static void fill_overwrite_empty(uint64_t mib, uint64_t times, bool off)
{
    uint64_t rows = mib * 1024;
    uint64_t *latencies =
        malloc((times + 2) * (rows / ROWS_COMMIT + 1) * sizeof *latencies);
    size_t count = 0;
    size_t filled;
    struct adb_thread thread;
    struct armdb_compact_info info;
    struct figures f;
    uint64_t begun = adb_mono_ns();
    double seconds;
    uint64_t limit;

    if (latencies == NULL)
        exit(1);
    open_store(off);
    must(adb_thread_start(&thread, measure, NULL), "thread");
    all_rows(rows, 0, false, latencies, &count);
    f = figures();
    limit = f.live * 22 / 10 + 2 * segment_size;
    filled = count;
    for (uint64_t pass = 1; pass <= times; pass++)
        all_rows(rows, pass, false, latencies, &count);
    seconds = (double)(adb_mono_ns() - begun) / 1e9;
    f = figures();
    printf(
        "# %llu MiB of live bytes overwritten %llu times in %.1f s: peak %.1f MiB "
        "(%.2f times the live bytes), allowed %.1f; %llu compactions read %llu MiB and "
        "wrote %llu\n",
        (unsigned long long)(f.live >> 20), (unsigned long long)times, seconds,
        (double)atomic_load(&peak) / 1048576, (double)atomic_load(&peak) / (double)f.live,
        (double)limit / 1048576, (unsigned long long)f.runs,
        (unsigned long long)(f.read >> 20), (unsigned long long)(f.moved >> 20));
    printf("# written %.2f bytes for each byte of a row\n",
           (double)f.written / (double)((times + 1) * rows * VALUE_BYTES));
    say_latencies(latencies + filled, count - filled);
    if (!off)
        report(
            atomic_load(&peak) <= limit,
            "overwritten, a store stays below 2.2 times its live bytes and two segments");
    all_rows(rows, times + 1, true, latencies, &count);
    must(armdb_compact(store, NULL, &info, &err), "compact");
    atomic_store(&stop, true);
    adb_thread_join(&thread);
    printf("# emptied and compacted: %llu bytes, peak %llu\n",
           (unsigned long long)folder_bytes(), (unsigned long long)atomic_load(&peak));
    report(folder_bytes() * 100 < atomic_load(&peak),
           "emptied and compacted, it takes less than one percent of its peak");
    close_store();
    open_store(off);
    f = figures();
    report(folder_bytes() * 100 < atomic_load(&peak) && armdb_count(table) == 0 &&
               f.dead < 100000,
           "so it does when it was closed and opened");
    free(latencies);
}

static void churn(uint64_t times)
{
    struct figures f;
    uint64_t most = 0;
    uint64_t segments = 0;
    uint64_t begun = adb_mono_ns();

    armdb_table_set_sync(table, ARMDB_SYNC_NORMAL);
    for (uint64_t i = 0; i < times; i++) {
        must(armdb_put(session, table, "the one", 7, "value", 5, &err), "put");
        must(armdb_commit(session, &err), "commit");
        must(armdb_delete(session, table, "the one", 7, &err), "delete");
        must(armdb_commit(session, &err), "commit");
        if (i % 2000 != 1999)
            continue;
        f = figures();
        segments = f.segments > segments ? f.segments : segments;
        most = folder_bytes() > most ? folder_bytes() : most;
    }
    printf("# one key inserted and deleted %llu times in %.1f s: at most %llu segments, "
           "%.1f MiB\n",
           (unsigned long long)times, (double)(adb_mono_ns() - begun) / 1e9,
           (unsigned long long)segments, (double)most / 1048576);
    report(segments <= 10, "one key inserted and deleted again and again stays in a few "
                           "segments");
}

static uint64_t option(int argc, char **argv, const char *name, uint64_t otherwise)
{
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], name, strlen(name)) == 0)
            return strtoull(argv[i] + strlen(name), NULL, 10);
    return otherwise;
}

int main(int argc, char **argv)
{
    const char *tmp = getenv("TMPDIR");
    uint64_t mib = option(argc, argv, "--mib=", 64);
    uint64_t churns = option(argc, argv, "--churn=", 20000);
    bool off = argc > 1 && strcmp(argv[argc - 1], "--off") == 0;
    char command[320];

    if (mib == 0 || (mib & (mib - 1)) != 0) {
        printf("not ok - --mib=N: a power of two\n");
        return 1;
    }
    segment_size = (mib << 20) / 16 < (1 << 20) ? 1 << 20 : (mib << 20) / 16;
    (void)snprintf(folder, sizeof folder, "%s/armdb_space_XXXXXX",
                   tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(folder) == NULL)
        return 1;
    fill_overwrite_empty(mib, option(argc, argv, "--times=", 10), off);
    if (!off)
        churn(churns);
    close_store();
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) != 0 || failed;
}

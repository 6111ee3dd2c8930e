/* phases.c - what is measured of each engine, and the checks of what it answers. */
#include "test/engines/phases.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { RANGE_ROWS = 100, PREFIX_BYTES = 3, LOOK = 64 };

/* ---- The rows ---------------------------------------------------------------------- */

uint64_t world_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

void world_key(uint64_t row, char key[ENGINE_KEY_LEN])
{
    uint64_t bits = mix(row);

    for (int i = 0; i < ENGINE_KEY_LEN; i++, bits <<= 4)
        key[i] = "0123456789abcdef"[bits >> 60];
}

static uint64_t draw(uint64_t *random, uint64_t below)
{
    *random += UINT64_C(0x9E3779B97F4A7C15);
    return mix(*random) % below;
}

static void fail(const struct world *w, const char *what)
{
    engine_fail(w->engine->name, what, "wrong answer");
}

static void make_value(struct world *w, char *value, uint64_t row, uint64_t counter)
{
    memset(value, (int)(row % 251), w->value_len);
    memcpy(value, &row, sizeof row);
    memcpy(value + 8, &counter, sizeof counter);
}

static void check_value(const struct world *w, const struct engine_slice *value,
                        uint64_t row)
{
    const char *bytes = value->data;

    if (value->len != w->value_len || memcmp(bytes, &row, sizeof row) != 0 ||
        (value->len > 16 && (unsigned char)bytes[value->len - 1] != row % 251))
        fail(w, "get");
}

/* ---- Opening, closing, checking ------------------------------------------------------
 */

void world_open(struct world *w, bool synced)
{
    w->db = w->engine->open(w->folder, synced);
    w->user = w->engine->join(w->db);
}

void world_close(struct world *w)
{
    w->engine->leave(w->user);
    w->engine->close(w->db);
}

/* Throws the files' pages out of the kernel's memory. */
static void forget_files(const struct world *w)
{
    DIR *dir = opendir(w->folder);
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char path[1200];
        int fd;

        (void)snprintf(path, sizeof path, "%s/%s", w->folder, entry->d_name);
        fd = open(path, O_RDONLY);
        if (fd < 0)
            continue;
        (void)fdatasync(fd);
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        (void)close(fd);
    }
    if (dir != NULL)
        (void)closedir(dir);
}

/* Rows [first, first + n) in key order must have been found. */
static void check_scan(const struct world *w, const struct engine_scan *scan,
                       uint64_t first, uint64_t n)
{
    if (scan->rows != n || scan->key_sum != w->key_sums[first + n] - w->key_sums[first])
        fail(w, "scan");
    if (scan->values &&
        scan->value_sum != w->value_sums[first + n] - w->value_sums[first])
        fail(w, "values of a scan");
}

static void scan_all(struct world *w, bool reverse, bool values)
{
    struct engine_scan scan = {
        .rows_max = UINT64_MAX, .reverse = reverse, .values = values};

    w->engine->scan(w->user, &scan);
    check_scan(w, &scan, 0, w->rows);
}

void world_check(struct world *w)
{
    uint64_t counters = 0;

    scan_all(w, false, true);
    scan_all(w, true, true);
    for (uint64_t row = 0; row < w->rows; row++) {
        struct engine_slice value = {NULL, 0};
        uint64_t counter;
        char key[ENGINE_KEY_LEN];

        world_key(row, key);
        if (!w->engine->get(w->user, key, &value))
            fail(w, "a row is missing");
        check_value(w, &value, row);
        memcpy(&counter, (const char *)value.data + 8, sizeof counter);
        counters += counter;
    }
    if (counters != w->modified)
        fail(w, "read-modify-write: the sum");
}

/* ---- Reads
 * ----------------------------------------------------------------------------- */

/* Rows are looked up until the deadline; those from `first` on are not there. */
static uint64_t look_up(const struct world *w, void *user, uint64_t *random,
                        uint64_t first, uint64_t deadline)
{
    uint64_t done = 0;

    while (done % LOOK != 0 || world_now() < deadline) {
        uint64_t row = first + draw(random, w->rows);
        struct engine_slice value = {NULL, 0};
        char key[ENGINE_KEY_LEN];

        world_key(row, key);
        if (w->engine->get(user, key, &value) != (row < w->rows))
            fail(w, "get");
        if (row < w->rows)
            check_value(w, &value, row);
        done++;
    }
    return done;
}

static uint64_t run_get(struct world *w, uint64_t deadline)
{
    return look_up(w, w->user, &w->random, 0, deadline);
}

static uint64_t run_get_held(struct world *w, uint64_t deadline)
{
    uint64_t done;

    w->engine->hold(w->user, true);
    done = look_up(w, w->user, &w->random, 0, deadline);
    w->engine->hold(w->user, false);
    return done;
}

static uint64_t run_miss(struct world *w, uint64_t deadline)
{
    return look_up(w, w->user, &w->random, w->rows, deadline);
}

struct helper {
    struct world *w;
    uint64_t number;
    uint64_t deadline;
    uint64_t done;
};

static void *get_in_thread(void *arg)
{
    struct helper *helper = arg;
    void *user = helper->w->engine->join(helper->w->db);
    uint64_t random = mix(helper->number + helper->w->random);

    helper->done = look_up(helper->w, user, &random, 0, helper->deadline);
    helper->w->engine->leave(user);
    return NULL;
}

static uint64_t run_threads(struct world *w, void *(*run)(void *), uint64_t deadline)
{
    struct helper helpers[WORLD_THREADS];
    pthread_t threads[WORLD_THREADS];
    uint64_t done = 0;

    for (uint64_t i = 0; i < WORLD_THREADS; i++) {
        helpers[i] = (struct helper){w, i, deadline, 0};
        if (pthread_create(&threads[i], NULL, run, &helpers[i]) != 0)
            engine_fail(w->engine->name, "thread", "cannot start");
    }
    for (uint64_t i = 0; i < WORLD_THREADS; i++) {
        (void)pthread_join(threads[i], NULL);
        done += helpers[i].done;
    }
    w->random += done;
    return done;
}

static uint64_t run_get_threads(struct world *w, uint64_t deadline)
{
    return run_threads(w, get_in_thread, deadline);
}

static uint64_t ranges(struct world *w, bool reverse, uint64_t deadline)
{
    uint64_t done = 0;

    for (; done % 8 != 0 || world_now() < deadline; done++) {
        uint64_t at = draw(&w->random, w->rows - RANGE_ROWS);
        char key[ENGINE_KEY_LEN];
        struct engine_scan scan = {
            .from = key, .rows_max = RANGE_ROWS, .reverse = reverse, .values = true};

        world_key(w->order[reverse ? at + RANGE_ROWS - 1 : at], key);
        w->engine->scan(w->user, &scan);
        check_scan(w, &scan, at, RANGE_ROWS);
    }
    return done;
}

static uint64_t run_range_up(struct world *w, uint64_t deadline)
{
    return ranges(w, false, deadline);
}

static uint64_t run_range_down(struct world *w, uint64_t deadline)
{
    return ranges(w, true, deadline);
}

/* The place in key order of the first key that is not below `from` in its first bytes. */
static uint64_t first_at(const struct world *w, const char *from, size_t len, bool behind)
{
    uint64_t low = 0;
    uint64_t high = w->rows;

    while (low < high) {
        uint64_t middle = (low + high) / 2;
        char key[ENGINE_KEY_LEN];
        int order;

        world_key(w->order[middle], key);
        order = memcmp(key, from, len);
        if (order < 0 || (behind && order == 0))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Every key's first bytes are those of about rows / 4096 keys. */
static uint64_t run_prefix(struct world *w, uint64_t deadline)
{
    uint64_t done = 0;

    for (; done % 8 != 0 || world_now() < deadline; done++) {
        char key[ENGINE_KEY_LEN];
        struct engine_scan scan = {
            .from = key, .prefix = PREFIX_BYTES, .rows_max = UINT64_MAX, .values = true};

        world_key(draw(&w->random, w->rows), key);
        w->engine->scan(w->user, &scan);
        if (done % 8 == 0) { /* looking for what is right takes time: not each time */
            uint64_t first = first_at(w, key, PREFIX_BYTES, false);

            check_scan(w, &scan, first, first_at(w, key, PREFIX_BYTES, true) - first);
        }
        if (scan.rows == 0 || scan.rows > w->rows)
            fail(w, "prefix");
    }
    return done;
}

static uint64_t run_scan_keys(struct world *w, uint64_t deadline)
{
    (void)deadline;
    scan_all(w, false, false);
    return 1;
}

static uint64_t run_scan_values(struct world *w, uint64_t deadline)
{
    (void)deadline;
    scan_all(w, false, true);
    return 1;
}

static uint64_t run_scan_down(struct world *w, uint64_t deadline)
{
    (void)deadline;
    scan_all(w, true, true);
    return 1;
}

/* Opened with nothing in the kernel's memory, brought into its own, all of it read. */
static uint64_t run_cold(struct world *w, uint64_t deadline)
{
    (void)deadline;
    w->db = w->engine->open(w->folder, false);
    w->user = w->engine->join(w->db);
    if (w->engine->warm != NULL)
        w->engine->warm(w->user);
    scan_all(w, false, true);
    return 1;
}

static uint64_t run_open(struct world *w, uint64_t deadline)
{
    struct engine_slice value = {NULL, 0};
    char key[ENGINE_KEY_LEN];

    (void)deadline;
    w->db = w->engine->open(w->folder, false);
    w->user = w->engine->join(w->db);
    world_key(7, key);
    if (!w->engine->get(w->user, key, &value))
        fail(w, "open");
    check_value(w, &value, 7);
    return 1;
}

/* ---- Writes
 * ------------------------------------------------------------------------------ */

/* Writes these rows with counters of 0: only before modify. */
static void write_batch(struct world *w, const uint64_t *numbers, size_t count)
{
    static struct engine_pair pairs[ENGINE_BATCH];
    static char *values;

    if (values == NULL)
        values = malloc(ENGINE_BATCH * w->value_len);
    for (size_t i = 0; i < count; i++) {
        char *value = values + i * w->value_len;

        world_key(numbers[i], pairs[i].key);
        make_value(w, value, numbers[i], 0);
        pairs[i].value = value;
        pairs[i].len = w->value_len;
    }
    w->engine->batch(w->user, pairs, count);
}

static uint64_t run_load(struct world *w, uint64_t deadline)
{
    uint64_t numbers[ENGINE_BATCH];

    (void)deadline;
    for (uint64_t row = 0; row < w->rows;) {
        size_t count = 0;

        while (count < ENGINE_BATCH && row < w->rows)
            numbers[count++] = row++; /* keys are their mixture: a random order */
        write_batch(w, numbers, count);
    }
    return w->rows;
}

static uint64_t run_batch(struct world *w, uint64_t deadline)
{
    uint64_t numbers[ENGINE_BATCH];
    uint64_t done = 0;

    while (world_now() < deadline) {
        for (size_t i = 0; i < ENGINE_BATCH; i++)
            numbers[i] = draw(&w->random, w->rows);
        write_batch(w, numbers, ENGINE_BATCH);
        done += ENGINE_BATCH;
    }
    return done;
}

static uint64_t put_rows(struct world *w, void *user, uint64_t *random, uint64_t deadline)
{
    char *value = malloc(w->value_len);
    uint64_t done = 0;

    while (world_now() < deadline) {
        uint64_t row = draw(random, w->rows);
        char key[ENGINE_KEY_LEN];

        world_key(row, key);
        make_value(w, value, row, 0);
        w->engine->put(user, key, value, w->value_len);
        done++;
    }
    free(value);
    return done;
}

static uint64_t run_put(struct world *w, uint64_t deadline)
{
    return put_rows(w, w->user, &w->random, deadline);
}

static void *put_in_thread(void *arg)
{
    struct helper *helper = arg;
    void *user = helper->w->engine->join(helper->w->db);
    uint64_t random = mix(helper->number + helper->w->random);

    helper->done = put_rows(helper->w, user, &random, helper->deadline);
    helper->w->engine->leave(user);
    return NULL;
}

static uint64_t run_put_threads(struct world *w, uint64_t deadline)
{
    return run_threads(w, put_in_thread, deadline);
}

static uint64_t run_modify(struct world *w, uint64_t deadline)
{
    uint64_t done = 0;

    for (; done % 16 != 0 || world_now() < deadline; done++) {
        char key[ENGINE_KEY_LEN];

        world_key(draw(&w->random, w->rows), key);
        w->engine->modify(w->user, key);
    }
    w->modified += done;
    return done;
}

/* ---- The list
 * ---------------------------------------------------------------------------- */

const struct phase phases[] = {
    {"load, random order, 1,000 a commit", "rows/s", run_load, 1, true},
    {"get, each of its own moment", "1/s", run_get, 3, true},
    {"get, one snapshot held", "1/s", run_get_held, 3, true},
    {"get, absent key", "1/s", run_miss, 3, true},
    {"get, 4 threads", "1/s", run_get_threads, 3, true},
    {"range of 100 rows, up", "1/s", run_range_up, 3, true},
    {"range of 100 rows, down", "1/s", run_range_down, 3, true},
    {"prefix of rows / 4,096 rows", "1/s", run_prefix, 3, true},
    {"full scan, keys", "1/s", run_scan_keys, 3, true},
    {"full scan, keys and values", "1/s", run_scan_values, 3, true},
    {"full scan, values, down", "1/s", run_scan_down, 3, true},
    {"put, durable, 1 thread", "1/s", run_put, 3, true},
    {"put, durable, 4 threads", "1/s", run_put_threads, 3, true},
    {"overwrite, 1,000 a durable batch", "rows/s", run_batch, 3, true},
    {"put, not synced", "1/s", run_put, 3, false},
    {"overwrite, 1,000 a batch, not synced", "rows/s", run_batch, 3, false},
    {"read-modify-write, not synced", "1/s", run_modify, 3, false},
    {"open to the first row", "1/s", run_open, 3, false},
    {"open cold, warm up, read all", "1/s", run_cold, 3, false},
};
const int phase_count = sizeof phases / sizeof phases[0];

static bool phase_opens(const struct phase *phase)
{
    return phase->run == run_open || phase->run == run_cold;
}

void phase_prepare(struct world *w, const struct phase *phase)
{
    if (phase_opens(phase))
        world_close(w);
    if (phase->run == run_cold)
        forget_files(w);
}

void phase_finish(struct world *w, const struct phase *phase)
{
    if (phase->run == run_load)
        w->engine->settle(w->db);
}

/* test_life.c - everything at once: writers, readers on snapshots, compactions (several
 * calls, and the background), backups and verifications, for SECONDS=n (4) seconds.
 *
 * Each writer owns a range of keys. Which of them its transaction n writes, deletes or
 * leaves, and with what value, follows from n alone, and n stands in a row of its own,
 * written in the same transaction. So whoever reads the store at any moment, a reader's
 * snapshot, a backup that is opened, the store when it is opened again, knows from the
 * writers' numbers what every row must be: nothing lost, nothing back, no half of a
 * transaction. Readers hold a snapshot for a while and read all of it twice.
 *
 * Built for ThreadSanitizer as well. Asserts are on the main thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/armdb.h"
#include "engine/base/thread.h"

enum {
    WRITERS = 3,
    READERS = 2,
    COMPACTORS = 2,
    OTHERS = 2, /* backups, verifications */
    THREADS = WRITERS + READERS + COMPACTORS + OTHERS,
    KEYS = 120,
    TOUCHED = 4, /* keys of a transaction */
    VALUE_MAX = 3000
};

struct life {
    char folder[220];
    struct armdb *store;
    uint64_t seed;
    uint64_t until_ns;
    _Atomic bool wrong;
    char text[400]; /* of the first thing that went wrong */
    _Atomic uint64_t acknowledged[WRITERS];
    _Atomic uint64_t begun[WRITERS];
    _Atomic uint64_t reads, backups, verifications, compactions;
};

struct user {
    struct life *life;
    unsigned number;
    struct armdb_session *session;
    struct armdb_table *table;
    struct armdb_error err;
};

static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

static void complain(struct life *life, const char *what, const char *why)
{
    if (!atomic_exchange(&life->wrong, true))
        (void)snprintf(life->text, sizeof life->text, "%s: %.300s", what, why);
}

static bool good(struct user *u, enum armdb_rc rc, const char *what)
{
    if (rc != ARMDB_OK)
        complain(u->life, what, u->err.text);
    return rc == ARMDB_OK;
}

static bool goes_on(const struct life *life)
{
    return !atomic_load(&life->wrong) && adb_mono_ns() < life->until_ns;
}

static bool begin(struct user *u, struct armdb *store)
{
    return good(u, armdb_session_open(store, &u->session, &u->err), "session") &&
           good(u, armdb_table_open(u->session, "life", NULL, &u->table, &u->err),
                "table");
}

static void end(struct user *u)
{
    armdb_table_close(u->table);
    armdb_session_close(u->session);
}

/* ---- What transaction n of writer w does ---- */

static unsigned touched_key(const struct life *life, unsigned w, uint64_t n, unsigned i)
{
    return (unsigned)(mix(life->seed + n * 8 + i + ((uint64_t)w << 56)) % KEYS);
}

static bool is_delete(const struct life *life, unsigned w, uint64_t n, unsigned key)
{
    return mix(life->seed * 3 + n * KEYS + key + ((uint64_t)w << 56)) % 3 == 0;
}

/* "w key n", then letters up to a length that follows from n. */
static size_t make_value(unsigned w, unsigned key, uint64_t n, char *value)
{
    size_t len = 60 + (size_t)(mix(n * 131 + key) % (VALUE_MAX - 60));
    char head[60];

    memset(value, 'a' + (int)(n % 26), len);
    (void)snprintf(head, sizeof head, "%u %u %llu", w, key, (unsigned long long)n);
    memcpy(value, head, strlen(head));
    return len;
}

/* The last transaction up to n that wrote the key; 0 when there is no row. */
static void make_model(const struct life *life, unsigned w, uint64_t n,
                       uint64_t rows[KEYS])
{
    bool known[KEYS] = {false};
    unsigned left = KEYS;

    memset(rows, 0, KEYS * sizeof *rows);
    for (; n > 0 && left > 0; n--) {
        for (unsigned i = 0; i < TOUCHED; i++) {
            unsigned key = touched_key(life, w, n, i);

            if (known[key])
                continue;
            known[key] = true;
            left--;
            rows[key] = is_delete(life, w, n, key) ? 0 : n;
        }
    }
}

static size_t make_key(unsigned w, unsigned key, char text[32])
{
    return (size_t)snprintf(text, 32, "w%u-%04u", w, key);
}

/* ---- Reading all of it ---- */

static bool check_row(struct user *u, struct armdb_cursor *cursor, unsigned w,
                      unsigned key, uint64_t n)
{
    struct armdb_value value;
    char wanted[VALUE_MAX];
    char why[160];
    size_t len = make_value(w, key, n, wanted);
    bool same;

    if (!good(u, armdb_cursor_value(cursor, &value, &u->err), "value"))
        return false;
    same = value.len == len && memcmp(value.data, wanted, len) == 0;
    if (!same) {
        (void)snprintf(why, sizeof why, "key %u of writer %u is '%.30s', not of %llu",
                       key, w, (const char *)value.data, (unsigned long long)n);
        complain(u->life, "row", why);
    }
    return same;
}

/* The writer's number in this snapshot. */
static uint64_t read_number(struct user *u, struct armdb_cursor *cursor, unsigned w)
{
    struct armdb_value value;
    uint64_t n = 0;
    char key[32];
    size_t len = (size_t)snprintf(key, sizeof key, "n%u", w);
    enum armdb_rc rc = armdb_cursor_seek_key(cursor, key, len, &u->err);

    if (rc == ARMDB_OK)
        rc = armdb_cursor_value(cursor, &value, &u->err);
    if (rc == ARMDB_OK)
        memcpy(&n, value.data, sizeof n);
    else if (rc != ARMDB_DONE)
        (void)good(u, rc, "number");
    return n;
}

/* Every row of the writer, by a scan and some by look-ups, against its number. */
static bool check_writer(struct user *u, struct armdb_cursor *cursor, unsigned w,
                         uint64_t n)
{
    struct armdb_range range = {.low_bound = ARMDB_BOUND_INCLUSIVE};
    uint64_t rows[KEYS];
    char low[32];
    char high[32];
    unsigned key = 0;
    enum armdb_rc rc;

    make_model(u->life, w, n, rows);
    range.low = low;
    range.low_len = make_key(w, 0, low);
    range.high = high;
    range.high_len = make_key(w, 9999, high);
    range.high_bound = ARMDB_BOUND_INCLUSIVE;
    rc = armdb_cursor_seek_range(cursor, &range, &u->err);
    for (; rc == ARMDB_OK; rc = armdb_cursor_next(cursor, &u->err)) {
        const void *found;
        char wanted[32];
        size_t len;

        while (key < KEYS && rows[key] == 0)
            key++;
        armdb_cursor_key(cursor, &found, &len);
        if (key == KEYS || len != make_key(w, key, wanted) ||
            memcmp(found, wanted, len) != 0) {
            size_t shown = len < sizeof wanted ? len : sizeof wanted - 1;

            memcpy(wanted, found, shown);
            wanted[shown] = '\0';
            complain(u->life, "a row is there, or one is missing, before", wanted);
            return false;
        }
        if (!check_row(u, cursor, w, key, rows[key]))
            return false;
        key++;
    }
    while (key < KEYS && rows[key] == 0)
        key++;
    if (rc == ARMDB_DONE && key < KEYS)
        complain(u->life, "scan", "the last rows are missing");
    if (rc != ARMDB_DONE)
        return good(u, rc, "scan");
    for (key = (unsigned)(n % 5); key < KEYS; key += 5) {
        char text[32];
        size_t len = make_key(w, key, text);

        rc = armdb_cursor_seek_key(cursor, text, len, &u->err);
        if (rc == ARMDB_OK ? rows[key] == 0 || !check_row(u, cursor, w, key, rows[key])
                           : rc != ARMDB_DONE || rows[key] != 0) {
            complain(u->life, "look-up", rc == ARMDB_DONE ? "no row" : "a row");
            return false;
        }
    }
    return !atomic_load(&u->life->wrong);
}

/* The whole store at one moment, between two sets of numbers. A session that wrote
 * nothing. */
static void check_all(struct user *u, const uint64_t low[WRITERS],
                      const uint64_t high[WRITERS])
{
    struct armdb_cursor *cursor = NULL;

    armdb_statement_begin(u->session);
    if (!good(u, armdb_cursor_open(u->session, u->table, &cursor, &u->err), "cursor"))
        return;
    for (unsigned w = 0; w < WRITERS && !atomic_load(&u->life->wrong); w++) {
        uint64_t n = read_number(u, cursor, w);

        if (n < low[w] || n > high[w])
            complain(u->life, "moment", "a writer's number is of another one");
        (void)check_writer(u, cursor, w, n);
    }
    armdb_cursor_close(cursor);
}

/* ---- The threads ---- */

static enum armdb_rc try_transaction(struct user *u, uint64_t n, bool real)
{
    unsigned w = u->number;
    char value[VALUE_MAX];
    char key[32];
    enum armdb_rc rc = ARMDB_OK;

    for (unsigned i = 0; rc == ARMDB_OK && i < TOUCHED; i++) {
        unsigned number = touched_key(u->life, w, n, i);
        size_t len = make_key(w, number, key);

        if (real && is_delete(u->life, w, n, number))
            rc = armdb_delete(u->session, u->table, key, len, &u->err);
        else
            rc = armdb_put(u->session, u->table, key, len, value,
                           make_value(w, number, real ? n : n + 1000000, value), &u->err);
        if (rc == ARMDB_NOT_FOUND)
            rc = ARMDB_OK;
    }
    if (rc == ARMDB_OK)
        rc =
            armdb_put(u->session, u->table, key,
                      (size_t)snprintf(key, sizeof key, "n%u", w), &n, sizeof n, &u->err);
    return rc;
}

/* Now and then a transaction is undone first: open, or prepared. */
static void write_on(void *arg)
{
    static const enum armdb_sync modes[] = {ARMDB_SYNC_OFF, ARMDB_SYNC_NORMAL,
                                            ARMDB_SYNC_FULL};
    struct user *u = arg;
    struct life *life = u->life;
    uint64_t n = 0;

    if (!begin(u, life->store))
        return;
    armdb_table_set_sync(u->table, modes[u->number % 3]);
    while (goes_on(life)) {
        enum armdb_doubt doubt = n % 4 == 0 ? ARMDB_DOUBT_ABORT : ARMDB_DOUBT_COMMIT;
        enum armdb_rc rc = ARMDB_OK;

        n++;
        atomic_store(&life->begun[u->number], n);
        if (n % 7 == 0) {
            rc = try_transaction(u, n, false);
            if (rc == ARMDB_OK && n % 2 == 0)
                rc = armdb_prepare(u->session, doubt, &u->err);
            if (rc == ARMDB_OK)
                rc = armdb_rollback(u->session, &u->err);
        }
        if (rc == ARMDB_OK)
            rc = try_transaction(u, n, true);
        if (rc == ARMDB_OK)
            rc = armdb_prepare(u->session, doubt, &u->err);
        if (rc == ARMDB_OK)
            rc = armdb_commit(u->session, &u->err);
        if (!good(u, rc, "writing"))
            break;
        atomic_store(&life->acknowledged[u->number], n);
    }
    end(u);
}

static void note(const struct life *life, uint64_t numbers[WRITERS], bool acknowledged)
{
    for (unsigned w = 0; w < WRITERS; w++)
        numbers[w] = atomic_load(acknowledged ? &life->acknowledged[w] : &life->begun[w]);
}

static void read_on(void *arg)
{
    struct user *u = arg;
    struct life *life = u->life;

    if (!begin(u, life->store))
        return;
    for (unsigned round = 0; goes_on(life); round++) {
        struct timespec pause = {0, (long)(mix(round + u->number) % 40) * 1000000};
        uint64_t low[WRITERS];
        uint64_t high[WRITERS];

        note(life, low, true);
        if (!good(u, armdb_snapshot_acquire(u->session, &u->err), "snapshot"))
            break;
        note(life, high, false);
        check_all(u, low, high);
        (void)nanosleep(&pause, NULL);
        check_all(u, low, high);
        armdb_snapshot_release(u->session);
        atomic_fetch_add(&life->reads, 1);
    }
    end(u);
}

static void compact_on(void *arg)
{
    struct user *u = arg;

    while (goes_on(u->life)) {
        struct timespec pause = {0, 3000000};
        struct armdb_compact_info info;

        (void)good(u, armdb_compact(u->life->store, NULL, &info, &u->err), "compact");
        atomic_fetch_add(&u->life->compactions, 1);
        (void)nanosleep(&pause, NULL);
    }
}

static void check_copy(struct user *u, const char *path, const uint64_t low[WRITERS],
                       const uint64_t high[WRITERS])
{
    struct armdb_options options;
    struct armdb *store = NULL;

    armdb_options_init(&options);
    options.create = false;
    options.cache_size = 4 << 20;
    if (!good(u, armdb_open(path, &options, &store, &u->err), "opening a backup"))
        return;
    if (begin(u, store) &&
        good(u, armdb_snapshot_acquire(u->session, &u->err), "a backup's snapshot")) {
        check_all(u, low, high);
        armdb_snapshot_release(u->session);
    }
    end(u);
    armdb_close(store);
}

static void back_up(void *arg)
{
    struct user *u = arg;
    struct life *life = u->life;
    char command[300];
    char path[260];

    for (unsigned i = 0; goes_on(life); i++) {
        struct timespec pause = {0, 50000000};
        struct armdb_backup_info info;
        uint64_t low[WRITERS];
        uint64_t high[WRITERS];

        (void)snprintf(path, sizeof path, "%s/copy%u", life->folder, i);
        (void)snprintf(command, sizeof command, "rm -rf '%s'", path);
        note(life, low, true);
        if (!good(u, armdb_backup(life->store, path, NULL, &info, &u->err), "backup"))
            break;
        note(life, high, false);
        check_copy(u, path, low, high);
        if (system(command) != 0)
            complain(life, "backup", "the copy cannot be removed");
        atomic_fetch_add(&life->backups, 1);
        (void)nanosleep(&pause, NULL);
    }
}

static void on_finding(void *arg, const struct armdb_finding *finding)
{
    char text[300];

    (void)snprintf(text, sizeof text, "%s offset %llu: %s",
                   finding->file == NULL ? "-" : finding->file,
                   (unsigned long long)finding->offset, finding->what);
    complain(arg, "verify found", text);
}

static void verify_on(void *arg)
{
    struct user *u = arg;

    while (goes_on(u->life)) {
        struct timespec pause = {0, 20000000};

        (void)good(u, armdb_verify(u->life->store, NULL, on_finding, u->life, &u->err),
                   "verify");
        atomic_fetch_add(&u->life->verifications, 1);
        (void)nanosleep(&pause, NULL);
    }
}

/* ---- The test ---- */

static struct armdb *open_store(struct life *life, const char *path)
{
    struct armdb_options options;
    struct armdb_error err;
    struct armdb *store = NULL;

    armdb_options_init(&options);
    options.segment_size = 1 << 20;
    options.cache_size = 4 << 20;
    options.hint_bytes_min = 1;
    if (armdb_open(path, &options, &store, &err) != ARMDB_OK)
        complain(life, "open", err.text);
    return store;
}

static void make_table(struct life *life)
{
    struct user u = {.life = life};

    if (good(&u, armdb_session_open(life->store, &u.session, &u.err), "session") &&
        good(&u, armdb_table_create(u.session, "life", "", 0, &u.table, &u.err), "table"))
        (void)good(&u, armdb_commit(u.session, &u.err), "table");
    end(&u);
}

static void check_at_the_end(struct life *life)
{
    struct user u = {.life = life};
    uint64_t numbers[WRITERS];

    note(life, numbers, true);
    if (begin(&u, life->store) &&
        good(&u, armdb_snapshot_acquire(u.session, &u.err), "snapshot")) {
        check_all(&u, numbers, numbers);
        armdb_snapshot_release(u.session);
    }
    end(&u);
}

static void live(struct life *life, const char *path)
{
    struct adb_thread threads[THREADS];
    struct user users[THREADS];
    uint64_t transactions = 0;
    unsigned started = 0;

    life->store = open_store(life, path);
    assert_non_null(life->store);
    make_table(life);
    memset(users, 0, sizeof users);
    for (; started < THREADS; started++) {
        unsigned i = started;

        users[i].life = life;
        users[i].number = i;
        if (adb_thread_start(&threads[i],
                             i < WRITERS                          ? write_on
                             : i < WRITERS + READERS              ? read_on
                             : i < WRITERS + READERS + COMPACTORS ? compact_on
                             : i == THREADS - 1                   ? back_up
                                                                  : verify_on,
                             &users[i]) != ARMDB_OK)
            break;
    }
    for (unsigned i = 0; i < started; i++)
        adb_thread_join(&threads[i]);
    assert_int_equal(started, THREADS);
    check_at_the_end(life);
    if (atomic_load(&life->wrong))
        fail_msg("%s", life->text);
    for (unsigned w = 0; w < WRITERS; w++)
        transactions += atomic_load(&life->acknowledged[w]);
    print_message("%llu transactions, %llu snapshots read twice, %llu compactions asked "
                  "for, %llu backups read, %llu verifications\n",
                  (unsigned long long)transactions,
                  (unsigned long long)atomic_load(&life->reads),
                  (unsigned long long)atomic_load(&life->compactions),
                  (unsigned long long)atomic_load(&life->backups),
                  (unsigned long long)atomic_load(&life->verifications));
    assert_true(transactions > 0 && atomic_load(&life->reads) > 0 &&
                atomic_load(&life->compactions) > 0 && atomic_load(&life->backups) > 0);
    armdb_close(life->store);
}

static void prepare_life(struct life *life)
{
    const char *tmp = getenv("TMPDIR");
    const char *seconds = getenv("SECONDS");
    const char *seed = getenv("SEED");

    memset(life, 0, sizeof *life);
    life->seed = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    print_message("SEED=%llu\n", (unsigned long long)life->seed);
    (void)snprintf(life->folder, sizeof life->folder, "%s/armdb_test_life_XXXXXX",
                   tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(life->folder));
    life->until_ns =
        adb_mono_ns() +
        (seconds != NULL && seconds[0] != '\0' ? strtoull(seconds, NULL, 10) : 4) *
            UINT64_C(1000000000);
}

static void remove_folder(const struct life *life)
{
    char command[300];

    (void)snprintf(command, sizeof command, "rm -rf '%s'", life->folder);
    assert_int_equal(system(command), 0);
}

static void every_read_is_of_one_moment_whatever_goes_on(void **state)
{
    static struct life life;
    char path[260];

    (void)state;
    prepare_life(&life);
    (void)snprintf(path, sizeof path, "%s/store", life.folder);
    live(&life, path);
    life.store = open_store(&life, path);
    assert_non_null(life.store);
    check_at_the_end(&life);
    if (atomic_load(&life.wrong))
        fail_msg("opened again: %s", life.text);
    armdb_close(life.store);
    remove_folder(&life);
}

static void so_it_is_in_memory(void **state)
{
    static struct life life;

    (void)state;
    prepare_life(&life);
    live(&life, ":memory:");
    remove_folder(&life);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_read_is_of_one_moment_whatever_goes_on),
        cmocka_unit_test(so_it_is_in_memory),
    };

    return cmocka_run_group_tests_name("life", tests, NULL, NULL);
}

/* Compactions while threads read and write, and that the background ends.
 *
 * Writers own their keys: each knows what its keys must hold. Readers hold snapshots: a
 * key read twice in one snapshot has one value, and a value names its key. Compactions
 * run on demand and in the background all the while. Asserts are on the main thread. */
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

static char folder[256];
static struct armdb_error err;

#define OK(call) assert_int_equal((call), ARMDB_OK)

enum { WRITERS = 2, READERS = 2, KEYS = 150, ROUNDS = 12, VALUE = 1200 };

static int make_folder(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)state;
    (void)snprintf(folder, sizeof folder, "%s/armdb_test_compact_threads_XXXXXX",
                   tmp != NULL ? tmp : "/tmp");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    char command[300];

    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) != 0;
}

static struct armdb *open_store(void)
{
    struct armdb_options options;
    struct armdb *store = NULL;

    armdb_options_init(&options);
    options.segment_size = 1 << 20;
    options.shards = 2;
    OK(armdb_open(folder, &options, &store, &err));
    return store;
}

/* ---- One user on one thread; the first thing that goes wrong is kept ---- */

struct user {
    struct armdb *store;
    struct armdb_session *session;
    struct armdb_table *table;
    struct armdb_error err;
    unsigned index;
    int held[KEYS]; /* what a writer's keys hold, -1: nothing */
    _Atomic bool *stop;
    char wrong[200];
};

static bool good(struct user *u, enum armdb_rc rc, const char *what)
{
    if (rc == ARMDB_OK)
        return true;
    if (u->wrong[0] == '\0')
        (void)snprintf(u->wrong, sizeof u->wrong, "%s: %s (%.120s)", what,
                       adb_rc_name(rc), u->err.text);
    return false;
}

static bool begin(struct user *u)
{
    return good(u, armdb_session_open(u->store, &u->session, &u->err), "session") &&
           good(u, armdb_table_open(u->session, "t", NULL, &u->table, &u->err), "table");
}

static void end(struct user *u)
{
    armdb_table_close(u->table);
    armdb_session_close(u->session);
}

/* The number that the key's value holds, -1 when there is no row, -2 when wrong. */
static int get(struct user *u, unsigned owner, unsigned k)
{
    struct armdb_cursor *cursor = NULL;
    struct armdb_value value;
    char key[32];
    unsigned got_owner;
    unsigned got_k;
    int got = -1;
    enum armdb_rc rc;

    (void)snprintf(key, sizeof key, "w%u-%04u", owner, k);
    armdb_statement_begin(u->session);
    if (!good(u, armdb_cursor_open(u->session, u->table, &cursor, &u->err), "cursor"))
        return -2;
    rc = armdb_cursor_seek_key(cursor, key, strlen(key), &u->err);
    if (rc == ARMDB_OK && good(u, armdb_cursor_value(cursor, &value, &u->err), "value")) {
        char text[64] = {0};

        memcpy(text, value.data, sizeof text - 1);
        if (value.len != VALUE ||
            sscanf(text, "%u:%u:%d", &got_owner, &got_k, &got) != 3 ||
            got_owner != owner || got_k != k)
            got = -2;
    } else if (rc != ARMDB_DONE) {
        (void)good(u, rc, "seek");
        got = -2;
    }
    armdb_cursor_close(cursor);
    return got;
}

static enum armdb_rc put(struct user *u, unsigned k, int number)
{
    char key[32];
    char value[VALUE];

    memset(value, 'v', sizeof value);
    (void)snprintf(key, sizeof key, "w%u-%04u", u->index, k);
    (void)snprintf(value, sizeof value, "%u:%u:%d", u->index, k, number);
    return armdb_put(u->session, u->table, key, strlen(key), value, sizeof value,
                     &u->err);
}

static void write_keys(void *arg)
{
    struct user *u = arg;

    if (!begin(u))
        return;
    armdb_table_set_sync(u->table, u->index == 0 ? ARMDB_SYNC_NORMAL : ARMDB_SYNC_OFF);
    for (int round = 0; round < ROUNDS && u->wrong[0] == '\0'; round++) {
        for (unsigned k = 0; k < KEYS && u->wrong[0] == '\0'; k++) {
            char key[32];

            (void)snprintf(key, sizeof key, "w%u-%04u", u->index, k);
            if ((k + (unsigned)round) % 5 == 0 && round > 0) {
                (void)good(u,
                           armdb_delete(u->session, u->table, key, strlen(key), &u->err),
                           "delete");
                u->held[k] = -1;
            } else {
                (void)good(u, put(u, k, round), "put");
                u->held[k] = round;
            }
            if (k % 10 == 9)
                (void)good(u, armdb_commit(u->session, &u->err), "commit");
        }
        (void)good(u, armdb_commit(u->session, &u->err), "commit");
        for (unsigned k = 0; k < KEYS; k++)
            if (get(u, u->index, k) != u->held[k] && u->wrong[0] == '\0')
                (void)snprintf(u->wrong, sizeof u->wrong, "key %u in round %d", k, round);
    }
    end(u);
}

static void read_keys(void *arg)
{
    struct user *u = arg;
    int first[KEYS];

    if (!begin(u))
        return;
    while (!atomic_load_explicit(u->stop, memory_order_relaxed) && u->wrong[0] == '\0') {
        if (!good(u, armdb_snapshot_acquire(u->session, &u->err), "snapshot"))
            break;
        for (int pass = 0; pass < 2; pass++)
            for (unsigned k = 0; k < KEYS; k++) {
                int got = get(u, u->index % WRITERS, k);

                if (pass == 0)
                    first[k] = got;
                if ((got == -2 || got != first[k]) && u->wrong[0] == '\0')
                    (void)snprintf(u->wrong, sizeof u->wrong,
                                   "key %u read as %d, then as %d", k, first[k], got);
            }
        armdb_snapshot_release(u->session);
    }
    end(u);
}

static void compact_on(void *arg)
{
    struct user *u = arg;

    while (!atomic_load_explicit(u->stop, memory_order_relaxed) && u->wrong[0] == '\0') {
        struct armdb_compact_info info;

        (void)good(u, armdb_compact(u->store, NULL, &info, &u->err), "compact");
    }
}

static void make_table(struct armdb *store)
{
    struct armdb_session *session;
    struct armdb_table *table;

    OK(armdb_session_open(store, &session, &err));
    OK(armdb_table_create(session, "t", "schema", 6, &table, &err));
    OK(armdb_commit(session, &err));
    armdb_table_close(table);
    armdb_session_close(session);
}

static void expect_held(const struct user *users)
{
    struct armdb *store = open_store();
    struct user reader = {.store = store};

    assert_true(begin(&reader));
    for (unsigned w = 0; w < WRITERS; w++)
        for (unsigned k = 0; k < KEYS; k++)
            assert_int_equal(get(&reader, w, k), users[w].held[k]);
    end(&reader);
    armdb_close(store);
}

static void readers_and_writers_see_nothing_of_compactions(void **state)
{
    struct armdb *store = open_store();
    struct user users[WRITERS + READERS + 1];
    struct adb_thread threads[WRITERS + READERS + 1];
    _Atomic bool stop;

    (void)state;
    atomic_init(&stop, false);
    make_table(store);
    memset(users, 0, sizeof users);
    for (unsigned i = 0; i <= WRITERS + READERS; i++) {
        users[i].store = store;
        users[i].index = i;
        users[i].stop = &stop;
        OK(adb_thread_start(&threads[i],
                            i < WRITERS             ? write_keys
                            : i < WRITERS + READERS ? read_keys
                                                    : compact_on,
                            &users[i]));
    }
    for (unsigned i = 0; i < WRITERS; i++)
        adb_thread_join(&threads[i]);
    atomic_store_explicit(&stop, true, memory_order_relaxed);
    for (unsigned i = WRITERS; i <= WRITERS + READERS; i++)
        adb_thread_join(&threads[i]);
    for (unsigned i = 0; i <= WRITERS + READERS; i++)
        assert_string_equal(users[i].wrong, "");
    armdb_close(store);
    expect_held(users);
}

/* ---- Keys that are taken and let go ---- */

static void take_keys(void *arg)
{
    const struct timespec hold = {0, 1000000};
    struct user *u = arg;
    unsigned random = 1;

    if (!begin(u))
        return;
    while (!atomic_load_explicit(u->stop, memory_order_relaxed) && u->wrong[0] == '\0') {
        for (int i = 0; i < 20; i++) {
            char key[32];
            enum armdb_rc rc;

            random = random * 1103515245u + 12345u;
            (void)snprintf(key, sizeof key, "w0-%04u", (random >> 8) % KEYS);
            rc = armdb_lock_key(u->session, u->table, key, strlen(key), &u->err);
            if (rc == ARMDB_BUSY || rc == ARMDB_BUSY_SNAPSHOT)
                break;
            if (rc != ARMDB_EXISTS)
                (void)good(u, rc, "lock");
        }
        (void)nanosleep(&hold, NULL);
        (void)good(u, armdb_rollback(u->session, &u->err), "rollback");
    }
    end(u);
}

/* Overwrites every second key in one transaction, until no key of it is taken. */
static void overwrite(struct user *u, int number)
{
    enum armdb_rc rc = ARMDB_BUSY;

    while (rc == ARMDB_BUSY) {
        rc = ARMDB_OK;
        for (unsigned k = (unsigned)number % 2; k < KEYS && rc == ARMDB_OK; k += 2) {
            rc = put(u, k, number);
            u->held[k] = number;
        }
        if (rc == ARMDB_BUSY) {
            OK(armdb_rollback(u->session, &u->err));
            OK(armdb_wait(u->session, 30000));
        }
    }
    OK(rc);
    OK(armdb_commit(u->session, &u->err));
}

static void rows_whose_keys_are_taken_meanwhile_are_moved_and_found(void **state)
{
    struct armdb *store = open_store();
    struct user writer = {.store = store};
    struct user taker = {.store = store};
    struct adb_thread thread;
    _Atomic bool stop;
    int lost = 0;

    (void)state;
    atomic_init(&stop, false);
    taker.stop = &stop;
    make_table(store);
    assert_true(begin(&writer));
    armdb_table_set_sync(writer.table, ARMDB_SYNC_OFF);
    overwrite(&writer, 0);
    overwrite(&writer, 1);
    OK(adb_thread_start(&thread, take_keys, &taker));
    for (int round = 2; round < 60 && lost == 0; round++) {
        struct armdb_compact_info info;

        overwrite(&writer, round);
        OK(armdb_compact(store, NULL, &info, &err));
        for (unsigned k = 0; k < KEYS; k++)
            lost += get(&writer, 0, k) != writer.held[k];
    }
    atomic_store_explicit(&stop, true, memory_order_relaxed);
    adb_thread_join(&thread);
    assert_string_equal(taker.wrong, "");
    assert_string_equal(writer.wrong, "");
    assert_int_equal(lost, 0);
    end(&writer);
    armdb_close(store);
}

/* ---- The background ends ---- */

struct numbers {
    uint64_t moved;
    uint64_t runs;
};

static void find_numbers(void *arg, const struct armdb_stat *row)
{
    struct numbers *numbers = arg;

    if (strcmp(row->name, "compact_bytes_moved") == 0)
        numbers->moved = row->value;
    if (strcmp(row->name, "compactions") == 0)
        numbers->runs = row->value;
}

/* Rows above half a page leave a gap behind each: no dead bytes. */
static void the_background_comes_to_rest_with_rows_above_half_a_page(void **state)
{
    enum { ROWS = 600, LARGE = 2600 };
    static char value[LARGE];
    struct armdb *store = open_store();
    struct user u = {.store = store};
    struct numbers last = {0, 0};
    unsigned quiet = 0;

    (void)state;
    make_table(store);
    assert_true(begin(&u));
    armdb_table_set_sync(u.table, ARMDB_SYNC_OFF);
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned k = 0; k < ROWS; k++) {
            OK(armdb_put(u.session, u.table, &k, sizeof k, value, sizeof value, &err));
            if (k % 20 == 19)
                OK(armdb_commit(u.session, &err));
        }
        OK(armdb_flush(store, &err));
    }
    for (unsigned i = 0; i < 300 && quiet < 25; i++) {
        struct timespec pause = {0, 20000000};
        struct numbers now = {0, 0};

        (void)nanosleep(&pause, NULL);
        armdb_stat_each(u.table, find_numbers, &now);
        quiet = now.runs == last.runs && now.runs > 0 ? quiet + 1 : 0;
        last = now;
    }
    assert_int_equal(quiet, 25);
    assert_true(last.runs > 0);
    assert_true(last.moved < 8 * (uint64_t)ROWS * 4096);
    end(&u);
    armdb_close(store);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(readers_and_writers_see_nothing_of_compactions),
        TEST(rows_whose_keys_are_taken_meanwhile_are_moved_and_found),
        TEST(the_background_comes_to_rest_with_rows_above_half_a_page),
    };

    return cmocka_run_group_tests_name("compact_threads", tests, NULL, NULL);
}

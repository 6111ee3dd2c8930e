/* Statistics, segments and the list of stores, read all the time while threads write,
 * read, compact, open and close. No counter ever falls, and in the end all are what was
 * done. Also under ThreadSanitizer. Asserts are on the main thread. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/armdb.h"
#include "engine/base/thread.h"

enum { WRITERS = 2, KEYS = 200, ROUNDS = 60, VALUE = 900, NAMES_MAX = 200 };

static char folder[200];
static struct armdb_error err;

#define OK(call) assert_int_equal((call), ARMDB_OK)

static int make_folder(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)state;
    (void)snprintf(folder, sizeof folder, "%s/armdb_test_stat_threads_XXXXXX",
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

/* ---- One user on one thread; the first thing that goes wrong is kept ---- */

struct user {
    struct armdb *store;
    struct armdb_session *session;
    struct armdb_table *table;
    struct armdb_error err;
    unsigned index;
    _Atomic bool *stop;
    uint64_t puts, deletes, commits, bytes, gets; /* done */
    uint64_t rounds;
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

static bool open_store(struct user *u)
{
    struct armdb_options options;

    armdb_options_init(&options);
    options.segment_size = 1 << 20;
    options.shards = 2;
    options.cache_size = 4 << 20;
    options.hint_bytes_min = 0;
    return good(u, armdb_open(folder, &options, &u->store, &u->err), "open");
}

static bool begin(struct user *u)
{
    return open_store(u) &&
           good(u, armdb_session_open(u->store, &u->session, &u->err), "session") &&
           good(u, armdb_table_open(u->session, "t", NULL, &u->table, &u->err), "table");
}

static void end(struct user *u)
{
    armdb_table_close(u->table);
    armdb_session_close(u->session);
    armdb_close(u->store);
    u->table = NULL;
    u->session = NULL;
    u->store = NULL;
}

static bool is_stopped(const struct user *u)
{
    return u->wrong[0] != '\0' || atomic_load_explicit(u->stop, memory_order_relaxed);
}

/* ---- What the threads do ---- */

/* One transaction: some rows of the writer's own written, some deleted. */
static void write_some(struct user *u, unsigned round)
{
    static const char value[VALUE] = "value";
    char key[32];

    armdb_table_set_sync(u->table, round % 4 == 0 ? ARMDB_SYNC_FULL : ARMDB_SYNC_OFF);
    for (unsigned i = 0; i < KEYS && u->wrong[0] == '\0'; i++) {
        size_t len = (size_t)snprintf(key, sizeof key, "w%u-%04u", u->index, i);

        if (round > 0 && (i + round) % 5 == 0) { /* it was put a round ago */
            (void)good(u, armdb_delete(u->session, u->table, key, len, &u->err),
                       "delete");
            u->deletes++;
            u->bytes += len;
        } else {
            (void)good(u,
                       armdb_put(u->session, u->table, key, len, value, VALUE, &u->err),
                       "put");
            u->puts++;
            u->bytes += len + VALUE;
        }
    }
    if (good(u, armdb_commit(u->session, &u->err), "commit"))
        u->commits++;
}

static void write_rows(void *arg)
{
    struct user *u = arg;

    for (unsigned round = 0; round < ROUNDS && u->wrong[0] == '\0'; round++)
        write_some(u, round);
}

static void read_rows(void *arg)
{
    struct user *u = arg;

    while (!is_stopped(u)) {
        struct armdb_cursor *cursor = NULL;
        struct armdb_value value;
        char key[32];
        size_t len =
            (size_t)snprintf(key, sizeof key, "w%u-%04u", (unsigned)(u->gets % WRITERS),
                             (unsigned)(u->gets * 7 % KEYS));
        enum armdb_rc rc;

        armdb_statement_begin(u->session);
        if (!good(u, armdb_cursor_open(u->session, u->table, &cursor, &u->err), "cursor"))
            return;
        rc = armdb_cursor_seek_key(cursor, key, len, &u->err);
        u->gets++;
        if (rc == ARMDB_OK)
            (void)good(u, armdb_cursor_value(cursor, &value, &u->err), "value");
        else if (rc != ARMDB_DONE)
            (void)good(u, rc, "seek");
        armdb_cursor_close(cursor);
    }
}

static void compact(void *arg)
{
    struct user *u = arg;

    while (!is_stopped(u)) {
        struct armdb_compact_info info;

        armdb_compact_pause(u->store, u->rounds++ % 2 == 0);
        (void)good(u, armdb_compact(u->store, NULL, &info, &u->err), "compact");
    }
}

/* ---- Watching ---- */

/* What must not fall. */
static bool is_rising(const char *name)
{
    static const char *const rising[] = {"gets",
                                         "seeks",
                                         "scans",
                                         "scan_steps",
                                         "puts",
                                         "inserts",
                                         "deletes",
                                         "bytes_user",
                                         "nodes_touched",
                                         "values_read",
                                         "commits",
                                         "rollbacks",
                                         "bytes_appended",
                                         "frames",
                                         "flushes",
                                         "syncs",
                                         "bytes_written",
                                         "file_writes",
                                         "file_syncs",
                                         "file_reads",
                                         "bytes_read",
                                         "latency_commit_count",
                                         "latency_commit_sum",
                                         "latency_commit_max",
                                         "latency_sync_count",
                                         "latency_sync_max",
                                         "latency_seek_count",
                                         "gsn_last",
                                         "gsn_durable",
                                         "commits_visible",
                                         "cache_hits",
                                         "cache_misses",
                                         "pages_read",
                                         "cache_evictions",
                                         "compactions",
                                         "compact_bytes_moved",
                                         "uptime"};

    for (size_t i = 0; i < sizeof rising / sizeof rising[0]; i++)
        if (strcmp(name, rising[i]) == 0)
            return true;
    return false;
}

struct watch {
    struct user *u;
    uint64_t before[NAMES_MAX];
    size_t at;
    uint64_t p50, p999; /* of commits */
};

static void look_at_stat(void *arg, const struct armdb_stat *row)
{
    struct watch *w = arg;
    size_t at = w->at++;

    if (at >= NAMES_MAX)
        return;
    if (is_rising(row->name) && row->value < w->before[at] && w->u->wrong[0] == '\0')
        (void)snprintf(w->u->wrong, sizeof w->u->wrong, "%s fell from %llu to %llu",
                       row->name, (unsigned long long)w->before[at],
                       (unsigned long long)row->value);
    w->before[at] = row->value;
    if (strcmp(row->name, "latency_commit_p50") == 0)
        w->p50 = row->value;
    if (strcmp(row->name, "latency_commit_p999") == 0)
        w->p999 = row->value;
}

static void look_at_segment(void *arg, const struct armdb_segment *segment)
{
    struct watch *w = arg;

    if ((segment->live_bytes > segment->length || segment->gsn_low > segment->gsn_high ||
         segment->shard >= 2) &&
        w->u->wrong[0] == '\0')
        (void)snprintf(
            w->u->wrong, sizeof w->u->wrong,
            "%s: %llu live bytes of %llu, GSNs %llu to %llu", segment->name,
            (unsigned long long)segment->live_bytes, (unsigned long long)segment->length,
            (unsigned long long)segment->gsn_low, (unsigned long long)segment->gsn_high);
}

static void look_at_store(void *arg, const struct armdb_store_info *info)
{
    uint64_t *sessions = arg;

    if (strcmp(info->path, folder) == 0)
        *sessions = info->sessions;
}

static void watch_all(void *arg)
{
    struct watch w = {.u = arg};
    struct user *u = w.u;

    while (!is_stopped(u)) {
        uint64_t sessions = 0;

        w.at = 0;
        armdb_stat_each(u->table, look_at_stat, &w);
        (void)good(u, armdb_segment_each(u->store, look_at_segment, &w, &u->err),
                   "segments");
        (void)good(u, armdb_store_each(look_at_store, &sessions, &u->err), "stores");
        if ((sessions == 0 || w.p50 > w.p999) && u->wrong[0] == '\0')
            (void)snprintf(u->wrong, sizeof u->wrong,
                           "%llu sessions, p50 %llu, p999 %llu",
                           (unsigned long long)sessions, (unsigned long long)w.p50,
                           (unsigned long long)w.p999);
        u->rounds++;
    }
}

/* Sessions that come and go, while what they counted is added up. */
static void come_and_go(void *arg)
{
    struct user *u = arg;

    while (!is_stopped(u)) {
        struct user visitor = {.stop = u->stop};

        if (begin(&visitor)) {
            struct armdb_cursor *cursor = NULL;

            (void)good(
                &visitor,
                armdb_cursor_open(visitor.session, visitor.table, &cursor, &visitor.err),
                "cursor");
            if (armdb_cursor_seek_key(cursor, "w0-0001", 7, &visitor.err) < 0)
                (void)good(&visitor, ARMDB_INTERNAL, "seek");
            u->gets++;
            armdb_cursor_close(cursor);
        }
        end(&visitor);
        memcpy(u->wrong, visitor.wrong, sizeof u->wrong);
    }
}

/* ---- The tests ---- */

enum { READER = WRITERS, COMPACTOR, VISITOR, WATCHER, WATCHER_TOO, USERS };

static void find_number(void *arg, const struct armdb_stat *row)
{
    struct armdb_stat *wanted = arg;

    if (strcmp(row->name, wanted->name) == 0)
        wanted->value = row->value;
}

static uint64_t ask(const struct user *u, const char *name)
{
    struct armdb_stat wanted = {.name = name, .value = UINT64_MAX};

    armdb_stat_each(u->table, find_number, &wanted);
    return wanted.value;
}

static void make_table(struct user *u)
{
    assert_true(open_store(u));
    OK(armdb_session_open(u->store, &u->session, &err));
    OK(armdb_table_create(u->session, "t", "", 0, &u->table, &err));
    OK(armdb_commit(u->session, &err));
}

static void no_counter_falls_and_all_are_right_in_the_end(void **state)
{
    static void (*const work[USERS])(void *) = {
        write_rows, write_rows, read_rows, compact, come_and_go, watch_all, watch_all};
    struct user users[USERS];
    struct adb_thread threads[USERS];
    struct user u;
    _Atomic bool stop = false;
    uint64_t puts;
    uint64_t deletes;
    uint64_t commits;
    uint64_t bytes;
    uint64_t gets;

    (void)state;
    memset(&u, 0, sizeof u);
    memset(users, 0, sizeof users);
    make_table(&u);
    for (unsigned i = 0; i < USERS; i++) {
        users[i].index = i;
        users[i].stop = &stop;
        assert_true(begin(&users[i]));
    }
    puts = ask(&u, "puts");
    deletes = ask(&u, "deletes");
    commits = ask(&u, "commits");
    bytes = ask(&u, "bytes_user");
    gets = ask(&u, "gets");
    for (unsigned i = 0; i < USERS; i++)
        OK(adb_thread_start(&threads[i], work[i], &users[i]));
    for (unsigned i = 0; i < WRITERS; i++)
        adb_thread_join(&threads[i]);
    atomic_store_explicit(&stop, true, memory_order_relaxed);
    for (unsigned i = WRITERS; i < USERS; i++)
        adb_thread_join(&threads[i]);
    for (unsigned i = 0; i < USERS; i++) {
        assert_string_equal(users[i].wrong, "");
        puts += users[i].puts;
        deletes += users[i].deletes;
        commits += users[i].commits;
        bytes += users[i].bytes;
        gets += users[i].gets;
        end(&users[i]); /* what they counted stays */
    }
    assert_true(users[WATCHER].rounds > 3);
    assert_int_equal(ask(&u, "puts"), puts);
    assert_int_equal(ask(&u, "deletes"), deletes);
    assert_int_equal(ask(&u, "commits"), commits);
    assert_int_equal(ask(&u, "latency_commit_count"), commits);
    assert_int_equal(ask(&u, "bytes_user"), bytes);
    assert_int_equal(ask(&u, "gets"), gets);
    assert_int_equal(ask(&u, "sessions"), 1);
    assert_int_equal(ask(&u, "latency_sync_count"), ask(&u, "syncs"));
    end(&u);
}

enum { CLOSERS = 3, CLOSES = 12 };

/* Opens the store, writes, looks at everything and closes it: who is last closes it for
 * all. */
static void open_and_close(void *arg)
{
    struct user *u = arg;

    for (unsigned i = 0; i < CLOSES && u->wrong[0] == '\0'; i++) {
        struct watch w = {.u = u};

        if (begin(u)) {
            write_some(u, i);
            armdb_stat_each(u->table, look_at_stat, &w);
            (void)good(u, armdb_segment_each(u->store, look_at_segment, &w, &u->err),
                       "segments");
        }
        end(u);
    }
}

static void list_stores(void *arg)
{
    struct user *u = arg;

    while (!is_stopped(u)) {
        uint64_t sessions = 0;

        (void)good(u, armdb_store_each(look_at_store, &sessions, &u->err), "stores");
        u->rounds++;
    }
}

static void stores_are_listed_while_they_open_and_close(void **state)
{
    struct user users[CLOSERS + 1];
    struct adb_thread threads[CLOSERS + 1];
    struct user u;
    _Atomic bool stop = false;

    (void)state;
    memset(&u, 0, sizeof u);
    memset(users, 0, sizeof users);
    make_table(&u);
    end(&u);
    for (unsigned i = 0; i <= CLOSERS; i++) {
        users[i].index = i;
        users[i].stop = &stop;
        OK(adb_thread_start(&threads[i], i < CLOSERS ? open_and_close : list_stores,
                            &users[i]));
    }
    for (unsigned i = 0; i < CLOSERS; i++)
        adb_thread_join(&threads[i]);
    atomic_store_explicit(&stop, true, memory_order_relaxed);
    adb_thread_join(&threads[CLOSERS]);
    for (unsigned i = 0; i <= CLOSERS; i++)
        assert_string_equal(users[i].wrong, "");
    assert_true(users[CLOSERS].rounds > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)
        TEST(no_counter_falls_and_all_are_right_in_the_end),
        TEST(stores_are_listed_while_they_open_and_close),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The statistics against a model of known operations: counters are exact, bytes add up,
 * and reading disturbs nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/armdb.h"
#include "engine/log/record.h"

enum { KEYS = 40, ROWS_MAX = 160, VALUE_MAX = 3000, TRANSACTIONS = 150 };

static char folder[200];
static struct armdb_error err;
static uint64_t seed;
static uint64_t hint_bytes_min; /* of stores that are opened; UINT64_MAX: no hints */

#define OK(call) assert_int_equal((call), ARMDB_OK)

static uint64_t next_random(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % below;
}

static int make_folder(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)state;
    (void)snprintf(folder, sizeof folder, "%s/armdb_test_stat_XXXXXX",
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

struct user {
    struct armdb *store;
    struct armdb_session *session;
    struct armdb_table *table;
};

static void open_user(struct user *u, const char *path)
{
    struct armdb_options options;

    armdb_options_init(&options);
    options.segment_size = 1 << 20;
    options.cache_size = 8 << 20;
    options.compact_off = true;
    options.hint_bytes_min = hint_bytes_min;
    OK(armdb_open(path, &options, &u->store, &err));
    OK(armdb_session_open(u->store, &u->session, &err));
    if (armdb_table_open(u->session, "t", NULL, &u->table, &err) == ARMDB_NOT_FOUND) {
        OK(armdb_table_create(u->session, "t", "", 0, &u->table, &err));
        OK(armdb_commit(u->session, &err));
    }
}

static void close_user(struct user *u)
{
    armdb_table_close(u->table);
    armdb_session_close(u->session);
    armdb_close(u->store);
}

/* ---- All rows at once ---- */

struct stats {
    struct {
        char name[48];
        char text[300];
        char unit[8];
        uint64_t value;
        double ratio;
    } rows[ROWS_MAX];
    size_t count;
};

static void keep(void *arg, const struct armdb_stat *row)
{
    struct stats *stats = arg;

    assert_true(stats->count < ROWS_MAX);
    (void)snprintf(stats->rows[stats->count].name, 48, "%s", row->name);
    (void)snprintf(stats->rows[stats->count].text, 300, "%s",
                   row->text != NULL ? row->text : "");
    (void)snprintf(stats->rows[stats->count].unit, 8, "%s", row->unit);
    stats->rows[stats->count].value = row->value;
    stats->rows[stats->count++].ratio = row->ratio;
}

static struct stats *read_stats(const struct user *u)
{
    struct stats *stats = test_calloc(1, sizeof *stats);

    armdb_stat_each(u->table, keep, stats);
    return stats;
}

static size_t place_of(const struct stats *stats, const char *name)
{
    for (size_t i = 0; i < stats->count; i++)
        if (strcmp(stats->rows[i].name, name) == 0)
            return i;
    fail_msg("there is no statistic %s", name);
    return 0;
}

static uint64_t value_of(const struct stats *stats, const char *name)
{
    return stats->rows[place_of(stats, name)].value;
}

static uint64_t ask(const struct user *u, const char *name)
{
    struct stats *stats = read_stats(u);
    uint64_t value = value_of(stats, name);

    test_free(stats);
    return value;
}

static double ask_ratio(const struct user *u, const char *name)
{
    struct stats *stats = read_stats(u);
    double value = stats->rows[place_of(stats, name)].ratio;

    test_free(stats);
    return value;
}

static void every_name_is_there_once_and_has_a_known_unit(void **state)
{
    static const char *const units[] = {"bytes", "count", "ns", "ms", "ratio", ""};
    struct user u;
    struct stats *stats;

    (void)state;
    open_user(&u, ":memory:");
    stats = read_stats(&u);
    assert_true(stats->count > 80);
    for (size_t i = 0; i < stats->count; i++) {
        bool known = false;

        assert_int_equal(place_of(stats, stats->rows[i].name), i);
        for (size_t k = 0; k < sizeof units / sizeof units[0]; k++)
            known = known || strcmp(stats->rows[i].unit, units[k]) == 0;
        assert_true(known);
    }
    test_free(stats);
    close_user(&u);
}

/* ---- Counters and bytes against a model ---- */

struct model {
    /* What the store must say, counted from the beginning of the test. */
    uint64_t gets, seeks, scans, scan_steps, puts, inserts, deletes, values_read;
    uint64_t commits, rollbacks, bytes_user, records, live, frames;
    /* Rows: committed, and as the open transaction has them; 0 = none, else length + 1.
     */
    uint32_t committed[KEYS];
    uint32_t now[KEYS];
    bool wrote[KEYS]; /* in the open transaction */
};

static size_t make_key(char *key, unsigned k)
{
    return (size_t)snprintf(key, 16, "key-%0*u", (int)(1 + k % 7), k);
}

static uint64_t size_of(unsigned k, uint32_t state)
{
    char key[16];
    struct record record = {.kind = state != 0 ? RECORD_PUT : RECORD_DELETE, .table = 1};

    record.key = (const unsigned char *)key;
    record.key_len = make_key(key, k);
    record.value_len = state != 0 ? state - 1 : 0;
    return record_size(&record);
}

static void write_something(struct user *u, struct model *m)
{
    static char value[VALUE_MAX];
    char key[16];
    unsigned k = (unsigned)next_random(KEYS);
    size_t key_len = make_key(key, k);
    uint32_t len = (uint32_t)next_random(VALUE_MAX);
    bool live = m->now[k] != 0;

    memset(value, 'a' + (int)k % 26, len);
    switch (next_random(3)) {
    case 0:
        OK(armdb_put(u->session, u->table, key, key_len, value, len, &err));
        m->puts++;
        m->wrote[k] = true;
        m->now[k] = len + 1;
        break;
    case 1:
        assert_int_equal(
            armdb_insert(u->session, u->table, key, key_len, value, len, &err),
            live ? ARMDB_EXISTS : ARMDB_OK);
        m->inserts++;
        if (!live) {
            m->wrote[k] = true;
            m->now[k] = len + 1;
        }
        break;
    default:
        assert_int_equal(armdb_delete(u->session, u->table, key, key_len, &err),
                         live ? ARMDB_OK : ARMDB_NOT_FOUND);
        m->deletes++;
        m->wrote[k] = m->wrote[k] || live;
        m->now[k] = 0;
        break;
    }
}

static void account(struct model *m)
{
    bool any = false;

    for (unsigned k = 0; k < KEYS; k++) {
        char key[16];

        if (!m->wrote[k] || (m->now[k] == 0 && m->committed[k] == 0))
            continue; /* untouched, or it came and went */
        any = true;
        m->records += size_of(k, m->now[k]);
        m->bytes_user += make_key(key, k) + (m->now[k] != 0 ? m->now[k] - 1 : 0);
        if (m->now[k] != 0)
            m->live += size_of(k, m->now[k]);
        if (m->committed[k] != 0)
            m->live -= size_of(k, m->committed[k]);
        m->committed[k] = m->now[k];
    }
    m->frames += any;
}

static void run_transaction(struct user *u, struct model *m)
{
    memset(m->wrote, 0, sizeof m->wrote);
    for (uint64_t n = next_random(6) + 1; n > 0; n--)
        write_something(u, m);
    if (next_random(5) == 0) {
        OK(armdb_rollback(u->session, &err));
        m->rollbacks++;
        memcpy(m->now, m->committed, sizeof m->now);
        return;
    }
    OK(armdb_commit(u->session, &err));
    m->commits++;
    account(m);
}

static unsigned count_live(const struct model *m)
{
    unsigned count = 0;

    for (unsigned k = 0; k < KEYS; k++)
        count += m->committed[k] != 0;
    return count;
}

static void read_value(struct armdb_cursor *cursor, struct model *m)
{
    struct armdb_value value;

    OK(armdb_cursor_value(cursor, &value, &err));
    OK(armdb_cursor_value(cursor, &value, &err)); /* the same one: read once */
    m->values_read++;
}

static void read_something(struct user *u, struct model *m)
{
    struct armdb_cursor *cursor;
    struct armdb_range range = {0};
    struct armdb_key keys[KEYS];
    char bytes[KEYS][16];
    unsigned k = (unsigned)next_random(KEYS);
    unsigned count = (unsigned)next_random(KEYS);
    unsigned live = count_live(m);

    armdb_statement_begin(u->session);
    OK(armdb_cursor_open(u->session, u->table, &cursor, &err));
    m->seeks++;
    switch (next_random(3)) {
    case 0:
        assert_int_equal(
            armdb_cursor_seek_key(cursor, bytes[0], make_key(bytes[0], k), &err),
            m->committed[k] != 0 ? ARMDB_OK : ARMDB_DONE);
        m->gets++;
        if (m->committed[k] != 0)
            read_value(cursor, m);
        break;
    case 1:
        for (unsigned i = 0; i < count; i++)
            keys[i] = (struct armdb_key){bytes[i], make_key(bytes[i], i)};
        assert_true(armdb_cursor_seek_keys(cursor, keys, count, &err) >= 0);
        m->gets += count;
        break;
    default:
        assert_int_equal(armdb_cursor_seek_range(cursor, &range, &err),
                         live > 0 ? ARMDB_OK : ARMDB_DONE);
        m->scans++;
        m->scan_steps += live > 0;
        for (unsigned i = 1; i <= count && live > 0; i++) {
            if (next_random(4) == 0)
                read_value(cursor, m);
            m->scan_steps += i < live;
            if (armdb_cursor_next(cursor, &err) == ARMDB_DONE)
                break;
        }
        break;
    }
    armdb_cursor_close(cursor);
}

static void check(const struct user *u, const struct model *m, const struct stats *first)
{
    struct stats *s = read_stats(u);

#define SINCE(name) (value_of(s, #name) - value_of(first, #name))
    assert_int_equal(SINCE(gets), m->gets);
    assert_int_equal(SINCE(seeks), m->seeks);
    assert_int_equal(SINCE(scans), m->scans);
    assert_int_equal(SINCE(scan_steps), m->scan_steps);
    assert_int_equal(SINCE(puts), m->puts);
    assert_int_equal(SINCE(inserts), m->inserts);
    assert_int_equal(SINCE(deletes), m->deletes);
    assert_int_equal(SINCE(values_read), m->values_read);
    assert_int_equal(SINCE(commits), m->commits);
    assert_int_equal(SINCE(rollbacks), m->rollbacks);
    assert_int_equal(SINCE(bytes_user), m->bytes_user);
    assert_int_equal(SINCE(latency_commit_count), m->frames);
    assert_int_equal(SINCE(latency_sync_count), SINCE(syncs));
    assert_int_equal(SINCE(bytes_live), m->live);
    assert_int_equal(SINCE(bytes_dead), m->records - m->live);
#undef SINCE
    assert_int_equal(value_of(s, "keys"), count_live(m));
    assert_int_equal(value_of(s, "bytes_live") + value_of(s, "bytes_dead") +
                         value_of(s, "bytes_overhead"),
                     value_of(s, "bytes_log"));
    test_free(s);
}

static void counters_and_bytes_are_those_of_a_model(void **state)
{
    struct model m;
    struct user u;
    struct stats *first;

    (void)state;
    memset(&m, 0, sizeof m);
    open_user(&u, folder);
    first = read_stats(&u);
    for (int i = 0; i < TRANSACTIONS; i++) { /* asks after each */
        run_transaction(&u, &m);
        read_something(&u, &m);
        check(&u, &m, first);
    }
    test_free(first);
    close_user(&u);
}

/* ---- Reading ---- */

static bool may_change(const char *name)
{
    return strcmp(name, "uptime") == 0 || strcmp(name, "snapshot_oldest_age") == 0;
}

static void expect_same(const struct stats *a, const struct stats *b)
{
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        assert_string_equal(a->rows[i].name, b->rows[i].name);
        assert_string_equal(a->rows[i].text, b->rows[i].text);
        if (!may_change(a->rows[i].name) && a->rows[i].value != b->rows[i].value)
            fail_msg("%s went from %llu to %llu", a->rows[i].name,
                     (unsigned long long)a->rows[i].value,
                     (unsigned long long)b->rows[i].value);
    }
}

static void reading_disturbs_nothing(void **state)
{
    struct model m;
    struct user u;

    (void)state;
    memset(&m, 0, sizeof m);
    open_user(&u, folder);
    for (int i = 0; i < 20; i++) {
        run_transaction(&u, &m);
        read_something(&u, &m);
    }
    for (int i = 0; i < 5; i++) {
        struct stats *a = read_stats(&u);
        struct stats *b = read_stats(&u);

        expect_same(a, b);
        test_free(a);
        test_free(b);
    }
    close_user(&u);
}

static void what_a_closed_session_has_counted_stays(void **state)
{
    static const char *const counters[] = {"gets",
                                           "seeks",
                                           "scans",
                                           "scan_steps",
                                           "puts",
                                           "inserts",
                                           "deletes",
                                           "nodes_touched",
                                           "values_read",
                                           "bytes_user",
                                           "commits",
                                           "rollbacks",
                                           "latency_commit_count"};
    struct model m;
    struct user u;
    struct user watcher;
    struct stats *before;
    struct stats *after;

    (void)state;
    memset(&m, 0, sizeof m);
    open_user(&watcher, folder);
    open_user(&u, folder);
    for (int i = 0; i < 20; i++) {
        run_transaction(&u, &m);
        read_something(&u, &m);
    }
    before = read_stats(&watcher);
    close_user(&u);
    after = read_stats(&watcher);
    for (size_t i = 0; i < sizeof counters / sizeof counters[0]; i++)
        assert_int_equal(value_of(before, counters[i]), value_of(after, counters[i]));
    assert_int_equal(value_of(before, "sessions"), 2);
    assert_int_equal(value_of(after, "sessions"), 1);
    test_free(before);
    test_free(after);
    close_user(&watcher);
}

/* ---- Durations, snapshots, ratios ---- */

static uint64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void expect_rising(const struct stats *s, const char *what)
{
    static const char *const parts[] = {"p50", "p90", "p99", "p999", "max", "sum"};
    uint64_t before = 1; /* nothing takes no time */

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char name[48];

        (void)snprintf(name, sizeof name, "latency_%s_%s", what, parts[i]);
        assert_true(value_of(s, name) >= before);
        before = value_of(s, name);
    }
}

static void commits_syncs_and_reads_are_timed(void **state)
{
    enum { COMMITS = 200, READS = 61 * 40 };
    struct model m;
    struct user u;
    struct stats *s;
    struct armdb_cursor *cursor;
    struct armdb_value value;
    uint64_t began;
    uint64_t passed;

    (void)state;
    memset(&m, 0, sizeof m);
    open_user(&u, folder);
    began = now_ns();
    for (int i = 0; i < COMMITS; i++) {
        OK(armdb_put(u.session, u.table, "k", 1, &i, sizeof i, &err));
        OK(armdb_prepare(u.session, ARMDB_DOUBT_COMMIT, &err));
        OK(armdb_commit(u.session, &err));
    }
    armdb_statement_begin(u.session);
    OK(armdb_cursor_open(u.session, u.table, &cursor, &err));
    for (int i = 0; i < READS; i++) {
        OK(armdb_cursor_seek_key(cursor, "k", 1, &err));
        OK(armdb_cursor_value(cursor, &value, &err));
    }
    armdb_cursor_close(cursor);
    passed = now_ns() - began;
    s = read_stats(&u);
    assert_int_equal(value_of(s, "latency_commit_count"), COMMITS + 1);
    assert_in_range(value_of(s, "latency_sync_count"), COMMITS, COMMITS + 10);
    assert_int_equal(value_of(s, "latency_seek_count"), 40);
    assert_int_equal(value_of(s, "latency_read_count"), 40);
    assert_true(value_of(s, "latency_commit_max") <= passed + UINT64_C(10000000000));
    assert_true(value_of(s, "latency_seek_sum") + value_of(s, "latency_read_sum") <=
                passed);
    /* A commit waits for its sync. */
    assert_true(value_of(s, "latency_commit_p50") >= value_of(s, "latency_sync_p50") / 2);
    expect_rising(s, "commit");
    expect_rising(s, "sync");
    expect_rising(s, "seek");
    expect_rising(s, "read");
    test_free(s);
    close_user(&u);
}

static void one_sync_may_carry_many_commits(void **state)
{
    struct user u;

    (void)state;
    open_user(&u, folder);
    armdb_table_set_sync(u.table, ARMDB_SYNC_OFF);
    for (int i = 0; i < 60; i++) {
        OK(armdb_put(u.session, u.table, &i, sizeof i, "v", 1, &err));
        OK(armdb_commit(u.session, &err));
    }
    OK(armdb_flush(u.store, &err));
    /* 61 commits; a sync for the table's and one a shard, if the keeper made none. */
    assert_true(ask_ratio(&u, "commits_per_sync") > 1.5);
    assert_true(ask_ratio(&u, "commits_per_sync") <=
                (double)ask(&u, "latency_commit_count") / (double)ask(&u, "syncs") +
                    1e-9);
    close_user(&u);
}

static void a_snapshot_grows_older_until_it_is_let_go(void **state)
{
    struct timespec pause = {0, 40000000};
    struct user u;

    (void)state;
    open_user(&u, ":memory:");
    assert_int_equal(ask(&u, "snapshots"), 0);
    assert_int_equal(ask(&u, "snapshot_oldest_age"), 0);
    OK(armdb_snapshot_acquire(u.session, &err));
    (void)nanosleep(&pause, NULL);
    assert_int_equal(ask(&u, "snapshots"), 1);
    assert_true(ask(&u, "snapshot_oldest_age") >= 20);
    (void)nanosleep(&pause, NULL);
    assert_true(ask(&u, "snapshot_oldest_age") >= 60);
    armdb_snapshot_release(u.session);
    assert_int_equal(ask(&u, "snapshots"), 0);
    assert_int_equal(ask(&u, "snapshot_oldest_age"), 0);
    close_user(&u);
}

static void written_bytes_are_those_of_the_files_and_more(void **state)
{
    static char value[VALUE_MAX];
    struct user u;
    struct stats *s;
    uint64_t user_bytes = 0;

    (void)state;
    open_user(&u, folder);
    armdb_table_set_sync(u.table, ARMDB_SYNC_OFF);
    for (int i = 0; i < 300; i++) {
        OK(armdb_put(u.session, u.table, &i, sizeof i, value, sizeof value, &err));
        user_bytes += sizeof i + sizeof value;
    }
    OK(armdb_commit(u.session, &err));
    OK(armdb_flush(u.store, &err));
    s = read_stats(&u);
    assert_true(value_of(s, "bytes_user") >= user_bytes);
    assert_true(value_of(s, "bytes_user") <= user_bytes + 200); /* and the catalogue's */
    assert_true(value_of(s, "bytes_appended") >= user_bytes);
    assert_true(value_of(s, "bytes_written") >=
                value_of(s, "bytes_appended") + value_of(s, "bytes_zeroed"));
    assert_true(s->rows[place_of(s, "write_amplification")].ratio >= 1.0);
    assert_int_equal((uint64_t)(s->rows[place_of(s, "write_amplification")].ratio *
                                    (double)value_of(s, "bytes_user") +
                                0.5),
                     value_of(s, "bytes_written"));
    assert_true(value_of(s, "file_syncs") >= value_of(s, "syncs"));
    test_free(s);
    close_user(&u);
}

/* ---- Segments ---- */

enum { SEGMENTS_MAX = 100 };

struct segments {
    struct armdb_segment items[SEGMENTS_MAX];
    size_t count;
};

static void keep_segment(void *arg, const struct armdb_segment *segment)
{
    struct segments *all = arg;
    char name[32];

    assert_true(all->count < SEGMENTS_MAX);
    (void)snprintf(name, sizeof name, "%016llx.seg", (unsigned long long)segment->number);
    assert_string_equal(name, segment->name);
    assert_true(all->count == 0 || all->items[all->count - 1].number < segment->number);
    all->items[all->count++] = *segment;
}

static void read_segments(const struct user *u, struct segments *all)
{
    all->count = 0;
    OK(armdb_segment_each(u->store, keep_segment, all, &err));
}

static size_t count_state(const struct segments *all, enum armdb_segment_state state)
{
    size_t count = 0;

    for (size_t i = 0; i < all->count; i++)
        count += all->items[i].state == state;
    return count;
}

static size_t count_hints(const struct segments *all)
{
    size_t count = 0;

    for (size_t i = 0; i < all->count; i++)
        count += all->items[i].has_hint;
    return count;
}

/* Values of 1,000 bytes under the keys [first, last). */
static void fill(struct user *u, unsigned first, unsigned last)
{
    static char value[1000];

    for (unsigned k = first; k < last; k++) {
        OK(armdb_put(u->session, u->table, &k, sizeof k, value, sizeof value, &err));
        if (k % 500 == 499)
            OK(armdb_commit(u->session, &err));
    }
    OK(armdb_commit(u->session, &err));
}

/* 20,000 rows of 1,000 bytes in one transaction: more than is kept in memory, so that it
 * goes to the log in chunks while it is open. */
static void write_large(struct user *u, unsigned first, bool keep_all)
{
    static char value[1000];

    OK(armdb_savepoint(u->session, 1, &err));
    for (unsigned i = 0; i < 20000; i++) {
        unsigned k = first + i;

        if (i == 12000)
            OK(armdb_savepoint(u->session, 2, &err));
        OK(armdb_put(u->session, u->table, &k, sizeof k, value, sizeof value, &err));
    }
    if (!keep_all)
        OK(armdb_savepoint_rollback(u->session, 2, &err)); /* chunks with void rows */
}

static void expect_same_after_reopening(struct user *u, const char *what)
{
    static const char *const names[] = {"bytes_live", "bytes_dead", "bytes_log", "keys",
                                        "segments"};
    struct stats *before = read_stats(u);
    struct stats *after;

    close_user(u);
    hint_bytes_min = next_random(2) == 0 ? 0 : UINT64_MAX; /* written at the next close */
    open_user(u, folder);
    after = read_stats(u);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        uint64_t was = value_of(before, names[i]);
        uint64_t is = value_of(after, names[i]);

        /* Closing ends each active log file with a frame without records. */
        if (strcmp(names[i], "bytes_log") == 0 ? is < was || is > was + 4 * 200
                                               : is != was)
            fail_msg("%s: %s was %llu, is %llu", what, names[i], (unsigned long long)was,
                     (unsigned long long)is);
    }
    test_free(before);
    test_free(after);
}

static void bytes_and_counts_survive_reopening(void **state)
{
    struct armdb_compact_info info;
    struct model m;
    struct user u;

    (void)state;
    memset(&m, 0, sizeof m);
    open_user(&u, folder);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < TRANSACTIONS / 3; i++)
            run_transaction(&u, &m);
        expect_same_after_reopening(&u, "transactions");
    }
    fill(&u, 0, 3000);
    OK(armdb_prepare(u.session, ARMDB_DOUBT_COMMIT, &err)); /* nothing to prepare */
    for (unsigned k = 0; k < 500; k++)
        OK(armdb_put(u.session, u.table, &k, sizeof k, "undone", 6, &err));
    OK(armdb_prepare(u.session, ARMDB_DOUBT_ABORT, &err));
    OK(armdb_rollback(u.session, &err));
    expect_same_after_reopening(&u, "an aborted transaction");
    write_large(&u, 100000, true);
    OK(armdb_commit(u.session, &err));
    expect_same_after_reopening(&u, "a transaction in chunks");
    write_large(&u, 110000, false);
    OK(armdb_commit(u.session, &err));
    expect_same_after_reopening(&u, "one of which a part was undone");
    write_large(&u, 120000, true);
    OK(armdb_rollback(u.session, &err));
    expect_same_after_reopening(&u, "one that was undone");
    expect_same_after_reopening(&u, "nothing at all");
    OK(armdb_compact(u.store, NULL, &info, &err));
    expect_same_after_reopening(&u, "a compaction");
    close_user(&u);
}

static void segments_add_up_to_the_statistics(void **state)
{
    struct segments all;
    struct user u;
    struct stats *s;
    uint64_t records = 0;
    uint64_t live = 0;
    uint64_t dead = 0;
    uint64_t length = 0;
    uint64_t gsn_high = 0;

    (void)state;
    open_user(&u, folder);
    fill(&u, 0, 6000);
    fill(&u, 1000, 4000);
    read_segments(&u, &all);
    s = read_stats(&u);
    for (size_t i = 0; i < all.count; i++) {
        const struct armdb_segment *segment = &all.items[i];

        records += segment->records;
        live += segment->live_bytes;
        dead += segment->dead_bytes;
        length += segment->length;
        assert_true(segment->file_bytes >= segment->length);
        assert_true(segment->shard < 4);
        assert_true(segment->gsn_low <= segment->gsn_high);
        assert_true(segment->live_bytes + segment->dead_bytes < segment->length);
        assert_false(segment->compacted);
        if (segment->gsn_high > gsn_high)
            gsn_high = segment->gsn_high;
    }
    assert_true(all.count > 5); /* of 1 MiB each */
    assert_int_equal(all.count, value_of(s, "segments"));
    assert_int_equal(records, 6000 + 3000 + 1); /* and the table itself */
    assert_int_equal(live, value_of(s, "bytes_live"));
    assert_int_equal(dead, value_of(s, "bytes_dead"));
    assert_int_equal(length, value_of(s, "bytes_log"));
    assert_int_equal(gsn_high, value_of(s, "gsn_last"));
    assert_in_range(count_state(&all, ARMDB_SEGMENT_ACTIVE), 1, 4);
    assert_int_equal(count_state(&all, ARMDB_SEGMENT_ACTIVE) +
                         count_state(&all, ARMDB_SEGMENT_SEALED),
                     all.count);
    test_free(s);
    close_user(&u);
}

static void reopened_segments_are_sealed_and_as_old_as_their_files(void **state)
{
    struct timespec pause = {0, 60000000};
    struct segments before;
    struct segments after;
    struct user u;

    (void)state;
    hint_bytes_min = 0;
    open_user(&u, folder);
    fill(&u, 0, 3000);
    read_segments(&u, &before);
    assert_false(before.items[before.count - 1].has_hint); /* it is the active one */
    close_user(&u);
    (void)nanosleep(&pause, NULL);
    open_user(&u, folder);
    read_segments(&u, &after);
    assert_int_equal(before.count, after.count);
    for (size_t i = 0; i < after.count; i++) {
        assert_int_equal(after.items[i].number, before.items[i].number);
        assert_int_equal(after.items[i].state, ARMDB_SEGMENT_SEALED);
        assert_int_equal(after.items[i].gsn_low, before.items[i].gsn_low);
        assert_int_equal(after.items[i].gsn_high, before.items[i].gsn_high);
        assert_int_equal(after.items[i].live_bytes, before.items[i].live_bytes);
        assert_int_equal(after.items[i].dead_bytes, before.items[i].dead_bytes);
        assert_int_equal(after.items[i].records, before.items[i].records);
        assert_true(after.items[i].age_ms >= 40 && after.items[i].age_ms < 600000);
    }
    for (int tries = 0; count_hints(&after) < after.count && tries < 400; tries++) {
        (void)nanosleep(&pause, NULL); /* some are written in the background now */
        read_segments(&u, &after);
    }
    assert_int_equal(count_hints(&after), after.count);
    close_user(&u);
}

/* What a compaction looks like while it is at work. */
struct spy {
    struct user *u;
    size_t compacting; /* segments, at most */
};

static bool look(void *arg)
{
    struct spy *spy = arg;
    struct segments all;
    size_t count;

    read_segments(spy->u, &all);
    count = count_state(&all, ARMDB_SEGMENT_COMPACTING);
    if (count > spy->compacting)
        spy->compacting = count;
    return false;
}

static void a_compacted_segment_is_retired_until_no_snapshot_reads_it(void **state)
{
    struct armdb_compact_info info;
    struct segments all;
    struct user u;
    struct user reader;
    struct spy spy = {&u, 0};
    struct armdb_watch watch = {look, &spy};

    (void)state;
    open_user(&u, folder);
    open_user(&reader, folder);
    fill(&u, 0, 6000);
    for (unsigned k = 0; k < 6000; k += 3) /* something in each segment is dead */
        OK(armdb_delete(u.session, u.table, &k, sizeof k, &err));
    OK(armdb_commit(u.session, &err));
    OK(armdb_snapshot_acquire(reader.session, &err));
    fill(&u, 0, 5000);
    OK(armdb_compact(u.store, &watch, &info, &err));
    assert_true(spy.compacting > 0);
    read_segments(&u, &all);
    assert_true(count_state(&all, ARMDB_SEGMENT_RETIRED) > 0);
    assert_int_equal(count_state(&all, ARMDB_SEGMENT_COMPACTING), 0);
    assert_int_equal(all.count - count_state(&all, ARMDB_SEGMENT_RETIRED),
                     ask(&u, "segments"));
    armdb_snapshot_release(reader.session);
    OK(armdb_compact(u.store, NULL, &info, &err));
    read_segments(&u, &all);
    assert_int_equal(count_state(&all, ARMDB_SEGMENT_RETIRED), 0);
    for (size_t i = 0; i < all.count; i++)
        assert_true(all.items[i].compacted || all.items[i].dead_bytes == 0);
    close_user(&reader);
    close_user(&u);
}

/* ---- All stores ---- */

static void keep_store(void *arg, const struct armdb_store_info *info)
{
    struct armdb_store_info *found = arg;

    for (int i = 0; i < 2; i++, found++)
        if (strcmp(info->path, i == 0 ? folder : ":memory:") == 0) {
            assert_null(found->io_engine); /* each is there once */
            *found = *info;
        }
}

static void every_open_store_is_listed(void **state)
{
    struct armdb_store_info found[2];
    unsigned char uuid[16];
    struct user a;
    struct user b;
    struct user m;

    (void)state;
    memset(found, 0, sizeof found);
    OK(armdb_store_each(keep_store, found, &err));
    assert_null(found[0].io_engine);
    open_user(&a, folder);
    open_user(&b, folder);
    open_user(&m, ":memory:");
    OK(armdb_snapshot_acquire(b.session, &err));
    OK(armdb_put(m.session, m.table, "k", 1, "v", 1, &err));
    OK(armdb_store_each(keep_store, found, &err));
    armdb_uuid(a.store, uuid);
    assert_memory_equal(found[0].uuid, uuid, sizeof uuid);
    assert_int_equal(found[0].openers, 2);
    assert_int_equal(found[0].sessions, 2);
    assert_int_equal(found[0].snapshots, 1);
    assert_int_equal(found[0].open_transactions, 0);
    assert_int_equal(found[0].tables, 1);
    assert_int_equal(found[0].shards, 4);
    assert_false(found[0].read_only || found[0].wounded);
    assert_string_equal(found[1].io_engine, "memory");
    assert_int_equal(found[1].openers, 1);
    assert_int_equal(found[1].open_transactions, 1);
    armdb_snapshot_release(b.session);
    close_user(&m);
    close_user(&b);
    memset(found, 0, sizeof found);
    OK(armdb_store_each(keep_store, found, &err));
    assert_int_equal(found[0].openers, 1);
    assert_null(found[1].io_engine);
    close_user(&a);
    memset(found, 0, sizeof found);
    OK(armdb_store_each(keep_store, found, &err));
    assert_null(found[0].io_engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)
        TEST(every_name_is_there_once_and_has_a_known_unit),
        TEST(counters_and_bytes_are_those_of_a_model),
        TEST(reading_disturbs_nothing),
        TEST(what_a_closed_session_has_counted_stays),
        TEST(commits_syncs_and_reads_are_timed),
        TEST(one_sync_may_carry_many_commits),
        TEST(a_snapshot_grows_older_until_it_is_let_go),
        TEST(written_bytes_are_those_of_the_files_and_more),
        TEST(bytes_and_counts_survive_reopening),
        TEST(segments_add_up_to_the_statistics),
        TEST(reopened_segments_are_sealed_and_as_old_as_their_files),
        TEST(a_compacted_segment_is_retired_until_no_snapshot_reads_it),
        TEST(every_open_store_is_listed),
    };
    const char *text = getenv("SEED");

    seed = text != NULL ? strtoull(text, NULL, 10) : (uint64_t)time(NULL);
    printf("SEED=%llu\n", (unsigned long long)seed);
    seed = seed * 2 + 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

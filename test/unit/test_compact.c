/* Compaction through the public interface: what it must keep, what it must let go, and
 * that the answers are the same before, during and after it and after reopening. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/armdb.h"

static char folder[256];
static struct armdb_error err;

#define OK(call) assert_int_equal((call), ARMDB_OK)

enum { VALUE_BYTES = 2000 };

static int make_folder(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)state;
    (void)snprintf(folder, sizeof folder, "%s/armdb_test_compact_XXXXXX",
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

struct fixture {
    struct armdb *store;
    struct armdb_session *session;
    struct armdb_table *table;
};

static void open_with(struct fixture *f, const char *path, uint64_t hint_bytes_min,
                      uint32_t compact_at, uint64_t cache_size)
{
    struct armdb_options options;

    armdb_options_init(&options);
    options.segment_size = 1 << 20;
    options.hint_bytes_min = hint_bytes_min;
    options.compact_at = compact_at;
    options.cache_size = cache_size;
    OK(armdb_open(path, &options, &f->store, &err));
    OK(armdb_session_open(f->store, &f->session, &err));
    if (armdb_table_open(f->session, "t", NULL, &f->table, &err) == ARMDB_NOT_FOUND) {
        OK(armdb_table_create(f->session, "t", "schema", 6, &f->table, &err));
        OK(armdb_commit(f->session, &err));
    }
    armdb_table_set_sync(f->table, ARMDB_SYNC_OFF);
}

static void open_fixture(struct fixture *f, const char *path)
{
    open_with(f, path, 1 << 20, 30, 64 << 20);
}

static void close_fixture(struct fixture *f)
{
    armdb_table_close(f->table);
    armdb_session_close(f->session);
    armdb_close(f->store);
}

/* The value of key i in version v begins with both. */
static void put(struct fixture *f, unsigned i, unsigned v)
{
    char key[16];
    char value[VALUE_BYTES];

    memset(value, 'v', sizeof value);
    (void)snprintf(key, sizeof key, "key%06u", i);
    (void)snprintf(value, sizeof value, "%u:%u", i, v);
    OK(armdb_put(f->session, f->table, key, strlen(key), value, sizeof value, &err));
}

static void del(struct fixture *f, unsigned i)
{
    char key[16];

    (void)snprintf(key, sizeof key, "key%06u", i);
    OK(armdb_delete(f->session, f->table, key, strlen(key), &err));
}

/* The version that the session sees of key i; -1 when absent. */
static int get(struct armdb_session *session, struct armdb_table *table, unsigned i)
{
    char key[16];
    struct armdb_cursor *cursor;
    struct armdb_value value;
    int version = -1;
    enum armdb_rc rc;

    (void)snprintf(key, sizeof key, "key%06u", i);
    armdb_statement_begin(session);
    OK(armdb_cursor_open(session, table, &cursor, &err));
    rc = armdb_cursor_seek_key(cursor, key, strlen(key), &err);
    if (rc == ARMDB_OK) {
        unsigned got_i;
        unsigned got_v;

        OK(armdb_cursor_value(cursor, &value, &err));
        assert_int_equal(value.len, VALUE_BYTES);
        assert_int_equal(sscanf(value.data, "%u:%u", &got_i, &got_v), 2);
        assert_int_equal(got_i, i);
        version = (int)got_v;
    } else {
        assert_int_equal(rc, ARMDB_DONE);
    }
    armdb_cursor_close(cursor);
    return version;
}

static uint64_t folder_bytes(void)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    uint64_t bytes = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        char path[600];
        struct stat st;

        (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
            bytes += (uint64_t)st.st_blocks * 512;
    }
    (void)closedir(dir);
    return bytes;
}

static struct armdb_compact_info compact(struct fixture *f)
{
    struct armdb_compact_info info;

    OK(armdb_compact(f->store, NULL, &info, &err));
    return info;
}

static void after_deleting_everything_the_folder_is_nearly_empty(void **state)
{
    struct fixture f;
    uint64_t peak = 0;

    (void)state;
    open_fixture(&f, folder);
    for (unsigned v = 0; v < 5; v++) {
        for (unsigned i = 0; i < 8000; i++) {
            put(&f, i, v);
            if (i % 100 == 99)
                OK(armdb_commit(f.session, &err));
        }
        peak = folder_bytes() > peak ? folder_bytes() : peak;
    }
    for (unsigned i = 0; i < 8000; i++) {
        del(&f, i);
        if (i % 100 == 99)
            OK(armdb_commit(f.session, &err));
    }
    (void)compact(&f);
    print_message("peak %llu, after %llu\n", (unsigned long long)peak,
                  (unsigned long long)folder_bytes());
    assert_true(folder_bytes() * 100 < peak);
    close_fixture(&f);
    open_fixture(&f, folder);
    assert_int_equal(armdb_count(f.table), 0);
    assert_int_equal(get(f.session, f.table, 17), -1);
    close_fixture(&f);
}

static void one_key_inserted_and_deleted_for_ever_stays_in_a_few_segments(void **state)
{
    struct fixture f;
    struct armdb_compact_info info;

    (void)state;
    open_fixture(&f, folder);
    for (unsigned n = 0; n < 20000; n++) {
        put(&f, 1, n);
        OK(armdb_commit(f.session, &err));
        del(&f, 1);
        OK(armdb_commit(f.session, &err));
        if (n % 4000 == 3999)
            (void)compact(&f);
    }
    info = compact(&f);
    assert_true(info.segments_after <= 5);
    assert_true(folder_bytes() < 4 << 20);
    close_fixture(&f);
    open_fixture(&f, folder);
    assert_int_equal(get(f.session, f.table, 1), -1);
    close_fixture(&f);
}

static void find_dead(void *arg, const struct armdb_stat *row)
{
    if (strcmp(row->name, "bytes_dead") == 0)
        *(uint64_t *)arg = row->value;
}

/* Rows that never change, and then keys that come and go once each, behind them. Gives
 * the dead bytes that a compaction leaves. */
static uint64_t churn_behind_old_rows(uint64_t hint_bytes_min)
{
    struct fixture f;
    uint64_t dead = 0;

    open_with(&f, folder, hint_bytes_min, 30, 64 << 20);
    for (unsigned i = 0; i < 1500; i++)
        put(&f, i, 1);
    OK(armdb_commit(f.session, &err));
    close_fixture(&f);
    open_with(&f, folder, hint_bytes_min, 30, 64 << 20);
    armdb_compact_pause(f.store, true);
    for (unsigned i = 0; i < 12000; i++) {
        char key[32];

        (void)snprintf(key, sizeof key, "job%012u", i);
        OK(armdb_put(f.session, f.table, key, strlen(key), "work", 4, &err));
        OK(armdb_commit(f.session, &err));
        OK(armdb_delete(f.session, f.table, key, strlen(key), &err));
        OK(armdb_commit(f.session, &err));
    }
    (void)compact(&f);
    armdb_stat_each(f.table, find_dead, &dead);
    close_fixture(&f);
    open_with(&f, folder, hint_bytes_min, 30, 64 << 20);
    assert_int_equal(armdb_count(f.table), 1500);
    for (unsigned i = 0; i < 1500; i += 50)
        assert_int_equal(get(f.session, f.table, i), 1);
    close_fixture(&f);
    return dead;
}

/* The filters of the old rows' hints tell that they hold none of the keys. */
static void tombstones_go_though_older_rows_stay(void **state)
{
    uint64_t dead = churn_behind_old_rows(1);

    (void)state;
    print_message("%llu bytes are dead\n", (unsigned long long)dead);
    assert_true(dead < 12000 * 35 / 20);
}

static void without_hints_they_stay_and_nothing_comes_back(void **state)
{
    uint64_t dead = churn_behind_old_rows(UINT64_MAX);

    (void)state;
    print_message("%llu bytes are dead\n", (unsigned long long)dead);
    assert_true(dead > 12000 * 20);
}

static void find_runs(void *arg, const struct armdb_stat *row)
{
    if (strcmp(row->name, "compactions") == 0)
        *(uint64_t *)arg = row->value;
}

/* The puts stay where they are, in segments that are not worth a compaction; those of
 * the tombstones are. */
static void a_tombstone_stays_while_an_older_put_of_its_key_does(void **state)
{
    struct fixture f;
    uint64_t runs = 0;

    (void)state;
    open_with(&f, folder, 1, 60, 64 << 20);
    for (unsigned i = 0; i < 2000; i++)
        put(&f, i, 1);
    OK(armdb_commit(f.session, &err));
    close_fixture(&f);
    open_with(&f, folder, 1, 60, 64 << 20);
    for (unsigned i = 0; i < 2000; i += 10)
        del(&f, i);
    OK(armdb_commit(f.session, &err));
    for (unsigned v = 0; v < 3000 || runs < 3; v++) {
        struct timespec pause = {0, 1000000};

        put(&f, 5000 + v % 10, v);
        OK(armdb_commit(f.session, &err));
        armdb_stat_each(f.table, find_runs, &runs);
        if (v >= 3000)
            (void)nanosleep(&pause, NULL);
    }
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 2000; i++)
            assert_int_equal(get(f.session, f.table, i), i % 10 == 0 ? -1 : 1);
        close_fixture(&f);
        open_with(&f, folder, 1, 60, 64 << 20);
    }
    close_fixture(&f);
}

static void a_snapshot_reads_its_old_values_across_compactions(void **state)
{
    struct fixture f;
    struct armdb_session *old;
    struct armdb_table *table;

    (void)state;
    open_fixture(&f, folder);
    for (unsigned i = 0; i < 1000; i++)
        put(&f, i, 1);
    OK(armdb_commit(f.session, &err));
    OK(armdb_session_open(f.store, &old, &err));
    OK(armdb_table_open(old, "t", NULL, &table, &err));
    OK(armdb_snapshot_acquire(old, &err));
    assert_int_equal(get(old, table, 3), 1);
    for (unsigned i = 0; i < 1000; i++) {
        if (i % 2 == 0)
            put(&f, i, 2);
        else if (i % 3 == 0)
            del(&f, i);
    }
    OK(armdb_commit(f.session, &err));
    (void)compact(&f);
    (void)compact(&f);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(get(old, table, i), 1);
        assert_int_equal(get(f.session, f.table, i), i % 2 == 0   ? 2
                                                     : i % 3 == 0 ? -1
                                                                  : 1);
    }
    armdb_snapshot_release(old);
    armdb_table_close(table);
    armdb_session_close(old);
    (void)compact(&f);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(get(f.session, f.table, i), i % 2 == 0   ? 2
                                                     : i % 3 == 0 ? -1
                                                                  : 1);
    close_fixture(&f);
}

static void random_writes_compactions_and_reopenings_agree_with_a_model(void **state)
{
    enum { KEYS = 400, STEPS = 8000 };
    struct fixture f;
    int model[KEYS];
    int before[KEYS];
    const char *given = getenv("SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : 1;

    (void)state;
    print_message("SEED=%u\n", seed);
    srand(seed);
    open_fixture(&f, folder);
    for (int i = 0; i < KEYS; i++)
        model[i] = -1;
    memcpy(before, model, sizeof model);
    for (int step = 0; step < STEPS; step++) {
        unsigned i = (unsigned)rand() % KEYS;
        int what = rand() % 1000;

        if (what < 300 && model[i] >= 0) {
            del(&f, i);
            model[i] = -1;
        } else {
            put(&f, i, (unsigned)step);
            model[i] = step;
        }
        if (rand() % 8 != 0)
            continue;
        what = rand() % 1000;
        if (what < 50) { /* prepared, then aborted */
            OK(armdb_prepare(f.session, ARMDB_DOUBT_ABORT, &err));
            OK(armdb_rollback(f.session, &err));
            memcpy(model, before, sizeof model);
        } else {
            OK(armdb_prepare(f.session,
                             what < 150 ? ARMDB_DOUBT_ABORT : ARMDB_DOUBT_COMMIT, &err));
            OK(armdb_commit(f.session, &err));
            memcpy(before, model, sizeof model);
        }
        if (what % 40 == 0)
            (void)compact(&f);
        if (what % 97 == 0) {
            close_fixture(&f);
            open_fixture(&f, folder);
        }
        if (what % 20 == 0)
            for (unsigned k = 0; k < KEYS; k++)
                assert_int_equal(get(f.session, f.table, k), model[k]);
    }
    OK(armdb_rollback(f.session, &err));
    (void)compact(&f);
    for (unsigned k = 0; k < KEYS; k++)
        assert_int_equal(get(f.session, f.table, k), before[k]);
    close_fixture(&f);
    open_fixture(&f, folder);
    for (unsigned k = 0; k < KEYS; k++)
        assert_int_equal(get(f.session, f.table, k), before[k]);
    close_fixture(&f);
}

/* A key that is taken without being written has no second version of its row: compaction
 * neither waits for it nor takes it for the row's place. */
static void a_key_that_is_taken_is_compacted_all_the_same(void **state)
{
    struct fixture f;
    struct armdb_session *taker;
    struct armdb_table *table;
    struct armdb_compact_info info;

    (void)state;
    open_fixture(&f, folder);
    armdb_compact_pause(f.store, true);
    for (unsigned version = 1; version <= 2; version++)
        for (unsigned i = 0; i < 100; i++)
            put(&f, i, version);
    OK(armdb_commit(f.session, &err));
    for (unsigned i = 50; i < 100; i++)
        put(&f, i, 3);
    OK(armdb_commit(f.session, &err));
    OK(armdb_session_open(f.store, &taker, &err));
    OK(armdb_table_open(taker, "t", NULL, &table, &err));
    OK(armdb_begin(taker, &err));
    assert_int_equal(armdb_lock_key(taker, table, "key000007", 9, &err), ARMDB_EXISTS);
    OK(armdb_compact(f.store, NULL, &info, &err));
    assert_true(info.bytes_after < info.bytes_before);
    assert_int_equal(get(f.session, f.table, 7), 2);
    OK(armdb_rollback(taker, &err));
    assert_int_equal(get(f.session, f.table, 7), 2);
    armdb_table_close(table);
    armdb_session_close(taker);
    close_fixture(&f);
}

static void a_store_in_memory_is_compacted_too(void **state)
{
    struct fixture f;
    struct armdb_compact_info info;

    (void)state;
    open_fixture(&f, ":memory:");
    for (unsigned v = 0; v < 4; v++) {
        for (unsigned i = 0; i < 2000; i++)
            put(&f, i, v);
        OK(armdb_commit(f.session, &err));
    }
    info = compact(&f);
    assert_true(info.bytes_after * 10 < info.bytes_before * 9 ||
                info.bytes_after < 6 << 20);
    for (unsigned i = 0; i < 2000; i++)
        assert_int_equal(get(f.session, f.table, i), 3);
    close_fixture(&f);
}

static void find_memory(void *arg, const struct armdb_stat *row)
{
    if (strcmp(row->name, "memory_process") == 0)
        *(uint64_t *)arg = row->value;
}

/* But for the cache's pages, 4 MiB here. */
static void a_store_in_memory_gives_its_memory_back(void **state)
{
    struct fixture f;
    uint64_t filled = 0;
    uint64_t left = 0;

    (void)state;
    open_with(&f, ":memory:", 1 << 20, 30, 4 << 20);
    for (unsigned i = 0; i < 20000; i++) {
        put(&f, i, 1);
        if (i % 100 == 99)
            OK(armdb_commit(f.session, &err));
    }
    armdb_stat_each(f.table, find_memory, &filled);
    for (unsigned i = 0; i < 20000; i++) {
        del(&f, i);
        if (i % 100 == 99)
            OK(armdb_commit(f.session, &err));
    }
    (void)compact(&f);
    armdb_stat_each(f.table, find_memory, &left);
    print_message("%llu bytes filled, %llu emptied\n", (unsigned long long)filled,
                  (unsigned long long)left);
    assert_true(filled > 40000000);
    assert_true(left < filled / 3);
    close_fixture(&f);
}

/* ---- The queue ---- */

enum { SEGMENTS_MAX = 400 };

struct listing {
    uint64_t numbers[SEGMENTS_MAX];
    uint32_t shards[SEGMENTS_MAX];
    size_t count;
};

static void list_full(void *arg, const struct armdb_segment *segment)
{
    struct listing *listing = arg;

    if (segment->compacted || segment->length < 900000 || listing->count == SEGMENTS_MAX)
        return;
    listing->numbers[listing->count] = segment->number;
    listing->shards[listing->count++] = segment->shard;
}

static bool is_listed(const struct listing *listing, uint64_t number)
{
    for (size_t i = 0; i < listing->count; i++)
        if (listing->numbers[i] == number)
            return true;
    return false;
}

/* Segments of four shards, each with 60 % of dead bytes, are removed slowly: at no time
 * is one shard more than two ahead of another that still has some, and a shard's own go
 * in the order in which they came. */
static void candidates_are_taken_in_turn_over_the_shards(void **state)
{
    struct fixture f;
    struct listing first = {.count = 0};
    unsigned removed[4] = {0};
    unsigned total[4] = {0};
    bool gone[SEGMENTS_MAX] = {false};
    size_t left;

    (void)state;
    open_fixture(&f, folder);
    armdb_compact_pause(f.store, true);
    for (unsigned i = 0; i < 16000; i++) {
        put(&f, i, 1);
        if (i % 20 == 19)
            OK(armdb_commit(f.session, &err));
    }
    for (unsigned i = 0; i < 16000; i++) {
        if (i % 5 < 3)
            del(&f, i);
        if (i % 500 == 499)
            OK(armdb_commit(f.session, &err));
    }
    OK(armdb_flush(f.store, &err));
    OK(armdb_segment_each(f.store, list_full, &first, &err));
    assert_true(first.count >= 16 && first.count < SEGMENTS_MAX);
    for (size_t i = 0; i < first.count; i++)
        total[first.shards[i]]++;
    armdb_compact_rate(f.store, 20 << 20);
    armdb_compact_pause(f.store, false);
    left = first.count;
    for (unsigned tries = 0; left > 0 && tries < 20000; tries++) {
        struct timespec pause = {0, 2000000};
        struct listing now = {.count = 0};

        OK(armdb_segment_each(f.store, list_full, &now, &err));
        for (size_t i = 0; i < first.count; i++) {
            if (gone[i] || is_listed(&now, first.numbers[i]))
                continue;
            gone[i] = true;
            left--;
            removed[first.shards[i]]++;
            for (size_t k = 0; k < i; k++)
                assert_true(first.shards[k] != first.shards[i] ||
                            !is_listed(&now, first.numbers[k]));
        }
        for (unsigned a = 0; a < 4; a++)
            for (unsigned b = 0; b < 4; b++)
                assert_true(removed[a] <= removed[b] + 2 || removed[b] == total[b]);
        (void)nanosleep(&pause, NULL);
    }

    assert_int_equal(left, 0);
    close_fixture(&f);
}

static bool yes(void *arg)
{
    (void)arg;
    return true;
}

static void an_interrupted_compaction_leaves_everything_as_it_was(void **state)
{
    struct fixture f;
    struct armdb_compact_info info;
    const struct armdb_watch watch = {yes, NULL};

    (void)state;
    open_fixture(&f, folder);
    armdb_compact_pause(f.store, true);
    for (unsigned v = 0; v < 3; v++)
        for (unsigned i = 0; i < 1000; i++)
            put(&f, i, v);
    OK(armdb_commit(f.session, &err));
    for (unsigned i = 0; i < 1000; i++)
        put(&f, i, 3);
    OK(armdb_commit(f.session, &err));
    assert_int_equal(armdb_compact(f.store, &watch, &info, &err), ARMDB_INTERRUPT);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(get(f.session, f.table, i), 3);
    close_fixture(&f);
}

/* ---- A key that came and went in one transaction ---- */

static enum armdb_rc put_text(struct fixture *f, const char *key)
{
    return armdb_put(f->session, f->table, key, strlen(key), "text", 4, &err);
}

struct growth {
    uint64_t before[2]; /* records by shard */
    uint64_t now[2];
};

static void add_records(void *arg, const struct armdb_segment *segment)
{
    struct growth *growth = arg;

    growth->now[segment->shard] += segment->records;
}

static void measure(struct fixture *f, struct growth *growth)
{
    memcpy(growth->before, growth->now, sizeof growth->before);
    memset(growth->now, 0, sizeof growth->now);
    OK(armdb_segment_each(f->store, add_records, growth, &err));
}

/* Two keys each that lead a transaction to shard 0 and to shard 1: every other key of it
 * comes after them. */
static void find_leaders(struct fixture *f, char leaders[2][2][16])
{
    struct growth growth = {{0, 0}, {0, 0}};
    unsigned found[2] = {0, 0};

    measure(f, &growth);
    for (unsigned i = 0; found[0] < 2 || found[1] < 2; i++) {
        char key[16];
        unsigned shard;

        (void)snprintf(key, sizeof key, "a%03u", i);
        OK(put_text(f, key));
        OK(armdb_commit(f->session, &err));
        measure(f, &growth);
        shard = growth.now[1] > growth.before[1];
        if (found[shard] < 2)
            memcpy(leaders[shard][found[shard]++], key, sizeof key);
    }
}

/* Its tombstone is the newest that the log has: a version that was never written takes
 * nothing's place. */
static void a_row_that_came_and_went_in_one_transaction_hides_no_tombstone(void **state)
{
    struct armdb_compact_info info;
    struct armdb_options options;
    struct fixture f;
    struct fixture parked;
    struct fixture reader;
    struct armdb_cursor *cursor;
    char leaders[2][2][16];

    (void)state;
    armdb_options_init(&options);
    options.shards = 2;
    options.compact_off = true;
    OK(armdb_open(folder, &options, &f.store, &err));
    OK(armdb_session_open(f.store, &f.session, &err));
    OK(armdb_table_create(f.session, "t", "", 0, &f.table, &err));
    OK(armdb_commit(f.session, &err));
    open_fixture(&parked, folder);
    open_fixture(&reader, folder);
    find_leaders(&f, leaders);

    /* The row lies in shard 1. */
    OK(put_text(&f, leaders[1][0]));
    OK(put_text(&f, "row"));
    OK(armdb_commit(f.session, &err));
    /* Its tombstone lies in shard 0, whose segment is worth a compaction. */
    OK(put_text(&f, leaders[0][0]));
    OK(armdb_delete(f.session, f.table, "row", 3, &err));
    OK(armdb_commit(f.session, &err));
    /* The snapshot keeps this one from being settled. */
    OK(armdb_snapshot_acquire(reader.session, &err));
    OK(put_text(&f, leaders[0][0]));
    OK(put_text(&f, "row"));
    OK(armdb_delete(f.session, f.table, "row", 3, &err));
    OK(armdb_commit(f.session, &err));
    /* Shard 1's segment stays: a transaction in it is not decided. */
    OK(put_text(&parked, leaders[1][1]));
    OK(armdb_prepare(parked.session, ARMDB_DOUBT_COMMIT, &err));
    OK(armdb_compact(f.store, NULL, &info, &err));
    assert_true(info.bytes_moved > 0);

    armdb_snapshot_release(reader.session);
    OK(armdb_commit(parked.session, &err));
    close_fixture(&reader);
    close_fixture(&parked);
    close_fixture(&f);
    open_fixture(&f, folder);
    OK(armdb_cursor_open(f.session, f.table, &cursor, &err));
    assert_int_equal(armdb_cursor_seek_key(cursor, "row", 3, &err), ARMDB_DONE);
    armdb_cursor_close(cursor);
    close_fixture(&f);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(after_deleting_everything_the_folder_is_nearly_empty),
        TEST(one_key_inserted_and_deleted_for_ever_stays_in_a_few_segments),
        TEST(tombstones_go_though_older_rows_stay),
        TEST(without_hints_they_stay_and_nothing_comes_back),
        TEST(a_tombstone_stays_while_an_older_put_of_its_key_does),
        TEST(a_snapshot_reads_its_old_values_across_compactions),
        TEST(random_writes_compactions_and_reopenings_agree_with_a_model),
        TEST(a_key_that_is_taken_is_compacted_all_the_same),
        TEST(a_store_in_memory_is_compacted_too),
        TEST(a_store_in_memory_gives_its_memory_back),
        TEST(candidates_are_taken_in_turn_over_the_shards),
        TEST(an_interrupted_compaction_leaves_everything_as_it_was),
        TEST(a_row_that_came_and_went_in_one_transaction_hides_no_tombstone),
    };

    return cmocka_run_group_tests_name("compact", tests, NULL, NULL);
}

/* test_hints.c - opening by hints gives what opening without them gives.
 *
 * Random histories (commits under each in-doubt rule, rollbacks after a prepare,
 * transactions in chunks with savepoints undone, cleared and dropped tables,
 * compactions) are closed and opened for reading only, which changes nothing: with all
 * hints, with none, with each one damaged. Rows, counts and bytes must be the same. */
#include <dirent.h>
#include <pthread.h>
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

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/log/hint.h"
#include "engine/store/internal.h"
#include "test/unit/api_fixture.h"

enum { KEYS = 1500, NAMES_MAX = 200, STEPS = 120, ROUNDS = 4 };

static uint64_t random_state;

static uint64_t next_random(void)
{
    uint64_t z = (random_state += UINT64_C(0x9E3779B97F4A7C15));

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* ---- Files ---- */

static char names[NAMES_MAX][40];
static size_t name_count;

static bool ends_with(const char *name, const char *end)
{
    size_t n = strlen(name);

    return n >= strlen(end) && strcmp(name + n - strlen(end), end) == 0;
}

static size_t list_files(const char *path, const char *end)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;

    assert_non_null(dir);
    name_count = 0;
    while ((entry = readdir(dir)) != NULL) {
        if (!ends_with(entry->d_name, end))
            continue;
        assert_true(name_count < NAMES_MAX);
        (void)snprintf(names[name_count++], sizeof names[0], "%.39s", entry->d_name);
    }
    (void)closedir(dir);
    return name_count;
}

static void file_path(const char *path, const char *name, char *out)
{
    (void)snprintf(out, 400, "%.250s/%.100s", path, name);
}

/* Changes one byte of a file, or changes it back. */
static void flip(const char *path, const char *name, long at)
{
    char full[400];
    FILE *file;
    int byte;

    file_path(path, name, full);
    file = fopen(full, "r+b");
    assert_non_null(file);
    if (at < 0) {
        assert_int_equal(fseek(file, 0, SEEK_END), 0);
        at = ftell(file) / 2;
    }
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    byte = fgetc(file);
    assert_int_equal(fseek(file, at, SEEK_SET), 0);
    (void)fputc(byte ^ 0x10, file);
    assert_int_equal(fclose(file), 0);
}

static void copy_file(const char *path, const char *from, const char *to)
{
    char command[900];
    char a[400];
    char b[400];

    file_path(path, from, a);
    file_path(path, to, b);
    (void)snprintf(command, sizeof command, "cp '%s' '%s'", a, b);
    assert_int_equal(system(command), 0);
}

static void remove_named(const char *path, const char *name)
{
    char full[400];

    file_path(path, name, full);
    assert_int_equal(unlink(full), 0);
}

/* Every hint stands beside its segment, and nothing is on its way. */
static void assert_no_orphans(const char *path)
{
    assert_int_equal(list_files(path, ".tmp"), 0);
    list_files(path, ".hint");
    for (size_t i = 0; i < name_count; i++) {
        char segment[400];
        char name[40];

        (void)snprintf(name, sizeof name, "%.16s.seg", names[i]);
        file_path(path, name, segment);
        assert_int_equal(access(segment, F_OK), 0);
    }
}

/* ---- What a store holds ---- */

enum { SEGMENTS_MAX = 200 };

struct picture {
    uint64_t rows;
    uint64_t count;
    uint64_t hash; /* of keys, values and GSNs */
    size_t segment_count;
    struct armdb_segment segments[SEGMENTS_MAX];
    uint64_t hints_used;
    uint64_t hints_missing;
    uint64_t hints_refused;
};

static void note_segment(void *arg, const struct armdb_segment *segment)
{
    struct picture *picture = arg;

    assert_true(picture->segment_count < SEGMENTS_MAX);
    picture->segments[picture->segment_count++] = *segment;
}

static void take_rows(struct api *f, struct picture *picture)
{
    struct armdb_range range;
    struct armdb_cursor *cursor;
    enum armdb_rc rc;

    memset(&range, 0, sizeof range);
    OK(armdb_cursor_open(f->session, f->table, &cursor, &api_err));
    for (rc = armdb_cursor_seek_range(cursor, &range, &api_err); rc == ARMDB_OK;
         rc = armdb_cursor_next(cursor, &api_err)) {
        struct armdb_value value;
        const void *key;
        size_t len;

        armdb_cursor_key(cursor, &key, &len);
        OK(armdb_cursor_value(cursor, &value, &api_err));
        picture->hash = adb_hash_seeded(key, len, picture->hash);
        picture->hash = adb_hash_seeded(value.data, value.len, picture->hash);
        picture->hash += armdb_cursor_seq(cursor);
        picture->rows++;
    }
    assert_int_equal(rc, ARMDB_DONE);
    armdb_cursor_close(cursor);
    picture->count = armdb_count(f->table);
}

static void take_picture(const char *path, struct picture *picture)
{
    struct armdb_options options;
    struct api f;
    char why[200];

    memset(picture, 0, sizeof *picture);
    armdb_options_init(&options);
    options.read_only = true;
    OK(armdb_open(path, &options, &f.store, &api_err));
    OK(armdb_session_open(f.store, &f.session, &api_err));
    OK(armdb_table_open(f.session, "t", NULL, &f.table, &api_err));
    take_rows(&f, picture);
    if (!order_check(f.table->tab->order, why, sizeof why) ||
        !hashmap_check(f.table->tab->map, why, sizeof why))
        fail_msg("%s", why);
    OK(armdb_segment_each(f.store, note_segment, picture, &api_err));
    picture->hints_used = f.store->hinter.used;
    picture->hints_missing = f.store->hinter.missing;
    picture->hints_refused = f.store->hinter.refused;
    api_close(&f);
}

static void assert_same(const struct picture *a, const struct picture *b)
{
    assert_int_equal(a->rows, b->rows);
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->hash, b->hash);
    assert_int_equal(a->segment_count, b->segment_count);
    for (size_t i = 0; i < a->segment_count; i++) {
        assert_int_equal(a->segments[i].number, b->segments[i].number);
        assert_int_equal(a->segments[i].live_bytes, b->segments[i].live_bytes);
        assert_int_equal(a->segments[i].dead_bytes, b->segments[i].dead_bytes);
        assert_int_equal(a->segments[i].gsn_low, b->segments[i].gsn_low);
        assert_int_equal(a->segments[i].gsn_high, b->segments[i].gsn_high);
    }
}

/* ---- Histories ---- */

static uint32_t model[KEYS]; /* what the value begins with; 0: no row */
static uint32_t last_value;

static void open_store(struct api *f, const char *path)
{
    struct armdb_options options;

    armdb_options_init(&options);
    options.segment_size = 1 << 20;
    options.cache_size = 1 << 20; /* a small share: large transactions go out in chunks */
    options.hint_bytes_min = 1;
    api_open_with(f, path, &options);
    armdb_table_set_sync(f->table, ARMDB_SYNC_OFF);
}

static void put_row(struct api *f, uint32_t i, uint32_t value)
{
    unsigned char bytes[3000];
    char key[16];
    size_t len = sizeof value + next_random() % (i % 7 == 0 ? 2900 : 200);

    memset(bytes, (int)i, sizeof bytes);
    memcpy(bytes, &value, sizeof value);
    (void)snprintf(key, sizeof key, "key%u", i);
    OK(armdb_put(f->session, f->table, key, strlen(key), bytes, len, &api_err));
}

static void delete_row(struct api *f, uint32_t i)
{
    char key[16];

    (void)snprintf(key, sizeof key, "key%u", i);
    OK(armdb_delete(f->session, f->table, key, strlen(key), &api_err));
}

/* Writes up to `count` rows in the open transaction; what they will be is put into
 * `after`. */
static void write_some(struct api *f, uint64_t count, uint32_t *after)
{
    for (uint64_t n = 1 + next_random() % count; n > 0; n--) {
        uint32_t i = (uint32_t)(next_random() % KEYS);

        if (after[i] != 0 && next_random() % 3 == 0) {
            delete_row(f, i);
            after[i] = 0;
        } else {
            after[i] = ++last_value;
            put_row(f, i, after[i]);
        }
    }
}

/* Chunks, with parts of it undone. */
static void write_large(struct api *f, uint32_t *after)
{
    uint32_t before[KEYS];

    for (int part = 0; part < 4; part++) {
        memcpy(before, after, sizeof before);
        OK(armdb_savepoint(f->session, part, &api_err));
        write_some(f, 1200, after);
        if (next_random() % 2 == 0) {
            OK(armdb_savepoint_rollback(f->session, part, &api_err));
            memcpy(after, before, sizeof before);
        }
    }
}

static void end_transaction(struct api *f, const uint32_t *after)
{
    enum armdb_doubt doubt =
        next_random() % 2 == 0 ? ARMDB_DOUBT_ABORT : ARMDB_DOUBT_COMMIT;
    uint64_t way = next_random() % 8;

    if (way == 0) {
        OK(armdb_rollback(f->session, &api_err));
        return;
    }
    if (way <= 4)
        OK(armdb_prepare(f->session, doubt, &api_err));
    if (way == 1) { /* a durable abort */
        OK(armdb_rollback(f->session, &api_err));
        return;
    }
    if (way == 2) { /* changed after the prepare: the frame is aborted, a new one made */
        put_row(f, 0, after[0] == 0 ? ++last_value : after[0]);
        if (after[0] == 0)
            delete_row(f, 0);
    }
    OK(armdb_commit(f->session, &api_err));
    memcpy(model, after, sizeof model);
}

static void other_table(struct api *f)
{
    struct armdb_table *other;
    char key[16];

    if (armdb_table_open(f->session, "other", NULL, &other, &api_err) == ARMDB_OK) {
        OK(armdb_table_drop(f->session, other, &api_err));
        OK(armdb_commit(f->session, &api_err));
        armdb_table_close(other);
        return;
    }
    OK(armdb_table_create(f->session, "other", "", 0, &other, &api_err));
    for (int i = 0; i < 100; i++) {
        (void)snprintf(key, sizeof key, "key%d", i);
        OK(armdb_put(f->session, other, key, strlen(key), "value", 5, &api_err));
    }
    OK(armdb_commit(f->session, &api_err));
    armdb_table_close(other);
}

static void compact(struct api *f)
{
    struct armdb_compact_info info;

    OK(armdb_compact(f->store, NULL, &info, &api_err));
}

static void take_step(struct api *f)
{
    uint32_t after[KEYS];
    uint64_t kind = next_random() % 60;

    memcpy(after, model, sizeof after);
    if (kind == 0) {
        compact(f);
    } else if (kind <= 2) {
        other_table(f);
    } else if (kind == 3) {
        OK(armdb_table_clear(f->session, f->table, &api_err));
        OK(armdb_commit(f->session, &api_err));
        memset(model, 0, sizeof model);
    } else if (kind <= 6) {
        write_large(f, after);
        end_transaction(f, after);
    } else {
        write_some(f, 40, after);
        end_transaction(f, after);
    }
}

static void assert_model(const struct picture *picture)
{
    uint64_t rows = 0;

    for (size_t i = 0; i < KEYS; i++)
        rows += model[i] != 0;
    assert_int_equal(picture->rows, rows);
    assert_int_equal(picture->count, rows);
}

/* All hints say what their segments hold. */
static void check_hints(const char *path)
{
    struct api f;

    open_store(&f, path);
    list_files(path, ".hint");
    for (size_t i = 0; i < name_count; i++) {
        enum armdb_rc rc = hint_check(f.store, strtoull(names[i], NULL, 16), &api_err);

        if (rc != ARMDB_OK)
            fail_msg("%s: %s", names[i], api_err.text);
    }
    api_close(&f);
}

static void compare_openings(const char *path)
{
    static struct picture with;
    static struct picture other;
    char kept[NAMES_MAX][40];
    char command[700];
    size_t count;

    take_picture(path, &with);
    assert_model(&with);
    count = list_files(path, ".hint");
    memcpy(kept, names, sizeof kept);
    assert_int_equal(with.hints_used, count);
    assert_int_equal(with.hints_refused, 0);
    assert_int_equal(with.hints_missing, with.segment_count - count);
    for (size_t i = 0; i < count; i++) {
        flip(path, kept[i], -1);
        take_picture(path, &other);
        flip(path, kept[i], -1);
        assert_same(&with, &other);
        assert_int_equal(other.hints_refused, 1);
        assert_int_equal(other.hints_used, count - 1);
    }
    (void)snprintf(command, sizeof command,
                   "mkdir '%s/away' && mv '%s'/*.hint '%s/away/'", path, path, path);
    if (count > 0)
        assert_int_equal(system(command), 0);
    take_picture(path, &other);
    assert_same(&with, &other);
    assert_int_equal(other.hints_used, 0);
    assert_int_equal(other.hints_missing, other.segment_count);
    (void)snprintf(command, sizeof command,
                   "mv '%s'/away/*.hint '%s/' && rmdir '%s/away'", path, path, path);
    if (count > 0)
        assert_int_equal(system(command), 0);
}

static void random_histories_open_to_the_same_with_and_without_each_hint(void **state)
{
    const char *path = *state;

    memset(model, 0, sizeof model);
    for (int round = 0; round < ROUNDS; round++) {
        struct api f;

        open_store(&f, path);
        for (int i = 0; i < STEPS; i++)
            take_step(&f);
        api_close(&f);
        assert_no_orphans(path);
        compare_openings(path);
        check_hints(path);
    }
}

/* ---- One thing at a time ---- */

/* Rows 0 to count - 1, committed in tens. */
static void fill(struct api *f, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        put_row(f, i, i + 1);
        if (i % 10 == 9)
            OK(armdb_commit(f->session, &api_err));
    }
    OK(armdb_commit(f->session, &api_err));
}

static void make_store(const char *path, uint32_t count)
{
    struct api f;

    open_store(&f, path);
    fill(&f, count);
    api_close(&f);
}

/* A hint of live keys alone would bring it back from the older segment. */
static void a_key_deleted_in_a_later_segment_stays_deleted(void **state)
{
    const char *path = *state;
    static struct picture picture;
    struct api f;

    make_store(path, 100);
    open_store(&f, path);
    for (uint32_t i = 0; i < 100; i += 2)
        delete_row(&f, i);
    OK(armdb_commit(f.session, &api_err));
    api_close(&f);
    take_picture(path, &picture);
    assert_true(picture.hints_used > 4);
    assert_int_equal(picture.rows, 50);
    assert_int_equal(picture.count, 50);
}

static void a_foreign_or_stale_hint_costs_one_scan(void **state)
{
    const char *path = *state;
    static struct picture good;
    static struct picture other;
    char first[40];
    char second[40];

    make_store(path, 400);
    take_picture(path, &good);
    assert_true(list_files(path, ".hint") >= 2);
    (void)snprintf(first, sizeof first, "%s", names[0]);
    (void)snprintf(second, sizeof second, "%s", names[1]);
    copy_file(path, first, "kept");
    copy_file(path, second, first); /* another segment's */
    take_picture(path, &other);
    assert_same(&good, &other);
    assert_int_equal(other.hints_refused, 1);
    copy_file(path, "kept", first);
    take_picture(path, &other);
    assert_int_equal(other.hints_refused, 0);
    /* The segment is not the one that the hint was made of: its last bytes differ. */
    (void)snprintf(second, sizeof second, "%.16s.seg", first);
    flip(path, second, (long)(good.segments[0].length - 1));
    if (strtoull(first, NULL, 16) == good.segments[0].number) {
        take_picture(path, &other);
        assert_int_equal(other.hints_refused, 1);
    }
}

static void hints_go_with_their_segments_and_orphans_at_opening(void **state)
{
    const char *path = *state;
    struct api f;

    make_store(path, 1000);
    list_files(path, ".hint");
    copy_file(path, names[0], "00000000000fffff.hint");
    copy_file(path, names[0], "00000000000ffffe.hint.tmp");
    copy_file(path, names[0], "keep.hint");
    open_store(&f, path);
    assert_int_equal(list_files(path, "00fffff.hint"), 0);
    assert_int_equal(list_files(path, ".tmp"), 0);
    assert_int_equal(list_files(path, "keep.hint"), 1); /* not of our names */
    remove_named(path, "keep.hint");
    for (uint32_t i = 0; i < 1000; i++)
        delete_row(&f, i);
    OK(armdb_commit(f.session, &api_err));
    compact(&f);
    compact(&f);
    api_close(&f);
    assert_no_orphans(path);
    assert_true(list_files(path, ".hint") <= 8);
}

static void wait_for_hints(const char *path, size_t count)
{
    const struct timespec pause = {0, 20000000};

    for (int i = 0; i < 1000 && list_files(path, ".hint") < count; i++)
        (void)nanosleep(&pause, NULL);
    assert_true(list_files(path, ".hint") >= count);
}

static void sealed_segments_get_their_hint_while_the_store_is_open(void **state)
{
    const char *path = *state;
    struct api f;

    open_store(&f, path);
    armdb_compact_pause(f.store, true); /* all segments stay */
    armdb_table_set_sync(f.table, ARMDB_SYNC_NORMAL);
    for (int i = 0; i < 20; i++)
        fill(&f, 1500);
    wait_for_hints(path, 4);
    api_close(&f);
    assert_no_orphans(path);
}

static void a_hint_that_is_lacking_is_written_by_the_next_opening(void **state)
{
    const char *path = *state;
    struct api f;
    size_t count;

    make_store(path, 1000);
    count = list_files(path, ".hint");
    assert_true(count >= 2);
    remove_named(path, names[0]);
    flip(path, names[1], 100);
    open_store(&f, path);
    wait_for_hints(path, count);
    api_close(&f);
    check_hints(path);
}

static void closing_reads_a_bounded_number_of_bytes(void **state)
{
    const char *path = *state;
    static struct picture picture;
    struct api f;
    size_t count;

    open_store(&f, path);
    fill(&f, 1500);
    f.store->hinter.close_bytes = 0;
    api_close(&f);
    count = list_files(path, ".hint");
    take_picture(path, &picture);
    assert_int_equal(picture.rows, 1500);
    assert_int_equal(picture.hints_used, count);
    assert_true(picture.hints_missing > 0);
    open_store(&f, path); /* it gets them now */
    wait_for_hints(path, picture.segment_count);
    api_close(&f);
}

static void a_reader_leaves_hints_as_they_are(void **state)
{
    const char *path = *state;
    static struct picture picture;
    size_t count;

    make_store(path, 300);
    count = list_files(path, ".hint");
    remove_named(path, names[0]);
    copy_file(path, names[1], "00000000000fffff.hint");
    take_picture(path, &picture);
    assert_int_equal(list_files(path, ".hint"), count);
    assert_int_equal(picture.hints_missing, 1);
}

/* ---- Everything at once ---- */

enum { WRITERS = 3, WRITER_KEYS = 400 };

struct writer {
    pthread_t thread;
    struct armdb *store;
    unsigned index;
    uint64_t random;
    bool rows[WRITER_KEYS];
    enum armdb_rc rc;
    struct armdb_error err;
};

static _Atomic bool writers_end;

static uint64_t next_of(struct writer *w)
{
    w->random = w->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return w->random >> 33;
}

/* Keys of its own, a row or none. */
static void *write_rows(void *arg)
{
    struct writer *w = arg;
    struct armdb_session *session = NULL;
    struct armdb_table *table = NULL;
    char value[900];

    memset(value, 'v', sizeof value);
    w->rc = armdb_session_open(w->store, &session, &w->err);
    if (w->rc == ARMDB_OK)
        w->rc = armdb_table_open(session, "t", NULL, &table, &w->err);
    while (w->rc == ARMDB_OK &&
           !atomic_load_explicit(&writers_end, memory_order_relaxed)) {
        for (int n = 0; n < 20 && w->rc == ARMDB_OK; n++) {
            uint32_t i = (uint32_t)(next_of(w) % WRITER_KEYS);
            char key[24];
            size_t len = (size_t)snprintf(key, sizeof key, "%u:%u", w->index, i);

            if (w->rows[i] && next_of(w) % 3 == 0)
                w->rc = armdb_delete(session, table, key, len, &w->err);
            else
                w->rc = armdb_put(session, table, key, len, value,
                                  next_of(w) % sizeof value, &w->err);
            if (w->rc == ARMDB_OK)
                w->rows[i] = armdb_value_len(session, table, key, len, &(uint64_t){0},
                                             &w->err) == ARMDB_OK;
        }
        if (w->rc == ARMDB_OK && next_of(w) % 3 == 0)
            w->rc = armdb_prepare(session, ARMDB_DOUBT_ABORT, &w->err);
        if (w->rc == ARMDB_OK)
            w->rc = armdb_commit(session, &w->err);
    }
    armdb_table_close(table);
    armdb_session_close(session);
    return NULL;
}

static void *compact_on(void *arg)
{
    struct writer *w = arg;

    while (w->rc == ARMDB_OK &&
           !atomic_load_explicit(&writers_end, memory_order_relaxed)) {
        struct armdb_compact_info info;

        w->rc = armdb_compact(w->store, NULL, &info, &w->err);
    }
    return NULL;
}

/* No hint says another thing than its segment, at any moment. */
static void *check_on(void *arg)
{
    struct writer *w = arg;

    for (uint64_t number = 1; !atomic_load_explicit(&writers_end, memory_order_relaxed);
         number++) {
        enum armdb_rc rc = hint_check(w->store, number, &w->err);

        if (rc == ARMDB_CORRUPT) {
            w->rc = rc;
            return NULL;
        }
        if (rc == ARMDB_NOT_FOUND && number > gsn_last(&w->store->log.gsn))
            number = 0;
    }
    return NULL;
}

static void writers_compactions_and_hints_do_not_disturb_one_another(void **state)
{
    void *(*const runs[])(void *) = {write_rows, write_rows, write_rows, compact_on,
                                     check_on};
    enum { THREADS = sizeof runs / sizeof runs[0] };
    const char *path = *state;
    static struct writer w[THREADS];
    static struct picture with;
    static struct picture without;
    const struct timespec while_ = {2, 0};
    struct api f;
    uint64_t rows = 0;

    memset(w, 0, sizeof w);
    open_store(&f, path);
    atomic_store_explicit(&writers_end, false, memory_order_relaxed);
    for (unsigned i = 0; i < THREADS; i++) {
        w[i].store = f.store;
        w[i].index = i;
        w[i].random = next_random();
        assert_int_equal(pthread_create(&w[i].thread, NULL, runs[i], &w[i]), 0);
    }
    (void)nanosleep(&while_, NULL);
    atomic_store_explicit(&writers_end, true, memory_order_relaxed);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(w[i].thread, NULL), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        if (w[i].rc != ARMDB_OK)
            fail_msg("thread %u: %s", i, w[i].err.text);
        for (unsigned k = 0; k < WRITER_KEYS; k++)
            rows += w[i].rows[k];
    }
    api_close(&f);
    assert_no_orphans(path);
    take_picture(path, &with);
    assert_true(with.hints_used > 0);
    assert_int_equal(with.rows, rows);
    list_files(path, ".hint");
    for (size_t i = 0; i < name_count; i++)
        remove_named(path, names[i]);
    take_picture(path, &without);
    assert_same(&with, &without);
}

static void segments_that_are_too_short_have_none(void **state)
{
    const char *path = *state;
    struct armdb_options options;
    struct api f;

    armdb_options_init(&options);
    api_open_with(&f, path, &options);
    fill(&f, 300);
    api_close(&f);
    assert_int_equal(list_files(path, ".hint"), 0);
}

/* Puts a hint with right checks in the place of a segment's own. */
static void forge(struct api *f, uint64_t number, struct hint *hint)
{
    struct log *log = &f->store->log;
    const struct manifest_segment *listed;
    struct adb_file *file;
    char name[SEGMENT_NAME_MAX];
    uint64_t end_raw;

    listed = manifest_find(&log->locked.manifest, number);
    assert_non_null(listed);
    segment_name(number, name);
    OK(f->store->io->ops->file_open(f->store->dir, name, 0, &file, &api_err));
    OK(hint_segment_end(file, name, listed, &end_raw, &api_err));
    f->store->io->ops->file_close(file);
    OK(hint_write(f->store->dir, f->store->superblock.uuid, listed, end_raw, hint,
                  &api_err));
    OK(hint_install(f->store->dir, number, &api_err));
}

static void a_hint_that_lies_is_found_by_the_check(void **state)
{
    const char *path = *state;
    struct hint empty;
    struct api f;
    uint64_t number;

    make_store(path, 300);
    list_files(path, ".hint");
    number = strtoull(names[0], NULL, 16);
    open_store(&f, path);
    OK(hint_check(f.store, number, &api_err));
    memset(&empty, 0, sizeof empty);
    forge(&f, number, &empty);
    REFUSED(hint_check(f.store, number, &api_err), ARMDB_CORRUPT);
    assert_non_null(strstr(api_err.text, names[0]));
    flip(path, names[0], 1);
    REFUSED(hint_check(f.store, number, &api_err), ARMDB_CORRUPT);
    remove_named(path, names[0]);
    REFUSED(hint_check(f.store, number, &api_err), ARMDB_NOT_FOUND);
    REFUSED(hint_check(f.store, 12345, &api_err), ARMDB_NOT_FOUND);
    api_close(&f);
}

static void opening_without_memory_says_so(void **state)
{
    const char *path = *state;
    enum armdb_rc rc = ARMDB_NOMEM;

    make_store(path, 200);
    for (uint64_t n = 1; rc != ARMDB_OK; n += 1 + n / 20) {
        struct armdb_options options;
        struct armdb *store;

        armdb_options_init(&options);
        options.read_only = true;
        adb_mem_fail_at(n, false);
        rc = armdb_open(path, &options, &store, &api_err);
        adb_mem_fail_at(0, false);
        if (rc != ARMDB_OK)
            assert_int_equal(rc, ARMDB_NOMEM);
        armdb_close(store);
        assert_int_equal(adb_mem_used_total(), 0);
        if (adb_mem_failures() == 0)
            break;
        rc = ARMDB_NOMEM; /* what is lacking may be done without */
    }
}

#define TEST(name) \
    cmocka_unit_test_setup_teardown(name, api_make_folder, api_remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(random_histories_open_to_the_same_with_and_without_each_hint),
        TEST(a_key_deleted_in_a_later_segment_stays_deleted),
        TEST(a_foreign_or_stale_hint_costs_one_scan),
        TEST(hints_go_with_their_segments_and_orphans_at_opening),
        TEST(sealed_segments_get_their_hint_while_the_store_is_open),
        TEST(a_hint_that_is_lacking_is_written_by_the_next_opening),
        TEST(closing_reads_a_bounded_number_of_bytes),
        TEST(a_reader_leaves_hints_as_they_are),
        TEST(writers_compactions_and_hints_do_not_disturb_one_another),
        TEST(segments_that_are_too_short_have_none),
        TEST(a_hint_that_lies_is_found_by_the_check),
        TEST(opening_without_memory_says_so),
    };
    const char *seed = getenv("SEED");

    random_state = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    print_message("SEED=%llu\n", (unsigned long long)random_state);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

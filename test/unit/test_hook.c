/* Write hooks: every committed change once, in commit order, none while a lock is held;
 * replay and later commits fit together; hooks come and go while others commit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/armdb.h"
#include "engine/base/mem.h"
#include "engine/base/thread.h"

enum { WRITERS = 4, COMMITS = 300, KEYS = 40, NOTES_BYTES = 4096 };

static struct armdb_error err;

#define OK(call) assert_int_equal((call), ARMDB_OK)

struct fixture {
    struct armdb *store;
    struct armdb_session *session;
    struct armdb_table *table;
    struct armdb_table *other;
};

static void open_fixture(struct fixture *f)
{
    struct armdb_options options;

    memset(f, 0, sizeof *f);
    armdb_options_init(&options);
    options.segment_size = 1 << 20;
    OK(armdb_open(":memory:", &options, &f->store, &err));
    OK(armdb_session_open(f->store, &f->session, &err));
    OK(armdb_table_create(f->session, "t", "", 0, &f->table, &err));
    OK(armdb_table_create(f->session, "u", "", 0, &f->other, &err));
    OK(armdb_commit(f->session, &err));
}

static void close_fixture(struct fixture *f)
{
    armdb_table_close(f->table);
    armdb_table_close(f->other);
    armdb_session_close(f->session);
    armdb_close(f->store);
}

static void put(struct fixture *f, struct armdb_table *table, const char *key,
                const char *value)
{
    OK(armdb_put(f->session, table, key, strlen(key), value, strlen(value), &err));
}

static void drop_key(struct fixture *f, const char *key)
{
    OK(armdb_delete(f->session, f->table, key, strlen(key), &err));
}

/* ---- A hook that writes down what it hears --------------------------------------- */

struct notes {
    char text[NOTES_BYTES];
    size_t used;
    uint64_t last_commit;
    int disorder; /* commits that did not rise */
    bool asks_old;
};

static void note(struct notes *notes, const char *bytes, size_t len)
{
    if (notes->used + len >= sizeof notes->text)
        return;
    memcpy(notes->text + notes->used, bytes, len);
    notes->used += len;
    notes->text[notes->used] = '\0';
}

/* "+t:k=v" insert, "*" update, "-" delete, "=" replay, "0" clear, "x" drop; "<old". */
static void write_down(void *arg, struct armdb_change *change)
{
    static const char signs[] = {'+', '*', '-', '=', '0', 'x'};
    struct notes *notes = arg;
    struct armdb_value value;
    struct armdb_error why;
    char table = change->table == 0 ? 't' : 'u';

    note(notes, &signs[change->kind], 1);
    note(notes, &table, 1);
    note(notes, ":", 1);
    if (change->key_len > 0)
        note(notes, change->key, change->key_len);
    if (armdb_change_value(change, &value, &why) == ARMDB_OK) {
        note(notes, "=", 1);
        note(notes, value.data, value.len);
        if (value.len != change->value_len)
            note(notes, "?", 1);
    }
    if (notes->asks_old && armdb_change_old(change, &value, &why) == ARMDB_OK) {
        note(notes, "<", 1);
        note(notes, value.data, value.len);
    }
    note(notes, " ", 1);
    if (change->commit < notes->last_commit)
        notes->disorder++;
    notes->last_commit = change->commit;
}

static struct armdb_hook *add(struct fixture *f, struct notes *notes, bool replay)
{
    struct armdb_table *tables[2];
    struct armdb_hook_options options = {.table_count = 2};
    struct armdb_hook *hook = NULL;

    tables[0] = f->table;
    tables[1] = f->other;
    options.tables = tables;
    options.call = write_down;
    options.arg = notes;
    options.replay = replay;
    OK(armdb_hook_add(f->store, &options, &hook, &err));
    return hook;
}

static void a_hook_hears_each_committed_change_once(void **state)
{
    struct fixture f;
    struct notes notes = {.asks_old = true};
    struct armdb_hook *hook;

    (void)state;
    open_fixture(&f);
    put(&f, f.table, "a", "1");
    OK(armdb_commit(f.session, &err));
    hook = add(&f, &notes, false);
    put(&f, f.table, "b", "first");
    put(&f, f.table, "a", "2");
    put(&f, f.other, "z", "9");
    put(&f, f.table, "b", "last"); /* one row, told once, where it was written last */
    put(&f, f.table, "c", "gone");
    drop_key(&f, "c"); /* came and went */
    assert_string_equal(notes.text, "");
    OK(armdb_commit(f.session, &err));
    assert_string_equal(notes.text, "*t:a=2<1 +u:z=9 +t:b=last ");
    notes.used = 0;
    notes.text[0] = '\0';
    drop_key(&f, "a");
    OK(armdb_rollback(f.session, &err));
    assert_string_equal(notes.text, "");
    drop_key(&f, "a");
    OK(armdb_savepoint(f.session, 1, &err));
    put(&f, f.table, "q", "undone");
    OK(armdb_savepoint_rollback(f.session, 1, &err));
    OK(armdb_commit(f.session, &err));
    assert_string_equal(notes.text, "-t:a<2 ");
    assert_int_equal(armdb_lock_key(f.session, f.table, "b", 1, &err), ARMDB_EXISTS);
    OK(armdb_commit(f.session, &err)); /* taken, not written */
    assert_string_equal(notes.text, "-t:a<2 ");
    OK(armdb_hook_remove(hook));
    put(&f, f.table, "n", "unheard");
    OK(armdb_commit(f.session, &err));
    assert_string_equal(notes.text, "-t:a<2 ");
    close_fixture(&f);
}

static void a_replay_tells_every_live_row_and_then_what_comes(void **state)
{
    struct fixture f;
    struct notes notes = {.asks_old = true};

    (void)state;
    open_fixture(&f);
    put(&f, f.table, "b", "2");
    put(&f, f.table, "a", "1");
    put(&f, f.table, "dead", "0");
    put(&f, f.other, "", "empty key");
    OK(armdb_commit(f.session, &err));
    drop_key(&f, "dead");
    OK(armdb_commit(f.session, &err));
    put(&f, f.table, "b", "open"); /* not committed: no part of the moment */
    (void)add(&f, &notes, true);
    assert_string_equal(notes.text, "=t:a=1 =t:b=2 =u:=empty key ");
    OK(armdb_commit(f.session, &err));
    assert_string_equal(notes.text, "=t:a=1 =t:b=2 =u:=empty key *t:b=open<2 ");
    assert_int_equal(notes.disorder, 0);
    close_fixture(&f); /* with the hook: the store drops it */
}

static void clear_and_drop_are_told_before_the_new_rows(void **state)
{
    struct fixture f;
    struct notes notes = {.asks_old = true};
    struct armdb_hook *hook;

    (void)state;
    open_fixture(&f);
    put(&f, f.table, "a", "1");
    put(&f, f.other, "z", "1");
    OK(armdb_commit(f.session, &err));
    hook = add(&f, &notes, false);
    put(&f, f.table, "lost", "1");
    OK(armdb_table_clear(f.session, f.table, &err));
    put(&f, f.table, "new", "2");
    OK(armdb_commit(f.session, &err));
    assert_string_equal(notes.text, "0t: +t:new=2 ");
    put(&f, f.table, "new", "3");
    OK(armdb_commit(f.session, &err));
    assert_string_equal(notes.text, "0t: +t:new=2 *t:new=3<2 ");
    OK(armdb_table_drop(f.session, f.other, &err));
    OK(armdb_commit(f.session, &err));
    assert_string_equal(notes.text, "0t: +t:new=2 *t:new=3<2 xu: ");
    OK(armdb_hook_remove(hook));
    close_fixture(&f);
}

static void a_hook_says_what_it_is_not_given(void **state)
{
    struct fixture f;
    struct notes notes = {.asks_old = false};
    struct armdb_hook_options options = {.table_count = 1, .arg = &notes};
    struct armdb_table *unborn = NULL;
    struct armdb_hook *hook;
    struct armdb_session *second = NULL;

    (void)state;
    open_fixture(&f);
    options.tables = &f.table;
    assert_int_equal(armdb_hook_add(f.store, &options, &hook, &err), ARMDB_INVALID);
    assert_null(hook);
    options.call = write_down;
    options.table_count = 0;
    assert_int_equal(armdb_hook_add(f.store, &options, &hook, &err), ARMDB_INVALID);
    OK(armdb_session_open(f.store, &second, &err));
    OK(armdb_table_create(second, "unborn", "", 0, &unborn, &err));
    options.table_count = 1;
    options.tables = &unborn;
    assert_int_equal(armdb_hook_add(f.store, &options, &hook, &err), ARMDB_NOT_FOUND);
    assert_non_null(strstr(err.text, "unborn"));
    armdb_table_close(unborn);
    armdb_session_close(second);
    OK(armdb_hook_remove(NULL));
    put(&f, f.table, "a", "1");
    OK(armdb_commit(f.session, &err));
    assert_string_equal(notes.text, "");
    close_fixture(&f);
}

static void adding_survives_every_failed_allocation(void **state)
{
    struct fixture f;
    struct notes notes = {.asks_old = false};
    struct armdb_hook_options options = {.table_count = 1, .arg = &notes};
    struct armdb_hook *hook = NULL;
    enum armdb_rc rc = ARMDB_NOMEM;
    uint64_t n;

    (void)state;
    open_fixture(&f);
    put(&f, f.table, "a", "1");
    OK(armdb_commit(f.session, &err));
    options.tables = &f.table;
    options.call = write_down;
    options.replay = true;
    for (n = 1; rc == ARMDB_NOMEM; n++) {
        memset(&notes, 0, sizeof notes);
        adb_mem_fail_at(n, false);
        rc = armdb_hook_add(f.store, &options, &hook, &err);
        adb_mem_fail_at(0, false);
        if (rc == ARMDB_NOMEM)
            assert_null(hook);
    }
    OK(rc);
    assert_true(n > 4);
    assert_string_equal(notes.text, "=t:a=1 ");
    put(&f, f.table, "b", "2"); /* only one hook is left to hear it */
    OK(armdb_commit(f.session, &err));
    assert_string_equal(notes.text, "=t:a=1 +t:b=2 ");
    OK(armdb_hook_remove(hook));
    close_fixture(&f);
}

static bool stop_at_once(void *arg)
{
    (*(int *)arg)++;
    return true;
}

static void an_interrupted_replay_leaves_no_hook(void **state)
{
    struct fixture f;
    struct notes notes = {.asks_old = false};
    int asked = 0;
    struct armdb_watch watch = {stop_at_once, &asked};
    struct armdb_hook_options options = {.table_count = 1, .arg = &notes};
    struct armdb_hook *hook;

    (void)state;
    open_fixture(&f);
    put(&f, f.table, "a", "1");
    OK(armdb_commit(f.session, &err));
    options.tables = &f.table;
    options.call = write_down;
    options.replay = true;
    options.watch = &watch;
    assert_int_equal(armdb_hook_add(f.store, &options, &hook, &err), ARMDB_INTERRUPT);
    assert_int_equal(asked, 1);
    put(&f, f.table, "a", "2");
    OK(armdb_commit(f.session, &err));
    assert_string_equal(notes.text, "");
    close_fixture(&f);
}

/* ---- A hook that does things ----------------------------------------------------- */

struct doer {
    struct fixture *f;
    struct armdb_session *session; /* its own */
    struct armdb_table *table;
    struct armdb_table *other;
    struct armdb_hook *hook;
    struct notes notes;
    enum armdb_rc rc;
    bool removes;
};

/* Copies each change of t into u, by a commit inside the call. */
static void copy_row(void *arg, struct armdb_change *change)
{
    struct doer *doer = arg;
    struct armdb_value value;
    struct armdb_error why;

    write_down(&doer->notes, change);
    if (doer->removes)
        doer->rc = armdb_hook_remove(doer->hook);
    if (change->table != 0)
        return;
    if (armdb_change_value(change, &value, &why) != ARMDB_OK ||
        armdb_put(doer->session, doer->other, change->key, change->key_len, value.data,
                  value.len, &why) != ARMDB_OK ||
        armdb_commit(doer->session, &why) != ARMDB_OK)
        note(&doer->notes, "failed", 6);
}

static void begin_doer(struct doer *doer, struct fixture *f)
{
    struct armdb_hook_options options = {.table_count = 2};
    struct armdb_table *tables[2];

    memset(doer, 0, sizeof *doer);
    doer->f = f;
    OK(armdb_session_open(f->store, &doer->session, &err));
    OK(armdb_table_open(doer->session, "t", NULL, &doer->table, &err));
    OK(armdb_table_open(doer->session, "u", NULL, &doer->other, &err));
    tables[0] = f->table;
    tables[1] = f->other;
    options.tables = tables;
    options.call = copy_row;
    options.arg = doer;
    OK(armdb_hook_add(f->store, &options, &doer->hook, &err));
}

static void end_doer(struct doer *doer)
{
    armdb_table_close(doer->table);
    armdb_table_close(doer->other);
    armdb_session_close(doer->session);
}

static void a_hook_may_commit_and_hears_of_it_afterwards(void **state)
{
    struct fixture f;
    struct doer doer;

    (void)state;
    open_fixture(&f);
    begin_doer(&doer, &f);
    put(&f, f.table, "a", "1");
    put(&f, f.table, "b", "2");
    OK(armdb_commit(f.session, &err));
    assert_string_equal(doer.notes.text, "+t:a=1 +t:b=2 +u:a=1 +u:b=2 ");
    assert_int_equal(doer.notes.disorder, 0);
    OK(armdb_hook_remove(doer.hook));
    end_doer(&doer);
    close_fixture(&f);
}

static void a_hook_may_remove_itself(void **state)
{
    struct fixture f;
    struct doer doer;

    (void)state;
    open_fixture(&f);
    begin_doer(&doer, &f);
    doer.removes = true;
    put(&f, f.other, "a", "1");
    OK(armdb_commit(f.session, &err));
    assert_int_equal(doer.rc, ARMDB_BUSY);
    put(&f, f.other, "b", "2");
    OK(armdb_commit(f.session, &err));
    assert_string_equal(doer.notes.text, "+u:a=1 ");
    end_doer(&doer);
    close_fixture(&f);
}

static void what_a_hook_held_back_is_freed(void **state)
{
    struct fixture f;
    struct notes notes = {.asks_old = true};
    struct armdb_hook *hook;
    uint64_t before = 0;

    (void)state;
    open_fixture(&f);
    hook = add(&f, &notes, false);
    for (int i = 0; i < 2000; i++) {
        notes.used = 0;
        put(&f, f.table, "k", i % 2 == 0 ? "even" : "odd");
        OK(armdb_commit(f.session, &err));
        if (i == 999)
            before = adb_mem_used(ADB_MEM_TXN) + adb_mem_used(ADB_MEM_NODES);
    }
    assert_true(adb_mem_used(ADB_MEM_TXN) + adb_mem_used(ADB_MEM_NODES) <=
                before + (64 << 10));
    OK(armdb_hook_remove(hook));
    close_fixture(&f);
}

/* ---- Threads --------------------------------------------------------------------- */

/* A copy of a table as a hook sees it: every change must fit to the one before. */
struct mirror {
    uint64_t rows[KEYS]; /* value + 1; 0 = no row. Of one call at a time, unguarded */
    uint64_t commit;
    uint64_t calls;
    _Atomic int running;
    _Atomic int wrong;
};

static uint64_t number_of(struct armdb_change *change, bool old, struct mirror *mirror)
{
    struct armdb_value value;
    struct armdb_error why;
    uint64_t number = 0;
    enum armdb_rc rc = old ? armdb_change_old(change, &value, &why)
                           : armdb_change_value(change, &value, &why);

    if (rc == ARMDB_NOT_FOUND)
        return 0;
    if (rc != ARMDB_OK || value.len != sizeof number)
        atomic_store(&mirror->wrong, 1);
    else
        memcpy(&number, value.data, sizeof number);
    return number + 1;
}

static void mirror_row(void *arg, struct armdb_change *change)
{
    struct mirror *mirror = arg;
    uint32_t key = 0;

    if (atomic_fetch_add(&mirror->running, 1) != 0)
        atomic_store(&mirror->wrong, 2); /* two calls at once */
    if (change->key_len != sizeof key || change->commit < mirror->commit)
        atomic_store(&mirror->wrong, 3);
    else
        memcpy(&key, change->key, sizeof key);
    mirror->commit = change->commit;
    mirror->calls++;
    if (key >= KEYS)
        atomic_store(&mirror->wrong, 4);
    else {
        if (mirror->rows[key] != number_of(change, true, mirror))
            atomic_store(&mirror->wrong, 5); /* lost, twice or out of order */
        mirror->rows[key] = number_of(change, false, mirror);
    }
    atomic_fetch_sub(&mirror->running, 1);
}

struct world {
    struct fixture f;
    _Atomic int left;
    _Atomic int failed;
};

struct writer {
    struct world *world;
    uint64_t random;
};

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static enum armdb_rc write_some(struct armdb_session *session, struct armdb_table *table,
                                uint64_t *random, struct armdb_error *why)
{
    enum armdb_rc rc = ARMDB_OK;

    for (uint64_t n = next_random(random) % 3 + 1; n > 0 && rc >= 0; n--) {
        uint32_t key = (uint32_t)(next_random(random) % KEYS);
        uint64_t value = next_random(random) % 1000000;

        if (next_random(random) % 4 == 0)
            rc = armdb_delete(session, table, &key, sizeof key, why);
        else
            rc = armdb_put(session, table, &key, sizeof key, &value, sizeof value, why);
    }
    return rc;
}

static void keep_writing(void *arg)
{
    struct writer *writer = arg;
    struct world *world = writer->world;
    struct armdb_session *session = NULL;
    struct armdb_table *table = NULL;
    struct armdb_error why;

    if (armdb_session_open(world->f.store, &session, &why) != ARMDB_OK ||
        armdb_table_open(session, "t", NULL, &table, &why) != ARMDB_OK)
        atomic_store(&world->failed, 1);
    for (int i = 0; i < COMMITS && atomic_load(&world->failed) == 0; i++) {
        enum armdb_rc rc = write_some(session, table, &writer->random, &why);

        if (rc >= 0 && armdb_commit(session, &why) != ARMDB_OK)
            atomic_store(&world->failed, 2);
        if (rc < 0 && armdb_rollback(session, &why) != ARMDB_OK)
            atomic_store(&world->failed, 3);
        if (rc < 0 && rc != ARMDB_BUSY && rc != ARMDB_BUSY_SNAPSHOT)
            atomic_store(&world->failed, 4);
    }
    armdb_table_close(table);
    armdb_session_close(session);
    atomic_fetch_sub(&world->left, 1);
}

static void start_writers(struct world *world, struct writer *writers,
                          struct adb_thread *threads, uint64_t seed)
{
    atomic_store(&world->left, WRITERS);
    atomic_store(&world->failed, 0);
    for (int i = 0; i < WRITERS; i++) {
        writers[i].world = world;
        writers[i].random = (seed + 1) * 7919 + (uint64_t)i;
        OK(adb_thread_start(&threads[i], keep_writing, &writers[i]));
    }
}

static uint64_t seed_of_run(void)
{
    const char *text = getenv("SEED");
    uint64_t seed = text != NULL ? strtoull(text, NULL, 10) : adb_mono_ns();

    (void)printf("SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

/* What the table holds must be what the mirror says. */
static void assert_same(struct fixture *f, const struct mirror *mirror)
{
    struct armdb_cursor *cursor = NULL;

    armdb_statement_begin(f->session);
    OK(armdb_cursor_open(f->session, f->table, &cursor, &err));
    for (uint32_t key = 0; key < KEYS; key++) {
        struct armdb_value value;
        uint64_t number = 0;
        enum armdb_rc rc = armdb_cursor_seek_key(cursor, &key, sizeof key, &err);

        if (rc == ARMDB_OK) {
            OK(armdb_cursor_value(cursor, &value, &err));
            memcpy(&number, value.data, sizeof number);
            number++;
        } else {
            assert_int_equal(rc, ARMDB_DONE);
        }
        assert_int_equal(mirror->rows[key], number);
    }
    armdb_cursor_close(cursor);
}

static void hooks_with_replay_mirror_a_table_under_writers(void **state)
{
    struct world world;
    struct writer writers[WRITERS];
    struct adb_thread threads[WRITERS];
    struct mirror early = {.commit = 0};
    struct mirror late = {.commit = 0};
    struct armdb_hook_options options = {.table_count = 1, .replay = true};
    struct armdb_hook *first = NULL;
    struct armdb_hook *second = NULL;

    (void)state;
    open_fixture(&world.f);
    options.tables = &world.f.table;
    options.call = mirror_row;
    options.arg = &early;
    OK(armdb_hook_add(world.f.store, &options, &first, &err));
    start_writers(&world, writers, threads, seed_of_run());
    options.arg = &late;
    OK(armdb_hook_add(world.f.store, &options, &second, &err));
    for (int i = 0; i < WRITERS; i++)
        adb_thread_join(&threads[i]);
    assert_int_equal(atomic_load(&world.failed), 0);
    assert_int_equal(atomic_load(&early.wrong), 0);
    assert_int_equal(atomic_load(&late.wrong), 0);
    assert_true(early.calls > COMMITS);
    assert_same(&world.f, &early);
    assert_same(&world.f, &late);
    OK(armdb_hook_remove(first));
    OK(armdb_hook_remove(second));
    close_fixture(&world.f);
}

static void hooks_come_and_go_under_writers(void **state)
{
    struct world world;
    struct writer writers[WRITERS];
    struct adb_thread threads[WRITERS];
    int rounds = 0;

    (void)state;
    open_fixture(&world.f);
    start_writers(&world, writers, threads, seed_of_run());
    while (atomic_load(&world.left) > 0) {
        struct armdb_hook_options options = {.table_count = 1, .replay = true};
        struct mirror *mirror = calloc(1, sizeof *mirror);
        struct armdb_hook *hook = NULL;

        assert_non_null(mirror);
        options.tables = &world.f.table;
        options.call = mirror_row;
        options.arg = mirror;
        OK(armdb_hook_add(world.f.store, &options, &hook, &err));
        OK(armdb_hook_remove(hook));
        assert_int_equal(atomic_load(&mirror->wrong), 0);
        assert_int_equal(atomic_load(&mirror->running), 0);
        free(mirror); /* nobody calls any more: asan and tsan would say */
        rounds++;
    }
    for (int i = 0; i < WRITERS; i++)
        adb_thread_join(&threads[i]);
    assert_int_equal(atomic_load(&world.failed), 0);
    assert_true(rounds > 0);
    close_fixture(&world.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hook_hears_each_committed_change_once),
        cmocka_unit_test(a_replay_tells_every_live_row_and_then_what_comes),
        cmocka_unit_test(clear_and_drop_are_told_before_the_new_rows),
        cmocka_unit_test(a_hook_says_what_it_is_not_given),
        cmocka_unit_test(adding_survives_every_failed_allocation),
        cmocka_unit_test(an_interrupted_replay_leaves_no_hook),
        cmocka_unit_test(a_hook_may_commit_and_hears_of_it_afterwards),
        cmocka_unit_test(a_hook_may_remove_itself),
        cmocka_unit_test(what_a_hook_held_back_is_freed),
        cmocka_unit_test(hooks_with_replay_mirror_a_table_under_writers),
        cmocka_unit_test(hooks_come_and_go_under_writers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* armdb_verify() beside writers and readers: whatever they do, nothing is found. Writers
 * put, overwrite, delete and insert anew over few keys, roll back open and prepared
 * transactions, undo savepoints, clear a table, while the store is compacted and
 * salvaged. Built for ThreadSanitizer as well. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "engine/armdb.h"
#include "engine/base/thread.h"

enum {
    WRITERS = 3,
    OTHERS = 2,
    VERIFIERS = 2,
    ROUNDS = 8,
    COMMITS_MIN = 400,
    KEYS = 400,
    VALUE_MAX = 3000,
    TRANSACTIONS_MAX = 1500
};

struct world {
    struct armdb *store;
    const char *folder;
    _Atomic int wrong;
    _Atomic int stop;
    _Atomic uint64_t committed;
};

struct worker {
    struct world *world;
    uint64_t random;
    enum armdb_sync sync;
};

static uint64_t next_random(struct worker *worker)
{
    worker->random ^= worker->random << 13;
    worker->random ^= worker->random >> 7;
    worker->random ^= worker->random << 17;
    return worker->random;
}

static void complain(struct world *world, const char *what, const char *text)
{
    if (atomic_exchange(&world->wrong, 1) == 0)
        (void)fprintf(stderr, "%s: %s\n", what, text);
}

static enum armdb_rc write_some(struct worker *worker, struct armdb_session *session,
                                struct armdb_table *table, struct armdb_error *err)
{
    static const unsigned char bytes[VALUE_MAX] = {1};
    enum armdb_rc rc = ARMDB_OK;

    for (int i = 0; rc == ARMDB_OK && i < 5; i++) {
        uint32_t key = (uint32_t)(next_random(worker) % KEYS);

        if (next_random(worker) % 3 == 0)
            rc = armdb_delete(session, table, &key, sizeof key, err);
        else
            rc = armdb_put(session, table, &key, sizeof key, bytes,
                           next_random(worker) % VALUE_MAX, err);
        if (rc == ARMDB_NOT_FOUND)
            rc = ARMDB_OK;
        if (rc == ARMDB_OK && i == 2)
            rc = armdb_savepoint(session, 0, err);
    }
    if (rc == ARMDB_OK && next_random(worker) % 4 == 0)
        rc = armdb_savepoint_rollback(session, 0, err);
    return rc;
}

static enum armdb_rc transaction(struct worker *worker, struct armdb_session *session,
                                 struct armdb_table *table, struct armdb_error *err)
{
    enum armdb_rc rc;

    if (next_random(worker) % 64 == 0)
        rc = armdb_table_clear(session, table, err);
    else
        rc = write_some(worker, session, table, err);
    if (rc == ARMDB_OK && next_random(worker) % 5 == 0) {
        rc = armdb_prepare(session, ARMDB_DOUBT_ABORT, err);
        if (rc == ARMDB_OK && next_random(worker) % 2 == 0)
            return armdb_rollback(session, err);
    }
    if (rc == ARMDB_OK)
        rc = armdb_commit(session, err);
    if (rc == ARMDB_OK)
        atomic_fetch_add(&worker->world->committed, 1);
    return rc;
}

static void write_all(void *arg)
{
    struct worker *worker = arg;
    struct world *world = worker->world;
    struct armdb_session *session = NULL;
    struct armdb_table *table = NULL;
    struct armdb_error err = {ARMDB_OK, 0, ""};

    if (armdb_session_open(world->store, &session, &err) != ARMDB_OK ||
        armdb_table_open(session, "t", NULL, &table, &err) != ARMDB_OK)
        complain(world, "setup", err.text);
    else
        armdb_table_set_sync(table, worker->sync);
    /* Bounded, or the store would outgrow who reads it, with ThreadSanitizer above all.
     */
    for (int i = 0; i < TRANSACTIONS_MAX && !atomic_load(&world->stop) &&
                    !atomic_load(&world->wrong);
         i++) {
        struct timespec pause = {0, 200000};
        enum armdb_rc rc = transaction(worker, session, table, &err);

        if (rc == ARMDB_BUSY || rc == ARMDB_BUSY_SNAPSHOT)
            rc = armdb_rollback(session, &err);
        if (rc != ARMDB_OK)
            complain(world, "writing", err.text);
        (void)nanosleep(&pause, NULL);
    }
    armdb_table_close(table);
    armdb_session_close(session);
}

static void on_finding(void *arg, const struct armdb_finding *finding)
{
    char text[600];

    (void)snprintf(text, sizeof text, "%s offset %llu: %s",
                   finding->file == NULL ? "-" : finding->file,
                   (unsigned long long)finding->offset, finding->what);
    complain(arg, "found", text);
}

static void verify_again_and_again(void *arg)
{
    struct worker *worker = arg;
    struct armdb_error err = {ARMDB_OK, 0, ""};

    for (int i = 0;
         (i < ROUNDS || atomic_load(&worker->world->committed) < COMMITS_MIN) &&
         !atomic_load(&worker->world->wrong);
         i++)
        if (armdb_verify(worker->world->store, NULL, on_finding, worker->world, &err) !=
            ARMDB_OK)
            complain(worker->world, "verifying", err.text);
}

static void compact_again_and_again(void *arg)
{
    struct worker *worker = arg;
    struct world *world = worker->world;
    struct armdb_compact_info info;
    struct armdb_error err = {ARMDB_OK, 0, ""};

    while (!atomic_load(&world->stop) && !atomic_load(&world->wrong)) {
        struct timespec pause = {0, 2000000};

        if (armdb_compact(world->store, NULL, &info, &err) != ARMDB_OK)
            complain(world, "compacting", err.text);
        (void)nanosleep(&pause, NULL);
    }
}

/* What is saved is a store without a finding, whatever goes on meanwhile. */
static void salvage_again_and_again(void *arg)
{
    struct worker *worker = arg;
    struct world *world = worker->world;
    struct armdb_salvage_info info;
    struct armdb_options options;
    struct armdb_error err = {ARMDB_OK, 0, ""};
    char path[220];
    char command[240];

    armdb_options_init(&options);
    options.create = false;
    (void)snprintf(path, sizeof path, "%s/saved", world->folder);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", path);
    while (!atomic_load(&world->stop) && !atomic_load(&world->wrong)) {
        struct armdb *saved = NULL;

        if (armdb_salvage(world->store, path, NULL, on_finding, world, &info, &err) !=
                ARMDB_OK ||
            armdb_open(path, &options, &saved, &err) != ARMDB_OK ||
            armdb_verify(saved, NULL, on_finding, world, &err) != ARMDB_OK)
            complain(world, "salvaging", err.text);
        armdb_close(saved);
        if (info.lost > 0 || system(command) != 0)
            complain(world, "salvaging", "something was lost");
    }
}

static void run_world(const char *path, const char *folder)
{
    struct world world = {.folder = folder};
    struct worker workers[WRITERS + VERIFIERS + OTHERS];
    struct adb_thread threads[WRITERS + VERIFIERS + OTHERS];
    struct armdb_options options;
    struct armdb_session *session;
    struct armdb_table *table;
    struct armdb_error err;

    armdb_options_init(&options);
    options.segment_size = 1 << 20;
    options.cache_size = 4 << 20;
    options.compact_off = true; /* one thread does nothing else */
    assert_int_equal(armdb_open(path, &options, &world.store, &err), ARMDB_OK);
    assert_int_equal(armdb_session_open(world.store, &session, &err), ARMDB_OK);
    assert_int_equal(armdb_table_create(session, "t", "", 0, &table, &err), ARMDB_OK);
    assert_int_equal(armdb_commit(session, &err), ARMDB_OK);
    for (int i = 0; i < WRITERS + VERIFIERS + OTHERS; i++) {
        workers[i].world = &world;
        workers[i].random = 88172645463325252ULL + (uint64_t)i * 7919;
        workers[i].sync = (enum armdb_sync)(i % 3);
        assert_int_equal(
            adb_thread_start(&threads[i],
                             i < WRITERS                ? write_all
                             : i < WRITERS + VERIFIERS  ? verify_again_and_again
                             : i == WRITERS + VERIFIERS ? compact_again_and_again
                                                        : salvage_again_and_again,
                             &workers[i]),
            ARMDB_OK);
    }
    for (int i = WRITERS; i < WRITERS + VERIFIERS; i++)
        adb_thread_join(&threads[i]);
    atomic_store(&world.stop, 1);
    for (int i = 0; i < WRITERS; i++)
        adb_thread_join(&threads[i]);
    for (int i = WRITERS + VERIFIERS; i < WRITERS + VERIFIERS + OTHERS; i++)
        adb_thread_join(&threads[i]);
    assert_int_equal(world.wrong, 0);
    assert_true(world.committed > 0);
    assert_int_equal(armdb_verify(world.store, NULL, on_finding, &world, &err), ARMDB_OK);
    assert_int_equal(world.wrong, 0);
    armdb_table_close(table);
    armdb_session_close(session);
    armdb_close(world.store);
}

static void run_in_folder(const char *name)
{
    const char *tmp = getenv("TMPDIR");
    char folder[200];
    char path[220];
    char command[240];

    (void)snprintf(folder, sizeof folder, "%s/armdb_test_verify_XXXXXX",
                   tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/store", folder);
    run_world(name != NULL ? name : path, folder);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}

static void nothing_is_found_beside_writers_on_disk(void **state)
{
    (void)state;
    run_in_folder(NULL);
}

static void nothing_is_found_beside_writers_in_memory(void **state)
{
    (void)state;
    run_in_folder(":memory:");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_found_beside_writers_on_disk),
        cmocka_unit_test(nothing_is_found_beside_writers_in_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

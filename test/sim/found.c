/* found.c - what the simulations found, each as a test of its own; a full disk. */
#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/store/internal.h"
#include "test/sim/sim_disk.h"
#include "test/sim/sim_media.h"
#include "test/sim/sim_run.h"
#include "test/sim/sim_sched.h"

static const struct sim_plan plan = {"found", 0, 1, 1, 1, ARMDB_SYNC_FULL};

static void ok(enum armdb_rc rc, const struct armdb_error *err)
{
    if (rc != ARMDB_OK)
        sim_fail("%s (%s)", adb_rc_name(rc), err->text);
}

struct user {
    struct armdb *store;
    struct armdb_session *session;
    struct armdb_table *table;
    struct armdb_error err;
};

static void begin(struct user *u)
{
    memset(u, 0, sizeof *u);
    ok(sim_store_open(&plan, &u->store, &u->err), &u->err);
    ok(armdb_session_open(u->store, &u->session, &u->err), &u->err);
}

static void end(struct user *u, struct sim_disk *disk, bool crash)
{
    disk->dead = crash;
    armdb_table_close(u->table);
    armdb_session_close(u->session);
    armdb_close(u->store);
    disk->dead = false;
}

static void create(struct user *u, const char *name)
{
    ok(armdb_table_create(u->session, name, "s", 1, &u->table, &u->err), &u->err);
    ok(armdb_commit(u->session, &u->err), &u->err);
}

/* The manifest on disk is older than the table, the catalogue no longer lists it: only
 * its rows on the log know the id. */
static void a_dropped_tables_id_is_not_given_again_after_a_crash(void)
{
    struct sim_disk *disk = sim_disk_create(1);
    struct user u;

    sim_disk_mount(disk);
    begin(&u);
    create(&u, "zero"); /* the segment that is made for it puts the next id down */
    armdb_table_close(u.table);
    create(&u, "first");
    ok(armdb_put(u.session, u.table, "k", 1, "v", 1, &u.err), &u.err);
    ok(armdb_commit(u.session, &u.err), &u.err);
    ok(armdb_table_drop(u.session, u.table, &u.err), &u.err);
    ok(armdb_commit(u.session, &u.err), &u.err);
    end(&u, disk, true);

    begin(&u);
    create(&u, "second");
    end(&u, disk, true);

    begin(&u);
    ok(armdb_table_open(u.session, "second", NULL, &u.table, &u.err), &u.err);
    if (armdb_count(u.table) != 0)
        sim_fail("the new table has a row of the dropped one");
    end(&u, disk, false);
    sim_disk_destroy(disk);
}

/* ---- Failures while files change places ---- */

/* Every disk that a crash in this journal can leave opens. */
static void every_crash_opens(const struct sim_disk *base,
                              const struct sim_journal *journal)
{
    struct sim_media *media = sim_media_create(base, journal);

    for (size_t at = 0; at <= journal->count; at++) {
        sim_media_advance(media, at);
        for (uint64_t i = 0; i < 40; i++) {
            struct sim_disk *image =
                sim_media_image(media, (enum sim_cut)(i % SIM_CUTS), sim_mix(at) + i);
            struct user u;

            sim_disk_mount(image);
            begin(&u);
            end(&u, image, true);
            sim_disk_destroy(image);
        }
    }
    sim_media_destroy(media);
}

/* The new manifest may be in its place although its replacement reports an error: the
 * segment that it lists must not be taken away. */
static void a_segment_stays_when_its_manifest_may_be_in_place(void)
{
    struct sim_fault fault = {.at = 4, .error = 5, .only_sync = true};
    struct sim_disk *disk = sim_disk_create(1);
    struct user u;

    sim_disk_mount(disk);
    begin(&u);
    sim_disk_fault(disk, &fault); /* segment, folder, manifest.tmp, folder */
    ok(armdb_table_create(u.session, "t", "s", 1, &u.table, &u.err), &u.err);
    if (armdb_commit(u.session, &u.err) == ARMDB_OK || disk->faults_hit != 1)
        sim_fail("the commit should have failed");
    sim_disk_fault(disk, NULL);
    end(&u, disk, true);
    begin(&u);
    end(&u, disk, false);
    sim_disk_destroy(disk);
}

/* A segment without a frame is given up by a clean close: first in the manifest. */
static void an_empty_segment_goes_after_the_manifest_that_lists_it(void)
{
    for (uint64_t n = 1; adb_mem_failures() > 0 || n == 1; n++) {
        struct sim_disk *disk = sim_disk_create(1);
        struct sim_disk *empty = sim_disk_create(1);
        struct sim_journal journal = {0};
        struct user u;

        disk->journal = &journal;
        sim_disk_mount(disk);
        begin(&u);
        ok(armdb_table_create(u.session, "t", "s", 1, &u.table, &u.err), &u.err);
        adb_mem_fail_at(n, true);
        if (armdb_commit(u.session, &u.err) != ARMDB_OK)
            ok(armdb_rollback(u.session, &u.err), &u.err);
        adb_mem_fail_at(0, false);
        end(&u, disk, false);
        every_crash_opens(empty, &journal);
        sim_journal_fini(&journal);
        sim_disk_destroy(disk);
        sim_disk_destroy(empty);
    }
}

/* "Not a store" is an answer about what is there, not about a failed read of it. */
static void an_io_error_is_not_taken_for_a_foreign_folder(void)
{
    enum armdb_rc rc = ARMDB_IO;

    for (uint64_t n = 1; rc != ARMDB_OK; n++) {
        struct sim_fault fault = {.at = n, .error = 5};
        struct sim_disk *disk = sim_disk_create(1);
        struct armdb_error err = {0};
        struct armdb *store = NULL;

        sim_disk_mount(disk);
        sim_disk_fault(disk, &fault);
        rc = sim_store_open(&plan, &store, &err);
        if (rc != ARMDB_OK && rc != ARMDB_IO && rc != ARMDB_CANTOPEN)
            sim_fail("call %d fails, the opening says %s (%s)", (int)n, adb_rc_name(rc),
                     err.text);
        armdb_close(store);
        sim_disk_destroy(disk);
    }
}

/* A creation whose last sync failed, begun again: the superblock's name comes before
 * any segment. */
static void a_superblock_is_durable_before_the_first_segment(void)
{
    struct sim_fault fault = {.at = 4, .error = 5, .only_sync = true};
    struct sim_disk *disk = sim_disk_create(1);
    struct sim_disk *empty = sim_disk_create(1);
    struct sim_journal journal = {0};
    struct armdb_error err = {0};
    struct armdb *store = NULL;
    struct user u;

    disk->journal = &journal;
    sim_disk_mount(disk);
    sim_disk_fault(disk, &fault); /* manifest.tmp, folder, superblock.tmp, folder */
    if (sim_store_open(&plan, &store, &err) == ARMDB_OK || disk->faults_hit != 1)
        sim_fail("the creation should have failed");
    sim_disk_fault(disk, NULL);
    begin(&u);
    create(&u, "t");
    end(&u, disk, false);
    every_crash_opens(empty, &journal);
    sim_journal_fini(&journal);
    sim_disk_destroy(disk);
    sim_disk_destroy(empty);
}

/* A flush fails while another session rotates the same shard: the SEAL's sync, which
 * succeeds, must not make the lost bytes pass for durable. */
static void a_rotation_does_not_cover_up_a_failed_sync(void)
{
    static const struct sim_plan group = {
        "group", SIM_ROTATE | SIM_FAULTS | SIM_FLUSH, 1, 4, 4, -1};

    for (uint64_t i = 0; i < 600; i++) {
        struct sim_fault fault = {.at = 5 + i % 24, .error = 5, .only_sync = true};
        struct sim_disk *disk = sim_disk_create(i);
        struct sim_disk *empty = sim_disk_create(i);
        struct sim_journal journal = {0};
        struct sim_history history = {0};
        struct armdb_error err = {0};
        struct armdb *store = NULL;
        struct sim_media *media;
        struct sim_state found;
        struct sim_disk *image;

        sim_sched_seed(i, 100);
        sim_run_set_next(1);
        disk->journal = &journal;
        sim_disk_mount(disk);
        ok(sim_store_open(&group, &store, &err), &err);
        sim_disk_fault(disk, &fault);
        sim_run(store, &group, i, false, &history);
        armdb_close(store); /* of a wounded store: promises nothing */
        media = sim_media_create(empty, &journal);
        sim_media_advance(media, journal.count);
        image = sim_media_image(media, SIM_LOST, i);
        sim_disk_mount(image);
        store = NULL;
        ok(sim_store_open(&group, &store, &err), &err);
        sim_state_read(store, &found);
        sim_history_check(&history, &found, journal.count, false);
        armdb_close(store);
        sim_disk_destroy(image);
        sim_media_destroy(media);
        sim_history_fini(&history);
        sim_journal_fini(&journal);
        sim_disk_destroy(disk);
        sim_disk_destroy(empty);
    }
}

/* Commits are refused while there is no room, harm nothing, and work again without
 * opening anew once there is. */
static void a_full_disk_is_used_again_when_it_has_room(void)
{
    struct sim_disk *disk = sim_disk_create(1);
    static unsigned char value[100000];
    enum armdb_rc rc = ARMDB_OK;
    struct user u;
    uint64_t rows = 0;

    sim_disk_mount(disk);
    begin(&u);
    create(&u, "t");
    disk->room = 3 << 20;
    for (uint32_t k = 0; rc == ARMDB_OK && k < 100; k++) {
        ok(armdb_put(u.session, u.table, &k, sizeof k, value, sizeof value, &u.err),
           &u.err);
        rc = armdb_commit(u.session, &u.err);
        rows += rc == ARMDB_OK;
    }
    if (rc != ARMDB_FULL)
        sim_fail("a full disk gives %s (%s)", adb_rc_name(rc), u.err.text);
    ok(armdb_rollback(u.session, &u.err), &u.err);
    disk->room = 0;
    ok(armdb_put(u.session, u.table, "more", 4, value, sizeof value, &u.err), &u.err);
    ok(armdb_commit(u.session, &u.err), &u.err);
    end(&u, disk, true);
    begin(&u);
    ok(armdb_table_open(u.session, "t", NULL, &u.table, &u.err), &u.err);
    if (armdb_count(u.table) != rows + 1)
        sim_fail("%d rows, not %d", (int)armdb_count(u.table), (int)rows + 1);
    end(&u, disk, false);
    sim_disk_destroy(disk);
}

/* ---- Compaction ---- */

/* Puts the row of that number. */
static void put_row(struct user *u, int number, char letter)
{
    char value[400];
    char key[16];

    (void)snprintf(key, sizeof key, "k%d", number);
    memset(value, letter, sizeof value);
    ok(armdb_put(u->session, u->table, key, strlen(key), value, sizeof value, &u->err),
       &u->err);
}

/* Rows in a sealed segment, and a transaction that supersedes them: it is on the disk,
 * its verdict, without which it is out, is not yet. */
static void supersede_all(struct user *u, int rows)
{
    for (int i = 0;
         atomic_load_explicit(&u->store->log.stats.sealed, memory_order_relaxed) == 0;
         i++) {
        put_row(u, i % rows, 'o');
        ok(armdb_commit(u->session, &u->err), &u->err);
    }
    armdb_table_set_sync(u->table, ARMDB_SYNC_OFF);
    for (int i = 0; i < rows; i++)
        put_row(u, i, 'n');
    ok(armdb_prepare(u->session, ARMDB_DOUBT_ABORT, &u->err), &u->err);
    ok(armdb_flush(u->store, &u->err), &u->err);
    ok(armdb_commit(u->session, &u->err), &u->err);
}

/* The background rewrites the segment of the superseded rows. Then the power goes, and
 * each row has its old value or its new one. */
static void what_is_superseded_goes_when_that_is_durable(void)
{
    static const struct sim_plan rotating = {"found", SIM_ROTATE, 1,
                                             1,       1,          ARMDB_SYNC_FULL};
    enum { ROWS = 20 };
    struct sim_disk *disk = sim_disk_create(1);
    struct sim_disk *empty = sim_disk_create(1);
    struct sim_journal journal = {0};
    struct sim_media *media;
    struct sim_disk *image;
    struct user u = {0};

    disk->journal = &journal;
    sim_disk_mount(disk);
    ok(sim_store_open(&rotating, &u.store, &u.err), &u.err);
    ok(armdb_session_open(u.store, &u.session, &u.err), &u.err);
    create(&u, "t");
    supersede_all(&u, ROWS);
    armdb_compact_pause(u.store, false);
    for (int i = 0; i < 1000000 && atomic_load_explicit(&u.store->compactor.runs,
                                                        memory_order_relaxed) == 0;
         i++)
        sim_sched_yield();
    if (atomic_load_explicit(&u.store->compactor.runs, memory_order_relaxed) == 0)
        sim_fail("the background does nothing");
    end(&u, disk, true);
    media = sim_media_create(empty, &journal);
    sim_media_advance(media, journal.count);
    image = sim_media_image(media, SIM_LOST, 1);
    sim_disk_mount(image);
    begin(&u);
    ok(armdb_table_open(u.session, "t", NULL, &u.table, &u.err), &u.err);
    if (armdb_count(u.table) != ROWS)
        sim_fail("%d rows of %d are left", (int)armdb_count(u.table), ROWS);
    end(&u, image, false);
    sim_disk_destroy(image);
    sim_media_destroy(media);
    sim_journal_fini(&journal);
    sim_disk_destroy(disk);
    sim_disk_destroy(empty);
}

/* A row's value is 400 times this letter. */
static void expect_row(struct user *u, int number, char letter)
{
    struct armdb_value value;
    char key[16];

    (void)snprintf(key, sizeof key, "k%d", number);
    ok(armdb_get(u->session, u->table, key, strlen(key), &value, &u->err), &u->err);
    if (value.len != 400 || ((const char *)value.data)[0] != letter ||
        ((const char *)value.data)[399] != letter)
        sim_fail("row %d is not '%c'", number, letter);
    armdb_value_release(&value);
}

/* It says that the disk is full, every row is as it was, and once there is room it works,
 * without opening anew. */
static void a_compaction_on_a_full_disk_says_so_and_harms_nothing(void)
{
    enum { ROWS = 800 };
    struct sim_disk *disk = sim_disk_create(1);
    struct armdb_compact_info info;
    struct user u;
    enum armdb_rc rc;

    sim_disk_mount(disk);
    begin(&u);
    create(&u, "t");
    for (int i = 0; i < ROWS; i++)
        put_row(&u, i, 'o');
    ok(armdb_commit(u.session, &u.err), &u.err);
    for (int i = 0; i < ROWS; i += 2)
        put_row(&u, i, 'n');
    ok(armdb_commit(u.session, &u.err), &u.err);
    disk->room = 600000; /* sealing gives back what was preallocated */
    rc = armdb_compact(u.store, NULL, &info, &u.err);
    if (rc != ARMDB_FULL)
        sim_fail("a full disk gives %s (%s)", adb_rc_name(rc), u.err.text);
    for (int i = 0; i < ROWS; i++)
        expect_row(&u, i, i % 2 == 0 ? 'n' : 'o');
    disk->room = 0;
    ok(armdb_compact(u.store, NULL, &info, &u.err), &u.err);
    if (info.bytes_after * 4 > info.bytes_before * 3)
        sim_fail("%llu bytes became %llu", (unsigned long long)info.bytes_before,
                 (unsigned long long)info.bytes_after);
    end(&u, disk, true);
    begin(&u);
    ok(armdb_table_open(u.session, "t", NULL, &u.table, &u.err), &u.err);
    for (int i = 0; i < ROWS; i++)
        expect_row(&u, i, i % 2 == 0 ? 'n' : 'o');
    end(&u, disk, false);
    sim_disk_destroy(disk);
}

static void run(const char *name, void (*test)(void))
{
    sim_context("%s", name);
    sim_sched_seed(1, 0);
    test();
    printf("ok - %s\n", name);
}

int main(void)
{
    run("a dropped table's id is not given again after a crash",
        a_dropped_tables_id_is_not_given_again_after_a_crash);
    run("a segment stays when its manifest may be in place",
        a_segment_stays_when_its_manifest_may_be_in_place);
    run("an empty segment goes after the manifest that lists it",
        an_empty_segment_goes_after_the_manifest_that_lists_it);
    run("an I/O error is not taken for a foreign folder",
        an_io_error_is_not_taken_for_a_foreign_folder);
    run("a superblock is durable before the first segment",
        a_superblock_is_durable_before_the_first_segment);
    run("a compaction on a full disk says so and harms nothing",
        a_compaction_on_a_full_disk_says_so_and_harms_nothing);
    run("a rotation does not cover up a failed sync",
        a_rotation_does_not_cover_up_a_failed_sync);
    run("a full disk is used again when it has room",
        a_full_disk_is_used_again_when_it_has_room);
    run("what is superseded goes when that is durable",
        what_is_superseded_goes_when_that_is_durable);
    return 0;
}

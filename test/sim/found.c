/* found.c - what the simulations found, each as a test of its own. */
#include <stdio.h>
#include <string.h>

#include "test/sim/sim_disk.h"
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
    return 0;
}

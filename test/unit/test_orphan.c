/* What a CREATE leaves whose process dies between armdb's half of COMMIT and SQLite's:
 * a table of the store that no schema knows. The next opening drops it, with its rows and
 * nobody else's; a CREATE that was committed stays. The process dies in SQLite's commit
 * hook, which runs exactly between the two. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "engine/armdb.h"
#include "ext/ext.h"

enum { DIED = 9 };

static char folder[64];
static char database[96];
static char store_path[96];

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/armdb-orphan-XXXXXX");
    assert_non_null(mkdtemp(folder));
    (void)snprintf(database, sizeof database, "%s/a.db", folder);
    (void)snprintf(store_path, sizeof store_path, "%s/a.db-armdb", folder);
    return 0;
}

static int tear_down(void **state)
{
    char command[128];

    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) == 0 ? 0 : -1;
}

static sqlite3 *connect_to(void)
{
    sqlite3 *db = NULL;

    if (sqlite3_open(database, &db) != SQLITE_OK ||
        sqlite3_armdbvtab_init(db, NULL, NULL) != SQLITE_OK)
        abort();
    return db;
}

static void run(sqlite3 *db, const char *sql)
{
    char *err = NULL;

    if (sqlite3_exec(db, sql, NULL, NULL, &err) != SQLITE_OK) {
        (void)fprintf(stderr, "%s: %s\n", sql, err);
        abort();
    }
}

static int64_t ask(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt = NULL;
    int64_t answer = -1;

    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW)
        answer = sqlite3_column_int64(stmt, 0);
    (void)sqlite3_finalize(stmt);
    return answer;
}

static int die(void *context)
{
    (void)context;
    _exit(DIED);
}

/* Runs the statements in a process of their own, which dies in COMMIT's middle. */
static void run_and_die(const char *sql)
{
    pid_t pid = fork();
    int status = 0;

    if (pid == 0) {
        sqlite3 *db = connect_to();

        run(db, "PRAGMA journal_mode=WAL");
        (void)sqlite3_commit_hook(db, die, NULL);
        run(db, sql);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), DIED);
}

/* The number of rows of a table of the store, without SQL; -1 when there is none. */
static int64_t rows_in_store(const char *name)
{
    struct armdb_options options;
    struct armdb *store = NULL;
    struct armdb_session *session = NULL;
    struct armdb_table *table = NULL;
    uint64_t count = 0;
    enum armdb_rc rc;

    armdb_options_init(&options);
    options.create = false;
    assert_int_equal(armdb_open(store_path, &options, &store, NULL), ARMDB_OK);
    assert_int_equal(armdb_session_open(store, &session, NULL), ARMDB_OK);
    rc = armdb_table_open(session, name, NULL, &table, NULL);
    if (rc == ARMDB_OK)
        count = armdb_count(table);
    else
        assert_int_equal(rc, ARMDB_NOT_FOUND);
    armdb_table_close(table);
    armdb_session_close(session);
    armdb_close(store);
    return rc == ARMDB_OK ? (int64_t)count : -1;
}

/* A table made and a row put without SQL, as another program does it. */
static void fill_without_sql(const char *name)
{
    struct armdb_options options;
    struct armdb *store = NULL;
    struct armdb_session *session = NULL;
    struct armdb_table *table = NULL;

    armdb_options_init(&options);
    assert_int_equal(armdb_open(store_path, &options, &store, NULL), ARMDB_OK);
    assert_int_equal(armdb_session_open(store, &session, NULL), ARMDB_OK);
    assert_int_equal(armdb_begin(session, NULL), ARMDB_OK);
    assert_int_equal(
        armdb_table_create(session, name, "k PRIMARY KEY, v", 16, &table, NULL),
        ARMDB_OK);
    assert_int_equal(armdb_put(session, table, "a", 1, "b", 1, NULL), ARMDB_OK);
    assert_int_equal(armdb_prepare(session, ARMDB_DOUBT_COMMIT, NULL), ARMDB_OK);
    assert_int_equal(armdb_commit(session, NULL), ARMDB_OK);
    armdb_table_close(table);
    armdb_session_close(session);
    armdb_close(store);
}

static void what_a_killed_create_left_is_dropped_at_the_next_opening(void **state)
{
    sqlite3 *db;

    (void)state;
    db = connect_to();
    run(db, "CREATE VIRTUAL TABLE other USING armdb(k PRIMARY KEY, v);"
            "INSERT INTO other VALUES(1, 2)");
    sqlite3_close(db);
    run_and_die("BEGIN; CREATE VIRTUAL TABLE t USING armdb(k PRIMARY KEY, v);"
                "INSERT INTO t VALUES(1, 2), (2, 3); COMMIT");
    assert_int_equal(rows_in_store("t"), 2); /* armdb's half was committed */
    db = connect_to();
    assert_int_equal(ask(db, "SELECT count(*) FROM sqlite_schema WHERE name = 't'"), 0);
    assert_int_equal(ask(db, "SELECT count(*) FROM other"), 1);
    sqlite3_close(db);
    assert_int_equal(rows_in_store("t"), -1);
    assert_int_equal(rows_in_store("other"), 1);
}

static void a_killed_create_takes_no_rows_along_that_were_there_before(void **state)
{
    sqlite3 *db;

    (void)state;
    fill_without_sql("t");
    run_and_die("CREATE VIRTUAL TABLE t USING armdb");
    db = connect_to();
    run(db, "CREATE VIRTUAL TABLE other USING armdb(k PRIMARY KEY, v);"
            "INSERT INTO other VALUES(1, 2);");
    assert_int_equal(ask(db, "SELECT count(*) FROM other"), 1);
    sqlite3_close(db);
    db = connect_to(); /* armdb is asked about here while no statement runs */
    assert_int_equal(ask(db, "SELECT count(*) FROM other"), 1);
    sqlite3_close(db);
    assert_int_equal(rows_in_store("t"), 1);
}

static void a_create_that_is_rolled_back_takes_no_rows_along(void **state)
{
    sqlite3 *db;

    (void)state;
    fill_without_sql("t");
    db = connect_to();
    run(db, "CREATE VIRTUAL TABLE other USING armdb(k PRIMARY KEY, v);"
            "BEGIN; INSERT INTO other VALUES(1, 2); SAVEPOINT s;"
            "CREATE VIRTUAL TABLE t USING armdb; CREATE VIRTUAL TABLE u USING armdb;"
            "ROLLBACK TO s; COMMIT");
    sqlite3_close(db);
    assert_int_equal(rows_in_store("other"), 1);
    assert_int_equal(rows_in_store("t"), 1);
    assert_int_equal(rows_in_store("u"), -1);
}

static void an_opening_confirms_a_create_that_was_committed(void **state)
{
    char moved[128];
    sqlite3 *db;

    (void)state;
    db = connect_to();
    run(db, "BEGIN; CREATE VIRTUAL TABLE t USING armdb(k PRIMARY KEY, v);"
            "INSERT INTO t VALUES(1, 2), (2, 3); COMMIT");
    sqlite3_close(db);
    db = connect_to();
    assert_int_equal(ask(db, "SELECT count(*) FROM t"), 2);
    sqlite3_close(db);
    /* Another database takes the file's place, and knows nothing of t. */
    (void)snprintf(moved, sizeof moved, "%s/b.db", folder);
    assert_int_equal(rename(database, moved), 0);
    db = connect_to();
    run(db, "CREATE VIRTUAL TABLE other USING armdb(k PRIMARY KEY, v);"
            "INSERT INTO other VALUES(1, 2);");
    sqlite3_close(db);
    db = connect_to();
    assert_int_equal(ask(db, "SELECT count(*) FROM other"), 1);
    sqlite3_close(db);
    assert_int_equal(rows_in_store("t"), 2);
}

static void a_confirmation_is_no_change_that_another_transaction_meets(void **state)
{
    sqlite3 *db;
    sqlite3 *other;

    (void)state;
    db = connect_to();
    run(db, "PRAGMA journal_mode=WAL; CREATE VIRTUAL TABLE t USING armdb(k PRIMARY KEY)");
    sqlite3_close(db);
    db = connect_to();
    other = connect_to();
    run(db, "BEGIN");
    assert_int_equal(ask(db, "SELECT count(*) FROM t"), 0);
    assert_int_equal(ask(other, "SELECT count(*) FROM t"), 0); /* confirms */
    run(db, "INSERT INTO t VALUES(1); COMMIT");
    assert_int_equal(ask(other, "SELECT count(*) FROM t"), 1);
    sqlite3_close(other);
    sqlite3_close(db);
}

static void a_create_after_a_killed_one_starts_empty(void **state)
{
    sqlite3 *db;

    (void)state;
    run_and_die("BEGIN; CREATE VIRTUAL TABLE t USING armdb(k PRIMARY KEY, v);"
                "INSERT INTO t VALUES(1, 2); COMMIT");
    db = connect_to();
    run(db, "CREATE VIRTUAL TABLE t USING armdb(k PRIMARY KEY, v);"
            "INSERT INTO t VALUES(7, 8), (8, 9)");
    sqlite3_close(db);
    db = connect_to();
    assert_int_equal(ask(db, "SELECT sum(k) FROM t"), 15);
    sqlite3_close(db);
    assert_int_equal(rows_in_store("t"), 2);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(what_a_killed_create_left_is_dropped_at_the_next_opening),
        TEST(a_killed_create_takes_no_rows_along_that_were_there_before),
        TEST(a_create_that_is_rolled_back_takes_no_rows_along),
        TEST(an_opening_confirms_a_create_that_was_committed),
        TEST(a_confirmation_is_no_change_that_another_transaction_meets),
        TEST(a_create_after_a_killed_one_starts_empty),
    };

    return cmocka_run_group_tests_name("orphan", tests, NULL, NULL);
}

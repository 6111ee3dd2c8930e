/* test_errmap.c - what SQLite and its user are told of the engine's codes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants those four first. */
#include <cmocka.h>

#include <sqlite3.h>
#include <string.h>

#include "ext/errmap.h"

static const struct {
    enum armdb_rc rc;
    int sqlite;
    const char *word; /* of the plain text; NULL: SQLite has its own */
} cases[] = {
    {ARMDB_NOT_FOUND, SQLITE_ERROR, "not found"},
    {ARMDB_MISMATCH, SQLITE_ERROR, "another value"},
    {ARMDB_INVALID, SQLITE_ERROR, "invalid"},
    {ARMDB_EXISTS, SQLITE_CONSTRAINT_PRIMARYKEY, "UNIQUE"},
    {ARMDB_IO, SQLITE_IOERR, "input or output"},
    {ARMDB_WOUNDED, SQLITE_IOERR, "read-only until reopened"},
    {ARMDB_NOMEM, SQLITE_NOMEM, NULL},
    {ARMDB_CORRUPT, SQLITE_CORRUPT_VTAB, "damaged"},
    {ARMDB_FULL, SQLITE_FULL, "full"},
    {ARMDB_BUSY, SQLITE_BUSY, "another transaction"},
    {ARMDB_LOCKED, SQLITE_BUSY, "another process"},
    {ARMDB_BUSY_SNAPSHOT, SQLITE_BUSY_SNAPSHOT, "run it again"},
    {ARMDB_READONLY, SQLITE_READONLY, "read-only"},
    {ARMDB_CANTOPEN, SQLITE_CANTOPEN, "cannot be opened"},
    {ARMDB_NOTADB, SQLITE_NOTADB, "not an armdb store"},
    {ARMDB_VERSION, SQLITE_NOTADB, "version"},
    {ARMDB_MISUSE, SQLITE_MISUSE, "out of order"},
    {ARMDB_FORKED, SQLITE_MISUSE, "fork"},
    {ARMDB_TOOBIG, SQLITE_TOOBIG, "too big"},
    {ARMDB_INTERNAL, SQLITE_INTERNAL, "internal"},
    {ARMDB_INTERRUPT, SQLITE_INTERRUPT, "interrupted"},
};
enum { CASES = sizeof cases / sizeof cases[0] };

static void every_code_has_one_of_sqlites_and_a_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASES; i++) {
        char *text = sqlite3_mprintf("what was there before");

        assert_int_equal(errmap_to_sqlite(cases[i].rc), cases[i].sqlite);
        assert_int_equal(errmap_text(&text, cases[i].rc, NULL), cases[i].sqlite);
        if (cases[i].word == NULL)
            assert_null(text);
        else if (text == NULL || strstr(text, cases[i].word) == NULL)
            fail_msg("code %d has the text \"%s\"", (int)cases[i].rc, text);
        sqlite3_free(text);
    }
    assert_int_equal(errmap_to_sqlite(ARMDB_OK), SQLITE_OK);
    assert_int_equal(errmap_to_sqlite(ARMDB_DONE), SQLITE_ERROR);
    assert_int_equal(errmap_to_sqlite((enum armdb_rc) - 1000), SQLITE_INTERNAL);
}

static void the_engines_text_comes_first(void **state)
{
    struct armdb_error err = {ARMDB_IO, 5, "reading x: Input/output error"};
    char *text = NULL;

    (void)state;
    assert_int_equal(errmap_text(&text, ARMDB_IO, &err), SQLITE_IOERR);
    assert_string_equal(text, err.text);
    /* One that belongs to another code is not used. */
    assert_int_equal(errmap_text(&text, ARMDB_FULL, &err), SQLITE_FULL);
    assert_string_equal(text, "armdb: the disk is full");
    /* Success leaves everything. */
    assert_int_equal(errmap_text(&text, ARMDB_OK, &err), SQLITE_OK);
    assert_string_equal(text, "armdb: the disk is full");
    sqlite3_free(text);
}

/* A function that fails with the case whose number it is given. */
static void fail_so(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    (void)argc;
    errmap_result(context, cases[sqlite3_value_int(argv[0])].rc, NULL);
}

static void functions_give_the_same(void **state)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;

    (void)state;
    assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
    assert_int_equal(sqlite3_create_function_v2(db, "fail_so", 1, SQLITE_UTF8, NULL,
                                                fail_so, NULL, NULL, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_extended_result_codes(db, 1), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, "SELECT fail_so(?)", -1, &stmt, NULL),
                     SQLITE_OK);
    for (int i = 0; i < CASES; i++) {
        assert_int_equal(sqlite3_bind_int(stmt, 1, i), SQLITE_OK);
        assert_int_equal(sqlite3_step(stmt), cases[i].sqlite);
        if (cases[i].word != NULL)
            assert_non_null(strstr(sqlite3_errmsg(db), cases[i].word));
        (void)sqlite3_reset(stmt);
    }
    (void)sqlite3_finalize(stmt);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_one_of_sqlites_and_a_text),
        cmocka_unit_test(the_engines_text_comes_first),
        cmocka_unit_test(functions_give_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

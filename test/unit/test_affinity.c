/* test_affinity.c - conversions compared with those of an ordinary SQLite table.
 *
 * Values go in as bound parameters through an SQL function, so that affinity.c sees
 * them as a virtual table does, and into a native table beside it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ext/affinity.h"

static sqlite3 *db;

static const char *const type_names[] = {"BLOB", "TEXT", "NUMERIC", "INTEGER", "REAL"};

/* stored(affinity, value): the value as affinity_store() makes it. */
static void stored_function(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    struct sql_value value;

    (void)argc;
    if (affinity_store(argv[1], (enum affinity)sqlite3_value_int(argv[0]), &value) !=
        SQLITE_OK)
        sqlite3_result_error_nomem(context);
    else
        sql_value_result(context, &value, SQLITE_TRANSIENT);
}

/* compared(affinity, value): the value as affinity_compare() makes it, or 'NEVER'. */
static void compared_function(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    struct sql_value value;
    enum rhs_fit fit;

    (void)argc;
    if (affinity_compare(argv[1], (enum affinity)sqlite3_value_int(argv[0]), &value,
                         &fit) != SQLITE_OK)
        sqlite3_result_error_nomem(context);
    else if (fit == RHS_NEVER)
        sqlite3_result_text(context, "NEVER", -1, SQLITE_STATIC);
    else
        sql_value_result(context, &value, SQLITE_TRANSIENT);
}

static int open_database(void **state)
{
    (void)state;
    if (sqlite3_open(":memory:", &db) != SQLITE_OK)
        return -1;
    sqlite3_create_function(db, "stored", 2, SQLITE_UTF8, NULL, stored_function, NULL,
                            NULL);
    sqlite3_create_function(db, "compared", 2, SQLITE_UTF8, NULL, compared_function, NULL,
                            NULL);
    return sqlite3_exec(db,
                        "CREATE TABLE t(a0, a1 TEXT, a2 NUMERIC, a3 INTEGER, a4 REAL)",
                        NULL, NULL, NULL);
}

static int close_database(void **state)
{
    (void)state;
    return sqlite3_close(db) == SQLITE_OK ? 0 : -1;
}

static const char *const texts[] = {
    "",
    " ",
    "1",
    " 12 ",
    "\t7\n",
    "+5",
    "-5",
    "1.0",
    "1.",
    ".5",
    "1e3",
    "1E+3",
    "1e-3",
    "1e",
    "0x10",
    "12abc",
    "abc",
    "-0",
    "-0.0",
    "0.0",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "1e400",
    "-1e400",
    "Inf",
    "nan",
    "0.1",
    "123456789012345678901234567890",
    "9223372036854775807.0",
    "1e18",
    "1e19",
    "5e-324",
    "00012",
    "1 2",
    "--1",
    "\xff\xfe",
    "\xc3\xa4",
    "1_000",
};

static const double reals[] = {
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    1e15,
    1e16,
    1e18,
    9.2e18,
    9223372036854774784.0,
    9223372036854775808.0,
    -9223372036854775808.0,
    -9223372036854774784.0,
    1e19,
    1e308,
    -1e308,
    5e-324,
    0.1,
    123456.789,
    9007199254740992.0,
    1e100,
    3.0,
    HUGE_VAL,
    -HUGE_VAL,
};

static const sqlite3_int64 integers[] = {
    0,
    1,
    -1,
    127,
    128,
    9007199254740992,
    9007199254740993,
    -9007199254740993,
    INT64_MAX,
    INT64_MIN,
    INT64_MAX - 1,
    INT64_MIN + 1,
    140737488355327,
    140737488355328,
};

enum {
    TEXT_COUNT = sizeof texts / sizeof texts[0],
    REAL_COUNT = sizeof reals / sizeof reals[0],
    INTEGER_COUNT = sizeof integers / sizeof integers[0],
    VALUE_COUNT = TEXT_COUNT * 2 + REAL_COUNT + INTEGER_COUNT + 2
};

/* Binds test value n to a parameter: texts, the same bytes as blobs, reals, integers,
 * NULL and a text with a NUL inside. */
static void bind_value(sqlite3_stmt *stmt, int param, int n)
{
    if (n < TEXT_COUNT) {
        sqlite3_bind_text(stmt, param, texts[n], -1, SQLITE_STATIC);
        return;
    }
    n -= TEXT_COUNT;
    if (n < TEXT_COUNT) {
        sqlite3_bind_blob(stmt, param, texts[n], (int)strlen(texts[n]), SQLITE_STATIC);
        return;
    }
    n -= TEXT_COUNT;
    if (n < REAL_COUNT) {
        sqlite3_bind_double(stmt, param, reals[n]);
        return;
    }
    n -= REAL_COUNT;
    if (n < INTEGER_COUNT)
        sqlite3_bind_int64(stmt, param, integers[n]);
    else if (n == INTEGER_COUNT)
        sqlite3_bind_null(stmt, param);
    else
        sqlite3_bind_text(stmt, param, "1\0002", 3, SQLITE_STATIC);
}

/* Same type and same bytes, the sign of zero included. */
static bool same_result(sqlite3_stmt *a, sqlite3_stmt *b)
{
    int type = sqlite3_column_type(a, 0);
    double left;
    double right;

    if (type != sqlite3_column_type(b, 0))
        return false;
    switch (type) {
    case SQLITE_INTEGER:
        return sqlite3_column_int64(a, 0) == sqlite3_column_int64(b, 0);
    case SQLITE_FLOAT:
        left = sqlite3_column_double(a, 0);
        right = sqlite3_column_double(b, 0);
        return memcmp(&left, &right, sizeof left) == 0;
    case SQLITE_NULL:
        return true;
    default:
        return sqlite3_column_bytes(a, 0) == sqlite3_column_bytes(b, 0) &&
               (sqlite3_column_bytes(a, 0) == 0 ||
                memcmp(sqlite3_column_blob(a, 0), sqlite3_column_blob(b, 0),
                       (size_t)sqlite3_column_bytes(a, 0)) == 0);
    }
}

static sqlite3_stmt *prepare(const char *format, int affinity)
{
    char *sql = sqlite3_mprintf(format, affinity, affinity);
    sqlite3_stmt *stmt = NULL;

    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    sqlite3_free(sql);
    return stmt;
}

static void values_are_stored_as_a_native_column_stores_them(void **state)
{
    (void)state;
    for (int a = 0; a < 5; a++) {
        sqlite3_stmt *insert = prepare("INSERT INTO t(a%d) VALUES(?1)", a);
        sqlite3_stmt *native = prepare("SELECT a%d FROM t", a);
        sqlite3_stmt *ours = prepare("SELECT stored(%d, ?1)", a);

        for (int n = 0; n < VALUE_COUNT; n++) {
            sqlite3_exec(db, "DELETE FROM t", NULL, NULL, NULL);
            bind_value(insert, 1, n);
            assert_int_equal(sqlite3_step(insert), SQLITE_DONE);
            bind_value(ours, 1, n);
            assert_int_equal(sqlite3_step(native), SQLITE_ROW);
            assert_int_equal(sqlite3_step(ours), SQLITE_ROW);
            if (!same_result(native, ours))
                fail_msg("%s column, value %d (%s): native %d '%s', ours %d '%s'",
                         type_names[a], n, n < TEXT_COUNT ? texts[n] : "",
                         sqlite3_column_type(native, 0), sqlite3_column_text(native, 0),
                         sqlite3_column_type(ours, 0), sqlite3_column_text(ours, 0));
            sqlite3_reset(insert);
            sqlite3_reset(native);
            sqlite3_reset(ours);
        }
        sqlite3_finalize(insert);
        sqlite3_finalize(native);
        sqlite3_finalize(ours);
    }
}

/* Every stored value is compared with every right-hand side: natively by the column's
 * own affinity, and with the converted value behind a cast-free expression. */
static void right_hand_sides_compare_as_a_native_column_compares_them(void **state)
{
    (void)state;
    for (int a = 0; a < 5; a++) {
        sqlite3_stmt *insert = prepare("INSERT INTO t(a%d) VALUES(?1)", a);
        sqlite3_stmt *compare =
            prepare("SELECT count(*) FROM t WHERE (a%d < ?1) IS NOT (+a%d < ?2) ", a);
        sqlite3_stmt *equal =
            prepare("SELECT count(*) FROM t WHERE (a%d = ?1) IS NOT (+a%d = ?2) ", a);
        sqlite3_stmt *convert = prepare("SELECT compared(%d, ?1)", a);

        sqlite3_exec(db, "DELETE FROM t", NULL, NULL, NULL);
        for (int n = 0; n < VALUE_COUNT; n++) {
            bind_value(insert, 1, n);
            assert_int_equal(sqlite3_step(insert), SQLITE_DONE);
            sqlite3_reset(insert);
        }
        for (int n = 0; n < VALUE_COUNT; n++) {
            sqlite3_stmt *tests[2] = {compare, equal};

            bind_value(convert, 1, n);
            assert_int_equal(sqlite3_step(convert), SQLITE_ROW);
            for (int i = 0; i < 2; i++) {
                if (n == TEXT_COUNT * 2 + REAL_COUNT + INTEGER_COUNT) {
                    assert_string_equal(sqlite3_column_text(convert, 0), "NEVER");
                    continue;
                }
                bind_value(tests[i], 1, n);
                sqlite3_bind_value(tests[i], 2, sqlite3_column_value(convert, 0));
                assert_int_equal(sqlite3_step(tests[i]), SQLITE_ROW);
                if (sqlite3_column_int(tests[i], 0) != 0)
                    fail_msg("%s column, right-hand side %d", type_names[a], n);
                sqlite3_reset(tests[i]);
            }
            sqlite3_reset(convert);
        }
        sqlite3_finalize(insert);
        sqlite3_finalize(compare);
        sqlite3_finalize(equal);
        sqlite3_finalize(convert);
    }
}

static void declared_types_get_the_affinity_that_sqlite_gives(void **state)
{
    static const struct {
        const char *type;
        enum affinity affinity;
    } cases[] = {
        {NULL, AFFINITY_BLOB},
        {"", AFFINITY_BLOB},
        {"INT", AFFINITY_INTEGER},
        {"unsigned big int", AFFINITY_INTEGER},
        {"CHARINT", AFFINITY_INTEGER},
        {"FLOATING POINT", AFFINITY_INTEGER},
        {"VARCHAR(255)", AFFINITY_TEXT},
        {"CLOB", AFFINITY_TEXT},
        {"Text", AFFINITY_TEXT},
        {"BLOB", AFFINITY_BLOB},
        {"REALBLOB", AFFINITY_BLOB},
        {"BLOBTEXT", AFFINITY_TEXT},
        {"REAL", AFFINITY_REAL},
        {"DOUBLE PRECISION", AFFINITY_REAL},
        {"FLOAT", AFFINITY_REAL},
        {"NUMERIC", AFFINITY_NUMERIC},
        {"DECIMAL(10,5)", AFFINITY_NUMERIC},
        {"STRING", AFFINITY_NUMERIC},
        {"BOOLEAN", AFFINITY_NUMERIC},
        {"DATE", AFFINITY_NUMERIC},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(affinity_of_type(cases[i].type), cases[i].affinity);
}

static void number_against_text_column_is_unsure(void **state)
{
    sqlite3_stmt *stmt = prepare("SELECT 5, '5', x'35'", 0);
    struct sql_value value;
    sqlite3_value *argv;
    enum rhs_fit fit;

    (void)state;
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    argv = sqlite3_value_dup(sqlite3_column_value(stmt, 0));
    assert_int_equal(affinity_compare(argv, AFFINITY_INTEGER, &value, &fit), SQLITE_OK);
    assert_int_equal(fit, RHS_EXACT);
    assert_int_equal(affinity_compare(argv, AFFINITY_BLOB, &value, &fit), SQLITE_OK);
    assert_int_equal(fit, RHS_UNSURE);
    assert_int_equal(value.type, SQLITE_INTEGER);
    assert_int_equal(affinity_compare(argv, AFFINITY_TEXT, &value, &fit), SQLITE_OK);
    assert_int_equal(fit, RHS_UNSURE);
    assert_int_equal(value.type, SQLITE_TEXT);
    assert_memory_equal(value.z, "5", 1);
    sqlite3_value_free(argv);
    for (int c = 1; c < 3; c++) {
        argv = sqlite3_value_dup(sqlite3_column_value(stmt, c));
        assert_int_equal(affinity_compare(argv, AFFINITY_TEXT, &value, &fit), SQLITE_OK);
        assert_int_equal(fit, RHS_EXACT);
        assert_int_equal(value.type, c == 1 ? SQLITE_TEXT : SQLITE_BLOB);
        sqlite3_value_free(argv);
    }
    sqlite3_finalize(stmt);
}

static void zeroblob_is_read_in_full(void **state)
{
    sqlite3_stmt *stmt = prepare("SELECT length(stored(%d, zeroblob(1000))), "
                                 "hex(stored(1, zeroblob(3)))",
                                 0);

    (void)state;
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    assert_int_equal(sqlite3_column_int(stmt, 0), 1000);
    assert_string_equal(sqlite3_column_text(stmt, 1), "000000");
    sqlite3_finalize(stmt);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_stored_as_a_native_column_stores_them),
        cmocka_unit_test(right_hand_sides_compare_as_a_native_column_compares_them),
        cmocka_unit_test(declared_types_get_the_affinity_that_sqlite_gives),
        cmocka_unit_test(number_against_text_column_is_unsure),
        cmocka_unit_test(zeroblob_is_read_in_full),
    };

    return cmocka_run_group_tests(tests, open_database, close_database);
}

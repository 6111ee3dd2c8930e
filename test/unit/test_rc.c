/* test_rc.c - result codes: their names, and what errno becomes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants those four first. */
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "engine/base/rc.h"

static const enum armdb_rc codes[] = {
    ARMDB_OK,      ARMDB_NOT_FOUND,     ARMDB_DONE,      ARMDB_EXISTS,   ARMDB_MISMATCH,
    ARMDB_IO,      ARMDB_NOMEM,         ARMDB_CORRUPT,   ARMDB_FULL,     ARMDB_WOUNDED,
    ARMDB_BUSY,    ARMDB_BUSY_SNAPSHOT, ARMDB_READONLY,  ARMDB_CANTOPEN, ARMDB_NOTADB,
    ARMDB_VERSION, ARMDB_MISUSE,        ARMDB_TOOBIG,    ARMDB_INTERNAL, ARMDB_FORKED,
    ARMDB_LOCKED,  ARMDB_INVALID,       ARMDB_INTERRUPT,
};
enum { CODES = sizeof codes / sizeof codes[0] };

static void every_code_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (size_t i = 0; i < CODES; i++) {
        assert_int_equal(strncmp(adb_rc_name(codes[i]), "ARMDB_", 6), 0);
        assert_string_not_equal(adb_rc_name(codes[i]), "ARMDB_UNKNOWN");
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(adb_rc_name(codes[i]), adb_rc_name(codes[j]));
    }
    assert_string_equal(adb_rc_name((enum armdb_rc) - 1000), "ARMDB_UNKNOWN");
}

static void errno_becomes_what_callers_can_act_on(void **state)
{
    static const struct {
        int error;
        enum armdb_rc rc;
        const char *text;
    } cases[] = {
        {ENOSPC, ARMDB_FULL, "doing x: No space left on device"},
        {EDQUOT, ARMDB_FULL, "doing x: Disk quota exceeded"},
        {EFBIG, ARMDB_FULL, "doing x: File too large"},
        {ENOMEM, ARMDB_NOMEM, "doing x: Cannot allocate memory"},
        {EROFS, ARMDB_READONLY, "doing x: Read-only file system"},
        {EIO, ARMDB_CANTOPEN, "doing x: Input/output error"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct armdb_error err = {ARMDB_OK, 0, ""};

        assert_int_equal(
            adb_fail_errno(cases[i].error, ARMDB_CANTOPEN, &err, "doing %s", "x"),
            cases[i].rc);
        assert_int_equal(err.rc, cases[i].rc);
        assert_int_equal(err.sys_errno, cases[i].error);
        assert_string_equal(err.text, cases[i].text);
        assert_int_equal(adb_fail_errno(cases[i].error, ARMDB_CANTOPEN, NULL, "x"),
                         cases[i].rc);
    }
}

static void a_long_text_is_cut(void **state)
{
    struct armdb_error err = {ARMDB_OK, 0, ""};
    char name[2 * ARMDB_ERROR_TEXT_MAX];

    (void)state;
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(adb_fail_errno(EIO, ARMDB_IO, &err, "%s", name), ARMDB_IO);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    assert_int_equal(ADB_FAIL(ARMDB_FULL, &err, "%s", name), ARMDB_FULL);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    assert_int_equal(err.sys_errno, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_a_name_of_its_own),
        cmocka_unit_test(errno_becomes_what_callers_can_act_on),
        cmocka_unit_test(a_long_text_is_cut),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

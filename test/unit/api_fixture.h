/* api_fixture.h - a store with one table "t", for the tests of engine/armdb.h. */
#ifndef ADB_TEST_UNIT_API_FIXTURE_H
#define ADB_TEST_UNIT_API_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants those four first. */
#include <cmocka.h>

#include "engine/armdb.h"

extern struct armdb_error api_err;

#define OK(call) assert_int_equal((call), ARMDB_OK)
#define REFUSED(call, code) assert_int_equal((call), (code))

struct api {
    struct armdb *store;
    struct armdb_session *session;
    struct armdb_table *table;
};

/* A folder of the test's own: setup and teardown. Its path is *state. */
int api_make_folder(void **state);
int api_remove_folder(void **state);

/* Opens the store; the table is made when it is not there. */
void api_open_with(struct api *f, const char *path, const struct armdb_options *options);
/* In memory, with small segments. */
void api_open(struct api *f);
void api_close(struct api *f);
/* A second user of the store. */
void api_join(struct api *other, const struct api *f);
void api_leave(struct api *other);

enum armdb_rc api_put(struct api *f, const char *key, const char *value);
void api_put_committed(struct api *f, const char *key, const char *value);
/* Is this the value of the key (NULL: no row)? By armdb_get() and armdb_value_len(). */
void api_assert_row(struct api *f, const char *key, const char *expected);
/* The value is this text; releases it. */
void api_assert_text(struct armdb_value *value, const char *expected);
/* The keys of a cursor, each with a space behind it. */
void api_assert_scan(struct api *f, const struct armdb_range *range,
                     const char *expected);

#endif

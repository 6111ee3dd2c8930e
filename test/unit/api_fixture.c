#include "test/unit/api_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct armdb_error api_err;

static char folder[256];

int api_make_folder(void **state)
{
    const char *tmp = getenv("TMPDIR");

    *state = folder;
    (void)snprintf(folder, sizeof folder, "%s/armdb_test_api_XXXXXX",
                   tmp != NULL ? tmp : "/tmp");
    return mkdtemp(folder) == NULL;
}

int api_remove_folder(void **state)
{
    char command[300];

    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) != 0;
}

void api_open_with(struct api *f, const char *path, const struct armdb_options *options)
{
    OK(armdb_open(path, options, &f->store, &api_err));
    OK(armdb_session_open(f->store, &f->session, &api_err));
    if (armdb_table_open(f->session, "t", NULL, &f->table, &api_err) == ARMDB_NOT_FOUND) {
        OK(armdb_table_create(f->session, "t", "", 0, &f->table, &api_err));
        OK(armdb_commit(f->session, &api_err));
    }
}

void api_open(struct api *f)
{
    struct armdb_options options;

    armdb_options_init(&options);
    options.segment_size = 1 << 20;
    api_open_with(f, ":memory:", &options);
}

void api_close(struct api *f)
{
    armdb_table_close(f->table);
    armdb_session_close(f->session);
    armdb_close(f->store);
}

void api_join(struct api *other, const struct api *f)
{
    other->store = f->store;
    OK(armdb_session_open(f->store, &other->session, &api_err));
    OK(armdb_table_open(other->session, "t", NULL, &other->table, &api_err));
}

void api_leave(struct api *other)
{
    armdb_table_close(other->table);
    armdb_session_close(other->session);
}

enum armdb_rc api_put(struct api *f, const char *key, const char *value)
{
    return armdb_put(f->session, f->table, key, strlen(key), value, strlen(value),
                     &api_err);
}

void api_put_committed(struct api *f, const char *key, const char *value)
{
    OK(api_put(f, key, value));
    OK(armdb_commit(f->session, &api_err));
}

void api_assert_row(struct api *f, const char *key, const char *expected)
{
    struct armdb_value value;
    uint64_t len = 77;

    if (expected == NULL) {
        REFUSED(armdb_get(f->session, f->table, key, strlen(key), &value, &api_err),
                ARMDB_NOT_FOUND);
        assert_null(value.data);
        REFUSED(armdb_value_len(f->session, f->table, key, strlen(key), &len, &api_err),
                ARMDB_NOT_FOUND);
        assert_int_equal(len, 0);
        return;
    }
    OK(armdb_get(f->session, f->table, key, strlen(key), &value, &api_err));
    assert_int_equal(value.len, strlen(expected));
    assert_memory_equal(value.data, expected, value.len);
    armdb_value_release(&value);
    OK(armdb_value_len(f->session, f->table, key, strlen(key), &len, &api_err));
    assert_int_equal(len, strlen(expected));
}

void api_assert_text(struct armdb_value *value, const char *expected)
{
    assert_non_null(value->data);
    assert_int_equal(value->len, strlen(expected));
    assert_memory_equal(value->data, expected, value->len);
    armdb_value_release(value);
}

void api_assert_scan(struct api *f, const struct armdb_range *range, const char *expected)
{
    struct armdb_cursor *cursor;
    char text[256] = "";
    enum armdb_rc rc;

    OK(armdb_cursor_open(f->session, f->table, &cursor, &api_err));
    for (rc = armdb_cursor_seek_range(cursor, range, &api_err); rc == ARMDB_OK;
         rc = armdb_cursor_next(cursor, &api_err)) {
        const void *key;
        size_t len;

        armdb_cursor_key(cursor, &key, &len);
        assert_true(strlen(text) + len + 2 < sizeof text);
        (void)strncat(text, key, len);
        (void)strcat(text, " ");
    }
    assert_int_equal(rc, ARMDB_DONE);
    assert_string_equal(text, expected);
    armdb_cursor_close(cursor);
}

/* range.c - questions about a range that need no cursor of the caller's.
 *
 * They use a cursor of their own, which sees all that the session has written: nothing
 * is written while they run. */
#include <string.h>

#include "engine/base/mem.h"
#include "engine/store/internal.h"

enum { ASK_ROWS = 1024 }; /* between two questions whether to stop */

void armdb_range_prefix(struct armdb_range *range, const void *prefix, size_t prefix_len,
                        void *buffer)
{
    unsigned char *high = buffer;
    size_t high_len = prefix_len;

    memset(range, 0, sizeof *range);
    if (prefix_len == 0)
        return; /* every key begins with it */
    range->low = prefix;
    range->low_len = prefix_len;
    range->low_bound = ARMDB_BOUND_INCLUSIVE;
    memcpy(high, prefix, prefix_len);
    /* The first key behind all of them: the last byte that can be raised is, and what
     * follows it goes. A prefix of 0xff bytes alone has none: it is the end. */
    while (high_len > 0 && high[high_len - 1] == 0xff)
        high_len--;
    if (high_len == 0)
        return;
    high[high_len - 1]++;
    range->high = high;
    range->high_len = high_len;
    range->high_bound = ARMDB_BOUND_EXCLUSIVE;
}

static enum armdb_rc check_range(const struct armdb_session *session,
                                 const struct armdb_table *table,
                                 const struct armdb_range *range, struct armdb_error *err)
{
    enum armdb_rc rc = point_check(session, table, NULL, 0, err);

    if (rc != ARMDB_OK || range == NULL)
        return rc;
    if ((range->low_bound != ARMDB_BOUND_OPEN && range->low == NULL &&
         range->low_len > 0) ||
        (range->high_bound != ARMDB_BOUND_OPEN && range->high == NULL &&
         range->high_len > 0))
        return ADB_FAIL(ARMDB_INVALID, err, "a bound is NULL, its length is not 0");
    return ARMDB_OK;
}

/* A copy of the bytes that its owner releases. */
static enum armdb_rc copy_out(struct armdb_value *out, const void *bytes, size_t len,
                              struct armdb_error *err)
{
    unsigned char *copy = adb_alloc(ADB_MEM_TXN, len);

    if (copy == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory for a key");
    if (len > 0)
        memcpy(copy, bytes, len);
    value_of_copy(out, copy, len);
    return ARMDB_OK;
}

/* The row at the end of the range that `reverse` starts at. */
static enum armdb_rc find_end(struct armdb_session *session, struct armdb_table *table,
                              const struct armdb_range *range, bool reverse,
                              struct armdb_value *key, struct armdb_value *value,
                              struct armdb_error *err)
{
    enum armdb_rc rc = check_range(session, table, range, err);
    struct armdb_range one = {.low_bound = ARMDB_BOUND_OPEN};
    struct armdb_cursor *cursor = NULL;
    const void *bytes;
    size_t len;

    if (key != NULL)
        memset(key, 0, sizeof *key);
    if (value != NULL)
        memset(value, 0, sizeof *value);
    if (rc != ARMDB_OK)
        return rc;
    if (range != NULL)
        one = *range;
    one.reverse = reverse;
    one.keys_only = value == NULL;
    one.limit_hint = 1;
    rc = armdb_cursor_open(session, table, &cursor, err);
    if (rc != ARMDB_OK)
        return rc;
    cursor_see_all(cursor);
    rc = armdb_cursor_seek_range(cursor, &one, err);
    if (rc == ARMDB_OK && key != NULL) {
        armdb_cursor_key(cursor, &bytes, &len);
        rc = copy_out(key, bytes, len, err);
    }
    if (rc == ARMDB_OK && value != NULL)
        rc = cursor_take_value(cursor, value, err);
    if (rc != ARMDB_OK && key != NULL)
        armdb_value_release(key);
    armdb_cursor_close(cursor);
    return rc == ARMDB_DONE ? ARMDB_NOT_FOUND : rc;
}

enum armdb_rc armdb_first(struct armdb_session *session, struct armdb_table *table,
                          const struct armdb_range *range, struct armdb_value *key,
                          struct armdb_value *value, struct armdb_error *err)
{
    return find_end(session, table, range, false, key, value, err);
}

enum armdb_rc armdb_last(struct armdb_session *session, struct armdb_table *table,
                         const struct armdb_range *range, struct armdb_value *key,
                         struct armdb_value *value, struct armdb_error *err)
{
    return find_end(session, table, range, true, key, value, err);
}

enum armdb_rc armdb_range_count(struct armdb_session *session, struct armdb_table *table,
                                const struct armdb_range *range,
                                const struct armdb_watch *watch, uint64_t *count,
                                struct armdb_error *err)
{
    enum armdb_rc rc = check_range(session, table, range, err);
    struct armdb_range all = {.low_bound = ARMDB_BOUND_OPEN};
    struct armdb_cursor *cursor = NULL;

    if (count == NULL)
        return ADB_FAIL(ARMDB_INVALID, err, "no place for the number");
    *count = 0;
    if (rc != ARMDB_OK)
        return rc;
    if (range != NULL)
        all = *range;
    all.reverse = false;
    all.keys_only = true;
    all.limit_hint = 0;
    rc = armdb_cursor_open(session, table, &cursor, err);
    if (rc != ARMDB_OK)
        return rc;
    cursor_see_all(cursor);
    rc = armdb_cursor_seek_range(cursor, &all, err);
    while (rc == ARMDB_OK) {
        ++*count;
        rc = *count % ASK_ROWS == 0 ? watch_ask(watch, err) : ARMDB_OK;
        if (rc == ARMDB_OK)
            rc = armdb_cursor_next(cursor, err);
    }
    armdb_cursor_close(cursor);
    return rc == ARMDB_DONE ? ARMDB_OK : rc;
}

/* engine_armdb.c - armdb through engine/armdb.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/armdb.h"
#include "test/engines/engine.h"

struct db {
    struct armdb *store;
    bool synced;
};

struct user {
    struct armdb_session *session;
    struct armdb_table *table;
    struct armdb_cursor *cursor;
    struct armdb_value value;
};

static struct armdb_error err;

static void must(enum armdb_rc rc, const char *what)
{
    if (rc != ARMDB_OK)
        engine_fail("armdb", what, err.text);
}

static void *join_store(void *db_)
{
    struct db *db = db_;
    struct user *user = calloc(1, sizeof *user);

    must(armdb_session_open(db->store, &user->session, &err), "session");
    if (armdb_table_open(user->session, "t", NULL, &user->table, &err) ==
        ARMDB_NOT_FOUND) {
        must(armdb_table_create(user->session, "t", "", 0, &user->table, &err), "table");
        must(armdb_commit(user->session, &err), "commit");
    }
    armdb_table_set_sync(user->table, db->synced ? ARMDB_SYNC_FULL : ARMDB_SYNC_OFF);
    must(armdb_cursor_open(user->session, user->table, &user->cursor, &err), "cursor");
    return user;
}

static void leave_store(void *user_)
{
    struct user *user = user_;

    armdb_value_release(&user->value);
    armdb_cursor_close(user->cursor);
    armdb_table_close(user->table);
    armdb_session_close(user->session);
    free(user);
}

static void *open_store(const char *folder, bool synced)
{
    struct db *db = calloc(1, sizeof *db);
    struct armdb_options options;

    armdb_options_init(&options);
    options.cache_size = ENGINE_CACHE_BYTES;
    options.given = ARMDB_GIVEN_CACHE_SIZE;
    db->synced = synced;
    must(armdb_open(folder, &options, &db->store, &err), "open");
    leave_store(join_store(db)); /* makes the table */
    return db;
}

static void close_store(void *db_)
{
    struct db *db = db_;

    armdb_close(db->store);
    free(db);
}

static void settle_store(void *db_)
{
    struct db *db = db_;

    must(armdb_flush(db->store, &err), "flush");
}

static void hold(void *user_, bool on)
{
    struct user *user = user_;

    if (on)
        must(armdb_snapshot_acquire(user->session, &err), "snapshot");
    else
        armdb_snapshot_release(user->session);
}

static bool get(void *user_, const char *key, struct engine_slice *slice)
{
    struct user *user = user_;
    enum armdb_rc rc;

    armdb_value_release(&user->value);
    rc = armdb_get(user->session, user->table, key, ENGINE_KEY_LEN, &user->value, &err);
    if (rc == ARMDB_NOT_FOUND)
        return false;
    must(rc, "get");
    slice->data = user->value.data;
    slice->len = user->value.len;
    return true;
}

static void put(void *user_, const char *key, const void *value, size_t len)
{
    struct user *user = user_;

    must(armdb_put(user->session, user->table, key, ENGINE_KEY_LEN, value, len, &err),
         "put");
    must(armdb_commit(user->session, &err), "commit");
}

static void batch(void *user_, const struct engine_pair *pairs, size_t count)
{
    struct user *user = user_;
    static struct armdb_op ops[ENGINE_BATCH];

    for (size_t i = 0; i < count; i++)
        ops[i] = (struct armdb_op){ARMDB_OP_PUT,   user->table,    pairs[i].key,
                                   ENGINE_KEY_LEN, pairs[i].value, pairs[i].len};
    must(armdb_batch(user->session, ops, count, NULL, &err), "batch");
}

static enum armdb_verdict count_up(void *arg, const void *value, size_t len,
                                   const void **fresh, size_t *fresh_len)
{
    uint64_t counter;

    if (value == NULL || len > 4096)
        engine_fail("armdb", "modify", "no such row");
    memcpy(arg, value, len);
    memcpy(&counter, (char *)arg + 8, sizeof counter);
    counter++;
    memcpy((char *)arg + 8, &counter, sizeof counter);
    *fresh = arg;
    *fresh_len = len;
    return ARMDB_UPDATE;
}

static void modify(void *user_, const char *key)
{
    struct user *user = user_;
    char bytes[4096];

    must(armdb_modify(user->session, user->table, key, ENGINE_KEY_LEN, count_up, bytes,
                      &err),
         "modify");
}

static void scan(void *user_, struct engine_scan *scan)
{
    struct user *user = user_;
    struct armdb_range range = {.low_bound = ARMDB_BOUND_OPEN};
    char buffer[ENGINE_KEY_LEN];
    enum armdb_rc rc;

    if (scan->prefix > 0) {
        armdb_range_prefix(&range, scan->from, scan->prefix, buffer);
    } else if (scan->from != NULL && scan->reverse) {
        range.high = scan->from;
        range.high_len = ENGINE_KEY_LEN;
        range.high_bound = ARMDB_BOUND_INCLUSIVE;
    } else if (scan->from != NULL) {
        range.low = scan->from;
        range.low_len = ENGINE_KEY_LEN;
        range.low_bound = ARMDB_BOUND_INCLUSIVE;
    }
    range.reverse = scan->reverse;
    range.keys_only = !scan->values;
    range.limit_hint = scan->rows_max == UINT64_MAX ? 0 : scan->rows_max;
    rc = armdb_cursor_seek_range(user->cursor, &range, &err);
    while (rc == ARMDB_OK) {
        struct armdb_value value = {.data = NULL};
        const void *key;
        size_t len;

        armdb_cursor_key(user->cursor, &key, &len);
        if (scan->values)
            must(armdb_cursor_value(user->cursor, &value, &err), "value");
        engine_scan_add(scan, key, value.data);
        if (scan->rows == scan->rows_max)
            break;
        rc = armdb_cursor_next(user->cursor, &err);
    }
    if (rc < 0)
        must(rc, "scan");
    armdb_cursor_reset(user->cursor);
}

static void warm(void *user_)
{
    struct user *user = user_;

    must(armdb_warm(user->session, user->table, NULL, NULL, &err), "warm");
}

const struct engine engine_armdb = {.name = "armdb",
                                    .open = open_store,
                                    .close = close_store,
                                    .join = join_store,
                                    .leave = leave_store,
                                    .settle = settle_store,
                                    .hold = hold,
                                    .get = get,
                                    .put = put,
                                    .batch = batch,
                                    .modify = modify,
                                    .scan = scan,
                                    .warm = warm};

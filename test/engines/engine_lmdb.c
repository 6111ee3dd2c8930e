/* engine_lmdb.c - LMDB: one environment, its main database.
 *
 * A reading transaction is made once for each user and renewed for each moment, as LMDB
 * advises. Not synced is MDB_NOSYNC. */
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test/engines/engine.h"

struct db {
    MDB_env *env;
    MDB_dbi dbi;
};

struct user {
    struct db *db;
    MDB_txn *reader; /* reset unless it is held or a value is out */
    MDB_cursor *cursor;
    bool held;
    bool open;
};

static void must(int rc, const char *what)
{
    if (rc != MDB_SUCCESS)
        engine_fail("LMDB", what, mdb_strerror(rc));
}

static void *open_env(const char *folder, bool synced)
{
    struct db *db = calloc(1, sizeof *db);
    MDB_txn *txn;

    must(mdb_env_create(&db->env), "create");
    must(mdb_env_set_mapsize(db->env, (size_t)8 << 30), "map size");
    must(mdb_env_open(db->env, folder, MDB_NOTLS | (synced ? 0 : MDB_NOSYNC), 0600),
         "open");
    must(mdb_txn_begin(db->env, NULL, 0, &txn), "begin");
    must(mdb_dbi_open(txn, NULL, 0, &db->dbi), "database");
    must(mdb_txn_commit(txn), "commit");
    return db;
}

static void close_env(void *db_)
{
    struct db *db = db_;

    must(mdb_env_sync(db->env, 1), "sync");
    mdb_env_close(db->env);
    free(db);
}

static void *join_env(void *db)
{
    struct user *user = calloc(1, sizeof *user);

    user->db = db;
    must(mdb_txn_begin(user->db->env, NULL, MDB_RDONLY, &user->reader), "begin");
    must(mdb_cursor_open(user->reader, user->db->dbi, &user->cursor), "cursor");
    mdb_txn_reset(user->reader);
    return user;
}

static void leave_env(void *user_)
{
    struct user *user = user_;

    mdb_cursor_close(user->cursor);
    mdb_txn_abort(user->reader);
    free(user);
}

static void settle_env(void *db_)
{
    struct db *db = db_;

    must(mdb_env_sync(db->env, 1), "sync");
}

static void end_read(struct user *user)
{
    if (user->open && !user->held) {
        mdb_txn_reset(user->reader);
        user->open = false;
    }
}

static void begin_read(struct user *user)
{
    end_read(user);
    if (!user->open)
        must(mdb_txn_renew(user->reader), "renew");
    user->open = true;
}

static void hold(void *user_, bool on)
{
    struct user *user = user_;

    if (on)
        begin_read(user);
    user->held = on;
    end_read(user);
}

static bool get(void *user_, const char *key, struct engine_slice *slice)
{
    struct user *user = user_;
    MDB_val k = {ENGINE_KEY_LEN, (void *)(uintptr_t)key};
    MDB_val v;
    int rc;

    begin_read(user);
    rc = mdb_get(user->reader, user->db->dbi, &k, &v);
    if (rc == MDB_NOTFOUND)
        return false;
    must(rc, "get");
    slice->data = v.mv_data;
    slice->len = v.mv_size;
    return true;
}

static void batch(void *user_, const struct engine_pair *pairs, size_t count)
{
    struct user *user = user_;
    MDB_txn *txn;

    end_read(user);
    must(mdb_txn_begin(user->db->env, NULL, 0, &txn), "begin");
    for (size_t i = 0; i < count; i++) {
        MDB_val k = {ENGINE_KEY_LEN, (void *)(uintptr_t)pairs[i].key};
        MDB_val v = {pairs[i].len, (void *)(uintptr_t)pairs[i].value};

        must(mdb_put(txn, user->db->dbi, &k, &v, 0), "put");
    }
    must(mdb_txn_commit(txn), "commit");
}

static void put(void *user, const char *key, const void *value, size_t len)
{
    struct engine_pair pair = {.value = value, .len = len};

    memcpy(pair.key, key, sizeof pair.key);
    batch(user, &pair, 1);
}

static void modify(void *user_, const char *key)
{
    struct user *user = user_;
    MDB_val k = {ENGINE_KEY_LEN, (void *)(uintptr_t)key};
    MDB_val v;
    MDB_txn *txn;
    char bytes[4096];
    uint64_t counter;

    end_read(user);
    must(mdb_txn_begin(user->db->env, NULL, 0, &txn), "begin");
    must(mdb_get(txn, user->db->dbi, &k, &v), "get");
    memcpy(bytes, v.mv_data, v.mv_size);
    memcpy(&counter, bytes + 8, sizeof counter);
    counter++;
    memcpy(bytes + 8, &counter, sizeof counter);
    v.mv_data = bytes;
    must(mdb_put(txn, user->db->dbi, &k, &v, 0), "put");
    must(mdb_txn_commit(txn), "commit");
}

/* The scan's first row. */
static int seek(struct user *user, const struct engine_scan *scan, MDB_val *k, MDB_val *v)
{
    int rc;

    if (scan->from == NULL)
        return mdb_cursor_get(user->cursor, k, v, scan->reverse ? MDB_LAST : MDB_FIRST);
    k->mv_data = (void *)(uintptr_t)scan->from;
    k->mv_size = scan->prefix > 0 ? scan->prefix : ENGINE_KEY_LEN;
    rc = mdb_cursor_get(user->cursor, k, v, MDB_SET_RANGE);
    if (!scan->reverse)
        return rc;
    if (rc == MDB_NOTFOUND)
        return mdb_cursor_get(user->cursor, k, v, MDB_LAST);
    if (rc == MDB_SUCCESS && memcmp(k->mv_data, scan->from, ENGINE_KEY_LEN) > 0)
        return mdb_cursor_get(user->cursor, k, v, MDB_PREV);
    return rc;
}

static void scan(void *user_, struct engine_scan *scan)
{
    struct user *user = user_;
    MDB_val k;
    MDB_val v;
    int rc;

    begin_read(user);
    must(mdb_cursor_renew(user->reader, user->cursor), "renew");
    for (rc = seek(user, scan, &k, &v); rc == MDB_SUCCESS;
         rc = mdb_cursor_get(user->cursor, &k, &v, scan->reverse ? MDB_PREV : MDB_NEXT)) {
        if (scan->prefix > 0 && memcmp(k.mv_data, scan->from, scan->prefix) != 0)
            break;
        engine_scan_add(scan, k.mv_data, scan->values ? v.mv_data : NULL);
        if (scan->rows == scan->rows_max)
            break;
    }
    if (rc != MDB_NOTFOUND)
        must(rc, "scan");
    end_read(user);
}

const struct engine engine_lmdb = {.name = "LMDB",
                                   .open = open_env,
                                   .close = close_env,
                                   .join = join_env,
                                   .leave = leave_env,
                                   .settle = settle_env,
                                   .hold = hold,
                                   .get = get,
                                   .put = put,
                                   .batch = batch,
                                   .modify = modify,
                                   .scan = scan};

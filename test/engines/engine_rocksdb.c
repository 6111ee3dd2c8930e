/* engine_rocksdb.c - RocksDB through its C interface.
 *
 * Bloom filter of 10 bits, block cache of the same size as the others' caches, no
 * compression, background threads for every processor, pinned reads. settle() flushes
 * and compacts everything, so that reads find one level. Read-modify-write is a read and
 * a write: the plain database has no transaction, so only one thread may do it. */
#include <rocksdb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test/engines/engine.h"

struct db {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_writeoptions_t *write;
};

struct user {
    struct db *db;
    rocksdb_readoptions_t *read;
    const rocksdb_snapshot_t *snapshot;
    rocksdb_pinnableslice_t *value;
};

static void must(char *message, const char *what)
{
    if (message != NULL)
        engine_fail("RocksDB", what, message);
}

static void *open_rocks(const char *folder, bool synced)
{
    struct db *db = calloc(1, sizeof *db);
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    char *error = NULL;

    db->options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(db->options, 1);
    rocksdb_options_increase_parallelism(db->options, 4);
    rocksdb_options_set_compression(db->options, rocksdb_no_compression);
    rocksdb_block_based_options_set_block_cache(
        table, rocksdb_cache_create_lru(ENGINE_CACHE_BYTES));
    rocksdb_block_based_options_set_filter_policy(
        table, rocksdb_filterpolicy_create_bloom_full(10));
    rocksdb_options_set_block_based_table_factory(db->options, table);
    db->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(db->write, synced);
    db->db = rocksdb_open(db->options, folder, &error);
    must(error, "open");
    return db;
}

static void close_rocks(void *db_)
{
    struct db *db = db_;

    rocksdb_close(db->db);
    rocksdb_writeoptions_destroy(db->write);
    rocksdb_options_destroy(db->options);
    free(db);
}

static void *join_rocks(void *db)
{
    struct user *user = calloc(1, sizeof *user);

    user->db = db;
    user->read = rocksdb_readoptions_create();
    return user;
}

static void let_go(struct user *user)
{
    if (user->value != NULL)
        rocksdb_pinnableslice_destroy(user->value);
    user->value = NULL;
}

static void leave_rocks(void *user_)
{
    struct user *user = user_;

    let_go(user);
    rocksdb_readoptions_destroy(user->read);
    free(user);
}

static void settle_rocks(void *db_)
{
    struct db *db = db_;
    rocksdb_flushoptions_t *flush = rocksdb_flushoptions_create();
    char *error = NULL;

    rocksdb_flush(db->db, flush, &error);
    must(error, "flush");
    rocksdb_flushoptions_destroy(flush);
    rocksdb_compact_range(db->db, NULL, 0, NULL, 0);
}

static void hold(void *user_, bool on)
{
    struct user *user = user_;

    if (on)
        user->snapshot = rocksdb_create_snapshot(user->db->db);
    rocksdb_readoptions_set_snapshot(user->read, on ? user->snapshot : NULL);
    if (!on)
        rocksdb_release_snapshot(user->db->db, user->snapshot);
}

static bool get(void *user_, const char *key, struct engine_slice *slice)
{
    struct user *user = user_;
    char *error = NULL;

    let_go(user);
    user->value =
        rocksdb_get_pinned(user->db->db, user->read, key, ENGINE_KEY_LEN, &error);
    must(error, "get");
    if (user->value == NULL)
        return false;
    slice->data = rocksdb_pinnableslice_value(user->value, &slice->len);
    return true;
}

static void put(void *user_, const char *key, const void *value, size_t len)
{
    struct user *user = user_;
    char *error = NULL;

    rocksdb_put(user->db->db, user->db->write, key, ENGINE_KEY_LEN, value, len, &error);
    must(error, "put");
}

static void batch(void *user_, const struct engine_pair *pairs, size_t count)
{
    struct user *user = user_;
    rocksdb_writebatch_t *writes = rocksdb_writebatch_create();
    char *error = NULL;

    for (size_t i = 0; i < count; i++)
        rocksdb_writebatch_put(writes, pairs[i].key, ENGINE_KEY_LEN, pairs[i].value,
                               pairs[i].len);
    rocksdb_write(user->db->db, user->db->write, writes, &error);
    must(error, "write");
    rocksdb_writebatch_destroy(writes);
}

static void modify(void *user_, const char *key)
{
    struct user *user = user_;
    struct engine_slice old;
    char bytes[4096];
    uint64_t counter;

    if (!get(user, key, &old))
        engine_fail("RocksDB", "modify", "no such row");
    memcpy(bytes, old.data, old.len);
    memcpy(&counter, bytes + 8, sizeof counter);
    counter++;
    memcpy(bytes + 8, &counter, sizeof counter);
    put(user, key, bytes, old.len);
}

static void scan(void *user_, struct engine_scan *scan)
{
    struct user *user = user_;
    rocksdb_iterator_t *it = rocksdb_create_iterator(user->db->db, user->read);
    size_t len;
    char *error = NULL;

    if (scan->from == NULL && scan->reverse)
        rocksdb_iter_seek_to_last(it);
    else if (scan->from == NULL)
        rocksdb_iter_seek_to_first(it);
    else if (scan->reverse)
        rocksdb_iter_seek_for_prev(it, scan->from, ENGINE_KEY_LEN);
    else
        rocksdb_iter_seek(it, scan->from,
                          scan->prefix > 0 ? scan->prefix : ENGINE_KEY_LEN);
    while (rocksdb_iter_valid(it)) {
        const char *key = rocksdb_iter_key(it, &len);

        if (scan->prefix > 0 && memcmp(key, scan->from, scan->prefix) != 0)
            break;
        engine_scan_add(scan, key, scan->values ? rocksdb_iter_value(it, &len) : NULL);
        if (scan->rows == scan->rows_max)
            break;
        if (scan->reverse)
            rocksdb_iter_prev(it);
        else
            rocksdb_iter_next(it);
    }
    rocksdb_iter_get_error(it, &error);
    must(error, "scan");
    rocksdb_iter_destroy(it);
}

const struct engine engine_rocksdb = {.name = "RocksDB",
                                      .open = open_rocks,
                                      .close = close_rocks,
                                      .join = join_rocks,
                                      .leave = leave_rocks,
                                      .settle = settle_rocks,
                                      .hold = hold,
                                      .get = get,
                                      .put = put,
                                      .batch = batch,
                                      .modify = modify,
                                      .scan = scan};

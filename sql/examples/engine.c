/* The engine without SQLite: a store used through armdb.h alone.
 *
 *     make lib
 *     cc -Ibuild/release/lib -o engine sql/examples/engine.c \
 *         build/release/lib/libarmdb.a -luring -lpthread
 *     ./engine /tmp/inventory
 *
 * Keys and values are bytes, keys in memcmp order; types, columns and collations
 * are the business of the SQL side. */
#include <armdb.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct armdb_error err;

static void must(enum armdb_rc rc, const char *what)
{
    if (rc == ARMDB_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, err.text);
    exit(1);
}

#define BYTES(text) (text), strlen(text)

static struct armdb_op put(struct armdb_table *table, const char *key, const char *value)
{
    return (struct armdb_op){ARMDB_OP_PUT, table, BYTES(key), BYTES(value)};
}

/* Prints what a key has, where it lies: a value is not copied. */
static void show(struct armdb_session *session, struct armdb_table *table,
                 const char *key)
{
    struct armdb_value value;
    enum armdb_rc rc = armdb_get(session, table, BYTES(key), &value, &err);

    if (rc == ARMDB_NOT_FOUND) {
        printf("  %s: none\n", key);
        return;
    }
    must(rc, "get");
    printf("  %s: %.*s\n", key, (int)value.len, (const char *)value.data);
    armdb_value_release(&value);
}

/* Called by armdb_modify() with the row's value, NULL when there is no row. */
static enum armdb_verdict take_one(void *arg, const void *value, size_t len,
                                   const void **fresh, size_t *fresh_len)
{
    static char text[16];
    int left = value == NULL ? 0 : atoi(memcpy(text, value, len < 15 ? len : 15));

    *(int *)arg = left;
    if (left <= 1)
        return left == 1 ? ARMDB_DELETE : ARMDB_KEEP;
    *fresh = text;
    *fresh_len = (size_t)snprintf(text, sizeof text, "%d", left - 1);
    return ARMDB_UPDATE;
}

static void fill(struct armdb *store, struct armdb_session *session)
{
    struct armdb_table *table = NULL;
    struct armdb_snapshot *before = NULL;
    int left;

    must(armdb_begin(session, &err), "begin");
    must(armdb_table_create(session, "inventory", NULL, 0, &table, &err), "create");
    must(armdb_commit(session, &err), "commit");

    /* All of it or nothing, durable when it returns. */
    struct armdb_op ops[] = {
        put(table, "fruit/apple", "12"),
        put(table, "fruit/pear", "3"),
        put(table, "fruit/quince", "1"),
        put(table, "tool/hammer", "2"),
    };
    must(armdb_batch(session, ops, 4, NULL, &err), "batch");
    printf("%" PRIu64 " rows in %u shards, the hammer in number %u\n", armdb_count(table),
           4u, armdb_key_shard(store, BYTES("tool/hammer")));

    /* A moment that stays readable, whatever is written. */
    must(armdb_snapshot_open(session, &before, &err), "snapshot");

    /* One step each, however many threads do the same. */
    must(armdb_modify(session, table, BYTES("fruit/pear"), take_one, &left, &err),
         "modify");
    must(armdb_modify(session, table, BYTES("fruit/quince"), take_one, &left, &err),
         "modify");
    if (armdb_cas(session, table, BYTES("fruit/apple"), BYTES("11"), BYTES("10"), &err) ==
        ARMDB_MISMATCH)
        printf("there are not 11 apples\n");

    /* Several calls in a transaction; this one is given up. */
    must(armdb_begin(session, &err), "begin");
    must(armdb_delete(session, table, BYTES("tool/hammer"), &err), "delete");
    must(armdb_rollback(session, &err), "rollback");

    printf("now:\n");
    show(session, table, "fruit/pear");
    show(session, table, "fruit/quince");
    must(armdb_snapshot_use(session, before, &err), "use");
    printf("before:\n");
    show(session, table, "fruit/pear");
    show(session, table, "fruit/quince");
    armdb_snapshot_release(session);
    armdb_snapshot_close(before);
    armdb_table_close(table);
}

static void ask(struct armdb *store, struct armdb_session *session)
{
    struct armdb_table *table = NULL;
    struct armdb_cursor *cursor = NULL;
    struct armdb_range range;
    struct armdb_value first;
    char buffer[8];
    uint64_t count;
    enum armdb_rc rc;

    (void)store;
    must(armdb_table_open(session, "inventory", NULL, &table, &err), "open table");
    armdb_range_prefix(&range, BYTES("fruit/"), buffer);
    must(armdb_range_count(session, table, &range, NULL, &count, &err), "count");
    must(armdb_first(session, table, &range, &first, NULL, &err), "first");
    printf("%" PRIu64 " kinds of fruit, the first is %.*s; backwards:\n", count,
           (int)first.len, (const char *)first.data);
    armdb_value_release(&first);

    /* The key and the value of a row are the cursor's until it moves. */
    range.reverse = true;
    must(armdb_cursor_open(session, table, &cursor, &err), "open cursor");
    rc = armdb_cursor_seek_range(cursor, &range, &err);
    while (rc == ARMDB_OK) {
        struct armdb_value value;
        const void *key;
        size_t len;

        armdb_cursor_key(cursor, &key, &len);
        must(armdb_cursor_value(cursor, &value, &err), "value");
        printf("  %.*s = %.*s\n", (int)len, (const char *)key, (int)value.len,
               (const char *)value.data);
        rc = armdb_cursor_next(cursor, &err);
    }
    if (rc != ARMDB_DONE)
        must(rc, "next");
    armdb_cursor_close(cursor);
    armdb_table_close(table);
}

static void with_store(const char *path,
                       void (*use)(struct armdb *, struct armdb_session *))
{
    struct armdb_options options;
    struct armdb_session *session = NULL;
    struct armdb *store = NULL;

    armdb_options_init(&options);
    must(armdb_open(path, &options, &store, &err), path);
    must(armdb_session_open(store, &session, &err), "session");
    use(store, session);
    armdb_session_close(session);
    armdb_close(store);
}

int main(int argc, char **argv)
{
    if (argc != 2 || argv[1][0] != '/') {
        fprintf(stderr, "usage: %s /ABSOLUTE/PATH\n", argv[0]);
        return 1;
    }
    with_store(argv[1], fill);
    printf("reopened:\n");
    with_store(argv[1], ask);
    return 0;
}

/* The engine without SQLite: a store used through engine/armdb.h.
 *
 *     make
 *     cc -I. -o engine sql/examples/engine.c build/release/libarmdb.a -luring -lpthread
 *     ./engine /tmp/inventory
 *
 * Keys and values are bytes, keys in memcmp order; types, columns and collations
 * are the business of the SQL side. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/armdb.h"

static struct armdb_error err;

static void must(enum armdb_rc rc, const char *what)
{
    if (rc == ARMDB_OK)
        return;
    fprintf(stderr, "%s: %s\n", what, err.text);
    exit(1);
}

static void put(struct armdb_session *session, struct armdb_table *table, const char *key,
                const char *value)
{
    must(armdb_put(session, table, key, strlen(key), value, strlen(value), &err), "put");
}

/* Everything that can fail fails in prepare; the commit then publishes. */
static void commit(struct armdb_session *session)
{
    must(armdb_prepare(session, ARMDB_DOUBT_COMMIT, &err), "prepare");
    must(armdb_commit(session, &err), "commit");
}

static void fill(struct armdb_session *session)
{
    struct armdb_table *table = NULL;

    must(armdb_begin(session, &err), "begin");
    must(armdb_table_create(session, "inventory", "", 0, &table, &err), "create");
    put(session, table, "fruit/apple", "12");
    put(session, table, "fruit/pear", "3");
    put(session, table, "fruit/quince", "1");
    put(session, table, "tool/hammer", "2");
    commit(session);

    /* A transaction that is given up leaves nothing. */
    must(armdb_begin(session, &err), "begin");
    must(armdb_delete(session, table, "fruit/pear", 10, &err), "delete");
    must(armdb_rollback(session, &err), "rollback");

    /* First writer wins: insert answers "exists" instead of replacing. */
    must(armdb_begin(session, &err), "begin");
    if (armdb_insert(session, table, "fruit/pear", 10, "99", 2, &err) == ARMDB_EXISTS)
        printf("insert: fruit/pear exists\n");
    put(session, table, "fruit/pear", "4");
    commit(session);

    printf("count: %" PRIu64 "\n", armdb_count(table));
    armdb_table_close(table);
}

/* The value belongs to the cursor and lies where it was read: it is valid until the
 * cursor moves. armdb_value_pin() would keep it longer. */
static void print_row(struct armdb_cursor *cursor)
{
    struct armdb_value value;
    const void *key;
    size_t key_len;

    armdb_cursor_key(cursor, &key, &key_len);
    must(armdb_cursor_value(cursor, &value, &err), "value");
    printf("  %.*s = %.*s\n", (int)key_len, (const char *)key, (int)value.len,
           (const char *)value.data);
}

static void ask(struct armdb_session *session)
{
    /* All that begins with "fruit/", backwards; '0' is the byte after '/'. */
    struct armdb_range fruit = {
        .low = "fruit/", .low_len = 6, .low_bound = ARMDB_BOUND_INCLUSIVE,
        .high = "fruit0", .high_len = 6, .high_bound = ARMDB_BOUND_EXCLUSIVE,
        .reverse = true,
    };
    struct armdb_table *table = NULL;
    struct armdb_cursor *cursor = NULL;
    enum armdb_rc rc;

    must(armdb_table_open(session, "inventory", NULL, &table, &err), "open table");
    must(armdb_cursor_open(session, table, &cursor, &err), "open cursor");

    printf("by key:\n");
    must(armdb_cursor_seek_key(cursor, "tool/hammer", 11, &err), "seek");
    print_row(cursor);
    if (armdb_cursor_seek_key(cursor, "tool/saw", 8, &err) == ARMDB_DONE)
        printf("  tool/saw: none\n");

    printf("by range, backwards:\n");
    rc = armdb_cursor_seek_range(cursor, &fruit, &err);
    while (rc == ARMDB_OK) {
        print_row(cursor);
        rc = armdb_cursor_next(cursor, &err);
    }
    if (rc != ARMDB_DONE)
        must(rc, "next");

    armdb_cursor_close(cursor);
    armdb_table_close(table);
}

static void with_store(const char *path, void (*use)(struct armdb_session *session))
{
    struct armdb_options options;
    struct armdb_session *session = NULL;
    struct armdb *store = NULL;

    armdb_options_init(&options);
    must(armdb_open(path, &options, &store, &err), path);
    must(armdb_session_open(store, &session, &err), "session");
    use(session);
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
    printf("reopened\n");
    with_store(argv[1], ask);
    return 0;
}

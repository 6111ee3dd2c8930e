/* fuzz_store.c - any files as a store's folder: opened, read, written, copied, reopened.
 *
 * Input: see folder.h; the second byte chooses how the folder is used. An opening may
 * refuse with a reason; what it accepts must be a store: keys in order, as many rows as
 * it counts, the same rows after closing and opening, in a backup of it, after a
 * compaction, and with one row more after a write. A damaged value may answer
 * ARMDB_CORRUPT, and does so every time until it is overwritten. Nothing may answer that
 * memory is lacking (a length was believed), nor that an invariant is broken. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/armdb.h"
#include "engine/store/internal.h"
#include "test/fuzz/folder.h"
#include "test/sim/sim_sched.h"

const struct fuzz_setup fuzz_setup = {"store", 8000, 12000, 24 << 20, 2000};

enum use { /* bits of the second byte */
           USE_READ_ONLY = 1 << 0,
           USE_COMPACT = 1 << 1,
           USE_BACKUP = 1 << 2,
           USE_PREPARE = 1 << 3, /* the last transaction stays undecided at the close */
           USE_DIRECT = 1 << 4,
           USE_SMALL_SEGMENTS = 1 << 5,
           USE_CLEAR = 1 << 6
};

enum { TABLES_MAX = 6, NAME_MAX_BYTES = 256, ROWS_MAX = 3000 };

/* ---- What a store holds, as bytes ---- */

struct dump {
    uint8_t *p; /* owned */
    size_t n;
    size_t room;
};

static void add(struct dump *dump, const void *p, size_t n)
{
    if (n > dump->room - dump->n) {
        dump->room = 2 * dump->room + n;
        dump->p = realloc(dump->p, dump->room);
    }
    if (n > 0)
        memcpy(dump->p + dump->n, p, n);
    dump->n += n;
}

static void is_clean(enum armdb_rc rc, const struct armdb_error *err)
{
    if (rc == ARMDB_OK)
        return;
    FUZZ_CHECK(rc != ARMDB_INTERNAL && rc != ARMDB_NOMEM && rc != ARMDB_MISUSE);
    FUZZ_CHECK(rc > 0 || (err->rc == rc && err->text[0] != '\0'));
}

struct names {
    char text[TABLES_MAX][NAME_MAX_BYTES];
    size_t count;
};

static void see_name(void *arg, const char *name, const unsigned char uuid[16])
{
    struct names *names = arg;

    FUZZ_CHECK(strlen(name) <= ARMDB_TABLE_NAME_BYTES_MAX && uuid != NULL);
    if (names->count < TABLES_MAX)
        (void)strcpy(names->text[names->count++], name);
}

static void add_value(struct dump *dump, struct armdb_cursor *cursor)
{
    struct armdb_value value;
    struct armdb_error err;
    enum armdb_rc rc = armdb_cursor_value(cursor, &value, &err);

    is_clean(rc, &err);
    FUZZ_CHECK(rc == ARMDB_OK || rc == ARMDB_CORRUPT || rc == ARMDB_IO);
    FUZZ_CHECK(rc != ARMDB_OK || value.len == armdb_cursor_value_len(cursor));
    add(dump, &rc, sizeof rc);
    if (rc == ARMDB_OK)
        add(dump, value.data, value.len);
}

/* Every row forwards, into the dump; backwards, counted. */
static uint64_t add_rows(struct dump *dump, struct armdb_session *session,
                         struct armdb_table *table, bool reverse)
{
    static uint8_t last[ARMDB_KEY_BYTES_MAX];
    struct armdb_range range = {.reverse = reverse};
    struct armdb_cursor *cursor;
    struct armdb_error err;
    size_t last_len = 0;
    uint64_t rows = 0;
    enum armdb_rc rc;

    FUZZ_CHECK(armdb_cursor_open(session, table, &cursor, &err) == ARMDB_OK);
    for (rc = armdb_cursor_seek_range(cursor, &range, &err); rc == ARMDB_OK;
         rc = armdb_cursor_next(cursor, &err)) {
        const void *key;
        size_t len;
        int order;

        armdb_cursor_key(cursor, &key, &len);
        FUZZ_CHECK(len <= sizeof last);
        order = memcmp(last, key, len < last_len ? len : last_len);
        if (order == 0)
            order = last_len < len ? -1 : last_len > len;
        FUZZ_CHECK(rows == 0 || (reverse ? order > 0 : order < 0));
        memcpy(last, key, len);
        last_len = len;
        if (!reverse) {
            add(dump, &len, sizeof len);
            add(dump, key, len);
            add_value(dump, cursor);
        }
        rows++;
    }
    is_clean(rc, &err);
    if (!reverse)
        add(dump, &rc, sizeof rc);
    armdb_cursor_close(cursor);
    return rc == ARMDB_DONE ? rows : UINT64_MAX;
}

static void add_table(struct dump *dump, struct armdb_session *session, const char *name)
{
    struct armdb_table *table;
    struct armdb_error err;
    const void *schema;
    size_t len;
    uint64_t rows;
    enum armdb_rc rc = armdb_table_open(session, name, NULL, &table, &err);

    is_clean(rc, &err);
    add(dump, name, strlen(name));
    add(dump, &rc, sizeof rc);
    if (rc != ARMDB_OK)
        return;
    armdb_table_schema(table, &schema, &len);
    add(dump, schema, len);
    rows = add_rows(dump, session, table, false);
    if (rows != UINT64_MAX) {
        FUZZ_CHECK(rows == armdb_count(table));
        FUZZ_CHECK(rows == add_rows(dump, session, table, true));
    }
    armdb_table_close(table);
}

static struct dump dump_store(struct armdb *store)
{
    static struct names names;
    struct dump dump = {NULL, 0, 0};
    struct armdb_session *session;
    struct armdb_error err;
    enum armdb_rc rc;

    names.count = 0;
    FUZZ_CHECK(armdb_session_open(store, &session, &err) == ARMDB_OK);
    rc = armdb_table_each(session, see_name, &names, &err);
    is_clean(rc, &err);
    add(&dump, &rc, sizeof rc);
    for (size_t i = 0; i < names.count; i++)
        add_table(&dump, session, names.text[i]);
    armdb_session_close(session);
    return dump;
}

static void print_dump(const char *what, const struct dump *dump)
{
    (void)fprintf(stderr, "%s, %zu bytes:", what, dump->n);
    for (size_t i = 0; i < dump->n && i < 2000; i++) {
        int c = dump->p[i];

        (void)fprintf(stderr, c > 32 && c < 127 ? "%c" : ".%02x", (unsigned)c);
    }
    (void)fprintf(stderr, "\n");
}

/* A hint whose checks are right is believed, also where it lies; without it (in a backup,
 * after a compaction) the segment itself is. So with hints in the folder nothing is
 * compared: it must do no harm. */
static bool has_hints;

static void same(struct armdb *store, const struct dump *expected)
{
    struct dump dump = dump_store(store);

    if (has_hints) {
        free(dump.p);
        return;
    }
    if (dump.n != expected->n || memcmp(dump.p, expected->p, dump.n) != 0) {
        print_dump("expected", expected);
        print_dump("found", &dump);
        FUZZ_CHECK(!"the store holds what it held");
    }
    free(dump.p);
}

/* ---- Using it ---- */

static struct armdb_error last_error;

static enum armdb_rc open_store(const char *path, unsigned use, struct armdb **store)
{
    struct armdb_options options;
    enum armdb_rc rc;

    armdb_options_init(&options);
    options.cache_size = 1 << 20;
    options.segment_size = 1 << 20;
    options.io_engine = ARMDB_IO_PLAIN;
    options.io_direct = (use & USE_DIRECT) != 0;
    options.read_only = (use & USE_READ_ONLY) != 0;
    options.create = false;
    FUZZ_SCRIBBLE(*store);
    rc = armdb_open(path, &options, store, &last_error);
    is_clean(rc, &last_error);
    FUZZ_CHECK((rc == ARMDB_OK) == (*store != NULL));
    if (rc == ARMDB_OK && (use & USE_SMALL_SEGMENTS) != 0)
        (*store)->log.segment_size = 12 << 10;
    return rc;
}

/* Where a refusal would be wrong: what was open a moment ago. NULL where it may still be
 * one: a segment that a hint stood for is read when the hint is gone. */
static struct armdb *must_open(const char *path, unsigned use)
{
    struct armdb *store;
    enum armdb_rc rc = open_store(path, use, &store);

    if ((rc == ARMDB_CORRUPT || rc == ARMDB_VERSION) && has_hints)
        return NULL;
    if (rc != ARMDB_OK)
        (void)fprintf(stderr, "%s: %s: %s\n", path, adb_rc_name(rc), last_error.text);
    FUZZ_CHECK(rc == ARMDB_OK);
    return store;
}

/* One table more, with a row; every row of the others written again. */
static bool write_rows(struct armdb_session *session, unsigned use)
{
    struct armdb_table *table = NULL;
    struct armdb_error err;
    enum armdb_rc rc = armdb_table_open(session, "fuzz", NULL, &table, &err);

    if (rc == ARMDB_NOT_FOUND)
        rc = armdb_table_create(session, "fuzz", "s", 1, &table, &err);
    for (int i = 0; rc == ARMDB_OK && i < 20; i++) {
        char key[2] = {'k', (char)('a' + i)};
        char value[600];

        memset(value, i, sizeof value);
        rc = armdb_put(session, table, key, i == 0 ? 0 : sizeof key, value,
                       (size_t)i * 30, &err);
    }
    if (rc == ARMDB_OK && (use & USE_CLEAR) != 0)
        rc = armdb_table_clear(session, table, &err);
    if (rc == ARMDB_OK)
        rc = armdb_put(session, table, "last", 4, "row", 3, &err);
    if (rc == ARMDB_OK)
        rc = armdb_prepare(session, ARMDB_DOUBT_ABORT, &err);
    if (rc == ARMDB_OK && (use & USE_PREPARE) == 0)
        rc = armdb_commit(session, &err);
    armdb_table_close(table);
    is_clean(rc, &err);
    return rc == ARMDB_OK && (use & USE_PREPARE) == 0;
}

static void copy_store(struct armdb *store, const struct dump *expected)
{
    struct armdb_backup_info info;
    struct armdb_error err;
    struct armdb *copy;
    enum armdb_rc rc = armdb_backup(store, "/copy", NULL, &info, &err);

    is_clean(rc, &err);
    if (rc != ARMDB_OK)
        return;
    copy = must_open("/copy", 0);
    if (copy != NULL)
        same(copy, expected);
    armdb_close(copy);
}

static void use_store(struct armdb *store, unsigned use)
{
    struct dump before = dump_store(store);
    struct armdb_session *session;
    struct armdb_compact_info info;
    struct armdb_error err;

    if ((use & USE_BACKUP) != 0)
        copy_store(store, &before);
    if ((use & USE_COMPACT) != 0) {
        is_clean(armdb_compact(store, NULL, &info, &err), &err);
        same(store, &before);
    }
    armdb_close(store);
    store = must_open("/store", use);
    if (store != NULL)
        same(store, &before);
    free(before.p);
    if (store == NULL)
        return;
    FUZZ_CHECK(armdb_session_open(store, &session, &err) == ARMDB_OK);
    if (!write_rows(session, use))
        is_clean(armdb_rollback(session, &err), &err);
    armdb_session_close(session);
    before = dump_store(store);
    armdb_close(store);
    store = must_open("/store", use);
    if (store != NULL)
        same(store, &before);
    free(before.p);
    if (store != NULL && (use & USE_COMPACT) != 0)
        is_clean(armdb_compact(store, NULL, &info, &err), &err);
    armdb_close(store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    unsigned choices = fuzz_u8(&in);
    unsigned use = fuzz_u8(&in);
    struct sim_disk *disk = sim_disk_create(36);
    struct armdb *store;

    sim_sched_seed(36, 0);
    sim_disk_mount(disk);
    disk->direct = true;
    folder_build(disk, "/store", &in, choices);
    has_hints = false;
    for (size_t i = 0; i < disk->names.count; i++)
        has_hints = has_hints || strstr(disk->names.list[i].name, ".hint") != NULL;
    fuzz_begin(size);
    if (open_store("/store", use, &store) == ARMDB_OK)
        use_store(store, use);
    fuzz_end();
    FUZZ_CHECK(sim_disk_handles() == 0 && sim_sched_count() == 0);
    sim_disk_destroy(disk);
    return 0;
}

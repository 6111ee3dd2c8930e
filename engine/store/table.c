/* table.c - tables: their rows in memory, and the catalogue.
 *
 * The catalogue is table 0: key = name, value = format byte, uuid, table id (varint),
 * the caller's schema. Its rows are ordinary rows in ordinary transactions, so CREATE,
 * DROP and RENAME roll back like everything else. A table's id is never used again, so
 * rows of a table that the catalogue no longer lists are simply dead.
 *
 * The rows themselves (arena, hash map, order index) are a struct tab, made at the
 * first use of the id and destroyed when the catalogue has no row for it and no handle
 * is open. */
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/mem.h"
#include "engine/base/plant.h"
#include "engine/store/table.h"

enum { CATALOG_FORMAT = 1, CATALOG_HEAD = 1 + 16 };

/* ---- Rows ---- */

void tab_destroy(struct tab *tab)
{
    if (tab == NULL)
        return;
    order_destroy(tab->order);
    hashmap_destroy(tab->map);
    arena_destroy(tab->arena);
    adb_free(ADB_MEM_MISC, tab);
}

enum armdb_rc tab_create(struct armdb *store, uint64_t id, struct tab **out)
{
    enum armdb_rc rc;
    struct tab *tab = adb_alloc_zero(ADB_MEM_MISC, sizeof *tab);

    *out = NULL;
    if (tab == NULL)
        return ARMDB_NOMEM;
    tab->id = id;
    tab->store = store;
    atomic_init(&tab->live_rows, 0);
    rc = arena_create(&tab->arena);
    if (rc == ARMDB_OK)
        rc = hashmap_create(tab->arena, store->epoch, &tab->map);
    if (rc == ARMDB_OK)
        rc = order_create(tab->arena, store->epoch, &tab->order);
    if (rc != ARMDB_OK) {
        if (tab->map != NULL)
            hashmap_destroy(tab->map);
        if (tab->arena != NULL)
            arena_destroy(tab->arena);
        adb_free(ADB_MEM_MISC, tab);
        return rc;
    }
    *out = tab;
    return ARMDB_OK;
}

static enum armdb_rc tab_of_id_locked(struct armdb *store, uint64_t id, struct tab **out)
    ADB_REQUIRES(store->catalog_lock)
{
    enum armdb_rc rc;
    struct tab *tab = store->tabs;

    while (tab != NULL && tab->id != id)
        tab = tab->next;
    if (tab == NULL) {
        rc = tab_create(store, id, &tab);
        if (rc != ARMDB_OK) {
            *out = NULL;
            return rc;
        }
        tab->next = store->tabs;
        store->tabs = tab;
    }
    *out = tab;
    return ARMDB_OK;
}

enum armdb_rc tab_of_id(struct armdb *store, uint64_t id, struct tab **out)
{
    enum armdb_rc rc;

    adb_mutex_lock(&store->catalog_lock);
    rc = tab_of_id_locked(store, id, out);
    adb_mutex_unlock(&store->catalog_lock);
    return rc;
}

/* ---- Catalogue rows ---- */

enum armdb_rc catalog_decode(const struct armdb_value *value, struct catalog_row *row,
                             struct armdb_error *err)
{
    const unsigned char *p = value->data;
    size_t n;

    if (value->len < CATALOG_HEAD)
        return ADB_FAIL(ARMDB_CORRUPT, err, "a row of the catalogue is too short");
    if (p[0] != CATALOG_FORMAT)
        return ADB_FAIL(ARMDB_VERSION, err,
                        "a row of the catalogue has format %u; this version knows %d",
                        p[0], CATALOG_FORMAT);
    memcpy(row->uuid, p + 1, 16);
    n = adb_get_varint(p + CATALOG_HEAD, value->len - CATALOG_HEAD, &row->id);
    if (n == 0 || row->id == 0 || row->id >= RECORD_NUMBER_LIMIT)
        return ADB_FAIL(ARMDB_CORRUPT, err, "a row of the catalogue has no table id");
    row->schema = p + CATALOG_HEAD + n;
    row->schema_len = value->len - CATALOG_HEAD - n;
    return ARMDB_OK;
}

unsigned char *catalog_encode(const struct catalog_row *row, size_t *len)
{
    unsigned char *p =
        adb_alloc(ADB_MEM_MISC, CATALOG_HEAD + ADB_VARINT_MAX + row->schema_len);
    size_t n;

    if (p == NULL)
        return NULL;
    p[0] = CATALOG_FORMAT;
    memcpy(p + 1, row->uuid, 16);
    n = adb_put_varint(p + CATALOG_HEAD, row->id);
    if (row->schema_len > 0)
        memcpy(p + CATALOG_HEAD + n, row->schema, row->schema_len);
    *len = CATALOG_HEAD + n + row->schema_len;
    return p;
}

struct armdb_table catalog_handle(struct armdb_session *session)
{
    struct armdb_table handle;

    memset(&handle, 0, sizeof handle);
    handle.session = session;
    handle.tab = session->store->catalog;
    handle.sync = ARMDB_SYNC_FULL;
    return handle;
}

/* Calls visit for each row of the catalogue that the session sees; ARMDB_DONE from it
 * ends the walk. Rows that cannot be read are passed by: what is looked for may be behind
 * them. They are the error of a walk that gets to the end. */
static enum armdb_rc walk_catalog(struct armdb_session *session,
                                  enum armdb_rc (*visit)(void *arg, const char *name,
                                                         size_t name_len,
                                                         const struct catalog_row *row),
                                  void *arg, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct armdb_table handle = catalog_handle(session);
    struct armdb_cursor *cursor = NULL;
    struct armdb_range all = {.low_bound = ARMDB_BOUND_OPEN};
    struct armdb_error damage = {.rc = ARMDB_OK};
    bool ended = false;

    armdb_statement_begin(session); /* own CREATEs so far are seen */
    rc = armdb_cursor_open(session, &handle, &cursor, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = armdb_cursor_seek_range(cursor, &all, err);
    while (rc == ARMDB_OK) {
        struct armdb_value value;
        struct catalog_row row;
        const void *name;
        size_t name_len;

        rc = armdb_cursor_value(cursor, &value, err);
        if (rc == ARMDB_OK)
            rc = catalog_decode(&value, &row, err);
        if (rc == ARMDB_OK) {
            armdb_cursor_key(cursor, &name, &name_len);
            rc = visit(arg, name, name_len, &row);
            ended = rc != ARMDB_OK;
        } else if (rc == ARMDB_CORRUPT) {
            if (err != NULL && damage.rc == ARMDB_OK)
                damage = *err;
            damage.rc = rc;
            rc = ARMDB_OK;
        }
        if (rc == ARMDB_OK)
            rc = armdb_cursor_next(cursor, err);
    }
    armdb_cursor_close(cursor);
    if (rc == ARMDB_DONE && !ended && damage.rc != ARMDB_OK) {
        if (err != NULL)
            *err = damage;
        return damage.rc;
    }
    return rc == ARMDB_DONE ? ARMDB_OK : rc;
}

/* ---- Handles ---- */

static void leave_holders_locked(struct armdb *store, const struct armdb_table *table)
    ADB_REQUIRES(store->catalog_lock)
{
    struct armdb_table **link = &store->holders;

    while (*link != table)
        link = &(*link)->next_holder;
    *link = table->next_holder;
}

void armdb_table_close(struct armdb_table *table)
{
    struct armdb *store;

    if (table == NULL)
        return;
    store = table->session->store;
    if (table->tab != NULL) {
        adb_mutex_lock(&store->catalog_lock);
        table->tab->handles--;
        if (table->holds)
            leave_holders_locked(store, table);
        adb_mutex_unlock(&store->catalog_lock);
    }
    adb_free(ADB_MEM_MISC, table->name);
    adb_free(ADB_MEM_MISC, table->schema);
    adb_free(ADB_MEM_MISC, table);
}

static enum armdb_rc make_handle(struct armdb_session *session, const char *name,
                                 size_t name_len, const struct catalog_row *row,
                                 struct armdb_table **out)
{
    enum armdb_rc rc = ARMDB_NOMEM;
    struct armdb *store = session->store;
    struct armdb_table *table = adb_alloc_zero(ADB_MEM_MISC, sizeof *table);

    *out = NULL;
    if (table == NULL)
        return ARMDB_NOMEM;
    table->session = session;
    table->sync = ARMDB_SYNC_FULL;
    memcpy(table->uuid, row->uuid, 16);
    table->name = adb_alloc(ADB_MEM_MISC, name_len + 1);
    table->schema = adb_alloc(ADB_MEM_MISC, row->schema_len);
    if (table->name == NULL || table->schema == NULL)
        goto out;
    memcpy(table->name, name, name_len);
    table->name[name_len] = '\0';
    if (row->schema_len > 0)
        memcpy(table->schema, row->schema, row->schema_len);
    table->schema_len = row->schema_len;
    adb_mutex_lock(&store->catalog_lock);
    rc = tab_of_id_locked(store, row->id, &table->tab);
    if (rc == ARMDB_OK)
        table->tab->handles++;
    adb_mutex_unlock(&store->catalog_lock);
    if (rc != ARMDB_OK)
        goto out;
    *out = table;
    table = NULL;
out:
    armdb_table_close(table);
    return rc;
}

/* ---- Create, open, drop, rename ---- */

static enum armdb_rc check_name(const char *name, struct armdb_error *err)
{
    size_t len = strlen(name);

    if (len == 0 || len > ARMDB_TABLE_NAME_BYTES_MAX)
        return ADB_FAIL(ARMDB_INVALID, err, "a table's name has 1 to %d bytes, not %zu",
                        ARMDB_TABLE_NAME_BYTES_MAX, len);
    return ARMDB_OK;
}

enum armdb_rc armdb_table_create(struct armdb_session *session, const char *name,
                                 const void *schema, size_t schema_len,
                                 struct armdb_table **out, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct armdb *store = session->store;
    struct armdb_table handle = catalog_handle(session);
    struct catalog_row row;
    unsigned char *bytes = NULL;
    size_t len;

    *out = NULL;
    rc = check_name(name, err);
    if (rc != ARMDB_OK)
        return rc;
    if (schema_len > ARMDB_SCHEMA_BYTES_MAX)
        return ADB_FAIL(ARMDB_TOOBIG, err, "a table's schema has at most %d bytes",
                        ARMDB_SCHEMA_BYTES_MAX);
    row.schema = schema;
    row.schema_len = schema_len;
    row.id = atomic_fetch_add_explicit(&store->log.next_table, 1, memory_order_relaxed);
    rc = store->io->ops->random(store->io, row.uuid, 16, err);
    if (rc != ARMDB_OK)
        return rc;
    bytes = catalog_encode(&row, &len);
    if (bytes == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory creating table %s", name);
    rc = armdb_insert(session, &handle, name, strlen(name), bytes, len, err);
    if (rc == ARMDB_EXISTS)
        rc = ADB_FAIL(ARMDB_EXISTS, err, "the store already holds a table %s", name);
    if (rc == ARMDB_OK) {
        rc = make_handle(session, name, strlen(name), &row, out);
        if (rc != ARMDB_OK)
            (void)ADB_FAIL(rc, err, "out of memory creating table %s", name);
    }
    adb_free(ADB_MEM_MISC, bytes);
    return rc;
}

struct find_table {
    struct armdb_session *session;
    const char *name; /* or: */
    const unsigned char *uuid;
    struct armdb_table *found;
};

static enum armdb_rc find_visit(void *arg, const char *name, size_t name_len,
                                const struct catalog_row *row)
{
    struct find_table *find = arg;
    enum armdb_rc rc;

    if (find->uuid != NULL
            ? memcmp(find->uuid, row->uuid, 16) != 0
            : strlen(find->name) != name_len || memcmp(find->name, name, name_len) != 0)
        return ARMDB_OK;
    rc = make_handle(find->session, name, name_len, row, &find->found);
    return rc == ARMDB_OK ? ARMDB_DONE : rc;
}

enum armdb_rc armdb_table_open(struct armdb_session *session, const char *name,
                               const unsigned char *uuid, struct armdb_table **out,
                               struct armdb_error *err)
{
    struct find_table find = {session, name, uuid, NULL};
    enum armdb_rc rc = walk_catalog(session, find_visit, &find, err);

    *out = find.found;
    if (rc == ARMDB_NOMEM)
        return ADB_FAIL(rc, err, "out of memory opening a table");
    if (rc != ARMDB_OK)
        return rc;
    if (find.found == NULL)
        return ADB_FAIL(ARMDB_NOT_FOUND, err, "the store %s holds no table %s",
                        session->store->path, name != NULL ? name : "of this identity");
    return ARMDB_OK;
}

static enum armdb_rc delete_name(struct armdb_session *session, struct armdb_table *table,
                                 struct armdb_error *err)
{
    struct armdb_table handle = catalog_handle(session);
    enum armdb_rc rc =
        armdb_delete(session, &handle, table->name, strlen(table->name), err);

    if (rc == ARMDB_NOT_FOUND)
        return ADB_FAIL(rc, err, "the store holds no table %s any more", table->name);
    return rc;
}

enum armdb_rc armdb_table_drop(struct armdb_session *session, struct armdb_table *table,
                               struct armdb_error *err)
{
    enum armdb_rc rc = armdb_snapshot_acquire(session, err);

    if (rc != ARMDB_OK)
        return rc;
    rc = table_resolve(table, err);
    if (rc == ARMDB_OK)
        rc = delete_name(session, table, err);
    /* Without memory for the note the rows are freed by the next opening. */
    if (rc == ARMDB_OK)
        (void)newid_note_drop(session->txn, table->tab);
    armdb_snapshot_release(session);
    return rc;
}

enum armdb_rc armdb_table_rename(struct armdb_session *session, struct armdb_table *table,
                                 const char *name, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct armdb_table handle = catalog_handle(session);
    struct catalog_row row = {.schema = table->schema, .schema_len = table->schema_len};
    unsigned char *bytes = NULL;
    char *copy = NULL;
    size_t len;

    rc = check_name(name, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = armdb_snapshot_acquire(session, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = table_resolve(table, err);
    if (rc != ARMDB_OK)
        goto out;
    row.id = table->tab->id;
    memcpy(row.uuid, table->uuid, 16);
    copy = adb_alloc(ADB_MEM_MISC, strlen(name) + 1);
    bytes = catalog_encode(&row, &len);
    if (copy == NULL || bytes == NULL) {
        rc = ADB_FAIL(ARMDB_NOMEM, err, "out of memory renaming table %s", table->name);
        goto out;
    }
    memcpy(copy, name, strlen(name) + 1);
    rc = armdb_insert(session, &handle, name, strlen(name), bytes, len, err);
    if (rc == ARMDB_EXISTS)
        rc = ADB_FAIL(rc, err, "the store already holds a table %s", name);
    if (rc != ARMDB_OK)
        goto out;
    rc = delete_name(session, table, err);
    if (rc != ARMDB_OK)
        goto out;
    adb_free(ADB_MEM_MISC, table->name);
    table->name = copy;
    copy = NULL;
out:
    armdb_snapshot_release(session);
    adb_free(ADB_MEM_MISC, copy);
    adb_free(ADB_MEM_MISC, bytes);
    return rc;
}

struct each_table {
    void (*visit)(void *arg, const char *name, const unsigned char uuid[16]);
    void *arg;
};

static enum armdb_rc each_visit(void *arg, const char *name, size_t name_len,
                                const struct catalog_row *row)
{
    struct each_table *each = arg;
    char text[ARMDB_TABLE_NAME_BYTES_MAX + 1];

    if (name_len > ARMDB_TABLE_NAME_BYTES_MAX)
        return ARMDB_CORRUPT;
    memcpy(text, name, name_len);
    text[name_len] = '\0';
    each->visit(each->arg, text, row->uuid);
    return ARMDB_OK;
}

enum armdb_rc armdb_table_each(struct armdb_session *session,
                               void (*visit)(void *arg, const char *name,
                                             const unsigned char uuid[16]),
                               void *arg, struct armdb_error *err)
{
    struct each_table each = {visit, arg};

    return walk_catalog(session, each_visit, &each, err);
}

/* ---- Rows without a catalogue row ---- */

struct listed_ids {
    uint64_t *ids;
    size_t count;
    size_t capacity;
};

static enum armdb_rc collect_id(void *arg, const char *name, size_t name_len,
                                const struct catalog_row *row)
{
    struct listed_ids *listed = arg;

    (void)name;
    (void)name_len;
    if (listed->count == listed->capacity) {
        size_t capacity = listed->capacity * 2 + 16;
        uint64_t *ids = adb_realloc(ADB_MEM_MISC, listed->ids, capacity * sizeof *ids);

        if (ids == NULL)
            return ARMDB_NOMEM;
        listed->ids = ids;
        listed->capacity = capacity;
    }
    listed->ids[listed->count++] = row->id;
    return ARMDB_OK;
}

static bool is_listed(const struct listed_ids *listed, uint64_t id)
{
    for (size_t i = 0; i < listed->count; i++)
        if (listed->ids[i] == id)
            return true;
    return id == 0;
}

/* A table id that records still bear is never given to another table, though its own was
 * dropped: they would be that one's rows. The manifest may be older than the table. */
static enum armdb_rc pass_ids_seen(struct armdb *store, const struct listed_ids *listed,
                                   struct armdb_error *err)
{
    uint64_t next = atomic_load_explicit(&store->log.next_table, memory_order_relaxed);

    for (size_t i = 0; i < listed->count; i++)
        if (listed->ids[i] >= next)
            next = listed->ids[i] + 1;
    adb_mutex_lock(&store->catalog_lock);
    for (const struct tab *tab = store->tabs; tab != NULL; tab = tab->next)
        if (tab->id >= next && !ADB_PLANTED("table_id_reused"))
            next = tab->id + 1;
    adb_mutex_unlock(&store->catalog_lock);
    atomic_store_explicit(&store->log.next_table, next, memory_order_relaxed);
    if (next > RECORD_NUMBER_OPEN_MAX)
        return ADB_FAIL(ARMDB_CORRUPT, err,
                        "the store %s has rows of table %llu, which no store reaches: "
                        "restore it from a backup",
                        store->path, (unsigned long long)(next - 1));
    return ARMDB_OK;
}

/* Takes the tables that nobody lists or uses out of the store's list. */
static struct tab *take_unlisted(struct armdb *store, const struct listed_ids *listed)
{
    struct tab *taken = NULL;
    struct tab **link = &store->tabs;

    adb_mutex_lock(&store->catalog_lock);
    while (*link != NULL) {
        struct tab *tab = *link;

        if (tab->handles > 0 || is_listed(listed, tab->id)) {
            link = &tab->next;
            continue;
        }
        *link = tab->next;
        tab->next = taken;
        taken = tab;
    }
    adb_mutex_unlock(&store->catalog_lock);
    return taken;
}

enum armdb_rc catalog_sweep(struct armdb *store, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct armdb_session *session = NULL;
    enum armdb_rc passed = ARMDB_OK;
    struct listed_ids listed = {NULL, 0, 0};
    struct tab *taken;

    rc = armdb_session_open(store, &session, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = walk_catalog(session, collect_id, &listed, err);
    if (rc == ARMDB_NOMEM)
        (void)ADB_FAIL(rc, err, "out of memory reading the catalogue of %s", store->path);
    if (rc == ARMDB_OK || rc == ARMDB_CORRUPT)
        passed = pass_ids_seen(store, &listed, err);
    if (passed != ARMDB_OK) {
        rc = passed;
    } else if (rc == ARMDB_CORRUPT) {
        /* Which tables there are is not known for certain: all rows stay, and what can
         * be read can be read. The next opening without the damage sweeps. */
        rc = ARMDB_OK;
    } else if (rc == ARMDB_OK) {
        taken = take_unlisted(store, &listed);
        if (taken != NULL)
            epoch_drain(store->epoch);
        while (taken != NULL) {
            struct tab *next = taken->next;

            tab_destroy(taken);
            taken = next;
        }
    }
    armdb_session_close(session);
    adb_free(ADB_MEM_MISC, listed.ids);
    return rc;
}

/* ---- Holding ---- */

void armdb_table_hold(struct armdb_table *table)
{
    struct armdb *store = table->session->store;

    adb_mutex_lock(&store->catalog_lock);
    if (!table->holds) {
        table->holds = true;
        table->next_holder = store->holders;
        store->holders = table;
    }
    adb_mutex_unlock(&store->catalog_lock);
}

bool armdb_table_is_held(const struct armdb_table *table)
{
    struct armdb *store = table->session->store;
    bool held = false;

    adb_mutex_lock(&store->catalog_lock);
    for (const struct armdb_table *t = store->holders; t != NULL; t = t->next_holder)
        held |= t != table && memcmp(t->uuid, table->uuid, sizeof t->uuid) == 0;
    adb_mutex_unlock(&store->catalog_lock);
    return held;
}

/* ---- Small questions ---- */

void armdb_table_uuid(const struct armdb_table *table, unsigned char uuid[16])
{
    memcpy(uuid, table->uuid, 16);
}

void armdb_table_schema(const struct armdb_table *table, const void **schema, size_t *len)
{
    *schema = table->schema;
    *len = table->schema_len;
}

const char *armdb_table_name(const struct armdb_table *table)
{
    return table->name;
}

void armdb_table_set_sync(struct armdb_table *table, enum armdb_sync sync)
{
    table->sync = sync;
}

uint64_t armdb_count(struct armdb_table *table)
{
    uint64_t count;
    struct armdb_error ignored;
    bool held = armdb_snapshot_acquire(table->session, &ignored) == ARMDB_OK;

    /* Where the catalogue cannot be read the rows known last are counted. */
    if (held)
        ignored.rc = table_resolve(table, &ignored);
    count = atomic_load_explicit(&table->tab->live_rows, memory_order_relaxed);
    if (held)
        armdb_snapshot_release(table->session);
    return count;
}

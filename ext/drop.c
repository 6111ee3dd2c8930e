/* drop.c - DROP and CREATE, whose outcome SQLite does not tell.
 *
 * xDestroy runs at once, may still be rolled back, and afterwards nothing is heard for
 * that table. So it deletes nothing: it notes the drop, and the next use of the store
 * at a moment when every earlier statement's outcome is final (drop_settle) looks for
 * the shadow row. SQLite has committed or rolled that back: still there, the drop is
 * cancelled; gone, it is carried out, after the database file has been synced (a
 * power cut must not bring back a table whose rows are gone).
 *
 * Several SQL tables can reach one table of a store, from several database files.
 * Each CREATE is an attachment with a random id, and the rows go with the last one.
 * Two tables of the store keep this, ordinary rows in ordinary transactions:
 *
 *   armdb:attachments   key: table uuid, attachment id    value: flags, file
 *   armdb:pending       key: attachment id                value: table, created, file
 *
 * A pending row is written in a commit of its own, by a session of its own, before
 * the outcome is known, so it survives a process that ends. It is settled only by a
 * connection that has that very file open; if the file is gone it stays, and nothing is
 * dropped. A table in the TEMP schema registers no attachment: its place ends with its
 * connection, and so does a drop of it that was not settled. It holds the store's table
 * instead (armdb_table_hold), and no drop takes rows along that somebody holds: it stays
 * pending. A DROP of a TEMP table deletes rows that its own CREATE began, unless another
 * attachment reaches them.
 *
 * A CREATE has the mirror problem: the store may have committed when SQLite has not,
 * because the process was killed in between. Its attachment is unconfirmed until the
 * first write of a later transaction, or the next opening that finds its shadow row; one
 * that is unconfirmed, names this file and has no shadow row is an orphan. The next
 * opening drops it (the list holds it as a drop to be settled; it is made while no
 * statement runs, so the row is looked for in a later snapshot of the file than the one
 * in which CREATE put it), and a CREATE that finds only orphans starts empty. And when
 * a CREATE is undone by ROLLBACK TO, SQLite does not tell a table that joined the
 * transaction by its CREATE; drop_reap() finds these before anything is prepared. */
#include "ext/drop.h"

#include <string.h>

#include "ext/errmap.h"

SQLITE_EXTENSION_INIT3

enum {
    ATTACHMENT_CONFIRMED = 1,
    ATTACHMENT_CREATED = 2,
    ATTACHMENT_KEY_BYTES = 2 * SHADOW_ID_BYTES,
    PENDING_HEAD_BYTES = SHADOW_ID_BYTES + 1,
    FILE_BYTES_MAX = 4096
};

#define ATTACHMENTS_TABLE DROP_RESERVED_PREFIX "attachments"
#define PENDING_TABLE DROP_RESERVED_PREFIX "pending"

/* ---- The list ---- */

static const char *database_file(const struct conn_store *store, const char *schema)
{
    const char *file = sqlite3_db_filename(store->conn->db, schema);

    return file == NULL ? "" : file;
}

static struct drop *make_drop(const struct conn_store *store, const char *schema,
                              const struct shadow *shadow)
{
    struct drop *drop = sqlite3_malloc64(sizeof *drop);

    if (drop == NULL)
        return NULL;
    memset(drop, 0, sizeof *drop);
    memcpy(drop->table, shadow->table, SHADOW_ID_BYTES);
    memcpy(drop->attachment, shadow->attachment, SHADOW_ID_BYTES);
    drop->created = shadow->created;
    drop->schema = sqlite3_mprintf("%s", schema);
    drop->file = sqlite3_mprintf("%s", database_file(store, schema));
    if (store->memory)
        drop->name = shadow_memory_name(shadow);
    if (drop->schema == NULL || drop->file == NULL ||
        (store->memory && drop->name == NULL)) {
        conn_drop_free(drop);
        return NULL;
    }
    return drop;
}

static void push_drop(struct conn_store *store, struct drop *drop)
{
    drop->next = store->drops;
    store->drops = drop;
}

bool drop_is_pending(const struct conn_store *store, const unsigned char *table)
{
    for (const struct drop *d = store->drops; d != NULL; d = d->next) {
        if (!d->is_new && !d->unconfirmed &&
            memcmp(d->table, table, SHADOW_ID_BYTES) == 0)
            return true;
    }
    return false;
}

void drop_transaction_ended(struct conn_store *store)
{
    struct drop **at = &store->drops;

    while (*at != NULL) {
        struct drop *drop = *at;

        if (drop->is_new) {
            *at = drop->next;
            conn_drop_free(drop);
        } else {
            at = &drop->next;
        }
    }
}

/* ---- The store's own tables ---- */

static enum armdb_rc open_own_table(struct armdb_session *session, const char *name,
                                    bool create, struct armdb_table **out,
                                    struct armdb_error *err)
{
    enum armdb_rc rc = armdb_table_open(session, name, NULL, out, err);

    if (rc == ARMDB_NOT_FOUND && create)
        rc = armdb_table_create(session, name, "", 0, out, err);
    return rc;
}

/* Puts head and file as the value of a key. */
static enum armdb_rc put_row(struct armdb_session *session, struct armdb_table *table,
                             const void *key, size_t key_len, const unsigned char *head,
                             size_t head_len, const char *file, struct armdb_error *err)
{
    size_t file_len = strlen(file);
    unsigned char *value = sqlite3_malloc64(head_len + file_len + 1);
    enum armdb_rc rc;

    if (value == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory");
    memcpy(value, head, head_len);
    memcpy(value + head_len, file, file_len + 1);
    rc = armdb_put(session, table, key, key_len, value, head_len + file_len, err);
    sqlite3_free(value);
    return rc;
}

static enum armdb_rc put_attachment(struct armdb_session *session,
                                    const struct drop *place, bool confirmed,
                                    struct armdb_error *err)
{
    unsigned char key[ATTACHMENT_KEY_BYTES];
    unsigned char head[1] = {0};
    struct armdb_table *table = NULL;
    enum armdb_rc rc;

    if (confirmed)
        head[0] |= ATTACHMENT_CONFIRMED;
    if (place->created)
        head[0] |= ATTACHMENT_CREATED;
    memcpy(key, place->table, SHADOW_ID_BYTES);
    memcpy(key + SHADOW_ID_BYTES, place->attachment, SHADOW_ID_BYTES);
    rc = open_own_table(session, ATTACHMENTS_TABLE, true, &table, err);
    if (rc == ARMDB_OK)
        rc =
            put_row(session, table, key, sizeof key, head, sizeof head, place->file, err);
    armdb_table_close(table);
    return rc;
}

enum armdb_rc drop_attach(struct conn_store *store, const char *schema,
                          const struct shadow *shadow, struct armdb_error *err)
{
    struct drop *drop = make_drop(store, schema, shadow);
    enum armdb_rc rc = ARMDB_OK;

    if (drop == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory");
    drop->is_new = true;
    if (!store->memory && sqlite3_stricmp(schema, "temp") != 0)
        rc = put_attachment(store->session, drop, false, err);
    if (rc == ARMDB_OK)
        push_drop(store, drop);
    else
        conn_drop_free(drop);
    return rc;
}

/* A row of armdb:attachments. */
struct attachment {
    const unsigned char *table; /* uuid in the store */
    const unsigned char *id;
    bool confirmed;
    bool created; /* its CREATE had made the store's table */
    const char *file;
    size_t file_len;
};

/* Calls for each attachment of a table, or of all. */
struct attachment_walk {
    bool (*visit)(struct attachment_walk *walk, const struct attachment *row);
    struct conn_store *store;
    const char *schema;
    const unsigned char *own;
    uint32_t count; /* all attachments seen */
    uint32_t match; /* those for which visit() said true */
    bool created;   /* is_stale(): one of them had made the store's table */
    bool no_memory; /* set by visit() */
};

static struct attachment read_attachment(const void *key, const struct armdb_value *value)
{
    const unsigned char *id = key;
    const char *bytes = value->data;

    return (struct attachment){.table = id,
                               .id = id + SHADOW_ID_BYTES,
                               .confirmed = (bytes[0] & ATTACHMENT_CONFIRMED) != 0,
                               .created = (bytes[0] & ATTACHMENT_CREATED) != 0,
                               .file = bytes + 1,
                               .file_len = value->len - 1};
}

/* table_id NULL: all tables. */
static enum armdb_rc walk_attachments(struct armdb_session *session,
                                      const unsigned char *table_id,
                                      struct attachment_walk *walk,
                                      struct armdb_error *err)
{
    struct armdb_table *table = NULL;
    struct armdb_cursor *cursor = NULL;
    unsigned char high[ATTACHMENT_KEY_BYTES];
    struct armdb_range range = {.low_bound = ARMDB_BOUND_OPEN};
    enum armdb_rc rc;

    walk->count = 0;
    walk->match = 0;
    walk->created = false;
    walk->no_memory = false;
    if (table_id != NULL) {
        memcpy(high, table_id, SHADOW_ID_BYTES);
        memset(high + SHADOW_ID_BYTES, 0xff, SHADOW_ID_BYTES);
        range = (struct armdb_range){.low = table_id,
                                     .low_len = SHADOW_ID_BYTES,
                                     .low_bound = ARMDB_BOUND_INCLUSIVE,
                                     .high = high,
                                     .high_len = sizeof high,
                                     .high_bound = ARMDB_BOUND_INCLUSIVE};
    }
    rc = open_own_table(session, ATTACHMENTS_TABLE, false, &table, err);
    if (rc == ARMDB_NOT_FOUND)
        return ARMDB_OK;
    if (rc == ARMDB_OK)
        rc = armdb_cursor_open(session, table, &cursor, err);
    if (rc == ARMDB_OK)
        rc = armdb_cursor_seek_range(cursor, &range, err);
    while (rc == ARMDB_OK) {
        struct armdb_value value;
        const void *key;
        size_t key_len;

        armdb_cursor_key(cursor, &key, &key_len);
        rc = armdb_cursor_value(cursor, &value, err);
        if (rc != ARMDB_OK)
            break;
        if (key_len == ATTACHMENT_KEY_BYTES && value.len >= 1) {
            struct attachment row = read_attachment(key, &value);

            walk->count++;
            if (walk->visit(walk, &row))
                walk->match++;
        }
        rc = walk->no_memory ? ADB_FAIL(ARMDB_NOMEM, err, "out of memory")
                             : armdb_cursor_next(cursor, err);
    }
    armdb_cursor_close(cursor);
    armdb_table_close(table);
    return rc == ARMDB_DONE ? ARMDB_OK : rc;
}

static bool is_own(struct attachment_walk *walk, const struct attachment *row)
{
    return memcmp(row->id, walk->own, SHADOW_ID_BYTES) == 0;
}

static bool is_own_unconfirmed(struct attachment_walk *walk, const struct attachment *row)
{
    return !row->confirmed && is_own(walk, row);
}

enum armdb_rc drop_confirm(struct conn_store *store, const char *schema,
                           const struct shadow *shadow, struct armdb_error *err)
{
    struct attachment_walk walk = {.visit = is_own_unconfirmed,
                                   .own = shadow->attachment};
    enum armdb_rc rc = walk_attachments(store->session, shadow->table, &walk, err);

    if (rc == ARMDB_OK && walk.match != 0) {
        struct drop *place = make_drop(store, schema, shadow);

        rc = place == NULL ? ADB_FAIL(ARMDB_NOMEM, err, "out of memory")
                           : put_attachment(store->session, place, true, err);
        conn_drop_free(place);
        /* Another connection does it, or has done it after our snapshot. */
        if (rc == ARMDB_BUSY || rc == ARMDB_BUSY_SNAPSHOT)
            rc = ARMDB_OK;
    }
    return rc;
}

static bool is_stale(struct attachment_walk *walk, const struct attachment *row)
{
    const char *here = database_file(walk->store, walk->schema);
    bool found = true;

    if (row->confirmed || strlen(here) != row->file_len ||
        memcmp(here, row->file, row->file_len) != 0)
        return false;
    if (shadow_find(walk->store->conn->db, walk->schema, row->id, NULL, &found) !=
        SQLITE_OK)
        return false;
    walk->created |= row->created;
    return !found;
}

enum armdb_rc drop_is_orphan(struct conn_store *store, const char *schema,
                             const unsigned char *table, bool *orphan,
                             struct armdb_error *err)
{
    struct attachment_walk walk = {.visit = is_stale, .store = store, .schema = schema};
    enum armdb_rc rc = walk_attachments(store->session, table, &walk, err);

    *orphan = rc == ARMDB_OK && walk.created && walk.match == walk.count;
    return rc;
}

/* ---- Recording ---- */

/* Ends a transaction of a session of our own: commits it if rc is OK. */
static enum armdb_rc finish(struct armdb_session *session, enum armdb_rc rc,
                            struct armdb_error *err)
{
    if (rc == ARMDB_OK)
        rc = armdb_prepare(session, ARMDB_DOUBT_COMMIT, err);
    if (rc == ARMDB_OK)
        return armdb_commit(session, err);
    if (armdb_in_transaction(session)) {
        enum armdb_rc undone = armdb_rollback(session, NULL);

        if (undone != ARMDB_OK)
            sqlite3_log(errmap_to_sqlite(undone), "armdb: %s while undoing a failure",
                        adb_rc_name(undone));
    }
    return rc;
}

static enum armdb_rc open_own_session(struct conn_store *store,
                                      struct armdb_session **session,
                                      struct armdb_error *err)
{
    enum armdb_rc rc = armdb_session_open(store->store, session, err);

    if (rc == ARMDB_OK)
        armdb_session_keeps_house(*session);
    return rc;
}

static enum armdb_rc save_pending(struct conn_store *store, const struct drop *drop,
                                  struct armdb_error *err)
{
    struct armdb_session *session = NULL;
    struct armdb_table *table = NULL;
    unsigned char head[PENDING_HEAD_BYTES];
    enum armdb_rc rc;

    memcpy(head, drop->table, SHADOW_ID_BYTES);
    head[SHADOW_ID_BYTES] = drop->created ? 1 : 0;
    rc = open_own_session(store, &session, err);
    if (rc == ARMDB_OK)
        rc = armdb_begin(session, err);
    if (rc == ARMDB_OK)
        rc = open_own_table(session, PENDING_TABLE, true, &table, err);
    if (rc == ARMDB_OK)
        rc = put_row(session, table, drop->attachment, SHADOW_ID_BYTES, head, sizeof head,
                     drop->file, err);
    if (session != NULL)
        rc = finish(session, rc, err);
    armdb_table_close(table);
    armdb_session_close(session);
    return rc;
}

enum armdb_rc drop_record(struct conn_store *store, const char *schema,
                          const struct shadow *shadow, struct armdb_error *err)
{
    struct drop *drop = make_drop(store, schema, shadow);
    enum armdb_rc rc = ARMDB_OK;

    if (drop == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory");
    if (!store->memory && sqlite3_stricmp(schema, "temp") != 0) {
        drop->saved = true;
        rc = save_pending(store, drop, err);
    }
    if (rc == ARMDB_OK)
        push_drop(store, drop);
    else
        conn_drop_free(drop);
    return rc;
}

/* A drop that the store remembers; NULL without memory. */
static struct drop *saved_drop(const unsigned char *table, const unsigned char *id,
                               bool created, const char *file, size_t file_len)
{
    struct drop *drop = sqlite3_malloc64(sizeof *drop);

    if (drop == NULL)
        return NULL;
    memset(drop, 0, sizeof *drop);
    memcpy(drop->attachment, id, SHADOW_ID_BYTES);
    memcpy(drop->table, table, SHADOW_ID_BYTES);
    drop->created = created;
    drop->saved = true;
    drop->file = sqlite3_mprintf("%.*s", (int)file_len, file);
    if (drop->file == NULL) {
        conn_drop_free(drop);
        return NULL;
    }
    return drop;
}

static bool is_listed(const struct conn_store *store, const unsigned char *attachment)
{
    for (const struct drop *d = store->drops; d != NULL; d = d->next) {
        if (memcmp(d->attachment, attachment, SHADOW_ID_BYTES) == 0)
            return true;
    }
    return false;
}

/* Lists what may be a killed CREATE's: try_to_settle() finds out. */
static bool list_unconfirmed(struct attachment_walk *walk, const struct attachment *row)
{
    struct drop *drop;

    if (row->confirmed || row->file_len == 0 || row->file_len > FILE_BYTES_MAX ||
        is_listed(walk->store, row->id))
        return false;
    drop = saved_drop(row->table, row->id, row->created, row->file, row->file_len);
    if (drop == NULL) {
        walk->no_memory = true;
        return false;
    }
    drop->unconfirmed = true;
    push_drop(walk->store, drop);
    return true;
}

static enum armdb_rc load_rows(struct conn_store *store, struct armdb_cursor *cursor)
{
    struct armdb_range all = {.low_bound = ARMDB_BOUND_OPEN};
    enum armdb_rc rc = armdb_cursor_seek_range(cursor, &all, NULL);

    while (rc == ARMDB_OK) {
        struct armdb_value value;
        const unsigned char *bytes;
        struct drop *drop;
        const void *key;
        size_t key_len;

        armdb_cursor_key(cursor, &key, &key_len);
        rc = armdb_cursor_value(cursor, &value, NULL);
        if (rc != ARMDB_OK)
            return rc;
        bytes = value.data;
        if (key_len == SHADOW_ID_BYTES && value.len >= PENDING_HEAD_BYTES &&
            value.len - PENDING_HEAD_BYTES <= FILE_BYTES_MAX) {
            drop = saved_drop(bytes, key, bytes[SHADOW_ID_BYTES] != 0,
                              (const char *)bytes + PENDING_HEAD_BYTES,
                              value.len - PENDING_HEAD_BYTES);
            if (drop == NULL)
                return ARMDB_NOMEM;
            push_drop(store, drop);
        }
        rc = armdb_cursor_next(cursor, NULL);
    }
    return rc;
}

static enum armdb_rc load_pending(struct conn_store *store, struct armdb_session *session)
{
    struct armdb_table *table = NULL;
    struct armdb_cursor *cursor = NULL;
    enum armdb_rc rc = open_own_table(session, PENDING_TABLE, false, &table, NULL);

    if (rc == ARMDB_OK)
        rc = armdb_cursor_open(session, table, &cursor, NULL);
    if (rc == ARMDB_OK)
        rc = load_rows(store, cursor);
    armdb_cursor_close(cursor);
    armdb_table_close(table);
    return rc == ARMDB_DONE || rc == ARMDB_NOT_FOUND ? ARMDB_OK : rc;
}

void drop_load(struct conn_store *store)
{
    bool quiet = sqlite3_get_autocommit(store->conn->db) && !conn_is_running(store->conn);
    bool drops = !store->drops_loaded;
    bool creates = !store->creates_loaded && quiet;
    struct attachment_walk walk = {.visit = list_unconfirmed, .store = store};
    struct armdb_session *session = NULL;
    enum armdb_rc rc;

    if (store->memory || (!drops && !creates))
        return;
    store->drops_loaded = true;
    store->creates_loaded |= creates;
    rc = armdb_session_open(store->store, &session, NULL);
    if (rc == ARMDB_OK && drops)
        rc = load_pending(store, session);
    if (rc == ARMDB_OK && creates)
        rc = walk_attachments(session, NULL, &walk, NULL);
    if (rc != ARMDB_OK)
        sqlite3_log(errmap_to_sqlite(rc), "armdb: pending drops of %s cannot be read",
                    store->path);
    armdb_session_close(session);
}

/* ---- Settling ---- */

static enum armdb_rc delete_row(struct armdb_session *session, const char *name,
                                const void *key, size_t key_len, struct armdb_error *err)
{
    struct armdb_table *table = NULL;
    enum armdb_rc rc = open_own_table(session, name, false, &table, err);

    if (rc == ARMDB_OK)
        rc = armdb_delete(session, table, key, key_len, err);
    armdb_table_close(table);
    return rc == ARMDB_NOT_FOUND ? ARMDB_OK : rc;
}

/* Removes the attachment, and the rows if it was the last and may take them along. */
static enum armdb_rc detach(struct conn_store *store, struct armdb_session *session,
                            const struct drop *drop, struct armdb_error *err)
{
    struct attachment_walk walk = {.visit = is_own, .own = drop->attachment};
    unsigned char key[ATTACHMENT_KEY_BYTES];
    struct armdb_table *table = NULL;
    enum armdb_rc rc = ARMDB_OK;
    bool is_drop;

    if (!store->memory)
        rc = walk_attachments(session, drop->table, &walk, err);
    /* A CREATE that is undone takes along what it made; a DROP, all. */
    is_drop = drop->saved && !drop->unconfirmed && !drop->is_new;
    if (rc == ARMDB_OK && walk.count == walk.match && (drop->created || is_drop)) {
        rc = armdb_table_open(session, drop->name,
                              drop->name == NULL ? drop->table : NULL, &table, err);
        /* Not settled while a TEMP table has these rows: it is an attachment, too. */
        if (rc == ARMDB_OK && !drop->is_new && armdb_table_is_held(table))
            rc = ARMDB_BUSY;
        if (rc == ARMDB_OK)
            rc = armdb_table_drop(session, table, err);
        else if (rc == ARMDB_NOT_FOUND)
            rc = ARMDB_OK;
        armdb_table_close(table);
    }
    if (rc == ARMDB_OK && drop->saved) {
        memcpy(key, drop->table, SHADOW_ID_BYTES);
        memcpy(key + SHADOW_ID_BYTES, drop->attachment, SHADOW_ID_BYTES);
        rc = delete_row(session, ATTACHMENTS_TABLE, key, sizeof key, err);
    }
    return rc;
}

/* Makes what SQLite has committed durable, through its own handles. */
static bool sync_database(sqlite3 *db, const char *schema)
{
    static const int ops[] = {SQLITE_FCNTL_FILE_POINTER, SQLITE_FCNTL_JOURNAL_POINTER};

    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        sqlite3_file *file = NULL;

        if (sqlite3_file_control(db, schema, ops[i], &file) != SQLITE_OK)
            continue;
        if (file != NULL && file->pMethods != NULL &&
            file->pMethods->xSync(file, SQLITE_SYNC_NORMAL) != SQLITE_OK)
            return false;
    }
    return true;
}

/* The schema under which this connection has the drop's database now; NULL if none.
 * sqlite3_malloc. */
static char *find_schema(sqlite3 *db, const struct drop *drop)
{
    sqlite3_stmt *stmt = NULL;
    char *schema = NULL;

    if (drop->file[0] == '\0')
        return drop->schema == NULL ? NULL : sqlite3_mprintf("%s", drop->schema);
    if (conn_prepare(db, &stmt, "SELECT name FROM pragma_database_list WHERE file=%Q",
                     drop->file) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW)
        schema = sqlite3_mprintf("%s", sqlite3_column_text(stmt, 0));
    sqlite3_finalize(stmt);
    return schema;
}

static enum armdb_rc settle_one(struct conn_store *store, const struct drop *drop,
                                bool gone)
{
    struct armdb_session *session = NULL;
    enum armdb_rc rc = ARMDB_OK;

    if (!gone && !drop->saved)
        return ARMDB_OK;
    rc = open_own_session(store, &session, NULL);
    if (rc != ARMDB_OK)
        return rc;
    rc = armdb_begin(session, NULL);
    if (rc == ARMDB_OK && gone)
        rc = detach(store, session, drop, NULL);
    else if (rc == ARMDB_OK && drop->unconfirmed)
        rc = put_attachment(session, drop, true, NULL);
    if (rc == ARMDB_OK && drop->saved && !drop->unconfirmed)
        rc = delete_row(session, PENDING_TABLE, drop->attachment, SHADOW_ID_BYTES, NULL);
    rc = finish(session, rc, NULL);
    armdb_session_close(session);
    return rc;
}

/* True when the drop is settled and can be forgotten. */
static bool try_to_settle(struct conn_store *store, const struct drop *drop)
{
    sqlite3 *db = store->conn->db;
    char *schema = find_schema(db, drop);
    bool still_there = false;
    bool done = false;

    if (schema == NULL)
        return false;
    if (shadow_find(db, schema, drop->attachment, NULL, &still_there) == SQLITE_OK &&
        (still_there || !drop->saved || sync_database(db, schema)))
        done = settle_one(store, drop, !still_there) == ARMDB_OK;
    sqlite3_free(schema);
    return done;
}

void drop_settle(struct conn_store *store, uint32_t writers)
{
    struct drop **at = &store->drops;

    if (*at == NULL || armdb_is_read_only(store->store) ||
        !conn_is_settled(store->conn, writers))
        return;
    while (*at != NULL) {
        struct drop *drop = *at;

        if (!drop->is_new && try_to_settle(store, drop)) {
            *at = drop->next;
            conn_drop_free(drop);
        } else {
            at = &drop->next;
        }
    }
}

int drop_reap(struct conn_store *store, struct armdb_error *err)
{
    struct drop **at = &store->drops;

    while (*at != NULL) {
        struct drop *drop = *at;
        bool found = true;
        enum armdb_rc rc;
        int sqlite_rc;

        if (!drop->is_new) {
            at = &drop->next;
            continue;
        }
        sqlite_rc =
            shadow_find(store->conn->db, drop->schema, drop->attachment, NULL, &found);
        if (sqlite_rc != SQLITE_OK)
            return sqlite_rc;
        if (found) {
            at = &drop->next;
            continue;
        }
        drop->saved = drop->file[0] != '\0'; /* its attachment row goes, too */
        rc = detach(store, store->session, drop, err);
        if (rc != ARMDB_OK)
            return errmap_to_sqlite(rc);
        *at = drop->next;
        conn_drop_free(drop);
    }
    return SQLITE_OK;
}

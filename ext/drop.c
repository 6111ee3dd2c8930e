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
 *   armdb:attachments   key: table uuid, attachment id    value: confirmed, file
 *   armdb:pending       key: attachment id                value: table, created, file
 *
 * A pending row is written in a commit of its own, by a session of its own, before
 * the outcome is known, so it survives a process that ends. It is settled only by a
 * connection that has that very file open; if the file is gone it stays, and nothing is
 * dropped. A table in the TEMP schema registers no attachment: its place ends with its
 * connection, and so does a drop of it that was not settled. A DROP of it deletes rows
 * that its own CREATE began, unless another attachment reaches them.
 *
 * A CREATE has the mirror problem: the store may have committed when SQLite has not,
 * because the process was killed in between. Its attachment is unconfirmed until the
 * first write of a later transaction; one that is unconfirmed, names this file and has no
 * shadow row is an orphan, and a CREATE that finds only orphans starts empty. And when
 * a CREATE is undone by ROLLBACK TO, SQLite does not tell a table that joined the
 * transaction by its CREATE; drop_reap() finds these before anything is prepared. */
#include "ext/drop.h"

#include <string.h>

#include "ext/errmap.h"

SQLITE_EXTENSION_INIT3

enum {
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
        if (!d->is_new && memcmp(d->table, table, SHADOW_ID_BYTES) == 0)
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
    unsigned char *value = sqlite3_malloc64(head_len + file_len);
    enum armdb_rc rc;

    if (value == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory");
    memcpy(value, head, head_len);
    memcpy(value + head_len, file, file_len);
    rc = armdb_put(session, table, key, key_len, value, head_len + file_len, err);
    sqlite3_free(value);
    return rc;
}

static enum armdb_rc put_attachment(struct conn_store *store, const char *file,
                                    const struct shadow *shadow, bool confirmed,
                                    struct armdb_error *err)
{
    unsigned char key[ATTACHMENT_KEY_BYTES];
    unsigned char head[1] = {confirmed ? 1 : 0};
    struct armdb_table *table = NULL;
    enum armdb_rc rc;

    memcpy(key, shadow->table, SHADOW_ID_BYTES);
    memcpy(key + SHADOW_ID_BYTES, shadow->attachment, SHADOW_ID_BYTES);
    rc = open_own_table(store->session, ATTACHMENTS_TABLE, true, &table, err);
    if (rc == ARMDB_OK)
        rc =
            put_row(store->session, table, key, sizeof key, head, sizeof head, file, err);
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
        rc = put_attachment(store, drop->file, shadow, false, err);
    if (rc == ARMDB_OK)
        push_drop(store, drop);
    else
        conn_drop_free(drop);
    return rc;
}

/* Calls for each attachment of a table. *stop ends the walk early. */
struct attachment_walk {
    bool (*visit)(struct attachment_walk *walk, const unsigned char *attachment,
                  bool confirmed, const char *file, size_t file_len);
    struct conn_store *store;
    const char *schema;
    const unsigned char *own;
    uint32_t count; /* all attachments of the table */
    uint32_t match; /* those for which visit() said true */
};

static enum armdb_rc walk_attachments(struct armdb_session *session,
                                      const unsigned char *table_id,
                                      struct attachment_walk *walk,
                                      struct armdb_error *err)
{
    struct armdb_table *table = NULL;
    struct armdb_cursor *cursor = NULL;
    unsigned char high[ATTACHMENT_KEY_BYTES];
    struct armdb_range range = {.low = table_id,
                                .low_len = SHADOW_ID_BYTES,
                                .low_bound = ARMDB_BOUND_INCLUSIVE,
                                .high = high,
                                .high_len = sizeof high,
                                .high_bound = ARMDB_BOUND_INCLUSIVE};
    enum armdb_rc rc;

    walk->count = 0;
    walk->match = 0;
    memcpy(high, table_id, SHADOW_ID_BYTES);
    memset(high + SHADOW_ID_BYTES, 0xff, SHADOW_ID_BYTES);
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
            const char *bytes = value.data;

            walk->count++;
            if (walk->visit(walk, (const unsigned char *)key + SHADOW_ID_BYTES,
                            bytes[0] != 0, bytes + 1, value.len - 1))
                walk->match++;
        }
        rc = armdb_cursor_next(cursor, err);
    }
    armdb_cursor_close(cursor);
    armdb_table_close(table);
    return rc == ARMDB_DONE ? ARMDB_OK : rc;
}

static bool is_own(struct attachment_walk *walk, const unsigned char *attachment,
                   bool confirmed, const char *file, size_t file_len)
{
    (void)confirmed;
    (void)file;
    (void)file_len;
    return memcmp(attachment, walk->own, SHADOW_ID_BYTES) == 0;
}

static bool is_own_unconfirmed(struct attachment_walk *walk,
                               const unsigned char *attachment, bool confirmed,
                               const char *file, size_t file_len)
{
    return !confirmed && is_own(walk, attachment, confirmed, file, file_len);
}

enum armdb_rc drop_confirm(struct conn_store *store, const char *schema,
                           const struct shadow *shadow, struct armdb_error *err)
{
    struct attachment_walk walk = {.visit = is_own_unconfirmed,
                                   .own = shadow->attachment};
    enum armdb_rc rc = walk_attachments(store->session, shadow->table, &walk, err);

    if (rc == ARMDB_OK && walk.match != 0)
        rc = put_attachment(store, database_file(store, schema), shadow, true, err);
    return rc;
}

static bool is_stale(struct attachment_walk *walk, const unsigned char *attachment,
                     bool confirmed, const char *file, size_t file_len)
{
    const char *here = database_file(walk->store, walk->schema);
    bool found = true;

    if (confirmed || strlen(here) != file_len || memcmp(here, file, file_len) != 0)
        return false;
    if (shadow_find(walk->store->conn->db, walk->schema, attachment, NULL, &found) !=
        SQLITE_OK)
        return false;
    return !found;
}

enum armdb_rc drop_is_orphan(struct conn_store *store, const char *schema,
                             const unsigned char *table, bool *orphan,
                             struct armdb_error *err)
{
    struct attachment_walk walk = {.visit = is_stale, .store = store, .schema = schema};
    enum armdb_rc rc = walk_attachments(store->session, table, &walk, err);

    *orphan = rc == ARMDB_OK && walk.count != 0 && walk.match == walk.count;
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

static enum armdb_rc save_pending(struct conn_store *store, const struct drop *drop,
                                  struct armdb_error *err)
{
    struct armdb_session *session = NULL;
    struct armdb_table *table = NULL;
    unsigned char head[PENDING_HEAD_BYTES];
    enum armdb_rc rc;

    memcpy(head, drop->table, SHADOW_ID_BYTES);
    head[SHADOW_ID_BYTES] = drop->created ? 1 : 0;
    rc = armdb_session_open(store->store, &session, err);
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
            drop = sqlite3_malloc64(sizeof *drop);
            if (drop == NULL)
                return ARMDB_NOMEM;
            memset(drop, 0, sizeof *drop);
            memcpy(drop->attachment, key, SHADOW_ID_BYTES);
            memcpy(drop->table, bytes, SHADOW_ID_BYTES);
            drop->created = bytes[SHADOW_ID_BYTES] != 0;
            drop->saved = true;
            drop->file = sqlite3_mprintf("%.*s", (int)(value.len - PENDING_HEAD_BYTES),
                                         bytes + PENDING_HEAD_BYTES);
            if (drop->file == NULL) {
                conn_drop_free(drop);
                return ARMDB_NOMEM;
            }
            push_drop(store, drop);
        }
        rc = armdb_cursor_next(cursor, NULL);
    }
    return rc;
}

void drop_load(struct conn_store *store)
{
    struct armdb_session *session = NULL;
    struct armdb_table *table = NULL;
    struct armdb_cursor *cursor = NULL;
    enum armdb_rc rc;

    if (store->drops_loaded || store->memory)
        return;
    store->drops_loaded = true;
    rc = armdb_session_open(store->store, &session, NULL);
    if (rc == ARMDB_OK)
        rc = open_own_table(session, PENDING_TABLE, false, &table, NULL);
    if (rc == ARMDB_OK)
        rc = armdb_cursor_open(session, table, &cursor, NULL);
    if (rc == ARMDB_OK)
        rc = load_rows(store, cursor);
    if (rc < 0)
        sqlite3_log(errmap_to_sqlite(rc), "armdb: pending drops of %s cannot be read",
                    store->path);
    armdb_cursor_close(cursor);
    armdb_table_close(table);
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

    if (!store->memory)
        rc = walk_attachments(session, drop->table, &walk, err);
    if (rc == ARMDB_OK && walk.count == walk.match && (drop->created || drop->saved)) {
        rc = armdb_table_open(session, drop->name,
                              drop->name == NULL ? drop->table : NULL, &table, err);
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
    rc = armdb_session_open(store->store, &session, NULL);
    if (rc != ARMDB_OK)
        return rc;
    rc = armdb_begin(session, NULL);
    if (rc == ARMDB_OK && gone)
        rc = detach(store, session, drop, NULL);
    if (rc == ARMDB_OK && drop->saved)
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

/* vtab.c - a table's life: CREATE, connect, first use, RENAME, DROP.
 *
 * Three texts say what a table is. The module arguments, in SQLite's schema, give its
 * columns and options. The shadow row <name>_armdb gives its place: uuid of the store,
 * uuid of the table there, and the columns once more, for a table that was created
 * without any and took those it found. The store's catalogue has the columns that its
 * rows were written with.
 *
 * xConnect looks at the first two only. It runs for `.schema` and PRAGMA table_list on
 * databases nobody trusts, so it opens no store, takes no lock and creates nothing.
 * The store is opened at first use (vtab_use), and must then be the one that the shadow
 * row names: a schema cannot aim a table at somebody else's store.
 *
 * CREATE reaches a table of the store by its name, and a name can be stale: the table
 * was dropped and the drop is not settled, or renamed and the label has not followed,
 * or it is what a killed CREATE left. Then it is moved out of the way by a new name,
 * in the same transaction, and a new one is made; else the CREATE attaches to it,
 * if the columns agree.
 *
 * RENAME changes the shadow table's name and nothing in the store. The name there is a
 * label that follows with the next transaction that writes (xBegin): so it is undone
 * with that one, and RENAME itself needs no rollback.
 *
 * A memory store is not looked up by name or uuid: it begins empty with each
 * connection, and its tables are made again when they are first used. */
#include "ext/vtab.h"

#include <string.h>

#include "ext/drop.h"
#include "ext/errmap.h"
#include "ext/path.h"

SQLITE_EXTENSION_INIT3

enum {
    CREATE_SAVEPOINT = 0x7ffffff0, /* SQLite's ids are small */
    CREATE_PAUSE_MS = 1            /* while another CREATE is being published */
};

/* ---- Making and freeing ---- */

static void free_vtab(struct vtab *vtab)
{
    if (vtab == NULL)
        return;
    vtab_free_spares(vtab);
    armdb_cursor_close(vtab->old_row);
    armdb_table_close(vtab->table);
    bytebuf_fini(&vtab->key);
    bytebuf_fini(&vtab->old_key);
    bytebuf_fini(&vtab->value);
    shadow_fini(&vtab->shadow);
    schema_destroy(vtab->schema);
    options_fini(&vtab->options);
    sqlite3_free(vtab->row);
    sqlite3_free(vtab->originals);
    sqlite3_free(vtab->schema_name);
    sqlite3_free(vtab->name);
    sqlite3_free(vtab->base.zErrMsg);
    conn_release(vtab->conn);
    sqlite3_free(vtab);
}

/* SQLite compares the text of a UTF-16 database by other bytes than those we keep. */
static int refuse_utf16(sqlite3 *db, char **err)
{
    sqlite3_stmt *stmt = NULL;
    int rc = conn_prepare(db, &stmt, "PRAGMA encoding");

    if (rc == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW) {
        const char *encoding = (const char *)sqlite3_column_text(stmt, 0);

        if (encoding == NULL) {
            rc = SQLITE_NOMEM;
        } else if (strcmp(encoding, "UTF-8") != 0) {
            *err = sqlite3_mprintf("armdb needs a database in UTF-8, this one is in %s; "
                                   "PRAGMA encoding='UTF-8' sets it, in a new database",
                                   encoding);
            rc = SQLITE_ERROR;
        }
    }
    sqlite3_finalize(stmt);
    return rc;
}

/* What xCreate and xConnect have in common: everything the arguments say. */
static int make_vtab(sqlite3 *db, struct conn *conn, int argc, const char *const *argv,
                     struct vtab **out, char **err)
{
    struct vtab *vtab = NULL;
    int rc;

    *out = NULL;
    if (argc < 3)
        return SQLITE_MISUSE;
    rc = refuse_utf16(db, err);
    if (rc != SQLITE_OK)
        return rc;
    vtab = sqlite3_malloc64(sizeof *vtab);
    if (vtab == NULL)
        return SQLITE_NOMEM;
    memset(vtab, 0, sizeof *vtab);
    vtab->conn = conn_acquire(conn);
    bytebuf_init(&vtab->key);
    bytebuf_init(&vtab->old_key);
    bytebuf_init(&vtab->value);
    shadow_init(&vtab->shadow);
    options_init(&vtab->options);
    vtab->schema_name = sqlite3_mprintf("%s", argv[1]);
    vtab->name = sqlite3_mprintf("%s", argv[2]);
    if (vtab->schema_name == NULL || vtab->name == NULL) {
        rc = SQLITE_NOMEM;
        goto out;
    }
    vtab->temp = sqlite3_stricmp(vtab->schema_name, "temp") == 0;
    rc = schema_parse(vtab->name, argc - 3, argv + 3, &vtab->options, &vtab->schema, err);
    if (rc != SQLITE_OK)
        goto out;
    *out = vtab;
    vtab = NULL;
out:
    free_vtab(vtab);
    return rc;
}

/* Replaces the schema by the one that a stored text describes. */
static int take_stored_columns(struct vtab *vtab, const void *text, size_t len,
                               char **err)
{
    struct schema *stored = NULL;
    int rc = schema_parse_stored(vtab->name, text, len, &stored, err);

    if (rc != SQLITE_OK)
        return rc;
    schema_destroy(vtab->schema);
    vtab->schema = stored;
    return SQLITE_OK;
}

/* Declares the table to SQLite and makes the scratch rows. */
static int declare(sqlite3 *db, struct vtab *vtab, char **err)
{
    const struct schema *schema = vtab->schema;
    int rc = sqlite3_declare_vtab(db, schema->declaration);

    if (rc != SQLITE_OK) {
        if (*err == NULL)
            *err = sqlite3_mprintf("%s", sqlite3_errmsg(db));
        return rc;
    }
    rc = sqlite3_vtab_config(db, SQLITE_VTAB_CONSTRAINT_SUPPORT, 1);
    if (rc == SQLITE_OK)
        rc = sqlite3_vtab_config(db, SQLITE_VTAB_DIRECTONLY);
    if (rc != SQLITE_OK)
        return rc;
    vtab->row = sqlite3_malloc64(schema->column_count * sizeof *vtab->row);
    vtab->originals = sqlite3_malloc64(schema->key.part_count * sizeof *vtab->originals);
    return vtab->row == NULL || vtab->originals == NULL ? SQLITE_NOMEM : SQLITE_OK;
}

/* ---- The store and the table in it ---- */

static int open_store(struct vtab *vtab, bool create, char **err)
{
    struct armdb_options options = vtab->options.store;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    char *path = NULL;
    bool memory;
    int rc;

    if (vtab->store != NULL)
        return SQLITE_OK;
    rc = path_resolve(vtab->conn->db, vtab->schema_name, vtab->options.path, &path,
                      &memory, err);
    if (rc == SQLITE_OK) {
        options.create = create || memory;
        rc = errmap_text(
            err,
            conn_store_open(vtab->conn, path, memory, &options, &vtab->store, &error),
            &error);
    }
    sqlite3_free(path);
    if (rc == SQLITE_OK)
        drop_load(vtab->store);
    return rc;
}

static int load_shadow(struct vtab *vtab, char **err)
{
    int rc;

    if (vtab->has_shadow)
        return SQLITE_OK;
    rc = shadow_read(vtab->conn->db, vtab->schema_name, vtab->name, &vtab->shadow, err);
    vtab->has_shadow = rc == SQLITE_OK;
    return rc;
}

/* Finds, or makes, this table in a memory store. A table of a file database whose rows
 * are in memory is there in the schema before it is in the store. */
static enum armdb_rc open_memory_table(struct vtab *vtab, struct armdb_error *err)
{
    struct armdb_session *session = vtab->store->session;
    const char *text = vtab->schema->text;
    char *name = shadow_memory_name(&vtab->shadow);
    bool own = !armdb_in_transaction(session);
    enum armdb_rc rc;

    if (name == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory");
    rc = armdb_table_open(session, name, NULL, &vtab->table, err);
    if (rc == ARMDB_NOT_FOUND) {
        rc = armdb_table_create(session, name, text, strlen(text), &vtab->table, err);
        if (rc == ARMDB_OK && own)
            rc = armdb_prepare(session, ARMDB_DOUBT_COMMIT, err);
        if (rc == ARMDB_OK && own)
            rc = armdb_commit(session, err);
        if (rc != ARMDB_OK && own && armdb_in_transaction(session) &&
            armdb_rollback(session, NULL) != ARMDB_OK)
            sqlite3_log(SQLITE_IOERR, "armdb: rollback failed");
        vtab->remade = rc == ARMDB_OK && !own;
    }
    sqlite3_free(name);
    return rc;
}

/* The table was found or made. A place in TEMP is known to this process alone: it is held
 * so that a DROP elsewhere does not take the rows along (drop.c). */
static void take_hold(struct vtab *vtab)
{
    armdb_table_set_sync(vtab->table, vtab->options.sync);
    if (!vtab->temp || vtab->store->memory)
        return;
    armdb_table_hold(vtab->table);
    conn_unpark(vtab->store, vtab->shadow.attachment);
}

static enum armdb_rc open_table(struct vtab *vtab, struct armdb_error *err)
{
    unsigned char uuid[SHADOW_ID_BYTES];
    enum armdb_rc rc;

    if (vtab->store->memory) {
        rc = open_memory_table(vtab, err);
    } else {
        armdb_uuid(vtab->store->store, uuid);
        if (memcmp(uuid, vtab->shadow.store, sizeof uuid) != 0)
            return ADB_FAIL(ARMDB_NOTADB, err,
                            "the store in %s is not the one that table %s was created in",
                            vtab->store->path, vtab->name);
        rc = armdb_table_open(vtab->store->session, NULL, vtab->shadow.table,
                              &vtab->table, err);
        if (rc == ARMDB_NOT_FOUND)
            return ADB_FAIL(ARMDB_CORRUPT, err, "the store in %s has no rows of table %s",
                            vtab->store->path, vtab->name);
    }
    if (rc == ARMDB_OK)
        take_hold(vtab);
    return rc;
}

int vtab_use(struct vtab *vtab)
{
    struct armdb_error error = {ARMDB_OK, 0, ""};
    char *err = NULL;
    int rc;

    if (vtab->table != NULL)
        return SQLITE_OK;
    rc = load_shadow(vtab, &err);
    if (rc == SQLITE_OK)
        rc = open_store(vtab, false, &err);
    if (rc != SQLITE_OK)
        return errmap_set(&vtab->base, rc, err);
    return errmap_vtab(&vtab->base, open_table(vtab, &error), &error);
}

/* ---- xConnect ---- */

int vtab_connect(sqlite3 *db, void *aux, int argc, const char *const *argv,
                 sqlite3_vtab **out, char **err)
{
    struct vtab *vtab = NULL;
    int rc = make_vtab(db, aux, argc, argv, &vtab, err);

    *out = NULL;
    if (rc == SQLITE_OK && !vtab->schema->columns_given) {
        rc = load_shadow(vtab, err);
        if (rc == SQLITE_OK)
            rc = take_stored_columns(vtab, vtab->shadow.columns,
                                     strlen(vtab->shadow.columns), err);
    }
    if (rc == SQLITE_OK)
        rc = declare(db, vtab, err);
    if (rc == SQLITE_OK)
        rc = txn_make_helper(vtab->conn);
    if (rc == SQLITE_OK) {
        *out = &vtab->base;
        vtab = NULL;
    }
    free_vtab(vtab);
    return rc;
}

/* ---- xCreate ---- */

/* Gives a table of the store that has our name, but not our rows, another name. */
static enum armdb_rc move_away(struct vtab *vtab, struct armdb_table *table,
                               struct armdb_error *err)
{
    unsigned char id[8];
    char name[64];

    sqlite3_randomness(sizeof id, id);
    sqlite3_snprintf(sizeof name, name,
                     DROP_RESERVED_PREFIX "away:%02x%02x%02x%02x%02x%02x%02x%02x", id[0],
                     id[1], id[2], id[3], id[4], id[5], id[6], id[7]);
    return armdb_table_rename(vtab->store->session, table, name, err);
}

/* True when the table found under our name is not the one that CREATE means. */
static int is_stale(struct vtab *vtab, struct armdb_table *table, bool *stale,
                    bool *orphan, struct armdb_error *err)
{
    unsigned char uuid[SHADOW_ID_BYTES];
    enum armdb_rc rc;

    armdb_table_uuid(table, uuid);
    *orphan = false;
    *stale = drop_is_pending(vtab->store, uuid);
    if (*stale || vtab->shadow.label != NULL)
        return SQLITE_OK;
    rc = drop_is_orphan(vtab->store, vtab->schema_name, uuid, orphan, err);
    if (rc != ARMDB_OK)
        return errmap_to_sqlite(rc);
    *stale = *orphan;
    if (*stale)
        return SQLITE_OK;
    /* Another table of this schema has these rows: it was renamed since. */
    return shadow_find(vtab->conn->db, vtab->schema_name, NULL, uuid, stale);
}

/* Takes over the columns of the table found, or compares them with ours. */
static int agree_on_columns(struct vtab *vtab, char **err)
{
    struct schema *stored = NULL;
    char *difference = NULL;
    const void *text;
    size_t len;
    int rc;

    armdb_table_schema(vtab->table, &text, &len);
    if (len == sizeof ARMDB_SCHEMA_LOST - 1 &&
        memcmp(text, ARMDB_SCHEMA_LOST, len) == 0) {
        if (vtab->schema->columns_given)
            return SQLITE_OK; /* who attaches to a salvaged table must know them */
        *err = sqlite3_mprintf("the columns of table %s are lost: name them",
                               armdb_table_name(vtab->table));
        return SQLITE_ERROR;
    }
    if (!vtab->schema->columns_given)
        return take_stored_columns(vtab, text, len, err);
    rc = schema_parse_stored(vtab->name, text, len, &stored, err);
    if (rc != SQLITE_OK)
        return rc;
    rc = schema_agrees(vtab->schema, stored, &difference);
    if (rc == SQLITE_ERROR)
        *err =
            sqlite3_mprintf("the store in %s has a table %s with other columns: %s",
                            vtab->store->path, armdb_table_name(vtab->table), difference);
    sqlite3_free(difference);
    schema_destroy(stored);
    return rc;
}

/* Finds or makes the table in the store, inside the session's transaction. */
static int reach_table(struct vtab *vtab, const char *label, char **err)
{
    struct armdb_session *session = vtab->store->session;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    enum armdb_rc rc;
    bool stale = false;
    bool orphan = false;
    int sqlite_rc = drop_reap(vtab->store, &error);

    if (sqlite_rc != SQLITE_OK)
        return sqlite_rc;
    rc = armdb_table_open(session, label, NULL, &vtab->table, &error);
    if (rc == ARMDB_OK) {
        sqlite_rc = is_stale(vtab, vtab->table, &stale, &orphan, &error);
        if (sqlite_rc != SQLITE_OK)
            return sqlite_rc;
        if (!stale)
            return agree_on_columns(vtab, err);
        if (orphan)
            rc = armdb_table_drop(session, vtab->table, &error);
        else
            rc = move_away(vtab, vtab->table, &error);
        armdb_table_close(vtab->table);
        vtab->table = NULL;
        if (rc == ARMDB_OK)
            rc = ARMDB_NOT_FOUND;
    }
    if (rc == ARMDB_NOT_FOUND) {
        const char *text = vtab->schema->text;

        vtab->shadow.created = true;
        rc = armdb_table_create(session, label, text, strlen(text), &vtab->table, &error);
    }
    return errmap_text(err, rc, &error);
}

/* The name under which the store knows the table; refuses armdb's own. */
static int choose_label(struct vtab *vtab, char **label, char **err)
{
    const char *name = vtab->options.table == NULL ? vtab->name : vtab->options.table;
    size_t n = strlen(DROP_RESERVED_PREFIX);

    if (sqlite3_strnicmp(name, DROP_RESERVED_PREFIX, (int)n) == 0) {
        *err = sqlite3_mprintf(
            "names that begin with " DROP_RESERVED_PREFIX " are reserved: %s", name);
        return SQLITE_ERROR;
    }
    sqlite3_randomness(SHADOW_ID_BYTES, vtab->shadow.attachment);
    if (vtab->options.table != NULL) {
        vtab->shadow.label = sqlite3_mprintf("%s", name);
        if (vtab->shadow.label == NULL)
            return SQLITE_NOMEM;
    }
    *label = vtab->store->memory ? shadow_memory_name(&vtab->shadow)
                                 : sqlite3_mprintf("%s", name);
    return *label == NULL ? SQLITE_NOMEM : SQLITE_OK;
}

/* The part of CREATE that is undone as a whole when it fails. */
static int create_in_store(sqlite3 *db, struct vtab *vtab, const char *label, char **err)
{
    struct armdb_error error = {ARMDB_OK, 0, ""};
    int rc = reach_table(vtab, label, err);

    if (rc == SQLITE_OK)
        rc = declare(db, vtab, err);
    if (rc != SQLITE_OK)
        return rc;
    take_hold(vtab);
    armdb_uuid(vtab->store->store, vtab->shadow.store);
    armdb_table_uuid(vtab->table, vtab->shadow.table);
    vtab->shadow.columns = sqlite3_mprintf("%s", vtab->schema->text);
    if (vtab->shadow.columns == NULL)
        return SQLITE_NOMEM;
    vtab->has_shadow = true;
    rc = shadow_create(db, vtab->schema_name, vtab->name, &vtab->shadow, err);
    if (rc == SQLITE_OK)
        rc = errmap_text(
            err, drop_attach(vtab->store, vtab->schema_name, &vtab->shadow, &error),
            &error);
    return rc;
}

/* One try, undone when it fails. */
static int try_to_create(sqlite3 *db, struct vtab *vtab, const char *label, char **err)
{
    struct armdb_session *session = vtab->store->session;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    int undone;
    int rc = errmap_text(err, armdb_begin(session, &error), &error);

    if (rc == SQLITE_OK)
        rc = errmap_text(err, armdb_savepoint(session, CREATE_SAVEPOINT, &error), &error);
    if (rc != SQLITE_OK)
        return rc;
    rc = create_in_store(db, vtab, label, err);
    if (rc != SQLITE_OK) {
        armdb_table_close(vtab->table);
        vtab->table = NULL;
        undone = errmap_to_sqlite(
            vtab->store->enlisted == 0
                ? armdb_rollback(session, &error)
                : armdb_savepoint_rollback(session, CREATE_SAVEPOINT, &error));
        if (undone != SQLITE_OK)
            sqlite3_log(undone, "armdb: %s", error.text);
    }
    if (armdb_in_transaction(session)) {
        undone =
            errmap_to_sqlite(armdb_savepoint_release(session, CREATE_SAVEPOINT, &error));
        if (rc == SQLITE_OK)
            rc = undone;
    }
    return rc;
}

/* True when another connection's CREATE of this name was in the way, and SQLite has heard
 * of ours nothing yet: of a writer that is not done, of a table made after our moment. */
static bool was_forestalled(const struct vtab *vtab, int rc)
{
    return !vtab->has_shadow &&
           ((rc & 0xff) == SQLITE_BUSY || rc == SQLITE_CONSTRAINT_PRIMARYKEY);
}

/* Several connections often make, or reach, one table when they start. Who comes second
 * waits for the first, and then finds the table: at a moment of its own, which it can
 * choose anew as long as its transaction has done nothing else. */
static int create_table(sqlite3 *db, struct vtab *vtab, char **err)
{
    uint64_t deadline_ms = 0;
    uint32_t tries = 0;
    char *label = NULL;
    bool alone;
    int rc;

    rc = open_store(vtab, true, err);
    if (rc == SQLITE_OK)
        rc = choose_label(vtab, &label, err);
    if (rc != SQLITE_OK)
        goto out;
    drop_settle(vtab->store, 1);
    alone = !armdb_in_transaction(vtab->store->session) && !vtab->store->held;
    rc = try_to_create(db, vtab, label, err);
    while (alone && was_forestalled(vtab, rc) &&
           conn_wait(vtab->store, &deadline_ms) == ARMDB_OK) {
        if (tries++ > 0)
            sqlite3_sleep(CREATE_PAUSE_MS);
        vtab->shadow.created = false;
        sqlite3_free(*err);
        *err = NULL;
        rc = try_to_create(db, vtab, label, err);
    }
out:
    sqlite3_free(label);
    return rc;
}

int vtab_create(sqlite3 *db, void *aux, int argc, const char *const *argv,
                sqlite3_vtab **out, char **err)
{
    struct vtab *vtab = NULL;
    int rc = make_vtab(db, aux, argc, argv, &vtab, err);

    *out = NULL;
    if (rc == SQLITE_OK)
        rc = create_table(db, vtab, err);
    if (rc == SQLITE_OK) {
        /* SQLite takes a table it has just created into the transaction, without
         * calling xBegin. */
        vtab->enlisted = true;
        vtab->is_new = true;
        vtab->store->enlisted++;
        vtab->store->was_read = true;
        *out = &vtab->base;
        vtab = NULL;
    }
    free_vtab(vtab);
    return rc;
}

/* ---- The end ---- */

/* SQLite will not tell this table how the transaction ends. When it was the last one of
 * its store, nobody else is told either. */
static void leave_transaction(struct vtab *vtab)
{
    struct conn_store *store = vtab->store;

    if (!vtab->enlisted || store == NULL)
        return;
    vtab->enlisted = false;
    if (--store->enlisted != 0)
        return;
    if (armdb_in_transaction(store->session)) {
        struct armdb_error error = {ARMDB_OK, 0, ""};
        enum armdb_rc rc = armdb_rollback(store->session, &error);

        if (rc != ARMDB_OK)
            sqlite3_log(errmap_to_sqlite(rc), "armdb: %s", error.text);
    }
    drop_transaction_ended(store);
    conn_store_transaction_ended(store);
}

int vtab_disconnect(sqlite3_vtab *base)
{
    struct vtab *vtab = (struct vtab *)base;

    if (vtab->temp && vtab->table != NULL && !vtab->store->memory && !vtab->is_new &&
        !vtab->undone) {
        conn_park(vtab->store, vtab->shadow.attachment, vtab->table);
        vtab->table = NULL;
    }
    leave_transaction(vtab);
    free_vtab(vtab);
    return SQLITE_OK;
}

/* DROP is refused while the transaction has written to the table: a ROLLBACK TO could
 * bring the table back, and nobody would tell us which of its rows should be there. */
static bool has_uncommitted(const struct vtab *vtab)
{
    return vtab->is_new || (vtab->table != NULL &&
                            armdb_table_has_writes(vtab->store->session, vtab->table));
}

/* SQLite takes no text from xDestroy: what it shows is its own sentence for the code,
 * "database table is locked". So the reason goes to its log, and the extended code,
 * which SQLite itself never gives, says that it was a virtual table that refused. */
static int refuse_drop(const struct vtab *vtab, const char *reason)
{
    sqlite3_log(SQLITE_LOCKED_VTAB, "armdb: DROP TABLE %s: %s", vtab->name, reason);
    return SQLITE_LOCKED_VTAB;
}

int vtab_destroy(sqlite3_vtab *base)
{
    struct vtab *vtab = (struct vtab *)base;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    char *err = NULL;
    int rc;

    if (vtab->open_count > 0) /* SQLite knows of its own cursors only */
        return refuse_drop(vtab, "armdb_list() is reading it");
    if (has_uncommitted(vtab))
        return refuse_drop(vtab, "the open transaction has changed it; commit first");
    rc = vtab_use(vtab);
    if (rc == SQLITE_BUSY || rc == SQLITE_NOMEM || (rc & 0xff) == SQLITE_LOCKED)
        return rc;
    /* A store that is lost or damaged does not keep its table from being dropped. */
    if (rc == SQLITE_OK) {
        enum armdb_rc recorded =
            drop_record(vtab->store, vtab->schema_name, &vtab->shadow, &error);

        if (recorded != ARMDB_OK)
            return errmap_to_sqlite(recorded);
    }
    rc = shadow_drop(vtab->conn->db, vtab->schema_name, vtab->name, &err);
    sqlite3_free(err);
    if (rc != SQLITE_OK)
        return rc;
    if (vtab->store != NULL)
        conn_unpark(vtab->store, vtab->shadow.attachment);
    leave_transaction(vtab);
    free_vtab(vtab);
    return SQLITE_OK;
}

int vtab_rename(sqlite3_vtab *base, const char *new_name)
{
    struct vtab *vtab = (struct vtab *)base;
    char *name = sqlite3_mprintf("%s", new_name);
    char *err = NULL;
    int rc;

    if (name == NULL)
        return SQLITE_NOMEM;
    rc = shadow_rename(vtab->conn->db, vtab->schema_name, vtab->name, new_name, &err);
    if (rc == SQLITE_OK)
        rc = schema_rename(vtab->schema, new_name, &err);
    if (rc != SQLITE_OK) {
        sqlite3_free(name);
        return errmap_set(base, rc, err);
    }
    sqlite3_free(err);
    sqlite3_free(vtab->name);
    vtab->name = name;
    vtab->confirmed = false; /* the label in the store is to follow */
    return SQLITE_OK;
}

int vtab_shadow_name(const char *suffix)
{
    return sqlite3_stricmp(suffix, "armdb") == 0;
}

/* update.c - xUpdate: INSERT, UPDATE, DELETE and what happens when rows collide.
 *
 * The order of checks is a native table's: NOT NULL, then CHECK, then the key. With
 * SQLITE_VTAB_CONSTRAINT_SUPPORT SQLite does ABORT, FAIL, IGNORE and ROLLBACK itself, so
 * long as nothing is changed before SQLITE_CONSTRAINT is returned. REPLACE is ours:
 *
 *   case 1  INSERT                   insert; a row of that key is a conflict
 *   case 2  INSERT OR REPLACE        put: the row of that key is overwritten
 *   case 3  UPDATE, key unchanged    put
 *   case 4  UPDATE of the key        lock the new key: a row there is a conflict; then
 *                                    delete the old row and put the new one
 *   case 5  UPDATE OR REPLACE of it  the same, but the row there is overwritten
 *   case 6  DELETE                   a row that is not there is no error: an UPDATE OR
 *                                    REPLACE of the same statement may have taken it
 *
 * Case 4 and 5 write twice, and the second write can still fail (no memory, no room), so
 * they are wrapped in a savepoint of the engine's.
 *
 * The key is what the encoded bytes say: 'a' and 'A' are one key under NOCASE, and such
 * an UPDATE is case 3. Columns that an UPDATE leaves alone are not read by SQLite
 * (sqlite3_vtab_nochange) but here, once, from the old row.
 *
 * A writer that meets another open transaction waits for it, busy_timeout long. */
#include <string.h>

#include "ext/drop.h"
#include "ext/errmap.h"
#include "ext/keytext.h"
#include "ext/restore.h"
#include "ext/rowcodec.h"
#include "ext/vtab.h"

SQLITE_EXTENSION_INIT3

enum { UPDATE_SAVEPOINT = 0x7ffffff1 };

enum write_kind { WRITE_INSERT, WRITE_PUT, WRITE_DELETE, WRITE_LOCK };

/* ---- Single writes ---- */

static enum armdb_rc write_once(struct vtab *vtab, enum write_kind kind,
                                const struct bytebuf *key, struct armdb_error *err)
{
    struct armdb_session *session = vtab->store->session;
    const struct bytebuf *value = &vtab->value;

    switch (kind) {
    case WRITE_INSERT:
        return armdb_insert(session, vtab->table, key->data, key->len, value->data,
                            value->len, err);
    case WRITE_PUT:
        return armdb_put(session, vtab->table, key->data, key->len, value->data,
                         value->len, err);
    case WRITE_DELETE:
        return armdb_delete(session, vtab->table, key->data, key->len, err);
    case WRITE_LOCK:
        return armdb_lock_key(session, vtab->table, key->data, key->len, err);
    }
    return ARMDB_INTERNAL;
}

static enum armdb_rc write_row(struct vtab *vtab, enum write_kind kind,
                               const struct bytebuf *key, struct armdb_error *err)
{
    uint64_t deadline_ms = 0;
    enum armdb_rc rc;

    for (;;) {
        rc = write_once(vtab, kind, key, err);
        if (rc != ARMDB_BUSY)
            return rc;
        rc = conn_wait(vtab->store, &deadline_ms);
        if (rc != ARMDB_OK)
            return rc;
    }
}

static int refuse_duplicate(struct vtab *vtab)
{
    return errmap_set(&vtab->base, SQLITE_CONSTRAINT_PRIMARYKEY,
                      schema_unique_message(vtab->schema));
}

/* ---- Keys and rows ---- */

/* The encoded key of the row that argv[0] names, into vtab->old_key. */
static int encode_old_key(struct vtab *vtab, sqlite3_value *old)
{
    const struct schema *schema = vtab->schema;
    struct bytebuf *key = &vtab->old_key;
    struct sql_value value;
    enum armdb_rc rc;
    int sqlite_rc;

    key->len = 0;
    if (schema->column_key >= 0) {
        const void *bytes = sqlite3_value_blob(old);
        int n = sqlite3_value_bytes(old);

        if (bytes == NULL && n != 0)
            return SQLITE_NOMEM;
        rc = bytebuf_append(key, n == 0 ? "" : bytes, (size_t)n);
    } else {
        sqlite_rc = affinity_store(old, schema->key.parts[0].affinity, &value);
        if (sqlite_rc != SQLITE_OK)
            return sqlite_rc;
        rc = key_encode_values(&schema->key, &value, key);
    }
    return errmap_vtab(&vtab->base, rc, NULL);
}

/* Goes to the old row with the cursor kept for that. ARMDB_DONE: it is gone. */
static enum armdb_rc seek_old_row(struct vtab *vtab, struct armdb_error *err)
{
    enum armdb_rc rc = ARMDB_OK;

    if (vtab->old_row == NULL)
        rc = armdb_cursor_open(vtab->store->session, vtab->table, &vtab->old_row, err);
    if (rc != ARMDB_OK)
        return rc;
    /* What this statement has already written counts. */
    armdb_statement_begin(vtab->store->session);
    return armdb_cursor_seek_key(vtab->old_row, vtab->old_key.data, vtab->old_key.len,
                                 err);
}

/* Puts the old values where the statement leaves a column alone. */
static enum armdb_rc fill_unchanged(struct vtab *vtab, struct armdb_error *err)
{
    const struct schema *schema = vtab->schema;
    struct armdb_value value;
    bool have_value = false;
    enum armdb_rc rc = ARMDB_OK;

    for (uint32_t c = 0; rc == ARMDB_OK && c < schema->column_count; c++) {
        if (vtab->row[c].type != SQL_NOCHANGE)
            continue;
        if (schema->columns[c].row_index < 0)
            return ADB_FAIL(ARMDB_INTERNAL, err, "key column %s came without a value",
                            schema->columns[c].name);
        if (!have_value) {
            rc = seek_old_row(vtab, err);
            if (rc == ARMDB_OK)
                rc = armdb_cursor_value(vtab->old_row, &value, err);
            if (rc == ARMDB_CORRUPT)
                keytext_name_row(vtab->name, &vtab->schema->key, vtab->old_key.data,
                                 vtab->old_key.len, err);
            if (rc != ARMDB_OK)
                return rc;
            have_value = true;
        }
        rc = row_column(value.data, value.len, (uint32_t)schema->columns[c].row_index,
                        &vtab->row[c]);
    }
    return rc;
}

/* Encodes vtab->row into vtab->key and vtab->value. */
static enum armdb_rc encode_row(struct vtab *vtab)
{
    const struct schema *schema = vtab->schema;
    uint32_t original_count = 0;
    bool lossy = false;
    enum armdb_rc rc;

    vtab->key.len = 0;
    vtab->value.len = 0;
    rc = key_encode(&schema->key, vtab->row, &vtab->key, &lossy);
    if (rc != ARMDB_OK)
        return rc;
    if (lossy) {
        key_originals(&schema->key, vtab->row, vtab->originals);
        original_count = schema->key.part_count;
    }
    return row_encode_picked(vtab->row, schema->row_columns, schema->row_count,
                             vtab->originals, original_count, &vtab->value);
}

static int too_big(struct vtab *vtab)
{
    return errmap_set(&vtab->base, SQLITE_TOOBIG,
                      sqlite3_mprintf("a key of %s is over %d bytes, or a row over %u",
                                      vtab->name, (int)ARMDB_KEY_BYTES_MAX,
                                      (unsigned)ARMDB_VALUE_BYTES_MAX));
}

/* ---- Hidden columns ---- */

/* True when xUpdate's argument is given by the statement. */
static bool is_given(sqlite3_value **argv, int column)
{
    sqlite3_value *value = argv[2 + column];

    return !sqlite3_value_nochange(value) && sqlite3_value_type(value) != SQLITE_NULL;
}

static int refuse_hidden(struct vtab *vtab, const char *column)
{
    return errmap_set(
        &vtab->base, SQLITE_ERROR,
        sqlite3_mprintf("column %s of table %s cannot be set", column, vtab->name));
}

/* An UPDATE ... FROM before SQLite 3.43 gives every column, so that _size and _seq come
 * back as they were read, perhaps before another change of the row: there they are
 * passed over, for nothing tells that from an attempt to set them. */
static int check_hidden(struct vtab *vtab, sqlite3_value **argv, bool insert)
{
    const struct schema *schema = vtab->schema;
    bool told = insert || sqlite3_libversion_number() >= 3043000;
    bool size = told && is_given(argv, schema->column_size);
    bool seq = told && is_given(argv, schema->column_seq);

    if (schema->column_key >= 0) {
        sqlite3_value *key = argv[2 + schema->column_key];
        const void *bytes = sqlite3_value_blob(key);
        size_t n = (size_t)sqlite3_value_bytes(key);

        if (insert ? is_given(argv, schema->column_key)
                   : !sqlite3_value_nochange(key) &&
                         (n != vtab->old_key.len ||
                          (n != 0 && memcmp(bytes, vtab->old_key.data, n) != 0)))
            return refuse_hidden(vtab, "_key");
    }
    if (!insert && is_given(argv, schema->column_command))
        return refuse_hidden(vtab, vtab->name);
    if (size || seq)
        return refuse_hidden(vtab, size ? "_size" : "_seq");
    return SQLITE_OK;
}

static enum armdb_rc clear_table(struct vtab *vtab, struct armdb_error *err)
{
    uint64_t deadline_ms = 0;
    enum armdb_rc rc;

    do {
        rc = armdb_table_clear(vtab->store->session, vtab->table, err);
        if (rc != ARMDB_BUSY)
            return rc;
        rc = conn_wait(vtab->store, &deadline_ms);
    } while (rc == ARMDB_OK);
    return rc;
}

static bool is_interrupted(void *arg)
{
    return conn_is_interrupted(arg);
}

/* INSERT INTO t(t) VALUES('command') */
static int run_command(struct vtab *vtab, sqlite3_value *command)
{
    struct armdb_error error = {ARMDB_OK, 0, ""};
    const char *text = (const char *)sqlite3_value_text(command);

    if (text == NULL)
        return SQLITE_NOMEM;
    if (sqlite3_stricmp(text, "flush") == 0)
        return errmap_vtab(&vtab->base, armdb_flush(vtab->store->store, &error), &error);
    if (sqlite3_stricmp(text, "compact") == 0) {
        struct armdb_watch watch = {is_interrupted, vtab->conn};
        struct armdb_compact_info info;

        return errmap_vtab(&vtab->base,
                           armdb_compact(vtab->store->store, &watch, &info, &error),
                           &error);
    }
    if (sqlite3_stricmp(text, "pause") == 0 || sqlite3_stricmp(text, "resume") == 0) {
        armdb_compact_pause(vtab->store->store, sqlite3_stricmp(text, "pause") == 0);
        return SQLITE_OK;
    }
    if (sqlite3_stricmp(text, "clear") == 0)
        return errmap_vtab(&vtab->base, clear_table(vtab, &error), &error);
    if (sqlite3_stricmp(text, "restore") == 0 && vtab->conn->restore != NULL)
        return restore_table(vtab, vtab->conn->restore);
    return errmap_set(
        &vtab->base, SQLITE_ERROR,
        sqlite3_mprintf("unknown command '%s' for table %s; known are: clear, "
                        "compact, flush, pause, resume",
                        text, vtab->name));
}

/* ---- The statements ---- */

/* First write of the transaction: the store learns that our CREATE was committed, and
 * the table's label there follows a RENAME. */
static enum armdb_rc confirm(struct vtab *vtab, struct armdb_error *err)
{
    struct conn_store *store = vtab->store;
    enum armdb_rc rc = ARMDB_OK;

    vtab->confirmed = true;
    if (vtab->is_new || store->memory)
        return ARMDB_OK;
    if (!vtab->temp)
        rc = drop_confirm(store, vtab->schema_name, &vtab->shadow, err);
    if (rc == ARMDB_OK && vtab->shadow.label == NULL &&
        strcmp(armdb_table_name(vtab->table), vtab->name) != 0) {
        rc = armdb_table_rename(store->session, vtab->table, vtab->name, err);
        if (rc == ARMDB_EXISTS)
            rc = ARMDB_OK; /* only a label: another table has it for now */
    }
    return rc;
}

static int delete_row(struct vtab *vtab, sqlite3_value *old)
{
    struct armdb_error error = {ARMDB_OK, 0, ""};
    enum armdb_rc rc;
    int sqlite_rc = encode_old_key(vtab, old);

    if (sqlite_rc != SQLITE_OK)
        return sqlite_rc;
    rc = write_row(vtab, WRITE_DELETE, &vtab->old_key, &error);
    if (rc == ARMDB_NOT_FOUND)
        rc = ARMDB_OK;
    return errmap_vtab(&vtab->base, rc, &error);
}

static int insert_row(struct vtab *vtab, bool replace)
{
    struct armdb_error error = {ARMDB_OK, 0, ""};
    enum armdb_rc rc = encode_row(vtab);

    if (rc == ARMDB_TOOBIG)
        return too_big(vtab);
    if (rc == ARMDB_OK)
        rc = write_row(vtab, replace ? WRITE_PUT : WRITE_INSERT, &vtab->key, &error);
    if (rc == ARMDB_EXISTS)
        return refuse_duplicate(vtab);
    return errmap_vtab(&vtab->base, rc, &error);
}

/* Cases 4 and 5. */
static enum armdb_rc move_row(struct vtab *vtab, bool replace, struct armdb_error *err)
{
    struct armdb_session *session = vtab->store->session;
    enum armdb_rc rc = write_row(vtab, WRITE_LOCK, &vtab->key, err);
    enum armdb_rc undone;

    if (rc == ARMDB_EXISTS && !replace)
        return rc;
    if (rc != ARMDB_EXISTS && rc != ARMDB_NOT_FOUND)
        return rc;
    rc = armdb_savepoint(session, UPDATE_SAVEPOINT, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = write_row(vtab, WRITE_DELETE, &vtab->old_key, err);
    if (rc == ARMDB_OK)
        rc = write_row(vtab, WRITE_PUT, &vtab->key, err);
    else if (rc == ARMDB_NOT_FOUND)
        rc = ARMDB_OK; /* gone within this statement: nothing to move */
    if (rc != ARMDB_OK) {
        undone = armdb_savepoint_rollback(session, UPDATE_SAVEPOINT, NULL);
        if (undone != ARMDB_OK)
            return undone;
    }
    undone = armdb_savepoint_release(session, UPDATE_SAVEPOINT, NULL);
    return rc != ARMDB_OK ? rc : undone;
}

static int update_row(struct vtab *vtab, bool replace)
{
    struct armdb_error error = {ARMDB_OK, 0, ""};
    enum armdb_rc rc = encode_row(vtab);

    if (vtab->old_row != NULL)
        armdb_cursor_reset(vtab->old_row);
    if (rc == ARMDB_TOOBIG)
        return too_big(vtab);
    if (rc != ARMDB_OK)
        return errmap_vtab(&vtab->base, rc, &error);
    if (vtab->key.len != vtab->old_key.len ||
        memcmp(vtab->key.data, vtab->old_key.data, vtab->key.len) != 0) {
        rc = move_row(vtab, replace, &error);
        if (rc == ARMDB_EXISTS)
            return refuse_duplicate(vtab);
        return errmap_vtab(&vtab->base, rc, &error);
    }
    if (replace) {
        rc = write_row(vtab, WRITE_LOCK, &vtab->key, &error);
        if (rc == ARMDB_NOT_FOUND)
            return SQLITE_OK; /* replaced by a row before it */
        if (rc != ARMDB_EXISTS)
            return errmap_vtab(&vtab->base, rc, &error);
    }
    return errmap_vtab(&vtab->base, write_row(vtab, WRITE_PUT, &vtab->key, &error),
                       &error);
}

static enum schema_row_kind row_kind(bool insert, bool replace)
{
    if (insert)
        return replace ? SCHEMA_ROW_INSERT_REPLACE : SCHEMA_ROW_INSERT;
    return replace ? SCHEMA_ROW_UPDATE_REPLACE : SCHEMA_ROW_UPDATE;
}

/* INSERT and UPDATE. */
static int write_values(struct vtab *vtab, sqlite3_value **argv)
{
    struct armdb_error error = {ARMDB_OK, 0, ""};
    bool insert = sqlite3_value_type(argv[0]) == SQLITE_NULL;
    bool replace = sqlite3_vtab_on_conflict(vtab->conn->db) == SQLITE_REPLACE;
    enum schema_row_kind kind = row_kind(insert, replace);
    char *err = NULL;
    enum armdb_rc filled;
    int rc = SQLITE_OK;

    if (insert && is_given(argv, vtab->schema->column_command))
        return run_command(vtab, argv[2 + vtab->schema->column_command]);
    if (!insert)
        rc = encode_old_key(vtab, argv[0]);
    if (rc == SQLITE_OK)
        rc = check_hidden(vtab, argv, insert);
    if (rc != SQLITE_OK)
        return rc;
    rc = schema_row_load(vtab->schema, argv + 2, kind, vtab->row, &err);
    if (rc != SQLITE_OK)
        return errmap_set(&vtab->base, rc, err);
    if (!insert) {
        filled = fill_unchanged(vtab, &error);
        if (filled == ARMDB_DONE)
            return SQLITE_OK; /* the row went within this statement */
        if (filled != ARMDB_OK)
            return errmap_vtab(&vtab->base, filled, &error);
    }
    rc = schema_row_check(vtab->schema, kind, vtab->row, &err);
    if (rc != SQLITE_OK)
        return errmap_set(&vtab->base, rc, err);
    return insert ? insert_row(vtab, replace) : update_row(vtab, replace);
}

int vtab_update(sqlite3_vtab *base, int argc, sqlite3_value **argv, sqlite3_int64 *rowid)
{
    struct vtab *vtab = (struct vtab *)base;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    int rc = vtab_use(vtab);

    if (rc != SQLITE_OK)
        return rc;
    if (!vtab->confirmed) {
        rc = errmap_vtab(base, confirm(vtab, &error), &error);
        if (rc != SQLITE_OK)
            return rc;
    }
    vtab->store->was_read = true;
    if (argc == 1) {
        rc = delete_row(vtab, argv[0]);
    } else {
        /* SQLite stores *rowid as last_insert_rowid(), also without a rowid. */
        *rowid = sqlite3_last_insert_rowid(vtab->conn->db);
        rc = write_values(vtab, argv);
    }
    if (vtab->old_row != NULL)
        armdb_cursor_reset(vtab->old_row);
    return rc;
}

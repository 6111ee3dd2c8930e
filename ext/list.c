/* list.c - armdb_list(t, prefix, delimiter, start_after): what lies directly under a
 * prefix, as a file manager or an object store shows it.
 *
 *   keys              armdb_list('t', 'usr/')      armdb_list('t', 'usr/', '')
 *                     name     is_prefix  key      name       is_prefix  key
 *   etc/hosts
 *   usr/bin/awk       bin/     1          usr/bin/ bin/awk    0          usr/bin/awk
 *   usr/bin/sed                                    bin/sed    0          usr/bin/sed
 *   usr/readme        readme   0          usr/readme ...
 *
 * The key column (the first one of a composite key) is read as bytes. A key under the
 * prefix that has the delimiter in what follows belongs to the *group* of all keys with
 * the same bytes up to the first delimiter: one row. Any other key is a row of its own;
 * with a composite key, all rows of the table with one first column are one. A text
 * prefix lists texts, a blob lists blobs, no prefix lists everything, numbers too.
 *
 * The walk. A group is a stretch of the order of keys: all encodings with a certain
 * number of bytes in common (key_first_len). So a scan of the range of the prefix shows
 * the first key of a group, and armdb_cursor_skip() goes on behind the last one. What a
 * listing costs depends on its rows, not on the keys that they stand for. Rows come in
 * the order of their keys, forwards or backwards; a DESC column is read backwards for
 * that.
 *
 * start_after says "key > start_after" for rows of the listing. As a group's own key is
 * a prefix of its keys, one comparison of bounds is not enough: 'usr/bin/sed' is above
 * 'usr/bin/', so that whole group lies before it, and the scan begins above the group.
 *
 * The hidden column count reads the keys of a group, and only if a row is asked for it;
 * the scan is then behind the group already.
 *
 * It reads as a scan of the table itself would: the statement's snapshot, the
 * transaction's own writes of earlier statements. A statement prepared on the table
 * keeps its struct from going away, and open_count keeps it from being dropped. */
#include "ext/list.h"

#include <string.h>

#include "ext/cursor.h"
#include "ext/drop.h"
#include "ext/errmap.h"
#include "ext/functions.h"
#include "ext/rowcodec.h"

SQLITE_EXTENSION_INIT3

/* The first arguments are hidden columns one behind the other, as SQLite wants them. */
enum list_column {
    LIST_NAME,
    LIST_IS_PREFIX,
    LIST_KEY,
    LIST_TABLE, /* arguments from here */
    LIST_PREFIX,
    LIST_DELIMITER,
    LIST_START_AFTER,
    LIST_COUNT
};

enum { ARGUMENTS = LIST_COUNT - LIST_TABLE };

/* idxNum: which arguments xFilter gets, in this order. LIMIT and OFFSET are hints. */
enum {
    LIST_HAS_FIRST = 1 << 0, /* bit i: argument i */
    LIST_HAS_LIMIT = 1 << ARGUMENTS,
    LIST_HAS_OFFSET = 1 << (ARGUMENTS + 1),
    LIST_REVERSE = 1 << (ARGUMENTS + 2)
};

enum {
    FIRST_ROWS = 8,               /* nodes that the first seek brings */
    ROWS_BETWEEN_QUESTIONS = 4096 /* counted, before sqlite3_interrupt() is asked for */
};

struct list_vtab {
    sqlite3_vtab base;
    struct conn *conn; /* counted */
};

struct list_cursor {
    sqlite3_vtab_cursor base;

    sqlite3_value *arguments[ARGUMENTS]; /* owned; NULL = not given */
    struct bytebuf table_name;           /* the table that follows was found by it */
    sqlite3_stmt *stmt;                  /* owned: keeps the table */
    struct vtab *table;                  /* borrowed from stmt */
    struct armdb_cursor *rows;           /* owned */
    struct key_range range;
    bool was_filtered; /* since xOpen */

    /* The row. */
    bool eof;
    bool is_prefix;
    bool is_counted;      /* `rows` is behind the group already... */
    bool is_last;         /* ... and at its end */
    size_t group_len;     /* bytes of the encoded key that make the group; 0 = one row */
    struct sql_value key; /* borrows from `bytes` */
    struct bytebuf bytes;
    struct bytebuf scratch;
    struct bytebuf group; /* the group's encoded bytes, while it is counted */
    size_t prefix_len;    /* of the argument */
    sqlite3_int64 count;
    sqlite3_int64 number; /* rowid */
};

static int list_connect(sqlite3 *db, void *aux, int argc, const char *const *argv,
                        sqlite3_vtab **out, char **err)
{
    struct list_vtab *vtab;
    int rc;

    (void)argc;
    (void)argv;
    (void)err;
    *out = NULL;
    rc = sqlite3_declare_vtab(db, "CREATE TABLE x(name, is_prefix INTEGER, key, "
                                  "tbl HIDDEN, prefix HIDDEN, delimiter HIDDEN, "
                                  "start_after HIDDEN, count INTEGER HIDDEN)");
    if (rc == SQLITE_OK)
        rc = sqlite3_vtab_config(db, SQLITE_VTAB_DIRECTONLY);
    if (rc != SQLITE_OK)
        return rc;
    vtab = sqlite3_malloc64(sizeof *vtab);
    if (vtab == NULL)
        return SQLITE_NOMEM;
    memset(vtab, 0, sizeof *vtab);
    vtab->conn = conn_acquire(aux);
    *out = &vtab->base;
    return SQLITE_OK;
}

static int list_disconnect(sqlite3_vtab *base)
{
    struct list_vtab *vtab = (struct list_vtab *)base;

    conn_release(vtab->conn);
    sqlite3_free(vtab);
    return SQLITE_OK;
}

/* ---- Planning ---- */

/* The constraint that gives an argument, or LIMIT, or OFFSET; -1 = none. *unusable: there
 * is one, but its value is not known yet. */
static int find_constraint(const sqlite3_index_info *info, int column, unsigned char op,
                           bool *unusable)
{
    int found = -1;

    *unusable = false;
    for (int i = 0; i < info->nConstraint && found < 0; i++) {
        if (info->aConstraint[i].op != op ||
            (column >= 0 && info->aConstraint[i].iColumn != column))
            continue;
        if (info->aConstraint[i].usable)
            found = i;
        else
            *unusable = true;
    }
    return found;
}

static int describe(sqlite3_index_info *info)
{
    static const char *const names[ARGUMENTS] = {"tbl", "prefix", "delimiter",
                                                 "start_after"};
    sqlite3_str *text = sqlite3_str_new(NULL);
    const char *separator = "";

    sqlite3_str_appendall(text, "armdb: list(");
    for (int i = 0; i < ARGUMENTS; i++) {
        if ((info->idxNum & LIST_HAS_FIRST << i) == 0)
            continue;
        sqlite3_str_appendf(text, "%s%s=?", separator, names[i]);
        separator = " AND ";
    }
    sqlite3_str_appendall(text, (info->idxNum & LIST_REVERSE) != 0 ? ") reverse" : ")");
    info->idxStr = sqlite3_str_finish(text);
    info->needToFreeIdxStr = 1;
    return info->idxStr == NULL ? SQLITE_NOMEM : SQLITE_OK;
}

/* The arguments belong to the question: without their values there is no answer. LIMIT
 * and OFFSET are left to SQLite, and say only how much is worth fetching at once. Rows
 * come in the order of key, which is that of name, and each of them is there once. */
static int list_best_index(sqlite3_vtab *base, sqlite3_index_info *info)
{
    static const unsigned char hints[2] = {SQLITE_INDEX_CONSTRAINT_LIMIT,
                                           SQLITE_INDEX_CONSTRAINT_OFFSET};
    int argv = 0;
    bool unusable;
    int rc = txn_make_helper(((struct list_vtab *)base)->conn);

    if (rc != SQLITE_OK)
        return rc;
    info->idxNum = 0;
    for (int i = 0; i < ARGUMENTS; i++) {
        int at =
            find_constraint(info, LIST_TABLE + i, SQLITE_INDEX_CONSTRAINT_EQ, &unusable);

        if (at < 0 && unusable)
            return SQLITE_CONSTRAINT;
        if (at < 0)
            continue;
        info->idxNum |= LIST_HAS_FIRST << i;
        info->aConstraintUsage[at].argvIndex = ++argv;
        info->aConstraintUsage[at].omit = 1;
    }
    if ((info->idxNum & LIST_HAS_FIRST) == 0)
        return errmap_set(base, SQLITE_ERROR,
                          sqlite3_mprintf("armdb_list wants the name of a table: SELECT "
                                          "* FROM armdb_list('t', 'prefix', '/')"));
    for (int i = 0; i < 2; i++) {
        int at = find_constraint(info, -1, hints[i], &unusable);

        if (at < 0)
            break;
        info->idxNum |= i == 0 ? LIST_HAS_LIMIT : LIST_HAS_OFFSET;
        info->aConstraintUsage[at].argvIndex = ++argv;
    }
    if (info->nOrderBy > 0 && (info->aOrderBy[0].iColumn == LIST_KEY ||
                               info->aOrderBy[0].iColumn == LIST_NAME)) {
        info->orderByConsumed = 1;
        info->idxNum |= info->aOrderBy[0].desc ? LIST_REVERSE : 0;
    }
    info->estimatedCost = 200.0;
    info->estimatedRows = 100;
    return describe(info);
}

/* ---- Opening and closing ---- */

static int list_open(sqlite3_vtab *base, sqlite3_vtab_cursor **out)
{
    struct list_cursor *cursor = sqlite3_malloc64(sizeof *cursor);

    (void)base;
    *out = NULL;
    if (cursor == NULL)
        return SQLITE_NOMEM;
    memset(cursor, 0, sizeof *cursor);
    cursor->eof = true;
    key_range_init(&cursor->range);
    *out = &cursor->base;
    return SQLITE_OK;
}

static void free_arguments(struct list_cursor *cursor)
{
    for (int i = 0; i < ARGUMENTS; i++) {
        sqlite3_value_free(cursor->arguments[i]);
        cursor->arguments[i] = NULL;
    }
}

/* Lets go of the table. */
static void leave_table(struct list_cursor *cursor)
{
    armdb_cursor_close(cursor->rows);
    cursor->rows = NULL;
    if (cursor->table != NULL)
        cursor->table->open_count--;
    cursor->table = NULL;
    sqlite3_finalize(cursor->stmt);
    cursor->stmt = NULL;
}

static int list_close(sqlite3_vtab_cursor *base)
{
    struct list_cursor *cursor = (struct list_cursor *)base;

    leave_table(cursor);
    free_arguments(cursor);
    key_range_fini(&cursor->range);
    bytebuf_fini(&cursor->table_name);
    bytebuf_fini(&cursor->bytes);
    bytebuf_fini(&cursor->scratch);
    bytebuf_fini(&cursor->group);
    sqlite3_free(cursor);
    return SQLITE_OK;
}

static int set_error(struct list_cursor *cursor, enum armdb_rc rc,
                     const struct armdb_error *err)
{
    return errmap_vtab(cursor->base.pVtab, rc, err);
}

/* ---- The row ---- */

static const unsigned char *find_bytes(const unsigned char *in, size_t in_len,
                                       const unsigned char *what, size_t len)
{
    const unsigned char *end = in + in_len;

    while ((size_t)(end - in) >= len) {
        in = memchr(in, what[0], (size_t)(end - in) - len + 1);
        if (in == NULL)
            return NULL;
        if (memcmp(in, what, len) == 0)
            return in;
        in++;
    }
    return NULL;
}

/* The bytes of a text or blob argument; a NUL text stands behind no delimiter given. */
static const void *argument_bytes(const struct list_cursor *cursor, int column,
                                  size_t *len)
{
    sqlite3_value *value = cursor->arguments[column - LIST_TABLE];
    const void *bytes;

    if (value == NULL && column == LIST_DELIMITER) {
        *len = 1;
        return "/";
    }
    bytes = value == NULL ? NULL : sqlite3_value_blob(value);
    *len = bytes == NULL ? 0 : (size_t)sqlite3_value_bytes(value);
    return bytes;
}

/* How much of a text or blob under the prefix names its group: up to and with the first
 * delimiter behind the prefix; 0 = it belongs to none. */
static size_t group_of(const struct list_cursor *cursor, const struct sql_value *key)
{
    size_t len;
    const unsigned char *delimiter = argument_bytes(cursor, LIST_DELIMITER, &len);
    const unsigned char *bytes = key->z;
    const unsigned char *found;

    if (len == 0 || key->n <= cursor->prefix_len)
        return 0;
    found = find_bytes(bytes + cursor->prefix_len, key->n - cursor->prefix_len, delimiter,
                       len);
    return found == NULL ? 0 : (size_t)(found - bytes) + len;
}

/* The first key column of the row that the scan is at. */
static enum armdb_rc read_key(struct list_cursor *cursor, const void *key, size_t len,
                              struct sql_value *out, struct armdb_error *err)
{
    struct sql_value original = {SQLITE_NULL, 0, {0}};
    struct armdb_value row;
    bool exact;
    enum armdb_rc rc = key_decode(&cursor->table->schema->key, key, len, 0,
                                  &cursor->scratch, out, &exact);

    if (rc != ARMDB_OK || exact)
        return rc;
    rc = armdb_cursor_value(cursor->rows, &row, err);
    if (rc == ARMDB_OK)
        rc = row_original(row.data, row.len, 0, &original);
    if (rc == ARMDB_OK && original.type != SQLITE_NULL)
        *out = original;
    return rc;
}

/* Makes the row of the listing from the row of the table that the scan is at. */
static enum armdb_rc make_row(struct list_cursor *cursor, struct armdb_error *err)
{
    const struct key_layout *layout = &cursor->table->schema->key;
    struct sql_value *row = &cursor->key;
    const void *key;
    size_t len;
    size_t group = 0;
    enum armdb_rc rc;

    armdb_cursor_key(cursor->rows, &key, &len);
    rc = read_key(cursor, key, len, row, err);
    if (rc != ARMDB_OK)
        return rc;
    cursor->is_counted = false;
    cursor->is_last = false;
    cursor->group_len = 0;
    if (row->type == SQLITE_TEXT || row->type == SQLITE_BLOB)
        group = group_of(cursor, row);
    cursor->is_prefix = group != 0;
    if (group != 0)
        row->n = group;
    if (group != 0 || layout->part_count > 1)
        rc = key_first_len(layout, key, len, group != 0 ? group : KEY_FIRST_WHOLE,
                           &cursor->group_len);
    if (rc != ARMDB_OK || (row->type != SQLITE_TEXT && row->type != SQLITE_BLOB))
        return rc;
    cursor->bytes.len = 0;
    rc = bytebuf_append(&cursor->bytes, row->z, row->n);
    row->z = cursor->bytes.data;
    return rc;
}

/* Takes the result of a seek or step. */
static int take(struct list_cursor *cursor, enum armdb_rc rc, struct armdb_error *err)
{
    cursor->eof = true;
    if (rc == ARMDB_DONE)
        return SQLITE_OK;
    if (rc == ARMDB_OK)
        rc = make_row(cursor, err);
    cursor->eof = rc != ARMDB_OK;
    cursor->number++;
    return set_error(cursor, rc, err);
}

static int list_next(sqlite3_vtab_cursor *base)
{
    struct list_cursor *cursor = (struct list_cursor *)base;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    enum armdb_rc rc;

    if (cursor->is_counted)
        rc = cursor->is_last ? ARMDB_DONE : ARMDB_OK;
    else if (cursor->group_len != 0)
        rc = armdb_cursor_skip(cursor->rows, cursor->group_len, &error);
    else
        rc = armdb_cursor_next(cursor->rows, &error);
    return take(cursor, rc, &error);
}

static int list_eof(sqlite3_vtab_cursor *base)
{
    return ((struct list_cursor *)base)->eof;
}

/* ---- Counting ---- */

static bool is_in_group(const struct list_cursor *cursor)
{
    const void *key;
    size_t len;

    armdb_cursor_key(cursor->rows, &key, &len);
    return len >= cursor->group.len &&
           memcmp(key, cursor->group.data, cursor->group.len) == 0;
}

/* Counts the rows of the table that this one stands for: the scan goes over them. */
static int count_group(struct list_cursor *cursor)
{
    struct armdb_error error = {ARMDB_OK, 0, ""};
    const void *key;
    size_t len;
    enum armdb_rc rc;

    if (cursor->is_counted)
        return SQLITE_OK;
    cursor->count = 1;
    if (cursor->group_len == 0)
        return SQLITE_OK;
    armdb_cursor_key(cursor->rows, &key, &len);
    cursor->group.len = 0;
    rc = bytebuf_append(&cursor->group, key, cursor->group_len);
    if (rc == ARMDB_OK)
        rc = armdb_cursor_next(cursor->rows, &error);
    while (rc == ARMDB_OK && is_in_group(cursor)) {
        cursor->count++;
        if (cursor->count % ROWS_BETWEEN_QUESTIONS == 0 &&
            conn_is_interrupted(cursor->table->conn))
            return SQLITE_INTERRUPT;
        rc = armdb_cursor_next(cursor->rows, &error);
    }
    cursor->is_counted = rc == ARMDB_OK || rc == ARMDB_DONE;
    cursor->is_last = rc == ARMDB_DONE;
    return rc == ARMDB_DONE ? SQLITE_OK : set_error(cursor, rc, &error);
}

/* ---- Columns ---- */

static int list_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column)
{
    struct list_cursor *cursor = (struct list_cursor *)base;
    struct sql_value value = cursor->key;
    const sqlite3_value *argument = NULL;
    int rc = SQLITE_OK;

    switch ((enum list_column)column) {
    case LIST_NAME:
        if (value.type == SQLITE_TEXT || value.type == SQLITE_BLOB) {
            value.z = cursor->bytes.data + cursor->prefix_len;
            value.n -= cursor->prefix_len;
        }
        sql_value_result(context, &value, SQLITE_TRANSIENT);
        break;
    case LIST_IS_PREFIX:
        sqlite3_result_int(context, cursor->is_prefix);
        break;
    case LIST_KEY:
        sql_value_result(context, &value, SQLITE_TRANSIENT);
        break;
    case LIST_TABLE:
    case LIST_PREFIX:
    case LIST_DELIMITER:
    case LIST_START_AFTER:
        argument = cursor->arguments[column - LIST_TABLE];
        break;
    case LIST_COUNT:
        rc = count_group(cursor);
        sqlite3_result_int64(context, cursor->count);
        break;
    }
    if (argument != NULL)
        sqlite3_result_value(context, cursor->arguments[column - LIST_TABLE]);
    return rc;
}

static int list_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *rowid)
{
    *rowid = ((struct list_cursor *)base)->number;
    return SQLITE_OK;
}

/* ---- Filtering ---- */

/* Keeps copies of the arguments, numbers as the text that they are. NULL is as good as
 * nothing. */
static int load_arguments(struct list_cursor *cursor, int number, sqlite3_value **argv)
{
    int at = 0;

    free_arguments(cursor);
    for (int i = 0; i < ARGUMENTS; i++) {
        sqlite3_value *in;

        if ((number & LIST_HAS_FIRST << i) == 0)
            continue;
        in = argv[at++];
        if (sqlite3_value_type(in) == SQLITE_NULL)
            continue;
        cursor->arguments[i] = sqlite3_value_dup(in);
        if (cursor->arguments[i] == NULL)
            return SQLITE_NOMEM;
    }
    return SQLITE_OK;
}

/* A prefix or delimiter that is a number means its digits. */
static int make_text(struct list_cursor *cursor, int column)
{
    sqlite3_value *value = cursor->arguments[column - LIST_TABLE];

    if (value == NULL || sqlite3_value_type(value) == SQLITE_BLOB)
        return SQLITE_OK;
    return sqlite3_value_text(value) == NULL ? SQLITE_NOMEM : SQLITE_OK;
}

static int check_layout(struct list_cursor *cursor)
{
    const struct schema *schema = cursor->table->schema;
    const struct key_part *part = &schema->key.parts[0];
    const char *name = schema->columns[part->column].name;

    if (part->collation != COLLATION_BINARY)
        return errmap_set(cursor->base.pVtab, SQLITE_ERROR,
                          sqlite3_mprintf("armdb_list wants a key that is compared byte "
                                          "by byte: column %s is not of collation BINARY",
                                          name));
    if (schema->key.part_count > 1 && part->affinity != AFFINITY_TEXT &&
        part->affinity != AFFINITY_BLOB)
        return errmap_set(
            cursor->base.pVtab, SQLITE_ERROR,
            sqlite3_mprintf("armdb_list lists the first column of the key: %s is of type "
                            "%s and holds no names",
                            name, affinity_name(part->affinity)));
    return SQLITE_OK;
}

/* Finds the table, unless it is the one that is here already. */
static int find_table(struct list_cursor *cursor)
{
    struct list_vtab *vtab = (struct list_vtab *)cursor->base.pVtab;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    const unsigned char *name =
        sqlite3_value_text(cursor->arguments[LIST_TABLE - LIST_TABLE]);
    size_t len;
    char *err = NULL;
    enum armdb_rc opened;
    int rc;

    if (name == NULL)
        return SQLITE_NOMEM;
    len = strlen((const char *)name) + 1;
    if (cursor->table != NULL && cursor->table_name.len == len &&
        memcmp(cursor->table_name.data, name, len) == 0)
        return SQLITE_OK;
    leave_table(cursor);
    rc = functions_find_table(vtab->conn, (const char *)name, &cursor->table,
                              &cursor->stmt, &err);
    if (rc != SQLITE_OK) {
        cursor->table = NULL;
        return errmap_set(cursor->base.pVtab, rc, err);
    }
    cursor->table->open_count++;
    rc = check_layout(cursor);
    if (rc != SQLITE_OK)
        return rc;
    cursor->table_name.len = 0;
    opened = bytebuf_append(&cursor->table_name, name, len);
    if (opened == ARMDB_OK)
        opened = armdb_cursor_open(cursor->table->store->session, cursor->table->table,
                                   &cursor->rows, &error);
    return set_error(cursor, opened, &error);
}

/* Narrows the range to what begins with the prefix. */
static enum armdb_rc add_prefix(struct list_cursor *cursor)
{
    const struct key_layout *layout = &cursor->table->schema->key;
    sqlite3_value *value = cursor->arguments[LIST_PREFIX - LIST_TABLE];
    const void *bytes = argument_bytes(cursor, LIST_PREFIX, &cursor->prefix_len);
    bool exact; /* always: the collation is BINARY */

    if (value == NULL)
        return ARMDB_OK;
    if (bytes == NULL)
        bytes = "";
    if (sqlite3_value_type(value) == SQLITE_BLOB)
        return key_range_blobs(layout, 0, bytes, cursor->prefix_len, &cursor->range);
    return key_range_prefix(layout, 0, bytes, cursor->prefix_len, KEY_PREFIX_BYTES,
                            &cursor->range, &exact);
}

/* True when the prefix, if there is one, is of this type and `value` begins with it. */
static bool is_under_prefix(const struct list_cursor *cursor,
                            const struct sql_value *value)
{
    sqlite3_value *prefix = cursor->arguments[LIST_PREFIX - LIST_TABLE];
    size_t len;
    const void *bytes = argument_bytes(cursor, LIST_PREFIX, &len);

    if (value->type != SQLITE_TEXT && value->type != SQLITE_BLOB)
        return false;
    if (prefix != NULL &&
        (sqlite3_value_type(prefix) == SQLITE_BLOB) != (value->type == SQLITE_BLOB))
        return false;
    return value->n >= len && (len == 0 || memcmp(value->z, bytes, len) == 0);
}

/* Narrows the range to the rows of the listing whose key is above start_after. */
static int add_start(struct list_cursor *cursor)
{
    const struct key_layout *layout = &cursor->table->schema->key;
    sqlite3_value *in = cursor->arguments[LIST_START_AFTER - LIST_TABLE];
    struct sql_value value;
    size_t group = 0;
    int rc;

    if (in == NULL)
        return SQLITE_OK;
    rc = sql_value_load(in, &value);
    if (rc == SQLITE_OK && layout->parts[0].affinity == AFFINITY_TEXT)
        rc = affinity_store(in, AFFINITY_TEXT, &value);
    if (rc != SQLITE_OK)
        return rc;
    if (is_under_prefix(cursor, &value))
        group = group_of(cursor, &value);
    if (group != 0)
        return set_error(
            cursor,
            key_range_above(layout, 0, value.type, value.z, group, &cursor->range), NULL);
    return set_error(cursor, key_range_narrow(layout, 0, KEY_GT, &value, &cursor->range),
                     NULL);
}

/* LIMIT and OFFSET together, or 0 when there is none: as many rows will be asked for. */
static uint64_t row_hint(int number, int argc, sqlite3_value **argv)
{
    int at = argc;
    sqlite3_int64 offset = 0;
    sqlite3_int64 limit = 0;

    if ((number & LIST_HAS_OFFSET) != 0)
        offset = sqlite3_value_int64(argv[--at]);
    if ((number & LIST_HAS_LIMIT) != 0)
        limit = sqlite3_value_int64(argv[--at]);
    if (limit <= 0 || limit > FIRST_ROWS || offset > FIRST_ROWS)
        return FIRST_ROWS;
    limit += offset > 0 ? offset : 0;
    return limit < FIRST_ROWS ? (uint64_t)limit : FIRST_ROWS;
}

/* Before the first read of a statement, as for a scan of the table itself (filter.c). A
 * cursor that is filtered again belongs to the same statement: what that has written
 * meanwhile stays unseen. */
static int begin_read(struct list_cursor *cursor)
{
    struct conn_store *store = cursor->table->store;
    int rc;

    if (armdb_in_transaction(store->session)) {
        if (!cursor->was_filtered)
            armdb_statement_begin(store->session);
    } else if (store->drops != NULL) {
        drop_settle(store, 0);
    }
    cursor->was_filtered = true;
    rc = vtab_hold_snapshot(cursor->table);
    store->was_read = armdb_in_transaction(store->session);
    if (rc != SQLITE_OK && cursor->table->base.zErrMsg != NULL)
        return errmap_set(cursor->base.pVtab, rc,
                          sqlite3_mprintf("%s", cursor->table->base.zErrMsg));
    return rc;
}

static int list_filter(sqlite3_vtab_cursor *base, int number, const char *text, int argc,
                       sqlite3_value **argv)
{
    struct list_cursor *cursor = (struct list_cursor *)base;
    struct armdb_range range = {.keys_only = true,
                                .limit_hint = row_hint(number, argc, argv)};
    struct armdb_error error = {ARMDB_OK, 0, ""};
    enum armdb_rc ranged;
    int rc;

    (void)text; /* for EXPLAIN QUERY PLAN only */
    cursor->eof = true;
    cursor->number = 0;
    if (argc < 1)
        return SQLITE_MISUSE;
    rc = load_arguments(cursor, number, argv);
    if (rc != SQLITE_OK || cursor->arguments[LIST_TABLE - LIST_TABLE] == NULL)
        return rc;
    for (int column = LIST_PREFIX; rc == SQLITE_OK && column <= LIST_DELIMITER; column++)
        rc = make_text(cursor, column);
    if (rc == SQLITE_OK)
        rc = find_table(cursor);
    if (rc != SQLITE_OK || cursor->table == NULL)
        return rc;
    ranged = key_range_begin(&cursor->table->schema->key, NULL, 0, &cursor->range);
    if (ranged == ARMDB_OK)
        ranged = add_prefix(cursor);
    rc = ranged == ARMDB_OK ? add_start(cursor) : set_error(cursor, ranged, NULL);
    if (rc == SQLITE_OK)
        rc = begin_read(cursor);
    if (rc != SQLITE_OK || key_range_is_empty(&cursor->range))
        return rc;
    key_range_get(&cursor->range, &range);
    range.reverse =
        ((number & LIST_REVERSE) != 0) != cursor->table->schema->key.parts[0].desc;
    return take(cursor, armdb_cursor_seek_range(cursor->rows, &range, &error), &error);
}

int list_register(struct conn *conn)
{
    static const sqlite3_module module = {
        .iVersion = 1,
        .xConnect = list_connect, /* without xCreate: it is there by its name alone */
        .xBestIndex = list_best_index,
        .xDisconnect = list_disconnect,
        .xOpen = list_open,
        .xClose = list_close,
        .xFilter = list_filter,
        .xNext = list_next,
        .xEof = list_eof,
        .xColumn = list_column,
        .xRowid = list_rowid,
    };

    return sqlite3_create_module_v2(conn->db, "armdb_list", &module, conn_acquire(conn),
                                    conn_release);
}

/* cursor.c - stepping over rows and handing out their columns.
 *
 * xOpen and xClose are called for every execution of a statement, so closed cursors
 * are kept with the table, with their buffers and the engine's cursor, and used again:
 * a look-up by key allocates nothing here. xFilter may be called many times on one
 * cursor, and starts from nothing each time.
 *
 * Columns. A key column is decoded from the key, which lies in the engine's cursor
 * until that moves, and is copied by SQLite. Where the key does not tell the original
 * ('A' under NOCASE, which is kept as 'a') the row does. Other columns come from the
 * row, which is read when the first of them is asked for, once. Text and blobs of some
 * size are handed out where they lie, each with a pin of its own as its destructor:
 * SQLite keeps such pointers past xNext and xClose. Short ones are copied: that is
 * faster than two atomic operations on a shared page.
 *
 * In an UPDATE SQLite asks for columns it will only give back. Those of the row are not
 * read then (sqlite3_vtab_nochange), and xUpdate gets them itself. */
#include "ext/cursor.h"

#include <string.h>

#include "ext/errmap.h"
#include "ext/keytext.h"
#include "ext/rowcodec.h"

SQLITE_EXTENSION_INIT3

enum {
    SPARES_MAX = 8,
    PIN_BYTES_MIN = 256 /* measured: below this a copy is cheaper than a pin */
};

/* ---- Opening and closing ---- */

static void free_cursor(struct vtab_cursor *cursor)
{
    if (cursor == NULL)
        return;
    armdb_cursor_close(cursor->rows);
    bytebuf_fini(&cursor->scratch);
    bytebuf_fini(&cursor->prefix);
    bytebuf_fini(&cursor->list);
    bytebuf_fini(&cursor->text);
    bytebuf_fini(&cursor->kept);
    bytebuf_fini(&cursor->collected);
    key_range_fini(&cursor->range);
    sqlite3_free(cursor->keys);
    sqlite3_free(cursor->spans);
    sqlite3_free(cursor);
}

void vtab_free_spares(struct vtab *vtab)
{
    while (vtab->spare != NULL) {
        struct vtab_cursor *cursor = vtab->spare;

        vtab->spare = cursor->spare;
        free_cursor(cursor);
    }
    vtab->spare_count = 0;
}

static struct vtab_cursor *make_cursor(void)
{
    struct vtab_cursor *cursor = sqlite3_malloc64(sizeof *cursor);

    if (cursor == NULL)
        return NULL;
    memset(cursor, 0, sizeof *cursor);
    bytebuf_init(&cursor->scratch);
    bytebuf_init(&cursor->prefix);
    bytebuf_init(&cursor->list);
    bytebuf_init(&cursor->text);
    bytebuf_init(&cursor->kept);
    bytebuf_init(&cursor->collected);
    key_range_init(&cursor->range);
    return cursor;
}

int vtab_open(sqlite3_vtab *base, sqlite3_vtab_cursor **out)
{
    struct vtab *vtab = (struct vtab *)base;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    struct vtab_cursor *cursor;
    enum armdb_rc opened;
    int rc = vtab_use(vtab);

    *out = NULL;
    if (rc != SQLITE_OK)
        return rc;
    cursor = vtab->spare;
    if (cursor != NULL) {
        vtab->spare = cursor->spare;
        vtab->spare_count--;
    } else {
        cursor = make_cursor();
        if (cursor == NULL)
            return SQLITE_NOMEM;
        opened =
            armdb_cursor_open(vtab->store->session, vtab->table, &cursor->rows, &error);
        if (opened != ARMDB_OK) {
            free_cursor(cursor);
            return errmap_vtab(base, opened, &error);
        }
    }
    cursor->eof = true;
    vtab->open_count++;
    *out = &cursor->base;
    return SQLITE_OK;
}

int vtab_close(sqlite3_vtab_cursor *base)
{
    struct vtab_cursor *cursor = (struct vtab_cursor *)base;
    struct vtab *vtab = (struct vtab *)base->pVtab;

    vtab->open_count--;
    if (vtab->spare_count == SPARES_MAX) {
        free_cursor(cursor);
        return SQLITE_OK;
    }
    armdb_cursor_reset(cursor->rows);
    cursor->have_value = false;
    cursor->spare = vtab->spare;
    vtab->spare = cursor;
    vtab->spare_count++;
    return SQLITE_OK;
}

int vtab_cursor_error(struct vtab_cursor *cursor, enum armdb_rc rc,
                      const struct armdb_error *err)
{
    return errmap_vtab(cursor->base.pVtab, rc, err);
}

/* ---- Columns ---- */

static void name_row(const struct vtab_cursor *cursor, struct armdb_error *err)
{
    const struct vtab *vtab = (const struct vtab *)cursor->base.pVtab;
    const void *key;
    size_t len;

    armdb_cursor_key(cursor->rows, &key, &len);
    keytext_name_row(vtab->name, &vtab->schema->key, key, len, err);
}

static enum armdb_rc read_value(struct vtab_cursor *cursor, struct armdb_error *err)
{
    enum armdb_rc rc;

    if (cursor->have_value)
        return ARMDB_OK;
    rc = armdb_cursor_value(cursor->rows, &cursor->value, err);
    if (rc == ARMDB_CORRUPT)
        name_row(cursor, err);
    cursor->have_value = rc == ARMDB_OK;
    return rc;
}

int vtab_cursor_key_part(struct vtab_cursor *cursor, uint32_t part, struct sql_value *out)
{
    const struct vtab *vtab = (const struct vtab *)cursor->base.pVtab;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    struct sql_value original;
    const void *key;
    size_t len;
    bool exact = true;
    enum armdb_rc rc;

    armdb_cursor_key(cursor->rows, &key, &len);
    rc = key_decode(&vtab->schema->key, key, len, part, &cursor->scratch, out, &exact);
    if (rc != ARMDB_OK || exact)
        return vtab_cursor_error(cursor, rc, NULL);
    rc = read_value(cursor, &error);
    if (rc == ARMDB_OK)
        rc = row_original(cursor->value.data, cursor->value.len, part, &original);
    if (rc == ARMDB_OK && original.type != SQLITE_NULL)
        *out = original;
    return vtab_cursor_error(cursor, rc, &error);
}

static int row_value(struct vtab_cursor *cursor, sqlite3_context *context, int32_t column)
{
    struct armdb_error error = {ARMDB_OK, 0, ""};
    sqlite3_destructor_type release = SQLITE_TRANSIENT;
    struct sql_value value;
    enum armdb_rc rc = read_value(cursor, &error);

    if (rc == ARMDB_OK)
        rc = row_column(cursor->value.data, cursor->value.len, (uint32_t)column, &value);
    if (rc != ARMDB_OK)
        return vtab_cursor_error(cursor, rc, &error);
    if (value.n >= PIN_BYTES_MIN) {
        armdb_unpin unpin = armdb_value_pin(&cursor->value, value.z);

        if (unpin != NULL)
            release = unpin;
    }
    sql_value_result(context, &value, release);
    return SQLITE_OK;
}

/* The hidden columns. */
static int hidden_value(struct vtab_cursor *cursor, sqlite3_context *context, int column)
{
    const struct schema *schema = ((const struct vtab *)cursor->base.pVtab)->schema;
    struct sql_value value;
    const void *key;
    size_t len;

    if (column == schema->column_size) {
        sqlite3_result_int64(context,
                             (sqlite3_int64)armdb_cursor_value_len(cursor->rows));
    } else if (column == schema->column_seq) {
        sqlite3_result_int64(context, (sqlite3_int64)armdb_cursor_seq(cursor->rows));
    } else if (column == schema->column_key) {
        armdb_cursor_key(cursor->rows, &key, &len);
        sqlite3_result_blob64(context, key, len, SQLITE_TRANSIENT);
    } else if (column == schema->column_command && cursor->prefix_type != 0) {
        value.type = cursor->prefix_type;
        value.n = cursor->prefix.len;
        value.z = cursor->prefix.data;
        sql_value_result(context, &value, SQLITE_TRANSIENT);
    }
    return SQLITE_OK;
}

int vtab_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column)
{
    struct vtab_cursor *cursor = (struct vtab_cursor *)base;
    const struct schema *schema = ((const struct vtab *)base->pVtab)->schema;
    const struct schema_column *info;
    struct sql_value value;
    int rc;

    if (column < 0)
        return SQLITE_OK;
    if ((uint32_t)column >= schema->column_count) {
        /* SQLite keeps _key, the PRIMARY KEY, for xUpdate; the others it may not. */
        if (column != schema->column_key && sqlite3_vtab_nochange(context))
            return SQLITE_OK;
        return hidden_value(cursor, context, column);
    }
    info = &schema->columns[column];
    if (info->key_index >= 0) {
        rc = vtab_cursor_key_part(cursor, (uint32_t)info->key_index, &value);
        if (rc == SQLITE_OK)
            sql_value_result(context, &value, SQLITE_TRANSIENT);
        return rc;
    }
    if (sqlite3_vtab_nochange(context))
        return SQLITE_OK;
    return row_value(cursor, context, info->row_index);
}

/* A table WITHOUT ROWID should never be asked. But a DELETE or UPDATE with LIMIT that is
 * the first statement on the table is rewritten to `rowid IN (SELECT rowid ...)` before
 * SQLite has heard that there is none: any number that tells rows apart will do. */
int vtab_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *rowid)
{
    *rowid = (sqlite3_int64)armdb_cursor_row_id(((struct vtab_cursor *)base)->rows);
    return SQLITE_OK;
}

/* ---- Stepping ---- */

enum armdb_rc vtab_cursor_seek_span(struct vtab_cursor *cursor, struct armdb_error *err)
{
    struct armdb_range *range = &cursor->span_range;
    enum armdb_rc rc = ARMDB_DONE;

    for (; cursor->span_at < cursor->span_count; cursor->span_at++) {
        const struct vtab_span *span = &cursor->spans[cursor->span_at];

        range->low = span->low;
        range->low_len = span->low_len;
        range->low_bound = span->low_bound;
        range->high = span->high;
        range->high_len = span->high_len;
        range->high_bound = span->high_bound;
        rc = armdb_cursor_seek_range(cursor->rows, range, err);
        if (rc != ARMDB_DONE)
            return rc;
    }
    return ARMDB_DONE;
}

/* The next row, in this range or the next. */
enum armdb_rc vtab_cursor_next_row(struct vtab_cursor *cursor, struct armdb_error *err)
{
    enum armdb_rc rc = armdb_cursor_next(cursor->rows, err);

    if (rc != ARMDB_DONE || cursor->span_at >= cursor->span_count)
        return rc;
    cursor->span_at++;
    return vtab_cursor_seek_span(cursor, err);
}

int vtab_cursor_step(struct vtab_cursor *cursor, enum armdb_rc first,
                     const struct armdb_error *err)
{
    struct armdb_error error = *err;
    enum armdb_rc rc = first;
    int sqlite_rc;

    cursor->have_value = false;
    cursor->eof = true;
    for (;;) {
        struct sql_value value;

        if (rc == ARMDB_DONE)
            return SQLITE_OK;
        if (rc != ARMDB_OK)
            return vtab_cursor_error(cursor, rc, &error);
        if (!cursor->tests_prefix)
            break;
        sqlite_rc = vtab_cursor_key_part(cursor, 0, &value);
        if (sqlite_rc != SQLITE_OK)
            return sqlite_rc;
        if (value.type == SQLITE_TEXT && value.n >= cursor->prefix.len &&
            (cursor->prefix.len == 0 ||
             memcmp(value.z, cursor->prefix.data, cursor->prefix.len) == 0))
            break;
        cursor->have_value = false;
        rc = vtab_cursor_next_row(cursor, &error);
    }
    cursor->eof = false;
    return SQLITE_OK;
}

int vtab_next(sqlite3_vtab_cursor *base)
{
    struct vtab_cursor *cursor = (struct vtab_cursor *)base;
    struct armdb_error error;
    enum armdb_rc rc;

    error.rc = ARMDB_OK;
    error.text[0] = '\0';
    rc = vtab_cursor_next_row(cursor, &error);
    cursor->have_value = false;
    if (rc == ARMDB_OK && !cursor->tests_prefix)
        return SQLITE_OK;
    return vtab_cursor_step(cursor, rc, &error);
}

int vtab_eof(sqlite3_vtab_cursor *base)
{
    return ((struct vtab_cursor *)base)->eof;
}

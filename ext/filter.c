/* filter.c - xFilter: the chosen plan, with its values, becomes a seek.
 *
 * The arguments are converted as SQLite would before comparing (affinity_compare) and
 * encoded; the rest is one call of the engine: a key, a list of keys, or a range.
 * filter_list.c encodes, filter_number.c settles what a number means to a text.
 *
 * Read-modify-write. In autocommit, a statement that writes and has read nothing yet
 * takes its keys as a writer before it reads them, so that the row cannot change between
 * the two: no SQLITE_BUSY_SNAPSHOT, only a wait. */
#include <string.h>

#include "ext/drop.h"
#include "ext/filter_private.h"

SQLITE_EXTENSION_INIT3

/* ---- Equalities ---- */

/* A number, before any conversion; NULL for what is none. */
static void load_number(sqlite3_value *in, struct sql_value *out)
{
    sql_value_set_null(out);
    switch (sqlite3_value_type(in)) {
    case SQLITE_INTEGER:
        out->type = SQLITE_INTEGER;
        out->i = sqlite3_value_int64(in);
        break;
    case SQLITE_FLOAT:
        out->type = SQLITE_FLOAT;
        out->r = sqlite3_value_double(in);
        break;
    default:
        break;
    }
}

static int load_equalities(struct filter *f)
{
    const struct key_layout *key = &f->vtab->schema->key;

    for (uint32_t i = 0; i < f->plan.eq_count; i++) {
        bool literal = i < PLAN_LITERAL_MAX && (f->plan.literals >> i & 1) != 0;
        struct sql_value number;
        bool unsure;
        int rc;

        if (f->plan.list_slot == i + 1)
            continue;
        load_number(f->argv[i], &number);
        rc = filter_convert(f->argv[i], key->parts[i].affinity, literal, &f->eq[i],
                            &f->never, &unsure);
        if (rc != SQLITE_OK || f->never)
            return rc;
        if (!unsure)
            continue;
        f->unsure |= UINT32_C(1) << i;
        f->number[i] = number;
    }
    return SQLITE_OK;
}

/* ---- Ranges ---- */

static char to_upper(char c)
{
    return (char)(c >= 'a' && c <= 'z' ? c - ('a' - 'A') : c);
}

/* True when the two bounds are what LIKE makes of a prefix p: upper case of p, and the
 * successor of its lower case. Anybody's NOCASE comparisons look the same to xBestIndex.
 */
static bool is_like_pair(const struct sql_value *low, const struct sql_value *high)
{
    const char *a = low->z;
    const char *b = high->z;

    if (low->type != SQLITE_TEXT || high->type != SQLITE_TEXT || low->n == 0 ||
        low->n != high->n)
        return false;
    for (size_t i = 0; i < low->n; i++) {
        char c = (char)(i + 1 == low->n ? b[i] - 1 : b[i]);

        if (a[i] != to_upper(a[i]) || (c >= 'A' && c <= 'Z') || a[i] != to_upper(c))
            return false;
    }
    return true;
}

/* A value below which keys are wanted, and whose affinity is not known. If that is
 * numeric, texts that look like numbers are numbers, and lie below any text: then the
 * bound must leave all of them in. SQLite tests each row. */
static int raise_high(struct filter *f, enum affinity affinity, bool number)
{
    bool found = true;
    int rc = SQLITE_OK;

    if (!number &&
        (f->high.type != SQLITE_TEXT || sqlite3_value_frombind(f->argv[f->at.high])))
        return SQLITE_OK;
    /* It is above them already; 'Inf' is such a number's text. */
    if (f->high.type == SQLITE_TEXT && f->high.n > 0 &&
        *(const unsigned char *)f->high.z >= ':')
        return SQLITE_OK;
    if (number && affinity == AFFINITY_BLOB && f->plan.list_slot == 0 && f->unsure == 0)
        rc = filter_next_text(f, f->plan.eq_count, true, &found);
    if (rc == SQLITE_OK && found) {
        f->high.type = SQLITE_TEXT;
        f->high.n = 1;
        f->high.z = ":";
    }
    return rc;
}

/* The bytes that every match of a GLOB begins with. SQLite reads characters, and some
 * sequences of bytes that are no ASCII are one character in several spellings: the prefix
 * ends before them. A blob is no pattern, or one that is left to SQLite. */
static int load_pattern(struct filter *f)
{
    sqlite3_value *in = f->argv[f->at.low];
    const unsigned char *text;
    size_t n = 0;

    f->never = sqlite3_value_type(in) == SQLITE_NULL;
    if (f->never || sqlite3_value_type(in) == SQLITE_BLOB)
        return SQLITE_OK;
    text = sqlite3_value_text(in);
    if (text == NULL)
        return SQLITE_NOMEM;
    while (text[n] != 0 && text[n] < 0x80 && strchr("*?[", text[n]) == NULL)
        n++;
    f->low.type = SQLITE_TEXT;
    f->low.n = n;
    f->low.z = text;
    f->has_low = n > 0;
    return SQLITE_OK;
}

/* Reads the bounds on the part behind the equalities. */
static int load_bounds(struct filter *f)
{
    const struct plan *plan = &f->plan;
    enum affinity affinity;
    bool unsure = false;
    int rc = SQLITE_OK;

    f->has_low = plan->low != PLAN_OP_OTHER;
    f->has_high = plan->high != PLAN_OP_OTHER;
    if (!f->has_low && !f->has_high)
        return SQLITE_OK;
    if (plan->low == PLAN_OP_GLOB) {
        f->has_low = false;
        return load_pattern(f);
    }
    affinity = f->vtab->schema->key.parts[plan->eq_count].affinity;
    if (f->has_low) {
        rc = filter_convert(f->argv[f->at.low], affinity, plan->low_literal, &f->low,
                            &f->never, &unsure);
        /* Above a number lie all texts, and all that are no number to a TEXT column. */
        f->has_low = !unsure || affinity != AFFINITY_TEXT;
    }
    if (rc == SQLITE_OK && f->has_high) {
        rc = filter_convert(f->argv[f->at.high], affinity, plan->high_literal, &f->high,
                            &f->never, &unsure);
        if (rc == SQLITE_OK && !f->never && !plan->high_literal && !plan->like &&
            (affinity == AFFINITY_TEXT || affinity == AFFINITY_BLOB))
            rc = raise_high(f, affinity, unsure);
    }
    if (rc == SQLITE_OK && !f->never && plan->like &&
        !(f->has_low && f->has_high && is_like_pair(&f->low, &f->high))) {
        f->has_low = false;
        f->has_high = false;
    }
    return rc;
}

/* t('prefix') */
static int add_prefix(struct filter *f)
{
    sqlite3_value *in = f->argv[f->at.prefix];
    struct vtab_cursor *cursor = f->cursor;
    int type = sqlite3_value_type(in);
    const void *bytes;
    bool exact = true;
    enum armdb_rc rc;

    if (type == SQLITE_NULL) {
        f->never = true;
        return SQLITE_OK;
    }
    bytes = type == SQLITE_BLOB ? sqlite3_value_blob(in)
                                : (const void *)sqlite3_value_text(in);
    cursor->prefix.len = 0;
    cursor->prefix_type = type == SQLITE_BLOB ? SQLITE_BLOB : SQLITE_TEXT;
    if (bytes == NULL && sqlite3_value_bytes(in) != 0)
        return SQLITE_NOMEM;
    rc = bytebuf_append(&cursor->prefix, bytes == NULL ? "" : bytes,
                        (size_t)sqlite3_value_bytes(in));
    if (rc == ARMDB_OK && type == SQLITE_BLOB)
        rc = key_range_blobs(&f->vtab->schema->key, 0, cursor->prefix.data,
                             cursor->prefix.len, &cursor->range);
    else if (rc == ARMDB_OK)
        rc = key_range_prefix(&f->vtab->schema->key, 0, cursor->prefix.data,
                              cursor->prefix.len, KEY_PREFIX_BYTES, &cursor->range,
                              &exact);
    cursor->tests_prefix = !exact;
    return vtab_cursor_error(cursor, rc, NULL);
}

/* ---- Seeking ---- */

/* Takes the keys as a writer would, where that is what the statement is about to do. */
static int lock_keys(struct filter *f)
{
    struct vtab *vtab = f->vtab;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    enum armdb_rc rc = ARMDB_OK;

    if (!vtab->enlisted || vtab->store->was_read || vtab->store->held ||
        !sqlite3_get_autocommit(vtab->conn->db))
        return SQLITE_OK;
    for (size_t i = 0; i < f->key_count; i++) {
        uint64_t deadline_ms = 0;

        do {
            rc = armdb_lock_key(vtab->store->session, vtab->table,
                                f->cursor->keys[i].data, f->cursor->keys[i].len, &error);
        } while (rc == ARMDB_BUSY &&
                 (rc = conn_wait(vtab->store, &deadline_ms)) == ARMDB_OK);
        if (rc < 0)
            return vtab_cursor_error(f->cursor, rc, &error);
    }
    return SQLITE_OK;
}

/* LIMIT and OFFSET as a number of rows; 0 when there is none or it is no number. */
static uint64_t row_number(struct filter *f, int at)
{
    sqlite3_int64 n;

    if (at < 0)
        return 0;
    n = sqlite3_value_int64(f->argv[at]);
    return n > 0 ? (uint64_t)n : 0;
}

static enum armdb_rc seek(struct filter *f, struct armdb_error *err)
{
    struct vtab_cursor *cursor = f->cursor;
    struct armdb_range range = {.reverse = f->plan.reverse,
                                .keys_only = f->plan.keys_only};
    uint64_t limit = row_number(f, f->at.limit);

    if (limit != 0)
        range.limit_hint = limit + row_number(f, f->at.offset);
    if (cursor->span_count != 0) {
        cursor->span_range = range;
        return vtab_cursor_seek_span(cursor, err);
    }
    if (f->plan.list_slot != 0)
        return armdb_cursor_seek_keys(cursor->rows, cursor->keys, f->key_count, err);
    if (f->key_count == 1)
        return armdb_cursor_seek_key(cursor->rows, cursor->keys[0].data,
                                     cursor->keys[0].len, err);
    key_range_get(&cursor->range, &range);
    return armdb_cursor_seek_range(cursor->rows, &range, err);
}

/* Sets up the range, or the key, and says by f->never if it is empty. */
static int prepare_seek(struct filter *f)
{
    const struct key_layout *key = &f->vtab->schema->key;
    enum armdb_rc rc;
    int sqlite_rc = SQLITE_OK;

    if (f->plan.list_slot != 0)
        return SQLITE_OK;
    f->key_count = 0;
    if (f->plan.eq_count == key->part_count) {
        f->cursor->list.len = 0;
        sqlite_rc = filter_add_key(f);
        f->never = f->key_count == 0;
        if (sqlite_rc == SQLITE_OK && !f->never)
            f->cursor->keys[0].data = f->cursor->list.data;
        return sqlite_rc;
    }
    rc = key_range_begin(key, f->eq, f->plan.eq_count, &f->cursor->range);
    if (rc != ARMDB_OK)
        return vtab_cursor_error(f->cursor, rc, NULL);
    sqlite_rc = filter_add_bounds(f);
    if (sqlite_rc == SQLITE_OK && !f->never && f->plan.prefix)
        sqlite_rc = add_prefix(f);
    if (key_range_is_empty(&f->cursor->range))
        f->never = true;
    return sqlite_rc;
}

static int go_to_first(struct filter *f)
{
    struct vtab_cursor *cursor = f->cursor;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    uint64_t skip = f->plan.offset_consumed ? row_number(f, f->at.offset) : 0;
    int rc = lock_keys(f);

    if (rc == SQLITE_OK)
        rc = vtab_hold_snapshot(f->vtab);
    if (rc != SQLITE_OK)
        return rc;
    f->vtab->store->was_read = armdb_in_transaction(f->vtab->store->session);
    rc = vtab_cursor_step(cursor, seek(f, &error), &error);
    for (; rc == SQLITE_OK && !cursor->eof && skip > 0; skip--)
        rc = vtab_cursor_step(cursor, vtab_cursor_next_row(cursor, &error), &error);
    return rc;
}

int vtab_filter(sqlite3_vtab_cursor *base, int number, const char *text, int argc,
                sqlite3_value **argv)
{
    struct vtab_cursor *cursor = (struct vtab_cursor *)base;
    struct filter f;
    int rc;

    (void)text; /* for EXPLAIN QUERY PLAN only */
    f.cursor = cursor;
    f.vtab = (struct vtab *)base->pVtab;
    f.argv = argv;
    f.unsure = 0;
    f.never = false;
    f.key_count = 0;
    plan_from_number(number, &f.plan);
    plan_arguments(&f.plan, &f.at);
    cursor->eof = true;
    cursor->have_value = false;
    cursor->tests_prefix = false;
    cursor->prefix_type = 0;
    cursor->span_count = 0;
    cursor->span_at = 0;
    if (argc != f.at.count)
        return SQLITE_MISUSE;
    if (f.plan.empty) /* no row, but a read: it fixes the transaction's moment */
        return vtab_hold_snapshot(f.vtab);
    if (armdb_in_transaction(f.vtab->store->session))
        armdb_statement_begin(f.vtab->store->session);
    else if (f.vtab->store->drops != NULL)
        drop_settle(f.vtab->store, 0);
    rc = load_equalities(&f);
    if (rc == SQLITE_OK && !f.never)
        rc = load_bounds(&f);
    if (rc == SQLITE_OK && !f.never && f.plan.list_slot != 0)
        rc = filter_load_list(&f);
    if (rc == SQLITE_OK && !f.never && f.unsure != 0)
        rc = filter_settle_meanings(&f);
    if (rc == SQLITE_OK && !f.never)
        rc = prepare_seek(&f);
    if (rc == SQLITE_OK && f.never)
        return vtab_hold_snapshot(f.vtab);
    if (rc != SQLITE_OK)
        return rc;
    return go_to_first(&f);
}

/* filter.c - xFilter: the chosen plan, with its values, becomes a seek.
 *
 * The arguments are converted as SQLite would before comparing (affinity_compare) and
 * encoded; the rest is one call of the engine: a key, a list of keys, or a range.
 *
 * A number compared with a TEXT column, or one without a type, has two meanings (see
 * plan.c). It is settled by what is known here: a literal or a parameter has no
 * affinity of its own, and means its text, or the number itself in a column without a
 * type. For anything else the meanings differ only if some key is a text that looks like
 * a number. All such texts begin with a space, a sign, a point or a digit, so they lie
 * in one short range of the order: if that is empty, the meanings agree. If not, the
 * part is not used at all, and SQLite, to which such terms are left (omit is not
 * set), tests each row. One case is left over: a plan for at most one row, in a
 * statement that writes this table. There SQLite looks at the first row only; such a
 * statement is refused, with a text that says what to write instead.
 *
 * Read-modify-write. In autocommit, a statement that writes and has read nothing yet
 * takes its keys as a writer before it reads them, so that the row cannot change between
 * the two: no SQLITE_BUSY_SNAPSHOT, only a wait. */
#include <stdlib.h>
#include <string.h>

#include "ext/cursor.h"
#include "ext/drop.h"
#include "ext/errmap.h"

SQLITE_EXTENSION_INIT3

/* What the arguments turned out to be. */
struct filter {
    struct vtab_cursor *cursor;
    struct vtab *vtab;
    struct plan plan;
    struct plan_arguments at;
    sqlite3_value **argv;
    struct sql_value eq[PLAN_EQ_MAX];
    uint32_t unsure; /* bit i: the meaning of equality i is open */
    bool never;      /* no row can satisfy the terms */
    size_t key_count;
};

/* ---- Equalities --------------------------------------------------------------------------- */

/* Converts one right-hand side. *unsure: its meaning is open. */
static int convert(sqlite3_value *in, enum affinity affinity, bool literal,
                   struct sql_value *out, bool *never, bool *unsure)
{
    enum rhs_fit fit = RHS_EXACT;
    int rc = affinity_compare(in, affinity, out, &fit);

    *unsure = rc == SQLITE_OK && fit == RHS_UNSURE && !literal &&
              !sqlite3_value_frombind(in);
    if (rc == SQLITE_OK && fit == RHS_NEVER)
        *never = true;
    return rc;
}

static int load_equalities(struct filter *f)
{
    const struct key_layout *key = &f->vtab->schema->key;

    for (uint32_t i = 0; i < f->plan.eq_count; i++) {
        bool literal = i < PLAN_LITERAL_MAX && (f->plan.literals >> i & 1) != 0;
        bool unsure;
        int rc;

        if (f->plan.list_slot == i + 1)
            continue;
        rc = convert(f->argv[i], key->parts[i].affinity, literal, &f->eq[i], &f->never,
                     &unsure);
        if (rc != SQLITE_OK || f->never)
            return rc;
        if (unsure)
            f->unsure |= UINT32_C(1) << i;
    }
    return SQLITE_OK;
}

static int add_key(struct filter *f)
{
    struct vtab_cursor *cursor = f->cursor;
    size_t begin = cursor->list.len;
    enum armdb_rc rc = key_encode_values(&f->vtab->schema->key, f->eq, &cursor->list);

    if (rc == ARMDB_TOOBIG)
        return SQLITE_OK; /* no row can have such a key */
    if (rc != ARMDB_OK)
        return vtab_cursor_error(cursor, rc, NULL);
    if (f->key_count == cursor->keys_cap) {
        size_t cap = cursor->keys_cap == 0 ? 16 : cursor->keys_cap * 2;
        struct armdb_key *grown = sqlite3_realloc64(cursor->keys, cap * sizeof *grown);

        if (grown == NULL)
            return SQLITE_NOMEM;
        cursor->keys = grown;
        cursor->keys_cap = cap;
    }
    /* The bytes may still move: only the length counts until all are there. */
    cursor->keys[f->key_count].data = NULL;
    cursor->keys[f->key_count].len = cursor->list.len - begin;
    f->key_count++;
    return SQLITE_OK;
}

static int compare_keys(const void *a, const void *b)
{
    const struct armdb_key *x = a;
    const struct armdb_key *y = b;
    size_t n = x->len < y->len ? x->len : y->len;
    int order = n == 0 ? 0 : memcmp(x->data, y->data, n);

    if (order != 0)
        return order;
    return (x->len > y->len) - (x->len < y->len);
}

/* Puts the keys in order, each once: SQLite's list is sorted by value and may hold 'a'
 * and 'A', which are one key under NOCASE. */
static void sort_keys(struct filter *f)
{
    struct armdb_key *keys = f->cursor->keys;
    const unsigned char *at = f->cursor->list.data;
    size_t count = f->key_count;
    size_t kept = 0;

    for (size_t i = 0; i < count; i++) {
        keys[i].data = at;
        at += keys[i].len;
    }
    if (count > 1)
        qsort(keys, count, sizeof *keys, compare_keys);
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || compare_keys(&keys[kept - 1], &keys[i]) != 0)
            keys[kept++] = keys[i];
    }
    if (f->plan.reverse) {
        for (size_t i = 0; i < kept / 2; i++) {
            struct armdb_key key = keys[i];

            keys[i] = keys[kept - 1 - i];
            keys[kept - 1 - i] = key;
        }
    }
    f->key_count = kept;
}

/* Takes the values of an IN, which come as one list. */
static int load_list(struct filter *f)
{
    uint32_t slot = f->plan.list_slot - 1;
    enum affinity affinity = f->vtab->schema->key.parts[slot].affinity;
    sqlite3_value *value = NULL;
    int rc = sqlite3_vtab_in_first(f->argv[slot], &value);

    f->cursor->list.len = 0;
    for (; rc == SQLITE_OK && value != NULL; rc = sqlite3_vtab_in_next(f->argv[slot], &value)) {
        bool never = false;
        bool unsure = false;

        rc = convert(value, affinity, false, &f->eq[slot], &never, &unsure);
        if (rc != SQLITE_OK)
            return rc;
        if (never)
            continue; /* NULL equals nothing */
        if (unsure)
            f->unsure |= UINT32_C(1) << slot;
        rc = add_key(f);
        if (rc != SQLITE_OK)
            return rc;
    }
    if (rc != SQLITE_OK && rc != SQLITE_DONE)
        return rc;
    sort_keys(f);
    f->never = f->key_count == 0;
    return SQLITE_OK;
}

/* ---- Numbers of open meaning ----------------------------------------------------------------- */

/* True when a key with the given first parts has, as the next, a text that may look like
 * a number. */
static int has_numeric_text(struct filter *f, uint32_t part, bool *found)
{
    const struct key_layout *key = &f->vtab->schema->key;
    struct key_range *range = &f->cursor->range;
    struct armdb_range seek = {.keys_only = true, .limit_hint = 1};
    struct armdb_error error = {ARMDB_OK, 0, ""};
    struct sql_value low = {.type = SQLITE_TEXT, .n = 1, .z = "\t"};
    struct sql_value high = {.type = SQLITE_TEXT, .n = 1, .z = ":"};
    enum armdb_rc rc = key_range_begin(key, f->eq, part, range);

    if (rc == ARMDB_OK)
        rc = key_range_narrow(key, part, KEY_GE, &low, range);
    if (rc == ARMDB_OK)
        rc = key_range_narrow(key, part, KEY_LT, &high, range);
    if (rc == ARMDB_OK) {
        key_range_get(range, &seek);
        rc = armdb_cursor_seek_range(f->cursor->rows, &seek, &error);
    }
    *found = rc == ARMDB_OK;
    return rc == ARMDB_DONE ? SQLITE_OK : vtab_cursor_error(f->cursor, rc, &error);
}

/* Drops the equalities from the first on whose meaning matters. */
static int settle_meanings(struct filter *f)
{
    bool unique = f->plan.list_slot == 0 && !f->plan.several &&
                  f->plan.eq_count == f->vtab->schema->key.part_count;

    for (uint32_t i = 0; i < f->plan.eq_count; i++) {
        bool found = false;
        int rc;

        if ((f->unsure >> i & 1) == 0)
            continue;
        rc = has_numeric_text(f, i, &found);
        if (rc != SQLITE_OK)
            return rc;
        if (!found)
            continue;
        if (unique && f->vtab->enlisted && conn_is_writing(f->vtab->conn))
            return errmap_set(&f->vtab->base, SQLITE_MISMATCH,
                              sqlite3_mprintf("a number is compared with column %s, which "
                                              "holds texts that look like numbers; write "
                                              "CAST(... AS TEXT)",
                                              f->vtab->schema
                                                  ->columns[f->vtab->schema->key.parts[i]
                                                                .column]
                                                  .name));
        f->plan.eq_count = i;
        f->plan.list_slot = 0;
        f->plan.low = PLAN_OP_OTHER;
        f->plan.high = PLAN_OP_OTHER;
    }
    return SQLITE_OK;
}

/* ---- Ranges ------------------------------------------------------------------------------------ */

static char to_upper(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - ('a' - 'A')) : c;
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
        char c = i + 1 == low->n ? (char)(b[i] - 1) : b[i];

        if (a[i] != to_upper(a[i]) || (c >= 'A' && c <= 'Z') || a[i] != to_upper(c))
            return false;
    }
    return true;
}

/* Adds the bounds on the part behind the equalities. */
static int add_bounds(struct filter *f)
{
    const struct key_layout *key = &f->vtab->schema->key;
    uint32_t part = f->plan.eq_count;
    struct key_range *range = &f->cursor->range;
    bool has_low = f->plan.low != PLAN_OP_OTHER;
    bool has_high = f->plan.high != PLAN_OP_OTHER;
    struct sql_value low;
    struct sql_value high;
    bool unsure;
    enum armdb_rc rc = ARMDB_OK;
    int converted = SQLITE_OK;

    if (has_low) {
        converted = convert(f->argv[f->at.low], key->parts[part].affinity,
                            f->plan.low_literal, &low, &f->never, &unsure);
        has_low = !unsure;
    }
    if (has_high && converted == SQLITE_OK) {
        converted = convert(f->argv[f->at.high], key->parts[part].affinity,
                            f->plan.high_literal, &high, &f->never, &unsure);
        has_high = !unsure;
    }
    if (converted != SQLITE_OK || f->never)
        return converted;
    if (f->plan.like && !(has_low && has_high && is_like_pair(&low, &high)))
        return SQLITE_OK;
    if (has_low)
        rc = key_range_narrow(key, part, f->plan.low == PLAN_OP_GT ? KEY_GT : KEY_GE, &low,
                              range);
    if (has_high && rc == ARMDB_OK)
        rc = key_range_narrow(key, part, f->plan.high == PLAN_OP_LT ? KEY_LT : KEY_LE,
                              &high, range);
    return vtab_cursor_error(f->cursor, rc, NULL);
}

/* Blobs from the prefix on, up to its successor. */
static enum armdb_rc narrow_to_blobs(struct filter *f)
{
    const struct key_layout *key = &f->vtab->schema->key;
    struct bytebuf *scratch = &f->cursor->scratch;
    struct sql_value value = {.type = SQLITE_BLOB};
    enum armdb_rc rc;

    scratch->len = 0;
    value.n = f->cursor->prefix.len;
    value.z = f->cursor->prefix.data;
    rc = key_range_narrow(key, 0, KEY_GE, &value, &f->cursor->range);
    if (rc == ARMDB_OK)
        rc = bytebuf_append(scratch, f->cursor->prefix.data, f->cursor->prefix.len);
    if (rc == ARMDB_OK && key_successor(scratch)) {
        value.n = scratch->len;
        value.z = scratch->data;
        rc = key_range_narrow(key, 0, KEY_LT, &value, &f->cursor->range);
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
        rc = narrow_to_blobs(f);
    else if (rc == ARMDB_OK)
        rc = key_range_prefix(&f->vtab->schema->key, 0, cursor->prefix.data,
                              cursor->prefix.len, KEY_PREFIX_BYTES, &cursor->range, &exact);
    cursor->tests_prefix = !exact;
    return vtab_cursor_error(cursor, rc, NULL);
}

/* ---- Seeking -------------------------------------------------------------------------------------- */

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
            rc = armdb_lock_key(vtab->store->session, vtab->table, f->cursor->keys[i].data,
                                f->cursor->keys[i].len, &error);
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

    if (f->plan.list_slot != 0)
        return armdb_cursor_seek_keys(cursor->rows, cursor->keys, f->key_count, err);
    if (f->key_count == 1)
        return armdb_cursor_seek_key(cursor->rows, cursor->keys[0].data,
                                     cursor->keys[0].len, err);
    if (limit != 0)
        range.limit_hint = limit + row_number(f, f->at.offset);
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
        sqlite_rc = add_key(f);
        f->never = f->key_count == 0;
        if (sqlite_rc == SQLITE_OK && !f->never)
            f->cursor->keys[0].data = f->cursor->list.data;
        return sqlite_rc;
    }
    rc = key_range_begin(key, f->eq, f->plan.eq_count, &f->cursor->range);
    if (rc != ARMDB_OK)
        return vtab_cursor_error(f->cursor, rc, NULL);
    sqlite_rc = add_bounds(f);
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
        rc = vtab_cursor_step(cursor, armdb_cursor_next(cursor->rows, &error), &error);
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
    if (argc != f.at.count)
        return SQLITE_MISUSE;
    if (f.plan.empty)
        return SQLITE_OK;
    if (armdb_in_transaction(f.vtab->store->session))
        armdb_statement_begin(f.vtab->store->session);
    else if (f.vtab->store->drops != NULL)
        drop_settle(f.vtab->store, 0);
    rc = load_equalities(&f);
    if (rc == SQLITE_OK && !f.never && f.plan.list_slot != 0)
        rc = load_list(&f);
    if (rc == SQLITE_OK && !f.never && f.unsure != 0)
        rc = settle_meanings(&f);
    if (rc == SQLITE_OK && !f.never)
        rc = prepare_seek(&f);
    if (rc != SQLITE_OK || f.never)
        return rc;
    return go_to_first(&f);
}

/* filter.c - xFilter: the chosen plan, with its values, becomes a seek.
 *
 * The arguments are converted as SQLite would before comparing (affinity_compare) and
 * encoded; the rest is one call of the engine: a key, a list of keys, or a range.
 *
 * A number compared with a TEXT column, or one without a type, has two meanings (see
 * plan.c). All texts that are this number may be wanted ('5', '05', '5.0'), and SQLite,
 * to which such terms are left (omit is not set), tests each row. Texts that look like
 * numbers begin with a space, a sign, a point or a digit, so they lie in one short range
 * of the order, which is looked through here: mostly there is none, or one that is this
 * number, and then there is one key again.
 * Several become a list, sorted by what follows in the key if the plan's order leans on
 * the column being constant. What is left over is a plan for at most one row in an UPDATE
 * or DELETE, where SQLite looks at the first row only, and two such columns at once where
 * the order leans on them. The first is taken by its own meaning if it is a parameter
 * and no CAST is about; else both are refused, with a text that says what to write
 * instead.
 *
 * A list (IN) makes a sorted list of keys, which the engine looks up as one batch, or,
 * when it is followed by less than a whole key, a sorted list of ranges, walked one after
 * the other: in both cases rows come in key order.
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
    struct sql_value number[PLAN_EQ_MAX]; /* as it came, where the meaning is open */
    struct sql_value low;                 /* if has_low */
    struct sql_value high;                /* if has_high */
    bool has_low;
    bool has_high;
    uint32_t unsure; /* bit i: the meaning of equality i is open */
    bool never;      /* no row can satisfy the terms */
    size_t key_count;
};

/* ---- Equalities ---- */

/* Converts one right-hand side. *unsure: its meaning is open. */
static int convert(sqlite3_value *in, enum affinity affinity, bool literal,
                   struct sql_value *out, bool *never, bool *unsure)
{
    enum rhs_fit fit = RHS_EXACT;
    int rc = affinity_compare(in, affinity, out, &fit);

    *unsure = rc == SQLITE_OK && fit == RHS_UNSURE && !literal;
    if (rc == SQLITE_OK && fit == RHS_NEVER)
        *never = true;
    return rc;
}

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
        rc = convert(f->argv[i], key->parts[i].affinity, literal, &f->eq[i], &f->never,
                     &unsure);
        if (rc != SQLITE_OK || f->never)
            return rc;
        if (!unsure)
            continue;
        f->unsure |= UINT32_C(1) << i;
        f->number[i] = number;
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

/* ---- Ranges ---- */

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

/* Narrows cursor->range, which key_range_begin() has set, by the bounds loaded. */
static int add_bounds(struct filter *f)
{
    const struct key_layout *key = &f->vtab->schema->key;
    uint32_t part = f->plan.eq_count;
    struct key_range *range = &f->cursor->range;
    enum armdb_rc rc = ARMDB_OK;
    bool exact;

    if (f->has_low && f->plan.low == PLAN_OP_GLOB)
        rc = key_range_prefix(key, part, f->low.z, f->low.n, KEY_PREFIX_BYTES, range,
                              &exact);
    else if (f->has_low)
        rc = key_range_narrow(key, part, f->plan.low == PLAN_OP_GT ? KEY_GT : KEY_GE,
                              &f->low, range);
    if (f->has_high && rc == ARMDB_OK)
        rc = key_range_narrow(key, part, f->plan.high == PLAN_OP_LT ? KEY_LT : KEY_LE,
                              &f->high, range);
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
                              cursor->prefix.len, KEY_PREFIX_BYTES, &cursor->range,
                              &exact);
    cursor->tests_prefix = !exact;
    return vtab_cursor_error(cursor, rc, NULL);
}

/* ---- Lists ---- */

static int compare_bytes(const void *a, size_t a_len, const void *b, size_t b_len)
{
    size_t n = a_len < b_len ? a_len : b_len;
    int order = n == 0 ? 0 : memcmp(a, b, n);

    return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

static int compare_keys(const void *a, const void *b)
{
    const struct armdb_key *x = a;
    const struct armdb_key *y = b;

    return compare_bytes(x->data, x->len, y->data, y->len);
}

static int compare_spans(const void *a, const void *b)
{
    const struct vtab_span *x = a;
    const struct vtab_span *y = b;

    return compare_bytes(x->low, x->low_len, y->low, y->low_len);
}

/* Sorts the elements, keeps each once, and turns them round for a reverse scan. Returns
 * how many are left. SQLite's list is sorted by value and may hold 'a' and 'A', which are
 * one key under NOCASE. */
static size_t sort_once(void *base, size_t count, size_t size, bool reverse,
                        int (*compare)(const void *, const void *))
{
    unsigned char *at = base;
    size_t kept = 0;

    if (count > 1)
        qsort(base, count, size, compare);
    for (size_t i = 0; i < count; i++) {
        if (kept != 0 && compare(at + (kept - 1) * size, at + i * size) == 0)
            continue;
        if (kept != i)
            memcpy(at + kept * size, at + i * size, size);
        kept++;
    }
    for (size_t i = 0; reverse && i < kept / 2; i++) {
        for (size_t b = 0; b < size; b++) {
            unsigned char byte = at[i * size + b];

            at[i * size + b] = at[(kept - 1 - i) * size + b];
            at[(kept - 1 - i) * size + b] = byte;
        }
    }
    return kept;
}

/* Adds the range of the present value: what key_range has been set to. */
static int add_span(struct filter *f)
{
    struct vtab_cursor *cursor = f->cursor;
    struct armdb_range range;
    struct vtab_span *span;
    enum armdb_rc rc;

    if (key_range_is_empty(&cursor->range))
        return SQLITE_OK;
    if (cursor->span_count == cursor->span_cap) {
        size_t cap = cursor->span_cap == 0 ? 16 : cursor->span_cap * 2;
        struct vtab_span *grown = sqlite3_realloc64(cursor->spans, cap * sizeof *grown);

        if (grown == NULL)
            return SQLITE_NOMEM;
        cursor->spans = grown;
        cursor->span_cap = cap;
    }
    key_range_get(&cursor->range, &range);
    rc = bytebuf_append(&cursor->list, range.low, range.low_len);
    if (rc == ARMDB_OK)
        rc = bytebuf_append(&cursor->list, range.high, range.high_len);
    if (rc != ARMDB_OK)
        return vtab_cursor_error(cursor, rc, NULL);
    span = &cursor->spans[cursor->span_count++];
    span->prefix_len = cursor->range.prefix_len;
    span->low = NULL; /* the bytes may still move */
    span->low_len = range.low_len;
    span->low_bound = range.low_bound;
    span->high = NULL;
    span->high_len = range.high_len;
    span->high_bound = range.high_bound;
    return SQLITE_OK;
}

/* One value of the list has been put into eq[]: a whole key, or the start of a range. */
static int add_value(struct filter *f)
{
    const struct key_layout *key = &f->vtab->schema->key;
    enum armdb_rc rc;
    int added;

    if (f->plan.eq_count == key->part_count)
        return add_key(f);
    rc = key_range_begin(key, f->eq, f->plan.eq_count, &f->cursor->range);
    if (rc != ARMDB_OK)
        return vtab_cursor_error(f->cursor, rc, NULL);
    added = add_bounds(f);
    return added == SQLITE_OK && !f->never ? add_span(f) : added;
}

/* All values are there: finds their bytes, and puts them in order. */
static void finish_list(struct filter *f)
{
    struct vtab_cursor *cursor = f->cursor;
    const unsigned char *at = cursor->list.data;

    for (size_t i = 0; i < f->key_count; i++) {
        cursor->keys[i].data = at;
        at += cursor->keys[i].len;
    }
    for (size_t i = 0; i < cursor->span_count; i++) {
        cursor->spans[i].low = at;
        cursor->spans[i].high = at + cursor->spans[i].low_len;
        at += cursor->spans[i].low_len + cursor->spans[i].high_len;
    }
    f->key_count = sort_once(cursor->keys, f->key_count, sizeof *cursor->keys,
                             f->plan.reverse, compare_keys);
    cursor->span_count = sort_once(cursor->spans, cursor->span_count,
                                   sizeof *cursor->spans, f->plan.reverse, compare_spans);
    if (f->key_count == 0 && cursor->span_count == 0)
        f->never = true;
}

/* Takes the values of an IN, which come as one list. */
static int load_list(struct filter *f)
{
    uint32_t slot = f->plan.list_slot - 1;
    enum affinity affinity = f->vtab->schema->key.parts[slot].affinity;
    sqlite3_value *value = NULL;
    int rc = sqlite3_vtab_in_first(f->argv[slot], &value);

    f->cursor->list.len = 0;
    while (rc == SQLITE_OK && value != NULL) {
        bool never = false;
        bool unsure = false;

        rc = convert(value, affinity, false, &f->eq[slot], &never, &unsure);
        if (rc == SQLITE_OK && unsure)
            f->unsure |= UINT32_C(1) << slot;
        if (rc == SQLITE_OK && !never) /* NULL equals nothing */
            rc = add_value(f);
        if (rc == SQLITE_OK)
            rc = sqlite3_vtab_in_next(f->argv[slot], &value);
    }
    if (rc != SQLITE_OK && rc != SQLITE_DONE)
        return rc;
    finish_list(f);
    return SQLITE_OK;
}

/* ---- Numbers of open meaning ---- */

/* Finds, behind the given first parts, the next text that may look like a number: the
 * first one, or the one above cursor->text, into which it is put. */
static int next_text(struct filter *f, uint32_t part, bool first, bool *found)
{
    const struct key_layout *key = &f->vtab->schema->key;
    struct vtab_cursor *cursor = f->cursor;
    struct armdb_range seek = {.keys_only = true, .limit_hint = 1};
    struct armdb_error error = {ARMDB_OK, 0, ""};
    struct sql_value low = {.type = SQLITE_TEXT, .n = 1, .z = "\t"};
    struct sql_value high = {.type = SQLITE_TEXT, .n = 1, .z = ":"};
    struct sql_value text;
    const void *bytes;
    size_t len;
    bool exact;
    enum armdb_rc rc = key_range_begin(key, f->eq, part, &cursor->range);

    *found = false;
    if (!first) {
        low.z = cursor->text.data;
        low.n = cursor->text.len;
    }
    /* A DESC column is walked from its lowest text as well. */
    seek.reverse = key->parts[part].desc;
    if (rc == ARMDB_OK)
        rc = key_range_narrow(key, part, first ? KEY_GE : KEY_GT, &low, &cursor->range);
    if (rc == ARMDB_OK)
        rc = key_range_narrow(key, part, KEY_LT, &high, &cursor->range);
    if (rc == ARMDB_OK && !key_range_is_empty(&cursor->range)) {
        key_range_get(&cursor->range, &seek);
        rc = armdb_cursor_seek_range(cursor->rows, &seek, &error);
        *found = rc == ARMDB_OK;
    }
    if (*found) {
        armdb_cursor_key(cursor->rows, &bytes, &len);
        rc = key_decode(key, bytes, len, part, &cursor->scratch, &text, &exact);
        cursor->text.len = 0;
        if (rc == ARMDB_OK)
            rc = bytebuf_append(&cursor->text, text.z, text.n);
    }
    return rc == ARMDB_DONE ? SQLITE_OK : vtab_cursor_error(cursor, rc, &error);
}

/* Asks SQLite if cursor->text, taken for a number, is this one. */
static int is_number(sqlite3_stmt **stmt, const struct filter *f,
                     const struct sql_value *number, bool *same)
{
    struct sql_value text = {.type = SQLITE_TEXT};
    int rc = SQLITE_OK;

    *same = false;
    if (*stmt == NULL)
        rc = conn_prepare(f->vtab->conn->db, stmt, "SELECT ?1 = CAST(?2 AS NUMERIC)");
    if (rc == SQLITE_OK)
        rc = sql_value_bind(*stmt, 2, number);
    text.n = f->cursor->text.len;
    text.z = f->cursor->text.data;
    if (rc == SQLITE_OK)
        rc = sql_value_bind(*stmt, 1, &text);
    if (rc == SQLITE_OK && sqlite3_step(*stmt) == SQLITE_ROW)
        *same = sqlite3_column_int(*stmt, 0) != 0;
    if (rc == SQLITE_OK)
        rc = sqlite3_reset(*stmt);
    return rc;
}

/* True when cursor->text is the value that stands for the number anyway. */
static bool is_base(const struct filter *f, const struct sql_value *base)
{
    const struct bytebuf *text = &f->cursor->text;

    return base->type == SQLITE_TEXT &&
           compare_bytes(base->z, base->n, text->data, text->len) == 0;
}

/* What walk_spellings() found. */
struct spellings {
    uint32_t others; /* texts that are the number, besides the one it converts to */
    bool base;       /* that one is there */
};

/* Walks over the texts that are this number. Without `add`, counts them and keeps the
 * last one; with it, each becomes a value of the list. */
static int walk_spellings(struct filter *f, uint32_t part, bool add,
                          struct spellings *found)
{
    struct vtab_cursor *cursor = f->cursor;
    const struct sql_value base = f->eq[part];
    sqlite3_stmt *stmt = NULL;
    bool more = true;
    int rc = SQLITE_OK;

    memset(found, 0, sizeof *found);
    for (bool first = true; rc == SQLITE_OK; first = false) {
        bool same = false;

        rc = next_text(f, part, first, &more);
        if (rc != SQLITE_OK || !more)
            break;
        if (is_base(f, &base)) {
            found->base = true;
            continue;
        }
        rc = is_number(&stmt, f, &f->number[part], &same);
        if (rc != SQLITE_OK || !same)
            continue;
        found->others++;
        cursor->kept.len = 0;
        rc = vtab_cursor_error(
            cursor, bytebuf_append(&cursor->kept, cursor->text.data, cursor->text.len),
            NULL);
        if (rc == SQLITE_OK && add) {
            f->eq[part].type = SQLITE_TEXT;
            f->eq[part].n = cursor->kept.len;
            f->eq[part].z = cursor->kept.data;
            rc = add_value(f);
        }
    }
    sqlite3_finalize(stmt);
    return rc;
}

/* The part takes several spellings of the number: they become a list. */
static int list_spellings(struct filter *f, uint32_t part)
{
    struct spellings found;
    int rc;

    f->cursor->list.len = 0;
    f->plan.list_slot = part + 1;
    rc = add_value(f);
    if (rc == SQLITE_OK)
        rc = walk_spellings(f, part, true, &found);
    if (rc == SQLITE_OK)
        finish_list(f);
    return rc;
}

static int compare_rests(const void *a, const void *b)
{
    const struct vtab_span *x = a;
    const struct vtab_span *y = b;
    int order = compare_bytes(x->low + x->prefix_len, x->low_len - x->prefix_len,
                              y->low + y->prefix_len, y->low_len - y->prefix_len);

    return order != 0 ? order : compare_spans(a, b);
}

/* Adds the key of the row that the cursor is at. */
static enum armdb_rc collect_key(struct vtab_cursor *cursor, struct vtab_span **keys,
                                 size_t count, size_t *cap)
{
    const void *key;
    size_t len;

    if (count == *cap) {
        size_t more = *cap == 0 ? 64 : *cap * 2;
        struct vtab_span *grown = sqlite3_realloc64(*keys, more * sizeof *grown);

        if (grown == NULL)
            return ARMDB_NOMEM;
        *keys = grown;
        *cap = more;
    }
    armdb_cursor_key(cursor->rows, &key, &len);
    memset(&(*keys)[count], 0, sizeof **keys);
    (*keys)[count].low_len = len;
    (*keys)[count].prefix_len = cursor->spans[cursor->span_at].prefix_len;
    return bytebuf_append(&cursor->collected, key, len);
}

/* Puts the collected keys in order, and makes them the list. */
static int list_collected(struct filter *f, struct vtab_span *keys, size_t count)
{
    struct vtab_cursor *cursor = f->cursor;
    const unsigned char *at = cursor->collected.data;

    for (size_t i = 0; i < count; i++) {
        keys[i].low = at;
        at += keys[i].low_len;
    }
    count = sort_once(keys, count, sizeof *keys, f->plan.reverse, compare_rests);
    if (count > cursor->keys_cap) {
        struct armdb_key *grown = sqlite3_realloc64(cursor->keys, count * sizeof *grown);

        if (grown == NULL)
            return SQLITE_NOMEM;
        cursor->keys = grown;
        cursor->keys_cap = count;
    }
    for (size_t i = 0; i < count; i++) {
        cursor->keys[i].data = keys[i].low;
        cursor->keys[i].len = keys[i].low_len;
    }
    f->key_count = count;
    f->never = count == 0;
    return SQLITE_OK;
}

/* Rows of several spellings are wanted in the order of what follows: takes all their
 * keys and sorts them so. */
static int collect_keys(struct filter *f)
{
    struct vtab_cursor *cursor = f->cursor;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    struct vtab_span *keys = NULL;
    size_t count = 0;
    size_t cap = 0;
    enum armdb_rc rc;
    int sqlite_rc;

    cursor->collected.len = 0;
    memset(&cursor->span_range, 0, sizeof cursor->span_range);
    cursor->span_range.keys_only = true;
    rc = vtab_cursor_seek_span(cursor, &error);
    while (rc == ARMDB_OK) {
        rc = collect_key(cursor, &keys, count, &cap);
        if (rc == ARMDB_OK) {
            count++;
            rc = vtab_cursor_next_row(cursor, &error);
        }
    }
    cursor->span_count = 0;
    cursor->span_at = 0;
    sqlite_rc = rc == ARMDB_DONE ? list_collected(f, keys, count)
                                 : vtab_cursor_error(cursor, rc, &error);
    sqlite3_free(keys);
    return sqlite_rc;
}

static int refuse_number(struct filter *f, uint32_t part)
{
    const struct schema *schema = f->vtab->schema;

    return errmap_set(
        &f->vtab->base, SQLITE_MISMATCH,
        sqlite3_mprintf(
            "a number is compared with column %s, which holds several texts that "
            "are that number; write CAST(... AS TEXT)",
            schema->columns[schema->key.parts[part].column].name));
}

/* Leaves out the equalities from this one on; SQLite tests each row. A list before it
 * is made again, of fewer parts. */
static int widen(struct filter *f, uint32_t part)
{
    if (f->plan.leans)
        return refuse_number(f, part);
    f->plan.eq_count = part;
    f->has_low = false;
    f->has_high = false;
    f->key_count = 0;
    f->cursor->span_count = 0;
    if (part + 1 > f->plan.list_slot && f->plan.list_slot != 0)
        return load_list(f);
    f->plan.list_slot = 0;
    return SQLITE_OK;
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
        rc = next_text(f, f->plan.eq_count, true, &found);
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
        rc = convert(f->argv[f->at.low], affinity, plan->low_literal, &f->low, &f->never,
                     &unsure);
        /* Above a number lie all texts, and all that are no number to a TEXT column. */
        f->has_low = !unsure || affinity != AFFINITY_TEXT;
    }
    if (rc == SQLITE_OK && f->has_high) {
        rc = convert(f->argv[f->at.high], affinity, plan->high_literal, &f->high,
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

/* True when a row has the value itself in this part, behind the given first parts. */
static int has_value(struct filter *f, uint32_t part, bool *found)
{
    struct vtab_cursor *cursor = f->cursor;
    struct armdb_range seek = {.keys_only = true, .limit_hint = 1};
    struct armdb_error error = {ARMDB_OK, 0, ""};
    enum armdb_rc rc =
        key_range_begin(&f->vtab->schema->key, f->eq, part + 1, &cursor->range);

    if (rc == ARMDB_OK) {
        key_range_get(&cursor->range, &seek);
        rc = armdb_cursor_seek_range(cursor->rows, &seek, &error);
    }
    *found = rc == ARMDB_OK;
    return rc == ARMDB_DONE ? SQLITE_OK : vtab_cursor_error(cursor, rc, &error);
}

/* One equality of open meaning. *several: it is to become a list. */
static int settle_meaning(struct filter *f, uint32_t part, bool several_before,
                          bool *several)
{
    bool itself = f->vtab->schema->key.parts[part].affinity == AFFINITY_BLOB;
    bool unique = f->plan.eq_count == f->vtab->schema->key.part_count && !f->plan.several;
    struct spellings found;
    bool more = true;
    int rc = SQLITE_OK;

    if (several_before || f->plan.list_slot != 0) {
        /* Behind a list there is no one prefix to look under. */
        if (!several_before && part < f->plan.list_slot)
            rc = next_text(f, part, true, &more);
        return rc == SQLITE_OK && more ? widen(f, part) : rc;
    }
    rc = walk_spellings(f, part, false, &found);
    if (rc != SQLITE_OK || found.others == 0)
        return rc;
    if (!unique || !f->vtab->enlisted || f->vtab->open_count != 1 ||
        !conn_is_changing(f->vtab->conn, f->plan.whole)) {
        *several = true;
        return SQLITE_OK;
    }
    if (itself)
        rc = has_value(f, part, &found.base);
    if (rc != SQLITE_OK)
        return rc;
    if (found.others > 1 || found.base) {
        /* One row is wanted: a parameter means its own text, or itself; but one that
         * went through a CAST still looks like a parameter. */
        if (sqlite3_value_frombind(f->argv[part]) && !conn_has_cast(f->vtab->conn))
            return SQLITE_OK;
        return refuse_number(f, part);
    }
    f->eq[part].type = SQLITE_TEXT;
    f->eq[part].n = f->cursor->kept.len;
    f->eq[part].z = f->cursor->kept.data;
    return SQLITE_OK;
}

static int settle_meanings(struct filter *f)
{
    uint32_t several_at = 0;
    bool several = false;
    int rc = SQLITE_OK;

    for (uint32_t i = 0; rc == SQLITE_OK && i < f->plan.eq_count; i++) {
        bool before = several;

        if ((f->unsure >> i & 1) == 0)
            continue;
        rc = settle_meaning(f, i, before, &several);
        if (several && !before)
            several_at = i;
    }
    if (rc != SQLITE_OK || !several)
        return rc;
    rc = list_spellings(f, several_at);
    if (rc == SQLITE_OK && !f->never && f->plan.leans)
        rc = collect_keys(f);
    return rc;
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
        rc = load_list(&f);
    if (rc == SQLITE_OK && !f.never && f.unsure != 0)
        rc = settle_meanings(&f);
    if (rc == SQLITE_OK && !f.never)
        rc = prepare_seek(&f);
    if (rc == SQLITE_OK && f.never)
        return vtab_hold_snapshot(f.vtab);
    if (rc != SQLITE_OK)
        return rc;
    return go_to_first(&f);
}

/* filter_list.c - values become keys and ranges, one or a sorted list of them.
 *
 * A list (IN) makes a sorted list of keys, which the engine looks up as one batch, or,
 * when it is followed by less than a whole key, a sorted list of ranges, walked one after
 * the other: in both cases rows come in key order. Where the plan's order leans on the
 * column being constant, the keys below all ranges are collected and sorted by what
 * follows in them. */
#include <stdlib.h>
#include <string.h>

#include "ext/filter_private.h"

SQLITE_EXTENSION_INIT3

int filter_convert(sqlite3_value *in, enum affinity affinity, bool literal,
                   struct sql_value *out, bool *never, bool *unsure)
{
    enum rhs_fit fit = RHS_EXACT;
    int rc = affinity_compare(in, affinity, out, &fit);

    *unsure = rc == SQLITE_OK && fit == RHS_UNSURE && !literal;
    if (rc == SQLITE_OK && fit == RHS_NEVER)
        *never = true;
    return rc;
}

int filter_add_key(struct filter *f)
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

int filter_add_bounds(struct filter *f)
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

int filter_add_value(struct filter *f)
{
    const struct key_layout *key = &f->vtab->schema->key;
    enum armdb_rc rc;
    int added;

    if (f->plan.eq_count == key->part_count)
        return filter_add_key(f);
    rc = key_range_begin(key, f->eq, f->plan.eq_count, &f->cursor->range);
    if (rc != ARMDB_OK)
        return vtab_cursor_error(f->cursor, rc, NULL);
    added = filter_add_bounds(f);
    return added == SQLITE_OK && !f->never ? add_span(f) : added;
}

void filter_finish_list(struct filter *f)
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

int filter_load_list(struct filter *f)
{
    uint32_t slot = f->plan.list_slot - 1;
    enum affinity affinity = f->vtab->schema->key.parts[slot].affinity;
    sqlite3_value *value = NULL;
    int rc = sqlite3_vtab_in_first(f->argv[slot], &value);

    f->cursor->list.len = 0;
    while (rc == SQLITE_OK && value != NULL) {
        bool never = false;
        bool unsure = false;

        rc = filter_convert(value, affinity, false, &f->eq[slot], &never, &unsure);
        if (rc == SQLITE_OK && unsure)
            f->unsure |= UINT32_C(1) << slot;
        if (rc == SQLITE_OK && !never) /* NULL equals nothing */
            rc = filter_add_value(f);
        if (rc == SQLITE_OK)
            rc = sqlite3_vtab_in_next(f->argv[slot], &value);
    }
    if (rc != SQLITE_OK && rc != SQLITE_DONE)
        return rc;
    filter_finish_list(f);
    return SQLITE_OK;
}

/* ---- Keys in another order ---- */

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

int filter_collect_keys(struct filter *f)
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

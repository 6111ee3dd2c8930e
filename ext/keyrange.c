/* keyrange.c - comparisons with key columns as two bounds in key order.
 *
 * A bound is the prefix P of the equal columns and the encoding e of a value of the
 * next one. Keys equal to the value are exactly P+e if the column is the key's last,
 * else those that begin with P+e; key_successor() gives what lies just above these:
 *
 *             column is last        column has others behind it
 *   col >  v  above P+e             from successor(P+e)
 *   col >= v  from P+e              from P+e
 *   col <  v  below P+e             below P+e
 *   col <= v  to P+e                below successor(P+e)
 *
 * In a DESC column encodings are complemented, so < and >, low and high change places
 * and nothing else. Every tag lies between 08 and F7, complemented or not, so that a
 * successor never changes bytes of P.
 *
 * A bound longer than any key is cut at the limit and made exclusive below, inclusive
 * above: as no key is longer, the same keys are inside. */
#include <string.h>

#include "ext/keycodec.h"
#include "ext/keycodec_private.h"

SQLITE_EXTENSION_INIT3

void key_range_init(struct key_range *range)
{
    bytebuf_init(&range->low);
    bytebuf_init(&range->high);
    bytebuf_init(&range->scratch);
    range->low_bound = ARMDB_BOUND_OPEN;
    range->high_bound = ARMDB_BOUND_OPEN;
    range->prefix_len = 0;
}

void key_range_fini(struct key_range *range)
{
    bytebuf_fini(&range->low);
    bytebuf_fini(&range->high);
    bytebuf_fini(&range->scratch);
}

bool key_successor(struct bytebuf *bytes)
{
    while (bytes->len > 0 && bytes->data[bytes->len - 1] == 0xff)
        bytes->len--;
    if (bytes->len == 0)
        return false;
    bytes->data[bytes->len - 1]++;
    return true;
}

static int compare_bytes(const struct bytebuf *a, const struct bytebuf *b)
{
    size_t n = a->len < b->len ? a->len : b->len;
    int order = n == 0 ? 0 : memcmp(a->data, b->data, n);

    if (order != 0)
        return order;
    return a->len < b->len ? -1 : a->len > b->len;
}

static void swap_buffers(struct bytebuf *a, struct bytebuf *b)
{
    struct bytebuf keep = *a;

    *a = *b;
    *b = keep;
}

/* Applies the rule for bounds longer than any key (see the essay). */
static enum armdb_bound cut_bound(struct bytebuf *bytes, enum armdb_bound bound,
                                  enum armdb_bound bound_when_cut)
{
    if (bytes->len <= ARMDB_KEY_BYTES_MAX)
        return bound;
    bytes->len = ARMDB_KEY_BYTES_MAX;
    return bound_when_cut;
}

/* Takes the bound in scratch as the low one if it is tighter than the one held. */
static void raise_low(struct key_range *range, enum armdb_bound bound)
{
    int order;

    bound = cut_bound(&range->scratch, bound, ARMDB_BOUND_EXCLUSIVE);
    order = compare_bytes(&range->scratch, &range->low);
    if (range->low_bound == ARMDB_BOUND_OPEN || order > 0) {
        swap_buffers(&range->scratch, &range->low);
        range->low_bound = bound;
    } else if (order == 0 && bound == ARMDB_BOUND_EXCLUSIVE) {
        range->low_bound = bound;
    }
}

static void lower_high(struct key_range *range, enum armdb_bound bound)
{
    int order;

    bound = cut_bound(&range->scratch, bound, ARMDB_BOUND_INCLUSIVE);
    order = compare_bytes(&range->scratch, &range->high);
    if (range->high_bound == ARMDB_BOUND_OPEN || order < 0) {
        swap_buffers(&range->scratch, &range->high);
        range->high_bound = bound;
    } else if (order == 0 && bound == ARMDB_BOUND_EXCLUSIVE) {
        range->high_bound = bound;
    }
}

/* Takes what lies just above everything that begins with scratch as a bound. A prefix
 * over the limit is cut, and its successor with it: the cut bound says the same. */
static void raise_low_above(struct key_range *range)
{
    if (range->scratch.len > ARMDB_KEY_BYTES_MAX)
        raise_low(range, ARMDB_BOUND_EXCLUSIVE);
    else if (key_successor(&range->scratch))
        raise_low(range, ARMDB_BOUND_INCLUSIVE);
}

static void lower_high_above(struct key_range *range)
{
    if (range->scratch.len > ARMDB_KEY_BYTES_MAX)
        lower_high(range, ARMDB_BOUND_INCLUSIVE);
    else if (key_successor(&range->scratch))
        lower_high(range, ARMDB_BOUND_EXCLUSIVE);
}

enum armdb_rc key_range_begin(const struct key_layout *layout, const struct sql_value *eq,
                              uint32_t eq_count, struct key_range *range)
{
    enum armdb_rc rc = ARMDB_OK;

    range->low.len = 0;
    range->high.len = 0;
    range->scratch.len = 0;
    range->low_bound = ARMDB_BOUND_OPEN;
    range->high_bound = ARMDB_BOUND_OPEN;
    range->prefix_len = 0;
    if (eq_count == 0)
        return ARMDB_OK;
    for (uint32_t p = 0; rc == ARMDB_OK && p < eq_count; p++)
        rc = key_encode_part(&layout->parts[p], p + 1 == layout->part_count, &eq[p],
                             &range->low);
    if (rc == ARMDB_OK)
        rc = bytebuf_append(&range->scratch, range->low.data, range->low.len);
    if (rc != ARMDB_OK)
        return rc;
    range->low_bound =
        cut_bound(&range->low, ARMDB_BOUND_INCLUSIVE, ARMDB_BOUND_EXCLUSIVE);
    range->prefix_len = range->low.len;
    if (eq_count == layout->part_count)
        lower_high(range, ARMDB_BOUND_INCLUSIVE);
    else
        lower_high_above(range);
    return ARMDB_OK;
}

/* Puts the prefix of equal columns into scratch. Every low bound begins with it. */
static enum armdb_rc start_bound(struct key_range *range)
{
    range->scratch.len = 0;
    return bytebuf_append(&range->scratch, range->low.data, range->prefix_len);
}

enum armdb_rc key_range_narrow(const struct key_layout *layout, uint32_t part,
                               enum key_op op, const struct sql_value *value,
                               struct key_range *range)
{
    bool last = part + 1 == layout->part_count;
    bool desc = layout->parts[part].desc;
    bool is_low = (op == KEY_GT || op == KEY_GE) != desc;
    bool with_equal = op == KEY_GE || op == KEY_LE;
    enum armdb_rc rc = start_bound(range);

    if (rc == ARMDB_OK)
        rc = key_encode_part(&layout->parts[part], last, value, &range->scratch);
    if (rc != ARMDB_OK)
        return rc;
    if (is_low) {
        if (with_equal)
            raise_low(range, ARMDB_BOUND_INCLUSIVE);
        else if (last)
            raise_low(range, ARMDB_BOUND_EXCLUSIVE);
        else
            raise_low_above(range);
    } else {
        if (!with_equal)
            lower_high(range, ARMDB_BOUND_EXCLUSIVE);
        else if (last)
            lower_high(range, ARMDB_BOUND_INCLUSIVE);
        else
            lower_high_above(range);
    }
    return ARMDB_OK;
}

static bool has_letters(const unsigned char *z, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = z[i];

        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
            return true;
    }
    return false;
}

/* Shortens a prefix to what the collation's encodings keep of it, and says whether
 * the range of what is left is exact. */
static bool fit_prefix(const struct key_part *part, const unsigned char *z, size_t *n,
                       enum key_prefix_case prefix_case)
{
    size_t whole = *n;
    const unsigned char *nul = NULL;

    switch (part->collation) {
    case COLLATION_RTRIM:
        while (*n > 0 && z[*n - 1] == ' ')
            (*n)--;
        break;
    case COLLATION_NOCASE:
        nul = whole == 0 ? NULL : memchr(z, 0, whole);
        if (nul != NULL)
            *n = (size_t)(nul - z);
        break;
    case COLLATION_BINARY:
        break;
    }
    if (*n != whole)
        return false;
    if ((part->collation == COLLATION_NOCASE) == (prefix_case == KEY_PREFIX_ANY_CASE))
        return true;
    return !has_letters(z, whole);
}

enum armdb_rc key_range_prefix(const struct key_layout *layout, uint32_t part,
                               const void *prefix, size_t prefix_len,
                               enum key_prefix_case prefix_case, struct key_range *range,
                               bool *exact)
{
    const struct key_part *column = &layout->parts[part];
    bool last = part + 1 == layout->part_count;
    enum letter_case first = LETTERS_AS_THEY_ARE; /* in the low bound */
    enum letter_case second = LETTERS_AS_THEY_ARE;
    enum armdb_rc rc;

    *exact = fit_prefix(column, prefix, &prefix_len, prefix_case);
    if (column->collation == COLLATION_NOCASE) {
        first = LETTERS_LOWER;
        second = LETTERS_LOWER;
    } else if (prefix_case == KEY_PREFIX_ANY_CASE) {
        first = column->desc ? LETTERS_LOWER : LETTERS_UPPER;
        second = column->desc ? LETTERS_UPPER : LETTERS_LOWER;
    }
    rc = start_bound(range);
    if (rc == ARMDB_OK)
        rc = key_encode_prefix(column, last, SQLITE_TEXT, prefix, prefix_len, first,
                               &range->scratch);
    if (rc != ARMDB_OK)
        return rc;
    raise_low(range, ARMDB_BOUND_INCLUSIVE);
    rc = start_bound(range);
    if (rc == ARMDB_OK)
        rc = key_encode_prefix(column, last, SQLITE_TEXT, prefix, prefix_len, second,
                               &range->scratch);
    if (rc != ARMDB_OK)
        return rc;
    lower_high_above(range);
    return ARMDB_OK;
}

enum armdb_rc key_range_blobs(const struct key_layout *layout, uint32_t part,
                              const void *prefix, size_t prefix_len,
                              struct key_range *range)
{
    const struct key_part *column = &layout->parts[part];
    bool last = part + 1 == layout->part_count;
    enum armdb_rc rc = start_bound(range);

    if (rc == ARMDB_OK)
        rc = key_encode_prefix(column, last, SQLITE_BLOB, prefix, prefix_len,
                               LETTERS_AS_THEY_ARE, &range->scratch);
    if (rc != ARMDB_OK)
        return rc;
    raise_low(range, ARMDB_BOUND_INCLUSIVE);
    rc = start_bound(range);
    if (rc == ARMDB_OK)
        rc = key_encode_prefix(column, last, SQLITE_BLOB, prefix, prefix_len,
                               LETTERS_AS_THEY_ARE, &range->scratch);
    if (rc != ARMDB_OK)
        return rc;
    lower_high_above(range);
    return ARMDB_OK;
}

enum armdb_rc key_range_above(const struct key_layout *layout, uint32_t part, int type,
                              const void *prefix, size_t prefix_len,
                              struct key_range *range)
{
    const struct key_part *column = &layout->parts[part];
    enum armdb_rc rc = start_bound(range);

    if (rc == ARMDB_OK)
        rc = key_encode_prefix(column, part + 1 == layout->part_count, type, prefix,
                               prefix_len, LETTERS_AS_THEY_ARE, &range->scratch);
    if (rc != ARMDB_OK)
        return rc;
    if (column->desc)
        lower_high(range, ARMDB_BOUND_EXCLUSIVE);
    else
        raise_low_above(range);
    return ARMDB_OK;
}

bool key_range_is_empty(const struct key_range *range)
{
    int order;

    if (range->low_bound == ARMDB_BOUND_OPEN || range->high_bound == ARMDB_BOUND_OPEN)
        return false;
    order = compare_bytes(&range->low, &range->high);
    return order > 0 || (order == 0 && (range->low_bound == ARMDB_BOUND_EXCLUSIVE ||
                                        range->high_bound == ARMDB_BOUND_EXCLUSIVE));
}

void key_range_get(const struct key_range *range, struct armdb_range *out)
{
    out->low = range->low.data;
    out->low_len = range->low.len;
    out->low_bound = range->low_bound;
    out->high = range->high.data;
    out->high_len = range->high.len;
    out->high_bound = range->high_bound;
}

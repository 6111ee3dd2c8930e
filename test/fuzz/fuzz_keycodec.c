/* fuzz_keycodec.c - keys: any bytes decoded, any values encoded and compared.
 *
 * Input: the parts (a byte each: affinity, collation, DESC), a byte of choices, two rows
 * of values, and bytes to be decoded as a key. The values are brought to the form that a
 * column of their affinity stores. Then:
 *
 *   - decode(encode(x)) is x, or says that it is not exact and key_originals() has x;
 *   - memcmp of two keys is what SQLite's comparison of the values is, written down here
 *     a second time;
 *   - a range from a comparison or a prefix holds a key exactly when its value satisfies
 *     it (for a prefix that is not exact: at least then);
 *   - bytes that decode encode to a key that decodes to the same. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ext/keycodec.h"
#include "test/fuzz/harness.h"

const struct fuzz_setup fuzz_setup = {"keycodec", 300000, 300, 0, 0};

enum { PARTS_MAX = 3, TEXT_MAX = 40 };

static struct key_part parts[PARTS_MAX];
static struct key_layout layout;

/* ---- Values ---- */

static void to_real(struct sql_value *value)
{
    if (value->type == SQLITE_INTEGER)
        value->r = (double)value->i;
    else if (value->type != SQLITE_FLOAT)
        return;
    value->type = SQLITE_FLOAT;
    if (value->r == 0)
        value->r = 0; /* REAL columns hold no -0.0 */
}

/* A real that is an integer's value, as INTEGER and NUMERIC columns store it. */
static void to_integer(struct sql_value *value)
{
    double r = value->r;

    if (value->type != SQLITE_FLOAT || fabs(r) >= 9223372036854775808.0 || r != trunc(r))
        return;
    value->i = (int64_t)r;
    value->type = SQLITE_INTEGER;
}

static double take_real(struct fuzz_input *in)
{
    static const double edges[] = {0.0,
                                   -0.0,
                                   0.5,
                                   (double)INFINITY,
                                   -(double)INFINITY,
                                   1e300,
                                   5e-324,
                                   9007199254740993.0,
                                   9223372036854775808.0,
                                   -9223372036854775808.0};
    uint8_t how = fuzz_u8(in);
    uint64_t bits;
    double r;

    if (how < sizeof edges / sizeof edges[0])
        return edges[how];
    if (how < 128)
        return (double)(int64_t)fuzz_number(in) + how / 128.0;
    bits = fuzz_u64(in);
    memcpy(&r, &bits, sizeof r);
    return isnan(r) ? 1.5 : r;
}

static void take_value(struct fuzz_input *in, enum affinity affinity,
                       struct sql_value *value)
{
    static const int types[] = {SQLITE_INTEGER, SQLITE_FLOAT, SQLITE_TEXT, SQLITE_BLOB};
    bool is_number;

    memset(value, 0, sizeof *value);
    value->type = types[fuzz_u8(in) % 4];
    is_number = value->type == SQLITE_INTEGER || value->type == SQLITE_FLOAT;
    if (affinity == AFFINITY_TEXT && is_number)
        value->type = SQLITE_TEXT;
    if (value->type == SQLITE_INTEGER) {
        value->i = (int64_t)fuzz_number(in);
    } else if (value->type == SQLITE_FLOAT) {
        value->r = take_real(in);
    } else {
        value->z = fuzz_bytes(in, fuzz_u8(in) % TEXT_MAX, &value->n);
        if (value->n == 0)
            value->z = NULL;
    }
    if (affinity == AFFINITY_REAL)
        to_real(value);
    if (affinity == AFFINITY_INTEGER || affinity == AFFINITY_NUMERIC)
        to_integer(value);
}

static bool is_same(const struct sql_value *a, const struct sql_value *b)
{
    if (a->type != b->type)
        return false;
    if (a->type == SQLITE_INTEGER)
        return a->i == b->i;
    if (a->type == SQLITE_FLOAT)
        return memcmp(&a->r, &b->r, sizeof a->r) == 0;
    return a->n == b->n && (a->n == 0 || memcmp(a->z, b->z, a->n) == 0);
}

/* ---- The order, as SQLite has it ---- */

static int sign(long long x)
{
    return x < 0 ? -1 : x > 0;
}

static int compare_bytes(const unsigned char *a, size_t an, const unsigned char *b,
                         size_t bn)
{
    size_t n = an < bn ? an : bn;
    int order = n == 0 ? 0 : memcmp(a, b, n);

    return order != 0 ? sign(order) : sign((long long)an - (long long)bn);
}

static unsigned char lower(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c + 32) : c;
}

/* sqlite3StrNICmp() over the shorter length, then the lengths. */
static int compare_nocase(const unsigned char *a, size_t an, const unsigned char *b,
                          size_t bn)
{
    for (size_t i = 0; i < an && i < bn; i++) {
        int order = lower(a[i]) - lower(b[i]);

        if (order != 0 || a[i] == 0)
            return order != 0 ? sign(order) : sign((long long)an - (long long)bn);
    }
    return sign((long long)an - (long long)bn);
}

static int compare_text(const struct sql_value *a, const struct sql_value *b,
                        enum collation collation)
{
    const unsigned char *x = a->z;
    const unsigned char *y = b->z;
    size_t xn = a->n;
    size_t yn = b->n;

    if (collation == COLLATION_NOCASE)
        return compare_nocase(x, xn, y, yn);
    while (collation == COLLATION_RTRIM && xn > 0 && x[xn - 1] == ' ')
        xn--;
    while (collation == COLLATION_RTRIM && yn > 0 && y[yn - 1] == ' ')
        yn--;
    return compare_bytes(x, xn, y, yn);
}

/* Exact: 64 bits of mantissa hold every int64 and every double. */
static long double number_of(const struct sql_value *value)
{
    return value->type == SQLITE_INTEGER ? (long double)value->i : (long double)value->r;
}

static int class_of(const struct sql_value *value)
{
    if (value->type == SQLITE_TEXT)
        return 1;
    return value->type == SQLITE_BLOB ? 2 : 0;
}

static int compare_values(const struct sql_value *a, const struct sql_value *b,
                          enum collation collation)
{
    int class = class_of(a);

    if (class != class_of(b))
        return sign(class - class_of(b));
    if (class == 0)
        return number_of(a) < number_of(b) ? -1 : number_of(a) > number_of(b);
    if (class == 1)
        return compare_text(a, b, collation);
    return compare_bytes(a->z, a->n, b->z, b->n);
}

static int compare_rows(const struct sql_value *a, const struct sql_value *b,
                        uint32_t count)
{
    int order = 0;

    for (uint32_t i = 0; i < count && order == 0; i++) {
        order = compare_values(&a[i], &b[i], parts[i].collation);
        if (parts[i].desc)
            order = -order;
    }
    return order;
}

/* ---- Properties ---- */

static void check_round_trip(const struct sql_value *row, const struct bytebuf *key,
                             bool lossy)
{
    struct sql_value originals[PARTS_MAX];
    struct bytebuf scratch;
    bool all_exact = true;

    bytebuf_init(&scratch);
    if (lossy)
        key_originals(&layout, row, originals);
    for (uint32_t i = 0; i < layout.part_count; i++) {
        struct sql_value value;
        bool exact;

        FUZZ_CHECK(key_decode(&layout, key->data, key->len, i, &scratch, &value,
                              &exact) == ARMDB_OK);
        FUZZ_CHECK(exact || !key_part_is_exact(&parts[i]));
        if (exact || !lossy || originals[i].type == SQLITE_NULL)
            FUZZ_CHECK(is_same(&value, &row[i]));
        else
            FUZZ_CHECK(is_same(&originals[i], &row[i]));
        all_exact = all_exact && exact;
    }
    FUZZ_CHECK(!lossy || !all_exact);
    bytebuf_fini(&scratch);
}

static bool is_in(const struct key_range *range, const struct bytebuf *key)
{
    struct armdb_range bounds = {0};
    int low = 1;
    int high = -1;

    key_range_get(range, &bounds);
    if (key_range_is_empty(range))
        return false;
    if (bounds.low_bound != ARMDB_BOUND_OPEN)
        low = compare_bytes(key->data, key->len, bounds.low, bounds.low_len);
    if (bounds.high_bound != ARMDB_BOUND_OPEN)
        high = compare_bytes(key->data, key->len, bounds.high, bounds.high_len);
    return (low > 0 || (low == 0 && bounds.low_bound == ARMDB_BOUND_INCLUSIVE)) &&
           (high < 0 || (high == 0 && bounds.high_bound == ARMDB_BOUND_INCLUSIVE));
}

static bool satisfies(const struct sql_value *a, enum key_op op,
                      const struct sql_value *b, enum collation collation)
{
    int order = compare_values(a, b, collation);

    switch (op) {
    case KEY_LT:
        return order < 0;
    case KEY_LE:
        return order <= 0;
    case KEY_GT:
        return order > 0;
    case KEY_GE:
        return order >= 0;
    }
    return false;
}

/* Rows a and b, their keys, and the range "the first eq parts as in a, part eq OP that of
 * b, and of a". */
static void check_range(struct sql_value rows[2][PARTS_MAX], struct bytebuf keys[2],
                        uint8_t how)
{
    uint32_t eq = (how & 0x0F) % (layout.part_count + 1);
    enum key_op op = (enum key_op)((how >> 4) & 3);
    enum key_op op2 = (enum key_op)((how >> 6) & 3);
    struct key_range range;

    key_range_init(&range);
    FUZZ_CHECK(key_range_begin(&layout, rows[0], eq, &range) == ARMDB_OK);
    if (eq < layout.part_count) {
        FUZZ_CHECK(key_range_narrow(&layout, eq, op, &rows[1][eq], &range) == ARMDB_OK);
        if ((how & 0x40) != 0)
            FUZZ_CHECK(key_range_narrow(&layout, eq, op2, &rows[0][eq], &range) ==
                       ARMDB_OK);
    }
    for (int i = 0; i < 2; i++) {
        bool wanted = compare_rows(rows[i], rows[0], eq) == 0;

        if (eq < layout.part_count) {
            enum collation collation = parts[eq].collation;

            wanted = wanted && satisfies(&rows[i][eq], op, &rows[1][eq], collation);
            if ((how & 0x40) != 0)
                wanted = wanted && satisfies(&rows[i][eq], op2, &rows[0][eq], collation);
        }
        FUZZ_CHECK(is_in(&range, &keys[i]) == wanted);
    }
    key_range_fini(&range);
}

static bool starts_with(const struct sql_value *value, const uint8_t *prefix, size_t n,
                        bool any_case)
{
    const unsigned char *z = value->z;

    if (value->type != SQLITE_TEXT || value->n < n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (any_case ? lower(z[i]) != lower(prefix[i]) : z[i] != prefix[i])
            return false;
    return true;
}

static void check_prefix(struct sql_value rows[2][PARTS_MAX], struct bytebuf keys[2],
                         uint8_t how, const uint8_t *prefix, size_t n)
{
    uint32_t eq = (how >> 1) % layout.part_count;
    bool any_case = (how & 1) != 0;
    struct key_range range;
    bool exact;

    key_range_init(&range);
    FUZZ_CHECK(key_range_begin(&layout, rows[0], eq, &range) == ARMDB_OK);
    FUZZ_CHECK(key_range_prefix(&layout, eq, prefix, n,
                                any_case ? KEY_PREFIX_ANY_CASE : KEY_PREFIX_BYTES, &range,
                                &exact) == ARMDB_OK);
    for (int i = 0; i < 2; i++) {
        bool wanted = compare_rows(rows[i], rows[0], eq) == 0 &&
                      starts_with(&rows[i][eq], prefix, n, any_case);

        if (exact || wanted)
            FUZZ_CHECK(is_in(&range, &keys[i]) == wanted);
    }
    key_range_fini(&range);
}

/* Any bytes as a key. */
static void check_bytes(const uint8_t *bytes, size_t n)
{
    uint8_t *exactly = fuzz_copy(bytes, n);
    struct sql_value values[PARTS_MAX];
    struct bytebuf scratch[PARTS_MAX];
    struct bytebuf again;
    struct bytebuf back;
    bool ok = true;

    bytebuf_init(&again);
    bytebuf_init(&back);
    for (uint32_t i = 0; i < layout.part_count; i++) {
        enum armdb_rc rc;
        bool exact;

        bytebuf_init(&scratch[i]);
        FUZZ_SCRIBBLE(values[i]);
        rc = key_decode(&layout, exactly, n, i, &scratch[i], &values[i], &exact);
        FUZZ_CHECK(rc == ARMDB_OK || rc == ARMDB_CORRUPT);
        ok = ok && rc == ARMDB_OK && values[i].type != SQLITE_NULL;
    }
    if (ok) {
        FUZZ_CHECK(key_encode_values(&layout, values, &again) == ARMDB_OK);
        for (uint32_t i = 0; i < layout.part_count; i++) {
            struct sql_value value;
            bool exact;

            FUZZ_CHECK(key_decode(&layout, again.data, again.len, i, &back, &value,
                                  &exact) == ARMDB_OK);
            FUZZ_CHECK(!exact ||
                       compare_values(&value, &values[i], parts[i].collation) == 0);
        }
    }
    for (uint32_t i = 0; i < layout.part_count; i++)
        bytebuf_fini(&scratch[i]);
    bytebuf_fini(&again);
    bytebuf_fini(&back);
    free(exactly);
}

static void take_layout(struct fuzz_input *in)
{
    layout.part_count = 1 + fuzz_u8(in) % PARTS_MAX;
    layout.parts = parts;
    for (uint32_t i = 0; i < layout.part_count; i++) {
        uint8_t how = fuzz_u8(in);

        parts[i].column = i;
        parts[i].affinity = (enum affinity)((how & 7) % 5);
        parts[i].collation = (enum collation)((how >> 3 & 3) % 3);
        parts[i].desc = (how & 0x80) != 0;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    struct sql_value rows[2][PARTS_MAX];
    struct bytebuf keys[2];
    const uint8_t *prefix;
    size_t n;
    uint8_t how;
    int order;

    take_layout(&in);
    how = fuzz_u8(&in);
    for (int r = 0; r < 2; r++) {
        bool lossy;

        for (uint32_t i = 0; i < layout.part_count; i++)
            take_value(&in, parts[i].affinity, &rows[r][i]);
        bytebuf_init(&keys[r]);
        FUZZ_CHECK(key_encode(&layout, rows[r], &keys[r], &lossy) == ARMDB_OK);
        check_round_trip(rows[r], &keys[r], lossy);
    }
    order = compare_bytes(keys[0].data, keys[0].len, keys[1].data, keys[1].len);
    FUZZ_CHECK(order == compare_rows(rows[0], rows[1], layout.part_count));
    check_range(rows, keys, how);
    prefix = fuzz_bytes(&in, how & 3, &n);
    check_prefix(rows, keys, how >> 2, prefix, n);
    check_bytes(in.p, in.left);
    bytebuf_fini(&keys[0]);
    bytebuf_fini(&keys[1]);
    return 0;
}

/* test_keycodec.c - key order and key equality compared with SQLite's own.
 *
 * Each round makes a native WITHOUT ROWID table with random columns, types, collations
 * and DESC flags, fills it with edge values, and compares what SQLite does with what
 * memcmp over the encodings says: which rows are duplicates, the order of a scan of the
 * primary key, and the rows that comparisons on the key select. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "ext/keycodec.h"

enum { PARTS_MAX = 3, ROWS_MAX = 300 };

struct test_row {
    sqlite3_value *held[PARTS_MAX]; /* what `values` borrow from */
    struct sql_value values[PARTS_MAX];
    struct bytebuf key;
    bool lossy;
};

static sqlite3 *db;
static struct key_part parts[PARTS_MAX];
static struct key_layout layout;
static struct test_row rows[ROWS_MAX];
static uint32_t row_count;
static uint64_t random_state;

static uint64_t random_u64(void)
{
    uint64_t z = (random_state += UINT64_C(0x9E3779B97F4A7C15));

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static uint64_t random_below(uint64_t n)
{
    return random_u64() % n;
}

static int open_database(void **state)
{
    (void)state;
    return sqlite3_open(":memory:", &db);
}

static int close_database(void **state)
{
    (void)state;
    return sqlite3_close(db) == SQLITE_OK ? 0 : -1;
}

static sqlite3_stmt *prepare(const char *sql)
{
    sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    return stmt;
}

static void execute(const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
}

static int compare_keys(const struct bytebuf *a, const struct bytebuf *b)
{
    size_t n = a->len < b->len ? a->len : b->len;
    int order = n == 0 ? 0 : memcmp(a->data, b->data, n);

    if (order != 0)
        return order;
    return a->len < b->len ? -1 : a->len > b->len;
}

/* ---- Random tables and values ---------------------------------------------- */

static const char *const types[] = {"", "TEXT", "NUMERIC", "INTEGER", "REAL"};
static const char *const collations[] = {"BINARY", "NOCASE", "RTRIM"};

/* Makes the tables n (with the key) and s (without) and the layout. */
static void make_tables(uint32_t part_count)
{
    sqlite3_str *columns = sqlite3_str_new(NULL);
    sqlite3_str *key = sqlite3_str_new(NULL);
    char *columns_text;
    char *key_text;
    char *sql;

    for (uint32_t p = 0; p < part_count; p++) {
        int type = (int)random_below(5);
        int collation = (int)random_below(3);

        parts[p].column = p;
        parts[p].affinity = (enum affinity)type;
        parts[p].collation = (enum collation)collation;
        parts[p].desc = random_below(2) == 0;
        sqlite3_str_appendf(columns, "%sc%d %s COLLATE %s", p > 0 ? ", " : "", (int)p,
                            types[type], collations[collation]);
        sqlite3_str_appendf(key, "%sc%d %s", p > 0 ? ", " : "", (int)p,
                            parts[p].desc ? "DESC" : "");
    }
    layout.part_count = part_count;
    layout.parts = parts;
    columns_text = sqlite3_str_finish(columns);
    key_text = sqlite3_str_finish(key);
    execute("DROP TABLE IF EXISTS n; DROP TABLE IF EXISTS s");
    sql = sqlite3_mprintf("CREATE TABLE n(%s, PRIMARY KEY(%s)) WITHOUT ROWID;"
                          "CREATE TABLE s(%s)",
                          columns_text, key_text, columns_text);
    execute(sql);
    sqlite3_free(sql);
    sqlite3_free(columns_text);
    sqlite3_free(key_text);
}

static const double reals[] = {
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    0.1,
    -0.1,
    1e308,
    -1e308,
    5e-324,
    -5e-324,
    1e15,
    9007199254740991.0,
    9007199254740992.0,
    9007199254740994.0,
    -9007199254740992.0,
    9223372036854775808.0,
    -9223372036854775808.0,
    9223372036854774784.0,
    2.5,
    127.5,
    1.8446744073709552e19,
    4503599627370495.5,
    255.99999999999997,
    256.0,
    3.9999999999999996,
    HUGE_VAL,
    -HUGE_VAL,
    2.2250738585072014e-308,
    0.9999999999999999,
};

static void bind_number(sqlite3_stmt *stmt, int param)
{
    int64_t power = (int64_t)(UINT64_C(1) << random_below(64));

    switch (random_below(5)) {
    case 0:
        sqlite3_bind_double(stmt, param,
                            reals[random_below(sizeof reals / sizeof *reals)]);
        break;
    case 1:
        sqlite3_bind_int64(stmt, param, (int64_t)random_below(9) - 4);
        break;
    case 2: /* powers of two and their neighbours, wrapping at both ends */
        sqlite3_bind_int64(stmt, param,
                           (int64_t)((uint64_t)power + random_below(5) - 2) *
                               (random_below(2) && power > 4 ? -1 : 1));
        break;
    case 3:
        sqlite3_bind_double(stmt, param, ((double)random_below(64) - 32.0) / 8.0);
        break;
    default:
        sqlite3_bind_double(stmt, param,
                            ldexp((double)random_u64(), (int)random_below(200) - 164) *
                                (random_below(2) ? -1.0 : 1.0));
        break;
    }
}

static void bind_bytes(sqlite3_stmt *stmt, int param, bool as_text)
{
    static const unsigned char alphabet[] = {'a', 'A', 'b', 'B',  'z', 'Z',
                                             ' ', ' ', 0,   1,    2,   255,
                                             254, '5', '.', 0xc3, '[', '@'};
    static const char *const words[] = {"",
                                        "5",
                                        "5.0",
                                        " 5",
                                        "-0",
                                        "1e3",
                                        "abc",
                                        "ABC",
                                        "abc ",
                                        "abc  ",
                                        "9007199254740993",
                                        "0.1"};
    unsigned char bytes[24];
    size_t n = (size_t)random_below(random_below(4) == 0 ? 24 : 4);

    if (random_below(4) == 0) {
        const char *word = words[random_below(sizeof words / sizeof *words)];

        n = strlen(word);
        memcpy(bytes, word, n);
    } else {
        for (size_t i = 0; i < n; i++)
            bytes[i] = alphabet[random_below(sizeof alphabet)];
    }
    if (as_text)
        sqlite3_bind_text(stmt, param, (const char *)bytes, (int)n, SQLITE_TRANSIENT);
    else
        sqlite3_bind_blob(stmt, param, bytes, (int)n, SQLITE_TRANSIENT);
}

static void bind_random(sqlite3_stmt *stmt, int param)
{
    uint64_t choice = random_below(8);

    if (choice < 3)
        bind_number(stmt, param);
    else
        bind_bytes(stmt, param, choice < 7);
}

static void free_rows(void)
{
    for (uint32_t r = 0; r < row_count; r++) {
        for (uint32_t p = 0; p < PARTS_MAX; p++) {
            sqlite3_value_free(rows[r].held[p]);
            rows[r].held[p] = NULL;
        }
        bytebuf_fini(&rows[r].key);
    }
    row_count = 0;
}

/* Reads the current row of a statement and encodes its key. */
static void read_row(sqlite3_stmt *stmt, struct test_row *row)
{
    memset(row, 0, sizeof *row);
    for (uint32_t p = 0; p < layout.part_count; p++) {
        row->held[p] = sqlite3_value_dup(sqlite3_column_value(stmt, (int)p));
        assert_int_equal(sql_value_load(row->held[p], &row->values[p]), SQLITE_OK);
    }
    assert_int_equal(key_encode(&layout, row->values, &row->key, &row->lossy), ARMDB_OK);
}

static bool key_is_known(const struct bytebuf *key)
{
    for (uint32_t r = 0; r < row_count; r++) {
        if (compare_keys(&rows[r].key, key) == 0)
            return true;
    }
    return false;
}

/* Inserts random rows into n; SQLite and the encodings must agree on what is a
 * duplicate. */
static void fill_table(uint32_t count)
{
    sqlite3_stmt *stage = prepare(layout.part_count == 1   ? "INSERT INTO s VALUES(?1)"
                                  : layout.part_count == 2 ? "INSERT INTO s VALUES(?1,?2)"
                                                           : "INSERT INTO s "
                                                             "VALUES(?1,?2,?3)");
    sqlite3_stmt *read = prepare("SELECT * FROM s");
    sqlite3_stmt *insert = prepare("INSERT OR IGNORE INTO n SELECT * FROM s");
    sqlite3_stmt *clear = prepare("DELETE FROM s");

    for (uint32_t i = 0; i < count; i++) {
        struct test_row *row = &rows[row_count];
        bool known;

        for (uint32_t p = 0; p < layout.part_count; p++)
            bind_random(stage, (int)p + 1);
        assert_int_equal(sqlite3_step(stage), SQLITE_DONE);
        assert_int_equal(sqlite3_step(read), SQLITE_ROW);
        read_row(read, row);
        known = key_is_known(&row->key);
        assert_int_equal(sqlite3_step(insert), SQLITE_DONE);
        if (known != (sqlite3_changes(db) == 0))
            fail_msg("row '%s': SQLite says %s", sqlite3_column_text(read, 0),
                     known ? "new" : "duplicate");
        assert_int_equal(sqlite3_step(clear), SQLITE_DONE);
        sqlite3_reset(stage);
        sqlite3_reset(read);
        sqlite3_reset(insert);
        sqlite3_reset(clear);
        row_count++;
        if (known) {
            row_count--;
            for (uint32_t p = 0; p < PARTS_MAX; p++)
                sqlite3_value_free(row->held[p]);
            bytebuf_fini(&row->key);
            memset(row, 0, sizeof *row);
        }
    }
    sqlite3_finalize(stage);
    sqlite3_finalize(read);
    sqlite3_finalize(insert);
    sqlite3_finalize(clear);
}

/* Reads n in key order into rows[]: the encodings must rise. */
static void check_order(void)
{
    sqlite3_stmt *scan;
    sqlite3_str *sql = sqlite3_str_new(NULL);
    uint32_t expected = row_count;
    char *text;

    free_rows();
    sqlite3_str_appendall(sql, "SELECT * FROM n ORDER BY ");
    for (uint32_t p = 0; p < layout.part_count; p++)
        sqlite3_str_appendf(sql, "%sc%d %s", p > 0 ? ", " : "", (int)p,
                            parts[p].desc ? "DESC" : "");
    text = sqlite3_str_finish(sql);
    scan = prepare(text);
    while (sqlite3_step(scan) == SQLITE_ROW) {
        read_row(scan, &rows[row_count++]);
        if (row_count > 1 &&
            compare_keys(&rows[row_count - 2].key, &rows[row_count - 1].key) >= 0)
            fail_msg("%s: row %u does not come after row %u", text, row_count - 1,
                     row_count - 2);
    }
    assert_int_equal(row_count, expected);
    sqlite3_finalize(scan);
    sqlite3_free(text);
}

/* ---- Order and equality ---------------------------------------------------- */

static void memcmp_order_and_equality_are_those_of_sqlite(void **state)
{
    (void)state;
    for (int round = 0; round < 150; round++) {
        make_tables(1 + (uint32_t)random_below(PARTS_MAX));
        fill_table(ROWS_MAX - 1);
        check_order();
        free_rows();
    }
}

static void assert_same_value(const struct sql_value *a, const struct sql_value *b)
{
    assert_int_equal(a->type, b->type);
    if (a->type == SQLITE_TEXT || a->type == SQLITE_BLOB) {
        assert_int_equal(a->n, b->n);
        if (a->n > 0)
            assert_memory_equal(a->z, b->z, a->n);
    } else {
        assert_true(a->i == b->i); /* all bits of a real */
    }
}

static void keys_and_originals_give_the_values_back(void **state)
{
    struct bytebuf scratch;

    (void)state;
    bytebuf_init(&scratch);
    for (int round = 0; round < 100; round++) {
        make_tables(1 + (uint32_t)random_below(PARTS_MAX));
        fill_table(100);
        for (uint32_t r = 0; r < row_count; r++) {
            struct sql_value originals[PARTS_MAX];

            key_originals(&layout, rows[r].values, originals);
            for (uint32_t p = 0; p < layout.part_count; p++) {
                struct sql_value out;
                bool exact;

                assert_int_equal(key_decode(&layout, rows[r].key.data, rows[r].key.len, p,
                                            &scratch, &out, &exact),
                                 ARMDB_OK);
                if (originals[p].type != SQLITE_NULL) {
                    assert_false(exact);
                    assert_true(rows[r].lossy);
                    assert_false(key_part_is_exact(&parts[p]));
                    assert_same_value(&originals[p], &rows[r].values[p]);
                } else {
                    assert_same_value(&out, &rows[r].values[p]);
                }
            }
        }
        free_rows();
    }
    bytebuf_fini(&scratch);
}

/* ---- Ranges ---------------------------------------------------------------- */

static bool in_range(const struct armdb_range *range, const struct bytebuf *key)
{
    struct bytebuf low = {(unsigned char *)(uintptr_t)range->low, range->low_len, 0};
    struct bytebuf high = {(unsigned char *)(uintptr_t)range->high, range->high_len, 0};
    int order;

    if (range->low_bound != ARMDB_BOUND_OPEN) {
        order = compare_keys(key, &low);
        if (order < 0 || (order == 0 && range->low_bound == ARMDB_BOUND_EXCLUSIVE))
            return false;
    }
    if (range->high_bound != ARMDB_BOUND_OPEN) {
        order = compare_keys(key, &high);
        if (order > 0 || (order == 0 && range->high_bound == ARMDB_BOUND_EXCLUSIVE))
            return false;
    }
    return true;
}

static int count_in_range(const struct key_range *range)
{
    struct armdb_range bounds = {0};
    int count = 0;

    key_range_get(range, &bounds);
    for (uint32_t r = 0; r < row_count; r++)
        count += in_range(&bounds, &rows[r].key) ? 1 : 0;
    if (key_range_is_empty(range))
        assert_int_equal(count, 0);
    return count;
}

/* Binds a value to compare part p with: often one that is there. */
static sqlite3_value *bind_comparand(sqlite3_stmt *stmt, int param, uint32_t p,
                                     const struct test_row *model)
{
    static sqlite3_stmt *echo;
    sqlite3_value *held;

    echo = prepare("SELECT ?1");
    if (random_below(3) > 0)
        sqlite3_bind_value(echo, 1, model->held[p]);
    else
        bind_random(echo, 1);
    assert_int_equal(sqlite3_step(echo), SQLITE_ROW);
    held = sqlite3_value_dup(sqlite3_column_value(echo, 0));
    sqlite3_finalize(echo);
    sqlite3_bind_value(stmt, param, held);
    return held;
}

/* One random conjunction: equality on the first parts, then up to three comparisons on
 * the next. */
static void check_one_range(struct key_range *range)
{
    static const char *const op_names[] = {"<", "<=", ">", ">="};
    const struct test_row *model = &rows[random_below(row_count)];
    uint32_t eq_count = (uint32_t)random_below(layout.part_count + 1);
    int op_count = eq_count == layout.part_count ? 0 : (int)random_below(4);
    enum key_op ops[3] = {KEY_LT, KEY_LT, KEY_LT};
    sqlite3_value *held[PARTS_MAX + 3];
    struct sql_value eq[PARTS_MAX];
    sqlite3_str *sql = sqlite3_str_new(NULL);
    sqlite3_stmt *stmt;
    enum rhs_fit fit;
    int expected;
    int count = 0;
    char *text;

    sqlite3_str_appendall(sql, "SELECT count(*) FROM n WHERE 1");
    for (uint32_t p = 0; p < eq_count; p++)
        sqlite3_str_appendf(sql, " AND c%d = ?", (int)p);
    for (int i = 0; i < op_count; i++) {
        ops[i] = (enum key_op)random_below(4);
        sqlite3_str_appendf(sql, " AND c%d %s ?", (int)eq_count, op_names[ops[i]]);
    }
    text = sqlite3_str_finish(sql);
    stmt = prepare(text);
    for (uint32_t p = 0; p < eq_count; p++) {
        held[count] = bind_comparand(stmt, count + 1, p, model);
        assert_int_equal(affinity_compare(held[count++], parts[p].affinity, &eq[p], &fit),
                         SQLITE_OK);
    }
    assert_int_equal(key_range_begin(&layout, eq, eq_count, range), ARMDB_OK);
    for (int i = 0; i < op_count; i++) {
        struct sql_value value;

        held[count] = bind_comparand(stmt, count + 1, eq_count, model);
        assert_int_equal(
            affinity_compare(held[count++], parts[eq_count].affinity, &value, &fit),
            SQLITE_OK);
        assert_int_equal(key_range_narrow(&layout, eq_count, ops[i], &value, range),
                         ARMDB_OK);
    }
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    expected = sqlite3_column_int(stmt, 0);
    if (count_in_range(range) != expected)
        fail_msg("%s: %d rows, SQLite has %d", text, count_in_range(range), expected);
    while (count > 0)
        sqlite3_value_free(held[--count]);
    sqlite3_finalize(stmt);
    sqlite3_free(text);
}

static void ranges_hold_the_rows_that_sqlite_selects(void **state)
{
    struct key_range range;

    (void)state;
    key_range_init(&range);
    for (int round = 0; round < 60; round++) {
        make_tables(1 + (uint32_t)random_below(PARTS_MAX));
        fill_table(150);
        for (int i = 0; i < 300; i++)
            check_one_range(&range);
        free_rows();
    }
    key_range_fini(&range);
}

static unsigned char lower(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c + 32) : c;
}

static bool starts_with(const struct sql_value *value, const unsigned char *prefix,
                        size_t n, bool any_case)
{
    const unsigned char *z = value->z;

    if (value->type != SQLITE_TEXT || value->n < n)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (any_case ? lower(z[i]) != lower(prefix[i]) : z[i] != prefix[i])
            return false;
    }
    return true;
}

static void check_one_prefix(struct key_range *range)
{
    static const unsigned char alphabet[] = {'a', 'A', 'b', 'Z', ' ',
                                             0,   1,   255, '5', '['};
    const struct test_row *model = &rows[random_below(row_count)];
    uint32_t part = (uint32_t)random_below(layout.part_count);
    bool any_case = random_below(2) == 0;
    struct armdb_range bounds = {0};
    unsigned char prefix[4];
    size_t n = (size_t)random_below(4);
    bool exact;

    for (size_t i = 0; i < n; i++)
        prefix[i] = alphabet[random_below(sizeof alphabet)];
    assert_int_equal(key_range_begin(&layout, model->values, part, range), ARMDB_OK);
    assert_int_equal(key_range_prefix(&layout, part, prefix, n,
                                      any_case ? KEY_PREFIX_ANY_CASE : KEY_PREFIX_BYTES,
                                      range, &exact),
                     ARMDB_OK);
    key_range_get(range, &bounds);
    for (uint32_t r = 0; r < row_count; r++) {
        bool inside = in_range(&bounds, &rows[r].key);
        bool wanted = starts_with(&rows[r].values[part], prefix, n, any_case);
        struct key_range equal;

        /* The leading parts must equal the model's as well. */
        key_range_init(&equal);
        assert_int_equal(key_range_begin(&layout, model->values, part, &equal), ARMDB_OK);
        key_range_get(&equal, &bounds);
        wanted = wanted && in_range(&bounds, &rows[r].key);
        key_range_fini(&equal);
        key_range_get(range, &bounds);
        if (wanted && !inside)
            fail_msg("row %u has the prefix and is not in the range", r);
        if (exact && inside && !wanted)
            fail_msg("row %u has not the prefix and is in an exact range", r);
    }
}

static void prefix_ranges_hold_all_texts_with_the_prefix(void **state)
{
    struct key_range range;

    (void)state;
    key_range_init(&range);
    for (int round = 0; round < 60; round++) {
        make_tables(1 + (uint32_t)random_below(2));
        fill_table(150);
        for (int i = 0; i < 100; i++)
            check_one_prefix(&range);
        free_rows();
    }
    key_range_fini(&range);
}

/* ---- Single cases ---------------------------------------------------------- */

static void use_single_part(enum affinity affinity, enum collation collation, bool desc)
{
    parts[0].column = 0;
    parts[0].affinity = affinity;
    parts[0].collation = collation;
    parts[0].desc = desc;
    layout.part_count = 1;
    layout.parts = parts;
}

static struct sql_value bytes_value(int type, const void *z, size_t n)
{
    struct sql_value value = {type, n, {.z = z}};

    return value;
}

static void encode_single(const struct sql_value *value, struct bytebuf *key)
{
    bool lossy;

    key->len = 0;
    assert_int_equal(key_encode(&layout, value, key, &lossy), ARMDB_OK);
}

static void single_text_or_blob_key_costs_one_byte(void **state)
{
    unsigned char bytes[1000] = {0};
    struct bytebuf key;

    (void)state;
    bytebuf_init(&key);
    use_single_part(AFFINITY_BLOB, COLLATION_BINARY, false);
    for (size_t n = 0; n <= sizeof bytes; n += 50) {
        struct sql_value value = bytes_value(SQLITE_BLOB, bytes, n);

        encode_single(&value, &key);
        assert_int_equal(key.len, n + 1);
    }
    bytebuf_fini(&key);
}

static void bytes_of_the_format_do_not_change(void **state)
{
    static const struct {
        double r;
        const char *bytes;
        size_t len;
    } cases[] = {
        {0, "\x19", 1},
        {5, "\x1a\x0a", 2},
        {5.5, "\x1a\x0b\x3f\xe0\0\0\0\0\0\0", 10},
        {-5, "\x18\xf5", 2},
        {128, "\x1b\x01\x00", 3},
        {1e300, "\x22\x7e\x37\xe4\x3c\x88\x00\x75\x9c", 9},
    };
    struct bytebuf key;

    (void)state;
    bytebuf_init(&key);
    use_single_part(AFFINITY_NUMERIC, COLLATION_BINARY, false);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sql_value value = {SQLITE_FLOAT, 0, {.r = cases[i].r}};

        encode_single(&value, &key);
        assert_int_equal(key.len, cases[i].len);
        assert_memory_equal(key.data, cases[i].bytes, key.len);
    }
    use_single_part(AFFINITY_TEXT, COLLATION_BINARY, true);
    {
        struct sql_value value = bytes_value(SQLITE_TEXT, "a\0\1\2", 4);

        encode_single(&value, &key);
        assert_int_equal(key.len, 8);
        assert_memory_equal(key.data, "\xcf\x9e\xfe\xfe\xfe\xfd\xfd\xff", 8);
    }
    bytebuf_fini(&key);
}

static void key_over_the_limit_is_too_big_and_its_bounds_hold(void **state)
{
    size_t n = ARMDB_KEY_BYTES_MAX;
    char *z = malloc(n + 10);
    struct bytebuf longest;
    struct key_range range;
    struct sql_value value;
    struct armdb_range bounds = {0};
    bool lossy;

    (void)state;
    assert_non_null(z);
    memset(z, 'x', n + 10);
    for (int desc = 0; desc < 2; desc++) {
        bytebuf_init(&longest);
        key_range_init(&range);
        use_single_part(AFFINITY_TEXT, COLLATION_BINARY, desc == 1);
        value = bytes_value(SQLITE_TEXT, z, n - 1 - (desc == 1));
        assert_int_equal(key_encode(&layout, &value, &longest, &lossy), ARMDB_OK);
        assert_int_equal(longest.len, n);
        value.n = n + 10;
        assert_int_equal(key_encode(&layout, &value, &range.scratch, &lossy),
                         ARMDB_TOOBIG);
        assert_int_equal(range.scratch.len, 0);
        for (int op = 0; op < 4; op++) {
            assert_int_equal(key_range_begin(&layout, NULL, 0, &range), ARMDB_OK);
            assert_int_equal(
                key_range_narrow(&layout, 0, (enum key_op)op, &value, &range), ARMDB_OK);
            key_range_get(&range, &bounds);
            assert_true(bounds.low_len <= n && bounds.high_len <= n);
            assert_true(in_range(&bounds, &longest) == (op == KEY_LT || op == KEY_LE));
        }
        assert_int_equal(key_range_begin(&layout, &value, 1, &range), ARMDB_OK);
        assert_true(key_range_is_empty(&range));
        key_range_fini(&range);
        bytebuf_fini(&longest);
    }
    free(z);
}

static void successor_drops_trailing_ff(void **state)
{
    struct bytebuf bytes;

    (void)state;
    bytebuf_init(&bytes);
    assert_int_equal(bytebuf_append(&bytes, "a\xff\xff", 3), ARMDB_OK);
    assert_true(key_successor(&bytes));
    assert_int_equal(bytes.len, 1);
    assert_int_equal(bytes.data[0], 'b');
    bytes.len = 0;
    assert_int_equal(bytebuf_append(&bytes, "\xff\xff", 2), ARMDB_OK);
    assert_false(key_successor(&bytes));
    assert_int_equal(bytes.len, 0);
    assert_false(key_successor(&bytes));
    bytebuf_fini(&bytes);
}

static void damaged_keys_never_read_out_of_bounds(void **state)
{
    struct bytebuf scratch;

    (void)state;
    bytebuf_init(&scratch);
    for (int round = 0; round < 60; round++) {
        make_tables(1 + (uint32_t)random_below(PARTS_MAX));
        fill_table(60);
        for (int i = 0; i < 2000; i++) {
            const struct bytebuf *key = &rows[random_below(row_count)].key;
            size_t len = (size_t)random_below(key->len + 1);
            unsigned char *copy = malloc(len + (len == 0));
            struct sql_value out;
            bool exact;

            assert_non_null(copy);
            memcpy(copy, key->data, len);
            if (len > 0 && random_below(2) == 0)
                copy[random_below(len)] = (unsigned char)random_u64();
            for (uint32_t p = 0; p < layout.part_count; p++)
                (void)!key_decode(&layout, copy, len, p, &scratch, &out, &exact);
            free(copy);
        }
        free_rows();
    }
    bytebuf_fini(&scratch);
}

static void numbers_not_in_their_one_form_are_corrupt(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } keys[] = {
        {"", 0},
        {"\x1a\x00", 2},                      /* a leading zero byte */
        {"\x1a", 1},                          /* cut off */
        {"\x1a\x0b\x3f\xe0\0\0\0\0\0", 9},    /* fraction cut off */
        {"\x1a\x0b\0\0\0\0\0\0\0\0", 10},     /* fraction 0 */
        {"\x1a\x0b\x3f\xf0\0\0\0\0\0\0", 10}, /* fraction 1.0 */
        {"\x22\x40\x00\0\0\0\0\0\0", 9},      /* not from 2^63 up */
        {"\x22\x7f\xf8\0\0\0\0\0\0", 9},      /* NaN */
        {"\x19\x00", 2},                      /* something behind */
        {"\x50", 1},                          /* no such tag */
    };
    struct bytebuf scratch;
    struct sql_value out;
    bool exact;

    (void)state;
    bytebuf_init(&scratch);
    use_single_part(AFFINITY_NUMERIC, COLLATION_BINARY, false);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (key_decode(&layout, keys[i].bytes, keys[i].len, 0, &scratch, &out, &exact) !=
            ARMDB_CORRUPT)
            fail_msg("key %zu was accepted", i);
    }
    bytebuf_fini(&scratch);
}

static double nanoseconds_since(const struct timespec *start, double count)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return ((double)(now.tv_sec - start->tv_sec) * 1e9 +
            (double)(now.tv_nsec - start->tv_nsec)) /
           count;
}

static void speed_is_printed_on_request(void **state)
{
    enum { ROUNDS = 20000000 };
    struct sql_value value = bytes_value(SQLITE_TEXT, "user:0000:abcdef", 16);
    struct timespec start;
    struct bytebuf key;
    uint64_t sum = 0;
    bool lossy;

    (void)state;
    if (getenv("BENCH") == NULL)
        return;
    bytebuf_init(&key);
    for (int collation = 0; collation < 3; collation++) {
        for (int desc = 0; desc < 2; desc++) {
            use_single_part(AFFINITY_TEXT, (enum collation)collation, desc == 1);
            clock_gettime(CLOCK_MONOTONIC, &start);
            for (int i = 0; i < ROUNDS; i++) {
                key.len = 0;
                if (key_encode(&layout, &value, &key, &lossy) == ARMDB_OK)
                    sum += key.len;
            }
            print_message("key_encode, 16-byte text, %s%s: %.1f ns\n",
                          collations[collation], desc ? " DESC" : "",
                          nanoseconds_since(&start, ROUNDS));
        }
    }
    use_single_part(AFFINITY_INTEGER, COLLATION_BINARY, false);
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < ROUNDS; i++) {
        value.type = SQLITE_INTEGER;
        value.i = i;
        key.len = 0;
        if (key_encode(&layout, &value, &key, &lossy) == ARMDB_OK)
            sum += key.len;
    }
    print_message("key_encode, integer: %.1f ns (%llu)\n",
                  nanoseconds_since(&start, ROUNDS), (unsigned long long)sum);
    bytebuf_fini(&key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memcmp_order_and_equality_are_those_of_sqlite),
        cmocka_unit_test(keys_and_originals_give_the_values_back),
        cmocka_unit_test(ranges_hold_the_rows_that_sqlite_selects),
        cmocka_unit_test(prefix_ranges_hold_all_texts_with_the_prefix),
        cmocka_unit_test(single_text_or_blob_key_costs_one_byte),
        cmocka_unit_test(bytes_of_the_format_do_not_change),
        cmocka_unit_test(key_over_the_limit_is_too_big_and_its_bounds_hold),
        cmocka_unit_test(successor_drops_trailing_ff),
        cmocka_unit_test(damaged_keys_never_read_out_of_bounds),
        cmocka_unit_test(numbers_not_in_their_one_form_are_corrupt),
        cmocka_unit_test(speed_is_printed_on_request),
    };
    const char *seed = getenv("SEED");

    random_state = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    print_message("SEED=%llu\n", (unsigned long long)random_state);
    return cmocka_run_group_tests(tests, open_database, close_database);
}

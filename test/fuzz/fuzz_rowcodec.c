/* fuzz_rowcodec.c - rows: any bytes decoded, any values encoded.
 *
 * Input: the number of columns and originals, then either bytes (first bit off) that are
 * read as a row, column by column and all at once, which must agree; or values that are
 * encoded, read back as they were, and read from a beginning of the row: an error or a
 * missing column, never a byte behind the end. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ext/rowcodec.h"
#include "test/fuzz/harness.h"

const struct fuzz_setup fuzz_setup = {"rowcodec", 40000, 600, 0, 0};

enum { COLUMNS_MAX = 20, ORIGINALS_MAX = 4 };

static bool is_same(const struct sql_value *a, const struct sql_value *b)
{
    if (a->type != b->type)
        return false;
    if (a->type == SQLITE_NULL)
        return true;
    if (a->type == SQLITE_INTEGER)
        return a->i == b->i;
    if (a->type == SQLITE_FLOAT)
        return memcmp(&a->r, &b->r, sizeof a->r) == 0;
    return a->n == b->n && (a->n == 0 || memcmp(a->z, b->z, a->n) == 0);
}

static void is_inside(const struct sql_value *value, const uint8_t *row, size_t n)
{
    const uint8_t *z = value->z;
    unsigned sum = 0;

    FUZZ_CHECK(value->type >= SQLITE_INTEGER && value->type <= SQLITE_NULL);
    if ((value->type != SQLITE_TEXT && value->type != SQLITE_BLOB) || value->n == 0)
        return;
    FUZZ_CHECK(z >= row && value->n <= n && (size_t)(z - row) <= n - value->n);
    for (size_t i = 0; i < value->n; i++)
        sum += z[i];
    FUZZ_CHECK(sum <= value->n * 255);
}

static void read_row(const uint8_t *bytes, size_t n, uint32_t columns, uint32_t originals)
{
    uint8_t *row = fuzz_copy(bytes, n);
    struct sql_value all[COLUMNS_MAX];
    struct sql_value one;
    bool ok;

    FUZZ_SCRIBBLE(all);
    ok = row_columns(row, n, columns, all) == ARMDB_OK;
    for (uint32_t i = 0; i < columns; i++) {
        enum armdb_rc rc = row_column(row, n, i, &one);

        FUZZ_CHECK(rc == ARMDB_OK || rc == ARMDB_CORRUPT);
        FUZZ_CHECK(rc == ARMDB_OK || one.type == SQLITE_NULL);
        if (rc == ARMDB_OK)
            is_inside(&one, row, n);
        if (ok)
            FUZZ_CHECK(rc == ARMDB_OK && is_same(&one, &all[i]));
    }
    for (uint32_t i = 0; i < originals; i++) {
        enum armdb_rc rc = row_original(row, n, i, &one);

        FUZZ_CHECK(rc == ARMDB_OK || rc == ARMDB_CORRUPT);
        if (rc == ARMDB_OK)
            is_inside(&one, row, n);
    }
    free(row);
}

static void take_value(struct fuzz_input *in, struct sql_value *value)
{
    static const int types[] = {SQLITE_NULL, SQLITE_INTEGER, SQLITE_FLOAT, SQLITE_TEXT,
                                SQLITE_BLOB};
    uint64_t bits;

    memset(value, 0, sizeof *value);
    value->type = types[fuzz_u8(in) % 5];
    if (value->type == SQLITE_INTEGER) {
        value->i = (int64_t)fuzz_number(in);
    } else if (value->type == SQLITE_FLOAT) {
        bits = fuzz_u64(in);
        memcpy(&value->r, &bits, sizeof bits);
        if (isnan(value->r))
            value->r = -0.0;
    } else if (value->type != SQLITE_NULL) {
        value->z = fuzz_bytes(in, fuzz_u8(in), &value->n);
        if (value->n == 0)
            value->z = NULL;
    }
}

static void write_row(struct fuzz_input *in, uint32_t columns, uint32_t originals)
{
    struct sql_value values[COLUMNS_MAX];
    struct sql_value kept[ORIGINALS_MAX];
    struct sql_value one;
    struct bytebuf row;

    bytebuf_init(&row);
    for (uint32_t i = 0; i < columns; i++)
        take_value(in, &values[i]);
    for (uint32_t i = 0; i < originals; i++)
        take_value(in, &kept[i]);
    FUZZ_CHECK(row_encode(values, columns, kept, originals, &row) == ARMDB_OK);
    for (uint32_t i = 0; i < columns; i++) {
        FUZZ_CHECK(row_column(row.data, row.len, i, &one) == ARMDB_OK);
        FUZZ_CHECK(is_same(&one, &values[i]));
    }
    for (uint32_t i = 0; i < originals; i++) {
        FUZZ_CHECK(row_original(row.data, row.len, i, &one) == ARMDB_OK);
        FUZZ_CHECK(is_same(&one, &kept[i]));
    }
    FUZZ_CHECK(row_column(row.data, row.len, columns, &one) == ARMDB_OK &&
               one.type == SQLITE_NULL);
    for (size_t n = 0; n <= row.len; n++)
        read_row(row.data, n, columns, originals);
    bytebuf_fini(&row);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    uint8_t how = fuzz_u8(&in);
    uint32_t columns = fuzz_u8(&in) % (COLUMNS_MAX + 1);
    uint32_t originals = how >> 1 & 3;

    if ((how & 1) != 0)
        write_row(&in, columns, originals);
    else
        read_row(in.p, in.left, columns, originals);
    return 0;
}

/* test_rowcodec.c - rows there and back, and rows made by an enemy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "ext/rowcodec.h"

static uint64_t random_state;

static uint64_t random_u64(void)
{
    uint64_t z = (random_state += UINT64_C(0x9E3779B97F4A7C15));

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static struct sql_value text_value(const char *z, size_t n)
{
    struct sql_value value = {SQLITE_TEXT, n, {.z = z}};

    return value;
}

static struct sql_value integer_value(int64_t i)
{
    struct sql_value value = {SQLITE_INTEGER, 0, {.i = i}};

    return value;
}

static char pool[70000];

static struct sql_value random_value(void)
{
    struct sql_value value;
    uint64_t bits = random_u64();

    sql_value_set_null(&value);
    switch (random_u64() % 6) {
    case 0:
        break;
    case 1:
        value = integer_value((int64_t)bits >> (random_u64() % 64));
        break;
    case 2:
        value.type = SQLITE_FLOAT;
        value.r = (double)(int64_t)bits / 1000.0;
        break;
    default:
        value = text_value(pool + bits % 1000, (size_t)(random_u64() % 200));
        if (random_u64() % 50 == 0)
            value.n = (size_t)(random_u64() % 69000);
        if (random_u64() % 2 == 0)
            value.type = SQLITE_BLOB;
        break;
    }
    return value;
}

static void assert_same(const struct sql_value *a, const struct sql_value *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->n, b->n);
    if (a->type == SQLITE_TEXT || a->type == SQLITE_BLOB) {
        if (a->n > 0)
            assert_memory_equal(a->z, b->z, a->n);
    } else {
        assert_true(a->i == b->i);
    }
}

static void random_rows_read_back_column_by_column(void **state)
{
    struct bytebuf row;

    (void)state;
    bytebuf_init(&row);
    for (int round = 0; round < 20000; round++) {
        uint32_t count = (uint32_t)(random_u64() % 12);
        uint32_t original_count =
            random_u64() % 3 == 0 ? (uint32_t)(random_u64() % 4) : 0;
        struct sql_value values[12];
        struct sql_value originals[4];
        struct sql_value all[12];
        struct sql_value out;

        for (uint32_t i = 0; i < count; i++)
            values[i] = random_value();
        for (uint32_t i = 0; i < original_count; i++)
            originals[i] = random_value();
        row.len = 0;
        assert_int_equal(row_encode(values, count, originals, original_count, &row),
                         ARMDB_OK);
        assert_int_equal(row_columns(row.data, row.len, count, all), ARMDB_OK);
        for (uint32_t i = 0; i < count; i++) {
            assert_int_equal(row_column(row.data, row.len, i, &out), ARMDB_OK);
            assert_same(&out, &values[i]);
            assert_same(&all[i], &values[i]);
        }
        assert_int_equal(row_column(row.data, row.len, count + 3, &out), ARMDB_OK);
        assert_int_equal(out.type, SQLITE_NULL);
        for (uint32_t i = 0; i < original_count; i++) {
            assert_int_equal(row_original(row.data, row.len, i, &out), ARMDB_OK);
            assert_same(&out, &originals[i]);
        }
        assert_int_equal(row_original(row.data, row.len, original_count, &out), ARMDB_OK);
        assert_int_equal(out.type, SQLITE_NULL);
    }
    bytebuf_fini(&row);
}

static void integers_of_every_width_read_back(void **state)
{
    struct bytebuf row;
    struct sql_value out;

    (void)state;
    bytebuf_init(&row);
    for (int bit = 0; bit < 64; bit++) {
        for (int delta = -2; delta <= 2; delta++) {
            for (int sign = 0; sign < 2; sign++) {
                uint64_t magnitude = (UINT64_C(1) << bit) + (uint64_t)delta;
                struct sql_value value =
                    integer_value((int64_t)(sign ? 0 - magnitude : magnitude));

                row.len = 0;
                assert_int_equal(row_encode(&value, 1, NULL, 0, &row), ARMDB_OK);
                assert_int_equal(row_column(row.data, row.len, 0, &out), ARMDB_OK);
                assert_same(&out, &value);
            }
        }
    }
    bytebuf_fini(&row);
}

static void one_text_costs_two_bytes_over_its_length(void **state)
{
    struct bytebuf row;

    (void)state;
    bytebuf_init(&row);
    for (size_t n = 0; n < 60000; n = n * 2 + 1) {
        struct sql_value value = text_value(pool, n);
        struct sql_value out;

        row.len = 0;
        assert_int_equal(row_encode(&value, 1, NULL, 0, &row), ARMDB_OK);
        assert_int_equal(row.len, n + 2);
        assert_int_equal(row_column(row.data, row.len, 0, &out), ARMDB_OK);
        assert_ptr_equal(out.z, row.data + 2);
    }
    row.len = 0;
    assert_int_equal(row_encode(NULL, 0, NULL, 0, &row), ARMDB_OK);
    assert_int_equal(row.len, 0);
    bytebuf_fini(&row);
}

static void small_values_take_the_bytes_they_need(void **state)
{
    struct sql_value values[6];
    struct bytebuf row;

    (void)state;
    bytebuf_init(&row);
    sql_value_set_null(&values[0]);
    values[1] = integer_value(0);
    values[2] = integer_value(1);
    values[3] = integer_value(-128);
    values[4] = integer_value(32767);
    values[5] = integer_value(INT64_MIN);
    assert_int_equal(row_encode(values, 6, NULL, 0, &row), ARMDB_OK);
    assert_int_equal(row.len, 1 + 6 + 0 + 0 + 0 + 1 + 2 + 8);
    bytebuf_fini(&row);
}

static void picked_columns_are_those_of_the_list(void **state)
{
    struct sql_value values[3] = {integer_value(7), integer_value(8), integer_value(9)};
    const uint32_t columns[2] = {2, 0};
    struct bytebuf row;
    struct sql_value out;

    (void)state;
    bytebuf_init(&row);
    assert_int_equal(row_encode_picked(values, columns, 2, NULL, 0, &row), ARMDB_OK);
    assert_int_equal(row_column(row.data, row.len, 0, &out), ARMDB_OK);
    assert_int_equal(out.i, 9);
    assert_int_equal(row_column(row.data, row.len, 1, &out), ARMDB_OK);
    assert_int_equal(out.i, 7);
    bytebuf_fini(&row);
}

static void row_over_the_limit_is_too_big_and_leaves_the_buffer_alone(void **state)
{
    struct sql_value values[2] = {text_value(pool, 10), text_value(pool, 10)};
    struct bytebuf row;

    (void)state;
    bytebuf_init(&row);
    values[1].n = ARMDB_VALUE_BYTES_MAX; /* never read */
    assert_int_equal(bytebuf_append(&row, "abc", 3), ARMDB_OK);
    assert_int_equal(row_encode(values, 2, NULL, 0, &row), ARMDB_TOOBIG);
    assert_int_equal(row.len, 3);
    values[0].n = SIZE_MAX / 2;
    assert_int_equal(row_encode(values, 2, NULL, 0, &row), ARMDB_TOOBIG);
    bytebuf_fini(&row);
}

static void lengths_beyond_the_row_are_corrupt(void **state)
{
    static const struct {
        unsigned char bytes[12];
        size_t len;
    } rows[] = {
        {{0x04}, 1},                                  /* header longer than the row */
        {{0x80}, 1},                                  /* varint cut off */
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, 7}, /* varint too long */
        {{0x02, 0x06, 1, 2, 3}, 5},                   /* eight-byte integer of three */
        {{0x02, 0x07, 1, 2, 3, 4, 5, 6, 7}, 9},       /* seven bytes of a real */
        {{0x02, 0x11, 'a'}, 3},                       /* text of two bytes, one there */
        {{0x0a, 0xfd, 0xff, 0xff, 0xff, 0x7f}, 6},    /* text of 17 GB */
        {{0x04, 0x0b, 0x00, 'a'}, 4},                 /* rest of the row, not last */
        {{0x02, 0x80}, 2},                            /* type cut off at the bar */
        {{0x03, 0x05}, 2},                            /* five originals, none there */
        {{0x01}, 1},                                  /* originals without a number */
    };
    struct sql_value out;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        unsigned char *copy = malloc(rows[i].len); /* so that overreads are seen */

        assert_non_null(copy);
        memcpy(copy, rows[i].bytes, rows[i].len);
        if (row_column(copy, rows[i].len, 0, &out) != ARMDB_CORRUPT)
            fail_msg("row %zu was accepted", i);
        assert_int_equal(out.type, SQLITE_NULL);
        free(copy);
    }
}

static void arbitrary_bytes_never_read_out_of_bounds(void **state)
{
    struct bytebuf row;

    (void)state;
    bytebuf_init(&row);
    for (int round = 0; round < 200000; round++) {
        struct sql_value values[4];
        struct sql_value out;
        struct sql_value all[6];
        unsigned char *copy;
        size_t len;

        for (int i = 0; i < 4; i++) {
            values[i] = random_value();
            if (values[i].n > 20)
                values[i].n = 20;
        }
        row.len = 0;
        assert_int_equal(
            row_encode(values, 4, values, (uint32_t)(random_u64() % 3), &row), ARMDB_OK);
        len = random_u64() % 3 == 0 ? (size_t)(random_u64() % (row.len + 1)) : row.len;
        copy = malloc(len + (len == 0));
        assert_non_null(copy);
        memcpy(copy, row.data, len);
        for (uint64_t n = random_u64() % 4; n > 0 && len > 0; n--)
            copy[random_u64() % (len < 8 || n > 2 ? len : 8)] =
                (unsigned char)random_u64();
        for (uint32_t c = 0; c < 6; c++) {
            if (row_column(copy, len, c, &out) == ARMDB_OK &&
                (out.type == SQLITE_TEXT || out.type == SQLITE_BLOB))
                assert_true((const unsigned char *)out.z >= copy &&
                            out.n <= (size_t)(copy + len - (const unsigned char *)out.z));
            (void)!row_original(copy, len, c, &out);
        }
        (void)!row_columns(copy, len, 6, all);
        free(copy);
    }
    bytebuf_fini(&row);
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
    struct sql_value value = text_value(pool, 100);
    enum { ROUNDS = 20000000 };
    struct timespec start;
    struct bytebuf row;
    struct sql_value out;
    uint64_t sum = 0;

    (void)state;
    if (getenv("BENCH") == NULL)
        return;
    value.type = SQLITE_BLOB;
    bytebuf_init(&row);
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < ROUNDS; i++) {
        row.len = 0;
        if (row_encode(&value, 1, NULL, 0, &row) == ARMDB_OK)
            sum += row.len;
    }
    print_message("row_encode, 100-byte blob: %.1f ns\n",
                  nanoseconds_since(&start, ROUNDS));
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < ROUNDS; i++) {
        if (row_column(row.data, row.len, 0, &out) == ARMDB_OK)
            sum += out.n;
    }
    print_message("row_column 0: %.1f ns (%llu)\n", nanoseconds_since(&start, ROUNDS),
                  (unsigned long long)sum);
    bytebuf_fini(&row);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_rows_read_back_column_by_column),
        cmocka_unit_test(integers_of_every_width_read_back),
        cmocka_unit_test(one_text_costs_two_bytes_over_its_length),
        cmocka_unit_test(small_values_take_the_bytes_they_need),
        cmocka_unit_test(picked_columns_are_those_of_the_list),
        cmocka_unit_test(row_over_the_limit_is_too_big_and_leaves_the_buffer_alone),
        cmocka_unit_test(lengths_beyond_the_row_are_corrupt),
        cmocka_unit_test(arbitrary_bytes_never_read_out_of_bounds),
        cmocka_unit_test(speed_is_printed_on_request),
    };
    const char *seed = getenv("SEED");

    random_state = seed != NULL ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL);
    print_message("SEED=%llu\n", (unsigned long long)random_state);
    for (size_t i = 0; i < sizeof pool; i++)
        pool[i] = (char)random_u64();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

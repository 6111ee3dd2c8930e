/* The histogram: buckets without gaps, percentiles beside those of a sorted list, nothing
 * lost under threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "engine/base/histogram.h"
#include "engine/base/thread.h"

static uint64_t seed;

static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* A number of random length: small ones are as likely as large ones. */
static uint64_t random_value(unsigned bits_max)
{
    return next_random() >> (64 - 1 - next_random() % bits_max);
}

static struct histogram *make(size_t count)
{
    struct histogram *h = test_calloc(count, sizeof *h);

    assert_non_null(h);
    return h;
}

static void a_value_is_between_the_ends_of_its_bucket(void **state)
{
    (void)state;
    for (int i = 0; i < 200000; i++) {
        uint64_t value = random_value(64);
        uint32_t bucket = histogram_bucket(value);

        assert_true(bucket < HISTOGRAM_BUCKETS);
        assert_true(value <= histogram_bucket_max(bucket));
        assert_true(bucket == 0 || value > histogram_bucket_max(bucket - 1));
    }
}

static void a_bucket_is_no_wider_than_a_32nd_of_its_values(void **state)
{
    (void)state;
    for (uint32_t i = 1; i < HISTOGRAM_BUCKETS - 1; i++) {
        uint64_t low = histogram_bucket_max(i - 1) + 1;
        uint64_t high = histogram_bucket_max(i);

        assert_true(low <= high);
        assert_int_equal(histogram_bucket(low), i);
        assert_int_equal(histogram_bucket(high), i);
        assert_true((high - low) * 32 <= low);
    }
    assert_true(histogram_bucket_max(HISTOGRAM_BUCKETS - 2) + 1 > UINT64_C(130000000000));
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void percentiles_are_those_of_a_sorted_list(void **state)
{
    enum { MAX = 5000 };
    static const uint32_t permilles[] = {1, 500, 900, 990, 999, 1000};
    uint64_t *values = test_calloc(MAX, sizeof *values);

    (void)state;
    for (int round = 0; round < 40; round++) {
        struct histogram *parts = make(3);
        struct histogram_summary summary;
        size_t count = 1 + next_random() % (round < 20 ? 20 : MAX);
        uint64_t sum = 0;

        for (size_t i = 0; i < count; i++) {
            values[i] = random_value(36);
            sum += values[i];
            histogram_add(&parts[next_random() % 3], values[i]);
        }
        qsort(values, count, sizeof *values, compare);
        histogram_summarize(parts, 3, permilles, 6, &summary);
        assert_int_equal(summary.count, count);
        assert_int_equal(summary.sum, sum);
        assert_int_equal(summary.max, values[count - 1]);
        for (int i = 0; i < 6; i++) {
            size_t rank = (count * permilles[i] + 999) / 1000;
            uint64_t exact = values[rank - 1];

            assert_true(summary.at[i] >= exact);
            assert_true(summary.at[i] - exact <= exact / 32);
        }
        assert_int_equal(summary.at[5], summary.max);
        test_free(parts);
    }
    test_free(values);
}

static void an_empty_one_is_all_zero_and_a_huge_value_is_kept_as_the_highest(void **state)
{
    static const uint32_t permilles[] = {500, 999};
    struct histogram *h = make(1);
    struct histogram_summary summary;

    (void)state;
    histogram_summarize(h, 1, permilles, 2, &summary);
    assert_int_equal(summary.count, 0);
    assert_int_equal(summary.at[0], 0);
    assert_int_equal(summary.max, 0);
    histogram_add(h, 7);
    histogram_add(h, UINT64_MAX / 2);
    histogram_summarize(h, 1, permilles, 2, &summary);
    assert_int_equal(summary.count, 2);
    assert_int_equal(summary.at[0], 7);
    assert_int_equal(summary.at[1], UINT64_MAX / 2);
    test_free(h);
}

/* ---- Threads ---- */

enum { ADDERS = 4, ADDS = 20000 };

struct adder {
    struct histogram *h;
    uint64_t first;
};

static void add_many(void *arg)
{
    const struct adder *adder = arg;

    for (uint64_t i = 0; i < ADDS; i++)
        histogram_add(adder->h, adder->first + i);
}

static void nothing_is_lost_while_threads_add_and_one_reads(void **state)
{
    static const uint32_t permilles[] = {500};
    struct histogram *h = make(1);
    struct adb_thread threads[ADDERS];
    struct adder adders[ADDERS];
    struct histogram_summary summary;
    uint64_t all = (uint64_t)ADDERS * ADDS;
    uint64_t before = 0;

    (void)state;
    for (uint64_t i = 0; i < ADDERS; i++) {
        adders[i] = (struct adder){h, i * ADDS};
        assert_int_equal(adb_thread_start(&threads[i], add_many, &adders[i]), ARMDB_OK);
    }
    for (int i = 0; i < 200; i++) {
        histogram_summarize(h, 1, permilles, 1, &summary);
        assert_true(summary.count >= before && summary.count <= all);
        before = summary.count;
    }
    for (int i = 0; i < ADDERS; i++)
        adb_thread_join(&threads[i]);
    histogram_summarize(h, 1, permilles, 1, &summary);
    assert_int_equal(summary.count, all);
    assert_int_equal(summary.sum, all * (all - 1) / 2);
    assert_int_equal(summary.max, all - 1);
    test_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_is_between_the_ends_of_its_bucket),
        cmocka_unit_test(a_bucket_is_no_wider_than_a_32nd_of_its_values),
        cmocka_unit_test(percentiles_are_those_of_a_sorted_list),
        cmocka_unit_test(
            an_empty_one_is_all_zero_and_a_huge_value_is_kept_as_the_highest),
        cmocka_unit_test(nothing_is_lost_while_threads_add_and_one_reads),
    };
    const char *text = getenv("SEED");

    seed = text != NULL ? strtoull(text, NULL, 10) : (uint64_t)time(NULL);
    printf("SEED=%llu\n", (unsigned long long)seed);
    seed = seed * 2 + 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_run.c - runs against a sorted list of the newest records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/log/run.h"

enum { KEY_BYTES = 40, RECORDS = 4000, OFFSET_LOW = 4096, OFFSET_END = 1 << 30 };

static uint64_t random_state;

static uint64_t next_random(void)
{
    uint64_t z = (random_state += UINT64_C(0x9E3779B97F4A7C15));

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

struct made {
    struct run_entry entry;
    unsigned char key[KEY_BYTES];
};

static struct made made[RECORDS];
static struct run_entry wanted[RECORDS];
static size_t wanted_count;

enum shape { RANDOM, SHARED, FEW_LETTERS, COUNTER, REVERSED, SHAPES };

static void make_key(enum shape shape, size_t i, size_t count, struct made *m)
{
    size_t len = 0;

    switch (shape) {
    case RANDOM:
        len = next_random() % 24;
        for (size_t k = 0; k < len; k++)
            m->key[k] = (unsigned char)next_random();
        break;
    case SHARED:
        len = 20 + next_random() % 20;
        memset(m->key, 'p', len);
        for (size_t k = 16 + next_random() % 4; k < len; k++)
            m->key[k] = (unsigned char)next_random();
        break;
    case FEW_LETTERS:
        len = next_random() % 6;
        for (size_t k = 0; k < len; k++)
            m->key[k] = (unsigned char)(next_random() % 3);
        break;
    case COUNTER:
        len = (size_t)snprintf((char *)m->key, KEY_BYTES, "row:%08zu", i);
        break;
    case REVERSED:
        len = (size_t)snprintf((char *)m->key, KEY_BYTES, "row:%08zu", count - i);
        break;
    case SHAPES:
        break;
    }
    m->entry.key_len = len;
}

static int compare_newest_first(const void *a, const void *b)
{
    const struct run_entry *x = a;
    const struct run_entry *y = b;
    int order = run_compare_keys(x, y);

    if (order != 0)
        return order;
    return run_is_newer(x, y) ? -1 : run_is_newer(y, x);
}

/* Records of up to three tables; wanted[] is what a run must give. */
static void make_records(enum shape shape, size_t count)
{
    uint64_t base = next_random() % 1000;

    for (size_t i = 0; i < count; i++) {
        struct made *m = &made[i];
        struct run_entry *e = &m->entry;

        make_key(shape, i, count, m);
        e->table = shape == COUNTER ? 7 : (next_random() % 3) * 300;
        e->key = m->key;
        e->gsn = base + i; /* two records of a key are never of one age */
        e->ordinal = next_random() % 4 == 0 ? next_random() % 1000 : 0;
        e->offset = OFFSET_LOW + next_random() % (OFFSET_END / 2);
        e->deleted = next_random() % 5 == 0;
        e->value_len = e->deleted ? 0 : (uint32_t)(next_random() % 100000);
        wanted[i] = *e;
    }
    qsort(wanted, count, sizeof wanted[0], compare_newest_first);
    wanted_count = 0;
    for (size_t i = 0; i < count; i++)
        if (i == 0 || run_compare_keys(&wanted[wanted_count - 1], &wanted[i]) != 0)
            wanted[wanted_count++] = wanted[i];
}

static enum armdb_rc build(size_t count, struct run *run)
{
    struct run_builder *builder = NULL;
    enum armdb_rc rc = run_builder_create(&builder);

    for (size_t i = 0; rc == ARMDB_OK && i < count; i++)
        rc = run_builder_add(builder, &made[i].entry);
    memset(run, 0, sizeof *run);
    if (rc == ARMDB_OK)
        rc = run_builder_finish(builder, run);
    run_builder_destroy(builder);
    return rc;
}

static void assert_entry(const struct run_entry *got, const struct run_entry *want)
{
    assert_int_equal(got->table, want->table);
    assert_int_equal(got->key_len, want->key_len);
    assert_memory_equal(got->key, want->key, want->key_len);
    assert_int_equal(got->gsn, want->gsn);
    assert_int_equal(got->ordinal, want->ordinal);
    assert_int_equal(got->offset, want->offset);
    assert_int_equal(got->value_len, want->value_len);
    assert_int_equal(got->deleted, want->deleted);
}

static const struct run_limits limits = {OFFSET_LOW, OFFSET_END, 0, UINT64_MAX};

static void a_run_gives_the_newest_record_of_each_key_in_order(void **state)
{
    (void)state;
    for (int shape = 0; shape < SHAPES; shape++) {
        for (size_t count = 0; count <= RECORDS; count = count * 3 + 1) {
            struct run run;
            struct run_cursor cursor;
            struct run_entry e;

            make_records((enum shape)shape, count);
            assert_int_equal(build(count, &run), ARMDB_OK);
            assert_int_equal(run.entries, wanted_count);
            assert_true(run_verify(&run, &limits));
            assert_int_equal(run_cursor_init(&cursor, &run), ARMDB_OK);
            for (size_t i = 0; i < wanted_count; i++) {
                assert_true(run_next(&cursor, &e));
                assert_entry(&e, &wanted[i]);
            }
            assert_false(run_next(&cursor, &e));
            run_cursor_fini(&cursor);
            run_fini(&run);
        }
    }
    assert_int_equal(adb_mem_used(ADB_MEM_LOG), 0);
}

static void seeking_leads_to_at_or_before_every_key(void **state)
{
    struct run run;
    struct run_cursor cursor;
    struct run_entry e;

    (void)state;
    make_records(SHARED, RECORDS);
    assert_int_equal(build(RECORDS, &run), ARMDB_OK);
    assert_true(run.block_count > 2);
    assert_int_equal(run_cursor_init(&cursor, &run), ARMDB_OK);
    for (size_t i = 0; i < wanted_count; i += 7) {
        struct run_entry before = wanted[i];
        uint32_t steps = 0;

        before.key_len -= before.key_len > 0; /* a key that may not be there */
        run_seek(&cursor, &before);
        do {
            assert_true(run_next(&cursor, &e));
            steps++;
        } while (run_compare_keys(&e, &before) < 0);
        assert_true(run_compare_keys(&e, &wanted[i]) <= 0);
        assert_true(steps <= 2 * run.blocks[0].count);
    }
    run_cursor_fini(&cursor);
    run_fini(&run);
}

static void entries_beyond_the_limits_are_refused(void **state)
{
    struct run run;
    struct run_limits tight = limits;
    uint64_t offset_high = 0;

    (void)state;
    make_records(RANDOM, 300);
    assert_int_equal(build(300, &run), ARMDB_OK);
    tight.gsn_low = run.gsn_base + 299; /* only the last one has it */
    assert_false(run_verify(&run, &tight));
    tight = limits;
    tight.gsn_high = run.gsn_base;
    assert_false(run_verify(&run, &tight));
    for (size_t i = 0; i < wanted_count; i++)
        if (wanted[i].offset + wanted[i].value_len > offset_high)
            offset_high = wanted[i].offset + wanted[i].value_len;
    tight = limits;
    tight.offset_end = offset_high;
    assert_false(run_verify(&run, &tight));
    tight.offset_end = offset_high + 1;
    assert_true(run_verify(&run, &tight));
    tight.offset_low = OFFSET_END / 2;
    assert_false(run_verify(&run, &tight));
    run_fini(&run);
}

/* Damage behind a right check is a program's mistake; it must still end in an answer. */
static void no_changed_byte_makes_the_verification_read_outside(void **state)
{
    struct run run;
    uint64_t refused = 0;
    uint64_t tried = 0;

    (void)state;
    make_records(FEW_LETTERS, 200);
    assert_int_equal(build(200, &run), ARMDB_OK);
    for (size_t i = 0; i < run.len; i++) {
        for (unsigned flip = 1; flip < 256; flip <<= 1, tried++) {
            run.bytes[i] ^= (unsigned char)flip;
            refused += !run_verify(&run, &limits);
            run.bytes[i] ^= (unsigned char)flip;
        }
    }
    assert_true(refused > tried / 4);
    assert_true(run_verify(&run, &limits));
    run.entries++;
    assert_false(run_verify(&run, &limits));
    run.entries--;
    run.key_max++;
    assert_false(run_verify(&run, &limits));
    run.key_max--;
    run.blocks[0].count--;
    assert_false(run_verify(&run, &limits));
    run.blocks[0].count++;
    run_fini(&run);
}

static void each_lack_of_memory_is_told_and_leaks_nothing(void **state)
{
    enum armdb_rc rc = ARMDB_NOMEM;

    (void)state;
    make_records(RANDOM, 500);
    for (uint64_t n = 1; rc != ARMDB_OK; n++) {
        struct run run;

        adb_mem_fail_at(n, false);
        rc = build(500, &run);
        adb_mem_fail_at(0, false);
        assert_true(rc == ARMDB_OK || rc == ARMDB_NOMEM);
        run_fini(&run);
        assert_int_equal(adb_mem_used(ADB_MEM_LOG), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_gives_the_newest_record_of_each_key_in_order),
        cmocka_unit_test(seeking_leads_to_at_or_before_every_key),
        cmocka_unit_test(entries_beyond_the_limits_are_refused),
        cmocka_unit_test(no_changed_byte_makes_the_verification_read_outside),
        cmocka_unit_test(each_lack_of_memory_is_told_and_leaks_nothing),
    };
    const char *seed = getenv("SEED");

    random_state = seed != NULL ? strtoull(seed, NULL, 10) : 1;
    print_message("SEED=%llu\n", (unsigned long long)random_state);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

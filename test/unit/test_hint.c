/* test_hint.c - hint files, on files in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/bytes.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/log/hint.h"

enum { FOOTER = 208, LENGTH = 100000 };

static const unsigned char uuid[16] = "sixteen bytes id";
static struct adb_io *io;
static struct adb_dir *dir;

static struct manifest_segment listed_segment(uint64_t number)
{
    struct manifest_segment s = {.number = number,
                                 .shard = 1,
                                 .kind = SEGMENT_LOG,
                                 .sealed = true,
                                 .length = LENGTH,
                                 .gsn_low = 100,
                                 .gsn_high = 5000};

    memset(s.identity, (int)number, sizeof s.identity);
    return s;
}

/* A run of `count` keys and, with `notes`, a VERDICT and a CLOSE with two void runs. */
static void make_hint(size_t count, bool notes, struct hint *hint)
{
    struct run_builder *builder;

    memset(hint, 0, sizeof *hint);
    assert_int_equal(run_builder_create(&builder), ARMDB_OK);
    for (size_t i = 0; i < count; i++) {
        unsigned char key[24];
        struct run_entry e = {.table = i % 3,
                              .key = key,
                              .gsn = 100 + i % 4000,
                              .ordinal = i % 2,
                              .offset = 4096 + i % 1000,
                              .value_len = (uint32_t)(i % 4 == 0 ? 0 : i % 300),
                              .deleted = i % 4 == 0};

        e.key_len = (size_t)snprintf((char *)key, sizeof key, "%zu", i * 7919);
        assert_int_equal(run_builder_add(builder, &e), ARMDB_OK);
    }
    assert_int_equal(run_builder_finish(builder, &hint->run), ARMDB_OK);
    run_builder_destroy(builder);
    hint->watermark_max = 4321;
    hint->record_bytes = 98765;
    hint->record_count = count + 5;
    if (!notes)
        return;
    hint->note_count = 2;
    hint->notes = adb_alloc_zero(ADB_MEM_LOG, 2 * sizeof *hint->notes);
    hint->notes[0] = (struct hint_note){.kind = FRAME_VERDICT,
                                        .outcome = FRAME_OUTCOME_ABORT,
                                        .offset = 4096,
                                        .end = 4216,
                                        .gsn = 200,
                                        .txid_edit = 3,
                                        .txid_count = 4,
                                        .arg_a = 150,
                                        .arg_b = 9,
                                        .check = UINT64_MAX};
    hint->notes[1] = hint->notes[0];
    hint->notes[1].kind = FRAME_CLOSE;
    hint->notes[1].outcome = 0;
    hint->notes[1].void_run_count = 2;
    hint->notes[1].void_runs = adb_alloc(ADB_MEM_LOG, 4 * sizeof(uint64_t));
    for (uint64_t i = 0; i < 4; i++)
        hint->notes[1].void_runs[i] = 5 + 10 * i;
}

static void put_file(const char *name, const unsigned char *bytes, size_t n)
{
    struct adb_file *file;

    (void)!io->ops->dir_unlink(dir, name, NULL);
    assert_int_equal(
        io->ops->file_open(dir, name, ADB_OPEN_WRITE | ADB_OPEN_CREATE, &file, NULL),
        ARMDB_OK);
    if (n > 0)
        assert_int_equal(adb_file_write(file, name, bytes, n, 0, NULL), ARMDB_OK);
    io->ops->file_close(file);
}

static unsigned char *get_file(const char *name, size_t *n)
{
    unsigned char *bytes;

    assert_int_equal(adb_file_slurp(dir, name, 1 << 24, &bytes, n, NULL), ARMDB_OK);
    return bytes;
}

/* Writes and installs the hint of segment 5. */
static void put_hint(size_t count, bool notes)
{
    struct manifest_segment listed = listed_segment(5);
    struct hint hint;

    make_hint(count, notes, &hint);
    assert_int_equal(hint_write(dir, uuid, &listed, 77, &hint, NULL), ARMDB_OK);
    assert_int_equal(hint_install(dir, 5, NULL), ARMDB_OK);
    hint_fini(&hint);
}

static enum armdb_rc read_five(struct hint *hint)
{
    struct manifest_segment listed = listed_segment(5);
    struct armdb_error err = {.rc = ARMDB_OK};
    enum armdb_rc rc = hint_read(dir, uuid, &listed, 77, hint, &err);

    if (rc == ARMDB_CORRUPT)
        assert_non_null(strstr(err.text, "0000000000000005.hint"));
    return rc;
}

static const char five[] = "0000000000000005.hint";

static void a_hint_is_read_back_as_it_was_written(void **state)
{
    static const size_t counts[] = {0, 1, 100, 20000};

    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct hint want;
        struct hint got;

        make_hint(counts[i], i % 2 == 1, &want);
        put_hint(counts[i], i % 2 == 1);
        assert_int_equal(read_five(&got), ARMDB_OK);
        assert_int_equal(got.run.len, want.run.len);
        if (want.run.len > 0)
            assert_memory_equal(got.run.bytes, want.run.bytes, want.run.len);
        assert_int_equal(got.run.entries, want.run.entries);
        assert_int_equal(got.run.block_count, want.run.block_count);
        assert_int_equal(got.watermark_max, want.watermark_max);
        assert_int_equal(got.record_bytes, want.record_bytes);
        assert_int_equal(got.record_count, want.record_count);
        assert_int_equal(got.note_count, want.note_count);
        for (size_t k = 0; k < want.note_count; k++) {
            uint64_t *runs = want.notes[k].void_runs;

            assert_int_equal(got.notes[k].void_run_count, want.notes[k].void_run_count);
            if (want.notes[k].void_run_count > 0)
                assert_memory_equal(got.notes[k].void_runs, runs, 4 * sizeof *runs);
            want.notes[k].void_runs = got.notes[k].void_runs;
            assert_memory_equal(&got.notes[k], &want.notes[k], sizeof got.notes[k]);
            want.notes[k].void_runs = runs;
        }
        hint_fini(&want);
        hint_fini(&got);
    }
}

static void each_flipped_bit_and_each_cut_is_noticed(void **state)
{
    struct hint hint;
    unsigned char *bytes;
    size_t n;

    (void)state;
    put_hint(40, true);
    bytes = get_file(five, &n);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        put_file(five, bytes, n);
        bytes[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        assert_int_equal(read_five(&hint), ARMDB_CORRUPT);
    }
    for (size_t left = 0; left < n; left++) {
        put_file(five, bytes, left);
        assert_int_equal(read_five(&hint), ARMDB_CORRUPT);
    }
    put_file(five, bytes, n);
    assert_int_equal(read_five(&hint), ARMDB_OK);
    hint_fini(&hint);
    adb_free(ADB_MEM_IO, bytes);
}

static void a_longer_file_is_no_hint(void **state)
{
    struct hint hint;
    unsigned char *bytes;
    unsigned char longer[FOOTER * 40] = {0};
    size_t n;

    (void)state;
    put_hint(40, true);
    bytes = get_file(five, &n);
    assert_true(n < sizeof longer);
    memcpy(longer, bytes, n);
    put_file(five, longer, n + 8);
    assert_int_equal(read_five(&hint), ARMDB_CORRUPT);
    adb_free(ADB_MEM_IO, bytes);
}

static void a_hint_belongs_to_one_state_of_one_segment(void **state)
{
    const struct manifest_segment own = listed_segment(5);
    struct manifest_segment other[6];
    struct hint hint;

    (void)state;
    put_hint(40, true);
    for (int i = 0; i < 6; i++)
        other[i] = own;
    other[0].identity[3] ^= 1;
    other[1].length += 8;
    other[2].length -= 8;
    other[3].gsn_low++;
    other[4].gsn_high++;
    other[5].gsn_high--;
    for (int i = 0; i < 6; i++)
        assert_int_equal(hint_read(dir, uuid, &other[i], 77, &hint, NULL), ARMDB_CORRUPT);
    assert_int_equal(hint_read(dir, uuid, &own, 78, &hint, NULL), ARMDB_CORRUPT);
    assert_int_equal(
        hint_read(dir, (const unsigned char *)"another store id", &own, 77, &hint, NULL),
        ARMDB_CORRUPT);
    other[0] = listed_segment(6);
    assert_int_equal(hint_read(dir, uuid, &other[0], 77, &hint, NULL), ARMDB_NOT_FOUND);
    /* Under another's name: the number is part of it. */
    assert_int_equal(io->ops->dir_rename(dir, five, "0000000000000006.hint", NULL),
                     ARMDB_OK);
    memcpy(other[0].identity, own.identity, 16);
    assert_int_equal(hint_read(dir, uuid, &other[0], 77, &hint, NULL), ARMDB_CORRUPT);
    hint_remove(dir, 6);
    assert_int_equal(hint_read(dir, uuid, &other[0], 77, &hint, NULL), ARMDB_NOT_FOUND);
}

/* Changes a word of the footer and makes its check right again. */
static void rebind(unsigned char *bytes, size_t n, size_t at, uint64_t word)
{
    struct manifest_segment listed = listed_segment(5);
    unsigned char *footer = bytes + n - FOOTER;

    adb_put_u64(footer + at, word);
    adb_put_u64(footer + FOOTER - 8,
                adb_check_bind(adb_check_raw(footer, FOOTER - 8),
                               adb_check_seed(listed.identity), n - FOOTER));
}

static void every_field_is_checked_behind_a_right_check(void **state)
{
    static const struct {
        size_t at;
        uint64_t word;
        enum armdb_rc rc;
    } cases[] = {
        {8, 2, ARMDB_VERSION},
        {8, UINT64_C(1) << 32 | 1, ARMDB_CORRUPT},
        {104, 41, ARMDB_CORRUPT}, /* entries */
        {112, 0, ARMDB_CORRUPT},  /* GSNs below the segment's */
        {112, UINT64_MAX, ARMDB_CORRUPT},
        {120, 0, ARMDB_CORRUPT}, /* longest key */
        {120, UINT64_MAX, ARMDB_CORRUPT},
        {128, 2, ARMDB_CORRUPT}, /* blocks */
        {128, UINT64_MAX / 24 + 1, ARMDB_CORRUPT},
        {136, 0, ARMDB_CORRUPT}, /* index */
        {136, UINT64_MAX, ARMDB_CORRUPT},
        {152, 0, ARMDB_CORRUPT}, /* filter */
        {152, UINT64_MAX / 64 + 1, ARMDB_CORRUPT},
        {168, 1, ARMDB_CORRUPT}, /* notes */
        {176, 0, ARMDB_CORRUPT},
        {176, 7, ARMDB_CORRUPT},
        {176, UINT64_MAX - 7, ARMDB_CORRUPT},
        {192, 39, ARMDB_CORRUPT}, /* fewer records than entries */
    };
    struct hint hint;
    unsigned char *bytes;
    size_t n;

    (void)state;
    put_hint(40, true);
    bytes = get_file(five, &n);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t old = adb_get_u64(bytes + n - FOOTER + cases[i].at);

        rebind(bytes, n, cases[i].at, cases[i].word);
        put_file(five, bytes, n);
        assert_int_equal(read_five(&hint), cases[i].rc);
        rebind(bytes, n, cases[i].at, old);
    }
    put_file(five, bytes, n);
    assert_int_equal(read_five(&hint), ARMDB_OK);
    hint_fini(&hint);
    adb_free(ADB_MEM_IO, bytes);
}

static void the_filter_knows_every_key_and_few_others(void **state)
{
    enum { KEYS = 20000 };
    struct manifest_segment listed = listed_segment(5);
    struct hint_filter filter;
    unsigned false_hits = 0;

    (void)state;
    put_hint(KEYS, false);
    assert_int_equal(hint_filter_read(dir, uuid, &listed, 77, &filter, NULL), ARMDB_OK);
    for (size_t i = 0; i < KEYS; i++) {
        unsigned char key[24];
        size_t len = (size_t)snprintf((char *)key, sizeof key, "%zu", i * 7919);

        assert_true(hint_may_hold(&filter, i % 3, key, len));
        false_hits += hint_may_hold(&filter, i % 3 + 1000, key, len);
    }
    assert_true(false_hits < KEYS / 33); /* three times what is expected */
    hint_filter_fini(&filter);
    assert_int_equal(hint_filter_read(dir, uuid, &listed, 78, &filter, NULL),
                     ARMDB_CORRUPT);
}

static void names_are_told_apart(void **state)
{
    uint64_t number = 0;
    bool temporary;
    char name[HINT_NAME_MAX];

    (void)state;
    hint_name(0xabc, name);
    assert_string_equal(name, "0000000000000abc.hint");
    assert_true(hint_name_parse(name, &number, &temporary));
    assert_false(temporary);
    assert_int_equal(number, 0xabc);
    assert_true(hint_name_parse("0000000000000abd.hint.tmp", &number, &temporary));
    assert_true(temporary);
    assert_int_equal(number, 0xabd);
    assert_false(hint_name_parse("0000000000000abc.seg", &number, &temporary));
    assert_false(hint_name_parse("0000000000000ABC.hint", &number, &temporary));
    assert_false(hint_name_parse("000000000000abc.hint", &number, &temporary));
    assert_false(hint_name_parse("hint", &number, &temporary));
}

static void a_shorter_segment_has_no_end(void **state)
{
    static const unsigned char bytes[8192] = {1};
    struct manifest_segment listed = listed_segment(5);
    struct adb_file *file;
    uint64_t raw;

    (void)state;
    put_file("segment", bytes, sizeof bytes);
    assert_int_equal(io->ops->file_open(dir, "segment", 0, &file, NULL), ARMDB_OK);
    listed.length = 8192;
    assert_int_equal(hint_segment_end(file, "segment", &listed, &raw, NULL), ARMDB_OK);
    assert_int_equal(raw, adb_check_raw(bytes + 4096, 4096));
    listed.length = 4100;
    assert_int_equal(hint_segment_end(file, "segment", &listed, &raw, NULL), ARMDB_OK);
    assert_int_equal(raw, adb_check_raw(bytes + 4, 4096));
    listed.length = 8193;
    assert_int_equal(hint_segment_end(file, "segment", &listed, &raw, NULL),
                     ARMDB_CORRUPT);
    io->ops->file_close(file);
}

static void each_lack_of_memory_is_told_and_leaks_nothing(void **state)
{
    struct manifest_segment listed = listed_segment(5);
    enum armdb_rc rc = ARMDB_NOMEM;
    struct hint hint;
    uint64_t used;

    (void)state;
    put_hint(300, true);
    used = adb_mem_used(ADB_MEM_LOG);
    for (uint64_t n = 1; rc != ARMDB_OK; n++) {
        adb_mem_fail_at(n, false);
        rc = read_five(&hint);
        adb_mem_fail_at(0, false);
        if (rc != ARMDB_OK)
            assert_int_equal(adb_mem_used(ADB_MEM_LOG), used);
    }
    hint_fini(&hint);
    make_hint(300, true, &hint);
    used = adb_mem_used(ADB_MEM_LOG);
    rc = ARMDB_NOMEM;
    for (uint64_t n = 1; rc != ARMDB_OK; n++) {
        adb_mem_fail_at(n, false);
        rc = hint_write(dir, uuid, &listed, 77, &hint, NULL);
        adb_mem_fail_at(0, false);
        assert_int_equal(adb_mem_used(ADB_MEM_LOG), used);
    }
    hint_fini(&hint);
}

static int set_up(void **state)
{
    (void)state;
    assert_int_equal(adb_io_mem_create(&io, NULL), ARMDB_OK);
    assert_int_equal(io->ops->dir_open(io, ":memory:", true, &dir, NULL), ARMDB_OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    io->ops->dir_close(dir);
    io->ops->destroy(io);
    assert_int_equal(adb_mem_used(ADB_MEM_LOG), 0);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_hint_is_read_back_as_it_was_written, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(each_flipped_bit_and_each_cut_is_noticed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_longer_file_is_no_hint, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_hint_belongs_to_one_state_of_one_segment,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(every_field_is_checked_behind_a_right_check,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_filter_knows_every_key_and_few_others, set_up,
                                        tear_down),
        cmocka_unit_test(names_are_told_apart),
        cmocka_unit_test_setup_teardown(a_shorter_segment_has_no_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(each_lack_of_memory_is_told_and_leaks_nothing,
                                        set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

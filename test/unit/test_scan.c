/* test_scan.c - frames found in whole, torn, overwritten and damaged segments. */
#include <errno.h>
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
#include "engine/base/thread.h"
#include "engine/log/scan.h"
#include "log_image.h"

enum { FRAMES = 6, FRAMES_MAX = 2000 };

static const unsigned char uuid[16] = "the store's uuid";
static uint64_t random_state;
static struct adb_io *io;
static struct adb_dir *dir;

static unsigned char random_byte(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (unsigned char)(random_state >> 24);
}

/* What a scan delivered. */
struct seen {
    uint64_t gsn[FRAMES_MAX];
    size_t frames;
    size_t records;
    size_t damaged;
    size_t null_values;
    size_t stretches;
    uint64_t from;
    uint64_t to;
    size_t stop_after; /* stretches; 0 = never */
    enum armdb_rc answer;
};

static enum armdb_rc see_frame(void *arg, const struct frame *frame, uint64_t offset)
{
    struct seen *seen = arg;

    assert_int_equal(offset % 8, 0);
    assert_true(seen->frames < FRAMES_MAX);
    seen->gsn[seen->frames++] = frame->gsn;
    return seen->answer;
}

static enum armdb_rc see_record(void *arg, const struct frame *frame,
                                const struct record *record, uint64_t offset)
{
    struct seen *seen = arg;

    (void)offset;
    assert_true(frame->record_count > 0);
    assert_true(record->key_len >= 1);
    assert_int_equal(record->key[0], 'k');
    if (record->kind == RECORD_PUT && record->value == NULL)
        seen->null_values++;
    seen->records++;
    return ARMDB_OK;
}

static enum armdb_rc see_damaged(void *arg, const struct frame *frame, uint64_t offset)
{
    struct seen *seen = arg;

    (void)offset;
    (void)frame;
    seen->damaged++;
    return ARMDB_OK;
}

static enum armdb_rc see_stretch(void *arg, uint64_t from, uint64_t to)
{
    struct seen *seen = arg;

    assert_true(from < to);
    seen->from = from;
    seen->to = to;
    seen->stretches++;
    return seen->stretches == seen->stop_after ? ARMDB_DONE : ARMDB_OK;
}

static enum armdb_rc scan_limited(const void *bytes, size_t n,
                                  const struct segment_header *header, bool go_on,
                                  uint64_t limit, struct seen *seen,
                                  struct scan_result *result)
{
    struct scan_visitor visitor = {.arg = seen,
                                   .frame = see_frame,
                                   .record = see_record,
                                   .damaged = go_on ? see_damaged : NULL,
                                   .stretch = go_on ? see_stretch : NULL};
    struct adb_file *file = NULL;
    enum armdb_rc rc;

    if (bytes != NULL)
        store_bytes(dir, "s", bytes, n);
    assert_int_equal(io->ops->file_open(dir, "s", 0, &file, NULL), ARMDB_OK);
    rc = scan_segment(file, "s", header, limit, &visitor, result, NULL);
    io->ops->file_close(file);
    return rc;
}

static void scan(const void *bytes, size_t n, const struct segment_header *header,
                 bool go_on, struct seen *seen, struct scan_result *result)
{
    memset(seen, 0, sizeof *seen);
    assert_int_equal(scan_limited(bytes, n, header, go_on, UINT64_MAX, seen, result),
                     ARMDB_OK);
}

static struct record put(const char *key, const void *value, size_t len)
{
    struct record r = {.kind = RECORD_PUT,
                       .table = 1,
                       .key = (const unsigned char *)key,
                       .key_len = strlen(key),
                       .value = value,
                       .value_len = len};

    return r;
}

/* Six frames of one to three records; ends[i] is the end of frame i. */
static void small_segment(struct log_image *image, uint64_t number, uint64_t *ends)
{
    static const char *const values[] = {"", "a", "some value",
                                         "a longer value, with text"};

    image_init(image, uuid, number, 0, SEGMENT_LOG);
    for (uint64_t i = 0; i < FRAMES; i++) {
        struct record records[3];
        struct frame frame = {.kind = FRAME_COMMIT, .gsn = i + 1, .watermark = i};

        for (size_t r = 0; r < 3; r++)
            records[r] = put("key", values[(i + r) % 4], strlen(values[(i + r) % 4]));
        frame.durable_bytes = i == 0 ? 0 : ends[i - 1];
        (void)image_add(image, &frame, records, 1 + (uint32_t)(i % 3));
        ends[i] = image->len;
    }
}

static size_t records_of(size_t frames)
{
    size_t n = 0;

    for (size_t i = 0; i < frames; i++)
        n += 1 + i % 3;
    return n;
}

static void assert_frames(const struct seen *seen, const struct scan_result *result,
                          const uint64_t *ends, size_t frames)
{
    assert_int_equal(seen->frames, frames);
    for (size_t i = 0; i < frames; i++)
        assert_int_equal(seen->gsn[i], i + 1);
    assert_int_equal(seen->records, records_of(frames));
    assert_int_equal(result->end, frames == 0 ? SEGMENT_FIRST_FRAME : ends[frames - 1]);
    assert_int_not_equal(result->why[0], 0);
}

static size_t frames_below(const uint64_t *ends, size_t cut)
{
    size_t n = 0;

    while (n < FRAMES && ends[n] <= cut)
        n++;
    return n;
}

static void a_whole_segment_is_delivered(void **state)
{
    struct log_image image;
    uint64_t ends[FRAMES];
    struct seen seen;
    struct scan_result result;

    (void)state;
    small_segment(&image, 1, ends);
    scan(image.bytes, image.len, &image.header, false, &seen, &result);
    assert_frames(&seen, &result, ends, FRAMES);
    assert_true(result.clean);
    assert_false(result.sealed);
    assert_int_equal(result.w_max, FRAMES - 1);
    assert_int_equal(result.durable_max, ends[FRAMES - 2]);
    assert_int_equal(result.tail, result.end);
    image_fini(&image);
}

static void a_segment_torn_at_any_byte_ends_at_its_last_whole_frame(void **state)
{
    struct log_image image;
    struct log_image stale; /* the same content under another identity */
    uint64_t ends[FRAMES];
    unsigned char *bytes;

    (void)state;
    small_segment(&stale, 2, ends);
    small_segment(&image, 1, ends);
    bytes = malloc(image.len + 4096);
    for (size_t cut = SEGMENT_FIRST_FRAME; cut < image.len; cut++) {
        size_t frames = frames_below(ends, cut);

        for (int how = 0; how < (cut == SEGMENT_FIRST_FRAME ? 5 : 6); how++) {
            size_t n = image.len + 4096;
            struct seen seen;
            struct scan_result result;

            memcpy(bytes, image.bytes, cut);
            memset(bytes + cut, 0, n - cut);
            if (how == 0)
                n = cut;
            for (size_t i = cut; how == 2 && i < n; i++)
                bytes[i] = random_byte();
            if (how == 3) /* an earlier use of the file */
                memcpy(bytes + cut, stale.bytes + cut, image.len - cut);
            if (how == 4) /* the same frames, 8 bytes further on */
                memcpy(bytes + cut + 8, image.bytes + cut, image.len - cut);
            if (how == 5) /* the first frames once more */
                memcpy(bytes + cut, image.bytes + SEGMENT_FIRST_FRAME,
                       image.len - SEGMENT_FIRST_FRAME);
            scan(bytes, n, &image.header, false, &seen, &result);
            if (how == 1 || how == 4) { /* cut behind its last byte that is not zero */
                size_t real = cut;

                while (real < image.len && image.bytes[real] == 0)
                    real++;
                if (how == 1)
                    frames = frames_below(ends, real);
            }
            assert_frames(&seen, &result, ends, frames);
            assert_true(result.w_max < FRAMES);
            if (how == 0 && frames > 0 && ends[frames - 1] == cut)
                assert_true(result.clean);
            scan(NULL, 0, &image.header, true, &seen, &result);
            assert_int_equal(seen.frames, frames);
        }
    }
    free(bytes);
    image_fini(&image);
    image_fini(&stale);
}

static void a_damaged_byte_costs_its_own_frame_alone(void **state)
{
    struct log_image image;
    uint64_t ends[FRAMES];

    (void)state;
    small_segment(&image, 1, ends);
    for (size_t at = SEGMENT_FIRST_FRAME; at < image.len; at++) {
        size_t hit = frames_below(ends, at);
        struct seen seen;
        struct scan_result result;

        image.bytes[at] ^= 0x10;
        scan(image.bytes, image.len, &image.header, false, &seen, &result);
        assert_frames(&seen, &result, ends, hit);
        /* Marks behind the damage still testify. */
        if (hit < FRAMES - 1)
            assert_int_equal(result.w_max, FRAMES - 1);
        scan(NULL, 0, &image.header, true, &seen, &result);
        assert_true(seen.frames == FRAMES - 1 || seen.frames == FRAMES);
        assert_true(seen.frames == FRAMES - 1 || seen.damaged == 0);
        assert_int_equal(result.end, hit == 0 ? SEGMENT_FIRST_FRAME : ends[hit - 1]);
        if (seen.damaged == 1)
            assert_true(seen.stretches == 1 || seen.null_values == 1);
        else if (hit < FRAMES - 1 || seen.frames == FRAMES)
            assert_int_equal(seen.stretches, 1);
        if (seen.stretches == 1)
            assert_true(seen.from <= at && at < seen.to);
        image.bytes[at] ^= 0x10;
    }
    image_fini(&image);
}

static void a_damaged_value_still_names_its_key(void **state)
{
    struct log_image image;
    struct seen seen;
    struct scan_result result;
    struct frame frame = {.kind = FRAME_COMMIT, .gsn = 1};
    struct record records[3] = {put("k1", "value 1", 7), put("k2", "value 2", 7),
                                put("k3", "value 3", 7)};
    unsigned char *at;

    (void)state;
    image_init(&image, uuid, 1, 0, SEGMENT_LOG);
    (void)image_add(&image, &frame, records, 3);
    frame.gsn = 2;
    (void)image_add(&image, &frame, records, 3);
    at = image.bytes + SEGMENT_FIRST_FRAME;
    while (memcmp(at, "value 2", 7) != 0)
        at++;
    *at = 'X';
    scan(image.bytes, image.len, &image.header, true, &seen, &result);
    assert_int_equal(seen.damaged, 1);
    assert_int_equal(seen.frames, 1);
    assert_int_equal(seen.records, 6);
    assert_int_equal(seen.null_values, 1);
    assert_int_equal(seen.stretches, 0);
    assert_int_equal(result.tail, image.len);
    image_fini(&image);
}

static void a_seal_ends_the_segment_and_a_limit_hides_the_rest(void **state)
{
    struct log_image image;
    uint64_t ends[FRAMES];
    struct seen seen;
    struct scan_result result;
    struct frame seal = {
        .kind = FRAME_SEAL, .arg_a = 1, .arg_b = FRAMES, .watermark = 40};
    struct frame late = {.kind = FRAME_COMMIT, .gsn = 9, .watermark = 50};
    struct record record = put("k", "v", 1);
    size_t sealed_len;

    (void)state;
    small_segment(&image, 1, ends);
    (void)image_add(&image, &seal, NULL, 0);
    sealed_len = image.len;
    scan(image.bytes, image.len, &image.header, false, &seen, &result);
    assert_true(result.sealed);
    assert_int_equal(result.end, sealed_len);
    assert_int_equal(seen.frames, FRAMES + 1);
    (void)image_add(&image, &late, &record, 1);
    scan(image.bytes, image.len, &image.header, true, &seen, &result);
    assert_int_equal(seen.frames, FRAMES + 1);
    assert_int_equal(result.end, sealed_len);
    assert_int_equal(result.w_max, 50);
    assert_false(result.clean);
    for (uint64_t limit = 0; limit < image.len; limit++) {
        memset(&seen, 0, sizeof seen);
        assert_int_equal(
            scan_limited(NULL, 0, &image.header, false, limit, &seen, &result), ARMDB_OK);
        assert_int_equal(seen.frames, frames_below(ends, limit) + (limit >= sealed_len));
    }
    image_fini(&image);
}

static void delivery_can_be_stopped_and_frames_skipped(void **state)
{
    struct log_image image;
    uint64_t ends[FRAMES];
    struct seen seen;
    struct scan_result result;

    (void)state;
    small_segment(&image, 1, ends);
    memset(&seen, 0, sizeof seen);
    seen.answer = ARMDB_DONE;
    assert_int_equal(scan_limited(image.bytes, image.len, &image.header, false,
                                  UINT64_MAX, &seen, &result),
                     ARMDB_OK);
    assert_int_equal(seen.frames, FRAMES);
    assert_int_equal(seen.records, 0);
    seen.answer = ARMDB_FULL;
    assert_int_equal(
        scan_limited(NULL, 0, &image.header, false, UINT64_MAX, &seen, &result),
        ARMDB_FULL);
    image.bytes[ends[1] + 20] ^= 1; /* header of the third */
    memset(&seen, 0, sizeof seen);
    seen.stop_after = 1;
    assert_int_equal(scan_limited(image.bytes, image.len, &image.header, true, UINT64_MAX,
                                  &seen, &result),
                     ARMDB_OK);
    assert_int_equal(seen.frames, 2);
    assert_int_equal(result.w_max, FRAMES - 1);
    image_fini(&image);
}

static void frames_larger_than_the_window_and_long_tails_are_read(void **state)
{
    enum { BIG = 5 << 20 };
    struct log_image image;
    struct seen seen;
    struct scan_result result;
    unsigned char *value = malloc(BIG);
    uint64_t gsn = 0;
    uint64_t lone;

    (void)state;
    memset(value, 'k', BIG);
    image_init(&image, uuid, 1, 0, SEGMENT_LOG);
    for (size_t len = 1; len <= BIG; len = len * 3 + 1) {
        struct frame frame = {.kind = FRAME_COMMIT, .gsn = ++gsn};
        struct record records[2] = {put("key", value, len), put("key2", value, 3000)};

        (void)image_add(&image, &frame, records, 2);
    }
    image_store(&image, dir, 0);
    scan(image.bytes, image.len, &image.header, true, &seen, &result);
    assert_int_equal(seen.frames, gsn);
    assert_int_equal(result.end, image.len);
    /* 3 MiB of zeros, a lone frame, zeros again. */
    lone = image.len;
    image.bytes = realloc(image.bytes, image.len + (8 << 20));
    memset(image.bytes + image.len, 0, 8 << 20);
    image.size = image.len + (8 << 20);
    scan(image.bytes, image.size, &image.header, false, &seen, &result);
    assert_true(result.clean);
    assert_int_equal(result.end, lone);
    image.len += 3 << 20;
    {
        struct frame frame = {.kind = FRAME_COMMIT, .gsn = 77, .durable_bytes = 12345678};
        struct record record = put("k", "v", 1);

        (void)image_add(&image, &frame, &record, 1);
    }
    scan(image.bytes, image.size, &image.header, false, &seen, &result);
    assert_false(result.clean);
    assert_int_equal(seen.frames, gsn);
    assert_int_equal(result.durable_max, 12345678);
    scan(image.bytes, image.size, &image.header, true, &seen, &result);
    assert_int_equal(seen.frames, gsn + 1);
    assert_int_equal(seen.stretches, 1);
    assert_int_equal(seen.from, lone);
    assert_int_equal(result.tail, image.len);
    assert_true(result.clean);
    free(value);
    image_fini(&image);
}

static void lengths_in_a_right_header_are_held_against_the_file(void **state)
{
    static const uint64_t lens[] = {8, 1 << 20, (UINT64_C(1) << 40) + 8, INT64_MAX,
                                    UINT64_MAX};
    struct seen seen;
    struct scan_result result;

    (void)state;
    for (size_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        for (int which = 0; which < 2; which++) {
            struct log_image image;
            struct frame frame = {.kind = FRAME_COMMIT, .gsn = 1};
            struct record record = put("k", "v", 1);
            uint64_t at;

            image_init(&image, uuid, 1, 0, SEGMENT_LOG);
            at = image_add(&image, &frame, &record, 1);
            if (which == 0) {
                frame.body_len += lens[i];
                frame_encode(&frame, image.bytes + at, image.seed, at);
            } else {
                unsigned char *p = image.bytes + at;

                adb_put_u32(p + 12, (uint32_t)lens[i] & ~7u);
                adb_put_u64(p + 112,
                            adb_check_bind(adb_check_raw(p, 112), image.seed, at + 112));
            }
            scan(image.bytes, image.len, &image.header, true, &seen, &result);
            assert_int_equal(seen.frames, 0);
            assert_int_equal(result.end, SEGMENT_FIRST_FRAME);
            image_fini(&image);
        }
    }
}

static void frames_of_unknown_kinds_are_refused_with_the_version(void **state)
{
    struct log_image image;
    struct armdb_error err = {.rc = ARMDB_OK};
    struct scan_result result;
    struct scan_visitor visitor = {.frame = see_frame};
    struct frame frame = {.kind = FRAME_SEAL};
    struct adb_file *file = NULL;
    struct seen seen = {.frames = 0};
    uint64_t at;

    (void)state;
    visitor.arg = &seen;
    image_init(&image, uuid, 1, 0, SEGMENT_LOG);
    at = image_add(&image, &frame, NULL, 0);
    image.bytes[at + 8] = 99;
    adb_put_u64(
        image.bytes + at + 112,
        adb_check_bind(adb_check_raw(image.bytes + at, 112), image.seed, at + 112));
    store_bytes(dir, "s", image.bytes, image.len);
    assert_int_equal(io->ops->file_open(dir, "s", 0, &file, NULL), ARMDB_OK);
    assert_int_equal(
        scan_segment(file, "s", &image.header, UINT64_MAX, &visitor, &result, &err),
        ARMDB_VERSION);
    assert_non_null(strstr(err.text, "version 1"));
    io->ops->file_close(file);
    image_fini(&image);
}

static void moved_records_belong_into_outputs_alone(void **state)
{
    for (int kind = SEGMENT_LOG; kind <= SEGMENT_OUTPUT; kind++) {
        struct log_image image;
        struct seen seen;
        struct scan_result result;
        struct record record = put("k", "v", 1);
        struct frame frame = {.kind = FRAME_MOVED};

        (void)state;
        record.flags = RECORD_HAS_GSN;
        record.gsn = 5;
        image_init(&image, uuid, 1, 0, (enum segment_kind)kind);
        (void)image_add(&image, &frame, &record, 1);
        scan(image.bytes, image.len, &image.header, false, &seen, &result);
        assert_int_equal(seen.frames, kind == SEGMENT_OUTPUT);
        image_fini(&image);
    }
}

static void garbage_and_short_files_deliver_nothing(void **state)
{
    struct log_image image;
    struct seen seen;
    struct scan_result result;
    unsigned char *bytes = malloc(70000);

    (void)state;
    image_init(&image, uuid, 1, 0, SEGMENT_LOG);
    for (size_t n = 0; n < 70000; n = n * 2 + 1) {
        for (size_t i = 0; i < n; i++)
            bytes[i] = random_byte();
        for (int go_on = 0; go_on < 2; go_on++) {
            scan(bytes, n, &image.header, go_on != 0, &seen, &result);
            assert_int_equal(seen.frames, 0);
            assert_int_equal(result.end, SEGMENT_FIRST_FRAME);
        }
    }
    free(bytes);
    image_fini(&image);
}

static void failed_allocations_are_reported(void **state)
{
    struct log_image image;
    uint64_t ends[FRAMES];
    struct scan_result result;

    (void)state;
    small_segment(&image, 1, ends);
    store_bytes(dir, "s", image.bytes, image.len);
    for (uint64_t n = 1;; n++) {
        struct scan_visitor visitor = {.frame = see_frame};
        struct seen seen = {.frames = 0};
        struct adb_file *file = NULL;
        enum armdb_rc rc;

        visitor.arg = &seen;
        assert_int_equal(io->ops->file_open(dir, "s", 0, &file, NULL), ARMDB_OK);
        adb_mem_fail_at(n, true);
        rc = scan_segment(file, "s", &image.header, UINT64_MAX, &visitor, &result, NULL);
        adb_mem_fail_at(0, false);
        io->ops->file_close(file);
        if (rc == ARMDB_OK)
            break;
        assert_int_equal(rc, ARMDB_NOMEM);
    }
    image_fini(&image);
    assert_int_equal(adb_mem_used(ADB_MEM_LOG), 0);
}

/* An engine whose reads of one page fail. */
static const struct adb_io_ops *whole_ops;
static uint64_t bad_page;

static void submit_but_one_page(struct adb_io *engine, struct adb_io_op *ops,
                                size_t count)
{
    whole_ops->submit(engine, ops, count);
    for (size_t i = 0; i < count; i++)
        if (ops[i].kind == ADB_IO_READ && ops[i].offset < bad_page + 4096 &&
            ops[i].offset + ops[i].iov[0].iov_len > bad_page)
            ops[i].sys_errno = EIO;
}

static void a_patient_scan_loses_one_page_and_no_more(void **state)
{
    static unsigned char value[3000];
    struct log_image image;
    struct adb_io_ops ops = *io->ops;
    struct scan_visitor visitor = {.frame = see_frame,
                                   .record = see_record,
                                   .damaged = see_damaged,
                                   .stretch = see_stretch};
    struct seen seen;
    struct scan_result result;
    struct adb_file *file = NULL;

    (void)state;
    image_init(&image, uuid, 1, 0, SEGMENT_LOG);
    for (uint64_t i = 0; i < 2 * FRAMES; i++) {
        struct record record = put("key", value, sizeof value);
        struct frame frame = {.kind = FRAME_COMMIT, .gsn = i + 1};

        (void)image_add(&image, &frame, &record, 1);
    }
    store_bytes(dir, "s", image.bytes, image.len);
    assert_int_equal(io->ops->file_open(dir, "s", 0, &file, NULL), ARMDB_OK);
    whole_ops = io->ops;
    ops.submit = submit_but_one_page;
    io->ops = &ops;
    visitor.arg = &seen;
    bad_page = 5 * 4096;
    for (int patient = 0; patient < 2; patient++) {
        memset(&seen, 0, sizeof seen);
        visitor.patient = patient == 1;
        assert_int_equal(
            scan_segment(file, "s", &image.header, UINT64_MAX, &visitor, &result, NULL),
            patient == 1 ? ARMDB_OK : ARMDB_IO);
    }
    io->ops = whole_ops;
    io->ops->file_close(file);
    assert_true(seen.frames >= 2 * FRAMES - 2);
    assert_int_equal(seen.gsn[seen.frames - 1], 2 * FRAMES);
    assert_true(seen.damaged + seen.stretches > 0);
    image_fini(&image);
}

static int open_folder(void **state)
{
    (void)state;
    if (adb_io_mem_create(&io, NULL) != ARMDB_OK)
        return -1;
    return io->ops->dir_open(io, "/scan", true, &dir, NULL) == ARMDB_OK ? 0 : -1;
}

static int close_folder(void **state)
{
    (void)state;
    io->ops->dir_close(dir);
    io->ops->destroy(io);
    return adb_mem_used_total() == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_segment_is_delivered),
        cmocka_unit_test(a_segment_torn_at_any_byte_ends_at_its_last_whole_frame),
        cmocka_unit_test(a_damaged_byte_costs_its_own_frame_alone),
        cmocka_unit_test(a_damaged_value_still_names_its_key),
        cmocka_unit_test(a_seal_ends_the_segment_and_a_limit_hides_the_rest),
        cmocka_unit_test(delivery_can_be_stopped_and_frames_skipped),
        cmocka_unit_test(frames_larger_than_the_window_and_long_tails_are_read),
        cmocka_unit_test(lengths_in_a_right_header_are_held_against_the_file),
        cmocka_unit_test(frames_of_unknown_kinds_are_refused_with_the_version),
        cmocka_unit_test(moved_records_belong_into_outputs_alone),
        cmocka_unit_test(a_patient_scan_loses_one_page_and_no_more),
        cmocka_unit_test(garbage_and_short_files_deliver_nothing),
        cmocka_unit_test(failed_allocations_are_reported),
    };
    const char *seed = getenv("SEED");

    random_state = seed != NULL ? strtoull(seed, NULL, 0) : (uint64_t)adb_mono_ns() | 1;
    printf("SEED=%llu\n", (unsigned long long)random_state);
    return cmocka_run_group_tests(tests, open_folder, close_folder);
}

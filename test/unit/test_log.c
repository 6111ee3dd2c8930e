/* The log above the codecs: GSNs and marks, group commit, rotation, room, wounds. Runs
 * on files in memory behind a table of operations that can be told to fail. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/thread.h"
#include "engine/log/gsn.h"
#include "engine/log/log.h"
#include "engine/log/record.h"
#include "engine/log/scan.h"

static struct adb_io_ops failing;
static const struct adb_io_ops *real;
static int fail_sync;    /* the next so many syncs fail with EIO */
static int fail_reserve; /* reservations fail with ENOSPC while not 0 */
static uint64_t syncs;

static void submit(struct adb_io *io, struct adb_io_op *ops, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (ops[i].kind != ADB_IO_SYNC)
            continue;
        syncs++;
        if (fail_sync > 0) {
            fail_sync--;
            for (size_t j = 0; j < count; j++)
                ops[j].sys_errno = EIO;
            return;
        }
    }
    real->submit(io, ops, count);
}

static enum armdb_rc reserve(struct adb_file *file, uint64_t bytes, bool written,
                             struct armdb_error *err)
{
    if (fail_reserve != 0)
        return adb_fail_errno(ENOSPC, ARMDB_IO, err, "reserving");
    return real->file_reserve(file, bytes, written, err);
}

struct fixture {
    struct adb_io *io;
    struct adb_dir *dir;
    struct cache *cache;
    struct log log;
};

static const unsigned char uuid[16] = "test store uuid";
static struct armdb_error err;

#define OK(call) assert_int_equal((call), ARMDB_OK)

static void open_log(struct fixture *f, uint32_t shards)
{
    struct manifest manifest;

    fail_sync = 0;
    fail_reserve = 0;
    OK(adb_io_mem_create(&f->io, &err));
    real = f->io->ops;
    failing = *real;
    failing.submit = submit;
    failing.file_reserve = reserve;
    f->io->ops = &failing;
    OK(failing.dir_open(f->io, ":memory:", true, &f->dir, &err));
    OK(cache_create(1 << 20, &f->cache));
    manifest_init(&manifest);
    manifest.next_segment = 1;
    manifest.next_table = 1;
    OK(manifest_write(f->dir, uuid, &manifest, &err));
    OK(log_open(&f->log, f->dir, f->cache, uuid, shards, 1 << 20, false, false, &manifest,
                0, 0, &err));
}

static void close_log(struct fixture *f)
{
    log_close(&f->log);
    cache_destroy(f->cache);
    failing.dir_close(f->dir);
    failing.destroy(f->io);
}

/* Appends a COMMIT frame of one record with a value of `len` bytes. */
static enum armdb_rc append(struct fixture *f, uint32_t shard, size_t len,
                            struct gsn_undecided *undecided, _Atomic uint64_t *location)
{
    static unsigned char value[300000];
    static unsigned char bytes[sizeof value + 200];
    struct record record = {.kind = RECORD_PUT,
                            .table = 1,
                            .key = (const unsigned char *)"key",
                            .key_len = 3,
                            .value = value,
                            .value_len = len};
    struct log_record staged = {.bytes = bytes, .has_value_check = true};
    struct frame frame = {.kind = FRAME_COMMIT};

    memset(value, (int)len, sizeof value);
    staged.size = record_size(&record);
    staged.location = location;
    record_encode(&record, bytes, &staged.head_check_at);
    return log_append(&f->log, shard, &frame, &staged, 1, undecided, NULL, &err);
}

static void w_covers_what_was_synced_in_all_shards_and_nothing_else(void **state)
{
    struct gsn gsn;
    uint32_t shard = 99;

    (void)state;
    OK(gsn_init(&gsn, 3, 10));
    assert_int_equal(gsn_durable(&gsn), 10);
    assert_int_equal(gsn_take(&gsn, 0, NULL), 11);
    assert_int_equal(gsn_take(&gsn, 2, NULL), 12);
    assert_int_equal(gsn_take(&gsn, 0, NULL), 13);
    gsn_capture(&gsn, 2);
    gsn_flushed(&gsn, 2, true);
    assert_int_equal(gsn_durable(&gsn), 10); /* 11 is not durable yet */
    assert_int_equal(gsn_ask(&gsn, 12, true, &shard), GSN_BEHIND);
    assert_int_equal(shard, 0);
    gsn_capture(&gsn, 0);
    assert_int_equal(gsn_take(&gsn, 0, NULL), 14); /* after the flush began */
    gsn_flushed(&gsn, 0, true);
    assert_int_equal(gsn_durable(&gsn), 13);
    gsn_capture(&gsn, 0);
    gsn_flushed(&gsn, 0, false);
    assert_int_equal(gsn_durable(&gsn), 13); /* written is not durable */
    assert_int_equal(gsn_ask(&gsn, 14, false, &shard), GSN_COVERED);
    gsn_wound(&gsn);
    assert_int_equal(gsn_ask(&gsn, 14, true, &shard), GSN_WOUNDED);
    gsn_fini(&gsn);
}

static void d_stops_below_the_first_undecided_frame(void **state)
{
    struct gsn gsn;
    struct gsn_undecided a;
    struct gsn_undecided b;

    (void)state;
    OK(gsn_init(&gsn, 1, 0));
    (void)gsn_take(&gsn, 0, &a);
    (void)gsn_take(&gsn, 0, &b);
    gsn_capture(&gsn, 0);
    gsn_flushed(&gsn, 0, true);
    assert_int_equal(gsn_settled(&gsn), 0);
    gsn_decided(&gsn, &b);
    assert_int_equal(gsn_settled(&gsn), 0);
    gsn_decided(&gsn, &a);
    assert_int_equal(gsn_settled(&gsn), 2);
    gsn_fini(&gsn);
}

static void one_sync_carries_all_commits_appended_before_it(void **state)
{
    struct fixture f;
    struct gsn_undecided undecided[50];
    uint64_t before;

    (void)state;
    open_log(&f, 1);
    for (int i = 0; i < 50; i++)
        OK(append(&f, 0, 100, &undecided[i], NULL));
    before = syncs;
    OK(log_cover(&f.log, 0, undecided[49].gsn, true, &err));
    assert_int_equal(syncs - before, 1);
    assert_int_equal(gsn_durable(&f.log.gsn), 50);
    for (int i = 0; i < 50; i++) {
        OK(log_cover(&f.log, 0, undecided[i].gsn, true, &err));
        log_decided(&f.log, 0, &undecided[i]);
    }
    assert_int_equal(syncs - before, 1);
    close_log(&f);
}

static void covering_a_commit_syncs_lower_gsns_of_other_shards(void **state)
{
    struct fixture f;
    struct gsn_undecided low;
    struct gsn_undecided high;

    (void)state;
    open_log(&f, 2);
    OK(append(&f, 0, 100, &low, NULL));
    OK(append(&f, 1, 100, &high, NULL));
    OK(log_cover(&f.log, 1, high.gsn, true, &err));
    assert_int_equal(gsn_durable(&f.log.gsn), high.gsn);
    log_decided(&f.log, 0, &low);
    log_decided(&f.log, 1, &high);
    close_log(&f);
}

struct count {
    uint64_t frames;
    uint64_t last_gsn;
};

static enum armdb_rc count_frame(void *arg, const struct frame *frame, uint64_t offset)
{
    struct count *count = arg;

    (void)offset;
    if (frame->kind == FRAME_COMMIT) {
        assert_true(frame->gsn > count->last_gsn);
        count->last_gsn = frame->gsn;
        count->frames++;
    }
    return ARMDB_OK;
}

static void a_full_segment_is_sealed_and_a_new_one_begun(void **state)
{
    struct fixture f;
    struct gsn_undecided undecided;
    struct count count = {0, 0};
    struct scan_visitor visitor = {.arg = &count, .frame = count_frame};
    uint32_t slots;

    (void)state;
    open_log(&f, 1);
    for (int i = 0; i < 100; i++) { /* 3 MB in segments of 1 MiB */
        OK(append(&f, 0, 30000, &undecided, NULL));
        OK(log_cover(&f.log, 0, undecided.gsn, true, &err));
        log_decided(&f.log, 0, &undecided);
    }
    slots = (uint32_t)f.log.locked.manifest.segment_count;
    assert_in_range(slots, 3, 5);
    for (uint32_t slot = 1; slot <= slots; slot++) {
        struct segment *segment = segtab_get(&f.log.segments, slot);
        struct scan_result result;

        assert_non_null(segment);
        OK(scan_segment(segment->file, segment->name, &segment->header, UINT64_MAX,
                        &visitor, &result, &err));
        assert_int_equal(result.sealed, slot < slots);
    }
    assert_int_equal(count.frames, 100);
    close_log(&f);
}

static void a_record_larger_than_a_segment_gets_one_of_its_own(void **state)
{
    struct fixture f;
    struct gsn_undecided undecided;
    _Atomic uint64_t location = 0;

    (void)state;
    open_log(&f, 1);
    f.log.segment_size = 200000; /* below the record */
    OK(append(&f, 0, 100, &undecided, NULL));
    log_decided(&f.log, 0, &undecided);
    OK(append(&f, 0, 250000, &undecided, &location));
    OK(log_cover(&f.log, 0, undecided.gsn, true, &err));
    log_decided(&f.log, 0, &undecided);
    assert_int_equal(location_slot(location), 2);
    OK(append(&f, 0, 100, &undecided, &location));
    OK(log_cover(&f.log, 0, undecided.gsn, true, &err));
    log_decided(&f.log, 0, &undecided);
    assert_int_equal(location_slot(location), 3);
    close_log(&f);
}

static void a_full_disk_refuses_the_frame_and_harms_nothing(void **state)
{
    struct fixture f;
    struct gsn_undecided undecided;
    uint64_t last;
    enum armdb_rc rc = ARMDB_OK;

    (void)state;
    open_log(&f, 1);
    OK(append(&f, 0, 100, &undecided, NULL));
    log_decided(&f.log, 0, &undecided);
    fail_reserve = 1;
    while (rc == ARMDB_OK) {
        last = gsn_last(&f.log.gsn);
        rc = append(&f, 0, 30000, &undecided, NULL);
        if (rc == ARMDB_OK)
            log_decided(&f.log, 0, &undecided);
    }
    assert_int_equal(rc, ARMDB_FULL);
    assert_int_equal(gsn_last(&f.log.gsn), last); /* no GSN was taken */
    fail_reserve = 0;
    OK(append(&f, 0, 30000, &undecided, NULL)); /* room again: goes on at once */
    OK(log_cover(&f.log, 0, undecided.gsn, true, &err));
    log_decided(&f.log, 0, &undecided);
    close_log(&f);
}

static void a_failed_sync_wounds_and_is_never_believed_later(void **state)
{
    struct fixture f;
    struct gsn_undecided first;
    struct gsn_undecided second;

    (void)state;
    open_log(&f, 2);
    OK(append(&f, 0, 100, &first, NULL));
    fail_sync = 1;
    assert_int_equal(log_cover(&f.log, 0, first.gsn, true, &err), ARMDB_IO);
    assert_int_equal(log_cover(&f.log, 0, first.gsn, true, &err), ARMDB_WOUNDED);
    assert_int_equal(gsn_durable(&f.log.gsn), 0);
    assert_int_equal(append(&f, 1, 100, &second, NULL), ARMDB_WOUNDED);
    assert_non_null(strstr(err.text, "read-only"));
    log_decided(&f.log, 0, &first);
    close_log(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(w_covers_what_was_synced_in_all_shards_and_nothing_else),
        cmocka_unit_test(d_stops_below_the_first_undecided_frame),
        cmocka_unit_test(one_sync_carries_all_commits_appended_before_it),
        cmocka_unit_test(covering_a_commit_syncs_lower_gsns_of_other_shards),
        cmocka_unit_test(a_full_segment_is_sealed_and_a_new_one_begun),
        cmocka_unit_test(a_record_larger_than_a_segment_gets_one_of_its_own),
        cmocka_unit_test(a_full_disk_refuses_the_frame_and_harms_nothing),
        cmocka_unit_test(a_failed_sync_wounds_and_is_never_believed_later),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

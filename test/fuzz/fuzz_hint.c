/* fuzz_hint.c - any bytes as a hint, and as one of right checks.
 *
 * Input: a byte of choices, then the file. The segment that it is said to belong to is
 * the one that the footer names.
 *
 *   bit 0   checks stay as they are; else they are made right
 *   bit 1   the index lies where the footer says; else where it must lie for the parts to
 *           fill the file
 *
 * What is accepted can be read to its end: entries rise, lie in the segment, have GSNs of
 * its range, are as many as the footer counts; it can be written, and what was written is
 * read as the same. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/check.h"
#include "engine/log/hint.h"
#include "test/fuzz/harness.h"
#include "test/fuzz/reseal.h"
#include "test/sim/sim_disk.h"
#include "test/sim/sim_sched.h"

const struct fuzz_setup fuzz_setup = {"hint", 40000, 1500, 1 << 20, 64};

enum {
    FOOTER = 208,
    AT_UUID = 16,
    AT_IDENTITY = 32,
    AT_NUMBER = 48,
    AT_LENGTH = 56,
    AT_GSN_LOW = 64,
    AT_GSN_HIGH = 72,
    AT_END_RAW = 80
};

/* ---- What was accepted ---- */

static uint64_t look_at_run(const struct run *run, const struct manifest_segment *listed)
{
    struct run_cursor cursor;
    struct run_entry entry;
    struct run_entry last = {0};
    uint8_t *last_key = NULL;
    uint64_t count = 0;
    uint64_t sum = 0;

    FUZZ_CHECK(run_cursor_init(&cursor, run) == ARMDB_OK);
    while (run_next(&cursor, &entry)) {
        FUZZ_CHECK(entry.key_len <= run->key_max);
        FUZZ_CHECK(entry.offset < listed->length);
        FUZZ_CHECK(entry.gsn >= listed->gsn_low && entry.gsn <= listed->gsn_high);
        FUZZ_CHECK(count == 0 || run_compare_keys(&last, &entry) < 0);
        free(last_key);
        last_key = fuzz_copy(entry.key, entry.key_len);
        last = entry;
        last.key = last_key;
        sum = sum * 31 + adb_check_raw(entry.key, entry.key_len) + entry.gsn +
              entry.offset + entry.ordinal + entry.table + entry.value_len;
        FUZZ_CHECK(++count <= run->entries);
    }
    FUZZ_CHECK(count == run->entries);
    free(last_key);
    run_cursor_fini(&cursor);
    return sum;
}

static void same_notes(const struct hint *a, const struct hint *b)
{
    FUZZ_CHECK(a->note_count == b->note_count);
    for (size_t i = 0; i < a->note_count; i++) {
        const struct hint_note *x = &a->notes[i];
        const struct hint_note *y = &b->notes[i];

        FUZZ_CHECK(x->kind == y->kind && x->gsn == y->gsn && x->arg_a == y->arg_a &&
                   x->void_run_count == y->void_run_count);
        FUZZ_CHECK(x->void_run_count == 0 ||
                   memcmp(x->void_runs, y->void_runs,
                          x->void_run_count * 2 * sizeof *x->void_runs) == 0);
    }
}

static void accepted(struct adb_dir *dir, const uint8_t *uuid,
                     const struct manifest_segment *listed, uint64_t end_raw,
                     const struct hint *hint)
{
    struct hint again;
    struct hint_filter filter;
    struct armdb_error err;
    uint64_t sum = look_at_run(&hint->run, listed);

    if (hint_filter_read(dir, uuid, listed, end_raw, &filter, &err) == ARMDB_OK) {
        (void)hint_may_hold(&filter, 1, uuid, 16);
        hint_filter_fini(&filter);
    }
    FUZZ_CHECK(hint_write(dir, uuid, listed, end_raw, hint, &err) == ARMDB_OK);
    FUZZ_CHECK(hint_install(dir, listed->number, &err) == ARMDB_OK);
    FUZZ_CHECK(hint_read(dir, uuid, listed, end_raw, &again, &err) == ARMDB_OK);
    FUZZ_CHECK(look_at_run(&again.run, listed) == sum);
    same_notes(hint, &again);
    FUZZ_CHECK(again.record_count == hint->record_count &&
               again.record_bytes == hint->record_bytes &&
               again.watermark_max == hint->watermark_max);
    hint_fini(&again);
}

static void read_hint(struct adb_dir *dir, const uint8_t *footer)
{
    struct manifest_segment listed = {.kind = SEGMENT_LOG, .sealed = true};
    uint8_t uuid[16];
    uint64_t end_raw = adb_get_u64(footer + AT_END_RAW);
    struct hint hint;
    struct armdb_error err;
    enum armdb_rc rc;

    memcpy(uuid, footer + AT_UUID, 16);
    memcpy(listed.identity, footer + AT_IDENTITY, 16);
    listed.number = adb_get_u64(footer + AT_NUMBER);
    listed.length = adb_get_u64(footer + AT_LENGTH);
    listed.gsn_low = adb_get_u64(footer + AT_GSN_LOW);
    listed.gsn_high = adb_get_u64(footer + AT_GSN_HIGH);
    FUZZ_SCRIBBLE(hint);
    rc = hint_read(dir, uuid, &listed, end_raw, &hint, &err);
    FUZZ_CHECK(rc == ARMDB_OK || rc == ARMDB_CORRUPT || rc == ARMDB_VERSION);
    if (rc == ARMDB_OK)
        accepted(dir, uuid, &listed, end_raw, &hint);
    else
        FUZZ_CHECK(err.rc == rc && hint.run.bytes == NULL && hint.notes == NULL);
    hint_fini(&hint);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    uint8_t how = fuzz_u8(&in);
    size_t n = in.left;
    struct sim_disk *disk;
    struct adb_io *io;
    struct adb_dir *dir;
    uint8_t *bytes;
    uint32_t inode;
    char name[HINT_NAME_MAX];

    if (n < FOOTER)
        return 0;
    bytes = fuzz_copy(in.p, n);
    if ((how & 1) == 0)
        (void)reseal_hint(bytes, n, (how & 2) == 0);
    sim_sched_seed(36, 0);
    disk = sim_disk_create(36);
    sim_disk_mount(disk);
    (void)strcpy(disk->dirs[disk->dir_count++], "/hint");
    inode = sim_disk_new_inode(disk);
    disk->inodes[inode].links = 1;
    sim_content_resize(&disk->inodes[inode].content, n);
    sim_content_write(&disk->inodes[inode].content, 0, bytes, n);
    hint_name(adb_get_u64(bytes + n - FOOTER + AT_NUMBER), name);
    sim_names_set(&disk->names, 0, name, inode);
    fuzz_begin(n);
    FUZZ_CHECK(adb_io_plain_create(&io, NULL) == ARMDB_OK);
    FUZZ_CHECK(io->ops->dir_open(io, "/hint", false, &dir, NULL) == ARMDB_OK);
    read_hint(dir, bytes + n - FOOTER);
    io->ops->dir_close(dir);
    io->ops->destroy(io);
    fuzz_end();
    sim_disk_destroy(disk);
    free(bytes);
    return 0;
}

/* test_hostile.c - folders made to hurt: memory and work stay in proportion to their
 * size.
 *
 * Every check in these files is right; what they claim is not. Each is opened through
 * engine/armdb.h, read, written and closed. What the engine asks for at most is held
 * against a base and so many times the folder's bytes (mem_watch.h), no single demand may
 * follow from a claim, and each must be done within a time that has nothing to do with
 * what is claimed. fuzz_store looks for more of the kind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/armdb.h"
#include "engine/base/bytes.h"
#include "engine/log/manifest.h"
#include "engine/log/superblock.h"
#include "log_image.h"
#include "test/fuzz/mem_watch.h"

enum {
    BASE_BYTES = 4 << 20, /* the cache's 1 MiB, tables of a store without rows */
    FACTOR = 64,
    TABLE_BYTES = 20 << 10, /* a table with its first row */
    SECONDS_MAX = 60
};

static const unsigned char uuid[16] = "the store's uuid";

struct folder {
    char path[100];
    struct adb_io *io;
    struct adb_dir *dir;
    struct manifest manifest;
    struct log_image image; /* segment 1 of shard 0, a log */
    size_t bytes;           /* of all files */
    size_t tables;          /* that have rows: each costs TABLE_BYTES */
    enum armdb_rc rc;       /* of the opening */
    struct armdb_error err;
    uint64_t peak; /* bytes in use at once because of it */
};

static void begin(struct folder *f)
{
    struct superblock sb = {.shards = 1};
    struct manifest_segment listed = {.number = 1, .kind = SEGMENT_LOG};

    memset(f, 0, sizeof *f);
    (void)alarm(SECONDS_MAX); /* a hang is a failure */
    (void)snprintf(f->path, sizeof f->path, "/tmp/armdb-hostile-XXXXXX");
    assert_non_null(mkdtemp(f->path));
    assert_int_equal(adb_io_plain_create(&f->io, NULL), ARMDB_OK);
    assert_int_equal(f->io->ops->dir_open(f->io, f->path, false, &f->dir, NULL),
                     ARMDB_OK);
    memcpy(sb.uuid, uuid, sizeof uuid);
    assert_int_equal(superblock_write(f->dir, &sb, NULL), ARMDB_OK);
    manifest_init(&f->manifest);
    image_init(&f->image, uuid, 1, 0, SEGMENT_LOG);
    memcpy(listed.identity, f->image.header.identity, 16);
    f->manifest.next_segment = 2;
    assert_int_equal(manifest_add(&f->manifest, &listed), ARMDB_OK);
}

/* The segment is sealed, its GSNs durable: it is read without deciding anything. */
static void seal(struct folder *f, uint64_t gsn_high)
{
    f->manifest.segments[0].sealed = true;
    f->manifest.segments[0].length = f->image.len;
    f->manifest.segments[0].gsn_low = 1;
    f->manifest.segments[0].gsn_high = gsn_high;
    f->manifest.watermark = gsn_high;
}

static uint64_t add(struct folder *f, struct frame *frame, const struct record *records,
                    uint32_t count)
{
    return image_add(&f->image, frame, records, count);
}

/* The frame again, saying something else: its check is right. */
static void say(struct folder *f, struct frame *frame, uint64_t at)
{
    frame_encode(frame, f->image.bytes + at, f->image.seed, at);
}

static struct record put(uint64_t table, const char *key)
{
    struct record r = {.kind = RECORD_PUT,
                       .table = table,
                       .key = (const unsigned char *)key,
                       .key_len = strlen(key),
                       .value = (const unsigned char *)"value",
                       .value_len = 5};

    return r;
}

static void write_files(struct folder *f)
{
    unsigned char *bytes;
    size_t n;

    image_store(&f->image, f->dir, 0);
    assert_int_equal(manifest_encode(&f->manifest, uuid, &bytes, &n), ARMDB_OK);
    store_bytes(f->dir, MANIFEST_NAME, bytes, n);
    f->bytes += SUPERBLOCK_BYTES + n + f->image.len;
    adb_free(ADB_MEM_LOG, bytes);
}

/* ---- Using it ---- */

static void count_table(void *arg, const char *name, const unsigned char *id)
{
    (void)id;
    assert_true(strlen(name) <= ARMDB_TABLE_NAME_BYTES_MAX);
    (*(unsigned *)arg)++;
}

static void use(struct armdb *store)
{
    struct armdb_session *session;
    struct armdb_table *table = NULL;
    struct armdb_error err;
    unsigned tables = 0;
    enum armdb_rc rc;

    assert_int_equal(armdb_session_open(store, &session, &err), ARMDB_OK);
    rc = armdb_table_each(session, count_table, &tables, &err);
    assert_true(rc == ARMDB_OK || rc == ARMDB_CORRUPT);
    rc = armdb_table_create(session, "new", "", 0, &table, &err);
    if (rc == ARMDB_OK)
        rc = armdb_put(session, table, "k", 1, "v", 1, &err);
    if (rc == ARMDB_OK)
        rc = armdb_prepare(session, ARMDB_DOUBT_COMMIT, &err);
    if (rc == ARMDB_OK)
        rc = armdb_commit(session, &err);
    if (rc != ARMDB_OK)
        print_message("  a write: %s: %s\n", adb_rc_name(rc), err.text);
    assert_true(rc == ARMDB_OK || rc == ARMDB_CORRUPT || rc == ARMDB_FULL ||
                rc == ARMDB_EXISTS);
    armdb_table_close(table);
    armdb_session_close(session);
}

static enum armdb_rc open_once(struct folder *f)
{
    struct armdb_options options;
    struct armdb *store;

    armdb_options_init(&options);
    options.cache_size = 1 << 20;
    options.segment_size = 1 << 20;
    options.create = false;
    f->rc = armdb_open(f->path, &options, &store, &f->err);
    if (f->rc == ARMDB_OK) {
        use(store);
        armdb_close(store);
    } else {
        assert_true(f->err.text[0] != '\0');
    }
    return f->rc;
}

/* Opens the folder, uses it, opens it again; removes it. */
static void finish(struct folder *f)
{
    uint64_t before;
    uint64_t limit;
    char command[160];

    before = adb_mem_used_total();
    limit = BASE_BYTES + FACTOR * (uint64_t)f->bytes + TABLE_BYTES * (uint64_t)f->tables;
    mem_watch_reset();
    if (open_once(f) == ARMDB_OK)
        assert_int_equal(open_once(f), ARMDB_OK);
    f->peak = mem_watch_peak - before;
    print_message("%zu bytes: %s, %llu bytes in use, %llu in one piece\n", f->bytes,
                  adb_rc_name(f->rc), (unsigned long long)f->peak,
                  (unsigned long long)mem_watch_largest);
    assert_true(f->rc != ARMDB_NOMEM && f->rc != ARMDB_INTERNAL);
    assert_true(mem_watch_peak - before <= limit);
    assert_true(mem_watch_largest <= limit);
    assert_int_equal(adb_mem_used_total(), before);
    image_fini(&f->image);
    manifest_fini(&f->manifest);
    f->io->ops->dir_close(f->dir);
    f->io->ops->destroy(f->io);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", f->path);
    assert_int_equal(system(command), 0);
    (void)alarm(0);
}

/* ---- Claims of lengths and counts ---- */

static void a_frame_that_claims_billions_of_records_is_damage(void **state)
{
    struct folder f;
    struct frame frame = {.kind = FRAME_COMMIT, .gsn = 1};
    struct record r = put(1, "key");
    uint64_t at;

    (void)state;
    begin(&f);
    at = add(&f, &frame, &r, 1);
    frame.record_count = UINT32_MAX;
    say(&f, &frame, at);
    seal(&f, 1);
    write_files(&f);
    finish(&f);
}

static void a_body_and_fields_longer_than_the_file_are_damage(void **state)
{
    static const uint64_t lens[] = {UINT32_MAX, UINT64_C(1) << 40, INT64_MAX,
                                    UINT64_MAX - 7};

    (void)state;
    for (size_t i = 0; i < 2 * sizeof lens / sizeof lens[0]; i++) {
        struct folder f;
        struct frame frame = {.kind = FRAME_COMMIT, .gsn = 1};
        struct record r = put(1, "key");
        uint64_t at;

        begin(&f);
        at = add(&f, &frame, &r, 1);
        frame.body_len = lens[i / 2];
        if (i % 2 == 1)
            adb_put_u32(f.image.bytes + at + 12, 0xFFFFFFF8);
        say(&f, &frame, at);
        seal(&f, 1);
        write_files(&f);
        finish(&f);
    }
}

static void a_manifest_that_counts_billions_is_refused(void **state)
{
    static const size_t counts[] = {80, 88, 96}; /* segments, verdicts, closes */

    (void)state;
    for (size_t i = 0; i < 2 * sizeof counts / sizeof counts[0]; i++) {
        struct folder f;
        unsigned char *p;
        size_t n;

        begin(&f);
        write_files(&f);
        assert_int_equal(manifest_encode(&f.manifest, uuid, &p, &n), ARMDB_OK);
        adb_put_u64(p + counts[i / 2], i % 2 == 0 ? UINT32_MAX : UINT64_MAX / 56 + 2);
        adb_put_u64(p + n - 8,
                    adb_check_bind(adb_check_raw(p, n - 8), adb_check_seed(uuid), n - 8));
        store_bytes(f.dir, MANIFEST_NAME, p, n);
        adb_free(ADB_MEM_LOG, p);
        finish(&f);
        assert_int_equal(f.rc, ARMDB_CORRUPT);
    }
}

static void a_segment_that_claims_a_tebibyte_costs_nothing(void **state)
{
    struct folder f;
    struct frame frame = {.kind = FRAME_COMMIT, .gsn = 1};
    struct record r = put(1, "key");

    (void)state;
    begin(&f);
    (void)add(&f, &frame, &r, 1);
    seal(&f, 1);
    f.manifest.segments[0].length = UINT64_C(1) << 40;
    write_files(&f);
    finish(&f);
}

/* ---- Numbers ---- */

static void numbers_near_the_end_are_refused_or_harmless(void **state)
{
    static const uint64_t edges[] = {UINT64_C(1) << 31, UINT64_C(1) << 32,
                                     UINT64_C(1) << 61, (UINT64_C(1) << 62) - 1000,
                                     (UINT64_C(1) << 63) - 2};

    (void)state;
    for (size_t i = 0; i < 5 * sizeof edges / sizeof edges[0]; i++) {
        uint64_t edge = edges[i / 5];
        struct folder f;
        struct frame frame = {.kind = FRAME_COMMIT, .gsn = 1};
        struct record r = put(i % 5 == 0 ? edge : 1, "key");

        begin(&f);
        frame.watermark = i % 5 == 1 ? edge : 0;
        (void)add(&f, &frame, &r, 1);
        seal(&f, 1);
        if (i % 5 == 2)
            f.manifest.next_table = edge;
        if (i % 5 == 3)
            f.manifest.next_segment = edge;
        if (i % 5 == 4)
            f.manifest.edit = edge;
        write_files(&f);
        finish(&f);
        assert_true(f.rc == ARMDB_OK || f.rc == ARMDB_CORRUPT);
    }
}

static void segment_numbers_far_apart_take_no_table_between_them(void **state)
{
    struct folder f;
    struct log_image far;
    struct manifest_segment listed = {.number = UINT64_C(1) << 40, .kind = SEGMENT_LOG};

    (void)state;
    begin(&f);
    image_init(&far, uuid, listed.number, 0, SEGMENT_LOG);
    memcpy(listed.identity, far.header.identity, 16);
    f.manifest.next_segment = listed.number + 1;
    assert_int_equal(manifest_add(&f.manifest, &listed), ARMDB_OK);
    image_store(&far, f.dir, 0);
    image_fini(&far);
    write_files(&f);
    finish(&f);
}

/* ---- Many of something ---- */

static void a_table_for_every_record_costs_in_proportion(void **state)
{
    enum { TABLES = 4000 };
    static struct record records[TABLES];
    struct folder f;
    struct frame frame = {.kind = FRAME_COMMIT, .gsn = 1};

    (void)state;
    begin(&f);
    for (unsigned i = 0; i < TABLES; i++)
        records[i] = put(10 + i, "k");
    (void)add(&f, &frame, records, TABLES);
    f.tables = TABLES;
    seal(&f, 1);
    write_files(&f);
    finish(&f);
}

/* Rows of the catalogue; `own` tables apart, or all the same one. */
static void fill_catalogue(struct folder *f, unsigned count, bool own, bool rows)
{
    struct frame frame = {.kind = FRAME_COMMIT, .gsn = 1};
    struct record *records = calloc(2 * (size_t)count, sizeof *records);
    char(*names)[24] = calloc(count, sizeof *names);
    unsigned char(*values)[32] = calloc(count, sizeof *values);
    unsigned used = 0;

    for (unsigned i = 0; i < count; i++) {
        uint64_t id = own ? 1 + i : 1;

        (void)snprintf(names[i], sizeof names[i], "table %06u", i);
        values[i][0] = 1;
        memcpy(values[i] + 1, &i, sizeof i);
        records[used] = put(0, names[i]);
        records[used].value = values[i];
        records[used++].value_len = 17 + adb_put_varint(values[i] + 17, id);
    }
    for (unsigned i = 0; rows && i < count; i++)
        records[used++] = put(own ? 1 + i : 1, names[i]);
    (void)add(f, &frame, records, used);
    free(records);
    free(names);
    free(values);
    f->manifest.next_table = count + 1;
    seal(f, 1);
}

static void a_long_catalogue_costs_in_proportion(void **state)
{
    struct folder f;

    (void)state;
    begin(&f);
    fill_catalogue(&f, 5000, true, false);
    write_files(&f);
    finish(&f);
    assert_int_equal(f.rc, ARMDB_OK);
}

static void names_for_one_and_the_same_table_do_no_harm(void **state)
{
    struct folder f;

    (void)state;
    begin(&f);
    fill_catalogue(&f, 1000, false, true);
    write_files(&f);
    finish(&f);
    assert_int_equal(f.rc, ARMDB_OK);
}

/* ---- What names itself ---- */

static void verdicts_and_closes_that_name_themselves_end(void **state)
{
    struct folder f;
    unsigned char chunks[16] = {FRAME_FIELD_CHUNK_SEGMENTS, 0, 0, 0, 8, 0, 0, 0, 1};
    struct frame verdict = {.kind = FRAME_VERDICT,
                            .gsn = 1,
                            .arg_a = 1,
                            .arg_b = 1,
                            .outcome = FRAME_OUTCOME_ABORT};
    struct frame other = {.kind = FRAME_VERDICT,
                          .gsn = 2,
                          .arg_a = 3,
                          .arg_b = 1,
                          .outcome = FRAME_OUTCOME_ABORT};
    struct frame close = {.kind = FRAME_CLOSE,
                          .gsn = 3,
                          .txid_edit = 1,
                          .arg_a = UINT64_MAX,
                          .optional = chunks,
                          .optional_len = sizeof chunks};

    (void)state;
    begin(&f);
    (void)add(&f, &verdict, NULL, 0);
    (void)add(&f, &other, NULL, 0);
    (void)add(&f, &close, NULL, 0);
    write_files(&f);
    finish(&f);
}

static void void_runs_over_all_ordinals_cost_in_proportion(void **state)
{
    enum { RUNS = 5000 };
    static unsigned char field[8 + 16 * RUNS];
    struct folder f;
    struct frame close = {.kind = FRAME_CLOSE,
                          .gsn = 1,
                          .txid_edit = 1,
                          .optional = field,
                          .optional_len = sizeof field};
    struct record r = put(1, "key");

    (void)state;
    begin(&f);
    field[0] = FRAME_FIELD_VOID_RUNS;
    adb_put_u32(field + 4, 16 * RUNS);
    for (uint64_t i = 0; i < RUNS; i++) {
        adb_put_u64(field + 8 + 16 * i, i);
        adb_put_u64(field + 16 + 16 * i, UINT64_MAX - i);
    }
    r.flags = RECORD_HAS_ORDINAL;
    r.ordinal = 1;
    close.arg_b = FRAME_DIGEST_START;
    (void)add(&f, &close, &r, 1);
    write_files(&f);
    finish(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_that_claims_billions_of_records_is_damage),
        cmocka_unit_test(a_body_and_fields_longer_than_the_file_are_damage),
        cmocka_unit_test(a_manifest_that_counts_billions_is_refused),
        cmocka_unit_test(a_segment_that_claims_a_tebibyte_costs_nothing),
        cmocka_unit_test(numbers_near_the_end_are_refused_or_harmless),
        cmocka_unit_test(segment_numbers_far_apart_take_no_table_between_them),
        cmocka_unit_test(a_table_for_every_record_costs_in_proportion),
        cmocka_unit_test(a_long_catalogue_costs_in_proportion),
        cmocka_unit_test(names_for_one_and_the_same_table_do_no_harm),
        cmocka_unit_test(verdicts_and_closes_that_name_themselves_end),
        cmocka_unit_test(void_runs_over_all_ordinals_cost_in_proportion),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* One flipped bit in every kind of file and every region of it. The store holds frames of
 * every kind, made by five openings; its segments are read once, whole, to know where
 * what lies. Then for each region in turn:
 *
 *   - the bit is flipped under the open store: armdb_verify() names the file and a place
 *     between the end of what stands before the region and the flipped byte;
 *   - it is flipped in a copy, which is opened: superblock, manifest and a segment's
 * header keep it closed with an error that names the file; a value costs its own row and
 * no other; anything else gives right rows or errors, never a wrong or a missing row, and
 *     armdb_verify() finds it there, too.
 *
 * At last the store as a killed process leaves it: damage may then cut the last frame,
 * wholly, and nothing else; the zeros behind it mean nothing. */
#include <fcntl.h>
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
#include "engine/log/location.h"
#include "engine/log/scan.h"
#include "engine/log/segfile.h"
#include "engine/store/internal.h"

enum {
    PATH_BYTES = 300,
    KEYS = 160,
    VALUE_MAX = 20000,
    REGIONS_MAX = 600,
    FRAME_KINDS = 8
};

static char folder[200];
static struct armdb_error err;

#define OK(call) assert_int_equal((call), ARMDB_OK)

static void run(const char *format, ...) ADB_PRINTF(1, 2);
static void run(const char *format, ...)
{
    char command[5 * PATH_BYTES];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(command, sizeof command, format, args);
    va_end(args);
    assert_int_equal(system(command), 0);
}

static int make_folder(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)state;
    (void)snprintf(folder, sizeof folder, "%s/armdb_test_damage_XXXXXX",
                   tmp != NULL ? tmp : "/tmp");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    (void)state;
    run("rm -rf '%s'", folder);
    return 0;
}

/* ---- What must be in the store ---- */

/* The round that wrote each key's row last; 0: there is none. */
static uint32_t written[KEYS];

static size_t value_of(uint32_t key, uint32_t round, unsigned char *value)
{
    size_t n = key >= 100       ? (key < 120 ? VALUE_MAX : 3000)
               : key % 13 == 12 ? 5000
                                : (key * 37 + round * 11) % 300;

    for (size_t i = 0; i < n; i++)
        value[i] = (unsigned char)(key + round * 7 + i);
    return n;
}

struct fixture {
    struct armdb *store;
    struct armdb_session *session;
    struct armdb_table *table;
};

static enum armdb_rc try_open(struct fixture *f, const char *name)
{
    char path[PATH_BYTES];
    struct armdb_options options;
    enum armdb_rc rc;

    memset(f, 0, sizeof *f);
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    armdb_options_init(&options);
    options.given = ARMDB_GIVEN_SHARDS | ARMDB_GIVEN_CACHE_SIZE | ARMDB_GIVEN_IO_ENGINE;
    options.shards = 1;
    options.cache_size = 1 << 20;
    options.compact_off = true; /* files change by hand alone */
    options.io_engine = ARMDB_IO_PLAIN;
    rc = armdb_open(path, &options, &f->store, &err);
    if (rc == ARMDB_OK) {
        armdb_compact_pause(f->store, true);
        rc = armdb_session_open(f->store, &f->session, &err);
    }
    if (rc == ARMDB_OK)
        rc = armdb_table_open(f->session, "rows", NULL, &f->table, &err);
    return rc;
}

static void finish(struct fixture *f)
{
    armdb_table_close(f->table);
    armdb_session_close(f->session);
    armdb_close(f->store);
}

static void put(struct fixture *f, uint32_t first, uint32_t last, uint32_t round)
{
    for (uint32_t key = first; key <= last; key++) {
        unsigned char value[VALUE_MAX];
        size_t n = value_of(key, round, value);

        OK(armdb_put(f->session, f->table, &key, sizeof key, value, n, &err));
        written[key] = round;
    }
}

static void commit(struct fixture *f)
{
    OK(armdb_commit(f->session, &err));
}

/* Rows that were deleted, and rows of more than a page. */
static void first_opening(void)
{
    struct fixture f;

    assert_int_equal(try_open(&f, "a"), ARMDB_NOT_FOUND);
    OK(armdb_table_create(f.session, "rows", "", 0, &f.table, &err));
    put(&f, 0, 59, 1);
    commit(&f);
    for (uint32_t key = 50; key <= 54; key++) {
        OK(armdb_delete(f.session, f.table, &key, sizeof key, &err));
        written[key] = 0;
    }
    commit(&f);
    finish(&f);
}

static void compaction(void)
{
    struct armdb_compact_info info;
    struct fixture f;

    OK(try_open(&f, "a"));
    put(&f, 0, 9, 2);
    commit(&f);
    OK(armdb_compact(f.store, NULL, &info, &err));
    assert_true(info.bytes_moved > 0);
    finish(&f);
}

/* A transaction in chunks, of which a part was undone. */
static void chunks(void)
{
    struct fixture f;

    OK(try_open(&f, "a"));
    put(&f, 60, 69, 3);
    commit(&f);
    put(&f, 100, 139, 3);
    OK(armdb_savepoint(f.session, 1, &err));
    put(&f, 140, 159, 3);
    put(&f, 100, 110, 9);
    OK(armdb_savepoint_rollback(f.session, 1, &err));
    for (uint32_t key = 100; key <= 159; key++)
        written[key] = key < 140 ? 3 : 0;
    commit(&f);
    finish(&f);
}

static void verdicts(void)
{
    struct fixture f;

    OK(try_open(&f, "a"));
    put(&f, 0, 4, 9);
    OK(armdb_prepare(f.session, ARMDB_DOUBT_ABORT, &err));
    OK(armdb_rollback(f.session, &err));
    for (uint32_t key = 0; key <= 4; key++)
        written[key] = 2;
    put(&f, 5, 9, 4);
    OK(armdb_prepare(f.session, ARMDB_DOUBT_ABORT, &err));
    commit(&f);
    finish(&f);
}

static void make_store(void)
{
    struct fixture f;

    memset(written, 0, sizeof written);
    first_opening();
    compaction();
    chunks();
    verdicts();
    OK(try_open(&f, "a"));
    put(&f, 70, 79, 5);
    commit(&f);
    finish(&f);
}

/* ---- Regions ---- */

enum what {
    WHAT_CLOSED, /* the store does not open */
    WHAT_VALUE,  /* of one row, or of none that is needed */
    WHAT_OTHER
};

struct region {
    char file[SEGMENT_NAME_MAX];
    uint64_t from; /* the first place at which it may be found */
    uint64_t at;   /* the byte */
    enum what what;
    bool has_key; /* the row that cannot be read */
    uint32_t key;
    char name[48];
};

static struct region regions[REGIONS_MAX];
static size_t region_count;
static int each_max; /* how many regions of one kind are tried */

/* Looking over the whole segments. */
struct looking {
    struct fixture *f;
    const char *file;
    uint64_t number;
    uint64_t end; /* of what was seen so far */
    int headers[FRAME_KINDS];
    int gaps;
    int options;
    int page_gaps;
    int records[FRAME_KINDS][4]; /* by kind of record, large ones apart */
};

static struct region *add(const char *file, uint64_t from, uint64_t at, enum what what,
                          const char *name)
{
    struct region *region = &regions[region_count++];

    assert_true(region_count <= REGIONS_MAX);
    memset(region, 0, sizeof *region);
    (void)snprintf(region->file, sizeof region->file, "%s", file);
    (void)snprintf(region->name, sizeof region->name, "%s", name);
    region->from = from;
    region->at = at;
    region->what = what;
    return region;
}

static enum armdb_rc look_at_frame(void *arg, const struct frame *frame, uint64_t offset)
{
    /* Where each field begins: FORMAT.md, section 6. */
    static const uint8_t fields[] = {0,  8,  9,  10, 12, 16, 24, 32,  40,
                                     48, 56, 64, 72, 80, 88, 96, 104, 112};
    struct looking *look = arg;

    if (look->headers[frame->kind]++ < each_max)
        for (size_t i = 0; i < sizeof fields; i++) {
            char name[48];

            (void)snprintf(name, sizeof name, "frame kind %d header byte %d",
                           (int)frame->kind, fields[i]);
            (void)add(look->file, look->end, offset + fields[i], WHAT_OTHER, name);
        }
    if (frame->optional_len > 0 && look->options++ < each_max)
        (void)add(look->file, look->end, offset + FRAME_HEADER_BYTES + 9, WHAT_OTHER,
                  "optional area");
    if (look->end < offset && look->gaps++ < each_max)
        (void)add(look->file, look->end, offset - 1, WHAT_OTHER, "gap between frames");
    look->end = offset + frame_head_len(frame);
    return ARMDB_OK;
}

/* Is it what readers get? */
static bool is_live(struct looking *look, const struct record *record, uint64_t offset)
{
    struct tab *tab = look->f->table->tab;
    uint64_t hash = hashmap_hash(tab->map, record->key, record->key_len);
    node_ref ref = hashmap_find(tab->map, hash, record->key, record->key_len);
    const struct version *version;
    uint32_t slot = log_slot(look->f->store->log.slot_base, look->number);

    if (record->table != tab->id || ref == 0)
        return false;
    version = arena_version(tab->arena, atomic_load(&arena_node(tab->arena, ref)->head));
    return atomic_load(&version->location) == location_make(slot, offset);
}

static enum armdb_rc look_at_record(void *arg, const struct frame *frame,
                                    const struct record *record, uint64_t offset)
{
    struct looking *look = arg;
    size_t heads[] = {0, 1, record->head_check_at - record->key_len - 1,
                      record->head_check_at - 1, record->head_check_at};
    size_t values[] = {record->value_at, record->value_at + record->value_len / 2,
                       record->size - 8, record->size - 1};
    int sort = record->kind == RECORD_DELETE ? 0 : record->value_len > 4096 ? 1 : 2;
    char name[48];

    if (look->end < offset && look->page_gaps++ < each_max)
        (void)add(look->file, look->end, offset - 1, WHAT_OTHER, "gap before a page");
    if (record->table == 0)
        sort = 3;
    (void)snprintf(name, sizeof name, "record of frame kind %d", (int)frame->kind);
    if (look->records[frame->kind][sort]++ < each_max) {
        for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
            (void)add(look->file, look->end, offset + heads[i], WHAT_OTHER, name);
        for (size_t i = 0; record->value_len > 0 && i < 4; i++) {
            struct region *region =
                add(look->file, offset, offset + values[i],
                    record->table == 0 ? WHAT_OTHER : WHAT_VALUE, name);

            region->has_key = is_live(look, record, offset);
            if (region->has_key)
                memcpy(&region->key, record->key, sizeof region->key);
        }
    }
    look->end = offset + record->size;
    return ARMDB_OK;
}

/* Of one segment, up to its length. */
static void list_segment(struct looking *look, const struct manifest_segment *listed)
{
    char name[SEGMENT_NAME_MAX];
    const struct scan_visitor visitor = {
        .arg = look, .frame = look_at_frame, .record = look_at_record};
    const struct segment *segment =
        segtab_get(&look->f->store->log.segments,
                   log_slot(look->f->store->log.slot_base, listed->number));
    struct scan_result result;

    segment_name(listed->number, name);
    look->file = name;
    look->number = listed->number;
    look->end = SEGMENT_FIRST_FRAME;
    for (uint64_t at = 0; at < 120; at += 8)
        (void)add(name, 0, at, WHAT_CLOSED, "segment header");
    (void)add(name, 0, 2000, WHAT_CLOSED, "segment header's zeros");
    (void)add(name, 0, 4090, WHAT_CLOSED, "segment header's check");
    OK(scan_segment(segment->file, name, &segment->header, listed->length, &visitor,
                    &result, &err));
    assert_true(result.end >= listed->length || result.sealed);
}

static void list_regions(struct fixture *f, int each)
{
    const struct manifest *manifest = &f->store->log.locked.manifest;
    struct looking look = {.f = f};
    char path[PATH_BYTES];
    struct stat st;

    region_count = 0;
    each_max = each;
    for (uint64_t at = 0; at < 4096; at += at < 72 ? 4 : 512)
        (void)add(SUPERBLOCK_NAME, 0, at, WHAT_CLOSED, "superblock");
    (void)add(SUPERBLOCK_NAME, 0, 4095, WHAT_CLOSED, "superblock's check");
    (void)snprintf(path, sizeof path, "%s/a/%s", folder, MANIFEST_NAME);
    assert_int_equal(stat(path, &st), 0);
    for (uint64_t at = 0; at < (uint64_t)st.st_size; at += at < 104 ? 4 : 12)
        (void)add(MANIFEST_NAME, 0, at, WHAT_CLOSED, "manifest");
    for (size_t i = 0; i < manifest->segment_count; i++)
        list_segment(&look, &manifest->segments[i]);
    for (int kind = FRAME_COMMIT; kind <= FRAME_SEAL; kind++)
        if (look.headers[kind] == 0)
            fail_msg("the store has no frame of kind %d", kind);
    assert_true(look.page_gaps > 0 && look.gaps > 0 && look.options > 0);
    assert_true(look.records[FRAME_CHUNK][1] > 0 && look.records[FRAME_MOVED][1] > 0);
}

/* ---- Flipping ---- */

/* Sealed segments never change: what is not to be damaged may be the same file. */
static void copy_store(const char *from, const char *file)
{
    run("rm -rf '%s/b' && cp -rl '%s/%s' '%s/b' && cp --remove-destination '%s/%s/%s' "
        "'%s/b/'",
        folder, folder, from, folder, folder, from, file, folder);
}

static void flip(const char *store, const struct region *region)
{
    char path[PATH_BYTES];
    unsigned char byte;
    int fd;

    (void)snprintf(path, sizeof path, "%s/%s/%s", folder, store, region->file);
    fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)region->at), 1);
    byte ^= (unsigned char)(1u << (region->at * 5 % 8));
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)region->at), 1);
    assert_int_equal(close(fd), 0);
}

struct seen {
    const struct region *region;
    int count;
    int hits; /* in the file, at a place that fits */
    char text[600];
};

static void see(void *arg, const struct armdb_finding *finding)
{
    struct seen *seen = arg;
    const struct region *region = seen->region;

    (void)snprintf(seen->text, sizeof seen->text, "%s at %llu: %s",
                   finding->file == NULL ? "-" : finding->file,
                   (unsigned long long)finding->offset, finding->what);
    assert_non_null(finding->todo);
    seen->count++;
    seen->hits += region != NULL && finding->file != NULL &&
                  strcmp(finding->file, region->file) == 0 &&
                  (region->what == WHAT_CLOSED ||
                   (finding->has_offset && finding->offset >= region->from &&
                    finding->offset <= region->at)) &&
                  (!region->has_key ||
                   (finding->key_len == sizeof region->key &&
                    memcmp(finding->key, &region->key, sizeof region->key) == 0 &&
                    strcmp(finding->table, "rows") == 0));
}

static struct seen verify(struct fixture *f, const struct region *region)
{
    struct seen seen = {.region = region, .text = "nothing"};

    OK(armdb_verify(f->store, NULL, see, &seen, &err));
    return seen;
}

/* ---- Reading a damaged store ---- */

/* Right, or an error that names a segment. Gives how many look-ups fail; *failed is the
 * last one. */
static int check_keys(struct fixture *f, uint32_t *failed)
{
    struct armdb_cursor *cursor;
    int errors = 0;

    OK(armdb_cursor_open(f->session, f->table, &cursor, &err));
    for (uint32_t key = 0; key < KEYS; key++) {
        unsigned char want[VALUE_MAX];
        struct armdb_value value;
        enum armdb_rc rc = armdb_cursor_seek_key(cursor, &key, sizeof key, &err);

        if (rc == ARMDB_OK)
            rc = armdb_cursor_value(cursor, &value, &err);
        if (rc == ARMDB_OK) {
            assert_int_not_equal(written[key], 0);
            assert_int_equal(value.len, value_of(key, written[key], want));
            assert_memory_equal(value.data, want, value.len);
        } else if (rc == ARMDB_DONE) {
            assert_int_equal(written[key], 0);
        } else {
            assert_int_equal(rc, ARMDB_CORRUPT);
            assert_true(strstr(err.text, ".seg") != NULL ||
                        strstr(err.text, "segment") != NULL);
            *failed = key;
            errors++;
        }
    }
    armdb_cursor_close(cursor);
    return errors;
}

/* The rows in order; where it ends too early it says so. Gives the number of rows. */
static int check_scan(struct fixture *f, enum armdb_rc *ended)
{
    struct armdb_cursor *cursor;
    struct armdb_range all = {.low_bound = ARMDB_BOUND_OPEN};
    int rows = 0;
    int there = 0;

    for (uint32_t key = 0; key < KEYS; key++)
        there += written[key] != 0;
    OK(armdb_cursor_open(f->session, f->table, &cursor, &err));
    *ended = armdb_cursor_seek_range(cursor, &all, &err);
    while (*ended == ARMDB_OK) {
        struct armdb_value value;
        unsigned char want[VALUE_MAX];
        const void *bytes;
        uint32_t key;
        size_t len;

        armdb_cursor_key(cursor, &bytes, &len);
        assert_int_equal(len, sizeof key);
        memcpy(&key, bytes, sizeof key);
        assert_int_not_equal(written[key], 0);
        *ended = armdb_cursor_value(cursor, &value, &err);
        if (*ended != ARMDB_OK)
            break;
        assert_int_equal(value.len, value_of(key, written[key], want));
        assert_memory_equal(value.data, want, value.len);
        rows++;
        *ended = armdb_cursor_next(cursor, &err);
    }
    assert_true(*ended == ARMDB_CORRUPT || (*ended == ARMDB_DONE && rows == there));
    armdb_cursor_close(cursor);
    return rows;
}

/* Exactly one row, or none, cannot be read. */
static void check_value_region(struct fixture *f, const struct region *region)
{
    uint32_t failed = KEYS;
    enum armdb_rc ended;
    int errors = check_keys(f, &failed);

    assert_int_equal(errors, region->has_key ? 1 : 0);
    if (region->has_key)
        assert_int_equal(failed, region->key);
    (void)check_scan(f, &ended);
    assert_int_equal(ended, region->has_key ? ARMDB_CORRUPT : ARMDB_DONE);
}

static void check_region(const struct region *region)
{
    struct fixture f;
    uint32_t failed;
    enum armdb_rc rc;

    copy_store("a", region->file);
    flip("b", region);
    rc = try_open(&f, "b");
    if (region->what == WHAT_CLOSED) {
        assert_null(f.store);
        assert_true(rc == ARMDB_CORRUPT || rc == ARMDB_NOTADB || rc == ARMDB_VERSION);
        assert_non_null(strstr(err.text, region->file));
        return;
    }
    assert_non_null(f.store);
    if (rc != ARMDB_OK) { /* the catalogue's row may have been there */
        assert_int_equal(rc, ARMDB_CORRUPT);
        assert_true(strstr(err.text, ".seg") != NULL ||
                    strstr(err.text, "segment") != NULL);
    } else if (region->what == WHAT_VALUE) {
        check_value_region(&f, region);
    } else {
        (void)check_keys(&f, &failed);
        (void)check_scan(&f, &rc);
    }
    assert_int_not_equal(verify(&f, region).hits, 0);
    finish(&f);
}

/* ---- Tests ---- */

static void verify_finds_a_flipped_bit_in_every_region(void **unused)
{
    struct fixture f;

    (void)unused;
    make_store();
    OK(try_open(&f, "a"));
    list_regions(&f, 2);
    assert_int_equal(verify(&f, NULL).count, 0);
    for (size_t i = 0; i < region_count; i++) {
        struct seen seen;

        flip("a", &regions[i]);
        seen = verify(&f, &regions[i]);
        flip("a", &regions[i]);
        if (seen.hits == 0)
            fail_msg("%s, byte %llu of %s: %s", regions[i].name,
                     (unsigned long long)regions[i].at, regions[i].file, seen.text);
    }
    assert_int_equal(verify(&f, NULL).count, 0);
    finish(&f);
}

static void a_flipped_bit_gives_the_right_rows_or_the_right_error(void **unused)
{
    struct fixture f;

    (void)unused;
    make_store();
    OK(try_open(&f, "a"));
    list_regions(&f, 1); /* each opening syncs */
    finish(&f);
    for (size_t i = 0; i < region_count; i++)
        check_region(&regions[i]);
}

/* The store as a kill leaves it while its last segment is being written. */
static void damage_behind_a_kill_cuts_the_last_transaction_alone(void **unused)
{
    struct fixture f;
    struct fixture killed;
    size_t first;
    uint64_t end;

    (void)unused;
    make_store();
    OK(try_open(&f, "a"));
    put(&f, 20, 24, 6);
    commit(&f);
    put(&f, 25, 29, 6);
    commit(&f);
    put(&f, 30, 39, 6);
    commit(&f);
    end = f.store->log.shards[0].locked.active->length;
    region_count = 0;
    for (uint64_t at = SEGMENT_FIRST_FRAME; at < end; at += 67)
        (void)add(f.store->log.shards[0].locked.active->name, 0, at, WHAT_OTHER, "tail");
    first = region_count;
    for (uint64_t at = (end + 7) & ~UINT64_C(7); at < end + 9000; at += 1001)
        (void)add(f.store->log.shards[0].locked.active->name, 0, at, WHAT_OTHER,
                  "zeros behind the end");
    run("cp -r '%s/a' '%s/k'", folder, folder);
    for (size_t i = 0; i < region_count; i++) {
        uint32_t failed;
        enum armdb_rc rc;
        const void *row;
        size_t n;
        struct armdb_cursor *cursor;
        struct armdb_value value;
        uint32_t key = 30;

        copy_store("k", regions[i].file);
        flip("b", &regions[i]);
        rc = try_open(&killed, "b");
        if (rc != ARMDB_OK && i < first) { /* older than the damage: not known for sure */
            assert_int_equal(rc, ARMDB_CORRUPT);
            finish(&killed);
            continue;
        }
        OK(rc);
        OK(armdb_cursor_open(killed.session, killed.table, &cursor, &err));
        rc = armdb_cursor_seek_key(cursor, &key, sizeof key, &err);
        if (rc == ARMDB_OK)
            rc = armdb_cursor_value(cursor, &value, &err);
        if (rc == ARMDB_OK) {
            unsigned char want[VALUE_MAX];

            row = value.data;
            n = value_of(key, 6, want);
            if (value.len != n || memcmp(row, want, n) != 0) /* it was cut: all of it */
                for (key = 30; key <= 39; key++)
                    written[key] = 1;
        }
        armdb_cursor_close(cursor);
        if (i >= first)
            assert_int_equal(written[30], 6);
        assert_int_equal(check_keys(&killed, &failed) > 0 && i >= first, 0);
        (void)check_scan(&killed, &rc);
        for (key = 30; key <= 39; key++)
            written[key] = 6;
        finish(&killed);
    }
    finish(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
        T(verify_finds_a_flipped_bit_in_every_region),
        T(a_flipped_bit_gives_the_right_rows_or_the_right_error),
        T(damage_behind_a_kill_cuts_the_last_transaction_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* damage_world.c - see damage_world.h.
 *
 * Five openings make a store with frames of every kind; its segments are read whole to
 * know where what lies. */
#include "damage_world.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/log/hint.h"
#include "engine/log/location.h"
#include "engine/log/scan.h"

enum { PATH_BYTES = 300, FRAME_KINDS = 8 };

char damage_folder[200];
struct armdb_error damage_err;
static bool with_hints;

void damage_run(const char *format, ...)
{
    char command[5 * PATH_BYTES];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(command, sizeof command, format, args);
    va_end(args);
    assert_int_equal(system(command), 0);
}

int damage_make_folder(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)state;
    (void)snprintf(damage_folder, sizeof damage_folder, "%s/armdb_test_damage_XXXXXX",
                   tmp != NULL ? tmp : "/tmp");
    return mkdtemp(damage_folder) == NULL;
}

int damage_remove_folder(void **state)
{
    (void)state;
    damage_run("rm -rf '%s'", damage_folder);
    return 0;
}

/* ---- What must be in the store ---- */

/* The round that wrote each key's row last; 0: there is none. */
uint32_t damage_written[DAMAGE_KEYS];

size_t damage_value_of(uint32_t key, uint32_t round, unsigned char *value)
{
    size_t n = key >= 100       ? (key < 120 ? DAMAGE_VALUE_MAX : 3000)
               : key % 13 == 12 ? 5000
                                : (key * 37 + round * 11) % 300;

    for (size_t i = 0; i < n; i++)
        value[i] = (unsigned char)(key + round * 7 + i);
    return n;
}

enum armdb_rc damage_open(struct damage_fixture *f, const char *name)
{
    char path[PATH_BYTES];
    struct armdb_options options;
    enum armdb_rc rc;

    memset(f, 0, sizeof *f);
    (void)snprintf(path, sizeof path, "%s/%s", damage_folder, name);
    armdb_options_init(&options);
    options.given = ARMDB_GIVEN_SHARDS | ARMDB_GIVEN_CACHE_SIZE | ARMDB_GIVEN_IO_ENGINE;
    options.shards = 1;
    options.cache_size = 1 << 20;
    options.io_engine = ARMDB_IO_PLAIN;
    options.compact_off = true; /* files change by hand alone */
    options.hint_bytes_min = with_hints ? 0 : UINT64_MAX;
    rc = armdb_open(path, &options, &f->store, &damage_err);
    if (rc == ARMDB_OK)
        rc = armdb_session_open(f->store, &f->session, &damage_err);
    if (rc == ARMDB_OK)
        rc = armdb_table_open(f->session, "rows", NULL, &f->table, &damage_err);
    return rc;
}

void damage_close(struct damage_fixture *f)
{
    armdb_table_close(f->table);
    armdb_session_close(f->session);
    armdb_close(f->store);
}

void damage_put(struct damage_fixture *f, uint32_t first, uint32_t last, uint32_t round)
{
    for (uint32_t key = first; key <= last; key++) {
        unsigned char value[DAMAGE_VALUE_MAX];
        size_t n = damage_value_of(key, round, value);

        OK(armdb_put(f->session, f->table, &key, sizeof key, value, n, &damage_err));
        damage_written[key] = round;
    }
}

void damage_commit(struct damage_fixture *f)
{
    OK(armdb_commit(f->session, &damage_err));
}

/* Rows that were deleted, and rows of more than a page. */
static void first_opening(void)
{
    struct damage_fixture f;

    assert_int_equal(damage_open(&f, "a"), ARMDB_NOT_FOUND);
    OK(armdb_table_create(f.session, "rows", "", 0, &f.table, &damage_err));
    damage_put(&f, 0, 59, 1);
    damage_commit(&f);
    for (uint32_t key = 50; key <= 54; key++) {
        OK(armdb_delete(f.session, f.table, &key, sizeof key, &damage_err));
        damage_written[key] = 0;
    }
    damage_commit(&f);
    damage_close(&f);
}

static void compaction(void)
{
    struct armdb_compact_info info;
    struct damage_fixture f;

    OK(damage_open(&f, "a"));
    damage_put(&f, 0, 9, 2);
    damage_commit(&f);
    OK(armdb_compact(f.store, NULL, &info, &damage_err));
    assert_true(info.bytes_moved > 0);
    damage_close(&f);
}

/* A transaction in chunks, of which a part was undone. */
static void chunks(void)
{
    struct damage_fixture f;

    OK(damage_open(&f, "a"));
    damage_put(&f, 60, 69, 3);
    damage_commit(&f);
    damage_put(&f, 100, 139, 3);
    OK(armdb_savepoint(f.session, 1, &damage_err));
    damage_put(&f, 140, 159, 3);
    damage_put(&f, 100, 110, 9);
    OK(armdb_savepoint_rollback(f.session, 1, &damage_err));
    for (uint32_t key = 100; key <= 159; key++)
        damage_written[key] = key < 140 ? 3 : 0;
    damage_commit(&f);
    damage_close(&f);
}

static void verdicts(void)
{
    struct damage_fixture f;

    OK(damage_open(&f, "a"));
    damage_put(&f, 0, 4, 9);
    OK(armdb_prepare(f.session, ARMDB_DOUBT_ABORT, &damage_err));
    OK(armdb_rollback(f.session, &damage_err));
    for (uint32_t key = 0; key <= 4; key++)
        damage_written[key] = 2;
    damage_put(&f, 5, 9, 4);
    OK(armdb_prepare(f.session, ARMDB_DOUBT_ABORT, &damage_err));
    damage_commit(&f);
    damage_close(&f);
}

void damage_make_store(bool hints)
{
    struct damage_fixture f;

    with_hints = hints;
    memset(damage_written, 0, sizeof damage_written);
    first_opening();
    compaction();
    chunks();
    verdicts();
    OK(damage_open(&f, "a"));
    damage_put(&f, 70, 79, 5);
    damage_commit(&f);
    damage_close(&f);
}

/* ---- Regions ---- */

struct damage_region damage_regions[DAMAGE_REGIONS_MAX];
size_t damage_region_count;
static int each_max; /* how many regions of one kind are tried */

/* Looking over the whole segments. */
struct looking {
    struct damage_fixture *f;
    const char *file;
    uint64_t number;
    uint64_t end; /* of what was seen so far */
    int headers[FRAME_KINDS];
    int gaps;
    int options;
    int page_gaps;
    int records[FRAME_KINDS][4]; /* by kind of record, large ones apart */
};

struct damage_region *damage_add_region(const char *file, uint64_t from, uint64_t at,
                                        enum what what, const char *name)
{
    struct damage_region *region = &damage_regions[damage_region_count++];

    assert_true(damage_region_count <= DAMAGE_REGIONS_MAX);
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
            (void)damage_add_region(look->file, look->end, offset + fields[i], WHAT_OTHER,
                                    name);
        }
    if (frame->optional_len > 0 && look->options++ < each_max)
        (void)damage_add_region(look->file, look->end, offset + FRAME_HEADER_BYTES + 9,
                                WHAT_OTHER, "optional area");
    if (look->end < offset && look->gaps++ < each_max)
        (void)damage_add_region(look->file, look->end, offset - 1, WHAT_OTHER,
                                "gap between frames");
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
        (void)damage_add_region(look->file, look->end, offset - 1, WHAT_OTHER,
                                "gap before a page");
    if (record->table == 0)
        sort = 3;
    (void)snprintf(name, sizeof name, "record of frame kind %d", (int)frame->kind);
    if (look->records[frame->kind][sort]++ < each_max) {
        for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
            struct damage_region *region = damage_add_region(
                look->file, look->end, offset + heads[i], WHAT_OTHER, name);

            region->in_row = is_live(look, record, offset);
            if (region->in_row)
                memcpy(&region->key, record->key, sizeof region->key);
        }
        for (size_t i = 0; record->value_len > 0 && i < 4; i++) {
            struct damage_region *region =
                damage_add_region(look->file, offset, offset + values[i],
                                  record->table == 0 ? WHAT_OTHER : WHAT_VALUE,
                                  record->table == 0 ? "definition of a table" : name);

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
        (void)damage_add_region(name, 0, at, WHAT_CLOSED, "segment header");
    (void)damage_add_region(name, 0, 2000, WHAT_CLOSED, "segment header's zeros");
    (void)damage_add_region(name, 0, 4090, WHAT_CLOSED, "segment header's check");
    OK(scan_segment(segment->file, name, &segment->header, listed->length, &visitor,
                    &result, &damage_err));
    assert_true(result.end >= listed->length || result.sealed);
}

/* Of a hint: all of its parts, from its header to its end. */
static void list_hint(uint64_t number)
{
    char name[HINT_NAME_MAX];
    char path[PATH_BYTES];
    struct stat st;

    hint_name(number, name);
    (void)snprintf(path, sizeof path, "%s/a/%s", damage_folder, name);
    if (stat(path, &st) != 0)
        return;
    for (uint64_t at = 0; at < (uint64_t)st.st_size;
         at += at < 160 ? 8 : (uint64_t)st.st_size / 24 + 1)
        (void)damage_add_region(name, 0, at, WHAT_HINT, "hint");
    (void)damage_add_region(name, 0, (uint64_t)st.st_size - 1, WHAT_HINT, "hint's end");
}

void damage_list_regions(struct damage_fixture *f, int each)
{
    const struct manifest *manifest = &f->store->log.locked.manifest;
    struct looking look = {.f = f};
    char path[PATH_BYTES];
    struct stat st;

    damage_region_count = 0;
    each_max = each;
    for (uint64_t at = 0; at < 4096; at += at < 72 ? 4 : 512)
        (void)damage_add_region(SUPERBLOCK_NAME, 0, at, WHAT_CLOSED, "superblock");
    (void)damage_add_region(SUPERBLOCK_NAME, 0, 4095, WHAT_CLOSED, "superblock's check");
    (void)snprintf(path, sizeof path, "%s/a/%s", damage_folder, MANIFEST_NAME);
    assert_int_equal(stat(path, &st), 0);
    for (uint64_t at = 0; at < (uint64_t)st.st_size; at += at < 104 ? 4 : 12)
        (void)damage_add_region(MANIFEST_NAME, 0, at, WHAT_CLOSED, "manifest");
    for (size_t i = 0; i < manifest->segment_count; i++) {
        list_segment(&look, &manifest->segments[i]);
        list_hint(manifest->segments[i].number);
    }
    for (int kind = FRAME_COMMIT; kind <= FRAME_SEAL; kind++)
        if (look.headers[kind] == 0)
            fail_msg("the store has no frame of kind %d", kind);
    assert_true(look.page_gaps > 0 && look.gaps > 0 && look.options > 0);
    assert_true(look.records[FRAME_CHUNK][1] > 0 && look.records[FRAME_MOVED][1] > 0);
}

/* ---- Flipping ---- */

/* Sealed segments never change: what is not to be damaged may be the same file. */
void damage_copy_store(const char *from, const char *file)
{
    damage_run(
        "rm -rf '%s/b' && cp -rl '%s/%s' '%s/b' && cp --remove-destination '%s/%s/%s' "
        "'%s/b/'",
        damage_folder, damage_folder, from, damage_folder, damage_folder, from, file,
        damage_folder);
}

void damage_flip(const char *store, const struct damage_region *region)
{
    char path[PATH_BYTES];
    unsigned char byte;
    int fd;

    (void)snprintf(path, sizeof path, "%s/%s/%s", damage_folder, store, region->file);
    fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)region->at), 1);
    byte ^= (unsigned char)(1u << (region->at * 5 % 8));
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)region->at), 1);
    assert_int_equal(close(fd), 0);
}

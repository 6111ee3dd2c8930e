/* armdb_verify(): every flipped bit is found, planted disagreements of index and log are,
 * and a damaged store gives right rows or errors. */
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
#include "engine/log/segfile.h"
#include "engine/store/internal.h"

enum { PATH_BYTES = 300, KEYS = 90, VALUE_MAX = 300, ROUNDS = 3, FLIPS = 40, FILES = 32 };

static char folder[200];
static struct armdb_error err;

#define OK(call) assert_int_equal((call), ARMDB_OK)

static void run(const char *format, ...) ADB_PRINTF(1, 2);
static void run(const char *format, ...)
{
    char command[2 * PATH_BYTES + 32];
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
    (void)snprintf(folder, sizeof folder, "%s/armdb_test_verify_XXXXXX",
                   tmp != NULL ? tmp : "/tmp");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    (void)state;
    run("rm -rf '%s'", folder);
    return 0;
}

static const char *below(const char *store, const char *name)
{
    static char paths[4][PATH_BYTES];
    static int next;
    char *path = paths[next++ % 4];

    (void)snprintf(path, PATH_BYTES, "%s/%s/%s", folder, store, name);
    return path;
}

/* ---- A store whose rows are known ---- */

struct fixture {
    struct armdb *store;
    struct armdb_session *session;
    struct armdb_table *table;
};

static enum armdb_rc try_open(struct fixture *f, const char *name)
{
    struct armdb_options options;
    enum armdb_rc rc;

    memset(f, 0, sizeof *f);
    armdb_options_init(&options);
    options.given = ARMDB_GIVEN_SHARDS | ARMDB_GIVEN_CACHE_SIZE | ARMDB_GIVEN_IO_ENGINE;
    options.shards = 2;
    options.cache_size = 1 << 20;
    options.compact_off = true; /* files change by hand alone */
    options.io_engine = ARMDB_IO_PLAIN;
    rc = armdb_open(below(name, ""), &options, &f->store, &err);
    if (rc == ARMDB_OK)
        rc = armdb_session_open(f->store, &f->session, &err);
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

static size_t value_of(uint32_t key, uint32_t round, unsigned char *value)
{
    size_t n = (key * 37 + round * 11) % VALUE_MAX;

    for (size_t i = 0; i < n; i++)
        value[i] = (unsigned char)(key + round * 7 + i);
    return n;
}

/* What round last wrote the key, and whether it is there: each round writes a third. */
static bool expected(uint32_t key, uint32_t *round)
{
    *round = key % 3;
    return key % 10 != 9; /* deleted in the last round */
}

static void make_store(const char *name)
{
    struct fixture f;

    for (uint32_t round = 0; round < ROUNDS; round++) {
        enum armdb_rc rc = try_open(&f, name);

        if (rc == ARMDB_NOT_FOUND)
            rc = armdb_table_create(f.session, "rows", "", 0, &f.table, &err);
        OK(rc);
        for (uint32_t key = 0; key < KEYS; key++) {
            unsigned char value[VALUE_MAX];
            size_t n = value_of(key, round, value);

            if (round > key % 3)
                continue;
            OK(armdb_put(f.session, f.table, &key, sizeof key, value, n, &err));
            if (key % 4 == 0)
                OK(armdb_commit(f.session, &err));
        }
        for (uint32_t key = 9; round == ROUNDS - 1 && key < KEYS; key += 10)
            OK(armdb_delete(f.session, f.table, &key, sizeof key, &err));
        OK(armdb_commit(f.session, &err));
        finish(&f);
    }
}

/* ---- Findings ---- */

struct seen {
    const char *file; /* that is expected; NULL: the index */
    uint64_t offset;
    int count;
    int at_file;
    int before; /* with an offset at or before `offset` */
    char text[600];
};

static void see(void *arg, const struct armdb_finding *finding)
{
    struct seen *seen = arg;

    (void)snprintf(seen->text, sizeof seen->text, "%s: %s",
                   finding->file == NULL ? "-" : finding->file, finding->what);
    assert_non_null(finding->todo);
    seen->count++;
    if ((finding->file == NULL) != (seen->file == NULL) ||
        (seen->file != NULL && strcmp(seen->file, finding->file) != 0))
        return;
    seen->at_file++;
    seen->before += finding->has_offset && finding->offset <= seen->offset;
}

static struct seen verify(struct fixture *f, const char *file, uint64_t offset)
{
    struct seen seen = {.file = file, .offset = offset};

    OK(armdb_verify(f->store, NULL, see, &seen, &err));
    return seen;
}

/* ---- Files ---- */

static size_t size_of(const char *store, const char *file)
{
    struct stat st;

    assert_int_equal(stat(below(store, file), &st), 0);
    return (size_t)st.st_size;
}

static void flip(const char *store, const char *file, size_t offset, unsigned char bit)
{
    int fd = open(below(store, file), O_RDWR);
    unsigned char byte;

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= bit;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    assert_int_equal(close(fd), 0);
}

struct files {
    char names[FILES][SEGMENT_NAME_MAX];
    uint64_t lengths[FILES]; /* bytes that count */
    size_t count;
};

/* Superblock, manifest and every segment with frames. */
static void list_files(struct fixture *f, const char *store, struct files *files)
{
    struct manifest manifest;

    manifest_init(&manifest);
    OK(manifest_read(f->store->dir, f->store->superblock.uuid, &manifest, &err));
    (void)strcpy(files->names[0], SUPERBLOCK_NAME);
    files->lengths[0] = size_of(store, SUPERBLOCK_NAME);
    (void)strcpy(files->names[1], MANIFEST_NAME);
    files->lengths[1] = size_of(store, MANIFEST_NAME);
    files->count = 2;
    for (size_t i = 0; i < manifest.segment_count; i++) {
        if (!manifest.segments[i].sealed)
            continue;
        assert_true(files->count < FILES);
        segment_name(manifest.segments[i].number, files->names[files->count]);
        files->lengths[files->count++] = manifest.segments[i].length;
    }
    manifest_fini(&manifest);
    assert_true(files->count >= 2 + 2 * ROUNDS - 1);
}

static uint64_t state = 88172645463325252ULL;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* Every region is met: the first frame's header, its first record, the end with its SEAL,
 * the header page, and places anywhere. */
static size_t pick(uint64_t length, int i)
{
    if (length > SEGMENT_FIRST_FRAME && i < 8)
        return (size_t)(SEGMENT_FIRST_FRAME + (uint64_t)i * 17);
    if (length > SEGMENT_FIRST_FRAME && i < 16)
        return (size_t)(SEGMENT_FIRST_FRAME + 120 + (uint64_t)(i - 8) * 3);
    if (length > SEGMENT_FIRST_FRAME && i < 24)
        return (size_t)(length - 1 - (uint64_t)(i - 16) * 15);
    if (i < 28)
        return (size_t)(next_random() % 4096 % length);
    return (size_t)(next_random() % length);
}

/* ---- Tests ---- */

static void a_whole_store_has_no_finding(void **unused)
{
    struct fixture f;

    (void)unused;
    make_store("a");
    OK(try_open(&f, "a"));
    assert_int_equal(verify(&f, NULL, 0).count, 0);
    finish(&f);
}

static void verify_names_file_and_place_of_every_flipped_bit(void **unused)
{
    struct fixture f;
    struct files files;

    (void)unused;
    make_store("a");
    OK(try_open(&f, "a"));
    list_files(&f, "a", &files);
    for (size_t file = 0; file < files.count; file++) {
        for (int i = 0; i < FLIPS; i++) {
            size_t at = pick(files.lengths[file], i);
            unsigned char bit = (unsigned char)(1u << (next_random() % 8));
            struct seen seen;

            flip("a", files.names[file], at, bit);
            seen = verify(&f, files.names[file], at);
            if (seen.at_file == 0 || (file >= 2 && seen.before == 0))
                fail_msg("%s byte %zu bit %u: not found (%s)", files.names[file], at, bit,
                         seen.text);
            flip("a", files.names[file], at, bit);
        }
    }
    assert_int_equal(verify(&f, NULL, 0).count, 0);
    flip("a", "lock", 0, 0x40);
    assert_int_equal(verify(&f, "lock", 0).at_file, 1);
    finish(&f);
}

/* Right, or an error; how many keys cannot be read. */
static int check_keys(struct fixture *f)
{
    struct armdb_cursor *cursor;
    int errors = 0;

    OK(armdb_cursor_open(f->session, f->table, &cursor, &err));
    for (uint32_t key = 0; key < KEYS; key++) {
        unsigned char want[VALUE_MAX];
        struct armdb_value value;
        uint32_t round;
        bool there = expected(key, &round);
        enum armdb_rc rc = armdb_cursor_seek_key(cursor, &key, sizeof key, &err);

        if (rc == ARMDB_OK)
            rc = armdb_cursor_value(cursor, &value, &err);
        if (rc == ARMDB_OK) {
            assert_true(there);
            assert_int_equal(value.len, value_of(key, round, want));
            assert_memory_equal(value.data, want, value.len);
        } else if (rc == ARMDB_DONE) {
            assert_false(there);
        } else {
            assert_int_equal(rc, ARMDB_CORRUPT);
            assert_non_null(strstr(err.text, ".seg")); /* names the file */
            errors++;
        }
    }
    armdb_cursor_close(cursor);
    return errors;
}

/* A scan delivers the rows in order, with an error where one is damaged or missing. */
static void check_scan(struct fixture *f)
{
    struct armdb_cursor *cursor;
    struct armdb_range all = {.low_bound = ARMDB_BOUND_OPEN};
    int rows = 0;
    enum armdb_rc rc;

    OK(armdb_cursor_open(f->session, f->table, &cursor, &err));
    rc = armdb_cursor_seek_range(cursor, &all, &err);
    while (rc == ARMDB_OK) {
        struct armdb_value value;
        unsigned char want[VALUE_MAX];
        uint32_t round;
        const void *bytes;
        uint32_t key;
        size_t len;

        armdb_cursor_key(cursor, &bytes, &len);
        assert_int_equal(len, sizeof key);
        memcpy(&key, bytes, sizeof key);
        assert_true(expected(key, &round));
        rc = armdb_cursor_value(cursor, &value, &err);
        if (rc != ARMDB_OK)
            break;
        assert_int_equal(value.len, value_of(key, round, want));
        assert_memory_equal(value.data, want, value.len);
        rows++;
        rc = armdb_cursor_next(cursor, &err);
    }
    assert_true(rc == ARMDB_CORRUPT || (rc == ARMDB_DONE && rows == KEYS - KEYS / 10));
    armdb_cursor_close(cursor);
}

static void a_damaged_store_gives_right_rows_or_errors(void **unused)
{
    struct fixture f;
    struct files files;
    int opened = 0;
    int readable = 0;

    (void)unused;
    make_store("a");
    OK(try_open(&f, "a"));
    list_files(&f, "a", &files);
    finish(&f);
    for (size_t file = 0; file < files.count; file++) {
        for (int i = 0; i < FLIPS / 2; i++) {
            size_t at = pick(files.lengths[file], i * 2);
            enum armdb_rc rc;

            run("rm -rf '%s/b' && cp -r '%s/a' '%s/b'", folder, folder, folder);
            flip("b", files.names[file], at, (unsigned char)(1u << (next_random() % 8)));
            rc = try_open(&f, "b");
            if (rc == ARMDB_OK) {
                readable += check_keys(&f) == 0;
                check_scan(&f);
            } else if (f.store == NULL) {
                assert_true(file < 2 || at < SEGMENT_HEADER_BYTES);
                assert_true(rc == ARMDB_CORRUPT || rc == ARMDB_NOTADB ||
                            rc == ARMDB_VERSION);
            } else { /* the catalogue's row may be what is damaged */
                assert_int_equal(rc, ARMDB_CORRUPT);
                assert_true(strstr(err.text, "segment") != NULL ||
                            strstr(err.text, ".seg") != NULL);
            }
            if (f.store != NULL) {
                opened++;
                assert_int_not_equal(verify(&f, NULL, 0).count, 0);
            }
            finish(&f);
        }
    }
    assert_true(opened > FLIPS);
    assert_true(readable > 0); /* what is damaged was overwritten since */
}

static struct node *node_of(struct fixture *f, uint32_t key, node_ref *ref,
                            uint64_t *hash)
{
    struct tab *tab = f->table->tab;

    *hash = hashmap_hash(tab->map, &key, sizeof key);
    *ref = hashmap_find(tab->map, *hash, &key, sizeof key);
    assert_int_not_equal(*ref, 0);
    return arena_node(tab->arena, *ref);
}

static void an_index_that_differs_from_the_log_is_found(void **unused)
{
    struct fixture f;
    struct seen seen;
    struct segment *segment;
    struct node *node;
    struct version *version;
    struct adb_mutex *lock;
    struct tab *tab;
    node_ref ref;
    uint64_t hash;
    uint64_t word;
    uint64_t location;

    (void)unused;
    make_store("a");
    OK(try_open(&f, "a"));
    tab = f.table->tab;

    atomic_fetch_add(&tab->live_rows, 1);
    assert_int_equal(verify(&f, NULL, 0).at_file, 1);
    atomic_fetch_sub(&tab->live_rows, 1);

    node = node_of(&f, 1, &ref, &hash);
    version = arena_version(tab->arena, atomic_load(&node->head));
    location = atomic_load(&version->location);
    segment = segtab_get(&f.store->log.segments, location_slot(location));
    atomic_fetch_add(&segment->live_bytes, 8);
    seen = verify(&f, segment->name, 0);
    assert_int_equal(seen.at_file, 1);
    assert_non_null(strstr(seen.text, "are counted"));
    atomic_fetch_sub(&segment->live_bytes, 8);

    word = atomic_load(&version->word);
    atomic_store(&version->word, word + 2); /* the next GSN */
    assert_int_equal(verify(&f, NULL, 0).count, 1);
    atomic_store(&version->word, word);

    atomic_store(&version->location, location + 8); /* no record begins there */
    assert_true(verify(&f, NULL, 0).count >= 1);
    atomic_store(&version->location, location);
    assert_int_equal(verify(&f, NULL, 0).count, 0);

    epoch_enter(f.session->slot);
    order_remove(tab->order, ref);
    epoch_leave(f.session->slot);
    assert_true(verify(&f, NULL, 0).count >= 1);
    lock = hashmap_lock(tab->map, hash);
    hashmap_remove(tab->map, hash, ref);
    hashmap_unlock(lock);
    assert_non_null(strstr(verify(&f, NULL, 0).text, "counted")); /* the last one */
    atomic_fetch_sub(&tab->live_rows, 1);
    atomic_fetch_sub(&segment->live_bytes, record_bytes(tab, node, version->value_len));
    assert_non_null(strstr(verify(&f, NULL, 0).text, "on the log and not in the index"));
    finish(&f);
}

static void files_that_are_not_what_the_manifest_lists_are_found(void **unused)
{
    struct fixture f;
    struct files files;
    const char *one;
    const char *two;

    (void)unused;
    make_store("a");
    OK(try_open(&f, "a"));
    list_files(&f, "a", &files);
    one = files.names[2];
    two = files.names[3];
    run("cp -r '%s/a' '%s/keep'", folder, folder);

    run("rm '%s'", below("a", one));
    assert_int_equal(verify(&f, one, 0).at_file, 1);
    run("cp '%s' '%s'", below("a", two), below("a", one));
    assert_int_equal(verify(&f, one, 0).at_file, 1);
    run("cp '%s' '%s'", below("keep", one), below("a", one));
    run("truncate -s %zu '%s'", size_of("a", one) / 2 + 2048, below("a", one));
    assert_true(verify(&f, one, UINT64_MAX).before >= 1);
    run("cp '%s' '%s'", below("keep", one), below("a", one));
    run("cp '%s' '%s'", below("a", one), below("a", "0000000000000000.seg"));
    run("cp '%s' '%s'", below("a", one), below("a", "00000000000000ff.seg"));
    assert_int_equal(verify(&f, "00000000000000ff.seg", 0).at_file, 1);
    run("rm '%s'", below("a", "00000000000000ff.seg"));
    run("rm -f '%s'", below("a", "0000000000000000.seg"));
    assert_int_equal(verify(&f, NULL, 0).count, 0);

    /* A write makes a segment, and with it a new manifest. */
    OK(armdb_put(f.session, f.table, "new", 3, "v", 1, &err));
    OK(armdb_commit(f.session, &err));
    assert_int_equal(verify(&f, NULL, 0).count, 0);
    run("cp '%s' '%s'", below("keep", MANIFEST_NAME), below("a", MANIFEST_NAME));
    assert_int_equal(verify(&f, MANIFEST_NAME, 0).at_file, 1);
    run("rm '%s'", below("a", SUPERBLOCK_NAME));
    assert_int_equal(verify(&f, SUPERBLOCK_NAME, 0).at_file, 1);
    finish(&f);
}

static bool stop_at_third(void *arg)
{
    int *asked = arg;

    return ++*asked == 3;
}

static void verifying_can_be_interrupted(void **unused)
{
    struct fixture f;
    struct seen seen = {.file = NULL};
    int asked = 0;
    struct armdb_watch watch = {stop_at_third, &asked};

    (void)unused;
    make_store("a");
    OK(try_open(&f, "a"));
    assert_int_equal(armdb_verify(f.store, &watch, see, &seen, &err), ARMDB_INTERRUPT);
    assert_int_equal(verify(&f, NULL, 0).count, 0);
    finish(&f);
}

static void open_prepared_and_undone_writes_are_no_finding(void **unused)
{
    struct fixture f;
    uint32_t key = 5;

    (void)unused;
    make_store("a");
    OK(try_open(&f, "a"));
    OK(armdb_put(f.session, f.table, &key, sizeof key, "open", 4, &err));
    assert_int_equal(verify(&f, NULL, 0).count, 0);
    OK(armdb_prepare(f.session, ARMDB_DOUBT_ABORT, &err));
    assert_int_equal(verify(&f, NULL, 0).count, 0);
    OK(armdb_rollback(f.session, &err));
    assert_int_equal(verify(&f, NULL, 0).count, 0);
    key = 1000;
    OK(armdb_put(f.session, f.table, &key, sizeof key, "new", 3, &err));
    OK(armdb_prepare(f.session, ARMDB_DOUBT_ABORT, &err));
    OK(armdb_rollback(f.session, &err));
    OK(armdb_put(f.session, f.table, &key, sizeof key, "new", 3, &err));
    OK(armdb_commit(f.session, &err));
    OK(armdb_delete(f.session, f.table, &key, sizeof key, &err));
    OK(armdb_commit(f.session, &err));
    assert_int_equal(verify(&f, NULL, 0).count, 0);
    OK(armdb_table_clear(f.session, f.table, &err));
    OK(armdb_commit(f.session, &err));
    assert_int_equal(verify(&f, NULL, 0).count, 0);
    finish(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
        T(a_whole_store_has_no_finding),
        T(verify_names_file_and_place_of_every_flipped_bit),
        T(a_damaged_store_gives_right_rows_or_errors),
        T(an_index_that_differs_from_the_log_is_found),
        T(files_that_are_not_what_the_manifest_lists_are_found),
        T(verifying_can_be_interrupted),
        T(open_prepared_and_undone_writes_are_no_finding),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

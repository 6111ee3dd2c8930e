/* What armdb_salvage() and armdb_salvage_folder() save: of a whole store everything; with
 * a flipped bit in any region everything but what that bit covers, and what is lost is
 * told; without superblock, manifest or a segment what is left. The new store is whole,
 * and can take the old one's place. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "damage_world.h"
#include "engine/log/superblock.h"

enum { PATH_BYTES = 300, LOST_MAX = 200 };

/* ---- Salvaging ---- */

struct told {
    int count;
    int lost_keys;
    uint32_t lost[LOST_MAX]; /* keys of rows that are lost */
    char text[600];
};

static void tell(void *arg, const struct armdb_finding *finding)
{
    struct told *told = arg;

    (void)snprintf(told->text, sizeof told->text, "%s at %llu: %s",
                   finding->file == NULL ? "-" : finding->file,
                   (unsigned long long)finding->offset, finding->what);
    assert_non_null(finding->todo);
    told->count++;
    if (finding->key != NULL && finding->table != NULL &&
        finding->key_len == sizeof(uint32_t) && told->lost_keys < LOST_MAX)
        memcpy(&told->lost[told->lost_keys++], finding->key, sizeof(uint32_t));
}

static const char *below(const char *name)
{
    static char paths[4][PATH_BYTES];
    static int next;
    char *path = paths[next++ % 4];

    (void)snprintf(path, PATH_BYTES, "%s/%s", damage_folder, name);
    return path;
}

static struct armdb_salvage_info salvage_folder(const char *name, struct told *told)
{
    struct armdb_salvage_info info;

    memset(told, 0, sizeof *told);
    damage_run("rm -rf '%s'", below("new"));
    OK(armdb_salvage_folder(below(name), below("new"), NULL, tell, told, &info,
                            &damage_err));
    return info;
}

static void see_nothing(void *arg, const struct armdb_finding *finding)
{
    (void)arg;
    fail_msg("%s: %s", finding->file == NULL ? "-" : finding->file, finding->what);
}

/* How each row is in the new store. */
enum state { RIGHT, MISSING, OTHER };

static enum state state_of(struct damage_fixture *f, struct armdb_cursor *cursor,
                           uint32_t key)
{
    unsigned char want[DAMAGE_VALUE_MAX];
    struct armdb_value value;
    size_t n;
    enum armdb_rc rc = armdb_cursor_seek_key(cursor, &key, sizeof key, &damage_err);

    (void)f;
    if (rc == ARMDB_DONE)
        return damage_written[key] == 0 ? RIGHT : MISSING;
    OK(rc);
    OK(armdb_cursor_value(cursor, &value, &damage_err));
    if (damage_written[key] == 0)
        return OTHER;
    n = damage_value_of(key, damage_written[key], want);
    return value.len == n && memcmp(value.data, want, n) == 0 ? RIGHT : OTHER;
}

/* The new store is whole, and differs from what was written in these many rows. */
static void check_new(int missing, int other)
{
    struct damage_fixture f;
    struct armdb_cursor *cursor;
    int counts[3] = {0};

    OK(damage_open(&f, "new"));
    OK(armdb_verify(f.store, NULL, see_nothing, NULL, &damage_err));
    OK(armdb_cursor_open(f.session, f.table, &cursor, &damage_err));
    for (uint32_t key = 0; key < DAMAGE_KEYS; key++)
        counts[state_of(&f, cursor, key)]++;
    armdb_cursor_close(cursor);
    assert_int_equal(counts[MISSING], missing);
    assert_int_equal(counts[OTHER], other);
    damage_close(&f);
}

static int rows_there(void)
{
    int rows = 0;

    for (uint32_t key = 0; key < DAMAGE_KEYS; key++)
        rows += damage_written[key] != 0;
    return rows;
}

/* ---- Tests ---- */

static void everything_of_a_whole_store_is_saved(void **unused)
{
    struct armdb_salvage_info info;
    struct told told;
    struct damage_fixture f;
    struct damage_fixture g;
    unsigned char uuid[2][16];
    uint64_t seq[2];
    struct armdb_cursor *cursor;
    uint32_t key = 7;

    (void)unused;
    damage_make_store(false);
    OK(damage_open(&f, "a"));
    memset(&told, 0, sizeof told);
    OK(armdb_salvage(f.store, below("new"), NULL, tell, &told, &info, &damage_err));
    assert_int_equal(told.count, 0);
    assert_int_equal(info.lost, 0);
    assert_int_equal(info.tables, 1);
    assert_int_equal(info.rows, rows_there());
    check_new(0, 0);

    OK(damage_open(&g, "new"));
    armdb_uuid(f.store, uuid[0]);
    armdb_uuid(g.store, uuid[1]);
    assert_memory_equal(uuid[0], uuid[1], 16);
    armdb_table_uuid(f.table, uuid[0]);
    armdb_table_uuid(g.table, uuid[1]);
    assert_memory_equal(uuid[0], uuid[1], 16);
    for (int i = 0; i < 2; i++) {
        struct damage_fixture *of = i == 0 ? &f : &g;

        OK(armdb_cursor_open(of->session, of->table, &cursor, &damage_err));
        OK(armdb_cursor_seek_key(cursor, &key, sizeof key, &damage_err));
        seq[i] = armdb_cursor_seq(cursor);
        armdb_cursor_close(cursor);
    }
    assert_int_equal(seq[0], seq[1]);
    /* Both go on; nothing of one is ever taken for the other's. */
    damage_put(&g, 0, 20, 8);
    damage_commit(&g);
    damage_close(&g);
    damage_close(&f);
    check_new(0, 0);
}

static void writers_go_on_and_what_is_undecided_is_not_saved(void **unused)
{
    struct armdb_salvage_info info;
    struct told told;
    struct damage_fixture f;
    struct armdb_session *other;

    (void)unused;
    damage_make_store(false);
    OK(damage_open(&f, "a"));
    damage_put(&f, 80, 85, 6);
    damage_commit(&f);
    OK(armdb_session_open(f.store, &other, &damage_err));
    for (uint32_t key = 90; key < 95; key++) {
        struct armdb_table *table;

        OK(armdb_table_open(other, "rows", NULL, &table, &damage_err));
        OK(armdb_put(other, table, &key, sizeof key, "x", 1, &damage_err));
        armdb_table_close(table);
    }
    OK(armdb_prepare(other, ARMDB_DOUBT_COMMIT, &damage_err));
    memset(&told, 0, sizeof told);
    OK(armdb_salvage(f.store, below("new"), NULL, tell, &told, &info, &damage_err));
    assert_int_equal(info.lost, 0);
    OK(armdb_rollback(other, &damage_err));
    armdb_session_close(other);
    damage_close(&f);
    check_new(0, 0);
}

static void a_store_that_does_not_open_is_saved_from_its_folder(void **unused)
{
    /* Four bytes: one alone could be there already. */
    static const char *const killers[] = {
        "printf flip | dd of=superblock conv=notrunc seek=20 bs=1 status=none",
        "rm superblock",
        "printf flip | dd of=manifest conv=notrunc seek=41 bs=1 status=none",
        "rm manifest",
        "rm superblock manifest",
        /* the header of every segment */
        "for i in *.seg; do printf flip | dd of=$i conv=notrunc seek=33 bs=1 2>>dd; done",
    };

    (void)unused;
    damage_make_store(false);
    for (size_t i = 0; i < sizeof killers / sizeof killers[0]; i++) {
        struct armdb_salvage_info info;
        struct damage_fixture f;
        struct told told;

        damage_run("rm -rf '%s' && cp -r '%s' '%s'", below("b"), below("a"), below("b"));
        damage_run("cd '%s' && %s", below("b"), killers[i]);
        assert_int_not_equal(damage_open(&f, "b"), ARMDB_OK);
        damage_close(&f);
        info = salvage_folder("b", &told);
        assert_int_not_equal(told.count, 0);
        assert_int_equal(info.rows, rows_there());
        check_new(0, 0);
    }
}

static void a_missing_segment_costs_its_own_rows(void **unused)
{
    struct armdb_salvage_info info;
    struct damage_fixture f;
    struct told told;
    char name[SEGMENT_NAME_MAX];
    const struct manifest *manifest;

    (void)unused;
    damage_make_store(false);
    OK(damage_open(&f, "a"));
    manifest =
        &f.store->log.locked.manifest; /* keys 70 to 79 are in the newest segment */
    segment_name(manifest->segments[manifest->segment_count - 1].number, name);
    damage_close(&f);
    damage_run("rm '%s/a/%s'", damage_folder, name);
    info = salvage_folder("a", &told);
    assert_non_null(strstr(told.text, "missing"));
    assert_int_equal(info.lost, 1);
    check_new(10, 0);
}

static void check_region(const struct damage_region *region)
{
    struct armdb_salvage_info info;
    struct damage_fixture f;
    struct armdb_cursor *cursor;
    struct told told;
    int wrong = 0;

    damage_copy_store("a", region->file);
    damage_flip("b", region);
    info = salvage_folder("b", &told);
    if (region->what == WHAT_CLOSED) { /* no row was there */
        assert_int_not_equal(told.count, 0);
        check_new(0, 0);
        return;
    }
    if (region->what == WHAT_VALUE) {
        assert_int_equal(info.lost, region->has_key);
        assert_int_equal(told.lost_keys, region->has_key);
        if (region->has_key)
            assert_int_equal(told.lost[0], region->key);
        check_new(region->has_key, 0);
        return;
    }
    assert_int_not_equal(info.lost, 0);
    if (damage_open(&f, "new") == ARMDB_OK) {
        OK(armdb_cursor_open(f.session, f.table, &cursor, &damage_err));
        for (uint32_t key = 70; key < 80; key++) /* nothing is newer */
            wrong += state_of(&f, cursor, key) == OTHER;
        armdb_cursor_close(cursor);
    } else { /* the definition is lost; the rows are not */
        assert_int_not_equal(info.rows, 0);
    }
    assert_int_equal(wrong, 0);
    OK(armdb_verify(f.store, NULL, see_nothing, NULL, &damage_err));
    damage_close(&f);
}

static void a_flipped_bit_costs_what_it_covers(void **unused)
{
    struct damage_fixture f;

    (void)unused;
    damage_make_store(false);
    OK(damage_open(&f, "a"));
    damage_list_regions(&f, 1);
    damage_close(&f);
    for (size_t i = 0; i < damage_region_count;
         i += damage_regions[i].what == WHAT_VALUE ? 1 : 3) /* each syncs */
        check_region(&damage_regions[i]);
}

static void rows_without_a_definition_get_a_table(void **unused)
{
    struct armdb_salvage_info info;
    struct damage_fixture f;
    struct armdb_table *table;
    struct told told;
    size_t at;

    (void)unused;
    damage_make_store(false);
    OK(damage_open(&f, "a"));
    damage_list_regions(&f, 1);
    damage_close(&f);
    for (at = 0; at < damage_region_count; at++) /* a value of the catalogue */
        if (strstr(damage_regions[at].name, "definition") != NULL)
            break;
    assert_true(at < damage_region_count);
    damage_copy_store("a", damage_regions[at].file);
    damage_flip("b", &damage_regions[at]);
    info = salvage_folder("b", &told);
    assert_int_equal(info.lost, 1);
    assert_int_equal(info.rows, rows_there());
    assert_int_equal(damage_open(&f, "new"), ARMDB_NOT_FOUND);
    OK(armdb_table_open(f.session, "lost_1", NULL, &table, &damage_err));
    assert_int_equal(armdb_count(table), rows_there());
    armdb_table_close(table);
    damage_close(&f);
}

static bool stop_at_third(void *arg)
{
    int *asked = arg;

    return ++*asked == 3;
}

static void an_interrupted_salvage_leaves_no_store(void **unused)
{
    struct armdb_salvage_info info;
    struct told told = {.count = 0};
    struct damage_fixture f;
    int asked = 0;
    struct armdb_watch watch = {stop_at_third, &asked};

    (void)unused;
    damage_make_store(false);
    assert_int_equal(armdb_salvage_folder(below("a"), below("new"), &watch, tell, &told,
                                          &info, &damage_err),
                     ARMDB_INTERRUPT);
    damage_run("test -z \"$(ls -A '%s')\"", below("new"));
    OK(armdb_salvage_folder(below("a"), below("new"), NULL, tell, &told, &info,
                            &damage_err));
    check_new(0, 0);
    assert_int_equal(armdb_salvage_folder(below("a"), below("new"), NULL, tell, &told,
                                          &info, &damage_err),
                     ARMDB_CANTOPEN); /* it is not empty */
    OK(damage_open(&f, "a"));
    assert_int_equal(armdb_salvage_folder(below("a"), below("other"), NULL, tell, &told,
                                          &info, &damage_err),
                     ARMDB_LOCKED);
    damage_close(&f);
    damage_run("mkdir '%s'", below("nothing"));
    assert_int_equal(armdb_salvage_folder(below("nothing"), below("other"), NULL, tell,
                                          &told, &info, &damage_err),
                     ARMDB_NOTADB);
    assert_int_equal(told.count, 0);
}

static void a_store_in_memory_is_saved_to_the_disk(void **unused)
{
    struct armdb_salvage_info info;
    struct told told = {.count = 0};
    struct armdb_options options;
    struct damage_fixture f;

    (void)unused;
    memset(damage_written, 0, sizeof damage_written);
    memset(&f, 0, sizeof f);
    armdb_options_init(&options);
    options.shards = 1;
    OK(armdb_open(":memory:", &options, &f.store, &damage_err));
    OK(armdb_session_open(f.store, &f.session, &damage_err));
    OK(armdb_table_create(f.session, "rows", "", 0, &f.table, &damage_err));
    damage_put(&f, 0, 30, 1);
    damage_commit(&f);
    OK(armdb_salvage(f.store, below("new"), NULL, tell, &told, &info, &damage_err));
    assert_int_equal(info.rows, 31);
    damage_close(&f);
    check_new(0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) \
    cmocka_unit_test_setup_teardown(name, damage_make_folder, damage_remove_folder)
        T(everything_of_a_whole_store_is_saved),
        T(writers_go_on_and_what_is_undecided_is_not_saved),
        T(a_store_that_does_not_open_is_saved_from_its_folder),
        T(a_missing_segment_costs_its_own_rows),
        T(a_flipped_bit_costs_what_it_covers),
        T(rows_without_a_definition_get_a_table),
        T(an_interrupted_salvage_leaves_no_store),
        T(a_store_in_memory_is_saved_to_the_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

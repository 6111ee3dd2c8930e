/* One flipped bit in every kind of file and every region of it. The store holds frames of
 * every kind, made by five openings; its segments are read once, whole, to know where
 * what lies. Then for each region in turn:
 *
 *   - the bit is flipped under the open store: armdb_verify() names the file and a place
 *     between the end of what stands before the region and the flipped byte;
 *   - it is flipped in a copy, which is opened: superblock, manifest and a segment's
 *     header keep it closed with an error that names the file; a value costs its own row
 *     and no other; anything else gives right rows or errors, never a wrong or a missing
 *     row, and armdb_verify() finds it there, too.
 *
 * At last the store as a killed process leaves it: damage may then cut the last frame,
 * wholly, and nothing else; the zeros behind it mean nothing. */
#include <stdio.h>
#include <string.h>

#include "damage_world.h"

struct seen {
    const struct damage_region *region;
    int count;
    int hits; /* in the file, at a place that fits */
    char text[600];
};

static void see(void *arg, const struct armdb_finding *finding)
{
    struct seen *seen = arg;
    const struct damage_region *region = seen->region;

    (void)snprintf(seen->text, sizeof seen->text, "%s at %llu: %s",
                   finding->file == NULL ? "-" : finding->file,
                   (unsigned long long)finding->offset, finding->what);
    assert_non_null(finding->todo);
    seen->count++;
    seen->hits += region != NULL && finding->file != NULL &&
                  strcmp(finding->file, region->file) == 0 &&
                  (region->what == WHAT_CLOSED || region->what == WHAT_HINT ||
                   (finding->has_offset && finding->offset >= region->from &&
                    finding->offset <= region->at)) &&
                  (!region->has_key ||
                   (finding->key_len == sizeof region->key &&
                    memcmp(finding->key, &region->key, sizeof region->key) == 0 &&
                    strcmp(finding->table, "rows") == 0));
}

static struct seen verify(struct damage_fixture *f, const struct damage_region *region)
{
    struct seen seen = {.region = region, .text = "nothing"};

    OK(armdb_verify(f->store, NULL, see, &seen, &damage_err));
    return seen;
}

/* ---- Reading a damaged store ---- */

/* Right, or an error that names a segment. Gives how many look-ups fail; *failed is the
 * last one. */
static int check_keys(struct damage_fixture *f, uint32_t *failed)
{
    struct armdb_cursor *cursor;
    int errors = 0;

    OK(armdb_cursor_open(f->session, f->table, &cursor, &damage_err));
    for (uint32_t key = 0; key < DAMAGE_KEYS; key++) {
        unsigned char want[DAMAGE_VALUE_MAX];
        struct armdb_value value;
        enum armdb_rc rc = armdb_cursor_seek_key(cursor, &key, sizeof key, &damage_err);

        if (rc == ARMDB_OK)
            rc = armdb_cursor_value(cursor, &value, &damage_err);
        if (rc == ARMDB_OK) {
            assert_int_not_equal(damage_written[key], 0);
            assert_int_equal(value.len, damage_value_of(key, damage_written[key], want));
            assert_memory_equal(value.data, want, value.len);
        } else if (rc == ARMDB_DONE) {
            assert_int_equal(damage_written[key], 0);
        } else {
            assert_int_equal(rc, ARMDB_CORRUPT);
            assert_true(strstr(damage_err.text, ".seg") != NULL ||
                        strstr(damage_err.text, "segment") != NULL);
            *failed = key;
            errors++;
        }
    }
    armdb_cursor_close(cursor);
    return errors;
}

/* The rows in order; where it ends too early it says so. Gives the number of rows. */
static int check_scan(struct damage_fixture *f, enum armdb_rc *ended)
{
    struct armdb_cursor *cursor;
    struct armdb_range all = {.low_bound = ARMDB_BOUND_OPEN};
    int rows = 0;
    int there = 0;

    for (uint32_t key = 0; key < DAMAGE_KEYS; key++)
        there += damage_written[key] != 0;
    OK(armdb_cursor_open(f->session, f->table, &cursor, &damage_err));
    *ended = armdb_cursor_seek_range(cursor, &all, &damage_err);
    while (*ended == ARMDB_OK) {
        struct armdb_value value;
        unsigned char want[DAMAGE_VALUE_MAX];
        const void *bytes;
        uint32_t key;
        size_t len;

        armdb_cursor_key(cursor, &bytes, &len);
        assert_int_equal(len, sizeof key);
        memcpy(&key, bytes, sizeof key);
        assert_int_not_equal(damage_written[key], 0);
        *ended = armdb_cursor_value(cursor, &value, &damage_err);
        if (*ended != ARMDB_OK)
            break;
        assert_int_equal(value.len, damage_value_of(key, damage_written[key], want));
        assert_memory_equal(value.data, want, value.len);
        rows++;
        *ended = armdb_cursor_next(cursor, &damage_err);
    }
    assert_true(*ended == ARMDB_CORRUPT || (*ended == ARMDB_DONE && rows == there));
    armdb_cursor_close(cursor);
    return rows;
}

/* Exactly one row, or none, cannot be read. */
static void check_value_region(struct damage_fixture *f,
                               const struct damage_region *region)
{
    uint32_t failed = DAMAGE_KEYS;
    enum armdb_rc ended;
    int errors = check_keys(f, &failed);

    assert_int_equal(errors, region->has_key ? 1 : 0);
    if (region->has_key)
        assert_int_equal(failed, region->key);
    (void)check_scan(f, &ended);
    assert_int_equal(ended, region->has_key ? ARMDB_CORRUPT : ARMDB_DONE);
}

static void check_region(const struct damage_region *region)
{
    struct damage_fixture f;
    uint32_t failed;
    enum armdb_rc rc;

    damage_copy_store("a", region->file);
    damage_flip("b", region);
    rc = damage_open(&f, "b");
    if (region->what == WHAT_CLOSED) {
        assert_null(f.store);
        assert_true(rc == ARMDB_CORRUPT || rc == ARMDB_NOTADB || rc == ARMDB_VERSION);
        assert_non_null(strstr(damage_err.text, region->file));
        return;
    }
    assert_non_null(f.store);
    if (rc != ARMDB_OK) { /* the catalogue's row may have been there */
        assert_int_equal(rc, ARMDB_CORRUPT);
        assert_true(strstr(damage_err.text, ".seg") != NULL ||
                    strstr(damage_err.text, "segment") != NULL);
    } else if (region->what == WHAT_VALUE) {
        check_value_region(&f, region);
    } else {
        (void)check_keys(&f, &failed);
        (void)check_scan(&f, &rc);
    }
    assert_int_not_equal(verify(&f, region).hits, 0);
    damage_close(&f);
}

/* ---- Tests ---- */

static void verify_finds_a_flipped_bit_in_every_region(void **unused)
{
    struct damage_fixture f;

    (void)unused;
    damage_make_store(true);
    OK(damage_open(&f, "a"));
    damage_list_regions(&f, 2);
    assert_int_equal(verify(&f, NULL).count, 0);
    for (size_t i = 0; i < damage_region_count; i++) {
        struct seen seen;

        damage_flip("a", &damage_regions[i]);
        seen = verify(&f, &damage_regions[i]);
        damage_flip("a", &damage_regions[i]);
        if (seen.hits == 0)
            fail_msg("%s, byte %llu of %s: %s", damage_regions[i].name,
                     (unsigned long long)damage_regions[i].at, damage_regions[i].file,
                     seen.text);
    }
    assert_int_equal(verify(&f, NULL).count, 0);
    damage_close(&f);
}

static void a_flipped_bit_gives_the_right_rows_or_the_right_error(void **unused)
{
    struct damage_fixture f;

    (void)unused;
    damage_make_store(false);
    OK(damage_open(&f, "a"));
    damage_list_regions(&f, 1); /* each opening syncs */
    damage_close(&f);
    for (size_t i = 0; i < damage_region_count; i++)
        check_region(&damage_regions[i]);
}

/* Opened by hints: they know the keys, and so each row but the damaged one is there. */
static void with_hints_only_the_damaged_row_is_an_error(void **unused)
{
    struct damage_fixture f;
    size_t hints = 0;
    uint32_t failed;
    enum armdb_rc rc;

    (void)unused;
    damage_make_store(true);
    OK(damage_open(&f, "a"));
    damage_list_regions(&f, 1);
    damage_close(&f);
    for (size_t i = 0; i < damage_region_count; i++) {
        const struct damage_region *region = &damage_regions[i];
        bool costs = region->has_key || region->in_row;

        if (region->what == WHAT_CLOSED || i % 3 != 0) /* each opening syncs */
            continue;
        hints += region->what == WHAT_HINT;
        damage_copy_store("a", region->file);
        damage_flip("b", region);
        rc = damage_open(&f, "b");
        if (rc != ARMDB_OK) { /* the table's definition */
            assert_int_equal(rc, ARMDB_CORRUPT);
        } else {
            failed = region->key;
            assert_int_equal(check_keys(&f, &failed), costs);
            assert_int_equal(failed, region->key);
            (void)check_scan(&f, &rc);
            assert_int_equal(rc, costs ? ARMDB_CORRUPT : ARMDB_DONE);
        }
        damage_close(&f);
    }
    assert_true(hints > 10);
}

/* The store as a kill leaves it while its last segment is being damage_written. */
static void damage_behind_a_kill_cuts_the_last_transaction_alone(void **unused)
{
    struct damage_fixture f;
    struct damage_fixture killed;
    size_t first;
    uint64_t end;

    (void)unused;
    damage_make_store(false);
    OK(damage_open(&f, "a"));
    damage_put(&f, 20, 24, 6);
    damage_commit(&f);
    damage_put(&f, 25, 29, 6);
    damage_commit(&f);
    damage_put(&f, 30, 39, 6);
    damage_commit(&f);
    end = f.store->log.shards[0].locked.active->length;
    damage_region_count = 0;
    for (uint64_t at = SEGMENT_FIRST_FRAME; at < end; at += 131)
        (void)damage_add_region(f.store->log.shards[0].locked.active->name, 0, at,
                                WHAT_OTHER, "tail");
    first = damage_region_count;
    for (uint64_t at = (end + 7) & ~UINT64_C(7); at < end + 9000; at += 1001)
        (void)damage_add_region(f.store->log.shards[0].locked.active->name, 0, at,
                                WHAT_OTHER, "zeros behind the end");
    damage_run("cp -r '%s/a' '%s/k'", damage_folder, damage_folder);
    for (size_t i = 0; i < damage_region_count; i++) {
        uint32_t failed;
        enum armdb_rc rc;
        const void *row;
        size_t n;
        struct armdb_cursor *cursor;
        struct armdb_value value;
        uint32_t key = 30;

        damage_copy_store("k", damage_regions[i].file);
        damage_flip("b", &damage_regions[i]);
        rc = damage_open(&killed, "b");
        if (rc != ARMDB_OK && i < first) { /* older than the damage: not known for sure */
            assert_int_equal(rc, ARMDB_CORRUPT);
            damage_close(&killed);
            continue;
        }
        OK(rc);
        OK(armdb_cursor_open(killed.session, killed.table, &cursor, &damage_err));
        rc = armdb_cursor_seek_key(cursor, &key, sizeof key, &damage_err);
        if (rc == ARMDB_OK)
            rc = armdb_cursor_value(cursor, &value, &damage_err);
        if (rc == ARMDB_OK) {
            unsigned char want[DAMAGE_VALUE_MAX];

            row = value.data;
            n = damage_value_of(key, 6, want);
            if (value.len != n || memcmp(row, want, n) != 0) /* it was cut: all of it */
                for (key = 30; key <= 39; key++)
                    damage_written[key] = 1;
        }
        armdb_cursor_close(cursor);
        if (i >= first)
            assert_int_equal(damage_written[30], 6);
        assert_int_equal(check_keys(&killed, &failed) > 0 && i >= first, 0);
        (void)check_scan(&killed, &rc);
        for (key = 30; key <= 39; key++)
            damage_written[key] = 6;
        damage_close(&killed);
    }
    damage_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) \
    cmocka_unit_test_setup_teardown(name, damage_make_folder, damage_remove_folder)
        T(verify_finds_a_flipped_bit_in_every_region),
        T(a_flipped_bit_gives_the_right_rows_or_the_right_error),
        T(with_hints_only_the_damaged_row_is_an_error),
        T(damage_behind_a_kill_cuts_the_last_transaction_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

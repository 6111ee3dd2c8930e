/* test_recover.c - which records count, for folders built frame by frame.
 *
 * A world is a set of segments and a manifest, written into a memory folder. expect()
 * recovers it three times: read-only (nothing may change), for writing, and once more
 * (nothing may be left to do); all three must give the same GSN, records and damage. */
#include "recover_world.h"

/* ---- Undamaged folders ---- */

static void an_empty_store_recovers_to_nothing(void **state)
{
    struct world w;

    (void)state;
    begin(&w, 4);
    expect(&w, 0, "", 0);
    finish(&w);
}

static void segments_without_frames_are_dropped(void **state)
{
    struct world w;

    (void)state;
    begin(&w, 2);
    (void)log_of(&w, 0);
    seal_frame(log_of(&w, 1));
    expect(&w, 0, "", 0);
    assert_false(exists(&w, "0000000000000001.seg"));
    assert_false(exists(&w, "0000000000000002.seg"));
    finish(&w);
}

static void all_commits_of_all_shards_count(void **state)
{
    struct world w;
    struct log_image *a;
    struct log_image *b;
    struct outcome first;

    (void)state;
    begin(&w, 2);
    a = log_of(&w, 0);
    b = log_of(&w, 1);
    (void)commit(a, 1, "a", 0);
    (void)commit(b, 2, "b", 1);
    (void)commit(b, 3, "c", 1);
    (void)commit(a, 4, "d", 2);
    expect_all(&w, 4, "1:a 2:b 3:c 4:d", 0, &first);
    assert_false(first.cut);
    finish(&w);
}

static void old_segments_and_outputs_are_delivered_with_their_own_gsns(void **state)
{
    struct world w;
    struct log_image *old;
    struct log_image *moved;
    struct frame frame = {.kind = FRAME_MOVED};
    struct record r[2] = {put("m"), put("n")};

    (void)state;
    begin(&w, 1);
    old = log_of(&w, 0);
    (void)commit(old, 4, "a", 3); /* 1 to 3 were compacted */
    seal(&w, old, 4, 4);
    moved = segment(&w, 0, SEGMENT_OUTPUT);
    r[0].flags = RECORD_HAS_GSN;
    r[0].gsn = 3;
    r[1].flags = RECORD_HAS_GSN | RECORD_HAS_ORDINAL;
    r[1].gsn = 1;
    r[1].ordinal = 8;
    (void)image_add(moved, &frame, r, 2);
    seal(&w, moved, 1, 3);
    w.manifest.watermark = 4;
    (void)commit(log_of(&w, 0), 5, "b", 4);
    expect(&w, 5, "1:n 3:m 4:a 5:b", 0);
    finish(&w);
}

static void a_seal_lets_the_shard_go_on_and_its_lack_ends_it(void **state)
{
    (void)state;
    for (int sealed = 0; sealed < 2; sealed++) {
        struct world w;
        struct log_image *first;
        struct outcome o;

        begin(&w, 1);
        first = log_of(&w, 0);
        (void)commit(first, 1, "a", 0);
        if (sealed != 0)
            seal_frame(first);
        (void)commit(log_of(&w, 0), 2, "b", 0);
        expect_all(&w, sealed != 0 ? 2 : 1, sealed != 0 ? "1:a 2:b" : "1:a", 0, &o);
        assert_int_equal(o.cut, sealed == 0);
        assert_int_equal(exists(&w, "0000000000000002.seg"), sealed != 0);
        finish(&w);
    }
}

/* ---- Tears and gaps ---- */

static void a_torn_tail_is_cut_at_every_byte(void **state)
{
    struct world w;
    struct log_image *a;
    struct log_image *b;
    size_t before;

    (void)state;
    begin(&w, 2);
    a = log_of(&w, 0);
    b = log_of(&w, 1);
    (void)commit(a, 1, "a", 0);
    (void)commit(b, 2, "b", 0);
    before = a->len;
    (void)commit(a, 3, "c", 1);
    (void)commit(b, 4, "d", 1);
    for (size_t cut = before; cut < a->len; cut++) {
        w.cut[0] = cut;
        expect(&w, 2, "1:a 2:b", 0);
    }
    w.cut[0] = 0;
    expect(&w, 4, "1:a 2:b 3:c 4:d", 0);
    finish(&w);
}

static void a_frame_behind_a_hole_in_its_own_shard_does_not_count(void **state)
{
    struct world w;
    struct log_image *a;
    uint64_t second;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    second = commit(a, 2, "b", 0);
    (void)commit(a, 3, "c", 1);
    a->bytes[second + 130] ^= 1; /* its header stays whole */
    expect(&w, 1, "1:a", 0);
    a->bytes[second + 40] ^= 1; /* now the header is gone too */
    expect(&w, 1, "1:a", 0);
    finish(&w);
}

static void what_follows_a_gap_over_shards_does_not_count(void **state)
{
    struct world w;
    struct log_image *a;
    struct log_image *b;
    size_t before;
    struct outcome first;

    (void)state;
    begin(&w, 2);
    a = log_of(&w, 0);
    b = log_of(&w, 1);
    (void)commit(a, 1, "a", 0);
    (void)commit(b, 2, "b", 1);
    (void)commit(a, 3, "c", 2);
    before = a->len;
    (void)commit(a, 4, "lost", 2);
    (void)commit(b, 5, "e", 3);
    (void)commit(b, 6, "f", 3);
    w.cut[0] = before;
    expect_all(&w, 3, "1:a 2:b 3:c", 0, &first);
    assert_true(first.cut);
    finish(&w);
}

static void a_sealed_segment_beyond_the_watermark_is_cut_at_the_gap_too(void **state)
{
    struct world w;
    struct log_image *b;

    (void)state;
    begin(&w, 2);
    (void)commit(log_of(&w, 0), 1, "a", 0);
    b = log_of(&w, 1);
    (void)commit(b, 2, "b", 0);
    (void)commit(b, 4, "d", 1);
    seal(&w, b, 2, 4);
    expect(&w, 2, "1:a 2:b", 0);
    finish(&w);
}

/* ---- Damage ---- */

static void a_gap_below_a_durable_watermark_is_damage_and_nothing_is_cut(void **state)
{
    struct world w;
    struct log_image *a;
    struct log_image *b;
    size_t before;
    struct outcome first;

    (void)state;
    begin(&w, 2);
    a = log_of(&w, 0);
    b = log_of(&w, 1);
    (void)commit(a, 1, "a", 0);
    before = a->len;
    (void)commit(a, 2, "lost", 1);
    (void)commit(b, 3, "c", 2);
    (void)commit(b, 4, "d", 3); /* 2 and 3 were durable */
    w.cut[0] = before;
    expect_all(&w, 4, "1:a 3:c 4:d", 1, &first);
    assert_int_equal(first.damage_high, 4);
    finish(&w);
}

static void a_watermark_behind_a_tear_makes_it_damage(void **state)
{
    struct world w;
    struct log_image *a;
    uint64_t second;
    struct outcome first;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    second = commit(a, 2, "b", 0);
    (void)commit(a, 3, "c", 0);
    (void)commit(a, 4, "d", 3);
    a->bytes[second + 20] ^= 1;
    expect_all(&w, 4, "1:a 3:c 4:d", 1, &first);
    assert_false(first.cut);
    assert_int_equal(first.damage_high, 4);
    finish(&w);
}

static void damage_below_a_durable_length_is_passed_in_the_middle(void **state)
{
    struct world w;
    struct log_image *a;
    struct frame frame = {.kind = FRAME_COMMIT, .gsn = 4};
    uint64_t second;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    second = commit(a, 2, "b", 0);
    (void)commit(a, 3, "c", 0);
    frame.durable_bytes = a->len;
    (void)add(a, frame, "d");
    (void)commit(a, 5, "e", 0);
    a->bytes[second + 20] ^= 1;
    expect(&w, 5, "1:a 3:c 4:d 5:e", 1);
    finish(&w);
}

static void a_frame_whose_header_checks_gives_the_keys_that_check(void **state)
{
    struct world w;
    struct log_image *a;
    struct frame frame = {.kind = FRAME_COMMIT, .gsn = 2};
    struct record r[3] = {put("k1"), put("k2"), put("k3")};
    uint64_t second;
    struct outcome first;
    unsigned char *p;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    second = image_add(a, &frame, r, 3);
    (void)commit(a, 3, "c", 2);
    p = a->bytes + second;
    while (memcmp(p, "k2", 2) != 0)
        p++;
    p[12] ^= 1; /* the value of k2: its key is known, the read will report it */
    expect(&w, 3, "1:a 2:k1 2:k2! 2:k3 3:c", 0);
    p[1] ^= 1; /* its key: what follows in the frame is not known */
    expect_all(&w, 3, "1:a 2:k1 3:c", 1, &first);
    assert_int_equal(first.damage_high, 2);
    finish(&w);
}

static void damage_in_an_old_segment_leaves_the_rest_readable(void **state)
{
    struct world w;
    struct log_image *a;
    uint64_t second;
    struct outcome first;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    second = commit(a, 2, "b", 0);
    (void)commit(a, 3, "c", 1);
    seal(&w, a, 1, 3);
    w.manifest.watermark = 3;
    (void)commit(log_of(&w, 0), 4, "d", 3);
    a->bytes[second + 8] ^= 0x40;
    expect_all(&w, 4, "1:a 3:c 4:d", 1, &first);
    assert_int_equal(first.damage_high, 3);
    /* Shorter than it was sealed. */
    a->bytes[second + 8] ^= 0x40;
    w.cut[0] = second;
    expect(&w, 4, "1:a 4:d", 1);
    finish(&w);
}

static void a_lost_seal_before_durable_frames_is_damage(void **state)
{
    struct world w;
    struct log_image *a;
    struct log_image *b;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    b = log_of(&w, 0);
    (void)commit(b, 2, "b", 1);
    (void)commit(b, 3, "c", 2);
    expect(&w, 3, "1:a 2:b 3:c", 1);
    finish(&w);
}

static void a_durable_gsn_that_no_segment_can_hold_is_refused(void **state)
{
    struct world w;
    struct log_image *a;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    (void)commit(a, 3, "c", 2);
    seal(&w, a, 1, 3);
    expect_refused(&w, ARMDB_CORRUPT, "GSN 2");
    finish(&w);
}

/* The work must not follow from what a mark claims. */
static void a_watermark_beyond_all_gsns_is_no_work_and_refused_when_none_can_hold_it(
    void **state)
{
    struct world w;
    struct log_image *a;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    (void)commit(a, 3, "c", RECORD_NUMBER_LIMIT / 2);
    seal(&w, a, 1, 3);
    expect_refused(&w, ARMDB_CORRUPT, "GSN");
    finish(&w);
}

/* Nothing was ever committed, so nothing can be lost: later GSNs must not seem to be. */
static void damage_before_the_first_commit_is_none(void **state)
{
    struct world w;
    struct log_image *a;
    struct frame frame = {.kind = FRAME_CHUNK, .txid_edit = 1, .durable_bytes = 1 << 20};
    struct record r = put("chunk");
    uint64_t at;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    r.flags = RECORD_HAS_ORDINAL;
    r.ordinal = 1;
    at = image_add(a, &frame, &r, 1);
    a->bytes[at + FRAME_HEADER_BYTES + 2] ^= 1;
    expect(&w, 0, "", 0);
    finish(&w);
}

static void gsns_above_half_of_their_limit_are_refused(void **state)
{
    struct world w;
    struct log_image *a;

    (void)state;
    begin(&w, 1);
    w.manifest.watermark = RECORD_NUMBER_LIMIT / 2;
    a = log_of(&w, 0);
    (void)commit(a, RECORD_NUMBER_LIMIT / 2 + 1, "a", 0);
    expect_refused(&w, ARMDB_CORRUPT, "no store reaches");
    finish(&w);
}

/* ---- What is listed, what is not ---- */

static void a_listed_segment_must_be_there_and_be_the_one(void **state)
{
    struct world w;

    (void)state;
    begin(&w, 2);
    (void)commit(log_of(&w, 0), 1, "a", 0);
    (void)commit(log_of(&w, 1), 2, "b", 0);
    w.lost[1] = true;
    expect_refused(&w, ARMDB_CORRUPT, "0000000000000002.seg");
    w.lost[1] = false;
    w.manifest.segments[1].identity[3] ^= 1;
    expect_refused(&w, ARMDB_CORRUPT, "0000000000000002.seg");
    w.manifest.segments[1].identity[3] ^= 1;
    w.manifest.segments[1].shard = 0;
    expect_refused(&w, ARMDB_CORRUPT, "0000000000000002.seg");
    w.manifest.segments[1].shard = 1;
    w.images[1].bytes[100] ^= 1;
    expect_refused(&w, ARMDB_CORRUPT, "0000000000000002.seg");
    w.images[1].bytes[100] ^= 1;
    expect(&w, 2, "1:a 2:b", 0);
    assert_int_equal(w.dir->io->ops->dir_unlink(w.dir, MANIFEST_NAME, NULL), ARMDB_OK);
    {
        struct outcome o;

        recover(&w, false, &o);
        assert_int_equal(o.rc, ARMDB_CORRUPT);
        assert_non_null(strstr(o.err.text, "manifest"));
    }
    finish(&w);
}

static void leftovers_of_this_store_go_and_other_files_stay(void **state)
{
    static const unsigned char other_uuid[16] = "some other store";
    static const char *const ours[] = {"manifest.tmp", "superblock.tmp",
                                       "0000000000000003.seg.tmp", "0000000000000009.seg",
                                       "000000000000000b.seg"};
    static const char *const others[] = {"notes.txt", "x.tmp", "000000000000000a.seg",
                                         "000000000000000C.seg"};
    struct world w;
    struct log_image mine;
    struct log_image foreign;
    struct outcome o;

    (void)state;
    begin(&w, 1);
    (void)commit(log_of(&w, 0), 1, "a", 0);
    image_init(&mine, uuid, 9, 0, SEGMENT_LOG);
    (void)commit(&mine, 1, "never listed", 77);
    image_init(&foreign, other_uuid, 10, 0, SEGMENT_LOG);
    write_world(&w);
    for (size_t i = 0; i < 3; i++)
        store_bytes(w.dir, ours[i], "x", 1);
    image_store(&mine, w.dir, 0);
    store_bytes(w.dir, "000000000000000b.seg", "torn creation", 13);
    for (size_t i = 0; i < 4; i++)
        store_bytes(w.dir, others[i], "x", 1);
    image_store(&foreign, w.dir, 0);
    recover(&w, true, &o);
    assert_outcome(&o, 1, "1:a", 0);
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        assert_true(exists(&w, ours[i]));
    recover(&w, false, &o);
    assert_outcome(&o, 1, "1:a", 0);
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        assert_false(exists(&w, ours[i]));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_true(exists(&w, others[i]));
    image_fini(&mine);
    image_fini(&foreign);
    finish(&w);
}

static void a_read_only_recovery_changes_no_file(void **state)
{
    struct world w;
    struct log_image *a;
    unsigned char *before;
    unsigned char *after;
    size_t n;
    size_t m;
    struct outcome o;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    (void)commit(a, 3, "c", 0);
    write_world(&w);
    assert_int_equal(adb_file_slurp(w.dir, MANIFEST_NAME, 9999, &before, &n, NULL),
                     ARMDB_OK);
    recover(&w, true, &o);
    assert_outcome(&o, 1, "1:a", 0);
    assert_int_equal(adb_file_slurp(w.dir, MANIFEST_NAME, 9999, &after, &m, NULL),
                     ARMDB_OK);
    assert_int_equal(n, m);
    assert_memory_equal(before, after, n);
    adb_free(ADB_MEM_IO, after);
    assert_int_equal(
        adb_file_slurp(w.dir, "0000000000000001.seg", 99999, &after, &m, NULL), ARMDB_OK);
    assert_int_equal(m, a->len + 5000);
    adb_free(ADB_MEM_IO, before);
    adb_free(ADB_MEM_IO, after);
    finish(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_store_recovers_to_nothing),
        cmocka_unit_test(segments_without_frames_are_dropped),
        cmocka_unit_test(all_commits_of_all_shards_count),
        cmocka_unit_test(old_segments_and_outputs_are_delivered_with_their_own_gsns),
        cmocka_unit_test(a_seal_lets_the_shard_go_on_and_its_lack_ends_it),
        cmocka_unit_test(a_torn_tail_is_cut_at_every_byte),
        cmocka_unit_test(a_frame_behind_a_hole_in_its_own_shard_does_not_count),
        cmocka_unit_test(what_follows_a_gap_over_shards_does_not_count),
        cmocka_unit_test(a_sealed_segment_beyond_the_watermark_is_cut_at_the_gap_too),
        cmocka_unit_test(a_gap_below_a_durable_watermark_is_damage_and_nothing_is_cut),
        cmocka_unit_test(a_watermark_behind_a_tear_makes_it_damage),
        cmocka_unit_test(damage_below_a_durable_length_is_passed_in_the_middle),
        cmocka_unit_test(a_frame_whose_header_checks_gives_the_keys_that_check),
        cmocka_unit_test(damage_in_an_old_segment_leaves_the_rest_readable),
        cmocka_unit_test(a_lost_seal_before_durable_frames_is_damage),
        cmocka_unit_test(a_durable_gsn_that_no_segment_can_hold_is_refused),
        cmocka_unit_test(
            a_watermark_beyond_all_gsns_is_no_work_and_refused_when_none_can_hold_it),
        cmocka_unit_test(damage_before_the_first_commit_is_none),
        cmocka_unit_test(gsns_above_half_of_their_limit_are_refused),
        cmocka_unit_test(a_listed_segment_must_be_there_and_be_the_one),
        cmocka_unit_test(leftovers_of_this_store_go_and_other_files_stay),
        cmocka_unit_test(a_read_only_recovery_changes_no_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

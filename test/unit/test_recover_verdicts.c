/* test_recover_verdicts.c - verdicts, chunked transactions and failing calls in recovery,
 * over folders built frame by frame. */
#include "recover_world.h"

/* ---- Verdicts ---- */

static void rules_and_verdicts_decide_prepared_frames(void **state)
{
    struct world w;
    struct log_image *a;
    struct log_image *b;
    struct frame ask = {.kind = FRAME_COMMIT, .doubt = FRAME_DOUBT_ABORT};

    (void)state;
    begin(&w, 2);
    a = log_of(&w, 0);
    b = log_of(&w, 1);
    (void)commit(a, 1, "rolled back", 0);
    ask.gsn = 2;
    (void)add(a, ask, "in by verdict");
    ask.gsn = 3;
    (void)add(a, ask, "out by rule");
    verdict(b, 4, 1, FRAME_OUTCOME_ABORT);
    verdict(b, 5, 2, FRAME_OUTCOME_COMMIT);
    (void)commit(a, 6, "f", 1);
    expect(&w, 6, "2:in by verdict 6:f", 0);
    finish(&w);
}

static void a_verdict_behind_a_gap_does_not_count(void **state)
{
    struct world w;
    struct log_image *a;
    struct log_image *b;

    (void)state;
    begin(&w, 2);
    a = log_of(&w, 0);
    b = log_of(&w, 1);
    (void)commit(a, 1, "a", 0);
    verdict(b, 3, 1, FRAME_OUTCOME_ABORT); /* 2 is missing */
    expect(&w, 1, "1:a", 0);
    finish(&w);
}

static void a_late_abort_makes_the_sink_forget_once(void **state)
{
    struct world w;
    struct log_image *a;
    struct log_image *b;
    struct frame rule = {.kind = FRAME_COMMIT, .doubt = FRAME_DOUBT_ABORT, .gsn = 3};
    struct outcome first;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    (void)commit(a, 2, "rolled back", 0);
    (void)add(a, rule, "out by rule");
    seal(&w, a, 1, 3);
    b = log_of(&w, 0);
    verdict(b, 4, 2, FRAME_OUTCOME_ABORT);
    (void)commit(b, 5, "e", 4);
    seal(&w, b, 4, 5);
    w.manifest.watermark = 5;
    expect_all(&w, 5, "1:a 5:e", 0, &first);
    assert_int_equal(first.restarts, 1);
    finish(&w);
}

static void the_manifest_holds_verdicts_and_closes_of_segments_that_are_gone(void **state)
{
    struct world w;
    struct log_image *a;
    struct frame rule = {.kind = FRAME_COMMIT, .doubt = FRAME_DOUBT_ABORT, .gsn = 3};
    struct outcome first;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)chunk(a, 7, 0, "x", 1);
    (void)chunk(a, 7, 1, "void", 2);
    (void)chunk(a, 8, 0, "never closed", 1);
    (void)commit(a, 2, "out", 0);
    (void)add(a, rule, "in");
    seal(&w, a, 2, 6);
    w.manifest.watermark = 6;
    w.manifest.verdicts = adb_alloc(ADB_MEM_LOG, 2 * sizeof *w.manifest.verdicts);
    w.manifest.verdicts[0] =
        (struct manifest_verdict){.gsn = 3, .outcome = FRAME_OUTCOME_COMMIT};
    w.manifest.verdicts[1] =
        (struct manifest_verdict){.gsn = 2, .outcome = FRAME_OUTCOME_ABORT};
    w.manifest.verdict_count = 2;
    w.manifest.closes = adb_alloc_zero(ADB_MEM_LOG, sizeof *w.manifest.closes);
    w.manifest.closes[0].txid_edit = 1;
    w.manifest.closes[0].txid_count = 7;
    w.manifest.closes[0].gsn = 6;
    w.manifest.closes[0].void_runs = adb_alloc(ADB_MEM_LOG, 16);
    w.manifest.closes[0].void_runs[0] = 2;
    w.manifest.closes[0].void_runs[1] = 2;
    w.manifest.closes[0].void_run_count = 1;
    w.manifest.close_count = 1;
    expect_all(&w, 6, "3:in 6:x", 0, &first);
    assert_int_equal(first.restarts, 0);
    finish(&w);
}

static void a_transaction_that_asks_another_database_is_refused(void **state)
{
    struct world w;
    struct frame ask = {.kind = FRAME_COMMIT, .doubt = FRAME_DOUBT_ASK, .gsn = 1};
    struct log_image *a;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)add(a, ask, "a");
    expect_refused(&w, ARMDB_VERSION, "GSN 1");
    verdict(a, 2, 1, FRAME_OUTCOME_COMMIT);
    expect(&w, 2, "1:a", 0);
    finish(&w);
}

/* ---- Chunks ---- */

/* Two chunks in two segments, an ordinal void, closed as GSN 2. */
static void build_chunked(struct world *w, uint64_t watermark)
{
    struct log_image *a = log_of(w, 0);
    struct log_image *b;
    uint64_t digest = FRAME_DIGEST_START;

    (void)commit(a, 1, "a", 0);
    digest = frame_chain_chunk(digest, chunk(a, 5, 0, "x", 1));
    seal_frame(a);
    b = log_of(w, 0);
    digest = frame_chain_chunk(digest, chunk(b, 5, 1, "void", 2));
    digest = frame_chain_chunk(digest, chunk(b, 5, 2, "y", 3));
    (void)chunk(b, 6, 0, "open", 1);
    close_chunks(b, 2, 5, 3, digest, 2, 2);
    (void)commit(b, 3, "c", watermark);
}

static void chunks_count_with_their_close(void **state)
{
    struct world w;

    (void)state;
    begin(&w, 1);
    build_chunked(&w, 0);
    expect(&w, 3, "1:a 2:x 2:y 3:c", 0);
    finish(&w);
}

static void a_close_that_lacks_a_chunk_is_missing(void **state)
{
    struct world w;
    struct log_image *a;
    uint64_t digest = FRAME_DIGEST_START;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    digest = frame_chain_chunk(digest, chunk(a, 5, 0, "x", 1));
    digest = frame_chain_chunk(digest, 4711); /* one that is not there */
    close_chunks(a, 2, 5, 2, digest, 0, 0);
    (void)commit(a, 3, "c", 0);
    expect(&w, 1, "1:a", 0);
    (void)commit(a, 4, "d", 2); /* but GSN 2 was durable */
    expect_refused(&w, ARMDB_CORRUPT, "GSN 2");
    finish(&w);
}

static void a_torn_chunk_takes_its_transaction_with_it(void **state)
{
    struct world w;
    struct log_image *b;
    unsigned char *p;

    (void)state;
    begin(&w, 1);
    build_chunked(&w, 0);
    b = &w.images[1];
    p = b->bytes + SEGMENT_FIRST_FRAME;
    while (memcmp(p, "\1\21y", 3) != 0) /* lengths of key and value, key */
        p++;
    p[2] = 'z';
    expect(&w, 1, "1:a", 0);
    finish(&w);
}

static void a_damaged_chunk_is_damage_and_the_rest_is_kept(void **state)
{
    struct world w;
    struct log_image *b;
    unsigned char *p;

    (void)state;
    begin(&w, 1);
    build_chunked(&w, 2);
    b = &w.images[1];
    p = b->bytes + SEGMENT_FIRST_FRAME;
    while (memcmp(p, "\1\21y", 3) != 0) /* lengths of key and value, key */
        p++;
    p[2] = 'z';
    expect(&w, 3, "1:a 2:x 3:c", 1);
    finish(&w);
}

static void an_aborted_chunked_transaction_is_out(void **state)
{
    struct world w;

    (void)state;
    begin(&w, 1);
    build_chunked(&w, 0);
    verdict(&w.images[1], 4, 2, FRAME_OUTCOME_ABORT);
    expect(&w, 4, "1:a 3:c", 0);
    finish(&w);
}

/* A transaction that was prepared, aborted and written on has chunks behind its first
 * CLOSE. When the second one is cut, the log must not be kept up to them: what lies
 * between would count for the next recovery. */
static void a_chunk_behind_the_close_that_is_left_keeps_nothing(void **state)
{
    struct world w;
    struct log_image *a;
    uint64_t digest = FRAME_DIGEST_START;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    digest = frame_chain_chunk(digest, chunk(a, 5, 0, "x", 1));
    close_chunks(a, 2, 5, 1, digest, 0, 0);
    verdict(a, 3, 2, FRAME_OUTCOME_ABORT);
    (void)commit(a, 5, "behind the gap", 0);
    digest = frame_chain_chunk(digest, chunk(a, 5, 1, "y", 2));
    close_chunks(a, 6, 5, 2, digest, 0, 0);
    expect(&w, 3, "1:a", 0);
    finish(&w);
}

static void chunks_without_a_close_do_not_exist(void **state)
{
    struct world w;
    struct log_image *a;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)chunk(a, 5, 0, "x", 1);
    (void)commit(a, 1, "a", 0);
    (void)chunk(a, 5, 1, "y", 2);
    expect(&w, 1, "1:a", 0);
    finish(&w);
}

/* ---- Failures ---- */

/* A folder in which every part of recovery has something to do. */
static void build_everything(struct world *w)
{
    struct log_image *old;
    struct log_image *b;
    struct frame rule = {.kind = FRAME_COMMIT, .doubt = FRAME_DOUBT_ABORT, .gsn = 2};

    begin(w, 3);
    old = log_of(w, 1);
    (void)commit(old, 1, "a", 0);
    (void)add(old, rule, "out by rule");
    seal(w, old, 1, 2);
    w->manifest.watermark = 2;
    b = log_of(w, 1);
    (void)commit(b, 3, "c", 2);
    seal_frame(b);
    (void)commit(log_of(w, 2), 4, "d", 2);
    b = log_of(w, 1);
    (void)commit(b, 6, "behind a gap", 3);
    (void)commit(log_of(w, 0), 7, "dropped", 3);
}

#define EVERYTHING "1:a 3:c 4:d"

static void recovery_killed_at_any_call_can_be_done_again(void **state)
{
    (void)state;
    for (int sticky = 0; sticky < 2; sticky++) {
        for (uint64_t n = 1;; n++) {
            struct world w;
            struct outcome o;
            uint64_t calls;

            build_everything(&w);
            write_world(&w);
            store_bytes(w.dir, "0000000000000033.seg", "left over", 9);
            fault_io_fail_at(w.io, n, sticky != 0);
            recover(&w, false, &o);
            calls = fault_io_calls(w.io);
            fault_io_fail_at(w.io, 0, false);
            if (o.rc == ARMDB_OK)
                assert_outcome(&o, 4, EVERYTHING, 0);
            else
                assert_int_equal(o.rc, ARMDB_IO);
            recover(&w, false, &o);
            assert_outcome(&o, 4, EVERYTHING, 0);
            recover(&w, false, &o);
            assert_outcome(&o, 4, EVERYTHING, 0);
            finish(&w);
            if (calls < n) {
                assert_true(n > 40);
                break;
            }
        }
    }
}

static void recovery_without_memory_changes_nothing(void **state)
{
    struct world w;
    struct outcome o;
    uint64_t n = 1;

    (void)state;
    build_everything(&w);
    write_world(&w);
    for (;; n++) {
        adb_mem_fail_at(n, true);
        recover(&w, false, &o);
        adb_mem_fail_at(0, false);
        if (adb_mem_failures() == 0)
            break;
        if (o.rc != ARMDB_OK) /* else: an error after the last step that decides */
            assert_int_equal(o.rc, ARMDB_NOMEM);
    }
    assert_outcome(&o, 4, EVERYTHING, 0);
    assert_true(n > 10);
    finish(&w);
}

static enum armdb_rc refuse(void *arg, uint64_t segment_number, uint64_t offset,
                            const struct record *record, uint64_t gsn, uint64_t ordinal)
{
    const uint64_t *refused = arg;

    (void)segment_number;
    (void)offset;
    (void)record;
    (void)ordinal;
    return gsn == *refused ? ARMDB_FULL : ARMDB_OK;
}

static enum armdb_rc forget_nothing(void *arg)
{
    (void)arg;
    return ARMDB_OK;
}

static void the_sinks_error_ends_the_recovery_and_leaves_the_folder(void **state)
{
    struct world w;
    struct outcome o;

    (void)state;
    build_everything(&w);
    write_world(&w);
    for (unsigned threads = 0; threads < 9; threads += 4) {
        for (uint64_t refused = 1; refused <= 4; refused += 3) { /* each step once */
            struct recover_sink sink = {
                .arg = &refused, .record = refuse, .restart = forget_nothing};
            struct armdb_error err = {.rc = ARMDB_OK};
            struct recovered out;

            assert_int_equal(
                recover_store(w.dir, &w.sb, false, threads, &sink, &out, &err),
                ARMDB_FULL);
            assert_int_equal(err.rc, ARMDB_FULL);
            assert_int_not_equal(err.text[0], 0);
        }
    }
    recover(&w, false, &o);
    assert_outcome(&o, 4, EVERYTHING, 0);
    assert_int_equal(o.edit, 1); /* the first replacement */
    finish(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rules_and_verdicts_decide_prepared_frames),
        cmocka_unit_test(a_verdict_behind_a_gap_does_not_count),
        cmocka_unit_test(a_late_abort_makes_the_sink_forget_once),
        cmocka_unit_test(
            the_manifest_holds_verdicts_and_closes_of_segments_that_are_gone),
        cmocka_unit_test(a_transaction_that_asks_another_database_is_refused),
        cmocka_unit_test(chunks_count_with_their_close),
        cmocka_unit_test(a_close_that_lacks_a_chunk_is_missing),
        cmocka_unit_test(a_torn_chunk_takes_its_transaction_with_it),
        cmocka_unit_test(a_damaged_chunk_is_damage_and_the_rest_is_kept),
        cmocka_unit_test(an_aborted_chunked_transaction_is_out),
        cmocka_unit_test(a_chunk_behind_the_close_that_is_left_keeps_nothing),
        cmocka_unit_test(chunks_without_a_close_do_not_exist),
        cmocka_unit_test(recovery_killed_at_any_call_can_be_done_again),
        cmocka_unit_test(recovery_without_memory_changes_nothing),
        cmocka_unit_test(the_sinks_error_ends_the_recovery_and_leaves_the_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

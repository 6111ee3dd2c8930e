/* recover_verdict.c - which transactions are in, which are out (R6).
 *
 * A prepared frame is decided by a verdict, which stands later in some shard's log,
 * or in the manifest once the verdict's segment is gone; without one by the in-doubt
 * rule that the frame carries. An abort wins over a commit: the engine writes an
 * abort only for what it never acknowledged.
 *
 * Chunks know their transaction by its txid alone. The CLOSE that counts, from the
 * log or from the manifest, gives them their GSN, tells which ordinals are void, and
 * carries the verdict's target. A chunk whose CLOSE does not count does not exist.
 *
 * While segments are surveyed only the manifest's verdicts are known; step 1 takes
 * every other frame for committed. Where that proves wrong the recovery restarts, and
 * R7 puts the abort down in the manifest, so that the next opening need not. */
#include "engine/store/recover_internal.h"

#include <stdlib.h>

#include "engine/base/mem.h"
#include "engine/base/plant.h"

static int compare_verdicts(const void *a, const void *b)
{
    const struct manifest_verdict *x = a;
    const struct manifest_verdict *y = b;

    if (x->gsn != y->gsn)
        return x->gsn < y->gsn ? -1 : 1;
    return x->outcome > y->outcome ? -1 : x->outcome < y->outcome; /* aborts first */
}

static int compare_closed(const void *a, const void *b)
{
    const struct closed *x = a;
    const struct closed *y = b;

    if (x->txid_edit != y->txid_edit)
        return x->txid_edit < y->txid_edit ? -1 : 1;
    if (x->txid_count != y->txid_count)
        return x->txid_count < y->txid_count ? -1 : 1;
    if (x->out != y->out)
        return x->out ? 1 : -1; /* the one that counts first */
    return x->gsn > y->gsn ? -1 : x->gsn < y->gsn;
}

static const struct manifest_verdict *find_verdict(const struct list *verdicts,
                                                   uint64_t gsn)
{
    const struct manifest_verdict *items = verdicts->items;
    size_t low = 0;
    size_t high = verdicts->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (items[middle].gsn < gsn)
            low = middle + 1;
        else
            high = middle;
    }
    return low < verdicts->count && items[low].gsn == gsn ? &items[low] : NULL;
}

bool recovery_is_out(const struct recovery *recovery, uint64_t gsn,
                     enum frame_doubt doubt)
{
    const struct manifest_verdict *verdict = find_verdict(&recovery->verdicts, gsn);

    if (verdict != NULL)
        return verdict->outcome == FRAME_OUTCOME_ABORT;
    return recovery->decided && doubt == FRAME_DOUBT_ABORT &&
           !ADB_PLANTED("in_doubt_rule_ignored");
}

/* A transaction that was prepared, changed and prepared again has several CLOSE frames
 * of one txid; at most one is not out, and it is sorted first. It is the last one; where
 * all are out, the last one is first, too: it has the most chunks. */
const struct closed *recovery_find_closed(const struct recovery *recovery,
                                          uint64_t txid_edit, uint64_t txid_count)
{
    const struct closed wanted = {
        .txid_edit = txid_edit, .txid_count = txid_count, .gsn = UINT64_MAX};
    const struct closed *items = recovery->closed.items;
    size_t low = 0;
    size_t high = recovery->closed.count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (compare_closed(&items[middle], &wanted) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < recovery->closed.count && items[low].txid_edit == txid_edit &&
                   items[low].txid_count == txid_count
               ? &items[low]
               : NULL;
}

static enum armdb_rc push_verdict(struct list *list, uint64_t gsn, uint32_t outcome,
                                  struct armdb_error *err)
{
    struct manifest_verdict *verdict = list_push(list, sizeof *verdict);

    if (verdict == NULL)
        return recovery_fail_nomem(err);
    verdict->gsn = gsn;
    verdict->outcome = outcome;
    return ARMDB_OK;
}

/* The manifest's closed transactions; clears the list first. */
static enum armdb_rc load_closed(struct recovery *recovery, struct armdb_error *err)
{
    const struct manifest *manifest = &recovery->out->manifest;

    recovery->closed.count = 0;
    for (size_t i = 0; i < manifest->close_count; i++) {
        const struct manifest_close *from = &manifest->closes[i];
        struct closed *closed = list_push(&recovery->closed, sizeof *closed);

        if (closed == NULL)
            return recovery_fail_nomem(err);
        closed->txid_edit = from->txid_edit;
        closed->txid_count = from->txid_count;
        closed->gsn = from->gsn;
        closed->chunks = UINT64_MAX; /* it was decided: no others were written */
        closed->out = recovery_is_out(recovery, from->gsn, FRAME_DOUBT_COMMIT);
        closed->void_runs = from->void_runs;
        closed->void_run_count = from->void_run_count;
    }
    list_sort(&recovery->closed, sizeof(struct closed), compare_closed);
    return ARMDB_OK;
}

enum armdb_rc recovery_load_verdicts(struct recovery *recovery, struct armdb_error *err)
{
    const struct manifest *manifest = &recovery->out->manifest;
    enum armdb_rc rc = ARMDB_OK;

    for (size_t i = 0; rc == ARMDB_OK && i < manifest->verdict_count; i++)
        rc = push_verdict(&recovery->verdicts, manifest->verdicts[i].gsn,
                          manifest->verdicts[i].outcome, err);
    list_sort(&recovery->verdicts, sizeof *manifest->verdicts, compare_verdicts);
    return rc == ARMDB_OK ? load_closed(recovery, err) : rc;
}

/* True when the frame of the note counts. */
static bool note_counts(const struct recovery *recovery,
                        const struct segment_state *segment,
                        const struct frame_note *note)
{
    if (segment->old)
        return true;
    return note->end <= segment->candidate_end && note->gsn != 0 &&
           note->gsn <= recovery->gsn;
}

/* True when step 1 delivered records of an old segment that may have this GSN. */
static bool was_delivered(const struct recovery *recovery, uint64_t gsn)
{
    for (size_t i = 0; i < recovery->segment_count; i++) {
        const struct manifest_segment *listed = &recovery->segments[i].listed;

        if (recovery->segments[i].old && listed->kind == SEGMENT_LOG &&
            gsn >= listed->gsn_low && gsn <= listed->gsn_high)
            return true;
    }
    return false;
}

/* The manifest did not know that this transaction is out; the new one will. */
static enum armdb_rc note_abort(struct recovery *recovery, uint64_t gsn, bool delivered,
                                struct armdb_error *err)
{
    uint64_t *item = list_push(&recovery->aborts, sizeof *item);

    if (item == NULL)
        return recovery_fail_nomem(err);
    *item = gsn;
    if (delivered)
        recovery->restart = true;
    return ARMDB_OK;
}

enum armdb_rc recovery_gather_verdicts(struct recovery *recovery, struct armdb_error *err)
{
    struct list merged = {NULL, 0, 0};
    enum armdb_rc rc = ARMDB_OK;

    for (size_t i = 0; i < recovery->segment_count; i++) {
        const struct segment_state *segment = &recovery->segments[i];

        for (size_t n = 0; rc == ARMDB_OK && n < segment->notes.count; n++) {
            const struct frame_note *note = &notes_of(segment)[n];

            if (note->kind != FRAME_VERDICT || !note_counts(recovery, segment, note))
                continue;
            rc = push_verdict(&merged, note->arg_a, note->outcome, err);
            if (rc == ARMDB_OK && note->outcome == FRAME_OUTCOME_ABORT &&
                !recovery_is_out(recovery, note->arg_a, FRAME_DOUBT_COMMIT))
                rc = note_abort(recovery, note->arg_a,
                                was_delivered(recovery, note->arg_a), err);
        }
    }
    for (size_t i = 0; rc == ARMDB_OK && i < recovery->verdicts.count; i++) {
        const struct manifest_verdict *known = recovery->verdicts.items;

        rc = push_verdict(&merged, known[i].gsn, known[i].outcome, err);
    }
    list_sort(&merged, sizeof(struct manifest_verdict), compare_verdicts);
    adb_free(ADB_MEM_LOG, recovery->verdicts.items);
    recovery->verdicts = merged;
    return rc;
}

static enum armdb_rc close_note(struct recovery *recovery, const struct frame_note *note,
                                struct armdb_error *err)
{
    struct closed *closed = list_push(&recovery->closed, sizeof *closed);

    if (closed == NULL)
        return recovery_fail_nomem(err);
    closed->txid_edit = note->txid_edit;
    closed->txid_count = note->txid_count;
    closed->gsn = note->gsn;
    closed->chunks = note->arg_a;
    closed->out = recovery_is_out(recovery, note->gsn, note->doubt);
    closed->void_runs = note->void_runs;
    closed->void_run_count = note->void_run_count;
    return ARMDB_OK;
}

enum armdb_rc recovery_apply_rules(struct recovery *recovery, struct armdb_error *err)
{
    enum armdb_rc rc;

    recovery->decided = true;
    rc = load_closed(recovery, err);
    for (size_t i = 0; rc == ARMDB_OK && i < recovery->segment_count; i++) {
        const struct segment_state *segment = &recovery->segments[i];

        for (size_t n = 0; rc == ARMDB_OK && n < segment->notes.count; n++) {
            const struct frame_note *note = &notes_of(segment)[n];

            if ((note->kind != FRAME_COMMIT && note->kind != FRAME_CLOSE) ||
                !note_counts(recovery, segment, note))
                continue;
            if (find_verdict(&recovery->verdicts, note->gsn) == NULL) {
                if (note->doubt == FRAME_DOUBT_ASK)
                    return ADB_FAIL(
                        ARMDB_VERSION, err,
                        "the transaction with GSN %llu (segment %s, offset %llu) waits "
                        "for "
                        "the verdict of another database: use an armdb that can ask it",
                        (unsigned long long)note->gsn, segment->name,
                        (unsigned long long)note->offset);
                if (note->doubt == FRAME_DOUBT_ABORT &&
                    !ADB_PLANTED("in_doubt_rule_ignored"))
                    rc = note_abort(recovery, note->gsn, segment->old, err);
            }
            if (rc == ARMDB_OK && note->kind == FRAME_CLOSE)
                rc = close_note(recovery, note, err);
        }
    }
    list_sort(&recovery->closed, sizeof(struct closed), compare_closed);
    return rc;
}

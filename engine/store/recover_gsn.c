/* recover_gsn.c - what counts: ends of shards, chunks, G, what is kept (R3 to R5).
 *
 * Input is what the survey of all segments left: marks (GSN and end of each frame
 * that has a GSN), notes and holes. A shard's segments beyond Wm form one line of
 * bytes in which GSNs rise:
 *
 *     | 11 | 14 | 15 |  hole  | 19 | SEAL |   | 22 | 23 |  zeros
 *
 * A hole is a tear or damage. Damage it is when durable marks say so: it begins
 * below a durable-length mark of its segment, or below a sealed length, or a frame
 * with a GSN at or below W* stands behind it in its shard (then everything before
 * that frame had reached the device). Everything else is a tear, and a tear ends its
 * shard; so does the end of a segment that is neither sealed in the manifest nor by
 * a SEAL. The end of such a segment with more of the shard behind it is judged like
 * a hole.
 *
 * G is then the end of the longest run of GSNs from Wm on. Three things stand in for
 * a frame: a frame of that GSN, a hole with damage between whose neighbours the GSN
 * lies, and W* (the GSN was durable once, whoever lost it). A GSN that only W*
 * vouches for is lost without a trace: it can only have stood at the end of a shard,
 * so the end of every shard that may have held it becomes damage. Known data is
 * never cut: nothing at or below G is.
 *
 * A hole after which no GSN can be at or below G is forgotten: what it held does not
 * count either. */
#include "engine/store/recover_internal.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/plant.h"

/* ---- Small access ------------------------------------------------------------- */

static struct gsn_mark *marks_of(const struct segment_state *segment)
{
    return segment->marks.items;
}

static struct hole *holes_of(const struct segment_state *segment)
{
    return segment->holes.items;
}

/* Index of the first mark that ends behind `offset`; the count when none does. */
static size_t mark_behind(const struct segment_state *segment, uint64_t offset)
{
    size_t low = 0;
    size_t high = segment->marks.count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (marks_of(segment)[middle].end <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The first GSN behind `offset` of segment i in its shard; 0: none. Frames that do
 * not count are meant too: they testify to what stood before them. */
static uint64_t gsn_behind(const struct shard_state *shard, size_t i, uint64_t offset)
{
    for (; i < shard->count; i++, offset = 0) {
        const struct segment_state *segment = shard->segments[i];

        for (size_t m = mark_behind(segment, offset); m < segment->marks.count; m++) {
            if (marks_of(segment)[m].gsn != 0)
                return marks_of(segment)[m].gsn;
        }
    }
    return 0;
}

/* The last GSN that ends at or before `offset` of segment i in its shard, or Wm. */
static uint64_t gsn_before(const struct recovery *recovery,
                           const struct shard_state *shard, size_t i, uint64_t offset)
{
    for (;; i--, offset = UINT64_MAX) {
        const struct segment_state *segment = shard->segments[i];

        for (size_t m = mark_behind(segment, offset); m > 0; m--) {
            if (marks_of(segment)[m - 1].gsn != 0)
                return marks_of(segment)[m - 1].gsn;
        }
        if (i == 0)
            return recovery->out->manifest.watermark;
    }
}

/* ---- R3: where shards end ------------------------------------------------------- */

/* True when durable marks say that what stood at `from` of segment i was durable. */
static bool was_durable(const struct recovery *recovery, const struct shard_state *shard,
                        size_t i, uint64_t from)
{
    const struct segment_state *segment = shard->segments[i];
    uint64_t behind = gsn_behind(shard, i, from);

    return segment->listed.sealed || from < segment->scan.durable_max ||
           (behind != 0 && behind <= recovery->w_star);
}

/* Marks the end of a segment's frames as damaged, with a hole as small as a reader
 * can see: it must not reach over frames behind it that do not count. */
static enum armdb_rc damage_end(const struct recovery *recovery,
                                const struct shard_state *shard, size_t i, uint64_t from,
                                struct armdb_error *err)
{
    struct hole *hole = list_push(&shard->segments[i]->holes, sizeof *hole);

    if (hole == NULL)
        return recovery_fail_nomem(err);
    hole->from = from;
    hole->to = align_to_frame(from) + FRAME_ALIGNMENT;
    hole->untrusted_from = from;
    hole->untrusted_to = hole->to;
    hole->gsn_before = gsn_before(recovery, shard, i, from);
    hole->damage = true;
    return ARMDB_OK;
}

/* Judges the holes of segment i; *ended when a tear or its open end ends the shard. */
static enum armdb_rc judge_segment(const struct recovery *recovery,
                                   const struct shard_state *shard, size_t i, bool *ended,
                                   struct armdb_error *err)
{
    struct segment_state *segment = shard->segments[i];
    uint64_t behind;

    segment->candidate_end = UINT64_MAX;
    for (size_t h = 0; h < segment->holes.count; h++) {
        struct hole *hole = &holes_of(segment)[h];

        hole->gsn_before = gsn_before(recovery, shard, i, hole->from);
        hole->damage = was_durable(recovery, shard, i, hole->from);
        if (!hole->damage) {
            segment->candidate_end = hole->from;
            *ended = true;
            return ARMDB_OK;
        }
    }
    if (segment->listed.sealed || segment->scan.sealed)
        return ARMDB_OK;
    behind = gsn_behind(shard, i, segment->scan.tail);
    if (behind != 0 && behind <= recovery->w_star)
        return damage_end(recovery, shard, i, segment->scan.tail, err);
    *ended = true;
    return ARMDB_OK;
}

static enum armdb_rc judge_shard(const struct recovery *recovery,
                                 const struct shard_state *shard, struct armdb_error *err)
{
    bool ended = false;
    enum armdb_rc rc = ARMDB_OK;

    for (size_t i = 0; rc == ARMDB_OK && i < shard->count; i++) {
        struct segment_state *segment = shard->segments[i];

        if (segment->old)
            segment->candidate_end = UINT64_MAX;
        else if (ended)
            segment->candidate_end = 0;
        else
            rc = judge_segment(recovery, shard, i, &ended, err);
    }
    return rc;
}

/* ---- R4: chunks ----------------------------------------------------------------- */

static int compare_chunks(const void *a, const void *b)
{
    const struct frame_note *x = *(const struct frame_note *const *)a;
    const struct frame_note *y = *(const struct frame_note *const *)b;

    if (x->txid_edit != y->txid_edit)
        return x->txid_edit < y->txid_edit ? -1 : 1;
    if (x->txid_count != y->txid_count)
        return x->txid_count < y->txid_count ? -1 : 1;
    return x->arg_a < y->arg_a ? -1 : x->arg_a > y->arg_a;
}

/* Whole chunks of the shard that may count, by txid and number. */
static enum armdb_rc gather_chunks(const struct shard_state *shard, struct list *chunks,
                                   struct armdb_error *err)
{
    for (size_t i = 0; i < shard->count; i++) {
        const struct segment_state *segment = shard->segments[i];

        for (size_t n = 0; n < segment->notes.count; n++) {
            const struct frame_note *note = &notes_of(segment)[n];
            const struct frame_note **slot;

            if (note->kind != FRAME_CHUNK || note->damaged ||
                note->end > segment->candidate_end)
                continue;
            slot = list_push(chunks, sizeof *slot);
            if (slot == NULL)
                return recovery_fail_nomem(err);
            *slot = note;
        }
    }
    list_sort(chunks, sizeof(struct frame_note *), compare_chunks);
    return ARMDB_OK;
}

static bool chunks_complete(const struct list *chunks, const struct frame_note *close)
{
    const struct frame_note *const *items = chunks->items;
    struct frame_note first = *close;
    const struct frame_note *wanted = &first;
    uint64_t digest = FRAME_DIGEST_START;
    size_t low = 0;
    size_t high = chunks->count;
    uint64_t number = 0;

    first.arg_a = 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (compare_chunks(&items[middle], &wanted) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    /* Chunks of a later CLOSE of the same transaction may follow: they are not its. */
    for (; low < chunks->count && number < close->arg_a &&
           items[low]->txid_edit == close->txid_edit &&
           items[low]->txid_count == close->txid_count;
         low++, number++) {
        if (items[low]->arg_a != number)
            return false;
        digest = frame_chain_chunk(digest, items[low]->check);
    }
    return number == close->arg_a && digest == close->arg_b;
}

static bool has_damage(const struct shard_state *shard)
{
    for (size_t i = 0; i < shard->count; i++) {
        const struct segment_state *segment = shard->segments[i];

        for (size_t h = 0; h < segment->holes.count; h++) {
            if (segment->old || holes_of(segment)[h].damage)
                return true;
        }
    }
    return false;
}

/* A CLOSE that lacks a chunk is missing itself; but in a shard with damage the chunk
 * was lost to it, and what is left of the transaction counts. */
static enum armdb_rc check_close(const struct recovery *recovery,
                                 const struct shard_state *shard,
                                 struct segment_state *segment, const struct list *chunks,
                                 struct frame_note *close, struct armdb_error *err)
{
    if (chunks_complete(chunks, close) || has_damage(shard))
        return ARMDB_OK;
    if (close->gsn <= recovery->w_star)
        return ADB_FAIL(
            ARMDB_CORRUPT, err,
            "segment %s: the transaction with GSN %llu was durable and lacks some "
            "of its %llu chunks: restore the store from a backup or salvage it",
            segment->name, (unsigned long long)close->gsn,
            (unsigned long long)close->arg_a);
    marks_of(segment)[mark_behind(segment, close->end - 1)].gsn = 0;
    close->gsn = 0;
    return ARMDB_OK;
}

static enum armdb_rc check_closes(const struct recovery *recovery,
                                  const struct shard_state *shard,
                                  struct armdb_error *err)
{
    struct list chunks = {NULL, 0, 0};
    enum armdb_rc rc = gather_chunks(shard, &chunks, err);

    for (size_t i = 0; rc == ARMDB_OK && i < shard->count; i++) {
        struct segment_state *segment = shard->segments[i];

        for (size_t n = 0; rc == ARMDB_OK && n < segment->notes.count; n++) {
            struct frame_note *note = &notes_of(segment)[n];

            if (!segment->old && note->kind == FRAME_CLOSE &&
                note->end <= segment->candidate_end &&
                note->gsn > recovery->out->manifest.watermark)
                rc = check_close(recovery, shard, segment, &chunks, note, err);
        }
    }
    adb_free(ADB_MEM_LOG, chunks.items);
    return rc;
}

/* ---- R5: G ---------------------------------------------------------------------- */

/* GSNs that a hole with damage may have held: (low, high]. */
struct interval {
    uint64_t low;
    uint64_t high;
};

static enum armdb_rc gather_intervals(const struct recovery *recovery,
                                      struct list *intervals, struct armdb_error *err)
{
    for (uint32_t s = 0; s < recovery->sb->shards; s++) {
        const struct shard_state *shard = &recovery->shards[s];

        for (size_t i = 0; i < shard->count; i++) {
            const struct segment_state *segment = shard->segments[i];

            for (size_t h = 0; !segment->old && h < segment->holes.count; h++) {
                const struct hole *hole = &holes_of(segment)[h];
                uint64_t behind = gsn_behind(shard, i, hole->from);
                struct interval *interval;

                if (!hole->damage)
                    continue;
                interval = list_push(intervals, sizeof *interval);
                if (interval == NULL)
                    return recovery_fail_nomem(err);
                interval->low = hole->gsn_before;
                interval->high = behind != 0              ? behind - 1
                                 : segment->listed.sealed ? segment->listed.gsn_high
                                                          : recovery->w_star;
            }
        }
    }
    return ARMDB_OK;
}

/* The end of the run g+1, g+2, ... that the intervals may have held. */
static uint64_t run_in_holes(const struct list *intervals, uint64_t g)
{
    const struct interval *items = intervals->items;
    uint64_t start;

    do {
        start = g;
        for (size_t i = 0; i < intervals->count; i++) {
            if (items[i].low <= g && items[i].high > g)
                g = items[i].high;
        }
    } while (g != start);
    return g;
}

/* The lowest GSN above g behind which an interval begins; UINT64_MAX: none. */
static uint64_t next_hole(const struct list *intervals, uint64_t g)
{
    const struct interval *items = intervals->items;
    uint64_t lowest = UINT64_MAX;

    for (size_t i = 0; i < intervals->count; i++) {
        if (items[i].low > g && items[i].low < lowest && items[i].high > items[i].low)
            lowest = items[i].low;
    }
    return lowest;
}

/* A place in the marks of one shard that count. */
struct walker {
    const struct shard_state *shard;
    size_t segment;
    size_t mark;
};

/* The walker's first GSN above g; UINT64_MAX at the shard's end. */
static uint64_t walk_above(struct walker *walker, uint64_t g)
{
    while (walker->segment < walker->shard->count) {
        const struct segment_state *segment = walker->shard->segments[walker->segment];

        for (; walker->mark < segment->marks.count; walker->mark++) {
            const struct gsn_mark *mark = &marks_of(segment)[walker->mark];

            if (mark->end > segment->candidate_end)
                break;
            if (mark->gsn > g)
                return mark->gsn;
        }
        walker->segment++;
        walker->mark = 0;
    }
    return UINT64_MAX;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t lowest_above(struct walker *walkers, uint32_t count, uint64_t g)
{
    uint64_t lowest = UINT64_MAX;

    for (uint32_t s = 0; s < count; s++)
        lowest = least(lowest, walk_above(&walkers[s], g));
    return lowest;
}

/* Sets recovery->gsn; *lost is the highest GSN that only W* vouches for, or 0. A run of
 * them is one step: a mark may claim any W*, and the work must not follow from it. */
static void walk_gsns(struct recovery *recovery, struct walker *walkers,
                      const struct list *intervals, uint64_t *lost)
{
    uint64_t g = recovery->out->manifest.watermark;

    *lost = 0;
    for (;;) {
        uint64_t next = lowest_above(walkers, recovery->sb->shards, g);
        uint64_t held;

        if (next == g + 1 || (next != UINT64_MAX && ADB_PLANTED("gap_ignored"))) {
            g = next;
            continue;
        }
        held = run_in_holes(intervals, g);
        if (held > g) {
            g = held < next ? held : next - 1;
            continue;
        }
        if (g >= recovery->w_star)
            break;
        g = least(least(recovery->w_star, next - 1), next_hole(intervals, g));
        *lost = g;
    }
    recovery->gsn = g;
}

/* The end of every shard that may have held the lost GSN becomes damage. */
static enum armdb_rc place_lost(struct recovery *recovery, uint64_t lost,
                                struct armdb_error *err)
{
    bool placed = false;
    enum armdb_rc rc = ARMDB_OK;

    for (uint32_t s = 0; rc == ARMDB_OK && s < recovery->sb->shards; s++) {
        const struct shard_state *shard = &recovery->shards[s];

        for (size_t i = 0; rc == ARMDB_OK && i < shard->count; i++) {
            const struct segment_state *segment = shard->segments[i];
            bool torn = segment->candidate_end != UINT64_MAX;
            uint64_t end = torn ? segment->candidate_end : segment->scan.tail;

            if (segment->old || segment->candidate_end == 0 ||
                (!torn && (segment->listed.sealed || segment->scan.sealed)) ||
                gsn_before(recovery, shard, i, end) > lost)
                continue;
            rc = damage_end(recovery, shard, i, end, err);
            placed = true;
        }
    }
    if (rc == ARMDB_OK && !placed)
        rc = ADB_FAIL(
            ARMDB_CORRUPT, err,
            "the commit with GSN %llu was durable, and no segment that the manifest "
            "lists can have held it: restore the store from a backup",
            (unsigned long long)lost);
    return rc;
}

static enum armdb_rc find_gsn(struct recovery *recovery, struct armdb_error *err)
{
    struct list intervals = {NULL, 0, 0};
    struct walker *walkers =
        adb_alloc_zero(ADB_MEM_LOG, recovery->sb->shards * sizeof *walkers);
    uint64_t lost = 0;
    enum armdb_rc rc;

    if (walkers == NULL) {
        rc = recovery_fail_nomem(err);
        goto out;
    }
    rc = gather_intervals(recovery, &intervals, err);
    if (rc != ARMDB_OK)
        goto out;
    for (uint32_t s = 0; s < recovery->sb->shards; s++)
        walkers[s].shard = &recovery->shards[s];
    walk_gsns(recovery, walkers, &intervals, &lost);
    if (lost != 0)
        rc = place_lost(recovery, lost, err);
out:
    adb_free(ADB_MEM_LOG, walkers);
    adb_free(ADB_MEM_LOG, intervals.items);
    return rc;
}

/* ---- What is kept of each segment ------------------------------------------------ */

static void widen(struct segment_state *segment, uint64_t gsn)
{
    if (segment->gsn_low == 0 || gsn < segment->gsn_low)
        segment->gsn_low = gsn;
    if (gsn > segment->gsn_high)
        segment->gsn_high = gsn;
}

static void keep_until(struct segment_state *segment, uint64_t end)
{
    if (end > segment->count_end)
        segment->count_end = end;
}

static void count_holes(const struct recovery *recovery, struct segment_state *segment)
{
    for (size_t h = 0; h < segment->holes.count; h++) {
        struct hole *hole = &holes_of(segment)[h];

        if (!hole->damage)
            continue;
        if (recovery->gsn == 0 || hole->gsn_before > recovery->gsn ||
            hole->gsn_own > recovery->gsn) {
            hole->damage = false;
            continue;
        }
        keep_until(segment, hole->to);
        if (hole->gsn_before < recovery->gsn)
            widen(segment, hole->gsn_before + 1);
        widen(segment, recovery->gsn);
    }
}

static void count_segment(const struct recovery *recovery, struct segment_state *segment)
{
    bool all = segment->candidate_end == UINT64_MAX;

    segment->count_end = 0;
    segment->gsn_low = 0;
    segment->gsn_high = 0;
    for (size_t m = 0; m < segment->marks.count; m++) {
        const struct gsn_mark *mark = &marks_of(segment)[m];

        if (mark->gsn == 0 || mark->gsn > recovery->gsn ||
            mark->end > segment->candidate_end) {
            all = false;
            continue;
        }
        keep_until(segment, mark->end);
        widen(segment, mark->gsn);
    }
    for (size_t n = 0; n < segment->notes.count; n++) {
        const struct frame_note *note = &notes_of(segment)[n];
        const struct closed *closed =
            recovery_find_closed(recovery, note->txid_edit, note->txid_count);

        /* A chunk of a later CLOSE, which is cut, lies behind frames that are, too. */
        if (note->kind != FRAME_CHUNK || closed == NULL ||
            note->arg_a >= closed->chunks || note->end > segment->candidate_end)
            continue;
        keep_until(segment, note->end);
        widen(segment, closed->gsn);
    }
    count_holes(recovery, segment);
    segment->keep = segment->count_end > 0;
    if (all && segment->listed.sealed) {
        segment->count_end = segment->listed.length;
        segment->keep = true;
    } else if (all && segment->keep && segment->scan.sealed) {
        keep_until(segment, segment->scan.tail);
    }
}

static void count_segments(struct recovery *recovery)
{
    for (size_t i = 0; i < recovery->segment_count; i++) {
        struct segment_state *segment = &recovery->segments[i];

        if (segment->old) {
            segment->keep = true;
            segment->count_end = segment->listed.length;
            segment->gsn_low = segment->listed.gsn_low;
            segment->gsn_high = segment->listed.gsn_high;
            for (size_t h = 0; h < segment->holes.count; h++)
                holes_of(segment)[h].damage = true;
        } else {
            count_segment(recovery, segment);
        }
    }
}

static void find_w_star(struct recovery *recovery)
{
    uint64_t w = recovery->out->manifest.watermark;

    for (size_t i = 0; i < recovery->segment_count; i++) {
        const struct segment_state *segment = &recovery->segments[i];

        if (segment->header.watermark > w)
            w = segment->header.watermark;
        if (segment->scan.w_max > w)
            w = segment->scan.w_max;
    }
    recovery->w_star = w;
}

enum armdb_rc recovery_decide(struct recovery *recovery, struct armdb_error *err)
{
    enum armdb_rc rc = ARMDB_OK;

    find_w_star(recovery);
    for (uint32_t s = 0; rc == ARMDB_OK && s < recovery->sb->shards; s++) {
        rc = judge_shard(recovery, &recovery->shards[s], err);
        if (rc == ARMDB_OK)
            rc = check_closes(recovery, &recovery->shards[s], err);
    }
    if (rc == ARMDB_OK)
        rc = find_gsn(recovery, err);
    if (rc == ARMDB_OK)
        rc = recovery_gather_verdicts(recovery, err);
    if (rc == ARMDB_OK)
        rc = recovery_apply_rules(recovery, err);
    if (rc == ARMDB_OK)
        count_segments(recovery);
    return rc;
}

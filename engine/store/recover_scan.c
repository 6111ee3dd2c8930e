/* recover_scan.c - recovery's two readings of a segment.
 *
 * Step 1, the survey, reads every segment once, several in parallel. Of a segment
 * wholly at or below Wm everything counts but what a verdict or a void run takes
 * out, so its records are delivered while it is read: the bulk of a store is read
 * once. Or it is not read at all: when there is a hint of just this segment, its run is
 * delivered and its notes are taken over; all in it was decided when it was written, so
 * it stays right whatever else recovery finds out. Any other hint costs reading that
 * segment, nothing more. When a segment is read, two things may be unknown:
 *
 *   - A verdict that stands later in the log. Aborted frames are rare; frames are
 *     delivered as if they had committed, and when a verdict says otherwise the sink
 *     is told to forget everything and step 2 delivers it anew (recovery.restart).
 *   - The CLOSE of a chunk. From the first chunk whose CLOSE is not in the manifest
 *     on, the rest of the segment waits for step 2, so that each segment's records
 *     still arrive in log order.
 *
 * Of a segment beyond Wm nothing is delivered in step 1; it leaves marks (GSN and
 * end of every frame that has one), notes (frames that decide or wait) and holes,
 * from which recover_gsn.c decides what counts. Before it is read it is synced and
 * thrown out of the page cache: after a failed sync the kernel's cache shows bytes
 * that the device never got.
 *
 * Step 2 reads what is left to deliver with all decisions made; it never looks past
 * a segment's count_end. */
#include "engine/store/recover_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/mem.h"
#include "engine/base/plant.h"
#include "engine/log/hint.h"

/* One reading of one segment. */
struct reading {
    struct recovery *recovery;
    struct segment_state *segment;
    struct armdb_error *err;
    uint64_t limit;
    uint64_t record_bytes; /* of what was read, also of frames that are out */
    uint64_t record_count;
    /* The frame whose records are being delivered. */
    bool out; /* it does not count: they are only counted */
    uint64_t gsn;
    const uint64_t *void_runs;
    size_t void_run_count;
};

static enum armdb_rc fail_nomem(const struct reading *reading)
{
    return ADB_FAIL(ARMDB_NOMEM, reading->err, "no memory to recover segment %s",
                    reading->segment->name);
}

/* ---- Notes -------------------------------------------------------------------- */

static int compare_runs(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;

    return x[0] < y[0] ? -1 : x[0] > y[0];
}

/* Sorts the runs and joins those that overlap, for binary search. */
static size_t join_runs(uint64_t *runs, size_t count)
{
    size_t kept = 0;

    qsort(runs, count, 2 * sizeof *runs, compare_runs);
    for (size_t i = 1; i < count; i++) {
        if (runs[2 * i] <= runs[2 * kept + 1]) {
            if (runs[2 * i + 1] > runs[2 * kept + 1])
                runs[2 * kept + 1] = runs[2 * i + 1];
        } else {
            kept++;
            runs[2 * kept] = runs[2 * i];
            runs[2 * kept + 1] = runs[2 * i + 1];
        }
    }
    return kept + 1;
}

static enum armdb_rc note_runs(const struct reading *reading, const struct frame *frame,
                               struct frame_note *note)
{
    const unsigned char *p;
    uint32_t len;
    size_t count;

    if (frame_field(frame, FRAME_FIELD_VOID_RUNS, &p, &len) != ARMDB_OK || len == 0)
        return ARMDB_OK;
    count = len / 16;
    note->void_runs = adb_alloc(ADB_MEM_LOG, count * 2 * sizeof *note->void_runs);
    if (note->void_runs == NULL)
        return fail_nomem(reading);
    for (size_t i = 0; i < 2 * count; i++)
        note->void_runs[i] = adb_get_u64(p + 8 * i);
    for (size_t i = 0; i < count; i++) {
        if (note->void_runs[2 * i] > note->void_runs[2 * i + 1])
            return ADB_FAIL(ARMDB_CORRUPT, reading->err,
                            "segment %s: the frame at offset %llu lists a run of void "
                            "ordinals that ends before it begins",
                            reading->segment->name, (unsigned long long)note->offset);
    }
    note->void_run_count = join_runs(note->void_runs, count);
    return ARMDB_OK;
}

/* Where the frame's bytes end, or the limit when the file is shorter. */
static uint64_t frame_end(const struct reading *reading, const struct frame *frame,
                          uint64_t offset)
{
    uint64_t body = offset + frame_head_len(frame);

    if (body > reading->limit || frame->body_len > reading->limit - body)
        return reading->limit;
    return body + frame->body_len;
}

static bool wants_note(const struct frame *frame)
{
    return frame->kind == FRAME_CHUNK || frame->kind == FRAME_CLOSE ||
           frame->kind == FRAME_VERDICT ||
           (frame->kind == FRAME_COMMIT && frame->doubt != FRAME_DOUBT_COMMIT);
}

static enum armdb_rc refuse_gsn(const struct reading *reading, uint64_t gsn,
                                uint64_t offset)
{
    return ADB_FAIL(ARMDB_CORRUPT, reading->err,
                    "segment %s has GSN %llu at offset %llu, where none like it can "
                    "stand: restore the store from a backup",
                    reading->segment->name, (unsigned long long)gsn,
                    (unsigned long long)offset);
}

/* Step 1: keeps what recovery_decide() needs to know of the frame. *kept is its note,
 * or NULL when none is needed; it is valid until the next one. */
static enum armdb_rc note_frame(const struct reading *reading, const struct frame *frame,
                                uint64_t offset, bool damaged,
                                const struct frame_note **kept)
{
    struct segment_state *segment = reading->segment;
    struct frame_note *note;

    *kept = NULL;
    /* GSNs are given under the append lock, so they rise. If they did not, what counts
     * could depend on whether a segment is old. */
    if (frame->gsn != 0 && frame->gsn <= segment->gsn_last)
        return refuse_gsn(reading, frame->gsn, offset);
    if (frame->gsn != 0)
        segment->gsn_last = frame->gsn;
    if (!segment->old && frame->gsn != 0) {
        struct gsn_mark *mark = list_push(&segment->marks, sizeof *mark);

        if (mark == NULL)
            return fail_nomem(reading);
        mark->gsn = frame->gsn;
        mark->end = frame_end(reading, frame, offset);
    }
    if (!wants_note(frame))
        return ARMDB_OK;
    note = list_push(&segment->notes, sizeof *note);
    if (note == NULL)
        return fail_nomem(reading);
    note->kind = frame->kind;
    note->doubt = frame->doubt;
    note->outcome = frame->outcome;
    note->damaged = damaged;
    note->offset = offset;
    note->end = frame_end(reading, frame, offset);
    note->gsn = frame->gsn;
    note->txid_edit = frame->txid_edit;
    note->txid_count = frame->txid_count;
    note->arg_a = frame->arg_a;
    note->arg_b = frame->arg_b;
    note->check = frame->check;
    *kept = note;
    return note_runs(reading, frame, note);
}

/* ---- Delivering --------------------------------------------------------------- */

static bool is_void(const struct reading *reading, uint64_t ordinal)
{
    size_t low = 0;
    size_t high = reading->void_run_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (reading->void_runs[2 * middle + 1] < ordinal)
            low = middle + 1;
        else
            high = middle;
    }
    return low < reading->void_run_count && reading->void_runs[2 * low] <= ordinal;
}

static enum armdb_rc deliver_record(void *arg, const struct frame *frame,
                                    const struct record *record, uint64_t offset)
{
    struct reading *reading = arg;
    const struct recover_sink *sink = reading->recovery->sink;
    const struct segment_state *segment = reading->segment;
    uint64_t gsn = frame->kind == FRAME_MOVED ? record->gsn : reading->gsn;

    reading->record_bytes += record_size_plain(record);
    reading->record_count++;
    if (reading->out)
        return ARMDB_OK;
    if (segment->old && (gsn < segment->listed.gsn_low || gsn > segment->listed.gsn_high))
        return refuse_gsn(reading, gsn, offset);
    if (reading->void_run_count > 0 && !ADB_PLANTED("void_runs_ignored") &&
        (record->flags & RECORD_HAS_ORDINAL) != 0 && is_void(reading, record->ordinal))
        return ARMDB_OK;
    return sink->record(sink->arg, segment->listed.number, offset, record, gsn,
                        record->ordinal);
}

/* Whose GSN and void runs a chunk's or closing frame's records have. */
static void take_closed(struct reading *reading, const struct closed *closed)
{
    reading->gsn = closed->gsn;
    reading->void_runs = closed->void_runs;
    reading->void_run_count = closed->void_run_count;
}

/* A frame that does not count: its records are dead bytes, and nothing else. */
static enum armdb_rc pass_out(struct reading *reading)
{
    reading->out = true;
    return ARMDB_OK;
}

/* Step 1, an old segment. */
static enum armdb_rc survey_old(struct reading *reading, const struct frame *frame,
                                uint64_t offset, const struct frame_note *note)
{
    const struct recovery *recovery = reading->recovery;
    struct segment_state *segment = reading->segment;
    const struct closed *closed;

    reading->gsn = frame->gsn;
    reading->out = false;
    reading->void_runs = note == NULL ? NULL : note->void_runs;
    reading->void_run_count = note == NULL ? 0 : note->void_run_count;
    if (segment->deferred || frame->record_count == 0)
        return ARMDB_DONE;
    if (frame->kind != FRAME_CHUNK)
        return frame->gsn != 0 && recovery_is_out(recovery, frame->gsn, frame->doubt)
                   ? pass_out(reading)
                   : ARMDB_OK;
    closed = recovery_find_closed(recovery, frame->txid_edit, frame->txid_count);
    if (closed == NULL) {
        segment->deferred = true;
        segment->deferred_at = offset;
        return ARMDB_DONE;
    }
    take_closed(reading, closed);
    return closed->out ? pass_out(reading) : ARMDB_OK;
}

static enum armdb_rc survey_frame(void *arg, const struct frame *frame, uint64_t offset)
{
    struct reading *reading = arg;
    const struct frame_note *note;
    enum armdb_rc rc = note_frame(reading, frame, offset, false, &note);

    if (rc != ARMDB_OK)
        return rc;
    return reading->segment->old ? survey_old(reading, frame, offset, note) : ARMDB_DONE;
}

/* NULL: no memory. */
static struct hole *push_hole(const struct reading *reading, uint64_t from, uint64_t to)
{
    struct hole *hole = list_push(&reading->segment->holes, sizeof *hole);

    if (hole == NULL)
        return NULL;
    hole->from = from;
    hole->to = to;
    hole->untrusted_from = from;
    hole->untrusted_to = from;
    return hole;
}

static enum armdb_rc survey_damaged(void *arg, const struct frame *frame, uint64_t offset)
{
    struct reading *reading = arg;
    const struct frame_note *note;
    struct hole *hole;
    enum armdb_rc rc = note_frame(reading, frame, offset, true, &note);

    if (rc != ARMDB_OK)
        return rc;
    hole = push_hole(reading, offset, frame_end(reading, frame, offset));
    if (hole == NULL)
        return fail_nomem(reading);
    hole->gsn_own = frame->gsn;
    return reading->segment->old ? survey_old(reading, frame, offset, note) : ARMDB_DONE;
}

static enum armdb_rc survey_stretch(void *arg, uint64_t from, uint64_t to)
{
    struct reading *reading = arg;
    struct list *holes = &reading->segment->holes;
    struct hole *hole = NULL;

    if (holes->count > 0)
        hole = (struct hole *)holes->items + (holes->count - 1);
    if (hole == NULL || from >= hole->to) /* else: the rest of a damaged frame */
        hole = push_hole(reading, from, to);
    if (hole == NULL)
        return fail_nomem(reading);
    hole->untrusted_from = from;
    hole->untrusted_to = to;
    return ARMDB_OK;
}

/* Step 2. */
static enum armdb_rc deliver_frame(void *arg, const struct frame *frame, uint64_t offset)
{
    struct reading *reading = arg;
    const struct recovery *recovery = reading->recovery;
    const struct segment_state *segment = reading->segment;
    const struct closed *closed;

    reading->gsn = frame->gsn;
    reading->out = false;
    reading->void_run_count = 0;
    if (frame->record_count == 0 ||
        (!recovery->restart && segment->old && offset < segment->deferred_at))
        return ARMDB_DONE;
    if (frame->kind == FRAME_MOVED)
        return ARMDB_OK;
    if (!segment->old && frame->gsn > recovery->gsn)
        return ARMDB_DONE;
    if (frame->kind == FRAME_COMMIT)
        return recovery_is_out(recovery, frame->gsn, frame->doubt) ? pass_out(reading)
                                                                   : ARMDB_OK;
    closed = recovery_find_closed(recovery, frame->txid_edit, frame->txid_count);
    if (closed == NULL || closed->out)
        return pass_out(reading);
    take_closed(reading, closed);
    return ARMDB_OK;
}

static enum armdb_rc pass_stretch(void *arg, uint64_t from, uint64_t to)
{
    (void)arg;
    (void)from;
    (void)to;
    return ARMDB_OK;
}

/* ---- Reading a file ----------------------------------------------------------- */

/* R2: what may not have reached the device is sent there, and read from there. A
 * file system that is read-only has nothing to send. */
static enum armdb_rc settle_file(const struct reading *reading, struct adb_file *file)
{
    struct armdb_error failed = {.rc = ARMDB_OK};
    enum armdb_rc rc = ADB_PLANTED("recovery_not_synced")
                           ? ARMDB_OK
                           : adb_file_sync(file, reading->segment->name, &failed);

    if (rc != ARMDB_OK && reading->recovery->read_only &&
        (failed.sys_errno == EINVAL || failed.sys_errno == EROFS))
        rc = ARMDB_OK;
    if (rc != ARMDB_OK) {
        if (reading->err != NULL)
            *reading->err = failed;
        return rc;
    }
    file->io->ops->file_drop_cache(file);
    return ARMDB_OK;
}

static enum armdb_rc open_segment(const struct reading *reading, struct adb_file **file)
{
    const struct recovery *recovery = reading->recovery;
    const struct segment_state *segment = reading->segment;

    return recovery->dir->io->ops->file_open(recovery->dir, segment->name, 0, file,
                                             reading->err);
}

/* A sealed segment must reach its length: what lacks is a hole. */
static enum armdb_rc check_length(const struct reading *reading)
{
    struct segment_state *segment = reading->segment;
    const struct scan_result *scan = &segment->scan;
    struct hole *hole;

    if (!segment->listed.sealed || scan->tail >= segment->listed.length ||
        (scan->clean && align_to_frame(scan->tail) >= segment->listed.length))
        return ARMDB_OK;
    hole = push_hole(reading, scan->tail, segment->listed.length);
    if (hole == NULL)
        return fail_nomem(reading);
    hole->untrusted_to = hole->to;
    return ARMDB_OK;
}

/* ---- Hints -------------------------------------------------------------------- */

/* The notes of a hint as if the segment had been read. */
static enum armdb_rc take_notes(const struct reading *reading, struct hint *hint)
{
    for (size_t i = 0; i < hint->note_count; i++) {
        struct hint_note *from = &hint->notes[i];
        struct frame_note *note = list_push(&reading->segment->notes, sizeof *note);

        if (note == NULL)
            return fail_nomem(reading);
        note->kind = from->kind;
        note->doubt = from->doubt;
        note->outcome = from->outcome;
        note->offset = from->offset;
        note->end = from->end;
        note->gsn = from->gsn;
        note->txid_edit = from->txid_edit;
        note->txid_count = from->txid_count;
        note->arg_a = from->arg_a;
        note->arg_b = from->arg_b;
        note->check = from->check;
        note->void_runs = from->void_runs;
        note->void_run_count = from->void_run_count;
        from->void_runs = NULL; /* moved */
    }
    return ARMDB_OK;
}

/* A hint that was looked for in vain, or cannot be used, whatever the reason; *rc says
 * whether recovery can go on. */
static bool refuse_hint(struct segment_state *segment, const struct armdb_error *why,
                        enum armdb_rc *rc)
{
    segment->hint_rc = *rc;
    (void)snprintf(segment->hint_why, sizeof segment->hint_why, "%.199s",
                   *rc == ARMDB_NOT_FOUND ? "" : why->text);
    if (*rc != ARMDB_NOMEM)
        *rc = ARMDB_OK;
    return false;
}

/* Delivers the segment's hint. False, with ARMDB_OK: it has to be read. */
static bool use_hint(struct reading *reading, struct adb_file *file, enum armdb_rc *rc)
{
    const struct recovery *recovery = reading->recovery;
    const struct recover_sink *sink = recovery->sink;
    struct segment_state *segment = reading->segment;
    struct armdb_error why = {.rc = ARMDB_OK};
    struct hint hint;
    uint64_t end_raw;

    *rc = ARMDB_OK;
    if (!segment->old || sink->hint == NULL ||
        segment->file_bytes < segment->listed.length)
        return false;
    memset(&hint, 0, sizeof hint);
    *rc = hint_segment_end(file, segment->name, &segment->listed, &end_raw, &why);
    if (*rc == ARMDB_OK)
        *rc = hint_read(recovery->dir, recovery->sb->uuid, &segment->listed, end_raw,
                        &hint, &why);
    if (*rc != ARMDB_OK) {
        if (*rc == ARMDB_NOMEM && reading->err != NULL)
            *reading->err = why;
        return refuse_hint(segment, &why, rc);
    }
    *rc = take_notes(reading, &hint);
    if (*rc == ARMDB_OK)
        *rc = sink->hint(sink->arg, segment->listed.number, &hint.run);
    segment->scan.w_max = hint.watermark_max;
    segment->scan.end = segment->listed.length;
    segment->scan.tail = segment->listed.length;
    segment->scan.clean = true;
    segment->record_bytes = hint.record_bytes;
    segment->record_count = hint.record_count;
    segment->hinted = *rc == ARMDB_OK;
    hint_fini(&hint);
    return true;
}

static enum armdb_rc end_segment(const struct reading *reading)
{
    const struct recover_sink *sink = reading->recovery->sink;

    return sink->segment_end == NULL
               ? ARMDB_OK
               : sink->segment_end(sink->arg, reading->segment->listed.number);
}

enum armdb_rc recovery_survey(struct recovery *recovery, struct segment_state *segment,
                              struct armdb_error *err)
{
    struct reading reading = {.recovery = recovery, .segment = segment, .err = err};
    const struct scan_visitor visitor = {.arg = &reading,
                                         .frame = survey_frame,
                                         .record = deliver_record,
                                         .damaged = survey_damaged,
                                         .stretch = survey_stretch};
    struct adb_file *file = NULL;
    enum armdb_rc rc;

    rc = open_segment(&reading, &file);
    if (rc != ARMDB_OK)
        goto out;
    if (!segment->old) {
        rc = settle_file(&reading, file);
        if (rc != ARMDB_OK)
            goto out;
    }
    rc = file->io->ops->file_size(file, &segment->file_bytes, err);
    if (rc != ARMDB_OK)
        goto out;
    if (use_hint(&reading, file, &rc) || rc != ARMDB_OK)
        goto out;
    reading.limit = segment->file_bytes;
    if (segment->listed.sealed && segment->listed.length < reading.limit)
        reading.limit = segment->listed.length;
    rc = scan_segment(file, segment->name, &segment->header, reading.limit, &visitor,
                      &segment->scan, err);
    if (rc == ARMDB_OK)
        rc = check_length(&reading);
    if (rc == ARMDB_OK)
        rc = end_segment(&reading);
    segment->record_bytes = reading.record_bytes;
    segment->record_count = reading.record_count;
out:
    if (file != NULL)
        file->io->ops->file_close(file);
    return rc;
}

enum armdb_rc recovery_deliver(struct recovery *recovery, struct segment_state *segment,
                               struct armdb_error *err)
{
    struct reading reading = {.recovery = recovery, .segment = segment, .err = err};
    const struct scan_visitor visitor = {.arg = &reading,
                                         .frame = deliver_frame,
                                         .record = deliver_record,
                                         .damaged = deliver_frame,
                                         .stretch = pass_stretch};
    struct scan_result result;
    struct adb_file *file = NULL;
    enum armdb_rc rc;

    if (!segment->keep || segment->hinted ||
        (segment->old && !segment->deferred && !recovery->restart))
        return ARMDB_OK;
    if (recovery->restart) {
        segment->record_bytes = 0;
        segment->record_count = 0;
    }
    rc = open_segment(&reading, &file);
    if (rc == ARMDB_OK)
        rc = scan_segment(file, segment->name, &segment->header, segment->count_end,
                          &visitor, &result, err);
    if (rc == ARMDB_OK)
        rc = end_segment(&reading);
    segment->record_bytes += reading.record_bytes;
    segment->record_count += reading.record_count;
    if (file != NULL)
        file->io->ops->file_close(file);
    return rc;
}

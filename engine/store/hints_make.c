/* hints_make.c - what the hint of a segment says, by reading the segment.
 *
 * This is recovery's reading of a segment with everything decided. What is out: frames
 * whose GSN the manifest in memory calls aborted (every abort is put down there before
 * its transaction counts as decided), records in void runs, chunks without a CLOSE that
 * counts. The CLOSE of a chunk may stand in a later segment of its shard, or in the
 * manifest when that segment is gone; the segments are then searched in turn, and what
 * was found is remembered, since the chunks of one transaction fill many segments.
 *
 * A damaged segment has no hint: recovery has to see the damage. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/mem.h"
#include "engine/base/plant.h"
#include "engine/log/scan.h"
#include "engine/store/hints.h"
#include "engine/store/internal.h"

struct making {
    struct armdb *store;
    const struct manifest_segment *listed;
    struct manifest manifest; /* as it was at the beginning */
    struct hints_closes *closes;
    struct run_builder *builder;
    struct hint *hint;
    size_t note_room;
    struct armdb_error *err;
    /* The frame being read. */
    bool out; /* it does not count */
    uint64_t gsn;
    const uint64_t *void_runs;
    size_t void_run_count;
};

static enum armdb_rc fail_nomem(const struct making *m)
{
    return ADB_FAIL(ARMDB_NOMEM, m->err, "out of memory for the hint of segment %016llx",
                    (unsigned long long)m->listed->number);
}

void hints_closes_fini(struct hints_closes *closes)
{
    for (size_t i = 0; i < closes->count; i++)
        adb_free(ADB_MEM_LOG, closes->items[i].void_runs);
    adb_free(ADB_MEM_LOG, closes->items);
    adb_free(ADB_MEM_LOG, closes->searched);
    memset(closes, 0, sizeof *closes);
}

static bool is_aborted(const struct making *m, uint64_t gsn)
{
    if (ADB_PLANTED("hint_of_aborted"))
        return false;
    for (size_t i = 0; i < m->manifest.verdict_count; i++)
        if (m->manifest.verdicts[i].gsn == gsn)
            return m->manifest.verdicts[i].outcome == FRAME_OUTCOME_ABORT;
    return false;
}

/* ---- Closes --------------------------------------------------------------------- */

static int compare_runs(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;

    return x[0] < y[0] ? -1 : x[0] > y[0];
}

/* Sorted, and those that touch or overlap joined. */
static size_t join_runs(uint64_t *runs, size_t count)
{
    size_t kept = 0;

    if (count == 0)
        return 0;
    qsort(runs, count, 2 * sizeof *runs, compare_runs);
    for (size_t i = 1; i < count; i++) {
        if (runs[2 * i] > runs[2 * kept + 1]) {
            kept++;
            runs[2 * kept] = runs[2 * i];
            runs[2 * kept + 1] = runs[2 * i + 1];
        } else if (runs[2 * i + 1] > runs[2 * kept + 1]) {
            runs[2 * kept + 1] = runs[2 * i + 1];
        }
    }
    return kept + 1;
}

/* The void runs of a CLOSE, in memory of their own; NULL when there are none. */
static enum armdb_rc copy_runs(const struct making *m, const uint64_t *from, size_t count,
                               uint64_t **runs)
{
    *runs = NULL;
    if (count == 0)
        return ARMDB_OK;
    *runs = adb_alloc(ADB_MEM_LOG, count * 2 * sizeof **runs);
    if (*runs == NULL)
        return fail_nomem(m);
    memcpy(*runs, from, count * 2 * sizeof **runs);
    return ARMDB_OK;
}

static const struct hints_close *find_close(const struct making *m,
                                            const struct frame *frame)
{
    for (size_t i = 0; i < m->closes->count; i++) {
        const struct hints_close *close = &m->closes->items[i];

        if (close->txid_edit == frame->txid_edit &&
            close->txid_count == frame->txid_count && !is_aborted(m, close->gsn))
            return close;
    }
    return NULL;
}

/* Keeps a CLOSE that is not known yet; *runs moves there. */
static enum armdb_rc keep_close(struct making *m, const struct hints_close *close)
{
    struct hints_closes *closes = m->closes;

    for (size_t i = 0; i < closes->count; i++)
        if (closes->items[i].gsn == close->gsn)
            return ARMDB_DONE;
    if (closes->count == closes->room) {
        size_t room = closes->room * 2 + 8;
        struct hints_close *grown =
            adb_realloc(ADB_MEM_LOG, closes->items, room * sizeof *grown);

        if (grown == NULL)
            return fail_nomem(m);
        closes->items = grown;
        closes->room = room;
    }
    closes->items[closes->count++] = *close;
    return ARMDB_OK;
}

static enum armdb_rc note_close(struct making *m, const struct frame *frame)
{
    struct hints_close close = {.txid_edit = frame->txid_edit,
                                .txid_count = frame->txid_count,
                                .gsn = frame->gsn};
    const unsigned char *p;
    uint32_t len = 0;
    enum armdb_rc rc;

    if (is_aborted(m, frame->gsn))
        return ARMDB_OK;
    if (frame_field(frame, FRAME_FIELD_VOID_RUNS, &p, &len) == ARMDB_OK && len >= 16) {
        close.void_run_count = len / 16;
        close.void_runs =
            adb_alloc(ADB_MEM_LOG, close.void_run_count * 2 * sizeof *close.void_runs);
        if (close.void_runs == NULL)
            return fail_nomem(m);
        for (size_t i = 0; i < 2 * close.void_run_count; i++)
            close.void_runs[i] = adb_get_u64(p + 8 * i);
        close.void_run_count = join_runs(close.void_runs, close.void_run_count);
    }
    rc = keep_close(m, &close);
    if (rc != ARMDB_OK)
        adb_free(ADB_MEM_LOG, close.void_runs);
    return rc == ARMDB_DONE ? ARMDB_OK : rc;
}

static enum armdb_rc load_closes(struct making *m)
{
    enum armdb_rc rc = ARMDB_OK;

    for (size_t i = 0; rc == ARMDB_OK && i < m->manifest.close_count; i++) {
        const struct manifest_close *from = &m->manifest.closes[i];
        struct hints_close close = {.txid_edit = from->txid_edit,
                                    .txid_count = from->txid_count,
                                    .gsn = from->gsn,
                                    .void_run_count = from->void_run_count};

        rc = copy_runs(m, from->void_runs, from->void_run_count, &close.void_runs);
        if (rc == ARMDB_OK)
            rc = keep_close(m, &close);
        if (rc != ARMDB_OK)
            adb_free(ADB_MEM_LOG, close.void_runs);
        if (rc == ARMDB_DONE)
            rc = ARMDB_OK;
    }
    return rc;
}

static enum armdb_rc search_frame(void *arg, const struct frame *frame, uint64_t offset)
{
    struct making *m = arg;
    enum armdb_rc rc = ARMDB_OK;

    (void)offset;
    if (frame->kind == FRAME_CLOSE)
        rc = note_close(m, frame);
    return rc == ARMDB_OK ? ARMDB_DONE : rc;
}

/* Up to where the bytes of a listed segment are on the disk. */
static uint64_t durable_end(const struct making *m, const struct manifest_segment *listed)
{
    struct shard *shard = &m->store->log.shards[listed->shard];
    uint64_t end = listed->length;

    if (listed->sealed)
        return end;
    adb_mutex_lock(&shard->lock);
    end = shard->locked.active != NULL &&
                  shard->locked.active->header.number == listed->number
              ? shard->locked.synced
              : UINT64_MAX;
    adb_mutex_unlock(&shard->lock);
    return end;
}

static enum armdb_rc scan_listed(const struct making *m,
                                 const struct manifest_segment *listed,
                                 const struct scan_visitor *visitor,
                                 struct scan_result *result, uint64_t *end_raw)
{
    const struct adb_io_ops *ops = m->store->io->ops;
    unsigned char page[SEGMENT_HEADER_BYTES];
    struct segment_header header;
    char name[SEGMENT_NAME_MAX];
    struct adb_file *file = NULL;
    enum armdb_rc rc;

    segment_name(listed->number, name);
    rc = ops->file_open(m->store->dir, name, 0, &file, m->err);
    if (rc == ARMDB_NOT_FOUND)
        return ADB_FAIL(ARMDB_BUSY, m->err, "segment %s has gone meanwhile", name);
    if (rc == ARMDB_OK)
        rc = adb_file_read(file, name, page, sizeof page, 0, m->err);
    if (rc == ARMDB_OK)
        rc = segment_header_decode(page, name, &header, m->err);
    if (rc == ARMDB_OK)
        rc = scan_segment(file, name, &header, durable_end(m, listed), visitor, result,
                          m->err);
    if (rc == ARMDB_OK && end_raw != NULL)
        rc = hint_segment_end(file, name, listed, end_raw, m->err);
    if (file != NULL)
        ops->file_close(file);
    return rc;
}

static bool is_searched(const struct hints_closes *closes, uint64_t number)
{
    for (size_t i = 0; i < closes->searched_count; i++)
        if (closes->searched[i] == number)
            return true;
    return false;
}

/* Remembers a segment whose closes are all known now. */
static enum armdb_rc note_searched(const struct making *m, uint64_t number)
{
    struct hints_closes *closes = m->closes;
    uint64_t *grown = adb_realloc(ADB_MEM_LOG, closes->searched,
                                  (closes->searched_count + 1) * sizeof *grown);

    if (grown == NULL)
        return fail_nomem(m);
    closes->searched = grown;
    grown[closes->searched_count++] = number;
    return ARMDB_OK;
}

/* The CLOSE of a chunk: known, or searched for from the chunk's segment on. *out NULL:
 * there is none that counts. */
static enum armdb_rc close_of_chunk(struct making *m, const struct frame *frame,
                                    const struct hints_close **out)
{
    const struct scan_visitor visitor = {.arg = m, .frame = search_frame};
    enum armdb_rc rc = ARMDB_OK;

    *out = find_close(m, frame);
    for (size_t i = 0; rc == ARMDB_OK && *out == NULL && i < m->manifest.segment_count;
         i++) {
        const struct manifest_segment *listed = &m->manifest.segments[i];
        struct scan_result result;

        if (listed->shard != m->listed->shard || listed->number < m->listed->number ||
            listed->kind != SEGMENT_LOG || is_searched(m->closes, listed->number))
            continue;
        rc = scan_listed(m, listed, &visitor, &result, NULL);
        if (rc == ARMDB_OK && listed->sealed)
            rc = note_searched(m, listed->number);
        *out = find_close(m, frame);
    }
    return rc;
}

/* ---- Frames and records ------------------------------------------------------------ */

static enum armdb_rc push_note(struct making *m, const struct frame *frame,
                               uint64_t offset, const struct hints_close *close)
{
    struct hint *hint = m->hint;
    struct hint_note *note;
    enum armdb_rc rc;

    if (hint->note_count == m->note_room) {
        size_t room = m->note_room * 2 + 8;
        struct hint_note *grown =
            adb_realloc(ADB_MEM_LOG, hint->notes, room * sizeof *grown);

        if (grown == NULL)
            return fail_nomem(m);
        hint->notes = grown;
        m->note_room = room;
    }
    note = &hint->notes[hint->note_count];
    *note = (struct hint_note){.kind = frame->kind,
                               .doubt = FRAME_DOUBT_COMMIT,
                               .outcome = frame->outcome,
                               .offset = offset,
                               .end = offset + frame_head_len(frame) + frame->body_len,
                               .gsn = frame->gsn,
                               .txid_edit = frame->txid_edit,
                               .txid_count = frame->txid_count,
                               .arg_a = frame->arg_a,
                               .arg_b = frame->arg_b,
                               .check = frame->check};
    if (close != NULL) {
        rc = copy_runs(m, close->void_runs, close->void_run_count, &note->void_runs);
        if (rc != ARMDB_OK)
            return rc;
        note->void_run_count = close->void_run_count;
    }
    hint->note_count++;
    return ARMDB_OK;
}

/* A frame that does not count: its records are dead bytes, and nothing else. */
static enum armdb_rc pass_out(struct making *m)
{
    m->out = true;
    return ARMDB_OK;
}

/* A CLOSE or CHUNK whose CLOSE is `close`, or none. */
static enum armdb_rc take_closed(struct making *m, const struct frame *frame,
                                 const struct hints_close *close)
{
    if (close == NULL)
        return frame->record_count == 0 ? ARMDB_DONE : pass_out(m);
    m->gsn = close->gsn;
    m->void_runs = close->void_runs;
    m->void_run_count = close->void_run_count;
    return ARMDB_OK;
}

static enum armdb_rc make_close(struct making *m, const struct frame *frame,
                                uint64_t offset)
{
    const struct hints_close *close = NULL;
    enum armdb_rc rc = note_close(m, frame);

    for (size_t i = 0; rc == ARMDB_OK && i < m->closes->count; i++)
        if (m->closes->items[i].gsn == frame->gsn && !is_aborted(m, frame->gsn))
            close = &m->closes->items[i];
    if (rc == ARMDB_OK && close != NULL)
        rc = push_note(m, frame, offset, close);
    return rc == ARMDB_OK ? take_closed(m, frame, close) : rc;
}

static enum armdb_rc make_frame(void *arg, const struct frame *frame, uint64_t offset)
{
    struct making *m = arg;
    const struct hints_close *close = NULL;
    enum armdb_rc rc;

    if (atomic_load_explicit(&m->store->hinter.stopping, memory_order_relaxed))
        return ADB_FAIL(ARMDB_BUSY, m->err, "the store closes");
    m->gsn = frame->gsn;
    m->out = false;
    m->void_run_count = 0;
    switch (frame->kind) {
    case FRAME_SEAL:
        return ARMDB_DONE;
    case FRAME_MOVED:
        return ARMDB_OK;
    case FRAME_COMMIT:
        return is_aborted(m, frame->gsn) && frame->record_count > 0 ? pass_out(m)
                                                                    : ARMDB_OK;
    case FRAME_VERDICT:
        if (frame->outcome == FRAME_OUTCOME_COMMIT && frame->arg_b == m->listed->number)
            return ARMDB_DONE;
        rc = push_note(m, frame, offset, NULL);
        return rc == ARMDB_OK ? ARMDB_DONE : rc;
    case FRAME_CLOSE:
        return make_close(m, frame, offset);
    case FRAME_CHUNK:
        rc = close_of_chunk(m, frame, &close);
        return rc == ARMDB_OK ? take_closed(m, frame, close) : rc;
    }
    return ARMDB_VERSION;
}

static bool is_void(const struct making *m, const struct record *record)
{
    if ((record->flags & RECORD_HAS_ORDINAL) == 0)
        return false;
    for (size_t i = 0; i < m->void_run_count; i++)
        if (record->ordinal >= m->void_runs[2 * i] &&
            record->ordinal <= m->void_runs[2 * i + 1])
            return true;
    return false;
}

static enum armdb_rc make_record(void *arg, const struct frame *frame,
                                 const struct record *record, uint64_t offset)
{
    struct making *m = arg;
    struct run_entry entry = {.table = record->table,
                              .key = record->key,
                              .key_len = record->key_len,
                              .gsn = frame->kind == FRAME_MOVED ? record->gsn : m->gsn,
                              .ordinal = record->ordinal,
                              .offset = offset,
                              .deleted = record->kind == RECORD_DELETE};
    enum armdb_rc rc;

    if ((record->kind != RECORD_PUT && record->kind != RECORD_DELETE) ||
        record->key_len >= RUN_KEY_MAX || record->value_len >= VERSION_DELETED)
        return ADB_FAIL(ARMDB_VERSION, m->err,
                        "segment %016llx has no hint: it holds "
                        "records of another kind than put and delete",
                        (unsigned long long)m->listed->number);
    m->hint->record_bytes += record_size_plain(record);
    m->hint->record_count++;
    if (m->out || is_void(m, record) ||
        (entry.deleted && ADB_PLANTED("hint_of_live_keys")))
        return ARMDB_OK;
    entry.value_len = entry.deleted ? 0 : (uint32_t)record->value_len;
    rc = run_builder_add(m->builder, &entry);
    return rc == ARMDB_OK ? rc : fail_nomem(m);
}

/* Frames that end before the segment does, and not by a SEAL, are damage. */
static bool is_cut_short(const struct scan_result *result, uint64_t length)
{
    return result->end < length && !result->sealed &&
           !(result->clean && length - result->end < FRAME_ALIGNMENT);
}

static enum armdb_rc read_segment(struct making *m, uint64_t *end_raw)
{
    const struct scan_visitor visitor = {
        .arg = m, .frame = make_frame, .record = make_record};
    struct scan_result result;
    enum armdb_rc rc = scan_listed(m, m->listed, &visitor, &result, end_raw);

    if (rc != ARMDB_OK)
        return rc;
    if (is_cut_short(&result, m->listed->length))
        return ADB_FAIL(ARMDB_CORRUPT, m->err, "segment %016llx has no hint: %s",
                        (unsigned long long)m->listed->number, result.why);
    m->hint->watermark_max = result.w_max;
    if (!is_searched(m->closes, m->listed->number))
        rc = note_searched(m, m->listed->number);
    if (rc == ARMDB_OK) {
        rc = run_builder_finish(m->builder, &m->hint->run);
        if (rc != ARMDB_OK)
            rc = fail_nomem(m);
    }
    return rc;
}

enum armdb_rc hints_make(struct armdb *store, const struct manifest_segment *listed,
                         struct hints_closes *closes, struct hint *hint,
                         uint64_t *end_raw, struct armdb_error *err)
{
    struct making m = {
        .store = store, .listed = listed, .closes = closes, .hint = hint, .err = err};
    bool abort_lost;
    enum armdb_rc rc;

    memset(hint, 0, sizeof *hint);
    *end_raw = 0;
    manifest_init(&m.manifest);
    adb_mutex_lock(&store->log.manifest_lock);
    abort_lost = store->log.locked.abort_lost;
    rc = manifest_copy(&store->log.locked.manifest, &m.manifest);
    adb_mutex_unlock(&store->log.manifest_lock);
    if (rc == ARMDB_OK)
        rc = run_builder_create(&m.builder);
    if (rc != ARMDB_OK)
        (void)fail_nomem(&m);
    else if (abort_lost)
        rc = ADB_FAIL(ARMDB_BUSY, err, "an abort could not be noted");
    if (rc == ARMDB_OK)
        rc = load_closes(&m);
    if (rc == ARMDB_OK)
        rc = read_segment(&m, end_raw);
    run_builder_destroy(m.builder);
    manifest_fini(&m.manifest);
    if (rc != ARMDB_OK)
        hint_fini(hint);
    return rc;
}

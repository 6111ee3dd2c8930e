/* salvage_read.c - reading what is left of a store's segments.
 *
 * Every frame whose header checks is taken, and of it every record whose head checks;
 * what the device does not give is taken for damage of that place alone. Three readings,
 * since what decides may stand anywhere:
 *
 *   1  verdicts and CLOSE frames; stretches whose keys are not known
 *   2  for each key the place of its newest record, tombstones included
 *   3  that record's value, where it is a put of a table that is there
 *
 * A key whose newest value is damaged is lost: an older value would be a wrong answer. */
#include <stdio.h>
#include <string.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/store/internal.h"
#include "engine/store/salvage_internal.h"
#include "engine/store/table.h"

enum { FRAMES_PER_LOOK = 64, WINNERS_MIN = 1024 };

struct pass {
    struct salvage *s;
    uint32_t segment; /* index */
    uint64_t frames;
    /* The frame whose records come. */
    uint64_t gsn;
    const struct decided_close *close;
};

static const char older_rows[] = "compare with a backup: an older row, or one that was "
                                 "deleted, may stand in its place";

static enum armdb_rc look_up(struct pass *pass)
{
    return pass->frames++ % FRAMES_PER_LOOK == 0 ? watch_ask(pass->s->watch, pass->s->err)
                                                 : ARMDB_OK;
}

static enum armdb_rc skip_stretch(void *arg, uint64_t from, uint64_t to)
{
    (void)arg;
    (void)from;
    (void)to;
    return ARMDB_OK;
}

/* ---- One reading ---- */

static void report_file(struct salvage *s, const struct salvage_segment *segment,
                        const char *text)
{
    struct armdb_finding place = {.file = segment->name};

    s->keys_lost = true;
    salvage_report(s, &place, true, older_rows, "%s", text);
}

/* What lies between the last frame and the length that the manifest gives. */
static void check_end(struct salvage *s, const struct salvage_segment *segment,
                      const struct scan_result *scan)
{
    struct armdb_finding place = {
        .file = segment->name, .has_offset = true, .offset = scan->tail};

    if (segment->limit == UINT64_MAX || scan->tail >= segment->limit ||
        (scan->clean && align_to_frame(scan->tail) >= segment->limit))
        return;
    s->keys_lost = true;
    salvage_report(s, &place, true, older_rows,
                   "no frame up to the segment's end at %llu: what was written there is "
                   "lost",
                   (unsigned long long)segment->limit);
}

static enum armdb_rc read_segment(struct pass *pass, const struct scan_visitor *visitor,
                                  bool first)
{
    struct salvage *s = pass->s;
    const struct salvage_segment *segment = &s->segments[pass->segment];
    const struct adb_io_ops *ops = s->dir->io->ops;
    struct scan_result scan;
    struct armdb_error error = {.rc = ARMDB_OK};
    struct adb_file *file = NULL;
    enum armdb_rc rc = ops->file_open(s->dir, segment->name, 0, &file, &error);

    if (rc == ARMDB_OK)
        rc = scan_segment(file, segment->name, &segment->header, segment->limit, visitor,
                          &scan, &error);
    if (rc == ARMDB_OK && first)
        check_end(s, segment, &scan);
    if (file != NULL)
        ops->file_close(file);
    if (rc == ARMDB_OK)
        return ARMDB_OK;
    if (rc == ARMDB_NOMEM)
        return salvage_nomem(s);
    /* Errors of the new store have filled *err already. */
    if (rc == ARMDB_INTERRUPT || error.rc != rc)
        return rc;
    if (first)
        report_file(s, segment,
                    rc == ARMDB_NOT_FOUND ? "the segment is missing" : error.text);
    return ARMDB_OK;
}

static enum armdb_rc read_all(struct salvage *s, struct scan_visitor visitor, bool first)
{
    enum armdb_rc rc = ARMDB_OK;

    for (size_t i = 0; rc == ARMDB_OK && i < s->segment_count; i++) {
        struct pass pass = {.s = s, .segment = (uint32_t)i};

        visitor.arg = &pass;
        visitor.patient = true;
        if (s->segments[i].readable)
            rc = read_segment(&pass, &visitor, first);
    }
    return rc;
}

/* ---- First ---- */

static enum armdb_rc decide_frame(void *arg, const struct frame *frame, uint64_t offset)
{
    struct pass *pass = arg;
    struct salvage *s = pass->s;
    enum armdb_rc rc = look_up(pass);

    (void)offset;
    if (rc != ARMDB_OK)
        return rc;
    if (frame->gsn > s->gsn_max)
        s->gsn_max = frame->gsn;
    if (frame->watermark > s->gsn_max)
        s->gsn_max = frame->watermark;
    if (frame->txid_edit > s->edit_max)
        s->edit_max = frame->txid_edit;
    if (decisions_take_frame(&s->decisions, frame) != ARMDB_OK)
        return salvage_nomem(s);
    return ARMDB_DONE;
}

static enum armdb_rc decide_stretch(void *arg, uint64_t from, uint64_t to)
{
    struct pass *pass = arg;
    struct salvage *s = pass->s;
    struct armdb_finding place = {
        .file = s->segments[pass->segment].name, .has_offset = true, .offset = from};

    s->keys_lost = true;
    salvage_report(s, &place, true, older_rows,
                   "damaged up to byte %llu: what was written there is lost",
                   (unsigned long long)to);
    return ARMDB_OK;
}

enum armdb_rc salvage_decide(struct salvage *s)
{
    struct scan_visitor visitor = {
        .frame = decide_frame, .damaged = decide_frame, .stretch = decide_stretch};
    enum armdb_rc rc = decisions_take_manifest(&s->decisions, &s->manifest);

    if (rc != ARMDB_OK)
        return salvage_nomem(s);
    rc = read_all(s, visitor, true);
    decisions_sort(&s->decisions);
    return rc;
}

/* ---- Second ---- */

/* Do the frame's records count? A transaction whose rule is to be out without a verdict
 * is in when it has one, or when the manifest had settled it: it knows what is out. */
static bool takes_part(struct pass *pass, const struct frame *frame)
{
    const struct salvage *s = pass->s;
    enum frame_doubt doubt = frame->doubt;

    pass->gsn = frame->gsn;
    pass->close = NULL;
    if (frame->kind == FRAME_MOVED)
        return true;
    if (frame->kind == FRAME_CHUNK || frame->kind == FRAME_CLOSE) {
        pass->close = decisions_close_of(&s->decisions, frame);
        if (pass->close == NULL)
            return false;
        pass->gsn = pass->close->gsn;
        doubt = pass->close->doubt;
    }
    if (decisions_is_out(&s->decisions, pass->gsn))
        return false;
    return doubt == FRAME_DOUBT_COMMIT || decisions_is_in(&s->decisions, pass->gsn) ||
           (s->has_manifest && pass->gsn <= s->manifest.watermark);
}

static enum armdb_rc take_frame(void *arg, const struct frame *frame, uint64_t offset)
{
    struct pass *pass = arg;
    enum armdb_rc rc = look_up(pass);

    (void)offset;
    if (rc != ARMDB_OK)
        return rc;
    return takes_part(pass, frame) ? ARMDB_OK : ARMDB_DONE;
}

static void hash_key(const struct record *record, uint64_t hash[2])
{
    hash[0] = adb_hash_seeded(record->key, record->key_len, record->table);
    hash[1] = adb_check_bind(adb_check_raw(record->key, record->key_len), record->table,
                             record->key_len);
}

static struct winner *winner_place(const struct salvage *s, const uint64_t hash[2])
{
    size_t at = (size_t)(hash[0] ^ (hash[0] >> 32)) & (s->winner_room - 1);

    while (s->winners[at].segment != 0 &&
           (s->winners[at].hash[0] != hash[0] || s->winners[at].hash[1] != hash[1]))
        at = (at + 1) & (s->winner_room - 1);
    return &s->winners[at];
}

static enum armdb_rc grow_winners(struct salvage *s)
{
    struct winner *old = s->winners;
    size_t old_room = s->winner_room;
    size_t room = old_room == 0 ? WINNERS_MIN : old_room * 2;
    struct winner *grown;

    if (s->winner_count * 4 < old_room * 3)
        return ARMDB_OK;
    grown = adb_alloc_zero(ADB_MEM_LOG, room * sizeof *grown);
    if (grown == NULL)
        return salvage_nomem(s);
    s->winners = grown;
    s->winner_room = room;
    for (size_t i = 0; i < old_room; i++)
        if (old[i].segment != 0)
            *winner_place(s, old[i].hash) = old[i];
    adb_free(ADB_MEM_LOG, old);
    return ARMDB_OK;
}

static bool is_whole(const struct record *record)
{
    return record->kind != RECORD_PUT || record->value != NULL;
}

/* Copies of one record may be in several segments when the manifest is lost: a whole one
 * is as good as any. */
static bool is_better(const struct winner *found, const struct winner *than)
{
    if (found->gsn != than->gsn)
        return found->gsn > than->gsn;
    if (found->ordinal != than->ordinal)
        return found->ordinal > than->ordinal;
    return found->whole && !than->whole;
}

/* A row of the catalogue. */
static enum armdb_rc note_table(struct salvage *s, const struct record *record,
                                uint64_t gsn, uint64_t ordinal)
{
    struct salvage_table *tables = s->tables.items;
    struct salvage_table *table = NULL;
    struct armdb_value value = {.data = record->value, .len = record->value_len};
    struct catalog_row row = {.id = 0};

    if (record->key_len > ARMDB_TABLE_NAME_BYTES_MAX)
        return ARMDB_OK;
    for (size_t i = 0; table == NULL && i < s->tables.count; i++)
        if (strlen(tables[i].name) == record->key_len &&
            memcmp(tables[i].name, record->key, record->key_len) == 0)
            table = &tables[i];
    if (table == NULL) {
        table = list_push(&s->tables, sizeof *table);
        if (table == NULL)
            return salvage_nomem(s);
        memcpy(table->name, record->key, record->key_len);
    } else if (gsn < table->gsn || (gsn == table->gsn && ordinal < table->ordinal)) {
        return ARMDB_OK;
    }
    table->gsn = gsn;
    table->ordinal = ordinal;
    table->id = 0;
    table->lost = false;
    if (record->kind == RECORD_PUT) {
        table->lost =
            record->value == NULL || catalog_decode(&value, &row, NULL) != ARMDB_OK;
        table->id = table->lost ? 0 : row.id;
    }
    return ARMDB_OK;
}

static enum armdb_rc choose_record(void *arg, const struct frame *frame,
                                   const struct record *record, uint64_t offset)
{
    struct pass *pass = arg;
    struct salvage *s = pass->s;
    struct winner found = {.gsn = frame->kind == FRAME_MOVED ? record->gsn : pass->gsn,
                           .ordinal = record->ordinal,
                           .offset = offset,
                           .segment = pass->segment + 1,
                           .whole = is_whole(record)};
    struct winner *place;
    enum armdb_rc rc = ARMDB_OK;

    if (decisions_is_void(pass->close, record) ||
        (record->kind != RECORD_PUT && record->kind != RECORD_DELETE))
        return ARMDB_OK;
    if (found.gsn > s->gsn_max)
        s->gsn_max = found.gsn;
    if (record->table > s->table_max)
        s->table_max = record->table;
    if (record->table == 0)
        rc = note_table(s, record, found.gsn, found.ordinal);
    if (rc == ARMDB_OK)
        rc = grow_winners(s);
    if (rc != ARMDB_OK)
        return rc;
    hash_key(record, found.hash);
    place = winner_place(s, found.hash);
    if (place->segment == 0)
        s->winner_count++;
    else if (!is_better(&found, place))
        return ARMDB_OK;
    *place = found;
    return ARMDB_OK;
}

enum armdb_rc salvage_choose(struct salvage *s)
{
    struct scan_visitor visitor = {.frame = take_frame,
                                   .record = choose_record,
                                   .damaged = take_frame,
                                   .stretch = skip_stretch};

    return read_all(s, visitor, false);
}

/* ---- Third ---- */

static void report_row(struct pass *pass, const struct salvage_table *table,
                       const struct record *record, uint64_t offset)
{
    struct armdb_finding place = {.file = pass->s->segments[pass->segment].name,
                                  .has_offset = true,
                                  .offset = offset,
                                  .table = table == NULL ? NULL : table->name,
                                  .key = record->key,
                                  .key_len = record->key_len};

    if (record->table == 0)
        salvage_report(pass->s, &place, true,
                       "name its rows' table as you like: they are kept under their id",
                       "the definition of a table is damaged");
    else
        salvage_report(pass->s, &place, true, "take the row from a backup",
                       "the value of this row is damaged");
}

static enum armdb_rc copy_record(void *arg, const struct frame *frame,
                                 const struct record *record, uint64_t offset)
{
    struct pass *pass = arg;
    struct salvage *s = pass->s;
    struct salvage_table *table = NULL;
    const struct winner *winner;
    uint64_t hash[2];
    enum armdb_rc rc = ARMDB_OK;

    (void)frame;
    if (record->kind != RECORD_PUT || s->winner_room == 0)
        return ARMDB_OK;
    hash_key(record, hash);
    winner = winner_place(s, hash);
    if (winner->segment != pass->segment + 1 || winner->offset != offset)
        return ARMDB_OK;
    if (record->table != 0) {
        table = salvage_find_table(s, record->table);
        if (table == NULL && !s->keys_lost)
            return ARMDB_OK; /* it was dropped or cleared */
        if (table == NULL)
            rc = salvage_make_table(s, record->table, &table);
    }
    if (rc != ARMDB_OK)
        return rc;
    if (record->value == NULL) {
        report_row(pass, table, record, offset);
        return ARMDB_OK;
    }
    s->info->rows += table != NULL;
    return salvage_put(s, record, winner->gsn, winner->ordinal);
}

enum armdb_rc salvage_copy(struct salvage *s)
{
    struct scan_visitor visitor = {.frame = take_frame,
                                   .record = copy_record,
                                   .damaged = take_frame,
                                   .stretch = skip_stretch};

    return read_all(s, visitor, false);
}

/* verify_log.c - the segments of a moment, read from the files.
 *
 * The first reading looks at every byte and names what does not check; it also gathers
 * what decides over frames that may stand before it: abort verdicts and CLOSE frames.
 * The second one takes the records that count to verify_index.c. A third one, only when
 * something is in doubt, reads what was appended or written anew meanwhile. */
#include <string.h>

#include "engine/base/mem.h"
#include "engine/store/verify_internal.h"

enum { FRAMES_PER_LOOK = 64 };

struct pass {
    struct verify *v;
    size_t segment;               /* index */
    uint64_t limit;               /* third reading: length at the first moment */
    const struct manifest *later; /* the same: the second moment */
    bool behind;                  /* the same: the frame is behind the first one */
    uint64_t frames;
    uint64_t last_gsn; /* in this segment */
    /* The frame that is damaged, until something in it was named. */
    bool open;
    uint64_t open_at;
    /* The frame whose records come. */
    uint64_t gsn;
    const struct decided_close *closed;
};

static const char heal_row[] =
    "write the row anew or delete it, or restore the store from a backup";
static const char salvage_rows[] =
    "restore the store from a backup, or save what is whole into a new one";

/* ---- First reading ---- */

static struct verify_place place_at(const struct pass *pass, uint64_t offset)
{
    struct verify_place place = {.file = pass->v->segments[pass->segment].name,
                                 .has_offset = true,
                                 .offset = offset};

    return place;
}

/* A damaged frame in which nothing was named: its header claims what its body is not. */
static void end_frame(struct pass *pass)
{
    struct verify_place place = place_at(pass, pass->open_at);

    if (pass->open)
        verify_report(pass->v, &place, salvage_rows,
                      "the frame does not hold what its header says");
    pass->open = false;
}

static enum armdb_rc look_up(struct pass *pass)
{
    return pass->frames++ % FRAMES_PER_LOOK == 0 ? verify_check(pass->v) : ARMDB_OK;
}

static void check_gsn(struct pass *pass, const struct frame *frame, uint64_t offset)
{
    const struct manifest_segment *listed = &pass->v->segments[pass->segment].listed;
    struct verify_place place = place_at(pass, offset);

    if (frame->gsn == 0)
        return;
    if (frame->gsn <= pass->last_gsn)
        verify_report(pass->v, &place, salvage_rows,
                      "the frame's number %llu does not follow %llu",
                      (unsigned long long)frame->gsn, (unsigned long long)pass->last_gsn);
    else if (frame->gsn < listed->gsn_low || frame->gsn > listed->gsn_high)
        verify_report(pass->v, &place, salvage_rows,
                      "the frame's number %llu is not one of those that the manifest "
                      "names, %llu to %llu",
                      (unsigned long long)frame->gsn, (unsigned long long)listed->gsn_low,
                      (unsigned long long)listed->gsn_high);
    pass->last_gsn = frame->gsn;
}

static enum armdb_rc bytes_frame(void *arg, const struct frame *frame, uint64_t offset)
{
    struct pass *pass = arg;
    enum armdb_rc rc = look_up(pass);

    end_frame(pass);
    if (rc != ARMDB_OK)
        return rc;
    check_gsn(pass, frame, offset);
    rc = decisions_take_frame(&pass->v->decisions, frame);
    if (rc != ARMDB_OK)
        return verify_nomem(pass->v);
    return ARMDB_DONE; /* its records check: not needed now */
}

static enum armdb_rc bytes_damaged(void *arg, const struct frame *frame, uint64_t offset)
{
    struct pass *pass = arg;
    enum armdb_rc rc = bytes_frame(arg, frame, offset);

    pass->open = true;
    pass->open_at = offset;
    return rc == ARMDB_DONE ? ARMDB_OK : rc;
}

/* A record of a damaged frame: its head checks. */
static enum armdb_rc bytes_record(void *arg, const struct frame *frame,
                                  const struct record *record, uint64_t offset)
{
    struct pass *pass = arg;
    struct verify *v = pass->v;
    struct verify_place place = place_at(pass, offset);

    (void)frame;
    if (record->kind != RECORD_PUT || record->value != NULL)
        return ARMDB_OK;
    pass->open = false;
    place.tab = verify_find_tab(v, record->table);
    place.key = record->key;
    place.key_len = record->key_len;
    if (place.tab != NULL && verify_is_live(v, place.tab, pass->segment, offset, record))
        verify_report(v, &place, heal_row, "the value of this row is damaged");
    else
        verify_report(v, &place, "nothing: no row needs it",
                      "the value of a record that was overwritten or deleted since is "
                      "damaged");
    return ARMDB_OK;
}

static enum armdb_rc bytes_stretch(void *arg, uint64_t from, uint64_t to)
{
    struct pass *pass = arg;
    struct verify_place place = place_at(pass, from);

    pass->open = false;
    verify_report(pass->v, &place, salvage_rows,
                  "damaged up to byte %llu: rows written there may be missing",
                  (unsigned long long)to);
    return ARMDB_OK;
}

/* Is this the file that the manifest means? */
static enum armdb_rc check_header(struct verify *v, struct verify_segment *segment,
                                  struct adb_file *file, struct armdb_error *error)
{
    enum armdb_rc rc;
    unsigned char *page =
        adb_alloc_aligned(ADB_MEM_LOG, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES);

    if (page == NULL)
        return verify_nomem(v);
    rc = adb_file_read(file, segment->name, page, SEGMENT_HEADER_BYTES, 0, error);
    if (rc == ARMDB_OK)
        rc = segment_header_decode(page, segment->name, &segment->header, error);
    if (rc == ARMDB_OK &&
        (memcmp(segment->header.identity, segment->listed.identity, 16) != 0 ||
         memcmp(segment->header.store_uuid, v->store->superblock.uuid, 16) != 0 ||
         segment->header.number != segment->listed.number ||
         segment->header.shard != segment->listed.shard ||
         segment->header.kind != segment->listed.kind))
        rc = ADB_FAIL(ARMDB_CORRUPT, error,
                      "%s is not the segment that the manifest lists under this name",
                      segment->name);
    adb_free_aligned(ADB_MEM_LOG, page);
    return rc;
}

static enum armdb_rc open_segment(const struct verify *v,
                                  const struct verify_segment *segment,
                                  struct adb_file **file, struct armdb_error *error)
{
    *file = NULL;
    return v->store->dir->io->ops->file_open(v->store->dir, segment->name, 0, file,
                                             error);
}

/* A place that cannot be read is a finding, what the caller asks for is an end. */
static enum armdb_rc settle(struct verify *v, const struct verify_segment *segment,
                            enum armdb_rc rc, const struct armdb_error *error)
{
    struct verify_place place = {.file = segment->name, .has_offset = true};

    if (rc == ARMDB_OK || rc == ARMDB_DONE)
        return ARMDB_OK;
    if (rc == ARMDB_NOMEM)
        return verify_nomem(v);
    if (rc == ARMDB_INTERRUPT)
        return rc;
    verify_report(v, &place, salvage_rows, "%s",
                  rc == ARMDB_NOT_FOUND ? "the file is missing" : error->text);
    return ARMDB_OK;
}

/* What lies between the last frame and the length that the manifest gives. */
static void check_end(struct pass *pass, const struct scan_result *scan)
{
    const struct verify_segment *segment = &pass->v->segments[pass->segment];
    struct verify_place place = place_at(pass, scan->tail);

    if (scan->tail >= segment->listed.length ||
        (scan->clean && align_to_frame(scan->tail) >= segment->listed.length))
        return;
    verify_report(pass->v, &place, salvage_rows,
                  "no frame up to the segment's end at %llu: rows written there may be "
                  "missing",
                  (unsigned long long)segment->listed.length);
}

static enum armdb_rc read_bytes(struct verify *v, size_t i)
{
    struct verify_segment *segment = &v->segments[i];
    struct pass pass = {.v = v, .segment = i};
    const struct scan_visitor visitor = {.arg = &pass,
                                         .frame = bytes_frame,
                                         .record = bytes_record,
                                         .damaged = bytes_damaged,
                                         .stretch = bytes_stretch};
    struct scan_result scan;
    struct armdb_error error = {.rc = ARMDB_OK};
    struct adb_file *file;
    enum armdb_rc rc = open_segment(v, segment, &file, &error);

    if (rc == ARMDB_OK)
        rc = check_header(v, segment, file, &error);
    if (rc == ARMDB_OK) {
        segment->readable = true;
        if (v->moment.fixed[i]) /* what is on the device, not what the kernel remembers */
            file->io->ops->file_drop_cache(file);
        rc = scan_segment(file, segment->name, &segment->header, segment->listed.length,
                          &visitor, &scan, &error);
        end_frame(&pass);
        if (rc == ARMDB_OK)
            check_end(&pass, &scan);
    }
    if (file != NULL)
        file->io->ops->file_close(file);
    return settle(v, segment, rc, &error);
}

enum armdb_rc verify_bytes(struct verify *v)
{
    enum armdb_rc rc = decisions_take_manifest(&v->decisions, &v->moment.manifest);

    if (rc != ARMDB_OK)
        return verify_nomem(v);
    for (size_t i = 0; rc == ARMDB_OK && i < v->segment_count; i++) {
        rc = verify_check(v);
        if (rc == ARMDB_OK)
            rc = read_bytes(v, i);
    }
    decisions_sort(&v->decisions);
    return rc;
}

/* ---- Second reading ---- */

/* Whose records come; false: chunks without a CLOSE. */
static bool take_frame(struct pass *pass, const struct frame *frame)
{
    pass->gsn = frame->gsn;
    pass->closed = NULL;
    if (frame->kind != FRAME_CHUNK && frame->kind != FRAME_CLOSE)
        return true;
    pass->closed = decisions_close_of(&pass->v->decisions, frame);
    if (pass->closed != NULL)
        pass->gsn = pass->closed->gsn;
    return pass->closed != NULL;
}

static enum armdb_rc records_frame(void *arg, const struct frame *frame, uint64_t offset)
{
    struct pass *pass = arg;
    enum armdb_rc rc = look_up(pass);

    (void)offset;
    if (rc != ARMDB_OK)
        return rc;
    return frame->record_count == 0 || !take_frame(pass, frame) ||
                   decisions_is_out(&pass->v->decisions, pass->gsn)
               ? ARMDB_DONE
               : ARMDB_OK;
}

static enum armdb_rc records_record(void *arg, const struct frame *frame,
                                    const struct record *record, uint64_t offset)
{
    struct pass *pass = arg;
    uint64_t gsn = frame->kind == FRAME_MOVED ? record->gsn : pass->gsn;

    if (decisions_is_void(pass->closed, record))
        return ARMDB_OK;
    return verify_record(pass->v, pass->segment, offset, record, gsn, record->ordinal);
}

static enum armdb_rc skip_stretch(void *arg, uint64_t from, uint64_t to)
{
    (void)arg;
    (void)from;
    (void)to;
    return ARMDB_OK;
}

enum armdb_rc verify_records(struct verify *v)
{
    enum armdb_rc rc = ARMDB_OK;

    for (size_t i = 0; rc == ARMDB_OK && i < v->segment_count; i++) {
        struct verify_segment *segment = &v->segments[i];
        struct pass pass = {.v = v, .segment = i};
        const struct scan_visitor visitor = {.arg = &pass,
                                             .frame = records_frame,
                                             .record = records_record,
                                             .damaged = records_frame,
                                             .stretch = skip_stretch};
        struct scan_result scan;
        struct armdb_error error = {.rc = ARMDB_OK};
        struct adb_file *file;

        if (!segment->readable)
            continue;
        segment->known =
            adb_alloc_zero(ADB_MEM_LOG, (size_t)(segment->listed.length / 64 + 1));
        if (segment->known == NULL)
            return verify_nomem(v);
        rc = open_segment(v, segment, &file, &error);
        if (rc == ARMDB_OK)
            rc = scan_segment(file, segment->name, &segment->header,
                              segment->listed.length, &visitor, &scan, &error);
        if (file != NULL)
            file->io->ops->file_close(file);
        rc = settle(v, segment, rc, &error);
    }
    return rc;
}

/* ---- Third reading ---- */

static bool has_abort(const struct manifest *manifest, uint64_t gsn)
{
    for (size_t i = 0; i < manifest->verdict_count; i++)
        if (manifest->verdicts[i].gsn == gsn &&
            manifest->verdicts[i].outcome == FRAME_OUTCOME_ABORT)
            return true;
    return false;
}

/* Every frame but those that were out at the first moment and are at the second one. */
static enum armdb_rc newer_frame(void *arg, const struct frame *frame, uint64_t offset)
{
    struct pass *pass = arg;
    const struct manifest *first = &pass->v->moment.manifest;
    enum armdb_rc rc = look_up(pass);

    if (rc != ARMDB_OK)
        return rc;
    pass->behind = offset >= pass->limit;
    if (pass->behind)
        return ARMDB_OK;
    return take_frame(pass, frame) &&
                   (!decisions_is_out(&pass->v->decisions, pass->gsn) ||
                    (has_abort(first, pass->gsn) && !has_abort(pass->later, pass->gsn)))
               ? ARMDB_OK
               : ARMDB_DONE;
}

static enum armdb_rc newer_record(void *arg, const struct frame *frame,
                                  const struct record *record, uint64_t offset)
{
    struct pass *pass = arg;
    uint64_t gsn = frame->kind == FRAME_MOVED ? record->gsn : pass->gsn;

    (void)offset;
    if (pass->behind)
        gsn = frame->kind == FRAME_MOVED ? record->gsn : UINT64_MAX;
    else if (decisions_is_void(pass->closed, record))
        return ARMDB_OK;
    verify_clear(pass->v, record, gsn, record->ordinal);
    return ARMDB_OK;
}

/* How much of a segment the first moment had. */
static uint64_t seen_length(const struct verify *v, uint64_t number)
{
    for (size_t i = 0; i < v->segment_count; i++)
        if (v->segments[i].listed.number == number)
            return v->segments[i].listed.length;
    return 0;
}

static enum armdb_rc read_newer(struct verify *v, const struct manifest *later,
                                const struct manifest_segment *listed)
{
    struct verify_segment segment = {.listed = *listed};
    struct pass pass = {.v = v, .later = later, .limit = seen_length(v, listed->number)};
    const struct scan_visitor visitor = {.arg = &pass,
                                         .frame = newer_frame,
                                         .record = newer_record,
                                         .damaged = newer_frame,
                                         .stretch = skip_stretch};
    struct scan_result scan;
    struct armdb_error error = {.rc = ARMDB_OK};
    struct adb_file *file = NULL;
    enum armdb_rc rc;

    segment_name(listed->number, segment.name);
    rc = open_segment(v, &segment, &file, &error);
    if (rc == ARMDB_OK)
        rc = check_header(v, &segment, file, &error);
    if (rc == ARMDB_OK)
        rc = scan_segment(file, segment.name, &segment.header, listed->length, &visitor,
                          &scan, &error);
    if (file != NULL)
        file->io->ops->file_close(file);
    return settle(v, &segment, rc, &error);
}

enum armdb_rc verify_newer(struct verify *v)
{
    struct log_moment later;
    struct armdb_error error = {.rc = ARMDB_OK};
    bool left = false;
    enum armdb_rc rc = log_moment_take(&v->store->log, &later, &error);

    if (rc == ARMDB_NOMEM)
        return verify_nomem(v);
    if (rc != ARMDB_OK) /* wounded meanwhile: nothing can be said of suspects */
        return ARMDB_OK;
    for (size_t i = 0; rc == ARMDB_OK && i < later.manifest.segment_count; i++)
        rc = read_newer(v, &later.manifest, &later.manifest.segments[i]);
    if (rc == ARMDB_OK)
        rc = verify_recheck(v, &left);
    if (rc == ARMDB_OK && left)
        verify_report_suspects(v, &later.manifest);
    log_moment_fini(&v->store->log, &later);
    return rc;
}

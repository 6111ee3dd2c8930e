/* recover.c - recovery's course: what is listed, two steps over shards, R7.
 *
 * R1 reads the manifest and the header of every segment it lists: one that is missing
 * or foreign fails the open. Files of this store that no manifest lists (a creation or
 * a removal that was killed) are taken away. Then every segment is surveyed, shards in
 * parallel (recover_scan.c), what counts is decided (recover_gsn.c), the rest is
 * delivered, and R7 replaces the manifest: open segments sealed at the end of what
 * counts, those without anything that counts removed, Wm = G. Before that replacement
 * nothing on disk has changed that a second recovery would miss; after it nothing is
 * left to do but to cut and remove files, which the next opening does as well. */
#include "engine/store/recover.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/thread.h"
#include "engine/store/recover_internal.h"

static enum armdb_rc fail_nomem(struct armdb_error *err)
{
    return ADB_FAIL(ARMDB_NOMEM, err, "no memory to recover the store");
}

/* ---- R1: what is listed -------------------------------------------------------- */

static enum armdb_rc read_header(const struct recovery *recovery, const char *name,
                                 struct segment_header *header, struct armdb_error *err)
{
    struct adb_dir *dir = recovery->dir;
    struct adb_file *file = NULL;
    unsigned char *page = NULL;
    enum armdb_rc rc = dir->io->ops->file_open(dir, name, 0, &file, err);

    if (rc != ARMDB_OK)
        return rc;
    page = adb_alloc_aligned(ADB_MEM_LOG, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES);
    if (page == NULL)
        rc = fail_nomem(err);
    else
        rc = adb_file_read(file, name, page, SEGMENT_HEADER_BYTES, 0, err);
    if (rc == ARMDB_OK)
        rc = segment_header_decode(page, name, header, err);
    adb_free_aligned(ADB_MEM_LOG, page);
    dir->io->ops->file_close(file);
    return rc;
}

static enum armdb_rc load_segment(const struct recovery *recovery,
                                  const struct manifest_segment *listed,
                                  struct segment_state *segment, struct armdb_error *err)
{
    enum armdb_rc rc;

    segment->listed = *listed;
    segment_name(listed->number, segment->name);
    segment->old =
        listed->sealed && listed->gsn_high <= recovery->out->manifest.watermark;
    rc = read_header(recovery, segment->name, &segment->header, err);
    if (rc == ARMDB_NOT_FOUND)
        return ADB_FAIL(ARMDB_CORRUPT, err,
                        "segment %s is missing although the manifest lists it: restore it "
                        "from a backup",
                        segment->name);
    if (rc != ARMDB_OK)
        return rc;
    if (memcmp(segment->header.store_uuid, recovery->sb->uuid, 16) != 0 ||
        memcmp(segment->header.identity, listed->identity, 16) != 0 ||
        segment->header.number != listed->number ||
        segment->header.shard != listed->shard || segment->header.kind != listed->kind)
        return ADB_FAIL(ARMDB_CORRUPT, err,
                        "segment %s is not the one that the manifest lists: put the "
                        "store's own file back",
                        segment->name);
    if (listed->shard >= recovery->sb->shards)
        return ADB_FAIL(ARMDB_CORRUPT, err,
                        "segment %s belongs to shard %u, but the store has %u shards",
                        segment->name, listed->shard, recovery->sb->shards);
    return ARMDB_OK;
}

static enum armdb_rc load_segments(struct recovery *recovery, struct armdb_error *err)
{
    const struct manifest *manifest = &recovery->out->manifest;

    recovery->segments = adb_alloc_zero(
        ADB_MEM_LOG, manifest->segment_count * sizeof *recovery->segments);
    recovery->shards =
        adb_alloc_zero(ADB_MEM_LOG, recovery->sb->shards * sizeof *recovery->shards);
    if (recovery->segments == NULL || recovery->shards == NULL)
        return fail_nomem(err);
    for (size_t i = 0; i < manifest->segment_count; i++) {
        enum armdb_rc rc = load_segment(recovery, &manifest->segments[i],
                                        &recovery->segments[i], err);

        if (rc != ARMDB_OK)
            return rc;
        recovery->segment_count++;
    }
    for (size_t i = 0; i < recovery->segment_count; i++) {
        struct segment_state *segment = &recovery->segments[i];
        struct shard_state *shard = &recovery->shards[segment->listed.shard];
        struct segment_state **grown =
            adb_realloc(ADB_MEM_LOG, shard->segments, (shard->count + 1) * sizeof *grown);

        if (grown == NULL)
            return fail_nomem(err);
        shard->segments = grown;
        shard->segments[shard->count++] = segment; /* the manifest has rising numbers */
    }
    return ARMDB_OK;
}

/* ---- Files that nobody lists ---------------------------------------------------- */

struct stray {
    char name[SEGMENT_NAME_MAX];
};

struct stray_search {
    struct recovery *recovery;
    struct list strays; /* struct stray */
    bool out_of_memory;
};

static bool note_stray(void *arg, const char *name)
{
    struct stray_search *search = arg;
    struct manifest *manifest = &search->recovery->out->manifest;
    uint64_t number;
    struct stray *stray;

    if (segment_name_parse(name, &number)) {
        if (manifest_find(manifest, number) != NULL)
            return true;
        if (number >= manifest->next_segment && number < UINT64_MAX)
            manifest->next_segment = number + 1; /* numbers are never used twice */
    } else if (strcmp(name, MANIFEST_NAME ".tmp") != 0 &&
               strcmp(name, SUPERBLOCK_NAME ".tmp") != 0) {
        return true;
    }
    stray = list_push(&search->strays, sizeof *stray);
    if (stray == NULL) {
        search->out_of_memory = true;
        return false;
    }
    (void)snprintf(stray->name, sizeof stray->name, "%.31s", name);
    return true;
}

/* A segment whose header names another store is not ours to remove. */
static bool is_ours(const struct recovery *recovery, const char *name)
{
    struct segment_header header;
    struct armdb_error ignored;
    uint64_t number;

    if (!segment_name_parse(name, &number))
        return true;
    return read_header(recovery, name, &header, &ignored) != ARMDB_OK ||
           memcmp(header.store_uuid, recovery->sb->uuid, 16) == 0;
}

static enum armdb_rc remove_strays(struct recovery *recovery, struct armdb_error *err)
{
    struct adb_dir *dir = recovery->dir;
    struct stray_search search = {recovery, {NULL, 0, 0}, false};
    enum armdb_rc rc = dir->io->ops->dir_list(dir, note_stray, &search, err);
    const struct stray *strays = search.strays.items;

    if (rc == ARMDB_OK && search.out_of_memory)
        rc = fail_nomem(err);
    for (size_t i = 0; rc == ARMDB_OK && i < search.strays.count; i++) {
        if (!recovery->read_only && is_ours(recovery, strays[i].name))
            rc = dir->io->ops->dir_unlink(dir, strays[i].name, err);
        if (rc == ARMDB_NOT_FOUND)
            rc = ARMDB_OK;
    }
    adb_free(ADB_MEM_LOG, search.strays.items);
    return rc;
}

/* ---- Shards in parallel --------------------------------------------------------- */

typedef enum armdb_rc (*segment_step)(struct recovery *recovery,
                                      struct segment_state *segment,
                                      struct armdb_error *err);

struct crew {
    struct recovery *recovery;
    segment_step step;
    _Atomic uint32_t next_shard; /* relaxed: only handed out */
    _Atomic bool failed;         /* relaxed: a hint to stop early */
};

struct worker {
    struct crew *crew;
    struct adb_thread thread;
    enum armdb_rc rc; /* read after the join */
    struct armdb_error err;
};

static void work(void *arg)
{
    struct worker *worker = arg;
    struct crew *crew = worker->crew;
    struct recovery *recovery = crew->recovery;

    for (;;) {
        uint32_t s = atomic_fetch_add_explicit(&crew->next_shard, 1, memory_order_relaxed);
        const struct shard_state *shard;

        if (s >= recovery->sb->shards)
            return;
        shard = &recovery->shards[s];
        for (size_t i = 0; i < shard->count; i++) {
            if (atomic_load_explicit(&crew->failed, memory_order_relaxed))
                return;
            worker->rc = crew->step(recovery, shard->segments[i], &worker->err);
            if (worker->rc != ARMDB_OK) {
                atomic_store_explicit(&crew->failed, true, memory_order_relaxed);
                return;
            }
        }
    }
}

/* Runs the step over all segments; the caller's thread works too. */
static enum armdb_rc run_step(struct recovery *recovery, unsigned threads,
                              segment_step step, struct armdb_error *err)
{
    enum armdb_rc rc = ARMDB_OK;
    struct crew crew = {.recovery = recovery, .step = step};
    unsigned count = threads < recovery->sb->shards ? threads : recovery->sb->shards;
    struct worker *workers;

    if (count == 0)
        count = 1;
    workers = adb_alloc_zero(ADB_MEM_LOG, count * sizeof *workers);
    if (workers == NULL)
        return fail_nomem(err);
    atomic_init(&crew.next_shard, 0);
    atomic_init(&crew.failed, false);
    for (unsigned i = 0; i < count; i++)
        workers[i].crew = &crew;
    for (unsigned i = 1; i < count; i++) {
        /* Without a thread its shards are taken by the others. */
        if (adb_thread_start(&workers[i].thread, work, &workers[i]) != ARMDB_OK)
            break;
    }
    work(&workers[0]);
    for (unsigned i = 1; i < count; i++)
        adb_thread_join(&workers[i].thread);
    for (unsigned i = 0; rc == ARMDB_OK && i < count; i++) {
        rc = workers[i].rc;
        if (rc != ARMDB_OK && err != NULL) {
            *err = workers[i].err;
            if (err->rc != rc) /* a sink that gave no text */
                (void)ADB_FAIL(rc, err, "recovery failed: %s", adb_rc_name(rc));
        }
    }
    adb_free(ADB_MEM_LOG, workers);
    return rc;
}

/* ---- R7 and what comes with it --------------------------------------------------- */

static enum armdb_rc report_damage(struct recovery *recovery, struct armdb_error *err)
{
    struct list damage = {NULL, 0, 0};

    for (size_t i = 0; i < recovery->segment_count; i++) {
        const struct segment_state *segment = &recovery->segments[i];
        const struct hole *holes = segment->holes.items;

        for (size_t h = 0; h < segment->holes.count; h++) {
            struct recover_damage *item;

            if (!holes[h].damage || holes[h].untrusted_to <= holes[h].untrusted_from)
                continue;
            item = list_push(&damage, sizeof *item);
            if (item == NULL) {
                adb_free(ADB_MEM_LOG, damage.items);
                return fail_nomem(err);
            }
            item->segment_number = segment->listed.number;
            item->from = holes[h].untrusted_from;
            item->to = holes[h].untrusted_to;
            item->gsn_high = holes[h].gsn_own != 0  ? holes[h].gsn_own
                             : segment->old         ? segment->listed.gsn_high
                                                    : recovery->gsn;
        }
    }
    recovery->out->damage = damage.items;
    recovery->out->damage_count = damage.count;
    return ARMDB_OK;
}

/* Puts the outcome of one segment into the manifest; true when that changed it. */
static bool settle_segment(struct recovery *recovery, const struct segment_state *segment)
{
    struct recovered *out = recovery->out;
    struct manifest_segment *listed = manifest_find(&out->manifest, segment->listed.number);
    uint64_t end = segment->keep ? segment->count_end : SEGMENT_FIRST_FRAME;
    uint64_t tail = segment->scan.tail;

    if (segment->old)
        return false;
    if (!segment->scan.clean && tail < segment->file_bytes)
        tail = segment->file_bytes;
    if (!segment->listed.sealed && tail > end && (!segment->scan.clean || tail != end)) {
        out->cut = true;
        out->cut_bytes += tail - end;
    }
    if (!segment->keep) {
        manifest_remove(&out->manifest, segment->listed.number);
        return true;
    }
    if (listed->sealed && listed->length == segment->count_end &&
        listed->gsn_low == segment->gsn_low && listed->gsn_high == segment->gsn_high)
        return false;
    listed->sealed = true;
    listed->length = segment->count_end;
    listed->gsn_low = segment->gsn_low;
    listed->gsn_high = segment->gsn_high;
    return true;
}

/* After the manifest is durable: files end where it says, dropped ones go. A failure
 * does no harm: lengths are the manifest's, and strays go at the next opening. */
static void trim_files(struct recovery *recovery)
{
    struct adb_dir *dir = recovery->dir;
    const struct adb_io_ops *ops = dir->io->ops;
    struct armdb_error ignored;

    for (size_t i = 0; i < recovery->segment_count; i++) {
        const struct segment_state *segment = &recovery->segments[i];
        struct adb_file *file = NULL;

        if (segment->old || (segment->keep && segment->file_bytes <= segment->count_end))
            continue;
        if (!segment->keep) {
            if (ops->dir_unlink(dir, segment->name, &ignored) != ARMDB_OK)
                continue;
        } else if (ops->file_open(dir, segment->name, ADB_OPEN_WRITE, &file, &ignored) ==
                   ARMDB_OK) {
            if (ops->file_truncate(file, segment->count_end, &ignored) != ARMDB_OK)
                ignored.rc = ARMDB_OK;
            ops->file_close(file);
        }
    }
}

static enum armdb_rc replace_manifest(struct recovery *recovery, struct armdb_error *err)
{
    struct recovered *out = recovery->out;
    bool changed = out->manifest.watermark != recovery->gsn;
    enum armdb_rc rc = ARMDB_OK;

    for (size_t i = 0; i < recovery->segment_count; i++)
        changed = settle_segment(recovery, &recovery->segments[i]) || changed;
    out->manifest.watermark = recovery->gsn;
    out->gsn = recovery->gsn;
    if (!changed || recovery->read_only)
        return ARMDB_OK;
    rc = manifest_write(recovery->dir, recovery->sb->uuid, &out->manifest, err);
    if (rc == ARMDB_OK)
        trim_files(recovery);
    return rc;
}

/* ---- The course ------------------------------------------------------------------ */

static void free_segment(struct segment_state *segment)
{
    struct frame_note *notes = segment->notes.items;

    for (size_t n = 0; n < segment->notes.count; n++)
        adb_free(ADB_MEM_LOG, notes[n].void_runs);
    adb_free(ADB_MEM_LOG, segment->notes.items);
    adb_free(ADB_MEM_LOG, segment->marks.items);
    adb_free(ADB_MEM_LOG, segment->holes.items);
}

static void recovery_fini(struct recovery *recovery)
{
    for (size_t i = 0; recovery->segments != NULL && i < recovery->segment_count; i++)
        free_segment(&recovery->segments[i]);
    for (uint32_t s = 0; recovery->shards != NULL && s < recovery->sb->shards; s++)
        adb_free(ADB_MEM_LOG, recovery->shards[s].segments);
    adb_free(ADB_MEM_LOG, recovery->segments);
    adb_free(ADB_MEM_LOG, recovery->shards);
    adb_free(ADB_MEM_LOG, recovery->verdicts.items);
    adb_free(ADB_MEM_LOG, recovery->closed.items);
}

static enum armdb_rc run_recovery(struct recovery *recovery, unsigned threads,
                                  struct armdb_error *err)
{
    enum armdb_rc rc;
    const struct recover_sink *sink = recovery->sink;

    rc = manifest_read(recovery->dir, recovery->sb->uuid, &recovery->out->manifest, err);
    if (rc == ARMDB_OK)
        rc = load_segments(recovery, err);
    if (rc == ARMDB_OK)
        rc = remove_strays(recovery, err);
    if (rc == ARMDB_OK)
        rc = recovery_load_verdicts(recovery, err);
    if (rc == ARMDB_OK)
        rc = run_step(recovery, threads, recovery_survey, err);
    if (rc == ARMDB_OK)
        rc = recovery_decide(recovery, err);
    if (rc == ARMDB_OK && recovery->restart)
        rc = sink->restart(sink->arg);
    if (rc == ARMDB_OK)
        rc = run_step(recovery, threads, recovery_deliver, err);
    if (rc == ARMDB_OK)
        rc = report_damage(recovery, err);
    if (rc == ARMDB_OK)
        rc = replace_manifest(recovery, err);
    return rc;
}

enum armdb_rc recover_store(struct adb_dir *dir, const struct superblock *sb,
                            bool read_only, unsigned threads,
                            const struct recover_sink *sink, struct recovered *out,
                            struct armdb_error *err)
{
    enum armdb_rc rc;
    struct recovery recovery = {
        .dir = dir, .sb = sb, .sink = sink, .out = out, .read_only = read_only};

    memset(out, 0, sizeof *out);
    manifest_init(&out->manifest);
    rc = run_recovery(&recovery, threads, err);
    recovery_fini(&recovery);
    if (rc != ARMDB_OK)
        recovered_fini(out);
    return rc;
}

void recovered_fini(struct recovered *recovered)
{
    manifest_fini(&recovered->manifest);
    adb_free(ADB_MEM_LOG, recovered->damage);
    recovered->damage = NULL;
    recovered->damage_count = 0;
}

/* recover.c - opening a folder: from its files to what counts in them.
 *
 *   R1  the manifest; every listed segment's header; leftovers removed
 *       |
 *   survey: every segment is read once, or its hint, in parallel (recover_scan.c).
 *       Segments at or below Wm deliver their records at once, the others leave
 *       notes of what they hold.
 *       |
 *   decide: ends of shards, G, verdicts, what is kept (recover_gsn.c and
 *       recover_verdict.c); one thread, in memory.
 *       |
 *   deliver: what the survey could not, in parallel; everything but hints, when it
 *       delivered a transaction that turned out to be aborted.
 *       |
 *   R7  one replacement of the manifest: every segment sealed where it stops
 *       counting, Wm = G. Then files that it no longer lists are removed and files
 *       longer than their segment cut.
 *
 * The replacement in R7 is the only step that decides anything, and it is atomic. A
 * process killed before it leaves a folder that recovers to the same; killed after
 * it, a folder whose segments all lie at or below Wm, in which nothing is left to
 * decide: at most files to be removed or cut, and those hold nothing that counts. So
 * recovery may be killed any number of times. A read-only store gets the same
 * manifest in memory and leaves the folder as it is. */
#include "engine/store/recover.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/plant.h"
#include "engine/base/thread.h"
#include "engine/log/hint.h"
#include "engine/store/recover_internal.h"

enum { THREADS_MAX = 64 };

void *list_push(struct list *list, size_t size)
{
    unsigned char *item;

    if (list->count == list->room) {
        size_t room = list->room == 0 ? 8 : 2 * list->room;
        void *items = adb_realloc(ADB_MEM_LOG, list->items, room * size);

        if (items == NULL)
            return NULL;
        list->items = items;
        list->room = room;
    }
    item = (unsigned char *)list->items + list->count * size;
    memset(item, 0, size);
    list->count++;
    return item;
}

void list_sort(struct list *list, size_t size, int (*compare)(const void *, const void *))
{
    if (list->count > 1)
        qsort(list->items, list->count, size, compare);
}

enum armdb_rc recovery_fail_nomem(struct armdb_error *err)
{
    return ADB_FAIL(ARMDB_NOMEM, err, "no memory to recover the store");
}

/* ---- R1: segments --------------------------------------------------------------- */

static enum armdb_rc check_identity(const struct recovery *recovery,
                                    const struct segment_state *segment,
                                    struct armdb_error *err)
{
    const struct segment_header *header = &segment->header;
    const struct manifest_segment *listed = &segment->listed;

    if (memcmp(header->store_uuid, recovery->sb->uuid, sizeof header->store_uuid) != 0)
        return ADB_FAIL(ARMDB_CORRUPT, err,
                        "segment %s belongs to another store: put the right file back",
                        segment->name);
    if (memcmp(header->identity, listed->identity, sizeof header->identity) != 0 ||
        header->number != listed->number || header->shard != listed->shard ||
        header->kind != listed->kind)
        return ADB_FAIL(ARMDB_CORRUPT, err,
                        "segment %s is not the file that the manifest lists (identity, "
                        "number, shard or kind differ): put the right file back",
                        segment->name);
    if (listed->shard >= recovery->sb->shards)
        return ADB_FAIL(
            ARMDB_CORRUPT, err,
            "segment %s is of shard %u, and the store has %u: the manifest is "
            "damaged, restore the store from a backup",
            segment->name, listed->shard, recovery->sb->shards);
    return ARMDB_OK;
}

static enum armdb_rc read_header(struct adb_dir *dir, const char *name,
                                 struct segment_header *header, struct armdb_error *err)
{
    unsigned char page[SEGMENT_HEADER_BYTES];
    struct adb_file *file = NULL;
    enum armdb_rc rc;

    rc = dir->io->ops->file_open(dir, name, 0, &file, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = adb_file_read(file, name, page, sizeof page, 0, err);
    dir->io->ops->file_close(file);
    return rc == ARMDB_OK ? segment_header_decode(page, name, header, err) : rc;
}

static enum armdb_rc load_segment(struct recovery *recovery,
                                  const struct manifest_segment *listed,
                                  struct segment_state *segment, struct armdb_error *err)
{
    enum armdb_rc rc;

    segment->listed = *listed;
    segment->old =
        listed->kind == SEGMENT_OUTPUT ||
        (listed->sealed && listed->gsn_high <= recovery->out->manifest.watermark);
    segment_name(listed->number, segment->name);
    if (listed->kind == SEGMENT_OUTPUT &&
        listed->gsn_high > recovery->out->manifest.watermark)
        return ADB_FAIL(ARMDB_CORRUPT, err,
                        "the manifest is damaged: compacted segment %s goes beyond the "
                        "watermark; restore the store from a backup",
                        segment->name);
    rc = read_header(recovery->dir, segment->name, &segment->header, err);
    if (rc == ARMDB_NOT_FOUND)
        return ADB_FAIL(
            ARMDB_CORRUPT, err,
            "segment %s is listed in the manifest and missing: put the file back "
            "or restore the store from a backup",
            segment->name);
    return rc == ARMDB_OK ? check_identity(recovery, segment, err) : rc;
}

static enum armdb_rc load_segments(struct recovery *recovery, struct armdb_error *err)
{
    const struct manifest *manifest = &recovery->out->manifest;
    uint32_t shards = recovery->sb->shards;
    enum armdb_rc rc = ARMDB_OK;

    recovery->segments =
        adb_alloc_zero(ADB_MEM_LOG, manifest->segment_count * sizeof *recovery->segments);
    recovery->shards = adb_alloc_zero(ADB_MEM_LOG, shards * sizeof *recovery->shards);
    if (recovery->segments == NULL || recovery->shards == NULL)
        return recovery_fail_nomem(err);
    recovery->segment_count = manifest->segment_count;
    for (size_t i = 0; rc == ARMDB_OK && i < manifest->segment_count; i++) {
        rc = load_segment(recovery, &manifest->segments[i], &recovery->segments[i], err);
        if (rc == ARMDB_OK)
            recovery->shards[manifest->segments[i].shard].count++;
    }
    for (uint32_t s = 0; rc == ARMDB_OK && s < shards; s++) {
        struct shard_state *shard = &recovery->shards[s];

        shard->segments = adb_alloc(ADB_MEM_LOG, shard->count * sizeof *shard->segments);
        if (shard->segments == NULL)
            return recovery_fail_nomem(err);
        shard->count = 0;
        for (size_t i = 0; i < recovery->segment_count; i++) {
            if (recovery->segments[i].listed.shard == s)
                shard->segments[shard->count++] = &recovery->segments[i];
        }
    }
    return rc;
}

/* ---- R1: leftovers --------------------------------------------------------------- */

/* Files of ours in the folder that the manifest does not list. */
struct leftovers {
    struct manifest *manifest;
    struct list names;       /* char[SEGMENT_NAME_MAX] */
    uint64_t number_highest; /* of all segment files there are */
    bool nomem;
};

/* A temporary file that an interrupted replacement of ours left. */
static bool is_temporary(const char *name)
{
    static const char suffix[] = ".tmp";
    char base[SEGMENT_NAME_MAX];
    size_t len = strlen(name);
    uint64_t number;

    if (len < sizeof suffix || len - (sizeof suffix - 1) >= sizeof base ||
        strcmp(name + len - (sizeof suffix - 1), suffix) != 0)
        return false;
    memcpy(base, name, len - (sizeof suffix - 1));
    base[len - (sizeof suffix - 1)] = '\0';
    return strcmp(base, MANIFEST_NAME) == 0 || strcmp(base, SUPERBLOCK_NAME) == 0 ||
           segment_name_parse(base, &number);
}

static bool visit_name(void *arg, const char *name)
{
    struct leftovers *leftovers = arg;
    bool temporary;
    uint64_t number;
    char *kept;

    if (segment_name_parse(name, &number)) {
        if (number > RECORD_NUMBER_OPEN_MAX)
            return true; /* never a name of ours: there is no number above it */
        if (number > leftovers->number_highest)
            leftovers->number_highest = number;
        if (manifest_find(leftovers->manifest, number) != NULL)
            return true;
    } else if (hint_name_parse(name, &number, &temporary)) {
        if (!temporary && manifest_find(leftovers->manifest, number) != NULL)
            return true;
    } else if (!is_temporary(name)) {
        return true;
    }
    kept = list_push(&leftovers->names, SEGMENT_NAME_MAX);
    leftovers->nomem = kept == NULL;
    if (kept != NULL)
        (void)snprintf(kept, SEGMENT_NAME_MAX, "%s", name);
    return kept != NULL;
}

/* Removes the file unless its header says that it is another store's, or of a kind
 * that this version cannot judge. */
static enum armdb_rc remove_leftover(const struct recovery *recovery, const char *name,
                                     struct armdb_error *err)
{
    struct segment_header header;
    struct armdb_error failed = {.rc = ARMDB_OK};
    uint64_t number;
    enum armdb_rc rc = ARMDB_OK;

    if (segment_name_parse(name, &number)) {
        rc = read_header(recovery->dir, name, &header, &failed);
        if (rc == ARMDB_VERSION || rc == ARMDB_CANTOPEN ||
            (rc == ARMDB_OK && memcmp(header.store_uuid, recovery->sb->uuid,
                                      sizeof header.store_uuid) != 0))
            return ARMDB_OK;
        if (rc != ARMDB_OK && rc != ARMDB_CORRUPT && rc != ARMDB_NOT_FOUND) {
            if (err != NULL)
                *err = failed;
            return rc;
        }
    }
    rc = recovery->dir->io->ops->dir_unlink(recovery->dir, name, err);
    return rc == ARMDB_NOT_FOUND ? ARMDB_OK : rc;
}

static enum armdb_rc remove_leftovers(struct recovery *recovery, struct armdb_error *err)
{
    struct manifest *manifest = &recovery->out->manifest;
    struct leftovers leftovers = {.manifest = manifest};
    enum armdb_rc rc;

    rc = recovery->dir->io->ops->dir_list(recovery->dir, visit_name, &leftovers, err);
    if (rc == ARMDB_OK && leftovers.nomem)
        rc = recovery_fail_nomem(err);
    /* The manifest that lists them no longer may have its name in memory alone. */
    if (rc == ARMDB_OK && !recovery->read_only && leftovers.names.count > 0)
        rc = recovery->dir->io->ops->dir_sync(recovery->dir, err);
    for (size_t i = 0;
         rc == ARMDB_OK && !recovery->read_only && i < leftovers.names.count; i++)
        rc = remove_leftover(
            recovery, (const char *)leftovers.names.items + i * SEGMENT_NAME_MAX, err);
    /* A foreign file may keep its name: ours get higher numbers. */
    if (leftovers.number_highest >= manifest->next_segment)
        manifest->next_segment = leftovers.number_highest + 1;
    adb_free(ADB_MEM_LOG, leftovers.names.items);
    return rc;
}

/* ---- Threads --------------------------------------------------------------------- */

/* One pass over all segments, handed out one by one. */
struct pass {
    struct recovery *recovery;
    enum armdb_rc (*step)(struct recovery *recovery, struct segment_state *segment,
                          struct armdb_error *err);
    /* Relaxed: who gets which segment, and that somebody failed; results are read after
     * the threads were joined. */
    _Atomic size_t next_segment;
    _Atomic bool failed;
};

struct worker {
    struct pass *pass;
    struct adb_thread thread;
    enum armdb_rc rc;
    struct armdb_error err;
};

static void run_worker(void *arg)
{
    struct worker *worker = arg;
    struct pass *pass = worker->pass;

    while (!atomic_load_explicit(&pass->failed, memory_order_relaxed)) {
        size_t i =
            atomic_fetch_add_explicit(&pass->next_segment, 1, memory_order_relaxed);

        if (i >= pass->recovery->segment_count)
            return;
        worker->rc =
            pass->step(pass->recovery, &pass->recovery->segments[i], &worker->err);
        if (worker->rc != ARMDB_OK)
            atomic_store_explicit(&pass->failed, true, memory_order_relaxed);
    }
}

/* The caller's thread works too; where the system gives fewer threads, fewer run. */
static enum armdb_rc run_pass(struct recovery *recovery, unsigned threads,
                              enum armdb_rc (*step)(struct recovery *recovery,
                                                    struct segment_state *segment,
                                                    struct armdb_error *err),
                              struct armdb_error *err)
{
    struct pass pass = {.recovery = recovery, .step = step};
    struct worker *workers;
    enum armdb_rc rc = ARMDB_OK;
    unsigned count = threads;

    if (count > recovery->segment_count)
        count = (unsigned)recovery->segment_count;
    if (count == 0)
        count = 1;
    if (count > THREADS_MAX)
        count = THREADS_MAX;
    workers = adb_alloc_zero(ADB_MEM_LOG, count * sizeof *workers);
    if (workers == NULL)
        return recovery_fail_nomem(err);
    atomic_init(&pass.next_segment, 0);
    atomic_init(&pass.failed, false);
    for (unsigned i = 0; i < count; i++)
        workers[i].pass = &pass;
    for (unsigned i = 1; i < count; i++) {
        if (adb_thread_start(&workers[i].thread, run_worker, &workers[i]) != ARMDB_OK)
            break;
    }
    run_worker(&workers[0]);
    for (unsigned i = 1; i < count; i++)
        adb_thread_join(&workers[i].thread);
    for (unsigned i = 0; rc == ARMDB_OK && i < count; i++) {
        rc = workers[i].rc;
        if (rc != ARMDB_OK && err != NULL) {
            *err = workers[i].err;
            if (err->rc != rc) /* a sink that gave no text */
                (void)ADB_FAIL(rc, err, "recovery stopped: %s", adb_rc_name(rc));
        }
    }
    adb_free(ADB_MEM_LOG, workers);
    return rc;
}

/* ---- R7 -------------------------------------------------------------------------- */

static bool same_segment(const struct manifest_segment *a,
                         const struct manifest_segment *b)
{
    return a->sealed == b->sealed && a->length == b->length && a->gsn_low == b->gsn_low &&
           a->gsn_high == b->gsn_high;
}

/* True when a listed log segment may hold a frame of this GSN. */
static bool may_hold(const struct manifest *manifest, uint64_t gsn)
{
    for (size_t i = 0; i < manifest->segment_count; i++) {
        const struct manifest_segment *segment = &manifest->segments[i];

        if (segment->kind == SEGMENT_LOG && gsn >= segment->gsn_low &&
            gsn <= segment->gsn_high)
            return true;
    }
    return false;
}

/* Puts down in the manifest what is out by the log: the next recovery knows it before
 * it delivers. */
static enum armdb_rc keep_aborts(struct recovery *recovery, bool *changed,
                                 struct armdb_error *err)
{
    struct manifest *manifest = &recovery->out->manifest;
    const uint64_t *aborts = recovery->aborts.items;
    struct manifest_verdict *verdicts;

    if (recovery->aborts.count == 0)
        return ARMDB_OK;
    verdicts = adb_realloc(ADB_MEM_LOG, manifest->verdicts,
                           (manifest->verdict_count + recovery->aborts.count) *
                               sizeof *verdicts);
    if (verdicts == NULL)
        return recovery_fail_nomem(err);
    manifest->verdicts = verdicts;
    for (size_t i = 0; i < recovery->aborts.count; i++) {
        if (!may_hold(manifest, aborts[i]))
            continue;
        verdicts[manifest->verdict_count].gsn = aborts[i];
        verdicts[manifest->verdict_count].outcome = FRAME_OUTCOME_ABORT;
        manifest->verdict_count++;
        *changed = true;
    }
    return ARMDB_OK;
}

/* The manifest as it has to be; *changed when it differs from the one on disk. */
static enum armdb_rc change_manifest(struct recovery *recovery, bool *changed,
                                     struct armdb_error *err)
{
    struct manifest *manifest = &recovery->out->manifest;

    *changed = manifest->watermark != recovery->gsn;
    manifest->watermark = recovery->gsn;
    for (size_t i = 0; i < recovery->segment_count; i++) {
        const struct segment_state *segment = &recovery->segments[i];
        struct manifest_segment sealed = segment->listed;

        sealed.sealed = true;
        sealed.length = segment->count_end;
        if (ADB_PLANTED("tail_not_cut") && segment->keep && !segment->listed.sealed)
            sealed.length = segment->scan.tail;
        sealed.gsn_low = segment->gsn_low;
        sealed.gsn_high = segment->gsn_high;
        if (segment->keep && same_segment(&sealed, &segment->listed))
            continue;
        *changed = true;
        if (segment->keep)
            *manifest_find(manifest, sealed.number) = sealed;
        else
            manifest_remove(manifest, sealed.number);
    }
    return keep_aborts(recovery, changed, err);
}

/* After the replacement: files that count no more, and tails of files that do. A
 * failure here does no harm and fails no opening: what the manifest does not list is
 * removed by the next one, and lengths are the manifest's. A segment that was sealed
 * keeps its file as it is: a backup may share it. */
static void tidy_file(const struct recovery *recovery,
                      const struct segment_state *segment)
{
    const struct adb_io_ops *ops = recovery->dir->io->ops;
    struct adb_file *file = NULL;
    struct armdb_error ignored;

    if (segment->old)
        return;
    if (!segment->keep) {
        ignored.rc = ops->dir_unlink(recovery->dir, segment->name, &ignored);
        hint_remove(recovery->dir, segment->listed.number);
    } else if (!segment->listed.sealed && segment->file_bytes > segment->count_end &&
               ops->file_open(recovery->dir, segment->name, ADB_OPEN_WRITE, &file,
                              &ignored) == ARMDB_OK) {
        ignored.rc = ops->file_truncate(file, segment->count_end, &ignored);
        ops->file_close(file);
    }
}

static enum armdb_rc replace_manifest(struct recovery *recovery, struct armdb_error *err)
{
    bool changed;
    enum armdb_rc rc = change_manifest(recovery, &changed, err);

    if (rc != ARMDB_OK || recovery->read_only || !changed)
        return rc;
    rc = manifest_write(recovery->dir, recovery->sb->uuid, &recovery->out->manifest, err);
    for (size_t i = 0; rc == ARMDB_OK && i < recovery->segment_count; i++)
        tidy_file(recovery, &recovery->segments[i]);
    return rc;
}

/* ---- What the caller is told ------------------------------------------------------ */

static void count_cut(struct recovery *recovery)
{
    for (size_t i = 0; i < recovery->segment_count; i++) {
        const struct segment_state *segment = &recovery->segments[i];
        uint64_t from =
            segment->keep ? segment->count_end : (uint64_t)SEGMENT_FIRST_FRAME;
        uint64_t to = segment->scan.clean ? segment->scan.tail : segment->file_bytes;

        if (segment->old || from >= to)
            continue;
        recovery->out->cut = true;
        recovery->out->cut_bytes += to - from;
    }
}

static enum armdb_rc report_damage(struct recovery *recovery, struct armdb_error *err)
{
    struct list damage = {NULL, 0, 0};

    for (size_t i = 0; i < recovery->segment_count; i++) {
        const struct segment_state *segment = &recovery->segments[i];
        const struct hole *holes = segment->holes.items;

        for (size_t h = 0; segment->keep && h < segment->holes.count; h++) {
            struct recover_damage *item;

            if (!holes[h].damage || holes[h].untrusted_from == holes[h].untrusted_to)
                continue;
            if (holes[h].gsn_own == 0 && segment->gsn_high == 0)
                continue; /* no record that counts was ever in this segment */
            item = list_push(&damage, sizeof *item);
            if (item == NULL) {
                adb_free(ADB_MEM_LOG, damage.items);
                return recovery_fail_nomem(err);
            }
            item->segment_number = segment->listed.number;
            item->from = holes[h].untrusted_from;
            item->to = holes[h].untrusted_to;
            item->gsn_high = holes[h].gsn_own != 0 ? holes[h].gsn_own : segment->gsn_high;
        }
    }
    recovery->out->damage = damage.items;
    recovery->out->damage_count = damage.count;
    return ARMDB_OK;
}

/* Bytes of records, and what became of hints. */
static enum armdb_rc report_segments(struct recovery *recovery, struct armdb_error *err)
{
    struct recovered *out = recovery->out;

    out->bytes = adb_alloc(ADB_MEM_LOG, recovery->segment_count * sizeof *out->bytes);
    if (out->bytes == NULL)
        return recovery_fail_nomem(err);
    out->bytes_count = recovery->segment_count;
    for (size_t i = 0; i < recovery->segment_count; i++) {
        const struct segment_state *segment = &recovery->segments[i];

        out->bytes[i].segment_number = segment->listed.number;
        out->bytes[i].record_bytes = segment->record_bytes;
        out->bytes[i].record_count = segment->record_count;
        out->bytes[i].hinted = segment->hinted;
        out->hints.used += segment->hinted;
        out->hints.missing += segment->hint_rc == ARMDB_NOT_FOUND;
        if (segment->hint_rc == ARMDB_OK || segment->hint_rc == ARMDB_NOT_FOUND)
            continue;
        out->hints.refused++;
        memcpy(out->hints.why, segment->hint_why, sizeof out->hints.why);
    }
    return ARMDB_OK;
}

/* ---- All of it -------------------------------------------------------------------- */

static void recovery_fini(struct recovery *recovery)
{
    for (size_t i = 0; i < recovery->segment_count; i++) {
        struct segment_state *segment = &recovery->segments[i];

        for (size_t n = 0; n < segment->notes.count; n++)
            adb_free(ADB_MEM_LOG, notes_of(segment)[n].void_runs);
        adb_free(ADB_MEM_LOG, segment->notes.items);
        adb_free(ADB_MEM_LOG, segment->marks.items);
        adb_free(ADB_MEM_LOG, segment->holes.items);
    }
    for (uint32_t s = 0; recovery->shards != NULL && s < recovery->sb->shards; s++)
        adb_free(ADB_MEM_LOG, recovery->shards[s].segments);
    adb_free(ADB_MEM_LOG, recovery->segments);
    adb_free(ADB_MEM_LOG, recovery->shards);
    adb_free(ADB_MEM_LOG, recovery->verdicts.items);
    adb_free(ADB_MEM_LOG, recovery->closed.items);
    adb_free(ADB_MEM_LOG, recovery->aborts.items);
}

/* What only grows has not grown out of reach (record.h). */
static enum armdb_rc check_counters(const struct recovery *recovery,
                                    struct armdb_error *err)
{
    const struct manifest *manifest = &recovery->out->manifest;
    uint64_t highest = recovery->gsn;

    if (manifest->edit > highest)
        highest = manifest->edit;
    if (manifest->next_segment > highest)
        highest = manifest->next_segment;
    if (manifest->next_table > highest)
        highest = manifest->next_table;
    if (highest <= RECORD_NUMBER_OPEN_MAX)
        return ARMDB_OK;
    return ADB_FAIL(ARMDB_CORRUPT, err,
                    "the store has counted to %llu, which no store reaches: restore it "
                    "from a backup",
                    (unsigned long long)highest);
}

static enum armdb_rc run_recovery(struct recovery *recovery, unsigned threads,
                                  struct armdb_error *err)
{
    enum armdb_rc rc;

    rc = manifest_read(recovery->dir, recovery->sb->uuid, &recovery->out->manifest, err);
    if (rc == ARMDB_NOT_FOUND)
        return ADB_FAIL(
            ARMDB_CORRUPT, err,
            "the store has a superblock and no manifest: put the file back or "
            "restore the store from a backup");
    if (rc == ARMDB_OK)
        rc = load_segments(recovery, err);
    if (rc == ARMDB_OK)
        rc = remove_leftovers(recovery, err);
    if (rc == ARMDB_OK)
        rc = recovery_load_verdicts(recovery, err);
    if (rc == ARMDB_OK)
        rc = run_pass(recovery, threads, recovery_survey, err);
    if (rc == ARMDB_OK)
        rc = recovery_decide(recovery, err);
    if (rc == ARMDB_OK)
        rc = check_counters(recovery, err);
    if (rc == ARMDB_OK && recovery->restart)
        rc = recovery->sink->restart(recovery->sink->arg);
    if (rc == ARMDB_OK)
        rc = run_pass(recovery, threads, recovery_deliver, err);
    if (rc == ARMDB_OK)
        rc = report_damage(recovery, err);
    if (rc == ARMDB_OK)
        rc = report_segments(recovery, err);
    if (rc == ARMDB_OK)
        rc = replace_manifest(recovery, err);
    return rc;
}

enum armdb_rc recover_store(struct adb_dir *dir, const struct superblock *sb,
                            bool read_only, unsigned threads,
                            const struct recover_sink *sink, struct recovered *out,
                            struct armdb_error *err)
{
    struct recovery recovery = {
        .dir = dir, .sb = sb, .sink = sink, .out = out, .read_only = read_only};
    enum armdb_rc rc;

    memset(out, 0, sizeof *out);
    manifest_init(&out->manifest);
    rc = run_recovery(&recovery, threads, err);
    if (rc == ARMDB_OK) {
        out->gsn = recovery.gsn;
        count_cut(&recovery);
    } else {
        recovered_fini(out);
    }
    recovery_fini(&recovery);
    return rc;
}

void recovered_fini(struct recovered *recovered)
{
    manifest_fini(&recovered->manifest);
    adb_free(ADB_MEM_LOG, recovered->damage);
    recovered->damage = NULL;
    recovered->damage_count = 0;
    adb_free(ADB_MEM_LOG, recovered->bytes);
    recovered->bytes = NULL;
    recovered->bytes_count = 0;
}

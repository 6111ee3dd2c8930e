/* compact_install.c - an output takes the place of its inputs (C4 to C6).
 *
 *   manifest lock held:
 *     the tombstone rule once more (segments only come with higher GSNs: it holds)
 *     one replacement of the manifest: output in, inputs out, the verdicts and closes
 *     of the inputs in as far as a segment that stays may hold what they decide
 *   then each location is swapped inside its version, under its partition's lock: who
 *     wrote the key meanwhile keeps his version, and the copy is dead bytes
 *   then the inputs lose their names, unless a backup is being taken
 *
 * Killed before the replacement: the output is a file that nobody lists, removed by the
 * next opening. Killed after it: the inputs are. Never both, never neither.
 *
 * A replacement that failed may have taken place all the same. Then the old manifest is
 * written again; when that succeeds the output goes, else both stay in the folder and
 * whichever manifest the next opening finds is right.
 *
 * An input whose versions a snapshot still reads goes on without its name, until the
 * oldest snapshot has seen everything that was visible after the swap: each version that
 * was not moved had been superseded by then. Its slot is cleared, readers inside it
 * leave, its descriptor is closed. A reader that comes too late finds the slot empty and
 * looks its key up again. */
#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/plant.h"
#include "engine/log/moment.h"
#include "engine/store/compact_internal.h"

/* ---- C4 ---- */

/* May a log segment of the manifest hold a frame, or chunks, of this GSN? */
static bool may_hold(struct log *log, const struct manifest *manifest, uint64_t gsn)
{
    for (size_t i = 0; i < manifest->segment_count; i++) {
        const struct manifest_segment *listed = &manifest->segments[i];

        if (listed->kind != SEGMENT_LOG)
            continue;
        if (!listed->sealed || (gsn >= listed->gsn_low && gsn <= listed->gsn_high))
            return true;
    }
    (void)log;
    return false;
}

static enum armdb_rc add_verdict(struct manifest *manifest, uint64_t gsn)
{
    struct manifest_verdict *grown = adb_realloc(
        ADB_MEM_LOG, manifest->verdicts, (manifest->verdict_count + 1) * sizeof *grown);

    if (grown == NULL)
        return ARMDB_NOMEM;
    manifest->verdicts = grown;
    grown[manifest->verdict_count].gsn = gsn;
    grown[manifest->verdict_count++].outcome = FRAME_OUTCOME_COMMIT;
    return ARMDB_OK;
}

static enum armdb_rc add_close(struct manifest *manifest,
                               const struct compact_close *close)
{
    struct manifest_close *grown = adb_realloc(
        ADB_MEM_LOG, manifest->closes, (manifest->close_count + 1) * sizeof *grown);
    struct manifest_close *added;
    size_t bytes = (size_t)close->void_run_count * 2 * sizeof(uint64_t);

    if (grown == NULL)
        return ARMDB_NOMEM;
    manifest->closes = grown;
    added = &grown[manifest->close_count];
    memset(added, 0, sizeof *added);
    added->txid_edit = close->txid_edit;
    added->txid_count = close->txid_count;
    added->gsn = close->gsn;
    if (bytes > 0) {
        added->void_runs = adb_alloc(ADB_MEM_LOG, bytes);
        if (added->void_runs == NULL)
            return ARMDB_NOMEM;
        memcpy(added->void_runs, close->void_runs, bytes);
        added->void_run_count = close->void_run_count;
    }
    manifest->close_count++;
    return ARMDB_OK;
}

static bool has_verdict(const struct manifest *manifest, uint64_t gsn)
{
    for (size_t i = 0; i < manifest->verdict_count; i++)
        if (manifest->verdicts[i].gsn == gsn)
            return true;
    return false;
}

static bool has_close(const struct manifest *manifest, uint64_t gsn)
{
    for (size_t i = 0; i < manifest->close_count; i++)
        if (manifest->closes[i].gsn == gsn)
            return true;
    return false;
}

/* Drops what decides about nothing that is left, adds what the inputs decided. */
static enum armdb_rc carry_verdicts(struct compaction *c, struct manifest *manifest)
{
    struct log *log = &c->store->log;
    enum armdb_rc rc = ARMDB_OK;
    size_t kept = 0;

    if (ADB_PLANTED("verdict_compacted_away")) {
        manifest->verdict_count = 0;
        c->commit_count = 0;
    }
    for (size_t i = 0; i < manifest->verdict_count; i++)
        if (may_hold(log, manifest, manifest->verdicts[i].gsn))
            manifest->verdicts[kept++] = manifest->verdicts[i];
    manifest->verdict_count = kept;
    kept = 0;
    for (size_t i = 0; i < manifest->close_count; i++) {
        if (may_hold(log, manifest, manifest->closes[i].gsn))
            manifest->closes[kept++] = manifest->closes[i];
        else
            adb_free(ADB_MEM_LOG, manifest->closes[i].void_runs);
    }
    manifest->close_count = kept;
    for (size_t i = 0; rc == ARMDB_OK && i < c->commit_count; i++)
        if (may_hold(log, manifest, c->commits[i]) &&
            !has_verdict(manifest, c->commits[i]))
            rc = add_verdict(manifest, c->commits[i]);
    for (size_t i = 0; rc == ARMDB_OK && i < c->close_count; i++)
        if (c->closes[i].input && may_hold(log, manifest, c->closes[i].gsn) &&
            !has_close(manifest, c->closes[i].gsn))
            rc = add_close(manifest, &c->closes[i]);
    return rc;
}

static enum armdb_rc list_output(struct compaction *c, struct manifest *manifest)
{
    const struct segment *output = c->output;
    struct manifest_segment listed = {.kind = SEGMENT_OUTPUT, .sealed = true};
    enum armdb_rc rc;

    if (output == NULL)
        return ARMDB_OK;
    listed.number = output->header.number;
    memcpy(listed.identity, output->header.identity, sizeof listed.identity);
    listed.shard = output->header.shard;
    listed.length = output->length;
    listed.gsn_low = output->gsn_low;
    listed.gsn_high = output->gsn_high;
    rc = manifest_add(manifest, &listed);
    return rc == ARMDB_OK ? segtab_add(&c->store->log.segments, output->slot, c->output)
                          : rc;
}

/* The manifest as it will be. */
static enum armdb_rc next_manifest(struct log *log, struct compaction *c,
                                   struct manifest *next) ADB_REQUIRES(log->manifest_lock)
{
    enum armdb_rc rc = manifest_copy(&log->locked.manifest, next);

    if (rc != ARMDB_OK)
        return rc;
    for (size_t i = 0; i < c->input_count; i++)
        manifest_remove(next, c->inputs[i]->header.number);
    rc = carry_verdicts(c, next);
    if (rc == ARMDB_OK)
        rc = list_output(c, next);
    next->watermark = gsn_durable(&log->gsn);
    next->next_table = atomic_load_explicit(&log->next_table, memory_order_relaxed);
    return rc;
}

static enum armdb_rc replace(struct log *log, struct compaction *c, bool *undone)
    ADB_REQUIRES(log->manifest_lock)
{
    struct armdb_error ignored;
    struct manifest next;
    enum armdb_rc rc = log_writable(log, c->err);

    *undone = true;
    if (rc != ARMDB_OK)
        return rc;
    if (log->locked.abort_lost || !compact_tombs_hold(log, c))
        return ADB_FAIL(ARMDB_BUSY, c->err, "the store changed during a compaction");
    manifest_init(&next);
    rc = next_manifest(log, c, &next);
    if (rc != ARMDB_OK) {
        rc = ADB_FAIL(rc, c->err, "out of memory for the manifest");
    } else {
        rc = manifest_write(log->dir, log->uuid, &next, c->err);
        if (rc != ARMDB_OK)
            *undone = manifest_write(log->dir, log->uuid, &log->locked.manifest,
                                     &ignored) == ARMDB_OK;
    }
    if (rc == ARMDB_OK) {
        struct manifest old = log->locked.manifest;

        log->locked.manifest = next;
        log->locked.changed = false;
        next = old;
    } else if (c->output != NULL &&
               segtab_get(&log->segments, c->output->slot) == c->output) {
        segtab_remove(&log->segments, c->output->slot);
    }
    manifest_fini(&next);
    return rc;
}

/* ---- C5 ---- */

/* Swaps the location of one version; false: the key was written meanwhile. */
static bool swap_location(struct compaction *c, const struct moved *moved)
{
    struct tab *tab = moved->tab;
    uint64_t hash = hashmap_hash(tab->map, moved_key(moved), moved->key_len);
    struct adb_mutex *lock = hashmap_lock(tab->map, hash);
    node_ref node = hashmap_find(tab->map, hash, moved_key(moved), moved->key_len);
    version_ref ref = 0;
    bool swapped = false;

    if (node != 0)
        /* Pairs with the release in version_push(). */
        ref = atomic_load_explicit(&arena_node(tab->arena, node)->head,
                                   memory_order_acquire);
    while (ref != 0 && !swapped) {
        struct version *version = arena_version(tab->arena, ref);
        uint64_t expected = moved->from;

        if (ADB_PLANTED("stale_location_used"))
            expected = atomic_load_explicit(&version->location, memory_order_relaxed);
        /* Release: pairs with the acquire of whoever reads the record. */
        swapped = atomic_compare_exchange_strong_explicit(
            &version->location, &expected, location_make(c->output->slot, moved->to),
            memory_order_release, memory_order_relaxed);
        if (swapped && moved->value_len != VERSION_DELETED) {
            const struct node *at = arena_node(tab->arena, node);
            uint64_t bytes = record_bytes(tab, at, version->value_len);
            struct segment *from =
                segtab_get(&c->store->log.segments, location_slot(moved->from));

            if (!ADB_PLANTED("live_bytes_not_moved"))
                (void)atomic_fetch_add_explicit(&c->output->live_bytes, bytes,
                                                memory_order_relaxed);
            if (from != NULL)
                (void)atomic_fetch_sub_explicit(&from->live_bytes, bytes,
                                                memory_order_relaxed);
        }
        ref = atomic_load_explicit(&version->older, memory_order_acquire);
    }
    hashmap_unlock(lock);
    return swapped;
}

static void swap_locations(struct compaction *c)
{
    for (size_t i = 0; i < c->moved_count; i++) {
        if (c->moved[i].dropped)
            continue;
        epoch_enter(c->slot);
        (void)swap_location(c, &c->moved[i]);
        epoch_leave(c->slot);
    }
}

/* ---- C6 ---- */

static struct compact_grave *make_graves(const struct compaction *c)
{
    struct compact_grave *first = NULL;

    for (size_t i = 0; i < c->input_count; i++) {
        struct compact_grave *grave = adb_alloc_zero(ADB_MEM_MISC, sizeof *grave);

        if (grave == NULL) {
            while (first != NULL) {
                grave = first;
                first = first->next;
                adb_free(ADB_MEM_MISC, grave);
            }
            return NULL;
        }
        grave->segment = c->inputs[i];
        grave->named = true;
        grave->next = first;
        first = grave;
    }
    return first;
}

static void dig_graves(struct compaction *c, struct compact_grave *graves)
{
    struct armdb *store = c->store;
    uint64_t stamp = atomic_load_explicit(&store->visible, memory_order_acquire);

    while (graves != NULL) {
        struct compact_grave *grave = graves;

        graves = grave->next;
        grave->stamp = stamp;
        grave->next = store->compactor.graves;
        store->compactor.graves = grave;
        stat_add(&store->compactor.segments_removed, 1);
    }
}

static void unlink_graves(struct armdb *store)
{
    struct log *log = &store->log;

    adb_mutex_lock(&log->manifest_lock);
    for (struct compact_grave *grave = store->compactor.graves;
         grave != NULL && !log_has_moment(log); grave = grave->next) {
        struct armdb_error ignored; /* the next opening removes what is left */

        if (grave->named) {
            (void)log->dir->io->ops->dir_unlink(log->dir, grave->segment->name, &ignored);
            hint_remove(log->dir, grave->segment->header.number);
        }
        grave->named = false;
    }
    adb_mutex_unlock(&log->manifest_lock);
}

static void close_grave(void *context, struct epoch_item *item)
{
    struct compact_grave *grave = (struct compact_grave *)(void *)item;

    (void)context;
    segment_close(grave->segment);
    adb_free(ADB_MEM_MISC, grave);
}

void compact_bury(struct armdb *store)
{
    struct compact_grave **link = &store->compactor.graves;
    struct compact_grave *closing = NULL;
    uint64_t oldest;

    if (*link == NULL)
        return;
    unlink_graves(store);
    adb_mutex_lock(&store->txn_lock);
    oldest = oldest_snapshot_locked(store);
    adb_mutex_unlock(&store->txn_lock);
    while (*link != NULL) {
        struct compact_grave *grave = *link;

        if (grave->named || grave->stamp > oldest) {
            link = &grave->next;
            continue;
        }
        *link = grave->next;
        segtab_remove(&store->log.segments, grave->segment->slot);
        grave->next = closing;
        closing = grave;
    }
    if (closing == NULL)
        return;
    while (closing != NULL) {
        struct compact_grave *grave = closing;

        closing = grave->next;
        epoch_retire(store->epoch, &grave->retired, close_grave, NULL);
    }
    epoch_drain(store->epoch); /* readers that had found them leave first */
}

/* ---- All of it ---- */

void compact_discard(struct compaction *c)
{
    struct armdb_error ignored;

    if (c->output == NULL)
        return;
    (void)c->store->io->ops->dir_unlink(c->store->dir, c->output->name, &ignored);
    segment_close(c->output);
    c->output = NULL;
}

enum armdb_rc compact_install(struct compaction *c)
{
    struct log *log = &c->store->log;
    struct compact_grave *graves = make_graves(c);
    bool undone = true;
    enum armdb_rc rc;

    if (graves == NULL)
        return ADB_FAIL(ARMDB_NOMEM, c->err, "out of memory for a compaction");
    adb_mutex_lock(&log->manifest_lock);
    rc = replace(log, c, &undone);
    adb_mutex_unlock(&log->manifest_lock);
    if (rc != ARMDB_OK) {
        while (graves != NULL) {
            struct compact_grave *next = graves->next;

            adb_free(ADB_MEM_MISC, graves);
            graves = next;
        }
        if (!undone && c->output != NULL) { /* the manifest on the disk may list it */
            segment_close(c->output);
            c->output = NULL;
        }
        return rc;
    }
    if (c->output != NULL)
        swap_locations(c);
    dig_graves(c, graves);
    compact_bury(c->store);
    return ARMDB_OK;
}

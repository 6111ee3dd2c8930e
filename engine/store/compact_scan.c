/* compact_scan.c - what of a compaction's inputs lives on.
 *
 * Each input is read once from front to back, every check verified: damage ends the
 * compaction, the segment stays.
 *
 *   put        lives iff its location is in its key's version chain with no newer
 *              committed, durable version above it (below one it is there for snapshots
 *              alone: they read it where it is)
 *   tombstone  of an aborted transaction, a void run, a table that is gone, or below a
 *              newer durable version or input record: dead. Else it stays unless its
 *              GSN is below everything that a segment outside the inputs may hold.
 *
 * All transactions of the inputs are decided and their aborts are in the manifest, but
 * one that was decided a moment ago may not have its stamp yet, or not be undone yet: its
 * version says neither, and is waited for.
 *
 * Chunks have their CLOSE elsewhere in their shard. When one is met whose CLOSE is
 * neither in the manifest nor read yet, the shard's segments are searched for all. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/mem.h"
#include "engine/base/plant.h"
#include "engine/log/scan.h"
#include "engine/store/compact_internal.h"

enum { WAIT_ROUNDS_MAX = 5000, TABS_STEP = 16 };

static enum armdb_rc fail_nomem(const struct compaction *c)
{
    return ADB_FAIL(ARMDB_NOMEM, c->err, "out of memory compacting %s", c->store->path);
}

/* ---- Tables ---- */

/* The rows of a table id as they are listed now, kept until the compaction ends. */
static enum armdb_rc find_tab(struct compaction *c, uint64_t id, struct tab **out)
{
    struct tab *tab;
    struct compact_tab *grown;

    for (size_t i = 0; i < c->tab_count; i++) {
        if (c->tabs[i].id == id) {
            *out = c->tabs[i].tab;
            return ARMDB_OK;
        }
    }
    if (c->tab_count % TABS_STEP == 0) {
        grown = adb_realloc(ADB_MEM_MISC, c->tabs,
                            (c->tab_count + TABS_STEP) * sizeof *grown);
        if (grown == NULL)
            return fail_nomem(c);
        c->tabs = grown;
    }
    adb_mutex_lock(&c->store->catalog_lock);
    tab = c->store->tabs;
    while (tab != NULL && tab->id != id)
        tab = tab->next;
    if (tab != NULL) {
        tab->handles++;
        tab->moving = true;
    }
    adb_mutex_unlock(&c->store->catalog_lock);
    c->tabs[c->tab_count].id = id;
    c->tabs[c->tab_count++].tab = tab;
    *out = tab;
    return ARMDB_OK;
}

/* ---- What the index says ---- */

enum fate { FATE_LIVE, FATE_DEAD, FATE_OPEN };

/* The GSN of a committed version, 0 while its transaction is open. */
static uint64_t committed_gsn(uint64_t word)
{
    const struct txn_write *write;

    if ((word & 1) != 0)
        return word >> 1;
    write = (const struct txn_write *)(uintptr_t)word;
    /* Pairs with the release in the commit. */
    if (atomic_load_explicit(&write->txn->stamp, memory_order_acquire) == 0)
        return 0;
    return write->txn->undecided.gsn;
}

/* Of the record at `location` with this GSN. Inside an epoch, partition lock held. */
static enum fate chain_fate(const struct tab *tab, const struct node *node,
                            uint64_t location, uint64_t gsn, bool tombstone,
                            uint64_t durable)
{
    version_ref ref = atomic_load_explicit(&node->head, memory_order_acquire);

    while (ref != 0) {
        const struct version *version = arena_version(tab->arena, ref);
        uint64_t word = atomic_load_explicit(&version->word, memory_order_acquire);
        uint64_t at = atomic_load_explicit(&version->location, memory_order_acquire);
        uint64_t own = committed_gsn(word);

        if (at == location)
            return own == 0 ? FATE_OPEN : FATE_LIVE;
        /* A version that is still staged although its transaction has committed is not on
         * the log: of a row that came and went in one transaction nothing is written, and
         * the tombstone of the row before it is the newest that there is. */
        if (own != 0 && own <= durable && !location_is_staged(at) &&
            (!tombstone || own > gsn ||
             (own == gsn && version->value_len != VERSION_DELETED)))
            return FATE_DEAD;
        ref = atomic_load_explicit(&version->older, memory_order_acquire);
    }
    return tombstone ? FATE_LIVE : FATE_DEAD;
}

static enum armdb_rc find_fate(struct compaction *c, struct tab *tab,
                               const struct record *record, uint64_t location,
                               uint64_t gsn, enum fate *fate)
{
    uint64_t hash = hashmap_hash(tab->map, record->key, record->key_len);
    bool tombstone = record->kind == RECORD_DELETE;

    for (int round = 0; round < WAIT_ROUNDS_MAX; round++) {
        uint64_t durable = gsn_durable(&c->store->log.gsn);
        struct adb_mutex *lock;
        node_ref ref;

        epoch_enter(c->slot);
        lock = hashmap_lock(tab->map, hash);
        ref = hashmap_find(tab->map, hash, record->key, record->key_len);
        *fate = ref == 0 ? (tombstone ? FATE_LIVE : FATE_DEAD)
                         : chain_fate(tab, arena_node(tab->arena, ref), location, gsn,
                                      tombstone, durable);
        hashmap_unlock(lock);
        epoch_leave(c->slot);
        if (*fate != FATE_OPEN)
            return ARMDB_OK;
        compact_sleep(c);
    }
    return ADB_FAIL(ARMDB_BUSY, c->err, "a commit does not end");
}

/* ---- Closes ---- */

static bool is_aborted(const struct compaction *c, uint64_t gsn)
{
    for (size_t i = 0; i < c->manifest.verdict_count; i++)
        if (c->manifest.verdicts[i].gsn == gsn)
            return c->manifest.verdicts[i].outcome == FRAME_OUTCOME_ABORT;
    return false;
}

static int compare_runs(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;

    return x[0] < y[0] ? -1 : x[0] > y[0];
}

/* Sorted and joined, as the manifest has them. */
static uint32_t join_runs(uint64_t *runs, uint32_t count)
{
    uint32_t kept = 0;

    qsort(runs, count, 2 * sizeof *runs, compare_runs);
    for (uint32_t i = 1; i < count; i++) {
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

static struct compact_close *push_close(struct compaction *c)
{
    struct compact_close *grown =
        adb_realloc(ADB_MEM_MISC, c->closes, (c->close_count + 1) * sizeof *c->closes);

    if (grown == NULL)
        return NULL;
    c->closes = grown;
    memset(&grown[c->close_count], 0, sizeof *grown);
    return &grown[c->close_count++];
}

/* Keeps a CLOSE that counts; *out may be NULL. */
static enum armdb_rc note_close(struct compaction *c, const struct frame *frame,
                                bool input, const struct compact_close **out)
{
    struct compact_close *close = NULL;
    const unsigned char *p;
    uint32_t len = 0;

    for (size_t i = 0; close == NULL && i < c->close_count; i++)
        if (c->closes[i].gsn == frame->gsn)
            close = &c->closes[i];
    if (close == NULL) {
        close = push_close(c);
        if (close == NULL)
            return fail_nomem(c);
        close->txid_edit = frame->txid_edit;
        close->txid_count = frame->txid_count;
        close->gsn = frame->gsn;
        if (frame_field(frame, FRAME_FIELD_VOID_RUNS, &p, &len) == ARMDB_OK &&
            len >= 16) {
            close->void_runs = bump_alloc(&c->records, len);
            if (close->void_runs == NULL)
                return fail_nomem(c);
            for (uint32_t i = 0; i < len / 8; i++)
                close->void_runs[i] = adb_get_u64(p + 8 * (size_t)i);
            close->void_run_count = join_runs(close->void_runs, len / 16);
        }
    }
    close->input = close->input || input;
    if (out != NULL)
        *out = close;
    return ARMDB_OK;
}

static const struct compact_close *find_close(const struct compaction *c,
                                              const struct frame *frame)
{
    for (size_t i = 0; i < c->close_count; i++)
        if (c->closes[i].txid_edit == frame->txid_edit &&
            c->closes[i].txid_count == frame->txid_count)
            return &c->closes[i];
    return NULL;
}

static enum armdb_rc load_closes(struct compaction *c)
{
    for (size_t i = 0; i < c->manifest.close_count; i++) {
        const struct manifest_close *from = &c->manifest.closes[i];
        struct compact_close *close = push_close(c);

        if (close == NULL)
            return fail_nomem(c);
        close->txid_edit = from->txid_edit;
        close->txid_count = from->txid_count;
        close->gsn = from->gsn;
        close->void_runs = from->void_runs;
        close->void_run_count = from->void_run_count;
    }
    return ARMDB_OK;
}

static enum armdb_rc search_frame(void *arg, const struct frame *frame, uint64_t offset)
{
    struct compaction *c = arg;
    enum armdb_rc rc = compact_pace(c, frame->body_len);

    (void)offset;
    if (rc == ARMDB_OK && frame->kind == FRAME_CLOSE && !is_aborted(c, frame->gsn))
        rc = note_close(c, frame, false, NULL);
    return rc == ARMDB_OK ? ARMDB_DONE : rc;
}

/* Up to where the bytes of a listed segment are on the disk. */
static uint64_t durable_end(const struct compaction *c,
                            const struct manifest_segment *listed)
{
    struct shard *shard = &c->store->log.shards[listed->shard];
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

static enum armdb_rc scan_listed(struct compaction *c,
                                 const struct manifest_segment *listed,
                                 const struct scan_visitor *visitor,
                                 struct scan_result *result)
{
    const struct adb_io_ops *ops = c->store->io->ops;
    const struct segment *segment = segtab_get(
        &c->store->log.segments, log_slot(c->store->log.slot_base, listed->number));
    struct adb_file *file = NULL;
    enum armdb_rc rc;

    if (segment == NULL)
        return ARMDB_OK;
    rc = ops->file_open(c->store->dir, segment->name, 0, &file, c->err);
    if (rc == ARMDB_OK)
        rc = scan_segment(file, segment->name, &segment->header, durable_end(c, listed),
                          visitor, result, c->err);
    if (file != NULL)
        ops->file_close(file);
    return rc;
}

/* Do frames of a sealed segment end before its length, not by a SEAL? */
static bool is_cut_short(const struct scan_result *result, uint64_t length)
{
    return result->end < length && !result->sealed &&
           !(result->clean && length - result->end < FRAME_ALIGNMENT);
}

/* Finds the CLOSE of every chunk in the inputs' shards. */
static enum armdb_rc search_closes(struct compaction *c)
{
    const struct scan_visitor visitor = {.arg = c, .frame = search_frame};
    enum armdb_rc rc = ARMDB_OK;

    for (size_t i = 0; rc == ARMDB_OK && i < c->manifest.segment_count; i++) {
        const struct manifest_segment *listed = &c->manifest.segments[i];
        struct scan_result result;
        bool same_shard = false;

        for (size_t k = 0; k < c->input_count; k++)
            same_shard = same_shard || c->inputs[k]->header.shard == listed->shard;
        if (!same_shard || listed->kind != SEGMENT_LOG)
            continue;
        memset(&result, 0, sizeof result);
        rc = scan_listed(c, listed, &visitor, &result);
        if (listed->sealed && is_cut_short(&result, listed->length))
            c->closes_damaged = true;
    }
    c->closes_known = rc == ARMDB_OK;
    return rc;
}

/* ---- Frames and records ---- */

static enum armdb_rc note_verdict(struct compaction *c, const struct frame *frame)
{
    uint64_t *grown;

    if (frame->outcome != FRAME_OUTCOME_COMMIT)
        return ARMDB_OK; /* aborts are in the manifest */
    grown = adb_realloc(ADB_MEM_MISC, c->commits, (c->commit_count + 1) * sizeof *grown);
    if (grown == NULL)
        return fail_nomem(c);
    c->commits = grown;
    grown[c->commit_count++] = frame->arg_a;
    return ARMDB_OK;
}

static enum armdb_rc read_frame(void *arg, const struct frame *frame, uint64_t offset)
{
    struct compaction *c = arg;
    const struct compact_close *close = NULL;
    enum armdb_rc rc = compact_pace(c, frame->body_len + frame_head_len(frame));

    (void)offset;
    if (rc != ARMDB_OK)
        return rc;
    c->gsn = frame->gsn;
    c->void_run_count = 0;
    switch (frame->kind) {
    case FRAME_SEAL:
        return ARMDB_DONE;
    case FRAME_VERDICT:
        rc = note_verdict(c, frame);
        return rc == ARMDB_OK ? ARMDB_DONE : rc;
    case FRAME_MOVED:
        return ARMDB_OK;
    case FRAME_COMMIT:
        return is_aborted(c, frame->gsn) ? ARMDB_DONE : ARMDB_OK;
    case FRAME_CLOSE:
        if (is_aborted(c, frame->gsn))
            return ARMDB_DONE;
        rc = note_close(c, frame, true, &close);
        break;
    case FRAME_CHUNK:
        close = find_close(c, frame);
        if (close == NULL && !c->closes_known) {
            c->closes_wanted = true;
            return ARMDB_BUSY;
        }
        break;
    }
    if (rc != ARMDB_OK)
        return rc;
    if (close == NULL && c->closes_damaged)
        return ADB_FAIL(ARMDB_CORRUPT, c->err,
                        "%s holds a part of a transaction whose end may stand in a "
                        "damaged segment: it is not compacted",
                        c->reading->name);
    if (close == NULL)
        return ARMDB_DONE; /* a transaction that never ended */
    c->gsn = close->gsn;
    c->void_runs = close->void_runs;
    c->void_run_count = close->void_run_count;
    return ARMDB_OK;
}

static bool is_void(const struct compaction *c, const struct record *record)
{
    if ((record->flags & RECORD_HAS_ORDINAL) == 0)
        return false;
    for (uint32_t i = 0; i < c->void_run_count; i++)
        if (record->ordinal >= c->void_runs[2 * i] &&
            record->ordinal <= c->void_runs[2 * i + 1])
            return true;
    return false;
}

static enum armdb_rc keep_record(struct compaction *c, const struct record *record,
                                 struct tab *tab, uint64_t location, uint64_t gsn)
{
    struct record copy = *record;
    struct moved *moved;

    if (c->moved_count == c->moved_capacity) {
        size_t capacity = c->moved_capacity * 2 + 256;
        struct moved *grown =
            adb_realloc(ADB_MEM_MISC, c->moved, capacity * sizeof *grown);

        if (grown == NULL)
            return fail_nomem(c);
        c->moved = grown;
        c->moved_capacity = capacity;
    }
    moved = &c->moved[c->moved_count];
    memset(moved, 0, sizeof *moved);
    copy.flags |= RECORD_HAS_GSN | RECORD_HAS_ORDINAL;
    if ((record->flags & RECORD_HAS_ORDINAL) == 0)
        copy.ordinal = 0;
    copy.gsn = gsn;
    moved->tab = tab;
    moved->table = record->table;
    moved->gsn = gsn;
    moved->ordinal = copy.ordinal;
    moved->from = location;
    moved->key_len = (uint32_t)record->key_len;
    moved->value_len =
        record->kind == RECORD_PUT ? (uint32_t)record->value_len : VERSION_DELETED;
    moved->size = record_size(&copy);
    moved->bytes = bump_alloc(&c->records, moved->size);
    if (moved->bytes == NULL)
        return fail_nomem(c);
    record_encode(&copy, moved->bytes, &moved->head_check_at);
    c->moved_count++;
    return ARMDB_OK;
}

static enum armdb_rc read_record(void *arg, const struct frame *frame,
                                 const struct record *record, uint64_t offset)
{
    struct compaction *c = arg;
    uint64_t location = location_make(c->reading->slot, offset);
    uint64_t gsn = frame->kind == FRAME_MOVED ? record->gsn : c->gsn;
    struct tab *tab = NULL;
    enum fate fate;
    enum armdb_rc rc;

    if (record->kind != RECORD_PUT && record->kind != RECORD_DELETE)
        return ADB_FAIL(ARMDB_VERSION, c->err, "%s holds a record of an unknown kind",
                        c->reading->name);
    if (is_void(c, record))
        return ARMDB_OK;
    rc = find_tab(c, record->table, &tab);
    if (rc != ARMDB_OK || tab == NULL)
        return rc;
    rc = find_fate(c, tab, record, location, gsn, &fate);
    if (rc != ARMDB_OK || fate == FATE_DEAD)
        return rc;
    return keep_record(c, record, tab, location, gsn);
}

static enum armdb_rc read_input(struct compaction *c, struct segment *input)
{
    const struct scan_visitor visitor = {
        .arg = c, .frame = read_frame, .record = read_record};
    struct scan_result result;
    struct manifest_segment *listed = manifest_find(&c->manifest, input->header.number);
    enum armdb_rc rc;

    memset(&result, 0, sizeof result);
    c->reading = input;
    rc = scan_listed(c, listed, &visitor, &result);
    stat_add(&c->store->compactor.bytes_read, result.end);
    if (rc == ARMDB_OK && is_cut_short(&result, input->length)) {
        input->damaged = true;
        rc = ADB_FAIL(ARMDB_CORRUPT, c->err,
                      "segment %s is damaged at offset %llu (%s): it is not compacted",
                      input->name, (unsigned long long)result.end, result.why);
    }
    return rc;
}

/* ---- All of it ---- */

static int compare_moved(const void *a, const void *b)
{
    const struct moved *x = a;
    const struct moved *y = b;
    uint32_t shorter = x->key_len < y->key_len ? x->key_len : y->key_len;
    int order;

    if (x->table != y->table)
        return x->table < y->table ? -1 : 1;
    order = memcmp(moved_key(x), moved_key(y), shorter);
    if (order != 0)
        return order;
    if (x->key_len != y->key_len)
        return x->key_len < y->key_len ? -1 : 1;
    if (x->gsn != y->gsn)
        return x->gsn > y->gsn ? -1 : 1; /* the newest first */
    return x->ordinal > y->ordinal ? -1 : x->ordinal < y->ordinal;
}

enum armdb_rc compact_gather(struct compaction *c)
{
    enum armdb_rc rc = load_closes(c);

    for (size_t i = 0; rc == ARMDB_OK && i < c->input_count; i++) {
        rc = read_input(c, c->inputs[i]);
        if (rc == ARMDB_BUSY && c->closes_wanted && !c->closes_known) {
            rc = search_closes(c);
            /* From the first input on: what was read of this one is in the list. */
            c->moved_count = 0;
            c->commit_count = 0;
            i = SIZE_MAX;
        }
    }
    /* C2: what was found superseded, or committed by its rule's verdict alone, was so in
     * memory; before the inputs go, the verdicts that say so are on the disk. */
    if (rc == ARMDB_OK && !ADB_PLANTED("superseded_not_durable"))
        rc = log_sync_all(&c->store->log, c->err);
    if (rc != ARMDB_OK)
        return rc;
    if (c->moved_count > 1)
        qsort(c->moved, c->moved_count, sizeof *c->moved, compare_moved);
    return compact_drop_tombstones(c);
}

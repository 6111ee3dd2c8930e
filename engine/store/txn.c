/* txn.c - a transaction's life: begin, savepoints, prepare, commit, rollback, settle.
 *
 *   ACTIVE --prepare--> PREPARED --commit--> committed --settle--> gone
 *      ^                    |
 *      +-- a further write -+  (the prepared frame gets a durable abort verdict first)
 *
 * Prepare writes one COMMIT frame into the home shard of the first key: records sorted
 * by key, one per key, and waits as the sync mode asks. Commit is one store of the
 * stamp under the txn lock: from then on snapshots see it. The transaction object
 * stays, since versions point to it, until no older snapshot is left and its frame is
 * durable; then its versions are settled one by one and it goes through the epoch.
 *
 * A prepared transaction that is parked (SQLite's COMMIT got BUSY elsewhere) holds up
 * nobody: W needs bytes, not verdicts, and stamps are taken at commit. */
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/base/plant.h"
#include "engine/log/location.h"
#include "engine/store/internal.h"
#include "engine/store/spill.h"

/* So many commits may wait for a background sync before it is asked for. */
enum { UNSETTLED_MANY = 4096 };

/* ---- Begin and end ---- */

void txn_destroy(struct txn *txn)
{
    bump_fini(&txn->writes);
    bump_fini(&txn->records);
    spill_fini(txn);
    adb_free(ADB_MEM_TXN, txn->savepoints);
    adb_free(ADB_MEM_TXN, txn->tabs);
    adb_free(ADB_MEM_TXN, txn->swaps);
    adb_free(ADB_MEM_TXN, txn);
}

static void free_txn(void *context, struct epoch_item *item)
{
    (void)context;
    txn_destroy((struct txn *)(void *)item);
}

enum armdb_rc armdb_begin(struct armdb_session *session, struct armdb_error *err)
{
    enum armdb_rc rc = session_check(session, err);
    struct armdb *store = session->store;
    struct txn *txn;

    if (rc != ARMDB_OK || session->txn != NULL)
        return rc;
    txn = adb_alloc_zero(ADB_MEM_TXN, sizeof *txn);
    if (txn == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory for a transaction");
    atomic_init(&txn->stamp, 0);
    txn->session = session;
    txn->sync = ARMDB_SYNC_OFF;
    adb_mutex_lock(&store->txn_lock);
    txn->id = ++store->next_txn;
    session->open_txn = txn->id;
    adb_mutex_unlock(&store->txn_lock);
    session->txn = txn;
    session->txn_snapshot = false;
    return ARMDB_OK;
}

static bool is_in_group(const struct armdb_session *session, uint64_t group)
{
    for (int i = 0; i < SESSION_GROUPS_MAX; i++)
        if (session->groups[i] == group)
            return true;
    return false;
}

/* Another open transaction of the group; NULL when there is none. */
static const struct armdb_session *find_in_group_locked(
    struct armdb *store, const struct armdb_session *session, uint64_t group)
    ADB_REQUIRES(store->txn_lock)
{
    for (const struct armdb_session *s = store->sessions; s != NULL; s = s->next)
        if (s != session && s->open_txn != 0 && is_in_group(s, group))
            return s;
    return NULL;
}

/* A fifth group of one transaction is not noted: its others do not wait for this one. */
static void join_group_locked(struct armdb *store, struct armdb_session *session,
                              uint64_t group) ADB_REQUIRES(store->txn_lock)
{
    adb_mutex_assert_held(&store->txn_lock);
    for (int i = 0; i < SESSION_GROUPS_MAX && !is_in_group(session, group); i++)
        if (session->groups[i] == 0)
            session->groups[i] = group;
}

static void leave_groups_locked(struct armdb *store, struct armdb_session *session)
    ADB_REQUIRES(store->txn_lock)
{
    adb_mutex_assert_held(&store->txn_lock);
    session->open_txn = 0;
    memset(session->groups, 0, sizeof session->groups);
}

enum armdb_rc armdb_begin_in_group(struct armdb_session *session, uint64_t group,
                                   struct armdb_error *err)
{
    struct armdb *store = session->store;
    const struct armdb_session *other;
    enum armdb_rc rc;

    /* The lock was let go before the commit was published: until it is, what that commit
     * changed would look unchanged. */
    adb_mutex_lock(&store->txn_lock);
    other = find_in_group_locked(store, session, group);
    if (other != NULL) {
        session->busy_txn = other->open_txn;
        session->busy_any = false;
    }
    adb_mutex_unlock(&store->txn_lock);
    if (other != NULL)
        return ADB_FAIL(ARMDB_BUSY, err, "another writer is ending its transaction");
    if (session->txn == NULL && armdb_snapshot_is_stale(session))
        return ADB_FAIL(ARMDB_BUSY_SNAPSHOT, err,
                        "others have committed since this transaction's first read");
    rc = armdb_begin(session, err);
    if (rc != ARMDB_OK)
        return rc;
    adb_mutex_lock(&store->txn_lock);
    join_group_locked(store, session, group);
    adb_mutex_unlock(&store->txn_lock);
    return ARMDB_OK;
}

bool armdb_in_transaction(const struct armdb_session *session)
{
    return session->txn != NULL;
}

void armdb_expect_write(struct armdb_session *session)
{
    session->expects_write = true;
}

void armdb_session_keeps_house(struct armdb_session *session)
{
    session->keeps_house = true;
}

bool armdb_table_has_writes(const struct armdb_session *session,
                            const struct armdb_table *table)
{
    if (session->txn != NULL)
        for (size_t i = 0; i < session->txn->swap_count; i++)
            if (session->txn->swaps[i].old == table->tab ||
                session->txn->swaps[i].fresh == table->tab)
                return true;
    if (session->txn != NULL)
        for (size_t i = 0; i < session->txn->tab_count; i++)
            if (session->txn->tabs[i].tab == table->tab)
                return session->txn->tabs[i].writes > 0;
    return false;
}

/* The session has no transaction any more; who waited for it may go on. */
static void leave_txn(struct armdb_session *session)
{
    if (session->txn_snapshot)
        armdb_snapshot_release(session);
    session->txn_snapshot = false;
    session->txn = NULL;
    session->expects_write = false;
    session->stage_generation++;
}

/* Versions of this session were popped: waiters try again. txn lock held. */
static void wake_waiters_locked(struct armdb *store) ADB_REQUIRES(store->txn_lock)
{
    if (store->waiters > 0)
        adb_cond_broadcast(&store->txn_ended);
}

/* ---- Undo and savepoints ---- */

void txn_undo_to(struct armdb_session *session, struct txn_write *last)
{
    struct txn *txn = session->txn;

    epoch_enter(session->slot);
    while (txn->last != last) {
        struct txn_write *write = txn->last;

        if (!spill_void(txn, write))
            txn->doomed = true;
        write_undo(write);
        if (txn->swap_count > 0 && write->tab == session->store->catalog)
            newid_undone(session, write);
        for (size_t i = 0; i < txn->tab_count; i++)
            if (txn->tabs[i].tab == write->tab && write->kind != WRITE_LOCK)
                txn->tabs[i].writes--;
        txn->last = write->previous;
        txn->write_count--;
    }
    epoch_leave(session->slot);
    session->stage_generation++;
    adb_mutex_lock(&session->store->txn_lock);
    wake_waiters_locked(session->store);
    adb_mutex_unlock(&session->store->txn_lock);
}

enum armdb_rc armdb_savepoint(struct armdb_session *session, int id,
                              struct armdb_error *err)
{
    struct txn *txn;
    struct savepoint *savepoint;
    enum armdb_rc rc =
        armdb_begin(session, err); /* a store that is only read has them, too */

    if (rc == ARMDB_OK && session->txn->state == TXN_PREPARED)
        rc = txn_for_write(session, &txn, err);
    if (rc != ARMDB_OK)
        return rc;
    txn = session->txn;
    /* Several tables of one store announce the same savepoint: it counts once. */
    if (txn->savepoint_count > 0 && txn->savepoints[txn->savepoint_count - 1].id >= id)
        return ARMDB_OK;
    if (txn->savepoint_count == txn->savepoint_capacity) {
        size_t capacity = txn->savepoint_capacity * 2 + 4;
        struct savepoint *grown =
            adb_realloc(ADB_MEM_TXN, txn->savepoints, capacity * sizeof *grown);

        if (grown == NULL)
            return ADB_FAIL(ARMDB_NOMEM, err, "out of memory for a savepoint");
        txn->savepoints = grown;
        txn->savepoint_capacity = capacity;
    }
    savepoint = &txn->savepoints[txn->savepoint_count++];
    savepoint->id = id;
    savepoint->last = txn->last;
    return ARMDB_OK;
}

enum armdb_rc armdb_savepoint_release(struct armdb_session *session, int id,
                                      struct armdb_error *err)
{
    struct txn *txn = session->txn;
    enum armdb_rc rc = session_check(session, err);

    if (rc != ARMDB_OK || txn == NULL)
        return rc;
    while (txn->savepoint_count > 0 && txn->savepoints[txn->savepoint_count - 1].id >= id)
        txn->savepoint_count--;
    return ARMDB_OK;
}

enum armdb_rc armdb_savepoint_rollback(struct armdb_session *session, int id,
                                       struct armdb_error *err)
{
    enum armdb_rc rc = session_check(session, err);
    struct txn *txn = session->txn;
    struct txn_write *last = NULL;

    if (rc != ARMDB_OK || txn == NULL)
        return rc;
    if (txn->state == TXN_PREPARED) {
        rc = txn_for_write(session, &txn, err);
        if (rc != ARMDB_OK)
            return rc;
    }
    while (txn->savepoint_count > 0 && txn->savepoints[txn->savepoint_count - 1].id > id)
        txn->savepoint_count--;
    /* An id never seen stands for the moment the transaction began. */
    if (txn->savepoint_count > 0 && txn->savepoints[txn->savepoint_count - 1].id == id)
        last = txn->savepoints[txn->savepoint_count - 1].last;
    txn_undo_to(session, last);
    return ARMDB_OK;
}

/* ---- Verdicts ---- */

static enum armdb_rc put_verdict(struct armdb *store, struct txn *txn,
                                 enum frame_outcome outcome, struct armdb_error *err)
{
    struct frame frame = {.kind = FRAME_VERDICT};
    enum armdb_rc rc;

    frame.txid_edit = store->log.txid_edit;
    frame.txid_count = txn->txid_count;
    frame.arg_a = txn->undecided.gsn;
    frame.arg_b = txn->segment_number;
    frame.outcome = outcome;
    rc = log_append(&store->log, txn->shard, &frame, NULL, 0, NULL, NULL, err);
    if (rc != ARMDB_OK)
        return rc;
    /* An abort is durable in every sync mode: nothing later may ever carry the target
     * to the disk without it. */
    rc = log_cover(&store->log, txn->shard, frame.gsn,
                   (outcome == FRAME_OUTCOME_ABORT || txn->sync == ARMDB_SYNC_FULL) &&
                       !ADB_PLANTED("verdict_not_synced"),
                   err);
    if (rc == ARMDB_OK && outcome == FRAME_OUTCOME_ABORT)
        log_note_abort(&store->log, txn->undecided.gsn);
    return rc;
}

/* Writes the verdict of a prepared transaction. Without it only recovery can tell what
 * has become of it: whatever the failure is, lack of memory too, the store is wounded. */
static enum armdb_rc write_verdict(struct armdb *store, struct txn *txn,
                                   enum frame_outcome outcome, struct armdb_error *err)
{
    struct armdb_error own;
    enum armdb_rc rc;

    if (outcome == FRAME_OUTCOME_ABORT && ADB_PLANTED("abort_verdict_lost"))
        return ARMDB_OK;
    if (err == NULL)
        err = &own;
    rc = put_verdict(store, txn, outcome, err);
    if (rc != ARMDB_OK)
        log_wound(&store->log, err);
    return rc;
}

/* The staged record as it was before it was bound to a place. */
static enum armdb_rc restage(struct txn_write *write)
{
    struct record record;
    unsigned char *copy;
    size_t head_check_at;

    if (record_decode(write->record, write->record_size, &record) != ARMDB_OK)
        return ARMDB_INTERNAL;
    copy = bump_alloc(&write->txn->records, write->record_size);
    if (copy == NULL)
        return ARMDB_NOMEM;
    record_encode(&record, copy, &head_check_at);
    write->record = copy;
    atomic_store_explicit(&arena_version(write->tab->arena, write->version)->location,
                          location_of_staged(copy), memory_order_release);
    return ARMDB_OK;
}

/* Back from PREPARED to ACTIVE: the prepared frame must never count. */
static enum armdb_rc reactivate(struct armdb_session *session, struct armdb_error *err)
{
    struct txn *txn = session->txn;
    enum armdb_rc rc;

    if (txn->undecided.gsn != 0) {
        rc = write_verdict(session->store, txn, FRAME_OUTCOME_ABORT, err);
        if (rc != ARMDB_OK)
            return rc;
        log_decided(&session->store->log, txn->shard, &txn->undecided);
        txn->undecided.gsn = 0;
        for (struct txn_write *write = txn->last; write != NULL;
             write = write->previous) {
            struct version *version = arena_version(write->tab->arena, write->version);

            if (write->kind == WRITE_LOCK || write->spilled ||
                location_is_staged(
                    atomic_load_explicit(&version->location, memory_order_relaxed)))
                continue;
            rc = restage(write);
            if (rc != ARMDB_OK)
                return ADB_FAIL(rc, err, "out of memory in a transaction");
        }
    }
    txn->state = TXN_ACTIVE;
    session->stage_generation++;
    return ARMDB_OK;
}

enum armdb_rc txn_for_write(struct armdb_session *session, struct txn **out,
                            struct armdb_error *err)
{
    enum armdb_rc rc;

    *out = NULL;
    rc = log_writable(&session->store->log, err);
    if (rc == ARMDB_OK)
        rc = armdb_begin(session, err);
    if (rc == ARMDB_OK && session->txn->state == TXN_PREPARED)
        rc = reactivate(session, err);
    if (rc == ARMDB_OK && !session->txn_snapshot) {
        rc = armdb_snapshot_acquire(session, err);
        session->txn_snapshot = rc == ARMDB_OK;
    }
    if (rc == ARMDB_OK)
        *out = session->txn;
    return rc;
}

/* ---- Prepare ---- */

/* A write that goes to the log, with the start of its key for sorting. */
struct final {
    uint64_t digest;
    struct txn_write *write;
};

/* Only the newest write of a key counts, and a row that came and went does not. */
static bool is_final(const struct txn_write *write)
{
    return !write->superseded && write->kind != WRITE_LOCK &&
           (write->kind != WRITE_DELETE || write->committed_live);
}

static uint64_t key_digest(const struct node *node)
{
    unsigned char first[8] = {0};
    uint32_t len = node_key_len(node);

    memcpy(first, node->key, len < sizeof first ? len : sizeof first);
    return adb_get_u64_be(first);
}

static int compare_finals(const void *a, const void *b)
{
    const struct final *x = a;
    const struct final *y = b;
    const struct node *p;
    const struct node *q;
    uint32_t p_len;
    uint32_t q_len;
    int order;

    if (x->write->tab->id != y->write->tab->id)
        return x->write->tab->id < y->write->tab->id ? -1 : 1;
    if (x->digest != y->digest)
        return x->digest < y->digest ? -1 : 1;
    p = arena_node(x->write->tab->arena, x->write->node);
    q = arena_node(y->write->tab->arena, y->write->node);
    p_len = node_key_len(p);
    q_len = node_key_len(q);
    order = memcmp(p->key, q->key, p_len < q_len ? p_len : q_len);
    if (order != 0)
        return order;
    return p_len < q_len ? -1 : p_len > q_len ? 1 : 0;
}

/* Fills `finals` (room for every write) in key order; returns their number. */
static size_t gather_finals(const struct txn *txn, struct final *finals)
{
    size_t count = 0;
    bool sorted = true;

    for (struct txn_write *write = txn->last; write != NULL; write = write->previous) {
        if (!is_final(write))
            continue;
        finals[count].digest = key_digest(arena_node(write->tab->arena, write->node));
        finals[count].write = write;
        if (count > 0 && sorted && compare_finals(&finals[count - 1], &finals[count]) > 0)
            sorted = false;
        count++;
    }
    if (!sorted)
        qsort(finals, count, sizeof *finals, compare_finals);
    return count;
}

uint32_t shard_of_key(const struct armdb *store, const void *key, size_t key_len)
{
    const unsigned char *bytes = key;
    uint32_t bits = store->superblock.shard_prefix_bits;
    unsigned char last = 0;
    uint64_t hash;

    if (bits == 0 || (uint64_t)key_len * 8 <= bits)
        return (uint32_t)(adb_check_raw(bytes, key_len) % store->superblock.shards);
    hash = adb_check_raw(bytes, bits / 8);
    if (bits % 8 != 0) {
        last = (unsigned char)(bytes[bits / 8] & (0xff00u >> (bits % 8)));
        hash = adb_hash_seeded(&last, 1, hash);
    }
    return (uint32_t)(hash % store->superblock.shards);
}

uint32_t txn_home_shard(const struct armdb *store, const struct txn_write *write)
{
    const struct node *node = arena_node(write->tab->arena, write->node);

    return shard_of_key(store, node->key, node_key_len(node));
}

/* Appends the frame of the finals. */
static enum armdb_rc append_commit(struct armdb *store, struct txn *txn,
                                   const struct final *finals, size_t count,
                                   struct log_record *records, struct armdb_error *err)
{
    struct frame frame = {.kind = FRAME_COMMIT};

    for (size_t i = 0; i < count; i++) {
        struct txn_write *write = finals[i].write;

        records[i].bytes = write->record;
        records[i].size = write->record_size;
        records[i].head_check_at = write->head_check_at;
        records[i].ordinal_bytes = 0;
        records[i].has_value_check = write->kind == WRITE_PUT;
        records[i].location = &arena_version(write->tab->arena, write->version)->location;
    }
    txn->txid_count =
        atomic_fetch_add_explicit(&store->log.txid_count, 1, memory_order_relaxed) + 1;
    frame.doubt = (enum frame_doubt)txn->doubt;
    frame.txid_edit = store->log.txid_edit;
    frame.txid_count = txn->txid_count;
    txn->shard = txn_home_shard(store, finals[0].write);
    return log_append(&store->log, txn->shard, &frame, records, count, &txn->undecided,
                      &txn->segment_number, err);
}

/* Puts a transaction that fits into memory on the log as one frame. *count is the
 * number of its records; none means that there is nothing to write. */
static enum armdb_rc append_whole(struct armdb *store, struct txn *txn, size_t *count,
                                  struct armdb_error *err)
{
    enum armdb_rc rc = ARMDB_OK;
    struct final one_final;
    struct log_record one_record;
    struct final *finals = &one_final;
    struct log_record *records = &one_record;

    *count = 0;
    if (txn->write_count > 1) {
        finals = adb_alloc(ADB_MEM_TXN, txn->write_count * sizeof *finals);
        records = adb_alloc(ADB_MEM_TXN, txn->write_count * sizeof *records);
        if (finals == NULL || records == NULL) {
            rc = ADB_FAIL(ARMDB_NOMEM, err, "out of memory preparing a transaction");
            goto out;
        }
    }
    *count = gather_finals(txn, finals);
    if (*count > 0)
        rc = append_commit(store, txn, finals, *count, records, err);
out:
    if (finals != &one_final)
        adb_free(ADB_MEM_TXN, finals);
    if (records != &one_record)
        adb_free(ADB_MEM_TXN, records);
    return rc;
}

static enum armdb_rc prepare(struct armdb_session *session, enum armdb_doubt doubt,
                             struct armdb_error *err)
{
    struct armdb *store = session->store;
    struct txn *txn = session->txn;
    enum armdb_rc rc;
    size_t count = 1;

    if (txn->doomed)
        return ADB_FAIL(ARMDB_NOMEM, err,
                        "out of memory undoing part of this transaction; roll it back");
    txn->doubt = doubt;
    if (spill_has_chunks(txn))
        rc = spill_close(session, err);
    else
        rc = append_whole(store, txn, &count, err);
    if (rc != ARMDB_OK)
        return rc;
    txn->state = TXN_PREPARED;
    if (count == 0)
        return ARMDB_OK;
    if (txn->sync != ARMDB_SYNC_FULL)
        keeper_start(store);
    return log_cover(&store->log, txn->shard, txn->undecided.gsn,
                     txn->sync == ARMDB_SYNC_FULL, err);
}

enum armdb_rc armdb_prepare(struct armdb_session *session, enum armdb_doubt doubt,
                            struct armdb_error *err)
{
    enum armdb_rc rc = session_check(session, err);
    struct txn *txn = session->txn;
    uint64_t began;

    if (rc != ARMDB_OK || txn == NULL || txn->state == TXN_PREPARED)
        return rc;
    began = adb_mono_ns();
    rc = prepare(session, doubt, err);
    txn->prepare_ns = adb_mono_ns() - began;
    return rc;
}

/* ---- Commit ---- */

/* Frees keys that were only locked, counts rows and bytes; tells whether anything was
 * written at all. Turns the list round on its way: write hooks are told of the first
 * write first. Inside an epoch. */
static bool account_writes(struct armdb *store, struct txn *txn)
{
    bool wrote = false;
    uint64_t bytes = 0;
    struct txn_write *newer = NULL;
    struct txn_write *older;

    for (struct txn_write *write = txn->last; write != NULL; write = older) {
        bool live = write->kind == WRITE_PUT;
        const struct node *node;

        older = write->previous;
        write->previous = newer;
        newer = write;
        if (write->superseded)
            continue;
        if (write->kind == WRITE_LOCK) {
            write_undo(write);
            write->superseded = true; /* settling passes it by */
            continue;
        }
        wrote = true;
        node = arena_node(write->tab->arena, write->node);
        if (is_final(write))
            bytes += node_key_len(node);
        if (live && !write->committed_live)
            (void)atomic_fetch_add_explicit(&write->tab->live_rows, 1,
                                            memory_order_relaxed);
        if (!live && write->committed_live)
            (void)atomic_fetch_sub_explicit(&write->tab->live_rows, 1,
                                            memory_order_relaxed);
        if (live) {
            struct version *version = arena_version(write->tab->arena, write->version);
            uint64_t location =
                atomic_load_explicit(&version->location, memory_order_relaxed);
            struct segment *segment =
                segtab_get(&store->log.segments, location_slot(location));

            bytes += version->value_len;
            if (segment != NULL)
                /* Pairs with the acquire of who reports it beside the length. */
                (void)atomic_fetch_add_explicit(
                    &segment->live_bytes,
                    record_bytes(write->tab, node, version->value_len),
                    memory_order_release);
        }
    }
    stat_bump(&txn->session->bytes_user, bytes);
    txn->last = newer;
    return wrote;
}

/* The commit itself: the transaction gets its place in the order of what is visible. */
static uint64_t publish_locked(struct armdb *store, struct txn *txn)
    ADB_REQUIRES(store->txn_lock)
{
    uint64_t stamp = atomic_load_explicit(&store->visible, memory_order_relaxed) + 1;

    /* Pairs with the acquire in version_visible(). A snapshot that has read the new value
     * of `visible` also sees the stamp. */
    atomic_store_explicit(&txn->stamp, stamp, memory_order_release);
    for (size_t i = 0; i < txn->tab_count; i++)
        if (txn->tabs[i].writes > 0)
            atomic_store_explicit(&txn->tabs[i].tab->changed, stamp,
                                  memory_order_relaxed);
    atomic_store_explicit(&store->visible, stamp, memory_order_seq_cst);
    if (!txn->session->keeps_house)
        /* Pairs with the acquire in armdb_snapshot_is_stale(). */
        atomic_store_explicit(&store->noticed, stamp, memory_order_release);
    if (store->committed_last != NULL)
        store->committed_last->next_committed = txn;
    else
        store->committed_first = txn;
    store->committed_last = txn;
    stat_add(&store->unsettled, 1);
    newid_committed(txn);
    newid_left(txn);
    return stamp;
}

enum armdb_rc armdb_commit(struct armdb_session *session, struct armdb_error *err)
{
    enum armdb_rc rc = session_check(session, err);
    struct armdb *store = session->store;
    struct txn *txn = session->txn;
    uint64_t stamp = 0;
    uint64_t bytes;
    uint64_t began;
    bool wrote;
    bool queued;
    bool hooked = false;

    if (rc != ARMDB_OK || txn == NULL)
        return rc;
    began = adb_mono_ns();
    if (txn->state == TXN_PREPARED)
        began -= txn->prepare_ns; /* what others did in between is not ours */
    else
        rc = prepare(session, ARMDB_DOUBT_COMMIT, err);
    if (rc != ARMDB_OK)
        return rc;
    wrote = txn->undecided.gsn != 0;
    if (wrote && txn->doubt == ARMDB_DOUBT_ABORT) {
        /* Without it recovery takes the transaction for aborted. */
        rc = write_verdict(store, txn, FRAME_OUTCOME_COMMIT, err);
        if (rc != ARMDB_OK)
            return rc;
    }
    epoch_enter(session->slot);
    queued = account_writes(store, txn);
    epoch_leave(session->slot);
    spill_end(store, txn, txn->undecided.gsn);
    bytes = txn->records.total;
    bump_fini(&txn->records); /* the log has them */
    if (wrote)
        log_decided(&store->log, txn->shard, &txn->undecided);
    if (!queued) {
        newid_left(txn);
        newid_forgotten(txn);
        epoch_retire(store->epoch, &txn->retired, free_txn, NULL);
    }
    adb_mutex_lock(&store->txn_lock);
    if (queued) {
        stamp = publish_locked(store, txn);
        hooked = hooks_note_locked(store, txn);
    }
    leave_groups_locked(store, session);
    wake_waiters_locked(store);
    adb_mutex_unlock(&store->txn_lock);
    /* From here on whoever settles may free the transaction. */
    stat_add(&store->stats.commits, 1);
    leave_txn(session);
    session_snapshot_advance(session);
    if (hooked)
        hooks_deliver(session, stamp);
    store_settle(store, session->slot);
    if (wrote)
        compactor_hold_back(store, bytes);
    if (wrote)
        histogram_add(&store->latencies.commit[session->stripe], adb_mono_ns() - began);
    /* Also when there were sealed segments at the opening: not before something is
     * written, for who only reads changes nothing. Relaxed: a hint. */
    if (wrote &&
        atomic_load_explicit(&store->log.stats.sealed, memory_order_relaxed) !=
            atomic_load_explicit(&store->compactor.sealed_seen, memory_order_relaxed))
        compactor_wake(store);
    return ARMDB_OK;
}

enum armdb_rc armdb_rollback(struct armdb_session *session, struct armdb_error *err)
{
    enum armdb_rc rc = session_check(session, err);
    struct armdb *store = session->store;
    struct txn *txn = session->txn;

    if (rc != ARMDB_OK || txn == NULL)
        return rc;
    if (txn->state == TXN_PREPARED && txn->undecided.gsn != 0) {
        /* Durable before the keys are free: nobody may build on what could yet come
         * back. When it fails the store is wounded and nobody builds on anything. */
        rc = write_verdict(store, txn, FRAME_OUTCOME_ABORT, err);
        log_decided(&store->log, txn->shard, &txn->undecided);
    }
    txn_undo_to(session, NULL);
    spill_end(store, txn, 0);
    newid_left(txn);
    newid_forgotten(txn);
    adb_mutex_lock(&store->txn_lock);
    leave_groups_locked(store, session);
    wake_waiters_locked(store);
    adb_mutex_unlock(&store->txn_lock);
    stat_add(&store->stats.rollbacks, 1);
    leave_txn(session);
    epoch_retire(store->epoch, &txn->retired, free_txn, NULL);
    store_settle(store, session->slot);
    return rc;
}

/* ---- Settling ---- */

/* The next transaction whose versions may be settled, taken from the queue. */
static struct txn *take_settleable(struct armdb *store)
{
    struct txn *txn;

    adb_mutex_lock(&store->txn_lock);
    txn = store->committed_first;
    if (txn != NULL &&
        ((txn->drops && txn->undecided.gsn > gsn_durable(&store->log.gsn)) ||
         atomic_load_explicit(&txn->stamp, memory_order_relaxed) >
             oldest_snapshot_locked(store)))
        txn = NULL;
    if (txn != NULL) {
        store->committed_first = txn->next_committed;
        if (store->committed_first == NULL)
            store->committed_last = NULL;
        (void)atomic_fetch_sub_explicit(&store->unsettled, 1, memory_order_relaxed);
    }
    adb_mutex_unlock(&store->txn_lock);
    return txn;
}

void store_settle(struct armdb *store, struct epoch_slot *slot)
{
    struct txn *txn;

    if (atomic_load_explicit(&store->unsettled, memory_order_relaxed) >= UNSETTLED_MANY)
        keeper_wake(store); /* they wait for a sync */
    if (!adb_mutex_trylock(&store->settle_lock))
        return; /* somebody is at it */
    while ((txn = take_settleable(store)) != NULL) {
        epoch_enter(slot);
        for (struct txn_write *write = txn->last; write != NULL; write = write->previous)
            write_settle(write, txn->undecided.gsn);
        epoch_leave(slot);
        newid_settled(store, txn);
        epoch_retire(store->epoch, &txn->retired, free_txn, NULL);
    }
    adb_mutex_unlock(&store->settle_lock);
    epoch_collect(store->epoch);
    if (atomic_load_explicit(&store->log.stats.sealed, memory_order_relaxed) !=
        atomic_load_explicit(&store->hinter.sealed_seen, memory_order_relaxed))
        hinter_wake(store);
    if (atomic_load_explicit(&store->has_retired, memory_order_relaxed)) {
        keeper_start(store);
        keeper_wake(store);
    }
}

/* ---- Waiting ---- */

/* The session whose open transaction has this id. */
static struct armdb_session *find_owner_locked(struct armdb *store, uint64_t txn_id)
    ADB_REQUIRES(store->txn_lock)
{
    struct armdb_session *session = store->sessions;

    while (session != NULL && session->open_txn != txn_id)
        session = session->next;
    return session;
}

static bool has_other_open_locked(struct armdb *store,
                                  const struct armdb_session *session)
    ADB_REQUIRES(store->txn_lock)
{
    for (const struct armdb_session *s = store->sessions; s != NULL; s = s->next)
        if (s != session && s->open_txn != 0)
            return true;
    return false;
}

enum armdb_rc armdb_wait(struct armdb_session *session, uint32_t timeout_ms)
{
    enum armdb_rc rc = ARMDB_OK;
    struct armdb *store = session->store;
    uint64_t deadline = adb_mono_ns() + (uint64_t)timeout_ms * UINT64_C(1000000);
    struct armdb_session *owner;

    adb_mutex_lock(&store->txn_lock);
    owner = find_owner_locked(store, session->busy_txn);
    if ((owner == NULL &&
         !(session->busy_any && has_other_open_locked(store, session))) ||
        owner == session)
        goto out;
    /* Waiting for somebody who waits, at last, for this session would never end. */
    for (struct armdb_session *s = owner; s != NULL; s = s->waits_for) {
        if (s->waits_for == session) {
            rc = ARMDB_BUSY;
            goto out;
        }
    }
    session->waits_for = owner;
    store->waiters++;
    if (timeout_ms == 0 ||
        !adb_cond_wait_until(&store->txn_ended, &store->txn_lock, deadline))
        rc = ARMDB_BUSY;
    store->waiters--;
    session->waits_for = NULL;
out:
    adb_mutex_unlock(&store->txn_lock);
    return rc;
}

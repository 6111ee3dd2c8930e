/* write.c - one row: put, insert, delete, lock.
 *
 * A write is staged (its record encoded in the transaction's memory) before any lock
 * is taken, then, under the lock of the key's hash partition, checked in the order
 * that protocol.md fixes:
 *   1. another open transaction's version on top: ARMDB_BUSY;
 *   2. a committed version newer than the snapshot: ARMDB_BUSY_SNAPSHOT, unless nothing
 *      was read with the snapshot yet: then it moves forward;
 *   3. only then existence (insert, delete);
 * and its version is pushed. A refused write leaves nothing behind. */
#include <assert.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/log/location.h"
#include "engine/log/record.h"
#include "engine/store/internal.h"
#include "engine/store/spill.h"

static_assert((uint64_t)ARMDB_KEY_BYTES_MAX == RECORD_KEY_BYTES_MAX &&
                  ARMDB_VALUE_BYTES_MAX == RECORD_VALUE_BYTES_MAX,
              "what may be written can be read");

enum write_mode { MODE_PUT, MODE_INSERT, MODE_DELETE, MODE_LOCK };

struct write_args {
    enum write_mode mode;
    const void *key;
    size_t key_len;
    const void *value;
    size_t value_len;
};

static enum armdb_rc check_args(const struct write_args *args, struct armdb_error *err)
{
    if ((args->key == NULL && args->key_len > 0) ||
        (args->value == NULL && args->value_len > 0))
        return ADB_FAIL(ARMDB_INVALID, err,
                        "a key or value is NULL, its length is not 0");
    if (args->key_len > ARMDB_KEY_BYTES_MAX)
        return ADB_FAIL(ARMDB_TOOBIG, err, "key of %zu bytes: at most %d are allowed",
                        args->key_len, ARMDB_KEY_BYTES_MAX);
    if (args->value_len > ARMDB_VALUE_BYTES_MAX)
        return ADB_FAIL(ARMDB_TOOBIG, err, "row of %zu bytes: at most %u are allowed",
                        args->value_len, ARMDB_VALUE_BYTES_MAX);
    return ARMDB_OK;
}

/* Makes the entry and the encoded record. */
static enum armdb_rc stage(struct txn *txn, struct tab *tab,
                           const struct write_args *args, struct txn_write **out,
                           struct armdb_error *err)
{
    struct txn_write *write = bump_alloc(&txn->writes, sizeof *write);
    struct record record;
    size_t head_check_at;

    *out = write;
    if (write == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory in a transaction");
    memset(write, 0, sizeof *write);
    write->txn = txn;
    write->tab = tab;
    write->statement = txn->session->statement;
    write->hash = hashmap_hash(tab->map, args->key, args->key_len);
    write->kind = args->mode == MODE_LOCK     ? WRITE_LOCK
                  : args->mode == MODE_DELETE ? WRITE_DELETE
                                              : WRITE_PUT;
    if (args->mode == MODE_LOCK)
        return ARMDB_OK;
    write->ordinal = ++txn->last_ordinal;
    memset(&record, 0, sizeof record);
    record.kind = args->mode == MODE_DELETE ? RECORD_DELETE : RECORD_PUT;
    record.table = tab->id;
    record.key = args->key;
    record.key_len = args->key_len;
    record.value = args->value;
    record.value_len = args->value_len;
    write->record_size = record_size(&record);
    write->record = bump_alloc(&txn->records, write->record_size);
    if (write->record == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory in a transaction");
    record_encode(&record, write->record, &head_check_at);
    write->head_check_at = (uint32_t)head_check_at;
    return ARMDB_OK;
}

/* What checks 1 and 2 found on top of the chain. */
struct top {
    struct version *version; /* NULL: no version */
    struct txn_write *own;   /* it is this transaction's */
    bool live;
};

/* Checks 1 and 2. Partition lock held. */
static enum armdb_rc check_top(struct armdb_session *session, const struct tab *tab,
                               struct node *node, struct top *top)
{
    version_ref ref = atomic_load_explicit(&node->head, memory_order_acquire);
    uint64_t word;

    memset(top, 0, sizeof *top);
    if (ref == 0)
        return ARMDB_OK;
    top->version = arena_version(tab->arena, ref);
    top->live = top->version->value_len != VERSION_DELETED;
    word = atomic_load_explicit(&top->version->word, memory_order_acquire);
    if ((word & 1) == 0) {
        struct txn_write *write = (struct txn_write *)(uintptr_t)word;
        uint64_t stamp = atomic_load_explicit(&write->txn->stamp, memory_order_acquire);

        if (write->txn == session->txn) {
            top->own = write;
            return ARMDB_OK;
        }
        if (stamp == 0) {
            session->busy_txn = write->txn->id;
            session->busy_any = false;
            return ARMDB_BUSY;
        }
        if (stamp > session_snapshot(session)) {
            if (session->snapshot_read)
                return ARMDB_BUSY_SNAPSHOT;
            session_snapshot_refresh(session);
            /* The stamp is set before the counter moves: in between, the newest snapshot
             * does not have the version yet, and what is read with it would be old. */
            if (stamp > session_snapshot(session)) {
                session->busy_txn = write->txn->id;
                session->busy_any = false;
                return ARMDB_BUSY;
            }
        }
    }
    return ARMDB_OK;
}

/* Check 3: may this write go ahead? */
static enum armdb_rc check_existence(enum write_mode mode, bool live)
{
    switch (mode) {
    case MODE_INSERT:
        return live ? ARMDB_EXISTS : ARMDB_OK;
    case MODE_DELETE:
        return live ? ARMDB_OK : ARMDB_NOT_FOUND;
    case MODE_PUT:
    case MODE_LOCK:
        return ARMDB_OK;
    }
    return ARMDB_INTERNAL;
}

/* A key seen for the first time. Partition lock held, inside an epoch. */
static enum armdb_rc push_new_node(struct txn_write *write, const struct write_args *args)
{
    enum armdb_rc rc;
    struct tab *tab = write->tab;
    struct node *node;

    write->node = arena_node_create(tab->arena, args->key, args->key_len);
    if (write->node == 0)
        return ARMDB_NOMEM;
    node = arena_node(tab->arena, write->node);
    /* Its inline version is free: this cannot fail. */
    rc = version_push(write, node, (uint32_t)args->value_len,
                      location_of_staged(write->record));
    if (rc != ARMDB_OK)
        return rc;
    rc = order_insert(tab->order, write->node);
    if (rc != ARMDB_OK) {
        arena_node_free(tab->arena, write->node);
        return rc;
    }
    rc = hashmap_insert(tab->map, write->hash, write->node);
    if (rc != ARMDB_OK) {
        order_remove(tab->order, write->node);
        node_retire(tab, write->node); /* a scan may be on it */
    }
    return rc;
}

/* A key that the index knows. Partition lock held. */
static enum armdb_rc push_on_node(struct armdb_session *session, struct txn_write *write,
                                  const struct write_args *args)
{
    enum armdb_rc rc;
    struct tab *tab = write->tab;
    struct node *node = arena_node(tab->arena, write->node);
    struct top top;
    uint32_t value_len = (uint32_t)args->value_len;
    uint64_t location = LOCATION_NONE;

    rc = check_top(session, tab, node, &top);
    if (rc != ARMDB_OK)
        return rc;
    rc = check_existence(args->mode, top.live);
    if (rc != ARMDB_OK)
        return rc;
    if (args->mode == MODE_LOCK && (top.own != NULL || top.version == NULL))
        return ARMDB_DONE; /* taken already */
    if (args->mode == MODE_LOCK) {
        /* Without a location: nobody reads it, and compaction, which looks for the
         * version that has a record, would take it for that one. */
        value_len = top.version->value_len;
    } else {
        location = location_of_staged(write->record);
        if (args->mode == MODE_DELETE)
            value_len = VERSION_DELETED;
    }
    write->committed_live = top.own != NULL ? top.own->committed_live : top.live;
    rc = version_push(write, node, value_len, location);
    if (rc == ARMDB_OK && top.own != NULL)
        top.own->superseded = true;
    return rc;
}

/* ARMDB_DONE: nothing to push (a lock already held, or an absent key to lock). */
static enum armdb_rc push(struct armdb_session *session, struct txn_write *write,
                          const struct write_args *args)
{
    enum armdb_rc rc;
    struct adb_mutex *lock = hashmap_lock(write->tab->map, write->hash);

    write->node = hashmap_find(write->tab->map, write->hash, args->key, args->key_len);
    if (write->node != 0) {
        rc = push_on_node(session, write, args);
    } else {
        rc = check_existence(args->mode, false);
        if (rc == ARMDB_OK && args->mode == MODE_LOCK)
            rc = ARMDB_DONE;
        else if (rc == ARMDB_OK)
            rc = push_new_node(write, args);
    }
    hashmap_unlock(lock);
    return rc;
}

/* Notes the table among those written; allocates before anything is changed. */
static enum armdb_rc note_table(struct txn *txn, struct tab *tab, struct txn_tab **out)
{
    enum armdb_rc rc;

    for (size_t i = 0; i < txn->tab_count; i++) {
        if (txn->tabs[i].tab == tab) {
            *out = &txn->tabs[i];
            return ARMDB_OK;
        }
    }
    if (txn->tab_count == txn->tab_capacity) {
        size_t capacity = txn->tab_capacity * 2 + 2;
        struct txn_tab *tabs =
            adb_realloc(ADB_MEM_TXN, txn->tabs, capacity * sizeof *tabs);

        if (tabs == NULL)
            return ARMDB_NOMEM;
        txn->tabs = tabs;
        txn->tab_capacity = capacity;
    }
    rc = tab_join(txn->session, tab);
    if (rc != ARMDB_OK)
        return rc;
    *out = &txn->tabs[txn->tab_count++];
    (*out)->tab = tab;
    (*out)->writes = 0;
    return ARMDB_OK;
}

/* Finds the rows that the session writes to and notes them. */
static enum armdb_rc choose_rows(struct txn *txn, struct armdb_table *table,
                                 struct txn_tab **out, struct armdb_error *err)
{
    struct armdb_session *session = txn->session;
    enum armdb_rc rc;

    for (;;) {
        rc = table_resolve(table, err);
        if (rc == ARMDB_OK)
            rc = note_table(txn, table->tab, out);
        if (rc != ARMDB_BUSY_SNAPSHOT || session->snapshot_read)
            return rc;
        session_snapshot_refresh(session); /* they were replaced: take the new ones */
    }
}

static enum armdb_rc explain(struct armdb_session *session, enum armdb_rc rc,
                             struct armdb_error *err)
{
    struct store_stats *stats = &session->store->stats;

    if (rc == ARMDB_BUSY) {
        stat_add(&stats->busy, 1);
        return ADB_FAIL(rc, err, "another transaction has written this key");
    }
    if (rc == ARMDB_BUSY_SNAPSHOT) {
        stat_add(&stats->busy_snapshot, 1);
        return ADB_FAIL(rc, err,
                        "the row changed after this transaction's snapshot was taken; "
                        "roll back and try again");
    }
    if (rc == ARMDB_NOMEM)
        return ADB_FAIL(rc, err, "out of memory in a transaction");
    return rc;
}

static enum armdb_rc write_row(struct armdb_session *session, struct armdb_table *table,
                               const struct write_args *args, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct txn *txn;
    struct txn_tab *written = NULL;
    struct txn_write *write = NULL;
    struct bump_mark writes_mark;
    struct bump_mark records_mark;

    rc = check_args(args, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = txn_for_write(session, &txn, err);
    if (rc != ARMDB_OK)
        return rc;
    writes_mark = bump_mark(&txn->writes);
    records_mark = bump_mark(&txn->records);
    rc = choose_rows(txn, table, &written, err);
    if (rc == ARMDB_OK)
        rc = stage(txn, table->tab, args, &write, err);
    if (rc == ARMDB_OK) {
        epoch_enter(session->slot);
        rc = push(session, write, args);
        epoch_leave(session->slot);
    }
    if (rc != ARMDB_OK) {
        bump_back(&txn->writes, writes_mark);
        bump_back(&txn->records, records_mark);
        return rc == ARMDB_DONE ? ARMDB_OK : explain(session, rc, err);
    }
    write->previous = txn->last;
    txn->last = write;
    txn->write_count++;
    if (write->kind != WRITE_LOCK) {
        written->writes++;
        if (table->sync > txn->sync)
            txn->sync = table->sync;
    }
    return spill_if_large(session, err);
}

enum armdb_rc armdb_put(struct armdb_session *session, struct armdb_table *table,
                        const void *key, size_t key_len, const void *value,
                        size_t value_len, struct armdb_error *err)
{
    struct write_args args = {MODE_PUT, key, key_len, value, value_len};

    stat_bump(&session->puts, 1);
    return write_row(session, table, &args, err);
}

enum armdb_rc armdb_insert(struct armdb_session *session, struct armdb_table *table,
                           const void *key, size_t key_len, const void *value,
                           size_t value_len, struct armdb_error *err)
{
    struct write_args args = {MODE_INSERT, key, key_len, value, value_len};

    stat_bump(&session->inserts, 1);
    return write_row(session, table, &args, err);
}

enum armdb_rc armdb_delete(struct armdb_session *session, struct armdb_table *table,
                           const void *key, size_t key_len, struct armdb_error *err)
{
    struct write_args args = {MODE_DELETE, key, key_len, NULL, 0};

    stat_bump(&session->deletes, 1);
    return write_row(session, table, &args, err);
}

enum armdb_rc armdb_lock_key(struct armdb_session *session, struct armdb_table *table,
                             const void *key, size_t key_len, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct write_args args = {MODE_LOCK, key, key_len, NULL, 0};
    node_ref ref;
    bool live = false;

    rc = write_row(session, table, &args, err);
    if (rc != ARMDB_OK)
        return rc;
    epoch_enter(session->slot);
    ref = hashmap_find(table->tab->map, hashmap_hash(table->tab->map, key, key_len), key,
                       key_len);
    if (ref != 0) {
        struct version *version =
            version_visible(table->tab, arena_node(table->tab->arena, ref),
                            session_snapshot(session), session->txn, UINT32_MAX);

        live = version != NULL && version->value_len != VERSION_DELETED;
    }
    epoch_leave(session->slot);
    session->snapshot_read = true;
    return live ? ARMDB_EXISTS : ARMDB_NOT_FOUND;
}

/* migrate.c - a pass over all rows that keeps, updates or deletes each.
 *
 * The pass goes by key, batch by batch. A batch is one transaction:
 *
 *   begin; snapshot; for each key behind the place that the snapshot shows:
 *     take the key as a writer; read it; ask; write; note the place
 *   put the place; commit
 *
 * A row is taken before it is shown, so the verdict is about the value that is there when
 * the batch commits, and no row has to be shown twice. Where that fails nothing was shown
 * yet: a key that changed after the batch's snapshot ends the batch, and the next one
 * begins with it; another's open transaction ends the batch, too, before it is waited
 * for: the pass never waits with rows taken, so it is part of no cycle of waiters.
 *
 * The transaction is marked silent, which write hooks respect; else it is like any other.
 */
#include <string.h>

#include "engine/base/mem.h"
#include "engine/store/internal.h"

enum { BATCH_ROWS = 1000, BATCH_BYTES = 1 << 20 };

struct pass {
    struct armdb_session *session; /* borrowed, as the next three */
    struct armdb_table *table;
    const struct armdb_migrate_options *options;
    struct armdb_migrate_info *info; /* of committed batches */
    struct armdb_cursor *keys;       /* owned: where the batch is */
    struct armdb_cursor *row;        /* owned: reads what was taken */
    struct armdb_migrate_info batch; /* of the one at work */
    uint64_t batch_bytes;
    bool ended;  /* the batch has met the end of the table */
    bool failed; /* a batch was rolled back: `visited` is ahead of what is done */

    /* The last key visited, and the last one whose batch was committed. Two owned buffers
     * of one capacity. */
    unsigned char *visited;
    unsigned char *committed;
    size_t capacity;
    size_t visited_len;
    size_t committed_len;
    bool has_visited;
    bool has_committed;
};

/* ---- The place ---- */

static enum armdb_rc no_memory(struct armdb_error *err)
{
    return ADB_FAIL(ARMDB_NOMEM, err, "out of memory in a migration");
}

/* Room for a key of `len` bytes in both buffers. */
static enum armdb_rc make_room(struct pass *pass, size_t len, struct armdb_error *err)
{
    size_t capacity = len < 256 ? 256 : len * 2;
    unsigned char *grown;

    if (len <= pass->capacity)
        return ARMDB_OK;
    grown = adb_realloc(ADB_MEM_MISC, pass->visited, capacity);
    if (grown == NULL)
        return no_memory(err);
    pass->visited = grown;
    grown = adb_realloc(ADB_MEM_TXN, pass->committed, capacity);
    if (grown == NULL)
        return no_memory(err);
    pass->committed = grown;
    pass->capacity = capacity;
    return ARMDB_OK;
}

static enum armdb_rc set_visited(struct pass *pass, const void *key, size_t len,
                                 struct armdb_error *err)
{
    enum armdb_rc rc = make_room(pass, len, err);

    if (rc != ARMDB_OK)
        return rc;
    if (len > 0)
        memcpy(pass->visited, key, len);
    pass->visited_len = len;
    pass->has_visited = true;
    return ARMDB_OK;
}

static void keep_visited(struct pass *pass)
{
    if (pass->has_visited && pass->visited_len > 0)
        memcpy(pass->committed, pass->visited, pass->visited_len);
    pass->committed_len = pass->visited_len;
    pass->has_committed = pass->has_visited;
}

/* Where the pass begins: the place kept, or the caller's. */
static enum armdb_rc find_start(struct pass *pass, struct armdb_error *err)
{
    const struct armdb_migrate_options *options = pass->options;
    struct armdb_cursor *cursor = NULL;
    struct armdb_value value;
    enum armdb_rc rc = ARMDB_DONE;

    if (options->place_table != NULL) {
        rc = armdb_cursor_open(pass->session, options->place_table, &cursor, err);
        if (rc == ARMDB_OK)
            rc = armdb_cursor_seek_key(cursor, options->place_key, options->place_key_len,
                                       err);
        if (rc == ARMDB_OK)
            rc = armdb_cursor_value(cursor, &value, err);
        if (rc == ARMDB_OK)
            rc = set_visited(pass, value.data, value.len, err);
        armdb_cursor_close(cursor);
    }
    if (rc == ARMDB_DONE)
        rc = options->after == NULL
                 ? ARMDB_OK
                 : set_visited(pass, options->after, options->after_len, err);
    if (rc == ARMDB_OK)
        keep_visited(pass);
    return rc;
}

/* Writes the place into the batch's transaction, or deletes it when the pass has ended.
 */
static enum armdb_rc write_place(struct pass *pass, struct armdb_error *err)
{
    const struct armdb_migrate_options *options = pass->options;
    enum armdb_rc rc;

    if (options->place_table == NULL || !pass->has_visited)
        return ARMDB_OK;
    if (!pass->ended)
        return armdb_put(pass->session, options->place_table, options->place_key,
                         options->place_key_len, pass->visited, pass->visited_len, err);
    rc = armdb_delete(pass->session, options->place_table, options->place_key,
                      options->place_key_len, err);
    return rc == ARMDB_NOT_FOUND ? ARMDB_OK : rc; /* all was one batch */
}

/* ---- One row ---- */

/* Shows a row that is taken, and does as told. */
static enum armdb_rc treat(struct pass *pass, const void *key, size_t key_len,
                           struct armdb_error *err)
{
    const struct armdb_migrate_options *options = pass->options;
    enum armdb_rc rc;
    struct armdb_value value;
    const void *new_value = NULL;
    size_t new_len = 0;

    armdb_statement_begin(pass->session);
    rc = armdb_cursor_seek_key(pass->row, key, key_len, err);
    if (rc == ARMDB_OK)
        rc = armdb_cursor_value(pass->row, &value, err);
    if (rc != ARMDB_OK)
        return rc == ARMDB_DONE
                   ? ADB_FAIL(ARMDB_INTERNAL, err, "a row taken is not there")
                   : rc;
    rc = set_visited(pass, key, key_len, err); /* before the visit: it may fail */
    if (rc != ARMDB_OK)
        return rc;
    pass->batch.visited++;
    switch (options->visit(options->arg, key, key_len, value.data, value.len, &new_value,
                           &new_len)) {
    case ARMDB_KEEP:
        return ARMDB_OK;
    case ARMDB_UPDATE:
        pass->batch.updated++;
        pass->batch_bytes += new_len;
        return armdb_put(pass->session, pass->table, key, key_len, new_value, new_len,
                         err);
    case ARMDB_DELETE:
        pass->batch.deleted++;
        return armdb_delete(pass->session, pass->table, key, key_len, err);
    }
    return ADB_FAIL(ARMDB_INVALID, err, "a migration's verdict is none of the three");
}

/* ---- One batch ---- */

static enum armdb_rc seek_first(struct pass *pass, struct armdb_error *err)
{
    struct armdb_range range = {.keys_only = true};

    if (pass->has_visited) {
        range.low = pass->visited;
        range.low_len = pass->visited_len;
        range.low_bound = ARMDB_BOUND_EXCLUSIVE;
    }
    return armdb_cursor_seek_range(pass->keys, &range, err);
}

/* Treats rows until the batch is full. ARMDB_DONE: the table has ended. ARMDB_BUSY,
 * ARMDB_BUSY_SNAPSHOT, ARMDB_INTERRUPT: before a row was shown; what was visited stands.
 */
static enum armdb_rc fill_batch(struct pass *pass, struct armdb_error *err)
{
    const struct armdb_migrate_options *options = pass->options;
    uint32_t rows_max = options->batch_rows > 0 ? options->batch_rows : BATCH_ROWS;
    enum armdb_rc rc = seek_first(pass, err);

    while (rc == ARMDB_OK && pass->batch.visited < rows_max &&
           pass->batch_bytes < BATCH_BYTES) {
        const void *key;
        size_t key_len;

        if (options->watch != NULL && options->watch->interrupted != NULL &&
            options->watch->interrupted(options->watch->arg))
            return ADB_FAIL(ARMDB_INTERRUPT, err, "interrupted");
        armdb_cursor_key(pass->keys, &key, &key_len);
        rc = armdb_lock_key(pass->session, pass->table, key, key_len, err);
        if (rc == ARMDB_EXISTS)
            rc = treat(pass, key, key_len, err);
        else if (rc == ARMDB_NOT_FOUND)
            rc = ARMDB_BUSY_SNAPSHOT; /* it went after the snapshot: look anew */
        if (rc == ARMDB_OK)
            rc = armdb_cursor_next(pass->keys, err);
    }
    return rc;
}

/* Commits what the batch did. */
static enum armdb_rc end_batch(struct pass *pass, struct armdb_error *err)
{
    enum armdb_rc rc = write_place(pass, err);

    if (rc == ARMDB_OK)
        rc = armdb_prepare(pass->session, ARMDB_DOUBT_COMMIT, err);
    if (rc == ARMDB_OK)
        rc = armdb_commit(pass->session, err);
    if (rc != ARMDB_OK)
        return rc;
    pass->info->visited += pass->batch.visited;
    pass->info->updated += pass->batch.updated;
    pass->info->deleted += pass->batch.deleted;
    pass->info->batches++;
    keep_visited(pass);
    return ARMDB_OK;
}

/* ARMDB_DONE: it was the last one. ARMDB_BUSY: wait, then go on. Each batch either visits
 * a row or ends because somebody else has committed or holds one. */
static enum armdb_rc run_batch(struct pass *pass, struct armdb_error *err)
{
    enum armdb_rc ended;
    enum armdb_rc rc = armdb_begin(pass->session, err);
    struct armdb_error why = {.rc = ARMDB_OK};

    memset(&pass->batch, 0, sizeof pass->batch);
    pass->batch_bytes = 0;
    if (rc != ARMDB_OK)
        return rc;
    pass->session->txn->silent = true;
    ended = fill_batch(pass, &why);
    pass->ended = ended == ARMDB_DONE;
    armdb_cursor_reset(pass->row);
    armdb_cursor_reset(pass->keys);
    if (ended >= 0 || ended == ARMDB_BUSY || ended == ARMDB_BUSY_SNAPSHOT ||
        ended == ARMDB_INTERRUPT) {
        if (pass->batch.visited > 0 || pass->ended)
            rc = end_batch(pass, err);
        pass->failed = rc != ARMDB_OK;
    }
    if (rc == ARMDB_OK && ended < 0 && ended != ARMDB_BUSY_SNAPSHOT) {
        rc = ended;
        if (err != NULL)
            *err = why;
    }
    if (armdb_in_transaction(pass->session))
        (void)armdb_rollback(pass->session, &why); /* rc says what was wrong */
    return rc == ARMDB_OK && pass->ended ? ARMDB_DONE : rc;
}

static enum armdb_rc run_pass(struct pass *pass, struct armdb_error *err)
{
    enum armdb_rc rc;

    do {
        rc = run_batch(pass, err);
        if (rc == ARMDB_BUSY && !pass->failed)
            rc = armdb_wait(pass->session, pass->options->wait_ms);
    } while (rc == ARMDB_OK);
    return rc == ARMDB_DONE ? ARMDB_OK : rc;
}

enum armdb_rc armdb_migrate(struct armdb_session *session, struct armdb_table *table,
                            const struct armdb_migrate_options *options,
                            struct armdb_migrate_info *info, struct armdb_value *last,
                            struct armdb_error *err)
{
    enum armdb_rc rc = session_check(session, err);
    struct pass pass;

    memset(info, 0, sizeof *info);
    if (last != NULL)
        memset(last, 0, sizeof *last);
    if (rc != ARMDB_OK)
        return rc;
    if (session->txn != NULL || session->snapshot_refs > 0)
        return ADB_FAIL(ARMDB_MISUSE, err,
                        "a migration has transactions of its own: end the session's "
                        "transaction and release its snapshot first");
    memset(&pass, 0, sizeof pass);
    pass.session = session;
    pass.table = table;
    pass.options = options;
    pass.info = info;
    rc = armdb_cursor_open(session, table, &pass.keys, err);
    if (rc == ARMDB_OK)
        rc = armdb_cursor_open(session, table, &pass.row, err);
    if (rc == ARMDB_OK)
        rc = find_start(&pass, err);
    if (rc == ARMDB_OK)
        rc = run_pass(&pass, err);
    if (last != NULL && pass.has_committed) {
        value_of_copy(last, pass.committed, pass.committed_len);
        pass.committed = NULL; /* the caller's */
    }
    armdb_cursor_close(pass.keys);
    armdb_cursor_close(pass.row);
    adb_free(ADB_MEM_MISC, pass.visited);
    adb_free(ADB_MEM_TXN, pass.committed);
    return rc;
}

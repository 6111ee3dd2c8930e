/* modify.c - a change in one step: compare-and-swap, read-modify-write, batch.
 *
 * A step is a function that takes rows as a writer, reads and writes. It is run by one
 * runner, which knows the two ways:
 *
 *   no transaction open   the step is a transaction of its own: begun here, committed
 *                         when the step is done, rolled back when it is refused
 *   a transaction open    the step takes part in it; refused, it is undone alone
 *
 * Either way a step that was refused has left nothing, and so can be run again: when it
 * met another transaction's row, that one is waited for first, with nothing of this step
 * held; when it met a row newer than a snapshot that it took itself, at once. Each round
 * of the latter means that somebody else has committed, so somebody always gets on.
 *
 * What makes a read and a write one step is armdb_lock_key(): the row is taken before it
 * is read, and in a transaction that has read nothing yet the snapshot moves forward to
 * it. A key without a row cannot be taken: two may find it absent. Then the second put
 * meets the first one's version, and its step is run again. */
#include <string.h>

#include "engine/store/internal.h"

enum { WAIT_MS_DEFAULT = 5000 };

void session_init_wait(struct armdb_session *session)
{
    session->wait_ms = WAIT_MS_DEFAULT;
}

void armdb_session_set_wait(struct armdb_session *session, uint32_t wait_ms)
{
    session->wait_ms = wait_ms;
}

/* ---- The runner ---- */

typedef enum armdb_rc step_run(struct armdb_session *session, void *arg,
                               struct armdb_error *err);

/* One try. */
static enum armdb_rc try_step(struct armdb_session *session, step_run *run, void *arg,
                              struct armdb_error *err)
{
    bool own = session->txn == NULL;
    struct txn_write *before = own ? NULL : session->txn->last;
    struct armdb_error ignored; /* a failed abort verdict has wounded the store */
    enum armdb_rc rc = armdb_begin(session, err);

    if (rc != ARMDB_OK)
        return rc;
    rc = run(session, arg, err);
    if (rc == ARMDB_OK && own)
        rc = armdb_commit(session, err);
    if (rc == ARMDB_OK)
        return ARMDB_OK;
    if (own)
        (void)armdb_rollback(session, &ignored);
    else
        txn_undo_to(session, before);
    return rc;
}

static enum armdb_rc run_step(struct armdb_session *session, step_run *run, void *arg,
                              struct armdb_error *err)
{
    uint64_t deadline = 0;
    /* A snapshot that somebody relies on does not move. */
    bool fresh = session->txn == NULL && session->snapshot_refs == 0;

    for (;;) {
        enum armdb_rc rc = try_step(session, run, arg, err);
        uint64_t now;

        if (rc == ARMDB_BUSY_SNAPSHOT && fresh)
            continue;
        if (rc != ARMDB_BUSY)
            return rc;
        now = adb_mono_ns();
        if (deadline == 0)
            deadline = now + (uint64_t)session->wait_ms * UINT64_C(1000000);
        if (now >= deadline && session->wait_ms > 0)
            return rc;
        /* Rounded up: the last millisecond is waited for, not spun through. */
        if (armdb_wait(session, (uint32_t)((deadline - now + 999999) / 1000000)) !=
            ARMDB_OK)
            return rc;
    }
}

/* ---- One row ---- */

struct change {
    struct armdb_table *table;
    const void *key;
    size_t key_len;
    armdb_change_row *decide;
    void *arg;
};

/* Writes what was decided. */
static enum armdb_rc write_decision(struct armdb_session *session,
                                    const struct change *change,
                                    enum armdb_verdict verdict, bool is_there,
                                    const void *value, size_t value_len,
                                    struct armdb_error *err)
{
    switch (verdict) {
    case ARMDB_KEEP:
        return ARMDB_OK;
    case ARMDB_UPDATE:
        return armdb_put(session, change->table, change->key, change->key_len, value,
                         value_len, err);
    case ARMDB_DELETE:
        return is_there ? armdb_delete(session, change->table, change->key,
                                       change->key_len, err)
                        : ARMDB_OK;
    }
    return ADB_FAIL(ARMDB_INVALID, err, "a verdict on a row is none of the three");
}

static enum armdb_rc run_change(struct armdb_session *session, void *arg,
                                struct armdb_error *err)
{
    const struct change *change = arg;
    struct armdb_value old = {.data = NULL};
    const void *value = NULL;
    size_t value_len = 0;
    enum armdb_verdict verdict;
    enum armdb_rc rc =
        armdb_lock_key(session, change->table, change->key, change->key_len, err);
    bool is_there = rc == ARMDB_EXISTS;

    if (rc < 0)
        return rc;
    if (is_there) {
        rc = point_read(session, change->table, change->key, change->key_len, &old, err);
        if (rc != ARMDB_OK)
            return rc;
    }
    verdict = change->decide(change->arg, old.data, old.len, &value, &value_len);
    rc = write_decision(session, change, verdict, is_there, value, value_len, err);
    armdb_value_release(&old); /* the new value may have pointed into it */
    return rc;
}

enum armdb_rc armdb_modify(struct armdb_session *session, struct armdb_table *table,
                           const void *key, size_t key_len, armdb_change_row *decide,
                           void *arg, struct armdb_error *err)
{
    struct change change = {table, key, key_len, decide, arg};
    enum armdb_rc rc = point_check(session, table, key, key_len, err);

    if (rc != ARMDB_OK)
        return rc;
    if (decide == NULL)
        return ADB_FAIL(ARMDB_INVALID, err, "no function to decide with");
    return run_step(session, run_change, &change, err);
}

/* ---- Compare-and-swap ---- */

struct swap {
    const void *expected; /* NULL: no row */
    size_t expected_len;
    const void *fresh; /* NULL: delete */
    size_t fresh_len;
    bool matched;
};

static enum armdb_verdict compare_and_swap(void *arg, const void *value, size_t value_len,
                                           const void **fresh, size_t *fresh_len)
{
    struct swap *swap = arg;

    if (value == NULL || swap->expected == NULL)
        swap->matched = value == swap->expected;
    else
        swap->matched = value_len == swap->expected_len &&
                        (value_len == 0 || memcmp(value, swap->expected, value_len) == 0);
    if (!swap->matched)
        return ARMDB_KEEP;
    *fresh = swap->fresh;
    *fresh_len = swap->fresh_len;
    return swap->fresh == NULL ? ARMDB_DELETE : ARMDB_UPDATE;
}

/* A step that did not match is refused, so that it lets the row go. */
struct swap_step {
    struct change change;
    struct swap swap;
};

static enum armdb_rc run_swap(struct armdb_session *session, void *arg,
                              struct armdb_error *err)
{
    struct swap_step *step = arg;
    enum armdb_rc rc = run_change(session, &step->change, err);

    return rc == ARMDB_OK && !step->swap.matched ? ARMDB_MISMATCH : rc;
}

enum armdb_rc armdb_cas(struct armdb_session *session, struct armdb_table *table,
                        const void *key, size_t key_len, const void *expected,
                        size_t expected_len, const void *fresh, size_t fresh_len,
                        struct armdb_error *err)
{
    struct swap_step step = {
        .change = {table, key, key_len, compare_and_swap, NULL},
        .swap = {expected, expected_len, fresh, fresh_len, false},
    };
    enum armdb_rc rc = point_check(session, table, key, key_len, err);

    if (rc != ARMDB_OK)
        return rc;
    if ((expected == NULL && expected_len > 0) || (fresh == NULL && fresh_len > 0))
        return ADB_FAIL(ARMDB_INVALID, err, "a value is NULL, its length is not 0");
    step.change.arg = &step.swap;
    return run_step(session, run_swap, &step, err);
}

/* ---- Batch ---- */

struct batch {
    const struct armdb_op *ops;
    size_t count;
    size_t at; /* the one at work */
};

static enum armdb_rc apply_op(struct armdb_session *session, const struct armdb_op *op,
                              struct armdb_error *err)
{
    enum armdb_rc rc;

    switch (op->kind) {
    case ARMDB_OP_PUT:
        return armdb_put(session, op->table, op->key, op->key_len, op->value,
                         op->value_len, err);
    case ARMDB_OP_INSERT:
        return armdb_insert(session, op->table, op->key, op->key_len, op->value,
                            op->value_len, err);
    case ARMDB_OP_DELETE:
        rc = armdb_delete(session, op->table, op->key, op->key_len, err);
        return rc == ARMDB_NOT_FOUND ? ARMDB_OK : rc;
    }
    return ADB_FAIL(ARMDB_INVALID, err, "an operation's kind is none of the three");
}

static enum armdb_rc run_batch(struct armdb_session *session, void *arg,
                               struct armdb_error *err)
{
    struct batch *batch = arg;
    enum armdb_rc rc = ARMDB_OK;

    for (batch->at = 0; batch->at < batch->count; batch->at++) {
        rc = apply_op(session, &batch->ops[batch->at], err);
        if (rc != ARMDB_OK)
            return rc;
    }
    return ARMDB_OK;
}

enum armdb_rc armdb_batch(struct armdb_session *session, const struct armdb_op *ops,
                          size_t count, size_t *stopped_at, struct armdb_error *err)
{
    struct batch batch = {ops, count, 0};
    enum armdb_rc rc = ARMDB_OK;

    /* What is wrong with an operation is said before any is done. */
    for (; rc == ARMDB_OK && batch.at < count; batch.at++) {
        const struct armdb_op *op = &ops[batch.at];

        rc = point_check(session, op->table, op->key, op->key_len, err);
        if (rc == ARMDB_OK && op->value == NULL && op->value_len > 0)
            rc = ADB_FAIL(ARMDB_INVALID, err, "a value is NULL, its length is not 0");
        if (rc != ARMDB_OK)
            break;
    }
    if (rc == ARMDB_OK && count > 0)
        rc = run_step(session, run_batch, &batch, err);
    if (stopped_at != NULL)
        *stopped_at = batch.at;
    return rc;
}

/* Changes in one step (compare-and-swap, read-modify-write, batch) and snapshots as
 * objects: what each promises, alone and beside another session. */
#include "test/unit/api_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/mem.h"

static enum armdb_verdict keep(void *arg, const void *value, size_t value_len,
                               const void **fresh, size_t *fresh_len)
{
    (void)value;
    (void)value_len;
    (void)fresh;
    (void)fresh_len;
    ++*(int *)arg;
    return ARMDB_KEEP;
}

/* ---- Compare-and-swap ------------------------------------------------------------ */

static void cas_changes_what_is_as_expected_and_nothing_else(void **state)
{
    struct api f;

    (void)state;
    api_open(&f);
    REFUSED(armdb_cas(f.session, f.table, "k", 1, "1", 1, "2", 1, &api_err),
            ARMDB_MISMATCH);
    OK(armdb_cas(f.session, f.table, "k", 1, NULL, 0, "1", 1, &api_err));
    assert_false(armdb_in_transaction(f.session));
    REFUSED(armdb_cas(f.session, f.table, "k", 1, NULL, 0, "9", 1, &api_err),
            ARMDB_MISMATCH);
    REFUSED(armdb_cas(f.session, f.table, "k", 1, "10", 2, "9", 1, &api_err),
            ARMDB_MISMATCH);
    REFUSED(armdb_cas(f.session, f.table, "k", 1, "2", 1, "9", 1, &api_err),
            ARMDB_MISMATCH);
    api_assert_row(&f, "k", "1");
    OK(armdb_cas(f.session, f.table, "k", 1, "1", 1, "two", 3, &api_err));
    api_assert_row(&f, "k", "two");
    OK(armdb_cas(f.session, f.table, "k", 1, "two", 3, NULL, 0, &api_err));
    api_assert_row(&f, "k", NULL);
    /* No row expected, none wanted: nothing to do, and right. */
    OK(armdb_cas(f.session, f.table, "k", 1, NULL, 0, NULL, 0, &api_err));
    assert_false(armdb_in_transaction(f.session));
    assert_int_equal(armdb_count(f.table), 0);
    api_close(&f);
}

static void a_step_in_a_transaction_takes_part_in_it(void **state)
{
    struct api f;
    struct api other;
    struct armdb_op ops[2] = {{.kind = ARMDB_OP_PUT, .key = "b", .key_len = 1},
                              {.kind = ARMDB_OP_INSERT, .key = "a", .key_len = 1}};
    size_t at;

    (void)state;
    api_open(&f);
    api_join(&other, &f);
    api_put_committed(&f, "a", "1");
    OK(armdb_begin(f.session, &api_err));
    OK(api_put(&f, "x", "kept"));
    OK(armdb_cas(f.session, f.table, "a", 1, "1", 1, "2", 1, &api_err));
    OK(armdb_cas(f.session, f.table, "a", 1, "2", 1, "3", 1,
                 &api_err)); /* its own write */
    REFUSED(armdb_cas(f.session, f.table, "a", 1, "1", 1, "4", 1, &api_err),
            ARMDB_MISMATCH);
    ops[0].table = f.table;
    ops[1].table = f.table;
    REFUSED(armdb_batch(f.session, ops, 2, &at, &api_err), ARMDB_EXISTS);
    assert_int_equal(at, 1);
    assert_true(armdb_in_transaction(f.session));
    api_assert_row(&f, "a", "3");
    api_assert_row(&f, "b", NULL); /* the batch alone was undone */
    api_assert_row(&f, "x", "kept");
    api_assert_row(&other, "a", "1");
    OK(armdb_rollback(f.session, &api_err));
    api_assert_row(&f, "a", "1");
    api_assert_row(&f, "x", NULL);
    api_leave(&other);
    api_close(&f);
}

static void a_refused_swap_does_not_hold_the_row(void **state)
{
    struct api f;
    struct api other;

    (void)state;
    api_open(&f);
    api_join(&other, &f);
    armdb_session_set_wait(other.session, 0);
    api_put_committed(&f, "a", "1");
    OK(armdb_begin(f.session, &api_err));
    REFUSED(armdb_cas(f.session, f.table, "a", 1, "x", 1, "2", 1, &api_err),
            ARMDB_MISMATCH);
    OK(armdb_cas(other.session, other.table, "a", 1, "1", 1, "2", 1, &api_err));
    OK(armdb_rollback(f.session, &api_err));
    api_assert_row(&f, "a", "2");
    api_leave(&other);
    api_close(&f);
}

static void a_held_row_is_busy_and_a_changed_one_is_too_new(void **state)
{
    struct api f;
    struct api other;
    struct armdb_op op = {.kind = ARMDB_OP_PUT, .key = "a", .key_len = 1};

    (void)state;
    api_open(&f);
    api_join(&other, &f);
    api_put_committed(&f, "a", "1");
    armdb_session_set_wait(other.session, 20);
    op.table = other.table;
    OK(api_put(&f, "a", "2"));
    REFUSED(armdb_cas(other.session, other.table, "a", 1, "1", 1, "3", 1, &api_err),
            ARMDB_BUSY);
    assert_true(strlen(api_err.text) > 0);
    REFUSED(armdb_batch(other.session, &op, 1, NULL, &api_err), ARMDB_BUSY);
    assert_false(armdb_in_transaction(other.session));
    /* With a snapshot of its own making the swap would go on from the new value; one that
     * was read with cannot move. */
    OK(armdb_snapshot_acquire(other.session, &api_err));
    api_assert_row(&other, "a", "1");
    OK(armdb_commit(f.session, &api_err));
    REFUSED(armdb_cas(other.session, other.table, "a", 1, "1", 1, "3", 1, &api_err),
            ARMDB_BUSY_SNAPSHOT);
    armdb_snapshot_release(other.session);
    OK(armdb_cas(other.session, other.table, "a", 1, "2", 1, "3", 1, &api_err));
    api_assert_row(&f, "a", "3");
    api_leave(&other);
    api_close(&f);
}

/* ---- Read-modify-write ----------------------------------------------------------- */

static char abc[] = "abc";
static char x = 'x';

/* Appends a letter; deletes what is "abc"; keeps what ends in '!'. */
static enum armdb_verdict append(void *arg, const void *value, size_t value_len,
                                 const void **fresh, size_t *fresh_len)
{
    static char text[16];
    const char *letter = arg;

    if (value_len == 3 && memcmp(value, "abc", 3) == 0)
        return ARMDB_DELETE;
    if (value_len > 0 && ((const char *)value)[value_len - 1] == '!')
        return ARMDB_KEEP;
    if (value_len > 0)
        memcpy(text, value, value_len);
    text[value_len] = *letter;
    *fresh = text;
    *fresh_len = value_len + 1;
    return ARMDB_UPDATE;
}

/* The new value lies in the old one. */
static enum armdb_verdict cut_first(void *arg, const void *value, size_t value_len,
                                    const void **fresh, size_t *fresh_len)
{
    (void)arg;
    *fresh = (const char *)value + 1;
    *fresh_len = value_len - 1;
    return ARMDB_UPDATE;
}

static enum armdb_verdict nonsense(void *arg, const void *value, size_t value_len,
                                   const void **fresh, size_t *fresh_len)
{
    (void)arg;
    (void)value;
    (void)value_len;
    (void)fresh;
    (void)fresh_len;
    return (enum armdb_verdict)9;
}

static void modify_does_as_it_is_told(void **state)
{
    struct api f;
    int calls = 0;

    (void)state;
    api_open(&f);
    OK(armdb_modify(f.session, f.table, "k", 1, keep, &calls, &api_err));
    assert_int_equal(calls, 1);
    api_assert_row(&f, "k", NULL);
    for (int i = 0; i < 3; i++)
        OK(armdb_modify(f.session, f.table, "k", 1, append, &abc[i], &api_err));
    api_assert_row(&f, "k", "abc");
    OK(armdb_modify(f.session, f.table, "k", 1, cut_first, NULL, &api_err));
    api_assert_row(&f, "k", "bc");
    OK(armdb_cas(f.session, f.table, "k", 1, "bc", 2, "abc", 3, &api_err));
    OK(armdb_modify(f.session, f.table, "k", 1, append, &x, &api_err));
    api_assert_row(&f, "k", NULL);
    api_put_committed(&f, "k", "stay!");
    OK(armdb_modify(f.session, f.table, "k", 1, append, &x, &api_err));
    api_assert_row(&f, "k", "stay!");
    REFUSED(armdb_modify(f.session, f.table, "k", 1, nonsense, NULL, &api_err),
            ARMDB_INVALID);
    api_assert_row(&f, "k", "stay!");
    assert_false(armdb_in_transaction(f.session));
    api_close(&f);
}

static void modify_in_a_transaction_sees_it_and_holds_the_row(void **state)
{
    struct api f;
    struct api other;
    int calls = 0;

    (void)state;
    api_open(&f);
    api_join(&other, &f);
    armdb_session_set_wait(other.session, 0);
    api_put_committed(&f, "k", "old!");
    OK(armdb_begin(f.session, &api_err));
    OK(armdb_modify(f.session, f.table, "k", 1, append, &x, &api_err)); /* kept */
    REFUSED(armdb_modify(other.session, other.table, "k", 1, keep, &calls, &api_err),
            ARMDB_BUSY);
    assert_int_equal(calls, 0);
    OK(api_put(&f, "k", "a"));
    OK(armdb_modify(f.session, f.table, "k", 1, append, &abc[1], &api_err));
    api_assert_row(&f, "k", "ab");
    api_assert_row(&other, "k", "old!");
    OK(armdb_commit(f.session, &api_err));
    api_assert_row(&other, "k", "ab");
    OK(armdb_modify(other.session, other.table, "k", 1, keep, &calls, &api_err));
    assert_int_equal(calls, 1);
    api_leave(&other);
    api_close(&f);
}

/* ---- Batch ------------------------------------------------------------------------ */

static void a_batch_is_applied_in_order_and_whole(void **state)
{
    struct api f;
    struct api other;
    struct armdb_table *second;
    struct armdb_op ops[6] = {
        {.kind = ARMDB_OP_PUT, .key = "a", .key_len = 1, .value = "1", .value_len = 1},
        {.kind = ARMDB_OP_INSERT, .key = "b", .key_len = 1, .value = "2", .value_len = 1},
        {.kind = ARMDB_OP_DELETE, .key = "none", .key_len = 4},
        {.kind = ARMDB_OP_PUT, .key = "a", .key_len = 1, .value = "3", .value_len = 1},
        {.kind = ARMDB_OP_DELETE, .key = "b", .key_len = 1},
        {.kind = ARMDB_OP_INSERT, .key = "b", .key_len = 1, .value = "4", .value_len = 1},
    };
    struct armdb_value value;
    size_t at = 77;

    (void)state;
    api_open(&f);
    api_join(&other, &f);
    OK(armdb_table_create(f.session, "second", "", 0, &second, &api_err));
    OK(armdb_commit(f.session, &api_err));
    for (int i = 0; i < 6; i++)
        ops[i].table = i == 0 ? second : f.table;
    OK(armdb_batch(f.session, ops, 6, &at, &api_err));
    assert_int_equal(at, 6);
    assert_false(armdb_in_transaction(f.session));
    api_assert_row(&other, "a", "3");
    api_assert_row(&other, "b", "4");
    OK(armdb_get(f.session, second, "a", 1, &value, &api_err));
    api_assert_text(&value, "1");
    /* Once more: the insert is refused, and nothing of the rest has happened. */
    ops[0].value = "x";
    ops[3].value = "x";
    REFUSED(armdb_batch(f.session, ops, 6, &at, &api_err), ARMDB_EXISTS);
    assert_int_equal(at, 1);
    OK(armdb_get(f.session, second, "a", 1, &value, &api_err));
    api_assert_text(&value, "1");
    api_assert_row(&f, "a", "3");
    ops[5].kind = (enum armdb_op_kind)7;
    ops[1].kind = ARMDB_OP_PUT;
    REFUSED(armdb_batch(f.session, ops, 6, &at, &api_err), ARMDB_INVALID);
    assert_int_equal(at, 5);
    api_assert_row(&f, "a", "3");
    OK(armdb_batch(f.session, NULL, 0, &at, &api_err));
    assert_int_equal(at, 0);
    armdb_table_close(second);
    api_leave(&other);
    api_close(&f);
}

/* ---- Write hooks, fork() -------------------------------------------------------------
 */

struct heard {
    char text[200]; /* kind, key, new length of each change; '|' between commits */
    uint64_t commit;
};

static void listen(void *arg, struct armdb_change *change)
{
    struct heard *heard = arg;
    const char *kind = change->kind == ARMDB_CHANGE_INSERT   ? "+"
                       : change->kind == ARMDB_CHANGE_UPDATE ? "="
                       : change->kind == ARMDB_CHANGE_DELETE ? "-"
                                                             : "?";
    char length[16];

    (void)snprintf(length, sizeof length, "%u ", (unsigned)change->value_len);
    if (heard->commit != 0 && heard->commit != change->commit)
        (void)strcat(heard->text, "| ");
    (void)strcat(heard->text, kind);
    (void)strncat(heard->text, change->key, change->key_len);
    (void)strcat(heard->text, length);
    heard->commit = change->commit;
}

static void write_hooks_hear_each_step_and_no_refused_one(void **state)
{
    struct api f;
    struct heard heard = {.commit = 0};
    struct armdb_table *tables[1];
    struct armdb_hook_options options = {
        .tables = tables, .table_count = 1, .call = listen, .arg = &heard};
    struct armdb_hook *hook;
    struct armdb_op ops[3] = {
        {.kind = ARMDB_OP_PUT, .key = "b", .key_len = 1, .value = "22", .value_len = 2},
        {.kind = ARMDB_OP_INSERT, .key = "c", .key_len = 1},
        {.kind = ARMDB_OP_DELETE, .key = "a", .key_len = 1}};

    (void)state;
    api_open(&f);
    tables[0] = f.table;
    for (int i = 0; i < 3; i++)
        ops[i].table = f.table;
    OK(armdb_hook_add(f.store, &options, &hook, &api_err));
    OK(armdb_cas(f.session, f.table, "a", 1, NULL, 0, "1", 1, &api_err));
    REFUSED(armdb_cas(f.session, f.table, "a", 1, NULL, 0, "9", 1, &api_err),
            ARMDB_MISMATCH);
    OK(armdb_modify(f.session, f.table, "a", 1, append, &x, &api_err));
    OK(armdb_batch(f.session, ops, 3, NULL, &api_err));
    REFUSED(armdb_batch(f.session, ops, 3, NULL, &api_err), ARMDB_EXISTS);
    /* Steps of one transaction are told at its commit, those undone are not. */
    OK(armdb_begin(f.session, &api_err));
    OK(armdb_cas(f.session, f.table, "b", 1, "22", 2, NULL, 0, &api_err));
    REFUSED(armdb_batch(f.session, ops, 3, NULL, &api_err), ARMDB_EXISTS);
    OK(armdb_modify(f.session, f.table, "d", 1, append, &x, &api_err));
    assert_string_equal(heard.text, "+a1 | =a2 | +b2 +c0 -a0 ");
    OK(armdb_commit(f.session, &api_err));
    assert_string_equal(heard.text, "+a1 | =a2 | +b2 +c0 -a0 | -b0 +d1 ");
    OK(armdb_hook_remove(hook));
    api_close(&f);
}

/* What a child answers: the number of the first call that is not refused, 0 = none. */
static int use_in_child(struct api *f, const struct armdb_snapshot *snapshot)
{
    struct armdb_snapshot *other = NULL;
    struct armdb_value value;
    struct armdb_op op = {.kind = ARMDB_OP_PUT, .table = f->table};
    uint64_t n;
    int calls = 0;

    if (armdb_get(f->session, f->table, "a", 1, &value, NULL) != ARMDB_FORKED)
        return 1;
    if (armdb_value_len(f->session, f->table, "a", 1, &n, NULL) != ARMDB_FORKED)
        return 2;
    if (armdb_first(f->session, f->table, NULL, NULL, &value, NULL) != ARMDB_FORKED)
        return 3;
    if (armdb_range_count(f->session, f->table, NULL, NULL, &n, NULL) != ARMDB_FORKED)
        return 4;
    if (armdb_cas(f->session, f->table, "a", 1, "1", 1, "2", 1, NULL) != ARMDB_FORKED)
        return 5;
    if (armdb_modify(f->session, f->table, "a", 1, keep, &calls, NULL) != ARMDB_FORKED)
        return 6;
    if (armdb_batch(f->session, &op, 1, NULL, NULL) != ARMDB_FORKED)
        return 7;
    if (armdb_snapshot_open(f->session, &other, NULL) != ARMDB_FORKED || other != NULL)
        return 8;
    if (armdb_snapshot_use(f->session, snapshot, NULL) != ARMDB_FORKED)
        return 9;
    if (armdb_warm(f->session, f->table, NULL, NULL, NULL) != ARMDB_FORKED)
        return 10;
    return calls == 0 ? 0 : 11;
}

static void a_forked_child_is_refused_by_every_call(void **state)
{
    struct api f;
    struct armdb_snapshot *snapshot;
    int status = -1;
    pid_t child;

    (void)state;
    api_open(&f);
    api_put_committed(&f, "a", "1");
    OK(armdb_snapshot_open(f.session, &snapshot, &api_err));
    child = fork();
    if (child == 0)
        _exit(use_in_child(&f, snapshot));
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    armdb_snapshot_close(snapshot);
    api_assert_row(&f, "a", "1");
    api_close(&f);
}

static void a_read_only_store_is_read_and_not_changed(void **state)
{
    struct api f;
    struct armdb_options options;
    struct armdb_op op = {.kind = ARMDB_OP_PUT, .key = "a", .key_len = 1};
    struct armdb_warm_info info;
    int calls = 0;

    armdb_options_init(&options);
    api_open_with(&f, *state, &options);
    api_put_committed(&f, "a", "1");
    api_close(&f);
    options.read_only = true;
    api_open_with(&f, *state, &options);
    api_assert_row(&f, "a", "1");
    REFUSED(armdb_cas(f.session, f.table, "a", 1, "1", 1, "2", 1, &api_err),
            ARMDB_READONLY);
    REFUSED(armdb_modify(f.session, f.table, "a", 1, keep, &calls, &api_err),
            ARMDB_READONLY);
    assert_int_equal(calls, 0);
    op.table = f.table;
    REFUSED(armdb_batch(f.session, &op, 1, NULL, &api_err), ARMDB_READONLY);
    assert_false(armdb_in_transaction(f.session));
    OK(armdb_warm(f.session, f.table, NULL, &info, &api_err));
    assert_int_equal(info.rows, 1);
    api_assert_row(&f, "a", "1");
    api_close(&f);
}

/* ---- Snapshots as objects ---------------------------------------------------------- */

static void several_sessions_read_one_snapshot(void **state)
{
    struct api f;
    struct api others[3];
    struct armdb_snapshot *snapshot;
    uint64_t count;

    (void)state;
    api_open(&f);
    api_put_committed(&f, "a", "then");
    api_put_committed(&f, "b", "then");
    OK(api_put(&f, "c", "open")); /* not decided: no part of it */
    OK(armdb_snapshot_open(f.session, &snapshot, &api_err));
    OK(armdb_commit(f.session, &api_err));
    api_put_committed(&f, "a", "now");
    OK(armdb_delete(f.session, f.table, "b", 1, &api_err));
    OK(armdb_commit(f.session, &api_err));
    for (int i = 0; i < 3; i++) {
        api_join(&others[i], &f);
        api_assert_row(&others[i], "a", "now"); /* the handle has looked at the present */
        OK(armdb_snapshot_use(others[i].session, snapshot, &api_err));
    }
    armdb_snapshot_close(snapshot); /* the sessions keep the moment */
    api_put_committed(&f, "a", "later");
    for (int i = 0; i < 3; i++) {
        struct armdb_range all = {.low_bound = ARMDB_BOUND_OPEN};

        api_assert_row(&others[i], "a", "then");
        api_assert_row(&others[i], "b", "then");
        api_assert_row(&others[i], "c", NULL);
        api_assert_scan(&others[i], &all, "a b ");
        OK(armdb_range_count(others[i].session, others[i].table, NULL, NULL, &count,
                             &api_err));
        assert_int_equal(count, 2);
        armdb_snapshot_release(others[i].session);
        api_assert_row(&others[i], "a", "later");
        api_assert_row(&others[i], "b", NULL);
        api_leave(&others[i]);
    }
    api_close(&f);
}

static void a_snapshot_reaches_behind_a_cleared_table(void **state)
{
    struct api f;
    struct api other;
    struct armdb_snapshot *snapshot;

    (void)state;
    api_open(&f);
    api_join(&other, &f);
    api_put_committed(&f, "a", "old");
    OK(armdb_snapshot_open(f.session, &snapshot, &api_err));
    OK(armdb_table_clear(f.session, f.table, &api_err));
    OK(armdb_commit(f.session, &api_err));
    api_put_committed(&f, "a", "new");
    api_assert_row(&other, "a", "new"); /* its handle is on the new rows */
    OK(armdb_snapshot_use(other.session, snapshot, &api_err));
    api_assert_row(&other, "a", "old");
    armdb_snapshot_release(other.session);
    api_assert_row(&other, "a", "new");
    OK(armdb_snapshot_use(other.session, snapshot, &api_err));
    armdb_snapshot_close(snapshot);
    api_assert_row(&other, "a", "old");
    armdb_snapshot_release(other.session);
    api_leave(&other);
    api_close(&f);
}

static void who_writes_from_an_old_snapshot_loses_to_who_was_first(void **state)
{
    struct api f;
    struct api other;
    struct api elsewhere;
    struct armdb_snapshot *snapshot;

    (void)state;
    api_open(&f);
    api_join(&other, &f);
    api_open(&elsewhere);
    api_put_committed(&f, "a", "1");
    api_put_committed(&f, "b", "1");
    OK(armdb_snapshot_open(f.session, &snapshot, &api_err));
    api_put_committed(&f, "a", "2");
    OK(armdb_snapshot_use(other.session, snapshot, &api_err));
    assert_true(armdb_snapshot_is_stale(other.session));
    REFUSED(api_put(&other, "a", "3"), ARMDB_BUSY_SNAPSHOT);
    OK(api_put(&other, "b", "3"));
    REFUSED(armdb_snapshot_use(other.session, snapshot, &api_err), ARMDB_MISUSE);
    OK(armdb_commit(other.session, &api_err));
    armdb_snapshot_release(other.session);
    api_assert_row(&other, "a", "2");
    api_assert_row(&other, "b", "3");
    OK(armdb_begin(other.session, &api_err));
    REFUSED(armdb_snapshot_use(other.session, snapshot, &api_err), ARMDB_MISUSE);
    OK(armdb_rollback(other.session, &api_err));
    REFUSED(armdb_snapshot_use(elsewhere.session, snapshot, &api_err), ARMDB_INVALID);
    armdb_snapshot_close(snapshot);
    armdb_snapshot_close(NULL);
    api_close(&elsewhere);
    api_leave(&other);
    api_close(&f);
}

/* What a snapshot held back goes when it is closed. */
static void a_closed_snapshot_lets_old_versions_go(void **state)
{
    struct api f;
    struct armdb_snapshot *snapshot;
    uint64_t before;
    uint64_t held;
    char key[16];

    (void)state;
    api_open(&f);
    for (int i = 0; i < 2000; i++) {
        (void)snprintf(key, sizeof key, "k%d", i);
        OK(api_put(&f, key, "1"));
    }
    OK(armdb_commit(f.session, &api_err));
    before = adb_mem_used(ADB_MEM_TXN);
    OK(armdb_snapshot_open(f.session, &snapshot, &api_err));
    for (int i = 0; i < 2000; i++) {
        (void)snprintf(key, sizeof key, "k%d", i);
        OK(api_put(&f, key, "2"));
    }
    OK(armdb_commit(f.session, &api_err));
    held = adb_mem_used(ADB_MEM_TXN);
    assert_true(held > before + 2000 * 32);
    armdb_snapshot_close(snapshot);
    for (int i = 0; i < 3; i++) /* commits move the epoch on */
        api_put_committed(&f, "k0", "3");
    assert_true(adb_mem_used(ADB_MEM_TXN) < before + 2000 * 32);
    api_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cas_changes_what_is_as_expected_and_nothing_else),
        cmocka_unit_test(a_step_in_a_transaction_takes_part_in_it),
        cmocka_unit_test(a_refused_swap_does_not_hold_the_row),
        cmocka_unit_test(a_held_row_is_busy_and_a_changed_one_is_too_new),
        cmocka_unit_test(modify_does_as_it_is_told),
        cmocka_unit_test(modify_in_a_transaction_sees_it_and_holds_the_row),
        cmocka_unit_test(a_batch_is_applied_in_order_and_whole),
        cmocka_unit_test(write_hooks_hear_each_step_and_no_refused_one),
        cmocka_unit_test(a_forked_child_is_refused_by_every_call),
        cmocka_unit_test_setup_teardown(a_read_only_store_is_read_and_not_changed,
                                        api_make_folder, api_remove_folder),
        cmocka_unit_test(several_sessions_read_one_snapshot),
        cmocka_unit_test(a_snapshot_reaches_behind_a_cleared_table),
        cmocka_unit_test(who_writes_from_an_old_snapshot_loses_to_who_was_first),
        cmocka_unit_test(a_closed_snapshot_lets_old_versions_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

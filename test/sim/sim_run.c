/* sim_run.c - sessions as coroutines write to a store, and what they did is noted.
 *
 * Each session does its transactions one after the other; the scheduler mixes them, so
 * that commits of several go out in one flush, appends meet rotations and conflicts
 * happen. A transaction ends in one of the ways that SQLite can bring about:
 *
 *     commit                      prepare, commit
 *     rule abort                  prepare, commit with a verdict
 *     BUSY and abort              prepare, rollback
 *     BUSY, write on, again       prepare, put, prepare, commit: two attempts
 *     rollback
 *
 * The sizes that make rotations and chunks rare in real stores are set lower behind
 * the engine's back, since they are only thresholds. */
#include "test/sim/sim_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/thread.h"
#include "engine/store/internal.h"
#include "test/sim/sim_sched.h"

enum { OPS_MAX = 64, SESSIONS_MAX = 8 };

struct world {
    struct armdb *store;
    const struct sim_plan *plan;
    struct sim_history *history;
};

struct worker {
    struct world *world;
    uint64_t random;
    uint32_t index;
    struct armdb_session *session;
    struct armdb_error err;
    struct armdb_table *markers;
    struct armdb_table *tables[SIM_TABLES];
    bool renamed[SIM_TABLES];
    uint32_t tx;
    uint32_t number; /* attempts so far */
    struct sim_op ops[OPS_MAX];
    size_t op_count;
    bool broken;          /* a call has failed in this transaction */
    unsigned char *value; /* owned: room for the bytes of one */
};

static uint32_t next_tx = 1;
static uint32_t next_value = 1;
static struct sim_disk *disk_of_run;

uint32_t sim_run_next(void)
{
    return next_tx;
}

void sim_run_set_next(uint32_t tx)
{
    next_tx = tx;
    next_value = tx * 10000; /* more than the runs before it can have used */
}

static size_t now(void)
{
    return disk_of_run->journal != NULL ? disk_of_run->journal->count : 0;
}

static void must(struct worker *w, enum armdb_rc rc, const char *what)
{
    if (rc >= 0)
        return;
    if ((w->world->plan->what & SIM_FAULTS) == 0)
        sim_fail("%s: %s (%s)", what, adb_rc_name(rc), w->err.text);
    w->broken = true;
    w->world->history->errors |= UINT32_C(1) << -rc;
}

#define BACKUP_PATH "/backup"

static enum armdb_rc open_at(const char *path, const struct sim_plan *plan,
                             struct armdb **out, struct armdb_error *err)
{
    struct armdb_options options;
    enum armdb_rc rc;

    armdb_options_init(&options);
    options.shards = plan->shards;
    options.cache_size = 1 << 20;
    options.segment_size = 1 << 20;
    options.io_engine = ARMDB_IO_PLAIN;
    options.io_direct = (plan->what & SIM_DIRECT) != 0;
    options.compact_off = (plan->what & SIM_COMPACT) == 0; /* they have enough to do */
    if ((plan->what & SIM_HINTS) != 0)
        options.hint_bytes_min = 1;
    rc = armdb_open(path, &options, out, err);
    if (rc != ARMDB_OK)
        return rc;
    if ((plan->what & SIM_ROTATE) != 0)
        (*out)->log.segment_size = 24 << 10;
    if ((plan->what & SIM_CHUNKS) != 0)
        (*out)->options.cache_size = 16 << 10; /* a share is a quarter of it */
    return ARMDB_OK;
}

enum armdb_rc sim_store_open(const struct sim_plan *plan, struct armdb **out,
                             struct armdb_error *err)
{
    return open_at("/sim", plan, out, err);
}

enum armdb_rc sim_backup_open(const struct sim_plan *plan, struct armdb **out,
                              struct armdb_error *err)
{
    return open_at(BACKUP_PATH, plan, out, err);
}

/* ---- Operations of a transaction ---- */

static bool is_conflict(enum armdb_rc rc)
{
    return rc == ARMDB_BUSY || rc == ARMDB_BUSY_SNAPSHOT;
}

static void note(struct worker *w, enum sim_op_kind kind, uint32_t table, uint32_t key,
                 uint32_t value)
{
    struct sim_op *op = &w->ops[w->op_count++];

    op->kind = kind;
    op->table = table;
    op->key = key;
    op->value = value;
}

/* Tries a write, waiting once for whoever has the key. */
static enum armdb_rc put(struct worker *w, struct armdb_table *table, const char *key,
                         const void *value, size_t len)
{
    enum armdb_rc rc =
        armdb_put(w->session, table, key, strlen(key), value, len, &w->err);

    if (rc == ARMDB_BUSY && armdb_wait(w->session, 10) == ARMDB_OK)
        rc = armdb_put(w->session, table, key, strlen(key), value, len, &w->err);
    if (!is_conflict(rc))
        must(w, rc, "put");
    return rc;
}

static uint32_t draw_value(struct worker *w)
{
    uint32_t number = next_value++;

    if ((w->world->plan->what & SIM_LARGE) != 0) {
        uint32_t kind = sim_below(&w->random, 20);

        if (kind == 0)
            return number + SIM_VALUE_LARGE;
        if (kind < 5)
            return number + SIM_VALUE_MIDDLE;
    }
    if ((w->world->plan->what & SIM_ROTATE) != 0 && sim_below(&w->random, 3) == 0)
        return number + SIM_VALUE_MIDDLE;
    return number;
}

/* One look-up: a row is whole or an error, never another. */
static void read_some(struct worker *w)
{
    struct armdb_cursor *cursor = NULL;
    uint32_t k = sim_below(&w->random, SIM_KEYS);
    struct armdb_value value = {0};
    char key[16];
    enum armdb_rc rc;

    if (w->tables[0] == NULL || w->broken)
        return;
    (void)snprintf(key, sizeof key, "k%02u", k);
    rc = armdb_cursor_open(w->session, w->tables[0], &cursor, &w->err);
    if (rc == ARMDB_OK)
        rc = armdb_cursor_seek_key(cursor, key, strlen(key), &w->err);
    if (rc == ARMDB_OK)
        rc = armdb_cursor_value(cursor, &value, &w->err);
    must(w, rc, "look-up");
    if (rc == ARMDB_OK) {
        uint32_t number;

        memcpy(&number, value.data, sizeof number);
        if (sim_value_make(number, w->value) != value.len ||
            memcmp(w->value, value.data, value.len) != 0)
            sim_fail("row %s has a value that nobody wrote", key);
    }
    armdb_cursor_close(cursor);
}

/* What a row gets, whatever it has. */
struct fresh {
    const void *bytes;
    size_t len;
};

static enum armdb_verdict replace(void *arg, const void *value, size_t value_len,
                                  const void **bytes, size_t *len)
{
    const struct fresh *fresh = arg;

    if (value == NULL && value_len > 0)
        sim_fail("a row that is not there has a length");
    *bytes = fresh->bytes;
    *len = fresh->len;
    return fresh->bytes == NULL ? ARMDB_DELETE : ARMDB_UPDATE;
}

/* Puts a row, or deletes it, by one of the steps of modify.c: a batch that is refused and
 * then one that is not, or a read-modify-write. */
static enum armdb_rc write_step(struct worker *w, uint32_t table, uint32_t k)
{
    bool puts = sim_below(&w->random, 4) > 0;
    uint32_t number = puts ? draw_value(w) : 0;
    struct fresh fresh = {puts ? w->value : NULL, 0};
    struct armdb_op ops[2];
    size_t at;
    char key[16];
    enum armdb_rc rc;

    (void)snprintf(key, sizeof key, "k%02u", k);
    if (puts)
        fresh.len = sim_value_make(number, w->value);
    if (sim_below(&w->random, 2) == 0) {
        rc = armdb_modify(w->session, w->tables[table], key, strlen(key), replace, &fresh,
                          &w->err);
    } else {
        ops[0] = (struct armdb_op){.kind = puts ? ARMDB_OP_PUT : ARMDB_OP_DELETE,
                                   .table = w->tables[table],
                                   .key = key,
                                   .key_len = strlen(key),
                                   .value = fresh.bytes,
                                   .value_len = fresh.len};
        ops[1] = ops[0];
        ops[1].kind = (enum armdb_op_kind)99;
        rc = armdb_batch(w->session, ops, 2, &at, &w->err);
        if (rc == ARMDB_INVALID && at == 1)
            rc = armdb_batch(w->session, ops, 1, &at, &w->err);
    }
    if (!is_conflict(rc))
        must(w, rc, "step");
    if (rc == ARMDB_OK)
        note(w, puts ? SIM_PUT : SIM_DELETE, table, k, number);
    return rc;
}

static enum armdb_rc write_row(struct worker *w, uint32_t table)
{
    uint32_t k = sim_below(&w->random, SIM_KEYS);
    char key[16];
    enum armdb_rc rc;

    if (w->tables[table] == NULL || w->op_count == OPS_MAX || w->broken)
        return ARMDB_OK;
    if ((w->world->plan->what & SIM_STEPS) != 0)
        return write_step(w, table, k);
    (void)snprintf(key, sizeof key, "k%02u", k);
    if (sim_below(&w->random, 4) > 0) {
        uint32_t number = draw_value(w);

        rc = put(w, w->tables[table], key, w->value, sim_value_make(number, w->value));
        if (rc == ARMDB_OK)
            note(w, SIM_PUT, table, k, number);
        return rc;
    }
    rc = armdb_delete(w->session, w->tables[table], key, strlen(key), &w->err);
    if (!is_conflict(rc))
        must(w, rc, "delete");
    if (rc == ARMDB_OK)
        note(w, SIM_DELETE, table, k, 0);
    return rc < 0 ? rc : ARMDB_OK;
}

/* Worker 0 alone. */
static enum armdb_rc change_table(struct worker *w)
{
    uint32_t t = 2 + sim_below(&w->random, 2);
    enum armdb_rc rc;
    char name[8];

    if (w->op_count == OPS_MAX || w->broken)
        return ARMDB_OK;
    if (w->tables[t] == NULL) {
        sim_table_name(name, t, false);
        rc = armdb_table_create(w->session, name, "s", 1, &w->tables[t], &w->err);
        must(w, rc, "create table");
        if (rc == ARMDB_OK)
            note(w, SIM_CREATE_TABLE, t, 0, 0);
        w->renamed[t] = false;
    } else if (sim_below(&w->random, 3) == 0) {
        rc = armdb_table_clear(w->session, w->tables[t], &w->err);
        must(w, rc, "clear table");
        if (rc == ARMDB_OK)
            note(w, SIM_CLEAR, t, 0, 0);
    } else if (sim_below(&w->random, 2) == 0) {
        rc = armdb_table_drop(w->session, w->tables[t], &w->err);
        must(w, rc, "drop table");
        armdb_table_close(w->tables[t]);
        w->tables[t] = NULL;
        if (rc == ARMDB_OK)
            note(w, SIM_DROP, t, 0, 0);
    } else {
        w->renamed[t] = !w->renamed[t];
        sim_table_name(name, t, w->renamed[t]);
        rc = armdb_table_rename(w->session, w->tables[t], name, &w->err);
        must(w, rc, "rename");
        if (rc == ARMDB_OK)
            note(w, SIM_RENAME_TABLE, t, 0, 0);
    }
    return ARMDB_OK;
}

static void close_tables(struct worker *w)
{
    for (uint32_t t = 0; t < SIM_TABLES; t++) {
        armdb_table_close(w->tables[t]);
        w->tables[t] = NULL;
    }
    armdb_table_close(w->markers);
    w->markers = NULL;
}

static void open_table(struct worker *w, const char *name, struct armdb_table **out,
                       enum armdb_sync sync)
{
    must(w, armdb_table_open(w->session, name, NULL, out, &w->err), "open table");
    if (*out != NULL)
        armdb_table_set_sync(*out, sync);
}

static void open_tables(struct worker *w)
{
    int sync = w->world->plan->sync;
    char name[8];

    if (sync < 0)
        sync = (int)sim_below(&w->random, 3);
    open_table(w, "m", &w->markers, (enum armdb_sync)sync);
    for (uint32_t t = 0; t < SIM_TABLES; t++) {
        if (t >= 2 && w->index != 0)
            break;
        for (int renamed = 0; renamed < 2 && w->tables[t] == NULL; renamed++) {
            w->renamed[t] = renamed == 1;
            sim_table_name(name, t, w->renamed[t]);
            open_table(w, name, &w->tables[t], (enum armdb_sync)sync);
        }
    }
}

static enum armdb_rc write_some(struct worker *w, uint32_t count)
{
    enum armdb_rc rc = ARMDB_OK;
    bool ddl = w->index == 0 && (w->world->plan->what & SIM_DDL) != 0 &&
               sim_below(&w->random, 2) == 0;

    for (uint32_t i = 0; rc == ARMDB_OK && i < count; i++) {
        uint32_t t = sim_below(&w->random, w->index == 0 ? SIM_TABLES : 2);

        rc = ddl && sim_below(&w->random, 3) == 0 ? change_table(w) : write_row(w, t);
    }
    return rc;
}

/* A part that is undone again: nothing of it may be seen. Handles of tables that were
 * made or dropped in it are no more, so it has none. */
static enum armdb_rc write_and_undo(struct worker *w)
{
    size_t kept = w->op_count;
    enum armdb_rc rc = ARMDB_OK;

    must(w, armdb_savepoint(w->session, 5, &w->err), "savepoint");
    for (uint32_t i = sim_below(&w->random, 6); rc == ARMDB_OK && i > 0; i--)
        rc = write_row(w, sim_below(&w->random, 2));
    must(w, armdb_savepoint_rollback(w->session, 5, &w->err), "rollback to");
    w->op_count = kept;
    return rc;
}

static enum armdb_rc write_marker(struct worker *w)
{
    char key[16];
    uint32_t number = w->number + 1;

    if (w->broken || w->markers == NULL)
        return ARMDB_IO;
    (void)snprintf(key, sizeof key, "x%u", w->tx);
    return put(w, w->markers, key, &number, sizeof number);
}

/* ---- Ends of a transaction ---- */

static size_t new_attempt(struct worker *w)
{
    struct sim_history *history = w->world->history;
    struct sim_attempt *a;

    if (history->count == history->capacity) {
        history->capacity = history->capacity * 2 + 32;
        history->attempts =
            realloc(history->attempts, history->capacity * sizeof *history->attempts);
    }
    a = &history->attempts[history->count];
    memset(a, 0, sizeof *a);
    a->tx = w->tx;
    a->number = ++w->number;
    a->begun = a->commit_begun = a->committed = sim_never;
    a->undo_begun = a->undone = a->durable = sim_never;
    a->ops = malloc((w->op_count + 1) * sizeof *a->ops);
    memcpy(a->ops, w->ops, w->op_count * sizeof *a->ops);
    a->op_count = w->op_count;
    return history->count++;
}

static struct sim_attempt *attempt(struct worker *w, size_t i)
{
    return &w->world->history->attempts[i];
}

static size_t prepare(struct worker *w, bool rule_abort)
{
    size_t i = new_attempt(w);
    enum armdb_rc rc;

    attempt(w, i)->begun = now();
    attempt(w, i)->rule_abort = rule_abort;
    attempt(w, i)->full = w->session->txn->sync == ARMDB_SYNC_FULL;
    rc = armdb_prepare(w->session, rule_abort ? ARMDB_DOUBT_ABORT : ARMDB_DOUBT_COMMIT,
                       &w->err);
    must(w, rc, "prepare");
    attempt(w, i)->gsn = w->session->txn->undecided.gsn;
    return i;
}

static void commit(struct worker *w, size_t i)
{
    enum armdb_rc rc;

    attempt(w, i)->commit_begun = now();
    rc = armdb_commit(w->session, &w->err);
    must(w, rc, "commit");
    if (rc == ARMDB_OK)
        attempt(w, i)->committed = now();
}

static void roll_back(struct worker *w, size_t i)
{
    enum armdb_rc rc;

    if (i != SIZE_MAX && attempt(w, i)->undo_begun == sim_never)
        attempt(w, i)->undo_begun = now();
    rc = armdb_rollback(w->session, &w->err);
    must(w, rc, "rollback");
    if (i != SIZE_MAX && rc == ARMDB_OK)
        attempt(w, i)->undone = now();
}

/* Prepared, then written to again: the first frame gets its abort verdict. */
static size_t prepare_again(struct worker *w, size_t first)
{
    enum armdb_rc rc;

    for (uint32_t i = sim_below(&w->random, 6); i > 0; i--)
        sim_sched_yield();
    attempt(w, first)->undo_begun = now();
    rc = write_marker(w);
    if (rc == ARMDB_OK) {
        attempt(w, first)->undone = now();
        rc = write_some(w, 1 + sim_below(&w->random, 3));
    }
    if (rc != ARMDB_OK || w->broken) {
        roll_back(w, attempt(w, first)->undone == sim_never ? first : SIZE_MAX);
        return SIZE_MAX;
    }
    return prepare(w, false);
}

static void end_transaction(struct worker *w)
{
    uint32_t end =
        (w->world->plan->what & SIM_ODD_ENDS) != 0 ? sim_below(&w->random, 10) : 0;
    size_t i;

    if (end == 9) {
        roll_back(w, SIZE_MAX);
        return;
    }
    i = prepare(w, end >= 6 && end <= 7 && sim_below(&w->random, 4) > 0);
    for (uint32_t n = sim_below(&w->random, 4); n > 0; n--)
        sim_sched_yield();
    if ((end == 5 || end == 8) && !w->broken)
        i = prepare_again(w, i);
    if (i == SIZE_MAX)
        return;
    if (end != 7 && end != 8 && !w->broken)
        commit(w, i);
    if (attempt(w, i)->committed == sim_never)
        roll_back(w, i);
}

static void run_transaction(struct worker *w)
{
    bool odd = (w->world->plan->what & SIM_ODD_ENDS) != 0;
    uint32_t count = 1 + sim_below(&w->random, 5);
    enum armdb_rc rc;

    if (next_tx >= SIM_TX_MAX)
        sim_fail("more transactions than the model has room for");
    w->tx = next_tx++;
    w->number = 0;
    w->op_count = 0;
    w->broken = false;
    if ((w->world->plan->what & SIM_CHUNKS) != 0 && sim_below(&w->random, 3) == 0)
        count += 40;
    must(w, armdb_begin(w->session, &w->err), "begin");
    open_tables(w);
    read_some(w);
    rc = write_some(w, count / 2);
    if (rc == ARMDB_OK && odd && sim_below(&w->random, 3) == 0)
        rc = write_and_undo(w);
    if (rc == ARMDB_OK)
        rc = write_some(w, count - count / 2);
    if (rc == ARMDB_OK)
        rc = write_marker(w);
    if (rc == ARMDB_OK && !w->broken)
        end_transaction(w);
    else
        roll_back(w, SIZE_MAX);
    close_tables(w);
}

/* The first transaction of a new store. */
static void make_tables(struct worker *w)
{
    size_t i = SIZE_MAX;

    w->tx = 0;
    w->number = 0; /* where calls fail it may not be the first try */
    for (size_t a = 0; a < w->world->history->count; a++)
        w->number += w->world->history->attempts[a].tx == 0;
    w->op_count = 0;
    must(w, armdb_begin(w->session, &w->err), "begin");
    must(w, armdb_table_create(w->session, "m", "s", 1, &w->markers, &w->err), "create");
    for (uint32_t t = 0; t < 2; t++) {
        char name[8];

        sim_table_name(name, t, false);
        if (!w->broken)
            must(w, armdb_table_create(w->session, name, "s", 1, &w->tables[t], &w->err),
                 "create");
        note(w, SIM_CREATE_TABLE, t, 0, 0);
    }
    if (!w->broken && write_marker(w) == ARMDB_OK) {
        i = prepare(w, false);
        attempt(w, i)->makes_markers = true;
    }
    if (!w->broken)
        commit(w, i);
    if (w->broken)
        roll_back(w, i);
    close_tables(w);
}

static void begin_store(struct worker *w)
{
    enum armdb_rc rc;

    must(w, armdb_session_open(w->world->store, &w->session, &w->err), "open session");
    if (w->session == NULL)
        return;
    rc = armdb_table_open(w->session, "m", NULL, &w->markers, &w->err);
    must(w, rc, "open table");
    if (rc == ARMDB_NOT_FOUND)
        make_tables(w);
    close_tables(w);
    armdb_session_close(w->session);
    w->session = NULL;
}

/* What was committed before `begun` is durable now. */
static void note_durable(struct sim_history *history, size_t begun)
{
    for (size_t i = 0; i < history->count; i++)
        if (history->attempts[i].committed <= begun &&
            history->attempts[i].durable == sim_never)
            history->attempts[i].durable = now();
}

static void flush(struct worker *w)
{
    size_t begun = now();
    enum armdb_rc rc;

    rc = armdb_flush(w->world->store, &w->err);
    must(w, rc, "flush");
    if (rc == ARMDB_OK)
        note_durable(w->world->history, begun);
}

static void back_up(struct worker *w)
{
    struct sim_history *history = w->world->history;
    struct armdb_backup_info info;
    size_t begun = now();
    enum armdb_rc rc;

    if (history->backup_done != 0)
        return; /* made by an earlier run */
    rc = armdb_backup(w->world->store, BACKUP_PATH, NULL, &info, &w->err);
    must(w, rc, "backup");
    if (rc != ARMDB_OK)
        return;
    history->backup_begun = begun;
    history->backup_done = now();
}

/* It changes nothing that anybody sees. */
static void compact(struct worker *w)
{
    struct armdb_compact_info info;

    must(w, armdb_compact(w->world->store, NULL, &info, &w->err), "compact");
}

static void work(void *arg)
{
    struct worker *w = arg;

    must(w, armdb_session_open(w->world->store, &w->session, &w->err), "open session");
    if (w->session == NULL)
        return;
    for (uint32_t i = 0; i < w->world->plan->transactions; i++) {
        run_transaction(w);
        if ((w->world->plan->what & SIM_BACKUP) != 0 && w->index == 0 && i == 2)
            back_up(w);
        if ((w->world->plan->what & SIM_FLUSH) != 0 && sim_below(&w->random, 4) == 0)
            flush(w);
        if ((w->world->plan->what & SIM_COMPACT) != 0 && sim_below(&w->random, 3) == 0)
            compact(w);
    }
    armdb_session_close(w->session);
    if (sim_sched_locks_held() > 0)
        sim_fail("a lock is held after everything was closed");
}

/* The test's own coroutines are not what the injected failures are for. */
static void start_session(struct adb_thread *thread, struct worker *w)
{
    sim_sched_spare(true);
    if (adb_thread_start(thread, work, w) != ARMDB_OK)
        sim_fail("no coroutine for a session");
    sim_sched_spare(false);
}

void sim_run(struct armdb *store, const struct sim_plan *plan, uint64_t seed, bool close,
             struct sim_history *history)
{
    struct world world = {store, plan, history};
    struct worker workers[SESSIONS_MAX];
    struct adb_thread threads[SESSIONS_MAX];

    memset(workers, 0, sizeof workers);
    disk_of_run = sim_disk_mounted();
    for (uint32_t i = 0; i < plan->sessions; i++) {
        workers[i].world = &world;
        workers[i].index = i;
        workers[i].random = sim_mix(seed + i);
        workers[i].value = malloc(SIM_VALUE_MAX);
    }
    if ((plan->what & SIM_COMPACT) != 0 && (sim_mix(seed) & 1) == 0)
        armdb_compact_pause(store, true); /* only when a session asks for it */
    begin_store(&workers[0]);
    for (uint32_t i = 0; i < plan->sessions; i++)
        start_session(&threads[i], &workers[i]);
    for (uint32_t i = 0; i < plan->sessions; i++)
        adb_thread_join(&threads[i]);
    for (uint32_t i = 0; i < plan->sessions; i++)
        free(workers[i].value);
    if (close) {
        size_t begun = now();

        armdb_close(store);
        note_durable(history, begun);
    }
}

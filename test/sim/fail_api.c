/* fail_api.c - calls of the engine's interface while I/O and allocations fail.
 *
 *   fail_api [--seed=N] [--kind=NAME]
 *
 * What fail_calls.c has no transactions for: steps in one call (compare-and-swap,
 * modify, batch), migration, write hooks, snapshots as objects, ranges, warming up,
 * verification, the list of segments. Each is a step of a fixed list, which runs on the
 * simulated disk again and again: the n-th time the n-th call or allocation fails, once
 * or from then on, until all get through.
 *
 *     a step that fails       an error of the right kind with a text, and nothing has
 *                             changed (of a migration: what its counts say)
 *     a step that succeeds    did what it says: rows are compared with a model, what a
 *                             hook was told with them, too
 *     afterwards, reopened    exactly the model; where an I/O error came over a commit,
 *                             with or without that one
 *     in the end              no memory, file, thread or lock is left */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "engine/store/internal.h"
#include "test/sim/sim_disk.h"
#include "test/sim/sim_run.h"
#include "test/sim/sim_sched.h"

enum { KEYS = 12, VALUE_MAX = 9000, BATCH_ROWS = 3 };

struct kind {
    const char *name;
    bool memory;
    bool sticky;
    int error;
    bool only_sync;
};
static const struct kind kinds[] = {
    {"memory", true, false, 0, false},       {"memory-all", true, true, 0, false},
    {"eio", false, false, EIO, false},       {"eio-all", false, true, EIO, false},
    {"enospc", false, false, ENOSPC, false}, {"sync", false, false, EIO, true},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* Rows by their number: what the value says; 0 = no row. */
struct model {
    int row[KEYS];
};

struct world {
    const struct kind *kind;
    struct sim_disk *disk;
    struct armdb *store;
    struct armdb_session *session;
    struct armdb_session *other;
    struct armdb_table *table;
    struct armdb_table *others; /* the same, of the other session */
    struct armdb_snapshot *snapshot;
    struct armdb_hook *hook;
    struct armdb_error err;
    struct model now;
    struct model doubt; /* if the commit that failed has taken place */
    bool has_doubt;
    struct model then; /* when the snapshot was opened */
    struct model told; /* what the hook knows */
    bool knows[KEYS];  /* false: it could not read the value */
    struct armdb_migrate_info migrated;
    bool checking; /* nothing fails any more */
};

/* ---- Rows ---------------------------------------------------------------------------
 */

static size_t key_of(int row, char key[8])
{
    return (size_t)snprintf(key, 8, "k%02u", (unsigned)row % 100);
}

/* Short, of a page, over several. */
static size_t value_of(int number, unsigned char *bytes)
{
    size_t len = number % 5 == 0 ? VALUE_MAX : number % 3 == 0 ? 3000 : 20;

    memset(bytes, number, len);
    memcpy(bytes, &number, sizeof number);
    return len;
}

/* The number in a value, whose bytes are looked at. */
static int number_of(const void *value, size_t len)
{
    static unsigned char bytes[VALUE_MAX];
    int number;

    if (len < sizeof number)
        sim_fail("a value is too short");
    memcpy(&number, value, sizeof number);
    if (value_of(number, bytes) != len || memcmp(bytes, value, len) != 0)
        sim_fail("a value is none that was written");
    return number;
}

static bool is_right(const struct world *w, enum armdb_rc rc)
{
    if (w->checking)
        return false;
    if (w->kind->memory)
        return rc == ARMDB_NOMEM;
    if (w->kind->error == ENOSPC)
        return rc == ARMDB_FULL || rc == ARMDB_WOUNDED;
    return rc == ARMDB_IO || rc == ARMDB_CANTOPEN || rc == ARMDB_WOUNDED;
}

/* Looks at an error; true when there is none. */
static bool fine(struct world *w, enum armdb_rc rc, const char *what)
{
    if (rc >= 0)
        return true;
    if (!is_right(w, rc) || w->err.text[0] == '\0')
        sim_fail("%s: %s (%s)", what, adb_rc_name(rc), w->err.text);
    return false;
}

static void compare(int row, int found, const struct model *model, const char *what)
{
    if (found != model->row[row])
        sim_fail("%s: row %d is %d, not %d", what, row, found, model->row[row]);
}

/* ---- Steps --------------------------------------------------------------------------
 */

/* Says what becomes of the model when the step succeeds. */
typedef enum armdb_rc step_run(struct world *w, struct model *after);

static enum armdb_rc put_row(struct world *w, int row, int number, struct model *after)
{
    static unsigned char bytes[VALUE_MAX];
    char key[8];
    size_t key_len = key_of(row, key);
    size_t len = value_of(number, bytes);

    after->row[row] = number;
    return armdb_put(w->session, w->table, key, key_len, bytes, len, &w->err);
}

static enum armdb_rc fill(struct world *w, struct model *after)
{
    enum armdb_rc rc = armdb_begin(w->session, &w->err);

    for (int row = 0; rc == ARMDB_OK && row < KEYS - 2; row++)
        rc = put_row(w, row, row + 1, after);
    return rc == ARMDB_OK ? armdb_commit(w->session, &w->err) : rc;
}

static enum armdb_rc swap(struct world *w, int row, int from, int to, struct model *after)
{
    static unsigned char old[VALUE_MAX];
    static unsigned char fresh[VALUE_MAX];
    char key[8];
    size_t key_len = key_of(row, key);
    size_t old_len = from != 0 ? value_of(from, old) : 0;
    size_t fresh_len = to != 0 ? value_of(to, fresh) : 0;
    enum armdb_rc rc =
        armdb_cas(w->session, w->table, key, key_len, from != 0 ? old : NULL, old_len,
                  to != 0 ? fresh : NULL, fresh_len, &w->err);

    if (rc == ARMDB_OK && after->row[row] != from)
        sim_fail("a swap of row %d succeeds, which is %d, not %d", row, after->row[row],
                 from);
    if (rc == ARMDB_MISMATCH && after->row[row] == from)
        sim_fail("a swap of row %d is refused, which is %d", row, from);
    /* For a commit in doubt: what it would have done. */
    if (after->row[row] == from)
        after->row[row] = to;
    return rc;
}

static enum armdb_rc swap_value(struct world *w, struct model *after)
{
    return swap(w, 2, 3, 25, after);
}

static enum armdb_rc swap_in(struct world *w, struct model *after)
{
    return swap(w, KEYS - 1, 0, 30, after);
}

static enum armdb_rc swap_out(struct world *w, struct model *after)
{
    return swap(w, 4, 5, 0, after);
}

static enum armdb_rc swap_nothing(struct world *w, struct model *after)
{
    return swap(w, 0, 77, 78, after);
}

static unsigned char decided[VALUE_MAX];

static enum armdb_verdict add_ten(void *arg, const void *value, size_t len,
                                  const void **fresh, size_t *fresh_len)
{
    (void)arg;
    *fresh = decided;
    *fresh_len = value_of(value == NULL ? 10 : number_of(value, len) + 10, decided);
    return ARMDB_UPDATE;
}

static enum armdb_rc modify(struct world *w, struct model *after)
{
    char key[8];
    size_t key_len = key_of(1, key);

    after->row[1] += 10;
    return armdb_modify(w->session, w->table, key, key_len, add_ten, NULL, &w->err);
}

static enum armdb_rc batch(struct world *w, struct model *after)
{
    static unsigned char bytes[2][VALUE_MAX];
    char keys[3][8];
    struct armdb_op ops[] = {
        {ARMDB_OP_PUT, w->table, keys[0], key_of(3, keys[0]), bytes[0],
         value_of(40, bytes[0])},
        {ARMDB_OP_DELETE, w->table, keys[1], key_of(6, keys[1]), NULL, 0},
        {ARMDB_OP_PUT, w->table, keys[2], key_of(KEYS - 2, keys[2]), bytes[1],
         value_of(41, bytes[1])},
    };

    after->row[3] = 40;
    after->row[6] = 0;
    after->row[KEYS - 2] = 41;
    return armdb_batch(w->session, ops, 3, NULL, &w->err);
}

static enum armdb_verdict migrate_row(void *arg, const void *key, size_t key_len,
                                      const void *value, size_t len, const void **fresh,
                                      size_t *fresh_len)
{
    (void)key;
    (void)key_len;
    return add_ten(arg, value, len, fresh, fresh_len);
}

/* The first `count` rows that are there get ten more. */
static void migrate_model(struct model *model, uint64_t count)
{
    for (int row = 0; row < KEYS && count > 0; row++) {
        if (model->row[row] == 0)
            continue;
        model->row[row] += 10;
        count--;
    }
}

static enum armdb_rc migrate(struct world *w, struct model *after)
{
    struct armdb_migrate_options options = {.visit = migrate_row,
                                            .batch_rows = BATCH_ROWS};
    struct armdb_value last = {0};
    enum armdb_rc rc =
        armdb_migrate(w->session, w->table, &options, &w->migrated, &last, &w->err);

    armdb_value_release(&last);
    /* Its batches are transactions of their own: what was committed stays. */
    if (rc == ARMDB_OK) {
        migrate_model(after, w->migrated.updated);
    } else {
        migrate_model(&w->now, w->migrated.updated);
        *after = w->now; /* and the batch that failed, if it is in doubt */
        for (int row = 0, left = (int)w->migrated.updated, more = BATCH_ROWS;
             row < KEYS && more > 0; row++) {
            if (after->row[row] == 0 || left-- > 0)
                continue;
            after->row[row] += 10;
            more--;
        }
    }
    return rc;
}

static void hear(void *arg, struct armdb_change *change)
{
    struct world *w = arg;
    struct armdb_value value = {0};
    char key[8] = {0};
    enum armdb_rc rc;
    int row;

    if (change->key_len != 3)
        sim_fail("a hook hears of a strange key");
    memcpy(key, change->key, 3);
    row = atoi(key + 1);
    rc = armdb_change_value(change, &value, &w->err);
    w->knows[row] = fine(w, rc, "a hook's value");
    if (w->knows[row])
        w->told.row[row] = rc == ARMDB_NOT_FOUND ? 0 : number_of(value.data, value.len);
    if (change->kind == ARMDB_CHANGE_UPDATE || change->kind == ARMDB_CHANGE_DELETE)
        (void)fine(w, armdb_change_old(change, &value, &w->err), "a hook's old value");
}

static enum armdb_rc add_hook(struct world *w, struct model *after)
{
    struct armdb_hook_options options = {
        .tables = &w->table, .table_count = 1, .call = hear, .arg = w, .replay = true};
    enum armdb_rc rc;

    (void)after;
    memset(&w->told, 0, sizeof w->told);
    for (int row = 0; row < KEYS; row++)
        w->knows[row] = true;
    rc = armdb_hook_add(w->store, &options, &w->hook, &w->err);
    for (int row = 0; rc == ARMDB_OK && row < KEYS; row++)
        if (w->knows[row])
            compare(row, w->told.row[row], &w->now, "a hook's replay");
    return rc;
}

static enum armdb_rc remove_hook(struct world *w, struct model *after)
{
    enum armdb_rc rc;

    (void)after;
    for (int row = 0; w->hook != NULL && row < KEYS; row++)
        if (w->knows[row])
            compare(row, w->told.row[row], &w->now, "what a hook was told");
    rc = armdb_hook_remove(w->hook);
    w->hook = NULL;
    return rc;
}

static enum armdb_rc open_snapshot(struct world *w, struct model *after)
{
    (void)after;
    w->then = w->now;
    return armdb_snapshot_open(w->session, &w->snapshot, &w->err);
}

/* Reads all rows one by one. */
static enum armdb_rc read_rows(struct world *w, struct armdb_session *session,
                               struct armdb_table *table, const struct model *model)
{
    enum armdb_rc worst = ARMDB_OK;

    for (int row = 0; row < KEYS; row++) {
        struct armdb_value value = {0};
        char key[8];
        size_t key_len = key_of(row, key);
        enum armdb_rc rc = armdb_get(session, table, key, key_len, &value, &w->err);

        if (!fine(w, rc, "reading a row"))
            worst = rc;
        else
            compare(row, rc == ARMDB_NOT_FOUND ? 0 : number_of(value.data, value.len),
                    model, "reading");
        armdb_value_release(&value);
    }
    return worst;
}

static enum armdb_rc use_snapshot(struct world *w, struct model *after)
{
    enum armdb_rc rc;

    (void)after;
    if (w->snapshot == NULL)
        return ARMDB_OK;
    rc = armdb_snapshot_use(w->other, w->snapshot, &w->err);
    if (rc != ARMDB_OK)
        return rc;
    rc = read_rows(w, w->other, w->others, &w->then);
    armdb_snapshot_release(w->other);
    return rc;
}

static enum armdb_rc close_snapshot(struct world *w, struct model *after)
{
    (void)after;
    armdb_snapshot_close(w->snapshot);
    w->snapshot = NULL;
    return ARMDB_OK;
}

static int end_of(const struct model *model, int step)
{
    int row = step > 0 ? 0 : KEYS - 1;

    while (row >= 0 && row < KEYS && model->row[row] == 0)
        row += step;
    return row >= 0 && row < KEYS ? row : -1;
}

static enum armdb_rc ranges(struct world *w, struct model *after)
{
    struct armdb_range range;
    unsigned char buffer[2];
    uint64_t count = 0;
    uint64_t rows = 0;
    enum armdb_rc rc = ARMDB_OK;

    (void)after;
    armdb_range_prefix(&range, "k", 1, buffer);
    for (int last = 0; rc >= 0 && last < 2; last++) {
        struct armdb_value key = {0};
        struct armdb_value value = {0};
        char text[8];
        int row = end_of(&w->now, last ? -1 : 1);

        rc = last ? armdb_last(w->session, w->table, &range, &key, &value, &w->err)
                  : armdb_first(w->session, w->table, &range, &key, &value, &w->err);
        if (rc == ARMDB_OK &&
            (row < 0 || key_of(row, text) != key.len || memcmp(text, key.data, 3) != 0 ||
             number_of(value.data, value.len) != w->now.row[row]))
            sim_fail("the first or last row of a range is another one");
        armdb_value_release(&key);
        armdb_value_release(&value);
    }
    if (rc >= 0)
        rc = armdb_range_count(w->session, w->table, &range, NULL, &count, &w->err);
    for (int row = 0; row < KEYS; row++)
        rows += w->now.row[row] != 0;
    if (rc == ARMDB_OK && count != rows)
        sim_fail("%d rows are counted, there are %d", (int)count, (int)rows);
    return rc;
}

static enum armdb_rc read_all(struct world *w, struct model *after)
{
    (void)after;
    return read_rows(w, w->session, w->table, &w->now);
}

static enum armdb_rc warm(struct world *w, struct model *after)
{
    (void)after;
    return armdb_warm(w->session, w->table, NULL, NULL, &w->err);
}

/* A read that fails is a finding; so is the file of a segment whose creation failed:
 * the next opening removes it. */
static void find(void *arg, const struct armdb_finding *finding)
{
    struct world *w = arg;

    if (w->checking ||
        (w->kind->memory && strstr(finding->what, "manifest does not list") == NULL))
        sim_fail("verification finds: %s", finding->what);
}

static enum armdb_rc verify(struct world *w, struct model *after)
{
    (void)after;
    return armdb_verify(w->store, NULL, find, w, &w->err);
}

static void see_segment(void *arg, const struct armdb_segment *segment)
{
    (void)segment;
    ++*(int *)arg;
}

static enum armdb_rc segments(struct world *w, struct model *after)
{
    int count = 0;
    enum armdb_rc rc = armdb_segment_each(w->store, see_segment, &count, &w->err);

    (void)after;
    if (rc == ARMDB_OK && count == 0)
        sim_fail("no segments are listed");
    return rc;
}

static enum armdb_rc clear(struct world *w, struct model *after)
{
    enum armdb_rc rc = armdb_begin(w->session, &w->err);

    if (rc == ARMDB_OK)
        rc = armdb_table_clear(w->session, w->table, &w->err);
    memset(after, 0, sizeof *after);
    if (rc == ARMDB_OK)
        rc = put_row(w, 7, 50, after);
    return rc == ARMDB_OK ? armdb_commit(w->session, &w->err) : rc;
}

static enum armdb_rc compact(struct world *w, struct model *after)
{
    struct armdb_compact_info info;

    (void)after;
    return armdb_compact(w->store, NULL, &info, &w->err);
}

static const struct {
    const char *name;
    step_run *run;
} steps[] = {
    {"fill", fill},
    {"add a hook", add_hook},
    {"swap", swap_value},
    {"swap nothing", swap_nothing},
    {"open a snapshot", open_snapshot},
    {"swap in", swap_in},
    {"swap out", swap_out},
    {"modify", modify},
    {"batch", batch},
    {"read", read_all},
    {"use a snapshot", use_snapshot},
    {"remove the hook", remove_hook},
    {"migrate", migrate},
    {"ranges", ranges},
    {"compact", compact},
    {"use a snapshot again", use_snapshot},
    {"close the snapshot", close_snapshot},
    {"verify", verify},
    {"warm", warm},
    {"segments", segments},
    {"clear", clear},
    {"read again", read_all},
};
enum { STEPS = sizeof steps / sizeof steps[0] };

static void run_step(struct world *w, size_t i)
{
    struct model after = w->now;
    enum armdb_rc rc = steps[i].run(w, &after);

    if (fine(w, rc, steps[i].name)) {
        w->now = after;
        return;
    }
    if (!w->has_doubt && !w->kind->memory) {
        w->has_doubt = true; /* the first one: then the store is wounded */
        w->doubt = after;
    }
    if (armdb_in_transaction(w->session))
        (void)fine(w, armdb_rollback(w->session, &w->err), "rollback");
}

/* ---- One trial ----------------------------------------------------------------------
 */

static const struct sim_plan plan = {"api", SIM_ROTATE, 2, 1, 1, ARMDB_SYNC_FULL};

static void open_all(struct world *w)
{
    enum armdb_rc rc = sim_store_open(&plan, &w->store, &w->err);

    if (rc == ARMDB_OK)
        rc = armdb_session_open(w->store, &w->session, &w->err);
    if (rc == ARMDB_OK)
        rc = armdb_session_open(w->store, &w->other, &w->err);
    if (rc == ARMDB_OK)
        rc = armdb_table_open(w->session, "t", NULL, &w->table, &w->err);
    if (rc == ARMDB_NOT_FOUND) {
        rc = armdb_table_create(w->session, "t", "s", 1, &w->table, &w->err);
        if (rc == ARMDB_OK)
            rc = armdb_commit(w->session, &w->err);
    }
    if (rc == ARMDB_OK)
        rc = armdb_table_open(w->other, "t", NULL, &w->others, &w->err);
    if (rc != ARMDB_OK)
        sim_fail("opening: %s (%s)", adb_rc_name(rc), w->err.text);
}

static void close_all(struct world *w)
{
    (void)armdb_hook_remove(w->hook);
    armdb_snapshot_close(w->snapshot);
    armdb_table_close(w->table);
    armdb_table_close(w->others);
    armdb_session_close(w->session);
    armdb_session_close(w->other);
    armdb_close(w->store);
    w->hook = NULL;
    w->snapshot = NULL;
    if (adb_mem_used_total() != 0 || sim_disk_handles() != 0 || sim_sched_count() != 0 ||
        sim_sched_locks_held() != 0)
        sim_fail("closed: %llu bytes, %u files, %u threads, %u locks are left",
                 (unsigned long long)adb_mem_used_total(), sim_disk_handles(),
                 sim_sched_count(), sim_sched_locks_held());
}

static bool holds(struct world *w, const struct model *model)
{
    for (int row = 0; row < KEYS; row++) {
        struct armdb_value value = {0};
        char key[8];
        size_t key_len = key_of(row, key);
        enum armdb_rc rc = armdb_get(w->session, w->table, key, key_len, &value, &w->err);
        int found;

        (void)fine(w, rc, "reading");
        found = rc == ARMDB_OK ? number_of(value.data, value.len) : 0;
        armdb_value_release(&value);
        if (found != model->row[row])
            return false;
    }
    return true;
}

static void arm(struct world *w, uint64_t n)
{
    struct sim_fault fault = {.at = n,
                              .sticky = w->kind->sticky,
                              .error = w->kind->error,
                              .only_sync = w->kind->only_sync};

    if (w->kind->memory) {
        (void)adb_mem_failures();
        adb_mem_fail_at(n, w->kind->sticky);
    } else {
        sim_disk_fault(w->disk, &fault);
    }
}

static bool disarm(struct world *w)
{
    bool hit;

    adb_mem_fail_at(0, false);
    hit = w->kind->memory ? adb_mem_failures() > 0 : w->disk->faults_hit > 0;
    sim_disk_fault(w->disk, NULL);
    w->checking = true;
    return hit;
}

/* False when nothing failed any more. */
static bool try_once(const struct kind *kind, uint64_t seed, uint64_t n)
{
    static struct world w;
    bool hit;

    memset(&w, 0, sizeof w);
    w.kind = kind;
    w.disk = sim_disk_create(n);
    sim_sched_seed(seed, 20);
    sim_disk_mount(w.disk);
    w.checking = true;
    open_all(&w);
    w.checking = false;
    arm(&w, n);
    for (size_t i = 0; i < STEPS; i++) {
        sim_context("--seed=%llu --kind=%s, number %llu, step %s",
                    (unsigned long long)seed, kind->name, (unsigned long long)n,
                    steps[i].name);
        run_step(&w, i);
    }
    hit = disarm(&w);
    if (!holds(&w, &w.now))
        sim_fail("afterwards the rows are others");
    close_all(&w);
    open_all(&w);
    if (!holds(&w, &w.now) && !(w.has_doubt && holds(&w, &w.doubt)))
        sim_fail("opened again the rows are others");
    if (armdb_verify(w.store, NULL, find, &w, &w.err) != ARMDB_OK)
        sim_fail("verification: %s", w.err.text);
    close_all(&w);
    sim_disk_destroy(w.disk);
    return hit;
}

/* ---- All of them --------------------------------------------------------------------
 */

struct job {
    const struct kind *kind;
    uint64_t seed;
    uint64_t step;
    uint64_t *count; /* shared with the parent */
};

static void run_kind(void *arg)
{
    struct job *job = arg;

    for (uint64_t n = 1; try_once(job->kind, job->seed, n); n += job->step)
        ++*job->count;
}

int main(int argc, char **argv)
{
    const char *wanted_seed = getenv("SEED");
    const char *wanted_jobs = getenv("JOBS");
    uint64_t jobs = wanted_jobs != NULL ? strtoull(wanted_jobs, NULL, 10) : 1;
    uint64_t seed = wanted_seed != NULL ? strtoull(wanted_seed, NULL, 10) : 0;
    uint64_t step = getenv("STEP") != NULL ? strtoull(getenv("STEP"), NULL, 10) : 1;
    const char *only = NULL;
    uint64_t *counts = mmap(NULL, KINDS * sizeof *counts, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bool good = true;
    int status;

    sim_fix_addresses(argv);
    if (wanted_seed == NULL)
        seed = (uint64_t)time(NULL);
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], "--kind=", 7) == 0)
            only = argv[i] + 7;
        else if (strncmp(argv[i], "--seed=", 7) == 0)
            seed = strtoull(argv[i] + 7, NULL, 10);
    if (counts == MAP_FAILED || step < 1)
        return 1;
    jobs = jobs < 1 || jobs > KINDS ? 1 : jobs;
    (void)fflush(stdout);
    for (uint64_t j = 0; j < jobs; j++) {
        if (fork() == 0) {
            for (uint64_t i = j; i < KINDS; i += jobs) {
                struct job job = {&kinds[i], seed, step, &counts[i]};

                if (only == NULL || strcmp(only, kinds[i].name) == 0)
                    good = sim_run_apart(run_kind, &job) && good;
            }
            _exit(good ? 0 : 1);
        }
    }
    while (wait(&status) > 0)
        good = good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    for (size_t i = 0; good && i < KINDS; i++)
        if (only == NULL || strcmp(only, kinds[i].name) == 0)
            printf("ok - calls of the interface, failing: %s: %llu, seed %llu\n",
                   kinds[i].name, (unsigned long long)counts[i],
                   (unsigned long long)seed);
    return good ? 0 : 1;
}

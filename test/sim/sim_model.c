/* sim_model.c - the model: see sim_model.h.
 *
 * What must hold of a store found after a cut:
 *
 *   M1 acknowledged   every committed attempt that was acknowledged is there: always
 *                     with sync=full; in the other modes when the kernel lived, or
 *                     after a flush or close
 *   M2 never          nothing is there that was not prepared yet, that was rolled back
 *                     and acknowledged so, or that has rule abort and no commit
 *   M3 prefix         in order of GSNs nothing is missing below what is there, but what
 *                     was being rolled back; nor is anything missing that was committed
 *                     before something that is there had begun
 *   M4 whole          the rows are exactly those that the attempts found leave, applied
 *                     in order of their GSNs to what was there before the run */
#include "test/sim/sim_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "test/sim/sim_sched.h"

void sim_history_fini(struct sim_history *history)
{
    for (size_t i = 0; i < history->count; i++)
        free(history->attempts[i].ops);
    free(history->attempts);
    memset(history, 0, sizeof *history);
}

size_t sim_value_make(uint32_t number, unsigned char *bytes)
{
    uint64_t bits = sim_mix(number);
    size_t len = 4 + bits % 90;

    if (number >= SIM_VALUE_LARGE)
        len = 20000 + bits % (SIM_VALUE_MAX - 20000);
    else if (number >= SIM_VALUE_MIDDLE)
        len = 1000 + bits % 9000;
    for (size_t i = 4; i < len; i++) {
        if (i % 8 == 4)
            bits = sim_mix(bits);
        bytes[i] = (unsigned char)(bits >> (i % 8 * 8));
    }
    memcpy(bytes, &number, 4);
    return len;
}

void sim_table_name(char name[8], uint32_t table, bool renamed)
{
    (void)snprintf(name, 8, "t%u%s", table % 10, renamed ? "r" : "");
}

/* ---- Reading ---- */

static void must(enum armdb_rc rc, const struct armdb_error *err, const char *what)
{
    if (rc < 0)
        sim_fail("%s: %s (%s)", what, adb_rc_name(rc), err->text);
}

static void read_marker(struct sim_state *state, const char *key, uint32_t number)
{
    uint32_t tx = (uint32_t)atoi(key + 1);

    if (key[0] != 'x' || tx >= SIM_TX_MAX)
        sim_fail("a marker row %s that nobody wrote", key);
    state->marker[tx] = number;
}

static void read_row(struct sim_state *state, uint32_t table, const char *key,
                     const struct armdb_value *value)
{
    static unsigned char wanted[SIM_VALUE_MAX];
    uint32_t k = (uint32_t)atoi(key + 1);
    uint32_t number;

    if (key[0] != 'k' || k >= SIM_KEYS)
        sim_fail("a row %s that nobody wrote", key);
    memcpy(&number, value->data, 4);
    if (value->len != sim_value_make(number, wanted) ||
        memcmp(value->data, wanted, value->len) != 0)
        sim_fail("row %s of table %u has a value that nobody wrote", key, table);
    state->tables[table].rows[k] = number;
}

/* One table by a scan; `table` = SIM_TABLES: the markers. */
static bool read_table(struct armdb_session *session, const char *name, uint32_t table,
                       struct sim_state *state)
{
    struct armdb_error err = {0};
    struct armdb_table *handle = NULL;
    struct armdb_cursor *cursor = NULL;
    struct armdb_range range = {0};
    uint64_t count = 0;
    enum armdb_rc rc = armdb_table_open(session, name, NULL, &handle, &err);

    must(rc, &err, "opening a table");
    if (rc != ARMDB_OK)
        return false;
    must(armdb_cursor_open(session, handle, &cursor, &err), &err, "opening a cursor");
    rc = armdb_cursor_seek_range(cursor, &range, &err);
    for (; rc == ARMDB_OK; rc = armdb_cursor_next(cursor, &err)) {
        struct armdb_value value = {0};
        const void *key;
        size_t len;
        char text[32] = "";

        armdb_cursor_key(cursor, &key, &len);
        memcpy(text, key, len < sizeof text ? len : sizeof text - 1);
        must(armdb_cursor_value(cursor, &value, &err), &err, "reading a value");
        if (value.len < 4)
            sim_fail("row %s has %zu bytes", text, value.len);
        if (table == SIM_TABLES) {
            uint32_t number;

            memcpy(&number, value.data, 4);
            read_marker(state, text, number);
        } else {
            read_row(state, table, text, &value);
        }
        count++;
    }
    must(rc, &err, "scanning");
    if (count != armdb_count(handle))
        sim_fail("a scan of %s finds %llu rows, the count says %llu", name,
                 (unsigned long long)count, (unsigned long long)armdb_count(handle));
    armdb_cursor_close(cursor);
    armdb_table_close(handle);
    return true;
}

/* Look-ups must agree with what the scan found. */
static void look_up(struct armdb_session *session, uint32_t table,
                    const struct sim_state *state)
{
    struct armdb_error err = {0};
    struct armdb_table *handle = NULL;
    struct armdb_cursor *cursor = NULL;
    char name[8];

    sim_table_name(name, table, state->tables[table].renamed);
    must(armdb_table_open(session, name, NULL, &handle, &err), &err, "opening a table");
    must(armdb_cursor_open(session, handle, &cursor, &err), &err, "opening a cursor");
    for (uint32_t k = 0; k < SIM_KEYS; k += 5) {
        char key[16];
        int len = snprintf(key, sizeof key, "k%02u", k);
        enum armdb_rc rc = armdb_cursor_seek_key(cursor, key, (size_t)len, &err);

        must(rc, &err, "looking up a row");
        if ((rc == ARMDB_OK) != (state->tables[table].rows[k] != 0))
            sim_fail("row %s of %s: a look-up and a scan disagree", key, name);
    }
    armdb_cursor_close(cursor);
    armdb_table_close(handle);
}

void sim_state_read(struct armdb *store, struct sim_state *state)
{
    struct armdb_error err = {0};
    struct armdb_session *session = NULL;

    memset(state, 0, sizeof *state);
    must(armdb_session_open(store, &session, &err), &err, "opening a session");
    state->has_markers = read_table(session, "m", SIM_TABLES, state);
    for (uint32_t t = 0; t < SIM_TABLES; t++) {
        char name[8];
        bool under_both;

        sim_table_name(name, t, false);
        state->tables[t].exists = read_table(session, name, t, state);
        if (t < 2 && !state->tables[t].exists)
            continue;
        sim_table_name(name, t, true);
        under_both = state->tables[t].exists;
        state->tables[t].renamed = read_table(session, name, t, state);
        if (under_both && state->tables[t].renamed)
            sim_fail("table %u is there under both of its names", t);
        state->tables[t].exists |= state->tables[t].renamed;
        if (state->tables[t].exists)
            look_up(session, t, state);
    }
    armdb_session_close(session);
}

/* ---- Comparing ---- */

static bool is_there(const struct sim_attempt *attempt, const struct sim_state *found)
{
    return found->marker[attempt->tx] == attempt->number;
}

/* For whoever has to find out: the attempts as they are, a line each. */
static void print_history(const struct sim_history *history,
                          const struct sim_state *found, size_t at)
{
    static const char *const kinds[] = {"put",  "delete", "create",
                                        "drop", "rename", "clear"};

    printf("# crash before event %zu; an attempt: times, operations\n", at);
    for (size_t i = 0; i < history->count; i++) {
        const struct sim_attempt *a = &history->attempts[i];

        printf("# %s x%u/%u gsn %llu%s%s begun %zd commit %zd-%zd undo %zd-%zd:",
               is_there(a, found) ? "there" : "   no", a->tx, a->number,
               (unsigned long long)a->gsn, a->rule_abort ? " rule abort" : "",
               a->full ? "" : " not full", (ssize_t)a->begun, (ssize_t)a->commit_begun,
               (ssize_t)a->committed, (ssize_t)a->undo_begun, (ssize_t)a->undone);
        for (size_t o = 0; o < a->op_count; o++)
            printf(" %s t%u k%u %#x;", kinds[a->ops[o].kind], a->ops[o].table,
                   a->ops[o].key, a->ops[o].value);
        printf("\n");
    }
}

void sim_state_same(const struct sim_state *a, const struct sim_state *b,
                    const char *what)
{
    for (uint32_t tx = 0; tx < SIM_TX_MAX; tx++)
        if (a->marker[tx] != b->marker[tx])
            sim_fail("%s: transaction %u: attempt %u, expected %u", what, tx,
                     a->marker[tx], b->marker[tx]);
    if (a->has_markers != b->has_markers)
        sim_fail("%s: the marker table is %s", what,
                 a->has_markers ? "there" : "missing");
    for (uint32_t t = 0; t < SIM_TABLES; t++) {
        if (a->tables[t].exists != b->tables[t].exists ||
            a->tables[t].renamed != b->tables[t].renamed)
            sim_fail("%s: table %u: exists %d, renamed %d, expected %d, %d", what, t,
                     a->tables[t].exists, a->tables[t].renamed, b->tables[t].exists,
                     b->tables[t].renamed);
        for (uint32_t k = 0; k < SIM_KEYS; k++)
            if (a->tables[t].rows[k] != b->tables[t].rows[k])
                sim_fail("%s: table %u, key %u: value %#x, expected %#x", what, t, k,
                         a->tables[t].rows[k], b->tables[t].rows[k]);
    }
}

static void apply_attempt(struct sim_state *state, const struct sim_attempt *attempt)
{
    if (attempt->makes_markers)
        state->has_markers = true;
    state->marker[attempt->tx] = attempt->number;
    for (size_t i = 0; i < attempt->op_count; i++) {
        const struct sim_op *op = &attempt->ops[i];

        switch (op->kind) {
        case SIM_PUT:
            state->tables[op->table].rows[op->key] = op->value;
            break;
        case SIM_DELETE:
            state->tables[op->table].rows[op->key] = 0;
            break;
        case SIM_CREATE_TABLE:
            state->tables[op->table].exists = true;
            break;
        case SIM_DROP:
            memset(&state->tables[op->table], 0, sizeof state->tables[op->table]);
            break;
        case SIM_CLEAR:
            memset(state->tables[op->table].rows, 0,
                   sizeof state->tables[op->table].rows);
            break;
        case SIM_RENAME_TABLE:
            state->tables[op->table].renamed = !state->tables[op->table].renamed;
            break;
        }
    }
}

/* A time that counts: `from` for what must have been done, `to` for what may have been.
 * After a crash both are the same. */
struct span {
    size_t from;
    size_t to;
    bool killed; /* all that the kernel had is there */
};

static void check_alone(const struct sim_attempt *a, bool there, const struct span *at)
{
    bool safe = a->full || at->killed || a->durable <= at->from;

    if (!there && a->committed <= at->from && safe)
        sim_fail("M1: transaction %u, attempt %u (GSN %llu) was acknowledged and is lost",
                 a->tx, a->number, (unsigned long long)a->gsn);
    if (!there)
        return;
    if (a->gsn == 0 || a->begun > at->to)
        sim_fail("M2: transaction %u, attempt %u is there and was not prepared", a->tx,
                 a->number);
    if (a->undone <= at->from)
        sim_fail("M2: transaction %u, attempt %u (GSN %llu) was rolled back and is there",
                 a->tx, a->number, (unsigned long long)a->gsn);
    if (a->rule_abort && a->commit_begun > at->to)
        sim_fail("M2: transaction %u, attempt %u has rule abort, no verdict, and is "
                 "there",
                 a->tx, a->number);
}

/* `low` is missing, `high` is there. */
static void check_pair(const struct sim_attempt *low, const struct sim_attempt *high,
                       const struct span *at)
{
    bool was_undone = low->undo_begun <= at->to || low->undone <= at->to;

    if (low->committed <= high->begun && low->committed <= at->to)
        sim_fail("M3: transaction %u is there, %u that was committed before it began is "
                 "not",
                 high->tx, low->tx);
    /* A backup leaves out what is undecided at its moment, whatever its GSN. */
    if (at->from != at->to && low->committed > high->commit_begun)
        return;
    if (low->gsn < high->gsn && !was_undone && !low->rule_abort)
        sim_fail("M3: transaction %u (GSN %llu) is there, %u (GSN %llu) is not", high->tx,
                 (unsigned long long)high->gsn, low->tx, (unsigned long long)low->gsn);
}

/* M4. */
static void check_rows(const struct sim_history *history, const struct sim_state *found)
{
    static struct sim_state wanted;
    uint64_t last = 0;

    wanted = history->base;
    for (;;) { /* in order of GSNs */
        const struct sim_attempt *next = NULL;

        for (size_t i = 0; i < history->count; i++) {
            const struct sim_attempt *a = &history->attempts[i];

            if (a->gsn > last && (next == NULL || a->gsn < next->gsn) &&
                is_there(a, found))
                next = a;
        }
        if (next == NULL)
            break;
        last = next->gsn;
        apply_attempt(&wanted, next);
    }
    sim_state_same(found, &wanted, "M4");
}

static void check_span(const struct sim_history *history, const struct sim_state *found,
                       const struct span *at)
{
    if (getenv("SIM_VERBOSE") != NULL)
        print_history(history, found, at->from);
    for (size_t i = 0; i < history->count; i++) {
        const struct sim_attempt *a = &history->attempts[i];
        bool there = is_there(a, found);

        check_alone(a, there, at);
        for (size_t j = 0; !there && a->gsn != 0 && j < history->count; j++)
            if (is_there(&history->attempts[j], found))
                check_pair(a, &history->attempts[j], at);
    }
    check_rows(history, found);
}

void sim_history_check(const struct sim_history *history, const struct sim_state *found,
                       size_t at, bool killed)
{
    struct span span = {at, at, killed};

    check_span(history, found, &span);
}

void sim_history_check_backup(const struct sim_history *history,
                              const struct sim_state *found)
{
    struct span span = {history->backup_begun, history->backup_done, true};

    check_span(history, found, &span);
}

void sim_history_check_now(const struct sim_history *history,
                           const struct sim_state *found)
{
    for (size_t i = 0; i < history->count; i++) {
        const struct sim_attempt *a = &history->attempts[i];

        if (is_there(a, found) != (a->committed != sim_never))
            sim_fail("now: transaction %u, attempt %u was %scommitted and is %sthere",
                     a->tx, a->number, a->committed != sim_never ? "" : "not ",
                     is_there(a, found) ? "" : "not ");
    }
    check_rows(history, found);
}

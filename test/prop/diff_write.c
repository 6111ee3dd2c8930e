/* diff_write.c - random writing statements, transactions, and the list of steps.
 *
 * Some outcomes depend on the order in which SQLite visits rows; a native table
 * visits them by key, whatever the plan, because it collects the keys first. So
 * an UPDATE that can hit a constraint gets a WHERE clause that every plan answers
 * in key order, INSERT ... SELECT an ORDER BY over the whole key, and DELETE ...
 * LIMIT too.
 *
 * A native DELETE removes rows while it scans, and evaluates an uncorrelated sub-query
 * when it first needs it: over its own table that depends on how far it is. Such
 * sub-queries are not put into DELETE. A native UPDATE changes rows while it scans, so
 * it gets no sub-query on its own table in WHERE.
 *
 * One thing no virtual table can do as a native one: UPDATE OR REPLACE of keys that
 * meets a row which the same statement still has to visit (SQLite hands a virtual
 * table the old row, and counts it though it is gone). It is asked for single rows
 * only.
 *
 * An explicit NULL for a column with a DEFAULT is not generated in INSERT: SQLite
 * tells a virtual table no difference between NULL and a column left out.
 *
 * The list is made from the seed alone, never from results, so that any part of it
 * can be run again. */
#include "test/prop/diff.h"

#include <stdio.h>
#include <string.h>

static const char *or_clause(struct builder *b, bool transactions)
{
    static const char *const clauses[] = { "", "", "", " OR ABORT", " OR FAIL",
                                           " OR IGNORE", " OR REPLACE", " OR IGNORE",
                                           " OR REPLACE", " OR ROLLBACK" };

    return clauses[rng_below(b->rng, transactions ? 10 : 9)];
}

static void add_new_value(struct builder *b, int column, bool huge)
{
    const struct column *c = &b->schema->column[column];
    struct value v;
    int i;

    if (!c->is_key && rng_chance(b->rng, 3)) {
        size_t len = 1 + rng_below(b->rng, 30000);

        if (huge && rng_chance(b->rng, 4))
            len = 1 + rng_below(b->rng, 16 * 1024 * 1024);
        v = value_bytes(b->rng, b->arena, rng_chance(b->rng, 50), len);
        add_value(b, &v, FROM_FIXED);
        return;
    }
    for (i = 0; i < 8; i++) {
        v = rng_chance(b->rng, 70) ? *pool_pick(c, b->rng)
                                   : value_random(b->rng, b->arena, c->flavour);
        /* NOT NULL is to be violated, but not by every other statement. */
        if (v.kind == VALUE_NULL
            && (c->default_sql != NULL
                || ((c->not_null || c->is_key) && rng_chance(b->rng, 85))))
            continue;
        add_value(b, &v, c->default_sql != NULL ? FROM_FIXED : column);
        return;
    }
    add_value(b, &(struct value){ .kind = VALUE_INT, .integer = 6 }, FROM_FIXED);
}

/* Chooses the columns an INSERT names; false means all, without a list. */
static bool choose_targets(struct builder *b, int *target, int *count)
{
    const struct schema *s = b->schema;
    bool list = rng_chance(b->rng, 55);
    int i;

    *count = 0;
    for (i = 0; i < s->column_count; i++) {
        const struct column *c = &s->column[i];
        unsigned leave = !list ? 0 : c->default_sql != NULL ? 50 : c->is_key ? 2 : 20;

        if (!rng_chance(b->rng, leave))
            target[(*count)++] = i;
    }
    if (*count == 0)
        target[(*count)++] = 0;
    for (i = *count - 1; list && i > 0; i--) {
        int j = rng_chance(b->rng, 60) ? i : (int)rng_below(b->rng, (unsigned)i + 1);
        int swap = target[i];

        target[i] = target[j];
        target[j] = swap;
    }
    return list;
}

static void add_insert_head(struct builder *b, const int *target, int count, bool list,
                            bool transactions)
{
    int i;

    if (rng_chance(b->rng, 10))
        text_add(&b->sql, "REPLACE INTO t");
    else
        text_add(&b->sql, "INSERT%s INTO t", or_clause(b, transactions));
    if (!list)
        return;
    for (i = 0; i < count; i++)
        text_add(&b->sql, "%s%s", i == 0 ? "(" : ", ", b->schema->column[target[i]].name);
    text_add(&b->sql, ")");
}

static void write_insert(struct builder *b, const struct settings *settings)
{
    int target[COLUMNS_MAX], count;
    bool list = choose_targets(b, target, &count);
    int rows = rng_chance(b->rng, 50) ? 1 : 1 + (int)rng_below(b->rng, 6);
    int i, r;

    add_insert_head(b, target, count, list, settings->transactions);
    text_add(&b->sql, " VALUES ");
    for (r = 0; r < rows; r++) {
        for (i = 0; i < count; i++) {
            text_add(&b->sql, "%s", i == 0 ? (r > 0 ? ", (" : "(") : ", ");
            add_new_value(b, target[i], settings->huge);
        }
        text_add(&b->sql, ")");
    }
}

/* A source expression for one target column: never NULL where DEFAULT would tell. */
static void add_source(struct builder *b, int column)
{
    const struct column *c = &b->schema->column[column];
    const char *from = rng_chance(b->rng, 60) ? c->name : any_column(b);
    bool guard = c->default_sql != NULL;

    text_add(&b->sql, guard ? "coalesce(" : "");
    switch (rng_below(b->rng, 6)) {
    case 0:
        text_add(&b->sql, "%s + 1", from);
        break;
    case 1:
        text_add(&b->sql, "substr(%s, 1, 3) || 'x'", from);
        break;
    case 2:
        add_new_value(b, column, false);
        break;
    case 3:
        text_add(&b->sql, "CAST(%s AS %s)", from,
                 rng_chance(b->rng, 50) ? "TEXT" : "BLOB");
        break;
    default:
        text_add(&b->sql, "%s", from);
    }
    text_add(&b->sql, guard ? ", 8)" : "");
}

static void write_insert_select(struct builder *b, const struct settings *settings)
{
    int target[COLUMNS_MAX], count, i;
    bool list = choose_targets(b, target, &count);
    bool self = rng_chance(b->rng, 65);

    add_insert_head(b, target, count, list, settings->transactions);
    text_add(&b->sql, " SELECT ");
    for (i = 0; i < count; i++) {
        const struct column *c = &b->schema->column[target[i]];

        text_add(&b->sql, "%s", i > 0 ? ", " : "");
        if (self)
            add_source(b, target[i]);
        else if (rng_chance(b->rng, 30))
            add_new_value(b, target[i], false);
        else
            text_add(&b->sql, c->default_sql != NULL ? "coalesce(%s, 9)" : "%s",
                     rng_chance(b->rng, 60) ? "k" : "w");
    }
    if (self) {
        b->ordered = true;
        text_add(&b->sql, " FROM t");
        add_where(b, "");
        add_total_order(b, "");
    } else {
        text_add(&b->sql, " FROM o%s ORDER BY k",
                 rng_chance(b->rng, 50) ? "" : " WHERE k > 1");
    }
    text_add(&b->sql, " LIMIT %u", 1 + rng_below(b->rng, 12));
}

/* Many rows at once: enough for several leaves of the order index. */
static void write_insert_series(struct builder *b)
{
    const struct schema *s = b->schema;
    unsigned rows = rng_chance(b->rng, 85) ? 10 + rng_below(b->rng, 60)
                                           : 200 + rng_below(b->rng, 200);
    int i;

    text_add(&b->sql, "INSERT OR %s INTO t SELECT ",
             rng_chance(b->rng, 50) ? "IGNORE" : "REPLACE");
    for (i = 0; i < s->column_count; i++) {
        static const char *const shapes[] = { "n", "n % 3", "'k' || (n % 7)",
                                              "n * 0.5", "CAST(n AS TEXT)",
                                              "printf('%05d', n * 37 % 1000)",
                                              "CAST(printf('%c', 97 + n % 26) AS BLOB)" };

        text_add(&b->sql, "%s%s", i > 0 ? ", " : "", shapes[rng_below(b->rng, 7)]);
    }
    text_add(&b->sql,
             " FROM (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT"
             " %u) SELECT n FROM c) ORDER BY n",
             rows);
}

static bool may_fail(const struct schema *s, int column)
{
    const struct column *c = &s->column[column];
    int i;

    if (c->is_key || c->not_null || c->check_sql != NULL)
        return true;
    for (i = 0; i < 2; i++)
        if (strstr(s->create[i], ", CHECK(") != NULL)
            return true;
    return false;
}

static void add_assignment(struct builder *b, int column, bool keys)
{
    const struct column *c = &b->schema->column[column];
    const char *from = rng_chance(b->rng, 50) ? c->name : any_column(b);

    text_add(&b->sql, "%s = ", c->name);
    switch (rng_below(b->rng, 8)) {
    case 0:
        text_add(&b->sql, "%s + 1", from);
        break;
    case 1:
        text_add(&b->sql, "substr(%s, 1, 4) || 'y'", from);
        break;
    case 2:
        text_add(&b->sql, "%s", from);
        break;
    case 3:
        /* Reads only what this UPDATE leaves alone: whether SQLite computes the new
         * values of all rows before it writes the first is its own affair. */
        if (!keys)
            text_add(&b->sql, "(SELECT count(*) FROM t AS z WHERE z.%s < t.%s)",
                     key_column(b, 0), from);
        else
            text_add(&b->sql, "length(%s)", from);
        break;
    default:
        add_new_value(b, column, false);
    }
}

static void write_update(struct builder *b, const struct settings *settings)
{
    const struct schema *s = b->schema;
    const char *clause = or_clause(b, settings->transactions);
    bool delicate = false, keys = false;
    int first = (int)rng_below(b->rng, (unsigned)s->column_count);
    int i, n = 1 + (int)rng_below(b->rng, 2);

    if (rng_chance(b->rng, 55)) /* mostly values */
        for (i = 0; i < 4 && s->column[first].is_key; i++)
            first = (int)rng_below(b->rng, (unsigned)s->column_count);
    text_add(&b->sql, "UPDATE%s t SET ", clause);
    if (n > s->column_count)
        n = s->column_count;
    for (i = 0; i < n; i++) {
        delicate |= may_fail(s, (first + i) % s->column_count);
        keys |= s->column[(first + i) % s->column_count].is_key;
    }
    for (i = 0; i < n; i++) {
        text_add(&b->sql, "%s", i > 0 ? ", " : "");
        add_assignment(b, (first + i) % s->column_count, keys);
    }
    if (keys && strcmp(clause, " OR REPLACE") == 0) {
        text_add(&b->sql, " WHERE ");
        add_whole_key(b, "");
    } else if (delicate) {
        add_simple_where(b);
    } else {
        b->updates = true;
        add_where(b, "");
    }
}

/* Every row of t meets at most one row of o: o.k is unique, among values of one type. */
static void write_update_from(struct builder *b)
{
    const struct schema *s = b->schema;
    const char *by;
    int i;

    for (i = 0; i < s->column_count; i++)
        if (!may_fail(s, i) && rng_chance(b->rng, 60))
            break;
    if (i == s->column_count) {
        text_add(&b->sql, "UPDATE t SET %s = %s", s->column[0].name, s->column[0].name);
        return;
    }
    by = any_column(b);
    text_add(&b->sql,
             "UPDATE t SET %s = o.w FROM o WHERE o.k = t.%s "
             "AND typeof(o.k) = typeof(t.%s)",
             s->column[i].name, by, by);
    if (rng_chance(b->rng, 40)) {
        text_add(&b->sql, " AND ");
        add_predicate(b, "t.", 1);
    }
}

static void write_delete(struct builder *b)
{
    b->deletes = true;
    text_add(&b->sql, "DELETE FROM t");
    if (rng_chance(b->rng, 20)) {
        b->ordered = true;
        add_where(b, "");
        add_total_order(b, "");
        text_add(&b->sql, " LIMIT ");
        add_limit(b, 8);
        if (rng_chance(b->rng, 30)) {
            text_add(&b->sql, " OFFSET ");
            add_limit(b, 4);
        }
        return;
    }
    if (rng_chance(b->rng, 12))
        return; /* everything */
    text_add(&b->sql, " WHERE ");
    add_predicate(b, "", rng_chance(b->rng, 60) ? 1 : 2);
    if (rng_chance(b->rng, 50)) {
        text_add(&b->sql, " AND ");
        add_predicate(b, "", 1);
    }
}

static void write_other(struct builder *b)
{
    struct value v = value_random(b->rng, b->arena, FLAVOUR_MIXED);

    if (rng_chance(b->rng, 12)) {
        text_add(&b->sql, "DELETE FROM o WHERE k > 3 OR w IS NULL");
        return;
    }
    if (v.kind == VALUE_NULL)
        v = value_int(4);
    text_add(&b->sql, "INSERT OR REPLACE INTO o VALUES (");
    add_value(b, &v, FROM_FIXED);
    text_add(&b->sql, ", ");
    add_pool_value(b, (int)rng_below(b->rng, (unsigned)b->schema->column_count));
    text_add(&b->sql, ")");
}

/* What users get wrong: the messages must be those of a native table. */
static void write_mistake(struct builder *b)
{
    int i;

    switch (rng_below(b->rng, 8)) {
    case 0:
        text_add(&b->sql, "INSERT INTO t VALUES (0");
        for (i = 0; i < b->schema->column_count; i++)
            text_add(&b->sql, ", %d", i);
        text_add(&b->sql, ")");
        break;
    case 1:
        text_add(&b->sql, "INSERT INTO t(nosuch) VALUES (1)");
        break;
    case 2:
        text_add(&b->sql, "UPDATE t SET nosuch = 1");
        break;
    case 3:
        text_add(&b->sql, "SELECT rowid, * FROM t");
        break;
    case 4:
        text_add(&b->sql, "DELETE FROM t WHERE nosuch = 1");
        break;
    case 5:
        text_add(&b->sql, "SELECT t.%s, x.%s FROM t, t AS x, t AS y LIMIT 0",
                 any_column(b), any_column(b));
        break;
    case 6:
        text_add(&b->sql, "SELECT %s FROM t WHERE (%s, %s) = (1)", any_column(b),
                 any_column(b), any_column(b));
        break;
    default:
        /* Not a mistake, but it changes what LIKE is. */
        text_add(&b->sql, "PRAGMA case_sensitive_like=%u", rng_below(b->rng, 2));
    }
}

static void add_write(struct builder *b, const struct settings *settings)
{
    unsigned kind = rng_below(b->rng, 100);

    if (kind < 44)
        write_insert(b, settings);
    else if (kind < 54)
        write_insert_select(b, settings);
    else if (kind < 57)
        write_insert_series(b);
    else if (kind < 77)
        write_update(b, settings);
    else if (kind < 79)
        write_update_from(b);
    else if (kind < 92)
        write_delete(b);
    else if (kind < 93)
        text_add(&b->sql, "INSERT INTO t DEFAULT VALUES");
    else if (kind < 96)
        write_mistake(b);
    else
        write_other(b);
}

static void add_transaction_control(struct builder *b)
{
    static const char *const words[] = {
        "BEGIN", "BEGIN", "BEGIN", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE", "COMMIT",
        "COMMIT", "COMMIT", "ROLLBACK", "ROLLBACK", "SAVEPOINT s1", "SAVEPOINT s1",
        "SAVEPOINT s2", "SAVEPOINT s2", "SAVEPOINT s3", "RELEASE s1", "RELEASE s2",
        "RELEASE s3", "ROLLBACK TO s1", "ROLLBACK TO s1", "ROLLBACK TO s2",
        "ROLLBACK TO s3", "ROLLBACK TO s2", "END",
    };

    text_add(&b->sql, "%s", words[rng_below(b->rng, sizeof words / sizeof words[0])]);
}

/* ---- The list of steps ----------------------------------------------------- */

struct maker {
    struct builder b;
    const struct settings *settings;
    struct plan *plan;
    struct arena *arena;
    struct rng *rng;
    /* Statements that later steps run again with other values. */
    struct {
        struct step step;
        int from[BINDS_MAX];
    } slot[SLOTS_MAX];
    int slot_count;
    bool cursor_open[CURSORS_MAX];
    int cursor_connection[CURSORS_MAX];
};

static struct step *new_step(struct maker *m)
{
    struct step *step = &m->plan->step[m->plan->step_count++];

    memset(step, 0, sizeof *step);
    step->slot = -1;
    step->connection = m->settings->connections > 1 ? (int)rng_below(m->rng, 2) : 0;
    return step;
}

static void both_sides(struct maker *m, struct step *step, const char *sql)
{
    step->sql[0] = arena_printf(m->arena, "%s", sql);
    step->sql[1] = m->settings->extension != NULL
                       ? step->sql[0]
                       : plant_apply(m->settings->plant, false, step->sql[0], m->arena);
}

static void finish_step(struct maker *m, struct step *step)
{
    struct builder *b = &m->b;

    both_sides(m, step, b->sql.data);
    step->bind_count = b->bind_count;
    step->bind = arena_alloc(m->arena, sizeof *b->bind * (size_t)(b->bind_count + 1));
    memcpy(step->bind, b->bind, sizeof *b->bind * (size_t)b->bind_count);
    step->compare = b->compare;
    step->prefix_columns = b->prefix_columns;
    step->loose = b->loose;
    step->skip_count = b->skip_count;
}

static void step_check(struct maker *m)
{
    int i;

    builder_start(&m->b);
    text_add(&m->b.sql, "SELECT * FROM t ORDER BY ");
    for (i = 0; i < m->plan->schema.key_count; i++)
        text_add(&m->b.sql, "%s%s", i > 0 ? ", " : "", key_column(&m->b, i));
    for (i = 0; m->plan->schema.key_collated && i < m->plan->schema.key_count; i++)
        text_add(&m->b.sql, ", quote(%s)", key_column(&m->b, i));
    m->b.compare = COMPARE_ORDERED;
    finish_step(m, new_step(m));
}

static void step_reuse(struct maker *m)
{
    int n = (int)rng_below(m->rng, (unsigned)m->slot_count);
    struct step *step = new_step(m);
    int connection = step->connection, i;

    *step = m->slot[n].step;
    step->connection = connection;
    step->slot = n;
    step->bind = arena_alloc(m->arena,
                             sizeof(struct value) * (size_t)(step->bind_count + 1));
    for (i = 0; i < step->bind_count; i++) {
        int from = m->slot[n].from[i];

        step->bind[i] = m->slot[n].step.bind[i];
        if (rng_chance(m->rng, 30))
            continue;
        if (from >= 0)
            step->bind[i] = rng_chance(m->rng, 80)
                                ? *pool_pick(&m->plan->schema.column[from], m->rng)
                                : value_random(m->rng, m->arena, FLAVOUR_MIXED);
        else if (from == FROM_PATTERN)
            step->bind[i] = pattern_random(m->rng, m->arena);
        else if (from == FROM_LIMIT)
            step->bind[i] = value_int((int64_t)rng_below(m->rng, 9) - 1
                                      + 2 * m->b.must_read);
    }
}

static void step_statement(struct maker *m, bool write)
{
    struct step *step;

    if (m->slot_count > 0 && rng_chance(m->rng, 18)) {
        step_reuse(m);
        return;
    }
    builder_start(&m->b);
    if (write)
        add_write(&m->b, m->settings);
    else
        add_query(&m->b);
    step = new_step(m);
    finish_step(m, step);
    if (m->slot_count < SLOTS_MAX && m->b.bind_count > 0 && rng_chance(m->rng, 12)) {
        memcpy(m->slot[m->slot_count].from, m->b.bind_from, sizeof m->b.bind_from);
        m->slot[m->slot_count].step = *step;
        step->slot = m->slot_count++;
    }
}

/* A SELECT that is stepped through while other things happen. Its own connection's
 * writes make its rows undefined; with a total order and writes by the other
 * connection alone they are defined, and diff_run.c compares them. */
static void step_cursor(struct maker *m)
{
    int n = (int)rng_below(m->rng, CURSORS_MAX);
    struct step *step = new_step(m);

    step->cursor = n;
    if (!m->cursor_open[n]) {
        builder_start(&m->b);
        text_add(&m->b.sql, "SELECT * FROM t");
        if (rng_chance(m->rng, 40))
            add_simple_where(&m->b);
        add_total_order(&m->b, "");
        finish_step(m, step);
        step->kind = STEP_CURSOR_OPEN;
        m->cursor_open[n] = true;
        m->cursor_connection[n] = step->connection;
        return;
    }
    step->connection = m->cursor_connection[n];
    step->kind = rng_chance(m->rng, 60) ? STEP_CURSOR_NEXT : STEP_CURSOR_CLOSE;
    step->rows = 1 + (int)rng_below(m->rng, 5);
    if (step->kind == STEP_CURSOR_CLOSE)
        m->cursor_open[n] = false;
}

static void step_reopen(struct maker *m)
{
    struct step *step = new_step(m);

    step->kind = STEP_REOPEN;
    memset(m->cursor_open, 0, sizeof m->cursor_open);
}

static void close_cursors(struct maker *m)
{
    int i;

    for (i = 0; i < CURSORS_MAX; i++) {
        struct step *step;

        if (!m->cursor_open[i])
            continue;
        step = new_step(m);
        step->kind = STEP_CURSOR_CLOSE;
        step->cursor = i;
        step->connection = m->cursor_connection[i];
        m->cursor_open[i] = false;
    }
}

static void add_ddl(struct maker *m, const char *native, const char *armdb)
{
    struct step *step = new_step(m);

    step->connection = 0;
    step->sql[0] = native;
    step->sql[1] = armdb;
    step->ddl = true;
    step->compare = COMPARE_CODE;
}

static void step_drop(struct maker *m)
{
    const struct schema *s = &m->plan->schema;
    const char *drop = "DROP TABLE t";
    bool transaction = m->settings->transactions && rng_chance(m->rng, 50);

    if (s->place != PLACE_MEMORY) {
        step_reopen(m); /* ends transactions and cursors */
    } else {
        add_ddl(m, "ROLLBACK", "ROLLBACK");
        close_cursors(m);
    }
    if (transaction)
        add_ddl(m, "BEGIN", "BEGIN");
    add_ddl(m, drop, drop);
    if (!transaction || rng_chance(m->rng, 60)) {
        add_ddl(m, s->create[0], s->create[1]);
        if (transaction && rng_chance(m->rng, 50))
            step_statement(m, true);
        if (transaction)
            add_ddl(m, rng_chance(m->rng, 60) ? "COMMIT" : "ROLLBACK", "");
    } else {
        add_ddl(m, "ROLLBACK", "");
    }
    if (transaction) {
        struct step *last = &m->plan->step[m->plan->step_count - 1];

        last->sql[1] = last->sql[0];
    }
    step_check(m);
}

/* With two connections what may begin a transaction is followed by a read that certainly
 * reaches the table. SQLite answers `WHERE NULL = k` without asking anybody: a native
 * table's moment is fixed by it, and a virtual one hears nothing. */
static void step_control(struct maker *m)
{
    struct step *step;
    int connection;
    bool begins;

    builder_start(&m->b);
    add_transaction_control(&m->b);
    begins = m->b.sql.data[0] == 'B' || m->b.sql.data[0] == 'S';
    step = new_step(m);
    connection = step->connection;
    finish_step(m, step);
    if (!begins || !m->b.must_read)
        return;
    builder_start(&m->b);
    text_add(&m->b.sql, "SELECT count(*) FROM t");
    step = new_step(m);
    step->connection = connection;
    finish_step(m, step);
}

static void one_step(struct maker *m)
{
    unsigned kind = rng_below(m->rng, 1000);
    bool transactions = m->settings->transactions || m->settings->connections > 1;

    if (kind < 4 && m->plan->schema.place != PLACE_MEMORY)
        step_reopen(m);
    else if (kind < 6 && m->settings->connections == 1
             && m->plan->schema.place != PLACE_TEMP_PATH)
        step_drop(m);
    else if (kind < 40)
        step_check(m);
    else if (kind < 180 && transactions)
        step_control(m);
    else if (kind < 240 && transactions)
        step_cursor(m);
    else
        step_statement(m, rng_chance(m->rng, 42));
}

void plan_random(struct plan *plan, const struct settings *settings, uint64_t seed,
                 struct arena *arena)
{
    struct rng rng = { seed };
    struct maker m = { .settings = settings, .plan = plan, .arena = arena, .rng = &rng };
    int i;

    memset(plan, 0, sizeof *plan);
    schema_random(&plan->schema, settings, &rng, arena);
    plan->step = arena_alloc(arena, sizeof(struct step) * (size_t)(settings->steps + 32));
    m.b = (struct builder){ .rng = &rng, .arena = arena, .schema = &plan->schema,
                           .must_read = settings->connections > 1 };
    add_ddl(&m, plan->schema.create[0], plan->schema.create[1]);
    add_ddl(&m, plan->schema.create_other[0], plan->schema.create_other[1]);
    for (i = 0; i < 6; i++)
        step_statement(&m, true);
    while (plan->step_count < settings->steps)
        one_step(&m);
    step_check(&m);
    if (plan->schema.place != PLACE_MEMORY) {
        step_reopen(&m);
        step_check(&m);
    }
    text_free(&m.b.sql);
}

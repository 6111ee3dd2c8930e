/* diff_expr.c - random predicates, written into a statement under construction.
 *
 * A predicate must have one right answer whatever the plan: no expression here can
 * raise an error, because SQLite leaves open which terms are evaluated for which
 * row. Constants are bound, written as literals, or mixed, statement by statement,
 * since SQLite plans the two differently. */
#include "test/prop/diff.h"

#include <stdio.h>
#include <string.h>

void builder_start(struct builder *b)
{
    text_clear(&b->sql);
    b->bind_count = 0;
    b->bind_percent = rng_chance(b->rng, 40) ? 100 : rng_below(b->rng, 3) * 40;
    b->compare = COMPARE_SET;
    b->prefix_columns = 0;
    b->loose = false;
    b->skip_count = false;
    b->deletes = false;
    b->updates = false;
    b->ordered = false;
}

void add_value(struct builder *b, const struct value *value, int from)
{
    bool room = b->bind_count < BINDS_MAX;

    if (room && (!value_has_literal(value) || rng_chance(b->rng, b->bind_percent))) {
        b->bind[b->bind_count] = *value;
        b->bind_from[b->bind_count] = from;
        b->bind_count++;
        text_add(&b->sql, "?");
    } else if (value_has_literal(value)) {
        value_add_literal(&b->sql, value);
    } else {
        text_add(&b->sql, "NULL");
    }
}

void add_pool_value(struct builder *b, int column)
{
    const struct column *c = &b->schema->column[column];
    struct value v;

    if (rng_chance(b->rng, 85)) {
        add_value(b, pool_pick(c, b->rng), column);
        return;
    }
    v = value_random(b->rng, b->arena, rng_chance(b->rng, 50) ? c->flavour
                                                              : FLAVOUR_MIXED);
    add_value(b, &v, column);
}

void add_limit(struct builder *b, unsigned below)
{
    struct value v = value_int((int64_t)rng_below(b->rng, below) + b->must_read);

    if (rng_chance(b->rng, 4))
        v.integer = -1;
    add_value(b, &v, FROM_LIMIT);
}

struct value pattern_random(struct rng *rng, struct arena *arena)
{
    static const char *const patterns[] = {
        "a%", "A%", "ab%", "aB%", "%", "%b", "a_", "_", "", "a", "ABC", "abc%", "a\\%%",
        "a\\_c", "12:%", "1%", "9%", "0%", "-%", "z%", "Z%", "\xc3\xa4%", "a\xc3\xa4%",
        "[%", "`%", "@%", "_b%", "a%c", "/usr/share/%", "/usr/share/doc%", "{%", " %",
        "a %", "\x7f%", "q%", "a*", "A*", "ab*", "*", "*b", "a?", "?", "abc*", "[aA]*",
        "[^a]*", "a[*]b", "[[]*", "12:*", "1*", "z*", "\xc3\xa4*", "/usr/share/*",
        "/usr/*/doc*", " *", "ab[c-d]", "a*c*", "{*", "q*", "_*", "%*", "a**",
    };

    if (rng_chance(rng, 6))
        return value_random(rng, arena, FLAVOUR_MIXED);
    return value_text(arena,
                      patterns[rng_below(rng, sizeof patterns / sizeof patterns[0])]);
}

/* Keys are what the planner looks at: they come up twice as often. */
static int pick_column(struct builder *b)
{
    const struct schema *s = b->schema;

    if (rng_chance(b->rng, 55))
        return s->key[rng_below(b->rng, (unsigned)s->key_count)];
    return (int)rng_below(b->rng, (unsigned)s->column_count);
}

const char *any_column(struct builder *b)
{
    return b->schema->column[pick_column(b)].name;
}

const char *key_column(struct builder *b, int position)
{
    return b->schema->column[b->schema->key[position]].name;
}

static void add_comparison(struct builder *b, const char *alias, int column)
{
    static const char *const operators[] = { "=", "=", "=", "==", "IS", "<", "<=", ">",
                                             ">=", "<>", "IS NOT", ">=", "<" };
    static const char *const mirrored[] = { "=", "=", "=", "==", "IS", ">", ">=", "<",
                                            "<=", "<>", "IS NOT", "<=", ">" };
    unsigned op = rng_below(b->rng, 13);
    const char *name = b->schema->column[column].name;

    if (rng_chance(b->rng, 10)) {
        add_pool_value(b, column);
        text_add(&b->sql, " %s %s%s", mirrored[op], alias, name);
        return;
    }
    text_add(&b->sql, "%s%s%s", rng_chance(b->rng, 5) ? "+" : "", alias, name);
    if (rng_chance(b->rng, 8))
        text_add(&b->sql, " COLLATE %s",
                 rng_chance(b->rng, 40)   ? "NOCASE"
                 : rng_chance(b->rng, 50) ? "RTRIM"
                                          : "BINARY");
    text_add(&b->sql, " %s ", operators[op]);
    if (rng_chance(b->rng, 10) && !b->ordered) {
        static const char *const casts[] = { "TEXT", "INTEGER", "REAL", "BLOB",
                                             "NUMERIC" };

        text_add(&b->sql, "CAST(");
        add_pool_value(b, column);
        text_add(&b->sql, " AS %s)", casts[rng_below(b->rng, 5)]);
    } else {
        add_pool_value(b, column);
    }
}

static void add_between(struct builder *b, const char *alias, int column)
{
    text_add(&b->sql, "%s%s %sBETWEEN ", alias, b->schema->column[column].name,
             rng_chance(b->rng, 12) ? "NOT " : "");
    add_pool_value(b, column);
    text_add(&b->sql, " AND ");
    add_pool_value(b, column);
}

static void add_json_list(struct builder *b)
{
    struct text json = { 0 };
    unsigned i, n = rng_below(b->rng, 7);
    struct value v;

    text_add(&json, "[");
    for (i = 0; i < n; i++) {
        static const char *const items[] = { "1", "2", "3", "\"a\"", "\"A\"", "\"b\"",
                                             "null", "0", "-1", "1.0", "0.5", "\"1\"",
                                             "\"\"", "\"a \"", "9007199254740993", "4",
                                             "true", "\"abc\"" };

        text_add(&json, "%s%s", i > 0 ? "," : "", items[rng_below(b->rng, 18)]);
    }
    text_add(&json, "]");
    v = value_text(b->arena, json.data);
    add_value(b, &v, FROM_FIXED);
    text_free(&json);
}

static void add_in(struct builder *b, const char *alias, int column)
{
    const char *name = b->schema->column[column].name;
    unsigned i, n, which;

    text_add(&b->sql, "%s%s %sIN (", alias, name,
             rng_chance(b->rng, 12) ? "NOT " : "");
    which = rng_below(b->rng, 6);
    if (which == 1 && (b->deletes || b->updates))
        which = 2;
    switch (which) {
    case 0:
        text_add(&b->sql, "SELECT value FROM json_each(");
        add_json_list(b);
        text_add(&b->sql, ")");
        break;
    case 1:
        text_add(&b->sql, "SELECT %s FROM t WHERE ", any_column(b));
        add_comparison(b, "", pick_column(b));
        break;
    case 2:
        text_add(&b->sql, "SELECT %s FROM o", rng_chance(b->rng, 50) ? "k" : "w");
        break;
    default:
        n = rng_chance(b->rng, 10) ? 16 + rng_below(b->rng, 10) : rng_below(b->rng, 6);
        n += n == 0 && b->must_read;
        for (i = 0; i < n; i++) {
            text_add(&b->sql, "%s", i > 0 ? ", " : "");
            add_pool_value(b, column);
        }
    }
    text_add(&b->sql, ")");
}

static void add_pattern(struct builder *b, const char *alias, int column)
{
    static const char *const escaped[] = { "a\\%c", "a\\_c", "a\\%%", "%\\_%",
                                           "abc\\%", "\\[%", "%\\%%" };
    struct value pattern = pattern_random(b->rng, b->arena);
    bool like = rng_chance(b->rng, 55);
    bool escape = like && rng_chance(b->rng, 20);

    if (escape && rng_chance(b->rng, 60))
        pattern = value_text(b->arena, escaped[rng_below(b->rng, 7)]);
    text_add(&b->sql, "%s%s %s%s ", alias, b->schema->column[column].name,
             rng_chance(b->rng, 12) ? "NOT " : "", like ? "LIKE" : "GLOB");
    add_value(b, &pattern, FROM_PATTERN);
    if (escape)
        text_add(&b->sql, " ESCAPE '\\'");
}

static void add_row_value(struct builder *b, const char *alias)
{
    static const char *const operators[] = { "=", "<", "<=", ">", ">=", "IS", "<>" };
    const struct schema *s = b->schema;
    int n = s->key_count > 1 && rng_chance(b->rng, 80) ? s->key_count : 2;
    int column[KEYS_MAX];
    int i, rows;

    for (i = 0; i < n; i++)
        column[i] = i < s->key_count && rng_chance(b->rng, 85) ? s->key[i]
                                                               : pick_column(b);
    text_add(&b->sql, "(");
    for (i = 0; i < n; i++)
        text_add(&b->sql, "%s%s%s", i > 0 ? ", " : "", alias, s->column[column[i]].name);
    if (rng_chance(b->rng, 60)) {
        text_add(&b->sql, ") %s (", operators[rng_below(b->rng, 7)]);
        for (i = 0; i < n; i++) {
            text_add(&b->sql, "%s", i > 0 ? ", " : "");
            add_pool_value(b, column[i]);
        }
        text_add(&b->sql, ")");
        return;
    }
    text_add(&b->sql, ") %sIN (VALUES ", rng_chance(b->rng, 12) ? "NOT " : "");
    for (rows = 1 + (int)rng_below(b->rng, 4); rows > 0; rows--) {
        text_add(&b->sql, "(");
        for (i = 0; i < n; i++) {
            text_add(&b->sql, "%s", i > 0 ? ", " : "");
            add_pool_value(b, column[i]);
        }
        text_add(&b->sql, rows > 1 ? "), " : ")");
    }
    text_add(&b->sql, ")");
}

void add_whole_key(struct builder *b, const char *alias)
{
    int i;

    for (i = 0; i < b->schema->key_count; i++) {
        text_add(&b->sql, "%s%s%s %s ", i > 0 ? " AND " : "", alias, key_column(b, i),
                 rng_chance(b->rng, 85) ? "=" : "IS");
        add_pool_value(b, b->schema->key[i]);
    }
}

/* A column of which max() has one value only: no 'a' beside 'A'. */
static const char *binary_column(struct builder *b)
{
    int i;

    for (i = 0; i < 6; i++) {
        const struct column *c = &b->schema->column[pick_column(b)];

        if (c->collation == NULL)
            return c->name;
    }
    return NULL;
}

/* Where an equality that keys of two types meet is on the maximum's own column, SQLite
 * takes the column for a constant and stops at the first row of a native table, the
 * largest or not: no such equality here. */
static void add_maximum(struct builder *b, const char *alias, int column)
{
    const char *of = binary_column(b);
    bool ordered = b->ordered;

    if (of == NULL || b->deletes || b->updates) {
        add_between(b, alias, column);
        return;
    }
    text_add(&b->sql, "%s%s %s (SELECT max(e.%s) FROM t AS e WHERE ", alias,
             b->schema->column[column].name, rng_chance(b->rng, 50) ? "<=" : ">", of);
    b->ordered = true;
    add_comparison(b, "e.", pick_column(b));
    b->ordered = ordered;
    text_add(&b->sql, ")");
}

static void add_odd_term(struct builder *b, const char *alias, int column)
{
    const char *name = b->schema->column[column].name;

    switch (rng_below(b->rng, 7)) {
    case 0:
        text_add(&b->sql, "typeof(%s%s) = '%s'", alias, name,
                 rng_chance(b->rng, 50) ? "text" : "integer");
        break;
    case 1:
        text_add(&b->sql, "length(%s%s) >= %u", alias, name, rng_below(b->rng, 4));
        break;
    case 2:
        text_add(&b->sql, "%s%s %s %s%s", alias, name,
                 rng_chance(b->rng, 50) ? "=" : "<", alias, any_column(b));
        break;
    case 3:
        if (b->updates) {
            add_between(b, alias, column);
            break;
        }
        text_add(&b->sql, "EXISTS(SELECT 1 FROM t AS e WHERE e.%s = %s%s AND ",
                 any_column(b), alias[0] != '\0' ? alias : "t.", name);
        add_comparison(b, "e.", pick_column(b));
        text_add(&b->sql, ")");
        break;
    case 4:
        text_add(&b->sql, "coalesce(%s%s, '') <> ", alias, name);
        add_pool_value(b, column);
        break;
    case 5:
        add_maximum(b, alias, column);
        break;
    default:
        text_add(&b->sql, "%s%s %s (SELECT k FROM o WHERE w = ", alias, name,
                 rng_chance(b->rng, 50) ? "=" : ">=");
        add_value(b, &(struct value){ .kind = VALUE_INT, .integer = 1 }, FROM_FIXED);
        text_add(&b->sql, " ORDER BY k LIMIT 1)");
    }
}

static void add_term(struct builder *b, const char *alias)
{
    int column = pick_column(b);
    unsigned kind = rng_below(b->rng, 100);

    if (kind < 42)
        add_comparison(b, alias, column);
    else if (kind < 52)
        add_between(b, alias, column);
    else if (kind < 65)
        add_in(b, alias, column);
    else if (kind < 78)
        add_pattern(b, alias, column);
    else if (kind < 83)
        text_add(&b->sql, "%s%s IS %sNULL", alias, b->schema->column[column].name,
                 rng_chance(b->rng, 50) ? "NOT " : "");
    else if (kind < 90)
        add_row_value(b, alias);
    else if (kind < 94)
        add_whole_key(b, alias);
    else
        add_odd_term(b, alias, column);
}

void add_predicate(struct builder *b, const char *alias, int depth)
{
    unsigned kind = rng_below(b->rng, 100);
    const char *joint;
    int i, n;

    if (depth <= 0 || kind < 45) {
        add_term(b, alias);
        return;
    }
    if (kind < 50) {
        text_add(&b->sql, "NOT (");
        add_predicate(b, alias, depth - 1);
        text_add(&b->sql, ")");
        return;
    }
    joint = kind < 82 ? " AND " : " OR ";
    n = 2 + (int)rng_below(b->rng, 2);
    text_add(&b->sql, "(");
    for (i = 0; i < n; i++) {
        text_add(&b->sql, "%s", i > 0 ? joint : "");
        add_predicate(b, alias, depth - 1);
    }
    text_add(&b->sql, ")");
}

void add_where(struct builder *b, const char *alias)
{
    if (rng_chance(b->rng, 12))
        return;
    text_add(&b->sql, " WHERE ");
    add_predicate(b, alias, 2);
}

void add_simple_where(struct builder *b)
{
    static const char *const operators[] = { "=", "<", "<=", ">", ">=", "IS NOT" };
    int column = pick_column(b);

    if (rng_chance(b->rng, 15))
        return;
    text_add(&b->sql, " WHERE ");
    if (rng_chance(b->rng, 35)) {
        add_whole_key(b, "");
        return;
    }
    text_add(&b->sql, "%s %s ", b->schema->column[column].name,
             operators[rng_below(b->rng, 6)]);
    add_pool_value(b, column);
}

void add_total_order(struct builder *b, const char *alias)
{
    const struct schema *s = b->schema;
    unsigned direction = rng_below(b->rng, 4);
    unsigned shift = rng_chance(b->rng, 75) ? 0 : rng_below(b->rng, 4);
    int i;

    text_add(&b->sql, " ORDER BY ");
    if (rng_chance(b->rng, 15))
        text_add(&b->sql, "%s%s%s%s, ", alias, any_column(b),
                 rng_chance(b->rng, 20) ? " COLLATE NOCASE" : "",
                 rng_chance(b->rng, 40) ? " DESC" : "");
    for (i = 0; i < s->key_count; i++) {
        const struct column *c = &s->column[s->key[(i + (int)shift) % s->key_count]];
        bool desc = direction == 0   ? c->key_desc
                    : direction == 1 ? !c->key_desc
                    : direction == 2 ? false
                                     : rng_chance(b->rng, 50);

        text_add(&b->sql, "%s%s%s%s", i > 0 ? ", " : "", alias, c->name,
                 desc                     ? " DESC"
                 : rng_chance(b->rng, 20) ? " ASC"
                                          : "");
        if (rng_chance(b->rng, 4))
            text_add(&b->sql, " NULLS %s", rng_chance(b->rng, 50) ? "FIRST" : "LAST");
    }
    for (i = 0; s->key_collated && i < s->key_count; i++)
        text_add(&b->sql, ", quote(%s%s)", alias, s->column[s->key[i]].name);
}

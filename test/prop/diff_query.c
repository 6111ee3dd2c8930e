/* diff_query.c - random SELECT statements.
 *
 * Each says how its rows may be compared. An order is compared only where the
 * statement fixes it: ORDER BY over all key columns, which makes it total. LIMIT
 * goes with such an order, or only the number of rows is looked at. Where SQL
 * leaves open which of several equal values is shown (DISTINCT, GROUP BY, min() of
 * a NOCASE column: 'a' or 'A', 1 or 1.0), values are compared loosely. SQLite takes k for
 * constant under k = x, though with CAST(x AS NUMERIC) the keys 2 and '2' both meet it:
 * such terms do not go with an order. */
#include "test/prop/diff.h"

#include <stdio.h>
#include <string.h>

static void add_columns(struct builder *b, const char *alias)
{
    int i, n;

    if (rng_chance(b->rng, 35) && alias[0] == '\0') {
        text_add(&b->sql, "*");
        return;
    }
    n = 1 + (int)rng_below(b->rng, 3);
    for (i = 0; i < n; i++)
        text_add(&b->sql, "%s%s%s", i > 0 ? ", " : "", alias, any_column(b));
    if (rng_chance(b->rng, 12))
        text_add(&b->sql, ", length(%s%s), typeof(%s%s)", alias, any_column(b), alias,
                 any_column(b));
}

static void add_limit_clause(struct builder *b)
{
    text_add(&b->sql, " LIMIT ");
    add_limit(b, 12);
    if (rng_chance(b->rng, 50)) {
        text_add(&b->sql, " OFFSET ");
        add_limit(b, 6);
    }
}

static void query_plain(struct builder *b)
{
    text_add(&b->sql, "SELECT ");
    add_columns(b, "");
    text_add(&b->sql, " FROM t");
    add_where(b, "");
}

static void query_ordered(struct builder *b)
{
    b->ordered = true;
    query_plain(b);
    add_total_order(b, "");
    if (rng_chance(b->rng, 50))
        add_limit_clause(b);
    b->compare = COMPARE_ORDERED;
}

/* An order over fewer columns than the key: the ordering columns come first. */
static void query_partly_ordered(struct builder *b)
{
    const char *first = rng_chance(b->rng, 60) ? key_column(b, 0) : any_column(b);
    const char *second = any_column(b);
    bool two = rng_chance(b->rng, 40);

    b->ordered = true;
    text_add(&b->sql, "SELECT %s, %s, * FROM t", first, second);
    add_where(b, "");
    text_add(&b->sql, " ORDER BY %s%s", first, rng_chance(b->rng, 45) ? " DESC" : "");
    if (two)
        text_add(&b->sql, ", %s%s", second, rng_chance(b->rng, 45) ? " DESC" : "");
    b->compare = COMPARE_PREFIX;
    b->prefix_columns = two ? 2 : 1;
}

static void query_distinct(struct builder *b)
{
    const char *c = rng_chance(b->rng, 60) ? key_column(b, 0) : any_column(b);
    bool sorted = rng_chance(b->rng, 40);

    text_add(&b->sql, "SELECT DISTINCT %s", c);
    if (rng_chance(b->rng, 40))
        text_add(&b->sql, ", %s", any_column(b));
    text_add(&b->sql, " FROM t");
    b->ordered = sorted;
    add_where(b, "");
    b->loose = true;
    if (sorted) {
        text_add(&b->sql, " ORDER BY %s%s", c, rng_chance(b->rng, 50) ? " DESC" : "");
        b->compare = COMPARE_PREFIX;
        b->prefix_columns = 1;
    }
}

static void query_group(struct builder *b)
{
    const char *c = rng_chance(b->rng, 60) ? key_column(b, 0) : any_column(b);
    bool sorted = rng_chance(b->rng, 40);
    const char *d = any_column(b);

    text_add(&b->sql, "SELECT %s, count(*), min(%s), max(%s), count(DISTINCT %s)", c,
             d, any_column(b), any_column(b));
    text_add(&b->sql, " FROM t");
    b->ordered = sorted;
    add_where(b, "");
    text_add(&b->sql, " GROUP BY %s", c);
    if (rng_chance(b->rng, 30))
        text_add(&b->sql, ", %s", d);
    if (rng_chance(b->rng, 25))
        text_add(&b->sql, " HAVING count(*) > 1");
    b->loose = true;
    if (sorted) {
        text_add(&b->sql, " ORDER BY %s%s", c, rng_chance(b->rng, 50) ? " DESC" : "");
        b->compare = COMPARE_PREFIX;
        b->prefix_columns = 1;
    }
}

static void query_aggregate(struct builder *b)
{
    const char *c = rng_chance(b->rng, 60) ? key_column(b, 0) : any_column(b);

    switch (rng_below(b->rng, 5)) {
    case 0:
        text_add(&b->sql, "SELECT count(*) FROM t");
        break;
    case 1:
        text_add(&b->sql, "SELECT %s(%s) FROM t", rng_chance(b->rng, 50) ? "min" : "max",
                 c);
        break;
    case 2:
        text_add(&b->sql, "SELECT min(%s), max(%s), count(%s) FROM t", c, c,
                 any_column(b));
        break;
    case 3:
        text_add(&b->sql, "SELECT count(*), sum(length(%s)), count(DISTINCT %s) FROM t",
                 c, any_column(b));
        break;
    default:
        b->ordered = true;
        text_add(&b->sql, "SELECT group_concat(quote(%s), ';') FROM (SELECT %s FROM t",
                 c, c);
        if (rng_chance(b->rng, 60))
            add_where(b, "");
        add_total_order(b, "");
        text_add(&b->sql, ")");
        return;
    }
    if (rng_chance(b->rng, 60))
        add_where(b, "");
    b->loose = true;
}

static void query_join(struct builder *b)
{
    const char *left = rng_chance(b->rng, 30) ? "LEFT JOIN" : "JOIN";

    if (rng_chance(b->rng, 40)) {
        text_add(&b->sql, "SELECT t.%s, t.%s, o.w FROM t %s o ON o.%s = t.%s",
                 any_column(b), any_column(b), left, rng_chance(b->rng, 70) ? "k" : "w",
                 any_column(b));
        add_where(b, "t.");
        return;
    }
    if (rng_chance(b->rng, 30)) {
        text_add(&b->sql, "SELECT o.k, t.%s, t.%s FROM o %s t ON t.%s %s o.%s",
                 any_column(b), any_column(b), left, key_column(b, 0),
                 rng_chance(b->rng, 70) ? "=" : ">=", rng_chance(b->rng, 70) ? "k" : "w");
        return;
    }
    text_add(&b->sql, "SELECT a.%s, c.%s, c.%s FROM t AS a %s t AS c ON c.%s %s a.%s",
             any_column(b), any_column(b), any_column(b), left,
             rng_chance(b->rng, 70) ? key_column(b, 0) : any_column(b),
             rng_chance(b->rng, 80) ? "=" : "<", any_column(b));
    if (rng_chance(b->rng, 30))
        text_add(&b->sql, " AND c.%s = a.%s", any_column(b), any_column(b));
    text_add(&b->sql, " WHERE ");
    add_predicate(b, "a.", 1);
}

static void query_correlated(struct builder *b)
{
    const char *c = any_column(b);

    text_add(&b->sql, "SELECT %s, (SELECT ", c);
    if (rng_chance(b->rng, 50)) {
        text_add(&b->sql, "%s(x.%s) FROM t AS x WHERE x.%s %s t.%s",
                 rng_chance(b->rng, 50) ? "min" : "max", any_column(b), key_column(b, 0),
                 rng_chance(b->rng, 50) ? "<" : ">=", c);
        b->loose = true;
    } else {
        text_add(&b->sql, "x.%s FROM t AS x WHERE x.%s %s t.%s", any_column(b),
                 any_column(b), rng_chance(b->rng, 50) ? "<" : ">", c);
        add_total_order(b, "x.");
        text_add(&b->sql, " LIMIT 1");
        if (rng_chance(b->rng, 30))
            text_add(&b->sql, " OFFSET 1");
    }
    text_add(&b->sql, ") FROM t");
    add_where(b, "");
}

static void query_window(struct builder *b)
{
    b->ordered = true;
    text_add(&b->sql, "SELECT %s, %s, row_number() OVER w, lag(%s) OVER w",
             any_column(b), any_column(b), any_column(b));
    if (rng_chance(b->rng, 50))
        text_add(&b->sql, ", count(*) OVER (PARTITION BY %s)", any_column(b));
    text_add(&b->sql, " FROM t");
    add_where(b, "");
    text_add(&b->sql, " WINDOW w AS (");
    if (rng_chance(b->rng, 50))
        text_add(&b->sql, "PARTITION BY %s", any_column(b));
    add_total_order(b, "");
    text_add(&b->sql, ")");
}

static void query_cte(struct builder *b)
{
    switch (rng_below(b->rng, 3)) {
    case 0:
        text_add(&b->sql, "WITH c(x, y) AS %s(SELECT %s, %s FROM t",
                 rng_chance(b->rng, 40) ? "MATERIALIZED " : "", any_column(b),
                 any_column(b));
        add_where(b, "");
        text_add(&b->sql, ") SELECT c.x, c.y, t.%s FROM c JOIN t ON t.%s = c.%s",
                 any_column(b), rng_chance(b->rng, 60) ? key_column(b, 0) : any_column(b),
                 rng_chance(b->rng, 50) ? "x" : "y");
        break;
    case 1:
        text_add(&b->sql,
                 "WITH RECURSIVE r(x) AS (SELECT min(%s) FROM t UNION ALL SELECT "
                 "(SELECT min(%s) FROM t WHERE %s > r.x) FROM r WHERE r.x IS NOT NULL "
                 "LIMIT 60) SELECT x FROM r",
                 key_column(b, 0), key_column(b, 0), key_column(b, 0));
        b->loose = true;
        break;
    default:
        b->ordered = true;
        text_add(&b->sql, "WITH c AS (SELECT * FROM t");
        add_where(b, "");
        add_total_order(b, "");
        add_limit_clause(b);
        text_add(&b->sql, ") SELECT * FROM c");
    }
}

static void query_compound(struct builder *b)
{
    static const char *const operators[] = { "UNION ALL", "UNION ALL", "UNION",
                                             "INTERSECT", "EXCEPT" };
    const char *op = operators[rng_below(b->rng, 5)];
    const char *c = any_column(b), *d = any_column(b);
    bool counted = rng_chance(b->rng, 50);
    int i;

    text_add(&b->sql, counted ? "SELECT count(*) FROM (" : "");
    for (i = 0; i < 2; i++) {
        if (i > 0)
            text_add(&b->sql, " %s ", op);
        text_add(&b->sql, "SELECT %s, %s FROM t",
                 i > 0 && rng_chance(b->rng, 50) ? d : c, d);
        add_where(b, "");
    }
    b->loose = strcmp(op, "UNION ALL") != 0;
    if (counted) {
        add_limit_clause(b);
        text_add(&b->sql, ")");
    } else if (rng_chance(b->rng, 50)) {
        text_add(&b->sql, " ORDER BY 1, 2");
        b->compare = COMPARE_PREFIX;
        b->prefix_columns = 2;
        if (rng_chance(b->rng, 40)) {
            /* Ties at the border of LIMIT: loosely equal rows, whichever come. */
            add_limit_clause(b);
            b->loose = true;
        }
    }
}

/* Any rows may come, but not any number of them. */
static void query_limit_count(struct builder *b)
{
    text_add(&b->sql, "SELECT count(*) FROM (SELECT %s FROM t", any_column(b));
    add_where(b, "");
    if (rng_chance(b->rng, 30))
        text_add(&b->sql, " ORDER BY %s", any_column(b));
    add_limit_clause(b);
    text_add(&b->sql, ")");
}

static void query_exists(struct builder *b)
{
    text_add(&b->sql, "SELECT %s, %s FROM t WHERE %sEXISTS(SELECT 1 FROM t AS e WHERE "
                      "e.%s = t.%s AND ",
             any_column(b), any_column(b), rng_chance(b->rng, 40) ? "NOT " : "",
             any_column(b), any_column(b));
    add_predicate(b, "e.", 1);
    text_add(&b->sql, ")");
}

static void query_point(struct builder *b)
{
    text_add(&b->sql, "SELECT * FROM t WHERE ");
    add_whole_key(b, "");
}

void add_query(struct builder *b)
{
    static void (*const queries[])(struct builder *) = {
        query_plain,          query_plain,          query_plain,
        query_ordered,        query_ordered,        query_ordered,
        query_ordered,        query_point,          query_point,
        query_partly_ordered, query_partly_ordered, query_distinct,
        query_group,          query_aggregate,      query_aggregate,
        query_join,           query_join,           query_correlated,
        query_window,         query_cte,            query_compound,
        query_limit_count,    query_exists,
    };

    queries[rng_below(b->rng, sizeof queries / sizeof queries[0])](b);
}

/* plan.c - choosing a way through a table, and saying which.
 *
 * A table has one order, that of its encoded key. The parts of the key from the
 * left that are held by equality make a prefix of the encoded key; comparisons on
 * the part behind them make it a range; with all parts held it is a point, or, with
 * an IN among them, a list of points. Everything else is a scan. So there is one
 * best plan for each set of usable terms and nothing to search for.
 *
 * What is exact. SQLite converts both sides of a comparison before it compares. For
 * a column of a numeric affinity the conversion of the right-hand side is always the
 * same, so the range is exact and the terms are omitted. Against a TEXT column, or
 * one without a type, it depends on the affinity of the right-hand expression, which
 * a virtual table is not told: `k = 5` compares texts, `k = s.i` numbers. It is known
 * for literals that are no numbers (a number may be a CAST, which compares as s.i does)
 * and for parameters, which are seen first in xFilter. Otherwise the terms are used but
 * not omitted, and filter.c widens the range when a number arrives whose meaning is
 * open; SQLite then tests each row.
 *
 * LIKE and GLOB bring a pair of bounds of their own. GLOB's has the collation BINARY
 * and is a range like any other. LIKE's has NOCASE: on a NOCASE key it is a range
 * like any other, on a BINARY key the bytes between the upper-case prefix and the
 * successor of the lower-case one hold all matches and some more, and LIKE tests
 * them. Only a pair beside LIKE itself is read that way. SQLite gives GLOB no pair where
 * the prefix looks like a number ('2026*') or the pattern comes from an expression: then
 * the prefix is taken from the pattern when it arrives, if glob() is SQLite's own. Where
 * SQLite was built to let LIKE match blobs, which lie above all texts, the upper bound is
 * left out.
 *
 * The contract. idxNum, by bits; xFilter's arguments come in this order:
 *
 *   bits    field            argument          who rechecks
 *   0-3     eq_count         one for each,     SQLite, unless numeric affinity or
 *                            in key order      a literal
 *   4-7     list_slot        (a list handle)   the same
 *   8       several
 *   9       leans
 *   10-11   low  0 - 1 > 2 >=  one if not 0    the same; with `like` SQLite
 *                3 GLOB                        SQLite
 *   12-13   high 0 - 1 < 2 <=  one if not 0    the same; with `like` SQLite
 *   14      prefix           one               cursor.c, where the range is not exact
 *   15      reverse
 *   16      keys_only
 *   17      limit            one               SQLite counts; here it is a hint
 *   18      offset           one               SQLite counts, unless consumed
 *   19      empty
 *   20      like
 *   21      offset_consumed                    cursor.c skips
 *   22-27   literals of the first 6 equalities
 *   28      whole
 *   29, 30  low_literal, high_literal */
#include "ext/plan.h"

#include <string.h>

#include "sqlite3ext.h"

/* ---- Choosing ---- */

static bool collation_fits(const struct plan_term *term, const struct key_part *part)
{
    return term->known_collation && term->collation == part->collation;
}

/* A literal says all about a comparison, unless it is a number: that may be a CAST,
 * which against a TEXT column, or one without a type, means something else. */
static bool is_known(const struct plan_term *term)
{
    return term->literal && !term->is_number;
}

/* True when a number compared with this part can mean two things. */
static bool has_open_meaning(const struct key_part *part)
{
    return part->affinity == AFFINITY_TEXT || part->affinity == AFFINITY_BLOB;
}

/* True when the comparison is decided by the key exactly as SQLite decides it. */
static bool is_exact(const struct plan_term *term, const struct key_part *part)
{
    return !has_open_meaning(part) || is_known(term);
}

/* The usable equality on a key part; one that is no IN is preferred. */
static struct plan_term *find_equality(struct plan_query *query,
                                       const struct key_part *part)
{
    struct plan_term *found = NULL;

    for (uint32_t i = 0; i < query->term_count; i++) {
        struct plan_term *term = &query->terms[i];

        if (!term->usable || term->op != PLAN_OP_EQ ||
            term->column != (int)part->column || !collation_fits(term, part))
            continue;
        if (!term->is_in)
            return term;
        if (found == NULL)
            found = term;
    }
    return found;
}

/* A usable comparison on a key part, by one of two operators. `nocase` asks for the
 * collation of LIKE's pair instead of the part's own. */
static struct plan_term *find_bound(struct plan_query *query, const struct key_part *part,
                                    enum plan_op op, enum plan_op or_op, bool nocase)
{
    for (uint32_t i = 0; i < query->term_count; i++) {
        struct plan_term *term = &query->terms[i];

        if (!term->usable || term->argv != 0 || term->column != (int)part->column ||
            (term->op != op && term->op != or_op))
            continue;
        if (nocase ? term->known_collation && term->collation == COLLATION_NOCASE
                   : collation_fits(term, part))
            return term;
    }
    return NULL;
}

static struct plan_term *find_column_op(struct plan_query *query, int column,
                                        enum plan_op op)
{
    for (uint32_t i = 0; i < query->term_count; i++) {
        struct plan_term *term = &query->terms[i];

        if (term->usable && term->op == op && (column < 0 || term->column == column))
            return term;
    }
    return NULL;
}

/* Decides what becomes of an IN on the next part. One can be had as a list. For another,
 * SQLite calls xFilter once for each value and tests the rows by `column = value`, which
 * is not what IN means where a number meets a text: false, it is not used there. */
static bool take_list(const struct key_layout *key, struct plan *plan,
                      struct plan_term *term, struct plan_term **list)
{
    if (!term->is_in)
        return true;
    if (*list != NULL) {
        if (!has_open_meaning(&key->parts[plan->eq_count]))
            return true;
        if (has_open_meaning(&key->parts[plan->list_slot - 1]))
            return false;
    }
    *list = term;
    plan->list_slot = plan->eq_count + 1;
    return true;
}

static void choose_equalities(struct plan_query *query, struct plan *plan, int *argv)
{
    const struct key_layout *key = &query->schema->key;
    struct plan_term *list = NULL;

    plan->exact = true;
    while (plan->eq_count < key->part_count && plan->eq_count < PLAN_EQ_MAX) {
        const struct key_part *part = &key->parts[plan->eq_count];
        struct plan_term *term = find_equality(query, part);

        if (term == NULL || !take_list(key, plan, term, &list))
            break;
        term->argv = ++*argv;
        /* Behind a part that filter.c may have to leave out, nothing is held. */
        plan->exact = plan->exact && is_exact(term, part);
        if (!is_exact(term, part))
            plan->open |= UINT32_C(1) << plan->eq_count;
        term->omit = plan->exact;
        if (has_open_meaning(part)) {
            if (plan->eq_count >= PLAN_LITERAL_MAX)
                plan->exact = term->omit = false;
            else if (is_known(term))
                plan->literals |= UINT32_C(1) << plan->eq_count;
        }
        plan->eq_count++;
    }
    if (list != NULL)
        list->as_list = true;
}

static void choose_bounds(struct plan_query *query, struct plan *plan, int *argv)
{
    const struct key_part *part = &query->schema->key.parts[plan->eq_count];
    struct plan_term *low = find_bound(query, part, PLAN_OP_GE, PLAN_OP_GT, false);
    struct plan_term *high = find_bound(query, part, PLAN_OP_LE, PLAN_OP_LT, false);
    bool patterns = find_column_op(query, (int)part->column, PLAN_OP_LIKE) != NULL ||
                    find_column_op(query, (int)part->column, PLAN_OP_GLOB) != NULL;
    bool blobs = patterns && query->like_meets_blobs;

    if (low == NULL && high == NULL && part->collation == COLLATION_BINARY && !blobs &&
        find_column_op(query, (int)part->column, PLAN_OP_LIKE) != NULL) {
        low = find_bound(query, part, PLAN_OP_GE, PLAN_OP_GE, true);
        high = find_bound(query, part, PLAN_OP_LT, PLAN_OP_LT, true);
        if (low != NULL && high != NULL)
            plan->like = true;
        else
            low = high = NULL;
    }
    if (low == NULL && high == NULL && !blobs && query->glob_is_builtin &&
        part->collation == COLLATION_BINARY && part->affinity == AFFINITY_TEXT)
        low = find_column_op(query, (int)part->column, PLAN_OP_GLOB);
    if (low != NULL && low->op == PLAN_OP_GLOB) {
        low->argv = ++*argv;
        plan->low = PLAN_OP_GLOB;
        return;
    }
    if (blobs)
        high = NULL;
    if (low != NULL) {
        low->argv = ++*argv;
        low->omit = plan->exact && !plan->like && !blobs && is_exact(low, part);
        plan->low = low->op;
        plan->low_literal = is_known(low);
    }
    if (high != NULL) {
        high->argv = ++*argv;
        high->omit = plan->exact && !plan->like && is_exact(high, part);
        plan->high = high->op;
        plan->high_literal = is_known(high);
    }
}

/* The position of a declared column in the key, or -1. */
static int key_position(const struct schema *schema, int column)
{
    if (column < 0 || (uint32_t)column >= schema->column_count)
        return -1;
    return schema->columns[column].key_index;
}

/* SQLite sorts and groups a column by the collation it was declared with, which need not
 * be the key's. */
static bool has_own_order(const struct schema *schema, int part)
{
    return schema->columns[schema->key.parts[part].column].sorted_by_key;
}

/* True when a part of the key has one value in all rows delivered. */
static bool is_constant(const struct plan *plan, bool strict, uint32_t part)
{
    return part < plan->eq_count && part + 1 != plan->list_slot &&
           !(strict && (plan->open >> part & 1) != 0);
}

/* The first part from `part` on that is no constant; part_count when there is none. */
static uint32_t skip_constants(const struct plan_query *query, const struct plan *plan,
                               bool strict, uint32_t part)
{
    while (part < query->schema->key.part_count && is_constant(plan, strict, part))
        part++;
    return part;
}

/* Rows come in key order, from either end. True when that is the order asked for;
 * parts held by equality stand for a constant and may be missing or anywhere. A part
 * whose equality may hold for several spellings is no constant when `strict`, and else
 * is one that the order must not name. */
static bool is_sorted(const struct plan_query *query, const struct plan *plan,
                      bool strict, bool *reverse)
{
    const struct key_layout *key = &query->schema->key;
    uint32_t next = skip_constants(query, plan, strict, 0);
    bool first = true;

    for (uint32_t i = 0; i < query->order_count; i++) {
        int at = key_position(query->schema, query->order[i].column);
        bool backward;

        if (strict && next == key->part_count)
            return true; /* the key is unique: nothing is left to sort */
        if (at >= 0 && !has_own_order(query->schema, at))
            return false;
        if (at >= 0 && is_constant(plan, strict, (uint32_t)at)) {
            if ((plan->open >> at & 1) != 0)
                return false;
            continue;
        }
        if (at < 0 || (uint32_t)at != next)
            return false;
        backward = query->order[i].desc != key->parts[at].desc;
        if (first)
            *reverse = backward;
        else if (backward != *reverse)
            return false;
        first = false;
        next = skip_constants(query, plan, strict, next + 1);
    }
    return true;
}

/* True when rows that agree in all of the order's columns come side by side: those
 * columns are the next parts of the key, in whatever sequence, or all of it. */
static bool is_grouped(const struct plan_query *query, const struct plan *plan)
{
    const struct key_layout *key = &query->schema->key;
    uint64_t seen = 0;
    uint64_t run = 0;
    bool others = false;
    uint32_t next;

    for (uint32_t i = 0; i < query->order_count; i++) {
        int at = key_position(query->schema, query->order[i].column);

        if (at < 0 || at >= 64 || !has_own_order(query->schema, at))
            others = true;
        else if (!is_constant(plan, true, (uint32_t)at))
            seen |= UINT64_C(1) << at;
    }
    next = skip_constants(query, plan, true, 0);
    while (next < key->part_count && next < 64 && (seen >> next & 1) != 0) {
        run |= UINT64_C(1) << next;
        next = skip_constants(query, plan, true, next + 1);
    }
    return next == key->part_count || (!others && seen == run);
}

static void choose_order(struct plan_query *query, struct plan *plan)
{
    bool reverse = false;

    if (query->order_count == 0)
        return;
    if (plan->unique || plan->empty) {
        plan->ordered = true;
        return;
    }
    /* GROUP BY needs no direction, but SQLite drops an ORDER BY of the same columns and
     * still says "grouped": so the order asked for is delivered there as well. */
    if (query->distinct == PLAN_DISTINCT) {
        plan->ordered = is_grouped(query, plan);
        return;
    }
    plan->ordered = is_sorted(query, plan, true, &reverse);
    if (!plan->ordered && plan->open != 0 && plan->list_slot == 0 &&
        plan->eq_count < query->schema->key.part_count) {
        plan->ordered = is_sorted(query, plan, false, &reverse);
        plan->leans = plan->ordered;
    }
    plan->reverse = plan->ordered && reverse;
}

/* True when no value need be read for the columns used. A folded key column may have
 * its original spelling in the row, so it counts as a value. */
static bool needs_keys_only(const struct plan_query *query)
{
    const struct schema *schema = query->schema;

    for (uint32_t c = 0; c < schema->column_count; c++) {
        uint64_t bit = UINT64_C(1) << (c < 63 ? c : 63);
        int32_t at = schema->columns[c].key_index;

        if ((query->columns_used & bit) == 0)
            continue;
        if (at < 0 || schema->key.parts[at].collation != COLLATION_BINARY)
            return false;
    }
    return true;
}

/* True when a number of open meaning is among the equalities: several keys may match. */
static bool has_open_number(const struct plan_query *query)
{
    const struct key_layout *key = &query->schema->key;

    for (uint32_t i = 0; i < query->term_count; i++) {
        const struct plan_term *term = &query->terms[i];
        int at = key_position(query->schema, term->column);

        if (term->argv != 0 && term->op == PLAN_OP_EQ && term->is_number && at >= 0 &&
            has_open_meaning(&key->parts[at]))
            return true;
    }
    return false;
}

/* LIMIT says how many rows will be taken only when nothing else drops or sorts them.
 * Where the running SQLite does it rightly, OFFSET rows are skipped here. */
static void choose_limit(struct plan_query *query, struct plan *plan, int *argv)
{
    struct plan_term *limit = find_column_op(query, -1, PLAN_OP_LIMIT);
    struct plan_term *offset = find_column_op(query, -1, PLAN_OP_OFFSET);
    bool all_used = true;
    bool all_omitted = true;

    for (uint32_t i = 0; i < query->term_count; i++) {
        const struct plan_term *term = &query->terms[i];

        if (term->op == PLAN_OP_LIMIT || term->op == PLAN_OP_OFFSET)
            continue;
        all_used = all_used && term->argv != 0;
        all_omitted = all_omitted && term->omit && term->argv <= 16;
    }
    if (limit == NULL || !all_used || (query->order_count != 0 && !plan->ordered))
        return;
    plan->limit = true;
    limit->argv = ++*argv;
    if (offset == NULL)
        return;
    plan->offset = true;
    offset->argv = ++*argv;
    plan->offset_consumed = query->limit_is_reliable && all_omitted && !plan->empty &&
                            query->distinct == PLAN_SORTED;
    offset->omit = plan->offset_consumed;
}

bool plan_choose(struct plan_query *query, struct plan *plan)
{
    const struct schema *schema = query->schema;
    struct plan_term *prefix = NULL;
    int argv = 0;

    memset(plan, 0, sizeof *plan);
    for (uint32_t i = 0; i < query->term_count; i++) {
        struct plan_term *term = &query->terms[i];

        term->argv = 0;
        term->omit = false;
        term->as_list = false;
        if (term->op == PLAN_OP_EQ && term->column == schema->column_command) {
            if (!term->usable)
                return false;
            prefix = term;
        }
        if (term->usable && term->op == PLAN_OP_NULL &&
            key_position(schema, term->column) >= 0)
            plan->empty = true;
    }
    plan->whole = query->columns_used == UINT64_MAX;
    plan->keys_only = needs_keys_only(query);
    if (!plan->empty) {
        if (prefix == NULL)
            choose_equalities(query, plan, &argv);
        if (plan->eq_count < schema->key.part_count)
            choose_bounds(query, plan, &argv);
    }
    if (prefix != NULL) {
        plan->prefix = true;
        prefix->argv = ++argv;
        prefix->omit = true;
    }
    plan->several = has_open_number(query);
    /* SQLite does not sort what it takes for one row. */
    plan->unique = !plan->empty && plan->list_slot == 0 && !plan->several &&
                   plan->eq_count == schema->key.part_count &&
                   (plan->open == 0 || query->order_count == 0);
    choose_order(query, plan);
    choose_limit(query, plan, &argv);
    return true;
}

/* ---- idxNum ---- */

static unsigned bound_code(enum plan_op op, enum plan_op strict, enum plan_op inclusive)
{
    if (op == strict)
        return 1;
    return op == inclusive ? 2 : 0;
}

static enum plan_op bound_op(unsigned code, enum plan_op strict, enum plan_op inclusive)
{
    if (code == 1)
        return strict;
    return code == 2 ? inclusive : PLAN_OP_OTHER;
}

int plan_number(const struct plan *plan)
{
    uint32_t n = plan->eq_count | plan->list_slot << 4;

    n |= (plan->several ? UINT32_C(1) : 0) << 8;
    n |= (plan->leans ? UINT32_C(1) : 0) << 9;
    n |= (plan->low == PLAN_OP_GLOB ? 3u : bound_code(plan->low, PLAN_OP_GT, PLAN_OP_GE))
         << 10;
    n |= bound_code(plan->high, PLAN_OP_LT, PLAN_OP_LE) << 12;
    n |= (plan->prefix ? UINT32_C(1) : 0) << 14;
    n |= (plan->reverse ? UINT32_C(1) : 0) << 15;
    n |= (plan->keys_only ? UINT32_C(1) : 0) << 16;
    n |= (plan->limit ? UINT32_C(1) : 0) << 17;
    n |= (plan->offset ? UINT32_C(1) : 0) << 18;
    n |= (plan->empty ? UINT32_C(1) : 0) << 19;
    n |= (plan->like ? UINT32_C(1) : 0) << 20;
    n |= (plan->offset_consumed ? UINT32_C(1) : 0) << 21;
    n |= plan->literals << 22;
    n |= (plan->whole ? UINT32_C(1) : 0) << 28;
    n |= (plan->low_literal ? UINT32_C(1) : 0) << 29;
    n |= (plan->high_literal ? UINT32_C(1) : 0) << 30;
    return (int)n;
}

void plan_from_number(int number, struct plan *plan)
{
    uint32_t n = (uint32_t)number;

    memset(plan, 0, sizeof *plan);
    plan->eq_count = n & 15;
    plan->list_slot = n >> 4 & 15;
    plan->several = (n >> 8 & 1) != 0;
    plan->leans = (n >> 9 & 1) != 0;
    plan->low =
        (n >> 10 & 3) == 3 ? PLAN_OP_GLOB : bound_op(n >> 10 & 3, PLAN_OP_GT, PLAN_OP_GE);
    plan->high = bound_op(n >> 12 & 3, PLAN_OP_LT, PLAN_OP_LE);
    plan->prefix = (n >> 14 & 1) != 0;
    plan->reverse = (n >> 15 & 1) != 0;
    plan->keys_only = (n >> 16 & 1) != 0;
    plan->limit = (n >> 17 & 1) != 0;
    plan->offset = (n >> 18 & 1) != 0;
    plan->empty = (n >> 19 & 1) != 0;
    plan->like = (n >> 20 & 1) != 0;
    plan->offset_consumed = (n >> 21 & 1) != 0;
    plan->literals = n >> 22 & 63;
    plan->whole = (n >> 28 & 1) != 0;
    plan->low_literal = (n >> 29 & 1) != 0;
    plan->high_literal = (n >> 30 & 1) != 0;
}

void plan_arguments(const struct plan *plan, struct plan_arguments *args)
{
    int at = (int)plan->eq_count;

    args->low = plan->low != PLAN_OP_OTHER ? at++ : -1;
    args->high = plan->high != PLAN_OP_OTHER ? at++ : -1;
    args->prefix = plan->prefix ? at++ : -1;
    args->limit = plan->limit ? at++ : -1;
    args->offset = plan->offset ? at++ : -1;
    args->count = at;
}

/* ---- The text for EXPLAIN QUERY PLAN ---- */

static enum armdb_rc add_text(struct bytebuf *out, const char *text)
{
    return bytebuf_append(out, text, strlen(text));
}

static enum armdb_rc add_term(struct bytebuf *out, bool *first, const char *column,
                              const char *op)
{
    enum armdb_rc rc = add_text(out, *first ? "(" : " AND ");

    *first = false;
    if (rc == ARMDB_OK)
        rc = add_text(out, column);
    if (rc == ARMDB_OK)
        rc = add_text(out, op);
    return rc;
}

static const char *way_name(const struct plan *plan, const struct schema *schema)
{
    if (plan->empty)
        return "nothing";
    if (plan->eq_count == schema->key.part_count)
        return plan->list_slot != 0 ? "in" : "point";
    if (plan->eq_count != 0 || plan->prefix || plan->low != PLAN_OP_OTHER ||
        plan->high != PLAN_OP_OTHER)
        return "range";
    return "scan";
}

static const char *part_name(const struct schema *schema, uint32_t part)
{
    return schema->columns[schema->key.parts[part].column].name;
}

static enum armdb_rc describe_terms(const struct plan *plan, const struct schema *schema,
                                    struct bytebuf *out)
{
    enum armdb_rc rc = ARMDB_OK;
    bool first = true;
    const char *column;

    for (uint32_t i = 0; rc == ARMDB_OK && i < plan->eq_count; i++)
        rc = add_term(out, &first, part_name(schema, i),
                      plan->list_slot == i + 1 ? " IN (?)" : "=?");
    if (rc != ARMDB_OK || plan->eq_count == schema->key.part_count)
        goto out;
    column = part_name(schema, plan->eq_count);
    if (plan->like) {
        rc = add_term(out, &first, column, " LIKE ?");
        goto out;
    }
    if (plan->low == PLAN_OP_GLOB)
        rc = add_term(out, &first, column, " GLOB ?");
    else if (plan->low != PLAN_OP_OTHER)
        rc = add_term(out, &first, column, plan->low == PLAN_OP_GT ? ">?" : ">=?");
    if (rc == ARMDB_OK && plan->high != PLAN_OP_OTHER)
        rc = add_term(out, &first, column, plan->high == PLAN_OP_LT ? "<?" : "<=?");
    if (rc == ARMDB_OK && plan->prefix)
        rc = add_term(out, &first, column, " STARTS WITH ?");
out:
    if (rc == ARMDB_OK && !first)
        rc = add_text(out, ")");
    return rc;
}

enum armdb_rc plan_describe(const struct plan *plan, const struct schema *schema,
                            struct bytebuf *out)
{
    enum armdb_rc rc;

    rc = add_text(out, "armdb: ");
    if (rc == ARMDB_OK)
        rc = add_text(out, way_name(plan, schema));
    if (rc == ARMDB_OK)
        rc = add_text(out, " ");
    if (rc == ARMDB_OK)
        rc = add_text(out, schema->table_name);
    if (rc == ARMDB_OK && !plan->empty)
        rc = describe_terms(plan, schema, out);
    if (rc == ARMDB_OK && plan->reverse)
        rc = add_text(out, " reverse");
    if (rc == ARMDB_OK && plan->keys_only)
        rc = add_text(out, " keys-only");
    if (rc == ARMDB_OK)
        rc = bytebuf_append(out, "", 1);
    return rc;
}

/* ---- Rows and cost ---- */

enum { LIST_ROWS = 10 }; /* taken for the length of an IN, which is not told */

/* Rows when the bounds are unknown. Each equality on a leading part is taken to cut
 * the table by the same factor (by powers of two); one bound leaves a quarter, two
 * leave a 64th, as SQLite itself guesses. */
static uint64_t guess_rows(const struct plan *plan, const struct schema *schema,
                           uint64_t total)
{
    uint32_t parts = schema->key.part_count;
    uint32_t bits = 0;
    uint64_t rows = total;

    while (bits < 63 && total >> (bits + 1) != 0)
        bits++;
    if (plan->eq_count != 0)
        rows = UINT64_C(1) << bits * (parts - plan->eq_count) / parts;
    if (plan->prefix || plan->low == PLAN_OP_GLOB ||
        (plan->low != PLAN_OP_OTHER && plan->high != PLAN_OP_OTHER))
        return rows / 64;
    if (plan->low != PLAN_OP_OTHER || plan->high != PLAN_OP_OTHER)
        return rows / 4;
    return rows;
}

void plan_cost(const struct plan *plan, const struct schema *schema, uint64_t total,
               uint64_t range_rows, struct plan_estimate *out)
{
    uint64_t rows;

    if (plan->empty || plan->unique) {
        out->rows = 1;
        out->cost = plan->empty ? 1.0 : 4.0;
        return;
    }
    if (plan->list_slot != 0 && plan->eq_count == schema->key.part_count)
        rows = total < LIST_ROWS ? total : LIST_ROWS;
    else if (range_rows != UINT64_MAX)
        rows = range_rows;
    else
        rows = guess_rows(plan, schema, total);
    if (plan->list_slot != 0 && rows > LIST_ROWS && rows < total / LIST_ROWS)
        rows *= LIST_ROWS;
    if (rows < 1)
        rows = 1;
    if (rows > UINT64_C(1) << 50)
        rows = UINT64_C(1) << 50;
    out->rows = (int64_t)rows;
    out->cost = 10.0 + (double)rows * (plan->keys_only ? 1.0 : 2.5);
    if (plan->list_slot != 0)
        out->cost = (double)rows * 4.0;
}

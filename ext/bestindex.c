/* bestindex.c - xBestIndex: SQLite's terms for plan.c, and its answer back.
 *
 * Nothing is decided here. A term's collation is asked from SQLite for every term: LIKE
 * brings NOCASE bounds, and `k = ? COLLATE NOCASE` is no equality of a BINARY key.
 *
 * ORDER BY terms carry no collation, and need none: SQLite offers a column only when
 * it is to be sorted by the collation that the table declares for it.
 *
 * How many rows a range holds is asked from the store's index where the bounds are known
 * while planning. To ask, the store is opened: preparing a statement is a use. If that
 * fails, the plan is made from guesses, and the error shows when the statement runs.
 * SQLite calls this several times for one statement, with fewer terms usable; nothing
 * may change in between, and nothing does. */
#include <string.h>

#include "ext/errmap.h"
#include "ext/plan.h"
#include "ext/vtab.h"

SQLITE_EXTENSION_INIT3

enum {
    ROWS_UNKNOWN = 100000,         /* taken for a table that cannot be asked */
    VERSION_LIMIT_RIGHT = 3046000, /* LIMIT and OFFSET are offered rightly */
    TERMS_ON_STACK = 32
};

static enum plan_op translate_op(unsigned char op)
{
    switch (op) {
    case SQLITE_INDEX_CONSTRAINT_EQ:
    case SQLITE_INDEX_CONSTRAINT_IS:
        return PLAN_OP_EQ;
    case SQLITE_INDEX_CONSTRAINT_LT:
        return PLAN_OP_LT;
    case SQLITE_INDEX_CONSTRAINT_LE:
        return PLAN_OP_LE;
    case SQLITE_INDEX_CONSTRAINT_GT:
        return PLAN_OP_GT;
    case SQLITE_INDEX_CONSTRAINT_GE:
        return PLAN_OP_GE;
    case SQLITE_INDEX_CONSTRAINT_ISNULL:
        return PLAN_OP_NULL;
    case SQLITE_INDEX_CONSTRAINT_LIKE:
        return PLAN_OP_LIKE;
    case SQLITE_INDEX_CONSTRAINT_GLOB:
        return PLAN_OP_GLOB;
    case SQLITE_INDEX_CONSTRAINT_LIMIT:
        return PLAN_OP_LIMIT;
    case SQLITE_INDEX_CONSTRAINT_OFFSET:
        return PLAN_OP_OFFSET;
    default:
        return PLAN_OP_OTHER;
    }
}

static bool translate_collation(const char *name, enum collation *out)
{
    static const char *const names[] = {
        [COLLATION_BINARY] = "BINARY",
        [COLLATION_NOCASE] = "NOCASE",
        [COLLATION_RTRIM] = "RTRIM",
    };

    *out = COLLATION_BINARY;
    for (int i = COLLATION_BINARY; i <= COLLATION_RTRIM; i++) {
        if (name != NULL && sqlite3_stricmp(name, names[i]) == 0) {
            *out = (enum collation)i;
            return true;
        }
    }
    return false;
}

static void translate_term(sqlite3_index_info *info, int i, struct plan_term *term)
{
    const struct sqlite3_index_constraint *constraint = &info->aConstraint[i];
    sqlite3_value *rhs = NULL;

    memset(term, 0, sizeof *term);
    term->op = translate_op(constraint->op);
    term->usable = constraint->usable != 0;
    term->column = constraint->iColumn;
    if (term->op == PLAN_OP_LIMIT || term->op == PLAN_OP_OFFSET) {
        term->column = -1;
        return;
    }
    term->known_collation =
        translate_collation(sqlite3_vtab_collation(info, i), &term->collation);
    if (!term->usable)
        return;
    term->is_in = term->op == PLAN_OP_EQ && sqlite3_vtab_in(info, i, -1);
    term->literal =
        !term->is_in && sqlite3_vtab_rhs_value(info, i, &rhs) == SQLITE_OK && rhs != NULL;
    term->is_number = term->literal && (sqlite3_value_type(rhs) == SQLITE_INTEGER ||
                                        sqlite3_value_type(rhs) == SQLITE_FLOAT);
}

static bool has_glob(const struct plan_query *query)
{
    for (uint32_t i = 0; i < query->term_count; i++) {
        if (query->terms[i].op == PLAN_OP_GLOB && query->terms[i].usable)
            return true;
    }
    return false;
}

/* Whether glob() means what SQLite means by it. An application may have its own; a
 * statement is prepared again when that changes. */
static int glob_is_builtin(sqlite3 *db, bool *own)
{
    static const char sql[] = "SELECT count(*) FROM pragma_function_list WHERE "
                              "name = 'glob' AND NOT builtin";
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);

    *own = rc == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW &&
           sqlite3_column_int(stmt, 0) == 0;
    if (rc == SQLITE_OK)
        rc = sqlite3_finalize(stmt);
    return conn_is_fatal(rc) ? rc : SQLITE_OK;
}

/* ---- Rows between known bounds ---- */

/* The literal that was given argv `number`; NULL when it is no literal. */
static sqlite3_value *find_literal(sqlite3_index_info *info, int number)
{
    sqlite3_value *rhs = NULL;

    for (int i = 0; i < info->nConstraint; i++) {
        if (info->aConstraintUsage[i].argvIndex == number &&
            sqlite3_vtab_rhs_value(info, i, &rhs) == SQLITE_OK)
            return rhs;
    }
    return NULL;
}

/* Converts a literal; false when it says nothing about the range. */
static bool load_literal(sqlite3_index_info *info, int number, enum affinity affinity,
                         struct sql_value *out)
{
    sqlite3_value *rhs = find_literal(info, number);
    enum rhs_fit fit = RHS_NEVER;

    return rhs != NULL && affinity_compare(rhs, affinity, out, &fit) == SQLITE_OK &&
           fit != RHS_NEVER;
}

static enum armdb_rc narrow(const struct plan *plan, const struct key_layout *key,
                            sqlite3_index_info *info, struct key_range *range,
                            bool *known)
{
    const struct key_part *part = &key->parts[plan->eq_count];
    struct plan_arguments at;
    struct sql_value value;
    enum armdb_rc rc = ARMDB_OK;

    plan_arguments(plan, &at);
    if (at.low >= 0 && load_literal(info, at.low + 1, part->affinity, &value)) {
        rc = key_range_narrow(key, plan->eq_count,
                              plan->low == PLAN_OP_GT ? KEY_GT : KEY_GE, &value, range);
        *known = true;
    }
    if (rc == ARMDB_OK && at.high >= 0 &&
        load_literal(info, at.high + 1, part->affinity, &value)) {
        rc = key_range_narrow(key, plan->eq_count,
                              plan->high == PLAN_OP_LT ? KEY_LT : KEY_LE, &value, range);
        *known = true;
    }
    return rc;
}

/* UINT64_MAX: the bounds are not known yet. */
static uint64_t count_range(const struct vtab *vtab, const struct plan *plan,
                            sqlite3_index_info *info)
{
    const struct key_layout *key = &vtab->schema->key;
    struct sql_value eq[PLAN_EQ_MAX];
    struct armdb_range range = {.low_bound = ARMDB_BOUND_OPEN};
    struct key_range bounds;
    uint64_t rows = UINT64_MAX;
    bool known = plan->eq_count > 0;

    if (plan->eq_count == key->part_count || plan->prefix || plan->like || plan->empty ||
        plan->low == PLAN_OP_GLOB)
        return UINT64_MAX;
    for (uint32_t i = 0; i < plan->eq_count; i++) {
        if (!load_literal(info, (int)i + 1, key->parts[i].affinity, &eq[i]))
            return UINT64_MAX;
    }
    key_range_init(&bounds);
    if (key_range_begin(key, eq, plan->eq_count, &bounds) == ARMDB_OK &&
        narrow(plan, key, info, &bounds, &known) == ARMDB_OK && known) {
        key_range_get(&bounds, &range);
        rows =
            key_range_is_empty(&bounds) ? 0 : armdb_range_estimate(vtab->table, &range);
    }
    key_range_fini(&bounds);
    return rows;
}

static void estimate(struct vtab *vtab, const struct plan *plan, sqlite3_index_info *info)
{
    struct plan_estimate estimated;
    uint64_t total = ROWS_UNKNOWN;
    uint64_t range_rows = UINT64_MAX;

    if (vtab_use(vtab) == SQLITE_OK) {
        total = armdb_count(vtab->table);
        range_rows = count_range(vtab, plan, info);
    } else {
        sqlite3_free(vtab->base.zErrMsg);
        vtab->base.zErrMsg = NULL;
    }
    plan_cost(plan, vtab->schema, total, range_rows, &estimated);
    info->estimatedCost = estimated.cost;
    info->estimatedRows = estimated.rows;
}

/* ---- The answer ---- */

static int set_text(const struct vtab *vtab, const struct plan *plan,
                    sqlite3_index_info *info)
{
    struct bytebuf text;

    bytebuf_init(&text);
    if (plan_describe(plan, vtab->schema, &text) != ARMDB_OK) {
        bytebuf_fini(&text);
        return SQLITE_NOMEM;
    }
    info->idxStr = (char *)text.data; /* SQLite's memory: it frees it */
    info->needToFreeIdxStr = 1;
    return SQLITE_OK;
}

static int choose(struct vtab *vtab, sqlite3_index_info *info, struct plan_query *query)
{
    struct plan plan;

    if (!plan_choose(query, &plan))
        return SQLITE_CONSTRAINT;
    for (int i = 0; i < info->nConstraint; i++) {
        info->aConstraintUsage[i].argvIndex = query->terms[i].argv;
        info->aConstraintUsage[i].omit = query->terms[i].omit;
        if (query->terms[i].as_list)
            sqlite3_vtab_in(info, i, 1);
    }
    info->idxNum = plan_number(&plan);
    info->orderByConsumed = plan.ordered;
    if (plan.unique)
        info->idxFlags = SQLITE_INDEX_SCAN_UNIQUE;
    estimate(vtab, &plan, info);
    return set_text(vtab, &plan, info);
}

int vtab_best_index(sqlite3_vtab *base, sqlite3_index_info *info)
{
    struct vtab *vtab = (struct vtab *)base;
    struct plan_term terms_here[TERMS_ON_STACK];
    struct plan_order order_here[TERMS_ON_STACK];
    struct plan_query query = {
        .schema = vtab->schema, .terms = terms_here, .order = order_here};
    struct plan_order *order = order_here;
    void *memory = NULL;
    int rc = SQLITE_OK;

    memset(terms_here, 0, sizeof terms_here);
    vtab->conn->planned = vtab;
    rc = txn_make_helper(vtab->conn);
    if (rc != SQLITE_OK)
        return rc;
    if (info->nConstraint > TERMS_ON_STACK || info->nOrderBy > TERMS_ON_STACK) {
        size_t terms_bytes = (size_t)info->nConstraint * sizeof *query.terms;

        memory = sqlite3_malloc64(terms_bytes + (size_t)info->nOrderBy * sizeof *order);
        if (memory == NULL)
            return SQLITE_NOMEM;
        query.terms = memory;
        order = (struct plan_order *)(void *)((char *)memory + terms_bytes);
        query.order = order;
    }
    query.term_count = (uint32_t)info->nConstraint;
    for (int i = 0; i < info->nConstraint; i++)
        translate_term(info, i, &query.terms[i]);
    query.order_count = (uint32_t)info->nOrderBy;
    for (int i = 0; i < info->nOrderBy; i++) {
        order[i].column = info->aOrderBy[i].iColumn;
        order[i].desc = info->aOrderBy[i].desc != 0;
    }
    query.distinct = (enum plan_distinct)sqlite3_vtab_distinct(info);
    query.columns_used = info->colUsed;
    query.limit_is_reliable = sqlite3_libversion_number() >= VERSION_LIMIT_RIGHT;
    query.like_meets_blobs = !sqlite3_compileoption_used("LIKE_DOESNT_MATCH_BLOBS");
    if (has_glob(&query))
        rc = glob_is_builtin(vtab->conn->db, &query.glob_is_builtin);
    if (rc == SQLITE_OK)
        rc = choose(vtab, info, &query);
    sqlite3_free(memory);
    return rc;
}

/* plan.h - which way a statement takes through a table: the contract between
 * xBestIndex, which chooses it, and xFilter, which walks it.
 *
 * Pure functions over plain structs: no SQLite handle, no store, no I/O. The caller
 * (cursor.c) translates sqlite3_index_info into plan_terms and back. */
#ifndef ARMDB_EXT_PLAN_H
#define ARMDB_EXT_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "ext/bytebuf.h"
#include "ext/keycodec.h"
#include "ext/schema.h"

/* What a term of the WHERE clause says about its column. */
enum plan_op {
    PLAN_OP_OTHER = 0, /* nothing that a key order can use */
    PLAN_OP_EQ,        /* = and IS: keys hold no NULL, so the two are one */
    PLAN_OP_LT,
    PLAN_OP_LE,
    PLAN_OP_GT,
    PLAN_OP_GE,
    PLAN_OP_NULL,  /* IS NULL */
    PLAN_OP_LIKE,  /* LIKE itself: proves that a NOCASE pair is its range */
    PLAN_OP_GLOB,  /* GLOB itself */
    PLAN_OP_LIMIT, /* has no column */
    PLAN_OP_OFFSET /* has no column */
};

/* One term, and what the plan does with it. */
struct plan_term {
    int column; /* of the declared table, hidden ones included */
    enum plan_op op;
    enum collation collation;
    bool known_collation; /* false: a collation that no key has */
    bool usable;
    bool is_in;     /* EQ that is an IN, which could be had as one list */
    bool literal;   /* the right-hand side is known while planning */
    bool is_number; /* a literal that is a number, or a CAST that gives one */
    /* Chosen: */
    int argv; /* 1-based place among xFilter's arguments, 0 = unused */
    bool omit;
    bool as_list; /* the IN comes as one list */
};

struct plan_order {
    int column;
    bool desc;
};

/* What the rows are wanted for, as sqlite3_vtab_distinct() says it. */
enum plan_distinct {
    PLAN_SORTED = 0,         /* ORDER BY */
    PLAN_GROUPED = 1,        /* GROUP BY: equal rows side by side */
    PLAN_DISTINCT = 2,       /* the same, repeats unwanted */
    PLAN_DISTINCT_SORTED = 3 /* both */
};

struct plan_query {
    const struct schema *schema;
    struct plan_term *terms;
    uint32_t term_count;
    const struct plan_order *order;
    uint32_t order_count;
    enum plan_distinct distinct;
    uint64_t columns_used;  /* sqlite3_index_info.colUsed */
    bool limit_is_reliable; /* SQLite 3.46 and later */
    bool like_meets_blobs;  /* SQLite was built so that LIKE matches blobs */
    bool glob_is_builtin;   /* glob() is SQLite's own: its pattern can be read here */
};

enum { PLAN_EQ_MAX = 15, PLAN_LITERAL_MAX = 6 };

/* A chosen way; plan_number() packs it into idxNum. */
struct plan {
    uint32_t eq_count;  /* leading key parts held by equality, 0 to PLAN_EQ_MAX */
    uint32_t list_slot; /* 1-based: which of them is a list; 0 = none */
    /* PLAN_OP_GT, PLAN_OP_GE, PLAN_OP_GLOB (the pattern's prefix bounds the range on both
     * sides; then no high) or PLAN_OP_OTHER = none. */
    enum plan_op low;
    enum plan_op high;    /* PLAN_OP_LT, PLAN_OP_LE or PLAN_OP_OTHER = none */
    bool like;            /* low and high are LIKE's pair: bytes, a superset */
    bool prefix;          /* t('prefix') */
    bool reverse;         /* from the last key to the first */
    bool keys_only;       /* no column outside the key is used */
    bool limit;           /* LIMIT is an argument: a hint */
    bool offset;          /* OFFSET is an argument */
    bool offset_consumed; /* and is skipped here */
    bool empty;           /* no row can satisfy the terms */
    bool whole;           /* SQLite wants every column: it may be an UPDATE's own scan */
    bool leans;           /* the order relies on equalities of open meaning */
    bool several;         /* a number of open meaning: more than one key may match */
    uint32_t literals;    /* bit i: the value of equality i is a literal */
    bool low_literal;
    bool high_literal;
    /* Not packed: what the planner is told. */
    bool unique;   /* at most one row */
    bool exact;    /* the equalities certainly hold for what is delivered */
    uint32_t open; /* bit p: the equality on part p may hold for several spellings */
    bool ordered;  /* rows come as query.order asks */
};

/* Chooses. Fills the chosen fields of the terms and *plan. False: this combination
 * of usable terms cannot be answered (the argument of t('prefix') is not usable). */
bool plan_choose(struct plan_query *query, struct plan *plan);

/* idxNum and back. Every plan survives the trip (its packed fields). */
int plan_number(const struct plan *plan);
void plan_from_number(int number, struct plan *plan);

/* Number of xFilter's arguments, and the 0-based place of each after the equalities;
 * -1 when the plan has none. */
struct plan_arguments {
    int count;
    int low;
    int high;
    int prefix;
    int limit;
    int offset;
};
void plan_arguments(const struct plan *plan, struct plan_arguments *args);

/* Appends the text for EXPLAIN QUERY PLAN, such as
 * "armdb: range files(path_name>=? AND path_name<?) keys-only", and a NUL. */
enum armdb_rc plan_describe(const struct plan *plan, const struct schema *schema,
                            struct bytebuf *out) ADB_MUST_CHECK;

/* Rows and cost. `total` rows are in the table; `range_rows` of them lie between the
 * bounds, or UINT64_MAX when the bounds are not known while planning. */
struct plan_estimate {
    double cost;
    int64_t rows;
};
void plan_cost(const struct plan *plan, const struct schema *schema, uint64_t total,
               uint64_t range_rows, struct plan_estimate *out);

#endif

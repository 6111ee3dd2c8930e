/* diff.h - what the parts of the differential test share.
 *
 * diff_value.c  arena, random numbers, text buffer, values
 * diff_schema.c random schemas
 * diff_expr.c   random predicates
 * diff_query.c  random SELECT statements
 * diff_write.c  random writing statements and transactions; the list of steps
 * diff_run.c    runs a list of steps on both sides and compares
 * diff_shrink.c runs it in a child process and makes a failing list smaller
 * diff.c        command line, loop over schemas, summary */
#ifndef TEST_PROP_DIFF_H
#define TEST_PROP_DIFF_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- diff_value.c ---------------------------------------------------------- */

struct arena {
    struct arena_block *head;
};
void *arena_alloc(struct arena *arena, size_t bytes); /* zeroed; never NULL */
char *arena_printf(struct arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void arena_free(struct arena *arena);

struct rng {
    uint64_t state;
};
uint64_t rng_next(struct rng *rng);
unsigned rng_below(struct rng *rng, unsigned n); /* n = 0 gives 0 */
bool rng_chance(struct rng *rng, unsigned percent);

/* A growing text, always NUL-terminated. */
struct text {
    char *data;
    size_t len;
    size_t room;
};
void text_add(struct text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void text_add_bytes(struct text *text, const void *data, size_t len);
void text_clear(struct text *text);
void text_free(struct text *text);

enum value_kind { VALUE_NULL, VALUE_INT, VALUE_REAL, VALUE_TEXT, VALUE_BLOB };
struct value {
    enum value_kind kind;
    int64_t integer;
    double real;
    const char *data;
    size_t len;
};
/* What a pool of values is mostly made of. */
enum flavour {
    FLAVOUR_MIXED,
    FLAVOUR_INT,
    FLAVOUR_TEXT,
    FLAVOUR_BLOB,
    FLAVOUR_REAL,
    FLAVOUR_COUNT
};
struct value value_random(struct rng *rng, struct arena *arena, enum flavour flavour);
struct value value_int(int64_t integer);
struct value value_text(struct arena *arena, const char *text);
struct value value_bytes(struct rng *rng, struct arena *arena, bool text, size_t len);
bool value_has_literal(const struct value *value);
void value_add_literal(struct text *text, const struct value *value);

/* ---- diff_schema.c --------------------------------------------------------- */

enum { COLUMNS_MAX = 9, KEYS_MAX = 4, POOL_MAX = 14 };
struct column {
    const char *name; /* quoted where it must be */
    const char *type;
    const char *collation; /* NULL = BINARY */
    const char *default_sql; /* NULL = none */
    const char *check_sql;   /* NULL = none */
    bool not_null;
    bool is_key;
    bool key_desc;
    enum flavour flavour;
    struct value pool[POOL_MAX];
    int pool_len;
};
enum placement { PLACE_MAIN, PLACE_MEMORY, PLACE_TEMP_PATH, PLACE_MAIN_PATH };
struct schema {
    struct column column[COLUMNS_MAX];
    int column_count;
    int key[KEYS_MAX]; /* column numbers in key order */
    int key_count;
    bool key_collated; /* the columns of the key alone may leave ties */
    enum placement place;
    bool wal;
    bool other_is_armdb;
    /* Side 0 is native, side 1 armdb (or native again with a planted change). */
    const char *create[2];
    const char *create_other[2];
};
struct settings {
    const char *extension; /* NULL: native tables on both sides */
    int plant;             /* number of a planted difference, or -1 */
    bool transactions;
    bool huge;             /* values of up to 16 MiB now and then */
    bool key_collations;   /* PRIMARY KEY(k COLLATE c) */
    int connections;       /* 1 or 2 */
    int steps;             /* statements per schema */
    const char *folder;    /* scratch folder */
};
void schema_random(struct schema *schema, const struct settings *settings,
                   struct rng *rng, struct arena *arena);
const struct value *pool_pick(const struct column *column, struct rng *rng);

/* ---- diff_write.c: steps --------------------------------------------------- */

enum step_kind { STEP_SQL, STEP_REOPEN, STEP_CURSOR_OPEN, STEP_CURSOR_NEXT,
                 STEP_CURSOR_CLOSE };
enum compare {
    COMPARE_SET,     /* rows in any order */
    COMPARE_ORDERED, /* rows in this order */
    COMPARE_PREFIX,  /* any order, but the first columns in this order, loosely */
    COMPARE_CODE     /* rows are not comparable: result code only */
};
enum { BINDS_MAX = 48, SLOTS_MAX = 16, CURSORS_MAX = 3 };
struct step {
    enum step_kind kind;
    const char *sql[2];
    struct value *bind;
    int bind_count;
    enum compare compare;
    int prefix_columns;
    bool loose;      /* equal under the collation is equal enough */
    bool skip_count; /* changes() cannot agree (see diff_write.c) */
    bool ddl;        /* counts of changed rows are the library's own affair */
    int connection;
    int slot;        /* prepared statement to re-use, or -1 */
    int cursor;
    int rows;        /* STEP_CURSOR_NEXT: how many */
};
struct plan {
    struct schema schema;
    struct step *step;
    int step_count;
};
void plan_random(struct plan *plan, const struct settings *settings, uint64_t seed,
                 struct arena *arena);

/* ---- statements under construction (diff_expr.c) --------------------------- */

/* Where a bound value came from, so that a re-used statement can draw again. */
enum { FROM_FIXED = -1, FROM_PATTERN = -2, FROM_LIMIT = -3 };
struct builder {
    struct rng *rng;
    struct arena *arena;
    const struct schema *schema;
    struct text sql;
    struct value bind[BINDS_MAX];
    int bind_from[BINDS_MAX];
    int bind_count;
    unsigned bind_percent;
    enum compare compare;
    int prefix_columns;
    bool loose;
    bool skip_count;
    bool deletes; /* no sub-query on t that is evaluated once, at first need */
    bool updates; /* no sub-query on t at all */
    bool ordered; /* no equality that keys of two types meet */
    /* With two connections: no LIMIT 0, no IN (). SQLite then reads no table, and so a
     * virtual table does not hear that a transaction's moment is to be fixed. */
    bool must_read;
};
void builder_start(struct builder *b);
void add_value(struct builder *b, const struct value *value, int from);
void add_pool_value(struct builder *b, int column);
void add_limit(struct builder *b, unsigned below);
struct value pattern_random(struct rng *rng, struct arena *arena);
const char *any_column(struct builder *b);
const char *key_column(struct builder *b, int position);
/* `alias` is "" or an alias with its dot, such as "a.". */
void add_predicate(struct builder *b, const char *alias, int depth);
void add_where(struct builder *b, const char *alias); /* " WHERE ..." or nothing */
/* One term that every plan answers in key order. */
void add_simple_where(struct builder *b);
void add_whole_key(struct builder *b, const char *alias);
void add_total_order(struct builder *b, const char *alias);
/* diff_query.c */
void add_query(struct builder *b);

/* ---- diff_run.c ------------------------------------------------------------ */

struct verdict {
    int statements;   /* how many ran */
    int step;         /* the step that differed, or is running */
    int differs;      /* 1 = difference found */
    int errors;       /* statements that failed alike on both sides */
    int refused;      /* runs ended where armdb refuses by its documented limits */
    int64_t rows;     /* rows compared */
    char text[6000];  /* what differed */
};
/* Runs the steps whose `keep` is set (all when NULL) and stops at the first
 * difference. `verdict` may lie in shared memory. */
void plan_run(const struct plan *plan, const struct settings *settings, const char *keep,
              struct verdict *verdict);

/* ---- diff_plant.c ---------------------------------------------------------- */

int plant_count(void);
const char *plant_name(int plant);
bool plant_needs_transactions(int plant);
bool plant_needs_connections(int plant);
/* The text of side 1 as the planted mistake has it. */
const char *plant_apply(int plant, bool create, const char *sql, struct arena *arena);
bool plant_loses_row_at_reopen(int plant);

/* ---- diff_shrink.c --------------------------------------------------------- */

/* Runs in a child process; a crash or hang is a difference too. */
void plan_run_child(const struct plan *plan, const struct settings *settings,
                    const char *keep, struct verdict *verdict);
/* Leaves steps out for at most `seconds` and prints the smallest failing list. */
void plan_shrink(const struct plan *plan, const struct settings *settings, int seconds,
                 const struct verdict *first);

#endif

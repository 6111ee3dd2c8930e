/* filter_private.h - what filter.c, filter_list.c and filter_number.c share. Nobody else.
 *
 * Functions return a code of SQLite; a failure of the engine has then set the table's
 * error text. */
#ifndef ARMDB_EXT_FILTER_PRIVATE_H
#define ARMDB_EXT_FILTER_PRIVATE_H

#include "ext/affinity.h"
#include "ext/cursor.h"
#include "ext/plan.h"

/* What the arguments turned out to be. */
struct filter {
    struct vtab_cursor *cursor;
    struct vtab *vtab;
    struct plan plan;
    struct plan_arguments at;
    sqlite3_value **argv;
    struct sql_value eq[PLAN_EQ_MAX];
    struct sql_value number[PLAN_EQ_MAX]; /* as it came, where the meaning is open */
    struct sql_value low;                 /* if has_low */
    struct sql_value high;                /* if has_high */
    bool has_low;
    bool has_high;
    uint32_t unsure; /* bit i: the meaning of equality i is open */
    bool never;      /* no row can satisfy the terms */
    size_t key_count;
};

/* ---- filter_list.c ---- */

/* Converts one right-hand side. *never is set when no row can equal it, and else left as
 * it was. *unsure: its meaning is open. */
int filter_convert(sqlite3_value *in, enum affinity affinity, bool literal,
                   struct sql_value *out, bool *never, bool *unsure);

/* Encodes eq[], all parts of a key, to the end of the cursor's list; none where it is
 * longer than keys can be. */
int filter_add_key(struct filter *f);

/* Narrows cursor->range, which key_range_begin() has set, by the bounds loaded. */
int filter_add_bounds(struct filter *f);

/* One value of the list has been put into eq[]: a whole key, or the start of a range. */
int filter_add_value(struct filter *f);

/* All values are there: finds their bytes, and puts them in order. */
void filter_finish_list(struct filter *f);

/* Takes the values of an IN, which come as one list. */
int filter_load_list(struct filter *f);

/* Rows of several spellings are wanted in the order of what follows: takes all their
 * keys and sorts them so. */
int filter_collect_keys(struct filter *f);

/* ---- filter_number.c ---- */

/* Finds, behind the given first parts, the next text that may look like a number: the
 * first one, or the one above cursor->text, into which it is put. */
int filter_next_text(struct filter *f, uint32_t part, bool first, bool *found);

/* Decides each equality of open meaning: a key, a list, or a wider range. */
int filter_settle_meanings(struct filter *f);

#endif

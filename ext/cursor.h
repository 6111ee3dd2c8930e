/* cursor.h - one scan of a table: what xFilter sets up and xNext and xColumn use. */
#ifndef ARMDB_EXT_CURSOR_H
#define ARMDB_EXT_CURSOR_H

#include "ext/plan.h"
#include "ext/vtab.h"

/* The range of one value of an IN that makes no whole key; its bytes lie in `list`. */
struct vtab_span {
    const unsigned char *low;
    const unsigned char *high;
    size_t low_len;
    size_t high_len;
    enum armdb_bound low_bound;
    enum armdb_bound high_bound;
    size_t prefix_len; /* bytes of low that the equalities make */
};

struct vtab_cursor {
    sqlite3_vtab_cursor base;  /* first: SQLite's pointer is ours */
    struct vtab_cursor *spare; /* next in the table's list of closed cursors */
    struct armdb_cursor *rows; /* owned */

    bool eof;
    bool tests_prefix;        /* the range is wider than t('prefix') asks for */
    bool have_value;          /* value is the current row's */
    struct armdb_value value; /* borrowed from rows until they move */
    struct bytebuf scratch;   /* a decoded key column */
    struct bytebuf prefix;    /* the argument of t('prefix') */
    int prefix_type;          /* SQLITE_TEXT or SQLITE_BLOB; 0 = none */

    /* Scratch of xFilter. */
    struct key_range range;
    struct bytebuf list;    /* encoded keys of an IN, one behind the other */
    struct armdb_key *keys; /* owned; their places in `list` */
    size_t keys_cap;

    /* Ranges to be walked one after the other; count is 0 where there is only one. */
    struct vtab_span *spans; /* owned */
    size_t span_count;
    size_t span_cap;
    size_t span_at;
    struct bytebuf text;           /* a text that looks like a number */
    struct bytebuf kept;           /* one that is the number looked for */
    struct bytebuf collected;      /* keys that had to be sorted */
    struct armdb_range span_range; /* direction and hints; bounds change */
};

/* Sets the table's error text from the engine's and returns SQLite's code. */
int vtab_cursor_error(struct vtab_cursor *cursor, enum armdb_rc rc,
                      const struct armdb_error *err);

/* Takes the result of a seek or step: on to the next row that t('prefix') wants, or to
 * the end. */
int vtab_cursor_step(struct vtab_cursor *cursor, enum armdb_rc first,
                     const struct armdb_error *err);

/* Goes to the first row of the next range that has one, from span_at on. */
enum armdb_rc vtab_cursor_seek_span(struct vtab_cursor *cursor,
                                    struct armdb_error *err) ADB_MUST_CHECK;

/* The engine's next row, in this range or the next. */
enum armdb_rc vtab_cursor_next_row(struct vtab_cursor *cursor,
                                   struct armdb_error *err) ADB_MUST_CHECK;

/* Reads column `part` of the current row's key into *out. */
int vtab_cursor_key_part(struct vtab_cursor *cursor, uint32_t part,
                         struct sql_value *out);

#endif

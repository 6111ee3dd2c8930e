/* cursor.h - one scan of a table: what xFilter sets up and xNext and xColumn use. */
#ifndef ARMDB_EXT_CURSOR_H
#define ARMDB_EXT_CURSOR_H

#include "ext/plan.h"
#include "ext/vtab.h"

struct vtab_cursor {
    sqlite3_vtab_cursor base;  /* first: SQLite's pointer is ours */
    struct vtab_cursor *spare; /* next in the table's list of closed cursors */
    struct armdb_cursor *rows; /* owned */

    bool eof;
    bool tests_prefix; /* the range is wider than t('prefix') asks for */
    bool have_value;   /* value is the current row's */
    struct armdb_value value; /* borrowed from rows until they move */
    struct bytebuf scratch;   /* a decoded key column */
    struct bytebuf prefix;    /* the argument of t('prefix') */
    int prefix_type;          /* SQLITE_TEXT or SQLITE_BLOB; 0 = none */

    /* Scratch of xFilter. */
    struct key_range range;
    struct bytebuf list;    /* encoded keys of an IN, one behind the other */
    struct armdb_key *keys; /* owned; their places in `list` */
    size_t keys_cap;
};

/* Sets the table's error text from the engine's and returns SQLite's code. */
int vtab_cursor_error(struct vtab_cursor *cursor, enum armdb_rc rc,
                      const struct armdb_error *err);

/* Takes the result of a seek or step: on to the next row that t('prefix') wants, or to
 * the end. */
int vtab_cursor_step(struct vtab_cursor *cursor, enum armdb_rc first,
                     const struct armdb_error *err);

/* Reads column `part` of the current row's key into *out. */
int vtab_cursor_key_part(struct vtab_cursor *cursor, uint32_t part,
                         struct sql_value *out);

#endif

/* schema.h - what the arguments of CREATE VIRTUAL TABLE declare, and the rules that
 * rows must keep.
 *
 * SQLite's own parser reads the column definitions: they are declared as a table in
 * a scratch in-memory database, and PRAGMAs tell what it understood. The core applies
 * none of NOT NULL, DEFAULT and CHECK to virtual tables, so they are applied here.
 *
 * The declared virtual table has these columns, in this order:
 *   0 .. column_count-1   the visible ones, as defined
 *   column_command        hidden, named like the table: INSERT INTO t(t) VALUES(...)
 *                         and, being the first hidden one, the argument of t('prefix')
 *                         (named _command when a visible column has the table's name)
 *   column_size           hidden, _size
 *   column_seq            hidden, _seq
 *   column_key            hidden, _key, only with a composite key: the encoded key
 * A single key column is itself the PRIMARY KEY of the virtual table: argv[0] and
 * argv[1] of xUpdate are then old and new value of that column, `pk` is right in
 * PRAGMA table_info, and SQLite knows it to be unique (SELECT DISTINCT k needs no
 * sorter). With a composite key _key is the PRIMARY KEY: argv[0] is the encoded old
 * key, argv[1] the same again for an UPDATE (SQLite copies it even when visible key
 * columns change) and NULL for an INSERT unless the statement sets _key, which is to be
 * refused. In both cases whether an UPDATE moves the row is told by comparing the old
 * encoded key with the encoding of the new columns, never by comparing argv[0] with
 * argv[1]: 'a' and 'A' may be one key, and '1' becomes 1.
 *
 * One struct schema belongs to one sqlite3_vtab and is used under its connection's
 * mutex. Functions return SQLite codes; texts are sqlite3_malloc'd. */
#ifndef ARMDB_EXT_SCHEMA_H
#define ARMDB_EXT_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ext/affinity.h"
#include "ext/keycodec.h"
#include "ext/options.h"

struct schema_column {
    char *name;      /* without quotes */
    char *type;      /* as SQLite reports it; "" when none */
    char *collation; /* the column's own: "BINARY", "NOCASE", or any name */
    char *dflt;      /* text of the DEFAULT; NULL when none */
    enum affinity affinity;
    bool not_null; /* declared so, or a key column */
    /* A key column whose order in the key is its own: PRIMARY KEY(k COLLATE c) may give
     * the key another collation than the column's. */
    bool sorted_by_key;
    int32_t key_index; /* position in the key, -1 for others */
    int32_t row_index; /* position in the row (row_column()), -1 for key columns */
};

struct schema_private; /* scratch connection, defaults: see schema.c */

struct schema {
    uint32_t column_count; /* visible columns */
    struct schema_column *columns;
    struct key_layout key;
    uint32_t row_count;    /* visible columns outside the key */
    uint32_t *row_columns; /* their indices, for row_encode_picked() */
    int column_command;
    int column_size;
    int column_seq;
    int column_key;     /* -1 with a single key column */
    bool columns_given; /* false: no columns in the arguments, key PRIMARY KEY, value */
    bool has_checks;
    char *declaration; /* CREATE TABLE text for sqlite3_declare_vtab() */
    char *text;        /* canonical definitions, to be kept in the store */
    char *table_name;  /* as messages name it */
    struct schema_private *priv;
};

/* Reads the module arguments (argv[3] and later of xCreate and xConnect; argc is
 * their number) of the table `table_name`. Options go into *options, which
 * options_init() has prepared.
 *
 * Gives:  *out, to be freed with schema_destroy(); NULL unless SQLITE_OK.
 * Errors: SQLITE_ERROR, SQLITE_NOMEM, with *err. */
int schema_parse(const char *table_name, int argc, const char *const *argv,
                 struct table_options *options, struct schema **out, char **err);

/* The same from a text that schema->text once was: the stored definitions. They come
 * from a file and are checked like any others. */
int schema_parse_stored(const char *table_name, const void *text, size_t len,
                        struct schema **out, char **err);

void schema_destroy(struct schema *schema); /* NULL is allowed */

/* SQLITE_OK when rows written under one are right under the other: same columns (names,
 * types, collations, key, NOT NULL, DEFAULT) and CHECKs. SQLITE_ERROR: *difference
 * (sqlite3_malloc) says the first thing that differs ("column 2 is ..., in the store it
 * is ..."). SQLITE_NOMEM. */
int schema_agrees(const struct schema *declared, const struct schema *stored,
                  char **difference);

/* For ALTER TABLE RENAME: messages use the new name. The hidden column keeps its old
 * one until the next connect. Errors: SQLITE_ERROR when the definitions do not hold
 * under the new name (a CHECK says t.a; the rename must then be refused),
 * SQLITE_NOMEM; with *err, nothing changed. */
int schema_rename(struct schema *schema, const char *table_name, char **err);

/* ---- Rows ------------------------------------------------------------------ */

/* What is done with the row. */
enum schema_row_kind {
    SCHEMA_ROW_INSERT = 1,
    SCHEMA_ROW_UPDATE = 2,
    SCHEMA_ROW_INSERT_REPLACE = 3, /* INSERT OR REPLACE */
    SCHEMA_ROW_UPDATE_REPLACE = 4  /* UPDATE OR REPLACE */
};

/* Step 1: reads the visible columns as they will be stored: affinities applied and,
 * for an INSERT, a NULL in a column with a DEFAULT replaced by it (SQLite passes NULL
 * for an omitted column too and does not tell them apart). `argv` is xUpdate's
 * argv + 2. In an UPDATE a column that the statement leaves as it is and that
 * xColumn did not fill (sqlite3_value_nochange()) gets type SQL_NOCHANGE: the caller
 * puts the old value there before step 2.
 *
 * Gives:  row[0 .. column_count), borrowing from argv and from the schema until the
 *         next call.
 * Errors: SQLITE_NOMEM; those of evaluating a DEFAULT; then *err. */
int schema_row_load(struct schema *schema, sqlite3_value **argv,
                    enum schema_row_kind kind, struct sql_value *row, char **err);

/* Step 2: NOT NULL, then CHECK, as SQLite orders them; the PRIMARY KEY comes after
 * that and is the caller's. With OR REPLACE a NULL in a NOT NULL column becomes its
 * DEFAULT, if it has one, and row[] is changed. No other conflict clause needs
 * anything done: return the code before anything is changed, and with
 * SQLITE_VTAB_CONSTRAINT_SUPPORT the core skips the row for OR IGNORE, and so on.
 *
 * Errors: SQLITE_CONSTRAINT_NOTNULL ("NOT NULL constraint failed: t.a"),
 *         SQLITE_CONSTRAINT_CHECK (SQLite's own text), SQLITE_NOMEM, or what the
 *         CHECK's evaluation gave; with *err. */
int schema_row_check(struct schema *schema, enum schema_row_kind kind,
                     struct sql_value *row, char **err);

/* "UNIQUE constraint failed: t.a, t.b" for SQLITE_CONSTRAINT_PRIMARYKEY; NULL when
 * out of memory. */
char *schema_unique_message(const struct schema *schema);

#endif

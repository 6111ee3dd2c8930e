/* schema_private.h - what schema.c prepares and schema_row.c uses. Nobody else. */
#ifndef ARMDB_EXT_SCHEMA_PRIVATE_H
#define ARMDB_EXT_SCHEMA_PRIVATE_H

#include "ext/schema.h"

enum default_kind {
    DEFAULT_NONE,     /* none, or NULL */
    DEFAULT_CONSTANT, /* evaluated once, when the schema was read */
    DEFAULT_DYNAMIC   /* evaluated for each row that needs it */
};

struct schema_default {
    enum default_kind kind;
    int result_column;      /* DYNAMIC: its place in defaults_stmt */
    sqlite3_value *held;    /* owned; what `value` borrows from */
    struct sql_value value; /* affinity applied */
};

struct schema_private {
    sqlite3 *db;                     /* owned; NULL when no row ever needs it */
    sqlite3_stmt *defaults_stmt;     /* one row with all DYNAMIC defaults, or NULL */
    sqlite3_stmt *check_stmt;        /* inserts a row into the scratch table, or NULL */
    sqlite3_stmt *delete_stmt;       /* and takes it out again */
    bool has_row;                    /* that has failed: the row is still there */
    bool dynamic_ready;              /* this row's DYNAMIC defaults are evaluated */
    struct schema_default *defaults; /* owned; column_count of them */
    char *checks; /* owned; the CHECKs, normalized, for schema_agrees() */
};

/* Reads the DEFAULTs and prepares what rows need of the scratch connection. With the
 * statements of schema->priv it must live as long as the schema. */
int schema_prepare_rows(struct schema *schema, sqlite3 *db, char **err);

/* Sets *err and returns SQLITE_ERROR, SQLITE_NOMEM when there is no memory for it. */
int schema_refuse(char **err, const char *format, ...) ADB_PRINTF(2, 3);

const char *schema_collation_name(enum collation collation);

#endif

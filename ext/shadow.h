/* shadow.h - the shadow table <name>_armdb: one row that binds a table of a database
 * to a table of a store.
 *
 * SQLite itself commits and rolls it back, so its presence tells whether a CREATE or
 * a DROP really happened. Functions return SQLite codes; texts are sqlite3_malloc'd. */
#ifndef ARMDB_EXT_SHADOW_H
#define ARMDB_EXT_SHADOW_H

#include <stdbool.h>

#include "ext/conn.h"
#include "sqlite3ext.h"

enum { SHADOW_ID_BYTES = CONN_ID_BYTES };

struct shadow {
    unsigned char store[SHADOW_ID_BYTES];      /* uuid of the store */
    unsigned char table[SHADOW_ID_BYTES];      /* uuid of the table in it */
    unsigned char attachment[SHADOW_ID_BYTES]; /* random: this CREATE and no other */
    char *columns;                             /* owned: schema->text */
    char *label;  /* owned: option table=, NULL when the SQL name is the name */
    bool created; /* this CREATE made the table; else it found it there */
};

void shadow_init(struct shadow *shadow);
void shadow_fini(struct shadow *shadow);

/* Makes the shadow table of `name` with its row; leaves changes() and
 * last_insert_rowid() alone. */
int shadow_create(sqlite3 *db, const char *schema, const char *name,
                  const struct shadow *shadow, char **err);
/* Reads it. SQLITE_CORRUPT_VTAB with *err when the table or its row is missing or is
 * not what shadow_create() wrote. */
int shadow_read(sqlite3 *db, const char *schema, const char *name, struct shadow *out,
                char **err);
int shadow_rename(sqlite3 *db, const char *schema, const char *name, const char *new_name,
                  char **err);
int shadow_drop(sqlite3 *db, const char *schema, const char *name, char **err);

/* The name of the table in a memory store (sqlite3_malloc): the label, or one made of
 * the attachment, since such a store outlives no connection and nobody looks for a
 * table by its SQL name. NULL when out of memory. */
char *shadow_memory_name(const struct shadow *shadow);

/* Looks through all shadow tables of a schema, whatever their names are by now.
 * `attachment` or `table` may be NULL: then it is not compared.
 * Gives: *found; false when the schema is not there any more. */
int shadow_find(sqlite3 *db, const char *schema, const unsigned char *attachment,
                const unsigned char *table, bool *found);

#endif

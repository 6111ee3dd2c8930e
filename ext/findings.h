/* findings.h - what armdb_verify and armdb_salvage have to tell: as a list, as a table,
 * as a text. */
#ifndef ARMDB_EXT_FINDINGS_H
#define ARMDB_EXT_FINDINGS_H

#include "ext/vtab.h"

struct finding {
    struct finding *next;
    char *what; /* owned, as the others; NULL: not known */
    char *file;
    char *table;
    char *key;
    char *todo;
    bool has_offset;
    uint64_t offset;
};

/* What is found, in order. */
struct findings {
    struct finding *first; /* owned list */
    struct finding **end;
    uint64_t count;
    bool failed; /* no memory for one */
    const struct vtab *vtab;
};

/* `vtab` (may be NULL) is the table whose keys are shown as SQL knows them. */
void findings_init(struct findings *findings, const struct vtab *vtab);
void findings_fini(struct findings *findings);
/* An armdb_finding_visit; `arg` is a struct findings. */
void findings_take(void *arg, const struct armdb_finding *found);
/* Puts one in front that is no finding but says how it went. False: no memory. */
bool findings_begin_with(struct findings *findings, const char *what, const char *todo);
/* "file: offset: what (key); todo" */
void findings_append(sqlite3_str *out, const struct finding *finding);
/* Has the connection's statement been interrupted? For struct armdb_watch. */
bool findings_interrupted(void *conn);

/* A source of findings: the name is that of a table-valued function, with these hidden
 * arguments, and of a scalar one that gives a text. */
struct findings_source {
    const char *name;
    const char *columns; /* for CREATE TABLE: the hidden ones, each with a comma before */
    const char *usage;   /* what is said when an argument is missing */
    int arg_count;
    /* Fills findings that were initialised; SQLite codes, with *err. */
    int (*run)(struct conn *conn, sqlite3_value **args, struct findings *findings,
               char **err);
};
int findings_register(struct conn *conn, const struct findings_source *source);

/* Finds the table; one whose rows cannot be reached for damage will do: that is when
 * this is wanted most. (*vtab)->store tells whether its store is open. *stmt is to be
 * finalized in any case. */
int findings_find_table(struct conn *conn, const char *name, struct vtab **vtab,
                        sqlite3_stmt **stmt, char **err);

#endif

/* sql_scripts.h - the statements of fail_sql.c. */
#ifndef TEST_SIM_SQL_SCRIPTS_H
#define TEST_SIM_SQL_SCRIPTS_H

#include <stdbool.h>

/* A statement is done to an armdb table and to a native one. "@" before it: to armdb's
 * alone; its rows are not compared. Behind a line's end: what the native table gets
 * instead. */
struct sql_script {
    const char *name;
    const char *columns;           /* of the table */
    const char *const *setup;      /* nothing fails yet; ends with NULL */
    const char *const *statements; /* ends with NULL */
    bool opens;                    /* the table is opened again before what may fail */
    bool drops;                    /* it is gone in the end */
};
extern const struct sql_script sql_scripts[];
extern const int sql_script_count;

#endif

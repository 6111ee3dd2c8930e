/* verify.c - armdb_verify(t) and PRAGMA integrity_check.
 *
 * The store is looked at as a whole: its tables share its files. */
#include "ext/verify.h"

#include "ext/errmap.h"
#include "ext/findings.h"

SQLITE_EXTENSION_INIT3

enum { INTEGRITY_LINES_MAX = 100 };

/* Of a table whose store is open. */
static enum armdb_rc find_all(const struct vtab *vtab, struct findings *findings,
                              struct armdb_error *error)
{
    struct armdb_watch watch = {findings_interrupted, vtab->conn};
    enum armdb_rc rc;

    findings->vtab = vtab;
    rc = armdb_verify(vtab->store->store, &watch, findings_take, findings, error);
    findings->vtab = NULL; /* it may go with the statement that found it */
    if (rc == ARMDB_OK && findings->failed)
        rc = ADB_FAIL(ARMDB_NOMEM, error, "out of memory");
    return rc;
}

static int run(struct conn *conn, sqlite3_value **args, struct findings *findings,
               char **err)
{
    const char *name = (const char *)sqlite3_value_text(args[0]);
    struct armdb_error error = {ARMDB_OK, 0, ""};
    struct vtab *vtab = NULL;
    sqlite3_stmt *stmt = NULL;
    int rc;

    if (name == NULL) {
        *err = sqlite3_mprintf("the name of an armdb table is wanted");
        return SQLITE_ERROR;
    }
    rc = findings_find_table(conn, name, &vtab, &stmt, err);
    if (rc == SQLITE_OK)
        rc = errmap_text(err, find_all(vtab, findings, &error), &error);
    sqlite3_finalize(stmt);
    return rc;
}

int verify_register(struct conn *conn)
{
    static const struct findings_source source = {
        .name = "armdb_verify",
        .columns = ", tbl HIDDEN",
        .usage = "armdb_verify wants the name of a table: "
                 "SELECT * FROM armdb_verify('t')",
        .arg_count = 1,
        .run = run,
    };

    return findings_register(conn, &source);
}

/* ---- PRAGMA integrity_check ---- */

int verify_integrity(sqlite3_vtab *base, const char *schema, const char *table, int flags,
                     char **err)
{
    struct vtab *vtab = (struct vtab *)base;
    struct armdb_error error = {ARMDB_OK, 0, ""};
    struct findings findings;
    sqlite3_str *out;
    int lines = 0;
    int rc = vtab_use(vtab);
    enum armdb_rc found;

    (void)schema;
    if ((rc & 0xff) == SQLITE_CORRUPT && vtab->store != NULL)
        rc = SQLITE_OK; /* its rows cannot be reached: why, is what follows */
    if (rc != SQLITE_OK || (flags & 1) != 0) /* quick_check: it can be opened */
        return rc;
    findings_init(&findings, vtab);
    found = find_all(vtab, &findings, &error);
    if (found != ARMDB_OK) {
        findings_fini(&findings);
        return errmap_vtab(base, found, &error);
    }
    if (findings.count > 0) {
        out = sqlite3_str_new(NULL);
        sqlite3_str_appendf(out, "%s:", table);
        for (const struct finding *finding = findings.first;
             finding != NULL && lines < INTEGRITY_LINES_MAX; finding = finding->next) {
            sqlite3_str_appendall(out, lines++ > 0 ? "\n" : " ");
            findings_append(out, finding);
        }
        *err = sqlite3_str_finish(out);
        rc = *err == NULL ? SQLITE_NOMEM : SQLITE_OK;
    }
    findings_fini(&findings);
    return rc;
}

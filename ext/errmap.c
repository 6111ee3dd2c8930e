/* errmap.c - engine codes to SQLite codes.
 *
 * The switch has no default, so that a new engine code fails the strict build
 * until somebody has decided what SQLite is told. A code that comes from nowhere
 * (a wild value) is SQLITE_INTERNAL. */
#include "ext/errmap.h"

SQLITE_EXTENSION_INIT3

int errmap_to_sqlite(enum armdb_rc rc)
{
    switch (rc) {
    case ARMDB_OK:
        return SQLITE_OK;
    case ARMDB_NOT_FOUND:
    case ARMDB_DONE:
    case ARMDB_MISMATCH:
    case ARMDB_INVALID:
        return SQLITE_ERROR;
    case ARMDB_EXISTS:
        return SQLITE_CONSTRAINT_PRIMARYKEY;
    case ARMDB_IO:
    case ARMDB_WOUNDED:
        return SQLITE_IOERR;
    case ARMDB_NOMEM:
        return SQLITE_NOMEM;
    case ARMDB_CORRUPT:
        return SQLITE_CORRUPT_VTAB;
    case ARMDB_FULL:
        return SQLITE_FULL;
    case ARMDB_BUSY:
    case ARMDB_LOCKED:
        return SQLITE_BUSY;
    case ARMDB_BUSY_SNAPSHOT:
        return SQLITE_BUSY_SNAPSHOT;
    case ARMDB_READONLY:
        return SQLITE_READONLY;
    case ARMDB_CANTOPEN:
        return SQLITE_CANTOPEN;
    case ARMDB_NOTADB:
    case ARMDB_VERSION:
        return SQLITE_NOTADB;
    case ARMDB_MISUSE:
    case ARMDB_FORKED:
        return SQLITE_MISUSE;
    case ARMDB_TOOBIG:
        return SQLITE_TOOBIG;
    case ARMDB_INTERNAL:
        return SQLITE_INTERNAL;
    case ARMDB_INTERRUPT:
        return SQLITE_INTERRUPT;
    }
    return SQLITE_INTERNAL;
}

/* What the user reads when the engine has written no text of its own. */
static const char *plain_text(enum armdb_rc rc)
{
    switch (rc) {
    case ARMDB_OK:
    case ARMDB_DONE:
    case ARMDB_NOMEM:
        break;
    case ARMDB_NOT_FOUND:
        return "armdb: not found";
    case ARMDB_MISMATCH:
        return "armdb: another value is stored";
    case ARMDB_INVALID:
        return "armdb: invalid argument";
    case ARMDB_EXISTS:
        return "UNIQUE constraint failed";
    case ARMDB_IO:
        return "armdb: input or output failed";
    case ARMDB_WOUNDED:
        return "armdb: an earlier write failed; the store is read-only until reopened";
    case ARMDB_CORRUPT:
        return "armdb: stored bytes are damaged";
    case ARMDB_FULL:
        return "armdb: the disk is full";
    case ARMDB_BUSY:
        return "armdb: another transaction holds the row";
    case ARMDB_LOCKED:
        return "armdb: another process has the store open";
    case ARMDB_BUSY_SNAPSHOT:
        return "armdb: the row changed after this transaction began; run it again";
    case ARMDB_READONLY:
        return "armdb: the store is read-only";
    case ARMDB_CANTOPEN:
        return "armdb: the store cannot be opened";
    case ARMDB_NOTADB:
        return "armdb: not an armdb store";
    case ARMDB_VERSION:
        return "armdb: the store was written by a newer version";
    case ARMDB_MISUSE:
        return "armdb: a call out of order";
    case ARMDB_FORKED:
        return "armdb: the store was opened before fork(); open it anew";
    case ARMDB_TOOBIG:
        return "armdb: key, row or transaction too big";
    case ARMDB_INTERNAL:
        return "armdb: internal error";
    case ARMDB_INTERRUPT:
        return "interrupted";
    }
    return NULL;
}

static const char *choose_text(enum armdb_rc rc, const struct armdb_error *err)
{
    if (rc != ARMDB_OK && rc != ARMDB_NOMEM && err != NULL && err->rc == rc &&
        err->text[0] != '\0')
        return err->text;
    return plain_text(rc);
}

int errmap_text(char **text, enum armdb_rc rc, const struct armdb_error *err)
{
    const char *chosen = choose_text(rc, err);

    if (rc == ARMDB_OK)
        return SQLITE_OK;
    sqlite3_free(*text);
    *text = chosen == NULL ? NULL : sqlite3_mprintf("%s", chosen);
    return errmap_to_sqlite(rc);
}

int errmap_vtab(sqlite3_vtab *vtab, enum armdb_rc rc, const struct armdb_error *err)
{
    return errmap_text(&vtab->zErrMsg, rc, err);
}

void errmap_result(sqlite3_context *context, enum armdb_rc rc,
                   const struct armdb_error *err)
{
    const char *chosen = choose_text(rc, err);

    if (rc == ARMDB_OK)
        return;
    if (rc == ARMDB_NOMEM) {
        sqlite3_result_error_nomem(context);
        return;
    }
    if (chosen != NULL)
        sqlite3_result_error(context, chosen, -1);
    sqlite3_result_error_code(context, errmap_to_sqlite(rc));
}

int errmap_set(sqlite3_vtab *vtab, int sqlite_code, char *text)
{
    sqlite3_free(vtab->zErrMsg);
    vtab->zErrMsg = text;
    return sqlite_code;
}

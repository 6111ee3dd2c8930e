/* rc.c - error texts.
 *
 * An error is formatted once, where it happens, into memory of the caller; so
 * reporting "out of memory" needs no memory. */
#include "engine/base/rc.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum armdb_rc adb_fail(enum armdb_rc rc, struct armdb_error *err, const char *format, ...)
{
    va_list args;

    if (err == NULL)
        return rc;
    err->rc = rc;
    err->sys_errno = 0;
    va_start(args, format);
    (void)vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    return rc;
}

/* The code that callers can act on: a full disk is not a broken one. */
static enum armdb_rc classify_errno(int sys_errno, enum armdb_rc rc_default)
{
    switch (sys_errno) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return ARMDB_FULL;
    case ENOMEM:
        return ARMDB_NOMEM;
    case EROFS:
        return ARMDB_READONLY;
    default:
        return rc_default;
    }
}

enum armdb_rc adb_fail_errno(int sys_errno, enum armdb_rc rc_default,
                             struct armdb_error *err, const char *format, ...)
{
    enum armdb_rc rc = classify_errno(sys_errno, rc_default);
    char reason[128];
    va_list args;
    size_t used;

    if (err == NULL)
        return rc;
    err->rc = rc;
    err->sys_errno = sys_errno;
    va_start(args, format);
    (void)vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    if (strerror_r(sys_errno, reason, sizeof reason) != 0)
        (void)snprintf(reason, sizeof reason, "error %d", sys_errno);
    used = strlen(err->text);
    (void)snprintf(err->text + used, sizeof err->text - used, ": %s", reason);
    return rc;
}

const char *adb_rc_name(enum armdb_rc rc)
{
    switch (rc) {
    case ARMDB_OK:
        return "ARMDB_OK";
    case ARMDB_NOT_FOUND:
        return "ARMDB_NOT_FOUND";
    case ARMDB_DONE:
        return "ARMDB_DONE";
    case ARMDB_EXISTS:
        return "ARMDB_EXISTS";
    case ARMDB_MISMATCH:
        return "ARMDB_MISMATCH";
    case ARMDB_IO:
        return "ARMDB_IO";
    case ARMDB_NOMEM:
        return "ARMDB_NOMEM";
    case ARMDB_CORRUPT:
        return "ARMDB_CORRUPT";
    case ARMDB_FULL:
        return "ARMDB_FULL";
    case ARMDB_BUSY:
        return "ARMDB_BUSY";
    case ARMDB_BUSY_SNAPSHOT:
        return "ARMDB_BUSY_SNAPSHOT";
    case ARMDB_READONLY:
        return "ARMDB_READONLY";
    case ARMDB_CANTOPEN:
        return "ARMDB_CANTOPEN";
    case ARMDB_NOTADB:
        return "ARMDB_NOTADB";
    case ARMDB_VERSION:
        return "ARMDB_VERSION";
    case ARMDB_MISUSE:
        return "ARMDB_MISUSE";
    case ARMDB_TOOBIG:
        return "ARMDB_TOOBIG";
    case ARMDB_INTERNAL:
        return "ARMDB_INTERNAL";
    case ARMDB_FORKED:
        return "ARMDB_FORKED";
    case ARMDB_WOUNDED:
        return "ARMDB_WOUNDED";
    case ARMDB_LOCKED:
        return "ARMDB_LOCKED";
    case ARMDB_INVALID:
        return "ARMDB_INVALID";
    case ARMDB_INTERRUPT:
        return "ARMDB_INTERRUPT";
    }
    return "ARMDB_UNKNOWN";
}

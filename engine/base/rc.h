/* rc.h - result codes and error texts, the words every layer answers with.
 *
 * A code is born where its cause is known, through ADB_FAIL(), which also fills
 * the caller's struct armdb_error with a text that names the thing (file,
 * option, offset) and says what to do. Callers pass both on unchanged.
 * Layer 0. The codes are public: engine/armdb.h includes this file. */
#ifndef ADB_ENGINE_BASE_RC_H
#define ADB_ENGINE_BASE_RC_H

/* 0 = done, > 0 = a legitimate "no", < 0 = failure. */
enum armdb_rc {
    ARMDB_OK = 0,
    ARMDB_NOT_FOUND = 1, /* no such key, table, file */
    ARMDB_DONE = 2,      /* a scan has no further row */
    ARMDB_EXISTS = 3,    /* insert met a live row of this key */
    ARMDB_MISMATCH = 4,  /* compare-and-swap met another value */

    ARMDB_IO = -1,            /* the operating system failed a call */
    ARMDB_NOMEM = -2,         /* memory could not be had */
    ARMDB_CORRUPT = -3,       /* bytes on disk are damaged */
    ARMDB_FULL = -4,          /* no room on the disk, or a built-in limit of room */
    ARMDB_BUSY = -5,          /* another transaction holds the key */
    ARMDB_BUSY_SNAPSHOT = -6, /* the key changed after this snapshot was taken */
    ARMDB_READONLY = -7,      /* the store or folder cannot be written */
    ARMDB_CANTOPEN = -8,      /* folder or file cannot be opened */
    ARMDB_NOTADB = -9,        /* not a store, or another program's folder */
    ARMDB_VERSION = -10,      /* written by a newer version of the format */
    ARMDB_MISUSE = -11,       /* a call that the contract forbids */
    ARMDB_TOOBIG = -12,       /* key, value or transaction over its limit */
    ARMDB_INTERNAL = -13,     /* an invariant of this library does not hold */
    ARMDB_FORKED = -14,       /* the store was opened before fork() */
    ARMDB_WOUNDED = -15,  /* an earlier failed write or sync made the store read-only */
    ARMDB_LOCKED = -16,   /* another process has the store open */
    ARMDB_INVALID = -17,  /* bad option, name or argument */
    ARMDB_INTERRUPT = -18 /* the caller asked to stop */
};

enum { ARMDB_ERROR_TEXT_MAX = 512 };

/* Filled by the function that first sees a failure. */
struct armdb_error {
    enum armdb_rc rc;
    int sys_errno; /* errno of the failed call, or 0 */
    char text[ARMDB_ERROR_TEXT_MAX];
};

#if defined(__GNUC__)
#define ADB_MUST_CHECK __attribute__((warn_unused_result))
#define ADB_PRINTF(fmt_arg, first_arg) __attribute__((format(printf, fmt_arg, first_arg)))
#else
#define ADB_MUST_CHECK
#define ADB_PRINTF(fmt_arg, first_arg)
#endif

/* Stores rc and the formatted text in *err (which may be NULL) and returns rc.
 * The one place for a breakpoint on "something failed". */
enum armdb_rc adb_fail(enum armdb_rc rc, struct armdb_error *err, const char *format, ...)
    ADB_PRINTF(3, 4);

/* The same for a failed system call: appends strerror(sys_errno) to the text
 * and chooses the code from it: ENOSPC, EDQUOT, EFBIG -> FULL; ENOMEM -> NOMEM;
 * EROFS -> READONLY; all others -> rc_default. */
enum armdb_rc adb_fail_errno(int sys_errno, enum armdb_rc rc_default,
                             struct armdb_error *err, const char *format, ...)
    ADB_PRINTF(4, 5);

/* As a macro: a compiler and its analyzer then see which code it is. rc is evaluated
 * twice. */
#define ADB_FAIL(rc, ...) ((void)adb_fail((rc), __VA_ARGS__), (rc))

/* The name of a code, such as "ARMDB_BUSY"; never NULL. */
const char *adb_rc_name(enum armdb_rc rc);

#endif

/* conn.h - what one SQLite connection holds of armdb: the stores it has opened and,
 * for each, the one session through which all its tables read and write.
 *
 * Tables of one store are one transaction and one snapshot because they share that
 * session. A struct conn is the client data of the modules and functions and is
 * counted by them and by every table; the last one closes everything. All of it is
 * used under SQLite's mutex of the connection. */
#ifndef ARMDB_EXT_CONN_H
#define ARMDB_EXT_CONN_H

#include <stdbool.h>

#include "engine/armdb.h"
#include "sqlite3ext.h"

enum { CONN_ID_BYTES = 16 };

/* A DROP, or a CREATE, whose outcome is not known yet: drop.c. */
struct drop {
    struct drop *next;
    unsigned char table[CONN_ID_BYTES];      /* uuid in the store */
    unsigned char attachment[CONN_ID_BYTES]; /* which CREATE's place it is */
    bool created;                            /* that CREATE had made the store's table */
    bool saved;                              /* the store remembers it, too */
    bool is_new;      /* not a DROP: a CREATE of the running transaction */
    bool unconfirmed; /* not a DROP: a CREATE whose process may have been killed */
    char *name;       /* owned: the table's name in a memory store, else NULL */
    char *schema;     /* owned: the schema it was in; NULL: made by another connection */
    char *file;       /* owned: its database file, "" for none */
};

/* A table in TEMP whose struct vtab SQLite has let go, as it does with all of them when a
 * ROLLBACK undoes some DDL. It is still there, and holds its rows (armdb_table_hold). */
struct conn_parked {
    struct conn_parked *next;
    unsigned char attachment[CONN_ID_BYTES];
    struct armdb_table *table; /* owned */
};

struct conn_store {
    struct conn_store *next;
    struct conn *conn; /* borrowed */
    char *path;        /* owned: absolute folder, or ":memory:" and a schema's name */
    bool memory;
    struct armdb *store;           /* owned */
    struct armdb_session *session; /* owned */

    /* The transaction. */
    uint32_t enlisted; /* tables that will hear xCommit or xRollback */
    int savepoint_top; /* highest savepoint id set in the session, -1 = none */
    bool held;         /* the session's snapshot is held until the transaction ends */
    bool was_read;     /* something was read or written in this transaction */

    struct conn_parked *parked; /* owned */
    struct drop *drops;         /* owned */
    bool creates_loaded;        /* what killed CREATEs left is in the list, too */
    bool drops_loaded;          /* those that earlier processes left are among them */
};

struct vtab;

/* What armdb_restore() asks of the nested statement that writes for it. */
struct restore {
    const char *path;  /* absolute folder */
    const char *table; /* its name in the store there */
    uint64_t rows;     /* the answer */
};

struct conn {
    sqlite3 *db;
    uint32_t refs;
    struct conn_store *stores; /* owned */
    bool hold_enlisted;        /* the helper table will hear the transaction's end */
    bool helper_made;          /* it was created, or could not be */
    bool helper_missing;       /* it was found to be gone */
    struct restore *restore;   /* borrowed: of the function that runs, or NULL */
    struct vtab *planned;      /* borrowed: whose xBestIndex ran last (functions.c) */
};

/* A conn with one count; NULL when out of memory. */
struct conn *conn_create(sqlite3 *db);
struct conn *conn_acquire(struct conn *conn); /* counts up, returns conn */
void conn_release(void *conn);                /* a destructor for SQLite; NULL allowed */

/* Finds the store of this path among those open in the connection, or opens it. `path`
 * is what path_resolve() gave.
 *
 * Gives:  *out, borrowed, valid as long as the connection.
 * Errors: as armdb_open(). */
enum armdb_rc conn_store_open(struct conn *conn, const char *path, bool memory,
                              const struct armdb_options *options,
                              struct conn_store **out,
                              struct armdb_error *err) ADB_MUST_CHECK;

/* Keeps the handle of a table in TEMP until conn_unpark() or the end of the connection;
 * without memory it is closed. */
void conn_park(struct conn_store *store, const unsigned char attachment[CONN_ID_BYTES],
               struct armdb_table *table);
/* Closes what is parked for this attachment, if anything is; NULL: for any. */
void conn_unpark(struct conn_store *store, const unsigned char *attachment);

void conn_drop_free(struct drop *drop); /* one, not its list; NULL is allowed */

/* Ends what the transaction held: to be called at each xCommit and xRollback, after
 * the engine's. */
void conn_store_transaction_ended(struct conn_store *store);

/* True for the errors of a statement inside another one after which SQLite has ended
 * the transaction of both: whoever goes on would do the rest without one. */
bool conn_is_fatal(int rc);

/* PRAGMA busy_timeout, read now: the milliseconds a writer waits. ARMDB_NOMEM. */
enum armdb_rc conn_busy_timeout(struct conn *conn, uint32_t *ms) ADB_MUST_CHECK;

/* After ARMDB_BUSY: waits for the other transaction, but no longer than busy_timeout
 * counted from *deadline_ms, which the caller sets to 0 before its first try. OK: try
 * again. */
enum armdb_rc conn_wait(struct conn_store *store, uint64_t *deadline_ms) ADB_MUST_CHECK;

/* Runs a statement, formatted as by sqlite3_mprintf(), to its end. */
int conn_run(sqlite3 *db, char **err, const char *format, ...);

/* The same, to be stepped by the caller. *stmt is NULL unless SQLITE_OK. */
int conn_prepare(sqlite3 *db, sqlite3_stmt **stmt, const char *format, ...);

/* True when sqlite3_interrupt() was called on the connection while a statement of it
 * runs: for loops in functions, which SQLite cannot stop. */
bool conn_is_interrupted(struct conn *conn);

/* True when the transaction that is being ended was opened by BEGIN or SAVEPOINT
 * rather than by the statement that runs now. See conn.c. */
bool conn_is_explicit(struct conn *conn);
/* True when a statement is running that may change rows by a scan of every column
 * (`whole`) or of some: an UPDATE asks for all, an UPDATE ... FROM and a DELETE do not;
 * an INSERT or REPLACE changes none it has scanned. */
bool conn_is_changing(struct conn *conn, bool whole);
/* True when a running statement's text has a CAST to a number in it. */
bool conn_has_cast(struct conn *conn);

/* True when a file database of the connection is in a write transaction outside WAL
 * mode, so that COMMIT can still come to nothing with SQLITE_BUSY. */
bool conn_may_park(struct conn *conn);

/* True when nothing that an earlier statement wrote is uncommitted: autocommit, and
 * at most `writers` running statements that write (the one that runs now, or none). */
bool conn_is_settled(struct conn *conn, uint32_t writers);
/* True while any statement of the connection runs. */
bool conn_is_running(struct conn *conn);

#endif

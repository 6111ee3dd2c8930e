/* conn.c - stores and sessions of one SQLite connection.
 *
 * A store stays open until its connection closes, although no table of it may be
 * connected for a while: SQLite disconnects all tables whenever it forgets its
 * schema (another connection's DDL, a rollback of its own), and opening a store
 * anew means building its index anew. A memory store would lose its rows.
 *
 * The list is short and is searched by path. Two spellings of one folder give one
 * struct armdb (the engine counts it), which is noticed and shared: two sessions of
 * one connection would block each other.
 *
 * Which transaction is it? Three questions are answered here from the outside,
 * because SQLite tells a virtual table nothing:
 *
 *   explicit or not    In xSync, sqlite3_get_autocommit() is 1 for COMMIT too: the flag
 *                      is turned before the commit is tried. But the statement that
 *                      commits is running (busy), and SQLite calls COMMIT and RELEASE
 *                      read-only, while a statement that commits itself is not, and
 *                      COMMIT is refused while any such statement is running. So a busy
 *                      statement that writes means autocommit, none means COMMIT.
 *   may it be parked   COMMIT can return SQLITE_BUSY, leaving the transaction open after
 *                      our xSync, only where a file needs an exclusive lock it has not
 *                      got: a file database with a write transaction and a rollback
 *                      journal. The journal mode is read from bytes 18 and 19 of the
 *                      file (2 = WAL) through SQLite's own file handle; where that
 *                      fails the answer is yes, which is right in any mode and costs
 *                      one more sync.
 *   is it settled      In autocommit, and with no other writing statement half-way,
 *                      every earlier statement's outcome is final. */
#include "ext/conn.h"

#include <stdarg.h>
#include <string.h>

SQLITE_EXTENSION_INIT3

enum {
    VERSION_DB_NAME = 3039000, /* sqlite3_db_name() is there */
    HEADER_WRITE_VERSION_OFF = 18,
    WRITE_VERSION_WAL = 2
};

/* ---- The connection ---- */

struct conn *conn_create(sqlite3 *db)
{
    struct conn *conn = sqlite3_malloc64(sizeof *conn);

    if (conn == NULL)
        return NULL;
    memset(conn, 0, sizeof *conn);
    conn->db = db;
    conn->refs = 1;
    return conn;
}

struct conn *conn_acquire(struct conn *conn)
{
    conn->refs++;
    return conn;
}

void conn_drop_free(struct drop *drop)
{
    if (drop == NULL)
        return;
    sqlite3_free(drop->name);
    sqlite3_free(drop->schema);
    sqlite3_free(drop->file);
    sqlite3_free(drop);
}

void conn_park(struct conn_store *store, const unsigned char attachment[CONN_ID_BYTES],
               struct armdb_table *table)
{
    struct conn_parked *parked = sqlite3_malloc64(sizeof *parked);

    if (parked == NULL) {
        armdb_table_close(table);
        return;
    }
    memcpy(parked->attachment, attachment, CONN_ID_BYTES);
    parked->table = table;
    parked->next = store->parked;
    store->parked = parked;
}

void conn_unpark(struct conn_store *store, const unsigned char *attachment)
{
    struct conn_parked **at = &store->parked;

    while (*at != NULL) {
        struct conn_parked *parked = *at;

        if (attachment != NULL &&
            memcmp(parked->attachment, attachment, CONN_ID_BYTES) != 0) {
            at = &parked->next;
            continue;
        }
        *at = parked->next;
        armdb_table_close(parked->table);
        sqlite3_free(parked);
    }
}

static void close_store(struct conn_store *store)
{
    if (store == NULL)
        return;
    while (store->drops != NULL) {
        struct drop *drop = store->drops;

        store->drops = drop->next;
        conn_drop_free(drop);
    }
    conn_unpark(store, NULL);
    if (store->held)
        armdb_snapshot_release(store->session);
    armdb_session_close(store->session);
    armdb_close(store->store);
    sqlite3_free(store->path);
    sqlite3_free(store);
}

void conn_release(void *arg)
{
    struct conn *conn = arg;

    if (conn == NULL || --conn->refs != 0)
        return;
    while (conn->stores != NULL) {
        struct conn_store *store = conn->stores;

        conn->stores = store->next;
        close_store(store);
    }
    sqlite3_free(conn);
}

/* ---- Stores ---- */

static enum armdb_rc open_store(struct conn *conn, const char *path, bool memory,
                                const struct armdb_options *options,
                                struct conn_store **out, struct armdb_error *err)
{
    struct conn_store *store = NULL;
    enum armdb_rc rc;

    *out = NULL;
    store = sqlite3_malloc64(sizeof *store);
    if (store == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory");
    memset(store, 0, sizeof *store);
    store->conn = conn;
    store->memory = memory;
    store->savepoint_top = -1;
    store->path = sqlite3_mprintf("%s", path);
    if (store->path == NULL) {
        rc = ADB_FAIL(ARMDB_NOMEM, err, "out of memory");
        goto out;
    }
    rc = armdb_open(memory ? ":memory:" : path, options, &store->store, err);
    if (rc == ARMDB_OK)
        rc = armdb_session_open(store->store, &store->session, err);
    if (rc != ARMDB_OK)
        goto out;
    *out = store;
    store = NULL;
out:
    close_store(store);
    return rc;
}

enum armdb_rc conn_store_open(struct conn *conn, const char *path, bool memory,
                              const struct armdb_options *options,
                              struct conn_store **out, struct armdb_error *err)
{
    struct armdb_options agreed = *options;
    struct conn_store *store;
    enum armdb_rc rc;

    *out = NULL;
    for (store = conn->stores; store != NULL; store = store->next) {
        if (strcmp(store->path, path) == 0)
            break;
    }
    if (store != NULL && !memory && options->given != 0) {
        struct armdb *again = NULL;

        /* The engine knows which options an open store must agree with. */
        rc = armdb_open(path, &agreed, &again, err);
        armdb_close(again);
        if (rc != ARMDB_OK)
            return rc;
    }
    if (store == NULL) {
        rc = conn_busy_timeout(conn, &agreed.lock_wait_ms);
        if (rc != ARMDB_OK)
            return ADB_FAIL(rc, err, "out of memory");
        rc = open_store(conn, path, memory, &agreed, &store, err);
        if (rc != ARMDB_OK)
            return rc;
        for (struct conn_store *o = conn->stores; o != NULL; o = o->next) {
            if (o->store == store->store) {
                close_store(store);
                *out = o;
                return ARMDB_OK;
            }
        }
        store->next = conn->stores;
        conn->stores = store;
    }
    *out = store;
    return ARMDB_OK;
}

void conn_store_transaction_ended(struct conn_store *store)
{
    store->savepoint_top = -1;
    store->was_read = false;
    if (store->held) {
        store->held = false;
        armdb_snapshot_release(store->session);
    }
}

/* ---- Waiting ---- */

bool conn_is_fatal(int rc)
{
    return rc == SQLITE_NOMEM || rc == SQLITE_FULL || rc == SQLITE_INTERRUPT ||
           (rc & 0xff) == SQLITE_IOERR;
}

enum armdb_rc conn_busy_timeout(struct conn *conn, uint32_t *ms)
{
    sqlite3_stmt *stmt = NULL;
    int rc;

    /* Not kept prepared: an open statement would make sqlite3_close() refuse. */
    *ms = 0;
    rc = conn_prepare(conn->db, &stmt, "PRAGMA busy_timeout");
    if (rc == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW &&
        sqlite3_column_int(stmt, 0) > 0)
        *ms = (uint32_t)sqlite3_column_int(stmt, 0);
    if (rc == SQLITE_OK)
        rc = sqlite3_finalize(stmt);
    return conn_is_fatal(rc) ? ARMDB_NOMEM : ARMDB_OK;
}

static uint64_t now_ms(void)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    sqlite3_int64 ms = 0;
    double days = 0.0;

    if (vfs == NULL)
        return 0;
    if (vfs->iVersion >= 2 && vfs->xCurrentTimeInt64 != NULL) {
        if (vfs->xCurrentTimeInt64(vfs, &ms) != SQLITE_OK)
            ms = 0;
    } else if (vfs->xCurrentTime(vfs, &days) == SQLITE_OK) {
        ms = (sqlite3_int64)(days * 86400000.0);
    }
    return ms > 0 ? (uint64_t)ms : 0;
}

enum armdb_rc conn_wait(struct conn_store *store, uint64_t *deadline_ms)
{
    uint64_t now = now_ms();
    uint32_t left;

    if (*deadline_ms == 0) {
        if (conn_busy_timeout(store->conn, &left) != ARMDB_OK)
            return ARMDB_NOMEM;
        *deadline_ms = now + left + 1;
    } else {
        left = now < *deadline_ms ? (uint32_t)(*deadline_ms - now) : 0;
    }
    if (left == 0)
        return ARMDB_BUSY;
    return armdb_wait(store->session, left);
}

/* ---- SQL ---- */

static int prepare_list(sqlite3 *db, sqlite3_stmt **stmt, const char *format,
                        va_list args)
{
    char *sql = sqlite3_vmprintf(format, args);
    int rc;

    *stmt = NULL;
    if (sql == NULL)
        return SQLITE_NOMEM;
    rc = sqlite3_prepare_v2(db, sql, -1, stmt, NULL);
    sqlite3_free(sql);
    return rc;
}

int conn_prepare(sqlite3 *db, sqlite3_stmt **stmt, const char *format, ...)
{
    va_list args;
    int rc;

    va_start(args, format);
    rc = prepare_list(db, stmt, format, args);
    va_end(args);
    return rc;
}

/* SQLite tells it from 3.41 on; before, a statement prepared now hears of it. */
bool conn_is_interrupted(struct conn *conn)
{
    sqlite3_stmt *stmt = NULL;
    int rc = conn_prepare(conn->db, &stmt, "SELECT 1");

    if (rc == SQLITE_OK)
        rc = sqlite3_step(stmt);
    sqlite3_finalize(stmt);
    return rc == SQLITE_INTERRUPT;
}

int conn_run(sqlite3 *db, char **err, const char *format, ...)
{
    sqlite3_stmt *stmt = NULL;
    va_list args;
    int rc;

    va_start(args, format);
    rc = prepare_list(db, &stmt, format, args);
    va_end(args);
    if (rc == SQLITE_OK) {
        while (sqlite3_step(stmt) == SQLITE_ROW)
            continue;
        rc = sqlite3_finalize(stmt);
    }
    if (rc != SQLITE_OK && err != NULL && *err == NULL)
        *err = sqlite3_mprintf("%s", sqlite3_errmsg(db));
    return rc;
}

/* ---- Which transaction is it? ---- */

static uint32_t count_busy_writers(sqlite3 *db)
{
    uint32_t count = 0;
    sqlite3_stmt *stmt = NULL;

    while ((stmt = sqlite3_next_stmt(db, stmt)) != NULL) {
        if (sqlite3_stmt_busy(stmt) && !sqlite3_stmt_readonly(stmt))
            count++;
    }
    return count;
}

bool conn_is_explicit(struct conn *conn)
{
    return count_busy_writers(conn->db) == 0;
}

bool conn_is_changing(struct conn *conn, bool whole)
{
    sqlite3_stmt *stmt = NULL;

    while ((stmt = sqlite3_next_stmt(conn->db, stmt)) != NULL) {
        const char *sql = sqlite3_sql(stmt);

        if (!sqlite3_stmt_busy(stmt) || sqlite3_stmt_readonly(stmt) || sql == NULL)
            continue;
        while (*sql == ' ' || *sql == '\t' || *sql == '\n' || *sql == '\r')
            sql++;
        if (sqlite3_strnicmp(sql, "insert", 6) != 0 &&
            sqlite3_strnicmp(sql, "replace", 7) != 0 &&
            (whole || sqlite3_strnicmp(sql, "update", 6) != 0))
            return true;
    }
    return false;
}

/* True when the text behind CAST( casts to a type of numeric affinity, as far as a look
 * at the word behind AS tells. */
static bool casts_to_number(const char *sql)
{
    static const char *const others[] = {"text",    "blob", "char",
                                         "varchar", "clob", "none"};

    for (; *sql != '\0'; sql++) {
        if ((*sql != ' ' && *sql != ')') || sqlite3_strnicmp(sql + 1, "as ", 3) != 0)
            continue;
        for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
            if (sqlite3_strnicmp(sql + 4, others[i], (int)strlen(others[i])) == 0)
                return false;
        }
        return true;
    }
    return false;
}

bool conn_has_cast(struct conn *conn)
{
    sqlite3_stmt *stmt = NULL;

    while ((stmt = sqlite3_next_stmt(conn->db, stmt)) != NULL) {
        const char *sql = sqlite3_sql(stmt);

        for (; sqlite3_stmt_busy(stmt) && sql != NULL && *sql != '\0'; sql++) {
            if (sqlite3_strnicmp(sql, "cast", 4) == 0 && casts_to_number(sql))
                return true;
        }
    }
    return false;
}

bool conn_is_settled(struct conn *conn, uint32_t writers)
{
    return sqlite3_get_autocommit(conn->db) && count_busy_writers(conn->db) <= writers;
}

bool conn_is_running(struct conn *conn)
{
    sqlite3_stmt *stmt = NULL;

    while ((stmt = sqlite3_next_stmt(conn->db, stmt)) != NULL) {
        if (sqlite3_stmt_busy(stmt))
            return true;
    }
    return false;
}

/* True when the database file says that it is in WAL mode. */
static bool is_wal(sqlite3 *db, const char *name)
{
    sqlite3_file *file = NULL;
    unsigned char versions[2] = {0, 0};

    if (sqlite3_file_control(db, name, SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK ||
        file == NULL || file->pMethods == NULL)
        return false;
    if (file->pMethods->xRead(file, versions, 2, HEADER_WRITE_VERSION_OFF) != SQLITE_OK)
        return false;
    return versions[0] == WRITE_VERSION_WAL && versions[1] == WRITE_VERSION_WAL;
}

bool conn_may_park(struct conn *conn)
{
    sqlite3 *db = conn->db;

    if (sqlite3_libversion_number() < VERSION_DB_NAME)
        return sqlite3_txn_state(db, NULL) == SQLITE_TXN_WRITE;
    for (int i = 0;; i++) {
        const char *name = sqlite3_db_name(db, i);
        const char *file;

        if (name == NULL)
            return false;
        if (sqlite3_txn_state(db, name) != SQLITE_TXN_WRITE)
            continue;
        file = sqlite3_db_filename(db, name); /* NULL or "": temporary, in memory */
        if (file != NULL && file[0] != '\0' && !is_wal(db, name))
            return true;
    }
}

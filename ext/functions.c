/* functions.c - armdb_version, armdb_help, armdb_count, armdb_flush.
 *
 * A function gets the name of a table as text. To find the table behind it, SQLite is
 * asked to prepare a SELECT from it: that resolves the name as anywhere in SQL,
 * connects the table if need be, and calls its xBestIndex, which leaves its address in
 * the connection. The statement is kept until the function is done, and with it the
 * table.
 *
 * All functions that touch a store are DIRECTONLY: a schema cannot call them. */
#include "ext/functions.h"

#include <string.h>

#include "ext/errmap.h"

SQLITE_EXTENSION_INIT3

static const char help_text[] =
    "armdb: a second kind of table for SQLite, an append-only log with its index in "
    "memory.\n"
    "\n"
    "CREATE VIRTUAL TABLE t USING armdb(k TEXT PRIMARY KEY, a INTEGER, b);\n"
    "CREATE VIRTUAL TABLE t USING armdb(a, b, c, PRIMARY KEY(a, b DESC));\n"
    "CREATE VIRTUAL TABLE t USING armdb;            -- key PRIMARY KEY, value\n"
    "CREATE VIRTUAL TABLE temp.t USING armdb(..., path='dir');  -- no lock on main\n"
    "\n"
    "Options, behind the columns: path='dir' table='name' sync=full|normal|off shards=N\n"
    "  shard_prefix_bits=N segment_size='64M' cache_size='256M' io=buffered|direct\n"
    "  io_engine=auto|uring|plain compact=on|off compact_at=0.3 compact_rate='256M'\n"
    "\n"
    "SELECT * FROM t('prefix');          rows whose first key column starts so\n"
    "SELECT _size, _seq, * FROM t;       bytes of the row, its place in commit order\n"
    "EXPLAIN QUERY PLAN SELECT ...;      how a statement reaches its rows\n"
    "\n"
    "armdb_count('t')                    rows, without counting\n"
    "armdb_flush('t')                    make everything committed durable now\n"
    "SELECT * FROM armdb_stat('t');      what the table and its store hold and did\n"
    "SELECT * FROM armdb_segments('t');  the log files of its store, one row each\n"
    "SELECT * FROM armdb_stores;         the stores that are open in this process\n"
    "SELECT * FROM armdb_verify('t');    looks at every byte of its store: ok, or what "
    "is not\n"
    "SELECT * FROM armdb_salvage('t', 'dir');  makes a new store of what is still whole\n"
    "    armdb_salvage_folder('old', 'dir')    the same, when no table leads to it\n"
    "SELECT * FROM armdb_list('t', 'a/', '/');  folders and keys under a prefix;\n"
    "                                    then start_after, for pages; hidden: count\n"
    "armdb_backup('t', 'dir')            copy the whole store, as of now, into a folder\n"
    "armdb_restore('t', 'dir')           t's rows become those of t in that copy\n"
    "armdb_cas('t', key, old, new)       replace the value if it is `old`: 1 or 0\n"
    "armdb_incr('t', key, by)            add to the value, give the sum\n"
    "armdb_clear('t')                    no rows any more, whatever their number\n"
    "armdb_compact('t')                  dead bytes leave the store now\n"
    "armdb_config('t', 'compact', 'off') the same for compact_at, compact_rate; without\n"
    "                                    a value: the one in force\n"
    "armdb_version()                     version, and what was found at run time\n";

int functions_find_table(struct conn *conn, const char *name, struct vtab **out,
                         sqlite3_stmt **stmt, char **err)
{
    const char *dot = strchr(name, '.');
    int rc;

    *out = NULL;
    conn->planned = NULL;
    rc = conn_prepare(conn->db, stmt, "SELECT 1 FROM \"%w\"", name);
    if (rc == SQLITE_ERROR && dot != NULL) {
        char *schema = sqlite3_mprintf("%.*s", (int)(dot - name), name);

        if (schema == NULL)
            return SQLITE_NOMEM;
        conn->planned = NULL;
        rc = conn_prepare(conn->db, stmt, "SELECT 1 FROM \"%w\".\"%w\"", schema, dot + 1);
        sqlite3_free(schema);
    }
    if (rc != SQLITE_OK) {
        *err = sqlite3_mprintf("%s", sqlite3_errmsg(conn->db));
        return rc;
    }
    if (conn->planned == NULL) {
        *err = sqlite3_mprintf("%s is not an armdb table", name);
        return SQLITE_ERROR;
    }
    rc = vtab_use(conn->planned);
    *out = conn->planned;
    if (rc != SQLITE_OK && conn->planned->base.zErrMsg != NULL)
        *err = sqlite3_mprintf("%s", conn->planned->base.zErrMsg);
    return rc;
}

bool functions_find_argument(sqlite3_context *context, sqlite3_value **argv,
                             struct vtab **vtab, sqlite3_stmt **stmt)
{
    struct conn *conn = sqlite3_user_data(context);
    const char *name = (const char *)sqlite3_value_text(argv[0]);
    char *err = NULL;
    int rc;

    *stmt = NULL;
    if (name == NULL) {
        if (sqlite3_value_type(argv[0]) == SQLITE_NULL)
            sqlite3_result_error(context, "the name of an armdb table is wanted", -1);
        else
            sqlite3_result_error_nomem(context);
        return false;
    }
    rc = functions_find_table(conn, name, vtab, stmt, &err);
    if (rc != SQLITE_OK) {
        if (err != NULL)
            sqlite3_result_error(context, err, -1);
        sqlite3_result_error_code(context, rc);
        sqlite3_free(err);
    }
    return rc == SQLITE_OK;
}

static void count_function(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    struct vtab *vtab = NULL;
    sqlite3_stmt *stmt = NULL;

    (void)argc;
    if (functions_find_argument(context, argv, &vtab, &stmt))
        sqlite3_result_int64(context, (sqlite3_int64)armdb_count(vtab->table));
    sqlite3_finalize(stmt);
}

static void flush_function(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    struct armdb_error error = {ARMDB_OK, 0, ""};
    struct vtab *vtab = NULL;
    sqlite3_stmt *stmt = NULL;
    enum armdb_rc rc;

    (void)argc;
    if (functions_find_argument(context, argv, &vtab, &stmt)) {
        rc = armdb_flush(vtab->store->store, &error);
        if (rc == ARMDB_OK)
            sqlite3_result_int(context, 1);
        else
            errmap_result(context, rc, &error);
    }
    sqlite3_finalize(stmt);
}

static void version_function(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    char *text;

    (void)argc;
    (void)argv;
    text = sqlite3_mprintf(
        "armdb " ARMDB_RELEASE ", SQLite %s, built for SQLite " SQLITE_VERSION " by "
#if defined(__clang__)
        "clang " __clang_version__
#elif defined(__GNUC__)
        "gcc " __VERSION__
#else
        "another compiler"
#endif
        ", io_uring %s",
        sqlite3_libversion(), armdb_uring_available() ? "available" : "not available");
    if (text == NULL)
        sqlite3_result_error_nomem(context);
    else
        sqlite3_result_text(context, text, -1, sqlite3_free);
}

static void help_function(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    (void)argc;
    (void)argv;
    sqlite3_result_text(context, help_text, (int)sizeof help_text - 1, SQLITE_STATIC);
}

int functions_register(struct conn *conn)
{
    static const struct {
        const char *name;
        int argc;
        int flags;
        void (*call)(sqlite3_context *, int, sqlite3_value **);
    } functions[] = {
        {"armdb_version", 0, SQLITE_UTF8, version_function},
        {"armdb_help", 0, SQLITE_UTF8 | SQLITE_DETERMINISTIC, help_function},
        {"armdb_count", 1, SQLITE_UTF8 | SQLITE_DIRECTONLY, count_function},
        {"armdb_flush", 1, SQLITE_UTF8 | SQLITE_DIRECTONLY, flush_function},
    };
    int rc = SQLITE_OK;

    for (size_t i = 0; rc == SQLITE_OK && i < sizeof functions / sizeof functions[0]; i++)
        rc = sqlite3_create_function_v2(conn->db, functions[i].name, functions[i].argc,
                                        functions[i].flags, conn_acquire(conn),
                                        functions[i].call, NULL, NULL, conn_release);
    return rc;
}

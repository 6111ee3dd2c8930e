/* armdb from a C program that uses SQLite.
 *
 *     cc -o example sql/examples/example.c -lsqlite3
 *     ./example settings.db [./armdb_vtab]
 *
 * sqlite3_load_extension() finds the entry point by the file's name. Extension
 * loading is off until the program allows it, and the SQL function
 * load_extension() stays off here: only this program loads libraries. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

static void fail(sqlite3 *db, const char *what)
{
    fprintf(stderr, "%s: %s\n", what, db != NULL ? sqlite3_errmsg(db) : "no memory");
    sqlite3_close(db);
    exit(1);
}

static sqlite3 *open_with_armdb(const char *path, const char *extension)
{
    sqlite3 *db = NULL;
    char *message = NULL;

    if (sqlite3_open(path, &db) != SQLITE_OK)
        fail(db, path);
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, NULL);
    if (sqlite3_load_extension(db, extension, NULL, &message) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", extension, message);
        sqlite3_free(message);
        fail(db, extension);
    }
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0, NULL);
    return db;
}

static void run(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail(db, sql);
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
        fail(db, sql);
    return stmt;
}

static void fill(sqlite3 *db)
{
    sqlite3_stmt *insert;

    run(db, "CREATE VIRTUAL TABLE settings USING armdb(name TEXT PRIMARY KEY, value)");
    run(db, "BEGIN");
    run(db, "INSERT INTO settings VALUES ('app:host', 'localhost'), ('app:port', 8080)");
    insert = prepare(db, "INSERT INTO settings VALUES (?1, ?2)");
    for (int i = 1; i <= 100; i++) {
        char name[16];

        snprintf(name, sizeof name, "user:%03d", i);
        sqlite3_bind_text(insert, 1, name, -1, SQLITE_STATIC);
        sqlite3_bind_int(insert, 2, i * i);
        if (sqlite3_step(insert) != SQLITE_DONE)
            fail(db, "INSERT");
        sqlite3_reset(insert);
    }
    sqlite3_finalize(insert);
    run(db, "COMMIT");
}

/* Prints `label`, the number of rows and the sum of their values. */
static void print_sum(sqlite3 *db, const char *label, const char *sql)
{
    sqlite3_stmt *stmt = prepare(db, sql);
    int rows = 0;
    long long sum = 0;
    int rc;

    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        rows++;
        sum += sqlite3_column_int64(stmt, 0);
    }
    if (rc != SQLITE_DONE)
        fail(db, sql);
    sqlite3_finalize(stmt);
    printf("%s: %d rows, sum %lld\n", label, rows, sum);
}

static void ask(sqlite3 *db)
{
    sqlite3_stmt *point = prepare(db, "SELECT name, value FROM settings WHERE name = ?1");
    sqlite3_stmt *last;
    int rows = 0;

    sqlite3_bind_text(point, 1, "app:port", -1, SQLITE_STATIC);
    if (sqlite3_step(point) != SQLITE_ROW)
        fail(db, "point");
    printf("point: %s = %s\n", (const char *)sqlite3_column_text(point, 0),
           (const char *)sqlite3_column_text(point, 1));
    sqlite3_reset(point);

    sqlite3_bind_text(point, 1, "app:none", -1, SQLITE_STATIC);
    while (sqlite3_step(point) == SQLITE_ROW)
        rows++;
    printf("absent: %d rows\n", rows);
    sqlite3_finalize(point);

    print_sum(db, "prefix", "SELECT value FROM settings WHERE name GLOB 'user:00*'");
    print_sum(db, "range",
              "SELECT value FROM settings WHERE name BETWEEN 'user:010' AND 'user:019'");

    last = prepare(db, "SELECT name FROM settings ORDER BY name DESC LIMIT 2");
    printf("last:");
    while (sqlite3_step(last) == SQLITE_ROW)
        printf(" %s", (const char *)sqlite3_column_text(last, 0));
    printf("\n");
    sqlite3_finalize(last);
}

int main(int argc, char **argv)
{
    const char *extension = argc > 2 ? argv[2] : "./armdb_vtab";
    sqlite3_stmt *count;
    sqlite3 *db;

    if (argc < 2) {
        fprintf(stderr, "usage: %s DATABASE [EXTENSION]\n", argv[0]);
        return 1;
    }
    db = open_with_armdb(argv[1], extension);
    fill(db);
    count = prepare(db, "SELECT count(*) FROM settings");
    if (sqlite3_step(count) != SQLITE_ROW)
        fail(db, "count");
    printf("created: %d rows\n", sqlite3_column_int(count, 0));
    sqlite3_finalize(count);
    ask(db);
    sqlite3_close(db);

    printf("reopened\n");
    db = open_with_armdb(argv[1], extension);
    ask(db);
    sqlite3_close(db);
    return 0;
}

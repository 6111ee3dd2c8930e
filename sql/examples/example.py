#!/usr/bin/env python3
"""armdb from Python's sqlite3 module.

    python3 sql/examples/example.py settings.db [./armdb_vtab]

The module must have been built with extension loading (Debian's /usr/bin/python3
is). Keep the connection open: SQLite caches prepared statements per connection.
"""
import sqlite3
import sys


def connect(path, extension):
    db = sqlite3.connect(path, isolation_level=None)
    db.enable_load_extension(True)
    db.load_extension(extension)
    db.enable_load_extension(False)
    return db


def ask(db):
    name, value = db.execute(
        "SELECT name, value FROM settings WHERE name = ?", ("app:port",)).fetchone()
    print(f"point: {name} = {value}")

    rows = db.execute(
        "SELECT name FROM settings WHERE name = ?", ("app:none",)).fetchall()
    print(f"absent: {len(rows)} rows")

    rows = db.execute(
        "SELECT value FROM settings WHERE name GLOB ?", ("user:00*",)).fetchall()
    print(f"prefix: {len(rows)} rows, sum {sum(row[0] for row in rows)}")

    rows = db.execute("SELECT value FROM settings WHERE name BETWEEN ? AND ?",
                      ("user:010", "user:019")).fetchall()
    print(f"range: {len(rows)} rows, sum {sum(row[0] for row in rows)}")

    rows = db.execute("SELECT name FROM settings ORDER BY name DESC LIMIT 2")
    print("last: " + " ".join(row[0] for row in rows))


def main():
    path = sys.argv[1]
    extension = sys.argv[2] if len(sys.argv) > 2 else "./armdb_vtab"

    db = connect(path, extension)
    db.execute("CREATE VIRTUAL TABLE settings USING armdb(name TEXT PRIMARY KEY, value)")
    db.execute("BEGIN")
    db.execute("INSERT INTO settings VALUES ('app:host', 'localhost')")
    db.execute("INSERT INTO settings VALUES ('app:port', 8080)")
    db.executemany("INSERT INTO settings VALUES (?, ?)",
                   ((f"user:{i:03}", i * i) for i in range(1, 101)))
    db.execute("COMMIT")
    count = db.execute("SELECT count(*) FROM settings").fetchone()[0]
    print(f"created: {count} rows")
    ask(db)
    db.close()

    print("reopened")
    db = connect(path, extension)
    ask(db)
    db.close()


main()

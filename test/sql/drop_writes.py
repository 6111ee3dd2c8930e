#!/usr/bin/python3
"""DROP TABLE of a table with uncommitted writes: of the same transaction, of another
connection, through one database file, through two, through TEMP tables. What is refused
is refused whole and says so; what goes on loses no row of anybody.

    drop_writes.py [EXTENSION]      (also: environment ARMDB_EXTENSION or ARMDB_VTAB)

Prints "ok - ..." and "not ok - ..." lines.
"""
import os
import sqlite3
import subprocess
import sys
import tempfile

SO = (sys.argv[1] if len(sys.argv) > 1 else os.environ.get("ARMDB_EXTENSION")
      or os.environ.get("ARMDB_VTAB") or "./armdb_vtab")
fails = 0


def verdict(good, text, *details):
    global fails
    print("ok - " + text if good else "not ok - " + text)
    if not good:
        for detail in details:
            print("  %s" % (detail,))
        fails += 1


def connect(path=":memory:"):
    # A statement that Python keeps would keep SQLite from letting a table go.
    c = sqlite3.connect(path, isolation_level=None, timeout=0.1, cached_statements=0)
    c.enable_load_extension(True)
    c.load_extension(os.path.abspath(SO))
    return c


def run(c, *statements):
    """The rows of the last one, or the error's text and name."""
    try:
        for sql in statements:
            rows = c.execute(sql).fetchall()
        return rows
    except sqlite3.Error as e:
        # Python 3.11 and later know the extended code's name.
        return (str(e), getattr(e, "sqlite_errorname", "SQLITE_LOCKED_VTAB"))


REFUSED = ("database table is locked", "SQLITE_LOCKED_VTAB")
COLUMNS = "armdb(k TEXT PRIMARY KEY, v%s)"


def own_writes(path, where):
    c = connect(path)
    run(c, "CREATE VIRTUAL TABLE t USING " + COLUMNS % "", "INSERT INTO t VALUES ('a', 1)")
    run(c, "BEGIN", "INSERT INTO t VALUES ('b', 1)")
    verdict(run(c, "DROP TABLE t") == REFUSED,
            where + ": a table that the transaction has changed is not dropped")
    verdict(run(c, "SELECT k FROM t") == [("a",), ("b",)]
            and run(c, "COMMIT", "SELECT k FROM t") == [("a",), ("b",)],
            where + ": the transaction goes on and commits")
    verdict(run(c, "BEGIN", "UPDATE t SET v = 2", "ROLLBACK", "DROP TABLE t") == [],
            where + ": after a ROLLBACK it can be dropped")
    run(c, "BEGIN", "CREATE VIRTUAL TABLE n USING " + COLUMNS % "",
        "INSERT INTO n VALUES ('a', 1)")
    verdict(run(c, "DROP TABLE n") == REFUSED,
            where + ": nor is one that the transaction has created")
    run(c, "COMMIT")
    verdict(run(c, "SELECT k FROM n") == [("a",)] and run(c, "DROP TABLE n") == [],
            where + ": that one is there and can be dropped")
    c.close()


def reason_in_the_log():
    vtab = os.path.abspath(SO)
    script = "\n".join([".log stdout", ".load " + vtab[:-3],
                        "CREATE VIRTUAL TABLE t USING armdb(k PRIMARY KEY);", "BEGIN;",
                        "INSERT INTO t VALUES (1);", "DROP TABLE t;"])
    out = subprocess.run(["sqlite3", "-init", "/dev/null", ":memory:"], input=script,
                         capture_output=True, text=True).stdout
    verdict("(518) armdb: DROP TABLE t: the open transaction has changed it; commit first"
            in out, "SQLite's log says why", out)


def another_connection(folder):
    path = os.path.join(folder, "shared.db")
    a, b = connect(path), connect(path)
    run(a, "PRAGMA journal_mode=WAL", "CREATE VIRTUAL TABLE t USING " + COLUMNS % "")
    run(b, "BEGIN", "INSERT INTO t VALUES ('b', 1)")
    got = run(a, "DROP TABLE t")
    verdict(got[0] == "database is locked", "one file: the writer has the file's lock", got)
    verdict(run(b, "COMMIT", "SELECT k FROM t") == [("b",)], "one file: the writer commits")
    verdict(run(a, "DROP TABLE t") == [] and "no such table" in run(b, "SELECT * FROM t")[0],
            "one file: then it is dropped for both")
    a.close()
    b.close()


def two_files(folder):
    store = ", path='%s'" % os.path.join(folder, "two")
    a = connect(os.path.join(folder, "a.db"))
    b = connect(os.path.join(folder, "b.db"))
    for c in (a, b):
        run(c, "CREATE VIRTUAL TABLE t USING " + COLUMNS % store)
    run(b, "BEGIN", "INSERT INTO t VALUES ('b', 1)")
    verdict(run(a, "DROP TABLE t") == []
            and run(b, "COMMIT", "SELECT k FROM t") == [("b",)],
            "two files: the rows stay for the other one, uncommitted ones too")
    a.close()
    b.close()


def temp_tables(folder):
    """A place in TEMP is no row of the store, and holds the rows all the same."""
    store = ", path='%s'" % os.path.join(folder, "temp")
    create = "CREATE VIRTUAL TABLE temp.t USING " + COLUMNS % store
    other = "CREATE VIRTUAL TABLE temp.other USING " + COLUMNS % store
    a, b = connect(), connect()
    run(a, create, "INSERT INTO t VALUES ('a', 1)", other)
    run(b, create, "BEGIN", "INSERT INTO t VALUES ('b', 1)")
    verdict(run(a, "DROP TABLE t") == [] and run(a, "SELECT * FROM other") == []
            and run(b, "SELECT k FROM t") == [("a",), ("b",)],
            "TEMP: who made the table drops it, another's transaction goes on")
    verdict(run(b, "COMMIT") == [] and run(a, "SELECT * FROM other") == []
            and run(b, "SELECT k FROM t") == [("a",), ("b",)],
            "TEMP: what the other one commits stays")
    c = connect()
    verdict(run(c, create, "SELECT k FROM t") == [("a",), ("b",)],
            "TEMP: and is found by a third one")
    c.close()
    verdict(run(a, create) == [] and run(a, "SELECT * FROM t") == []
            and run(b, "INSERT INTO t VALUES ('c', 1)") == []
            and run(b, "SELECT k FROM t") == [("a",), ("b",), ("c",)],
            "TEMP: a new table of the name is empty, the old one still the other's")
    run(b, "DROP TABLE t")
    run(a, "SELECT * FROM other")
    c = connect()
    left = c.execute("SELECT 1").fetchall() and run(
        c, create, "SELECT value FROM armdb_stat('t') WHERE name = 'keys'")
    verdict(left == [(0,)], "TEMP: when the last one has gone the rows go", left)
    for connection in (a, b, c):
        connection.close()

    # A database file's DROP and a TEMP table of the same rows.
    path = os.path.join(folder, "c.db")
    a, b = connect(path), connect()
    run(a, "CREATE VIRTUAL TABLE t USING " + COLUMNS % "", "INSERT INTO t VALUES ('a', 1)",
        "CREATE VIRTUAL TABLE other USING armdb(k PRIMARY KEY)")
    run(b, "CREATE VIRTUAL TABLE temp.t USING armdb(path='%s-armdb')" % path, "BEGIN",
        "INSERT INTO t VALUES ('b', 1)")
    verdict(run(a, "DROP TABLE t", "SELECT * FROM other") == []
            and run(b, "COMMIT", "SELECT k FROM t") == [("a",), ("b",)],
            "a file's DROP leaves the rows to a TEMP table that has them")
    run(b, "DROP TABLE t")
    run(a, "SELECT * FROM other")
    b.close()
    b = connect()
    verdict(run(b, "CREATE VIRTUAL TABLE temp.t USING armdb(k, w, x PRIMARY KEY, "
                "path='%s-armdb')" % path) == [], "and takes them along afterwards")
    a.close()
    b.close()


def let_go(folder):
    """A ROLLBACK of any DDL makes SQLite forget all tables until they are used again."""
    create = ("CREATE VIRTUAL TABLE temp.t USING "
              + COLUMNS % (", path='%s'" % os.path.join(folder, "let")))
    a, b = connect(), connect()
    run(a, create, create.replace("temp.t ", "temp.other "))
    run(b, create, "INSERT INTO t VALUES ('b', 1)", "BEGIN", "CREATE TEMP TABLE x(y)",
        "ROLLBACK", "SELECT count(*) FROM sqlite_temp_schema")
    run(a, "DROP TABLE t", "SELECT * FROM other")
    verdict(run(b, "SELECT k FROM t") == [("b",)],
            "TEMP: a table that SQLite has let go for a while holds its rows")
    c = connect()
    run(c, "BEGIN", create, "ROLLBACK")  # a place that never was holds nothing
    run(b, "DROP TABLE t")
    run(a, "SELECT * FROM other")
    verdict(run(b, create, "SELECT k FROM t") == [], "and one that was rolled back does not")
    for connection in (a, b, c):
        connection.close()


def main():
    with tempfile.TemporaryDirectory(prefix="armdb-drop-") as folder:
        own_writes(os.path.join(folder, "own.db"), "in a file")
        own_writes(":memory:", "in memory")
        reason_in_the_log()
        another_connection(folder)
        two_files(folder)
        temp_tables(folder)
        let_go(folder)
    return 1 if fails else 0


sys.exit(main())

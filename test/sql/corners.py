#!/usr/bin/python3
"""Small things of the extension that nothing else asks for: the two pages to look
things up, commands, names that are no tables, the helper table, tables that TEMP loses.

    corners.py [EXTENSION]      (also: environment ARMDB_EXTENSION or ARMDB_VTAB)

Prints "ok - ..." and "not ok - ..." lines.
"""
import os
import shutil
import sqlite3
import sys
import tempfile

SO = (sys.argv[1] if len(sys.argv) > 1 else os.environ.get("ARMDB_EXTENSION")
      or os.environ.get("ARMDB_VTAB") or "./armdb_vtab")
W = tempfile.mkdtemp(prefix="armdb-corners-")
fails = 0


def con(name):
    """A connection with the extension; `name` below the folder."""
    c = sqlite3.connect(os.path.join(W, name), isolation_level=None)
    c.enable_load_extension(True)
    c.load_extension(os.path.abspath(SO))
    c.execute("PRAGMA journal_mode=WAL")  # a reader does not hinder a writer
    return c


def ask(c, sql, *values):
    """The rows, or the error's text."""
    try:
        return c.execute(sql, values).fetchall()
    except sqlite3.Error as error:
        return str(error)


def verdict(good, text, got=""):
    global fails
    print("ok - " + text if good else f"not ok - {text}: {got}")
    fails += 0 if good else 1


def gives(c, sql, want, text, *values):
    got = ask(c, sql, *values)
    verdict(got == want, text, got)


def refuses(c, sql, word, text, *values):
    got = ask(c, sql, *values)
    verdict(isinstance(got, str) and word in got, text, got)


def pages(c):
    version = ask(c, "SELECT armdb_version()")[0][0]
    verdict("armdb" in version and sqlite3.sqlite_version in version,
            "armdb_version() names SQLite's version", version)
    page = ask(c, "SELECT armdb_help()")[0][0]
    for name, in ask(c, "SELECT DISTINCT name FROM pragma_function_list"
                        " WHERE name LIKE 'armdb%' ORDER BY 1"):
        if name not in ("armdb_help", "armdb_incr_step"):
            verdict(name in page, f"armdb_help() knows {name}")


def names(c):
    for function in ("armdb_count(?)", "armdb_flush(?)", "armdb_clear(?)",
                     "armdb_compact(?)", "armdb_verify(?)"):
        refuses(c, f"SELECT {function}", "name of an armdb table",
                f"{function} of NULL is refused", None)
        refuses(c, f"SELECT {function}", "nosuch", f"{function} of no table is refused",
                "nosuch")
    c.execute("CREATE TABLE native(x)")
    refuses(c, "SELECT armdb_count('native')", "native", "a native table is none")
    for table in ("armdb_stat", "armdb_segments", "armdb_verify"):
        gives(c, f"SELECT count(*) > 0 FROM {table}('t')", [(1,)], f"{table} has rows")
        refuses(c, f"SELECT * FROM {table}('nosuch')", "nosuch",
                f"{table} of no table is refused")
        gives(c, f"SELECT count(*) FROM {table}(NULL)", [(0,)],
              f"{table} of NULL is empty")
        gives(c, f"SELECT count(rowid) = count(DISTINCT rowid) FROM {table}('t')", [(1,)],
              f"{table} has a rowid of its own for each row")


def commands(c):
    for command in ("flush", "compact", "pause", "resume", "pause", "FLUSH"):
        gives(c, "INSERT INTO t(t) VALUES(?)", [], f"command {command}", command)
    refuses(c, "INSERT INTO t(t) VALUES('explode')", "known are: clear, compact, flush",
            "an unknown command is refused, with those that exist")
    gives(c, "SELECT count(*) FROM t", [(3,)], "commands leave the rows")


def prefixes(c):
    gives(c, "SELECT k FROM t('a') ORDER BY k", [("a",), ("ab",)], "rows below a prefix")
    gives(c, "SELECT count(*) FROM t WHERE t = 'a'", [(2,)], "the hidden column's way")
    gives(c, "SELECT t FROM t('a') WHERE k = 'ab'", [("a",)], "it gives back the prefix")
    gives(c, "SELECT k FROM t(x'61')", [], "a blob is no prefix of a text")
    gives(c, "SELECT k FROM t(NULL)", [], "NULL is no prefix")
    gives(c, "SELECT count(*) FROM t('')", [(3,)], "the empty one is one of all")


def helper(c, other):
    """The table that gives a transaction that only reads its moment."""
    gives(c, "BEGIN", [], "BEGIN")
    gives(c, "SELECT count(*) FROM t", [(3,)], "a read fixes the moment")
    gives(other, "INSERT INTO t VALUES('z', 9)", [], "another connection writes")
    gives(c, "SELECT count(*) FROM t", [(3,)], "the moment stays")
    gives(c, "COMMIT", [], "COMMIT")
    gives(c, "SELECT count(*) FROM t", [(4,)], "after it there is another one")
    gives(c, "SELECT * FROM temp.armdb_snapshot", [], "the helper has no rows")
    refuses(c, "INSERT INTO temp.armdb_snapshot VALUES(1)", "holds no rows",
            "and takes none")
    # TEMP tables go with it; what was a convenience is missed by nobody.
    gives(c, "PRAGMA temp_store = 2", [], "temp_store drops the TEMP tables")
    gives(c, "BEGIN", [], "BEGIN without the helper")
    gives(c, "SELECT count(*) FROM t", [(4,)], "reads go on")
    gives(c, "INSERT INTO t VALUES('y', 8)", [], "and writes")
    gives(c, "COMMIT", [], "and COMMIT")
    gives(other, "SELECT v FROM t WHERE k = 'y'", [(8,)], "which the other one sees")


def twice(c):
    """Rows that change, or go, while the same statement comes to them."""
    gives(c, "CREATE VIRTUAL TABLE u USING armdb(k INTEGER PRIMARY KEY, v)", [], "CREATE")
    c.execute("INSERT INTO u VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')")
    gives(c, "UPDATE OR REPLACE u SET k = k + 1", [], "each row takes the next one's place")
    gives(c, "SELECT * FROM u", ask(c, "SELECT * FROM u ORDER BY k"), "in order")
    c.execute("CREATE TABLE n(k INTEGER PRIMARY KEY, v) WITHOUT ROWID")
    c.execute("INSERT INTO n VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')")
    c.execute("UPDATE OR REPLACE n SET k = k + 1")
    gives(c, "SELECT * FROM u ORDER BY k", ask(c, "SELECT * FROM n ORDER BY k"),
          "as a native table has them")
    gives(c, "DROP TABLE u", [], "DROP")


def main():
    c = con("a.db")
    c.execute("CREATE VIRTUAL TABLE t USING armdb(k TEXT PRIMARY KEY, v)")
    c.execute("INSERT INTO t VALUES ('a', 1), ('ab', 2), ('b', 3)")
    pages(c)
    names(c)
    commands(c)
    prefixes(c)
    twice(c)
    other = con("a.db")
    helper(c, other)
    other.close()
    c.close()
    shutil.rmtree(W, ignore_errors=True)
    sys.exit(fails > 0)


main()

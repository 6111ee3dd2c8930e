#!/usr/bin/python3
"""CREATE, DROP and RENAME: they roll back with their transaction, and survive the end of
a connection. A dropped table's name is free at once, its rows go with its last
attachment, and a table reached from two database files stays for the other one.

    ddl.py [EXTENSION]      (also: environment ARMDB_EXTENSION or ARMDB_VTAB)

Prints "ok - ..." and "not ok - ..." lines.
"""
import os
import shutil
import sqlite3
import sys
import tempfile
import threading

SO = (sys.argv[1] if len(sys.argv) > 1 else os.environ.get("ARMDB_EXTENSION")
      or os.environ.get("ARMDB_VTAB") or "./armdb_vtab")
W = tempfile.mkdtemp(prefix="armdb-ddl-")
fails = 0


def load(c):
    c.enable_load_extension(True)
    c.load_extension(os.path.abspath(SO))
    return c


def con(name="a.db"):
    return load(sqlite3.connect(os.path.join(W, name), isolation_level=None))


def ex(c, sql):
    try:
        return c.execute(sql).fetchall()
    except sqlite3.Error as e:
        return str(e)


def verdict(good, text):
    global fails
    print("ok - " + text if good else "not ok - " + text)
    fails += 0 if good else 1


def run(c, *statements):
    """Statements that must succeed and give no rows."""
    for sql in statements:
        r = ex(c, sql)
        if r != []:
            verdict(False, "%s: %s" % (sql, r))


def rows(c, sql, want, text):
    got = ex(c, sql)
    verdict(got == want, text)
    if got != want:
        print("  want: %s\n  got:  %s" % (want, got))


def refused(c, sql, words, text):
    got = ex(c, sql)
    verdict(isinstance(got, str) and words in got, text)
    if not (isinstance(got, str) and words in got):
        print("  want: %s\n  got:  %s" % (words, got))


K = "(k TEXT PRIMARY KEY, v)"
NEW = "CREATE VIRTUAL TABLE %s USING armdb" + K
PATH = "CREATE VIRTUAL TABLE %s USING armdb(path='a.db-armdb')"

c = con()
run(c, NEW % "t", "INSERT INTO t VALUES('a',1),('b',2)")
run(c, "BEGIN", "DROP TABLE t", "ROLLBACK")
rows(c, "SELECT count(*) FROM t", [(2,)], "a DROP that was rolled back keeps the rows")
run(c, "INSERT INTO t VALUES('c',3)")
rows(c, "SELECT count(*) FROM t", [(3,)], "and the table can be written again")
run(c, "BEGIN", "SAVEPOINT s", "DROP TABLE t", "ROLLBACK TO s")
rows(c, "SELECT count(*) FROM t", [(3,)], "so does one undone by ROLLBACK TO")
run(c, "COMMIT")
rows(c, "SELECT count(*) FROM t", [(3,)], "also after COMMIT")

run(c, "BEGIN", "DROP TABLE t", NEW % "t")
rows(c, "SELECT count(*) FROM t", [(0,)], "DROP and CREATE give an empty table")
run(c, "INSERT INTO t VALUES('z',9)", "ROLLBACK")
rows(c, "SELECT * FROM t", [("a", 1), ("b", 2), ("c", 3)],
     "rolled back, the old table is there again")
run(c, "BEGIN", "DROP TABLE t", NEW % "t", "INSERT INTO t VALUES('z',9)", "COMMIT")
rows(c, "SELECT * FROM t", [("z", 9)], "committed, the new one is")

run(c, "BEGIN", "SAVEPOINT a", NEW % "u", "INSERT INTO u VALUES('q',1)", "ROLLBACK TO a",
    NEW % "u")
rows(c, "SELECT count(*) FROM u", [(0,)], "a CREATE undone by ROLLBACK TO leaves nothing")
run(c, "COMMIT", "BEGIN", "SAVEPOINT a", NEW % "w", "INSERT INTO w VALUES('q',1)",
    "ROLLBACK TO a", "COMMIT", NEW % "w")
rows(c, "SELECT count(*) FROM w", [(0,)], "also when nothing else follows")

run(c, "BEGIN", "INSERT INTO w VALUES('q',1)")
refused(c, "DROP TABLE w", "locked", "DROP of a table with uncommitted writes is refused")
run(c, "ROLLBACK", "DROP TABLE w")

run(c, "ALTER TABLE u RENAME TO u2", "INSERT INTO u2 VALUES('x',1)")
rows(c, "SELECT * FROM u2", [("x", 1)], "RENAME keeps the rows")
refused(c, "INSERT INTO u2 VALUES('x',1)", "UNIQUE constraint failed: u2.k",
        "messages use the new name")
run(c, NEW % "u")
rows(c, "SELECT * FROM u", [], "the old name is free")
run(c, "BEGIN", "ALTER TABLE u2 RENAME TO u3", "INSERT INTO u3 VALUES('y',1)", "ROLLBACK")
rows(c, "SELECT * FROM u2", [("x", 1)], "RENAME rolls back")
run(c, "ALTER TABLE u2 RENAME TO u4", NEW % "u2")
rows(c, "SELECT count(*) FROM u2", [(0,)], "the old name is free before any write")
rows(c, "SELECT * FROM u4", [("x", 1)], "and the renamed table has its rows")
c.close()
c = con()
rows(c, "SELECT * FROM u4", [("x", 1)], "also in the next connection")

run(c, "DROP TABLE t")
c.close()
c = con()
run(c, NEW % "t")
rows(c, "SELECT * FROM t", [], "a DROP is remembered when the connection ends at once")
run(c, "INSERT INTO t VALUES('n',1)")

d = con("b.db")
run(d, PATH % "t")
rows(d, "SELECT * FROM t", [("n", 1)], "another database file reaches the same rows")
refused(d, "CREATE VIRTUAL TABLE t2 USING armdb(z INTEGER PRIMARY KEY, table='t', "
        "path='a.db-armdb')", "other columns", "with other columns it is refused")
run(d, "DROP TABLE t")
d.close()
d = con("b.db")
rows(c, "SELECT * FROM t", [("n", 1)], "its DROP leaves the rows to the first")
run(d, PATH % "t")
rows(d, "SELECT * FROM t", [("n", 1)], "it can attach again")
run(c, "DROP TABLE t")
rows(c, "SELECT count(*) FROM u4", [(1,)], "another table is untouched")
rows(d, "SELECT * FROM t", [("n", 1)], "the first one's DROP leaves them to the second")
c.close()
d.close()
d = con("b.db")
run(d, "DROP TABLE t")
d.close()
d = con("b.db")
run(d, "CREATE VIRTUAL TABLE t USING armdb(k TEXT PRIMARY KEY, v, path='a.db-armdb')")
rows(d, "SELECT * FROM t", [], "they go with the last attachment")

run(d, "CREATE VIRTUAL TABLE temp.tt USING armdb(path='a.db-armdb', table='t')",
    "INSERT INTO t VALUES('1',1)")
rows(d, "SELECT * FROM temp.tt", [("1", 1)], "a TEMP table reaches them as well")
run(d, "DROP TABLE temp.tt")
rows(d, "SELECT * FROM t", [("1", 1)], "dropping a TEMP table deletes no rows of others")
d.close()

m = load(sqlite3.connect(":memory:", isolation_level=None))
run(m, NEW % "t", "INSERT INTO t VALUES('a',1)", "BEGIN", "DROP TABLE t", NEW % "t")
rows(m, "SELECT count(*) FROM t", [(0,)], "in memory, DROP and CREATE give an empty table")
run(m, "ROLLBACK")
rows(m, "SELECT * FROM t", [("a", 1)], "and roll back")
run(m, "ALTER TABLE t RENAME TO t9")
rows(m, "SELECT * FROM t9", [("a", 1)], "in memory, RENAME keeps the rows")
run(m, "ATTACH ':memory:' AS z", NEW % "z.t", "INSERT INTO z.t VALUES('b',1)", "DETACH z",
    "ATTACH ':memory:' AS z", NEW % "z.t")
rows(m, "SELECT * FROM z.t", [], "a new database in memory has no rows of an old one")
run(m, "CREATE VIEW vv AS SELECT * FROM t9")
refused(m, "SELECT * FROM vv", "unsafe use", "a persistent view is refused")
refused(m, "INSERT INTO t9(t9) VALUES('nonsense')", "unknown command",
        "an unknown command is refused")
refused(m, "INSERT INTO t9(_size) VALUES(3)", "cannot be set", "_size cannot be set")
refused(m, "SELECT armdb_count('sqlite_master')", "not an armdb table",
        "armdb_count wants an armdb table")
rows(m, "SELECT armdb_count('main.t9')", [(1,)], "armdb_count takes schema and name")
m.close()


def create_at_once(store, path, columns):
    """Eight connections reach one table at the same moment. The errors, and the rows."""
    errors = []
    begin = threading.Barrier(8)
    end = threading.Barrier(8)

    def one(number):
        c = load(sqlite3.connect(path, isolation_level=None, timeout=20))
        begin.wait()
        try:
            c.execute("CREATE VIRTUAL TABLE temp.t USING armdb(%s, path='%s')"
                      % (columns, store))
            c.execute("INSERT INTO t VALUES (?, 1)", (number,))
        except sqlite3.Error as e:
            errors.append(str(e))
        end.wait()
        if number == 0 and not errors:
            errors.extend(c.execute("SELECT count(*) FROM t WHERE v IS NOT 1").fetchall()
                          + c.execute("SELECT count(*) - 8 FROM t").fetchall())
        end.wait()
        c.close()

    threads = [threading.Thread(target=one, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


got = [create_at_once(os.path.join(W, "once%d" % i), ":memory:", "k INTEGER PRIMARY KEY, v")
       for i in range(10)]
verdict(got == [[(0,), (0,)]] * 10, "eight connections that create one table at once share it")
if got != [[(0,), (0,)]] * 10:
    print("  %s" % got)
shutil.rmtree(W, ignore_errors=True)
sys.exit(1 if fails else 0)

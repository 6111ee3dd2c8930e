#!/usr/bin/python3
"""armdb_backup from SQL: a copy opened by path= gives the rows of one moment, also while
others write; bad folders are refused; killed in the middle, it can be repeated.

    backup.py [EXTENSION]      (also: environment ARMDB_EXTENSION or ARMDB_VTAB)

Prints "ok - ..." and "not ok - ..." lines.
"""
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

SO = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else
                     os.environ.get("ARMDB_EXTENSION") or
                     os.environ.get("ARMDB_VTAB") or "./armdb_vtab.so")
W = tempfile.mkdtemp(prefix="armdb-backup-")
fails = 0


def con(name="a.db"):
    c = sqlite3.connect(name if name == ":memory:" else os.path.join(W, name),
                        isolation_level=None, check_same_thread=False, timeout=20)
    c.enable_load_extension(True)
    c.load_extension(SO)
    return c


def verdict(good, text):
    global fails
    print("ok - " + text if good else "not ok - " + text)
    fails += 0 if good else 1


def rows(c, sql, want, text):
    try:
        got = c.execute(sql).fetchall()
    except sqlite3.Error as e:
        got = str(e)
    verdict(got == want, text)
    if got != want:
        print("  want: %s\n  got:  %s" % (want, got))


def refused(c, sql, words, text):
    try:
        got = c.execute(sql).fetchall()
    except sqlite3.Error as e:
        got = str(e)
    good = isinstance(got, str) and words in got
    verdict(good, text)
    if not good:
        print("  want: ...%s...\n  got:  %s" % (words, got))


def fill(c, table, n):
    c.execute("WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM s WHERE i<%d) "
              "INSERT INTO %s SELECT i, 'v' || i FROM s" % (n, table))


def one_moment():
    c = con()
    c.execute("CREATE VIRTUAL TABLE t USING armdb(k INTEGER PRIMARY KEY, v)")
    c.execute("CREATE VIRTUAL TABLE u USING armdb(a, b, PRIMARY KEY(a, b DESC))")
    fill(c, "t", 1000)
    c.execute("INSERT INTO u VALUES(1, 2), (1, 3), ('x', x'00')")
    c.execute("SELECT armdb_backup('t', 'one')")
    c.execute("BEGIN")
    c.execute("DELETE FROM t WHERE k <= 500")
    c.execute("INSERT INTO t VALUES(5000, 'open')")
    c.execute("SELECT armdb_backup('t', 'two')")
    c.execute("COMMIT")
    c.execute("CREATE VIRTUAL TABLE temp.one USING armdb(path='one', table='t')")
    c.execute("CREATE VIRTUAL TABLE temp.two USING armdb(path='two', table='t')")
    c.execute("CREATE VIRTUAL TABLE temp.one_u USING armdb(path='one', table='u')")
    all_rows = [(1000, 1, 1000, "v1000")]
    what = "SELECT count(*), min(k), max(k), max(CASE WHEN k = 1000 THEN v END) FROM "
    rows(c, what + "one", all_rows, "a copy holds the rows of its moment")
    rows(c, what + "two", all_rows, "the caller's open transaction is not in it")
    rows(c, "SELECT a, b FROM one_u", [(1, 3), (1, 2), ("x", b"\0")],
         "the store's other tables are in it")
    rows(c, "SELECT count(*) FROM t", [(501,)], "the original goes on")
    c.execute("DELETE FROM one")
    c.execute("INSERT INTO one VALUES(1, 'changed')")
    rows(c, "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM two), "
         "(SELECT v FROM one)", [(501, 1000, "changed")],
         "original and copies are written apart, in one process")
    c.close()
    c = con("b.db")
    c.execute("CREATE VIRTUAL TABLE t USING armdb(path='two')")
    rows(c, what + "t", all_rows, "a table of another database attaches to a copy")
    c.close()


def put_back():
    """A table whose rows all came with its CREATE is dropped and taken back from the copy."""
    c = con("p.db")
    c.execute("BEGIN")
    c.execute("CREATE VIRTUAL TABLE t USING armdb(k INTEGER PRIMARY KEY, v)")
    fill(c, "t", 10)
    c.execute("COMMIT")
    c.execute("SELECT armdb_backup('t', 'pb')")
    c.execute("DROP TABLE t")
    c.execute("CREATE VIRTUAL TABLE t USING armdb(path='pb')")
    rows(c, "SELECT count(*) FROM t", [(10,)], "a dropped table attaches to its copy")
    c.close()
    # The whole folder put in the original's place.
    c = con("q.db")
    c.execute("CREATE VIRTUAL TABLE t USING armdb(k INTEGER PRIMARY KEY, v)")
    fill(c, "t", 10)
    c.execute("SELECT armdb_backup('t', 'qb')")
    c.execute("DELETE FROM t")
    c.close()
    shutil.rmtree(os.path.join(W, "q.db-armdb"))
    os.rename(os.path.join(W, "qb"), os.path.join(W, "q.db-armdb"))
    c = con("q.db")
    rows(c, "SELECT count(*) FROM t", [(10,)], "a copy in the original's place")
    c.close()


def bad_arguments():
    c = con()
    os.mkdir(os.path.join(W, "full"))
    with open(os.path.join(W, "full", "photo.jpg"), "w") as f:
        f.write("x")
    os.symlink("nowhere", os.path.join(W, "link"))
    for argument, words in (("'full'", "not empty"), ("'link'", "symbolic link"),
                            ("'one'", "not empty"), ("'a.db'", "a file"),
                            ("'no/such/parent'", "parent"), ("'a.db-armdb'", "not empty"),
                            ("NULL", "folder is wanted"), ("17", "folder is wanted"),
                            ("''", "folder is wanted"), ("':memory:'", "on the disk"),
                            ("'x' || char(10)", "control character"),
                            ("'x' || char(0) || 'y'", "folder is wanted"),
                            ("'..'", "does not end in the name")):
        refused(c, "SELECT armdb_backup('t', %s)" % argument, words,
                "backup into %s is refused" % argument)
    refused(c, "SELECT armdb_backup('nothing', 'x')", "no such table", "no such table")
    refused(c, "SELECT armdb_backup('sqlite_schema', 'x')", "not an armdb table",
            "a native table")
    verdict(os.listdir(os.path.join(W, "full")) == ["photo.jpg"],
            "a folder that was refused is left alone")
    c.execute("CREATE VIEW w AS SELECT armdb_backup('t', 'from-a-view')")
    refused(c, "SELECT * FROM w", "unsafe use", "not from a view")
    verdict(not os.path.exists(os.path.join(W, "from-a-view")), "nothing was made")
    os.umask(0)
    c.execute("SELECT armdb_backup('t', 'modes')")
    os.umask(0o22)
    folder = os.path.join(W, "modes")
    modes = {os.stat(os.path.join(folder, f)).st_mode & 0o777 for f in os.listdir(folder)}
    verdict(os.stat(folder).st_mode & 0o777 == 0o700 and modes == {0o600},
            "folder 0700, files 0600")
    c.close()


def memory():
    c = con(":memory:")
    c.execute("CREATE VIRTUAL TABLE t USING armdb(k INTEGER PRIMARY KEY, v)")
    c.execute("CREATE VIRTUAL TABLE second USING armdb(a PRIMARY KEY, b)")
    c.execute("INSERT INTO second VALUES(1, 2)")
    fill(c, "t", 100)
    c.execute("SELECT armdb_backup('t', ?)", (os.path.join(W, "mem"),))
    c.close()
    c = con("m.db")
    c.execute("CREATE VIRTUAL TABLE t USING armdb(path='mem')")
    c.execute("CREATE VIRTUAL TABLE second USING armdb(path='mem')")
    rows(c, "SELECT count(*), max(k), (SELECT b FROM second) FROM t", [(100, 100, 2)],
         "a store in memory is written to the disk, its tables under their names")
    c.close()
    c = con(":memory:")
    c.execute("CREATE VIRTUAL TABLE t USING armdb(k INTEGER PRIMARY KEY, v)")
    rows(c, "SELECT armdb_restore('t', '%s')" % os.path.join(W, "mem"), [(100,)],
         "and back into memory")
    rows(c, "SELECT count(*), max(k) FROM t", [(100, 100)], "its rows")
    c.close()


def while_writing():
    """A writer moves amounts between two tables; each copy has them in balance."""
    c = con("w.db")
    c.execute("CREATE VIRTUAL TABLE a USING armdb(k INTEGER PRIMARY KEY, v INTEGER, "
              "sync=off, segment_size='1M')")
    c.execute("CREATE VIRTUAL TABLE b USING armdb(k INTEGER PRIMARY KEY, v INTEGER, "
              "pad, sync=off)")
    c.execute("INSERT INTO a VALUES(1, 1000)")
    c.execute("INSERT INTO b VALUES(1, 0, '')")
    stop = []

    def write():
        w = con("w.db")
        n = 0
        while not stop:
            n += 1
            w.execute("BEGIN")
            w.execute("UPDATE a SET v = v - 1 WHERE k = 1")
            w.execute("UPDATE b SET v = v + 1, pad = hex(zeroblob(400)) WHERE k = 1")
            w.execute("COMMIT" if n % 5 else "ROLLBACK")
        w.close()

    thread = threading.Thread(target=write)
    thread.start()
    good = True
    last = -1
    for i in range(12):
        time.sleep(0.05)
        c.execute("SELECT armdb_backup('a', 'w%d')" % i)
        c.execute("CREATE VIRTUAL TABLE temp.ca USING armdb(path='w%d', table='a')" % i)
        c.execute("CREATE VIRTUAL TABLE temp.cb USING armdb(path='w%d', table='b')" % i)
        a, b = c.execute("SELECT ca.v, cb.v FROM ca, cb").fetchone()
        good = good and a + b == 1000 and b > last
        last = b
        c.execute("DROP TABLE temp.ca")
        c.execute("DROP TABLE temp.cb")
    stop.append(1)
    thread.join()
    verdict(good, "12 copies beside a writer: each of one moment, each newer")
    c.close()


RESTORER = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[2], isolation_level=None)
c.enable_load_extension(True)
c.load_extension(sys.argv[1])
print("go", flush=True)
for i in range(1000):
    c.execute("SELECT armdb_restore('t', ?)", ("kr%d" % (i % 2),))
    c.execute("SELECT armdb_clear('t')")
"""


def killed_while_restoring():
    """kill -9 beside a loop of restores and clears: one of the two copies, whole, or no
    row at all."""
    c = con("x.db")
    c.execute("CREATE VIRTUAL TABLE t USING armdb(k INTEGER PRIMARY KEY, v, "
              "segment_size='4M', cache_size='2M')")
    for i in range(2):
        c.execute("DELETE FROM t")
        c.execute("WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM s WHERE "
                  "i<4000) INSERT INTO t SELECT i, hex(zeroblob(400)) || %d FROM s" % i)
        c.execute("SELECT armdb_backup('t', 'kr%d')" % i)
    c.close()
    found = set()
    for i in range(10):
        p = subprocess.Popen([sys.executable, "-c", RESTORER, SO,
                              os.path.join(W, "x.db")], stdout=subprocess.PIPE)
        p.stdout.readline()
        time.sleep(0.03 + i * 0.017)
        p.send_signal(signal.SIGKILL)
        p.wait()
        p.stdout.close()
        c = con("x.db")
        found.add(c.execute("SELECT count(*), armdb_count('t'), min(substr(v, -1)), "
                            "max(substr(v, -1)) FROM t").fetchone())
        c.close()
    verdict(found <= {(4000, 4000, "0", "0"), (4000, 4000, "1", "1"),
                      (0, 0, None, None)} and len(found) > 1,
            "killed 10 times while restoring and clearing: all of one state")
    if len(found) < 2 or len(found) > 3:
        print("  got: %s" % found)


CHILD = """
import sqlite3, sys
c = sqlite3.connect(sys.argv[2], isolation_level=None)
c.enable_load_extension(True)
c.load_extension(sys.argv[1])
print("go", flush=True)
c.execute("SELECT armdb_backup('t', 'killed')")
print("done", flush=True)
"""


def killed():
    """kill -9 at moments spread over a backup; whatever is left can be repeated, or is a
    whole copy."""
    c = con("k.db")
    c.execute("CREATE VIRTUAL TABLE t USING armdb(k INTEGER PRIMARY KEY, v, "
              "segment_size='4M')")
    c.execute("WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM s WHERE i<40000)"
              " INSERT INTO t SELECT i, hex(zeroblob(300)) FROM s")
    c.close()
    copy = os.path.join(W, "killed")
    unfinished = whole = 0
    good = True
    for i in range(24):
        p = subprocess.Popen([sys.executable, "-c", CHILD, SO, os.path.join(W, "k.db")],
                             stdout=subprocess.PIPE)
        p.stdout.readline()
        time.sleep(i * 0.0035)
        p.send_signal(signal.SIGKILL)
        p.wait()
        p.stdout.close()
        c = con("k.db")
        if os.path.exists(os.path.join(copy, "superblock")) and \
                not os.path.exists(os.path.join(copy, "backup.unfinished")):
            whole += 1
        elif os.path.exists(os.path.join(copy, "backup.unfinished")):
            unfinished += 1
            try:
                c.execute("CREATE VIRTUAL TABLE temp.x USING armdb(path='killed')")
                good = False
            except sqlite3.Error as e:
                good = good and "did not end" in str(e)
            c.execute("SELECT armdb_backup('t', 'killed')")
        else:
            c.execute("SELECT armdb_backup('t', 'killed')")
        c.execute("CREATE VIRTUAL TABLE temp.x USING armdb(path='killed', table='t')")
        got = c.execute("SELECT count(*), sum(length(v)) FROM x").fetchall()
        good = good and got == [(40000, 40000 * 600)]
        good = good and c.execute("SELECT count(*) FROM t").fetchall() == [(40000,)]
        c.close()
        shutil.rmtree(copy)
    verdict(good, "killed 24 times: refused by open, then repeated, or whole")
    print("# %d unfinished, %d whole" % (unfinished, whole))


def clear():
    for name in ("c.db", ":memory:"):
        c = con(name)
        c.execute("PRAGMA journal_mode=wal").fetchall()
        c.execute("CREATE VIRTUAL TABLE t USING armdb(k INTEGER PRIMARY KEY, v)")
        fill(c, "t", 1000)
        c.execute("BEGIN")
        c.execute("INSERT INTO t(t) VALUES('clear')")
        rows(c, "SELECT count(*) FROM t", [(0,)], name + ": cleared inside BEGIN")
        c.execute("INSERT INTO t VALUES(1, 'new')")
        rows(c, "SELECT * FROM t", [(1, "new")], name + ": and written to again")
        c.execute("ROLLBACK")
        rows(c, "SELECT count(*), armdb_count('t') FROM t", [(1000, 1000)],
             name + ": ROLLBACK brings the rows back")
        c.execute("BEGIN")
        c.execute("SAVEPOINT s")
        c.execute("SELECT armdb_clear('t')")
        c.execute("ROLLBACK TO s")
        rows(c, "SELECT count(*) FROM t", [(1000,)], name + ": ROLLBACK TO does so, too")
        c.execute("COMMIT")
        rows(c, "SELECT armdb_clear('t')", [(1,)], name + ": armdb_clear")
        rows(c, "SELECT count(*), armdb_count('t') FROM t", [(0, 0)], name + ": is empty")
        fill(c, "t", 10)
        if name != ":memory:":
            d = con(name)
            rows(d, "SELECT count(*) FROM t", [(10,)], "another connection follows")
            d.execute("BEGIN")
            d.execute("SELECT count(*) FROM t").fetchall()
            c.execute("SELECT armdb_clear('t')")
            rows(d, "SELECT count(*) FROM t", [(10,)],
                 "a transaction that has read goes on with the old rows")
            d.execute("COMMIT")
            rows(d, "SELECT count(*) FROM t", [(0,)], "and then sees none")
            d.execute("CREATE VIRTUAL TABLE temp.tt USING armdb(path='c.db-armdb', table='t')")
            d.execute("BEGIN")
            d.execute("INSERT INTO tt VALUES(1, 'x')")
            c.execute("PRAGMA busy_timeout=20")
            refused(c, "SELECT armdb_clear('t')", "another transaction has written",
                    "not over the rows of an open transaction")
            d.execute("COMMIT")
            d.close()
            c.execute("ALTER TABLE t RENAME TO r")
            rows(c, "SELECT armdb_clear('r'), armdb_count('r')", [(1, 0)],
                 "a renamed table is cleared")
            c.close()
            c = con(name)
            rows(c, "SELECT count(*) FROM r", [(0,)], "and empty after reopening")
            refused(c, "INSERT INTO r(r) VALUES('nonsense')", "known are: clear",
                    "an unknown command")
        c.close()


def restore():
    c = con("r.db")
    c.execute("PRAGMA journal_mode=wal").fetchall()
    c.execute("CREATE VIRTUAL TABLE t USING armdb(k INTEGER PRIMARY KEY, v)")
    c.execute("CREATE VIRTUAL TABLE other USING armdb(a PRIMARY KEY, b)")
    fill(c, "t", 1000)
    c.execute("SELECT armdb_backup('t', 'rb')")
    c.execute("DELETE FROM t WHERE k > 10")
    c.execute("UPDATE t SET v = 'changed'")
    c.execute("BEGIN")
    rows(c, "SELECT armdb_restore('t', 'rb')", [(1000,)], "restore tells the rows")
    rows(c, "SELECT count(*), max(v) FROM t", [(1000, "v999")], "inside BEGIN")
    c.execute("ROLLBACK")
    rows(c, "SELECT count(*), max(v) FROM t", [(10, "changed")], "and rolled back")
    d = con("r.db")
    d.execute("SELECT count(*) FROM t").fetchall()
    d.execute("BEGIN")
    d.execute("SELECT * FROM t").fetchall()
    c.execute("SELECT armdb_restore('t', 'rb')")
    rows(c, "SELECT count(*), max(v), armdb_count('t') FROM t", [(1000, "v999", 1000)],
         "restored")
    rows(d, "SELECT count(*), max(v) FROM t", [(10, "changed")],
         "who has read before goes on reading the old rows")
    d.execute("COMMIT")
    rows(d, "SELECT count(*) FROM t", [(1000,)], "and then the new ones")
    d.close()
    for sql, words in (("armdb_restore('t', 'nowhere')", "there is no folder"),
                       ("armdb_restore('t', 'rb', 'nothing')", "no table nothing"),
                       ("armdb_restore('other', 'rb', 't')", "other columns"),
                       ("armdb_restore('t', 'rb', NULL)", "name of a table"),
                       ("armdb_restore('t', ':memory:')", "on the disk")):
        refused(c, "SELECT " + sql, words, sql)
    refused(c, "INSERT INTO t(t) VALUES('restore')", "unknown command",
            "restore is no command of its own")
    rows(c, "SELECT count(*) FROM t", [(1000,)], "a refused restore changes nothing")
    c.close()
    c = con("r.db")
    rows(c, "SELECT count(*), max(v) FROM t", [(1000, "v999")], "after reopening")
    c.close()
    m = con(":memory:")
    m.execute("CREATE VIRTUAL TABLE t USING armdb(k INTEGER PRIMARY KEY, v)")
    fill(m, "t", 5)
    rows(m, "SELECT armdb_restore('t', '%s')" % os.path.join(W, "rb"), [(1000,)],
         "restore into a table in memory")
    rows(m, "SELECT count(*), max(v) FROM t", [(1000, "v999")], "its rows")
    m.close()


one_moment()
clear()
restore()
put_back()
bad_arguments()
memory()
while_writing()
killed()
killed_while_restoring()
shutil.rmtree(W)
sys.exit(1 if fails else 0)

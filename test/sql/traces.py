#!/usr/bin/python3
"""What SQLite calls when, lived through: transactions in every shape (T1), values that
lie in the cache while statements move (T3), LIMIT and OFFSET (T5), connections, threads
and processes (T11). A native table beside the armdb one says what is right.

    traces.py [EXTENSION]      (also: environment ARMDB_EXTENSION or ARMDB_VTAB)

Prints "ok - ..." and "not ok - ..." lines.
"""
import ctypes
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading

SO = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("ARMDB_EXTENSION")
                     or os.environ.get("ARMDB_VTAB") or "./armdb_vtab")
W = tempfile.mkdtemp(prefix="armdb-traces-")
fails = 0


def verdict(good, text):
    global fails
    print("ok - " + text if good else "not ok - " + text)
    fails += 0 if good else 1


def equal(got, want, text):
    verdict(got == want, text)
    if got != want:
        print("  want: %r\n  got:  %r" % (want, got))


def con(name=":memory:", timeout=10, **options):
    c = sqlite3.connect(name if name == ":memory:" else os.path.join(W, name),
                        isolation_level=None, timeout=timeout, **options)
    c.enable_load_extension(True)
    c.load_extension(SO)
    return c


def ask(c, sql, parameters=()):
    try:
        return c.execute(sql, parameters).fetchall()
    except sqlite3.Error as e:
        return type(e).__name__


# ---- T1: transactions ----

def both(c, sql):
    """Runs sql for t (armdb) and n (native): the outcomes must be the same."""
    got, want = ask(c, sql.format("t")), ask(c, sql.format("n"))
    if got != want:
        equal(got, want, sql)


def same(c, text):
    equal(ask(c, "SELECT * FROM t ORDER BY k"), ask(c, "SELECT * FROM n ORDER BY k"), text)


def t1(journal):
    name = "t1-%s.db" % journal
    c = con(name)
    c.execute("PRAGMA journal_mode=" + journal)
    c.execute("CREATE VIRTUAL TABLE t USING armdb(k INTEGER PRIMARY KEY, v)")
    c.execute("CREATE TABLE n(k INTEGER PRIMARY KEY, v) WITHOUT ROWID")
    at = " (%s)" % journal

    both(c, "INSERT INTO {} VALUES (1, 'one')")
    same(c, "T1 autocommit, one row" + at)
    both(c, "INSERT INTO {} VALUES (2, 'two'), (3, 'three'), (2, 'again')")
    same(c, "T1 autocommit, the third of several rows fails: none is there" + at)
    both(c, "INSERT OR FAIL INTO {} VALUES (4, 'four'), (1, 'x'), (5, 'five')")
    same(c, "T1 OR FAIL keeps what came before" + at)

    c.execute("BEGIN")
    both(c, "INSERT INTO {} VALUES (10, 'ten')")
    both(c, "UPDATE {} SET v = v || '!' WHERE k < 5")
    both(c, "INSERT INTO {} SELECT k + 100, v FROM {} WHERE k < 5 UNION ALL SELECT 10, 0"
         .replace("{} WHERE", "{0} WHERE").replace("INTO {}", "INTO {0}"))
    same(c, "T1 inside BEGIN a failed statement undoes itself alone" + at)
    c.execute("ROLLBACK")
    same(c, "T1 ROLLBACK" + at)

    c.execute("BEGIN")
    c.execute("SAVEPOINT early")  # before the table takes part
    both(c, "INSERT INTO {} VALUES (20, 'late')")
    c.execute("SAVEPOINT inner1")
    both(c, "DELETE FROM {} WHERE k = 1")
    c.execute("ROLLBACK TO inner1")
    same(c, "T1 ROLLBACK TO an inner savepoint" + at)
    both(c, "INSERT INTO {} VALUES (21, 'x')")
    c.execute("ROLLBACK TO early")
    same(c, "T1 ROLLBACK TO a savepoint older than the table's part" + at)
    both(c, "INSERT INTO {} VALUES (22, 'kept')")
    c.execute("RELEASE early")
    c.execute("COMMIT")
    same(c, "T1 COMMIT after both" + at)

    for depth in range(70):
        c.execute("SAVEPOINT s%d" % depth)
        both(c, "INSERT INTO {} VALUES (%d, 'deep')" % (1000 + depth))
    c.execute("ROLLBACK TO s40")
    c.execute("RELEASE s20")
    same(c, "T1 seventy savepoints deep" + at)
    c.execute("RELEASE s0")
    same(c, "T1 and released" + at)

    c.execute("BEGIN")
    c.execute("CREATE VIRTUAL TABLE made USING armdb")
    c.execute("INSERT INTO made VALUES (1, 2)")
    c.execute("ROLLBACK")
    equal(ask(c, "SELECT * FROM made"), "OperationalError", "T1 a CREATE rolled back" + at)
    c.execute("BEGIN")
    c.execute("CREATE VIRTUAL TABLE made USING armdb")
    c.execute("INSERT INTO made VALUES (1, 2)")
    c.execute("COMMIT")
    equal(ask(c, "SELECT * FROM made"), [(1, 2)], "T1 a CREATE committed" + at)
    c.execute("BEGIN")
    c.execute("DROP TABLE made")
    c.execute("ROLLBACK")
    equal(ask(c, "SELECT * FROM made"), [(1, 2)], "T1 a DROP rolled back" + at)

    before = ask(c, "SELECT value FROM armdb_stat('t') WHERE name = 'gsn_last'")
    c.execute("UPDATE t SET v = 0 WHERE k = -1")
    c.execute("BEGIN")
    c.execute("DELETE FROM t WHERE k = -1")
    c.execute("COMMIT")
    equal(ask(c, "SELECT value FROM armdb_stat('t') WHERE name = 'gsn_last'"), before,
          "T1 a statement that changes no row writes nothing" + at)
    c.close()
    c = con(name)
    same(c, "T1 all of it after reopening" + at)
    c.close()


def t1_parked(retry):
    """COMMIT answers SQLITE_BUSY after the armdb half is prepared: another connection
    reads the native half, whose file needs it for itself alone."""
    name = "parked%d.db" % retry
    c = con(name, timeout=0)
    c.execute("PRAGMA journal_mode=DELETE")
    c.execute("CREATE VIRTUAL TABLE t USING armdb(k INTEGER PRIMARY KEY, v)")
    c.execute("CREATE TABLE n(k INTEGER PRIMARY KEY, v)")
    c.execute("INSERT INTO n VALUES (1, 1)")
    other = con(name, timeout=0)
    reading = other.execute("SELECT k FROM n UNION ALL SELECT 2")
    reading.fetchone()
    c.execute("BEGIN")
    c.execute("INSERT INTO t VALUES (1, 1)")
    c.execute("INSERT INTO n VALUES (2, 2)")
    equal(ask(c, "COMMIT"), "OperationalError", "T1 COMMIT is BUSY while a reader is there")
    c.execute("INSERT INTO t VALUES (2, 2)")  # the prepared transaction goes on
    equal(ask(c, "COMMIT"), "OperationalError", "T1 and again, after one more row")
    reading.close()
    c.execute("COMMIT" if retry else "ROLLBACK")
    rows = [(1,), (2,)] if retry else []
    equal(ask(c, "SELECT k FROM t"), rows,
          "T1 then it %s" % ("commits" if retry else "rolls back"))
    other.close()
    c.close()
    c = con(name)
    equal((ask(c, "SELECT k FROM t"), ask(c, "SELECT count(*) FROM n")),
          (rows, [(2 if retry else 1,)]), "T1 both halves are so after reopening")
    c.close()


# ---- T3: values handed out where they lie ----

T3 = [
    "SELECT min(v), max(v) FROM {0}",
    "SELECT k, v FROM {0} WHERE v = (SELECT max(v) FROM {0})",
    "SELECT g, max(v), count(*) FROM {0} GROUP BY g ORDER BY g",
    "SELECT g, group_concat(substr(v, 1, 9), ',') FROM (SELECT * FROM {0} ORDER BY k) GROUP BY g",
    "SELECT DISTINCT substr(v, 1, 3) AS s FROM {0} ORDER BY s",
    "SELECT a.v, b.v FROM {0} AS a JOIN {0} AS b ON b.k = a.k + 1 WHERE a.k % 97 = 0 ORDER BY a.k",
    "SELECT k, lag(v) OVER (ORDER BY k), first_value(v) OVER (PARTITION BY g ORDER BY k) "
    "FROM {0} ORDER BY k",
    "SELECT k, (SELECT e.v FROM {0} AS e WHERE e.k > t.k ORDER BY e.k LIMIT 1) FROM {0} AS t "
    "WHERE k % 50 = 0 ORDER BY k",
    "WITH RECURSIVE walk(k, v) AS (SELECT k, v FROM {0} WHERE k = 1 UNION ALL "
    "SELECT e.k, e.v FROM walk JOIN {0} AS e ON e.k = walk.k * 2) SELECT * FROM walk",
    "SELECT * FROM {0} ORDER BY v DESC LIMIT 20",
]


def t3():
    c = con("t3.db")
    # A cache far smaller than the rows: whoever holds a page must hold a pin on it.
    c.execute("CREATE VIRTUAL TABLE t USING armdb(k INTEGER PRIMARY KEY, g, v BLOB, "
              "cache_size='1M', segment_size='1M', sync=off)")
    c.execute("CREATE TABLE n(k INTEGER PRIMARY KEY, g, v BLOB) WITHOUT ROWID")
    for table in ("t", "n"):
        c.execute("WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r LIMIT 1500) "
                  "INSERT INTO %s SELECT i, i %% 7, CAST(printf('%%05d', i * 7919 %% 1500) AS "
                  "BLOB) || zeroblob(CASE WHEN i %% 5 = 0 THEN 9000 ELSE 2000 END) FROM r" % table)
    for sql in T3:
        equal(ask(c, sql.format("t")) == ask(c, sql.format("n")), True, "T3 " + sql.format("t"))
    for table in ("t", "n"):
        c.execute("UPDATE %s SET v = v || x'ff', g = g + 1 WHERE k %% 3 = 0" % table)
    equal(ask(c, "SELECT * FROM t ORDER BY k") == ask(c, "SELECT * FROM n ORDER BY k"), True,
          "T3 an UPDATE that reads what it writes")
    evictions = ask(c, "SELECT value FROM armdb_stat('t') WHERE name = 'cache_evictions'")[0][0]
    verdict(evictions > 100, "T3 pages were taken away meanwhile: %d" % evictions)
    equal(ask(c, "SELECT value FROM armdb_stat('t') WHERE name = 'pages_pinned'"), [(0,)],
          "T3 no pin is left")
    c.close()


# ---- T5: LIMIT and OFFSET ----

T5 = [
    "SELECT * FROM {0} LIMIT 3", "SELECT * FROM {0} LIMIT 3 OFFSET 4",
    "SELECT * FROM {0} LIMIT 0", "SELECT * FROM {0} LIMIT -1 OFFSET 95",
    "SELECT * FROM {0} LIMIT 5 OFFSET 1000",
    "SELECT * FROM {0} WHERE v % 3 = 0 LIMIT 4 OFFSET 2",
    "SELECT * FROM {0} WHERE k > 'k0050' AND v % 2 = 0 ORDER BY k LIMIT 3 OFFSET 3",
    "SELECT * FROM {0} WHERE k > 'k0050' ORDER BY k DESC LIMIT 3 OFFSET 3",
    "SELECT * FROM {0} ORDER BY v DESC LIMIT 3 OFFSET 2",
    "SELECT * FROM {0} WHERE k IN ('k0007', 'k0003', 'none', 'k0005') ORDER BY k LIMIT 2 OFFSET 1",
    "SELECT * FROM (SELECT * FROM {0} ORDER BY k LIMIT 3) UNION ALL "
    "SELECT * FROM (SELECT * FROM {0} ORDER BY k DESC LIMIT 2)",
    "SELECT k FROM {0} UNION ALL SELECT k FROM {0} ORDER BY 1 LIMIT 5 OFFSET 3",
    "SELECT (SELECT v FROM {0} WHERE k >= 'k0042' ORDER BY k LIMIT 1)",
    "SELECT a.k FROM {0} AS a WHERE EXISTS (SELECT 1 FROM {0} AS b WHERE b.v = a.v + 50 "
    "LIMIT 1) ORDER BY a.k LIMIT 4",
    "SELECT DISTINCT v % 10 FROM {0} ORDER BY 1 LIMIT 3 OFFSET 2",
    "SELECT v % 10, count(*) FROM {0} GROUP BY 1 LIMIT 2 OFFSET 1",
]


def t5():
    c = con()
    c.execute("CREATE VIRTUAL TABLE temp.t USING armdb(k TEXT PRIMARY KEY, v, path=':memory:')")
    c.execute("CREATE TABLE n(k TEXT PRIMARY KEY, v) WITHOUT ROWID")
    for table in ("t", "n"):
        c.execute("WITH RECURSIVE r(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM r LIMIT 100) "
                  "INSERT INTO %s SELECT printf('k%%04d', i), i FROM r" % table)
    for sql in T5:
        equal(ask(c, sql.format("t")), ask(c, sql.format("n")), "T5 " + sql.format("t"))


# ---- T11: connections, threads, processes ----

CHILD = """
import os, sqlite3, sys
c = sqlite3.connect(sys.argv[2], isolation_level=None, timeout=0.1)
c.enable_load_extension(True)
c.load_extension(sys.argv[1])
try:
    print(c.execute("SELECT count(*) FROM t").fetchone()[0])
except sqlite3.Error as e:
    print(e)
"""


def t11_processes():
    c = con("t11.db")
    c.execute("CREATE VIRTUAL TABLE t USING armdb")
    c.execute("INSERT INTO t VALUES (1, 1)")

    def second():
        return subprocess.run([sys.executable, "-c", CHILD, SO, os.path.join(W, "t11.db")],
                              capture_output=True, text=True, timeout=60).stdout.strip()

    said = second()
    verdict(str(os.getpid()) in said, "T11 a second process hears whose the store is: " + said)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = ask(c, "SELECT * FROM t")
        os.write(writer, repr(said).encode())
        os._exit(0)
    os.waitpid(child, 0)
    verdict(b"Error" in os.read(reader, 1000), "T11 a forked child is refused")
    os.close(reader)
    os.close(writer)
    c.execute("INSERT INTO t VALUES (2, 2)")
    equal(ask(c, "SELECT count(*) FROM t"), [(2,)], "T11 the parent goes on")
    c.close()
    equal(second(), "2", "T11 when it has closed, another process may come")


def t11_closing():
    for first in (0, 1):
        cs = [con("order%d.db" % first) for _ in range(2)]
        cs[0].execute("CREATE VIRTUAL TABLE t USING armdb")
        cs[0].execute("INSERT INTO t VALUES (1, x'aabb'), (2, zeroblob(100000))")
        open_rows = [c.execute("SELECT * FROM t") for c in cs]
        rows = [r.fetchone() for r in open_rows]
        open_rows[first].close()
        cs[first].close()
        rest = open_rows[1 - first].fetchall()
        equal((rows, rest), ([(1, b"\xaa\xbb")] * 2, [(2, bytes(100000))]),
              "T11 connection %d closes first, the other's cursor goes on" % first)
        cs[1 - first].execute("INSERT INTO t VALUES (3, 3)")
        open_rows[1 - first].close()
        cs[1 - first].close()
    a, b = con("drop.db"), con("drop.db")
    a.execute("PRAGMA journal_mode=WAL")
    a.execute("CREATE VIRTUAL TABLE t USING armdb")
    a.execute("INSERT INTO t VALUES (1, 1), (2, 2)")
    reading = b.execute("SELECT key FROM t")
    first = reading.fetchone()
    a.execute("DROP TABLE t")
    equal((first, reading.fetchall()), ((1,), [(2,)]),
          "T11 the last table is dropped while another connection reads it to its end")
    equal(ask(b, "SELECT * FROM t"), "OperationalError", "T11 and then it is gone for it, too")
    a.close()
    b.close()


def t11_threads():
    path = os.path.join(W, "many")
    wrong = []

    def work(number):
        try:
            c = con()
            c.execute("CREATE VIRTUAL TABLE temp.t USING armdb(k PRIMARY KEY, v, path='%s', "
                      "sync=off)" % path)
            for i in range(60):
                c.execute("BEGIN")
                c.execute("INSERT INTO t VALUES (?, 1), (?, -1)",
                          ("%d-%d-a" % (number, i), "%d-%d-b" % (number, i)))
                c.execute("COMMIT" if i % 4 else "ROLLBACK")
                total, rows = c.execute("SELECT total(v), count(*) FROM t").fetchone()
                if total != 0 or rows % 2 != 0:
                    wrong.append((total, rows))
            c.close()
        except sqlite3.Error as e:
            wrong.append(str(e))

    keeper = con()
    keeper.execute("CREATE VIRTUAL TABLE temp.t USING armdb(k PRIMARY KEY, v, path='%s', "
                   "sync=off)" % path)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal(wrong, [], "T11 sixteen connections on sixteen threads: no sum is wrong")
    equal(ask(keeper, "SELECT count(*) FROM t"), [(16 * 45 * 2,)], "T11 every row is there")
    keeper.close()
    equal(len(os.listdir("/proc/self/task")), 1,
          "T11 no thread is left after the last connection closed")


def t11_twice():
    c = con("twice.db")
    c.load_extension(SO)  # the same file again
    c.execute("CREATE VIRTUAL TABLE t USING armdb")
    c.execute("INSERT INTO t VALUES (1, 1)")
    equal(ask(c, "SELECT * FROM t"), [(1, 1)], "T11 loaded twice into one connection")
    os.mkdir(os.path.join(W, "copy"))
    copy = shutil.copy(SO if SO.endswith(".so") else SO + ".so",
                       os.path.join(W, "copy", "armdb_vtab.so"))
    other = sqlite3.connect(os.path.join(W, "twice.db"), isolation_level=None, timeout=0.1)
    other.enable_load_extension(True)
    other.load_extension(copy)
    try:
        said = str(other.execute("SELECT * FROM t").fetchall())
    except sqlite3.Error as e:
        said = str(e)
    verdict(said == "[(1, 1)]" or str(os.getpid()) in said,
            "T11 a second copy of the library shares the store or is told who has it: " + said)
    other.close()
    equal(ask(c, "SELECT * FROM t"), [(1, 1)], "T11 and the first goes on")
    c.close()
    again = ctypes.CDLL(copy)
    verdict(again is not None, "T11 it can be opened once more")


try:
    t1("WAL")
    t1("DELETE")
    t1_parked(True)
    t1_parked(False)
    t3()
    t5()
    t11_processes()
    t11_closing()
    t11_threads()
    t11_twice()
finally:
    shutil.rmtree(W, ignore_errors=True)
sys.exit(1 if fails else 0)

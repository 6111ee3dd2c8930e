#!/usr/bin/python3
"""armdb_cas and armdb_incr: one atomic step, alone, in transactions, and from many
threads at once.

    atomic.py [EXTENSION]      (also: environment ARMDB_EXTENSION or ARMDB_VTAB)

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
W = tempfile.mkdtemp(prefix="armdb-atomic-")
THREADS, STEPS = 8, 400
fails = 0


def con(name=":memory:", timeout=20):
    c = sqlite3.connect(name if name == ":memory:" else os.path.join(W, name),
                        isolation_level=None, timeout=timeout)
    c.enable_load_extension(True)
    c.load_extension(os.path.abspath(SO))
    return c


def one(c, sql, *parameters):
    try:
        return c.execute(sql, parameters).fetchone()[0]
    except sqlite3.Error as e:
        return str(e)


def verdict(good, text):
    global fails
    print("ok - " + text if good else "not ok - " + text)
    fails += 0 if good else 1


def equal(got, want, text):
    verdict(got == want and type(got) is type(want), text)
    if got != want or type(got) is not type(want):
        print("  want: %r\n  got:  %r" % (want, got))


def values():
    c = con()
    c.execute("CREATE VIRTUAL TABLE t USING armdb(path=':memory:')")
    incr = "SELECT armdb_incr('t', ?, ?)"
    cas = "SELECT armdb_cas('t', ?, ?, ?)"
    equal(one(c, incr, "a", 1), 1, "a row that is not there counts as 0")
    equal(one(c, incr, "a", 41), 42, "the sum is given")
    equal(one(c, incr, "a", -50), -8, "a negative number subtracts")
    equal(one(c, incr, "a", 0.5), -7.5, "a real makes the sum real")
    equal(one(c, "SELECT value FROM t WHERE key = 'a'"), -7.5, "the row holds the sum")
    c.execute("INSERT INTO t VALUES ('null', NULL), ('text', 'x'), ('most', 9223372036854775807)")
    equal(one(c, incr, "null", 3), 3, "NULL counts as 0")
    verdict("no number" in one(c, incr, "text", 1), "a text is refused")
    verdict("overflow" in one(c, incr, "most", 1), "a sum beyond 64 bits is refused")
    equal(one(c, "SELECT value FROM t WHERE key = 'most'"), 9223372036854775807,
          "and nothing is changed then")
    verdict("number" in one(c, incr, "a", "1"), "what is added must be a number")
    equal(one(c, cas, "lock", None, "me"), 1, "NULL to a value inserts")
    equal(one(c, cas, "lock", None, "you"), 0, "but only where there is no row")
    equal(one(c, cas, "lock", "you", "x"), 0, "another value is not replaced")
    equal(one(c, cas, "lock", "me", "you"), 1, "the expected one is")
    equal(one(c, "SELECT value FROM t WHERE key = 'lock'"), "you", "the row has the new one")
    equal(one(c, cas, "lock", "me", None), 0, "another value is not deleted")
    equal(one(c, cas, "lock", "you", None), 1, "the expected one is")
    equal(one(c, "SELECT count(*) FROM t WHERE key = 'lock'"), 0, "the row is gone")
    equal(one(c, cas, "lock", None, None), 1, "no row is no row")
    equal(one(c, cas, "text", None, None), 0, "a row is none")
    equal(one(c, cas, "text", b"x", "y"), 0, "a blob is no text")
    equal(one(c, "SELECT sum(armdb_incr('t', 'row' || value, value)) FROM json_each('[1,2,3]')"),
          6, "once for each row of a SELECT")
    equal(one(c, "SELECT group_concat(key || value) FROM t WHERE key GLOB 'row*'"),
          "row11,row22,row33", "each has its own row")


def columns():
    c = con()
    c.execute("CREATE VIRTUAL TABLE two USING armdb(k TEXT PRIMARY KEY, a, \"b \"\"c\" TEXT "
              "COLLATE NOCASE, path=':memory:')")
    c.execute("CREATE VIRTUAL TABLE pair USING armdb(a, b, v, PRIMARY KEY(a, b), path=':memory:')")
    c.execute("CREATE TABLE native(k PRIMARY KEY, v)")
    verdict("name one" in one(c, "SELECT armdb_incr('two', 'k', 1)"),
            "with several columns one is to be named")
    equal(one(c, "SELECT armdb_incr('two', 'k', 1, 'a')"), 1, "and then it is taken")
    equal(one(c, "SELECT armdb_cas('two', 'k', NULL, 'Word', 'b \"c')"), 1, "whatever its name")
    equal(one(c, "SELECT armdb_cas('two', 'k', 'WORD', 'other', 'b \"c')"), 1,
          "values are compared by the column's collation")
    equal(one(c, "SELECT a FROM two"), 1, "the other column is as it was")
    verdict("no column" in one(c, "SELECT armdb_incr('two', 'k', 1, 'none')"),
            "a column that is not there is named")
    verdict("key of 2" in one(c, "SELECT armdb_incr('pair', 1, 1)"), "a composite key is refused")
    verdict("not an armdb table" in one(c, "SELECT armdb_incr('native', 1, 1)"),
            "a native table is refused")
    verdict("NOT NULL" in one(c, "SELECT armdb_incr('two', NULL, 1, 'a')"),
            "a NULL key fails as in an INSERT")
    verdict("is wanted" in one(c, "SELECT armdb_incr('two', 'k')"), "the inner form is closed")
    c.execute("CREATE VIEW v AS SELECT armdb_incr('two', 'k', 1, 'a')")
    verdict("unsafe" in one(c, "SELECT * FROM v"), "a view cannot call it")
    c.execute("CREATE VIRTUAL TABLE temp.c USING armdb(path=':memory:')")
    equal(one(c, "SELECT armdb_incr('temp.c', 'x', 7)"), 7, "schema.table is found")


def transactions():
    c = con("tx.db")
    c.execute("PRAGMA journal_mode=WAL")
    c.execute("CREATE VIRTUAL TABLE t USING armdb")
    other = con("tx.db")
    get = "SELECT value FROM t WHERE key = 'n'"
    c.execute("BEGIN")
    equal(one(c, "SELECT armdb_incr('t', 'n', 5)"), 5, "inside BEGIN")
    equal(one(other, "SELECT count(*) FROM t"), 0, "others see nothing before COMMIT")
    c.execute("SAVEPOINT s")
    equal(one(c, "SELECT armdb_incr('t', 'n', 5)"), 10, "inside a savepoint")
    c.execute("ROLLBACK TO s")
    equal(one(c, get), 5, "ROLLBACK TO takes it back")
    c.execute("COMMIT")
    equal(one(other, get), 5, "COMMIT publishes it")
    c.execute("BEGIN")
    one(c, "SELECT armdb_cas('t', 'n', 5, 6)")
    c.execute("ROLLBACK")
    equal(one(c, get), 5, "ROLLBACK undoes it")
    c.execute("BEGIN")
    one(c, get)
    one(other, "SELECT armdb_incr('t', 'n', 1)")
    verdict("locked" in one(c, "SELECT armdb_incr('t', 'n', 1)")
            or "changed" in one(c, "SELECT armdb_incr('t', 'n', 1)"),
            "after an older read the transaction must begin again")
    c.execute("ROLLBACK")
    equal(one(c, "SELECT armdb_incr('t', 'n', 1)"), 7, "and then sees both")
    c.execute("CREATE VIRTUAL TABLE log USING armdb(k INTEGER PRIMARY KEY, v)")
    c.execute("INSERT INTO log SELECT 1, armdb_incr('t', 'n', 1)")
    equal(one(c, "SELECT v FROM log"), 8, "inside an INSERT")
    try:
        c.execute("INSERT INTO log SELECT 1, armdb_incr('t', 'n', 1)")
    except sqlite3.IntegrityError:
        pass
    equal(one(c, get), 8, "a statement that fails undoes its increment")
    c.close()
    other.close()
    c = con("tx.db")
    equal(one(c, get), 8, "all of it is there after reopening")


def run_threads(work):
    errors = []

    def guarded(number):
        try:
            work(number)
        except Exception as e:  # noqa: shown below
            errors.append("%s: %s" % (type(e).__name__, e))

    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def contention():
    keeper = con()
    create = ("CREATE VIRTUAL TABLE temp.t USING armdb(key PRIMARY KEY, value, "
              "path='%s', sync=off)" % os.path.join(W, "shared"))
    keeper.execute(create)
    sums = [set() for _ in range(THREADS)]

    def increments(number):
        c = con()
        c.execute(create)
        for i in range(STEPS):
            sums[number].add(c.execute("SELECT armdb_incr('t', 'n', 1)").fetchone()[0])

    errors = run_threads(increments)
    equal(errors, [], "%d threads add: none fails" % THREADS)
    equal(one(keeper, "SELECT value FROM t WHERE key = 'n'"), THREADS * STEPS,
          "no increment is lost")
    equal(len(set().union(*sums)), THREADS * STEPS, "no sum is given twice")

    def swaps(number):
        c = con()
        c.execute(create)
        done = 0
        while done < STEPS // 4:
            row = c.execute("SELECT value FROM t WHERE key = 's'").fetchone()
            old = row[0] if row else None
            done += c.execute("SELECT armdb_cas('t', 's', ?, ?)",
                              (old, (old or 0) + 1)).fetchone()[0]

    errors = run_threads(swaps)
    equal(errors, [], "%d threads swap: none fails" % THREADS)
    equal(one(keeper, "SELECT value FROM t WHERE key = 's'"), THREADS * (STEPS // 4),
          "each swap that was answered with 1 counts once")

    taken = []

    def once(number):
        c = con()
        c.execute(create)
        for i in range(50):
            if c.execute("SELECT armdb_cas('t', ?, NULL, ?)",
                         ("lock%d" % i, number)).fetchone()[0]:
                taken.append(i)

    errors = run_threads(once)
    equal(errors, [], "%d threads insert: none fails" % THREADS)
    equal(sorted(taken), list(range(50)), "each row is inserted by one of them")


try:
    values()
    columns()
    transactions()
    contention()
finally:
    shutil.rmtree(W, ignore_errors=True)
sys.exit(1 if fails else 0)

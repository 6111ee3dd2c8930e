#!/usr/bin/python3
"""Every plan, by its text in EXPLAIN QUERY PLAN and by what it touched: the nodes of the
index and the values read, as armdb_stat() counts them. A plan that scans where it should
seek touches too many and fails. Each query's rows are those of a native table.

    plans.py [EXTENSION]      (also: environment ARMDB_EXTENSION or ARMDB_VTAB)

Prints "ok - ..." and "not ok - ..." lines.
"""
import os
import sqlite3
import sys

SO = (sys.argv[1] if len(sys.argv) > 1 else os.environ.get("ARMDB_EXTENSION")
      or os.environ.get("ARMDB_VTAB") or "./armdb_vtab")
ROWS = 20000
BATCH = 16  # nodes that a cursor asks for at first
fails = 0


def verdict(good, text):
    global fails
    print("ok - " + text if good else "not ok - " + text)
    fails += 0 if good else 1


def open_both():
    c = sqlite3.connect(":memory:", isolation_level=None)
    c.enable_load_extension(True)
    c.load_extension(os.path.abspath(SO))
    tables = {
        "k": ("k TEXT PRIMARY KEY, v", "printf('%05d', i), i * 7"),
        "i": ("k INTEGER PRIMARY KEY, v", "i, i * 7"),
        "n": ("k TEXT COLLATE NOCASE PRIMARY KEY, v", "printf('Name%05d', i), i"),
        "c": ("a TEXT, b INTEGER, v, PRIMARY KEY(a, b DESC)",
              "printf('%03d', i / 100), i % 100, i"),
        # A key whose order is not its column's.
        "x": ("k TEXT, v, PRIMARY KEY(k COLLATE NOCASE)",
              "printf('%c%05d', 65 + i % 2 * 32, i), i"),
    }
    for name, (columns, select) in tables.items():
        c.execute("CREATE VIRTUAL TABLE temp.%s USING armdb(%s, path=':memory:')"
                  % (name, columns))
        # A rowid table would give its rows another order where none is asked for.
        c.execute("CREATE TABLE native_%s(%s) WITHOUT ROWID" % (name, columns))
        for table in (name, "native_" + name):
            c.execute("WITH RECURSIVE r(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM r "
                      "LIMIT %d) INSERT INTO %s SELECT %s FROM r" % (ROWS, table, select))
    c.execute("CREATE TABLE few(x)")
    c.executemany("INSERT INTO few VALUES (?)", [("%05d" % i,) for i in (7, 70, 700)])
    return c


def counters(c, table):
    return dict(c.execute("SELECT name, value FROM armdb_stat(?) WHERE name IN "
                          "('nodes_touched', 'values_read')", (table,)))


def check(c, sql, plan, nodes, values, parameters=()):
    """`{}` in sql stands for the table's name prefix; nodes and values are maxima."""
    ours = sql.format("")
    table = ours.split("FROM ")[1].split()[0].split("(")[0]
    want = c.execute(sql.format("native_"), parameters).fetchall()
    detail = [row[3] for row in c.execute("EXPLAIN QUERY PLAN " + ours, parameters)]
    before = counters(c, table)
    got = c.execute(ours, parameters).fetchall()
    after = counters(c, table)
    touched = after["nodes_touched"] - before["nodes_touched"]
    read = after["values_read"] - before["values_read"]
    shown = any(line.endswith("armdb: " + plan) for line in detail)
    good = got == want and shown and touched <= nodes and read <= values
    verdict(good, "%s: %s" % (ours, plan))
    if not good:
        print("  plan: %s\n  nodes %d (at most %d), values %d (at most %d), rows %s"
              % (detail, touched, nodes, read, values, "right" if got == want else
                 "%s instead of %s" % (got[:5], want[:5])))


def prefix_form(c):
    """t('prefix') has no native counterpart: compared with GLOB there."""
    before = counters(c, "k")
    got = c.execute("SELECT * FROM k('0012')").fetchall()
    after = counters(c, "k")
    want = c.execute("SELECT * FROM native_k WHERE k GLOB '0012*'").fetchall()
    detail = c.execute("EXPLAIN QUERY PLAN SELECT * FROM k('0012')").fetchall()[0][3]
    verdict(got == want and detail.endswith("armdb: range k(k STARTS WITH ?)")
            and after["nodes_touched"] - before["nodes_touched"] <= 10 + BATCH,
            "t('prefix') seeks")


def hidden_columns(c):
    before = counters(c, "k")
    sizes = c.execute("SELECT sum(_size), min(_seq) > 0 FROM k").fetchone()
    after = counters(c, "k")
    verdict(sizes[0] > 0 and sizes[1] == 1
            and after["values_read"] == before["values_read"],
            "_size and _seq read no value")


def join_order(c):
    """The smaller side is outside, whichever is named first."""
    c.execute("ANALYZE")
    for sql in ("SELECT count(*) FROM few, k WHERE k.k = few.x",
                "SELECT count(*) FROM k, few WHERE k.k = few.x"):
        before = counters(c, "k")
        got = c.execute(sql).fetchone()[0]
        after = counters(c, "k")
        verdict(got == 3 and after["nodes_touched"] - before["nodes_touched"] <= 3 + BATCH,
                sql + ": three look-ups")


def main():
    c = open_both()
    print("# SQLite " + sqlite3.sqlite_version)

    # Points and lists. That no key column is NULL, SQLite knows by itself.
    check(c, "SELECT * FROM {}k WHERE k = '00123'", "point k(k=?)", 1, 1)
    check(c, "SELECT * FROM {}k WHERE k IS ?", "point k(k=?)", 1, 1, ("00123",))
    check(c, "SELECT k FROM {}k WHERE k = '00123'", "point k(k=?) keys-only", 1, 0)
    check(c, "SELECT * FROM {}k WHERE k = 'absent'", "point k(k=?)", 0, 0)
    check(c, "SELECT * FROM {}k WHERE k IN ('00005', 'absent', '00003')",
          "in k(k IN (?))", 3, 2)
    check(c, "SELECT * FROM {}k WHERE k IN (SELECT value FROM json_each(?))",
          "in k(k IN (?))", 3, 3, ('["00005","00003","00004"]',))
    check(c, "SELECT * FROM {}c WHERE a = '007' AND b = 5", "point c(a=? AND b=?)", 1, 1)
    check(c, "SELECT * FROM {}c WHERE a = '007' AND b IN (1, 2)",
          "in c(a=? AND b IN (?))", 2, 2)
    check(c, "SELECT * FROM {}c WHERE b IS NULL", "scan c", 0, 0)

    # Ranges.
    check(c, "SELECT * FROM {}k WHERE k >= '00100' AND k < '00110'",
          "range k(k>=? AND k<?)", 10 + BATCH, 10)
    check(c, "SELECT * FROM {}k WHERE k BETWEEN '00100' AND '00109'",
          "range k(k>=? AND k<=?)", 10 + BATCH, 10)
    check(c, "SELECT * FROM {}i WHERE k > 19990", "range i(k>?)", 9 + BATCH, 9)
    check(c, "SELECT k FROM {}i WHERE k <= 9", "range i(k<=?) keys-only", 10 + BATCH, 0)
    check(c, "SELECT * FROM {}c WHERE a = '007'", "range c(a=?)", 2 * 100 + BATCH, 100)
    check(c, "SELECT * FROM {}c WHERE a = '007' AND b > 90",
          "range c(a=? AND b>?)", 9 + BATCH, 9)
    check(c, "SELECT * FROM {}c WHERE a IN ('007', '009') AND b >= 95",
          "range c(a IN (?) AND b>=?)", 2 * (5 + BATCH), 10)
    check(c, "SELECT * FROM {}k WHERE k > 'b' AND k < 'a'", "range k(k>? AND k<?)", 0, 0)

    # Patterns. One that begins like a number, or comes from an expression, has a range
    # all the same.
    check(c, "SELECT * FROM {}n WHERE k LIKE 'name0012%'", "range n(k>=? AND k<?)",
          10 + BATCH, 10)
    check(c, "SELECT * FROM {}k WHERE k GLOB '0012*'", "range k(k GLOB ?)", 10 + BATCH, 10)
    check(c, "SELECT * FROM {}k WHERE k GLOB '001[2-3]5'", "range k(k GLOB ?)",
          2 * 100 + BATCH, 2)
    check(c, "SELECT * FROM {}k WHERE k GLOB printf('%s*', ?)", "range k(k GLOB ?)",
          10 + BATCH, 10, ("0012",))
    check(c, "SELECT * FROM {}k WHERE k GLOB ?", "range k(k GLOB ?)", 10 + BATCH, 10,
          ("0012?",))
    check(c, "SELECT * FROM {}k WHERE k GLOB NULL", "range k(k GLOB ?)", 0, 0)

    # Order.
    check(c, "SELECT * FROM {}k ORDER BY k DESC LIMIT 5", "scan k reverse", BATCH, 5)
    check(c, "SELECT max(k) FROM {}k", "scan k reverse keys-only", BATCH, 0)
    check(c, "SELECT min(k) FROM {}k", "scan k keys-only", BATCH, 0)
    check(c, "SELECT * FROM {}c WHERE a = '007' ORDER BY b DESC LIMIT 3", "range c(a=?)",
          BATCH, 3)
    check(c, "SELECT * FROM {}c WHERE a = '007' ORDER BY b LIMIT 3",
          "range c(a=?) reverse", BATCH, 3)
    check(c, "SELECT * FROM {}k WHERE k < '00100' ORDER BY k DESC LIMIT 2",
          "range k(k<?) reverse", BATCH, 2)
    check(c, "SELECT a, count(*) FROM {}c GROUP BY a", "scan c keys-only", ROWS, 0)
    check(c, "SELECT DISTINCT a FROM {}c WHERE a < '003'", "range c(a<?) keys-only",
          2 * 300 + BATCH, 0)
    check(c, "SELECT count(*) FROM {}k", "scan k keys-only", ROWS, 0)
    check(c, "SELECT sum(v) FROM {}k", "scan k", ROWS, ROWS)
    sorts = [row[3] for row in c.execute(
        "EXPLAIN QUERY PLAN SELECT * FROM c ORDER BY a DESC, b")]
    verdict(not any("TEMP B-TREE" in line for line in sorts), "both directions at once: "
            "nothing is sorted")

    prefix_form(c)
    hidden_columns(c)
    join_order(c)

    check(c, "SELECT * FROM {}x WHERE v < 100 ORDER BY k", "scan x", ROWS, 200 + ROWS)
    check(c, "SELECT * FROM {}x WHERE k = 'a00001' COLLATE NOCASE", "point x(k=?)", 1, 1)
    sorts = [row[3] for row in c.execute("EXPLAIN QUERY PLAN SELECT * FROM x ORDER BY k")]
    verdict(any("TEMP B-TREE" in line for line in sorts),
            "a key of another collation than its column's does not sort it")

    # An application's own glob() is asked, row by row.
    c.create_function("glob", 2, lambda pattern, text: text.endswith("77"))
    check(c, "SELECT * FROM {}k WHERE k GLOB '0012*'", "scan k", ROWS, ROWS)
    return 1 if fails else 0


sys.exit(main())

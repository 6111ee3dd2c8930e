#!/usr/bin/python3
"""armdb_list: listings of random sets of keys against a model in Python, pages, what a
transaction sees, and what a listing costs, by armdb_stat's counters.

    list.py [EXTENSION]      (also: environment ARMDB_EXTENSION or ARMDB_VTAB; SEED, ROUNDS)

Prints "ok - ..." and "not ok - ..." lines.
"""
import os
import random
import sqlite3
import sys
import tempfile

SO = (sys.argv[1] if len(sys.argv) > 1 else os.environ.get("ARMDB_EXTENSION")
      or os.environ.get("ARMDB_VTAB") or "./armdb_vtab")
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 30))
ROUNDS = int(os.environ.get("ROUNDS") or 400)
fails = 0


def verdict(good, text, *details):
    global fails
    print("ok - " + text if good else "not ok - " + text)
    if not good:
        for detail in details:
            print("  %s" % (detail,))
        fails += 1


def connect(path=":memory:"):
    c = sqlite3.connect(path, isolation_level=None)
    c.enable_load_extension(True)
    c.load_extension(os.path.abspath(SO))
    return c


def fails_with(c, text, sql, *parameters):
    try:
        c.execute(sql, parameters).fetchall()
    except sqlite3.Error as e:
        return text in str(e)
    return False


# ---- The model: keys as (type, bytes), numbers as (0, number) ------------------------

def rank(value):
    """A value as Python orders it as SQLite does."""
    if isinstance(value, (int, float)):
        return (0, value)
    if isinstance(value, str):
        return (1, value.encode())
    return (2, bytes(value))


def value_of(ranked):
    kind, data = ranked
    return data if kind == 0 else data.decode() if kind == 1 else data


def model(keys, prefix, delimiter, start_after):
    """Rows (name, is_prefix, key, count), all of them ranked, in the order of key."""
    rows = {}
    cut = b"/" if delimiter is None else rank(delimiter)[1]
    for key in keys:
        kind, data = rank(key)
        skip = 0
        if prefix is not None:
            want, head = rank(prefix)
            if kind != want or not data.startswith(head):
                continue
            skip = len(head)
        is_prefix = 0
        if kind != 0 and cut:
            at = data.find(cut, skip)
            if at >= 0:
                is_prefix = 1
                data = data[:at + len(cut)]
        entry = (kind, data)
        if start_after is not None and entry <= rank(start_after):
            continue
        name = entry if kind == 0 else (kind, data[skip:])
        old = rows.get(entry)
        rows[entry] = (name, is_prefix, entry, 1 if old is None else old[3] + 1)
    return [rows[entry] for entry in sorted(rows)]


def listing(c, table, prefix, delimiter, start_after, tail=""):
    sql = ("SELECT name, is_prefix, key, count FROM armdb_list(?, ?, ?, ?)" + tail)
    rows = c.execute(sql, (table, prefix, delimiter, start_after)).fetchall()
    return [(rank(name), is_prefix, rank(key), count)
            for name, is_prefix, key, count in rows]


# ---- Random keys -------------------------------------------------------------------

TEXTS = ["a", "b", "/", "//", "é", "\0", "\x01", "", "ab", "::", ":", "é/", "A", "\x7f"]
BLOBS = [b"a", b"\xff", b"\x00", b"\x01", b"/", b"", b"\xff\xff", b"\xfe"]


def random_bytes(random_of, pieces):
    joined = [random_of.choice(pieces) for _ in range(random_of.randrange(7))]
    return pieces[0][:0].join(joined)


def random_key(random_of, kinds):
    kind = random_of.choice(kinds)
    if kind == "text":
        return random_bytes(random_of, TEXTS)
    if kind == "blob":
        return random_bytes(random_of, BLOBS)
    return random_of.choice([0, 1, -1, 2.5, -2.5, 10 ** 15, 7])


SHAPES = [  # columns, kinds of keys, what is inserted besides the key
    ("k TEXT PRIMARY KEY, v", ["text"], 0),
    ("k BLOB PRIMARY KEY, v", ["blob"], 0),
    ("k PRIMARY KEY, v", ["text", "blob", "number"], 0),
    ("k TEXT, v, PRIMARY KEY(k DESC)", ["text", "blob"], 0),
    ("k TEXT, n INTEGER, v, PRIMARY KEY(k, n)", ["text"], 3),
    ("k, n INTEGER, v, PRIMARY KEY(k DESC, n)", ["text", "blob", "number"], 3),
    ("n INTEGER, k TEXT, v, PRIMARY KEY(k, n DESC)", ["text"], 3),
]


def random_round(c, random_of, round_no):
    """One random table, listed in many ways. Returns what differed, or None."""
    columns, kinds, numbers = random_of.choice(SHAPES)
    keys = set()
    c.execute("CREATE VIRTUAL TABLE temp.r USING armdb(%s, path=':memory:')" % columns)
    for _ in range(random_of.choice([0, 1, 5, 30, 300])):
        key = random_key(random_of, kinds)
        number = random_of.randrange(numbers) if numbers else 0
        rows = "(k, n, v) VALUES (?1, ?2, 1)" if numbers else "(k, v) VALUES (?1, ?2)"
        c.execute("INSERT OR REPLACE INTO r" + rows, (key, number))
        keys.add((rank(key), number))
    for ranked, number in random_of.sample(sorted(keys), len(keys) // 4):
        c.execute("DELETE FROM r WHERE k = ?" + (" AND n = ?" if numbers else ""),
                  (value_of(ranked), number) if numbers else (value_of(ranked),))
        keys.discard((ranked, number))
    keys = [value_of(ranked) for ranked, _ in keys]
    for _ in range(30):
        pieces = TEXTS if random_of.random() < 0.6 else BLOBS
        prefix = random_of.choice([None, random_bytes(random_of, pieces)[:3]])
        delimiter = random_of.choice([None, "/", "", "::", "é", "a", b"\xff", b"\0",
                                      "absent"])
        start = random_of.choice([None, None, random_key(random_of, kinds)]
                                 + keys[:20])
        want = model(keys, prefix, delimiter, start)
        question = (prefix, delimiter, start)
        backwards = random_of.random() < 0.5
        tail = (" ORDER BY key DESC" if backwards else
                random_of.choice(["", " ORDER BY key", " ORDER BY name"]))
        got = listing(c, "r", *question, tail)
        if got != (want[::-1] if backwards else want):
            return (round_no, columns, sorted(map(rank, keys)), question, tail, got, want)
        # The same without counts: then groups are skipped.
        names = c.execute("SELECT name, is_prefix, key FROM armdb_list('r', ?, ?, ?)"
                          + tail, question).fetchall()
        names = [(rank(n), p, rank(k)) for n, p, k in names]
        if names != [row[:3] for row in got]:
            return (round_no, columns, sorted(map(rank, keys)), question, tail, names, got)
        # Pages.
        size = random_of.choice([1, 2, 3, 10])
        pages = []
        while len(pages) < len(want) + 10:
            page = listing(c, "r", prefix, delimiter, start, " LIMIT %d" % size)
            if not page:
                break
            pages += page
            start = value_of(page[-1][2])
        if pages != want:
            return (round_no, columns, sorted(map(rank, keys)), question, size, pages, want)
        # LIMIT and OFFSET, also where another term drops rows.
        offset = random_of.randrange(4)
        tail = " WHERE is_prefix = 0 LIMIT %d OFFSET %d" % (size, offset)
        got = listing(c, "r", *question, tail)
        if got != [row for row in want if row[1] == 0][offset:offset + size]:
            return (round_no, columns, sorted(map(rank, keys)), question, tail, got, want)
    c.execute("DROP TABLE r")
    return None


def random_rounds():
    random_of = random.Random(SEED)
    c = connect()
    rows = 0
    for round_no in range(ROUNDS):
        wrong = random_round(c, random_of, round_no)
        rows += 1
        if wrong is not None:
            verdict(False, "random listings are the model's (SEED=%d)" % SEED, *wrong)
            return
    verdict(rows == ROUNDS, "random listings are the model's, %d tables (SEED=%d)"
            % (rows, SEED))


# ---- By hand -------------------------------------------------------------------------

KEYS = ["", "/", "/a", "a", "a/", "a/b", "a/b/c", "a/d", "ab", "b/\0/d", "b//c", "c"]


def make_table(c, name="t", keys=KEYS, columns="k TEXT PRIMARY KEY, v"):
    c.execute("CREATE VIRTUAL TABLE temp.%s USING armdb(%s, path=':memory:')"
              % (name, columns))
    c.executemany("INSERT INTO %s(k, v) VALUES (?, 1)" % name, [(k,) for k in keys])


def by_hand():
    c = connect()
    make_table(c)

    def names(*arguments):
        marks = ", ".join("?" * len(arguments))
        return [row[0] for row in c.execute(
            "SELECT name FROM armdb_list('t'%s%s)" % (", " if marks else "", marks),
            arguments)]

    verdict(names() == ["", "/", "a", "a/", "ab", "b/", "c"],
            "nothing but the table: the top, by '/'", names())
    verdict(names("a/") == ["", "b", "b/", "d"], "a key that is the prefix has no name",
            names("a/"))
    verdict(names("a") == ["", "/", "b"], "a delimiter right behind the prefix",
            names("a"))
    verdict(names("b/") == ["\0/", "/"], "two delimiters in a row, and a NUL",
            names("b/"))
    verdict(names("", "") == KEYS, "no delimiter: every key")
    verdict(names("nothing") == [] and names("a/b/c/d") == [],
            "a prefix that no key has")
    verdict(names("", "/", "a/b/c") == ["ab", "b/", "c"],
            "a start inside of a group: the group lies before it")
    verdict(names("", "/", "a") == ["a/", "ab", "b/", "c"], "a start at a key")
    verdict(names("a/", "/", "Z") == ["", "b", "b/", "d"]
            and names("a/", "/", "b") == [], "a start before or behind the prefix")
    verdict(names("", "/", b"") == [] and names("", "/", 5) == ["a", "a/", "ab", "b/", "c"],
            "a blob lies behind all texts; a number is its text in a TEXT column")
    named = c.execute("SELECT name, prefix, delimiter, start_after, tbl FROM armdb_list "
                      "WHERE prefix = 'a/' AND delimiter = '/' AND start_after = 'a/b' "
                      "AND tbl = 't'").fetchall()
    verdict(named == [("b/", "a/", "/", "a/b", "t"), ("d", "a/", "/", "a/b", "t")],
            "arguments by name", named)
    verdict(names(None, None, None) == names(), "NULL is as good as not given")
    verdict(c.execute("SELECT * FROM armdb_list(NULL)").fetchall() == [],
            "no table, no rows")
    verdict(c.execute("SELECT * FROM armdb_list('t', 'a/')").fetchall()
            == [("", 0, "a/"), ("b", 0, "a/b"), ("b/", 1, "a/b/"), ("d", 0, "a/d")],
            "name, is_prefix, key; count is hidden")
    verdict(c.execute("SELECT name, count FROM armdb_list('t', '') WHERE count > 1 "
                      "ORDER BY count DESC, name").fetchall()
            == [("a/", 4), ("/", 2), ("b/", 2)], "count, where it is asked for")
    deep = c.execute(
        "WITH RECURSIVE d(key, is_prefix) AS (SELECT '', 1 UNION ALL SELECT l.key, "
        "l.is_prefix FROM d, armdb_list('t', d.key, '/') AS l WHERE d.is_prefix) "
        "SELECT key FROM d WHERE NOT is_prefix ORDER BY key").fetchall()
    verdict([row[0] for row in deep] == KEYS, "the whole tree, folder by folder", deep)
    both = c.execute("SELECT x.name, y.name FROM armdb_list('t', 'a/') AS x, "
                     "armdb_list('t', x.key) AS y WHERE x.is_prefix").fetchall()
    verdict(both == [("b/", "c")], "two listings in one statement", both)
    plan = c.execute("EXPLAIN QUERY PLAN SELECT * FROM armdb_list('t', 'a', '/', 'b') "
                     "ORDER BY key DESC").fetchall()
    verdict(len(plan) == 1 and plan[0][3].endswith(
        "armdb: list(tbl=? AND prefix=? AND delimiter=? AND start_after=?) reverse"),
        "the plan says it in words, and sorts nothing", plan)


def refusals():
    c = connect()
    make_table(c, "n", [], "k TEXT COLLATE NOCASE PRIMARY KEY, v")
    make_table(c, "i", [], "b INTEGER, k TEXT, v, PRIMARY KEY(b, k)")
    make_table(c, "o", [1, 2], "k INTEGER PRIMARY KEY, v")
    c.execute("CREATE TABLE native(k)")
    verdict(fails_with(c, "column k is not of collation BINARY",
                       "SELECT * FROM armdb_list('n', '')"), "NOCASE is refused")
    verdict(fails_with(c, "b is of type INTEGER", "SELECT * FROM armdb_list('i', '')"),
            "a composite key that begins with a number is refused")
    verdict(fails_with(c, "wants the name of a table", "SELECT * FROM armdb_list"),
            "no arguments")
    verdict(fails_with(c, "native is not an armdb table",
                       "SELECT * FROM armdb_list('native', '')"), "an ordinary table")
    verdict(fails_with(c, "no such table: nobody",
                       "SELECT * FROM armdb_list('nobody', '')"), "no such table")
    verdict(c.execute("SELECT key FROM armdb_list('o')").fetchall() == [(1,), (2,)]
            and c.execute("SELECT key FROM armdb_list('o', '')").fetchall() == [],
            "numbers are listed without a prefix only")
    c.execute("CREATE TEMP VIEW v AS SELECT name FROM armdb_list('o')")
    verdict(fails_with(connect_with_view(), "unsafe use", "SELECT * FROM v"),
            "a view of the database's schema cannot list")


def connect_with_view():
    c = connect()
    c.execute("CREATE VIEW v AS SELECT name FROM armdb_list('o')")
    return c


def transactions(folder):
    path = os.path.join(folder, "db")
    a = connect(path)
    a.execute("PRAGMA journal_mode=WAL")
    a.execute("CREATE VIRTUAL TABLE t USING armdb(k TEXT PRIMARY KEY, v)")
    a.execute("INSERT INTO t VALUES ('x/1', 1), ('y/1', 1)")
    b = connect(path)

    def names(c, prefix=""):
        return [tuple(row) for row in c.execute(
            "SELECT name, count FROM armdb_list('t', ?)", (prefix,))]

    a.execute("BEGIN")
    a.execute("INSERT INTO t VALUES ('x/2', 1), ('z/1', 1)")
    a.execute("DELETE FROM t WHERE k = 'y/1'")
    verdict(names(a) == [("x/", 2), ("z/", 1)] and names(b) == [("x/", 1), ("y/", 1)],
            "own writes are seen, others' are not", names(a), names(b))
    a.execute("SAVEPOINT s")
    a.execute("DELETE FROM t")
    gone = names(a)
    a.execute("ROLLBACK TO s")
    verdict(gone == [] and names(a) == [("x/", 2), ("z/", 1)], "ROLLBACK TO is seen")
    a.execute("COMMIT")
    b.execute("BEGIN")
    first = names(b)
    a.execute("INSERT INTO t VALUES ('w/1', 1)")
    same = b.execute("SELECT (SELECT count(*) FROM t), (SELECT sum(count) FROM "
                     "armdb_list('t'))").fetchone()
    verdict(names(b) == first == [("x/", 2), ("z/", 1)] and same == (3, 3),
            "a transaction keeps its moment, the table's", names(b), same)
    b.execute("COMMIT")
    verdict(names(b)[0] == ("w/", 1), "and sees the new one afterwards")

    # The rows that an INSERT makes from a listing are not listed by it.
    b.execute("INSERT INTO t SELECT l.key || n.value, 1 FROM json_each('[7,8,9]') AS n, "
              "armdb_list('t', '') AS l")
    verdict(names(b) == [("w/", 4), ("x/", 5), ("z/", 4)],
            "INSERT from a listing of the same table ends", names(b))

    rows = b.execute("SELECT name FROM armdb_list('t', '')")
    first = rows.fetchone()
    verdict(first == ("w/",) and fails_with(b, "locked", "DROP TABLE t"),
            "DROP TABLE under a listing is refused")
    b.execute("DELETE FROM t WHERE k GLOB 'x/*'")
    verdict(rows.fetchall() == [("x/",), ("z/",)], "an open listing keeps its rows")
    b.execute("DROP TABLE t")
    verdict(fails_with(b, "no such table", "SELECT * FROM armdb_list('t', '')"),
            "after it, it goes")
    a.close()
    b.close()


def rolled_back_under_a_listing():
    c = connect()
    make_table(c, keys=["a/%d" % i for i in range(10)] + ["b/1", "c/1", "d/1"])
    c.execute("BEGIN")
    c.execute("INSERT INTO t VALUES ('b/0', 1), ('e/1', 1)")
    c.execute("SAVEPOINT s")
    c.execute("INSERT INTO t SELECT 'cc/' || value, 1 FROM json_each('[1,2,3]')")
    rows = c.execute("SELECT name FROM armdb_list('t')")
    got = [rows.fetchone()]
    c.execute("ROLLBACK TO s")
    got += rows.fetchall()
    verdict(got == [("a/",), ("b/",), ("c/",), ("d/",), ("e/",)],
            "a listing goes on through ROLLBACK TO", got)
    c.execute("ROLLBACK")


def costs():
    """What is touched depends on the rows, not on the keys behind them."""
    c = connect()
    c.execute("CREATE VIRTUAL TABLE temp.t USING armdb(k TEXT PRIMARY KEY, v, "
              "path=':memory:')")
    c.execute("WITH RECURSIVE r(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM r LIMIT "
              "40000) INSERT INTO t SELECT printf('b%02d/%04d/x', i % 20, i / 20), "
              "zeroblob(300) FROM r")

    def touched(sql, *parameters):
        def counters():
            return dict(c.execute("SELECT name, value FROM armdb_stat('t') WHERE name "
                                  "IN ('nodes_touched', 'values_read')"))
        before = counters()
        rows = c.execute(sql, parameters).fetchall()
        after = counters()
        return (len(rows), after["nodes_touched"] - before["nodes_touched"],
                after["values_read"] - before["values_read"])

    for what, rows, nodes, sql in (
            ("20 groups of 2,000 keys", 20, 200, "SELECT * FROM armdb_list('t')"),
            ("the same backwards", 20, 200,
             "SELECT * FROM armdb_list('t') ORDER BY key DESC"),
            ("2,000 groups of one key", 2000, 2500,
             "SELECT * FROM armdb_list('t', 'b07/')"),
            ("a page of three", 3, 30,
             "SELECT * FROM armdb_list('t', '', '/', 'b10/') LIMIT 3"),
            ("one row", 1, 2, "SELECT * FROM armdb_list('t', 'b05/', '/') LIMIT 1"),
            ("nothing there", 0, 8, "SELECT * FROM armdb_list('t', 'b055')"),
            ("all keys counted", 20, 60000, "SELECT name, count FROM armdb_list('t')")):
        got = touched(sql)
        verdict(got[0] == rows and got[1] <= nodes and got[2] == 0,
                "%s: at most %d nodes, no value" % (what, nodes), got)


def main():
    print("# SQLite " + sqlite3.sqlite_version)
    by_hand()
    refusals()
    with tempfile.TemporaryDirectory(prefix="armdb-list-") as folder:
        transactions(folder)
    rolled_back_under_a_listing()
    costs()
    random_rounds()
    return 1 if fails else 0


sys.exit(main())

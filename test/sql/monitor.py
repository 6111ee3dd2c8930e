"""armdb_stat and armdb_segments in SQL, and the views of sql/monitor.sql on live tables:
what they say is compared with what was done."""
import os
import re
import shutil
import sqlite3
import tempfile

SO = os.environ.get("ARMDB_VTAB", "build/release/armdb_vtab.so")[:-3]
FOLDER = tempfile.mkdtemp(prefix="armdb-monitor-")
SCRIPT = open("sql/monitor.sql", encoding="utf-8").read()
ROWS = 3000
VIEWS = ["armdb_overview", "armdb_health", "armdb_space", "armdb_segment_space",
         "armdb_latency", "armdb_write_amplification", "armdb_operations", "armdb_cache",
         "armdb_memory"]
fails = 0


def verdict(good, text, detail=None):
    global fails
    print("ok - " + text if good else "not ok - " + text)
    if not good:
        fails += 1
        print("  got: %r" % (detail,))


def equal(got, want, text):
    verdict(got == want, text, (got, "instead of", want))


def connect(name):
    c = sqlite3.connect(os.path.join(FOLDER, name) if name else ":memory:",
                        isolation_level=None)
    c.enable_load_extension(True)
    c.load_extension(os.path.abspath(SO))
    return c


def rows(c, sql, parameters=()):
    cursor = c.execute(sql, parameters)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row)) for row in cursor]


def stat(c, table):
    return dict(c.execute("SELECT name, value FROM armdb_stat(?)", (table,)))


def view(c, name, table):
    return rows(c, "SELECT * FROM %s WHERE table_name = ?" % name, (table,))


def without_tables():
    c = connect(None)
    c.execute("CREATE VIRTUAL TABLE f USING fts5(x)")
    c.executescript(SCRIPT)
    c.executescript(SCRIPT)
    for name in VIEWS:
        equal(rows(c, "SELECT * FROM " + name), [],
              name + " has no rows where there is no armdb table")
    equal(rows(c, "SELECT name FROM main.sqlite_schema WHERE type = 'view'"), [],
          "no view is left in the database")
    c.close()


def make_tables():
    c = connect("t.db")
    c.execute("CREATE VIRTUAL TABLE a USING armdb(k INTEGER PRIMARY KEY, v, "
              "segment_size='1M', path='store-a')")
    c.execute("CREATE VIRTUAL TABLE temp.m USING armdb(k TEXT PRIMARY KEY, v)")
    c.execute('CREATE VIRTUAL TABLE "odd name" USING armdb(k PRIMARY KEY, v)')
    c.execute("CREATE VIRTUAL TABLE f USING fts5(x)")
    c.execute("CREATE TABLE plain(x)")
    return c


def tables_and_arguments(c):
    equal([row["tbl"] for row in rows(c, "SELECT DISTINCT tbl FROM armdb_stat")],
          ["main.a", "main.odd name", "temp.m"],
          "without an argument armdb_stat shows every armdb table, and no other")
    for table in ("a", "main.a", "temp.m", "odd name", "main.odd name"):
        equal([tuple(r.values()) for r in rows(
            c, "SELECT name, unit, tbl FROM armdb_stat WHERE tbl = ?", (table,))],
              [tuple(r.values()) for r in rows(
                  c, "SELECT name, unit, ? FROM armdb_stat('a')", (table,))],
              "%s has the rows of any table" % table)
    equal(rows(c, "SELECT * FROM armdb_stat(NULL)"), [], "NULL is no table")
    for table in ("plain", "f", "none"):
        try:
            c.execute("SELECT * FROM armdb_segments(?)", (table,)).fetchall()
            verdict(False, "armdb_segments refuses " + table)
        except sqlite3.OperationalError as e:
            verdict(table in str(e), "armdb_segments refuses %s and names it" % table, e)
    equal(rows(c, "SELECT t.x, count(*) AS n FROM (SELECT 'a' AS x) AS t "
                  "JOIN armdb_stat(t.x)")[0]["x"], "a",
          "the argument may come from another table")


def names_in_readme(c):
    """README's table has every name once, with its unit."""
    text = open("README.md", encoding="utf-8").read()
    text = text[text.index("### armdb_stat\n"):text.index("### armdb_segments\n")]
    described = []
    for line in text.splitlines():
        row = re.match(r"\| ((?:`\w+`(?:, )?)+) \| (\w*) ?\|", line)
        if row:
            described += [(name, row.group(2))
                          for name in re.findall(r"`(\w+)`", row.group(1))]
    equal(sorted(described), sorted(tuple(r.values()) for r in rows(
        c, "SELECT name, unit FROM armdb_stat('a')")),
          "README has each statistic once, with its unit")


def counters(c):
    before = stat(c, "a")
    c.execute("WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r LIMIT %d) "
              "INSERT INTO a SELECT i, hex(randomblob(100)) FROM r" % ROWS)
    c.execute("UPDATE a SET v = 'short' WHERE k <= 1000")
    c.execute("DELETE FROM a WHERE k > 2900")
    for i in range(50):
        c.execute("SELECT v FROM a WHERE k = ?", (i,)).fetchall()
    c.execute("SELECT count(*) FROM (SELECT k FROM a LIMIT 1234)").fetchall()
    after = stat(c, "a")
    # armdb itself may write and read a row about the table when it is first used.
    for name, want in (("inserts", ROWS), ("puts", 1000), ("deletes", 100), ("commits", 3),
                       ("latency_commit_count", 3), ("gets", 50),
                       ("scan_steps", 1000 + 100 + 1234)):
        grown = after[name] - before[name]
        verdict(want <= grown <= want + 10, "%s grew by %d" % (name, want), grown)
    equal(after["keys"], 2900, "keys are the rows that are left")
    again = stat(c, "a")
    moved = [n for n in again if again[n] != after[n] and n != "uptime"
             and not n.startswith(("memory_process", "process_", "snapshot_oldest_age"))]
    equal(moved, [], "asking twice gives the same")
    verdict(isinstance(after["fragmentation"], float)
            and abs(after["fragmentation"] - after["bytes_dead"] /
                    (after["bytes_dead"] + after["bytes_live"])) < 1e-12,
            "fragmentation is the share of dead bytes", after["fragmentation"])


def views(c):
    c.executescript(SCRIPT)
    now = stat(c, "a")
    space = view(c, "armdb_space", "main.a")[0]
    equal((space["keys"], space["bytes_live"], space["bytes_dead"]),
          (now["keys"], now["bytes_live"], now["bytes_dead"]),
          "armdb_space agrees with armdb_stat")
    equal(space["bytes_live"] + space["bytes_dead"] + space["bytes_overhead"],
          space["bytes_log"], "its parts add up to the log")
    files = view(c, "armdb_segment_space", "main.a")
    equal((sum(f["segments"] for f in files), sum(f["bytes"] for f in files),
           sum(f["live_bytes"] for f in files), sum(f["dead_bytes"] for f in files)),
          (space["segments"], space["bytes_log"], space["bytes_live"],
           space["bytes_dead"]), "and so do the log files")
    latency = {row["what"]: row for row in view(c, "armdb_latency", "main.a")}
    equal(sorted(latency), ["commit", "read", "seek", "sync"], "four things are timed")
    commit = latency["commit"]
    verdict(0 < commit["p50_us"] <= commit["p90_us"] <= commit["p99_us"]
            <= commit["p999_us"] <= commit["max_us"], "percentiles rise", commit)
    verdict(commit["mean_us"] <= commit["max_us"], "a mean is no more than the longest",
            commit)
    written = view(c, "armdb_write_amplification", "main.a")[0]
    verdict(abs(written["amplification"] -
                written["bytes_written"] / written["bytes_user"]) < 0.001 and
            written["amplification"] > 1, "write amplification is a ratio of bytes",
            written)
    ops = {row["operation"]: row["total"] for row in view(c, "armdb_operations", "main.a")}
    equal((ops["inserts"], ops["deletes"]), (now["inserts"], now["deletes"]),
          "armdb_operations agrees with armdb_stat")
    cache = view(c, "armdb_cache", "main.a")[0]
    verdict(0 <= cache["hit_share"] <= 1 and cache["used"] <= cache["budget"],
            "the cache is within its budget", cache)
    equal(sum(row["bytes"] for row in rows(c, "SELECT * FROM armdb_memory")),
          stat(c, "a")["memory_process"], "the memory's parts add up")


def health(c):
    def state(item):
        found = [row for row in view(c, "armdb_health", "main.a") if row["item"] == item]
        return found[0]["state"], found[0]["advice"]

    items = [row["item"] for row in view(c, "armdb_health", "main.a")]
    equal(sorted(items), ["cache", "commits", "compaction", "conflicts", "damage",
                          "recovery", "snapshots", "space", "writes"], "nine checks a table")
    equal(state("writes"), ("ok", None), "a store that can be written is well")
    equal(state("damage"), ("ok", None), "so is one without damage")
    c.execute("INSERT INTO a(a) VALUES('pause')")
    for _ in range(4):
        c.execute("UPDATE a SET v = hex(randomblob(200))")
    equal(state("space"), ("warn", "SELECT armdb_compact('main.a')"),
          "many dead bytes are a warning that says what to do")
    first = rows(c, "SELECT * FROM armdb_health")[0]
    equal(first["state"], "warn", "the worst comes first")
    c.execute(state("space")[1])
    equal(state("space"), ("ok", None), "doing it helps")
    other = connect("t.db")
    other.execute("CREATE VIRTUAL TABLE temp.a2 USING armdb(path='store-a', table='a')")
    other.execute("BEGIN")
    other.execute("SELECT * FROM temp.a2 LIMIT 1").fetchall()
    detail = [row["detail"] for row in view(c, "armdb_health", "main.a")
              if row["item"] == "snapshots"]
    verdict(detail[0].startswith("1 held"), "a connection inside BEGIN is seen", detail)
    other.execute("COMMIT")
    other.close()


def stores(c):
    found = {os.path.basename(row["path"]): row
             for row in rows(c, "SELECT * FROM armdb_stores")}
    equal(sorted(found), [":memory:", "store-a", "t.db-armdb"],
          "armdb_stores has the stores that are open")
    equal((found["store-a"]["sessions"], found["store-a"]["openers"],
           found["store-a"]["tables"]), (1, 1, 2), "who uses them, and how many tables")
    other = connect("t.db")
    other.execute("CREATE VIRTUAL TABLE temp.a2 USING armdb(path='store-a', table='a')")
    other.execute("SELECT count(*) FROM temp.a2").fetchall()
    equal([tuple(r.values()) for r in rows(
        c, "SELECT sessions, openers FROM armdb_stores() WHERE path GLOB '*store-a'")],
          [(2, 2)], "another connection counts")
    other.close()


def main():
    without_tables()
    c = make_tables()
    tables_and_arguments(c)
    names_in_readme(c)
    counters(c)
    views(c)
    health(c)
    stores(c)
    c.close()


try:
    main()
finally:
    shutil.rmtree(FOLDER)
raise SystemExit(1 if fails else 0)

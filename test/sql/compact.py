#!/usr/bin/python3
"""Compaction from SQL: by itself in the background, armdb_compact, armdb_config, what
armdb_stat says of it, sqlite3_interrupt.

    compact.py [EXTENSION]      (also: environment ARMDB_EXTENSION or ARMDB_VTAB)

Prints "ok - ..." and "not ok - ..." lines.
"""
import os
import shutil
import sqlite3
import sys
import tempfile
import threading
import time

SO = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else
                     os.environ.get("ARMDB_EXTENSION") or
                     os.environ.get("ARMDB_VTAB") or "./armdb_vtab.so")
W = tempfile.mkdtemp(prefix="armdb-compact-")
fails = 0


def con(name="a.db"):
    c = sqlite3.connect(name if name == ":memory:" else os.path.join(W, name),
                        isolation_level=None, check_same_thread=False, timeout=20)
    c.enable_load_extension(True)
    c.load_extension(SO)
    return c


def verdict(good, text, why=""):
    global fails
    print("ok - " + text if good else "not ok - " + text)
    if not good and why != "":
        print("  " + str(why))
    fails += 0 if good else 1


def one(c, sql):
    try:
        return c.execute(sql).fetchone()[0]
    except sqlite3.Error as e:
        return str(e)


def stat(c, table="t"):
    return dict(c.execute("SELECT name, value FROM armdb_stat('%s')" % table).fetchall())


def overwrite(c, times):
    """3000 rows of 1000 bytes, in transactions of 300."""
    for i in range(times):
        for first in range(0, 3000, 300):
            c.execute("WITH RECURSIVE s(i) AS (SELECT %d UNION ALL SELECT i+1 FROM s WHERE "
                      "i<%d) INSERT OR REPLACE INTO t SELECT i, printf('%d:%%.*c', 1000, "
                      "'x') FROM s" % (first + 1, first + 300, i))
    c.execute("SELECT armdb_flush('t')")


def wait_for(seen, seconds=20):
    end = time.monotonic() + seconds
    while not seen() and time.monotonic() < end:
        time.sleep(0.02)
    return seen()


def config():
    c = con("config.db")
    c.execute("CREATE VIRTUAL TABLE t USING armdb(k INTEGER PRIMARY KEY, v)")
    for name, want in (("compact", "on"), ("compact_at", 0.3),
                       ("compact_rate", 256 << 20)):
        got = one(c, "SELECT armdb_config('t', '%s')" % name)
        verdict(got == want, "%s is %s unless something else is asked for" % (name, want),
                got)
    for name, value, want in (("compact", "'off'", "off"), ("COMPACT", "'on'", "on"),
                              ("compact_at", "0.5", 0.5), ("compact_at", "'7%'", 0.07),
                              ("compact_rate", "'1M'", 1 << 20),
                              ("compact_rate", "0", 0)):
        got = one(c, "SELECT armdb_config('t', '%s', %s)" % (name, value))
        verdict(got == want, "armdb_config sets %s to %s" % (name, value), got)
    for args, words in (("'compact', 'perhaps'", "it takes on or off"),
                        ("'compact_rate', 5", "from 64K up"),
                        ("'compact_at', 2", "0.01 to 0.99"),
                        ("'compact_at', NULL", "0.01 to 0.99"),
                        ("'shards', 5", "known are: compact, compact_at"),
                        ("NULL", "known are")):
        got = one(c, "SELECT armdb_config('t', %s)" % args)
        verdict(words in str(got), "armdb_config('t', %s) says what is allowed" % args, got)
    c.execute("INSERT INTO t(t) VALUES('pause')")
    verdict(one(c, "SELECT armdb_config('t', 'compact')") == "off", "pause turns it off")
    c.execute("INSERT INTO t(t) VALUES('resume')")
    verdict(one(c, "SELECT armdb_config('t', 'compact')") == "on", "resume turns it on")
    c.close()
    c = con("config2.db")
    c.execute("CREATE VIRTUAL TABLE t USING armdb(k INTEGER PRIMARY KEY, v, compact=off, "
              "compact_at=0.4, compact_rate='8M')")
    got = [one(c, "SELECT armdb_config('t', '%s')" % name)
           for name in ("compact", "compact_at", "compact_rate")]
    verdict(got == ["off", 0.4, 8 << 20], "a store opens with its table's options", got)
    c.close()


def background():
    c = con("background.db")
    c.execute("CREATE VIRTUAL TABLE t USING armdb(k INTEGER PRIMARY KEY, v, sync=off, "
              "segment_size='1M', compact=off)")
    overwrite(c, 5)
    wait_for(lambda: int(stat(c)["commits_unsettled"]) == 0)
    before = stat(c)
    verdict(int(before["compactions"]) == 0 and
            int(before["bytes_log"]) > 3 * int(before["bytes_live"]),
            "compact=off leaves dead bytes where they are", before)
    c.execute("SELECT armdb_config('t', 'compact', 'on')")
    verdict(wait_for(lambda: int(stat(c)["bytes_log"]) < 2 * int(before["bytes_live"])),
            "turned on, the background removes them", stat(c))
    wait_for(lambda: int(stat(c)["compact_segments_left"]) == 0)
    after = stat(c)
    verdict(int(after["compactions"]) > 0 and int(after["compact_segments_removed"]) > 5 and
            int(after["compact_bytes_read"]) > 1 << 20 and int(after["compact_segments_left"]) == 0,
            "armdb_stat tells what it did", after)
    c.execute("SELECT armdb_config('t', 'compact', 'off')")
    overwrite(c, 3)
    c.close()
    c = con("background.db")  # the schema's compact=off counts again
    log = int(stat(c)["bytes_log"])
    c.execute("SELECT armdb_config('t', 'compact', 'on')")
    c.execute("INSERT INTO t VALUES(0, 'the first write')")
    verdict(wait_for(lambda: int(stat(c)["bytes_log"]) < log * 2 // 3),
            "dead bytes from before an opening are found", stat(c))
    verdict(one(c, "SELECT count(*) FROM t WHERE v GLOB '2:x*'") == 3000,
            "the newest rows are there")
    c.close()


def interrupt():
    c = con("interrupt.db")
    c.execute("CREATE VIRTUAL TABLE t USING armdb(k INTEGER PRIMARY KEY, v, sync=off, "
              "segment_size='1M', compact=off, compact_rate='64K')")
    overwrite(c, 3)
    timer = threading.Timer(0.5, c.interrupt)
    begun = time.monotonic()
    timer.start()
    got = one(c, "SELECT armdb_compact('t')")
    timer.join()
    passed = time.monotonic() - begun
    verdict(got == "interrupted" and passed < 30,
            "sqlite3_interrupt ends armdb_compact long before its budget would",
            "%s after %.1f s" % (got, passed))
    verdict(one(c, "SELECT count(*) FROM t WHERE v GLOB '2:x*'") == 3000,
            "the rows are as they were")
    c.execute("SELECT armdb_config('t', 'compact_rate', 0)")
    got = one(c, "SELECT armdb_compact('t')")
    verdict("before" in got and int(stat(c)["bytes_log"]) < 5000000,
            "without a limit it gets to its end", got)
    c.close()


def by_command():
    c = con("command.db")
    c.execute("CREATE VIRTUAL TABLE t USING armdb(k INTEGER PRIMARY KEY, v, sync=off, "
              "segment_size='1M', compact=off)")
    overwrite(c, 3)
    before = int(stat(c)["bytes_log"])
    c.execute("INSERT INTO t(t) VALUES('compact')")
    verdict(int(stat(c)["bytes_log"]) * 2 < before, "the command compact does the same",
            stat(c))
    c.execute("BEGIN")
    c.execute("DELETE FROM t WHERE k > 1500")
    c.execute("INSERT INTO t(t) VALUES('compact')")
    c.execute("ROLLBACK")
    verdict(one(c, "SELECT count(*) FROM t WHERE v GLOB '2:x*'") == 3000,
            "inside a transaction it takes nothing of it")
    c.execute("CREATE VIEW bad AS SELECT armdb_compact('t'), armdb_config('t', 'compact')")
    got = one(c, "SELECT * FROM bad")
    verdict("unsafe use" in str(got), "no view can call them", got)
    c.close()


def memory():
    c = con(":memory:")
    c.execute("CREATE VIRTUAL TABLE t USING armdb(k INTEGER PRIMARY KEY, v, "
              "segment_size='1M', cache_size='2M')")
    overwrite(c, 3)
    c.execute("SELECT armdb_clear('t')")
    full = int(stat(c)["memory_process"])
    wait_for(lambda: int(stat(c)["bytes_live"]) < 100000)
    got = one(c, "SELECT armdb_compact('t')")
    verdict(int(stat(c)["memory_process"]) * 2 < full,
            "cleared and compacted, a store in memory gives its memory back", got)
    c.close()


config()
background()
interrupt()
by_command()
memory()
shutil.rmtree(W)
sys.exit(1 if fails else 0)

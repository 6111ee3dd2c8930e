#!/usr/bin/python3
"""Writes the golden stores: small stores of every kind, as this version of armdb makes them,
each with the text of what it holds.

    make.py VERSION [NAME...]      (armdb_vtab.so from $ARMDB_VTAB or the current folder)

Writes test/golden/VERSION/NAME.tar.xz and NAME.dump. What is there stays: a store of an
earlier version is never written anew, since its bytes are what is tested. test/sql/golden.py
opens all of them.
"""
import ctypes
import os
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
from golden import connect, dump  # noqa: E402

SO = os.path.abspath(os.environ.get("ARMDB_VTAB") or "./armdb_vtab.so")
HERE = os.path.dirname(os.path.abspath(__file__))
W = tempfile.mkdtemp(prefix="armdb-golden-")
SMALL = "segment_size=1048576, cache_size=1048576"


def ex(c, sql, *args):
    return c.execute(sql, *args).fetchall()


def create(c, name, columns, folder, options=""):
    ex(c, "CREATE VIRTUAL TABLE \"%s\" USING armdb(%spath='%s', %s%s)" % (
        name, columns + ", " if columns else "", folder, SMALL, options))


def values(folder):
    """Every type and its edges, in keys and in other columns; declarations that matter."""
    c = connect(SO)
    create(c, "v", "k PRIMARY KEY, a INTEGER, b REAL, c TEXT, d BLOB, e", folder)
    numbers = [0, 1, -1, 127, -128, 255, 65536, 2**31, -2**31, 2**53, 2**53 + 1, 2**63 - 1, -2**63]
    reals = [0.5, -0.5, 1e300, -1e300, 5e-324, 1.7976931348623157e308, float("inf"), float("-inf"),
             9007199254740993.0, 0.1]
    texts = ["", "a", "A", "a ", "\u00e4\u20ac\U0001f600", "nul\0inside", "'quoted'", "x" * 5000]
    blobs = [b"", b"\0", b"\xff" * 9, bytes(range(256)), b"b" * 70000]
    for value in numbers + reals + texts + blobs:
        ex(c, "INSERT OR REPLACE INTO v VALUES(?1, ?1, ?1, ?1, ?1, ?1)", (value,))
    ex(c, "INSERT INTO v VALUES('nulls', NULL, NULL, NULL, NULL, NULL)")
    ex(c, "INSERT INTO v VALUES(CAST(x'ff00fe' AS TEXT), 1, 1, 1, 1, -0.0)")
    create(c, "declared", "id INTEGER PRIMARY KEY, n INT NOT NULL DEFAULT 7, "
           "t TEXT COLLATE NOCASE DEFAULT 'it''s', s DEFAULT (1 + 1), CHECK(n < 100)", folder)
    ex(c, "INSERT INTO declared(id) VALUES(1)")
    ex(c, "INSERT INTO declared VALUES(2, 99, 'TEXT', 'x')")
    create(c, "plain", "", folder)
    ex(c, "INSERT INTO plain(key, value) VALUES('key', 'value')")
    c.close()
    return ["v", "declared", "plain"]


def keys(folder):
    """Composite keys, collations, DESC, mixed types in one key column."""
    c = connect(SO)
    create(c, "composite", "dir TEXT COLLATE NOCASE, name TEXT COLLATE RTRIM, n INTEGER, v, "
           "PRIMARY KEY(dir, name, n DESC)", folder)
    for d in ["usr", "USR", "etc", "var lib"]:
        for name in ["a", "a  ", "B", "b\0c"]:
            for n in [1, -5, 2**40]:
                ex(c, "INSERT OR REPLACE INTO composite VALUES(?, ?, ?, ?)",
                   (d, name, n, "%s/%s/%d" % (d, name.strip(), n)))
    create(c, "down", "a REAL, b BLOB, c TEXT, PRIMARY KEY(a DESC, b DESC, c COLLATE NOCASE DESC)",
           folder)
    for a in [1, 1.5, -3, 2**53]:
        for b in [b"", b"\0\1", b"\xff"]:
            ex(c, "INSERT INTO down VALUES(?, ?, ?)", (a, b, "Text %s" % a))
    create(c, "prefix", "k TEXT PRIMARY KEY, v", folder)
    for i in range(40):
        ex(c, "INSERT INTO prefix VALUES(?, ?)", ("/usr/share/doc/%d/file" % (i * i), i))
    c.close()
    return ["composite", "down", "prefix"]


def tables(folder):
    """Four shards, several tables; deletes, a clear, a drop, a rename, written over and over."""
    c = connect(SO)
    for t in "abcd":
        create(c, t, "k INTEGER PRIMARY KEY, v TEXT", folder, ", shards=4")
        for i in range(30):
            ex(c, "INSERT INTO %s VALUES(?, ?)" % t, (i, "%s %d" % (t, i)))
    ex(c, "DELETE FROM a WHERE k % 3 = 0")
    ex(c, "UPDATE a SET v = v || ' again' WHERE k % 5 = 0")
    ex(c, "SELECT armdb_clear('b')")
    ex(c, "INSERT INTO b VALUES(1000, 'after the clear')")
    ex(c, "DROP TABLE c")
    ex(c, "ALTER TABLE d RENAME TO renamed")
    ex(c, "INSERT INTO renamed VALUES(500, 'under the new name')")
    ex(c, "UPDATE renamed SET k = k + 1000 WHERE k < 3")
    c.close()
    return ["a", "b", "renamed"]


def chunks(folder):
    """A transaction larger than its share of memory, part of it rolled back."""
    c = connect(SO)
    create(c, "big", "k INTEGER PRIMARY KEY, v BLOB", folder, ", shards=2")
    ex(c, "BEGIN")
    for i in range(12):
        ex(c, "INSERT INTO big VALUES(?, zeroblob(60000))", (i,))
    ex(c, "SAVEPOINT s")
    for i in range(6, 20):
        ex(c, "INSERT OR REPLACE INTO big VALUES(?, zeroblob(50000))", (i,))
    ex(c, "ROLLBACK TO s")
    ex(c, "DELETE FROM big WHERE k = 3")
    ex(c, "INSERT INTO big VALUES(100, 'last')")
    ex(c, "COMMIT")
    c.close()
    return ["big"]


def verdicts(folder):
    """Transactions that were prepared and then rolled back, between committed ones: the
    database file that takes part in them cannot commit, because somebody reads it."""
    path = os.path.join(W, "host.db")
    c = connect(SO, path)
    ex(c, "PRAGMA busy_timeout=0")
    ex(c, "CREATE TABLE host(x)")
    create(c, "t", "k INTEGER PRIMARY KEY, v", folder)
    other = sqlite3.connect(path, isolation_level=None)
    refused = 0
    for i in range(6):
        if i % 2 == 1:
            other.execute("BEGIN")
            other.execute("SELECT * FROM host").fetchall()
        ex(c, "BEGIN")
        ex(c, "INSERT INTO host VALUES(?)", (i,))
        ex(c, "INSERT INTO t VALUES(?, 'row')", (i,))
        ex(c, "INSERT OR REPLACE INTO t VALUES(1000, ?)", (i,))
        try:
            ex(c, "COMMIT")
        except sqlite3.OperationalError:
            refused += 1
            ex(c, "ROLLBACK")
        if i % 2 == 1:
            other.execute("COMMIT")
    assert refused == 3
    other.close()
    c.close()
    return ["t"]


def compacted(folder):
    """Moved records, tombstones among them, then records of the log again; hints beside."""
    c = connect(SO)
    create(c, "t", "k INTEGER PRIMARY KEY, v", folder, ", shards=2")
    for round_ in range(3):
        for i in range(60):
            ex(c, "INSERT OR REPLACE INTO t VALUES(?, ?)", (i, "round %d" % round_))
    ex(c, "DELETE FROM t WHERE k % 4 = 1")
    ex(c, "SELECT armdb_compact('t')")
    ex(c, "DELETE FROM t WHERE k = 0")
    ex(c, "INSERT INTO t VALUES(1, 'back'), (-1, 'new')")
    c.close()
    return ["t"]


def hints(folder):
    """Sealed segments with their hints beside them: deletes and a clear in them."""
    c = connect(SO)
    for t, key in ("t", "TEXT"), ("u", "INTEGER"):
        ex(c, "CREATE VIRTUAL TABLE %s USING armdb(k %s PRIMARY KEY, v BLOB, path='%s', "
           "segment_size=2097152, cache_size=1048576, shards=1, sync=off)" % (t, key, folder))
    for i in range(400):
        ex(c, "INSERT INTO t VALUES(?, zeroblob(9000))", ("key %d" % i,))
        if i % 7 == 0:
            ex(c, "INSERT OR REPLACE INTO u VALUES(?, 'u')", (i % 50,))
        if i % 11 == 0:
            ex(c, "DELETE FROM t WHERE k = 'key %d'" % (i // 2))
        if i == 200:
            ex(c, "SELECT armdb_clear('u')")
    for _ in range(100):
        if any(n.endswith(".hint") for n in os.listdir(folder)):
            break
        time.sleep(0.1)
    c.close()
    assert any(n.endswith(".hint") for n in os.listdir(folder))
    return ["t", "u"]


def backup(folder):
    """A copy made while a transaction was open."""
    original = os.path.join(W, "original")
    c = connect(SO)
    create(c, "t", "k INTEGER PRIMARY KEY, v", original)
    for i in range(20):
        ex(c, "INSERT INTO t VALUES(?, ?)", (i, "row %d" % i))
    d = connect(SO)
    create(d, "t", "", original)
    ex(d, "BEGIN")
    ex(d, "INSERT INTO t VALUES(100, 'not committed')")
    ex(c, "SELECT armdb_backup('t', '%s')" % folder)
    ex(d, "COMMIT")
    d.close()
    c.close()
    return ["t"]


def killed(folder):
    """The folder of a store that is open: nothing sealed, a lock left, as kill -9 leaves it."""
    original = os.path.join(W, "running")
    c = connect(SO)
    create(c, "t", "k INTEGER PRIMARY KEY, v", original, ", shards=2")
    for i in range(20):
        ex(c, "INSERT INTO t VALUES(?, ?)", (i, "row %d" % i))
    ex(c, "DELETE FROM t WHERE k = 7")
    shutil.copytree(original, folder)
    c.close()
    return ["t"]


def torn(folder):
    """The same, and the last frame is torn in its middle."""
    original = os.path.join(W, "torn-original")
    c = connect(SO)
    create(c, "t", "k INTEGER PRIMARY KEY, v", original, ", shards=1, sync=off")
    for i in range(10):
        ex(c, "INSERT INTO t VALUES(?, ?)", (i, "row %d" % i))
    ex(c, "INSERT INTO t VALUES(10, 'the last one')")
    shutil.copytree(original, folder)
    c.close()
    for name in os.listdir(folder):
        if name.endswith(".seg"):
            path = os.path.join(folder, name)
            with open(path, "r+b") as f:
                data = f.read()
                at = data.rindex(b"the last one")
                f.seek(at + 4)
                f.write(b"\0" * (len(data) - at - 4))
    return ["t"]


def newer(folder):
    """A store that says it has the format version after this one."""
    c = connect(SO)
    create(c, "t", "k INTEGER PRIMARY KEY, v", folder)
    ex(c, "INSERT INTO t VALUES(1, 'from the future')")
    c.close()
    xxh = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
    xxh.restype = ctypes.c_uint64
    xxh.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    ones = (1 << 64) - 1
    with open(os.path.join(folder, "superblock"), "r+b") as f:
        page = bytearray(f.read())
        page[8:12] = struct.pack("<I", struct.unpack("<I", page[8:12])[0] + 1)
        raw = xxh(bytes(page[:4088]), 4088)
        seed = xxh(bytes(page[16:32]), 16)
        x = raw ^ ((seed + 4088 * 0x9E3779B97F4A7C15) & ones)
        x ^= x >> 33
        x = x * 0xFF51AFD7ED558CCD & ones
        x ^= x >> 33
        x = x * 0xC4CEB9FE1A85EC53 & ones
        x ^= x >> 33
        page[4088:] = struct.pack("<Q", x)
        f.seek(0)
        f.write(page)
    return ["t"]


STORES = [values, keys, tables, chunks, verdicts, compacted, hints, backup, killed, torn, newer]


def main():
    version = sys.argv[1]
    out = os.path.join(HERE, version)
    os.makedirs(out, exist_ok=True)
    for make in STORES:
        name = make.__name__
        packed = os.path.join(out, name + ".tar.xz")
        if (len(sys.argv) > 2 and name not in sys.argv[2:]) or os.path.exists(packed):
            continue
        folder = os.path.join(W, name)
        names = make(folder)
        subprocess.run(["tar", "-C", W, "--sparse", "--owner=0", "--group=0", "--mtime=@0",
                        "-cJf", packed, name], check=True)
        with open(os.path.join(out, name + ".dump"), "w", encoding="utf-8") as f:
            f.write(dump(SO, folder, names))
        print("%s: %d bytes" % (name, os.path.getsize(packed)))
    shutil.rmtree(W)


main()

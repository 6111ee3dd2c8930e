#!/usr/bin/python3
"""Golden stores: every store in test/golden/, written by this or an earlier version, opens
and holds what its dump says; or it is refused by name. What opens can then be written,
compacted, backed up and opened again.

    golden.py [EXTENSION]      (also: environment ARMDB_EXTENSION or ARMDB_VTAB)

Prints "ok - ..." and "not ok - ..." lines.
"""
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "golden")
sys.path.insert(0, GOLDEN)
sys.dont_write_bytecode = True
from golden import connect, dump  # noqa: E402

SO = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else
                     os.environ.get("ARMDB_EXTENSION") or
                     os.environ.get("ARMDB_VTAB") or "./armdb_vtab.so")
W = tempfile.mkdtemp(prefix="armdb-golden-")
fails = 0


def verdict(good, text):
    global fails
    print("ok - " + text if good else "not ok - " + text)
    fails += 0 if good else 1


def same(got, want, text):
    verdict(got == want, text)
    if got == want:
        return
    got, want = got.splitlines(), want.splitlines()
    for i in range(max(len(got), len(want))):
        a = want[i] if i < len(want) else "nothing"
        b = got[i] if i < len(got) else "nothing"
        if a != b:
            print("  line %d\n  want: %s\n  got:  %s" % (i + 1, a[:300], b[:300]))
            break


def go_on(folder, tables, before, name):
    """The store is used as any other: a table more, compaction, a backup."""
    c = connect(SO)
    path = folder.replace("'", "''")
    c.execute("CREATE VIRTUAL TABLE golden USING armdb(k INTEGER PRIMARY KEY, v, path='%s')" % path)
    c.execute("INSERT INTO golden VALUES(1, 'new'), (2, zeroblob(5000))")
    c.execute("UPDATE golden SET v = 'newer' WHERE k = 1")
    c.execute("SELECT armdb_compact('golden')").fetchall()
    copy = folder + "-copy"
    c.execute("SELECT armdb_backup('golden', '%s')" % copy.replace("'", "''")).fetchall()
    c.execute("DROP TABLE golden")
    c.close()
    same(dump(SO, folder, tables), before, name + ": written to, compacted, reopened")
    same(dump(SO, copy, tables), before, name + ": a backup of it")


def read_only(folder, tables, before, name):
    """Nothing is written to a folder that may not be written."""
    if os.geteuid() == 0:
        return
    os.chmod(folder, 0o500)
    same(dump(SO, folder, tables), before, name + ": read-only")
    os.chmod(folder, 0o700)


def check(version, name):
    packed = os.path.join(GOLDEN, version, name + ".tar.xz")
    with open(os.path.join(GOLDEN, version, name + ".dump"), encoding="utf-8") as f:
        want = f.read()
    tables = [line[6:] for line in want.splitlines() if line.startswith("table ")]
    top = os.path.join(W, version)
    os.makedirs(top, exist_ok=True)
    subprocess.run(["tar", "-C", top, "-xJf", packed], check=True)
    folder = os.path.join(top, name)
    full = version + "/" + name
    if "error FOLDER" in want:
        before = {n: os.stat(os.path.join(folder, n)).st_mtime_ns for n in os.listdir(folder)
                  if n != "lock"}
        same(dump(SO, folder, tables), want, full + ": refused by name")
        after = {n: os.stat(os.path.join(folder, n)).st_mtime_ns for n in os.listdir(folder)
                 if n != "lock"}
        verdict(before == after, full + ": and left as it is")
        return
    read_only(folder, tables, want, full)
    same(dump(SO, folder, tables), want, full + ": what its dump says")
    same(dump(SO, folder, tables), want, full + ": the same again")
    go_on(folder, tables, want, full)


for version in sorted(os.listdir(GOLDEN)):
    if os.path.isdir(os.path.join(GOLDEN, version)) and not version.startswith("__"):
        for entry in sorted(os.listdir(os.path.join(GOLDEN, version))):
            if entry.endswith(".tar.xz"):
                try:
                    check(version, entry[:-7])
                except (sqlite3.Error, OSError, subprocess.SubprocessError) as e:
                    verdict(False, "%s/%s: %s" % (version, entry, e))
shutil.rmtree(W, ignore_errors=True)
sys.exit(1 if fails else 0)

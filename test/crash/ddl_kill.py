#!/usr/bin/python3
"""CREATE, DROP and RENAME under kill -9: a child changes which tables there are, and is
killed at a random moment. Whoever opens the database next finds the tables as they were
after the last COMMIT that returned, or after the one that was under way; each with all of
its rows and nobody else's, or gone. In the end the space of what was dropped is free.

One thing is allowed outside WAL mode, because README says so: the kill hits a COMMIT after
SQLite's half and before armdb's. A table that this COMMIT was to create is then there, says
that the store has no rows of it, and can be dropped.

    ddl_kill.py [EXTENSION]      (also: environment ARMDB_EXTENSION or ARMDB_VTAB)

SEED replays which statements run; the moments of the kills come from it as well, but the
machine decides what they hit. ROUNDS kills (default 24). Prints "ok - ..." lines.
"""
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

NAMES = ["t%d" % i for i in range(5)]
ROWS = 300
VALUE = "v" * 200


def connect(folder, extension):
    db = sqlite3.connect(os.path.join(folder, "a.db"), isolation_level=None, timeout=5)
    db.enable_load_extension(True)
    db.load_extension(os.path.abspath(extension))
    return db


def create(db, state, name, tag):
    db.execute("CREATE VIRTUAL TABLE %s USING armdb(k TEXT PRIMARY KEY, tag INTEGER, v, "
               "segment_size='1M')" % name)
    db.executemany("INSERT INTO %s VALUES(?, ?, ?)" % name,
                   (("%s-%d" % (tag, i), tag, VALUE) for i in range(ROWS)))
    state[name] = tag


def drop(db, state, name):
    db.execute("DROP TABLE %s" % name)
    del state[name]


def change(db, state, dice, tag):
    """One statement, or a few, of a transaction."""
    there = sorted(state)
    free = [n for n in NAMES if n not in state]
    kind = dice.randrange(4)
    if kind == 0 and free or not there:
        create(db, state, dice.choice(free), tag)
    elif kind == 1 and free:
        old, new = dice.choice(there), dice.choice(free)
        db.execute("ALTER TABLE %s RENAME TO %s" % (old, new))
        state[new] = state.pop(old)
    elif kind == 2:
        drop(db, state, dice.choice(there))
    else:
        name = dice.choice(there)
        drop(db, state, name)
        create(db, state, name, tag)


def child(folder, extension, seed, state, tag):
    dice = random.Random(seed)
    log = os.open(os.path.join(folder, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    db = connect(folder, extension)
    while True:
        tag += 1
        before = dict(state)
        try:
            db.execute("BEGIN")
            change(db, state, dice, tag)
            if dice.randrange(4) == 0:
                undone = dict(state)
                db.execute("SAVEPOINT s")
                # A table that this transaction has written to cannot be dropped.
                for name in [n for n in sorted(undone) if undone[n] != tag][:1]:
                    drop(db, undone, name)
                db.execute("ROLLBACK TO s")
            if dice.randrange(4) == 0:
                db.execute("ROLLBACK")
                state = before
                continue
            os.write(log, ("B %s %d\n" % (json.dumps(state), tag)).encode())
            db.execute("COMMIT")
            os.write(log, b"A\n")
        except sqlite3.Error as error:
            os.write(log, ("E %s\n" % error).encode())
            os._exit(3)


def read_log(folder, state):
    """The state that was acknowledged, the one under way, the newest tag, an error."""
    under_way, tag, error = dict(state), 0, None
    try:
        with open(os.path.join(folder, "log")) as log:
            for line in log:
                if line[0] == "B":
                    text, _, number = line[2:].rpartition(" ")
                    under_way, tag = json.loads(text), int(number)
                elif line[0] == "A":
                    state = dict(under_way)
                else:
                    error = line[2:].strip()
        os.unlink(os.path.join(folder, "log"))
    except FileNotFoundError:
        pass
    return state, under_way, tag, error


def look(db):
    """What there is; a table that is not whole is shown with what it has."""
    found = {}
    for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE sql LIKE "
                              "'CREATE VIRTUAL%' ORDER BY name").fetchall():
        try:
            rows = db.execute("SELECT count(*), min(tag), max(tag), count(DISTINCT k), "
                              "min(length(v)) FROM %s" % name).fetchone()
        except sqlite3.DatabaseError as error:
            found[name] = str(error)
            continue
        tag = rows[1]
        whole = rows == (ROWS, tag, tag, ROWS, len(VALUE))
        found[name] = tag if whole else list(rows)
    return found


def run(extension, journal, seed, rounds):
    folder = tempfile.mkdtemp(prefix="armdb-ddl-kill-")
    dice = random.Random(seed)
    state, tag, why, changed, half_done = {}, 0, None, 0, 0
    db = connect(folder, extension)
    db.execute("PRAGMA journal_mode=%s" % journal)
    db.close()
    for number in range(rounds):
        process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--child", folder, extension,
             str(dice.randrange(1 << 30)), json.dumps(state), str(tag)])
        time.sleep(0.06 + dice.random() * 0.25)
        process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            why = "the child ended by itself: %s" % read_log(folder, state)[3]
            break
        acknowledged, under_way, newest, _ = read_log(folder, state)
        tag = max(tag, newest) + 1
        db = connect(folder, extension)
        found = look(db)
        halves = [n for n in found if "has no rows of table" in str(found[n])
                  and journal != "WAL" and under_way.get(n) == newest]
        for name in halves:
            db.execute("DROP TABLE %s" % name)
            del found[name], under_way[name]
        db.close()
        half_done += len(halves)
        changed += found != state
        if found not in (acknowledged, under_way):
            why = "round %d: found %s, acknowledged %s, under way %s" % (
                number, found, acknowledged, under_way)
            break
        state = found
    text = "%s: %d kills, %d of them after changes, %d between the halves" % (
        journal, rounds, changed, half_done)
    print("%s - every table whole or gone, %s%s" % (
        "ok" if why is None and changed else "not ok", text, "; " + why if why else ""))
    if why is None:
        why = space(folder, extension, state)
        print("%s - %s: dropped tables leave no bytes%s" % (
            "not ok" if why else "ok", journal, ": " + why if why else ""))
    if why is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print("  folder kept: %s" % folder)
    return why is None


def space(folder, extension, state):
    db = connect(folder, extension)
    for name in sorted(state):
        db.execute("DROP TABLE %s" % name)
    db.close()
    db = connect(folder, extension)
    db.execute("CREATE VIRTUAL TABLE last USING armdb(k PRIMARY KEY, v)")
    db.execute("INSERT INTO last VALUES('a', 1)")
    db.execute("SELECT armdb_compact('last')").fetchall()
    stat = dict(db.execute("SELECT name, value FROM armdb_stat('last')").fetchall())
    db.close()
    if int(stat["bytes_live"]) > ROWS * len(VALUE) // 2:
        return "%s bytes count as live" % stat["bytes_live"]
    return None


def main():
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], int(sys.argv[4]), json.loads(sys.argv[5]),
              int(sys.argv[6]))
    extension = (sys.argv[1] if len(sys.argv) > 1 else os.environ.get("ARMDB_EXTENSION")
                 or os.environ.get("ARMDB_VTAB") or "./armdb_vtab.so")
    seed = int(os.environ.get("SEED") or time.time_ns() % 1000000)
    rounds = int(os.environ.get("ROUNDS") or 24)
    print("SEED=%d" % seed)
    good = run(extension, "WAL", seed, rounds // 2)
    good = run(extension, "DELETE", seed + 1, rounds // 2) and good
    sys.exit(0 if good else 1)


main()

#!/usr/bin/python3
"""Bad input gets a clear error and loses nothing.

Each case makes a table with rows, does something wrong, and then asserts three things:
the error's code, words that its text must have, and that all rows are still there when
a new process opens the database. SQL always runs in a child process, so that a crash
is a failed test and nothing stays open.

    bad_input.py [EXTENSION] [WORD]     only the cases whose name has WORD

The extension may also come in ARMDB_EXTENSION or ARMDB_VTAB. Some cases need root (for
another user, a read-only mount, a small file system) or memory; they are skipped with a
note otherwise. Prints "ok - ...", "not ok - ..." and "skip - ..." lines.
"""
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time

NOBODY = 65534
ROWS = 300
TABLE = "CREATE VIRTUAL TABLE t USING armdb(k TEXT PRIMARY KEY, v%s)"
FILL = ("INSERT INTO t WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c"
        " LIMIT %d) SELECT printf('key%%05d', n), n * n FROM c")
EXPECTED = [[ROWS, ROWS * (ROWS + 1) * (2 * ROWS + 1) // 6]]
ASK = "SELECT count(*), sum(v) FROM t"

# SQLite's result codes
ERROR, BUSY, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, TOOBIG, NOTADB = (
    1, 5, 8, 10, 11, 13, 14, 18, 26)


# ---- The child: runs statements, answers in JSON --------------------------------------

def child():
    """Reads {db, extension, sql: [...], hold} and prints a list of answers."""
    import sqlite3
    order = json.loads(sys.stdin.readline())
    answers = []
    # A folder that cannot be written must not hinder the opening of the database.
    db = sqlite3.connect(order["db"], isolation_level=None, uri=True,
                         timeout=order.get("timeout", 0))
    db.enable_load_extension(True)
    db.load_extension(order["extension"])
    for statement in order["sql"]:
        if statement.startswith("@free "):
            os.unlink(statement[6:])
            continue
        if statement == "@hold":
            print(json.dumps(answers), flush=True)
            sys.stdin.readline()
            continue
        begin = time.monotonic()
        try:
            rows = db.execute(statement).fetchall()
            answers.append({"rows": [[repr(v) if isinstance(v, bytes) else v for v in r]
                                     for r in rows], "code": 0, "text": ""})
        except sqlite3.Error as error:
            answers.append({"rows": [], "code": getattr(error, "sqlite_errorcode", -1),
                            "text": str(error)})
        answers[-1]["seconds"] = time.monotonic() - begin
    db.close()
    print(json.dumps(answers), flush=True)


class Failed(Exception):
    """An assertion of a case did not hold."""


class Skipped(Exception):
    """This machine or user cannot run the case."""


class Case:
    """A folder, and what can be asserted about the database in it."""

    def __init__(self, extension):
        self.folder = tempfile.mkdtemp(prefix="armdb-bad-input-")
        os.chmod(self.folder, 0o755)
        # Another user may not be able to read the source tree.
        self.extension = os.path.join(self.folder, "armdb_vtab.so")
        shutil.copy(extension, self.extension)
        self.db = os.path.join(self.folder, "db")
        self.store = self.db + "-armdb"

    def command(self, user):
        """The child's command line, as another user if asked."""
        run = ["/usr/bin/python3", os.path.abspath(__file__), "--child"]
        if user is None:
            return run
        script = os.path.join(self.folder, "child.py")
        shutil.copy(os.path.abspath(__file__), script)
        os.chmod(script, 0o644)
        run[1] = script
        return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] + run

    def start(self, sql, db=None, user=None, timeout=0):
        """Starts a child with these statements."""
        process = subprocess.Popen(self.command(user), stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True)
        order = {"db": db or self.db, "extension": self.extension, "sql": sql,
                 "timeout": timeout}
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        return process

    def run(self, sql, **where):
        """Runs statements in a child; returns their answers."""
        process = self.start(sql, **where)
        out, err = process.communicate(timeout=120)
        if process.returncode != 0:
            raise Failed(f"the child ended with {process.returncode}: {err.strip()}")
        return json.loads(out.splitlines()[-1])

    def good(self, sql, **where):
        """All statements must succeed; returns the last one's rows."""
        answers = self.run(sql, **where)
        for statement, answer in zip([s for s in sql if not s.startswith("@")], answers):
            if answer["code"] != 0:
                raise Failed(f"{statement[:90]}: {answer['text']} ({answer['code']})")
        return answers[-1]["rows"]

    def fill(self, options="", db=None):
        """Makes the table with its rows."""
        self.good([TABLE % options, FILL % ROWS], db=db)

    def intact(self, **where):
        """All rows are there in a new process."""
        rows = self.good([ASK], **where)
        if rows != EXPECTED:
            raise Failed(f"the rows are not all there: {rows}, not {EXPECTED}")

    def fails(self, sql, codes, *words, **where):
        """The last of the statements must fail so, those before it must not."""
        statements = [sql] if isinstance(sql, str) else sql
        answers = self.run(statements, **where)
        for answer in answers[:-1]:
            if answer["code"] != 0:
                raise Failed(f"before it: {answer['text']} ({answer['code']})")
        check_error(statements[-1], answers[-1], codes, *words)
        return answers[-1]

    def close(self):
        """Removes the folder."""
        subprocess.run(["chmod", "-R", "u+w", self.folder], check=False,
                       stderr=subprocess.DEVNULL)
        shutil.rmtree(self.folder, ignore_errors=True)


def check_error(statement, answer, codes, *words):
    """The answer is one of these errors and its text has these words."""
    codes = codes if isinstance(codes, tuple) else (codes,)
    if answer["code"] & 0xff not in codes:
        raise Failed(f"{statement[:120]}: code {answer['code']} \"{answer['text']}\", "
                     f"not {' or '.join(map(str, codes))}")
    for word in words:
        if word.lower() not in answer["text"].lower():
            raise Failed(f"{statement[:120]}: \"{answer['text']}\" does not say "
                         f"\"{word}\"")


def fingerprint(folder):
    """Names and contents of all files, without the lock file (it holds a pid)."""
    seen = {}
    for path, _, names in os.walk(folder):
        for name in names:
            full = os.path.join(path, name)
            if "lock" in name:
                continue
            with open(full, "rb") as file:
                seen[os.path.relpath(full, folder)] = hashlib.sha256(
                    file.read()).hexdigest()
    return seen


def unchanged(folder, before):
    """Raises unless the folder is as it was."""
    after = fingerprint(folder)
    if after != before:
        different = {n for n in set(before) | set(after)
                     if before.get(n) != after.get(n)}
        raise Failed(f"files were changed in {folder}: {sorted(different)}")


def need_root():
    """Other users and mounts need root."""
    if os.geteuid() != 0:
        raise Skipped("needs root")
    if shutil.which("setpriv") is None:
        raise Skipped("needs setpriv")


class Mount:
    """A mount for the length of a with block."""

    def __init__(self, where, *args):
        self.where = where
        self.args = args

    def __enter__(self):
        os.makedirs(self.where, exist_ok=True)
        done = subprocess.run(["mount", *self.args, self.where], capture_output=True,
                              check=False)
        if done.returncode != 0:
            raise Skipped(f"mount: {done.stderr.decode().strip()}")
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.where], check=False)


# ---- Options and declarations ---------------------------------------------------------

def unknown_option(case):
    """an unknown option is named, with those that exist"""
    case.fill()
    case.fails(TABLE.replace("TABLE t", "TABLE u") % ", colour='red'", ERROR,
               "colour", "path", "sync", "shards", "segment_size")
    case.intact()


def wrong_values(case):
    """a wrong value of an option is named, with what is allowed"""
    case.fill()
    wrong = [("sync=sometimes", "full"), ("sync=''", "full"), ("shards=0", "64"),
             ("shards=65", "64"), ("shards=-1", "64"), ("shards=two", "64"),
             ("shards=", "64"), ("shards=99999999999999999999", "64"),
             ("segment_size=1", "1M"), ("segment_size='1T'", "512G"),
             ("segment_size=big", "1M"), ("cache_size=0", "1M"),
             ("cache_size=abc", "1M"), ("io=fast", "buffered"),
             ("io_engine=magic", "uring"), ("mmap=on", "unknown option"),
             ("compact_at=2", "0.01"), ("compact_at=0", "0.01"),
             ("shard_prefix_bits=-1", "0"), ("path=''", "folder")]
    for option, allowed in wrong:
        case.fails(TABLE.replace("TABLE t", "TABLE u") % f", {option}", ERROR,
                   option.split("=")[0], allowed)
    case.fails(TABLE.replace("TABLE t", "TABLE u") % ", sync=off, sync=full", ERROR,
               "sync", "twice")
    case.intact()


def immutable_option(case):
    """an option fixed at creation cannot be changed"""
    case.fill(", shards=3")
    case.fails(TABLE.replace("TABLE t", "TABLE u") % ", shards=2", ERROR, "shards", "3")
    case.fails(TABLE.replace("TABLE t", "TABLE u") % ", shard_prefix_bits=8", ERROR,
               "shard_prefix_bits")
    case.good([TABLE.replace("TABLE t", "TABLE u") % ", shards=3"])
    case.intact()


def declarations(case):
    """a table without a right PRIMARY KEY, or with wrong columns, is refused"""
    case.fill()
    wrong = [("a, b", "PRIMARY KEY"), ("a TEXT", "PRIMARY KEY"),
             ("a PRIMARY KEY, b PRIMARY KEY", "PRIMARY KEY"),
             ("a PRIMARY KEY, b, PRIMARY KEY(b)", "PRIMARY KEY"),
             ("a, PRIMARY KEY(b)", "b"), ("a, PRIMARY KEY()", ""),
             ("a PRIMARY KEY, a", "duplicate"), ("a PRIMARY KEY, A", "duplicate"),
             ("a PRIMARY KEY, b COLLATE nowhere", "nowhere"),
             ("a TEXT COLLATE nowhere PRIMARY KEY", "nowhere"),
             ("a INTEGER PRIMARY KEY AUTOINCREMENT", "AUTOINCREMENT"),
             ("a PRIMARY KEY, b NOT", ""),
             ("a PRIMARY KEY, b DEFAULT (", ""), ("a PRIMARY KEY, 'b", ""),
             ("a PRIMARY KEY, b CHECK(nosuch > 1)", "nosuch"),
             ("PRIMARY KEY(a)", "")]
    for columns, word in wrong:
        case.fails(f"CREATE VIRTUAL TABLE u USING armdb({columns})", ERROR, word)
        rows = case.good(["SELECT count(*) FROM sqlite_schema WHERE name LIKE 'u%'"])
        if rows != [[0]]:
            raise Failed(f"{columns}: something of it stays in the schema")
    case.intact()


def refused_or_obeyed(case):
    """a constraint that armdb does not know is refused, not ignored"""
    case.fill()
    probes = [("a PRIMARY KEY, b UNIQUE", "INSERT INTO u VALUES (1, 1), (2, 1)"),
              ("a PRIMARY KEY, b, UNIQUE(b)", "INSERT INTO u VALUES (1, 1), (2, 1)"),
              ("a PRIMARY KEY ON CONFLICT FAIL, b NOT NULL",
               "INSERT INTO u VALUES (1, 1), (1, NULL)"),
              ("a PRIMARY KEY, b AS (a + 1)", "INSERT INTO u(a, b) VALUES (1, 1)"),
              ("a PRIMARY KEY, b AS (a + 1) STORED", "INSERT INTO u(a, b) VALUES (1, 1)")]
    for columns, statement in probes:
        answers = case.run([f"CREATE VIRTUAL TABLE u USING armdb({columns})", statement])
        if answers[0]["code"] == 0 and answers[1]["code"] == 0:
            raise Failed(f"{columns}: accepted, but {statement} succeeds")
        if answers[0]["code"] == 0:
            case.good(["DROP TABLE u"])
    case.intact()


def other_columns(case):
    """CREATE on existing rows with other columns says what differs"""
    case.fill(", path='s'")
    for columns, word in [("k TEXT PRIMARY KEY, v, w", "w"),
                          ("k TEXT PRIMARY KEY, x", ""),
                          ("k INTEGER PRIMARY KEY, v", "k"),
                          ("k TEXT COLLATE NOCASE PRIMARY KEY, v", "k"),
                          ("k TEXT PRIMARY KEY DESC, v", "k"),
                          ("k TEXT, v, PRIMARY KEY(k, v)", "")]:
        case.fails(f"CREATE VIRTUAL TABLE temp.t USING armdb({columns}, path='s')", ERROR,
                   word)
    case.good(["CREATE VIRTUAL TABLE temp.t USING armdb(path='s')"])
    case.intact()


# ---- Folders --------------------------------------------------------------------------

def missing_folder(case):
    """a folder whose parent is missing is named; nothing is made"""
    case.fill()
    case.fails(TABLE.replace("TABLE t", "TABLE u") % ", path='no/such/store'",
               (CANTOPEN, ERROR), "no/such")
    if os.path.exists(os.path.join(case.folder, "no")):
        raise Failed("a folder was made")
    case.intact()


def vanished_store(case):
    """a store that was moved away is an error, not an empty table"""
    case.fill()
    away = os.path.join(case.folder, "elsewhere")
    os.rename(case.store, away)
    for statement in (ASK, "SELECT * FROM t WHERE k = 'key00001'",
                      "INSERT INTO t VALUES ('x', 1)", "DELETE FROM t"):
        case.fails(statement, (CANTOPEN, NOTADB, ERROR, CORRUPT), "db-armdb")
    if os.path.exists(case.store):
        raise Failed("a store was made in its place")
    os.rename(away, case.store)
    case.intact()


def swapped_store(case):
    """another database's store in the place of one's own is refused"""
    case.fill()
    other = os.path.join(case.folder, "other")
    case.good([TABLE % "", "INSERT INTO t VALUES ('stranger', 1)"], db=other)
    away = os.path.join(case.folder, "elsewhere")
    os.rename(case.store, away)
    os.rename(other + "-armdb", case.store)
    before = fingerprint(case.store)
    case.fails(ASK, (ERROR, NOTADB, CORRUPT, CANTOPEN), "")
    case.fails("INSERT INTO t VALUES ('x', 1)", (ERROR, NOTADB, CORRUPT, CANTOPEN), "")
    if set(fingerprint(case.store)) - set(before) or set(before) - set(
            fingerprint(case.store)):
        raise Failed("files came or went in the other database's store")
    shutil.rmtree(case.store)
    os.rename(away, case.store)
    case.intact()


def unwritable_folder(case):
    """a folder that may not be written is named"""
    need_root()
    case.fill()
    shut = os.path.join(case.folder, "shut")
    os.mkdir(shut, 0o555)
    answer = case.fails(
        f"CREATE VIRTUAL TABLE temp.u USING armdb(k PRIMARY KEY, path='{shut}/store')",
        (CANTOPEN, READONLY), "shut", db=":memory:", user=NOBODY)
    if "denied" not in answer["text"] and "writ" not in answer["text"]:
        raise Failed(f"the reason is missing: {answer['text']}")
    case.intact()


def path_is_file(case):
    """a path that is a file is refused, the file untouched"""
    case.fill()
    file = os.path.join(case.folder, "letter")
    with open(file, "w", encoding="ascii") as out:
        out.write("dear reader\n")
    before = fingerprint(case.folder)
    case.fails(TABLE.replace("TABLE t", "TABLE u") % ", path='letter'",
               (CANTOPEN, NOTADB, ERROR), "letter")
    case.fails(TABLE.replace("TABLE t", "TABLE u") % ", path='letter/store'",
               (CANTOPEN, NOTADB, ERROR), "letter")
    if fingerprint(case.folder)["letter"] != before["letter"]:
        raise Failed("the file was changed")
    case.intact()


def foreign_folder(case):
    """another program's folder is refused and left alone"""
    case.fill()
    for names in (["photo.jpg"], ["manifest"], ["superblock"], [".git/config"],
                  ["lock"]):
        other = os.path.join(case.folder, "other")
        for name in names:
            os.makedirs(os.path.dirname(os.path.join(other, name)), exist_ok=True)
            with open(os.path.join(other, name), "w", encoding="ascii") as out:
                out.write("not yours\n" * 500)
        before = {n: os.stat(os.path.join(other, n)).st_size for n in names}
        content = fingerprint(other)
        try:
            case.fails(TABLE.replace("TABLE t", "TABLE u") % ", path='other'",
                       (NOTADB, CANTOPEN, ERROR, CORRUPT), "other")
        except Failed as error:
            raise Failed(f"a folder with {names}: {error}") from error
        after = {n: os.stat(os.path.join(other, n)).st_size for n in names}
        if before != after:
            raise Failed(f"{names}: a file of the other program was changed")
        for name, value in content.items():
            if fingerprint(other).get(name) != value:
                raise Failed(f"{name} of the other program was changed")
        if set(os.listdir(other)) - {n.split("/")[0] for n in names}:
            raise Failed(f"files were left in the other program's folder: "
                         f"{os.listdir(other)}")
        shutil.rmtree(other)
    case.intact()


def odd_paths(case):
    """links, control characters, overlong and nameless paths are refused"""
    case.fill()
    os.mkdir(os.path.join(case.folder, "real"))
    os.symlink("real", os.path.join(case.folder, "link"))
    os.symlink("nowhere", os.path.join(case.folder, "dangling"))
    for path, word in [("link", "link"), ("dangling", "link"), ("a\nb", "control"),
                       ("a\x01b", ""), ("x" * 5000, "path"), ("..", ""), ("/", ""),
                       (".", "")]:
        case.fails(TABLE.replace("TABLE t", "TABLE u") % f", path='{path}'",
                   (ERROR, CANTOPEN, NOTADB), word)
    if os.listdir(os.path.join(case.folder, "real")):
        raise Failed("something was written through the link")
    for path in ("it''s", "%s%n", "a b", "ünïcode", "quote\"d"):
        case.good([TABLE.replace("TABLE t", "TABLE u") % f", path='{path}'",
                   "INSERT INTO u VALUES ('a', 1)", "SELECT * FROM u",
                   "DROP TABLE u"])
        if not os.path.isdir(os.path.join(case.folder, path.replace("''", "'"))):
            raise Failed(f"path='{path}' did not make exactly that folder")
    case.intact()


# ---- Processes and rights -------------------------------------------------------------

def second_process(case):
    """a second process waits, then is told the first one's pid"""
    case.fill()
    first = case.start([ASK, "@hold", ASK])
    first.stdout.readline()
    for statement in (ASK, "INSERT INTO t VALUES ('x', 1)"):
        case.fails(statement, BUSY, str(first.pid))
    answer = case.fails(ASK, BUSY, str(first.pid), timeout=0.7)
    if not 0.5 < answer["seconds"] < 5:
        raise Failed(f"busy_timeout of 0.7 s, but it took {answer['seconds']:.2f} s")
    waiting = case.start([ASK], timeout=20)
    time.sleep(0.3)
    out, _ = first.communicate("go on\n", timeout=60)
    if json.loads(out.splitlines()[-1])[-1]["rows"] != EXPECTED:
        raise Failed("the first process lost rows")
    out, _ = waiting.communicate(timeout=60)
    if json.loads(out.splitlines()[-1])[-1]["rows"] != EXPECTED:
        raise Failed(f"the waiting process did not get on: {out}")
    case.intact()


def killed_process(case):
    """a process that was killed locks nobody out"""
    case.fill()
    first = case.start([ASK, "BEGIN", "DELETE FROM t", "@hold"])
    first.stdout.readline()
    first.kill()
    first.communicate()
    case.intact()


def check_read_only(case, **where):
    """Reads work, writes are READONLY, in the database's own table and a TEMP one."""
    rows = case.good([ASK, "SELECT v FROM t WHERE k = 'key00012'"],
                     db=f"file:{case.db}?immutable=1", **where)
    if rows != [[144]]:
        raise Failed(f"reading gives {rows}")
    case.fails("DELETE FROM t", READONLY, "", db=f"file:{case.db}?immutable=1", **where)
    temp = f"CREATE VIRTUAL TABLE temp.r USING armdb(path='{case.store}', table='t')"
    rows = case.good([temp, "SELECT count(*), sum(v) FROM r"], db=":memory:", **where)
    if rows != EXPECTED:
        raise Failed(f"reading gives {rows}")
    for write in ("INSERT INTO r VALUES ('x', 1)", "DELETE FROM r",
                  "UPDATE r SET v = 0 WHERE k = 'key00007'"):
        case.fails([temp, write], READONLY, "", db=":memory:", **where)
    case.fails(f"CREATE VIRTUAL TABLE temp.n USING armdb(a PRIMARY KEY,"
               f" path='{case.store}')", READONLY, "", db=":memory:", **where)


def read_only_rights(case):
    """a folder without write permission can be read; writing is READONLY"""
    need_root()
    case.fill()
    subprocess.run(["chmod", "-R", "a-w,a+rX", case.store, case.db], check=True)
    before = fingerprint(case.store)
    check_read_only(case, user=NOBODY)
    unchanged(case.store, before)
    subprocess.run(["chmod", "-R", "u+w", case.store, case.db], check=True)
    case.intact()


def read_only_mount(case):
    """a read-only mount can be read; writing is READONLY"""
    need_root()
    case.fill()
    before = fingerprint(case.store)
    with Mount(case.store, "--bind", case.store):
        done = subprocess.run(["mount", "-o", "remount,ro,bind", case.store],
                              capture_output=True, check=False)
        if done.returncode != 0:
            raise Skipped("cannot mount read-only")
        check_read_only(case)
    unchanged(case.store, before)
    case.intact()


def read_only_torn(case):
    """a store that was not closed can be read where it cannot be written"""
    need_root()
    case.fill()
    first = case.start(["INSERT INTO t VALUES ('late', 0)", "BEGIN",
                        "INSERT INTO t VALUES ('never', 0)", "@hold"])
    first.stdout.readline()
    first.kill()
    first.communicate()
    before = fingerprint(case.store)
    temp = f"CREATE VIRTUAL TABLE temp.r USING armdb(path='{case.store}', table='t')"
    with Mount(case.store, "--bind", case.store):
        subprocess.run(["mount", "-o", "remount,ro,bind", case.store], check=True)
        rows = case.good([temp, "SELECT count(*), sum(v) FROM r"], db=":memory:")
    unchanged(case.store, before)
    if rows != [[EXPECTED[0][0] + 1, EXPECTED[0][1]]]:
        raise Failed(f"reading gives {rows}")
    case.good(["DELETE FROM t WHERE k = 'late'"])
    case.intact()


# ---- The superblock -------------------------------------------------------------------

def broken_superblock(case):
    """a truncated, foreign or damaged superblock is refused, nothing is changed"""
    case.fill()
    file = os.path.join(case.store, "superblock")
    with open(file, "rb") as src:
        good = src.read()
    bad = [b"", good[:1], good[:100], good[:-1], good + b"x", b"\0" * len(good),
           b"SQLite format 3\0" + good[16:], os.urandom(len(good)), b"hello\n"]
    bad += [good[:at] + bytes([good[at] ^ 1]) + good[at + 1:]
            for at in (0, 7, 8, 12, 16, 31, 32, 40, 56, 64, 500, len(good) - 1)]
    for content in bad:
        with open(file, "wb") as out:
            out.write(content)
        before = fingerprint(case.store)
        case.fails(ASK, (NOTADB, CORRUPT), "superblock")
        case.fails("INSERT INTO t VALUES ('x', 1)", (NOTADB, CORRUPT), "superblock")
        unchanged(case.store, before)
    with open(file, "wb") as out:
        out.write(good)
    case.intact()


def lost_superblock(case):
    """a store without its superblock is not taken for an empty folder"""
    case.fill()
    file = os.path.join(case.store, "superblock")
    os.rename(file, case.folder + "/superblock")
    before = fingerprint(case.store)
    case.fails(ASK, (NOTADB, CORRUPT, CANTOPEN, ERROR), "")
    case.fails(TABLE.replace("TABLE t", "TABLE u") % "",
               (NOTADB, CORRUPT, CANTOPEN, ERROR), "")
    unchanged(case.store, before)
    os.rename(case.folder + "/superblock", file)
    case.intact()


def foreign_superblock(case):
    """another store's superblock is refused, and no segment is removed"""
    case.fill()
    other = os.path.join(case.folder, "other")
    case.good([TABLE % ""], db=other)
    file = os.path.join(case.store, "superblock")
    shutil.copy(file, case.folder + "/superblock")
    shutil.copy(other + "-armdb/superblock", file)
    before = fingerprint(case.store)
    case.fails(ASK, (NOTADB, CORRUPT, ERROR), "")
    unchanged(case.store, before)
    shutil.copy(case.folder + "/superblock", file)
    case.intact()


def broken_manifest(case):
    """a truncated, damaged or lost manifest is refused, nothing is changed"""
    case.fill()
    lost = os.path.join(case.store, "manifest")
    with open(lost, "rb") as src:
        good = src.read()
    for content in (good[:-1], b"", good[:20], good[:-1] + bytes([good[-1] ^ 1])):
        with open(lost, "wb") as out:
            out.write(content)
        before = fingerprint(case.store)
        case.fails(ASK, (NOTADB, CORRUPT), "manifest")
        unchanged(case.store, before)
    os.unlink(lost)
    before = fingerprint(case.store)
    case.fails(ASK, (NOTADB, CORRUPT, CANTOPEN, ERROR), "manifest")
    unchanged(case.store, before)
    with open(lost, "wb") as out:
        out.write(good)
    case.intact()


# ---- Encodings and limits -------------------------------------------------------------

def utf16(case):
    """a database in UTF-16 is refused"""
    case.fill()
    for encoding in ("UTF-16le", "UTF-16be"):
        db = os.path.join(case.folder, encoding)
        for place in ("main.", "temp."):
            case.fails([f"PRAGMA encoding='{encoding}'",
                        "CREATE TABLE IF NOT EXISTS n(x)",
                        f"CREATE VIRTUAL TABLE {place}u USING armdb(k PRIMARY KEY, "
                        f"path='{case.store}')"], ERROR, "UTF-8", db=db)
    case.intact()


def key_limit(case):
    """a key over 1 MiB is refused with the limit, one just below it is stored"""
    case.fill()
    limit = 1 << 20
    case.fails(f"INSERT INTO t VALUES (printf('%.*c', {limit + 1}, 'x'), 1)", TOOBIG,
               str(limit))
    case.fails(["BEGIN", "INSERT INTO t VALUES ('one', 1)",
                f"INSERT INTO t SELECT printf('%.*c', {limit} * n, 'x'), 1 FROM "
                "(SELECT 0.001 AS n UNION ALL SELECT 2 UNION ALL SELECT 0.002)"],
               TOOBIG, str(limit))
    case.fails(f"UPDATE t SET k = k || printf('%.*c', {limit}, 'x') WHERE k < 'key00010'",
               TOOBIG, str(limit))
    case.intact()
    rows = case.good([f"INSERT INTO t VALUES (printf('%.*c', {limit} - 16, 'x'), 0)",
                      "SELECT length(k) FROM t WHERE k > 'x'",
                      "SELECT count(*) FROM t WHERE k = printf('%.*c', "
                      f"{limit} - 16, 'x')"])
    if rows != [[1]]:
        raise Failed(f"the longest key is not found: {rows}")
    case.good([f"SELECT count(*) FROM t WHERE k = printf('%.*c', {limit * 3}, 'x')",
               "DELETE FROM t WHERE length(k) > 100"])
    case.intact()


def value_limit(case):
    """a row over its limit is refused with the limit"""
    with open("/proc/meminfo", encoding="ascii") as src:
        free = int([line for line in src if "MemAvailable" in line][0].split()[1])
    if free < 8 << 20:
        raise Skipped("needs 8 GiB of free memory")
    case.good(["CREATE VIRTUAL TABLE u USING armdb(k PRIMARY KEY, a, b)"])
    case.fill()
    case.fails("INSERT INTO u VALUES (1, zeroblob(600000000), zeroblob(600000000))",
               TOOBIG, str(1 << 30))
    case.fails("INSERT INTO u VALUES (1, zeroblob(1000000001), 1)", TOOBIG, "too big")
    case.fails(f"CREATE VIRTUAL TABLE w USING armdb(k PRIMARY KEY, table='{'n' * 300}')",
               ERROR, "table")
    if case.good(["SELECT count(*) FROM u"]) != [[0]]:
        raise Failed("a refused row is there")
    case.intact()


# ---- A full disk ----------------------------------------------------------------------

def check_full_disk(case, ballast):
    """A transaction meets a full disk; later there is room again."""
    big = ("INSERT INTO t WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c"
           " LIMIT 20000) SELECT printf('big%05d', n), randomblob(5000) FROM c")
    small = "INSERT INTO t VALUES ('after', 0)"
    gone = "DELETE FROM t WHERE k = 'after'"
    count = "SELECT count(*), sum(CASE WHEN typeof(v) = 'integer' THEN v END) FROM t"
    answers = case.run(["BEGIN", "DELETE FROM t WHERE k < 'key00100'", big, "ROLLBACK",
                        count, "BEGIN", big, count, "COMMIT", count, big, count,
                        f"@free {ballast}", small, gone, count])
    for number, what in ((2, "in a transaction"), (6, "in another"), (10, "alone")):
        check_error(f"100 MB {what}", answers[number], FULL, "")
    for number in (4, 7, 9, 11, 14):
        if answers[number]["rows"] != EXPECTED:
            raise Failed(f"after statement {number}: {answers[number]}")
    for number, what in ((8, "COMMIT after the failed statement"),
                         (12, "INSERT with room again, without reopening")):
        if answers[number]["code"] != 0:
            raise Failed(f"{what}: {answers[number]['text']}")
    case.intact()
    case.good([small, gone])
    case.intact()


def full_disk(case):
    """a disk that fills up in the middle of a transaction costs only that transaction"""
    if os.geteuid() != 0:
        raise Skipped("needs root for a small file system; full_file covers a part")
    place = os.path.join(case.folder, "small")
    with Mount(place, "-t", "tmpfs", "-o", "size=24m", "tmpfs"):
        ballast = os.path.join(place, "ballast")
        with open(ballast, "wb") as out:
            out.write(b"\0" * (8 << 20))
        case.db = os.path.join(place, "db")
        case.store = case.db + "-armdb"
        case.fill(", segment_size='1M'")
        check_full_disk(case, ballast)


def full_from_start(case):
    """a disk without room for a store says so"""
    if os.geteuid() != 0:
        raise Skipped("needs root for a small file system")
    case.fill()
    place = os.path.join(case.folder, "small")
    with Mount(place, "-t", "tmpfs", "-o", "size=64k", "tmpfs"):
        with open(os.path.join(place, "ballast"), "wb") as out:
            try:
                out.write(b"\0" * (1 << 20))
                out.flush()
            except OSError:
                pass
        answers = case.run(["CREATE VIRTUAL TABLE temp.u USING armdb(k PRIMARY KEY, v, "
                            f"path='{place}/store')", "INSERT INTO u VALUES (1, 1)"],
                           db=":memory:")
        failed = [a for a in answers if a["code"] != 0]
        if not failed:
            raise Failed("a store fits where nothing does")
        check_error("CREATE", failed[0], FULL, "")
    case.intact()


def full_file(case):
    """a limit on the length of files (EFBIG) costs only the transaction"""
    case.fill(", segment_size='1M'")
    script = ("import resource,os,sys;"
              "resource.setrlimit(resource.RLIMIT_FSIZE,(3<<20,3<<20));"
              "os.execv(sys.argv[1],sys.argv[1:])")
    command = case.command(None)
    process = subprocess.Popen(
        ["/usr/bin/python3", "-c", script] + command, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    order = {"db": case.db, "extension": case.extension,
             "sql": ["BEGIN", "INSERT INTO t VALUES ('huge', randomblob(9000000))",
                     "COMMIT", "ROLLBACK", ASK, "INSERT INTO t VALUES ('after', 0)",
                     "DELETE FROM t WHERE k = 'after'", ASK]}
    out, err = process.communicate(json.dumps(order) + "\n", timeout=60)
    if process.returncode != 0:
        raise Failed(f"the child ended with {process.returncode}: {err.strip()}")
    answers = json.loads(out.splitlines()[-1])
    failed = [a for a in answers[1:3] if a["code"] != 0]
    if not failed:
        raise Failed("9 MB went into files of at most 3 MiB")
    check_error("the large row", failed[0], FULL, "")
    if answers[4]["rows"] != EXPECTED:
        raise Failed(f"after the rollback: {answers[4]}")
    if answers[5]["code"] != 0:
        raise Failed(f"a small row afterwards: {answers[5]['text']}")
    case.intact()


CASES = [unknown_option, wrong_values, immutable_option, declarations, refused_or_obeyed,
         other_columns, missing_folder, vanished_store, swapped_store, unwritable_folder,
         path_is_file, foreign_folder, odd_paths, second_process, killed_process,
         read_only_rights, read_only_mount, read_only_torn, broken_superblock,
         lost_superblock, foreign_superblock, broken_manifest, utf16, key_limit,
         value_limit, full_disk, full_from_start, full_file]


def run_case(function, extension):
    """Runs one case; returns whether it failed."""
    title = " ".join(function.__doc__.split())
    case = Case(extension)
    try:
        function(case)
        print(f"ok - {title}")
        return False
    except Skipped as reason:
        print(f"skip - {title}: {reason}")
        return False
    except Failed as error:
        print(f"not ok - {title}: {error}")
    except subprocess.TimeoutExpired as error:
        print(f"not ok - {title}: hangs ({error.timeout} s)")
    finally:
        case.close()
        sys.stdout.flush()
    return True


def main():
    """Runs all cases, or those whose function name has the second argument in it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    extension = (sys.argv[1] if len(sys.argv) > 1 else
                 os.environ.get("ARMDB_EXTENSION") or os.environ.get("ARMDB_VTAB"))
    if not extension:
        sys.exit("bad_input: name the extension")
    word = sys.argv[2] if len(sys.argv) > 2 else ""
    chosen = [c for c in CASES if word in c.__name__]
    failed = sum(run_case(c, extension) for c in chosen)
    print(f"bad_input: {len(chosen) - failed} passed or skipped, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child()
    else:
        main()

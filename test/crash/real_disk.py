#!/usr/bin/python3
"""What a real file system does to an open store.

A child process has a store open and writes rows; then its disk fills up, its files may
not grow, its descriptors are exhausted, its folder becomes read-only, is moved away,
deleted, or a file of it vanishes. Each case runs with both I/O engines and each sync
mode and asserts:

    meanwhile     what fails has the right code and a text that says why; what was
                  acknowledged is read as it was written; nothing is made at a path
                  that is no longer the store's; the process lives
    afterwards    the cause is gone: the same process writes on, where the cause left
                  it files to write to
    reopened      by a new process: exactly the acknowledged rows are there

    real_disk.py [EXTENSION] [WORD]     only the cases whose name has WORD

The extension may also come in ARMDB_EXTENSION or ARMDB_VTAB. File systems of a few MiB
are mounted by root, or in a namespace of the test's own (unshare) where users may have
those; cases that cannot run here are skipped with the reason. Prints "ok - ...",
"not ok - ..." and "skip - ..." lines.
"""
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

ENGINES = ("plain", "uring")
SYNCS = ("full", "normal", "off")
ROW = 100_000  # bytes of a large row; ten fill a segment

# SQLite's result codes
READONLY, IOERR, CORRUPT, FULL, CANTOPEN = 8, 10, 11, 13, 14


def row_bytes(key, size):
    """The value of a row comes from its key and length."""
    return hashlib.shake_128(f"{key} {size}".encode()).digest(size)


# ---- The child ------------------------------------------------------------------------

class Child:
    """Has the store open; does what the lines of its input say."""

    def __init__(self, order):
        import sqlite3
        self.sqlite3 = sqlite3
        self.hoard = []
        self.db = sqlite3.connect(":memory:", isolation_level=None)
        self.db.enable_load_extension(True)
        self.db.load_extension(order["extension"])
        self.db.execute("PRAGMA temp_store=MEMORY")
        self.do_limit({"bytes": order["limit"]})

    def do_sql(self, order):
        """One statement, perhaps with the key and bytes of a row."""
        values = ()
        if "key" in order:
            values = (order["key"], row_bytes(order["key"], order["size"]))
        rows = self.db.execute(order["sql"], values).fetchall()
        return [[v if not isinstance(v, bytes) else len(v) for v in r] for r in rows]

    def do_dump(self, _order):
        """Every row: its key, its length, whether its bytes are right."""
        return [[k, len(v), v == row_bytes(k, len(v))]
                for k, v in self.db.execute("SELECT k, v FROM t ORDER BY k")]

    def do_look(self, order):
        """The same, by a look-up of each key."""
        found = []
        for key in order["keys"]:
            for (v,) in self.db.execute("SELECT v FROM t WHERE k = ?", (key,)):
                found.append([key, len(v), v == row_bytes(key, len(v))])
        return found

    def do_in_transaction(self, _order):
        """True from BEGIN to the end of it."""
        return self.db.in_transaction

    def do_hoard(self, _order):
        """Takes every descriptor there is."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        try:
            while True:
                self.hoard.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            return len(self.hoard)

    def do_give_back(self, _order):
        """Descriptors are free again."""
        while self.hoard:
            os.close(self.hoard.pop())

    def do_limit(self, order):
        """Files may have so many bytes; none: any number."""
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        soft = resource.RLIM_INFINITY if order["bytes"] is None else order["bytes"]
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    def run(self, order):
        """One order; returns the answer."""
        try:
            return {"code": 0, "text": "", "rows": getattr(self, "do_" + order["do"])(order)}
        except self.sqlite3.Error as error:
            return {"code": getattr(error, "sqlite_errorcode", -1), "text": str(error),
                    "rows": None}


def child():
    """Answers a line of JSON with a line of JSON, until there are no more."""
    it = None
    for line in sys.stdin:
        order = json.loads(line)
        if it is None:
            it = Child(order)
        else:
            print(json.dumps(it.run(order)), flush=True)
    it.db.close()
    print("closed", flush=True)


# ---- The parent -----------------------------------------------------------------------

class Failed(Exception):
    """An assertion of a case did not hold."""


class Skipped(Exception):
    """This machine or user cannot run the case."""


class Case:
    """A folder, a store in it, a process that has it open, and what must be in it."""

    def __init__(self, extension, engine, sync):
        self.folder = tempfile.mkdtemp(prefix="armdb-real-disk-")
        os.chmod(self.folder, 0o755)
        self.extension = os.path.join(self.folder, "armdb_vtab.so")
        shutil.copy(extension, self.extension)
        self.script = os.path.join(self.folder, "child.py")
        shutil.copy(os.path.abspath(__file__), self.script)
        self.place = os.path.join(self.folder, "disk")
        os.mkdir(self.place)
        self.store = os.path.join(self.place, "store")
        self.engine = engine
        self.sync = sync
        self.rows = {}      # key -> length: what was acknowledged
        self.pending = None  # the same in a transaction
        self.number = 0
        self.process = None
        self.prefix = []   # runs the child with fewer rights
        self.limit = None  # bytes of a file
        self.mounted = False

    # Processes

    def start(self):
        """Opens the store, or makes it."""
        answer = self.open()
        if answer["code"] != 0:
            raise Failed(f"opening: {answer['text']} ({answer['code']})")

    def open(self):
        """A new process tries to; its answer."""
        command = self.prefix + ["/usr/bin/python3", self.script, "--child"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd="/",
                                        stdout=subprocess.PIPE, text=True)
        order = {"extension": self.extension, "limit": self.limit}
        self.process.stdin.write(json.dumps(order) + "\n")
        return self.ask(do="sql", sql=self.create("t", self.store))

    def create(self, name, store):
        """The statement that opens or makes a store."""
        return (f"CREATE VIRTUAL TABLE temp.{name} USING armdb(k TEXT PRIMARY KEY, v, "
                f"path='{store}', table='t', sync={self.sync}, segment_size='1M', "
                f"cache_size='1M', io_engine={self.engine})")

    def ask(self, **order):
        """One order to the child; the answer."""
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())
        except (OSError, ValueError) as error:
            code = self.process.wait(timeout=60)
            raise Failed(f"the process died with {code} at {order}") from error

    def end(self):
        """The child closes everything and ends by itself."""
        out, _ = self.process.communicate(timeout=60)
        if self.process.returncode != 0 or out.strip() != "closed":
            raise Failed(f"the child ended with {self.process.returncode} at its close")
        self.process = None

    # Rows

    def put(self, size, count=1):
        """Writes new rows; returns the first answer that is an error, or None."""
        for _ in range(count):
            self.number += 1
            key = f"key{self.number:05}"
            answer = self.ask(do="sql", sql="INSERT INTO t VALUES (?, ?)", key=key,
                              size=size)
            if answer["code"] != 0:
                return answer
            (self.rows if self.pending is None else self.pending)[key] = size
        return None

    def must_put(self, size, count=1):
        """Writes new rows, which succeeds."""
        answer = self.put(size, count)
        if answer is not None:
            raise Failed(f"a row of {size} bytes: {answer['text']} ({answer['code']})")

    def must(self, sql):
        """A statement that succeeds; keeps the model of transactions."""
        answer = self.ask(do="sql", sql=sql)
        if answer["code"] != 0:
            raise Failed(f"{sql}: {answer['text']} ({answer['code']})")
        if sql == "BEGIN":
            self.pending = dict(self.rows)
        elif sql == "COMMIT":
            self.rows, self.pending = self.pending, None
        elif sql == "ROLLBACK":
            self.pending = None
        return answer["rows"]

    def delete(self, key):
        """Deletes a row; returns the error, or None."""
        answer = self.ask(do="sql", sql=f"DELETE FROM t WHERE k = '{key}'")
        if answer["code"] != 0:
            return answer
        (self.rows if self.pending is None else self.pending).pop(key, None)
        return None

    def compare(self, answer, when):
        """The answer to dump or look is what was acknowledged."""
        if answer["code"] != 0:
            raise Failed(f"{when}, reading: {answer['text']} ({answer['code']})")
        rows = self.rows if self.pending is None else self.pending
        want = [[k, n, True] for k, n in sorted(rows.items())]
        if answer["rows"] != want:
            found = {k: [n, good] for k, n, good in answer["rows"]}
            wrong = [k for k in set(rows) | set(found)
                     if found.get(k) != [rows.get(k), True]]
            raise Failed(f"{when}: {len(answer['rows'])} rows, {len(want)} were "
                         f"acknowledged; wrong: {sorted(wrong)[:5]}")

    def intact(self, when):
        """Scans and look-ups give exactly the acknowledged rows."""
        self.compare(self.ask(do="dump"), when)
        keys = sorted(self.rows if self.pending is None else self.pending)
        self.compare(self.ask(do="look", keys=keys), when)

    def readable(self, when):
        """As intact(), but reading may be refused, with a text and a right code."""
        keys = sorted(self.rows)
        for order in ({"do": "dump"}, {"do": "look", "keys": keys}):
            answer = self.ask(**order)
            if answer["code"] != 0:
                check_error(when, answer, (IOERR, CANTOPEN, CORRUPT), "")
            else:
                self.compare(answer, when)

    def reopened(self):
        """A new process finds the same, and can write and close."""
        self.end()
        self.start()
        self.intact("opened again")
        self.must_put(500)
        self.end()

    # Disks

    def mount(self, size):
        """A small file system of one's own in the place of the store's folder."""
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755",
                               "none", self.place], capture_output=True, check=False)
        if done.returncode != 0:
            raise Skipped(f"mount: {done.stderr.decode().strip()}")
        self.mounted = True

    def mount_ext4(self, size):
        """The same with a file system that has blocks, a journal and delays."""
        image = os.path.join(self.folder, "image")
        with open(image, "wb") as out:
            out.truncate(size)
        for command in (["mkfs.ext4", "-q", "-F", "-m", "0", image],
                        ["mount", "-o", "loop", image, self.place]):
            try:
                done = subprocess.run(command, capture_output=True, check=False)
            except OSError as error:
                raise Skipped(f"{command[0]}: {error.strerror}") from error
            if done.returncode != 0:
                raise Skipped(f"{command[0]}: {done.stderr.decode().strip()}")
        self.mounted = True

    def close(self):
        """Ends the child, removes the folder."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        if self.mounted:
            subprocess.run(["umount", "-l", self.place], check=False)
        subprocess.run(["chmod", "-R", "u+w", self.folder], check=False,
                       stderr=subprocess.DEVNULL)
        shutil.rmtree(self.folder, ignore_errors=True)


def check_error(what, answer, codes, *words):
    """The answer is one of these errors; its text is one, and has one of the words."""
    if answer["code"] & 0xff not in codes:
        raise Failed(f"{what}: code {answer['code']} \"{answer['text']}\", "
                     f"not {' or '.join(map(str, codes))}")
    text = answer["text"].lower()
    if not text or not any(word.lower() in text for word in words):
        raise Failed(f"{what}: \"{answer['text']}\" does not say {' or '.join(words)}")


# ---- Cases ----------------------------------------------------------------------------

def end_transaction(case):
    """SQLite ends it by itself with some errors, FULL among them; else ROLLBACK."""
    if case.ask(do="in_transaction")["rows"]:
        case.must("ROLLBACK")
    case.pending = None


def fill_up(case, code, word):
    """Rows go in until none does; each failure costs only itself."""
    answer = case.put(ROW, 400)
    if answer is None:
        raise Failed("40 MB went in where only a few have room")
    check_error("a row too many", answer, (code,), word)
    case.intact("after the failed row")
    case.must("BEGIN")
    case.must_put(10, 3)
    answer = case.put(ROW, 400)
    if answer is None:
        answer = case.ask(do="sql", sql="COMMIT")
    check_error("in a transaction", answer, (code,), word)
    end_transaction(case)
    case.intact("after the transaction")
    # The room that is left is used up by smaller ones.
    for size in (20_000, 3000, 500):
        answer = case.put(size, 300)
        if answer is not None:
            check_error(f"a row of {size} bytes", answer, (code,), word)
    case.intact("when small rows do not go in either")


def disk_gets_room(case):
    """Ballast goes: the same process writes on."""
    os.unlink(os.path.join(case.place, "ballast"))
    case.must_put(ROW, 5)
    case.must("BEGIN")
    case.must_put(ROW, 3)
    if case.delete(min(case.rows)) is not None:
        raise Failed("a row cannot be deleted")
    case.must("COMMIT")
    case.intact("with room again")
    case.reopened()


def begin_on_small_disk(case):
    """Some rows, and ballast that can be thrown off later."""
    with open(os.path.join(case.place, "ballast"), "wb") as out:
        out.write(b"\1" * (4 << 20))
    case.start()
    case.must_put(300, 50)


def full_disk(case):
    """a full disk costs what did not fit; with room again the process writes on"""
    case.mount("12m")
    begin_on_small_disk(case)
    fill_up(case, FULL, "no space")
    disk_gets_room(case)


def full_ext4(case):
    """the same on a file system with blocks and a journal"""
    case.mount_ext4(20 << 20)
    begin_on_small_disk(case)
    fill_up(case, FULL, "no space")
    disk_gets_room(case)


def deletes_on_full_disk(case):
    """on a full disk rows can be deleted, or it says that it is full; then there is room"""
    case.mount("12m")
    begin_on_small_disk(case)
    case.must_put(ROW, 20)
    fill_up(case, FULL, "no space")
    for key in sorted(case.rows):
        answer = case.delete(key)
        if answer is not None:
            check_error("a DELETE", answer, (FULL,), "no space")
    case.intact("after the deletes")
    disk_gets_room(case)


def file_size_limit(case):
    """files that may not grow (RLIMIT_FSIZE): SQLITE_FULL, until they may"""
    case.limit = 600_000
    check_error("opening", case.open(), (FULL,), "too large")
    case.ask(do="limit", bytes=1_500_000)
    case.must(case.create("t", case.store))
    case.must_put(300, 50)
    check_error("a row of 2 MB", case.put(20 * ROW), (FULL,), "too large")
    case.must("BEGIN")
    case.must_put(10, 3)
    answer = case.put(20 * ROW) or case.ask(do="sql", sql="COMMIT")
    check_error("in a transaction", answer, (FULL,), "too large")
    end_transaction(case)
    case.intact("after the failed rows")
    case.must_put(ROW, 25)
    case.limit = None
    case.ask(do="limit", bytes=None)
    case.must_put(20 * ROW)
    case.intact("without the limit")
    case.reopened()


def no_descriptors(case):
    """without descriptors what needs a new file fails, reading goes on; later all works"""
    case.start()
    case.must_put(ROW, 25)
    case.ask(do="hoard")
    answer = case.put(ROW, 60)
    if answer is None:
        raise Failed("6 MB went into segments of 1 MiB without a new file")
    check_error("a row in a new segment", answer, (CANTOPEN, IOERR), "too many open files")
    case.intact("without descriptors")
    answer = case.ask(do="sql", sql=case.create("u", case.store + "2"))
    check_error("a second store", answer, (CANTOPEN, IOERR), "too many open files")
    case.ask(do="give_back")
    case.must(case.create("u", case.store + "2"))
    case.must_put(ROW, 25)
    case.intact("with descriptors again")
    case.must("DROP TABLE u")
    case.reopened()


def folder_read_only(case):
    """a folder that becomes read-only: no new segment, and nothing lost; later all works"""
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            raise Skipped("needs setpriv, since root may write everywhere")
        case.prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    case.start()
    case.must_put(ROW, 25)
    os.chmod(case.store, 0o555)
    answer = case.put(ROW, 60)
    if answer is None:
        raise Failed("new segments were made in a read-only folder")
    check_error("a row in a new segment", answer, (CANTOPEN, IOERR, READONLY), "denied")
    case.intact("in a read-only folder")
    os.chmod(case.store, 0o755)
    case.must_put(ROW, 25)
    case.intact("in a writable one again")
    case.reopened()


def folder_moved(case):
    """a folder that is moved away is used on at its new place; nothing is made at the old"""
    case.start()
    case.must_put(ROW, 25)
    elsewhere = os.path.join(case.folder, "elsewhere")
    os.rename(case.store, elsewhere)
    answer = case.put(ROW, 40)
    if answer is not None:
        check_error("a row", answer, (CANTOPEN, IOERR), "store")
    case.readable("moved away")
    if os.path.exists(case.store):
        raise Failed("something was made at the old place")
    case.end()
    if os.path.exists(case.store):
        raise Failed("something was made at the old place by the close")
    case.store = elsewhere
    case.start()
    case.intact("opened at its new place")
    case.must_put(ROW, 25)
    case.reopened()


def folder_deleted(case):
    """a folder that is deleted: the process lives, says so, and makes nothing in its place"""
    case.start()
    case.must_put(ROW, 25)
    shutil.rmtree(case.store)
    answer = case.put(ROW, 40)
    if answer is None:
        raise Failed("new segments were made in a folder that is gone")
    check_error("a row in a new segment", answer, (CANTOPEN, IOERR), "no such file")
    case.readable("deleted")
    if os.path.exists(case.store):
        raise Failed("something was made in its place")
    case.end()
    if os.path.exists(case.store):
        raise Failed("something was made in its place by the close")
    case.rows = {}
    case.start()
    case.intact("a new store in its place")
    case.must_put(ROW, 25)
    case.reopened()


def segment_vanishes(case):
    """a segment deleted under the store: no crash, and the next opening names it"""
    case.start()
    case.must_put(ROW, 35)
    segment = sorted(n for n in os.listdir(case.store) if n.endswith(".seg"))[0]
    os.unlink(os.path.join(case.store, segment))
    case.readable("without a segment's name")
    answer = case.put(ROW, 3)
    if answer is not None:
        check_error("a row", answer, (CANTOPEN, IOERR, CORRUPT), segment)
    case.end()
    check_error("opening", case.open(), (CORRUPT,), segment)
    case.end()


def segment_cut(case):
    """a segment cut short under the store: errors, no signal; what is whole is read"""
    case.start()
    case.must_put(ROW, 45)
    segment = sorted(n for n in os.listdir(case.store) if n.endswith(".seg"))[1]
    os.truncate(os.path.join(case.store, segment), 200_000)
    good = lost = 0
    for key, size in sorted(case.rows.items()):
        answer = case.ask(do="look", keys=[key])
        if answer["code"] == 0:
            if answer["rows"] != [[key, size, True]]:
                raise Failed(f"{key}: {answer['rows']}")
            good += 1
        else:
            check_error(key, answer, (IOERR, CORRUPT), segment)
            lost += 1
    if good < 25 or lost < 1:
        raise Failed(f"{good} rows are read, {lost} are not")
    answer = case.put(ROW, 3)
    if answer is not None:
        check_error("a row", answer, (CANTOPEN, IOERR, CORRUPT), "")
    case.end()


CASES = [full_disk, full_ext4, deletes_on_full_disk, file_size_limit, no_descriptors,
         folder_read_only, folder_moved, folder_deleted, segment_vanishes, segment_cut]


def run_case(function, extension, engine, sync):
    """Runs one case; returns the line that says how it went."""
    title = f"{' '.join(function.__doc__.split())} ({engine}, sync={sync})"
    case = Case(extension, engine, sync)
    try:
        function(case)
        return f"ok - {title}"
    except Skipped as reason:
        return f"skip - {title}: {reason}"
    except Failed as error:
        return f"not ok - {title}: {error}"
    except subprocess.TimeoutExpired as error:
        return f"not ok - {title}: hangs ({error.timeout} s)"
    finally:
        case.close()


def own_namespace():
    """Mounts need root: that of a namespace will do. Comes back only without one."""
    if os.geteuid() == 0 or os.environ.get("ARMDB_UNSHARED") or not shutil.which("unshare"):
        return
    probe = subprocess.run(["unshare", "-Urm", "true"], capture_output=True, check=False)
    if probe.returncode == 0:
        os.environ["ARMDB_UNSHARED"] = "1"
        os.execvp("unshare", ["unshare", "-Urm", sys.executable] + sys.argv)


def main():
    """Runs all cases, or those whose function name has the second argument in it."""
    own_namespace()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    extension = (sys.argv[1] if len(sys.argv) > 1 else
                 os.environ.get("ARMDB_EXTENSION") or os.environ.get("ARMDB_VTAB"))
    if not extension:
        sys.exit("real_disk: name the extension")
    word = sys.argv[2] if len(sys.argv) > 2 else ""
    chosen = [(function, extension, engine, sync)
              for function in CASES if word in function.__name__
              for engine in ENGINES for sync in SYNCS]
    failed = False
    with ThreadPoolExecutor(int(os.environ.get("JOBS", "2"))) as pool:
        for line in pool.map(lambda case: run_case(*case), chosen):
            print(line, flush=True)
            failed = failed or line.startswith("not ok")
    sys.exit(failed)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child()
    else:
        main()

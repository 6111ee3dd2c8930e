"""What make.py (which writes golden stores) and test/sql/golden.py (which reads them) share:
opening a folder, and what it holds as text.

A dump names each table, its columns, then its rows in the order of the key; long values by
length and sum. What cannot be read is its error."""
import os
import sqlite3


def connect(so, name=":memory:"):
    c = sqlite3.connect(name, isolation_level=None)
    c.text_factory = bytes
    c.enable_load_extension(True)
    c.load_extension(os.path.abspath(so))
    return c


def shorten(s):
    if len(s) <= 300:
        return s
    return "%s...%d characters, sum %d" % (s[:40], len(s), sum(s.encode()) % 1000003)


def text(value, kind=None):
    """A value as text: what SQLite's versions write alike."""
    if value is None:
        return "NULL"
    if kind == b"blob":
        return shorten("x'%s'" % value.hex())
    if isinstance(value, bytes):
        s = value.decode("utf-8", "backslashreplace").replace("\0", "\\0")
        return shorten("'%s'" % s if kind is not None else s)
    return repr(value)


def dump_table(c, folder, name):
    lines = ["table " + name]
    try:
        c.execute("CREATE VIRTUAL TABLE temp.\"%s\" USING armdb(path='%s', table='%s')"
                  % (name, folder.replace("'", "''"), name))
        columns = c.execute("PRAGMA temp.table_xinfo('%s')" % name).fetchall()
        shown = [r[1].decode() for r in columns if r[6] == 0]
        for r in columns:
            if r[6] == 0:
                lines.append("column %s, %s, not null %d, default %s, key %d" % (
                    text(r[1]), text(r[2]) or "no type", r[3],
                    "none" if r[4] is None else text(r[4]), r[5]))
        lines.append("count " + text(c.execute("SELECT armdb_count('%s')" % name).fetchone()[0]))
        typed = ", ".join('typeof("%s"), "%s"' % (s, s) for s in shown)
        for r in c.execute('SELECT %s FROM temp."%s"' % (typed, name)):
            pairs = zip(r[1::2], r[::2])
            lines.append("row " + ", ".join(text(v, kind) for v, kind in pairs))
        found = c.execute("SELECT * FROM armdb_verify('%s')" % name).fetchall()
        lines.append("verify " + "; ".join(", ".join(text(v) for v in r) for r in found))
    except sqlite3.Error as e:
        lines.append("error " + str(e).replace(folder, "FOLDER"))
    return lines


def dump(so, folder, tables):
    c = connect(so)
    lines = []
    for name in tables:
        lines += dump_table(c, folder, name)
    c.close()
    return "\n".join(lines) + "\n"

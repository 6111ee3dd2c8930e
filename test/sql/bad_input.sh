# Bad input through the stock shell: each gets an error that names what is wrong, and
# the rows that were there stay there.
# shellcheck source=/dev/null
. test/sql/common.inc

with() { db=$1 && shift && shell -cmd ".load $vtab" "$db" "$@" 2>&1; }

# refuses TEXT WORDS DATABASE SQL...: the SQL fails with a message that has these words.
refuses()
{
    text=$1
    words=$2
    shift 2
    got=$(with "$@")
    if [ $? -ne 0 ] && echo "$got" | grep -qiE "$words"; then
        ok "$text"
    else
        not_ok "$text"
        printf 'want an error with: %s\ngot:  %s\n' "$words" "$got"
    fi
}

# A store with rows to be kept, in a database of its own.
good=$folder/good.db
with "$good" "CREATE VIRTUAL TABLE t USING armdb(k TEXT PRIMARY KEY, v, shards=2)" \
    "INSERT INTO t VALUES ('a', 1), ('b', 2), ('c', 3)"
rows_stay() { check_equal "$1" "a1 b2 c3" \
    "$(with "$good" "SELECT group_concat(k || v, ' ') FROM t")"; }
rows_stay "the rows are there"

# ---- Options and columns ----------------------------------------------------------

new=$folder/new.db
refuses "an unknown option is named" "colour" "$new" \
    "CREATE VIRTUAL TABLE t USING armdb(k PRIMARY KEY, v, colour=red)"
refuses "a wrong value says what is allowed" "sync.*(full|normal|off)" "$new" \
    "CREATE VIRTUAL TABLE t USING armdb(k PRIMARY KEY, v, sync=sometimes)"
refuses "a number out of range says what is allowed" "shards.*64" "$new" \
    "CREATE VIRTUAL TABLE t USING armdb(k PRIMARY KEY, v, shards=65)"
refuses "an option given twice is refused" "shards" "$new" \
    "CREATE VIRTUAL TABLE t USING armdb(k PRIMARY KEY, v, shards=2, shards=3)"
refuses "columns without a PRIMARY KEY are refused" "PRIMARY KEY" "$new" \
    "CREATE VIRTUAL TABLE t USING armdb(a, b)"
refuses "a PRIMARY KEY of an unknown column is refused" "." "$new" \
    "CREATE VIRTUAL TABLE t USING armdb(a, b, PRIMARY KEY(c))"
refuses "an unknown collation is named" "klingon" "$new" \
    "CREATE VIRTUAL TABLE t USING armdb(k TEXT COLLATE klingon PRIMARY KEY, v)"
refuses "a syntax error in a column is refused" "syntax|near" "$new" \
    "CREATE VIRTUAL TABLE t USING armdb(k TEXT PRIMARY PRIMARY KEY, v)"
check_equal "no refused CREATE left a table" 0 \
    "$(with "$new" "SELECT count(*) FROM sqlite_schema")"

refuses "a changed shards= is named, with what the store has" "shards" "$folder/other.db" \
    "CREATE VIRTUAL TABLE t USING armdb(k TEXT PRIMARY KEY, v,
     path='$good-armdb', shards=8)"
refuses "other columns than the stored ones are named" "column" "$folder/other.db" \
    "CREATE VIRTUAL TABLE t USING armdb(k TEXT PRIMARY KEY, w, x, path='$good-armdb')"
rows_stay "the store kept its rows under refused CREATEs"

# ---- Folders -------------------------------------------------------------------------

refuses "a folder whose parent is missing is named" "missing" "$new" \
    "CREATE VIRTUAL TABLE t USING armdb(path='$folder/missing/store')"
refuses "a folder that cannot be made is named" "/proc/armdb" "$new" \
    "CREATE VIRTUAL TABLE t USING armdb(path='/proc/armdb')"

echo precious > "$folder/file"
refuses "a path that is a file is refused" "$folder/file" "$new" \
    "CREATE VIRTUAL TABLE t USING armdb(path='$folder/file')"
check_equal "the file is as it was" precious "$(cat "$folder/file")"

mkdir "$folder/program"
echo precious > "$folder/program/data"
refuses "another program's folder is refused" "$folder/program" "$new" \
    "CREATE VIRTUAL TABLE t USING armdb(path='$folder/program')"
check_equal "that folder is as it was" "data precious" \
    "$(ls "$folder/program") $(cat "$folder/program/data")"

ln -s "$good-armdb" "$folder/link"
refuses "a symbolic link at the end of the path is refused" "link" "$new" \
    "CREATE VIRTUAL TABLE t USING armdb(path='$folder/link')"
rows_stay "the store kept its rows under refused paths"

# copy NAME: a copy of the good database and its store, with $1-armdb to be damaged.
copy() { cp "$good" "$folder/$1.db" && cp -r "$good-armdb" "$folder/$1.db-armdb"; }

copy truncated
superblock=$folder/truncated.db-armdb/superblock
if [ -e "$superblock" ]; then
    size=$(stat -c %s "$superblock")
    head -c $((size / 2)) "$good-armdb/superblock" > "$superblock"
    refuses "a truncated superblock is refused" "superblock" "$folder/truncated.db" \
        "SELECT count(*) FROM t"
    check_equal "and is left as it was" $((size / 2)) "$(stat -c %s "$superblock")"

    copy foreign
    yes 'not a store' | head -c "$size" > "$folder/foreign.db-armdb/superblock"
    refuses "a foreign superblock is refused" "superblock|store" "$folder/foreign.db" \
        "SELECT count(*) FROM t"
else
    not_ok "the store has a file named superblock"
fi

copy gone
rm -r "$folder/gone.db-armdb"
refuses "a store that is gone is named" "gone.db-armdb" "$folder/gone.db" \
    "SELECT count(*) FROM t"
check_equal "and not made anew" no \
    "$([ -e "$folder/gone.db-armdb" ] && echo yes || echo no)"

copy mixed
rm -r "$folder/mixed.db-armdb"
with "$folder/stranger.db" "CREATE VIRTUAL TABLE t USING armdb(k TEXT PRIMARY KEY, v)" \
    "INSERT INTO t VALUES ('x', 9)"
cp -r "$folder/stranger.db-armdb" "$folder/mixed.db-armdb"
refuses "another store in the place of this one is refused" "." "$folder/mixed.db" \
    "SELECT count(*) FROM t"

# ---- Who may read and write ---------------------------------------------------------

# One process at a time: the second waits for its busy_timeout and is told the pid.
mkfifo "$folder/hold"
shell -cmd ".load $vtab" "$good" < "$folder/hold" > "$folder/holder" 2>&1 &
holder=$!
exec 4> "$folder/hold"
echo "SELECT count(*) FROM t;" >&4
while ! grep -q 3 "$folder/holder"; do sleep 0.05; done
refuses "a second process is told who has the store" "$holder" "$good" \
    "SELECT count(*) FROM t"
exec 4>&-
wait $holder
rows_stay "the rows are there when the first has gone"

# Reading a store that cannot be written works; writing says why not. Root may write
# anywhere, so this runs as nobody then.
as=
[ "$(id -u)" = 0 ] && as="setpriv --reuid=65534 --regid=65534 --clear-groups"
cp "$ARMDB_VTAB" "$folder/armdb_vtab.so"
if $as true 2> /dev/null; then
    copy fixed
    [ -n "$as" ] && chown -R 65534:65534 "$folder/fixed.db" "$folder/fixed.db-armdb"
    chmod 755 "$folder" "$folder/armdb_vtab.so"
    chmod -R a=rX "$folder/fixed.db" "$folder/fixed.db-armdb"
    unwritable() { $as sqlite3 -batch -init /dev/null -cmd ".load $folder/armdb_vtab" \
        "$folder/fixed.db" "$@" 2>&1; }
    check_equal "a read-only folder is read" "a1 b2 c3" \
        "$(unwritable "SELECT group_concat(k || v, ' ') FROM t")"
    got=$(unwritable "INSERT INTO t VALUES ('d', 4)")
    check_equal "a read-only folder is not written, and the error says so" 1 \
        "$(echo "$got" | grep -ciE 'read-?only')"
    chmod -R u+w "$folder/fixed.db-armdb"
else
    skip "a read-only folder: cannot become another user here"
fi

# ---- Sizes ---------------------------------------------------------------------------

refuses "a database in UTF-16 is refused" "UTF-16|UTF-8" "$folder/utf16.db" \
    "PRAGMA encoding='UTF-16'" "CREATE TABLE n(x)" \
    "CREATE VIRTUAL TABLE t USING armdb(k PRIMARY KEY, v)"
refuses "a key over 1 MiB is refused with the limit" "1048576|1 MiB" "$good" \
    "INSERT INTO t VALUES (printf('%.*c', 1048577, 'k'), 1)"
check_equal "a key just below is taken" "1000000 1" \
    "$(with "$folder/long.db" "CREATE VIRTUAL TABLE t USING armdb(k TEXT PRIMARY KEY, v)" \
        "INSERT INTO t VALUES (printf('%.*c', 1000000, 'k'), 1)" \
        "SELECT length(k) || ' ' || v FROM t")"
rows_stay "the store kept its rows under keys too long"

# ---- A full disk -----------------------------------------------------------------------

# A limit on the size of files stands for the disk: a write past it fails with EFBIG.
full=$folder/full.db
with "$full" "CREATE VIRTUAL TABLE t USING armdb(k INTEGER PRIMARY KEY, v, segment_size=1T)" \
    "INSERT INTO t VALUES (-1, 'before')"
got=$(
    trap '' XFSZ
    ulimit -f 8192
    with "$full" "BEGIN" "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n
        WHERE i < 4000) INSERT INTO t SELECT i, randomblob(10000) FROM n" "COMMIT"
)
check_equal "a transaction on a full disk fails, and says so" 1 \
    "$(echo "$got" | grep -ciE 'full|too large|no space')"
check_equal "nothing of it is there afterwards, all of before is" "1 before" \
    "$(with "$full" "SELECT count(*) || ' ' || v FROM t")"
check_equal "with room again, writing goes on" 2 \
    "$(with "$full" "INSERT INTO t VALUES (1, 'after')" "SELECT count(*) FROM t")"
finish

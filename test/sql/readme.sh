# README.md says what the library has: its first example runs, and every option,
# statistic and function that exists is described.
# shellcheck source=/dev/null
. test/sql/common.inc

# The first block of SQL, as a reader would copy it.
awk '/^```sql$/ {on = 1; next} /^```$/ && on {exit} on' README.md |
    sed "s|\./armdb_vtab|$vtab|" > "$folder/first.sql"
check_equal "the first example lists files of /usr/share/doc" 20 \
    "$(shell -bail "$folder/first.db" < "$folder/first.sql" 2>&1 | grep -c '^/usr/share/doc/lib')"

db=$folder/t.db
shell "$db" ".load $vtab" "CREATE VIRTUAL TABLE t USING armdb"

# check_described WHAT FILE: README has every name of the file, in code letters.
check_described()
{
    while read -r name; do
        grep -q "\`$name[\`(=]\|[\` ]$name(" README.md || echo "$name"
    done < "$2" > "$folder/missing"
    check_equal "README describes every $1" "" "$(cat "$folder/missing")"
    check_equal "there is a $1" yes "$([ -s "$2" ] && echo yes)"
}
shell "$db" ".load $vtab" "SELECT name FROM armdb_stat('t')" > "$folder/stat"
check_described statistic "$folder/stat"

# armdb_snapshot is a table without rows that the extension makes for itself.
shell "$db" ".load $vtab" "SELECT DISTINCT name FROM pragma_function_list
    WHERE name GLOB 'armdb_*' UNION SELECT name FROM pragma_module_list
    WHERE name GLOB 'armdb_*' AND name <> 'armdb_snapshot'" > "$folder/functions"
check_described function "$folder/functions"

# The message for an unknown option lists those that exist.
shell "$db" ".load $vtab" "CREATE VIRTUAL TABLE u USING armdb(k PRIMARY KEY, none=1)" 2>&1 |
    sed -n 's/.*options are \([^)]*\).*/\1/p' | tr -d ' ' | tr ',' '\n' > "$folder/options"
check_described option "$folder/options"
finish

# The stock sqlite3 shell loads the extension without being told its entry point.
# shellcheck source=/dev/null
. test/sql/common.inc

for file in shell shell_ask; do
    sed "s|\./armdb_vtab|$vtab|" sql/examples/$file.sql > "$folder/$file.sql"
done
sed -i "s|^\.read sql/examples/|.read $folder/|" "$folder/shell.sql"

db=$folder/settings.db
{
    shell "$db" < "$folder/shell.sql"
    echo reopened
    shell -cmd ".load $vtab" "$db" < "$folder/shell_ask.sql"
} > "$folder/out" 2>&1
check_lines "the shell" test/sql/loaders.out "$folder/out"

# With the suffix, and by the SQL function.
check_equal "load_extension() finds it" 102 \
    "$(shell "$db" "SELECT load_extension('$ARMDB_VTAB') NOTNULL" \
        'SELECT count(*) FROM settings' | tail -n 1)"

# Loading twice on one connection does no harm.
check_equal "loading twice is harmless" 102 \
    "$(shell "$db" ".load $vtab" ".load $vtab" 'SELECT count(*) FROM settings' 2>&1)"

# Safe mode loads nothing; an untrusted database stays readable without the library.
check_equal "a shell without the extension names the module" 1 \
    "$(shell "$db" 'SELECT count(*) FROM settings' 2>&1 |
        grep -c 'no such module: armdb')"
finish

# The library exports what armdb_vtab.def lists, and nothing else.
# shellcheck source=/dev/null
. test/sql/common.inc

awk '/^[ \t]*(;|$|LIBRARY|EXPORTS)/ {next} {print $1}' armdb_vtab.def |
    sort > "$folder/want"
nm -D --defined-only "$ARMDB_VTAB" | awk '{print $3}' | sort > "$folder/got"
check_same "nm -D lists the symbols of armdb_vtab.def" "$folder/want" "$folder/got"
# SQLite is reached through the table that it hands over, never by its symbols.
check_equal "nothing of SQLite is linked in" 0 \
    "$(nm -D --undefined-only "$ARMDB_VTAB" | grep -c ' sqlite3_')"
# Everything that could be resolved late is resolved at load, and then read-only.
check_equal "the library is bound at load" yes \
    "$(readelf -d "$ARMDB_VTAB" | grep -q 'FLAGS.*NOW' && echo yes)"
finish

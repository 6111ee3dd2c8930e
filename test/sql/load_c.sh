# A C program loads the extension with sqlite3_load_extension().
# shellcheck source=/dev/null
. test/sql/common.inc

if ${CC:-gcc} -Wall -Wextra -o "$folder/example" sql/examples/example.c -lsqlite3; then
    "$folder/example" "$folder/settings.db" "$vtab" > "$folder/out" 2>&1
    check_lines "the C program" test/sql/loaders.out "$folder/out"
else
    not_ok "the C example compiles"
fi
finish

# Debian's Python, module sqlite3, runs sql/examples/example.py.
# shellcheck source=/dev/null
. test/sql/common.inc

"${PYTHON:-/usr/bin/python3}" sql/examples/example.py "$folder/settings.db" "$vtab" \
    > "$folder/out" 2>&1
check_lines "python" test/sql/loaders.out "$folder/out"
finish

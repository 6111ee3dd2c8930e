# A C program uses the engine alone, through armdb.h and libarmdb.a as `make lib` gives
# them; README shows it.
# shellcheck source=/dev/null
. test/sql/common.inc

public=$(dirname "$ARMDB_VTAB")/lib
case ${FLAVOR:-release} in
release | debug) ;;
*)
    skip "the engine example: links the release or debug library only"
    finish
    ;;
esac
if ${CC:-gcc} -Wall -Wextra -Werror "-I$public" -o "$folder/engine" sql/examples/engine.c \
    "$public/libarmdb.a" -luring -lpthread; then
    "$folder/engine" "$folder/store" > "$folder/out" 2>&1
    check_lines "the engine alone" test/sql/engine.out "$folder/out"
else
    not_ok "the engine example compiles"
fi

check_equal "libarmdb.a shows nothing but what armdb.h declares" "" \
    "$(nm -g --defined-only "$public/libarmdb.a" | awk 'NF == 3 {print $3}' | sort -u |
        while read -r name; do grep -q "\b$name(" "$public/armdb.h" || echo "$name"; done)"
# Backwards: each function that is declared is there.
nm -g --defined-only "$public/libarmdb.a" | awk 'NF == 3 {print $3}' > "$folder/there"
check_equal "libarmdb.a has all that armdb.h declares" "" \
    "$(grep -v '^typedef' "$public/armdb.h" | grep -o '\barmdb_[a-z_]*(' | tr -d '(' | sort -u |
        while read -r name; do grep -qx "$name" "$folder/there" || echo "$name"; done)"

echo '#include <armdb.h>' > "$folder/header.cc"
check_equal "C++ reads armdb.h" "" \
    "$(g++ -std=c++11 -Wall -Wextra -Werror "-I$public" -fsyntax-only "$folder/header.cc" 2>&1)"

# README, "From C, without SQLite": lines of the program, and its output.
section=$folder/section
awk '/^## From C, without SQLite/ {on = 1; next} /^## / {on = 0} on' README.md > "$section"
awk '/^```c$/ {on = 1; next} /^```$/ {on = 0} on' "$section" > "$folder/shown.c"
check_equal "README shows some of it" yes "$([ -s "$folder/shown.c" ] && echo yes)"
check_equal "README shows lines that are in the program" "" \
    "$(grep -v '^ *$' "$folder/shown.c" | grep -v -x -F -f sql/examples/engine.c)"
awk '/^\$ .*engine / {on = 1; next} /^```$/ {on = 0} on' "$section" > "$folder/shown.out"
check_same "README shows its output" test/sql/engine.out "$folder/shown.out"
finish

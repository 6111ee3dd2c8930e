# A C program uses the engine alone, through engine/armdb.h and libarmdb.a.
# shellcheck source=/dev/null
. test/sql/common.inc

library=$(dirname "$ARMDB_VTAB")/libarmdb.a
case ${FLAVOR:-release} in
release | debug) ;;
*)
    skip "the engine example: links the release or debug library only"
    finish
    ;;
esac
if ${CC:-gcc} -Wall -Wextra -I. -o "$folder/engine" sql/examples/engine.c "$library" \
    -luring -lpthread; then
    "$folder/engine" "$folder/store" > "$folder/out" 2>&1
    check_lines "the engine alone" test/sql/engine.out "$folder/out"
else
    not_ok "the engine example compiles"
fi
finish

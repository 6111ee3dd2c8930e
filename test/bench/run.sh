#!/bin/sh
# Runs the benchmark programs that `make bench` built, one after the other, and leaves
# their figures in build/NAME.json. N= and VALUE= give rows and bytes of a value;
# BENCH= further options (test/bench/bench.c has the list).
mkdir -p build
status=0
for program in "$@"; do
    # shellcheck disable=SC2086
    "$program" --json="build/$(basename "$program").json" $BENCH || status=1
done
exit $status

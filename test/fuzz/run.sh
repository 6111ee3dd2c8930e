#!/bin/sh
# Fuzzing as long as wanted: run.sh PROGRAM..., called by `make fuzz`.
#
# The programs share $SECONDS_ALL seconds of $JOBS processors. What a program finds worth
# keeping stays in build/fuzz/corpus/NAME, from which the next run goes on; an input that
# fails is written to build/fuzz/found. Ends with the number of runs of each, and with an
# error when an input failed.
seconds=${SECONDS_ALL:-600}
jobs=${JOBS:-2}
if [ "$1" = --one ]; then
    program=$2
    name=$(basename "$program" | sed 's/^fuzz_//')
    corpus=build/fuzz/corpus/$name
    mkdir -p "$corpus" build/fuzz/found "test/fuzz/seeds/$name"
    log=build/fuzz/$name.log
    "$program" -max_total_time="$3" -timeout=60 -rss_limit_mb=2048 -malloc_limit_mb=512 \
        -artifact_prefix="build/fuzz/found/$name-" -print_final_stats=1 \
        "$corpus" "test/fuzz/seeds/$name" > "$log" 2>&1
    rc=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "$name: ${runs:-no} runs, $(ls "$corpus" | wc -l) inputs kept"
    if [ $rc -ne 0 ]; then
        echo "not ok - $name: the end of $log:"
        grep -vE '^#[0-9]+.(NEW|REDUCE|pulse)' "$log" | tail -n 40
    fi
    exit $rc
fi
each=$((seconds * jobs / $#))
[ "$each" -ge 1 ] || each=1
echo "$# programs, $each seconds each"
printf '%s\n' "$@" | xargs -P "$jobs" -I '{}' sh "$0" --one '{}' "$each"

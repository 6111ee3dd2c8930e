#!/bin/sh
# Runs the programs and scripts of one test suite and counts their tests.
#
#   test/run.sh SUITE PROGRAM...    runs each, JOBS at a time
#   test/run.sh --summary SUITE...  adds up what the suites left, prints the total
#
# What counts as a test: each test of a cmocka program; each line "ok - text" or
# "not ok - text" of a script; a program that prints neither counts as one, by its
# exit code. "skip - text" (or cmocka's skip) is reported and not counted. A program
# that ends badly, or not within TIMEOUT seconds, has at least one failed test.
#
# $WRAP is a command that each program is run by (valgrind).
#
# Output of each program is kept in build/results/SUITE/NAME.log; what failed is
# shown. Counts are kept beside it, so that --summary can add them up.

results=build/results
timeout_s=${TIMEOUT:-300}

# Counts one log: prints "passed failed skipped".
count_log()
{
    awk '
    /\[==========\] [0-9]+ test\(s\) run/ { after = 1 }
    /\[==========\] Running/             { after = 0 }
    /\[       OK \]/                     { passed++ }
    /\[  FAILED  \]/ && !after           { failed++ }
    /\[  SKIPPED \]/ && !after           { skipped++ }
    /^ok /                               { passed++ }
    /^not ok /                           { failed++ }
    /^skip /                             { skipped++ }
    END { print passed + 0, failed + 0, skipped + 0 }' "$1"
}

# Runs one program; called by xargs below.
run_one()
{
    suite=$1
    program=$2
    name=$(basename "$program")
    log=$results/$suite/$name.log
    prefix=$WRAP
    # ThreadSanitizer of gcc 12 does not know the wide address randomization of
    # newer kernels.
    if [ "$FLAVOR" = tsan ] && setarch "$(uname -m)" -R true 2>/dev/null; then
        prefix="setarch $(uname -m) -R"
    fi
    case $program in
    *.sh) prefix="$prefix sh" ;;
    *.py) prefix="$prefix ${PYTHON:-/usr/bin/python3}" ;;
    esac

    begin=$(date +%s)
    # shellcheck disable=SC2086
    timeout -k 10 "$timeout_s" $prefix "$program" > "$log" 2>&1 < /dev/null
    rc=$?
    seconds=$(($(date +%s) - begin))

    set -- $(count_log "$log")
    passed=$1
    failed=$2
    skipped=$3
    if [ $rc -ne 0 ] && [ "$failed" -eq 0 ]; then
        failed=1
    elif [ $rc -eq 0 ] && [ $((passed + failed + skipped)) -eq 0 ]; then
        passed=1
    fi
    echo "$passed $failed $skipped" > "$results/$suite/$name.count"

    word=ok
    [ "$failed" -gt 0 ] && word=FAILED
    line=$(printf '%-6s %-34s %4d passed' "$word" "$suite/$name" "$passed")
    [ "$failed" -gt 0 ] && line="$line, $failed failed (exit code $rc)"
    [ "$skipped" -gt 0 ] && line="$line, $skipped skipped"
    line="$line, $seconds s"
    if [ "$failed" -gt 0 ]; then
        # One write, so that programs running beside this one do not mix in.
        shown=$(grep -nE 'FAILED|ERROR|LINE  |^not ok|[Ss]eed|SUMMARY' "$log" | head -40)
        printf '%s\n' "$line" "$shown" "--- the end of $log:" "$(tail -n 40 "$log")" "---"
    else
        printf '%s\n' "$line"
        # cmocka names what was skipped a second time at the end: show it once.
        grep -E '^skip |\[  SKIPPED \] [a-z]' "$log" | sort -u |
            sed 's/^/       /; s/\[  SKIPPED \]/skip -/'
    fi
}

# Adds up the counts of one suite: prints "passed failed skipped".
sum_suite()
{
    cat "$results/$1"/*.count 2>/dev/null |
        awk '{p += $1; f += $2; s += $3} END {print p + 0, f + 0, s + 0}'
}

summary()
{
    passed=0
    failed=0
    skipped=0
    echo
    for suite in "$@"; do
        if [ -e "$results/$suite/done" ]; then
            set -- $(sum_suite "$suite")
            printf '%-10s %5d passed %3d failed %3d skipped\n' "$suite" "$1" "$2" "$3"
            passed=$((passed + $1))
            failed=$((failed + $2))
            skipped=$((skipped + $3))
        else
            printf '%-10s did not build\n' "$suite"
            failed=$((failed + 1))
        fi
    done
    [ $skipped -gt 0 ] && echo "skipped: $skipped (reasons above)"
    echo "$passed passed, $failed failed"
    [ $failed -eq 0 ]
}

case $1 in
--one)
    run_one "$2" "$3"
    exit 0
    ;;
--summary)
    shift
    summary "$@"
    exit
    ;;
esac

suite=$1
shift
rm -rf "${results:?}/$suite"
mkdir -p "$results/$suite"
if [ $# -gt 0 ]; then
    printf '%s\n' "$@" | xargs -P "${JOBS:-2}" -n 1 sh "$0" --one "$suite"
fi
: > "$results/$suite/done"
set -- $(sum_suite "$suite")
echo "$suite: $1 passed, $2 failed, $3 skipped"
[ "$2" -eq 0 ]

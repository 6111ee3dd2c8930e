#!/bin/sh
# The rules of style that a machine can check.
#
#   TIDY=quick test/tidy.sh  layers, banned calls, lengths, exports: gcc and binutils do
#   test/tidy.sh             also both compilers, headers alone, clang-tidy, cppcheck
#
# Called by the Makefile, which gives the module list in $MODULES (bottom to top) and
# the files that are not in it in $UNLISTED. Reports one test per rule (test/run.sh).
what=${TIDY:-all}
modules=$MODULES
objects=build/release/obj
folder=$(mktemp -d "${TMPDIR:-/tmp}/armdb-tidy-XXXXXX") || exit 1
trap 'rm -rf "$folder"' EXIT
failures=0

# verdict TEXT FILE: the rule holds when the file of findings is empty.
verdict()
{
    if [ -s "$2" ]; then
        echo "not ok - $1"
        head -n "${SHOWN:-60}" "$2"
        failures=$((failures + 1))
    else
        echo "ok - $1"
    fi
}

sources=$(ls engine/*/*.c ext/*.c 2> /dev/null)
headers=$(ls engine/*.h engine/*/*.h ext/*.h 2> /dev/null)
tests=$(ls test/*/*.c test/*/*.h 2> /dev/null)
code="$sources $headers"

# ---- Layers --------------------------------------------------------------------------

# A module (its .c and .h) includes itself and what stands before it in the list; a .c
# also the private headers of its folder, those that have no .c of their own. ext sees
# engine/armdb.h and nothing else of the engine.
check_layers()
{
    for file in $code; do
        grep -o '^#include "[^"]*"' "$file" | sed "s|.*\"\(.*\)\"|$file \1|"
    done | grep -v ' sqlite3' | awk -v modules="$modules" -v sources="$sources" '
    BEGIN {
        n = split(sources, list, "[ \n]+")
        for (i = 1; i <= n; i++)
            has_source[list[i]] = 1
        n = split(modules, list, " ")
        for (i = 1; i <= n; i++)
            place[list[i]] = i
        # The public header stands on rc alone; store implements it.
        place["engine/armdb"] = place["engine/base/rc"] + 0.5
    }
    function folder(path) { sub(/\/[^\/]*$/, "", path); return path }
    {
        user = $1; sub(/\.[ch]$/, "", user)
        used = $2; sub(/\.h$/, "", used)
        if (!(used in place))
            print $1 ": includes " $2 ", which no module list has"
        else if (user ~ /^ext\// && used ~ /^engine\// && used != "engine/armdb")
            print $1 ": includes " $2 "; ext may see engine/armdb.h only"
        else if ($1 ~ /\.c$/ && !((used ".c") in has_source) && folder(user) == folder(used))
            next
        else if (user in place && place[used] > place[user])
            print $1 ": includes " $2 ", which stands above it"
    }' > "$folder/layers"
    grep -n 'sqlite3' $(ls engine/*.[ch] engine/*/*.[ch]) |
        grep '#include' >> "$folder/layers"
    verdict "modules include only what stands below them" "$folder/layers"
}

check_listed()
{
    for file in $UNLISTED; do echo "$file"; done > "$folder/listed"
    for file in $headers; do
        [ "$file" = engine/armdb.h ] && continue
        case " $modules " in
        *" ${file%.h} "*) ;;
        *) echo "$file" ;;
        esac
    done >> "$folder/listed"
    for module in $modules; do
        [ -e "$module.c" ] || [ -e "$module.h" ] || echo "$module: no such file"
    done >> "$folder/listed"
    verdict "the Makefile lists every module, and no other" "$folder/listed"
}

# ---- Banned calls --------------------------------------------------------------------

# Asks the object files, not the text: what a call compiles to cannot hide.
# banned TEXT ALLOWED-OBJECTS SYMBOLS
banned()
{
    : > "$folder/banned"
    for object in $(find $objects/engine $objects/ext -name '*.o' 2> /dev/null); do
        echo "$object" | grep -qE "$2" && continue
        nm -u "$object" | awk '{print $2}' | grep -xE "(__)?($3)(64)?(_chk|_2)?" |
            sed "s|^|$object calls |" >> "$folder/banned"
    done
    verdict "$1" "$folder/banned"
}

check_calls()
{
    nobody='^$'
    banned "only base/mem.c takes memory from the system" '/engine/base/mem\.o$' \
        'malloc|calloc|realloc|free|mmap|munmap|mremap|madvise|posix_memalign|aligned_alloc|strn?dup|v?asprintf|getline'
    banned "only io/ makes file system calls" '/engine/io/' \
        'open|openat|creat|close|p?read|p?readv|preadv2|p?write|p?writev|pwritev2|lseek|fsync|fdatasync|sync_file_range|rename|renameat2?|unlink|unlinkat|f?truncate|posix_fallocate|fallocate|flock|fcntl|mkdir|mkdirat|rmdir|opendir|fdopendir|readdir|l?stat|fstat|fstatat|statx|access|faccessat|chmod|fchmod|realpath|posix_fadvise|io_uring_.*|fopen|fread|fwrite|fclose|getrandom|getentropy'
    banned "only base/thread.c calls pthread functions" '/engine/base/thread\.o$' \
        'pthread_.*|sem_.*|thrd_.*|mtx_.*'
    banned "nothing ends the process, prints, or takes a signal" "$nobody" \
        'abort|exit|_exit|quick_exit|printf|vprintf|fprintf|vfprintf|puts|putchar|fputs|perror|signal|sigaction|raise|kill|fork|system|popen|__assert_fail|atexit|at_quick_exit'
    banned "no call that cannot bound what it writes" "$nobody" \
        'sprintf|vsprintf|strcpy|stpcpy|strcat|strncpy|gets|strtok|alloca|strerror|setlocale|localtime|gmtime|rand|srand|random'
}

# ---- Text ------------------------------------------------------------------------------

check_text()
{
    LC_ALL=C.UTF-8 grep -nE '^.{91,}' $code $tests /dev/null |
        cut -c 1-80 > "$folder/text"
    verdict "lines have at most 90 columns" "$folder/text"

    grep -nP '\t|\s+$' $code $tests /dev/null | cut -c 1-80 > "$folder/text"
    verdict "no tabs, no blanks at the end of a line" "$folder/text"

    wc -l $code $tests | awk '$2 != "total" && $1 > 1000' > "$folder/text"
    verdict "files have at most 1,000 lines" "$folder/text"

    grep -nE '\b(FIX''ME|X''XX|HA''CK)\b' $code $tests Makefile README.md sql/* \
        engine/*.md 2> /dev/null > "$folder/text"
    verdict "nothing is marked as unfinished" "$folder/text"

    for file in $sources; do
        head -n 3 "$file" | grep -q '^/\*' || echo "$file"
    done > "$folder/text"
    verdict "every .c opens with what it is for" "$folder/text"

    grep -nE '\bvolatile\b|atomic_thread_fence|__sync_' $code |
        grep -vE ':[0-9]+: *(\*|/\*)' > "$folder/text"
    verdict "no volatile, no lone fences" "$folder/text"
}

check_exports()
{
    awk '/^[ \t]*(;|$|LIBRARY|EXPORTS)/ {next} {print $1}' armdb_vtab.def |
        sort > "$folder/want"
    nm -D --defined-only build/release/armdb_vtab.so | awk '{print $3}' |
        sort > "$folder/got"
    diff "$folder/want" "$folder/got" > "$folder/exports"
    verdict "the library exports what armdb_vtab.def lists" "$folder/exports"
}

# ---- Compilers and checkers --------------------------------------------------------------

have()
{
    command -v "$1" > /dev/null && return 0
    echo "skip - $1 is not installed (apt-get install $2)"
    return 1
}

# The two compilers, each as for users and for debugging, warnings being errors.
check_compiler()
{
    for flavor in release debug; do
        make -k -s -j"${JOBS:-2}" CC="$1" FLAVOR=$flavor BUILD="build/tidy/$1-$flavor" \
            STRICT=1 objects tests > "$folder/log" 2>&1
        status=$?
        grep -E 'warning:|error:' "$folder/log" > "$folder/compiler"
        [ $status -eq 0 ] || [ -s "$folder/compiler" ] || cp "$folder/log" "$folder/compiler"
        verdict "$1 compiles without a warning ($flavor)" "$folder/compiler"
    done
}

check_headers()
{
    for header in $headers; do
        for cc in gcc clang; do
            command -v $cc > /dev/null || continue
            printf '#include "%s"\n' "$header" > "$folder/alone.c"
            $cc -std=c11 -D_POSIX_C_SOURCE=200809L -I. -Wall -Wextra -Wno-unused \
                -fsyntax-only "$folder/alone.c" 2>&1 | grep -E 'error|warning'
        done
    done > "$folder/headers"
    verdict "headers compile alone" "$folder/headers"
}

check_clang_tidy()
{
    have clang-tidy clang-tidy || return
    echo "$sources" | xargs -P "${JOBS:-2}" -n 1 sh -c '
        clang-tidy --quiet "$1" -- -std=c11 -D_POSIX_C_SOURCE=200809L -I. \
            -DADB_DEBUG > "$0/tidy.$(echo "$1" | tr / -)" 2> /dev/null' "$folder"
    cat "$folder"/tidy.* 2> /dev/null > "$folder/tidy_all"
    verdict "clang-tidy finds nothing" "$folder/tidy_all"
}

check_cppcheck()
{
    have cppcheck cppcheck || return
    # Wrong: mem.c keeps the caller's pointer when realloc fails, as its contract says;
    # and a struct that a function fills only where it succeeds is then read only there.
    # shellcheck disable=SC2086
    cppcheck -q -j "${JOBS:-2}" --std=c11 -I. -D__GNUC__=12 -D_POSIX_C_SOURCE=200809L \
        --enable=warning,portability,performance --inline-suppr \
        --suppress=missingIncludeSystem --suppress=normalCheckLevelMaxBranches \
        --suppress=memleakOnRealloc:engine/base/mem.c --suppress=uninitStructMember \
        $sources 2> "$folder/cppcheck"
    verdict "cppcheck finds nothing" "$folder/cppcheck"
}

check_listed
check_layers
check_calls
check_text
check_exports
if [ "$what" != quick ]; then
    check_headers
    check_compiler gcc
    have clang clang && check_compiler clang
    check_clang_tidy
    check_cppcheck
fi
[ $failures -eq 0 ]

# The tour (sql/tour.sql, what `make demo` runs) over a small tree of known files, in
# two shells, against what it printed when it was right.
# shellcheck source=/dev/null
. test/sql/common.inc

# Columns are as wide as what is in them, so the tree's name is as long as the one it
# stands for, /usr/share.
tree=$(mktemp -d /tmp/tXXXX) || exit 1
trap 'rm -rf "$folder" "$tree"' EXIT

umask 022
chmod 755 "$tree"
put() { mkdir -p "$(dirname "$tree/$1")" && printf "%$2s" '' > "$tree/$1"; }
put common-licenses/Apache-2.0 10174
put common-licenses/BSD 1499
put common-licenses/GPL-1 12632
put common-licenses/GPL-2 18092
put common-licenses/GPL-3 35149
put common-licenses/LGPL-3 7651
put common-licenses/MPL-2.0 16726
ln -s GPL-3 "$tree/common-licenses/GPL"
for name in adduser bash coreutils cpp curl dash libc6 libcurl4 libssl3 liburing2; do
    put doc/$name/copyright 1000
    put doc/$name/changelog.gz 20000
done
put sqlite3/empty 0

sed "s|\./armdb_vtab|$vtab|" sql/tour.sql > /dev/null
sh test/demo.sh "$tree" "$folder/demo" > "$folder/raw" 2>&1
check_equal "the tour runs to its end" 0 $?
# The numbers of the plans are the planner's own affair.
sed "s|$tree|/usr/share|g; s|INDEX [0-9]*:|INDEX n:|" "$folder/raw" > "$folder/got"
check_equal "the reopened table gives the same answers" 1 \
    "$(grep -c '^Closed, reopened, asked again: the same answers.' "$folder/got")"
check_same "the tour prints what it should" test/sql/tour.expected "$folder/got"

# Of the eight questions, one a listing, one reads the whole table, the aggregate.
check_equal "a question is answered by a point, range or full scan" "2 4 1" \
    "$(for plan in 'armdb: point' 'armdb: range' 'armdb: scan'; do
        sed -n '/tour_again.sql$/,$p' "$folder/got" | grep -c "$plan"
    done | paste -s -d ' ')"
finish

#!/bin/sh
# The demonstration behind `make demo`: runs sql/tour.sql in the stock sqlite3 shell
# on a new database, then sql/tour_again.sql in a second shell, and compares what the
# two answered.
#
#   test/demo.sh [ROOT [FOLDER]]
#
# ROOT is the tree whose files are listed instead of /usr/share, FOLDER where the
# database is made, build/demo unless given, $ARMDB_VTAB the extension instead of
# ./armdb_vtab.so. The test of the tour uses all three.
cd "$(dirname "$0")/.." || exit 1

root=${1:-/usr/share}
folder=${2:-build/demo}
vtab=${ARMDB_VTAB:-./armdb_vtab.so}
vtab=${vtab%.so}

# fsdir() stops at a folder that it may not read; some systems have one for root
# alone below /usr/share. The folders asked about are readable for everybody.
if [ $# -eq 0 ] && find "$root" -type d ! -readable 2> /dev/null | grep -q .; then
    narrow=yes
fi

# Makes the tour speak of another root.
at_root()
{
    if [ "$narrow" = yes ]; then
        sed "s|FROM fsdir('/usr/share');|FROM (SELECT * FROM fsdir('/usr/share/doc') \\
    UNION ALL SELECT * FROM fsdir('/usr/share/common-licenses'));|"
    elif [ "$root" = /usr/share ]; then
        cat
    else
        sed "s|/usr/share|$root|g"
    fi
}

rm -rf "$folder"
mkdir -p "$folder/sql" || exit 1
for file in tour tour_ask tour_again; do
    at_root < sql/$file.sql |
        sed "s|^\.read sql/|.read $folder/sql/|; s|^\.load \./armdb_vtab|.load $vtab|" \
            > "$folder/sql/$file.sql"
done

# Shows what a shell printed as if it had read the files of sql/ themselves.
show()
{
    sed "s|^\.read $folder/sql/|.read sql/|; s|^\.load .*|.load ./armdb_vtab|" "$1"
}

shell="sqlite3 -batch -init /dev/null $folder/tour.db"
echo "\$ sqlite3 tour.db < sql/tour.sql"
$shell < "$folder/sql/tour.sql" > "$folder/first.txt" 2>&1
first=$?
show "$folder/first.txt"
[ $first -eq 0 ] || { echo "The tour stopped with an error." >&2; exit 1; }

echo
echo "\$ sqlite3 tour.db < sql/tour_again.sql"
$shell < "$folder/sql/tour_again.sql" > "$folder/second.txt" 2>&1
second=$?
show "$folder/second.txt"
[ $second -eq 0 ] || { echo "The second shell stopped with an error." >&2; exit 1; }

# From the first question on, both must have said the same.
sed -n '/^\.eqp on/,$p' "$folder/first.txt" > "$folder/first.answers"
sed -n '/^\.eqp on/,$p' "$folder/second.txt" > "$folder/second.answers"
echo
if [ -s "$folder/first.answers" ] &&
    cmp -s "$folder/first.answers" "$folder/second.answers"; then
    echo "Closed, reopened, asked again: the same answers."
else
    echo "The second shell answered something else:" >&2
    diff "$folder/first.answers" "$folder/second.answers" >&2
    exit 1
fi

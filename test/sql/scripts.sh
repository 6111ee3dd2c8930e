# Runs every test/sql/TOPIC.sql in the stock shell and compares what it prints with
# TOPIC.out. A script whose first line is "-- native: same" is also run with its armdb
# tables turned into ordinary WITHOUT ROWID ones and must then print the same.
# The file is read in an empty folder with a database t.db; $VTAB in it stands for the
# extension.
# shellcheck source=/dev/null
. test/sql/common.inc

for script in test/sql/*.sql; do
    [ -e "$script" ] || continue
    topic=$(basename "$script" .sql)
    want=$(pwd)/${script%.sql}.out
    mkdir -p "$folder/$topic/armdb" "$folder/$topic/native"

    sed "s|\$VTAB|$vtab|g" "$script" > "$folder/$topic/armdb.sql"
    (cd "$folder/$topic/armdb" && shell -cmd ".load $vtab" t.db) \
        < "$folder/$topic/armdb.sql" > "$folder/$topic/armdb.got" 2>&1
    check_same "$topic.sql prints $topic.out" "$want" "$folder/$topic/armdb.got"

    [ "$(head -n 1 "$script")" = "-- native: same" ] || continue
    sed 's/CREATE VIRTUAL TABLE \(.*\) USING armdb *(\(.*\));/CREATE TABLE \1 (\2) WITHOUT ROWID;/' \
        "$folder/$topic/armdb.sql" > "$folder/$topic/native.sql"
    (cd "$folder/$topic/native" && shell t.db) \
        < "$folder/$topic/native.sql" > "$folder/$topic/native.got" 2>&1
    check_same "$topic.sql prints the same on an ordinary table" "$want" \
        "$folder/$topic/native.got"
done
finish

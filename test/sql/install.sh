# make install and uninstall, below a folder and with a prefix.
# shellcheck source=/dev/null
. test/sql/common.inc

if [ "${FLAVOR:-release}" != release ]; then
    skip "install: only the release build is installed"
    finish
fi

multiarch=$(${CC:-gcc} -print-multiarch 2> /dev/null)
quiet_make() { MAKEFLAGS= MFLAGS= make -s "$@" > "$folder/make.log" 2>&1; }

# place PREFIX: where make install puts the library below DESTDIR.
check_install()
{
    place=$folder/root$2
    quiet_make install DESTDIR="$folder/root" $1
    check_equal "make install $1 exits with 0" 0 $?
    check_same "make install $1 copies the library to $2" "$ARMDB_VTAB" "$place"
    check_equal "the installed library loads" 1 \
        "$(shell :memory: ".load ${place%.so}" 'SELECT 1' 2>&1)"
    quiet_make uninstall DESTDIR="$folder/root" $1
    check_equal "make uninstall $1 removes it" no "$([ -e "$place" ] && echo yes || echo no)"
}

check_install "" /usr/local/lib/sqlite3/armdb_vtab.so
check_install "prefix=/opt/armdb" /opt/armdb/lib/sqlite3/armdb_vtab.so
check_install "prefix=/usr" "/usr/lib/${multiarch:+$multiarch/}sqlite3/armdb_vtab.so"
finish

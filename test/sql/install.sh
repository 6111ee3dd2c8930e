# make install and uninstall, below a folder and with a prefix.
# shellcheck source=/dev/null
. test/sql/common.inc

if [ "${FLAVOR:-release}" != release ]; then
    skip "install: only the release build is installed"
    finish
fi

multiarch=$(${CC:-gcc} -print-multiarch 2> /dev/null)
quiet_make() { MAKEFLAGS= MFLAGS= make -s "$@" > "$folder/make.log" 2>&1; }

# check_install ARGUMENTS LIBRARY LIBDIR INCLUDE: where make install puts things below
# DESTDIR.
check_install()
{
    place=$folder/root$2
    quiet_make install DESTDIR="$folder/root" $1
    check_equal "make install $1 exits with 0" 0 $?
    check_same "make install $1 copies the library to $2" "$ARMDB_VTAB" "$place"
    check_equal "the installed library loads" 1 \
        "$(shell :memory: ".load ${place%.so}" 'SELECT 1' 2>&1)"
    check_equal "a program is linked with the engine that make install $1 copied" 0 \
        "$(${CC:-gcc} -o "$folder/engine" "-I$folder/root$4" sql/examples/engine.c \
            "-L$folder/root$3" -larmdb -luring -lpthread > "$folder/cc.log" 2>&1; echo $?)"
    check_equal "armdb.pc says where that is" "-I$4 -L$3 -larmdb -luring -lpthread" \
        "$(sed -n 's/^Cflags: //p; s/^Libs: //p' "$folder/root$3/pkgconfig/armdb.pc" |
            tr '\n' ' ' | sed 's/ $//')"
    quiet_make uninstall DESTDIR="$folder/root" $1
    check_equal "make uninstall $1 removes all of it" "" \
        "$(find "$folder/root" -type f)"
}

check_install "" /usr/local/lib/sqlite3/armdb_vtab.so /usr/local/lib /usr/local/include
check_install "prefix=/opt/armdb" /opt/armdb/lib/sqlite3/armdb_vtab.so \
    /opt/armdb/lib /opt/armdb/include
lib=/usr/lib${multiarch:+/$multiarch}
check_install "prefix=/usr" "$lib/sqlite3/armdb_vtab.so" "$lib" /usr/include
finish

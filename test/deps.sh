#!/bin/sh
# Installs the Debian packages that are missing, for "demo" (building and the stock
# shell), "check" (the tests too) or "engines" (a benchmark). Asks apt-get only when something is missing; as
# root or by sudo without a password, else prints the command to run and stops.

what=${1:-check}
packages="gcc make libc6-dev liburing-dev libxxhash-dev libsqlite3-dev sqlite3"
if [ "$what" = check ]; then
    # clang for fuzzing: libFuzzer is in its runtime library.
    packages="$packages libcmocka-dev python3 g++ binutils clang libclang-rt-dev xz-utils"
    # Any Node.js will do, Debian's or another; better-sqlite3 is compiled by its
    # npm, with the headers beside it.
    command -v node > /dev/null || packages="$packages nodejs libnode-dev"
    command -v npm > /dev/null || packages="$packages npm"
fi

# The other engines of `make bench-engines`.
[ "$what" = engines ] && packages="$packages liblmdb-dev librocksdb-dev"

missing=
for package in $packages; do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null)
    [ "$state" = installed ] || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

install="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" = 0 ]; then
    root=
elif sudo -n true 2> /dev/null; then
    root="sudo -n"
else
    echo "These packages are missing:$missing" >&2
    echo "Install them with:" >&2
    echo "    sudo apt-get update && sudo $install" >&2
    exit 1
fi

echo "Installing:$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
# Package lists may be current, old or absent: refresh them only when needed.
# shellcheck disable=SC2086
if $root $install > "$log" 2>&1 ||
    { $root apt-get update > "$log" 2>&1 && $root $install > "$log" 2>&1; }; then
    exit 0
fi
cat "$log" >&2
echo "The installation failed. By hand: apt-get update && $install" >&2
exit 1

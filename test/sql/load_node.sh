# Node.js runs sql/examples/example.js with the npm package better-sqlite3, which
# brings a SQLite of its own: the extension meets a second version here. The package
# is compiled from source once and kept in build/node (or $ARMDB_NODE_CACHE).
# shellcheck source=/dev/null
. test/sql/common.inc

version=11.10.0
cache=${ARMDB_NODE_CACHE:-$(pwd)/build/node}

if ! command -v node > /dev/null || ! command -v npm > /dev/null; then
    skip "node: no Node.js on this machine"
    finish
fi

if [ ! -e "$cache/installed-$version-$(node --version)" ]; then
    rm -rf "$cache"
    mkdir -p "$cache"
    echo '{"private": true}' > "$cache/package.json"
    # Debian keeps Node's headers where node-gyp does not look by itself.
    [ -e /usr/include/node/node.h ] && export npm_config_nodedir=/usr
    if (cd "$cache" && npm install --no-audit --no-fund --fetch-retry-mintimeout=1000 \
        --fetch-retry-maxtimeout=5000 --build-from-source "better-sqlite3@$version") \
        > "$folder/npm.log" 2>&1; then
        : > "$cache/installed-$version-$(node --version)"
    elif grep -qE 'ENOTFOUND|EAI_AGAIN|ECONN(REFUSED|RESET)|ETIMEDOUT|_CERT_|E403' \
        "$folder/npm.log"; then
        skip "node: the npm registry cannot be reached for better-sqlite3@$version"
        finish
    else
        not_ok "better-sqlite3 is built from source"
        tail -n 40 "$folder/npm.log"
        finish
    fi
fi

NODE_PATH=$cache/node_modules node sql/examples/example.js "$folder/settings.db" "$vtab" \
    > "$folder/out" 2>&1
check_lines "node" test/sql/loaders.out "$folder/out"

# Its SQLite has xIntegrity, which Debian's does not call.
printf 'ok\ntrue\nok\n' > "$folder/integrity.expected"
NODE_PATH=$cache/node_modules node test/sql/integrity.js "$folder" "$vtab" \
    > "$folder/integrity.out" 2>&1
check_lines "integrity_check" "$folder/integrity.expected" "$folder/integrity.out"
finish

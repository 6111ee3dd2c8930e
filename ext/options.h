/* options.h - the `name=value` arguments of CREATE VIRTUAL TABLE.
 *
 *   path='dir'             where the store lies
 *   table='name'           which table of the store; default: the SQL name
 *   sync=full|normal|off   how durable a commit is
 *   shards=N               1 to 64, fixed when the store is created
 *   shard_prefix_bits=N    0 to 8388608, fixed when the store is created
 *   segment_size=SIZE      1M to 512G
 *   cache_size=SIZE        1M and more
 *   io=buffered|direct     io_engine=auto|uring|plain
 *   compact=on|off         whether the background compacts
 *   compact_at=SHARE       0.01 to 0.99 of dead bytes (or 1% to 99%)
 *   compact_rate=SIZE      bytes a second, 64K and more; 0: no limit
 *
 * SIZE is a number of bytes, or a number followed by K, M, G, T (also KB, KiB, ...;
 * always powers of 1024). Values may stand in '...' or "..."; a size with a letter must,
 * because SQLite's tokenizer stops at a bare 64M before any module sees it. */
#ifndef ARMDB_EXT_OPTIONS_H
#define ARMDB_EXT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/armdb.h"

struct table_options {
    char *path;           /* owned, as written, not empty; NULL = not given */
    char *table;          /* owned, not empty; NULL = not given */
    enum armdb_sync sync; /* ARMDB_SYNC_FULL unless given */
    bool sync_given;
    uint32_t seen; /* internal: one bit an option, so that none is given twice */
    struct armdb_options store; /* defaults, changed by what was given */
};

void options_init(struct table_options *options);
void options_fini(struct table_options *options); /* frees the strings */

/* If `arg` (one module argument) is an option, applies it.
 *
 * Gives:  *is_option. An option is an argument whose first token is a bare
 *         identifier and whose second is '='; everything else is left to the
 *         column definitions.
 * Errors: SQLITE_ERROR and *err (sqlite3_malloc; names the option and what is
 *         allowed): unknown option, wrong value, the same option twice;
 *         SQLITE_NOMEM. */
int options_parse(struct table_options *options, const char *arg, bool *is_option,
                  char **err);

#endif

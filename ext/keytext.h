/* keytext.h - keys as text, for messages. */
#ifndef ARMDB_EXT_KEYTEXT_H
#define ARMDB_EXT_KEYTEXT_H

#include "ext/keycodec.h"

/* The values as SQL writes them, with commas between; the bytes in hexadecimal
 * where `layout` is NULL or the key is none of its. Long values are cut.
 *
 * Gives:  memory of sqlite3_malloc; NULL when there is none. */
char *keytext_make(const struct key_layout *layout, const void *key, size_t len);

/* What the engine says of a row that it cannot read, with table and key as SQL knows them
 * in front. */
void keytext_name_row(const char *table, const struct key_layout *layout, const void *key,
                      size_t len, struct armdb_error *err);

#endif

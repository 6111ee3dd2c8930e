/* keycodec_private.h - what keyrange.c takes from keycodec.c. Nobody else. */
#ifndef ARMDB_EXT_KEYCODEC_PRIVATE_H
#define ARMDB_EXT_KEYCODEC_PRIVATE_H

#include "ext/keycodec.h"

/* Appends one column; `last`: it is the last of its key. Values far over the limit are
 * cut: the result is then over the limit too, and its first ARMDB_KEY_BYTES_MAX bytes
 * are right. Errors: ARMDB_NOMEM. */
enum armdb_rc key_encode_part(const struct key_part *part, bool last,
                              const struct sql_value *value,
                              struct bytebuf *out) ADB_MUST_CHECK;

/* How letters of a prefix are written into a bound. */
enum letter_case { LETTERS_AS_THEY_ARE, LETTERS_LOWER, LETTERS_UPPER };

/* Appends what the encodings of all texts (or blobs, by `type`) with this prefix begin
 * with. */
enum armdb_rc key_encode_prefix(const struct key_part *part, bool last, int type,
                                const unsigned char *z, size_t n,
                                enum letter_case letters,
                                struct bytebuf *out) ADB_MUST_CHECK;

#endif

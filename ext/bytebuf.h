/* bytebuf.h - a growable byte string that is used again and again.
 *
 * Keys and rows are encoded into one of these: after the first few rows it has
 * grown to its size and encoding allocates nothing. Memory is SQLite's. */
#ifndef ARMDB_EXT_BYTEBUF_H
#define ARMDB_EXT_BYTEBUF_H

#include <stddef.h>

#include "engine/armdb.h"

struct bytebuf {
    unsigned char *data; /* owned; NULL while cap is 0 */
    size_t len;
    size_t cap;
};

/* A zeroed struct is an empty buffer; this makes one. */
static inline void bytebuf_init(struct bytebuf *buf)
{
    buf->data = NULL;
    buf->len = 0;
    buf->cap = 0;
}

void bytebuf_fini(struct bytebuf *buf); /* frees; the buffer is empty again */

/* The slow half of bytebuf_reserve(). */
enum armdb_rc bytebuf_grow(struct bytebuf *buf, size_t extra) ADB_MUST_CHECK;

/* Makes room for `extra` bytes behind len. Errors: ARMDB_NOMEM (buf unchanged). */
static inline ADB_MUST_CHECK enum armdb_rc bytebuf_reserve(struct bytebuf *buf,
                                                           size_t extra)
{
    if (extra <= buf->cap - buf->len)
        return ARMDB_OK;
    return bytebuf_grow(buf, extra);
}

/* Appends n bytes. Errors: ARMDB_NOMEM (buf unchanged). */
enum armdb_rc bytebuf_append(struct bytebuf *buf, const void *p, size_t n) ADB_MUST_CHECK;

#endif

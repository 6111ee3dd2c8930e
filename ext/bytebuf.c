/* bytebuf.c - growth of the buffers that keys and rows are encoded into.
 *
 * A buffer grows to the next power of two, so that a connection that writes rows
 * of many sizes asks for memory a few times in its life and not once a row. */
#include "ext/bytebuf.h"

#include <stdint.h>
#include <string.h>

#include "sqlite3ext.h"
SQLITE_EXTENSION_INIT3

enum { CAP_MIN = 64 };

void bytebuf_fini(struct bytebuf *buf)
{
    sqlite3_free(buf->data);
    bytebuf_init(buf);
}

enum armdb_rc bytebuf_grow(struct bytebuf *buf, size_t extra)
{
    size_t cap = buf->cap < CAP_MIN ? CAP_MIN : buf->cap;
    unsigned char *data;

    if (extra > SIZE_MAX / 4 || buf->len > SIZE_MAX / 4)
        return ARMDB_NOMEM;
    while (cap < buf->len + extra)
        cap *= 2;
    data = sqlite3_realloc64(buf->data, cap);
    if (data == NULL)
        return ARMDB_NOMEM;
    buf->data = data;
    buf->cap = cap;
    return ARMDB_OK;
}

enum armdb_rc bytebuf_append(struct bytebuf *buf, const void *p, size_t n)
{
    enum armdb_rc rc = bytebuf_reserve(buf, n);

    if (rc != ARMDB_OK)
        return rc;
    if (n > 0)
        memcpy(buf->data + buf->len, p, n);
    buf->len += n;
    return ARMDB_OK;
}

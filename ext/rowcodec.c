/* rowcodec.c - rows as bytes.
 *
 *   H  [K]  type of each original  type of each column  |  bytes of all these
 *
 * All numbers in front of the bar are varints (LEB128); everything is little-endian.
 *   H      twice the number of bytes from behind H to the bar, plus 1 when the row
 *          carries originals of key columns; then K, their number, comes next
 *   types  0 NULL                     7 real: 8 bytes
 *          1 to 6 integer of 1, 2,    8 the integer 0, no bytes
 *            3, 4, 6, 8 bytes         9 the integer 1, no bytes
 *          10 blob, 11 text: all bytes to the end of the row; only as the last type
 *          12 and more: blob (even) or text (odd) of (type - 12) / 2 bytes
 * On disk: never renumber.
 *
 * The types are those of SQLite's record, whose codes 10 and 11, unused there, take the
 * most common row - one text or blob - to two bytes over its content, whatever its
 * length. The last value's length is the row's; a table without other columns has rows
 * of no bytes at all.
 *
 * How many columns the table has is not said: the types end where the header ends. So
 * a column added to a table later is missing from older rows and reads as NULL. NULLs
 * at the end are written all the same, because a column with a DEFAULT must one day be
 * able to tell "NULL" from "older than the column".
 *
 * Rows come from disk behind a checksum, but the checksum may have been made by an
 * attacker: every length is compared with what is left before it is used. */
#include "ext/rowcodec.h"

#include <stdbool.h>
#include <string.h>

SQLITE_EXTENSION_INIT3

enum {
    TYPE_NULL = 0,
    TYPE_INT8 = 1,
    TYPE_INT64 = 6,
    TYPE_REAL = 7,
    TYPE_ZERO = 8,
    TYPE_ONE = 9,
    TYPE_BLOB_REST = 10,
    TYPE_TEXT_REST = 11,
    TYPE_BLOB = 12, /* and every even number above */
    TYPE_TEXT = 13, /* and every odd one */

    VARINT_MAX = 5 /* no number in a header is over 35 bits: rows end at 1 GiB */
};

/* Bytes of the integer types 1 to 6, of REAL and of the two constants. */
static const unsigned char fixed_bytes[TYPE_ONE + 1] = {0, 1, 2, 3, 4, 6, 8, 8, 0, 0};

/* ---- Little-endian numbers and varints ------------------------------------- */

static void put_little_endian(unsigned char *p, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        p[i] = (unsigned char)(v & 0xff);
        v >>= 8;
    }
}

static uint64_t get_little_endian(const unsigned char *p, unsigned bytes)
{
    uint64_t v = 0;

    for (unsigned i = bytes; i > 0; i--)
        v = (v << 8) | p[i - 1];
    return v;
}

static size_t varint_len(uint64_t v)
{
    size_t n = 1;

    for (; v >= 0x80; v >>= 7)
        n++;
    return n;
}

static unsigned char *put_varint(unsigned char *p, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *p++ = (unsigned char)(v | 0x80);
    *p++ = (unsigned char)v;
    return p;
}

/* Reads a varint before `end`; NULL when it is cut off or too long. */
static inline const unsigned char *get_varint(const unsigned char *p,
                                              const unsigned char *end, uint64_t *v)
{
    uint64_t value = 0;

    if (p < end && *p < 0x80) {
        *v = *p;
        return p + 1;
    }
    for (unsigned n = 0; n < VARINT_MAX && p < end; n++) {
        value |= (uint64_t)(*p & 0x7f) << (7 * n);
        if (*p++ < 0x80) {
            *v = value;
            return p;
        }
    }
    *v = 0;
    return NULL;
}

/* ---- Encoding -------------------------------------------------------------- */

static uint64_t integer_type(int64_t i)
{
    uint64_t magnitude = (uint64_t)(i < 0 ? ~i : i); /* bits beside the sign */

    if (i == 0 || i == 1)
        return TYPE_ZERO + (uint64_t)i;
    if (magnitude < UINT64_C(1) << 7)
        return TYPE_INT8;
    if (magnitude < UINT64_C(1) << 15)
        return TYPE_INT8 + 1;
    if (magnitude < UINT64_C(1) << 23)
        return TYPE_INT8 + 2;
    if (magnitude < UINT64_C(1) << 31)
        return TYPE_INT8 + 3;
    if (magnitude < UINT64_C(1) << 47)
        return TYPE_INT8 + 4;
    return TYPE_INT64;
}

/* The type of a value, and its bytes behind the bar. */
static uint64_t type_of(const struct sql_value *value, bool last, size_t *bytes)
{
    uint64_t type = TYPE_NULL;

    switch (value->type) {
    case SQLITE_TEXT:
        *bytes = value->n;
        return last ? TYPE_TEXT_REST : TYPE_TEXT + 2 * (uint64_t)value->n;
    case SQLITE_BLOB:
        *bytes = value->n;
        return last ? TYPE_BLOB_REST : TYPE_BLOB + 2 * (uint64_t)value->n;
    case SQLITE_INTEGER:
        type = integer_type(value->i);
        break;
    case SQLITE_FLOAT:
        type = TYPE_REAL;
        break;
    default:
        break;
    }
    *bytes = fixed_bytes[type];
    return type;
}

/* The values of a row in the order in which they are written. */
struct row_source {
    const struct sql_value *values;
    const uint32_t *columns; /* NULL: values as they stand */
    uint32_t count;
    const struct sql_value *originals;
    uint32_t original_count;
};

static inline const struct sql_value *source_value(const struct row_source *source,
                                                   uint32_t n)
{
    if (n < source->original_count)
        return &source->originals[n];
    n -= source->original_count;
    return &source->values[source->columns == NULL ? n : source->columns[n]];
}

static unsigned char *put_value(unsigned char *p, const struct sql_value *value,
                                size_t bytes)
{
    uint64_t bits;

    switch (value->type) {
    case SQLITE_TEXT:
    case SQLITE_BLOB:
        if (bytes > 0)
            memcpy(p, value->z, bytes);
        break;
    case SQLITE_INTEGER:
        put_little_endian(p, (uint64_t)value->i, (unsigned)bytes);
        break;
    case SQLITE_FLOAT:
        memcpy(&bits, &value->r, sizeof bits);
        put_little_endian(p, bits, (unsigned)bytes);
        break;
    default:
        break;
    }
    return p + bytes;
}

/* Sizes first, then one pass that writes types and values side by side. */
static enum armdb_rc encode_row(const struct row_source *source, struct bytebuf *out)
{
    uint32_t total = source->original_count + source->count;
    bool has_originals = source->original_count > 0;
    size_t header = has_originals ? varint_len(source->original_count) : 0;
    size_t body = 0;
    size_t bytes = 0;
    uint64_t first;
    enum armdb_rc rc;
    unsigned char *types;
    unsigned char *p;

    if (total == 0)
        return ARMDB_OK;
    for (uint32_t n = 0; n < total; n++) {
        uint64_t type = type_of(source_value(source, n), n + 1 == total, &bytes);

        if (bytes > ARMDB_VALUE_BYTES_MAX - body)
            return ARMDB_TOOBIG;
        header += varint_len(type);
        body += bytes;
    }
    first = 2 * (uint64_t)header + (has_originals ? 1 : 0);
    header += varint_len(first);
    if (header > ARMDB_VALUE_BYTES_MAX - body)
        return ARMDB_TOOBIG;
    rc = bytebuf_reserve(out, header + body);
    if (rc != ARMDB_OK)
        return rc;
    types = put_varint(out->data + out->len, first);
    if (has_originals)
        types = put_varint(types, source->original_count);
    p = out->data + out->len + header;
    for (uint32_t n = 0; n < total; n++) {
        const struct sql_value *value = source_value(source, n);

        types = put_varint(types, type_of(value, n + 1 == total, &bytes));
        p = put_value(p, value, bytes);
    }
    out->len += header + body;
    return ARMDB_OK;
}

enum armdb_rc row_encode(const struct sql_value *values, uint32_t count,
                         const struct sql_value *originals, uint32_t original_count,
                         struct bytebuf *out)
{
    struct row_source source = {values, NULL, count, originals, original_count};

    return encode_row(&source, out);
}

enum armdb_rc row_encode_picked(const struct sql_value *values, const uint32_t *columns,
                                uint32_t count, const struct sql_value *originals,
                                uint32_t original_count, struct bytebuf *out)
{
    struct row_source source = {values, columns, count, originals, original_count};

    return encode_row(&source, out);
}

/* ---- Decoding -------------------------------------------------------------- */

/* A place in a row: the next type and the next value. */
struct row_reader {
    const unsigned char *types;
    const unsigned char *bar; /* end of the types */
    const unsigned char *body;
    size_t left;        /* bytes from body to the end of the row */
    uint64_t originals; /* how many come first and are not yet read */
};

static enum armdb_rc open_row(const void *row, size_t len, struct row_reader *reader)
{
    const unsigned char *p = row;
    const unsigned char *end = p + len;
    uint64_t first;

    p = get_varint(p, end, &first);
    if (p == NULL || first / 2 > (size_t)(end - p))
        return ARMDB_CORRUPT;
    reader->types = p;
    reader->bar = p + first / 2;
    reader->body = reader->bar;
    reader->left = (size_t)(end - reader->bar);
    reader->originals = 0;
    if (first & 1) {
        reader->types = get_varint(p, reader->bar, &reader->originals);
        if (reader->types == NULL ||
            reader->originals > (size_t)(reader->bar - reader->types))
            return ARMDB_CORRUPT;
    }
    return ARMDB_OK;
}

/* Reads the next type and makes sure that its value is there. */
static inline enum armdb_rc next_type(struct row_reader *reader, uint64_t *type,
                                      size_t *bytes)
{
    reader->types = get_varint(reader->types, reader->bar, type);
    if (reader->types == NULL)
        return ARMDB_CORRUPT;
    if (*type <= TYPE_ONE) {
        *bytes = fixed_bytes[*type];
    } else if (*type <= TYPE_TEXT_REST) {
        *bytes = reader->left;
        return reader->types == reader->bar ? ARMDB_OK : ARMDB_CORRUPT;
    } else {
        *bytes = (size_t)((*type - TYPE_BLOB) / 2);
    }
    return *bytes <= reader->left ? ARMDB_OK : ARMDB_CORRUPT;
}

static void get_value(const unsigned char *p, uint64_t type, size_t bytes,
                      struct sql_value *out)
{
    uint64_t bits;

    if (type >= TYPE_BLOB_REST) {
        out->type = type & 1 ? SQLITE_TEXT : SQLITE_BLOB;
        out->n = bytes;
        out->z = p;
        return;
    }
    out->n = 0;
    if (type == TYPE_NULL) {
        sql_value_set_null(out);
    } else if (type == TYPE_REAL) {
        bits = get_little_endian(p, 8);
        out->type = SQLITE_FLOAT;
        memcpy(&out->r, &bits, sizeof bits);
    } else if (type >= TYPE_ZERO) {
        out->type = SQLITE_INTEGER;
        out->i = (int64_t)(type - TYPE_ZERO);
    } else {
        uint64_t sign = UINT64_C(1) << (8 * bytes - 1);

        bits = get_little_endian(p, (unsigned)bytes);
        out->type = SQLITE_INTEGER;
        out->i = (int64_t)((bits ^ sign) - sign); /* extends the sign */
    }
}

/* Steps over `count` values; those beyond the last are no error. */
static enum armdb_rc skip_values(struct row_reader *reader, uint64_t count)
{
    uint64_t type;
    size_t bytes;

    while (count > 0 && reader->types != reader->bar) {
        enum armdb_rc rc = next_type(reader, &type, &bytes);

        if (rc != ARMDB_OK)
            return rc;
        reader->body += bytes;
        reader->left -= bytes;
        count--;
    }
    return ARMDB_OK;
}

/* Reads the next value; NULL when there is none. */
static enum armdb_rc read_value(struct row_reader *reader, struct sql_value *out)
{
    enum armdb_rc rc;
    uint64_t type;
    size_t bytes;

    sql_value_set_null(out);
    if (reader->types == reader->bar)
        return ARMDB_OK;
    rc = next_type(reader, &type, &bytes);
    if (rc != ARMDB_OK)
        return rc;
    get_value(reader->body, type, bytes, out);
    reader->body += bytes;
    reader->left -= bytes;
    return ARMDB_OK;
}

enum armdb_rc row_column(const void *row, size_t len, uint32_t n, struct sql_value *out)
{
    struct row_reader reader;
    enum armdb_rc rc;

    sql_value_set_null(out);
    if (len == 0)
        return ARMDB_OK;
    rc = open_row(row, len, &reader);
    if (rc == ARMDB_OK && (n > 0 || reader.originals > 0))
        rc = skip_values(&reader, reader.originals + n);
    if (rc == ARMDB_OK)
        rc = read_value(&reader, out);
    return rc;
}

enum armdb_rc row_original(const void *row, size_t len, uint32_t part,
                           struct sql_value *out)
{
    struct row_reader reader;
    enum armdb_rc rc;

    sql_value_set_null(out);
    if (len == 0)
        return ARMDB_OK;
    rc = open_row(row, len, &reader);
    if (rc != ARMDB_OK || part >= reader.originals)
        return rc;
    rc = skip_values(&reader, part);
    if (rc == ARMDB_OK)
        rc = read_value(&reader, out);
    return rc;
}

enum armdb_rc row_columns(const void *row, size_t len, uint32_t count,
                          struct sql_value *out)
{
    struct row_reader reader;
    enum armdb_rc rc = ARMDB_OK;

    for (uint32_t n = 0; n < count; n++)
        sql_value_set_null(&out[n]);
    if (len == 0)
        return ARMDB_OK;
    rc = open_row(row, len, &reader);
    if (rc == ARMDB_OK)
        rc = skip_values(&reader, reader.originals);
    for (uint32_t n = 0; rc == ARMDB_OK && n < count; n++)
        rc = read_value(&reader, &out[n]);
    return rc;
}

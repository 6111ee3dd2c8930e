/* keycodec.c - keys as bytes in SQLite's order.
 *
 * A key is the concatenation of its columns. Each begins with a tag that orders the
 * types as SQLite does: NULL < numbers < text < blob. On disk: never renumber.
 *
 *   NULL    08
 *   number  19-L  bytes   negative, complemented      10 bits  <= -2^63
 *           19            zero
 *           19+L  bytes   positive                    22 bits  >= 2^63
 *   text    30    bytes
 *   blob    40    bytes
 *
 * Numbers. Integers and reals share one order and one form. The magnitude is cut
 * into an integer part m < 2^63 and a fraction. u = 2m, plus 1 when there is a
 * fraction, stands big-endian in L = 1 to 8 bytes without leading zeros; then, if u is
 * odd, the fraction as the 8 big-endian bytes of its IEEE form (positive doubles order
 * as their bits). So 5 is 1A 0A, 5.5 is 1A 0B 3FE0000000000000, 6 is 1A 0C: exact for
 * every integer and every double, and no encoding is a prefix of another. From 2^63 up
 * (infinity included) the magnitude is a double with nothing behind the point: its
 * bits. A negative number complements all bytes behind the tag.
 *
 * Text and blob come in two forms.
 *   raw         the last column, ascending: the bytes as they are, to the end. memcmp
 *               puts the shorter one first, as SQLite does.
 *   terminated  anywhere else: 00 -> 01 01, 01 -> 01 02, others as they are, then 00.
 *               The end is lower than every byte, and no encoding is a prefix of
 *               another, whatever follows.
 * A DESC column complements all its bytes, tag included.
 *
 * Collations. RTRIM drops trailing spaces. NOCASE folds A-Z to a-z and, as SQLite's
 * comparison stops at a NUL in both texts and then decides by length, replaces
 * everything behind the first NUL by its length (4 bytes big-endian).
 *
 * What an encoding does not tell (case, trailing spaces, 1.0 or 1 in a column that can
 * hold both) is kept in the row: see key_originals(). Reading a number back gives the
 * integer where it is one, except in REAL columns, which hold no integers. */
#include "ext/keycodec.h"

#include <string.h>

#include "ext/keycodec_private.h"

SQLITE_EXTENSION_INIT3

enum {
    TAG_NULL = 0x08,
    TAG_ZERO = 0x19,
    TAG_BIG_DISTANCE = 9, /* of 10 and 22 from TAG_ZERO */
    TAG_TEXT = 0x30,
    TAG_BLOB = 0x40,

    TERMINATOR = 0x00,
    ESCAPE = 0x01, /* then the escaped byte plus one */

    NUMBER_BYTES_MAX = 17, /* tag, u, fraction */
    NUL_TAIL_BYTES = 5     /* 00 and the length of what follows it */
};

#define BITS_SIGN UINT64_C(0x8000000000000000)
#define BITS_2_63 UINT64_C(0x43E0000000000000) /* 2^63 as a double */
#define BITS_ONE UINT64_C(0x3FF0000000000000)
#define BITS_INFINITY UINT64_C(0x7FF0000000000000)

static uint64_t bits_of(double r)
{
    uint64_t bits;

    memcpy(&bits, &r, sizeof bits);
    return bits;
}

static double double_of(uint64_t bits)
{
    double r;

    memcpy(&r, &bits, sizeof r);
    return r;
}

static void put_big_endian(unsigned char *p, uint64_t v, unsigned bytes)
{
    for (unsigned i = bytes; i > 0; i--) {
        p[i - 1] = (unsigned char)(v & 0xff);
        v >>= 8;
    }
}

static void complement(unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (unsigned char)(p[i] ^ 0xff);
}

/* ---- Numbers --------------------------------------------------------------- */

/* A number taken apart. big: u holds the bits of a double from 2^63 up. */
struct number {
    bool negative;
    bool big;
    uint64_t u;
    uint64_t fraction; /* IEEE bits; 0 = none */
};

static struct number split_number(const struct sql_value *value)
{
    struct number number = {false, false, 0, 0};

    if (value->type == SQLITE_INTEGER) {
        uint64_t m = (uint64_t)value->i;

        number.negative = value->i < 0;
        if (number.negative)
            m = 0 - m;
        number.big = m == BITS_SIGN; /* the one magnitude of 2^63 */
        number.u = number.big ? BITS_2_63 : m << 1;
    } else {
        uint64_t bits = bits_of(value->r) & ~BITS_SIGN;
        double magnitude = double_of(bits);

        number.negative = (bits_of(value->r) & BITS_SIGN) != 0;
        number.big = bits >= BITS_2_63;
        if (number.big) {
            number.u = bits;
        } else {
            uint64_t m = (uint64_t)magnitude;
            double rest = magnitude - (double)m;

            number.fraction = bits_of(rest);
            number.u = (m << 1) | (number.fraction != 0 ? 1U : 0U);
        }
    }
    return number;
}

/* Writes a number at p (NUMBER_BYTES_MAX of room); returns its length. */
static size_t put_number(unsigned char *p, const struct sql_value *value)
{
    struct number number = split_number(value);
    unsigned distance = 0;
    size_t len;

    if (number.big) {
        distance = TAG_BIG_DISTANCE;
        put_big_endian(p + 1, number.u, 8);
        len = 9;
    } else {
        for (uint64_t u = number.u; u != 0; u >>= 8)
            distance++;
        put_big_endian(p + 1, number.u, distance);
        len = 1 + distance;
        if (number.fraction != 0) {
            put_big_endian(p + len, number.fraction, 8);
            len += 8;
        }
    }
    p[0] = (unsigned char)(number.negative ? TAG_ZERO - distance : TAG_ZERO + distance);
    if (number.negative)
        complement(p + 1, len - 1);
    return len;
}

/* ---- Text and blob --------------------------------------------------------- */

/* What of a text or blob is encoded. */
struct bytes_form {
    const unsigned char *z;
    size_t n;
    bool fold;         /* A-Z to a-z on the way */
    bool nul_tail;     /* a NUL followed z[0..n) under NOCASE */
    uint32_t tail_len; /* bytes behind that NUL */
};

static unsigned char fold_byte(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char)(c + ('a' - 'A')) : c;
}

static struct bytes_form form_of(const struct key_part *part,
                                 const struct sql_value *value)
{
    struct bytes_form form = {value->z, value->n, false, false, 0};

    if (value->type != SQLITE_TEXT || value->n == 0)
        return form;
    switch (part->collation) {
    case COLLATION_BINARY:
        break;
    case COLLATION_RTRIM:
        while (form.n > 0 && form.z[form.n - 1] == ' ')
            form.n--;
        break;
    case COLLATION_NOCASE: {
        const unsigned char *nul = memchr(form.z, 0, form.n);

        form.fold = true;
        if (nul != NULL) {
            form.nul_tail = true;
            form.tail_len = (uint32_t)(form.n - (size_t)(nul - form.z) - 1);
            form.n = (size_t)(nul - form.z);
        }
        break;
    }
    }
    return form;
}

/* Cuts what cannot matter: a key is never longer than the limit, and no form is
 * shorter than its bytes. */
static void limit_form(struct bytes_form *form)
{
    if (form->n > ARMDB_KEY_BYTES_MAX) {
        form->n = ARMDB_KEY_BYTES_MAX + 1;
        form->nul_tail = false;
    }
}

static void put_raw(struct bytebuf *out, const unsigned char *z, size_t n, bool fold)
{
    unsigned char *p = out->data + out->len;

    if (fold) {
        for (size_t i = 0; i < n; i++)
            p[i] = fold_byte(z[i]);
    } else if (n > 0) {
        memcpy(p, z, n);
    }
    out->len += n;
}

/* True when none of 8 bytes is 00 or 01: the classic test for a byte below n, which
 * never misses one. */
static bool none_to_escape(const unsigned char *z)
{
    uint64_t w;

    memcpy(&w, z, sizeof w);
    return ((w - UINT64_C(0x0202020202020202)) & ~w & UINT64_C(0x8080808080808080)) == 0;
}

static void put_escaped(struct bytebuf *out, const unsigned char *z, size_t n, bool fold)
{
    unsigned char *p = out->data + out->len;
    size_t i = 0;

    while (i < n) {
        if (!fold && n - i >= 8 && none_to_escape(z + i)) {
            memcpy(p, z + i, 8);
            p += 8;
            i += 8;
            continue;
        }
        if (z[i] > ESCAPE) {
            *p++ = fold ? fold_byte(z[i]) : z[i];
        } else {
            *p++ = ESCAPE;
            *p++ = (unsigned char)(z[i] + 1);
        }
        i++;
    }
    out->len = (size_t)(p - out->data);
}

static enum armdb_rc encode_bytes(const struct key_part *part, bool last,
                                  const struct sql_value *value, struct bytebuf *out)
{
    struct bytes_form form = form_of(part, value);
    bool raw = last && !part->desc;
    unsigned char tail[NUL_TAIL_BYTES];
    enum armdb_rc rc;

    limit_form(&form);
    rc = bytebuf_reserve(out,
                         raw ? form.n + 1 + sizeof tail : 2 * (form.n + sizeof tail) + 2);
    if (rc != ARMDB_OK)
        return rc;
    out->data[out->len++] = value->type == SQLITE_TEXT ? TAG_TEXT : TAG_BLOB;
    tail[0] = 0;
    put_big_endian(tail + 1, form.tail_len, 4);
    if (raw) {
        put_raw(out, form.z, form.n, form.fold);
        if (form.nul_tail)
            put_raw(out, tail, sizeof tail, false);
    } else {
        put_escaped(out, form.z, form.n, form.fold);
        if (form.nul_tail)
            put_escaped(out, tail, sizeof tail, false);
        out->data[out->len++] = TERMINATOR;
    }
    return ARMDB_OK;
}

/* ---- Whole keys ------------------------------------------------------------ */

enum armdb_rc key_encode_part(const struct key_part *part, bool last,
                              const struct sql_value *value, struct bytebuf *out)
{
    size_t start = out->len;
    enum armdb_rc rc;

    switch (value->type) {
    case SQLITE_INTEGER:
    case SQLITE_FLOAT:
        rc = bytebuf_reserve(out, NUMBER_BYTES_MAX);
        if (rc == ARMDB_OK)
            out->len += put_number(out->data + out->len, value);
        break;
    case SQLITE_TEXT:
    case SQLITE_BLOB:
        rc = encode_bytes(part, last, value, out);
        break;
    default:
        rc = bytebuf_reserve(out, 1);
        if (rc == ARMDB_OK)
            out->data[out->len++] = TAG_NULL;
        break;
    }
    if (rc == ARMDB_OK && part->desc)
        complement(out->data + start, out->len - start);
    return rc;
}

/* True when decoding the encoding of `value` gives another value. A REAL column holds
 * no integers and no -0.0: affinity_store() has seen to that. */
static bool loses_original(const struct key_part *part, const struct sql_value *value)
{
    struct bytes_form form;

    switch (value->type) {
    case SQLITE_FLOAT:
        if (part->affinity == AFFINITY_REAL)
            return false;
        if (value->r >= -9223372036854775808.0 && value->r < 9223372036854775808.0)
            return split_number(value).fraction == 0;
        return false;
    case SQLITE_TEXT:
        if (part->collation == COLLATION_BINARY)
            return false;
        form = form_of(part, value);
        if (form.n != value->n)
            return true;
        for (size_t i = 0; form.fold && i < form.n; i++) {
            if (form.z[i] >= 'A' && form.z[i] <= 'Z')
                return true;
        }
        return false;
    default:
        return false;
    }
}

/* A finished key: refused when too long. */
static enum armdb_rc finish_key(struct bytebuf *out, size_t start, enum armdb_rc rc)
{
    if (rc == ARMDB_OK && out->len - start > ARMDB_KEY_BYTES_MAX)
        rc = ARMDB_TOOBIG;
    if (rc != ARMDB_OK)
        out->len = start;
    return rc;
}

enum armdb_rc key_encode(const struct key_layout *layout, const struct sql_value *row,
                         struct bytebuf *out, bool *lossy)
{
    enum armdb_rc rc = ARMDB_OK;
    size_t start = out->len;

    *lossy = false;
    for (uint32_t p = 0; rc == ARMDB_OK && p < layout->part_count; p++) {
        const struct key_part *part = &layout->parts[p];
        const struct sql_value *value = &row[part->column];

        if (loses_original(part, value))
            *lossy = true;
        rc = key_encode_part(part, p + 1 == layout->part_count, value, out);
    }
    return finish_key(out, start, rc);
}

enum armdb_rc key_encode_values(const struct key_layout *layout,
                                const struct sql_value *values, struct bytebuf *out)
{
    enum armdb_rc rc = ARMDB_OK;
    size_t start = out->len;

    for (uint32_t p = 0; rc == ARMDB_OK && p < layout->part_count; p++)
        rc = key_encode_part(&layout->parts[p], p + 1 == layout->part_count, &values[p],
                             out);
    return finish_key(out, start, rc);
}

void key_originals(const struct key_layout *layout, const struct sql_value *row,
                   struct sql_value *originals)
{
    for (uint32_t p = 0; p < layout->part_count; p++) {
        const struct key_part *part = &layout->parts[p];

        if (loses_original(part, &row[part->column]))
            originals[p] = row[part->column];
        else
            sql_value_set_null(&originals[p]);
    }
}

/* ---- Prefixes --------------------------------------------------------------- */

static unsigned char write_letter(unsigned char c, enum letter_case letters)
{
    if (letters == LETTERS_LOWER)
        return fold_byte(c);
    if (letters == LETTERS_UPPER && c >= 'a' && c <= 'z')
        return (unsigned char)(c - ('a' - 'A'));
    return c;
}

enum armdb_rc key_encode_prefix(const struct key_part *part, bool last, int type,
                                const unsigned char *z, size_t n,
                                enum letter_case letters, struct bytebuf *out)
{
    bool raw = last && !part->desc;
    size_t start = out->len;
    enum armdb_rc rc;

    if (n > ARMDB_KEY_BYTES_MAX)
        n = ARMDB_KEY_BYTES_MAX + 1;
    rc = bytebuf_reserve(out, 2 * n + 1);
    if (rc != ARMDB_OK)
        return rc;
    out->data[out->len++] = type == SQLITE_TEXT ? TAG_TEXT : TAG_BLOB;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = write_letter(z[i], letters);

        if (raw)
            put_raw(out, &c, 1, false);
        else
            put_escaped(out, &c, 1, false);
    }
    if (part->desc)
        complement(out->data + start, out->len - start);
    return ARMDB_OK;
}

/* ---- Reading back ---------------------------------------------------------- */

/* The bytes of a key that are left to read. */
struct key_reader {
    const unsigned char *p;
    size_t left;
    unsigned char mask; /* 0xFF in a DESC column */
};

static bool read_big_endian(struct key_reader *reader, unsigned bytes, unsigned char mask,
                            uint64_t *v)
{
    *v = 0;
    if (reader->left < bytes)
        return false;
    for (unsigned i = 0; i < bytes; i++)
        *v = (*v << 8) | (unsigned char)(reader->p[i] ^ mask);
    reader->p += bytes;
    reader->left -= bytes;
    return true;
}

/* Reads u and fraction behind a number's tag. False: not what put_number() writes. */
static bool read_number(struct key_reader *reader, unsigned tag, struct number *number)
{
    unsigned distance = tag < TAG_ZERO ? TAG_ZERO - tag : tag - TAG_ZERO;
    unsigned char mask;

    number->negative = tag < TAG_ZERO;
    number->big = distance == TAG_BIG_DISTANCE;
    number->fraction = 0;
    mask = (unsigned char)(reader->mask ^ (number->negative ? 0xff : 0));
    if (!read_big_endian(reader, number->big ? 8 : distance, mask, &number->u))
        return false;
    if (number->big)
        return number->u >= BITS_2_63 && number->u <= BITS_INFINITY;
    if (distance > 0 && number->u >> (8 * (distance - 1)) == 0)
        return false;
    if ((number->u & 1) == 0)
        return true;
    return read_big_endian(reader, 8, mask, &number->fraction) && number->fraction != 0 &&
           number->fraction < BITS_ONE;
}

/* Puts a number together again: the integer where it is one, but in REAL columns. */
static void join_number(const struct number *number, bool is_real, struct sql_value *out,
                        bool *exact)
{
    uint64_t m = number->u >> 1;
    double magnitude;

    out->n = 0;
    *exact = true;
    if (number->big && number->u == BITS_2_63 && number->negative && !is_real) {
        out->type = SQLITE_INTEGER;
        out->i = INT64_MIN;
        *exact = false;
        return;
    }
    if (!number->big && number->fraction == 0 && !is_real) {
        out->type = SQLITE_INTEGER;
        out->i = number->negative ? -(int64_t)m : (int64_t)m;
        return;
    }
    magnitude =
        number->big ? double_of(number->u) : (double)m + double_of(number->fraction);
    out->type = SQLITE_FLOAT;
    out->r = number->negative ? -magnitude : magnitude;
}

/* Undoes escapes and complement into *scratch, from behind the tag to behind the
 * terminator. */
static enum armdb_rc read_terminated(struct key_reader *reader, struct bytebuf *scratch)
{
    enum armdb_rc rc;
    unsigned char *to;
    size_t i = 0;

    if (reader->left == 0)
        return ARMDB_CORRUPT; /* the terminator is missing */
    rc = bytebuf_reserve(scratch, reader->left);
    if (rc != ARMDB_OK)
        return rc;
    to = scratch->data + scratch->len;
    while (i < reader->left) {
        unsigned char c = (unsigned char)(reader->p[i++] ^ reader->mask);

        if (c == TERMINATOR) {
            scratch->len = (size_t)(to - scratch->data);
            reader->p += i;
            reader->left -= i;
            return ARMDB_OK;
        }
        if (c == ESCAPE) {
            if (i == reader->left)
                return ARMDB_CORRUPT;
            c = (unsigned char)((reader->p[i++] ^ reader->mask) - 1);
            if (c > ESCAPE)
                return ARMDB_CORRUPT;
        }
        *to++ = c;
    }
    return ARMDB_CORRUPT;
}

/* Finds the byte behind the terminator without unescaping. */
static enum armdb_rc skip_terminated(struct key_reader *reader)
{
    const unsigned char *end;

    if (reader->left == 0)
        return ARMDB_CORRUPT;
    end = memchr(reader->p, TERMINATOR ^ reader->mask, reader->left);
    if (end == NULL)
        return ARMDB_CORRUPT;
    end++;
    reader->left -= (size_t)(end - reader->p);
    reader->p = end;
    return ARMDB_OK;
}

/* True when a text read back is surely the original: nothing was there to fold. */
static bool text_is_exact(const struct key_part *part, const unsigned char *z, size_t n)
{
    if (part->collation == COLLATION_BINARY)
        return true;
    if (part->collation == COLLATION_RTRIM)
        return false;
    for (size_t i = 0; i < n; i++) {
        if (z[i] == 0 || (z[i] >= 'a' && z[i] <= 'z'))
            return false;
    }
    return true;
}

static enum armdb_rc read_bytes(struct key_reader *reader, const struct key_part *part,
                                bool last, struct bytebuf *scratch, struct sql_value *out)
{
    enum armdb_rc rc = ARMDB_OK;

    if (last && !part->desc) {
        out->z = reader->p;
        out->n = reader->left;
        reader->left = 0;
        return ARMDB_OK;
    }
    scratch->len = 0;
    rc = read_terminated(reader, scratch);
    out->z = scratch->data;
    out->n = scratch->len;
    return rc;
}

/* Reads one column; with out == NULL only steps over it. */
static enum armdb_rc read_part(struct key_reader *reader, const struct key_part *part,
                               bool last, struct bytebuf *scratch, struct sql_value *out,
                               bool *exact)
{
    bool is_real = part->affinity == AFFINITY_REAL;
    struct number number;
    enum armdb_rc rc;
    unsigned tag;

    reader->mask = part->desc ? 0xff : 0;
    if (reader->left == 0)
        return ARMDB_CORRUPT;
    tag = (unsigned char)(*reader->p++ ^ reader->mask);
    reader->left--;
    if (tag == TAG_NULL)
        return ARMDB_OK;
    if (tag >= TAG_ZERO - TAG_BIG_DISTANCE && tag <= TAG_ZERO + TAG_BIG_DISTANCE) {
        if (!read_number(reader, tag, &number))
            return ARMDB_CORRUPT;
        if (out != NULL) {
            join_number(&number, is_real, out, exact);
            if (part->affinity == AFFINITY_BLOB && out->type == SQLITE_INTEGER)
                *exact = false; /* it may have been written as a real */
        }
        return ARMDB_OK;
    }
    if (tag != TAG_TEXT && tag != TAG_BLOB)
        return ARMDB_CORRUPT;
    if (out == NULL)
        return skip_terminated(reader);
    rc = read_bytes(reader, part, last, scratch, out);
    if (rc != ARMDB_OK)
        return rc;
    out->type = tag == TAG_TEXT ? SQLITE_TEXT : SQLITE_BLOB;
    *exact = tag == TAG_BLOB || text_is_exact(part, out->z, out->n);
    return ARMDB_OK;
}

enum armdb_rc key_decode(const struct key_layout *layout, const void *key, size_t len,
                         uint32_t part, struct bytebuf *scratch, struct sql_value *out,
                         bool *exact)
{
    struct key_reader reader = {key, len, 0};
    bool last = part + 1 == layout->part_count;
    enum armdb_rc rc = ARMDB_OK;

    *exact = true;
    sql_value_set_null(out);
    for (uint32_t p = 0; rc == ARMDB_OK && p < part; p++)
        rc = read_part(&reader, &layout->parts[p], false, scratch, NULL, NULL);
    if (rc == ARMDB_OK)
        rc = read_part(&reader, &layout->parts[part], last, scratch, out, exact);
    if (rc == ARMDB_OK && last && reader.left != 0)
        rc = ARMDB_CORRUPT;
    if (rc != ARMDB_OK)
        sql_value_set_null(out);
    return rc;
}

enum armdb_rc key_first_len(const struct key_layout *layout, const void *key, size_t len,
                            size_t n, size_t *out)
{
    const struct key_part *part = &layout->parts[0];
    struct key_reader reader = {key, len, 0};
    bool last = layout->part_count == 1;
    const unsigned char *bytes = key;
    size_t at = 1;
    enum armdb_rc rc;

    *out = len;
    if (n == KEY_FIRST_WHOLE) {
        if (last)
            return ARMDB_OK;
        rc = read_part(&reader, part, false, NULL, NULL, NULL);
        *out = len - reader.left;
        return rc;
    }
    if (last && !part->desc) {
        at += n;
    } else {
        for (; n > 0 && at < len; n--)
            at += (bytes[at] ^ (part->desc ? 0xff : 0)) == ESCAPE ? 2 : 1;
    }
    *out = at;
    return at <= len ? ARMDB_OK : ARMDB_CORRUPT;
}

bool key_part_is_exact(const struct key_part *part)
{
    return part->collation == COLLATION_BINARY &&
           (part->affinity == AFFINITY_TEXT || part->affinity == AFFINITY_REAL);
}

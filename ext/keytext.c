/* keytext.c - keys as text.
 *
 * What is damaged may be shown here: nothing about the bytes is taken for granted, and
 * text that is cut stays a quoted string. */
#include "ext/keytext.h"

#include <string.h>

#include "sqlite3ext.h"

SQLITE_EXTENSION_INIT3

enum { BYTES_SHOWN = 64 };

static void append_hex(sqlite3_str *out, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;

    sqlite3_str_appendall(out, "x'");
    for (size_t i = 0; i < n && i < BYTES_SHOWN; i++)
        sqlite3_str_appendf(out, "%02x", p[i]);
    sqlite3_str_appendall(out, n > BYTES_SHOWN ? "...'" : "'");
}

/* Control characters have no place in a message. */
static void append_text(sqlite3_str *out, const unsigned char *z, size_t n)
{
    size_t end = n < BYTES_SHOWN ? n : BYTES_SHOWN;

    while (end > 0 && end < n && (z[end] & 0xc0) == 0x80)
        end--; /* not within a character */
    sqlite3_str_appendchar(out, 1, '\'');
    for (size_t i = 0; i < end; i++)
        sqlite3_str_appendchar(out, z[i] == '\'' ? 2 : 1,
                               (char)(z[i] < 0x20 || z[i] == 0x7f ? '?' : z[i]));
    sqlite3_str_appendall(out, end < n ? "...'" : "'");
}

static void append_value(sqlite3_str *out, const struct sql_value *value)
{
    switch (value->type) {
    case SQLITE_INTEGER:
        sqlite3_str_appendf(out, "%lld", (sqlite3_int64)value->i);
        break;
    case SQLITE_FLOAT:
        sqlite3_str_appendf(out, "%!.17g", value->r);
        break;
    case SQLITE_TEXT:
        append_text(out, value->z, value->n);
        break;
    case SQLITE_NULL:
        sqlite3_str_appendall(out, "NULL");
        break;
    default:
        append_hex(out, value->z, value->n);
        break;
    }
}

char *keytext_make(const struct key_layout *layout, const void *key, size_t len)
{
    sqlite3_str *out = sqlite3_str_new(NULL);
    enum armdb_rc rc = layout != NULL ? ARMDB_OK : ARMDB_CORRUPT;
    struct bytebuf scratch;

    bytebuf_init(&scratch);
    for (uint32_t i = 0; rc == ARMDB_OK && i < layout->part_count; i++) {
        struct sql_value value;
        bool exact;

        rc = key_decode(layout, key, len, i, &scratch, &value, &exact);
        if (rc == ARMDB_OK && i > 0)
            sqlite3_str_appendall(out, ", ");
        if (rc == ARMDB_OK)
            append_value(out, &value);
    }
    if (rc != ARMDB_OK) {
        sqlite3_str_reset(out);
        append_hex(out, key, len);
    }
    bytebuf_fini(&scratch);
    return sqlite3_str_finish(out);
}

void keytext_name_row(const char *table, const struct key_layout *layout, const void *key,
                      size_t len, struct armdb_error *err)
{
    char text[ARMDB_ERROR_TEXT_MAX];
    char *named = keytext_make(layout, key, len);

    if (named == NULL)
        return;
    sqlite3_snprintf(sizeof text, text, "table %s, key %s: %s", table, named, err->text);
    memcpy(err->text, text, sizeof text);
    sqlite3_free(named);
}

/* options.c - the table of options and the reading of their values.
 *
 * Every option is one row of a table: its name, what it allows in words, and the
 * function that reads it. The words appear in the error for a wrong value, so that
 * the message and the rule stand side by side and an unknown option can list them
 * all. */
#include "ext/options.h"

#include <stdint.h>
#include <string.h>

#include "ext/token.h"

SQLITE_EXTENSION_INIT3

enum { PATH_BYTES_MAX = 4096, SHARD_PREFIX_BITS_MAX = 8 * ARMDB_KEY_BYTES_MAX };

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)
#define TIB (GIB * 1024)
#define COMPACT_RATE_MIN (64 * KIB)

void options_init(struct table_options *options)
{
    memset(options, 0, sizeof *options);
    options->sync = ARMDB_SYNC_FULL;
    armdb_options_init(&options->store);
}

void options_fini(struct table_options *options)
{
    sqlite3_free(options->path);
    sqlite3_free(options->table);
    options->path = NULL;
    options->table = NULL;
}

/* ---- Values ---------------------------------------------------------------- */

/* What reading a value came to. */
enum reading { READ_OK, READ_WRONG, READ_NOMEM };

static enum reading as_reading(bool ok)
{
    return ok ? READ_OK : READ_WRONG;
}

/* Reads decimal digits; NULL when there are none or too many. */
static const char *read_digits(const char *z, uint64_t *v)
{
    const char *start = z;

    for (*v = 0; *z >= '0' && *z <= '9'; z++) {
        if (*v > (UINT64_MAX - 9) / 10)
            return NULL;
        *v = *v * 10 + (uint64_t)(*z - '0');
    }
    return z == start ? NULL : z;
}

static bool read_number(const char *z, uint64_t low, uint64_t high, uint32_t *out)
{
    uint64_t v;
    const char *end = read_digits(z, &v);

    if (end == NULL || *end != '\0' || v < low || v > high)
        return false;
    *out = (uint32_t)v;
    return true;
}

/* A suffix's factor, 0 when it is none. */
static uint64_t read_factor(const char *z)
{
    static const struct {
        char letter;
        uint64_t factor;
    } units[] = {{'k', KIB}, {'m', MIB}, {'g', GIB}, {'t', TIB}};

    while (*z == ' ')
        z++;
    if (*z == '\0')
        return 1;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if ((*z | 0x20) != units[i].letter)
            continue;
        if (z[1] == '\0' || sqlite3_stricmp(z + 1, "b") == 0 ||
            sqlite3_stricmp(z + 1, "ib") == 0)
            return units[i].factor;
    }
    return 0;
}

static bool read_size(const char *z, uint64_t low, uint64_t high, uint64_t *out)
{
    uint64_t v;
    const char *end = read_digits(z, &v);
    uint64_t factor = end == NULL ? 0 : read_factor(end);

    if (factor == 0 || v > high / factor || v * factor < low)
        return false;
    *out = v * factor;
    return true;
}

/* The position of `z` in a list of words that ends with NULL; -1 when it is none. */
static int find_word(const char *z, const char *const *words)
{
    for (int i = 0; words[i] != NULL; i++) {
        if (sqlite3_stricmp(z, words[i]) == 0)
            return i;
    }
    return -1;
}

/* Reads "0.3", "30%" as 30: two digits behind the point are all that counts. */
static bool read_share(const char *z, uint32_t *percent)
{
    uint64_t v;
    const char *end = read_digits(z, &v);

    if (end != NULL && end[0] == '%' && end[1] == '\0') {
        if (v < 1 || v > 99)
            return false;
        *percent = (uint32_t)v;
        return true;
    }
    if (end != NULL && v == 0)
        z = end;
    if (z[0] != '.' || z[1] < '0' || z[1] > '9')
        return false;
    v = (uint64_t)(z[1] - '0') * 10;
    if (z[2] != '\0') {
        if (z[2] < '0' || z[2] > '9' || z[3] != '\0')
            return false;
        v += (uint64_t)(z[2] - '0');
    }
    *percent = (uint32_t)v;
    return v > 0;
}

static bool has_control_bytes(const char *z)
{
    for (; *z != '\0'; z++) {
        if ((unsigned char)*z < 0x20 || *z == 0x7f)
            return true;
    }
    return false;
}

static enum reading read_string(const char *z, size_t bytes_max, char **out)
{
    size_t n = strlen(z);

    if (n == 0 || n > bytes_max || has_control_bytes(z))
        return READ_WRONG;
    *out = sqlite3_mprintf("%s", z);
    return *out == NULL ? READ_NOMEM : READ_OK;
}

/* ---- Options --------------------------------------------------------------- */

static enum reading set_path(struct table_options *options, const char *z)
{
    return read_string(z, PATH_BYTES_MAX, &options->path);
}

static enum reading set_table(struct table_options *options, const char *z)
{
    return read_string(z, ARMDB_TABLE_NAME_BYTES_MAX, &options->table);
}

static enum reading set_sync(struct table_options *options, const char *z)
{
    static const char *const words[] = {"off", "normal", "full", NULL};
    int i = find_word(z, words);

    if (i >= 0)
        options->sync = (enum armdb_sync)i;
    options->sync_given = i >= 0;
    return as_reading(i >= 0);
}

static enum reading set_shards(struct table_options *options, const char *z)
{
    options->store.given |= ARMDB_GIVEN_SHARDS;
    return as_reading(read_number(z, 1, ARMDB_SHARDS_MAX, &options->store.shards));
}

static enum reading set_prefix_bits(struct table_options *options, const char *z)
{
    options->store.given |= ARMDB_GIVEN_PREFIX_BITS;
    return as_reading(
        read_number(z, 0, SHARD_PREFIX_BITS_MAX, &options->store.shard_prefix_bits));
}

static enum reading set_segment_size(struct table_options *options, const char *z)
{
    options->store.given |= ARMDB_GIVEN_SEGMENT_SIZE;
    return as_reading(read_size(z, MIB, 512 * GIB, &options->store.segment_size));
}

static enum reading set_cache_size(struct table_options *options, const char *z)
{
    options->store.given |= ARMDB_GIVEN_CACHE_SIZE;
    return as_reading(read_size(z, MIB, INT64_MAX, &options->store.cache_size));
}

static enum reading set_io(struct table_options *options, const char *z)
{
    static const char *const words[] = {"buffered", "direct", NULL};
    int i = find_word(z, words);

    options->store.given |= ARMDB_GIVEN_IO_DIRECT;
    options->store.io_direct = i == 1;
    return as_reading(i >= 0);
}

static enum reading set_io_engine(struct table_options *options, const char *z)
{
    static const char *const words[] = {"auto", "uring", "plain", NULL};
    int i = find_word(z, words);

    options->store.given |= ARMDB_GIVEN_IO_ENGINE;
    if (i >= 0)
        options->store.io_engine = (enum armdb_io_engine)i;
    return as_reading(i >= 0);
}

static enum reading set_compact(struct table_options *options, const char *z)
{
    static const char *const words[] = {"on", "off", NULL};
    int i = find_word(z, words);

    options->store.given |= ARMDB_GIVEN_COMPACT;
    options->store.compact_off = i == 1;
    return as_reading(i >= 0);
}

static enum reading set_compact_rate(struct table_options *options, const char *z)
{
    options->store.given |= ARMDB_GIVEN_COMPACT_RATE;
    return as_reading(
        read_size(z, 0, 0, &options->store.compact_rate) ||
        read_size(z, COMPACT_RATE_MIN, INT64_MAX, &options->store.compact_rate));
}

static enum reading set_compact_at(struct table_options *options, const char *z)
{
    options->store.given |= ARMDB_GIVEN_COMPACT_AT;
    return as_reading(read_share(z, &options->store.compact_at));
}

static const struct option {
    const char *name;
    const char *allowed;
    enum reading (*set)(struct table_options *options, const char *z);
} all_options[] = {
    {"path", "a folder of 1 to 4096 bytes without control characters, or ':memory:'",
     set_path},
    {"table", "a name of 1 to 255 bytes without control characters", set_table},
    {"sync", "full, normal or off", set_sync},
    {"shards", "a number from 1 to 64", set_shards},
    {"shard_prefix_bits", "a number from 0 (the whole key) to 8388608", set_prefix_bits},
    {"segment_size", "a size from 1M to 512G, such as '64M'", set_segment_size},
    {"cache_size", "a size from 1M up, such as '256M'", set_cache_size},
    {"io", "buffered or direct", set_io},
    {"io_engine", "auto, uring or plain", set_io_engine},
    {"compact", "on or off", set_compact},
    {"compact_at", "a share from 0.01 to 0.99, such as 0.3", set_compact_at},
    {"compact_rate", "bytes per second from 64K up, such as '64M', or 0 for any",
     set_compact_rate},
};

enum { OPTION_COUNT = sizeof all_options / sizeof all_options[0] };

_Static_assert((int)ARMDB_SYNC_OFF == 0 && (int)ARMDB_SYNC_NORMAL == 1 &&
                   (int)ARMDB_SYNC_FULL == 2,
               "the words of set_sync stand in this order");
_Static_assert((int)ARMDB_IO_AUTO == 0 && (int)ARMDB_IO_URING == 1 &&
                   (int)ARMDB_IO_PLAIN == 2,
               "the words of set_io_engine stand in this order");
_Static_assert(OPTION_COUNT <= 32, "one bit each in table_options.seen");

static char *unknown_option_text(const struct token *name)
{
    sqlite3_str *text = sqlite3_str_new(NULL);

    sqlite3_str_appendf(text, "unknown option: %.*s (options are", (int)name->n, name->z);
    for (int i = 0; i < OPTION_COUNT; i++)
        sqlite3_str_appendf(text, "%s %s", i == 0 ? "" : ",", all_options[i].name);
    sqlite3_str_appendall(text, ")");
    return sqlite3_str_finish(text);
}

/* The value behind '=': one quoted text and nothing more, or everything as it stands
 * without the spaces around it. NULL when out of memory; *bad when a quote does not
 * end or something follows it. */
static char *read_value(const char *text, bool *bad)
{
    const char *rest = text;
    struct token value;
    struct token next;

    *bad = false;
    token_next(&rest, &value);
    if (value.kind == TOKEN_BAD)
        *bad = true;
    if (value.kind == TOKEN_STRING || (value.kind == TOKEN_QUOTED && value.z[0] == '"')) {
        token_next(&rest, &next);
        *bad = next.kind != TOKEN_END;
    } else if (value.kind != TOKEN_END) {
        size_t n = strlen(value.z);

        while (n > 0 && strchr(" \t\r\n\f", value.z[n - 1]) != NULL)
            n--;
        value.n = n;
        value.kind = TOKEN_WORD;
    }
    return token_unquote(&value);
}

static int set_option(struct table_options *options, int which, const char *text,
                      char **err)
{
    const struct option *option = &all_options[which];
    enum reading reading = READ_WRONG;
    bool bad;
    char *value;

    if (options->seen & (UINT32_C(1) << which)) {
        *err = sqlite3_mprintf("option %s is given twice", option->name);
        return SQLITE_ERROR;
    }
    options->seen |= UINT32_C(1) << which;
    value = read_value(text, &bad);
    if (value == NULL)
        return SQLITE_NOMEM;
    if (!bad)
        reading = option->set(options, value);
    if (reading == READ_WRONG)
        *err = sqlite3_mprintf("option %s: '%s' is not allowed, it takes %s",
                               option->name, value, option->allowed);
    sqlite3_free(value);
    if (reading == READ_NOMEM)
        return SQLITE_NOMEM;
    return reading == READ_OK ? SQLITE_OK : SQLITE_ERROR;
}

int options_parse(struct table_options *options, const char *arg, bool *is_option,
                  char **err)
{
    const char *rest = arg;
    struct token name;
    struct token equals;

    *is_option = false;
    *err = NULL;
    token_next(&rest, &name);
    if (name.kind != TOKEN_WORD)
        return SQLITE_OK;
    token_next(&rest, &equals);
    if (!token_is_punct(&equals, '='))
        return SQLITE_OK;
    *is_option = true;
    for (int i = 0; i < OPTION_COUNT; i++) {
        if (token_is_word(&name, all_options[i].name))
            return set_option(options, i, rest, err);
    }
    *err = unknown_option_text(&name);
    return *err == NULL ? SQLITE_NOMEM : SQLITE_ERROR;
}

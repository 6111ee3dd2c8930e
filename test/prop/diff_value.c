/* diff_value.c - memory, random numbers and values of the differential test.
 *
 * Everything of one schema lives in an arena and is freed at once. Values come
 * from small sets of difficult ones: integers and reals next to the limits at
 * which their comparison becomes delicate, text that looks like numbers, text
 * that only differs in case or trailing spaces, empty text next to an empty blob,
 * bytes that are no UTF-8. */
#include "test/prop/diff.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct arena_block {
    struct arena_block *next;
    size_t used;
    size_t room;
    max_align_t data[];
};

static void *need(void *memory)
{
    if (memory == NULL) {
        fprintf(stderr, "diff: out of memory\n");
        exit(2);
    }
    return memory;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    struct arena_block *block = arena->head;
    void *out;

    bytes = (bytes + 15) & ~(size_t)15;
    if (block == NULL || block->room - block->used < bytes) {
        size_t room = bytes > 65536 ? bytes : 65536;

        block = need(calloc(1, sizeof *block + room));
        block->room = room;
        block->next = arena->head;
        arena->head = block;
    }
    out = (char *)block->data + block->used;
    block->used += bytes;
    return out;
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
    va_list args;
    char *out;
    int len;

    va_start(args, format);
    len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    out = arena_alloc(arena, (size_t)len + 1);
    va_start(args, format);
    vsnprintf(out, (size_t)len + 1, format, args);
    va_end(args);
    return out;
}

void arena_free(struct arena *arena)
{
    while (arena->head != NULL) {
        struct arena_block *next = arena->head->next;

        free(arena->head);
        arena->head = next;
    }
}

uint64_t rng_next(struct rng *rng)
{
    uint64_t x;

    rng->state += UINT64_C(0x9E3779B97F4A7C15);
    x = rng->state;
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

unsigned rng_below(struct rng *rng, unsigned n)
{
    return n == 0 ? 0 : (unsigned)(rng_next(rng) % n);
}

bool rng_chance(struct rng *rng, unsigned percent)
{
    return rng_below(rng, 100) < percent;
}

static void text_reserve(struct text *text, size_t more)
{
    if (text->room - text->len <= more) {
        text->room = (text->len + more + 1) * 2;
        text->data = need(realloc(text->data, text->room));
    }
}

void text_add_bytes(struct text *text, const void *data, size_t len)
{
    text_reserve(text, len);
    if (len > 0)
        memcpy(text->data + text->len, data, len);
    text->len += len;
    text->data[text->len] = '\0';
}

void text_add(struct text *text, const char *format, ...)
{
    va_list args;
    int len;

    va_start(args, format);
    len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    text_reserve(text, (size_t)len);
    va_start(args, format);
    vsnprintf(text->data + text->len, (size_t)len + 1, format, args);
    va_end(args);
    text->len += (size_t)len;
}

void text_clear(struct text *text)
{
    text->len = 0;
    text_add_bytes(text, "", 0);
}

void text_free(struct text *text)
{
    free(text->data);
    *text = (struct text){ 0 };
}

static const int64_t integers[] = {
    0, 0, 1, 1, 2, 3, 4, 5, -1, -2, 7, 10, 100, 255, 256, 65536, -129, 2147483648,
    9007199254740991, 9007199254740992, 9007199254740993, -9007199254740992,
    -9007199254740993, INT64_MAX, INT64_MAX - 1, INT64_MAX - 511, INT64_MIN,
    INT64_MIN + 1, 4611686018427387904, 4611686018427387905,
};

static const double reals[] = {
    0.0, -0.0, 0.5, -0.5, 1.0, 1.5, 2.0, 3.0, -1.0, 1e-310, -1e-310, 4.9e-324, 1e300,
    -1e300, 1e15, 1e16, 123456.789, 9007199254740992.0, 9007199254740994.0,
    9223372036854775807.0, -9223372036854775808.0, 9223372036854774784.0,
    18446744073709551616.0, 0.1, 100.0, 5.0, 4611686018427387904.0, 2147483648.0,
};

#define BYTES(s) { s, sizeof s - 1 }
static const struct {
    const char *data;
    size_t len;
} texts[] = {
    BYTES(""), BYTES("a"), BYTES("A"), BYTES("b"), BYTES("B"), BYTES("ab"), BYTES("aB"),
    BYTES("AB"), BYTES("abc"), BYTES("ABC"), BYTES("abd"), BYTES("a "), BYTES("a  "),
    BYTES("A "), BYTES(" a"), BYTES(" "), BYTES("  "), BYTES("1"), BYTES("1.0"),
    BYTES(" 1"), BYTES("1 "), BYTES("1e0"), BYTES("0x1"), BYTES("-0"), BYTES("2"),
    BYTES("0.5"), BYTES(".5"), BYTES("5."), BYTES("+1"), BYTES("1e400"),
    BYTES("9007199254740993"), BYTES("9223372036854775807"),
    BYTES("9223372036854775808"), BYTES("abc%"), BYTES("a_c"), BYTES("a%c"),
    BYTES("a*b"), BYTES("a?b"), BYTES("[a]b"), BYTES("z"), BYTES("Z"), BYTES("["),
    BYTES("`"), BYTES("_"), BYTES("@"), BYTES("{"), BYTES("\xc3\xa4"),
    BYTES("\xc3\x84"), BYTES("a\xc3\xa4"), BYTES("\xf0\x9f\x98\x80"), BYTES("a\0b"),
    BYTES("a\0"), BYTES("\0"), BYTES("a\0c"), BYTES("\xff"), BYTES("\xff\xfe"),
    BYTES("\xc3"), BYTES("a\xff"), BYTES("\xed\xa0\x80"), BYTES("it's"), BYTES("\""),
    BYTES("12:"), BYTES("12:30"), BYTES("NULL"), BYTES("/usr/share/doc"),
    BYTES("/usr/share/doc/a"), BYTES("/usr/share"), BYTES("inf"), BYTES("nan"),
    BYTES("\x7f"), BYTES("\x01"), BYTES("ab\xef\xbf\xbd"), BYTES("ABd "), BYTES("abC "),
};
static const struct {
    const char *data;
    size_t len;
} blobs[] = {
    BYTES(""), BYTES("\0"), BYTES("\0\0"), BYTES("\0\x01"), BYTES("\x01"), BYTES("a"),
    BYTES("A"), BYTES("ab"), BYTES("a\0"), BYTES("a\0b"), BYTES("\xff"),
    BYTES("\xff\xff"), BYTES("a\xff"), BYTES("\xff\0"), BYTES("1"), BYTES("abc"),
    BYTES("a "), BYTES("\xfe\xff\xff"),
};

struct value value_int(int64_t integer)
{
    return (struct value){ .kind = VALUE_INT, .integer = integer };
}

struct value value_text(struct arena *arena, const char *text)
{
    return (struct value){ .kind = VALUE_TEXT, .data = arena_printf(arena, "%s", text),
                           .len = strlen(text) };
}

struct value value_bytes(struct rng *rng, struct arena *arena, bool text, size_t len)
{
    struct value v = { .kind = text ? VALUE_TEXT : VALUE_BLOB, .len = len };
    char *data = arena_alloc(arena, len + 1);
    uint64_t bits = rng_next(rng);
    size_t i;

    for (i = 0; i < len; i++) {
        /* Long common beginnings: all but the last bytes are the same. */
        if (i + 8 >= len || i % 512 == 0)
            bits = bits * UINT64_C(6364136223846793005) + 1442695040888963407;
        data[i] = text ? (char)('a' + (bits >> 40) % 3) : (char)(bits >> 40);
        if (i + 8 < len && i % 512 != 0)
            data[i] = 'q';
    }
    v.data = data;
    return v;
}

static struct value random_number(struct rng *rng, bool real)
{
    struct value v = { .kind = VALUE_INT };

    if (real) {
        v.kind = VALUE_REAL;
        v.real = reals[rng_below(rng, sizeof reals / sizeof reals[0])];
        if (rng_chance(rng, 6))
            v.real = rng_chance(rng, 50) ? HUGE_VAL : -HUGE_VAL;
        else if (rng_chance(rng, 15))
            v.real = (double)(int)rng_below(rng, 200) / 8.0 - 10.0;
        return v;
    }
    if (rng_chance(rng, 55))
        v.integer = (int64_t)rng_below(rng, 24) - 4;
    else
        v.integer = integers[rng_below(rng, sizeof integers / sizeof integers[0])];
    return v;
}

static struct value random_text(struct rng *rng, struct arena *arena)
{
    struct value v = { .kind = VALUE_TEXT };
    unsigned n = rng_below(rng, sizeof texts / sizeof texts[0]);

    if (rng_chance(rng, 15)) {
        char word[8] = { 0 };
        unsigned i, len = 1 + rng_below(rng, 5);

        for (i = 0; i < len; i++)
            word[i] = "abABzc "[rng_below(rng, 7)];
        return value_text(arena, word);
    }
    v.data = texts[n].data;
    v.len = texts[n].len;
    return v;
}

static struct value random_blob(struct rng *rng)
{
    unsigned n = rng_below(rng, sizeof blobs / sizeof blobs[0]);

    return (struct value){ .kind = VALUE_BLOB, .data = blobs[n].data,
                           .len = blobs[n].len };
}

struct value value_random(struct rng *rng, struct arena *arena, enum flavour flavour)
{
    if (rng_chance(rng, 4))
        return (struct value){ .kind = VALUE_NULL };
    if (flavour == FLAVOUR_MIXED || rng_chance(rng, 12))
        flavour = (enum flavour)(1 + rng_below(rng, FLAVOUR_COUNT - 1));
    switch (flavour) {
    case FLAVOUR_TEXT:
        return random_text(rng, arena);
    case FLAVOUR_BLOB:
        return random_blob(rng);
    case FLAVOUR_REAL:
        return random_number(rng, true);
    case FLAVOUR_INT:
    case FLAVOUR_MIXED:
    case FLAVOUR_COUNT:
        break;
    }
    return random_number(rng, false);
}

bool value_has_literal(const struct value *value)
{
    size_t i;

    if (value->kind != VALUE_TEXT)
        return value->len <= 64;
    for (i = 0; i < value->len; i++) {
        unsigned char c = (unsigned char)value->data[i];

        if (c < 32 || c > 126)
            return false;
    }
    return value->len <= 64;
}

static void add_real(struct text *text, double real)
{
    char digits[40];

    snprintf(digits, sizeof digits, "%.17g", real);
    text_add(text, "%s%s", digits, strpbrk(digits, ".e") == NULL ? ".0" : "");
}

void value_add_literal(struct text *text, const struct value *value)
{
    size_t i;

    switch (value->kind) {
    case VALUE_NULL:
        text_add(text, "NULL");
        break;
    case VALUE_INT:
        if (value->integer == INT64_MIN)
            text_add(text, "(-9223372036854775807-1)");
        else
            text_add(text, "%lld", (long long)value->integer);
        break;
    case VALUE_REAL:
        if (isinf(value->real))
            text_add(text, value->real > 0 ? "9e999" : "-9e999");
        else
            add_real(text, value->real);
        break;
    case VALUE_TEXT:
        text_add(text, "'");
        for (i = 0; i < value->len; i++)
            text_add(text, value->data[i] == '\'' ? "''" : "%c", value->data[i]);
        text_add(text, "'");
        break;
    case VALUE_BLOB:
        text_add(text, "x'");
        for (i = 0; i < value->len; i++)
            text_add(text, "%02x", (unsigned char)value->data[i]);
        text_add(text, "'");
        break;
    }
}

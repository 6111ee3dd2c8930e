/* token.c - a tokenizer with SQLite's rules for where tokens begin and end.
 *
 * Spaces are blank, tab, line feed, form feed and carriage return. Comments run from
 * two dashes to the end of the line, or between slash-star and star-slash; one that
 * does not end before the text does is fine for SQLite and TOKEN_BAD here, because it
 * would swallow what is put behind the text. Bytes from 0x80 up belong to words.
 * Operators of several bytes come as single bytes: no two valid texts differ in that
 * alone. */
#include "ext/token.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\f' || c == '\r';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_' ||
           c == '$' || (unsigned char)c >= 0x80;
}

/* Behind the comment or the spaces at z; z itself when there are none, NULL when a
 * comment does not end. */
static const char *skip_blank(const char *z)
{
    if (z[0] == '-' && z[1] == '-') {
        z = strchr(z, '\n');
        return z == NULL ? NULL : z + 1;
    }
    if (z[0] == '/' && z[1] == '*') {
        z = strstr(z + 2, "*/");
        return z == NULL ? NULL : z + 2;
    }
    while (is_space(*z))
        z++;
    return z;
}

/* Behind the closing quote of the text that opens at z; NULL when there is none. A
 * doubled quote stands for itself, but not in [..]. */
static const char *skip_quoted(const char *z)
{
    const char quote = (char)(z[0] == '[' ? ']' : z[0]);

    for (z++; *z != '\0'; z++) {
        if (*z != quote)
            continue;
        if (quote == ']' || z[1] != quote)
            return z + 1;
        z++;
    }
    return NULL;
}

static enum token_kind quote_kind(const char *z)
{
    switch (z[0]) {
    case '\'':
        return TOKEN_STRING;
    case '"':
    case '`':
    case '[':
        return TOKEN_QUOTED;
    case 'x':
    case 'X':
        return z[1] == '\'' ? TOKEN_BLOB : TOKEN_END;
    default:
        return TOKEN_END;
    }
}

/* Where the token at z ends; NULL when it does not. */
static const char *find_end(const char *z, enum token_kind *kind)
{
    *kind = quote_kind(z);
    if (*kind == TOKEN_BLOB)
        return skip_quoted(z + 1);
    if (*kind != TOKEN_END)
        return skip_quoted(z);
    if (is_digit(z[0]) || (z[0] == '.' && is_digit(z[1]))) {
        *kind = TOKEN_NUMBER;
        while (is_word_byte(*z) || *z == '.' ||
               ((*z == '+' || *z == '-') && (z[-1] == 'e' || z[-1] == 'E') &&
                is_digit(z[1])))
            z++;
        return z;
    }
    if (is_word_byte(z[0])) {
        *kind = TOKEN_WORD;
        while (is_word_byte(*z))
            z++;
        return z;
    }
    *kind = TOKEN_PUNCT;
    return z + 1;
}

void token_next(const char **text, struct token *token)
{
    const char *z = *text;
    const char *next = skip_blank(z);
    const char *end;

    while (next != NULL && next != z) {
        z = next;
        next = skip_blank(z);
    }
    token->z = z;
    token->n = 0;
    token->kind = TOKEN_END;
    if (next != NULL && *z == '\0') {
        *text = z;
        return;
    }
    end = next == NULL ? NULL : find_end(z, &token->kind);
    if (end == NULL) {
        token->kind = TOKEN_BAD;
        end = z + strlen(z);
    }
    token->n = (size_t)(end - z);
    *text = end;
}

bool token_is_word(const struct token *token, const char *word)
{
    return token->kind == TOKEN_WORD && token->n == strlen(word) &&
           sqlite3_strnicmp(token->z, word, (int)token->n) == 0;
}

bool token_is_punct(const struct token *token, char c)
{
    return token->kind == TOKEN_PUNCT && token->z[0] == c;
}

char *token_unquote(const struct token *token)
{
    bool quoted = token->kind == TOKEN_QUOTED || token->kind == TOKEN_STRING;
    char *out = sqlite3_malloc64(token->n + 1);
    size_t to = 0;

    if (out == NULL)
        return NULL;
    for (size_t i = quoted ? 1 : 0; i + (quoted ? 1 : 0) < token->n; i++) {
        out[to++] = token->z[i];
        if (quoted && token->z[0] != '[' && token->z[i] == token->z[0])
            i++; /* the second of a doubled quote */
    }
    out[to] = '\0';
    return out;
}

void token_normalize(const char *text, size_t count, sqlite3_str *out)
{
    struct token token;

    for (size_t i = 0; i < count; i++) {
        token_next(&text, &token);
        if (token.kind == TOKEN_END)
            return;
        if (i > 0)
            sqlite3_str_appendchar(out, 1, ' ');
        for (size_t k = 0; k < token.n; k++) {
            char c = token.z[k];

            if (token.kind == TOKEN_WORD && c >= 'A' && c <= 'Z')
                c = (char)(c + ('a' - 'A'));
            sqlite3_str_appendchar(out, 1, c);
        }
    }
}

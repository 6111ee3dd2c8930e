/* token.h - cuts SQL text into tokens, as far as the module arguments need it.
 *
 * No SQL is parsed here: SQLite does that. Tokens tell options from column
 * definitions, make sure that a text is closed in itself before it is put between
 * other text, and compare definitions without regard to spaces, comments and case. */
#ifndef ARMDB_EXT_TOKEN_H
#define ARMDB_EXT_TOKEN_H

#include <stdbool.h>
#include <stddef.h>

#include "sqlite3ext.h"

enum token_kind {
    TOKEN_END,    /* nothing but spaces and comments is left */
    TOKEN_WORD,   /* bare identifier or keyword */
    TOKEN_QUOTED, /* "..", `..`, [..] */
    TOKEN_STRING, /* '..' */
    TOKEN_BLOB,   /* x'..' */
    TOKEN_NUMBER, /* begins with a digit, or a point and a digit */
    TOKEN_PUNCT,  /* one other byte */
    TOKEN_BAD     /* a quote or comment that does not end */
};

struct token {
    enum token_kind kind;
    const char *z; /* in the text */
    size_t n;
};

/* Reads the token at *text, behind spaces and comments, and moves *text past it. */
void token_next(const char **text, struct token *token);

/* True when the token is this bare word, in any case. */
bool token_is_word(const struct token *token, const char *word);
/* True when the token is this byte. */
bool token_is_punct(const struct token *token, char c);

/* The text of a quoted token (TOKEN_QUOTED, TOKEN_STRING) without its quotes, any
 * other token as it stands. sqlite3_malloc; NULL when out of memory. */
char *token_unquote(const struct token *token);

/* Appends the tokens of a text, one space between them, bare words in lower case:
 * equal results mean the same SQL. Stops at the end of the text or after `count`
 * tokens. */
void token_normalize(const char *text, size_t count, sqlite3_str *out);

#endif

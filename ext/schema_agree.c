/* schema_agree.c - whether two declarations mean the same table.
 *
 * A table of a store may be reached under several declarations: by a TEMP table, from a
 * second database file, after a restore. Rows written under one must be right under the
 * other, so everything that shapes the bytes of a row or decides whether it is allowed
 * must agree. How the definitions are written (spaces, comments, case of names, a
 * PRIMARY KEY beside the column or at the end) need not. The first difference is put
 * into words that name the column. */
#include <string.h>

#include "ext/schema_private.h"
#include "ext/token.h"

SQLITE_EXTENSION_INIT3

/* Whether both texts are the same SQL; NULL equals only NULL. SQLITE_NOMEM. */
static int compare_sql(const char *a, const char *b, bool *same)
{
    sqlite3_str *left;
    sqlite3_str *right;
    char *normal_left;
    char *normal_right;
    int rc = SQLITE_NOMEM;

    *same = a == b;
    if (a == NULL || b == NULL)
        return SQLITE_OK;
    left = sqlite3_str_new(NULL);
    right = sqlite3_str_new(NULL);
    token_normalize(a, SIZE_MAX, left);
    token_normalize(b, SIZE_MAX, right);
    sqlite3_str_appendchar(left, 1, '.'); /* never empty: NULL is lack of memory */
    sqlite3_str_appendchar(right, 1, '.');
    normal_left = sqlite3_str_finish(left);
    normal_right = sqlite3_str_finish(right);
    if (normal_left != NULL && normal_right != NULL) {
        *same = strcmp(normal_left, normal_right) == 0;
        rc = SQLITE_OK;
    }
    sqlite3_free(normal_left);
    sqlite3_free(normal_right);
    return rc;
}

static const char *or_none(const char *text)
{
    return text == NULL || text[0] == '\0' ? "none" : text;
}

/* The answer when something differs; takes the text, which is NULL without memory. */
static int differ(char *text, char **difference)
{
    *difference = text;
    return text == NULL ? SQLITE_NOMEM : SQLITE_ERROR;
}

/* SQLITE_ERROR with the first thing in which two columns differ, SQLITE_NOMEM. */
static int compare_columns(const struct schema_column *a, const struct schema_column *b,
                           uint32_t number, char **difference)
{
    bool same_type = false;
    bool same_default = false;
    int rc = compare_sql(a->type, b->type, &same_type);

    if (rc == SQLITE_OK)
        rc = compare_sql(a->dflt, b->dflt, &same_default);
    if (rc != SQLITE_OK)
        return rc;
    if (sqlite3_stricmp(a->name, b->name) != 0)
        return differ(sqlite3_mprintf("column %u is named %s, in the store it is %s",
                                      number, a->name, b->name),
                      difference);
    if (!same_type)
        return differ(sqlite3_mprintf("column %s has type %s, in the store it has %s",
                                      a->name, or_none(a->type), or_none(b->type)),
                      difference);
    if (sqlite3_stricmp(a->collation, b->collation) != 0)
        return differ(
            sqlite3_mprintf("column %s has collation %s, in the store it has %s", a->name,
                            a->collation, b->collation),
            difference);
    if (a->not_null != b->not_null)
        return differ(sqlite3_mprintf("column %s is %sNOT NULL, in the store it is %s",
                                      a->name, a->not_null ? "" : "not ",
                                      b->not_null ? "so" : "not"),
                      difference);
    if (!same_default)
        return differ(sqlite3_mprintf("column %s has DEFAULT %s, in the store it has %s",
                                      a->name, or_none(a->dflt), or_none(b->dflt)),
                      difference);
    return SQLITE_OK;
}

static bool same_part(const struct key_part *a, const struct key_part *b)
{
    return a->column == b->column && a->collation == b->collation && a->desc == b->desc;
}

/* "a COLLATE NOCASE DESC, b" */
static char *describe_key(const struct schema *schema)
{
    sqlite3_str *text = sqlite3_str_new(NULL);

    for (uint32_t p = 0; p < schema->key.part_count; p++) {
        const struct key_part *part = &schema->key.parts[p];

        sqlite3_str_appendf(text, "%s%s", p > 0 ? ", " : "",
                            schema->columns[part->column].name);
        if (part->collation != COLLATION_BINARY)
            sqlite3_str_appendf(text, " COLLATE %s",
                                schema_collation_name(part->collation));
        if (part->desc)
            sqlite3_str_appendall(text, " DESC");
    }
    return sqlite3_str_finish(text);
}

static int differ_in_key(const struct schema *declared, const struct schema *stored,
                         char **difference)
{
    char *here = describe_key(declared);
    char *there = describe_key(stored);
    int rc = SQLITE_NOMEM;

    if (here != NULL && there != NULL)
        rc = differ(
            sqlite3_mprintf("the key is (%s), in the store it is (%s)", here, there),
            difference);
    sqlite3_free(here);
    sqlite3_free(there);
    return rc;
}

int schema_agrees(const struct schema *declared, const struct schema *stored,
                  char **difference)
{
    uint32_t count = declared->column_count;
    bool same_key = declared->key.part_count == stored->key.part_count;
    int rc = SQLITE_OK;

    *difference = NULL;
    for (uint32_t c = 0; rc == SQLITE_OK && c < count && c < stored->column_count; c++)
        rc = compare_columns(&declared->columns[c], &stored->columns[c], c + 1,
                             difference);
    if (rc != SQLITE_OK)
        return rc;
    if (count != stored->column_count)
        return differ(sqlite3_mprintf("there are %u columns, in the store there are %u",
                                      count, stored->column_count),
                      difference);
    for (uint32_t p = 0; same_key && p < declared->key.part_count; p++)
        same_key = same_part(&declared->key.parts[p], &stored->key.parts[p]);
    if (!same_key)
        return differ_in_key(declared, stored, difference);
    if (strcmp(declared->priv->checks, stored->priv->checks) != 0)
        return differ(sqlite3_mprintf("the CHECKs are %s, in the store they are %s",
                                      or_none(declared->priv->checks),
                                      or_none(stored->priv->checks)),
                      difference);
    return SQLITE_OK;
}

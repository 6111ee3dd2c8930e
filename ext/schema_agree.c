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

/* True when both texts are the same SQL; NULL equals only NULL. */
static bool same_sql(const char *a, const char *b)
{
    sqlite3_str *left = sqlite3_str_new(NULL);
    sqlite3_str *right = sqlite3_str_new(NULL);
    char *normal_left;
    char *normal_right;
    bool same = a == b;

    if (a != NULL && b != NULL) {
        token_normalize(a, SIZE_MAX, left);
        token_normalize(b, SIZE_MAX, right);
        sqlite3_str_appendchar(left, 1, '.'); /* never empty */
        sqlite3_str_appendchar(right, 1, '.');
    }
    normal_left = sqlite3_str_finish(left);
    normal_right = sqlite3_str_finish(right);
    if (normal_left != NULL && normal_right != NULL)
        same = strcmp(normal_left, normal_right) == 0;
    sqlite3_free(normal_left);
    sqlite3_free(normal_right);
    return same;
}

static const char *or_none(const char *text)
{
    return text == NULL || text[0] == '\0' ? "none" : text;
}

/* The first thing in which two columns differ; NULL when they agree. */
static char *column_difference(const struct schema_column *a,
                               const struct schema_column *b, uint32_t number)
{
    if (sqlite3_stricmp(a->name, b->name) != 0)
        return sqlite3_mprintf("column %u is named %s, in the store it is %s", number,
                               a->name, b->name);
    if (!same_sql(a->type, b->type))
        return sqlite3_mprintf("column %s has type %s, in the store it has %s", a->name,
                               or_none(a->type), or_none(b->type));
    if (sqlite3_stricmp(a->collation, b->collation) != 0)
        return sqlite3_mprintf("column %s has collation %s, in the store it has %s",
                               a->name, a->collation, b->collation);
    if (a->not_null != b->not_null)
        return sqlite3_mprintf("column %s is %sNOT NULL, in the store it is %s", a->name,
                               a->not_null ? "" : "not ", b->not_null ? "so" : "not");
    if (!same_sql(a->dflt, b->dflt))
        return sqlite3_mprintf("column %s has DEFAULT %s, in the store it has %s",
                               a->name, or_none(a->dflt), or_none(b->dflt));
    return NULL;
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

static char *key_difference(const struct schema *declared, const struct schema *stored)
{
    char *here = describe_key(declared);
    char *there = describe_key(stored);
    char *text = sqlite3_mprintf("the key is (%s), in the store it is (%s)", here, there);

    sqlite3_free(here);
    sqlite3_free(there);
    return text;
}

bool schema_agrees(const struct schema *declared, const struct schema *stored,
                   char **difference)
{
    uint32_t count = declared->column_count;
    bool same_key = declared->key.part_count == stored->key.part_count;

    *difference = NULL;
    for (uint32_t c = 0; c < count && c < stored->column_count; c++) {
        *difference =
            column_difference(&declared->columns[c], &stored->columns[c], c + 1);
        if (*difference != NULL)
            return false;
    }
    if (count != stored->column_count) {
        *difference = sqlite3_mprintf("there are %u columns, in the store there are %u",
                                      count, stored->column_count);
        return false;
    }
    for (uint32_t p = 0; same_key && p < declared->key.part_count; p++)
        same_key = same_part(&declared->key.parts[p], &stored->key.parts[p]);
    if (!same_key) {
        *difference = key_difference(declared, stored);
        return false;
    }
    if (strcmp(declared->priv->checks, stored->priv->checks) != 0) {
        *difference = sqlite3_mprintf("the CHECKs are %s, in the store they are %s",
                                      or_none(declared->priv->checks),
                                      or_none(stored->priv->checks));
        return false;
    }
    return true;
}

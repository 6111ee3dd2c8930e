/* filter_number.c - numbers compared with a TEXT column, or one without a type.
 *
 * Such a number has two meanings (see plan.c). All texts that are this number may be
 * wanted ('5', '05', '5.0'), and SQLite, to which such terms are left (omit is not set),
 * tests each row. Texts that look like numbers begin with a space, a sign, a point or a
 * digit, so they lie in one short range of the order, which is looked through here:
 * mostly there is none, or one that is this number, and then there is one key again.
 * Several become a list, sorted by what follows in the key if the plan's order leans on
 * the column being constant. What is left over is a plan for at most one row in an UPDATE
 * or DELETE, where SQLite looks at the first row only, and two such columns at once where
 * the order leans on them. The first is taken by its own meaning if it is a parameter
 * and no CAST is about; else both are refused, with a text that says what to write
 * instead. */
#include <string.h>

#include "ext/errmap.h"
#include "ext/filter_private.h"

SQLITE_EXTENSION_INIT3

int filter_next_text(struct filter *f, uint32_t part, bool first, bool *found)
{
    const struct key_layout *key = &f->vtab->schema->key;
    struct vtab_cursor *cursor = f->cursor;
    struct armdb_range seek = {.keys_only = true, .limit_hint = 1};
    struct armdb_error error = {ARMDB_OK, 0, ""};
    struct sql_value low = {.type = SQLITE_TEXT, .n = 1, .z = "\t"};
    struct sql_value high = {.type = SQLITE_TEXT, .n = 1, .z = ":"};
    struct sql_value text;
    const void *bytes;
    size_t len;
    bool exact;
    enum armdb_rc rc = key_range_begin(key, f->eq, part, &cursor->range);

    *found = false;
    if (!first) {
        low.z = cursor->text.data;
        low.n = cursor->text.len;
    }
    /* A DESC column is walked from its lowest text as well. */
    seek.reverse = key->parts[part].desc;
    if (rc == ARMDB_OK)
        rc = key_range_narrow(key, part, first ? KEY_GE : KEY_GT, &low, &cursor->range);
    if (rc == ARMDB_OK)
        rc = key_range_narrow(key, part, KEY_LT, &high, &cursor->range);
    if (rc == ARMDB_OK && !key_range_is_empty(&cursor->range)) {
        key_range_get(&cursor->range, &seek);
        rc = armdb_cursor_seek_range(cursor->rows, &seek, &error);
        *found = rc == ARMDB_OK;
    }
    if (*found) {
        armdb_cursor_key(cursor->rows, &bytes, &len);
        rc = key_decode(key, bytes, len, part, &cursor->scratch, &text, &exact);
        cursor->text.len = 0;
        if (rc == ARMDB_OK)
            rc = bytebuf_append(&cursor->text, text.z, text.n);
    }
    return rc == ARMDB_DONE ? SQLITE_OK : vtab_cursor_error(cursor, rc, &error);
}

/* Asks SQLite if cursor->text, taken for a number, is this one. */
static int is_number(sqlite3_stmt **stmt, const struct filter *f,
                     const struct sql_value *number, bool *same)
{
    struct sql_value text = {.type = SQLITE_TEXT};
    int rc = SQLITE_OK;

    *same = false;
    if (*stmt == NULL)
        rc = conn_prepare(f->vtab->conn->db, stmt, "SELECT ?1 = CAST(?2 AS NUMERIC)");
    if (rc == SQLITE_OK)
        rc = sql_value_bind(*stmt, 2, number);
    text.n = f->cursor->text.len;
    text.z = f->cursor->text.data;
    if (rc == SQLITE_OK)
        rc = sql_value_bind(*stmt, 1, &text);
    if (rc == SQLITE_OK && sqlite3_step(*stmt) == SQLITE_ROW)
        *same = sqlite3_column_int(*stmt, 0) != 0;
    if (rc == SQLITE_OK)
        rc = sqlite3_reset(*stmt);
    return rc;
}

/* True when cursor->text is the value that stands for the number anyway. */
static bool is_base(const struct filter *f, const struct sql_value *base)
{
    const struct bytebuf *text = &f->cursor->text;

    return base->type == SQLITE_TEXT && base->n == text->len &&
           memcmp(base->z, text->data, text->len) == 0;
}

/* What walk_spellings() found. */
struct spellings {
    uint32_t others; /* texts that are the number, besides the one it converts to */
    bool base;       /* that one is there */
};

/* Walks over the texts that are this number. Without `add`, counts them and keeps the
 * last one; with it, each becomes a value of the list. */
static int walk_spellings(struct filter *f, uint32_t part, bool add,
                          struct spellings *found)
{
    struct vtab_cursor *cursor = f->cursor;
    const struct sql_value base = f->eq[part];
    sqlite3_stmt *stmt = NULL;
    bool more = true;
    int rc = SQLITE_OK;

    memset(found, 0, sizeof *found);
    for (bool first = true; rc == SQLITE_OK; first = false) {
        bool same = false;

        rc = filter_next_text(f, part, first, &more);
        if (rc != SQLITE_OK || !more)
            break;
        if (is_base(f, &base)) {
            found->base = true;
            continue;
        }
        rc = is_number(&stmt, f, &f->number[part], &same);
        if (rc != SQLITE_OK || !same)
            continue;
        found->others++;
        cursor->kept.len = 0;
        rc = vtab_cursor_error(
            cursor, bytebuf_append(&cursor->kept, cursor->text.data, cursor->text.len),
            NULL);
        if (rc == SQLITE_OK && add) {
            f->eq[part].type = SQLITE_TEXT;
            f->eq[part].n = cursor->kept.len;
            f->eq[part].z = cursor->kept.data;
            rc = filter_add_value(f);
        }
    }
    sqlite3_finalize(stmt);
    return rc;
}

/* The part takes several spellings of the number: they become a list. */
static int list_spellings(struct filter *f, uint32_t part)
{
    struct spellings found;
    int rc;

    f->cursor->list.len = 0;
    f->plan.list_slot = part + 1;
    rc = filter_add_value(f);
    if (rc == SQLITE_OK)
        rc = walk_spellings(f, part, true, &found);
    if (rc == SQLITE_OK)
        filter_finish_list(f);
    return rc;
}

static int refuse_number(struct filter *f, uint32_t part)
{
    const struct schema *schema = f->vtab->schema;

    return errmap_set(
        &f->vtab->base, SQLITE_MISMATCH,
        sqlite3_mprintf(
            "a number is compared with column %s, which holds several texts that "
            "are that number; write CAST(... AS TEXT)",
            schema->columns[schema->key.parts[part].column].name));
}

/* Leaves out the equalities from this one on; SQLite tests each row. A list before it
 * is made again, of fewer parts. */
static int widen(struct filter *f, uint32_t part)
{
    if (f->plan.leans)
        return refuse_number(f, part);
    f->plan.eq_count = part;
    f->has_low = false;
    f->has_high = false;
    f->key_count = 0;
    f->cursor->span_count = 0;
    if (part + 1 > f->plan.list_slot && f->plan.list_slot != 0)
        return filter_load_list(f);
    f->plan.list_slot = 0;
    return SQLITE_OK;
}

/* True when a row has the value itself in this part, behind the given first parts. */
static int has_value(struct filter *f, uint32_t part, bool *found)
{
    struct vtab_cursor *cursor = f->cursor;
    struct armdb_range seek = {.keys_only = true, .limit_hint = 1};
    struct armdb_error error = {ARMDB_OK, 0, ""};
    enum armdb_rc rc =
        key_range_begin(&f->vtab->schema->key, f->eq, part + 1, &cursor->range);

    if (rc == ARMDB_OK) {
        key_range_get(&cursor->range, &seek);
        rc = armdb_cursor_seek_range(cursor->rows, &seek, &error);
    }
    *found = rc == ARMDB_OK;
    return rc == ARMDB_DONE ? SQLITE_OK : vtab_cursor_error(cursor, rc, &error);
}

/* One equality of open meaning. *several: it is to become a list. */
static int settle_meaning(struct filter *f, uint32_t part, bool several_before,
                          bool *several)
{
    bool itself = f->vtab->schema->key.parts[part].affinity == AFFINITY_BLOB;
    bool unique = f->plan.eq_count == f->vtab->schema->key.part_count && !f->plan.several;
    struct spellings found;
    bool more = true;
    int rc = SQLITE_OK;

    if (several_before || f->plan.list_slot != 0) {
        /* Behind a list there is no one prefix to look under. */
        if (!several_before && part < f->plan.list_slot)
            rc = filter_next_text(f, part, true, &more);
        return rc == SQLITE_OK && more ? widen(f, part) : rc;
    }
    rc = walk_spellings(f, part, false, &found);
    if (rc != SQLITE_OK || found.others == 0)
        return rc;
    if (!unique || !f->vtab->enlisted || f->vtab->open_count != 1 ||
        !conn_is_changing(f->vtab->conn, f->plan.whole)) {
        *several = true;
        return SQLITE_OK;
    }
    if (itself)
        rc = has_value(f, part, &found.base);
    if (rc != SQLITE_OK)
        return rc;
    if (found.others > 1 || found.base) {
        /* One row is wanted: a parameter means its own text, or itself; but one that
         * went through a CAST still looks like a parameter. */
        if (sqlite3_value_frombind(f->argv[part]) && !conn_has_cast(f->vtab->conn))
            return SQLITE_OK;
        return refuse_number(f, part);
    }
    f->eq[part].type = SQLITE_TEXT;
    f->eq[part].n = f->cursor->kept.len;
    f->eq[part].z = f->cursor->kept.data;
    return SQLITE_OK;
}

int filter_settle_meanings(struct filter *f)
{
    uint32_t several_at = 0;
    bool several = false;
    int rc = SQLITE_OK;

    for (uint32_t i = 0; rc == SQLITE_OK && i < f->plan.eq_count; i++) {
        bool before = several;

        if ((f->unsure >> i & 1) == 0)
            continue;
        rc = settle_meaning(f, i, before, &several);
        if (several && !before)
            several_at = i;
    }
    if (rc != SQLITE_OK || !several)
        return rc;
    rc = list_spellings(f, several_at);
    if (rc == SQLITE_OK && !f->never && f->plan.leans)
        rc = filter_collect_keys(f);
    return rc;
}

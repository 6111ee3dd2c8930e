/* diff_plant.c - planted differences, to prove that the comparison sees them.
 *
 * Without an extension both sides are native tables. `diff --self-test` then runs
 * once without a plant, which must find nothing (else the generator asks for
 * something that SQL leaves open), and once with each plant: side 1 gets another
 * text, as a faulty implementation would behave, and the test must notice. */
#include "test/prop/diff.h"

#include <string.h>

static const struct {
    const char *name;
    bool create; /* changes CREATE TABLE, else all other statements */
    const char *from;
    const char *to;
    bool transactions;
    bool connections;
} plants[] = {
    { "collation ignored", true, " COLLATE NOCASE", "", false, false },
    { "trailing spaces kept apart", true, " COLLATE RTRIM", "", false, false },
    { "NOT NULL ignored", true, " NOT NULL", "", false, false },
    { "CHECK ignored", true, " CHECK(", " CHECK(1 OR ", false, false },
    { "DEFAULT wrong", true, " DEFAULT '", " DEFAULT 'X", false, false },
    { "affinity ignored", true, " INTEGER", " BLOB", false, false },
    { "text affinity ignored", true, " TEXT", " BLOB", false, false },
    { "bound excluded", false, " >= ", " > ", false, false },
    { "FAIL undoes the statement", false, " OR FAIL", " OR ABORT", false, false },
    { "IGNORE replaces", false, " OR IGNORE", " OR REPLACE", false, false },
    { "ROLLBACK only aborts", false, " OR ROLLBACK", " OR ABORT", true, false },
    { "OFFSET lost", false, " OFFSET ", " + 0 * ", false, false },
    { "DESC lost", false, " DESC", "", false, false },
    { "IS as =", false, " IS NOT ", " <> ", false, false },
    { "GLOB as LIKE", false, " GLOB ", " LIKE ", false, false },
    { "ESCAPE lost", false, " ESCAPE '\\'", "", false, false },
    { "DISTINCT lost", false, "SELECT DISTINCT ", "SELECT ", false, false },
    { "savepoint kept", false, "ROLLBACK TO", "RELEASE", true, false },
    { "write lock not taken", false, "BEGIN IMMEDIATE", "BEGIN", true, true },
    { "row lost at reopen", false, NULL, NULL, false, false },
};

int plant_count(void)
{
    return (int)(sizeof plants / sizeof plants[0]);
}

const char *plant_name(int plant)
{
    return plants[plant].name;
}

bool plant_needs_transactions(int plant)
{
    return plants[plant].transactions;
}

bool plant_needs_connections(int plant)
{
    return plants[plant].connections;
}

bool plant_loses_row_at_reopen(int plant)
{
    return plant >= 0 && plants[plant].from == NULL;
}

const char *plant_apply(int plant, bool create, const char *sql, struct arena *arena)
{
    struct text out = { 0 };
    const char *at, *hit, *result;
    const char *from;

    if (plant < 0 || plants[plant].from == NULL || plants[plant].create != create)
        return sql;
    from = plants[plant].from;
    for (at = sql; (hit = strstr(at, from)) != NULL; at = hit + strlen(from)) {
        text_add_bytes(&out, at, (size_t)(hit - at));
        text_add(&out, "%s", plants[plant].to);
    }
    text_add(&out, "%s", at);
    result = arena_printf(arena, "%s", out.data);
    text_free(&out);
    return result;
}

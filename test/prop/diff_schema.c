/* diff_schema.c - random tables.
 *
 * The same column text declares the native table and the armdb table. Tables are
 * small in columns and poor in values: what matters is that keys collide, under
 * every type, collation and direction, and that each column has neighbours that
 * differ only just. */
#include "test/prop/diff.h"

#include <stdio.h>
#include <string.h>

static const char *const names[] = {
    "k", "path", "a", "\"key col\"", "v", "value", "\"select\"", "[x y]", "b", "size",
    "`q`", "na\xc3\xafve", "c", "Mixed", "\"it's\"", "d", "seq", "rank",
};
static const struct {
    const char *type;
    enum flavour flavour;
} types[] = {
    { "", FLAVOUR_MIXED },       { "", FLAVOUR_INT },       { "", FLAVOUR_TEXT },
    { "INTEGER", FLAVOUR_INT },  { "INT", FLAVOUR_MIXED },  { "TEXT", FLAVOUR_TEXT },
    { "TEXT", FLAVOUR_TEXT },    { "TEXT", FLAVOUR_MIXED }, { "BLOB", FLAVOUR_BLOB },
    { "BLOB", FLAVOUR_MIXED },   { "REAL", FLAVOUR_REAL },  { "REAL", FLAVOUR_MIXED },
    { "NUMERIC", FLAVOUR_MIXED }, { "VARCHAR(20)", FLAVOUR_TEXT },
    { "DATETIME", FLAVOUR_MIXED }, { "DOUBLE PRECISION", FLAVOUR_REAL },
    { "BIGINT", FLAVOUR_INT },   { "DECIMAL(10,5)", FLAVOUR_MIXED },
    { "ANY", FLAVOUR_MIXED },
};
static const char *const defaults[] = {
    "0", "-5", "1.5", "'dflt'", "x'00ff'", "''", "'1'", "(1+2)", "9223372036854775807",
    "1e3", "'a'", "(lower('ABC'))", "+7", "-0.5", "TRUE", "NULL",
};
static const char *const checks[] = {
    "%s <> 5", "length(%s) < 60000", "typeof(%s) <> 'blob'", "%s IS NOT 2.0",
    "%s < 'b' OR %s > 'c'", "%s NOT GLOB 'ab*'", "%s BETWEEN -1e18 AND x'ff'",
};

const struct value *pool_pick(const struct column *column, struct rng *rng)
{
    return &column->pool[rng_below(rng, (unsigned)column->pool_len)];
}

static void fill_pool(struct column *column, struct rng *rng, struct arena *arena)
{
    int i;

    column->pool_len = 5 + (int)rng_below(rng, POOL_MAX - 4);
    for (i = 0; i < column->pool_len; i++)
        column->pool[i] = value_random(rng, arena, column->flavour);
    if (rng_chance(rng, 7)) {
        bool text = column->flavour != FLAVOUR_BLOB;
        size_t len = rng_chance(rng, 40) ? 65536 : 200 + rng_below(rng, 8000);

        column->pool[0] = value_bytes(rng, arena, text, len);
        column->pool[1] = value_bytes(rng, arena, text, len);
        column->pool[2] = column->pool[1];
        column->pool[2].len -= 1 + rng_below(rng, 3);
    }
}

static void choose_column(struct schema *s, int n, bool is_key, struct rng *rng,
                          struct arena *arena)
{
    struct column *c = &s->column[n];
    unsigned type = rng_below(rng, sizeof types / sizeof types[0]);
    bool taken;
    int i;

    do {
        c->name = names[rng_below(rng, sizeof names / sizeof names[0])];
        taken = false;
        for (i = 0; i < n; i++)
            taken |= strcmp(s->column[i].name, c->name) == 0;
    } while (taken);
    c->type = types[type].type;
    c->flavour = types[type].flavour;
    c->is_key = is_key;
    if (rng_chance(rng, 30))
        c->collation = rng_chance(rng, 60) ? "NOCASE" : "RTRIM";
    else if (rng_chance(rng, 8))
        c->collation = "BINARY";
    if (is_key) {
        c->key_desc = rng_chance(rng, 30);
        c->not_null = rng_chance(rng, 20);
        if (rng_chance(rng, 8))
            c->default_sql = defaults[rng_below(rng, 15)];
    } else {
        c->not_null = rng_chance(rng, 25);
        if (rng_chance(rng, 25))
            c->default_sql = defaults[rng_below(rng, c->not_null ? 15 : 16)];
        if (rng_chance(rng, 12)) {
            unsigned check = rng_below(rng, sizeof checks / sizeof checks[0]);
            struct text t = { 0 };
            const char *p;

            for (p = checks[check]; *p != '\0'; p++) {
                if (p[0] == '%' && p[1] == 's') {
                    text_add(&t, "%s", c->name);
                    p++;
                } else {
                    if (p[0] == '%')
                        p++;
                    text_add_bytes(&t, p, 1);
                }
            }
            c->check_sql = arena_printf(arena, "%s", t.data);
            text_free(&t);
        }
    }
    fill_pool(c, rng, arena);
}

static void add_column(struct text *t, const struct schema *s, int n, bool inline_key,
                       struct rng *rng)
{
    const struct column *c = &s->column[n];

    text_add(t, "%s%s%s%s", n > 0 ? ", " : "", c->name, c->type[0] ? " " : "", c->type);
    if (inline_key && rng_chance(rng, 50)) {
        text_add(t, " PRIMARY KEY%s", c->key_desc ? " DESC" : "");
        inline_key = false;
    }
    if (c->default_sql != NULL)
        text_add(t, " DEFAULT %s", c->default_sql);
    if (c->not_null)
        text_add(t, " NOT NULL");
    if (c->collation != NULL)
        text_add(t, " COLLATE %s", c->collation);
    if (c->check_sql != NULL)
        text_add(t, "%s CHECK(%s)", rng_chance(rng, 30) ? " CONSTRAINT ck" : "",
                 c->check_sql);
    if (inline_key)
        text_add(t, " PRIMARY KEY%s", c->key_desc ? " DESC" : "");
}

static char *columns_sql(struct schema *s, const struct settings *settings,
                         struct rng *rng, struct arena *arena)
{
    bool inline_key = s->key_count == 1 && rng_chance(rng, 60);
    struct text t = { 0 };
    char *out;
    int i;

    for (i = 0; i < s->column_count; i++)
        add_column(&t, s, i, inline_key && i == s->key[0], rng);
    if (!inline_key) {
        text_add(&t, ", PRIMARY KEY(");
        for (i = 0; i < s->key_count; i++) {
            const struct column *c = &s->column[s->key[i]];

            text_add(&t, "%s%s", i > 0 ? ", " : "", c->name);
            if (settings->key_collations && rng_chance(rng, 40)) {
                s->key_collated = true;
                text_add(&t, " COLLATE %s", rng_chance(rng, 50) ? "NOCASE" : "RTRIM");
            }
            text_add(&t, "%s", c->key_desc ? " DESC" : "");
        }
        text_add(&t, ")");
    }
    if (rng_chance(rng, 6))
        text_add(&t, ", CHECK(%s IS NOT %s)", s->column[0].name,
                 s->column[s->column_count - 1].name);
    out = arena_printf(arena, "%s", t.data);
    text_free(&t);
    return out;
}

static void choose_columns(struct schema *s, struct rng *rng, struct arena *arena)
{
    static const int key_counts[] = { 1, 1, 1, 1, 2, 2, 2, 3, 3, 4 };
    int values = (int)rng_below(rng, 5);
    int i, k = 0;

    s->key_count = key_counts[rng_below(rng, 10)];
    s->column_count = s->key_count + values;
    for (i = 0; i < s->column_count; i++) {
        int keys_left = s->key_count - k;
        bool is_key = keys_left == s->column_count - i
                      || (keys_left > 0 && rng_chance(rng, 60));

        choose_column(s, i, is_key, rng, arena);
        if (is_key)
            s->key[k++] = i;
    }
    for (i = k - 1; i > 0; i--) {
        int j = rng_chance(rng, 70) ? i : (int)rng_below(rng, (unsigned)i + 1);
        int swap = s->key[i];

        s->key[i] = s->key[j];
        s->key[j] = swap;
    }
}

/* Options that must make no difference to any answer. */
static void add_options(struct text *t, const struct schema *s, struct rng *rng)
{
    static const char *const options[] = {
        "segment_size=1048576", "cache_size=1048576", "io_engine=plain",
        "io_engine=auto", "sync=normal", "segment_size=2097152",
    };

    text_add(t, "%ssync=off", t->len > 0 ? ", " : "");
    if (rng_chance(rng, 30) && s->place != PLACE_MEMORY) {
        const char *option = options[rng_below(rng, 6)];

        if (strncmp(option, "sync", 4) != 0)
            text_add(t, ", %s", option);
    }
    if (s->place == PLACE_TEMP_PATH || s->place == PLACE_MAIN_PATH)
        text_add(t, ", path='b-store'");
}

static void choose_default_form(struct schema *s, struct rng *rng, struct arena *arena)
{
    int i;

    memset(s->column, 0, sizeof s->column);
    s->column_count = 2;
    s->key_count = 1;
    s->key[0] = 0;
    for (i = 0; i < 2; i++) {
        struct column *c = &s->column[i];

        c->name = i == 0 ? "key" : "value";
        c->type = "";
        c->is_key = i == 0;
        c->flavour = (enum flavour)rng_below(rng, FLAVOUR_COUNT);
        fill_pool(c, rng, arena);
    }
}

void schema_random(struct schema *s, const struct settings *settings, struct rng *rng,
                   struct arena *arena)
{
    bool default_form = rng_chance(rng, 6);
    struct text armdb = { 0 };
    const char *columns;

    memset(s, 0, sizeof *s);
    s->place = settings->connections > 1
                   ? (rng_chance(rng, 80) ? PLACE_MAIN : PLACE_MAIN_PATH)
                   : (enum placement)rng_below(rng, 4);
    s->wal = settings->connections > 1 || rng_chance(rng, 50);
    /* With two connections a snapshot taken by reading one table holds for the
     * other: on side 1 only if both lie in one store. */
    s->other_is_armdb = settings->connections > 1 || rng_chance(rng, 50);
    if (default_form) {
        choose_default_form(s, rng, arena);
        columns = "key PRIMARY KEY, value";
    } else {
        choose_columns(s, rng, arena);
        columns = columns_sql(s, settings, rng, arena);
        text_add(&armdb, "%s", columns);
    }
    s->create[0] = arena_printf(arena, "CREATE TABLE t(%s) WITHOUT ROWID", columns);
    s->create_other[0] = "CREATE TABLE o(k PRIMARY KEY, w) WITHOUT ROWID";
    if (settings->extension == NULL) {
        s->create[1] = plant_apply(settings->plant, true, s->create[0], arena);
        s->create_other[1] = s->create_other[0];
    } else {
        const char *where = s->place == PLACE_TEMP_PATH ? "temp." : "";

        add_options(&armdb, s, rng);
        s->create[1] = arena_printf(arena, "CREATE VIRTUAL TABLE %st USING armdb(%s)",
                                    where, armdb.data);
        s->create_other[1] = s->create_other[0];
        if (s->other_is_armdb)
            s->create_other[1] = arena_printf(
                arena,
                "CREATE VIRTUAL TABLE %so USING armdb(k PRIMARY KEY, w, sync=off%s)",
                where,
                s->place == PLACE_TEMP_PATH || s->place == PLACE_MAIN_PATH
                    ? ", path='b-store'"
                    : "");
    }
    text_free(&armdb);
}

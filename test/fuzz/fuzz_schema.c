/* fuzz_schema.c - any arguments of CREATE VIRTUAL TABLE, any stored definitions.
 *
 * Input: lines. The first is the table's name, the others are the arguments, cut at NUL
 * bytes. What is accepted is declared to SQLite; its canonical text is read back as the
 * store would, means the same, and gives the same text again; a rename leaves it the
 * same. The whole input is also read as a stored definition. All memory is given back,
 * and SQLite's is in proportion. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ext/schema.h"
#include "test/fuzz/harness.h"

const struct fuzz_setup fuzz_setup = {"schema", 3000, 400, 0, 0};

enum { ARGS_MAX = 12, SQLITE_BYTES_MAX = 4 << 20 };

static sqlite3 *db;

static void say_nothing(void *arg, int code, const char *text)
{
    (void)arg;
    (void)code;
    (void)text;
}

static void is_told(int rc, char *err)
{
    FUZZ_CHECK(rc == SQLITE_OK || rc == SQLITE_ERROR);
    FUZZ_CHECK(rc == SQLITE_OK ? err == NULL : err != NULL && err[0] != '\0');
    sqlite3_free(err);
}

static void must_agree(const struct schema *a, const struct schema *b)
{
    char *difference = NULL;

    if (schema_agrees(a, b, &difference) != SQLITE_OK) {
        (void)fprintf(stderr, "'%s' and '%s': %s\n", a->text, b->text, difference);
        FUZZ_CHECK(!"they agree");
    }
    FUZZ_CHECK(difference == NULL);
}

static void declare(const struct schema *schema)
{
    int rc = sqlite3_exec(db, schema->declaration, NULL, NULL, NULL);

    if (rc != SQLITE_OK)
        (void)fprintf(stderr, "%s: %s\n", schema->declaration, sqlite3_errmsg(db));
    FUZZ_CHECK(rc == SQLITE_OK);
    /* What was declared is one table. */
    FUZZ_CHECK(sqlite3_exec(db, "ROLLBACK; BEGIN", NULL, NULL, NULL) == SQLITE_OK);
}

static void look_at(const struct schema *schema)
{
    FUZZ_CHECK(schema->column_count >= 1 && schema->key.part_count >= 1);
    for (uint32_t i = 0; i < schema->column_count; i++) {
        const struct schema_column *column = &schema->columns[i];

        FUZZ_CHECK((column->key_index < 0) != (column->row_index < 0));
        FUZZ_CHECK(column->key_index < (int32_t)schema->key.part_count);
        FUZZ_CHECK(column->row_index < (int32_t)schema->row_count);
        FUZZ_CHECK(column->name != NULL && column->type != NULL);
    }
    for (uint32_t i = 0; i < schema->key.part_count; i++)
        FUZZ_CHECK(schema->key.parts[i].column < schema->column_count);
}

static void accepted(struct schema *schema, const char *name)
{
    struct schema *stored;
    char *err = NULL;
    int rc;

    look_at(schema);
    declare(schema);
    rc = schema_parse_stored(name, schema->text, strlen(schema->text), &stored, &err);
    if (rc != SQLITE_OK)
        (void)fprintf(stderr, "stored '%s': %s\n", schema->text, err);
    FUZZ_CHECK(rc == SQLITE_OK);
    is_told(rc, err);
    FUZZ_CHECK(strcmp(stored->text, schema->text) == 0);
    must_agree(schema, stored);
    must_agree(stored, schema);
    err = NULL;
    rc = schema_rename(schema, "renamed \"\x01", &err);
    is_told(rc, err);
    must_agree(schema, stored);
    schema_destroy(stored);
}

static void parse(const char *text, size_t n)
{
    char *lines = malloc(n + 1);
    const char *argv[ARGS_MAX];
    struct table_options options;
    struct schema *schema;
    char *err = NULL;
    const char *name = lines;
    char *next = lines;
    int argc = 0;
    int rc;

    memcpy(lines, text, n);
    lines[n] = '\0';
    while (argc < ARGS_MAX && (next = strchr(next, '\n')) != NULL) {
        *next++ = '\0';
        argv[argc++] = next;
    }
    options_init(&options);
    rc = schema_parse(name, argc, argv, &options, &schema, &err);
    is_told(rc, err);
    FUZZ_CHECK((rc == SQLITE_OK) == (schema != NULL));
    if (rc == SQLITE_OK) {
        FUZZ_CHECK(options.store.shards >= 1 && options.store.shards <= ARMDB_SHARDS_MAX);
        FUZZ_CHECK(options.store.compact_at >= 1 && options.store.compact_at <= 99);
        accepted(schema, name);
    }
    schema_destroy(schema);
    options_fini(&options);
    free(lines);
}

static void parse_stored(const uint8_t *data, size_t size)
{
    uint8_t *text = fuzz_copy(data, size);
    struct schema *schema;
    char *err = NULL;
    int rc = schema_parse_stored("t", text, size, &schema, &err);

    is_told(rc, err);
    FUZZ_CHECK((rc == SQLITE_OK) == (schema != NULL));
    if (rc == SQLITE_OK)
        accepted(schema, "t");
    schema_destroy(schema);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sqlite3_int64 before;

    if (db == NULL) {
        (void)sqlite3_config(SQLITE_CONFIG_LOG, say_nothing, NULL);
        FUZZ_CHECK(sqlite3_open(":memory:", &db) == SQLITE_OK);
        FUZZ_CHECK(sqlite3_exec(db, "BEGIN", NULL, NULL, NULL) == SQLITE_OK);
    }
    before = sqlite3_memory_used();
    (void)sqlite3_memory_highwater(1);
    parse((const char *)data, size);
    parse_stored(data, size);
    FUZZ_CHECK(sqlite3_memory_highwater(0) - before < SQLITE_BYTES_MAX);
    return 0;
}

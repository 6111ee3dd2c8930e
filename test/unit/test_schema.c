/* test_schema.c - declarations as SQLite reads them, and rows under their rules.
 *
 * A small module "probe" declares its table from the arguments, so that what SQLite
 * makes of the generated declaration is seen too, and its xUpdate runs rows through
 * schema_row_load() and schema_row_check(); what it would store goes to a native table
 * or into an error message. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ext/errmap.h"
#include "ext/schema.h"
#include "ext/token.h"

enum { COLUMNS_MAX = 20 };

struct probe {
    sqlite3_vtab base;
    sqlite3 *db;
    struct schema *schema;
};

static sqlite3 *db;
static char *last_row; /* what the probe was last given to store, as SQL literals */

/* ---- The probe module ------------------------------------------------------ */

static int probe_connect(sqlite3 *connection, void *aux, int argc,
                         const char *const *argv, sqlite3_vtab **vtab, char **err)
{
    struct probe *probe = sqlite3_malloc(sizeof *probe);
    struct table_options options;
    int rc;

    (void)aux;
    assert_non_null(probe);
    memset(probe, 0, sizeof *probe);
    options_init(&options);
    rc = schema_parse(argv[2], argc - 3, argv + 3, &options, &probe->schema, err);
    options_fini(&options);
    if (rc == SQLITE_OK)
        rc = sqlite3_declare_vtab(connection, probe->schema->declaration);
    if (rc != SQLITE_OK) {
        schema_destroy(probe->schema);
        sqlite3_free(probe);
        return rc;
    }
    (void)sqlite3_vtab_config(connection, SQLITE_VTAB_CONSTRAINT_SUPPORT, 1);
    probe->db = connection;
    *vtab = &probe->base;
    return SQLITE_OK;
}

static int probe_disconnect(sqlite3_vtab *vtab)
{
    struct probe *probe = (struct probe *)vtab;

    schema_destroy(probe->schema);
    sqlite3_free(probe);
    return SQLITE_OK;
}

static int probe_best_index(sqlite3_vtab *vtab, sqlite3_index_info *info)
{
    (void)vtab;
    (void)info;
    return SQLITE_OK;
}

static void append_literal(sqlite3_str *text, const struct sql_value *value)
{
    switch (value->type) {
    case SQLITE_INTEGER:
        sqlite3_str_appendf(text, "%lld", (sqlite3_int64)value->i);
        break;
    case SQLITE_FLOAT:
        sqlite3_str_appendf(text, "%!.15g", value->r);
        break;
    case SQLITE_TEXT:
        sqlite3_str_appendf(text, "'%.*s'", (int)value->n, (const char *)value->z);
        break;
    case SQLITE_BLOB:
        sqlite3_str_appendf(text, "blob of %d", (int)value->n);
        break;
    default:
        sqlite3_str_appendall(text, "NULL");
        break;
    }
}

static int probe_update(sqlite3_vtab *vtab, int argc, sqlite3_value **argv,
                        sqlite3_int64 *rowid)
{
    struct probe *probe = (struct probe *)vtab;
    bool replace = sqlite3_vtab_on_conflict(probe->db) == SQLITE_REPLACE;
    enum schema_row_kind kind = replace ? SCHEMA_ROW_INSERT_REPLACE : SCHEMA_ROW_INSERT;
    struct sql_value row[COLUMNS_MAX];
    char *text = NULL;
    sqlite3_str *stored;
    int rc;

    (void)rowid;
    assert_true(argc > 1);
    rc = schema_row_load(probe->schema, argv + 2, kind, row, &text);
    if (rc == SQLITE_OK)
        rc = schema_row_check(probe->schema, kind, row, &text);
    if (rc != SQLITE_OK)
        return errmap_set(vtab, rc, text);
    stored = sqlite3_str_new(NULL);
    for (uint32_t c = 0; c < probe->schema->column_count; c++) {
        if (c > 0)
            sqlite3_str_appendall(stored, ", ");
        append_literal(stored, &row[c]);
    }
    sqlite3_free(last_row);
    last_row = sqlite3_str_finish(stored);
    return SQLITE_OK;
}

static const sqlite3_module probe_module = {
    .iVersion = 1,
    .xCreate = probe_connect,
    .xConnect = probe_connect,
    .xBestIndex = probe_best_index,
    .xDisconnect = probe_disconnect,
    .xDestroy = probe_disconnect,
    .xUpdate = probe_update,
};

static int open_database(void **state)
{
    (void)state;
    if (sqlite3_open(":memory:", &db) != SQLITE_OK)
        return -1;
    return sqlite3_create_module(db, "armdb", &probe_module, NULL);
}

static int close_database(void **state)
{
    (void)state;
    sqlite3_free(last_row);
    last_row = NULL;
    return sqlite3_close(db) == SQLITE_OK ? 0 : -1;
}

/* Runs SQL; the error text must be `expected` (NULL: none). */
static void run(const char *sql, const char *expected)
{
    char *err = NULL;
    int rc = sqlite3_exec(db, sql, NULL, NULL, &err);

    if (expected == NULL && rc != SQLITE_OK)
        fail_msg("%s: %s", sql, err);
    if (expected != NULL && (err == NULL || strcmp(err, expected) != 0))
        fail_msg("%s: '%s' instead of '%s'", sql, err == NULL ? "OK" : err, expected);
    sqlite3_free(err);
}

/* The rows of a query: columns separated by '|', rows by a line feed. */
static char *query(const char *sql)
{
    sqlite3_str *text = sqlite3_str_new(NULL);
    sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    while (sqlite3_step(stmt) == SQLITE_ROW) {
        for (int c = 0; c < sqlite3_column_count(stmt); c++)
            sqlite3_str_appendf(text, "%s%s", c > 0 ? "|" : "",
                                sqlite3_column_text(stmt, c));
        sqlite3_str_appendall(text, "\n");
    }
    sqlite3_finalize(stmt);
    return sqlite3_str_finish(text);
}

static void assert_query(const char *sql, const char *expected)
{
    char *text = query(sql);

    assert_string_equal(text == NULL ? "" : text, expected);
    sqlite3_free(text);
}

/* ---- Reading declarations --------------------------------------------------- */

static struct schema *parse_text(const char *text)
{
    struct schema *schema = NULL;
    char *err = NULL;

    if (schema_parse_stored("t", text, strlen(text), &schema, &err) != SQLITE_OK)
        fail_msg("%s: %s", text, err);
    return schema;
}

/* Creates a table from arguments that must be refused with this text. */
static void refuse_table(const char *arguments, const char *expected)
{
    char *sql = sqlite3_mprintf("CREATE VIRTUAL TABLE bad USING armdb(%s)", arguments);

    run(sql, expected);
    sqlite3_free(sql);
}

static void composite_key_is_read_in_key_order(void **state)
{
    struct schema *schema =
        parse_text("\"odd name\" TEXT, b VARCHAR(10) COLLATE NOCASE NOT NULL, c, d REAL "
                   "DEFAULT 1.5, "
                   "e INT, PRIMARY KEY(b DESC, c COLLATE RTRIM, \"odd name\", b)");

    (void)state;
    assert_int_equal(schema->column_count, 5);
    assert_string_equal(schema->columns[0].name, "odd name");
    assert_int_equal(schema->columns[0].affinity, AFFINITY_TEXT);
    assert_string_equal(schema->columns[1].type, "VARCHAR(10)");
    assert_string_equal(schema->columns[1].collation, "NOCASE");
    assert_true(schema->columns[1].not_null);
    assert_string_equal(schema->columns[2].type, "");
    assert_true(schema->columns[2].not_null);
    assert_false(schema->columns[3].not_null);
    assert_string_equal(schema->columns[3].dflt, "1.5");
    assert_int_equal(schema->key.part_count, 3);
    assert_int_equal(schema->key.parts[0].column, 1);
    assert_true(schema->key.parts[0].desc);
    assert_int_equal(schema->key.parts[0].collation, COLLATION_NOCASE);
    assert_int_equal(schema->key.parts[1].column, 2);
    assert_int_equal(schema->key.parts[1].collation, COLLATION_RTRIM);
    assert_int_equal(schema->key.parts[2].column, 0);
    assert_int_equal(schema->columns[0].key_index, 2);
    assert_int_equal(schema->row_count, 2);
    assert_int_equal(schema->row_columns[0], 3);
    assert_int_equal(schema->columns[4].row_index, 1);
    assert_int_equal(schema->column_key, 8);
    schema_destroy(schema);
}

static void single_key_column_is_the_declared_primary_key(void **state)
{
    (void)state;
    run("CREATE VIRTUAL TABLE t USING armdb(a TEXT PRIMARY KEY, b INTEGER NOT NULL, c)",
        NULL);
    assert_query(
        "SELECT name, type, \"notnull\", pk, hidden FROM pragma_table_xinfo('t')",
        "a|TEXT|1|1|0\nb|INTEGER|1|0|0\nc||0|0|0\nt||0|0|1\n_size|INTEGER|0|0|1\n"
        "_seq|INTEGER|0|0|1\n");
}

static void composite_key_hides_an_encoded_primary_key(void **state)
{
    (void)state;
    run("CREATE VIRTUAL TABLE t USING armdb(a, b, c, PRIMARY KEY(b, a))", NULL);
    assert_query("SELECT name, type, pk, hidden FROM pragma_table_xinfo('t')",
                 "a||0|0\nb||0|0\nc||0|0\nt||0|1\n_size|INTEGER|0|1\n_seq|INTEGER|0|1\n"
                 "_key|BLOB|1|1\n");
}

static void no_columns_mean_key_and_value(void **state)
{
    (void)state;
    run("CREATE VIRTUAL TABLE t USING armdb", NULL);
    run("CREATE VIRTUAL TABLE u USING armdb()", NULL);
    run("CREATE VIRTUAL TABLE v USING armdb(path=':memory:', sync=off)", NULL);
    assert_query("SELECT name, pk FROM pragma_table_info('t')", "key|1\nvalue|0\n");
    assert_query("SELECT name, pk FROM pragma_table_info('u')", "key|1\nvalue|0\n");
    assert_query("SELECT name, pk FROM pragma_table_info('v')", "key|1\nvalue|0\n");
}

static void strange_names_and_types_survive_the_declaration(void **state)
{
    (void)state;
    run("CREATE VIRTUAL TABLE \"my \"\"t\"\" %s\" USING armdb(\"a \"\"b\" \"ty \"\"pe\" "
        "PRIMARY KEY, [select] 'it''s', x UNSIGNED /* ) */ BIG INT)",
        NULL);
    assert_query("SELECT name, type, hidden FROM pragma_table_xinfo('my \"t\" %s')",
                 "a \"b|ty \"pe|0\nselect|it's|0\nx|UNSIGNED /* ) */ BIG INT|0\n"
                 "my \"t\" %s||1\n_size|INTEGER|1\n_seq|INTEGER|1\n");
}

static void column_named_like_the_table_is_no_conflict(void **state)
{
    (void)state;
    run("CREATE VIRTUAL TABLE kv USING armdb(KV PRIMARY KEY, b)", NULL);
    assert_query("SELECT name FROM pragma_table_xinfo('kv') WHERE hidden",
                 "_command\n_size\n_seq\n");
    run("CREATE VIRTUAL TABLE _size USING armdb(a PRIMARY KEY)", NULL);
}

static void key_of_another_collation_than_its_column_is_declared_so(void **state)
{
    char *with_sorter;
    char *without;

    (void)state;
    run("CREATE VIRTUAL TABLE t USING armdb(a TEXT COLLATE NOCASE, b, "
        "PRIMARY KEY(a COLLATE BINARY))",
        NULL);
    run("CREATE VIRTUAL TABLE u USING armdb(a TEXT COLLATE NOCASE PRIMARY KEY)", NULL);
    /* Unique under BINARY says nothing about NOCASE: the sorter must stay. */
    with_sorter = query("EXPLAIN QUERY PLAN SELECT DISTINCT a FROM t");
    without = query("EXPLAIN QUERY PLAN SELECT DISTINCT a FROM u");
    assert_non_null(strstr(with_sorter, "TEMP B-TREE"));
    assert_null(strstr(without, "TEMP B-TREE"));
    sqlite3_free(with_sorter);
    sqlite3_free(without);
}

static void what_a_table_cannot_keep_is_refused(void **state)
{
    (void)state;
    refuse_table("a, b",
                 "there is no PRIMARY KEY: say which column or columns are the key, "
                 "such as (name TEXT PRIMARY KEY, ...)");
    refuse_table(
        "a PRIMARY KEY, b UNIQUE",
        "UNIQUE is supported for the PRIMARY KEY only: make the columns the key, or "
        "keep a second table whose key they are");
    refuse_table("a PRIMARY KEY, b REFERENCES x(y)",
                 "REFERENCES and FOREIGN KEY are not supported: leave them out");
    refuse_table("a PRIMARY KEY, b AS (a + 1)",
                 "column b: generated columns are not supported; compute the value in a "
                 "view or in the INSERT");
    refuse_table("a INTEGER PRIMARY KEY AUTOINCREMENT",
                 "column definitions: AUTOINCREMENT not allowed on WITHOUT ROWID tables");
    refuse_table("a PRIMARY KEY COLLATE klingon",
                 "column definitions: no such collation sequence: klingon");
    refuse_table(
        "a PRIMARY KEY ON CONFLICT REPLACE",
        "ON CONFLICT is not supported in definitions: write INSERT OR REPLACE, OR "
        "IGNORE, ...");
    refuse_table("a PRIMARY KEY, _seq", "column name _seq is reserved: every armdb table "
                                        "has it hidden");
    refuse_table("a PRIMARY KEY, b TEXT HIDDEN",
                 "column b: the word HIDDEN is not allowed in a type");
    refuse_table("a PRIMARY KEY, index i(a)", "INDEX is not supported by this version");
    refuse_table("a PRIMARY KEY, a", "column definitions: duplicate column name: a");
    refuse_table("a PRIMARY KEY, b CHECK(nosuch(b))",
                 "column definitions: no such function: nosuch");
    refuse_table("a PRIMARY KEY, b DEFAULT (nosuch())",
                 "DEFAULT: no such function: nosuch");
    refuse_table("a PRIMARY KEY b c d, =",
                 "column definitions: near \"b\": syntax error");
    assert_query("SELECT count(*) FROM sqlite_schema", "0\n");
}

static void text_that_reaches_out_of_the_definitions_is_refused(void **state)
{
    static const struct {
        const char *text;
        const char *expected;
    } cases[] = {
        {"a PRIMARY KEY); ATTACH 'x' AS y", "a ')' has no '('"},
        {"a PRIMARY KEY) WITHOUT ROWID --", "a ')' has no '('"},
        {"a PRIMARY KEY, b DEFAULT ';' , c;", "';' is not allowed in column definitions"},
        {"a PRIMARY KEY /* open", "a quote or comment does not end: /* open"},
        {"a PRIMARY KEY -- open", "a quote or comment does not end: -- open"},
        {"a PRIMARY KEY, 'open", "a quote or comment does not end: 'open"},
        {"a PRIMARY KEY, b CHECK((b)", "a '(' has no ')'"},
        {"a PRIMARY KEY, b DEFAULT (SELECT 1)",
         "column definitions: near \"SELECT\": syntax error"},
        {"a PRIMARY KEY, b CHECK(b IN (SELECT name FROM sqlite_master))",
         "column definitions: subqueries prohibited in CHECK constraints"},
        {"a PRIMARY KEY, b CHECK(b > ?1)",
         "column definitions: parameters prohibited in CHECK constraints"},
        {"", "the stored column definitions are no text"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct schema *schema = NULL;
        char *err = NULL;

        assert_int_equal(
            schema_parse_stored("t", cases[i].text, strlen(cases[i].text), &schema, &err),
            SQLITE_ERROR);
        assert_null(schema);
        assert_string_equal(err, cases[i].expected);
        sqlite3_free(err);
    }
}

/* ---- Options ---------------------------------------------------------------- */

static void options_are_told_from_columns(void **state)
{
    static const struct {
        const char *arg;
        bool is_option;
    } cases[] = {
        {"a TEXT DEFAULT 'x=1'", false},
        {"a CHECK(a=1)", false},
        {"path='x'", true},
        {" sync /* c */ = off", true},
        {"\"path\"='x'", false},
        {"a=1", true},
        {"=", false},
        {"", false},
        {"shards=4", true},
        {"[shards]=4", false},
        {"a", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct table_options options;
        bool is_option = !cases[i].is_option;
        char *err = NULL;

        options_init(&options);
        (void)options_parse(&options, cases[i].arg, &is_option, &err);
        if (is_option != cases[i].is_option)
            fail_msg("%s", cases[i].arg);
        sqlite3_free(err);
        options_fini(&options);
    }
}

static void parse_options(struct table_options *options, const char *arg)
{
    bool is_option;
    char *err = NULL;

    if (options_parse(options, arg, &is_option, &err) != SQLITE_OK)
        fail_msg("%s: %s", arg, err);
    assert_true(is_option);
}

static void option_values_are_read(void **state)
{
    struct table_options options;

    (void)state;
    options_init(&options);
    assert_int_equal(options.sync, ARMDB_SYNC_FULL);
    assert_false(options.sync_given);
    parse_options(&options, "path = 'it''s here'");
    parse_options(&options, "table=\"my \"\"t\"");
    parse_options(&options, "SYNC=Normal");
    parse_options(&options, "shards=16");
    parse_options(&options, "shard_prefix_bits= 64 ");
    parse_options(&options, "segment_size=64MiB");
    parse_options(&options, "cache_size='2 G'");
    parse_options(&options, "io=direct");
    parse_options(&options, "io_engine=plain");
    parse_options(&options, "compact_at=.25");
    parse_options(&options, "compact=OFF");
    parse_options(&options, "compact_rate='64K'");
    assert_string_equal(options.path, "it's here");
    assert_string_equal(options.table, "my \"t");
    assert_int_equal(options.sync, ARMDB_SYNC_NORMAL);
    assert_true(options.sync_given);
    assert_int_equal(options.store.shards, 16);
    assert_int_equal(options.store.shard_prefix_bits, 64);
    assert_int_equal(options.store.segment_size, 64 << 20);
    assert_true(options.store.cache_size == UINT64_C(2) << 30);
    assert_true(options.store.io_direct);
    assert_int_equal(options.store.io_engine, ARMDB_IO_PLAIN);
    assert_int_equal(options.store.compact_at, 25);
    assert_true(options.store.compact_off);
    assert_int_equal(options.store.compact_rate, 64 << 10);
    assert_int_equal(options.store.given, 0x1ff);
    options_fini(&options);
    options_init(&options);
    parse_options(&options, "path=../plain path/x ");
    assert_string_equal(options.path, "../plain path/x");
    parse_options(&options, "compact_at=30%");
    assert_int_equal(options.store.compact_at, 30);
    options_fini(&options);
}

static void wrong_options_are_named_with_what_is_allowed(void **state)
{
    (void)state;
    refuse_table("colour=red", "unknown option: colour (options are path, table, sync, "
                               "shards, shard_prefix_bits, segment_size, cache_size, io, "
                               "io_engine, compact, compact_at, compact_rate)");
    refuse_table("sync=maybe",
                 "option sync: 'maybe' is not allowed, it takes full, normal or off");
    refuse_table("shards=0",
                 "option shards: '0' is not allowed, it takes a number from 1 to 64");
    refuse_table("shards=65",
                 "option shards: '65' is not allowed, it takes a number from 1 to 64");
    refuse_table("shards=18446744073709551617",
                 "option shards: '18446744073709551617' is "
                 "not allowed, it takes a number from 1 to "
                 "64");
    refuse_table("segment_size='1K'",
                 "option segment_size: '1K' is not allowed, it takes a "
                 "size from 1M to 512G, such as '64M'");
    refuse_table("cache_size='99999999999T'",
                 "option cache_size: '99999999999T' is not "
                 "allowed, it takes a size from 1M up, such as "
                 "'256M'");
    refuse_table("compact_at=1.5", "option compact_at: '1.5' is not allowed, it takes a "
                                   "share from 0.01 to 0.99, such as 0.3");
    refuse_table("compact_at=0.0", "option compact_at: '0.0' is not allowed, it takes a "
                                   "share from 0.01 to 0.99, such as 0.3");
    refuse_table("compact=maybe",
                 "option compact: 'maybe' is not allowed, it takes on or off");
    refuse_table("compact_rate='63K'",
                 "option compact_rate: '63K' is not allowed, it takes bytes per second "
                 "from 64K up, such as '64M', or 0 for any");
    refuse_table("path=''",
                 "option path: '' is not allowed, it takes a folder of 1 to 4096 "
                 "bytes without control characters, or ':memory:'");
    refuse_table("sync=off, sync=full", "option sync is given twice");
    refuse_table("sync='off' x",
                 "option sync: 'off' is not allowed, it takes full, normal or off");
}

/* ---- Rows ------------------------------------------------------------------- */

static void values_take_the_affinity_of_their_columns(void **state)
{
    (void)state;
    run("CREATE VIRTUAL TABLE t USING armdb(a INTEGER PRIMARY KEY, b TEXT, c REAL, d, "
        "e NUMERIC)",
        NULL);
    run("INSERT INTO t VALUES('12', 12, 12, '12', '1e3')", NULL);
    assert_string_equal(last_row, "12, '12', 12.0, '12', 1000");
    run("INSERT INTO t VALUES('x', x'00ff', NULL, 1.0, 2.0)", NULL);
    assert_string_equal(last_row, "'x', blob of 2, NULL, 1.0, 2");
}

static void defaults_replace_null_on_insert(void **state)
{
    (void)state;
    run("CREATE VIRTUAL TABLE t USING armdb(a PRIMARY KEY DEFAULT 'k', b INTEGER DEFAULT "
        "'007', c TEXT DEFAULT -5, d DEFAULT word, e DEFAULT \"quo\"\"ted\", f DEFAULT "
        "NULL, "
        "g DEFAULT x'0102', h DEFAULT true, i DEFAULT (1 + length('=')), j DEFAULT + "
        "1.5, "
        "k DEFAULT current_user)",
        NULL);
    run("INSERT INTO t(b) VALUES(3)", NULL);
    assert_string_equal(last_row,
                        "'k', 3, '-5', 'word', 'quo\"ted', NULL, blob of 2, 1, 2, "
                        "1.5, 'current_user'");
    run("INSERT INTO t(a) VALUES(1)", NULL);
    assert_string_equal(last_row,
                        "1, 7, '-5', 'word', 'quo\"ted', NULL, blob of 2, 1, 2, "
                        "1.5, 'current_user'");
}

static void defaults_that_change_are_evaluated_for_each_row(void **state)
{
    char *first;

    (void)state;
    run("CREATE VIRTUAL TABLE t USING armdb(a PRIMARY KEY, b DEFAULT (random()), c "
        "DEFAULT "
        "CURRENT_TIMESTAMP, d TEXT DEFAULT (hex(randomblob(8))))",
        NULL);
    run("INSERT INTO t(a) VALUES(1)", NULL);
    first = sqlite3_mprintf("%s", last_row);
    assert_non_null(strstr(first, ":"));
    run("INSERT INTO t(a) VALUES(1)", NULL);
    assert_string_not_equal(first, last_row);
    run("INSERT INTO t VALUES(1, 2, 3, 4)", NULL);
    assert_string_equal(last_row, "1, 2, 3, '4'");
    sqlite3_free(first);
}

static void not_null_fails_in_the_words_of_sqlite(void **state)
{
    (void)state;
    run("CREATE VIRTUAL TABLE t USING armdb(a PRIMARY KEY, b NOT NULL, c NOT NULL "
        "DEFAULT 5,"
        " CHECK(b > 0))",
        NULL);
    run("INSERT INTO t VALUES(NULL, 1, 2)", "NOT NULL constraint failed: t.a");
    assert_int_equal(sqlite3_extended_errcode(db), SQLITE_CONSTRAINT_NOTNULL);
    run("INSERT INTO t(a) VALUES(1)", "NOT NULL constraint failed: t.b");
    run("INSERT OR REPLACE INTO t VALUES(1, 2, NULL)", NULL);
    assert_string_equal(last_row, "1, 2, 5");
    run("INSERT OR REPLACE INTO t VALUES(1, NULL, NULL)",
        "NOT NULL constraint failed: t.b");
    run("INSERT OR IGNORE INTO t VALUES(NULL, NULL, NULL)", NULL);
    assert_string_equal(last_row, "1, 2, 5");
    /* NOT NULL before CHECK */
    run("INSERT INTO t VALUES(NULL, -1, 2)", "NOT NULL constraint failed: t.a");
}

static void checks_fail_in_the_words_of_sqlite(void **state)
{
    (void)state;
    run("CREATE VIRTUAL TABLE t USING armdb(a INTEGER PRIMARY KEY, b CHECK(b>a), c TEXT "
        "CONSTRAINT short CHECK(length(t.c)  < 4), CONSTRAINT kind CHECK(typeof(a) = "
        "'integer'))",
        NULL);
    run("CREATE TABLE n(a INTEGER PRIMARY KEY, b CHECK(b>a), c TEXT CONSTRAINT short "
        "CHECK(length(n.c)  < 4), CONSTRAINT kind CHECK(typeof(a) = 'integer')) "
        "WITHOUT ROWID",
        NULL);
    for (int i = 0; i < 2; i++) {
        const char *table = i == 0 ? "n" : "t";
        char *sql = sqlite3_mprintf("INSERT INTO %s VALUES(2, 1, 'abc')", table);

        run(sql, "CHECK constraint failed: b>a");
        assert_int_equal(sqlite3_extended_errcode(db), SQLITE_CONSTRAINT_CHECK);
        sqlite3_free(sql);
        sql = sqlite3_mprintf("INSERT INTO %s VALUES(1, 2, 12345)", table);
        run(sql, "CHECK constraint failed: short");
        sqlite3_free(sql);
        sql = sqlite3_mprintf("INSERT INTO %s VALUES('x', 'y', 1)", table);
        run(sql, "CHECK constraint failed: kind");
        sqlite3_free(sql);
        sql = sqlite3_mprintf("INSERT INTO %s VALUES('1', 2, NULL)", table);
        run(sql, NULL);
        sqlite3_free(sql);
    }
    assert_string_equal(last_row, "1, 2, NULL");
    for (int i = 0; i < 100; i++) /* the scratch table is empty again each time */
        run("INSERT INTO t VALUES(1, 2, 'abc')", NULL);
}

static void unique_message_names_the_key_columns(void **state)
{
    struct schema *schema = parse_text("a, b, c, PRIMARY KEY(c, a)");
    char *text = schema_unique_message(schema);

    (void)state;
    assert_string_equal(text, "UNIQUE constraint failed: t.c, t.a");
    sqlite3_free(text);
    schema_destroy(schema);
}

static void rename_changes_messages_and_is_refused_where_a_check_names_the_table(
    void **state)
{
    struct schema *schema = parse_text("a PRIMARY KEY, b CHECK(b > 0)");
    struct sql_value row[2] = {{SQLITE_INTEGER, 0, {.i = 1}},
                               {SQLITE_INTEGER, 0, {.i = 0}}};
    char *err = NULL;

    (void)state;
    assert_int_equal(schema_rename(schema, "new name", &err), SQLITE_OK);
    assert_int_equal(schema_row_check(schema, SCHEMA_ROW_INSERT, row, &err),
                     SQLITE_CONSTRAINT_CHECK);
    sqlite3_free(err);
    sql_value_set_null(&row[0]);
    assert_int_equal(schema_row_check(schema, SCHEMA_ROW_UPDATE, row, &err),
                     SQLITE_CONSTRAINT_NOTNULL);
    assert_string_equal(err, "NOT NULL constraint failed: new name.a");
    sqlite3_free(err);
    schema_destroy(schema);
    schema = parse_text("a PRIMARY KEY, b CHECK(t.b > 0)");
    assert_int_equal(schema_rename(schema, "u", &err), SQLITE_ERROR);
    assert_string_equal(err, "column definitions: no such column: t.b");
    assert_string_equal(schema->table_name, "t");
    sqlite3_free(err);
    schema_destroy(schema);
}

/* ---- Comparing -------------------------------------------------------------- */

static void declarations_that_mean_the_same_agree(void **state)
{
    struct schema *a = parse_text("A text PRIMARY KEY, b  integer DEFAULT 'x' NOT NULL,"
                                  "CHECK(b>0)");
    struct schema *b = parse_text("a TEXT, B INTEGER NOT NULL CHECK ( B > 0 /* c */ ) "
                                  "DEFAULT 'x', PRIMARY KEY(a)");
    char *difference = NULL;

    (void)state;
    assert_int_equal(schema_agrees(a, b, &difference), SQLITE_OK);
    assert_null(difference);
    schema_destroy(a);
    schema_destroy(b);
}

static void the_first_difference_is_named(void **state)
{
    static const struct {
        const char *declared;
        const char *expected;
    } cases[] = {
        {"z TEXT PRIMARY KEY, b INT", "column 1 is named z, in the store it is a"},
        {"a PRIMARY KEY, b INT", "column a has type none, in the store it has TEXT"},
        {"a TEXT PRIMARY KEY COLLATE NOCASE, b INT",
         "column a has collation NOCASE, in the store it has BINARY"},
        {"a TEXT PRIMARY KEY, b INT NOT NULL",
         "column b is NOT NULL, in the store it is not"},
        {"a TEXT PRIMARY KEY, b INT DEFAULT 1",
         "column b has DEFAULT 1, in the store it has none"},
        {"a TEXT PRIMARY KEY, b INT, c", "there are 3 columns, in the store there are 2"},
        {"a TEXT, b INT, PRIMARY KEY(a DESC)",
         "the key is (a DESC), in the store it is (a)"},
        {"a TEXT PRIMARY KEY, b INT CHECK(b > 1)",
         "the CHECKs are ( b > 1 )\n, in the store they are \n"},
    };
    struct schema *stored = parse_text("a TEXT PRIMARY KEY, b INT");

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct schema *declared = parse_text(cases[i].declared);
        char *difference = NULL;

        assert_int_equal(schema_agrees(declared, stored, &difference), SQLITE_ERROR);
        assert_string_equal(difference, cases[i].expected);
        sqlite3_free(difference);
        schema_destroy(declared);
    }
    schema_destroy(stored);
}

static void stored_text_reads_back_as_the_same_table(void **state)
{
    const char *const argv[] = {"a TEXT", "b DEFAULT (1", "sync=off"};
    const char *const good[] = {"a TEXT COLLATE NOCASE",
                                "b DEFAULT (max(1,2)) CHECK(b<>'--')", "sync=off",
                                "PRIMARY KEY(a, b DESC)"};
    struct table_options options;
    struct schema *schema = NULL;
    struct schema *again;
    char *err = NULL;

    (void)state;
    options_init(&options);
    assert_int_equal(schema_parse("t", 3, argv, &options, &schema, &err), SQLITE_ERROR);
    sqlite3_free(err);
    options_fini(&options);
    options_init(&options);
    assert_int_equal(schema_parse("t", 4, good, &options, &schema, &err), SQLITE_OK);
    again = parse_text(schema->text);
    assert_int_equal(schema_agrees(schema, again, &err), SQLITE_OK);
    assert_string_equal(schema->declaration, again->declaration);
    schema_destroy(schema);
    schema_destroy(again);
    options_fini(&options);
}

/* ---- The rest --------------------------------------------------------------- */

static void engine_codes_become_sqlite_codes(void **state)
{
    struct armdb_error err = {ARMDB_BUSY, 0, "held by someone"};
    sqlite3_vtab vtab = {0};

    (void)state;
    assert_int_equal(errmap_to_sqlite(ARMDB_OK), SQLITE_OK);
    assert_int_equal(errmap_to_sqlite(ARMDB_EXISTS), SQLITE_CONSTRAINT_PRIMARYKEY);
    assert_int_equal(errmap_to_sqlite(ARMDB_CORRUPT), SQLITE_CORRUPT_VTAB);
    assert_int_equal(errmap_to_sqlite(ARMDB_BUSY_SNAPSHOT), SQLITE_BUSY_SNAPSHOT);
    assert_int_equal(errmap_to_sqlite((enum armdb_rc) - 99), SQLITE_INTERNAL);
    assert_int_equal(errmap_vtab(&vtab, ARMDB_BUSY, &err), SQLITE_BUSY);
    assert_string_equal(vtab.zErrMsg, "held by someone");
    assert_int_equal(errmap_vtab(&vtab, ARMDB_READONLY, &err), SQLITE_READONLY);
    assert_string_equal(vtab.zErrMsg, "armdb: the store is read-only");
    assert_int_equal(errmap_vtab(&vtab, ARMDB_NOMEM, NULL), SQLITE_NOMEM);
    assert_null(vtab.zErrMsg);
}

static void tokens_end_where_those_of_sqlite_end(void **state)
{
    const char *text =
        "a1$ 'it''s' \"q\"\"\" [br]ack `t` x'01' 1.5e-3 .5 <= /* c */ \xc3\xa4 "
        "-- end\n z";
    static const char *const expected[] = {"a1$", "'it''s'",  "\"q\"\"\"", "[br]", "ack",
                                           "`t`", "x'01'",    "1.5e-3",    ".5",   "<",
                                           "=",   "\xc3\xa4", "z"};
    struct token token;

    (void)state;
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        token_next(&text, &token);
        assert_int_equal(token.n, strlen(expected[i]));
        assert_memory_equal(token.z, expected[i], token.n);
    }
    token_next(&text, &token);
    assert_int_equal(token.kind, TOKEN_END);
}

/* ---- Out of memory ---------------------------------------------------------- */

static sqlite3_mem_methods real_memory;
static int allocations_left = -1; /* -1: all succeed */

static bool allocation_fails(void)
{
    if (allocations_left < 0)
        return false;
    if (allocations_left == 0)
        return true;
    allocations_left--;
    return false;
}

static void *failing_malloc(int n)
{
    return allocation_fails() ? NULL : real_memory.xMalloc(n);
}

static void *failing_realloc(void *p, int n)
{
    return allocation_fails() ? NULL : real_memory.xRealloc(p, n);
}

static int install_failing_memory(void)
{
    sqlite3_mem_methods methods;

    if (sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_memory) != SQLITE_OK)
        return -1;
    methods = real_memory;
    methods.xMalloc = failing_malloc;
    methods.xRealloc = failing_realloc;
    return sqlite3_config(SQLITE_CONFIG_MALLOC, &methods);
}

/* One life of a schema: read, a row loaded and checked, compared, renamed. */
static int use_schema(const struct sql_value *given)
{
    const char *const argv[] = {"a TEXT", "b NOT NULL DEFAULT (1 + 2) CHECK(b > 0)",
                                "c DEFAULT 'x'", "PRIMARY KEY(a, c)", "path='p'"};
    struct table_options options;
    struct schema *schema = NULL;
    struct schema *again = NULL;
    struct sql_value row[3];
    char *err = NULL;
    int rc;

    options_init(&options);
    rc = schema_parse("t", 5, argv, &options, &schema, &err);
    sqlite3_free(err);
    err = NULL;
    if (rc != SQLITE_OK)
        goto out;
    memcpy(row, given, sizeof row);
    rc = schema_row_check(schema, SCHEMA_ROW_INSERT_REPLACE, row, &err);
    sqlite3_free(err);
    err = NULL;
    if (rc != SQLITE_OK)
        goto out;
    assert_int_equal(row[1].i, 3);
    rc = schema_parse_stored("t", schema->text, strlen(schema->text), &again, &err);
    sqlite3_free(err);
    err = NULL;
    if (rc != SQLITE_OK)
        goto out;
    rc = schema_rename(schema, "u", &err);
    sqlite3_free(err);
out:
    schema_destroy(schema);
    schema_destroy(again);
    options_fini(&options);
    return rc;
}

static void every_failed_allocation_is_reported_and_nothing_leaks(void **state)
{
    struct sql_value row[3];
    sqlite3_int64 used;
    int rc = SQLITE_NOMEM;

    (void)state;
    row[0].type = SQLITE_TEXT;
    row[0].n = 1;
    row[0].z = "k";
    sql_value_set_null(&row[1]);
    row[2] = row[0];
    assert_int_equal(use_schema(row), SQLITE_OK);
    used = sqlite3_memory_used();
    for (int n = 0; rc != SQLITE_OK; n++) {
        assert_true(n < 100000);
        allocations_left = n;
        rc = use_schema(row);
        allocations_left = -1;
        assert_true(rc == SQLITE_OK || rc == SQLITE_NOMEM);
        assert_true(sqlite3_memory_used() == used);
    }
}

#define WITH_DATABASE(test) \
    cmocka_unit_test_setup_teardown(test, open_database, close_database)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(composite_key_is_read_in_key_order),
        WITH_DATABASE(single_key_column_is_the_declared_primary_key),
        WITH_DATABASE(composite_key_hides_an_encoded_primary_key),
        WITH_DATABASE(no_columns_mean_key_and_value),
        WITH_DATABASE(strange_names_and_types_survive_the_declaration),
        WITH_DATABASE(column_named_like_the_table_is_no_conflict),
        WITH_DATABASE(key_of_another_collation_than_its_column_is_declared_so),
        WITH_DATABASE(what_a_table_cannot_keep_is_refused),
        cmocka_unit_test(text_that_reaches_out_of_the_definitions_is_refused),
        cmocka_unit_test(options_are_told_from_columns),
        cmocka_unit_test(option_values_are_read),
        WITH_DATABASE(wrong_options_are_named_with_what_is_allowed),
        WITH_DATABASE(values_take_the_affinity_of_their_columns),
        WITH_DATABASE(defaults_replace_null_on_insert),
        WITH_DATABASE(defaults_that_change_are_evaluated_for_each_row),
        WITH_DATABASE(not_null_fails_in_the_words_of_sqlite),
        WITH_DATABASE(checks_fail_in_the_words_of_sqlite),
        cmocka_unit_test(unique_message_names_the_key_columns),
        cmocka_unit_test(
            rename_changes_messages_and_is_refused_where_a_check_names_the_table),
        cmocka_unit_test(declarations_that_mean_the_same_agree),
        cmocka_unit_test(the_first_difference_is_named),
        cmocka_unit_test(stored_text_reads_back_as_the_same_table),
        cmocka_unit_test(engine_codes_become_sqlite_codes),
        cmocka_unit_test(tokens_end_where_those_of_sqlite_end),
        cmocka_unit_test(every_failed_allocation_is_reported_and_nothing_leaks),
    };

    if (install_failing_memory() != SQLITE_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}

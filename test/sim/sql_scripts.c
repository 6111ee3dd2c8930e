/* sql_scripts.c - statements for fail_sql.c, by what they are about. */
#include "test/sim/sql_scripts.h"

#include <stddef.h>

static const char three_columns[] = "k TEXT PRIMARY KEY, a INTEGER, b";

static const char *const nothing[] = {NULL};

/* Rows, transactions, savepoints, names; the CREATE is among what fails. */
static const char *const rows[] = {
    "INSERT INTO t VALUES('a', 1, x'00')",
    "INSERT INTO t VALUES('b', 2, 'text'), ('c', 3, zeroblob(5000))",
    "UPDATE t SET a = a + 10 WHERE k = 'a'",
    "SELECT count(*), sum(a) FROM t WHERE k >= 'a' AND k < 'z'",
    "BEGIN",
    "INSERT INTO t VALUES('d', 4, NULL)",
    "SAVEPOINT s",
    "INSERT INTO t VALUES('e', 5, NULL)",
    "UPDATE t SET b = zeroblob(9000) WHERE k = 'c'",
    "ROLLBACK TO s",
    "UPDATE t SET a = -a WHERE k > 'b'",
    "COMMIT",
    "DELETE FROM t WHERE k = 'b'",
    "SELECT length(b) FROM t WHERE k IN ('a', 'c', 'x') ORDER BY k DESC",
    "INSERT OR REPLACE INTO t SELECT 'r' || k, a, b FROM t",
    "INSERT OR IGNORE INTO t VALUES('a', 9, 9), ('f', 6, NULL)",
    "SELECT k FROM t WHERE k GLOB 'r*' AND a <> 4",
    "BEGIN",
    "DELETE FROM t WHERE k GLOB 'r*'",
    "ROLLBACK",
    "ALTER TABLE t RENAME TO u",
    "INSERT INTO u VALUES('g', 7, 'g')",
    "ALTER TABLE u RENAME TO t",
    "INSERT INTO t VALUES('h', 8, NULL)", /* the store hears of the name with it */
    "@SELECT * FROM armdb_stat('t')",
    "@SELECT armdb_count('t'), armdb_flush('t')",
    NULL,
};

static const char *const drop[] = {"DROP TABLE t", NULL};

/* Everything that is done with all rows at once. */
static const char *const whole_setup[] = {
    "INSERT INTO t VALUES('a', 1, 'one'), ('b', 2, zeroblob(3000)), ('c', 3, NULL)",
    "@SELECT armdb_backup('t', '/earlier')\nCREATE TABLE earlier AS SELECT * FROM t",
    "INSERT INTO t VALUES('d', 4, 'four'), ('e', 5, zeroblob(9000))",
    NULL,
};
static const char *const whole[] = {
    "@SELECT armdb_backup('t', '/copy')",
    "@SELECT armdb_restore('t', '/earlier')\n"
    "DELETE FROM t; INSERT INTO t SELECT * FROM earlier",
    "INSERT INTO t VALUES('f', 6, 'six')",
    "@SELECT armdb_compact('t')",
    "@SELECT * FROM armdb_verify('t')",
    "BEGIN",
    "@SELECT armdb_clear('t')\nDELETE FROM t",
    "INSERT INTO t VALUES('g', 7, 'seven')",
    "SAVEPOINT s",
    "@INSERT INTO t(t) VALUES('clear')\nDELETE FROM t",
    "@SELECT armdb_restore('t', '/earlier')\n"
    "DELETE FROM t; INSERT INTO t SELECT * FROM earlier",
    "ROLLBACK TO s",
    "COMMIT",
    "@INSERT INTO t(t) VALUES('resume')",
    "@INSERT INTO t(t) VALUES('pause')",
    "@SELECT armdb_clear('t')\nDELETE FROM t",
    "INSERT INTO t VALUES('h', 8, 'eight')",
    "@SELECT * FROM armdb_list('t', '', '')",
    NULL,
};

/* One row in one step, inside a transaction, where failing leaves nothing. */
static const char *const step_setup[] = {"INSERT INTO t VALUES('a', 1, 'one')", NULL};
static const char *const step[] = {
    "BEGIN",
    "@SELECT armdb_incr('t', 'a', 5, 'a')\n"
    "INSERT INTO t VALUES('a', 5, NULL) ON CONFLICT(k) DO UPDATE SET a = a + 5",
    "@SELECT armdb_incr('t', 'n', 2, 'a')\n"
    "INSERT INTO t VALUES('n', 2, NULL) ON CONFLICT(k) DO UPDATE SET a = a + 2",
    "COMMIT",
    "BEGIN",
    "@SELECT armdb_cas('t', 'a', 6, 7, 'a')\nUPDATE t SET a = 7 WHERE k = 'a' AND a = 6",
    "@SELECT armdb_cas('t', 'm', NULL, 1, 'a')\nINSERT OR IGNORE INTO t VALUES('m', 1, "
    "NULL)",
    "@SELECT armdb_cas('t', 'n', 2, NULL, 'a')\nDELETE FROM t WHERE k = 'n' AND a = 2",
    "@SELECT armdb_cas('t', 'a', 'not', 9, 'a')",
    "COMMIT",
    NULL,
};

/* Declarations with everything, and every kind of plan. */
static const char many_columns[] =
    "a TEXT, b, c INTEGER NOT NULL, d TEXT COLLATE NOCASE CHECK(d <> 'no'), "
    "e REAL DEFAULT (1 + 1), PRIMARY KEY(a, b DESC)";
static const char *const plans_setup[] = {
    "INSERT INTO t VALUES('5', 1, 1, 'one', 1), ('05', 2, 2, 'two', 2), "
    "('5.0', 3, 3, 'three', 3), ('ab', 'x', 4, 'four', 4), ('ac', x'01', 5, 'five', 5), "
    "('ab', 'y', 6, 'six', 6), ('b', 2.5, 7, zeroblob(6000), 7)",
    NULL,
};
static const char *const plans[] = {
    "SELECT a, b, c, d, e FROM t WHERE a = 'ab' AND b = 'x'",
    "SELECT a, b, c FROM t WHERE a = 'ab' ORDER BY a, b DESC",
    "SELECT a, b, c FROM t WHERE a = 'ab' ORDER BY a DESC, b",
    "SELECT count(*) FROM t",
    "SELECT a FROM t WHERE a >= 'a' AND a < 'b' ORDER BY a",
    "SELECT a, b FROM t WHERE a = 'ab' AND b > 'x'",
    "SELECT a FROM t WHERE a IN ('5', 'ab', 'zz', 'b') ORDER BY a DESC",
    "SELECT a, c FROM t WHERE a IN ('ab', 'b') AND b IN ('x', 2.5)",
    "SELECT c FROM t WHERE a = 5 ORDER BY c",
    "SELECT c FROM t WHERE a = 5 AND b < 3 ORDER BY b",
    "SELECT a FROM t WHERE a GLOB 'a*' ORDER BY a",
    "SELECT a FROM t WHERE a LIKE 'a%' ORDER BY a",
    "SELECT a FROM t WHERE a = 'b' OR a = '05' ORDER BY a",
    "SELECT a, d FROM t WHERE d = 'FOUR'",
    "SELECT a, b FROM t ORDER BY a, b DESC LIMIT 2 OFFSET 3",
    "SELECT a FROM t WHERE a = NULL",
    "SELECT x.c, y.c FROM t x JOIN t y ON y.a = x.a AND y.b = x.b WHERE x.c < 4 "
    "ORDER BY 1",
    "SELECT a, sum(c) FROM t GROUP BY a ORDER BY a",
    "@SELECT key FROM armdb_list('t', '', '/')",
    "@SELECT a FROM t('a')",
    "INSERT INTO t(a, b, c) VALUES('new', 1, 1)",
    "INSERT INTO t(a, b, c) VALUES('null', 1, NULL)",
    "INSERT INTO t(a, b, c, d) VALUES('check', 1, 1, 'no')",
    "INSERT INTO t VALUES('ab', 'x', 1, 'twice', 1)",
    "INSERT OR REPLACE INTO t VALUES('ab', 'x', 9, 'nine', 9)",
    "UPDATE t SET c = c + 100 WHERE a = 'ab'",
    "UPDATE t SET a = 'moved', b = 5 WHERE a = 'ac'",
    "UPDATE OR REPLACE t SET b = 'y' WHERE a = 'ab' AND b = 'x'",
    "DELETE FROM t WHERE a IN ('5', 'b')",
    "DELETE FROM t WHERE c > 105",
    NULL,
};

/* The first statements of a connection. */
static const char *const opening[] = {
    "SELECT count(*), sum(a) FROM t",
    "INSERT INTO t VALUES('n', 1, NULL)",
    "SELECT k FROM t ORDER BY k DESC LIMIT 1",
    NULL,
};
static const char *const open_setup[] = {
    "INSERT INTO t VALUES('a', 1, 'one'), ('b', 2, zeroblob(30000)), ('c', 3, NULL)",
    "BEGIN",
    "INSERT INTO t VALUES('d', 4, zeroblob(90000))",
    "UPDATE t SET a = 5",
    "COMMIT",
    "DELETE FROM t WHERE k = 'b'",
    NULL,
};

const struct sql_script sql_scripts[] = {
    {"rows", three_columns, nothing, rows, false, false},
    {"drop", three_columns, nothing, drop, false, true},
    {"whole", three_columns, whole_setup, whole, false, false},
    {"step", three_columns, step_setup, step, false, false},
    {"plans", many_columns, plans_setup, plans, false, false},
    {"open", three_columns, open_setup, opening, true, false},
};
const int sql_script_count = sizeof sql_scripts / sizeof sql_scripts[0];

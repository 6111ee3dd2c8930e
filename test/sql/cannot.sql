-- What README.md says SQLite cannot do on virtual tables, each with its way round.
.mode list
CREATE VIRTUAL TABLE t USING armdb(k TEXT PRIMARY KEY, n INTEGER, b BLOB);
INSERT INTO t VALUES ('a', 1, x'00112233'), ('b', 2, NULL), ('c', 3, NULL);

-- UPSERT
INSERT INTO t(k, n) VALUES ('a', 1) ON CONFLICT(k) DO UPDATE SET n = n + 1;
BEGIN;
INSERT OR IGNORE INTO t(k, n) VALUES ('a', 0), ('d', 0);
UPDATE t SET n = n + 1 WHERE k IN ('a', 'd');
COMMIT;
SELECT k, n FROM t WHERE k IN ('a', 'd');
INSERT OR REPLACE INTO t VALUES ('d', 9, NULL);
SELECT n FROM t WHERE k = 'd';

-- RETURNING
UPDATE t SET n = 5 WHERE k = 'a' RETURNING n;
DELETE FROM t WHERE k = 'd' RETURNING n;
BEGIN;
SELECT n FROM t WHERE k = 'd';
DELETE FROM t WHERE k = 'd';
COMMIT;
INSERT INTO t(k, n) VALUES ('e', 7) RETURNING k, n;

-- Triggers, and views that are kept in the file; TEMP views may
CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END;
CREATE VIEW kept AS SELECT k FROM t;
SELECT * FROM kept;
DROP VIEW kept;
CREATE TEMP VIEW passing AS SELECT k FROM t WHERE n > 2;
SELECT * FROM passing;

-- An index; a table ordered by the other columns
CREATE INDEX i ON t(n);
CREATE VIRTUAL TABLE by_n USING armdb(n INTEGER, k TEXT, PRIMARY KEY(n DESC, k));
INSERT INTO by_n SELECT n, k FROM t;
SELECT k FROM by_n WHERE n = 3;

-- ALTER TABLE; RENAME may
ALTER TABLE t ADD COLUMN extra;
ALTER TABLE t RENAME COLUMN n TO m;
CREATE VIRTUAL TABLE wide USING armdb(k TEXT PRIMARY KEY, n INTEGER, b BLOB, extra);
INSERT INTO wide SELECT k, n, b, n * 2 FROM t;
DROP TABLE by_n;
ALTER TABLE wide RENAME TO by_n;
SELECT k, extra FROM by_n WHERE k = 'c';

-- A part of a blob
SELECT hex(substr(b, 2, 2)) FROM t WHERE k = 'a';

-- An explicit NULL where there is a DEFAULT
CREATE VIRTUAL TABLE d USING armdb(k INTEGER PRIMARY KEY, v DEFAULT 'none');
INSERT INTO d VALUES (1, NULL);
INSERT INTO d(k) VALUES (2);
UPDATE d SET v = NULL WHERE k = 1;
SELECT k, v, v IS NULL FROM d;

-- last_insert_rowid() stays as it was
CREATE TABLE native(x);
INSERT INTO native VALUES (1), (2), (3);
INSERT INTO t(k) VALUES ('z');
SELECT last_insert_rowid();

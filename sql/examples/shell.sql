-- armdb from the sqlite3 shell:
--
--     sqlite3 settings.db < sql/examples/shell.sql
--
-- The programs beside this file do the same from C, Python and Node, and print the
-- same lines; sql/examples/shell_ask.sql has the questions.
.bail on
.load ./armdb_vtab
.mode list

CREATE VIRTUAL TABLE settings USING armdb(name TEXT PRIMARY KEY, value);

BEGIN;
INSERT INTO settings VALUES ('app:host', 'localhost'), ('app:port', 8080);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
INSERT INTO settings SELECT printf('user:%03d', i), i * i FROM n;
COMMIT;
SELECT 'created: ' || count(*) || ' rows' FROM settings;

.read sql/examples/shell_ask.sql

-- A tour of armdb in the stock shell. From the top folder of the project:
--
--     make
--     sqlite3 tour.db < sql/tour.sql        creates, fills, changes, asks
--     sqlite3 tour.db < sql/tour_again.sql  another shell asks the same again
--
-- (`make demo` does this in a folder of its own.) The rows lie in the folder
-- tour.db-armdb, beside the database file.
.bail on
.mode column
.echo on
.load ./armdb_vtab

-- A table of every file below /usr/share.
CREATE VIRTUAL TABLE files USING armdb(
    path_name TEXT PRIMARY KEY, mode INTEGER, mtime INTEGER, size INTEGER);
INSERT INTO files
    SELECT name, mode, mtime, coalesce(length(data), 0) FROM fsdir('/usr/share');

-- An ordinary table in the same database, to be joined with it below.
CREATE TABLE notes(path_name TEXT PRIMARY KEY, note TEXT) WITHOUT ROWID;
INSERT INTO notes VALUES
    ('/usr/share/common-licenses/BSD', 'short'),
    ('/usr/share/common-licenses/GPL-3', 'long'),
    ('/usr/share/common-licenses/none', 'no such file');
-- How many rows an armdb table has, the planner is told; of others it must be told.
ANALYZE notes;

-- Change one row by its key, remove many by a prefix, in one transaction.
BEGIN;
UPDATE files SET mtime = 0, size = size + 1000000
    WHERE path_name = '/usr/share/common-licenses/GPL-3';
DELETE FROM files WHERE path_name GLOB '/usr/share/doc/lib*';
COMMIT;
SELECT changes() > 0 AS rows_went;

.read sql/tour_ask.sql

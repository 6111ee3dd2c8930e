-- The questions of sql/examples/shell.sql, to be asked again by another shell:
--
--     sqlite3 -cmd '.load ./armdb_vtab' settings.db < sql/examples/shell_ask.sql

-- By its key: one probe of the hash map.
SELECT 'point: ' || name || ' = ' || value FROM settings WHERE name = 'app:port';
SELECT 'absent: ' || count(*) || ' rows' FROM settings WHERE name = 'app:none';

-- By a prefix and by a range: from the ordered index.
SELECT 'prefix: ' || count(*) || ' rows, sum ' || sum(value) FROM settings
    WHERE name GLOB 'user:00*';
SELECT 'range: ' || count(*) || ' rows, sum ' || sum(value) FROM settings
    WHERE name BETWEEN 'user:010' AND 'user:019';

-- The last two, read backwards.
SELECT 'last: ' || group_concat(name, ' ') FROM (
    SELECT name FROM settings ORDER BY name DESC LIMIT 2);

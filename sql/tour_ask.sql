-- The questions of the tour, read by tour.sql and tour_again.sql. Each shows its
-- query plan first: what the planner asked armdb for.
.eqp on

-- Point lookup: one probe of the hash map.
SELECT path_name, lsmode(mode) AS mode, size, mtime FROM files
    WHERE path_name = '/usr/share/common-licenses/GPL-3';

-- Prefix: a range of the ordered index.
SELECT path_name, size FROM files
    WHERE path_name GLOB '/usr/share/common-licenses/GPL*' AND size > 0;

-- Range, counted: no value is read.
SELECT count(*) AS files_c FROM files
    WHERE path_name >= '/usr/share/doc/c' AND path_name < '/usr/share/doc/d';

-- The last ones of a prefix: the index is read backwards, nothing is sorted.
SELECT path_name FROM files
    WHERE path_name GLOB '/usr/share/common-licenses/*'
    ORDER BY path_name DESC LIMIT 3;

-- What lies directly in a folder, and how much below: a seek for each folder in it.
SELECT name, is_prefix, count FROM armdb_list('files', '/usr/share/', '/')
    WHERE name GLOB 'd*' LIMIT 4;

-- Join with an ordinary table: a point lookup per row of it.
SELECT note, files.path_name, size FROM notes JOIN files USING (path_name)
    ORDER BY note;

-- Aggregate over everything.
SELECT CASE WHEN lsmode(mode) GLOB 'd*' THEN 'folders'
            WHEN lsmode(mode) GLOB 'l*' THEN 'links' ELSE 'files' END AS kind,
       count(*) AS how_many, max(size) AS largest
    FROM files GROUP BY kind ORDER BY kind;

-- What is gone stays gone.
SELECT count(*) AS still_there FROM files WHERE path_name GLOB '/usr/share/doc/lib*';

-- Views over armdb_stat and armdb_segments, for every armdb table of the connection:
--
--   .load ./armdb_vtab
--   .read sql/monitor.sql          (or run it as a script from any program)
--   SELECT * FROM armdb_health;
--
-- They are TEMP views: nothing is written to any database, and they go with the
-- connection. Reading them disturbs no counter; for a rate, read twice and subtract.
-- Tables of one store show that store's numbers, each of them the same.

-- One row for each table, with what the other views need.
CREATE TEMP VIEW IF NOT EXISTS armdb_overview AS
SELECT tbl AS table_name,
    max(value) FILTER (WHERE name = 'path') AS path,
    max(value) FILTER (WHERE name = 'keys') AS keys,
    max(value) FILTER (WHERE name = 'uptime') / 1000.0 AS uptime_s,
    max(value) FILTER (WHERE name = 'read_only') AS read_only,
    max(value) FILTER (WHERE name = 'wounded') AS wounded,
    max(value) FILTER (WHERE name = 'damaged') AS damaged,
    max(value) FILTER (WHERE name = 'bytes_cut_at_open') AS bytes_cut_at_open,
    max(value) FILTER (WHERE name = 'sessions') AS sessions,
    max(value) FILTER (WHERE name = 'open_transactions') AS open_transactions,
    max(value) FILTER (WHERE name = 'snapshots') AS snapshots,
    max(value) FILTER (WHERE name = 'snapshot_oldest_age') / 1000.0 AS snapshot_age_s,
    max(value) FILTER (WHERE name = 'commits_visible')
        - max(value) FILTER (WHERE name = 'snapshot_oldest') AS snapshot_commits_behind,
    max(value) FILTER (WHERE name = 'commits') AS commits,
    max(value) FILTER (WHERE name = 'rollbacks') AS rollbacks,
    max(value) FILTER (WHERE name = 'busy') AS busy,
    max(value) FILTER (WHERE name = 'busy_snapshot') AS busy_snapshot,
    max(value) FILTER (WHERE name = 'segments') AS segments,
    max(value) FILTER (WHERE name = 'bytes_log') AS bytes_log,
    max(value) FILTER (WHERE name = 'bytes_live') AS bytes_live,
    max(value) FILTER (WHERE name = 'bytes_dead') AS bytes_dead,
    max(value) FILTER (WHERE name = 'bytes_overhead') AS bytes_overhead,
    max(value) FILTER (WHERE name = 'fragmentation') AS dead_share,
    max(value) FILTER (WHERE name = 'compactions_failed') AS compactions_failed,
    max(value) FILTER (WHERE name = 'cache_hits') AS cache_hits,
    max(value) FILTER (WHERE name = 'cache_misses') AS cache_misses,
    max(value) FILTER (WHERE name = 'latency_commit_count') AS commits_timed,
    max(value) FILTER (WHERE name = 'latency_commit_p99') / 1e6 AS commit_p99_ms
FROM armdb_stat GROUP BY tbl;

-- What needs somebody's attention: every check of every table, the worst first.
--   SELECT * FROM armdb_health WHERE state <> 'ok';
CREATE TEMP VIEW IF NOT EXISTS armdb_health AS
WITH seen AS MATERIALIZED (SELECT * FROM armdb_overview)
SELECT table_name, item, state, detail, advice FROM (
    SELECT table_name, 'writes' AS item,
        CASE WHEN wounded THEN 'bad' WHEN read_only THEN 'note' ELSE 'ok' END AS state,
        CASE WHEN wounded THEN 'a write failed; the store has been read-only since'
            WHEN read_only THEN 'the store is open for reading only'
            ELSE 'the store can be written' END AS detail,
        CASE WHEN wounded THEN 'look at the disk, close every connection, open again'
            END AS advice
    FROM seen
    UNION ALL
    SELECT table_name, 'damage', iif(damaged, 'bad', 'ok'),
        iif(damaged, 'rows may be missing', 'none was met when the store was opened'),
        iif(damaged, 'armdb_verify says where; restore the file from a backup', NULL)
    FROM seen
    UNION ALL
    SELECT table_name, 'recovery', iif(bytes_cut_at_open > 0, 'note', 'ok'),
        bytes_cut_at_open || ' bytes of unfinished commits were removed when opening',
        NULL
    FROM seen
    UNION ALL
    SELECT table_name, 'space',
        iif(dead_share > 0.5 AND bytes_dead > 1048576, 'warn', 'ok'),
        format('%.0f %% of %.1f MiB of rows are dead', dead_share * 100,
            (bytes_live + bytes_dead) / 1048576.0),
        iif(dead_share > 0.5 AND bytes_dead > 1048576,
            format('SELECT armdb_compact(%Q)', table_name), NULL)
    FROM seen
    UNION ALL
    SELECT table_name, 'compaction', iif(compactions_failed > 0, 'warn', 'ok'),
        compactions_failed || ' compactions were given up',
        iif(compactions_failed > 0, format('SELECT armdb_compact(%Q) says why', table_name),
            NULL)
    FROM seen
    UNION ALL
    SELECT table_name, 'snapshots', iif(snapshot_age_s > 60, 'warn', 'ok'),
        format('%d held, the oldest for %.1f s, %d commits behind', snapshots,
            snapshot_age_s, snapshot_commits_behind),
        iif(snapshot_age_s > 60,
            'a statement that was not finished, or BEGIN without COMMIT, keeps old rows',
            NULL)
    FROM seen
    UNION ALL
    SELECT table_name, 'conflicts',
        iif(commits > 100 AND (busy + busy_snapshot) * 10 > commits, 'warn', 'ok'),
        format('%d times busy in %d commits', busy + busy_snapshot, commits),
        iif(commits > 100 AND (busy + busy_snapshot) * 10 > commits,
            'writers meet on the same rows: shorter transactions, or busy_timeout', NULL)
    FROM seen
    UNION ALL
    SELECT table_name, 'cache',
        iif(cache_misses > 1000 AND cache_hits < cache_misses * 4, 'warn', 'ok'),
        format('%d hits, %d misses', cache_hits, cache_misses),
        iif(cache_misses > 1000 AND cache_hits < cache_misses * 4,
            'more cache_size, if these rows are read often', NULL)
    FROM seen
    UNION ALL
    SELECT table_name, 'commits',
        iif(commits_timed > 100 AND commit_p99_ms > 100, 'warn', 'ok'),
        format('99 %% of %d took at most %.3f ms', commits_timed, commit_p99_ms),
        iif(commits_timed > 100 AND commit_p99_ms > 100,
            'SELECT * FROM armdb_latency: are syncs that slow? Then it is the disk', NULL)
    FROM seen)
ORDER BY CASE state WHEN 'bad' THEN 0 WHEN 'warn' THEN 1 WHEN 'note' THEN 2 ELSE 3 END,
    table_name;

-- Where the bytes of the logs are.
CREATE TEMP VIEW IF NOT EXISTS armdb_space AS
SELECT table_name, path, keys, segments, bytes_log, bytes_live, bytes_dead,
    bytes_overhead, round(dead_share, 4) AS dead_share
FROM armdb_overview;

-- The same by what the log files are doing.
CREATE TEMP VIEW IF NOT EXISTS armdb_segment_space AS
SELECT tbl AS table_name, state, kind, count(*) AS segments, sum(bytes) AS bytes,
    sum(file_bytes) AS file_bytes, sum(live_bytes) AS live_bytes,
    sum(dead_bytes) AS dead_bytes, max(age) AS oldest_s
FROM armdb_segments GROUP BY tbl, state, kind;

-- How long things take, in microseconds.
CREATE TEMP VIEW IF NOT EXISTS armdb_latency AS
SELECT table_name, what, timed,
    round(total / 1e3 / nullif(timed, 0), 2) AS mean_us,
    p50 / 1e3 AS p50_us, p90 / 1e3 AS p90_us, p99 / 1e3 AS p99_us,
    p999 / 1e3 AS p999_us, longest / 1e3 AS max_us
FROM (
    SELECT tbl AS table_name,
        substr(name, 9, instr(substr(name, 9), '_') - 1) AS what, -- behind 'latency_'
        max(value) FILTER (WHERE name GLOB '*_count') AS timed,
        max(value) FILTER (WHERE name GLOB '*_sum') AS total,
        max(value) FILTER (WHERE name GLOB '*_p50') AS p50,
        max(value) FILTER (WHERE name GLOB '*_p90') AS p90,
        max(value) FILTER (WHERE name GLOB '*_p99') AS p99,
        max(value) FILTER (WHERE name GLOB '*_p999') AS p999,
        max(value) FILTER (WHERE name GLOB '*_max') AS longest
    FROM armdb_stat WHERE name GLOB 'latency_*' GROUP BY tbl, 2);

-- What it costs to keep what was written.
CREATE TEMP VIEW IF NOT EXISTS armdb_write_amplification AS
SELECT tbl AS table_name,
    max(value) FILTER (WHERE name = 'bytes_user') AS bytes_user,
    max(value) FILTER (WHERE name = 'bytes_appended') AS bytes_appended,
    max(value) FILTER (WHERE name = 'compact_bytes_moved') AS bytes_moved,
    max(value) FILTER (WHERE name = 'bytes_zeroed') AS bytes_zeroed,
    max(value) FILTER (WHERE name = 'bytes_written') AS bytes_written,
    round(max(value) FILTER (WHERE name = 'write_amplification'), 3) AS amplification,
    max(value) FILTER (WHERE name = 'latency_commit_count') AS commits,
    max(value) FILTER (WHERE name = 'syncs') AS syncs,
    round(max(value) FILTER (WHERE name = 'commits_per_sync'), 3) AS commits_per_sync
FROM armdb_stat GROUP BY tbl;

-- What was asked for, since opening and on average.
CREATE TEMP VIEW IF NOT EXISTS armdb_operations AS
SELECT s.tbl AS table_name, s.name AS operation, s.value AS total,
    round(s.value * 1e3 / nullif(u.value, 0), 1) AS per_second
FROM armdb_stat AS s JOIN (SELECT tbl, value FROM armdb_stat WHERE name = 'uptime') AS u
    ON u.tbl = s.tbl
WHERE s.name IN ('gets', 'seeks', 'scans', 'scan_steps', 'puts', 'inserts', 'deletes',
    'values_read', 'commits', 'rollbacks', 'busy', 'busy_snapshot', 'stale_reads');

-- The page cache.
CREATE TEMP VIEW IF NOT EXISTS armdb_cache AS
SELECT tbl AS table_name,
    max(value) FILTER (WHERE name = 'cache_budget') AS budget,
    max(value) FILTER (WHERE name = 'cache_used') AS used,
    max(value) FILTER (WHERE name = 'cache_dirty') AS dirty,
    max(value) FILTER (WHERE name = 'cache_hits') AS hits,
    max(value) FILTER (WHERE name = 'cache_misses') AS misses,
    max(value) FILTER (WHERE name = 'cache_evictions') AS evictions,
    round(max(value) FILTER (WHERE name = 'cache_hits') * 1.0 /
        nullif(max(value) FILTER (WHERE name = 'cache_hits')
            + max(value) FILTER (WHERE name = 'cache_misses'), 0), 4) AS hit_share
FROM armdb_stat GROUP BY tbl;

-- The memory of the whole process, by part.
CREATE TEMP VIEW IF NOT EXISTS armdb_memory AS
SELECT substr(name, 9) AS part, max(value) AS bytes
FROM armdb_stat WHERE name GLOB 'process_*' GROUP BY name;

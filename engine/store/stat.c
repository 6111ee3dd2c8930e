/* stat.c - the statistics, read without changing any of them.
 *
 * Counters of operations live in the sessions (one writer each, no shared line) and are
 * added up here under the lock of the list of sessions; what closed sessions counted is
 * kept in the store. Everything else is a relaxed atomic, or is read under its own lock
 * for a moment. Nothing is ever set back: who wants a rate takes the difference of two
 * readings, and any number of readers can do so without knowing of each other.
 *
 * Durations are histograms (engine/base/histogram.h). Every commit and every sync is
 * timed; a look-up by key takes a few hundred nanoseconds, of which two looks at the
 * clock would be a good part, so one in SAMPLE_EVERY is timed (a prime number: a program
 * that works in rounds of 8 or 100 does not always show the same one). */
#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/plant.h"
#include "engine/store/internal.h"

struct report {
    void (*visit)(void *arg, const struct armdb_stat *row);
    void *arg;
};

static void number(const struct report *report, const char *name, uint64_t value,
                   const char *unit)
{
    struct armdb_stat row = {name, value, NULL, unit, 0};

    report->visit(report->arg, &row);
}

static void text(const struct report *report, const char *name, const char *value)
{
    struct armdb_stat row = {name, 0, value, "", 0};

    report->visit(report->arg, &row);
}

/* a / b, 0 when there is no b. */
static void ratio(const struct report *report, const char *name, uint64_t a, uint64_t b)
{
    struct armdb_stat row = {name, 0, NULL, "ratio", 0};

    if (b != 0) {
        row.value = a / b;
        row.ratio = (double)a / (double)b;
    }
    report->visit(report->arg, &row);
}

static uint64_t get(_Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* ---- Operations ---- */

struct operations {
#define FIELD(name, unit) uint64_t name;
    SESSION_COUNTERS(FIELD)
#undef FIELD
    uint64_t sessions, transactions, snapshots, oldest_snapshot, oldest_since, visible;
};

/* The oldest snapshot is here the one that has been held longest. */
static void add_session(struct armdb_session *s, struct operations *sum)
{
    /* Acquire: pairs with the store in session_snapshot_refresh(), which comes behind the
     * one of the time. */
    uint64_t slot = atomic_load_explicit(&s->snapshot_slot, memory_order_acquire);
    uint64_t since = get(&s->snapshot_since);

#define ADD(name, unit) sum->name += get(&s->name);
    SESSION_COUNTERS(ADD)
#undef ADD
    sum->sessions++;
    sum->transactions += s->open_txn != 0;
    sum->snapshots += slot != 0;
    if (slot != 0 && (sum->oldest_since == 0 || since < sum->oldest_since))
        sum->oldest_since = since;
}

static void add_operations(struct armdb *store, struct operations *sum)
{
    memset(sum, 0, sizeof *sum);
    adb_mutex_lock(&store->txn_lock);
#define ADD(name, unit) sum->name = get(&store->stats.name);
    SESSION_COUNTERS(ADD)
#undef ADD
    for (struct armdb_session *s = store->sessions; s != NULL; s = s->next) {
        add_session(s, sum);
        if (ADB_PLANTED("counters_reset_by_reading"))
            atomic_store_explicit(&s->gets, 0, memory_order_relaxed);
    }
    sum->visible = atomic_load_explicit(&store->visible, memory_order_acquire);
    sum->oldest_snapshot = oldest_snapshot_locked(store);
    adb_mutex_unlock(&store->txn_lock);
}

static void report_operations(struct armdb *store, const struct report *report,
                              const struct operations *sum)
{
    uint64_t now = adb_mono_coarse_ns();
    uint64_t age =
        sum->oldest_since != 0 && sum->oldest_since < now ? now - sum->oldest_since : 0;

#define REPORT(name, unit) number(report, #name, sum->name, unit);
    SESSION_COUNTERS(REPORT)
#undef REPORT
    number(report, "commits", get(&store->stats.commits), "count");
    number(report, "rollbacks", get(&store->stats.rollbacks), "count");
    number(report, "busy", get(&store->stats.busy), "count");
    number(report, "busy_snapshot", get(&store->stats.busy_snapshot), "count");
    number(report, "stale_reads", get(&store->stats.stale_reads), "count");
    number(report, "sessions", sum->sessions, "count");
    number(report, "open_transactions", sum->transactions, "count");
    number(report, "commits_visible", sum->visible, "count");
    number(report, "snapshots", sum->snapshots, "count");
    number(report, "snapshot_oldest", sum->oldest_snapshot, "count");
    number(report, "snapshot_oldest_age", age / 1000000, "ms");
    number(report, "commits_unsettled", get(&store->unsettled), "count");
}

/* ---- Durations ---- */

static void report_durations(const struct report *report, const char *what,
                             const struct histogram_summary *summary)
{
    static const char *const parts[] = {"p50", "p90", "p99", "p999"};
    char name[48];

    (void)snprintf(name, sizeof name, "latency_%s_count", what);
    number(report, name, summary->count, "count");
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        (void)snprintf(name, sizeof name, "latency_%s_%s", what, parts[i]);
        number(report, name, summary->at[i], "ns");
    }
    (void)snprintf(name, sizeof name, "latency_%s_max", what);
    number(report, name, summary->max, "ns");
    (void)snprintf(name, sizeof name, "latency_%s_sum", what);
    number(report, name, summary->sum, "ns");
}

static void summarize(const struct histogram *parts, size_t count,
                      struct histogram_summary *summary)
{
    static const uint32_t permilles[] = {500, 900, 990, 999};

    histogram_summarize(parts, count, permilles, sizeof permilles / sizeof permilles[0],
                        summary);
}

static void report_latencies(struct armdb *store, const struct report *report)
{
    struct histogram_summary summary;
    uint64_t commits;

    summarize(store->latencies.commit, COMMIT_STRIPES, &summary);
    report_durations(report, "commit", &summary);
    commits = summary.count;
    summarize(&store->log.stats.sync, 1, &summary);
    report_durations(report, "sync", &summary);
    ratio(report, "commits_per_sync", commits, get(&store->log.stats.syncs));
    summarize(&store->latencies.seek, 1, &summary);
    report_durations(report, "seek", &summary);
    summarize(&store->latencies.read, 1, &summary);
    report_durations(report, "read", &summary);
}

/* ---- Space ---- */

struct space {
    uint64_t segments;
    uint64_t total;   /* bytes of the log that count */
    uint64_t records; /* of them, records */
    uint64_t live;
};

static void measure_space(struct log *log, struct space *space)
{
    memset(space, 0, sizeof *space);
    adb_mutex_lock(&log->manifest_lock);
    for (size_t i = 0; i < log->locked.manifest.segment_count; i++) {
        const struct manifest_segment *listed = &log->locked.manifest.segments[i];
        struct segment *segment =
            segtab_get(&log->segments, log_slot(log->slot_base, listed->number));
        struct shard *shard;
        uint64_t length;

        if (segment == NULL)
            continue;
        shard = &log->shards[segment->header.shard];
        /* First: a record is counted in the length before it is counted as live. Pairs
         * with the release in account_writes(). */
        space->live += atomic_load_explicit(&segment->live_bytes, memory_order_acquire);
        adb_mutex_lock(&shard->lock);
        length = segment->length;
        space->records += get(&segment->body_bytes);
        adb_mutex_unlock(&shard->lock);
        space->segments++;
        space->total += length;
    }
    adb_mutex_unlock(&log->manifest_lock);
}

static void report_log(struct armdb *store, const struct report *report,
                       uint64_t bytes_user)
{
    struct log *log = &store->log;
    struct adb_io *io = store->io;
    struct space space;
    uint64_t dead;
    uint64_t written = get(&io->bytes_written) + get(&log->stats.zeroed);

    measure_space(log, &space);
    dead = space.records > space.live ? space.records - space.live : 0;
    number(report, "segments", space.segments, "count");
    number(report, "bytes_log", space.total, "bytes");
    number(report, "bytes_live", space.live, "bytes");
    number(report, "bytes_dead", dead, "bytes");
    number(report, "bytes_overhead",
           space.total > space.records ? space.total - space.records : 0, "bytes");
    ratio(report, "fragmentation", dead, space.records);
    number(report, "bytes_appended", get(&log->stats.bytes), "bytes");
    number(report, "frames", get(&log->stats.frames), "count");
    number(report, "flushes", get(&log->stats.flushes), "count");
    number(report, "syncs", get(&log->stats.syncs), "count");
    number(report, "bytes_written", written, "bytes");
    number(report, "bytes_zeroed", get(&log->stats.zeroed), "bytes");
    number(report, "bytes_read", get(&io->bytes_read), "bytes");
    ratio(report, "write_amplification", written, bytes_user);
    number(report, "file_writes", get(&io->writes), "count");
    number(report, "file_reads", get(&io->reads), "count");
    number(report, "file_syncs", get(&io->syncs), "count");
    number(report, "gsn_last", gsn_last(&log->gsn), "count");
    number(report, "gsn_durable", gsn_durable(&log->gsn), "count");
    number(report, "bytes_cut_at_open", store->recovered_bytes_cut, "bytes");
    number(report, "damaged", store->damage_gsn != 0, "count");
    number(report, "wounded", atomic_load_explicit(&log->wounded, memory_order_acquire),
           "count");
    number(report, "read_only", store->read_only, "count");
}

static void report_hints(struct armdb *store, const struct report *report)
{
    struct hinter *hinter = &store->hinter;

    number(report, "hints_used", hinter->used, "count");
    number(report, "hints_missing", hinter->missing, "count");
    number(report, "hints_refused", hinter->refused, "count");
    number(report, "hints_written", get(&hinter->written), "count");
    number(report, "hints_failed", get(&hinter->failures), "count");
}

static void report_compaction(struct armdb *store, const struct report *report)
{
    struct compactor *compactor = &store->compactor;

    number(report, "compactions", get(&compactor->runs), "count");
    number(report, "compactions_failed", get(&compactor->failures), "count");
    number(report, "compact_segments_left", get(&compactor->segments_left), "count");
    number(report, "compact_segments_removed", get(&compactor->segments_removed),
           "count");
    number(report, "compact_bytes_moved", get(&compactor->bytes_moved), "bytes");
    number(report, "compact_bytes_read", get(&compactor->bytes_read), "bytes");
    number(report, "compact_speed", get(&compactor->speed), "bytes");
    number(report, "compact_rate", get(&compactor->rate), "bytes");
    number(report, "compact_delays", get(&compactor->delays), "count");
    number(report, "compact_paused",
           atomic_load_explicit(&compactor->paused, memory_order_relaxed), "count");
}

/* ---- Memory ---- */

static void report_cache(struct armdb *store, const struct report *report)
{
    struct cache_stats stats;

    cache_get_stats(store->cache, &stats);
    number(report, "cache_budget", stats.budget_bytes, "bytes");
    number(report, "cache_used", stats.used_bytes, "bytes");
    number(report, "cache_dirty", stats.dirty_bytes, "bytes");
    number(report, "cache_large", stats.large_bytes, "bytes");
    number(report, "cache_hits", stats.hits, "count");
    number(report, "cache_misses", stats.misses, "count");
    number(report, "cache_evictions", stats.evictions, "count");
    number(report, "pages_read", stats.pages_read, "count");
    number(report, "pages_pinned", stats.pages_pinned, "count");
}

static void report_memory(const struct tab *tab, const struct report *report)
{
    static const struct {
        const char *name;
        enum adb_mem_part part;
    } parts[] = {
        {"process_nodes", ADB_MEM_NODES}, {"process_hash", ADB_MEM_HASH},
        {"process_order", ADB_MEM_ORDER}, {"process_cache", ADB_MEM_CACHE},
        {"process_log", ADB_MEM_LOG},     {"process_transactions", ADB_MEM_TXN},
        {"process_io", ADB_MEM_IO},       {"process_misc", ADB_MEM_MISC},
    };
    uint64_t nodes = arena_bytes_used(tab->arena);
    uint64_t map = hashmap_bytes(tab->map);
    uint64_t order = order_bytes(tab->order);
    uint64_t keys = order_count(tab->order);

    number(report, "memory_nodes", nodes, "bytes");
    number(report, "memory_hash", map, "bytes");
    number(report, "memory_order", order, "bytes");
    number(report, "memory_per_key", keys > 0 ? (nodes + map + order) / keys : 0,
           "bytes");
    number(report, "memory_process", adb_mem_used_total(), "bytes");
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        number(report, parts[i].name, adb_mem_used(parts[i].part), "bytes");
}

void stat_describe(struct armdb *store, struct armdb_store_info *info)
{
    struct operations sum;

    memset(info, 0, sizeof *info);
    add_operations(store, &sum);
    info->path = store->path;
    info->io_engine = armdb_io_engine_name(store);
    memcpy(info->uuid, store->superblock.uuid, sizeof info->uuid);
    info->read_only = store->read_only;
    info->wounded = atomic_load_explicit(&store->log.wounded, memory_order_acquire);
    info->shards = store->superblock.shards;
    info->sessions = sum.sessions;
    info->open_transactions = sum.transactions;
    info->snapshots = sum.snapshots;
    info->uptime_ms = (adb_mono_ns() - store->opened_ns) / 1000000;
    adb_mutex_lock(&store->catalog_lock);
    for (const struct tab *tab = store->tabs; tab != NULL; tab = tab->next)
        info->tables +=
            tab->id != 0 &&
            atomic_load_explicit(&tab->replacer, memory_order_relaxed) != TAB_REPLACED;
    adb_mutex_unlock(&store->catalog_lock);
}

void armdb_stat_each(struct armdb_table *table,
                     void (*visit)(void *arg, const struct armdb_stat *row), void *arg)
{
    struct report report = {visit, arg};
    struct armdb *store = table->session->store;
    struct operations sum;

    add_operations(store, &sum);
    text(&report, "path", store->path);
    text(&report, "table", table->name);
    text(&report, "io_engine", armdb_io_engine_name(store));
    number(&report, "shards", store->superblock.shards, "count");
    number(&report, "uptime", (adb_mono_ns() - store->opened_ns) / 1000000, "ms");
    number(&report, "keys", armdb_count(table), "count");
    number(&report, "index_keys", order_count(table->tab->order), "count");
    report_memory(table->tab, &report);
    report_log(store, &report, sum.bytes_user);
    report_hints(store, &report);
    report_compaction(store, &report);
    report_operations(store, &report, &sum);
    report_latencies(store, &report);
    report_cache(store, &report);
}

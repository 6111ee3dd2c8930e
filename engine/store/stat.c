/* stat.c - the statistics, read without changing any of them.
 *
 * Counters of operations live in the sessions (one writer each, no shared line) and are
 * added up here under the lock of the list of sessions; what closed sessions counted is
 * kept in the store. */
#include <string.h>

#include "engine/base/mem.h"
#include "engine/store/internal.h"

struct report {
    void (*visit)(void *arg, const struct armdb_stat *row);
    void *arg;
};

static void number(const struct report *report, const char *name, uint64_t value,
                   const char *unit)
{
    struct armdb_stat row = {name, value, NULL, unit};

    report->visit(report->arg, &row);
}

static void text(const struct report *report, const char *name, const char *value)
{
    struct armdb_stat row = {name, 0, value, ""};

    report->visit(report->arg, &row);
}

static uint64_t get(_Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

struct operations {
    uint64_t nodes_touched, values_read, gets, scans, puts, deletes;
    uint64_t sessions, transactions, oldest_snapshot, visible;
};

static void add_operations(struct armdb *store, struct operations *sum)
{
    memset(sum, 0, sizeof *sum);
    adb_mutex_lock(&store->txn_lock);
    sum->nodes_touched = get(&store->stats.nodes_touched);
    sum->values_read = get(&store->stats.values_read);
    sum->gets = get(&store->stats.gets);
    sum->scans = get(&store->stats.scans);
    sum->puts = get(&store->stats.puts);
    sum->deletes = get(&store->stats.deletes);
    for (struct armdb_session *s = store->sessions; s != NULL; s = s->next) {
        sum->nodes_touched += get(&s->nodes_touched);
        sum->values_read += get(&s->values_read);
        sum->gets += get(&s->gets);
        sum->scans += get(&s->scans);
        sum->puts += get(&s->puts);
        sum->deletes += get(&s->deletes);
        sum->sessions++;
        sum->transactions += s->open_txn != 0;
    }
    sum->visible = atomic_load_explicit(&store->visible, memory_order_acquire);
    sum->oldest_snapshot = oldest_snapshot_locked(store);
    adb_mutex_unlock(&store->txn_lock);
}

static void report_operations(struct armdb *store, const struct report *report)
{
    struct operations sum;

    add_operations(store, &sum);
    number(report, "gets", sum.gets, "count");
    number(report, "scans", sum.scans, "count");
    number(report, "puts", sum.puts, "count");
    number(report, "deletes", sum.deletes, "count");
    number(report, "nodes_touched", sum.nodes_touched, "count");
    number(report, "values_read", sum.values_read, "count");
    number(report, "commits", get(&store->stats.commits), "count");
    number(report, "rollbacks", get(&store->stats.rollbacks), "count");
    number(report, "busy", get(&store->stats.busy), "count");
    number(report, "busy_snapshot", get(&store->stats.busy_snapshot), "count");
    number(report, "stale_reads", get(&store->stats.stale_reads), "count");
    number(report, "sessions", sum.sessions, "count");
    number(report, "open_transactions", sum.transactions, "count");
    number(report, "commits_visible", sum.visible, "count");
    number(report, "snapshot_oldest", sum.oldest_snapshot, "count");
    number(report, "commits_unsettled", get(&store->unsettled), "count");
}

static void report_log(struct armdb *store, const struct report *report)
{
    uint64_t segments = 0;
    uint64_t total = 0;
    uint64_t live = 0;
    struct log *log = &store->log;

    adb_mutex_lock(&log->manifest_lock);
    for (size_t i = 0; i < log->locked.manifest.segment_count; i++) {
        const struct manifest_segment *listed = &log->locked.manifest.segments[i];
        struct segment *segment =
            segtab_get(&log->segments, log_slot(log->slot_base, listed->number));

        if (segment == NULL)
            continue;
        segments++;
        live += atomic_load_explicit(&segment->live_bytes, memory_order_relaxed);
        if (listed->sealed)
            total += listed->length;
    }
    adb_mutex_unlock(&log->manifest_lock);
    for (uint32_t i = 0; i < log->shard_count; i++) {
        struct shard *shard = &log->shards[i];

        adb_mutex_lock(&shard->lock);
        if (shard->locked.active != NULL)
            total += shard->locked.active->length;
        adb_mutex_unlock(&shard->lock);
    }
    number(report, "segments", segments, "count");
    number(report, "bytes_log", total, "bytes");
    number(report, "bytes_live", live, "bytes");
    number(report, "bytes_dead", total > live ? total - live : 0, "bytes");
    number(report, "bytes_appended", get(&log->stats.bytes), "bytes");
    number(report, "frames", get(&log->stats.frames), "count");
    number(report, "flushes", get(&log->stats.flushes), "count");
    number(report, "syncs", get(&log->stats.syncs), "count");
    number(report, "gsn_last", gsn_last(&log->gsn), "count");
    number(report, "gsn_durable", gsn_durable(&log->gsn), "count");
    number(report, "bytes_cut_at_open", store->recovered_bytes_cut, "bytes");
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
    number(report, "compact_rate", get(&compactor->rate), "bytes");
}

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
}

void armdb_stat_each(struct armdb_table *table,
                     void (*visit)(void *arg, const struct armdb_stat *row), void *arg)
{
    struct report report = {visit, arg};
    struct armdb *store = table->session->store;

    text(&report, "path", store->path);
    text(&report, "table", table->name);
    text(&report, "io_engine", armdb_io_engine_name(store));
    number(&report, "shards", store->superblock.shards, "count");
    number(&report, "keys", armdb_count(table), "count");
    number(&report, "index_keys", order_count(table->tab->order), "count");
    report_memory(table->tab, &report);
    report_log(store, &report);
    report_compaction(store, &report);
    report_operations(store, &report);
    report_cache(store, &report);
}

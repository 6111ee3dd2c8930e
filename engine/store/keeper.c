/* keeper.c - the background thread of a store.
 *
 * With sync=normal and sync=off commits return before they are durable. The keeper
 * syncs them: at least once a second, and at once when a shard has collected 16 MiB or
 * many commits wait to be settled. A store whose commits are all `full` never starts
 * it, until a table is cleared or dropped: its rows are freed here. It takes no lock of
 * the host and ends before the store closes. */
#include "engine/store/internal.h"

static const uint64_t period_ns = UINT64_C(1000000000);
static const uint64_t unsynced_bytes_many = UINT64_C(16) << 20;

static bool is_work(struct armdb *store)
{
    for (uint32_t i = 0; i < store->log.shard_count; i++)
        if (atomic_load_explicit(&store->log.shards[i].unsynced_bytes,
                                 memory_order_relaxed) > 0)
            return true;
    return false;
}

static void keep(void *arg)
{
    struct armdb *store = arg;

    adb_mutex_lock(&store->keeper_lock);
    while (!store->keeper_stop) {
        struct armdb_error err;

        (void)adb_cond_wait_until(&store->keeper_wake, &store->keeper_lock,
                                  adb_mono_ns() + period_ns);
        if (store->keeper_stop)
            break;
        adb_mutex_unlock(&store->keeper_lock);
        /* A failed sync has wounded the store: the next write says so. */
        if ((!is_work(store) || log_sync_all(&store->log, &err) == ARMDB_OK) &&
            atomic_load_explicit(&store->unsettled, memory_order_relaxed) > 0)
            store_settle(store, store->slot); /* somebody else may have synced them */
        if (atomic_load_explicit(&store->has_retired, memory_order_relaxed))
            newid_reap(store, store->slot);
        adb_mutex_lock(&store->keeper_lock);
    }
    adb_mutex_unlock(&store->keeper_lock);
}

void keeper_wake(struct armdb *store)
{
    adb_mutex_lock(&store->keeper_lock);
    adb_cond_signal(&store->keeper_wake);
    adb_mutex_unlock(&store->keeper_lock);
}

void keeper_start(struct armdb *store)
{
    bool many = false;

    if (!atomic_load_explicit(&store->keeper_running, memory_order_acquire)) {
        adb_mutex_lock(&store->keeper_lock);
        if (!atomic_load_explicit(&store->keeper_running, memory_order_relaxed) &&
            !store->keeper_stop &&
            adb_thread_start(&store->keeper, keep, store) == ARMDB_OK)
            atomic_store_explicit(&store->keeper_running, true, memory_order_release);
        adb_mutex_unlock(&store->keeper_lock);
    }
    for (uint32_t i = 0; i < store->log.shard_count; i++)
        many = many || atomic_load_explicit(&store->log.shards[i].unsynced_bytes,
                                            memory_order_relaxed) > unsynced_bytes_many;
    if (many)
        keeper_wake(store);
}

void keeper_stop(struct armdb *store)
{
    bool running;

    /* The flag is set in any case: what the close still does must not start a thread
     * that could not be started before. */
    adb_mutex_lock(&store->keeper_lock);
    store->keeper_stop = true;
    running = atomic_load_explicit(&store->keeper_running, memory_order_relaxed);
    adb_cond_signal(&store->keeper_wake);
    adb_mutex_unlock(&store->keeper_lock);
    if (running)
        adb_thread_join(&store->keeper);
    atomic_store_explicit(&store->keeper_running, false, memory_order_release);
}

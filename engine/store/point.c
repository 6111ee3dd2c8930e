/* point.c - one row by its key, in one call.
 *
 * What a cursor does for one key, without a cursor: nothing is copied but what the
 * caller asked for. Unlike a cursor these reads see all of the session's own writes,
 * those of the statement that is at work included: they look at one row, and so cannot
 * run after what they write themselves.
 *
 * The row is found under the session's snapshot inside an epoch and read behind it. In
 * between its record may be moved by a compaction: then its place is asked for again. */
#include <string.h>

#include "engine/store/internal.h"

enum armdb_rc point_check(const struct armdb_session *session,
                          const struct armdb_table *table, const void *key,
                          size_t key_len, struct armdb_error *err)
{
    if (session == NULL || table == NULL)
        return ADB_FAIL(ARMDB_INVALID, err, "a session and a table are wanted");
    if (table->session != session)
        return ADB_FAIL(ARMDB_MISUSE, err, "the table was opened by another session");
    if (key == NULL && key_len > 0)
        return ADB_FAIL(ARMDB_INVALID, err, "the key is NULL, its length is not 0");
    return ARMDB_OK;
}

/* Where a row lies. */
struct place {
    uint64_t location;
    uint64_t seq; /* 0: the session's own, not prepared */
    uint32_t value_len;
};

/* The row of a key as the session sees it; false when there is none. */
static bool find_place(struct armdb_session *session, const struct tab *tab,
                       const void *key, size_t key_len, struct place *place)
{
    uint64_t hash = hashmap_hash(tab->map, key, key_len);
    struct version *version = NULL;
    node_ref ref;

    epoch_enter(session->slot);
    ref = hashmap_find(tab->map, hash, key, key_len);
    if (ref != 0)
        version = version_visible(tab, arena_node(tab->arena, ref), session->snapshot,
                                  session->txn, UINT32_MAX);
    if (version != NULL && version->value_len == VERSION_DELETED)
        version = NULL;
    if (version != NULL) {
        uint64_t word;

        place->value_len = version->value_len;
        /* Pairs with the release of who moved the record or put it into the log. */
        place->location = atomic_load_explicit(&version->location, memory_order_acquire);
        word = atomic_load_explicit(&version->word, memory_order_acquire);
        place->seq =
            (word & 1) != 0
                ? word >> 1
                : ((const struct txn_write *)(uintptr_t)word)->txn->undecided.gsn;
    }
    epoch_leave(session->slot);
    if (ref != 0)
        stat_bump(&session->nodes_touched, 1);
    session->snapshot_read = true;
    return version != NULL;
}

/* The same; ARMDB_NOT_FOUND when there is none. A snapshot is held. */
static enum armdb_rc find_row(struct armdb_session *session, struct armdb_table *table,
                              const void *key, size_t key_len, struct place *place,
                              struct armdb_error *err)
{
    enum armdb_rc rc = table_resolve(table, err);
    uint64_t began = 0;
    bool found;

    if (rc != ARMDB_OK)
        return rc;
    stat_bump(&session->gets, 1);
    if (stat_is_sampled(&session->seek_countdown))
        began = adb_mono_ns();
    found = find_place(session, table->tab, key, key_len, place);
    if (began != 0)
        histogram_add(&session->store->latencies.seek, adb_mono_ns() - began);
    rc = damage_check(session->store, !found, found ? place->seq : 0, err);
    return rc == ARMDB_OK && !found ? ARMDB_NOT_FOUND : rc;
}

enum armdb_rc point_read(struct armdb_session *session, struct armdb_table *table,
                         const void *key, size_t key_len, struct armdb_value *value,
                         struct armdb_error *err)
{
    struct place place;
    enum armdb_rc rc = find_row(session, table, key, key_len, &place, err);
    struct fetch fetch = {.tab = table->tab, .key = key, .key_len = key_len};

    if (rc != ARMDB_OK)
        return rc;
    stat_bump(&session->values_read, 1);
    for (;;) {
        fetch.location = place.location;
        fetch.value_len = place.value_len;
        rc = fetch_value(session, &fetch, value, err);
        if (rc != ARMDB_NOT_FOUND)
            return rc;
        /* It moved. Each round sees a later move; a place that did not change, or that is
         * gone, means that the index is wrong, which is no absent row. */
        stat_add(&session->store->stats.stale_reads, 1);
        if (!find_place(session, table->tab, key, key_len, &place) ||
            place.location == fetch.location)
            return ADB_FAIL(ARMDB_INTERNAL, err,
                            "the index points into a segment that is gone");
    }
}

enum armdb_rc armdb_get(struct armdb_session *session, struct armdb_table *table,
                        const void *key, size_t key_len, struct armdb_value *value,
                        struct armdb_error *err)
{
    enum armdb_rc rc = point_check(session, table, key, key_len, err);

    if (value == NULL)
        return ADB_FAIL(ARMDB_INVALID, err, "no place for the value");
    memset(value, 0, sizeof *value);
    if (rc == ARMDB_OK)
        rc = armdb_snapshot_acquire(session, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = point_read(session, table, key, key_len, value, err);
    armdb_snapshot_release(session);
    return rc;
}

enum armdb_rc armdb_value_len(struct armdb_session *session, struct armdb_table *table,
                              const void *key, size_t key_len, uint64_t *value_len,
                              struct armdb_error *err)
{
    enum armdb_rc rc = point_check(session, table, key, key_len, err);
    struct place place = {.value_len = 0};

    if (value_len == NULL)
        return ADB_FAIL(ARMDB_INVALID, err, "no place for the length");
    *value_len = 0;
    if (rc == ARMDB_OK)
        rc = armdb_snapshot_acquire(session, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = find_row(session, table, key, key_len, &place, err);
    if (rc == ARMDB_OK)
        *value_len = place.value_len;
    armdb_snapshot_release(session);
    return rc;
}

uint32_t armdb_key_shard(const struct armdb *store, const void *key, size_t key_len)
{
    return shard_of_key(store, key, key_len);
}

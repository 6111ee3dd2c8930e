/* compact_tombs.c - which tombstones may stay away from an output.
 *
 * One of a key, with GSN t, newest of its key, goes when no listed segment outside the
 * inputs can hold an older record of the key. Two things can say so of a segment:
 *
 *   its lowest GSN     above t: whatever it holds is newer
 *   its hint's filter  has every key of the segment in it: an answer "no" is certain
 *
 * Filters are read, one at a time, when tombstones that the GSNs do not free are a
 * quarter of what would be written, or when somebody asked for the compaction: with old
 * rows that never change in some segment they are the only way for a tombstone to go,
 * and keys that come and go once each would fill the store with them.
 *
 * At C4 it must still be so: segments that were listed since hold what is newer, for
 * compaction alone moves older records and there is one at a time; that is checked
 * (compact_tombs_hold).
 *
 * What has no filter may hold anything: segments that are being written, short ones, one
 * whose hint is on its way. When such a one kept tombstones, the output is looked at
 * again once it has its hint or is gone (list_eligible), a few times at most: outputs
 * that wait for one another would be rewritten in turn for ever. */
#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/plant.h"
#include "engine/log/hint.h"
#include "engine/store/compact_internal.h"

enum { TRIES_MAX = 6, FILTER_SHARE = 4 };

/* A listed segment outside the inputs. */
struct other {
    struct manifest_segment listed;
    struct segment *segment; /* stays while the compaction's lock is held */
    uint64_t low;            /* lowest GSN in it */
    bool has_hint;
};

struct others {
    struct other *items; /* owned */
    size_t count;
    uint64_t lowest;        /* of their GSNs */
    uint64_t lowest_number; /* whose */
};

static bool is_input(const struct compaction *c, uint64_t number)
{
    for (size_t i = 0; i < c->input_count; i++)
        if (c->inputs[i]->header.number == number)
            return true;
    return false;
}

/* 0: nothing yet, and nothing older will come. */
static uint64_t lowest_gsn(struct log *log, const struct manifest_segment *listed,
                           const struct segment *segment)
{
    struct shard *shard = &log->shards[listed->shard];
    uint64_t low;

    adb_mutex_lock(&shard->lock);
    low = segment->gsn_low;
    adb_mutex_unlock(&shard->lock);
    return low;
}

uint64_t compact_floor(struct log *log, const struct compaction *c, uint64_t *blocker)
{
    uint64_t lowest = UINT64_MAX;

    *blocker = 0;
    for (size_t i = 0; i < log->locked.manifest.segment_count; i++) {
        const struct manifest_segment *listed = &log->locked.manifest.segments[i];
        const struct segment *segment =
            segtab_get(&log->segments, log_slot(log->slot_base, listed->number));
        uint64_t low;

        if (is_input(c, listed->number) || segment == NULL)
            continue;
        low = lowest_gsn(log, listed, segment);
        if (low != 0 && low < lowest) {
            lowest = low;
            *blocker = listed->number;
        }
    }
    return lowest;
}

static enum armdb_rc list_others(struct compaction *c, struct others *others)
{
    struct log *log = &c->store->log;
    const struct manifest *manifest = &log->locked.manifest;
    enum armdb_rc rc = ARMDB_OK;

    others->count = 0;
    others->lowest = UINT64_MAX;
    others->lowest_number = 0;
    adb_mutex_lock(&log->manifest_lock);
    c->others_end = manifest->next_segment;
    others->items =
        adb_alloc(ADB_MEM_MISC, (manifest->segment_count + 1) * sizeof *others->items);
    if (others->items == NULL)
        rc = ADB_FAIL(ARMDB_NOMEM, c->err, "out of memory for a compaction");
    for (size_t i = 0; rc == ARMDB_OK && i < manifest->segment_count; i++) {
        struct other *other = &others->items[others->count];

        other->listed = manifest->segments[i];
        other->segment =
            segtab_get(&log->segments, log_slot(log->slot_base, other->listed.number));
        if (is_input(c, other->listed.number) || other->segment == NULL)
            continue;
        other->low = lowest_gsn(log, &other->listed, other->segment);
        other->has_hint = other->listed.sealed && other->segment->hint_done;
        if (other->low == 0)
            continue;
        if (other->low < others->lowest) {
            others->lowest = other->low;
            others->lowest_number = other->listed.number;
        }
        others->count++;
    }
    adb_mutex_unlock(&log->manifest_lock);
    return rc;
}

static bool same_key(const struct moved *x, const struct moved *y)
{
    return x->table == y->table && x->key_len == y->key_len &&
           memcmp(moved_key(x), moved_key(y), x->key_len) == 0;
}

/* By GSNs alone. Gives the bytes of what is left, and of everything that is written. */
static void drop_by_gsn(struct compaction *c, const struct others *others,
                        uint64_t *blocked_bytes, uint64_t *all_bytes)
{
    *blocked_bytes = 0;
    *all_bytes = 0;
    for (size_t i = 0; i < c->moved_count; i++) {
        struct moved *moved = &c->moved[i];

        *all_bytes += moved->size;
        if (moved->value_len != VERSION_DELETED)
            continue;
        if (i > 0 && same_key(moved - 1, moved)) {
            moved->dropped = true; /* a newer record of the key is among them */
        } else if (moved->gsn < others->lowest ||
                   ADB_PLANTED("tombstone_dropped_early")) {
            moved->dropped = true;
            if (moved->gsn > c->dropped_gsn)
                c->dropped_gsn = moved->gsn;
        } else {
            *blocked_bytes += moved->size;
        }
    }
}

static bool is_blocked(const struct moved *moved, const struct other *other)
{
    return moved->value_len == VERSION_DELETED && !moved->dropped && !moved->held &&
           moved->gsn >= other->low;
}

/* The filter of a segment; ARMDB_OK with filter->lines NULL when it has none. */
static enum armdb_rc read_filter(struct compaction *c, const struct other *other,
                                 struct hint_filter *filter)
{
    struct log *log = &c->store->log;
    struct armdb_error why; /* whatever is wrong with a hint: it may hold the key */
    uint64_t end_raw = 0;
    enum armdb_rc rc;

    filter->lines = NULL;
    filter->count = 0;
    if (!other->has_hint)
        return ARMDB_OK;
    rc = hint_segment_end(other->segment->file, other->segment->name, &other->listed,
                          &end_raw, &why);
    if (rc == ARMDB_OK)
        rc = hint_filter_read(log->dir, log->uuid, &other->listed, end_raw, filter, &why);
    if (rc == ARMDB_NOMEM)
        return ADB_FAIL(rc, c->err, "out of memory for a compaction");
    if (rc != ARMDB_OK)
        filter->lines = NULL;
    return compact_pace(c, filter->lines == NULL ? 0 : filter->count * 2);
}

/* Marks what this segment may hold an older record of. */
static enum armdb_rc hold_by(struct compaction *c, const struct other *other)
{
    struct hint_filter filter;
    bool any = false;
    bool held = false;
    enum armdb_rc rc;

    for (size_t i = 0; !any && i < c->moved_count; i++)
        any = is_blocked(&c->moved[i], other);
    if (!any)
        return ARMDB_OK;
    rc = read_filter(c, other, &filter);
    for (size_t i = 0; rc == ARMDB_OK && i < c->moved_count; i++) {
        struct moved *moved = &c->moved[i];

        if (!is_blocked(moved, other))
            continue;
        moved->held =
            filter.lines == NULL ||
            hint_may_hold(&filter, moved->table, moved_key(moved), moved->key_len);
        held = held || moved->held;
    }
    hint_filter_fini(&filter);
    if (held && c->blocker == 0) {
        c->blocker = other->listed.number;
        c->blocker_lacks_hint = !other->has_hint && c->tries < TRIES_MAX;
    }
    return rc;
}

static void drop_what_nobody_holds(struct compaction *c)
{
    for (size_t i = 0; i < c->moved_count; i++) {
        struct moved *moved = &c->moved[i];

        if (moved->value_len != VERSION_DELETED || moved->dropped || moved->held)
            continue;
        moved->dropped = true;
        if (moved->gsn > c->filtered_gsn)
            c->filtered_gsn = moved->gsn;
    }
}

/* How often outputs of nothing newer were looked at again. */
static void count_tries(struct compaction *c)
{
    c->tries = 1;
    for (size_t i = 0; i < c->input_count; i++) {
        if (c->inputs[i]->header.kind == SEGMENT_LOG) {
            c->tries = 1;
            return;
        }
        if (c->inputs[i]->tries >= c->tries)
            c->tries = c->inputs[i]->tries + 1;
    }
}

enum armdb_rc compact_drop_tombstones(struct compaction *c)
{
    struct others others;
    uint64_t blocked;
    uint64_t all;
    enum armdb_rc rc = list_others(c, &others);

    if (rc != ARMDB_OK)
        goto out;
    count_tries(c);
    drop_by_gsn(c, &others, &blocked, &all);
    if (blocked == 0)
        goto out;
    if (c->watch == NULL && blocked * FILTER_SHARE < all) {
        c->blocker = others.lowest_number;
        goto out;
    }
    /* Those without a hint first: they cost nothing, and their turn comes. */
    for (int hinted = 0; hinted < 2; hinted++)
        for (size_t i = 0; rc == ARMDB_OK && i < others.count; i++)
            if (others.items[i].has_hint == (hinted != 0))
                rc = hold_by(c, &others.items[i]);
    if (rc == ARMDB_OK)
        drop_what_nobody_holds(c);
out:
    adb_free(ADB_MEM_MISC, others.items);
    return rc;
}

bool compact_tombs_hold(struct log *log, const struct compaction *c)
{
    const struct manifest *manifest = &log->locked.manifest;
    uint64_t blocker;

    if (compact_floor(log, c, &blocker) <= c->dropped_gsn &&
        !ADB_PLANTED("tombstone_dropped_early"))
        return false;
    for (size_t i = 0; c->filtered_gsn > 0 && i < manifest->segment_count; i++) {
        const struct manifest_segment *listed = &manifest->segments[i];
        const struct segment *segment =
            segtab_get(&log->segments, log_slot(log->slot_base, listed->number));
        uint64_t low;

        if (listed->number < c->others_end || segment == NULL)
            continue; /* it was asked */
        low = lowest_gsn(log, listed, segment);
        if (low != 0 && low <= c->filtered_gsn)
            return false;
    }
    return true;
}

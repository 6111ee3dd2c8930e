/* gsn.c - giving GSNs and moving the marks.
 *
 * The lock is held for a few instructions only and never across I/O. Marks are
 * computed from the shards: W is one below the lowest first_unsynced, or the last
 * GSN given when nothing is unsynced. Since a GSN is given and recorded as unsynced
 * in one step, W never passes a frame that is still on its way. */
#include "engine/log/gsn.h"

#include <stddef.h>
#include <string.h>

ADB_NOT_SHARED enum armdb_rc gsn_init(struct gsn *gsn, uint32_t shard_count,
                                      uint64_t last)
{
    enum armdb_rc rc;

    memset(&gsn->locked, 0, sizeof gsn->locked);
    gsn->shard_count = shard_count;
    gsn->locked.last = last;
    gsn->locked.written = last;
    gsn->locked.durable = last;
    atomic_init(&gsn->durable_now, last);
    rc = adb_mutex_init(&gsn->lock, ADB_RANK_GSN);
    if (rc != ARMDB_OK)
        return rc;
    rc = adb_cond_init(&gsn->moved);
    if (rc != ARMDB_OK)
        adb_mutex_fini(&gsn->lock);
    return rc;
}

void gsn_fini(struct gsn *gsn)
{
    adb_cond_fini(&gsn->moved);
    adb_mutex_fini(&gsn->lock);
}

uint64_t gsn_take(struct gsn *gsn, uint32_t shard, struct gsn_undecided *undecided)
{
    uint64_t value;

    adb_mutex_lock(&gsn->lock);
    value = ++gsn->locked.last;
    if (gsn->locked.shards[shard].first_unwritten == 0)
        gsn->locked.shards[shard].first_unwritten = value;
    if (gsn->locked.shards[shard].first_unsynced == 0)
        gsn->locked.shards[shard].first_unsynced = value;
    if (gsn->locked.shards[shard].pending == 0)
        gsn->locked.shards[shard].pending = value;
    if (undecided != NULL) {
        undecided->gsn = value;
        undecided->next = NULL;
        undecided->prev = gsn->locked.undecided_last;
        if (gsn->locked.undecided_last != NULL)
            gsn->locked.undecided_last->next = undecided;
        else
            gsn->locked.undecided_first = undecided;
        gsn->locked.undecided_last = undecided;
    }
    adb_mutex_unlock(&gsn->lock);
    return value;
}

void gsn_decided(struct gsn *gsn, struct gsn_undecided *undecided)
{
    adb_mutex_lock(&gsn->lock);
    if (undecided->prev != NULL)
        undecided->prev->next = undecided->next;
    else
        gsn->locked.undecided_first = undecided->next;
    if (undecided->next != NULL)
        undecided->next->prev = undecided->prev;
    else
        gsn->locked.undecided_last = undecided->prev;
    adb_mutex_unlock(&gsn->lock);
}

void gsn_capture(struct gsn *gsn, uint32_t shard)
{
    adb_mutex_lock(&gsn->lock);
    gsn->locked.shards[shard].pending = 0;
    adb_mutex_unlock(&gsn->lock);
}

/* One below the lowest of the shards' first open GSNs, else the last one given. */
static uint64_t compute_mark(const struct gsn *gsn, bool synced) ADB_REQUIRES(gsn->lock)
{
    uint64_t mark = gsn->locked.last;

    for (uint32_t i = 0; i < gsn->shard_count; i++) {
        uint64_t first = synced ? gsn->locked.shards[i].first_unsynced
                                : gsn->locked.shards[i].first_unwritten;

        if (first != 0 && first - 1 < mark)
            mark = first - 1;
    }
    return mark;
}

void gsn_flushed(struct gsn *gsn, uint32_t shard, bool synced)
{
    adb_mutex_lock(&gsn->lock);
    gsn->locked.shards[shard].first_unwritten = gsn->locked.shards[shard].pending;
    if (synced)
        gsn->locked.shards[shard].first_unsynced = gsn->locked.shards[shard].pending;
    if (!gsn->locked.wounded) {
        gsn->locked.written = compute_mark(gsn, false);
        gsn->locked.durable = compute_mark(gsn, true);
        /* Pairs with the acquire in gsn_durable(). */
        atomic_store_explicit(&gsn->durable_now, gsn->locked.durable,
                              memory_order_release);
    }
    adb_cond_broadcast(&gsn->moved);
    adb_mutex_unlock(&gsn->lock);
}

void gsn_wound(struct gsn *gsn)
{
    adb_mutex_lock(&gsn->lock);
    gsn->locked.wounded = true;
    adb_cond_broadcast(&gsn->moved);
    adb_mutex_unlock(&gsn->lock);
}

uint64_t gsn_last(struct gsn *gsn)
{
    uint64_t last;

    adb_mutex_lock(&gsn->lock);
    last = gsn->locked.last;
    adb_mutex_unlock(&gsn->lock);
    return last;
}

uint64_t gsn_settled(struct gsn *gsn)
{
    uint64_t settled;

    adb_mutex_lock(&gsn->lock);
    settled = gsn->locked.durable;
    if (gsn->locked.undecided_first != NULL &&
        gsn->locked.undecided_first->gsn - 1 < settled)
        settled = gsn->locked.undecided_first->gsn - 1;
    adb_mutex_unlock(&gsn->lock);
    return settled;
}

enum gsn_answer gsn_ask(struct gsn *gsn, uint64_t value, bool synced, uint32_t *shard)
{
    enum gsn_answer answer = GSN_BEHIND;

    adb_mutex_lock(&gsn->lock);
    if ((synced ? gsn->locked.durable : gsn->locked.written) >= value) {
        answer = GSN_COVERED;
    } else if (gsn->locked.wounded) {
        answer = GSN_WOUNDED;
    } else {
        for (uint32_t i = 0; i < gsn->shard_count; i++) {
            uint64_t first = synced ? gsn->locked.shards[i].first_unsynced
                                    : gsn->locked.shards[i].first_unwritten;

            if (first != 0 && first <= value)
                *shard = i;
        }
    }
    adb_mutex_unlock(&gsn->lock);
    return answer;
}

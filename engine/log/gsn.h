/* gsn.h - the counter of deciding frames and the marks W, C and D.
 *
 * Every COMMIT, CLOSE and VERDICT frame takes a GSN, dense over the store. W is the
 * highest w such that all GSNs <= w are durable, C the same for "the kernel has it",
 * D the highest d <= W such that every GSN <= d is decided. Each shard's bytes reach
 * the disk in order, so per shard the first GSN not yet written and the first not
 * yet synced are enough to know all three. Layer 2. */
#ifndef ADB_ENGINE_LOG_GSN_H
#define ADB_ENGINE_LOG_GSN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/base/rc.h"
#include "engine/base/thread.h"

enum { GSN_SHARDS_MAX = 64 };

/* A prepared frame without a verdict; embedded in the transaction. */
struct gsn_undecided {
    uint64_t gsn;
    struct gsn_undecided *next;
    struct gsn_undecided *prev;
};

struct gsn {
    struct adb_mutex lock; /* rank ADB_RANK_GSN */
    struct adb_cond moved; /* a mark moved, or the store is wounded */
    uint32_t shard_count;  /* constant */
    struct {
        uint64_t last;    /* highest GSN given */
        uint64_t written; /* C */
        uint64_t durable; /* W */
        bool wounded;
        struct gsn_undecided *undecided_first; /* in rising GSN */
        struct gsn_undecided *undecided_last;
        struct {
            uint64_t first_unwritten; /* 0 = none */
            uint64_t first_unsynced;
            uint64_t pending; /* first one given since the last gsn_capture() */
        } shards[GSN_SHARDS_MAX];
    } locked ADB_GUARDED;
    _Atomic uint64_t durable_now; /* W, for readers without the lock */
};

enum armdb_rc gsn_init(struct gsn *gsn, uint32_t shard_count,
                       uint64_t last) ADB_MUST_CHECK;
void gsn_fini(struct gsn *gsn);

/* The next GSN, for a frame that is about to be appended to `shard`. The caller
 * holds that shard's lock. `undecided` (may be NULL) is linked until gsn_decided(). */
uint64_t gsn_take(struct gsn *gsn, uint32_t shard, struct gsn_undecided *undecided);
void gsn_decided(struct gsn *gsn, struct gsn_undecided *undecided);
/* A flush of `shard` begins: it covers everything given so far. Under its lock. */
void gsn_capture(struct gsn *gsn, uint32_t shard);
/* That flush has ended well. */
void gsn_flushed(struct gsn *gsn, uint32_t shard, bool synced);
/* No mark moves any more; who waits is woken. */
void gsn_wound(struct gsn *gsn);

uint64_t gsn_last(struct gsn *gsn);
static inline uint64_t gsn_durable(const struct gsn *gsn)
{
    /* Pairs with the release in gsn.c: what W covers is on disk. */
    return atomic_load_explicit(&gsn->durable_now, memory_order_acquire);
}
uint64_t gsn_settled(struct gsn *gsn); /* D */
/* Is `value` covered by W (synced) or C? If not, and the store is not wounded, gives
 * a shard that holds a lower GSN not yet covered. */
enum gsn_answer { GSN_COVERED, GSN_BEHIND, GSN_WOUNDED };
enum gsn_answer gsn_ask(struct gsn *gsn, uint64_t value, bool synced, uint32_t *shard);

#endif

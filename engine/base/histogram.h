/* histogram.h - how often which durations occurred, for percentiles.
 *
 * Adding costs two relaxed additions and no lock; reading changes nothing. Layer 0. */
#ifndef ADB_ENGINE_BASE_HISTOGRAM_H
#define ADB_ENGINE_BASE_HISTOGRAM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HISTOGRAM_STEP_BITS = 5, /* 32 steps to each doubling: 1/32 is the error */
    HISTOGRAM_VALUE_BITS =
        37, /* nanoseconds: 137 s; what is above is in the last bucket */
    HISTOGRAM_BUCKETS = (HISTOGRAM_VALUE_BITS - HISTOGRAM_STEP_BITS + 1)
                        << HISTOGRAM_STEP_BITS
};

/* All zero is an empty one. */
struct histogram {
    /* Statistics: relaxed, any thread. */
    _Atomic uint64_t sum;
    _Atomic uint64_t max;
    _Atomic uint64_t buckets[HISTOGRAM_BUCKETS];
};

enum { HISTOGRAM_SHARES_MAX = 8 };

struct histogram_summary {
    uint64_t count;
    uint64_t sum;
    uint64_t max;
    /* For each share asked for: no smaller part than that of the values is at most this.
     * Never below the value meant, and above it by at most 1/32; 0 when empty. */
    uint64_t at[HISTOGRAM_SHARES_MAX];
};

/* Any thread. */
void histogram_add(struct histogram *histogram, uint64_t value);

/* Sums up `part_count` histograms as if they were one. `permilles` (1 to 1000, rising, at
 * most HISTOGRAM_SHARES_MAX) are the shares asked for. Others may add meanwhile; what
 * they add is in the answer or not. */
void histogram_summarize(const struct histogram *parts, size_t part_count,
                         const uint32_t *permilles, size_t share_count,
                         struct histogram_summary *summary);

/* For tests: the bucket of a value, and the highest value in a bucket. */
uint32_t histogram_bucket(uint64_t value);
uint64_t histogram_bucket_max(uint32_t bucket);

#endif

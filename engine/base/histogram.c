/* histogram.c - a log-linear histogram.
 *
 * The idea is that of Gil Tene's HdrHistogram (hdrhistogram.org, 2012): buckets as wide
 * as the value is large, so that one array of counters covers nanoseconds and minutes
 * with one relative error. Values below 64 have a bucket each; from there on every
 * doubling has 32 buckets of equal width:
 *
 *     value   0 1 2 .. 63 | 64-65 66-67 .. 126-127 | 128-131 .. 252-255 | 256-263 ..
 *     bucket  0 1 2 .. 63 | 64    65    .. 95      | 96      .. 127     | 128     ..
 *
 * A bucket's number is the value's five bits behind its first one, and how far it had to
 * be shifted for them: a count of leading zeros, a shift and an addition, no logarithm
 * and no search. A percentile is the upper end of the bucket in which the value of that
 * rank lies (HdrHistogram's "highest equivalent value"), but not above the highest value
 * seen.
 *
 * Counters are only ever added to. A reader adds up what it finds; it may miss what is
 * added while it reads, and takes nothing away from anybody. */
#include "engine/base/histogram.h"

#include <string.h>

enum { STEPS = 1 << HISTOGRAM_STEP_BITS };

uint32_t histogram_bucket(uint64_t value)
{
    uint32_t shift;

    if (value < 2 * STEPS)
        return (uint32_t)value;
    if (value >> HISTOGRAM_VALUE_BITS != 0)
        return HISTOGRAM_BUCKETS - 1;
    shift = 63 - (uint32_t)__builtin_clzll(value) - HISTOGRAM_STEP_BITS;
    return (shift << HISTOGRAM_STEP_BITS) + (uint32_t)(value >> shift);
}

uint64_t histogram_bucket_max(uint32_t bucket)
{
    uint32_t shift;

    if (bucket < 2 * STEPS)
        return bucket;
    if (bucket == HISTOGRAM_BUCKETS - 1)
        return UINT64_MAX;
    shift = (bucket >> HISTOGRAM_STEP_BITS) - 1;
    return ((uint64_t)(bucket - (shift << HISTOGRAM_STEP_BITS) + 1) << shift) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    uint64_t max = atomic_load_explicit(&histogram->max, memory_order_relaxed);

    (void)atomic_fetch_add_explicit(&histogram->buckets[histogram_bucket(value)], 1,
                                    memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&histogram->sum, value, memory_order_relaxed);
    while (value > max &&
           !atomic_compare_exchange_weak_explicit(
               &histogram->max, &max, value, memory_order_relaxed, memory_order_relaxed))
        ;
}

static uint64_t count_bucket(const struct histogram *parts, size_t part_count, uint32_t i)
{
    uint64_t count = 0;

    for (size_t p = 0; p < part_count; p++)
        count += atomic_load_explicit(&parts[p].buckets[i], memory_order_relaxed);
    return count;
}

/* The place, from 1, of the value that a share of `count` values ends with. */
static uint64_t rank_of(uint64_t count, uint32_t permille)
{
    uint64_t rank = count / 1000 * permille + (count % 1000 * permille + 999) / 1000;

    return rank > 0 ? rank : 1;
}

void histogram_summarize(const struct histogram *parts, size_t part_count,
                         const uint32_t *permilles, size_t share_count,
                         struct histogram_summary *summary)
{
    uint64_t passed = 0;
    size_t share = 0;

    memset(summary, 0, sizeof *summary);
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        summary->count += count_bucket(parts, part_count, i);
    /* What is added from here on can only make the ranks be reached sooner. */
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS && summary->count > 0; i++) {
        passed += count_bucket(parts, part_count, i);
        while (share < share_count && passed >= rank_of(summary->count, permilles[share]))
            summary->at[share++] = histogram_bucket_max(i);
    }
    for (size_t p = 0; p < part_count; p++) {
        uint64_t max = atomic_load_explicit(&parts[p].max, memory_order_relaxed);

        summary->sum += atomic_load_explicit(&parts[p].sum, memory_order_relaxed);
        if (max > summary->max)
            summary->max = max;
    }
    for (size_t i = 0; i < share_count; i++)
        if (summary->at[i] > summary->max)
            summary->at[i] = summary->max;
}

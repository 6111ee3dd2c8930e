/* test_index_threads.c - readers without locks beside writers; for ThreadSanitizer.
 *
 * Numbers divisible by 4 are in the index all the time, the others come and go. Every
 * reader must find every one of the former, in the hash map and in its place between
 * its neighbours in a scan, whatever writers do. Nodes are freed through the epoch, as
 * the store does it, so a reader that holds one too long is seen by the sanitizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/base/thread.h"
#include "engine/index/hashmap.h"
#include "engine/index/order.h"

enum { NUMBERS = 24000, WRITERS = 2, READERS = 3, ROUNDS = 4, KEY_LEN = 24 };

static uint64_t first_seed;
static struct arena *arena;
static struct epoch *epoch;
static struct hashmap *map;
static struct order *order;
static _Atomic bool stop;
static _Atomic int failures;
static _Atomic int failed_line; /* of the first failure */

static void fail_at(int line)
{
    if (atomic_fetch_add(&failures, 1) == 0)
        atomic_store(&failed_line, line);
}

#define CHECK(cond) ((cond) ? (void)0 : fail_at(__LINE__))

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* The order of keys is that of numbers; prefixes are long, some digests equal. */
static void make_key(unsigned number, unsigned char *key)
{
    char text[KEY_LEN + 16];

    (void)snprintf(text, sizeof text, "/usr/share/%02u/aaaaa%05u", number / 1000, number);
    memcpy(key, text, KEY_LEN);
}

static unsigned number_of(node_ref ref)
{
    const unsigned char *key = arena_node(arena, ref)->key;
    unsigned number = 0;

    for (int i = KEY_LEN - 5; i < KEY_LEN; i++)
        number = number * 10 + (unsigned)(key[i] - '0');
    return number;
}

static void free_node(void *context, uint64_t handle)
{
    arena_node_free(context, (node_ref)handle);
}

static bool put(unsigned number)
{
    unsigned char key[KEY_LEN];
    struct adb_mutex *token;
    node_ref ref;
    uint64_t hash;
    enum armdb_rc rc;

    make_key(number, key);
    ref = arena_node_create(arena, key, KEY_LEN);
    if (ref == 0)
        return false;
    hash = hashmap_hash(map, key, KEY_LEN);
    token = hashmap_lock(map, hash);
    rc = hashmap_find(map, hash, key, KEY_LEN) == 0 ? ARMDB_OK : ARMDB_EXISTS;
    if (rc == ARMDB_OK)
        rc = order_insert(order, ref);
    if (rc == ARMDB_OK)
        rc = hashmap_insert(map, hash, ref);
    hashmap_unlock(token);
    return rc == ARMDB_OK;
}

static bool take_out(unsigned number)
{
    unsigned char key[KEY_LEN];
    struct adb_mutex *token;
    node_ref ref;
    uint64_t hash;

    make_key(number, key);
    hash = hashmap_hash(map, key, KEY_LEN);
    token = hashmap_lock(map, hash);
    ref = hashmap_find(map, hash, key, KEY_LEN);
    if (ref != 0) {
        hashmap_remove(map, hash, ref);
        order_remove(order, ref);
    }
    hashmap_unlock(token);
    if (ref != 0)
        epoch_retire_handle(epoch, ref, free_node, arena);
    return ref != 0;
}

/* Writer w has the numbers of remainder w + 1: puts all of them in and takes all of
 * them out, in an order of its own, so that leaves and tables split, grow, shrink. */
static void run_writer(void *arg)
{
    unsigned w = *(unsigned *)arg;
    unsigned count = NUMBERS / 4;
    struct epoch_slot *slot;

    if (epoch_slot_create(epoch, &slot) != ARMDB_OK) {
        CHECK(false);
        return;
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        unsigned stride = round % 2 == 0 ? 7 : 1; /* 7 does not divide count */

        for (unsigned i = 0; i < 2 * count; i++) {
            unsigned number = (unsigned)((uint64_t)i * stride % count) * 4 + w + 1;

            epoch_enter(slot);
            CHECK(i < count ? put(number) : take_out(number));
            epoch_leave(slot);
        }
        epoch_collect(epoch);
    }
    epoch_slot_destroy(slot);
}

/* A batch must rise (or fall) and hold all the constant numbers it passes. */
static void check_scan(uint64_t *random)
{
    unsigned char key[KEY_LEN];
    int expected = (int)(next_random(random) % (NUMBERS / 4)) * 4;
    int direction = next_random(random) % 2 == 0 ? 1 : -1;
    struct order_from from = {key, KEY_LEN, true, direction < 0};
    size_t max = 1 + next_random(random) % ORDER_BATCH_MAX;
    node_ref nodes[ORDER_BATCH_MAX];
    int last = expected - direction;
    size_t count;

    make_key((unsigned)expected, key);
    order_scan(order, &from, nodes, max, &count);
    CHECK(count > 0);
    for (size_t i = 0; i < count; i++) {
        int number = (int)number_of(nodes[i]);

        CHECK((number - last) * direction > 0);
        CHECK((expected - number) * direction >= 0);
        if (number == expected)
            expected += 4 * direction;
        last = number;
    }
    /* Fewer than asked for means that the end was reached. */
    CHECK(count == max || expected == (direction < 0 ? -4 : NUMBERS));
}

static void run_reader(void *arg)
{
    uint64_t random = first_seed + *(unsigned *)arg;
    struct epoch_slot *slot;

    if (epoch_slot_create(epoch, &slot) != ARMDB_OK) {
        CHECK(false);
        return;
    }
    while (!atomic_load(&stop)) {
        unsigned char key[KEY_LEN];
        unsigned number = (unsigned)(next_random(&random) % NUMBERS);
        node_ref ref;
        uint64_t hash;

        make_key(number, key);
        hash = hashmap_hash(map, key, KEY_LEN);
        epoch_enter(slot);
        hashmap_prefetch(map, hash);
        hashmap_prefetch_node(map, hash);
        ref = hashmap_find(map, hash, key, KEY_LEN);
        CHECK(number % 4 != 0 || ref != 0);
        if (ref != 0)
            CHECK(number_of(ref) == number);
        epoch_leave(slot);
        epoch_enter(slot);
        check_scan(&random);
        CHECK(order_rank(order, key, KEY_LEN) <= NUMBERS);
        epoch_leave(slot);
    }
    epoch_slot_destroy(slot);
}

static void readers_find_what_is_there_all_the_time(void **state)
{
    struct adb_thread writers[WRITERS];
    struct adb_thread readers[READERS];
    unsigned ids[WRITERS > READERS ? WRITERS : READERS];
    char why[128];

    (void)state;
    assert_int_equal(epoch_create(&epoch), ARMDB_OK);
    assert_int_equal(arena_create(&arena), ARMDB_OK);
    assert_int_equal(hashmap_create(arena, epoch, &map), ARMDB_OK);
    assert_int_equal(order_create(arena, epoch, &order), ARMDB_OK);
    for (unsigned number = 0; number < NUMBERS; number += 4)
        assert_true(put(number));
    for (unsigned i = 0; i < sizeof ids / sizeof ids[0]; i++)
        ids[i] = i;
    for (unsigned i = 0; i < READERS; i++)
        assert_int_equal(adb_thread_start(&readers[i], run_reader, &ids[i]), ARMDB_OK);
    for (unsigned i = 0; i < WRITERS; i++)
        assert_int_equal(adb_thread_start(&writers[i], run_writer, &ids[i]), ARMDB_OK);
    for (unsigned i = 0; i < WRITERS; i++)
        adb_thread_join(&writers[i]);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < READERS; i++)
        adb_thread_join(&readers[i]);
    if (atomic_load(&failures) != 0)
        fail_msg("%d failures, the first in line %d", atomic_load(&failures),
                 atomic_load(&failed_line));
    assert_int_equal(hashmap_count(map), NUMBERS / 4);
    assert_int_equal(order_count(order), NUMBERS / 4);
    if (!hashmap_check(map, why, sizeof why) || !order_check(order, why, sizeof why))
        fail_msg("%s", why);
    epoch_drain(epoch);
    assert_int_equal(epoch_pending(epoch), 0);
    assert_int_equal(arena_bytes_used(arena), NUMBERS / 4 * (32 + KEY_LEN));
    hashmap_destroy(map);
    order_destroy(order);
    epoch_destroy(epoch);
    arena_destroy(arena);
    assert_int_equal(adb_mem_used_total(), 0);
}

/* ---- the hash map alone: large enough to split its groups under readers ---- */

enum { GROWTH = 400000, HELD = 2000 };

static node_ref held[HELD];

static void run_map_reader(void *arg)
{
    uint64_t random = first_seed + 100 + *(unsigned *)arg;
    struct epoch_slot *slot;

    if (epoch_slot_create(epoch, &slot) != ARMDB_OK) {
        CHECK(false);
        return;
    }
    while (!atomic_load(&stop)) {
        uint64_t i = next_random(&random) % HELD;
        uint64_t absent = i + UINT64_C(1000000000);

        epoch_enter(slot);
        CHECK(hashmap_find(map, hashmap_hash(map, &i, sizeof i), &i, sizeof i) ==
              held[i]);
        CHECK(hashmap_find(map, hashmap_hash(map, &absent, sizeof absent), &absent,
                           sizeof absent) == 0);
        epoch_leave(slot);
    }
    epoch_slot_destroy(slot);
}

static node_ref map_put(uint64_t number)
{
    uint64_t hash = hashmap_hash(map, &number, sizeof number);
    node_ref ref = arena_node_create(arena, &number, sizeof number);
    struct adb_mutex *token = hashmap_lock(map, hash);

    if (ref == 0 || hashmap_insert(map, hash, ref) != ARMDB_OK)
        fail_at(__LINE__);
    hashmap_unlock(token);
    return ref;
}

static void a_growing_and_shrinking_map_never_loses_a_key(void **state)
{
    struct adb_thread readers[READERS];
    node_ref *refs = calloc(GROWTH, sizeof *refs);
    unsigned ids[READERS];
    char why[128];

    (void)state;
    assert_non_null(refs);
    atomic_store(&stop, false);
    assert_int_equal(epoch_create(&epoch), ARMDB_OK);
    assert_int_equal(arena_create(&arena), ARMDB_OK);
    assert_int_equal(hashmap_create(arena, epoch, &map), ARMDB_OK);
    for (uint64_t i = 0; i < HELD; i++)
        held[i] = map_put(i);
    for (unsigned i = 0; i < READERS; i++) {
        ids[i] = i;
        assert_int_equal(adb_thread_start(&readers[i], run_map_reader, &ids[i]),
                         ARMDB_OK);
    }
    for (uint64_t i = HELD; i < GROWTH; i++)
        refs[i] = map_put(i);
    for (uint64_t i = HELD; i < GROWTH; i++) {
        uint64_t hash = hashmap_hash(map, &i, sizeof i);
        struct adb_mutex *token = hashmap_lock(map, hash);

        hashmap_remove(map, hash, refs[i]);
        hashmap_unlock(token);
        epoch_retire_handle(epoch, refs[i], free_node, arena);
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < READERS; i++)
        adb_thread_join(&readers[i]);
    if (atomic_load(&failures) != 0)
        fail_msg("%d failures, the first in line %d", atomic_load(&failures),
                 atomic_load(&failed_line));
    if (!hashmap_check(map, why, sizeof why))
        fail_msg("%s", why);
    hashmap_destroy(map);
    epoch_destroy(epoch);
    arena_destroy(arena);
    free(refs);
    assert_int_equal(adb_mem_used_total(), 0);
}

/* ---- the arena alone: one thread's blocks are freed by another ---- */

/* While the thread that frees is off its processor, the others go on retiring: how much
 * waits then is the scheduler's affair, not the arena's. So nobody retires more than
 * this before what waits is freed. */
enum { WAITING_MAX = 5000, ALLOCATIONS = 50000 };

static void run_allocator(void *arg)
{
    uint64_t random = first_seed + 200 + *(unsigned *)arg;
    node_ref refs[500] = {0};

    for (int step = 0; step < 2 * ALLOCATIONS; step++) {
        size_t i = next_random(&random) % 500;
        unsigned char key[64];
        size_t len = next_random(&random) % sizeof key;

        if (refs[i] != 0) {
            const struct node *node = arena_node(arena, refs[i]);

            for (uint32_t b = 0; b < node_key_len(node); b++)
                CHECK(node->key[b] == node->key[0]);
            epoch_retire_handle(epoch, refs[i], free_node, arena);
            refs[i] = 0;
            if (epoch_pending(epoch) > WAITING_MAX)
                epoch_drain(epoch);
            continue;
        }
        memset(key, (int)(next_random(&random) % 256), sizeof key);
        refs[i] = arena_node_create(arena, key, len);
        CHECK(refs[i] != 0);
    }
    for (size_t i = 0; i < 500; i++)
        if (refs[i] != 0)
            epoch_retire_handle(epoch, refs[i], free_node, arena);
}

static void blocks_travel_between_threads_without_loss(void **state)
{
    struct adb_thread threads[READERS];
    unsigned ids[READERS];

    (void)state;
    assert_int_equal(epoch_create(&epoch), ARMDB_OK);
    assert_int_equal(arena_create(&arena), ARMDB_OK);
    for (unsigned i = 0; i < READERS; i++) {
        ids[i] = i;
        assert_int_equal(adb_thread_start(&threads[i], run_allocator, &ids[i]), ARMDB_OK);
    }
    for (unsigned i = 0; i < READERS; i++)
        adb_thread_join(&threads[i]);
    epoch_drain(epoch);
    assert_int_equal(atomic_load(&failures), 0);
    assert_int_equal(arena_bytes_used(arena), 0);
    /* At most WAITING_MAX + 3 * 500 blocks of 96 bytes at a time; not used again, all
     * of them would take more than 8 MiB. */
    assert_true(arena_bytes(arena) < 4 * 1024 * 1024);
    epoch_destroy(epoch);
    arena_destroy(arena);
    assert_int_equal(adb_mem_used_total(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_find_what_is_there_all_the_time),
        cmocka_unit_test(a_growing_and_shrinking_map_never_loses_a_key),
        cmocka_unit_test(blocks_travel_between_threads_without_loss),
    };
    const char *seed = getenv("SEED");

    first_seed = seed != NULL ? strtoull(seed, NULL, 10) : 1;
    print_message("SEED=%llu\n", (unsigned long long)first_seed);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

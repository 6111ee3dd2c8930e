/* test_node.c - the arena: blocks do not overlap, come back, and are counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/index/node.h"

static uint64_t random_state;

static uint64_t next_random(void)
{
    uint64_t z = (random_state += UINT64_C(0x9E3779B97F4A7C15));

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static void seed_random(void)
{
    const char *seed = getenv("SEED");

    random_state = seed != NULL ? strtoull(seed, NULL, 10) : 1;
    print_message("SEED=%llu\n", (unsigned long long)random_state);
}

static struct arena *new_arena(void)
{
    struct arena *arena;

    assert_int_equal(arena_create(&arena), ARMDB_OK);
    assert_int_equal(arena_bytes_used(arena), 0);
    return arena;
}

static void end_arena(struct arena *arena)
{
    arena_destroy(arena);
    assert_int_equal(adb_mem_used_total(), 0);
}

/* A key whose bytes follow from its length and number. */
static void fill_key(unsigned char *key, size_t len, unsigned number)
{
    for (size_t i = 0; i < len; i++)
        key[i] = (unsigned char)(len * 7 + number * 31 + i);
}

static bool holds_key(const struct arena *arena, node_ref ref, size_t len,
                      unsigned number)
{
    const struct node *node = arena_node(arena, ref);

    if (node_key_len(node) != len)
        return false;
    for (size_t i = 0; i < len; i++)
        if (node->key[i] != (unsigned char)(len * 7 + number * 31 + i))
            return false;
    return true;
}

static void a_new_node_has_its_key_and_no_version(void **state)
{
    struct arena *arena = new_arena();
    node_ref ref = arena_node_create(arena, "abc", 3);
    struct node *node = arena_node(arena, ref);
    version_ref version;

    (void)state;
    assert_int_not_equal(ref, 0);
    assert_int_equal(atomic_load(&node->head), 0);
    assert_int_equal(node_key_len(node), 3);
    assert_memory_equal(node->key, "abc", 3);
    assert_ptr_equal(arena_version(arena, arena_inline_version(arena, ref)),
                     &node->first);
    atomic_fetch_or(&node->key_len_flags, NODE_DEAD | NODE_INLINE_USED);
    assert_int_equal(node_key_len(node), 3);
    version = arena_version_create(arena);
    assert_int_not_equal(version, 0);
    assert_int_equal(atomic_load(&arena_version(arena, version)->word), 0);
    assert_int_equal(arena_bytes_used(arena), 40 + 24);
    arena_version_free(arena, version);
    arena_node_free(arena, ref);
    assert_int_equal(arena_bytes_used(arena), 0);
    end_arena(arena);
}

static void keys_of_every_length_stay_apart(void **state)
{
    enum { COUNT = 3000 };
    struct arena *arena = new_arena();
    unsigned char *key = malloc(1 << 20);
    node_ref *refs = malloc(COUNT * sizeof *refs);
    size_t *lens = malloc(COUNT * sizeof *lens);

    (void)state;
    assert_true(key != NULL && refs != NULL && lens != NULL);
    for (unsigned i = 0; i < COUNT; i++) {
        lens[i] = i < 1000 ? i : (size_t)1 << (next_random() % 17);
        if (i >= 1000)
            lens[i] += next_random() % lens[i];
        if (i % 500 == 499)
            lens[i] = 1 << 20;
        fill_key(key, lens[i], i);
        refs[i] = arena_node_create(arena, key, lens[i]);
        assert_int_not_equal(refs[i], 0);
    }
    for (unsigned i = 0; i < COUNT; i++)
        assert_true(holds_key(arena, refs[i], lens[i], i));
    /* Every other one is freed and made anew; the others keep their keys. */
    for (unsigned i = 0; i < COUNT; i += 2)
        arena_node_free(arena, refs[i]);
    for (unsigned i = 0; i < COUNT; i += 2) {
        fill_key(key, lens[i], i + 5);
        refs[i] = arena_node_create(arena, key, lens[i]);
        assert_int_not_equal(refs[i], 0);
    }
    for (unsigned i = 0; i < COUNT; i++)
        assert_true(holds_key(arena, refs[i], lens[i], i % 2 == 0 ? i + 5 : i));
    for (unsigned i = 0; i < COUNT; i++)
        arena_node_free(arena, refs[i]);
    assert_int_equal(arena_bytes_used(arena), 0);
    free(lens);
    free(refs);
    free(key);
    end_arena(arena);
}

static void churn_takes_no_more_from_the_system(void **state)
{
    enum { COUNT = 5000 };
    struct arena *arena = new_arena();
    node_ref refs[COUNT];
    unsigned char key[400] = {0};
    uint64_t bytes = 0;

    (void)state;
    for (unsigned round = 0; round < 200; round++) {
        for (unsigned i = 0; i < COUNT; i++) {
            refs[i] = arena_node_create(arena, key, i % 400);
            assert_int_not_equal(refs[i], 0);
        }
        for (unsigned i = 0; i < COUNT; i++)
            arena_node_free(arena, refs[i]);
        if (round == 0)
            bytes = arena_bytes(arena);
        assert_int_equal(arena_bytes(arena), bytes);
        assert_int_equal(arena_bytes_used(arena), 0);
    }
    end_arena(arena);
}

static void long_keys_go_back_to_the_system(void **state)
{
    struct arena *arena = new_arena();
    unsigned char *key = calloc(1, 1 << 20);
    uint64_t before;

    (void)state;
    assert_non_null(key);
    /* The first block of all is a long one. */
    arena_node_free(arena, arena_node_create(arena, key, 1 << 20));
    before = arena_bytes(arena);
    for (int i = 0; i < 300; i++) {
        node_ref a = arena_node_create(arena, key, 1 << 20);
        node_ref b = arena_node_create(arena, key, 300000);
        node_ref c = arena_node_create(arena, key, 33000);

        assert_true(a != 0 && b != 0 && c != 0);
        arena_node_free(arena, b);
        arena_node_free(arena, a);
        arena_node_free(arena, c);
    }
    assert_int_equal(arena_bytes(arena), before);
    assert_int_equal(arena_bytes_used(arena), 0);
    free(key);
    end_arena(arena);
}

static void a_small_arena_is_small_and_a_large_one_tight(void **state)
{
    enum { COUNT = 200000 };
    struct arena *arena = new_arena();

    (void)state;
    assert_true(arena_bytes(arena) < 16 * 1024);
    assert_int_not_equal(arena_node_create(arena, "key", 3), 0);
    assert_true(arena_bytes(arena) < 96 * 1024);
    for (int i = 1; i < COUNT; i++)
        assert_int_not_equal(arena_node_create(arena, "0123456789abcdef", 16), 0);
    assert_int_equal(arena_bytes_used(arena), 48 * (COUNT - 1) + 40);
    assert_true(arena_bytes(arena) < arena_bytes_used(arena) + 2 * 1024 * 1024 + 65536);
    end_arena(arena);
}

static void without_memory_nothing_is_created(void **state)
{
    struct arena *arena;
    unsigned char key[3000] = {0};

    (void)state;
    adb_mem_fail_at(1, false);
    assert_int_equal(arena_create(&arena), ARMDB_NOMEM);
    assert_null(arena);
    arena = new_arena();
    for (uint64_t n = 1;; n++) {
        node_ref ref;

        adb_mem_fail_at(n, false);
        ref = arena_node_create(arena, key, sizeof key);
        adb_mem_fail_at(0, false);
        if (adb_mem_failures() == 0) {
            assert_int_not_equal(ref, 0);
            arena_node_free(arena, ref);
            break;
        }
        assert_int_equal(ref, 0);
        assert_int_equal(arena_bytes_used(arena), 0);
    }
    /* What is there can still be used up. */
    adb_mem_fail_at(1, true);
    while (arena_node_create(arena, key, sizeof key) != 0)
        continue;
    while (arena_version_create(arena) != 0)
        continue;
    adb_mem_fail_at(0, false);
    assert_int_not_equal(arena_node_create(arena, key, 1 << 11), 0);
    (void)adb_mem_failures();
    end_arena(arena);
}

static void random_blocks_keep_their_bytes(void **state)
{
    enum { COUNT = 2000, STEPS = 200000 };
    struct arena *arena = new_arena();
    node_ref refs[COUNT] = {0};
    size_t lens[COUNT] = {0};
    unsigned numbers[COUNT] = {0};
    static unsigned char key[60000];

    (void)state;
    for (unsigned step = 0; step < STEPS; step++) {
        size_t i = next_random() % COUNT;

        if (refs[i] != 0) {
            assert_true(holds_key(arena, refs[i], lens[i], numbers[i]));
            arena_node_free(arena, refs[i]);
            refs[i] = 0;
            continue;
        }
        lens[i] = next_random() % (next_random() % 200 == 0 ? sizeof key : 100);
        numbers[i] = step;
        fill_key(key, lens[i], step);
        refs[i] = arena_node_create(arena, key, lens[i]);
        assert_int_not_equal(refs[i], 0);
    }
    for (size_t i = 0; i < COUNT; i++)
        if (refs[i] != 0)
            arena_node_free(arena, refs[i]);
    assert_int_equal(arena_bytes_used(arena), 0);
    end_arena(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_node_has_its_key_and_no_version),
        cmocka_unit_test(keys_of_every_length_stay_apart),
        cmocka_unit_test(churn_takes_no_more_from_the_system),
        cmocka_unit_test(long_keys_go_back_to_the_system),
        cmocka_unit_test(a_small_arena_is_small_and_a_large_one_tight),
        cmocka_unit_test(without_memory_nothing_is_created),
        cmocka_unit_test(random_blocks_keep_their_bytes),
    };

    seed_random();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

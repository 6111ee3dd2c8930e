/* test_hashmap.c - the hash map against a table of what it should hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/index/hashmap.h"

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

struct fixture {
    struct arena *arena;
    struct epoch *epoch;
    struct hashmap *map;
};

static void begin(struct fixture *f)
{
    assert_int_equal(epoch_create(&f->epoch), ARMDB_OK);
    assert_int_equal(arena_create(&f->arena), ARMDB_OK);
    assert_int_equal(hashmap_create(f->arena, f->epoch, &f->map), ARMDB_OK);
}

static void check(const struct fixture *f)
{
    char why[128];

    if (!hashmap_check(f->map, why, sizeof why))
        fail_msg("hashmap_check: %s", why);
}

static void end(struct fixture *f)
{
    check(f);
    hashmap_destroy(f->map);
    epoch_destroy(f->epoch);
    arena_destroy(f->arena);
    assert_int_equal(adb_mem_used_total(), 0);
}

/* The key of a number: short ones, long ones, some with a long common prefix. */
static size_t make_key(uint64_t number, unsigned char *key)
{
    size_t len = number % 5 == 0 ? (number / 5) % 3 : 0;

    if (number == 0)
        return 0; /* the empty key */
    memset(key, 'p', 40);
    if (number % 3 == 0)
        len += 40;
    memcpy(key + len, &number, sizeof number);
    return len + sizeof number;
}

static node_ref find(const struct fixture *f, uint64_t number)
{
    unsigned char key[64];
    size_t len = make_key(number, key);

    return hashmap_find(f->map, hashmap_hash(f->map, key, len), key, len);
}

/* Inserts the key of a number; the node is *ref. */
static enum armdb_rc insert(struct fixture *f, uint64_t number, node_ref *ref)
{
    unsigned char key[64];
    size_t len = make_key(number, key);
    uint64_t hash = hashmap_hash(f->map, key, len);
    struct adb_mutex *token;
    enum armdb_rc rc;

    *ref = arena_node_create(f->arena, key, len);
    if (*ref == 0)
        return ARMDB_NOMEM;
    token = hashmap_lock(f->map, hash);
    rc = hashmap_insert(f->map, hash, *ref);
    hashmap_unlock(token);
    if (rc != ARMDB_OK) {
        arena_node_free(f->arena, *ref);
        *ref = 0;
    }
    return rc;
}

static void take_out(struct fixture *f, node_ref ref)
{
    struct node *node = arena_node(f->arena, ref);
    uint64_t hash = hashmap_hash(f->map, node->key, node_key_len(node));
    struct adb_mutex *token = hashmap_lock(f->map, hash);

    hashmap_remove(f->map, hash, ref);
    hashmap_unlock(token);
    arena_node_free(f->arena, ref);
}

static void an_empty_map_is_small_and_finds_nothing(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f);
    assert_true(hashmap_bytes(f.map) < 4096);
    assert_int_equal(hashmap_count(f.map), 0);
    assert_int_equal(find(&f, 0), 0);
    assert_int_equal(find(&f, 7), 0);
    hashmap_prefetch(f.map, 12345);
    hashmap_prefetch_node(f.map, 12345);
    end(&f);
}

static void random_inserts_and_removals_agree_with_a_model(void **state)
{
    enum { NUMBERS = 40000, STEPS = 1000000 };
    node_ref *model = calloc(NUMBERS, sizeof *model);
    uint64_t live = 0;
    struct fixture f;

    (void)state;
    assert_non_null(model);
    begin(&f);
    for (int step = 0; step < STEPS; step++) {
        /* The range moves, so that the map grows and shrinks. */
        uint64_t range = 10 + (uint64_t)NUMBERS * (unsigned)(step % 200000) / 200001;
        uint64_t number = next_random() % (range > NUMBERS ? NUMBERS : range);

        assert_int_equal(find(&f, number), model[number]);
        if (model[number] == 0) {
            assert_int_equal(insert(&f, number, &model[number]), ARMDB_OK);
            live++;
        } else {
            take_out(&f, model[number]);
            model[number] = 0;
            live--;
        }
        assert_int_equal(find(&f, number), model[number]);
        if (step % 50000 == 0) {
            assert_int_equal(hashmap_count(f.map), live);
            check(&f);
            epoch_collect(f.epoch);
        }
    }
    for (uint64_t i = 0; i < NUMBERS; i++)
        assert_int_equal(find(&f, i), model[i]);
    free(model);
    end(&f);
}

static void a_large_map_splits_and_stays_tight(void **state)
{
    enum { COUNT = 600000 };
    node_ref *refs = calloc(COUNT, sizeof *refs);
    struct fixture f;
    uint64_t bytes;

    (void)state;
    assert_non_null(refs);
    begin(&f);
    for (uint64_t i = 0; i < COUNT; i++) {
        assert_int_equal(insert(&f, i, &refs[i]), ARMDB_OK);
        if (i == 100 || i == 1000 || i == 30000 || i == 200000 || i == 300000)
            check(&f);
    }
    check(&f);
    bytes = hashmap_bytes(f.map);
    print_message("%.2f bytes a key\n", (double)bytes / COUNT);
    assert_true(bytes < (uint64_t)COUNT * 125 / 10);
    for (uint64_t i = 0; i < COUNT; i++)
        assert_int_equal(find(&f, i), refs[i]);
    for (uint64_t i = COUNT; i < 2 * COUNT; i++)
        assert_int_equal(find(&f, i), 0);
    /* Removing nine of ten gives memory back, removing all nearly everything. */
    for (uint64_t i = 0; i < COUNT; i++)
        if (i % 10 != 0)
            take_out(&f, refs[i]);
    check(&f);
    print_message("%.2f bytes a key\n", (double)hashmap_bytes(f.map) / (COUNT / 10.0));
    assert_true(hashmap_bytes(f.map) < bytes / 3);
    for (uint64_t i = 0; i < COUNT; i++)
        assert_int_equal(find(&f, i), i % 10 != 0 ? 0 : refs[i]);
    for (uint64_t i = 0; i < COUNT; i += 10)
        take_out(&f, refs[i]);
    assert_int_equal(hashmap_count(f.map), 0);
    assert_true(hashmap_bytes(f.map) < 64 * 1024);
    free(refs);
    end(&f);
}

static void churn_at_a_constant_size_does_not_grow(void **state)
{
    enum { COUNT = 20000 };
    node_ref *refs = calloc(COUNT, sizeof *refs);
    struct fixture f;
    uint64_t next = 0;
    uint64_t most = 0;
    uint64_t settled = 0;

    (void)state;
    assert_non_null(refs);
    begin(&f);
    for (; next < COUNT; next++)
        assert_int_equal(insert(&f, next, &refs[next]), ARMDB_OK);
    for (int round = 0; round < 40; round++) {
        for (int i = 0; i < COUNT; i++, next++) {
            take_out(&f, refs[next % COUNT]);
            assert_int_equal(insert(&f, next, &refs[next % COUNT]), ARMDB_OK);
        }
        if (hashmap_bytes(f.map) > most)
            most = hashmap_bytes(f.map);
        if (round == 4)
            settled = most;
    }
    print_message("%.2f bytes a key\n", (double)most / COUNT);
    assert_true(most < settled * 11 / 10);
    assert_true(most < (uint64_t)COUNT * 15);
    free(refs);
    end(&f);
}

static void reserved_room_needs_no_growth(void **state)
{
    enum { COUNT = 300000 };
    struct fixture f;
    node_ref ref;
    uint64_t bytes;

    (void)state;
    begin(&f);
    for (uint64_t i = 0; i < 1000; i++)
        assert_int_equal(insert(&f, i, &ref), ARMDB_OK);
    assert_int_equal(hashmap_reserve(f.map, COUNT), ARMDB_OK);
    check(&f);
    bytes = hashmap_bytes(f.map);
    for (uint64_t i = 1000; i < COUNT; i++)
        assert_int_equal(insert(&f, i, &ref), ARMDB_OK);
    /* A part in a thousand may get more than its share. */
    assert_true(hashmap_bytes(f.map) < bytes + bytes / 50);
    for (uint64_t i = 0; i < COUNT; i++)
        assert_int_not_equal(find(&f, i), 0);
    end(&f);
}

/* The items of keys 0 to count - 1 by group, in two pieces each. */
struct built {
    struct hashmap_item *items; /* room for all keys */
    size_t count;
};

static enum armdb_rc build(struct fixture *f, const struct built *groups)
{
    enum armdb_rc rc = ARMDB_OK;

    for (size_t g = 0; g < HASHMAP_GROUPS && rc == ARMDB_OK; g++) {
        size_t half = groups[g].count / 2;
        struct hashmap_items pieces[2] = {
            {groups[g].items, half}, {groups[g].items + half, groups[g].count - half}};

        rc = hashmap_build_group(f->map, g, pieces, 2);
    }
    return rc;
}

static void gather(struct fixture *f, uint64_t count, struct built *groups)
{
    for (size_t g = 0; g < HASHMAP_GROUPS; g++) {
        groups[g].count = 0;
        groups[g].items = calloc(count + 1, sizeof *groups[g].items);
    }
    for (uint64_t i = 0; i < count; i++) {
        unsigned char key[64];
        size_t len = make_key(i, key);
        uint64_t hash = hashmap_hash(f->map, key, len);
        struct built *group = &groups[hashmap_group(hash)];

        group->items[group->count].hash = (uint32_t)hash;
        group->items[group->count++].node = arena_node_create(f->arena, key, len);
    }
}

static void a_built_map_is_as_if_inserted_and_as_tight(void **state)
{
    static const uint64_t counts[] = {0, 1, 500, 100000, 300000};

    (void)state;
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        struct fixture f;
        struct built groups[HASHMAP_GROUPS];
        node_ref ref;

        begin(&f);
        gather(&f, counts[c], groups);
        assert_int_equal(build(&f, groups), ARMDB_OK);
        check(&f);
        assert_int_equal(hashmap_count(f.map), counts[c]);
        for (uint64_t i = 0; i < counts[c]; i++)
            assert_true(find(&f, i) != 0);
        assert_int_equal(find(&f, counts[c] + 1), 0);
        if (counts[c] >= 100000)
            assert_true(hashmap_bytes(f.map) <= 13 * counts[c]);
        for (uint64_t i = counts[c]; i < counts[c] + 1000; i++)
            assert_int_equal(insert(&f, i, &ref), ARMDB_OK);
        for (uint64_t i = 0; i < counts[c] + 1000; i += 3)
            take_out(&f, find(&f, i));
        assert_int_equal(hashmap_count(f.map),
                         counts[c] + 1000 - (counts[c] + 1000 + 2) / 3);
        for (size_t g = 0; g < HASHMAP_GROUPS; g++)
            free(groups[g].items);
        end(&f);
    }
}

static void a_group_built_without_memory_stays_empty(void **state)
{
    enum armdb_rc rc = ARMDB_NOMEM;

    (void)state;
    for (uint64_t n = 1; rc != ARMDB_OK; n += 7) {
        struct fixture f;
        struct built groups[HASHMAP_GROUPS];

        begin(&f);
        gather(&f, 200000, groups);
        adb_mem_fail_at(n, false);
        rc = build(&f, groups);
        adb_mem_fail_at(0, false);
        assert_true(rc == ARMDB_OK || rc == ARMDB_NOMEM);
        for (size_t g = 0; g < HASHMAP_GROUPS; g++)
            free(groups[g].items);
        end(&f);
        n += n > 40 ? 150 : 0; /* all groups are alike */
    }
    assert_true(adb_mem_failures() > 0);
}

static void every_failed_allocation_leaves_the_map_intact(void **state)
{
    /* Enough for groups, growth and the split of groups (the last ones). */
    enum { COUNT = 330000 };
    struct fixture f;
    uint64_t failures = 0;
    node_ref ref;

    (void)state;
    begin(&f);
    for (uint64_t i = 0; i < COUNT; i++) {
        for (uint64_t n = 1;; n++) {
            uint64_t injected;
            enum armdb_rc rc;

            adb_mem_fail_at(n, false);
            rc = insert(&f, i, &ref);
            adb_mem_fail_at(0, false);
            injected = adb_mem_failures();
            if (rc == ARMDB_OK)
                break;
            assert_int_equal(rc, ARMDB_NOMEM);
            assert_int_equal(injected, 1);
            assert_int_equal(hashmap_count(f.map), i);
            assert_int_equal(find(&f, i), 0);
            if (++failures % 400 == 0)
                check(&f);
        }
    }
    assert_true(failures > 3000);
    check(&f);
    end(&f);
}

static void removing_needs_no_memory(void **state)
{
    enum { COUNT = 5000 };
    node_ref refs[COUNT];
    struct fixture f;

    (void)state;
    begin(&f);
    for (uint64_t i = 0; i < COUNT; i++)
        assert_int_equal(insert(&f, i, &refs[i]), ARMDB_OK);
    adb_mem_fail_at(1, true);
    for (uint64_t i = 0; i < COUNT; i++) {
        take_out(&f, refs[i]);
        assert_int_equal(find(&f, i), 0);
    }
    adb_mem_fail_at(0, false);
    assert_true(adb_mem_failures() > 0);
    assert_int_equal(hashmap_count(f.map), 0);
    end(&f);
}

static void creation_and_reserving_without_memory_say_so(void **state)
{
    struct hashmap *map;
    struct fixture f;

    (void)state;
    begin(&f);
    adb_mem_fail_at(1, false);
    assert_int_equal(hashmap_create(f.arena, f.epoch, &map), ARMDB_NOMEM);
    assert_null(map);
    hashmap_destroy(NULL);
    /* What was reserved before memory ran out stays, so this comes to an end. */
    for (uint64_t n = 1;; n += 7) {
        enum armdb_rc rc;

        adb_mem_fail_at(n, true);
        rc = hashmap_reserve(f.map, 1000000);
        adb_mem_fail_at(0, false);
        check(&f);
        if (rc == ARMDB_OK)
            break;
        assert_int_equal(rc, ARMDB_NOMEM);
    }
    (void)adb_mem_failures();
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_map_is_small_and_finds_nothing),
        cmocka_unit_test(random_inserts_and_removals_agree_with_a_model),
        cmocka_unit_test(a_large_map_splits_and_stays_tight),
        cmocka_unit_test(churn_at_a_constant_size_does_not_grow),
        cmocka_unit_test(reserved_room_needs_no_growth),
        cmocka_unit_test(a_built_map_is_as_if_inserted_and_as_tight),
        cmocka_unit_test(a_group_built_without_memory_stays_empty),
        cmocka_unit_test(every_failed_allocation_leaves_the_map_intact),
        cmocka_unit_test(removing_needs_no_memory),
        cmocka_unit_test(creation_and_reserving_without_memory_say_so),
    };

    seed_random();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

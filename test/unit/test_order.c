/* test_order.c - the order index against a sorted array.
 *
 * Every test runs on keys of several shapes: random ones, paths, keys that differ only
 * far behind, keys of few letters where one is often a prefix of another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/index/order.h"

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

/* ThreadSanitizer makes everything 20 times slower; one thread gives it little to see. */
#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define SMALLER 8
#endif
#elif defined(__SANITIZE_THREAD__)
#define SMALLER 8
#endif
#ifndef SMALLER
#define SMALLER 1
#endif

/* ---- keys ---- */

enum { KEY_MAX = 200 };

struct key {
    size_t len;
    node_ref ref; /* 0 = not in the index */
    unsigned char bytes[KEY_MAX];
};

enum shape { RANDOM, PATHS, LATE, FEW_LETTERS, COUNTER, SHAPES };

static int compare_keys(const void *a, const void *b)
{
    const struct key *x = a;
    const struct key *y = b;
    int order = memcmp(x->bytes, y->bytes, x->len < y->len ? x->len : y->len);

    return order != 0 ? order : (x->len > y->len) - (x->len < y->len);
}

static void make_key(enum shape shape, uint64_t number, struct key *key)
{
    uint64_t r = next_random();

    memset(key, 0, sizeof *key);
    switch (shape) {
    case RANDOM:
        key->len = 8 + r % 9;
        memcpy(key->bytes, &r, 8);
        memcpy(key->bytes + 8, &number, 8);
        break;
    case PATHS:
        key->len =
            (size_t)snprintf((char *)key->bytes, KEY_MAX,
                             "/usr/share/doc/lib%s-package-%02u/examples/file%u.txt",
                             r % 3 == 0 ? "x" : "long-name", (unsigned)(r >> 8) % 40,
                             (unsigned)(r >> 20) % 2000);
        break;
    case LATE:
        /* Runs of keys that share 150 bytes, and another byte before them. */
        memset(key->bytes, 'm', 150);
        key->bytes[0] = (unsigned char)(r % 5);
        key->len = 150 + 1 + (r >> 10) % 20;
        memset(key->bytes + 150, 0, 20);
        key->bytes[150] = (unsigned char)(r >> 20);
        key->bytes[key->len - 1] = (unsigned char)(r >> 30);
        break;
    case FEW_LETTERS:
        /* Down to the empty key; zero bytes at the end count. */
        key->len = r % 13;
        for (size_t i = 0; i < key->len; i++)
            key->bytes[i] = (r >> (8 + 2 * i)) % 4 == 0   ? 0xff
                            : (r >> (8 + 2 * i)) % 4 == 1 ? 1
                                                          : 0;
        break;
    case COUNTER:
    case SHAPES:
    default:
        key->len = 12;
        memcpy(key->bytes, "row:", 4);
        for (int i = 0; i < 8; i++)
            key->bytes[4 + i] = (unsigned char)(number >> (56 - 8 * i));
        break;
    }
}

/* `*count` different keys, in order; fewer if the shape has no more. */
static struct key *make_keys(enum shape shape, size_t *count)
{
    struct key *keys = calloc(*count + 1, sizeof *keys);
    size_t unique = 0;

    assert_non_null(keys);
    for (size_t i = 0; i < *count; i++)
        make_key(shape, i, &keys[i]);
    qsort(keys, *count, sizeof *keys, compare_keys);
    for (size_t i = 0; i < *count; i++)
        if (unique == 0 || compare_keys(&keys[unique - 1], &keys[i]) != 0)
            keys[unique++] = keys[i];
    *count = unique;
    return keys;
}

/* ---- the index under test ---- */

struct fixture {
    struct arena *arena;
    struct epoch *epoch;
    struct epoch_slot *slot;
    struct order *order;
};

static void begin(struct fixture *f)
{
    assert_int_equal(epoch_create(&f->epoch), ARMDB_OK);
    assert_int_equal(epoch_slot_create(f->epoch, &f->slot), ARMDB_OK);
    assert_int_equal(arena_create(&f->arena), ARMDB_OK);
    assert_int_equal(order_create(f->arena, f->epoch, &f->order), ARMDB_OK);
}

static void check(const struct fixture *f)
{
    char why[128];

    if (!order_check(f->order, why, sizeof why))
        fail_msg("order_check: %s", why);
}

static void end(struct fixture *f)
{
    check(f);
    order_destroy(f->order);
    epoch_slot_destroy(f->slot);
    epoch_destroy(f->epoch);
    arena_destroy(f->arena);
    assert_int_equal(adb_mem_used_total(), 0);
}

static void free_node(void *context, uint64_t handle)
{
    arena_node_free(context, (node_ref)handle);
}

static enum armdb_rc insert(struct fixture *f, struct key *key)
{
    node_ref ref = arena_node_create(f->arena, key->bytes, key->len);
    enum armdb_rc rc;

    if (ref == 0)
        return ARMDB_NOMEM;
    epoch_enter(f->slot);
    rc = order_insert(f->order, ref);
    epoch_leave(f->slot);
    if (rc != ARMDB_OK)
        arena_node_free(f->arena, ref);
    else
        key->ref = ref;
    return rc;
}

/* The node is freed as the store does it, so that a separator or a stale entry that
 * still needs it is found by the sanitizer or by a key that changed. */
static void take_out(struct fixture *f, struct key *key)
{
    epoch_enter(f->slot);
    order_remove(f->order, key->ref);
    epoch_leave(f->slot);
    epoch_retire_handle(f->epoch, key->ref, free_node, f->arena);
    key->ref = 0;
}

/* Compares one batch with the model. */
static void check_batch(struct fixture *f, const struct key *keys, size_t count,
                        size_t at, bool inclusive, bool reverse, size_t max)
{
    struct order_from from = {keys[at].bytes, keys[at].len, inclusive, reverse};
    node_ref nodes[ORDER_BATCH_MAX];
    size_t delivered;
    size_t i = at;
    size_t n = 0;

    epoch_enter(f->slot);
    order_scan(f->order, &from, nodes, max, &delivered);
    epoch_leave(f->slot);
    if (!inclusive)
        i += reverse ? SIZE_MAX : 1;
    for (; i < count && n < max; i += reverse ? SIZE_MAX : 1) {
        if (keys[i].ref == 0)
            continue;
        if (n >= delivered || nodes[n] != keys[i].ref)
            fail_msg("scan of %zu from key %zu differs at row %zu", max, at, n);
        n++;
    }
    assert_int_equal(delivered, n);
}

/* Walks the whole index in batches of `max` and compares with the model. */
static void check_walk(struct fixture *f, const struct key *keys, size_t count,
                       size_t max, bool reverse)
{
    struct order_from from = {.reverse = reverse};
    unsigned char last[KEY_MAX];
    size_t i = reverse ? count - 1 : 0;
    node_ref nodes[ORDER_BATCH_MAX];
    size_t delivered;

    for (;;) {
        const struct node *node;

        epoch_enter(f->slot);
        order_scan(f->order, &from, nodes, max, &delivered);
        for (size_t n = 0; n < delivered; n++) {
            while (i < count && keys[i].ref == 0)
                i += reverse ? SIZE_MAX : 1;
            assert_true(i < count);
            assert_int_equal(nodes[n], keys[i].ref);
            i += reverse ? SIZE_MAX : 1;
        }
        if (delivered == 0) {
            epoch_leave(f->slot);
            break;
        }
        node = arena_node(f->arena, nodes[delivered - 1]);
        from.key_len = node_key_len(node);
        memcpy(last, node->key, from.key_len);
        from.key = last;
        epoch_leave(f->slot);
    }
    while (i < count && keys[i].ref == 0)
        i += reverse ? SIZE_MAX : 1;
    assert_true(i >= count);
}

static void shuffle(size_t *order, size_t count)
{
    for (size_t i = 0; i < count; i++)
        order[i] = i;
    for (size_t i = count; i > 1; i--) {
        size_t j = next_random() % i;
        size_t swap = order[i - 1];

        order[i - 1] = order[j];
        order[j] = swap;
    }
}

/* ---- tests ---- */

static void an_empty_index_has_no_key(void **state)
{
    struct order_from from = {.inclusive = true};
    node_ref nodes[ORDER_BATCH_MAX];
    struct fixture f;
    size_t count = 1;

    (void)state;
    begin(&f);
    for (int i = 0; i < 4; i++) {
        from.reverse = i % 2 == 1;
        from.key = i < 2 ? NULL : "key";
        from.key_len = i < 2 ? 0 : 3;
        order_scan(f.order, &from, nodes, ORDER_BATCH_MAX, &count);
        assert_int_equal(count, 0);
    }
    assert_int_equal(order_rank(f.order, "key", 3), 0);
    assert_true(order_bytes(f.order) < 1024);
    end(&f);
}

static void batches_of_every_size_agree_with_the_model(void **state)
{
    static const size_t sizes[] = {1,  2,  8,   9,    40,   72,   73,
                                   80, 81, 200, 1000, 6000, 30000};

    (void)state;
    for (int shape = 0; shape < SHAPES; shape++)
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            size_t count = sizes[s] * 2; /* every other one is absent */
            struct key *keys = make_keys((enum shape)shape, &count);
            size_t *order = calloc(count + 1, sizeof *order);
            struct fixture f;

            assert_non_null(order);
            begin(&f);
            shuffle(order, count);
            for (size_t i = 0; i < count / 2; i++)
                assert_int_equal(insert(&f, &keys[order[i]]), ARMDB_OK);
            assert_int_equal(order_count(f.order), count / 2);
            check(&f);
            for (size_t max = 1; max <= ORDER_BATCH_MAX; max++) {
                if (count < 1000 / SMALLER || max % 31 == 1 || max == ORDER_BATCH_MAX) {
                    check_walk(&f, keys, count, max, false);
                    check_walk(&f, keys, count, max, true);
                }
                for (int i = 0; i < 4; i++)
                    check_batch(&f, keys, count, next_random() % count, i % 2 == 0,
                                i / 2 == 0, max);
            }
            free(order);
            free(keys);
            end(&f);
        }
}

static void random_inserts_and_removals_agree_with_the_model(void **state)
{
    (void)state;
    for (int shape = 0; shape < SHAPES; shape++) {
        size_t count = 20000 / SMALLER;
        struct key *keys = make_keys((enum shape)shape, &count);
        uint64_t live = 0;
        struct fixture f;

        begin(&f);
        for (int step = 0; step < 120000 / SMALLER; step++) {
            /* The share of keys present rises and falls, from none to nearly all. */
            unsigned want = (unsigned)(step / (15000 / SMALLER)) % 2 == 0 ? 90 : 3;
            struct key *key = &keys[next_random() % count];

            if (key->ref == 0 && next_random() % 100 < want) {
                assert_int_equal(insert(&f, key), ARMDB_OK);
                live++;
            } else if (key->ref != 0 && next_random() % 100 >= want) {
                take_out(&f, key);
                live--;
            }
            if (step % 30 == 0)
                check_batch(&f, keys, count, next_random() % count, step % 4 < 2,
                            step % 8 < 4, 1 + next_random() % ORDER_BATCH_MAX);
            if (step % (5000 / SMALLER) == 0) {
                check(&f);
                assert_int_equal(order_count(f.order), live);
                check_walk(&f, keys, count, 1 + next_random() % ORDER_BATCH_MAX, false);
                check_walk(&f, keys, count, 1 + next_random() % ORDER_BATCH_MAX, true);
            }
        }
        free(keys);
        end(&f);
    }
}

/* Removes ranges, so that whole inner blocks empty at once, in all directions. */
static void ranges_can_be_emptied_and_filled_again(void **state)
{
    (void)state;
    for (int shape = 0; shape < SHAPES; shape++) {
        size_t count = 60000 / SMALLER;
        struct key *keys = make_keys((enum shape)shape, &count);
        struct fixture f;

        begin(&f);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(insert(&f, &keys[i]), ARMDB_OK);
        check(&f);
        for (int round = 0; round < 30; round++) {
            size_t from = next_random() % count;
            size_t to = from + next_random() % (count - from) + 1;
            bool down = round % 2 == 1;

            for (size_t n = 0; n < to - from; n++) {
                struct key *key = &keys[down ? to - 1 - n : from + n];

                if (key->ref != 0)
                    take_out(&f, key);
                else if (round % 3 == 0)
                    assert_int_equal(insert(&f, key), ARMDB_OK);
            }
            check(&f);
            check_walk(&f, keys, count, ORDER_BATCH_MAX, down);
        }
        for (size_t i = 0; i < count; i++)
            if (keys[i].ref != 0)
                take_out(&f, &keys[i]);
        assert_int_equal(order_count(f.order), 0);
        check(&f);
        assert_true(order_bytes(f.order) < 4096);
        free(keys);
        end(&f);
    }
}

static void removing_gives_memory_back(void **state)
{
    size_t count = 200000 / SMALLER;
    struct key *keys = make_keys(RANDOM, &count);
    size_t *order = calloc(count, sizeof *order);
    uint64_t full;
    uint64_t tenth;
    struct fixture f;

    (void)state;
    assert_non_null(order);
    shuffle(order, count);
    begin(&f);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(insert(&f, &keys[order[i]]), ARMDB_OK);
    full = order_bytes(f.order);
    shuffle(order, count);
    for (size_t i = 0; i < count - count / 10; i++)
        take_out(&f, &keys[order[i]]);
    check(&f);
    tenth = order_bytes(f.order);
    epoch_drain(f.epoch);
    /* What the allocator counts is what the index says, once the readers are gone. */
    assert_true(adb_mem_used(ADB_MEM_ORDER) >= tenth);
    assert_true(adb_mem_used(ADB_MEM_ORDER) < tenth + 4096);
    for (size_t i = count - count / 10; i < count; i++)
        take_out(&f, &keys[order[i]]);
    print_message("bytes: %llu, after nine of ten %llu, after all %llu\n",
                  (unsigned long long)full, (unsigned long long)tenth,
                  (unsigned long long)order_bytes(f.order));
    assert_true(full < count * 17);
    assert_true(tenth < full / 5);
    assert_true(order_bytes(f.order) < 4096);
    free(order);
    free(keys);
    end(&f);
}

static void churn_at_a_constant_size_does_not_grow(void **state)
{
    enum { LIVE = 5000 };
    size_t count = 400000 / SMALLER;
    struct key *keys = make_keys(COUNTER, &count);
    uint64_t most = 0;
    struct fixture f;

    (void)state;
    begin(&f);
    /* A queue: in at one end, out at the other. */
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(insert(&f, &keys[i]), ARMDB_OK);
        if (i >= LIVE)
            take_out(&f, &keys[i - LIVE]);
        if (order_bytes(f.order) > most)
            most = order_bytes(f.order);
    }
    print_message("%.1f bytes a key\n", (double)most / LIVE);
    assert_true(most < LIVE * 25);
    epoch_drain(f.epoch);
    assert_true(arena_bytes(f.arena) < 2 * 1024 * 1024);
    free(keys);
    end(&f);
}

static void a_built_index_is_like_an_inserted_one(void **state)
{
    static const size_t sizes[] = {0,    1,    64,   65,    128,   129,
                                   7000, 7424, 7425, 30000, 60000, 230000};

    (void)state;
    for (int shape = 0; shape < SHAPES; shape++)
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            size_t count = sizes[s];
            struct key *keys = make_keys((enum shape)shape, &count);
            node_ref *refs = calloc(count + 1, sizeof *refs);
            struct fixture f;

            if (count > 100000 / SMALLER && shape != RANDOM) {
                free(refs);
                free(keys);
                continue;
            }
            assert_non_null(refs);
            begin(&f);
            for (size_t i = 0; i < count; i++) {
                refs[i] = arena_node_create(f.arena, keys[i].bytes, keys[i].len);
                keys[i].ref = refs[i];
            }
            assert_int_equal(order_build(f.order, refs, count), ARMDB_OK);
            check(&f);
            assert_int_equal(order_count(f.order), count);
            if (count > 0) {
                check_walk(&f, keys, count, 100, false);
                check_walk(&f, keys, count, 100, true);
            }
            if (count > 5000)
                assert_true(order_bytes(f.order) < count * 19);
            /* It can be changed like any other. */
            for (size_t i = 0; i < count; i += 3)
                take_out(&f, &keys[i]);
            for (size_t i = 0; i < count; i += 6)
                assert_int_equal(insert(&f, &keys[i]), ARMDB_OK);
            if (count > 0)
                check_walk(&f, keys, count, 77, s % 2 == 0);
            free(refs);
            free(keys);
            end(&f);
        }
}

static void every_failed_allocation_of_an_insert_changes_nothing(void **state)
{
    (void)state;
    for (int shape = 0; shape < SHAPES; shape++) {
        size_t count = 12000 / SMALLER;
        struct key *keys = make_keys((enum shape)shape, &count);
        size_t *order = calloc(count, sizeof *order);
        uint64_t failures = 0;
        struct fixture f;

        assert_non_null(order);
        begin(&f);
        shuffle(order, count);
        for (size_t i = 0; i < count; i++)
            for (uint64_t n = 1;; n++) {
                uint64_t injected;
                enum armdb_rc rc;

                adb_mem_fail_at(n, false);
                rc = insert(&f, &keys[order[i]]);
                adb_mem_fail_at(0, false);
                injected = adb_mem_failures();
                if (rc == ARMDB_OK)
                    break;
                assert_int_equal(rc, ARMDB_NOMEM);
                assert_int_equal(injected, 1);
                assert_int_equal(order_count(f.order), i);
                if (++failures % 50 == 0) {
                    check(&f);
                    check_walk(&f, keys, count, 50, failures % 100 == 0);
                }
            }
        assert_true(failures > count / 10);
        free(order);
        free(keys);
        end(&f);
    }
}

static void every_failed_allocation_of_a_build_changes_nothing(void **state)
{
    size_t count = 10000;
    struct key *keys = make_keys(PATHS, &count);
    node_ref *refs = calloc(count, sizeof *refs);
    struct fixture f;
    uint64_t n;

    (void)state;
    assert_non_null(refs);
    begin(&f);
    for (size_t i = 0; i < count; i++)
        refs[i] = arena_node_create(f.arena, keys[i].bytes, keys[i].len);
    for (n = 1;; n++) {
        uint64_t before = adb_mem_used(ADB_MEM_ORDER);
        enum armdb_rc rc;

        adb_mem_fail_at(n, false);
        rc = order_build(f.order, refs, count);
        adb_mem_fail_at(0, false);
        if (rc == ARMDB_OK)
            break;
        assert_int_equal(rc, ARMDB_NOMEM);
        assert_int_equal(order_count(f.order), 0);
        assert_int_equal(adb_mem_used(ADB_MEM_ORDER), before);
        check(&f);
    }
    assert_true(n > 300);
    (void)adb_mem_failures();
    assert_int_equal(order_count(f.order), count);
    free(refs);
    free(keys);
    end(&f);
}

/* Removing without any memory, then with failures here and there, then inserting. */
static void removing_never_fails(void **state)
{
    (void)state;
    for (int shape = 0; shape < SHAPES; shape++) {
        size_t count = 20000 / SMALLER;
        struct key *keys = make_keys((enum shape)shape, &count);
        size_t *order = calloc(count, sizeof *order);
        struct fixture f;

        assert_non_null(order);
        begin(&f);
        shuffle(order, count);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(insert(&f, &keys[order[i]]), ARMDB_OK);
        for (size_t i = 0; i < count / 2; i++) {
            adb_mem_fail_at(1, true);
            epoch_enter(f.slot);
            order_remove(f.order, keys[order[i]].ref);
            epoch_leave(f.slot);
            adb_mem_fail_at(0, false);
            arena_node_free(f.arena, keys[order[i]].ref);
            keys[order[i]].ref = 0;
        }
        check(&f);
        check_walk(&f, keys, count, 20, false);
        check_walk(&f, keys, count, 20, true);
        for (size_t i = count / 2; i < count; i++) {
            adb_mem_fail_at(1 + next_random() % 4, false);
            take_out(&f, &keys[order[i]]);
            adb_mem_fail_at(0, false);
            if (i % 500 == 0) {
                check(&f);
                check_walk(&f, keys, count, 20, i % 1000 == 0);
            }
        }
        assert_true(adb_mem_failures() > 0);
        assert_int_equal(order_count(f.order), 0);
        check(&f);
        check_walk(&f, keys, count, 128, true);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(insert(&f, &keys[order[i]]), ARMDB_OK);
        check_walk(&f, keys, count, 128, false);
        free(order);
        free(keys);
        end(&f);
    }
}

/* Keys of a mebibyte that differ in their last bytes: separators are as long. */
static void keys_of_a_mebibyte_work(void **state)
{
    enum { COUNT = 250, LEN = 1 << 20 };
    unsigned char *key = malloc(LEN);
    node_ref refs[COUNT];
    struct order_from from = {.key = key, .inclusive = true};
    node_ref nodes[ORDER_BATCH_MAX];
    struct fixture f;
    size_t count;

    (void)state;
    assert_non_null(key);
    memset(key, 'k', LEN);
    begin(&f);
    for (int i = 0; i < COUNT; i++) {
        key[LEN - 1] = (unsigned char)(i * 7);
        refs[i] = arena_node_create(f.arena, key, LEN);
        assert_int_not_equal(refs[i], 0);
        assert_int_equal(order_insert(f.order, refs[i]), ARMDB_OK);
    }
    check(&f);
    for (int i = 0; i < COUNT; i++) {
        key[LEN - 1] = (unsigned char)(i * 7);
        from.key_len = LEN;
        order_scan(f.order, &from, nodes, 1, &count);
        assert_int_equal(count, 1);
        assert_int_equal(nodes[0], refs[i]);
    }
    for (int i = 0; i < COUNT; i++)
        order_remove(f.order, refs[i]);
    epoch_drain(f.epoch);
    assert_true(adb_mem_used(ADB_MEM_ORDER) < 2 * LEN);
    free(key);
    end(&f);
}

/* A key that shares less than its neighbours do, beside and between long prefixes. */
static void keys_beside_a_long_prefix_find_their_place(void **state)
{
    size_t count = 30000;
    struct key *keys = make_keys(PATHS, &count);
    static const char *const odd[] = {"",
                                      "/",
                                      "/usr",
                                      "/usr/share/doc/libl",
                                      "/usr/share/docs",
                                      "/usr/share/doc/liby",
                                      "/usr/zzz",
                                      "zzz",
                                      "\xff\xff"};
    size_t odd_count = sizeof odd / sizeof odd[0];
    struct fixture f;

    (void)state;
    keys = realloc(keys, (count + odd_count) * sizeof *keys);
    assert_non_null(keys);
    for (size_t i = 0; i < odd_count; i++) {
        memset(&keys[count + i], 0, sizeof keys[0]);
        keys[count + i].len = strlen(odd[i]);
        memcpy(keys[count + i].bytes, odd[i], keys[count + i].len);
    }
    count += odd_count;
    qsort(keys, count, sizeof *keys, compare_keys);
    begin(&f);
    for (size_t i = 0; i < count; i++)
        if (keys[i].bytes[keys[i].len / 2] != 0 && keys[i].len > 30)
            assert_int_equal(insert(&f, &keys[i]), ARMDB_OK);
    for (size_t i = 0; i < count; i++)
        check_batch(&f, keys, count, i, i % 2 == 0, i % 4 < 2, 3);
    for (size_t i = 0; i < count; i++)
        if (keys[i].ref == 0)
            assert_int_equal(insert(&f, &keys[i]), ARMDB_OK);
    check(&f);
    check_walk(&f, keys, count, 9, false);
    check_walk(&f, keys, count, 9, true);
    free(keys);
    end(&f);
}

static void ranks_of_a_million_keys_are_about_right(void **state)
{
    enum { COUNT = 1000000 / SMALLER };
    struct fixture f;
    uint64_t key;
    double worst = 0;

    (void)state;
    begin(&f);
    for (uint64_t i = 0; i < COUNT; i++) {
        node_ref ref;

        key = next_random();
        ref = arena_node_create(f.arena, &key, sizeof key);
        assert_int_equal(order_insert(f.order, ref), ARMDB_OK);
    }
    for (unsigned i = 0; i <= 256; i++) {
        unsigned char edge[2] = {(unsigned char)i, 0};
        uint64_t rank = i == 256 ? order_rank(f.order, "\xff\xff\xff\xff", 4)
                                 : order_rank(f.order, edge, 1);
        double error = (double)rank / COUNT - i / 256.0;

        worst = error > worst ? error : -error > worst ? -error : worst;
    }
    print_message("worst error of a rank: %.2f %% of all keys\n", worst * 100);
    assert_true(worst < 0.05);
    end(&f);
}

static void creation_without_memory_says_so(void **state)
{
    struct order *order;
    struct fixture f;

    (void)state;
    begin(&f);
    for (uint64_t n = 1; n <= 2; n++) {
        adb_mem_fail_at(n, false);
        assert_int_equal(order_create(f.arena, f.epoch, &order), ARMDB_NOMEM);
        assert_null(order);
    }
    adb_mem_fail_at(0, false);
    (void)adb_mem_failures();
    order_destroy(NULL);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_index_has_no_key),
        cmocka_unit_test(batches_of_every_size_agree_with_the_model),
        cmocka_unit_test(random_inserts_and_removals_agree_with_the_model),
        cmocka_unit_test(ranges_can_be_emptied_and_filled_again),
        cmocka_unit_test(removing_gives_memory_back),
        cmocka_unit_test(churn_at_a_constant_size_does_not_grow),
        cmocka_unit_test(a_built_index_is_like_an_inserted_one),
        cmocka_unit_test(every_failed_allocation_of_an_insert_changes_nothing),
        cmocka_unit_test(every_failed_allocation_of_a_build_changes_nothing),
        cmocka_unit_test(removing_never_fails),
        cmocka_unit_test(keys_of_a_mebibyte_work),
        cmocka_unit_test(keys_beside_a_long_prefix_find_their_place),
        cmocka_unit_test(ranks_of_a_million_keys_are_about_right),
        cmocka_unit_test(creation_without_memory_says_so),
    };

    seed_random();
    return cmocka_run_group_tests(tests, NULL, NULL);
}

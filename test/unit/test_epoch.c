/* test_epoch.c - reclamation: nothing is freed under a reader, everything is in time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/base/mem.h"
#include "engine/index/epoch.h"

struct thing {
    struct epoch_item item;
    int *freed;
    struct epoch *again; /* retire `other` when freed; or NULL */
    struct thing *other;
};

static void free_thing(void *context, struct epoch_item *item)
{
    struct thing *thing = (struct thing *)item;

    (*thing->freed)++;
    if (thing->again != NULL)
        epoch_retire(thing->again, &thing->other->item, free_thing, context);
    free(thing);
}

static void free_number(void *context, uint64_t handle)
{
    uint64_t *sum = context;

    *sum += handle;
}

static struct thing *new_thing(int *freed)
{
    struct thing *thing = calloc(1, sizeof *thing);

    assert_non_null(thing);
    thing->freed = freed;
    return thing;
}

static struct epoch *new_epoch(struct epoch_slot **slot)
{
    struct epoch *epoch;

    assert_int_equal(epoch_create(&epoch), ARMDB_OK);
    assert_int_equal(epoch_slot_create(epoch, slot), ARMDB_OK);
    return epoch;
}

static void end_epoch(struct epoch *epoch, struct epoch_slot *slot)
{
    epoch_slot_destroy(slot);
    epoch_destroy(epoch);
    assert_int_equal(adb_mem_used_total(), 0);
}

static void an_item_waits_for_the_reader_who_was_inside(void **state)
{
    struct epoch_slot *slot;
    struct epoch *epoch = new_epoch(&slot);
    int freed = 0;

    (void)state;
    epoch_enter(slot);
    epoch_retire(epoch, &new_thing(&freed)->item, free_thing, NULL);
    for (int i = 0; i < 10; i++)
        epoch_collect(epoch);
    assert_int_equal(freed, 0);
    assert_int_equal(epoch_pending(epoch), 1);
    epoch_leave(slot);
    epoch_collect(epoch);
    assert_int_equal(freed, 1);
    assert_int_equal(epoch_pending(epoch), 0);
    end_epoch(epoch, slot);
}

static void a_reader_of_today_holds_up_what_is_retired_today(void **state)
{
    struct epoch_slot *slot;
    struct epoch_slot *other;
    struct epoch *epoch = new_epoch(&slot);
    int freed = 0;

    (void)state;
    assert_int_equal(epoch_slot_create(epoch, &other), ARMDB_OK);
    for (int round = 0; round < 5; round++) {
        epoch_enter(slot);
        epoch_collect(epoch);
        epoch_enter(other);
        epoch_retire(epoch, &new_thing(&freed)->item, free_thing, NULL);
        epoch_leave(slot);
        epoch_collect(epoch);
        epoch_collect(epoch);
        assert_int_equal(freed, round);
        epoch_leave(other);
        epoch_collect(epoch);
        assert_int_equal(freed, round + 1);
    }
    epoch_slot_destroy(other);
    end_epoch(epoch, slot);
}

static void many_retirements_free_themselves(void **state)
{
    struct epoch_slot *slot;
    struct epoch *epoch = new_epoch(&slot);
    uint64_t sum = 0;
    int freed = 0;

    (void)state;
    for (uint64_t i = 0; i < 20000; i++) {
        epoch_enter(slot);
        epoch_retire(epoch, &new_thing(&freed)->item, free_thing, NULL);
        epoch_retire_handle(epoch, 1, free_number, &sum);
        epoch_leave(slot);
        assert_true(epoch_pending(epoch) < 2000);
    }
    epoch_drain(epoch);
    assert_int_equal(freed, 20000);
    assert_int_equal(sum, 20000);
    assert_int_equal(epoch_pending(epoch), 0);
    end_epoch(epoch, slot);
}

static void handles_wait_for_the_reader_too(void **state)
{
    struct epoch_slot *slot;
    struct epoch *epoch = new_epoch(&slot);
    uint64_t sum = 0;

    (void)state;
    epoch_enter(slot);
    for (uint64_t i = 1; i <= 1000; i++)
        epoch_retire_handle(epoch, i, free_number, &sum);
    epoch_collect(epoch);
    assert_int_equal(sum, 0);
    epoch_leave(slot);
    epoch_drain(epoch);
    assert_int_equal(sum, 1000 * 1001 / 2);
    end_epoch(epoch, slot);
}

static void destroying_frees_what_is_retired(void **state)
{
    struct epoch_slot *slot;
    struct epoch *epoch = new_epoch(&slot);
    uint64_t sum = 0;
    int freed = 0;

    (void)state;
    for (int i = 0; i < 10; i++) {
        epoch_retire(epoch, &new_thing(&freed)->item, free_thing, NULL);
        epoch_retire_handle(epoch, 3, free_number, &sum);
    }
    end_epoch(epoch, slot);
    assert_int_equal(freed, 10);
    assert_int_equal(sum, 30);
}

static void a_free_function_may_retire_more(void **state)
{
    struct epoch_slot *slot;
    struct epoch *epoch = new_epoch(&slot);
    int freed = 0;

    (void)state;
    for (int i = 0; i < 500; i++) {
        struct thing *thing = new_thing(&freed);

        thing->again = epoch;
        thing->other = new_thing(&freed);
        epoch_retire(epoch, &thing->item, free_thing, NULL);
    }
    epoch_drain(epoch);
    epoch_drain(epoch);
    assert_int_equal(freed, 1000);
    end_epoch(epoch, slot);
}

static void without_memory_handles_are_given_up_and_nothing_breaks(void **state)
{
    struct epoch_slot *slot;
    struct epoch *epoch = new_epoch(&slot);
    uint64_t sum = 0;

    (void)state;
    epoch_retire_handle(epoch, 1, free_number, &sum);
    epoch_enter(slot);
    adb_mem_fail_at(1, true);
    for (int i = 0; i < 1000; i++)
        epoch_retire_handle(epoch, 1, free_number, &sum);
    adb_mem_fail_at(0, false);
    assert_true(adb_mem_failures() > 0);
    epoch_leave(slot);
    epoch_drain(epoch);
    /* The block in use and the spare one. */
    assert_int_equal(sum, 2 * 168);
    epoch_retire_handle(epoch, 1, free_number, &sum);
    epoch_drain(epoch);
    assert_int_equal(sum, 2 * 168 + 1);
    end_epoch(epoch, slot);
}

static void creation_without_memory_says_so(void **state)
{
    struct epoch *epoch;
    struct epoch_slot *slot;

    (void)state;
    adb_mem_fail_at(1, false);
    assert_int_equal(epoch_create(&epoch), ARMDB_NOMEM);
    assert_null(epoch);
    assert_int_equal(epoch_create(&epoch), ARMDB_OK);
    adb_mem_fail_at(1, false);
    assert_int_equal(epoch_slot_create(epoch, &slot), ARMDB_NOMEM);
    assert_null(slot);
    (void)adb_mem_failures();
    epoch_slot_destroy(NULL);
    epoch_destroy(epoch);
    epoch_destroy(NULL);
    assert_int_equal(adb_mem_used_total(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_item_waits_for_the_reader_who_was_inside),
        cmocka_unit_test(a_reader_of_today_holds_up_what_is_retired_today),
        cmocka_unit_test(many_retirements_free_themselves),
        cmocka_unit_test(handles_wait_for_the_reader_too),
        cmocka_unit_test(destroying_frees_what_is_retired),
        cmocka_unit_test(a_free_function_may_retire_more),
        cmocka_unit_test(without_memory_handles_are_given_up_and_nothing_breaks),
        cmocka_unit_test(creation_without_memory_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_plan.c - the planner: which way is chosen, and that xFilter gets it unchanged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "ext/plan.h"

enum { TERMS_MAX = 12 };

/* One query against one schema. */
struct fixture {
    struct table_options options;
    struct schema *schema;
    struct plan_term terms[TERMS_MAX];
    struct plan_order order[TERMS_MAX];
    struct plan_query query;
    struct plan plan;
    struct bytebuf text;
};

static void begin(struct fixture *f, const char *definition, const char *more)
{
    const char *argv[2] = {definition, more};
    char *err = NULL;

    memset(f, 0, sizeof *f);
    options_init(&f->options);
    bytebuf_init(&f->text);
    if (schema_parse("t", more == NULL ? 1 : 2, argv, &f->options, &f->schema, &err) !=
        SQLITE_OK)
        fail_msg("schema: %s", err);
    f->query.schema = f->schema;
    f->query.terms = f->terms;
    f->query.order = f->order;
}

static void end(struct fixture *f)
{
    bytebuf_fini(&f->text);
    schema_destroy(f->schema);
    options_fini(&f->options);
}

static struct plan_term *add_term(struct fixture *f, int column, enum plan_op op)
{
    struct plan_term *term = &f->terms[f->query.term_count++];

    memset(term, 0, sizeof *term);
    term->column = column;
    term->op = op;
    term->known_collation = true;
    term->usable = true;
    return term;
}

/* A text literal. */
static struct plan_term *add_literal(struct fixture *f, int column, enum plan_op op)
{
    struct plan_term *term = add_term(f, column, op);

    term->literal = true;
    return term;
}

static void add_order(struct fixture *f, int column, bool desc)
{
    f->order[f->query.order_count].column = column;
    f->order[f->query.order_count].desc = desc;
    f->query.order_count++;
}

/* Plans, and gives the text; the packed plan must come out as it went in. */
static const char *choose(struct fixture *f)
{
    struct plan back;
    struct plan_arguments at;
    int used = 0;

    assert_true(plan_choose(&f->query, &f->plan));
    plan_from_number(plan_number(&f->plan), &back);
    assert_int_equal(plan_number(&back), plan_number(&f->plan));
    assert_true(plan_number(&f->plan) >= 0);
    plan_arguments(&f->plan, &at);
    for (uint32_t i = 0; i < f->query.term_count; i++)
        used += f->terms[i].argv != 0;
    assert_int_equal(at.count, used);
    f->text.len = 0;
    assert_int_equal(plan_describe(&f->plan, f->schema, &f->text), ARMDB_OK);
    return (const char *)f->text.data;
}

static void a_whole_key_by_equality_is_a_point(void **state)
{
    struct fixture f;
    struct plan_term *term;

    (void)state;
    begin(&f, "k TEXT PRIMARY KEY", "v");
    term = add_literal(&f, 0, PLAN_OP_EQ);
    f.query.columns_used = 3;
    assert_string_equal(choose(&f), "armdb: point t(k=?)");
    assert_true(f.plan.unique);
    assert_int_equal(term->argv, 1);
    assert_true(term->omit);
    end(&f);
}

static void a_text_column_rechecks_what_is_no_literal(void **state)
{
    struct fixture f;
    struct plan_term *term;

    (void)state;
    begin(&f, "k TEXT PRIMARY KEY", "v");
    term = add_term(&f, 0, PLAN_OP_EQ);
    assert_string_equal(choose(&f), "armdb: point t(k=?) keys-only");
    assert_false(term->omit);
    assert_true(f.plan.unique);
    end(&f);
    begin(&f, "k INTEGER PRIMARY KEY", "v");
    term = add_term(&f, 0, PLAN_OP_EQ);
    assert_string_equal(choose(&f), "armdb: point t(k=?) keys-only");
    assert_true(term->omit);
    end(&f);
}

static void a_number_against_text_is_not_one_row(void **state)
{
    struct fixture f;
    struct plan_term *term;

    (void)state;
    begin(&f, "k TEXT PRIMARY KEY", "v");
    term = add_literal(&f, 0, PLAN_OP_EQ);
    term->is_number = true;
    assert_string_equal(choose(&f), "armdb: point t(k=?) keys-only");
    assert_false(f.plan.unique);
    assert_false(term->omit);
    assert_true(f.plan.several);
    end(&f);
}

static void an_in_is_one_list(void **state)
{
    struct fixture f;
    struct plan_term *term;

    (void)state;
    begin(&f, "k INTEGER PRIMARY KEY", "v");
    term = add_term(&f, 0, PLAN_OP_EQ);
    term->is_in = true;
    assert_string_equal(choose(&f), "armdb: in t(k IN (?)) keys-only");
    assert_true(term->as_list);
    assert_false(f.plan.unique);
    end(&f);
}

static void an_equality_is_preferred_to_an_in(void **state)
{
    struct fixture f;
    struct plan_term *list;

    (void)state;
    begin(&f, "k INTEGER PRIMARY KEY", "v");
    list = add_term(&f, 0, PLAN_OP_EQ);
    list->is_in = true;
    add_term(&f, 0, PLAN_OP_EQ);
    assert_string_equal(choose(&f), "armdb: point t(k=?) keys-only");
    assert_int_equal(list->argv, 0);
    end(&f);
}

static void an_in_before_less_than_a_key_is_ranges_in_key_order(void **state)
{
    struct fixture f;
    struct plan_term *list;

    (void)state;
    begin(&f, "a INTEGER", "b INTEGER, PRIMARY KEY(a, b)");
    list = add_term(&f, 0, PLAN_OP_EQ);
    list->is_in = true;
    add_term(&f, 1, PLAN_OP_GT);
    add_order(&f, 0, true);
    add_order(&f, 1, true);
    assert_string_equal(choose(&f), "armdb: range t(a IN (?) AND b>?) reverse keys-only");
    assert_true(list->as_list);
    assert_true(f.plan.ordered);
    end(&f);
}

static void a_second_in_on_text_is_left_to_sqlite(void **state)
{
    struct fixture f;
    struct plan_term *second;

    (void)state;
    begin(&f, "a TEXT", "b TEXT, c, PRIMARY KEY(a, b)");
    add_term(&f, 0, PLAN_OP_EQ)->is_in = true;
    second = add_term(&f, 1, PLAN_OP_EQ);
    second->is_in = true;
    assert_string_equal(choose(&f), "armdb: range t(a IN (?)) keys-only");
    assert_int_equal(second->argv, 0);
    end(&f);
    begin(&f, "a INTEGER", "b TEXT, c, PRIMARY KEY(a, b)");
    add_term(&f, 0, PLAN_OP_EQ)->is_in = true;
    second = add_term(&f, 1, PLAN_OP_EQ);
    second->is_in = true;
    assert_string_equal(choose(&f), "armdb: in t(a=? AND b IN (?)) keys-only");
    assert_true(second->as_list);
    end(&f);
}

static void leading_equalities_and_a_range_make_a_range(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, "a INTEGER", "b INTEGER, c INTEGER, v, PRIMARY KEY(a, b, c)");
    add_term(&f, 2, PLAN_OP_EQ); /* behind the range: of no use */
    add_term(&f, 1, PLAN_OP_GE);
    add_term(&f, 1, PLAN_OP_LT);
    add_term(&f, 0, PLAN_OP_EQ);
    f.query.columns_used = 8;
    assert_string_equal(choose(&f), "armdb: range t(a=? AND b>=? AND b<?)");
    assert_int_equal(f.terms[0].argv, 0);
    assert_int_equal(f.terms[3].argv, 1);
    assert_int_equal(f.terms[1].argv, 2);
    assert_int_equal(f.terms[2].argv, 3);
    assert_true(f.terms[1].omit && f.terms[2].omit && f.terms[3].omit);
    end(&f);
}

static void nothing_behind_an_open_equality_is_omitted(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, "a TEXT", "b INTEGER, c INTEGER, PRIMARY KEY(a, b, c)");
    add_term(&f, 0, PLAN_OP_EQ);
    add_term(&f, 1, PLAN_OP_EQ);
    add_term(&f, 2, PLAN_OP_GT);
    (void)choose(&f);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(f.terms[i].argv, i + 1);
        assert_false(f.terms[i].omit);
    }
    end(&f);
}

static void unusable_terms_and_foreign_collations_are_passed_over(void **state)
{
    struct fixture f;
    struct plan_term *term;

    (void)state;
    begin(&f, "k TEXT PRIMARY KEY", "v");
    add_literal(&f, 0, PLAN_OP_EQ)->usable = false;
    term = add_literal(&f, 0, PLAN_OP_EQ);
    term->collation = COLLATION_NOCASE;
    term = add_literal(&f, 0, PLAN_OP_EQ);
    term->known_collation = false;
    add_literal(&f, 1, PLAN_OP_EQ);
    f.query.columns_used = 2;
    assert_string_equal(choose(&f), "armdb: scan t");
    end(&f);
    begin(&f, "k TEXT COLLATE NOCASE PRIMARY KEY", "v");
    add_literal(&f, 0, PLAN_OP_EQ)->collation = COLLATION_NOCASE;
    assert_string_equal(choose(&f), "armdb: point t(k=?) keys-only");
    end(&f);
}

static void the_pair_of_like_needs_like(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, "k TEXT PRIMARY KEY", "v");
    add_literal(&f, 0, PLAN_OP_GE)->collation = COLLATION_NOCASE;
    add_literal(&f, 0, PLAN_OP_LT)->collation = COLLATION_NOCASE;
    assert_string_equal(choose(&f), "armdb: scan t keys-only");
    add_term(&f, 0, PLAN_OP_LIKE);
    assert_string_equal(choose(&f), "armdb: range t(k LIKE ?) keys-only");
    assert_false(f.terms[0].omit || f.terms[1].omit);
    f.query.like_meets_blobs = true;
    assert_string_equal(choose(&f), "armdb: scan t keys-only");
    end(&f);
}

static void the_pair_of_glob_is_a_range_unless_blobs_match(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, "k TEXT PRIMARY KEY", "v");
    add_literal(&f, 0, PLAN_OP_GE);
    add_literal(&f, 0, PLAN_OP_LT);
    add_term(&f, 0, PLAN_OP_GLOB);
    assert_string_equal(choose(&f), "armdb: range t(k>=? AND k<?) keys-only");
    assert_true(f.terms[0].omit && f.terms[1].omit);
    f.query.like_meets_blobs = true;
    assert_string_equal(choose(&f), "armdb: range t(k>=?) keys-only");
    assert_false(f.terms[0].omit);
    end(&f);
}

static void a_glob_without_a_pair_is_a_range_when_it_is_sqlites_own(void **state)
{
    struct fixture f;
    struct plan back;

    (void)state;
    begin(&f, "k TEXT PRIMARY KEY", "v");
    add_term(&f, 0, PLAN_OP_GLOB);
    assert_string_equal(choose(&f), "armdb: scan t keys-only");
    f.query.glob_is_builtin = true;
    assert_string_equal(choose(&f), "armdb: range t(k GLOB ?) keys-only");
    assert_int_equal(f.terms[0].argv, 1);
    assert_false(f.terms[0].omit);
    plan_from_number(plan_number(&f.plan), &back);
    assert_int_equal(back.low, PLAN_OP_GLOB);
    f.query.like_meets_blobs = true;
    assert_string_equal(choose(&f), "armdb: scan t keys-only");
    end(&f);
    begin(&f, "k PRIMARY KEY", "v"); /* a number in it is text to glob() */
    add_term(&f, 0, PLAN_OP_GLOB);
    f.query.glob_is_builtin = true;
    assert_string_equal(choose(&f), "armdb: scan t keys-only");
    end(&f);
}

static void is_null_of_a_key_column_is_nothing(void **state)
{
    struct fixture f;
    struct plan_estimate estimate;

    (void)state;
    begin(&f, "k TEXT PRIMARY KEY", "v");
    add_term(&f, 0, PLAN_OP_NULL);
    assert_string_equal(choose(&f), "armdb: nothing t keys-only");
    plan_cost(&f.plan, f.schema, 1000000, UINT64_MAX, &estimate);
    assert_true(estimate.cost < 2.0);
    end(&f);
}

static void the_argument_of_the_table_is_a_prefix(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, "k TEXT PRIMARY KEY", "v");
    add_term(&f, f.schema->column_command, PLAN_OP_EQ);
    assert_string_equal(choose(&f), "armdb: range t(k STARTS WITH ?) keys-only");
    assert_true(f.terms[0].omit);
    f.terms[0].usable = false;
    assert_false(plan_choose(&f.query, &f.plan));
    end(&f);
}

static void key_order_is_delivered_from_either_end(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, "a INTEGER", "b INTEGER, v, PRIMARY KEY(a, b DESC)");
    add_order(&f, 0, false);
    add_order(&f, 1, true);
    assert_string_equal(choose(&f), "armdb: scan t keys-only");
    assert_true(f.plan.ordered);
    f.order[0].desc = true;
    f.order[1].desc = false;
    assert_string_equal(choose(&f), "armdb: scan t reverse keys-only");
    assert_true(f.plan.ordered);
    f.order[1].desc = true;
    assert_string_equal(choose(&f), "armdb: scan t keys-only");
    assert_false(f.plan.ordered);
    end(&f);
}

static void what_stands_behind_the_whole_key_needs_no_sorting(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, "k INTEGER PRIMARY KEY", "v");
    add_order(&f, 0, false);
    add_order(&f, 1, true);
    (void)choose(&f);
    assert_true(f.plan.ordered);
    f.order[0].column = 1;
    f.order[1].column = 0;
    (void)choose(&f);
    assert_false(f.plan.ordered);
    end(&f);
}

static void a_constant_part_may_be_missing_or_anywhere(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, "a INTEGER", "b INTEGER, c INTEGER, PRIMARY KEY(a, b, c)");
    add_term(&f, 0, PLAN_OP_EQ);
    add_order(&f, 1, true);
    add_order(&f, 0, false);
    add_order(&f, 2, true);
    assert_string_equal(choose(&f), "armdb: range t(a=?) reverse keys-only");
    assert_true(f.plan.ordered);
    assert_false(f.plan.leans);
    end(&f);
}

static void an_open_constant_is_leaned_on_but_not_named(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, "a TEXT", "b INTEGER, PRIMARY KEY(a, b)");
    add_term(&f, 0, PLAN_OP_EQ);
    add_order(&f, 1, false);
    (void)choose(&f);
    assert_true(f.plan.ordered && f.plan.leans);
    add_order(&f, 0, true);
    (void)choose(&f);
    assert_false(f.plan.ordered);
    f.order[0].column = 0;
    f.order[1].column = 1;
    f.order[1].desc = f.order[0].desc = false;
    (void)choose(&f);
    assert_true(f.plan.ordered);
    assert_false(f.plan.leans);
    end(&f);
}

static void distinct_takes_the_leading_parts_in_any_sequence(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, "a INTEGER", "b INTEGER, c INTEGER, v, PRIMARY KEY(a, b, c)");
    f.query.distinct = PLAN_DISTINCT;
    add_order(&f, 1, true);
    add_order(&f, 0, false);
    (void)choose(&f);
    assert_true(f.plan.ordered);
    f.order[0].column = 2;
    (void)choose(&f);
    assert_false(f.plan.ordered);
    f.order[0].column = 3;
    (void)choose(&f);
    assert_false(f.plan.ordered);
    end(&f);
}

static void keys_only_means_no_column_outside_the_key(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f, "k TEXT COLLATE NOCASE", "n INTEGER, v, PRIMARY KEY(n, k)");
    f.query.columns_used = 2;
    assert_string_equal(choose(&f), "armdb: scan t keys-only");
    f.query.columns_used = 1; /* its spelling is in the row */
    assert_string_equal(choose(&f), "armdb: scan t");
    f.query.columns_used = 4;
    assert_string_equal(choose(&f), "armdb: scan t");
    end(&f);
}

static void limit_is_a_hint_and_offset_needs_a_reliable_sqlite(void **state)
{
    struct fixture f;
    struct plan_term *offset;

    (void)state;
    begin(&f, "k INTEGER PRIMARY KEY", "v");
    add_term(&f, 0, PLAN_OP_GT);
    add_term(&f, -1, PLAN_OP_LIMIT);
    offset = add_term(&f, -1, PLAN_OP_OFFSET);
    (void)choose(&f);
    assert_true(f.plan.limit && f.plan.offset);
    assert_false(f.plan.offset_consumed || f.terms[1].omit || offset->omit);
    f.query.limit_is_reliable = true;
    (void)choose(&f);
    assert_true(f.plan.offset_consumed && offset->omit);
    add_term(&f, 1, PLAN_OP_GT); /* SQLite drops rows by this one */
    (void)choose(&f);
    assert_false(f.plan.limit || f.plan.offset_consumed);
    end(&f);
}

static void better_ways_cost_less(void **state)
{
    struct fixture f;
    struct plan_estimate point;
    struct plan_estimate list;
    struct plan_estimate range;
    struct plan_estimate scan;

    (void)state;
    begin(&f, "k INTEGER PRIMARY KEY", "v");
    f.query.columns_used = 2;
    (void)choose(&f);
    plan_cost(&f.plan, f.schema, 1000000, UINT64_MAX, &scan);
    add_term(&f, 0, PLAN_OP_GT);
    (void)choose(&f);
    plan_cost(&f.plan, f.schema, 1000000, 5000, &range);
    f.terms[0].op = PLAN_OP_EQ;
    f.terms[0].is_in = true;
    (void)choose(&f);
    plan_cost(&f.plan, f.schema, 1000000, UINT64_MAX, &list);
    f.terms[0].is_in = false;
    (void)choose(&f);
    plan_cost(&f.plan, f.schema, 1000000, UINT64_MAX, &point);
    assert_true(point.cost < list.cost);
    assert_true(list.cost < range.cost);
    assert_true(range.cost < scan.cost);
    assert_int_equal(point.rows, 1);
    assert_int_equal(range.rows, 5000);
    assert_int_equal(scan.rows, 1000000);
    end(&f);
}

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void every_plan_survives_the_trip_through_idxnum(void **state)
{
    static const enum plan_op ops[] = {PLAN_OP_OTHER, PLAN_OP_EQ,   PLAN_OP_LT,
                                       PLAN_OP_LE,    PLAN_OP_GT,   PLAN_OP_GE,
                                       PLAN_OP_NULL,  PLAN_OP_LIKE, PLAN_OP_GLOB};
    const char *given = getenv("SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    struct fixture f;

    (void)state;
    printf("SEED=%llu\n", (unsigned long long)seed);
    seed = seed * 2 + 1;
    begin(&f, "a INTEGER",
          "b TEXT, c TEXT COLLATE NOCASE, d, v, "
          "PRIMARY KEY(b, a DESC, d, c)");
    for (int round = 0; round < 20000; round++) {
        struct plan back;

        f.query.term_count = 0;
        f.query.order_count = 0;
        for (uint64_t n = next_random(&seed) % 8; n > 0; n--) {
            struct plan_term *term =
                add_term(&f, (int)(next_random(&seed) % 5), ops[next_random(&seed) % 9]);

            term->collation = (enum collation)(next_random(&seed) % 3);
            term->usable = next_random(&seed) % 4 != 0;
            term->is_in = term->op == PLAN_OP_EQ && next_random(&seed) % 3 == 0;
            term->literal = !term->is_in && next_random(&seed) % 2 == 0;
            term->is_number = term->literal && next_random(&seed) % 2 == 0;
        }
        for (uint64_t n = next_random(&seed) % 4; n > 0; n--)
            add_order(&f, (int)(next_random(&seed) % 5), next_random(&seed) % 2 == 0);
        f.query.distinct = (enum plan_distinct)(next_random(&seed) % 4);
        f.query.columns_used = next_random(&seed) % 64;
        f.query.glob_is_builtin = next_random(&seed) % 2 == 0;
        (void)choose(&f);
        plan_from_number(plan_number(&f.plan), &back);
        assert_int_equal(back.eq_count, f.plan.eq_count);
        assert_int_equal(back.list_slot, f.plan.list_slot);
        assert_int_equal(back.low, f.plan.low);
        assert_int_equal(back.high, f.plan.high);
        assert_int_equal(back.literals, f.plan.literals);
        assert_int_equal(back.reverse, f.plan.reverse);
        assert_int_equal(back.leans, f.plan.leans);
        assert_int_equal(back.several, f.plan.several);
        assert_int_equal(back.empty, f.plan.empty);
        assert_false(f.plan.reverse && !f.plan.ordered);
    }
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_key_by_equality_is_a_point),
        cmocka_unit_test(a_text_column_rechecks_what_is_no_literal),
        cmocka_unit_test(a_number_against_text_is_not_one_row),
        cmocka_unit_test(an_in_is_one_list),
        cmocka_unit_test(an_equality_is_preferred_to_an_in),
        cmocka_unit_test(an_in_before_less_than_a_key_is_ranges_in_key_order),
        cmocka_unit_test(a_second_in_on_text_is_left_to_sqlite),
        cmocka_unit_test(leading_equalities_and_a_range_make_a_range),
        cmocka_unit_test(nothing_behind_an_open_equality_is_omitted),
        cmocka_unit_test(unusable_terms_and_foreign_collations_are_passed_over),
        cmocka_unit_test(the_pair_of_like_needs_like),
        cmocka_unit_test(the_pair_of_glob_is_a_range_unless_blobs_match),
        cmocka_unit_test(a_glob_without_a_pair_is_a_range_when_it_is_sqlites_own),
        cmocka_unit_test(is_null_of_a_key_column_is_nothing),
        cmocka_unit_test(the_argument_of_the_table_is_a_prefix),
        cmocka_unit_test(key_order_is_delivered_from_either_end),
        cmocka_unit_test(what_stands_behind_the_whole_key_needs_no_sorting),
        cmocka_unit_test(a_constant_part_may_be_missing_or_anywhere),
        cmocka_unit_test(an_open_constant_is_leaned_on_but_not_named),
        cmocka_unit_test(distinct_takes_the_leading_parts_in_any_sequence),
        cmocka_unit_test(keys_only_means_no_column_outside_the_key),
        cmocka_unit_test(limit_is_a_hint_and_offset_needs_a_reliable_sqlite),
        cmocka_unit_test(better_ways_cost_less),
        cmocka_unit_test(every_plan_survives_the_trip_through_idxnum),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

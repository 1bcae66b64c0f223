/* SPDX-License-Identifier: Apache-2.0 */
/* Which prompts of a generator run together. */
#include "kiln_test.h"
#include "stream/stream_parts.h"

enum { MOST = 10 };

static kiln_sequence sequences[MOST];
static kiln_sequence *group[MOST];
static prompt_cut cuts[MOST + 1];

static void make(int64_t count, uint32_t seed)
{
    for (int64_t i = 0; i < count; i++) {
        seed = seed * 1664525U + 1013904223U;
        sequences[i].prompt_count = 1 + (seed >> 8) % 100;
        group[i] = &sequences[i];
    }
    prompt_groups_sort(group, count);
    for (int64_t i = 1; i < count; i++) {
        assert_true(group[i - 1]->prompt_count >= group[i]->prompt_count);
    }
}

/* Bit i of `pattern`: a run ends behind sequence i. */
static double cost_of(const stream_limits *limits, int64_t count, int64_t most, double run,
                      unsigned pattern)
{
    double cost = 0;
    for (int64_t begin = 0, i = 0; i < count; i++) {
        if (i == count - 1 || (pattern >> i & 1) != 0) {
            const int64_t rows = i + 1 - begin;
            const int64_t length = (int64_t)group[begin]->prompt_count;
            cost += rows > most ? 1e9 : 0;
            cost += run + (double)((rows > limits->least_rows ? rows : limits->least_rows) *
                                   (length > limits->least_tokens ? length : limits->least_tokens));
            begin = i + 1;
        }
    }
    return cost;
}

static unsigned pattern_of(int64_t count, int64_t most)
{
    unsigned pattern = 0;
    for (int64_t i = 0; i < count; i = cuts[i].next) {
        assert_in_range(cuts[i].next, i + 1, i + most);
        assert_true(cuts[i].next <= count);
        pattern |= 1U << (cuts[i].next - 1);
    }
    return pattern;
}

TEST(no_other_groups_take_less)
{
    static const stream_limits limits[] = {{.least_rows = 1, .least_tokens = 1},
                                           {.least_rows = 4, .least_tokens = 16}};
    for (uint32_t seed = 0; seed < 200; seed++) {
        const int64_t count = 1 + seed % MOST;
        const int64_t most = 1 + seed % 7;
        const prompt_pace pace = {.step = 100.0 * (seed % 13), .token = 7};
        const stream_limits *limit = &limits[seed % 2];
        make(count, seed);
        prompt_groups_plan(&pace, limit, group, count, most, cuts);
        const double run = 2 * pace.step / pace.token;
        const double found = cost_of(limit, count, most, run, pattern_of(count, most));
        for (unsigned pattern = 0; pace.step > 0 && pattern < 1U << count; pattern++) {
            assert_true(found <= cost_of(limit, count, most, run, pattern) * (1 + 1e-12));
        }
    }
}

/* Nothing is known of how long runs take: as few runs as there can be. */
TEST(what_was_not_measured_is_not_cut)
{
    const stream_limits limits = {.least_rows = 1, .least_tokens = 1};
    const prompt_pace pace = {.step = 0};
    make(MOST, 1);
    prompt_groups_plan(&pace, &limits, group, MOST, MOST, cuts);
    assert_int_equal(cuts[0].next, MOST);
    prompt_groups_plan(&pace, &limits, group, MOST, 4, cuts);
    assert_int_equal(cuts[0].next, 4);
    assert_int_equal(cuts[4].next, 8);
    assert_int_equal(cuts[8].next, MOST);
}

TEST(the_best_that_was_measured_counts)
{
    prompt_pace pace = {.step = 0};
    prompt_groups_note(&pace, 1000, 5000); /* before any step nothing can be told apart */
    assert_true(pace.token == 0);
    prompt_groups_note(&pace, 0, 3000);
    prompt_groups_note(&pace, 0, 2000);
    prompt_groups_note(&pace, 0, 9000);
    assert_true(pace.step == 2000);
    prompt_groups_note(&pace, 10, 1000);
    assert_true(pace.token == 0);
    prompt_groups_note(&pace, 1000, 9000);
    prompt_groups_note(&pace, 1000, 5000);
    prompt_groups_note(&pace, 1000, 90000);
    assert_true(pace.token == 3);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* When a thread that waits for a run on a GPU sleeps, and for how long. */
#include "exec/exec_parts.h"
#include "kiln_test.h"

#define MICROSECONDS(n) ((uint64_t)(n)*1000)

static void note(run_pace *pace, uint64_t microseconds, size_t times)
{
    for (size_t i = 0; i < times; i++) {
        run_pace_note(pace, MICROSECONDS(microseconds), false);
    }
}

TEST(a_short_run_is_looked_for_all_the_time)
{
    run_pace pace = {.shortest = 0};
    assert_true(run_pace_sleep(&pace) == 0);
    for (uint64_t length = 1; length < 1200; length++) {
        pace.shortest = MICROSECONDS(length);
        assert_true(run_pace_sleep(&pace) == 0);
    }
}

TEST(a_long_one_is_slept_through_but_for_its_end)
{
    run_pace pace = {.shortest = 0};
    for (uint64_t length = 1200; length < 100000; length += 99) {
        pace.shortest = MICROSECONDS(length);
        const uint64_t sleep = run_pace_sleep(&pace);
        assert_in_range(sleep, MICROSECONDS(length) / 2, MICROSECONDS(length) - 300000);
        assert_true(pace.shortest - sleep >= pace.shortest / 8);
    }
}

/* The clock is not looked at around short runs, but for one now and then. */
TEST(only_long_runs_are_all_timed)
{
    run_pace pace = {.shortest = 0};
    size_t timed = 0;
    assert_true(run_pace_times(&pace));
    note(&pace, 20, 1);
    for (size_t i = 0; i < 650; i++) {
        timed += run_pace_times(&pace);
    }
    assert_int_equal(timed, 10);
    note(&pace, 5000, 1000);
    for (size_t i = 0; i < 10; i++) {
        assert_true(run_pace_times(&pace));
    }
}

TEST(the_shortest_of_late_counts)
{
    run_pace pace = {.shortest = 0};
    note(&pace, 9000, 1);
    note(&pace, 2000, 1);
    assert_true(pace.shortest == MICROSECONDS(2000));
    note(&pace, 9000, 1); /* one that others held up */
    assert_in_range(pace.shortest, MICROSECONDS(2000), MICROSECONDS(2500));
    note(&pace, 9000, 200); /* the clock of the device was lowered */
    assert_in_range(pace.shortest, MICROSECONDS(8900), MICROSECONDS(9000));
    note(&pace, 100, 1);
    assert_true(run_pace_sleep(&pace) == 0);
}

TEST(whoever_overslept_sleeps_less)
{
    run_pace pace = {.shortest = MICROSECONDS(10000)};
    uint64_t sleep = run_pace_sleep(&pace);
    for (size_t i = 0; i < 5; i++) {
        run_pace_note(&pace, sleep + 1000, true);
        assert_true(run_pace_sleep(&pace) <= sleep / 2);
        sleep = run_pace_sleep(&pace);
    }
    assert_true(sleep == 0);
}

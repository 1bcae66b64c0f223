/* SPDX-License-Identifier: Apache-2.0 */
#include "base/kln_base.h"
#include "kiln_test.h"

static kiln_histogram *new_histogram(void)
{
    kiln_histogram *made = NULL;
    assert_ok(kiln_histogram_create(&made));
    return made;
}

static kiln_histogram_summary summary_of(const kiln_histogram *histogram)
{
    kiln_histogram_summary found = {.struct_size = sizeof found};
    assert_ok(kiln_histogram_summarize(histogram, &found));
    return found;
}

TEST(small_values_are_exact)
{
    owned_histogram times = new_histogram();
    for (uint64_t i = 0; i < 1000; i++) {
        kiln_histogram_record(times, 1000 - i);
    }
    kiln_histogram_summary found = summary_of(times);
    assert_true(found.count == 1000 && found.minimum == 1 && found.maximum == 1000);
    assert_true(found.mean == 500.5 && found.median == 500.5);
    assert_true(found.p90 == 900 && found.p95 == 950 && found.p99 == 990 && found.p999 == 999);
    assert_true(fabs(found.deviation - sqrt((1000.0 * 1000 - 1) / 12)) < 1e-9);
    assert_true(kiln_histogram_percentile(times, 0) == 1);
    assert_true(kiln_histogram_percentile(times, -3) == 1);
    assert_true(kiln_histogram_percentile(times, 100) == 1000);
    assert_true(kiln_histogram_percentile(times, 200) == 1000);
    assert_int_equal(kiln_histogram_count(times, 10, 20), 10);
    assert_int_equal(kiln_histogram_count(times, 0, 1e9), 1000);

    kiln_histogram_clear(times);
    found = summary_of(times);
    assert_true(found.count == 0 && found.maximum == 0 && found.median == 0 && found.p999 == 0);
    /* 99 of 100 stay within p99: one is put aside, not none. */
    for (uint64_t i = 1; i <= 100; i++) {
        kiln_histogram_record(times, i);
    }
    assert_true(kiln_histogram_percentile(times, 99) == 99);
    kiln_histogram_clear(times);
    kiln_histogram_record(times, 7);
    found = summary_of(times);
    assert_true(found.median == 7 && found.p90 == 7 && found.p999 == 7 && found.deviation == 0);
}

/* From nanoseconds to days: no further than a thousandth from what sorting all would say. */
TEST(large_values_are_close)
{
    enum { COUNT = 20000 };
    static const double percents[] = {0, 1, 50, 90, 99, 99.9, 100};
    static uint64_t values[COUNT];
    owned_histogram times = new_histogram();
    uint64_t random = 1;
    double sum = 0;
    for (size_t i = 0; i < COUNT; i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407U;
        values[i] = (random >> 11) >> (random % 52);
        sum += (double)values[i];
        kiln_histogram_record(times, values[i]);
    }
    kln_sort(values, COUNT);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(percents); i++) {
        const double exact = (double)values[kln_percentile_rank(COUNT, percents[i])];
        const double found = kiln_histogram_percentile(times, percents[i]);
        assert_true(fabs(found - exact) <= exact / 1000);
    }
    const kiln_histogram_summary found = summary_of(times);
    assert_true(found.minimum == values[0] && found.maximum == values[COUNT - 1]);
    assert_true(fabs(found.mean - sum / COUNT) <= sum / COUNT * 1e-9);
    uint64_t counted = 0;
    for (double low = 0; low<1e19; low = low> 0 ? low * 3 : 1) {
        counted += kiln_histogram_count(times, low, low > 0 ? low * 3 : 1);
    }
    assert_int_equal(counted, COUNT);
}

TEST(the_largest_values_have_a_place)
{
    owned_histogram times = new_histogram();
    kiln_histogram_record(times, UINT64_MAX);
    kiln_histogram_record(times, UINT64_MAX - 1);
    kiln_histogram_record(times, (uint64_t)1 << 63);
    kiln_histogram_record(times, 2047);
    kiln_histogram_record(times, 2048);
    kiln_histogram_record(times, 0);
    const kiln_histogram_summary found = summary_of(times);
    assert_true(found.count == 6 && found.minimum == 0 && found.maximum == UINT64_MAX);
    assert_int_equal(kiln_histogram_count(times, 2047, 2048), 1);
    assert_int_equal(kiln_histogram_count(times, 2048, 2050), 1);
}

TEST(threads_bring_theirs_together)
{
    owned_histogram all = new_histogram();
    owned_histogram one = new_histogram();
    assert_ok(kiln_histogram_add(all, one));
    assert_int_equal(summary_of(all).count, 0);
    kiln_histogram_record(one, 5);
    kiln_histogram_record(one, 9);
    assert_ok(kiln_histogram_add(all, one));
    kiln_histogram_record(all, 2);
    kiln_histogram_record(one, 11);
    assert_ok(kiln_histogram_add(all, one));
    const kiln_histogram_summary found = summary_of(all);
    assert_true(found.count == 6 && found.minimum == 2 && found.maximum == 11);
    assert_true(found.mean == 41.0 / 6);
}

TEST(misuse_is_told)
{
    owned_histogram times = new_histogram();
    kiln_histogram_summary found = {.struct_size = 8};
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_histogram_summarize(times, &found));
    kiln_histogram_record(NULL, 1);
    kiln_histogram_clear(NULL);
    kiln_histogram_destroy(NULL);
    assert_true(kiln_histogram_percentile(NULL, 50) == 0);
    assert_true(kiln_histogram_percentile(times, 50) == 0);
    assert_int_equal(kiln_histogram_count(NULL, 0, 1), 0);
}

static kiln_status make_one(void *unused)
{
    owned_histogram made = NULL;
    return kiln_histogram_create(&made);
}

TEST(without_memory_there_is_none)
{
    kiln_test_each_allocation(make_one, NULL);
}

TEST(the_clock_goes_on)
{
    const uint64_t begin = kiln_clock_now();
    assert_true(begin != 0 && kiln_clock_now() >= begin);
}

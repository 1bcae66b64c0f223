/* SPDX-License-Identifier: Apache-2.0 */
/* What is counted of tensors, and the ranges that come of it: properties that hold for every
 * distribution, and edge cases. */
#include "kiln_test.h"
#include "precision/kln_precision.h"
#include "tensor/kln_tensor.h"

#define COUNT 20000

static float numbers[COUNT];
static kln_observer_scratch *scratch;
static uint64_t bins[2][2 * KLN_OBSERVED_BINS];

static double unit(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(*state >> 11) * 0x1p-53;
}

/* Box and Muller's normal numbers; `kind` as below. */
static void fill(int kind)
{
    uint64_t state = (uint64_t)kind + 1;
    for (size_t i = 0; i < COUNT; i++) {
        const double u = 1 - unit(&state);
        const double normal = sqrt(-2 * log(u)) * cos(6.283185307179586 * unit(&state));
        const double of[] = {normal,
                             fabs(normal),
                             unit(&state) * 2 - 1,
                             -log(u),
                             exp(normal * 2),
                             i % 7 == 0 ? normal : 0,
                             i == 77 ? 1000 : normal};
        numbers[i] = (float)of[kind];
    }
}
enum { NORMAL, POSITIVE, UNIFORM, EXPONENTIAL, HEAVY, SPARSE, OUTLIER, KINDS };

static void observe(kln_observer *observer, const float *values, size_t count)
{
    union {
        const float *from;
        float *to;
    } in = {values};
    const kiln_tensor tensor = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE((int64_t)count),
                                                in.to, count * sizeof *values);
    assert_ok(kln_observer_add(observer, &tensor, scratch));
}

static kiln_range range_of(const float *values, size_t count, kiln_calibration_method method)
{
    kln_observer observer;
    kiln_range range;
    kln_observer_init(&observer, bins[0]);
    observe(&observer, values, count);
    kln_observer_range(&observer, method, 99, &range);
    return range;
}

static bool begin(void)
{
    scratch = kln_observer_scratch_create();
    return scratch != NULL;
}
TESTS_BEGIN(begin)

static void assert_same(const kiln_range *a, const kiln_range *b, double scale)
{
    assert_true(a->low * scale == b->low && a->high * scale == b->high);
}

/* --- counting --- */

/* However a tensor comes: the widest part first, or last, where the bins grow on the way. */
TEST(bins_do_not_depend_on_when_numbers_come)
{
    for (int kind = 0; kind < KINDS; kind++) {
        static float sorted[COUNT];
        kln_observer whole;
        kln_observer parts;
        fill(kind);
        memcpy(sorted, numbers, sizeof sorted);
        float least = HUGE_VALF;
        size_t at = 0;
        for (size_t i = 0; i < COUNT; i++) {
            if (fabsf(numbers[i]) > 0.01F && fabsf(numbers[i]) < least) {
                least = fabsf(numbers[i]);
                at = i;
            }
        }
        kln_observer_init(&parts, bins[1]);
        observe(&parts, &numbers[at], 1);
        observe(&parts, numbers, at);
        observe(&parts, numbers + at + 1, COUNT - at - 1);
        assert_int_equal(parts.count, COUNT);
        /* From the start on with the width that the parts have come to. */
        kln_observer_init(&whole, bins[0]);
        whole.reach = parts.reach;
        observe(&whole, numbers, COUNT);
        assert_true(whole.reach == parts.reach && whole.zeros == parts.zeros);
        uint64_t sum = whole.zeros;
        size_t different = 0;
        for (size_t i = 0; i < KLN_ARRAY_LENGTH(bins[0]); i++) {
            sum += bins[0][i];
            different += bins[0][i] != bins[1][i];
        }
        assert_int_equal(sum, COUNT);
        /* The number that said how far bins reach is the upper end of the last. */
        assert_true(different <= 2);
    }
}

TEST(all_ends_in_the_first_bin_far_beyond)
{
    kln_observer observer;
    fill(NORMAL);
    kln_observer_init(&observer, bins[0]);
    observe(&observer, numbers, COUNT);
    const uint64_t above = (uint64_t)COUNT - observer.zeros;
    const float far = 1e6F;
    observe(&observer, &far, 1);
    assert_true(observer.reach >= 1e6 && observer.reach < 1e6 + 6);
    assert_int_equal(bins[0][0] + bins[0][KLN_OBSERVED_BINS], above);
    assert_int_equal(bins[0][KLN_OBSERVED_BINS - 1], 1);
}

/* By the plain formula, one by one. */
TEST(each_number_is_in_its_bin)
{
    kln_observer observer;
    static uint64_t expected[2 * KLN_OBSERVED_BINS];
    fill(EXPONENTIAL);
    for (size_t i = 0; i < COUNT; i += 3) {
        numbers[i] = -numbers[i];
    }
    kln_observer_init(&observer, bins[0]);
    observe(&observer, numbers, COUNT);
    const float scale = (float)(KLN_OBSERVED_BINS / observer.reach);
    for (size_t i = 0; i < COUNT; i++) {
        size_t bin = (size_t)(fabsf(numbers[i]) * scale);
        bin = bin < KLN_OBSERVED_BINS ? bin : KLN_OBSERVED_BINS - 1;
        expected[bin + (numbers[i] < 0 ? KLN_OBSERVED_BINS : 0)]++;
    }
    assert_memory_equal(bins[0], expected, sizeof expected);
}

TEST(every_floating_point_type_counts_alike)
{
    static uint16_t halves[COUNT];
    static double doubles[COUNT];
    static const kiln_dtype types[] = {KILN_DTYPE_FLOAT16, KILN_DTYPE_BFLOAT16, KILN_DTYPE_FLOAT64};
    for (size_t k = 0; k < 3; k++) {
        kln_observer observer;
        fill(NORMAL);
        for (size_t i = 0; i < COUNT; i++) {
            halves[i] =
                k == 0 ? kln_half_from_float(numbers[i]) : kln_bfloat16_from_float(numbers[i]);
            numbers[i] =
                k == 0 ? kln_float_from_half(halves[i]) : kln_float_from_bfloat16(halves[i]);
            doubles[i] = (double)numbers[i];
        }
        kln_observer_init(&observer, bins[0]);
        observe(&observer, numbers, COUNT);
        kln_observer_init(&observer, bins[1]);
        const kiln_tensor tensor =
            KILN_HOST_TENSOR(types[k], KILN_SHAPE(COUNT), k < 2 ? (void *)halves : (void *)doubles,
                             k < 2 ? sizeof halves : sizeof doubles);
        assert_ok(kln_observer_add(&observer, &tensor, scratch));
        assert_memory_equal(bins[0], bins[1], sizeof bins[0]);
    }
    const kiln_tensor integers =
        KILN_HOST_TENSOR(KILN_DTYPE_INT32, KILN_SHAPE(4), numbers, 4 * sizeof *numbers);
    kln_observer observer;
    kln_observer_init(&observer, NULL);
    assert_status(KILN_ERROR_DTYPE, kln_observer_add(&observer, &integers, scratch));
}

/* --- ranges --- */

static const kiln_calibration_method methods[] = {KILN_CALIBRATE_ENTROPY, KILN_CALIBRATE_MINMAX,
                                                  KILN_CALIBRATE_PERCENTILE, KILN_CALIBRATE_MSE};

/* A range holds no more than was seen, but for a bin; twice the numbers have twice the range, and
 * their negatives the mirrored one. */
TEST(ranges_scale_and_mirror)
{
    for (int kind = 0; kind < KINDS; kind++) {
        for (size_t k = 0; k < KLN_ARRAY_LENGTH(methods); k++) {
            fill(kind);
            const kiln_range once = range_of(numbers, COUNT, methods[k]);
            const double bin = fmax(-once.least, once.greatest) / KLN_OBSERVED_BINS;
            assert_true(once.low <= once.high && once.low >= once.least - bin &&
                        once.high <= once.greatest + bin);
            for (size_t i = 0; i < COUNT; i++) {
                numbers[i] *= 0x1p-20F;
            }
            const kiln_range small = range_of(numbers, COUNT, methods[k]);
            assert_same(&once, &small, 0x1p-20);
            for (size_t i = 0; i < COUNT; i++) {
                numbers[i] = -numbers[i];
            }
            const kiln_range mirrored = range_of(numbers, COUNT, methods[k]);
            assert_true(mirrored.low == -small.high && mirrored.high == -small.low);
        }
    }
}

TEST(one_outlier_does_not_take_the_range)
{
    static const double most[] = {1000.5, 1000, 5, 1000};
    for (size_t k = 0; k < KLN_ARRAY_LENGTH(methods); k++) {
        fill(OUTLIER);
        const kiln_range range = range_of(numbers, COUNT, methods[k]);
        if (range.greatest != 1000 || range.high > most[k] || range.high <= 2) {
            fail_msg("method %zu: %g", k, range.high);
        }
        assert_true((methods[k] == KILN_CALIBRATE_MINMAX) == (range.high == 1000));
    }
}

TEST(percentiles_are_those_of_the_sorted_numbers)
{
    for (int kind = 0; kind < KINDS; kind++) {
        fill(kind);
        const kiln_range range = range_of(numbers, COUNT, KILN_CALIBRATE_PERCENTILE);
        size_t below = 0;
        size_t above = 0;
        for (size_t i = 0; i < COUNT; i++) {
            below += (double)numbers[i] < range.low;
            above += (double)numbers[i] > range.high;
        }
        /* Half of one hundredth at either end, rounded out to bins. */
        assert_true(below <= COUNT / 200 && above <= COUNT / 200);
        assert_true(kind != UNIFORM || (below > COUNT / 250 && above > COUNT / 250));
    }
}

/* 8 bits of a normal distribution are best at about 4 deviations. */
TEST(the_mean_square_error_clips_a_normal_distribution)
{
    fill(NORMAL);
    const kiln_range range = range_of(numbers, COUNT, KILN_CALIBRATE_MSE);
    assert_true(range.high > 3.3 && range.high < 4.5);
    fill(UNIFORM);
    const kiln_range all = range_of(numbers, COUNT, KILN_CALIBRATE_MSE);
    assert_true(fmax(-all.low, all.high) > 0.98);
}

TEST(edges)
{
    static const struct {
        float values[4];
        size_t count;
        uint64_t nans, infinities;
        double magnitude; /* of the range, within a bin */
    } cases[] = {
        {{0}, 0, 0, 0, 0},
        {{0, 0, -0.0F, 0}, 4, 0, 0, 0},
        {{2.5F, 2.5F, 2.5F, 2.5F}, 4, 0, 0, 2.5},
        {{-2.5F, -2.5F, -2.5F, -2.5F}, 4, 0, 0, 2.5},
        {{1}, 1, 0, 0, 1},
        {{NAN, NAN}, 2, 2, 0, 0},
        {{NAN, INFINITY, -INFINITY, 3}, 4, 1, 2, 3},
        {{INFINITY, INFINITY}, 2, 0, 2, 0},
        {{3e38F, -3e38F, 3e38F, 3e38F}, 4, 0, 0, 3e38},
        {{1e-41F, 1e-41F, -1e-41F, 1e-41F}, 4, 0, 0, 1e-41},
        {{0, 0, 0, 1}, 4, 0, 0, 1},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        for (size_t k = 0; k < KLN_ARRAY_LENGTH(methods); k++) {
            const kiln_range range = range_of(cases[i].values, cases[i].count, methods[k]);
            const double found = fmax(-range.low, range.high);
            assert_int_equal(range.count, cases[i].count);
            assert_int_equal(range.nans, cases[i].nans);
            assert_int_equal(range.infinities, cases[i].infinities);
            assert_true(isfinite(range.low) && isfinite(range.high));
            if (fabs(found - (double)(float)cases[i].magnitude) > found / (KLN_OBSERVED_BINS - 1)) {
                fail_msg("case %zu, method %zu: %g to %g", i, k, range.low, range.high);
            }
        }
    }
}

/* Empty tensors between, and every number once more, for each method and distribution. */
TEST(what_was_seen_already_changes_nothing)
{
    for (int kind = 0; kind < KINDS; kind++) {
        for (size_t k = 0; k < KLN_ARRAY_LENGTH(methods); k++) {
            fill(kind);
            const kiln_range once = range_of(numbers, COUNT, methods[k]);
            const double bin = fmax(-once.least, once.greatest) / KLN_OBSERVED_BINS;
            kln_observer observer;
            kiln_range again;
            kln_observer_init(&observer, methods[k] == KILN_CALIBRATE_MINMAX ? NULL : bins[0]);
            observe(&observer, numbers, 0);
            for (size_t i = 0; i < 2; i++) {
                observe(&observer, numbers, COUNT);
                observe(&observer, numbers, 0);
            }
            kln_observer_range(&observer, methods[k], 99, &again);
            assert_int_equal(again.count, 2 * COUNT);
            if (fabs(again.low - once.low) > 1.01 * bin ||
                fabs(again.high - once.high) > 1.01 * bin) {
                fail_msg("kind %d, method %zu: %g to %g became %g to %g", kind, k, once.low,
                         once.high, again.low, again.high);
            }
        }
    }
}

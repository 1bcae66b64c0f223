/* SPDX-License-Identifier: Apache-2.0 */
/* What is counted on the device is what the CPU counts of the same numbers: kernel by kernel, and
 * in calibrations of one network by TensorRT and by the reference executor. */
#include "fake_tensorrt_test.h"

#include <float.h>

#include "cuda/kln_cuda.h"
#include "precision/kln_precision.h"

#define MOST 200000
static float numbers[MOST];

/* Of every kind: both signs, exponents from `low` to `high`, zeros, and where asked what is no
 * number. */
static void draw(size_t count, int low, int high, bool odd, unsigned seed)
{
    static const float special[] = {0.0F, -0.0F,    FLT_MIN / 8, -FLT_TRUE_MIN, NAN,
                                    -NAN, INFINITY, -INFINITY,   FLT_MAX,       -FLT_MAX};
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525U + 1013904223U;
        const float mantissa = 1.0F + (float)(seed >> 9) / 8388608.0F;
        const int exponent = low + (int)(seed >> 5) % (high - low + 1);
        numbers[i] = ldexpf((seed & 16U) != 0 ? mantissa : -mantissa, exponent);
        if (i % 7 == 3) {
            numbers[i] = special[(seed >> 8) % (odd ? KLN_ARRAY_LENGTH(special) : 4)];
        }
    }
}

static void *room(size_t bytes)
{
    void *memory = NULL;
    assert_ok(kln_cuda_allocate(KILN_LOCATION_DEVICE, 0, bytes, &memory));
    return memory;
}

static void count_there(kiln_stream *stream, const float *values, size_t count,
                        kln_observer *observer)
{
    static uint32_t read[KLN_CUDA_BINS];
    kln_cuda_bounds found = KLN_CUDA_NO_BOUNDS;
    void *there = room(sizeof read);
    assert_ok(kln_cuda_copy(0, there, &found, sizeof found, NULL));
    assert_ok(kln_cuda_find_bounds(stream, values, count, there));
    assert_ok(kln_cuda_copy(0, &found, there, sizeof found, stream));
    assert_ok(kiln_stream_synchronize(stream));
    const kln_bounds bounds = {.least = (double)kln_float_of_key(found.least),
                               .greatest = (double)kln_float_of_key(found.greatest),
                               .count = count,
                               .nans = found.nans,
                               .infinities = found.infinities};
    kln_observer_take_bounds(observer, &bounds);
    if (observer->finite > 0) {
        const float scale = kln_observer_scale(observer);
        assert_ok(kln_cuda_fill(0, there, 0, sizeof read, stream));
        assert_ok(kln_cuda_count_bins(stream, values, count, scale, there));
        assert_ok(kln_cuda_copy(0, read, there, sizeof read, stream));
        assert_ok(kiln_stream_synchronize(stream));
        kln_observer_take_bins(observer, read);
    }
    kln_cuda_release(KILN_LOCATION_DEVICE, 0, there);
}

TENSORRT_TEST(kernels_count_as_the_cpu_does)
{
    static const struct {
        size_t count;
        int low, high;
        bool odd;
    } batches[] = {{1, 0, 0, false},      {31, -3, 1, true},      {257, -10, 4, true},
                   {8192, -20, 0, false}, {8193, -126, 10, true}, {MOST, -8, 3, false},
                   {MOST, -4, 60, true},  {0, 0, 0, false}};
    static uint64_t bins[2][KLN_OBSERVER_BIN_BYTES / sizeof(uint64_t)];
    kln_observer observers[2];
    kln_observer_scratch *scratch = kln_observer_scratch_create();
    assert_non_null(scratch);
    owned_stream stream = stream_on(0);
    float *values = room(sizeof numbers);
    for (size_t side = 0; side < 2; side++) {
        kln_observer_init(&observers[side], bins[side]);
    }
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(batches); i++) {
        const size_t count = batches[i].count;
        const kiln_tensor tensor = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE((int64_t)count),
                                                    numbers, count * sizeof *numbers);
        draw(count, batches[i].low, batches[i].high, batches[i].odd, (unsigned)i);
        assert_ok(kln_cuda_copy(0, values, numbers, count * sizeof *numbers, NULL));
        assert_ok(kln_observer_add(&observers[0], &tensor, scratch));
        count_there(stream, values, count, &observers[1]);
        observers[1].bins = observers[0].bins;
        assert_memory_equal(&observers[0], &observers[1], sizeof observers[0]);
        observers[1].bins = bins[1];
        assert_memory_equal(bins[0], bins[1], sizeof bins[0]);
    }
    kln_cuda_release(KILN_LOCATION_DEVICE, 0, values);
    kln_free(scratch);
}

/* --- calibrations --- */

#define WIDTH 300

/* y = relu(x - relu(x)) by way of a negation: all of it exact. */
static kiln_network *exact_network(void)
{
    return made_network(
        NULL, "in x float32[?,%d]; r=Relu(x); n=Neg(r); s=Add(n,x); y=Relu(s); out y", WIDTH);
}

typedef struct feed {
    int at;
    kiln_named_tensor tensor;
} feed;

/* Of two shapes (a real library takes long for each), with larger numbers from batch to batch. */
static kiln_status next(void *user, const kiln_named_tensor **inputs, size_t *count)
{
    feed *from = user;
    const int64_t rows = ON_STAND_IN && from->at % 3 == 2 ? 5 : 3;
    draw((size_t)rows * WIDTH, -6, from->at, false, (unsigned)from->at + 77);
    from->tensor = (kiln_named_tensor){
        "x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(rows, WIDTH), numbers,
                              (size_t)(rows * WIDTH) * sizeof *numbers)};
    *inputs = &from->tensor;
    *count = from->at++ < 6 ? 1 : 0;
    return KILN_OK;
}

static kiln_range_table *calibrated(const kiln_build_options *build, kiln_calibration_method method,
                                    uint64_t memory_bytes)
{
    owned_network network = exact_network();
    feed from = {.at = 0};
    const kiln_batch_source source = {next, &from};
    kiln_calibrate_options options = KILN_CALIBRATE_OPTIONS_INIT;
    kiln_range_table *table = NULL;
    options.method = method;
    options.memory_bytes = memory_bytes;
    assert_ok(kiln_calibrate(network, build, &source, &options, &table));
    return table;
}

static void assert_same_ranges(const kiln_range_table *found, const kiln_range_table *expected)
{
    assert_int_equal(kiln_range_table_count(found), 5);
    for (size_t i = 0; i < 5; i++) {
        const kiln_range *a = kiln_range_table_at(found, i);
        const kiln_range *b = kiln_range_table_at(expected, i);
        assert_string_equal(a->name, b->name);
        assert_true(a->low == b->low && a->high == b->high);
        assert_true(a->least == b->least && a->greatest == b->greatest && a->count == b->count);
    }
}

static const kiln_calibration_method methods[] = {KILN_CALIBRATE_ENTROPY, KILN_CALIBRATE_MINMAX,
                                                  KILN_CALIBRATE_MSE};

LAYOUTS_TEST(ranges_are_the_reference_executors)
{
    kiln_build_options reference = KILN_BUILD_OPTIONS_INIT;
    const kiln_build_options options = fake_options(i);
    reference.backend = "reference";
    for (size_t m = 0; m < KLN_ARRAY_LENGTH(methods); m++) {
        owned_range_table expected = calibrated(&reference, methods[m], 0);
        /* The limit is for some of the tensors: each batch is run in parts. */
        const uint64_t kept = methods[m] == KILN_CALIBRATE_MINMAX ? 0 : 5 * KLN_OBSERVER_BIN_BYTES;
        for (uint64_t memory = 0; memory <= 1; memory++) {
            owned_range_table found =
                calibrated(&options, methods[m], memory * (kept + 12 * WIDTH * sizeof(float)));
            assert_same_ranges(found, expected);
        }
    }
}

STAND_IN_TEST(without_kernels_the_host_counts, "a driver without what loads kernels")
{
    kiln_build_options reference = KILN_BUILD_OPTIONS_INIT;
    reference.backend = "reference";
    kln_cuda_close();
    set("KILN_CUDA_DRIVER", kiln_test_built("fake/cudaplain/libcuda.so.1"));
    const kiln_build_options options = fake_options(SOME_LAYOUT);
    owned_range_table expected = calibrated(&reference, KILN_CALIBRATE_ENTROPY, 0);
    owned_range_table found = calibrated(&options, KILN_CALIBRATE_ENTROPY, 0);
    assert_same_ranges(found, expected);
}

STAND_IN_TEST(a_launch_that_fails_is_told, "a driver that fails on demand")
{
    const kiln_build_options options = fake_options(SOME_LAYOUT);
    feed from = {.at = 0};
    const kiln_batch_source source = {next, &from};
    owned_network network = exact_network();
    kiln_range_table *table = NULL;
    set("FAKE_CUDA_KERNELS", "launch");
    assert_fails(KILN_ERROR_DEVICE, kiln_calibrate(network, &options, &source, NULL, &table),
                 "counting by a kernel of 1 block on device 0");
    set("FAKE_CUDA_KERNELS", NULL);
    assert_null(table);
}

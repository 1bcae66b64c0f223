/* SPDX-License-Identifier: Apache-2.0 */
/* Thresholds against TensorRT's own: each row has the scale that IInt8EntropyCalibrator2 of
 * TensorRT 10.6 wrote on a GPU for the same numbers, which exact arithmetic alone makes (SplitMix64
 * and + - * / of doubles), so that they are the same everywhere. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kiln_test.h"
#include "precision/kln_precision.h"

#define BATCHES 4
#define MOST 20000

typedef enum kind {
    NORMAL,
    RELU,
    UNIFORM,
    POSITIVE,
    LAPLACE,
    PRODUCT,
    HEAVY,
    SPARSE,
    OUTLIER,
    INTEGERS,
    BIMODAL,
    TWO,
    ONE,
    ZERO_ONE
} kind;

static const struct {
    kind kind;
    int32_t count;
    double factors[BATCHES];
    uint32_t scale; /* bits of a float32 */
} rows[] = {
#include "entropy_rows.inc"
};

static double uniform(uint64_t seed, uint64_t i)
{
    uint64_t x = seed + (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (double)((x ^ (x >> 31)) >> 11) * 0x1p-53;
}

static float draw(kind of, uint64_t seed, int32_t count, int32_t i)
{
    double u[34];
    double normal = 0;
    for (uint64_t k = 0; k < KLN_ARRAY_LENGTH(u); k++) {
        u[k] = uniform(seed * 1000 + k, (uint64_t)i);
        normal += k < 12 ? u[k] : 0;
    }
    normal -= 6;
    switch (of) {
        case NORMAL: return (float)normal;
        case RELU: return (float)fmax(normal, 0);
        case UNIFORM: return (float)(u[20] * 2 - 1);
        case POSITIVE: return (float)u[21];
        case LAPLACE: return (float)((u[22] - u[23]) * u[24] / (u[25] + 0.125));
        case PRODUCT: return (float)(u[26] * u[27] * u[28] * u[29]);
        case HEAVY: return (float)(normal / (u[30] + 0.001));
        case SPARSE: return u[31] < 0.9 ? 0 : (float)normal;
        case OUTLIER: return i == count / 3 ? 20 : (float)normal;
        case INTEGERS: return (float)floor(u[32] * 256);
        case BIMODAL: return (float)((u[33] < 0.5 ? 1 : 4) + normal * 0.125);
        case TWO: return i % 2 == 0 ? 0.25F : 1;
        case ONE: return 2.5F;
        case ZERO_ONE: return i == count / 3 ? 1 : 0;
    }
    return 0;
}

static kln_observer_scratch *scratch;

static bool begin(void)
{
    scratch = kln_observer_scratch_create();
    return scratch != NULL;
}
TESTS_BEGIN(begin)

static double scale_of(size_t row)
{
    static float values[MOST];
    static uint64_t bins[2 * KLN_OBSERVED_BINS];
    const int32_t count = rows[row].count;
    kln_observer observer;
    kiln_range range;
    kln_observer_init(&observer, bins);
    for (size_t batch = 0; batch < BATCHES; batch++) {
        for (int32_t i = 0; i < count; i++) {
            const float drawn = draw(rows[row].kind, 100 * row + batch, count, i);
            values[i] = (float)((double)drawn * rows[row].factors[batch]);
        }
        const kiln_tensor tensor = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(count), values,
                                                    (size_t)count * sizeof *values);
        assert_ok(kln_observer_add(&observer, &tensor, scratch));
    }
    kln_observer_range(&observer, KILN_CALIBRATE_ENTROPY, 0, &range);
    return fmax(-range.low, range.high) / 127;
}

TEST(thresholds_are_those_of_tensorrt)
{
    size_t same_bits = 0;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(rows); i++) {
        float expected = 0;
        memcpy(&expected, &rows[i].scale, sizeof expected);
        const float found = (float)scale_of(i);
        same_bits += found == expected;
        /* The same bin: where bins have grown, the last bits of their width are rounded otherwise.
         */
        if (fabsf(found - expected) > expected * 1e-6F) {
            fail_msg("row %zu: %.9g, TensorRT has %.9g", i, (double)found, (double)expected);
        }
    }
    assert_true(same_bits >= KLN_ARRAY_LENGTH(rows) * 9 / 10);
    kln_free(scratch);
}

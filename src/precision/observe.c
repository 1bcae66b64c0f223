/* SPDX-License-Identifier: Apache-2.0 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "kln_precision.h"
#include "tensor/kln_tensor.h"

/* A histogram is one of magnitudes, once for numbers below 0 and once for those above, so that it
 * serves symmetric and asymmetric ranges alike. */

#define BINS ((size_t)KLN_OBSERVED_BINS)
#define SIDES (2 * BINS)
/* Beside the bins: what is 0, which in many tensors is most of it, and what is no number. */
#define ZERO_BIN (2 * KLN_OBSERVED_BINS)
#define ODD_BIN (ZERO_BIN + 1)
/* Consecutive elements count in tables of their own: two that fall into one bin need not wait for
 * each other. */
#define TABLES 4
#define BLOCK 512
/* Before a 32-bit counter could overflow. */
#define MOST_AT_ONCE ((size_t)1 << 31)

#define INFINITE INT32_C(0x7f800000)

/* The compiler makes one for each kind of processor, and the loader takes the widest. */
#define WIDE KLN_CLONES("avx512f", "avx2", "default")

struct kln_observer_scratch {
    uint32_t tables[TABLES][SIDES + 2];
    float converted[BLOCK];
    double wide[BLOCK];
};

kln_observer_scratch *kln_observer_scratch_create(void)
{
    return kln_alloc_zeroed(1, sizeof(kln_observer_scratch));
}

void kln_observer_init(kln_observer *observer, uint64_t *bins)
{
    *observer = (kln_observer){.bins = bins};
    if (bins != NULL) {
        memset(bins, 0, KLN_OBSERVER_BIN_BYTES);
    }
}

/* --- bounds --- */

typedef struct bounds {
    int32_t least, greatest; /* as keys */
    uint32_t odd;            /* neither finite */
} bounds;

/* Finite floats as integers that compare alike, so that the loop below needs no branch. */
static float float_of(int32_t key)
{
    const uint32_t bits = (uint32_t)(key ^ (key < 0 ? 0x7fffffff : 0));
    float value = 0;
    memcpy(&value, &bits, sizeof value);
    return value + 0.0F; /* -0 is 0 */
}

/* `yes` where all bits of `mask` are set, `no` where none is. */
static inline int32_t select(int32_t mask, int32_t yes, int32_t no)
{
    return (yes & mask) | (no & ~mask);
}

/* All bits where a float of these is NaN or infinite, else none. */
static inline int32_t is_odd(int32_t bits)
{
    return (INFINITE - 1 - (bits & INT32_MAX)) >> 31;
}

WIDE static void look(const float *values, size_t count, bounds *found)
{
    int32_t least = found->least;
    int32_t greatest = found->greatest;
    int32_t odd = 0;
    for (size_t i = 0; i < count; i++) {
        int32_t bits = 0;
        memcpy(&bits, &values[i], sizeof bits);
        const int32_t key = bits ^ ((bits >> 31) & INT32_MAX);
        const int32_t low = select(is_odd(bits), INT32_MAX, key);
        const int32_t high = select(is_odd(bits), INT32_MIN, key);
        odd -= is_odd(bits);
        least = low < least ? low : least;
        greatest = high > greatest ? high : greatest;
    }
    found->least = least;
    found->greatest = greatest;
    found->odd += (uint32_t)odd;
}

static void count_odd(kln_observer *observer, const float *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        observer->nans += isnan(values[i]) ? 1 : 0;
        observer->infinities += isinf(values[i]) ? 1 : 0;
    }
}

/* --- bins --- */

/* To twice the width as often as it takes: each bin takes in two, so that nothing that was counted
 * is smeared, and what is counted later falls where it would have fallen from the start. Past as
 * many times as there are bins, all ends in the first, and the width becomes the least multiple
 * that does: as TensorRT 10.6 was seen to do both (tests/precision/thresholds.py). */
static void widen(kln_observer *observer, double reach)
{
    if (observer->reach == 0) {
        observer->reach = reach;
    }
    if (observer->reach * (double)BINS < reach) {
        for (size_t side = 0; side < SIDES; side += BINS) {
            uint64_t *bins = observer->bins + side;
            for (size_t i = 1; i < BINS; i++) {
                bins[0] += bins[i];
            }
            memset(bins + 1, 0, (BINS - 1) * sizeof *bins);
        }
        observer->reach *= ceil(reach / observer->reach);
    }
    while (observer->reach < reach) {
        observer->reach *= 2;
        for (size_t side = 0; side < SIDES; side += BINS) {
            uint64_t *bins = observer->bins + side;
            for (size_t i = 0; i < BINS / 2; i++) {
                bins[i] = bins[2 * i] + bins[2 * i + 1];
            }
            memset(bins + BINS / 2, 0, BINS / 2 * sizeof *bins);
        }
    }
}

WIDE static void find_bins(const float *values, size_t count, float scale, int32_t *places)
{
    for (size_t i = 0; i < count; i++) {
        int32_t bits = 0;
        float absolute = 0;
        memcpy(&bits, &values[i], sizeof bits);
        const int32_t magnitude = select(is_odd(bits), 0, bits & INT32_MAX);
        memcpy(&absolute, &magnitude, sizeof absolute);
        float at = absolute * scale;
        at = at < (float)(BINS - 1) ? at : (float)(BINS - 1);
        const int32_t bin = (int32_t)at + (KLN_OBSERVED_BINS & (bits >> 31));
        const int32_t special = select(is_odd(bits), ODD_BIN, ZERO_BIN);
        places[i] = select((magnitude - 1) >> 31, special, bin);
    }
}

static void count_block(kln_observer_scratch *scratch, const int32_t *places, size_t count)
{
    size_t i = 0;
    for (; i + TABLES <= count; i += TABLES) {
        for (size_t k = 0; k < TABLES; k++) {
            scratch->tables[k][places[i + k]]++;
        }
    }
    for (; i < count; i++) {
        scratch->tables[0][places[i]]++;
    }
}

static void take_counts(kln_observer *observer, kln_observer_scratch *scratch)
{
    for (size_t i = 0; i < SIDES + 1; i++) {
        uint64_t sum = 0;
        for (size_t k = 0; k < TABLES; k++) {
            sum += scratch->tables[k][i];
        }
        if (i < SIDES) {
            observer->bins[i] += sum;
        } else {
            observer->zeros += sum;
        }
    }
    memset(scratch->tables, 0, sizeof scratch->tables);
}

/* --- tensors --- */

/* Elements from `first` on, at most BLOCK where they are not float32. */
static const float *floats(const kiln_tensor *tensor, size_t first, size_t count,
                           kln_observer_scratch *scratch)
{
    if (tensor->desc.dtype == KILN_DTYPE_FLOAT32) {
        return (const float *)tensor->data + first;
    }
    const uint16_t *halves = (const uint16_t *)tensor->data + first;
    for (size_t i = 0; i < count; i++) {
        scratch->converted[i] = tensor->desc.dtype == KILN_DTYPE_FLOAT16
                                    ? kln_float_from_half(halves[i])
                                : tensor->desc.dtype == KILN_DTYPE_BFLOAT16
                                    ? kln_float_from_bfloat16(halves[i])
                                    : (float)((const double *)tensor->data)[first + i];
    }
    return scratch->converted;
}

bool kln_observer_takes(kiln_dtype dtype)
{
    return dtype == KILN_DTYPE_FLOAT32 || dtype == KILN_DTYPE_FLOAT16 ||
           dtype == KILN_DTYPE_BFLOAT16 || dtype == KILN_DTYPE_FLOAT64;
}

static void add_bounds(kln_observer *observer, const kiln_tensor *tensor, size_t begin, size_t end,
                       kln_observer_scratch *scratch)
{
    bounds found = {INT32_MAX, INT32_MIN, 0};
    for (size_t i = begin; i < end; i += BLOCK) {
        const size_t size = end - i < BLOCK ? end - i : BLOCK;
        const float *values = floats(tensor, i, size, scratch);
        const uint32_t odd = found.odd;
        look(values, size, &found);
        if (found.odd != odd) {
            count_odd(observer, values, size);
        }
    }
    if (found.least <= found.greatest) {
        const double least = (double)float_of(found.least);
        const double greatest = (double)float_of(found.greatest);
        observer->least = observer->finite > 0 ? fmin(observer->least, least) : least;
        observer->greatest = observer->finite > 0 ? fmax(observer->greatest, greatest) : greatest;
    }
    observer->count += end - begin;
    observer->finite += end - begin - found.odd;
}

static void add_bins(kln_observer *observer, const kiln_tensor *tensor, size_t begin, size_t end,
                     kln_observer_scratch *scratch)
{
    const double reach = fmax(-observer->least, observer->greatest);
    widen(observer, reach);
    const double scale =
        observer->reach > 0 ? fmin((double)BINS / observer->reach, (double)FLT_MAX) : 0;
    for (size_t i = begin; i < end; i += BLOCK) {
        int32_t places[BLOCK];
        const size_t size = end - i < BLOCK ? end - i : BLOCK;
        find_bins(floats(tensor, i, size, scratch), size, (float)scale, places);
        count_block(scratch, places, size);
    }
    take_counts(observer, scratch);
}

kiln_status kln_observer_add(kln_observer *observer, const kiln_tensor *tensor,
                             kln_observer_scratch *scratch)
{
    int64_t count = 0;
    KLN_RETURN_IF_ERROR(kln_tensor_check("an observed tensor", tensor));
    KLN_RETURN_IF_ERROR(kiln_shape_elements(&tensor->desc.shape, &count));
    if (!kln_observer_takes(tensor->desc.dtype)) {
        return kln_fail(KILN_ERROR_DTYPE, "a tensor of type %s has no range",
                        kiln_dtype_name(tensor->desc.dtype));
    }
    for (size_t begin = 0; begin < (size_t)count; begin += MOST_AT_ONCE) {
        const size_t left = (size_t)count - begin;
        const size_t end = begin + (left < MOST_AT_ONCE ? left : MOST_AT_ONCE);
        add_bounds(observer, tensor, begin, end, scratch);
        if (observer->bins != NULL && observer->finite > 0) {
            add_bins(observer, tensor, begin, end, scratch);
        }
    }
    return KILN_OK;
}

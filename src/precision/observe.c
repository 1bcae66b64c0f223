/* SPDX-License-Identifier: Apache-2.0 */
#include <float.h>
#include <math.h>

#include "kln_precision.h"
#include "tensor/kln_tensor.h"

/* The histogram is of magnitudes, one half for negative and one for positive values, so that it
 * serves symmetric and asymmetric ranges alike. */

#define BINS ((size_t)KLN_OBSERVED_BINS)
#define SIDES (2 * BINS)
/* Two more counters after the bins: zeros, which are most of many tensors, and NaN or infinity. */
#define ZERO_BIN (2 * KLN_OBSERVED_BINS)
#define ODD_BIN (ZERO_BIN + 1)
/* Consecutive elements are counted in different tables, so that two that fall into the same bin do
 * not wait for each other. */
#define TABLES 4
#define BLOCK 512
#define MANY ((size_t)1 << 13) /* block size where nothing is converted */
/* The most elements that cannot overflow a 32-bit counter. */
#define MOST_AT_ONCE ((size_t)1 << 31)

#define INFINITE INT32_C(0x7f800000)
#define SIGN UINT32_C(0x80000000)

/* The compiler makes a version for each instruction set, and the loader picks the widest. */
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

/* The bits of floats, compared as signed and as unsigned integers. Negative floats have the sign
 * bit set and order in reverse, so these three give the minimum and the maximum. */
typedef struct extremes {
    int32_t least, greatest;
    uint32_t most;
} extremes;

#define NOTHING ((extremes){INT32_MAX, INT32_MIN, 0})

static inline void meet(extremes *seen, float value)
{
    int32_t bits = 0;
    memcpy(&bits, &value, sizeof bits);
    seen->least = bits < seen->least ? bits : seen->least;
    seen->greatest = bits > seen->greatest ? bits : seen->greatest;
    seen->most = (uint32_t)bits > seen->most ? (uint32_t)bits : seen->most;
}

WIDE static void look(const float *values, size_t count, extremes *found)
{
    extremes seen = NOTHING;
    for (size_t i = 0; i < count; i++) {
        meet(&seen, values[i]);
    }
    *found = seen;
}

/* The same over the finite values only, for data that has others. */
static void look_around(const float *values, size_t count, extremes *found, kln_bounds *bounds)
{
    const kln_odd odd = kln_odd_numbers(KILN_DTYPE_FLOAT32, values, count);
    bounds->nans = odd.nans;
    bounds->infinities = odd.infinities;
    *found = NOTHING;
    for (size_t i = 0; i < count; i++) {
        if (isfinite(values[i])) {
            meet(found, values[i]);
        }
    }
}

static double number_of(uint32_t bits)
{
    float value = 0;
    memcpy(&value, &bits, sizeof value);
    return (double)(value + 0.0F); /* -0 is 0 */
}

/* --- bins --- */

/* `yes` where all bits of `mask` are set, `no` where none is: the loop below needs no branch. */
static inline int32_t select(int32_t mask, int32_t yes, int32_t no)
{
    return (yes & mask) | (no & ~mask);
}

/* All bits where it is negative, else none. */
static inline int32_t sign_of(int32_t number)
{
    return -(int32_t)((uint32_t)number >> 31);
}

/* All bits set if the float with these bits is NaN or infinite, else none. */
static inline int32_t is_odd(int32_t bits)
{
    return sign_of(INFINITE - 1 - (bits & INT32_MAX));
}

/* Doubles the range until it covers `reach`. Each bin then takes exactly two old ones, so the
 * counts are those that the wider range would have given from the start. If the new range is more
 * than BINS times the old one, all counts collapse into the first bin and the range grows to the
 * smallest sufficient multiple. TensorRT 10.6 was observed to do both
 * (tests/precision/thresholds.py). */
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
        const int32_t bin = (int32_t)at + (KLN_OBSERVED_BINS & sign_of(bits));
        const int32_t special = select(is_odd(bits), ODD_BIN, ZERO_BIN);
        places[i] = select(sign_of(magnitude - 1), special, bin);
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

void kln_observer_take_bins(kln_observer *observer, const uint32_t *counts)
{
    for (size_t i = 0; i < SIDES; i++) {
        observer->bins[i] += counts[i];
    }
    observer->zeros += counts[SIDES];
}

static void take_tables(kln_observer *observer, kln_observer_scratch *scratch)
{
    for (size_t k = 0; k < TABLES; k++) {
        kln_observer_take_bins(observer, scratch->tables[k]);
    }
    memset(scratch->tables, 0, sizeof scratch->tables);
}

/* --- tensors --- */

/* Elements from `first` on; at most BLOCK of them unless the tensor is float32. */
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

void kln_observer_take_bounds(kln_observer *observer, const kln_bounds *bounds)
{
    const uint64_t finite = bounds->count - bounds->nans - bounds->infinities;
    if (finite > 0) {
        const bool first = observer->finite == 0;
        observer->least = first ? bounds->least : fmin(observer->least, bounds->least);
        observer->greatest = first ? bounds->greatest : fmax(observer->greatest, bounds->greatest);
    }
    observer->count += bounds->count;
    observer->finite += finite;
    observer->nans += bounds->nans;
    observer->infinities += bounds->infinities;
}

static void add_bounds(kln_observer *observer, const kiln_tensor *tensor, size_t begin, size_t end,
                       kln_observer_scratch *scratch)
{
    const size_t most = tensor->desc.dtype == KILN_DTYPE_FLOAT32 ? MANY : BLOCK;
    for (size_t i = begin; i < end; i += most) {
        extremes found;
        const size_t size = end - i < most ? end - i : most;
        const float *values = floats(tensor, i, size, scratch);
        kln_bounds bounds = {.count = size};
        look(values, size, &found);
        if (found.greatest >= INFINITE || found.most >= (SIGN | (uint32_t)INFINITE)) {
            look_around(values, size, &found, &bounds);
        }
        bounds.least = number_of(found.least < 0 ? found.most : (uint32_t)found.least);
        bounds.greatest = number_of((uint32_t)(found.greatest < 0 ? found.least : found.greatest));
        kln_observer_take_bounds(observer, &bounds);
    }
}

float kln_observer_scale(kln_observer *observer)
{
    widen(observer, fmax(-observer->least, observer->greatest));
    return observer->reach > 0 ? (float)fmin((double)BINS / observer->reach, (double)FLT_MAX) : 0;
}

static void add_bins(kln_observer *observer, const kiln_tensor *tensor, size_t begin, size_t end,
                     kln_observer_scratch *scratch)
{
    const float scale = kln_observer_scale(observer);
    for (size_t i = begin; i < end; i += BLOCK) {
        int32_t places[BLOCK];
        const size_t size = end - i < BLOCK ? end - i : BLOCK;
        find_bins(floats(tensor, i, size, scratch), size, scale, places);
        count_block(scratch, places, size);
    }
    take_tables(observer, scratch);
}

kiln_status kln_observer_add(kln_observer *observer, const kiln_tensor *tensor,
                             kln_observer_scratch *scratch)
{
    int64_t count = 0;
    KLN_RETURN_IF_ERROR(kln_tensor_check("an observed tensor", tensor));
    KLN_RETURN_IF_ERROR(kiln_shape_elements(&tensor->desc.shape, &count));
    KLN_RETURN_IF(!kln_observer_takes(tensor->desc.dtype), KILN_ERROR_DTYPE,
                  "a tensor of type %s has no range", kiln_dtype_name(tensor->desc.dtype));
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

/* SPDX-License-Identifier: Apache-2.0 */
/* Generates the random numbers that docs/cli.md describes. */
#include <math.h>

#include "kln_tensor.h"

#define CHUNK 1024

/* SplitMix64, https://prng.di.unimi.it/splitmix64.c: one addition and three mixing steps. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t mixed = (*state += UINT64_C(0x9e3779b97f4a7c15));
    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return mixed ^ (mixed >> 31);
}

/* The largest integer that a type is filled with; 0: it gets numbers from -1 to 1. */
static double largest_whole(kiln_dtype dtype)
{
    double low = 0;
    double end = 0;
    return kln_integer_range(dtype, &low, &end) ? fmin(end - 1, 255) : 0;
}

/* Digits of pi, from https://oeis.org/A000796: a text that also works as a number. */
static const char digits[] = "31415926535897932384626433832795028841971693993751058209749445923078";
#define MOST_DIGITS 4

static kiln_status fill_strings(const kiln_tensor *tensor, uint64_t state)
{
    kiln_span *spans = tensor->data;
    KLN_RETURN_IF_ERROR(kln_tensor_check(__func__, tensor));
    int64_t count = 0;
    KLN_RETURN_IF_ERROR(kiln_shape_elements(&tensor->desc.shape, &count));
    for (int64_t i = 0; i < count; i++) {
        const uint64_t drawn = next_random(&state);
        const size_t begin = (size_t)(drawn >> 32) % (sizeof digits - 1 - MOST_DIGITS);
        spans[i] = (kiln_span){digits + begin, 1 + (size_t)drawn % MOST_DIGITS};
    }
    return KILN_OK;
}

kiln_status kiln_tensor_fill(const kiln_tensor *tensor, const char *name, uint64_t seed,
                             const double *range)
{
    KLN_RETURN_IF_NULL(tensor, name);
    kiln_tensor parts = *tensor;
    int64_t count = 0;
    if (parts.desc.dtype == KILN_DTYPE_STRING) {
        KLN_RETURN_IF(range != NULL, KILN_ERROR_INVALID_ARGUMENT,
                      "\"%s\" is of strings, which no range of numbers fills", name);
        return fill_strings(tensor, kln_hash(name, strlen(name), KLN_HASH_SEED) ^ seed);
    }
    if (parts.desc.dtype == KILN_DTYPE_COMPLEX64 || parts.desc.dtype == KILN_DTYPE_COMPLEX128) {
        const bool is_small = parts.desc.dtype == KILN_DTYPE_COMPLEX64;
        parts.desc.dtype = is_small ? KILN_DTYPE_FLOAT32 : KILN_DTYPE_FLOAT64;
        parts.desc.shape = KILN_SHAPE((int64_t)(parts.bytes / (is_small ? 4U : 8U)));
    }
    KLN_RETURN_IF_ERROR(kiln_shape_elements(&parts.desc.shape, &count));
    const double whole = largest_whole(parts.desc.dtype);
    const double low = range != NULL ? range[0] : whole > 0 ? 0 : -1;
    const bool is_one =
        range != NULL && !(range[0] < range[1] || range[0] > range[1]); /* true for NaN, too */
    const double span = is_one ? 0 : range != NULL ? range[1] - low : whole > 0 ? whole : 2;
    KLN_RETURN_IF(!(span >= 0 && span < 1e300), KILN_ERROR_INVALID_ARGUMENT,
                  "\"%s\" cannot be filled with numbers from %g to %g", name, low, low + span);
    uint64_t state = kln_hash(name, strlen(name), KLN_HASH_SEED) ^ seed;
    for (int64_t first = 0; first < count; first += CHUNK) {
        double values[CHUNK];
        const size_t size = count - first < CHUNK ? (size_t)(count - first) : CHUNK;
        for (size_t i = 0; i < size; i++) {
            /* 53 random bits, the precision of a double. */
            const double unit = (double)(next_random(&state) >> 11) * 0x1p-53;
            values[i] = low + (span == 0   ? 0
                               : whole > 0 ? (double)(int64_t)(unit * (span + 1))
                                           : unit * span);
        }
        KLN_RETURN_IF_ERROR(kiln_tensor_write(&parts, first, size, values));
    }
    return KILN_OK;
}

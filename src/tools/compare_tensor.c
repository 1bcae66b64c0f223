/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "compare_parts.h"

#define CHUNK 1024

typedef struct tolerance {
    double relative, absolute;
    double of_rms; /* allowed as well, times the expected tensor's root mean square */
} tolerance;

/* The table is in <kiln/compare.h>. */
static tolerance default_tolerance(kiln_dtype dtype)
{
    switch (dtype) {
        case KILN_DTYPE_COMPLEX64:
        case KILN_DTYPE_FLOAT32: return (tolerance){1e-3, 1e-5, 0};
        case KILN_DTYPE_COMPLEX128:
        case KILN_DTYPE_FLOAT64: return (tolerance){1e-7, 1e-7, 0};
        case KILN_DTYPE_FLOAT16: return (tolerance){0x1p-8, 1e-5, 0x1p-8};
        case KILN_DTYPE_BFLOAT16: return (tolerance){0x1p-5, 1e-5, 0x1p-5};
        case KILN_DTYPE_FLOAT8E4M3: return (tolerance){0x1p-3, 0x1p-9, 0};
        case KILN_DTYPE_FLOAT8E5M2: return (tolerance){0x1p-2, 0x1p-16, 0};
        case KILN_DTYPE_FLOAT4E2M1: return (tolerance){0.5, 0.5, 0};
        case KILN_DTYPE_UNDEFINED:
        case KILN_DTYPE_INT8:
        case KILN_DTYPE_UINT8:
        case KILN_DTYPE_INT16:
        case KILN_DTYPE_UINT16:
        case KILN_DTYPE_INT32:
        case KILN_DTYPE_UINT32:
        case KILN_DTYPE_INT64:
        case KILN_DTYPE_UINT64:
        case KILN_DTYPE_BOOL:
        case KILN_DTYPE_INT4:
        case KILN_DTYPE_UINT4:
        case KILN_DTYPE_STRING: break;
    }
    return (tolerance){0, 0, 0};
}

static bool is_complex(kiln_dtype dtype)
{
    return dtype == KILN_DTYPE_COMPLEX64 || dtype == KILN_DTYPE_COMPLEX128;
}

/* A view of the elements as a list of numbers, two for each element of a complex tensor. */
static kiln_tensor flat(const kiln_tensor *tensor, int64_t count)
{
    kiln_tensor view = *tensor;
    if (is_complex(tensor->desc.dtype)) {
        const bool is_small = tensor->desc.dtype == KILN_DTYPE_COMPLEX64;
        view.desc.dtype = is_small ? KILN_DTYPE_FLOAT32 : KILN_DTYPE_FLOAT64;
        view.desc.shape = KILN_SHAPE(count);
    }
    return view;
}

/* Running sums over the elements that are finite in both tensors. */
typedef struct sums {
    double error, product, found_squares, expected_squares;
    int64_t count;
} sums;

/* A double may not show the difference of 64-bit integers. */
static double whole_error(const kiln_tensor *a, const kiln_tensor *b, int64_t index)
{
    const uint64_t x = ((const uint64_t *)a->data)[index];
    const uint64_t y = ((const uint64_t *)b->data)[index];
    const bool is_signed = a->desc.dtype == KILN_DTYPE_INT64;
    const bool is_less = is_signed ? (int64_t)x < (int64_t)y : x < y;
    return (double)(is_less ? y - x : x - y);
}

static double error_of(double found, double expected)
{
    if (found == expected || (isnan(found) && isnan(expected))) {
        return 0;
    }
    return isfinite(found) && isfinite(expected) ? fabs(found - expected) : (double)INFINITY;
}

/* Two rounding errors of the type: both sides round the product of integer and scale. */
static double rounding_of(kiln_dtype dtype)
{
    return dtype == KILN_DTYPE_BFLOAT16 ? 0x1p-7 : dtype == KILN_DTYPE_FLOAT16 ? 0x1p-10 : 0x1p-22;
}

/* Whether the difference is within the allowed number of quantization steps. */
static bool is_near(kiln_tensor_difference *d, double step, double expected, double error)
{
    if (!(step > 0) || !isfinite(error)) {
        return false;
    }
    const double off = error / step;
    d->step = step > d->step ? step : d->step;
    d->largest_steps = off > d->largest_steps ? off : d->largest_steps;
    d->stepped += off >= 0.5;
    return error <= d->steps * step + rounding_of(d->expected_dtype) * (fabs(expected) + step);
}

static void take(kiln_tensor_difference *d, sums *s, int64_t index, double found, double expected,
                 double error, double step)
{
    const bool near = is_near(d, step, expected, error);
    /* With an infinite expected value the tolerance would allow everything. */
    const bool fits = error == 0 || near ||
                      (isfinite(error) && error <= d->absolute + d->relative * fabs(expected));
    d->different += !fits;
    if (error > d->largest_absolute || d->largest_at < 0) {
        d->largest_absolute = error;
        d->largest_at = index;
        d->found = found;
        d->expected = expected;
    }
    if (expected != 0 && isfinite(expected) && error / fabs(expected) > d->largest_relative) {
        d->largest_relative = error / fabs(expected);
    }
    d->found_nans += isnan(found) != 0;
    d->expected_nans += isnan(expected) != 0;
    d->found_infinities += isinf(found) != 0;
    d->expected_infinities += isinf(expected) != 0;
    if (isfinite(found) && isfinite(expected)) {
        s->error += error;
        s->product += found * expected;
        s->found_squares += found * found;
        s->expected_squares += expected * expected;
        s->count++;
    }
}

static void conclude(kiln_tensor_difference *d, const sums *s)
{
    d->mean_absolute = s->count > 0 ? s->error / (double)s->count : 0;
    if (s->count == 0 && d->count > 0) {
        d->cosine = (double)NAN;
    } else if (s->found_squares > 0 && s->expected_squares > 0) {
        d->cosine = s->product / (sqrt(s->found_squares) * sqrt(s->expected_squares));
    } else {
        d->cosine = s->found_squares == s->expected_squares ? 1 : 0;
    }
    d->passes = d->different == 0;
}

/* The root mean square of the finite elements. */
static kiln_status root_mean_square(const kiln_tensor *tensor, int64_t count, double *result)
{
    double squares = 0;
    int64_t finite = 0;
    for (int64_t first = 0; first < count; first += CHUNK) {
        double values[CHUNK];
        const size_t size = count - first < CHUNK ? (size_t)(count - first) : CHUNK;
        KLN_RETURN_IF_ERROR(kiln_tensor_read(tensor, first, size, values));
        for (size_t i = 0; i < size; i++) {
            if (isfinite(values[i])) {
                squares += values[i] * values[i];
                finite++;
            }
        }
    }
    *result = finite > 0 ? sqrt(squares / (double)finite) : 0;
    return KILN_OK;
}

/* Strings: 1 is expected, and 0 found if they differ. */
static kiln_status read_pair(const kiln_tensor *a, const kiln_tensor *b, int64_t first, size_t size,
                             double *found, double *expected)
{
    if (a->desc.dtype != KILN_DTYPE_STRING) {
        KLN_RETURN_IF_ERROR(kiln_tensor_read(a, first, size, found));
        return kiln_tensor_read(b, first, size, expected);
    }
    for (size_t i = 0; i < size; i++) {
        const kiln_span x = ((const kiln_span *)a->data)[(size_t)first + i];
        const kiln_span y = ((const kiln_span *)b->data)[(size_t)first + i];
        const bool same = x.size == y.size && (x.size == 0 || memcmp(x.data, y.data, x.size) == 0);
        expected[i] = 1;
        found[i] = same ? 1 : 0;
    }
    return KILN_OK;
}

static kiln_status walk(const kiln_tensor *a, const kiln_tensor *b, const kln_compare_steps *steps,
                        kiln_tensor_difference *d)
{
    sums s = {0};
    const bool is_long = a->desc.dtype == KILN_DTYPE_INT64 || a->desc.dtype == KILN_DTYPE_UINT64;
    for (int64_t first = 0; first < d->count; first += CHUNK) {
        double found[CHUNK];
        double expected[CHUNK];
        const size_t size = d->count - first < CHUNK ? (size_t)(d->count - first) : CHUNK;
        KLN_RETURN_IF_ERROR(read_pair(a, b, first, size, found, expected));
        for (size_t i = 0; i < size; i++) {
            const int64_t at = first + (int64_t)i;
            take(d, &s, at, found[i], expected[i],
                 is_long ? whole_error(a, b, at) : error_of(found[i], expected[i]),
                 kln_compare_step_at(steps, at));
        }
    }
    conclude(d, &s);
    return KILN_OK;
}

/* A backend without float64 computes in float32 (kiln_backend.bound_as). */
static bool is_narrowed(kiln_dtype a, kiln_dtype b)
{
    return (a == KILN_DTYPE_FLOAT32 && b == KILN_DTYPE_FLOAT64) ||
           (a == KILN_DTYPE_FLOAT64 && b == KILN_DTYPE_FLOAT32);
}

kiln_status kln_compare_tensor(const kiln_tensor *found, const kiln_tensor *expected,
                               const kiln_compare_options *options, kln_compare_steps *steps,
                               kiln_tensor_difference *difference)
{
    const bool narrowed = is_narrowed(found->desc.dtype, expected->desc.dtype);
    const tolerance by_type =
        default_tolerance(narrowed ? KILN_DTYPE_FLOAT32 : expected->desc.dtype);
    difference->found_dtype = found->desc.dtype;
    difference->expected_dtype = expected->desc.dtype;
    difference->found_shape = found->desc.shape;
    difference->expected_shape = expected->desc.shape;
    difference->absolute = options->absolute < 0 ? by_type.absolute : options->absolute;
    difference->relative = options->relative < 0 ? by_type.relative : options->relative;
    difference->steps = options->steps >= 0 ? options->steps : options->absolute < 0 ? 1 : 0;
    if (expected->desc.dtype == KILN_DTYPE_STRING) {
        difference->absolute = difference->relative = 0;
    }
    difference->largest_at = -1;
    if ((found->desc.dtype != expected->desc.dtype && !narrowed) ||
        !kln_dtype_is_bindable(found->desc.dtype) || found->desc.shape.rank < 0 ||
        !kiln_shape_equal(&found->desc.shape, &expected->desc.shape)) {
        return KILN_OK;
    }
    const bool is_pair = is_complex(found->desc.dtype);
    difference->is_comparable = true;
    KLN_RETURN_IF_ERROR(kiln_shape_elements(&found->desc.shape, &difference->count));
    difference->count *= is_pair ? 2 : 1;
    const kiln_tensor a = flat(found, difference->count);
    const kiln_tensor b = flat(expected, difference->count);
    if (options->absolute < 0 && by_type.of_rms > 0) {
        double rms = 0;
        KLN_RETURN_IF_ERROR(root_mean_square(&b, difference->count, &rms));
        difference->absolute += by_type.of_rms * rms;
    }
    kln_compare_steps_fit(steps, &found->desc.shape);
    KLN_RETURN_IF_ERROR(walk(&a, &b, steps, difference));
    difference->largest_at /= is_pair && difference->largest_at > 0 ? 2 : 1;
    return KILN_OK;
}

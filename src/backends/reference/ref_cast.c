/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "ref_ops.h"

/* "-2.2250738585072014e-308" and its terminating NUL. */
#define MOST_DIGITS 32

/* Beyond the largest finite value, without saturation: NaN for e4m3fn, infinity for e5m2. */
void ref_put_float8(ref_tensor *y, int64_t index, double value, bool saturate)
{
    const float narrow = ref_narrow(value);
    ((uint8_t *)y->data)[index] = y->dtype == KILN_DTYPE_FLOAT8E4M3
                                      ? kln_e4m3_from_float(narrow, saturate)
                                      : kln_e5m2_from_float(narrow, saturate);
}

/* Parses integers of up to 64 bits, which a double may not represent, into `*whole`. */
static kiln_status parse(const kiln_span *text, double *value, int64_t *whole, bool *is_whole)
{
    char copy[64];
    char *end = NULL;
    KLN_RETURN_IF(text->size >= sizeof copy, KILN_ERROR_INVALID_NETWORK,
                  "a string of %zu bytes is no number", text->size);
    memcpy(copy, text->size > 0 ? text->data : "", text->size);
    copy[text->size] = '\0';
    const locale_t locale = ref_locale();
    *value = locale != (locale_t)0 ? strtod_l(copy, &end, locale) : strtod(copy, &end);
    KLN_RETURN_IF(end == copy || *end != '\0', KILN_ERROR_INVALID_NETWORK, "\"%s\" is no number",
                  copy);
    errno = 0;
    *whole = strtoll(copy, &end, 10);
    *is_whole = *end == '\0' && errno == 0;
    return KILN_OK;
}

static kiln_status cast_strings(const ref_tensor *x, ref_tensor *y)
{
    for (int64_t i = 0; i < x->count; i++) {
        double value = 0.0;
        int64_t whole = 0;
        bool is_whole = false;
        KLN_RETURN_IF_ERROR(parse(&((const kiln_span *)x->data)[i], &value, &whole, &is_whole));
        if (is_whole && ref_domain_of(y->dtype) != REF_DOMAIN_FLOAT) {
            ref_put_int(y, i, whole);
        } else {
            ref_put_float(y, i, value);
        }
    }
    return KILN_OK;
}

/* Prints the fewest digits that read back as the same number, without an exponent unless that gets
 * long. The program's locale may have another decimal point. */
static size_t print_float(kiln_dtype dtype, double value, char text[MOST_DIGITS])
{
    bool same = false;
    int size = snprintf(text, MOST_DIGITS, "%s", isnan(value) ? "NaN" : value > 0 ? "INF" : "-INF");
    for (int digits = 0; isfinite(value) && !same && digits < 17; digits++) {
        size = snprintf(text, MOST_DIGITS, "%.*e", digits, value);
        const double again = strtod(text, NULL);
        const int power = (int)strtol(strchr(text, 'e') + 1, NULL, 10);
        same = dtype == KILN_DTYPE_FLOAT64 ? again == value : (float)again == (float)value;
        if ((same || digits == 16) && power >= -5 && power < 16) {
            const int places = digits > power ? digits - power : 0;
            size = snprintf(text, MOST_DIGITS, "%.*f", places, value);
        }
    }
    char *point = strchr(text, ',');
    if (point != NULL) {
        *point = '.';
    }
    return (size_t)size;
}

static size_t print_number(const ref_tensor *x, int64_t index, char text[MOST_DIGITS])
{
    if (ref_domain_of(x->dtype) == REF_DOMAIN_FLOAT) {
        return print_float(x->dtype, ref_get_float(x, index), text);
    }
    const int64_t value = ref_get_int(x, index);
    return (size_t)(ref_domain_of(x->dtype) == REF_DOMAIN_UNSIGNED
                        ? snprintf(text, MOST_DIGITS, "%" PRIu64, (uint64_t)value)
                        : snprintf(text, MOST_DIGITS, "%" PRId64, value));
}

static kiln_status print_numbers(ref_call *call, const ref_tensor *x, ref_tensor *y)
{
    char *to = NULL;
    kiln_span *texts = y->data;
    KLN_RETURN_IF_ERROR(ref_text_take(call, (size_t)x->count * MOST_DIGITS, &to));
    for (int64_t i = 0; i < x->count; i++) {
        texts[i] = (kiln_span){to, print_number(x, i, to)};
        to += texts[i].size + 1;
    }
    return KILN_OK;
}

static bool is_castable(kiln_dtype dtype)
{
    return ref_domain_of(dtype) != REF_DOMAIN_NONE || dtype == KILN_DTYPE_STRING;
}

static void cast_slowly(const ref_tensor *x, ref_tensor *y, int64_t start, int64_t end,
                        bool saturate)
{
    double floats[REF_CHUNK];
    int64_t ints[REF_CHUNK];
    const bool whole =
        ref_domain_of(x->dtype) != REF_DOMAIN_FLOAT && ref_domain_of(y->dtype) != REF_DOMAIN_FLOAT;
    for (int64_t i = start; i < end; i += REF_CHUNK) {
        const int64_t n = end - i < REF_CHUNK ? end - i : REF_CHUNK;
        if (whole) {
            ref_load_int(x, i, 1, n, ints);
            ref_store_int(y, i, 1, n, ints);
            continue;
        }
        if (y->dtype == KILN_DTYPE_FLOAT64) {
            ref_load_float(x, i, 1, n, (double *)y->data + i);
            continue;
        }
        ref_load_float(x, i, 1, n, floats);
        if (ref_is_float8(y->dtype)) {
            for (int64_t j = 0; j < n; j++) {
                ref_put_float8(y, i + j, floats[j], saturate);
            }
        } else {
            ref_store_float(y, i, 1, n, floats);
        }
    }
}

#define AT_ONCE 2048

static void cast_numbers(const ref_tensor *x, ref_tensor *y, bool saturate)
{
    const ref_lean_cast lean = ref_lean_cast_of(x->dtype, y->dtype);
    const size_t from = ref_element_size(x->dtype);
    const size_t to = ref_element_size(y->dtype);
    for (int64_t i = 0; i < x->count; i += AT_ONCE) {
        const int64_t n = x->count - i < AT_ONCE ? x->count - i : AT_ONCE;
        if (lean == NULL ||
            !lean((const char *)x->data + (size_t)i * from, n, (char *)y->data + (size_t)i * to)) {
            cast_slowly(x, y, i, i + n, saturate);
        }
    }
}

static kiln_status cast_to(ref_call *call, const ref_tensor *x, kiln_dtype dtype)
{
    ref_tensor *y = NULL;
    if (dtype == x->dtype) {
        return ref_output_view(call, 0, 0, x->rank, x->dims);
    }
    KLN_RETURN_IF(!is_castable(dtype) || !is_castable(x->dtype), KILN_ERROR_UNSUPPORTED,
                  "a cast from %s to %s is not computed here", kiln_dtype_name(x->dtype),
                  kiln_dtype_name(dtype));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, dtype, x->rank, x->dims, &y));
    if (x->dtype == KILN_DTYPE_STRING) {
        return cast_strings(x, y);
    }
    if (dtype == KILN_DTYPE_STRING) {
        return print_numbers(call, x, y);
    }
    cast_numbers(x, y, ref_attribute_int(call, "saturate", 1) != 0);
    return KILN_OK;
}

static kiln_status ref_op_cast(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const int64_t wanted = ref_attribute_int(call, "to", 0);
    const kiln_dtype dtype =
        wanted > 0 && wanted < 1000 ? kln_onnx_dtype((int32_t)wanted) : KILN_DTYPE_UNDEFINED;
    KLN_RETURN_IF(dtype == KILN_DTYPE_UNDEFINED, KILN_ERROR_UNSUPPORTED,
                  "a cast to %s is not computed here", kln_onnx_dtype_name((int32_t)wanted));
    return cast_to(call, x, dtype);
}

static kiln_status ref_op_cast_like(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const ref_tensor *like = ref_input(call, 1);
    return cast_to(call, x, like->dtype);
}

/* 4-bit elements take a byte each, int4 with its sign extended. */
static kiln_status cast_packed(ref_call *call, const ref_tensor *x, kiln_dtype dtype)
{
    ref_tensor *y = NULL;
    KLN_RETURN_IF_ERROR(ref_output(call, 0, dtype, x->rank, x->dims, &y));
    const uint8_t *from = x->data;
    uint8_t *to = y->data;
    for (int64_t i = 0; i < x->count; i++) {
        const uint8_t bits = from[i] & 0x0F;
        const bool negative = dtype == KILN_DTYPE_INT4 && (bits & 0x08) != 0;
        to[i] = negative ? (uint8_t)(bits | 0xF0) : bits;
    }
    return KILN_OK;
}

static kiln_status ref_op_bit_cast(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    const int64_t wanted = ref_attribute_int(call, "to", 0);
    const kiln_dtype dtype =
        wanted > 0 && wanted < 1000 ? kln_onnx_dtype((int32_t)wanted) : KILN_DTYPE_UNDEFINED;
    KLN_RETURN_IF(
        kiln_dtype_bits(dtype) != kiln_dtype_bits(x->dtype) || kiln_dtype_bits(dtype) == 0,
        KILN_ERROR_INVALID_NETWORK, "the %u bits of %s cannot be read as %s, which has %u",
        kiln_dtype_bits(x->dtype), kiln_dtype_name(x->dtype), kiln_dtype_name(dtype),
        kiln_dtype_bits(dtype));
    if (ref_is_packed(dtype)) {
        return cast_packed(call, x, dtype);
    }
    KLN_RETURN_IF_ERROR(ref_output_view(call, 0, 0, x->rank, x->dims));
    call->outputs[0].tensor.dtype = dtype;
    return KILN_OK;
}

/* --- tensors from scalars --- */

static kiln_status read_shape(ref_call *call, int *rank, int64_t *dims)
{
    const int64_t *values = NULL;
    size_t count = 0;
    KLN_RETURN_IF_ERROR(ref_int_list(call, 0, NULL, &values, &count));
    KLN_RETURN_IF(count > REF_RANK, KILN_ERROR_RANK, "%zu dimensions are past the limit of %d",
                  count, REF_RANK);
    if (count > 0) {
        memcpy(dims, values, count * sizeof *dims);
    }
    *rank = (int)count;
    return KILN_OK;
}

static kiln_status ref_op_constant_of_shape(ref_call *call)
{
    int rank = 0;
    int64_t dims[REF_RANK];
    ref_tensor *y = NULL;
    KLN_RETURN_IF_ERROR(read_shape(call, &rank, dims));
    const kln_onnx_attribute *value = ref_attribute(call, "value");
    const kln_onnx_tensor *given =
        value != NULL && value->type == KLN_ONNX_ATTRIBUTE_TENSOR ? value->tensor : NULL;
    const kiln_dtype dtype = given != NULL ? given->dtype : KILN_DTYPE_FLOAT32;
    const size_t size = ref_element_size(dtype);
    uint8_t element[16] = {0};
    if (given != NULL) {
        KLN_RETURN_IF(dtype == KILN_DTYPE_STRING || given->data.size < (size + 1) / 2 ||
                          (given->data.size < size && !ref_is_packed(dtype)) ||
                          given->data.data == NULL,
                      KILN_ERROR_UNSUPPORTED, "`value` must be one number");
        if (ref_is_packed(dtype)) {
            ref_unpack(dtype, given->data.data, 1, element);
        } else {
            memcpy(element, given->data.data, size);
        }
    }
    KLN_RETURN_IF_ERROR(ref_output(call, 0, dtype, rank, dims, &y));
    ref_copy_elements(size, y->count, y->data, 1, element, 0);
    return KILN_OK;
}

static kiln_status ref_op_range(ref_call *call)
{
    const ref_tensor *start = ref_input(call, 0);
    const ref_tensor *limit = ref_input(call, 1);
    const ref_tensor *delta = ref_input(call, 2);
    ref_tensor *y = NULL;
    const double first = ref_get_float(start, 0);
    const double step = ref_get_float(delta, 0);
    const double steps = ceil((ref_get_float(limit, 0) - first) / step);
    KLN_RETURN_IF(step == 0.0 || isnan(steps) || steps > 1e15, KILN_ERROR_INVALID_NETWORK,
                  "a range from %g by %g has no end", first, step);
    const int64_t dims[1] = {steps > 0.0 ? (int64_t)steps : 0};
    KLN_RETURN_IF_ERROR(ref_output(call, 0, start->dtype, 1, dims, &y));
    const bool real = ref_domain_of(start->dtype) == REF_DOMAIN_FLOAT;
    const int64_t whole[2] = {ref_get_int(start, 0), ref_get_int(delta, 0)};
    for (int64_t at = 0; at < y->count; at += REF_CHUNK) {
        const int64_t n = y->count - at < REF_CHUNK ? y->count - at : REF_CHUNK;
        double floats[REF_CHUNK];
        int64_t ints[REF_CHUNK];
        for (int64_t i = 0; real && i < n; i++) {
            floats[i] = first + (double)(at + i) * step;
        }
        for (int64_t i = 0; !real && i < n; i++) {
            ints[i] = (int64_t)((uint64_t)whole[0] + (uint64_t)(at + i) * (uint64_t)whole[1]);
        }
        if (real) {
            ref_store_float(y, at, 1, n, floats);
        } else {
            ref_store_int(y, at, 1, n, ints);
        }
    }
    return KILN_OK;
}

static kiln_status ref_op_eye_like(ref_call *call)
{
    const ref_tensor *x = ref_input(call, 0);
    ref_tensor *y = NULL;
    const int64_t wanted = ref_attribute_int(call, "dtype", 0);
    const kiln_dtype dtype =
        wanted > 0 && wanted < 1000 ? kln_onnx_dtype((int32_t)wanted) : x->dtype;
    KLN_RETURN_IF(x->rank != 2 || ref_domain_of(dtype) == REF_DOMAIN_NONE,
                  KILN_ERROR_INVALID_NETWORK, "a matrix of numbers is needed");
    KLN_RETURN_IF_ERROR(ref_output(call, 0, dtype, 2, x->dims, &y));
    const int64_t k = ref_attribute_int(call, "k", 0);
    memset(y->data, 0, (size_t)y->count * ref_element_size(dtype));
    for (int64_t i = k < 0 ? -k : 0; i < x->dims[0] && i + k < x->dims[1]; i++) {
        ref_put_int(y, i * x->dims[1] + i + k, 1);
    }
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_cast[] = {
    REF_OP("Cast", 6, cast, 0, "t"),
    REF_OP("CastLike", 15, cast_like, 0, "tt"),
    REF_OP("BitCast", 26, bit_cast, 0, "t"),
    REF_OP("ConstantOfShape", 9, constant_of_shape, 0),
    REF_OP("Range", 11, range, 0, "111"),
    REF_OP("EyeLike", 9, eye_like, 0, "t"),
    REF_KERNELS_END
};
/* clang-format on */

/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <math.h>

#include "kln_tensor.h"

static kiln_status check_range(const char *what, const kiln_tensor *tensor, int64_t first,
                               size_t count)
{
    KLN_RETURN_IF_ERROR(kln_tensor_check(what, tensor));
    const kiln_tensor_desc *desc = &tensor->desc;
    KLN_RETURN_IF(desc->dtype == KILN_DTYPE_COMPLEX64 || desc->dtype == KILN_DTYPE_COMPLEX128,
                  KILN_ERROR_DTYPE, "%s: a %s element is two numbers", what,
                  kiln_dtype_name(desc->dtype));
    KLN_RETURN_IF(desc->dtype == KILN_DTYPE_STRING, KILN_ERROR_DTYPE,
                  "%s: a string element is no number", what);
    KLN_RETURN_IF(desc->location == KILN_LOCATION_DEVICE || desc->format != KILN_FORMAT_LINEAR ||
                      !kln_strides_are_dense(&desc->shape, &desc->strides),
                  KILN_ERROR_UNSUPPORTED,
                  "%s: a dense linear tensor in host memory is needed, this is in %s memory "
                  "and format %d%s",
                  what, kiln_location_name(desc->location), (int)desc->format,
                  kln_strides_are_dense(&desc->shape, &desc->strides) ? "" : ", with strides");
    int64_t elements = 0;
    KLN_RETURN_IF_ERROR(kiln_shape_elements(&desc->shape, &elements));
    KLN_RETURN_IF(first < 0 || first > elements || count > (uint64_t)(elements - first),
                  KILN_ERROR_INVALID_ARGUMENT,
                  "%s: from number %" PRId64 " on %zu elements were asked for, there are %" PRId64,
                  what, first, count, elements);
    return KILN_OK;
}

static unsigned nibble(const uint8_t *bytes, size_t index)
{
    return index % 2 == 0 ? bytes[index / 2] & 0xfu : bytes[index / 2] >> 4u;
}

static void set_nibble(uint8_t *bytes, size_t index, unsigned value)
{
    const unsigned shift = index % 2 == 0 ? 0 : 4;
    bytes[index / 2] = (uint8_t)((bytes[index / 2] & ~(0xfu << shift)) | (value & 0xfu) << shift);
}

/* Reads element `i`; the tensor has been checked. */
static double get(kiln_dtype dtype, const void *data, size_t i)
{
    switch (dtype) {
        case KILN_DTYPE_FLOAT32: return (double)((const float *)data)[i];
        case KILN_DTYPE_FLOAT64: return ((const double *)data)[i];
        case KILN_DTYPE_FLOAT16: return (double)kln_float_from_half(((const uint16_t *)data)[i]);
        case KILN_DTYPE_BFLOAT16:
            return (double)kln_float_from_bfloat16(((const uint16_t *)data)[i]);
        case KILN_DTYPE_FLOAT8E4M3: return (double)kln_float_from_e4m3(((const uint8_t *)data)[i]);
        case KILN_DTYPE_FLOAT8E5M2: return (double)kln_float_from_e5m2(((const uint8_t *)data)[i]);
        case KILN_DTYPE_FLOAT4E2M1: return (double)kln_float_from_e2m1((uint8_t)nibble(data, i));
        case KILN_DTYPE_INT8: return ((const int8_t *)data)[i];
        case KILN_DTYPE_UINT8: return ((const uint8_t *)data)[i];
        case KILN_DTYPE_INT16: return ((const int16_t *)data)[i];
        case KILN_DTYPE_UINT16: return ((const uint16_t *)data)[i];
        case KILN_DTYPE_INT32: return ((const int32_t *)data)[i];
        case KILN_DTYPE_UINT32: return ((const uint32_t *)data)[i];
        case KILN_DTYPE_INT64: return (double)((const int64_t *)data)[i];
        case KILN_DTYPE_UINT64: return (double)((const uint64_t *)data)[i];
        case KILN_DTYPE_BOOL: return ((const uint8_t *)data)[i] != 0;
        case KILN_DTYPE_UINT4: return nibble(data, i);
        case KILN_DTYPE_INT4: return (double)nibble(data, i) - (nibble(data, i) >= 8 ? 16 : 0);
        case KILN_DTYPE_UNDEFINED:
        case KILN_DTYPE_COMPLEX64:
        case KILN_DTYPE_COMPLEX128:
        case KILN_DTYPE_STRING: break;
    }
    return 0;
}

/* Rounds to odd: rounding the result again to fewer digits then gives the same as rounding once. */
static float sticky_float(double value)
{
    float rounded = (float)value;
    if ((double)rounded == value || isnan(value)) {
        return rounded;
    }
    if (fabs((double)rounded) > fabs(value)) {
        rounded = nextafterf(rounded, 0.0F);
    }
    uint32_t bits;
    memcpy(&bits, &rounded, sizeof bits);
    bits |= 1;
    memcpy(&rounded, &bits, sizeof rounded);
    return rounded;
}

static void set(kiln_dtype dtype, void *data, size_t i, double value)
{
    switch (dtype) {
        case KILN_DTYPE_FLOAT32: ((float *)data)[i] = (float)value; break;
        case KILN_DTYPE_FLOAT64: ((double *)data)[i] = value; break;
        case KILN_DTYPE_FLOAT16:
            ((uint16_t *)data)[i] = kln_half_from_float(sticky_float(value));
            break;
        case KILN_DTYPE_BFLOAT16:
            ((uint16_t *)data)[i] = kln_bfloat16_from_float(sticky_float(value));
            break;
        case KILN_DTYPE_FLOAT8E4M3:
            ((uint8_t *)data)[i] = kln_e4m3_from_float(sticky_float(value), false);
            break;
        case KILN_DTYPE_FLOAT8E5M2:
            ((uint8_t *)data)[i] = kln_e5m2_from_float(sticky_float(value), false);
            break;
        case KILN_DTYPE_FLOAT4E2M1:
            set_nibble(data, i, kln_e2m1_from_float(sticky_float(value)));
            break;
        case KILN_DTYPE_INT8: ((int8_t *)data)[i] = (int8_t)value; break;
        case KILN_DTYPE_UINT8: ((uint8_t *)data)[i] = (uint8_t)value; break;
        case KILN_DTYPE_INT16: ((int16_t *)data)[i] = (int16_t)value; break;
        case KILN_DTYPE_UINT16: ((uint16_t *)data)[i] = (uint16_t)value; break;
        case KILN_DTYPE_INT32: ((int32_t *)data)[i] = (int32_t)value; break;
        case KILN_DTYPE_UINT32: ((uint32_t *)data)[i] = (uint32_t)value; break;
        case KILN_DTYPE_INT64: ((int64_t *)data)[i] = (int64_t)value; break;
        case KILN_DTYPE_UINT64: ((uint64_t *)data)[i] = (uint64_t)value; break;
        case KILN_DTYPE_BOOL: ((uint8_t *)data)[i] = (uint8_t)value; break;
        case KILN_DTYPE_UINT4:
        case KILN_DTYPE_INT4: set_nibble(data, i, (unsigned)(int)value); break;
        case KILN_DTYPE_UNDEFINED:
        case KILN_DTYPE_COMPLEX64:
        case KILN_DTYPE_COMPLEX128:
        case KILN_DTYPE_STRING: break;
    }
}

bool kln_integer_range(kiln_dtype dtype, double *low, double *end)
{
    static const struct {
        kiln_dtype dtype;
        double low;
        double end;
    } ranges[] = {
        {KILN_DTYPE_INT8, -128, 128},
        {KILN_DTYPE_UINT8, 0, 256},
        {KILN_DTYPE_INT16, -32768, 32768},
        {KILN_DTYPE_UINT16, 0, 65536},
        {KILN_DTYPE_INT32, -0x1p31, 0x1p31},
        {KILN_DTYPE_UINT32, 0, 0x1p32},
        {KILN_DTYPE_INT64, -0x1p63, 0x1p63},
        {KILN_DTYPE_UINT64, 0, 0x1p64},
        {KILN_DTYPE_BOOL, 0, 2},
        {KILN_DTYPE_INT4, -8, 8},
        {KILN_DTYPE_UINT4, 0, 16},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(ranges); i++) {
        if (ranges[i].dtype == dtype) {
            *low = ranges[i].low;
            *end = ranges[i].end;
            return true;
        }
    }
    return false;
}

static kiln_status check_values(const char *what, kiln_dtype dtype, int64_t first, size_t count,
                                const double *values)
{
    double low = 0;
    double end = 0;
    const bool is_integer = kln_integer_range(dtype, &low, &end);
    for (size_t i = 0; i < count; i++) {
        const double value = values[i];
        const bool fits = is_integer ? value >= low && value < end && floor(value) == value
                                     : dtype != KILN_DTYPE_FLOAT4E2M1 || !isnan(value);
        KLN_RETURN_IF(!fits, KILN_ERROR_INVALID_ARGUMENT,
                      "%s: element %" PRId64 " is %.17g, which %s cannot hold", what,
                      first + (int64_t)i, value, kiln_dtype_name(dtype));
    }
    return KILN_OK;
}

kiln_status kiln_tensor_read(const kiln_tensor *tensor, int64_t first, size_t count, double *values)
{
    KLN_RETURN_IF_ERROR(check_range(__func__, tensor, first, count));
    KLN_FAIL_IF(values == NULL && count > 0, kln_fail_null(__func__, "values"));
    for (size_t i = 0; i < count; i++) {
        values[i] = get(tensor->desc.dtype, tensor->data, (size_t)first + i);
    }
    return KILN_OK;
}

kiln_status kiln_tensor_write(const kiln_tensor *tensor, int64_t first, size_t count,
                              const double *values)
{
    KLN_RETURN_IF_ERROR(check_range(__func__, tensor, first, count));
    KLN_FAIL_IF(values == NULL && count > 0, kln_fail_null(__func__, "values"));
    KLN_RETURN_IF_ERROR(check_values(__func__, tensor->desc.dtype, first, count, values));
    for (size_t i = 0; i < count; i++) {
        set(tensor->desc.dtype, tensor->data, (size_t)first + i, values[i]);
    }
    return KILN_OK;
}

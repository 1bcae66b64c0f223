/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"

ref_domain ref_domain_of(kiln_dtype dtype)
{
    switch (dtype) {
        case KILN_DTYPE_FLOAT32:
        case KILN_DTYPE_FLOAT16:
        case KILN_DTYPE_BFLOAT16:
        case KILN_DTYPE_FLOAT64:
        case KILN_DTYPE_FLOAT8E4M3:
        case KILN_DTYPE_FLOAT8E5M2:
        case KILN_DTYPE_FLOAT4E2M1: return REF_DOMAIN_FLOAT;
        case KILN_DTYPE_INT8:
        case KILN_DTYPE_INT16:
        case KILN_DTYPE_INT32:
        case KILN_DTYPE_INT64:
        case KILN_DTYPE_INT4:
        case KILN_DTYPE_BOOL: return REF_DOMAIN_SIGNED;
        case KILN_DTYPE_UINT8:
        case KILN_DTYPE_UINT16:
        case KILN_DTYPE_UINT32:
        case KILN_DTYPE_UINT64:
        case KILN_DTYPE_UINT4: return REF_DOMAIN_UNSIGNED;
        case KILN_DTYPE_UNDEFINED:
        case KILN_DTYPE_COMPLEX64:
        case KILN_DTYPE_COMPLEX128:
        case KILN_DTYPE_STRING: break;
    }
    return REF_DOMAIN_NONE;
}

bool ref_is_packed(kiln_dtype dtype)
{
    return kiln_dtype_bits(dtype) == 4;
}

bool ref_is_float8(kiln_dtype dtype)
{
    return dtype == KILN_DTYPE_FLOAT8E4M3 || dtype == KILN_DTYPE_FLOAT8E5M2;
}

size_t ref_element_size(kiln_dtype dtype)
{
    if (dtype == KILN_DTYPE_STRING) {
        return sizeof(kiln_span);
    }
    return ref_is_packed(dtype) ? 1 : kiln_dtype_bits(dtype) / 8;
}

double ref_round_even(double value)
{
    if (!(fabs(value) < 4503599627370496.0)) {
        return value; /* integers from 2^52 on, infinity and NaN */
    }
    int64_t whole = (int64_t)value; /* truncates */
    const double rest = value - (double)whole;
    const bool odd = (whole & 1) != 0;
    whole += (rest > 0.5 || (rest == 0.5 && odd)) ? 1 : 0;
    whole -= (rest < -0.5 || (rest == -0.5 && odd)) ? 1 : 0;
    return copysign((double)whole, value); /* -0.4 becomes -0 */
}

/* X(dtype, C type, load, store), where `v` is the stored or the computed element. */
#define FLOAT_TYPES(X)                                                   \
    X(KILN_DTYPE_FLOAT32, float, (double)v, (float)v)                    \
    X(KILN_DTYPE_FLOAT64, double, v, v)                                  \
    X(KILN_DTYPE_FLOAT16, uint16_t, (double)kln_float_from_half(v),      \
      kln_half_from_float(ref_narrow(v)))                                \
    X(KILN_DTYPE_BFLOAT16, uint16_t, (double)kln_float_from_bfloat16(v), \
      kln_bfloat16_from_float(ref_narrow(v)))                            \
    X(KILN_DTYPE_FLOAT8E4M3, uint8_t, (double)kln_float_from_e4m3(v),    \
      kln_e4m3_from_float(ref_narrow(v), true))                          \
    X(KILN_DTYPE_FLOAT8E5M2, uint8_t, (double)kln_float_from_e5m2(v),    \
      kln_e5m2_from_float(ref_narrow(v), true))                          \
    X(KILN_DTYPE_FLOAT4E2M1, uint8_t, (double)kln_float_from_e2m1(v),    \
      kln_e2m1_from_float(ref_narrow(v)))

#define INT_TYPES(X)               \
    X(KILN_DTYPE_INT8, int8_t)     \
    X(KILN_DTYPE_INT4, int8_t)     \
    X(KILN_DTYPE_INT16, int16_t)   \
    X(KILN_DTYPE_INT32, int32_t)   \
    X(KILN_DTYPE_INT64, int64_t)   \
    X(KILN_DTYPE_UINT8, uint8_t)   \
    X(KILN_DTYPE_UINT4, uint8_t)   \
    X(KILN_DTYPE_UINT16, uint16_t) \
    X(KILN_DTYPE_UINT32, uint32_t) \
    X(KILN_DTYPE_UINT64, uint64_t) \
    X(KILN_DTYPE_BOOL, uint8_t)

double ref_least(kiln_dtype dtype)
{
    const unsigned bits = kiln_dtype_bits(dtype);
    const bool is_signed = ref_domain_of(dtype) == REF_DOMAIN_SIGNED && dtype != KILN_DTYPE_BOOL;
    return is_signed ? -ldexp(1.0, (int)bits - 1) : 0.0;
}

double ref_greatest(kiln_dtype dtype)
{
    if (dtype == KILN_DTYPE_BOOL) {
        return 1.0;
    }
    const int bits = (int)kiln_dtype_bits(dtype);
    return ldexp(1.0, ref_domain_of(dtype) == REF_DOMAIN_SIGNED ? bits - 1 : bits) - 1.0;
}

int64_t ref_to_int(double value)
{
    if (isnan(value)) {
        return 0;
    }
    if (value >= 9223372036854775808.0) {
        return INT64_MAX;
    }
    return value <= -9223372036854775808.0 ? INT64_MIN : (int64_t)value;
}

static int64_t int_from_float(kiln_dtype dtype, double value)
{
    if (dtype == KILN_DTYPE_BOOL) {
        return value != 0.0;
    }
    if (isnan(value)) {
        return 0;
    }
    if (ref_domain_of(dtype) == REF_DOMAIN_UNSIGNED) {
        if (value <= -1.0) {
            /* As narrowing a signed integer would, if it can represent the value. */
            return value > -9223372036854775808.0 ? (int64_t)value : 0;
        }
        return value >= 18446744073709551616.0 ? -1 : (int64_t)(uint64_t)fmax(value, 0.0);
    }
    if (!(fabs(value) < 9223372036854775808.0)) {
        return ref_to_int(value > 0.0 ? ref_greatest(dtype) : ref_least(dtype));
    }
    return (int64_t)value;
}

REF_WIDE static void widen(const float *in, int64_t n, double *out)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = (double)in[i];
    }
}

REF_WIDE static void narrow(const double *in, int64_t n, float *out)
{
    for (int64_t i = 0; i < n; i++) {
        out[i] = (float)in[i];
    }
}

REF_WIDE static void load_float_of(const ref_tensor *tensor, int64_t start, int64_t step, int64_t n,
                                   double *out)
{
    if (tensor->dtype == KILN_DTYPE_FLOAT16 && step == 1) {
        ref_halves_load((const uint16_t *)tensor->data + start, n, out);
        return;
    }
    if (tensor->dtype == KILN_DTYPE_FLOAT32 && step == 1) {
        widen((const float *)tensor->data + start, n, out);
        return;
    }
    switch (tensor->dtype) {
#define LOAD_FLOAT(dtype, type, read, written)                 \
    case dtype: {                                              \
        const type *from = (const type *)tensor->data + start; \
        for (int64_t i = 0; i < n; i++) {                      \
            const type v = from[i * step];                     \
            out[i] = read;                                     \
        }                                                      \
        return;                                                \
    }
        FLOAT_TYPES(LOAD_FLOAT)
#define LOAD_AS_FLOAT(dtype, type)                             \
    case dtype: {                                              \
        const type *from = (const type *)tensor->data + start; \
        for (int64_t i = 0; i < n; i++) {                      \
            out[i] = (double)from[i * step];                   \
        }                                                      \
        return;                                                \
    }
        INT_TYPES(LOAD_AS_FLOAT)
        default: break;
    }
    memset(out, 0, (size_t)n * sizeof *out);
}

void ref_load_float(const ref_tensor *tensor, int64_t start, int64_t step, int64_t n, double *out)
{
    load_float_of(tensor, start, step, n, out);
}

REF_WIDE static void load_int_of(const ref_tensor *tensor, int64_t start, int64_t step, int64_t n,
                                 int64_t *out)
{
    switch (tensor->dtype) {
#define LOAD_INT(dtype, type)                                  \
    case dtype: {                                              \
        const type *from = (const type *)tensor->data + start; \
        for (int64_t i = 0; i < n; i++) {                      \
            out[i] = (int64_t)from[i * step];                  \
        }                                                      \
        return;                                                \
    }
        INT_TYPES(LOAD_INT)
        default: break;
    }
    double values[REF_CHUNK];
    for (int64_t i = 0; i < n; i += REF_CHUNK) {
        const int64_t count = n - i < REF_CHUNK ? n - i : REF_CHUNK;
        ref_load_float(tensor, start + i * step, step, count, values);
        for (int64_t k = 0; k < count; k++) {
            out[i + k] = int_from_float(KILN_DTYPE_INT64, values[k]);
        }
    }
}

void ref_load_int(const ref_tensor *tensor, int64_t start, int64_t step, int64_t n, int64_t *out)
{
    load_int_of(tensor, start, step, n, out);
}

/* 4-bit values take a byte, with the sign extended. */
static int64_t wrap(kiln_dtype dtype, int64_t value)
{
    switch (dtype) {
        case KILN_DTYPE_BOOL: return value != 0;
        case KILN_DTYPE_UINT4: return value & 15;
        case KILN_DTYPE_INT4: return ((value & 15) ^ 8) - 8;
        default: return value;
    }
}

REF_WIDE static void store_int_of(ref_tensor *tensor, int64_t start, int64_t step, int64_t n,
                                  const int64_t *in)
{
    switch (tensor->dtype) {
#define STORE_INT(dtype, type)                       \
    case dtype: {                                    \
        type *to = (type *)tensor->data + start;     \
        for (int64_t i = 0; i < n; i++) {            \
            to[i * step] = (type)wrap(dtype, in[i]); \
        }                                            \
        return;                                      \
    }
        INT_TYPES(STORE_INT)
        default: break;
    }
    double values[REF_CHUNK];
    for (int64_t i = 0; i < n; i += REF_CHUNK) {
        const int64_t count = n - i < REF_CHUNK ? n - i : REF_CHUNK;
        for (int64_t k = 0; k < count; k++) {
            values[k] = (double)in[i + k];
        }
        ref_store_float(tensor, start + i * step, step, count, values);
    }
}

void ref_store_int(ref_tensor *tensor, int64_t start, int64_t step, int64_t n, const int64_t *in)
{
    store_int_of(tensor, start, step, n, in);
}

void ref_store_float(ref_tensor *tensor, int64_t start, int64_t step, int64_t n, const double *in)
{
    if (tensor->dtype == KILN_DTYPE_FLOAT16 && step == 1) {
        ref_halves_store(in, n, (uint16_t *)tensor->data + start);
        return;
    }
    if (tensor->dtype == KILN_DTYPE_BFLOAT16 && step == 1) {
        ref_bfloats_store(in, n, (uint16_t *)tensor->data + start);
        return;
    }
    if (tensor->dtype == KILN_DTYPE_FLOAT32 && step == 1) {
        narrow(in, n, (float *)tensor->data + start);
        return;
    }
    switch (tensor->dtype) {
#define STORE_FLOAT(dtype, type, read, written)  \
    case dtype: {                                \
        type *to = (type *)tensor->data + start; \
        for (int64_t i = 0; i < n; i++) {        \
            const double v = in[i];              \
            to[i * step] = written;              \
        }                                        \
        return;                                  \
    }
        FLOAT_TYPES(STORE_FLOAT)
        default: break;
    }
    int64_t values[REF_CHUNK];
    const ref_lean_cast lean =
        step == 1 ? ref_lean_cast_of(KILN_DTYPE_FLOAT64, tensor->dtype) : NULL;
    for (int64_t i = 0; i < n; i += REF_CHUNK) {
        const int64_t count = n - i < REF_CHUNK ? n - i : REF_CHUNK;
        char *to = (char *)tensor->data + (size_t)(start + i) * ref_element_size(tensor->dtype);
        if (lean != NULL && lean(in + i, count, to)) {
            continue;
        }
        for (int64_t k = 0; k < count; k++) {
            values[k] = int_from_float(tensor->dtype, in[i + k]);
        }
        ref_store_int(tensor, start + i * step, step, count, values);
    }
}

/* Fast path for a single element of the most common type. */
double ref_get_float(const ref_tensor *tensor, int64_t index)
{
    double value = 0.0;
    if (tensor->dtype == KILN_DTYPE_FLOAT32) {
        return (double)((const float *)tensor->data)[index];
    }
    ref_load_float(tensor, index, 1, 1, &value);
    return value;
}

int64_t ref_get_int(const ref_tensor *tensor, int64_t index)
{
    int64_t value = 0;
    if (tensor->dtype == KILN_DTYPE_INT64) {
        return ((const int64_t *)tensor->data)[index];
    }
    ref_load_int(tensor, index, 1, 1, &value);
    return value;
}

void ref_put_float(ref_tensor *tensor, int64_t index, double value)
{
    if (tensor->dtype == KILN_DTYPE_FLOAT32) {
        ((float *)tensor->data)[index] = (float)value;
        return;
    }
    ref_store_float(tensor, index, 1, 1, &value);
}

void ref_put_int(ref_tensor *tensor, int64_t index, int64_t value)
{
    if (tensor->dtype == KILN_DTYPE_INT64) {
        ((int64_t *)tensor->data)[index] = value;
        return;
    }
    ref_store_int(tensor, index, 1, 1, &value);
}

void ref_unpack(kiln_dtype dtype, const void *packed, int64_t count, void *bytes)
{
    const uint8_t *from = packed;
    uint8_t *to = bytes;
    for (int64_t i = 0; i < count; i++) {
        const unsigned nibble = (unsigned)(from[i / 2] >> (i % 2 * 4)) & 15U;
        to[i] = (uint8_t)(dtype == KILN_DTYPE_INT4 && nibble >= 8U ? nibble | 0xF0U : nibble);
    }
}

void ref_pack(const void *bytes, int64_t count, void *packed)
{
    const uint8_t *from = bytes;
    uint8_t *to = packed;
    for (int64_t i = 0; i < count; i += 2) {
        const unsigned high = i + 1 < count ? from[i + 1] & 15U : 0U;
        to[i / 2] = (uint8_t)((from[i] & 15U) | high << 4);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The small floating-point formats. All consist of sign, exponent and fraction like a float, so one
 * routine narrows to all of them and one widens; only the sizes and the meaning of the largest
 * exponent differ.
 *
 * float8e4m3fn and float8e5m2: "FP8 Formats for Deep Learning", https://arxiv.org/abs/2209.05433,
 * and https://onnx.ai/onnx/technical/float8.html, which has the rules for values out of range.
 */
#include "kln_tensor.h"

#define FLOAT_FRACTION_BITS 23
#define FLOAT_BIAS 127
#define FLOAT_INFINITY UINT32_C(0x7f800000)

typedef struct float_format {
    int exponent_bits;
    int fraction_bits;
    int bias;
    uint32_t largest;  /* the largest finite value */
    uint32_t overflow; /* what a larger value becomes: infinity, or NaN if there is no infinity */
    uint32_t nan;      /* the quiet NaN */
    bool has_infinity; /* otherwise the largest exponent holds ordinary numbers */
} float_format;

static const float_format half = {5, 10, 15, 0x7bff, 0x7c00, 0x7e00, true};
static const float_format bfloat16 = {8, 7, 127, 0x7f7f, 0x7f80, 0x7fc0, true};
static const float_format e4m3 = {4, 3, 7, 0x7e, 0x7f, 0x7f, false};
static const float_format e5m2 = {5, 2, 15, 0x7b, 0x7c, 0x7e, true};
static const float_format e2m1 = {2, 1, 1, 0x7, 0x7, 0x7, false};

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Drops the lowest `count` bits of `value`, rounding to nearest, ties to even. */
static uint32_t shift_rounded(uint32_t value, int count)
{
    if (count > 25) {
        return 0; /* below half a unit in the last place for any 24-bit significand */
    }
    if (count <= 0) {
        return value << -count;
    }
    const uint32_t rest = value & ((UINT32_C(1) << count) - 1);
    const uint32_t middle = UINT32_C(1) << (count - 1);
    const uint32_t kept = value >> count;
    return kept + (rest > middle || (rest == middle && (kept & 1) != 0));
}

static uint32_t narrow(const float_format *format, float value, bool saturate)
{
    const uint32_t bits = bits_of(value);
    const uint32_t magnitude = bits & UINT32_C(0x7fffffff);
    const uint32_t sign = (bits >> 31) << (format->exponent_bits + format->fraction_bits);
    if (magnitude > FLOAT_INFINITY) {
        /* Keeps the payload's upper bits if there is room, and makes the NaN quiet. */
        const uint32_t payload =
            (magnitude & UINT32_C(0x007fffff)) >> (FLOAT_FRACTION_BITS - format->fraction_bits);
        return sign | format->nan | (format->fraction_bits >= 7 ? payload : 0);
    }
    if (magnitude == FLOAT_INFINITY) {
        return sign | (saturate ? format->largest : format->overflow);
    }
    const int exponent = (int)(magnitude >> FLOAT_FRACTION_BITS);
    uint32_t significand = magnitude & UINT32_C(0x007fffff);
    significand |= exponent > 0 ? UINT32_C(0x00800000) : 0;
    const int wide_exponent = (exponent > 0 ? exponent : 1) - FLOAT_BIAS;
    const int narrow_exponent = wide_exponent + format->bias;
    int drop = FLOAT_FRACTION_BITS - format->fraction_bits;
    uint32_t result;
    if (narrow_exponent > 0) {
        /* The leading one adds 1 to the exponent field, hence the - 1; a carry out of the fraction
         * increments the exponent, which gives the correct next number. */
        result = shift_rounded(significand, drop) +
                 ((uint32_t)(narrow_exponent - 1) << format->fraction_bits);
    } else {
        drop += 1 - narrow_exponent;
        result = shift_rounded(significand, drop);
    }
    if (result > format->largest) {
        result = saturate ? format->largest : format->overflow;
    }
    return sign | result;
}

static float widen(const float_format *format, uint32_t bits)
{
    const int sign_place = format->exponent_bits + format->fraction_bits;
    const uint32_t sign = (bits >> sign_place) << 31;
    const uint32_t magnitude = bits & ((UINT32_C(1) << sign_place) - 1);
    const uint32_t fraction = magnitude & ((UINT32_C(1) << format->fraction_bits) - 1);
    const int widen_by = FLOAT_FRACTION_BITS - format->fraction_bits;
    if (magnitude > format->largest) {
        if (format->has_infinity) {
            return float_of(sign | FLOAT_INFINITY | (fraction << widen_by));
        }
        return float_of(sign | UINT32_C(0x7fc00000));
    }
    int exponent = (int)(magnitude >> format->fraction_bits);
    uint32_t significand = fraction;
    if (exponent == 0) {
        if (fraction == 0) {
            return float_of(sign);
        }
        exponent = 1;
        while (significand >> format->fraction_bits == 0) {
            significand <<= 1;
            exponent--;
        }
        significand &= (UINT32_C(1) << format->fraction_bits) - 1;
    }
    const uint32_t wide_exponent = (uint32_t)(exponent - format->bias + FLOAT_BIAS);
    return float_of(sign | (wide_exponent << FLOAT_FRACTION_BITS) | (significand << widen_by));
}

float kln_float_from_half(uint16_t bits)
{
    return widen(&half, bits);
}

uint16_t kln_half_from_float(float value)
{
    return (uint16_t)narrow(&half, value, false);
}

float kln_float_from_bfloat16(uint16_t bits)
{
    return float_of((uint32_t)bits << 16);
}

uint16_t kln_bfloat16_from_float(float value)
{
    return (uint16_t)narrow(&bfloat16, value, false);
}

float kln_float_from_e4m3(uint8_t bits)
{
    return widen(&e4m3, bits);
}

uint8_t kln_e4m3_from_float(float value, bool saturate)
{
    return (uint8_t)narrow(&e4m3, value, saturate);
}

float kln_float_from_e5m2(uint8_t bits)
{
    return widen(&e5m2, bits);
}

uint8_t kln_e5m2_from_float(float value, bool saturate)
{
    return (uint8_t)narrow(&e5m2, value, saturate);
}

float kln_float_from_e2m1(uint8_t bits)
{
    return widen(&e2m1, bits & 0xf);
}

uint8_t kln_e2m1_from_float(float value)
{
    return (uint8_t)narrow(&e2m1, value, true);
}

/* Inlined, so that `size` is a constant. */
static inline kln_odd count_odd(const void *data, size_t count, size_t size, uint64_t infinity)
{
    const uint64_t magnitude = (UINT64_C(1) << (8 * size - 1)) - 1;
    kln_odd odd = {0, 0};
    for (size_t i = 0; i < count; i++) {
        uint64_t bits = 0;
        memcpy(&bits, (const uint8_t *)data + i * size, size);
        odd.nans += (bits & magnitude) > infinity;
        odd.infinities += (bits & magnitude) == infinity;
    }
    return odd;
}

kln_odd kln_odd_numbers(kiln_dtype dtype, const void *data, size_t count)
{
    switch (dtype) {
        case KILN_DTYPE_FLOAT64: return count_odd(data, count, 8, UINT64_C(0x7ff) << 52);
        case KILN_DTYPE_FLOAT32: return count_odd(data, count, 4, FLOAT_INFINITY);
        case KILN_DTYPE_FLOAT16: return count_odd(data, count, 2, half.overflow);
        case KILN_DTYPE_BFLOAT16: return count_odd(data, count, 2, bfloat16.overflow);
        case KILN_DTYPE_FLOAT8E5M2: return count_odd(data, count, 1, e5m2.overflow);
        case KILN_DTYPE_FLOAT8E4M3:
            return (kln_odd){count_odd(data, count, 1, e4m3.largest).nans, 0};
        default: return (kln_odd){0, 0};
    }
}

float kln_float_of_key(int32_t key)
{
    return float_of((uint32_t)(key ^ (key < 0 ? INT32_MAX : 0))) + 0.0F;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conversions against a formulation of their own kind: the value of each pattern is computed
 * with ldexp from the definition of the format, and a float belongs to the nearest of those values,
 * found by search and comparison in double, where every difference is exact.
 */
#include "kiln_test.h"
#include "tensor/kln_tensor.h"

typedef struct format {
    const char *name;
    int exponent_bits;
    int fraction_bits;
    int bias;
    bool has_infinity;
    bool can_saturate;
} format;

static const format half = {"float16", 5, 10, 15, true, false};
static const format bfloat16 = {"bfloat16", 8, 7, 127, true, false};
static const format e4m3 = {"float8e4m3fn", 4, 3, 7, false, true};
static const format e5m2 = {"float8e5m2", 5, 2, 15, true, true};

static float widen(const format *f, uint32_t bits)
{
    if (f == &half) {
        return kln_float_from_half((uint16_t)bits);
    }
    if (f == &bfloat16) {
        return kln_float_from_bfloat16((uint16_t)bits);
    }
    return f == &e4m3 ? kln_float_from_e4m3((uint8_t)bits) : kln_float_from_e5m2((uint8_t)bits);
}

static uint32_t narrow(const format *f, float value, bool saturate)
{
    if (f == &half) {
        return kln_half_from_float(value);
    }
    if (f == &bfloat16) {
        return kln_bfloat16_from_float(value);
    }
    return f == &e4m3 ? kln_e4m3_from_float(value, saturate) : kln_e5m2_from_float(value, saturate);
}

static uint32_t sign_bit(const format *f)
{
    return UINT32_C(1) << (f->exponent_bits + f->fraction_bits);
}

/* The value of a pattern without its sign, by definition. */
static double defined(const format *f, uint32_t bits)
{
    const uint32_t exponent = bits >> f->fraction_bits;
    const uint32_t fraction = bits & ((UINT32_C(1) << f->fraction_bits) - 1);
    const uint32_t last = (UINT32_C(1) << f->exponent_bits) - 1;
    if (f->has_infinity && exponent == last) {
        return fraction == 0 ? (double)INFINITY : (double)NAN;
    }
    if (!f->has_infinity && bits == sign_bit(f) - 1) {
        return (double)NAN;
    }
    if (exponent == 0) {
        return ldexp(fraction, 1 - f->bias - f->fraction_bits);
    }
    return ldexp(fraction + ldexp(1, f->fraction_bits), (int)exponent - f->bias - f->fraction_bits);
}

static uint32_t largest_finite(const format *f)
{
    uint32_t bits = 0;
    while (isfinite(defined(f, bits + 1))) {
        bits++;
    }
    return bits;
}

/* Which pattern a non-negative number belongs to. */
static uint32_t nearest(const format *f, uint32_t largest, double value, bool saturate)
{
    const double top = defined(f, largest);
    /* Past the largest there would be one more with the same spacing; ties there go up where that
     * one is even. */
    const double step = top - defined(f, largest - 1);
    const double limit = top + step / 2;
    if (value > limit || (value == limit && largest % 2 == 1)) {
        return saturate ? largest : largest + 1;
    }
    uint32_t low = 0;
    uint32_t high = largest;
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (defined(f, middle) <= value) {
            low = middle;
        } else {
            high = middle;
        }
    }
    const double below = value - defined(f, low);
    const double above = defined(f, high) - value;
    if (below == above) {
        return low % 2 == 0 ? low : high;
    }
    return fabs(below) < fabs(above) ? low : high;
}

static void check_value(const format *f, uint32_t largest, float value)
{
    for (int negative = 0; negative < 2; negative++) {
        for (int saturate = 0; saturate <= (f->can_saturate ? 1 : 0); saturate++) {
            const float given = negative != 0 ? -value : value;
            const uint32_t expected = nearest(f, largest, (double)value, saturate != 0) |
                                      (negative != 0 ? sign_bit(f) : 0);
            const uint32_t found = narrow(f, given, saturate != 0);
            if (found != expected) {
                print_error("%s of %a: expected %x, found %x\n", f->name, (double)given, expected,
                            found);
                fail();
            }
        }
    }
}

static void check_format(const format *f)
{
    /* Every pattern widens to the value it is defined to have. */
    for (uint32_t bits = 0; bits < sign_bit(f); bits++) {
        const double expected = defined(f, bits);
        const float found = widen(f, bits);
        const float negative = widen(f, bits | sign_bit(f));
        if (isnan(expected)) {
            assert_true(isnan(found) && isnan(negative));
            assert_true(isnan(widen(f, narrow(f, found, false))));
            assert_true(isnan(widen(f, narrow(f, found, true))));
        } else {
            assert_true((double)found == expected && !signbit(found));
            assert_true((double)negative == -expected && signbit(negative) != 0);
        }
    }
    /* Narrowing is checked where it can go wrong: at each value, at each middle between two, and at
     * the floats next to those. */
    const uint32_t largest = largest_finite(f);
    for (uint32_t bits = 0; bits <= largest; bits++) {
        const double value = defined(f, bits);
        const double next =
            bits < largest ? defined(f, bits + 1) : value + (value - defined(f, bits - 1));
        const float places[] = {(float)value, (float)(value + (next - value) / 2)};
        for (size_t i = 0; i < KLN_ARRAY_LENGTH(places); i++) {
            check_value(f, largest, places[i]);
            check_value(f, largest, nextafterf(places[i], INFINITY));
            check_value(f, largest, fabsf(nextafterf(places[i], 0.0F)));
        }
    }
    check_value(f, largest, 3.4028234664e38F);
    check_value(f, largest, INFINITY);
    /* And at a million floats spread over all of them. */
    for (uint32_t bits = 0; bits < UINT32_C(0x7f800000); bits += 4099) {
        float value;
        memcpy(&value, &bits, sizeof value);
        check_value(f, largest, value);
    }
}

TEST(halves)
{
    check_format(&half);
    assert_int_equal(kln_half_from_float(65504.0F), 0x7bff);
    assert_int_equal(kln_half_from_float(65520.0F), 0x7c00);
    assert_int_equal(kln_half_from_float(5.9604645e-8F), 0x0001);
    assert_int_equal(kln_half_from_float(2.9802322e-8F), 0x0000);
    assert_true(kln_float_from_half(0x3c00) == 1.0F);
}

TEST(bfloats)
{
    check_format(&bfloat16);
    assert_int_equal(kln_bfloat16_from_float(1.0F), 0x3f80);
    assert_int_equal(kln_bfloat16_from_float(3.4028234664e38F), 0x7f80);
}

TEST(float8s)
{
    check_format(&e4m3);
    check_format(&e5m2);
    assert_true(kln_float_from_e4m3(0x7e) == 448.0F);
    assert_true(kln_float_from_e5m2(0x7b) == 57344.0F);
    /* The table at https://onnx.ai/onnx/technical/float8.html#cast. */
    assert_int_equal(kln_e4m3_from_float(INFINITY, true), 0x7e);
    assert_int_equal(kln_e4m3_from_float(-INFINITY, true), 0xfe);
    assert_int_equal(kln_e4m3_from_float(INFINITY, false), 0x7f);
    assert_int_equal(kln_e5m2_from_float(INFINITY, true), 0x7b);
    assert_int_equal(kln_e5m2_from_float(-INFINITY, false), 0xfc);
    assert_int_equal(kln_e4m3_from_float(464.0F, false), 0x7e);
    assert_int_equal(kln_e4m3_from_float(464.1F, false), 0x7f);
}

TEST(float4s)
{
    /* All sixteen, as https://onnx.ai/onnx/technical/float4.html lists them. */
    static const float values[8] = {0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 3.0F, 4.0F, 6.0F};
    for (uint8_t bits = 0; bits < 8; bits++) {
        assert_true(kln_float_from_e2m1(bits) == values[bits]);
        assert_true(kln_float_from_e2m1(bits | 8) == -values[bits]);
        assert_int_equal(kln_e2m1_from_float(values[bits]), bits);
        assert_int_equal(kln_e2m1_from_float(-values[bits]), bits | 8);
        if (bits < 7) {
            const float middle = (values[bits] + values[bits + 1]) / 2;
            assert_int_equal(kln_e2m1_from_float(middle), bits % 2 == 0 ? bits : bits + 1);
            assert_int_equal(kln_e2m1_from_float(nextafterf(middle, 0.0F)), bits);
            assert_int_equal(kln_e2m1_from_float(nextafterf(middle, 9.0F)), bits + 1);
        }
    }
    assert_int_equal(kln_e2m1_from_float(1e30F), 7);
    assert_int_equal(kln_e2m1_from_float(-INFINITY), 15);
}

/* Every number of a byte and of two, at an odd address. */
TEST(what_is_not_finite_is_counted)
{
    static const kiln_dtype types[] = {
        KILN_DTYPE_FLOAT8E4M3, KILN_DTYPE_FLOAT8E5M2, KILN_DTYPE_FLOAT16, KILN_DTYPE_BFLOAT16,
        KILN_DTYPE_FLOAT32,    KILN_DTYPE_FLOAT64,    KILN_DTYPE_INT16};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(types); i++) {
        const size_t size = kiln_dtype_bits(types[i]) / 8;
        for (uint64_t bits = 0; bits < (size == 1 ? 256 : 65536); bits++) {
            const uint64_t pattern = size <= 2 ? bits : bits << (8 * size - 16) | (bits & 1);
            unsigned char at[9];
            double value = 0;
            memcpy(at + 1, &pattern, size);
            kiln_tensor tensor =
                KILN_HOST_TENSOR(types[i], KILN_SHAPE_SCALAR, (void *)(uintptr_t)&pattern, size);
            assert_ok(kiln_tensor_read(&tensor, 0, 1, &value));
            const kln_odd odd = kln_odd_numbers(types[i], at + 1, 1);
            assert_int_equal(odd.nans, isnan(value) ? 1 : 0);
            assert_int_equal(odd.infinities, isinf(value) ? 1 : 0);
        }
    }
}

TEST(nans_stay_nans)
{
    static const uint32_t patterns[] = {0x7f800001, 0x7fc00000, 0x7fffffff, 0xff800001, 0xffc00000};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(patterns); i++) {
        float value;
        memcpy(&value, &patterns[i], sizeof value);
        assert_true(isnan(kln_float_from_half(kln_half_from_float(value))));
        assert_true(isnan(kln_float_from_bfloat16(kln_bfloat16_from_float(value))));
        assert_true(isnan(kln_float_from_e4m3(kln_e4m3_from_float(value, i % 2 == 0))));
        assert_true(isnan(kln_float_from_e5m2(kln_e5m2_from_float(value, i % 2 == 0))));
    }
}

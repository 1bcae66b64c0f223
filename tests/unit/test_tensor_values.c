/* SPDX-License-Identifier: Apache-2.0 */
#include "kiln_test.h"
#include "tensor/kln_tensor.h"

static _Alignas(16) unsigned char memory[256];

static kiln_tensor tensor_of(kiln_dtype dtype, int64_t count)
{
    memset(memory, 0, sizeof memory);
    return KILN_HOST_TENSOR(dtype, KILN_SHAPE(count), memory, sizeof memory);
}

/* What each type holds comes back as it was. */
TEST(values_come_back)
{
    static const struct {
        kiln_dtype dtype;
        double values[5];
    } cases[] = {
        {KILN_DTYPE_FLOAT32, {0, -1.5, 0x1.fffffep127, 0x1p-149, (double)INFINITY}},
        {KILN_DTYPE_FLOAT64, {0, -0.1, 1.7e308, 5e-324, -(double)INFINITY}},
        {KILN_DTYPE_FLOAT16, {0, -1.5, 65504, 0x1p-24, (double)INFINITY}},
        {KILN_DTYPE_BFLOAT16, {0, -1.5, 0x1.fep127, 0x1p-133, (double)INFINITY}},
        {KILN_DTYPE_FLOAT8E4M3, {0, -1.5, 448, 0x1p-9, -448}},
        {KILN_DTYPE_FLOAT8E5M2, {0, -1.5, 57344, 0x1p-16, (double)INFINITY}},
        {KILN_DTYPE_FLOAT4E2M1, {0, -1.5, 6, 0.5, -6}},
        {KILN_DTYPE_INT8, {0, -128, 127, 1, -1}},
        {KILN_DTYPE_UINT8, {0, 255, 127, 1, 128}},
        {KILN_DTYPE_INT16, {0, -32768, 32767, 1, -1}},
        {KILN_DTYPE_UINT16, {0, 65535, 32767, 1, 2}},
        {KILN_DTYPE_INT32, {0, -2147483648.0, 2147483647, 1, -1}},
        {KILN_DTYPE_UINT32, {0, 4294967295.0, 2147483647, 1, 2}},
        {KILN_DTYPE_INT64, {0, -0x1p63, 0x1p53, 1, -1}},
        {KILN_DTYPE_UINT64, {0, 0x1p63, 0x1p53, 1, 2}},
        {KILN_DTYPE_BOOL, {0, 1, 1, 0, 1}},
        {KILN_DTYPE_INT4, {0, -8, 7, 1, -1}},
        {KILN_DTYPE_UINT4, {0, 15, 7, 1, 8}},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        const kiln_tensor tensor = tensor_of(cases[i].dtype, 5);
        double values[5] = {9, 9, 9, 9, 9};
        assert_ok(kiln_tensor_write(&tensor, 0, 5, cases[i].values));
        assert_ok(kiln_tensor_read(&tensor, 0, 5, values));
        for (size_t v = 0; v < 5; v++) {
            assert_true(values[v] == cases[i].values[v]);
        }
        /* A part of it, and nothing beside that. */
        assert_ok(kiln_tensor_write(&tensor, 2, 1, &cases[i].values[0]));
        assert_ok(kiln_tensor_read(&tensor, 1, 3, values));
        assert_true(values[0] == cases[i].values[1]);
        assert_true(values[1] == cases[i].values[0]);
        assert_true(values[2] == cases[i].values[3]);
    }
}

TEST(fractions_are_rounded_once)
{
    /* Just above the middle of 1 and the next half: a rounding to float first would end on the
     * middle, and go down to even. */
    const double value = 1 + 0x1p-11 + 0x1p-40;
    double found = 0;
    kiln_tensor tensor = tensor_of(KILN_DTYPE_FLOAT16, 1);
    assert_ok(kiln_tensor_write(&tensor, 0, 1, &value));
    assert_ok(kiln_tensor_read(&tensor, 0, 1, &found));
    assert_true(found == 1 + 0x1p-10);
    const double below = -(1 + 0x1p-11 + 0x1p-10 - 0x1p-40);
    assert_ok(kiln_tensor_write(&tensor, 0, 1, &below));
    assert_ok(kiln_tensor_read(&tensor, 0, 1, &found));
    assert_true(found == -(1 + 0x1p-10));
    const double huge = 1e300;
    assert_ok(kiln_tensor_write(&tensor, 0, 1, &huge));
    assert_ok(kiln_tensor_read(&tensor, 0, 1, &found));
    assert_true(isinf(found));
    tensor = tensor_of(KILN_DTYPE_FLOAT8E4M3, 1);
    assert_ok(kiln_tensor_write(&tensor, 0, 1, &huge));
    assert_ok(kiln_tensor_read(&tensor, 0, 1, &found));
    assert_true(isnan(found));
    tensor = tensor_of(KILN_DTYPE_FLOAT4E2M1, 1);
    assert_ok(kiln_tensor_write(&tensor, 0, 1, &huge));
    assert_ok(kiln_tensor_read(&tensor, 0, 1, &found));
    assert_true(found == 6);
}

TEST(integers_refuse_what_they_cannot_hold)
{
    static const struct {
        kiln_dtype dtype;
        double value;
    } cases[] = {
        {KILN_DTYPE_INT8, 128},
        {KILN_DTYPE_INT8, -129},
        {KILN_DTYPE_INT8, 0.5},
        {KILN_DTYPE_UINT8, -1},
        {KILN_DTYPE_INT64, 0x1p63},
        {KILN_DTYPE_UINT64, 0x1p64},
        {KILN_DTYPE_BOOL, 2},
        {KILN_DTYPE_INT4, 8},
        {KILN_DTYPE_UINT4, 16},
        {KILN_DTYPE_INT32, (double)NAN},
        {KILN_DTYPE_FLOAT4E2M1, (double)NAN},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        const kiln_tensor tensor = tensor_of(cases[i].dtype, 3);
        const double values[2] = {1, cases[i].value};
        double found = 9;
        assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_tensor_write(&tensor, 1, 2, values),
                     "element 2 is ", kiln_dtype_name(cases[i].dtype));
        assert_ok(kiln_tensor_read(&tensor, 1, 1, &found));
        assert_true(found == 0);
    }
}

TEST(bad_arguments)
{
    double value = 0;
    kiln_tensor tensor = tensor_of(KILN_DTYPE_FLOAT32, 3);
    assert_ok(kiln_tensor_read(&tensor, 3, 0, NULL));
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_tensor_read(&tensor, 3, 1, &value),
                 "from number 3 on 1 element was asked for, there are 3");
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_tensor_read(&tensor, -1, 1, &value));
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_tensor_read(&tensor, 1, SIZE_MAX, &value));
    tensor.desc.dtype = KILN_DTYPE_COMPLEX64;
    assert_fails(KILN_ERROR_DTYPE, kiln_tensor_read(&tensor, 0, 1, &value), "two numbers");
    static kiln_span text;
    tensor = KILN_HOST_TENSOR(KILN_DTYPE_STRING, KILN_SHAPE_SCALAR, &text, sizeof text);
    assert_fails(KILN_ERROR_DTYPE, kiln_tensor_write(&tensor, 0, 1, &value), "is no number");
    assert_status(KILN_ERROR_DTYPE, kiln_tensor_read(&tensor, 0, 1, &value));
    tensor = tensor_of(KILN_DTYPE_FLOAT32, 3);
    tensor.bytes = 11;
    assert_status(KILN_ERROR_SIZE, kiln_tensor_read(&tensor, 0, 1, &value));
    tensor = tensor_of(KILN_DTYPE_FLOAT32, 3);
    tensor.desc.location = KILN_LOCATION_DEVICE;
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_tensor_read(&tensor, 0, 1, &value), "device memory");
    tensor.desc.location = KILN_LOCATION_PINNED;
    assert_ok(kiln_tensor_read(&tensor, 0, 1, &value));
    tensor.desc.strides = (kiln_strides){1, {2}};
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_tensor_read(&tensor, 0, 1, &value), "strides");
}

/* As docs/cli.md has them; complex numbers are twice as many floats. */
TEST(a_tensor_is_filled_with_numbers)
{
    static const kiln_dtype types[] = {KILN_DTYPE_FLOAT32, KILN_DTYPE_COMPLEX64, KILN_DTYPE_UINT8,
                                       KILN_DTYPE_BOOL, KILN_DTYPE_INT8};
    static const double least[] = {-1, -1, 0, 0, 0}, most[] = {1, 1, 255, 1, 127};
    const double range[] = {3, 5}, one[] = {-7, -7}, reversed[] = {5, 3};
    float values[2000];
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(types); i++) {
        const size_t bytes = types[i] == KILN_DTYPE_COMPLEX64 ? 8000 : i == 0 ? 4000 : 1000;
        const kiln_tensor tensor = KILN_HOST_TENSOR(types[i], KILN_SHAPE(1000), values, bytes);
        kiln_tensor parts = tensor;
        parts.desc.dtype = i == 1 ? KILN_DTYPE_FLOAT32 : types[i];
        parts.desc.shape = i == 1 ? KILN_SHAPE(2000) : parts.desc.shape;
        double found[2000], low = 1e9, high = -1e9;
        const size_t count = i == 1 ? 2000 : 1000;
        assert_ok(kiln_tensor_fill(&tensor, "x", 8, NULL));
        assert_ok(kiln_tensor_read(&parts, 0, count, found));
        for (size_t k = 0; k < count; k++) {
            low = found[k] < low ? found[k] : low;
            high = found[k] > high ? found[k] : high;
        }
        assert_true(low >= least[i] && low < least[i] + 0.02 * most[i] + 0.01);
        assert_true(high <= most[i] && high > most[i] - 0.02 * most[i] - 0.01);
    }
    const kiln_tensor bytes = KILN_HOST_TENSOR(KILN_DTYPE_INT8, KILN_SHAPE(100), values, 100);
    assert_ok(kiln_tensor_fill(&bytes, "y", 0, range));
    for (size_t k = 0; k < 100; k++) {
        assert_in_range(((const int8_t *)values)[k], 3, 5);
    }
    assert_ok(kiln_tensor_fill(&bytes, "y", 0, one));
    assert_int_equal(((const int8_t *)values)[99], -7);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_tensor_fill(&bytes, "y", 0, reversed),
                 "\"y\" cannot be filled with numbers from 5 to 3");
}

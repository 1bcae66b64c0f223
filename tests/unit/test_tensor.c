/* SPDX-License-Identifier: Apache-2.0 */
#include "kiln_test.h"
#include "tensor/kln_tensor.h"

TEST(types_have_names_bits_and_alignment)
{
    static const struct {
        kiln_dtype dtype;
        const char *name;
        unsigned bits;
        size_t alignment;
    } types[] = {
        {KILN_DTYPE_FLOAT32, "float32", 32, 4},
        {KILN_DTYPE_FLOAT16, "float16", 16, 2},
        {KILN_DTYPE_BFLOAT16, "bfloat16", 16, 2},
        {KILN_DTYPE_FLOAT64, "float64", 64, 8},
        {KILN_DTYPE_INT8, "int8", 8, 1},
        {KILN_DTYPE_UINT8, "uint8", 8, 1},
        {KILN_DTYPE_INT16, "int16", 16, 2},
        {KILN_DTYPE_UINT16, "uint16", 16, 2},
        {KILN_DTYPE_INT32, "int32", 32, 4},
        {KILN_DTYPE_UINT32, "uint32", 32, 4},
        {KILN_DTYPE_INT64, "int64", 64, 8},
        {KILN_DTYPE_UINT64, "uint64", 64, 8},
        {KILN_DTYPE_BOOL, "bool", 8, 1},
        {KILN_DTYPE_INT4, "int4", 4, 1},
        {KILN_DTYPE_UINT4, "uint4", 4, 1},
        {KILN_DTYPE_FLOAT8E4M3, "float8e4m3fn", 8, 1},
        {KILN_DTYPE_FLOAT8E5M2, "float8e5m2", 8, 1},
        {KILN_DTYPE_FLOAT4E2M1, "float4e2m1", 4, 1},
        {KILN_DTYPE_COMPLEX64, "complex64", 64, 4},
        {KILN_DTYPE_COMPLEX128, "complex128", 128, 8},
        {KILN_DTYPE_STRING, "string", 0, sizeof(void *)},
        {KILN_DTYPE_UNDEFINED, "undefined", 0, 1},
        {(kiln_dtype)99, "undefined", 0, 1},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(types); i++) {
        assert_string_equal(kiln_dtype_name(types[i].dtype), types[i].name);
        assert_int_equal(kiln_dtype_bits(types[i].dtype), types[i].bits);
        assert_int_equal(kiln_dtype_alignment(types[i].dtype), types[i].alignment);
        if ((int)types[i].dtype < 99) {
            assert_int_equal(kiln_dtype_from_name(types[i].name), types[i].dtype);
        }
    }
    assert_int_equal(kiln_dtype_from_name("fp16"), KILN_DTYPE_FLOAT16);
    assert_int_equal(kiln_dtype_from_name("half"), KILN_DTYPE_FLOAT16);
    assert_int_equal(kiln_dtype_from_name("bf16"), KILN_DTYPE_BFLOAT16);
    assert_int_equal(kiln_dtype_from_name("fp32"), KILN_DTYPE_FLOAT32);
    assert_int_equal(kiln_dtype_from_name("float"), KILN_DTYPE_FLOAT32);
    assert_int_equal(kiln_dtype_from_name("fp64"), KILN_DTYPE_FLOAT64);
    assert_int_equal(kiln_dtype_from_name("double"), KILN_DTYPE_FLOAT64);
    assert_int_equal(kiln_dtype_from_name("fp8"), KILN_DTYPE_FLOAT8E4M3);
    assert_int_equal(kiln_dtype_from_name("int5"), KILN_DTYPE_UNDEFINED);
    assert_int_equal(kiln_dtype_from_name("Float32"), KILN_DTYPE_UNDEFINED);
    assert_int_equal(kiln_dtype_from_name(""), KILN_DTYPE_UNDEFINED);
    assert_int_equal(kiln_dtype_from_name(NULL), KILN_DTYPE_UNDEFINED);
}

TEST(locations_have_names)
{
    assert_string_equal(kiln_location_name(KILN_LOCATION_HOST), "host");
    assert_string_equal(kiln_location_name(KILN_LOCATION_PINNED), "pinned");
    assert_string_equal(kiln_location_name(KILN_LOCATION_MANAGED), "managed");
    assert_string_equal(kiln_location_name(KILN_LOCATION_DEVICE), "device");
    assert_string_equal(kiln_location_name((kiln_location)4), "?");
}

TEST(shapes_compare)
{
    kiln_shape a = KILN_SHAPE(2, 3, 4);
    kiln_shape b = KILN_SHAPE(2, 3, 4);
    b.dims[3] = 77; /* past the rank */
    assert_true(kiln_shape_equal(&a, &b));
    b.dims[2] = 5;
    assert_false(kiln_shape_equal(&a, &b));
    b = KILN_SHAPE(2, 3);
    assert_false(kiln_shape_equal(&a, &b));
    assert_false(kiln_shape_equal(&a, NULL));
    assert_true(kiln_shape_is_static(&a));
    a.dims[1] = KILN_DYNAMIC;
    assert_false(kiln_shape_is_static(&a));
    a = KILN_SHAPE_SCALAR;
    assert_true(kiln_shape_is_static(&a));
    a.rank = -1;
    assert_false(kiln_shape_is_static(&a));
    assert_false(kiln_shape_is_static(NULL));
}

TEST(shapes_count_elements)
{
    int64_t count = -7;
    kiln_shape shape = KILN_SHAPE(2, 3, 4);
    assert_ok(kiln_shape_elements(&shape, &count));
    assert_int_equal(count, 24);
    shape = KILN_SHAPE_SCALAR;
    assert_ok(kiln_shape_elements(&shape, &count));
    assert_int_equal(count, 1);
    shape = KILN_SHAPE(INT64_MAX, 0, INT64_MAX);
    assert_ok(kiln_shape_elements(&shape, &count));
    assert_int_equal(count, 0);
    shape = KILN_SHAPE(INT64_MAX, 1, 1);
    assert_ok(kiln_shape_elements(&shape, &count));
    assert_int_equal(count, INT64_MAX);

    count = -7;
    shape = KILN_SHAPE(INT64_MAX / 2 + 1, 2);
    assert_fails(KILN_ERROR_LIMIT, kiln_shape_elements(&shape, &count), "4611686018427387904x2");
    shape = KILN_SHAPE(2, KILN_DYNAMIC);
    assert_fails(KILN_ERROR_SHAPE, kiln_shape_elements(&shape, &count),
                 "dimension 1 is not known yet");
    shape = KILN_SHAPE(0, -5);
    assert_fails(KILN_ERROR_SHAPE, kiln_shape_elements(&shape, &count), "dimension 1 is -5");
    shape.rank = 9;
    assert_fails(KILN_ERROR_RANK, kiln_shape_elements(&shape, &count), "9 dimensions");
    shape.rank = -1;
    assert_status(KILN_ERROR_RANK, kiln_shape_elements(&shape, &count));
    assert_int_equal(count, -7);
}

TEST(shapes_become_text)
{
    char text[32];
    kiln_shape shape = KILN_SHAPE(1, KILN_DYNAMIC, 224, 0);
    assert_int_equal(kiln_shape_format(&shape, text, sizeof text), 9);
    assert_string_equal(text, "1x?x224x0");
    assert_int_equal(kiln_shape_format(&shape, text, 4), 9);
    assert_string_equal(text, "1x?");
    assert_int_equal(kiln_shape_format(&shape, NULL, 0), 9);
    assert_int_equal(kiln_shape_format(&shape, text, 1), 9);
    assert_string_equal(text, "");
    shape = KILN_SHAPE_SCALAR;
    assert_int_equal(kiln_shape_format(&shape, text, sizeof text), 6);
    assert_string_equal(text, "scalar");
    shape.rank = -1;
    assert_int_equal(kiln_shape_format(&shape, text, sizeof text), 8);
    assert_string_equal(text, "any rank");
    char longest[KLN_SHAPE_TEXT];
    shape = KILN_SHAPE(INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN,
                       INT64_MIN);
    assert_int_equal(kiln_shape_format(&shape, longest, sizeof longest), 8 * 20 + 7);
    assert_int_equal(strlen(longest), 8 * 20 + 7);
}

TEST(text_becomes_shapes)
{
    static const struct {
        const char *text;
        kiln_shape shape;
    } good[] = {
        {"", {0, {0}}},
        {"scalar", {0, {0}}},
        {"5", {1, {5}}},
        {"0", {1, {0}}},
        {"2x3x224x224", {4, {2, 3, 224, 224}}},
        {"2,3,224,224", {4, {2, 3, 224, 224}}},
        {"?x3", {2, {KILN_DYNAMIC, 3}}},
        {"-1,-1", {2, {KILN_DYNAMIC, KILN_DYNAMIC}}},
        {"9223372036854775807", {1, {INT64_MAX}}},
        {"1x2x3x4x5x6x7x8", {8, {1, 2, 3, 4, 5, 6, 7, 8}}},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(good); i++) {
        kiln_shape shape = {3, {9, 9, 9}};
        assert_ok(kiln_shape_parse(good[i].text, &shape));
        assert_true(kiln_shape_equal(&shape, &good[i].shape));
    }
    static const struct {
        const char *text;
        kiln_status status;
        const char *words;
    } bad[] = {
        {"x", KILN_ERROR_SHAPE, "character 1"},
        {"2x", KILN_ERROR_SHAPE, "character 3"},
        {"2xx3", KILN_ERROR_SHAPE, "character 3"},
        {"2 3", KILN_ERROR_SHAPE, "x or , is needed at character 2"},
        {"-2", KILN_ERROR_SHAPE, "character 1"},
        {"-10", KILN_ERROR_SHAPE, "character 1"},
        {"3x-", KILN_ERROR_SHAPE, "character 3"},
        {"[2]", KILN_ERROR_SHAPE, "character 1"},
        {"2X3", KILN_ERROR_SHAPE, "character 2"},
        {"??", KILN_ERROR_SHAPE, "character 2"},
        {"1x9223372036854775808", KILN_ERROR_SHAPE, "character 3 is past"},
        {"1x2x3x4x5x6x7x8x9", KILN_ERROR_RANK, "more than 8"},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(bad); i++) {
        kiln_shape shape = {3, {9, 9, 9}};
        assert_fails(bad[i].status, kiln_shape_parse(bad[i].text, &shape), bad[i].words);
        assert_true(kiln_shape_equal(&shape, &KILN_SHAPE(9, 9, 9)));
    }
}

TEST(strides_are_dense)
{
    kiln_shape shape = KILN_SHAPE(2, 3, 4);
    kiln_strides strides = {0, {0}};
    assert_true(kln_strides_are_dense(&shape, &strides));
    assert_ok(kiln_strides_dense(&shape, &strides));
    assert_int_equal(strides.rank, 3);
    assert_int_equal(strides.steps[0], 12);
    assert_int_equal(strides.steps[1], 4);
    assert_int_equal(strides.steps[2], 1);
    assert_true(kln_strides_are_dense(&shape, &strides));
    strides.steps[0] = 13;
    assert_false(kln_strides_are_dense(&shape, &strides));
    shape.dims[0] = 1;
    assert_true(kln_strides_are_dense(&shape, &strides));
    shape.dims[0] = 0;
    assert_true(kln_strides_are_dense(&shape, &strides));
    strides.rank = 2;
    assert_false(kln_strides_are_dense(&shape, &strides));
    shape = KILN_SHAPE(KILN_DYNAMIC, 4);
    strides = (kiln_strides){2, {4, 1}};
    assert_false(kln_strides_are_dense(&shape, &strides));
    assert_status(KILN_ERROR_SHAPE, kiln_strides_dense(&shape, &strides));

    shape = KILN_SHAPE(5, 0, 7);
    assert_ok(kiln_strides_dense(&shape, &strides));
    assert_int_equal(strides.steps[0], 7);
    assert_int_equal(strides.steps[1], 7);
    shape = KILN_SHAPE(INT64_MAX, 0, 3);
    assert_status(KILN_ERROR_LIMIT, kiln_strides_dense(&shape, &strides));
    shape = KILN_SHAPE_SCALAR;
    assert_ok(kiln_strides_dense(&shape, &strides));
    assert_int_equal(strides.rank, 0);
    shape.rank = 12;
    assert_status(KILN_ERROR_RANK, kiln_strides_dense(&shape, &strides));
}

TEST(bytes_of_tensors)
{
    size_t bytes = 99;
    kiln_shape shape = KILN_SHAPE(3, 5);
    assert_ok(kiln_tensor_bytes(KILN_DTYPE_FLOAT32, &shape, &bytes));
    assert_int_equal(bytes, 60);
    assert_ok(kiln_tensor_bytes(KILN_DTYPE_INT4, &shape, &bytes));
    assert_int_equal(bytes, 8);
    assert_ok(kiln_tensor_bytes(KILN_DTYPE_COMPLEX128, &shape, &bytes));
    assert_int_equal(bytes, 240);
    shape = KILN_SHAPE_SCALAR;
    assert_ok(kiln_tensor_bytes(KILN_DTYPE_UINT4, &shape, &bytes));
    assert_int_equal(bytes, 1);
    shape = KILN_SHAPE(0, 7);
    assert_ok(kiln_tensor_bytes(KILN_DTYPE_INT64, &shape, &bytes));
    assert_int_equal(bytes, 0);
    shape = KILN_SHAPE(INT64_MAX);
    assert_ok(kiln_tensor_bytes(KILN_DTYPE_INT8, &shape, &bytes));
    assert_int_equal(bytes, INT64_MAX);
    assert_ok(kiln_tensor_bytes(KILN_DTYPE_INT4, &shape, &bytes));
    assert_int_equal(bytes, (size_t)1 << 62);

    bytes = 99;
    assert_fails(KILN_ERROR_LIMIT, kiln_tensor_bytes(KILN_DTYPE_FLOAT16, &shape, &bytes),
                 "more bytes than there are addresses");
    assert_fails(KILN_ERROR_LIMIT, kiln_tensor_bytes(KILN_DTYPE_STRING, &shape, &bytes), "string");
    assert_status(KILN_ERROR_DTYPE, kiln_tensor_bytes(KILN_DTYPE_UNDEFINED, &shape, &bytes));
    assert_fails(KILN_ERROR_DTYPE, kiln_tensor_bytes((kiln_dtype)50, &shape, &bytes), "50");
    shape = KILN_SHAPE(-1);
    assert_status(KILN_ERROR_SHAPE, kiln_tensor_bytes(KILN_DTYPE_INT8, &shape, &bytes));
    assert_int_equal(bytes, 99);
}

TEST(strings_are_spans_in_host_memory)
{
    size_t bytes = 0;
    kiln_span texts[6] = {{"a", 1}};
    const kiln_shape shape = KILN_SHAPE(2, 3);
    kiln_tensor tensor = KILN_HOST_TENSOR(KILN_DTYPE_STRING, shape, texts, sizeof texts);
    assert_ok(kiln_tensor_bytes(KILN_DTYPE_STRING, &shape, &bytes));
    assert_int_equal(bytes, sizeof texts);
    assert_ok(kln_tensor_check("input \"x\"", &tensor));
    for (int i = KILN_LOCATION_PINNED; i <= KILN_LOCATION_DEVICE; i++) {
        tensor.desc.location = (kiln_location)i;
        assert_fails(KILN_ERROR_UNSUPPORTED, kln_tensor_check("input \"x\"", &tensor),
                     "input \"x\": strings lie in host memory, not in ",
                     kiln_location_name((kiln_location)i));
        assert_status(KILN_ERROR_UNSUPPORTED,
                      kiln_tensor_make(KILN_DTYPE_STRING, shape.dims, shape.rank, (kiln_location)i,
                                       0, texts, sizeof texts, &tensor));
    }
    tensor.desc.location = KILN_LOCATION_HOST;
    tensor.bytes--;
    assert_status(KILN_ERROR_SIZE, kln_tensor_check("input \"x\"", &tensor));
}

TEST(views_are_checked)
{
    static float data[8];
    kiln_tensor tensor = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(2, 3), data, sizeof data);
    assert_ok(kln_tensor_check("input \"x\"", &tensor));
    tensor.bytes = 23;
    assert_fails(KILN_ERROR_SIZE, kln_tensor_check("input \"x\"", &tensor),
                 "input \"x\": 23 bytes were given, float32 elements in the shape 2x3 take 24");
    tensor.bytes = 24;
    tensor.data = (char *)data + 2;
    assert_fails(KILN_ERROR_ALIGNMENT, kln_tensor_check("input \"x\"", &tensor),
                 "not a multiple of 4");
    tensor.data = NULL;
    assert_fails(KILN_ERROR_NULL_ARGUMENT, kln_tensor_check("input \"x\"", &tensor),
                 "24 bytes is NULL");
    tensor.desc.shape.dims[0] = 0;
    tensor.bytes = 0;
    assert_ok(kln_tensor_check("input \"x\"", &tensor));
    tensor.desc.shape.dims[0] = KILN_DYNAMIC;
    assert_fails(KILN_ERROR_SHAPE, kln_tensor_check("input \"x\"", &tensor),
                 "input \"x\": dimension 0");
    tensor.desc.shape.rank = 11;
    assert_status(KILN_ERROR_RANK, kln_tensor_check("input \"x\"", &tensor));
    tensor.desc.dtype = KILN_DTYPE_UNDEFINED;
    assert_fails(KILN_ERROR_DTYPE, kln_tensor_check("input \"x\"", &tensor), "input \"x\": ");
    assert_status(KILN_ERROR_NULL_ARGUMENT, kln_tensor_check("input \"x\"", NULL));
}

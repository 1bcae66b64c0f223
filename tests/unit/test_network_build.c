/* SPDX-License-Identifier: Apache-2.0 */
#include "../network/layer_cases.h"
#include "graph_maker.h"
#include "kiln_test.h"
#include "onnx/kln_onnx.h"

static const float values[24] = {1.0F, 2.0F};

TEST(lifecycle)
{
    kiln_network *network = new_network();
    assert_int_equal(kiln_network_opset(network), KILN_OPSET_DEFAULT);
    assert_ok(kiln_network_set_metadata(network, "key", "one"));
    assert_ok(kiln_network_set_metadata(network, "other", "two"));
    assert_ok(kiln_network_set_metadata(network, "key", "three"));
    assert_string_equal(kiln_network_metadata(network, "key"), "three");
    assert_null(kiln_network_metadata(network, "absent"));
    kiln_network_destroy(network);
    kiln_network_destroy(NULL);
    kiln_network_options options = KILN_NETWORK_OPTIONS(.opset = 17);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_network_create(&options, &network),
                 "opset is 17, 18 to 23");
    assert_null(network);
    options.struct_size = 3;
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_network_create(&options, &network));
    assert_int_equal(kiln_network_input_count(NULL), 0);
}

TEST(names)
{
    kiln_tensor_id x, y, found;
    owned_network network = network_of_opset(0);
    x = add_input(network, "x", KILN_DTYPE_FLOAT32, KILN_SHAPE(2, 3));
    assert_fails(KILN_ERROR_NAME, kiln_network_add_unary(network, "x", KILN_UNARY_ABS, x, &y),
                 "the name \"x\" is in use");
    assert_status(KILN_ERROR_INVALID_ARGUMENT,
                  kiln_network_add_unary(network, "", KILN_UNARY_ABS, x, &y));
    assert_ok(kiln_network_add_unary(network, NULL, KILN_UNARY_ABS, x, &y));
    assert_string_equal(kiln_network_tensor_name(network, y), "Abs.1");
    assert_null(kiln_network_tensor_name(network, 77));
    assert_ok(kiln_network_find(network, "Abs.1", &found));
    assert_int_equal(found, y);
    assert_status(KILN_ERROR_NAME, kiln_network_find(network, "Abs.2", &found));
    assert_ok(kiln_network_mark_output(network, y));
    assert_status(KILN_ERROR_NAME, kiln_network_mark_output(network, y));
    assert_ok(kiln_network_output(network, 0, &found));
    assert_int_equal(found, y);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_network_input(network, 1, &found),
                 "index is 1, there are 1");
}

/* What fails leaves nothing behind, its name included. */
TEST(failures_take_everything_back)
{
    owned_network network = network_of_opset(18);
    kiln_tensor_id y = 123;
    kiln_tensor_id x = add_input(network, "x", KILN_DTYPE_FLOAT32, KILN_SHAPE(2, 4, 3));
    const int64_t twice[] = {1, -2};
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_network_add_reduce(network, "r", KILN_REDUCE_SUM, x, twice, 2, false, &y),
                 "layer \"r\": axis -2 is given twice");
    assert_int_equal(y, 123);
    const int64_t ends[] = {1};
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_network_add_slice(network, "r", x, ends, ends, NULL, (int64_t[]){0}, 1, &y),
                 "node \"r\" (Slice): the step along axis 0 is 0");
    assert_fails(KILN_ERROR_NULL_ARGUMENT,
                 kiln_network_add_slice(network, "r", x, ends, NULL, NULL, NULL, 1, &y),
                 "`ends` is NULL");
    assert_fails(
        KILN_ERROR_UNSUPPORTED,
        kiln_network_add_quantize(network, "r", x, x, KILN_NO_TENSOR, KILN_DTYPE_INT8, 0, 4, &y),
        "it has no attribute \"block_size\" in version 13, but in 21");
    assert_fails(KILN_ERROR_UNSUPPORTED,
                 kiln_network_add_pad(network, "r", x, (int64_t[]){1, 0, 0}, (int64_t[]){0, 0, 0},
                                      3, KILN_PAD_WRAP, 0.0F, &y),
                 "KILN_PAD_WRAP needs operator set 19, the network has 18");
    assert_fails(KILN_ERROR_LIMIT,
                 kiln_network_add_group_normalization(network, "r", x, x, x, -1, 1e-5F, &y),
                 "-1 groups are asked for; before operator set 21 it can have 1 to 256");
    /* A composition that fails in its middle. */
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_network_add_rms_normalization(network, "r", x, 999, 1e-5F, &y),
                 "999 is no tensor of this network or branch");
    assert_int_equal(kiln_network_layer_count(network), 0);
    assert_ok(kiln_network_add_rms_normalization(network, "r", x, x, 1e-5F, &y));
    assert_int_equal(kiln_network_layer_count(network), 6);
}

TEST(arguments)
{
    owned_network network = network_of_opset(0);
    kiln_tensor_id w, y;
    kiln_tensor_id x = add_input(network, "x", KILN_DTYPE_FLOAT32, KILN_SHAPE(1, 3, 8, 8));
    kiln_weights weights = {KILN_DTYPE_FLOAT32, KILN_SHAPE(2, 3, 2, 2), {values, 95}};
    assert_fails(KILN_ERROR_SIZE, kiln_network_add_constant(network, "w", &weights, &w),
                 "float32 weights of shape 2x3x2x2 have 96 bytes, 95 were given");
    weights.data.size = 96;
    assert_ok(kiln_network_add_constant(network, "w", &weights, &w));
    weights.data.data = NULL;
    assert_status(KILN_ERROR_NULL_ARGUMENT, kiln_network_add_constant(network, "v", &weights, &y));
    kiln_convolution_options options =
        KILN_CONVOLUTION_OPTIONS(.padding_mode = KILN_PADDING_VALID, .before[0] = 1);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_network_add_convolution(network, "c", x, w, KILN_NO_TENSOR, &options, &y),
                 "its mode is not KILN_PADDING_EXPLICIT");
    options = KILN_CONVOLUTION_OPTIONS_INIT;
    options.strides[1] = -1;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_network_add_convolution(network, "c", x, w, KILN_NO_TENSOR, &options, &y),
                 "\"strides\" needs at least 1, and has -1");
    options = KILN_CONVOLUTION_OPTIONS_INIT;
    options.output_padding[0] = 1;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_network_add_convolution(network, "c", x, w, KILN_NO_TENSOR, &options, &y),
                 "for a deconvolution");
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_network_add_convolution(network, "c", x, KILN_NO_TENSOR, w, NULL, &y),
                 "a tensor is required");
    kiln_tensor_id flat = add_input(network, "flat", KILN_DTYPE_FLOAT32, KILN_SHAPE(4));
    assert_status(KILN_ERROR_RANK,
                  kiln_network_add_convolution(network, "c", flat, w, KILN_NO_TENSOR, NULL, &y));
    assert_fails(KILN_ERROR_RANK,
                 kiln_network_add_convolution(network, "c", x, flat, KILN_NO_TENSOR, NULL, &y),
                 "\"flat\" has rank 1, but rank 3 to 5 is needed");
    kiln_tensor_id small;
    assert_ok(kiln_network_add_cast(network, "small", x, KILN_DTYPE_INT8, &small));
    assert_fails(
        KILN_ERROR_INVALID_ARGUMENT,
        kiln_network_add_activation(network, "k", KILN_ACTIVATION_CLIP, small, -129, 1, &y),
        "its input is of type int8, which cannot hold -129");
    assert_fails(
        KILN_ERROR_INVALID_ARGUMENT,
        kiln_network_add_activation(network, "k", KILN_ACTIVATION_CLIP, small, 0, 0.5F, &y),
        "its input is of type int8, which cannot hold 0.5");
    assert_ok(kiln_network_add_transpose(network, "t", x, (int64_t[]){0, -2, 1, -1}, 4, &y));
    assert_status(KILN_ERROR_INVALID_ARGUMENT,
                  kiln_network_add_transpose(network, "u", x, (int64_t[]){0, 3, 1, -1}, 4, &y));
    kiln_tensor_id one = add_input(network, "one", KILN_DTYPE_FLOAT32, KILN_SHAPE_SCALAR);
    assert_status(KILN_ERROR_RANK, kiln_network_add_one_hot(network, "h", one, 3, flat, 0, &y));
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_network_add_softmax(network, "s", x, 4, false, &y),
                 "node \"s\" (Softmax): axis 4 is outside -4 to 3");
    kiln_tensor_id i;
    assert_ok(kiln_network_add_cast(network, "i", x, KILN_DTYPE_INT32, &i));
    assert_fails(KILN_ERROR_DTYPE,
                 kiln_network_add_elementwise(network, "e", KILN_ELEMENTWISE_ADD, x, i, &y),
                 "cast one");
    assert_status(KILN_ERROR_INVALID_ARGUMENT,
                  kiln_network_add_unary(network, "u", (kiln_unary)99, x, &y));
    const kiln_tensor_id both[] = {x, i};
    assert_status(KILN_ERROR_DTYPE, kiln_network_add_concat(network, "k", both, 2, 1, &y));
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_network_add_einsum(network, "m", "ij,jk", both, 1, &y),
                 "it has 2 terms, and there are 1 input");
    assert_fails(
        KILN_ERROR_DTYPE,
        kiln_network_add_quantize(network, "q", x, one, KILN_NO_TENSOR, (kiln_dtype)99, 0, 0, &y),
        "dtype is 99, which is no data type");
    const kiln_shape odd = {1, {-7}};
    assert_status(KILN_ERROR_SHAPE,
                  kiln_network_add_input(network, "z", KILN_DTYPE_FLOAT32, &odd, NULL, &y));
    assert_status(KILN_ERROR_DTYPE,
                  kiln_network_add_input(network, "z", KILN_DTYPE_UNDEFINED, &odd, NULL, &y));
}

TEST(branches)
{
    kiln_tensor_id x, c, inner, y;
    owned_network network = network_of_opset(0);
    x = add_input(network, "x", KILN_DTYPE_FLOAT32, KILN_SHAPE(3));
    assert_ok(kiln_network_add_input(network, "c", KILN_DTYPE_BOOL, &KILN_SHAPE_SCALAR, NULL, &c));
    owned_network then = new_branch(network, NULL);
    kiln_network *other = new_branch(network, NULL);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_network_add_unary(then, NULL, KILN_UNARY_ABS, x, &y),
                 "is no tensor of this network or branch");
    assert_ok(kiln_network_capture(then, x, &inner));
    assert_ok(kiln_network_add_unary(then, NULL, KILN_UNARY_ABS, inner, &y));
    assert_ok(kiln_network_mark_output(then, y));
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_network_add_if(network, "if", c, then, other, &y, 1),
                 "`otherwise` has 0 outputs, 1 are needed");
    assert_status(KILN_ERROR_NULL_ARGUMENT,
                  kiln_network_add_if(network, "if", c, then, NULL, &y, 1));
    assert_status(KILN_ERROR_STATE,
                  kiln_network_save_onnx(then, kiln_test_path("b.onnx"), KILN_WEIGHTS_INLINE));
    assert_ok(kiln_network_capture(other, x, &inner));
    assert_ok(kiln_network_mark_output(other, inner));
    assert_ok(kiln_network_add_if(network, "if", c, then, other, &y, 1));
    assert_fails(KILN_ERROR_STATE, kiln_network_add_unary(then, NULL, KILN_UNARY_ABS, inner, &y),
                 "takes no layer any more");
}

TEST(saved_and_read_again)
{
    kiln_tensor_id w, y;
    kiln_network *network = network_of_opset(0);
    kiln_tensor_id x = add_input(network, "x", KILN_DTYPE_FLOAT32, KILN_SHAPE(2, 3));
    const kiln_weights weights = {KILN_DTYPE_FLOAT32, KILN_SHAPE(3, 8), {values, sizeof values}};
    assert_ok(kiln_network_add_constant(network, "w", &weights, &w));
    assert_ok(kiln_network_add_matrix_multiply(network, "y", x, w, &y));
    assert_ok(kiln_network_mark_output(network, y));
    const char *path = kiln_test_path("saved.onnx");
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_EXTERNAL));
    assert_status(KILN_ERROR_INVALID_ARGUMENT,
                  kiln_network_save_onnx(network, path, (kiln_weights_place)7));
    kiln_network_destroy(network);
    kiln_network *copy = network_file(path);
    assert_int_equal(kiln_network_opset(copy), KILN_OPSET_DEFAULT);
    assert_int_equal(kiln_network_input_count(copy), 1);
    assert_int_equal(kiln_network_layer_count(copy), 1);
    assert_ok(kiln_network_find(copy, "y", &y));
    assert_ok(kiln_network_find(copy, "w", &w));
    /* A network from a file is added to like any other. */
    assert_ok(kiln_network_add_unary(copy, "z", KILN_UNARY_ABS, y, &y));
    assert_ok(kiln_network_mark_output(copy, y));
    assert_ok(kiln_network_save_onnx(copy, path, KILN_WEIGHTS_INLINE));
    kiln_network_destroy(copy);
    assert_status(KILN_ERROR_NOT_FOUND, kiln_network_from_onnx("/nowhere.onnx", &copy));
    assert_null(copy);
}

typedef struct attempt {
    const layer_case *each;
    int opset;
} attempt;

static kiln_status build(void *user)
{
    const attempt *one = user;
    owned_network network = NULL;
    kiln_network_options options = KILN_NETWORK_OPTIONS(.opset = one->opset);
    KLN_RETURN_IF_ERROR(kiln_network_create(&options, &network));
    TRY(one->each->build(network));
    owned_text text;
    kln_text_init(&text, 1U << 20);
    TRY(kiln_network_save_onnx(network, kiln_test_path("case.onnx"), KILN_WEIGHTS_INLINE));
    return KILN_OK;
}

TEST(every_layer_survives_every_allocation)
{
    static const int opsets[] = {18, 23};
    for (size_t i = 0; i < layer_case_count; i++) {
        for (size_t k = 0; k < KLN_ARRAY_LENGTH(opsets); k++) {
            attempt one = {&layer_cases[i], opsets[k]};
            if (layer_cases[i].oldest <= one.opset) {
                kiln_test_each_allocation(build, &one);
            }
        }
    }
}

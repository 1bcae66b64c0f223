/* SPDX-License-Identifier: Apache-2.0 */
/* What is inferred of a network under construction is told, and goes into the file. */
#include "kiln_test.h"

/* y = relu(x) x [batch, 8]; s = softmax of a product [batch, 3]. */
static kiln_network *made(kiln_tensor_id *last)
{
    static const float weights[24] = {1};
    static const char *const names[] = {"batch", NULL};
    const kiln_weights data = {KILN_DTYPE_FLOAT32, KILN_SHAPE(8, 3), {weights, sizeof weights}};
    kiln_tensor_id x, w, y, p;
    kiln_network *network = new_network();
    assert_ok(kiln_network_add_input(network, "x", KILN_DTYPE_FLOAT32, &KILN_SHAPE(KILN_DYNAMIC, 8),
                                     names, &x));
    assert_ok(kiln_network_add_constant(network, "w", &data, &w));
    assert_ok(kiln_network_add_activation(network, "y", KILN_ACTIVATION_RELU, x, 0.0F, 0.0F, &y));
    assert_ok(kiln_network_add_matrix_multiply(network, "p", y, w, &p));
    assert_ok(kiln_network_mark_output(network, y));
    assert_ok(kiln_network_mark_output(network, p));
    *last = p;
    return network;
}

TEST(a_tensor_tells_its_type)
{
    kiln_tensor_id last;
    kiln_dtype dtype = KILN_DTYPE_INT8;
    kiln_shape shape;
    owned_network network = made(&last);
    assert_ok(kiln_network_tensor_type(network, last, &dtype, &shape));
    assert_int_equal(dtype, KILN_DTYPE_FLOAT32);
    assert_true(kiln_shape_equal(&shape, &KILN_SHAPE(KILN_DYNAMIC, 3)));
    assert_status(KILN_ERROR_INVALID_ARGUMENT,
                  kiln_network_tensor_type(network, 12345, &dtype, &shape));
    assert_int_equal(shape.rank, -1);
}

TEST(a_file_has_the_shapes_of_the_outputs)
{
    kiln_tensor_id last;
    kiln_network *network = made(&last);
    const char *path = kiln_test_path("outputs.onnx");
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_EXTERNAL));
    kiln_network_destroy(network);
    static const char *const backends[] = {"reference", "onnxruntime"};
    for (size_t i = 0; i < 2; i++) {
        kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
        const kiln_profile_input range = {
            .name = "x", .min = KILN_SHAPE(1, 8), .opt = KILN_SHAPE(2, 8), .max = KILN_SHAPE(5, 8)};
        const kiln_profile profile = {.inputs = &range, .input_count = 1};
        owned_buffer_plan plan = NULL;
        options.backend = backends[i];
        owned_engine engine = built_file(path, &options);
        kiln_binding binding = output_at(engine, 1);
        assert_true(kiln_shape_equal(&binding.shape, &KILN_SHAPE(KILN_DYNAMIC, 3)));
        assert_string_equal(binding.dim_names[0], "batch");
        assert_ok(kiln_engine_plan_buffers(engine, &profile, NULL, &plan));
        assert_int_equal(kiln_buffer_plan_count(plan), 3);
    }
}

static kiln_status save(void *user)
{
    owned_network network = NULL;
    kiln_tensor_id x, y;
    TRY(kiln_network_create(NULL, &network));
    TRY(kiln_network_add_input(network, "x", KILN_DTYPE_FLOAT32, &KILN_SHAPE(2), NULL, &x));
    TRY(kiln_network_add_activation(network, "y", KILN_ACTIVATION_RELU, x, 0.0F, 0.0F, &y));
    TRY(kiln_network_mark_output(network, y));
    return kiln_network_save_onnx(network, user, KILN_WEIGHTS_INLINE);
}

TEST(each_failed_allocation_is_survived)
{
    const char *path = kiln_test_path("small.onnx");
    kiln_test_each_allocation(save, (void *)(uintptr_t)path);
}

/* plugin(x) of two outputs that nobody knows. */
static kiln_network *unknown(kiln_tensor_id outputs[2])
{
    kiln_tensor_id x;
    kiln_network *network = new_network();
    assert_ok(
        kiln_network_add_input(network, "x", KILN_DTYPE_FLOAT32, &KILN_SHAPE(2, 3), NULL, &x));
    assert_ok(
        kiln_network_add_node(network, "p", "own", 1, "Something", &x, 1, NULL, 0, outputs, 2));
    return network;
}

TEST(an_output_that_nobody_infers_is_stated)
{
    kiln_tensor_id p[2];
    owned_network network = unknown(p);
    kiln_dtype dtype = KILN_DTYPE_UNDEFINED;
    kiln_shape found;
    const kiln_shape shape = KILN_SHAPE(KILN_DYNAMIC, 4);
    assert_ok(kiln_network_mark_output_as(network, p[0], KILN_DTYPE_INT32, &shape));
    assert_ok(kiln_network_mark_output_as(network, p[1], KILN_DTYPE_FLOAT16, NULL));
    assert_status(KILN_ERROR_NAME,
                  kiln_network_mark_output_as(network, p[1], KILN_DTYPE_FLOAT16, NULL));
    const char *path = kiln_test_path("stated.onnx");
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
    kiln_network_destroy(network);
    assert_ok(kiln_network_from_onnx(path, &network));
    assert_ok(kiln_network_output(network, 0, &p[0]));
    assert_ok(kiln_network_tensor_type(network, p[0], &dtype, &found));
    assert_int_equal(dtype, KILN_DTYPE_INT32);
    assert_true(kiln_shape_equal(&found, &shape));
    assert_ok(kiln_network_output(network, 1, &p[1]));
    assert_ok(kiln_network_tensor_type(network, p[1], &dtype, &found));
    assert_int_equal(dtype, KILN_DTYPE_FLOAT16);
    assert_int_equal(found.rank, -1);
}

TEST(what_is_known_of_an_output_stays)
{
    kiln_tensor_id x, y, p[2];
    owned_network network = unknown(p);
    const kiln_shape wide = KILN_SHAPE(2, 3, 4);
    const kiln_shape negative = KILN_SHAPE(2, -7);
    const kiln_shape deep = {.rank = KILN_MAX_RANK + 1};
    assert_ok(kiln_network_find(network, "x", &x));
    assert_ok(kiln_network_add_activation(network, "y", KILN_ACTIVATION_RELU, x, 0.0F, 0.0F, &y));
    assert_fails(KILN_ERROR_DTYPE, kiln_network_mark_output_as(network, y, KILN_DTYPE_INT32, NULL),
                 "kiln_network_mark_output_as: \"y\" is float32, not int32");
    assert_fails(KILN_ERROR_RANK,
                 kiln_network_mark_output_as(network, y, KILN_DTYPE_FLOAT32, &wide),
                 "\"y\" has the rank 2, not 3");
    assert_status(KILN_ERROR_SHAPE,
                  kiln_network_mark_output_as(network, p[0], KILN_DTYPE_INT32, &negative));
    assert_status(KILN_ERROR_RANK,
                  kiln_network_mark_output_as(network, p[0], KILN_DTYPE_INT32, &deep));
    assert_status(KILN_ERROR_DTYPE,
                  kiln_network_mark_output_as(network, p[0], KILN_DTYPE_UNDEFINED, NULL));
    assert_status(KILN_ERROR_INVALID_ARGUMENT,
                  kiln_network_mark_output_as(network, 12345, KILN_DTYPE_INT32, NULL));
    assert_int_equal(kiln_network_output_count(network), 0);
}

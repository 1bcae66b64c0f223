/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that bindings of other languages need. */
#include "graph_maker.h"
#include "kiln_test.h"

static kiln_context *open_negation(kiln_engine **engine)
{
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "reference");
    *engine = built_bytes(unary_model("Neg", "2"), &options);
    return context_on(*engine);
}

TEST(a_tensor_from_plain_arguments)
{
    float data[6] = {0};
    const int64_t dims[] = {2, 3};
    kiln_tensor tensor;
    assert_ok(kiln_tensor_make(KILN_DTYPE_FLOAT32, dims, 2, KILN_LOCATION_HOST, 0, data,
                               sizeof data, &tensor));
    assert_ptr_equal(tensor.data, data);
    assert_true(kiln_shape_equal(&tensor.desc.shape, &KILN_SHAPE(2, 3)));
    assert_int_equal(tensor.desc.strides.rank, 0);
    assert_ok(
        kiln_tensor_make(KILN_DTYPE_FLOAT32, NULL, 0, KILN_LOCATION_HOST, 0, data, 4, &tensor));
    const kiln_tensor before = tensor;
    assert_status(KILN_ERROR_SIZE, kiln_tensor_make(KILN_DTYPE_FLOAT32, dims, 2, KILN_LOCATION_HOST,
                                                    0, data, 23, &tensor));
    assert_message("24 bytes are needed, 23 were given");
    assert_status(KILN_ERROR_RANK, kiln_tensor_make(KILN_DTYPE_FLOAT32, dims, KILN_MAX_RANK + 1,
                                                    KILN_LOCATION_HOST, 0, data, 24, &tensor));
    assert_status(
        KILN_ERROR_NULL_ARGUMENT,
        kiln_tensor_make(KILN_DTYPE_FLOAT32, NULL, 2, KILN_LOCATION_HOST, 0, data, 24, &tensor));
    assert_status(KILN_ERROR_DTYPE, kiln_tensor_make(KILN_DTYPE_UNDEFINED, dims, 2,
                                                     KILN_LOCATION_HOST, 0, data, 24, &tensor));
    assert_memory_equal(&before, &tensor, sizeof tensor);
}

TEST(a_context_keeps_its_own_sentence)
{
    owned_engine engine = NULL;
    owned_context context = open_negation(&engine);
    kiln_engine *other = NULL;
    assert_string_equal(kiln_context_error_message(context), "");
    assert_status(KILN_ERROR_NOT_BOUND, kiln_context_run(context));
    assert_status(KILN_ERROR_NOT_FOUND, kiln_engine_build_file("/no/such.onnx", NULL, &other));
    assert_non_null(strstr(kiln_context_error_message(context), "input \"x\" is not bound"));
    assert_ok(kiln_context_reshape(context, "x", &KILN_SHAPE(2)));
    assert_string_equal(kiln_context_error_message(context), "");
    assert_string_equal(kiln_context_error_message(NULL), "");
}

TEST(a_build_keeps_its_own_sentence)
{
    kiln_build *build = NULL;
    kiln_engine *engine = NULL;
    assert_ok(kiln_build_start_bytes((kiln_span){"no model", 8}, NULL, NULL, &build));
    assert_status(KILN_ERROR_MALFORMED, kiln_build_wait(build, UINT64_MAX, &engine));
    assert_status(KILN_ERROR_NOT_FOUND, kiln_engine_build_file("/no/such.onnx", NULL, &engine));
    assert_non_null(strstr(kiln_build_error_message(build), "not an ONNX model"));
    kiln_build_destroy(build);
    assert_string_equal(kiln_build_error_message(NULL), "");
}

TEST(bindings_end_with_the_call)
{
    owned_engine engine = NULL;
    owned_context context = open_negation(&engine);
    float x[2] = {1, 2};
    float y[2] = {0};
    kiln_named_tensor in = {"x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(2), x, sizeof x)};
    kiln_named_tensor out = {"y", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(2), y, sizeof y)};
    kiln_named_tensor shown = {.name = "y"};
    for (int again = 0; again < 2; again++) { /* the memory is the caller's still */
        assert_ok(kiln_context_run_once(context, &in, 1, &out, 1));
        assert_true(y[0] == -1 && y[1] == -2);
    }
    assert_status(KILN_ERROR_NOT_BOUND, kiln_context_run(context));
    assert_ok(kiln_context_run_once(context, &in, 1, &shown, 1));
    assert_ptr_not_equal(shown.tensor.data, y);
    assert_true(((const float *)shown.tensor.data)[1] == -2);
    /* Also where it fails after it bound something. */
    in.name = "z";
    assert_status(KILN_ERROR_NAME, kiln_context_run_once(context, &in, 1, &out, 1));
    in.name = "x";
    out.tensor.bytes = 4;
    assert_status(KILN_ERROR_SIZE, kiln_context_run_once(context, &in, 1, &out, 1));
    assert_status(KILN_ERROR_NOT_BOUND, kiln_context_run(context));
}

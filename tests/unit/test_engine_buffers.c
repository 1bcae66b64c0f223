/* SPDX-License-Identifier: Apache-2.0 */
#include "kiln_test.h"

static kiln_engine *make_engine(void)
{
    const kiln_binding inputs[] = {
        binding_of("image", KILN_DTYPE_FLOAT32, KILN_SHAPE(KILN_DYNAMIC, 3, 8, 8), "batch"),
        binding_of("threshold", KILN_DTYPE_FLOAT16, KILN_SHAPE_SCALAR, NULL),
    };
    const kiln_binding outputs[] = {
        binding_of("scores", KILN_DTYPE_FLOAT32, KILN_SHAPE(KILN_DYNAMIC, 10), "batch"),
        binding_of("boxes", KILN_DTYPE_INT64, KILN_SHAPE(KILN_DYNAMIC, 4), "found"),
    };
    kiln_mock_options options =
        KILN_MOCK_OPTIONS(.inputs = inputs, .input_count = 2, .outputs = outputs, .output_count = 2,
                          .handler = kiln_test_idle);
    return new_mock(&options);
}

static const kiln_profile_input given[] = {
    {.name = "image", .max = {4, {16, 3, 8, 8}}},
    {.name = "boxes", .max = {2, {100, 4}}},
};

TEST(a_plan_holds_the_largest_of_each_binding)
{
    owned_engine engine = make_engine();
    owned_buffer_plan plan = NULL;
    kiln_tensor tensor;
    const kiln_profile profile = {.inputs = given, .input_count = 2};
    assert_ok(kiln_engine_plan_buffers(engine, &profile, NULL, &plan));
    assert_int_equal(kiln_buffer_plan_count(plan), 4);
    assert_ok(kiln_buffer_plan_find(plan, "image", &tensor));
    assert_int_equal(tensor.bytes, 16 * 3 * 8 * 8 * 4);
    assert_ok(kiln_buffer_plan_find(plan, "threshold", &tensor));
    assert_int_equal(tensor.bytes, 2);
    assert_ok(kiln_buffer_plan_find(plan, "scores", &tensor));
    assert_int_equal(tensor.desc.shape.dims[0], 16);
    assert_ok(kiln_buffer_plan_find(plan, "boxes", &tensor));
    assert_int_equal(tensor.bytes, 100 * 4 * 8);
    assert_int_equal(kiln_buffer_plan_allocations(plan), 1);
}

TEST(what_is_not_known_is_refused)
{
    owned_engine engine = make_engine();
    kiln_buffer_plan *plan = NULL;
    kiln_profile profile = {.inputs = given, .input_count = 1};
    assert_fails(KILN_ERROR_SHAPE, kiln_engine_plan_buffers(engine, NULL, NULL, &plan),
                 "binding \"image\" is ?x3x8x8: the profile must give its largest shape");
    assert_fails(KILN_ERROR_SHAPE, kiln_engine_plan_buffers(engine, &profile, NULL, &plan),
                 "binding \"boxes\" is ?x4");
    kiln_profile_input wrong = {.name = "image", .max = {4, {16, 1, 8, 8}}};
    profile.inputs = &wrong;
    assert_fails(KILN_ERROR_SHAPE, kiln_engine_plan_buffers(engine, &profile, NULL, &plan),
                 "dimension 1 is 3, and the profile gives it 1");
    wrong.max.rank = 3;
    assert_status(KILN_ERROR_RANK, kiln_engine_plan_buffers(engine, &profile, NULL, &plan));
    wrong.name = "picture";
    assert_fails(KILN_ERROR_NAME, kiln_engine_plan_buffers(engine, &profile, NULL, &plan),
                 "no binding \"picture\"");
    wrong.name = NULL;
    assert_status(KILN_ERROR_NULL_ARGUMENT,
                  kiln_engine_plan_buffers(engine, &profile, NULL, &plan));
    assert_null(plan);
}

ALLOCATIONS(TEST, every_failed_allocation_is_survived)
{
    const kiln_binding input = binding_of("x", KILN_DTYPE_INT8, KILN_SHAPE(5), NULL);
    const kiln_binding output = binding_of("y", KILN_DTYPE_INT8, KILN_SHAPE(5), NULL);
    kiln_mock_options options =
        KILN_MOCK_OPTIONS(.inputs = &input, .input_count = 1, .outputs = &output, .output_count = 1,
                          .handler = kiln_test_idle);
    owned_engine engine = NULL;
    owned_buffer_plan plan = NULL;
    TRY(kiln_engine_create_mock(&options, &engine));
    return kiln_engine_plan_buffers(engine, NULL, NULL, &plan);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Pipelines over an engine on a GPU (the mock over tests/fake/fake_cuda.h) and on the CPU. */
#include "mock_gpu_test.h"

static kiln_pipeline *make_pipeline(kiln_engine *engine, const kiln_pipeline_options *options)
{
    kiln_pipeline *pipeline = pipeline_on(engine, options);
    kiln_engine_release(engine);
    return pipeline;
}

static void push(kiln_pipeline *pipeline, float value, int64_t count)
{
    float x[64] = {0};
    x[count - 1] = value;
    const kiln_named_tensor input = {"x", floats(x, count)};
    assert_ok(kiln_pipeline_push(pipeline, &input, 1));
}

static void pop(kiln_pipeline *pipeline, float value, int64_t count)
{
    kiln_named_tensor output = {.name = "y"};
    assert_ok(kiln_pipeline_pop(pipeline, &output, 1));
    assert_int_equal(output.tensor.desc.shape.dims[0], count);
    assert_true(((float *)output.tensor.data)[count - 1] == 2 * value);
}

static void check_order(bool one_stream, int32_t depth)
{
    behaviour how = {.drifts = false};
    kiln_pipeline_options options = KILN_PIPELINE_OPTIONS(.depth = depth);
    owned_pipeline pipeline = make_pipeline(make_engine(&how, one_stream, 1), &options);
    for (int i = 0; i < 40; i++) {
        push(pipeline, (float)i, 8);
        if (i + 1 >= depth) {
            assert_int_equal(kiln_pipeline_pending(pipeline), depth);
            pop(pipeline, (float)(i + 1 - depth), 8);
        }
    }
    for (int i = 40 - depth + 1; i < 40; i++) {
        pop(pipeline, (float)i, 8);
    }
    assert_int_equal(kiln_pipeline_pending(pipeline), 0);
    kiln_context_counters counters = {.struct_size = sizeof counters};
    assert_ok(kiln_pipeline_get_counters(pipeline, &counters));
    assert_int_equal(counters.runs, 40);
    assert_int_equal(counters.graph_captures, depth);
    assert_int_equal(counters.graph_hits, 40 - 2 * depth);
    assert_string_equal(counters.graph_reason, "");
}

FAKE_TEST(results_come_in_order)
{
    check_order(false, 1);
    check_order(false, 2);
    check_order(true, 2);
    check_order(true, 5);
}

FAKE_TEST(copies_go_to_streams_of_their_own)
{
    behaviour how = {.drifts = false};
    const unsigned long streams = calls("cuStreamCreateWithPriority");
    owned_pipeline pipeline = make_pipeline(make_engine(&how, true, 0), NULL);
    /* The engine's, and one for each run. */
    assert_int_equal(calls("cuStreamCreateWithPriority") - streams, 3);
    const unsigned long waits = calls("cuStreamWaitEvent");
    for (int i = 0; i < 4; i++) {
        push(pipeline, 1, 8);
        pop(pipeline, 1, 8);
    }
    /* The engine's stream behind the copies, and the copies back behind it. */
    assert_true(calls("cuStreamWaitEvent") > waits);
}

FAKE_TEST(runs_are_as_urgent_as_it_says)
{
    behaviour how = {.drifts = false};
    const kiln_pipeline_options options = KILN_PIPELINE_OPTIONS(.depth = 3, .priority = -1);
    owned_pipeline pipeline = make_pipeline(make_engine(&how, false, 0), &options);
    for (int i = 0; i < 12; i++) {
        push(pipeline, (float)i, 8);
        if (i >= 6) { /* the graphs are there */
            assert_int_equal(fake_number("fake_cuda_urgency", ""), 1);
        }
        pop(pipeline, (float)i, 8);
    }
}

FAKE_TEST(shapes_may_change_and_nothing_is_allocated)
{
    behaviour how = {.drifts = false};
    owned_pipeline pipeline = make_pipeline(make_engine(&how, false, 0), NULL);
    kiln_allocation_counters before;
    kiln_allocation_counters after;
    unsigned long device = 0;
    for (int round = 0; round < 30; round++) {
        if (round == 8) {
            kiln_get_allocation_counters(&before);
            device = calls("cuMemAlloc_v2") + calls("cuMemHostAlloc");
        }
        for (int64_t count = 64; count >= 8; count /= 2) {
            push(pipeline, (float)count, count);
            push(pipeline, 1, count);
            pop(pipeline, (float)count, count);
            pop(pipeline, 1, count);
        }
    }
    kiln_get_allocation_counters(&after);
    assert_true(before.allocations == after.allocations);
    assert_int_equal(calls("cuMemAlloc_v2") + calls("cuMemHostAlloc"), device);
}

FAKE_TEST(outputs_are_written_where_they_are_wanted)
{
    behaviour how = {.drifts = false};
    owned_pipeline pipeline = make_pipeline(make_engine(&how, false, 0), NULL);
    float y[8] = {0};
    double wide[8] = {0};
    kiln_named_tensor output = {"y", floats(y, 7)};
    push(pipeline, 3, 8);
    assert_fails(KILN_ERROR_SHAPE, kiln_pipeline_pop(pipeline, &output, 1),
                 "output \"y\" is 8, memory for 7 was given");
    output.tensor = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT64, KILN_SHAPE(8), wide, sizeof wide);
    assert_status(KILN_ERROR_DTYPE, kiln_pipeline_pop(pipeline, &output, 1));
    output = (kiln_named_tensor){.name = "z"};
    assert_status(KILN_ERROR_NAME, kiln_pipeline_pop(pipeline, &output, 1));
    output.name = NULL;
    assert_status(KILN_ERROR_NULL_ARGUMENT, kiln_pipeline_pop(pipeline, &output, 1));
    output = (kiln_named_tensor){"y", floats(y, 8)};
    assert_int_equal(kiln_pipeline_pending(pipeline), 1);
    assert_ok(kiln_pipeline_pop(pipeline, &output, 1));
    assert_true(y[7] == 6);
    assert_fails(KILN_ERROR_STATE, kiln_pipeline_pop(pipeline, &output, 1), "nothing is under way");
}

FAKE_TEST(wrong_inputs_change_nothing)
{
    behaviour how = {.drifts = false};
    owned_pipeline pipeline = make_pipeline(make_engine(&how, false, 0), NULL);
    float x[8] = {0};
    kiln_named_tensor inputs[] = {{"x", floats(x, 8)}, {"x", floats(x, 8)}};
    push(pipeline, 5, 8);
    assert_fails(KILN_ERROR_NAME, kiln_pipeline_push(pipeline, inputs, 2), "given twice");
    assert_fails(KILN_ERROR_NOT_BOUND, kiln_pipeline_push(pipeline, NULL, 0),
                 "input \"x\" is not among the 0 given");
    inputs[0].name = "w";
    assert_status(KILN_ERROR_NAME, kiln_pipeline_push(pipeline, inputs, 1));
    inputs[0].name = NULL;
    assert_status(KILN_ERROR_NULL_ARGUMENT, kiln_pipeline_push(pipeline, inputs, 1));
    inputs[1].tensor.bytes = 4;
    assert_status(KILN_ERROR_SIZE, kiln_pipeline_push(pipeline, inputs + 1, 1));
    push(pipeline, 6, 8);
    inputs[1].tensor.bytes = sizeof x;
    assert_fails(KILN_ERROR_STATE, kiln_pipeline_push(pipeline, inputs + 1, 1),
                 "2 runs are under way");
    pop(pipeline, 5, 8);
    pop(pipeline, 6, 8);

    kiln_pipeline *none = pipeline;
    kiln_engine *engine = make_engine(&how, false, 0);
    kiln_pipeline_options options = KILN_PIPELINE_OPTIONS(.depth = 17);
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_pipeline_create(engine, &options, &none));
    assert_null(none);
    options.depth = 2;
    options.priority = 4;
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_pipeline_create(engine, &options, &none));
    kiln_engine_release(engine);
    assert_int_equal(kiln_pipeline_pending(NULL), 0);
    kiln_pipeline_destroy(NULL);
}

FAKE_TEST(device_memory_is_used_where_it_lies)
{
    behaviour how = {.drifts = false};
    owned_pipeline pipeline = make_pipeline(make_engine(&how, false, 0), NULL);
    kiln_named_tensor input = {.name = "x"};
    const kiln_shape shape = KILN_SHAPE(8);
    float x[8] = {0, 0, 0, 0, 0, 0, 0, 9};
    owned_buffer buffer = new_buffer(KILN_LOCATION_DEVICE, 0, sizeof x);
    assert_ok(kiln_buffer_write(buffer, 0, (kiln_span){x, sizeof x}, NULL));
    assert_ok(kiln_buffer_tensor(buffer, 0, KILN_DTYPE_FLOAT32, &shape, &input.tensor));
    for (int i = 0; i < 3; i++) {
        assert_ok(kiln_pipeline_push(pipeline, &input, 1));
        pop(pipeline, 9, 8);
    }
    kiln_named_tensor output = {"y", input.tensor};
    push(pipeline, 1, 8);
    assert_status(KILN_ERROR_UNSUPPORTED, kiln_pipeline_pop(pipeline, &output, 1));
}

FAKE_TEST(what_fails_on_the_way_is_told)
{
    behaviour how = {.drifts = false};
    kiln_pipeline_options options = KILN_PIPELINE_OPTIONS(.graphs = KILN_GRAPH_OFF);
    owned_pipeline pipeline = make_pipeline(make_engine(&how, false, 0), &options);
    float x[8] = {0};
    const kiln_named_tensor input = {"x", floats(x, 8)};
    for (int i = 0; i < 6; i++) {
        push(pipeline, 1, 8);
        pop(pipeline, 1, 8);
    }
    push(pipeline, 2, 8);
    set("FAKE_CUDA_LOST", "719");
    assert_fails(KILN_ERROR_DEVICE, kiln_pipeline_push(pipeline, &input, 1),
                 "CUDA_ERROR_LAUNCH_FAILED");
    assert_int_equal(kiln_pipeline_pending(pipeline), 1);
    assert_status(KILN_ERROR_DEVICE, kiln_pipeline_pop(pipeline, NULL, 0));
    assert_int_equal(kiln_pipeline_pending(pipeline), 0);
    set("FAKE_CUDA_LOST", NULL);
    push(pipeline, 3, 8);
    pop(pipeline, 3, 8);
    set("FAKE_CUDA_MEMORY", "100");
    float large[64] = {0};
    const kiln_named_tensor more = {"x", floats(large, 64)};
    assert_status(KILN_ERROR_OUT_OF_MEMORY, kiln_pipeline_push(pipeline, &more, 1));
    push(pipeline, 4, 8);
    pop(pipeline, 4, 8);
}

static kiln_engine *make_cpu_engine(uint64_t fail_every)
{
    static behaviour how;
    kiln_mock_options options = options_of(&how);
    options.enqueue = NULL;
    options.fail_every = fail_every;
    kiln_engine *engine = NULL;
    return create_engine(options, &engine) == KILN_OK ? engine : NULL;
}

FAKE_TEST(on_the_cpu_the_same_calls_work)
{
    owned_pipeline pipeline = make_pipeline(make_cpu_engine(4), NULL);
    float x[8] = {0};
    const kiln_named_tensor input = {"x", floats(x, 8)};
    push(pipeline, 1, 8);
    push(pipeline, 2, 16);
    pop(pipeline, 1, 8);
    push(pipeline, 3, 4);
    pop(pipeline, 2, 16);
    assert_fails(KILN_ERROR_BACKEND, kiln_pipeline_push(pipeline, &input, 1),
                 "the mock fails run 4");
    pop(pipeline, 3, 4);
    push(pipeline, 5, 8);
    pop(pipeline, 5, 8);
    assert_status(KILN_ERROR_NOT_BOUND, kiln_pipeline_push(pipeline, NULL, 0));
    kiln_context_counters counters = {.struct_size = sizeof counters};
    assert_ok(kiln_pipeline_get_counters(pipeline, &counters));
    assert_int_equal(counters.runs, 4);
    assert_int_equal(counters.failed_runs, 1);
    assert_int_equal(counters.graph_hits + counters.graph_misses, 0);
    kiln_pipeline_options options = KILN_PIPELINE_OPTIONS(.graphs = KILN_GRAPH_REQUIRED);
    kiln_pipeline *none = NULL;
    owned_engine engine = make_cpu_engine(0);
    assert_status(KILN_ERROR_UNSUPPORTED, kiln_pipeline_create(engine, &options, &none));
}

ALLOCATIONS(FAKE_TEST, every_allocation_may_fail)
{
    owned_engine engine = make_cpu_engine(0);
    owned_pipeline pipeline = NULL;
    float x[8] = {0};
    const kiln_named_tensor input = {"x", floats(x, 8)};
    kiln_status status =
        engine != NULL ? kiln_pipeline_create(engine, NULL, &pipeline) : KILN_ERROR_OUT_OF_MEMORY;
    for (int i = 0; status == KILN_OK && i < 3; i++) {
        status = kiln_pipeline_push(pipeline, &input, 1);
        if (status == KILN_OK) {
            status = kiln_pipeline_pop(pipeline, NULL, 0);
        }
    }
    return status;
}

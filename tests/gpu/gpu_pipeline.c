/* SPDX-License-Identifier: Apache-2.0 */
/* Pipelines and plans over a real driver: the mock's work is copies on the device. */
#include "cuda/kln_cuda.h"
#include "kiln_test.h"

#define COUNT 4096
static kiln_status run_now(void *user, kiln_mock_run *run, char message[1024])
{
    return kln_cuda_copy(0, run->outputs[0].data, run->inputs[0].data, COUNT * sizeof(float), NULL);
}

static kiln_status run_later(void *user, kiln_mock_run *run, kiln_stream *stream,
                             char message[1024])
{
    return kln_cuda_copy(0, run->outputs[0].data, run->inputs[0].data, COUNT * sizeof(float),
                         stream);
}

static kiln_engine *make_engine(bool one_stream)
{
    const kiln_binding x = binding_of("x", KILN_DTYPE_FLOAT32, KILN_SHAPE(COUNT), NULL);
    kiln_binding y = x;
    y.name = "y";
    kiln_mock_options options =
        KILN_MOCK_OPTIONS(.inputs = &x, .input_count = 1, .outputs = &y, .output_count = 1,
                          .handler = run_now, .enqueue = run_later, .one_stream = one_stream);
    return new_mock(&options);
}

static void check_pipeline(bool one_stream)
{
    static float x[COUNT];
    owned_engine engine = make_engine(one_stream);
    const kiln_named_tensor input = {
        "x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(COUNT), x, sizeof x)};
    owned_pipeline pipeline = pipeline_on(engine, NULL);
    for (int i = 0; i < 200; i++) {
        x[0] = (float)i;
        x[COUNT - 1] = (float)(i + 1);
        assert_ok(kiln_pipeline_push(pipeline, &input, 1));
        if (i > 0) {
            kiln_named_tensor output = {.name = "y"};
            assert_ok(kiln_pipeline_pop(pipeline, &output, 1));
            const float *y = output.tensor.data;
            assert_true(y[0] == (float)(i - 1) && y[COUNT - 1] == (float)i);
        }
    }
    kiln_context_counters counters = {.struct_size = sizeof counters};
    assert_ok(kiln_pipeline_get_counters(pipeline, &counters));
    print_message("%llu hits, %llu misses, \"%s\"\n", (unsigned long long)counters.graph_hits,
                  (unsigned long long)counters.graph_misses, counters.graph_reason);
    assert_int_equal(counters.graph_captures, 2);
}

TEST(batches_keep_their_order)
{
    check_pipeline(false);
    check_pipeline(true);
}

TEST(a_plan_on_the_device_is_bound)
{
    owned_engine engine = make_engine(false);
    owned_buffer_plan plan = NULL;
    kiln_tensor x;
    kiln_tensor y;
    float value = 3;
    kiln_buffer_plan_options options = KILN_BUFFER_PLAN_OPTIONS(.location = KILN_LOCATION_DEVICE);
    assert_ok(kiln_engine_plan_buffers(engine, NULL, &options, &plan));
    owned_context context = context_on(engine);
    assert_ok(kiln_context_bind_plan(context, plan));
    assert_ok(kiln_buffer_plan_find(plan, "x", &x));
    assert_ok(kiln_buffer_plan_find(plan, "y", &y));
    assert_ok(kln_cuda_copy(0, x.data, &value, sizeof value, NULL));
    for (int i = 0; i < 4; i++) {
        assert_ok(kiln_context_run(context));
    }
    value = 0;
    assert_ok(kln_cuda_copy(0, &value, y.data, sizeof value, NULL));
    assert_true(value == 3);
}

TEST(the_driver_keeps_what_it_was_told_to)
{
    void *memory = NULL;
    SKIP_IF(!kln_cuda_has(KLN_CUDA_STREAM_ORDERED, 0));
    owned_stream stream = stream_on(0);
    assert_ok(kiln_device_keep_free(0, (uint64_t)64 << 20));
    for (int i = 0; i < 100; i++) {
        assert_ok(kiln_stream_allocate(stream, 1 << 20, &memory));
        assert_ok(kln_cuda_fill(0, memory, 1, 1 << 20, stream));
        assert_ok(kiln_stream_release(stream, memory));
        assert_ok(kiln_stream_synchronize(stream));
    }
    assert_ok(kiln_device_keep_free(0, 0));
}

static bool has_gpu(void)
{
    if (kln_cuda_open() == KILN_OK) {
        return true;
    }
    print_message("skipped: %s\n", kiln_error_message());
    return false;
}

TESTS_BEGIN(has_gpu)

/* SPDX-License-Identifier: Apache-2.0 */
/* Strings of an engine on a GPU: they stay with the host, and runs go on without a graph. */
#include "mock_gpu_test.h"

static kiln_status passing(void *user, kiln_mock_run *run, char message[1024])
{
    assert_int_equal(run->inputs[0].desc.location, KILN_LOCATION_HOST);
    memcpy(run->outputs[0].data, run->inputs[0].data, run->inputs[0].bytes);
    return KILN_OK;
}

static kiln_status never(void *user, kiln_mock_run *run, kiln_stream *stream, char message[1024])
{
    fail_msg("strings were enqueued");
    return KILN_ERROR_BACKEND;
}

static kiln_engine *make_string_engine(void)
{
    const kiln_binding x = binding_of("x", KILN_DTYPE_STRING, KILN_SHAPE(KILN_DYNAMIC), "n");
    kiln_binding y = x;
    y.name = "y";
    const kiln_mock_options mock =
        KILN_MOCK_OPTIONS(.inputs = &x, .input_count = 1, .outputs = &y, .output_count = 1,
                          .handler = passing, .enqueue = never);
    return new_mock(&mock);
}

static kiln_tensor strings(kiln_span *spans, int64_t count)
{
    return KILN_HOST_TENSOR(KILN_DTYPE_STRING, KILN_SHAPE(count), spans,
                            (size_t)count * sizeof *spans);
}

static void expect_text(const kiln_tensor *found, size_t index, const char *text)
{
    const kiln_span string = ((const kiln_span *)found->data)[index];
    assert_int_equal(string.size, strlen(text));
    assert_memory_equal(string.data, text, string.size);
}

FAKE_TEST(runs_go_on_without_a_graph)
{
    owned_engine engine = make_string_engine();
    owned_context context = context_on(engine);
    kiln_span x[] = {{"one", 3}, {"two", 3}};
    kiln_span y[2];
    kiln_tensor found;
    bind_tensor(context, "x", strings(x, 2));
    for (int run = 0; run < 6; run++) {
        bind_tensor(context, "y", run < 3 ? (kiln_tensor){.data = NULL} : strings(y, 2));
        assert_ok(run % 2 == 0 ? kiln_context_run(context) : kiln_context_enqueue(context, NULL));
        assert_ok(kiln_context_wait(context));
        found = tensor_in(context, "y");
        assert_int_equal(found.desc.location, KILN_LOCATION_HOST);
        expect_text(&found, 1, "two");
        bind_tensor(context, "x", run == 3 ? found : strings(x, 2));
    }
    const kiln_context_counters counters = counters_of(context);
    assert_int_equal(counters.graph_captures, 0);
    assert_int_equal(counters.graph_misses, counters.runs);
    assert_non_null(strstr(counters.graph_reason, "string, which cannot lie in device memory"));
    assert_ok(kiln_context_reshape(context, "x", &KILN_SHAPE(1)));
    assert_ok(kiln_context_input_tensor(context, "x", &found));
    assert_int_equal(found.desc.location, KILN_LOCATION_HOST);
}

FAKE_TEST(a_graph_that_is_required_is_refused)
{
    owned_engine engine = make_string_engine();
    const kiln_context_options options = KILN_CONTEXT_OPTIONS(.graphs = KILN_GRAPH_REQUIRED);
    owned_context context = context_with(engine, &options);
    kiln_span x[] = {{"one", 3}};
    bind_tensor(context, "x", strings(x, 1));
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_context_run(context),
                 "string, which cannot lie in device memory");
}

FAKE_TEST(a_scheduler_joins_them_in_ordinary_memory)
{
    owned_engine engine = make_string_engine();
    const kiln_scheduler_options options =
        KILN_SCHEDULER_OPTIONS(.schedule = KILN_SCHEDULE_THROUGHPUT, .max_batch = 8, .contexts = 1,
                               .delay_nanoseconds = 20000000);
    owned_scheduler scheduler = scheduler_on(&engine, 1, &options);
    kiln_span x[] = {{"a", 1}, {"bc", 2}, {"def", 3}};
    kiln_request *requests[3];
    for (size_t i = 0; i < 3; i++) {
        const kiln_named_tensor in = {"x", strings(&x[i], 1)};
        assert_ok(kiln_scheduler_submit(scheduler, &in, 1, NULL, 0, NULL, &requests[i]));
    }
    for (size_t i = 0; i < 3; i++) {
        kiln_tensor found;
        assert_ok(kiln_request_wait(requests[i], -1));
        assert_ok(kiln_request_output(requests[i], "y", &found));
        assert_int_equal(((const kiln_span *)found.data)->size, i + 1);
        assert_memory_equal(((const kiln_span *)found.data)->data, x[i].data, i + 1);
    }
    for (size_t i = 0; i < 3; i++) {
        kiln_request_release(requests[i]);
    }
}

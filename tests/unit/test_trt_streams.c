/* SPDX-License-Identifier: Apache-2.0 */
/* Plans on streams: in what order runs come, what passes under them, and what contexts share. */
#include "fake_tensorrt_test.h"

/* A change of the profile may copy: on the stream that the run is enqueued on. */
LAYOUTS_TEST(profiles_change_on_the_callers_stream)
{
    owned_engine engine = build_relu(i);
    kiln_stream *streams[2];
    float x[32] = {-1, 2};
    float y[32];
    kiln_context_options options = KILN_CONTEXT_OPTIONS(.graphs = KILN_GRAPH_OFF);
    kiln_context *context = context_with(engine, &options);
    assert_ok(kiln_stream_create(0, 0, &streams[0]));
    assert_ok(kiln_stream_create(0, 0, &streams[1]));
    for (int run = 0; run < 12; run++) {
        const kiln_shape shape = KILN_SHAPE(run % 2 == 0 ? 2 : 8, 4);
        x[7] = (float)run;
        bind_tensor(context, "x", host_floats(x, shape));
        bind_tensor(context, "y", host_floats(y, shape));
        assert_ok(kiln_context_enqueue(context, streams[run / 3 % 2]));
        assert_ok(kiln_context_wait(context));
        assert_true(y[0] == 0 && y[1] == 2 && y[7] == (float)run);
    }
    kiln_context_destroy(context);
    kiln_stream_destroy(streams[0]);
    kiln_stream_destroy(streams[1]);
}

/* What a caller enqueued on a stream is there for the first run with it too, which is none of a
 * graph: enough copies that the device is still at them. */
TENSORRT_TEST(a_first_run_waits_for_the_callers_stream)
{
    enum { COPIES = 200 };
    const size_t large = ON_STAND_IN ? 1024 : (size_t)64 << 20;
    for (size_t i = 0; i < FAKE_LAYOUTS; i++) {
        owned_engine engine = build_relu(i);
        kiln_buffer *buffers[3];
        float values[4] = {-1, 2, -3, 4};
        kiln_stream *stream = stream_on(0);
        for (size_t b = 0; b < 3; b++) {
            assert_ok(kiln_buffer_create(KILN_LOCATION_DEVICE, 0, large, &buffers[b]));
            assert_ok(kiln_buffer_fill(buffers[b], 0, NULL));
        }
        assert_ok(kiln_buffer_write(buffers[0], 0, (kiln_span){values, sizeof values}, NULL));
        kiln_tensor x = buffer_tensor(buffers[2], 0, KILN_DTYPE_FLOAT32, &KILN_SHAPE(1, 4));
        kiln_context *context = context_on(engine);
        assert_ok(kiln_context_bind(context, "x", &x));
        for (int k = 0; k < COPIES; k++) {
            assert_ok(kiln_buffer_copy(buffers[1], 0, buffers[0], 0, large, stream));
        }
        assert_ok(kiln_buffer_copy(buffers[2], 0, buffers[1], 0, large, stream));
        assert_ok(kiln_context_enqueue(context, stream));
        const kiln_tensor y = tensor_in(context, "y");
        const float *found = y.data;
        assert_true(found[0] == 0 && found[1] == 2 && found[2] == 0 && found[3] == 4);
        kiln_context_destroy(context);
        kiln_stream_destroy(stream);
        for (size_t b = 0; b < 3; b++) {
            kiln_buffer_destroy(buffers[b]);
        }
    }
}

TENSORRT_TEST(contexts_that_share_memory_have_no_stream_of_their_own)
{
    const kiln_context_options options =
        KILN_CONTEXT_OPTIONS(.share_device_memory = true, .priority = -1);
    owned_engine engine = build_relu(0);
    kiln_context *context = NULL;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_context_create(engine, &options, &context),
                 "with share_device_memory it shares one");
}

/* Several contexts over each of two streams, the copies of one under the kernels of another: each
 * gets the results of what it was given. */
TENSORRT_TEST(copies_pass_under_kernels)
{
    enum { STREAMS = 2, CONTEXTS = 6, RUNS = 300, COUNT = 32 };
    for (size_t i = 0; i < 2 * FAKE_LAYOUTS; i++) {
        owned_engine engine = build_relu(i / 2);
        kiln_context *contexts[CONTEXTS];
        kiln_stream *streams[STREAMS];
        float x[CONTEXTS][COUNT] = {{0}};
        float y[CONTEXTS][COUNT] = {{0}};
        kiln_context_options options =
            KILN_CONTEXT_OPTIONS(.overlap_copies = true, .share_device_memory = i % 2 == 1);
        for (size_t s = 0; s < STREAMS; s++) {
            assert_ok(kiln_stream_create(0, 0, &streams[s]));
        }
        for (size_t c = 0; c < CONTEXTS; c++) {
            options.stream = streams[c % STREAMS];
            assert_ok(kiln_context_create(engine, &options, &contexts[c]));
            bind_tensor(contexts[c], "x", host_floats(x[c], KILN_SHAPE(8, 4)));
            bind_tensor(contexts[c], "y", host_floats(y[c], KILN_SHAPE(8, 4)));
            assert_ok(kiln_context_warmup(contexts[c], 3, 0, NULL));
        }
        for (int run = 0; run < RUNS + CONTEXTS; run++) {
            const size_t c = (size_t)run % CONTEXTS;
            if (run >= CONTEXTS) {
                assert_ok(kiln_context_wait(contexts[c]));
                assert_true(y[c][0] == 0 && y[c][COUNT - 1] == (float)(run - CONTEXTS));
            }
            x[c][0] = (float)-run;
            x[c][COUNT - 1] = (float)run;
            assert_ok(kiln_context_enqueue(contexts[c], NULL));
        }
        for (size_t c = 0; c < CONTEXTS; c++) {
            assert_ok(kiln_context_wait(contexts[c]));
            const kiln_context_counters counters = counters_of(contexts[c]);
            assert_true(counters.graph_hits >= RUNS / CONTEXTS);
            kiln_context_destroy(contexts[c]);
        }
        for (size_t s = 0; s < STREAMS; s++) {
            kiln_stream_destroy(streams[s]);
        }
    }
}

/* Over a stream of the engine's; with graphs and without waiting, as other contexts. */
LAYOUTS_TEST(contexts_can_share_their_memory)
{
    owned_engine engine = build_relu(i);
    kiln_context *contexts[3] = {NULL};
    float x[4] = {-1, 1, -2, 2};
    kiln_context_options options =
        KILN_CONTEXT_OPTIONS(.share_device_memory = true, .persistent_cache_bytes = 4096);
    for (size_t c = 0; c < 3; c++) {
        assert_ok(kiln_context_create(engine, &options, &contexts[c]));
    }
    for (size_t c = 0; c < 3; c++) {
        const kiln_tensor y = run_floats(contexts[c], KILN_SHAPE(1, 4), x);
        assert_true(((float *)y.data)[3] == 2.0F);
        assert_ptr_equal(kiln_context_stream(contexts[c]), kiln_context_stream(contexts[0]));
    }
    for (size_t run = 0; run < 9; run++) {
        kiln_context *context = contexts[run % 3];
        assert_ok(kiln_context_enqueue(context, NULL));
        assert_ok(kiln_context_wait(context));
        const kiln_tensor y = tensor_in(context, "y");
        assert_true(((float *)y.data)[1] == 1.0F && ((float *)y.data)[2] == 0.0F);
    }
    for (size_t c = 0; c < 3; c++) {
        const kiln_context_counters counters = counters_of(contexts[c]);
        assert_int_equal(counters.graph_hits, 2);
        kiln_context_destroy(contexts[c]);
    }
}

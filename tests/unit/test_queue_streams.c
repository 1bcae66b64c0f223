/* SPDX-License-Identifier: Apache-2.0 */
/* Runs that are enqueued into streams, and what a device may refuse. */
#include "mock_gpu_test.h"

FAKE_TEST(enqueue_orders_into_the_callers_stream)
{
    for (int shared = 0; shared < 2; shared++) {
        behaviour how = {.drifts = false};
        owned_stream stream = stream_on(0);
        owned_stream elsewhere = stream_on(1);
        owned_context context = make_context(&how, shared != 0, NULL);
        assert_non_null(kiln_context_stream(context));
        float x[8] = {0};
        float y[8] = {0};
        bind_tensor(context, "x", floats(x, 8));
        bind_tensor(context, "y", floats(y, 8));
        const unsigned long waits = calls("cuStreamWaitEvent");
        for (int i = 0; i < 5; i++) {
            x[0] = (float)i;
            assert_ok(kiln_context_enqueue(context, stream));
            x[0] = -1;
            assert_true(y[0] == 2 * (float)i || i >= 2);
            assert_int_equal(counters_of(context).runs, i + 1);
            assert_ok(kiln_context_wait(context));
            assert_true(y[0] == 2 * (float)i);
        }
        assert_int_equal(counters_of(context).graph_hits, 3);
        /* A stream of the engine's is put between; its own is launched on as it is. */
        assert_int_equal(calls("cuStreamWaitEvent") - waits, shared ? 2 + 3 * 2 : 2);
        assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_context_enqueue(context, elsewhere),
                     "of device 1, the engine of device 0");
        /* Every call but the counters waits by itself. */
        x[0] = 9;
        assert_ok(kiln_context_enqueue(context, stream));
        const kiln_tensor seen = tensor_in(context, "y");
        assert_true(y[0] == 18 && seen.data == y);
        assert_ok(kiln_context_enqueue(context, stream));
    }
}

/* Two copies by the driver and three events for each run, and two streams for all contexts over
 * one.
 */
FAKE_TEST(copies_go_to_streams_of_their_own)
{
    behaviour how = {.drifts = false};
    owned_stream stream = stream_on(0);
    owned_stream another = stream_on(0);
    kiln_context_options options = KILN_CONTEXT_OPTIONS(.stream = stream, .overlap_copies = true);
    const unsigned long streams = calls("cuStreamCreateWithPriority");
    owned_engine engine = make_engine(&how, false, 0);
    owned_context context = context_with(engine, &options);
    owned_context second = context_with(engine, &options);
    assert_int_equal(calls("cuStreamCreateWithPriority") - streams, 2);
    options.stream = another;
    owned_context third = context_with(engine, &options);
    assert_int_equal(calls("cuStreamCreateWithPriority") - streams, 4);
    static const int64_t counts[] = {8, 100000}; /* small ones go with the graph, in one kernel */
    const unsigned long launches = calls("cuLaunchKernel");
    float *x = calloc((size_t)counts[1], sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < 2; i++) {
        run_and_check(context, x, counts[i], 1);
        run_and_check(context, x, counts[i], 2);
        const unsigned long waits = calls("cuStreamWaitEvent");
        const unsigned long copies = calls("cuMemcpyAsync");
        run_and_check(context, x, counts[i], 3);
        assert_int_equal(counters_of(context).graph_hits, i + 1);
        assert_true(calls("cuLaunchKernel") > launches); /* while it was captured */
        assert_int_equal(calls("cuStreamWaitEvent") - waits, 2 * i);
        assert_int_equal(calls("cuMemcpyAsync") - copies, 2 * i);
    }
    free(x);
}

/* The kernels of a graph have the priority of the stream where they were captured, whatever stream
 * it is launched on. */
FAKE_TEST(a_graph_is_as_urgent_as_its_stream)
{
    for (int32_t priority = 0; priority >= -5; priority -= 5) {
        behaviour how = {.drifts = false};
        owned_stream stream = new_stream(0, priority);
        kiln_context_options options = KILN_CONTEXT_OPTIONS(.stream = stream);
        owned_engine engine = make_engine(&how, false, 0);
        owned_context context = context_with(engine, &options);
        float x[8] = {0};
        for (int i = 0; i < 3; i++) {
            run_and_check(context, x, 8, (float)i);
        }
        assert_int_equal(counters_of(context).graph_hits, 1);
        assert_int_equal(fake_number("fake_cuda_urgency", ""), -priority);
    }
}

FAKE_TEST(a_stream_of_its_own_may_be_urgent)
{
    behaviour how = {.drifts = false};
    const kiln_context_options options = KILN_CONTEXT_OPTIONS(.priority = -3);
    owned_engine engine = make_engine(&how, false, 0);
    owned_context context = context_with(engine, &options);
    float x[8] = {0};
    for (int i = 0; i < 3; i++) {
        run_and_check(context, x, 8, (float)i);
    }
    assert_int_equal(fake_number("fake_cuda_urgency", ""), 3);
}

FAKE_TEST(a_priority_wants_a_stream_of_its_own)
{
    behaviour how = {.drifts = false};
    owned_stream stream = stream_on(0);
    owned_engine engine = make_engine(&how, false, 0);
    owned_engine on_one = make_engine(&how, true, 0);
    kiln_context *context = NULL;
    kiln_context_options options = KILN_CONTEXT_OPTIONS(.priority = -1, .stream = stream);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_context_create(engine, &options, &context),
                 "kiln_context_options: priority -1 is for a stream of the context's own, and it "
                 "has the caller's `stream`");
    options.stream = NULL;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_context_create(on_one, &options, &context),
                 "the engine has one for all its contexts");
    options = KILN_CONTEXT_OPTIONS(.priority = -6);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_context_create(engine, &options, &context),
                 "-5 (the most urgent) to 0");
}

FAKE_TEST(options_are_checked)
{
    behaviour how = {.drifts = false};
    owned_stream stream = stream_on(0);
    owned_stream elsewhere = stream_on(1);
    owned_engine engine = make_engine(&how, false, 0);
    kiln_context *context = NULL;
    kiln_context_options options = KILN_CONTEXT_OPTIONS(.graphs = (kiln_graph_policy)3);
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_context_create(engine, &options, &context));
    options.graphs = KILN_GRAPH_AUTOMATIC;
    options.stream = elsewhere;
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_context_create(engine, &options, &context));
    options.stream = stream;
    assert_ok(kiln_context_create(engine, &options, &context));
    assert_ptr_equal(kiln_context_stream(context), stream);
    float x[8] = {0};
    for (int i = 0; i < 4; i++) {
        run_and_check(context, x, 8, (float)i);
    }
    assert_int_equal(counters_of(context).graph_hits, 2);
    const kiln_tensor wrong = {.desc = {.dtype = KILN_DTYPE_FLOAT32,
                                        .location = KILN_LOCATION_DEVICE,
                                        .device = 1,
                                        .shape = KILN_SHAPE(8)},
                               .data = x,
                               .bytes = sizeof x};
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_context_bind(context, "x", &wrong),
                 "memory of device 1 was given, the engine is on device 0");
    kiln_context_destroy(context);
    kiln_backend_info info = {.struct_size = sizeof info};
    assert_ok(kiln_engine_backend(engine, &info));
    assert_true((info.capabilities & KILN_CAPABILITY_GRAPHS) != 0);
    assert_int_equal(kiln_engine_device(engine), 0);
    assert_int_equal(kiln_engine_device(NULL), -1);
    assert_int_equal(kiln_engine_host_node_count(engine), 0);
    assert_null(kiln_engine_host_node(engine, 0));
}

FAKE_TEST(an_engine_on_the_cpu_refuses_what_needs_a_gpu)
{
    behaviour how = {.drifts = false};
    kiln_mock_options options = options_of(&how);
    options.enqueue = NULL;
    owned_engine engine = NULL;
    owned_context context = NULL;
    owned_stream stream = stream_on(0);
    assert_ok(create_engine(options, &engine));
    assert_int_equal(kiln_engine_device(engine), -1);
    kiln_context_options wishes = KILN_CONTEXT_OPTIONS(.graphs = KILN_GRAPH_REQUIRED);
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_context_create(engine, &wishes, &context),
                 "\"graphs\" is set");
    wishes.graphs = KILN_GRAPH_OFF;
    wishes.stream = stream;
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_context_create(engine, &wishes, &context),
                 "\"stream\" is set");
    wishes.stream = NULL;
    wishes.overlap_copies = true;
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_context_create(engine, &wishes, &context),
                 "\"overlap_copies\" is set");
    wishes.overlap_copies = false;
    assert_ok(kiln_context_create(engine, &wishes, &context));
    assert_null(kiln_context_stream(context));
    float data[8] = {3};
    bind_tensor(context, "x", floats(data, 8));
    assert_status(KILN_ERROR_UNSUPPORTED, kiln_context_enqueue(context, stream));
    assert_ok(kiln_context_enqueue(context, NULL)); /* done at once */
    assert_ok(kiln_context_wait(context));
    assert_int_equal(counters_of(context).graph_misses, 0);
}

FAKE_TEST(a_lost_device_and_a_full_one_are_reported)
{
    behaviour how = {.drifts = false};
    owned_context context = make_context(&how, true, NULL);
    float x[8] = {0};
    for (int i = 0; i < 3; i++) {
        run_and_check(context, x, 8, (float)i);
    }
    set("FAKE_CUDA_LOST", "719");
    assert_fails(KILN_ERROR_DEVICE, kiln_context_run(context), "719");
    set("FAKE_CUDA_LOST", NULL);
    run_and_check(context, x, 8, 5);
    kiln_context_destroy(context);
    /* No room for staging: runs go on without a graph. */
    context = make_context(&how, true, NULL);
    set("FAKE_CUDA_MEMORY", "16");
    for (int i = 0; i < 3; i++) {
        run_and_check(context, x, 8, (float)i);
    }
    const kiln_context_counters counters = counters_of(context);
    assert_int_equal(counters.graph_failures, 1);
    assert_non_null(strstr(counters.graph_reason, "bytes of"));
}

FAKE_TEST(engines_live_on_the_device_they_were_made_for)
{
    for (int32_t device = 0; device < 4; device++) {
        behaviour how = {.drifts = false};
        kiln_engine *engine = make_engine(&how, device % 2 == 0, device);
        owned_context context = context_on(engine);
        assert_int_equal(kiln_engine_device(engine), device);
        assert_int_equal(kiln_stream_device(kiln_context_stream(context)), device);
        kiln_engine_release(engine);
        float x[8] = {0};
        for (int i = 0; i < 3; i++) {
            run_and_check(context, x, 8, (float)i);
        }
        assert_int_equal(counters_of(context).graph_hits, 1);
    }
}

/* How the end of a replay is waited for: by a look at memory that the device writes to, or by the
 * driver where it writes none, writes it late, or where threads that wait are to sleep. */
FAKE_TEST(the_end_of_a_replay_is_looked_for_in_memory)
{
    static const struct {
        const char *wish, *value;
        unsigned long writes, waits; /* asked for in the capture; in four replays */
    } cases[] = {
        {"WRITES", NULL, 1, 0},     {"WRITES", "late", 1, 4},   {"WRITES", "refused", 1, 4},
        {"SCHEDULE", "4", 0, 4},    {"SCHEDULE", "2", 0, 4},    {"SCHEDULE", "1", 1, 0},
        {"VERSION", "11070", 0, 0}, {"CAPABILITY", "61", 0, 4}, {"CAPABILITY", "86", 0, 0},
        {"KERNELS", "load", 0, 4},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        char name[64];
        behaviour how = {.drifts = false};
        float x[8] = {0};
        (void)snprintf(name, sizeof name, "FAKE_CUDA_%s", cases[i].wish);
        set("FAKE_CUDA_CAPABILITY", "90");
        set(name, cases[i].value);
        kln_cuda_close();
        kiln_context *context = make_context(&how, false, NULL);
        const unsigned long writes = calls("cuStreamGetCaptureInfo_v2");
        run_and_check(context, x, 8, 1);
        run_and_check(context, x, 8, 2);
        const unsigned long waits = calls("cuStreamSynchronize");
        for (int run = 3; run < 7; run++) {
            run_and_check(context, x, 8, (float)run);
        }
        assert_int_equal(counters_of(context).graph_hits, 4);
        assert_int_equal(calls("cuStreamGetCaptureInfo_v2") - writes, cases[i].writes);
        assert_int_equal(calls("cuStreamSynchronize") - waits, cases[i].waits);
        set("FAKE_CUDA_LOST", "719");
        assert_status(KILN_ERROR_DEVICE, kiln_context_run(context));
        set("FAKE_CUDA_LOST", NULL);
        kiln_context_destroy(context);
        set(name, NULL);
    }
}

/* A warmup finds out which is sooner; another context of the engine begins with that. */
FAKE_TEST(the_end_is_told_in_the_faster_way)
{
    behaviour how = {.drifts = false};
    float x[8] = {0};
    set("FAKE_CUDA_WRITES", "late");
    set("FAKE_CUDA_CAPABILITY", "90");
    owned_engine engine = make_engine(&how, false, 0);
    for (int i = 0; i < 2; i++) {
        owned_context context = context_with(engine, NULL);
        run_and_check(context, x, 8, 1);
        const unsigned long writes = calls("cuStreamGetCaptureInfo_v2");
        assert_ok(i == 0 ? kiln_context_warmup(context, 3, 0, NULL) : kiln_context_run(context));
        run_and_check(context, x, 8, 2);
        const unsigned long looks = calls("cuStreamQuery"); /* of who looks at memory in vain */
        run_and_check(context, x, 8, 3);
        assert_int_equal(calls("cuStreamQuery"), looks);
        assert_true(counters_of(context).graph_hits > 0);
        assert_int_equal(calls("cuStreamGetCaptureInfo_v2") != writes, i == 0);
    }
}

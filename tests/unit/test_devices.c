/* SPDX-License-Identifier: Apache-2.0 */
/* Several GPUs: an engine on each, and what goes wrong on one of them. tests/fake/fake_cuda.h plays
 * the driver, with four devices. */
#include "graph_maker.h"
#include "mock_gpu_test.h"

#define DEVICES 4

typedef struct place {
    behaviour how;
    kiln_engine *engine;
    kiln_context *context;
} place;

static void begin_places(place *places)
{
    for (int32_t i = 0; i < DEVICES; i++) {
        places[i].engine = make_engine(&places[i].how, i % 2 == 1, i);
        assert_ok(kiln_context_create(places[i].engine, NULL, &places[i].context));
        assert_int_equal(kiln_engine_device(places[i].engine), i);
        assert_int_equal(kiln_stream_device(kiln_context_stream(places[i].context)), i);
    }
}

static void end_places(place *places)
{
    for (int32_t i = 0; i < DEVICES; i++) {
        kiln_context_destroy(places[i].context);
        kiln_engine_release(places[i].engine);
    }
}

FAKE_TEST(each_device_has_an_engine_of_its_own)
{
    place places[DEVICES] = {{.engine = NULL}};
    float x[8] = {0};
    begin_places(places);
    for (int round = 0; round < 4; round++) {
        for (int32_t i = 0; i < DEVICES; i++) {
            size_t before = 0;
            size_t after = 0;
            size_t total = 0;
            assert_ok(kiln_device_memory(i, &before, &total));
            run_and_check(places[i].context, x, 8, (float)(10 * round + i));
            assert_ok(kiln_device_memory(i, &after, &total));
            /* Only the second run may take memory, for the graph. */
            assert_true(round == 1 ? after <= before : after == before);
        }
    }
    for (int32_t i = 0; i < DEVICES; i++) {
        assert_int_equal(counters_of(places[i].context).graph_hits, 2);
    }
    end_places(places);
}

FAKE_TEST(memory_and_streams_of_another_device_are_refused)
{
    place places[DEVICES] = {{.engine = NULL}};
    owned_context context = NULL;
    const kiln_shape shape = KILN_SHAPE(8);
    begin_places(places);
    owned_buffer buffer = new_buffer(KILN_LOCATION_DEVICE, 2, 32);
    kiln_tensor x = buffer_tensor(buffer, 0, KILN_DTYPE_FLOAT32, &shape);
    owned_stream stream = stream_on(2);
    kiln_context_options options = KILN_CONTEXT_OPTIONS(.stream = stream);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_context_create(places[1].engine, &options, &context),
                 "the stream is of device 2, the engine of device 1");
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_context_enqueue(places[1].context, stream));
    assert_status(KILN_ERROR_UNSUPPORTED, kiln_context_bind(places[1].context, "x", &x));
    assert_ok(kiln_context_create(places[2].engine, &options, &context));
    assert_ptr_equal(kiln_context_stream(context), stream);
    end_places(places);
}

FAKE_TEST(one_full_device_leaves_the_others_alone)
{
    place places[DEVICES] = {{.engine = NULL}};
    float x[1024] = {0};
    begin_places(places);
    set("FAKE_CUDA_MEMORY", "2000");
    set("FAKE_CUDA_MEMORY_DEVICE", "2");
    for (int round = 0; round < 3; round++) {
        for (int32_t i = 0; i < DEVICES; i++) {
            run_and_check(places[i].context, x, 1024, (float)(round + i));
        }
    }
    for (int32_t i = 0; i < DEVICES; i++) {
        const kiln_context_counters counters = counters_of(places[i].context);
        assert_int_equal(counters.graph_hits, i == 2 ? 0 : 1);
        assert_int_equal(counters.graph_failures, i == 2 ? 1 : 0);
        assert_true(i != 2 || strstr(counters.graph_reason, "CUDA_ERROR_OUT_OF_MEMORY") != NULL);
    }
    owned_buffer buffer = NULL;
    assert_fails(KILN_ERROR_OUT_OF_MEMORY,
                 kiln_buffer_create(KILN_LOCATION_DEVICE, 2, 4096, &buffer), "on device 2");
    assert_ok(kiln_buffer_create(KILN_LOCATION_DEVICE, 3, 4096, &buffer));
    end_places(places);
}

FAKE_TEST(one_lost_device_leaves_the_others_alone)
{
    place places[DEVICES] = {{.engine = NULL}};
    float x[8] = {0};
    begin_places(places);
    for (int round = 0; round < 2; round++) {
        for (int32_t i = 0; i < DEVICES; i++) {
            run_and_check(places[i].context, x, 8, (float)(round + i));
        }
    }
    set("FAKE_CUDA_LOST", "719");
    set("FAKE_CUDA_LOST_DEVICE", "1");
    const kiln_tensor input = floats(x, 8);
    for (int32_t i = 0; i < DEVICES; i++) {
        if (i != 1) {
            run_and_check(places[i].context, x, 8, (float)i);
            continue;
        }
        assert_ok(kiln_context_bind(places[i].context, "x", &input));
        assert_fails(KILN_ERROR_DEVICE, kiln_context_run(places[i].context),
                     "CUDA_ERROR_LAUNCH_FAILED (719)", "device 1");
    }
    assert_int_equal(counters_of(places[1].context).failed_runs, 1);
    set("FAKE_CUDA_LOST", NULL);
    end_places(places);
}

FAKE_TEST(a_capture_that_fails_is_a_reason)
{
    place places[DEVICES] = {{.engine = NULL}};
    kiln_context_options options = KILN_CONTEXT_OPTIONS_INIT;
    float x[8] = {0};
    begin_places(places);
    set("FAKE_CUDA_CAPTURE", "fail");
    for (int round = 0; round < 3; round++) {
        run_and_check(places[3].context, x, 8, (float)round);
    }
    const kiln_context_counters counters = counters_of(places[3].context);
    assert_int_equal(counters.graph_hits, 0);
    assert_int_equal(counters.graph_misses, 3);
    assert_true(counters.graph_reason[0] != '\0');
    options.graphs = KILN_GRAPH_REQUIRED;
    owned_context strict = context_with(places[3].engine, &options);
    bind_tensor(strict, "x", floats(x, 8));
    assert_int_not_equal(kiln_context_run(strict), KILN_OK);
    assert_message("CUDA_ERROR_STREAM_CAPTURE");
    set("FAKE_CUDA_CAPTURE", NULL);
    assert_ok(kiln_context_run(strict));
    end_places(places);
}

static void *run_many(void *user)
{
    kiln_context *context = ((place *)user)->context;
    float x[8] = {1};
    float y[8] = {0};
    const kiln_tensor input = floats(x, 8);
    const kiln_tensor output = floats(y, 8);
    size_t wrong = 0;
    wrong += kiln_context_bind(context, "x", &input) != KILN_OK;
    wrong += kiln_context_bind(context, "y", &output) != KILN_OK;
    for (int i = 0; i < 300; i++) {
        x[5] = (float)i;
        wrong += kiln_context_run(context) != KILN_OK || !(y[5] == 2 * x[5]);
    }
    return wrong == 0 ? NULL : user;
}

FAKE_TEST(threads_use_all_devices_at_once)
{
    place places[DEVICES] = {{.engine = NULL}};
    begin_places(places);
    /* `works` of the mock is written by captures, one after the other. */
    float x[8] = {0};
    for (int32_t i = 0; i < 2 * DEVICES; i++) {
        run_and_check(places[i % DEVICES].context, x, 8, 1);
    }
    for (int32_t i = 0; i < DEVICES; i++) {
        kiln_context_options options = KILN_CONTEXT_OPTIONS(.graphs = KILN_GRAPH_OFF);
        kiln_context_destroy(places[i].context);
        assert_ok(kiln_context_create(places[i].engine, &options, &places[i].context));
    }
    kiln_test_in_threads(DEVICES, run_many, places, sizeof *places);
    end_places(places);
}

FAKE_TEST(memory_in_the_order_of_a_stream)
{
    void *memory = NULL;
    owned_stream stream = stream_on(1);
    assert_ok(kiln_device_keep_free(1, 1 << 20));
    assert_int_equal(calls("cuMemPoolSetAttribute") > 0, 1);
    assert_ok(kiln_stream_allocate(stream, 64, &memory));
    assert_non_null(memory);
    assert_ok(kln_cuda_fill(1, memory, 3, 64, stream));
    assert_ok(kiln_stream_release(stream, memory));
    assert_ok(kiln_stream_release(stream, NULL));
    assert_status(KILN_ERROR_SIZE, kiln_stream_allocate(stream, 0, &memory));
    assert_null(memory);
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_device_keep_free(3, 0), "a device with memory pools");
    assert_status(KILN_ERROR_NO_DEVICE, kiln_device_keep_free(4, 0));
    set("FAKE_CUDA_LOST", "719");
    assert_status(KILN_ERROR_DEVICE, kiln_device_keep_free(1, 0));
    set("FAKE_CUDA_LOST", NULL);
}

FAKE_TEST(a_context_works_on_pieces_of_a_pool)
{
    behaviour how = {.drifts = false};
    owned_engine engine = make_engine(&how, false, 1);
    kiln_block in;
    kiln_block out;
    kiln_tensor x;
    kiln_tensor y;
    const kiln_shape shape = KILN_SHAPE(8);
    const kiln_shape large = KILN_SHAPE(80000);
    kiln_pool_options options = KILN_POOL_OPTIONS(.location = KILN_LOCATION_PINNED, .device = 1);
    owned_pool pool = new_pool(&options);
    owned_context context = context_on(engine);
    for (int i = 0; i < 4; i++) {
        assert_ok(kiln_pool_allocate(pool, 32, NULL, &in));
        assert_ok(kiln_pool_allocate(pool, 32, NULL, &out));
        assert_ok(kiln_pool_tensor(pool, &in, KILN_DTYPE_FLOAT32, &shape, &x));
        assert_ok(kiln_pool_tensor(pool, &out, KILN_DTYPE_FLOAT32, &shape, &y));
        assert_int_equal(x.desc.location, KILN_LOCATION_PINNED);
        memset(x.data, 0, 32);
        ((float *)x.data)[7] = (float)i + 3;
        assert_ok(kiln_context_bind(context, "x", &x));
        assert_ok(kiln_context_bind(context, "y", &y));
        assert_ok(kiln_context_run(context));
        assert_true(((float *)y.data)[7] == 2 * ((float)i + 3));
        assert_ok(kiln_pool_release(pool, &out, NULL));
        assert_ok(kiln_pool_release(pool, &in, NULL));
    }
    /* What was given back last comes first, so the same graph fits again. */
    assert_true(counters_of(context).graph_hits > 0);
    assert_fails(KILN_ERROR_STATE, kiln_pool_tensor(pool, &in, KILN_DTYPE_FLOAT32, &shape, &x),
                 "the piece is empty; allocate it first");
    assert_ok(kiln_pool_allocate(pool, 32, NULL, &in));
    assert_fails(KILN_ERROR_SIZE, kiln_pool_tensor(pool, &in, KILN_DTYPE_FLOAT32, &large, &x),
                 "320000 bytes are needed, the piece has 256");
    kiln_block stale = in;
    assert_ok(kiln_pool_release(pool, &in, NULL));
    assert_status(KILN_ERROR_STATE, kiln_pool_tensor(pool, &stale, KILN_DTYPE_FLOAT32, &shape, &x));
}

FAKE_TEST(a_plan_is_bound_in_one_call)
{
    behaviour how = {.drifts = false};
    owned_engine engine = make_engine(&how, true, 2);
    owned_buffer_plan plan = NULL;
    owned_buffer_plan other = NULL;
    kiln_tensor x;
    kiln_tensor y;
    const kiln_profile_input most = {.name = "x", .max = KILN_SHAPE(16)};
    const kiln_profile profile = {.inputs = &most, .input_count = 1};
    const kiln_shape small = KILN_SHAPE(4);
    const kiln_shape large = KILN_SHAPE(17);
    const kiln_buffer_request wrong = {"z", KILN_DTYPE_FLOAT32, KILN_SHAPE(1)};
    kiln_buffer_plan_options options =
        KILN_BUFFER_PLAN_OPTIONS(.location = KILN_LOCATION_PINNED, .device = 2);
    assert_ok(kiln_engine_plan_buffers(engine, &profile, &options, &plan));
    owned_context context = context_on(engine);
    assert_ok(kiln_context_bind_plan(context, plan));
    assert_ok(kiln_buffer_plan_find(plan, "x", &x));
    assert_ok(kiln_buffer_plan_find(plan, "y", &y));
    ((float *)x.data)[15] = 4;
    assert_ok(kiln_context_run(context));
    assert_true(((float *)y.data)[15] == 8);
    assert_ok(kiln_buffer_plan_view(plan, "x", &small, &x));
    assert_ok(kiln_buffer_plan_view(plan, "y", &small, &y));
    assert_int_equal(x.bytes, 16);
    assert_ok(kiln_context_bind(context, "x", &x));
    assert_ok(kiln_context_bind(context, "y", &y));
    ((float *)x.data)[3] = 5;
    assert_ok(kiln_context_run(context));
    assert_true(((float *)y.data)[3] == 10);
    assert_fails(KILN_ERROR_SIZE, kiln_buffer_plan_view(plan, "x", &large, &x),
                 "68 bytes are needed, the buffer plan has 64");
    assert_status(KILN_ERROR_NAME, kiln_buffer_plan_view(plan, "z", &small, &x));
    assert_ok(kiln_buffer_plan_create(&wrong, 1, NULL, &other));
    assert_status(KILN_ERROR_NAME, kiln_context_bind_plan(context, other));
    assert_ok(kiln_context_run(context));
}

/* --- a device that is not there --- */

static kiln_status make_buffer(int32_t device)
{
    kiln_buffer *buffer = NULL;
    const kiln_status status = kiln_buffer_create(KILN_LOCATION_DEVICE, device, 16, &buffer);
    assert_null(buffer);
    return status;
}

static kiln_status make_pinned(int32_t device)
{
    kiln_buffer *buffer = NULL;
    return kiln_buffer_create(KILN_LOCATION_PINNED, device, 16, &buffer);
}

static kiln_status make_pool(int32_t device)
{
    kiln_pool *pool = NULL;
    kiln_pool_options options =
        KILN_POOL_OPTIONS(.location = KILN_LOCATION_DEVICE, .device = device);
    return kiln_pool_create(&options, &pool);
}

static kiln_status make_buffer_plan(int32_t device)
{
    kiln_buffer_plan *plan = NULL;
    kiln_buffer_plan_options options =
        KILN_BUFFER_PLAN_OPTIONS(.location = KILN_LOCATION_MANAGED, .device = device);
    const kiln_buffer_request request = {"x", KILN_DTYPE_FLOAT32, KILN_SHAPE(2)};
    return kiln_buffer_plan_create(&request, 1, &options, &plan);
}

static kiln_status get_device(int32_t device)
{
    kiln_device_info info = {.struct_size = sizeof info};
    return kiln_device_get(device, &info);
}

static kiln_status get_memory(int32_t device)
{
    size_t bytes = 0;
    return kiln_device_memory(device, &bytes, &bytes);
}

static kiln_status connect_from(int32_t device)
{
    return kiln_device_connect(device, 0);
}

static kiln_status connect_to(int32_t device)
{
    return kiln_device_connect(0, device);
}

static kiln_status keep_free(int32_t device)
{
    return kiln_device_keep_free(device, 0);
}

static kiln_status make_stream(int32_t device)
{
    kiln_stream *stream = NULL;
    return kiln_stream_create(device, 0, &stream);
}

static kiln_status wrap_stream(int32_t device)
{
    kiln_stream *stream = NULL;
    return kiln_stream_wrap(device, NULL, &stream);
}

static kiln_status make_event(int32_t device)
{
    kiln_event *event = NULL;
    return kiln_event_create(device, false, &event);
}

static kiln_status make_mock(int32_t device)
{
    static behaviour how;
    kiln_mock_options options = options_of(&how);
    options.device = device;
    kiln_engine *engine = NULL;
    return create_engine(options, &engine);
}

static const char *model_path(void)
{
    const kiln_span model = unary_model("Relu", "4");
    return kiln_test_file("relu.onnx", model.data, model.size);
}

static kiln_build_options tensorrt_on(int32_t device)
{
    kiln_build_options options = backend_options("tensorrt");
    options.library = kiln_test_built("fake/tensorrt/10");
    options.device = device;
    return options;
}

static kiln_status build(int32_t device)
{
    const kiln_build_options options = tensorrt_on(device);
    kiln_engine *engine = NULL;
    return kiln_engine_build_file(model_path(), &options, &engine);
}

static kiln_status build_uncounted(int32_t device)
{
    kiln_build_options options = tensorrt_on(device);
    options.gpu_allocator = KILN_GPU_ALLOCATOR_LIBRARY;
    kiln_engine *engine = NULL;
    return kiln_engine_build_file(model_path(), &options, &engine);
}

static kiln_status build_job(int32_t device)
{
    const kiln_build_options options = tensorrt_on(device);
    owned_build job = NULL;
    kiln_engine *engine = NULL;
    KLN_RETURN_IF_ERROR(kiln_build_start_file(model_path(), &options, NULL, &job));
    return kiln_build_wait(job, 60000, &engine);
}

static kiln_status load_plan(int32_t device)
{
    kiln_build_options options = tensorrt_on(0);
    const char *path = kiln_test_path("device.plan");
    kiln_engine *engine = built_file(model_path(), &options);
    assert_ok(kiln_engine_save(engine, path));
    kiln_engine_release(engine);
    options.device = device;
    return kiln_engine_load(path, &options, &engine);
}

/* All that is public and is told a device. */
FAKE_TEST(a_device_that_is_not_there_is_told)
{
    static const struct {
        const char *name;
        kiln_status (*call)(int32_t device);
        bool is_option; /* of a build: less than 0 is no number of a device */
    } calls_of[] = {
        {"kiln_buffer_create", make_buffer, false},
        {"kiln_buffer_create, pinned", make_pinned, false},
        {"kiln_pool_create", make_pool, false},
        {"kiln_buffer_plan_create", make_buffer_plan, false},
        {"kiln_device_get", get_device, false},
        {"kiln_device_memory", get_memory, false},
        {"kiln_device_connect", connect_from, false},
        {"kiln_device_connect, to", connect_to, false},
        {"kiln_device_keep_free", keep_free, false},
        {"kiln_stream_create", make_stream, false},
        {"kiln_stream_wrap", wrap_stream, false},
        {"kiln_event_create", make_event, false},
        {"kiln_engine_create_mock", make_mock, false},
        {"kiln_engine_build_file", build, true},
        {"kiln_engine_build_file, the library's memory", build_uncounted, true},
        {"kiln_build_start_file", build_job, true},
        {"kiln_engine_load", load_plan, true},
    };
    static const int32_t devices[] = {DEVICES, 9, INT32_MAX, -1, INT32_MIN};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(calls_of); i++) {
        for (size_t d = 0; d < KLN_ARRAY_LENGTH(devices); d++) {
            const kiln_status expected = calls_of[i].is_option && devices[d] < 0
                                             ? KILN_ERROR_INVALID_ARGUMENT
                                             : KILN_ERROR_NO_DEVICE;
            const kiln_status status = calls_of[i].call(devices[d]);
            if (status != expected) {
                print_error("%s on device %d: %s: %s\n", calls_of[i].name, devices[d],
                            kiln_status_name(status), kiln_error_message());
            }
            assert_int_equal(status, expected);
            if (expected == KILN_ERROR_NO_DEVICE) {
                char sentence[96];
                (void)snprintf(sentence, sizeof sentence,
                               "device %d was asked for, and there are 4, counted from 0",
                               devices[d]);
                assert_message(sentence);
            }
        }
    }
}

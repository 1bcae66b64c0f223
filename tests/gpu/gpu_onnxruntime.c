/* SPDX-License-Identifier: Apache-2.0 */
/* ONNX Runtime's CUDA provider through Kiln, against its CPU provider: results, graphs, streams,
 * threads. Needs KILN_ONNXRUNTIME to name the library of onnxruntime-gpu. */
#include "graph_maker.h"
#include "optional_inputs.h"

#define COUNT 1000

static kiln_engine *build(kiln_span model, kiln_provider provider)
{
    kiln_build_options options = backend_options("onnxruntime");
    options.provider = provider;
    return built_bytes(model, &options);
}

static kiln_context *make_context(kiln_engine *engine, kiln_graph_policy policy)
{
    kiln_context_options options = KILN_CONTEXT_OPTIONS(.graphs = policy);
    return context_with(engine, &options);
}

/* y = exp(x) through every run: plain, captured, replayed. */
TEST(every_run_gives_what_the_cpu_gives)
{
    owned_engine engine = build(unary_model("Exp", "n"), KILN_PROVIDER_CUDA);
    assert_int_equal(kiln_engine_device(engine), 0);
    assert_int_equal(kiln_engine_host_node_count(engine), 0);
    static const kiln_graph_policy policies[] = {KILN_GRAPH_AUTOMATIC, KILN_GRAPH_OFF,
                                                 KILN_GRAPH_REQUIRED};
    for (size_t p = 0; p < 3; p++) {
        owned_context context = make_context(engine, policies[p]);
        static float x[COUNT];
        kiln_tensor y;
        for (int64_t count = COUNT / 2; count <= COUNT; count += COUNT / 2) {
            bind_tensor(context, "x", floats(x, count));
            for (int run = 0; run < 6; run++) {
                for (int i = 0; i < COUNT; i++) {
                    x[i] = (float)(i % 13) * 0.1F + (float)run;
                }
                assert_ok(kiln_context_run(context));
                assert_ok(kiln_context_tensor(context, "y", &y));
                assert_int_equal(y.desc.shape.dims[0], count);
                for (int64_t i = 0; i < count; i++) {
                    const float found = ((float *)y.data)[i];
                    assert_true(fabsf(found - expf(x[i])) <= 1e-4F * expf(x[i]));
                }
            }
        }
        const kiln_context_counters counters = counters_of(context);
        print_message("policy %d: %llu hits, %llu misses, %llu captures, \"%s\"\n", (int)p,
                      (unsigned long long)counters.graph_hits,
                      (unsigned long long)counters.graph_misses,
                      (unsigned long long)counters.graph_captures, counters.graph_reason);
        assert_int_equal(counters.graph_captures, policies[p] == KILN_GRAPH_OFF ? 0 : 2);
        assert_int_equal(counters.graph_hits, p == 0 ? 8 : p == 1 ? 0 : 10);
    }
}

/* Initializers that are inputs too. */
TEST(what_has_a_value_is_fed)
{
    const kiln_build_options options =
        KILN_BUILD_OPTIONS(.backend = "onnxruntime", .provider = KILN_PROVIDER_CUDA);
    owned_engine engine = build_with_weights(&options, 8);
    are_fed_and_let_go(engine);
    are_replayed(engine);
}

TEST(memory_of_every_place_is_used)
{
    owned_engine engine = build(unary_model("Neg", "n"), KILN_PROVIDER_CUDA);
    static const kiln_location places[] = {KILN_LOCATION_HOST, KILN_LOCATION_PINNED,
                                           KILN_LOCATION_MANAGED, KILN_LOCATION_DEVICE};
    static float values[COUNT];
    for (size_t p = 0; p < 4; p++) {
        kiln_context *context = make_context(engine, KILN_GRAPH_AUTOMATIC);
        kiln_buffer *buffers[2];
        const kiln_shape shape = KILN_SHAPE(COUNT);
        kiln_tensor tensor;
        for (size_t i = 0; i < 2; i++) {
            assert_ok(kiln_buffer_create(places[p], 0, sizeof values, &buffers[i]));
            assert_ok(kiln_buffer_tensor(buffers[i], 0, KILN_DTYPE_FLOAT32, &shape, &tensor));
            assert_ok(kiln_context_bind(context, i == 0 ? "x" : "y", &tensor));
        }
        for (int run = 0; run < 5; run++) {
            for (int i = 0; i < COUNT; i++) {
                values[i] = (float)(i + run);
            }
            assert_ok(kiln_buffer_write(buffers[0], 0, (kiln_span){values, sizeof values}, NULL));
            assert_ok(kiln_context_run(context));
            assert_ok(
                kiln_buffer_read(buffers[1], 0, (kiln_mutable_span){values, sizeof values}, NULL));
            for (int i = 0; i < COUNT; i++) {
                assert_true(values[i] == -(float)(i + run));
            }
        }
        assert_int_equal(counters_of(context).graph_hits, 3);
        kiln_context_destroy(context);
        kiln_buffer_destroy(buffers[0]);
        kiln_buffer_destroy(buffers[1]);
    }
}

TEST(shapes_that_depend_on_values_are_run_plainly)
{
    owned_engine engine = build(made_model(17, "in x float32[n]; y=NonZero(x); out y int64[1,m]"),
                                KILN_PROVIDER_CUDA);
    owned_context context = make_context(engine, KILN_GRAPH_AUTOMATIC);
    float x[8] = {0};
    const kiln_tensor input = floats(x, 8);
    kiln_tensor y;
    assert_ok(kiln_context_bind(context, "x", &input));
    for (int run = 1; run < 6; run++) {
        x[run] = 1;
        assert_ok(run % 2 == 0 ? kiln_context_run(context) : kiln_context_enqueue(context, NULL));
        assert_ok(kiln_context_tensor(context, "y", &y));
        assert_int_equal(y.desc.shape.dims[1], run);
        assert_int_equal(((int64_t *)y.data)[run - 1], run);
    }
    print_message("NonZero: \"%s\"\n", counters_of(context).graph_reason);
    assert_int_equal(counters_of(context).graph_captures, 0);
    kiln_context_destroy(context);
    context = make_context(engine, KILN_GRAPH_REQUIRED);
    assert_ok(kiln_context_bind(context, "x", &input));
    assert_true(kiln_context_run(context) != KILN_OK);
    assert_message("a captured graph is required");
}

/* Det has no kernel for CUDA, so the node stays on the CPU. */
TEST(nodes_on_the_cpu_are_named)
{
    const kiln_span model = unary_model("Det", "2,2");
    kiln_engine *engine = NULL;
    kiln_build_options options =
        KILN_BUILD_OPTIONS(.backend = "onnxruntime", .provider = KILN_PROVIDER_CUDA,
                           .gpu_only = true);
    const kiln_status status = kiln_engine_build_bytes(model, &options, &engine);
    print_message("gpu_only: %s\n", kiln_error_message());
    assert_int_equal(status, KILN_ERROR_UNSUPPORTED);
    assert_message("Det");
}

TEST(options_reach_the_provider)
{
    kiln_build_options options = backend_options("onnxruntime");
    options.provider = KILN_PROVIDER_CUDA;
    options.tf32 = KILN_SWITCH_OFF;
    options.prefer_nhwc = KILN_SWITCH_ON;
    options.arena_growth = KILN_ARENA_AS_NEEDED;
    options.conv_search = KILN_CONV_SEARCH_HEURISTIC;
    options.gpu_memory_bytes = (uint64_t)1 << 30;
    options.gpu_only = true;
    kiln_engine *engine = built_bytes(unary_model("Abs", "n"), &options);
    kiln_engine_release(engine);
    options.device = 63;
    assert_status(KILN_ERROR_NO_DEVICE,
                  kiln_engine_build_bytes(unary_model("Abs", "n"), &options, &engine));
}

TEST(enqueue_orders_into_the_callers_stream)
{
    owned_engine engine = build(unary_model("Neg", "n"), KILN_PROVIDER_CUDA);
    kiln_context *first = make_context(engine, KILN_GRAPH_AUTOMATIC);
    kiln_context *second = make_context(engine, KILN_GRAPH_AUTOMATIC);
    kiln_buffer *buffers[3];
    kiln_tensor tensors[3];
    const kiln_shape shape = KILN_SHAPE(COUNT);
    static float x[COUNT];
    static float y[COUNT];
    owned_stream stream = stream_on(0);
    for (size_t i = 0; i < 3; i++) {
        assert_ok(kiln_buffer_create(KILN_LOCATION_DEVICE, 0, sizeof x, &buffers[i]));
        assert_ok(kiln_buffer_tensor(buffers[i], 0, KILN_DTYPE_FLOAT32, &shape, &tensors[i]));
    }
    assert_ok(kiln_context_bind(first, "x", &tensors[0]));
    assert_ok(kiln_context_bind(first, "y", &tensors[1]));
    assert_ok(kiln_context_bind(second, "x", &tensors[1]));
    assert_ok(kiln_context_bind(second, "y", &tensors[2]));
    for (int run = 0; run < 50; run++) {
        for (int i = 0; i < COUNT; i++) {
            x[i] = (float)(i * run);
        }
        assert_ok(kiln_buffer_write(buffers[0], 0, (kiln_span){x, sizeof x}, stream));
        assert_ok(kiln_context_enqueue(first, stream));
        assert_ok(kiln_context_enqueue(second, stream));
        assert_ok(kiln_buffer_read(buffers[2], 0, (kiln_mutable_span){y, sizeof y}, stream));
        assert_ok(kiln_stream_synchronize(stream));
        assert_memory_equal(x, y, sizeof x);
    }
    assert_int_equal(counters_of(second).graph_hits, 48);
    kiln_context_destroy(first);
    kiln_context_destroy(second);
    for (size_t i = 0; i < 3; i++) {
        kiln_buffer_destroy(buffers[i]);
    }
}

typedef struct job {
    kiln_context *context;
    int wrong;
} job;

static void *run_many(void *user)
{
    job *mine = user;
    float x[COUNT];
    float y[COUNT];
    for (int run = 0; run < 600; run++) {
        const int64_t count = 100 * (1 + run / 100);
        const kiln_tensor input = floats(x, count);
        const kiln_tensor output = floats(y, count);
        for (int64_t i = 0; i < count; i++) {
            x[i] = (float)(i + run);
        }
        mine->wrong += kiln_context_bind(mine->context, "x", &input) != KILN_OK;
        mine->wrong += kiln_context_bind(mine->context, "y", &output) != KILN_OK;
        mine->wrong += kiln_context_run(mine->context) != KILN_OK;
        for (int64_t i = 0; i < count; i++) {
            mine->wrong += !(y[i] == -x[i]);
        }
    }
    return NULL;
}

TEST(threads_capture_and_replay_side_by_side)
{
    owned_engine engine = build(unary_model("Neg", "n"), KILN_PROVIDER_CUDA);
    job jobs[4];
    for (size_t i = 0; i < 4; i++) {
        jobs[i] = (job){.context = make_context(engine, KILN_GRAPH_AUTOMATIC)};
    }
    kiln_test_in_threads(4, run_many, jobs, sizeof *jobs);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(jobs[i].wrong, 0);
        assert_int_equal(counters_of(jobs[i].context).graph_captures, 6);
        kiln_context_destroy(jobs[i].context);
    }
}

/* --- several devices --- */

#define MOST_DEVICES 16

typedef struct device_job {
    int32_t device;
    kiln_context *context;
    int wrong;
} device_job;

static void *run_on_device(void *user)
{
    device_job *mine = user;
    float x[COUNT];
    float y[COUNT];
    const kiln_tensor input = floats(x, COUNT);
    const kiln_tensor output = floats(y, COUNT);
    mine->wrong += kiln_context_bind(mine->context, "x", &input) != KILN_OK;
    mine->wrong += kiln_context_bind(mine->context, "y", &output) != KILN_OK;
    for (int run = 0; run < 300; run++) {
        for (int i = 0; i < COUNT; i++) {
            x[i] = (float)(i + run + mine->device);
        }
        mine->wrong += kiln_context_run(mine->context) != KILN_OK;
        for (int i = 0; i < COUNT; i++) {
            mine->wrong += !(y[i] == -x[i]);
        }
    }
    return NULL;
}

static kiln_context *context_on_device(int32_t device)
{
    kiln_build_options options = backend_options("onnxruntime");
    options.provider = KILN_PROVIDER_CUDA;
    options.device = device;
    owned_engine engine = built_bytes(unary_model("Neg", "n"), &options);
    assert_int_equal(kiln_engine_device(engine), device);
    return make_context(engine, KILN_GRAPH_REQUIRED);
}

/* One engine for each device there is, all at work at once. */
TEST(every_device_works_beside_the_others)
{
    const int32_t found = (int32_t)kiln_device_count();
    const int32_t count = found < MOST_DEVICES ? found : MOST_DEVICES;
    device_job jobs[MOST_DEVICES];
    for (int32_t i = 0; i < count; i++) {
        jobs[i] = (device_job){.device = i, .context = context_on_device(i)};
    }
    kiln_test_in_threads((size_t)count, run_on_device, jobs, sizeof *jobs);
    for (int32_t i = 0; i < count; i++) {
        assert_int_equal(jobs[i].wrong, 0);
        assert_int_equal(counters_of(jobs[i].context).graph_captures, 1);
    }
    /* Memory of one is no memory of another's. */
    for (int32_t i = 0; i < count; i++) {
        const int32_t other = (i + 1) % count;
        owned_buffer buffer = new_buffer(KILN_LOCATION_DEVICE, i, COUNT * sizeof(float));
        kiln_tensor tensor = buffer_tensor(buffer, 0, KILN_DTYPE_FLOAT32, &KILN_SHAPE(COUNT));
        assert_ok(kiln_context_bind(jobs[i].context, "x", &tensor));
        if (other != i) {
            assert_status(KILN_ERROR_UNSUPPORTED,
                          kiln_context_bind(jobs[other].context, "x", &tensor));
        }
        kiln_context_destroy(jobs[i].context);
        jobs[i].context = context_on_device(i);
    }
    for (int32_t i = 0; i < count; i++) {
        kiln_context_destroy(jobs[i].context);
    }
    print_message("%d device%s\n", (int)count, count == 1 ? "" : "s");
}

static bool can_run(void)
{
    kiln_engine *engine = NULL;
    kiln_build_options options =
        KILN_BUILD_OPTIONS(.backend = "onnxruntime", .provider = KILN_PROVIDER_CUDA);
    const kiln_status status = kiln_engine_build_bytes(unary_model("Neg", "n"), &options, &engine);
    kiln_engine_release(engine);
    return status == KILN_OK;
}

/* gpu_onnxruntime [PATTERN]: all tests but those whose name fits PATTERN. */
int main(int argc, char **argv)
{
    if (argc > 1) {
        cmocka_set_skip_filter(argv[1]);
    }
    if (kiln_device_count() == 0 || !can_run()) {
        print_message("skipped: %s\n", kiln_error_message());
        return KILN_TEST_SKIPPED;
    }
    return kiln_test_run();
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA provider without a GPU: tests/fake/fake_cuda_ort.c over tests/fake/fake_cuda.h. What
 * only a real one shows is in tests/gpu/gpu_onnxruntime.c. */
#include "fake_cuda_test.h"
#include "graph_maker.h"
#include "onnx/kln_onnx.h"
#include "ort_test.h"

static int begin(void **state)
{
    static char real[4096];
    if (real[0] == '\0') {
        kiln_backend_info info = {.struct_size = sizeof info};
        assert_ok(kiln_backend_choose("onnxruntime", &info));
        (void)snprintf(real, sizeof real, "%s", info.library);
    }
    set("FAKE_ORT_REAL", real);
    set("FAKE_ORT_CUDA", NULL);
    set("FAKE_ORT_HOST", NULL);
    options =
        KILN_BUILD_OPTIONS(.backend = "onnxruntime", .library = kiln_test_built("fake/cudaort"),
                           .provider = KILN_PROVIDER_CUDA, .threads = 1);
    return begin_fake(state);
}

#define CUDA_TEST(name) TEST_WITH(name, begin, end_fake)

static void run_and_check(kiln_context *context, float *x, int64_t count, float value)
{
    run_and_expect(context, x, count, value, -value);
}

CUDA_TEST(runs_are_captured_for_each_shape)
{
    owned_engine engine = build(unary_model("Neg", "n"));
    float x[16] = {0};
    assert_int_equal(kiln_engine_device(engine), 0);
    owned_context context = context_on(engine);
    for (int64_t count = 8; count <= 16; count += 8) {
        for (int i = 0; i < 5; i++) {
            run_and_check(context, x, count, (float)i);
        }
    }
    const kiln_context_counters counters = counters_of(context);
    assert_int_equal(counters.graph_captures, 2);
    assert_int_equal(counters.graph_hits, 6);
}

/* Fixed shapes are bound to memory of the context, open ones are found in each run. */
CUDA_TEST(without_graphs_runs_follow_the_host_memory)
{
    static const char *const shapes[] = {"8", "n"};
    for (size_t s = 0; s < 2; s++) {
        owned_engine engine = build(unary_model("Neg", shapes[s]));
        float x[8] = {0};
        kiln_context_options how = KILN_CONTEXT_OPTIONS(.graphs = KILN_GRAPH_OFF);
        owned_context context = context_with(engine, &how);
        for (int i = 0; i < 4; i++) {
            run_and_check(context, x, 8, (float)i);
        }
        /* Enqueued once the memory is there. */
        kiln_tensor y;
        for (int i = 0; i < 3; i++) {
            x[0] = (float)i;
            assert_ok(kiln_context_enqueue(context, NULL));
            assert_ok(kiln_context_wait(context));
            assert_ok(kiln_context_tensor(context, "y", &y));
            assert_true(((float *)y.data)[0] == -(float)i);
        }
        run_and_check(context, x, 8, 11);
    }
}

CUDA_TEST(device_memory_is_bound_as_it_is)
{
    owned_engine engine = build(unary_model("Neg", "n"));
    kiln_buffer *buffers[2];
    const kiln_shape shape = KILN_SHAPE(8);
    kiln_context *context = context_on(engine);
    for (size_t i = 0; i < 2; i++) {
        assert_ok(kiln_buffer_create(KILN_LOCATION_DEVICE, 0, 32, &buffers[i]));
        bind_tensor(context, i == 0 ? "x" : "y",
                    buffer_tensor(buffers[i], 0, KILN_DTYPE_FLOAT32, &shape));
    }
    for (int i = 0; i < 4; i++) {
        const float x[8] = {(float)i};
        float y[8];
        assert_ok(kiln_buffer_write(buffers[0], 0, (kiln_span){x, sizeof x}, NULL));
        assert_ok(kiln_context_run(context));
        assert_ok(kiln_buffer_read(buffers[1], 0, (kiln_mutable_span){y, sizeof y}, NULL));
        assert_true(y[0] == -(float)i);
    }
    assert_int_equal(counters_of(context).graph_hits, 2);
    kiln_context_destroy(context);
    kiln_buffer_destroy(buffers[0]);
    kiln_buffer_destroy(buffers[1]);
}

CUDA_TEST(nodes_on_the_cpu_are_named_and_keep_runs_from_being_captured)
{
    set("FAKE_ORT_HOST", "1");
    kiln_engine *engine = build(unary_model("Neg", "n"));
    float x[8] = {0};
    assert_int_equal(kiln_engine_host_node_count(engine), 1);
    assert_non_null(strstr(kiln_engine_host_node(engine, 0), "Neg"));
    assert_null(kiln_engine_host_node(engine, 1));
    kiln_context *context = context_on(engine);
    for (int i = 0; i < 3; i++) {
        run_and_check(context, x, 8, (float)i);
    }
    assert_non_null(strstr(counters_of(context).graph_reason, "1 node runs on the CPU: Neg"));
    kiln_context_destroy(context);
    kiln_engine_release(engine);
    options.gpu_only = true;
    assert_fails(KILN_ERROR_UNSUPPORTED,
                 kiln_engine_build_bytes(unary_model("Neg", "n"), &options, &engine),
                 "gpu_only is set, and 1 node runs on the CPU: Neg");
    owned_maker m;
    char from[8] = "x";
    maker_model(&m, 17, "in x float32[n]; out y float32[n]");
    for (int i = 0; i < 12; i++) {
        char to[8];
        (void)snprintf(to, sizeof to, i == 11 ? "y" : "t%d", i);
        maker_node(&m, i % 2 == 0 ? "Exp" : "Sin", from, to);
        memcpy(from, to, sizeof from);
    }
    assert_fails(KILN_ERROR_UNSUPPORTED,
                 kiln_engine_build_bytes(maker_span(m.model), &options, &engine),
                 "12 nodes run on the CPU", "...");
}

CUDA_TEST(an_output_that_is_an_input_is_not_captured)
{
    owned_engine engine =
        build(made_model(17, "in x float32[n]; y=Neg(x); out y float32[n]; out x float32[n]"));
    const kiln_shape shape = KILN_SHAPE(8);
    float x[8] = {0};
    owned_context context = context_on(engine);
    for (int i = 0; i < 3; i++) {
        run_and_check(context, x, 8, (float)i);
        assert_ok(kiln_context_enqueue(context, NULL));
    }
    assert_non_null(strstr(counters_of(context).graph_reason, "is one of its inputs"));
    owned_buffer buffer = new_buffer(KILN_LOCATION_DEVICE, 0, 32);
    kiln_tensor tensor = buffer_tensor(buffer, 0, KILN_DTYPE_FLOAT32, &shape);
    const float given[8] = {5};
    assert_ok(kiln_buffer_write(buffer, 0, (kiln_span){given, sizeof given}, NULL));
    assert_ok(kiln_context_bind(context, "x", &tensor));
    assert_ok(kiln_context_run(context));
    const kiln_tensor seen = tensor_in(context, "x");
    assert_ptr_equal(seen.data, tensor.data);
    const kiln_named_tensor input = {"x", tensor};
    kiln_named_tensor output = {"x", floats(x, 8)};
    assert_ok(kiln_context_run_tensors(context, &input, 1, &output, 1));
    assert_true(x[0] == 5);
}

/* What the library frees when its work is done is freed once. */
CUDA_TEST(work_that_calls_the_host_is_not_replayed)
{
    owned_engine engine = build(unary_model("Neg", "n"));
    float x[8] = {0};
    set("FAKE_CUDA_HOST_NODES", "1");
    owned_context context = context_on(engine);
    for (int i = 0; i < 4; i++) {
        run_and_check(context, x, 8, (float)i);
    }
    const kiln_context_counters counters = counters_of(context);
    assert_int_equal(counters.graph_captures, 0);
    assert_non_null(strstr(counters.graph_reason, "the work calls the host 1 time"));
}

CUDA_TEST(every_option_is_taken)
{
    options.tf32 = KILN_SWITCH_OFF;
    options.gpu_memory_bytes = 1 << 20;
    options.arena_growth = KILN_ARENA_AS_NEEDED;
    options.conv_search = KILN_CONV_SEARCH_HEURISTIC;
    options.prefer_nhwc = KILN_SWITCH_ON;
    options.fuse_conv_bias = KILN_SWITCH_ON;
    options.gpu_only = true;
    options.device = 3;
    kiln_engine *engine = build(unary_model("Neg", "n"));
    assert_int_equal(kiln_engine_device(engine), 3);
    kiln_engine_release(engine);
    options.device = 4;
    assert_status(KILN_ERROR_NO_DEVICE,
                  kiln_engine_build_bytes(unary_model("Neg", "n"), &options, &engine));
}

CUDA_TEST(what_is_missing_is_said)
{
    kiln_engine *engine = NULL;
    set("FAKE_ORT_CUDA", "absent");
    assert_fails(KILN_ERROR_LIBRARY_ABSENT,
                 kiln_engine_build_bytes(unary_model("Neg", "n"), &options, &engine),
                 "libcudnn.so.9");
    /* Of CUDA's libraries the folder that is named has one. */
    assert_message("of what it uses libcublasLt.so.12 is absent, libcublas.so.12 is absent");
    assert_message("kiln doctor says where");
    set("FAKE_ORT_CUDA", NULL);
    set("FAKE_CUDA_DEVICES", "0");
    kln_cuda_close();
    assert_status(KILN_ERROR_NO_DEVICE,
                  kiln_engine_build_bytes(unary_model("Neg", "n"), &options, &engine));
}

CUDA_TEST(tuning_keeps_the_fastest_and_writes_it_down)
{
    const kiln_span model = unary_model("Neg", "n");
    char path[4096];
    kiln_engine *engine = NULL;
    kiln_tune_result result = {.struct_size = sizeof result};
    (void)snprintf(path, sizeof path, "%s", kiln_test_file("tune.onnx", model.data, model.size));
    assert_fails(KILN_ERROR_SHAPE, kiln_engine_tune_file(path, &options, &result, &engine),
                 "input \"x\" has a dynamic dimension");
    assert_null(engine);
    const kiln_profile_input input = {
        .name = "x", .min = KILN_SHAPE(1), .opt = KILN_SHAPE(8), .max = KILN_SHAPE(16)};
    const kiln_profile profile = {.inputs = &input, .input_count = 1};
    options.profiles = &profile;
    options.profile_count = 1;
    assert_ok(kiln_engine_tune_file(path, &options, &result, &engine));
    assert_int_equal(result.tried, 5);
    assert_int_equal(result.failed, 0);
    assert_true(result.best_nanoseconds > 0);
    assert_true(result.best_nanoseconds <= result.given_nanoseconds);
    assert_ok(kiln_engine_save(engine, path));
    kiln_engine_release(engine);
    char text[4096] = "";
    (void)strncat(path, ".json", sizeof path - strlen(path) - 1);
    assert_true(kiln_test_read(path, text, sizeof text) > 0);
    char line[64];
    (void)snprintf(line, sizeof line, "\"prefer_nhwc\":\t\"%s\"",
                   result.prefer_nhwc == KILN_SWITCH_ON ? "on" : "off");
    assert_true((strstr(text, line) != NULL) == (result.prefer_nhwc != KILN_SWITCH_DEFAULT));
    options = KILN_BUILD_OPTIONS(.backend = "onnxruntime");
    path[strlen(path) - strlen(".json")] = '\0';
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_tune_file(path, &options, NULL, &engine),
                 "computes on the CPU here");
}

/* y = x W + b and z = x V + c, over 8 by 8. */
static void save_products(const char *path)
{
    static const float ones[64 + 64] = {1, 2, 3, 4, 5, 6, 7, 8, [64] = 1, 2, 3, 4, 5, 6, 7, 8};
    owned_network network = made_network(
        ones,
        "in x float32[8,8]; floats v float32[8,8]; floats w float32[8,8]; "
        "b={1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0}; p=MatMul(x,v); y=Add(p,b); q=MatMul(x,w); "
        "z=Add(q,b); out y; out z");
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
}

/* Whichever is faster here, the results are the same, and what is saved is what was kept. */
CUDA_TEST(tuning_tries_products_in_one)
{
    char path[4096];
    kiln_engine *engine = NULL;
    kiln_tune_result result = {.struct_size = sizeof result};
    (void)snprintf(path, sizeof path, "%s", kiln_test_path("products.onnx"));
    save_products(path);
    assert_ok(kiln_engine_tune_file(path, &options, &result, &engine));
    /* Five sets of options; merged, merged and turned, turned. */
    assert_int_equal(result.tried, 8);
    assert_int_equal(result.failed, 0);
    assert_true(result.merged_products <= 1);
    assert_int_equal(result.fused_attentions, 0);
    assert_true(result.transposed_products <= 2);
    (void)snprintf(path, sizeof path, "%s", kiln_test_path("tuned.onnx"));
    assert_ok(kiln_engine_save(engine, path));
    kiln_engine_release(engine);
    owned_model model = NULL;
    assert_ok(kln_onnx_read_file(path, &model));
    assert_int_equal(model->graph.node_count, result.merged_products == 1 ? 3 : 4);
}

static const char *told(const char *name)
{
    void *handle = dlopen(kiln_test_built("fake/cudaort/libonnxruntime.so"),
                          RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    if (handle == NULL) {
        fail_msg("%s", dlerror());
    }
    void *address = dlsym(handle, "fake_ort_option");
    assert_non_null(address);
    const char *(*call)(const char *) = NULL;
    memcpy(&call, &address, sizeof call);
    const char *text = call(name);
    assert_int_equal(dlclose(handle), 0);
    return text;
}

CUDA_TEST(a_load_builds_as_the_save_says)
{
    const char *path = kiln_test_path("options.saved");
    options.tf32 = KILN_SWITCH_OFF;
    options.gpu_memory_bytes = 1 << 20;
    options.arena_growth = KILN_ARENA_AS_NEEDED;
    options.conv_search = KILN_CONV_SEARCH_HEURISTIC;
    options.prefer_nhwc = KILN_SWITCH_ON;
    options.fuse_conv_bias = KILN_SWITCH_ON;
    kiln_engine *engine = build(unary_model("Neg", "n"));
    assert_ok(kiln_engine_save(engine, path));
    kiln_engine_release(engine);

    kiln_build_options load =
        KILN_BUILD_OPTIONS(.library = options.library, .conv_search = KILN_CONV_SEARCH_NONE);
    assert_ok(kiln_engine_load(path, &load, &engine));
    assert_int_equal(kiln_engine_device(engine), 0);
    assert_string_equal(told("use_tf32"), "0");
    assert_string_equal(told("gpu_mem_limit"), "1048576");
    assert_string_equal(told("arena_extend_strategy"), "kSameAsRequested");
    assert_string_equal(told("cudnn_conv_algo_search"), "DEFAULT");
    assert_string_equal(told("fuse_conv_bias"), "1");
    assert_string_equal(told("prefer_nhwc"), "1");
    kiln_engine_release(engine);

    /* The CPU, asked for by name, knows none of them. */
    load = KILN_BUILD_OPTIONS(.library = options.library, .provider = KILN_PROVIDER_CPU);
    assert_ok(kiln_engine_load(path, &load, &engine));
    assert_int_equal(kiln_engine_device(engine), -1);
    kiln_engine_release(engine);

    load.provider = KILN_PROVIDER_DEFAULT;
    set("FAKE_ORT_CUDA", "absent");
    assert_int_not_equal(kiln_engine_load(path, &load, &engine), KILN_OK);
    assert_message("options.saved\" says that it computes on a GPU");
    assert_message("libcudnn.so.9");
    set("FAKE_ORT_CUDA", NULL);
}

/* The library alone, in turns with Kiln: captured, and not. */
CUDA_TEST(a_raw_run_computes_the_same)
{
    for (int graphs = KILN_GRAPH_AUTOMATIC; graphs <= KILN_GRAPH_OFF; graphs++) {
        owned_engine engine = build(unary_model("Neg", "n"));
        kiln_buffer *buffers[2];
        uint64_t took = 0;
        kiln_context_options how = KILN_CONTEXT_OPTIONS(.graphs = (kiln_graph_policy)graphs);
        kiln_context *context = context_with(engine, &how);
        for (size_t i = 0; i < 2; i++) {
            assert_ok(kiln_buffer_create(KILN_LOCATION_DEVICE, 0, 32, &buffers[i]));
            bind_tensor(context, i == 0 ? "x" : "y",
                        buffer_tensor(buffers[i], 0, KILN_DTYPE_FLOAT32, &KILN_SHAPE(8)));
        }
        assert_fails(KILN_ERROR_STATE, kiln_context_run_raw(context, &took), "was not run yet");
        for (int i = 0; i < 8; i++) {
            const float x[8] = {(float)i + 1};
            float y[8];
            assert_ok(kiln_buffer_write(buffers[0], 0, (kiln_span){x, sizeof x}, NULL));
            if (i % 2 == 0) {
                assert_ok(kiln_context_run(context));
            } else {
                assert_ok(kiln_context_run_raw(context, &took));
                assert_true(took > 0);
            }
            assert_ok(kiln_buffer_read(buffers[1], 0, (kiln_mutable_span){y, sizeof y}, NULL));
            assert_true(y[0] == -(float)i - 1);
        }
        assert_int_equal(counters_of(context).runs, 4);
        kiln_context_destroy(context);
        kiln_buffer_destroy(buffers[0]);
        kiln_buffer_destroy(buffers[1]);
    }
}

int main(void)
{
    (void)setenv("KILN_CUDA_LIBRARIES", kiln_test_built("fake/cudapart"), 1);
    return kiln_test_run();
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/kln_engine.h"
#include "graph_maker.h"
#include "kiln_test.h"

/* y = relu(x) over these dimensions, in memory that a test may change. */
static kiln_mutable_span relu_bytes(const char *dims)
{
    static char bytes[4096];
    const kiln_span model = unary_model("Relu", dims);
    assert_true(model.size <= sizeof bytes);
    memcpy(bytes, model.data, model.size);
    return (kiln_mutable_span){bytes, model.size};
}

static void check_relu(kiln_engine *engine)
{
    owned_context context = context_on(engine);
    float x[] = {-1, 2, -3};
    const kiln_named_tensor input = {
        "x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(3), x, sizeof x)};
    kiln_named_tensor output = {"y", {.data = NULL}};
    assert_ok(kiln_context_run_tensors(context, &input, 1, &output, 1));
    const float *y = output.tensor.data;
    assert_true(y[0] == 0 && y[1] == 2 && y[2] == 0);
}

/* Both ways of building and the way back give the same engine, from file or from memory. */
TEST(an_engine_is_built_saved_and_loaded)
{
    const kiln_mutable_span bytes = relu_bytes("n");
    const char *model = kiln_test_file("relu.onnx", bytes.data, bytes.size);
    const char *plan = kiln_test_path("relu.saved");
    kiln_engine *engine = built_file(model, NULL);
    check_relu(engine);
    assert_ok(kiln_engine_save(engine, plan));
    kiln_engine_release(engine);
    assert_ok(kiln_engine_load(plan, NULL, &engine));
    check_relu(engine);
    kiln_engine_release(engine);
    assert_ok(kiln_engine_load(model, NULL, &engine));
    kiln_engine_release(engine);
    assert_ok(kiln_engine_build_bytes((kiln_span){bytes.data, bytes.size}, NULL, &engine));
    memset(bytes.data, 0, bytes.size);
    check_relu(engine);
    assert_ok(kiln_engine_save(engine, plan));
    kiln_engine_release(engine);
    assert_ok(kiln_engine_load(plan, NULL, &engine));
    check_relu(engine);
    kiln_engine_release(engine);
    assert_status(KILN_ERROR_NOT_FOUND, kiln_engine_load(kiln_test_path("absent"), NULL, &engine));
    assert_null(engine);
}

TEST(a_file_that_changed_is_refused)
{
    const kiln_mutable_span bytes = relu_bytes("3");
    const char *plan = kiln_test_path("changed.saved");
    kiln_engine *engine = built_bytes((kiln_span){bytes.data, bytes.size}, NULL);
    assert_ok(kiln_engine_save(engine, plan));
    kiln_engine_release(engine);
    ((char *)bytes.data)[bytes.size - 1] ^= 1;
    (void)kiln_test_file("changed.saved", bytes.data, bytes.size);
    assert_fails(KILN_ERROR_MISMATCH, kiln_engine_load(plan, NULL, &engine), "its manifest says");
    (void)kiln_test_file("changed.saved", bytes.data, bytes.size - 5);
    assert_fails(KILN_ERROR_MISMATCH, kiln_engine_load(plan, NULL, &engine), "bytes were found");
    (void)kiln_test_file("changed.saved.json", "{", 1);
    assert_fails(KILN_ERROR_MALFORMED, kiln_engine_load(plan, NULL, &engine), "changed.saved.json");
}

TEST(a_manifest_names_its_backend)
{
    const kiln_mutable_span bytes = relu_bytes("3");
    char text[512];
    const char *plan = kiln_test_file("foreign.saved", bytes.data, bytes.size);
    const int length = snprintf(
        text, sizeof text,
        "{\"backend\":\"teapot\",\"backend_version\":\"1\",\"size\":%zu,\"xxh3_64\":\"%016llx\"}",
        bytes.size, (unsigned long long)kln_hash_bytes(bytes.data, bytes.size));
    (void)kiln_test_file("foreign.saved.json", text, (size_t)length);
    owned_engine engine = NULL;
    assert_fails(KILN_ERROR_MISMATCH, kiln_engine_load(plan, NULL, &engine), "\"teapot\"");
    /* A backend that is asked for by name takes the manifest's place. */
    kiln_build_options options = backend_options("onnxruntime");
    assert_ok(kiln_engine_load(plan, &options, &engine));
}

static const kiln_span none = {NULL, 0};

static kiln_status parse(const char *text, kln_manifest *manifest)
{
    return kln_manifest_parse((kiln_span){text, strlen(text)}, none, manifest);
}

TEST(a_manifest_of_nonsense_is_refused)
{
    kln_manifest manifest;
    static const char good[] =
        "{\"backend\":\"b\",\"backend_version\":\"1\",\"size\":7,\"xxh3_64\":\"00000000000000ff\"}";
    assert_ok(parse(good, &manifest));
    assert_string_equal(manifest.backend, "b");
    assert_int_equal(manifest.size, 7);
    assert_int_equal(manifest.hash, 255);
    static const char *const bad[] = {
        "",
        "[]",
        "{}",
        "{\"backend\":1}",
        "{\"backend\":\"b\",\"backend_version\":\"1\",\"size\":-7,\"xxh3_64\":"
        "\"00000000000000ff\"}",
        "{\"backend\":\"b\",\"backend_version\":\"1\",\"size\":7,\"xxh3_64\":\"xyz\"}",
        "{\"backend\":\"b\",\"backend_version\":\"1\",\"size\":1e300,\"xxh3_64\":"
        "\"00000000000000ff\"}",
        "{\"backend\":\"\",\"backend_version\":\"1\",\"size\":7,\"xxh3_64\":\"00000000000000ff\"}",
        "{\"backend\":\"a name that is far too long for any "
        "backend\",\"backend_version\":\"1\",\"size\":7,\"xxh3_64\":\"00000000000000ff\"}",
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(bad); i++) {
        assert_status(KILN_ERROR_MALFORMED, parse(bad[i], &manifest));
        assert_string_equal(manifest.backend, "");
    }
    for (size_t cut = 0; cut < sizeof good - 1; cut++) {
        assert_status(KILN_ERROR_MALFORMED,
                      kln_manifest_parse((kiln_span){good, cut}, none, &manifest));
    }
    static char large[(1 << 24) + 2];
    memset(large, ' ', sizeof large - 1);
    assert_status(KILN_ERROR_LIMIT, parse(large, &manifest));
}

TEST(options_of_a_manifest_are_checked_and_taken)
{
    static const char head[] =
        "{\"backend\":\"b\",\"backend_version\":\"1\",\"size\":7,\"xxh3_64\":\"00000000000000ff\","
        "\"options\":{";
    static const char *const bad[] = {"\"optimization\":\"most\"", "\"provider\":-1",
                                      "\"tf32\":\"0\"", "\"conv_search\":[]",
                                      "\"gpu_memory_bytes\":\"1e300\""};
    char text[512];
    kln_manifest manifest;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(bad); i++) {
        (void)snprintf(text, sizeof text, "%s%s}}", head, bad[i]);
        assert_fails(KILN_ERROR_MALFORMED, parse(text, &manifest),
                     "; delete the manifest to load without it");
        assert_string_equal(manifest.backend, "");
    }
    (void)snprintf(text, sizeof text,
                   "%s\"provider\":\"cuda\",\"optimization\":\"extended\",\"conv_search\":"
                   "\"heuristic\",\"gpu_memory_bytes\":\"64\",\"gpu_only\":\"true\"}}",
                   head);
    assert_ok(parse(text, &manifest));
    kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
    kln_manifest_apply(&manifest, &options);
    assert_int_equal(options.provider, KILN_PROVIDER_CUDA);
    assert_int_equal(options.optimization, KILN_OPTIMIZATION_EXTENDED);
    assert_int_equal(options.conv_search, KILN_CONV_SEARCH_HEURISTIC);
    assert_int_equal(options.gpu_memory_bytes, 64);
    assert_true(options.gpu_only);
    options =
        KILN_BUILD_OPTIONS(.provider = KILN_PROVIDER_CPU, .optimization = KILN_OPTIMIZATION_OFF);
    kln_manifest_apply(&manifest, &options);
    assert_int_equal(options.provider, KILN_PROVIDER_CPU);
    assert_int_equal(options.optimization, KILN_OPTIMIZATION_OFF);
    assert_int_equal(options.conv_search, KILN_CONV_SEARCH_DEFAULT);
    assert_int_equal(options.gpu_memory_bytes, 0);
    assert_false(options.gpu_only);
}

/* What a refit may replace: this many matrices, the last of which has 3 rows, the others 2. */
static void keep_matrices(kiln_engine *engine, size_t count)
{
    static const float values[12] = {0};
    static int64_t two[] = {2, 4};
    static int64_t three[] = {3, 4};
    kln_onnx_model model = {.ir_version = 0};
    kln_onnx_tensor *tensors = calloc(count, sizeof *tensors);
    char(*names)[48] = calloc(count, sizeof *names);
    for (size_t i = 0; i < count; i++) {
        const bool is_last = i == count - 1;
        (void)snprintf(names[i], sizeof names[i], "model.layers.mlp.experts.%zu.down.weight", i);
        tensors[i] = (kln_onnx_tensor){.name = names[i],
                                       .dtype = KILN_DTYPE_FLOAT32,
                                       .rank = 2,
                                       .dims = is_last ? three : two,
                                       .data = {values, is_last ? 48 : 32}};
    }
    model.graph.initializers = tensors;
    model.graph.initializer_count = count;
    engine->built.refit = KILN_REFIT_ALL;
    assert_ok(kln_weight_shapes_keep(engine, &model));
    engine->built.refit = KILN_REFIT_NONE; /* which no backend here takes */
    free(tensors);
    free(names);
}

/* Two of them do not pass what one may have while a save replaces a file. */
TEST(a_manifest_that_is_written_can_be_read)
{
    const kiln_mutable_span bytes = relu_bytes("3");
    const char *plan = kiln_test_path("many.saved");
    owned_engine engine = built_bytes((kiln_span){bytes.data, bytes.size}, NULL);
    for (size_t count = 110000; count <= 120000; count += 10000) {
        owned_engine loaded = NULL;
        keep_matrices(engine, count);
        assert_ok(kiln_engine_save(engine, plan));
        assert_ok(kiln_engine_load(plan, NULL, &loaded));
        assert_int_equal(loaded->weight_shape_count, count);
        kiln_refit_weight last = {
            .name = KLN_PRINTED("model.layers.mlp.experts.%zu.down.weight", count - 1),
            .shape.rank = -1};
        kln_weight_shapes_tell(loaded, &last);
        assert_int_equal(last.shape.dims[0], 3);
    }
    keep_matrices(engine, 180000);
    assert_fails(KILN_ERROR_LIMIT, kiln_engine_save(engine, plan), "shapes of 180000 weights");
    size_t length = 0;
    assert_fails(KILN_ERROR_LIMIT, kiln_engine_manifest(engine, NULL, 0, &length), "refit");
    owned_engine loaded = NULL;
    assert_ok(kiln_engine_load(plan, NULL, &loaded));
    assert_int_equal(loaded->weight_shape_count, 120000);
    keep_matrices(engine, 1);
    engine->shared.info.version =
        "0123456789012345678901234567890123456789012345678901234567890123";
    assert_fails(KILN_ERROR_LIMIT, kiln_engine_save(engine, plan), "\"backend_version\" would");
}

typedef struct files {
    char model[4096];
    char plan[4096];
} files;

static kiln_status round_trip(void *user)
{
    const files *paths = user;
    owned_engine engine = NULL;
    owned_engine loaded = NULL;
    owned_context context = NULL;
    TRY(kiln_engine_build_file(paths->model, NULL, &engine));
    TRY(kiln_engine_save(engine, paths->plan));
    TRY(kiln_engine_load(paths->plan, NULL, &loaded));
    TRY(kiln_context_create(loaded, NULL, &context));
    TRY(kiln_context_reshape(context, "x", &KILN_SHAPE(3)));
    return kiln_context_run(context);
}

TEST(each_failed_allocation_is_survived)
{
    files paths;
    const kiln_mutable_span bytes = relu_bytes("3");
    (void)snprintf(paths.model, sizeof paths.model, "%s",
                   kiln_test_file("alloc.onnx", bytes.data, bytes.size));
    (void)snprintf(paths.plan, sizeof paths.plan, "%s", kiln_test_path("alloc.saved"));
    assert_ok(round_trip(&paths));
    kiln_test_each_allocation(round_trip, &paths);
}

TEST(nothing_is_left_where_saving_fails)
{
    const kiln_mutable_span bytes = relu_bytes("3");
    owned_engine engine = built_bytes((kiln_span){bytes.data, bytes.size}, NULL);
    assert_status(KILN_ERROR_NOT_FOUND,
                  kiln_engine_save(engine, kiln_test_path("no/such/folder/x")));
    assert_status(KILN_ERROR_IO, kiln_engine_save(engine, "/tmp"));
}

TEST(the_system_report_names_places)
{
    owned_system_report report = NULL;
    assert_ok(kiln_system_report_create(&report));
    assert_true(kiln_system_report_library_count(report) >= 1);
    bool found = false;
    for (size_t i = 0; i < kiln_system_report_library_count(report); i++) {
        kiln_library_info info = {.struct_size = sizeof info};
        assert_ok(kiln_system_report_library(report, i, &info));
        assert_true(strlen(info.name) > 0 && strlen(info.purpose) > 0);
        assert_true(info.place_count >= 1);
        assert_non_null(kiln_system_report_place(report, i, info.place_count - 1));
        assert_null(kiln_system_report_place(report, i, info.place_count));
        if (strcmp(info.name, "ONNX Runtime") == 0) {
            found = true;
            assert_int_equal(info.state, KILN_LIBRARY_FOUND);
            assert_true(info.version[0] == '1' && strlen(info.path) > 0);
            assert_string_equal(info.advice, "");
        } else if (info.state != KILN_LIBRARY_FOUND) {
            assert_true(strlen(info.advice) > 0);
        }
    }
    assert_true(found);
    kiln_library_info info = {.struct_size = sizeof info};
    kiln_device_info device = {.struct_size = sizeof device};
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_system_report_library(report, 99, &info));
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_system_report_device(report, 99, &device));
    assert_null(kiln_system_report_place(NULL, 0, 0));
    assert_int_equal(kiln_system_report_library_count(NULL), 0);
    assert_int_equal(kiln_system_report_device_count(NULL), 0);
    kiln_system_report_destroy(NULL);
}

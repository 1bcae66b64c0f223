/* SPDX-License-Identifier: Apache-2.0 */
/* Builds with the stand-in for TensorRT, options among them, and the plans that come of them. */
#include <sys/stat.h>

#include "fake_tensorrt_test.h"

#include "backends/kln_backends.h"

static char plan_path[4096];
static unsigned char plan_bytes[PLAN_ROOM];

/* Builds relu with one profile and saves it. */
static void save_plan(size_t layout, kiln_build_options *options)
{
    const kiln_profile_input input = rows(1, 2, 8);
    ONE_PROFILE(*options, &input, 1);
    kiln_engine *engine = build_network(relu_network(), options);
    (void)snprintf(plan_path, sizeof plan_path, "%s", kiln_test_path("saved.plan"));
    assert_ok(kiln_engine_save(engine, plan_path));
    kiln_engine_release(engine);
    options->profiles = NULL;
    options->profile_count = 0;
    if (ON_STAND_IN) {
        (void)kiln_build_release_builders();
    }
    assert_true(trt_number(layout, "live") == 0);
}

/* Into plan_bytes. */
static size_t read_plan(void)
{
    const size_t size = kiln_test_read(plan_path, plan_bytes, sizeof plan_bytes);
    assert_true(size > 32);
    return size;
}

static kiln_status load_bytes(const kiln_build_options *options, const void *bytes, size_t size)
{
    const kiln_model plan = {.bytes = {bytes, size}};
    void *state = NULL;
    const kiln_status status = kln_backend_tensorrt.engine.load(&plan, options, NULL, &state);
    if (status == KILN_OK) {
        kln_backend_tensorrt.engine.destroy(state);
    }
    return status;
}

LAYOUTS_TEST(a_plan_is_saved_and_loaded)
{
    kiln_build_options options = fake_options(i);
    save_plan(i, &options);
    kiln_engine *engine = loaded_file(plan_path, &options);
    assert_int_equal(kiln_engine_input_count(engine), 1);
    kiln_binding binding = output_at(engine, 0);
    assert_string_equal(binding.name, "y");
    assert_int_equal(binding.dtype, KILN_DTYPE_FLOAT32);
    assert_true(kiln_shape_equal(&binding.shape, &KILN_SHAPE(KILN_DYNAMIC, 4)));
    bool told = false;
    for (size_t m = 0; m < kiln_engine_metadata_count(engine); m++) {
        const kiln_metadata line = metadata_line(engine, m);
        told = told ||
               (strcmp(line.key, "producer") == 0 && strcmp(line.value, fake_layouts[i].name) == 0);
    }
    assert_true(told);
    float x[4] = {-1, 2, -3, 4};
    kiln_context *context = context_on(engine);
    const kiln_tensor y = run_floats(context, KILN_SHAPE(1, 4), x);
    assert_true(((float *)y.data)[1] == 2.0F);
    kiln_context_destroy(context);
    kiln_engine_release(engine);
    /* From memory, which the library need not keep. */
    assert_ok(load_bytes(&options, plan_bytes, read_plan()));
}

STAND_IN_TEST(a_damaged_plan_is_refused, "gpu_tensorrt does it in children")
{
    unsigned char *bytes = plan_bytes;
    for (size_t i = 0; i < FAKE_LAYOUTS; i++) {
        kiln_build_options options = fake_options(i);
        save_plan(i, &options);
        const size_t size = read_plan();
        for (size_t cut = 4; cut < size; cut += 1 + size / 40) {
            assert_status(KILN_ERROR_MALFORMED, load_bytes(&options, bytes, cut));
        }
        for (size_t at = 8; at < size; at += 1 + size / 60) {
            if (at >= 24 && at < 32) {
                continue; /* the version, and padding */
            }
            bytes[at] ^= 0x20;
            assert_fails(KILN_ERROR_MALFORMED, load_bytes(&options, bytes, size),
                         "TensorRT says: deserialization: the checksum does not match");
            bytes[at] ^= 0x20;
        }
        assert_ok(load_bytes(&options, bytes, size));
    }
}

STAND_IN_TEST(a_plan_of_another_version_says_so, "there is one version")
{
    const unsigned char *bytes = plan_bytes;
    kiln_build_options older = fake_options(LAYOUT_RTX_14);
    save_plan(LAYOUT_RTX_14, &older);
    size_t size = read_plan();
    const kiln_build_options newer = fake_options(LAYOUT_RTX_15);
    assert_fails(KILN_ERROR_MISMATCH, load_bytes(&newer, bytes, size),
                 "it was built with TensorRT-RTX 1.4.0, found is TensorRT-RTX 1.7.1",
                 "build it again from the model");
    kiln_build_options ten = fake_options(LAYOUT_10);
    save_plan(LAYOUT_10, &ten);
    size = read_plan();
    const kiln_build_options eleven = fake_options(LAYOUT_11);
    assert_fails(KILN_ERROR_MISMATCH, load_bytes(&eleven, bytes, size),
                 "expecting library version 11.4.0 got 10.16.1, please rebuild",
                 "build it again from the model");
    /* The manifest beside the file knows it earlier. */
    kiln_engine *engine = NULL;
    assert_fails(KILN_ERROR_MISMATCH, kiln_engine_load(plan_path, &eleven, &engine),
                 "it was built with tensorrt 10.16.1, and tensorrt 11.4.0 is installed here");
}

static void run_conv(kiln_engine *engine)
{
    float x[16];
    for (int i = 0; i < 16; i++) {
        x[i] = 1;
    }
    owned_context context = context_on(engine);
    const kiln_tensor y = run_floats(context, KILN_SHAPE(1, 1, 4, 4), x);
    assert_true(((const float *)y.data)[0] == 19);
    kiln_engine_release(engine);
}

static void run_relu(kiln_engine *engine)
{
    float x[4] = {-1, 2, -3, 4};
    owned_context context = context_on(engine);
    const kiln_tensor y = run_floats(context, KILN_SHAPE(1, 4), x);
    assert_true(((const float *)y.data)[0] == 0 && ((const float *)y.data)[3] == 4);
    kiln_engine_release(engine);
}

/* Where the plan was built for other versions too, the library judges, not the manifest. */
STAND_IN_TEST(a_version_compatible_plan_is_the_librarys_to_judge, "there is one version")
{
    kiln_build_options oldest = fake_options(LAYOUT_OLDEST);
    oldest.version_compatible = true;
    oldest.exclude_lean_runtime = true;
    save_plan(LAYOUT_OLDEST, &oldest);
    kiln_build_options options = fake_options(LAYOUT_10);
    kiln_engine *engine = loaded_file(plan_path, &options);
    run_relu(engine);
    options = fake_options(LAYOUT_11);
    assert_fails(KILN_ERROR_MISMATCH, kiln_engine_load(plan_path, &options, &engine),
                 "it was built version compatible with tensorrt 10.0.0, and 11.4.0 does not",
                 "expecting library version 11.4.0 got 10.0.0");

    oldest = fake_options(LAYOUT_OLDEST);
    oldest.version_compatible = true; /* with a runtime of its own in it */
    save_plan(LAYOUT_OLDEST, &oldest);
    options = fake_options(LAYOUT_10);
    assert_fails(KILN_ERROR_MISMATCH, kiln_engine_load(plan_path, &options, &engine),
                 "set kiln_build_options.allow_host_code");
    options.allow_host_code = true;
    assert_ok(kiln_engine_load(plan_path, &options, &engine));
    run_relu(engine);
}

/* A TensorRT of its own folder, without the lean runtime. */
static const char *lone_library(void)
{
    static unsigned char bytes[32 << 20];
    static const char *const names[] = {"libnvonnxparser.so.10", "libnvinfer_plugin.so.10"};
    char path[600];
    const char *folder = kiln_test_path("10");
    (void)snprintf(path, sizeof path, "%s/libnvinfer.so.10", fake_folder(LAYOUT_10));
    const size_t size = kiln_test_read(path, bytes, sizeof bytes);
    assert_in_range(size, 1, sizeof bytes - 1);
    assert_int_equal(mkdir(folder, 0777), 0);
    (void)snprintf(path, sizeof path, "%s/libnvinfer.so.10", folder);
    kiln_test_write(path, bytes, size);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(names); i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        assert_int_equal(symlink("libnvinfer.so.10", path), 0);
    }
    return folder;
}

/* TensorRT would say so after all else of the build. */
STAND_IN_TEST(a_runtime_that_no_plan_can_carry_is_told_first, "it has one or has none")
{
    kiln_build_options options = fake_options(LAYOUT_10);
    owned_network network = conv_network();
    owned_engine engine = NULL;
    options.version_compatible = true;
    assert_ok(kiln_engine_build(network, &options, &engine));
    kiln_engine_release(engine);
    options.library = lone_library();
    assert_fails(KILN_ERROR_NOT_FOUND, kiln_engine_build(network, &options, &engine),
                 "lean runtime, whose library is not beside that of TensorRT 10.16.1");
    assert_int_equal(kiln_build_release_builders(), 1); /* the other library's */
    options.exclude_lean_runtime = true;
    assert_ok(kiln_engine_build(network, &options, &engine));
}

/* By model and compute capability: the number of a device is another one's elsewhere. */
STAND_IN_LAYOUTS_TEST(a_manifest_says_for_which_gpu, "the GPU is what it is")
{
    kiln_build_options options = fake_options(i);
    options.device = 2;
    options.sparse_weights = true;
    kiln_engine *engine = build_network(conv_network(), &options);
    char text[4096];
    const char *path = kiln_test_path("gpu.plan");
    assert_ok(kiln_engine_save(engine, path));
    kiln_engine_release(engine);
    (void)kiln_test_read(kiln_test_path("gpu.plan.json"), text, sizeof text);
    assert_non_null(strstr(text, "\"gpu\":\t\"Fake GPU C\""));
    assert_non_null(strstr(text, "\"compute_capability\":\t\"8.6\""));
    assert_non_null(strstr(text, "\"sparse_weights\":\t\"true\""));
    assert_null(strstr(text, "\"device\""));
    options = fake_options(i);
    assert_ok(kiln_engine_load(path, &options, &engine));
    run_conv(engine);
    if (is_rtx(i)) {
        return; /* takes any GPU that it was built for */
    }
    options.device = 1;
    assert_fails(KILN_ERROR_MISMATCH, kiln_engine_load(path, &options, &engine),
                 "it was built for Fake GPU C of compute capability 8.6, device 1 is Fake ",
                 "Fake GPU B of 9.0; build it again from the model",
                 "expecting compute 9.0 got compute 8.6");
    assert_int_equal(remove(kiln_test_path("gpu.plan.json")), 0);
    assert_fails(KILN_ERROR_MISMATCH, kiln_engine_load(path, &options, &engine),
                 "it was not built for TensorRT");
}

/* No context of the driver's is current in a thread of the caller's. */
LAYOUTS_TEST(layers_are_told_of_any_gpu)
{
    kiln_build_options options = fake_options(i);
    options.device = kiln_device_count() > 1 && !is_rtx(i); /* whose plan is for the first */
    owned_engine engine = build_network(conv_network(), &options);
    const char *json = NULL;
    assert_ok(kiln_engine_inspect(engine, &json));
    assert_non_null(strstr(json, "\"Layers\": ["));
}

/* Without a manifest the bytes say whose they are. */
LAYOUTS_TEST(a_plan_is_known_by_its_bytes)
{
    kiln_build_options options = fake_options(i);
    save_plan(i, &options);
    char manifest[sizeof plan_path + 8];
    (void)snprintf(manifest, sizeof manifest, "%s.json", plan_path);
    assert_int_equal(remove(manifest), 0);
    const char *what = is_rtx(i) ? " is a plan of TensorRT-RTX" : " is a plan of TensorRT";
    owned_engine engine = NULL;
    assert_fails(KILN_ERROR_MALFORMED, kiln_engine_build_file(plan_path, &options, &engine), what,
                 "kiln_engine_load loads it");
    options.library = NULL;
    options.backend = "reference";
    assert_fails(KILN_ERROR_MISMATCH, kiln_engine_load(plan_path, &options, &engine), what,
                 "which the backend reference cannot read; the backend tensorrt can");
    assert_status(KILN_ERROR_MISMATCH, kiln_engine_build_file(plan_path, &options, &engine));
    options.backend = NULL;
    options.library = fake_folder(i);
    set("KILN_BACKEND", "reference");
    assert_ok(kiln_engine_load(plan_path, &options, &engine));
    set("KILN_BACKEND", NULL);
    kiln_backend_info info = {.struct_size = sizeof info};
    assert_ok(kiln_engine_backend(engine, &info));
    assert_string_equal(info.name, "tensorrt");
}

LAYOUTS_TEST(options_reach_the_builder)
{
    kiln_build_options options = fake_options(i);
    const bool has_tiling = has_since(i, 100800);
    options.workspace_bytes = 1 << 20;
    options.builder_optimization_level = 2;
    options.tf32 = KILN_SWITCH_OFF;
    options.sparse_weights = true;
    options.weight_streaming = true;
    options.direct_io = true;
    options.disable_timing_cache = true;
    options.strict_nans = has_tiling;
    options.distributive_independence = has_since(i, 101200);
    options.tiling_optimization_level = has_tiling ? 2 : 0;
    options.l2_limit_for_tiling = has_tiling ? 4096 : 0;
    options.max_tactics = has_tiling ? 3 : 0;
    options.average_timing_iterations = 4;
    options.max_aux_streams = 2;
    options.profiling_verbosity = KILN_PROFILING_DETAILED;
    options.hardware_compatibility = KILN_HARDWARE_AMPERE_PLUS;
    options.tactic_sources = "-EDGE_MASK_CONVOLUTIONS,+JIT_CONVOLUTIONS";
    options.threads = 4;
    owned_engine engine = build_network(conv_network(), &options);
    const char *json = NULL;
    assert_ok(kiln_engine_inspect(engine, &json));
    assert_non_null(strstr(json, ON_STAND_IN ? "\"LayerType\": \"Conv\"" : "\"LayerType\""));
    kiln_weight_streaming streaming = {.struct_size = sizeof streaming};
    assert_ok(kiln_engine_get_weight_streaming(engine, &streaming));
    assert_true(!ON_STAND_IN || streaming.streamable_bytes == 80);
}

STAND_IN_TEST(what_a_version_lacks_is_refused_by_name, "its versions lack other things")
{
    static const int32_t capabilities[] = {89, 120};
    kiln_engine *engine = NULL;
    owned_network network = conv_network();
    kiln_build_options options = fake_options(LAYOUT_OLDEST);
    options.strict_nans = true;
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_build(network, &options, &engine),
                 "strict_nans: it needs BuilderFlag.STRICT_NANS, which TensorRT 10.0.0 does not");
    options = fake_options(LAYOUT_11);
    options.compute_capabilities = capabilities;
    options.compute_capability_count = 2;
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_build(network, &options, &engine),
                 "BuilderConfig.setComputeCapability");
    options.compute_capability_count = 0;
    options.threads = 1000;
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_build(network, &options, &engine),
                 "threads: 1000 were not accepted");
    options.threads = 0;
    options.l2_limit_for_tiling = UINT64_MAX;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_build(network, &options, &engine),
                 "it must be 0 to 9223372036854775807");
    options.l2_limit_for_tiling = 0;
    options.error_on_timing_cache_miss = true;
    options.timing_cache = kiln_test_path("none.cache");
    assert_fails(KILN_ERROR_BACKEND, kiln_engine_build(network, &options, &engine),
                 "the timing cache does not know all layers");
}

/* Nothing that would be passed over is taken. */
TENSORRT_TEST(what_asks_for_nothing_is_refused)
{
    static const struct {
        const char *options[4];
        const char *words;
    } cases[] = {
        {{"gpu_fallback", "true"}, "gpu_fallback: it goes with dla_core, which is not set"},
        {{"exclude_lean_runtime", "true"}, "it goes with version_compatible"},
        {{"error_on_timing_cache_miss", "true"}, "it goes with timing_cache"},
        {{"serialize_plugins", "true"}, "it goes with plugins"},
        {{"disable_timing_cache", "true", "timing_cache", "some.cache"}, "leave one of them out"},
    };
    owned_network network = conv_network();
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        kiln_build_options *options = NULL;
        kiln_engine *engine = NULL;
        assert_ok(kiln_build_options_create(&options));
        options->backend = "tensorrt";
        options->library = fake_folder(SOME_LAYOUT);
        for (size_t k = 0; k < 4 && cases[i].options[k] != NULL; k += 2) {
            assert_ok(
                kiln_build_options_set(options, cases[i].options[k], cases[i].options[k + 1]));
        }
        assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_build(network, options, &engine),
                     cases[i].words);
        kiln_build_options_destroy(options);
    }
}

/* The stand-in has two, a machine with a GPU of its own none. */
TENSORRT_TEST(a_dla_is_there_or_refused)
{
    owned_network network = conv_network();
    for (size_t i = 0; i < FAKE_LAYOUTS; i++) {
        kiln_engine *engine = NULL;
        kiln_build_options options = fake_options(i);
        options.dla_core = -1; /* core 0 */
        options.gpu_fallback = true;
        if (is_rtx(i) || !ON_STAND_IN) {
            assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_build(network, &options, &engine),
                         "dla_core: 0 was asked for, this machine has 0");
        } else {
            assert_ok(kiln_engine_build(network, &options, &engine));
            kiln_engine_release(engine);
            options.dla_core = 2;
            assert_status(KILN_ERROR_UNSUPPORTED, kiln_engine_build(network, &options, &engine));
        }
    }
}

STAND_IN_LAYOUTS_TEST(rtx_builds_for_other_gpus, "tests/tensorrt does it with the real RTX")
{
    static const int32_t capabilities[] = {89, 120};
    if (!is_rtx(i)) {
        return;
    }
    kiln_build_options options = fake_options(i);
    options.compute_capabilities = capabilities;
    options.compute_capability_count = 2;
    owned_engine engine = build_network(conv_network(), &options);
    assert_int_equal(kiln_engine_input_count(engine), 1);
    assert_int_equal(kiln_engine_device(engine), -1);
    kiln_context *context = NULL;
    const char *json = NULL;
    uint64_t bytes = 0;
    size_t count = 0;
    assert_fails(KILN_ERROR_NO_DEVICE, kiln_context_create(engine, NULL, &context),
                 "built ahead of time");
    assert_status(KILN_ERROR_STATE, kiln_engine_inspect(engine, &json));
    assert_status(KILN_ERROR_STATE, kiln_engine_device_memory(engine, -1, &bytes));
    assert_status(KILN_ERROR_STATE, kiln_engine_refit_count(engine, &count));
    assert_status(KILN_ERROR_STATE, kiln_engine_set_weight_streaming(engine, 0));
}

/* A Hopper is a GPU, and TensorRT runs on it, but not RTX. */
STAND_IN_LAYOUTS_TEST(a_gpu_that_is_none_for_rtx_is_told, "the GPU is what it is")
{
    kiln_build_options options = fake_options(i);
    if (!is_rtx(i)) {
        options.hardware_compatibility = KILN_HARDWARE_AMPERE_PLUS;
    }
    save_plan(i, &options); /* with the GPU that the fake has else */
    set("FAKE_CUDA_CAPABILITY", "90");
    kln_cuda_close();
    char folder[512];
    (void)snprintf(folder, sizeof folder, "%s/././", fake_folder(i));
    options.library = folder;
    kiln_backend_info info = {.struct_size = sizeof info};
    assert_ok(kln_backend_tensorrt.probe(folder, &info));
    assert_int_equal(info.available, !is_rtx(i));
    assert_int_equal(info.score, is_rtx(i) ? 1 : 100);
    assert_true((info.capabilities & KILN_CAPABILITY_BUILD) != 0);
    kiln_engine *engine = NULL;
    const kiln_status status = kiln_engine_load(plan_path, &options, &engine);
    assert_int_equal(status, is_rtx(i) ? KILN_ERROR_NO_DEVICE : KILN_OK);
    if (is_rtx(i)) {
        const char *why = "compute capability 9.0, and TensorRT-RTX runs on 7.5, 8.0, 8.6, 8.9";
        assert_message(why);
        assert_non_null(strstr(info.reason, why));
        engine = build_network(conv_network(), &options);
        kiln_context *context = NULL;
        assert_fails(KILN_ERROR_NO_DEVICE, kiln_context_create(engine, NULL, &context), why);
    }
    kiln_engine_release(engine);
    set("FAKE_CUDA_CAPABILITY", NULL);
    kln_cuda_close();
}

STAND_IN_TEST(plugins_are_listed_and_loaded, "gpu_tensorrt has NVIDIA's plugins")
{
    for (size_t i = 0; i < FAKE_LAYOUTS; i++) {
        const kiln_build_options options = fake_options(i);
        size_t count = 0;
        if (is_rtx(i)) {
            assert_fails(KILN_ERROR_UNSUPPORTED, kiln_plugin_count(options.library, &count),
                         "has no plugin layers");
            continue;
        }
        assert_ok(kiln_plugin_count(options.library, &count));
        assert_true(count >= 2);
        kiln_plugin plugin = {.struct_size = sizeof plugin};
        assert_ok(kiln_plugin_get(options.library, 0, &plugin));
        assert_string_equal(plugin.name, "BatchedNMS_TRT");
        assert_string_equal(plugin.version, "1");
        assert_string_equal(plugin.name_space, "");
        assert_ok(kiln_plugin_get(options.library, 1, &plugin));
        assert_string_equal(plugin.name, "ScatterElements");
        assert_string_equal(plugin.name_space, "kiln");
        assert_string_equal(plugin.interface_kind, "PLUGIN CREATOR_V3ONE");
        assert_ok(kiln_plugin_load(options.library, kiln_test_file("plugin.so", "x", 1)));
        size_t more = 0;
        assert_ok(kiln_plugin_count(options.library, &more));
        assert_int_equal(more, count + 1);
        assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_plugin_get(options.library, more, &plugin));
        assert_fails(KILN_ERROR_LIBRARY_BROKEN, kiln_plugin_load(options.library, "/no/such.so"),
                     "\"/no/such.so\" cannot be loaded");
        const char *const paths[] = {kiln_test_path("plugin.so")};
        kiln_build_options with = options;
        with.plugins = paths;
        with.plugin_count = 1;
        with.serialize_plugins = true;
        kiln_engine_release(build_network(conv_network(), &with));
        const char *const wrong[] = {"/no/such.so"};
        with.plugins = wrong;
        owned_network network = conv_network();
        kiln_engine *engine = NULL;
        assert_status(KILN_ERROR_LIBRARY_BROKEN, kiln_engine_build(network, &with, &engine));
    }
}

STAND_IN_TEST(an_unknown_version_is_refused, "the version is known")
{
    kiln_build_options options = fake_options(LAYOUT_11);
    set("KILN_FAKE_TENSORRT", "120000");
    options.library = fake_place("11/./.");
    owned_network network = conv_network();
    kiln_engine *engine = NULL;
    assert_fails(KILN_ERROR_LIBRARY_VERSION, kiln_engine_build(network, &options, &engine),
                 "TensorRT 12.0.0: the binary interface of this version is not known");
}

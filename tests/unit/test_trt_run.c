/* SPDX-License-Identifier: Apache-2.0 */
/* Plans that the stand-in for TensorRT builds and runs, in each layout, through the public calls.
 */
#include "fake_tensorrt_test.h"

LAYOUTS_TEST(a_plan_runs_with_the_profile_that_fits)
{
    owned_engine engine = build_relu(i);
    owned_context context = context_on(engine);
    static const int64_t sizes[] = {2, 7, 3, 1, 8};
    for (size_t s = 0; s < KLN_ARRAY_LENGTH(sizes); s++) {
        float x[32];
        for (int k = 0; k < 32; k++) {
            x[k] = (float)(k % 2 == 0 ? k : -k);
        }
        const kiln_tensor y = run_floats(context, KILN_SHAPE(sizes[s], 4), x);
        assert_true(kiln_shape_equal(&y.desc.shape, &KILN_SHAPE(sizes[s], 4)));
        for (int k = 0; k < (int)sizes[s] * 4; k++) {
            assert_true(((float *)y.data)[k] == (k % 2 == 0 ? (float)k : 0.0F));
        }
    }
    float x[36] = {0};
    bind_tensor(context, "x", host_floats(x, KILN_SHAPE(9, 4)));
    assert_fails(KILN_ERROR_SHAPE, kiln_context_run(context),
                 "none of the 2 optimization profiles");
}

LAYOUTS_TEST(a_profile_can_be_fixed)
{
    owned_engine engine = build_relu(i);
    float x[12] = {-1, 2, -3, 4};
    owned_context context = context_on(engine);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_context_set_profile(context, 2), "there are 2");
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_context_set_profile(context, -2));
    int32_t in_use = -2;
    assert_ok(kiln_context_get_profile(context, &in_use));
    assert_int_equal(in_use, 0);
    assert_ok(kiln_context_set_profile(context, 1));
    assert_ok(kiln_context_get_profile(context, &in_use));
    assert_int_equal(in_use, 1);
    bind_tensor(context, "x", host_floats(x, KILN_SHAPE(1, 4)));
    assert_fails(KILN_ERROR_SHAPE, kiln_context_run(context), "another optimization profile");
    const kiln_tensor y = run_floats(context, KILN_SHAPE(3, 4), x);
    assert_true(((float *)y.data)[3] == 4.0F);
    assert_ok(kiln_context_set_profile(context, -1));
    (void)run_floats(context, KILN_SHAPE(1, 4), x);
    assert_ok(kiln_context_get_profile(context, &in_use));
    assert_int_equal(in_use, 0);
    (void)run_floats(context, KILN_SHAPE(3, 4), x);
    assert_ok(kiln_context_get_profile(context, &in_use));
    assert_int_equal(in_use, 1);
}

TENSORRT_TEST(an_engine_tells_its_profiles)
{
    for (size_t i = 0; i < FAKE_LAYOUTS; i++) {
        owned_engine engine = build_relu(i);
        assert_int_equal(kiln_engine_profile_count(engine), 2);
        kiln_profile profile;
        assert_ok(kiln_engine_profile(engine, 1, &profile));
        assert_int_equal(profile.input_count, 1);
        assert_string_equal(profile.inputs[0].name, "x");
        assert_true(kiln_shape_equal(&profile.inputs[0].min, &KILN_SHAPE(3, 4)));
        assert_true(kiln_shape_equal(&profile.inputs[0].opt, &KILN_SHAPE(4, 4)));
        assert_true(kiln_shape_equal(&profile.inputs[0].max, &KILN_SHAPE(8, 4)));
        assert_int_equal(profile.inputs[0].value_count, 0);
        assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_profile(engine, 2, &profile));
        uint64_t bytes = 0;
        assert_ok(kiln_engine_device_memory(engine, -1, &bytes));
        assert_true(!ON_STAND_IN || bytes == 2048);
        const uint64_t most = bytes;
        assert_ok(kiln_engine_device_memory(engine, 0, &bytes));
        assert_true(bytes <= most && (!ON_STAND_IN || bytes == 1024));
        assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_device_memory(engine, 2, &bytes));
        const char *json = NULL;
        const char *again = NULL;
        assert_ok(kiln_engine_inspect(engine, &json));
        assert_non_null(strstr(json, "\"Layers\": [\""));
        assert_ok(kiln_engine_inspect(engine, &again));
        assert_ptr_equal(json, again);
    }
    assert_int_equal(kiln_engine_profile_count(NULL), 0);
}

LAYOUTS_TEST(a_shape_tensor_is_read_on_the_host)
{
    static const int64_t least[] = {1, 1};
    static const int64_t usual[] = {2, 4};
    static const int64_t most[] = {32, 32};
    const kiln_profile_input inputs[] = {rows(1, 2, 8),
                                         {.name = "shape",
                                          .min_values = least,
                                          .opt_values = usual,
                                          .max_values = most,
                                          .value_count = 2}};
    kiln_build_options options = fake_options(i);
    ONE_PROFILE(options, inputs, 2);
    owned_engine engine = build_network(reshape_network(), &options);
    kiln_profile found;
    assert_ok(kiln_engine_profile(engine, 0, &found));
    assert_int_equal(found.input_count, 2);
    assert_int_equal(found.inputs[1].value_count, 2);
    assert_int_equal(found.inputs[1].opt_values[1], 4);
    assert_int_equal(found.inputs[1].max_values[0], 32);
    owned_context context = context_on(engine);
    int64_t shape[2] = {4, 2};
    float x[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    const kiln_tensor wanted =
        KILN_HOST_TENSOR(KILN_DTYPE_INT64, KILN_SHAPE(2), shape, sizeof shape);
    assert_ok(kiln_context_bind(context, "shape", &wanted));
    kiln_tensor y = run_floats(context, KILN_SHAPE(2, 4), x);
    assert_true(kiln_shape_equal(&y.desc.shape, &KILN_SHAPE(4, 2)));
    assert_true(((float *)y.data)[7] == 7.0F);
    const kiln_tensor s = tensor_in(context, "s");
    assert_int_equal(s.desc.dtype, KILN_DTYPE_INT64);
    assert_int_equal(((int64_t *)s.data)[0], 4);
    /* Into memory of the caller's; and values that no shape comes of. */
    int64_t mine[2] = {0};
    bind_tensor(context, "s", KILN_HOST_TENSOR(KILN_DTYPE_INT64, KILN_SHAPE(2), mine, sizeof mine));
    shape[0] = 1;
    shape[1] = 8;
    assert_ok(kiln_context_run(context));
    assert_int_equal(mine[1], 8);
    shape[0] = 3;
    assert_status(KILN_ERROR_SHAPE, kiln_context_run(context));
    assert_true(!ON_STAND_IN || strstr(kiln_error_message(), "another number of elements"));
    shape[0] = 1;
    assert_ok(kiln_context_run(context));
    void *device = NULL;
    assert_ok(kln_cuda_allocate(KILN_LOCATION_DEVICE, 0, 16, &device));
    kiln_tensor there = wanted;
    there.data = device;
    there.desc.location = KILN_LOCATION_DEVICE;
    assert_ok(kiln_context_bind(context, "shape", &there));
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_context_run(context), "is a shape tensor");
    kln_cuda_release(KILN_LOCATION_DEVICE, 0, device);
}

/* 0, 1, 2 in y, which lies at `data`; the buffer is empty then. */
static void check_places(kiln_context *context, kiln_buffer *buffer, const void *data)
{
    static const int64_t nothing[3] = {-1, -1, -1};
    int64_t places[3];
    kiln_tensor shown = tensor_in(context, "y");
    assert_true(kiln_shape_equal(&shown.desc.shape, &KILN_SHAPE(1, 3)));
    assert_ptr_equal(shown.data, data);
    const kiln_mutable_span to = {places, sizeof places};
    assert_ok(kiln_buffer_read(buffer, 0, to, NULL));
    assert_true(places[0] == 0 && places[1] == 1 && places[2] == 2);
    assert_ok(kiln_buffer_write(buffer, 0, (kiln_span){nothing, sizeof nothing}, NULL));
}

LAYOUTS_TEST(an_output_may_depend_on_values)
{
    const kiln_profile_input input = {
        .name = "x", .min = KILN_SHAPE(1), .opt = KILN_SHAPE(8), .max = KILN_SHAPE(64)};
    kiln_build_options options = fake_options(i);
    ONE_PROFILE(options, &input, 1);
    owned_engine engine = built_bytes(nonzero_model(), &options);
    owned_context context = context_on(engine);
    float x[64] = {0, 5, 0, 6, 7};
    kiln_tensor y = run_floats(context, KILN_SHAPE(8), x);
    assert_true(kiln_shape_equal(&y.desc.shape, &KILN_SHAPE(1, 3)));
    assert_int_equal(((int64_t *)y.data)[0], 1);
    assert_int_equal(((int64_t *)y.data)[2], 4);
    for (int k = 0; k < 64; k++) {
        x[k] = (float)k;
    }
    y = run_floats(context, KILN_SHAPE(64), x);
    assert_true(kiln_shape_equal(&y.desc.shape, &KILN_SHAPE(1, 63)));
    assert_int_equal(((int64_t *)y.data)[62], 63);
    memset(x, 0, sizeof x);
    y = run_floats(context, KILN_SHAPE(5), x);
    assert_true(kiln_shape_equal(&y.desc.shape, &KILN_SHAPE(1, 0)));
    /* A bound output that turns out too small. */
    int64_t room[2];
    const kiln_tensor small =
        KILN_HOST_TENSOR(KILN_DTYPE_INT64, KILN_SHAPE(1, 2), room, sizeof room);
    assert_ok(kiln_context_bind(context, "y", &small));
    x[0] = x[1] = x[2] = 1;
    assert_fails(KILN_ERROR_SIZE, kiln_context_run(context), "24 bytes");
    /* The same in device memory, and one that is large enough. */
    kiln_buffer *buffer = new_buffer(KILN_LOCATION_DEVICE, 0, 512);
    kiln_tensor on_device = buffer_tensor(buffer, 0, KILN_DTYPE_INT64, &KILN_SHAPE(1, 2));
    on_device.bytes = 16;
    assert_ok(kiln_context_bind(context, "y", &on_device));
    assert_fails(KILN_ERROR_SIZE, kiln_context_run(context),
                 "output \"y\" has 24 bytes, 16 are bound");
    /* As large as the output, which is less than the library asks for. */
    on_device.bytes = 24;
    assert_ok(kiln_context_bind(context, "y", &on_device));
    assert_ok(kiln_context_run(context));
    check_places(context, buffer, on_device.data);
    assert_ok(kiln_buffer_tensor(buffer, 0, KILN_DTYPE_INT64, &KILN_SHAPE(1, 64), &on_device));
    assert_ok(kiln_context_bind(context, "y", &on_device));
    assert_ok(kiln_context_run(context));
    check_places(context, buffer, on_device.data);
    const kiln_tensor none = {.data = NULL};
    assert_ok(kiln_context_bind(context, "y", &none));
    kiln_buffer_destroy(buffer);
    for (int k = 0; k < 64; k++) {
        x[k] = 1;
    }
    bind_tensor(context, "x", host_floats(x, KILN_SHAPE(64)));
    if (ON_STAND_IN) { /* no device memory for it */
        set("FAKE_CUDA_MEMORY", "1");
        assert_fails(KILN_ERROR_OUT_OF_MEMORY, kiln_context_run(context),
                     "no memory for the output y");
        set("FAKE_CUDA_MEMORY", NULL);
    }
    assert_ok(kiln_context_run(context));
    assert_ok(kiln_context_tensor(context, "y", &y));
    assert_true(kiln_shape_equal(&y.desc.shape, &KILN_SHAPE(1, 64)));
}

/* TensorRT has no float64: binding and check say so alike. */
LAYOUTS_TEST(a_double_is_bound_as_a_float)
{
    const kiln_span model = made_model(17, "in x float64[4]; y=Relu(x); out y float64[4]");
    kiln_issue_list *issues = NULL;
    kiln_check_options check = KILN_CHECK_OPTIONS(.backend = "tensorrt");
    assert_ok(kiln_check_bytes(model, NULL, &check, &issues));
    assert_int_equal(kiln_issue_list_errors(issues), 0);
    assert_int_equal(kiln_issue_list_count(issues), 2);
    for (size_t k = 0; k < 2; k++) {
        const kiln_issue *issue = kiln_issue_list_get(issues, k);
        assert_int_equal(issue->kind, KILN_ISSUE_DTYPE);
        assert_string_equal(issue->tensor, k == 0 ? "x" : "y");
        assert_string_equal(issue->expected, "float32");
        assert_string_equal(issue->found, "float64");
        assert_non_null(strstr(issue->sentence, "float32 where the backend tensorrt runs it"));
    }
    kiln_issue_list_destroy(issues);
    check.backend = "reference"; /* which has it */
    assert_ok(kiln_check_bytes(model, NULL, &check, &issues));
    assert_int_equal(kiln_issue_list_count(issues), 0);
    kiln_issue_list_destroy(issues);

    const kiln_build_options options = fake_options(i);
    owned_engine engine = built_bytes(model, &options);
    kiln_binding binding = input_at(engine, 0);
    assert_int_equal(binding.dtype, KILN_DTYPE_FLOAT32);
    assert_ok(kiln_engine_output(engine, 0, &binding));
    assert_int_equal(binding.dtype, KILN_DTYPE_FLOAT32);
    kiln_context *context = context_on(engine);
    float x[4] = {-1, 2, -3, 4};
    const kiln_tensor y = run_floats(context, KILN_SHAPE(4), x);
    assert_true(((const float *)y.data)[0] == 0 && ((const float *)y.data)[3] == 4);
    double wide[4] = {0};
    const kiln_tensor tensor =
        KILN_HOST_TENSOR(KILN_DTYPE_FLOAT64, KILN_SHAPE(4), wide, sizeof wide);
    assert_fails(KILN_ERROR_DTYPE, kiln_context_bind(context, "x", &tensor),
                 "float32 is needed, float64 was given");
    kiln_context_destroy(context);
    /* A comparison feeds both alike. */
    kiln_build_options reference = KILN_BUILD_OPTIONS_INIT;
    owned_comparison comparison = NULL;
    reference.backend = "reference";
    owned_engine other = built_bytes(model, &reference);
    assert_ok(kiln_compare_engines(engine, other, NULL, &comparison));
    assert_true(kiln_comparison_passes(comparison));
}

LAYOUTS_TEST(device_memory_is_used_where_it_lies)
{
    owned_engine engine = build_relu(i);
    void *device = NULL;
    kiln_context *context = context_on(engine);
    assert_ok(kln_cuda_allocate(KILN_LOCATION_DEVICE, 0, 64, &device));
    const float values[8] = {-1, 1, -2, 2, -3, 3, -4, 4};
    assert_ok(kln_cuda_copy(0, device, values, sizeof values, NULL));
    kiln_tensor x = host_floats(device, KILN_SHAPE(2, 4));
    x.desc.location = KILN_LOCATION_DEVICE;
    kiln_tensor y = x;
    y.data = (char *)device + 32;
    assert_ok(kiln_context_bind(context, "x", &x));
    assert_ok(kiln_context_bind(context, "y", &y));
    const unsigned long before = calls("cuMemcpyAsync");
    assert_ok(kiln_context_run(context));
    assert_int_equal(calls("cuMemcpyAsync"), before);
    float result[8];
    assert_ok(kln_cuda_copy(0, result, y.data, sizeof result, NULL));
    assert_true(result[7] == 4.0F && result[6] == 0.0F);
    kiln_context_destroy(context);
    kln_cuda_release(KILN_LOCATION_DEVICE, 0, device);
}

/* The library writes what the output has, so too little memory is no run. */
LAYOUTS_TEST(device_memory_that_is_too_small_is_not_written)
{
    owned_engine engine = build_relu(i);
    float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    float found[8];
    owned_buffer buffer = new_buffer(KILN_LOCATION_DEVICE, 0, 512);
    assert_ok(kiln_buffer_fill(buffer, 0xA5, NULL));
    kiln_tensor y = buffer_tensor(buffer, 0, KILN_DTYPE_FLOAT32, &KILN_SHAPE(1, 4));
    y.bytes = 16;
    owned_context context = context_on(engine);
    bind_tensor(context, "x", host_floats(x, KILN_SHAPE(2, 4)));
    assert_ok(kiln_context_bind(context, "y", &y));
    for (int run = 0; run < 3; run++) {
        assert_fails(KILN_ERROR_SIZE, kiln_context_run(context),
                     "output \"y\" has 32 bytes, 16 are bound");
    }
    const kiln_mutable_span to = {found, sizeof found};
    assert_ok(kiln_buffer_read(buffer, 0, to, NULL));
    for (size_t k = 0; k < sizeof found; k++) {
        assert_int_equal(((unsigned char *)found)[k], 0xA5);
    }
}

LAYOUTS_TEST(layers_are_measured)
{
    owned_engine engine = build_relu(i);
    float x[4] = {1};
    owned_context context = context_on(engine);
    kiln_layer_time layer = {.struct_size = sizeof layer};
    assert_ok(kiln_context_profile_layers(context, true));
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_context_layer(context, 0, &layer),
                 "0 were measured");
    (void)run_floats(context, KILN_SHAPE(1, 4), x);
    assert_ok(kiln_context_run(context));
    assert_ok(kiln_context_layer(context, 0, &layer));
    assert_int_equal(layer.runs, 2);
    assert_true(ON_STAND_IN ? layer.milliseconds == 0.5 : layer.milliseconds > 0);
    assert_true(layer.name[0] != '\0');
    assert_ok(kiln_context_profile_layers(context, false));
    assert_ok(kiln_context_run(context));
    assert_ok(kiln_context_layer(context, 0, &layer));
    assert_int_equal(layer.runs, 2);
    assert_ok(kiln_context_profile_layers(context, true));
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_context_layer(context, 0, &layer));
}

LAYOUTS_TEST(rtx_keeps_what_it_compiled)
{
    owned_engine engine = build_relu(i);
    owned_context context = NULL;
    const char *path = kiln_test_path("kernels.cache");
    (void)remove(path);
    kiln_context_options options =
        KILN_CONTEXT_OPTIONS(.runtime_cache = path, .kernel_specialization = KILN_KERNELS_EAGER,
                             .rtx_graphs = KILN_SWITCH_ON);
    if (!is_rtx(i)) {
        assert_fails(KILN_ERROR_UNSUPPORTED, kiln_context_create(engine, &options, &context),
                     "runtime_cache: it needs RuntimeConfig.createRuntimeCache");
        options.runtime_cache = NULL;
        assert_fails(KILN_ERROR_UNSUPPORTED, kiln_context_create(engine, &options, &context),
                     "kernel_specialization");
        return;
    }
    float x[4] = {1};
    const long before = trt_number(i, "compilations");
    for (long pass = 0; pass < 3; pass++) {
        assert_ok(kiln_context_create(engine, &options, &context));
        (void)run_floats(context, KILN_SHAPE(1, 4), x);
        assert_ok(kiln_context_run(context));
        assert_true(!ON_STAND_IN || trt_number(i, "compilations") == before + 1);
        const kiln_context_counters counters = counters_of(context);
        assert_int_equal(counters.graph_captures, 0);
        assert_non_null(strstr(counters.graph_reason, "captures runs itself"));
        assert_ok(kiln_context_save_runtime_cache(context, path));
        kiln_context_destroy(context);
    }
    options.runtime_cache = kiln_test_file("no.cache", "something else", 14);
    assert_fails(KILN_ERROR_MISMATCH, kiln_context_create(engine, &options, &context),
                 "does not take");
    options = KILN_CONTEXT_OPTIONS(.rtx_graphs = KILN_SWITCH_OFF);
    assert_ok(kiln_context_create(engine, &options, &context));
    assert_status(KILN_ERROR_STATE, kiln_context_save_runtime_cache(context, path));
}

/* A plan does not say what its model says of itself; an engine that was built here does. */
LAYOUTS_TEST(a_built_engine_tells_its_models_metadata)
{
    const kiln_profile_input few = rows(1, 2, 4);
    kiln_build_options options = fake_options(i);
    ONE_PROFILE(options, &few, 1);
    kiln_network *network = relu_network();
    assert_ok(kiln_network_set_metadata(network, "character", "a\nb"));
    owned_engine engine = build_network(network, &options);
    size_t told = 0;
    for (size_t m = 0; m < kiln_engine_metadata_count(engine); m++) {
        const kiln_metadata line = metadata_line(engine, m);
        if (strcmp(line.key, "metadata.character") == 0) {
            assert_string_equal(line.value, "a\nb");
            told++;
        }
    }
    assert_int_equal(told, 1);
}

TENSORRT_TEST(other_backends_have_no_plans)
{
    kiln_build_options options = backend_options("reference");
    owned_engine engine = build_network(conv_network(), &options);
    owned_context context = NULL;
    uint64_t bytes = 0;
    const char *json = NULL;
    kiln_weight_streaming streaming = {.struct_size = sizeof streaming};
    assert_int_equal(kiln_engine_profile_count(engine), 0);
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_inspect(engine, &json),
                 "only an engine of TensorRT has this, and this one is of the reference backend");
    assert_status(KILN_ERROR_UNSUPPORTED, kiln_engine_device_memory(engine, -1, &bytes));
    assert_status(KILN_ERROR_UNSUPPORTED, kiln_engine_get_weight_streaming(engine, &streaming));
    assert_status(KILN_ERROR_UNSUPPORTED, kiln_engine_set_weight_streaming(engine, 0));
    kiln_context_options wanted = KILN_CONTEXT_OPTIONS(.share_device_memory = true);
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_context_create(engine, &wanted, &context),
                 "\"share_device_memory\" is set, which the backend reference does not have");
    assert_ok(kiln_context_create(engine, NULL, &context));
    kiln_layer_time layer = {.struct_size = sizeof layer};
    assert_status(KILN_ERROR_UNSUPPORTED, kiln_context_set_profile(context, -1));
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_context_layer(context, 0, &layer));
    assert_status(KILN_ERROR_UNSUPPORTED, kiln_context_save_runtime_cache(context, "x"));
}

TENSORRT_TEST(a_context_needs_sensible_options)
{
    owned_engine engine = build_relu(SOME_LAYOUT);
    kiln_context *context = NULL;
    kiln_context_options options =
        KILN_CONTEXT_OPTIONS(.kernel_specialization = (kiln_kernel_specialization)7);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_context_create(engine, &options, &context),
                 "kernel_specialization is 7 (0 to 3)");
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Plans that are kept, in one process (test_cache_processes.c: in many), over the stand-in. */
#include "engine_cache_test.h"

#include "onnx/kln_onnx.h"

TENSORRT_TEST(a_model_is_built_once)
{
    kiln_build_options options = cached_options("once");
    const kiln_span model = relu_model("2,3");
    options.cache = NULL;
    assert_use(NONE, model, &options);
    assert_int_equal(count_entries(NULL), 0);
    options.cache = folder;
    assert_use(STORED, model, &options);
    const long measured = trt_number(LAYOUT_10, "measured");
    assert_use(FOUND, model, &options);
    assert_use(FOUND, model, &options);
    assert_int_equal(trt_number(LAYOUT_10, "measured"), measured);
    assert_int_equal(count_entries(NULL), 2); /* the plan and the timings */
    /* A job, a file and a load look in the same place. */
    kiln_build *job = NULL;
    kiln_engine *engine = NULL;
    assert_ok(kiln_build_start_bytes(model, &options, NULL, &job));
    assert_ok(kiln_build_wait(job, 10000, &engine));
    kiln_build_destroy(job);
    assert_int_equal(kiln_engine_cache_use(engine), KILN_CACHE_FOUND);
    kiln_engine_release(engine);
    const char *path = kiln_test_file("relu.onnx", model.data, model.size);
    assert_ok(kiln_engine_load(path, &options, &engine));
    assert_int_equal(kiln_engine_cache_use(engine), KILN_CACHE_FOUND);
    kiln_engine_release(engine);
    assert_ok(kiln_engine_build_file(path, &options, &engine));
    assert_int_equal(kiln_engine_cache_use(engine), KILN_CACHE_FOUND);
    kiln_engine_release(engine);
    /* A network is known by what it holds. */
    for (size_t i = 0; i < 2; i++) {
        engine = build_network(conv_network(), &options);
        assert_int_equal(kiln_engine_cache_use(engine),
                         i == 0 ? KILN_CACHE_STORED : KILN_CACHE_FOUND);
        kiln_engine_release(engine);
    }
}

/* An engine that was found says of itself what one that was built does. */
TENSORRT_TEST(what_is_found_has_the_names)
{
    const kiln_profile_input input = rows(1, 2, 8);
    const kiln_profile profile = {.inputs = &input, .input_count = 1, .name = "few"};
    kiln_build_options options = cached_options("names");
    options.profiles = &profile;
    options.profile_count = 1;
    kiln_engine *engines[2] = {NULL, NULL};
    for (size_t i = 0; i < 2; i++) {
        assert_ok(kiln_engine_build_bytes(unary_model("Relu", "rows,4"), &options, &engines[i]));
        assert_int_equal(kiln_engine_cache_use(engines[i]),
                         i == 0 ? KILN_CACHE_STORED : KILN_CACHE_FOUND);
        int32_t found = -1;
        const kiln_binding binding = input_at(engines[i], 0);
        assert_string_equal(binding.dim_names[0], "rows");
        assert_null(binding.dim_names[1]);
        assert_ok(kiln_engine_find_profile(engines[i], "few", &found));
        assert_int_equal(found, 0);
    }
    const size_t count = kiln_engine_metadata_count(engines[0]);
    assert_int_equal(kiln_engine_metadata_count(engines[1]), count);
    for (size_t i = 0; i < count; i++) {
        const kiln_metadata built = metadata_line(engines[0], i);
        const kiln_metadata loaded = metadata_line(engines[1], i);
        assert_string_equal(built.key, loaded.key);
        assert_string_equal(built.value, loaded.value);
    }
    kiln_engine_release(engines[0]);
    kiln_engine_release(engines[1]);
}

/* --- keys --- */

static void key_of(kiln_span bytes, const char *in, const kiln_build_options *options, char *key)
{
    kiln_backend_info info = {.struct_size = sizeof info, .name = "tensorrt", .version = "10.6.0"};
    owned_model read = NULL;
    const kiln_model model = {.bytes = bytes, .folder = in};
    assert_ok(kln_onnx_read_bytes(bytes, in, &read));
    assert_ok(kln_engine_cache_key(&info, &model, read, options, key));
}

/* Another value than the default, as text. */
static const char *some_value(const kiln_build_option *option)
{
    static char number[32];
    switch (option->kind) {
        case KILN_OPTION_FLAG: return "true";
        case KILN_OPTION_CHOICE: return option->choices[1];
        case KILN_OPTION_INTEGERS: return "80";
        case KILN_OPTION_PROFILES: return "x=1x4:2x4:8x4";
        case KILN_OPTION_SHAPES: return "x=2x4";
        case KILN_OPTION_SPAN:
        case KILN_OPTION_POINTER: return NULL;
        case KILN_OPTION_INTEGER:
        case KILN_OPTION_LEVEL:
        case KILN_OPTION_BYTES: (void)snprintf(number, sizeof number, "%d", 1); return number;
        default: return "word";
    }
}

/* Every option but those that the table says a plan is the same without. */
TENSORRT_TEST(options_that_shape_a_plan_are_in_the_key)
{
    static const char *const apart[] = {
        "backend",       "library",        "cache",        "cache_bytes",        "device",
        "threads",       "parallel_nodes", "copy_file",    "timing_cache_bytes", "gpu_pool",
        "profile_nodes", "weights_folder", "timing_cache", "allow_host_code",    "gpu_allocator",
        "keep_builder",  "issues"};
    const kiln_build_options plain = KILN_BUILD_OPTIONS_INIT;
    char before[KLN_CACHE_KEY];
    char key[KLN_CACHE_KEY];
    const kiln_span model = relu_model("rows,3");
    key_of(model, NULL, &plain, before);
    for (size_t i = 0; i < kiln_build_option_count(); i++) {
        kiln_build_option row = {.struct_size = sizeof row};
        kiln_build_options *options = NULL;
        assert_ok(kiln_build_option_get(i, &row));
        const char *value = some_value(&row);
        bool is_apart = false;
        for (size_t k = 0; k < KLN_ARRAY_LENGTH(apart); k++) {
            is_apart = is_apart || strcmp(apart[k], row.name) == 0;
        }
        assert_int_equal(is_apart, !kln_option_find(row.name)->shapes);
        if (value == NULL || strcmp(row.name, "device") == 0) {
            assert_true(is_apart);
            continue;
        }
        assert_ok(kiln_build_options_create(&options));
        assert_ok(kiln_build_options_set(options, row.name, value));
        key_of(model, NULL, options, key);
        if ((strcmp(key, before) == 0) != is_apart) {
            fail_msg("the option %s is %s the key", row.name, is_apart ? "in" : "not in");
        }
        kiln_build_options_destroy(options);
    }
}

TENSORRT_TEST(content_and_place_are_in_the_key)
{
    const kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
    char keys[6][KLN_CACHE_KEY];
    float weights[4] = {1, 2, 3, 4};
    const char *in = kiln_test_path("");
    for (size_t i = 0; i < 2; i++) {
        weights[3] = (float)i; /* the model's own file is the same */
        (void)kiln_test_file("weights.bin", weights, sizeof weights);
        key_of(made_model(17,
                          "in x float32[4]; file w float32[4] weights.bin; y=Add(x,w); "
                          "out y float32[4]"),
               in, &options, keys[i]);
    }
    key_of(relu_model("2,3"), NULL, &options, keys[2]);
    key_of(relu_model("2,4"), NULL, &options, keys[3]);
    set("FAKE_CUDA_CAPABILITY", "90");
    kln_cuda_close();
    key_of(relu_model("2,3"), NULL, &options, keys[4]);
    set("FAKE_CUDA_CAPABILITY", NULL);
    kln_cuda_close();
    const kiln_shape_hint hint = {"x", KILN_SHAPE(2, 3)}; /* which the model says as well */
    kiln_build_options hinted = options;
    hinted.shape_hints = &hint;
    hinted.shape_hint_count = 1;
    key_of(relu_model("2,3"), NULL, &hinted, keys[5]);
    assert_string_equal(keys[2], keys[5]);
    for (size_t i = 0; i < 5; i++) {
        for (size_t k = 0; k < i; k++) {
            assert_string_not_equal(keys[i], keys[k]);
        }
    }
}

/* --- damage --- */

/* Whatever lies there, the model is built and the entry is good again. */
TENSORRT_TEST(damaged_entries_are_built_anew)
{
    static unsigned char bytes[2][PLAN_ROOM];
    static const char *const names[] = {"data", "data.json"};
    const kiln_build_options options = cached_options("damaged");
    const kiln_span model = relu_model("2,3");
    assert_use(STORED, model, &options);
    const char *path = plan_file("");
    char file[8300];
    size_t sizes[2];
    for (size_t f = 0; f < 2; f++) {
        (void)snprintf(file, sizeof file, "%s%s", path, names[f]);
        sizes[f] = kiln_test_read(file, bytes[f], PLAN_ROOM);
    }
    size_t found = 0;
    for (size_t f = 0; f < 2; f++) {
        (void)snprintf(file, sizeof file, "%s%s", path, names[f]);
        for (size_t at = 0; at < sizes[f]; at += 1 + sizes[f] / 40) {
            bytes[f][at] ^= 1;
            kiln_test_write(file, bytes[f], sizes[f]);
            bytes[f][at] ^= 1;
            const kiln_cache_use use = use_of_build(model, &options);
            /* A manifest has words that decide nothing. */
            assert_true(use == KILN_CACHE_STORED || (use == KILN_CACHE_FOUND && f == 1));
            found += use == KILN_CACHE_FOUND;
            kiln_test_write(file, bytes[f], at);
            assert_use(STORED, model, &options);
            assert_use(FOUND, model, &options);
        }
        assert_int_equal(unlink(file), 0);
        assert_use(STORED, model, &options);
    }
    assert_true(found < 30);
    size_t problems = 1;
    (void)count_entries(&problems);
    assert_int_equal(problems, 0);
}

/* Good bytes that are no plan, with a manifest of their own: the library's word is not the last. */
TENSORRT_TEST(an_entry_that_the_library_refuses_is_built_anew)
{
    const kiln_build_options options = cached_options("refused");
    const kiln_span model = relu_model("2,3");
    assert_use(STORED, model, &options);
    static unsigned char text[PLAN_ROOM];
    static const char junk[] = "ftrt and then nothing that anybody could read as a plan";
    char manifest[1024];
    (void)snprintf(manifest, sizeof manifest,
                   "{\"backend\":\"tensorrt\",\"backend_version\":\"10.16.1\",\"format\":\"plan\","
                   "\"size\":%zu,\"xxh3_64\":\"%016llx\"}",
                   sizeof junk, (unsigned long long)kln_hash_bytes(junk, sizeof junk));
    kiln_test_write(plan_file("data"), junk, sizeof junk);
    kiln_test_write(plan_file("data.json"), manifest, strlen(manifest));
    assert_use(STORED, model, &options);
    assert_use(FOUND, model, &options);
    (void)kiln_test_read(plan_file("data"), text, sizeof text);
}

/* --- waiting --- */

TENSORRT_TEST(who_waits_can_be_cancelled)
{
    const kiln_build_options options = cached_options("waits");
    const kiln_span model = relu_model("2,3");
    assert_use(STORED, model, &options);
    char key[KLN_CACHE_KEY];
    (void)snprintf(key, sizeof key, "%s", plan_file("") + strlen(folder) + 1);
    assert_int_equal(unlink(plan_file("data")), 0);
    kln_cache cache;
    int lock = -1;
    assert_ok(kln_cache_open(folder, &cache));
    assert_ok(kln_cache_lock(&cache, key, true, NULL, NULL, &lock));
    assert_status(KILN_ERROR_BUSY, kiln_cache_remove(folder, key));
    kiln_build *job = NULL;
    kiln_engine *engine = NULL;
    assert_ok(kiln_build_start_bytes(model, &options, NULL, &job));
    kiln_build_progress progress = {.struct_size = sizeof progress};
    while (strstr(progress.phase, "waiting") == NULL) {
        assert_status(KILN_ERROR_BUSY, kiln_build_wait(job, 5, &engine));
        assert_ok(kiln_build_get_progress(job, &progress));
    }
    kiln_build_cancel(job);
    assert_status(KILN_ERROR_CANCELLED, kiln_build_wait(job, 10000, &engine));
    kiln_build_destroy(job);
    kln_folder_unlock(lock);
    assert_use(STORED, model, &options);
}

TENSORRT_TEST(what_is_not_kept)
{
    kiln_build_options options = cached_options("not");
    const kiln_span model = relu_model("2,3");
    options.version_compatible = true;
    assert_use(NONE, model, &options);
    options.allow_host_code = true;
    assert_use(STORED, model, &options);
    assert_use(FOUND, model, &options);
    options = cached_options("not");
    options.backend = "reference";
    options.library = NULL;
    assert_use(NONE, model, &options);
    assert_int_equal(count_entries(NULL), 0);
}

static void count_warnings(void *user, kiln_log_level level, const char *module, const char *text)
{
    *(size_t *)user += level == KILN_LOG_WARNING;
}

/* What neither the cache nor the build can do is told once; what the cache alone cannot is a
 * warning, and no sentence of a call that worked. */
TENSORRT_TEST(a_cache_that_cannot_be_used_is_told_of_once)
{
    kiln_build_options options = cached_options("told");
    size_t warnings = 0;
    kiln_engine *engine = NULL;
    kiln_log_set_sink(count_warnings, &warnings, KILN_LOG_WARNING);
    options.device = 9;
    assert_fails(KILN_ERROR_NO_DEVICE,
                 kiln_engine_build_bytes(relu_model("2,3"), &options, &engine), "device 9");
    assert_int_equal(warnings, 0);
    options.device = 0;
    options.cache = "/dev/null/cache";
    const kiln_status status = kiln_engine_build_bytes(relu_model("2,3"), &options, &engine);
    kiln_log_set_sink(NULL, NULL, KILN_LOG_ERROR);
    assert_ok(status);
    assert_int_equal(warnings, 1);
    assert_null(strstr(kiln_error_message(), "/dev/null"));
    kiln_engine_release(engine);
}

static kiln_status build_through_cache(void *user)
{
    const kiln_build_options *options = user;
    kiln_engine *engine = NULL;
    kiln_status status = kiln_cache_clear(folder, 0, NULL);
    if (status == KILN_OK) {
        status = kiln_engine_build_bytes(relu_model("2,3"), options, &engine);
        kiln_engine_release(engine);
    }
    if (status == KILN_OK) {
        status = kiln_engine_build_bytes(relu_model("2,3"), options, &engine);
        kiln_engine_release(engine);
    }
    (void)kiln_build_release_builders();
    /* Memory that the cache alone lacked costs no engine. */
    return status == KILN_OK && kiln_test_allocation_failed() ? KILN_ERROR_OUT_OF_MEMORY : status;
}

TENSORRT_TEST(every_allocation_may_fail)
{
    kiln_build_options options = cached_options("memory");
    kiln_test_each_allocation(build_through_cache, &options);
}

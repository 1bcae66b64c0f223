/* SPDX-License-Identifier: Apache-2.0 */
/* Plans that are kept, in one process (test_cache_processes.c: in many), over the stand-in. */
#include "fake_tensorrt_test.h"

#include <errno.h>
#include <sys/stat.h>

#include "engine/engine_cache.h"
#include "onnx/kln_onnx.h"

static char folder[4096];

/* An empty cache, and options that use it. */
static kiln_build_options cached_options(const char *name)
{
    kiln_build_options options = fake_options(LAYOUT_10);
    (void)snprintf(folder, sizeof folder, "%s", kiln_test_path(name));
    assert_ok(kiln_cache_clear(folder, 0, NULL));
    options.cache = folder;
    return options;
}

static kiln_span relu_model(const char *shape)
{
    return small_unary("Relu", SMALL_FLOAT, shape);
}

static kiln_cache_use use_of_build(kiln_span model, const kiln_build_options *options)
{
    owned_engine engine = NULL;
    assert_ok(kiln_engine_build_bytes(model, options, &engine));
    const kiln_cache_use use = kiln_engine_cache_use(engine);
    owned_context context = NULL;
    assert_ok(kiln_context_create(engine, NULL, &context));
    float x[] = {-1, 2, -3, 4, -5, 6};
    const float *y = run_floats(context, KILN_SHAPE(2, 3), x).data;
    assert_true(y[0] == 0 && y[1] == 2 && y[4] == 0 && y[5] == 6);
    return use;
}

#define assert_use(expected, model, options) \
    assert_int_equal(KILN_CACHE_##expected, use_of_build(model, options))

/* How many entries there are; in `problems` (or NULL) how many are not whole and as written. */
static size_t count_entries(size_t *problems)
{
    kiln_cache_list *list = NULL;
    assert_ok(kiln_cache_list_create(folder, true, &list));
    const size_t count = kiln_cache_list_count(list);
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        kiln_cache_entry entry = {.struct_size = sizeof entry};
        assert_ok(kiln_cache_list_get(list, i, &entry));
        found += entry.problem != NULL;
    }
    kiln_cache_list_destroy(list);
    if (problems != NULL) {
        *problems = found;
    }
    return count;
}

/* The path of a file of the only plan there is. */
static const char *plan_file(const char *name)
{
    static char path[8192];
    kiln_cache_list *list = NULL;
    assert_ok(kiln_cache_list_create(folder, false, &list));
    path[0] = '\0';
    for (size_t i = 0; i < kiln_cache_list_count(list); i++) {
        kiln_cache_entry entry = {.struct_size = sizeof entry};
        assert_ok(kiln_cache_list_get(list, i, &entry));
        if (strcmp(entry.kind, "timings") != 0) {
            assert_int_equal(path[0], '\0');
            (void)snprintf(path, sizeof path, "%s/%s/%s", folder, entry.key, name);
        }
    }
    kiln_cache_list_destroy(list);
    return path;
}

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
        assert_ok(kiln_engine_build_bytes(small_unary("Relu", SMALL_FLOAT, "rows,4"), &options,
                                          &engines[i]));
        assert_int_equal(kiln_engine_cache_use(engines[i]),
                         i == 0 ? KILN_CACHE_STORED : KILN_CACHE_FOUND);
        kiln_binding binding = {.struct_size = sizeof binding};
        int32_t found = -1;
        assert_ok(kiln_engine_input(engines[i], 0, &binding));
        assert_string_equal(binding.dim_names[0], "rows");
        assert_null(binding.dim_names[1]);
        assert_ok(kiln_engine_find_profile(engines[i], "few", &found));
        assert_int_equal(found, 0);
    }
    const size_t count = kiln_engine_metadata_count(engines[0]);
    assert_int_equal(kiln_engine_metadata_count(engines[1]), count);
    for (size_t i = 0; i < count; i++) {
        kiln_metadata built;
        kiln_metadata loaded;
        assert_ok(kiln_engine_metadata(engines[0], i, &built));
        assert_ok(kiln_engine_metadata(engines[1], i, &loaded));
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
    kln_onnx_model *read = NULL;
    const kiln_model model = {.bytes = bytes, .folder = in};
    assert_ok(kln_onnx_read_bytes(bytes, in, &read));
    assert_ok(kln_engine_cache_key(&info, &model, read, options, key));
    kln_onnx_model_destroy(read);
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
        small_graph graph = {.message = {.size = 0}};
        small_node(&graph, "Add", "x,w", "y");
        small_external(&graph, "w", 4, "weights.bin");
        small_input(&graph, "x", SMALL_FLOAT, "4");
        small_output(&graph, "y", SMALL_FLOAT, "4");
        weights[3] = (float)i; /* the model's own file is the same */
        (void)kiln_test_file("weights.bin", weights, sizeof weights);
        key_of(small_model(&graph), in, &options, keys[i]);
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

/* --- where nothing can be written --- */

TENSORRT_TEST(a_build_goes_on_without_a_cache)
{
    kiln_build_options options = cached_options("without");
    const kiln_span model = relu_model("2,3");
    /* A file in the place of the folder. */
    const char *file = kiln_test_file("file", "x", 1);
    options.cache = file;
    assert_use(NOT_STORED, model, &options);
    /* A folder of everybody's. */
    options.cache = folder;
    assert_int_equal(mkdir(folder, 0700) == 0 || errno == EEXIST, 1);
    assert_int_equal(chmod(folder, 0777), 0);
    assert_use(NOT_STORED, model, &options);
    assert_int_equal(count_entries(NULL), 0);
    /* A folder that nothing can be written to: what is there is found all the same. */
    assert_int_equal(chmod(folder, 0755), 0);
    assert_use(STORED, model, &options);
    const bool is_root = geteuid() == 0;
    assert_int_equal(chmod(folder, 0555), 0);
    assert_true(!is_root || seteuid(65534) == 0);
    const kiln_cache_use other = use_of_build(relu_model("2,3"), &options);
    options.builder_optimization_level = 1;
    const kiln_cache_use missing = use_of_build(relu_model("2,3"), &options);
    assert_true(!is_root || seteuid(0) == 0);
    assert_int_equal(chmod(folder, 0755), 0);
    assert_int_equal(missing, KILN_CACHE_NOT_STORED);
    /* Its entries are the owner's alone. */
    assert_int_equal(other, is_root ? KILN_CACHE_NOT_STORED : KILN_CACHE_FOUND);
    /* No usual place. */
    set("XDG_CACHE_HOME", "relative");
    set("HOME", NULL);
    options.cache = "default";
    assert_use(NOT_STORED, model, &options);
    size_t length = 0;
    assert_status(KILN_ERROR_NOT_FOUND, kiln_cache_folder("default", NULL, 0, &length));
    set("XDG_CACHE_HOME", folder);
    char text[4096];
    assert_ok(kiln_cache_folder("default", text, sizeof text, &length));
    assert_int_equal(length, strlen(folder) + 5);
    assert_string_equal(text + strlen(folder), "/kiln");
    assert_status(KILN_ERROR_LIMIT, kiln_cache_folder("default", text, length, &length));
    set("XDG_CACHE_HOME", NULL);
    set("HOME", folder);
    assert_ok(kiln_cache_folder("default", text, sizeof text, &length));
    assert_string_equal(text + strlen(folder), "/.cache/kiln");
}

/* --- bounds --- */

TENSORRT_TEST(what_was_not_used_for_longest_goes)
{
    kiln_build_options options = cached_options("bound");
    const kiln_span model = relu_model("2,3");
    for (int32_t level = 1; level <= 5; level++) {
        options.builder_optimization_level = level;
        assert_use(STORED, model, &options);
    }
    options.builder_optimization_level = 1;
    assert_use(FOUND, model, &options);
    kiln_cache_list *list = NULL;
    kiln_cache_entry entry = {.struct_size = sizeof entry};
    assert_ok(kiln_cache_list_create(folder, false, &list));
    assert_int_equal(kiln_cache_list_count(list), 6);
    uint64_t most = 0;
    for (size_t i = 0; i < 6; i++) {
        assert_ok(kiln_cache_list_get(list, i, &entry));
        most += i < 2 ? entry.bytes : 0;
    }
    kiln_cache_list_destroy(list);
    uint64_t freed = 0;
    assert_ok(kiln_cache_clear(folder, most, &freed));
    assert_true(freed > 0);
    assert_use(FOUND, model, &options);
    options.builder_optimization_level = 2;
    options.cache_bytes = most + 1; /* the one that is put there stays, what it pushes out goes */
    assert_use(STORED, model, &options);
    assert_true(count_entries(NULL) <= 4);
    assert_use(FOUND, model, &options);
    options.cache_bytes = 10;
    options.builder_optimization_level = 3;
    assert_use(NOT_STORED, model, &options);
    assert_ok(kiln_cache_clear(folder, 0, NULL));
    assert_int_equal(count_entries(NULL), 0);
    assert_status(KILN_ERROR_NAME, kiln_cache_remove(folder, "../../etc"));
}

/* --- what is measured --- */

TENSORRT_TEST(what_builds_measured_is_kept)
{
    kiln_build_options options = cached_options("timings");
    const kiln_span model = relu_model("2,3");
    assert_use(STORED, model, &options);
    (void)kiln_build_release_builders(); /* as another process has none */
    const long measured = trt_number(LAYOUT_10, "measured");
    options.builder_optimization_level = 1; /* another plan of the same layers */
    assert_use(STORED, model, &options);
    assert_int_equal(trt_number(LAYOUT_10, "measured"), measured);
    (void)kiln_build_release_builders();
    /* Damaged, they are measured again, and written anew. */
    char path[8300];
    kiln_cache_list *list = NULL;
    assert_ok(kiln_cache_list_create(folder, false, &list));
    for (size_t i = 0; i < kiln_cache_list_count(list); i++) {
        kiln_cache_entry entry = {.struct_size = sizeof entry};
        assert_ok(kiln_cache_list_get(list, i, &entry));
        if (strcmp(entry.kind, "timings") == 0) {
            (void)snprintf(path, sizeof path, "%s/%s/data", folder, entry.key);
        }
    }
    kiln_cache_list_destroy(list);
    kiln_test_write(path, "nonsense", 8);
    options.builder_optimization_level = 2;
    assert_use(STORED, model, &options);
    assert_true(trt_number(LAYOUT_10, "measured") > measured);
    size_t problems = 1;
    (void)count_entries(&problems);
    assert_int_equal(problems, 0);
}

TENSORRT_TEST(what_a_warmup_measured_is_kept)
{
    static unsigned char text[PLAN_ROOM];
    const kiln_build_options options = cached_options("variants");
    const kiln_span model = relu_model("2,3");
    for (size_t i = 0; i < 2; i++) {
        kiln_engine *engine = NULL;
        kiln_context *context = NULL;
        assert_ok(kiln_engine_build_bytes(model, &options, &engine));
        assert_int_equal(engine->shared.measured->variants.count, i);
        assert_ok(kiln_context_create(engine, NULL, &context));
        float x[6] = {0};
        (void)run_floats(context, KILN_SHAPE(2, 3), x);
        assert_ok(kiln_context_warmup(context, 20, 0, NULL));
        kiln_context_destroy(context);
        kiln_engine_release(engine);
        (void)kiln_test_read(plan_file("data.json"), text, sizeof text);
        assert_non_null(strstr((const char *)text, "graph_variants"));
    }
    assert_use(FOUND, model, &options);
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
    kln_cache_unlock(lock);
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

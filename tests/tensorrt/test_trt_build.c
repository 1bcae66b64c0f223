/* SPDX-License-Identifier: Apache-2.0 */
#include <malloc.h>
#include <sys/stat.h>

#include "backends/kln_backends.h"
#include "graph_maker.h"
#include "trt_test.h"

static const kiln_profile_input magika_input[] = {
    {.name = "bytes", .min = {2, {1, 2048}}, .opt = {2, {8, 2048}}, .max = {2, {32, 2048}}}};
static const kiln_profile magika_profile = {.inputs = magika_input, .input_count = 1};

static kiln_build_options magika_options(const char *library)
{
    kiln_build_options options = trt_test_options(library);
    options.profiles = &magika_profile;
    options.profile_count = 1;
    return options;
}

/* A shape as a constant. */
#define DIMS(...)                                           \
    {                                                       \
        sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), \
        {                                                   \
            __VA_ARGS__                                     \
        }                                                   \
    }

/* A model, the range of its dynamic input, and what the plan must say of itself. */
static const struct {
    const char *model, *input;
    kiln_shape min, opt, max;
    const char *output; /* or NULL */
    int32_t output_rank;
} models[] = {
    {"magika/model.onnx", "bytes", DIMS(1, 2048), DIMS(8, 2048), DIMS(32, 2048), "target_label", 2},
    {"rapidocr/cls.onnx", "x", DIMS(1, 3, 48, 192), DIMS(4, 3, 48, 192), DIMS(8, 3, 48, 192), NULL,
     2},
    {"rapidocr/det.onnx", "x", DIMS(1, 3, 320, 320), DIMS(1, 3, 640, 640), DIMS(1, 3, 960, 960),
     NULL, 4},
    {"rapidocr/rec.onnx", "x", DIMS(1, 3, 48, 160), DIMS(4, 3, 48, 320), DIMS(8, 3, 48, 640), NULL,
     3},
    {"silero-vad/silero_vad_16k_sequence.onnx", "input", DIMS(1, 576), DIMS(8, 576), DIMS(64, 576),
     NULL, -1},
    {"light_resnet50", NULL, DIMS(1), DIMS(1), DIMS(1), "gpu_0/softmax_1", 2},
};

static void check_engine(const kiln_engine *engine, size_t m)
{
    assert_true(kiln_engine_input_count(engine) >= 1);
    const kiln_binding binding = output_at(engine, 0);
    assert_int_equal(binding.dtype, KILN_DTYPE_FLOAT32);
    if (models[m].output_rank >= 0) {
        assert_int_equal(binding.shape.rank, models[m].output_rank);
    }
    if (models[m].output != NULL) {
        assert_string_equal(binding.name, models[m].output);
    }
    bool found = false;
    for (size_t i = 0; i < kiln_engine_metadata_count(engine); i++) {
        const kiln_metadata line = metadata_line(engine, i);
        if (strcmp(line.key, "tensorrt.plan_bytes") == 0) {
            found = atoll(line.value) > 10000;
        }
    }
    assert_true(found);
}

TEST(real_models_build_with_each_version)
{
    bool any = false;
    for (size_t v = 0; trt_test_rtx[v] != NULL; v++) {
        const char *library = trt_test_library("rtx", trt_test_rtx[v]);
        for (size_t m = 0; library != NULL && m < KLN_ARRAY_LENGTH(models); m++) {
            const char *path = trt_test_model(models[m].model);
            if (path == NULL) {
                continue;
            }
            const kiln_profile_input input = {.name = models[m].input,
                                              .min = models[m].min,
                                              .opt = models[m].opt,
                                              .max = models[m].max};
            const kiln_profile profile = {.inputs = &input, .input_count = 1};
            kiln_build_options options = trt_test_options(library);
            options.profiles = &profile;
            options.profile_count = models[m].input != NULL ? 1 : 0;
            kiln_engine *engine = built_file(path, &options);
            check_engine(engine, m);
            kiln_engine_release(engine);
            any = true;
        }
    }
    SKIP_IF(!any);
}

/* The parser takes every silero-vad. Over the branches of three the builder of each RTX so far
 * stumbles, through NVIDIA's Python bindings as well; in two of these one condition is known, and
 * Kiln hands over the nodes of its branch. What is left is of one batch size: the branches of
 * another If have one rank or the other by that. */
TEST(each_silero_vad_builds_or_says_why)
{
    trt_test_not_on_gpu();
    static const char *const ranks = "Must have inputs with equal ranks";
    static const struct {
        const char *model;
        int64_t batch;     /* at most; 0: no profile */
        const char *words; /* of the refusal, or NULL */
    } all[] = {{"silero-vad/silero_vad_op18_ifless.onnx", 4, NULL},
               {"silero-vad/silero_vad_openvino_16k.onnx", 0, NULL},
               {"silero-vad/silero_vad.onnx", 4, "builds no plan: TensorRT says: [graphScope.cpp"},
               {"silero-vad/silero_vad_16k_op15.onnx", 1, NULL},
               {"silero-vad/silero_vad_16k_op15.onnx", 4, ranks},
               {"silero-vad/silero_vad_half.onnx", 1, NULL},
               {"silero-vad/silero_vad_half.onnx", 4, ranks}};
    bool any = false;
    for (size_t v = 0; trt_test_rtx[v] != NULL; v++) {
        const char *library = trt_test_library("rtx", trt_test_rtx[v]);
        for (size_t m = 0; library != NULL && m < KLN_ARRAY_LENGTH(all); m++) {
            const char *path = trt_test_model(all[m].model);
            if (path == NULL) {
                continue;
            }
            any = true;
            const int64_t most = all[m].batch;
            const kiln_profile_input inputs[] = {{.name = "input",
                                                  .min = {2, {1, 512}},
                                                  .opt = {2, {1, 512}},
                                                  .max = {2, {most, 512}}},
                                                 {.name = "state",
                                                  .min = {3, {2, 1, 128}},
                                                  .opt = {3, {2, 1, 128}},
                                                  .max = {3, {2, most, 128}}}};
            const kiln_profile profile = {.inputs = inputs, .input_count = 2};
            kiln_build_options options = trt_test_options(library);
            owned_engine engine = NULL;
            options.profiles = &profile;
            options.profile_count = most != 0;
            assert_status(all[m].words == NULL ? KILN_OK : KILN_ERROR_BACKEND,
                          kiln_engine_build_file(path, &options, &engine));
            if (all[m].words != NULL) {
                assert_message(all[m].words);
            }
        }
    }
    SKIP_IF(!any);
}

static size_t plan_size(const char *path)
{
    struct stat facts;
    return stat(path, &facts) == 0 ? (size_t)facts.st_size : 0;
}

/* Plans for more GPUs are larger; two profiles are in one plan. */
TEST(capabilities_and_profiles_are_kept)
{
    trt_test_not_on_gpu();
    const char *library = trt_test_newest();
    const char *model = trt_test_model("magika/model.onnx");
    SKIP_IF(model == NULL);
    kiln_build_options options = magika_options(library);
    size_t sizes[3] = {0};
    static const int32_t many[] = {80, 89, 120};
    for (size_t i = 0; i < 3; i++) {
        options.compute_capabilities = &many[i];
        options.compute_capability_count = 1;
        if (i == 2) {
            options.compute_capabilities = many;
            options.compute_capability_count = 3;
        }
        const char *path = kiln_test_path("plan");
        kiln_engine *engine = built_file(model, &options);
        assert_ok(kiln_engine_save(engine, path));
        kiln_engine_release(engine);
        sizes[i] = plan_size(path);
    }
    assert_true(sizes[2] > sizes[0] && sizes[2] > sizes[1]);

    const kiln_profile_input wide = {
        .name = "bytes", .min = {2, {64, 2048}}, .opt = {2, {96, 2048}}, .max = {2, {128, 2048}}};
    const kiln_profile two[] = {magika_profile, {.inputs = &wide, .input_count = 1}};
    options = magika_options(library);
    options.profiles = two;
    options.profile_count = 2;
    owned_engine engine = built_file(model, &options);
}

TEST(an_option_that_cannot_be_kept_is_refused_by_name)
{
    trt_test_not_on_gpu();
    const char *library = trt_test_newest();
    const char *model = trt_test_model("magika/model.onnx");
    SKIP_IF(model == NULL);
    static const int32_t hopper[] = {90};
    kiln_engine *engine = NULL;
    kiln_build_options options = magika_options(library);
    options.compute_capabilities = hopper;
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_build_file(model, &options, &engine),
                 "compute_capabilities: 90", "75, 80, 86, 89, 120");
    assert_null(engine);

    options = magika_options(library);
    options.dla_core = -1;
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_build_file(model, &options, &engine),
                 "dla_core");

    options = magika_options(library);
    options.gpu_fallback = true;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_build_file(model, &options, &engine),
                 "gpu_fallback");

    options = magika_options(library);
    options.tactic_sources = "-CUDNN";
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_build_file(model, &options, &engine),
                 "TacticSource.CUDNN");
    options.tactic_sources = "+NONSENSE";
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_build_file(model, &options, &engine),
                 "NONSENSE");

    options = magika_options(library);
    options.builder_optimization_level = 6;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_build_file(model, &options, &engine),
                 "builder_optimization_level");

    options = magika_options(library);
    options.plugin_count = 1;
    options.plugins = (const char *const[]){"/none.so"};
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_build_file(model, &options, &engine),
                 "no plugin layers");

    options = magika_options(library);
    options.optimization = KILN_OPTIMIZATION_BASIC;
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_build_file(model, &options, &engine),
                 "builder_optimization_level");
}

TEST(another_backend_refuses_plan_options)
{
    const char *model = trt_test_model("magika/model.onnx");
    SKIP_IF(model == NULL);
    kiln_build_options options = backend_options("reference");
    options.profiles = &magika_profile;
    options.profile_count = 1;
    options.workspace_bytes = 1 << 20;
    kiln_engine *engine = NULL;
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_build_file(model, &options, &engine),
                 "\"workspace_bytes\" is set, which the backend reference does not take; it is for "
                 "TensorRT",
                 "reference");
}

static kiln_status build_with(const kiln_profile_input *input, const char *library)
{
    const kiln_profile profile = {.inputs = input, .input_count = 1};
    kiln_build_options options = trt_test_options(library);
    options.profiles = &profile;
    options.profile_count = input != NULL ? 1 : 0;
    owned_engine engine = NULL;
    return kiln_engine_build_file(trt_test_model("magika/model.onnx"), &options, &engine);
}

TEST(a_profile_that_does_not_fit_is_explained)
{
    const char *library = trt_test_newest();
    SKIP_IF(trt_test_model("magika/model.onnx") == NULL);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, build_with(NULL, library),
                 "input \"bytes\" (?x2048) has a dynamic dimension");
    kiln_profile_input input = magika_input[0];
    input.name = "pixels";
    assert_fails(KILN_ERROR_NAME, build_with(&input, library),
                 "no input \"pixels\"; there is \"bytes\"");
    input = magika_input[0];
    input.opt = KILN_SHAPE(1, 2, 3);
    assert_fails(KILN_ERROR_RANK, build_with(&input, library),
                 "opt is 1x2x3, the model has ?x2048");
    input = magika_input[0];
    input.max = KILN_SHAPE(32, 4096);
    assert_fails(KILN_ERROR_SHAPE, build_with(&input, library), "dimension 1");
    input = magika_input[0];
    input.max = KILN_SHAPE(4, 2048);
    assert_fails(KILN_ERROR_SHAPE, build_with(&input, library), "max (4) is less than opt (8)");
    input = magika_input[0];
    input.min = KILN_SHAPE(KILN_DYNAMIC, 2048);
    assert_status(KILN_ERROR_SHAPE, build_with(&input, library));
    input = magika_input[0];
    input.name = NULL;
    assert_status(KILN_ERROR_NULL_ARGUMENT, build_with(&input, library));
}

/* --- stopping --- */

typedef struct watch {
    long calls;
    long stop_at;
    int deepest;
} watch;

static bool progress(void *user, const kiln_phase *now)
{
    watch *seen = user;
    assert_non_null(now->phase);
    assert_true(now->depth >= 0 && now->depth < 32);
    assert_true(now->step >= 0 && (now->steps <= 0 || now->step <= now->steps));
    seen->deepest = now->depth > seen->deepest ? now->depth : seen->deepest;
    return seen->calls++ != seen->stop_at;
}

static kiln_status build_watched(watch *seen, const char *library)
{
    owned_mapping mapping;
    assert_ok(kln_mapping_open(trt_test_model("light_resnet50"), &mapping));
    const kiln_model model = {.path = "light_resnet50", .bytes = mapping.bytes};
    const kiln_monitor monitor = {seen, progress};
    const kiln_build_options options = trt_test_options(library);
    void *engine = NULL;
    const kiln_status status =
        kln_backend_tensorrt.engine.build(&model, &options, &monitor, &engine);
    if (status == KILN_OK) {
        kln_backend_tensorrt.engine.destroy(engine);
    }
    return status;
}

TEST(a_build_can_be_stopped_at_any_step)
{
    const char *library = trt_test_newest();
    SKIP_IF(trt_test_model("light_resnet50") == NULL);
    watch whole = {.stop_at = -1};
    assert_ok(build_watched(&whole, library));
    assert_true(whole.calls > 16);
    /* Of later steps, it is a matter of time which ones are told of. */
    const long stops[] = {0, 1, 2, 3, 8, 15};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(stops); i++) {
        watch seen = {.stop_at = stops[i]};
        assert_fails(KILN_ERROR_CANCELLED, build_watched(&seen, library), "stopped");
        assert_true(seen.calls <= whole.calls);
    }
}

static kiln_status job(const kiln_build_limits *limits, long cancel_after, const char *library,
                       kiln_build_progress *progress)
{
    const kiln_build_options options = trt_test_options(library);
    owned_build build = NULL;
    assert_ok(kiln_build_start_file(trt_test_model("light_resnet50"), &options, limits, &build));
    owned_engine engine = NULL;
    kiln_status status = KILN_ERROR_BUSY;
    double before = 0.0;
    while (status == KILN_ERROR_BUSY) {
        status = kiln_build_wait(build, 2, &engine);
        assert_ok(kiln_build_get_progress(build, progress));
        assert_true(progress->fraction >= before && progress->fraction <= 1.0);
        before = progress->fraction;
        if (cancel_after >= 0 && progress->reports >= (uint64_t)cancel_after) {
            kiln_build_cancel(build);
        }
    }
    return status;
}

TEST(a_job_keeps_its_limits)
{
    const char *library = trt_test_newest();
    SKIP_IF(trt_test_model("light_resnet50") == NULL);
    kiln_build_progress progress = {.struct_size = sizeof progress};
    assert_ok(job(NULL, -1, library, &progress));
    assert_true(progress.reports > 5 && progress.fraction == 1.0);
    const uint64_t whole = progress.nanoseconds;
    assert_fails(KILN_ERROR_CANCELLED, job(NULL, 2, library, &progress), "cancelled");
    assert_true(progress.nanoseconds < whole * 4);
    kiln_build_limits limits = KILN_BUILD_LIMITS(.milliseconds = 20);
    assert_fails(KILN_ERROR_TIMEOUT, job(&limits, -1, library, &progress), "20 are allowed");
    limits = KILN_BUILD_LIMITS(.memory_bytes = 1 << 20);
    (void)malloc_trim(0); /* what the builds before left free would be enough for this one */
    assert_fails(KILN_ERROR_LIMIT, job(&limits, -1, library, &progress), "memory had grown");
}

/* --- the timing cache --- */

TEST(the_timing_cache_is_kept_across_builds)
{
    const char *library = trt_test_newest();
    const char *model = trt_test_model("magika/model.onnx");
    SKIP_IF(model == NULL);
    const char *path = kiln_test_path("timing.cache");
    (void)unlink(path);
    kiln_build_options options = magika_options(library);
    options.timing_cache = path;
    for (int pass = 0; pass < 2; pass++) {
        kiln_engine *engine = built_file(model, &options);
        kiln_engine_release(engine);
        assert_true(plan_size(path) > 0);
    }
    kln_mapping mapping;
    assert_ok(kln_mapping_open(path, &mapping));
    options.timing_cache = NULL;
    options.timing_cache_bytes = mapping.bytes;
    kiln_engine *engine = built_file(model, &options);
    kiln_engine_release(engine);
    kln_mapping_close(&mapping);

    options.timing_cache_bytes = (kiln_span){"x", 1};
    options.timing_cache = path;
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_build_file(model, &options, &engine));
}

/* --- memory --- */

static kiln_status build_node(void *user)
{
    const kiln_build_options options = trt_test_options(user);
    owned_engine engine = NULL;
    return kiln_engine_build_file(trt_test_node("test_sigmoid"), &options, &engine);
}

TEST(every_allocation_may_fail)
{
    trt_test_not_on_gpu();
    const char *library = trt_test_newest();
    SKIP_IF(trt_test_node("test_sigmoid") == NULL);
    char path[512];
    (void)snprintf(path, sizeof path, "%s", library);
    assert_ok(build_node(path)); /* opens the libraries, which stay */
    kiln_test_each_allocation(build_node, path);
}

TESTS_BEGIN(trt_test_begin)

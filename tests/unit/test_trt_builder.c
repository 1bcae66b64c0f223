/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <sys/types.h>
#include <sys/wait.h>

#include "backends/kln_backends.h"
#include "base/kln_base.h"
#include "fake_tensorrt_test.h"
#include "graph_maker.h"
#include "kiln_test.h"
#include "onnx/kln_onnx.h"

/* --- names of dimensions --- */

/* `name` for each of x's two dynamic dimensions: the maker takes "?" for no name, so that
 * another letter is written and replaced. */
static kiln_span named_alike(const char *name)
{
    static unsigned char bytes[4096];
    const kiln_span model = unary_model("Relu", strlen(name) == 1 ? "@,@" : "@@,@@");
    assert_true(model.size < sizeof bytes);
    memcpy(bytes, model.data, model.size);
    for (size_t i = 0; i < model.size; i++) {
        if (bytes[i] == '@') {
            bytes[i] = (unsigned char)name[0];
            if (strlen(name) > 1) {
                bytes[++i] = (unsigned char)name[1];
            }
        }
    }
    return (kiln_span){bytes, model.size};
}

static void check_result(kiln_engine *engine)
{
    float values[6] = {-1, 2, -3, 4, -5, 6};
    owned_context context = context_on(engine);
    const kiln_tensor y = run_floats(context, KILN_SHAPE(2, 3), values);
    assert_int_equal(((const float *)y.data)[1], 2);
    assert_int_equal(((const float *)y.data)[2], 0);
    kiln_engine_release(engine);
}

LAYOUTS_TEST(dimensions_that_nobody_named_differ)
{
    static const char *const names[] = {"?", "-1"};
    const kiln_profile_input two_sizes = {
        .name = "x", .min = KILN_SHAPE(2, 3), .opt = KILN_SHAPE(2, 3), .max = KILN_SHAPE(2, 3)};
    kiln_build_options options = fake_options(i);
    ONE_PROFILE(options, &two_sizes, 1);
    for (size_t n = 0; n < KLN_ARRAY_LENGTH(names); n++) {
        const kiln_span model = named_alike(names[n]);
        kiln_engine *engine = built_bytes(model, &options);
        check_result(engine);
        const char *path = kiln_test_file("alike.onnx", model.data, model.size);
        assert_ok(kiln_engine_build_file(path, &options, &engine));
        check_result(engine);
        kiln_network *network = network_file(path);
        assert_ok(kiln_engine_build(network, &options, &engine));
        kiln_network_destroy(network);
        check_result(engine);
        /* The caller's bytes and file are as they were. */
        assert_memory_equal(model.data, named_alike(names[n]).data, model.size);
        owned_mapping file;
        assert_ok(kln_mapping_open(path, &file));
        assert_int_equal(file.bytes.size, model.size);
        assert_memory_equal(file.bytes.data, model.data, model.size);
    }
    /* Those that somebody named are equal. */
    kiln_engine *engine = NULL;
    assert_fails(KILN_ERROR_BACKEND, kiln_engine_build_bytes(named_alike("n"), &options, &engine),
                 "n: Input dimensions with this name have different constant values");
}

/* No library sees a condition that is known; TensorRT-RTX has no plan of some. */
LAYOUTS_TEST(known_branches_are_nodes)
{
    kiln_build_options options = fake_options(i);
    const kiln_span model =
        made_model(13,
                   "in x float32[2,3]; const c bool[]={0}; y=If(c) then_branch={t=Neg(x); out t "
                   "float32[2,3]} else_branch={e=Relu(x); out e float32[2,3]}; out y float32[2,3]");
    check_result(built_bytes(model, &options));
    kiln_engine *engine = NULL;
    const char *path = kiln_test_file("known.onnx", model.data, model.size);
    assert_ok(kiln_engine_build_file(path, &options, &engine));
    check_result(engine);
    owned_network network = network_file(path);
    assert_ok(kiln_engine_build(network, &options, &engine));
    check_result(engine);
}

/* Cut short anywhere, a model keeps its length and loses names only. */
TEST(names_are_looked_for_in_any_bytes)
{
    const kiln_span model = named_alike("?");
    assert_int_equal(kln_onnx_unname_dims(model, NULL), 2);
    for (size_t size = 0; size <= model.size; size++) {
        unsigned char *cut = malloc(size + 1);
        unsigned char *image = malloc(size + 1);
        assert_non_null(cut);
        assert_non_null(image);
        memcpy(cut, model.data, size);
        memcpy(image, model.data, size);
        const size_t found = kln_onnx_unname_dims((kiln_span){cut, size}, image);
        size_t changed = 0;
        for (size_t i = 0; i < size; i++) {
            changed += image[i] != cut[i];
        }
        assert_int_equal(changed, found);
        assert_int_equal(kln_onnx_unname_dims((kiln_span){image, size}, NULL), 0);
        free(cut);
        free(image);
    }
    assert_true(kln_onnx_names_dim("n") && kln_onnx_names_dim("-") && kln_onnx_names_dim("-1x"));
    assert_false(kln_onnx_names_dim("?") || kln_onnx_names_dim("-12") || kln_onnx_names_dim("") ||
                 kln_onnx_names_dim(NULL));
}

/* --- the timing cache --- */

static char warned[1024];

static void listen(void *user, kiln_log_level level, const char *module, const char *text)
{
    if (level == KILN_LOG_WARNING && warned[0] == '\0') {
        (void)snprintf(warned, sizeof warned, "%s", text);
    }
}

LAYOUTS_TEST(a_plan_outlives_its_timing_cache)
{
    kiln_build_options options = fake_options(i);
    kiln_engine *engine = NULL;
    options.timing_cache = "/no/such/folder/timing.cache";
    warned[0] = '\0';
    kiln_log_set_sink(listen, NULL, KILN_LOG_WARNING);
    const kiln_status status =
        kiln_engine_build_bytes(unary_model("Relu", "2,3"), &options, &engine);
    kiln_log_set_sink(NULL, NULL, KILN_LOG_ERROR);
    assert_ok(status);
    assert_non_null(strstr(warned, "its timing cache was not written"));
    assert_non_null(strstr(warned, "/no/such/folder"));
    check_result(engine);
}

/* Where memory is short for the cache alone, the plan is there all the same. */
TENSORRT_TEST(memory_that_is_short_for_a_cache_costs_no_plan)
{
    kiln_build_options options = fake_options(SOME_LAYOUT);
    const kiln_span model = unary_model("Relu", "2,3");
    const char *path = kiln_test_path("short.cache");
    options.timing_cache = path;
    kiln_engine *engine = built_bytes(model, &options);
    kiln_engine_release(engine);
    bool failed = true;
    size_t kept = 0;
    for (long which = 0; failed; which++) {
        kiln_test_fail_allocation(which);
        const kiln_status status = kiln_engine_build_bytes(model, &options, &engine);
        failed = kiln_test_allocation_failed();
        kiln_engine_release(engine);
        kiln_test_restore_allocator();
        assert_true(status == KILN_OK || (failed && status == KILN_ERROR_OUT_OF_MEMORY));
        kept += failed && status == KILN_OK;
    }
    assert_true(kept > 0);
}

/* --- the builder that is kept --- */

static kiln_status build_once(const kiln_build_options *options)
{
    owned_engine engine = NULL;
    return kiln_engine_build_bytes(unary_model("Relu", "2,3"), options, &engine);
}

static double milliseconds_of_build(const kiln_build_options *options)
{
    const uint64_t begin = kln_now();
    kiln_engine *engine = build_network(conv_network(), options);
    const uint64_t end = kln_now();
    kiln_engine_release(engine);
    return (double)(end - begin) / 1e6;
}

/* What is kept from one build to the next costs and gains: printed, for whoever asks. */
LAYOUTS_TEST(builds_in_a_row_are_told)
{
    kiln_build_options options = fake_options(i);
    const double before = kiln_test_resident();
    const double first = milliseconds_of_build(&options);
    const double kept = (kiln_test_resident() - before) / 1048576;
    const double second = milliseconds_of_build(&options);
    options.disable_timing_cache = true;
    const double anew = milliseconds_of_build(&options);
    print_message(
        "  %s: first %.0f ms, second %.0f ms, measured anew %.0f ms, resident memory "
        "grown by %.0f MiB\n",
        fake_layouts[i].name, first, second, anew, kept);
    assert_int_equal(kiln_build_release_builders(), 1);
}

LAYOUTS_TEST(kernels_are_loaded_once)
{
    kiln_build_options options = fake_options(i);
    const long before = trt_number(i, "loads");
    assert_ok(build_once(&options));
    assert_ok(build_once(&options));
    options.keep_builder = KILN_SWITCH_OFF; /* gives up none that others keep */
    assert_ok(build_once(&options));
    assert_int_equal(trt_number(i, "loads") - before, 1 * ON_STAND_IN);
    assert_int_equal(kiln_build_release_builders(), 1);
    assert_int_equal(kiln_build_release_builders(), 0);
    assert_ok(build_once(&options));
    assert_ok(build_once(&options));
    assert_int_equal(trt_number(i, "loads") - before, 3 * ON_STAND_IN);
    assert_int_equal(kiln_build_release_builders(), 0);
    options.keep_builder = KILN_SWITCH_DEFAULT;
    assert_ok(build_once(&options));
    assert_int_equal(trt_number(i, "loads") - before, 4 * ON_STAND_IN);
    assert_int_equal(kiln_build_release_builders(), 1);
    options.keep_builder = (kiln_switch)7;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, build_once(&options), "keep_builder");
}

/* A child has the builder of its parent in its memory, and leaves it alone. */
STAND_IN_TEST(a_child_gives_up_nothing_of_its_parents, "its objects are not counted")
{
    const kiln_build_options options = fake_options(SOME_LAYOUT);
    assert_ok(build_once(&options));
    const long live = trt_number(SOME_LAYOUT, "live");
    assert_int_equal(live, 1);
    (void)fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        const bool left_alone =
            kiln_build_release_builders() == 0 && trt_number(SOME_LAYOUT, "live") == live;
        _exit(left_alone ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(kiln_build_release_builders(), 1);
}

LAYOUTS_TEST(what_was_measured_is_kept_with_the_builder)
{
    kiln_build_options options = fake_options(i);
    const long before = trt_number(i, "measured");
    const long each = is_rtx(i) ? 1 : 0; /* RTX measures where a plan is loaded */
    assert_ok(build_once(&options));
    assert_ok(build_once(&options));
    assert_int_equal(trt_number(i, "measured") - before, (1 + each) * ON_STAND_IN);
    options.disable_timing_cache = true;
    assert_ok(build_once(&options));
    options.disable_timing_cache = false;
    options.keep_builder = KILN_SWITCH_OFF;
    assert_ok(build_once(&options));
    assert_int_equal(trt_number(i, "measured") - before, (3 + each) * ON_STAND_IN);
    options.keep_builder = KILN_SWITCH_DEFAULT;
    options.error_on_timing_cache_miss = true; /* a promise of a cache that the caller knows */
    options.timing_cache = kiln_test_path("nothing.cache");
    if (ON_STAND_IN) {
        assert_fails(KILN_ERROR_BACKEND, build_once(&options),
                     "the timing cache does not know all layers");
    }
    options.error_on_timing_cache_miss = false;
    options.timing_cache = NULL;
    (void)kiln_build_release_builders();
    assert_ok(build_once(&options));
    assert_int_equal(trt_number(i, "measured") - before, (4 + each) * ON_STAND_IN);
    (void)kiln_build_release_builders();
}

static bool stop_at_once(void *user, const kiln_phase *now)
{
    return now->depth == 0 && strcmp(now->phase, "Building engine") != 0;
}

/* Each call of a build fails once, and it is stopped: the next one is none the worse for it. */
STAND_IN_LAYOUTS_TEST(what_failed_leaves_nothing_in_the_builder, "its calls cannot be made to fail")
{
    const kiln_build_options options = fake_options(i);
    const kiln_monitor monitor = {NULL, stop_at_once};
    const kiln_model model = {.bytes = unary_model("Relu", "2,3")};
    void *engine = NULL;
    assert_ok(build_once(&options));
    const long loads = trt_number(i, "loads");
    assert_status(KILN_ERROR_CANCELLED,
                  kln_backend_tensorrt.engine.build(&model, &options, &monitor, &engine));
    assert_ok(build_once(&options));
    kiln_status status = KILN_OK;
    for (long call = 1; trt_number(i, "fault") <= 0 && call < 200; call++) {
        trt_fail_at(i, call, 0);
        status = build_once(&options);
        if (trt_number(i, "fault") > 0) {
            break;
        }
        assert_ok(build_once(&options));
    }
    trt_fail_at(i, 0, 0);
    assert_ok(status);
    assert_int_equal(trt_number(i, "loads"), loads);
}

/* --- how far a build is --- */

static double last_fraction, widest;
static bool over_half_in_timing;

static bool watch(void *user, const kiln_phase *now)
{
    assert_true(now->fraction >= last_fraction && now->fraction <= 1.0);
    widest = now->fraction - last_fraction > widest ? now->fraction - last_fraction : widest;
    last_fraction = now->fraction;
    over_half_in_timing |=
        now->fraction > 0.5 && strcmp(now->phase, "Evaluating tactic times") == 0;
    return true;
}

/* The fraction goes with the phase that takes the time, whatever number of steps lie around it. */
LAYOUTS_TEST(progress_goes_with_the_time)
{
    const kiln_build_options options = fake_options(i);
    const kiln_monitor monitor = {NULL, watch};
    const kiln_model model = {.bytes = unary_model("Relu", "2,3")};
    void *engine = NULL;
    last_fraction = 0.0;
    widest = 0.0;
    over_half_in_timing = false;
    assert_ok(kln_backend_tensorrt.engine.build(&model, &options, &monitor, &engine));
    kln_backend_tensorrt.engine.destroy(engine);
    assert_true(last_fraction >= 0.95);
    assert_true(!ON_STAND_IN || over_half_in_timing);
    assert_true(!ON_STAND_IN || widest < 0.4); /* half of the one layer at once */
}

static bool stop_in(void *user, const kiln_phase *now)
{
    return strcmp(now->phase, user) != 0;
}

/* Before the library is opened, before and after its kernels are loaded, in each phase, and before
 * the plan is loaded. */
LAYOUTS_TEST(a_build_stops_in_each_stage)
{
    static const char *const stages[] = {
        "opening the library", "loading kernels", "parsing", "building",
        "Building engine",     "loading the plan"};
    const kiln_build_options options = fake_options(i);
    for (size_t s = 0; s < KLN_ARRAY_LENGTH(stages); s++) {
        const kiln_monitor monitor = {(void *)(uintptr_t)stages[s], stop_in};
        const kiln_model model = {.bytes = unary_model("Relu", "2,3")};
        void *engine = NULL;
        (void)kiln_build_release_builders();
        const long loads = trt_number(i, "loads");
        assert_fails(KILN_ERROR_CANCELLED,
                     kln_backend_tensorrt.engine.build(&model, &options, &monitor, &engine),
                     "the build was stopped");
        assert_int_equal(trt_number(i, "loads") - loads, ON_STAND_IN && s > 1);
    }
}

/* --- as jobs --- */

static long statm_opened;

/* In place of the C library's, for libkiln too. */
FILE *fopen(const char *path, const char *mode)
{
    const bool writes = strpbrk(mode, "wa+") != NULL;
    statm_opened += strcmp(path, "/proc/self/statm") == 0;
    const int flags = writes ? O_RDWR | O_CREAT | (mode[0] == 'w' ? O_TRUNC : O_APPEND) : O_RDONLY;
    const int file = open(path, flags | O_CLOEXEC, 0666);
    return file >= 0 ? fdopen(file, mode) : NULL;
}

/* A build may report half a million times: memory is looked at by the clock. */
LAYOUTS_TEST(memory_is_not_looked_at_in_each_report)
{
    const kiln_build_options options = fake_options(i);
    owned_build build = NULL;
    owned_engine engine = NULL;
    statm_opened = 0;
    assert_ok(kiln_build_start_bytes(unary_model("Relu", "2,3"), &options, NULL, &build));
    assert_ok(kiln_build_wait(build, UINT64_MAX, &engine));
    const kiln_build_progress progress = progress_of(build);
    assert_true(statm_opened > 0);
    assert_true((uint64_t)statm_opened <= 3 + progress.nanoseconds / 20000000);
    /* The real library builds it again without many. */
    assert_true(!ON_STAND_IN || progress.reports > 10);
}

/* It ends at its limit, and not when all is built. */
STAND_IN_LAYOUTS_TEST(a_limit_stops_a_build_on_its_way, "its loading cannot be made slow")
{
    const kiln_build_options options = fake_options(i);
    kiln_build_limits limits = KILN_BUILD_LIMITS(.milliseconds = 10);
    owned_build build = NULL;
    owned_engine engine = NULL;
    (void)kiln_build_release_builders();
    const long measured = trt_number(i, "measured");
    assert_int_equal(setenv("FAKE_TENSORRT_LOADING", "30", 1), 0);
    assert_ok(kiln_build_start_bytes(unary_model("Relu", "2,3"), &options, &limits, &build));
    assert_status(KILN_ERROR_TIMEOUT, kiln_build_wait(build, UINT64_MAX, &engine));
    assert_int_equal(unsetenv("FAKE_TENSORRT_LOADING"), 0);
    assert_message("10 are allowed");
    assert_int_equal(trt_number(i, "measured"), measured);
}

typedef struct builder_thread {
    kiln_build_options options;
    kiln_span model;
    kiln_status status;
    bool releases;
} builder_thread;

static void *build_often(void *user)
{
    builder_thread *self = user;
    for (int i = 0; i < (ON_STAND_IN ? 20 : 2) && self->status == KILN_OK; i++) {
        kiln_engine *engine = NULL;
        self->status = kiln_engine_build_bytes(self->model, &self->options, &engine);
        kiln_engine_release(engine);
        if (self->releases) {
            (void)kiln_build_release_builders();
        }
    }
    return NULL;
}

TENSORRT_TEST(threads_build_while_builders_are_released)
{
    builder_thread threads[4];
    const kiln_span model = unary_model("Relu", "2,3");
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(threads); i++) {
        threads[i] = (builder_thread){.options = fake_options(SOME_LAYOUT),
                                      .model = model,
                                      .releases = ON_STAND_IN && i == 0};
    }
    kiln_test_in_threads(KLN_ARRAY_LENGTH(threads), build_often, threads, sizeof *threads);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(threads); i++) {
        assert_ok(threads[i].status);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "base/kln_base.h"
#include "graph_maker.h"
#include "kiln_test.h"

#define MODEL kiln_test_deps("models/magika/model.onnx")

static bool installed(void)
{
    return access(MODEL, R_OK) == 0;
}

static kiln_build_options reference(void)
{
    return backend_options("reference");
}

static kiln_build *start(void)
{
    const kiln_build_options options = reference();
    kiln_build *build = NULL;
    assert_ok(kiln_build_start_file(MODEL, &options, NULL, &build));
    return build;
}

TEST(a_job_gives_its_engine_once)
{
    SKIP_IF(!installed());
    owned_build build = start();
    owned_engine engine = NULL;
    assert_ok(kiln_build_wait(build, UINT64_MAX, &engine));
    assert_int_equal(kiln_engine_input_count(engine), 1);
    const kiln_build_progress progress = progress_of(build);
    assert_int_equal(progress.state, KILN_BUILD_DONE);
    assert_true(progress.fraction == 1.0);
    assert_true(progress.nanoseconds > 0);
    kiln_engine *again = NULL;
    assert_status(KILN_ERROR_STATE, kiln_build_wait(build, 0, &again));
}

TEST(a_failure_comes_with_its_sentence)
{
    static const char text[] = "no model";
    const kiln_build_options options = reference();
    owned_build build = NULL;
    assert_ok(kiln_build_start_bytes((kiln_span){text, sizeof text}, &options, NULL, &build));
    kiln_engine *engine = NULL;
    assert_status(KILN_ERROR_MALFORMED, kiln_build_wait(build, UINT64_MAX, &engine));
    assert_null(engine);
    char sentence[1024];
    (void)snprintf(sentence, sizeof sentence, "%s", kiln_error_message());
    assert_true(strlen(sentence) > 10);
    assert_status(KILN_ERROR_MALFORMED, kiln_build_wait(build, 0, &engine));
    assert_string_equal(kiln_error_message(), sentence);
    const kiln_build_progress progress = progress_of(build);
    assert_int_equal(progress.state, KILN_BUILD_FAILED);
}

TEST(a_job_loads_what_was_saved)
{
    const kiln_build_options options = reference();
    char path[4200];
    (void)snprintf(path, sizeof path, "%s", kiln_test_path("saved.onnx"));
    owned_engine built = NULL;
    assert_ok(kiln_engine_build_bytes(unary_model("Relu", "n,4"), &options, &built));
    assert_ok(kiln_engine_save(built, path));
    kiln_build *build = NULL; /* the manifest names the backend */
    assert_ok(kiln_build_start_load(path, NULL, NULL, &build));
    owned_engine engine = NULL;
    assert_ok(kiln_build_wait(build, UINT64_MAX, &engine));
    kiln_backend_info info = {.struct_size = sizeof info};
    assert_ok(kiln_engine_backend(engine, &info));
    assert_string_equal(info.name, "reference");
    kiln_build_destroy(build);
    assert_status(KILN_ERROR_NOT_FOUND, kiln_build_start_load("/no/such", NULL, NULL, &build));
    assert_null(build);
}

TEST(what_cannot_start_says_so_at_once)
{
    kiln_build *build = NULL;
    assert_status(KILN_ERROR_NOT_FOUND, kiln_build_start_file("/no/such", NULL, NULL, &build));
    assert_null(build);
    assert_status(KILN_ERROR_EMPTY, kiln_build_start_bytes((kiln_span){"", 0}, NULL, NULL, &build));
    kiln_build_limits limits = {.struct_size = 3};
    assert_status(KILN_ERROR_INVALID_ARGUMENT,
                  kiln_build_start_bytes((kiln_span){"x", 1}, NULL, &limits, &build));
    kiln_build_options options = KILN_BUILD_OPTIONS(.device = -1);
    assert_status(KILN_ERROR_INVALID_ARGUMENT,
                  kiln_build_start_bytes((kiln_span){"x", 1}, &options, NULL, &build));
    kiln_build_cancel(NULL);
    kiln_build_destroy(NULL);
}

TEST(a_job_that_is_too_late_has_no_engine)
{
    SKIP_IF(!installed());
    const kiln_build_options options = reference();
    kiln_build_limits limits = KILN_BUILD_LIMITS(.milliseconds = 1);
    owned_build build = NULL;
    assert_ok(kiln_build_start_file(MODEL, &options, &limits, &build));
    owned_engine engine = NULL;
    const kiln_status status = kiln_build_wait(build, UINT64_MAX, &engine);
    const kiln_build_progress progress = progress_of(build);
    if (progress.nanoseconds >= 1000000) {
        assert_int_equal(status, KILN_ERROR_TIMEOUT);
        assert_message("1 are allowed");
        assert_null(engine);
    }
}

TEST(a_cancelled_job_has_no_engine)
{
    SKIP_IF(!installed());
    for (int i = 0; i < 20; i++) {
        owned_build build = start();
        kiln_build_cancel(build);
        owned_engine engine = NULL;
        const kiln_status status = kiln_build_wait(build, UINT64_MAX, &engine);
        assert_true(status == KILN_ERROR_CANCELLED || status == KILN_OK);
        assert_true((status == KILN_OK) == (engine != NULL));
    }
}

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

/* Keeps the job's thread at its first line. */
static void wait_at_the_gate(void *user, kiln_log_level level, const char *component,
                             const char *message)
{
    if (strcmp(component, "engine") == 0 && strstr(message, "building with") != NULL) {
        (void)pthread_mutex_lock(&gate);
        (void)pthread_mutex_unlock(&gate);
    }
}

/* What a job was given is where it was when the job began, wherever the process goes. */
TEST(a_relative_path_stays_what_it_was)
{
    static const float weights[] = {10, 20};
    char before[4096];
    const kiln_span bytes = made_model(
        17, "in x float32[2]; file w float32[2] beside.bin; y=Add(x,w); out y float32[2]");
    (void)kiln_test_file("beside.bin", weights, sizeof weights);
    const char *folder = kiln_test_file("relative.onnx", bytes.data, bytes.size);
    *strrchr(folder, '/') = '\0';
    assert_non_null(getcwd(before, sizeof before));
    static const char *const backends[] = {"reference", "onnxruntime"};
    kiln_log_set_sink(wait_at_the_gate, NULL, KILN_LOG_INFO);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(backends); i++) {
        owned_build build = NULL;
        owned_engine engine = NULL;
        kiln_build_options options = backend_options(backends[i]);
        assert_int_equal(chdir(folder), 0);
        (void)pthread_mutex_lock(&gate);
        assert_ok(kiln_build_start_file("relative.onnx", &options, NULL, &build));
        assert_int_equal(chdir("/"), 0);
        (void)pthread_mutex_unlock(&gate);
        assert_ok(kiln_build_wait(build, UINT64_MAX, &engine));
    }
    kiln_log_set_sink(NULL, NULL, KILN_LOG_OFF);
    assert_int_equal(chdir(before), 0);
}

TEST(destroying_a_running_job_is_fine)
{
    SKIP_IF(!installed());
    for (int i = 0; i < 20; i++) {
        kiln_build_destroy(start());
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Builds with the stand-in for TensorRT on their way: what they measure, report and refuse. */
#include "fake_tensorrt_test.h"

#include <sys/stat.h>

#include "backends/kln_backends.h"

LAYOUTS_TEST(the_timing_cache_is_read_and_written)
{
    kiln_build_options options = fake_options(i);
    const char *path = kiln_test_path("timing.cache");
    (void)remove(path);
    options.timing_cache = path;
    options.builder_optimization_level = 1; /* level 0 times nothing */
    struct stat first;
    struct stat second;
    kiln_engine_release(build_network(conv_network(), &options));
    assert_int_equal(stat(path, &first), 0);
    options.error_on_timing_cache_miss = true;
    kiln_engine_release(build_network(conv_network(), &options));
    assert_int_equal(stat(path, &second), 0);
    assert_true(first.st_size > 20 && second.st_size > 20);
    (void)kiln_test_file("timing.cache", "rubbish", 7);
    owned_network network = conv_network();
    kiln_engine *engine = NULL;
    assert_fails(KILN_ERROR_MISMATCH, kiln_engine_build(network, &options, &engine),
                 "does not take the 7 bytes");
    assert_true(!ON_STAND_IN ||
                strstr(kiln_error_message(), "these bytes are no timing cache") != NULL);
    options.timing_cache_bytes = (kiln_span){"rubbish", 7};
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_build(network, &options, &engine));
}

LAYOUTS_TEST(a_job_reports_and_can_be_stopped)
{
    kiln_network *network = conv_network();
    const char *path = kiln_test_path("job.onnx");
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
    kiln_network_destroy(network);
    const kiln_build_options options = fake_options(i);
    owned_build build = NULL;
    owned_engine engine = NULL;
    assert_ok(kiln_build_start_file(path, &options, NULL, &build));
    assert_ok(kiln_build_wait(build, UINT64_MAX, &engine));
    const kiln_build_progress progress = progress_of(build);
    assert_int_equal(progress.state, KILN_BUILD_DONE);
    assert_true(progress.reports >= 5);
}

static bool stop_at_timing(void *user, const kiln_phase *now)
{
    *(int *)user += 1;
    return ON_STAND_IN ? strcmp(now->phase, "Optimizing graph") != 0 : *(int *)user < 4;
}

LAYOUTS_TEST(a_build_stops_where_it_is_told)
{
    const kiln_build_options options = fake_options(i);
    int reports = 0;
    const kiln_monitor monitor = {&reports, stop_at_timing};
    const kiln_span bytes = unary_model("Relu", "2,3");
    const kiln_model model = {.bytes = bytes};
    void *engine = NULL;
    assert_fails(KILN_ERROR_CANCELLED,
                 kln_backend_tensorrt.engine.build(&model, &options, &monitor, &engine),
                 "the build was stopped");
    assert_true(reports >= 4);
}

LAYOUTS_TEST(the_parser_says_what_is_wrong)
{
    const kiln_build_options options = fake_options(i);
    kiln_engine *engine = NULL;
    assert_fails(KILN_ERROR_UNSUPPORTED,
                 kiln_engine_build_bytes(unary_model("Det", "2,3,3"), &options, &engine),
                 ON_STAND_IN ? "node 0 \"y\" (Det): unsupported node: no importer for Det [parse, "
                               "fake_parser.cpp:42]"
                             : "(Det): ");
    static const char text[] = "this is not a model, however long one looks at it";
    assert_status(KILN_ERROR_MALFORMED,
                  kiln_engine_build_bytes((kiln_span){text, sizeof text}, &options, &engine));
    /* Nothing comes out. */
    assert_fails(
        KILN_ERROR_INVALID_NETWORK,
        kiln_engine_build_bytes(made_model(17, "in x float32[2,3]; y=Relu(x)"), &options, &engine),
        "the network has no output");
    /* A dynamic input without a profile, and one that does not fit. */
    owned_network network = relu_network();
    kiln_build_options wrong = options;
    const kiln_profile_input input = rows(4, 2, 8);
    const kiln_profile profile = {.inputs = &input, .input_count = 1};
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_build(network, &wrong, &engine),
                 "has a dynamic dimension: give an optimization profile");
    wrong.profiles = &profile;
    wrong.profile_count = 1;
    assert_fails(KILN_ERROR_SHAPE, kiln_engine_build(network, &wrong, &engine),
                 "min must not pass opt");
}

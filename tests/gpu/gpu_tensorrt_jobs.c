/* SPDX-License-Identifier: Apache-2.0 */
/* Builds as jobs: how far they are, and how they are stopped. */
#include "fake_tensorrt_test.h"

#define DEPTH 4

/* A model that takes a while: convolutions of 64 channels, one after the other. */
static const char *deep_model(void)
{
    static float weights[64 * 64 * 9];
    static char path[4096];
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(weights); i++) {
        weights[i] = (float)(i % 7) * 0.01F;
    }
    owned_network network = new_network();
    kiln_tensor_id t = add_input(network, "x", KILN_DTYPE_FLOAT32, KILN_SHAPE(8, 64, 56, 56));
    for (int i = 0; i < DEPTH; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "w%d", i);
        const kiln_tensor_id w = add_floats(network, name, KILN_SHAPE(64, 64, 3, 3), weights);
        (void)snprintf(name, sizeof name, "c%d", i);
        assert_ok(kiln_network_add_convolution(network, name, t, w, KILN_NO_TENSOR, NULL, &t));
        (void)snprintf(name, sizeof name, "r%d", i);
        assert_ok(
            kiln_network_add_activation(network, name, KILN_ACTIVATION_TANH, t, 0.0F, 0.0F, &t));
    }
    assert_ok(kiln_network_mark_output(network, t));
    (void)snprintf(path, sizeof path, "%s", kiln_test_path("deep.onnx"));
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
    return path;
}

TENSORRT_TEST(a_job_tells_how_far_it_is)
{
    kiln_build_options options = fake_options(SOME_LAYOUT);
    options.builder_optimization_level = 1; /* some kernels are tried */
    owned_build build = NULL;
    owned_engine engine = NULL;
    kiln_build_progress progress = {.struct_size = sizeof progress};
    assert_ok(kiln_build_start_file(deep_model(), &options, NULL, &build));
    double last = 0;
    double widest = 0;
    kiln_status status = KILN_ERROR_BUSY;
    while (status == KILN_ERROR_BUSY) {
        status = kiln_build_wait(build, 50, &engine);
        assert_ok(kiln_build_get_progress(build, &progress));
        assert_true(progress.fraction >= last && progress.fraction <= 1);
        widest = progress.fraction - last > widest ? progress.fraction - last : widest;
        last = progress.fraction;
    }
    assert_ok(status);
    print_message("  %.2f s, %llu reports, the widest step was %.0f %%\n",
                  (double)progress.nanoseconds * 1e-9, (unsigned long long)progress.reports,
                  widest * 100);
    assert_int_equal(progress.state, KILN_BUILD_DONE);
    assert_true(progress.reports > 10);
}

TENSORRT_TEST(a_job_is_cancelled_and_limited)
{
    kiln_build_options options = fake_options(SOME_LAYOUT);
    options.builder_optimization_level = 1;
    const char *model = deep_model();
    kiln_build *build = NULL;
    owned_engine engine = NULL;
    kiln_build_progress progress = {.struct_size = sizeof progress};
    assert_ok(kiln_build_start_file(model, &options, NULL, &build));
    do {
        assert_status(KILN_ERROR_BUSY, kiln_build_wait(build, 1, &engine));
        assert_ok(kiln_build_get_progress(build, &progress));
    } while (progress.reports < 3);
    const uint64_t asked = progress.nanoseconds;
    kiln_build_cancel(build);
    assert_status(KILN_ERROR_CANCELLED, kiln_build_wait(build, UINT64_MAX, &engine));
    assert_ok(kiln_build_get_progress(build, &progress));
    print_message("  cancelled after %.0f ms\n", (double)(progress.nanoseconds - asked) * 1e-6);
    kiln_build_destroy(build);
    kiln_build_limits limits = KILN_BUILD_LIMITS_INIT;
    limits.milliseconds = 20; /* less than a builder takes that has everything loaded */
    assert_ok(kiln_build_start_file(model, &options, &limits, &build));
    assert_status(KILN_ERROR_TIMEOUT, kiln_build_wait(build, UINT64_MAX, &engine));
    assert_ok(kiln_build_get_progress(build, &progress));
    print_message("  a limit of 20 ms ended it after %.0f ms\n",
                  (double)progress.nanoseconds * 1e-6);
    kiln_build_destroy(build);
    /* And the next one is as good as ever. */
    engine = build_network(conv_network(), &options);
}

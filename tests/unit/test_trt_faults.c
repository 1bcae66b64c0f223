/* SPDX-License-Identifier: Apache-2.0 */
/* Every call into the stand-in for TensorRT fails once, and every allocation; nothing may stay
 * behind and nothing may be called that went wrong. */
#include "fake_tensorrt_test.h"

/* A life with everything in it: build, save, load, run, refit, streaming, a cache of RTX. */
typedef struct life {
    size_t layout;
    char plan[512];
    char cache[512];
    bool without_timing_cache; /* a plan outlives what fails about it */
} life;

static kiln_status run_once(kiln_context *context)
{
    float x[16] = {1};
    const kiln_tensor input = host_floats(x, KILN_SHAPE(1, 1, 4, 4));
    kiln_tensor y;
    KLN_RETURN_IF_ERROR(kiln_context_bind(context, "x", &input));
    KLN_RETURN_IF_ERROR(kiln_context_run(context));
    KLN_RETURN_IF_ERROR(kiln_context_tensor(context, "y", &y));
    /* The input lies on this stack. */
    const kiln_tensor none = {.data = NULL};
    return kiln_context_bind(context, "x", &none);
}

static kiln_status use_context(const life *self, kiln_engine *engine)
{
    kiln_context_options options =
        KILN_CONTEXT_OPTIONS(.share_device_memory = true,
                             .runtime_cache = is_rtx(self->layout) ? self->cache : NULL);
    owned_context context = NULL;
    kiln_layer_time layer = {.struct_size = sizeof layer};
    KLN_RETURN_IF_ERROR(kiln_context_create(engine, &options, &context));
    kiln_status status = kiln_context_profile_layers(context, true);
    if (status == KILN_OK) {
        status = run_once(context);
    }
    if (status == KILN_OK) {
        status = kiln_context_layer(context, 0, &layer);
        status = status == KILN_ERROR_INVALID_ARGUMENT ? KILN_OK : status; /* not reported */
    }
    if (status == KILN_OK && is_rtx(self->layout)) {
        status = kiln_context_save_runtime_cache(context, self->cache);
    }
    return status;
}

static kiln_status use_engine(const life *self, kiln_engine *engine)
{
    float kernel[18] = {1};
    float bias[2] = {1, 2};
    const kiln_named_tensor weights[2] = {{"w", host_floats(kernel, KILN_SHAPE(2, 1, 3, 3))},
                                          {"b", host_floats(bias, KILN_SHAPE(2))}};
    const char *json = NULL;
    size_t count = 0;
    KLN_RETURN_IF_ERROR(kiln_engine_inspect(engine, &json));
    KLN_RETURN_IF_ERROR(kiln_engine_set_weight_streaming(engine, 16));
    KLN_RETURN_IF_ERROR(kiln_engine_refit_count(engine, &count));
    KLN_RETURN_IF_ERROR(kiln_engine_refit(engine, weights, 2, NULL));
    return use_context(self, engine);
}

static kiln_status build_and_save(const life *self, const kiln_network *network)
{
    static const char *const marked[] = {"w", "b"};
    char timing[600];
    kiln_build_options options = fake_options(self->layout);
    owned_engine engine = NULL;
    (void)snprintf(timing, sizeof timing, "%s.timing", self->plan);
    options.timing_cache = self->without_timing_cache ? NULL : timing;
    options.weight_streaming = true;
    options.refit = KILN_REFIT_ALL;
    options.workspace_bytes = 4096;
    options.tactic_sources = "+JIT_CONVOLUTIONS";
    options.threads = 2;
    if (self->layout != LAYOUT_OLDEST) {
        options.refit = KILN_REFIT_INDIVIDUAL;
        options.refit_weights = marked;
        options.refit_weight_count = 2;
    }
    KLN_RETURN_IF_ERROR(kiln_engine_build(network, &options, &engine));
    return kiln_engine_save(engine, self->plan);
}

static kiln_status live(const life *self, const kiln_network *network)
{
    kiln_build_options options = fake_options(self->layout);
    owned_engine engine = NULL;
    KLN_RETURN_IF_ERROR(build_and_save(self, network));
    KLN_RETURN_IF_ERROR(kiln_engine_load(self->plan, &options, &engine));
    return use_engine(self, engine);
}

static life new_life(size_t layout)
{
    life self = {.layout = layout};
    (void)snprintf(self.plan, sizeof self.plan, "%s", kiln_test_path("faults.plan"));
    (void)snprintf(self.cache, sizeof self.cache, "%s", kiln_test_path("faults.cache"));
    return self;
}

/* Whether the sentence is TensorRT's, or Kiln's own about a refused call. */
static void check_sentence(kiln_status status, long call)
{
    if (status == KILN_ERROR_INTERNAL || kiln_error_message()[0] == '\0') {
        fail_msg("call %ld: status %d, \"%s\"", call, (int)status, kiln_error_message());
    }
}

static void sweep_calls(size_t layout, long null)
{
    const life self = new_life(layout);
    kiln_network *network = conv_network();
    long told = 0;
    long failed = 0;
    assert_ok(live(&self, network));
    for (long call = 1;; call++) {
        trt_fail_at(layout, call, null);
        const kiln_status status = live(&self, network);
        const bool reached = trt_number(layout, "fault") <= 0;
        trt_fail_at(layout, 0, 0);
        (void)kiln_build_release_builders();
        assert_int_equal(trt_number(layout, "live"), 0);
        if (!reached) {
            assert_int_equal(status, KILN_OK);
            break;
        }
        if (status != KILN_OK) {
            check_sentence(status, call);
            failed++;
            told += strstr(kiln_error_message(), "a fault at ") != NULL;
        }
    }
    kiln_network_destroy(network);
    /* Most come through as failures, and with the library's own words. */
    print_message("  %s: %ld calls failed, %ld in its own words\n", fake_layouts[layout].name,
                  failed, told);
    assert_true(failed >= 20);
    assert_true(told * 3 > failed * 2);
}

TENSORRT_TEST(every_call_may_fail)
{
    for (size_t i = 0; i < FAKE_LAYOUTS; i++) {
        sweep_calls(i, 0);
    }
    sweep_calls(LAYOUT_11, 0x228); /* what a lean runtime gives for NULL */
}

static kiln_status live_anew(void *user)
{
    const life *self = user;
    owned_network network = NULL;
    const kiln_shape shape = KILN_SHAPE(1, 1, 4, 4);
    const kiln_weights weights[2] = {
        {KILN_DTYPE_FLOAT32, KILN_SHAPE(2, 1, 3, 3), {fake_kernel, sizeof fake_kernel}},
        {KILN_DTYPE_FLOAT32, KILN_SHAPE(2), {fake_bias, sizeof fake_bias}}};
    kiln_tensor_id x;
    kiln_tensor_id w;
    kiln_tensor_id b;
    kiln_tensor_id y;
    KLN_RETURN_IF_ERROR(kiln_network_create(NULL, &network));
    kiln_status status = kiln_network_add_input(network, "x", KILN_DTYPE_FLOAT32, &shape, NULL, &x);
    status = status == KILN_OK ? kiln_network_add_constant(network, "w", &weights[0], &w) : status;
    status = status == KILN_OK ? kiln_network_add_constant(network, "b", &weights[1], &b) : status;
    status =
        status == KILN_OK ? kiln_network_add_convolution(network, "y", x, w, b, NULL, &y) : status;
    status = status == KILN_OK ? kiln_network_mark_output(network, y) : status;
    status = status == KILN_OK ? live(self, network) : status;
    return status;
}

TENSORRT_TEST(every_allocation_may_fail)
{
    static const size_t layouts[] = {LAYOUT_10, LAYOUT_RTX_15};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(layouts); i++) {
        life self = new_life(layouts[i]);
        self.without_timing_cache = true;
        /* What stays for the process (libraries, the driver) is there before. */
        assert_ok(live_anew(&self));
        kiln_test_each_allocation(live_anew, &self);
    }
}

LAYOUTS_TEST(a_lost_device_is_told)
{
    owned_engine engine = build_relu(i);
    float x[4] = {1};
    owned_context context = context_on(engine);
    (void)run_floats(context, KILN_SHAPE(1, 4), x);
    set("FAKE_CUDA_LOST", "719");
    assert_status(KILN_ERROR_DEVICE, kiln_context_run(context));
    set("FAKE_CUDA_LOST", NULL);
    assert_ok(kiln_context_run(context));
}

LAYOUTS_TEST(no_device_memory_is_told)
{
    owned_engine engine = build_relu(i);
    owned_context context = NULL;
    kiln_context_options options = KILN_CONTEXT_OPTIONS(.share_device_memory = true);
    set("FAKE_CUDA_MEMORY", "1");
    assert_status(KILN_ERROR_OUT_OF_MEMORY, kiln_context_create(engine, &options, &context));
    assert_fails(KILN_ERROR_OUT_OF_MEMORY, kiln_context_create(engine, NULL, &context),
                 "no memory for activations");
    set("FAKE_CUDA_MEMORY", NULL);
    float x[4] = {1};
    assert_ok(kiln_context_create(engine, NULL, &context));
    bind_tensor(context, "x", host_floats(x, KILN_SHAPE(1, 4)));
    set("FAKE_CUDA_MEMORY", "1");
    assert_status(KILN_ERROR_OUT_OF_MEMORY, kiln_context_run(context));
    set("FAKE_CUDA_MEMORY", NULL);
    assert_ok(kiln_context_run(context));
}

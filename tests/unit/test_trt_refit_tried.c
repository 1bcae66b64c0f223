/* SPDX-License-Identifier: Apache-2.0 */
/* New weights in TensorRT plans that are tried first, often, or come from files. */
#include "trt_refit_test.h"

static float all_ones[16];

/* What comes of ones: y[0..3] and y[4..7]. */
static kiln_refit_options checked(kiln_refit_sample *sample, kiln_named_tensor tensors[2],
                                  float *expected, float first, float second)
{
    kiln_refit_options options = KILN_REFIT_OPTIONS_INIT;
    for (int i = 0; i < 16; i++) {
        all_ones[i] = 1;
    }
    for (int i = 0; i < 8; i++) {
        expected[i] = i < 4 ? first : second;
    }
    tensors[0] = (kiln_named_tensor){"x", host_floats(all_ones, KILN_SHAPE(1, 1, 4, 4))};
    tensors[1] = (kiln_named_tensor){"y", host_floats(expected, KILN_SHAPE(1, 2, 2, 2))};
    *sample = (kiln_refit_sample){&tensors[0], 1, &tensors[1], 1};
    options.samples = sample;
    options.sample_count = 1;
    options.relative = 1e-3; /* a real library may compute in TF32 */
    return options;
}

/* Every run gives the old outputs, bit for bit, as long as no refit has passed. */
typedef struct watched {
    kiln_engine *engine;
    atomic_bool ends;
    atomic_size_t runs, changed;
} watched;

static void *watch_outputs(void *user)
{
    watched *self = user;
    owned_context context = NULL;
    float before[8];
    if (kiln_context_create(self->engine, NULL, &context) != KILN_OK) {
        atomic_fetch_add(&self->changed, 1);
        return NULL;
    }
    for (size_t i = 0; !atomic_load(&self->ends); i++) {
        const kiln_named_tensor x = {"x", host_floats(all_ones, KILN_SHAPE(1, 1, 4, 4))};
        kiln_named_tensor y = {"y", {.data = NULL}};
        if (kiln_context_run_tensors(context, &x, 1, &y, 1) != KILN_OK) {
            atomic_fetch_add(&self->changed, 1);
            break;
        }
        if (i == 0) {
            memcpy(before, y.tensor.data, sizeof before);
        }
        atomic_fetch_add(&self->changed, memcmp(before, y.tensor.data, sizeof before) != 0);
        atomic_fetch_add(&self->runs, 1);
    }
    return NULL;
}

LAYOUTS_TEST(a_refit_that_fails_its_check_is_not_seen_under_load)
{
    owned_engine engine = build_refittable(i, KILN_REFIT_ALL);
    kiln_named_tensor weights[2];
    kiln_named_tensor tensors[2];
    kiln_refit_sample sample;
    float expected[8];
    prepare(weights);
    kiln_refit_options options = checked(&sample, tensors, expected, 17, 15);
    watched self = {.engine = engine};
    const kiln_test_crew crew = kiln_test_start(8, watch_outputs, &self, 0);
    for (int k = 0; k < 10 || atomic_load(&self.runs) < 100; k++) {
        assert_status(KILN_ERROR_MISMATCH, kiln_engine_refit(engine, weights, 2, &options));
        assert_message("of the output \"y\" differ");
    }
    atomic_store(&self.ends, true);
    kiln_test_join(&crew);
    assert_int_equal(atomic_load(&self.changed), 0);
    owned_context context = context_on(engine);
    check_run(context, 19, 22);
    options = checked(&sample, tensors, expected, 17, 16);
    assert_ok(kiln_engine_refit(engine, weights, 2, &options));
    check_run(context, 17, 16);
}

/* What is saved after a refit has the new weights, and its size. */
LAYOUTS_TEST(a_plan_that_is_refitted_often_does_not_grow)
{
    kiln_build_options options = fake_options(i);
    owned_engine engine = build_refittable(i, KILN_REFIT_ALL);
    owned_context context = context_on(engine);
    kiln_named_tensor weights[2];
    kiln_named_tensor tensors[2];
    kiln_refit_sample sample;
    float expected[8];
    kiln_span plan;
    size_t size = 0;
    prepare(weights);
    check_run(context, 19, 22);
    const kiln_refit_options tried = checked(&sample, tensors, expected, 17, 16);
    const int count = i == SOME_LAYOUT ? 1000 : 251;
    for (int k = 0; k < count; k++) {
        assert_ok(kiln_engine_refit(engine, weights, 2, k % 100 == 0 ? &tried : NULL));
        if (k % 250 == 0) {
            check_run(context, 17, 16);
            assert_ok(kiln_engine_save_bytes(engine, &plan));
            assert_true(size == 0 || plan.size == size);
            size = plan.size;
        }
    }
    const char *path = kiln_test_path("refitted.plan");
    assert_ok(kiln_engine_save(engine, path));
    owned_engine loaded = loaded_file(path, &options);
    owned_context again = context_on(loaded);
    check_run(again, 17, 16);
}

LAYOUTS_TEST(weights_come_from_safetensors)
{
    static const char header[] =
        "{\"b\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]},"
        "\"w\":{\"dtype\":\"F32\",\"shape\":[2,1,3,3],\"data_offsets\":[4,76]}}";
    owned_engine engine = build_refittable(i, KILN_REFIT_ALL);
    owned_context context = context_on(engine);
    kiln_named_tensor weights[2];
    kiln_refit_report report = {.struct_size = sizeof report};
    unsigned char file[8 + sizeof header - 1 + 76] = {sizeof header - 1};
    const uint16_t biases_bf16[2] = {0xbf80, 0xc000}; /* -1, -2 */
    prepare(weights);
    memcpy(file + 8, header, sizeof header - 1);
    memcpy(file + 8 + sizeof header - 1, biases_bf16, 4);
    memcpy(file + 8 + sizeof header - 1 + 4, twos, 72);
    kiln_refit_options options = KILN_REFIT_OPTIONS(.report = &report);
    assert_ok(kiln_engine_refit_bytes(engine, (kiln_span){file, sizeof file}, NULL, &options));
    assert_true(report.replaced == 2 && report.converted == 1 && report.rounded == 0);
    check_run(context, 17, 16);
}

LAYOUTS_TEST(a_run_is_captured)
{
    owned_engine engine = build_refittable(i, KILN_REFIT_NONE);
    kiln_context_options options = KILN_CONTEXT_OPTIONS(.graphs = KILN_GRAPH_REQUIRED);
    owned_context context = context_with(engine, &options);
    check_run(context, 19, 22);
    check_run(context, 19, 22);
    kiln_context_counters counters = counters_of(context);
    assert_int_equal(counters.graph_captures, 1);
    assert_true(counters.graph_hits >= 1);
    kiln_context_destroy(context);
    /* Those that share their memory as well: its order is their stream's. */
    options.share_device_memory = true;
    assert_ok(kiln_context_create(engine, &options, &context));
    for (int run = 0; run < 4; run++) {
        check_run(context, 19, 22);
        assert_ok(kiln_context_enqueue(context, NULL));
        assert_ok(kiln_context_wait(context));
    }
    assert_ok(kiln_context_get_counters(context, &counters));
    assert_int_equal(counters.graph_captures, 1);
    assert_true(counters.graph_hits >= 7);
}

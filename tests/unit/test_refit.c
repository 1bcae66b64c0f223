/* SPDX-License-Identifier: Apache-2.0 */
/* New weights for engines of ONNX Runtime and the reference executor (test_trt_refit.c: of
 * TensorRT): tried first, swapped between runs, or as they were. */
#include "base/kln_base.h"
#include "refit_test.h"
#include "tensor/kln_tensor.h"

ALLOCATIONS(TEST, every_allocation_may_fail)
{
    owned_engine engine = NULL;
    kiln_refit_sample sample;
    kiln_named_tensor weights[2];
    kiln_named_tensor tensors[2];
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "reference");
    prepare(5, 3, weights);
    const kiln_refit_options how = checked(&sample, tensors);
    TRY(kiln_engine_build_bytes(model_of(1, 10), &options, &engine));
    return kiln_engine_refit(engine, weights, 2, &how);
}

TEST(weights_are_replaced)
{
    kiln_named_tensor weights[2];
    prepare(5, 3, weights);
    for (size_t i = 0; i < BACKENDS * WAYS; i++) {
        owned_engine engine = build_from(backends[i / WAYS], (int)(i % WAYS));
        size_t count = 0;
        kiln_refit_weight weight = {.struct_size = sizeof weight};
        assert_ok(kiln_engine_refit_count(engine, &count));
        assert_int_equal(count, 2);
        assert_ok(kiln_engine_refit_get(engine, 0, &weight));
        assert_string_equal(weight.name, "w");
        assert_true(weight.dtype == KILN_DTYPE_FLOAT32 && weight.elements == N);
        owned_context early = context_on(engine);
        check_run(early, 1, 10);
        /* What is bound stays bound. */
        float y[N] = {0};
        const kiln_named_tensor bound[] = {named("x", ones, N), named("y", y, N)};
        owned_context second = context_on(engine);
        assert_ok(kiln_context_bind(second, "x", &bound[0].tensor));
        assert_ok(kiln_context_bind(second, "y", &bound[1].tensor));
        assert_ok(kiln_context_run(second));
        assert_true(y[7] == 18);
        assert_ok(kiln_engine_refit(engine, weights, 2, NULL));
        check_run(early, 5, 3);
        assert_ok(kiln_context_run(second));
        assert_true(y[7] == 15);
        /* One alone: the other one stays replaced. */
        float other = 100;
        const kiln_named_tensor one = named("b", &other, 1);
        assert_ok(kiln_engine_refit(engine, &one, 1, NULL));
        check_run(early, 5, 100);
        owned_context late = context_on(engine);
        check_run(late, 5, 100);
        /* And so it is saved. */
        const char *path = kiln_test_path("refitted.onnx");
        assert_ok(kiln_engine_save(engine, path));
        owned_engine loaded = loaded_file(path, NULL);
        owned_context again = context_on(loaded);
        check_run(again, 5, 100);
    }
}

TEST(what_does_not_fit_is_refused_first)
{
    kiln_named_tensor weights[2];
    prepare(5, 3, weights);
    for (size_t i = 0; i < BACKENDS; i++) {
        owned_engine engine = build(backends[i]);
        owned_context context = context_on(engine);
        kiln_named_tensor wrong[] = {weights[0], weights[1]};
        wrong[1].name = "c";
        assert_status(KILN_ERROR_NAME, kiln_engine_refit(engine, wrong, 2, NULL));
        assert_message("there are no weights \"c\" that can be replaced; there are \"w\", \"b\"");
        wrong[1] = named("b", new_w, 2);
        assert_status(KILN_ERROR_SIZE, kiln_engine_refit(engine, wrong, 2, NULL));
        int32_t whole = 3;
        wrong[1] = (kiln_named_tensor){
            "b", KILN_HOST_TENSOR(KILN_DTYPE_INT32, KILN_SHAPE(1), &whole, sizeof whole)};
        assert_status(KILN_ERROR_DTYPE, kiln_engine_refit(engine, wrong, 2, NULL));
        wrong[1] = wrong[0];
        assert_status(KILN_ERROR_NAME, kiln_engine_refit(engine, wrong, 2, NULL));
        assert_status(KILN_ERROR_EMPTY, kiln_engine_refit(engine, wrong, 0, NULL));
        kiln_refit_report report = {.struct_size = sizeof report};
        kiln_refit_options options = KILN_REFIT_OPTIONS(.ignore_unknown = true, .report = &report);
        wrong[0].name = "v";
        assert_status(KILN_ERROR_EMPTY, kiln_engine_refit(engine, wrong, 1, &options));
        kiln_refit_sample sample = {.inputs = weights, .input_count = 1};
        options.samples = &sample;
        options.sample_count = 1;
        assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_refit(engine, weights, 2, &options));
        assert_message("whatever came out would be taken");
        check_run(context, 1, 10);
        options.samples = NULL;
        options.sample_count = 0;
        wrong[1] = weights[1];
        assert_ok(kiln_engine_refit(engine, wrong, 2, &options));
        assert_true(report.replaced == 1 && report.ignored == 1);
        check_run(context, 1, 3);
    }
}

TEST(weights_in_another_order_are_refused)
{
    static float values[6] = {1, 2, 3, 4, 5, 6};
    for (size_t i = 0; i < BACKENDS; i++) {
        owned_maker m;
        owned_engine engine = NULL;
        const kiln_build_options options = KILN_BUILD_OPTIONS(.backend = backends[i]);
        kiln_refit_weight weight = {.struct_size = sizeof weight};
        kiln_named_tensor given = named("w", values, 6);
        maker_model(&m, 17, "in x float32[1,2]");
        maker_weights(&m, "w", 1, "2,3");
        maker_text(&m, "y=MatMul(x,w); out y float32[1,3]");
        assert_ok(m.status);
        assert_ok(kiln_engine_build_bytes(maker_span(m.model), &options, &engine));
        assert_ok(kiln_engine_refit_get(engine, 0, &weight));
        assert_true(kiln_shape_equal(&weight.shape, &KILN_SHAPE(2, 3)));
        assert_ok(kiln_engine_refit(engine, &given, 1, NULL));
        given.tensor.desc.shape = KILN_SHAPE(2, 1, 3);
        assert_ok(kiln_engine_refit(engine, &given, 1, NULL));
        given.tensor.desc.shape = KILN_SHAPE(3, 2);
        assert_fails(KILN_ERROR_SHAPE, kiln_engine_refit(engine, &given, 1, NULL),
                     "weights \"w\" are 2x3 in the engine, and 3x2 were given");
    }
}

static kiln_status refuse(void *user, size_t index, const kiln_named_tensor *outputs, size_t count,
                          char message[1024])
{
    assert_true(index == 0 && count == 1 && strcmp(outputs[0].name, "y") == 0);
    *(float *)user = ((const float *)outputs[0].tensor.data)[0];
    (void)snprintf(message, 1024, "not today");
    return KILN_ERROR_CANCELLED;
}

TEST_EACH(weights_that_fail_their_check_are_not_taken, i, BACKENDS)
{
    owned_engine engine = build(backends[i]);
    kiln_refit_sample sample;
    kiln_named_tensor weights[2];
    kiln_named_tensor tensors[2];
    kiln_refit_report report = {.struct_size = sizeof report};
    owned_context context = context_on(engine);
    prepare(5, 3, weights);
    kiln_refit_options options = checked(&sample, tensors);
    options.report = &report;
    answers[9] += 0.5F;
    assert_status(KILN_ERROR_MISMATCH, kiln_engine_refit(engine, weights, 2, &options));
    assert_message(
        "sample 0: 1 of 1024 elements of the output \"y\" differ, most at element "
        "9: 17 was found, 17.5 was expected");
    assert_true(report.samples == 1 && report.largest == 0.5);
    check_run(context, 1, 10);
    options.absolute = 0.5;
    assert_ok(kiln_engine_refit(engine, weights, 2, &options));
    check_run(context, 5, 3);
    /* By a function. */
    float seen = 0;
    prepare(7, 1, weights);
    sample.expected_count = 0;
    options.check = refuse;
    options.user = &seen;
    assert_status(KILN_ERROR_CANCELLED, kiln_engine_refit(engine, weights, 2, &options));
    assert_message("the check refuses it: not today");
    assert_true(seen == 8);
    check_run(context, 5, 3);
    sample.expected_count = 1;
    tensors[1].name = "z";
    assert_status(KILN_ERROR_NAME, kiln_engine_refit(engine, weights, 2, &options));
    tensors[1] = named("y", answers, 2);
    assert_status(KILN_ERROR_MISMATCH, kiln_engine_refit(engine, weights, 2, &options));
    sample.input_count = 0;
    assert_int_not_equal(kiln_engine_refit(engine, weights, 2, &options), KILN_OK);
    check_run(context, 5, 3);
}

/* --- under load --- */

typedef struct load {
    kiln_engine *engine;
    atomic_bool ends;
    atomic_size_t runs, failures, others;
    float w[2], b[2]; /* what may be seen: all of one pair */
} load;

static bool is_of(const float *y, float w, float b)
{
    int i = 0;
    while (i < N && y[i] == w + (float)i + b) {
        i++;
    }
    return i == N;
}

static void *run_for_ever(void *user)
{
    load *self = user;
    owned_context context = NULL;
    if (kiln_context_create(self->engine, NULL, &context) != KILN_OK) {
        atomic_fetch_add(&self->failures, 1);
        return NULL;
    }
    const kiln_named_tensor x = named("x", ones, N);
    while (!atomic_load(&self->ends)) {
        kiln_named_tensor y = {"y", {.data = NULL}};
        if (kiln_context_run_tensors(context, &x, 1, &y, 1) != KILN_OK) {
            atomic_fetch_add(&self->failures, 1);
            break;
        }
        const bool first = is_of(y.tensor.data, self->w[0], self->b[0]);
        const bool second = is_of(y.tensor.data, self->w[1], self->b[1]);
        atomic_fetch_add(&self->others, !first);
        atomic_fetch_add(&self->failures, !first && !second);
        atomic_fetch_add(&self->runs, 1);
    }
    return NULL;
}

static void end_load(load *self, const kiln_test_crew *crew)
{
    atomic_store(&self->ends, true);
    kiln_test_join(crew);
    assert_int_equal(atomic_load(&self->failures), 0);
}

TEST_EACH(a_failed_refit_is_not_seen_under_load, i, BACKENDS)
{
    owned_engine engine = build(backends[i]);
    kiln_refit_sample sample;
    kiln_named_tensor weights[2];
    kiln_named_tensor tensors[2];
    prepare(5, 3, weights);
    kiln_refit_options options = checked(&sample, tensors);
    answers[0] += 1;
    load self = {.engine = engine, .w = {1, 5}, .b = {10, 3}};
    const kiln_test_crew crew = kiln_test_start(THREADS, run_for_ever, &self, 0);
    for (int k = 0; k < 30 || atomic_load(&self.runs) < 200; k++) {
        assert_status(KILN_ERROR_MISMATCH, kiln_engine_refit(engine, weights, 2, &options));
    }
    assert_int_equal(atomic_load(&self.others), 0);
    answers[0] -= 1;
    assert_ok(kiln_engine_refit(engine, weights, 2, &options));
    while (atomic_load(&self.others) < 100 && atomic_load(&self.failures) == 0) {
        (void)usleep(100);
    }
    end_load(&self, &crew);
}

TEST_EACH(refits_and_runs_take_turns, i, BACKENDS)
{
    owned_engine engine = build(backends[i]);
    kiln_named_tensor weights[2];
    float old_w[N];
    float old_b = 10;
    prepare(5, 3, weights);
    for (int k = 0; k < N; k++) {
        old_w[k] = 1 + (float)k;
    }
    const kiln_named_tensor old[] = {named("w", old_w, N), named("b", &old_b, 1)};
    load self = {.engine = engine, .w = {1, 5}, .b = {10, 3}};
    const kiln_test_crew crew = kiln_test_start(THREADS, run_for_ever, &self, 0);
    for (int k = 0; k < 30 || (atomic_load(&self.runs) < 200 && k < 10000); k++) {
        assert_ok(kiln_engine_refit(engine, k % 2 == 0 ? weights : old, 2, NULL));
        (void)saved_bytes(engine);
    }
    end_load(&self, &crew);
}

/* --- and again --- */

TEST_EACH(a_thousand_refits_grow_nothing, i, BACKENDS)
{
    owned_engine engine = build(backends[i]);
    kiln_span bytes;
    double before = 0;
    size_t size = 0;
    owned_context context = context_on(engine);
    for (int k = 0; k < 1000; k++) {
        kiln_named_tensor weights[2];
        prepare((float)(k % 7), (float)(k % 5), weights);
        assert_ok(kiln_engine_refit(engine, weights, 2, NULL));
        if (k % 50 == 0) {
            check_run(context, (float)(k % 7), (float)(k % 5));
        }
        if (k == 100) {
            before = kiln_test_resident() / 0x1p20;
            assert_ok(kiln_engine_save_bytes(engine, &bytes));
            size = bytes.size;
        }
    }
    assert_ok(kiln_engine_save_bytes(engine, &bytes));
    assert_int_equal(bytes.size, size);
    const double grown = kiln_test_resident() / 0x1p20 - before;
    print_message("  %s: resident memory grew by %.1f MiB in 900 refits\n", backends[i], grown);
#if !defined(__SANITIZE_ADDRESS__) /* which keeps what was released for a while */
    assert_true(grown < 16);
#endif
}

/* The mock has no weights. */
TEST(other_backends_keep_their_weights)
{
    const kiln_binding x = binding_of("x", KILN_DTYPE_FLOAT32, KILN_SHAPE(1), NULL);
    kiln_binding y = x;
    y.name = "y";
    kiln_mock_options options = KILN_MOCK_OPTIONS(.inputs = &x, .input_count = 1, .outputs = &y,
                                                  .output_count = 1, .handler = kiln_test_idle);
    size_t count = 3;
    owned_engine engine = new_mock(&options);
    assert_status(KILN_ERROR_UNSUPPORTED, kiln_engine_refit_count(engine, &count));
    assert_message("an engine of the mock backend keeps its weights");
    assert_int_equal(count, 0);
    assert_status(KILN_ERROR_UNSUPPORTED, kiln_engine_refit_file(engine, "x.onnx", NULL));
}

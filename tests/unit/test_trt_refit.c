/* SPDX-License-Identifier: Apache-2.0 */
/* New weights in plans of the stand-in for TensorRT, weight streaming, and graphs meanwhile. */
#include "graph_maker.h"
#include "trt_refit_test.h"

LAYOUTS_TEST(weights_are_replaced)
{
    owned_engine engine = build_refittable(i, KILN_REFIT_ALL);
    kiln_named_tensor weights[2];
    prepare(weights);
    size_t count = 0;
    assert_ok(kiln_engine_refit_count(engine, &count));
    assert_int_equal(count, 2);
    kiln_refit_weight weight = weight_of(engine, "w");
    assert_int_equal(weight.dtype, KILN_DTYPE_FLOAT32);
    assert_int_equal(weight.elements, 18);
    assert_false(weight.missing);
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_refit_get(engine, 2, &weight));
    owned_context context = context_on(engine);
    check_run(context, 19, 22);
    check_run(context, 19, 22);
    check_run(context, 19, 22); /* a graph by now, which has the old weights */
    assert_ok(kiln_engine_refit(engine, weights, 2, NULL));
    check_run(context, 17, 16);
    check_run(context, 17, 16);
    check_run(context, 17, 16);
}

LAYOUTS_TEST(all_or_none)
{
    owned_engine engine = build_refittable(i, KILN_REFIT_ALL);
    kiln_named_tensor weights[2];
    owned_context context = context_on(engine);
    prepare(weights);
    if (ON_STAND_IN) { /* which has folded them together; a real library need not have */
        assert_fails(KILN_ERROR_STATE, kiln_engine_refit(engine, weights, 1, NULL),
                     "1 weights are needed together with these and were not given: \"b\"");
        assert_true(weight_of(engine, "b").missing);
    }
    weights[1].name = "c";
    assert_fails(KILN_ERROR_NAME, kiln_engine_refit(engine, weights, 2, NULL),
                 "there are no weights \"c\" that can be replaced; there are ");
    weights[1].name = NULL;
    assert_status(KILN_ERROR_NULL_ARGUMENT, kiln_engine_refit(engine, weights, 2, NULL));
    weights[1] = (kiln_named_tensor){"b", host_floats(biases, KILN_SHAPE(1))};
    assert_fails(KILN_ERROR_SIZE, kiln_engine_refit(engine, weights, 2, NULL),
                 "have 2 elements, 1 were given");
    weights[1] =
        (kiln_named_tensor){"b", KILN_HOST_TENSOR(KILN_DTYPE_INT32, KILN_SHAPE(2), biases, 8)};
    assert_status(KILN_ERROR_DTYPE, kiln_engine_refit(engine, weights, 2, NULL));
    weights[1] = (kiln_named_tensor){"b", host_floats(biases, KILN_SHAPE(2))};
    weights[1].tensor.bytes = 4;
    assert_status(KILN_ERROR_SIZE, kiln_engine_refit(engine, weights, 2, NULL));
    assert_status(KILN_ERROR_NULL_ARGUMENT, kiln_engine_refit(engine, NULL, 2, NULL));
    assert_status(KILN_ERROR_EMPTY, kiln_engine_refit(engine, weights, 0, NULL));
    weights[1] = weights[0];
    assert_fails(KILN_ERROR_NAME, kiln_engine_refit(engine, weights, 2, NULL),
                 "weights \"w\" are given twice, at 0 and 1");
    check_run(context, 19, 22);
}

LAYOUTS_TEST(a_plan_without_refit_says_so)
{
    owned_engine engine = build_refittable(i, KILN_REFIT_NONE);
    size_t count = 7;
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_refit_count(engine, &count),
                 "built without kiln_build_options.refit");
    assert_int_equal(count, 0);
}

LAYOUTS_TEST(only_the_marked_weights_can_be_replaced)
{
    static const char *const marked[] = {"b"};
    kiln_build_options options = fake_options(i);
    options.refit = KILN_REFIT_INDIVIDUAL;
    options.refit_weights = marked;
    options.refit_weight_count = 1;
    owned_network network = conv_network();
    kiln_engine *engine = NULL;
    if (i == LAYOUT_OLDEST) {
        assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_build(network, &options, &engine),
                     "REFIT_INDIVIDUAL");
        return;
    }
    assert_ok(kiln_engine_build(network, &options, &engine));
    kiln_named_tensor weights[2];
    size_t count = 0;
    prepare(weights);
    assert_ok(kiln_engine_refit_count(engine, &count));
    assert_int_equal(count, 1);
    assert_status(KILN_ERROR_NAME, kiln_engine_refit(engine, weights, 2, NULL));
    assert_ok(kiln_engine_refit(engine, &weights[1], 1, NULL));
    kiln_context *context = context_on(engine);
    check_run(context, 8, 0);
    kiln_context_destroy(context);
    kiln_engine_release(engine);
    static const char *const twice[] = {"b", "w", "b"};
    options.refit_weights = twice;
    options.refit_weight_count = 3;
    assert_fails(KILN_ERROR_NAME, kiln_engine_build(network, &options, &engine),
                 "refit_weights names \"b\" twice");
    options.refit_weight_count = 0;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_build(network, &options, &engine),
                 "refit_weights names none: nothing could be replaced");
    options.refit_weight_count = 1;
    static const char *const wrong[] = {"no such"};
    options.refit_weights = wrong;
    assert_fails(KILN_ERROR_NAME, kiln_engine_build(network, &options, &engine),
                 "the network has no weights \"no such\" to mark");
}

/* From memory, at every alignment; and what is no model leaves the weights as they are. */
static void refit_from_bytes(kiln_engine *engine, kiln_context *context, const char *path)
{
    unsigned char bytes[4096];
    const size_t size = kiln_test_read(path, bytes, sizeof bytes - 8);
    for (size_t shift = 0; shift < 4; shift++) {
        memmove(bytes + shift, bytes + (shift > 0 ? shift - 1 : 0), size);
        assert_ok(kiln_engine_refit_bytes(engine, (kiln_span){bytes + shift, size}, NULL, NULL));
        check_run(context, 19, 22);
    }
    assert_status(KILN_ERROR_EMPTY,
                  kiln_engine_refit_bytes(engine, (kiln_span){bytes, 0}, NULL, NULL));
    for (size_t cut = 1; cut < size; cut += size / 16) {
        const kiln_span part = {bytes + 3, cut};
        assert_int_not_equal(kiln_engine_refit_bytes(engine, part, NULL, NULL), KILN_OK);
        assert_message("refit: ");
    }
    check_run(context, 19, 22);
}

/* Whether this version writes a plan that was stripped as one that can be refitted again. */
static bool keeps_refit(const kiln_engine *engine)
{
    int major = 0;
    int minor = 0;
    kiln_backend_info info = {.struct_size = sizeof info};
    assert_ok(kiln_engine_backend(engine, &info));
    assert_int_equal(sscanf(info.version, "%d.%d", &major, &minor), 2);
    return major == 10 ? minor >= 14 : major == 1 ? minor >= 5 : true; /* 1: RTX */
}

LAYOUTS_TEST(a_stripped_plan_gets_its_weights_from_the_model)
{
    kiln_build_options options = fake_options(i);
    options.strip_plan = true;
    options.refit = KILN_REFIT_IDENTICAL;
    const char *path = kiln_test_path("weights.onnx");
    char plans[2][4096];
    (void)snprintf(plans[0], sizeof plans[0], "%s", kiln_test_path("stripped.plan"));
    (void)snprintf(plans[1], sizeof plans[1], "%s", kiln_test_path("refitted.plan"));
    kiln_network *network = conv_network();
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
    owned_engine engine = build_network(network, &options);
    owned_context context = context_on(engine);
    float x[16] = {0};
    const kiln_tensor input = host_floats(x, KILN_SHAPE(1, 1, 4, 4));
    assert_ok(kiln_context_bind(context, "x", &input));
    assert_ok(kiln_engine_save(engine, plans[0]));
    assert_fails(KILN_ERROR_STATE, kiln_context_run(context),
                 "the plan was stripped of its weights, and TensorRT would run it on zeros");
    assert_true(weight_of(engine, "w").missing && weight_of(engine, "b").missing);
    const kiln_named_tensor bias = {"b", host_floats(biases, KILN_SHAPE(2))};
    assert_fails(KILN_ERROR_STATE, kiln_engine_refit(engine, &bias, 1, NULL),
                 "1 weights are needed together with these and were not given: \"w\"");
    assert_status(KILN_ERROR_NOT_FOUND, kiln_engine_refit_file(engine, "/no/such.onnx", NULL));
    assert_status(KILN_ERROR_MALFORMED,
                  kiln_engine_refit_file(engine, kiln_test_file("no.onnx", "\x0f\x0f", 2), NULL));
    assert_ok(kiln_engine_refit_file(engine, path, NULL));
    check_run(context, 19, 22);
    refit_from_bytes(engine, context, path);
    assert_false(weight_of(engine, "w").missing || weight_of(engine, "b").missing);
    assert_ok(kiln_engine_save(engine, plans[1]));
    kiln_context_destroy(context);
    kiln_engine_release(engine);
    options = fake_options(i); /* of the build the manifest knows alone */
    for (int refitted = 0; refitted < 2; refitted++) {
        assert_ok(kiln_engine_load(plans[refitted], &options, &engine));
        assert_ok(kiln_context_create(engine, NULL, &context));
        assert_ok(kiln_context_bind(context, "x", &input));
        if (!refitted) {
            assert_status(KILN_ERROR_STATE, kiln_context_run(context));
        }
        size_t count = 0;
        const bool stays = kiln_engine_refit_count(engine, &count) == KILN_OK;
        assert_true(stays || (refitted && !keeps_refit(engine)));
        if (!stays) {
            assert_message("the plan was stripped, got its weights and was saved");
        }
        assert_true(!stays || weight_of(engine, "w").missing == !refitted);
        assert_ok(refitted ? KILN_OK : kiln_engine_refit_file(engine, path, NULL));
        check_run(context, 19, 22);
        kiln_context_destroy(context);
        kiln_engine_release(engine);
    }
    engine = NULL;
    context = NULL;
}

/* Weights inside a branch: the plan has them under the names that the build gave the parser. */
LAYOUTS_TEST(weights_of_a_known_branch_are_replaced)
{
    kiln_build_options options = fake_options(i);
    options.refit = KILN_REFIT_ALL;
    static const char *const text =
        "in x float32[2,3]; const c bool[]={0}; y=If(c) then_branch={t=Neg(x); out t float32[2,3]} "
        "else_branch={const w float32[3]={%d,0,0}; e=Add(x,w); out e float32[2,3]}; "
        "out y float32[2,3]";
    char given[512];
    owned_engine engine = NULL;
    for (int first = 1; first < 3; first++) {
        float values[6] = {10, 20, 30, 40, 50, 60};
        (void)snprintf(given, sizeof given, text, first);
        const kiln_span model = made_model(13, "%s", given);
        const char *path = kiln_test_file("branch.onnx", model.data, model.size);
        assert_ok(first == 1 ? kiln_engine_build_file(path, &options, &engine)
                             : kiln_engine_refit_file(engine, path, NULL));
        owned_context context = context_on(engine);
        const kiln_tensor y = run_floats(context, KILN_SHAPE(2, 3), values);
        assert_true(((const float *)y.data)[0] == 10.0F + (float)first);
        assert_true(((const float *)y.data)[5] == 60);
    }
}

#define WIDE 1024

/* y = x [1, 64] times "m" [64, 1024], in which the column j is full of j % 7: enough weights for a
 * real library to stream. */
static kiln_network *wide_network(void)
{
    static float matrix[64 * WIDE];
    for (int i = 0; i < 64 * WIDE; i++) {
        matrix[i] = (float)(i % WIDE % 7);
    }
    kiln_network *network = new_network();
    const kiln_tensor_id x = add_input(network, "x", KILN_DTYPE_FLOAT32, KILN_SHAPE(1, 64));
    const kiln_tensor_id m = add_floats(network, "m", KILN_SHAPE(64, WIDE), matrix);
    kiln_tensor_id y;
    assert_ok(kiln_network_add_matrix_multiply(network, "y", x, m, &y));
    assert_ok(kiln_network_mark_output(network, y));
    return network;
}

static void check_wide(kiln_context *context)
{
    static float x[64];
    for (int i = 0; i < 64; i++) {
        x[i] = 1;
    }
    const kiln_tensor y = run_floats(context, KILN_SHAPE(1, 64), x);
    for (int j = 0; j < WIDE; j++) {
        assert_true(((const float *)y.data)[j] == (float)(64 * (j % 7)));
    }
}

/* y = x [1, 1024] times "m" [1024, 64]: as many elements, in another order. */
static const char *transposed_model(void)
{
    static const float matrix[64 * WIDE];
    const char *path = kiln_test_path("transposed.onnx");
    owned_network network = new_network();
    const kiln_tensor_id x = add_input(network, "x", KILN_DTYPE_FLOAT32, KILN_SHAPE(1, WIDE));
    const kiln_tensor_id m = add_floats(network, "m", KILN_SHAPE(WIDE, 64), matrix);
    kiln_tensor_id y;
    assert_ok(kiln_network_add_matrix_multiply(network, "y", x, m, &y));
    assert_ok(kiln_network_mark_output(network, y));
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_INLINE));
    return path;
}

static kiln_status refit_wide(kiln_engine *engine, kiln_shape shape)
{
    static float matrix[64 * WIDE];
    for (int i = 0; i < 64 * WIDE; i++) {
        matrix[i] = (float)(i % WIDE % 7);
    }
    const kiln_named_tensor weights = {"m", host_floats(matrix, shape)};
    return kiln_engine_refit(engine, &weights, 1, NULL);
}

static void check_orders(kiln_engine *engine)
{
    static const char *const words =
        "weights \"m\" are 64x1024 in the engine, and 1024x64 were given";
    const kiln_refit_weight weight = weight_of(engine, "m");
    assert_true(kiln_shape_equal(&weight.shape, &KILN_SHAPE(64, WIDE)));
    assert_fails(KILN_ERROR_SHAPE, refit_wide(engine, KILN_SHAPE(WIDE, 64)), words);
    assert_fails(KILN_ERROR_SHAPE, kiln_engine_refit_file(engine, transposed_model(), NULL), words);
    assert_ok(refit_wide(engine, KILN_SHAPE(1, 64, WIDE)));
    assert_ok(refit_wide(engine, KILN_SHAPE(64 * WIDE)));
    owned_context context = context_on(engine);
    check_wide(context);
}

/* TensorRT itself counts elements. */
LAYOUTS_TEST(weights_in_another_order_are_refused)
{
    kiln_build_options options = fake_options(i);
    options.refit = KILN_REFIT_ALL;
    const char *path = kiln_test_path("wide.plan");
    owned_engine engine = build_network(wide_network(), &options);
    check_orders(engine);
    assert_ok(kiln_engine_save(engine, path));
    kiln_engine_release(engine);
    options.refit = KILN_REFIT_NONE;
    engine = loaded_file(path, &options);
    check_orders(engine);
    /* Without the manifest nobody knows. */
    const kiln_span plan = saved_bytes(engine);
    owned_engine bare = NULL;
    assert_ok(kiln_engine_load_bytes(plan, (kiln_span){NULL, 0}, &options, &bare));
    assert_int_equal(weight_of(bare, "m").shape.rank, -1);
    assert_ok(refit_wide(bare, KILN_SHAPE(WIDE, 64)));
}

/* y = x + "m", of which the model has an infinity; saved, or as a plan. */
static kiln_status masked(const kiln_build_options *options, float second, kiln_engine **engine)
{
    float mask[WIDE] = {-INFINITY, second};
    owned_network network = new_network();
    const kiln_tensor_id x = add_input(network, "x", KILN_DTYPE_FLOAT32, KILN_SHAPE(1, WIDE));
    const kiln_tensor_id m = add_floats(network, "m", KILN_SHAPE(WIDE), mask);
    kiln_tensor_id y;
    assert_ok(kiln_network_add_elementwise(network, "y", KILN_ELEMENTWISE_ADD, x, m, &y));
    assert_ok(kiln_network_mark_output(network, y));
    return options != NULL ? kiln_engine_build(network, options, engine)
                           : kiln_network_save_onnx(network, kiln_test_path("masked.onnx"),
                                                    KILN_WEIGHTS_INLINE);
}

static void check_masks(kiln_engine *engine, bool is_known)
{
    static float mask[WIDE] = {-INFINITY, INFINITY};
    const kiln_status expected = is_known ? KILN_OK : KILN_ERROR_INVALID_ARGUMENT;
    const char *path = kiln_test_path("masked.onnx");
    const kiln_named_tensor m = {"m", host_floats(mask, KILN_SHAPE(WIDE))};
    mask[1] = INFINITY;
    assert_int_equal(kiln_engine_refit(engine, &m, 1, NULL), expected);
    assert_ok(masked(NULL, 5, NULL));
    assert_int_equal(kiln_engine_refit_file(engine, path, NULL), expected);
    mask[1] = NAN;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_refit(engine, &m, 1, NULL),
                 "weights \"m\" 1 are NaN and 1 infinite");
    assert_ok(masked(NULL, NAN, NULL));
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_refit_file(engine, path, NULL),
                 "weights \"m\" 1 are NaN and 1 infinite");
    const kiln_refit_options options = KILN_REFIT_OPTIONS(.allow_nonfinite = true);
    assert_ok(kiln_engine_refit(engine, &m, 1, &options));
    assert_ok(kiln_engine_refit_file(engine, path, &options));
}

/* TensorRT shows no weights; what the model had is kept. */
LAYOUTS_TEST(what_is_not_finite_is_refused)
{
    kiln_build_options options = fake_options(i);
    options.refit = KILN_REFIT_ALL;
    const char *path = kiln_test_path("masked.plan");
    owned_engine engine = NULL;
    assert_ok(masked(&options, 5, &engine));
    check_masks(engine, true);
    assert_ok(kiln_engine_save(engine, path));
    kiln_engine_release(engine);
    options.refit = KILN_REFIT_NONE;
    engine = loaded_file(path, &options);
    check_masks(engine, true);
    const kiln_span plan = saved_bytes(engine);
    owned_engine bare = NULL;
    assert_ok(kiln_engine_load_bytes(plan, (kiln_span){NULL, 0}, &options, &bare));
    check_masks(bare, false);
}

LAYOUTS_TEST(a_budget_is_set_before_there_are_contexts)
{
    kiln_build_options options = fake_options(i);
    options.weight_streaming = true;
    owned_engine engine = build_network(wide_network(), &options);
    kiln_weight_streaming streaming = {.struct_size = sizeof streaming};
    assert_ok(kiln_engine_get_weight_streaming(engine, &streaming));
    const int64_t all = streaming.streamable_bytes;
    assert_true(all >= (int64_t)64 * WIDE * 4);
    assert_int_equal(streaming.budget_bytes, all);
    assert_true(streaming.automatic_bytes > 0 && streaming.automatic_bytes <= all);
    assert_true(!ON_STAND_IN || streaming.automatic_bytes == (i == LAYOUT_OLDEST ? 16 : all / 2));
    assert_ok(kiln_engine_set_weight_streaming(engine, all / 4));
    assert_ok(kiln_engine_get_weight_streaming(engine, &streaming));
    assert_int_equal(streaming.budget_bytes, all / 4);
    assert_ok(kiln_engine_set_weight_streaming(engine, -1));
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_set_weight_streaming(engine, all + 1));
    char allowed[64];
    (void)snprintf(allowed, sizeof allowed, "0 to %lld is allowed", (long long)all);
    assert_message(allowed);
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_set_weight_streaming(engine, -2));
    kiln_context *context = context_on(engine);
    assert_fails(KILN_ERROR_STATE, kiln_engine_set_weight_streaming(engine, 8),
                 "the engine has 1 context; destroy them first");
    check_wide(context);
    kiln_context_destroy(context);
    assert_ok(kiln_engine_set_weight_streaming(engine, 8));
    kiln_engine_release(engine);
    engine = build_refittable(i, KILN_REFIT_NONE);
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_set_weight_streaming(engine, 0),
                 "built without weight_streaming");
    streaming.struct_size = 4;
    assert_status(KILN_ERROR_INVALID_ARGUMENT,
                  kiln_engine_get_weight_streaming(engine, &streaming));
}

/* --- refits while others run --- */

typedef struct runner {
    kiln_engine *engine;
    bool shares;
    atomic_bool *stop;
} runner;

static void *run_on(void *user)
{
    const runner *self = user;
    kiln_context_options options = KILN_CONTEXT_OPTIONS(.share_device_memory = self->shares);
    owned_context context = context_with(self->engine, &options);
    float x[16];
    for (int i = 0; i < 16; i++) {
        x[i] = 1;
    }
    bind_tensor(context, "x", host_floats(x, KILN_SHAPE(1, 1, 4, 4)));
    do {
        assert_ok(kiln_context_run(context));
        const kiln_tensor y = tensor_in(context, "y");
        const float *values = y.data;
        /* Never some weights of one kind and some of the other. */
        assert_true((values[0] == 19 && values[4] == 22) || (values[0] == 17 && values[4] == 16));
    } while (!atomic_load(self->stop));
    return NULL;
}

TENSORRT_TEST(refits_and_runs_take_turns)
{
    owned_engine engine = build_refittable(SOME_LAYOUT, KILN_REFIT_ALL);
    atomic_bool stop = false;
    runner runners[3] = {{engine, false, &stop}, {engine, true, &stop}, {engine, true, &stop}};
    const kiln_test_crew crew = kiln_test_start(3, run_on, runners, sizeof *runners);
    kiln_named_tensor fresh[2];
    prepare(fresh);
    float kernel[18];
    float bias[2];
    memcpy(kernel, fake_kernel, sizeof kernel);
    memcpy(bias, fake_bias, sizeof bias);
    const kiln_named_tensor old[2] = {{"w", host_floats(kernel, KILN_SHAPE(2, 1, 3, 3))},
                                      {"b", host_floats(bias, KILN_SHAPE(2))}};
    for (int i = 0; i < 40; i++) {
        assert_ok(kiln_engine_refit(engine, i % 2 == 0 ? fresh : old, 2, NULL));
    }
    atomic_store(&stop, true);
    kiln_test_join(&crew);
}

/* What is under way keeps the weights that it was enqueued with. */
LAYOUTS_TEST(a_refit_waits_for_what_is_enqueued)
{
    owned_engine engine = build_refittable(i, KILN_REFIT_ALL);
    kiln_named_tensor fresh[2];
    prepare(fresh);
    owned_context context = context_on(engine);
    for (int run = 0; run < 3; run++) {
        check_run(context, 19, 22);
    }
    assert_ok(kiln_context_enqueue(context, NULL));
    assert_ok(kiln_engine_refit(engine, fresh, 2, NULL));
    assert_ok(kiln_context_wait(context));
    const kiln_tensor y = tensor_in(context, "y");
    const float *values = y.data;
    assert_true(values[0] == 19 && values[4] == 22);
    check_run(context, 17, 16);
}

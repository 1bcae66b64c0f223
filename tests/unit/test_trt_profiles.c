/* SPDX-License-Identifier: Apache-2.0 */
/* Profiles with names, and profiles of the shapes that a caller expects, on the stand-in. */
#include "fake_tensorrt_test.h"
#include "onnx_message.h"

static kiln_engine *named_engine(size_t layout)
{
    const kiln_profile_input few[] = {rows(1, 1, 1)};
    const kiln_profile_input middle[] = {rows(2, 3, 4)};
    const kiln_profile_input many[] = {rows(5, 6, 8)};
    const kiln_profile profiles[] = {
        {.inputs = few, .input_count = 1, .name = "one by one"},
        {.inputs = middle, .input_count = 1},
        {.inputs = many, .input_count = 1, .name = "night"},
    };
    kiln_build_options options = fake_options(layout);
    options.profiles = profiles;
    options.profile_count = 3;
    return build_network(relu_network(), &options);
}

static void check_names(const kiln_engine *engine)
{
    int32_t index = -2;
    kiln_profile profile;
    assert_ok(kiln_engine_find_profile(engine, "night", &index));
    assert_int_equal(index, 2);
    assert_ok(kiln_engine_find_profile(engine, "one by one", &index));
    assert_int_equal(index, 0);
    assert_ok(kiln_engine_profile(engine, 0, &profile));
    assert_string_equal(profile.name, "one by one");
    assert_ok(kiln_engine_profile(engine, 1, &profile));
    assert_null(profile.name);
    assert_fails(
        KILN_ERROR_NAME, kiln_engine_find_profile(engine, "day", &index),
        "no optimization profile has the name \"day\"; there are \"one by one\", \"night\"");
    assert_int_equal(index, -1);
}

LAYOUTS_TEST(a_profile_is_found_by_its_name)
{
    owned_engine engine = named_engine(i);
    check_names(engine);

    int32_t index = -1;
    float x[24] = {-1, 2};
    kiln_context *context = context_on(engine);
    assert_ok(kiln_engine_find_profile(engine, "night", &index));
    assert_ok(kiln_context_set_profile(context, index));
    (void)run_floats(context, KILN_SHAPE(6, 4), x);
    assert_ok(kiln_context_get_profile(context, &index));
    assert_int_equal(index, 2);
    kiln_context_destroy(context);

    /* The plan does not know them; its manifest does. */
    const char *path = kiln_test_path("named.plan");
    const kiln_build_options options = fake_options(i);
    assert_ok(kiln_engine_save(engine, path));
    owned_engine again = loaded_file(path, &options);
    check_names(again);
    assert_ok(kiln_engine_save(again, path));
    kiln_engine_release(again);
    assert_ok(kiln_engine_load(path, &options, &again));
    check_names(again);
    kiln_engine_release(again);

    char manifest[4096];
    size_t length = 0;
    const kiln_span plan = saved_bytes(engine);
    assert_ok(kiln_engine_manifest(engine, manifest, sizeof manifest, &length));
    assert_ok(kiln_engine_load_bytes(plan, (kiln_span){manifest, length}, &options, &again));
    check_names(again);
    kiln_engine_release(again);
    assert_ok(kiln_engine_load_bytes(plan, (kiln_span){NULL, 0}, &options, &again));
    assert_fails(KILN_ERROR_NAME, kiln_engine_find_profile(again, "night", &index),
                 "there is none");
}

static void schedule_rows(kiln_scheduler *scheduler, const kiln_engine *engine, int64_t count)
{
    float x[8 * 4];
    float y[8 * 4];
    const size_t bytes = (size_t)count * 4 * sizeof(float);
    const kiln_binding in = input_at(engine, 0);
    const kiln_binding out = output_at(engine, 0);
    for (int64_t i = 0; i < count * 4; i++) {
        x[i] = (float)(i % 2 == 0 ? i : -i);
    }
    const kiln_named_tensor from = {
        in.name, KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(count, 4), x, bytes)};
    const kiln_named_tensor to = {
        out.name, KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(count, 4), y, bytes)};
    assert_ok(kiln_scheduler_run(scheduler, &from, 1, &to, 1, NULL));
    for (int64_t i = 0; i < count * 4; i++) {
        assert_true(y[i] == (x[i] > 0 ? x[i] : 0));
    }
}

LAYOUTS_TEST(a_scheduler_takes_every_profile)
{
    owned_engine engine = named_engine(i);
    const kiln_scheduler_options options = KILN_SCHEDULER_OPTIONS(.contexts = 1);
    owned_scheduler scheduler = scheduler_on(&engine, 1, &options);
    for (int64_t count = 1; count <= 8; count++) {
        schedule_rows(scheduler, engine, count);
    }
    schedule_rows(scheduler, engine, 1);
    const kiln_scheduler_counters counters = scheduler_counters(scheduler);
    assert_int_equal(counters.max_batch, 8);
    assert_int_equal(counters.padding, 1 + 2 + 1); /* 3, 6 and 7 rows: sizes are 1, 2, 4, 5, 8 */
    assert_int_equal(counters.profile_switches, 3);
}

TENSORRT_TEST(names_that_cannot_be_told_apart_are_refused)
{
    static char lengthy[3000];
    memset(lengthy, 'n', sizeof lengthy - 1);
    const struct {
        const char *first, *second;
        kiln_status status;
        const char *words;
    } cases[] = {
        {"a", "a", KILN_ERROR_NAME, "profiles 0 and 1 are both named \"a\""},
        {"a", "", KILN_ERROR_INVALID_ARGUMENT, "profile 1 has the empty name"},
        {"a\nb", NULL, KILN_ERROR_INVALID_ARGUMENT, "control character 10 at byte 1"},
        {NULL, lengthy, KILN_ERROR_LIMIT, "more than 2047 bytes"},
    };
    owned_network network = relu_network();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const kiln_profile_input inputs[] = {rows(1, 2, 3)};
        const kiln_profile profiles[] = {
            {.inputs = inputs, .input_count = 1, .name = cases[i].first},
            {.inputs = inputs, .input_count = 1, .name = cases[i].second},
        };
        kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
        kiln_engine *engine = NULL;
        options.backend = "reference"; /* whoever builds */
        options.profiles = profiles;
        options.profile_count = 2;
        assert_fails(cases[i].status, kiln_engine_build(network, &options, &engine),
                     cases[i].words);
    }
}

TENSORRT_TEST(shape_hints_make_a_profile)
{
    const kiln_shape_hint hint = {"x", KILN_SHAPE(3, 4)};
    float x[12] = {-1, 2};
    for (size_t i = 0; i < FAKE_LAYOUTS; i++) {
        kiln_build_options options = fake_options(i);
        owned_engine engine = NULL;
        kiln_network *network = relu_network();
        assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_build(network, &options, &engine));
        options.shape_hints = &hint;
        options.shape_hint_count = 1;
        assert_ok(kiln_engine_build(network, &options, &engine));
        kiln_network_destroy(network);
        kiln_profile profile;
        assert_int_equal(kiln_engine_profile_count(engine), 1);
        assert_ok(kiln_engine_profile(engine, 0, &profile));
        assert_true(kiln_shape_equal(&profile.inputs[0].min, &hint.shape));
        assert_true(kiln_shape_equal(&profile.inputs[0].max, &hint.shape));
        owned_context context = context_on(engine);
        const kiln_tensor y = run_floats(context, KILN_SHAPE(3, 4), x);
        assert_true(((float *)y.data)[1] == 2.0F);
    }
}

/* Of 1 to so many rows, best at the most; what else is dynamic is a hint's. */
TENSORRT_TEST(rows_make_a_profile)
{
    const kiln_shape_hint hint = {"x", KILN_SHAPE(1, 4)};
    float x[20] = {-1, 2};
    for (size_t i = 0; i < FAKE_LAYOUTS; i++) {
        kiln_build_options options = fake_options(i);
        kiln_engine *refused = NULL;
        kiln_profile profile;
        options.profile_rows = 8;
        assert_fails(KILN_ERROR_SHAPE,
                     kiln_engine_build_bytes(unary_model("Relu", "n,m"), &options, &refused),
                     "input \"x\" is ?x?: the size of dimension 1 is not known");
        for (int hinted = 0; hinted < 2; hinted++) {
            options.shape_hints = hinted ? &hint : NULL;
            options.shape_hint_count = (size_t)hinted;
            owned_engine engine =
                built_bytes(unary_model("Relu", hinted ? "n,m" : "n,4"), &options);
            assert_int_equal(kiln_engine_profile_count(engine), 1);
            assert_ok(kiln_engine_profile(engine, 0, &profile));
            assert_true(kiln_shape_equal(&profile.inputs[0].min, &KILN_SHAPE(1, 4)));
            assert_true(kiln_shape_equal(&profile.inputs[0].opt, &KILN_SHAPE(8, 4)));
            assert_true(kiln_shape_equal(&profile.inputs[0].max, &KILN_SHAPE(8, 4)));
            owned_context context = context_on(engine);
            const kiln_tensor y = run_floats(context, KILN_SHAPE(5, 4), x);
            assert_true(((float *)y.data)[1] == 2.0F);
        }
        options.shape_hint_count = 0;
        owned_engine fixed = built_bytes(unary_model("Relu", "3,4"), &options);
        assert_true(kiln_engine_profile_count(fixed) <= 1);
        profile = (kiln_profile){.name = "p"};
        options.profiles = &profile;
        options.profile_count = 1;
        assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                     kiln_engine_build_bytes(unary_model("Relu", "n,4"), &options, &refused),
                     "profile_rows is 8 and makes a profile where there is none");
    }
}

TENSORRT_TEST(wrong_hints_are_refused)
{
    const kiln_profile_input inputs[] = {rows(1, 2, 3)};
    const kiln_profile profile = {.inputs = inputs, .input_count = 1};
    const kiln_shape_hint open = {"x", KILN_SHAPE(KILN_DYNAMIC, 4)};
    const kiln_shape_hint nameless = {NULL, KILN_SHAPE(1, 4)};
    const kiln_shape_hint good = {"x", KILN_SHAPE(1, 4)};
    const kiln_shape_hint other = {"z", KILN_SHAPE(1, 4)};
    owned_network network = relu_network();
    kiln_engine *engine = NULL;
    kiln_build_options options = backend_options("reference");
    options.shape_hint_count = 1;
    assert_status(KILN_ERROR_NULL_ARGUMENT, kiln_engine_build(network, &options, &engine));
    options.shape_hints = &open;
    assert_fails(KILN_ERROR_SHAPE, kiln_engine_build(network, &options, &engine),
                 "the shape hint of \"x\" is ?x4");
    options.shape_hints = &nameless;
    assert_status(KILN_ERROR_NULL_ARGUMENT, kiln_engine_build(network, &options, &engine));
    options.shape_hints = &good;
    options.profiles = &profile;
    options.profile_count = 1;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_build(network, &options, &engine),
                 "leave one of the two out");
    options.profile_count = 0;
    options.profiles = NULL;
    assert_ok(kiln_engine_build(network, &options, &engine));
    kiln_engine_release(engine);
    options = fake_options(0);
    options.shape_hints = &other;
    options.shape_hint_count = 1;
    assert_int_not_equal(kiln_engine_build(network, &options, &engine), KILN_OK);
    assert_message("\"z\"");
    options = fake_options(0);
    options.profile_count = 1;
    assert_fails(KILN_ERROR_NULL_ARGUMENT, kiln_engine_build(network, &options, &engine),
                 "1 profile is promised, and the pointer to them is NULL");
    options.profile_count = 0;
    options.tf32 = (kiln_switch)7;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_build(network, &options, &engine),
                 "tf32 is 7; it must be default (0), on (1) or off (2)");
}

static void put_value(message *graph, uint32_t field, const char *name, const message *type)
{
    message value = {.size = 0};
    put_text(&value, 1, name);
    put_message(&value, 2, type);
    put_message(graph, field, &value);
}

/* y = SequenceLength(s), and an input x of a dynamic dimension. */
static message takes_a_sequence(void)
{
    message dim = {.size = 0};
    message shape = {.size = 0};
    message tensor = {.size = 0};
    message type = {.size = 0};
    message sequence = {.size = 0};
    message listed = {.size = 0};
    message node = {.size = 0};
    message graph = {.size = 0};
    put_text(&dim, 2, "n");
    put_message(&shape, 1, &dim);
    put_number(&tensor, 1, 1);
    put_message(&tensor, 2, &shape);
    put_message(&type, 1, &tensor);
    put_message(&sequence, 1, &type);
    put_message(&listed, 4, &sequence);
    put_text(&node, 1, "s");
    put_text(&node, 2, "y");
    put_text(&node, 4, "SequenceLength");
    put_message(&graph, 1, &node);
    put_text(&graph, 2, "lists");
    put_value(&graph, 11, "s", &listed);
    put_value(&graph, 11, "x", &type);
    put_value(&graph, 12, "y", &type);
    message model = model_of(&graph);
    message opset = {.size = 0};
    put_number(&opset, 2, 17);
    put_message(&model, 8, &opset);
    return model;
}

/* A profile would not help: that the library takes no sequence is the sentence. */
LAYOUTS_TEST(a_sequence_is_told_before_a_missing_profile)
{
    const message model = takes_a_sequence();
    kiln_build_options options = fake_options(i);
    kiln_engine *engine = NULL;
    assert_int_not_equal(
        kiln_engine_build_bytes((kiln_span){model.bytes, model.size}, &options, &engine), KILN_OK);
    assert_null(engine);
    assert_null(strstr(kiln_error_message(), "profile"));
}

static void push_rows(kiln_pipeline *pipeline, int64_t count, float *x)
{
    const kiln_named_tensor input = {"x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(count, 4),
                                                           x, (size_t)count * 4 * sizeof *x)};
    assert_ok(kiln_pipeline_push(pipeline, &input, 1));
}

static void pop_rows(kiln_pipeline *pipeline, int64_t count)
{
    kiln_named_tensor output = {.name = "y"};
    assert_ok(kiln_pipeline_pop(pipeline, &output, 1));
    assert_int_equal(output.tensor.desc.shape.dims[0], count);
    assert_true(((const float *)output.tensor.data)[0] == 0);
    assert_true(((const float *)output.tensor.data)[1] == 2);
}

/* The runs of a pipeline take the profile that their shapes are in. */
LAYOUTS_TEST(a_pipeline_takes_any_profile)
{
    owned_engine engine = named_engine(i);
    float x[36] = {-1, 2};
    owned_pipeline pipeline = pipeline_on(engine, NULL);
    push_rows(pipeline, 6, x);
    push_rows(pipeline, 1, x);
    pop_rows(pipeline, 6);
    push_rows(pipeline, 3, x);
    pop_rows(pipeline, 1);
    pop_rows(pipeline, 3);
    const kiln_named_tensor none = {
        "x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(9, 4), x, sizeof x)};
    assert_fails(KILN_ERROR_SHAPE, kiln_pipeline_push(pipeline, &none, 1),
                 "in none of the 3 optimization profiles of the plan: \"x\" is 9x4, and profile 0 "
                 "takes 1x4 to 1x4, profile 1 takes 2x4 to 4x4, profile 2 takes 5x4 to 8x4");
}

/* One that was built for the shape that a caller expects has just that. */
TENSORRT_TEST(a_pipeline_takes_hinted_shapes)
{
    const kiln_shape_hint hint = {"x", KILN_SHAPE(2, 4)};
    kiln_build_options options = fake_options(SOME_LAYOUT);
    options.shape_hints = &hint;
    options.shape_hint_count = 1;
    owned_engine engine = build_network(relu_network(), &options);
    float x[12] = {-1, 2};
    owned_pipeline pipeline = pipeline_on(engine, NULL);
    push_rows(pipeline, 2, x);
    pop_rows(pipeline, 2);
    const kiln_named_tensor other = {
        "x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(3, 4), x, sizeof x)};
    assert_int_not_equal(kiln_pipeline_push(pipeline, &other, 1), KILN_OK);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A backend from outside: this file sees public headers only, as an author would. */

#define KILN_UNSTABLE_API
#include <kiln/unstable/backend_table.h>

#include "graph_maker.h"
#include "kiln_test.h"

/* Its engines double four numbers, whatever the model says; it remembers what that was. */
static char seen_path[64];
static unsigned char seen_first;
static size_t seen_bytes;
static const char *seen_library;

static kiln_status probe(const char *library, kiln_backend_info *info)
{
    seen_library = library;
    info->available = true;
    info->score = 1;
    info->reason = "it is compiled in";
    info->capabilities = KILN_CAPABILITY_BUILD | KILN_CAPABILITY_RUN;
    return KILN_OK;
}

static kiln_status build(const kiln_model *model, const kiln_build_options *options,
                         const kiln_monitor *monitor, void **engine)
{
    kiln_span bytes;
    kiln_status status = kiln_model_bytes(model, &bytes);
    if (status != KILN_OK) {
        return status;
    }
    if (options->threads == 4096) {
        return kiln_fail(KILN_ERROR_UNSUPPORTED, "so many threads double nothing");
    }
    seen_bytes = bytes.size;
    seen_first = *(const unsigned char *)bytes.data;
    seen_path[0] = '\0';
    if (kiln_model_path(model) != NULL) {
        strncpy(seen_path, kiln_model_path(model), sizeof seen_path - 1);
    }
    *engine = calloc(2, sizeof(kiln_binding));
    return *engine != NULL ? KILN_OK : kiln_fail(KILN_ERROR_OUT_OF_MEMORY, "two bindings");
}

static kiln_status describe(void *engine, kiln_description *description)
{
    kiln_binding *bindings = engine;
    bindings[0] = binding_of("x", KILN_DTYPE_FLOAT32, KILN_SHAPE(4), NULL);
    bindings[1] = bindings[0];
    bindings[1].name = "y";
    bindings[1].is_input = false;
    description->bindings = bindings;
    description->input_count = 1;
    description->output_count = 1;
    return KILN_OK;
}

typedef struct doubler {
    kiln_tensor bound[2];
    float own[4];
} doubler;

static kiln_status context_create(void *engine, const kiln_context_options *options, void **context)
{
    *context = calloc(1, sizeof(doubler));
    return *context != NULL ? KILN_OK : kiln_fail(KILN_ERROR_OUT_OF_MEMORY, "a context");
}

static kiln_status bind(void *context, size_t index, const kiln_tensor *tensor)
{
    doubler *d = context;
    d->bound[index] = *tensor;
    if (index == 1 && tensor->data == NULL) {
        d->bound[1] = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(4), d->own, sizeof d->own);
    }
    return KILN_OK;
}

static kiln_status run(void *context)
{
    const doubler *d = context;
    for (size_t i = 0; i < 4; i++) {
        ((float *)d->bound[1].data)[i] = 2 * ((const float *)d->bound[0].data)[i];
    }
    return KILN_OK;
}

static kiln_status output(void *context, size_t index, kiln_tensor *tensor)
{
    *tensor = ((doubler *)context)->bound[index];
    return KILN_OK;
}

static const kiln_backend twice = {
    .struct_size = sizeof(kiln_backend),
    .name = "twice",
    .description = "doubles four numbers",
    .environment = "KILN_TWICE",
    .probe = probe,
    .engine = {.build = build, .describe = describe, .destroy = free},
    .context =
        {.create = context_create, .destroy = free, .bind = bind, .run = run, .output = output},
};

TEST(what_is_no_backend_is_refused)
{
    static const kiln_plan_table plan = {.inspect = NULL};
    kiln_backend bad[] = {twice, twice, twice, twice, twice, twice, twice};
    static const struct {
        kiln_status status;
        const char *words;
    } expected[] = {
        {KILN_ERROR_INVALID_ARGUMENT, "the table has 8 bytes"},
        {KILN_ERROR_INVALID_ARGUMENT, "its table lacks `context.run`"},
        {KILN_ERROR_INVALID_ARGUMENT, "the table lacks `engine.build`"},
        {KILN_ERROR_INVALID_ARGUMENT, "`plan` is set"},
        {KILN_ERROR_NAME, "\"Twice\" names no backend"},
        {KILN_ERROR_NAME, "\"auto\" names no backend"},
        {KILN_ERROR_NAME, "there is a backend \"reference\""},
    };
    const size_t count = kiln_backend_count();
    bad[0].struct_size = 8;
    bad[1].context.run = NULL;
    bad[2].engine.build = NULL;
    bad[3].plan = &plan;
    bad[4].name = "Twice";
    bad[5].name = "auto";
    bad[6].name = "reference";
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_fails(expected[i].status, kiln_backend_register(&bad[i]), expected[i].words);
    }
    assert_status(KILN_ERROR_NULL_ARGUMENT, kiln_backend_register(NULL));
    assert_int_equal(kiln_backend_count(), count);
}

static void run_once(kiln_engine *engine)
{
    float x[] = {1, 2, 3, 4};
    kiln_named_tensor in = {"x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(4), x, sizeof x)};
    kiln_named_tensor out = {.name = "y"};
    owned_context context = context_on(engine);
    assert_ok(kiln_context_run_tensors(context, &in, 1, &out, 1));
    for (size_t i = 0; i < 4; i++) {
        assert_true(((const float *)out.tensor.data)[i] == 2 * x[i]);
    }
    kiln_engine_release(engine);
}

static kiln_network *network_of_one(void)
{
    return made_network(NULL, "in x float32[4]; y=Neg(x); out y");
}

TEST(a_backend_from_outside_builds_and_runs)
{
    kiln_backend_info info = {.struct_size = sizeof info};
    const unsigned char bytes[] = {7, 1, 2};
    const size_t count = kiln_backend_count();
    assert_ok(kiln_backend_register(&twice));
    assert_status(KILN_ERROR_NAME, kiln_backend_register(&twice));
    assert_int_equal(kiln_backend_count(), count + 1);
    assert_ok(kiln_backend_get(count, &info));
    assert_string_equal(info.name, "twice");
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "twice", .library = "/opt/twice.so");
    kiln_engine *engine = built_bytes((kiln_span){bytes, sizeof bytes}, &options);
    assert_string_equal(seen_library, "/opt/twice.so");
    assert_int_equal(seen_bytes, sizeof bytes);
    assert_int_equal(seen_first, 7);
    assert_string_equal(seen_path, "");
    run_once(engine);
    options.library = NULL;
    options.threads = 4096;
    assert_status(KILN_ERROR_UNSUPPORTED,
                  kiln_engine_build_bytes((kiln_span){bytes, sizeof bytes}, &options, &engine));
}

/* What it is given of a network is the model that the network saves. */
TEST(a_network_comes_as_onnx)
{
    owned_network network = network_of_one();
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "twice");
    kiln_engine *engine = built_network(network, &options);
    assert_int_equal(seen_first, 0x08); /* ModelProto.ir_version */
    assert_in_range(seen_bytes, 40, 400);
    run_once(engine);
}

/* Options that only others take are refused for it by name. */
TEST(options_of_others_are_refused)
{
    kiln_engine *engine = NULL;
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "twice", .workspace_bytes = 1 << 20);
    assert_fails(KILN_ERROR_UNSUPPORTED,
                 kiln_engine_build_bytes((kiln_span){"abc", 3}, &options, &engine), "twice");
}

TEST(there_is_room_for_sixteen)
{
    static kiln_backend more[17];
    static char names[17][4];
    kiln_status status = KILN_OK;
    size_t made = 1; /* "twice" */
    for (; status == KILN_OK && made <= 17; made++) {
        names[made - 1][0] = 'n';
        names[made - 1][1] = (char)('a' + made);
        more[made - 1] = twice;
        more[made - 1].name = names[made - 1];
        status = kiln_backend_register(&more[made - 1]);
    }
    assert_int_equal(status, KILN_ERROR_LIMIT);
    assert_int_equal(made, 17);
    assert_message("is number 17, and 16 can be registered");
}

TEST(null_models_have_nothing)
{
    kiln_span bytes = {"x", 1};
    assert_null(kiln_model_path(NULL));
    assert_null(kiln_model_folder(NULL));
    assert_status(KILN_ERROR_NULL_ARGUMENT, kiln_model_bytes(NULL, &bytes));
    assert_null(bytes.data);
    assert_fails(KILN_ERROR_BACKEND, kiln_fail(KILN_ERROR_BACKEND, NULL),
                 kiln_status_text(KILN_ERROR_BACKEND));
    assert_ok(kiln_fail(KILN_OK, "nothing"));
}

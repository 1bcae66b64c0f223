/* SPDX-License-Identifier: Apache-2.0 */
/* What each node takes, where a backend tells it: ONNX Runtime by its profiler, the reference
 * executor by itself. */
#include <dirent.h>

#include "graph_maker.h"
#include "kiln_test.h"

static const kiln_shape matrix = {.rank = 2, .dims = {64, 64}};
static float values[64 * 64];

/* y = (x * x) + x */
static kiln_engine *build(const char *backend, bool profile_nodes)
{
    owned_network network =
        made_network(NULL, "in x float32[64,64]; product=MatMul(x,x); y=Add(product,x); out y");
    kiln_build_options options = backend_options(backend);
    options.optimization = KILN_OPTIMIZATION_OFF;
    options.profile_nodes = profile_nodes;
    return built_network(network, &options);
}

static kiln_context *context_of(kiln_engine *engine)
{
    const kiln_tensor x = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, matrix, values, sizeof values);
    kiln_context *context = context_on(engine);
    assert_ok(kiln_context_bind(context, "x", &x));
    return context;
}

static void run(kiln_context *context, int times)
{
    for (int i = 0; i < times; i++) {
        assert_ok(kiln_context_run(context));
    }
}

/* The two nodes, each with `runs`, and no more. */
static void assert_nodes(kiln_context *context, uint64_t runs)
{
    kiln_layer_time layers[3] = {{0}};
    double total = 0;
    for (size_t i = 0; i < 2; i++) {
        layers[i].struct_size = sizeof layers[i];
        assert_ok(kiln_context_layer(context, i, &layers[i]));
        assert_int_equal(layers[i].runs, runs);
        total += layers[i].milliseconds;
    }
    assert_string_equal(layers[0].name, "product");
    assert_string_equal(layers[0].type, "MatMul");
    assert_string_equal(layers[1].name, "y");
    assert_string_equal(layers[1].type, "Add");
    assert_true(total > 0);
    layers[2].struct_size = sizeof layers[2];
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_context_layer(context, 2, &layers[2]),
                 "2 were measured");
}

TEST(the_reference_measures_when_it_is_told_to)
{
    owned_engine engine = build("reference", false);
    owned_context context = context_of(engine);
    kiln_layer_time layer = {.struct_size = sizeof layer};
    run(context, 2);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_context_layer(context, 0, &layer),
                 "0 were measured");
    assert_ok(kiln_context_profile_layers(context, true));
    run(context, 3);
    assert_nodes(context, 3);
    assert_ok(kiln_context_profile_layers(context, false));
    run(context, 2);
    assert_nodes(context, 3);
    assert_ok(kiln_context_profile_layers(context, true));
    run(context, 1);
    assert_nodes(context, 1);
}

static size_t profiles_in(const char *folder)
{
    size_t count = 0;
    DIR *open = opendir(folder);
    assert_non_null(open);
    for (const struct dirent *entry; (entry = readdir(open)) != NULL;) {
        count += strncmp(entry->d_name, "kiln-profile-", 13) == 0 ? 1 : 0;
    }
    (void)closedir(open);
    return count;
}

TEST(onnxruntime_measures_where_it_was_built_for_it)
{
    char folder[] = "/tmp/kiln-test-XXXXXX";
    assert_non_null(mkdtemp(folder));
    assert_int_equal(setenv("TMPDIR", folder, 1), 0);
    kiln_engine *engine = build("onnxruntime", true);
    kiln_context *context = context_of(engine);
    assert_int_equal(profiles_in(folder), 1);
    run(context, 4);
    assert_ok(kiln_context_profile_layers(context, true));
    run(context, 3);
    assert_nodes(context, 3);
    assert_status(KILN_ERROR_STATE, kiln_context_profile_layers(context, true));
    run(context, 1);
    assert_nodes(context, 3);
    kiln_context_destroy(context);
    kiln_engine_release(engine);
    assert_int_equal(profiles_in(folder), 0);
    /* One that nobody asked goes as well. */
    kiln_engine_release(build("onnxruntime", true));
    assert_int_equal(profiles_in(folder), 0);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(unsetenv("TMPDIR"), 0);
}

TEST(what_cannot_be_measured_is_told)
{
    owned_engine engine = build("onnxruntime", false);
    owned_context context = context_of(engine);
    kiln_layer_time layer = {.struct_size = sizeof layer};
    assert_fails(KILN_ERROR_STATE, kiln_context_profile_layers(context, true), "profile_nodes");
    assert_status(KILN_ERROR_STATE, kiln_context_layer(context, 0, &layer));
}

static kiln_status measure(void *user)
{
    const kiln_tensor x = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(64), values, 256);
    owned_engine engine = NULL;
    owned_context context = NULL;
    kiln_layer_time layer = {.struct_size = sizeof layer};
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "reference");
    kiln_status status = kiln_engine_build_bytes(*(const kiln_span *)user, &options, &engine);
    status = status == KILN_OK ? kiln_context_create(engine, NULL, &context) : status;
    status = status == KILN_OK ? kiln_context_bind(context, "x", &x) : status;
    status = status == KILN_OK ? kiln_context_profile_layers(context, true) : status;
    status = status == KILN_OK ? kiln_context_run(context) : status;
    status = status == KILN_OK ? kiln_context_layer(context, 0, &layer) : status;
    return status;
}

TEST(without_memory_nothing_is_measured)
{
    kiln_span model = unary_model("Neg", "n");
    kiln_test_each_allocation(measure, &model);
}

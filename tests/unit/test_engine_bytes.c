/* SPDX-License-Identifier: Apache-2.0 */
/* Engines without files: built from bytes, saved to bytes, loaded from bytes. */
#include <sys/stat.h>

#include "base/kln_base.h"
#include "graph_maker.h"
#include "kiln_test.h"

#define COUNT 300 /* more than 1,024 bytes: small weights stay in the model */

static const char *const backends[] = {"reference", "onnxruntime"};
static float weights[COUNT];
static char folder[2048];
static char content[4096];
static kiln_span model; /* y = x + w, with w in folder/model.onnx.data */

static void write_model(void)
{
    char path[4096];
    for (size_t i = 0; i < COUNT; i++) {
        weights[i] = (float)i / 4;
    }
    (void)snprintf(folder, sizeof folder, "%s", kiln_test_path("elsewhere"));
    assert_int_equal(mkdir(folder, 0777), 0);
    (void)snprintf(path, sizeof path, "%s/model.onnx", folder);
    owned_network network = made_network(
        weights, "in x float32[%d]; floats w float32[%d]; y=Add(x,w); out y", COUNT, COUNT);
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_EXTERNAL));
    model = (kiln_span){content, kiln_test_read(path, content, sizeof content)};
}

static void check(kiln_engine *engine)
{
    static float input[COUNT];
    kiln_tensor x = {.desc = {.dtype = KILN_DTYPE_FLOAT32, .shape = KILN_SHAPE(COUNT)},
                     .data = input,
                     .bytes = sizeof input};
    for (size_t i = 0; i < COUNT; i++) {
        input[i] = -(float)i;
    }
    const kiln_binding binding = output_at(engine, 0);
    owned_context context = context_on(engine);
    assert_ok(kiln_context_bind(context, "x", &x));
    assert_ok(kiln_context_run(context));
    const kiln_tensor y = tensor_in(context, binding.name);
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(((const float *)y.data)[i] == input[i] + weights[i]);
    }
}

static kiln_engine *built(const char *backend)
{
    kiln_build_options options = backend_options(backend);
    options.weights_folder = folder;
    return built_bytes(model, &options);
}

TEST_EACH(weights_are_looked_for_where_the_caller_says, i, KLN_ARRAY_LENGTH(backends))
{
    kiln_build_options options = backend_options(backends[i]);
    owned_engine engine = NULL;
    assert_int_not_equal(kiln_engine_build_bytes(model, &options, &engine), KILN_OK);
    assert_null(engine);
    options.weights_folder = "/nowhere/at/all";
    assert_int_not_equal(kiln_engine_build_bytes(model, &options, &engine), KILN_OK);
    engine = built(backends[i]);
    check(engine);
    kiln_engine_release(engine);

    owned_build build = NULL;
    char *passing = strdup(folder);
    options.weights_folder = passing;
    assert_ok(kiln_build_start_bytes(model, &options, NULL, &build));
    memset(passing, 'x', strlen(passing));
    free(passing);
    assert_ok(kiln_build_wait(build, UINT64_MAX, &engine));
    check(engine);
}

TEST(a_folder_is_for_bytes_alone)
{
    kiln_engine *engine = NULL;
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/model.onnx", folder);
    kiln_build_options options =
        KILN_BUILD_OPTIONS(.weights_folder = folder, .backend = "reference");
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_build_file(path, &options, &engine),
                 "the weights of a file lie beside it");
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_load(path, &options, &engine));
    kiln_network *network = network_file(path);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_build(network, &options, &engine),
                 "a network has its weights");
    kiln_network_destroy(network);

    static char deep[8192];
    memset(deep, 'a', sizeof deep - 1);
    options.weights_folder = deep;
    options.backend = "onnxruntime";
    assert_fails(KILN_ERROR_LIMIT, kiln_engine_build_bytes(model, &options, &engine),
                 "a path of 8191 bytes");
}

static kiln_engine *engine_by(const char *backend)
{
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = backend);
    owned_network network = network_in(model, folder);
    return built_network(network, &options);
}

TEST_EACH(what_is_saved_to_bytes_is_loaded_from_them, i, KLN_ARRAY_LENGTH(backends))
{
    kiln_engine *engine = engine_by(backends[i]);
    owned_engine again = NULL;
    char manifest[4096];
    size_t length = 0, asked = 0;
    const kiln_span bytes = saved_bytes(engine);
    assert_true(bytes.size > sizeof weights);
    assert_ok(kiln_engine_manifest(engine, NULL, 0, &asked));
    assert_ok(kiln_engine_manifest(engine, manifest, sizeof manifest, &length));
    assert_int_equal(length, asked);
    assert_int_equal(strlen(manifest), length);
    assert_non_null(strstr(manifest, backends[i]));
    assert_status(KILN_ERROR_LIMIT, kiln_engine_manifest(engine, manifest, length, &asked));
    assert_int_equal(asked, length);
    assert_ok(kiln_engine_manifest(engine, manifest, length + 1, &asked));

    /* Nothing of what is given is needed afterwards, nor the first engine. */
    void *copy = malloc(bytes.size);
    assert_non_null(copy);
    memcpy(copy, bytes.data, bytes.size);
    kiln_engine_release(engine);
    const kiln_span text = {manifest, length};
    assert_ok(kiln_engine_load_bytes((kiln_span){copy, bytes.size}, text, NULL, &again));
    kiln_backend_info info = {.struct_size = sizeof info};
    assert_ok(kiln_engine_backend(again, &info));
    assert_string_equal(info.name, backends[i]);
    memset(copy, 0, bytes.size);
    free(copy);
    memset(manifest, 0, sizeof manifest);
    check(again);
}

TEST(what_does_not_fit_is_refused)
{
    kiln_engine *engine = engine_by("reference");
    kiln_engine *again = NULL;
    char manifest[4096];
    size_t length = 0;
    kiln_span bytes = saved_bytes(engine);
    assert_ok(kiln_engine_manifest(engine, manifest, sizeof manifest, &length));
    const kiln_span text = {manifest, length};
    const kiln_span cut = {bytes.data, bytes.size - 1};
    assert_fails(KILN_ERROR_MISMATCH, kiln_engine_load_bytes(cut, text, NULL, &again),
                 "bytes were found, its manifest says", "or load it without the manifest");
    assert_null(again);
    assert_fails(KILN_ERROR_MALFORMED,
                 kiln_engine_load_bytes(bytes, (kiln_span){manifest, length / 2}, NULL, &again),
                 "the manifest of a model in memory");
    assert_status(KILN_ERROR_EMPTY,
                  kiln_engine_load_bytes((kiln_span){NULL, 0}, text, NULL, &again));
    kiln_engine_release(engine);

    owned_engine elsewhere = built("onnxruntime");
    assert_status(KILN_ERROR_UNSUPPORTED, kiln_engine_save_bytes(elsewhere, &bytes));
    assert_null(bytes.data);
    assert_status(KILN_ERROR_UNSUPPORTED, kiln_engine_manifest(elsewhere, NULL, 0, &length));
}

ALLOCATIONS(TEST, each_failed_allocation_is_survived)
{
    owned_engine engine = NULL;
    owned_engine again = NULL;
    kiln_span bytes;
    char manifest[4096];
    size_t length = 0;
    kiln_build_options options =
        KILN_BUILD_OPTIONS(.backend = "reference", .weights_folder = folder);
    TRY(kiln_engine_build_bytes(model, &options, &engine));
    TRY(kiln_engine_save_bytes(engine, &bytes));
    TRY(kiln_engine_manifest(engine, manifest, sizeof manifest, &length));
    const kiln_status status =
        kiln_engine_load_bytes(bytes, (kiln_span){manifest, length}, NULL, &again);
    assert_true((status == KILN_OK) == (again != NULL));
    return status;
}

int main(void)
{
    write_model();
    return kiln_test_run();
}

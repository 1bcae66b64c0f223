/* SPDX-License-Identifier: Apache-2.0 */
/* Files that are cut short while an engine uses them: a sentence, not SIGBUS; or nothing at all
 * where the engine has a copy. */
#include "base/kln_base.h"
#include "graph_maker.h"
#include "kiln_test.h"

#define COUNT 4096 /* floats: four pages */

static float weights[COUNT];
static char paths[3][4096]; /* of the model, of its weights, of what is saved */

/* y = x + w, with w in a file of its own. */
static void write_files(void)
{
    for (size_t i = 0; i < COUNT; i++) {
        weights[i] = (float)i;
    }
    const kiln_span model = made_model(
        17, "in x float32[4096]; file w float32[4096] cut.bin; y=Add(x,w); out y float32[4096]");
    (void)snprintf(paths[1], sizeof paths[1], "%s",
                   kiln_test_file("cut.bin", weights, sizeof weights));
    (void)snprintf(paths[0], sizeof paths[0], "%s",
                   kiln_test_file("cut.onnx", model.data, model.size));
    (void)snprintf(paths[2], sizeof paths[2], "%s", kiln_test_path("cut.saved"));
}

static kiln_status run(kiln_engine *engine)
{
    static float x[COUNT];
    static float y[COUNT];
    kiln_named_tensor input = {
        "x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(COUNT), x, sizeof x)};
    kiln_named_tensor output = {
        "y", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(COUNT), y, sizeof y)};
    memset(y, 0, sizeof y);
    kiln_context *context = context_on(engine);
    const kiln_status status = kiln_context_run_tensors(context, &input, 1, &output, 1);
    kiln_context_destroy(context);
    if (status == KILN_OK) {
        assert_memory_equal(y, weights, sizeof y);
    }
    return status;
}

static kiln_engine *build(const char *backend, bool copy)
{
    kiln_build_options options = backend_options(backend);
    options.copy_file = copy;
    write_files();
    kiln_engine *engine = built_file(paths[0], &options);
    assert_ok(run(engine));
    return engine;
}

static void cut(size_t which)
{
    assert_int_equal(truncate(paths[which], 64), 0);
}

TEST(what_was_cut_off_is_missed_with_a_sentence)
{
    kiln_engine *engine = build("reference", false);
    assert_ok(kiln_engine_save(engine, paths[2]));
    cut(1);
    assert_fails(KILN_ERROR_IO, run(engine), "was cut short since it was opened");
    assert_fails(KILN_ERROR_IO, kiln_engine_save(engine, paths[2]), "copy_file");
    kiln_engine_release(engine);
    /* A saved engine holds its weights: the model itself is what is cut. */
    kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
    static const char *const backends[] = {"reference", "onnxruntime"};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(backends); i++) {
        engine = build("reference", false);
        assert_ok(kiln_engine_save(engine, paths[2]));
        kiln_engine_release(engine);
        options.backend = backends[i];
        assert_ok(kiln_engine_load(paths[2], &options, &engine));
        cut(2);
        assert_fails(KILN_ERROR_IO, kiln_engine_save(engine, kiln_test_path("cut.again")),
                     "the model: its file was cut short");
        kiln_engine_release(engine);
    }
}

/* ONNX Runtime is handed the weights of a network where they lie. */
TEST(weights_of_a_network_are_missed_by_onnxruntime)
{
    static const kiln_switch switches[] = {KILN_SWITCH_DEFAULT, KILN_SWITCH_ON};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(switches); i++) {
        kiln_build_options options =
            KILN_BUILD_OPTIONS(.backend = "onnxruntime", .share_weights = switches[i]);
        write_files();
        kiln_network *network = network_file(paths[0]);
        owned_engine engine = built_network(network, &options);
        kiln_network_destroy(network);
        assert_ok(run(engine));
        cut(1);
        assert_fails(KILN_ERROR_IO, run(engine), "was cut short since it was opened");
    }
}

/* It maps the external files of a model by itself. */
TEST(external_files_are_missed_by_onnxruntime)
{
    owned_engine engine = build("onnxruntime", false);
    cut(1);
    assert_fails(KILN_ERROR_IO, run(engine), "a file of the model's weights");
}

TEST(a_copy_of_its_own_misses_nothing)
{
    static const char *const backends[] = {"reference", "onnxruntime"};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(backends); i++) {
        owned_engine engine = build(backends[i], true);
        cut(0);
        cut(1);
        assert_ok(run(engine));
        assert_ok(kiln_engine_save(engine, paths[2]));
        kiln_engine_release(engine);
        assert_ok(kiln_engine_load(paths[2], NULL, &engine));
        assert_ok(run(engine));
    }
}

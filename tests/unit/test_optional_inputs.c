/* SPDX-License-Identifier: Apache-2.0 */
/* Initializers that are inputs too may be fed from IR version 4 on, and are constants before.
 * Inputs of a node that an empty name leaves out. */
#include "fake_cuda_test.h"
#include "optional_inputs.h"

static kiln_engine *build(const char *backend, int64_t ir)
{
    const kiln_build_options options = KILN_BUILD_OPTIONS(.backend = backend);
    return build_with_weights(&options, ir);
}

TEST(from_version_4_on)
{
    static const char *const backends[] = {"reference", "onnxruntime"};
    for (size_t i = 0; i < 2; i++) {
        kiln_engine *engine = build(backends[i], 8);
        if (engine != NULL) {
            are_fed_and_let_go(engine);
            kiln_engine_release(engine);
        }
    }
}

/* On the CUDA provider, played over ONNX Runtime's own. */
TEST_WITH(on_a_gpu_too, begin_fake, end_fake)
{
    kiln_backend_info info = {.struct_size = sizeof info};
    SKIP_IF(kiln_backend_choose("onnxruntime", &info) != KILN_OK);
    (void)setenv("FAKE_ORT_REAL", info.library, 1);
    const kiln_build_options options =
        KILN_BUILD_OPTIONS(.backend = "onnxruntime", .library = kiln_test_built("fake/cudaort"),
                           .provider = KILN_PROVIDER_CUDA, .threads = 1);
    owned_engine engine = build_with_weights(&options, 8);
    assert_int_equal(kiln_engine_device(engine), 0);
    are_fed_and_let_go(engine);
    are_replayed(engine);
}

TEST(up_to_version_3_they_are_constants)
{
    owned_engine engine = build("reference", 3);
    float x[2] = {1, 2};
    const kiln_tensor tensor = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(2), x, sizeof x);
    assert_int_equal(kiln_engine_input_count(engine), 1);
    assert_int_equal(kiln_engine_optional_count(engine), 0);
    owned_context context = context_on(engine);
    assert_int_equal(kiln_context_bind(context, "w", &tensor), KILN_ERROR_NAME);
    assert_ok(kiln_context_bind(context, "x", &tensor));
    expect(context, 11, 22, -10);
}

/* In these ONNX Runtime reads past what is there. */
TEST(a_nameless_last_input_ends_no_process)
{
    static const struct {
        const char *op, *inputs;
        int64_t opset;
    } nodes[] = {{"LayerNormalization", "x,s,", 17}, {"DFT", "x,,", 20}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(nodes); i++) {
        graph_maker m;
        kiln_engine *engine = NULL;
        maker_begin(&m, nodes[i].opset);
        maker_text(&m, "in x float32[1,4,2]; zeros s float32[2]");
        maker_node(&m, nodes[i].op, nodes[i].inputs, "y");
        maker_output(&m, "y", FLOAT, NULL);
        const kiln_span bytes = maker_span(m.model);
        maker_end(&m);
        kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "onnxruntime");
        const kiln_status status = kiln_engine_build_bytes(bytes, &options, &engine);
        assert_null(engine);
        if (status != KILN_ERROR_LIBRARY_ABSENT) {
            assert_int_equal(status, KILN_ERROR_UNSUPPORTED);
            assert_message("its last input is left out by an empty name");
        }
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What bindings call: the same as with spans, from plain arguments. */
#include "graph_maker.h"
#include "kiln_test.h"

static float run(kiln_engine *engine, float x)
{
    kiln_named_tensor in = {.name = "x"};
    kiln_named_tensor out = {.name = "y"};
    float y = 0.0F;
    in.tensor = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1), &x, sizeof x);
    out.tensor = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1), &y, sizeof y);
    owned_context context = context_on(engine);
    kiln_engine_release(engine);
    assert_ok(kiln_context_run_once(context, &in, 1, &out, 1));
    return y;
}

TEST(models_are_built_checked_and_read)
{
    const kiln_build_options options = backend_options("reference");
    const kiln_span model = unary_model("Neg", "1");
    kiln_engine *engine = NULL;
    kiln_build *job = NULL;
    owned_issue_list issues = NULL;
    owned_network network = NULL;
    kiln_network *none = NULL;
    assert_ok(kiln_check_data(model.data, model.size, NULL, NULL, &issues));
    assert_int_equal(kiln_issue_list_errors(issues), 0);
    assert_ok(kiln_network_from_data(model.data, model.size, NULL, &network));
    assert_int_equal(kiln_network_layer_count(network), 1);
    assert_ok(kiln_build_start_data(model.data, model.size, &options, NULL, &job));
    assert_ok(kiln_build_wait(job, UINT64_MAX, &engine));
    kiln_build_destroy(job);
    assert_true(run(engine, 3.0F) == -3.0F);
    assert_ok(kiln_engine_build_data(model.data, model.size, &options, &engine));
    assert_true(run(engine, 4.0F) == -4.0F);
    assert_status(KILN_ERROR_EMPTY, kiln_engine_build_data(model.data, 0, &options, &engine));
    assert_status(KILN_ERROR_MALFORMED, kiln_network_from_data("text", 4, NULL, &none));
}

TEST(engines_are_loaded_with_their_manifest)
{
    const kiln_build_options options = backend_options("reference");
    const kiln_span model = unary_model("Neg", "1");
    owned_engine engine = NULL;
    kiln_engine *loaded = NULL;
    char manifest[4096];
    size_t length = 0;
    assert_ok(kiln_engine_build_data(model.data, model.size, &options, &engine));
    const kiln_span saved = saved_bytes(engine);
    assert_ok(kiln_engine_manifest(engine, manifest, sizeof manifest, &length));
    assert_ok(kiln_engine_load_data(saved.data, saved.size, manifest, length, NULL, &loaded));
    assert_true(run(loaded, 5.0F) == -5.0F);
    manifest[0] = '[';
    assert_status(KILN_ERROR_MALFORMED,
                  kiln_engine_load_data(saved.data, saved.size, manifest, length, NULL, &loaded));
    assert_status(KILN_ERROR_EMPTY, kiln_engine_refit_data(engine, saved.data, 0, NULL, NULL));
    assert_status(kiln_engine_refit_bytes(engine, saved, NULL, NULL),
                  kiln_engine_refit_data(engine, saved.data, saved.size, NULL, NULL));
}

TEST(buffers_and_ranges)
{
    static const char ranges[] = "TRT-100-EntropyCalibration2\nx: 3c000000\n";
    owned_range_table table = NULL;
    char text[4] = "";
    kiln_buffer *buffer = new_buffer(KILN_LOCATION_HOST, 0, 8);
    assert_ok(kiln_buffer_write_data(buffer, 4, "abc", 4, NULL));
    assert_ok(kiln_buffer_read_data(buffer, 4, text, 4, NULL));
    assert_string_equal(text, "abc");
    assert_status(KILN_ERROR_SIZE, kiln_buffer_read_data(buffer, 5, text, 4, NULL));
    kiln_buffer_destroy(buffer);
    assert_ok(kiln_range_table_load_data(ranges, sizeof ranges - 1, &table));
    assert_non_null(kiln_range_table_find(table, "x"));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A model with initializers that are inputs too, fed and let go, on any backend that feeds them. */
#ifndef OPTIONAL_INPUTS_H
#define OPTIONAL_INPUTS_H

#include "context_test.h"
#include "graph_maker.h"

#define FLOAT 1

/* y = x + w, z = -w, u = -v; w and v are initializers of 10 and 20, and inputs. */
static inline kln_text write_model(int64_t ir)
{
    owned_maker m;
    maker_begin(&m, 17);
    m.model->ir_version = ir;
    maker_text(&m,
               "in w float32[2]; in x float32[2]; in v float32[2]; w={10.0,20.0}; "
               "v={10.0,20.0}; y=Add(x,w); z=Neg(w); u=Neg(v); out y float32[2]; "
               "out z float32[2]; out u float32[2]");
    kln_text bytes = maker_bytes(m.model);
    return bytes;
}

static inline kiln_engine *build_with_weights(const kiln_build_options *options, int64_t ir)
{
    kln_text bytes = write_model(ir);
    kiln_engine *engine = NULL;
    const kiln_status status =
        kiln_engine_build_bytes((kiln_span){bytes.data, bytes.size}, options, &engine);
    kln_text_finish(&bytes);
    if (status == KILN_ERROR_LIBRARY_ABSENT) {
        return NULL;
    }
    assert_ok(status);
    return engine;
}

static inline float *data_of(kiln_context *context, const char *name)
{
    const kiln_tensor tensor = tensor_in(context, name);
    return tensor.data;
}

static inline void expect(kiln_context *context, float y0, float y1, float z0)
{
    assert_ok(kiln_context_run(context));
    assert_float_equal(data_of(context, "y")[0], y0, 0);
    assert_float_equal(data_of(context, "y")[1], y1, 0);
    assert_float_equal(data_of(context, "z")[0], z0, 0);
}

/* In any push or none, with runs of both kinds under way; what was given is forgotten after it. */
static inline void are_pushed(kiln_engine *engine)
{
    kiln_pipeline_options options = KILN_PIPELINE_OPTIONS(.depth = 2);
    owned_pipeline pipeline = pipeline_on(engine, &options);
    for (int i = 0; i < 12; i++) {
        float x[2] = {(float)i, 0};
        float w[2] = {(float)(100 * i), -1};
        const bool is_fed[] = {i % 3 == 0, (i - 1) % 3 == 0};
        const kiln_named_tensor inputs[] = {
            {"x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(2), x, sizeof x)},
            {"w", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(2), w, sizeof w)}};
        assert_ok(kiln_pipeline_push(pipeline, inputs, is_fed[0] ? 2 : 1));
        w[0] = x[0] = 7; /* taken along already */
        if (i > 0) {
            const float last = is_fed[1] ? (float)(100 * (i - 1)) : 10;
            kiln_named_tensor outputs[] = {{.name = "y"}, {.name = "z"}};
            assert_ok(kiln_pipeline_pop(pipeline, outputs, 2));
            assert_float_equal(((const float *)outputs[0].tensor.data)[0], (float)(i - 1) + last,
                               0);
            assert_float_equal(((const float *)outputs[1].tensor.data)[0], -last, 0);
        }
    }
    float w[2] = {0};
    const kiln_named_tensor alone = {
        "w", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(2), w, sizeof w)};
    const kiln_named_tensor twice[] = {alone, alone};
    assert_ok(kiln_pipeline_pop(pipeline, NULL, 0));
    assert_fails(KILN_ERROR_NOT_BOUND, kiln_pipeline_push(pipeline, &alone, 1), "input \"x\"");
    assert_fails(KILN_ERROR_NAME, kiln_pipeline_push(pipeline, twice, 2), "given twice");
}

/* Of several, in either order; many times, so that on a GPU graphs are replayed. */
static inline void each_is_let_go_by_itself(kiln_context *context)
{
    static const char *const names[] = {"w", "v"};
    float fed[2] = {3, 4};
    const kiln_tensor nothing = {.data = NULL};
    const kiln_tensor tensor = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(2), fed, 8);
    for (int turn = 0; turn < 12; turn++) {
        const size_t gone = (size_t)turn % 2;
        assert_ok(kiln_context_bind(context, names[0], &tensor));
        assert_ok(kiln_context_bind(context, names[1], &tensor));
        expect(context, 4, 6, -3);
        assert_float_equal(data_of(context, "u")[1], -4, 0);
        assert_ok(kiln_context_bind(context, names[gone], &nothing));
        expect(context, gone == 0 ? 11 : 4, gone == 0 ? 22 : 6, gone == 0 ? -10 : -3);
        assert_float_equal(data_of(context, "u")[1], gone == 0 ? -4 : -20, 0);
        assert_ok(kiln_context_bind(context, names[1 - gone], &nothing));
        expect(context, 11, 22, -10);
        assert_float_equal(data_of(context, "u")[1], -20, 0);
    }
}

static inline void are_fed_and_let_go(kiln_engine *engine)
{
    kiln_binding binding = {.struct_size = sizeof binding};
    float x[2] = {1, 2};
    float w[2] = {-1, -2};
    const kiln_tensor nothing = {.data = NULL};
    const kiln_tensor x_tensor = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(2), x, sizeof x);
    const kiln_tensor w_tensor = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(2), w, sizeof w);
    assert_int_equal(kiln_engine_input_count(engine), 1);
    assert_int_equal(kiln_engine_optional_count(engine), 2);
    assert_ok(kiln_engine_optional(engine, 0, &binding));
    assert_string_equal(binding.name, "w");
    assert_true(binding.is_input);
    assert_int_equal(binding.dtype, KILN_DTYPE_FLOAT32);
    assert_int_equal(kiln_engine_optional(engine, 2, &binding), KILN_ERROR_INVALID_ARGUMENT);
    assert_int_equal(kiln_engine_optional_count(NULL), 0);
    owned_context context = context_on(engine);
    assert_ok(kiln_context_bind(context, "x", &x_tensor));
    expect(context, 11, 22, -10);
    assert_ok(kiln_context_bind(context, "w", &w_tensor));
    expect(context, 0, 0, 1);
    w[0] = 5;
    expect(context, 6, 0, -5);
    assert_ok(kiln_context_bind(context, "w", &nothing));
    expect(context, 11, 22, -10);
    each_is_let_go_by_itself(context);
    /* With the rest in one call. */
    kiln_named_tensor inputs[] = {{.name = "w", .tensor = w_tensor},
                                  {.name = "x", .tensor = x_tensor}};
    kiln_named_tensor outputs[] = {{.name = "z"}, {.name = "y"}};
    assert_ok(kiln_context_run_tensors(context, inputs, 2, outputs, 2));
    assert_float_equal(((const float *)outputs[1].tensor.data)[0], 6, 0);
    assert_float_equal(((const float *)outputs[0].tensor.data)[0], -5, 0);
    /* Its memory may be the context's. */
    data_of(context, "w")[0] = 100;
    expect(context, 101, 0, -100);
    float wrong[3] = {0};
    const kiln_tensor too_long =
        KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(3), wrong, sizeof wrong);
    assert_int_equal(kiln_context_bind(context, "w", &too_long), KILN_ERROR_SHAPE);
    are_pushed(engine);
}

/* On a GPU: by graphs, once they are captured. */
static inline void are_replayed(kiln_engine *engine)
{
    owned_context context = context_on(engine);
    float x[2] = {1, 2};
    bind_tensor(context, "x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(2), x, sizeof x));
    each_is_let_go_by_itself(context);
    assert_true(counters_of(context).graph_hits > 0);
}

#endif

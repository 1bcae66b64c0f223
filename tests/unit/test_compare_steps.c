/* SPDX-License-Identifier: Apache-2.0 */
/* Quantized tensors are compared in steps of their quantization: which tensors are quantized, how
 * far a step is for each element, and what passes. */
#include "graph_maker.h"
#include "kiln_test.h"
#include "tools/compare_parts.h"

#define FLOAT 1
#define UINT8 2
#define INT8 3

/* x -> q -> d -> moved, clipped; wide -> per axis, blocks; what no constant scales. */
static void make(graph_maker *m)
{
    static const float one[] = {0.5F};
    static const float three[] = {0.5F, 0.25F, 2};
    static const float zero_point[] = {0};
    maker_model(m, 21, "in x float32[2,3,4]");
    maker_input(m, "codes", INT8, "2,3,4");
    maker_input(m, "given", FLOAT, "");
    maker_floats(m, "s", 1, one);
    maker_floats(m, "s3", 3, three);
    maker_floats(m, "sz", 1, zero_point);
    maker_weights(m, "blocks", FLOAT, "2,3,2");
    maker_weights(m, "z", INT8, "1");
    maker_text(m,
               "zeros low float32[]; shape={6,4}; q=QuantizeLinear(x,s,z); "
               "d=DequantizeLinear(q,s,z); r=Reshape(d,shape); moved=Transpose(r); "
               "clipped=Clip(moved,low); negated=Neg(clipped); "
               "channels=DequantizeLinear(codes,s3) axis=-2; relu=Relu(channels); "
               "mixed=Transpose(relu); blocked=DequantizeLinear(codes,blocks) axis=2 block_size=2; "
               "open=DequantizeLinear(codes,given); dq,ds,dz=DynamicQuantizeLinear(x); "
               "joined=QLinearConcat(s,z,q,s,z); out d float32");
    assert_ok(m->status);
    kln_onnx_tensor *blocks = &m->model->graph.initializers[3];
    assert_string_equal("blocks", blocks->name);
    float *scales = kln_arena_alloc(&m->model->arena, 12 * sizeof *scales);
    assert_non_null(scales);
    for (size_t i = 0; i < 12; i++) {
        scales[i] = (float)(i + 1);
    }
    blocks->data = (kiln_span){scales, 12 * sizeof *scales};
}

TEST(each_tensor_has_its_steps)
{
    static const struct {
        const char *name;
        double steps[3]; /* of elements 0, 5 and 23; 0: none */
    } cases[] = {{"x", {0, 0, 0}},
                 {"q", {1, 1, 1}},
                 {"d", {0.5, 0.5, 0.5}},
                 {"moved", {0.5, 0.5, 0.5}},
                 {"clipped", {0.5, 0.5, 0.5}},
                 {"negated", {0, 0, 0}},
                 {"channels", {0.5, 0.25, 2}},
                 {"relu", {0.5, 0.25, 2}},
                 {"mixed", {0, 0, 0}},
                 {"blocked", {1, 3, 12}},
                 {"open", {0, 0, 0}},
                 {"dq", {1, 1, 1}},
                 {"ds", {0, 0, 0}}};
    const kiln_shape shape = KILN_SHAPE(2, 3, 4);
    const kiln_shape other = KILN_SHAPE(24);
    owned_maker m;
    kln_inference *inference = NULL;
    make(&m);
    assert_true(kln_compare_has_steps(m.model));
    assert_ok(kln_infer(m.model, NULL, &inference));
    const kln_graph_inference *graph = inference->graph;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        kln_compare_steps steps;
        const uint32_t value = kln_names_get(&graph->names, cases[i].name);
        assert_ok(kln_compare_steps_of(graph, value, &inference->arena, &steps));
        kln_compare_steps_fit(&steps, &shape);
        static const int64_t elements[3] = {0, 5, 23};
        for (size_t k = 0; k < 3; k++) {
            const double step = kln_compare_step_at(&steps, elements[k]);
            if (step != cases[i].steps[k]) {
                fail_msg("%s, element %lld: %g was expected, %g was found", cases[i].name,
                         (long long)elements[k], cases[i].steps[k], step);
            }
        }
        if (steps.count > 1) {
            kln_compare_steps_fit(&steps, &other);
            assert_true(kln_compare_step_at(&steps, 0) == 0);
        }
    }
    kln_inference_destroy(inference);
    maker_end(&m);
    maker_model(&m, 21, "y=Relu(x)");
    assert_false(kln_compare_has_steps(m.model));
}

/* --- what passes --- */

typedef struct told {
    double numbers[3];
} told;

static kiln_status say(void *user, kiln_mock_run *run, char message[1024])
{
    return kiln_tensor_write(&run->outputs[0], 0, 3, ((const told *)user)->numbers);
}

static kiln_engine *engine_of(kiln_dtype dtype, told *what)
{
    const kiln_binding input = {sizeof input,  "x",    true, KILN_DTYPE_INT8,
                                KILN_SHAPE(3), {NULL}, {0}};
    const kiln_binding output = {sizeof output, "y", false, dtype, KILN_SHAPE(3), {NULL}, {0}};
    kiln_mock_options options =
        KILN_MOCK_OPTIONS(.inputs = &input, .input_count = 1, .outputs = &output, .output_count = 1,
                          .handler = say, .user = what);
    return new_mock(&options);
}

/* y = (x - 0) * 0.5 */
static kiln_network *network_of(void)
{
    return made_network(NULL,
                        "in x int8[3]; const s float32[]={0.5}; y=DequantizeLinear(x,s); out y");
}

static void expect(const kiln_compare_options *options, told *found, bool passes, double most,
                   int64_t stepped, int64_t different)
{
    told expected = {{1, 2, 3}};
    owned_engine a = engine_of(KILN_DTYPE_FLOAT32, found);
    owned_engine b = engine_of(KILN_DTYPE_FLOAT32, &expected);
    owned_comparison comparison = NULL;
    assert_ok(kiln_compare_engines(a, b, options, &comparison));
    const kiln_tensor_difference *d = kiln_comparison_get(comparison, 0);
    assert_int_equal(passes, d->passes);
    assert_int_equal(stepped, d->stepped);
    assert_int_equal(different, d->different);
    assert_true(fabs(d->largest_steps - most) < 1e-6);
    assert_true(d->step == (options->network != NULL ? 0.5 : 0));
}

TEST(a_step_is_allowed_and_told)
{
    kiln_compare_options options = KILN_COMPARE_OPTIONS_INIT;
    told same = {{1, 2, 3}}, one = {{1.5, 2, 2.5}}, two = {{1.5, 2, 4}},
         nan = {{(double)NAN, 2, 3}};
    options.network = network_of();
    expect(&options, &same, true, 0, 0, 0);
    expect(&options, &one, true, 1, 2, 0);
    expect(&options, &two, false, 2, 2, 1);
    expect(&options, &nan, false, 0, 0, 1);
    options.steps = 2;
    expect(&options, &two, true, 2, 2, 0);
    options.steps = 0;
    expect(&options, &one, false, 1, 2, 2);
    /* A tolerance that is asked for is meant. */
    options.steps = KILN_BY_DTYPE;
    options.absolute = 0.1;
    expect(&options, &one, false, 1, 2, 2);
    options.steps = 1;
    expect(&options, &one, true, 1, 2, 0);
    /* Without the network nobody knows. */
    kiln_network *network = options.network;
    options = KILN_COMPARE_OPTIONS_INIT;
    expect(&options, &one, false, 0, 0, 2);
    kiln_network_destroy(network);
    kiln_comparison *comparison = NULL;
    owned_engine engine = engine_of(KILN_DTYPE_FLOAT32, &same);
    options.steps = (double)NAN;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_compare_engines(engine, engine, &options, &comparison), "nan steps");
}

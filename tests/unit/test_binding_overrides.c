/* SPDX-License-Identifier: Apache-2.0 */
/* Inputs and outputs that are quantized as a caller says. */
#include "binding_test.h"

#define ROWS 4
#define COLUMNS 8
static float weights[COLUMNS * COLUMNS];

static void products(graph_maker *m)
{
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(weights); i++) {
        weights[i] = sinf((float)i);
    }
    maker_model(m, 17, "in x float32[4,8]");
    constant(m, "w", FLOAT, "8,8", weights);
    maker_text(m, "a=MatMul(x,w); b=Relu(a); y=MatMul(b,w); out y float32[4,8]");
    assert_ok(m->status);
}

static const float each_column[COLUMNS] = {0.01F, 0.02F, 0.01F, 0.02F, 0.01F, 0.02F, 0.01F, 0.02F};
static const int32_t two = 2;

/* Names, scales, zero points, axis and block of what is asked, and what is said afterwards. */
static const struct {
    kiln_precision precision, rest;
    kiln_binding_quantization asked[2];
    kiln_dtype dtypes[2];
    const char *said[2];
    const char *graph;
} settings[] = {
#define OF(...)     \
    {               \
        __VA_ARGS__ \
    }
#define INSIDE "DequantizeLinear MatMul Relu QuantizeLinear DequantizeLinear MatMul"
    {KILN_PRECISION_INT8, 0, OF({"x", {0, -1, 0, 1, scales + 2, NULL}, false}),
     OF(KILN_DTYPE_FLOAT32, KILN_DTYPE_FLOAT32), OF("int8 -1 0: 0.125@0", NULL),
     "QuantizeLinear DequantizeLinear " INSIDE},
    {KILN_PRECISION_INT8, 0, OF({"x", {0, 0, 0, 1, scales + 2, NULL}, true}),
     OF(KILN_DTYPE_INT8, KILN_DTYPE_FLOAT32), OF("int8 -1 0: 0.125@0", NULL),
     "DequantizeLinear " INSIDE},
    /* By the ranges: 127 / 64 and 32 * 2 / 255. */
    {KILN_PRECISION_INT8, 0, OF({"x", {0}, true}, {"y", {.storage = KILN_DTYPE_UINT8}, true}),
     OF(KILN_DTYPE_INT8, KILN_DTYPE_UINT8), OF("int8 -1 0: 0.015625@0", "uint8 -1 0: 0.25098@127"),
     "DequantizeLinear " INSIDE " QuantizeLinear"},
    /* Of another type than what is inside: once more. */
    {KILN_PRECISION_INT8, 0, OF({"x", {KILN_DTYPE_UINT8, -1, 0, 1, scales + 2, &two}, true}),
     OF(KILN_DTYPE_UINT8, KILN_DTYPE_FLOAT32), OF("uint8 -1 0: 0.125@2", NULL),
     "DequantizeLinear QuantizeLinear DequantizeLinear " INSIDE},
    {KILN_PRECISION_DEFAULT, 0, OF({"x", {0, 1, 0, 8, each_column, NULL}, true}),
     OF(KILN_DTYPE_INT8, KILN_DTYPE_FLOAT32),
     OF("int8 1 0: 0.01@0 0.02@0 0.01@0 0.02@0 0.01@0 0.02@0 0.01@0 0.02@0", NULL),
     "DequantizeLinear MatMul Relu MatMul"},
    {KILN_PRECISION_DEFAULT, 0, OF({"y", {KILN_DTYPE_INT8, 1, 4, 8, each_column, NULL}, false}),
     OF(KILN_DTYPE_FLOAT32, KILN_DTYPE_FLOAT32),
     OF(NULL, "int8 1 4: 0.01@0 0.02@0 0.01@0 0.02@0 0.01@0 0.02@0 0.01@0 0.02@0"),
     "MatMul Relu MatMul QuantizeLinear DequantizeLinear"},
    {KILN_PRECISION_FP16, 0, OF({"x", {0, -1, 0, 1, scales, NULL}, true}),
     OF(KILN_DTYPE_INT8, KILN_DTYPE_FLOAT32), OF("int8 -1 0: 0.5@0", NULL),
     "DequantizeLinear Cast MatMul Relu MatMul Cast"},
    {KILN_PRECISION_FP8, 0, OF({"x", {0, -1, 0, 1, scales + 2, NULL}, true}),
     OF(KILN_DTYPE_FLOAT8E4M3, KILN_DTYPE_FLOAT32), OF("float8e4m3fn -1 0: 0.125@0", NULL),
     "DequantizeLinear " INSIDE},
    {KILN_PRECISION_INT8, KILN_PRECISION_FP16, OF({"x", {0, -1, 0, 1, scales + 2, NULL}, true}),
     OF(KILN_DTYPE_INT8, KILN_DTYPE_FLOAT32), OF("int8 -1 0: 0.125@0", NULL), NULL},
};

static kiln_range_table *ranges_of(void)
{
    kiln_range_table *ranges = NULL;
    assert_ok(kiln_range_table_create(&ranges));
    assert_ok(kiln_range_table_set(ranges, "x", -127.0 / 64, 1));
    assert_ok(kiln_range_table_set(ranges, "b", 0, 10));
    assert_ok(kiln_range_table_set(ranges, "y", -32, 32));
    return ranges;
}

static kiln_precision_options options_of(size_t index, const kiln_range_table *ranges)
{
    return KILN_PRECISION_OPTIONS(.precision = settings[index].precision,
                                  .rest = settings[index].rest, .ranges = ranges,
                                  .bindings = settings[index].asked,
                                  .binding_count = settings[index].asked[1].name != NULL ? 2 : 1);
}

/* Feeds cosines, or what stands for them, and gives the output's numbers. */
static void run(const kln_onnx_model *model, const char *backend, kiln_dtype dtypes[2],
                const char *said[2], char texts[2][256], float results[ROWS * COLUMNS])
{
    const kiln_span bytes = maker_span(model);
    const kiln_build_options how = KILN_BUILD_OPTIONS(.backend = backend);
    owned_engine engine = built_bytes(bytes, &how);
    owned_context context = context_on(engine);
    kiln_binding ends[2] = {{.struct_size = sizeof *ends}, {.struct_size = sizeof *ends}};
    kiln_tensor tensors[2];
    float numbers[ROWS * COLUMNS];
    const kiln_shape shape = KILN_SHAPE(ROWS, COLUMNS);
    assert_ok(kiln_engine_input(engine, 0, &ends[0]));
    assert_ok(kiln_engine_output(engine, 0, &ends[1]));
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(numbers); i++) {
        numbers[i] = cosf((float)i);
    }
    for (size_t i = 0; i < 2; i++) {
        float *at = i == 0 ? numbers : results;
        const kiln_tensor floats = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, shape, at, sizeof numbers);
        const bool is_stored = ends[i].dtype != KILN_DTYPE_FLOAT32;
        dtypes[i] = ends[i].dtype;
        said[i] = text_of(&ends[i].quantization, texts[i]);
        assert_ok(kiln_context_tensor(context, ends[i].name, &tensors[i]));
        if (i == 0 && is_stored) {
            assert_ok(kiln_tensor_quantize(&floats, &ends[i].quantization, &tensors[i]));
        } else if (i == 0) {
            memcpy(tensors[i].data, numbers, sizeof numbers);
        } else if (is_stored) {
            assert_ok(kiln_tensor_dequantize(&tensors[i], &ends[i].quantization, &floats));
        } else {
            memcpy(results, tensors[i].data, sizeof numbers);
        }
        if (i == 0) {
            assert_ok(kiln_context_run(context));
        }
    }
}

static double worst_of(const float *a, const float *b)
{
    double worst = 0;
    for (size_t i = 0; i < ROWS * COLUMNS; i++) {
        const double difference = fabs((double)a[i] - (double)b[i]);
        worst = difference <= worst ? worst : difference; /* NaN too */
    }
    return worst;
}

TEST_EACH(bindings_are_quantized_as_a_caller_says, i, KLN_ARRAY_LENGTH(settings))
{
    owned_maker m;
    char text[1024];
    char texts[2][256];
    const char *said[2];
    kiln_dtype dtypes[2];
    float before[ROWS * COLUMNS], after[ROWS * COLUMNS], others[ROWS * COLUMNS];
    owned_range_table ranges = ranges_of();
    const kiln_precision_options how = options_of(i, ranges);
    products(&m);
    run(m.model, "reference", dtypes, said, texts, before);
    assert_ok(kln_precision_convert(m.model, &how, NULL));
    operators_of(&m.model->graph, text);
    if (settings[i].graph != NULL) {
        assert_string_equal(text, settings[i].graph);
    }
    run(m.model, "reference", dtypes, said, texts, after);
    for (size_t k = 0; k < 2; k++) {
        assert_int_equal(dtypes[k], settings[i].dtypes[k]);
        assert_true((said[k] == NULL) == (settings[i].said[k] == NULL));
        if (said[k] != NULL) {
            assert_string_equal(said[k], settings[i].said[k]);
        }
    }
    /* Half a step of 0.5 on eight numbers times weights up to 1, twice, is the most. */
    assert_true(worst_of(before, after) < (settings[i].precision == KILN_PRECISION_FP16 ? 3 : 1.5));
    if (settings[i].precision != KILN_PRECISION_FP8) {
        run(m.model, "onnxruntime", dtypes, said, texts, others);
        assert_true(worst_of(after, others) < 0.3);
    }
}

/* The numbers are those of the model that is fed with floats: only the nodes at its ends are left
 * out. */
TEST(integers_outside_change_nothing)
{
    float results[2][ROWS * COLUMNS];
    for (size_t i = 0; i < 2; i++) {
        const kiln_binding_quantization asked[] = {{"x", {0}, i == 1}, {"y", {0}, i == 1}};
        owned_maker m;
        char texts[2][256];
        const char *said[2];
        kiln_dtype dtypes[2];
        owned_range_table ranges = ranges_of();
        const kiln_precision_options how =
            KILN_PRECISION_OPTIONS(.precision = KILN_PRECISION_INT8, .ranges = ranges,
                                   .bindings = asked, .binding_count = 2);
        products(&m);
        assert_ok(kln_precision_convert(m.model, &how, NULL));
        run(m.model, "reference", dtypes, said, texts, results[i]);
        assert_int_equal(dtypes[1], i == 1 ? KILN_DTYPE_INT8 : KILN_DTYPE_FLOAT32);
        if (i == 0) { /* and again, of the model that is there */
            const kiln_binding_quantization more[] = {{"x", {0}, true}, {"y", {0}, true}};
            const kiln_precision_options bare =
                KILN_PRECISION_OPTIONS(.bindings = more, .binding_count = 2);
            float again[ROWS * COLUMNS];
            assert_ok(kln_precision_convert(m.model, &bare, NULL));
            assert_string_equal(m.model->graph.nodes[0].op_type, "DequantizeLinear");
            run(m.model, "reference", dtypes, said, texts, again);
            assert_int_equal(dtypes[0], KILN_DTYPE_INT8);
            assert_memory_equal(again, results[0], sizeof again);
        }
    }
    assert_memory_equal(results[0], results[1], sizeof results[0]);
}

TEST(bindings_that_cannot_be_are_refused)
{
    static const float none[1] = {0};
    static const int32_t minus_one[1] = {-1};
    static const struct {
        kiln_binding_quantization asked;
        kiln_status status;
        const char *words;
    } cases[] = {
        {{"nobody", {0, -1, 0, 1, scales, NULL}, true}, KILN_ERROR_NAME, "\"nobody\""},
        {{"b", {0, -1, 0, 1, scales, NULL}, true}, KILN_ERROR_NAME, "no input and no output"},
        {{NULL, {0, -1, 0, 1, scales, NULL}, true}, KILN_ERROR_NULL_ARGUMENT, "name"},
        {{"x", {KILN_DTYPE_INT32, -1, 0, 1, scales, NULL}, true},
         KILN_ERROR_INVALID_ARGUMENT,
         "\"x\" is to be int32"},
        {{"x", {0, -1, 0, 1, none, NULL}, true}, KILN_ERROR_INVALID_ARGUMENT, "scale 0"},
        {{"x", {KILN_DTYPE_UINT8, -1, 0, 1, scales, minus_one}, true},
         KILN_ERROR_INVALID_ARGUMENT,
         "zero point -1"},
        {{"x", {0, 1, 0, 3, scales, NULL}, true},
         KILN_ERROR_INVALID_ARGUMENT,
         "\"x\" takes 8 scales, 3 are given"},
        {{"x", {0, 2, 0, 3, scales, NULL}, true}, KILN_ERROR_INVALID_ARGUMENT, "along axis 2"},
        {{"x", {0, 0, 0, 1, NULL, NULL}, true}, KILN_ERROR_INVALID_ARGUMENT, "1 scale along"},
        {{"y", {0}, true}, KILN_ERROR_INVALID_ARGUMENT, "give a scale or a range"},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        owned_maker m;
        const kiln_precision_options how =
            KILN_PRECISION_OPTIONS(.bindings = &cases[i].asked, .binding_count = 1);
        products(&m);
        const kln_onnx_node *nodes = m.model->graph.nodes;
        assert_fails(cases[i].status, kln_precision_convert(m.model, &how, NULL), cases[i].words);
        assert_ptr_equal(m.model->graph.nodes, nodes);
    }
}

/* A branch sees the input by its name. */
TEST(an_input_that_a_branch_reads_is_refused)
{
    const kiln_binding_quantization asked = {"x", {0, -1, 0, 1, scales, NULL}, true};
    const kiln_precision_options how =
        KILN_PRECISION_OPTIONS(.bindings = &asked, .binding_count = 1);
    owned_maker m;
    maker_model(&m, 17,
                "in x float32[4]; in c bool[]; y=If(c) then_branch={p=Relu(x); out p float32[4]} "
                "else_branch={q=Neg(x); out q float32[4]}; out y float32[4]");
    assert_ok(m.status);
    assert_fails(KILN_ERROR_UNSUPPORTED, kln_precision_convert(m.model, &how, NULL),
                 "\"x\" cannot be quantized", "node \"y\"");
}

ALLOCATIONS(TEST, setting_survives_every_allocation)
{
    owned_maker m;
    owned_range_table ranges = NULL;
    const kiln_binding_quantization asked[] = {{"x", {0, -1, 0, 1, scales, NULL}, true},
                                               {"y", {0, -1, 0, 1, scales, NULL}, false}};
    maker_model(&m, 17,
                "in x float32[4,8]; zeros w float32[8,8]; y=MatMul(x,w); out y float32[4,8]");
    TRY(m.status);
    m.graph->initializers[0].data.data = weights;
    TRY(kiln_range_table_create(&ranges));
    const kiln_precision_options how =
        KILN_PRECISION_OPTIONS(.precision = KILN_PRECISION_INT8, .ranges = ranges,
                               .bindings = asked, .binding_count = 2);
    return kln_precision_convert(m.model, &how, NULL);
}

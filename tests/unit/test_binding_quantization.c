/* SPDX-License-Identifier: Apache-2.0 */
/* What an engine says of how its bindings are quantized. */
#include "binding_test.h"
#include "graph/kln_graph.h"

/* --- what is read --- */

#define S "const s float32[]={0.5}; "
#define Z "const z int8[]={3}; "

static const struct {
    const char *name, *input, *output; /* x and y, of 2x3 */
    const char *nodes;
    const char *said[2]; /* of x and y; NULL: not quantized */
} readings[] = {
    {"pair at both ends",
     "float32",
     "float32",
     S Z "const t float32[3]={0.5,0.25,0.125}; zeros u uint8[3]; a=QuantizeLinear(x,s,z); "
         "b=DequantizeLinear(a,s,z); c=Relu(b); d=QuantizeLinear(c,t,u) axis=-1; "
         "y=DequantizeLinear(d,t,u) axis=-1",
     {"int8 -1 0: 0.5@3", "uint8 1 0: 0.5@0 0.25@0 0.125@0"}},
    {"integers outside, with no zero point",
     "int8",
     "uint8",
     S Z "a=DequantizeLinear(x,s,z); b=Relu(a); y=QuantizeLinear(b,s)",
     {"int8 -1 0: 0.5@3", "uint8 -1 0: 0.5@0"}},
    /* Casts and identities stand between; the size of an input says kiln_test_idle of its numbers.
     */
    {"passed through",
     "float32",
     "float32",
     "const s float32[1]={0.5}; const z int8[1]={3}; n=Shape(x); i=Identity(x); "
     "a=QuantizeLinear(i,s,z); b=DequantizeLinear(a,s,z); c=Expand(b,n); d=QuantizeLinear(c,s); "
     "e=DequantizeLinear(d,s); y=Identity(e)",
     {"int8 -1 0: 0.5@3", "uint8 -1 0: 0.5@0"}},
    {"said twice, by other names",
     "float32",
     "float32",
     S Z "const s2 float32[]={0.5}; const z2 int8[]={3}; a=QuantizeLinear(x,s,z); "
         "b=QuantizeLinear(x,s2,z2); c=DequantizeLinear(a,s,z); d=DequantizeLinear(b,s,z); "
         "y=Add(c,d)",
     {"int8 -1 0: 0.5@3", NULL}},
    {"said differently",
     "float32",
     "float32",
     S Z "const t float32[]={0.25}; a=QuantizeLinear(x,s,z); b=QuantizeLinear(x,t,z); "
         "c=DequantizeLinear(a,s,z); d=DequantizeLinear(b,s,z); y=Add(c,d)",
     {NULL, NULL}},
    {"one reader sees the numbers as they are",
     "float32",
     "float32",
     S Z "a=QuantizeLinear(x,s,z); b=DequantizeLinear(a,s,z); y=Add(b,x)",
     {NULL, NULL}},
    {"scales of the data",
     "float32",
     "float32",
     Z "s=ReduceMax(x) keepdims=0; a=QuantizeLinear(x,s,z); y=DequantizeLinear(a,s,z)",
     {NULL, NULL}},
    {"a constant node",
     "float32",
     "float32",
     Z "s=Constant() value_float=0.25; a=QuantizeLinear(x,s,z); b=DequantizeLinear(a,s,z); "
       "y=Relu(b)",
     {"int8 -1 0: 0.25@3", NULL}},
    {"in blocks",
     "float32",
     "float32",
     "const s float32[2,2]={1,2,3,4}; a=QuantizeLinear(x,s) axis=1 block_size=2 output_dtype=3; "
     "b=DequantizeLinear(a,s) axis=1 block_size=2; y=Relu(b)",
     {"int8 1 2: 1@0 2@0 3@0 4@0", NULL}},
    {"QLinearMatMul",
     "int8",
     "int8",
     S Z "const t float32[]={0.25}; zeros w int8[3,3]; y=QLinearMatMul(x,s,z,w,s,z,t,z)",
     {"int8 -1 0: 0.5@3", "int8 -1 0: 0.25@3"}},
};

static kiln_span reading(size_t index)
{
    return made_model(21, "in x %s[2,3]; %s; out y %s[2,3]", readings[index].input,
                      readings[index].nodes, readings[index].output);
}

static void same_text(const char *what, const char *expected, const kiln_quantization *q)
{
    char text[256];
    const char *found = text_of(q, text);
    if ((found == NULL) != (expected == NULL) || (found != NULL && strcmp(found, expected) != 0)) {
        fail_msg("%s: \"%s\", expected \"%s\"", what, found != NULL ? found : "kiln_test_idle",
                 expected != NULL ? expected : "kiln_test_idle");
    }
}

static void engine_says(const char *name, const kiln_engine *engine, const char *const said[2])
{
    kiln_binding binding = input_at(engine, 0);
    same_text(name, said[0], &binding.quantization);
    assert_ok(kiln_engine_output(engine, 0, &binding));
    same_text(name, said[1], &binding.quantization);
}

static const char *const backends[] = {"reference", "onnxruntime"};

TEST_EACH(an_engine_says_how_its_bindings_are_quantized, i, KLN_ARRAY_LENGTH(readings))
{
    for (size_t b = 0; b < KLN_ARRAY_LENGTH(backends); b++) {
        const kiln_build_options how = KILN_BUILD_OPTIONS(.backend = backends[b]);
        owned_engine engine = built_bytes(reading(i), &how);
        engine_says(readings[i].name, engine, readings[i].said);
        const char *path = kiln_test_path("saved");
        assert_ok(kiln_engine_save(engine, path));
        owned_engine loaded = loaded_file(path, NULL);
        engine_says(readings[i].name, loaded, readings[i].said);
    }
}

/* With no engine, too. */
TEST_EACH(a_network_says_it_as_well, i, KLN_ARRAY_LENGTH(readings))
{
    owned_inspection inspection = NULL;
    kiln_binding binding = {.struct_size = sizeof binding};
    owned_network network = network_in(reading(i), NULL);
    assert_ok(kiln_network_inspect(network, false, &inspection));
    assert_ok(kiln_inspection_get_input(inspection, 0, &binding));
    same_text(readings[i].name, readings[i].said[0], &binding.quantization);
    assert_ok(kiln_inspection_get_output(inspection, 0, &binding));
    same_text(readings[i].name, readings[i].said[1], &binding.quantization);
}

ALLOCATIONS(TEST, reading_survives_every_allocation)
{
    owned_maker m;
    kln_arena arena = {0};
    kiln_binding bindings[] = {
        {.name = "x", .is_input = true, .dtype = KILN_DTYPE_FLOAT32, .shape = KILN_SHAPE(2, 3)},
        {.name = "y", .dtype = KILN_DTYPE_FLOAT32, .shape = KILN_SHAPE(2, 3)}};
    maker_model(&m, 21, "in x float32[2,3]");
    maker_text(&m, readings[0].nodes);
    kiln_status status = m.status;
    if (status == KILN_OK) {
        status = kln_graph_read_quantization(m.graph, &arena, bindings, 2);
    }
    kln_arena_finish(&arena);
    return status;
}

/* What a manifest says of a binding, and what it must not. */
TEST(a_manifest_that_makes_no_sense_is_refused)
{
    static const char *const wrong[][2] = {
        {"\"int8\"", "\"int9\""},
        {"\"x\"", "\"nobody\""},
        {"\"axis\":\t-1", "\"axis\":\t9"},
        {"[0.5]", "[-0.5]"},
        {"[0.5]", "[]"},
        {"\"zero_points\":\t[3]", "\"zero_points\":\t[3, 4]"},
        {"\"quantization\":\t[{", "\"quantization\":\t3, \"other\":\t[{"},
    };
    char text[8192];
    size_t length = 0;
    const kiln_build_options how = KILN_BUILD_OPTIONS(.backend = "reference");
    owned_engine engine = built_bytes(reading(0), &how);
    assert_ok(kiln_engine_manifest(engine, text, sizeof text, &length));
    const kiln_span saved = saved_bytes(engine);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(wrong); i++) {
        char changed[8192];
        kiln_engine *none = NULL;
        const char *at = strstr(text, wrong[i][0]);
        assert_non_null(at);
        const int size = snprintf(changed, sizeof changed, "%.*s%s%s", (int)(at - text), text,
                                  wrong[i][1], at + strlen(wrong[i][0]));
        assert_fails(KILN_ERROR_MALFORMED,
                     kiln_engine_load_bytes(saved, (kiln_span){changed, (size_t)size}, NULL, &none),
                     "\"quantization\"");
        assert_null(none);
    }
}

TEST(a_mock_says_what_it_was_told)
{
    float scale = 0.5F;
    kiln_binding input = {
        .struct_size = sizeof input,
        .name = "x",
        .dtype = KILN_DTYPE_INT8,
        .shape = KILN_SHAPE(4),
        .quantization = {.storage = KILN_DTYPE_INT8, .axis = -1, .count = 1, .scales = &scale}};
    kiln_binding output = binding_of("y", KILN_DTYPE_FLOAT32, KILN_SHAPE(4), NULL);
    kiln_mock_options options = KILN_MOCK_OPTIONS_INIT;
    options.handler = kiln_test_idle;
    options.inputs = &input;
    options.outputs = &output;
    options.input_count = options.output_count = 1;
    owned_engine engine = new_mock(&options);
    scale = 7;
    engine_says("mock", engine, (const char *const[2]){"int8 -1 0: 0.5@0", NULL});
    kiln_engine *none = NULL;
    input.quantization.count = 0;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_create_mock(&options, &none),
                 "\"x\" is quantized as int8, with 0 scales");
    assert_null(none);
}

/* --- numbers --- */

/* QuantizeLinear and DequantizeLinear of the reference executor, and what a caller gets without. */
TEST(a_caller_rounds_as_the_operators_do)
{
    static const int32_t zeros[4] = {-3, 0, 5, 100};
    static const float odd[4] = {0.1F, 0.3F, 0.07F, 1.7F};
    static const struct {
        const char *scale_dims;
        kiln_quantization how;
    } cases[] = {
        {"", {KILN_DTYPE_INT8, -1, 0, 1, odd, zeros}},
        {"4", {KILN_DTYPE_INT8, 1, 0, 4, odd, zeros}},
        {"2,2", {KILN_DTYPE_INT8, 1, 2, 4, odd, zeros}},
        {"", {KILN_DTYPE_UINT8, -1, 0, 1, odd, zeros + 3}},
        {"", {KILN_DTYPE_FLOAT8E4M3, -1, 0, 1, odd, NULL}},
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        const kiln_quantization *how = &cases[i].how;
        const int32_t wire = kln_onnx_wire_dtype(how->storage);
        owned_maker m;
        uint8_t zero_bytes[4] = {0};
        float numbers[8], back[8];
        uint8_t stored[8];
        for (int64_t k = 0; how->zero_points != NULL && k < how->count; k++) {
            zero_bytes[k] = (uint8_t)how->zero_points[k];
        }
        for (size_t k = 0; k < 8; k++) {
            numbers[k] = (float)(k * k) * 1.05F - 20;
        }
        numbers[6] = 1e6F;
        maker_begin(&m, 21);
        maker_input(&m, "x", FLOAT, "2,4");
        constant(&m, "s", FLOAT, cases[i].scale_dims, odd);
        constant(&m, "z", wire, cases[i].scale_dims, zero_bytes);
        maker_node(&m, "QuantizeLinear", "x,s,z", "q");
        maker_attribute_int(&m, "axis", how->axis < 0 ? 1 : how->axis);
        maker_attribute_int(&m, "block_size", how->block_size);
        maker_node(&m, "DequantizeLinear", "q,s,z", "y");
        maker_attribute_int(&m, "axis", how->axis < 0 ? 1 : how->axis);
        maker_attribute_int(&m, "block_size", how->block_size);
        maker_output(&m, "q", wire, "2,4");
        maker_output(&m, "y", FLOAT, "2,4");
        assert_ok(m.status);
        const kiln_span bytes = maker_span(m.model);
        const kiln_build_options reference = KILN_BUILD_OPTIONS(.backend = "reference");
        owned_engine engine = built_bytes(bytes, &reference);
        owned_context context = context_on(engine);
        const kiln_shape shape = KILN_SHAPE(2, 4);
        const kiln_tensor real =
            KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, shape, numbers, sizeof numbers);
        const kiln_tensor rounded = KILN_HOST_TENSOR(how->storage, shape, stored, sizeof stored);
        const kiln_tensor after = KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, shape, back, sizeof back);
        assert_ok(kiln_context_bind(context, "x", &real));
        assert_ok(kiln_context_run(context));
        assert_ok(kiln_tensor_quantize(&real, how, &rounded));
        assert_ok(kiln_tensor_dequantize(&rounded, how, &after));
        kiln_tensor expected = tensor_in(context, "q");
        assert_memory_equal(stored, expected.data, sizeof stored);
        assert_ok(kiln_context_tensor(context, "y", &expected));
        assert_memory_equal(back, expected.data, sizeof back);
    }
}

TEST(numbers_that_do_not_fit_are_refused)
{
    float numbers[4] = {0, 1, (float)NAN, 3};
    int8_t stored[4];
    const int32_t zero = 5;
    kiln_quantization how = {KILN_DTYPE_INT8, -1, 0, 1, scales, &zero};
    const kiln_tensor real =
        KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(4), numbers, sizeof numbers);
    kiln_tensor to = KILN_HOST_TENSOR(KILN_DTYPE_INT8, KILN_SHAPE(4), stored, sizeof stored);
    assert_ok(kiln_tensor_quantize(&real, &how, &to));
    assert_memory_equal(stored, ((const int8_t[]){5, 7, 5, 11}), 4);
    how.count = 3;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_tensor_quantize(&real, &how, &to), "axis -1");
    how.axis = 0;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_tensor_quantize(&real, &how, &to),
                 "3 scales were given, 4 are needed");
    how.storage = KILN_DTYPE_UINT8;
    assert_fails(KILN_ERROR_DTYPE, kiln_tensor_quantize(&real, &how, &to), "int8", "uint8");
    how.storage = KILN_DTYPE_INT8;
    to.desc.shape = KILN_SHAPE(2, 2);
    assert_fails(KILN_ERROR_SHAPE, kiln_tensor_quantize(&real, &how, &to), "shapes");
}

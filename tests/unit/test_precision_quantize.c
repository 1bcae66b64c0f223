/* SPDX-License-Identifier: Apache-2.0 */
/* Networks in eight and four bits: where QuantizeLinear and DequantizeLinear go, what is computed
 * then, and models in a newer operator set. */

#define KILN_UNSTABLE_API
#include <kiln/unstable/backend_table.h>

#include "context_test.h"
#include "graph_maker.h"
#include "precision/kln_precision.h"
#include "precision_report.h"

#define COUNT 64
#define TEXT ((size_t)1024)

static float waves[4096];

static bool fill_waves(void)
{
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(waves); i++) {
        waves[i] = sinf((float)i * 1.7F) * (1 + (float)(i % 5));
    }
    return true;
}
TESTS_BEGIN(fill_waves)

/* --- the models: x of 1x4x4x4; weights of 0 become waves --- */

#define CONVOLUTIONS                        \
    TWO_WEIGHTS                             \
    "a=Conv(x,w); b=Relu(a); c=Conv(b,v); " \
    "d=Add(c,x); y=GlobalAveragePool(d)"
#define PRODUCT "rows={1,64}; zeros w float32[64,8]; a=Reshape(x,rows); y=MatMul(a,w)"

/* What averages gives eight bits, too, wherever its numbers are moved to. */
#define AVERAGED                                                                                   \
    "zeros w float32[4,4,1,1]; zeros u float32[4,8]; zeros v float32[8,4]; zeros few float32[8]; " \
    "a=Conv(x,w); b=GlobalAveragePool(a); c=Flatten(b); "

/* What projects the result of attention, and what reads that. */
#define ATTENTION_OF(rows, w, u)                                                  \
    "rows={" rows "}; zeros w float32[" w "]; zeros u float32[" u                 \
    "]; "                                                                         \
    "k=Transpose(x) perm=[0,1,3,2]; s=MatMul(x,k); p=Softmax(s); o=MatMul(p,x); " \
    "t=Transpose(o) perm=[0,2,1,3]; e=Reshape(t,rows); g=MatMul(e,w); f=Relu(g); y=MatMul(f,u)"
#define NARROW ATTENTION_OF("4,16", "16,8", "8,8")

/* Channels of x sigmoid(x), scaled by a gate. */
#define GATED                                                                                     \
    "zeros w float32[4,4,1,1]; zeros u float32[2,4,1,1]; zeros v float32[4,2,1,1]; a=Conv(x,w); " \
    "g=Sigmoid(a); c=Mul(a,g); b=GlobalAveragePool(c); h=Conv(b,u); i=Relu(h); j=Conv(i,v); "     \
    "k=Sigmoid(j); y=Mul(k,c)"

/* The same with channels that are no whole blocks of 32, in a block of EfficientNet. */
#define PADDED                                                                                \
    "zeros w float32[60,4,1,1]; zeros u float32[60,1,1,1]; zeros v float32[2,60,1,1]; "       \
    "zeros t float32[60,2,1,1]; zeros p float32[4,60,1,1]; zeros few float32[60]; "           \
    "a=Conv(x,w,few); g=Sigmoid(a); l=Mul(a,g); d=Conv(l,u) group=60; s=Sigmoid(d); "         \
    "q=Mul(d,s); n=GlobalAveragePool(q); h=Conv(n,v); o=Relu(h); j=Conv(o,t); k=Sigmoid(j); " \
    "r=Mul(k,q); y=Conv(r,p)"

/* What a convolution that leaves out pixels gives is read by the kernel of the other one, though
 * that one comes first; there is no range of "m". */
#define STRIDED                                                                            \
    "zeros w float32[4,4,1,1]; zeros u float32[4,4,1,1]; e=MaxPool(x) kernel_shape=[2,2] " \
    "strides=[2,2]; m=Conv(e,w); a=Conv(x,u) strides=[2,2]; y=Add(m,a)"

/* A feed-forward layer with the exact GELU. */
#define FEED_FORWARD                                                                          \
    "rows={16,4}; zeros w float32[4,8]; zeros u float32[8,4]; root={1.41421356}; one={1.0}; " \
    "e=Reshape(x,rows); g=MatMul(e,w); h=Div(g,root); i=Erf(h); j=Add(i,one); f=Mul(g,j); "   \
    "y=MatMul(f,u)"

#define PAIR "QuantizeLinear DequantizeLinear "
#define WHOLE KILN_PRECISION_INT8, 0, 0
#define BESIDE_HALF KILN_PRECISION_INT8, KILN_PRECISION_FP16, 0
#define TWO_WEIGHTS "zeros w float32[4,4,1,1]; zeros v float32[4,4,1,1]; "
#define GELU "MatMul Div Erf Add Mul " PAIR "DequantizeLinear MatMul"
#define ATTENTION "Transpose MatMul Softmax MatMul Transpose Reshape "
#define AVERAGES PAIR "DequantizeLinear Conv " PAIR "GlobalAveragePool " PAIR "Flatten "
#define CLASSIFIES \
    PAIR "DequantizeLinear Conv " PAIR "GlobalAveragePool " PAIR "DequantizeLinear Conv Flatten"

static const struct {
    const char *name, *nodes;
    kiln_precision precision, rest;
    int32_t block;
    const char *graph;
    double tolerance; /* of the largest number */
} cases[] = {
    {"convolutions", CONVOLUTIONS, WHOLE,
     PAIR "DequantizeLinear Conv Relu " PAIR "DequantizeLinear Conv Add " PAIR "GlobalAveragePool",
     0.03},
    {"float8", CONVOLUTIONS, KILN_PRECISION_FP8, 0, 0,
     PAIR "DequantizeLinear Conv Relu " PAIR "DequantizeLinear Conv Add " PAIR "GlobalAveragePool",
     0.2},
    /* Side by side: one range for what is alike, which "x" is not. */
    {"beside",
     "zeros w float32[4,4,1,1]; zeros u float32[4,8,1,1]; a=Conv(x,w); b=Concat(a,x) axis=1; "
     "y=Conv(b,u)",
     WHOLE, PAIR "DequantizeLinear Conv Concat " PAIR "DequantizeLinear Conv", 0.06},
    /* A classifier's last product is a convolution of one pixel. */
    {"classifies", AVERAGED "y=Gemm(c,u,few)", WHOLE, CLASSIFIES, 0.3},
    {"classifies by turned weights", AVERAGED "y=Gemm(c,v) transB=1", WHOLE, CLASSIFIES, 0.3},
    {"classifies by MatMul", AVERAGED "y=MatMul(c,u)", WHOLE, CLASSIFIES, 0.3},
    /* Half of the product is no convolution; sixteenths of numbers with the range of whole ones. */
    {"classifies by half", AVERAGED "y=Gemm(c,u) alpha=0.5", WHOLE,
     AVERAGES PAIR "DequantizeLinear Gemm", 0.3},
    {"classifies in float8", AVERAGED "y=Gemm(c,u,few)", KILN_PRECISION_FP8, 0, 0,
     AVERAGES PAIR "DequantizeLinear Gemm", 0.3},
    {"product", PRODUCT, WHOLE, "Reshape " PAIR "DequantizeLinear MatMul", 0.03},
    {"rest", PRODUCT, BESIDE_HALF, "Cast Reshape " PAIR "DequantizeLinear MatMul", 0.03},
    {"rest of a product in float8", PRODUCT, KILN_PRECISION_FP8, KILN_PRECISION_FP16, 0,
     "Cast Reshape " PAIR "DequantizeLinear MatMul Cast", 0.2},
    /* An output of eight bits' own kernel; not where somebody else reads it in the half type. */
    {"rest behind moves",
     "zeros w float32[4,4,1,1]; c=Conv(x,w); f=Flatten(c); shape=Constant() value_ints=[4,16]; "
     "y=Reshape(f,shape)",
     BESIDE_HALF, PAIR "DequantizeLinear Conv Flatten Constant Reshape", 0.05},
    {"rest that is read", "zeros w float32[4,4,1,1]; y=Conv(x,w); p=Sigmoid(y); out p float32",
     BESIDE_HALF, PAIR "DequantizeLinear Conv Sigmoid Cast Cast", 0.05},
    {"attention", NARROW, WHOLE,
     ATTENTION PAIR "DequantizeLinear MatMul Relu " PAIR "DequantizeLinear MatMul", 0.06},
    {"attention in a half type", NARROW, BESIDE_HALF,
     "Cast " ATTENTION "MatMul Relu " PAIR "DequantizeLinear MatMul", 0.06},
    {"wide attention in a half type", ATTENTION_OF("32,2", "2,1032", "1032,1"), KILN_PRECISION_FP8,
     KILN_PRECISION_FP16, 0,
     "Cast " ATTENTION PAIR "DequantizeLinear MatMul Relu " PAIR "DequantizeLinear MatMul Cast",
     0.2},
    /* A bias that is another one by another name, and one that a caller gets as well. */
    {"aliases",
     "zeros w float32[4,4,1,1]; zeros few float32[4]; bias=Identity(few); again=Identity(bias); "
     "y=Conv(x,w,again); given=Identity(few); out given float32",
     WHOLE, PAIR "DequantizeLinear Conv Identity", 0.05},
    {"gated swish", GATED, WHOLE,
     PAIR "DequantizeLinear Conv Sigmoid Mul " PAIR "GlobalAveragePool " PAIR
          "DequantizeLinear Conv Relu " PAIR "DequantizeLinear Conv Sigmoid " PAIR "Mul",
     0.1},
    {"gated swish in float8", GATED, KILN_PRECISION_FP8, 0, 0,
     PAIR "DequantizeLinear Conv Sigmoid Mul " PAIR "GlobalAveragePool Conv Relu Conv Sigmoid Mul",
     0.2},
    {"padded", PADDED, WHOLE,
     PAIR "DequantizeLinear Conv Sigmoid Mul " PAIR "DequantizeLinear Conv Sigmoid Mul " PAIR
          "GlobalAveragePool " PAIR "DequantizeLinear Conv Relu " PAIR
          "DequantizeLinear Conv Sigmoid " PAIR "Mul " PAIR "DequantizeLinear Conv",
     0.1},
    {"strided sum", STRIDED, WHOLE,
     "MaxPool " PAIR "DequantizeLinear Conv " PAIR "DequantizeLinear Conv " PAIR "Add", 0.05},
    {"kept in a half type", TWO_WEIGHTS "a=Conv(x,w); y=Conv(a,v)", BESIDE_HALF,
     PAIR "DequantizeLinear Conv Conv Cast", 0.05},
    {"gated swish beside a half type", GATED, BESIDE_HALF,
     PAIR "DequantizeLinear Conv Sigmoid Mul " PAIR "GlobalAveragePool " PAIR
          "DequantizeLinear Conv Relu " PAIR "DequantizeLinear Conv Sigmoid " PAIR "Mul",
     0.1},
    /* No cast between a convolution and an activation whose result is quantized. */
    {"activated beside a half type", TWO_WEIGHTS "d=Conv(x,w); c=LeakyRelu(d); y=Conv(c,v)",
     BESIDE_HALF, PAIR "DequantizeLinear Conv LeakyRelu " PAIR "DequantizeLinear Conv", 0.1},
    {"spread out and activated beside a half type",
     TWO_WEIGHTS "d=ConvTranspose(x,w); c=LeakyRelu(d); "
                 "y=Conv(c,v)",
     BESIDE_HALF, PAIR "DequantizeLinear ConvTranspose LeakyRelu " PAIR "DequantizeLinear Conv",
     0.1},
    {"activated by Mish beside a half type", TWO_WEIGHTS "d=Conv(x,w); c=Mish(d); y=Conv(c,v)",
     BESIDE_HALF, PAIR "DequantizeLinear Conv Mish " PAIR "DequantizeLinear Conv", 0.1},
    /* What is dequantized is read in both types. */
    {"gated and read",
     "zeros r float32[4,4,1,1]; " GATED "; p=Conv(c,r); last=Exp(p); out last float32", BESIDE_HALF,
     PAIR "DequantizeLinear Conv Sigmoid Mul " PAIR "GlobalAveragePool " PAIR
          "DequantizeLinear Conv Relu " PAIR "DequantizeLinear Conv Sigmoid " PAIR
          "Mul DequantizeLinear DequantizeLinear Conv Exp Cast",
     0.1},
    {"GELU of int8 in a half type", FEED_FORWARD, BESIDE_HALF, "Cast Reshape " GELU, 0.06},
    {"GELU of float8 in a half type", FEED_FORWARD, KILN_PRECISION_FP8, KILN_PRECISION_FP16, 0,
     "Cast Reshape " GELU " Cast", 0.2},
    {"GELU of float8", FEED_FORWARD, KILN_PRECISION_FP8, 0, 0,
     "Reshape " PAIR "DequantizeLinear MatMul Div Erf Add Mul " PAIR "DequantizeLinear MatMul",
     0.2},
    {"blocks of 32", PRODUCT, KILN_PRECISION_INT4, 0, 32, "Reshape DequantizeLinear MatMul", 0.2},
    {"blocks of 64", PRODUCT, KILN_PRECISION_INT4, KILN_PRECISION_FP16, 0,
     "Cast Reshape DequantizeLinear MatMul Cast", 0.2},
    {"blocks of 16 with zero points", PRODUCT, KILN_PRECISION_INT4, 0, 16,
     "Reshape DequantizeLinear MatMul", 0.1},
};

static void make(graph_maker *m, size_t index)
{
    maker_model(m, strstr(cases[index].nodes, "Mish") != NULL ? 18 : 13, "in x float32[1,4,4,4]");
    maker_text(m, cases[index].nodes);
    maker_output(m, "y", 1, NULL);
    for (size_t i = 0; m->status == KILN_OK && i < m->graph->initializer_count; i++) {
        kiln_span *data = &m->graph->initializers[i].data;
        float first = 0;
        memcpy(&first, data->data, sizeof first);
        if (m->graph->initializers[i].dtype == KILN_DTYPE_FLOAT32 && first == 0) {
            assert_true(data->size <= sizeof waves);
            data->data = waves;
        }
    }
}

static size_t run(const kln_onnx_model *model, double results[COUNT])
{
    int64_t count = 0;
    double numbers[COUNT];
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "reference");
    kiln_engine *engine = built_bytes(maker_span(model), &options);
    kiln_context *context = context_on(engine);
    kiln_tensor tensor = tensor_in(context, "x");
    for (int i = 0; i < COUNT; i++) {
        numbers[i] = cos(i);
    }
    assert_ok(kiln_tensor_write(&tensor, 0, COUNT, numbers));
    assert_ok(kiln_context_run(context));
    assert_ok(kiln_context_tensor(context, "y", &tensor));
    assert_int_equal(tensor.desc.dtype, KILN_DTYPE_FLOAT32);
    assert_ok(kiln_shape_elements(&tensor.desc.shape, &count));
    assert_true(count <= COUNT);
    assert_ok(kiln_tensor_read(&tensor, 0, (size_t)count, results));
    kiln_context_destroy(context);
    kiln_engine_release(engine);
    return (size_t)count;
}

static kiln_range_table *ranges_of(void)
{
    kiln_range_table *ranges = NULL;
    assert_ok(kiln_range_table_create(&ranges));
    assert_ok(kiln_range_table_set(ranges, "x", -1, 1));
    assert_ok(kiln_range_table_set(ranges, "a", -16, 12));
    assert_ok(kiln_range_table_set(ranges, "b", 0, 12));
    assert_ok(kiln_range_table_set(ranges, "c", -12, 12));
    assert_ok(kiln_range_table_set(ranges, "d", -100, 100));
    assert_ok(kiln_range_table_set(ranges, "e", -1, 1));
    assert_ok(kiln_range_table_set(ranges, "f", 0, 24));
    assert_ok(kiln_range_table_set(ranges, "i", 0, 40));
    assert_ok(kiln_range_table_set(ranges, "k", 0, 1));
    assert_ok(kiln_range_table_set(ranges, "l", -30, 30));
    assert_ok(kiln_range_table_set(ranges, "n", -60, 60));
    assert_ok(kiln_range_table_set(ranges, "o", 0, 2000));
    assert_ok(kiln_range_table_set(ranges, "q", -120, 120));
    assert_ok(kiln_range_table_set(ranges, "r", -120, 120));
    return ranges;
}

static kiln_precision_options options_of(size_t index, const kiln_range_table *ranges)
{
    kiln_precision_options how =
        KILN_PRECISION_OPTIONS(.precision = cases[index].precision, .rest = cases[index].rest,
                               .block_size = cases[index].block,
                               .zero_points = strstr(cases[index].name, "zero points") != NULL,
                               .ranges = ranges);
    static const char *const last = "y";
    how.keep_nodes = &last;
    how.keep_node_count = strncmp(cases[index].name, "kept", 4) == 0;
    return how;
}

static void close_to(const char *name, double tolerance, const double *before, const double *after,
                     size_t count)
{
    double most = 0;
    for (size_t i = 0; i < count; i++) {
        most = fmax(most, fabs(before[i]));
    }
    for (size_t i = 0; i < count; i++) {
        if (!(fabs(before[i] - after[i]) <= tolerance * most)) {
            fail_msg("%s: element %zu: %g became %g, the largest is %g", name, i, before[i],
                     after[i], most);
        }
    }
}

/* Nodes may stand in any order in a file. */
static void check_turned(size_t index, const kiln_precision_options *how, const double *expected)
{
    owned_maker m;
    double found[COUNT];
    make(&m, index);
    kln_onnx_graph *graph = &m.model->graph;
    for (size_t a = 0, b = graph->node_count - 1; a < b; a++, b--) {
        const kln_onnx_node node = graph->nodes[a];
        graph->nodes[a] = graph->nodes[b];
        graph->nodes[b] = node;
    }
    assert_ok(kln_precision_convert(m.model, how, NULL));
    const size_t count = run(m.model, found);
    assert_memory_equal(found, expected, count * sizeof *found);
}

/* Five weights and a bias of 60 channels have 64. */
static void check_blocks(const kln_onnx_graph *graph)
{
    size_t blocks = 0;
    for (size_t i = 0; i < graph->initializer_count; i++) {
        const kln_onnx_tensor *tensor = &graph->initializers[i];
        const bool is_scale = strstr(tensor->name, "/scale") != NULL;
        for (size_t k = 0; k < tensor->rank; k++) {
            assert_int_not_equal(tensor->dims[k], 60);
            blocks += tensor->dims[k] == 64 && !is_scale;
        }
    }
    assert_int_equal(blocks, 6);
}

static const kln_onnx_node *maker_of(const kln_onnx_graph *graph, const char *name)
{
    for (size_t i = 0; i < graph->node_count; i++) {
        if (graph->nodes[i].output_count != 0 && strcmp(graph->nodes[i].outputs[0], name) == 0) {
            return &graph->nodes[i];
        }
    }
    return NULL;
}

static double scale_of(const kln_onnx_graph *graph, const kln_onnx_node *node, kiln_dtype *dtype)
{
    for (size_t i = 0; i < graph->initializer_count; i++) {
        const kln_onnx_tensor *tensor = &graph->initializers[i];
        if (strcmp(tensor->name, node->inputs[1]) == 0) {
            float single = 0;
            uint16_t half = 0;
            *dtype = tensor->dtype;
            memcpy(&half, tensor->data.data, sizeof half);
            if (tensor->dtype == KILN_DTYPE_FLOAT32) {
                memcpy(&single, tensor->data.data, sizeof single);
            }
            return (double)(tensor->dtype == KILN_DTYPE_FLOAT32 ? single
                                                                : kln_float_from_half(half));
        }
    }
    fail_msg("%s has no scale", node->name);
    return 0;
}

/* What a convolution in eight bits gives through an activation is quantized in float32, or TensorRT
 * 10.6 builds no plan; and integers mean the same to all that read them, in whatever type. */
static void check_scales(const kln_onnx_graph *graph)
{
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        const kln_onnx_node *maker = maker_of(graph, node->inputs[0]);
        kiln_dtype dtypes[2];
        if (maker == NULL) {
            continue;
        }
        if (kln_onnx_node_is(node, "QuantizeLinear") &&
            KLN_ONNX_NODE_IS_ANY(maker, "Sigmoid", "LeakyRelu", "Mish")) {
            (void)scale_of(graph, node, &dtypes[0]);
            assert_int_equal(dtypes[0], KILN_DTYPE_FLOAT32);
        }
        if (kln_onnx_node_is(maker, "QuantizeLinear")) {
            assert_true(scale_of(graph, node, &dtypes[0]) == scale_of(graph, maker, &dtypes[1]));
        }
    }
}

/* Each node of the report may be named as one that stays. */
static void check_names(size_t index, const kiln_precision_report *report,
                        const kiln_precision_options *how)
{
    owned_maker m;
    const kiln_precision_options kept = keep_converted(report, *how);
    make(&m, index);
    assert_kept(kln_precision_convert(m.model, &kept, NULL));
}

TEST_EACH(pairs_are_placed, i, KLN_ARRAY_LENGTH(cases))
{
    owned_maker m;
    char text[TEXT];
    double before[COUNT];
    double after[COUNT];
    owned_range_table ranges = ranges_of();
    owned_precision_report report = NULL;
    kiln_precision_summary summary = {.struct_size = sizeof summary};
    const kiln_precision_options how = options_of(i, ranges);
    make(&m, i);
    assert_ok(m.status);
    const size_t count = run(m.model, before);
    assert_ok(kln_precision_convert(m.model, &how, &report));
    operators_of(&m.model->graph, text);
    assert_string_equal(text, cases[i].graph);
    check_scales(&m.model->graph);
    assert_constants_are_read(m.model);
    assert_int_equal(run(m.model, after), count);
    close_to(cases[i].name, cases[i].tolerance, before, after, count);
    check_turned(i, &how, after);
    check_names(i, report, &how);
    assert_ok(kiln_precision_report_summary(report, &summary));
    assert_true(summary.converted_count != 0);
    if (strcmp(cases[i].name, "padded") == 0) {
        check_blocks(&m.model->graph);
    }
    if (strncmp(cases[i].nodes, PRODUCT, strlen(PRODUCT)) == 0) {
        /* Eight or four bits for each of 512 weights, and their scales. */
        assert_true(summary.bytes_after * 3 < summary.bytes_before + 256);
    }
}

/* What is read of a Concat has the range of its wider part, 16; a part of 1 keeps its own. */
TEST(concat_shares_a_range)
{
    owned_maker m;
    owned_range_table ranges = ranges_of();
    const kiln_precision_options how = options_of(2, ranges);
    size_t seen = 0;
    make(&m, 2);
    assert_ok(kln_precision_convert(m.model, &how, NULL));
    for (size_t i = 0; i < m.model->graph.initializer_count; i++) {
        const kln_onnx_tensor *tensor = &m.model->graph.initializers[i];
        const bool is_part = strcmp(tensor->name, "x/scale") == 0;
        if (is_part || strcmp(tensor->name, "b/scale") == 0) {
            float scale;
            memcpy(&scale, tensor->data.data, sizeof scale);
            assert_float_equal(scale, (is_part ? 1.0F : 16.0F) / 127, 1e-7F);
            seen++;
        }
    }
    assert_int_equal(seen, 2);
}

TEST(missing_ranges_are_told)
{
    owned_maker m;
    const kiln_precision_options how = options_of(0, NULL);
    make(&m, 0);
    const kln_onnx_node *nodes = m.model->graph.nodes;
    assert_int_equal(kln_precision_convert(m.model, &how, NULL), KILN_ERROR_UNSUPPORTED);
    assert_non_null(strstr(kiln_error_message(), "tensor \"x\""));
    assert_ptr_equal(m.model->graph.nodes, nodes);
}

static kiln_status convert_each(void *user)
{
    const size_t index = *(const size_t *)user;
    owned_maker m;
    owned_range_table ranges = NULL;
    owned_precision_report report = NULL;
    kiln_status status = kiln_range_table_create(&ranges);
    for (const char *const *name = (const char *const[]){"x", "a", "f", NULL};
         status == KILN_OK && *name != NULL; name++) {
        status = kiln_range_table_set(ranges, *name, -1, 1);
    }
    make(&m, index);
    status = status == KILN_OK ? m.status : status;
    if (status == KILN_OK) {
        const kiln_precision_options how = options_of(index, ranges);
        status = kln_precision_convert(m.model, &how, &report);
    }
    if (status == KILN_OK) { /* and what a plan's layer tells of it */
        static const char *const nodes[] = {"a", "y"};
        const kiln_layer_types layer = {.name = "layer",
                                        .nodes = nodes,
                                        .node_count = KLN_ARRAY_LENGTH(nodes),
                                        .gives = UINT64_C(1) << KILN_DTYPE_FLOAT32};
        status = kln_precision_report_layer(report, &layer);
        kln_precision_report_count(report);
    }
    return status;
}

TEST_EACH(allocations_may_fail, i, KLN_ARRAY_LENGTH(cases))
{
    kiln_test_each_allocation(convert_each, &i);
}

/* --- operator sets --- */

static void old_model(graph_maker *m)
{
    maker_model(m, 11,
                "in x float32[1,4,4,4]; a=Squeeze(x) axes=[0]; b=ReduceMean(a) axes=[1]; "
                "c,d=Split(b) axis=0; e=Add(c,d); f=Softmax(e) axis=2; y=Unsqueeze(f) axes=[0]; "
                "out y float32");
}

TEST(operator_sets_are_raised)
{
    static const int64_t versions[] = {13, 18, 21, 22};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(versions); i++) {
        owned_maker m;
        double before[COUNT];
        double after[COUNT];
        old_model(&m);
        assert_ok(m.status);
        m.model->ir_version = 6;
        const size_t count = run(m.model, before);
        assert_ok(kln_raise_opset(m.model, versions[i]));
        assert_int_equal(kln_onnx_opset_version(m.model, ""), versions[i]);
        assert_int_equal(run(m.model, after), count);
        assert_memory_equal(before, after, count * sizeof *before);
    }
    owned_maker m;
    old_model(&m);
    m.model->ir_version = 6;
    m.model->graph.nodes[4].attributes[0].i = 1; /* Softmax over the last two dimensions at once */
    assert_int_equal(kln_raise_opset(m.model, 13), KILN_ERROR_UNSUPPORTED);
    assert_non_null(strstr(kiln_error_message(), "\"f\" (Softmax)"));
    assert_int_equal(kln_onnx_opset_version(m.model, ""), 11);
}

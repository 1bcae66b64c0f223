/* SPDX-License-Identifier: Apache-2.0 */
/* Networks in fp16 and bf16: which nodes, with which casts, and what they compute then. */
#include "context_test.h"
#include "graph_maker.h"
#include "precision/kln_precision.h"
#include "precision_report.h"

#define COUNT 4
#define TEXT ((size_t)1024)

/* --- the models --- */

#define CHAIN "w={0.5,-1.0,2.0,3.0}; a=Mul(x,w); y=Sigmoid(a)"

static const char *const keep_softmax[] = {"Softmax", NULL};
static const char *const keep_a[] = {"a", NULL};

static const struct {
    const char *name, *nodes;
    const char *const *operators; /* that stay, or NULL */
    const char *const *kept_nodes;
    double wide;       /* the range of "a"; 0: none */
    const char *graph; /* what is made of it; a "16" or "32" for the type of a cast */
    size_t kept;
    uint64_t saturated;
    double tolerance; /* of float16, in parts of the largest number */
} cases[] = {
    {"chain", CHAIN, NULL, NULL, 0, "Cast16 Mul Sigmoid Cast32", 0, 0, 2e-3},
    {"kept operator", "a=Tanh(x); b=Softmax(a); y=Neg(b)", keep_softmax, NULL, 0,
     "Cast16 Tanh Cast32 Softmax Cast16 Neg Cast32", 1, 0, 2e-3},
    {"kept node", CHAIN, NULL, keep_a, 0, "Mul Cast16 Sigmoid Cast32", 1, 0, 2e-3},
    {"wide", CHAIN, NULL, NULL, 32753, NULL, 2, 0, 2e-3}, /* nothing is left to convert */
    {"not wide", CHAIN, NULL, NULL, 32751, "Cast16 Mul Sigmoid Cast32", 0, 0, 2e-3},
    /* The size of x in float32, for a scale: 2,049 is no number of float16. */
    {"position",
     "big={2049}; half={0.5}; s=Shape(x); t=Mul(s,big); f=Cast(t) to=1; h=Mul(f,half); "
     "n=Cast(h) to=7; g=Cast(n) to=1; small={0.0001}; k=Mul(g,small); y=Mul(x,k)",
     NULL, NULL, 0, "Shape Mul Cast32 Mul Cast7 Cast32 Mul Cast16 Cast16 Mul Cast32", 4, 0, 2e-3},
    /* A mask of whole numbers is none of those: it ends in a sum. */
    {"mask",
     "in m int64[4]; one={1.0}; low={-3.4e38}; c=Cast(m) to=1; d=Sub(one,c); e=Mul(d,low); "
     "f=Add(x,e); y=Softmax(f)",
     NULL, NULL, 0, "Cast16 Sub Mul Cast16 Add Softmax Cast32", 0, 1, 2e-3},
    {"variance",
     "thousand={1000.0}; two={2.0}; epsilon={1.0e-12}; axes={0}; a=Mul(x,thousand); "
     "b=Pow(a,two); c=ReduceMean(b,axes); d=Add(c,epsilon); e=Sqrt(d); y=Div(a,e)",
     NULL, NULL, 0, "Cast16 Mul Cast32 Pow ReduceMean Add Sqrt Cast16 Div Cast32", 4, 0, 4e-3},
    /* One number beyond is a limit; several are what they are. */
    {"large", "w={1000000.0,1.0,1.0,1.0}; a=Div(x,w); y=Neg(a)", NULL, NULL, 0,
     "Div Cast16 Neg Cast32", 1, 0, 4e-3},
    {"casts that the model has", "a=Tanh(x); b=Cast(a) to=10; c=Cast(b) to=1; y=Neg(c)", NULL, NULL,
     0, "Cast16 Tanh Neg Cast32", 0, 0, 2e-3},
    {"branches",
     "zero={0.0}; a=Tanh(x); t=ReduceMax(a) keepdims=0; p=Greater(t,zero); q=Squeeze(p); "
     "r=If(q) then_branch={then=Neg(a); out then float32[4]} else_branch={else=Exp(a); "
     "out else float32[4]}; y=Neg(r)",
     NULL, NULL, 0, "Cast16 Tanh ReduceMax Greater Squeeze If(Neg)(Exp) Neg Cast32", 0, 0, 2e-3},
    /* What is carried stays in float32, what is collected does not. */
    {"loop",
     "trips=3; a=Tanh(x); b,c=Loop(trips,,a) body={in i int64[]; in go bool[]; in v float32[4]; "
     "on=Identity(go); w=Add(v,a); u=Neg(w); out on bool[]; out w float32[4]; out u float32[4]}; "
     "axes={0}; d=ReduceMax(c,axes) keepdims=0; y=Add(b,d)",
     NULL, NULL, 0,
     "Cast16 Tanh Cast32 Loop(Identity Cast16 Add Neg Cast32) ReduceMax Cast16 Add Cast32", 1, 0,
     4e-3},
    /* A constant that is read in both types, and an output that is read on. */
    {"both",
     "w={0.5,-1.0,2.0,3.0}; z=Mul(x,w); out z float32[4]; a=CumSum(z,axis); axis=0; b=Add(a,w); "
     "c=Mul(b,z); y=Add(c,z)",
     NULL, NULL, 0, "Cast16 Mul Cast32 CumSum Cast16 Add Mul Add Cast32", 1, 0, 4e-3},
};

static void make(graph_maker *m, size_t index)
{
    maker_model(m, 22, "in x float32[4]");
    maker_text(m, cases[index].nodes);
    maker_output(m, "y", 1, "4");
    assert_ok(m->status);
}

/* --- what is made of them --- */

static void write_graph(const kln_onnx_graph *graph, char text[TEXT])
{
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        const kln_onnx_attribute *to = kln_onnx_find_attribute(node, "to");
        size_t used = strlen(text);
        (void)snprintf(text + used, TEXT - used, "%s%s", i == 0 ? "" : " ", node->op_type);
        if (to != NULL) {
            used = strlen(text);
            (void)snprintf(text + used, TEXT - used, "%d",
                           to->i == 1                   ? 32
                           : to->i == 10 || to->i == 16 ? 16
                                                        : (int)to->i);
        }
        for (size_t k = 0; k < node->attribute_count; k++) {
            if (node->attributes[k].type == KLN_ONNX_ATTRIBUTE_GRAPH) {
                (void)strncat(text, "(", TEXT - strlen(text) - 1);
                write_graph(node->attributes[k].graph, text);
                (void)strncat(text, ")", TEXT - strlen(text) - 1);
            }
        }
    }
}

static kiln_precision_options options_of(size_t index, kiln_precision precision,
                                         kiln_range_table *ranges)
{
    return KILN_PRECISION_OPTIONS(.precision = precision, .keep_operators = cases[index].operators,
                                  .keep_operator_count = cases[index].operators != NULL,
                                  .keep_nodes = cases[index].kept_nodes,
                                  .keep_node_count = cases[index].kept_nodes != NULL,
                                  .ranges = ranges);
}

static void run(const kln_onnx_model *model, double results[COUNT])
{
    static const double numbers[COUNT] = {1.5, -0.25, 3, 0.125};
    kiln_build_options options = backend_options("reference");
    owned_engine engine = built_bytes(maker_span(model), &options);
    owned_context context = context_on(engine);
    kiln_tensor tensor = tensor_in(context, "x");
    assert_int_equal(tensor.desc.dtype, KILN_DTYPE_FLOAT32);
    assert_ok(kiln_tensor_write(&tensor, 0, COUNT, numbers));
    if (kiln_context_tensor(context, "m", &tensor) == KILN_OK) {
        static const double ones[COUNT] = {1, 1, 0, 1};
        assert_ok(kiln_tensor_write(&tensor, 0, COUNT, ones));
    }
    assert_ok(kiln_context_run(context));
    assert_ok(kiln_context_tensor(context, "y", &tensor));
    assert_int_equal(tensor.desc.dtype, KILN_DTYPE_FLOAT32);
    assert_ok(kiln_tensor_read(&tensor, 0, COUNT, results));
}

static void check_results(size_t index, double tolerance, const double *before, const double *after)
{
    double most = 0;
    for (int i = 0; i < COUNT; i++) {
        most = fmax(most, fabs(before[i]));
    }
    for (int i = 0; i < COUNT; i++) {
        if (!(fabs(before[i] - after[i]) <= tolerance * most)) {
            fail_msg("%s: %g became %g", cases[index].name, before[i], after[i]);
        }
    }
}

static void check_case(size_t index, kiln_precision precision)
{
    owned_maker m;
    char text[TEXT] = "";
    double before[COUNT];
    double after[COUNT];
    owned_range_table ranges = NULL;
    owned_precision_report report = NULL;
    kiln_precision_summary summary = {.struct_size = sizeof summary};
    make(&m, index);
    run(m.model, before);
    if (cases[index].wide != 0) {
        assert_ok(kiln_range_table_create(&ranges));
        assert_ok(kiln_range_table_set(ranges, "a", -cases[index].wide, 1));
    }
    const kiln_precision_options how = options_of(index, precision, ranges);
    const kiln_status status = kln_precision_convert(m.model, &how, &report);
    if (cases[index].graph == NULL && precision == KILN_PRECISION_FP16) {
        assert_int_equal(status, KILN_ERROR_UNSUPPORTED);
        assert_non_null(strstr(kiln_error_message(), "range of a tensor"));
        return;
    }
    assert_ok(status);
    assert_constants_are_read(m.model);
    run(m.model, after);
    check_results(index, cases[index].tolerance * (precision == KILN_PRECISION_FP16 ? 1 : 10),
                  before, after);
    if (precision == KILN_PRECISION_FP16) {
        write_graph(&m.model->graph, text);
        assert_string_equal(text, cases[index].graph);
        assert_ok(kiln_precision_report_summary(report, &summary));
        assert_int_equal(summary.kept_count, cases[index].kept);
        assert_int_equal(summary.saturated, cases[index].saturated);
    }
}

TEST_EACH(nodes_are_chosen, i, KLN_ARRAY_LENGTH(cases))
{
    check_case(i, KILN_PRECISION_FP16);
    check_case(i, KILN_PRECISION_BF16);
}

static kiln_status convert_each(void *user)
{
    const size_t *index = user;
    owned_maker m;
    owned_precision_report report = NULL;
    maker_model(&m, 22, "in x float32[4]");
    maker_text(&m, cases[*index].nodes);
    maker_output(&m, "y", 1, "4");
    kiln_status status = m.status;
    if (status == KILN_OK) {
        const kln_onnx_node *nodes = m.model->graph.nodes;
        const kiln_precision_options how = options_of(*index, KILN_PRECISION_FP16, NULL);
        status = kln_precision_convert(m.model, &how, &report);
        assert_true(status == KILN_OK || m.model->graph.nodes == nodes);
    }
    return status;
}

TEST_EACH(allocations_may_fail, i, KLN_ARRAY_LENGTH(cases))
{
    kiln_test_each_allocation(convert_each, &i);
}

/* --- the rest --- */

TEST(bindings_are_converted)
{
    owned_maker m;
    make(&m, 0);
    kiln_precision_options how = options_of(0, KILN_PRECISION_FP16, NULL);
    how.convert_bindings = true;
    assert_ok(kln_precision_convert(m.model, &how, NULL));
    assert_int_equal(m.model->graph.node_count, 2);
    assert_int_equal(m.model->graph.inputs[0].type.dtype, KILN_DTYPE_FLOAT16);
    assert_int_equal(m.model->graph.outputs[0].type.dtype, KILN_DTYPE_FLOAT16);
}

TEST(what_is_wrong_is_told)
{
    static const char *const wrong[] = {"Sofmax"};
    owned_maker m;
    make(&m, 0);
    for (kiln_precision precision = KILN_PRECISION_FP16; precision <= KILN_PRECISION_INT4;
         precision++) {
        for (size_t nodes = 0; nodes < 2; nodes++) {
            kiln_precision_options how = KILN_PRECISION_OPTIONS(.precision = precision);
            how.keep_operators = how.keep_nodes = wrong;
            how.keep_node_count = nodes;
            how.keep_operator_count = 1 - nodes;
            assert_int_equal(kln_precision_convert(m.model, &how, NULL), KILN_ERROR_NAME);
            assert_non_null(strstr(kiln_error_message(), "\"Sofmax\""));
            assert_int_equal(m.model->graph.node_count, 2);
        }
    }
}

/* y = twice(x), where twice(v) = v + v is the model's own. */
TEST(functions_are_inlined)
{
    owned_maker m;
    double before[COUNT];
    double after[COUNT];
    char text[TEXT] = "";
    size_t inlined = 0;
    maker_model(&m, 22, "w=Add(v,v)");
    kln_onnx_function twice = {.name = "twice",
                               .domain = "own",
                               .overload = "",
                               .inputs = (const char *[]){"v"},
                               .input_count = 1,
                               .outputs = (const char *[]){"w"},
                               .output_count = 1,
                               .opsets = m.model->opsets,
                               .opset_count = m.model->opset_count,
                               .body = m.model->graph};
    m.model->graph.nodes = NULL;
    m.model->graph.node_count = m.model->graph.node_capacity = 0;
    maker_text(&m, "in x float32[4]; z=twice(x)");
    m.node->domain = "own";
    maker_node(&m, "twice", "z", "y");
    m.node->domain = "own";
    maker_output(&m, "y", 1, "4");
    assert_ok(m.status);
    kln_onnx_opset opsets[] = {m.model->opsets[0], {.domain = "own", .version = 1}};
    m.model->opsets = opsets;
    m.model->opset_count = 2;
    m.model->functions = &twice;
    m.model->function_count = 1;
    run(m.model, before);
    assert_ok(kln_inline_functions(m.model, &inlined));
    assert_int_equal(inlined, 2);
    const kiln_precision_options how = options_of(0, KILN_PRECISION_FP16, NULL);
    assert_ok(kln_precision_convert(m.model, &how, NULL));
    write_graph(&m.model->graph, text);
    assert_string_equal(text, "Cast16 Add Add Cast32");
    run(m.model, after);
    check_results(0, 1e-3, before, after);
}

/* Through the options of a build, which refuses what it cannot do. */
TEST(builds_are_converted)
{
    owned_model saved = NULL;
    char text[TEXT] = "";
    owned_maker m;
    make(&m, 0);
    const kiln_span written = maker_span(m.model);
    kiln_build_options options =
        KILN_BUILD_OPTIONS(.backend = "reference", .precision = KILN_PRECISION_FP16);
    owned_engine engine = built_bytes(written, &options);
    const kiln_span bytes = saved_bytes(engine);
    assert_ok(kln_onnx_read_bytes(bytes, NULL, &saved));
    write_graph(&saved->graph, text);
    assert_string_equal(text, cases[0].graph);
}

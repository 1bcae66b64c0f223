/* SPDX-License-Identifier: Apache-2.0 */
#include "validate_test.h"

TEST(good_networks_have_none)
{
    owned_maker m;
    maker_model(&m, 17, XY "y=Relu(x)");
    kiln_issue_list *issues = validate(&m, NULL);
    print(issues);
    assert_int_equal(0, kiln_issue_list_count(issues));
    assert_int_equal(0, kiln_issue_list_errors(issues));
    assert_null(kiln_issue_list_get(issues, 0));
    assert_ok(kln_issues_status(issues));
    kiln_issue_list_destroy(issues);
    kiln_issue_list_destroy(NULL);
    assert_int_equal(0, kiln_issue_list_count(NULL));
    assert_int_equal(0, kiln_issue_list_errors(NULL));
    assert_null(kiln_issue_list_get(NULL, 0));
    assert_string_equal("cycle", kiln_issue_kind_name(KILN_ISSUE_CYCLE));
    assert_string_equal("?", kiln_issue_kind_name((kiln_issue_kind)99));
}

TEST(names_are_checked)
{
    static const fault faults[] = {
        {XY "y=Add(x,nowhere)", KILN_ISSUE_UNKNOWN_NAME,
         "\"nowhere\", is neither computed nor given"},
        {XY "y=Relu(x); out missing float32", KILN_ISSUE_MISSING_OUTPUT, "output \"missing\""},
        {XY "y=Relu(x); out y float32", KILN_ISSUE_DUPLICATE_NAME, "\"y\" is listed twice"},
    };
    expect_faults(faults, KLN_ARRAY_LENGTH(faults));
    owned_maker m;
    maker_model(&m, 17, XY "y=Relu(x); y=Neg(x)");
    m.model->graph.nodes[1].name = "another";
    expect_error(&m, KILN_ISSUE_DUPLICATE_NAME, "\"y\"");

    maker_model(&m, 17, XY "y=Relu(x); z=Neg(y)");
    m.model->graph.nodes[1].name = m.model->graph.nodes[0].name;
    maker_output(&m, "z", 1, NULL);
    kiln_issue_list *twice = validate(&m, NULL);
    assert_int_equal(kiln_issue_list_errors(twice), 0);
    assert_non_null(find(twice, KILN_ISSUE_DUPLICATE_NAME, ""));
    kiln_issue_list_destroy(twice);
    const kln_validate_options insists = {.backend = "strict", .unique_node_names = true};
    twice = validate(&m, &insists);
    assert_int_equal(kiln_issue_list_errors(twice), 1);
    kiln_issue_list_destroy(twice);
    maker_end(&m);

    maker_model(&m, 17, "in x float32[2,3]; y=Relu(x)");
    owned_issue_list issues = validate(&m, NULL);
    assert_non_null(find(issues, KILN_ISSUE_NO_OUTPUTS, ""));
}

/* Among whatever else is said. */
static void expect_name(graph_maker *m, kiln_severity severity, const char *words)
{
    owned_issue_list issues = validate(m, NULL);
    bool found = false;
    for (size_t i = 0; i < kiln_issue_list_count(issues); i++) {
        const kiln_issue *issue = kiln_issue_list_get(issues, i);
        found = found || (issue->kind == KILN_ISSUE_NAME && issue->severity == severity &&
                          strstr(issue->sentence, words) != NULL);
    }
    if (!found) {
        print_error("no name \"%s\" in:\n", words);
        print(issues);
        fail();
    }
    maker_end(m);
}

TEST(what_has_no_name_is_found)
{
    graph_maker m;
    maker_model(&m, 17, XY "in z float32[2]; y=Relu(x)");
    m.graph->inputs[1].name = "";
    expect_name(&m, KILN_SEVERITY_ERROR, "input 1 has no name");

    maker_model(&m, 17, XY "out z float32; y=Relu(x)");
    m.graph->outputs[1].name = "";
    expect_name(&m, KILN_SEVERITY_ERROR, "output 1 has no name");

    maker_model(&m, 17, XY "zeros w float32[2]; y=Relu(x)");
    m.graph->initializers[0].name = "";
    expect_name(&m, KILN_SEVERITY_ERROR, "initializer 0 has no name");

    maker_model(&m, 17, XY "y=Relu(x)");
    m.node->op_type = "";
    expect_name(&m, KILN_SEVERITY_ERROR, "it names no operator");

    maker_model(&m, 17, XY "y=Relu(x)");
    m.graph->name = "";
    expect_name(&m, KILN_SEVERITY_WARNING, "the graph has no name");
}

TEST(types_that_attributes_name_are_checked)
{
    static const fault faults[] = {
        {XY "zeros g float32[3]; y,m=LayerNormalization(x,g) stash_type=11", KILN_ISSUE_VALUE,
         "attribute \"stash_type\" is float64; allowed are float32, bfloat16"},
        {XY "zeros g float32[3]; y=LayerNormalization(x,g) stash_type=7", KILN_ISSUE_VALUE,
         "attribute \"stash_type\" is int64; allowed are float32, float16, float64, bfloat16"},
        {"s=SequenceEmpty() dtype=77; y=SequenceLength(s); out y int64[]", KILN_ISSUE_VALUE,
         "attribute \"dtype\" is 77, which is no data type of ONNX; allowed are"},
        {"s=SequenceEmpty() dtype=16; y=SequenceLength(s); out y int64[]", KILN_ISSUE_VALUE,
         "attribute \"dtype\" is bfloat16; allowed are"},
    };
    expect_faults(faults, KLN_ARRAY_LENGTH(faults));
}

TEST(order_is_checked)
{
    static const fault faults[] = {
        {XY "y=Neg(a); a=Relu(x)", KILN_ISSUE_ORDER,
         "stands before the node that computes its input \"a\""},
        {XY "a=Add(x,c); b=Relu(a); c=Neg(b); y=Neg(c)", KILN_ISSUE_CYCLE, "wait for each other"},
        {XY "y=Add(x,y)", KILN_ISSUE_CYCLE, "\"y\" waits for \"y\""},
        /* Through a subgraph. */
        {"in which bool[]; y=If(which) then_branch={t=Relu(late); out t} "
         "else_branch={e=Neg(late); out e}; late=Relu(y); out late",
         KILN_ISSUE_CYCLE, "\"late\""},
    };
    expect_faults(faults, KLN_ARRAY_LENGTH(faults));
}

TEST(types_are_checked)
{
    static const fault faults[] = {
        {XY "zeros b int64[3]; y=Add(x,b)", KILN_ISSUE_DTYPE,
         "is int64, but \"x\" is float32; they must be of one type"},
        {"in x bool[2,3]; y=Softmax(x); out y", KILN_ISSUE_DTYPE, "is bool[2,3]; allowed are"},
        {XY "y=Cast(x) to=7", KILN_ISSUE_DTYPE, "\"y\" is int64[2,3], but is declared as float32"},
        {"in x; y=Relu(x); out y", KILN_ISSUE_DTYPE, "input \"x\" has no data type"},
    };
    expect_faults(faults, KLN_ARRAY_LENGTH(faults));
}

TEST(shapes_are_checked)
{
    static const fault faults[] = {
        {XY "zeros b float32[4]; y=Add(x,b)", KILN_ISSUE_SHAPE,
         "dimensions that broadcast must be the same: 3 and 4"},
        {XY "zeros b float32[4,5]; y=MatMul(x,b)", KILN_ISSUE_SHAPE,
         "multiplied and summed must be the same: 3 and 4"},
        {XY "zeros w float32[4,3,3,3]; y=Conv(x,w)", KILN_ISSUE_RANK,
         "\"w\" must have 2 dimensions, but has 4"},
        {XY "to={4,-1}; y=Reshape(x,to)", KILN_ISSUE_SHAPE, "6 elements cannot be divided"},
        {XY "y=Transpose(x) perm=[1,1]", KILN_ISSUE_VALUE, "names dimension 1 twice"},
        {"zeros indices int64[4]; zeros values float32[3]; depth=5; "
         "y=OneHot(indices,depth,values); out y",
         KILN_ISSUE_SHAPE, "dimension 0 of \"values\" must be 2, but is 3"},
        {"zeros images float32[1,3,8,8]; zeros boxes float32[5,4]; zeros batches int64[6]; "
         "y=RoiAlign(images,boxes,batches); out y",
         KILN_ISSUE_SHAPE,
         "dimension 0 of \"batches\" is 6, and dimension 0 of \"boxes\" is 5; they must be "
         "the same"},
        {"zeros v float32[3]; y=Trilu(v); out y", KILN_ISSUE_RANK,
         "\"v\" must have at least 2 dimensions, but has 1"},
        {XY "y=Softmax(x); z=Concat(x,y) axis=2; out z", KILN_ISSUE_VALUE,
         "axis 2 is outside -2 to 1"},
        {XY "s={2,-7}; y=Reshape(x,s)", KILN_ISSUE_VALUE,
         "\"shape\" needs at least -1, and has -7"},
        {XY "s={2,-1}; y=Expand(x,s)", KILN_ISSUE_VALUE, "\"s\" needs at least 0, and has -1"},
        {XY "s={-1,3}; y=Resize(x,,,s)", KILN_ISSUE_SHAPE,
         "dimension 0 of \"x\" is 2, which cannot become -1"},
        {XY "s={1.0,-0.5}; y=Resize(x,,s)", KILN_ISSUE_VALUE, "dimension 1 is scaled by -0.5"},
        {"in i int64[4]; d=-1; zeros v float32[2]; y=OneHot(i,d,v); out y", KILN_ISSUE_VALUE,
         "\"d\" needs at least 0, and has -1"},
        {"in p float32[2,3]; y=Multinomial(p) dtype=1; out y", KILN_ISSUE_DTYPE,
         "attribute \"dtype\" is float32; allowed are int32, int64"},
        {"n=5; y=HannWindow(n) output_datatype=9; out y", KILN_ISSUE_DTYPE,
         "attribute \"output_datatype\" is bool; allowed are"},
        {"in p float32[1,4,2,2]; y=LRN(p) size=0; out y", KILN_ISSUE_VALUE,
         "\"size\" needs at least 1, and has 0"},
        {"in x float32[2,3]; zeros k int64[2]; y=Trilu(x,k); out y", KILN_ISSUE_SHAPE,
         "dimension 0 of \"k\" must be 1, but is 2"},
        {"zeros n int64[0]; y=HannWindow(n); out y", KILN_ISSUE_SHAPE,
         "dimension 0 of \"n\" must be 1, but is 0"},
        {"in x float32[1,4,1]; zeros k int64[0]; y=DFT(x,k); out y", KILN_ISSUE_SHAPE,
         "dimension 0 of \"k\" must be 1, but is 0"},
        {"in b float32[1,5,4]; in s float32[1,2,5]; zeros k int64[3]; "
         "y=NonMaxSuppression(b,s,k); out y",
         KILN_ISSUE_SHAPE, "dimension 0 of \"k\" must be 1, but is 3"},
        {"in x uint8[4]; zeros s float32[2]; zeros z uint8[]; y=ms.QLinearSigmoid(x,s,z,s,z); "
         "out y",
         KILN_ISSUE_SHAPE, "dimension 0 of \"s\" must be 1, but is 2"},
        {"in x uint8[4]; zeros s float32[2]; zeros z uint8[]; y=ms.QLinearConcat(s,z,x,s,z) "
         "axis=0; out y",
         KILN_ISSUE_SHAPE, "a scale or zero point and one"},
        {"in a uint8[2,4]; in b uint8[4,3]; zeros s float32[]; zeros t float32[2]; "
         "y=ms.MatMulIntegerToFloat(a,b,s,t); out y",
         KILN_ISSUE_SHAPE, "the scales or zero points and the rows or columns"},
    };
    expect_faults(faults, KLN_ARRAY_LENGTH(faults));
}

/* Both backends run these: what a node computes counts, whatever shape is declared. */
TEST(declared_shapes_that_contradict_are_warned_of)
{
    static const char *const outputs[] = {"float32[2,4]", "float32[2,3,1]"};
    static const char *const conditions[] = {"in which bool[]; ", "zeros which bool[]; "};
    for (size_t i = 0; i < 4; i++) {
        graph_maker m;
        const char *output = outputs[i % 2];
        const kiln_issue_kind kind = i % 2 == 0 ? KILN_ISSUE_SHAPE : KILN_ISSUE_RANK;
        const char *words = KLN_PRINTED("is float32[2,3], but is declared as %s", output);
        maker_model(&m, 17, "in x float32[2,3]; y=Relu(x)");
        maker_text(&m, KLN_PRINTED("out y %s", output));
        expect_warning(&m, kind, words);

        maker_model(&m, 17, "in x float32[2,3]; out y float32");
        maker_text(&m, conditions[i / 2]);
        maker_text(&m, i % 2 == 0 ? "y=If(which) then_branch={t=Neg(x); out t} "
                                    "else_branch={e=Abs(x); out e float32[2,4]}"
                                  : "y=If(which) then_branch={t=Neg(x); out t} "
                                    "else_branch={e=Abs(x); out e float32[2,3,1]}");
        expect_warning(&m, kind, words);
    }
}

TEST(operators_are_checked)
{
    static const fault faults[] = {
        {XY "y=Relux(x)", KILN_ISSUE_UNKNOWN_OPERATOR, "no operator of this name"},
        {XY "y=Gelu(x)", KILN_ISSUE_UNKNOWN_OPERATOR, "not in version 17 of its operator set yet"},
        {XY "y=Relu(x,x)", KILN_ISSUE_ARITY, "it has 2 inputs, but takes 1"},
        {XY "y=Where(,x,x)", KILN_ISSUE_ARITY, "input 0, \"condition\", is required, but left out"},
        {XY "y=Relu(x) speed=9", KILN_ISSUE_ATTRIBUTE, "has no attribute \"speed\""},
        {"in p float32[1,4,8,8]; y=AveragePool(p) kernel_shape=[2,2] dilations=[2,2]; out y",
         KILN_ISSUE_OPSET, "has no attribute \"dilations\" in version 11, but in 19"},
        {XY "y=Elu(x) alpha=1", KILN_ISSUE_ATTRIBUTE,
         "\"alpha\" is an integer, but must be a float"},
        {XY "y=Concat(x,x)", KILN_ISSUE_ATTRIBUTE, "\"axis\" is required, but missing"},
    };
    expect_faults(faults, KLN_ARRAY_LENGTH(faults));
    owned_maker m;
    maker_model(&m, 17, XY "y=Gelu(x)");
    m.node->domain = "com.microsoft";
    expect_error(&m, KILN_ISSUE_OPSET, "does not import operator set \"com.microsoft\"");

    maker_model(&m, 17, XY "y=Irfft(x)");
    m.node->domain = "com.microsoft";
    kln_onnx_opset imports[] = {{.domain = "", .version = 17},
                                {.domain = "com.microsoft", .version = 1}};
    m.model->opsets = imports;
    m.model->opset_count = 2;
    expect_warning(&m, KILN_ISSUE_UNKNOWN_OPERATOR, "what it gives is not inferred");

    maker_model(&m, 99, "in x float32[2]; y=Relu(x); out y float32[2]");
    expect_warning(&m, KILN_ISSUE_OPSET, "version 99");

    maker_model(&m, 17, XY "y=Relu(x)");
    m.model->opset_count = 0;
    owned_issue_list issues = validate(&m, NULL);
    assert_non_null(find(issues, KILN_ISSUE_OPSET, "opset_import"));
}

TEST(weights_are_checked)
{
    static const fault faults[] = {
        {XY "zeros scale float32[4]; q=QuantizeLinear(x,scale); zeros scale3 float32[3]; "
            "y=DequantizeLinear(q,scale3)",
         KILN_ISSUE_QUANTIZATION, "\"scale\" has 4 scales, but dimension 1"},
        {XY "zeros scale float32[3]; zeros zero int8[2]; q=QuantizeLinear(x,scale,zero); "
            "y=DequantizeLinear(q,scale)",
         KILN_ISSUE_QUANTIZATION, "zero points \"zero\" are int8[2]"},
        {"in x float32[2,3]; out y uint8; zeros scale float32[2,3]; y=QuantizeLinear(x,scale)",
         KILN_ISSUE_RANK, "\"scale\" must have 0 to 1 dimensions, but has 2"},
        {"in x float32[2,3]; out y int16; zeros scale float32[]; zeros zero int16[]; "
         "y=QuantizeLinear(x,scale,zero)",
         KILN_ISSUE_OPSET, "is int16[]; allowed are uint8, int8, and this from version 21 on"},
    };
    expect_faults(faults, KLN_ARRAY_LENGTH(faults));
    graph_maker m;
    maker_model(&m, 17, XY "zeros b float32[3]; y=Add(x,b)");
    m.graph->initializers[0].data.size = 8;
    expect_error(&m, KILN_ISSUE_WEIGHTS, "have 8 bytes, but their type and shape need 12 bytes");

    maker_model(&m, 17, XY "zeros b float32[3]; y=Relu(x)");
    expect_warning(&m, KILN_ISSUE_UNUSED, "weights \"b\" are never read");

    maker_model(&m, 17, XY "y=Relu(x); dangling=Neg(x)");
    expect_warning(&m, KILN_ISSUE_UNUSED, "nothing reads what it computes");

    maker_model(&m, 17, XY "in idle float32[2]; y=Relu(x)");
    expect_warning(&m, KILN_ISSUE_UNUSED, "input \"idle\" is never read");
}

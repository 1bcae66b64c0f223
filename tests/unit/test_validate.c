/* SPDX-License-Identifier: Apache-2.0 */
#include "validate_test.h"

TEST(good_networks_have_none)
{
    owned_maker m;
    begin(&m);
    maker_node(&m, "Relu", "x", "y");
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
    owned_maker m;
    begin(&m);
    maker_node(&m, "Add", "x,nowhere", "y");
    expect_error(&m, KILN_ISSUE_UNKNOWN_NAME, "\"nowhere\", is neither computed nor given");

    begin(&m);
    maker_node(&m, "Relu", "x", "y");
    maker_output(&m, "missing", 1, NULL);
    expect_error(&m, KILN_ISSUE_MISSING_OUTPUT, "output \"missing\"");

    begin(&m);
    maker_node(&m, "Relu", "x", "y");
    maker_node(&m, "Neg", "x", "y");
    m.model->graph.nodes[1].name = "another";
    expect_error(&m, KILN_ISSUE_DUPLICATE_NAME, "\"y\"");

    begin(&m);
    maker_node(&m, "Relu", "x", "y");
    maker_output(&m, "y", 1, NULL);
    expect_error(&m, KILN_ISSUE_DUPLICATE_NAME, "\"y\" is listed twice");

    begin(&m);
    maker_node(&m, "Relu", "x", "y");
    maker_node(&m, "Neg", "y", "z");
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

    maker_begin(&m, 17);
    maker_input(&m, "x", 1, "2,3");
    maker_node(&m, "Relu", "x", "y");
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
    begin(&m);
    maker_input(&m, "z", 1, "2");
    maker_node(&m, "Relu", "x", "y");
    m.graph->inputs[1].name = "";
    expect_name(&m, KILN_SEVERITY_ERROR, "input 1 has no name");

    begin(&m);
    maker_output(&m, "z", 1, NULL);
    maker_node(&m, "Relu", "x", "y");
    m.graph->outputs[1].name = "";
    expect_name(&m, KILN_SEVERITY_ERROR, "output 1 has no name");

    begin(&m);
    maker_weights(&m, "w", 1, "2");
    maker_node(&m, "Relu", "x", "y");
    m.graph->initializers[0].name = "";
    expect_name(&m, KILN_SEVERITY_ERROR, "initializer 0 has no name");

    begin(&m);
    maker_node(&m, "Relu", "x", "y");
    m.node->op_type = "";
    expect_name(&m, KILN_SEVERITY_ERROR, "it names no operator");

    begin(&m);
    maker_node(&m, "Relu", "x", "y");
    m.graph->name = "";
    expect_name(&m, KILN_SEVERITY_WARNING, "the graph has no name");
}

TEST(order_is_checked)
{
    graph_maker m;
    begin(&m);
    maker_node(&m, "Neg", "a", "y");
    maker_node(&m, "Relu", "x", "a");
    expect_error(&m, KILN_ISSUE_ORDER, "stands before the node that computes its input \"a\"");

    begin(&m);
    maker_node(&m, "Add", "x,c", "a");
    maker_node(&m, "Relu", "a", "b");
    maker_node(&m, "Neg", "b", "c");
    maker_node(&m, "Neg", "c", "y");
    expect_error(&m, KILN_ISSUE_CYCLE, "wait for each other");

    begin(&m);
    maker_node(&m, "Add", "x,y", "y");
    expect_error(&m, KILN_ISSUE_CYCLE, "\"y\" waits for \"y\"");

    /* Through a subgraph. */
    kln_onnx_graph *outer = NULL;
    maker_begin(&m, 17);
    maker_input(&m, "which", 9, "");
    maker_node(&m, "If", "which", "y");
    maker_enter(&m, "then_branch", &outer);
    maker_node(&m, "Relu", "late", "t");
    maker_output(&m, "t", 0, NULL);
    maker_leave(&m, outer);
    maker_enter(&m, "else_branch", &outer);
    maker_node(&m, "Neg", "late", "e");
    maker_output(&m, "e", 0, NULL);
    maker_leave(&m, outer);
    maker_node(&m, "Relu", "y", "late");
    maker_output(&m, "late", 0, NULL);
    expect_error(&m, KILN_ISSUE_CYCLE, "\"late\"");
}

TEST(types_are_checked)
{
    graph_maker m;
    begin(&m);
    maker_weights(&m, "b", 7, "3");
    maker_node(&m, "Add", "x,b", "y");
    expect_error(&m, KILN_ISSUE_DTYPE, "is int64, but \"x\" is float32; they must be of one type");

    maker_begin(&m, 17);
    maker_input(&m, "x", 9, "2,3");
    maker_node(&m, "Softmax", "x", "y");
    maker_output(&m, "y", 0, NULL);
    expect_error(&m, KILN_ISSUE_DTYPE, "is bool[2,3]; allowed are");

    begin(&m);
    maker_node(&m, "Cast", "x", "y");
    maker_attribute_int(&m, "to", 7);
    expect_error(&m, KILN_ISSUE_DTYPE, "\"y\" is int64[2,3], but is declared as float32");

    maker_begin(&m, 17);
    maker_input(&m, "x", 0, NULL);
    maker_node(&m, "Relu", "x", "y");
    maker_output(&m, "y", 0, NULL);
    expect_error(&m, KILN_ISSUE_DTYPE, "input \"x\" has no data type");
}

TEST(shapes_are_checked)
{
    graph_maker m;
    begin(&m);
    maker_weights(&m, "b", 1, "4");
    maker_node(&m, "Add", "x,b", "y");
    expect_error(&m, KILN_ISSUE_SHAPE, "dimensions that broadcast must be the same: 3 and 4");

    begin(&m);
    maker_weights(&m, "b", 1, "4,5");
    maker_node(&m, "MatMul", "x,b", "y");
    expect_error(&m, KILN_ISSUE_SHAPE, "multiplied and summed must be the same: 3 and 4");

    begin(&m);
    maker_weights(&m, "w", 1, "4,3,3,3");
    maker_node(&m, "Conv", "x,w", "y");
    expect_error(&m, KILN_ISSUE_RANK, "\"w\" must have 2 dimensions, but has 4");

    begin(&m);
    maker_ints(&m, "to", 2, (int64_t[]){4, -1});
    maker_node(&m, "Reshape", "x,to", "y");
    expect_error(&m, KILN_ISSUE_SHAPE, "6 elements cannot be divided");

    begin(&m);
    maker_node(&m, "Transpose", "x", "y");
    maker_attribute_ints(&m, "perm", 2, (int64_t[]){1, 1});
    expect_error(&m, KILN_ISSUE_VALUE, "names dimension 1 twice");

    maker_begin(&m, 17);
    maker_weights(&m, "indices", 7, "4");
    maker_weights(&m, "values", 1, "3");
    maker_int(&m, "depth", 5);
    maker_node(&m, "OneHot", "indices,depth,values", "y");
    maker_output(&m, "y", 0, NULL);
    expect_error(&m, KILN_ISSUE_SHAPE, "dimension 0 of \"values\" must be 2, but is 3");

    maker_begin(&m, 17);
    maker_weights(&m, "images", 1, "1,3,8,8");
    maker_weights(&m, "boxes", 1, "5,4");
    maker_weights(&m, "batches", 7, "6");
    maker_node(&m, "RoiAlign", "images,boxes,batches", "y");
    maker_output(&m, "y", 0, NULL);
    expect_error(&m, KILN_ISSUE_SHAPE,
                 "dimension 0 of \"batches\" is 6, and dimension 0 of \"boxes\" is 5; they must be "
                 "the same");

    maker_begin(&m, 17);
    maker_weights(&m, "v", 1, "3");
    maker_node(&m, "Trilu", "v", "y");
    maker_output(&m, "y", 0, NULL);
    expect_error(&m, KILN_ISSUE_RANK, "\"v\" must have at least 2 dimensions, but has 1");

    begin(&m);
    maker_node(&m, "Softmax", "x", "y");
    maker_node(&m, "Concat", "x,y", "z");
    maker_attribute_int(&m, "axis", 2);
    maker_output(&m, "z", 0, NULL);
    expect_error(&m, KILN_ISSUE_VALUE, "axis 2 is outside -2 to 1");

    maker_begin(&m, 17);
    maker_input(&m, "x", 1, "2,3");
    maker_node(&m, "Relu", "x", "y");
    maker_output(&m, "y", 1, "2,4");
    expect_error(&m, KILN_ISSUE_SHAPE, "dimension 1 is declared as 4");

    maker_begin(&m, 17);
    maker_input(&m, "x", 1, "2,3");
    maker_node(&m, "Relu", "x", "y");
    maker_output(&m, "y", 1, "2,3,1");
    expect_error(&m, KILN_ISSUE_RANK, "is declared with 3 dimensions");
}

TEST(operators_are_checked)
{
    owned_maker m;
    begin(&m);
    maker_node(&m, "Relux", "x", "y");
    expect_error(&m, KILN_ISSUE_UNKNOWN_OPERATOR, "no operator of this name");

    begin(&m);
    maker_node(&m, "Gelu", "x", "y");
    expect_error(&m, KILN_ISSUE_UNKNOWN_OPERATOR, "not in version 17 of its operator set yet");

    begin(&m);
    maker_node(&m, "Gelu", "x", "y");
    m.node->domain = "com.microsoft";
    expect_error(&m, KILN_ISSUE_OPSET, "does not import operator set \"com.microsoft\"");

    begin(&m);
    maker_node(&m, "Gelu", "x", "y");
    m.node->domain = "com.microsoft";
    kln_onnx_opset imports[] = {{.domain = "", .version = 17},
                                {.domain = "com.microsoft", .version = 1}};
    m.model->opsets = imports;
    m.model->opset_count = 2;
    expect_warning(&m, KILN_ISSUE_UNKNOWN_OPERATOR, "what it gives is not inferred");

    begin(&m);
    maker_node(&m, "Relu", "x,x", "y");
    expect_error(&m, KILN_ISSUE_ARITY, "it has 2 inputs, but takes 1");

    begin(&m);
    maker_node(&m, "Where", ",x,x", "y");
    expect_error(&m, KILN_ISSUE_ARITY, "input 0, \"condition\", is required, but left out");

    begin(&m);
    maker_node(&m, "Relu", "x", "y");
    maker_attribute_int(&m, "speed", 9);
    expect_error(&m, KILN_ISSUE_ATTRIBUTE, "has no attribute \"speed\"");

    begin(&m);
    maker_node(&m, "Elu", "x", "y");
    maker_attribute_int(&m, "alpha", 1);
    expect_error(&m, KILN_ISSUE_ATTRIBUTE, "\"alpha\" is an integer, but must be a float");

    begin(&m);
    maker_node(&m, "Concat", "x,x", "y");
    expect_error(&m, KILN_ISSUE_ATTRIBUTE, "\"axis\" is required, but missing");

    maker_begin(&m, 99);
    maker_input(&m, "x", 1, "2");
    maker_node(&m, "Relu", "x", "y");
    maker_output(&m, "y", 1, "2");
    expect_warning(&m, KILN_ISSUE_OPSET, "version 99");

    begin(&m);
    maker_node(&m, "Relu", "x", "y");
    m.model->opset_count = 0;
    owned_issue_list issues = validate(&m, NULL);
    assert_non_null(find(issues, KILN_ISSUE_OPSET, "opset_import"));
}

TEST(weights_are_checked)
{
    graph_maker m;
    begin(&m);
    maker_weights(&m, "b", 1, "3");
    maker_node(&m, "Add", "x,b", "y");
    m.graph->initializers[0].data.size = 8;
    expect_error(&m, KILN_ISSUE_WEIGHTS, "have 8 bytes, but their type and shape need 12 bytes");

    begin(&m);
    maker_weights(&m, "b", 1, "3");
    maker_node(&m, "Relu", "x", "y");
    expect_warning(&m, KILN_ISSUE_UNUSED, "weights \"b\" are never read");

    begin(&m);
    maker_node(&m, "Relu", "x", "y");
    maker_node(&m, "Neg", "x", "dangling");
    expect_warning(&m, KILN_ISSUE_UNUSED, "nothing reads what it computes");

    begin(&m);
    maker_input(&m, "idle", 1, "2");
    maker_node(&m, "Relu", "x", "y");
    expect_warning(&m, KILN_ISSUE_UNUSED, "input \"idle\" is never read");

    begin(&m);
    maker_weights(&m, "scale", 1, "4");
    maker_node(&m, "QuantizeLinear", "x,scale", "q");
    maker_weights(&m, "scale3", 1, "3");
    maker_node(&m, "DequantizeLinear", "q,scale3", "y");
    expect_error(&m, KILN_ISSUE_QUANTIZATION, "\"scale\" has 4 scales, but dimension 1");

    begin(&m);
    maker_weights(&m, "scale", 1, "3");
    maker_weights(&m, "zero", 3, "2");
    maker_node(&m, "QuantizeLinear", "x,scale,zero", "q");
    maker_node(&m, "DequantizeLinear", "q,scale", "y");
    expect_error(&m, KILN_ISSUE_QUANTIZATION, "zero points \"zero\" are int8[2]");
}

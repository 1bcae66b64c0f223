/* SPDX-License-Identifier: Apache-2.0 */
/* What a backend and a profile ask of a network, and lists of issues. */
#include "validate_test.h"

static kln_lack no_softmax(const kln_node_view *view, char *why, size_t size)
{
    bool sequence = true;
    assert_int_equal(17, view->opset);
    assert_int_equal('f', kln_view_variable(view, "T", 1, &sequence));
    assert_false(sequence);
    (void)snprintf(why, size, "the tiny backend has none of its %lld dimensions",
                   (long long)kln_view_rank(view, 0));
    return strcmp(view->node->op_type, "Softmax") != 0 ? KLN_LACK_NONE : KLN_LACK_BUILD;
}

TEST(backends_are_asked)
{
    graph_maker m;
    const kln_validate_options options = {.backend = "tiny", .lacks = no_softmax};
    maker_model(&m, 17, XY "s=Softmax(x); y=Relu(s)");
    expect(&m, &options, KILN_SEVERITY_ERROR, KILN_ISSUE_UNSUPPORTED,
           "the tiny backend has none of its 2 dimensions");
}

static void range(graph_maker *m, kiln_shape min, kiln_shape opt, kiln_shape max, const char *words)
{
    const kln_profile_range ranges[] = {{"x", min, opt, max}};
    const kln_validate_options options = {.ranges = ranges, .range_count = 1};
    maker_model(m, 17, "in x float32[batch,4,n]; to={-1,4,8}; y=Reshape(x,to); out y float32");
    if (words != NULL) {
        expect(m, &options, KILN_SEVERITY_ERROR, KILN_ISSUE_PROFILE, words);
    } else {
        owned_issue_list issues = validate(m, &options);
        assert_int_equal(0, kiln_issue_list_count(issues));
        maker_end(m);
    }
}

TEST(ranges_are_tried)
{
    graph_maker m;
    const kiln_shape small = KILN_SHAPE(1, 4, 8);
    const kiln_shape large = KILN_SHAPE(4, 4, 8);
    range(&m, small, small, large, NULL);
    range(&m, large, small, large, "min must not pass opt");
    range(&m, small, small, KILN_SHAPE(4, 8), "3, 3 and 2 dimensions");
    range(&m, small, small, KILN_SHAPE(4, 5, 8), "but is always 4");
    range(&m, small, small, KILN_SHAPE(4, 4, 9), "with all inputs at max");
    const kln_profile_range ranges[] = {{"nobody", small, small, small}};
    const kln_validate_options options = {.ranges = ranges, .range_count = 1};
    maker_model(&m, 17, XY "y=Relu(x)");
    expect(&m, &options, KILN_SEVERITY_ERROR, KILN_ISSUE_PROFILE, "no input of that name");
}

/* Twelve faults of twelve kinds, all found in one call. */
TEST(all_faults_are_found)
{
    owned_maker m;
    maker_model(&m, 17,
                "in x float32[2,3]; zeros ints int64[3]; zeros four float32[4]; "
                "zeros cube float32[1,2,3,4]; zeros short float32[8]");
    m.graph->initializers[3].data.size = 5;
    maker_node(&m, "Add", "x,nowhere", "a"); /*  1 unknown name */
    maker_node(&m, "Add", "x,ints", "b");    /*  2 dtype */
    maker_node(&m, "Add", "x,four", "c");    /*  3 shape */
    maker_node(&m, "Gemm", "x,cube", "d");   /*  4 rank */
    maker_node(&m, "Relu", "x", "a");        /*  5 duplicate name */
    m.graph->nodes[m.graph->node_count - 1].name = "again";
    maker_node(&m, "Relu", "x,x", "e");    /*  6 arity */
    maker_node(&m, "Concat", "x,x", "f");  /*  7 attribute */
    maker_node(&m, "Bogus", "short", "g"); /*  8 unknown operator, 9 weights */
    maker_node(&m, "Softmax", "x", "h");   /* 10 value */
    maker_attribute_int(&m, "axis", 7);
    maker_node(&m, "Add", "x,j", "i"); /* 11 cycle */
    maker_node(&m, "Neg", "i", "j");
    const char *outputs[] = {"a", "b", "c", "d", "e", "f", "g", "h", "j", "never"}; /* 12 */
    for (size_t i = 0; i < sizeof outputs / sizeof outputs[0]; i++) {
        maker_output(&m, outputs[i], 0, NULL);
    }
    owned_issue_list issues = validate(&m, NULL);
    static const struct {
        kiln_issue_kind kind;
        const char *tensor;
    } expected[] = {
        {KILN_ISSUE_UNKNOWN_NAME, "nowhere"},
        {KILN_ISSUE_DTYPE, "ints"},
        {KILN_ISSUE_SHAPE, ""},
        {KILN_ISSUE_RANK, "cube"},
        {KILN_ISSUE_DUPLICATE_NAME, "a"},
        {KILN_ISSUE_ARITY, ""},
        {KILN_ISSUE_ATTRIBUTE, "axis"},
        {KILN_ISSUE_UNKNOWN_OPERATOR, ""},
        {KILN_ISSUE_WEIGHTS, "short"},
        {KILN_ISSUE_VALUE, "axis"},
        {KILN_ISSUE_CYCLE, ""},
        {KILN_ISSUE_MISSING_OUTPUT, "never"},
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        if (find(issues, expected[i].kind, expected[i].tensor) == NULL) {
            print_error("no issue %s about \"%s\" in:\n", kiln_issue_kind_name(expected[i].kind),
                        expected[i].tensor);
            print(issues);
            fail();
        }
    }
    if (kiln_issue_list_count(issues) != 12 || kiln_issue_list_errors(issues) != 12) {
        print(issues);
    }
    assert_int_equal(12, kiln_issue_list_count(issues));
    assert_int_equal(12, kiln_issue_list_errors(issues));
    assert_fails(KILN_ERROR_INVALID_NETWORK, kln_issues_status(issues),
                 "the network has 12 errors; the first: ");
}

TEST(lists_have_an_end)
{
    owned_maker m;
    static char names[1500][12];
    maker_model(&m, 17, XY);
    for (size_t i = 0; i < 1500; i++) {
        (void)snprintf(names[i], sizeof names[i], "\xff%zu", i);
        maker_node(&m, "Bogus", names[i], names[i] + 1);
    }
    owned_issue_list issues = validate(&m, NULL);
    assert_int_equal(1000, kiln_issue_list_count(issues));
    /* What is no UTF-8 does not get into a sentence. */
    for (size_t i = 0; i < 1000; i++) {
        assert_null(strchr(kiln_issue_list_get(issues, i)->sentence, '\xff'));
    }
}

/* Two functions may differ in their domain alone; each body is looked at. */
TEST(functions_of_one_name_are_all_checked)
{
    static const char *from = "a";
    static const char *to = "b";
    static kln_onnx_attribute wrong = {
        .name = "axis", .type = KLN_ONNX_ATTRIBUTE_INT, .i = 1, .present = 1};
    kln_onnx_node bodies[2];
    kln_onnx_function functions[2];
    kln_onnx_opset opsets[3] = {{.version = 21}, {.version = 1}, {.version = 1}};
    const char *const domains[3] = {"", "one", "two"};
    for (size_t i = 0; i < 3; i++) {
        opsets[i].domain = domains[i];
    }
    for (size_t i = 0; i < 2; i++) {
        bodies[i] = (kln_onnx_node){.name = "inner", .op_type = "Identity", .domain = ""};
        bodies[i].inputs = &from;
        bodies[i].outputs = &to;
        bodies[i].input_count = bodies[i].output_count = 1;
        functions[i] = (kln_onnx_function){.name = "Same", .domain = domains[i + 1]};
        functions[i].inputs = &from;
        functions[i].outputs = &to;
        functions[i].input_count = functions[i].output_count = 1;
        functions[i].opsets = opsets;
        functions[i].opset_count = 1;
        functions[i].body = (kln_onnx_graph){.name = "", .nodes = &bodies[i], .node_count = 1};
    }
    bodies[1].attributes = &wrong;
    bodies[1].attribute_count = 1;
    graph_maker m;
    maker_begin(&m, 21);
    m.model->opsets = opsets;
    m.model->opset_count = 3;
    m.model->functions = functions;
    m.model->function_count = 2;
    maker_text(&m, "in x float32[2]; h=Same(x)");
    m.node->domain = "one";
    maker_node(&m, "Same", "h", "y");
    m.node->domain = "two";
    maker_output(&m, "y", 1, "2");
    expect_error(&m, KILN_ISSUE_ATTRIBUTE, "it has no attribute \"axis\"");
}

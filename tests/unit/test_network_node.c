/* SPDX-License-Identifier: Apache-2.0 */
/* Any operator by name: what is checked of it, what is known afterwards, and what is taken back. */
#include "graph/kln_graph.h"
#include "kiln_test.h"

#define NONE KILN_NO_TENSOR
#define F KILN_DTYPE_FLOAT32

static const float values[24] = {1.0F, 2.0F};

static kiln_attribute whole(const char *name, int64_t value)
{
    return KILN_ATTRIBUTE(.name = name, .kind = KILN_ATTRIBUTE_INT, .i = value);
}

/* One node of ONNX's own domain with one input and one attribute at most. */
static kiln_status node(kiln_network *network, const char *op_type, kiln_tensor_id x,
                        const kiln_attribute *attribute, kiln_tensor_id *y)
{
    return kiln_network_add_node(network, NULL, NULL, 0, op_type, &x, 1, attribute,
                                 attribute != NULL ? 1 : 0, y, 1);
}

static void assert_type(kiln_network *network, kiln_tensor_id id, kiln_dtype dtype,
                        kiln_shape shape)
{
    kiln_dtype found_dtype = KILN_DTYPE_UNDEFINED;
    kiln_shape found = KILN_SHAPE_SCALAR;
    assert_ok(kiln_network_tensor_type(network, id, &found_dtype, &found));
    assert_int_equal(found_dtype, dtype);
    assert_int_equal(found.rank, shape.rank);
    for (int32_t i = 0; i < shape.rank; i++) {
        assert_int_equal(found.dims[i], shape.dims[i]);
    }
}

TEST(operators_without_a_layer)
{
    owned_network network = network_of_opset(0);
    kiln_tensor_id y[3];
    const kiln_tensor_id x = add_input(network, "x", F, KILN_SHAPE(2, 8, 4, 4));
    const kiln_attribute block = whole("blocksize", 2);
    assert_ok(node(network, "DepthToSpace", x, &block, y));
    assert_type(network, y[0], F, KILN_SHAPE(2, 2, 8, 8));
    assert_ok(node(network, "NonZero", x, NULL, y));
    assert_type(network, y[0], KILN_DTYPE_INT64, KILN_SHAPE(4, KILN_DYNAMIC));
    /* "ai.onnx" is ONNX's own domain too. */
    assert_ok(kiln_network_add_node(network, "tril", "ai.onnx", 0, "Trilu", &x, 1, NULL, 0, y, 1));
    assert_string_equal(kiln_network_tensor_name(network, y[0]), "tril");
    /* A later optional output; the second one is named after the node. */
    const kiln_tensor_id norm[] = {x, add_input(network, "s", F, KILN_SHAPE(4))};
    assert_ok(kiln_network_add_node(network, "norm", NULL, 0, "LayerNormalization", norm, 2, NULL,
                                    0, y, 2));
    assert_string_equal(kiln_network_tensor_name(network, y[1]), "norm:1");
    assert_type(network, y[1], F, KILN_SHAPE(2, 8, 4, 1));
    /* An optional input left out in the middle. */
    const kiln_tensor_id clip[] = {x, NONE, add_input(network, "most", F, KILN_SHAPE_SCALAR)};
    assert_ok(kiln_network_add_node(network, NULL, NULL, 0, "Clip", clip, 3, NULL, 0, y, 1));
    assert_type(network, y[0], F, KILN_SHAPE(2, 8, 4, 4));
    /* A value that is no tensor, and what is taken out of it. */
    const kiln_tensor_id two[] = {x, x};
    kiln_tensor_id list = NONE;
    assert_ok(kiln_network_add_node(network, NULL, NULL, 0, "SequenceConstruct", two, 2, NULL, 0,
                                    &list, 1));
    assert_type(network, list, KILN_DTYPE_UNDEFINED, (kiln_shape){.rank = -1});
    assert_ok(node(network, "SequenceLength", list, NULL, y));
    assert_type(network, y[0], KILN_DTYPE_INT64, KILN_SHAPE_SCALAR);
}

TEST(attributes_of_every_kind)
{
    owned_network network = network_of_opset(0);
    kiln_tensor_id y = NONE;
    const kiln_tensor_id x = add_input(network, "x", F, KILN_SHAPE(1, 3));
    const kiln_tensor_id s = add_input(network, "s", KILN_DTYPE_STRING, KILN_SHAPE(2));
    const kiln_tensor_id dims = add_input(network, "dims", KILN_DTYPE_INT64, KILN_SHAPE(3));
    kiln_attribute a = KILN_ATTRIBUTE(.name = "alpha", .kind = KILN_ATTRIBUTE_FLOAT, .f = 0.5F);
    assert_ok(node(network, "Elu", x, &a, &y));
    a.name = "case_change_action";
    a.kind = KILN_ATTRIBUTE_STRING;
    a.s = "UPPER";
    assert_ok(node(network, "StringNormalizer", s, &a, &y));
    const char *const words[] = {"a", "b"};
    a.name = "stopwords";
    a.kind = KILN_ATTRIBUTE_STRINGS;
    a.strings = words;
    a.count = 2;
    assert_ok(node(network, "StringNormalizer", s, &a, &y));
    const int64_t order[] = {1, 0};
    a.name = "perm";
    a.kind = KILN_ATTRIBUTE_INTS;
    a.ints = order;
    assert_ok(node(network, "Transpose", x, &a, &y));
    assert_type(network, y, F, KILN_SHAPE(3, 1));
    const float half[] = {0.5F, 0.25F};
    a.name = "value_floats";
    a.kind = KILN_ATTRIBUTE_FLOATS;
    a.floats = half;
    assert_ok(kiln_network_add_node(network, NULL, NULL, 0, "Constant", NULL, 0, &a, 1, &y, 1));
    assert_type(network, y, F, KILN_SHAPE(2));
    const int64_t seven = 7;
    const kiln_weights one = {KILN_DTYPE_INT64, KILN_SHAPE(1), {&seven, sizeof seven}};
    a.name = "value";
    a.kind = KILN_ATTRIBUTE_TENSOR;
    a.tensor = &one;
    assert_ok(node(network, "ConstantOfShape", dims, &a, &y));
    assert_type(network, y, KILN_DTYPE_INT64, KILN_SHAPE(KILN_DYNAMIC, KILN_DYNAMIC, KILN_DYNAMIC));
    assert_ok(kiln_network_mark_output(network, y));
    assert_ok(kiln_network_save_onnx(network, kiln_test_path("kinds.onnx"), KILN_WEIGHTS_INLINE));
    owned_issue_list issues = NULL;
    owned_network again = network_file(kiln_test_path("kinds.onnx"));
    assert_ok(kiln_network_validate(again, NULL, &issues));
    assert_int_equal(kiln_issue_list_errors(issues), 0);
}

/* Running sums by a Scan, which has no layer. */
TEST(graphs_are_attributes)
{
    owned_network network = network_of_opset(0);
    kiln_tensor_id sum, y, outputs[2];
    const kiln_tensor_id inputs[] = {add_input(network, "start", F, KILN_SHAPE(3)),
                                     add_input(network, "x", F, KILN_SHAPE(5, 3))};
    kiln_network *body = new_branch(network, "body");
    const kiln_tensor_id a = add_input(body, "a", F, KILN_SHAPE(3));
    const kiln_tensor_id b = add_input(body, "b", F, KILN_SHAPE(3));
    assert_ok(kiln_network_add_elementwise(body, "sum", KILN_ELEMENTWISE_ADD, a, b, &sum));
    assert_ok(kiln_network_add_activation(body, "y", KILN_ACTIVATION_RELU, sum, 0, 0, &y));
    assert_ok(kiln_network_mark_output(body, sum));
    assert_ok(kiln_network_mark_output(body, y));
    kiln_attribute attributes[2] = {KILN_ATTRIBUTE_INIT, whole("num_scan_inputs", 1)};
    attributes[0].name = "body";
    attributes[0].kind = KILN_ATTRIBUTE_GRAPH;
    assert_status(KILN_ERROR_NULL_ARGUMENT,
                  kiln_network_add_node(network, "scan", NULL, 0, "Scan", inputs, 2, attributes, 2,
                                        outputs, 2));
    attributes[0].graph = network;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_network_add_node(network, "scan", NULL, 0, "Scan", inputs, 2, attributes, 2,
                                       outputs, 2),
                 "is no branch");
    attributes[0].graph = body;
    assert_ok(kiln_network_add_node(network, "scan", NULL, 0, "Scan", inputs, 2, attributes, 2,
                                    outputs, 2));
    assert_type(network, outputs[0], F, KILN_SHAPE(3));
    assert_type(network, outputs[1], F, KILN_SHAPE(5, 3));
    assert_status(KILN_ERROR_STATE, kiln_network_add_unary(body, NULL, KILN_UNARY_ABS, y, &y));
}

static void refused(kiln_network *network, kiln_status status, const char *op_type,
                    kiln_tensor_id x, const kiln_attribute *attribute, const char *words)
{
    kiln_tensor_id y = 123;
    const size_t before = kiln_network_layer_count(network);
    assert_fails(status, node(network, op_type, x, attribute, &y), words);
    assert_int_equal(y, 123);
    assert_int_equal(kiln_network_layer_count(network), before);
}

TEST(what_is_wrong_is_said)
{
    owned_network network = network_of_opset(21);
    kiln_tensor_id y[2];
    const kiln_tensor_id x = add_input(network, "x", F, KILN_SHAPE(2, 3));
    const kiln_tensor_id flat = add_input(network, "flat", F, KILN_SHAPE(3));
    kiln_attribute a = whole("lower", 1);
    refused(network, KILN_ERROR_INVALID_ARGUMENT, "Trilu", x, &a, "it has no attribute \"lower\"");
    a.name = "upper";
    a.kind = KILN_ATTRIBUTE_FLOAT;
    refused(network, KILN_ERROR_INVALID_ARGUMENT, "Trilu", x, &a,
            "attribute \"upper\" is a float, but must be an integer");
    a.kind = (kiln_attribute_kind)99;
    refused(network, KILN_ERROR_INVALID_ARGUMENT, "Trilu", x, &a, "is of kind 99");
    refused(network, KILN_ERROR_RANK, "Trilu", flat, NULL, "must have at least 2 dimensions");
    refused(network, KILN_ERROR_INVALID_ARGUMENT, "DepthToSpace", x, NULL,
            "attribute \"blocksize\" is required, but missing");
    refused(network, KILN_ERROR_INVALID_ARGUMENT, "MatMul", x, NULL, "it has 1 input, but takes 2");
    refused(network, KILN_ERROR_DTYPE, "BitwiseNot", x, NULL, "is float32[2,3]; allowed are");
    const kiln_tensor_id scaled[] = {x, add_input(network, "scale", F, KILN_SHAPE_SCALAR)};
    a = whole("output_dtype", 1);
    assert_fails(
        KILN_ERROR_DTYPE,
        kiln_network_add_node(network, NULL, NULL, 0, "QuantizeLinear", scaled, 2, &a, 1, y, 1),
        "attribute \"output_dtype\" is float32; allowed are uint8, int8");
    refused(network, KILN_ERROR_UNSUPPORTED, "Swish", x, NULL, "is not in version 21");
    refused(network, KILN_ERROR_INVALID_ARGUMENT, "", x, NULL, "the operator has no name");
    refused(network, KILN_ERROR_INVALID_ARGUMENT, "Abs", 77, NULL, "77 is no tensor");
    refused(network, KILN_ERROR_INVALID_ARGUMENT, "Abs", NONE, NULL,
            "it has 0 inputs, but takes 1");
    a = whole("axis", 5);
    refused(network, KILN_ERROR_INVALID_ARGUMENT, "Softmax", x, &a, "axis 5 is outside -2 to 1");
    kiln_attribute uneven[] = {whole("axis", 0), whole("largest", 1)};
    uneven[1].struct_size = sizeof uneven[1] - 8;
    const kiln_tensor_id top[] = {x, add_input(network, "k", KILN_DTYPE_INT64, KILN_SHAPE(1))};
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_network_add_node(network, NULL, NULL, 0, "TopK", top, 2, uneven, 2, y, 2),
                 "struct_size");
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_network_add_node(network, NULL, NULL, 0, "Abs", &x, 1, NULL, 0, y, 2),
                 "it has 2 outputs, but takes 1");
    assert_status(KILN_ERROR_INVALID_ARGUMENT,
                  kiln_network_add_node(network, NULL, "own", -1, "Abs", &x, 1, NULL, 0, y, 1));
    assert_int_equal(kiln_network_layer_count(network), 0);
}

/* What ONNX does not have is for the backend to know; layers after it take what comes. */
TEST(operators_of_others)
{
    owned_network network = network_of_opset(0);
    kiln_issue_list *issues = NULL;
    kiln_tensor_id y[2], z;
    const kiln_tensor_id x = add_input(network, "x", F, KILN_SHAPE(2, 3));
    assert_ok(kiln_network_add_node(network, "p", "own", 3, "Anything", &x, 1, NULL, 0, y, 2));
    assert_type(network, y[1], KILN_DTYPE_UNDEFINED, (kiln_shape){.rank = -1});
    assert_ok(kiln_network_add_unary(network, "abs", KILN_UNARY_ABS, y[1], &z));
    /* Stated afterwards, it is known to the layers that follow. */
    assert_ok(kiln_network_mark_output_as(network, y[1], F, &KILN_SHAPE(4, 5)));
    assert_type(network, y[1], F, KILN_SHAPE(4, 5));
    assert_type(network, z, F, KILN_SHAPE(4, 5));
    assert_status(KILN_ERROR_SHAPE,
                  kiln_network_add_elementwise(network, "s", KILN_ELEMENTWISE_ADD, z, x, &z));
    assert_ok(kiln_network_mark_output(network, z));
    assert_ok(kiln_network_validate(network, NULL, &issues));
    assert_int_equal(kiln_issue_list_errors(issues), 0);
    kiln_issue_list_destroy(issues);
    /* A domain that came with a call that failed went with it. */
    assert_status(KILN_ERROR_INVALID_ARGUMENT,
                  kiln_network_add_node(network, "q", "other", 1, "Some", (kiln_tensor_id[]){99}, 1,
                                        NULL, 0, y, 1));
    assert_ok(kiln_network_add_node(network, "q", "third", 1, "Some", &x, 1, NULL, 0, y, 1));
    const kln_onnx_model *model = NULL;
    assert_ok(kln_network_model(network, &model));
    assert_int_equal(kln_onnx_opset_version(model, "other"), 0);
    assert_int_equal(kln_onnx_opset_version(model, "third"), 1);
}

/* One that is not ONNX's, but whose schema its rule brings: known like ONNX's own, the others of
 * its domain are not. */
TEST(another_domain_has_a_schema)
{
    owned_network network = network_of_opset(0);
    kiln_tensor_id y[2], z;
    kiln_attribute alpha = KILN_ATTRIBUTE_INIT;
    alpha.name = "alpha";
    alpha.kind = KILN_ATTRIBUTE_FLOAT;
    alpha.f = -0.5F;
    const char *const ours = "com.microsoft";
    const kiln_tensor_id x = add_input(network, "x", F, KILN_SHAPE(3, 50));
    const kiln_tensor_id n = add_input(network, "n", KILN_DTYPE_INT32, KILN_SHAPE(3));
    assert_ok(kiln_network_add_node(network, "g", ours, 0, "QuickGelu", &x, 1, NULL, 0, &y[0], 1));
    assert_ok(
        kiln_network_add_node(network, "h", ours, 0, "QuickGelu", &x, 1, &alpha, 1, &y[1], 1));
    assert_type(network, y[1], F, KILN_SHAPE(3, 50));
    assert_fails(KILN_ERROR_DTYPE,
                 kiln_network_add_node(network, "i", ours, 0, "QuickGelu", &n, 1, NULL, 0, &z, 1),
                 "int32");
    alpha.name = "beta";
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_network_add_node(network, "i", ours, 0, "QuickGelu", &x, 1, &alpha, 1, &z, 1),
                 "beta");
    assert_ok(kiln_network_add_node(network, "o", ours, 0, "SkipSomething", &x, 1, NULL, 0, &z, 1));
    assert_type(network, z, KILN_DTYPE_UNDEFINED, (kiln_shape){.rank = -1});
}

TEST(quick_gelu_is_onnxruntimes)
{
    owned_network network = network_of_opset(0);
    const kiln_tensor_id x = add_input(network, "x", F, KILN_SHAPE(3, 50));
    kiln_attribute alpha = KILN_ATTRIBUTE_INIT;
    alpha.name = "alpha";
    alpha.kind = KILN_ATTRIBUTE_FLOAT;
    alpha.f = -0.5F;
    for (size_t count = 0; count < 2; count++) {
        kiln_tensor_id y = NONE;
        assert_ok(kiln_network_add_node(network, NULL, "com.microsoft", 0, "QuickGelu", &x, 1,
                                        &alpha, count, &y, 1));
        assert_ok(kiln_network_mark_output(network, y));
    }
    const kiln_build_options found = backend_options("reference");
    const kiln_build_options expected = backend_options("onnxruntime");
    owned_comparison comparison = NULL;
    assert_ok(kiln_compare(network, &found, &expected, NULL, &comparison));
    assert_true(kiln_comparison_passes(comparison));
    assert_int_equal(kiln_comparison_count(comparison), 2);
}

/* What is known as a network grows is what is inferred of it at once, whatever failed on the way.
 */
TEST(growing_comes_to_the_same)
{
    owned_network network = network_of_opset(0);
    kiln_tensor_id x = NONE, y = NONE, bad = NONE;
    kiln_shape open = KILN_SHAPE(KILN_DYNAMIC, 4, 6);
    const char *const names[] = {"batch", NULL, NULL};
    const kiln_weights w = {F, KILN_SHAPE(6, 4), {values, sizeof values}};
    assert_ok(kiln_network_add_input(network, "x", F, &open, names, &x));
    for (int i = 0; i < 40; i++) {
        kiln_tensor_id k = NONE;
        assert_ok(kiln_network_add_constant(network, NULL, &w, &k));
        assert_status(KILN_ERROR_SHAPE,
                      kiln_network_add_matrix_multiply(network, "bad", k, k, &bad));
        assert_status(KILN_ERROR_INVALID_ARGUMENT,
                      kiln_network_add_rms_normalization(network, "bad", x, 9999, 1e-5F, &bad));
        assert_ok(kiln_network_add_matrix_multiply(network, NULL, x, k, &y));
        assert_ok(kiln_network_add_transpose(network, NULL, y, (int64_t[]){0, 2, 1}, 3, &y));
        assert_status(KILN_ERROR_INVALID_ARGUMENT,
                      kiln_network_add_softmax(network, "bad", y, 3, false, &bad));
        assert_ok(kiln_network_add_pad(network, NULL, y, (int64_t[]){0, 0, 1}, (int64_t[]){0, 0, 1},
                                       3, KILN_PAD_CONSTANT, 0.5F, &x));
    }
    assert_type(network, x, F, KILN_SHAPE(KILN_DYNAMIC, 4, 6));
    const kln_onnx_model *model = NULL;
    kln_inference *inference = NULL;
    assert_ok(kln_network_model(network, &model));
    assert_ok(kln_infer(model, NULL, &inference));
    assert_int_equal(kiln_issue_list_count(inference->issues), 0);
    for (size_t i = 0; i < inference->graph->value_count; i++) {
        const kln_value *value = inference->graph->values[i];
        kiln_shape shape = {.rank = -1};
        assert_true(kln_value_shape(value, &shape));
        assert_ok(kiln_network_find(network, value->name, &y));
        assert_type(network, y, value->dtype, shape);
    }
    kln_inference_destroy(inference);
    assert_ok(kiln_network_mark_output(network, x));
    owned_issue_list issues = NULL;
    assert_ok(kiln_network_validate(network, NULL, &issues));
    assert_int_equal(kiln_issue_list_count(issues), 0);
}

/* A tensor of a branch is known too, and what the branch reads from around it. */
TEST(branches_are_inferred)
{
    owned_network network = network_of_opset(0);
    kiln_tensor_id y, inner, deep, w;
    const kiln_weights weights = {F, KILN_SHAPE(3, 8), {values, sizeof values}};
    const kiln_tensor_id x = add_input(network, "x", F, KILN_SHAPE(2, 3));
    kiln_network *then = new_branch(network, NULL);
    kiln_network *inside = new_branch(then, NULL);
    assert_ok(kiln_network_add_constant(network, "w", &weights, &w));
    assert_ok(kiln_network_capture(inside, x, &deep));
    assert_ok(kiln_network_capture(inside, w, &inner));
    assert_ok(kiln_network_add_matrix_multiply(inside, "m", deep, inner, &y));
    assert_type(inside, y, F, KILN_SHAPE(2, 8));
    assert_fails(KILN_ERROR_SHAPE, kiln_network_add_matrix_multiply(inside, "n", y, inner, &y),
                 "node \"n\" (MatMul)");
    assert_ok(kiln_network_capture(then, x, &inner));
    assert_status(KILN_ERROR_NAME, kiln_network_add_unary(then, "m", KILN_UNARY_ABS, inner, &y));
    assert_ok(kiln_network_add_unary(then, "n", KILN_UNARY_ABS, inner, &y));
    assert_type(then, y, F, KILN_SHAPE(2, 3));
}

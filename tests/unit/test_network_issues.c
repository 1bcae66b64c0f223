/* SPDX-License-Identifier: Apache-2.0 */
/* What the builder refuses, collected in one list with what the validation finds. */
#include "base/kln_base.h"
#include "kiln_test.h"

#define NONE KILN_NO_TENSOR
#define F KILN_DTYPE_FLOAT32

static const float values[24] = {1.0F, 2.0F};

static kiln_network *make(void)
{
    kiln_network *network = new_network();
    assert_ok(kiln_network_collect_issues(network, true));
    return network;
}

static kiln_issue_list *validate(kiln_network *network)
{
    kiln_issue_list *issues = NULL;
    assert_ok(kiln_network_validate(network, NULL, &issues));
    return issues;
}

/* The list is this one issue, and a build fails with it. */
static void expect_one(kiln_network *network, kiln_issue_kind kind, const char *node,
                       const char *words)
{
    kiln_engine *engine = NULL;
    kiln_issue_list *issues = validate(network);
    const kiln_issue *first = kiln_issue_list_get(issues, 0);
    if (kiln_issue_list_count(issues) != 1 || first->kind != kind ||
        strcmp(first->node, node) != 0 || strstr(first->sentence, words) == NULL) {
        for (size_t i = 0; i < kiln_issue_list_count(issues); i++) {
            const kiln_issue *each = kiln_issue_list_get(issues, i);
            print_error("%s at \"%s\": %s\n", kiln_issue_kind_name(each->kind), each->node,
                        each->sentence);
        }
        fail_msg("%s at \"%s\" was expected: %s", kiln_issue_kind_name(kind), node, words);
    }
    kiln_issue_list_destroy(issues);
    kiln_build_options options = backend_options("reference");
    assert_fails(KILN_ERROR_INVALID_NETWORK, kiln_engine_build(network, &options, &engine),
                 "the network has 1 error; the first: ", words);
    assert_null(engine);
    kiln_network_destroy(network);
}

/* Each kind of refusal: the call is KILN_OK, and what follows from its tensor is no issue. */

#define REFUSED(name, call)                                       \
    static kiln_tensor_id name(kiln_network *n, kiln_tensor_id x) \
    {                                                             \
        kiln_tensor_id y = NONE;                                  \
        assert_ok(call);                                          \
        return y;                                                 \
    }

REFUSED(duplicate_name, kiln_network_add_unary(n, "x", KILN_UNARY_ABS, x, &y))
REFUSED(rank, kiln_network_add_gemm(n, "bad", x, x, NONE, NULL, &y))
REFUSED(shape, kiln_network_add_reshape(n, "bad", x, &KILN_SHAPE(7), &y))
REFUSED(permutation, kiln_network_add_transpose(n, "bad", x, (int64_t[]){0, 1, 1, 3}, 4, &y))
REFUSED(axis, kiln_network_add_softmax(n, "bad", x, 4, false, &y))
REFUSED(input_type, kiln_network_add_input(n, "bad", F, &(kiln_shape){1, {-7}}, NULL, &y))
REFUSED(option, kiln_network_add_lrn(n, "bad", x, 0, 1, 1, 1, &y))
REFUSED(operator_set, kiln_network_add_node(n, "bad", NULL, 0, "Swish", &x, 1, NULL, 0, &y, 1))
REFUSED(arity, kiln_network_add_node(n, "bad", NULL, 0, "MatMul", &x, 1, NULL, 0, &y, 1))
REFUSED(attribute, kiln_network_add_node(n, "bad", NULL, 0, "DepthToSpace", &x, 1, NULL, 0, &y, 1))
REFUSED(no_tensor, kiln_network_add_unary(n, "bad", KILN_UNARY_ABS, 9999, &y))

static kiln_tensor_id dtype(kiln_network *n, kiln_tensor_id x)
{
    kiln_tensor_id i, y = NONE;
    assert_ok(kiln_network_add_cast(n, "i", x, KILN_DTYPE_INT32, &i));
    assert_ok(kiln_network_add_elementwise(n, "bad", KILN_ELEMENTWISE_ADD, x, i, &y));
    return y;
}

static kiln_tensor_id weight_size(kiln_network *n, kiln_tensor_id x)
{
    const kiln_weights weights = {F, KILN_SHAPE(24), {values, 95}};
    kiln_tensor_id w, y = NONE;
    assert_ok(kiln_network_add_constant(n, "bad", &weights, &w));
    assert_ok(kiln_network_add_elementwise(n, NULL, KILN_ELEMENTWISE_ADD, x, w, &y));
    return y;
}

/* In the middle of a layer of several operators. */
static kiln_tensor_id composed(kiln_network *n, kiln_tensor_id x)
{
    const kiln_weights weights = {F, KILN_SHAPE(24), {values, sizeof values}};
    kiln_tensor_id w, y = NONE;
    assert_ok(kiln_network_add_constant(n, "w", &weights, &w));
    assert_ok(kiln_network_add_rms_normalization(n, "bad", x, w, 1e-5F, &y));
    return y;
}

static kiln_tensor_id several_outputs(kiln_network *n, kiln_tensor_id x)
{
    kiln_tensor_id y[2], z = NONE;
    assert_ok(kiln_network_add_split(n, "bad", x, 9, NULL, 2, y));
    assert_string_equal(kiln_network_tensor_name(n, y[1]), "bad:1");
    assert_ok(kiln_network_add_concat(n, NULL, y, 2, 9, &z));
    return z;
}

static const struct {
    kiln_tensor_id (*make)(kiln_network *n, kiln_tensor_id x);
    kiln_issue_kind kind;
    const char *node, *words;
} refusals[] = {
    {duplicate_name, KILN_ISSUE_DUPLICATE_NAME, "", "the name \"x\" is in use"},
    {dtype, KILN_ISSUE_DTYPE, "bad", "they must be of one type, so cast one"},
    {rank, KILN_ISSUE_RANK, "bad", "must have 2 dimensions, but has 4"},
    {shape, KILN_ISSUE_SHAPE, "bad", "has 256 elements, but the new shape has 7"},
    {permutation, KILN_ISSUE_VALUE, "bad", "\"perm\" names dimension 1 twice"},
    {axis, KILN_ISSUE_VALUE, "bad", "axis 4 is outside -4 to 3"},
    {weight_size, KILN_ISSUE_WEIGHTS, "bad", "layer \"bad\": float32 weights of shape 24 have 96"},
    {input_type, KILN_ISSUE_SHAPE, "bad", "layer \"bad\": dimension 0 is -7"},
    {option, KILN_ISSUE_VALUE, "bad", "node \"bad\" (LRN): \"size\" needs at least 1, and has 0"},
    {operator_set, KILN_ISSUE_UNKNOWN_OPERATOR, "bad", "is not in version 21"},
    {arity, KILN_ISSUE_ARITY, "bad", "it has 1 input, but takes 2"},
    {attribute, KILN_ISSUE_ATTRIBUTE, "bad", "\"blocksize\" is required, but missing"},
    {no_tensor, KILN_ISSUE_VALUE, "bad", "9999 is no tensor"},
    {composed, KILN_ISSUE_SHAPE, "bad", "node \"bad\" (Mul): dimensions that broadcast"},
    {several_outputs, KILN_ISSUE_VALUE, "bad", "axis 9 is outside"},
};

TEST_EACH(each_refusal_is_one_issue, i, KLN_ARRAY_LENGTH(refusals))
{
    kiln_network *network = make();
    const kiln_tensor_id x = add_input(network, "x", F, KILN_SHAPE(1, 4, 8, 8));
    const kiln_tensor_id y = refusals[i].make(network, x);
    assert_non_null(kiln_network_tensor_name(network, y));
    kiln_convolution_options options = KILN_CONVOLUTION_OPTIONS_INIT;
    kiln_attention_options heads = KILN_ATTENTION_OPTIONS_INIT;
    kiln_tensor_id z = NONE;
    heads.heads = 2;
    /* Layers that need to know what cannot be known of it; and a whole chain. */
    assert_ok(kiln_network_add_convolution(network, NULL, y, y, NONE, &options, &z));
    assert_ok(kiln_network_add_attention(network, NULL, z, y, y, &heads, &z, NULL, NULL));
    assert_ok(kiln_network_add_group_normalization(network, NULL, z, y, y, 3, 1e-5F, &z));
    assert_ok(kiln_network_add_global_pooling(network, NULL, KILN_POOLING_LP, z, &z));
    assert_ok(kiln_network_add_elementwise(network, "sum", KILN_ELEMENTWISE_ADD, z, x, &z));
    assert_ok(kiln_network_mark_output(network, z));
    assert_fails(KILN_ERROR_INVALID_NETWORK,
                 kiln_network_save_onnx(network, kiln_test_path("no.onnx"), KILN_WEIGHTS_INLINE),
                 "the network has 1 error; the first: ");
    expect_one(network, refusals[i].kind, refusals[i].node, refusals[i].words);
}

/* Several, in the order of the calls, before what the validation finds; a layer that reads a
 * refused tensor is still asked for what has nothing to do with it. */
TEST(all_of_them_in_order)
{
    owned_network network = make();
    kiln_tensor_id a, b, c;
    const kiln_tensor_id x = add_input(network, "x", F, KILN_SHAPE(2, 3));
    assert_ok(kiln_network_add_softmax(network, "a", x, 7, false, &a));
    assert_ok(kiln_network_add_lrn(network, "b", a, 0, 1, 1, 1, &b));
    assert_ok(kiln_network_add_unary(network, "x", KILN_UNARY_ABS, b, &c));
    assert_ok(kiln_network_add_unary(network, "c", KILN_UNARY_ABS, x, &c));
    assert_ok(kiln_network_mark_output(network, c));
    assert_ok(kiln_network_mark_output(network, c));
    assert_ok(kiln_network_mark_output(network, 12345));
    owned_issue_list issues = validate(network);
    static const char *const words[] = {"axis 7", "\"size\" needs at least 1",
                                        "the name \"x\" is in use", "\"c\" is an output already",
                                        "12345 is no tensor"};
    assert_int_equal(kiln_issue_list_count(issues), KLN_ARRAY_LENGTH(words));
    assert_int_equal(kiln_issue_list_errors(issues), KLN_ARRAY_LENGTH(words));
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(words); i++) {
        assert_non_null(strstr(kiln_issue_list_get(issues, i)->sentence, words[i]));
    }
    kiln_issue_list_destroy(issues);
    kiln_network_destroy(network);
    /* Without an output, that is one more. */
    network = make();
    assert_ok(kiln_network_add_softmax(network, "a", add_input(network, "x", F, KILN_SHAPE(2, 3)),
                                       7, false, &a));
    issues = validate(network);
    assert_int_equal(kiln_issue_list_count(issues), 2);
    assert_int_equal(kiln_issue_list_get(issues, 1)->kind, KILN_ISSUE_NO_OUTPUTS);
}

/* An If of which a branch has a refused output is refused itself, without a word. */
TEST(branches_collect_too)
{
    kiln_network *network = make();
    kiln_tensor_id inner, y;
    const kiln_tensor_id x = add_input(network, "x", F, KILN_SHAPE(3));
    const kiln_tensor_id c = add_input(network, "c", KILN_DTYPE_BOOL, KILN_SHAPE_SCALAR);
    kiln_network *then = new_branch(network, NULL);
    kiln_network *other = new_branch(network, NULL);
    assert_ok(kiln_network_capture(then, x, &inner));
    assert_ok(kiln_network_add_softmax(then, "bad", inner, 3, false, &y));
    assert_ok(kiln_network_mark_output(then, y));
    assert_ok(kiln_network_capture(other, x, &inner));
    assert_ok(kiln_network_mark_output(other, inner));
    assert_ok(kiln_network_add_if(network, "if", c, then, other, &y, 1));
    assert_ok(kiln_network_mark_output(network, y));
    expect_one(network, KILN_ISSUE_VALUE, "bad", "axis 3 is outside -1 to 0");

    network = make();
    assert_ok(kiln_network_create_branch(network, NULL, &then));
    assert_ok(kiln_network_capture(then, 4711, &inner));
    assert_ok(kiln_network_add_unary(then, NULL, KILN_UNARY_ABS, inner, &y));
    const kiln_tensor_id z = add_input(network, "z", F, KILN_SHAPE(3));
    assert_ok(kiln_network_mark_output(network, z));
    expect_one(network, KILN_ISSUE_VALUE, "", "4711 is no tensor of a network around this branch");
}

TEST(what_is_never_collected)
{
    kiln_network *network = make();
    kiln_tensor_id y, z;
    const kiln_tensor_id x = add_input(network, "x", F, KILN_SHAPE(3));
    assert_status(KILN_ERROR_NULL_ARGUMENT, kiln_network_collect_issues(NULL, true));
    assert_status(KILN_ERROR_NULL_ARGUMENT,
                  kiln_network_add_unary(network, "u", KILN_UNARY_ABS, x, NULL));
    assert_status(KILN_ERROR_NULL_ARGUMENT,
                  kiln_network_add_slice(network, "s", x, NULL, NULL, NULL, NULL, 1, &y));
    assert_status(KILN_ERROR_NULL_ARGUMENT,
                  kiln_network_add_node(network, "n", NULL, 0, "Abs", NULL, 1, NULL, 0, &y, 1));
    (void)new_branch(network, NULL);
    assert_int_equal(kiln_issue_list_count(NULL), 0);
    /* Not collected any more, a refused tensor is an argument like a wrong one. */
    assert_ok(kiln_network_add_softmax(network, "a", x, 7, false, &y));
    assert_ok(kiln_network_collect_issues(network, false));
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_network_add_unary(network, "b", KILN_UNARY_ABS, y, &z),
                 "\"a\" is of a call that was refused");
    assert_status(KILN_ERROR_INVALID_ARGUMENT,
                  kiln_network_add_softmax(network, "b", x, 7, false, &z));
    assert_ok(kiln_network_mark_output(network, x));
    expect_one(network, KILN_ISSUE_VALUE, "a", "axis 7 is outside");
}

static kiln_status collect(void *user)
{
    owned_network network = NULL;
    owned_issue_list issues = NULL;
    kiln_tensor_id x, y;
    TRY(kiln_network_create(NULL, &network));
    TRY(kiln_network_collect_issues(network, true));
    TRY(kiln_network_add_input(network, "x", F, &KILN_SHAPE(1, 4, 8, 8), NULL, &x));
    for (size_t i = 0; i < 3; i++) {
        TRY(kiln_network_add_softmax(network, "a", x, 7, false, &y));
        TRY(kiln_network_add_rms_normalization(network, NULL, y, y, 1e-5F, &y));
        TRY(kiln_network_add_unary(network, NULL, KILN_UNARY_ABS, x, &x));
    }
    TRY(kiln_network_mark_output(network, y));
    TRY(kiln_network_validate(network, NULL, &issues));
    assert_int_equal(kiln_issue_list_count(issues), 3);
    return KILN_OK;
}

TEST(each_allocation_may_fail)
{
    kiln_test_each_allocation(collect, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A network tells what it is without being built. */
#include <glob.h>

#include "base/kln_base.h"
#include "graph_maker.h"
#include "kiln_test.h"

/* choice = if (flag) relu(x) else x * w; x [batch, 2], w [2]. */
static kiln_status make(kiln_network **network)
{
    static const float weights[2] = {1, 2};
    static const char *const names[] = {"batch", NULL};
    const kiln_weights data = {KILN_DTYPE_FLOAT32, KILN_SHAPE(2), {weights, sizeof weights}};
    kiln_network *then = NULL;
    kiln_network *otherwise = NULL;
    kiln_tensor_id x, w, flag, a, b, y;
    KLN_RETURN_IF_ERROR(kiln_network_create(NULL, network));
    KLN_RETURN_IF_ERROR(kiln_network_add_input(*network, "x", KILN_DTYPE_FLOAT32,
                                               &KILN_SHAPE(KILN_DYNAMIC, 2), names, &x));
    KLN_RETURN_IF_ERROR(kiln_network_add_input(*network, "flag", KILN_DTYPE_BOOL,
                                               &(kiln_shape){.rank = 0}, NULL, &flag));
    KLN_RETURN_IF_ERROR(kiln_network_add_constant(*network, "w", &data, &w));
    KLN_RETURN_IF_ERROR(kiln_network_create_branch(*network, "then", &then));
    KLN_RETURN_IF_ERROR(kiln_network_capture(then, x, &a));
    KLN_RETURN_IF_ERROR(kiln_network_add_activation(then, "r", KILN_ACTIVATION_RELU, a, 0, 0, &a));
    KLN_RETURN_IF_ERROR(kiln_network_mark_output(then, a));
    KLN_RETURN_IF_ERROR(kiln_network_create_branch(*network, "else", &otherwise));
    KLN_RETURN_IF_ERROR(kiln_network_capture(otherwise, x, &a));
    KLN_RETURN_IF_ERROR(kiln_network_capture(otherwise, w, &b));
    KLN_RETURN_IF_ERROR(
        kiln_network_add_elementwise(otherwise, "m", KILN_ELEMENTWISE_MUL, a, b, &a));
    KLN_RETURN_IF_ERROR(kiln_network_mark_output(otherwise, a));
    KLN_RETURN_IF_ERROR(kiln_network_add_if(*network, "choice", flag, then, otherwise, &y, 1));
    KLN_RETURN_IF_ERROR(kiln_network_mark_output(*network, y));
    return kiln_network_set_metadata(*network, "author", "nobody");
}

TEST(a_network_is_told_without_a_build)
{
    owned_network network = NULL;
    owned_inspection inspection = NULL;
    kiln_inspection_info info = {.struct_size = sizeof info};
    kiln_binding binding = {.struct_size = sizeof binding};
    kiln_inspection_opset opset = {.struct_size = sizeof opset};
    kiln_metadata line;
    assert_ok(make(&network));
    assert_ok(kiln_network_inspect(network, false, &inspection));
    assert_ok(kiln_inspection_summary(inspection, &info));
    assert_int_equal(info.input_count, 2);
    assert_int_equal(info.output_count, 1);
    assert_int_equal(info.node_count, 3);
    assert_int_equal(info.initializer_count, 1);
    assert_int_equal(info.initializer_bytes, 8);
    assert_int_equal(info.function_count, 0);
    assert_int_equal(info.opset_count, 1);
    assert_int_equal(info.ir_version, 10);
    assert_ok(kiln_inspection_get_input(inspection, 0, &binding));
    assert_string_equal(binding.name, "x");
    assert_true(binding.is_input);
    assert_int_equal(binding.dtype, KILN_DTYPE_FLOAT32);
    assert_true(kiln_shape_equal(&binding.shape, &KILN_SHAPE(KILN_DYNAMIC, 2)));
    assert_string_equal(binding.dim_names[0], "batch");
    assert_null(binding.dim_names[1]);
    /* The file says nothing of it, the inference does. */
    assert_ok(kiln_inspection_get_output(inspection, 0, &binding));
    assert_false(binding.is_input);
    assert_true(kiln_shape_equal(&binding.shape, &KILN_SHAPE(KILN_DYNAMIC, 2)));
    assert_ok(kiln_inspection_get_opset(inspection, 0, &opset));
    assert_string_equal(opset.domain, "ai.onnx");
    assert_int_equal(opset.version, KILN_OPSET_DEFAULT);
    assert_ok(kiln_inspection_get_metadata(inspection, info.metadata_count - 1, &line));
    assert_string_equal(line.key, "metadata.author");
    assert_string_equal(line.value, "nobody");
}

TEST(nodes_have_the_types_of_their_tensors)
{
    static const struct {
        const char *name, *operator_type, *graph, *input_type, *output_type;
        size_t depth;
    } expected[] = {{"choice", "If", "", "bool[]", "float32[batch,2]", 0},
                    {"r", "Relu", "then_branch", "float32[batch,2]", "float32[batch,2]", 1},
                    {"m", "Mul", "else_branch", "float32[batch,2]", "float32[batch,2]", 1}};
    owned_network network = NULL;
    owned_inspection inspection = NULL;
    kiln_inspection_node node = {.struct_size = sizeof node};
    assert_ok(make(&network));
    assert_ok(kiln_network_inspect(network, true, &inspection));
    for (size_t i = 0; i < 3; i++) {
        assert_ok(kiln_inspection_get_node(inspection, i, &node));
        assert_string_equal(node.name, expected[i].name);
        assert_string_equal(node.domain, "");
        assert_string_equal(node.operator_type, expected[i].operator_type);
        assert_string_equal(node.graph, expected[i].graph);
        assert_int_equal(node.depth, expected[i].depth);
        assert_string_equal(node.input_types[0], expected[i].input_type);
        assert_int_equal(node.output_count, 1);
        assert_string_equal(node.output_types[0], expected[i].output_type);
    }
    assert_int_equal(node.input_count, 2);
    assert_string_equal(node.inputs[1], "w");
    assert_string_equal(node.input_types[1], "float32[2]");
}

TEST(wrong_use_is_refused)
{
    owned_network network = NULL;
    owned_inspection inspection = NULL;
    kiln_binding binding = {.struct_size = sizeof binding};
    kiln_inspection_node node = {.struct_size = sizeof node};
    kiln_inspection_info small = {.struct_size = 1};
    assert_ok(make(&network));
    kiln_network *branch = new_branch(network, "unused");
    assert_status(KILN_ERROR_STATE, kiln_network_inspect(branch, false, &inspection));
    assert_null(inspection);
    assert_ok(kiln_network_inspect(network, false, &inspection));
    assert_status(KILN_ERROR_STATE, kiln_inspection_get_node(inspection, 0, &node));
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_inspection_get_input(inspection, 2, &binding));
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_inspection_get_output(inspection, 1, &binding));
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_inspection_summary(inspection, &small));
    kiln_inspection_destroy(NULL);
}

TEST(an_empty_network_has_no_nodes)
{
    owned_inspection inspection = NULL;
    kiln_inspection_node node = {.struct_size = sizeof node};
    owned_network network = new_network();
    assert_ok(kiln_network_inspect(network, true, &inspection));
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_inspection_get_node(inspection, 0, &node));
}

ALLOCATIONS(TEST, each_failed_allocation_is_survived)
{
    owned_network network = NULL;
    owned_inspection inspection = NULL;
    TRY(make(&network));
    return kiln_network_inspect(network, true, &inspection);
}

/* A file of weights that is not there takes nothing but its numbers away. */
TEST(missing_weights_are_named)
{
    static float numbers[64 * 64] = {1};
    kiln_inspection *inspection = NULL;
    kiln_inspection_info info = {.struct_size = sizeof info};
    char data[4200];
    const char *path = kiln_test_path("missing.onnx");
    (void)snprintf(data, sizeof data, "%s.*.data", path);
    kiln_network *network =
        made_network(numbers, "in x float32[2,64]; floats w float32[64,64]; y=MatMul(x,w); out y");
    assert_ok(kiln_network_save_onnx(network, path, KILN_WEIGHTS_EXTERNAL));
    kiln_network_destroy(network);
    for (int missing = 0; missing < 2; missing++) {
        assert_ok(kiln_inspect_file(path, true, &inspection));
        assert_ok(kiln_inspection_summary(inspection, &info));
        assert_int_equal(1, info.node_count);
        assert_int_equal(sizeof numbers, info.initializer_bytes);
        const kiln_issue_list *issues = kiln_inspection_issues(inspection);
        assert_int_equal(missing, kiln_issue_list_count(issues));
        if (missing == 1) {
            const kiln_issue *issue = kiln_issue_list_get(issues, 0);
            assert_string_equal("w", issue->tensor);
            assert_int_equal(KILN_ISSUE_WEIGHTS, issue->kind);
            assert_non_null(strstr(issue->found, ".data"));
            assert_non_null(strstr(issue->sentence, "cannot be found: No such file"));
        }
        kiln_inspection_destroy(inspection);
        /* The weights' file has a name of its own. */
        glob_t found;
        assert_int_equal(missing == 0 ? 0 : GLOB_NOMATCH, glob(data, 0, NULL, &found));
        for (size_t i = 0; missing == 0 && i < found.gl_pathc; i++) {
            assert_int_equal(0, unlink(found.gl_pathv[i]));
        }
        globfree(&found);
    }
    assert_status(KILN_ERROR_NOT_FOUND, kiln_network_from_onnx(path, &network));
    assert_status(KILN_ERROR_NOT_FOUND, kiln_inspect_file("/no/such.onnx", true, &inspection));
    assert_null(inspection);
    assert_null(kiln_inspection_issues(NULL));
}

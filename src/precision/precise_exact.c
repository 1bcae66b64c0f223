/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values that have to stay exact in the middle of a network.
 *
 * Positions: a half type holds integers exactly up to 2,048 (bfloat16: 256), so floats that are
 * computed from integers and end as integers (sizes, indices, angles of positions) stay float32. A
 * mask is computed from integers as well, but ends in a product or a sum, and is converted.
 *
 * Squares: a variance sums squares, which overflow float16 from 256 on, and adds an epsilon that
 * float16 cannot represent. Everything from the square to the root stays float32.
 */
#include "precise_parts.h"

static const char *const arithmetic[] = {
    "Add",    "Sub",    "Mul",     "Div",       "Floor",     "Ceil",       "Round",   "Pow",
    "Sqrt",   "Exp",    "Neg",     "Abs",       "Concat",    "Gather",     "Squeeze", "Min",
    "Max",    "Clip",   "Reshape", "Unsqueeze", "Transpose", "Slice",      "Expand",  "Tile",
    "MatMul", "Einsum", "Log",     "Range",     "Identity",  "Reciprocal", "Flatten", NULL};
/* Operators for which an error of one matters. */
static const char *const counters[] = {"Sin",   "Cos",   "Tan", "Floor", "Ceil",
                                       "Round", "Range", "Mod", NULL};
static const char *const squares[] = {"Pow", "Mul", NULL};
static const char *const reductions[] = {"ReduceMean", "ReduceSum", NULL};
static const char *const after_squares[] = {
    "ReduceMean", "ReduceSum", "Add", "Sub",      "Sqrt",    "Mul",       "Reciprocal", "Pow",
    "Div",        "Clip",      "Max", "Identity", "Squeeze", "Unsqueeze", NULL};

static int64_t cast_to(const kln_onnx_node *node)
{
    const kln_onnx_attribute *to = kln_onnx_find_attribute(node, "to");
    return kln_onnx_node_is(node, "Cast") && to != NULL ? to->i : 0;
}

static bool is_whole(int32_t wire)
{
    const kiln_dtype dtype = kln_onnx_dtype(wire);
    return dtype >= KILN_DTYPE_INT8 && dtype <= KILN_DTYPE_UINT64;
}

/* Derives the properties of a node's outputs from those of its inputs. */
static void flow(precise_graph *graph, size_t index)
{
    const kln_onnx_node *node = &graph->graph->nodes[index];
    const bool measures = strcmp(node->op_type, "Shape") == 0 || strcmp(node->op_type, "Size") == 0;
    const bool passes = kln_onnx_node_is_among(node, arithmetic);
    bool counted = false;
    bool shape = true;
    bool single = false;
    bool squared = false;
    bool mixed = false;    /* an input is a float that is not counted */
    bool unsquare = false; /* an input is a float that is not squared */
    for (size_t i = 0; i < node->input_count; i++) {
        const precise_value *in = precise_find(graph, node->inputs[i]);
        if (in == NULL || precise_is_constant(in)) {
            continue;
        }
        shape = shape && in->is_shape;
        single = single || in->is_single;
        counted = counted || in->is_counted;
        squared = squared || in->is_squared;
        mixed = mixed || (in->is_single && !in->is_counted);
        unsquare = unsquare || (in->is_single && !in->is_squared);
    }
    const precise_value *first =
        node->input_count != 0 ? precise_find(graph, node->inputs[0]) : NULL;
    const bool starts = cast_to(node) == WIRE_FLOAT && first != NULL && first->known != NULL &&
                        is_whole(first->known->wire_dtype);
    const bool twice = strcmp(node->op_type, "Mul") != 0 ||
                       (node->input_count == 2 && strcmp(node->inputs[0], node->inputs[1]) == 0);
    for (size_t k = 0; k < node->output_count; k++) {
        precise_value *out = precise_find(graph, node->outputs[k]);
        if (out == NULL) {
            continue;
        }
        out->is_shape = measures || shape;
        out->is_counted =
            out->is_single &&
            (starts || (passes && !mixed && (counted || strcmp(node->op_type, "Range") == 0)));
        out->is_squared = out->is_single && single &&
                          ((kln_onnx_node_is_among(node, squares) && twice && out->is_reduced) ||
                           (squared && !unsquare && kln_onnx_node_is_among(node, after_squares)));
    }
}

/* Whether an output of the node is read where it has to be exact. */
static bool is_wanted_exact(const precise_graph *graph, const kln_onnx_node *node,
                            const kln_names *exact)
{
    for (size_t k = 0; k < node->output_count; k++) {
        if (node->outputs[k][0] != '\0' &&
            kln_names_get(exact, node->outputs[k]) != KLN_NAMES_NONE) {
            return precise_find(graph, node->outputs[k]) != NULL;
        }
    }
    return false;
}

static bool has_counted(const precise_graph *graph, const kln_onnx_node *node, bool inputs)
{
    const size_t count = inputs ? node->input_count : node->output_count;
    for (size_t i = 0; i < count; i++) {
        const precise_value *value =
            precise_find(graph, inputs ? node->inputs[i] : node->outputs[i]);
        if (value != NULL && value->is_counted) {
            return true;
        }
    }
    return false;
}

static kiln_status mark_backwards(precise_graph *graph, size_t index, kln_names *exact)
{
    const kln_onnx_node *node = &graph->graph->nodes[index];
    precise_node *decided = &graph->nodes[index];
    const bool reads = has_counted(graph, node, true);
    const bool makes = has_counted(graph, node, false);
    const bool ends =
        reads && (kln_onnx_node_is_among(node, counters) || is_whole((int32_t)cast_to(node)));
    bool of_shapes = makes;
    for (size_t k = 0; k < node->output_count; k++) {
        const precise_value *out = precise_find(graph, node->outputs[k]);
        of_shapes = of_shapes && out != NULL && out->is_shape;
    }
    if (!ends && !of_shapes && !(makes && is_wanted_exact(graph, node, exact))) {
        return KILN_OK;
    }
    decided->is_exact = true;
    for (size_t i = 0; i < node->input_count; i++) {
        const precise_value *in = precise_find(graph, node->inputs[i]);
        if (in != NULL && in->is_counted) {
            KLN_RETURN_IF_ERROR(kln_names_set(exact, node->inputs[i], 0));
        }
    }
    return KILN_OK;
}

kiln_status precise_mark_exact(precise_graph *graph)
{
    const size_t count = graph->graph->node_count;
    for (size_t i = 0; i < count; i++) {
        const kln_onnx_node *node = &graph->graph->nodes[i];
        precise_value *in = node->input_count != 0 ? precise_find(graph, node->inputs[0]) : NULL;
        if (in != NULL && kln_onnx_node_is_among(node, reductions)) {
            in->is_reduced = true;
        }
    }
    for (size_t i = 0; i < count; i++) {
        flow(graph, precise_turn(graph, i));
    }
    KLN_SCOPED(kln_names_finish) kln_names exact = {0};
    for (size_t i = count; i-- > 0;) {
        KLN_RETURN_IF_ERROR(mark_backwards(graph, precise_turn(graph, i), &exact));
    }
    return KILN_OK;
}

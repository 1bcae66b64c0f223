/* SPDX-License-Identifier: Apache-2.0 */
/* The number of multiplications of a node. */
#include "kln_precision.h"

/* Stands in for an unknown size: plausible for an image, and not 1, which would look like a
 * gate. */
#define UNKNOWN_SIZE 32

static uint64_t size_at(const kln_value *value, size_t axis)
{
    return value->dims[axis].kind == KLN_DIM_NUMBER && value->dims[axis].of.number > 0
               ? (uint64_t)value->dims[axis].of.number
               : UNKNOWN_SIZE;
}

static uint64_t elements(const kln_value *value, size_t from)
{
    uint64_t count = 1;
    for (size_t i = from; i < value->rank; i++) {
        count *= size_at(value, i);
    }
    return count;
}

/* Every row of every time step is multiplied by the input weights and by the state weights. */
static uint64_t of_recurrent(const kln_onnx_node *node, const kln_graph_inference *known)
{
    const kln_value *all[3];
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(all); i++) {
        all[i] = i < node->input_count ? kln_inference_find(known, node->inputs[i]) : NULL;
        if (all[i] == NULL || !all[i]->has_shape || all[i]->rank != 3) {
            return 0;
        }
    }
    return size_at(all[0], 0) * size_at(all[0], 1) * (elements(all[1], 0) + elements(all[2], 0));
}

uint64_t kln_precision_multiplications(const kln_onnx_node *node, const kln_graph_inference *known)
{
    const bool is_conv = kln_onnx_node_is(node, "Conv");
    const bool is_across = kln_onnx_node_is(node, "ConvTranspose");
    if (known == NULL || node->input_count < 2 || node->output_count == 0 ||
        (!is_conv && !is_across && !KLN_ONNX_NODE_IS_ANY(node, "MatMul", "Gemm"))) {
        return known != NULL && KLN_ONNX_NODE_IS_ANY(node, "LSTM", "GRU", "RNN")
                   ? of_recurrent(node, known)
                   : 0;
    }
    const kln_value *left = kln_inference_find(known, node->inputs[0]);
    const kln_value *right = kln_inference_find(known, node->inputs[1]);
    const kln_value *out = kln_inference_find(known, node->outputs[0]);
    if (left == NULL || right == NULL || out == NULL || !left->has_shape || !right->has_shape ||
        !out->has_shape || left->rank == 0 || right->rank == 0) {
        return 0;
    }
    if (is_conv || is_across) {
        return elements(is_conv ? out : left, 0) * elements(right, 1);
    }
    const kln_onnx_attribute *across = kln_onnx_find_attribute(node, "transA");
    const bool swaps = kln_onnx_node_is(node, "Gemm") && across != NULL && across->i != 0;
    return elements(out, 0) * size_at(left, swaps ? 0 : left->rank - 1);
}

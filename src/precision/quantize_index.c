/* SPDX-License-Identifier: Apache-2.0 */
#include "quantize_parts.h"

/* Marks `name` as an input of a GELU (https://arxiv.org/abs/1606.08415), and also what it is
 * computed from by a bias or scale, up to so many steps back. */
static kiln_status mark_gelu(quantize_index *index, const char *name, int steps)
{
    const kln_onnx_node *maker = quantize_producer(index, name);
    KLN_RETURN_IF_ERROR(kln_names_set(&index->gelus, name, 0));
    if (steps == 0 || maker == NULL || !KLN_ONNX_NODE_IS_ANY(maker, "Add", "Div", "Mul")) {
        return KILN_OK;
    }
    for (size_t k = 0; k < maker->input_count; k++) {
        KLN_RETURN_IF_ERROR(mark_gelu(index, maker->inputs[k], steps - 1));
    }
    return KILN_OK;
}

kiln_status quantize_index_make(const kln_onnx_graph *graph, quantize_index *index)
{
    KLN_RETURN_IF_ERROR(kln_graph_index_make(graph, &index->of));
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        if (KLN_ONNX_NODE_IS_ANY(node, "Sigmoid", "HardSigmoid")) {
            KLN_RETURN_IF_ERROR(kln_names_set(&index->sigmoids, node->inputs[0], (uint32_t)i));
        }
        if (node->input_count != 0 && KLN_ONNX_NODE_IS_ANY(node, "Erf", "Gelu")) {
            KLN_RETURN_IF_ERROR(mark_gelu(index, node->inputs[0], 2));
        }
    }
    return KILN_OK;
}

void quantize_index_finish(quantize_index *index)
{
    kln_graph_index_finish(&index->of);
    kln_names_finish(&index->sigmoids);
    kln_names_finish(&index->gelus);
}

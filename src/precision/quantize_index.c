/* SPDX-License-Identifier: Apache-2.0 */
#include "quantize_parts.h"

const kln_onnx_node *quantize_node_of(const kln_names *names, const kln_onnx_graph *graph,
                                      const char *name)
{
    const uint32_t place = kln_names_get(names, name);
    return place != KLN_NAMES_NONE ? &graph->nodes[place] : NULL;
}

/* `name` goes into a GELU (https://arxiv.org/abs/1606.08415), and so does what it is made of by a
 * bias and scales: within so many steps. */
static kiln_status mark_gelu(const kln_onnx_graph *graph, quantize_index *index, const char *name,
                             int steps)
{
    const kln_onnx_node *maker = quantize_node_of(&index->makers, graph, name);
    KLN_RETURN_IF_ERROR(kln_names_set(&index->gelus, name, 0));
    if (steps == 0 || maker == NULL ||
        !(kln_graph_edit_is(maker, "Add") || kln_graph_edit_is(maker, "Div") ||
          kln_graph_edit_is(maker, "Mul"))) {
        return KILN_OK;
    }
    for (size_t k = 0; k < maker->input_count; k++) {
        KLN_RETURN_IF_ERROR(mark_gelu(graph, index, maker->inputs[k], steps - 1));
    }
    return KILN_OK;
}

static kiln_status mark_gelus(const kln_onnx_graph *graph, quantize_index *index)
{
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        if (node->input_count != 0 &&
            (kln_graph_edit_is(node, "Erf") || kln_graph_edit_is(node, "Gelu"))) {
            KLN_RETURN_IF_ERROR(mark_gelu(graph, index, node->inputs[0], 2));
        }
    }
    return KILN_OK;
}

kiln_status quantize_index_readers(const kln_onnx_graph *graph, quantize_index *index)
{
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        for (size_t k = 0; k < node->input_count; k++) {
            KLN_RETURN_IF_ERROR(kln_names_set(&index->readers, node->inputs[k], (uint32_t)i));
        }
        if (kln_graph_edit_is(node, "Sigmoid") || kln_graph_edit_is(node, "HardSigmoid")) {
            KLN_RETURN_IF_ERROR(kln_names_set(&index->sigmoids, node->inputs[0], (uint32_t)i));
        }
    }
    return KILN_OK;
}

kiln_status quantize_index_make(const kln_onnx_graph *graph, quantize_index *index)
{
    KLN_RETURN_IF_ERROR(quantize_index_readers(graph, index));
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        for (size_t k = 0; k < node->output_count; k++) {
            KLN_RETURN_IF_ERROR(kln_names_set(&index->makers, node->outputs[k], (uint32_t)i));
        }
    }
    return mark_gelus(graph, index);
}

void quantize_index_finish(quantize_index *index)
{
    kln_names_finish(&index->readers);
    kln_names_finish(&index->sigmoids);
    kln_names_finish(&index->makers);
    kln_names_finish(&index->gelus);
}

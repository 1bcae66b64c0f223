/* SPDX-License-Identifier: Apache-2.0 */
/* Gates, which scale whole channels: a rounding of theirs is in every number of one. They compute
 * little, so with ranges of channels, where accuracy is what was asked for, they stay. One in eight
 * bits stays in any case: TensorRT 10.6 builds no kernel that quantizes what a Sigmoid of a half
 * type gives ("weightsPtr.h: Assertion type() == expectedDataType<T>()"), and its kernel of bytes
 * computes the rest of a gate in float32 as it is. */
#include "precise_parts.h"
#include "quantize_parts.h"

static bool is_pixel_of_gate(const precise_graph *graph, const char *name, bool forwards)
{
    const kln_value *value = kln_inference_find(graph->known, name);
    return quantize_is_one_pixel(value) && value->producer != KLN_NO_NODE &&
           (!forwards || graph->nodes[value->producer].is_gate);
}

/* What reads a gate's pixels, to what multiplies an image by them; and what makes them. */
static void mark_around(precise_graph *graph)
{
    const size_t count = graph->graph->node_count;
    for (size_t turn = 0; turn < count; turn++) {
        const size_t index = precise_turn(graph, turn);
        const kln_onnx_node *node = &graph->graph->nodes[index];
        for (size_t k = 0; k < node->input_count; k++) {
            graph->nodes[index].is_gate =
                graph->nodes[index].is_gate || is_pixel_of_gate(graph, node->inputs[k], true);
        }
    }
    for (size_t turn = count; turn-- > 0;) {
        const size_t index = precise_turn(graph, turn);
        const kln_onnx_node *node = &graph->graph->nodes[index];
        for (size_t k = 0; graph->nodes[index].is_gate && k < node->input_count; k++) {
            if (is_pixel_of_gate(graph, node->inputs[k], false)) {
                graph->nodes[kln_inference_find(graph->known, node->inputs[k])->producer].is_gate =
                    true;
            }
        }
    }
}

static bool is_gate(const precise_graph *graph, const quantize_index *index,
                    const kln_onnx_node *node, bool in_any_case)
{
    const kln_value *weights =
        node->input_count > 1 ? kln_inference_find(graph->known, node->inputs[1]) : NULL;
    const bool is_quantized =
        weights != NULL && weights->producer != KLN_NO_NODE &&
        kln_graph_edit_is(&graph->graph->nodes[weights->producer], "DequantizeLinear");
    return (is_quantized || in_any_case) && quantize_gated(graph->known, index, node) != NULL;
}

kiln_status precise_mark_gates(const precise_pass *pass, precise_graph *graph)
{
    quantize_index index = {.of = {.graph = NULL}};
    bool found = false;
    const bool all = kln_ranges_have_channels(pass->options->ranges);
    if (graph->known == NULL) {
        return KILN_OK;
    }
    const kiln_status status = quantize_index_make(graph->graph, &index);
    for (size_t i = 0; status == KILN_OK && i < graph->graph->node_count; i++) {
        graph->nodes[i].is_gate = is_gate(graph, &index, &graph->graph->nodes[i], all);
        found = found || graph->nodes[i].is_gate;
    }
    quantize_index_finish(&index);
    if (found) {
        mark_around(graph);
    }
    return status;
}

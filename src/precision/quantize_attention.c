/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The product behind attention, softmax(q k) v ("Attention Is All You Need",
 * https://arxiv.org/abs/1706.03762). TensorRT makes one kernel of the attention, which in a half
 * type writes its result where the product reads it; bytes are moved there by a kernel of their
 * own, and the normalizations around are split in two. On an H200 that costs more than the product
 * saves where it is 768 wide (bench/gpu_precision.py).
 */
#include "quantize_parts.h"

/* As wide as that it stays. */
#define NARROW 1024

static const kln_onnx_node *maker_of(const kln_graph_inference *known, const kln_onnx_graph *graph,
                                     const char *name)
{
    const kln_value *value = kln_inference_find(known, name);
    return value != NULL && value->producer != KLN_NO_NODE ? &graph->nodes[value->producer] : NULL;
}

/* The values by what a softmax gives, masked or not. */
static bool is_attention(const kln_graph_inference *known, const kln_onnx_graph *graph,
                         const kln_onnx_node *node)
{
    if (!kln_graph_edit_is(node, "MatMul")) {
        return false;
    }
    const kln_onnx_node *weights = maker_of(known, graph, node->inputs[0]);
    for (int steps = 0; steps < 2 && weights != NULL && !kln_graph_edit_is(weights, "Softmax");
         steps++) {
        const bool is_masked = kln_graph_edit_is(weights, "Cast") ||
                               kln_graph_edit_is(weights, "Mul") ||
                               kln_graph_edit_is(weights, "Where");
        weights =
            is_masked ? maker_of(known, graph, weights->inputs[weights->input_count - 1]) : NULL;
    }
    return weights != NULL && kln_graph_edit_is(weights, "Softmax");
}

bool quantize_has_no_gain(const kiln_precision_options *options, const kln_graph_inference *known,
                          const kln_onnx_graph *graph, const char *input, int64_t width)
{
    if (options->rest == KILN_PRECISION_DEFAULT || width > NARROW) {
        return false;
    }
    const kln_onnx_node *node = maker_of(known, graph, input);
    for (int steps = 0; steps < 4 && node != NULL && quantize_is_move(node); steps++) {
        node = maker_of(known, graph, node->inputs[0]);
    }
    return node != NULL && is_attention(known, graph, node);
}

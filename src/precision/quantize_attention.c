/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Products that eight bits do not make faster beside a half type, because TensorRT makes fewer and
 * larger kernels of the half type (bench/gpu_precision.py, on an H200). What that costs grows with
 * what a product reads or gives; what eight bits save, with how long the sums are as well: so that
 * it is narrow products that stay.
 */
#include <string.h>

#include "quantize_parts.h"

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

/* What attention gives, softmax(q k) v ("Attention Is All You Need",
 * https://arxiv.org/abs/1706.03762), is written where the product reads it; bytes are moved there
 * by a kernel of their own, and the normalizations around are split in two. */
static bool projects_attention(const kln_graph_inference *known, const kln_onnx_graph *graph,
                               const char *input)
{
    const kln_onnx_node *node = maker_of(known, graph, input);
    for (int steps = 0; steps < 4 && node != NULL && quantize_is_move(node); steps++) {
        node = maker_of(known, graph, node->inputs[0]);
    }
    return node != NULL && is_attention(known, graph, node);
}

/* Whether `name` goes into a GELU (https://arxiv.org/abs/1606.08415), a bias added: a product in a
 * half type or in int8 computes it in its own kernel, one of float8 does not. */
static bool feeds_gelu(const kln_onnx_graph *graph, const char *name, int steps)
{
    static const char *const between[] = {"Add", "Div", "Mul"};
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        bool is_read = false;
        for (size_t k = 0; k < node->input_count; k++) {
            is_read = is_read || strcmp(node->inputs[k], name) == 0;
        }
        if (!is_read) {
            continue;
        }
        if (kln_graph_edit_is(node, "Erf") || kln_graph_edit_is(node, "Gelu")) {
            return true;
        }
        for (size_t k = 0; steps > 0 && k < KLN_ARRAY_LENGTH(between); k++) {
            if (kln_graph_edit_is(node, between[k]) &&
                feeds_gelu(graph, node->outputs[0], steps - 1)) {
                return true;
            }
        }
    }
    return false;
}

bool quantize_has_no_gain(const kiln_precision_options *options, const kln_graph_inference *known,
                          const kln_onnx_graph *graph, const kln_onnx_node *node,
                          const quantize_product *product)
{
    if (options->rest == KILN_PRECISION_DEFAULT || kln_graph_edit_is(node, "Conv") ||
        kln_graph_edit_is(node, "ConvTranspose")) {
        return false;
    }
    if (product->width <= NARROW &&
        projects_attention(known, graph, node->inputs[product->input])) {
        return true;
    }
    return options->precision == KILN_PRECISION_FP8 && product->depth < NARROW &&
           feeds_gelu(graph, node->outputs[0], 2);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Products that are no faster in eight bits than in a half type, because TensorRT fuses the half
 * type into fewer and larger kernels (bench/gpu_precision.py, on an H200). The cost of that grows
 * with a product's input or output; the saving also grows with the length of its sums. So it is
 * narrow products that stay.
 */
#include "quantize_parts.h"

#define NARROW 1024

/* The product of a softmax, masked or not, with the values. */
static bool is_attention(const quantize_index *index, const kln_onnx_node *node)
{
    if (!kln_onnx_node_is(node, "MatMul")) {
        return false;
    }
    const kln_onnx_node *weights = quantize_producer(index, node->inputs[0]);
    for (int steps = 0; steps < 2 && weights != NULL && !kln_onnx_node_is(weights, "Softmax");
         steps++) {
        const bool is_masked = KLN_ONNX_NODE_IS_ANY(weights, "Cast", "Mul", "Where");
        weights =
            is_masked ? quantize_producer(index, weights->inputs[weights->input_count - 1]) : NULL;
    }
    return weights != NULL && kln_onnx_node_is(weights, "Softmax");
}

/* Attention in a half type, softmax(q k) v ("Attention Is All You Need",
 * https://arxiv.org/abs/1706.03762), writes its output where the product reads it. Eight bits
 * need a separate kernel to move the bytes there, and the surrounding normalizations are split
 * in two. */
static bool projects_attention(const quantize_index *index, const char *input)
{
    const kln_onnx_node *node = quantize_producer(index, input);
    for (int steps = 0; steps < 4 && node != NULL && quantize_is_move(node); steps++) {
        node = quantize_producer(index, node->inputs[0]);
    }
    return node != NULL && is_attention(index, node);
}

bool quantize_has_no_gain(const kiln_precision_options *options, const quantize_index *index,
                          const kln_onnx_node *node, const quantize_product *product)
{
    if (options->rest == KILN_PRECISION_DEFAULT ||
        KLN_ONNX_NODE_IS_ANY(node, "Conv", "ConvTranspose")) {
        return false;
    }
    if (product->width <= NARROW && projects_attention(index, node->inputs[product->input])) {
        return true;
    }
    return product->depth < NARROW &&
           kln_names_get(&index->gelus, node->outputs[0]) != KLN_NAMES_NONE;
}

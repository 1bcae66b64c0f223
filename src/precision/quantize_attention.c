/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Products that eight bits do not make faster beside a half type, because TensorRT makes fewer and
 * larger kernels of the half type (bench/gpu_precision.py, on an H200). What that costs grows with
 * what a product reads or gives; what eight bits save, with how long the sums are as well: so that
 * it is narrow products that stay.
 */
#include "quantize_parts.h"

#define NARROW 1024

/* The values by what a softmax gives, masked or not. */
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

/* What attention gives, softmax(q k) v ("Attention Is All You Need",
 * https://arxiv.org/abs/1706.03762), is written where the product reads it; bytes are moved there
 * by a kernel of their own, and the normalizations around are split in two. */
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

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stays in float32 though its operator takes a half type.
 *
 * Gates, which scale whole channels: a rounding of theirs is in every number of one. They compute
 * little, so with ranges of channels, where accuracy is what was asked for, they stay.
 *
 * What TensorRT 10.6 builds no plan of: a convolution in eight bits and an activation behind it,
 * whose result is quantized, with scales of float16 ("weightsPtr.h: Assertion type() ==
 * expectedDataType<T>()", of ConvTranspose "getFormatRequirements"; seen of those below but Clip
 * and Celu, and PRelu behind Conv; with bfloat16 of HardSigmoid). Nothing is lost, for its kernel
 * goes from bytes to bytes and computes in float32. Of a gate in eight bits that is so of all that
 * lies between its pool and what it scales.
 *
 * And a product in eight bits whose result is an output, which is float32: its kernel gives that as
 * well, where a half type would take one more kernel for the cast.
 */
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

static const char *const activations[] = {"Sigmoid",   "HardSigmoid", "Tanh", "Elu",
                                          "Softplus",  "HardSwish",   "Selu", "Softsign",
                                          "LeakyRelu", "Clip",        "Celu", "ThresholdedRelu",
                                          "PRelu",     "Mish",        "Gelu", NULL};

static const kln_onnx_node *maker_of(const precise_graph *graph, const char *name, size_t *index)
{
    const kln_value *value = kln_inference_find(graph->known, name);
    if (value == NULL || value->producer == KLN_NO_NODE) {
        return NULL;
    }
    *index = value->producer;
    return &graph->graph->nodes[value->producer];
}

/* What dequantizes that input of the node, or NULL. */
static const kln_onnx_node *dequantizer_of(const precise_graph *graph, const kln_onnx_node *node,
                                           size_t input)
{
    size_t at = 0;
    const kln_onnx_node *maker =
        node->input_count > input ? maker_of(graph, node->inputs[input], &at) : NULL;
    return maker != NULL && kln_onnx_node_is(maker, "DequantizeLinear") ? maker : NULL;
}

static bool has_quantized_weights(const precise_graph *graph, const kln_onnx_node *node)
{
    return dequantizer_of(graph, node, 1) != NULL;
}

static bool is_int8(const precise_graph *graph, const kln_onnx_node *node, size_t input)
{
    const kln_onnx_node *maker = dequantizer_of(graph, node, input);
    const precise_value *of = maker != NULL ? precise_find(graph, maker->inputs[0]) : NULL;
    return of != NULL && of->known != NULL &&
           of->known->wire_dtype == kln_onnx_wire_dtype(KILN_DTYPE_INT8);
}

/* The convolution and the activation that `node` quantizes the result of. */
static void mark_activated(precise_graph *graph, const kln_onnx_node *node)
{
    size_t at = 0;
    size_t before = 0;
    const kln_onnx_node *activation = maker_of(graph, node->inputs[0], &at);
    if (activation == NULL || !kln_onnx_node_is_among(activation, activations)) {
        return;
    }
    const kln_value *between = kln_inference_find(graph->known, activation->inputs[0]);
    const kln_onnx_node *conv = maker_of(graph, activation->inputs[0], &before);
    if (conv != NULL && has_quantized_weights(graph, conv) &&
        KLN_ONNX_NODE_IS_ANY(conv, "Conv", "ConvTranspose")) {
        graph->nodes[at].is_bytes = true;
        graph->nodes[before].is_bytes = between->consumers == 1;
    }
}

/* The product that makes an output which nobody else reads, and what moves its result there. */
static void mark_last(precise_graph *graph, const char *output)
{
    size_t moves[4];
    size_t count = 0;
    size_t at = 0;
    const kln_onnx_node *node = NULL;
    for (const char *name = output;; name = node->inputs[0]) {
        node = maker_of(graph, name, &at);
        if (node == NULL || kln_inference_find(graph->known, name)->consumers != 1) {
            return;
        }
        if (!quantize_is_move(node) || count == KLN_ARRAY_LENGTH(moves)) {
            break;
        }
        moves[count++] = at;
    }
    if (!KLN_ONNX_NODE_IS_ANY(node, "Conv", "ConvTranspose", "Gemm", "MatMul") ||
        !is_int8(graph, node, 0) || !is_int8(graph, node, 1)) {
        return;
    }
    graph->nodes[at].is_bytes = true;
    while (count-- > 0) {
        graph->nodes[moves[count]].is_bytes = true;
    }
}

static bool is_gate(const precise_graph *graph, const quantize_index *index,
                    const kln_onnx_node *node, bool in_any_case)
{
    return (in_any_case || has_quantized_weights(graph, node)) &&
           quantize_gated(graph->known, index, node) != NULL;
}

kiln_status precise_mark_kept(const precise_pass *pass, precise_graph *graph)
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
        if (kln_onnx_node_is(&graph->graph->nodes[i], "QuantizeLinear")) {
            mark_activated(graph, &graph->graph->nodes[i]);
        }
    }
    quantize_index_finish(&index);
    for (size_t i = 0;
         graph == pass->main && !pass->options->convert_bindings && i < graph->graph->output_count;
         i++) {
        mark_last(graph, graph->graph->outputs[i].name);
    }
    if (found) {
        mark_around(graph);
    }
    return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which nodes compute in eight bits: convolutions and products with constant weights. To keep the
 * tensors between them in eight bits, the other branch of a sum with a convolution and the input of
 * an average pooling are quantized too, as NVIDIA recommends for TensorRT's explicit quantization:
 * https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html
 */
#include "quantize_parts.h"

/* Finds which input holds the weights of a convolution or product, and their axes; false if none
 * does. */
static bool find_weights(const quantize_pass *pass, const kln_onnx_node *node,
                         quantize_node *chosen)
{
    const quantize_value *left =
        node->input_count > 1 ? quantize_find(pass, node->inputs[0]) : NULL;
    const quantize_value *right =
        node->input_count > 1 ? quantize_find(pass, node->inputs[1]) : NULL;
    if (left == NULL || right == NULL) {
        return false;
    }
    const bool is_product = kln_onnx_node_is(node, "MatMul");
    const bool is_gemm = kln_onnx_node_is(node, "Gemm");
    const bool swapped = is_product && right->weights == NULL;
    const kln_onnx_tensor *weights = swapped ? left->weights : right->weights;
    chosen->weights = swapped ? 0 : 1;
    chosen->input = 1 - chosen->weights;
    if (weights == NULL || weights->rank < 2 || (swapped ? right : left)->weights != NULL) {
        return false;
    }
    const int64_t rank = (int64_t)weights->rank;
    if (is_product) {
        chosen->axis = swapped ? rank - 2 : rank - 1;
        chosen->depth = swapped ? rank - 1 : rank - 2;
        return true;
    }
    if (is_gemm) {
        chosen->axis = kln_onnx_int(node, "transB", 0) != 0 ? 0 : 1;
        chosen->depth = 1 - chosen->axis;
        return kln_onnx_int(node, "transA", 0) == 0;
    }
    chosen->depth = 1;
    if (kln_onnx_node_is(node, "ConvTranspose")) {
        chosen->axis = 1;
        chosen->depth = 0;
        return kln_onnx_int(node, "group", 1) == 1;
    }
    chosen->axis = 0;
    return kln_onnx_node_is(node, "Conv");
}

static bool is_candidate(const kln_onnx_node *node)
{
    return KLN_ONNX_NODE_IS_ANY(node, "Conv", "ConvTranspose", "MatMul", "Gemm");
}

/* The node that reads `name`: its only reader, or the Mul of x sigmoid(x), where x has two. */
static const kln_onnx_node *next_of(const kln_graph_inference *known, const quantize_index *index,
                                    const char *name)
{
    const kln_value *value = kln_inference_find(known, name);
    if (value != NULL && value->consumers == 1) {
        return kln_graph_index_node(&index->of, &index->of.consumers, name);
    }
    const kln_onnx_node *sigmoid = value != NULL && value->consumers == 2
                                       ? kln_graph_index_node(&index->of, &index->sigmoids, name)
                                       : NULL;
    const kln_value *gate = sigmoid != NULL ? kln_inference_find(known, sigmoid->outputs[0]) : NULL;
    const kln_onnx_node *next =
        gate != NULL && gate->consumers == 1
            ? kln_graph_index_node(&index->of, &index->of.consumers, gate->name)
            : NULL;
    const bool is_both = next != NULL && kln_onnx_node_is(next, "Mul") &&
                         (strcmp(next->inputs[0], name) == 0 || strcmp(next->inputs[1], name) == 0);
    return is_both ? next : NULL;
}

bool quantize_is_one_pixel(const kln_value *value)
{
    bool is_one = value != NULL && value->has_shape && value->rank > 2;
    for (size_t i = 2; is_one && i < value->rank; i++) {
        is_one = value->dims[i].kind == KLN_DIM_NUMBER && value->dims[i].of.number == 1;
    }
    return is_one;
}

/* "Squeeze-and-Excitation Networks", https://arxiv.org/abs/1709.01507: an image's channels are
 * averaged, and small convolutions turn the averages into factors for the channels. One
 * quantization step of such a factor changes a whole channel. */
const kln_onnx_node *quantize_gated(const kln_graph_inference *known, const quantize_index *index,
                                    const kln_onnx_node *node)
{
    if (!kln_onnx_node_is(node, "Conv") ||
        !quantize_is_one_pixel(kln_inference_find(known, node->inputs[0]))) {
        return NULL;
    }
    for (int steps = 0; steps < 12 && node != NULL && node->output_count == 1; steps++) {
        const char *name = node->outputs[0];
        node = next_of(known, index, name);
        if (node != NULL && kln_onnx_node_is(node, "Mul") && node->input_count == 2) {
            const char *other = node->inputs[strcmp(node->inputs[0], name) == 0];
            const kln_value *value = kln_inference_find(known, other);
            if (value != NULL && !value->is_constant && !quantize_is_one_pixel(value)) {
                return node;
            }
        }
    }
    return NULL;
}

/* Quantizes a convolution or product unless something prevents it. */
static void choose_product(const quantize_pass *pass, const kln_onnx_node *node,
                           quantize_node *chosen)
{
    if (!find_weights(pass, node, chosen)) {
        chosen->reason = KILN_PRECISION_NO_WEIGHTS;
        chosen->weights = chosen->input = SIZE_MAX;
        return;
    }
    const quantize_value *input = quantize_find(pass, node->inputs[chosen->input]);
    if (pass->format->activations && !(input->reach > 0)) {
        chosen->reason = KILN_PRECISION_NO_RANGE;
        chosen->detail = input->name;
        chosen->weights = chosen->input = SIZE_MAX;
        return;
    }
    const int64_t *dims = quantize_find(pass, node->inputs[chosen->weights])->weights->dims;
    const quantize_product product = {chosen->input, dims[chosen->axis], dims[chosen->depth]};
    if (pass->format->activations &&
        quantize_has_no_gain(pass->options, &pass->index, node, &product)) {
        chosen->reason = KILN_PRECISION_NO_GAIN;
        chosen->weights = chosen->input = SIZE_MAX;
        return;
    }
    chosen->reason = KILN_PRECISION_CONVERTED;
    chosen->is_quantized = true;
}

static void choose_node(const quantize_pass *pass, const kln_onnx_node *node, quantize_node *chosen)
{
    const bool is_conv = strncmp(node->op_type, "Conv", 4) == 0;
    *chosen = (quantize_node){.reason = KILN_PRECISION_NOT_QUANTIZED,
                              .detail = "",
                              .weights = SIZE_MAX,
                              .input = SIZE_MAX};
    if (!is_candidate(node) || (!pass->format->activations && is_conv)) {
        return;
    }
    if (quantize_is_kept(pass->options, node)) {
        chosen->reason = KILN_PRECISION_KEPT;
        return;
    }
    if (quantize_gated(pass->inference->graph, &pass->index, node) != NULL) {
        chosen->reason = KILN_PRECISION_GATE;
        return;
    }
    choose_product(pass, node, chosen);
}
/* The quantized convolution that `value` comes from, through nodes that TensorRT fuses into its
 * kernel and tensors that nothing else reads; or NULL. */
static const kln_onnx_node *conv_of(const quantize_pass *pass, const quantize_value *value)
{
    for (int steps = 0; steps < 4 && value != NULL && value->producer != KLN_NO_NODE; steps++) {
        const kln_onnx_node *node = &pass->graph->nodes[value->producer];
        if (kln_onnx_node_is(node, "Conv")) {
            return pass->nodes[value->producer].is_quantized ? node : NULL;
        }
        if (value->readers != 1 ||
            !KLN_ONNX_NODE_IS_ANY(node, "BatchNormalization", "Relu", "Clip", "Add")) {
            return NULL;
        }
        value = quantize_find(pass, node->inputs[0]);
    }
    return NULL;
}

static bool is_strided(const kln_onnx_node *node)
{
    const kln_onnx_attribute *strides = kln_onnx_find_attribute(node, "strides");
    bool is = false;
    for (size_t i = 0; strides != NULL && i < strides->count; i++) {
        is = is || strides->ints[i] > 1;
    }
    return is;
}

/* Whether TensorRT fuses the sum of `a` and `b` into the convolution before `b`: it takes the one
 * without stride, whose kernel adds at a smaller cost, else the later one. */
static bool is_sum_of_second(const quantize_pass *pass, const quantize_value *a,
                             const quantize_value *b)
{
    const kln_onnx_node *from_a = conv_of(pass, a);
    const kln_onnx_node *from_b = conv_of(pass, b);
    if (from_a == NULL || from_b == NULL) {
        return from_b != NULL;
    }
    return is_strided(from_a) != is_strided(from_b) ? is_strided(from_a)
                                                    : b->producer > a->producer;
}

/* x sigmoid(x) of a quantized convolution x, which TensorRT fuses into its kernel. */
static bool is_swish_of_conv(const quantize_pass *pass, const quantize_value *value)
{
    const kln_onnx_node *node = value != NULL && value->producer != KLN_NO_NODE
                                    ? &pass->graph->nodes[value->producer]
                                    : NULL;
    for (size_t i = 0; node != NULL && kln_onnx_node_is(node, "Mul") && i < 2; i++) {
        const quantize_value *x = quantize_find(pass, node->inputs[i]);
        const quantize_value *other = quantize_find(pass, node->inputs[1 - i]);
        if (x != NULL && other != NULL && x->readers == 2 && x->producer != KLN_NO_NODE &&
            other->readers == 1 && other->producer != KLN_NO_NODE &&
            pass->nodes[x->producer].is_quantized &&
            kln_onnx_node_is(&pass->graph->nodes[x->producer], "Conv") &&
            kln_onnx_node_is(&pass->graph->nodes[other->producer], "Sigmoid") &&
            strcmp(pass->graph->nodes[other->producer].inputs[0], node->inputs[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_average(const kln_onnx_node *node)
{
    return KLN_ONNX_NODE_IS_ANY(node, "GlobalAveragePool", "AveragePool");
}

/* Quantizes the other branch of a sum with a convolution, so that the sum is fused into its kernel,
 * and the input of an average pooling, so that the convolution before it writes eight bits. */
static void choose_beside(quantize_pass *pass, size_t index)
{
    const kln_onnx_node *node = &pass->graph->nodes[index];
    quantize_node *chosen = &pass->nodes[index];
    if (quantize_is_kept(pass->options, node) || node->input_count == 0) {
        return;
    }
    const quantize_value *first = quantize_find(pass, node->inputs[0]);
    if (is_average(node) && first != NULL &&
        ((first->readers == 1 && conv_of(pass, first) != NULL) || is_swish_of_conv(pass, first))) {
        chosen->input = 0;
    } else if (KLN_ONNX_NODE_IS_ANY(node, "Add", "Sum") && node->input_count == 2) {
        const quantize_value *a = quantize_find(pass, node->inputs[0]);
        const quantize_value *b = quantize_find(pass, node->inputs[1]);
        if (a == NULL || b == NULL || a->weights != NULL || b->weights != NULL || a->dims < 3 ||
            a->dims != b->dims) {
            return;
        }
        chosen->input = is_sum_of_second(pass, a, b) ? 0 : conv_of(pass, a) != NULL ? 1 : SIZE_MAX;
    }
    if (chosen->input != SIZE_MAX) {
        const quantize_value *input = quantize_find(pass, node->inputs[chosen->input]);
        chosen->is_quantized = input != NULL && input->reach > 0;
        chosen->reason = chosen->is_quantized ? KILN_PRECISION_CONVERTED : chosen->reason;
    }
}

/* Quantizes the output of a quantized pool right after it, and not only after the reshapes on
 * its way to the quantized node `index`: otherwise the pool, and what it reads, is computed in
 * float32. */
static void choose_on_the_way(quantize_pass *pass, size_t index)
{
    const quantize_node *chosen = &pass->nodes[index];
    const quantize_value *value =
        quantize_find(pass, pass->graph->nodes[index].inputs[chosen->input]);
    for (int steps = 0; steps < 4 && value != NULL && value->readers == 1; steps++) {
        const uint32_t mover = value->producer;
        if (mover == KLN_NO_NODE || !quantize_is_move(&pass->graph->nodes[mover]) ||
            quantize_is_kept(pass->options, &pass->graph->nodes[mover])) {
            return;
        }
        value = quantize_find(pass, pass->graph->nodes[mover].inputs[0]);
        if (value != NULL && value->producer != KLN_NO_NODE && value->reach > 0 &&
            is_average(&pass->graph->nodes[value->producer]) &&
            pass->nodes[value->producer].is_quantized) {
            pass->nodes[mover].is_quantized = true;
            pass->nodes[mover].input = 0;
            pass->nodes[mover].reason = KILN_PRECISION_CONVERTED;
            return;
        }
    }
}

static void feed(const quantize_pass *pass, size_t index, size_t input)
{
    const quantize_value *value = quantize_find(pass, pass->graph->nodes[index].inputs[input]);
    pass->nodes[index].input = input;
    pass->nodes[index].is_fed = value != NULL && value->reach > 0;
}

/* Which input of a Mul is the image, x sigmoid(x) in eight bits, that the other scales by channel;
 * 2 if none. */
static size_t scaled_image(const quantize_pass *pass, const kln_onnx_node *node)
{
    for (size_t i = 0; kln_onnx_node_is(node, "Mul") && node->input_count == 2 && i < 2; i++) {
        const kln_value *gate = kln_inference_find(pass->inference->graph, node->inputs[1 - i]);
        if (gate != NULL && !gate->is_constant && quantize_is_one_pixel(gate) &&
            is_swish_of_conv(pass, quantize_find(pass, node->inputs[i]))) {
            return i;
        }
    }
    return 2;
}

/* A gate whose image is x sigmoid(x) in eight bits, for which TensorRT has fast depthwise kernels,
 * computes in eight bits too. If its convolution stays float32, the input is still read in eight
 * bits, so that the pool writes them. */
static void choose_gate(const quantize_pass *pass, size_t index)
{
    const kln_onnx_node *node = &pass->graph->nodes[index];
    quantize_node *chosen = &pass->nodes[index];
    const kln_onnx_node *scaled = quantize_gated(pass->inference->graph, &pass->index, node);
    if (scaled == NULL || scaled_image(pass, scaled) == 2) {
        return;
    }
    if (chosen->reason == KILN_PRECISION_GATE) {
        choose_product(pass, node, chosen);
    }
    const quantize_value *input = quantize_find(pass, node->inputs[0]);
    if (!chosen->is_quantized && input != NULL && input->producer != KLN_NO_NODE &&
        is_average(&pass->graph->nodes[input->producer])) {
        feed(pass, index, 0);
    }
}

/* The Mul by such a gate reads the image in eight bits, and also the gate after its sigmoid, which
 * is then fused into the convolution before it: a single kernel goes from bytes to bytes. */
static void feed_scaled(const quantize_pass *pass, size_t index)
{
    const kln_onnx_node *node = &pass->graph->nodes[index];
    const size_t image = scaled_image(pass, node);
    if (image != 2) {
        const quantize_value *gate = quantize_find(pass, node->inputs[1 - image]);
        feed(pass, index, image);
        pass->nodes[index].is_fed_by_both =
            pass->nodes[index].is_fed && gate != NULL && gate->reach > 0;
    }
}

void quantize_choose(quantize_pass *pass)
{
    const size_t count = pass->graph->node_count;
    const bool is_int8 = pass->format->storage == KILN_DTYPE_INT8;
    for (size_t i = 0; i < count; i++) {
        choose_node(pass, &pass->graph->nodes[i], &pass->nodes[i]);
    }
    for (size_t i = 0; pass->format->activations && i < count; i++) {
        if (!pass->nodes[i].is_quantized) {
            choose_beside(pass, i);
        }
    }
    for (size_t i = 0; pass->format->activations && i < count; i++) {
        if (pass->nodes[i].is_quantized && pass->nodes[i].weights != SIZE_MAX) {
            choose_on_the_way(pass, i);
        }
    }
    for (size_t i = 0; is_int8 && i < count; i++) {
        choose_gate(pass, i);
    }
    for (size_t i = 0; is_int8 && i < count; i++) {
        if (!pass->nodes[i].is_quantized) {
            feed_scaled(pass, i);
        }
    }
}

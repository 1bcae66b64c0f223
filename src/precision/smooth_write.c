/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Evens out a tensor by changing the constants of its producer, if nothing else reads it, or else
 * by inserting a multiplication, and an addition if it is shifted. The tensor gets a new name, so
 * that one name never stands for two different tensors.
 */
#include <math.h>

#include "smooth_parts.h"

static float shift_of(const smooth_value *value, size_t channel)
{
    return value->shift != NULL ? value->shift[channel] : 0;
}

/* --- in the producer --- */

/* Expands a constant of one number, or of one per channel, to one per channel. */
static kiln_status spread(smooth_pass *pass, const char *name, size_t channels, float **numbers)
{
    size_t count = 0;
    const float *from = smooth_constant(pass, name, &count);
    *numbers = kln_arena_alloc(pass->arena, channels * sizeof **numbers);
    KLN_FAIL_IF(*numbers == NULL || from == NULL, smooth_no_memory());
    for (size_t c = 0; c < channels; c++) {
        (*numbers)[c] = from[count == 1 ? 0 : c];
    }
    return KILN_OK;
}

/* Whether a constant is one number, or one per channel of the tensor. */
static bool is_spread(const smooth_pass *pass, const char *name, const kln_value *tensor,
                      size_t channels, bool is_last)
{
    size_t count = 0;
    const kln_value *constant = kln_inference_find(pass->inference->graph, name);
    if (smooth_constant(pass, name, &count) == NULL || constant == NULL ||
        constant->rank > tensor->rank) {
        return false;
    }
    const size_t behind = is_last ? 0 : tensor->rank - 2;
    return count == 1 ||
           (count == channels && constant->rank > behind &&
            constant->dims[constant->rank - 1 - behind].kind == KLN_DIM_NUMBER &&
            constant->dims[constant->rank - 1 - behind].of.number == (int64_t)channels);
}

typedef struct place {
    const kln_value *tensor;
    size_t producer; /* node index; SIZE_MAX: none, or the tensor has other readers */
    kln_onnx_node *node;
    int other; /* for an Add or Mul, the input that is not constant; -1: none */
} place;

/* The producer of a tensor that has exactly `readers` readers. */
static place find_place(const smooth_pass *pass, const char *name, size_t readers,
                        const smooth_value *value, bool is_last)
{
    place found = {kln_inference_find(pass->inference->graph, name), SIZE_MAX, NULL, -1};
    if (found.tensor == NULL || found.tensor->consumers != readers || !found.tensor->has_shape) {
        return found;
    }
    const uint32_t maker = kln_names_get(&pass->index.of.producers, name);
    kln_onnx_node *node = maker != KLN_NAMES_NONE ? &pass->graph.nodes[maker] : NULL;
    if (node != NULL && strcmp(node->outputs[0], name) == 0) { /* it may have been renamed */
        found.producer = maker;
        found.node = node;
    }
    const bool is_pair = found.node != NULL && KLN_ONNX_NODE_IS_ANY(found.node, "Add", "Mul");
    for (int k = 0; is_pair && k < 2; k++) {
        const kln_value *other = kln_inference_find(pass->inference->graph, found.node->inputs[k]);
        if (is_spread(pass, found.node->inputs[1 - k], found.tensor, value->channels, is_last) &&
            other != NULL && other->has_shape && other->rank == found.tensor->rank) {
            found.other = k;
        }
    }
    return found;
}

static kiln_status store_spread(smooth_pass *pass, const place *at, const char *stem,
                                const char *what, const float *numbers, size_t channels,
                                bool is_last, const char **name)
{
    int64_t dims[KILN_MAX_RANK] = {(int64_t)channels, 1, 1, 1, 1, 1, 1, 1};
    const size_t rank = is_last || at->tensor == NULL ? 1 : at->tensor->rank - 1;
    return smooth_add(pass, stem, what, numbers, rank, dims, name);
}

static kiln_status insert(smooth_pass *pass, size_t before, const char *op, const char *input,
                          const char *constant, const char *output)
{
    const char *const inputs[] = {input, constant};
    smooth_insertion made = {.before = before};
    KLN_RETURN_IF_ERROR(kln_onnx_make_node(pass->arena, op, inputs, 2, &output, 1, 0, &made.node));
    KLN_RETURN_IF_ERROR(
        KLN_GROW(pass->arena, pass->insertions, pass->insertion_count, pass->insertion_capacity));
    pass->insertions[pass->insertion_count++] = made;
    return KILN_OK;
}

/* Divides the outputs of a convolution or product by the scale, after subtracting the shift. */
static kiln_status divide_outputs(smooth_pass *pass, size_t index, const smooth_value *value)
{
    smooth_node *node = &pass->nodes[index];
    KLN_RETURN_IF_ERROR(smooth_own(pass, index));
    KLN_RETURN_IF_ERROR(smooth_own_bias(pass, index));
    for (size_t i = 0; i < node->count; i++) {
        node->weights[i] /= value->scale[i / node->out_stride % node->outs];
    }
    for (size_t o = 0; o < node->outs; o++) {
        node->bias[o] = (node->bias[o] - shift_of(value, o)) / value->scale[o];
    }
    return KILN_OK;
}

static bool is_divisible(const smooth_pass *pass, size_t index, size_t channels)
{
    const smooth_node *node = &pass->nodes[index];
    return node->is_candidate && node->adder == KLN_NO_NODE && node->takes_bias &&
           node->outs == channels;
}

/* Divides the variable input of an Add, either in its producer or by a Mul that is inserted. */
static kiln_status divide_before(smooth_pass *pass, const place *add, const smooth_value *value,
                                 bool is_last, const char **name)
{
    const char *input = add->node->inputs[add->other];
    place before = find_place(pass, input, 1, value, is_last);
    const bool is_mul =
        before.node != NULL && kln_onnx_node_is(before.node, "Mul") && before.other >= 0;
    float *numbers = NULL;
    const char *constant = NULL;
    *name = kln_arena_printf(pass->arena, "%s" QUANTIZE_EVENED, input);
    KLN_FAIL_IF(*name == NULL, smooth_no_memory());
    if (before.node != NULL && is_divisible(pass, before.producer, value->channels)) {
        const smooth_value scaled = {.scale = value->scale};
        KLN_RETURN_IF_ERROR(divide_outputs(pass, before.producer, &scaled));
        before.node->outputs[0] = *name;
        return KILN_OK;
    }
    numbers = kln_arena_alloc(pass->arena, value->channels * sizeof *numbers);
    if (is_mul) {
        KLN_RETURN_IF_ERROR(
            spread(pass, before.node->inputs[1 - before.other], value->channels, &numbers));
    }
    for (size_t c = 0; numbers != NULL && c < value->channels; c++) {
        numbers[c] = (is_mul ? numbers[c] : 1) / value->scale[c];
    }
    KLN_FAIL_IF(numbers == NULL, smooth_no_memory());
    KLN_RETURN_IF_ERROR(
        store_spread(pass, add, *name, "factors", numbers, value->channels, is_last, &constant));
    if (!is_mul) {
        return insert(pass, add->producer, "Mul", input, constant, *name);
    }
    before.node->inputs[1 - before.other] = constant;
    before.node->outputs[0] = *name;
    return KILN_OK;
}

/* Changes the scale and bias of a normalization. */
static kiln_status divide_normalization(smooth_pass *pass, const place *at,
                                        const smooth_value *value, const char *name)
{
    static const char *const what[] = {"", "factors", "terms"};
    const int64_t channels = (int64_t)value->channels;
    for (size_t k = 1; k <= 2; k++) {
        float *numbers = NULL;
        KLN_RETURN_IF_ERROR(spread(pass, at->node->inputs[k], value->channels, &numbers));
        for (size_t c = 0; c < value->channels; c++) {
            const float shift = k == 2 ? shift_of(value, c) : 0;
            numbers[c] = (numbers[c] - shift) / value->scale[c];
        }
        KLN_RETURN_IF_ERROR(
            smooth_add(pass, name, what[k], numbers, 1, &channels, &at->node->inputs[k]));
    }
    at->node->outputs[0] = name;
    return KILN_OK;
}

static bool is_normalization(const smooth_pass *pass, const kln_onnx_node *node, size_t channels,
                             bool is_last)
{
    size_t factors = 0;
    size_t terms = 0;
    return node != NULL &&
           kln_onnx_node_is(node, is_last ? "LayerNormalization" : "BatchNormalization") &&
           node->input_count > 2 && node->output_count == 1 &&
           smooth_constant(pass, node->inputs[1], &factors) != NULL &&
           smooth_constant(pass, node->inputs[2], &terms) != NULL && factors == channels &&
           terms == channels;
}

/* Applies the change to constants of the tensor's producer; `*done`: whether that was possible. */
static kiln_status absorb(smooth_pass *pass, const place *at, const smooth_value *value,
                          bool is_last, const char *name, bool *done)
{
    float *numbers = NULL;
    const char *constant = NULL;
    const bool is_add = at->node != NULL && kln_onnx_node_is(at->node, "Add");
    *done = false;
    if (at->node != NULL && is_divisible(pass, at->producer, value->channels)) {
        *done = true;
        at->node->outputs[0] = name;
        return divide_outputs(pass, at->producer, value);
    }
    if (at->node != NULL && is_normalization(pass, at->node, value->channels, is_last)) {
        *done = true;
        return divide_normalization(pass, at, value, name);
    }
    if (at->node != NULL && kln_onnx_node_is(at->node, "Relu") && value->shift == NULL) {
        const place before = find_place(pass, at->node->inputs[0], 1, value, is_last);
        const char *inside =
            kln_arena_printf(pass->arena, "%s" QUANTIZE_EVENED, at->node->inputs[0]);
        KLN_FAIL_IF(inside == NULL, smooth_no_memory());
        KLN_RETURN_IF_ERROR(absorb(pass, &before, value, is_last, inside, done));
        if (*done) {
            at->node->inputs[0] = inside;
            at->node->outputs[0] = name;
        }
        return KILN_OK;
    }
    if (at->other < 0 || (!is_add && value->shift != NULL)) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(spread(pass, at->node->inputs[1 - at->other], value->channels, &numbers));
    for (size_t c = 0; c < value->channels; c++) {
        numbers[c] = (numbers[c] - shift_of(value, c)) / value->scale[c];
    }
    KLN_RETURN_IF_ERROR(
        store_spread(pass, at, name, "evened", numbers, value->channels, is_last, &constant));
    if (is_add) {
        const char *before = NULL;
        KLN_RETURN_IF_ERROR(divide_before(pass, at, value, is_last, &before));
        at->node->inputs[at->other] = before;
    }
    at->node->inputs[1 - at->other] = constant;
    at->node->outputs[0] = name;
    *done = true;
    return KILN_OK;
}

/* --- by inserted nodes --- */

static kiln_status insert_nodes(smooth_pass *pass, const place *at, const smooth_value *value,
                                size_t before, bool is_last, const char *name)
{
    const size_t channels = value->channels;
    float *factors = kln_arena_alloc(pass->arena, channels * sizeof *factors);
    float *terms = kln_arena_alloc(pass->arena, channels * sizeof *terms);
    const char *constant = NULL;
    const char *scaled = name;
    KLN_FAIL_IF(factors == NULL || terms == NULL, smooth_no_memory());
    for (size_t c = 0; c < channels; c++) {
        factors[c] = 1 / value->scale[c];
        terms[c] = -shift_of(value, c) / value->scale[c];
    }
    if (value->shift != NULL) {
        scaled = kln_arena_printf(pass->arena, "%s/scaled", value->name);
        KLN_FAIL_IF(scaled == NULL, smooth_no_memory());
    }
    KLN_RETURN_IF_ERROR(
        store_spread(pass, at, name, "factors", factors, channels, is_last, &constant));
    KLN_RETURN_IF_ERROR(insert(pass, before, "Mul", value->name, constant, scaled));
    if (value->shift == NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(store_spread(pass, at, name, "terms", terms, channels, is_last, &constant));
    return insert(pass, before, "Add", scaled, constant, name);
}

/* --- in the readers --- */

/* A product with a shifted input has another result, which only the bias after it restores, so its
 * output is renamed. */
static kiln_status rename_product(smooth_pass *pass, size_t index)
{
    const smooth_node *node = &pass->nodes[index];
    kln_onnx_node *product = &pass->graph.nodes[index];
    if (node->adder == KLN_NO_NODE) {
        return KILN_OK;
    }
    kln_onnx_node *adder = &pass->graph.nodes[node->adder];
    const char *name = kln_arena_printf(pass->arena, "%s" QUANTIZE_EVENED, product->outputs[0]);
    KLN_FAIL_IF(name == NULL, smooth_no_memory());
    adder->inputs[strcmp(adder->inputs[0], product->outputs[0]) != 0] = name;
    product->outputs[0] = name;
    return KILN_OK;
}

static kiln_status multiply_inputs(smooth_pass *pass, size_t index, const smooth_value *value)
{
    smooth_node *node = &pass->nodes[index];
    KLN_RETURN_IF_ERROR(smooth_own(pass, index));
    if (value->shift != NULL) {
        KLN_RETURN_IF_ERROR(smooth_own_bias(pass, index));
        KLN_RETURN_IF_ERROR(rename_product(pass, index));
    }
    for (size_t i = 0; i < node->count; i++) {
        const size_t c = smooth_channel(node, i);
        if (value->shift != NULL) {
            node->bias[i / node->out_stride % node->outs] += node->weights[i] * value->shift[c];
        }
        node->weights[i] *= value->scale[c];
    }
    node->scale = value->scale;
    node->shift = value->shift;
    return KILN_OK;
}

/* Headroom for values beyond the observed ones. */
#define ROOM 1.1

/* Records the ranges that the channels have after the change. */
static kiln_status put_range(smooth_pass *pass, const smooth_value *value, const char *name)
{
    kiln_range range = *value->range;
    KLN_SCOPED_FREE kiln_channel *channels = kln_alloc_zeroed(value->channels, sizeof *channels);
    KLN_FAIL_IF(channels == NULL, smooth_no_memory());
    range.name = name;
    range.low = range.high = 0;
    for (size_t c = 0; c < value->channels; c++) {
        const kiln_channel *from = &value->range->channels[c];
        const double shift = (double)shift_of(value, c);
        const double scale = (double)value->scale[c];
        channels[c] =
            (kiln_channel){(from->least - shift) / scale, (from->greatest - shift) / scale,
                           (from->mean - shift) / scale, from->deviation / scale};
        range.low = fmin(range.low, channels[c].least);
        range.high = fmax(range.high, channels[c].greatest);
    }
    range.low *= ROOM;
    range.high *= ROOM;
    range.least = range.low;
    range.greatest = range.high;
    range.channels = channels;
    range.channel_count = value->channels;
    return kiln_range_table_put(pass->ranges, &range);
}

/* The least estimated gain, in decibels, that is worth an additional node. */
#define WORTH_A_NODE 6.0

static const kln_onnx_node *maker_of(const smooth_pass *pass, const char *name, const char *op)
{
    const kln_onnx_node *maker = quantize_producer(&pass->index, name);
    return maker != NULL && kln_onnx_node_is(maker, op) ? maker : NULL;
}

/* x sigmoid(x) of a convolution x. */
static bool is_swish_of_conv(const smooth_pass *pass, const char *name)
{
    const kln_onnx_node *product = maker_of(pass, name, "Mul");
    bool is_swish = false;
    for (size_t k = 0; product != NULL && k < 2; k++) {
        const kln_onnx_node *sigmoid = maker_of(pass, product->inputs[k], "Sigmoid");
        is_swish = is_swish ||
                   (sigmoid != NULL && strcmp(sigmoid->inputs[0], product->inputs[1 - k]) == 0 &&
                    maker_of(pass, sigmoid->inputs[0], "Conv") != NULL);
    }
    return is_swish;
}

/* Whether the TensorRT kernel that writes the tensor writes eight bits: that of a convolution, or
 * of x sigmoid(x) scaled by a gate. An operator inserted after it would make it write floats, which
 * have to be read once more. With a half type for the rest the same goes for x sigmoid(x) alone. */
static bool is_given_in_bytes(const smooth_pass *pass, const char *name, int steps)
{
    const kln_onnx_node *maker = quantize_producer(&pass->index, name);
    if (maker == NULL || steps == 0) {
        return false;
    }
    const bool is_sum = kln_onnx_node_is(maker, "Add");
    if (is_sum || KLN_ONNX_NODE_IS_ANY(maker, "Relu", "Clip")) {
        return is_given_in_bytes(pass, maker->inputs[0], steps - 1) ||
               (is_sum && is_given_in_bytes(pass, maker->inputs[1], steps - 1));
    }
    for (size_t k = 0; kln_onnx_node_is(maker, "Mul") && k < 2; k++) {
        if (quantize_is_one_pixel(
                kln_inference_find(pass->inference->graph, maker->inputs[1 - k])) &&
            is_swish_of_conv(pass, maker->inputs[k])) {
            return true;
        }
    }
    return kln_onnx_node_is(maker, "Conv") ||
           (pass->options->rest != KILN_PRECISION_DEFAULT && is_swish_of_conv(pass, name));
}

static void leave_in_place(smooth_value *value)
{
    value->scale = value->plain_scale;
    value->gain = value->plain_gain;
    value->shift = NULL;
}

kiln_status smooth_apply(smooth_pass *pass, const uint32_t *readers, size_t count,
                         smooth_value *value)
{
    const bool is_last = pass->nodes[readers[0]].input.is_last;
    place at = find_place(pass, value->name, count, value, is_last);
    const char *name = kln_arena_printf(pass->arena, "%s" QUANTIZE_EVENED, value->name);
    bool done = false;
    KLN_FAIL_IF(name == NULL, smooth_no_memory());
    if (at.tensor == NULL || !at.tensor->has_shape) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(absorb(pass, &at, value, is_last, name, &done));
    if (!done && value->shift != NULL && value->gain < value->plain_gain + WORTH_A_NODE) {
        leave_in_place(value);
        KLN_RETURN_IF_ERROR(absorb(pass, &at, value, is_last, name, &done));
    }
    if (!done && (value->gain < WORTH_A_NODE || is_given_in_bytes(pass, value->name, 4))) {
        return KILN_OK;
    }
    if (!done) {
        KLN_RETURN_IF_ERROR(insert_nodes(pass, &at, value, readers[0], is_last, name));
    }
    for (size_t r = 0; r < count; r++) {
        KLN_RETURN_IF_ERROR(multiply_inputs(pass, readers[r], value));
        pass->graph.nodes[readers[r]].inputs[0] = name;
    }
    return put_range(pass, value, name);
}

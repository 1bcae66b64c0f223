/* SPDX-License-Identifier: Apache-2.0 */
/* Weights, biases and other constants of a network whose channels are evened out. */
#include <math.h>

#include "smooth_parts.h"

kiln_status smooth_no_memory(void)
{
    return kln_fail_memory(sizeof(kln_onnx_node), "an evened network");
}

/* --- constants --- */

const float *smooth_constant(const smooth_pass *pass, const char *name, size_t *count)
{
    const kln_onnx_tensor *tensor = kln_graph_index_constant(&pass->index.of, name);
    if (tensor == NULL || tensor->dtype != KILN_DTYPE_FLOAT32 || tensor->data.data == NULL) {
        return NULL;
    }
    *count = tensor->data.size / sizeof(float);
    return tensor->data.data;
}

/* --- weights and biases --- */

kiln_status smooth_own(smooth_pass *pass, size_t index)
{
    smooth_node *node = &pass->nodes[index];
    if (node->is_changed) {
        return KILN_OK;
    }
    float *copy = kln_arena_alloc(pass->arena, node->count * sizeof *copy);
    KLN_FAIL_IF(copy == NULL, smooth_no_memory());
    memcpy(copy, node->weights, node->count * sizeof *copy);
    node->weights = copy;
    node->is_changed = true;
    return KILN_OK;
}

/* The name of a node's bias: its third input, or the constant of the Add after it. */
static const char *bias_of(const smooth_pass *pass, size_t index)
{
    const smooth_node *node = &pass->nodes[index];
    const kln_onnx_node *written = &pass->graph.nodes[index];
    if (node->adder == KLN_NO_NODE) {
        return written->input_count > 2 ? written->inputs[2] : "";
    }
    const kln_onnx_node *adder = &pass->graph.nodes[node->adder];
    return adder->inputs[strcmp(adder->inputs[0], written->outputs[0]) == 0];
}

bool smooth_has_bias(const smooth_pass *pass, size_t index)
{
    return pass->nodes[index].bias != NULL || bias_of(pass, index)[0] != '\0';
}

kiln_status smooth_own_bias(smooth_pass *pass, size_t index)
{
    smooth_node *node = &pass->nodes[index];
    size_t count = 0;
    const float *before = smooth_constant(pass, bias_of(pass, index), &count);
    if (node->bias != NULL) {
        return KILN_OK;
    }
    KLN_ARENA_NEW(pass->arena, node->bias, node->outs, "an evened network");
    if (before != NULL && count == node->outs) {
        memcpy(node->bias, before, node->outs * sizeof *node->bias);
    }
    return KILN_OK;
}

kiln_status smooth_add(smooth_pass *pass, const char *stem, const char *what, const float *numbers,
                       size_t rank, const int64_t *dims, const char **name)
{
    size_t count = 1;
    int64_t *copied = kln_arena_alloc_zeroed(pass->arena, rank + 1, sizeof *copied);
    for (size_t i = 0; copied != NULL && i < rank; i++) {
        copied[i] = dims[i];
        count *= (size_t)dims[i];
    }
    *name = kln_arena_printf(pass->arena, "%s/%s", stem, what);
    KLN_FAIL_IF(copied == NULL || *name == NULL, smooth_no_memory());
    const uint32_t index = (uint32_t)pass->graph.initializer_count;
    const kln_onnx_tensor tensor = {.name = *name,
                                    .dtype = KILN_DTYPE_FLOAT32,
                                    .wire_dtype = kln_onnx_wire_dtype(KILN_DTYPE_FLOAT32),
                                    .rank = rank,
                                    .dims = copied,
                                    .data = {numbers, count * sizeof *numbers}};
    KLN_RETURN_IF_ERROR(kln_onnx_add_initializer(pass->arena, &pass->graph, &tensor));
    return kln_names_set(&pass->index.of.constants, *name, index);
}

kiln_status smooth_store(smooth_pass *pass, size_t index)
{
    smooth_node *node = &pass->nodes[index];
    kln_onnx_node *written = &pass->graph.nodes[index];
    const char *stem = written->output_count != 0 ? written->outputs[0] : written->name;
    if (node->is_changed) {
        const kln_onnx_tensor *before =
            kln_graph_index_constant(&pass->index.of, written->inputs[1]);
        KLN_RETURN_IF_ERROR(smooth_add(pass, stem, "weights", node->weights, before->rank,
                                       before->dims, &written->inputs[1]));
    }
    if (node->bias == NULL) {
        return KILN_OK;
    }
    const int64_t outs = (int64_t)node->outs;
    const char *name = NULL;
    KLN_RETURN_IF_ERROR(smooth_add(pass, stem, "bias", node->bias, 1, &outs, &name));
    if (node->adder != KLN_NO_NODE) {
        kln_onnx_node *adder = &pass->graph.nodes[node->adder];
        adder->inputs[strcmp(adder->inputs[0], written->outputs[0]) == 0] = name;
        return KILN_OK;
    }
    const char **inputs = kln_arena_alloc_zeroed(pass->arena, 3, sizeof *inputs);
    KLN_FAIL_IF(inputs == NULL, smooth_no_memory());
    inputs[0] = written->inputs[0];
    inputs[1] = written->inputs[1];
    inputs[2] = name;
    written->inputs = inputs;
    written->input_count = 3;
    return KILN_OK;
}

kiln_status smooth_correct(smooth_pass *pass, size_t index, const kiln_range *range)
{
    smooth_node *node = &pass->nodes[index];
    if (!node->takes_bias) {
        return KILN_OK;
    }
    KLN_SCOPED_FREE double *errors = kln_alloc_zeroed(node->outs, sizeof *errors);
    KLN_SCOPED_FREE float *scales = kln_alloc_zeroed(node->outs, sizeof *scales);
    KLN_RETURN_IF_ERROR(errors != NULL && scales != NULL ? smooth_own_bias(pass, index)
                                                         : smooth_no_memory());
    for (size_t i = 0; i < node->count; i++) {
        float *scale = &scales[i / node->out_stride % node->outs];
        *scale = fmaxf(*scale, fabsf(node->weights[i]));
    }
    for (size_t i = 0; i < node->count; i++) {
        const size_t o = i / node->out_stride % node->outs;
        const float scale = quantize_channel_scale(pass->format, scales[o]);
        const double error = (double)quantize_round(pass->format, node->weights[i], scale) -
                             (double)node->weights[i];
        errors[o] += error * range->channels[smooth_channel(node, i)].mean;
    }
    for (size_t o = 0; o < node->outs; o++) {
        node->bias[o] = (float)((double)node->bias[o] - errors[o]);
    }
    return KILN_OK;
}

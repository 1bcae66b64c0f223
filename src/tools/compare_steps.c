/* SPDX-License-Identifier: Apache-2.0 */
#include "compare_parts.h"
#include "ops/kln_ops.h"

/* The most nodes to go back in search of the one that quantizes a tensor. */
#define FARTHEST 64

/* Operators that only pass on or move elements of their first input. */
static const struct {
    const char *operation;
    bool keeps_axes;
} passing[] = {
    {"Identity", true}, {"Relu", true},          {"Clip", true},          {"MaxPool", true},
    {"Dropout", true},  {"Reshape", false},      {"Flatten", false},      {"Transpose", false},
    {"Slice", false},   {"Squeeze", false},      {"Unsqueeze", false},    {"Gather", false},
    {"Expand", false},  {"SpaceToDepth", false}, {"DepthToSpace", false},
};

bool kln_compare_has_steps(const kln_onnx_model *model)
{
    for (size_t i = 0; i < model->graph.node_count; i++) {
        const char *operation = model->graph.nodes[i].op_type;
        if (strstr(operation, "uantizeLinear") != NULL || strncmp(operation, "QLinear", 7) == 0 ||
            strcmp(operation, "QGemm") == 0) {
            return true;
        }
    }
    return false;
}

static bool is_small_integer(kiln_dtype dtype)
{
    return dtype == KILN_DTYPE_INT8 || dtype == KILN_DTYPE_UINT8 || dtype == KILN_DTYPE_INT16 ||
           dtype == KILN_DTYPE_UINT16 || dtype == KILN_DTYPE_INT4 || dtype == KILN_DTYPE_UINT4;
}

/* Whether the node's output is integers that represent real numbers. */
static bool rounds(const kln_onnx_node *node)
{
    return strcmp(node->op_type, "QuantizeLinear") == 0 ||
           strcmp(node->op_type, "DynamicQuantizeLinear") == 0 ||
           strncmp(node->op_type, "QLinear", 7) == 0 || strcmp(node->op_type, "QGemm") == 0;
}

/* The scales of a DequantizeLinear, if they are constant. */
static kiln_status take_scales(const kln_graph_inference *graph, uint32_t node, bool keeps_axes,
                               kln_arena *arena, kln_compare_steps *steps)
{
    const kln_onnx_node *of = &graph->graph->nodes[node];
    const uint32_t input = of->input_count > 1 ? graph->nodes[node].inputs[1] : KLN_NO_VALUE;
    const kln_onnx_tensor *scale = input != KLN_NO_VALUE ? graph->values[input]->initializer : NULL;
    kiln_shape shape = {.rank = 1};
    if (scale == NULL || scale->data.data == NULL || kiln_dtype_bits(scale->dtype) < 8) {
        return KILN_OK;
    }
    const size_t count = scale->data.size / (kiln_dtype_bits(scale->dtype) / 8);
    if (count == 0 || (count > 1 && !keeps_axes)) {
        return KILN_OK;
    }
    /* Data in a file may be unaligned. */
    void *bytes = kln_arena_alloc(arena, scale->data.size);
    double *scales = kln_arena_alloc(arena, count * sizeof *scales);
    KLN_FAIL_IF(bytes == NULL || scales == NULL,
                kln_fail_memory(count * sizeof *scales, "the scales of a tensor"));
    memcpy(bytes, scale->data.data, scale->data.size);
    shape.dims[0] = (int64_t)count;
    const kiln_tensor view = KILN_HOST_TENSOR(scale->dtype, shape, bytes, scale->data.size);
    KLN_RETURN_IF_ERROR(kiln_tensor_read(&view, 0, count, scales));
    steps->scales = scales;
    steps->count = count;
    steps->axis = kln_onnx_int(of, "axis", 1);
    steps->block = kln_onnx_int(of, "block_size", 0);
    return KILN_OK;
}

kiln_status kln_compare_steps_of(const kln_graph_inference *graph, uint32_t value, kln_arena *arena,
                                 kln_compare_steps *steps)
{
    static const double one = 1;
    bool keeps_axes = true;
    *steps = (kln_compare_steps){.count = 0};
    for (size_t far = 0; far < FARTHEST && value != KLN_NO_VALUE; far++) {
        const kln_value *at = graph->values[value];
        const uint32_t index = at->producer;
        if (index == KLN_NO_NODE) {
            return KILN_OK;
        }
        const kln_onnx_node *node = &graph->graph->nodes[index];
        if (strcmp(node->op_type, "DequantizeLinear") == 0) {
            return take_scales(graph, index, keeps_axes, arena, steps);
        }
        if (rounds(node)) {
            *steps = is_small_integer(at->dtype) ? (kln_compare_steps){.scales = &one, .count = 1}
                                                 : (kln_compare_steps){.count = 0};
            return KILN_OK;
        }
        value = KLN_NO_VALUE;
        for (size_t i = 0; i < KLN_ARRAY_LENGTH(passing) && node->input_count > 0; i++) {
            if (strcmp(node->op_type, passing[i].operation) == 0) {
                keeps_axes = keeps_axes && passing[i].keeps_axes;
                value = graph->nodes[index].inputs[0];
            }
        }
    }
    return KILN_OK;
}

void kln_compare_steps_fit(kln_compare_steps *steps, const kiln_shape *shape)
{
    const int64_t axis = steps->axis < 0 ? steps->axis + shape->rank : steps->axis;
    int64_t outer = 1;
    steps->length = steps->inner = 1;
    if (steps->count <= 1) {
        return;
    }
    for (int32_t i = 0; i < shape->rank; i++) {
        int64_t *part = i < axis ? &outer : i == axis ? &steps->length : &steps->inner;
        *part *= shape->dims[i];
    }
    const int64_t blocks =
        steps->block > 0 ? (steps->length + steps->block - 1) / steps->block : steps->length;
    const int64_t needed = steps->block > 0 ? outer * blocks * steps->inner : blocks;
    if (axis < 0 || axis >= shape->rank || needed != (int64_t)steps->count) {
        steps->count = 0;
    }
}

double kln_compare_step_at(const kln_compare_steps *steps, int64_t index)
{
    if (steps->count <= 1) {
        return steps->count == 1 ? steps->scales[0] : 0;
    }
    const int64_t along = index / steps->inner % steps->length;
    if (steps->block == 0) {
        return steps->scales[along];
    }
    const int64_t blocks = (steps->length + steps->block - 1) / steps->block;
    const int64_t outer = index / (steps->inner * steps->length);
    return steps
        ->scales[(outer * blocks + along / steps->block) * steps->inner + index % steps->inner];
}

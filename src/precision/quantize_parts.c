/* SPDX-License-Identifier: Apache-2.0 */
#include "quantize_parts.h"

quantize_value *quantize_find(const quantize_pass *pass, const char *name)
{
    const uint32_t place = name[0] != '\0' ? kln_names_get(&pass->names, name) : KLN_NAMES_NONE;
    return place != KLN_NAMES_NONE ? &pass->values[place] : NULL;
}

bool quantize_is_move(const kln_onnx_node *node)
{
    return kln_onnx_node_is(node, "Flatten") || kln_onnx_node_is(node, "Reshape") ||
           kln_onnx_node_is(node, "Squeeze") || kln_onnx_node_is(node, "Unsqueeze") ||
           kln_onnx_node_is(node, "Transpose");
}

kln_onnx_tensor *quantize_add_tensor(quantize_pass *pass, const char *stem, const char *what,
                                     kiln_dtype dtype, size_t rank, const int64_t *dims)
{
    size_t count = 1;
    int64_t *copied = kln_arena_alloc_zeroed(pass->arena, rank, sizeof *copied);
    for (size_t i = 0; i < rank; i++) {
        count *= (size_t)dims[i];
    }
    const size_t bytes = (count * kiln_dtype_bits(dtype) + 7) / 8;
    void *data = kln_arena_alloc(pass->arena, bytes);
    const char *name = kln_arena_printf(pass->arena, "%s/%s", stem, what);
    kln_onnx_tensor *tensor = kln_arena_alloc_zeroed(pass->arena, 1, sizeof *tensor);
    if (copied == NULL || data == NULL || name == NULL || tensor == NULL) {
        return NULL;
    }
    if (rank != 0) {
        memcpy(copied, dims, rank * sizeof *copied);
    }
    *tensor = (kln_onnx_tensor){.name = name,
                                .dtype = dtype,
                                .wire_dtype = kln_onnx_wire_dtype(dtype),
                                .rank = rank,
                                .dims = copied,
                                .data = {data, bytes}};
    return kln_onnx_add_initializer(pass->arena, &pass->made, tensor) == KILN_OK ? tensor : NULL;
}

kiln_status quantize_make_node(kln_arena *arena, const char *op, const char *const inputs[3],
                               const char *output, int64_t axis, int64_t block, kln_onnx_node *node)
{
    *node =
        (kln_onnx_node){.name = kln_arena_printf(arena, "%s/node", output),
                        .op_type = op,
                        .domain = "",
                        .overload = "",
                        .inputs = kln_arena_alloc_zeroed(arena, 3, sizeof(char *)),
                        .input_count = inputs[2] != NULL ? 3 : 2,
                        .outputs = kln_arena_alloc_zeroed(arena, 1, sizeof(char *)),
                        .output_count = 1,
                        .attributes = kln_arena_alloc_zeroed(arena, 2, sizeof *node->attributes)};
    KLN_FAIL_IF(node->name == NULL || node->inputs == NULL || node->outputs == NULL ||
                    node->attributes == NULL,
                kln_fail_memory(sizeof *node, "a quantized network"));
    memcpy(node->inputs, inputs, node->input_count * sizeof *node->inputs);
    node->outputs[0] = output;
    if (axis >= 0) {
        node->attributes[node->attribute_count++] =
            (kln_onnx_attribute){.name = "axis", .type = KLN_ONNX_ATTRIBUTE_INT, .i = axis};
    }
    if (block > 0) {
        node->attributes[node->attribute_count++] =
            (kln_onnx_attribute){.name = "block_size", .type = KLN_ONNX_ATTRIBUTE_INT, .i = block};
    }
    return KILN_OK;
}

kiln_status quantize_add_node(quantize_pass *pass, const char *op, const char *const inputs[3],
                              const char *output, int64_t axis, int64_t block)
{
    kln_onnx_node node;
    KLN_RETURN_IF_ERROR(quantize_make_node(pass->arena, op, inputs, output, axis, block, &node));
    return kln_onnx_add_node(pass->arena, &pass->made, &node);
}

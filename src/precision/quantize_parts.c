/* SPDX-License-Identifier: Apache-2.0 */
#include "quantize_parts.h"

quantize_value *quantize_find(const quantize_pass *pass, const char *name)
{
    const uint32_t place = name[0] != '\0' ? kln_names_get(&pass->names, name) : KLN_NAMES_NONE;
    return place != KLN_NAMES_NONE ? &pass->values[place] : NULL;
}

bool quantize_is_move(const kln_onnx_node *node)
{
    return KLN_ONNX_NODE_IS_ANY(node, "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose");
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
    KLN_RETURN_IF_ERROR(
        kln_onnx_make_node(arena, op, inputs, inputs[2] != NULL ? 3 : 2, &output, 1, 2, node));
    node->name = kln_arena_printf(arena, "%s/node", output);
    KLN_FAIL_IF(node->name == NULL, kln_fail_memory(sizeof *node, "a quantized network"));
    if (axis >= 0) {
        kln_graph_edit_set_int(node, "axis", axis);
    }
    if (block > 0) {
        kln_graph_edit_set_int(node, "block_size", block);
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

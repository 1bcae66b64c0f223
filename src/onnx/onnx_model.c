/* SPDX-License-Identifier: Apache-2.0 */
#include "onnx_layout.h"

/* By TensorProto.DataType. */
static const kiln_dtype dtypes[] = {
    [1] = KILN_DTYPE_FLOAT32,   [2] = KILN_DTYPE_UINT8,       [3] = KILN_DTYPE_INT8,
    [4] = KILN_DTYPE_UINT16,    [5] = KILN_DTYPE_INT16,       [6] = KILN_DTYPE_INT32,
    [7] = KILN_DTYPE_INT64,     [8] = KILN_DTYPE_STRING,      [9] = KILN_DTYPE_BOOL,
    [10] = KILN_DTYPE_FLOAT16,  [11] = KILN_DTYPE_FLOAT64,    [12] = KILN_DTYPE_UINT32,
    [13] = KILN_DTYPE_UINT64,   [14] = KILN_DTYPE_COMPLEX64,  [15] = KILN_DTYPE_COMPLEX128,
    [16] = KILN_DTYPE_BFLOAT16, [17] = KILN_DTYPE_FLOAT8E4M3, [19] = KILN_DTYPE_FLOAT8E5M2,
    [21] = KILN_DTYPE_UINT4,    [22] = KILN_DTYPE_INT4,       [23] = KILN_DTYPE_FLOAT4E2M1,
};

kiln_dtype kln_onnx_dtype(int32_t wire_dtype)
{
    const size_t index = wire_dtype > 0 ? (size_t)wire_dtype : 0;
    return index < KLN_ARRAY_LENGTH(dtypes) ? dtypes[index] : KILN_DTYPE_UNDEFINED;
}

int32_t kln_onnx_wire_dtype(kiln_dtype dtype)
{
    for (size_t i = 1; i < KLN_ARRAY_LENGTH(dtypes) && dtype != KILN_DTYPE_UNDEFINED; i++) {
        if (dtypes[i] == dtype) {
            return (int32_t)i;
        }
    }
    return 0;
}

const char *kln_onnx_dtype_name(int32_t wire_dtype)
{
    switch (wire_dtype) {
        case 18: return "float8e4m3fnuz";
        case 20: return "float8e5m2fnuz";
        case 24: return "float8e8m0";
        case 25: return "uint2";
        case 26: return "int2";
        case 27: return "float6e2m3";
        case 28: return "float6e3m2";
        default: return kiln_dtype_name(kln_onnx_dtype(wire_dtype));
    }
}

const char *kln_onnx_plain_domain(const char *domain)
{
    return domain == NULL || strcmp(domain, "ai.onnx") == 0 ? "" : domain;
}

kiln_status kln_onnx_add_node(kln_arena *arena, kln_onnx_graph *graph, const kln_onnx_node *node)
{
    KLN_RETURN_IF_ERROR(KLN_GROW(arena, graph->nodes, graph->node_count, graph->node_capacity));
    graph->nodes[graph->node_count++] = *node;
    return KILN_OK;
}

kiln_status kln_onnx_add_initializer(kln_arena *arena, kln_onnx_graph *graph,
                                     const kln_onnx_tensor *tensor)
{
    KLN_RETURN_IF_ERROR(KLN_GROW(arena, graph->initializers, graph->initializer_count,
                                 graph->initializer_capacity));
    graph->initializers[graph->initializer_count++] = *tensor;
    return KILN_OK;
}

kiln_status kln_onnx_copy_initializers(kln_arena *arena, kln_onnx_graph *graph)
{
    const size_t bytes = graph->initializer_count * sizeof *graph->initializers;
    kln_onnx_tensor *copied = kln_arena_alloc(arena, bytes);
    KLN_RETURN_IF_NO_MEMORY(copied, bytes, "a list of initializers");
    if (bytes != 0) {
        memcpy(copied, graph->initializers, bytes);
    }
    graph->initializers = copied;
    graph->initializer_capacity = graph->initializer_count;
    return KILN_OK;
}

int64_t kln_onnx_opset_version(const kln_onnx_model *model, const char *domain)
{
    for (size_t i = 0; i < model->opset_count; i++) {
        if (strcmp(kln_onnx_plain_domain(model->opsets[i].domain), kln_onnx_plain_domain(domain)) ==
            0) {
            return model->opsets[i].version;
        }
    }
    return 0;
}

const kln_onnx_attribute *kln_onnx_find_attribute(const kln_onnx_node *node, const char *name)
{
    for (size_t i = 0; i < node->attribute_count; i++) {
        const char *own = node->attributes[i].name;
        if (own == name || (own[0] == name[0] && strcmp(own, name) == 0)) {
            return &node->attributes[i];
        }
    }
    return NULL;
}

bool kln_onnx_node_is(const kln_onnx_node *node, const char *op)
{
    return strcmp(node->op_type, op) == 0 && kln_onnx_plain_domain(node->domain)[0] == '\0';
}

kiln_status kln_onnx_name_initializers(const kln_onnx_graph *graph, kln_names *names)
{
    for (size_t i = 0; i < graph->initializer_count; i++) {
        KLN_RETURN_IF_ERROR(kln_names_set(names, graph->initializers[i].name, (uint32_t)i));
    }
    return KILN_OK;
}

const kln_onnx_value *kln_onnx_find_input(const kln_onnx_model *model, const char *name)
{
    for (size_t i = 0; i < model->graph.input_count; i++) {
        if (strcmp(model->graph.inputs[i].name, name) == 0) {
            return &model->graph.inputs[i];
        }
    }
    return NULL;
}

int64_t kln_onnx_int(const kln_onnx_node *node, const char *name, int64_t otherwise)
{
    const kln_onnx_attribute *attribute = kln_onnx_find_attribute(node, name);
    return attribute != NULL ? attribute->i : otherwise;
}

kiln_status kln_onnx_model_create(kln_onnx_model **model)
{
    KLN_RETURN_IF_NULL(model);
    KLN_NEW(*model, 1, "a model");
    atomic_init(&(*model)->references, 1);
    kln_layout_init(&kln_layout_model, *model);
    return KILN_OK;
}

kln_onnx_model *kln_onnx_model_retain(const kln_onnx_model *model)
{
    /* What is counted is no part of what the model says. */
    kln_onnx_model *counted = (kln_onnx_model *)(uintptr_t)model;
    atomic_fetch_add_explicit(&counted->references, 1, memory_order_relaxed);
    return counted;
}

kiln_status kln_onnx_model_share(const kln_onnx_model *model, kln_onnx_model **shared)
{
    KLN_RETURN_IF_ERROR(kln_onnx_model_create(shared));
    kln_onnx_model *made = *shared;
    made->missing = model->missing;
    made->missing_count = model->missing_count;
    made->ir_version = model->ir_version;
    made->producer_name = model->producer_name;
    made->producer_version = model->producer_version;
    made->domain = model->domain;
    made->model_version = model->model_version;
    made->doc = model->doc;
    made->graph = model->graph;
    made->graph.node_capacity = made->graph.initializer_capacity = 0;
    made->graph.input_capacity = made->graph.output_capacity = made->graph.value_capacity = 0;
    made->opsets = model->opsets;
    made->opset_count = model->opset_count;
    made->functions = model->functions;
    made->function_count = model->function_count;
    made->metadata = model->metadata;
    made->metadata_count = model->metadata_count;
    made->present = model->present;
    made->unknown = model->unknown;
    made->origin = kln_onnx_model_retain(model);
    return KILN_OK;
}

void kln_onnx_model_destroy(kln_onnx_model *model)
{
    if (model == NULL ||
        atomic_fetch_sub_explicit(&model->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (size_t i = 0; i < model->mapping_count; i++) {
        kln_mapping_close(&model->mappings[i]);
    }
    kln_free(model->mappings);
    kln_onnx_model_destroy(model->origin);
    kln_arena_finish(&model->arena);
    kln_free(model->kept);
    kln_free(model);
}

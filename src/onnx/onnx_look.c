/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_look.h"

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

static const char **copy_names(kln_arena *arena, const char *const *names, size_t count)
{
    const char **made = kln_arena_alloc_zeroed(arena, count, sizeof *made);
    for (size_t i = 0; made != NULL && i < count; i++) {
        made[i] = names[i];
    }
    return made;
}

kiln_status kln_onnx_make_node(kln_arena *arena, const char *op, const char *const *inputs,
                               size_t input_count, const char *const *outputs, size_t output_count,
                               size_t attributes, kln_onnx_node *node)
{
    *node = (kln_onnx_node){
        .name = outputs[0],
        .op_type = op,
        .domain = "",
        .overload = "",
        .inputs = copy_names(arena, inputs, input_count),
        .input_count = input_count,
        .outputs = copy_names(arena, outputs, output_count),
        .output_count = output_count,
        .attributes = kln_arena_alloc_zeroed(arena, attributes, sizeof *node->attributes)};
    return node->inputs != NULL && node->outputs != NULL && node->attributes != NULL
               ? KILN_OK
               : kln_fail_memory(sizeof *node, "a node of a rewritten graph");
}

kiln_status kln_onnx_import(kln_onnx_model *model, const char *domain, int64_t version)
{
    kln_onnx_opset *made = NULL;
    if (kln_onnx_opset_version(model, domain) != 0) {
        return KILN_OK;
    }
    KLN_ARENA_NEW(&model->arena, made, model->opset_count + 1, "a list of operator sets");
    for (size_t i = 0; i < model->opset_count; i++) {
        made[i] = model->opsets[i];
    }
    made[model->opset_count++] = (kln_onnx_opset){.domain = domain, .version = version};
    model->opsets = made;
    return KILN_OK;
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

bool kln_onnx_attribute_is(const kln_onnx_attribute *attribute, const char *text)
{
    return attribute != NULL && attribute->s.size == strlen(text) &&
           memcmp(attribute->s.data, text, attribute->s.size) == 0;
}

size_t kln_onnx_graphs_of(const kln_onnx_attribute *attribute,
                          struct kln_onnx_graph *const **graphs)
{
    const bool is_list = attribute->type == KLN_ONNX_ATTRIBUTE_GRAPHS;
    *graphs = is_list ? attribute->graphs : &attribute->graph;
    return is_list ? attribute->count
           : attribute->type == KLN_ONNX_ATTRIBUTE_GRAPH && attribute->graph != NULL ? 1
                                                                                     : 0;
}

/* onnx/docs/Versioning.md */
int64_t kln_onnx_ir_of_opset(int64_t opset)
{
    static const int64_t newest[] = {0, 0, 0, 3, 3, 3, 3, 3, 3,  3,  5,  6,  7,
                                     7, 7, 8, 8, 8, 8, 9, 9, 10, 10, 11, 11, 12};
    return opset < (int64_t)KLN_ARRAY_LENGTH(newest) ? newest[opset] : 13;
}

bool kln_onnx_node_is(const kln_onnx_node *node, const char *op)
{
    return strcmp(node->op_type, op) == 0 && kln_onnx_plain_domain(node->domain)[0] == '\0';
}

bool kln_onnx_node_is_among(const kln_onnx_node *node, const char *const *ops)
{
    while (*ops != NULL && !kln_onnx_node_is(node, *ops)) {
        ops++;
    }
    return *ops != NULL;
}

kiln_status kln_onnx_name_initializers(const kln_onnx_graph *graph, kln_names *names)
{
    for (size_t i = 0; i < graph->initializer_count; i++) {
        KLN_RETURN_IF_ERROR(kln_names_set(names, graph->initializers[i].name, (uint32_t)i));
    }
    return KILN_OK;
}

kln_onnx_value *kln_onnx_find_value(kln_onnx_value *values, size_t count, const char *name)
{
    size_t i = 0;
    while (i < count && strcmp(values[i].name, name) != 0) {
        i++;
    }
    return i < count ? &values[i] : NULL;
}

const kln_onnx_value *kln_onnx_find_input(const kln_onnx_model *model, const char *name)
{
    return kln_onnx_find_value(model->graph.inputs, model->graph.input_count, name);
}

const kln_onnx_tensor *kln_onnx_find_initializer(const kln_onnx_graph *graph, const char *name)
{
    size_t i = 0;
    while (i < graph->initializer_count && strcmp(graph->initializers[i].name, name) != 0) {
        i++;
    }
    return i < graph->initializer_count ? &graph->initializers[i] : NULL;
}

int64_t kln_onnx_int(const kln_onnx_node *node, const char *name, int64_t otherwise)
{
    const kln_onnx_attribute *attribute = kln_onnx_find_attribute(node, name);
    return attribute != NULL ? attribute->i : otherwise;
}

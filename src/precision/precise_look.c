/* SPDX-License-Identifier: Apache-2.0 */
/* Collects the values and nodes of a model, graph by graph. */
#include "precise_parts.h"

kiln_status precise_no_memory(void)
{
    return kln_fail_memory(sizeof(precise_graph), "a network of another precision");
}

static kiln_status add_value(precise_pass *pass, precise_graph *graph, const char *name,
                             precise_value **made)
{
    *made = NULL;
    if (name[0] == '\0') {
        return KILN_OK;
    }
    const uint32_t place = kln_names_get(&graph->names, name);
    if (place != KLN_NAMES_NONE) {
        *made = &graph->values[place];
        return KILN_OK;
    }
    const kln_value *known = graph->known != NULL ? kln_inference_find(graph->known, name) : NULL;
    KLN_RETURN_IF_ERROR(kln_names_set(&graph->names, name, (uint32_t)graph->value_count));
    KLN_RETURN_IF_ERROR(kln_names_set(&pass->used, name, 0));
    *made = &graph->values[graph->value_count++];
    **made = (precise_value){.name = name,
                             .graph = graph,
                             .known = known,
                             .is_single = known != NULL && known->kind == KLN_ONNX_KIND_TENSOR &&
                                          known->wire_dtype == WIRE_FLOAT};
    return KILN_OK;
}

static size_t count_values(const kln_onnx_graph *graph)
{
    size_t count = graph->input_count + graph->initializer_count + graph->sparse_initializer_count;
    for (size_t i = 0; i < graph->node_count; i++) {
        count += graph->nodes[i].output_count;
    }
    return count;
}

static kiln_status look_at_values(precise_pass *pass, precise_graph *made)
{
    const kln_onnx_graph *graph = made->graph;
    const bool replaceable = pass->model->ir_version >= KLN_ONNX_IR_OF_OPTIONAL_INPUTS;
    precise_value *value = NULL;
    KLN_ARENA_NEW(&pass->inference->arena, made->values, count_values(graph),
                  "a network of another precision");
    for (size_t i = 0; i < graph->initializer_count; i++) {
        KLN_RETURN_IF_ERROR(add_value(pass, made, graph->initializers[i].name, &value));
        if (value != NULL) {
            value->initializer = &graph->initializers[i];
            value->is_flexible = value->is_single && value->initializer->data.data != NULL;
        }
    }
    for (size_t i = 0; i < graph->sparse_initializer_count; i++) {
        KLN_RETURN_IF_ERROR(add_value(pass, made, graph->sparse_initializer_names[i], &value));
    }
    for (size_t i = 0; i < graph->input_count; i++) {
        KLN_RETURN_IF_ERROR(add_value(pass, made, graph->inputs[i].name, &value));
        if (value != NULL && replaceable) {
            value->initializer = NULL; /* a default, which a caller may override */
            value->is_flexible = false;
        }
    }
    for (size_t i = 0; i < graph->node_count; i++) {
        for (size_t k = 0; k < graph->nodes[i].output_count; k++) {
            KLN_RETURN_IF_ERROR(add_value(pass, made, graph->nodes[i].outputs[k], &value));
        }
    }
    for (size_t i = 0; i < graph->output_count; i++) {
        value = precise_find(made, graph->outputs[i].name);
        if (value != NULL && value->graph == made) {
            value->is_output = true;
        }
    }
    return KILN_OK;
}

static kiln_status look_inside(precise_pass *pass, precise_graph *made, size_t index)
{
    const kln_onnx_node *node = &made->graph->nodes[index];
    const kln_node_inference *known =
        made->known != NULL && index < made->known->node_count ? &made->known->nodes[index] : NULL;
    precise_node *decided = &made->nodes[index];
    kln_arena *arena = &pass->inference->arena;
    size_t count = 0;
    for (size_t i = 0; i < node->attribute_count; i++) {
        kln_onnx_graph *const *inner = NULL;
        count += kln_onnx_graphs_of(&node->attributes[i], &inner);
    }
    decided->detail = "";
    if (node->name[0] != '\0') {
        KLN_RETURN_IF_ERROR(kln_names_set(&pass->used, node->name, 0));
    }
    decided->wants = kln_arena_alloc_zeroed(arena, node->input_count, 1);
    decided->graphs = kln_arena_alloc_zeroed(arena, count, sizeof(precise_graph *));
    KLN_FAIL_IF(decided->wants == NULL || decided->graphs == NULL, precise_no_memory());
    for (size_t i = 0; i < node->attribute_count; i++) {
        const kln_onnx_attribute *a = &node->attributes[i];
        kln_onnx_graph *const *inner = NULL;
        const size_t graphs = kln_onnx_graphs_of(a, &inner);
        for (size_t k = 0; k < graphs; k++) {
            const char *label =
                kln_arena_printf(arena, "%s%s%s/%s", made->label, made->label[0] != '\0' ? "/" : "",
                                 node->name[0] != '\0' ? node->name : node->op_type, a->name);
            KLN_FAIL_IF(label == NULL, precise_no_memory());
            KLN_RETURN_IF_ERROR(precise_look(pass, inner[k], kln_inference_inside(known, inner[k]),
                                             made, label, &decided->graphs[decided->graph_count]));
            decided->graph_count++;
        }
    }
    return KILN_OK;
}

/* The depth of the recursion is bounded: inference has already gone through the same graphs. */
kiln_status precise_look(precise_pass *pass, const kln_onnx_graph *graph,
                         const kln_graph_inference *known, precise_graph *parent, const char *label,
                         precise_graph **out)
{
    kln_arena *arena = &pass->inference->arena;
    precise_graph *made = kln_arena_alloc_zeroed(arena, 1, sizeof *made);
    *out = made;
    KLN_FAIL_IF(made == NULL, precise_no_memory());
    *made = (precise_graph){
        .parent = parent,
        .label = label,
        .graph = graph,
        .known = known,
        .nodes = kln_arena_alloc_zeroed(arena, graph->node_count, sizeof(precise_node)),
        .half_outputs = kln_arena_alloc_zeroed(arena, graph->output_count, 1),
        .next = pass->graphs};
    pass->graphs = made;
    KLN_FAIL_IF(made->nodes == NULL || made->half_outputs == NULL, precise_no_memory());
    KLN_RETURN_IF_ERROR(look_at_values(pass, made));
    for (size_t i = 0; i < graph->node_count; i++) {
        KLN_RETURN_IF_ERROR(look_inside(pass, made, i));
    }
    return KILN_OK;
}

void precise_finish(precise_pass *pass)
{
    for (precise_graph *graph = pass->graphs; graph != NULL; graph = graph->next) {
        kln_names_finish(&graph->names);
    }
    kln_names_finish(&pass->used);
    kln_inference_destroy(pass->inference);
}

precise_value *precise_find(const precise_graph *graph, const char *name)
{
    for (; name[0] != '\0' && graph != NULL; graph = graph->parent) {
        const uint32_t place = kln_names_get(&graph->names, name);
        if (place != KLN_NAMES_NONE) {
            return &graph->values[place];
        }
    }
    return NULL;
}

size_t precise_turn(const precise_graph *graph, size_t turn)
{
    const uint32_t *order = graph->known != NULL ? graph->known->order : NULL;
    return order != NULL ? order[turn] : turn;
}

const kln_schema *precise_schema(const precise_graph *graph, size_t index)
{
    if (graph->known == NULL || index >= graph->known->node_count) {
        return NULL;
    }
    const kln_resolved *resolved = graph->known->nodes[index].resolved;
    return resolved != NULL && resolved->function == NULL ? resolved->schema : NULL;
}

bool precise_is_constant(const precise_value *value)
{
    return value->initializer != NULL || (value->known != NULL && value->known->is_constant);
}

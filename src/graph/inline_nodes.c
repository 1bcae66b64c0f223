/* SPDX-License-Identifier: Apache-2.0 */
#include "inline_nodes.h"

/* Nodes that calls of calls may come to. */
#define NODES_MOST ((size_t)500000)

kiln_status inline_no_memory(void)
{
    return kln_fail_memory(sizeof(kln_onnx_node), "a network with its functions inlined");
}

const char *inline_name(const inliner *in, const inline_frame *frame, const char *name)
{
    const uint32_t place = name[0] != '\0' ? kln_names_get(&frame->formal, name) : KLN_NAMES_NONE;
    if (place != KLN_NAMES_NONE) {
        return frame->actual[place];
    }
    return frame->prefix == NULL || name[0] == '\0'
               ? name
               : kln_arena_printf(in->arena, "%s%s", frame->prefix, name);
}

static const char **rename_values(const inliner *in, const inline_frame *frame,
                                  const char *const *names, size_t count)
{
    const char **made = kln_arena_alloc_zeroed(in->arena, count, sizeof *made);
    for (size_t i = 0; made != NULL && i < count; i++) {
        made[i] = inline_name(in, frame, names[i]);
        if (made[i] == NULL) {
            return NULL;
        }
    }
    return made;
}

/* --- graphs inside nodes --- */

static kln_onnx_value *rename_infos(const inliner *in, const inline_frame *frame,
                                    const kln_onnx_value *infos, size_t count)
{
    kln_onnx_value *made = kln_arena_alloc_zeroed(in->arena, count, sizeof *made);
    for (size_t i = 0; made != NULL && i < count; i++) {
        made[i] = infos[i];
        made[i].name = inline_name(in, frame, infos[i].name);
        if (made[i].name == NULL) {
            return NULL;
        }
    }
    return made;
}

static kiln_status copy_graph(inliner *in, const inline_frame *frame, const kln_onnx_graph *graph,
                              kln_onnx_graph **copy)
{
    kln_onnx_graph *made = kln_arena_alloc_zeroed(in->arena, 1, sizeof *made);
    kln_onnx_graph *around = in->made;
    KLN_FAIL_IF(made == NULL, inline_no_memory());
    *made = *graph;
    made->nodes = NULL;
    made->node_count = made->node_capacity = 0;
    made->inputs = rename_infos(in, frame, graph->inputs, graph->input_count);
    made->outputs = rename_infos(in, frame, graph->outputs, graph->output_count);
    made->values = rename_infos(in, frame, graph->values, graph->value_count);
    made->initializers =
        kln_arena_alloc_zeroed(in->arena, graph->initializer_count, sizeof *made->initializers);
    KLN_FAIL_IF(made->inputs == NULL || made->outputs == NULL || made->values == NULL ||
                    made->initializers == NULL,
                inline_no_memory());
    for (size_t i = 0; i < graph->initializer_count; i++) {
        made->initializers[i] = graph->initializers[i];
        made->initializers[i].name = inline_name(in, frame, graph->initializers[i].name);
        KLN_FAIL_IF(made->initializers[i].name == NULL, inline_no_memory());
    }
    made->input_capacity = made->input_count;
    made->output_capacity = made->output_count;
    made->value_capacity = made->value_count;
    made->initializer_capacity = made->initializer_count;
    in->made = made;
    const kiln_status status = inline_nodes(in, frame, graph->nodes, graph->node_count);
    in->made = around;
    *copy = made;
    return status;
}

/* --- attributes --- */

/* The attribute that a reference of the body means: the call's, the function's default, or NULL. */
static const kln_onnx_attribute *resolve(const inline_frame *frame,
                                         const kln_onnx_attribute *attribute)
{
    if (attribute->reference == NULL || attribute->reference[0] == '\0' ||
        frame->function == NULL) {
        return attribute;
    }
    const kln_onnx_attribute *given = kln_onnx_find_attribute(frame->call, attribute->reference);
    for (size_t i = 0; given == NULL && i < frame->function->attribute_count; i++) {
        if (strcmp(frame->function->attributes[i].name, attribute->reference) == 0) {
            given = &frame->function->attributes[i];
        }
    }
    return given;
}

static kiln_status copy_attributes(inliner *in, const inline_frame *frame, kln_onnx_node *node)
{
    const kln_onnx_attribute *attributes = node->attributes;
    const size_t count = node->attribute_count;
    kln_onnx_attribute *made = kln_arena_alloc_zeroed(in->arena, count, sizeof *made);
    KLN_FAIL_IF(made == NULL, inline_no_memory());
    node->attributes = made;
    node->attribute_count = 0;
    for (size_t i = 0; i < count; i++) {
        const kln_onnx_attribute *meant = resolve(frame, &attributes[i]);
        if (meant == NULL) {
            continue; /* optional, and not given */
        }
        kln_onnx_attribute *a = &made[node->attribute_count++];
        *a = *meant;
        a->name = attributes[i].name;
        if (meant != &attributes[i]) {
            a->reference = NULL;
            continue; /* a graph that the call gave has the caller's names already */
        }
        if (a->type == KLN_ONNX_ATTRIBUTE_GRAPH && a->graph != NULL) {
            KLN_RETURN_IF_ERROR(copy_graph(in, frame, a->graph, &a->graph));
        }
        if (a->type == KLN_ONNX_ATTRIBUTE_GRAPHS) {
            kln_onnx_graph **graphs =
                kln_arena_alloc_zeroed(in->arena, a->count, sizeof(kln_onnx_graph *));
            KLN_FAIL_IF(graphs == NULL, inline_no_memory());
            for (size_t k = 0; k < a->count; k++) {
                KLN_RETURN_IF_ERROR(copy_graph(in, frame, a->graphs[k], &graphs[k]));
            }
            a->graphs = graphs;
        }
    }
    return KILN_OK;
}

/* --- nodes --- */

kiln_status inline_begin_names(const inliner *in, inline_frame *frame, size_t count)
{
    frame->actual = kln_arena_alloc_zeroed(in->arena, count, sizeof(char *));
    return frame->actual != NULL ? KILN_OK : inline_no_memory();
}

kiln_status inline_bind(inline_frame *frame, const char *formal, const char *actual, size_t *count)
{
    frame->actual[*count] = actual;
    return kln_names_set(&frame->formal, formal, (uint32_t)(*count)++);
}

const char *inline_prefix(inliner *in, const kln_onnx_node *node)
{
    return kln_arena_printf(in->arena, "%s/%zu/",
                            node->name[0] != '\0' ? node->name : node->op_type, in->count++);
}

kiln_status inline_identity(inliner *in, const char *from, const char *to)
{
    kln_onnx_node node;
    KLN_RETURN_IF_ERROR(kln_onnx_make_node(in->arena, "Identity", &from, 1, &to, 1, 0, &node));
    return kln_onnx_add_node(in->arena, in->made, &node);
}

kiln_status inline_nodes(inliner *in, const inline_frame *frame, const kln_onnx_node *nodes,
                         size_t count)
{
    for (size_t i = 0; i < count; i++) {
        kln_onnx_node node = nodes[i];
        bool replaced = false;
        node.inputs = rename_values(in, frame, nodes[i].inputs, node.input_count);
        node.outputs = rename_values(in, frame, nodes[i].outputs, node.output_count);
        KLN_FAIL_IF(node.inputs == NULL || node.outputs == NULL, inline_no_memory());
        if (frame->prefix != NULL && node.name[0] != '\0') {
            node.name = kln_arena_printf(in->arena, "%s%s", frame->prefix, node.name);
        }
        KLN_FAIL_IF(node.name == NULL, inline_no_memory());
        KLN_RETURN_IF(++in->nodes > NODES_MOST, KILN_ERROR_LIMIT,
                      "inlined, the functions of the model have more than %zu nodes", NODES_MOST);
        KLN_RETURN_IF_ERROR(copy_attributes(in, frame, &node));
        KLN_RETURN_IF_ERROR(in->replace(in, frame, i, &node, &replaced));
        if (!replaced) {
            KLN_RETURN_IF_ERROR(kln_onnx_add_node(in->arena, in->made, &node));
        }
    }
    return KILN_OK;
}

kiln_status inline_model(inliner *in)
{
    const inline_frame outermost = {.function = NULL};
    kln_onnx_graph made = in->model->graph;
    made.nodes = NULL;
    made.node_count = made.node_capacity = 0;
    /* What is added to a list goes to a new one. */
    made.initializer_capacity = made.initializer_count;
    in->made = in->main = &made;
    KLN_RETURN_IF_ERROR(
        inline_nodes(in, &outermost, in->model->graph.nodes, in->model->graph.node_count));
    if (in->count != 0) {
        in->model->graph = made;
    }
    return KILN_OK;
}

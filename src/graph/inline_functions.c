/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls of model-local functions become the nodes of their bodies. Names of a body get a prefix
 * that no other call has; attributes that refer to those of the call get their values.
 */
#include "kln_graph.h"

/* As deep as inference follows calls of calls. */
#define CALLS_DEEP ((size_t)48)
/* Nodes that calls of calls may come to. */
#define NODES_MOST ((size_t)500000)

typedef struct call_frame {
    const kln_onnx_function *function; /* NULL: the model */
    const kln_onnx_node *call;         /* with names as the caller's caller knows them */
    const char *prefix;
    kln_names formal; /* names of inputs and outputs of the function, to `actual` */
    const char **actual;
    size_t depth;
} call_frame;

typedef struct inliner {
    kln_onnx_model *model;
    kln_arena *arena;
    kln_onnx_index index;
    kln_onnx_graph *made; /* that nodes go to */
    size_t calls, nodes;
    bool left; /* a call that stays */
} inliner;

static kiln_status no_memory(void)
{
    return kln_fail_memory(sizeof(kln_onnx_node), "a network with its functions inlined");
}

static const char *rename_value(const inliner *in, const call_frame *frame, const char *name)
{
    if (frame->function == NULL || name[0] == '\0') {
        return name;
    }
    const uint32_t place = kln_names_get(&frame->formal, name);
    return place != KLN_NAMES_NONE ? frame->actual[place]
                                   : kln_arena_printf(in->arena, "%s%s", frame->prefix, name);
}

static const char **rename_values(const inliner *in, const call_frame *frame,
                                  const char *const *names, size_t count)
{
    const char **made = kln_arena_alloc_zeroed(in->arena, count, sizeof *made);
    for (size_t i = 0; made != NULL && i < count; i++) {
        made[i] = rename_value(in, frame, names[i]);
        if (made[i] == NULL) {
            return NULL;
        }
    }
    return made;
}

static kiln_status add_nodes(inliner *in, const call_frame *frame, const kln_onnx_node *nodes,
                             size_t count);

/* --- graphs inside nodes --- */

static kln_onnx_value *rename_infos(const inliner *in, const call_frame *frame,
                                    const kln_onnx_value *infos, size_t count)
{
    kln_onnx_value *made = kln_arena_alloc_zeroed(in->arena, count, sizeof *made);
    for (size_t i = 0; made != NULL && i < count; i++) {
        made[i] = infos[i];
        made[i].name = rename_value(in, frame, infos[i].name);
        if (made[i].name == NULL) {
            return NULL;
        }
    }
    return made;
}

static kiln_status copy_graph(inliner *in, const call_frame *frame, const kln_onnx_graph *graph,
                              kln_onnx_graph **copy)
{
    kln_onnx_graph *made = kln_arena_alloc_zeroed(in->arena, 1, sizeof *made);
    kln_onnx_graph *around = in->made;
    KLN_FAIL_IF(made == NULL, no_memory());
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
                no_memory());
    for (size_t i = 0; i < graph->initializer_count; i++) {
        made->initializers[i] = graph->initializers[i];
        made->initializers[i].name = rename_value(in, frame, graph->initializers[i].name);
        KLN_FAIL_IF(made->initializers[i].name == NULL, no_memory());
    }
    made->input_capacity = made->input_count;
    made->output_capacity = made->output_count;
    made->value_capacity = made->value_count;
    made->initializer_capacity = made->initializer_count;
    in->made = made;
    const kiln_status status = add_nodes(in, frame, graph->nodes, graph->node_count);
    in->made = around;
    *copy = made;
    return status;
}

/* --- attributes --- */

/* The attribute that a reference of the body means: the call's, the function's default, or NULL. */
static const kln_onnx_attribute *resolve(const call_frame *frame,
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

static kiln_status copy_attributes(inliner *in, const call_frame *frame, kln_onnx_node *node)
{
    const kln_onnx_attribute *attributes = node->attributes;
    const size_t count = node->attribute_count;
    kln_onnx_attribute *made = kln_arena_alloc_zeroed(in->arena, count, sizeof *made);
    KLN_FAIL_IF(made == NULL, no_memory());
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
            KLN_FAIL_IF(graphs == NULL, no_memory());
            for (size_t k = 0; k < a->count; k++) {
                KLN_RETURN_IF_ERROR(copy_graph(in, frame, a->graphs[k], &graphs[k]));
            }
            a->graphs = graphs;
        }
    }
    return KILN_OK;
}

/* --- calls --- */

/* Whether the body means the same under the model's operator sets; imports what they lack. */
static kiln_status agrees(inliner *in, const kln_onnx_function *function, bool *same)
{
    kln_onnx_model *model = in->model;
    *same = true;
    for (size_t i = 0; i < function->opset_count; i++) {
        const kln_onnx_opset *opset = &function->opsets[i];
        const int64_t version = kln_onnx_opset_version(model, opset->domain);
        if (version == 0) {
            KLN_RETURN_IF_ERROR(kln_onnx_import(model, opset->domain, opset->version));
        }
        for (size_t n = 0;
             version != 0 && version != opset->version && *same && n < function->body.node_count;
             n++) {
            const kln_onnx_node *node = &function->body.nodes[n];
            const char *domain = kln_onnx_plain_domain(node->domain);
            *same = !kln_onnx_holds_graphs(node) &&
                    (strcmp(domain, kln_onnx_plain_domain(opset->domain)) != 0 ||
                     kln_operator_find(domain, node->op_type, opset->version) ==
                         kln_operator_find(domain, node->op_type, version));
        }
    }
    return KILN_OK;
}

static kiln_status add_identity(inliner *in, const char *from, const char *to)
{
    kln_onnx_node node;
    KLN_RETURN_IF_ERROR(kln_onnx_make_node(in->arena, "Identity", &from, 1, &to, 1, 0, &node));
    return kln_onnx_add_node(in->arena, in->made, &node);
}

static kiln_status bind(call_frame *inner, const char *formal, const char *actual, size_t *count)
{
    inner->actual[*count] = actual;
    return kln_names_set(&inner->formal, formal, (uint32_t)(*count)++);
}

/* The body's names for what the call gives and takes. An output that is an input of the function
 * too is that input by another name. */
static kiln_status bind_all(inliner *in, call_frame *inner, const kln_onnx_node *call)
{
    const kln_onnx_function *f = inner->function;
    size_t count = 0;
    inner->actual =
        kln_arena_alloc_zeroed(in->arena, f->input_count + f->output_count, sizeof(char *));
    KLN_FAIL_IF(inner->actual == NULL, no_memory());
    for (size_t i = 0; i < f->input_count; i++) {
        KLN_RETURN_IF_ERROR(
            bind(inner, f->inputs[i], i < call->input_count ? call->inputs[i] : "", &count));
    }
    for (size_t i = 0; i < f->output_count && i < call->output_count; i++) {
        const uint32_t before = kln_names_get(&inner->formal, f->outputs[i]);
        if (call->outputs[i][0] == '\0') {
            continue;
        }
        if (before != KLN_NAMES_NONE) {
            KLN_RETURN_IF_ERROR(add_identity(in, inner->actual[before], call->outputs[i]));
        } else {
            KLN_RETURN_IF_ERROR(bind(inner, f->outputs[i], call->outputs[i], &count));
        }
    }
    return KILN_OK;
}

static kiln_status add_call(inliner *in, const call_frame *frame, const kln_onnx_node *call,
                            const kln_onnx_function *function)
{
    call_frame inner = {.function = function, .call = call, .depth = frame->depth + 1};
    const char *name = call->name[0] != '\0' ? call->name : call->op_type;
    inner.prefix = kln_arena_printf(in->arena, "%s/%zu/", name, in->calls++);
    KLN_FAIL_IF(inner.prefix == NULL, no_memory());
    KLN_RETURN_IF(inner.depth > CALLS_DEEP, KILN_ERROR_LIMIT,
                  "function \"%s\": functions call each other more than %zu deep", function->name,
                  CALLS_DEEP);
    kiln_status status = bind_all(in, &inner, call);
    KLN_THEN(status, add_nodes(in, &inner, function->body.nodes, function->body.node_count));
    kln_names_finish(&inner.formal);
    return status;
}

static kiln_status add_nodes(inliner *in, const call_frame *frame, const kln_onnx_node *nodes,
                             size_t count)
{
    for (size_t i = 0; i < count; i++) {
        kln_onnx_node node = nodes[i];
        const kln_onnx_function *function = kln_onnx_index_function(&in->index, &node);
        bool same = function != NULL;
        node.inputs = rename_values(in, frame, nodes[i].inputs, node.input_count);
        node.outputs = rename_values(in, frame, nodes[i].outputs, node.output_count);
        KLN_FAIL_IF(node.inputs == NULL || node.outputs == NULL, no_memory());
        if (frame->function != NULL && node.name[0] != '\0') {
            node.name = kln_arena_printf(in->arena, "%s%s", frame->prefix, node.name);
        }
        KLN_FAIL_IF(node.name == NULL, no_memory());
        KLN_RETURN_IF(++in->nodes > NODES_MOST, KILN_ERROR_LIMIT,
                      "inlined, the functions of the model have more than %zu nodes", NODES_MOST);
        KLN_RETURN_IF_ERROR(copy_attributes(in, frame, &node));
        if (function != NULL) {
            KLN_RETURN_IF_ERROR(agrees(in, function, &same));
            in->left = in->left || !same;
        }
        if (same) {
            KLN_RETURN_IF_ERROR(add_call(in, frame, &node, function));
            continue;
        }
        KLN_RETURN_IF_ERROR(kln_onnx_add_node(in->arena, in->made, &node));
    }
    return KILN_OK;
}

kiln_status kln_inline_functions(kln_onnx_model *model, size_t *inlined)
{
    const call_frame outermost = {.function = NULL};
    kln_onnx_graph made = model->graph;
    inliner in = {.model = model, .index = {.model = model}, .arena = &model->arena, .made = &made};
    kln_onnx_opset *opsets = model->opsets;
    const size_t opset_count = model->opset_count;
    *inlined = 0;
    if (model->function_count == 0) {
        return KILN_OK;
    }
    made.nodes = NULL;
    made.node_count = made.node_capacity = 0;
    kiln_status status = kln_onnx_index_update(&in.index);
    KLN_THEN(status, add_nodes(&in, &outermost, model->graph.nodes, model->graph.node_count));
    kln_onnx_index_finish(&in.index);
    if (status != KILN_OK) {
        model->opsets = opsets;
        model->opset_count = opset_count;
        return status;
    }
    model->graph = made;
    model->function_count = in.left ? model->function_count : 0;
    *inlined = in.calls;
    return KILN_OK;
}

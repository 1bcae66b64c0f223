/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the graphs of the converted model. A tensor is cast at most once, in the graph that makes
 * it, just before the first node that reads it in the other type. That reader may be inside a
 * subgraph, because outer graphs are still being written while their subgraphs are.
 * DequantizeLinear is instead repeated for each type in which its output is read: a cast would
 * stand between the integers and a kernel that takes them.
 */
#include "precise_parts.h"

static const char *fresh_name(precise_pass *pass, const char *base, const char *suffix)
{
    kln_arena *arena = &pass->model->arena;
    const char *name = kln_arena_printf(arena, "%s/%s", base, suffix);
    for (unsigned i = 2; name != NULL && kln_names_get(&pass->used, name) != KLN_NAMES_NONE; i++) {
        name = kln_arena_printf(arena, "%s/%s_%u", base, suffix, i);
    }
    return name == NULL || kln_names_set(&pass->used, name, 0) != KILN_OK ? NULL : name;
}

static const char *suffix_of(const precise_pass *pass, bool half)
{
    return half ? pass->half_name : "float32";
}

static kiln_status add_cast(precise_pass *pass, precise_graph *graph, const char *from,
                            const char *to, bool half)
{
    kln_onnx_node node;
    KLN_RETURN_IF_ERROR(
        kln_onnx_make_node(&pass->model->arena, "Cast", &from, 1, &to, 1, 1, &node));
    node.name = fresh_name(pass, to, "cast");
    KLN_FAIL_IF(node.name == NULL, precise_no_memory());
    kln_graph_edit_set_int(&node, "to", half ? pass->half_wire : WIRE_FLOAT);
    kln_precision_report_totals(pass->report)->cast_count++;
    return kln_onnx_add_node(&pass->model->arena, graph->made, &node);
}

static kiln_status add_constant(precise_pass *pass, const precise_value *value, const char *name,
                                bool half)
{
    kln_onnx_tensor *made = half ? precise_convert(pass, value->initializer, name)
                                 : kln_arena_alloc_zeroed(&pass->model->arena, 1, sizeof *made);
    KLN_FAIL_IF(made == NULL, precise_no_memory());
    if (!half) {
        *made = *value->initializer;
        made->name = name;
    }
    return kln_onnx_add_initializer(&pass->model->arena, value->graph->made, made);
}

static kiln_status name_in(precise_pass *pass, precise_value *value, bool half, const char **name);

/* The scale is a constant (holds_scales), and the other inputs are integers. */
static kiln_status add_dequantize(precise_pass *pass, const precise_value *value, const char *to,
                                  bool half)
{
    kln_onnx_node node = kln_precision_named(value->dequantizes);
    const bool is_first = strcmp(to, value->name) == 0;
    const char **names =
        kln_arena_alloc_zeroed(&pass->model->arena, node.input_count + 1, sizeof *names);
    KLN_FAIL_IF(names == NULL, precise_no_memory());
    for (size_t i = 0; i < node.input_count; i++) {
        precise_value *input = precise_find(value->graph, node.inputs[i]);
        names[i] = node.inputs[i];
        if (input != NULL) {
            KLN_RETURN_IF_ERROR(
                name_in(pass, input, input->is_single ? half : input->is_half, &names[i]));
        }
    }
    node.name = is_first ? node.name : fresh_name(pass, to, "node");
    KLN_FAIL_IF(node.name == NULL, precise_no_memory());
    names[node.input_count] = to;
    node.inputs = names;
    node.outputs = names + node.input_count;
    return kln_onnx_add_node(&pass->model->arena, value->graph->made, &node);
}

/* The name of the value in that type. Adds the node or constant that makes it if there is none
 * yet. */
static kiln_status name_in(precise_pass *pass, precise_value *value, bool half, const char **name)
{
    const bool is_there = value->written[!half] != NULL;
    *name = value->name;
    if (value->written[half] == NULL && (is_there || value->dequantizes != NULL)) {
        const bool in_place =
            !is_there || (value->is_output && strcmp(value->written[!half], value->name) != 0);
        const char *made =
            in_place ? value->name : fresh_name(pass, value->name, suffix_of(pass, half));
        KLN_FAIL_IF(made == NULL, precise_no_memory());
        KLN_RETURN_IF_ERROR(value->dequantizes != NULL ? add_dequantize(pass, value, made, half)
                            : value->initializer != NULL
                                ? add_constant(pass, value, made, half)
                                : add_cast(pass, value->graph, value->written[!half], made, half));
        value->written[half] = made;
    }
    /* Otherwise it is read before it is made: the model is invalid, and stays so. */
    *name = value->written[half] != NULL ? value->written[half] : value->name;
    return KILN_OK;
}

/* --- graph inputs and outputs --- */

static kiln_status write_initializers(precise_pass *pass, precise_graph *graph)
{
    for (size_t i = 0; i < graph->graph->initializer_count; i++) {
        const kln_onnx_tensor *tensor = &graph->graph->initializers[i];
        precise_value *value = precise_find(graph, tensor->name);
        if (value == NULL || value->initializer != tensor || !value->is_flexible ||
            value->half_reads == 0 || value->single_reads != 0) {
            KLN_RETURN_IF_ERROR(kln_onnx_add_initializer(&pass->model->arena, graph->made, tensor));
            continue;
        }
        const kln_onnx_tensor *converted = precise_convert(pass, tensor, tensor->name);
        KLN_FAIL_IF(converted == NULL, precise_no_memory());
        value->is_half = true;
        KLN_RETURN_IF_ERROR(kln_onnx_add_initializer(&pass->model->arena, graph->made, converted));
    }
    return KILN_OK;
}

static void set_type(const precise_pass *pass, kln_onnx_value *value, bool half)
{
    if (half && value->type.kind == KLN_ONNX_KIND_TENSOR && value->type.wire_dtype == WIRE_FLOAT) {
        value->type.dtype = pass->half;
        value->type.wire_dtype = pass->half_wire;
    }
}

static kln_onnx_value *copy_values(precise_pass *pass, const kln_onnx_value *values, size_t count)
{
    kln_onnx_value *made = kln_arena_alloc_zeroed(&pass->model->arena, count, sizeof *made);
    if (made != NULL && count != 0) {
        memcpy(made, values, count * sizeof *made);
    }
    return made;
}

static kiln_status begin_graph(precise_pass *pass, precise_graph *graph)
{
    kln_onnx_graph *made = kln_arena_alloc_zeroed(&pass->model->arena, 1, sizeof *made);
    KLN_FAIL_IF(made == NULL, precise_no_memory());
    *made = *graph->graph;
    made->nodes = NULL;
    made->initializers = NULL;
    made->node_count = made->node_capacity = 0;
    made->initializer_count = made->initializer_capacity = 0;
    made->inputs = copy_values(pass, made->inputs, made->input_count);
    made->outputs = copy_values(pass, made->outputs, made->output_count);
    made->values = copy_values(pass, made->values, made->value_count);
    KLN_FAIL_IF(made->inputs == NULL || made->outputs == NULL || made->values == NULL,
                precise_no_memory());
    made->input_capacity = made->input_count;
    made->output_capacity = made->output_count;
    made->value_capacity = made->value_count;
    graph->made = made;
    KLN_RETURN_IF_ERROR(write_initializers(pass, graph));
    for (size_t i = 0; i < made->input_count; i++) {
        const precise_value *value = precise_find(graph, made->inputs[i].name);
        set_type(pass, &made->inputs[i], value != NULL && value->is_half);
    }
    /* Values that no node makes exist from the start. */
    for (size_t i = 0; i < graph->value_count; i++) {
        precise_value *value = &graph->values[i];
        const bool is_made = value->known != NULL && value->known->producer != KLN_NO_NODE;
        value->written[value->is_half] = is_made && value->is_single ? NULL : value->name;
        value->written[!value->is_half] = value->is_single ? NULL : value->name;
    }
    return KILN_OK;
}

static kiln_status end_graph(precise_pass *pass, precise_graph *graph)
{
    kln_onnx_graph *made = graph->made;
    for (size_t i = 0; i < made->output_count; i++) {
        precise_value *value = precise_find(graph, made->outputs[i].name);
        const bool half = graph->half_outputs[i];
        if (value != NULL && value->is_single) {
            KLN_RETURN_IF_ERROR(name_in(pass, value, half, &made->outputs[i].name));
            set_type(pass, &made->outputs[i], half);
        }
    }
    for (size_t i = 0; i < made->value_count; i++) {
        const precise_value *value = precise_find(graph, made->values[i].name);
        set_type(pass, &made->values[i],
                 value != NULL && value->written[1] != NULL &&
                     strcmp(value->written[1], made->values[i].name) == 0);
    }
    return KILN_OK;
}

/* --- nodes --- */

static kiln_status write_inputs(precise_pass *pass, precise_graph *graph,
                                const precise_node *decided, kln_onnx_node *node)
{
    const char **names =
        kln_arena_alloc_zeroed(&pass->model->arena, node->input_count, sizeof *names);
    KLN_FAIL_IF(names == NULL, precise_no_memory());
    for (size_t i = 0; i < node->input_count; i++) {
        precise_value *value = precise_find(graph, node->inputs[i]);
        names[i] = node->inputs[i];
        if (value != NULL) {
            const bool half =
                decided->wants[i] == WANT_ANY ? value->is_half : decided->wants[i] == WANT_HALF;
            KLN_RETURN_IF_ERROR(name_in(pass, value, half, &names[i]));
        }
    }
    node->inputs = names;
    return KILN_OK;
}

/* If a graph output changes type, the node's output gets a new name and the cast takes the old
 * one. */
static kiln_status write_outputs(precise_pass *pass, precise_graph *graph, kln_onnx_node *node)
{
    const char **names =
        kln_arena_alloc_zeroed(&pass->model->arena, node->output_count, sizeof *names);
    KLN_FAIL_IF(names == NULL, precise_no_memory());
    for (size_t i = 0; i < node->output_count; i++) {
        precise_value *value = precise_find(graph, node->outputs[i]);
        names[i] = node->outputs[i];
        bool renamed = false;
        for (size_t k = 0; value != NULL && value->is_single && value->is_output &&
                           k < graph->graph->output_count;
             k++) {
            renamed = renamed || (strcmp(graph->graph->outputs[k].name, names[i]) == 0 &&
                                  graph->half_outputs[k] != value->is_half);
        }
        if (renamed) {
            names[i] = fresh_name(pass, names[i], suffix_of(pass, value->is_half));
            KLN_FAIL_IF(names[i] == NULL, precise_no_memory());
        }
        if (value != NULL && value->is_single) {
            value->written[value->is_half] = names[i];
        }
    }
    node->outputs = names;
    return KILN_OK;
}

static kiln_status write_graphs(precise_pass *pass, const precise_node *decided,
                                kln_onnx_node *node)
{
    kln_arena *arena = &pass->model->arena;
    size_t next = 0;
    kln_onnx_attribute *attributes =
        kln_arena_alloc_zeroed(arena, node->attribute_count, sizeof *attributes);
    KLN_FAIL_IF(attributes == NULL, precise_no_memory());
    memcpy(attributes, node->attributes, node->attribute_count * sizeof *attributes);
    for (size_t i = 0; i < node->attribute_count; i++) {
        kln_onnx_attribute *a = &attributes[i];
        if (a->type == KLN_ONNX_ATTRIBUTE_GRAPH && a->graph != NULL) {
            KLN_RETURN_IF_ERROR(precise_write(pass, decided->graphs[next]));
            a->graph = decided->graphs[next++]->made;
        } else if (a->type == KLN_ONNX_ATTRIBUTE_GRAPHS) {
            kln_onnx_graph **graphs =
                kln_arena_alloc_zeroed(arena, a->count, sizeof(kln_onnx_graph *));
            KLN_FAIL_IF(graphs == NULL, precise_no_memory());
            for (size_t k = 0; k < a->count; k++) {
                KLN_RETURN_IF_ERROR(precise_write(pass, decided->graphs[next]));
                graphs[k] = decided->graphs[next++]->made;
            }
            a->graphs = graphs;
        }
    }
    node->attributes = attributes;
    return KILN_OK;
}

/* --- nodes that produce the type their readers need --- */

/* The value of a Constant or ConstantOfShape as a float32 tensor. */
static kiln_status constant_of(precise_pass *pass, const kln_onnx_node *node,
                               kln_onnx_tensor *tensor)
{
    static const float zero;
    const kln_onnx_attribute *value = kln_onnx_find_attribute(node, "value");
    const kln_onnx_attribute *one = kln_onnx_find_attribute(node, "value_float");
    const kln_onnx_attribute *list = kln_onnx_find_attribute(node, "value_floats");
    int64_t *dims = kln_arena_alloc_zeroed(&pass->model->arena, 1, sizeof *dims);
    KLN_FAIL_IF(dims == NULL, precise_no_memory());
    *tensor = (kln_onnx_tensor){.name = "", .dtype = KILN_DTYPE_FLOAT32, .dims = dims};
    dims[0] = 1;
    if (value != NULL && value->tensor != NULL) {
        *tensor = *value->tensor;
    } else if (one != NULL) {
        tensor->data = (kiln_span){&one->f, sizeof one->f};
    } else if (list != NULL) {
        dims[0] = (int64_t)list->count;
        tensor->rank = 1;
        tensor->data = (kiln_span){list->floats, list->count * sizeof(float)};
    } else {
        tensor->rank = 1; /* ConstantOfShape needs one dimension */
        tensor->data = (kiln_span){&zero, sizeof zero};
    }
    return KILN_OK;
}

static kiln_status write_source(precise_pass *pass, kln_onnx_node *node)
{
    kln_arena *arena = &pass->model->arena;
    kln_onnx_attribute *attribute = kln_arena_alloc_zeroed(arena, 1, sizeof *attribute);
    KLN_FAIL_IF(attribute == NULL, precise_no_memory());
    if (kln_onnx_node_is(node, "Cast")) {
        *attribute = *kln_onnx_find_attribute(node, "to");
        attribute->i = pass->half_wire;
    } else {
        kln_onnx_tensor numbers = {.name = NULL};
        KLN_RETURN_IF_ERROR(constant_of(pass, node, &numbers));
        attribute->name = "value";
        attribute->type = KLN_ONNX_ATTRIBUTE_TENSOR;
        attribute->tensor = precise_convert(pass, &numbers, numbers.name);
        KLN_FAIL_IF(attribute->tensor == NULL, precise_no_memory());
    }
    node->attributes = attribute;
    node->attribute_count = 1;
    return KILN_OK;
}

/* A cast to the type that its input now has does nothing: its output becomes an alias of the
 * input. */
static bool is_idle_cast(const precise_pass *pass, const precise_graph *graph,
                         const precise_node *decided, const kln_onnx_node *node)
{
    const kln_onnx_attribute *to = kln_onnx_find_attribute(node, "to");
    if (!kln_onnx_node_is(node, "Cast") || to == NULL || node->input_count != 1 ||
        node->output_count != 1) {
        return false;
    }
    const precise_value *in = precise_find(graph, node->inputs[0]);
    const precise_value *out = precise_find(graph, node->outputs[0]);
    if (in == NULL || out == NULL || in->known == NULL || out->is_output) {
        return false;
    }
    const int64_t makes = out->is_single && out->is_half ? pass->half_wire : to->i;
    const bool half = in->is_half && decided->wants[0] != WANT_SINGLE;
    const int64_t takes = in->is_single && half ? pass->half_wire : in->known->wire_dtype;
    return takes == makes && (makes == pass->half_wire || makes == WIRE_FLOAT);
}

static kiln_status write_node(precise_pass *pass, precise_graph *graph, size_t index)
{
    kln_onnx_node node = kln_precision_named(&graph->graph->nodes[index]);
    const precise_node *decided = &graph->nodes[index];
    precise_value *out = node.output_count == 1 ? precise_find(graph, node.outputs[0]) : NULL;
    const bool flexible = out != NULL && out->is_flexible && out->initializer == NULL;
    if (flexible) {
        out->is_half = out->half_reads != 0 && out->single_reads == 0;
    }
    if (precise_dequantized(graph, index) != NULL) {
        out->dequantizes = &graph->graph->nodes[index];
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(write_inputs(pass, graph, decided, &node));
    if (out != NULL && is_idle_cast(pass, graph, decided, &graph->graph->nodes[index])) {
        out->written[out->is_half] = node.inputs[0];
        out->written[!out->is_half] = out->is_single ? NULL : node.inputs[0];
        return KILN_OK;
    }
    if (decided->graph_count != 0) {
        KLN_RETURN_IF_ERROR(write_graphs(pass, decided, &node));
    }
    if (flexible && out->is_half) {
        KLN_RETURN_IF_ERROR(write_source(pass, &node));
    }
    KLN_RETURN_IF_ERROR(write_outputs(pass, graph, &node));
    return kln_onnx_add_node(&pass->model->arena, graph->made, &node);
}

kiln_status precise_write(precise_pass *pass, precise_graph *graph)
{
    KLN_RETURN_IF_ERROR(begin_graph(pass, graph));
    for (size_t i = 0; i < graph->graph->node_count; i++) {
        KLN_RETURN_IF_ERROR(write_node(pass, graph, precise_turn(graph, i)));
    }
    return end_graph(pass, graph);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "compare_parts.h"
#include "onnx/kln_look.h"
#include "ops/kln_ops.h"

/* Integer tensors of up to this many elements are passed on as constants: a backend may have to
 * know a shape, or a trip count, at build time. */
#define MOST_CONSTANTS 256

#define NOTHING UINT32_MAX

static kiln_status fail_room(void)
{
    return kln_fail(KILN_ERROR_OUT_OF_MEMORY, "memory for a part of a network is exhausted");
}

/* --- reads --- */

static kiln_status add_read(kln_cut *cut, const char *name, uint32_t position)
{
    const uint32_t value = name[0] != '\0' ? kln_names_get(&cut->graph->names, name) : NOTHING;
    if (value == NOTHING) {
        return KILN_OK;
    }
    const uint32_t producer = cut->graph->values[value]->producer;
    if (producer != KLN_NO_NODE && cut->positions[producer] >= position) {
        return KILN_OK; /* a subgraph's own value of the same name */
    }
    KLN_RETURN_IF_ERROR(KLN_GROW(cut->arena, cut->reads, cut->read_count, cut->read_capacity));
    cut->reads[cut->read_count++] = value;
    cut->last_reader[value] = position;
    return KILN_OK;
}

static kiln_status add_reads(kln_cut *cut, const kln_onnx_node *node, uint32_t position);

static kiln_status add_inner_reads(kln_cut *cut, const kln_onnx_graph *graph, uint32_t position)
{
    for (size_t i = 0; i < graph->node_count; i++) {
        KLN_RETURN_IF_ERROR(add_reads(cut, &graph->nodes[i], position));
    }
    for (size_t i = 0; i < graph->output_count; i++) {
        KLN_RETURN_IF_ERROR(add_read(cut, graph->outputs[i].name, position));
    }
    return KILN_OK;
}

/* A subgraph reads outer values by name. The model reader limits the depth of nesting. */
static kiln_status add_reads(kln_cut *cut, const kln_onnx_node *node, uint32_t position)
{
    for (size_t i = 0; i < node->input_count; i++) {
        KLN_RETURN_IF_ERROR(add_read(cut, node->inputs[i], position));
    }
    for (size_t i = 0; i < node->attribute_count; i++) {
        const kln_onnx_attribute *attribute = &node->attributes[i];
        if (attribute->graph != NULL) {
            KLN_RETURN_IF_ERROR(add_inner_reads(cut, attribute->graph, position));
        }
        for (size_t k = 0; attribute->graphs != NULL && k < attribute->count; k++) {
            KLN_RETURN_IF_ERROR(add_inner_reads(cut, attribute->graphs[k], position));
        }
    }
    return KILN_OK;
}

static void find_place(const kln_cut *cut, const char *name, uint32_t *places, size_t place)
{
    const uint32_t value = kln_names_get(&cut->graph->names, name);
    if (value != KLN_NAMES_NONE) {
        places[value] = (uint32_t)place;
    }
}

static void find_places(kln_cut *cut, const kln_compare_inputs *inputs)
{
    const kln_onnx_graph *graph = &cut->model->graph;
    for (size_t i = 0; i < graph->input_count; i++) {
        find_place(cut, graph->inputs[i].name, cut->places[KLN_CUT_INPUT], i);
    }
    for (size_t i = 0; i < graph->initializer_count; i++) {
        find_place(cut, graph->initializers[i].name, cut->places[KLN_CUT_INITIALIZER], i);
    }
    for (size_t i = 0; i < graph->sparse_initializer_count; i++) {
        find_place(cut, graph->sparse_initializer_names[i], cut->places[KLN_CUT_SPARSE], i);
    }
    for (size_t i = 0; i < graph->value_count; i++) {
        find_place(cut, graph->values[i].name, cut->places[KLN_CUT_INFO], i);
    }
    for (size_t i = 0; i < inputs->count; i++) {
        find_place(cut, inputs->tensors[i].name, cut->places[KLN_CUT_GIVEN], i);
    }
}

static void *room(kln_cut *cut, size_t count, size_t size)
{
    void *memory = kln_arena_alloc_zeroed(cut->arena, count + 1, size);
    cut->failed = cut->failed || memory == NULL;
    return memory;
}

static kiln_status make_room(kln_cut *cut, size_t given)
{
    const kln_onnx_graph *graph = &cut->model->graph;
    const size_t nodes = cut->graph->node_count;
    const size_t values = cut->graph->value_count;
    cut->positions = room(cut, nodes, sizeof *cut->positions);
    cut->order = room(cut, nodes, sizeof *cut->order);
    cut->first_read = room(cut, nodes + 1, sizeof *cut->first_read);
    cut->chosen = room(cut, nodes, sizeof *cut->chosen);
    cut->node_marks = room(cut, nodes, sizeof *cut->node_marks);
    cut->value_marks = room(cut, values, sizeof *cut->value_marks);
    cut->last_reader = room(cut, values, sizeof *cut->last_reader);
    cut->kept = room(cut, values, sizeof *cut->kept);
    cut->live = room(cut, values, sizeof *cut->live);
    cut->nodes = room(cut, nodes, sizeof *cut->nodes);
    cut->inputs = room(cut, values, sizeof *cut->inputs);
    cut->outputs = room(cut, values, sizeof *cut->outputs);
    cut->infos = room(cut, values, sizeof *cut->infos);
    cut->initializers = room(cut, values, sizeof *cut->initializers);
    cut->sparse = room(cut, graph->sparse_initializer_count, sizeof *cut->sparse);
    cut->sparse_names = room(cut, graph->sparse_initializer_count, sizeof(char *));
    cut->bound[0] = room(cut, values + given, sizeof(kiln_named_tensor));
    cut->bound[1] = room(cut, values + given, sizeof(kiln_named_tensor));
    for (size_t i = 0; i < KLN_CUT_PLACES; i++) {
        cut->places[i] = room(cut, values, sizeof(uint32_t));
        if (cut->places[i] != NULL) {
            memset(cut->places[i], 0xff, (values + 1) * sizeof(uint32_t));
        }
    }
    return cut->failed ? fail_room() : KILN_OK;
}

kiln_status kln_cut_init(kln_cut *cut, kln_onnx_model *model, kln_inference *inference,
                         const kln_compare_inputs *inputs)
{
    *cut = (kln_cut){.model = model,
                     .whole = model->graph,
                     .graph = inference->graph,
                     .arena = &inference->arena,
                     .given = inputs};
    KLN_RETURN_IF_ERROR(make_room(cut, inputs->count));
    const kln_graph_inference *graph = cut->graph;
    for (size_t i = 0; i < graph->node_count; i++) {
        cut->order[i] = graph->order != NULL ? graph->order[i] : (uint32_t)i;
        cut->positions[cut->order[i]] = (uint32_t)i;
    }
    for (size_t i = 0; i < graph->node_count; i++) {
        cut->first_read[i] = cut->read_count;
        KLN_RETURN_IF_ERROR(add_reads(cut, &graph->graph->nodes[cut->order[i]], (uint32_t)i));
    }
    cut->first_read[graph->node_count] = cut->read_count;
    find_places(cut, inputs);
    return KILN_OK;
}

/* --- kept tensors --- */

static void drop(kln_cut *cut, uint32_t value)
{
    kln_cut_kept *kept = &cut->kept[value];
    kln_free(kept->tensors[0].data);
    kln_free(kept->tensors[1].data);
    *kept = (kln_cut_kept){.is_kept = false};
}

void kln_cut_finish(kln_cut *cut)
{
    for (size_t i = 0; i < cut->live_count; i++) {
        drop(cut, cut->live[i]);
    }
    cut->live_count = 0;
}

static kiln_status copy(kiln_context *context, const char *name, kiln_tensor *to)
{
    kiln_tensor from;
    KLN_RETURN_IF_ERROR(kiln_context_tensor(context, name, &from));
    void *data = kln_alloc_aligned(from.bytes + 16, 64);
    KLN_RETURN_IF_NO_MEMORY(data, from.bytes, "an intermediate tensor");
    if (from.bytes > 0) {
        memcpy(data, from.data, from.bytes);
    }
    *to = KILN_HOST_TENSOR(from.desc.dtype, from.desc.shape, data, from.bytes);
    return KILN_OK;
}

/* Nodes between weights and the node that reads them, by which backends recognize a quantized node
 * and its scales. They are few, and run again in each part. */
static bool is_weight(const kln_cut *cut, const kln_value *value)
{
    return value->is_constant &&
           KLN_ONNX_NODE_IS_ANY(&cut->whole.nodes[value->producer], "Constant", "DequantizeLinear",
                                "QuantizeLinear", "Cast", "Transpose", "Reshape", "Squeeze",
                                "Unsqueeze", "Identity");
}

kiln_status kln_cut_keep(kln_cut *cut, uint32_t value, kiln_context *const contexts[2])
{
    kln_cut_kept *kept = &cut->kept[value];
    if (cut->last_reader[value] <= cut->last || kept->is_kept ||
        is_weight(cut, cut->graph->values[value])) {
        return KILN_OK;
    }
    kept->is_kept = true;
    cut->live[cut->live_count++] = value;
    for (size_t i = 0; i < 2; i++) {
        KLN_RETURN_IF_ERROR(copy(contexts[i], cut->graph->values[value]->name, &kept->tensors[i]));
    }
    return KILN_OK;
}

void kln_cut_forget(kln_cut *cut)
{
    size_t count = 0;
    for (size_t i = 0; i < cut->live_count; i++) {
        const uint32_t value = cut->live[i];
        if (cut->last_reader[value] <= cut->last) {
            drop(cut, value);
        } else {
            cut->live[count++] = value;
        }
    }
    cut->live_count = count;
}

/* --- a part --- */

static void choose(kln_cut *cut, uint32_t position)
{
    if (cut->node_marks[position] != cut->stamp) {
        cut->node_marks[position] = cut->stamp;
        cut->chosen[cut->chosen_count++] = position;
    }
}

static int by_position(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a;
    const uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Chooses the nodes asked for, and those that produce what they read, back to kept tensors. */
static void choose_all(kln_cut *cut, uint32_t first, uint32_t last)
{
    cut->stamp++;
    cut->chosen_count = 0;
    for (uint32_t i = first; i <= last; i++) {
        choose(cut, i);
    }
    for (size_t i = 0; i < cut->chosen_count; i++) {
        const uint32_t position = cut->chosen[i];
        for (size_t k = cut->first_read[position]; k < cut->first_read[position + 1]; k++) {
            const uint32_t value = cut->reads[k];
            const uint32_t producer = cut->graph->values[value]->producer;
            if (producer != KLN_NO_NODE && !cut->kept[value].is_kept) {
                choose(cut, cut->positions[producer]);
            }
        }
    }
    qsort(cut->chosen, cut->chosen_count, sizeof *cut->chosen, by_position);
    cut->last = last;
}

static bool is_constant(const kiln_tensor *tensor)
{
    int64_t count = 0;
    const kiln_dtype dtype = tensor->desc.dtype;
    return (dtype == KILN_DTYPE_INT64 || dtype == KILN_DTYPE_INT32 || dtype == KILN_DTYPE_BOOL) &&
           kiln_shape_elements(&tensor->desc.shape, &count) == KILN_OK && count <= MOST_CONSTANTS;
}

static void bind(kln_cut *cut, size_t side, const char *name, const kiln_tensor *tensor)
{
    cut->bound[side][cut->bound_count[side]++] = (kiln_named_tensor){name, *tensor};
}

/* Adds a tensor with known content as a constant, or as an input of exactly its shape: parts have
 * no dynamic inputs, for which a backend might need a profile. */
static kiln_status put_tensor(kln_cut *cut, size_t side, const kln_value *value,
                              const kiln_tensor *tensor)
{
    const kiln_shape *shape = &tensor->desc.shape;
    kln_onnx_graph *part = &cut->model->graph;
    const size_t rank = (size_t)shape->rank;
    if (is_constant(tensor)) {
        int64_t *dims = kln_arena_alloc(cut->arena, (rank + 1) * sizeof *dims);
        KLN_FAIL_IF(dims == NULL, fail_room());
        memcpy(dims, shape->dims, rank * sizeof *dims);
        part->initializers[part->initializer_count++] =
            (kln_onnx_tensor){.name = value->name,
                              .dtype = value->dtype,
                              .wire_dtype = value->wire_dtype,
                              .rank = rank,
                              .dims = dims,
                              .data = {tensor->data, tensor->bytes}};
        return KILN_OK;
    }
    kln_onnx_dim *dims = kln_arena_alloc_zeroed(cut->arena, rank + 1, sizeof *dims);
    KLN_FAIL_IF(dims == NULL, fail_room());
    for (size_t i = 0; i < rank; i++) {
        dims[i].value = shape->dims[i];
    }
    part->inputs[part->input_count++] = (kln_onnx_value){.name = value->name,
                                                         .type = {.kind = KLN_ONNX_KIND_TENSOR,
                                                                  .dtype = value->dtype,
                                                                  .wire_dtype = value->wire_dtype,
                                                                  .has_shape = true,
                                                                  .rank = rank,
                                                                  .dims = dims}};
    bind(cut, side, value->name, tensor);
    return KILN_OK;
}

/* Adds what the network itself is given, or has as a weight. */
static kiln_status put_source(kln_cut *cut, size_t side, uint32_t index)
{
    kln_onnx_graph *part = &cut->model->graph;
    const kln_onnx_graph *whole = &cut->whole;
    uint32_t place = cut->places[KLN_CUT_GIVEN][index];
    if (place != NOTHING) {
        return put_tensor(cut, side, cut->graph->values[index], &cut->given->tensors[place].tensor);
    }
    place = cut->places[KLN_CUT_INITIALIZER][index];
    if (place != NOTHING) {
        part->initializers[part->initializer_count++] = whole->initializers[place];
        return KILN_OK;
    }
    place = cut->places[KLN_CUT_SPARSE][index];
    if (place != NOTHING) {
        part->sparse_initializers[part->sparse_initializer_count] =
            whole->sparse_initializers[place];
        part->sparse_initializer_names[part->sparse_initializer_count++] =
            whole->sparse_initializer_names[place];
        return KILN_OK;
    }
    place = cut->places[KLN_CUT_INPUT][index];
    if (place != NOTHING) {
        part->inputs[part->input_count++] = whole->inputs[place];
    }
    return KILN_OK;
}

static kiln_status put_read(kln_cut *cut, size_t side, uint32_t index)
{
    if (cut->value_marks[index] == cut->mark) {
        return KILN_OK;
    }
    cut->value_marks[index] = cut->mark;
    const uint32_t producer = cut->graph->values[index]->producer;
    if (producer == KLN_NO_NODE) {
        return put_source(cut, side, index);
    }
    /* A node that runs again for another of its outputs makes this one too. */
    const bool is_made = cut->node_marks[cut->positions[producer]] == cut->stamp;
    return is_made
               ? KILN_OK
               : put_tensor(cut, side, cut->graph->values[index], &cut->kept[index].tensors[side]);
}

/* Adds declared types of intermediate tensors that are not outputs: a custom operator may need
 * them. */
static void put_infos(kln_cut *cut, uint32_t position)
{
    kln_onnx_graph *part = &cut->model->graph;
    const kln_node_inference *known = &cut->graph->nodes[cut->order[position]];
    for (size_t i = 0; i < part->nodes[part->node_count - 1].output_count; i++) {
        const uint32_t value = known->outputs[i];
        const uint32_t place = value != KLN_NO_VALUE ? cut->places[KLN_CUT_INFO][value] : NOTHING;
        if (place != NOTHING && cut->value_marks[value] != cut->mark) {
            part->values[part->value_count++] = cut->whole.values[place];
        }
    }
}

static void put_output(kln_cut *cut, uint32_t index)
{
    const kln_value *value = cut->graph->values[index];
    kln_onnx_graph *part = &cut->model->graph;
    cut->value_marks[index] = cut->mark;
    part->outputs[part->output_count++] = (kln_onnx_value){
        .name = value->name,
        .type = {
            .kind = KLN_ONNX_KIND_TENSOR, .dtype = value->dtype, .wire_dtype = value->wire_dtype}};
}

static void begin_part(kln_cut *cut)
{
    kln_onnx_graph *part = &cut->model->graph;
    *part = cut->whole;
    part->nodes = cut->nodes;
    part->inputs = cut->inputs;
    part->outputs = cut->outputs;
    part->values = cut->infos;
    part->initializers = cut->initializers;
    part->sparse_initializers = cut->sparse;
    part->sparse_initializer_names = cut->sparse_names;
    part->quantization_annotations = NULL;
    part->node_count = part->input_count = part->output_count = part->value_count = 0;
    part->initializer_count = part->sparse_initializer_count = 0;
    part->quantization_annotation_count = 0;
    part->node_capacity = part->input_capacity = part->output_capacity = 0;
    part->value_capacity = part->initializer_capacity = 0;
}

static kiln_status put_part(kln_cut *cut, size_t side, const uint32_t *values, size_t count)
{
    kln_onnx_graph *part = &cut->model->graph;
    begin_part(cut);
    cut->bound_count[side] = 0;
    cut->mark++;
    for (size_t i = 0; i < count; i++) {
        put_output(cut, values[i]);
    }
    for (size_t i = 0; i < cut->chosen_count; i++) {
        const uint32_t position = cut->chosen[i];
        part->nodes[part->node_count++] = cut->whole.nodes[cut->order[position]];
        put_infos(cut, position);
        for (size_t k = cut->first_read[position]; k < cut->first_read[position + 1]; k++) {
            KLN_RETURN_IF_ERROR(put_read(cut, side, cut->reads[k]));
        }
    }
    return KILN_OK;
}

kiln_status kln_cut_build(kln_cut *cut, const uint32_t *values, size_t count, uint32_t first,
                          uint32_t last, const kln_compare_builds *builds, kiln_engine *engines[2])
{
    const kiln_build_options *const options[2] = {&builds->found, &builds->expected};
    const kiln_model model = {.graph = cut->model};
    kiln_status status = KILN_OK;
    choose_all(cut, first, last);
    for (size_t i = 0; i < 2 && status == KILN_OK; i++) {
        status = put_part(cut, i, values, count);
        KLN_THEN(status, kln_engine_make(&model, options[i], false, NULL, &engines[i]));
    }
    cut->model->graph = cut->whole;
    return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "build_layer.h"
#include "kln_network.h"

#include <stdio.h>
#include <string.h>

void kln_layer_fail(kln_layer *layer, kiln_status status, const char *format, ...)
{
    if (layer->status != KILN_OK) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    status = kln_fail_v(status, format, arguments);
    va_end(arguments);
    layer->status = layer->name != NULL
                        ? kln_fail_within(status, "%s: layer \"%s\"", layer->function, layer->name)
                        : kln_fail_within(status, "%s", layer->function);
}

void kln_layer_need(kln_layer *layer, bool holds, const char *format, ...)
{
    if (holds || layer->status != KILN_OK) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    const kiln_status status = kln_fail_v(KILN_ERROR_INVALID_ARGUMENT, format, arguments);
    va_end(arguments);
    kln_layer_fail(layer, status, "%s", kiln_error_message());
}

static kln_arena *arena_of(kln_layer *layer)
{
    return &layer->network->model->arena;
}

static void fail_memory(kln_layer *layer)
{
    kln_layer_fail(layer, KILN_ERROR_OUT_OF_MEMORY, "memory for the layer is exhausted");
}

/* --- begin and end --- */

static void take_name(kln_layer *layer, const char *name)
{
    kiln_network *root = layer->network->root;
    if (name != NULL) {
        kln_layer_need(layer, name[0] != '\0', "its name is empty");
        if (kln_names_get(&root->names, name) != KLN_NAMES_NONE) {
            kln_layer_fail(layer, KILN_ERROR_NAME, "the name \"%s\" is in use", name);
            return;
        }
        layer->name = kln_arena_strdup(arena_of(layer), name);
    } else {
        do {
            layer->name =
                kln_arena_printf(arena_of(layer), "%s.%u", layer->op_type, ++root->unnamed);
        } while (layer->name != NULL && kln_names_get(&root->names, layer->name) != KLN_NAMES_NONE);
    }
    if (layer->name == NULL) {
        fail_memory(layer);
    }
}

void kln_layer_begin(kln_layer *layer, kiln_network *network, const char *function,
                     const char *name, const char *op_type)
{
    memset(layer, 0, sizeof *layer);
    layer->function = function;
    layer->op_type = op_type;
    layer->domain = "";
    layer->inputs = layer->few;
    layer->input_capacity = KLN_LAYER_INPUTS;
    if (network == NULL) {
        layer->status = kln_fail_null(function, "network");
        return;
    }
    layer->network = network;
    layer->node_mark = network->graph->node_count;
    layer->initializer_mark = network->graph->initializer_count;
    layer->tensor_mark = network->tensor_count;
    layer->opset_mark = network->model->opset_count;
    if (network->is_used) {
        kln_layer_fail(layer, KILN_ERROR_STATE,
                       "the branch is part of an If or Loop already and takes no layer any more");
        return;
    }
    take_name(layer, name);
}

/* The names of what is taken back are free again. */
static void take_back(kln_layer *layer)
{
    kiln_network *network = layer->network;
    for (size_t i = layer->tensor_mark; i < network->tensor_count; i++) {
        /* A table that has no room to forget a name merely keeps it in use. */
        if (kln_names_set(&network->root->names, network->tensors[i].name, KLN_NAMES_NONE) !=
            KILN_OK) {
            break;
        }
    }
    network->tensor_count = layer->tensor_mark;
    network->graph->node_count = layer->node_mark;
    network->graph->initializer_count = layer->initializer_mark;
    network->model->opset_count = layer->opset_mark;
}

/* --- inputs --- */

kln_built_tensor kln_layer_tensor(kln_layer *layer, kiln_tensor_id id)
{
    static const kln_built_tensor none = {"", KILN_DTYPE_UNDEFINED, KLN_RANK_OPEN};
    if (layer->status != KILN_OK) {
        return none;
    }
    const kln_built_tensor *tensor = kln_network_tensor(layer->network, id);
    if (tensor == NULL) {
        kln_layer_fail(layer, KILN_ERROR_INVALID_ARGUMENT,
                       id == KILN_NO_TENSOR ? "a tensor is required, KILN_NO_TENSOR (%d) was given"
                                            : "%d is no tensor of this network or branch",
                       (int)id);
        return none;
    }
    return *tensor;
}

void kln_layer_rank(kln_layer *layer, kiln_tensor_id id, int32_t least, int32_t most)
{
    const kln_built_tensor tensor = kln_layer_tensor(layer, id);
    if (tensor.rank >= 0 && (tensor.rank < least || tensor.rank > most)) {
        char needed[48];
        (void)snprintf(needed, sizeof needed, least == most ? "%d" : "%d to %d", (int)least,
                       (int)most);
        kln_layer_fail(layer, KILN_ERROR_RANK, "\"%s\" has rank %d, but rank %s is needed",
                       tensor.name, (int)tensor.rank, needed);
    }
}

static void check_axis(kln_layer *layer, int32_t rank, int64_t axis)
{
    const int64_t limit = rank >= 0 ? rank : KILN_MAX_RANK;
    kln_layer_need(layer, axis >= -limit && axis < limit,
                   "axis %lld is not in a tensor of rank %lld", (long long)axis, (long long)limit);
}

void kln_layer_axis(kln_layer *layer, kiln_tensor_id id, int64_t axis)
{
    check_axis(layer, kln_layer_tensor(layer, id).rank, axis);
}

void kln_layer_axes(kln_layer *layer, int32_t rank, const int64_t *axes, size_t count)
{
    uint32_t seen = 0;
    if (axes == NULL && layer->status == KILN_OK) {
        layer->status = kln_fail_null(layer->function, "axes");
        return;
    }
    for (size_t i = 0; i < count && layer->status == KILN_OK; i++) {
        check_axis(layer, rank, axes[i]);
        /* Without a rank, -1 and 2 may be one axis or two; equal numbers are seen all the same. */
        const int64_t axis = axes[i] >= 0 ? axes[i] : rank >= 0 ? axes[i] + rank : 16 - axes[i];
        kln_layer_need(layer, layer->status != KILN_OK || (seen & UINT32_C(1) << axis) == 0,
                       "axis %lld is given twice", (long long)axes[i]);
        if (layer->status == KILN_OK) {
            seen |= UINT32_C(1) << axis;
        }
    }
}

static void add_input_name(kln_layer *layer, const char *name)
{
    if (layer->status != KILN_OK) {
        return;
    }
    if (layer->input_count == layer->input_capacity) {
        const size_t capacity = layer->input_capacity * 2;
        const char **more = kln_arena_alloc(arena_of(layer), capacity * sizeof *more);
        if (more == NULL) {
            fail_memory(layer);
            return;
        }
        memcpy(more, layer->inputs, layer->input_count * sizeof *more);
        layer->inputs = more;
        layer->input_capacity = capacity;
    }
    layer->inputs[layer->input_count++] = name;
}

void kln_layer_input(kln_layer *layer, kiln_tensor_id id)
{
    add_input_name(layer, kln_layer_tensor(layer, id).name);
}

void kln_layer_optional(kln_layer *layer, kiln_tensor_id id)
{
    if (id == KILN_NO_TENSOR) {
        add_input_name(layer, "");
    } else {
        kln_layer_input(layer, id);
    }
}

static kiln_status add_initializer(kiln_network *network, const kln_onnx_tensor *tensor)
{
    kln_onnx_graph *graph = network->graph;
    KLN_RETURN_IF_ERROR(kln_array_grow(&network->model->arena, &graph->initializers,
                                       graph->initializer_count, &graph->initializer_capacity,
                                       sizeof *tensor));
    graph->initializers[graph->initializer_count++] = *tensor;
    return KILN_OK;
}

kiln_tensor_id kln_layer_constant(kln_layer *layer, const char *suffix, kiln_dtype dtype,
                                  const int64_t *dims, size_t rank, const void *values, size_t size)
{
    if (layer->status != KILN_OK) {
        return KILN_NO_TENSOR;
    }
    kln_arena *arena = arena_of(layer);
    kiln_tensor_id id = KILN_NO_TENSOR;
    kln_onnx_tensor tensor = {
        .dtype = dtype, .wire_dtype = kln_onnx_wire_dtype(dtype), .rank = rank};
    char *name = kln_arena_printf(arena, "%s/%s", layer->name, suffix);
    void *copy = kln_arena_alloc(arena, size);
    tensor.dims = kln_arena_alloc(arena, rank * sizeof *dims);
    if (name == NULL || copy == NULL || tensor.dims == NULL) {
        fail_memory(layer);
        return KILN_NO_TENSOR;
    }
    if (size != 0) {
        memcpy(copy, values, size);
    }
    if (rank != 0) {
        memcpy(tensor.dims, dims, rank * sizeof *dims);
    }
    tensor.name = name;
    tensor.data = (kiln_span){copy, size};
    tensor.present = UINT32_C(1) << 9; /* raw_data, also where it is empty */
    layer->status = kln_network_register(layer->network, name, dtype, (int32_t)rank, &id);
    if (layer->status == KILN_OK) {
        layer->status = add_initializer(layer->network, &tensor);
    }
    return id;
}

kiln_tensor_id kln_layer_scalar(kln_layer *layer, const char *suffix, kiln_dtype dtype, float value)
{
    double element = 0.0; /* room for one of any type, aligned */
    const double wide = (double)value;
    const kiln_dtype type = dtype == KILN_DTYPE_UNDEFINED ? KILN_DTYPE_FLOAT32 : dtype;
    const kiln_shape scalar = KILN_SHAPE_SCALAR;
    size_t bytes = 0;
    kiln_status status = kiln_tensor_bytes(type, &scalar, &bytes);
    if (status == KILN_OK) {
        const kiln_tensor tensor = KILN_HOST_TENSOR(type, scalar, &element, bytes);
        status = kiln_tensor_write(&tensor, 0, 1, &wide);
    }
    if (status != KILN_OK) {
        kln_layer_fail(layer, status, "its input is of type %s, which cannot hold %g",
                       kiln_dtype_name(type), wide);
    }
    return kln_layer_constant(layer, suffix, type, NULL, 0, &element, bytes);
}

void kln_layer_input_ints(kln_layer *layer, const char *suffix, const int64_t *values, size_t count,
                          bool is_scalar)
{
    const int64_t dims[1] = {(int64_t)count};
    if (values == NULL && count != 0 && layer->status == KILN_OK) {
        layer->status = kln_fail_null(layer->function, suffix);
        return;
    }
    kln_layer_optional(
        layer, kln_layer_constant(layer, suffix, KILN_DTYPE_INT64, dims, is_scalar ? 0 : 1, values,
                                  count * sizeof *values));
}

void kln_layer_input_floats(kln_layer *layer, const char *suffix, const float *values, size_t count,
                            bool is_scalar)
{
    const int64_t dims[1] = {(int64_t)count};
    kln_layer_optional(
        layer, kln_layer_constant(layer, suffix, KILN_DTYPE_FLOAT32, dims, is_scalar ? 0 : 1,
                                  values, count * sizeof *values));
}

/* --- attributes; the name is a literal or in the arena --- */

static kln_onnx_attribute *add_attribute(kln_layer *layer, const char *name,
                                         kln_onnx_attribute_type type)
{
    static kln_onnx_attribute spare;
    if (layer->status != KILN_OK) {
        return NULL;
    }
    if (layer->attribute_count == KLN_LAYER_ATTRIBUTES) {
        kln_layer_fail(layer, KILN_ERROR_LIMIT, "more than %d attributes", KLN_LAYER_ATTRIBUTES);
        return NULL;
    }
    kln_onnx_attribute *attribute = &layer->attributes[layer->attribute_count++];
    *attribute = spare;
    attribute->name = name;
    attribute->type = type;
    attribute->doc = "";
    return attribute;
}

void kln_layer_int(kln_layer *layer, const char *name, int64_t value)
{
    kln_onnx_attribute *attribute = add_attribute(layer, name, KLN_ONNX_ATTRIBUTE_INT);
    if (attribute != NULL) {
        attribute->i = value;
        attribute->present = UINT32_C(1) << 3; /* 0 is a value too */
    }
}

void kln_layer_float(kln_layer *layer, const char *name, float value)
{
    kln_onnx_attribute *attribute = add_attribute(layer, name, KLN_ONNX_ATTRIBUTE_FLOAT);
    if (attribute != NULL) {
        attribute->f = value;
        attribute->present = UINT32_C(1) << 2;
    }
}

void kln_layer_string(kln_layer *layer, const char *name, const char *value)
{
    kln_onnx_attribute *attribute = add_attribute(layer, name, KLN_ONNX_ATTRIBUTE_STRING);
    const char *copy = attribute != NULL ? kln_arena_strdup(arena_of(layer), value) : NULL;
    if (copy == NULL) {
        fail_memory(layer);
        return;
    }
    attribute->s = (kiln_span){copy, strlen(copy)};
    attribute->present = UINT32_C(1) << 4;
}

/* A copy in the arena; NULL failed the layer. */
static void *copy_array(kln_layer *layer, const void *values, size_t size)
{
    void *copy = layer->status == KILN_OK ? kln_arena_alloc(arena_of(layer), size) : NULL;
    if (copy == NULL) {
        fail_memory(layer);
    } else if (size != 0) {
        memcpy(copy, values, size);
    }
    return copy;
}

void kln_layer_ints(kln_layer *layer, const char *name, const int64_t *values, size_t count)
{
    int64_t *copy = copy_array(layer, values, count * sizeof *values);
    kln_onnx_attribute *attribute = add_attribute(layer, name, KLN_ONNX_ATTRIBUTE_INTS);
    if (attribute != NULL) {
        attribute->ints = copy;
        attribute->count = count;
    }
}

void kln_layer_floats(kln_layer *layer, const char *name, const float *values, size_t count)
{
    float *copy = copy_array(layer, values, count * sizeof *values);
    kln_onnx_attribute *attribute = add_attribute(layer, name, KLN_ONNX_ATTRIBUTE_FLOATS);
    if (attribute != NULL) {
        attribute->floats = copy;
        attribute->count = count;
    }
}

void kln_layer_graph(kln_layer *layer, const char *name, kln_onnx_graph *graph)
{
    kln_onnx_attribute *attribute = add_attribute(layer, name, KLN_ONNX_ATTRIBUTE_GRAPH);
    if (attribute != NULL) {
        attribute->graph = graph;
    }
}

/* --- nodes --- */

void kln_layer_operator(kln_layer *layer, const char *op_type)
{
    layer->op_type = op_type;
    layer->domain = "";
    layer->inputs = layer->few;
    layer->input_capacity = KLN_LAYER_INPUTS;
    layer->input_count = 0;
    layer->attribute_count = 0;
}

/* Puts the operator into the graph; `outputs` is in the arena. */
static void add_node(kln_layer *layer, const char *name, const char **outputs, size_t count)
{
    kln_onnx_graph *graph = layer->network->graph;
    while (layer->input_count > 0 && layer->inputs[layer->input_count - 1][0] == '\0') {
        layer->input_count--; /* what is left out at the end is not there at all */
    }
    kln_onnx_node node = {.name = name, .op_type = layer->op_type, .domain = layer->domain};
    node.overload = "";
    node.doc = "";
    node.outputs = outputs;
    node.output_count = count;
    node.input_count = layer->input_count;
    node.inputs = copy_array(layer, layer->inputs, layer->input_count * sizeof *layer->inputs);
    node.attribute_count = layer->attribute_count;
    node.attributes =
        copy_array(layer, layer->attributes, layer->attribute_count * sizeof *layer->attributes);
    if (layer->status == KILN_OK) {
        layer->status = kln_array_grow(arena_of(layer), &graph->nodes, graph->node_count,
                                       &graph->node_capacity, sizeof node);
    }
    if (layer->status == KILN_OK) {
        graph->nodes[graph->node_count++] = node;
    }
}

kiln_tensor_id kln_layer_emit(kln_layer *layer, const char *suffix, kiln_dtype dtype, int32_t rank)
{
    kiln_tensor_id id = KILN_NO_TENSOR;
    if (layer->status != KILN_OK) {
        return id;
    }
    char *name = kln_arena_printf(arena_of(layer), "%s%s%s", layer->name,
                                  suffix[0] == ':' ? "" : "/", suffix);
    const char **outputs = kln_arena_alloc(arena_of(layer), sizeof *outputs);
    if (name == NULL || outputs == NULL) {
        fail_memory(layer);
        return id;
    }
    outputs[0] = name;
    add_node(layer, name, outputs, 1);
    if (layer->status == KILN_OK) {
        layer->status = kln_network_register(layer->network, name, dtype, rank, &id);
    }
    return id;
}

kiln_tensor_id kln_layer_simple(kln_layer *layer, const char *suffix, const char *op_type,
                                kiln_tensor_id a, kiln_tensor_id b, kiln_dtype dtype, int32_t rank)
{
    kln_layer_operator(layer, op_type);
    kln_layer_input(layer, a);
    kln_layer_optional(layer, b);
    return kln_layer_emit(layer, suffix, dtype, rank);
}

static void name_outputs(kln_layer *layer, const kln_layer_output *outputs, size_t count,
                         const char **names, kiln_tensor_id *ids)
{
    for (size_t i = 0; i < count && layer->status == KILN_OK; i++) {
        names[i] = outputs[i].id == NULL ? ""
                   : i == 0              ? layer->name
                            : kln_arena_printf(arena_of(layer), "%s:%zu", layer->name, i);
        if (names[i] == NULL) {
            fail_memory(layer);
        } else if (outputs[i].id != NULL) {
            layer->status = kln_network_register(layer->network, names[i], outputs[i].dtype,
                                                 outputs[i].rank, &ids[i]);
        }
    }
}

kln_layer_output *kln_layer_outputs(kln_layer *layer, kiln_tensor_id *ids, size_t count,
                                    kiln_dtype dtype, int32_t rank)
{
    if (layer->status != KILN_OK) {
        return NULL;
    }
    kln_layer_output *outputs = kln_arena_alloc_zeroed(arena_of(layer), count, sizeof *outputs);
    if (outputs == NULL) {
        fail_memory(layer);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        outputs[i].id = &ids[i];
        outputs[i].dtype = dtype;
        outputs[i].rank = rank;
    }
    return outputs;
}

static kiln_status give_up(kln_layer *layer)
{
    if (layer->network != NULL) {
        take_back(layer);
    }
    return layer->status;
}

kiln_status kln_layer_finish(kln_layer *layer, const kln_layer_output *outputs, size_t count)
{
    if (layer->status != KILN_OK) {
        return give_up(layer);
    }
    const char **names = kln_arena_alloc_zeroed(arena_of(layer), count, sizeof(const char *));
    kiln_tensor_id *ids = kln_arena_alloc_zeroed(arena_of(layer), count, sizeof *ids);
    if (names == NULL || ids == NULL) {
        fail_memory(layer);
        return give_up(layer);
    }
    name_outputs(layer, outputs, count, names, ids);
    while (layer->status == KILN_OK && count > 0 && outputs[count - 1].id == NULL) {
        count--;
    }
    if (layer->status == KILN_OK) {
        add_node(layer, layer->name, names, count);
    }
    if (layer->status != KILN_OK) {
        return give_up(layer);
    }
    for (size_t i = 0; i < count; i++) {
        if (outputs[i].id != NULL) {
            *outputs[i].id = ids[i];
        }
    }
    return KILN_OK;
}

kiln_status kln_layer_finish_one(kln_layer *layer, kiln_dtype dtype, int32_t rank,
                                 kiln_tensor_id *output)
{
    const kln_layer_output one[] = {{output, dtype, rank}};
    if (output == NULL && layer->status == KILN_OK) {
        layer->status = kln_fail_null(layer->function, "output");
    }
    return kln_layer_finish(layer, one, 1);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What a layer passes to its operators: inputs, constants, attributes. */
#include "build_layer.h"

static void add_input_name(kln_layer *layer, const char *name, uint32_t place)
{
    if (layer->status != KILN_OK) {
        return;
    }
    if (layer->input_count == layer->input_capacity) {
        const size_t capacity = layer->input_capacity * 2;
        const char **more = kln_arena_alloc(kln_layer_arena(layer), capacity * sizeof *more);
        if (more == NULL) {
            kln_layer_no_memory(layer);
            return;
        }
        memcpy(more, layer->inputs, layer->input_count * sizeof *more);
        layer->inputs = more;
        layer->input_capacity = capacity;
    }
    if (layer->input_count < KLN_LAYER_INPUTS) {
        layer->places[layer->input_count] = place;
    }
    layer->inputs[layer->input_count++] = name;
}

void kln_layer_input(kln_layer *layer, kiln_tensor_id id)
{
    const kln_built_tensor *tensor = kln_layer_find(layer, id);
    if (tensor != NULL) {
        add_input_name(layer, tensor->name, tensor->place);
    }
}

void kln_layer_list(kln_layer *layer, const kiln_tensor_id *ids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        kln_layer_input(layer, ids[i]);
    }
}

void kln_layer_optional(kln_layer *layer, kiln_tensor_id id)
{
    if (id == KILN_NO_TENSOR) {
        add_input_name(layer, "", KLN_NO_VALUE);
    } else {
        kln_layer_input(layer, id);
    }
}

kln_onnx_tensor kln_layer_weights(kln_layer *layer, const kiln_weights *weights)
{
    kln_onnx_tensor tensor = {.name = "", .doc = "", .dtype = weights->dtype};
    size_t bytes = 0;
    if (layer->status != KILN_OK) {
        return tensor;
    }
    const kiln_status status = kiln_tensor_bytes(weights->dtype, &weights->shape, &bytes);
    if (status != KILN_OK) {
        kln_layer_fail(layer, status, "%s", kiln_error_message());
        return tensor;
    }
    if (weights->data.size != bytes) {
        char shape[KLN_SHAPE_TEXT];
        (void)kiln_shape_format(&weights->shape, shape, sizeof shape);
        kln_layer_fail(layer, KILN_ERROR_SIZE,
                       "%s weights of shape %s have %zu bytes, %zu were given",
                       kiln_dtype_name(weights->dtype), shape, bytes, weights->data.size);
    } else if (weights->data.data == NULL && bytes != 0) {
        kln_layer_fail(layer, KILN_ERROR_NULL_ARGUMENT, "`weights->data.data` is NULL");
    }
    tensor.wire_dtype = kln_onnx_wire_dtype(weights->dtype);
    tensor.rank = (size_t)weights->shape.rank;
    tensor.dims = kln_layer_copy(layer, weights->shape.dims, tensor.rank * sizeof *tensor.dims);
    tensor.data = weights->data;
    tensor.present = UINT32_C(1) << 9; /* raw_data, also where it is empty */
    return tensor;
}

kiln_tensor_id kln_layer_constant(kln_layer *layer, const char *suffix, kiln_dtype dtype,
                                  const int64_t *dims, size_t rank, const void *values, size_t size)
{
    kiln_tensor_id id = KILN_NO_TENSOR;
    kiln_weights weights = {.dtype = dtype, .shape.rank = (int32_t)rank};
    for (size_t i = 0; i < rank; i++) {
        weights.shape.dims[i] = dims[i];
    }
    weights.data = (kiln_span){kln_layer_copy(layer, values, size), size};
    kln_onnx_tensor tensor = kln_layer_weights(layer, &weights);
    tensor.name = layer->status == KILN_OK
                      ? kln_arena_printf(kln_layer_arena(layer), "%s/%s", layer->name, suffix)
                      : NULL;
    if (tensor.name == NULL) {
        kln_layer_no_memory(layer);
    }
    if (layer->status == KILN_OK) {
        layer->status = kln_network_register(layer->network, tensor.name,
                                             kln_names_hash(tensor.name), layer->is_refused, &id);
    }
    if (layer->status == KILN_OK) {
        layer->status =
            kln_onnx_add_initializer(&layer->network->model->arena, layer->network->graph, &tensor);
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

void kln_layer_dtype(kln_layer *layer, const char *name, kiln_dtype dtype)
{
    const int32_t wire = kln_onnx_wire_dtype(dtype);
    if (wire == 0) {
        kln_layer_fail(layer, KILN_ERROR_DTYPE, "dtype is %d, which is no data type", (int)dtype);
    }
    kln_layer_int(layer, name, wire);
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
    const char *copy = attribute != NULL ? kln_arena_strdup(kln_layer_arena(layer), value) : NULL;
    if (copy == NULL) {
        kln_layer_no_memory(layer);
        return;
    }
    attribute->s = (kiln_span){copy, strlen(copy)};
    attribute->present = UINT32_C(1) << 4;
}

void kln_layer_choice(kln_layer *layer, const char *name, const char *argument,
                      const char *const *texts, size_t count, size_t chosen,
                      const char *enumeration)
{
    kln_layer_need(layer, chosen < count, "%s is %d, which is none of %s", argument, (int)chosen,
                   enumeration);
    if (chosen < count) {
        kln_layer_string(layer, name, texts[chosen]);
    }
}

void kln_layer_ints(kln_layer *layer, const char *name, const int64_t *values, size_t count)
{
    int64_t *copy = kln_layer_copy(layer, values, count * sizeof *values);
    kln_onnx_attribute *attribute = add_attribute(layer, name, KLN_ONNX_ATTRIBUTE_INTS);
    if (attribute != NULL) {
        attribute->ints = copy;
        attribute->count = count;
    }
}

void kln_layer_floats(kln_layer *layer, const char *name, const float *values, size_t count)
{
    float *copy = kln_layer_copy(layer, values, count * sizeof *values);
    kln_onnx_attribute *attribute = add_attribute(layer, name, KLN_ONNX_ATTRIBUTE_FLOATS);
    if (attribute != NULL) {
        attribute->floats = copy;
        attribute->count = count;
    }
}

void kln_layer_strings(kln_layer *layer, const char *name, const char *const *values, size_t count)
{
    kln_onnx_attribute *attribute = add_attribute(layer, name, KLN_ONNX_ATTRIBUTE_STRINGS);
    kiln_span *spans =
        attribute != NULL ? kln_arena_alloc(kln_layer_arena(layer), count * sizeof *spans) : NULL;
    for (size_t i = 0; spans != NULL && i < count; i++) {
        const char *copy = kln_arena_strdup(kln_layer_arena(layer), values[i]);
        if (copy == NULL) {
            kln_layer_no_memory(layer);
            return;
        }
        spans[i] = (kiln_span){copy, strlen(copy)};
    }
    if (spans == NULL) {
        kln_layer_no_memory(layer);
        return;
    }
    attribute->strings = spans;
    attribute->count = count;
}

void kln_layer_tensor_attribute(kln_layer *layer, const char *name, const kiln_weights *weights)
{
    kln_onnx_tensor tensor = kln_layer_weights(layer, weights);
    kln_onnx_tensor *copy = kln_layer_copy(layer, &tensor, sizeof tensor);
    kln_onnx_attribute *attribute = add_attribute(layer, name, KLN_ONNX_ATTRIBUTE_TENSOR);
    if (attribute != NULL) {
        attribute->tensor = copy;
    }
}

void kln_layer_graph(kln_layer *layer, const char *name, kln_onnx_graph *graph)
{
    kln_onnx_attribute *attribute = add_attribute(layer, name, KLN_ONNX_ATTRIBUTE_GRAPH);
    if (attribute != NULL) {
        attribute->graph = graph;
    }
}

/* --- whole operators --- */

kiln_tensor_id kln_layer_simple(kln_layer *layer, const char *suffix, const char *op_type,
                                kiln_tensor_id a, kiln_tensor_id b)
{
    kln_layer_node(layer, op_type, a);
    kln_layer_optional(layer, b);
    return kln_layer_emit(layer, suffix);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What stands at the edges of a network: inputs, outputs, constants, branches. */
#include <string.h>

#include "build_layer.h"
#include "kln_network.h"

static bool is_dtype(kiln_dtype dtype)
{
    return dtype > KILN_DTYPE_UNDEFINED && dtype <= KILN_DTYPE_STRING;
}

/* The dimensions of a ValueInfoProto; without `shape` as many open ones as `rank` says. */
static kiln_status make_type(kln_arena *arena, kiln_dtype dtype, int32_t rank,
                             const kiln_shape *shape, const char *const *dim_names,
                             kln_onnx_type *type)
{
    *type = (kln_onnx_type){.kind = KLN_ONNX_KIND_TENSOR, .dtype = dtype};
    type->wire_dtype = kln_onnx_wire_dtype(dtype);
    if (rank < 0) {
        return KILN_OK;
    }
    type->has_shape = true;
    type->rank = (size_t)rank;
    type->dims = kln_arena_alloc_zeroed(arena, type->rank, sizeof *type->dims);
    if (type->dims == NULL) {
        return kln_fail_memory(type->rank * sizeof *type->dims, "a shape");
    }
    for (int32_t i = 0; i < rank; i++) {
        type->dims[i].value = shape != NULL ? shape->dims[i] : KILN_DYNAMIC;
        if (dim_names != NULL && dim_names[i] != NULL && type->dims[i].value == KILN_DYNAMIC) {
            type->dims[i].parameter = kln_arena_strdup(arena, dim_names[i]);
            if (type->dims[i].parameter == NULL) {
                return kln_fail_memory(strlen(dim_names[i]), "the name of a dimension");
            }
        }
    }
    return KILN_OK;
}

/* `shape` NULL: nothing is said of it. */
static kiln_status check_type(kiln_dtype dtype, const kiln_shape *shape)
{
    if (!is_dtype(dtype)) {
        return kln_fail(KILN_ERROR_DTYPE, "dtype is %d, which is no data type", (int)dtype);
    }
    if (shape != NULL && (shape->rank < 0 || shape->rank > KILN_MAX_RANK)) {
        return kln_fail(KILN_ERROR_RANK, "the rank is %d, 0 to %d are allowed", (int)shape->rank,
                        KILN_MAX_RANK);
    }
    for (int32_t i = 0; shape != NULL && i < shape->rank; i++) {
        if (shape->dims[i] < 0 && shape->dims[i] != KILN_DYNAMIC) {
            return kln_fail(KILN_ERROR_SHAPE,
                            "dimension %d is %lld; 0 or more is needed, or KILN_DYNAMIC", (int)i,
                            (long long)shape->dims[i]);
        }
    }
    return KILN_OK;
}

/* A layer without a node: what it registered is its name. */
static kiln_status end_without_node(kln_layer *layer, kiln_dtype dtype, int32_t rank,
                                    kiln_tensor_id *output)
{
    kiln_tensor_id id = KILN_NO_TENSOR;
    if (layer->status == KILN_OK) {
        layer->status = kln_network_register(layer->network, layer->name, dtype, rank, &id);
    }
    if (layer->status == KILN_OK) {
        *output = id;
    }
    return layer->status;
}

kiln_status kiln_network_add_input(kiln_network *network, const char *name, kiln_dtype dtype,
                                   const kiln_shape *shape, const char *const *dim_names,
                                   kiln_tensor_id *output)
{
    KLN_RETURN_IF_NULL(name);
    KLN_RETURN_IF_NULL(shape);
    KLN_RETURN_IF_NULL(output);
    kln_layer layer;
    kln_layer_begin(&layer, network, __func__, name, "Input");
    if (layer.status != KILN_OK) {
        return layer.status;
    }
    const kiln_status checked = check_type(dtype, shape);
    if (checked != KILN_OK) {
        kln_layer_fail(&layer, checked, "%s", kiln_error_message());
    }
    kln_onnx_graph *graph = network->graph;
    kln_onnx_value value = {.name = layer.name, .doc = ""};
    if (layer.status == KILN_OK) {
        layer.status =
            make_type(&network->model->arena, dtype, shape->rank, shape, dim_names, &value.type);
    }
    if (layer.status == KILN_OK) {
        layer.status = kln_array_grow(&network->model->arena, &graph->inputs, graph->input_count,
                                      &graph->input_capacity, sizeof value);
    }
    const kiln_status status = end_without_node(&layer, dtype, shape->rank, output);
    if (status == KILN_OK) {
        graph->inputs[graph->input_count++] = value;
    }
    return status;
}

/* What the layers did not know of an output, inference may: operators given by name, shapes that
 * are computed. It is asked only then, because it goes through the whole network. */
static kiln_status complete(const kiln_network *network, kln_built_tensor *built)
{
    kln_inference *inference = NULL;
    if (network->root != network ||
        (built->rank != KLN_RANK_OPEN && built->dtype != KILN_DTYPE_UNDEFINED)) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(kln_infer(network->model, NULL, &inference));
    const kln_value *value = kln_inference_find(inference->graph, built->name);
    if (value != NULL && value->kind == KLN_ONNX_KIND_TENSOR) {
        built->dtype = value->dtype;
        built->rank =
            value->has_shape && value->rank <= KILN_MAX_RANK ? (int32_t)value->rank : KLN_RANK_OPEN;
    }
    kln_inference_destroy(inference);
    return KILN_OK;
}

static kiln_status find_markable(const kiln_network *network, const char *function,
                                 kiln_tensor_id tensor, kln_built_tensor *known)
{
    const kln_built_tensor *built = kln_network_tensor(network, tensor);
    const kln_onnx_graph *graph = network->graph;
    if (network->is_used) {
        return kln_fail(KILN_ERROR_STATE, "%s: the branch is part of an If or Loop already",
                        function);
    }
    if (built == NULL) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "%s: %d is no tensor of this network or branch", function, (int)tensor);
    }
    for (size_t i = 0; i < graph->output_count; i++) {
        if (strcmp(graph->outputs[i].name, built->name) == 0) {
            return kln_fail(KILN_ERROR_NAME, "%s: \"%s\" is an output already", function,
                            built->name);
        }
    }
    *known = *built;
    return complete(network, known);
}

/* `shape` NULL: the rank that is known. */
static kiln_status mark(kiln_network *network, const kln_built_tensor *known,
                        const kiln_shape *shape)
{
    kln_onnx_graph *graph = network->graph;
    kln_arena *arena = &network->model->arena;
    kln_onnx_value value = {.name = known->name, .doc = ""};
    KLN_RETURN_IF_ERROR(make_type(arena, known->dtype, shape != NULL ? shape->rank : known->rank,
                                  shape, NULL, &value.type));
    KLN_RETURN_IF_ERROR(kln_array_grow(arena, &graph->outputs, graph->output_count,
                                       &graph->output_capacity, sizeof value));
    graph->outputs[graph->output_count++] = value;
    return KILN_OK;
}

kiln_status kiln_network_mark_output(kiln_network *network, kiln_tensor_id tensor)
{
    KLN_RETURN_IF_NULL(network);
    kln_built_tensor known;
    KLN_RETURN_IF_ERROR(find_markable(network, __func__, tensor, &known));
    return mark(network, &known, NULL);
}

kiln_status kiln_network_mark_output_as(kiln_network *network, kiln_tensor_id tensor,
                                        kiln_dtype dtype, const kiln_shape *shape)
{
    KLN_RETURN_IF_NULL(network);
    kln_built_tensor known;
    const kiln_status checked = check_type(dtype, shape);
    if (checked != KILN_OK) {
        return kln_fail_within(checked, "%s", __func__);
    }
    KLN_RETURN_IF_ERROR(find_markable(network, __func__, tensor, &known));
    if (known.dtype != KILN_DTYPE_UNDEFINED && known.dtype != dtype) {
        return kln_fail(KILN_ERROR_DTYPE, "%s: \"%s\" is %s, not %s", __func__, known.name,
                        kiln_dtype_name(known.dtype), kiln_dtype_name(dtype));
    }
    if (shape != NULL && known.rank != KLN_RANK_OPEN && known.rank != shape->rank) {
        return kln_fail(KILN_ERROR_RANK, "%s: \"%s\" has the rank %d, not %d", __func__, known.name,
                        (int)known.rank, (int)shape->rank);
    }
    known.dtype = dtype;
    return mark(network, &known, shape);
}

static void check_weights(kln_layer *layer, const kiln_weights *weights)
{
    size_t bytes = 0;
    if (layer->status != KILN_OK) {
        return;
    }
    const kiln_status status = kiln_tensor_bytes(weights->dtype, &weights->shape, &bytes);
    if (status != KILN_OK) {
        kln_layer_fail(layer, status, "%s", kiln_error_message());
    } else if (weights->data.size != bytes) {
        char shape[KLN_SHAPE_TEXT];
        (void)kiln_shape_format(&weights->shape, shape, sizeof shape);
        kln_layer_fail(layer, KILN_ERROR_SIZE,
                       "%s weights of shape %s have %zu bytes, %zu were "
                       "given",
                       kiln_dtype_name(weights->dtype), shape, bytes, weights->data.size);
    } else if (weights->data.data == NULL && bytes != 0) {
        kln_layer_fail(layer, KILN_ERROR_NULL_ARGUMENT, "`weights->data.data` is NULL");
    }
}

kiln_status kiln_network_add_constant(kiln_network *network, const char *name,
                                      const kiln_weights *weights, kiln_tensor_id *output)
{
    KLN_RETURN_IF_NULL(weights);
    KLN_RETURN_IF_NULL(output);
    kln_layer layer;
    kln_layer_begin(&layer, network, __func__, name, "Constant");
    if (layer.status != KILN_OK) {
        return layer.status;
    }
    check_weights(&layer, weights);
    if (layer.status != KILN_OK) {
        return layer.status;
    }
    kln_onnx_graph *graph = network->graph;
    const size_t rank = (size_t)weights->shape.rank;
    kln_onnx_tensor tensor = {.name = layer.name, .doc = "", .dtype = weights->dtype, .rank = rank};
    tensor.wire_dtype = kln_onnx_wire_dtype(weights->dtype);
    tensor.data = weights->data;
    tensor.present = UINT32_C(1) << 9; /* raw_data, also where it is empty */
    tensor.dims = kln_arena_alloc(&network->model->arena, rank * sizeof *tensor.dims);
    if (tensor.dims == NULL) {
        return kln_fail_memory(rank * sizeof *tensor.dims, "a shape");
    }
    memcpy(tensor.dims, weights->shape.dims, rank * sizeof *tensor.dims);
    KLN_RETURN_IF_ERROR(kln_array_grow(&network->model->arena, &graph->initializers,
                                       graph->initializer_count, &graph->initializer_capacity,
                                       sizeof tensor));
    KLN_RETURN_IF_ERROR(end_without_node(&layer, weights->dtype, weights->shape.rank, output));
    graph->initializers[graph->initializer_count++] = tensor;
    return KILN_OK;
}

/* --- branches --- */

kiln_status kiln_network_create_branch(kiln_network *network, const char *name,
                                       kiln_network **branch)
{
    KLN_RETURN_IF_NULL(branch);
    *branch = NULL;
    KLN_RETURN_IF_NULL(network);
    kiln_network *root = network->root;
    if (root->branch_count == KLN_MAX_BRANCHES) {
        return kln_fail(KILN_ERROR_LIMIT, "a network of more than %d branches was refused",
                        (int)KLN_MAX_BRANCHES - 1);
    }
    kln_onnx_graph *graph = kln_arena_alloc_zeroed(&root->model->arena, 1, sizeof *graph);
    char *copy = name != NULL
                     ? kln_arena_strdup(&root->model->arena, name)
                     : kln_arena_printf(&root->model->arena, "branch.%d", (int)root->branch_count);
    kiln_network *made = kln_alloc_zeroed(1, sizeof *made);
    if (graph == NULL || copy == NULL || made == NULL) {
        kln_free(made);
        return kln_fail_memory(sizeof *made, "a branch");
    }
    graph->name = copy;
    graph->doc = "";
    made->model = root->model;
    made->graph = graph;
    made->root = root;
    made->parent = network;
    made->number = root->branch_count++;
    made->next = root->branches;
    root->branches = made;
    *branch = made;
    return KILN_OK;
}

kiln_status kiln_network_capture(kiln_network *branch, kiln_tensor_id outer, kiln_tensor_id *inner)
{
    KLN_RETURN_IF_NULL(branch);
    KLN_RETURN_IF_NULL(inner);
    for (const kiln_network *each = branch->parent; each != NULL; each = each->parent) {
        const kln_built_tensor *built = kln_network_tensor(each, outer);
        if (built == NULL) {
            continue;
        }
        /* The same name under an id of the branch; what the name means does not change. */
        const kln_built_tensor found = *built;
        if (branch->tensor_count == branch->tensor_capacity) {
            const size_t capacity = branch->tensor_capacity == 0 ? 16 : branch->tensor_capacity * 2;
            kln_built_tensor *grown = kln_realloc(branch->tensors, capacity * sizeof *grown);
            if (grown == NULL) {
                return kln_fail_memory(capacity * sizeof *grown, "the tensors of a branch");
            }
            branch->tensors = grown;
            branch->tensor_capacity = capacity;
        }
        *inner = branch->number << KLN_ID_BITS | (kiln_tensor_id)branch->tensor_count;
        branch->tensors[branch->tensor_count++] = found;
        return KILN_OK;
    }
    return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                    "kiln_network_capture: %d is no tensor of a network around this branch",
                    (int)outer);
}

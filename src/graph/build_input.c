/* SPDX-License-Identifier: Apache-2.0 */
/* The edges of a network: inputs, outputs, constants, branches. */
#include "build_layer.h"

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
    KLN_ARENA_NEW(arena, type->dims, type->rank, "a shape");
    for (int32_t i = 0; i < rank; i++) {
        type->dims[i].value = shape != NULL ? shape->dims[i] : KILN_DYNAMIC;
        if (dim_names != NULL && dim_names[i] != NULL && type->dims[i].value == KILN_DYNAMIC) {
            type->dims[i].parameter = kln_arena_strdup(arena, dim_names[i]);
            KLN_RETURN_IF_NO_MEMORY(type->dims[i].parameter, strlen(dim_names[i]),
                                    "the name of a dimension");
        }
    }
    return KILN_OK;
}

/* `shape` NULL: undeclared. */
static kiln_status check_type(kiln_dtype dtype, const kiln_shape *shape)
{
    KLN_RETURN_IF(!is_dtype(dtype), KILN_ERROR_DTYPE, "dtype is %d, which is no data type",
                  (int)dtype);
    KLN_RETURN_IF(shape != NULL && (shape->rank < 0 || shape->rank > KILN_MAX_RANK),
                  KILN_ERROR_RANK, "the rank is %d, 0 to %d are allowed", (int)shape->rank,
                  KILN_MAX_RANK);
    for (int32_t i = 0; shape != NULL && i < shape->rank; i++) {
        KLN_RETURN_IF(shape->dims[i] < 0 && shape->dims[i] != KILN_DYNAMIC, KILN_ERROR_SHAPE,
                      "dimension %d is %lld; 0 or more is needed, or KILN_DYNAMIC", (int)i,
                      (long long)shape->dims[i]);
    }
    return KILN_OK;
}

kiln_status kiln_network_add_input(kiln_network *network, const char *name, kiln_dtype dtype,
                                   const kiln_shape *shape, const char *const *dim_names,
                                   kiln_tensor_id *output)
{
    KLN_RETURN_IF_NULL(name, shape, output);
    kln_layer layer;
    kln_layer_open(&layer, network, __func__, name, "Input");
    kln_onnx_value value = {.name = layer.name, .doc = ""};
    const kiln_status checked = layer.status == KILN_OK ? check_type(dtype, shape) : KILN_OK;
    if (checked != KILN_OK) {
        kln_layer_fail(&layer, checked, "%s", kiln_error_message());
    }
    if (layer.status == KILN_OK) {
        layer.status =
            make_type(&network->model->arena, dtype, shape->rank, shape, dim_names, &value.type);
    }
    if (layer.status == KILN_OK) {
        layer.status = KLN_GROW(&network->model->arena, network->graph->inputs,
                                network->graph->input_count, network->graph->input_capacity);
    }
    const bool is_good = layer.status == KILN_OK;
    KLN_RETURN_IF_ERROR(kln_layer_close(&layer, output));
    if (is_good) {
        network->graph->inputs[network->graph->input_count++] = value;
    }
    return KILN_OK;
}

/* A tensor that may become an output. `*known`: what is known of it; NULL where it was refused, of
 * which nothing more is to be said. */
static kiln_status find_markable(kiln_network *network, const char *function, kiln_tensor_id tensor,
                                 kln_built_tensor **found, kln_known *known)
{
    kln_built_tensor *built = kln_network_tensor(network, tensor);
    const kln_value *value = NULL;
    KLN_RETURN_IF(network->is_used, KILN_ERROR_STATE,
                  "%s: the branch is part of an If or Loop already", function);
    KLN_RETURN_IF(built == NULL, KILN_ERROR_INVALID_ARGUMENT,
                  "%s: %d is no tensor of this network or branch", function, (int)tensor);
    const kln_onnx_graph *graph = network->graph;
    /* A branch may capture the same tensor twice. */
    KLN_RETURN_IF(built->is_output || (network->parent != NULL &&
                                       kln_onnx_find_value(graph->outputs, graph->output_count,
                                                           built->name) != NULL),
                  KILN_ERROR_NAME, "%s: \"%s\" is an output already", function, built->name);
    KLN_RETURN_IF_ERROR(kln_network_value(network, tensor, &value));
    *found = built;
    *known = kln_known_of(built->name, value);
    return KILN_OK;
}

/* `shape` NULL: the rank that is known. */
static kiln_status mark(kiln_network *network, kln_built_tensor *tensor, const kln_known *known,
                        const kiln_shape *shape)
{
    kln_onnx_graph *graph = network->graph;
    kln_arena *arena = &network->model->arena;
    kln_onnx_value value = {.name = known->name, .doc = ""};
    if (tensor->is_refused) {
        network->refused_outputs++;
        tensor->is_output = true;
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(make_type(arena, known->dtype, shape != NULL ? shape->rank : known->rank,
                                  shape, NULL, &value.type));
    KLN_RETURN_IF_ERROR(
        KLN_GROW(arena, graph->outputs, graph->output_count, graph->output_capacity));
    graph->outputs[graph->output_count++] = value;
    network->is_known = false;
    tensor->is_output = true;
    return KILN_OK;
}

/* A refused output counts, so that "no outputs" is not reported as well. */
static kiln_status refuse_output(kiln_network *network, kiln_status status)
{
    network->refused_outputs += kln_network_collects(network, status) ? 1 : 0;
    return kln_network_refuse(network, status, "", "");
}

kiln_status kiln_network_mark_output(kiln_network *network, kiln_tensor_id tensor)
{
    KLN_RETURN_IF_NULL(network);
    kln_known known;
    kln_built_tensor *found = NULL;
    const kiln_status status = find_markable(network, __func__, tensor, &found, &known);
    return status == KILN_OK ? mark(network, found, &known, NULL) : refuse_output(network, status);
}

static kiln_status check_marked(const kln_known *known, kiln_dtype dtype, const kiln_shape *shape)
{
    KLN_RETURN_IF(known->dtype != KILN_DTYPE_UNDEFINED && known->dtype != dtype, KILN_ERROR_DTYPE,
                  "\"%s\" is %s, not %s", known->name, kiln_dtype_name(known->dtype),
                  kiln_dtype_name(dtype));
    KLN_RETURN_IF(shape != NULL && known->rank != KLN_RANK_OPEN && known->rank != shape->rank,
                  KILN_ERROR_RANK, "\"%s\" has the rank %d, not %d", known->name, (int)known->rank,
                  (int)shape->rank);
    return KILN_OK;
}

kiln_status kiln_network_mark_output_as(kiln_network *network, kiln_tensor_id tensor,
                                        kiln_dtype dtype, const kiln_shape *shape)
{
    KLN_RETURN_IF_NULL(network);
    kln_known known;
    kln_built_tensor *found = NULL;
    kiln_status status = check_type(dtype, shape);
    KLN_FAIL_IF(status != KILN_OK, refuse_output(network, kln_fail_within(status, "%s", __func__)));
    status = find_markable(network, __func__, tensor, &found, &known);
    KLN_FAIL_IF(status != KILN_OK, refuse_output(network, status));
    status = check_marked(&known, dtype, shape);
    KLN_FAIL_IF(status != KILN_OK, refuse_output(network, kln_fail_within(status, "%s", __func__)));
    known.dtype = dtype;
    /* What is said here of a tensor, inference has not known when it went past. */
    kln_network_forget(network);
    return mark(network, found, &known, shape);
}

kiln_status kiln_network_add_constant(kiln_network *network, const char *name,
                                      const kiln_weights *weights, kiln_tensor_id *output)
{
    KLN_RETURN_IF_NULL(weights, output);
    kln_layer layer;
    kln_layer_open(&layer, network, __func__, name, "Constant");
    kln_onnx_tensor tensor = kln_layer_weights(&layer, weights);
    tensor.name = layer.name;
    if (layer.status == KILN_OK) {
        kln_onnx_graph *graph = network->graph;
        layer.status = KLN_GROW(&network->model->arena, graph->initializers,
                                graph->initializer_count, graph->initializer_capacity);
    }
    const bool is_good = layer.status == KILN_OK;
    KLN_RETURN_IF_ERROR(kln_layer_close(&layer, output));
    if (is_good) {
        network->graph->initializers[network->graph->initializer_count++] = tensor;
    }
    return KILN_OK;
}

/* --- branches --- */

kiln_status kiln_network_create_branch(kiln_network *network, const char *name,
                                       kiln_network **branch)
{
    KLN_RETURN_IF_NULL_RESULT(branch, network);
    kiln_network *root = network->root;
    KLN_RETURN_IF(root->branch_count == KLN_MAX_BRANCHES, KILN_ERROR_LIMIT,
                  "a network of more than %d branches was refused", (int)KLN_MAX_BRANCHES - 1);
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

static kiln_status add_captured(kiln_network *branch, const kln_built_tensor *outer,
                                kiln_tensor_id *inner)
{
    kln_built_tensor found = *outer;
    found.is_output = false;
    KLN_RETURN_IF_ERROR(kln_network_room(branch));
    *inner = branch->number << KLN_ID_BITS | (kiln_tensor_id)branch->tensor_count;
    branch->tensors[branch->tensor_count++] = found;
    return KILN_OK;
}

kiln_status kiln_network_capture(kiln_network *branch, kiln_tensor_id outer, kiln_tensor_id *inner)
{
    KLN_RETURN_IF_NULL(branch, inner);
    for (const kiln_network *each = branch->parent; each != NULL; each = each->parent) {
        const kln_built_tensor *built = kln_network_tensor(each, outer);
        if (built != NULL) {
            /* Gives the outer tensor an id in the branch, under the same name. */
            return add_captured(branch, built, inner);
        }
    }
    const kiln_status status = kln_fail(
        KILN_ERROR_INVALID_ARGUMENT,
        "kiln_network_capture: %d is no tensor of a network around this branch", (int)outer);
    const kln_built_tensor refused = {.name = "", .is_refused = true};
    KLN_RETURN_IF_ERROR(kln_network_refuse(branch, status, "", ""));
    return add_captured(branch, &refused, inner);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What is inferred of a network's tensors: for who asks, and in the file. */
#include <string.h>

#include "build_layer.h"
#include "kln_network.h"

/* A dimension as a file says it: a number, a name, or nothing. */
static void tell_dim(kln_dim inferred, kln_onnx_dim *dim)
{
    if (inferred.kind == KLN_DIM_NUMBER) {
        dim->value = inferred.of.number;
    } else {
        dim->parameter = kln_dim_name(inferred);
    }
}

/* Dimensions that the builder left open become what was inferred of them. */
static kiln_status tell_output(kln_arena *arena, const kln_inference *inference,
                               kln_onnx_value *output)
{
    const kln_value *value = kln_inference_find(inference->graph, output->name);
    if (value == NULL || value->kind != KLN_ONNX_KIND_TENSOR || !value->has_shape ||
        output->type.kind != KLN_ONNX_KIND_TENSOR ||
        (output->type.has_shape && output->type.rank != value->rank)) {
        return KILN_OK;
    }
    kln_onnx_dim *dims = kln_arena_alloc_zeroed(arena, value->rank + 1, sizeof *dims);
    if (dims == NULL) {
        return kln_fail_memory(value->rank * sizeof *dims, "the shape of an output");
    }
    for (size_t i = 0; i < value->rank; i++) {
        dims[i].value = KILN_DYNAMIC;
        if (output->type.has_shape) {
            dims[i] = output->type.dims[i];
        }
        if (dims[i].value == KILN_DYNAMIC && dims[i].parameter == NULL) {
            tell_dim(value->dims[i], &dims[i]);
        }
    }
    output->type.has_shape = true;
    output->type.rank = value->rank;
    output->type.dims = dims;
    return KILN_OK;
}

kiln_status kln_network_write(const kiln_network *network, const char *path,
                              kln_onnx_weights weights)
{
    kln_inference *inference = NULL;
    kln_onnx_model told = *network->model; /* others may be reading the network */
    const size_t count = told.graph.output_count;
    KLN_RETURN_IF_ERROR(kln_infer(network->model, NULL, &inference));
    told.graph.outputs =
        kln_arena_alloc_zeroed(&inference->arena, count + 1, sizeof *told.graph.outputs);
    kiln_status status = told.graph.outputs != NULL
                             ? KILN_OK
                             : kln_fail_memory(count * sizeof *told.graph.outputs, "outputs");
    for (size_t i = 0; i < count && status == KILN_OK; i++) {
        told.graph.outputs[i] = network->model->graph.outputs[i];
        status = tell_output(&inference->arena, inference, &told.graph.outputs[i]);
    }
    if (status == KILN_OK) {
        status = kln_onnx_write_file(&told, path, weights);
    }
    kln_inference_destroy(inference);
    return status;
}

kiln_status kiln_network_tensor_type(const kiln_network *network, kiln_tensor_id tensor,
                                     kiln_dtype *dtype, kiln_shape *shape)
{
    KLN_RETURN_IF_NULL(network);
    KLN_RETURN_IF_NULL(dtype);
    KLN_RETURN_IF_NULL(shape);
    *dtype = KILN_DTYPE_UNDEFINED;
    *shape = (kiln_shape){.rank = -1};
    const kln_built_tensor *built = kln_network_tensor(network, tensor);
    if (network->root != network) {
        return kln_fail(KILN_ERROR_STATE,
                        "kiln_network_tensor_type: what a branch computes shows in its network");
    }
    if (built == NULL) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_network_tensor_type: %d is no tensor of this network", (int)tensor);
    }
    kln_inference *inference = NULL;
    KLN_RETURN_IF_ERROR(kln_infer(network->model, NULL, &inference));
    const kln_value *value = kln_inference_find(inference->graph, built->name);
    if (value != NULL && value->kind == KLN_ONNX_KIND_TENSOR) {
        *dtype = value->dtype;
        if (value->has_shape && value->rank <= KILN_MAX_RANK) {
            shape->rank = (int32_t)value->rank;
            for (size_t i = 0; i < value->rank; i++) {
                shape->dims[i] =
                    value->dims[i].kind == KLN_DIM_NUMBER ? value->dims[i].of.number : KILN_DYNAMIC;
            }
        }
    }
    kln_inference_destroy(inference);
    return KILN_OK;
}

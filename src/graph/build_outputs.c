/* SPDX-License-Identifier: Apache-2.0 */
/* A saved network declares its outputs with their inferred shapes. */
#include "build_layer.h"

/* A dimension as a file stores it: a number, a name, or nothing. */
static void tell_dim(kln_dim inferred, kln_onnx_dim *dim)
{
    if (inferred.kind == KLN_DIM_NUMBER) {
        dim->value = inferred.of.number;
    } else {
        dim->parameter = kln_dim_name(inferred);
    }
}

/* Dimensions that the builder left unknown get their inferred value. */
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
    KLN_RETURN_IF_NO_MEMORY(dims, value->rank * sizeof *dims, "the shape of an output");
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

static kiln_status write_told(const kiln_network *network, const kln_inference *inference,
                              kln_arena *arena, const char *path, kln_onnx_weights weights)
{
    kln_onnx_model told = *network->model; /* other threads may be reading the network */
    const size_t count = told.graph.output_count;
    KLN_ARENA_NEW(arena, told.graph.outputs, count + 1, "outputs");
    for (size_t i = 0; i < count; i++) {
        told.graph.outputs[i] = network->model->graph.outputs[i];
        KLN_RETURN_IF_ERROR(tell_output(arena, inference, &told.graph.outputs[i]));
    }
    return kln_onnx_write_file(&told, path, weights);
}

kiln_status kln_network_write(const kiln_network *network, const char *path,
                              kln_onnx_weights weights)
{
    KLN_SCOPED(kln_inference_destroy_at) kln_inference *inference = NULL;
    KLN_SCOPED(kln_arena_finish) kln_arena arena = {0};
    /* Nothing can be an output that a network built here does not know. */
    const bool is_known = network->inference != NULL;
    if (!is_known) {
        KLN_RETURN_IF_ERROR(kln_infer(network->model, NULL, &inference));
    }
    return write_told(network, is_known ? network->inference : inference, &arena, path, weights);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "kln_seam.h"
#include "onnx/kln_onnx.h"

const char *kln_model_name(const kiln_model *model)
{
    return model->path != NULL    ? model->path
           : model->graph != NULL ? "a network in memory"
                                  : "a model in memory";
}

kiln_status kln_model_read(const kiln_model *model, kln_onnx_model **onnx)
{
    if (model->read == NULL || *model->read == NULL) {
        KLN_RETURN_IF_ERROR(kln_model_read_anew(model, onnx));
        if (model->read != NULL) {
            *model->read = kln_onnx_model_retain(*onnx);
        }
        return KILN_OK;
    }
    *onnx = kln_onnx_model_retain(*model->read);
    return KILN_OK;
}

kiln_status kln_model_read_anew(const kiln_model *model, kln_onnx_model **onnx)
{
    const char *folder = model->folder != NULL ? model->folder : ".";
    return model->file != NULL ? kln_onnx_read_mapping(model->file, model->path, onnx)
                               : kln_onnx_read_bytes(model->bytes, folder, onnx);
}

kiln_status kln_model_place(const kiln_model *model, char made[PATH_MAX], const char **path)
{
    *path = model->path;
    if (model->path != NULL || model->folder == NULL) {
        return KILN_OK;
    }
    const int length = snprintf(made, PATH_MAX, "%s/model.onnx", model->folder);
    KLN_RETURN_IF(length < 0 || length >= PATH_MAX, KILN_ERROR_LIMIT,
                  "the folder of the external weights has a path of %zu bytes, %d are the limit",
                  strlen(model->folder), PATH_MAX - (int)sizeof "/model.onnx");
    *path = made;
    return KILN_OK;
}

const char *kiln_model_path(const kiln_model *model)
{
    return model != NULL ? model->path : NULL;
}

const char *kiln_model_folder(const kiln_model *model)
{
    return model != NULL ? model->folder : NULL;
}

kiln_status kiln_model_bytes(const kiln_model *model, kiln_span *bytes)
{
    KLN_RETURN_IF_NULL(bytes);
    *bytes = (kiln_span){NULL, 0};
    KLN_RETURN_IF_NULL(model);
    if (model->graph == NULL) {
        *bytes = model->bytes;
        return KILN_OK;
    }
    if (model->written->size == 0) {
        KLN_RETURN_IF_ERROR(
            kln_onnx_write_bytes(model->graph, KLN_ONNX_WEIGHTS_INLINE, model->written));
    }
    *bytes = (kiln_span){model->written->data, model->written->size};
    return KILN_OK;
}

kiln_status kln_refit_weight_of(const kln_onnx_tensor *tensor, kiln_refit_weight *weight)
{
    weight->name = tensor->name;
    weight->dtype = tensor->dtype;
    weight->elements = 1;
    weight->shape.rank = tensor->rank <= KILN_MAX_RANK ? (int32_t)tensor->rank : -1;
    for (size_t i = 0; i < tensor->rank; i++) {
        weight->elements *= tensor->dims[i]; /* what the reader held to the size of the data */
        if (weight->shape.rank >= 0) {
            weight->shape.dims[i] = tensor->dims[i];
        }
    }
    return KILN_OK;
}

/* Whether dimensions are the same but for those of 1. */
static bool are_alike(const kiln_shape *a, const kiln_shape *b)
{
    int at = 0;
    for (int i = 0; i < a->rank; i++) {
        if (a->dims[i] == 1) {
            continue;
        }
        while (at < b->rank && b->dims[at] == 1) {
            at++;
        }
        if (at == b->rank || b->dims[at++] != a->dims[i]) {
            return false;
        }
    }
    return true;
}

/* As many numbers in other dimensions are weights of something else, or turned. */
static kiln_status check_shape(const kln_onnx_tensor *tensor, const kiln_named_tensor *weight)
{
    const kiln_shape *given = &weight->tensor.desc.shape;
    kiln_shape needed = {.rank = (int)tensor->rank};
    int64_t counts[2] = {0, 0};
    if (tensor->rank > KILN_MAX_RANK || given->rank <= 1) {
        return KILN_OK;
    }
    memcpy(needed.dims, tensor->dims, tensor->rank * sizeof *needed.dims);
    KLN_RETURN_IF_ERROR(kiln_shape_elements(given, &counts[0]));
    KLN_RETURN_IF_ERROR(kiln_shape_elements(&needed, &counts[1]));
    KLN_RETURN_IF(
        counts[0] == counts[1] && !are_alike(given, &needed), KILN_ERROR_SHAPE,
        "the weights \"%s\" have the shape %s, %s was given; numbers in one dimension are "
        "taken as they lie",
        weight->name, KLN_SHAPE_PRINTED(&needed), KLN_SHAPE_PRINTED(given));
    return KILN_OK;
}

static kiln_status check_shapes(const kln_onnx_model *model, const kiln_named_tensor *weights,
                                size_t count)
{
    const kln_onnx_graph *graph = &model->graph;
    KLN_SCOPED(kln_names_finish) kln_names places = {0};
    for (size_t i = 0; i < graph->initializer_count; i++) {
        KLN_RETURN_IF_ERROR(kln_names_set(&places, graph->initializers[i].name, (uint32_t)i));
    }
    for (size_t i = 0; i < count; i++) {
        const uint32_t place = kln_names_get(&places, weights[i].name);
        if (place != KLN_NAMES_NONE) {
            KLN_RETURN_IF_ERROR(check_shape(&graph->initializers[place], &weights[i]));
        }
    }
    return KILN_OK;
}

kiln_status kln_refit_replace(const kln_onnx_model *model, const kiln_named_tensor *weights,
                              size_t count, kln_onnx_model **made)
{
    KLN_SCOPED_FREE kln_onnx_weight *given = kln_alloc_zeroed(count, sizeof *given);
    KLN_RETURN_IF_NO_MEMORY(given, count * sizeof *given, "the list of weights");
    KLN_RETURN_IF_ERROR(check_shapes(model, weights, count));
    for (size_t i = 0; i < count; i++) {
        const kiln_tensor *tensor = &weights[i].tensor;
        given[i] = (kln_onnx_weight){weights[i].name, {tensor->data, 0}};
        KLN_RETURN_IF_ERROR(
            kiln_tensor_bytes(tensor->desc.dtype, &tensor->desc.shape, &given[i].data.size));
    }
    return kln_onnx_replace(model, given, count, made);
}

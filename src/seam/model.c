/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "kln_seam.h"
#include "onnx/kln_onnx.h"

const char *kln_model_name(const kiln_model *model)
{
    return model->name != NULL    ? model->name
           : model->path != NULL  ? model->path
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
    weight->values = tensor->data;
    weight->elements = 1;
    weight->shape.rank = tensor->rank <= KILN_MAX_RANK ? (int32_t)tensor->rank : -1;
    for (size_t i = 0; i < tensor->rank; i++) {
        weight->elements *= tensor->dims[i]; /* cannot overflow: the reader checked it against the
                                              * size of the data */
        if (weight->shape.rank >= 0) {
            weight->shape.dims[i] = tensor->dims[i];
        }
    }
    return KILN_OK;
}

kln_odd kln_refit_weight_odd(const kiln_refit_weight *weight)
{
    const size_t count = weight->values.data != NULL ? (size_t)weight->elements : 0;
    return kln_odd_numbers(weight->dtype, weight->values.data, count);
}

kiln_status kln_refit_replace(const kln_onnx_model *model, const kiln_named_tensor *weights,
                              size_t count, kln_onnx_model **made)
{
    KLN_SCOPED_FREE kln_onnx_weight *given = kln_alloc_zeroed(count, sizeof *given);
    KLN_RETURN_IF_NO_MEMORY(given, count * sizeof *given, "the list of weights");
    for (size_t i = 0; i < count; i++) {
        const kiln_tensor *tensor = &weights[i].tensor;
        given[i] = (kln_onnx_weight){weights[i].name, {tensor->data, 0}};
        KLN_RETURN_IF_ERROR(
            kiln_tensor_bytes(tensor->desc.dtype, &tensor->desc.shape, &given[i].data.size));
    }
    return kln_onnx_replace(model, given, count, made);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "onnx_layout.h"

kiln_status kln_onnx_model_create(kln_onnx_model **model)
{
    KLN_RETURN_IF_NULL(model);
    KLN_NEW(*model, 1, "a model");
    atomic_init(&(*model)->references, 1);
    kln_layout_init(&kln_layout_model, *model);
    return KILN_OK;
}

kln_onnx_model *kln_onnx_model_retain(const kln_onnx_model *model)
{
    /* The reference count is not part of the model's value. */
    kln_onnx_model *counted = (kln_onnx_model *)(uintptr_t)model;
    atomic_fetch_add_explicit(&counted->references, 1, memory_order_relaxed);
    return counted;
}

kiln_status kln_onnx_model_share(const kln_onnx_model *model, kln_onnx_model **shared)
{
    KLN_RETURN_IF_ERROR(kln_onnx_model_create(shared));
    kln_onnx_model *made = *shared;
    made->missing = model->missing;
    made->missing_count = model->missing_count;
    made->ir_version = model->ir_version;
    made->producer_name = model->producer_name;
    made->producer_version = model->producer_version;
    made->domain = model->domain;
    made->model_version = model->model_version;
    made->doc = model->doc;
    made->graph = model->graph;
    made->graph.node_capacity = made->graph.initializer_capacity = 0;
    made->graph.input_capacity = made->graph.output_capacity = made->graph.value_capacity = 0;
    made->opsets = model->opsets;
    made->opset_count = model->opset_count;
    made->functions = model->functions;
    made->function_count = model->function_count;
    made->metadata = model->metadata;
    made->metadata_count = model->metadata_count;
    made->present = model->present;
    made->unknown = model->unknown;
    made->origin = kln_onnx_model_retain(model);
    return KILN_OK;
}

void kln_onnx_model_destroy(kln_onnx_model *model)
{
    if (model == NULL ||
        atomic_fetch_sub_explicit(&model->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    for (size_t i = 0; i < model->mapping_count; i++) {
        kln_mapping_close(&model->mappings[i]);
    }
    kln_free(model->mappings);
    kln_onnx_model_destroy(model->origin);
    kln_arena_finish(&model->arena);
    kln_free(model->kept);
    kln_free(model);
}

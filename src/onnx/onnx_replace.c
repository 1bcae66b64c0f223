/* SPDX-License-Identifier: Apache-2.0 */
/* Replaces the weights of a model. */
#include "kln_onnx.h"

static bool holds_numbers(const kln_onnx_tensor *tensor)
{
    return tensor->data.data != NULL && tensor->data.size > 0 && kiln_dtype_bits(tensor->dtype) > 0;
}

size_t kln_onnx_weight_count(const kln_onnx_model *model)
{
    size_t count = 0;
    for (size_t i = 0; i < model->graph.initializer_count; i++) {
        count += holds_numbers(&model->graph.initializers[i]);
    }
    return count;
}

const kln_onnx_tensor *kln_onnx_weight_at(const kln_onnx_model *model, size_t index)
{
    const kln_onnx_graph *graph = &model->graph;
    for (size_t i = 0; i < graph->initializer_count; i++) {
        if (holds_numbers(&graph->initializers[i]) && index-- == 0) {
            return &graph->initializers[i];
        }
    }
    return NULL;
}

kiln_status kln_onnx_model_copy(const kln_onnx_model *base, kln_onnx_model **made, kiln_span *bytes)
{
    KLN_SCOPED(kln_text_finish) kln_text message = {.limit = KLN_ONNX_MESSAGE_LIMIT};
    KLN_RETURN_IF_ERROR(kln_onnx_write_bytes(base, KLN_ONNX_WEIGHTS_LEFT_OUT, &message));
    *bytes = (kiln_span){message.data, message.size};
    KLN_RETURN_IF_ERROR(kln_onnx_read_bytes(*bytes, NULL, made));
    (*made)->kept = KLN_TAKE(message.data);
    (*made)->origin = kln_onnx_model_retain(base);
    for (size_t i = 0; i < base->graph.initializer_count; i++) {
        const kln_onnx_tensor *tensor = &base->graph.initializers[i];
        if (kln_onnx_is_left_out(tensor)) {
            (*made)->graph.initializers[i].data = tensor->data;
        }
    }
    return KILN_OK;
}

static kiln_status set(kln_onnx_model *model, size_t index, kiln_span data)
{
    void *copy = kln_arena_alloc(&model->arena, data.size);
    KLN_RETURN_IF_NO_MEMORY(copy, data.size, "weights");
    memcpy(copy, data.data, data.size);
    model->graph.initializers[index].data = (kiln_span){copy, data.size};
    model->replaced[index] = true;
    return KILN_OK;
}

static kiln_status set_given(kln_onnx_model *model, const kln_names *places,
                             const kln_onnx_weight *weight)
{
    const uint32_t index = kln_names_get(places, weight->name);
    KLN_RETURN_IF(index == KLN_NAMES_NONE, KILN_ERROR_NAME, "the model has no initializer \"%s\"",
                  weight->name);
    const size_t size = model->graph.initializers[index].data.size;
    return weight->data.size == size
               ? set(model, index, weight->data)
               : kln_fail(KILN_ERROR_SIZE, "the initializer \"%s\" has %zu bytes, %zu were given",
                          weight->name, size, weight->data.size);
}

static kiln_status set_all(const kln_onnx_model *before, const kln_onnx_weight *weights,
                           size_t count, kln_onnx_model *model)
{
    const kln_onnx_graph *graph = &model->graph;
    KLN_SCOPED(kln_names_finish) kln_names places = {0};
    KLN_RETURN_IF_ERROR(kln_onnx_name_initializers(graph, &places));
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(set_given(model, &places, &weights[i]));
    }
    for (size_t i = 0; i < graph->initializer_count; i++) {
        if (before->replaced != NULL && before->replaced[i] && !model->replaced[i]) {
            KLN_RETURN_IF_ERROR(set(model, i, before->graph.initializers[i].data));
        }
    }
    return KILN_OK;
}

kiln_status kln_onnx_replace(const kln_onnx_model *model, const kln_onnx_weight *weights,
                             size_t count, kln_onnx_model **made)
{
    KLN_SCOPED(kln_onnx_model_destroy_at) kln_onnx_model *copy = NULL;
    kiln_span bytes;
    *made = NULL;
    KLN_RETURN_IF_ERROR(
        kln_onnx_model_copy(model->replaced != NULL ? model->origin : model, &copy, &bytes));
    KLN_ARENA_NEW(&copy->arena, copy->replaced, copy->graph.initializer_count + 1,
                  "the weights of a model");
    KLN_RETURN_IF_ERROR(set_all(model, weights, count, copy));
    *made = KLN_TAKE(copy);
    return KILN_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "onnx/kln_onnx.h"
#include "ort_engine.h"

/* The reader refuses deeper nesting, so the walk need not count. */
static const kln_onnx_tensor *find_external(const kln_onnx_graph *graph);

static const kln_onnx_tensor *find_in_list(const kln_onnx_tensor *tensors, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (tensors[i].is_external) {
            return &tensors[i];
        }
    }
    return NULL;
}

static const kln_onnx_tensor *find_in_attribute(const kln_onnx_attribute *attribute)
{
    switch (attribute->type) {
        case KLN_ONNX_ATTRIBUTE_TENSOR: return find_in_list(attribute->tensor, 1);
        case KLN_ONNX_ATTRIBUTE_TENSORS: return find_in_list(attribute->tensors, attribute->count);
        case KLN_ONNX_ATTRIBUTE_GRAPH: return find_external(attribute->graph);
        case KLN_ONNX_ATTRIBUTE_GRAPHS:
            for (size_t i = 0; i < attribute->count; i++) {
                const kln_onnx_tensor *found = find_external(attribute->graphs[i]);
                if (found != NULL) {
                    return found;
                }
            }
            return NULL;
        default: return NULL;
    }
}

static const kln_onnx_tensor *find_external(const kln_onnx_graph *graph)
{
    const kln_onnx_tensor *found = find_in_list(graph->initializers, graph->initializer_count);
    for (size_t i = 0; i < graph->node_count && found == NULL; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        for (size_t j = 0; j < node->attribute_count && found == NULL; j++) {
            found = find_in_attribute(&node->attributes[j]);
        }
    }
    return found;
}

/* A network in memory, in one message, written when somebody first asks. */
static kiln_status write_network(ort_engine *engine, kiln_span *bytes)
{
    kiln_status status = KILN_OK;
    (void)pthread_mutex_lock(&engine->writing);
    if (engine->written.size == 0) {
        status = ort_handover_write(&engine->handover, &engine->written);
    }
    *bytes = (kiln_span){engine->written.data, engine->written.size};
    (void)pthread_mutex_unlock(&engine->writing);
    return status;
}

kiln_status ort_serialize(void *engine, kiln_span *bytes)
{
    ort_engine *self = engine;
    if (self->handover.model != NULL) {
        KLN_RETURN_IF_ERROR(kln_onnx_check_files(self->handover.model));
        return write_network(self, bytes);
    }
    KLN_RETURN_IF_ERROR(kln_bytes_check(self->bytes, "the model"));
    kln_onnx_model *model = NULL;
    KLN_RETURN_IF_ERROR(kln_onnx_read_bytes(self->bytes, NULL, &model));
    const kln_onnx_tensor *external = find_external(&model->graph);
    kiln_status status = KILN_OK;
    if (external != NULL) {
        status = kln_fail(KILN_ERROR_UNSUPPORTED,
                          "the weight \"%s\" lies in the file \"%s\" beside the model, which a "
                          "saved engine would not find; copy the model and its files instead",
                          external->name, external->location);
    }
    kln_onnx_model_destroy(model);
    *bytes = self->bytes;
    return status;
}

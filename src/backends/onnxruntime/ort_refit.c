/* SPDX-License-Identifier: Apache-2.0 */
/* ONNX Runtime cannot replace the weights of a session, so a refit replaces the session. */
#include "ort_engine.h"

/* The model as it was built: a network may have changed since. */
static kiln_status read_origin(ort_engine *engine)
{
    if (engine->handover.model != NULL) {
        return ort_handover_read(&engine->handover, &engine->read);
    }
    const bool is_file = engine->file.bytes.data != NULL;
    const kiln_model kept = {.path = engine->path,
                             .file = is_file ? &engine->file : NULL,
                             .folder = engine->folder,
                             .bytes = engine->bytes};
    KLN_RETURN_IF_ERROR(kln_model_read_anew(&kept, &engine->read));
    if (!is_file) {
        engine->read->kept = (void *)(uintptr_t)engine->bytes.data; /* no longer owned by the
                                                                     * engine */
    }
    return KILN_OK;
}

/* The model with its weights; it is read on the first request and lives as long as the engine. */
static kiln_status read_model(ort_engine *engine, const kln_onnx_model **model)
{
    kiln_status status = KILN_OK;
    KLN_RETURN_IF(engine->device >= 0, KILN_ERROR_UNSUPPORTED,
                  "refit: an engine of ONNX Runtime on a GPU keeps its weights; build it anew");
    if (engine->handover.model != NULL && engine->handover.model->replaced != NULL) {
        *model = engine->handover.model;
        return KILN_OK;
    }
    KLN_LOCKED(&engine->writing);
    if (engine->read == NULL) {
        status = read_origin(engine);
    }
    *model = engine->read;
    return status;
}

static kiln_status count(void *opaque, size_t *number)
{
    const kln_onnx_model *model = NULL;
    KLN_RETURN_IF_ERROR(read_model(opaque, &model));
    *number = kln_onnx_weight_count(model);
    return KILN_OK;
}

static kiln_status get(void *opaque, size_t index, kiln_refit_weight *weight)
{
    const kln_onnx_model *model = NULL;
    KLN_RETURN_IF_ERROR(read_model(opaque, &model));
    return kln_refit_weight_of(kln_onnx_weight_at(model, index), weight);
}

static kiln_status beside(void *opaque, const kiln_named_tensor *weights, size_t number,
                          void **made)
{
    ort_engine *self = opaque;
    ort_engine *engine = NULL;
    const kln_onnx_model *model = NULL;
    kln_onnx_model *changed = NULL;
    KLN_RETURN_IF_ERROR(read_model(self, &model));
    KLN_RETURN_IF_ERROR(kln_refit_replace(model, weights, number, &changed));
    const kiln_model source = {.graph = changed};
    const kiln_status status =
        ort_engine_make(self->runtime, &source, &self->options, NULL, &engine);
    kln_onnx_model_destroy(changed);
    *made = engine;
    return status;
}

const kiln_refit_table ort_refit_operations = {.count = count, .get = get, .beside = beside};

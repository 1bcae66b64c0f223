/* SPDX-License-Identifier: Apache-2.0 */
#include "onnx/kln_onnx.h"
#include "ort_engine.h"

static bool is_inside(void *user, const kln_onnx_tensor *tensor)
{
    (void)user;
    return !tensor->is_external;
}

/* Writes a network in memory as one message, on the first request. */
static kiln_status write_network(ort_engine *engine, kiln_span *bytes)
{
    kiln_status status = KILN_OK;
    KLN_LOCKED(&engine->writing);
    if (engine->written.size == 0) {
        status = ort_handover_write(&engine->handover, &engine->written);
    }
    *bytes = (kiln_span){engine->written.data, engine->written.size};
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
    const kln_onnx_tensor *external = kln_onnx_visit_tensors(&model->graph, is_inside, NULL);
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

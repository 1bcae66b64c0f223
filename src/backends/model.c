/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_backend.h"
#include "onnx/kln_onnx.h"

const char *kln_model_name(const kln_model *model)
{
    return model->path != NULL    ? model->path
           : model->graph != NULL ? "a network in memory"
                                  : "a model in memory";
}

kiln_status kln_model_read(const kln_model *model, kln_onnx_model **onnx)
{
    return model->file != NULL ? kln_onnx_read_mapping(model->file, model->path, onnx)
                               : kln_onnx_read_bytes(model->bytes, ".", onnx);
}

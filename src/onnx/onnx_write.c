/* SPDX-License-Identifier: Apache-2.0 */
#include "onnx_write.h"

kiln_status kln_onnx_measure(kln_onnx_writer *writer, const kln_onnx_model *model)
{
    writer->measures = true;
    KLN_RETURN_IF_ERROR(kln_onnx_put_model(writer, model));
    KLN_RETURN_IF(
        writer->total > KLN_ONNX_MESSAGE_LIMIT, KILN_ERROR_LIMIT,
        "the model would take %llu bytes in one message, %zu are the limit of the format%s",
        (unsigned long long)writer->total, KLN_ONNX_MESSAGE_LIMIT,
        writer->weights == KLN_ONNX_WEIGHTS_INLINE ? "; its weights must go to an external file"
                                                   : "");
    writer->measures = false;
    writer->total = 0;
    return KILN_OK;
}

/* The second pass starts in the same state as the first. */
kiln_status kln_onnx_write_again(kln_onnx_writer *writer, const kln_onnx_model *model)
{
    const uint64_t weights = writer->data_offset;
    writer->data_offset = 0;
    writer->left_out = 0;
    KLN_RETURN_IF_ERROR(kln_onnx_put_model(writer, model));
    KLN_RETURN_IF(writer->length_next != writer->length_count || writer->data_offset != weights,
                  KILN_ERROR_INTERNAL, "the model changed while it was written");
    return KILN_OK;
}

kiln_status kln_onnx_check_weights(kln_onnx_weights weights)
{
    return weights >= KLN_ONNX_WEIGHTS_INLINE && weights <= KLN_ONNX_WEIGHTS_LEFT_OUT
               ? KILN_OK
               : kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                          "weights %d: inline, external or left out is needed", (int)weights);
}

kiln_status kln_onnx_write_bytes(const kln_onnx_model *model, kln_onnx_weights weights,
                                 kln_text *bytes)
{
    KLN_RETURN_IF_NULL(model, bytes);
    KLN_RETURN_IF_ERROR(kln_onnx_check_weights(weights));
    KLN_RETURN_IF(
        weights == KLN_ONNX_WEIGHTS_EXTERNAL, KILN_ERROR_INVALID_ARGUMENT,
        "a model in memory has no file beside it for its weights: inline or left out is needed");
    kln_onnx_writer writer = {
        .tensor_field = kln_onnx_write_tensor_field, .weights = weights, .text = bytes};
    const size_t before = bytes->size;
    kiln_status status = kln_onnx_measure(&writer, model);
    KLN_THEN(status, kln_onnx_write_again(&writer, model));
    if (status != KILN_OK) {
        bytes->size = before;
    }
    kln_free(writer.lengths);
    return status;
}

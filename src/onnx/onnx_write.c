/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "onnx_write.h"

/* Protobuf's own limit of one message. */
#define LARGEST_MESSAGE ((uint64_t)INT32_MAX)

static kiln_status measure(kln_onnx_writer *writer, const kln_onnx_model *model)
{
    writer->measures = true;
    KLN_RETURN_IF_ERROR(kln_onnx_put_model(writer, model));
    if (writer->total > LARGEST_MESSAGE) {
        return kln_fail(KILN_ERROR_LIMIT,
                        "the model would take %llu bytes in one message, 2147483647 are the limit "
                        "of the format%s",
                        (unsigned long long)writer->total,
                        writer->weights == KLN_ONNX_WEIGHTS_INLINE
                            ? "; its weights must go to an external file"
                            : "");
    }
    writer->measures = false;
    writer->total = 0;
    return KILN_OK;
}

/* The second walk begins where the first one did. */
static kiln_status write(kln_onnx_writer *writer, const kln_onnx_model *model)
{
    const uint64_t weights = writer->data_offset;
    writer->data_offset = 0;
    writer->left_out = 0;
    KLN_RETURN_IF_ERROR(kln_onnx_put_model(writer, model));
    if (writer->length_next != writer->length_count || writer->data_offset != weights) {
        return kln_fail(KILN_ERROR_INTERNAL, "the model changed while it was written");
    }
    return KILN_OK;
}

static kiln_status write_files(kln_onnx_writer *writer, const kln_onnx_model *model,
                               const char *path, const char *data_path)
{
    kln_output *file = writer->file;
    kln_output *data = writer->data;
    kiln_status status = KILN_OK;
    const bool has_data = writer->data_offset != 0;
    KLN_GOTO_IF_ERROR(kln_output_open(path, file), fail_file);
    if (has_data) {
        KLN_GOTO_IF_ERROR(kln_output_open(data_path, data), fail_data);
    }
    KLN_GOTO_IF_ERROR(write(writer, model), fail);
    /* The weights first: a model must not appear before what it refers to. */
    if (has_data) {
        KLN_GOTO_IF_ERROR(kln_output_commit(data), fail);
    }
    return kln_output_commit(file);
fail:
    kln_output_discard(data);
fail_data:
    kln_output_discard(file);
fail_file:
    return status;
}

static kiln_status write_to_path(kln_onnx_writer *writer, const kln_onnx_model *model,
                                 const char *path)
{
    static const char suffix[] = ".data";
    const size_t length = strlen(path);
    kiln_status status = KILN_OK;
    char *data_path = kln_alloc(length + sizeof suffix);
    if (data_path == NULL) {
        return kln_fail_memory(length + sizeof suffix, "a path");
    }
    memcpy(data_path, path, length);
    memcpy(data_path + length, suffix, sizeof suffix);
    const char *slash = strrchr(data_path, '/');
    writer->location = slash != NULL ? slash + 1 : data_path;
    writer->buffer = kln_alloc(KLN_WRITER_BUFFER);
    if (writer->buffer == NULL) {
        status = kln_fail_memory(KLN_WRITER_BUFFER, "a buffer to write a model");
        goto done;
    }
    KLN_GOTO_IF_ERROR(measure(writer, model), done);
    status = write_files(writer, model, path, data_path);
done:
    kln_free(writer->buffer);
    kln_free(data_path);
    kln_free(writer->lengths);
    return status;
}

static kiln_status check_weights(kln_onnx_weights weights)
{
    return weights >= KLN_ONNX_WEIGHTS_INLINE && weights <= KLN_ONNX_WEIGHTS_LEFT_OUT
               ? KILN_OK
               : kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                          "weights %d: inline, external or left out is needed", (int)weights);
}

kiln_status kln_onnx_write_file(const kln_onnx_model *model, const char *path,
                                kln_onnx_weights weights)
{
    KLN_RETURN_IF_NULL(model);
    KLN_RETURN_IF_NULL(path);
    KLN_RETURN_IF_ERROR(check_weights(weights));
    kln_output file = {.descriptor = -1};
    kln_output data = {.descriptor = -1};
    kln_onnx_writer writer = {.weights = weights, .file = &file, .data = &data};
    return write_to_path(&writer, model, path);
}

kiln_status kln_onnx_write_bytes(const kln_onnx_model *model, kln_onnx_weights weights,
                                 kln_text *bytes)
{
    KLN_RETURN_IF_NULL(model);
    KLN_RETURN_IF_NULL(bytes);
    KLN_RETURN_IF_ERROR(check_weights(weights));
    if (weights == KLN_ONNX_WEIGHTS_EXTERNAL) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "a model in memory has no file beside it for its weights: inline or left "
                        "out is needed");
    }
    kln_onnx_writer writer = {.weights = weights, .text = bytes};
    kiln_status status = KILN_OK;
    const size_t before = bytes->size;
    KLN_GOTO_IF_ERROR(measure(&writer, model), done);
    status = write(&writer, model);
    if (status != KILN_OK) {
        bytes->size = before;
    }
done:
    kln_free(writer.lengths);
    return status;
}

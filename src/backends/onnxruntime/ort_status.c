/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "ort_runtime.h"

/* Words that identify failures which have only a general code. */
static const struct {
    const char *words;
    kiln_status status;
} telling[] = {
    {"bad_alloc", KILN_ERROR_OUT_OF_MEMORY},
    {"bad allocation", KILN_ERROR_OUT_OF_MEMORY},
    {"Failed to allocate memory", KILN_ERROR_OUT_OF_MEMORY},
    {"cannot open shared object file", KILN_ERROR_LIBRARY_ABSENT},
    {"is not a registered function/op", KILN_ERROR_UNSUPPORTED},
    {"No Op registered for", KILN_ERROR_UNSUPPORTED},
    {"is not currently registered or supported", KILN_ERROR_UNSUPPORTED},
    {"NOT_IMPLEMENTED", KILN_ERROR_UNSUPPORTED},
    {"Could not find an implementation for", KILN_ERROR_UNSUPPORTED},
    {"max supported IR version", KILN_ERROR_UNSUPPORTED},
    {"only *guarantees* support for models stamped", KILN_ERROR_UNSUPPORTED},
    {"shape verification failed", KILN_ERROR_SHAPE},
    {"but the computed output shape for this run is", KILN_ERROR_SHAPE},
    {"Protobuf parsing failed", KILN_ERROR_MALFORMED},
    {"No graph was found in the protobuf", KILN_ERROR_MALFORMED},
    {"ValidateEmbeddedTensorProtoDataSizeAndShape", KILN_ERROR_MALFORMED},
    {"nvalid model", KILN_ERROR_INVALID_NETWORK},
    {"[ShapeInferenceError]", KILN_ERROR_INVALID_NETWORK},
    {"[TypeInferenceError]", KILN_ERROR_INVALID_NETWORK},
    {"Type Error: ", KILN_ERROR_INVALID_NETWORK},
    {"core/graph/graph.cc", KILN_ERROR_INVALID_NETWORK},
};

kiln_status ort_classify(ort_error_code code, const char *message)
{
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(telling); i++) {
        if (strstr(message, telling[i].words) != NULL) {
            return telling[i].status;
        }
    }
    switch (code) {
        case ORT_CODE_NO_SUCHFILE: return KILN_ERROR_NOT_FOUND;
        case ORT_CODE_NO_MODEL:
        case ORT_CODE_INVALID_PROTOBUF: return KILN_ERROR_MALFORMED;
        case ORT_CODE_NOT_IMPLEMENTED: return KILN_ERROR_UNSUPPORTED;
        case ORT_CODE_INVALID_GRAPH: return KILN_ERROR_INVALID_NETWORK;
        case ORT_CODE_MODEL_LOAD_CANCELED: return KILN_ERROR_CANCELLED;
        default: return KILN_ERROR_BACKEND;
    }
}

kiln_status ort_fail(const ort_runtime *runtime, OrtStatus *status, const char *format, ...)
{
    char context[512];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(context, sizeof context, format, arguments);
    va_end(arguments);
    const char *message = runtime->api.GetErrorMessage(status);
    const ort_error_code code = runtime->api.GetErrorCode(status);
    size_t length = strlen(message);
    while (length > 0 && (message[length - 1] == '\n' || message[length - 1] == ' ')) {
        length--;
    }
    const kiln_status translated =
        kln_fail(ort_classify(code, message), "%s: ONNX Runtime %s says: %.*s (its code %u)",
                 context, runtime->version, (int)(length < 4096 ? length : 4096), message, code);
    runtime->api.ReleaseStatus(status);
    return translated;
}

kiln_status ort_check(const ort_runtime *runtime, OrtStatus *status, const char *context)
{
    return status == NULL ? KILN_OK : ort_fail(runtime, status, "%s", context);
}

void ort_free(const ort_runtime *runtime, void *memory)
{
    OrtStatus *failed =
        memory != NULL ? runtime->api.AllocatorFree(runtime->allocator, memory) : NULL;
    if (failed != NULL) {
        runtime->api.ReleaseStatus(failed);
    }
}

OrtStatus *ort_describe_value(const ort_api *api, const OrtValue *value, kiln_tensor_desc *desc)
{
    OrtTensorTypeAndShapeInfo *info = NULL;
    ort_element_type element = 0;
    size_t rank = 0;
    OrtStatus *failed = api->GetTensorTypeAndShape(value, &info);
    if (failed != NULL) {
        return failed;
    }
    failed = api->GetTensorElementType(info, &element);
    failed = failed == NULL ? api->GetDimensionsCount(info, &rank) : failed;
    if (failed == NULL && rank <= KILN_MAX_RANK) {
        failed = api->GetDimensions(info, desc->shape.dims, rank);
    }
    api->ReleaseTensorTypeAndShapeInfo(info);
    desc->dtype = ort_dtype(element);
    desc->shape.rank = (int32_t)rank;
    return failed;
}

kiln_dtype ort_dtype(ort_element_type type)
{
    switch (type) {
#define ELEMENT(value, dtype) \
    case value: return dtype;
        ORT_ELEMENT_LIST(ELEMENT)
#undef ELEMENT
        default: return KILN_DTYPE_UNDEFINED;
    }
}

ort_element_type ort_element(kiln_dtype dtype)
{
    switch (dtype) {
#define ELEMENT(value, dtype_) \
    case dtype_: return value;
        ORT_ELEMENT_LIST(ELEMENT)
#undef ELEMENT
        default: return 0;
    }
}

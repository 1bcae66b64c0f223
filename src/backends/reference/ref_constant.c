/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_internal.h"

static kiln_status fail_memory(size_t size)
{
    return kln_fail_memory(size, "a constant");
}

/* Constants of at least this size start at a cache line, so that no vector straddles two. */
#define SMALL ((size_t)4096)
#define LINE ((size_t)64)

/* Memory in the arena for `count` elements in this executor's format. */
static kiln_status make_value(kln_arena *arena, kiln_dtype dtype, int rank, const int64_t *dims,
                              ref_value *value)
{
    int64_t count = 0;
    KLN_RETURN_IF_ERROR(ref_count(rank, dims, &count));
    *value = (ref_value){.kind = REF_TENSOR, .buffer = NULL};
    value->tensor.dtype = dtype;
    value->tensor.rank = rank;
    value->tensor.count = count;
    for (int i = 0; i < rank; i++) {
        value->tensor.dims[i] = dims[i];
    }
    const size_t size = (size_t)count * ref_element_size(dtype);
    const size_t room = size < SMALL ? 0 : LINE;
    char *data = kln_arena_alloc(arena, size + room);
    if (data != NULL && room > 0) {
        data += LINE - (uintptr_t)data % LINE;
    }
    value->tensor.data = data;
    return data == NULL ? fail_memory(size) : KILN_OK;
}

/* The data in the model itself, if it can be used in place. */
static void *usable(const kln_onnx_tensor *tensor)
{
    void *data = NULL;
    const bool aligned = tensor->data.data != NULL &&
                         (uintptr_t)tensor->data.data % kiln_dtype_alignment(tensor->dtype) == 0;
    if (aligned && !ref_is_packed(tensor->dtype)) {
        memcpy(&data, &tensor->data.data, sizeof data); /* constants are never written */
    }
    return data;
}

static kiln_status check_tensor(const kln_onnx_tensor *tensor, int64_t *count)
{
    KLN_RETURN_IF(tensor->rank > REF_RANK, KILN_ERROR_RANK,
                  "%zu dimensions are past the limit of %d", tensor->rank, REF_RANK);
    KLN_RETURN_IF(tensor->dtype == KILN_DTYPE_UNDEFINED, KILN_ERROR_UNSUPPORTED,
                  "elements of type %s are not known here",
                  kln_onnx_dtype_name(tensor->wire_dtype));
    KLN_RETURN_IF_ERROR(ref_count((int)tensor->rank, tensor->dims, count));
    if (tensor->dtype == KILN_DTYPE_STRING) {
        return tensor->string_count == (size_t)*count
                   ? KILN_OK
                   : kln_fail(KILN_ERROR_INVALID_NETWORK, "%zu strings are given for %lld elements",
                              tensor->string_count, (long long)*count);
    }
    const size_t bytes = ((size_t)*count * kiln_dtype_bits(tensor->dtype) + 7) / 8;
    KLN_RETURN_IF(tensor->data.size < bytes || (bytes > 0 && tensor->data.data == NULL),
                  KILN_ERROR_INVALID_NETWORK, "%zu bytes of elements are there, %zu are needed%s",
                  tensor->data.data == NULL ? (size_t)0 : tensor->data.size, bytes,
                  tensor->is_external ? " (they lie in another file)" : "");
    return KILN_OK;
}

kiln_status ref_constant(kln_arena *arena, const kln_onnx_tensor *tensor, ref_value *value)
{
    int64_t count = 0;
    KLN_RETURN_IF_ERROR(check_tensor(tensor, &count));
    void *data = count > 0 && tensor->dtype != KILN_DTYPE_STRING ? usable(tensor) : NULL;
    if (data != NULL) {
        *value = (ref_value){.kind = REF_TENSOR, .buffer = NULL};
        value->tensor.dtype = tensor->dtype;
        value->tensor.rank = (int)tensor->rank;
        for (size_t i = 0; i < tensor->rank; i++) {
            value->tensor.dims[i] = tensor->dims[i];
        }
        value->tensor.count = count;
        value->tensor.data = data;
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(make_value(arena, tensor->dtype, (int)tensor->rank, tensor->dims, value));
    if (count == 0) {
        return KILN_OK;
    }
    if (tensor->dtype == KILN_DTYPE_STRING) {
        memcpy(value->tensor.data, tensor->strings, (size_t)count * sizeof(kiln_span));
    } else if (ref_is_packed(tensor->dtype)) {
        ref_unpack(tensor->dtype, tensor->data.data, count, value->tensor.data);
    } else {
        memcpy(value->tensor.data, tensor->data.data,
               (size_t)count * ref_element_size(tensor->dtype));
    }
    return KILN_OK;
}

static kiln_status make_list(kln_arena *arena, kiln_dtype dtype, size_t count, const void *data,
                             ref_value *value)
{
    const int64_t dims[1] = {(int64_t)count};
    KLN_RETURN_IF_ERROR(make_value(arena, dtype, 1, dims, value));
    if (count > 0) {
        memcpy(value->tensor.data, data, count * ref_element_size(dtype));
    }
    return KILN_OK;
}

kiln_status ref_constant_attribute(kln_arena *arena, const kln_onnx_attribute *attribute,
                                   ref_value *value)
{
    switch (attribute->type) {
        case KLN_ONNX_ATTRIBUTE_TENSOR:
            if (attribute->tensor == NULL) {
                break;
            }
            return ref_constant(arena, attribute->tensor, value);
        case KLN_ONNX_ATTRIBUTE_FLOAT:
            KLN_RETURN_IF_ERROR(make_value(arena, KILN_DTYPE_FLOAT32, 0, NULL, value));
            memcpy(value->tensor.data, &attribute->f, sizeof attribute->f);
            return KILN_OK;
        case KLN_ONNX_ATTRIBUTE_INT:
            KLN_RETURN_IF_ERROR(make_value(arena, KILN_DTYPE_INT64, 0, NULL, value));
            memcpy(value->tensor.data, &attribute->i, sizeof attribute->i);
            return KILN_OK;
        case KLN_ONNX_ATTRIBUTE_STRING:
            KLN_RETURN_IF_ERROR(make_value(arena, KILN_DTYPE_STRING, 0, NULL, value));
            memcpy(value->tensor.data, &attribute->s, sizeof attribute->s);
            return KILN_OK;
        case KLN_ONNX_ATTRIBUTE_FLOATS:
            return make_list(arena, KILN_DTYPE_FLOAT32, attribute->count, attribute->floats, value);
        case KLN_ONNX_ATTRIBUTE_INTS:
            return make_list(arena, KILN_DTYPE_INT64, attribute->count, attribute->ints, value);
        case KLN_ONNX_ATTRIBUTE_STRINGS:
            return make_list(arena, KILN_DTYPE_STRING, attribute->count, attribute->strings, value);
        default: break;
    }
    return kln_fail(
        KILN_ERROR_UNSUPPORTED,
        "the reference backend takes dense constants only, not the attribute \"%s\" of type %d",
        attribute->name, (int)attribute->type);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_tensor.h"

/* Computes the bytes of `elements` of `bits` each; false if they do not fit in a size_t. */
static bool packed_bytes(uint64_t elements, unsigned bits, size_t *bytes)
{
    if (bits < 8) {
        const unsigned in_byte = 8 / bits;
        *bytes = (size_t)(elements / in_byte + (elements % in_byte != 0));
        return true;
    }
    size_t size = 0;
    /* No C object is larger than PTRDIFF_MAX. */
    if (__builtin_mul_overflow(elements, (uint64_t)bits / 8, &size) || size > (size_t)PTRDIFF_MAX) {
        return false;
    }
    *bytes = size;
    return true;
}

kiln_status kiln_tensor_bytes(kiln_dtype dtype, const kiln_shape *shape, size_t *bytes)
{
    KLN_RETURN_IF_NULL(shape, bytes);
    const unsigned bits = dtype == KILN_DTYPE_STRING ? (unsigned)sizeof(kiln_span) * CHAR_BIT
                                                     : kiln_dtype_bits(dtype);
    KLN_RETURN_IF(bits == 0, KILN_ERROR_DTYPE, "elements of the type %s (%d) have no size",
                  kiln_dtype_name(dtype), (int)dtype);
    int64_t elements = 0;
    KLN_RETURN_IF_ERROR(kiln_shape_elements(shape, &elements));
    if (!packed_bytes((uint64_t)elements, bits, bytes)) {
        return kln_fail(KILN_ERROR_LIMIT,
                        "%s elements in the shape %s take more bytes than there are addresses",
                        kiln_dtype_name(dtype), KLN_SHAPE_PRINTED(shape));
    }
    return KILN_OK;
}

static kiln_status check_memory(const char *what, const kiln_tensor *tensor, size_t needed)
{
    if (tensor->bytes < needed) {
        return kln_fail(KILN_ERROR_SIZE,
                        "%s: %zu bytes were given, %s elements in the shape %s take %zu", what,
                        tensor->bytes, kiln_dtype_name(tensor->desc.dtype),
                        KLN_SHAPE_PRINTED(&tensor->desc.shape), needed);
    }
    if (needed == 0) {
        return KILN_OK;
    }
    KLN_RETURN_IF(tensor->data == NULL, KILN_ERROR_NULL_ARGUMENT,
                  "%s: the address of its %zu bytes is NULL", what, needed);
    const size_t alignment = kiln_dtype_alignment(tensor->desc.dtype);
    KLN_RETURN_IF((uintptr_t)tensor->data % alignment != 0, KILN_ERROR_ALIGNMENT,
                  "%s: the address %p is not a multiple of %zu, as %s elements need it", what,
                  tensor->data, alignment, kiln_dtype_name(tensor->desc.dtype));
    return KILN_OK;
}

/* Checks the enumerations, and that strings are in host memory. */
static kiln_status check_place(const char *what, const kiln_tensor_desc *desc)
{
    KLN_RETURN_IF((unsigned)desc->location > KILN_LOCATION_DEVICE, KILN_ERROR_INVALID_ARGUMENT,
                  "%s: location is %d, 0 to %d are possible", what, (int)desc->location,
                  KILN_LOCATION_DEVICE);
    KLN_RETURN_IF((unsigned)desc->format > KILN_FORMAT_DHWC, KILN_ERROR_INVALID_ARGUMENT,
                  "%s: format is %d, 0 to %d are possible", what, (int)desc->format,
                  KILN_FORMAT_DHWC);
    KLN_RETURN_IF(desc->dtype == KILN_DTYPE_STRING && desc->location != KILN_LOCATION_HOST,
                  KILN_ERROR_UNSUPPORTED, "%s: strings lie in host memory, not in %s memory", what,
                  kiln_location_name(desc->location));
    return KILN_OK;
}

bool kln_tensor_is_sound(const kiln_tensor *tensor)
{
    const kiln_shape *shape = &tensor->desc.shape;
    const uint64_t element = kiln_dtype_bits(tensor->desc.dtype) / 8;
    uint64_t bytes = element;
    if (element == 0 || element > 8 || (unsigned)tensor->desc.location > KILN_LOCATION_DEVICE ||
        (unsigned)tensor->desc.format > KILN_FORMAT_DHWC || shape->rank < 0 ||
        shape->rank > KILN_MAX_RANK) {
        return false;
    }
    for (int32_t i = 0; i < shape->rank; i++) {
        if (shape->dims[i] <= 0 ||
            __builtin_mul_overflow(bytes, (uint64_t)shape->dims[i], &bytes)) {
            return false;
        }
    }
    return bytes <= tensor->bytes && tensor->bytes <= (size_t)PTRDIFF_MAX && tensor->data != NULL &&
           ((uintptr_t)tensor->data & (element - 1)) == 0;
}

kiln_status kln_tensor_check(const char *what, const kiln_tensor *tensor)
{
    KLN_RETURN_IF(tensor == NULL, KILN_ERROR_NULL_ARGUMENT, "%s: the tensor is NULL", what);
    size_t needed = 0;
    KLN_RETURN_WITHIN(kiln_tensor_bytes(tensor->desc.dtype, &tensor->desc.shape, &needed), "%s",
                      what);
    KLN_RETURN_IF_ERROR(check_place(what, &tensor->desc));
    return check_memory(what, tensor, needed);
}

kiln_status kiln_tensor_make(kiln_dtype dtype, const int64_t *dims, int32_t rank,
                             kiln_location location, int32_t device, void *data, size_t bytes,
                             kiln_tensor *tensor)
{
    KLN_RETURN_IF_NULL(tensor);
    kiln_tensor made = {.data = data, .bytes = bytes};
    size_t needed = 0;
    KLN_RETURN_IF(rank < 0 || rank > KILN_MAX_RANK, KILN_ERROR_RANK,
                  "%s: rank is %d, 0 to %d are possible", __func__, (int)rank, KILN_MAX_RANK);
    if (rank != 0) {
        KLN_RETURN_IF_NULL(dims);
        memcpy(made.desc.shape.dims, dims, (size_t)rank * sizeof *dims);
    }
    made.desc.dtype = dtype;
    made.desc.location = location;
    KLN_RETURN_IF_ERROR(check_place(__func__, &made.desc));
    made.desc.device = device;
    made.desc.shape.rank = rank;
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(dtype, &made.desc.shape, &needed));
    KLN_RETURN_IF(bytes < needed, KILN_ERROR_SIZE, "%s: %zu bytes are needed, %zu were given",
                  __func__, needed, bytes);
    *tensor = made;
    return KILN_OK;
}

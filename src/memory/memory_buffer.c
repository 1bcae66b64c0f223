/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_memory.h"

struct kiln_buffer {
    kiln_location location;
    int32_t device;
    size_t bytes;
    void *data;
};

kiln_status kiln_buffer_create(kiln_location location, int32_t device, size_t bytes,
                               kiln_buffer **buffer)
{
    KLN_RETURN_IF_NULL_RESULT(buffer);
    KLN_RETURN_IF(bytes == 0, KILN_ERROR_SIZE,
                  "kiln_buffer_create: a buffer needs at least 1 byte");
    KLN_RETURN_IF_ERROR(kln_memory_check(location, device));
    KLN_SCOPED_FREE kiln_buffer *made = kln_alloc_zeroed(1, sizeof *made);
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "a buffer");
    made->location = location;
    made->device = location == KILN_LOCATION_HOST ? 0 : device;
    made->bytes = bytes;
    KLN_RETURN_IF_ERROR(kln_memory_allocate(location, device, bytes, &made->data));
    *buffer = KLN_TAKE(made);
    return KILN_OK;
}

void kiln_buffer_destroy(kiln_buffer *buffer)
{
    if (buffer != NULL) {
        kln_memory_release(buffer->location, buffer->device, buffer->data);
        kln_free(buffer);
    }
}

void *kiln_buffer_data(const kiln_buffer *buffer)
{
    return buffer != NULL ? buffer->data : NULL;
}

size_t kiln_buffer_bytes(const kiln_buffer *buffer)
{
    return buffer != NULL ? buffer->bytes : 0;
}

kiln_location kiln_buffer_location(const kiln_buffer *buffer)
{
    return buffer != NULL ? buffer->location : KILN_LOCATION_HOST;
}

static kiln_status check_range(const char *what, const kiln_buffer *buffer, size_t offset,
                               size_t bytes)
{
    KLN_RETURN_IF(offset > buffer->bytes || bytes > buffer->bytes - offset, KILN_ERROR_SIZE,
                  "%s: %zu bytes from byte %zu on were asked for, the buffer has %zu", what, bytes,
                  offset, buffer->bytes);
    return KILN_OK;
}

static kiln_status check_stream(const char *what, const kiln_buffer *buffer,
                                const kiln_stream *stream)
{
    KLN_RETURN_IF(stream != NULL && buffer->location == KILN_LOCATION_HOST,
                  KILN_ERROR_INVALID_ARGUMENT,
                  "%s: a stream does not order work on a host buffer; make it pinned", what);
    return KILN_OK;
}

static unsigned char *at(const kiln_buffer *buffer, size_t offset)
{
    return (unsigned char *)buffer->data + offset;
}

/* Copies between two addresses, of which at least one is in `buffer`. */
static kiln_status copy(const kiln_buffer *buffer, void *to, const void *from, size_t bytes,
                        kiln_stream *stream)
{
    const bool host = buffer->location == KILN_LOCATION_HOST ||
                      (buffer->location == KILN_LOCATION_PINNED && stream == NULL);
    if (bytes == 0) {
        return KILN_OK;
    }
    if (host) {
        memcpy(to, from, bytes);
        return KILN_OK;
    }
    return kln_cuda_copy(buffer->device, to, from, bytes, stream);
}

kiln_status kiln_buffer_write(kiln_buffer *buffer, size_t offset, kiln_span from,
                              kiln_stream *stream)
{
    KLN_RETURN_IF_NULL(buffer);
    if (from.size != 0) {
        KLN_RETURN_IF_NULL(from.data);
    }
    KLN_RETURN_IF_ERROR(check_range(__func__, buffer, offset, from.size));
    KLN_RETURN_IF_ERROR(check_stream(__func__, buffer, stream));
    return copy(buffer, at(buffer, offset), from.data, from.size, stream);
}

kiln_status kiln_buffer_read(const kiln_buffer *buffer, size_t offset, kiln_mutable_span to,
                             kiln_stream *stream)
{
    KLN_RETURN_IF_NULL(buffer);
    if (to.size != 0) {
        KLN_RETURN_IF_NULL(to.data);
    }
    KLN_RETURN_IF_ERROR(check_range(__func__, buffer, offset, to.size));
    KLN_RETURN_IF_ERROR(check_stream(__func__, buffer, stream));
    return copy(buffer, to.data, at(buffer, offset), to.size, stream);
}

static bool lies_on_device(const kiln_buffer *buffer)
{
    return buffer->location == KILN_LOCATION_DEVICE || buffer->location == KILN_LOCATION_MANAGED;
}

kiln_status kiln_buffer_copy(kiln_buffer *to, size_t to_offset, const kiln_buffer *from,
                             size_t from_offset, size_t bytes, kiln_stream *stream)
{
    KLN_RETURN_IF_NULL(to, from);
    KLN_RETURN_IF_ERROR(check_range("kiln_buffer_copy, target", to, to_offset, bytes));
    KLN_RETURN_IF_ERROR(check_range("kiln_buffer_copy, source", from, from_offset, bytes));
    KLN_RETURN_IF_ERROR(check_stream("kiln_buffer_copy, target", to, stream));
    KLN_RETURN_IF_ERROR(check_stream("kiln_buffer_copy, source", from, stream));
    KLN_RETURN_IF(to == from && to_offset < from_offset + bytes && from_offset < to_offset + bytes,
                  KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_buffer_copy: %zu bytes from byte %zu to byte %zu of one buffer overlap",
                  bytes, from_offset, to_offset);
    if (bytes != 0 && lies_on_device(to) && lies_on_device(from) && to->device != from->device) {
        return kln_cuda_copy_peer(to->device, at(to, to_offset), from->device,
                                  at(from, from_offset), bytes, stream);
    }
    return copy(lies_on_device(from) ? from : to, at(to, to_offset), at(from, from_offset), bytes,
                stream);
}

kiln_status kiln_buffer_fill(kiln_buffer *buffer, uint8_t value, kiln_stream *stream)
{
    KLN_RETURN_IF_NULL(buffer);
    KLN_RETURN_IF_ERROR(check_stream(__func__, buffer, stream));
    if (stream != NULL) {
        return kln_cuda_fill(buffer->device, buffer->data, value, buffer->bytes, stream);
    }
    return kln_memory_fill(buffer->location, buffer->device, buffer->data, value, buffer->bytes);
}

kiln_status kiln_buffer_tensor(const kiln_buffer *buffer, size_t offset, kiln_dtype dtype,
                               const kiln_shape *shape, kiln_tensor *tensor)
{
    KLN_RETURN_IF_NULL(buffer, shape, tensor);
    size_t bytes = 0;
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(dtype, shape, &bytes));
    KLN_RETURN_IF_ERROR(check_range(__func__, buffer, offset, bytes));
    KLN_RETURN_IF(offset % kiln_dtype_alignment(dtype) != 0, KILN_ERROR_ALIGNMENT,
                  "kiln_buffer_tensor: byte %zu is no multiple of %zu, which %s needs", offset,
                  kiln_dtype_alignment(dtype), kiln_dtype_name(dtype));
    *tensor = (kiln_tensor){.desc = {.dtype = dtype,
                                     .location = buffer->location,
                                     .device = buffer->device,
                                     .shape = *shape},
                            .data = at(buffer, offset),
                            .bytes = buffer->bytes - offset};
    return KILN_OK;
}

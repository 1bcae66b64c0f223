/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda_driver.h"

kiln_status kln_cuda_allocate(kiln_location location, int32_t device, size_t bytes, void **memory)
{
    *memory = NULL;
    KLN_CUDA_ENTER(device);
    const cuda_table *cuda = cuda_functions();
    cuda_device *found = NULL;
    cu_address address = 0;
    int result = CU_SUCCESS;
    KLN_RETURN_IF_ERROR(cuda_find_device(device, &found));
    switch (location) {
        case KILN_LOCATION_PINNED:
            result = cuda->allocate_pinned(memory, bytes, CU_HOST_PORTABLE | CU_HOST_MAPPED);
            break;
        case KILN_LOCATION_MANAGED:
            KLN_RETURN_IF(found->managed_memory == 0, KILN_ERROR_UNSUPPORTED,
                          "device %d (%s) has no managed memory", device, found->name);
            result = cuda->allocate_managed(&address, bytes, CU_ATTACH_GLOBAL);
            break;
        case KILN_LOCATION_DEVICE: result = cuda->allocate(&address, bytes); break;
        case KILN_LOCATION_HOST:
        default:
            return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                            "%s memory does not come from the CUDA driver",
                            kiln_location_name(location));
    }
    if (address != 0) {
        *memory = (void *)(uintptr_t)address;
    }
    size_t free_bytes = 0;
    size_t total = 0;
    if (result == CU_OUT_OF_MEMORY) {
        (void)cuda->memory_info(&free_bytes, &total);
    }
    return cuda_check(result, "%zu bytes of %s memory, where %zu of %zu are free on device %d",
                      bytes, kiln_location_name(location), free_bytes, total, device);
}

void kln_cuda_release(kiln_location location, int32_t device, void *memory)
{
    KLN_SCOPED(kln_cuda_leave) kln_cuda_scope scope = {.pushed = false};
    if (memory == NULL || kln_cuda_enter(device, &scope) != KILN_OK) {
        return;
    }
    const int result = location == KILN_LOCATION_PINNED
                           ? cuda_functions()->release_pinned(memory)
                           : cuda_functions()->release(cuda_address(memory));
    cuda_log_failure(result, "releasing memory");
}

kiln_status kln_cuda_wait(int32_t device)
{
    KLN_CUDA_ENTER(device);
    return cuda_check(cuda_functions()->context_wait(), "waiting for device %d", device);
}

static kiln_status need_ordered(int32_t device)
{
    cuda_device *found = NULL;
    KLN_RETURN_IF_ERROR(cuda_find_device(device, &found));
    if (kln_cuda_has(KLN_CUDA_STREAM_ORDERED, device)) {
        return KILN_OK;
    }
    return kln_fail(KILN_ERROR_UNSUPPORTED,
                    "stream-ordered memory needs CUDA 11.2 and a device with memory pools; this "
                    "driver speaks CUDA %d.%d",
                    kln_cuda_version() / 1000, kln_cuda_version() % 1000 / 10);
}

kiln_status kiln_device_keep_free(int32_t device, uint64_t bytes)
{
    const cuda_table *cuda = cuda_functions();
    cuda_device *found = NULL;
    void *pool = NULL;
    unsigned long long threshold = bytes;
    KLN_RETURN_IF_ERROR(cuda_find_device(device, &found));
    KLN_RETURN_IF_ERROR(need_ordered(device));
    KLN_CUDA_ENTER(device);
    int result = cuda->default_pool(&pool, found->handle);
    if (result == CU_SUCCESS) {
        result = cuda->pool_set(pool, CU_POOL_RELEASE_THRESHOLD, &threshold);
    }
    if (result == CU_SUCCESS) {
        result = cuda->pool_trim(pool, bytes < SIZE_MAX ? (size_t)bytes : SIZE_MAX);
    }
    return cuda_check(result, "the memory pool of device %d (%s)", device, found->name);
}

kiln_status kiln_stream_allocate(kiln_stream *stream, size_t bytes, void **memory)
{
    KLN_RETURN_IF_NULL(stream, memory);
    *memory = NULL;
    KLN_RETURN_IF(bytes == 0, KILN_ERROR_SIZE, "kiln_stream_allocate: at least 1 byte is needed");
    KLN_RETURN_IF_ERROR(need_ordered(stream->device));
    KLN_CUDA_ENTER(stream->device);
    cu_address address = 0;
    const kiln_status status =
        cuda_check(cuda_functions()->allocate_ordered(&address, bytes, stream->handle),
                   "%zu bytes in the order of a stream of device %d", bytes, stream->device);
    *memory = (void *)(uintptr_t)address;
    return status;
}

kiln_status kiln_stream_release(kiln_stream *stream, void *memory)
{
    KLN_RETURN_IF_NULL(stream);
    if (memory == NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(need_ordered(stream->device));
    KLN_CUDA_ENTER(stream->device);
    return cuda_check(cuda_functions()->release_ordered(cuda_address(memory), stream->handle),
                      "releasing memory in the order of a stream of device %d", stream->device);
}

kiln_status kln_cuda_copy(int32_t device, void *to, const void *from, size_t bytes,
                          kiln_stream *stream)
{
    KLN_CUDA_ENTER(device);
    const cuda_table *cuda = cuda_functions();
    int result = CU_SUCCESS;
    if (stream != NULL) {
        result = cuda->copy_async(cuda_address(to), cuda_address(from), bytes, stream->handle);
    } else {
        /* cuMemcpy from device to device returns before the copy is complete. */
        result = cuda->copy(cuda_address(to), cuda_address(from), bytes);
        result = result == CU_SUCCESS ? cuda->stream_wait(NULL) : result;
    }
    return cuda_check(result, "copying %zu bytes on device %d", bytes, device);
}

#define BATCH 64

static kiln_status copy_batch(kiln_stream *stream, const kln_cuda_piece *pieces, size_t count)
{
    cu_address to[BATCH];
    cu_address from[BATCH];
    size_t bytes[BATCH];
    size_t used = 0;
    size_t first = 0;
    size_t failed = 0;
    cu_copy_attributes attributes = {.source_order = CU_COPY_IN_STREAM_ORDER};
    for (size_t i = 0; i < count; i++) {
        if (pieces[i].from != NULL && pieces[i].bytes != 0) {
            to[used] = cuda_address(pieces[i].to);
            from[used] = cuda_address(pieces[i].from);
            bytes[used++] = pieces[i].bytes;
        }
    }
    return used == 0
               ? KILN_OK
               : cuda_check(cuda_functions()->copy_batch(to, from, bytes, used, &attributes, &first,
                                                         1, &failed, stream->handle),
                            "copying %zu pieces of memory on device %d", used, stream->device);
}

static kiln_status copy_each(kiln_stream *stream, const kln_cuda_piece *piece)
{
    if (piece->bytes == 0) {
        return KILN_OK;
    }
    return piece->from != NULL
               ? kln_cuda_copy(stream->device, piece->to, piece->from, piece->bytes, stream)
               : kln_cuda_fill(stream->device, piece->to, 0, piece->bytes, stream);
}

kiln_status kln_cuda_copy_pieces(kiln_stream *stream, const kln_cuda_piece *pieces, size_t count)
{
    KLN_CUDA_ENTER(stream->device);
    const bool in_batches = count > 1 && cuda_functions()->copy_batch != NULL;
    for (size_t i = 0; i < count; i++) {
        if (!in_batches || pieces[i].from == NULL) {
            KLN_RETURN_IF_ERROR(copy_each(stream, &pieces[i]));
        }
    }
    for (size_t i = 0; in_batches && i < count; i += BATCH) {
        KLN_RETURN_IF_ERROR(copy_batch(stream, pieces + i, count - i < BATCH ? count - i : BATCH));
    }
    return KILN_OK;
}

kiln_status kln_cuda_copy_peer(int32_t to_device, void *to, int32_t from_device, const void *from,
                               size_t bytes, kiln_stream *stream)
{
    KLN_CUDA_ENTER(stream != NULL ? stream->device : to_device);
    const cuda_table *cuda = cuda_functions();
    cuda_device *target = NULL;
    cuda_device *source = NULL;
    void *target_context = NULL;
    void *source_context = NULL;
    KLN_RETURN_IF_ERROR(cuda_find_device(to_device, &target));
    KLN_RETURN_IF_ERROR(cuda_find_device(from_device, &source));
    KLN_RETURN_IF_ERROR(cuda_primary_context(target, &target_context));
    KLN_RETURN_IF_ERROR(cuda_primary_context(source, &source_context));
    KLN_RETURN_IF(cuda->copy_peer_async == NULL, KILN_ERROR_UNSUPPORTED,
                  "this driver cannot copy between devices");
    int result = cuda->copy_peer_async(cuda_address(to), target_context, cuda_address(from),
                                       source_context, bytes, cuda_stream_handle(stream));
    if (result == CU_SUCCESS && stream == NULL) {
        result = cuda->stream_wait(NULL);
    }
    return cuda_check(result, "copying %zu bytes from device %d to device %d", bytes, from_device,
                      to_device);
}

kiln_status kln_cuda_fill(int32_t device, void *memory, uint8_t value, size_t bytes,
                          kiln_stream *stream)
{
    KLN_CUDA_ENTER(device);
    int result = cuda_functions()->fill_async(cuda_address(memory), value, bytes,
                                              cuda_stream_handle(stream));
    if (result == CU_SUCCESS && stream == NULL) {
        result = cuda_functions()->stream_wait(NULL);
    }
    return cuda_check(result, "filling %zu bytes on device %d", bytes, device);
}

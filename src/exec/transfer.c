/* SPDX-License-Identifier: Apache-2.0 */
#include "exec_parts.h"

/* --- memory --- */

void transfers_drop(kln_exec *exec, graph_entry *entry)
{
    exec_gpu *gpu = exec->gpu;
    for (size_t i = 0; entry->has_transfers && i < exec->slot_count; i++) {
        transfer *way = &entry->transfers[i];
        kln_cuda_release(KILN_LOCATION_PINNED, gpu->device, way->staging);
        kln_cuda_release(KILN_LOCATION_DEVICE, gpu->device, way->device);
        *way = (transfer){.bytes = 0};
    }
    entry->has_transfers = false;
}

bool transfers_output(const kln_exec *exec, size_t index, kiln_tensor *tensor)
{
    const graph_entry *entry = exec->gpu != NULL ? exec->gpu->shown : NULL;
    if (entry == NULL) {
        return false;
    }
    if (exec->slots[index].state == SLOT_CALLER) {
        *tensor = exec->slots[index].tensor;
        return true;
    }
    const transfer *way = &entry->transfers[index];
    *tensor = way->tensor;
    tensor->desc.location = KILN_LOCATION_PINNED;
    tensor->data = way->host;
    return true;
}

/* The tensor of a slot: what the caller bound, or what the backend reports. */
static kiln_status tensor_of(kln_exec *exec, size_t index, kiln_tensor *tensor)
{
    const exec_slot *slot = &exec->slots[index];
    const kiln_binding *binding = exec_binding(exec, index);
    KLN_RETURN_IF(kiln_dtype_bits(binding->dtype) == 0, KILN_ERROR_UNSUPPORTED,
                  "%s \"%s\" is of type %s, which cannot lie in device memory",
                  binding->is_input ? "input" : "output", binding->name,
                  kiln_dtype_name(binding->dtype));
    if (slot->state != SLOT_EMPTY) {
        *tensor = slot->tensor;
        return KILN_OK;
    }
    return exec->shared->backend->context.output(exec->state, index, tensor);
}

static kiln_status make_device(const kln_exec *exec, transfer *way)
{
    if (way->device != NULL || way->host == NULL) {
        return KILN_OK;
    }
    return kln_cuda_allocate(KILN_LOCATION_DEVICE, exec->gpu->device,
                             way->bytes != 0 ? way->bytes : 1, &way->device);
}

static kiln_status make_transfer(kln_exec *exec, size_t index, transfer *way)
{
    const exec_gpu *gpu = exec->gpu;
    kiln_tensor tensor = {.data = NULL};
    if (exec_has_own_value(exec, index)) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(tensor_of(exec, index, &tensor));
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(tensor.desc.dtype, &tensor.desc.shape, &way->bytes));
    way->tensor = tensor;
    way->tensor.desc.location = KILN_LOCATION_DEVICE;
    way->tensor.desc.device = gpu->device;
    way->tensor.bytes = way->bytes;
    const bool is_callers = exec->slots[index].state != SLOT_EMPTY;
    const kiln_location location = is_callers ? tensor.desc.location : KILN_LOCATION_HOST;
    if (location == KILN_LOCATION_DEVICE || location == KILN_LOCATION_MANAGED) {
        return KILN_OK;
    }
    way->host = tensor.data;
    if (location == KILN_LOCATION_HOST) {
        KLN_RETURN_IF_ERROR(kln_cuda_allocate(KILN_LOCATION_PINNED, gpu->device,
                                              way->bytes != 0 ? way->bytes : 1, &way->staging));
        way->host = way->staging;
    }
    KLN_RETURN_IF_ERROR(make_device(exec, way));
    way->tensor.data = way->device;
    way->mode = TRANSFER_COPIED;
    return KILN_OK;
}

kiln_status transfers_make(kln_exec *exec, graph_entry *entry)
{
    if (entry->has_transfers) {
        return transfers_complete(exec, entry);
    }
    entry->has_transfers = true;
    entry->stages = true;
    entry->ahead = false;
    entry->behind = false;
    for (size_t i = 0; i < exec->slot_count; i++) {
        const kiln_status status = make_transfer(exec, i, &entry->transfers[i]);
        if (status != KILN_OK) {
            transfers_drop(exec, entry);
            return kln_fail_within(status, "\"%s\"", exec_binding(exec, i)->name);
        }
    }
    return KILN_OK;
}

kiln_status transfers_complete(const kln_exec *exec, graph_entry *entry)
{
    for (size_t i = 0; i < exec->slot_count; i++) {
        KLN_RETURN_IF_ERROR(make_device(exec, &entry->transfers[i]));
    }
    return KILN_OK;
}

void transfers_trim(const kln_exec *exec, graph_entry *entry)
{
    for (size_t i = 0; i < exec->slot_count; i++) {
        transfer *way = &entry->transfers[i];
        if (way->device != NULL && way->mode == TRANSFER_MAPPED) {
            kln_cuda_release(KILN_LOCATION_DEVICE, exec->gpu->device, way->device);
            way->device = NULL;
        }
    }
}

transfer_load transfers_load(const kln_exec *exec, const graph_entry *entry, bool inputs)
{
    transfer_load load = {0, 0};
    for (EXEC_EACH_SLOT(i, exec, inputs)) {
        const transfer *way = &entry->transfers[i];
        if (way->host != NULL) {
            load.bytes += way->bytes;
            load.ordinary +=
                way->staging != NULL && exec->slots[i].state == SLOT_CALLER ? way->bytes : 0;
        }
    }
    return load;
}

static bool is_outside(transfer_mode mode)
{
    return mode == TRANSFER_OUTSIDE || mode == TRANSFER_DIRECT;
}

void transfers_set(const kln_exec *exec, graph_entry *entry, graph_variant variant)
{
    bool uses_host = false;
    entry->variant = variant;
    entry->stages = false;
    entry->ahead = false;
    entry->behind = false;
    for (size_t i = 0; i < exec->slot_count; i++) {
        transfer *way = &entry->transfers[i];
        if (way->host != NULL) {
            const bool is_input = exec_binding(exec, i)->is_input;
            way->mode = is_input ? variant.in : variant.out;
            way->tensor.data = way->mode == TRANSFER_MAPPED ? way->host : way->device;
            *(is_input ? &entry->ahead : &entry->behind) |= is_outside(way->mode);
            uses_host = true;
        }
        entry->stages |= way->staging != NULL;
    }
    /* If all memory is the device's, the driver reports the end just as fast. */
    entry->fenced = uses_host && !entry->behind && !variant.unfenced &&
                    exec->gpu->fence.word != NULL && !exec->gpu->refuses_fence;
}

/* Bindings that keep their own value go first: resetting one may make the backend forget the
 * others. */
static kiln_status bind_all(kln_exec *exec, const graph_entry *entry, bool own_values)
{
    for (size_t i = own_values ? exec_outputs_end(exec) : 0; i < exec->slot_count; i++) {
        if (exec_has_own_value(exec, i) == own_values) {
            exec->slots[i].pending = true;
            KLN_RETURN_IF_ERROR(
                exec->shared->backend->context.bind(exec->state, i, &entry->transfers[i].tensor));
        }
    }
    return KILN_OK;
}

kiln_status transfers_bind(kln_exec *exec, graph_entry *entry)
{
    exec->ready = false;
    exec->gpu->bound = NULL;
    KLN_RETURN_IF_ERROR(bind_all(exec, entry, true));
    KLN_RETURN_IF_ERROR(bind_all(exec, entry, false));
    exec->gpu->bound = entry;
    return KILN_OK;
}

/* --- copies by the host --- */

/* Whether the driver copies directly from or to the caller's pageable memory. Such a copy blocks
 * until the device gets to it, so a run that is not waited for uses the staging buffer instead. */
static bool is_direct(const kln_exec *exec, const graph_entry *entry, size_t index, bool waits)
{
    const transfer *way = &entry->transfers[index];
    return waits && way->mode == TRANSFER_DIRECT && way->staging != NULL &&
           exec->slots[index].state == SLOT_CALLER;
}

void transfers_copy_in(const kln_exec *exec, const graph_entry *entry, bool waits)
{
    for (EXEC_EACH_SLOT(i, exec, true)) {
        const transfer *way = &entry->transfers[i];
        if (way->staging != NULL && way->bytes != 0 && !is_direct(exec, entry, i, waits)) {
            memcpy(way->staging, exec->slots[i].tensor.data, way->bytes);
        }
    }
}

void transfers_copy_out(const kln_exec *exec, const graph_entry *entry, bool waits)
{
    for (EXEC_EACH_SLOT(i, exec, false)) {
        const transfer *way = &entry->transfers[i];
        const exec_slot *slot = &exec->slots[i];
        if (way->staging != NULL && slot->state == SLOT_CALLER && way->bytes != 0 &&
            !is_direct(exec, entry, i, waits)) {
            memcpy(slot->tensor.data, way->staging, way->bytes);
        }
    }
}

/* --- copies by the device --- */

/* Enqueues the copies of one mode and direction. */
static kiln_status enqueue_copies(const kln_exec *exec, const graph_entry *entry,
                                  kiln_stream *stream, bool inputs, transfer_mode mode, bool waits)
{
    for (EXEC_EACH_SLOT(i, exec, inputs)) {
        const transfer *way = &entry->transfers[i];
        if (way->mode != mode || way->bytes == 0) {
            continue;
        }
        void *host = is_direct(exec, entry, i, waits) ? exec->slots[i].tensor.data : way->host;
        KLN_RETURN_IF_ERROR(kln_cuda_copy(stream->device, inputs ? way->device : host,
                                          inputs ? host : way->device, way->bytes, stream));
    }
    return KILN_OK;
}

static kiln_status enqueue_gathered(const kln_exec *exec, const graph_entry *entry,
                                    kiln_stream *stream, bool inputs)
{
    kln_cuda_piece pieces[KLN_CUDA_PIECES];
    size_t count = 0;
    for (EXEC_EACH_SLOT(i, exec, inputs)) {
        const transfer *way = &entry->transfers[i];
        if (way->mode != TRANSFER_GATHERED || way->bytes == 0) {
            continue;
        }
        if (count == KLN_CUDA_PIECES) {
            KLN_RETURN_IF_ERROR(kln_cuda_gather(stream, pieces, count));
            count = 0;
        }
        pieces[count++] = inputs ? (kln_cuda_piece){way->device, way->host, way->bytes}
                                 : (kln_cuda_piece){way->host, way->device, way->bytes};
    }
    return kln_cuda_gather(stream, pieces, count);
}

kiln_status transfers_enqueue_ahead(const kln_exec *exec, const graph_entry *entry,
                                    kiln_stream *stream, bool waits)
{
    KLN_RETURN_IF_ERROR(enqueue_copies(exec, entry, stream, true, TRANSFER_OUTSIDE, waits));
    return enqueue_copies(exec, entry, stream, true, TRANSFER_DIRECT, waits);
}

kiln_status transfers_enqueue_behind(const kln_exec *exec, const graph_entry *entry,
                                     kiln_stream *stream, bool waits)
{
    KLN_RETURN_IF_ERROR(enqueue_copies(exec, entry, stream, false, TRANSFER_OUTSIDE, waits));
    return enqueue_copies(exec, entry, stream, false, TRANSFER_DIRECT, waits);
}

kiln_status transfers_enqueue_all(kln_exec *exec, graph_entry *entry, kiln_stream *stream)
{
    KLN_RETURN_IF_ERROR(enqueue_copies(exec, entry, stream, true, TRANSFER_COPIED, true));
    KLN_RETURN_IF_ERROR(enqueue_gathered(exec, entry, stream, true));
    KLN_RETURN_IF_ERROR(exec->shared->backend->context.enqueue(exec->state, stream));
    KLN_RETURN_IF_ERROR(enqueue_gathered(exec, entry, stream, false));
    return enqueue_copies(exec, entry, stream, false, TRANSFER_COPIED, true);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "context_parts.h"

/* --- memory --- */

void transfers_drop(kiln_context *context, graph_entry *entry)
{
    context_gpu *gpu = context->gpu;
    for (size_t i = 0; entry->has_transfers && i < context->slot_count; i++) {
        transfer *way = &entry->transfers[i];
        kln_cuda_release(KILN_LOCATION_PINNED, gpu->device, way->staging);
        kln_cuda_release(KILN_LOCATION_DEVICE, gpu->device, way->device);
        *way = (transfer){.bytes = 0};
    }
    entry->has_transfers = false;
}

/* What the backend says, or the caller, of the tensor of a slot. */
static kiln_status tensor_of(kiln_context *context, size_t index, kiln_tensor *tensor)
{
    const context_slot *slot = &context->slots[index];
    if (slot->state != SLOT_EMPTY) {
        *tensor = slot->tensor;
        return KILN_OK;
    }
    const kiln_binding *binding = context_binding(context, index);
    if (kiln_dtype_bits(binding->dtype) == 0) {
        return kln_fail(KILN_ERROR_UNSUPPORTED,
                        "output \"%s\" is of type %s, which cannot lie in device memory",
                        binding->name, kiln_dtype_name(binding->dtype));
    }
    return context->engine->backend->output(context->state, index, tensor);
}

static kiln_status make_device(const kiln_context *context, transfer *way)
{
    if (way->device != NULL || way->host == NULL) {
        return KILN_OK;
    }
    return kln_cuda_allocate(KILN_LOCATION_DEVICE, context->gpu->device,
                             way->bytes != 0 ? way->bytes : 1, &way->device);
}

static kiln_status make_transfer(kiln_context *context, size_t index, transfer *way)
{
    const context_gpu *gpu = context->gpu;
    kiln_tensor tensor = {.data = NULL};
    KLN_RETURN_IF_ERROR(tensor_of(context, index, &tensor));
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(tensor.desc.dtype, &tensor.desc.shape, &way->bytes));
    way->tensor = tensor;
    way->tensor.desc.location = KILN_LOCATION_DEVICE;
    way->tensor.desc.device = gpu->device;
    way->tensor.bytes = way->bytes;
    const bool is_callers = context->slots[index].state != SLOT_EMPTY;
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
    KLN_RETURN_IF_ERROR(make_device(context, way));
    way->tensor.data = way->device;
    way->mode = TRANSFER_COPIED;
    return KILN_OK;
}

kiln_status transfers_make(kiln_context *context, graph_entry *entry)
{
    if (entry->has_transfers) {
        return transfers_complete(context, entry);
    }
    entry->has_transfers = true;
    entry->works_outside = true;
    for (size_t i = 0; i < context->slot_count; i++) {
        const kiln_status status = make_transfer(context, i, &entry->transfers[i]);
        if (status != KILN_OK) {
            transfers_drop(context, entry);
            return kln_fail_within(status, "\"%s\"", context_binding(context, i)->name);
        }
    }
    return KILN_OK;
}

kiln_status transfers_complete(const kiln_context *context, graph_entry *entry)
{
    for (size_t i = 0; i < context->slot_count; i++) {
        KLN_RETURN_IF_ERROR(make_device(context, &entry->transfers[i]));
    }
    return KILN_OK;
}

void transfers_trim(const kiln_context *context, graph_entry *entry)
{
    for (size_t i = 0; i < context->slot_count; i++) {
        transfer *way = &entry->transfers[i];
        if (way->device != NULL && way->mode == TRANSFER_MAPPED) {
            kln_cuda_release(KILN_LOCATION_DEVICE, context->gpu->device, way->device);
            way->device = NULL;
        }
    }
}

transfer_load transfers_load(const kiln_context *context, const graph_entry *entry, bool inputs)
{
    const size_t input_count = context->engine->description.input_count;
    transfer_load load = {0, 0};
    for (size_t i = 0; i < context->slot_count; i++) {
        const transfer *way = &entry->transfers[i];
        if ((i < input_count) == inputs && way->host != NULL) {
            load.bytes += way->bytes;
            load.ordinary +=
                way->staging != NULL && context->slots[i].state == SLOT_CALLER ? way->bytes : 0;
        }
    }
    return load;
}

void transfers_set(const kiln_context *context, graph_entry *entry, graph_variant variant)
{
    const size_t input_count = context->engine->description.input_count;
    entry->works_outside = false;
    for (size_t i = 0; i < context->slot_count; i++) {
        transfer *way = &entry->transfers[i];
        if (way->host != NULL) {
            way->mode = i < input_count ? variant.in : variant.out;
            way->tensor.data = way->mode == TRANSFER_MAPPED ? way->host : way->device;
        }
        entry->works_outside |= way->staging != NULL || way->mode == TRANSFER_OUTSIDE;
    }
}

kiln_status transfers_bind(kiln_context *context, graph_entry *entry)
{
    context->ready = false;
    context->gpu->bound = NULL;
    for (size_t i = 0; i < context->slot_count; i++) {
        context->slots[i].pending = true;
        KLN_RETURN_IF_ERROR(
            context->engine->backend->bind(context->state, i, &entry->transfers[i].tensor));
    }
    context->gpu->bound = entry;
    return KILN_OK;
}

/* --- by the host --- */

/* Whether the driver copies straight from or to the caller's ordinary memory. A run that is not
 * waited for goes through the staging buffer all the same: such a copy waits for the device. */
static bool is_direct(const kiln_context *context, const graph_entry *entry, size_t index,
                      bool waits)
{
    const transfer *way = &entry->transfers[index];
    return waits && way->mode == TRANSFER_DIRECT && way->staging != NULL &&
           context->slots[index].state == SLOT_CALLER;
}

void transfers_copy_in(const kiln_context *context, const graph_entry *entry, bool waits)
{
    for (size_t i = 0; i < context->engine->description.input_count; i++) {
        const transfer *way = &entry->transfers[i];
        if (way->staging != NULL && way->bytes != 0 && !is_direct(context, entry, i, waits)) {
            memcpy(way->staging, context->slots[i].tensor.data, way->bytes);
        }
    }
}

void transfers_copy_out(const kiln_context *context, const graph_entry *entry, bool waits)
{
    for (size_t i = context->engine->description.input_count; i < context->slot_count; i++) {
        const transfer *way = &entry->transfers[i];
        const context_slot *slot = &context->slots[i];
        if (way->staging != NULL && slot->state == SLOT_CALLER && way->bytes != 0 &&
            !is_direct(context, entry, i, waits)) {
            memcpy(slot->tensor.data, way->staging, way->bytes);
        }
    }
}

/* --- by the device --- */

/* The copies of one mode and direction. */
static kiln_status enqueue_copies(const kiln_context *context, const graph_entry *entry,
                                  kiln_stream *stream, bool inputs, transfer_mode mode, bool waits)
{
    const size_t input_count = context->engine->description.input_count;
    const size_t end = inputs ? input_count : context->slot_count;
    for (size_t i = inputs ? 0 : input_count; i < end; i++) {
        const transfer *way = &entry->transfers[i];
        if (way->mode != mode || way->bytes == 0) {
            continue;
        }
        void *host =
            is_direct(context, entry, i, waits) ? context->slots[i].tensor.data : way->host;
        KLN_RETURN_IF_ERROR(kln_cuda_copy(stream->device, inputs ? way->device : host,
                                          inputs ? host : way->device, way->bytes, stream));
    }
    return KILN_OK;
}

static kiln_status enqueue_gathered(const kiln_context *context, const graph_entry *entry,
                                    kiln_stream *stream, bool inputs)
{
    const size_t input_count = context->engine->description.input_count;
    const size_t end = inputs ? input_count : context->slot_count;
    kln_cuda_piece pieces[KLN_CUDA_PIECES];
    size_t count = 0;
    for (size_t i = inputs ? 0 : input_count; i < end; i++) {
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

kiln_status transfers_enqueue_ahead(const kiln_context *context, const graph_entry *entry,
                                    kiln_stream *stream, bool waits)
{
    KLN_RETURN_IF_ERROR(enqueue_copies(context, entry, stream, true, TRANSFER_OUTSIDE, waits));
    return enqueue_copies(context, entry, stream, true, TRANSFER_DIRECT, waits);
}

kiln_status transfers_enqueue_behind(const kiln_context *context, const graph_entry *entry,
                                     kiln_stream *stream, bool waits)
{
    KLN_RETURN_IF_ERROR(enqueue_copies(context, entry, stream, false, TRANSFER_OUTSIDE, waits));
    return enqueue_copies(context, entry, stream, false, TRANSFER_DIRECT, waits);
}

kiln_status transfers_enqueue_all(kiln_context *context, graph_entry *entry, kiln_stream *stream)
{
    KLN_RETURN_IF_ERROR(enqueue_copies(context, entry, stream, true, TRANSFER_COPIED, true));
    KLN_RETURN_IF_ERROR(enqueue_gathered(context, entry, stream, true));
    KLN_RETURN_IF_ERROR(context->engine->backend->enqueue(context->state, stream));
    KLN_RETURN_IF_ERROR(enqueue_gathered(context, entry, stream, false));
    return enqueue_copies(context, entry, stream, false, TRANSFER_COPIED, true);
}

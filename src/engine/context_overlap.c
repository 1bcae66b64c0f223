/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that a run both reads and writes. An input there is read from a copy: taken before each
 * run where the memory is the caller's, and when it is bound where it is that of the last results,
 * which the next run may move or free. */
#include <string.h>

#include "context_parts.h"

static size_t bytes_of(const kiln_tensor *tensor)
{
    size_t bytes = 0;
    return kiln_tensor_bytes(tensor->desc.dtype, &tensor->desc.shape, &bytes) == KILN_OK ? bytes
                                                                                         : 0;
}

static memory_range range_of(const kiln_tensor *tensor, size_t index)
{
    const uintptr_t begin = (uintptr_t)tensor->data;
    return (memory_range){
        .begin = begin, .end = begin + bytes_of(tensor), .index = (uint32_t)index};
}

/* --- ranges in order, mostly sorted already --- */

static void sort(memory_range *ranges, size_t count)
{
    for (size_t gap = count / 2; gap > 0; gap /= 2) {
        for (size_t i = gap; i < count; i++) {
            const memory_range moved = ranges[i];
            size_t at = i;
            for (; at >= gap && ranges[at - gap].begin > moved.begin; at -= gap) {
                ranges[at] = ranges[at - gap];
            }
            ranges[at] = moved;
        }
    }
}

/* Of sorted ranges that do not overlap each other, one that overlaps `sought`; or NULL. */
static const memory_range *find(const memory_range *ranges, size_t count, memory_range sought)
{
    size_t least = 0;
    size_t most = count;
    while (least < most) {
        const size_t middle = least + (most - least) / 2;
        if (ranges[middle].end <= sought.begin) {
            least = middle + 1;
        } else {
            most = middle;
        }
    }
    return least < count && sought.begin < sought.end && ranges[least].begin < sought.end
               ? &ranges[least]
               : NULL;
}

/* Whether a tensor may lie among sorted ranges, by the bytes that it was given with: most do not,
 * and need no closer look. */
static bool is_near(const memory_range *ranges, size_t count, const kiln_tensor *tensor)
{
    const uintptr_t begin = (uintptr_t)tensor->data;
    return count != 0 && begin < ranges[count - 1].end && begin + tensor->bytes > ranges[0].begin;
}

/* --- the copy of an input --- */

void context_overlap_forget(kiln_context *context, context_slot *slot)
{
    context->copied_count -= slot->detour == DETOUR_EACH_RUN;
    context->fed_count -= slot->detour == DETOUR_FED;
    slot->detour = DETOUR_NONE;
}

void context_overlap_release(kiln_context *context, context_slot *slot)
{
    if (slot->copy != NULL) {
        if (context->gpu != NULL) {
            graph_cache_drop_address(context, slot->copy);
        }
        kln_memory_release(slot->copy_location, context->engine->device, slot->copy);
        context->bytes_owned -= slot->copy_bytes;
        slot->copy = NULL;
        slot->copy_bytes = 0;
    }
}

/* Where the device reaches it as it reached the original. */
static kiln_location location_of(const kiln_context *context, kiln_location original)
{
    if (context->gpu == NULL) {
        return KILN_LOCATION_HOST;
    }
    return original == KILN_LOCATION_MANAGED || original == KILN_LOCATION_DEVICE
               ? KILN_LOCATION_DEVICE
               : KILN_LOCATION_PINNED;
}

/* What grows from run to run grows by half, so that most runs find room. */
static kiln_status make_copy(kiln_context *context, size_t index, const kiln_tensor *original,
                             kiln_tensor *copy)
{
    context_slot *slot = &context->slots[index];
    const size_t bytes = bytes_of(original);
    const kiln_location location = location_of(context, original->desc.location);
    if (slot->copy == NULL || slot->copy_bytes < bytes || slot->copy_location != location) {
        const size_t room = slot->copy != NULL ? bytes + bytes / 2 : bytes;
        void *memory = NULL;
        const kiln_status status =
            kln_memory_allocate(location, context->engine->device, room != 0 ? room : 1, &memory);
        if (status != KILN_OK) {
            return kln_fail_within(status, "input \"%s\", which the run overwrites, needs a copy",
                                   context_binding(context, index)->name);
        }
        context_overlap_release(context, slot);
        slot->copy = memory;
        slot->copy_bytes = room;
        slot->copy_location = location;
        context->bytes_owned += room;
    }
    *copy = *original;
    copy->data = slot->copy;
    copy->bytes = bytes;
    copy->desc.location = location;
    copy->desc.device = location == KILN_LOCATION_HOST ? 0 : context->engine->device;
    copy->desc.strides = (kiln_strides){.rank = 0};
    return KILN_OK;
}

/* --- the last results, bound as inputs --- */

/* 0 for what is empty. */
static size_t keep(memory_range *range, const kiln_tensor *tensor, size_t index)
{
    *range = range_of(tensor, index);
    return range->end > range->begin;
}

static bool get_result(kiln_context *context, size_t index, kiln_tensor *tensor)
{
    if (context->slots[index].state != SLOT_EMPTY ||
        kiln_dtype_bits(context_binding(context, index)->dtype) == 0) {
        return false;
    }
    return context_gpu_output(context, index, tensor) ||
           context->engine->backend->output(context->state, index, tensor) == KILN_OK;
}

/* Where they lie, asked for once after a run: a backend hears of what is bound since in the next
 * one only. */
static void know_results(kiln_context *context)
{
    if (!context->results_changed) {
        return;
    }
    context->results_changed = false;
    context->result_count = 0;
    kln_message before;
    kln_message_keep(&before);
    for (size_t i = context->engine->description.input_count; i < context_outputs_end(context);
         i++) {
        kiln_tensor tensor = {.data = NULL};
        if (get_result(context, i, &tensor)) {
            context->result_count += keep(&context->results[context->result_count], &tensor, i);
        }
    }
    kln_message_restore(&before);
    sort(context->results, context->result_count);
}

kiln_status context_overlap_bind(kiln_context *context, size_t index, const kiln_tensor *tensor,
                                 bool *fed)
{
    *fed = false;
    know_results(context);
    const memory_range *result = NULL;
    if (is_near(context->results, context->result_count, tensor)) {
        result = find(context->results, context->result_count, range_of(tensor, index));
    }
    if (result == NULL) {
        return KILN_OK;
    }
    const char *name = context_binding(context, result->index)->name;
    if (!context_binding(context, index)->is_input) {
        return kln_fail(
            KILN_ERROR_INVALID_ARGUMENT,
            "output \"%s\": the memory at %p is the context's own, with the last result "
            "of output \"%s\"; bind memory of your own",
            context_binding(context, index)->name, tensor->data, name);
    }
    context_slot *slot = &context->slots[index];
    kiln_tensor copy;
    KLN_RETURN_IF_ERROR(make_copy(context, index, tensor, &copy));
    memcpy(copy.data, tensor->data, copy.bytes);
    const bool same = slot->state == SLOT_CALLER &&
                      (slot->detour == DETOUR_FED || slot->detour == DETOUR_SPENT) &&
                      slot->tensor.data == copy.data &&
                      slot->tensor.desc.location == copy.desc.location &&
                      kiln_shape_equal(&slot->tensor.desc.shape, &copy.desc.shape);
    context_overlap_forget(context, slot);
    slot->detour = DETOUR_FED;
    context->fed_count++;
    slot->fed_by = result->index;
    slot->original = *tensor;
    if (!same) {
        context_move(context, index, &copy);
    }
    *fed = true;
    return KILN_OK;
}

void context_overlap_spend(kiln_context *context)
{
    for (size_t i = 0; context->fed_count != 0; i++) {
        context_slot *slot = &context->slots[i];
        if (slot->detour == DETOUR_FED) {
            slot->detour = DETOUR_SPENT;
            context->fed_count--;
            context->has_spent = true;
        }
    }
}

kiln_status context_overlap_check(kiln_context *context)
{
    const size_t input_count = context->engine->description.input_count;
    for (size_t i = 0; context->has_spent && i < input_count; i++) {
        const context_slot *slot = &context->slots[i];
        if (slot->detour == DETOUR_SPENT) {
            return kln_fail(KILN_ERROR_STATE,
                            "input \"%s\" is bound to the result of output \"%s\" of an earlier "
                            "run, which the last one replaced; bind it again for each run, or bind "
                            "both to memory of your own",
                            context_binding(context, i)->name,
                            context_binding(context, slot->fed_by)->name);
        }
    }
    context->has_spent = false;
    return KILN_OK;
}

/* --- memory of the caller's --- */

static kiln_status list_outputs(kiln_context *context, memory_range *ranges, size_t *count)
{
    *count = 0;
    for (size_t i = context->engine->description.input_count; i < context_outputs_end(context);
         i++) {
        const context_slot *slot = &context->slots[i];
        if (slot->state == SLOT_CALLER) {
            *count += keep(&ranges[*count], &slot->tensor, i);
        }
    }
    sort(ranges, *count);
    for (size_t i = 1; i < *count; i++) {
        if (ranges[i].begin < ranges[i - 1].end) {
            return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                            "outputs \"%s\" and \"%s\" are bound to memory that overlaps, so one "
                            "would be written over the other",
                            context_binding(context, ranges[i - 1].index)->name,
                            context_binding(context, ranges[i].index)->name);
        }
    }
    return KILN_OK;
}

/* The memory that the input was bound to, or that is the context's for it. */
static const kiln_tensor *original_of(const context_slot *slot)
{
    return slot->detour == DETOUR_EACH_RUN ? &slot->original : &slot->tensor;
}

static kiln_status settle_input(kiln_context *context, size_t index, bool overlaps)
{
    context_slot *slot = &context->slots[index];
    if (overlaps == (slot->detour == DETOUR_EACH_RUN)) {
        return KILN_OK;
    }
    if (!overlaps) {
        context_overlap_forget(context, slot);
        context_move(context, index, &slot->original);
        return KILN_OK;
    }
    kiln_tensor copy;
    KLN_RETURN_IF_ERROR(make_copy(context, index, &slot->tensor, &copy));
    slot->original = slot->tensor;
    slot->detour = DETOUR_EACH_RUN;
    context->copied_count++;
    context_move(context, index, &copy);
    return KILN_OK;
}

kiln_status context_overlap_settle(kiln_context *context)
{
    memory_range *outputs = context->ranges;
    size_t count = 0;
    KLN_RETURN_IF_ERROR(list_outputs(context, outputs, &count));
    if (count == 0 && context->copied_count == 0) {
        return KILN_OK;
    }
    for (size_t i = 0; i < context->slot_count; i++) {
        const context_slot *slot = &context->slots[i];
        if (!context_binding(context, i)->is_input || slot->state == SLOT_EMPTY ||
            slot->detour == DETOUR_FED) {
            continue; /* what was fed lies in a copy already */
        }
        const kiln_tensor *original = original_of(slot);
        const bool overlaps = is_near(outputs, count, original) &&
                              find(outputs, count, range_of(original, i)) != NULL;
        KLN_RETURN_IF_ERROR(settle_input(context, i, overlaps));
    }
    return KILN_OK;
}

static kiln_status copy_on_device(kiln_context *context, const context_slot *slot,
                                  kiln_stream *stream)
{
    const context_gpu *gpu = context->gpu;
    kiln_stream *on = stream != NULL ? stream : gpu->caller;
    const bool shared = on == NULL && gpu->shared;
    if (shared) {
        (void)pthread_mutex_lock(&context->engine->order);
    }
    const kiln_status status =
        kln_cuda_copy(context->engine->device, slot->tensor.data, slot->original.data,
                      slot->tensor.bytes, on != NULL ? on : gpu->work);
    if (shared) {
        (void)pthread_mutex_unlock(&context->engine->order);
    }
    return status;
}

kiln_status context_overlap_copy(kiln_context *context, kiln_stream *stream)
{
    kiln_status status = KILN_OK;
    size_t left = context->copied_count;
    for (size_t i = 0; left != 0 && status == KILN_OK; i++) {
        const context_slot *slot = &context->slots[i];
        if (slot->detour != DETOUR_EACH_RUN) {
            continue;
        }
        left--;
        if (slot->tensor.bytes == 0) {
            continue;
        }
        if (slot->copy_location == KILN_LOCATION_DEVICE) {
            status = copy_on_device(context, slot, stream);
        } else {
            memcpy(slot->tensor.data, slot->original.data, slot->tensor.bytes);
        }
    }
    return status;
}

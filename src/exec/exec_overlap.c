/* SPDX-License-Identifier: Apache-2.0 */
/* Handles memory that a run both reads and writes. The run reads such an input from a copy. If the
 * caller owns the memory, the copy is taken before each run. If the memory holds the last results,
 * which the next run may move or free, the copy is taken when the input is bound. */
#include "exec_parts.h"

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

/* --- sorted ranges; shell sort, because they are mostly in order already --- */

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

/* Finds a range that overlaps `sought` among sorted ranges that do not overlap each other, or
 * NULL. */
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

/* A cheap test for whether a tensor may overlap any of the sorted ranges, by the size in bytes it
 * was given with; it rules out most tensors. */
static bool is_near(const memory_range *ranges, size_t count, const kiln_tensor *tensor)
{
    const uintptr_t begin = (uintptr_t)tensor->data;
    return count != 0 && begin < ranges[count - 1].end && begin + tensor->bytes > ranges[0].begin;
}

/* --- the copy of an input --- */

void exec_overlap_forget(kln_exec *exec, exec_slot *slot)
{
    exec->copied_count -= slot->detour == DETOUR_EACH_RUN;
    exec->fed_count -= slot->detour == DETOUR_FED;
    slot->detour = DETOUR_NONE;
}

void exec_overlap_release(kln_exec *exec, exec_slot *slot)
{
    if (slot->copy != NULL) {
        if (exec->gpu != NULL) {
            graph_cache_drop_address(exec, slot->copy);
        }
        kln_memory_release(slot->copy_location, exec->shared->device, slot->copy);
        exec->bytes_owned -= slot->copy_bytes;
        slot->copy = NULL;
        slot->copy_bytes = 0;
    }
}

/* The copy must be as accessible to the device as the original was. */
static kiln_location location_of(const kln_exec *exec, const kiln_tensor_desc *original)
{
    if (exec->gpu == NULL || original->dtype == KILN_DTYPE_STRING) {
        return KILN_LOCATION_HOST;
    }
    return original->location == KILN_LOCATION_MANAGED || original->location == KILN_LOCATION_DEVICE
               ? KILN_LOCATION_DEVICE
               : KILN_LOCATION_PINNED;
}

/* A copy that has to grow gets half as much again, so that most later runs fit. */
static kiln_status make_copy(kln_exec *exec, size_t index, const kiln_tensor *original,
                             kiln_tensor *copy)
{
    exec_slot *slot = &exec->slots[index];
    const size_t bytes = bytes_of(original);
    const kiln_location location = location_of(exec, &original->desc);
    if (slot->copy == NULL || slot->copy_bytes < bytes || slot->copy_location != location) {
        const size_t room = slot->copy != NULL ? bytes + bytes / 2 : bytes;
        void *memory = NULL;
        KLN_RETURN_WITHIN(
            kln_memory_allocate(location, exec->shared->device, room != 0 ? room : 1, &memory),
            "input \"%s\", which the run overwrites, needs a copy",
            exec_binding(exec, index)->name);
        exec_overlap_release(exec, slot);
        slot->copy = memory;
        slot->copy_bytes = room;
        slot->copy_location = location;
        exec->bytes_owned += room;
    }
    *copy = *original;
    copy->data = slot->copy;
    copy->bytes = bytes;
    copy->desc.location = location;
    copy->desc.device = location == KILN_LOCATION_HOST ? 0 : exec->shared->device;
    copy->desc.strides = (kiln_strides){.rank = 0};
    return KILN_OK;
}

/* --- the last results, bound as inputs --- */

/* Returns how many ranges were stored: 0 for an empty tensor. */
static size_t keep(memory_range *range, const kiln_tensor *tensor, size_t index)
{
    *range = range_of(tensor, index);
    return range->end > range->begin;
}

static bool get_result(kln_exec *exec, size_t index, kiln_tensor *tensor)
{
    if (exec->slots[index].state != SLOT_EMPTY ||
        !kln_dtype_is_bindable(exec_binding(exec, index)->dtype)) {
        return false;
    }
    if (exec->slots[index].strings != NULL) {
        *tensor = *exec_strings_shown(exec, index);
        return true;
    }
    return transfers_output(exec, index, tensor) ||
           exec->shared->backend->context.output(exec->state, index, tensor) == KILN_OK;
}

/* Asks where the results are once after a run. The answer stays valid until the next run, because
 * the backend learns of new bindings only then. */
void exec_overlap_know_results(kln_exec *exec)
{
    if (!exec->results_changed) {
        return;
    }
    exec->results_changed = false;
    exec->result_count = 0;
    KLN_MESSAGE_STAYS;
    for (size_t i = exec->shared->description.input_count; i < exec_outputs_end(exec); i++) {
        kiln_tensor tensor = {.data = NULL};
        if (get_result(exec, i, &tensor)) {
            exec->result_count += keep(&exec->results[exec->result_count], &tensor, i);
        }
    }
    sort(exec->results, exec->result_count);
}

kiln_status exec_overlap_bind(kln_exec *exec, size_t index, const kiln_tensor *tensor, bool *fed)
{
    *fed = false;
    exec_overlap_know_results(exec);
    const memory_range *result = NULL;
    if (is_near(exec->results, exec->result_count, tensor)) {
        result = find(exec->results, exec->result_count, range_of(tensor, index));
    }
    if (result == NULL) {
        return KILN_OK;
    }
    const char *name = exec_binding(exec, result->index)->name;
    KLN_RETURN_IF(!exec_binding(exec, index)->is_input, KILN_ERROR_INVALID_ARGUMENT,
                  "output \"%s\": the memory at %p is the context's own, with the last result "
                  "of output \"%s\"; bind memory of your own",
                  exec_binding(exec, index)->name, tensor->data, name);
    exec_slot *slot = &exec->slots[index];
    kiln_tensor copy;
    KLN_RETURN_IF_ERROR(make_copy(exec, index, tensor, &copy));
    memcpy(copy.data, tensor->data, copy.bytes);
    const bool same = slot->state == SLOT_CALLER &&
                      (slot->detour == DETOUR_FED || slot->detour == DETOUR_SPENT) &&
                      slot->tensor.data == copy.data &&
                      slot->tensor.desc.location == copy.desc.location &&
                      kiln_shape_equal(&slot->tensor.desc.shape, &copy.desc.shape);
    exec_overlap_forget(exec, slot);
    slot->detour = DETOUR_FED;
    exec->fed_count++;
    slot->fed_by = result->index;
    slot->original = *tensor;
    if (!same) {
        slot->tensor = copy;
        exec_mark_pending(exec, slot);
    }
    *fed = true;
    return KILN_OK;
}

void kln_exec_spend(kln_exec *exec)
{
    for (size_t i = 0; exec->fed_count != 0; i++) {
        exec_slot *slot = &exec->slots[i];
        if (slot->detour == DETOUR_FED) {
            slot->detour = DETOUR_SPENT;
            exec->fed_count--;
            exec->has_spent = true;
        }
    }
}

kiln_status exec_overlap_check(kln_exec *exec)
{
    for (size_t i = 0; exec->has_spent && i < exec->slot_count; i++) {
        const exec_slot *slot = &exec->slots[i];
        KLN_RETURN_IF(slot->detour == DETOUR_SPENT, KILN_ERROR_STATE,
                      "input \"%s\" is bound to the result of output \"%s\" of an earlier "
                      "run, which the last one replaced; bind it again for each run, or bind "
                      "both to memory of your own",
                      exec_binding(exec, i)->name, exec_binding(exec, slot->fed_by)->name);
    }
    exec->has_spent = false;
    return KILN_OK;
}

/* --- memory that the caller owns --- */

static kiln_status list_outputs(kln_exec *exec, memory_range *ranges, size_t *count)
{
    *count = 0;
    for (size_t i = exec->shared->description.input_count; i < exec_outputs_end(exec); i++) {
        const exec_slot *slot = &exec->slots[i];
        if (slot->state == SLOT_CALLER) {
            *count += keep(&ranges[*count], &slot->tensor, i);
        }
    }
    sort(ranges, *count);
    for (size_t i = 1; i < *count; i++) {
        KLN_RETURN_IF(ranges[i].begin < ranges[i - 1].end, KILN_ERROR_INVALID_ARGUMENT,
                      "outputs \"%s\" and \"%s\" are bound to memory that overlaps, so one "
                      "would be written over the other",
                      exec_binding(exec, ranges[i - 1].index)->name,
                      exec_binding(exec, ranges[i].index)->name);
    }
    return KILN_OK;
}

/* The memory that the input was bound to, or the context's own memory for it. */
static const kiln_tensor *original_of(const exec_slot *slot)
{
    return slot->detour == DETOUR_EACH_RUN ? &slot->original : &slot->tensor;
}

static kiln_status settle_input(kln_exec *exec, size_t index, bool overlaps)
{
    exec_slot *slot = &exec->slots[index];
    if (overlaps == (slot->detour == DETOUR_EACH_RUN)) {
        return KILN_OK;
    }
    if (!overlaps) {
        exec_overlap_forget(exec, slot);
        slot->tensor = slot->original;
        exec_mark_pending(exec, slot);
        return KILN_OK;
    }
    kiln_tensor copy;
    KLN_RETURN_IF_ERROR(make_copy(exec, index, &slot->tensor, &copy));
    slot->original = slot->tensor;
    slot->detour = DETOUR_EACH_RUN;
    exec->copied_count++;
    slot->tensor = copy;
    exec_mark_pending(exec, slot);
    return KILN_OK;
}

kiln_status exec_overlap_settle(kln_exec *exec)
{
    memory_range *outputs = exec->ranges;
    size_t count = 0;
    KLN_RETURN_IF_ERROR(list_outputs(exec, outputs, &count));
    if (count == 0 && exec->copied_count == 0) {
        return KILN_OK;
    }
    for (size_t i = 0; i < exec->slot_count; i++) {
        const exec_slot *slot = &exec->slots[i];
        if (!exec_binding(exec, i)->is_input || slot->state == SLOT_EMPTY ||
            slot->detour == DETOUR_FED) {
            continue; /* a fed-back result is in a copy already */
        }
        const kiln_tensor *original = original_of(slot);
        const bool overlaps = is_near(outputs, count, original) &&
                              find(outputs, count, range_of(original, i)) != NULL;
        KLN_RETURN_IF_ERROR(settle_input(exec, i, overlaps));
    }
    return KILN_OK;
}

static kiln_status copy_on_device(kln_exec *exec, const exec_slot *slot, kiln_stream *stream)
{
    const exec_gpu *gpu = exec->gpu;
    kiln_stream *on = stream != NULL ? stream : gpu->caller;
    if (on == NULL) {
        exec_gpu_lock(exec);
    }
    const kiln_status status =
        kln_cuda_copy(exec->shared->device, slot->tensor.data, slot->original.data,
                      slot->tensor.bytes, on != NULL ? on : gpu->work);
    if (on == NULL) {
        exec_gpu_unlock(exec);
    }
    return status;
}

kiln_status exec_overlap_copy(kln_exec *exec, kiln_stream *stream)
{
    size_t left = exec->copied_count;
    for (size_t i = 0; left != 0; i++) {
        const exec_slot *slot = &exec->slots[i];
        if (slot->detour != DETOUR_EACH_RUN) {
            continue;
        }
        left--;
        if (slot->tensor.bytes == 0) {
            continue;
        }
        if (slot->copy_location == KILN_LOCATION_DEVICE) {
            KLN_RETURN_IF_ERROR(copy_on_device(exec, slot, stream));
        } else {
            memcpy(slot->tensor.data, slot->original.data, slot->tensor.bytes);
        }
    }
    return KILN_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "exec_parts.h"

/* --- memory that the context owns --- */

/* Pinned for a GPU, which can access it directly; but strings never go to a GPU. */
static kiln_location owned_location(const kln_exec *exec, const exec_slot *slot)
{
    const kiln_binding *binding = exec_binding(exec, (size_t)(slot - exec->slots));
    return exec->shared->device >= 0 && binding->dtype != KILN_DTYPE_STRING ? KILN_LOCATION_PINNED
                                                                            : KILN_LOCATION_HOST;
}

void exec_release_owned(kln_exec *exec, exec_slot *slot)
{
    if (slot->owned == NULL) {
        return;
    }
    kln_memory_release(owned_location(exec, slot), exec->shared->device, slot->owned);
    slot->owned = NULL;
}

static void drop_fill(kln_exec *exec, exec_slot *changed)
{
    if (changed->fill != NULL) {
        changed->fill = NULL;
        exec->fill_count--;
    }
}

static void drop_owned(kln_exec *exec, exec_slot *changed)
{
    if (exec->gpu != NULL && changed->owned != NULL) {
        graph_cache_drop_address(exec, changed->owned);
    }
    exec->bytes_owned -= changed->owned_bytes;
    exec_release_owned(exec, changed);
    changed->owned_bytes = 0;
}

/* On a GPU, releasing this memory drops the cache entries that use it. One of them may hold the
 * last results, which the caller may be about to bind, so the memory stays until the next run. */
static void retire_owned(kln_exec *exec, exec_slot *changed)
{
    if (exec->gpu == NULL || changed->owned == NULL) {
        drop_owned(exec, changed);
        return;
    }
    exec->bytes_owned -= changed->owned_bytes;
    changed->owned_bytes = 0;
    exec->retired = true;
}

void exec_drop_retired(kln_exec *exec)
{
    for (size_t i = 0; exec->retired && i < exec->slot_count; i++) {
        if (exec->slots[i].state != SLOT_OWNED) {
            drop_owned(exec, &exec->slots[i]);
        }
    }
    exec->retired = false;
}

/* A fed-back result (DETOUR_FED) is a new one after each run, even at the same address. */
static bool same_view(const exec_slot *bound, const kiln_tensor *tensor)
{
    const kiln_tensor *known = exec_given(bound);
    return bound->state == SLOT_CALLER && known->data == tensor->data &&
           known->bytes == tensor->bytes && known->desc.location == tensor->desc.location &&
           bound->detour <= DETOUR_EACH_RUN &&
           kiln_shape_equal(&known->desc.shape, &tensor->desc.shape);
}

kiln_status kln_exec_bind(kln_exec *exec, size_t index, const kiln_tensor *tensor)
{
    exec_slot *changed = &exec->slots[index];
    bool fed = false;
    if (same_view(changed, tensor)) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(exec_overlap_bind(exec, index, tensor, &fed));
    if (!fed) {
        exec_overlap_forget(exec, changed);
        changed->tensor = *tensor;
        exec_mark_pending(exec, changed);
    }
    drop_fill(exec, changed);
    retire_owned(exec, changed);
    changed->state = SLOT_CALLER;
    return KILN_OK;
}

void kln_exec_unbind(kln_exec *exec, size_t index)
{
    exec_slot *changed = &exec->slots[index];
    if (changed->state == SLOT_EMPTY) {
        return;
    }
    /* The last run wrote its result to the caller's memory; once unbound, the slot would look as if
     * the context owned that result. */
    exec_overlap_know_results(exec);
    exec_overlap_forget(exec, changed);
    drop_fill(exec, changed);
    retire_owned(exec, changed);
    changed->state = SLOT_EMPTY;
    changed->tensor = (kiln_tensor){.data = NULL};
    exec_mark_pending(exec, changed);
    if (index >= exec_outputs_end(exec)) {
        /* A backend may have to forget all bindings to forget one. */
        for (size_t i = 0; i < exec->slot_count; i++) {
            exec->slots[i].pending |= i != index && (exec->slots[i].state != SLOT_EMPTY ||
                                                     !exec_binding(exec, i)->is_input);
        }
    }
}

/* Gives input `index` memory of this shape that the context owns; memory that is large enough is
 * reused. */
static kiln_status set_owned(kln_exec *exec, size_t index, const kiln_shape *shape)
{
    const kiln_binding *binding = exec_binding(exec, index);
    exec_slot *changed = &exec->slots[index];
    size_t bytes = 0;
    kiln_status status = kiln_tensor_bytes(binding->dtype, shape, &bytes);
    KLN_FAIL_IF(status != KILN_OK, kln_fail_within(status, "input \"%s\"", binding->name));
    if (changed->state == SLOT_OWNED && kiln_shape_equal(&changed->tensor.desc.shape, shape)) {
        return KILN_OK;
    }
    if (bytes > changed->owned_bytes || changed->owned == NULL) {
        void *memory = NULL;
        status = kln_memory_allocate(owned_location(exec, changed), exec->shared->device,
                                     bytes != 0 ? bytes : 1, &memory);
        KLN_FAIL_IF(status != KILN_OK, kln_fail_within(status, "input \"%s\"", binding->name));
        drop_owned(exec, changed);
        changed->owned = memory;
        changed->owned_bytes = bytes;
        exec->bytes_owned += bytes;
    }
    memset(changed->owned, 0, bytes);
    exec_overlap_forget(exec, changed);
    changed->state = SLOT_OWNED;
    changed->tensor = KILN_HOST_TENSOR(binding->dtype, *shape, changed->owned, bytes);
    changed->tensor.desc.location = owned_location(exec, changed);
    exec_mark_pending(exec, changed);
    return KILN_OK;
}

kiln_status kln_exec_reshape(kln_exec *exec, size_t index, const kiln_shape *shape,
                             kiln_fill_function fill, void *user)
{
    const kiln_binding *binding = exec_binding(exec, index);
    KLN_RETURN_IF_ERROR(exec_check_dtype(binding));
    int64_t elements = 0;
    KLN_RETURN_WITHIN(kiln_shape_elements(shape, &elements), "input \"%s\"", binding->name);
    KLN_RETURN_IF_ERROR(kln_exec_check_shape(binding, shape));
    KLN_RETURN_IF_ERROR(set_owned(exec, index, shape));
    exec_slot *slot = &exec->slots[index];
    drop_fill(exec, slot);
    slot->fill = fill;
    slot->fill_user = user;
    exec->fill_count += fill != NULL;
    return KILN_OK;
}

/* --- showing tensors --- */

static kiln_status show_input(kln_exec *exec, size_t index, kiln_tensor *tensor)
{
    const kiln_binding *binding = exec_binding(exec, index);
    if (exec->slots[index].state == SLOT_EMPTY) {
        KLN_RETURN_IF_ERROR(exec_check_dtype(binding));
        if (binding->shape.rank < 0 || !kiln_shape_is_static(&binding->shape)) {
            char shape[KLN_SHAPE_TEXT];
            (void)kiln_shape_format(&binding->shape, shape, sizeof shape);
            return kln_fail(KILN_ERROR_NOT_BOUND,
                            "input \"%s\" %s %s and no memory yet; bind it, or give it a shape "
                            "with kiln_context_reshape",
                            binding->name, binding->shape.rank < 0 ? "may have" : "has the shape",
                            shape);
        }
        KLN_RETURN_IF_ERROR(set_owned(exec, index, &binding->shape));
    }
    *tensor = *exec_given(&exec->slots[index]);
    return KILN_OK;
}

static kiln_status show_output(kln_exec *exec, size_t index, kiln_tensor *tensor)
{
    KLN_RETURN_IF(!exec->has_results, KILN_ERROR_STATE,
                  "output \"%s\": there is no result yet, or what was bound has changed "
                  "since; run the context first",
                  exec_binding(exec, index)->name);
    KLN_RETURN_IF_ERROR(exec_check_dtype(exec_binding(exec, index)));
    if (exec->slots[index].strings != NULL) {
        *tensor = *exec_strings_shown(exec, index);
        return KILN_OK;
    }
    if (transfers_output(exec, index, tensor)) {
        return KILN_OK;
    }
    return exec->shared->backend->context.output(exec->state, index, tensor);
}

kiln_status kln_exec_show(kln_exec *exec, size_t index, kiln_tensor *tensor)
{
    return exec_binding(exec, index)->is_input ? show_input(exec, index, tensor)
                                               : show_output(exec, index, tensor);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "context_parts.h"

/* --- does a tensor fit a binding --- */

static const char *kind_of(const kiln_binding *binding)
{
    return binding->is_input ? "input" : "output";
}

static bool shape_fits(const kiln_binding *binding, const kiln_shape *shape)
{
    bool fits = shape->rank == binding->shape.rank;
    for (int32_t i = 0; fits && i < shape->rank; i++) {
        fits = binding->shape.dims[i] < 0 || binding->shape.dims[i] == shape->dims[i];
    }
    return fits;
}

static kiln_status check_shape(const kiln_binding *binding, const kiln_shape *shape)
{
    if (binding->shape.rank < 0 || shape_fits(binding, shape)) {
        return KILN_OK;
    }
    char expected[KLN_SHAPE_TEXT];
    char found[KLN_SHAPE_TEXT];
    (void)kiln_shape_format(&binding->shape, expected, sizeof expected);
    (void)kiln_shape_format(shape, found, sizeof found);
    if (shape->rank != binding->shape.rank) {
        return kln_fail(
            KILN_ERROR_RANK, "%s \"%s\": %d dimensions (%s) are needed, %d were given (%s)",
            kind_of(binding), binding->name, binding->shape.rank, expected, shape->rank, found);
    }
    for (int32_t i = 0; i < shape->rank; i++) {
        if (binding->shape.dims[i] >= 0 && binding->shape.dims[i] != shape->dims[i]) {
            return kln_fail(KILN_ERROR_SHAPE,
                            "%s \"%s\": dimension %d must be %lld, it is %lld; %s is needed, %s "
                            "was given",
                            kind_of(binding), binding->name, i, (long long)binding->shape.dims[i],
                            (long long)shape->dims[i], expected, found);
        }
    }
    return KILN_OK;
}

static kiln_status check_dtype(const kiln_binding *binding)
{
    if (kiln_dtype_bits(binding->dtype) == 0) {
        return kln_fail(
            KILN_ERROR_DTYPE, "%s \"%s\" is of type %s, which cannot be bound", kind_of(binding),
            binding->name,
            binding->dtype == KILN_DTYPE_STRING ? "string" : "sequence, map or unknown");
    }
    return KILN_OK;
}

static kiln_status check_place(const kiln_context *context, const kiln_binding *binding,
                               const kiln_tensor_desc *desc)
{
    const bool on_device = desc->location == KILN_LOCATION_DEVICE;
    if ((int)desc->location < 0 || desc->location > KILN_LOCATION_DEVICE ||
        (on_device && (context->engine->info.capabilities & KILN_CAPABILITY_DEVICE_MEMORY) == 0)) {
        return kln_fail(KILN_ERROR_UNSUPPORTED, "%s \"%s\": the %s backend takes no %s memory",
                        kind_of(binding), binding->name, context->engine->info.name,
                        kiln_location_name(desc->location));
    }
    if (on_device && desc->device != context->engine->device) {
        return kln_fail(KILN_ERROR_UNSUPPORTED,
                        "%s \"%s\": memory of device %d was given, the engine is on device %d",
                        kind_of(binding), binding->name, desc->device, context->engine->device);
    }
    if (desc->format != KILN_FORMAT_LINEAR) {
        return kln_fail(KILN_ERROR_UNSUPPORTED,
                        "%s \"%s\": format %d was given, the %s backend takes linear tensors only",
                        kind_of(binding), binding->name, (int)desc->format,
                        context->engine->info.name);
    }
    if (!kln_strides_are_dense(&desc->shape, &desc->strides)) {
        return kln_fail(KILN_ERROR_UNSUPPORTED,
                        "%s \"%s\": the strides leave gaps or change the order; copy the tensor so "
                        "that it is dense",
                        kind_of(binding), binding->name);
    }
    return KILN_OK;
}

/* What the caller bound. */
static const kiln_tensor *given(const context_slot *bound)
{
    return bound->detour == DETOUR_NONE ? &bound->tensor : &bound->original;
}

/* A result that is fed back is another one after each run. */
static bool same_view(const context_slot *bound, const kiln_tensor *tensor)
{
    const kiln_tensor *known = given(bound);
    return bound->state == SLOT_CALLER && known->data == tensor->data &&
           known->bytes == tensor->bytes && known->desc.location == tensor->desc.location &&
           bound->detour <= DETOUR_EACH_RUN &&
           kiln_shape_equal(&known->desc.shape, &tensor->desc.shape);
}

/* As much as any element needs, so that addresses that are so far apart are aligned alike. */
#define MOST_ALIGNMENT ((uintptr_t)16)

/* What a caller binds again and again is looked at once, whatever memory it is in. */
static bool was_checked(const context_slot *bound, const kiln_tensor *tensor)
{
    const kiln_tensor *known = given(bound);
    const kiln_tensor_desc *a = &known->desc;
    const kiln_tensor_desc *b = &tensor->desc;
    return bound->state == SLOT_CALLER && tensor->data != NULL && known->data != NULL &&
           ((uintptr_t)tensor->data - (uintptr_t)known->data) % MOST_ALIGNMENT == 0 &&
           known->bytes == tensor->bytes && a->dtype == b->dtype && a->format == b->format &&
           a->location == b->location && a->device == b->device && a->strides.rank == 0 &&
           b->strides.rank == 0 && kiln_shape_equal(&a->shape, &b->shape);
}

/* What is wrong with it, or that it is only rare. */
static kiln_status look_closer(const kiln_binding *binding, const kiln_tensor *tensor)
{
    char what[300];
    KLN_RETURN_IF_ERROR(check_dtype(binding));
    if (tensor->desc.dtype != binding->dtype) {
        return kln_fail(KILN_ERROR_DTYPE, "%s \"%s\": %s is needed, %s was given", kind_of(binding),
                        binding->name, kiln_dtype_name(binding->dtype),
                        kiln_dtype_name(tensor->desc.dtype));
    }
    if (tensor->desc.shape.rank >= 0 && tensor->desc.shape.rank <= KILN_MAX_RANK) {
        KLN_RETURN_IF_ERROR(check_shape(binding, &tensor->desc.shape));
    }
    (void)snprintf(what, sizeof what, "%s \"%.250s\"", kind_of(binding), binding->name);
    return kln_tensor_check(what, tensor);
}

kiln_status context_check_tensor(const kiln_context *context, size_t index,
                                 const kiln_tensor *tensor)
{
    const kiln_binding *binding = context_binding(context, index);
    if (was_checked(&context->slots[index], tensor)) {
        return KILN_OK;
    }
    const bool is_sound = tensor->desc.dtype == binding->dtype && kln_tensor_is_sound(tensor) &&
                          (binding->shape.rank < 0 || shape_fits(binding, &tensor->desc.shape));
    if (!is_sound) {
        KLN_RETURN_IF_ERROR(look_closer(binding, tensor));
    }
    return check_place(context, binding, &tensor->desc);
}

/* --- changing a slot --- */

static void mark_pending(kiln_context *context, context_slot *changed)
{
    changed->pending = true;
    context->ready = false;
    context->settled = false;
    context->has_results = false;
    if (context->gpu != NULL) {
        context->gpu->current = NULL;
    }
}

static void drop_fill(kiln_context *context, context_slot *changed)
{
    if (changed->fill != NULL) {
        changed->fill = NULL;
        context->fill_count--;
    }
}

static void drop_owned(kiln_context *context, context_slot *changed)
{
    if (context->gpu != NULL && changed->owned != NULL) {
        graph_cache_drop_address(context, changed->owned);
    }
    context->bytes_owned -= changed->owned_bytes;
    context_release_owned(context, changed);
    changed->owned_bytes = 0;
}

static bool is_taking_back(const kiln_tensor *tensor)
{
    return tensor->data == NULL && tensor->bytes == 0 && tensor->desc.shape.rank == 0 &&
           tensor->desc.dtype == KILN_DTYPE_UNDEFINED;
}

/* Entries of a GPU that know this memory go with it, and one of them may have the last results,
 * which the caller may be about to bind: there it stays until the next run. */
static void retire_owned(kiln_context *context, context_slot *changed)
{
    if (context->gpu == NULL || changed->owned == NULL) {
        drop_owned(context, changed);
        return;
    }
    context->bytes_owned -= changed->owned_bytes;
    changed->owned_bytes = 0;
    context->retired = true;
}

void context_drop_retired(kiln_context *context)
{
    for (size_t i = 0; context->retired && i < context->slot_count; i++) {
        if (context->slots[i].state != SLOT_OWNED) {
            drop_owned(context, &context->slots[i]);
        }
    }
    context->retired = false;
}

void context_move(kiln_context *context, size_t index, const kiln_tensor *tensor)
{
    context->slots[index].tensor = *tensor;
    mark_pending(context, &context->slots[index]);
}

kiln_status context_set_caller(kiln_context *context, size_t index, const kiln_tensor *tensor)
{
    context_slot *changed = &context->slots[index];
    bool fed = false;
    if (same_view(changed, tensor)) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(context_overlap_bind(context, index, tensor, &fed));
    if (!fed) {
        context_overlap_forget(context, changed);
        context_move(context, index, tensor);
    }
    drop_fill(context, changed);
    retire_owned(context, changed);
    changed->state = SLOT_CALLER;
    return KILN_OK;
}

void context_set_empty(kiln_context *context, size_t index)
{
    context_slot *changed = &context->slots[index];
    if (changed->state == SLOT_EMPTY) {
        return;
    }
    context_overlap_forget(context, changed);
    drop_fill(context, changed);
    retire_owned(context, changed);
    changed->state = SLOT_EMPTY;
    context_move(context, index, &(kiln_tensor){.data = NULL});
    if (index >= context_outputs_end(context)) {
        /* A backend may have to forget everything in order to forget one value. */
        for (size_t i = 0; i < context->slot_count; i++) {
            context->slots[i].pending |= i != index && (context->slots[i].state != SLOT_EMPTY ||
                                                        !context_binding(context, i)->is_input);
        }
    }
}

/* Where the context's own memory for an input lies: for a GPU where it reaches it by itself. */
static kiln_location owned_location(const kiln_context *context)
{
    return context->gpu != NULL ? KILN_LOCATION_PINNED : KILN_LOCATION_HOST;
}

/* Memory of the context for input `index` of this shape, kept where it is large enough already. */
static kiln_status set_owned(kiln_context *context, size_t index, const kiln_shape *shape)
{
    const kiln_binding *binding = context_binding(context, index);
    context_slot *changed = &context->slots[index];
    size_t bytes = 0;
    kiln_status status = kiln_tensor_bytes(binding->dtype, shape, &bytes);
    if (status != KILN_OK) {
        return kln_fail_within(status, "input \"%s\"", binding->name);
    }
    if (changed->state == SLOT_OWNED && kiln_shape_equal(&changed->tensor.desc.shape, shape)) {
        return KILN_OK;
    }
    if (bytes > changed->owned_bytes || changed->owned == NULL) {
        void *memory = NULL;
        status = kln_memory_allocate(owned_location(context), context->engine->device,
                                     bytes != 0 ? bytes : 1, &memory);
        if (status != KILN_OK) {
            return kln_fail_within(status, "input \"%s\"", binding->name);
        }
        drop_owned(context, changed);
        changed->owned = memory;
        changed->owned_bytes = bytes;
        context->bytes_owned += bytes;
    }
    memset(changed->owned, 0, bytes);
    context_overlap_forget(context, changed);
    changed->state = SLOT_OWNED;
    changed->tensor = KILN_HOST_TENSOR(binding->dtype, *shape, changed->owned, bytes);
    changed->tensor.desc.location = owned_location(context);
    mark_pending(context, changed);
    return KILN_OK;
}

/* --- the calls that change what is bound --- */

static kiln_status bind_inside(kiln_context *context, const char *name, const kiln_tensor *tensor)
{
    size_t index = 0;
    KLN_RETURN_IF_ERROR(context_find_any(context, name, true, &index));
    if (is_taking_back(tensor)) {
        context_set_empty(context, index);
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(context_check_tensor(context, index, tensor));
    return context_set_caller(context, index, tensor);
}

kiln_status kiln_context_bind(kiln_context *context, const char *name, const kiln_tensor *tensor)
{
    KLN_RETURN_IF_NULL(context);
    KLN_RETURN_IF_NULL(name);
    KLN_RETURN_IF_NULL(tensor);
    KLN_RETURN_IF_ERROR(context_enter(context, __func__));
    return context_leave(context, bind_inside(context, name, tensor));
}

static kiln_status find_planned(kiln_context *context, const kiln_buffer_plan *plan, size_t place,
                                kiln_named_tensor *planned, size_t *index)
{
    KLN_RETURN_IF_ERROR(kiln_buffer_plan_get(plan, place, planned));
    return context_find_any(context, planned->name, true, index);
}

/* All are checked before one is bound. */
static kiln_status bind_plan_inside(kiln_context *context, const kiln_buffer_plan *plan)
{
    const size_t count = kiln_buffer_plan_count(plan);
    kiln_named_tensor planned = {.name = NULL};
    for (size_t i = 0; i < count; i++) {
        size_t index = 0;
        KLN_RETURN_IF_ERROR(find_planned(context, plan, i, &planned, &index));
        KLN_RETURN_IF_ERROR(context_check_tensor(context, index, &planned.tensor));
    }
    for (size_t i = 0; i < count; i++) {
        size_t index = 0;
        KLN_RETURN_IF_ERROR(find_planned(context, plan, i, &planned, &index));
        KLN_RETURN_IF_ERROR(context_set_caller(context, index, &planned.tensor));
    }
    return KILN_OK;
}

kiln_status kiln_context_bind_plan(kiln_context *context, const kiln_buffer_plan *plan)
{
    KLN_RETURN_IF_NULL(context);
    KLN_RETURN_IF_NULL(plan);
    KLN_RETURN_IF_ERROR(context_enter(context, __func__));
    return context_leave(context, bind_plan_inside(context, plan));
}

static kiln_status reshape_inside(kiln_context *context, const char *name, const kiln_shape *shape,
                                  kiln_fill_function fill, void *user)
{
    size_t index = 0;
    KLN_RETURN_IF_ERROR(context_find_input(context, name, &index));
    const kiln_binding *binding = context_binding(context, index);
    KLN_RETURN_IF_ERROR(check_dtype(binding));
    int64_t elements = 0;
    const kiln_status status = kiln_shape_elements(shape, &elements);
    if (status != KILN_OK) {
        return kln_fail_within(status, "input \"%s\"", name);
    }
    KLN_RETURN_IF_ERROR(check_shape(binding, shape));
    KLN_RETURN_IF_ERROR(set_owned(context, index, shape));
    context_slot *slot = &context->slots[index];
    drop_fill(context, slot);
    slot->fill = fill;
    slot->fill_user = user;
    context->fill_count += fill != NULL;
    return KILN_OK;
}

kiln_status kiln_context_reshape(kiln_context *context, const char *name, const kiln_shape *shape)
{
    KLN_RETURN_IF_NULL(context);
    KLN_RETURN_IF_NULL(name);
    KLN_RETURN_IF_NULL(shape);
    KLN_RETURN_IF_ERROR(context_enter(context, __func__));
    return context_leave(context, reshape_inside(context, name, shape, NULL, NULL));
}

kiln_status kiln_context_bind_deferred(kiln_context *context, const char *name,
                                       const kiln_shape *shape, kiln_fill_function fill, void *user)
{
    KLN_RETURN_IF_NULL(context);
    KLN_RETURN_IF_NULL(name);
    KLN_RETURN_IF_NULL(shape);
    if (fill == NULL) {
        return kln_fail_null(__func__, "fill");
    }
    KLN_RETURN_IF_ERROR(context_enter(context, __func__));
    return context_leave(context, reshape_inside(context, name, shape, fill, user));
}

/* --- looking at tensors --- */

static kiln_status show_input(kiln_context *context, size_t index, kiln_tensor *tensor)
{
    const kiln_binding *binding = context_binding(context, index);
    if (context->slots[index].state == SLOT_EMPTY) {
        KLN_RETURN_IF_ERROR(check_dtype(binding));
        if (binding->shape.rank < 0 || !kiln_shape_is_static(&binding->shape)) {
            char shape[KLN_SHAPE_TEXT];
            (void)kiln_shape_format(&binding->shape, shape, sizeof shape);
            return kln_fail(KILN_ERROR_NOT_BOUND,
                            "input \"%s\" %s %s and no memory yet; bind it, or give it a shape "
                            "with kiln_context_reshape",
                            binding->name, binding->shape.rank < 0 ? "may have" : "has the shape",
                            shape);
        }
        KLN_RETURN_IF_ERROR(set_owned(context, index, &binding->shape));
    }
    *tensor = *given(&context->slots[index]);
    return KILN_OK;
}

kiln_status context_show_output(kiln_context *context, size_t index, kiln_tensor *tensor)
{
    if (!context->has_results) {
        return kln_fail(KILN_ERROR_STATE,
                        "output \"%s\": there is no result yet, or what was bound has changed "
                        "since; run the context first",
                        context_binding(context, index)->name);
    }
    KLN_RETURN_IF_ERROR(check_dtype(context_binding(context, index)));
    if (context_gpu_output(context, index, tensor)) {
        return KILN_OK;
    }
    return context->engine->backend->output(context->state, index, tensor);
}

static kiln_status show_inside(kiln_context *context, const char *name, kiln_tensor *tensor)
{
    size_t index = 0;
    KLN_RETURN_IF_ERROR(context_find_any(context, name, false, &index));
    return context_binding(context, index)->is_input ? show_input(context, index, tensor)
                                                     : context_show_output(context, index, tensor);
}

static kiln_status show_input_inside(kiln_context *context, const char *name, kiln_tensor *tensor)
{
    size_t index = 0;
    KLN_RETURN_IF_ERROR(context_find_input(context, name, &index));
    return show_input(context, index, tensor);
}

kiln_status kiln_context_input_tensor(kiln_context *context, const char *name, kiln_tensor *tensor)
{
    KLN_RETURN_IF_NULL(context);
    KLN_RETURN_IF_NULL(name);
    KLN_RETURN_IF_NULL(tensor);
    KLN_RETURN_IF_ERROR(context_enter(context, __func__));
    return context_leave(context, show_input_inside(context, name, tensor));
}

kiln_status kiln_context_tensor(kiln_context *context, const char *name, kiln_tensor *tensor)
{
    KLN_RETURN_IF_NULL(context);
    KLN_RETURN_IF_NULL(name);
    KLN_RETURN_IF_NULL(tensor);
    KLN_RETURN_IF_ERROR(context_enter(context, __func__));
    return context_leave(context, show_inside(context, name, tensor));
}

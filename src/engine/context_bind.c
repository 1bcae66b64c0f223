/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_engine.h"

static bool is_taking_back(const kiln_tensor *tensor)
{
    return tensor->data == NULL && tensor->bytes == 0 && tensor->desc.shape.rank == 0 &&
           tensor->desc.dtype == KILN_DTYPE_UNDEFINED;
}

static kiln_status bind_inside(kiln_context *context, const char *name, const kiln_tensor *tensor)
{
    size_t index = 0;
    KLN_RETURN_IF_ERROR(kln_context_find(context, name, KLN_INPUT_FIRST, &index));
    if (is_taking_back(tensor)) {
        kln_exec_unbind(context->exec, index);
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(kln_exec_check(context->exec, index, tensor));
    return kln_exec_bind(context->exec, index, tensor);
}

kiln_status kiln_context_bind(kiln_context *context, const char *name, const kiln_tensor *tensor)
{
    KLN_RETURN_IF_NULL(context, name, tensor);
    KLN_RETURN_IF_ERROR(kln_context_enter(context, __func__));
    return kln_context_leave(context, bind_inside(context, name, tensor));
}

static kiln_status find_planned(kiln_context *context, const kiln_buffer_plan *plan, size_t place,
                                kiln_named_tensor *planned, size_t *index)
{
    KLN_RETURN_IF_ERROR(kiln_buffer_plan_get(plan, place, planned));
    return kln_context_find(context, planned->name, KLN_INPUT_FIRST, index);
}

/* Checks all tensors before it binds any. */
static kiln_status bind_plan_inside(kiln_context *context, const kiln_buffer_plan *plan)
{
    const size_t count = kiln_buffer_plan_count(plan);
    kiln_named_tensor planned = {.name = NULL};
    for (size_t i = 0; i < count; i++) {
        size_t index = 0;
        KLN_RETURN_IF_ERROR(find_planned(context, plan, i, &planned, &index));
        KLN_RETURN_IF_ERROR(kln_exec_check(context->exec, index, &planned.tensor));
    }
    for (size_t i = 0; i < count; i++) {
        size_t index = 0;
        KLN_RETURN_IF_ERROR(find_planned(context, plan, i, &planned, &index));
        KLN_RETURN_IF_ERROR(kln_exec_bind(context->exec, index, &planned.tensor));
    }
    return KILN_OK;
}

kiln_status kiln_context_bind_plan(kiln_context *context, const kiln_buffer_plan *plan)
{
    KLN_RETURN_IF_NULL(context, plan);
    KLN_RETURN_IF_ERROR(kln_context_enter(context, __func__));
    return kln_context_leave(context, bind_plan_inside(context, plan));
}

static kiln_status reshape_inside(kiln_context *context, const char *name, const kiln_shape *shape,
                                  kiln_fill_function fill, void *user)
{
    size_t index = 0;
    KLN_RETURN_IF_ERROR(kln_context_find(context, name, KLN_INPUT, &index));
    return kln_exec_reshape(context->exec, index, shape, fill, user);
}

kiln_status kiln_context_reshape(kiln_context *context, const char *name, const kiln_shape *shape)
{
    KLN_RETURN_IF_NULL(context, name, shape);
    KLN_RETURN_IF_ERROR(kln_context_enter(context, __func__));
    return kln_context_leave(context, reshape_inside(context, name, shape, NULL, NULL));
}

kiln_status kiln_context_bind_deferred(kiln_context *context, const char *name,
                                       const kiln_shape *shape, kiln_fill_function fill, void *user)
{
    KLN_RETURN_IF_NULL(context, name, shape);
    KLN_FAIL_IF(fill == NULL, kln_fail_null(__func__, "fill"));
    KLN_RETURN_IF_ERROR(kln_context_enter(context, __func__));
    return kln_context_leave(context, reshape_inside(context, name, shape, fill, user));
}

/* --- showing tensors --- */

static kiln_status show_inside(kiln_context *context, const char *name, kln_sought sought,
                               kiln_tensor *tensor)
{
    size_t index = 0;
    KLN_RETURN_IF_ERROR(kln_context_find(context, name, sought, &index));
    return kln_exec_show(context->exec, index, tensor);
}

kiln_status kiln_context_input_tensor(kiln_context *context, const char *name, kiln_tensor *tensor)
{
    KLN_RETURN_IF_NULL(context, name, tensor);
    KLN_RETURN_IF_ERROR(kln_context_enter(context, __func__));
    return kln_context_leave(context, show_inside(context, name, KLN_INPUT, tensor));
}

kiln_status kiln_context_tensor(kiln_context *context, const char *name, kiln_tensor *tensor)
{
    KLN_RETURN_IF_NULL(context, name, tensor);
    KLN_RETURN_IF_ERROR(kln_context_enter(context, __func__));
    return kln_context_leave(context, show_inside(context, name, KLN_OUTPUT_FIRST, tensor));
}

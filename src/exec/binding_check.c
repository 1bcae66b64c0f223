/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "exec_parts.h"

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

kiln_status kln_exec_check_shape(const kiln_binding *binding, const kiln_shape *shape)
{
    if (binding->shape.rank < 0 || shape_fits(binding, shape)) {
        return KILN_OK;
    }
    const char *expected = KLN_SHAPE_PRINTED(&binding->shape);
    const char *found = KLN_SHAPE_PRINTED(shape);
    KLN_RETURN_IF(shape->rank != binding->shape.rank, KILN_ERROR_RANK,
                  "%s \"%s\": %d dimensions (%s) are needed, %d were given (%s)", kind_of(binding),
                  binding->name, binding->shape.rank, expected, shape->rank, found);
    for (int32_t i = 0; i < shape->rank; i++) {
        KLN_RETURN_IF(binding->shape.dims[i] >= 0 && binding->shape.dims[i] != shape->dims[i],
                      KILN_ERROR_SHAPE,
                      "%s \"%s\": dimension %d must be %lld, it is %lld; %s is needed, %s "
                      "was given",
                      kind_of(binding), binding->name, i, (long long)binding->shape.dims[i],
                      (long long)shape->dims[i], expected, found);
    }
    return KILN_OK;
}

kiln_status exec_check_dtype(const kiln_binding *binding)
{
    KLN_RETURN_IF(!kln_dtype_is_bindable(binding->dtype), KILN_ERROR_DTYPE,
                  "%s \"%s\" is a sequence, a map or of an unknown type; tensors can be bound "
                  "(scores that ZipMap made maps of are a tensor where skl2onnx is given the "
                  "option zipmap=False)",
                  kind_of(binding), binding->name);
    return KILN_OK;
}

static kiln_status check_place(const kln_exec *exec, const kiln_binding *binding,
                               const kiln_tensor_desc *desc)
{
    const bool on_device = desc->location == KILN_LOCATION_DEVICE;
    KLN_RETURN_IF(
        on_device && (exec->shared->info.capabilities & KILN_CAPABILITY_DEVICE_MEMORY) == 0,
        KILN_ERROR_UNSUPPORTED, "%s \"%s\": the %s backend takes no device memory",
        kind_of(binding), binding->name, exec->shared->info.name);
    KLN_RETURN_IF(on_device && desc->device != exec->shared->device, KILN_ERROR_UNSUPPORTED,
                  "%s \"%s\": memory of device %d was given, the engine is on device %d",
                  kind_of(binding), binding->name, desc->device, exec->shared->device);
    KLN_RETURN_IF(desc->format != KILN_FORMAT_LINEAR, KILN_ERROR_UNSUPPORTED,
                  "%s \"%s\": format %d was given, the %s backend takes linear tensors only",
                  kind_of(binding), binding->name, (int)desc->format, exec->shared->info.name);
    KLN_RETURN_IF(!kln_strides_are_dense(&desc->shape, &desc->strides), KILN_ERROR_UNSUPPORTED,
                  "%s \"%s\": the strides leave gaps or change the order; copy the tensor so "
                  "that it is dense",
                  kind_of(binding), binding->name);
    return KILN_OK;
}

/* No element type needs a larger alignment, so addresses that differ by a multiple of this are
 * equally aligned. */
#define MOST_ALIGNMENT ((uintptr_t)16)

/* A buffer that the caller binds again and again, at whatever address, is checked in full only
 * once. */
static bool was_checked(const exec_slot *bound, const kiln_tensor *tensor)
{
    const kiln_tensor *known = exec_given(bound);
    const kiln_tensor_desc *a = &known->desc;
    const kiln_tensor_desc *b = &tensor->desc;
    return bound->state == SLOT_CALLER && tensor->data != NULL && known->data != NULL &&
           ((uintptr_t)tensor->data - (uintptr_t)known->data) % MOST_ALIGNMENT == 0 &&
           known->bytes == tensor->bytes && a->dtype == b->dtype && a->format == b->format &&
           a->location == b->location && a->device == b->device && a->strides.rank == 0 &&
           b->strides.rank == 0 && kiln_shape_equal(&a->shape, &b->shape);
}

/* Finds out what is wrong with the tensor; it may also be valid but unusual. */
static kiln_status look_closer(const kiln_binding *binding, const kiln_tensor *tensor)
{
    char what[300];
    KLN_RETURN_IF_ERROR(exec_check_dtype(binding));
    KLN_RETURN_IF(!kln_dtype_is_bindable(tensor->desc.dtype), KILN_ERROR_DTYPE,
                  "%s \"%s\": %s is needed, %s (%d) was given", kind_of(binding), binding->name,
                  kiln_dtype_name(binding->dtype), kiln_dtype_name(tensor->desc.dtype),
                  (int)tensor->desc.dtype);
    KLN_RETURN_IF(tensor->desc.dtype != binding->dtype, KILN_ERROR_DTYPE,
                  "%s \"%s\": %s is needed, %s was given", kind_of(binding), binding->name,
                  kiln_dtype_name(binding->dtype), kiln_dtype_name(tensor->desc.dtype));
    if (tensor->desc.shape.rank >= 0 && tensor->desc.shape.rank <= KILN_MAX_RANK) {
        KLN_RETURN_IF_ERROR(kln_exec_check_shape(binding, &tensor->desc.shape));
    }
    (void)snprintf(what, sizeof what, "%s \"%.250s\"", kind_of(binding), binding->name);
    return kln_tensor_check(what, tensor);
}

kiln_status kln_exec_check(const kln_exec *exec, size_t index, const kiln_tensor *tensor)
{
    const kiln_binding *binding = exec_binding(exec, index);
    if (was_checked(&exec->slots[index], tensor)) {
        return KILN_OK;
    }
    const bool is_sound = tensor->desc.dtype == binding->dtype && kln_tensor_is_sound(tensor) &&
                          (binding->shape.rank < 0 || shape_fits(binding, &tensor->desc.shape));
    if (!is_sound) {
        KLN_RETURN_IF_ERROR(look_closer(binding, tensor));
    }
    return check_place(exec, binding, &tensor->desc);
}

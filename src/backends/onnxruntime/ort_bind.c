/* SPDX-License-Identifier: Apache-2.0 */
#include "ort_context.h"

void ort_release_values(ort_context *context)
{
    const ort_runtime *runtime = context->engine->runtime;
    for (size_t i = 0; i < context->value_count; i++) {
        runtime->api.ReleaseValue(context->values[i]);
    }
    ort_free(runtime, context->values);
    context->values = NULL;
    context->value_count = 0;
    if (context->feed != NULL) {
        ort_feed_release_results(context->engine, context->feed);
    }
}

bool ort_is_devices(const kiln_tensor *tensor)
{
    return tensor->desc.location == KILN_LOCATION_DEVICE ||
           tensor->desc.location == KILN_LOCATION_MANAGED;
}

/* Wraps existing memory in an OrtValue. */
static kiln_status wrap(const ort_context *context, const kiln_binding *binding,
                        const kiln_tensor *tensor, OrtValue **value)
{
    const ort_runtime *runtime = context->engine->runtime;
    /* An empty tensor may have no address, which ONNX Runtime rejects. */
    static unsigned char nothing[1];
    const ort_element_type element = ort_element(tensor->desc.dtype);
    KLN_RETURN_IF(element == 0, KILN_ERROR_DTYPE, "\"%s\": a tensor of type %s cannot be bound",
                  binding->name, kiln_dtype_name(tensor->desc.dtype));
    const bool on_device = ort_is_devices(tensor);
    KLN_RETURN_IF(tensor->desc.location == KILN_LOCATION_DEVICE && context->engine->device < 0,
                  KILN_ERROR_UNSUPPORTED,
                  "\"%s\": ONNX Runtime runs on the CPU here, memory of a device cannot be bound",
                  binding->name);
    /* The memory may be larger than the tensor. */
    OrtStatus *failed = runtime->api.CreateTensorWithDataAsOrtValue(
        on_device && context->engine->device >= 0 ? context->engine->gpu_memory : runtime->host,
        tensor->data != NULL ? tensor->data : nothing, tensor->bytes, tensor->desc.shape.dims,
        (size_t)tensor->desc.shape.rank, element, value);
    return failed == NULL ? KILN_OK : ort_fail(runtime, failed, "binding \"%s\"", binding->name);
}

static size_t index_of(const ort_context *context, const kiln_binding *binding)
{
    return (size_t)(binding - context->engine->bindings);
}

static kiln_status feed(ort_context *context, const kiln_binding *binding,
                        const kiln_tensor *tensor)
{
    const ort_engine *engine = context->engine;
    ort_feed *fed = context->feed;
    OrtValue *value = NULL;
    const size_t index = index_of(context, binding);
    if ((index < engine->input_count && ort_feed_take_copy(fed, index, tensor)) ||
        ort_feed_return(fed, index, tensor)) {
        return KILN_OK;
    }
    if (ort_feed_moves(engine, fed, index, tensor)) {
        kiln_tensor copy = *tensor;
        copy.data = ort_feed_copy_memory(engine, fed, index);
        KLN_RETURN_IF_NO_MEMORY(copy.data, ORT_FEED_COPIED, "a copy of an input");
        KLN_RETURN_IF_ERROR(wrap(context, binding, &copy, &value));
        ort_feed_set_copy(fed, index, value, tensor);
        return KILN_OK;
    }
    ort_feed_make_room(engine, fed, index);
    KLN_RETURN_IF_ERROR(wrap(context, binding, tensor, &value));
    ort_feed_set(fed, index, value, tensor);
    return KILN_OK;
}

kiln_status ort_bind_input(ort_context *context, const kiln_binding *binding,
                           const kiln_tensor *tensor)
{
    const ort_runtime *runtime = context->engine->runtime;
    OrtValue *value = NULL;
    if (binding->dtype == KILN_DTYPE_STRING) {
        return ort_strings_bind(context, index_of(context, binding), tensor);
    }
    if (context->feed != NULL) {
        return feed(context, binding, tensor);
    }
    KLN_RETURN_IF_ERROR(wrap(context, binding, tensor, &value));
    OrtStatus *failed = runtime->api.BindInput(context->binding, binding->name, value);
    /* The binding holds a reference. */
    runtime->api.ReleaseValue(value);
    return failed == NULL ? KILN_OK : ort_fail(runtime, failed, "input \"%s\"", binding->name);
}

void ort_set_changing(ort_context *context, output_slot *slot, bool changing)
{
    if (slot->changing != changing) {
        slot->changing = changing;
        context->changing_count += changing ? 1 : SIZE_MAX;
    }
}

/* ONNX Runtime numbers outputs in the order in which they are first bound. */
void ort_set_position(ort_context *context, output_slot *slot)
{
    if (slot->position == NOT_BOUND) {
        slot->position = context->bound_count++;
    }
}

static kiln_status bind_memory(ort_context *context, const kiln_binding *binding, output_slot *slot,
                               const kiln_tensor *tensor)
{
    const ort_runtime *runtime = context->engine->runtime;
    OrtValue *value = NULL;
    if (context->feed != NULL) {
        KLN_RETURN_IF_ERROR(feed(context, binding, tensor));
    } else {
        KLN_RETURN_IF_ERROR(wrap(context, binding, tensor, &value));
        OrtStatus *failed = runtime->api.BindOutput(context->binding, binding->name, value);
        runtime->api.ReleaseValue(value);
        KLN_FAIL_IF(failed != NULL, ort_fail(runtime, failed, "output \"%s\"", binding->name));
        ort_set_position(context, slot);
    }
    ort_set_changing(context, slot, false);
    slot->tensor = *tensor;
    return KILN_OK;
}

static kiln_status bind_anew(ort_context *context, const kiln_binding *binding, output_slot *slot)
{
    const ort_runtime *runtime = context->engine->runtime;
    if (context->feed != NULL) {
        ort_feed_leave_open(context->feed, index_of(context, binding));
    } else {
        OrtStatus *failed =
            runtime->api.BindOutputToDevice(context->binding, binding->name, runtime->host);
        KLN_FAIL_IF(failed != NULL, ort_fail(runtime, failed, "output \"%s\"", binding->name));
        ort_set_position(context, slot);
    }
    ort_set_changing(context, slot, true);
    return KILN_OK;
}

static kiln_status bind_owned(ort_context *context, const kiln_binding *binding, output_slot *slot)
{
    size_t bytes = 0;
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(binding->dtype, &binding->shape, &bytes));
    if (slot->owned == NULL) {
        slot->owned = kln_alloc_aligned(bytes, OUTPUT_ALIGNMENT);
        KLN_RETURN_IF_NO_MEMORY(slot->owned, bytes, "an output");
    }
    const kiln_tensor tensor = KILN_HOST_TENSOR(binding->dtype, binding->shape, slot->owned, bytes);
    return bind_memory(context, binding, slot, &tensor);
}

/* An IO binding cannot forget a single input, so a new one replaces it. The caller binds everything
 * again. */
static kiln_status forget_all(ort_context *context)
{
    const ort_runtime *runtime = context->engine->runtime;
    OrtIoBinding *binding = NULL;
    KLN_RETURN_IF_ERROR(ort_check(
        runtime, runtime->api.CreateIoBinding(context->engine->session, &binding), "a context"));
    ort_release_values(context);
    runtime->api.ReleaseIoBinding(context->binding);
    context->binding = binding;
    for (size_t i = 0; i < context->engine->output_count; i++) {
        context->outputs[i].position = NOT_BOUND;
        context->outputs[i].changing = false;
    }
    context->bound_count = 0;
    context->changing_count = 0;
    return KILN_OK;
}

kiln_status ort_context_bind(void *context, size_t index, const kiln_tensor *tensor)
{
    ort_context *self = context;
    const ort_engine *engine = self->engine;
    const kiln_binding *binding = &engine->bindings[index];
    if (index >= engine->input_count + engine->output_count) {
        const bool had = self->has_optional;
        self->has_optional = tensor->desc.dtype != KILN_DTYPE_UNDEFINED;
        if (!self->has_optional) {
            ort_strings_forget(self, index);
        }
        return self->has_optional ? ort_bind_input(self, binding, tensor)
               : had              ? forget_all(self)
                                  : KILN_OK;
    }
    if (index < engine->input_count) {
        KLN_RETURN_IF_ERROR(ort_bind_input(self, binding, tensor));
        if (self->inputs != NULL) {
            self->inputs[index] = *tensor;
        }
        if (self->shapes != NULL) {
            self->shapes[index].shape = tensor->desc.shape;
            self->is_doubtful |= tensor->bytes == 0;
        }
        return KILN_OK;
    }
    output_slot *slot = &self->outputs[index - engine->input_count];
    ort_release_values(self);
    if (slot->passed != ORT_NO_INPUT || binding->dtype == KILN_DTYPE_STRING) {
        KLN_RETURN_IF_ERROR(bind_anew(self, binding, slot));
        slot->tensor = *tensor;
        return KILN_OK;
    }
    if (tensor->desc.dtype != KILN_DTYPE_UNDEFINED) {
        return bind_memory(self, binding, slot, tensor);
    }
    const bool fixed = kiln_dtype_bits(binding->dtype) != 0 && binding->shape.rank >= 0 &&
                       kiln_shape_is_static(&binding->shape);
    return fixed ? bind_owned(self, binding, slot) : bind_anew(self, binding, slot);
}

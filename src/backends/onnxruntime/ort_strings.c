/* SPDX-License-Identifier: Apache-2.0 */
/* ONNX Runtime keeps strings in objects of its own: each run copies input strings into them, and
 * output strings are shown in place. */
#include "ort_context.h"

static kiln_status place_of(const ort_context *context, const kiln_binding *binding,
                            OrtValue *value, size_t element, size_t size, char **place)
{
    const ort_runtime *runtime = context->engine->runtime;
    OrtStatus *failed =
        runtime->api.GetResizedStringTensorElementBuffer(value, element, size, place);
    return failed == NULL ? KILN_OK : ort_fail(runtime, failed, "binding \"%s\"", binding->name);
}

kiln_status ort_strings_bind(ort_context *context, size_t index, const kiln_tensor *tensor)
{
    const ort_runtime *runtime = context->engine->runtime;
    const kiln_binding *binding = &context->engine->bindings[index];
    ort_strings *strings = &context->strings[index];
    const kiln_shape *shape = &tensor->desc.shape;
    const bool fits = strings->value != NULL && kiln_shape_equal(&strings->given.desc.shape, shape);
    OrtStatus *failed = NULL;
    if (!fits) {
        OrtValue *value = NULL;
        failed = runtime->api.CreateTensorAsOrtValue(runtime->allocator, shape->dims,
                                                     (size_t)shape->rank,
                                                     ort_element(KILN_DTYPE_STRING), &value);
        KLN_FAIL_IF(failed != NULL, ort_fail(runtime, failed, "input \"%s\"", binding->name));
        if (context->feed != NULL) {
            ort_feed_lend(context->feed, index, value);
        }
        runtime->api.ReleaseValue(strings->value);
        strings->value = value;
    }
    strings->given = *tensor;
    if (context->feed == NULL) {
        failed = runtime->api.BindInput(context->binding, binding->name, strings->value);
    }
    return failed == NULL ? KILN_OK : ort_fail(runtime, failed, "input \"%s\"", binding->name);
}

kiln_status ort_strings_copy_in(const ort_context *context)
{
    for (size_t i = 0; i < ort_binding_count(context->engine); i++) {
        const ort_strings *strings = &context->strings[i];
        const kiln_span *spans = strings->given.data;
        int64_t count = 0;
        if (strings->value == NULL) {
            continue;
        }
        KLN_RETURN_IF_ERROR(kiln_shape_elements(&strings->given.desc.shape, &count));
        for (size_t k = 0; k < (size_t)count; k++) {
            char *place = NULL;
            KLN_RETURN_IF_ERROR(place_of(context, &context->engine->bindings[i], strings->value, k,
                                         spans[k].size, &place));
            if (spans[k].size != 0) {
                memcpy(place, spans[k].data, spans[k].size);
            }
        }
    }
    return KILN_OK;
}

kiln_status ort_strings_read(const ort_context *context, const kiln_binding *binding,
                             OrtValue *value, size_t count, kiln_span *spans)
{
    const ort_runtime *runtime = context->engine->runtime;
    for (size_t i = 0; i < count; i++) {
        char *place = NULL;
        OrtStatus *failed = runtime->api.GetStringTensorElementLength(value, i, &spans[i].size);
        KLN_FAIL_IF(failed != NULL, ort_fail(runtime, failed, "output \"%s\"", binding->name));
        /* Its own size: this only returns the address. */
        KLN_RETURN_IF_ERROR(place_of(context, binding, value, i, spans[i].size, &place));
        spans[i].data = place;
    }
    return KILN_OK;
}

kiln_status ort_strings_create(ort_context *context)
{
    const ort_engine *engine = context->engine;
    for (size_t i = 0; i < ort_binding_count(engine) && context->strings == NULL; i++) {
        if (engine->bindings[i].dtype == KILN_DTYPE_STRING) {
            KLN_NEW(context->strings, ort_binding_count(engine), "a context's strings");
        }
    }
    return KILN_OK;
}

void ort_strings_forget(ort_context *context, size_t index)
{
    if (context->strings != NULL) {
        context->engine->runtime->api.ReleaseValue(context->strings[index].value);
        context->strings[index].value = NULL;
    }
}

void ort_strings_destroy(ort_context *context)
{
    for (size_t i = 0; i < ort_binding_count(context->engine); i++) {
        ort_strings_forget(context, i);
    }
    kln_free(context->strings);
}

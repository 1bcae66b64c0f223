/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ort_internal.h"

/* One output, as the binding holds it. */
typedef struct ort_output {
    bool bound_by_caller;
    bool renewed; /* has no memory of its own and no fixed shape: bound anew before each run */
    kiln_tensor tensor;
} ort_output;

typedef struct ort_context {
    ort_engine *engine;
    OrtIoBinding *binding;
    OrtRunOptions *run_options;
    ort_output *outputs;
    size_t renewed_count;
    OrtValue **results; /* of the last run, fetched when somebody looks */
    size_t result_count;
} ort_context;

static void drop_results(ort_context *context)
{
    if (context->results == NULL) {
        return;
    }
    const ort_runtime *runtime = context->engine->runtime;
    for (size_t i = 0; i < context->result_count; i++) {
        runtime->api.ReleaseValue(context->results[i]);
    }
    runtime->api.ReleaseStatus(runtime->api.AllocatorFree(runtime->allocator, context->results));
    context->results = NULL;
    context->result_count = 0;
}

void ort_context_destroy(void *state)
{
    ort_context *context = state;
    const ort_api *api = &context->engine->runtime->api;
    drop_results(context);
    if (context->binding != NULL) {
        api->ReleaseIoBinding(context->binding);
    }
    if (context->run_options != NULL) {
        api->ReleaseRunOptions(context->run_options);
    }
    kln_free(context->outputs);
    kln_free(context);
}

kiln_status ort_context_create(void *state, const kiln_context_options *options, void **out)
{
    (void)options;
    ort_engine *engine = state;
    const ort_api *api = &engine->runtime->api;
    ort_context *context = kln_alloc_zeroed(1, sizeof *context);
    if (context == NULL) {
        return kln_fail_memory(sizeof *context, "a context of ONNX Runtime");
    }
    context->engine = engine;
    context->outputs = kln_alloc_zeroed(engine->output_count, sizeof *context->outputs);
    kiln_status status =
        context->outputs != NULL
            ? ort_check(api, api->CreateIoBinding(engine->session, &context->binding), "a context")
            : kln_fail_memory(engine->output_count * sizeof *context->outputs, "a context");
    if (status == KILN_OK) {
        status = ort_check(api, api->CreateRunOptions(&context->run_options), "a context");
    }
    if (status != KILN_OK) {
        ort_context_destroy(context);
        return status;
    }
    *out = context;
    return KILN_OK;
}

/* --- binding --- */

static kiln_status wrap(const ort_runtime *runtime, const char *name, const kiln_tensor *tensor,
                        OrtValue **value)
{
    /* An empty tensor may have no memory, but ONNX Runtime wants an address. */
    static uint64_t nothing[2];
    void *data = tensor->data != NULL ? tensor->data : nothing;
    return ort_check(
        &runtime->api,
        runtime->api.CreateTensorWithDataAsOrtValue(
            runtime->cpu, data, tensor->bytes, tensor->desc.shape.dims,
            (size_t)tensor->desc.shape.rank, ort_element_type(tensor->desc.dtype), value),
        name);
}

static bool is_fixed(const kiln_binding *binding)
{
    return binding->shape.rank > 0 && kiln_shape_is_static(&binding->shape);
}

static kiln_status bind_output_to_host(ort_context *context, size_t output)
{
    const ort_runtime *runtime = context->engine->runtime;
    const kiln_binding *binding = &context->engine->bindings[context->engine->input_count + output];
    return ort_check(&runtime->api,
                     runtime->api.BindOutputToDevice(context->binding, binding->name, runtime->cpu),
                     binding->name);
}

static void set_output(ort_context *context, size_t output, const kiln_tensor *tensor,
                       bool by_caller)
{
    ort_output *changed = &context->outputs[output];
    const kiln_binding *binding = &context->engine->bindings[context->engine->input_count + output];
    const bool renewed = !by_caller && !is_fixed(binding);
    context->renewed_count += (size_t)renewed;
    context->renewed_count -= (size_t)changed->renewed;
    *changed = (ort_output){.bound_by_caller = by_caller, .renewed = renewed, .tensor = *tensor};
}

kiln_status ort_context_bind(void *state, size_t index, const kiln_tensor *tensor)
{
    ort_context *context = state;
    const ort_engine *engine = context->engine;
    const ort_api *api = &engine->runtime->api;
    const bool is_input = index < engine->input_count;
    const char *name = engine->bindings[index].name;
    drop_results(context);
    if (!is_input && tensor->desc.dtype == KILN_DTYPE_UNDEFINED) {
        KLN_RETURN_IF_ERROR(bind_output_to_host(context, index - engine->input_count));
        set_output(context, index - engine->input_count, tensor, false);
        return KILN_OK;
    }
    OrtValue *value = NULL;
    KLN_RETURN_IF_ERROR(wrap(engine->runtime, name, tensor, &value));
    const kiln_status status = ort_check(api,
                                         is_input ? api->BindInput(context->binding, name, value)
                                                  : api->BindOutput(context->binding, name, value),
                                         name);
    api->ReleaseValue(value);
    if (status == KILN_OK && !is_input) {
        set_output(context, index - engine->input_count, tensor, true);
    }
    return status;
}

/* --- running --- */

/* ONNX Runtime keeps the tensor it made for an output and refuses a run that would give it another
 * shape, so the outputs whose shape may change get a fresh one each time. */
static kiln_status renew_outputs(ort_context *context)
{
    for (size_t i = 0; i < context->engine->output_count; i++) {
        if (context->outputs[i].renewed) {
            KLN_RETURN_IF_ERROR(bind_output_to_host(context, i));
        }
    }
    return KILN_OK;
}

kiln_status ort_context_run(void *state)
{
    ort_context *context = state;
    const ort_api *api = &context->engine->runtime->api;
    drop_results(context);
    if (context->renewed_count != 0) {
        KLN_RETURN_IF_ERROR(renew_outputs(context));
    }
    OrtStatus *status =
        api->RunWithBinding(context->engine->session, context->run_options, context->binding);
    return status == NULL ? KILN_OK : ort_check(api, status, "the run failed");
}

/* --- results --- */

static kiln_status read_shape(const ort_api *api, const OrtValue *value, const char *name,
                              kiln_tensor_desc *desc)
{
    OrtTensorTypeAndShapeInfo *info = NULL;
    KLN_RETURN_IF_ERROR(ort_check(api, api->GetTensorTypeAndShape(value, &info), name));
    unsigned element_type = 0;
    size_t rank = 0;
    kiln_status status = ort_check(api, api->GetTensorElementType(info, &element_type), name);
    if (status == KILN_OK) {
        status = ort_check(api, api->GetDimensionsCount(info, &rank), name);
    }
    if (status == KILN_OK && rank > KILN_MAX_RANK) {
        status = kln_fail(KILN_ERROR_RANK,
                          "output \"%s\" came with %zu dimensions, at most %d can be shown", name,
                          rank, KILN_MAX_RANK);
    }
    if (status == KILN_OK) {
        status = ort_check(api, api->GetDimensions(info, desc->shape.dims, rank), name);
    }
    api->ReleaseTensorTypeAndShapeInfo(info);
    desc->shape.rank = (int32_t)rank;
    desc->dtype = ort_dtype(element_type);
    return status;
}

static kiln_status show(const ort_api *api, OrtValue *value, const char *name, kiln_tensor *tensor)
{
    int is_tensor = 0;
    if (value != NULL) {
        KLN_RETURN_IF_ERROR(ort_check(api, api->IsTensor(value, &is_tensor), name));
    }
    if (is_tensor == 0) {
        return kln_fail(KILN_ERROR_UNSUPPORTED, "output \"%s\" is no tensor in this run", name);
    }
    kiln_tensor shown = {.bytes = 0};
    KLN_RETURN_IF_ERROR(read_shape(api, value, name, &shown.desc));
    const kiln_status status = kiln_tensor_bytes(shown.desc.dtype, &shown.desc.shape, &shown.bytes);
    if (status != KILN_OK) {
        return kln_fail_within(status, "output \"%s\"", name);
    }
    KLN_RETURN_IF_ERROR(ort_check(api, api->GetTensorMutableData(value, &shown.data), name));
    *tensor = shown;
    return KILN_OK;
}

kiln_status ort_context_output(void *state, size_t index, kiln_tensor *tensor)
{
    ort_context *context = state;
    const ort_engine *engine = context->engine;
    const ort_runtime *runtime = engine->runtime;
    const size_t output = index - engine->input_count;
    if (context->outputs[output].bound_by_caller) {
        *tensor = context->outputs[output].tensor;
        return KILN_OK;
    }
    if (context->results == NULL) {
        KLN_RETURN_IF_ERROR(
            ort_check(&runtime->api,
                      runtime->api.GetBoundOutputValues(context->binding, runtime->allocator,
                                                        &context->results, &context->result_count),
                      "the results"));
    }
    /* The engine room binds all outputs before the first run, in their order, and a later bind
     * keeps the place. */
    if (output >= context->result_count) {
        return kln_fail(KILN_ERROR_INTERNAL, "ONNX Runtime gave %zu results, %zu were bound",
                        context->result_count, engine->output_count);
    }
    return show(&runtime->api, context->results[output], engine->bindings[index].name, tensor);
}

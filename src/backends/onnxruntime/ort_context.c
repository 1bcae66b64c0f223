/* SPDX-License-Identifier: Apache-2.0 */
#include "ort_context.h"

/* --- create and destroy --- */

void ort_context_destroy(void *context)
{
    ort_context *self = context;
    const ort_api *api = &self->engine->runtime->api;
    ort_release_values(self);
    ort_feed_destroy(self->engine, self->feed);
    if (self->binding != NULL) {
        api->ReleaseIoBinding(self->binding);
    }
    if (self->run_options != NULL) {
        api->ReleaseRunOptions(self->run_options);
    }
    if (self->enqueue_options != NULL) {
        api->ReleaseRunOptions(self->enqueue_options);
    }
    for (size_t i = 0; self->outputs != NULL && i < self->engine->output_count; i++) {
        kln_free(self->outputs[i].owned);
    }
    ort_strings_destroy(self);
    kln_free(self->outputs);
    kln_free(self->inputs);
    kln_free(self->shapes);
    kln_free(self);
}

static kiln_status make_enqueue_options(ort_context *context)
{
    const ort_runtime *runtime = context->engine->runtime;
    KLN_RETURN_IF_ERROR(
        ort_check(runtime, runtime->api.CreateRunOptions(&context->enqueue_options), "a context"));
    return ort_check(runtime,
                     runtime->api.AddRunConfigEntry(context->enqueue_options,
                                                    "disable_synchronize_execution_providers", "1"),
                     "a context");
}

static kiln_status fill(const ort_engine *owner, ort_context *made)
{
    const ort_runtime *runtime = owner->runtime;
    KLN_NEW(made->outputs, owner->output_count, "a context");
    for (size_t i = 0; i < owner->output_count; i++) {
        made->outputs[i].position = NOT_BOUND;
        made->outputs[i].passed = owner->passed_inputs[i];
    }
    if (owner->is_risky) {
        KLN_NEW(made->shapes, owner->input_count, "a context");
        for (size_t i = 0; i < owner->input_count; i++) {
            made->shapes[i] = (kln_input_shape){owner->bindings[i].name, owner->bindings[i].shape};
        }
    }
    if (owner->passed_count != 0 || owner->device >= 0 || owner->optional_count != 0) {
        KLN_NEW(made->inputs, owner->input_count, "a context");
    } else {
        KLN_RETURN_IF_ERROR(ort_feed_create(owner, &made->feed));
    }
    KLN_RETURN_IF_ERROR(ort_strings_create(made));
    KLN_RETURN_IF_ERROR(ort_check(
        runtime, runtime->api.CreateIoBinding(owner->session, &made->binding), "a context"));
    KLN_RETURN_IF_ERROR(
        ort_check(runtime, runtime->api.CreateRunOptions(&made->run_options), "a context"));
    return owner->device >= 0 ? make_enqueue_options(made) : KILN_OK;
}

KLN_SCOPED_POINTER(ort_context, ort_context_destroy)

kiln_status ort_context_create(void *engine, const kiln_context_options *options, void **context)
{
    (void)options;
    KLN_SCOPED(ort_context_destroy_at) ort_context *made = kln_alloc_zeroed(1, sizeof *made);
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "a context");
    made->engine = engine;
    KLN_RETURN_IF_ERROR(fill(engine, made));
    *context = KLN_TAKE(made);
    return KILN_OK;
}

/* --- bind --- */

static kiln_status bind_stale(ort_context *context, size_t index)
{
    const ort_engine *engine = context->engine;
    const ort_runtime *runtime = engine->runtime;
    const ort_feed *feed = context->feed;
    OrtStatus *failed = NULL;
    if (index < engine->input_count) {
        failed = runtime->api.BindInput(context->binding, feed->names[index], feed->values[index]);
    } else {
        failed =
            feed->values[index] != NULL
                ? runtime->api.BindOutput(context->binding, feed->names[index], feed->values[index])
                : runtime->api.BindOutputToDevice(context->binding, feed->names[index],
                                                  runtime->host);
    }
    KLN_FAIL_IF(failed != NULL, ort_fail(runtime, failed, "binding \"%s\"", feed->names[index]));
    if (index >= engine->input_count) {
        ort_set_position(context, &context->outputs[index - engine->input_count]);
    }
    return KILN_OK;
}

/* Passes what has changed in the feed on to the IO binding. */
static kiln_status bind_fed(ort_context *context)
{
    ort_feed *feed = context->feed;
    const size_t count = context->engine->input_count + context->engine->output_count;
    for (size_t i = 0; feed != NULL && i < count; i++) {
        if (feed->stale[i]) {
            KLN_RETURN_IF_ERROR(bind_stale(context, i));
            feed->stale[i] = false;
        }
    }
    if (feed != NULL) {
        feed->changed = false;
        feed->bound_once = true;
    }
    return KILN_OK;
}

static kiln_status bind_changing(ort_context *context)
{
    const ort_engine *engine = context->engine;
    const ort_runtime *runtime = engine->runtime;
    for (size_t i = 0; i < engine->output_count; i++) {
        if (context->outputs[i].changing) {
            const char *name = engine->bindings[engine->input_count + i].name;
            OrtStatus *failed =
                runtime->api.BindOutputToDevice(context->binding, name, runtime->host);
            KLN_FAIL_IF(failed != NULL, ort_fail(runtime, failed, "output \"%s\"", name));
        }
    }
    return KILN_OK;
}

/* A model may declare a fixed shape that it does not keep. From then on, its outputs in the
 * context's memory are treated as changing. Returns whether there were any. */
static bool doubt_owned(ort_context *context)
{
    const ort_engine *engine = context->engine;
    bool any = false;
    for (size_t i = 0; i < engine->output_count; i++) {
        output_slot *slot = &context->outputs[i];
        if (!slot->changing && slot->owned != NULL && slot->tensor.data == slot->owned) {
            kln_log(KILN_LOG_WARNING, "onnxruntime",
                    "output \"%s\" may not have the shape that the model promises",
                    engine->bindings[engine->input_count + i].name);
            ort_set_changing(context, slot, true);
            if (context->feed != NULL) {
                ort_feed_leave_open(context->feed, engine->input_count + i);
            }
            any = true;
        }
    }
    return any;
}

/* ONNX Runtime does not write an output that is also an input, even if memory is bound to it. */
static kiln_status copy_passed(ort_context *context)
{
    const ort_engine *engine = context->engine;
    for (size_t i = 0; i < engine->output_count; i++) {
        const output_slot *slot = &context->outputs[i];
        if (slot->passed == ORT_NO_INPUT || slot->tensor.data == NULL) {
            continue;
        }
        const kiln_tensor *input = &context->inputs[slot->passed];
        size_t bytes = 0;
        KLN_RETURN_IF(
            !kiln_shape_equal(&slot->tensor.desc.shape, &input->desc.shape), KILN_ERROR_SHAPE,
            "output \"%s\" is the input of that name, and has another shape than was bound",
            engine->bindings[slot->passed].name);
        KLN_RETURN_IF_ERROR(kiln_tensor_bytes(input->desc.dtype, &input->desc.shape, &bytes));
        if (ort_is_devices(input) || ort_is_devices(&slot->tensor)) {
            KLN_RETURN_IF_ERROR(
                kln_cuda_copy(engine->device, slot->tensor.data, input->data, bytes, NULL));
        } else if (bytes != 0) {
            memmove(slot->tensor.data, input->data, bytes);
        }
    }
    return KILN_OK;
}

/* ONNX Runtime copies inputs from host memory to the GPU when they are bound, not when the model
 * runs. */
static kiln_status bind_host_inputs(ort_context *context)
{
    for (size_t i = 0; i < context->engine->input_count; i++) {
        if (!ort_is_devices(&context->inputs[i])) {
            KLN_RETURN_IF_ERROR(
                ort_bind_input(context, &context->engine->bindings[i], &context->inputs[i]));
        }
    }
    return KILN_OK;
}

/* --- results of a run --- */

/* Reads the data of a value into `tensor`, which has its type and shape. */
static kiln_status read_data(const ort_context *context, const kiln_binding *binding,
                             output_slot *slot, OrtValue *value, kiln_tensor *tensor)
{
    const ort_runtime *runtime = context->engine->runtime;
    if (tensor->desc.dtype != KILN_DTYPE_STRING) {
        return ort_check(runtime, runtime->api.GetTensorMutableData(value, &tensor->data),
                         binding->name);
    }
    if (tensor->bytes > slot->owned_bytes || slot->owned == NULL) {
        void *memory = kln_alloc(tensor->bytes);
        KLN_RETURN_IF_NO_MEMORY(memory, tensor->bytes, "an output");
        kln_free(slot->owned);
        slot->owned = memory;
        slot->owned_bytes = tensor->bytes;
    }
    tensor->data = slot->owned;
    return ort_strings_read(context, binding, value, tensor->bytes / sizeof(kiln_span),
                            slot->owned);
}

static kiln_status read_value(const ort_context *context, const kiln_binding *binding,
                              output_slot *slot, OrtValue *value, kiln_tensor *tensor)
{
    const ort_runtime *runtime = context->engine->runtime;
    kiln_tensor made = KILN_HOST_TENSOR(KILN_DTYPE_UNDEFINED, KILN_SHAPE_SCALAR, NULL, 0);
    KLN_RETURN_IF_ERROR(
        ort_check(runtime, ort_describe_value(&runtime->api, value, &made.desc), binding->name));
    KLN_RETURN_IF(made.desc.shape.rank > KILN_MAX_RANK, KILN_ERROR_RANK,
                  "output \"%s\" came with %d dimensions, %d are possible", binding->name,
                  made.desc.shape.rank, KILN_MAX_RANK);
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(made.desc.dtype, &made.desc.shape, &made.bytes));
    KLN_RETURN_IF_ERROR(read_data(context, binding, slot, value, &made));
    *tensor = made;
    return KILN_OK;
}

/* Reads an output that ONNX Runtime allocated. */
static kiln_status read_output(ort_context *context, size_t index, kiln_tensor *tensor)
{
    const ort_engine *engine = context->engine;
    const ort_runtime *runtime = engine->runtime;
    const kiln_binding *binding = &engine->bindings[index];
    output_slot *slot = &context->outputs[index - engine->input_count];
    if (context->feed != NULL && context->feed->has_results) {
        return read_value(context, binding, slot,
                          context->feed->results[index - engine->input_count], tensor);
    }
    if (context->values == NULL) {
        KLN_RETURN_IF_ERROR(
            ort_check(runtime,
                      runtime->api.GetBoundOutputValues(context->binding, runtime->allocator,
                                                        &context->values, &context->value_count),
                      "the outputs"));
    }
    KLN_RETURN_IF(slot->position >= context->value_count, KILN_ERROR_BACKEND,
                  "output \"%s\": ONNX Runtime returned %zu outputs, number %zu is missing",
                  binding->name, context->value_count, slot->position);
    return read_value(context, binding, slot, context->values[slot->position], tensor);
}

/* Copies string outputs to the memory that is bound to them. */
static kiln_status copy_strings_out(ort_context *context)
{
    const ort_engine *engine = context->engine;
    for (size_t i = 0; i < engine->output_count; i++) {
        const output_slot *slot = &context->outputs[i];
        const size_t index = engine->input_count + i;
        kiln_tensor found = {.data = NULL};
        if (engine->bindings[index].dtype != KILN_DTYPE_STRING || slot->tensor.data == NULL ||
            slot->passed != ORT_NO_INPUT) {
            continue;
        }
        KLN_RETURN_IF_ERROR(read_output(context, index, &found));
        if (!kiln_shape_equal(&found.desc.shape, &slot->tensor.desc.shape)) {
            const char *given = KLN_SHAPE_PRINTED(&slot->tensor.desc.shape);
            return kln_fail(KILN_ERROR_SHAPE, "output \"%s\" is %s, memory for %s was bound",
                            engine->bindings[index].name, KLN_SHAPE_PRINTED(&found.desc.shape),
                            given);
        }
        if (found.bytes != 0) {
            memcpy(slot->tensor.data, found.data, found.bytes);
        }
    }
    return KILN_OK;
}

/* --- run --- */

/* The engine's stream, which ONNX Runtime was given. */
kiln_status ort_context_enqueue(void *context, kiln_stream *stream)
{
    (void)stream;
    ort_context *self = context;
    const ort_runtime *runtime = self->engine->runtime;
    KLN_RETURN_IF(self->engine->passed_count != 0, KILN_ERROR_UNSUPPORTED, "%s",
                  self->engine->no_capture);
    OrtStatus *failed =
        runtime->api.RunWithBinding(self->engine->session, self->enqueue_options, self->binding);
    return failed == NULL ? KILN_OK : ort_fail(runtime, failed, "the run");
}

static kiln_status run_bound(ort_context *context, OrtStatus **failed)
{
    const ort_engine *engine = context->engine;
    KLN_RETURN_IF_ERROR(bind_fed(context));
    if (context->changing_count != 0) {
        KLN_RETURN_IF_ERROR(bind_changing(context));
    }
    if (engine->device >= 0) {
        KLN_RETURN_IF_ERROR(bind_host_inputs(context));
    }
    *failed = engine->runtime->api.RunWithBinding(engine->session, context->run_options,
                                                  context->binding);
    return KILN_OK;
}

/* Work that was enqueued before a run failed or was stopped still writes to the bound memory. */
static void wait_for_rest(const ort_engine *engine)
{
    KLN_MESSAGE_STAYS;
    if (kiln_stream_synchronize(engine->stream) != KILN_OK) {
        kln_log(KILN_LOG_ERROR, "onnxruntime", "%s", kiln_error_message());
    }
}

kiln_status ort_context_run(void *context)
{
    ort_context *self = context;
    const ort_engine *engine = self->engine;
    const ort_runtime *runtime = engine->runtime;
    OrtStatus *failed = NULL;
    ort_release_values(self);
    if (self->is_doubtful) {
        KLN_RETURN_IF_ERROR(ort_guard_run(engine, self->shapes, engine->input_count));
        self->is_doubtful = false;
    }
    /* A network's weights are used in place, so check that no file was cut short; a GPU has
     * copies. */
    if (engine->handover.count != 0 && engine->device < 0) {
        KLN_RETURN_IF_ERROR(kln_onnx_check_files(engine->handover.model));
    }
    if (engine->external != NULL) {
        KLN_RETURN_IF_ERROR(kln_onnx_check_files(engine->external));
    }
    if (self->feed != NULL) {
        ort_feed_copy_all(engine, self->feed);
    }
    if (self->strings != NULL) {
        KLN_RETURN_IF_ERROR(ort_strings_copy_in(self));
    }
    if (self->feed != NULL && ort_feed_is_due(self->feed)) {
        failed = ort_feed_run(engine, self->feed, self->run_options);
    } else {
        KLN_RETURN_IF_ERROR(run_bound(self, &failed));
    }
    self->timed_runs += self->is_timed ? 1 : 0;
    if (failed == NULL) {
        KLN_RETURN_IF_ERROR(engine->passed_count == 0 ? KILN_OK : copy_passed(self));
        return self->strings == NULL ? KILN_OK : copy_strings_out(self);
    }
    const kiln_status status = ort_fail(runtime, failed, "the run");
    ort_release_values(self);
    if (engine->device >= 0) {
        wait_for_rest(engine);
    }
    return status == KILN_ERROR_SHAPE && doubt_owned(self) ? ort_context_run(self) : status;
}

kiln_status ort_context_time(void *context, bool on)
{
    ort_context *self = context;
    KLN_RETURN_IF_ERROR(ort_profile_check(self->engine));
    self->timed_runs = on ? 0 : self->timed_runs;
    self->is_timed = on;
    return KILN_OK;
}

kiln_status ort_context_layer(void *context, size_t index, kiln_layer_time *layer)
{
    const ort_context *self = context;
    return ort_profile_show(self->engine, self->timed_runs, index, layer);
}

/* ONNX Runtime checks this between nodes. */
void ort_context_stop(void *context, bool stop)
{
    const ort_context *self = context;
    const ort_api *api = &self->engine->runtime->api;
    OrtStatus *failed = stop ? api->RunOptionsSetTerminate(self->run_options)
                             : api->RunOptionsUnsetTerminate(self->run_options);
    if (failed != NULL) {
        api->ReleaseStatus(failed);
    }
}

/* Reuses the outputs that ONNX Runtime allocated in the last run: the shapes have not changed. */
kiln_status ort_context_raw(void *context)
{
    ort_context *self = context;
    const ort_runtime *runtime = self->engine->runtime;
    KLN_RETURN_IF_ERROR(bind_fed(self));
    if (self->feed != NULL) {
        ort_feed_copy_all(self->engine, self->feed);
    }
    OrtStatus *failed =
        runtime->api.RunWithBinding(self->engine->session, self->run_options, self->binding);
    return failed == NULL ? KILN_OK : ort_fail(runtime, failed, "the run");
}

/* --- output --- */

kiln_status ort_context_output(void *context, size_t index, kiln_tensor *tensor)
{
    ort_context *self = context;
    const ort_engine *engine = self->engine;
    const kiln_binding *binding = &engine->bindings[index];
    const output_slot *slot = &self->outputs[index - engine->input_count];
    if (slot->passed != ORT_NO_INPUT) {
        *tensor = slot->tensor.data != NULL ? slot->tensor : self->inputs[slot->passed];
        return KILN_OK;
    }
    if (!slot->changing) {
        *tensor = slot->tensor;
        return KILN_OK;
    }
    KLN_RETURN_IF(!kln_dtype_is_bindable(binding->dtype), KILN_ERROR_DTYPE,
                  "output \"%s\" is a sequence, a map or other, which a tensor cannot show",
                  binding->name);
    return read_output(self, index, tensor);
}

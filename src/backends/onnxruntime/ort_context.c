/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ort_engine.h"
#include "ort_feed.h"

/* Alignment of memory that a context provides: what ONNX Runtime gives its own tensors. */
#define OUTPUT_ALIGNMENT 64

/* An output. ONNX Runtime keeps what a run allocated for an output and takes it for the caller's
 * memory in the next one, which then fails where the shape is another. So an output of fixed shape
 * gets memory once, and one whose shape may change is bound anew before each run. */
typedef struct output_slot {
    uint32_t passed;    /* the input that this output is, or ORT_NO_INPUT */
    kiln_tensor tensor; /* the memory that runs write to, unless `changing` */
    void *owned;        /* memory of the context that `tensor` may lie in */
    size_t position;    /* among the outputs that ONNX Runtime knows; NOT_BOUND at first */
    bool changing;      /* bound anew before each run, in memory that ONNX Runtime finds */
} output_slot;

#define NOT_BOUND SIZE_MAX

typedef struct ort_context {
    const ort_engine *engine;
    OrtIoBinding *binding;
    ort_feed *feed; /* NULL: the binding is told at once, as on a GPU */
    OrtRunOptions *run_options;
    OrtRunOptions *enqueue_options; /* do not wait for the GPU; NULL on the CPU */
    output_slot *outputs;
    kiln_tensor *inputs;   /* what is bound, for outputs that are inputs, and on a GPU; or NULL */
    size_t bound_count;    /* outputs that ONNX Runtime knows */
    size_t changing_count; /* outputs that are bound anew before each run */
    /* The values of the last run, once somebody asked for one that ONNX Runtime allocated. */
    OrtValue **values;
    size_t value_count;
    kln_input_shape *shapes; /* of what is bound, where the engine is risky; or NULL */
    bool is_doubtful;        /* an input without elements was bound since the last run */
    bool is_timed;
    uint64_t timed_runs; /* since that was switched on */
} ort_context;

/* --- create and destroy --- */

static void release_values(ort_context *context)
{
    const ort_runtime *runtime = context->engine->runtime;
    for (size_t i = 0; i < context->value_count; i++) {
        runtime->api.ReleaseValue(context->values[i]);
    }
    if (context->values != NULL) {
        OrtStatus *status = runtime->api.AllocatorFree(runtime->allocator, context->values);
        if (status != NULL) {
            runtime->api.ReleaseStatus(status);
        }
    }
    context->values = NULL;
    context->value_count = 0;
    if (context->feed != NULL) {
        ort_feed_release_results(context->engine, context->feed);
    }
}

void ort_context_destroy(void *context)
{
    ort_context *self = context;
    const ort_api *api = &self->engine->runtime->api;
    release_values(self);
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

kiln_status ort_context_create(void *engine, const kiln_context_options *options, void **context)
{
    (void)options;
    *context = NULL;
    const ort_engine *owner = engine;
    const ort_runtime *runtime = owner->runtime;
    ort_context *made = kln_alloc_zeroed(1, sizeof *made);
    if (made == NULL) {
        return kln_fail_memory(sizeof *made, "a context");
    }
    kiln_status status = KILN_OK;
    made->engine = owner;
    made->outputs = kln_alloc_zeroed(owner->output_count, sizeof *made->outputs);
    if (made->outputs == NULL) {
        status = kln_fail_memory(owner->output_count * sizeof *made->outputs, "a context");
        goto failed;
    }
    for (size_t i = 0; i < owner->output_count; i++) {
        made->outputs[i].position = NOT_BOUND;
        made->outputs[i].passed = owner->passed_inputs[i];
    }
    if (owner->is_risky) {
        made->shapes = kln_alloc_zeroed(owner->input_count, sizeof *made->shapes);
        if (made->shapes == NULL) {
            status = kln_fail_memory(owner->input_count * sizeof *made->shapes, "a context");
            goto failed;
        }
        for (size_t i = 0; i < owner->input_count; i++) {
            made->shapes[i] = (kln_input_shape){owner->bindings[i].name, owner->bindings[i].shape};
        }
    }
    if (owner->passed_count != 0 || owner->device >= 0 || owner->optional_count != 0) {
        made->inputs = kln_alloc_zeroed(owner->input_count, sizeof *made->inputs);
        if (made->inputs == NULL) {
            status = kln_fail_memory(owner->input_count * sizeof *made->inputs, "a context");
            goto failed;
        }
    } else {
        KLN_GOTO_IF_ERROR(ort_feed_create(owner, &made->feed), failed);
    }
    KLN_GOTO_IF_ERROR(
        ort_check(runtime, runtime->api.CreateIoBinding(owner->session, &made->binding),
                  "a context"),
        failed);
    KLN_GOTO_IF_ERROR(
        ort_check(runtime, runtime->api.CreateRunOptions(&made->run_options), "a context"), failed);
    if (owner->device >= 0) {
        KLN_GOTO_IF_ERROR(make_enqueue_options(made), failed);
    }
    *context = made;
    return KILN_OK;
failed:
    ort_context_destroy(made);
    return status;
}

/* --- bind --- */

static bool is_devices(const kiln_tensor *tensor)
{
    return tensor->desc.location == KILN_LOCATION_DEVICE ||
           tensor->desc.location == KILN_LOCATION_MANAGED;
}

/* A value of ONNX Runtime's over memory that is there already. */
static kiln_status wrap(const ort_context *context, const kiln_binding *binding,
                        const kiln_tensor *tensor, OrtValue **value)
{
    const ort_runtime *runtime = context->engine->runtime;
    /* An empty tensor may have no address, which ONNX Runtime would refuse. */
    static unsigned char nothing[1];
    const ort_element_type element = ort_element(tensor->desc.dtype);
    if (element == 0 || tensor->desc.dtype == KILN_DTYPE_STRING) {
        return kln_fail(KILN_ERROR_DTYPE, "\"%s\": a tensor of type %s cannot be bound",
                        binding->name, kiln_dtype_name(tensor->desc.dtype));
    }
    const bool on_device = is_devices(tensor);
    if (tensor->desc.location == KILN_LOCATION_DEVICE && context->engine->device < 0) {
        return kln_fail(KILN_ERROR_UNSUPPORTED,
                        "\"%s\": ONNX Runtime runs on the CPU here, memory of a device cannot be "
                        "bound",
                        binding->name);
    }
    /* There may be more bytes than the tensor takes. */
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
    OrtValue *value = NULL;
    const size_t index = index_of(context, binding);
    if (!ort_feed_return(context->feed, index, tensor)) {
        KLN_RETURN_IF_ERROR(wrap(context, binding, tensor, &value));
        ort_feed_set(context->engine, context->feed, index, value, tensor);
    }
    return KILN_OK;
}

static kiln_status bind_input(ort_context *context, const kiln_binding *binding,
                              const kiln_tensor *tensor)
{
    const ort_runtime *runtime = context->engine->runtime;
    OrtValue *value = NULL;
    if (context->feed != NULL) {
        return feed(context, binding, tensor);
    }
    KLN_RETURN_IF_ERROR(wrap(context, binding, tensor, &value));
    OrtStatus *failed = runtime->api.BindInput(context->binding, binding->name, value);
    /* The binding shares the value. */
    runtime->api.ReleaseValue(value);
    return failed == NULL ? KILN_OK : ort_fail(runtime, failed, "input \"%s\"", binding->name);
}

static void set_changing(ort_context *context, output_slot *slot, bool changing)
{
    if (slot->changing != changing) {
        slot->changing = changing;
        context->changing_count += changing ? 1 : SIZE_MAX;
    }
}

/* ONNX Runtime numbers outputs in the order in which they were bound for the first time. */
static void set_position(ort_context *context, output_slot *slot)
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
        if (failed != NULL) {
            return ort_fail(runtime, failed, "output \"%s\"", binding->name);
        }
        set_position(context, slot);
    }
    set_changing(context, slot, false);
    slot->tensor = *tensor;
    return KILN_OK;
}

static kiln_status bind_anew(ort_context *context, const kiln_binding *binding, output_slot *slot)
{
    const ort_runtime *runtime = context->engine->runtime;
    if (context->feed != NULL) {
        ort_feed_set(context->engine, context->feed, index_of(context, binding), NULL, NULL);
    } else {
        OrtStatus *failed =
            runtime->api.BindOutputToDevice(context->binding, binding->name, runtime->host);
        if (failed != NULL) {
            return ort_fail(runtime, failed, "output \"%s\"", binding->name);
        }
        set_position(context, slot);
    }
    set_changing(context, slot, true);
    return KILN_OK;
}

static kiln_status bind_owned(ort_context *context, const kiln_binding *binding, output_slot *slot)
{
    size_t bytes = 0;
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(binding->dtype, &binding->shape, &bytes));
    if (slot->owned == NULL) {
        slot->owned = kln_alloc_aligned(bytes, OUTPUT_ALIGNMENT);
        if (slot->owned == NULL) {
            return kln_fail_memory(bytes, "an output");
        }
    }
    const kiln_tensor tensor = KILN_HOST_TENSOR(binding->dtype, binding->shape, slot->owned, bytes);
    return bind_memory(context, binding, slot, &tensor);
}

/* An IO binding forgets one input only with all the rest, which is bound after this. */
static kiln_status forget_all(ort_context *context)
{
    const ort_runtime *runtime = context->engine->runtime;
    OrtIoBinding *binding = NULL;
    KLN_RETURN_IF_ERROR(ort_check(
        runtime, runtime->api.CreateIoBinding(context->engine->session, &binding), "a context"));
    release_values(context);
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
        return tensor->desc.dtype != KILN_DTYPE_UNDEFINED ? bind_input(self, binding, tensor)
                                                          : forget_all(self);
    }
    if (index < engine->input_count) {
        KLN_RETURN_IF_ERROR(bind_input(self, binding, tensor));
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
    release_values(self);
    if (slot->passed != ORT_NO_INPUT) {
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

/* --- run --- */

/* Tells the binding what the feed has. */
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
    if (failed != NULL) {
        return ort_fail(runtime, failed, "binding \"%s\"", feed->names[index]);
    }
    if (index >= engine->input_count) {
        set_position(context, &context->outputs[index - engine->input_count]);
    }
    return KILN_OK;
}

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
            if (failed != NULL) {
                return ort_fail(runtime, failed, "output \"%s\"", name);
            }
        }
    }
    return KILN_OK;
}

/* A model may promise a fixed shape and not keep it. Its outputs in memory of the context are
 * treated as changing from then on. Whether there were any. */
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
            set_changing(context, slot, true);
            if (context->feed != NULL) {
                ort_feed_set(engine, context->feed, engine->input_count + i, NULL, NULL);
            }
            any = true;
        }
    }
    return any;
}

/* ONNX Runtime writes nothing to memory that is bound to an output which is an input as well. */
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
        if (!kiln_shape_equal(&slot->tensor.desc.shape, &input->desc.shape)) {
            return kln_fail(KILN_ERROR_SHAPE,
                            "output \"%s\" is the input of that name, and has "
                            "another shape than was bound",
                            engine->bindings[slot->passed].name);
        }
        KLN_RETURN_IF_ERROR(kiln_tensor_bytes(input->desc.dtype, &input->desc.shape, &bytes));
        if (is_devices(input) || is_devices(&slot->tensor)) {
            KLN_RETURN_IF_ERROR(
                kln_cuda_copy(engine->device, slot->tensor.data, input->data, bytes, NULL));
        } else if (bytes != 0) {
            memmove(slot->tensor.data, input->data, bytes);
        }
    }
    return KILN_OK;
}

/* ONNX Runtime copies what lies in host memory to the GPU when it is bound, not when it runs. */
static kiln_status bind_host_inputs(ort_context *context)
{
    for (size_t i = 0; i < context->engine->input_count; i++) {
        if (!is_devices(&context->inputs[i])) {
            KLN_RETURN_IF_ERROR(
                bind_input(context, &context->engine->bindings[i], &context->inputs[i]));
        }
    }
    return KILN_OK;
}

/* The stream is the engine's, which ONNX Runtime knows. */
kiln_status ort_context_enqueue(void *context, kiln_stream *stream)
{
    (void)stream;
    ort_context *self = context;
    const ort_runtime *runtime = self->engine->runtime;
    if (self->engine->passed_count != 0) {
        return kln_fail(KILN_ERROR_UNSUPPORTED, "%s", self->engine->no_capture);
    }
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

/* What was enqueued before a run failed, or was stopped, writes to what is bound. */
static void wait_for_rest(const ort_engine *engine)
{
    kln_message sentence;
    kln_message_keep(&sentence);
    if (kiln_stream_synchronize(engine->stream) != KILN_OK) {
        kln_log(KILN_LOG_ERROR, "onnxruntime", "%s", kiln_error_message());
    }
    kln_message_restore(&sentence);
}

kiln_status ort_context_run(void *context)
{
    ort_context *self = context;
    const ort_engine *engine = self->engine;
    const ort_runtime *runtime = engine->runtime;
    OrtStatus *failed = NULL;
    release_values(self);
    if (self->is_doubtful) {
        KLN_RETURN_IF_ERROR(ort_guard_run(engine, self->shapes, engine->input_count));
        self->is_doubtful = false;
    }
    /* Of a network the weights are used where they lie; a GPU has them. */
    if (engine->handover.count != 0 && engine->device < 0) {
        KLN_RETURN_IF_ERROR(kln_onnx_check_files(engine->handover.model));
    }
    if (self->feed != NULL && ort_feed_is_due(self->feed)) {
        failed = ort_feed_run(engine, self->feed, self->run_options);
    } else {
        KLN_RETURN_IF_ERROR(run_bound(self, &failed));
    }
    self->timed_runs += self->is_timed ? 1 : 0;
    if (failed == NULL) {
        return engine->passed_count == 0 ? KILN_OK : copy_passed(self);
    }
    const kiln_status status = ort_fail(runtime, failed, "the run");
    release_values(self);
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

/* Looked at between nodes. */
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

/* What ONNX Runtime allocated for outputs in the last run is written again: the shapes are the
 * same. */
kiln_status ort_context_raw(void *context)
{
    ort_context *self = context;
    const ort_runtime *runtime = self->engine->runtime;
    KLN_RETURN_IF_ERROR(bind_fed(self));
    OrtStatus *failed =
        runtime->api.RunWithBinding(self->engine->session, self->run_options, self->binding);
    return failed == NULL ? KILN_OK : ort_fail(runtime, failed, "the run");
}

/* --- output --- */

static kiln_status read_value(const ort_context *context, const kiln_binding *binding,
                              OrtValue *value, kiln_tensor *tensor)
{
    const ort_runtime *runtime = context->engine->runtime;
    const ort_api *api = &runtime->api;
    OrtTensorTypeAndShapeInfo *info = NULL;
    ort_element_type element = 0;
    size_t rank = 0;
    kiln_tensor made = KILN_HOST_TENSOR(KILN_DTYPE_UNDEFINED, KILN_SHAPE_SCALAR, NULL, 0);
    KLN_RETURN_IF_ERROR(
        ort_check(runtime, api->GetTensorTypeAndShape(value, &info), binding->name));
    OrtStatus *failed = api->GetTensorElementType(info, &element);
    if (failed == NULL) {
        failed = api->GetDimensionsCount(info, &rank);
    }
    if (failed == NULL && rank <= KILN_MAX_RANK) {
        failed = api->GetDimensions(info, made.desc.shape.dims, rank);
    }
    api->ReleaseTensorTypeAndShapeInfo(info);
    KLN_RETURN_IF_ERROR(ort_check(runtime, failed, binding->name));
    if (rank > KILN_MAX_RANK) {
        return kln_fail(KILN_ERROR_RANK, "output \"%s\" came with %zu dimensions, %d are possible",
                        binding->name, rank, KILN_MAX_RANK);
    }
    made.desc.dtype = ort_dtype(element);
    made.desc.shape.rank = (int32_t)rank;
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(made.desc.dtype, &made.desc.shape, &made.bytes));
    KLN_RETURN_IF_ERROR(
        ort_check(runtime, api->GetTensorMutableData(value, &made.data), binding->name));
    *tensor = made;
    return KILN_OK;
}

kiln_status ort_context_output(void *context, size_t index, kiln_tensor *tensor)
{
    ort_context *self = context;
    const ort_engine *engine = self->engine;
    const ort_runtime *runtime = engine->runtime;
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
    if (kiln_dtype_bits(binding->dtype) == 0) {
        return kln_fail(KILN_ERROR_DTYPE, "output \"%s\" is of type %s, which a tensor cannot show",
                        binding->name,
                        binding->dtype == KILN_DTYPE_STRING ? "string" : "sequence, map or other");
    }
    if (self->feed != NULL && self->feed->has_results) {
        return read_value(self, binding, self->feed->results[index - engine->input_count], tensor);
    }
    if (self->values == NULL) {
        KLN_RETURN_IF_ERROR(
            ort_check(runtime,
                      runtime->api.GetBoundOutputValues(self->binding, runtime->allocator,
                                                        &self->values, &self->value_count),
                      "the outputs"));
    }
    if (slot->position >= self->value_count) {
        return kln_fail(KILN_ERROR_BACKEND,
                        "output \"%s\": ONNX Runtime returned %zu outputs, number %zu is missing",
                        binding->name, self->value_count, slot->position);
    }
    return read_value(self, binding, self->values[slot->position], tensor);
}

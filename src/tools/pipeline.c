/* SPDX-License-Identifier: Apache-2.0 */
#include <kiln/pipeline.h>
#include <stdio.h>

#include "cuda/kln_cuda.h"
#include "engine/kln_engine.h"
#include "memory/kln_memory.h"

#define DEFAULT_DEPTH 2
#define LARGEST_DEPTH 16

/* The memory of one binding in one slot. It grows to the largest size needed. */
typedef struct pipe_side {
    void *host; /* pinned if the engine is on a GPU */
    void *device;
    size_t capacity;
    bool is_fetched;    /* the current run's output is copied to `host` */
    uint64_t check;     /* number of the last check that found this input */
    kiln_tensor tensor; /* as bound to the context */
} pipe_side;

/* One run that may be in flight: its context, and the stream for its copies and, unless the engine
 * has its own stream, its work. */
typedef struct pipe_slot {
    kiln_context *context;
    kiln_stream *stream; /* NULL on the CPU, as is `done` */
    kiln_event *done;
    pipe_side *sides;
} pipe_slot;

struct kiln_pipeline {
    atomic_bool busy;
    kiln_engine *engine;
    int32_t device;
    pipe_slot *slots;
    pipe_side *sides;
    kln_names dim_names; /* input * KILN_MAX_RANK + dimension, for the first of each name */
    size_t depth;
    size_t outputs_end; /* in a slot's sides: inputs, outputs, initializers that may be fed */
    size_t side_count;
    uint64_t checks; /* of the inputs of a push, including failed ones */
    uint64_t pushed;
    uint64_t popped;
};

/* --- create and destroy --- */

static void drop_side(const kiln_pipeline *pipeline, pipe_side *side)
{
    const kiln_location location =
        pipeline->device >= 0 ? KILN_LOCATION_PINNED : KILN_LOCATION_HOST;
    if (side->host != NULL) {
        kln_memory_release(location, pipeline->device, side->host);
    }
    if (side->device != NULL) {
        kln_memory_release(KILN_LOCATION_DEVICE, pipeline->device, side->device);
    }
    *side = (pipe_side){.host = NULL};
}

void kiln_pipeline_destroy(kiln_pipeline *pipeline)
{
    if (pipeline == NULL) {
        return;
    }
    for (size_t i = 0; pipeline->slots != NULL && i < pipeline->depth; i++) {
        pipe_slot *slot = &pipeline->slots[i];
        kiln_context_destroy(slot->context);
        if (slot->stream != NULL && kiln_stream_synchronize(slot->stream) != KILN_OK) {
            kln_log(KILN_LOG_WARNING, "engine", "destroying a pipeline: %s", kiln_error_message());
        }
        kiln_event_destroy(slot->done);
        kiln_stream_destroy(slot->stream);
    }
    for (size_t i = 0; pipeline->sides != NULL && i < pipeline->depth * pipeline->side_count; i++) {
        drop_side(pipeline, &pipeline->sides[i]);
    }
    kln_names_finish(&pipeline->dim_names);
    kln_free(pipeline->sides);
    kln_free(pipeline->slots);
    kiln_engine_release(pipeline->engine);
    kln_free(pipeline);
}
KLN_SCOPED_POINTER(kiln_pipeline, kiln_pipeline_destroy)

static kiln_status fill_slot(kiln_pipeline *pipeline, size_t index,
                             const kiln_pipeline_options *options)
{
    pipe_slot *slot = &pipeline->slots[index];
    kiln_context_options context_options = KILN_CONTEXT_OPTIONS_INIT;
    slot->sides = pipeline->sides + index * pipeline->side_count;
    if (pipeline->device >= 0) {
        KLN_RETURN_IF_ERROR(kiln_stream_create(pipeline->device, options->priority, &slot->stream));
        KLN_RETURN_IF_ERROR(kiln_event_create(pipeline->device, false, &slot->done));
    }
    context_options.graphs = options->graphs;
    context_options.graph_bytes = options->graph_bytes;
    context_options.stream = slot->stream;
    return kiln_context_create(pipeline->engine, &context_options, &slot->context);
}

/* A string tensor's elements only refer to its bytes, which would have to be kept until the run
 * ends. */
static kiln_status refuse_strings(const kiln_pipeline *pipeline)
{
    for (size_t i = 0; i < pipeline->side_count; i++) {
        const kiln_binding *binding = &pipeline->engine->shared.description.bindings[i];
        KLN_RETURN_IF(binding->dtype == KILN_DTYPE_STRING, KILN_ERROR_UNSUPPORTED,
                      "kiln_pipeline_create: %s \"%s\" is of strings, which a pipeline does not "
                      "carry; use a context or a scheduler",
                      binding->is_input ? "input" : "output", binding->name);
    }
    return KILN_OK;
}

static kiln_status find_dim_names(kiln_pipeline *pipeline)
{
    const kiln_description *description = &pipeline->engine->shared.description;
    for (size_t i = 0; i < description->input_count; i++) {
        const kiln_binding *binding = &description->bindings[i];
        for (int32_t d = 0; d < binding->shape.rank; d++) {
            const char *name = binding->dim_names[d];
            if (name != NULL && kln_names_get(&pipeline->dim_names, name) == KLN_NAMES_NONE) {
                KLN_RETURN_IF_ERROR(kln_names_set(&pipeline->dim_names, name,
                                                  (uint32_t)(i * KILN_MAX_RANK + (size_t)d)));
            }
        }
    }
    return KILN_OK;
}

static kiln_status fill(kiln_pipeline *pipeline, const kiln_pipeline_options *options)
{
    KLN_RETURN_IF_ERROR(refuse_strings(pipeline));
    KLN_RETURN_IF_ERROR(find_dim_names(pipeline));
    pipeline->slots = kln_alloc_zeroed(pipeline->depth, sizeof *pipeline->slots);
    pipeline->sides =
        kln_alloc_zeroed(pipeline->depth * pipeline->side_count, sizeof *pipeline->sides);
    KLN_FAIL_IF(pipeline->slots == NULL || pipeline->sides == NULL,
                kln_fail_memory(pipeline->depth * pipeline->side_count * sizeof *pipeline->sides,
                                "a pipeline"));
    for (size_t i = 0; i < pipeline->depth; i++) {
        KLN_RETURN_IF_ERROR(fill_slot(pipeline, i, options));
    }
    return KILN_OK;
}

kiln_status kiln_pipeline_create(kiln_engine *engine, const kiln_pipeline_options *options,
                                 kiln_pipeline **pipeline)
{
    KLN_RETURN_IF_NULL_RESULT(pipeline, engine);
    kiln_pipeline_options read = KILN_PIPELINE_OPTIONS_INIT;
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_pipeline_options", options, &read, sizeof read));
    KLN_RETURN_IF(read.depth < 0 || read.depth > LARGEST_DEPTH, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_pipeline_options: depth is %d; 1 to %d runs can be under way at once",
                  read.depth, LARGEST_DEPTH);
    KLN_SCOPED(kiln_pipeline_destroy_at) kiln_pipeline *made = kln_alloc_zeroed(1, sizeof *made);
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "a pipeline");
    atomic_init(&made->busy, false);
    made->engine = kiln_engine_retain(engine);
    made->device = engine->shared.device;
    made->depth = read.depth != 0 ? (size_t)read.depth : DEFAULT_DEPTH;
    made->outputs_end =
        engine->shared.description.input_count + engine->shared.description.output_count;
    made->side_count = made->outputs_end + engine->shared.description.optional_count;
    KLN_RETURN_IF_ERROR(fill(made, &read));
    *pipeline = KLN_TAKE(made);
    return KILN_OK;
}

/* --- one thread at a time --- */

static kiln_status enter(kiln_pipeline *pipeline, const char *function)
{
    KLN_RETURN_IF(atomic_exchange_explicit(&pipeline->busy, true, memory_order_acquire),
                  KILN_ERROR_BUSY, "%s: another thread is inside this pipeline", function);
    return KILN_OK;
}

static kiln_status leave(kiln_pipeline *pipeline, kiln_status status)
{
    atomic_store_explicit(&pipeline->busy, false, memory_order_release);
    return status;
}

/* --- pushing --- */

static kiln_status grow(const kiln_pipeline *pipeline, pipe_side *side, size_t bytes)
{
    const size_t needed = bytes != 0 ? bytes : 1;
    const bool on_gpu = pipeline->device >= 0;
    if (side->host != NULL && needed <= side->capacity) {
        return KILN_OK;
    }
    pipe_side made = {.capacity = needed, .check = side->check};
    kiln_status status = kln_memory_allocate(on_gpu ? KILN_LOCATION_PINNED : KILN_LOCATION_HOST,
                                             pipeline->device, needed, &made.host);
    if (status == KILN_OK && on_gpu) {
        status = kln_memory_allocate(KILN_LOCATION_DEVICE, pipeline->device, needed, &made.device);
    }
    if (status != KILN_OK) {
        drop_side(pipeline, &made);
        return status;
    }
    drop_side(pipeline, side);
    *side = made;
    return KILN_OK;
}

/* A view of the side's memory that the context uses. */
static kiln_tensor view(const kiln_pipeline *pipeline, const pipe_side *side, kiln_dtype dtype,
                        const kiln_shape *shape, size_t bytes)
{
    const bool on_gpu = pipeline->device >= 0;
    kiln_tensor tensor = KILN_HOST_TENSOR(dtype, *shape, on_gpu ? side->device : side->host, bytes);
    tensor.desc.location = on_gpu ? KILN_LOCATION_DEVICE : KILN_LOCATION_HOST;
    tensor.desc.device = on_gpu ? pipeline->device : 0;
    return tensor;
}

static kiln_status take_input(const kiln_pipeline *pipeline, pipe_slot *slot, size_t index,
                              const kiln_tensor *input)
{
    pipe_side *side = &slot->sides[index];
    if (input->desc.location == KILN_LOCATION_DEVICE) {
        side->tensor = *input;
        return KILN_OK;
    }
    size_t bytes = 0;
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(input->desc.dtype, &input->desc.shape, &bytes));
    KLN_RETURN_IF_ERROR(grow(pipeline, side, bytes));
    side->tensor = view(pipeline, side, input->desc.dtype, &input->desc.shape, bytes);
    if (bytes != 0) {
        memcpy(side->host, input->data, bytes);
    }
    return bytes == 0 || pipeline->device < 0
               ? KILN_OK
               : kln_cuda_copy(pipeline->device, side->device, side->host, bytes, slot->stream);
}

/* The size of the dimension of that name in any input of this run; KILN_DYNAMIC if there is
 * none. */
static int64_t find_dimension(const kiln_pipeline *pipeline, const pipe_slot *slot,
                              const char *name)
{
    const uint32_t place =
        name != NULL ? kln_names_get(&pipeline->dim_names, name) : KLN_NAMES_NONE;
    return place != KLN_NAMES_NONE
               ? slot->sides[place / KILN_MAX_RANK].tensor.desc.shape.dims[place % KILN_MAX_RANK]
               : KILN_DYNAMIC;
}

/* Provides memory for an output whose shape is known before the run, so that it is copied back on
 * the slot's own stream. Others are left to the context. */
static kiln_status take_output(const kiln_pipeline *pipeline, pipe_slot *slot, size_t index)
{
    const kiln_binding *binding = &pipeline->engine->shared.description.bindings[index];
    pipe_side *side = &slot->sides[index];
    kiln_shape shape = binding->shape;
    for (int32_t d = 0; d < shape.rank; d++) {
        if (shape.dims[d] == KILN_DYNAMIC) {
            shape.dims[d] = find_dimension(pipeline, slot, binding->dim_names[d]);
        }
    }
    side->is_fetched = pipeline->device >= 0 && shape.rank >= 0 &&
                       kiln_dtype_bits(binding->dtype) != 0 && kiln_shape_is_static(&shape);
    if (!side->is_fetched) {
        return KILN_OK;
    }
    size_t bytes = 0;
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(binding->dtype, &shape, &bytes));
    KLN_RETURN_IF_ERROR(grow(pipeline, side, bytes));
    side->is_fetched = true;
    side->tensor = view(pipeline, side, binding->dtype, &shape, bytes);
    return KILN_OK;
}

static kiln_status check_inputs(kiln_pipeline *pipeline, const pipe_slot *slot,
                                const kiln_named_tensor *inputs, size_t count)
{
    const kiln_description *description = &pipeline->engine->shared.description;
    const size_t input_count = description->input_count;
    const uint64_t check = ++pipeline->checks;
    for (size_t i = 0; i < count; i++) {
        size_t index = 0;
        KLN_FAIL_IF(inputs[i].name == NULL, kln_fail_null("kiln_pipeline_push", "name"));
        KLN_RETURN_IF_ERROR(kln_context_find(slot->context, inputs[i].name, KLN_INPUT, &index));
        KLN_RETURN_IF(slot->sides[index].check == check, KILN_ERROR_NAME,
                      "kiln_pipeline_push: \"%s\" is given twice", inputs[i].name);
        slot->sides[index].check = check;
        KLN_RETURN_IF_ERROR(kln_exec_check(slot->context->exec, index, &inputs[i].tensor));
    }
    for (size_t i = 0; i < input_count; i++) {
        KLN_RETURN_IF(slot->sides[i].check != check, KILN_ERROR_NOT_BOUND,
                      "kiln_pipeline_push: input \"%s\" is not among the %zu given",
                      description->bindings[i].name, count);
    }
    return KILN_OK;
}

static kiln_status bind_sides(const kiln_pipeline *pipeline, const pipe_slot *slot)
{
    const size_t input_count = pipeline->engine->shared.description.input_count;
    for (size_t i = 0; i < pipeline->side_count; i++) {
        const bool is_output = i >= input_count && i < pipeline->outputs_end;
        const pipe_side *side = &slot->sides[i];
        if (is_output ? side->is_fetched : side->check == pipeline->checks) {
            KLN_RETURN_IF_ERROR(kln_exec_bind(slot->context->exec, i, &slot->sides[i].tensor));
        } else {
            kln_exec_unbind(slot->context->exec, i);
        }
    }
    return KILN_OK;
}

static kiln_status start(const kiln_pipeline *pipeline, pipe_slot *slot,
                         const kiln_named_tensor *inputs, size_t count)
{
    const size_t input_count = pipeline->engine->shared.description.input_count;
    for (size_t i = 0; i < count; i++) {
        const size_t index = kln_names_get(&pipeline->engine->inputs, inputs[i].name);
        KLN_RETURN_IF_ERROR(take_input(pipeline, slot, index, &inputs[i].tensor));
    }
    for (size_t i = input_count; i < pipeline->outputs_end; i++) {
        KLN_RETURN_IF_ERROR(take_output(pipeline, slot, i));
    }
    KLN_RETURN_IF_ERROR(kln_context_enter(slot->context, "kiln_pipeline_push"));
    KLN_RETURN_IF_ERROR(kln_context_leave(slot->context, bind_sides(pipeline, slot)));
    KLN_RETURN_IF_ERROR(kiln_context_enqueue(slot->context, slot->stream));
    for (size_t i = input_count; i < pipeline->outputs_end; i++) {
        const pipe_side *side = &slot->sides[i];
        if (side->is_fetched && side->tensor.bytes != 0) {
            KLN_RETURN_IF_ERROR(kln_cuda_copy(pipeline->device, side->host, side->device,
                                              side->tensor.bytes, slot->stream));
        }
    }
    return slot->stream != NULL ? kiln_event_record(slot->done, slot->stream) : KILN_OK;
}

/* Work that was enqueued before the failure still uses the slot's memory. Keeps the message of the
 * failure. */
static kiln_status fail_start(pipe_slot *slot, kiln_status status)
{
    char sentence[1024];
    (void)snprintf(sentence, sizeof sentence, "%s", kiln_error_message());
    if (kiln_context_wait(slot->context) != KILN_OK ||
        (slot->stream != NULL && kiln_stream_synchronize(slot->stream) != KILN_OK)) {
        kln_log(KILN_LOG_WARNING, "engine", "a pipeline: %s", kiln_error_message());
    }
    return kln_fail(status, "%s", sentence);
}

static kiln_status push(kiln_pipeline *pipeline, const kiln_named_tensor *inputs, size_t count)
{
    KLN_RETURN_IF(kiln_pipeline_pending(pipeline) == pipeline->depth, KILN_ERROR_STATE,
                  "kiln_pipeline_push: %zu runs are under way, which is the pipeline's depth; "
                  "call kiln_pipeline_pop first",
                  pipeline->depth);
    pipe_slot *slot = &pipeline->slots[pipeline->pushed % pipeline->depth];
    KLN_RETURN_IF_ERROR(check_inputs(pipeline, slot, inputs, count));
    const kiln_status status = start(pipeline, slot, inputs, count);
    KLN_FAIL_IF(status != KILN_OK, fail_start(slot, status));
    pipeline->pushed++;
    return KILN_OK;
}

kiln_status kiln_pipeline_push(kiln_pipeline *pipeline, const kiln_named_tensor *inputs,
                               size_t count)
{
    KLN_RETURN_IF_NULL(pipeline);
    if (count != 0) {
        KLN_RETURN_IF_NULL(inputs);
    }
    KLN_RETURN_IF_ERROR(enter(pipeline, __func__));
    return leave(pipeline, push(pipeline, inputs, count));
}

/* --- popping --- */

static kiln_status result_of(pipe_slot *slot, size_t index, kiln_tensor *result)
{
    const pipe_side *side = &slot->sides[index];
    if (!side->is_fetched) {
        KLN_RETURN_IF_ERROR(kln_context_enter(slot->context, "kiln_pipeline_pop"));
        return kln_context_leave(slot->context, kln_exec_show(slot->context->exec, index, result));
    }
    *result = side->tensor;
    result->desc.location = KILN_LOCATION_PINNED;
    result->data = side->host;
    return KILN_OK;
}

static kiln_status hand_out(pipe_slot *slot, kiln_named_tensor *output)
{
    size_t index = 0;
    size_t bytes = 0;
    kiln_tensor result = {.data = NULL};
    KLN_FAIL_IF(output->name == NULL, kln_fail_null("kiln_pipeline_pop", "name"));
    KLN_RETURN_IF_ERROR(kln_context_find(slot->context, output->name, KLN_OUTPUT, &index));
    KLN_RETURN_IF_ERROR(result_of(slot, index, &result));
    if (output->tensor.data == NULL) {
        output->tensor = result;
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(kln_exec_check(slot->context->exec, index, &output->tensor));
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(result.desc.dtype, &result.desc.shape, &bytes));
    KLN_RETURN_IF(output->tensor.desc.location == KILN_LOCATION_DEVICE, KILN_ERROR_UNSUPPORTED,
                  "output \"%s\": a pipeline brings results to host memory", output->name);
    if (!kiln_shape_equal(&output->tensor.desc.shape, &result.desc.shape)) {
        const char *given = KLN_SHAPE_PRINTED(&output->tensor.desc.shape);
        return kln_fail(KILN_ERROR_SHAPE, "output \"%s\" is %s, memory for %s was given",
                        output->name, KLN_SHAPE_PRINTED(&result.desc.shape), given);
    }
    if (bytes != 0) {
        memcpy(output->tensor.data, result.data, bytes);
    }
    return KILN_OK;
}

static kiln_status wait_for(pipe_slot *slot)
{
    KLN_RETURN_IF_ERROR(kiln_context_wait(slot->context));
    return slot->done != NULL ? kiln_event_synchronize(slot->done) : KILN_OK;
}

static kiln_status pop(kiln_pipeline *pipeline, kiln_named_tensor *outputs, size_t count)
{
    KLN_RETURN_IF(kiln_pipeline_pending(pipeline) == 0, KILN_ERROR_STATE,
                  "kiln_pipeline_pop: nothing is under way; call kiln_pipeline_push first");
    pipe_slot *slot = &pipeline->slots[pipeline->popped % pipeline->depth];
    const kiln_status status = wait_for(slot);
    if (status != KILN_OK) {
        pipeline->popped++;
        return status;
    }
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(hand_out(slot, &outputs[i]));
    }
    pipeline->popped++;
    return KILN_OK;
}

kiln_status kiln_pipeline_pop(kiln_pipeline *pipeline, kiln_named_tensor *outputs, size_t count)
{
    KLN_RETURN_IF_NULL(pipeline);
    if (count != 0) {
        KLN_RETURN_IF_NULL(outputs);
    }
    KLN_RETURN_IF_ERROR(enter(pipeline, __func__));
    return leave(pipeline, pop(pipeline, outputs, count));
}

/* --- state --- */

size_t kiln_pipeline_pending(const kiln_pipeline *pipeline)
{
    return pipeline != NULL ? (size_t)(pipeline->pushed - pipeline->popped) : 0;
}

kiln_status kiln_pipeline_get_counters(kiln_pipeline *pipeline, kiln_context_counters *counters)
{
    KLN_RETURN_IF_NULL(pipeline);
    kiln_context_counters sum = {.struct_size = sizeof sum, .graph_reason = ""};
    kiln_context_counters found = sum;
    for (size_t i = 0; i < pipeline->depth; i++) {
        KLN_RETURN_IF_ERROR(kiln_context_get_counters(pipeline->slots[i].context, &found));
        sum.runs += found.runs;
        sum.failed_runs += found.failed_runs;
        sum.binds += found.binds;
        sum.bytes_owned += found.bytes_owned;
        sum.graph_hits += found.graph_hits;
        sum.graph_misses += found.graph_misses;
        sum.graph_captures += found.graph_captures;
        sum.graph_failures += found.graph_failures;
        sum.graph_evictions += found.graph_evictions;
        sum.graphs += found.graphs;
        sum.staging_bytes += found.staging_bytes;
        sum.graph_reason = found.graph_reason[0] != '\0' ? found.graph_reason : sum.graph_reason;
    }
    return kln_info_write(__func__, counters, &sum, sizeof sum);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>

#include <kiln/system.h>
#include <kiln/version.h>

#include "kln_mock.h"

/* An engine of the mock: the caller's options, copied. */
struct kln_mock {
    kln_arena arena;
    kiln_mock_options options;
    kiln_binding *bindings; /* inputs, then outputs */
    atomic_uint_least64_t runs;
    kiln_stream *stream; /* with `one_stream` */
};

typedef struct mock_context {
    kln_mock *engine;
    kiln_tensor *tensors; /* as bound, then as the handler left them */
    bool *owned;          /* outputs whose memory the mock finds */
    void **memory;        /* for those */
    size_t *capacity;
    size_t count;
} mock_context;

/* --- engine --- */

static void engine_destroy(void *engine)
{
    kln_mock *mock = engine;
    kiln_stream_destroy(mock->stream);
    kln_arena_finish(&mock->arena);
    kln_free(mock);
}
KLN_SCOPED_POINTER(kln_mock, engine_destroy)

static kiln_status copy_quantization(kln_mock *mock, kiln_binding *to)
{
    kiln_quantization *q = &to->quantization;
    if (q->storage == KILN_DTYPE_UNDEFINED) {
        *q = (kiln_quantization){.storage = KILN_DTYPE_UNDEFINED};
        return KILN_OK;
    }
    KLN_RETURN_IF(q->scales == NULL || q->count < 1, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_engine_create_mock: binding \"%s\" is quantized as %s, with %lld scales; "
                  "one or more are needed",
                  to->name, kiln_dtype_name(q->storage), (long long)q->count);
    const size_t count = (size_t)q->count;
    float *scales = kln_arena_alloc(&mock->arena, count * sizeof *scales);
    int32_t *zeros = kln_arena_alloc(&mock->arena, count * sizeof *zeros);
    if (scales == NULL || zeros == NULL) {
        return kln_fail_memory(count * sizeof *scales, "the scales of a binding");
    }
    memcpy(scales, q->scales, count * sizeof *scales);
    q->scales = scales;
    if (q->zero_points != NULL) {
        memcpy(zeros, q->zero_points, count * sizeof *zeros);
        q->zero_points = zeros;
    }
    return KILN_OK;
}

static kiln_status copy_binding(kln_mock *mock, const kiln_binding *from, bool is_input,
                                kiln_binding *to)
{
    *to = (kiln_binding){.struct_size = sizeof *to};
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_mock_options binding", from, to, sizeof *to));
    KLN_FAIL_IF(to->name == NULL, kln_fail_null("kiln_engine_create_mock", "name"));
    KLN_RETURN_IF(
        !kln_dtype_is_bindable(to->dtype) || to->shape.rank < 0 || to->shape.rank > KILN_MAX_RANK,
        KILN_ERROR_INVALID_ARGUMENT,
        "kiln_engine_create_mock: binding \"%s\" needs a type and a rank of 0 to %d; "
        "found %s and %d",
        to->name, KILN_MAX_RANK, kiln_dtype_name(to->dtype), to->shape.rank);
    to->is_input = is_input;
    KLN_RETURN_IF_ERROR(copy_quantization(mock, to));
    return kln_binding_own_names(&mock->arena, to);
}

static kiln_status fill(kln_mock *mock)
{
    const kiln_mock_options *options = &mock->options;
    if (options->enqueue != NULL) {
        kiln_device_info info = {.struct_size = sizeof info};
        KLN_RETURN_IF_ERROR(kiln_device_get(options->device, &info));
    }
    const size_t count = options->input_count + options->output_count;
    KLN_ARENA_NEW(&mock->arena, mock->bindings, count, "the mock's bindings");
    for (size_t i = 0; i < count; i++) {
        const bool is_input = i < options->input_count;
        const kiln_binding *from =
            is_input ? &options->inputs[i] : &options->outputs[i - options->input_count];
        KLN_RETURN_IF_ERROR(copy_binding(mock, from, is_input, &mock->bindings[i]));
    }
    return options->enqueue != NULL && options->one_stream
               ? kiln_stream_create(options->device, 0, &mock->stream)
               : KILN_OK;
}

kiln_status kln_mock_create(const kiln_mock_options *options, kln_mock **mock)
{
    *mock = NULL;
    KLN_SCOPED(engine_destroy_at) kln_mock *made = kln_alloc_zeroed(1, sizeof *made);
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "a mock");
    made->options = *options;
    KLN_RETURN_IF_ERROR(fill(made));
    *mock = KLN_TAKE(made);
    return KILN_OK;
}

static kiln_status probe(const char *library, kiln_backend_info *info)
{
    (void)library;
    info->available = true;
    info->score = 0; /* it is never chosen by itself */
    info->version = kiln_version_string();
    info->library = "";
    info->reason = "plays a function of the caller's; only a program in C makes one";
    info->capabilities = KILN_CAPABILITY_RUN | KILN_CAPABILITY_DYNAMIC_SHAPES;
    return KILN_OK;
}

static kiln_status describe(void *engine, kiln_description *description)
{
    const kln_mock *mock = engine;
    description->bindings = mock->bindings;
    description->input_count = mock->options.input_count;
    description->output_count = mock->options.output_count;
    return KILN_OK;
}

/* --- context --- */

static void context_destroy(void *state)
{
    mock_context *context = state;
    for (size_t i = 0; context->memory != NULL && i < context->count; i++) {
        kln_free(context->memory[i]);
    }
    kln_free(context->memory);
    kln_free(context->capacity);
    kln_free(context->owned);
    kln_free(context->tensors);
    kln_free(context);
}

static kiln_status context_create(void *engine, const kiln_context_options *options, void **state)
{
    (void)options;
    mock_context *context = kln_alloc_zeroed(1, sizeof *context);
    KLN_RETURN_IF_NO_MEMORY(context, sizeof *context, "a context of the mock");
    context->engine = engine;
    context->count = context->engine->options.input_count + context->engine->options.output_count;
    context->tensors = kln_alloc_zeroed(context->count, sizeof *context->tensors);
    context->owned = kln_alloc_zeroed(context->count, sizeof *context->owned);
    context->capacity = kln_alloc_zeroed(context->count, sizeof *context->capacity);
    context->memory = kln_alloc_zeroed(context->count, sizeof *context->memory);
    if (context->tensors == NULL || context->owned == NULL || context->capacity == NULL ||
        context->memory == NULL) {
        context_destroy(context);
        return kln_fail_memory(sizeof *context->tensors, "a context of the mock");
    }
    *state = context;
    return KILN_OK;
}

static kiln_status bind(void *state, size_t index, const kiln_tensor *tensor)
{
    mock_context *context = state;
    context->owned[index] = tensor->data == NULL && tensor->desc.dtype == KILN_DTYPE_UNDEFINED;
    context->tensors[index] = *tensor;
    return KILN_OK;
}

/* The size that an input gives to the dimension of that name, or KILN_DYNAMIC. */
static int64_t named_dimension(const mock_context *context, const char *name)
{
    for (size_t i = 0; name != NULL && i < context->engine->options.input_count; i++) {
        const kiln_binding *binding = &context->engine->bindings[i];
        for (int32_t d = 0; d < binding->shape.rank; d++) {
            if (binding->dim_names[d] != NULL && strcmp(binding->dim_names[d], name) == 0) {
                return context->tensors[i].desc.shape.dims[d];
            }
        }
    }
    return KILN_DYNAMIC;
}

static kiln_status find_memory(mock_context *context, size_t index)
{
    const kiln_binding *binding = &context->engine->bindings[index];
    kiln_shape shape = binding->shape;
    for (int32_t d = 0; d < shape.rank; d++) {
        if (shape.dims[d] == KILN_DYNAMIC) {
            shape.dims[d] = named_dimension(context, binding->dim_names[d]);
        }
        KLN_RETURN_IF(shape.dims[d] == KILN_DYNAMIC, KILN_ERROR_NOT_BOUND,
                      "output \"%s\": dimension %d is dynamic and no input has one of its "
                      "name; bind the output",
                      binding->name, d);
    }
    size_t bytes = 0;
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(binding->dtype, &shape, &bytes));
    if (bytes > context->capacity[index] || context->memory[index] == NULL) {
        void *memory = kln_alloc(bytes);
        KLN_RETURN_IF_NO_MEMORY(memory, bytes, binding->name);
        kln_free(context->memory[index]);
        context->memory[index] = memory;
        context->capacity[index] = bytes;
    }
    if (binding->dtype == KILN_DTYPE_STRING) {
        memset(context->memory[index], 0, bytes); /* what the handler does not write is "" */
    }
    context->tensors[index] =
        KILN_HOST_TENSOR(binding->dtype, shape, context->memory[index], bytes);
    return KILN_OK;
}

static void sleep_until(uint64_t deadline)
{
    const struct timespec at = kln_timespec(deadline);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0) {
    }
}

/* `stream`: the run is enqueued there; NULL: it is done at once. */
static kiln_status play(mock_context *context, uint64_t number, kiln_stream *stream)
{
    const kiln_mock_options *options = &context->engine->options;
    if (options->fail_every != 0 && (number + 1) % options->fail_every == 0) {
        const kiln_status status =
            options->fail_status != KILN_OK ? options->fail_status : KILN_ERROR_BACKEND;
        return kln_fail(status, "the mock fails run %llu, as its options ask",
                        (unsigned long long)number + 1);
    }
    kiln_mock_run run = {.inputs = context->tensors,
                         .input_count = options->input_count,
                         .outputs = context->tensors + options->input_count,
                         .output_count = options->output_count,
                         .index = number};
    char message[1024] = "";
    const kiln_status status = stream != NULL
                                   ? options->enqueue(options->user, &run, stream, message)
                                   : options->handler(options->user, &run, message);
    if (status != KILN_OK) {
        message[sizeof message - 1] = '\0';
        return kln_fail(status, "the mock's handler failed in run %llu: %s",
                        (unsigned long long)number + 1,
                        message[0] != '\0' ? message : kiln_status_text(status));
    }
    return KILN_OK;
}

static kiln_status run(void *state)
{
    mock_context *context = state;
    const uint64_t begin = kln_now();
    for (size_t i = context->engine->options.input_count; i < context->count; i++) {
        if (context->owned[i]) {
            KLN_RETURN_IF_ERROR(find_memory(context, i));
        }
    }
    const kiln_status status = play(context, atomic_fetch_add(&context->engine->runs, 1), NULL);
    if (context->engine->options.latency_nanoseconds != 0) {
        sleep_until(begin + context->engine->options.latency_nanoseconds);
    }
    return status;
}

static kiln_status output(void *state, size_t index, kiln_tensor *tensor)
{
    *tensor = ((mock_context *)state)->tensors[index];
    return KILN_OK;
}

/* --- playing a GPU --- */

static int32_t device(void *engine)
{
    const kln_mock *mock = engine;
    return mock->options.enqueue != NULL ? mock->options.device : -1;
}

static kiln_stream *stream_of(void *engine)
{
    return ((kln_mock *)engine)->stream;
}

static kiln_status enqueue(void *state, kiln_stream *stream)
{
    mock_context *context = state;
    return play(context, atomic_fetch_add(&context->engine->runs, 1), stream);
}

const kiln_backend kln_backend_mock = {
    .struct_size = sizeof(kiln_backend),
    .name = "mock",
    .description = "a function of the caller's, for tests",
    .survives_fork = true,
    .binds_strings = true,
    .repeats_calls = true, /* the caller's */
    .probe = probe,
    .engine = {.describe = describe,
               .destroy = engine_destroy,
               .device = device,
               .stream = stream_of},
    .context = {.create = context_create,
                .destroy = context_destroy,
                .bind = bind,
                .run = run,
                .output = output,
                .enqueue = enqueue},
};

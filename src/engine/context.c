/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "kln_engine.h"

/* What a binding of a context is bound to. */
typedef enum slot_state {
    SLOT_EMPTY,  /* an input without data; an output that the backend finds memory for */
    SLOT_CALLER, /* the caller's memory */
    SLOT_OWNED   /* the context's own memory (inputs only) */
} slot_state;

typedef struct slot {
    slot_state state;
    bool pending; /* the backend does not know it yet */
    kiln_tensor tensor;
    void *owned;
    size_t owned_bytes;
} slot;

struct kiln_context {
    atomic_bool busy;
    kiln_engine *engine;
    void *state; /* the backend's */
    slot *slots; /* one for each binding of the engine, in its order */
    size_t slot_count;
    bool ready;       /* every input has data and nothing is pending */
    bool has_results; /* of a run with what is bound now */
    uint64_t runs;
    uint64_t failed_runs;
    uint64_t binds;
    uint64_t bytes_owned;
};

/* --- one thread at a time --- */

/* Memory that input `name` gets when the context provides it: a cache line, and what vector loads
 * like. */
#define OWNED_ALIGNMENT 64

static kiln_status enter(kiln_context *context, const char *function)
{
    if (atomic_exchange_explicit(&context->busy, true, memory_order_acquire)) {
        return kln_fail(KILN_ERROR_BUSY,
                        "%s: another thread is inside this context; give each thread a context of "
                        "its own over the same engine",
                        function);
    }
    return KILN_OK;
}

static kiln_status leave(kiln_context *context, kiln_status status)
{
    atomic_store_explicit(&context->busy, false, memory_order_release);
    return status;
}

/* --- create and destroy --- */

void kiln_context_destroy(kiln_context *context)
{
    if (context == NULL) {
        return;
    }
    if (context->state != NULL) {
        context->engine->backend->context_destroy(context->state);
    }
    for (size_t i = 0; i < context->slot_count; i++) {
        kln_free(context->slots[i].owned);
    }
    kln_free(context->slots);
    kiln_engine_release(context->engine);
    kln_free(context);
}

static kiln_status init(kiln_context *context, const kiln_context_options *options)
{
    const kln_description *description = &context->engine->description;
    const size_t count = description->input_count + description->output_count;
    context->slots = kln_alloc_zeroed(count, sizeof *context->slots);
    if (context->slots == NULL) {
        return kln_fail_memory(count * sizeof *context->slots, "a context's bindings");
    }
    context->slot_count = count;
    for (size_t i = description->input_count; i < count; i++) {
        context->slots[i].pending = true;
    }
    return context->engine->backend->context_create(context->engine->state, options,
                                                    &context->state);
}

kiln_status kiln_context_create(kiln_engine *engine, const kiln_context_options *options,
                                kiln_context **context)
{
    KLN_RETURN_IF_NULL(context);
    *context = NULL;
    KLN_RETURN_IF_NULL(engine);
    kiln_context_options read = KILN_CONTEXT_OPTIONS_INIT;
    KLN_RETURN_IF_ERROR(
        kln_options_read("kiln_context_options", options, sizeof read, &read, sizeof read));
    kiln_context *made = kln_alloc_zeroed(1, sizeof *made);
    if (made == NULL) {
        return kln_fail_memory(sizeof *made, "a context");
    }
    atomic_init(&made->busy, false);
    made->engine = kiln_engine_retain(engine);
    const kiln_status status = init(made, &read);
    if (status != KILN_OK) {
        kiln_context_destroy(made);
        return status;
    }
    *context = made;
    return KILN_OK;
}

/* --- names --- */

static const kiln_binding *binding_of(const kiln_context *context, size_t index)
{
    return &context->engine->description.bindings[index];
}

static kiln_status fail_name(const kiln_context *context, const char *name, const char *what,
                             size_t begin, size_t end)
{
    char known[600] = "";
    size_t used = 0;
    for (size_t i = begin; i < end && used < sizeof known - 4; i++) {
        const char *candidate = binding_of(context, i)->name;
        const size_t length = strlen(candidate);
        if (used + length + 8 > sizeof known) {
            memcpy(known + used, ", ...", 6);
            break;
        }
        if (used != 0) {
            memcpy(known + used, ", ", 2);
            used += 2;
        }
        memcpy(known + used, candidate, length + 1);
        used += length;
    }
    return kln_fail(KILN_ERROR_NAME, "there is no %s \"%s\"; there %s %s", what, name,
                    end - begin == 1 ? "is" : "are", end > begin ? known : "none");
}

static kiln_status find_input(const kiln_context *context, const char *name, size_t *index)
{
    const uint32_t found = kln_names_get(&context->engine->inputs, name);
    if (found == KLN_NAMES_NONE) {
        return fail_name(context, name, "input", 0, context->engine->description.input_count);
    }
    *index = found;
    return KILN_OK;
}

static kiln_status find_output(const kiln_context *context, const char *name, size_t *index)
{
    const uint32_t found = kln_names_get(&context->engine->outputs, name);
    if (found == KLN_NAMES_NONE) {
        return fail_name(context, name, "output", context->engine->description.input_count,
                         context->slot_count);
    }
    *index = found;
    return KILN_OK;
}

/* An input if `inputs_first`, else an output, of that name; or else the other. */
static kiln_status find_any(const kiln_context *context, const char *name, bool inputs_first,
                            size_t *index)
{
    const kln_names *first = inputs_first ? &context->engine->inputs : &context->engine->outputs;
    const kln_names *second = inputs_first ? &context->engine->outputs : &context->engine->inputs;
    uint32_t found = kln_names_get(first, name);
    if (found == KLN_NAMES_NONE) {
        found = kln_names_get(second, name);
    }
    if (found == KLN_NAMES_NONE) {
        return fail_name(context, name, "input or output", 0, context->slot_count);
    }
    *index = found;
    return KILN_OK;
}

/* --- does a tensor fit a binding --- */

static const char *kind_of(const kiln_binding *binding)
{
    return binding->is_input ? "input" : "output";
}

static kiln_status check_shape(const kiln_binding *binding, const kiln_shape *shape)
{
    if (binding->shape.rank < 0) {
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

static kiln_status check_tensor(const kiln_context *context, size_t index,
                                const kiln_tensor *tensor)
{
    const kiln_binding *binding = binding_of(context, index);
    KLN_RETURN_IF_ERROR(check_dtype(binding));
    if (tensor->desc.dtype != binding->dtype) {
        return kln_fail(KILN_ERROR_DTYPE, "%s \"%s\": %s is needed, %s was given", kind_of(binding),
                        binding->name, kiln_dtype_name(binding->dtype),
                        kiln_dtype_name(tensor->desc.dtype));
    }
    if (tensor->desc.shape.rank >= 0 && tensor->desc.shape.rank <= KILN_MAX_RANK) {
        KLN_RETURN_IF_ERROR(check_shape(binding, &tensor->desc.shape));
    }
    kiln_status status = kln_tensor_check(binding->name, tensor);
    if (status != KILN_OK) {
        return kln_fail_within(status, "%s", kind_of(binding));
    }
    return check_place(context, binding, &tensor->desc);
}

/* --- changing a slot --- */

static void mark_pending(kiln_context *context, slot *changed)
{
    changed->pending = true;
    context->ready = false;
    context->has_results = false;
}

static void drop_owned(kiln_context *context, slot *changed)
{
    context->bytes_owned -= changed->owned_bytes;
    kln_free(changed->owned);
    changed->owned = NULL;
    changed->owned_bytes = 0;
}

static bool is_taking_back(const kiln_tensor *tensor)
{
    return tensor->data == NULL && tensor->bytes == 0 && tensor->desc.shape.rank == 0 &&
           tensor->desc.dtype == KILN_DTYPE_UNDEFINED;
}

static bool same_view(const slot *bound, const kiln_tensor *tensor)
{
    return bound->state == SLOT_CALLER && bound->tensor.data == tensor->data &&
           bound->tensor.bytes == tensor->bytes &&
           bound->tensor.desc.location == tensor->desc.location &&
           kiln_shape_equal(&bound->tensor.desc.shape, &tensor->desc.shape);
}

/* The tensor was checked. */
static void set_caller(kiln_context *context, size_t index, const kiln_tensor *tensor)
{
    slot *changed = &context->slots[index];
    if (same_view(changed, tensor)) {
        return;
    }
    drop_owned(context, changed);
    changed->state = SLOT_CALLER;
    changed->tensor = *tensor;
    mark_pending(context, changed);
}

static void set_empty(kiln_context *context, size_t index)
{
    slot *changed = &context->slots[index];
    if (changed->state == SLOT_EMPTY) {
        return;
    }
    drop_owned(context, changed);
    changed->state = SLOT_EMPTY;
    changed->tensor = (kiln_tensor){.data = NULL};
    mark_pending(context, changed);
}

/* Memory of the context for input `index` of this shape, kept where it is large enough already. */
static kiln_status set_owned(kiln_context *context, size_t index, const kiln_shape *shape)
{
    const kiln_binding *binding = binding_of(context, index);
    slot *changed = &context->slots[index];
    size_t bytes = 0;
    kiln_status status = kiln_tensor_bytes(binding->dtype, shape, &bytes);
    if (status != KILN_OK) {
        return kln_fail_within(status, "input \"%s\"", binding->name);
    }
    if (changed->state == SLOT_OWNED && kiln_shape_equal(&changed->tensor.desc.shape, shape)) {
        return KILN_OK;
    }
    if (bytes > changed->owned_bytes || changed->owned == NULL) {
        void *memory = kln_alloc_aligned(bytes, OWNED_ALIGNMENT);
        if (memory == NULL) {
            return kln_fail_memory(bytes, binding->name);
        }
        drop_owned(context, changed);
        changed->owned = memory;
        changed->owned_bytes = bytes;
        context->bytes_owned += bytes;
    }
    memset(changed->owned, 0, bytes);
    changed->state = SLOT_OWNED;
    changed->tensor = KILN_HOST_TENSOR(binding->dtype, *shape, changed->owned, bytes);
    mark_pending(context, changed);
    return KILN_OK;
}

/* --- the calls that change what is bound --- */

static kiln_status bind_inside(kiln_context *context, const char *name, const kiln_tensor *tensor)
{
    size_t index = 0;
    KLN_RETURN_IF_ERROR(find_any(context, name, true, &index));
    if (is_taking_back(tensor)) {
        set_empty(context, index);
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(check_tensor(context, index, tensor));
    set_caller(context, index, tensor);
    return KILN_OK;
}

kiln_status kiln_context_bind(kiln_context *context, const char *name, const kiln_tensor *tensor)
{
    KLN_RETURN_IF_NULL(context);
    KLN_RETURN_IF_NULL(name);
    KLN_RETURN_IF_NULL(tensor);
    KLN_RETURN_IF_ERROR(enter(context, __func__));
    return leave(context, bind_inside(context, name, tensor));
}

static kiln_status reshape_inside(kiln_context *context, const char *name, const kiln_shape *shape)
{
    size_t index = 0;
    KLN_RETURN_IF_ERROR(find_input(context, name, &index));
    const kiln_binding *binding = binding_of(context, index);
    KLN_RETURN_IF_ERROR(check_dtype(binding));
    int64_t elements = 0;
    const kiln_status status = kiln_shape_elements(shape, &elements);
    if (status != KILN_OK) {
        return kln_fail_within(status, "input \"%s\"", name);
    }
    KLN_RETURN_IF_ERROR(check_shape(binding, shape));
    return set_owned(context, index, shape);
}

kiln_status kiln_context_reshape(kiln_context *context, const char *name, const kiln_shape *shape)
{
    KLN_RETURN_IF_NULL(context);
    KLN_RETURN_IF_NULL(name);
    KLN_RETURN_IF_NULL(shape);
    KLN_RETURN_IF_ERROR(enter(context, __func__));
    return leave(context, reshape_inside(context, name, shape));
}

/* --- looking at tensors --- */

static kiln_status show_input(kiln_context *context, size_t index, kiln_tensor *tensor)
{
    const kiln_binding *binding = binding_of(context, index);
    if (context->slots[index].state == SLOT_EMPTY) {
        KLN_RETURN_IF_ERROR(check_dtype(binding));
        if (binding->shape.rank < 0 || !kiln_shape_is_static(&binding->shape)) {
            char shape[KLN_SHAPE_TEXT];
            (void)kiln_shape_format(&binding->shape, shape, sizeof shape);
            return kln_fail(KILN_ERROR_NOT_BOUND,
                            "input \"%s\" has the shape %s and no memory yet; bind it, or give it "
                            "a shape with kiln_context_reshape",
                            binding->name, binding->shape.rank < 0 ? "?" : shape);
        }
        KLN_RETURN_IF_ERROR(set_owned(context, index, &binding->shape));
    }
    *tensor = context->slots[index].tensor;
    return KILN_OK;
}

static kiln_status show_output(kiln_context *context, size_t index, kiln_tensor *tensor)
{
    if (!context->has_results) {
        return kln_fail(KILN_ERROR_STATE,
                        "output \"%s\": there is no result yet, or what was bound has changed "
                        "since; run the context first",
                        binding_of(context, index)->name);
    }
    KLN_RETURN_IF_ERROR(check_dtype(binding_of(context, index)));
    return context->engine->backend->output(context->state, index, tensor);
}

static kiln_status show_inside(kiln_context *context, const char *name, kiln_tensor *tensor)
{
    size_t index = 0;
    KLN_RETURN_IF_ERROR(find_any(context, name, false, &index));
    return binding_of(context, index)->is_input ? show_input(context, index, tensor)
                                                : show_output(context, index, tensor);
}

kiln_status kiln_context_tensor(kiln_context *context, const char *name, kiln_tensor *tensor)
{
    KLN_RETURN_IF_NULL(context);
    KLN_RETURN_IF_NULL(name);
    KLN_RETURN_IF_NULL(tensor);
    KLN_RETURN_IF_ERROR(enter(context, __func__));
    return leave(context, show_inside(context, name, tensor));
}

/* --- running --- */

static kiln_status check_all_bound(const kiln_context *context)
{
    for (size_t i = 0; i < context->engine->description.input_count; i++) {
        if (context->slots[i].state == SLOT_EMPTY) {
            return kln_fail(KILN_ERROR_NOT_BOUND,
                            "input \"%s\" is not bound; call kiln_context_bind, or fill the memory "
                            "that kiln_context_tensor shows",
                            binding_of(context, i)->name);
        }
    }
    return KILN_OK;
}

static kiln_status hand_over(kiln_context *context)
{
    KLN_RETURN_IF_ERROR(check_all_bound(context));
    const kln_backend *backend = context->engine->backend;
    for (size_t i = 0; i < context->slot_count; i++) {
        slot *changed = &context->slots[i];
        if (changed->pending) {
            KLN_RETURN_IF_ERROR(backend->bind(context->state, i, &changed->tensor));
            changed->pending = false;
            context->binds++;
        }
    }
    context->ready = true;
    return KILN_OK;
}

static kiln_status run_inside(kiln_context *context)
{
    kiln_status status = KILN_OK;
    context->has_results = false;
    if (!context->ready) {
        status = hand_over(context);
    }
    if (status == KILN_OK) {
        status = context->engine->backend->run(context->state);
    }
    if (status != KILN_OK) {
        context->failed_runs++;
        return status;
    }
    context->runs++;
    context->has_results = true;
    return KILN_OK;
}

kiln_status kiln_context_run(kiln_context *context)
{
    KLN_RETURN_IF_NULL(context);
    KLN_RETURN_IF_ERROR(enter(context, __func__));
    return leave(context, run_inside(context));
}

/* --- inputs, run and outputs in one call --- */

typedef kiln_status (*finder)(const kiln_context *context, const char *name, size_t *index);

static kiln_status check_named(const kiln_context *context, const kiln_named_tensor *tensors,
                               size_t count, finder find, bool may_be_empty)
{
    for (size_t i = 0; i < count; i++) {
        size_t index = 0;
        if (tensors[i].name == NULL) {
            return kln_fail_null("kiln_context_run_tensors", "name");
        }
        KLN_RETURN_IF_ERROR(find(context, tensors[i].name, &index));
        for (size_t other = 0; other < i; other++) {
            if (strcmp(tensors[other].name, tensors[i].name) == 0) {
                return kln_fail(KILN_ERROR_NAME, "\"%s\" is named twice", tensors[i].name);
            }
        }
        if (tensors[i].tensor.data != NULL || !may_be_empty) {
            KLN_RETURN_IF_ERROR(check_tensor(context, index, &tensors[i].tensor));
        }
    }
    return KILN_OK;
}

static kiln_status run_tensors_inside(kiln_context *context, const kiln_named_tensor *inputs,
                                      size_t input_count, kiln_named_tensor *outputs,
                                      size_t output_count)
{
    KLN_RETURN_IF_ERROR(check_named(context, inputs, input_count, find_input, false));
    KLN_RETURN_IF_ERROR(check_named(context, outputs, output_count, find_output, true));
    for (size_t i = 0; i < input_count; i++) {
        set_caller(context, kln_names_get(&context->engine->inputs, inputs[i].name),
                   &inputs[i].tensor);
    }
    for (size_t i = 0; i < output_count; i++) {
        const size_t index = kln_names_get(&context->engine->outputs, outputs[i].name);
        if (outputs[i].tensor.data != NULL) {
            set_caller(context, index, &outputs[i].tensor);
        } else {
            set_empty(context, index);
        }
    }
    KLN_RETURN_IF_ERROR(run_inside(context));
    for (size_t i = 0; i < output_count; i++) {
        const size_t index = kln_names_get(&context->engine->outputs, outputs[i].name);
        KLN_RETURN_IF_ERROR(show_output(context, index, &outputs[i].tensor));
    }
    return KILN_OK;
}

kiln_status kiln_context_run_tensors(kiln_context *context, const kiln_named_tensor *inputs,
                                     size_t input_count, kiln_named_tensor *outputs,
                                     size_t output_count)
{
    KLN_RETURN_IF_NULL(context);
    if (input_count != 0) {
        KLN_RETURN_IF_NULL(inputs);
    }
    if (output_count != 0) {
        KLN_RETURN_IF_NULL(outputs);
    }
    KLN_RETURN_IF_ERROR(enter(context, __func__));
    return leave(context, run_tensors_inside(context, inputs, input_count, outputs, output_count));
}

/* --- warmup and counters --- */

#define DEFAULT_WARMUP_RUNS 10
/* Samples kept for the median; more runs overwrite the oldest, so it speaks of the last ones. */
#define WARMUP_SAMPLES ((size_t)1024)

static int compare_times(const void *left, const void *right)
{
    const uint64_t a = *(const uint64_t *)left;
    const uint64_t b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

static uint64_t median_of_second_half(uint64_t *samples, uint64_t runs)
{
    const size_t kept = runs < WARMUP_SAMPLES ? (size_t)runs : WARMUP_SAMPLES;
    /* Once the ring is full, all it holds is from late in the warmup. */
    const size_t begin = runs < WARMUP_SAMPLES ? kept / 2 : 0;
    qsort(samples + begin, kept - begin, sizeof *samples, compare_times);
    return samples[begin + (kept - begin) / 2];
}

static kiln_status warm_up(kiln_context *context, uint64_t runs, uint64_t milliseconds,
                           uint64_t *samples, kiln_warmup_summary *summary)
{
    const uint64_t begin = kln_now();
    if (runs == 0 && milliseconds == 0) {
        runs = DEFAULT_WARMUP_RUNS;
    }
    uint64_t now = begin;
    while (summary->runs == 0 || ((runs == 0 || summary->runs < runs) &&
                                  (milliseconds == 0 || (now - begin) / 1000000 < milliseconds))) {
        const uint64_t start = now;
        KLN_RETURN_IF_ERROR(run_inside(context));
        now = kln_now();
        const uint64_t took = now - start;
        samples[summary->runs % WARMUP_SAMPLES] = took;
        if (summary->runs == 0) {
            summary->first_nanoseconds = took;
            summary->minimum_nanoseconds = took;
        } else if (took < summary->minimum_nanoseconds) {
            summary->minimum_nanoseconds = took;
        }
        summary->runs++;
    }
    summary->total_nanoseconds = now - begin;
    summary->median_nanoseconds = median_of_second_half(samples, summary->runs);
    return KILN_OK;
}

kiln_status kiln_context_warmup(kiln_context *context, uint64_t runs, uint64_t milliseconds,
                                kiln_warmup_summary *summary)
{
    KLN_RETURN_IF_NULL(context);
    kiln_warmup_summary made = {.struct_size = sizeof made};
    if (summary != NULL) {
        KLN_RETURN_IF_ERROR(kln_info_write(__func__, summary, sizeof made, &made, sizeof made));
    }
    uint64_t *samples = kln_alloc(WARMUP_SAMPLES * sizeof *samples);
    if (samples == NULL) {
        return kln_fail_memory(WARMUP_SAMPLES * sizeof *samples, "a warmup's times");
    }
    kiln_status status = enter(context, __func__);
    if (status == KILN_OK) {
        status = leave(context, warm_up(context, runs, milliseconds, samples, &made));
    }
    kln_free(samples);
    if (status == KILN_OK && summary != NULL) {
        status = kln_info_write(__func__, summary, sizeof made, &made, sizeof made);
    }
    return status;
}

kiln_status kiln_context_get_counters(kiln_context *context, kiln_context_counters *counters)
{
    KLN_RETURN_IF_NULL(context);
    KLN_RETURN_IF_ERROR(enter(context, __func__));
    const kiln_context_counters found = {.struct_size = sizeof found,
                                         .runs = context->runs,
                                         .failed_runs = context->failed_runs,
                                         .binds = context->binds,
                                         .bytes_owned = context->bytes_owned};
    return leave(context, kln_info_write(__func__, counters, sizeof found, &found, sizeof found));
}

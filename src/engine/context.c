/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "context_parts.h"

/* --- one thread at a time --- */

/* A context with a thread of its own stays with it, whatever its backend is. */
static bool is_left_behind(const kiln_context *context)
{
    return kln_engine_is_left_behind(context->engine) ||
           (context->watch != NULL && context->engine->forks != kln_forks());
}

static kiln_status enter(kiln_context *context, const char *function, bool at_last)
{
    if (is_left_behind(context)) {
        return kln_engine_fail_process(context->engine, function);
    }
    if (atomic_exchange_explicit(&context->busy, true, memory_order_acquire)) {
        return kln_fail(KILN_ERROR_BUSY,
                        "%s: another thread is inside this context; give each thread a context of "
                        "its own over the same engine",
                        function);
    }
    if (context->gpu != NULL && context->gpu->is_under_way) {
        const kiln_status status = context->gpu->left ? context_gpu_end_left(context, at_last)
                                                      : context_gpu_finish(context);
        return status == KILN_OK ? KILN_OK : context_leave(context, status);
    }
    return KILN_OK;
}

kiln_status context_enter(kiln_context *context, const char *function)
{
    return enter(context, function, false);
}

kiln_status context_enter_at_last(kiln_context *context, const char *function)
{
    return enter(context, function, true);
}

kiln_status context_leave(kiln_context *context, kiln_status status)
{
    atomic_store_explicit(&context->busy, false, memory_order_release);
    return status;
}

/* --- create and destroy --- */

void context_release_owned(kiln_context *context, context_slot *slot)
{
    if (slot->owned == NULL) {
        return;
    }
    const int32_t device = context->engine->device;
    kln_memory_release(device >= 0 ? KILN_LOCATION_PINNED : KILN_LOCATION_HOST, device,
                       slot->owned);
    slot->owned = NULL;
}

static void release_parts(kiln_context *context)
{
    context_stop_destroy(context);
    /* Graphs and what is under way use the backend's memory and the slots'. */
    kiln_stream *work = context_gpu_destroy(context);
    if (context->state != NULL) {
        context->engine->backend->context_destroy(context->state);
    }
    kiln_stream_destroy(work);
    for (size_t i = 0; i < context->slot_count; i++) {
        context_release_owned(context, &context->slots[i]);
        context_overlap_release(context, &context->slots[i]);
    }
}

void kiln_context_destroy(kiln_context *context)
{
    if (context == NULL) {
        return;
    }
    if (!is_left_behind(context)) {
        release_parts(context);
    }
    kln_free(context->ranges);
    kln_free(context->results);
    kln_free(context->slots);
    kln_free(context->found);
    kiln_engine_release(context->engine);
    kln_free(context);
}

static kiln_status check_options(const kiln_engine *engine, const kiln_context_options *options)
{
    const char *name = options->share_device_memory               ? "share_device_memory"
                       : options->persistent_cache_bytes != 0     ? "persistent_cache_bytes"
                       : options->runtime_cache != NULL           ? "runtime_cache"
                       : (int)options->kernel_specialization != 0 ? "kernel_specialization"
                       : (int)options->rtx_graphs != 0            ? "rtx_graphs"
                                                                  : NULL;
    if (name != NULL && engine->backend->plan == NULL) {
        return kln_fail(KILN_ERROR_UNSUPPORTED,
                        "kiln_context_options: \"%s\" is set, which the backend %s does not have",
                        name, engine->backend->name);
    }
    if (options->kernel_specialization > KILN_KERNELS_GENERAL ||
        options->rtx_graphs > KILN_SWITCH_OFF) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_context_options: kernel_specialization is %d (0 to %d), rtx_graphs "
                        "is %d (0 to %d)",
                        (int)options->kernel_specialization, KILN_KERNELS_GENERAL,
                        (int)options->rtx_graphs, KILN_SWITCH_OFF);
    }
    return KILN_OK;
}

static kiln_status init(kiln_context *context, const kiln_context_options *options)
{
    const kln_description *description = &context->engine->description;
    const size_t required = description->input_count + description->output_count;
    const size_t count = required + description->optional_count;
    context->slots = kln_alloc_zeroed(count, sizeof *context->slots);
    context->found = kln_alloc_zeroed(count, sizeof *context->found);
    context->ranges = kln_alloc_zeroed(count, sizeof *context->ranges);
    context->results = kln_alloc_zeroed(count, sizeof *context->results);
    if (context->slots == NULL || context->found == NULL || context->ranges == NULL ||
        context->results == NULL) {
        return kln_fail_memory(count * sizeof *context->slots, "a context's bindings");
    }
    context->slot_count = count;
    for (size_t i = description->input_count; i < required; i++) {
        context->slots[i].pending = true;
    }
    KLN_RETURN_IF_ERROR(context_gpu_create(context, options));
    kiln_context_options backends = *options;
    backends.stream = context->gpu != NULL ? context->gpu->work : NULL;
    KLN_RETURN_IF_ERROR(context->engine->backend->context_create(context->engine->state, &backends,
                                                                 &context->state));
    return context_stop_create(context, options);
}

kiln_status kiln_context_create(kiln_engine *engine, const kiln_context_options *options,
                                kiln_context **context)
{
    KLN_RETURN_IF_NULL(context);
    *context = NULL;
    KLN_RETURN_IF_NULL(engine);
    kiln_context_options read = KILN_CONTEXT_OPTIONS_INIT;
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_context_options", options, &read, sizeof read));
    KLN_RETURN_IF_ERROR(check_options(engine, &read));
    KLN_RETURN_IF_ERROR(kln_engine_check_process(engine, __func__));
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

const kiln_binding *context_binding(const kiln_context *context, size_t index)
{
    return &context->engine->description.bindings[index];
}

static kiln_status fail_name(const kiln_context *context, const char *name, const char *what,
                             size_t begin, size_t end)
{
    char known[600] = "";
    size_t used = 0;
    for (size_t i = begin; i < end && used < sizeof known - 4; i++) {
        const char *candidate = context_binding(context, i)->name;
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

kiln_status context_find_input(const kiln_context *context, const char *name, size_t *index)
{
    const uint32_t found = kln_names_get(&context->engine->inputs, name);
    if (found == KLN_NAMES_NONE) {
        return fail_name(context, name, "input", 0, context->engine->description.input_count);
    }
    *index = found;
    return KILN_OK;
}

kiln_status context_find_output(const kiln_context *context, const char *name, size_t *index)
{
    const uint32_t found = kln_names_get(&context->engine->outputs, name);
    if (found == KLN_NAMES_NONE) {
        const kln_description *description = &context->engine->description;
        return fail_name(context, name, "output", description->input_count,
                         description->input_count + description->output_count);
    }
    *index = found;
    return KILN_OK;
}

kiln_status context_find_any(const kiln_context *context, const char *name, bool inputs_first,
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

/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_engine.h"

/* --- one thread at a time --- */

/* A context that has a thread of its own does not survive a fork, whatever its backend. */
static bool is_left_behind(const kiln_context *context)
{
    return context->engine->forks != kln_forks() &&
           (kln_engine_is_left_behind(context->engine) ||
            (context->exec != NULL && kln_exec_has_thread(context->exec)));
}

static kiln_status enter(kiln_context *context, const char *function, bool at_last)
{
    KLN_FAIL_IF(is_left_behind(context), kln_engine_fail_process(context->engine, function));
    KLN_RETURN_IF(atomic_exchange_explicit(&context->busy, true, memory_order_acquire),
                  KILN_ERROR_BUSY,
                  "%s: another thread is inside this context; give each thread a context of "
                  "its own over the same engine",
                  function);
    const kiln_status status = kln_exec_wait(context->exec, at_last);
    return status == KILN_OK ? KILN_OK : kln_context_leave(context, status);
}

kiln_status kln_context_enter(kiln_context *context, const char *function)
{
    return enter(context, function, false);
}

kiln_status kln_context_enter_at_last(kiln_context *context, const char *function)
{
    return enter(context, function, true);
}

/* --- create and destroy --- */

void kiln_context_destroy(kiln_context *context)
{
    if (context == NULL) {
        return;
    }
    kln_exec_destroy(context->exec, is_left_behind(context));
    kln_free(context->found);
    kln_free(context->named);
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
    KLN_RETURN_IF((unsigned)options->kernel_specialization > KILN_KERNELS_GENERAL ||
                      (unsigned)options->rtx_graphs > KILN_SWITCH_OFF,
                  KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_context_options: kernel_specialization is %d (0 to %d), rtx_graphs "
                  "is %d (0 to %d)",
                  (int)options->kernel_specialization, KILN_KERNELS_GENERAL,
                  (int)options->rtx_graphs, KILN_SWITCH_OFF);
    KLN_RETURN_IF(name != NULL && engine->shared.backend->plan == NULL, KILN_ERROR_UNSUPPORTED,
                  "kiln_context_options: \"%s\" is set, which the backend %s does not have", name,
                  engine->shared.backend->name);
    return KILN_OK;
}

static kiln_status init(kiln_context *context, const kiln_context_options *options)
{
    const kiln_description *description = &context->engine->shared.description;
    const size_t count =
        description->input_count + description->output_count + description->optional_count;
    context->found = kln_alloc_zeroed(count, sizeof *context->found);
    context->named = kln_alloc_zeroed(count, sizeof *context->named);
    KLN_FAIL_IF(context->found == NULL || context->named == NULL,
                kln_fail_memory(count * sizeof *context->named, "a context's bindings"));
    return kln_exec_create(&context->engine->shared, options, &context->exec);
}

kiln_status kiln_context_create(kiln_engine *engine, const kiln_context_options *options,
                                kiln_context **context)
{
    KLN_RETURN_IF_NULL_RESULT(context, engine);
    kiln_context_options read = KILN_CONTEXT_OPTIONS_INIT;
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_context_options", options, &read, sizeof read));
    KLN_RETURN_IF_ERROR(check_options(engine, &read));
    KLN_RETURN_IF_ERROR(kln_engine_check_process(engine, __func__));
    KLN_SCOPED(kiln_context_destroy_at) kiln_context *made = kln_alloc_zeroed(1, sizeof *made);
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "a context");
    atomic_init(&made->busy, false);
    made->engine = kiln_engine_retain(engine);
    KLN_RETURN_IF_ERROR(init(made, &read));
    *context = KLN_TAKE(made);
    return KILN_OK;
}

const char *kiln_context_error_message(const kiln_context *context)
{
    return context != NULL ? context->error.text : "";
}

/* --- names --- */

static const char *binding_name(const void *from, size_t index)
{
    return ((const kiln_binding *)from)[index].name;
}

static kiln_status fail_name(const kiln_context *context, const char *name, const char *what,
                             size_t begin, size_t end)
{
    char known[600];
    return kln_fail(KILN_ERROR_NAME, "there is no %s \"%s\"; %s", what, name,
                    kln_there_are(known, sizeof known, end - begin, binding_name,
                                  context->engine->shared.description.bindings + begin));
}

/* A linear search of so few names is faster than hashing one. Optional inputs are only in the
 * tables. */
#define FEW_BINDINGS ((size_t)4)

static uint32_t find_binding(const kiln_engine *engine, bool inputs, const char *name)
{
    const kiln_description *description = &engine->shared.description;
    const size_t begin = inputs ? 0 : description->input_count;
    const size_t count = inputs ? description->input_count : description->output_count;
    const bool few = count <= FEW_BINDINGS;
    for (size_t i = begin; few && i < begin + count; i++) {
        if (strcmp(description->bindings[i].name, name) == 0) {
            return (uint32_t)i;
        }
    }
    return few && (!inputs || description->optional_count == 0)
               ? KLN_NAMES_NONE
               : kln_names_get(inputs ? &engine->inputs : &engine->outputs, name);
}

kiln_status kln_context_find(const kiln_context *context, const char *name, kln_sought sought,
                             size_t *index)
{
    const kiln_engine *engine = context->engine;
    const kiln_description *description = &engine->shared.description;
    const bool inputs_first = sought == KLN_INPUT || sought == KLN_INPUT_FIRST;
    const bool both = sought == KLN_INPUT_FIRST || sought == KLN_OUTPUT_FIRST;
    uint32_t found = find_binding(engine, inputs_first, name);
    if (found == KLN_NAMES_NONE && both) {
        found = find_binding(engine, !inputs_first, name);
    }
    *index = found;
    if (found != KLN_NAMES_NONE) {
        return KILN_OK;
    }
    const size_t outputs_end = description->input_count + description->output_count;
    return both ? fail_name(context, name, "input or output", 0,
                            outputs_end + description->optional_count)
           : inputs_first
               ? fail_name(context, name, "input", 0, description->input_count)
               : fail_name(context, name, "output", description->input_count, outputs_end);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/kln_cuda.h"
#include "kln_engine.h"

static kiln_status run_once(kiln_context *context, kiln_stream *stream, bool waits)
{
    KLN_RETURN_IF_ERROR(kln_exec_run(context->exec, stream, waits));
    kln_exec_spend(context->exec);
    return KILN_OK;
}

kiln_status kiln_context_run(kiln_context *context)
{
    KLN_RETURN_IF_NULL(context);
    KLN_RETURN_IF_ERROR(kln_context_enter(context, __func__));
    return kln_context_leave(context, run_once(context, NULL, true));
}

kiln_status kiln_context_run_raw(kiln_context *context, uint64_t *nanoseconds)
{
    uint64_t took = 0;
    KLN_RETURN_IF_NULL(context);
    KLN_RETURN_IF_ERROR(kln_context_enter(context, __func__));
    const kiln_status status = kln_exec_run_raw(context->exec, &took);
    if (nanoseconds != NULL) {
        *nanoseconds = took;
    }
    return kln_context_leave(context, status);
}

kiln_status kiln_context_cancel(kiln_context *context)
{
    KLN_RETURN_IF_NULL(context);
    return kln_exec_cancel(context->exec);
}

/* --- without waiting --- */

kiln_stream *kiln_context_stream(const kiln_context *context)
{
    return context != NULL ? kln_exec_stream(context->exec) : NULL;
}

kiln_status kiln_context_enqueue(kiln_context *context, kiln_stream *stream)
{
    KLN_RETURN_IF_NULL(context);
    const kln_shared *shared = &context->engine->shared;
    KLN_RETURN_IF(stream != NULL && shared->device < 0, KILN_ERROR_UNSUPPORTED,
                  "kiln_context_enqueue: a stream was given, and this engine of the %s "
                  "backend computes on the CPU",
                  shared->info.name);
    KLN_RETURN_IF(stream != NULL && stream->device != shared->device, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_context_enqueue: the stream is of device %d, the engine of device %d",
                  stream->device, shared->device);
    KLN_RETURN_IF_ERROR(kln_context_enter(context, __func__));
    return kln_context_leave(context, run_once(context, stream, false));
}

kiln_status kiln_context_wait(kiln_context *context)
{
    KLN_RETURN_IF_NULL(context);
    KLN_RETURN_IF_ERROR(kln_context_enter_at_last(context, __func__));
    return kln_context_leave(context, KILN_OK);
}

/* --- inputs, run and outputs in one call --- */

/* Callers mostly name tensors in the engine's order, so try that position first. */
static kiln_status find_named(const kiln_context *context, const char *name, bool is_input,
                              size_t place, size_t *index)
{
    const kiln_description *description = &context->engine->shared.description;
    const size_t inputs = description->input_count;
    const size_t outputs = description->output_count;
    const size_t guess = is_input ? place : inputs + place;
    if (guess < (is_input ? inputs : inputs + outputs) &&
        strcmp(description->bindings[guess].name, name) == 0) {
        *index = guess;
        return KILN_OK;
    }
    return kln_context_find(context, name, is_input ? KLN_INPUT : KLN_OUTPUT, index);
}

/* `found` receives the slots. It has room, because no call may name a slot twice. */
static kiln_status check_named(kiln_context *context, const kiln_named_tensor *tensors,
                               size_t count, bool are_inputs, uint32_t *found)
{
    for (size_t i = 0; i < count; i++) {
        size_t index = 0;
        KLN_FAIL_IF(tensors[i].name == NULL, kln_fail_null("kiln_context_run_tensors", "name"));
        KLN_RETURN_IF_ERROR(find_named(context, tensors[i].name, are_inputs, i, &index));
        KLN_RETURN_IF(context->named[index] == context->calls, KILN_ERROR_NAME,
                      "\"%s\" is given twice", tensors[i].name);
        context->named[index] = context->calls;
        found[i] = (uint32_t)index;
        if (are_inputs || tensors[i].tensor.data != NULL) {
            KLN_RETURN_IF_ERROR(kln_exec_check(context->exec, index, &tensors[i].tensor));
        }
    }
    return KILN_OK;
}

/* In `found`, outputs come after the space for all inputs. */
static size_t outputs_begin(const kiln_context *context)
{
    const kiln_description *description = &context->engine->shared.description;
    return description->input_count + description->optional_count;
}

static kiln_status bind_named(kiln_context *context, const kiln_named_tensor *inputs,
                              size_t input_count, const kiln_named_tensor *outputs,
                              size_t output_count)
{
    uint32_t *found_inputs = context->found;
    uint32_t *found_outputs = context->found + outputs_begin(context);
    context->calls++;
    KLN_RETURN_IF_ERROR(check_named(context, inputs, input_count, true, found_inputs));
    KLN_RETURN_IF_ERROR(check_named(context, outputs, output_count, false, found_outputs));
    for (size_t i = 0; i < input_count; i++) {
        KLN_RETURN_IF_ERROR(kln_exec_bind(context->exec, found_inputs[i], &inputs[i].tensor));
    }
    for (size_t i = 0; i < output_count; i++) {
        if (outputs[i].tensor.data != NULL) {
            KLN_RETURN_IF_ERROR(kln_exec_bind(context->exec, found_outputs[i], &outputs[i].tensor));
        } else {
            kln_exec_unbind(context->exec, found_outputs[i]);
        }
    }
    return KILN_OK;
}

static kiln_status run_tensors_inside(kiln_context *context, const kiln_named_tensor *inputs,
                                      size_t input_count, kiln_named_tensor *outputs,
                                      size_t output_count)
{
    const kiln_status status = bind_named(context, inputs, input_count, outputs, output_count);
    if (status != KILN_OK) {
        kln_exec_count_failure(context->exec);
        return status;
    }
    KLN_RETURN_IF_ERROR(run_once(context, NULL, true));
    for (size_t i = 0; i < output_count; i++) {
        KLN_RETURN_IF_ERROR(kln_exec_show(context->exec, context->found[outputs_begin(context) + i],
                                          &outputs[i].tensor));
    }
    return KILN_OK;
}

static kiln_status check_lists(const char *function, const kiln_context *context,
                               const void *inputs, size_t input_count, const void *outputs,
                               size_t output_count)
{
    const char *name = context == NULL                        ? "context"
                       : inputs == NULL && input_count != 0   ? "inputs"
                       : outputs == NULL && output_count != 0 ? "outputs"
                                                              : NULL;
    return name != NULL ? kln_fail_null(function, name) : KILN_OK;
}

kiln_status kiln_context_run_tensors(kiln_context *context, const kiln_named_tensor *inputs,
                                     size_t input_count, kiln_named_tensor *outputs,
                                     size_t output_count)
{
    KLN_RETURN_IF_ERROR(check_lists(__func__, context, inputs, input_count, outputs, output_count));
    KLN_RETURN_IF_ERROR(kln_context_enter(context, __func__));
    return kln_context_leave(
        context, run_tensors_inside(context, inputs, input_count, outputs, output_count));
}

/* `named` records what the call named, even if the call failed halfway. */
static void unbind_named(kiln_context *context)
{
    const kiln_description *description = &context->engine->shared.description;
    const size_t count =
        description->input_count + description->output_count + description->optional_count;
    for (size_t i = 0; i < count; i++) {
        if (context->named[i] == context->calls) {
            kln_exec_unbind(context->exec, i);
        }
    }
}

kiln_status kiln_context_run_once(kiln_context *context, const kiln_named_tensor *inputs,
                                  size_t input_count, kiln_named_tensor *outputs,
                                  size_t output_count)
{
    KLN_RETURN_IF_ERROR(check_lists(__func__, context, inputs, input_count, outputs, output_count));
    KLN_RETURN_IF_ERROR(kln_context_enter(context, __func__));
    const kiln_status status =
        run_tensors_inside(context, inputs, input_count, outputs, output_count);
    unbind_named(context);
    return kln_context_leave(context, status);
}

/* --- counters --- */

/* Not kln_context_enter, which would wait for a run in flight. */
kiln_status kiln_context_get_counters(kiln_context *context, kiln_context_counters *counters)
{
    KLN_RETURN_IF_NULL(context);
    KLN_RETURN_IF(atomic_exchange_explicit(&context->busy, true, memory_order_acquire),
                  KILN_ERROR_BUSY, "%s: another thread is inside this context", __func__);
    kiln_context_counters found;
    kln_exec_get_counters(context->exec, &found);
    return kln_context_leave(context, kln_info_write(__func__, counters, &found, sizeof found));
}

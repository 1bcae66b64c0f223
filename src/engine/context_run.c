/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "context_parts.h"

/* --- running --- */

kiln_status context_check_all_bound(const kiln_context *context)
{
    for (size_t i = 0; i < context->engine->description.input_count; i++) {
        if (context->slots[i].state == SLOT_EMPTY) {
            const kiln_binding *binding = context_binding(context, i);
            const bool open = binding->shape.rank < 0 || !kiln_shape_is_static(&binding->shape);
            return kln_fail(KILN_ERROR_NOT_BOUND, "input \"%s\" is not bound; %s", binding->name,
                            open ? "bind a tensor to it (kiln_context_bind), or give it a shape "
                                   "(kiln_context_reshape) and fill its memory"
                                 : "bind a tensor to it (kiln_context_bind), or fill the memory "
                                   "that kiln_context_tensor shows");
        }
    }
    return KILN_OK;
}

static kiln_status hand_over_one(kiln_context *context, size_t index)
{
    context_slot *changed = &context->slots[index];
    if (changed->pending) {
        KLN_RETURN_IF_ERROR(
            context->engine->backend->bind(context->state, index, &changed->tensor));
        changed->pending = false;
        context->binds++;
    }
    return KILN_OK;
}

static kiln_status hand_over(kiln_context *context)
{
    const size_t required = context_outputs_end(context);
    KLN_RETURN_IF_ERROR(context_check_all_bound(context));
    if (context->gpu != NULL) {
        context->gpu->bound = NULL;
    }
    /* What is optional comes first: where its own value is wanted again, the others follow. */
    for (size_t i = context->slot_count; i-- > required;) {
        KLN_RETURN_IF_ERROR(hand_over_one(context, i));
    }
    for (size_t i = 0; i < required; i++) {
        KLN_RETURN_IF_ERROR(hand_over_one(context, i));
    }
    context->ready = true;
    return KILN_OK;
}

kiln_status context_run_plainly(kiln_context *context)
{
    if (!context->ready) {
        KLN_RETURN_IF_ERROR(hand_over(context));
    }
    return context->engine->backend->run(context->state);
}

static kiln_status fill_inputs(const kiln_context *context)
{
    for (size_t i = 0; i < context->slot_count; i++) {
        const context_slot *slot = &context->slots[i];
        if (slot->fill == NULL) {
            continue;
        }
        const kiln_mutable_span memory = {slot->tensor.data, slot->tensor.bytes};
        const kiln_status status = slot->fill(slot->fill_user, memory);
        if (status != KILN_OK) {
            return kln_fail(status, "input \"%s\": its fill function failed: %s",
                            context_binding(context, i)->name, kiln_status_text(status));
        }
    }
    return KILN_OK;
}

/* Weights do not change while a run reads them. */
static void hold_weights(kiln_context *context)
{
    if (context->engine->backend->plan != NULL) {
        (void)pthread_rwlock_rdlock(&context->engine->weights);
    }
}

static void let_weights_go(kiln_context *context)
{
    if (context->engine->backend->plan != NULL) {
        (void)pthread_rwlock_unlock(&context->engine->weights);
    }
}

static kiln_status run_with_weights(kiln_context *context, kiln_stream *stream, bool waits)
{
    hold_weights(context);
    const kiln_status status = context->gpu != NULL ? context_gpu_run(context, stream, waits)
                                                    : context_run_plainly(context);
    let_weights_go(context);
    return status;
}

static kiln_status settle(kiln_context *context)
{
    if (context->retired) {
        context_drop_retired(context);
    }
    KLN_RETURN_IF_ERROR(context_overlap_settle(context));
    context->settled = true;
    return KILN_OK;
}

static kiln_status prepare(kiln_context *context, kiln_stream *stream)
{
    if (!context->settled) {
        KLN_RETURN_IF_ERROR(settle(context));
    }
    if (context->copied_count != 0) {
        KLN_RETURN_IF_ERROR(context_overlap_copy(context, stream));
    }
    return context->fill_count != 0 ? fill_inputs(context) : KILN_OK;
}

static kiln_status run_inside(kiln_context *context, kiln_stream *stream, bool waits)
{
    context->has_results = false;
    context->result_count = 0;
    context->results_changed = false;
    kiln_status status = prepare(context, stream);
    if (status == KILN_OK) {
        context_run_begins(context);
        status = context_run_ends(context, run_with_weights(context, stream, waits));
    }
    KLN_RETURN_IF_ERROR(status);
    context->runs++;
    context->has_results = true;
    context->results_changed = true;
    return KILN_OK;
}

/* What was fed to this run is not there for the next one. */
static kiln_status run_uncounted(kiln_context *context, kiln_stream *stream, bool waits)
{
    if (context->has_spent) {
        KLN_RETURN_IF_ERROR(context_overlap_check(context));
    }
    KLN_RETURN_IF_ERROR(run_inside(context, stream, waits));
    if (context->fed_count != 0) {
        context_overlap_spend(context);
    }
    return KILN_OK;
}

/* A call that asked for a run made one, or it counts as a failed one, whatever it failed at. */
static kiln_status count(kiln_context *context, uint64_t runs_before, kiln_status status)
{
    context->failed_runs += context->runs == runs_before;
    return status;
}

static kiln_status run_once(kiln_context *context, kiln_stream *stream, bool waits)
{
    const uint64_t before = context->runs;
    return count(context, before, run_uncounted(context, stream, waits));
}

kiln_status kiln_context_run(kiln_context *context)
{
    KLN_RETURN_IF_NULL(context);
    KLN_RETURN_IF_ERROR(context_enter(context, __func__));
    return context_leave(context, run_once(context, NULL, true));
}

/* --- without waiting --- */

kiln_stream *kiln_context_stream(const kiln_context *context)
{
    if (context == NULL || context->gpu == NULL) {
        return NULL;
    }
    return context->gpu->caller != NULL ? context->gpu->caller : context->gpu->work;
}

kiln_status kiln_context_enqueue(kiln_context *context, kiln_stream *stream)
{
    KLN_RETURN_IF_NULL(context);
    if (stream != NULL && context->gpu == NULL) {
        return kln_fail(KILN_ERROR_UNSUPPORTED,
                        "kiln_context_enqueue: a stream was given, and this engine of the %s "
                        "backend computes on the CPU",
                        context->engine->info.name);
    }
    if (stream != NULL && stream->device != context->engine->device) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_context_enqueue: the stream is of device %d, the engine of device %d",
                        stream->device, context->engine->device);
    }
    KLN_RETURN_IF_ERROR(context_enter(context, __func__));
    return context_leave(context, run_once(context, stream, false));
}

kiln_status kiln_context_wait(kiln_context *context)
{
    KLN_RETURN_IF_NULL(context);
    KLN_RETURN_IF_ERROR(context_enter_at_last(context, __func__));
    return context_leave(context, KILN_OK);
}

/* --- inputs, run and outputs in one call --- */

/* Callers mostly name tensors in the order of the engine, so that one is looked at first. */
static kiln_status find_named(const kiln_context *context, const char *name, bool is_input,
                              size_t place, size_t *index)
{
    const size_t inputs = context->engine->description.input_count;
    const size_t outputs = context->engine->description.output_count;
    const size_t guess = is_input ? place : inputs + place;
    if (guess < (is_input ? inputs : inputs + outputs) &&
        strcmp(context_binding(context, guess)->name, name) == 0) {
        *index = guess;
        return KILN_OK;
    }
    return is_input ? context_find_input(context, name, index)
                    : context_find_output(context, name, index);
}

/* `found` gets the slots, of which no call names one twice, so that it has room. */
static kiln_status check_named(kiln_context *context, const kiln_named_tensor *tensors,
                               size_t count, bool are_inputs, uint32_t *found)
{
    for (size_t i = 0; i < count; i++) {
        size_t index = 0;
        if (tensors[i].name == NULL) {
            return kln_fail_null("kiln_context_run_tensors", "name");
        }
        KLN_RETURN_IF_ERROR(find_named(context, tensors[i].name, are_inputs, i, &index));
        context_slot *slot = &context->slots[index];
        if (slot->named == context->calls) {
            return kln_fail(KILN_ERROR_NAME, "\"%s\" is given twice", tensors[i].name);
        }
        slot->named = context->calls;
        found[i] = (uint32_t)index;
        if (are_inputs || tensors[i].tensor.data != NULL) {
            KLN_RETURN_IF_ERROR(context_check_tensor(context, index, &tensors[i].tensor));
        }
    }
    return KILN_OK;
}

static kiln_status run_tensors_inside(kiln_context *context, const kiln_named_tensor *inputs,
                                      size_t input_count, kiln_named_tensor *outputs,
                                      size_t output_count)
{
    uint32_t *found_inputs = context->found;
    const kln_description *description = &context->engine->description;
    uint32_t *found_outputs =
        context->found + description->input_count + description->optional_count;
    context->calls++;
    KLN_RETURN_IF_ERROR(check_named(context, inputs, input_count, true, found_inputs));
    KLN_RETURN_IF_ERROR(check_named(context, outputs, output_count, false, found_outputs));
    for (size_t i = 0; i < input_count; i++) {
        KLN_RETURN_IF_ERROR(context_set_caller(context, found_inputs[i], &inputs[i].tensor));
    }
    for (size_t i = 0; i < output_count; i++) {
        if (outputs[i].tensor.data != NULL) {
            KLN_RETURN_IF_ERROR(context_set_caller(context, found_outputs[i], &outputs[i].tensor));
        } else {
            context_set_empty(context, found_outputs[i]);
        }
    }
    KLN_RETURN_IF_ERROR(run_uncounted(context, NULL, true));
    for (size_t i = 0; i < output_count; i++) {
        KLN_RETURN_IF_ERROR(context_show_output(context, found_outputs[i], &outputs[i].tensor));
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
    KLN_RETURN_IF_ERROR(context_enter(context, __func__));
    const uint64_t before = context->runs;
    const kiln_status status =
        run_tensors_inside(context, inputs, input_count, outputs, output_count);
    return context_leave(context, count(context, before, status));
}

/* --- warmup and counters --- */

#define DEFAULT_WARMUP_RUNS 10
/* Times kept for what is expected of later runs; more runs overwrite the oldest. */
#define WARMUP_LATEST ((size_t)1024)
/* Of the time of a warmup, what the search for the fastest graph may take; and where no time was
 * given. */
#define SEARCH_SHARE 2
#define SEARCH_NANOSECONDS UINT64_C(1000000000)

/* The times of the latest runs. */
typedef struct latest_times {
    uint64_t times[WARMUP_LATEST];
    uint64_t sorted[WARMUP_LATEST];
} latest_times;

static void keep_time(kiln_warmup_summary *summary, latest_times *latest, uint64_t took)
{
    latest->times[summary->runs % WARMUP_LATEST] = took;
    if (summary->sample_count < summary->sample_capacity) {
        summary->samples[summary->sample_count++] = took;
    }
    if (summary->runs == 0) {
        summary->first_nanoseconds = took;
        summary->minimum_nanoseconds = took;
    }
    if (took < summary->minimum_nanoseconds) {
        summary->minimum_nanoseconds = took;
    }
    if (took > summary->maximum_nanoseconds) {
        summary->maximum_nanoseconds = took;
    }
    summary->runs++;
}

/* Once the ring is full, all it holds may be from the second half, or less. */
static void look_ahead(kiln_warmup_summary *summary, latest_times *latest)
{
    const uint64_t late = summary->runs - summary->runs / 2;
    const size_t count = late < WARMUP_LATEST ? (size_t)late : WARMUP_LATEST;
    for (size_t i = 0; i < count; i++) {
        latest->sorted[i] = latest->times[(summary->runs - 1 - i) % WARMUP_LATEST];
    }
    summary->median_nanoseconds = kln_median(latest->sorted, count);
    summary->p90_nanoseconds = latest->sorted[kln_percentile_rank(count, 90)];
    summary->p95_nanoseconds = latest->sorted[kln_percentile_rank(count, 95)];
    summary->p99_nanoseconds = latest->sorted[kln_percentile_rank(count, 99)];
}

static kiln_status search(kiln_context *context, uint64_t milliseconds)
{
    hold_weights(context);
    const kiln_status status = context_gpu_search(
        context, milliseconds != 0 ? milliseconds * 1000000 / SEARCH_SHARE : SEARCH_NANOSECONDS);
    let_weights_go(context);
    return status;
}

static kiln_status warm_up(kiln_context *context, uint64_t runs, uint64_t milliseconds,
                           latest_times *latest, kiln_warmup_summary *summary)
{
    const uint64_t begin = kln_now();
    KLN_RETURN_IF_ERROR(context_overlap_check(context));
    if (runs == 0 && milliseconds == 0) {
        runs = DEFAULT_WARMUP_RUNS;
    }
    uint64_t now = begin;
    while (summary->runs == 0 || ((runs == 0 || summary->runs < runs) &&
                                  (milliseconds == 0 || (now - begin) / 1000000 < milliseconds))) {
        const uint64_t start = now;
        const uint64_t before = context->runs;
        KLN_RETURN_IF_ERROR(count(context, before, run_inside(context, NULL, true)));
        now = kln_now();
        keep_time(summary, latest, now - start);
        KLN_RETURN_IF_ERROR(search(context, milliseconds));
        now = kln_now();
    }
    context_overlap_spend(context);
    summary->total_nanoseconds = now - begin;
    look_ahead(summary, latest);
    return KILN_OK;
}

/* The caller's struct has this version's first fields, or all. */
static kiln_status read_summary(const kiln_warmup_summary *summary, kiln_warmup_summary *made)
{
    if (summary == NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_context_warmup", summary, made, sizeof *made));
    *made =
        (kiln_warmup_summary){.struct_size = made->struct_size,
                              .samples = made->samples,
                              .sample_capacity = made->samples != NULL ? made->sample_capacity : 0};
    return KILN_OK;
}

kiln_status kiln_context_warmup(kiln_context *context, uint64_t runs, uint64_t milliseconds,
                                kiln_warmup_summary *summary)
{
    KLN_RETURN_IF_NULL(context);
    kiln_warmup_summary made = {.struct_size = sizeof made};
    KLN_RETURN_IF_ERROR(read_summary(summary, &made));
    latest_times *latest = kln_alloc(sizeof *latest);
    if (latest == NULL) {
        return kln_fail_memory(sizeof *latest, "a warmup's times");
    }
    kiln_status status = context_enter(context, __func__);
    if (status == KILN_OK) {
        status = context_leave(context, warm_up(context, runs, milliseconds, latest, &made));
    }
    kln_free(latest);
    if (summary != NULL) {
        summary->sample_count = made.sample_count;
    }
    if (status == KILN_OK && summary != NULL) {
        status = kln_info_write(__func__, summary, &made, sizeof made);
    }
    return status;
}

/* Not context_enter: counting does not wait for a run that is under way. */
kiln_status kiln_context_get_counters(kiln_context *context, kiln_context_counters *counters)
{
    KLN_RETURN_IF_NULL(context);
    if (atomic_exchange_explicit(&context->busy, true, memory_order_acquire)) {
        return kln_fail(KILN_ERROR_BUSY, "%s: another thread is inside this context", __func__);
    }
    kiln_context_counters found = {.struct_size = sizeof found,
                                   .runs = context->runs,
                                   .failed_runs = context->failed_runs,
                                   .binds = context->binds,
                                   .bytes_owned = context->bytes_owned,
                                   .graph_reason = ""};
    const context_gpu *gpu = context->gpu;
    if (gpu != NULL) {
        found.graph_hits = gpu->hits;
        found.graph_misses = context->runs - gpu->hits;
        found.graph_captures = gpu->captures;
        found.graph_failures = gpu->failures;
        found.graph_evictions = gpu->cache.evictions;
        found.graphs = gpu->cache.graphs;
        found.staging_bytes = gpu->cache.staging_bytes;
        found.graph_reason = gpu->reason;
    }
    return context_leave(context, kln_info_write(__func__, counters, &found, sizeof found));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "scheduler_parts.h"

#define WARM_RUNS 3 /* after the first: with a graph, the second run is the first replay */

kiln_status seat_make(const kiln_scheduler *scheduler, engine_pool *pool, size_t number,
                      kiln_engine *engine, const kiln_context_options *options, seat *made)
{
    const schedule_rules *rules = &scheduler->rules;
    const size_t tensors = rules->input_count + rules->output_count;
    made->engine = kiln_engine_retain(engine);
    made->pool = pool;
    made->number = number;
    made->profile = -1;
    made->device = engine->shared.device;
    /* With its own stream, copies are ordered after earlier work, and no other context has to
     * wait. */
    made->sends_ahead = made->device >= 0 && engine->shared.stream == NULL &&
                        options->stream == NULL && !options->share_device_memory &&
                        !options->overlap_copies;
    made->inputs = kln_alloc_zeroed(rules->input_count + 1, sizeof(kiln_buffer *));
    made->rows = kln_alloc_zeroed(tensors + 1, sizeof(kiln_buffer *));
    made->pieces = kln_alloc_zeroed((size_t)rules->max_rows + 1, sizeof *made->pieces);
    made->requests = kln_alloc_zeroed((size_t)rules->max_rows, sizeof(kiln_request *));
    made->named = kln_alloc_zeroed(tensors + 1, sizeof *made->named);
    KLN_FAIL_IF(made->inputs == NULL || made->rows == NULL || made->pieces == NULL ||
                    made->requests == NULL || made->named == NULL,
                kln_fail_memory((size_t)rules->max_rows * sizeof(kiln_request *), "a batch"));
    for (size_t i = 0; i < tensors; i++) {
        made->named[i].name = rules->bindings[i].name;
    }
    return kiln_context_create(engine, options, &made->context);
}

void seat_finish(const kiln_scheduler *scheduler, seat *gone)
{
    kiln_context_destroy(gone->context);
    for (size_t i = 0; gone->inputs != NULL && i < scheduler->rules.input_count; i++) {
        kiln_buffer_destroy(gone->inputs[i]);
    }
    const size_t tensors = scheduler->rules.input_count + scheduler->rules.output_count;
    for (size_t i = 0; gone->rows != NULL && i < tensors; i++) {
        kiln_buffer_destroy(gone->rows[i]);
    }
    kln_free(gone->inputs);
    kln_free(gone->rows);
    kln_free(gone->pieces);
    kln_free(gone->requests);
    kln_free(gone->named);
    kiln_engine_release(gone->engine);
}

/* --- the run --- */

static void look_at_graphs(seat *at, batch_outcome *outcome)
{
    kiln_context_counters counters = {.struct_size = sizeof counters};
    KLN_MESSAGE_STAYS;
    if (at->device >= 0 && kiln_context_get_counters(at->context, &counters) == KILN_OK) {
        outcome->graph_hits += counters.graph_hits - at->graph_hits;
        outcome->graph_misses += counters.graph_misses - at->graph_misses;
        at->graph_hits = counters.graph_hits;
        at->graph_misses = counters.graph_misses;
    }
}

/* The padding in length, summed over all rows of the requests. */
static int64_t count_padded(const batch *one)
{
    const schedule_rules *rules = &one->scheduler->rules;
    int64_t padded = 0;
    for (size_t i = 0; rules->has_lengths && i < one->count; i++) {
        const kiln_request *request = one->requests[i];
        padded += request->rows * (length_rules_fill_up(rules, request->length) - request->length);
    }
    return padded;
}

static kiln_status run_inside(batch *one)
{
    const schedule_rules *rules = &one->scheduler->rules;
    seat *at = one->at;
    const uint64_t begin = kln_now();
    KLN_RETURN_IF_ERROR(batch_join_inputs(one));
    KLN_RETURN_IF_ERROR(batch_prepare_outputs(one));
    const uint64_t joined = kln_now();
    const kiln_status status =
        kiln_context_run_tensors(at->context, at->named, rules->input_count,
                                 at->named + rules->input_count, rules->output_count);
    const uint64_t ran = kln_now();
    one->outcome->runs++;
    one->outcome->ran += ran - joined;
    KLN_RETURN_IF_ERROR(status);
    KLN_RETURN_IF_ERROR(batch_give_outputs(one));
    one->outcome->copied += joined - begin + (kln_now() - ran);
    one->outcome->padding += one->filled - one->rows;
    one->outcome->padded += count_padded(one);
    return KILN_OK;
}

static int64_t fill_up(const kiln_scheduler *scheduler, const seat *at, const kiln_request *request,
                       int64_t rows)
{
    return batch_profile_fill_up(&scheduler->rules, &at->pool->sizes, at->engine, request, rows);
}

/* Waits until nothing reads or writes the requests' memory. */
static void end_copies(const seat *at)
{
    KLN_MESSAGE_STAYS;
    if (kln_exec_wait_copies(at->context->exec) != KILN_OK) {
        kln_log(KILN_LOG_WARNING, "scheduler", "copies of a batch: %s", kiln_error_message());
    }
}

void seat_forget_ahead(kiln_scheduler *scheduler, seat *at)
{
    if (at->busy || at->ahead == 0) { /* a running batch settles its own */
        return;
    }
    KLN_MESSAGE_STAYS;
    if (kln_exec_end_copies(at->context->exec) == KILN_OK) {
        end_copies(at);
    }
    for (kiln_request *request = request_queue_first(&scheduler->queue); request != NULL;
         request = request_queue_next(&scheduler->queue, request)) {
        request->ahead_at = request->ahead_at == at ? NULL : request->ahead_at;
    }
    at->ahead = 0;
}

static kiln_status run_some(kiln_scheduler *scheduler, seat *at, kiln_request **requests,
                            size_t count, batch_outcome *outcome)
{
    batch one = {.scheduler = scheduler,
                 .at = at,
                 .requests = requests,
                 .count = count,
                 .rows = count_rows(requests, count),
                 .outcome = outcome};
    const bool apart = (at->apart || outcome->apart) && !scheduler->rules.fixed;
    one.filled = apart                        ? one.rows
                 : count == at->request_count ? at->filled
                                              : fill_up(scheduler, at, requests[0], one.rows);
    kiln_status status = run_inside(&one);
    if (status == KILN_ERROR_SHAPE && !at->unbound && at->device >= 0 && one.filled > 1) {
        /* The outputs' shapes may differ from what was expected: the run determines them
         * instead. */
        at->unbound = true;
        end_copies(at);
        result_block_release(&scheduler->blocks, one.block);
        one.block = NULL;
        status = run_inside(&one);
    }
    if (status != KILN_OK) {
        end_copies(at);
    }
    result_block_release(&scheduler->blocks, one.block);
    return status;
}

static void note(kiln_request *request, kiln_status status)
{
    request->status = status;
    if (status != KILN_OK) {
        (void)snprintf(request->sentence, sizeof request->sentence, "%s", kiln_error_message());
    }
}

/* Drops the results that a failed batch has left. */
static void forget_outputs(kiln_scheduler *scheduler, kiln_request *request)
{
    for (size_t k = 0; k < KLN_ARRAY_LENGTH(request->blocks); k++) {
        for (size_t i = 0; i < scheduler->rules.output_count; i++) {
            if (result_block_holds(request->blocks[k], request->outputs[i].data)) {
                request->outputs[i] = (kiln_tensor){.data = NULL};
            }
        }
        result_block_release(&scheduler->blocks, request->blocks[k]);
        request->blocks[k] = NULL;
    }
}

static kiln_status run_alone(kiln_scheduler *scheduler, seat *at, kiln_request **request,
                             batch_outcome *outcome)
{
    forget_outputs(scheduler, *request);
    if (atomic_load(&(*request)->cancelled)) {
        return KILN_ERROR_CANCELLED;
    }
    return run_some(scheduler, at, request, 1, outcome);
}

/* Even a single request is run again if its padding turned out to be in vain. */
void seat_run(kiln_scheduler *scheduler, seat *at, batch_outcome *outcome)
{
    *outcome = (batch_outcome){.runs = 0};
    const kiln_status status = run_some(scheduler, at, at->requests, at->request_count, outcome);
    look_at_graphs(at, outcome);
    const bool again = at->request_count > 1 || (outcome->apart && !scheduler->rules.fixed);
    outcome->retried = status != KILN_OK && again;
    for (size_t i = 0; i < at->request_count; i++) {
        note(at->requests[i],
             outcome->retried ? run_alone(scheduler, at, &at->requests[i], outcome) : status);
    }
}

/* --- before the first request --- */

static kiln_status warm_size(kiln_scheduler *scheduler, seat *at, kiln_request *request,
                             int64_t size, uint64_t milliseconds)
{
    const int64_t most = scheduler->rules.max_rows;
    batch_outcome outcome = {.runs = 0};
    batch one = {.scheduler = scheduler,
                 .at = at,
                 .requests = at->requests,
                 .filled = size,
                 .outcome = &outcome};
    do {
        at->requests[one.count++] = request;
        one.rows += request->rows;
    } while (one.rows + request->rows <= (size < most ? size : most));
    kiln_status status = batch_join_inputs(&one);
    KLN_THEN(status, batch_prepare_outputs(&one));
    KLN_THEN(status, kiln_context_run_tensors(at->context, at->named, scheduler->rules.input_count,
                                              at->named + scheduler->rules.input_count,
                                              scheduler->rules.output_count));
    KLN_THEN(status, kiln_context_warmup(at->context, WARM_RUNS, milliseconds, NULL));
    result_block_release(&scheduler->blocks, one.block);
    return status;
}

kiln_status seat_warm_up(kiln_scheduler *scheduler, seat *at, kiln_request *request,
                         uint64_t milliseconds)
{
    const schedule_rules *rules = &scheduler->rules;
    const int64_t most[] = {request->rows, rules->max_rows};
    const batch_sizes *own = &at->pool->sizes;
    const int64_t *sizes = own->count != 0 ? own->rows : most;
    const size_t count = own->count != 0 ? own->count : rules->axis < 0 ? 1 : 2;
    const int64_t last = batch_sizes_fill_up(own, batch_profile_most(rules, at->engine, request));
    kiln_status status = KILN_OK;
    for (size_t i = 0; i < count && status == KILN_OK; i++) {
        if (sizes[i] >= request->rows && sizes[i] <= last) {
            status = warm_size(scheduler, at, request, sizes[i],
                               milliseconds != 0 ? milliseconds / count + 1 : 0);
        }
    }
    batch_outcome unused = {.runs = 0};
    look_at_graphs(at, &unused);
    return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Runs. Start reading at kln_exec_run, at the end of this file. */
#include "exec_parts.h"

/* --- telling the backend what is bound --- */

static kiln_status check_all_bound(const kln_exec *exec)
{
    for (size_t i = 0; i < exec->shared->description.input_count; i++) {
        if (exec->slots[i].state == SLOT_EMPTY) {
            const kiln_binding *binding = exec_binding(exec, i);
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

static kiln_status hand_over_one(kln_exec *exec, size_t index)
{
    exec_slot *changed = &exec->slots[index];
    if (changed->pending) {
        KLN_RETURN_IF_ERROR(
            exec->shared->backend->context.bind(exec->state, index, &changed->tensor));
        changed->pending = false;
        exec->binds++;
    }
    return KILN_OK;
}

static kiln_status hand_over(kln_exec *exec)
{
    const size_t required = exec_outputs_end(exec);
    KLN_RETURN_IF_ERROR(check_all_bound(exec));
    if (exec->gpu != NULL) {
        exec->gpu->bound = NULL;
    }
    /* Optional inputs that return to their own value go first: for those, the backend may have to
     * forget the other bindings. */
    for (size_t i = required; i < exec->slot_count; i++) {
        if (exec_has_own_value(exec, i)) {
            KLN_RETURN_IF_ERROR(hand_over_one(exec, i));
        }
    }
    for (size_t i = 0; i < exec->slot_count; i++) {
        KLN_RETURN_IF_ERROR(hand_over_one(exec, i));
    }
    exec->ready = true;
    return KILN_OK;
}

static kiln_status run_on_backend(kln_exec *exec)
{
    if (!exec->ready) {
        KLN_RETURN_IF_ERROR(hand_over(exec));
    }
    return exec->shared->backend->context.run(exec->state);
}

/* --- before the backend runs --- */

static kiln_status fill_inputs(const kln_exec *exec)
{
    for (size_t i = 0; i < exec->slot_count; i++) {
        const exec_slot *slot = &exec->slots[i];
        if (slot->fill == NULL) {
            continue;
        }
        const kiln_mutable_span memory = {slot->tensor.data, slot->tensor.bytes};
        const kiln_status status = slot->fill(slot->fill_user, memory);
        KLN_RETURN_IF(status != KILN_OK, status, "input \"%s\": its fill function failed: %s",
                      exec_binding(exec, i)->name, kiln_status_text(status));
    }
    return KILN_OK;
}

static kiln_status prepare(kln_exec *exec, kiln_stream *stream)
{
    exec->has_results = false;
    exec->result_count = 0;
    exec->results_changed = false;
    if (!exec->settled) {
        exec_drop_retired(exec);
        KLN_RETURN_IF_ERROR(exec_overlap_settle(exec));
        exec->settled = true;
    }
    if (exec->copied_count != 0) {
        KLN_RETURN_IF_ERROR(exec_overlap_copy(exec, stream));
    }
    if (exec->fill_count != 0) {
        KLN_RETURN_IF_ERROR(fill_inputs(exec));
    }
    return exec->has_strings ? exec_strings_check(exec) : KILN_OK;
}

/* --- on a GPU --- */

/* Enqueues the input copies outside the graph, and orders them and earlier copies before
 * `target`. */
static kiln_status enqueue_inputs(kln_exec *exec, const graph_entry *entry, kiln_stream *target,
                                  bool waits)
{
    exec_gpu *gpu = exec->gpu;
    kiln_stream *copies = gpu->lane != NULL ? gpu->lane->in : target;
    if (entry->ahead) {
        KLN_RETURN_IF_ERROR(transfers_enqueue_ahead(exec, entry, copies, waits));
    }
    if (copies == target) {
        return KILN_OK;
    }
    if (entry->ahead) {
        return exec_order(gpu->before, copies, target); /* kln_exec_copy used that stream, too */
    }
    return gpu->has_copies ? kiln_stream_wait_event(target, gpu->copied) : KILN_OK;
}

/* The same for outputs. `*last` is the stream on which the run ends. */
static kiln_status enqueue_outputs(kln_exec *exec, const graph_entry *entry, kiln_stream *target,
                                   bool waits, kiln_stream **last)
{
    exec_gpu *gpu = exec->gpu;
    *last = target;
    if (!entry->behind) {
        return KILN_OK;
    }
    if (gpu->lane != NULL) {
        *last = gpu->lane->out;
        KLN_RETURN_IF_ERROR(exec_order(gpu->computed, target, *last));
    }
    return transfers_enqueue_behind(exec, entry, *last, waits);
}

/* Replays the entry's graph, or enqueues its work if it has none. */
static kiln_status enqueue_work(kln_exec *exec, graph_entry *entry, kiln_stream *target, bool waits)
{
    exec_gpu *gpu = exec->gpu;
    gpu->has_fence = entry->graph != NULL && entry->fenced && waits;
    if (gpu->has_fence) {
        kln_fence_arm(&gpu->fence);
    }
    if (entry->graph == NULL) {
        return transfers_enqueue_all(exec, entry, target);
    }
    gpu->replayed = true;
    return kln_graph_launch(entry->graph, target);
}

static kiln_status launch(kln_exec *exec, graph_entry *entry, kiln_stream *stream, bool waits)
{
    exec_gpu *gpu = exec->gpu;
    kiln_stream *target = stream == NULL || gpu->takes_turns ? gpu->work : stream;
    const bool orders = stream != NULL && target != stream;
    gpu->begun = waits && run_pace_times(&entry->pace) ? kln_now() : 0;
    if (entry->stages) {
        transfers_copy_in(exec, entry, waits);
    }
    if (orders) {
        KLN_RETURN_IF_ERROR(exec_order(gpu->before, stream, target));
    }
    if (entry->graph == NULL) {
        KLN_RETURN_IF_ERROR(transfers_bind(exec, entry));
    }
    KLN_RETURN_IF_ERROR(enqueue_inputs(exec, entry, target, waits));
    KLN_RETURN_IF_ERROR(enqueue_work(exec, entry, target, waits));
    KLN_RETURN_IF_ERROR(enqueue_outputs(exec, entry, target, waits, &gpu->target));
    gpu->shown = entry;
    exec_begin_under_way(exec, waits);
    /* On a shared stream or the caller's, others may capture or enqueue more work, so the end of
     * this run needs an event of its own. */
    gpu->has_event = !waits || gpu->takes_turns || gpu->caller != NULL;
    if (gpu->has_event || orders) {
        KLN_RETURN_IF_ERROR(kiln_event_record(gpu->after, gpu->target));
    }
    return orders ? kiln_stream_wait_event(stream, gpu->after) : KILN_OK;
}

/* Binding the backend to the entry's memory discards the results of the plain run. If no graph came
 * of it, the model runs again. */
static kiln_status run_again(kln_exec *exec)
{
    exec->gpu->shown = NULL;
    return run_on_backend(exec);
}

/* Called after a plain run of an entry that has no graph yet. */
static kiln_status consider_graph(kln_exec *exec, graph_entry *entry)
{
    exec_gpu *gpu = exec->gpu;
    if (gpu->policy == KILN_GRAPH_OFF) {
        entry->mode = ENTRY_PLAIN;
        return KILN_OK;
    }
    if (gpu->policy == KILN_GRAPH_AUTOMATIC && entry->uses < 2) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(graph_capture(exec, entry));
    if (entry->mode == ENTRY_GRAPH) {
        gpu->shown = entry;
        transfers_copy_out(exec, entry, true);
        return KILN_OK;
    }
    return exec->ready ? KILN_OK : run_again(exec);
}

/* Runs by the backend's own call, which blocks until the end. Afterwards it prepares later runs:
 * capturing a graph, or enqueuing without waiting. */
static kiln_status run_plainly(kln_exec *exec, graph_entry *entry, kiln_stream *stream, bool waits)
{
    exec_gpu *gpu = exec->gpu;
    if (stream != NULL && stream != gpu->work) {
        KLN_RETURN_IF_ERROR(exec_order(gpu->before, stream, gpu->work));
    }
    gpu->shown = NULL;
    KLN_RETURN_IF_ERROR(kln_exec_wait_copies(exec)); /* the call may use another stream */
    KLN_RETURN_IF_ERROR(run_on_backend(exec));
    if (entry->mode == ENTRY_NEW) {
        return consider_graph(exec, entry);
    }
    if (!waits && !entry->has_transfers && exec->shared->backend->context.enqueue != NULL) {
        if (transfers_make(exec, entry) != KILN_OK) {
            kln_log(KILN_LOG_DEBUG, "engine", "runs are not enqueued: %s", kiln_error_message());
        }
        graph_cache_count(exec, entry);
    }
    return KILN_OK;
}

static kiln_status run_entry(kln_exec *exec, graph_entry *entry, kiln_stream *stream, bool waits)
{
    const bool enqueues = !waits && entry->mode == ENTRY_PLAIN && entry->has_transfers;
    graph_cache_use(&exec->gpu->cache, entry);
    exec->gpu->replayed = false;
    if (entry->mode != ENTRY_GRAPH && !enqueues) {
        return run_plainly(exec, entry, stream, waits);
    }
    const kiln_status status = launch(exec, entry, stream, waits);
    if ((status == KILN_ERROR_SHAPE || status == KILN_ERROR_UNSUPPORTED) && enqueues) {
        /* A shape that depends on values, for example: this model cannot be enqueued after all. */
        transfers_drop(exec, entry);
        graph_cache_count(exec, entry);
        return run_again(exec);
    }
    return status;
}

/* Finds the entry of the current bindings and runs it, as a graph if it has one. */
static kiln_status run_on_gpu(kln_exec *exec, kiln_stream *stream, bool waits)
{
    exec_gpu *gpu = exec->gpu;
    const unsigned long refits = atomic_load(&exec->shared->refits);
    KLN_RETURN_IF_ERROR(check_all_bound(exec));
    KLN_CUDA_ENTER(gpu->device);
    if (refits != gpu->refits) {
        kln_exec_forget(exec); /* its graphs hold the old weights */
        gpu->refits = refits;
    }
    kiln_status status = gpu->current == NULL ? graph_cache_find(exec, &gpu->current) : KILN_OK;
    if (status == KILN_OK) {
        exec_gpu_lock(exec);
        status = run_entry(exec, gpu->current, stream != NULL ? stream : gpu->caller,
                           waits && !gpu->leaves);
        exec_gpu_unlock(exec);
    }
    if (status == KILN_OK && waits && gpu->is_under_way) {
        status = gpu->leaves ? exec_finish_or_leave(exec) : exec_finish(exec);
    }
    gpu->hits += status == KILN_OK && gpu->replayed;
    return status;
}

/* --- a run --- */

static kiln_status compute(kln_exec *exec, kiln_stream *stream, bool waits)
{
    if (exec->holds_weights) {
        kln_shared_hold_weights(exec->shared);
    }
    kiln_status status = exec_state_follow(exec);
    if (status == KILN_OK) {
        exec_run_begins(exec); /* from here on it can be stopped */
        status = exec->gpu != NULL ? run_on_gpu(exec, stream, waits) : run_on_backend(exec);
        status = exec_run_ends(exec, status);
    }
    if (exec->holds_weights) {
        kln_shared_let_weights_go(exec->shared);
    }
    return status;
}

kiln_status kln_exec_run(kln_exec *exec, kiln_stream *stream, bool waits)
{
    kiln_status status = exec->has_spent ? exec_overlap_check(exec) : KILN_OK;
    if (status != KILN_OK) {
        exec->failed_runs++;
        return status;
    }
    status = prepare(exec, stream);
    KLN_THEN(status, compute(exec, stream, waits));
    if (status == KILN_OK && exec->has_strings) {
        status = exec_strings_keep(exec);
    }
    exec->runs += status == KILN_OK;
    exec->failed_runs += status != KILN_OK;
    exec->has_results = status == KILN_OK;
    exec->results_changed = status == KILN_OK;
    return status;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "exec_parts.h"

/* --- what all contexts of an engine share --- */

static void init_locks(kln_shared *shared)
{
    pthread_rwlockattr_t kind;
    (void)pthread_mutex_init(&shared->order, NULL); /* cannot fail on Linux */
    exec_states_init(shared);
    /* Prefer the writer: back-to-back runs would otherwise keep a refit waiting forever. */
    (void)pthread_rwlockattr_init(&kind);
    (void)pthread_rwlockattr_setkind_np(&kind, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    (void)pthread_rwlock_init(&shared->weights, &kind);
    (void)pthread_rwlockattr_destroy(&kind);
    atomic_init(&shared->refits, 0);
    atomic_init(&shared->under_way, 0);
}

kiln_status kln_shared_init(kln_shared *shared)
{
    const kiln_backend *backend = shared->backend;
    kiln_device_info info = {.struct_size = sizeof info};
    init_locks(shared);
    shared->device = backend->engine.device != NULL ? backend->engine.device(shared->state) : -1;
    if (shared->device >= 0) {
        shared->stream =
            backend->engine.stream != NULL ? backend->engine.stream(shared->state) : NULL;
        shared->info.capabilities |= KILN_CAPABILITY_DEVICE_MEMORY;
        if (backend->context.enqueue != NULL) {
            shared->info.capabilities |= KILN_CAPABILITY_STREAMS | KILN_CAPABILITY_GRAPHS;
        }
        KLN_RETURN_IF_ERROR(kln_cuda_device_info(shared->device, &info));
        (void)snprintf(shared->gpu, sizeof shared->gpu, "%s", info.name);
    }
    KLN_NEW(shared->measured, 1, "an engine");
    (void)pthread_mutex_init(&shared->measured->mutex, NULL);
    return KILN_OK;
}

void kln_shared_finish(kln_shared *shared)
{
    kiln_stream_destroy(shared->sharing);
    (void)pthread_mutex_destroy(&shared->order);
    exec_states_finish(shared);
    if (shared->measured != NULL) {
        (void)pthread_mutex_destroy(&shared->measured->mutex);
        kln_free(shared->measured);
    }
    (void)pthread_rwlock_destroy(&shared->weights);
}

kiln_status kln_shared_lock_weights(kln_shared *shared)
{
    (void)pthread_rwlock_wrlock(&shared->weights);
    /* Only when needed: synchronizing the device invalidates any capture in another thread. */
    const kiln_status status =
        atomic_load(&shared->under_way) != 0 ? kln_cuda_wait(shared->device) : KILN_OK;
    if (status != KILN_OK) {
        (void)pthread_rwlock_unlock(&shared->weights);
    }
    return status;
}

void kln_shared_unlock_weights(kln_shared *shared)
{
    (void)atomic_fetch_add(&shared->refits, 1);
    (void)pthread_rwlock_unlock(&shared->weights);
}

/* --- create and destroy --- */

static kiln_status init(kln_exec *exec, const kiln_context_options *options)
{
    const kiln_description *description = &exec->shared->description;
    const kiln_refit_table *refit = exec->shared->backend->refit;
    const size_t required = exec_outputs_end(exec);
    const size_t count = required + description->optional_count;
    exec->slots = kln_alloc_zeroed(count, sizeof *exec->slots);
    exec->ranges = kln_alloc_zeroed(count, sizeof *exec->ranges);
    exec->results = kln_alloc_zeroed(count, sizeof *exec->results);
    KLN_FAIL_IF(exec->slots == NULL || exec->ranges == NULL || exec->results == NULL,
                kln_fail_memory(count * sizeof *exec->slots, "a context's bindings"));
    exec->slot_count = count;
    exec->holds_weights = refit != NULL && refit->in_place != NULL;
    for (size_t i = description->input_count; i < required; i++) {
        exec->slots[i].pending = true;
    }
    KLN_RETURN_IF_ERROR(exec_strings_create(exec));
    KLN_RETURN_IF_ERROR(exec_gpu_create(exec, options));
    exec->options = *options;
    exec->options.stream = exec->gpu != NULL ? exec->gpu->work : NULL;
    KLN_RETURN_IF_ERROR(exec_state_create(exec));
    exec->options.runtime_cache = NULL; /* the caller owns that string */
    return exec_stop_create(exec, options);
}

kiln_status kln_exec_create(kln_shared *shared, const kiln_context_options *options,
                            kln_exec **exec)
{
    *exec = NULL;
    kln_exec *made = kln_alloc_zeroed(1, sizeof *made);
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "a context");
    made->shared = shared;
    const kiln_status status = init(made, options);
    if (status != KILN_OK) {
        kln_exec_destroy(made, false);
        return status;
    }
    *exec = made;
    return KILN_OK;
}

static void release_parts(kln_exec *exec)
{
    exec_stop_destroy(exec);
    /* Graphs and runs in flight use the memory of the backend and of the slots. */
    kiln_stream *work = exec_gpu_destroy(exec);
    exec_state_destroy(exec);
    kiln_stream_destroy(work);
    for (size_t i = 0; i < exec->slot_count; i++) {
        exec_release_owned(exec, &exec->slots[i]);
        exec_overlap_release(exec, &exec->slots[i]);
    }
    exec_strings_destroy(exec);
}

void kln_exec_destroy(kln_exec *exec, bool left_behind)
{
    if (exec == NULL) {
        return;
    }
    if (!left_behind) {
        release_parts(exec);
    }
    kln_free(exec->ranges);
    kln_free(exec->results);
    kln_free(exec->slots);
    kln_free(exec);
}

/* --- accessors --- */

void *kln_exec_state(const kln_exec *exec)
{
    return exec->state;
}

bool kln_exec_has_thread(const kln_exec *exec)
{
    return exec->watch != NULL;
}

kiln_stream *kln_exec_stream(const kln_exec *exec)
{
    const exec_gpu *gpu = exec->gpu;
    return gpu == NULL ? NULL : gpu->caller != NULL ? gpu->caller : gpu->work;
}

void kln_exec_count_failure(kln_exec *exec)
{
    exec->failed_runs++;
}

void kln_exec_get_counters(const kln_exec *exec, kiln_context_counters *counters)
{
    *counters = (kiln_context_counters){.struct_size = sizeof *counters,
                                        .runs = exec->runs,
                                        .failed_runs = exec->failed_runs,
                                        .binds = exec->binds,
                                        .bytes_owned = exec->bytes_owned,
                                        .graph_reason = ""};
    const exec_gpu *gpu = exec->gpu;
    if (gpu != NULL) {
        counters->graph_hits = gpu->hits;
        counters->graph_misses = exec->runs - gpu->hits;
        counters->graph_captures = gpu->captures;
        counters->graph_failures = gpu->failures;
        counters->graph_evictions = gpu->cache.evictions;
        counters->graphs = gpu->cache.graphs;
        counters->staging_bytes = gpu->cache.staging_bytes;
        counters->graph_reason = gpu->reason;
    }
}

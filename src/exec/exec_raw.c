/* SPDX-License-Identifier: Apache-2.0 */
#include "exec_parts.h"

/* Times only the library's own call. */
static kiln_status time_on_cpu(kln_exec *exec, uint64_t *took)
{
    const kiln_backend *backend = exec->shared->backend;
    kiln_status (*const run)(void *) =
        backend->context.raw != NULL ? backend->context.raw : backend->context.run;
    exec_run_begins(exec);
    const uint64_t begin = kln_now();
    const kiln_status status = run(exec->state);
    *took = kln_now() - begin;
    return exec_run_ends(exec, status);
}

static bool copies_anything(const kln_exec *exec, const graph_entry *entry)
{
    for (size_t i = 0; i < exec->slot_count; i++) {
        if (entry->transfers[i].mode != TRANSFER_MAPPED) {
            return true;
        }
    }
    return false;
}

/* Binds the backend to the entry's device memory if it is bound to something else. */
static kiln_status bind_entry(kln_exec *exec, graph_entry *entry)
{
    if (!entry->has_transfers) {
        KLN_RETURN_IF_ERROR(transfers_make(exec, entry));
    }
    if (exec->gpu->bound == entry || (exec->ready && !copies_anything(exec, entry))) {
        return KILN_OK;
    }
    return transfers_bind(exec, entry);
}

static kiln_status time_enqueued(kln_exec *exec, uint64_t *took)
{
    exec_gpu *gpu = exec->gpu;
    KLN_CUDA_ENTER(gpu->device);
    exec_gpu_lock(exec);
    kiln_status status = bind_entry(exec, gpu->current);
    KLN_THEN(status, kiln_stream_synchronize(gpu->work));
    const uint64_t begin = kln_now();
    KLN_THEN(status, exec->shared->backend->context.enqueue(exec->state, gpu->work));
    KLN_THEN(status, kiln_stream_synchronize(gpu->work));
    *took = kln_now() - begin;
    exec_gpu_unlock(exec);
    return status;
}

static kiln_status time_on_gpu(kln_exec *exec, uint64_t *took)
{
    KLN_RETURN_IF(exec->shared->backend->context.enqueue == NULL, KILN_ERROR_UNSUPPORTED,
                  "kiln_context_run_raw: the %s backend enqueues nothing on a stream",
                  exec->shared->info.name);
    kln_shared_hold_weights(exec->shared);
    const kiln_status status = time_enqueued(exec, took);
    kln_shared_let_weights_go(exec->shared);
    return status;
}

kiln_status kln_exec_run_raw(kln_exec *exec, uint64_t *nanoseconds)
{
    const bool ran = exec->gpu != NULL ? exec->gpu->current != NULL : exec->ready;
    *nanoseconds = 0;
    KLN_RETURN_IF(!ran, KILN_ERROR_STATE,
                  "kiln_context_run_raw: what is bound now was not run yet; call "
                  "kiln_context_run first");
    exec->has_results = false;
    return exec->gpu != NULL ? time_on_gpu(exec, nanoseconds) : time_on_cpu(exec, nanoseconds);
}

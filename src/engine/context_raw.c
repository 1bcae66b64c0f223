/* SPDX-License-Identifier: Apache-2.0 */
#include <kiln/context.h>

#include "context_parts.h"

/* The clock runs for the library's own call alone. */
static kiln_status time_on_cpu(kiln_context *context, uint64_t *took)
{
    const kln_backend *backend = context->engine->backend;
    kiln_status (*const run)(void *) = backend->raw != NULL ? backend->raw : backend->run;
    context_run_begins(context);
    const uint64_t begin = kln_now();
    const kiln_status status = run(context->state);
    *took = kln_now() - begin;
    return context_run_ends(context, status);
}

static bool copies_anything(const kiln_context *context, const graph_entry *entry)
{
    for (size_t i = 0; i < context->slot_count; i++) {
        if (entry->transfers[i].mode != TRANSFER_MAPPED) {
            return true;
        }
    }
    return false;
}

/* Binds the entry's device memory where the backend is bound to something else. */
static kiln_status bind_entry(kiln_context *context, graph_entry *entry)
{
    if (!entry->has_transfers) {
        KLN_RETURN_IF_ERROR(transfers_make(context, entry));
    }
    if (context->gpu->bound == entry || (context->ready && !copies_anything(context, entry))) {
        return KILN_OK;
    }
    return transfers_bind(context, entry);
}

static kiln_status time_enqueued(kiln_context *context, uint64_t *took)
{
    context_gpu *gpu = context->gpu;
    kln_cuda_scope scope;
    KLN_RETURN_IF_ERROR(kln_cuda_enter(gpu->device, &scope));
    if (gpu->shared) {
        (void)pthread_mutex_lock(&context->engine->order);
    }
    kiln_status status = bind_entry(context, gpu->current);
    if (status == KILN_OK) {
        status = kiln_stream_synchronize(gpu->work);
    }
    const uint64_t begin = kln_now();
    if (status == KILN_OK) {
        status = context->engine->backend->enqueue(context->state, gpu->work);
    }
    if (status == KILN_OK) {
        status = kiln_stream_synchronize(gpu->work);
    }
    *took = kln_now() - begin;
    if (gpu->shared) {
        (void)pthread_mutex_unlock(&context->engine->order);
    }
    kln_cuda_leave(&scope);
    return status;
}

static kiln_status time_on_gpu(kiln_context *context, uint64_t *took)
{
    if (context->engine->backend->enqueue == NULL) {
        return kln_fail(KILN_ERROR_UNSUPPORTED,
                        "kiln_context_run_raw: the %s backend enqueues nothing on a stream",
                        context->engine->info.name);
    }
    const bool may_refit = context->engine->backend->plan != NULL;
    if (may_refit) {
        (void)pthread_rwlock_rdlock(&context->engine->weights);
    }
    const kiln_status status = time_enqueued(context, took);
    if (may_refit) {
        (void)pthread_rwlock_unlock(&context->engine->weights);
    }
    return status;
}

static kiln_status run_raw(kiln_context *context, uint64_t *took)
{
    const bool ran = context->gpu != NULL ? context->gpu->current != NULL : context->ready;
    if (!ran) {
        return kln_fail(KILN_ERROR_STATE,
                        "kiln_context_run_raw: what is bound now was not run yet; call "
                        "kiln_context_run first");
    }
    context->has_results = false;
    return context->gpu != NULL ? time_on_gpu(context, took) : time_on_cpu(context, took);
}

kiln_status kiln_context_run_raw(kiln_context *context, uint64_t *nanoseconds)
{
    uint64_t took = 0;
    KLN_RETURN_IF_NULL(context);
    KLN_RETURN_IF_ERROR(context_enter(context, __func__));
    const kiln_status status = run_raw(context, &took);
    if (nanoseconds != NULL) {
        *nanoseconds = took;
    }
    return context_leave(context, status);
}

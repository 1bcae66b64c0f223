/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler_parts.h"

#define MOST_ENGINES 64

/* --- contexts and threads --- */

kiln_status scheduler_check_engines(const char *function, kiln_engine *const *engines, size_t count)
{
    if (count < 1 || count > MOST_ENGINES) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT, "%s: %zu engines are given; 1 to %d can be",
                        function, count, MOST_ENGINES);
    }
    for (size_t i = 0; i < count; i++) {
        KLN_FAIL_IF(engines[i] == NULL, kln_fail_null(function, "engines"));
        KLN_RETURN_IF_ERROR(kln_engine_check_process(engines[i], function));
    }
    return KILN_OK;
}

kiln_status scheduler_start_threads(kiln_scheduler *scheduler, size_t count)
{
    pthread_t *workers = kln_realloc(scheduler->workers, count * sizeof *workers);
    KLN_RETURN_IF_NO_MEMORY(workers, count * sizeof *workers, "a scheduler's threads");
    scheduler->workers = workers;
    for (size_t i = scheduler->worker_count; i < count; i++) {
        const int error = kln_thread_start(&scheduler->workers[i], scheduler_worker, scheduler);
        KLN_RETURN_IF(error != 0, KILN_ERROR_OUT_OF_MEMORY,
                      "thread %zu of %zu of a scheduler cannot be made: %s", i, count,
                      strerror(error));
        scheduler->worker_count++;
    }
    return KILN_OK;
}

/* --- warming up --- */

/* Takes a context that has not been warmed up; NULL once all have been. A busy one that this waits
 * for does not start another batch. Called with the lock held. */
static seat *take_cold(kiln_scheduler *scheduler)
{
    for (;;) {
        seat *cold = NULL;
        for (size_t i = 0; i < scheduler->pool->count; i++) {
            seat *at = scheduler->pool->seats[i];
            if (!at->warm && !at->busy) {
                seat_forget_ahead(scheduler, at);
                at->busy = true;
                at->warm = true;
                at->wanted = false;
                return at;
            }
            cold = at->warm ? cold : at;
        }
        if (cold == NULL) {
            return NULL;
        }
        cold->wanted = true;
        (void)pthread_cond_wait(&scheduler->rest, &scheduler->lock);
    }
}

static kiln_status warm_up(kiln_scheduler *scheduler, kiln_request *request, uint64_t milliseconds)
{
    kiln_status status = KILN_OK;
    seat *at = NULL;
    (void)pthread_mutex_lock(&scheduler->lock);
    const uint64_t each = milliseconds != 0 ? milliseconds / scheduler->pool->count + 1 : 0;
    for (size_t i = 0; i < scheduler->pool->count; i++) {
        scheduler->pool->seats[i]->warm = false;
    }
    while (status == KILN_OK && (at = take_cold(scheduler)) != NULL) {
        (void)pthread_mutex_unlock(&scheduler->lock);
        status = seat_warm_up(scheduler, at, request, each);
        (void)pthread_mutex_lock(&scheduler->lock);
        at->busy = false;
        (void)pthread_cond_broadcast(&scheduler->rest);
        scheduler_wake(scheduler);
    }
    (void)pthread_mutex_unlock(&scheduler->lock);
    return status;
}

/* Keeps a copy of the warmup's inputs for engines that are added later. */
static kiln_status keep_sample(kiln_scheduler *scheduler, const kiln_request *from,
                               const kiln_named_tensor *inputs, size_t input_count,
                               uint64_t milliseconds)
{
    size_t bytes = 0;
    kiln_request *kept = NULL;
    for (size_t i = 0; i < scheduler->rules.input_count; i++) {
        bytes += (from->inputs[i].bytes + 63) / 64 * 64;
    }
    KLN_RETURN_IF_ERROR(request_make(scheduler, inputs, input_count, NULL, 0, NULL, &kept));
    kept->blocks[0] = result_block_take(&scheduler->blocks, bytes != 0 ? bytes : 1, -1);
    if (kept->blocks[0] == NULL) {
        request_release(kept);
        return kln_fail_memory(bytes, "a copy of a warmup's inputs");
    }
    unsigned char *at = kept->blocks[0]->memory;
    for (size_t i = 0; i < scheduler->rules.input_count; i++) {
        kiln_tensor *tensor = &kept->inputs[i];
        if (tensor->bytes != 0) {
            tensor->data = memcpy(at, tensor->data, tensor->bytes);
        }
        tensor->desc.location = KILN_LOCATION_HOST;
        at += (tensor->bytes + 63) / 64 * 64;
    }
    (void)pthread_mutex_lock(&scheduler->lock);
    kiln_request *before = scheduler->sample;
    scheduler->sample = kept;
    scheduler->sample_milliseconds = milliseconds;
    (void)pthread_mutex_unlock(&scheduler->lock);
    if (before != NULL) {
        request_release(before);
    }
    return KILN_OK;
}

kiln_status kiln_scheduler_warmup(kiln_scheduler *scheduler, const kiln_named_tensor *inputs,
                                  size_t input_count, uint64_t milliseconds)
{
    KLN_RETURN_IF_NULL(scheduler);
    KLN_RETURN_IF_ERROR(kln_forks_check(scheduler->forks, __func__, "scheduler"));
    kiln_request *request = NULL;
    KLN_RETURN_IF_ERROR(
        scheduler_make_request(scheduler, __func__, inputs, input_count, NULL, 0, NULL, &request));
    kiln_status status = warm_up(scheduler, request, milliseconds);
    KLN_THEN(status, keep_sample(scheduler, request, inputs, input_count, milliseconds));
    request_release(request);
    return status;
}

/* --- replacing engines --- */

static kiln_status begin_replacing(kiln_scheduler *scheduler)
{
    (void)pthread_mutex_lock(&scheduler->lock);
    const bool closed = scheduler->closed;
    const bool busy = scheduler->replacing;
    scheduler->replacing = true;
    (void)pthread_mutex_unlock(&scheduler->lock);
    KLN_RETURN_IF(busy, KILN_ERROR_BUSY,
                  "kiln_scheduler_replace: another thread is doing the same");
    return closed ? kln_fail(KILN_ERROR_STATE,
                             "kiln_scheduler_replace: the scheduler was told to drain or to stop")
                  : KILN_OK;
}

/* Warms the new engines up with the same inputs, so that no request meets a first run. */
static kiln_status warm_pool(kiln_scheduler *scheduler, engine_pool *pool)
{
    kiln_status status = KILN_OK;
    (void)pthread_mutex_lock(&scheduler->lock);
    kiln_request *sample = scheduler->sample;
    const uint64_t milliseconds = scheduler->sample_milliseconds;
    if (sample != NULL) {
        request_retain(sample);
    }
    (void)pthread_mutex_unlock(&scheduler->lock);
    for (size_t i = 0; sample != NULL && status == KILN_OK && i < pool->count; i++) {
        status = seat_warm_up(scheduler, pool->seats[i], sample,
                              milliseconds != 0 ? milliseconds / pool->count + 1 : 0);
    }
    if (sample != NULL) {
        request_release(sample);
    }
    return status;
}

static kiln_status prepare_pool(kiln_scheduler *scheduler, kiln_engine *const *engines,
                                size_t count, engine_pool **pool)
{
    KLN_RETURN_IF_ERROR(engine_pool_make(scheduler, engines, count, pool));
    kiln_status status = warm_pool(scheduler, *pool);
    if (status == KILN_OK && (*pool)->count > scheduler->worker_count) {
        status = scheduler_start_threads(scheduler, (*pool)->count);
    }
    if (status != KILN_OK) {
        engine_pool_drop(scheduler, *pool);
        *pool = NULL;
    }
    return status;
}

kiln_status kiln_scheduler_replace(kiln_scheduler *scheduler, kiln_engine *const *engines,
                                   size_t count)
{
    KLN_RETURN_IF_NULL(scheduler);
    KLN_RETURN_IF_ERROR(kln_forks_check(scheduler->forks, __func__, "scheduler"));
    KLN_RETURN_IF_NULL(engines);
    engine_pool *pool = NULL;
    KLN_RETURN_IF_ERROR(scheduler_check_engines(__func__, engines, count));
    kiln_status status = begin_replacing(scheduler);
    if (status == KILN_ERROR_BUSY) {
        return status;
    }
    KLN_THEN(status, prepare_pool(scheduler, engines, count, &pool));
    (void)pthread_mutex_lock(&scheduler->lock);
    if (status == KILN_OK) {
        engine_pool *old = scheduler->pool;
        for (size_t i = 0; i < old->count; i++) {
            seat_forget_ahead(scheduler, old->seats[i]);
        }
        scheduler->pool = pool;
        scheduler->counters.replaced++;
        pool = old;
        (void)pthread_cond_broadcast(&scheduler->work);
        while (engine_pool_is_busy(old)) {
            (void)pthread_cond_wait(&scheduler->rest, &scheduler->lock);
        }
    }
    scheduler->replacing = false;
    (void)pthread_cond_broadcast(&scheduler->rest);
    (void)pthread_mutex_unlock(&scheduler->lock);
    engine_pool_drop(scheduler, pool);
    return status;
}

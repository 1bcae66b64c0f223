/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler_parts.h"

static kiln_status check_engines(const kiln_scheduler *scheduler, kiln_engine *const *engines,
                                 size_t count)
{
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(schedule_rules_check(&scheduler->rules, engines[i]));
        if ((engines[i]->shared.device < 0) != (engines[0]->shared.device < 0)) {
            return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                            "engines of one scheduler are all on GPUs or all on the CPU; these "
                            "differ");
        }
    }
    return KILN_OK;
}

/* Chooses the options of the pool's context `index`. */
static kiln_status choose_options(const kiln_scheduler *scheduler, const engine_pool *pool,
                                  size_t index, const kiln_engine *engine,
                                  kiln_context_options *options)
{
    const kln_shared *shared = &engine->shared;
    const size_t place = index % pool->contexts % LANES;
    *options = scheduler->context_options;
    if (shared->device < 0) {
        *options = KILN_CONTEXT_OPTIONS(.run_milliseconds = options->run_milliseconds,
                                        .run_memory_bytes = options->run_memory_bytes);
        return KILN_OK;
    }
    if (pool->contexts == 1 || shared->stream != NULL || options->share_device_memory) {
        return KILN_OK;
    }
    if (place == 0) {
        KLN_RETURN_IF_ERROR(kln_stream_priority_ahead(shared->device, &options->priority));
    }
    if (pool->contexts > LANES) {
        kiln_stream **lane = &pool->lanes[index / pool->contexts * LANES + place];
        if (*lane == NULL) {
            KLN_RETURN_IF_ERROR(kiln_stream_create(shared->device, options->priority, lane));
        }
        options->stream = *lane;
        options->priority = 0;
        options->overlap_copies = true;
        options->share_device_memory = shared->backend->plan != NULL;
    }
    return KILN_OK;
}

static kiln_status fill(const kiln_scheduler *scheduler, kiln_engine *const *engines, size_t count,
                        engine_pool *pool)
{
    const bool on_gpu = engines[0]->shared.device >= 0;
    pool->contexts = scheduler->contexts != 0 ? (size_t)scheduler->contexts : on_gpu ? 2 : 1;
    KLN_RETURN_IF_ERROR(check_engines(scheduler, engines, count));
    KLN_RETURN_IF_ERROR(batch_sizes_make(&scheduler->rules, engines, count, &pool->sizes));
    const size_t total = count * pool->contexts;
    pool->counters = kln_alloc_zeroed(count, sizeof *pool->counters);
    pool->seats = kln_alloc_zeroed(total, sizeof(seat *));
    pool->lanes = kln_alloc_zeroed(count * LANES, sizeof(kiln_stream *));
    KLN_FAIL_IF(pool->counters == NULL || pool->seats == NULL || pool->lanes == NULL,
                kln_fail_memory(total * sizeof(seat *), "a scheduler"));
    pool->lane_count = count * LANES;
    for (size_t i = 0; i < total; i++) {
        kiln_engine *engine = engines[i / pool->contexts];
        kiln_context_options options;
        KLN_RETURN_IF_ERROR(choose_options(scheduler, pool, i, engine, &options));
        KLN_NEW(pool->seats[i], 1, "a scheduler's context");
        pool->count++;
        KLN_RETURN_IF_ERROR(
            seat_make(scheduler, pool, i / pool->contexts, engine, &options, pool->seats[i]));
    }
    return KILN_OK;
}

kiln_status engine_pool_make(const kiln_scheduler *scheduler, kiln_engine *const *engines,
                             size_t count, engine_pool **pool)
{
    engine_pool *made = kln_alloc_zeroed(1, sizeof *made);
    const kiln_status status = made != NULL ? fill(scheduler, engines, count, made)
                                            : kln_fail_memory(sizeof *made, "a scheduler");
    if (status != KILN_OK) {
        engine_pool_drop(scheduler, made);
        made = NULL;
    }
    *pool = made;
    return status;
}

void engine_pool_drop(const kiln_scheduler *scheduler, engine_pool *pool)
{
    for (size_t i = 0; pool != NULL && i < pool->count; i++) {
        seat_finish(scheduler, pool->seats[i]);
        kln_free(pool->seats[i]);
    }
    for (size_t i = 0; pool != NULL && i < pool->lane_count; i++) {
        kiln_stream_destroy(pool->lanes[i]);
    }
    if (pool != NULL) {
        kln_free(pool->lanes);
        kln_free(pool->seats);
        kln_free(pool->counters);
        kln_free(pool);
    }
}

bool engine_pool_is_busy(const engine_pool *pool)
{
    bool busy = false;
    for (size_t i = 0; i < pool->count; i++) {
        busy = busy || pool->seats[i]->busy;
    }
    return busy;
}

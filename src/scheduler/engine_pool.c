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
    KLN_RETURN_IF_NO_MEMORY(pool->counters, count * sizeof *pool->counters, "a scheduler");
    KLN_RETURN_IF_NO_MEMORY(pool->seats, total * sizeof(seat *), "a scheduler");
    for (size_t i = 0; i < total; i++) {
        pool->seats[i] = kln_alloc_zeroed(1, sizeof *pool->seats[i]);
        KLN_RETURN_IF_NO_MEMORY(pool->seats[i], sizeof *pool->seats[i], "a scheduler's context");
        pool->count++;
        KLN_RETURN_IF_ERROR(seat_make(scheduler, pool, i / pool->contexts,
                                      engines[i / pool->contexts], pool->seats[i]));
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
    if (pool != NULL) {
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

/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "scheduler_parts.h"

#define MOST_ENGINES 64

/* --- their contexts and threads --- */

kiln_status scheduler_check_engines(const char *function, kiln_engine *const *engines, size_t count)
{
    if (count < 1 || count > MOST_ENGINES) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT, "%s: %zu engines are given; 1 to %d can be",
                        function, count, MOST_ENGINES);
    }
    for (size_t i = 0; i < count; i++) {
        if (engines[i] == NULL) {
            return kln_fail_null(function, "engines");
        }
        KLN_RETURN_IF_ERROR(kln_engine_check_process(engines[i], function));
    }
    return KILN_OK;
}

void scheduler_drop_seats(const kiln_scheduler *scheduler, seat **seats, size_t count)
{
    for (size_t i = 0; seats != NULL && i < count; i++) {
        if (seats[i] != NULL) {
            seat_finish(scheduler, seats[i]);
            kln_free(seats[i]);
        }
    }
    kln_free(seats);
}

kiln_status scheduler_make_seats(const kiln_scheduler *scheduler, kiln_engine *const *engines,
                                 size_t count, seat ***seats)
{
    const size_t total = count * scheduler->contexts;
    seat **made = kln_alloc_zeroed(total, sizeof(seat *));
    kiln_status status =
        made != NULL ? KILN_OK : kln_fail_memory(total * sizeof(seat *), "a scheduler");
    for (size_t i = 0; status == KILN_OK && i < total; i++) {
        made[i] = kln_alloc_zeroed(1, sizeof *made[i]);
        status = made[i] != NULL ? seat_make(scheduler, engines[i / scheduler->contexts], made[i])
                                 : kln_fail_memory(sizeof *made[i], "a scheduler's context");
    }
    if (status != KILN_OK) {
        scheduler_drop_seats(scheduler, made, total);
        made = NULL;
    }
    *seats = made;
    return status;
}

kiln_status scheduler_start_threads(kiln_scheduler *scheduler, size_t count)
{
    pthread_t *workers = kln_realloc(scheduler->workers, count * sizeof *workers);
    if (workers == NULL) {
        return kln_fail_memory(count * sizeof *workers, "a scheduler's threads");
    }
    scheduler->workers = workers;
    for (size_t i = scheduler->worker_count; i < count; i++) {
        const int error = kln_thread_start(&scheduler->workers[i], scheduler_worker, scheduler);
        if (error != 0) {
            return kln_fail(KILN_ERROR_OUT_OF_MEMORY,
                            "thread %zu of %zu of a scheduler cannot be made: %s", i, count,
                            strerror(error));
        }
        scheduler->worker_count++;
    }
    return KILN_OK;
}

/* --- warming up --- */

/* A context that was not warmed up yet, taken; or NULL when all were. One that is waited for begins
 * no other batch. With the lock. */
static seat *take_cold(kiln_scheduler *scheduler)
{
    for (;;) {
        seat *cold = NULL;
        for (size_t i = 0; i < scheduler->seat_count; i++) {
            seat *at = scheduler->seats[i];
            if (!at->warm && !at->busy) {
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
    const uint64_t each = milliseconds != 0 ? milliseconds / scheduler->seat_count + 1 : 0;
    for (size_t i = 0; i < scheduler->seat_count; i++) {
        scheduler->seats[i]->warm = false;
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

kiln_status kiln_scheduler_warmup(kiln_scheduler *scheduler, const kiln_named_tensor *inputs,
                                  size_t input_count, uint64_t milliseconds)
{
    KLN_RETURN_IF_NULL(scheduler);
    KLN_RETURN_IF_ERROR(scheduler_check_process(scheduler, __func__));
    kiln_request *request = NULL;
    KLN_RETURN_IF_ERROR(
        scheduler_make_request(scheduler, __func__, inputs, input_count, NULL, 0, NULL, &request));
    const kiln_status status = warm_up(scheduler, request, milliseconds);
    request_release(request);
    return status;
}

/* --- other engines --- */

static bool any_busy(seat *const *seats, size_t count)
{
    bool busy = false;
    for (size_t i = 0; i < count; i++) {
        busy = busy || seats[i]->busy;
    }
    return busy;
}

static kiln_status begin_replacing(kiln_scheduler *scheduler)
{
    (void)pthread_mutex_lock(&scheduler->lock);
    const bool closed = scheduler->closed;
    const bool busy = scheduler->replacing;
    scheduler->replacing = true;
    (void)pthread_mutex_unlock(&scheduler->lock);
    if (busy) {
        return kln_fail(KILN_ERROR_BUSY,
                        "kiln_scheduler_replace: another thread is doing the same");
    }
    return closed ? kln_fail(KILN_ERROR_STATE,
                             "kiln_scheduler_replace: the scheduler was told to drain or to stop")
                  : KILN_OK;
}

kiln_status kiln_scheduler_replace(kiln_scheduler *scheduler, kiln_engine *const *engines,
                                   size_t count)
{
    KLN_RETURN_IF_NULL(scheduler);
    KLN_RETURN_IF_ERROR(scheduler_check_process(scheduler, __func__));
    KLN_RETURN_IF_NULL(engines);
    seat **seats = NULL;
    KLN_RETURN_IF_ERROR(scheduler_check_engines(__func__, engines, count));
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(schedule_rules_check(&scheduler->rules, engines[i]));
    }
    kiln_status status = begin_replacing(scheduler);
    if (status == KILN_ERROR_BUSY) {
        return status;
    }
    if (status == KILN_OK) {
        status = scheduler_make_seats(scheduler, engines, count, &seats);
    }
    if (status == KILN_OK && count * scheduler->contexts > scheduler->worker_count) {
        status = scheduler_start_threads(scheduler, count * scheduler->contexts);
    }
    size_t old_count = status == KILN_OK ? 0 : count * scheduler->contexts;
    (void)pthread_mutex_lock(&scheduler->lock);
    if (status == KILN_OK) {
        seat **old = scheduler->seats;
        old_count = scheduler->seat_count;
        scheduler->seats = seats;
        scheduler->seat_count = count * scheduler->contexts;
        seats = old;
        (void)pthread_cond_broadcast(&scheduler->work);
        while (any_busy(old, old_count)) {
            (void)pthread_cond_wait(&scheduler->rest, &scheduler->lock);
        }
    }
    scheduler->replacing = false;
    (void)pthread_mutex_unlock(&scheduler->lock);
    scheduler_drop_seats(scheduler, seats, old_count);
    return status;
}

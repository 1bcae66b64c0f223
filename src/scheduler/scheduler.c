/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <unistd.h>

#include "scheduler_parts.h"

#define DEFAULT_DELAY UINT64_C(1000000)
#define DEFAULT_LIMIT 1024

/* --- shutdown --- */

static void join_threads(kiln_scheduler *scheduler)
{
    (void)pthread_mutex_lock(&scheduler->lock);
    scheduler->ends = true;
    (void)pthread_cond_broadcast(&scheduler->work);
    (void)pthread_cond_broadcast(&scheduler->timer);
    (void)pthread_mutex_unlock(&scheduler->lock);
    for (size_t i = 0; i < scheduler->worker_count; i++) {
        (void)pthread_join(scheduler->workers[i], NULL);
    }
    if (scheduler->has_keeper) {
        (void)pthread_join(scheduler->keeper, NULL);
    }
}

static void cancel_waiting(kiln_scheduler *scheduler)
{
    kiln_request *request = NULL;
    while ((request = request_queue_first(&scheduler->queue)) != NULL) {
        scheduler_withdraw(scheduler, request);
        scheduler_answer(scheduler, request, KILN_REQUEST_CANCELLED, KILN_ERROR_CANCELLED,
                         "the scheduler was stopped while the request waited",
                         scheduler_now(scheduler));
        (void)pthread_mutex_unlock(&scheduler->lock);
        request_tell(request);
        (void)pthread_mutex_lock(&scheduler->lock);
    }
}

static bool is_at_rest(const kiln_scheduler *scheduler)
{
    return scheduler->counters.waiting + scheduler->counters.running == 0 && scheduler->untold == 0;
}

/* Called with the lock held, once the scheduler is closed; false if time ran out first. */
static bool wait_for_all(kiln_scheduler *scheduler, int64_t milliseconds)
{
    const struct timespec until = kln_timespec(kln_deadline(milliseconds));
    int result = 0;
    while (result != ETIMEDOUT && !is_at_rest(scheduler)) {
        result = pthread_cond_timedwait(&scheduler->rest, &scheduler->lock, &until);
    }
    return is_at_rest(scheduler);
}

static void close_for_good(kiln_scheduler *scheduler)
{
    scheduler->closed = true;
    (void)pthread_cond_broadcast(&scheduler->work);
}

kiln_status kiln_scheduler_drain(kiln_scheduler *scheduler, int64_t milliseconds)
{
    KLN_RETURN_IF_NULL(scheduler);
    KLN_RETURN_IF_ERROR(kln_forks_check(scheduler->forks, __func__, "scheduler"));
    (void)pthread_mutex_lock(&scheduler->lock);
    close_for_good(scheduler);
    const bool done = wait_for_all(scheduler, milliseconds);
    const uint64_t left = scheduler->counters.waiting + scheduler->counters.running;
    (void)pthread_mutex_unlock(&scheduler->lock);
    return done ? KILN_OK
                : kln_fail(KILN_ERROR_BUSY,
                           "kiln_scheduler_drain: after %lld ms %llu request%s %s not answered; "
                           "they go on, and a stop cancels those that wait",
                           (long long)milliseconds, (unsigned long long)left, KLN_S(left),
                           left == 1 ? "is" : "are");
}

static void stop(kiln_scheduler *scheduler)
{
    KLN_LOCKED(&scheduler->lock);
    close_for_good(scheduler);
    cancel_waiting(scheduler);
    (void)wait_for_all(scheduler, -1);
}

kiln_status kiln_scheduler_stop(kiln_scheduler *scheduler)
{
    KLN_RETURN_IF_NULL(scheduler);
    KLN_RETURN_IF_ERROR(kln_forks_check(scheduler->forks, __func__, "scheduler"));
    stop(scheduler);
    return KILN_OK;
}

void kiln_scheduler_destroy(kiln_scheduler *scheduler)
{
    if (scheduler == NULL || scheduler->forks != kln_forks()) {
        return;
    }
    stop(scheduler);
    scheduler_follow_end(scheduler);
    join_threads(scheduler);
    crew_finish(&scheduler->crew);
    kln_free(scheduler->workers);
    engine_pool_drop(scheduler, scheduler->pool);
    if (scheduler->event >= 0) {
        (void)close(scheduler->event);
    }
    while (scheduler->collected != NULL) {
        kiln_request *request = scheduler->collected;
        scheduler->collected = request->next;
        request_release(request);
    }
    if (scheduler->sample != NULL) {
        request_release(scheduler->sample);
    }
    scheduler_release(scheduler);
}
KLN_SCOPED_POINTER(kiln_scheduler, kiln_scheduler_destroy)

/* --- create --- */

static kiln_status fill(kiln_scheduler *scheduler, kiln_engine *const *engines, size_t count,
                        const kiln_scheduler_options *options)
{
    KLN_RETURN_IF_ERROR(schedule_rules_make(engines, count, options, &scheduler->rules));
    scheduler->schedule =
        options->schedule != KILN_SCHEDULE_DEFAULT ? options->schedule : KILN_SCHEDULE_LATENCY;
    scheduler->delay = options->delay_nanoseconds != 0 ? options->delay_nanoseconds : DEFAULT_DELAY;
    scheduler->contexts = options->contexts;
    scheduler->context_options = KILN_CONTEXT_OPTIONS_INIT;
    if (options->context != NULL) {
        KLN_RETURN_IF_ERROR(kln_options_read("kiln_context_options", options->context,
                                             &scheduler->context_options,
                                             sizeof scheduler->context_options));
    }
    KLN_RETURN_IF_ERROR(request_queue_init(
        &scheduler->queue, options->queue_limit != 0 ? options->queue_limit : DEFAULT_LIMIT));
    for (size_t i = 0; i < FIGURES; i++) {
        KLN_RETURN_IF_ERROR(kiln_histogram_create(&scheduler->figures[i]));
    }
    KLN_RETURN_IF_ERROR(engine_pool_make(scheduler, engines, count, &scheduler->pool));
    scheduler->counters.max_batch = scheduler->rules.axis >= 0 ? scheduler->rules.max_rows : 0;
    return scheduler->clock != NULL ? KILN_OK
                                    : scheduler_start_threads(scheduler, scheduler->pool->count);
}

kiln_status scheduler_create_with(kiln_engine *const *engines, size_t count,
                                  const kiln_scheduler_options *options, const played_clock *clock,
                                  kiln_scheduler **scheduler)
{
    *scheduler = NULL;
    kiln_scheduler_options read = KILN_SCHEDULER_OPTIONS_INIT;
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_scheduler_options", options, &read, sizeof read));
    KLN_SCOPED(kiln_scheduler_destroy_at) kiln_scheduler *made = kln_alloc_zeroed(1, sizeof *made);
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "a scheduler");
    atomic_init(&made->references, 1);
    made->clock = clock;
    made->event = -1;
    made->forks = kln_forks_begin();
    (void)pthread_mutex_init(&made->lock, NULL);
    (void)pthread_mutex_init(&made->blocks.lock, NULL);
    kln_condition_init(&made->work);
    kln_condition_init(&made->timer);
    kln_condition_init(&made->rest);
    crew_init(&made->crew);
    KLN_RETURN_IF_ERROR(fill(made, engines, count, &read));
    *scheduler = KLN_TAKE(made);
    return KILN_OK;
}

kiln_status kiln_scheduler_create(kiln_engine *const *engines, size_t count,
                                  const kiln_scheduler_options *options, kiln_scheduler **scheduler)
{
    KLN_RETURN_IF_NULL_RESULT(scheduler, engines);
    KLN_RETURN_IF_ERROR(scheduler_check_engines(__func__, engines, count));
    return scheduler_create_with(engines, count, options, NULL, scheduler);
}

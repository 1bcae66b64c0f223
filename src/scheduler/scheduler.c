/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "scheduler_parts.h"

#define DEFAULT_DELAY UINT64_C(1000000)
#define DEFAULT_LIMIT 1024
#define MOST_ENGINES 64

static void drop_seats(const kiln_scheduler *scheduler, seat **seats, size_t count)
{
    for (size_t i = 0; seats != NULL && i < count; i++) {
        if (seats[i] != NULL) {
            seat_finish(scheduler, seats[i]);
            kln_free(seats[i]);
        }
    }
    kln_free(seats);
}

/* Where the process was forked, its threads stayed with the other one. */
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
        request_queue_remove(&scheduler->queue, request);
        scheduler->counters.waiting--;
        scheduler_answer(scheduler, request, KILN_REQUEST_CANCELLED, KILN_ERROR_CANCELLED,
                         "the scheduler was stopped while the request waited");
        (void)pthread_mutex_unlock(&scheduler->lock);
        request_tell(request);
        (void)pthread_mutex_lock(&scheduler->lock);
    }
}

/* With the lock; false: not all is answered by then. */
static bool wait_for_all(kiln_scheduler *scheduler, int64_t milliseconds)
{
    const uint64_t end = milliseconds < 0 || milliseconds > INT32_MAX
                             ? UINT64_MAX
                             : kln_now() + (uint64_t)milliseconds * 1000000;
    const struct timespec until = {.tv_sec = (time_t)(end / 1000000000),
                                   .tv_nsec = (long)(end % 1000000000)};
    int result = 0;
    while (result != ETIMEDOUT && scheduler->counters.waiting + scheduler->counters.running != 0) {
        result = end == UINT64_MAX
                     ? pthread_cond_wait(&scheduler->rest, &scheduler->lock)
                     : pthread_cond_timedwait(&scheduler->rest, &scheduler->lock, &until);
    }
    return scheduler->counters.waiting + scheduler->counters.running == 0;
}

static void close_for_good(kiln_scheduler *scheduler)
{
    scheduler->closed = true;
    (void)pthread_cond_broadcast(&scheduler->work);
}

kiln_status kiln_scheduler_drain(kiln_scheduler *scheduler, int64_t milliseconds)
{
    KLN_RETURN_IF_NULL(scheduler);
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
    (void)pthread_mutex_lock(&scheduler->lock);
    close_for_good(scheduler);
    cancel_waiting(scheduler);
    (void)wait_for_all(scheduler, -1);
    (void)pthread_mutex_unlock(&scheduler->lock);
}

kiln_status kiln_scheduler_stop(kiln_scheduler *scheduler)
{
    KLN_RETURN_IF_NULL(scheduler);
    stop(scheduler);
    return KILN_OK;
}

void kiln_scheduler_destroy(kiln_scheduler *scheduler)
{
    if (scheduler == NULL) {
        return;
    }
    stop(scheduler);
    join_threads(scheduler);
    kln_free(scheduler->workers);
    drop_seats(scheduler, scheduler->seats, scheduler->seat_count);
    if (scheduler->event >= 0) {
        (void)close(scheduler->event);
    }
    while (scheduler->collected != NULL) {
        kiln_request *request = scheduler->collected;
        scheduler->collected = request->next;
        request_release(request);
    }
    scheduler_release(scheduler);
}

/* --- create --- */

/* As many contexts as there are to be of each engine, those of one engine beside each other. */
static kiln_status make_seats(const kiln_scheduler *scheduler, kiln_engine *const *engines,
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
        drop_seats(scheduler, made, total);
        made = NULL;
    }
    *seats = made;
    return status;
}

/* One for each context, if there are fewer. */
static kiln_status start_threads(kiln_scheduler *scheduler, size_t count)
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

static kiln_status fill(kiln_scheduler *scheduler, kiln_engine *const *engines, size_t count,
                        const kiln_scheduler_options *options)
{
    KLN_RETURN_IF_ERROR(schedule_rules_make(engines, count, options, &scheduler->rules));
    scheduler->schedule =
        options->schedule != KILN_SCHEDULE_DEFAULT ? options->schedule : KILN_SCHEDULE_LATENCY;
    scheduler->delay = options->delay_nanoseconds != 0 ? options->delay_nanoseconds : DEFAULT_DELAY;
    scheduler->contexts = options->contexts != 0        ? (size_t)options->contexts
                          : scheduler->rules.device < 0 ? 1
                                                        : 2;
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
    KLN_RETURN_IF_ERROR(make_seats(scheduler, engines, count, &scheduler->seats));
    scheduler->seat_count = count * scheduler->contexts;
    scheduler->counters.max_batch = scheduler->rules.axis >= 0 ? scheduler->rules.max_rows : 0;
    return start_threads(scheduler, scheduler->seat_count);
}

static void init_condition(pthread_cond_t *condition)
{
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(condition, &attributes);
    (void)pthread_condattr_destroy(&attributes);
}

static kiln_status check_engines(const char *function, kiln_engine *const *engines, size_t count)
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

kiln_status kiln_scheduler_create(kiln_engine *const *engines, size_t count,
                                  const kiln_scheduler_options *options, kiln_scheduler **scheduler)
{
    KLN_RETURN_IF_NULL(scheduler);
    *scheduler = NULL;
    KLN_RETURN_IF_NULL(engines);
    kiln_scheduler_options read = KILN_SCHEDULER_OPTIONS_INIT;
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_scheduler_options", options, &read, sizeof read));
    KLN_RETURN_IF_ERROR(check_engines(__func__, engines, count));
    kiln_scheduler *made = kln_alloc_zeroed(1, sizeof *made);
    if (made == NULL) {
        return kln_fail_memory(sizeof *made, "a scheduler");
    }
    atomic_init(&made->references, 1);
    made->event = -1;
    made->forks = kln_forks_begin();
    kln_arena_init(&made->rules.arena);
    (void)pthread_mutex_init(&made->lock, NULL);
    (void)pthread_mutex_init(&made->blocks.lock, NULL);
    init_condition(&made->work);
    init_condition(&made->timer);
    init_condition(&made->rest);
    const kiln_status status = fill(made, engines, count, &read);
    if (status != KILN_OK) {
        kiln_scheduler_destroy(made);
        return status;
    }
    *scheduler = made;
    return KILN_OK;
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
                             "kiln_scheduler_replace: the scheduler was told to "
                             "drain or to stop")
                  : KILN_OK;
}

kiln_status kiln_scheduler_replace(kiln_scheduler *scheduler, kiln_engine *const *engines,
                                   size_t count)
{
    KLN_RETURN_IF_NULL(scheduler);
    KLN_RETURN_IF_NULL(engines);
    seat **seats = NULL;
    KLN_RETURN_IF_ERROR(check_engines(__func__, engines, count));
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(schedule_rules_check(&scheduler->rules, engines[i]));
    }
    kiln_status status = begin_replacing(scheduler);
    if (status == KILN_ERROR_BUSY) {
        return status;
    }
    if (status == KILN_OK) {
        status = make_seats(scheduler, engines, count, &seats);
    }
    if (status == KILN_OK && count * scheduler->contexts > scheduler->worker_count) {
        status = start_threads(scheduler, count * scheduler->contexts);
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
    drop_seats(scheduler, seats, old_count);
    return status;
}

/* --- what was counted --- */

kiln_status kiln_scheduler_get_counters(kiln_scheduler *scheduler,
                                        kiln_scheduler_counters *counters)
{
    KLN_RETURN_IF_NULL(scheduler);
    (void)pthread_mutex_lock(&scheduler->lock);
    const kiln_scheduler_counters now = scheduler->counters;
    (void)pthread_mutex_unlock(&scheduler->lock);
    return kln_info_write(__func__, counters, &now, sizeof now);
}

kiln_status kiln_scheduler_get_figure(kiln_scheduler *scheduler, kiln_scheduler_figure figure,
                                      kiln_histogram *histogram)
{
    KLN_RETURN_IF_NULL(scheduler);
    KLN_RETURN_IF_NULL(histogram);
    if ((int)figure < 0 || (int)figure >= FIGURES) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_scheduler_get_figure: figure is %d; 0 to %d are known", (int)figure,
                        FIGURES - 1);
    }
    (void)pthread_mutex_lock(&scheduler->lock);
    const kiln_status status = kiln_histogram_add(histogram, scheduler->figures[figure]);
    (void)pthread_mutex_unlock(&scheduler->lock);
    return status;
}

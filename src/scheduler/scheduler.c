/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "scheduler_parts.h"

#define DEFAULT_DELAY UINT64_C(1000000)
#define DEFAULT_LIMIT 1024
#define MOST_ENGINES 64

/* --- the end --- */

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

kiln_status kiln_scheduler_stop(kiln_scheduler *scheduler)
{
    KLN_RETURN_IF_NULL(scheduler);
    (void)pthread_mutex_lock(&scheduler->lock);
    close_for_good(scheduler);
    cancel_waiting(scheduler);
    (void)wait_for_all(scheduler, -1);
    (void)pthread_mutex_unlock(&scheduler->lock);
    return KILN_OK;
}

void kiln_scheduler_destroy(kiln_scheduler *scheduler)
{
    if (scheduler == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&scheduler->lock);
    close_for_good(scheduler);
    cancel_waiting(scheduler);
    (void)wait_for_all(scheduler, -1);
    (void)pthread_mutex_unlock(&scheduler->lock);
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

/* --- requests --- */

static kiln_status need_keeper(kiln_scheduler *scheduler, const kiln_request *request)
{
    if (request->options.deadline_nanoseconds == 0 || scheduler->has_keeper) {
        return KILN_OK;
    }
    const int error = kln_thread_start(&scheduler->keeper, scheduler_keeper, scheduler);
    scheduler->has_keeper = error == 0;
    return error == 0
               ? KILN_OK
               : kln_fail(KILN_ERROR_OUT_OF_MEMORY,
                          "a thread that keeps deadlines cannot be made: %s", strerror(error));
}

static kiln_status admit(kiln_scheduler *scheduler, const kiln_request *request)
{
    if (scheduler->closed) {
        return kln_fail(KILN_ERROR_STATE,
                        "the scheduler takes no more requests: it was told to "
                        "drain or to stop");
    }
    if (scheduler->queue.count >= scheduler->queue.limit) {
        return kln_fail(KILN_ERROR_QUEUE_FULL,
                        "%zu requests wait already, as many as may (queue_limit); %llu run",
                        scheduler->queue.count, (unsigned long long)scheduler->counters.running);
    }
    return need_keeper(scheduler, request);
}

static void enter_queue(kiln_scheduler *scheduler, kiln_request *request)
{
    scheduler->counters.submitted++;
    scheduler->counters.waiting++;
    request->submitted = kln_now();
    request_retain(request);
    request_queue_push(&scheduler->queue, request);
    if (request_queue_earliest(&scheduler->queue) == request) {
        (void)pthread_cond_signal(&scheduler->timer);
    }
}

static kiln_status make(kiln_scheduler *scheduler, const char *function,
                        const kiln_named_tensor *inputs, size_t input_count,
                        const kiln_named_tensor *outputs, size_t output_count,
                        const kiln_request_options *options, kiln_request **request)
{
    if (scheduler->forks != kln_forks()) {
        return kln_fail(
            KILN_ERROR_STATE,
            "%s: the scheduler was made before this process was forked, and its threads "
            "are in the other one; make one here",
            function);
    }
    if ((input_count != 0 && inputs == NULL) || (output_count != 0 && outputs == NULL)) {
        return kln_fail_null(function, inputs == NULL && input_count != 0 ? "inputs" : "outputs");
    }
    return request_make(scheduler, inputs, input_count, outputs, output_count, options, request);
}

static kiln_status refuse(kiln_scheduler *scheduler, kiln_status status)
{
    (void)pthread_mutex_lock(&scheduler->lock);
    scheduler->counters.refused++;
    (void)pthread_mutex_unlock(&scheduler->lock);
    return status;
}

/* With a free context and nobody before it, a request that waits for no others is `*served` by the
 * thread that brings it. */
static kiln_status submit(kiln_scheduler *scheduler, kiln_request *request, seat **served)
{
    uint64_t due = 0;
    (void)pthread_mutex_lock(&scheduler->lock);
    const kiln_status status = admit(scheduler, request);
    if (status == KILN_OK) {
        const bool alone = scheduler->queue.count == 0;
        enter_queue(scheduler, request);
        if (served != NULL && alone && request->options.schedule == KILN_SCHEDULE_LATENCY) {
            *served = scheduler_take(scheduler, &due);
        } else {
            scheduler_wake(scheduler);
        }
    }
    (void)pthread_mutex_unlock(&scheduler->lock);
    return status;
}

kiln_status kiln_scheduler_submit(kiln_scheduler *scheduler, const kiln_named_tensor *inputs,
                                  size_t input_count, const kiln_named_tensor *outputs,
                                  size_t output_count, const kiln_request_options *options,
                                  kiln_request **request)
{
    KLN_RETURN_IF_NULL(request);
    *request = NULL;
    KLN_RETURN_IF_NULL(scheduler);
    kiln_request *made = NULL;
    kiln_status status =
        make(scheduler, __func__, inputs, input_count, outputs, output_count, options, &made);
    if (status == KILN_OK) {
        status = submit(scheduler, made, NULL);
        if (status != KILN_OK) {
            request_release(made);
            made = NULL;
        }
    }
    *request = made;
    return status == KILN_OK ? KILN_OK : refuse(scheduler, status);
}

static kiln_status check_run(const kiln_named_tensor *outputs, size_t count,
                             const kiln_request_options *options)
{
    if (options != NULL && (options->answered != NULL || options->collect)) {
        return kln_fail(
            KILN_ERROR_INVALID_ARGUMENT,
            "kiln_scheduler_run: it waits for the answer itself, so that `answered` and "
            "`collect` are for requests that are submitted");
    }
    for (size_t i = 0; i < count; i++) {
        if (outputs[i].tensor.data == NULL) {
            return kln_fail(KILN_ERROR_NULL_ARGUMENT,
                            "kiln_scheduler_run: output \"%s\" has no memory; a request that is "
                            "submitted can show it",
                            outputs[i].name != NULL ? outputs[i].name : "");
        }
    }
    return KILN_OK;
}

kiln_status kiln_scheduler_run(kiln_scheduler *scheduler, const kiln_named_tensor *inputs,
                               size_t input_count, const kiln_named_tensor *outputs,
                               size_t output_count, const kiln_request_options *options)
{
    KLN_RETURN_IF_NULL(scheduler);
    kiln_request *request = NULL;
    seat *served = NULL;
    kiln_status status =
        make(scheduler, __func__, inputs, input_count, outputs, output_count, options, &request);
    if (status == KILN_OK) {
        status = check_run(outputs, output_count, options);
        status = status == KILN_OK ? submit(scheduler, request, &served) : status;
        if (status != KILN_OK) {
            request_release(request);
        }
    }
    if (status != KILN_OK) {
        return refuse(scheduler, status);
    }
    if (served != NULL) {
        scheduler_serve(scheduler, served);
    }
    status = kiln_request_wait(request, -1);
    request_release(request);
    return status;
}

/* --- warming up --- */

/* A context that was not warmed up yet, taken; or NULL when all were. With the lock. */
static seat *take_cold(kiln_scheduler *scheduler)
{
    for (;;) {
        bool any = false;
        for (size_t i = 0; i < scheduler->seat_count; i++) {
            seat *at = scheduler->seats[i];
            any = any || !at->warm;
            if (!at->warm && !at->busy) {
                at->busy = true;
                at->warm = true;
                return at;
            }
        }
        if (!any) {
            return NULL;
        }
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
    kiln_request *request = NULL;
    KLN_RETURN_IF_ERROR(make(scheduler, __func__, inputs, input_count, NULL, 0, NULL, &request));
    const kiln_status status = warm_up(scheduler, request, milliseconds);
    request_release(request);
    return status;
}

/* --- cancelling --- */

/* The context of a request that runs by itself, or NULL. */
static kiln_context *context_of(const kiln_scheduler *scheduler, const kiln_request *request)
{
    for (size_t i = 0; i < scheduler->seat_count; i++) {
        const seat *at = scheduler->seats[i];
        if (at->busy && at->request_count == 1 && at->requests[0] == request) {
            return at->context;
        }
    }
    return NULL;
}

static void stop_run(const kiln_scheduler *scheduler, const kiln_request *request)
{
    kln_message before;
    kiln_context *context = context_of(scheduler, request);
    kln_message_keep(&before);
    if (context != NULL && kiln_context_cancel(context) != KILN_OK) {
        kln_message_restore(&before);
    }
}

kiln_status kiln_request_cancel(kiln_request *request)
{
    KLN_RETURN_IF_NULL(request);
    kiln_scheduler *scheduler = request->scheduler;
    (void)pthread_mutex_lock(&scheduler->lock);
    const kiln_request_state state = kiln_request_get_state(request);
    if (state == KILN_REQUEST_WAITING) {
        request_queue_remove(&scheduler->queue, request);
        scheduler->counters.waiting--;
        scheduler_answer(scheduler, request, KILN_REQUEST_CANCELLED, KILN_ERROR_CANCELLED,
                         "the request was cancelled while it waited");
    } else if (state == KILN_REQUEST_RUNNING) {
        request->cancelled = true;
        stop_run(scheduler, request);
    }
    (void)pthread_mutex_unlock(&scheduler->lock);
    if (state == KILN_REQUEST_WAITING) {
        request_tell(request);
    }
    return state < KILN_REQUEST_DONE
               ? KILN_OK
               : kln_fail(KILN_ERROR_STATE, "kiln_request_cancel: the request is answered");
}

/* --- collecting --- */

kiln_status kiln_scheduler_next(kiln_scheduler *scheduler, kiln_request **request)
{
    KLN_RETURN_IF_NULL(request);
    *request = NULL;
    KLN_RETURN_IF_NULL(scheduler);
    (void)pthread_mutex_lock(&scheduler->lock);
    *request = scheduler->collected;
    if (*request != NULL) {
        scheduler->collected = (*request)->next;
        scheduler->collected_last = scheduler->collected != NULL ? scheduler->collected_last : NULL;
    }
    (void)pthread_mutex_unlock(&scheduler->lock);
    return KILN_OK;
}

kiln_status kiln_scheduler_event(kiln_scheduler *scheduler, int *descriptor)
{
    KLN_RETURN_IF_NULL(descriptor);
    *descriptor = -1;
    KLN_RETURN_IF_NULL(scheduler);
    (void)pthread_mutex_lock(&scheduler->lock);
    if (scheduler->event < 0) {
        scheduler->event =
            eventfd(scheduler->collected != NULL ? 1 : 0, EFD_CLOEXEC | EFD_NONBLOCK);
    }
    *descriptor = scheduler->event;
    const int error = errno;
    (void)pthread_mutex_unlock(&scheduler->lock);
    return *descriptor >= 0
               ? KILN_OK
               : kln_fail(KILN_ERROR_IO, "kiln_scheduler_event: no eventfd: %s", strerror(error));
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

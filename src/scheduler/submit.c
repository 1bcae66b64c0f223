/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <sys/eventfd.h>

#include "scheduler_parts.h"

/* --- requests --- */

static kiln_status need_keeper(kiln_scheduler *scheduler, const kiln_request *request)
{
    if (request->options.deadline_nanoseconds == 0 || scheduler->has_keeper ||
        scheduler->clock != NULL) {
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
    KLN_RETURN_IF(scheduler->closed, KILN_ERROR_STATE,
                  "the scheduler takes no more requests: it was told to "
                  "drain or to stop");
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
    request->submitted = scheduler_now(scheduler);
    request_retain(request);
    request_queue_push(&scheduler->queue, request);
    if (request_queue_earliest(&scheduler->queue) == request) {
        (void)pthread_cond_signal(&scheduler->timer);
    }
}

kiln_status scheduler_make_request(kiln_scheduler *scheduler, const char *function,
                                   const kiln_named_tensor *inputs, size_t input_count,
                                   const kiln_named_tensor *outputs, size_t output_count,
                                   const kiln_request_options *options, kiln_request **request)
{
    KLN_FAIL_IF((input_count != 0 && inputs == NULL) || (output_count != 0 && outputs == NULL),
                kln_fail_null(function, inputs == NULL && input_count != 0 ? "inputs" : "outputs"));
    return request_make(scheduler, inputs, input_count, outputs, output_count, options, request);
}

static kiln_status refuse(kiln_scheduler *scheduler, kiln_status status)
{
    KLN_LOCKED(&scheduler->lock);
    scheduler->counters.refused++;
    return status;
}

/* If a context is free and the queue is empty, the submitting thread serves a latency request
 * itself (`*served`). */
static kiln_status submit(kiln_scheduler *scheduler, kiln_request *request, seat **served)
{
    uint64_t due = 0;
    KLN_LOCKED(&scheduler->lock);
    KLN_RETURN_IF_ERROR(admit(scheduler, request));
    const bool alone = scheduler->queue.count == 0;
    enter_queue(scheduler, request);
    if (served != NULL && alone && request->options.schedule == KILN_SCHEDULE_LATENCY) {
        *served = scheduler_take(scheduler, &due);
    }
    if (served == NULL || *served == NULL) {
        scheduler_send_ahead(scheduler);
        scheduler_wake(scheduler);
    }
    return KILN_OK;
}

kiln_status kiln_scheduler_submit(kiln_scheduler *scheduler, const kiln_named_tensor *inputs,
                                  size_t input_count, const kiln_named_tensor *outputs,
                                  size_t output_count, const kiln_request_options *options,
                                  kiln_request **request)
{
    KLN_RETURN_IF_NULL_RESULT(request, scheduler);
    KLN_RETURN_IF_ERROR(kln_forks_check(scheduler->forks, __func__, "scheduler"));
    kiln_request *made = NULL;
    seat *served = NULL;
    kiln_status status = scheduler_make_request(scheduler, __func__, inputs, input_count, outputs,
                                                output_count, options, &made);
    if (status == KILN_OK) {
        status = submit(scheduler, made, made->options.run_here ? &served : NULL);
        if (status != KILN_OK) {
            request_release(made);
            made = NULL;
        }
    }
    *request = made;
    if (served != NULL) {
        scheduler_serve(scheduler, served);
    }
    return status == KILN_OK ? KILN_OK : refuse(scheduler, status);
}

static kiln_status check_run(const kiln_scheduler *scheduler, const kiln_named_tensor *outputs,
                             size_t count, const kiln_request_options *options)
{
    KLN_RETURN_IF(options->answered != NULL || options->collect, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_scheduler_run: it waits for the answer itself, so that `answered` and "
                  "`collect` are for requests that are submitted");
    for (size_t i = 0; i < count; i++) {
        if (outputs[i].tensor.data == NULL) {
            return kln_fail(KILN_ERROR_NULL_ARGUMENT,
                            "kiln_scheduler_run: output \"%s\" has no memory; a request that is "
                            "submitted can show it",
                            outputs[i].name != NULL ? outputs[i].name : "");
        }
    }
    for (size_t i = 0; i < scheduler->rules.output_count; i++) {
        KLN_RETURN_IF(scheduler->rules.outputs[i].dtype == KILN_DTYPE_STRING,
                      KILN_ERROR_UNSUPPORTED,
                      "kiln_scheduler_run: output \"%s\" is of strings, whose bytes are a "
                      "request's; submit one, and release it when they were read",
                      scheduler->rules.outputs[i].name);
    }
    return KILN_OK;
}

kiln_status kiln_scheduler_run(kiln_scheduler *scheduler, const kiln_named_tensor *inputs,
                               size_t input_count, const kiln_named_tensor *outputs,
                               size_t output_count, const kiln_request_options *options)
{
    KLN_RETURN_IF_NULL(scheduler);
    KLN_RETURN_IF_ERROR(kln_forks_check(scheduler->forks, __func__, "scheduler"));
    kiln_request *request = NULL;
    seat *served = NULL;
    kiln_status status = scheduler_make_request(scheduler, __func__, inputs, input_count, outputs,
                                                output_count, options, &request);
    if (status == KILN_OK) {
        status = check_run(scheduler, outputs, output_count, &request->options);
        KLN_THEN(status, submit(scheduler, request, &served));
        if (status != KILN_OK) {
            request_release(request);
        }
    }
    KLN_FAIL_IF(status != KILN_OK, refuse(scheduler, status));
    if (served != NULL) {
        scheduler_serve(scheduler, served);
    }
    status = kiln_request_wait(request, -1);
    request_release(request);
    return status;
}

/* --- cancelling --- */

/* The context of a request that runs alone in its batch, or NULL. */
static kiln_context *context_of(const kiln_scheduler *scheduler, const kiln_request *request)
{
    for (size_t i = 0; i < scheduler->pool->count; i++) {
        const seat *at = scheduler->pool->seats[i];
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
    KLN_RETURN_IF_ERROR(kln_forks_check(scheduler->forks, __func__, "scheduler"));
    (void)pthread_mutex_lock(&scheduler->lock);
    const kiln_request_state state = kiln_request_get_state(request);
    if (state == KILN_REQUEST_WAITING) {
        scheduler_withdraw(scheduler, request);
        scheduler_answer(scheduler, request, KILN_REQUEST_CANCELLED, KILN_ERROR_CANCELLED,
                         "the request was cancelled while it waited", scheduler_now(scheduler));
    } else if (state == KILN_REQUEST_RUNNING) {
        atomic_store(&request->cancelled, true);
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
    KLN_RETURN_IF_NULL_RESULT(request, scheduler);
    KLN_RETURN_IF_ERROR(kln_forks_check(scheduler->forks, __func__, "scheduler"));
    KLN_LOCKED(&scheduler->lock);
    *request = scheduler->collected;
    if (*request != NULL) {
        scheduler->collected = (*request)->next;
        scheduler->collected_last = scheduler->collected != NULL ? scheduler->collected_last : NULL;
    }
    return KILN_OK;
}

kiln_status kiln_scheduler_event(kiln_scheduler *scheduler, int *descriptor)
{
    KLN_RETURN_IF_NULL(descriptor);
    *descriptor = -1;
    KLN_RETURN_IF_NULL(scheduler);
    KLN_RETURN_IF_ERROR(kln_forks_check(scheduler->forks, __func__, "scheduler"));
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

/* --- counters --- */

kiln_status kiln_scheduler_get_counters(kiln_scheduler *scheduler,
                                        kiln_scheduler_counters *counters)
{
    KLN_RETURN_IF_NULL(scheduler);
    KLN_RETURN_IF_ERROR(kln_forks_check(scheduler->forks, __func__, "scheduler"));
    KLN_LOCKED(&scheduler->lock);
    return kln_info_write(__func__, counters, &scheduler->counters, sizeof scheduler->counters);
}

kiln_status kiln_scheduler_get_engine_counters(kiln_scheduler *scheduler, size_t index,
                                               kiln_scheduler_engine_counters *counters)
{
    KLN_RETURN_IF_NULL(scheduler);
    KLN_RETURN_IF_ERROR(kln_forks_check(scheduler->forks, __func__, "scheduler"));
    KLN_LOCKED(&scheduler->lock);
    const engine_pool *pool = scheduler->pool;
    const size_t count = pool->count / pool->contexts;
    KLN_RETURN_IF(
        index >= count, KILN_ERROR_INVALID_ARGUMENT,
        "kiln_scheduler_get_engine_counters: index is %zu, the scheduler has %zu engine%s", index,
        count, KLN_S(count));
    kiln_scheduler_engine_counters now = pool->counters[index];
    now.device = pool->seats[index * pool->contexts]->device;
    for (size_t i = 0; i < pool->contexts; i++) {
        now.running += pool->seats[index * pool->contexts + i]->busy;
    }
    return kln_info_write(__func__, counters, &now, sizeof now);
}

kiln_status kiln_scheduler_get_figure(kiln_scheduler *scheduler, kiln_scheduler_figure figure,
                                      kiln_histogram *histogram)
{
    KLN_RETURN_IF_NULL(scheduler);
    KLN_RETURN_IF_ERROR(kln_forks_check(scheduler->forks, __func__, "scheduler"));
    KLN_RETURN_IF_NULL(histogram);
    if ((int)figure < 0 || (int)figure >= FIGURES) {
        return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                        "kiln_scheduler_get_figure: figure is %d; 0 to %d are known", (int)figure,
                        FIGURES - 1);
    }
    KLN_LOCKED(&scheduler->lock);
    return kiln_histogram_add(histogram, scheduler->figures[figure]);
}

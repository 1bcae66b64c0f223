/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "scheduler_parts.h"

/* --- memory --- */

static kiln_request *reuse(kiln_scheduler *scheduler)
{
    KLN_LOCKED(&scheduler->lock);
    kiln_request *request = scheduler->free;
    if (request != NULL) {
        scheduler->free = request->next;
    }
    return request;
}

static kiln_request *allocate(kiln_scheduler *scheduler)
{
    const schedule_rules *rules = &scheduler->rules;
    kiln_request *request = reuse(scheduler);
    if (request != NULL) {
        return request;
    }
    const size_t tensors = rules->input_count + rules->output_count;
    request = kln_alloc_zeroed(1, sizeof *request + tensors * sizeof(kiln_tensor) +
                                      rules->input_count * sizeof(kiln_shape));
    if (request != NULL) {
        request->scheduler = scheduler;
        request->inputs = (kiln_tensor *)(request + 1);
        request->outputs = request->inputs + rules->input_count;
        request->shapes = (kiln_shape *)(request->outputs + rules->output_count);
        (void)sem_init(&request->answered, 0, 0);
    }
    return request;
}

void request_retain(kiln_request *request)
{
    (void)atomic_fetch_add(&request->references, 1);
}

void request_release(kiln_request *request)
{
    kiln_scheduler *scheduler = request->scheduler;
    if (atomic_fetch_sub(&request->references, 1) != 1 || scheduler->forks != kln_forks()) {
        return;
    }
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(request->blocks); i++) {
        result_block_release(&scheduler->blocks, request->blocks[i]);
        request->blocks[i] = NULL;
    }
    (void)pthread_mutex_lock(&scheduler->lock);
    request->next = scheduler->free;
    scheduler->free = request;
    (void)pthread_mutex_unlock(&scheduler->lock);
    scheduler_release(scheduler);
}
KLN_SCOPED_POINTER(kiln_request, request_release)

/* --- checking a request --- */

static kiln_status check_shape(const kiln_binding *binding, const kiln_shape *shape, int32_t axis)
{
    bool fits = binding->shape.rank < 0 || shape->rank == binding->shape.rank;
    for (int32_t d = 0; fits && binding->shape.rank >= 0 && d < shape->rank; d++) {
        fits = binding->shape.dims[d] < 0 || d == axis || binding->shape.dims[d] == shape->dims[d];
    }
    if (fits) {
        return KILN_OK;
    }
    kiln_binding row = *binding;
    if (axis >= 0) {
        row.shape.dims[axis] = KILN_DYNAMIC;
    }
    return kln_fail_within(kln_exec_check_shape(&row, shape), "a request");
}

/* Says what is wrong with a tensor that failed the fast check, which also rejects unusual but valid
 * ones. */
static kiln_status look_closer(const kiln_binding *binding, const kiln_tensor *tensor)
{
    char what[300];
    (void)snprintf(what, sizeof what, "%s \"%.240s\" of a request",
                   binding->is_input ? "input" : "output", binding->name);
    KLN_RETURN_IF_ERROR(kln_tensor_check(what, tensor));
    KLN_RETURN_IF(tensor->desc.dtype != binding->dtype, KILN_ERROR_DTYPE,
                  "%s: %s is needed, %s was given", what, kiln_dtype_name(binding->dtype),
                  kiln_dtype_name(tensor->desc.dtype));
    return KILN_OK;
}

static kiln_status check_tensor(const kiln_binding *binding, const kiln_tensor *tensor,
                                int32_t axis)
{
    if (tensor->desc.dtype != binding->dtype || !kln_tensor_is_sound(tensor)) {
        KLN_RETURN_IF_ERROR(look_closer(binding, tensor));
    }
    KLN_RETURN_IF_ERROR(check_shape(binding, &tensor->desc.shape, axis));
    if (tensor->desc.location == KILN_LOCATION_DEVICE ||
        tensor->desc.format != KILN_FORMAT_LINEAR ||
        !kln_strides_are_dense(&tensor->desc.shape, &tensor->desc.strides)) {
        return kln_fail(KILN_ERROR_UNSUPPORTED,
                        "%s \"%s\" of a request: a dense tensor in memory of the host is needed, "
                        "and this one is %s; a context takes others (kiln_context_bind)",
                        binding->is_input ? "input" : "output", binding->name,
                        tensor->desc.location == KILN_LOCATION_DEVICE ? "in memory of the device"
                                                                      : "not dense");
    }
    return KILN_OK;
}

/* Callers mostly list tensors in the engine's order. */
static kiln_status find(const kiln_binding *bindings, size_t count, const char *name, size_t guess,
                        size_t *index)
{
    for (size_t i = 0; i < count; i++) {
        *index = (guess + i) % count;
        if (strcmp(bindings[*index].name, name) == 0) {
            return KILN_OK;
        }
    }
    return kln_fail(KILN_ERROR_NAME, "a request names \"%s\", and the engine has no such %s", name,
                    count != 0 && bindings[0].is_input ? "input" : "output");
}

static kiln_status take_tensors(const kiln_binding *bindings, size_t binding_count,
                                const kiln_named_tensor *given, size_t count, int32_t axis,
                                kiln_tensor *tensors)
{
    for (size_t i = 0; i < binding_count; i++) {
        tensors[i] = (kiln_tensor){.data = NULL};
    }
    for (size_t i = 0; i < count; i++) {
        size_t index = 0;
        KLN_FAIL_IF(given[i].name == NULL, kln_fail_null("kiln_scheduler_submit", "name"));
        KLN_RETURN_IF_ERROR(find(bindings, binding_count, given[i].name, i, &index));
        KLN_RETURN_IF(tensors[index].desc.dtype != KILN_DTYPE_UNDEFINED, KILN_ERROR_NAME,
                      "a request names \"%s\" twice", given[i].name);
        if (bindings[index].is_input || given[i].tensor.data != NULL) {
            KLN_RETURN_IF_ERROR(check_tensor(&bindings[index], &given[i].tensor, axis));
            tensors[index] = given[i].tensor;
        }
    }
    return KILN_OK;
}

/* All padded inputs have the same length. */
static kiln_status take_length(const schedule_rules *rules, size_t input, kiln_request *request)
{
    const int32_t axis = rules->lengthy[input].axis;
    if (axis < 0) {
        return KILN_OK;
    }
    const int64_t length = request->shapes[input].dims[axis];
    if (length < 1 || (request->length != 0 && length != request->length)) {
        return kln_fail(KILN_ERROR_SHAPE,
                        "input \"%s\" of a request is %lld long in dimension %d; %s",
                        rules->bindings[input].name, (long long)length, axis,
                        length < 1 ? "1 is the least" : "another input of it has another length");
    }
    request->length = length;
    request->shapes[input].dims[axis] = length_rules_fill_up(rules, length);
    return KILN_OK;
}

/* All inputs have the same number of rows; the rest of their shapes is hashed into the likeness. */
static kiln_status look_at_shapes(const schedule_rules *rules, kiln_request *request)
{
    uint64_t likeness = 0;
    request->rows = 1;
    request->length = 0;
    for (size_t i = 0; i < rules->input_count; i++) {
        KLN_RETURN_IF(request->inputs[i].desc.dtype == KILN_DTYPE_UNDEFINED, KILN_ERROR_NOT_BOUND,
                      "a request does not bring input \"%s\"", rules->bindings[i].name);
        request->shapes[i] = request->inputs[i].desc.shape;
        KLN_RETURN_IF_ERROR(take_length(rules, i, request));
        kiln_shape shape = request->shapes[i];
        if (rules->axis >= 0) {
            const int64_t rows = shape.dims[rules->axis];
            KLN_RETURN_IF(i > 0 && rows != request->rows, KILN_ERROR_SHAPE,
                          "a request brings %lld row%s of input \"%s\" and %lld of \"%s\"",
                          (long long)request->rows, KLN_S(request->rows), rules->bindings[0].name,
                          (long long)rows, rules->bindings[i].name);
            request->rows = rows;
            shape.dims[rules->axis] = 0;
        }
        likeness = likeness * 31 +
                   kln_hash_bytes(shape.dims, (size_t)shape.rank * sizeof shape.dims[0]) +
                   (uint64_t)shape.rank;
    }
    request->likeness = likeness;
    if (request->rows < 1 || request->rows > rules->max_rows) {
        return kln_fail(request->rows < 1 ? KILN_ERROR_SHAPE : KILN_ERROR_LIMIT,
                        "a request has %lld rows; 1 to %lld (max_batch) go into a batch",
                        (long long)request->rows, (long long)rules->max_rows);
    }
    return KILN_OK;
}

static kiln_status check_output_rows(const schedule_rules *rules, const kiln_request *request)
{
    for (size_t i = 0; rules->axis >= 0 && i < rules->output_count; i++) {
        const kiln_tensor *output = &request->outputs[i];
        KLN_RETURN_IF(output->data != NULL && output->desc.shape.dims[rules->axis] != request->rows,
                      KILN_ERROR_SHAPE,
                      "output \"%s\" of a request has %lld rows, its inputs have %lld",
                      rules->outputs[i].name, (long long)output->desc.shape.dims[rules->axis],
                      (long long)request->rows);
    }
    return KILN_OK;
}

static kiln_status read_options(const kiln_request_options *options, kiln_request_options *read)
{
    *read = KILN_REQUEST_OPTIONS_INIT;
    KLN_RETURN_IF_ERROR(kln_options_read("kiln_request_options", options, read, sizeof *read));
    KLN_RETURN_IF(read->priority < 0 || read->priority > KILN_MAX_PRIORITY ||
                      (int)read->schedule < 0 || read->schedule > KILN_SCHEDULE_THROUGHPUT,
                  KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_request_options: priority is %d (0 to %d), schedule %d (0 to %d)",
                  read->priority, KILN_MAX_PRIORITY, (int)read->schedule, KILN_SCHEDULE_THROUGHPUT);
    return KILN_OK;
}

static kiln_status fill(kiln_scheduler *scheduler, const kiln_named_tensor *inputs,
                        size_t input_count, const kiln_named_tensor *outputs, size_t output_count,
                        const kiln_request_options *options, kiln_request *request)
{
    const schedule_rules *rules = &scheduler->rules;
    KLN_RETURN_IF_ERROR(read_options(options, &request->options));
    KLN_RETURN_IF_ERROR(take_tensors(rules->bindings, rules->input_count, inputs, input_count,
                                     rules->axis, request->inputs));
    KLN_RETURN_IF_ERROR(take_tensors(rules->outputs, rules->output_count, outputs, output_count,
                                     rules->axis, request->outputs));
    KLN_RETURN_IF_ERROR(look_at_shapes(rules, request));
    return check_output_rows(rules, request);
}

kiln_status request_make(kiln_scheduler *scheduler, const kiln_named_tensor *inputs,
                         size_t input_count, const kiln_named_tensor *outputs, size_t output_count,
                         const kiln_request_options *options, kiln_request **request)
{
    KLN_SCOPED(request_release_at) kiln_request *made = allocate(scheduler);
    *request = NULL;
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "a request");
    (void)atomic_fetch_add(&scheduler->references, 1);
    atomic_store(&made->references, 1);
    atomic_store(&made->state, KILN_REQUEST_WAITING);
    atomic_store(&made->cancelled, false);
    made->rings = false;
    made->place = NOT_IN_HEAP;
    made->ahead_at = NULL;
    made->status = KILN_OK;
    made->sentence[0] = '\0';
    while (sem_trywait(&made->answered) == 0) {
    }
    KLN_RETURN_IF_ERROR(fill(scheduler, inputs, input_count, outputs, output_count, options, made));
    if (made->options.schedule == KILN_SCHEDULE_DEFAULT) {
        made->options.schedule = scheduler->schedule;
    }
    *request = KLN_TAKE(made);
    return KILN_OK;
}

void request_tell(kiln_request *request)
{
    kiln_scheduler *scheduler = request->scheduler;
    const uint64_t one = 1;
    if (request->rings && write(scheduler->event, &one, sizeof one) < 0) {
        kln_log(KILN_LOG_DEBUG, "scheduler", "an event was not written");
    }
    if (request->options.answered != NULL) {
        request->options.answered(request->options.user, request);
    }
    (void)sem_post(&request->answered);
    if (atomic_fetch_sub(&scheduler->untold, 1) == 1 && scheduler->closed) {
        (void)pthread_mutex_lock(&scheduler->lock);
        (void)pthread_cond_broadcast(&scheduler->rest);
        (void)pthread_mutex_unlock(&scheduler->lock);
    }
    request_release(request);
}

/* Waking a thread takes longer than everything else about an answer. */
#define TOLD_TOGETHER 64
#define MANY_SLEEPERS 8

static void tell_one(void *user, size_t index)
{
    kiln_request *const *requests = user;
    request_tell(requests[index]);
}

void request_tell_all(kiln_request *first)
{
    while (first != NULL) {
        kiln_request *requests[TOLD_TOGETHER];
        helper_crew *crew = &first->scheduler->crew;
        size_t count = 0;
        int sleepers = 0;
        bool calls_back = false;
        for (; first != NULL && count < TOLD_TOGETHER; first = first->previous) {
            sleepers += atomic_load(&first->sleepers) != 0;
            calls_back |= first->options.answered != NULL;
            requests[count++] = first;
        }
        if (sleepers >= MANY_SLEEPERS && !calls_back) {
            crew_run(crew, tell_one, requests, count);
        } else {
            for (size_t i = 0; i < count; i++) {
                request_tell(requests[i]);
            }
        }
    }
}

/* --- the public calls --- */

kiln_request_state kiln_request_get_state(const kiln_request *request)
{
    return request != NULL ? (kiln_request_state)atomic_load(&request->state)
                           : KILN_REQUEST_CANCELLED;
}

/* Each thread that wakes up passes the signal on to the next. */
static bool wait_for_answer(kiln_request *request, int64_t milliseconds)
{
    const struct timespec until = kln_timespec(kln_deadline(milliseconds));
    int result = 0;
    (void)atomic_fetch_add(&request->sleepers, 1);
    do {
        result = milliseconds < 0 ? sem_wait(&request->answered)
                                  : sem_clockwait(&request->answered, CLOCK_MONOTONIC, &until);
    } while (result != 0 && errno == EINTR);
    (void)atomic_fetch_sub(&request->sleepers, 1);
    if (result == 0) {
        (void)sem_post(&request->answered);
    }
    return result == 0;
}

kiln_status kiln_request_wait(kiln_request *request, int64_t milliseconds)
{
    KLN_RETURN_IF_NULL(request);
    while (kiln_request_get_state(request) < KILN_REQUEST_DONE) {
        KLN_RETURN_IF_ERROR(kln_forks_check(request->scheduler->forks, __func__, "scheduler"));
        if (!wait_for_answer(request, milliseconds)) {
            return kln_fail(KILN_ERROR_BUSY, "the request is not answered yet; wait for it first");
        }
    }
    return request->status == KILN_OK ? KILN_OK
                                      : kln_fail(request->status, "%s", request->sentence);
}

kiln_status kiln_request_output(const kiln_request *request, const char *name, kiln_tensor *tensor)
{
    KLN_RETURN_IF_NULL(request, name, tensor);
    const schedule_rules *rules = &request->scheduler->rules;
    size_t index = 0;
    KLN_RETURN_IF(kiln_request_get_state(request) != KILN_REQUEST_DONE, KILN_ERROR_STATE,
                  "the request is not done, so that it has no outputs");
    KLN_RETURN_IF_ERROR(find(rules->outputs, rules->output_count, name, 0, &index));
    *tensor = request->outputs[index];
    return KILN_OK;
}

void kiln_request_release(kiln_request *request)
{
    if (request != NULL) {
        request_release(request);
    }
}

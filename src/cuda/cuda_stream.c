/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda_driver.h"

void kln_stream_retain(kiln_stream *stream)
{
    (void)atomic_fetch_add_explicit(&stream->references, 1, memory_order_relaxed);
}

void kln_stream_release(kiln_stream *stream)
{
    if (atomic_fetch_sub_explicit(&stream->references, 1, memory_order_acq_rel) == 1) {
        (void)pthread_mutex_destroy(&stream->guard);
        kln_free(stream);
    }
}
KLN_SCOPED_POINTER(kiln_stream, kln_stream_release)

static kiln_status make_stream(int32_t device, bool owned, kiln_stream **stream)
{
    kiln_stream *made = kln_alloc_zeroed(1, sizeof *made);
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "a stream");
    atomic_init(&made->references, 1);
    atomic_init(&made->finished, false);
    (void)pthread_mutex_init(&made->guard, NULL);
    made->device = device;
    made->owned = owned;
    *stream = made;
    return KILN_OK;
}

static kiln_status priority_range(int32_t device, int *least, int *greatest)
{
    *least = 0;
    *greatest = 0;
    return cuda_check(cuda_functions()->priority_range(least, greatest),
                      "the stream priorities of device %d", device);
}

static kiln_status create_inside(kiln_stream *stream, int32_t priority)
{
    int least = 0;
    int greatest = 0;
    KLN_RETURN_IF_ERROR(priority_range(stream->device, &least, &greatest));
    KLN_RETURN_IF(priority > least || priority < greatest, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_stream_create: priority %d was asked for; device %d has %d (the "
                  "most urgent) to %d",
                  priority, stream->device, greatest, least);
    return cuda_check(
        cuda_functions()->stream_create(&stream->handle, CU_STREAM_NON_BLOCKING, priority),
        "a stream on device %d", stream->device);
}

kiln_status kiln_stream_create(int32_t device, int32_t priority, kiln_stream **stream)
{
    KLN_RETURN_IF_NULL_RESULT(stream);
    KLN_SCOPED(kln_stream_release_at) kiln_stream *made = NULL;
    KLN_CUDA_ENTER(device);
    KLN_RETURN_IF_ERROR(make_stream(device, true, &made));
    KLN_RETURN_IF_ERROR(create_inside(made, priority));
    *stream = KLN_TAKE(made);
    return KILN_OK;
}

kiln_status kln_stream_priority_ahead(int32_t device, int32_t *priority)
{
    int least = 0;
    int greatest = 0;
    KLN_CUDA_ENTER(device);
    KLN_RETURN_IF_ERROR(priority_range(device, &least, &greatest));
    *priority -= *priority > greatest;
    return KILN_OK;
}

kiln_status kln_stream_create_beside(const kiln_stream *other, kiln_stream **stream)
{
    int priority = 0;
    KLN_CUDA_ENTER(other->device);
    if (other->handle != NULL) { /* the default stream has no handle to ask */
        KLN_RETURN_IF_ERROR(cuda_check(cuda_functions()->stream_priority(other->handle, &priority),
                                       "the priority of a stream of device %d", other->device));
    }
    return kiln_stream_create(other->device, priority, stream);
}

static kiln_status check_wrapped(int32_t device, void *handle)
{
    cuda_device *found = NULL;
    void *primary = NULL;
    void *context = NULL;
    KLN_RETURN_IF_ERROR(cuda_find_device(device, &found));
    KLN_RETURN_IF_ERROR(cuda_primary_context(found, &primary));
    KLN_RETURN_IF_ERROR(cuda_check(cuda_functions()->stream_context(handle, &context),
                                   "the context of the stream %p", handle));
    KLN_RETURN_IF(context != primary, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_stream_wrap: the stream %p does not belong to the primary context of "
                  "device %d; make it with the CUDA runtime, or in that context",
                  handle, device);
    return KILN_OK;
}

kiln_status kiln_stream_wrap(int32_t device, void *handle, kiln_stream **stream)
{
    KLN_RETURN_IF_NULL_RESULT(stream);
    KLN_CUDA_ENTER(device);
    KLN_RETURN_IF_ERROR(check_wrapped(device, handle));
    KLN_RETURN_IF_ERROR(make_stream(device, false, stream));
    (*stream)->handle = handle;
    return KILN_OK;
}

void kiln_stream_destroy(kiln_stream *stream)
{
    if (stream == NULL) {
        return;
    }
    KLN_SCOPED(kln_cuda_leave) kln_cuda_scope scope = {.pushed = false};
    if (kln_cuda_enter(stream->device, &scope) != KILN_OK) {
        kln_log(KILN_LOG_WARNING, "cuda", "destroying a stream: %s", kiln_error_message());
    }
    (void)pthread_mutex_lock(&stream->guard);
    if (atomic_load(&stream->references) > 1) {
        /* Once `finished` is set, a pool assumes that nothing uses the memory any more. */
        cuda_log_failure(cuda_functions()->stream_wait(stream->handle), "finishing a stream");
    }
    if (stream->owned) {
        cuda_log_failure(cuda_functions()->stream_destroy(stream->handle), "destroying a stream");
    }
    atomic_store(&stream->finished, true);
    (void)pthread_mutex_unlock(&stream->guard);
    kln_stream_release(stream);
}

void *kiln_stream_handle(const kiln_stream *stream)
{
    return stream != NULL ? stream->handle : NULL;
}

int32_t kiln_stream_device(const kiln_stream *stream)
{
    return stream != NULL ? stream->device : -1;
}

/* --- waiting --- */

kiln_status kln_stream_wait(const kiln_stream *stream)
{
    const int result = cuda_functions()->stream_wait(stream->handle);
    return result == CU_SUCCESS
               ? KILN_OK
               : cuda_check(result, "waiting for a stream of device %d", stream->device);
}

kiln_status kiln_stream_synchronize(kiln_stream *stream)
{
    KLN_RETURN_IF_NULL(stream);
    KLN_CUDA_ENTER(stream->device);
    return kln_stream_wait(stream);
}

kiln_status kiln_stream_query(kiln_stream *stream, bool *done)
{
    KLN_RETURN_IF_NULL(stream, done);
    KLN_CUDA_ENTER(stream->device);
    const int result = cuda_functions()->stream_query(stream->handle);
    *done = result == CU_SUCCESS;
    return cuda_check(result == CU_NOT_READY ? CU_SUCCESS : result, "asking a stream of device %d",
                      stream->device);
}

kiln_status kiln_stream_wait_event(kiln_stream *stream, kiln_event *event)
{
    KLN_RETURN_IF_NULL(stream, event);
    KLN_CUDA_ENTER(stream->device);
    return cuda_check(cuda_functions()->stream_wait_event(stream->handle, event->handle, 0),
                      "a stream of device %d waiting for an event of device %d", stream->device,
                      event->device);
}

kiln_status kiln_stream_call(kiln_stream *stream, void (*function)(void *user), void *user)
{
    KLN_RETURN_IF_NULL(stream);
    KLN_FAIL_IF(function == NULL, kln_fail_null(__func__, "function"));
    KLN_CUDA_ENTER(stream->device);
    return cuda_check(cuda_functions()->stream_call(stream->handle, function, user),
                      "enqueuing a host function on a stream of device %d", stream->device);
}

/* --- events --- */

kiln_status kiln_event_create(int32_t device, bool timed, kiln_event **event)
{
    KLN_RETURN_IF_NULL_RESULT(event);
    KLN_CUDA_ENTER(device);
    void *handle = NULL;
    kiln_event *made = NULL;
    KLN_RETURN_IF_ERROR(
        cuda_check(cuda_functions()->event_create(&handle, timed ? 0 : CU_EVENT_DISABLE_TIMING),
                   "an event on device %d", device));
    made = kln_alloc_zeroed(1, sizeof *made);
    if (made == NULL) {
        cuda_log_failure(cuda_functions()->event_destroy(handle), "destroying an event");
        return kln_fail_memory(sizeof *made, "an event");
    }
    *made = (kiln_event){.device = device, .timed = timed, .handle = handle};
    *event = made;
    return KILN_OK;
}

void kiln_event_destroy(kiln_event *event)
{
    if (event != NULL) {
        cuda_drop(event->device, cuda_functions()->event_destroy, event->handle,
                  "destroying an event");
        kln_free(event);
    }
}

kiln_status kiln_event_record(kiln_event *event, kiln_stream *stream)
{
    KLN_RETURN_IF_NULL(event, stream);
    KLN_RETURN_IF(event->device != stream->device, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_event_record: the event is of device %d and the stream of device %d",
                  event->device, stream->device);
    KLN_CUDA_ENTER(event->device);
    const kiln_status status =
        cuda_check(cuda_functions()->event_record(event->handle, stream->handle),
                   "recording an event on device %d", event->device);
    event->recorded = event->recorded || status == KILN_OK;
    return status;
}

kiln_status kiln_event_synchronize(kiln_event *event)
{
    KLN_RETURN_IF_NULL(event);
    return cuda_check(cuda_functions()->event_wait(event->handle),
                      "waiting for an event of device %d", event->device);
}

kiln_status kiln_event_query(kiln_event *event, bool *done)
{
    KLN_RETURN_IF_NULL(event, done);
    const int result = cuda_functions()->event_query(event->handle);
    *done = result == CU_SUCCESS;
    return cuda_check(result == CU_NOT_READY ? CU_SUCCESS : result, "asking an event of device %d",
                      event->device);
}

kiln_status kiln_event_elapsed(kiln_event *begin, kiln_event *end, double *milliseconds)
{
    KLN_RETURN_IF_NULL(begin, end, milliseconds);
    if (!begin->timed || !end->timed || !begin->recorded || !end->recorded) {
        const bool first = !begin->timed || !begin->recorded;
        return kln_fail(
            KILN_ERROR_STATE, "kiln_event_elapsed: the %s event %s", first ? "first" : "second",
            (first ? begin : end)->timed ? "was never recorded" : "was made without timing");
    }
    float found = 0.0F;
    KLN_RETURN_IF_ERROR(cuda_check(cuda_functions()->event_wait(end->handle),
                                   "waiting for an event of device %d", end->device));
    KLN_RETURN_IF_ERROR(
        cuda_check(cuda_functions()->event_elapsed(&found, begin->handle, end->handle),
                   "the time between two events of device %d", end->device));
    *milliseconds = (double)found;
    return KILN_OK;
}

/* --- for the pool: memory that moves from one stream to another --- */

static kiln_status order_inside(kiln_stream *earlier, kiln_stream *later)
{
    const cuda_table *cuda = cuda_functions();
    void *event = NULL;
    KLN_RETURN_IF_ERROR(cuda_check(cuda->event_create(&event, CU_EVENT_DISABLE_TIMING),
                                   "an event on device %d", earlier->device));
    int result = cuda->event_record(event, earlier->handle);
    if (result == CU_SUCCESS) {
        result = cuda->stream_wait_event(later->handle, event, 0);
    }
    const kiln_status status =
        cuda_check(result, "ordering two streams of device %d", earlier->device);
    /* The driver keeps a destroyed event until nothing waits for it. */
    cuda_log_failure(cuda->event_destroy(event), "destroying an event");
    return status;
}

kiln_status kln_stream_order(kiln_stream *earlier, kiln_stream *later)
{
    if (earlier == later || atomic_load(&earlier->finished)) {
        return KILN_OK;
    }
    KLN_CUDA_ENTER(earlier->device);
    kiln_status status = KILN_OK;
    (void)pthread_mutex_lock(&earlier->guard);
    if (!atomic_load(&earlier->finished)) {
        status = later != NULL ? order_inside(earlier, later) : kiln_stream_synchronize(earlier);
    }
    (void)pthread_mutex_unlock(&earlier->guard);
    return status;
}

kiln_status kln_stream_is_idle(kiln_stream *stream, bool *idle)
{
    *idle = true;
    KLN_LOCKED(&stream->guard);
    if (!atomic_load(&stream->finished)) {
        KLN_RETURN_IF_ERROR(kiln_stream_query(stream, idle));
    }
    return KILN_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <string.h>

#include "context_parts.h"

/* Watches over the runs of one context that has a limit of time. */
struct context_watch {
    kiln_context *context;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t deadline; /* of the run under way, as kln_now counts; 0: none is */
    bool ends;
};

static void stop_run(kiln_context *context, kiln_status reason)
{
    int expected = CONTEXT_RUN_UNDER_WAY;
    if (atomic_compare_exchange_strong(&context->run_state, &expected, CONTEXT_RUN_STOPPING)) {
        context->stop_reason = reason;
        if (context->engine->backend->stop != NULL) {
            context->engine->backend->stop(context->state, true);
        }
        atomic_store(&context->run_state, CONTEXT_RUN_STOPPED);
    }
}

/* --- the watch --- */

static struct timespec time_of(uint64_t nanoseconds)
{
    return (struct timespec){.tv_sec = (time_t)(nanoseconds / 1000000000),
                             .tv_nsec = (long)(nanoseconds % 1000000000)};
}

static void *watch(void *user)
{
    context_watch *self = user;
    (void)pthread_mutex_lock(&self->lock);
    while (!self->ends) {
        if (self->deadline == 0) {
            (void)pthread_cond_wait(&self->changed, &self->lock);
        } else if (kln_now() >= self->deadline) {
            self->deadline = 0;
            stop_run(self->context, KILN_ERROR_TIMEOUT);
        } else {
            const struct timespec until = time_of(self->deadline);
            (void)pthread_cond_timedwait(&self->changed, &self->lock, &until);
        }
    }
    (void)pthread_mutex_unlock(&self->lock);
    return NULL;
}

static kiln_status make_watch(kiln_context *context)
{
    context_watch *self = kln_alloc_zeroed(1, sizeof *self);
    if (self == NULL) {
        return kln_fail_memory(sizeof *self, "a context's watch");
    }
    pthread_condattr_t attributes;
    self->context = context;
    (void)pthread_mutex_init(&self->lock, NULL);
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&self->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    const int error = kln_thread_start(&self->thread, watch, self);
    if (error != 0) {
        (void)pthread_cond_destroy(&self->changed);
        (void)pthread_mutex_destroy(&self->lock);
        kln_free(self);
        return kln_fail(KILN_ERROR_OUT_OF_MEMORY,
                        "a thread that watches over the time of runs cannot be made: %s",
                        strerror(error));
    }
    context->watch = self;
    return KILN_OK;
}

static void set_deadline(context_watch *self, uint64_t deadline)
{
    (void)pthread_mutex_lock(&self->lock);
    self->deadline = deadline;
    if (deadline != 0) {
        (void)pthread_cond_signal(&self->changed);
    }
    (void)pthread_mutex_unlock(&self->lock);
}

/* --- what a context is made with --- */

/* The two parts of a sentence that speak of it. */
#define ON_A_GPU(context)                      \
    (context)->gpu != NULL ? " on a GPU" : "", \
        (context)->gpu != NULL ? ", but its wait can: set stop_waiting" : ""

kiln_status context_stop_create(kiln_context *context, const kiln_context_options *options)
{
    const kln_backend *backend = context->engine->backend;
    atomic_init(&context->run_state, CONTEXT_RUN_NONE);
    context->run_milliseconds = options->run_milliseconds;
    context->may_stop = context->gpu != NULL ? options->stop_waiting : backend->stop != NULL;
    if (context->gpu != NULL) {
        context->gpu->leaves = options->stop_waiting;
    }
    if (options->run_memory_bytes != 0 && !backend->takes_run_memory) {
        return kln_fail(KILN_ERROR_UNSUPPORTED,
                        "kiln_context_options: run_memory_bytes is set, and the %s backend does "
                        "not count what a run takes; the reference backend does",
                        backend->name);
    }
    if (options->run_milliseconds == 0) {
        return KILN_OK;
    }
    if (!context->may_stop) {
        return kln_fail(KILN_ERROR_UNSUPPORTED,
                        "kiln_context_options: run_milliseconds is set, and a run of the %s "
                        "backend%s cannot be stopped%s",
                        backend->name, ON_A_GPU(context));
    }
    return make_watch(context);
}

void context_stop_destroy(kiln_context *context)
{
    context_watch *self = context->watch;
    if (self == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&self->lock);
    self->ends = true;
    (void)pthread_cond_signal(&self->changed);
    (void)pthread_mutex_unlock(&self->lock);
    (void)pthread_join(self->thread, NULL);
    (void)pthread_cond_destroy(&self->changed);
    (void)pthread_mutex_destroy(&self->lock);
    kln_free(self);
    context->watch = NULL;
}

/* --- around a run --- */

void context_run_begins(kiln_context *context)
{
    if (context->may_stop) {
        atomic_store(&context->run_state, CONTEXT_RUN_UNDER_WAY);
    }
    if (context->watch != NULL) {
        const uint64_t most = (UINT64_MAX - kln_now()) / 2000000;
        const uint64_t allowed =
            context->run_milliseconds < most ? context->run_milliseconds : most;
        set_deadline(context->watch, kln_now() + allowed * 1000000);
    }
}

kiln_status context_run_ends(kiln_context *context, kiln_status status)
{
    int expected = CONTEXT_RUN_UNDER_WAY;
    if (!context->may_stop) {
        return status;
    }
    if (context->watch != NULL) {
        set_deadline(context->watch, 0);
    }
    if (atomic_compare_exchange_strong(&context->run_state, &expected, CONTEXT_RUN_NONE)) {
        return status;
    }
    while (atomic_load(&context->run_state) != CONTEXT_RUN_STOPPED) {
        (void)sched_yield();
    }
    if (context->engine->backend->stop != NULL) {
        context->engine->backend->stop(context->state, false);
    }
    const kiln_status reason = context->stop_reason;
    atomic_store(&context->run_state, CONTEXT_RUN_NONE);
    if (status == KILN_OK) {
        return status; /* it was done before it heard */
    }
    const char *rest = context->gpu != NULL && context->gpu->left
                           ? "; what the GPU was given runs on, and kiln_context_wait waits for it"
                           : "";
    return reason == KILN_ERROR_TIMEOUT
               ? kln_fail(reason, "the run was stopped after the %llu ms that it may take%s",
                          (unsigned long long)context->run_milliseconds, rest)
               : kln_fail(reason, "the run was cancelled%s", rest);
}

kiln_status kiln_context_cancel(kiln_context *context)
{
    KLN_RETURN_IF_NULL(context);
    if (!context->may_stop) {
        return kln_fail(KILN_ERROR_UNSUPPORTED,
                        "kiln_context_cancel: a run of the %s backend%s cannot be stopped%s",
                        context->engine->info.name, ON_A_GPU(context));
    }
    stop_run(context, KILN_ERROR_CANCELLED);
    return KILN_OK;
}

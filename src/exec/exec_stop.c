/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>

#include "exec_parts.h"

/* Watches the runs of one context that has a time limit. */
struct exec_watch {
    kln_exec *exec;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t deadline; /* of the run in flight, on kln_now's clock; 0 if none is */
    bool ends;
};

static void stop_run(kln_exec *exec, kiln_status reason)
{
    int expected = EXEC_RUN_UNDER_WAY;
    if (atomic_compare_exchange_strong(&exec->run_state, &expected, EXEC_RUN_STOPPING)) {
        exec->stop_reason = reason;
        if (exec->shared->backend->context.stop != NULL) {
            exec->shared->backend->context.stop(exec->state, true);
        }
        atomic_store(&exec->run_state, EXEC_RUN_STOPPED);
    }
}

/* --- the watch --- */

static void *watch(void *user)
{
    exec_watch *self = user;
    KLN_LOCKED(&self->lock);
    while (!self->ends) {
        if (self->deadline == 0) {
            (void)pthread_cond_wait(&self->changed, &self->lock);
        } else if (kln_now() >= self->deadline) {
            self->deadline = 0;
            stop_run(self->exec, KILN_ERROR_TIMEOUT);
        } else {
            const struct timespec until = kln_timespec(self->deadline);
            (void)pthread_cond_timedwait(&self->changed, &self->lock, &until);
        }
    }
    return NULL;
}

static kiln_status make_watch(kln_exec *exec)
{
    exec_watch *self = kln_alloc_zeroed(1, sizeof *self);
    KLN_RETURN_IF_NO_MEMORY(self, sizeof *self, "a context's watch");
    self->exec = exec;
    (void)pthread_mutex_init(&self->lock, NULL);
    kln_condition_init(&self->changed);
    const int error = kln_thread_start(&self->thread, watch, self);
    if (error != 0) {
        (void)pthread_cond_destroy(&self->changed);
        (void)pthread_mutex_destroy(&self->lock);
        kln_free(self);
        return kln_fail(KILN_ERROR_OUT_OF_MEMORY,
                        "a thread that watches over the time of runs cannot be made: %s",
                        strerror(error));
    }
    exec->watch = self;
    return KILN_OK;
}

static void set_deadline(exec_watch *self, uint64_t deadline)
{
    KLN_LOCKED(&self->lock);
    self->deadline = deadline;
    if (deadline != 0) {
        (void)pthread_cond_signal(&self->changed);
    }
}

/* --- options of a context --- */

/* The two parts of the error messages that depend on whether the context is on a GPU. */
#define ON_A_GPU(exec)                      \
    (exec)->gpu != NULL ? " on a GPU" : "", \
        (exec)->gpu != NULL ? ", but its wait can: set stop_waiting" : ""

kiln_status exec_stop_create(kln_exec *exec, const kiln_context_options *options)
{
    const kiln_backend *backend = exec->shared->backend;
    atomic_init(&exec->run_state, EXEC_RUN_NONE);
    exec->run_milliseconds = options->run_milliseconds;
    exec->may_stop = exec->gpu != NULL ? options->stop_waiting : backend->context.stop != NULL;
    if (exec->gpu != NULL) {
        exec->gpu->leaves = options->stop_waiting;
    }
    KLN_RETURN_IF(options->run_memory_bytes != 0 && !backend->takes_run_memory,
                  KILN_ERROR_UNSUPPORTED,
                  "kiln_context_options: run_memory_bytes is set, and the %s backend does "
                  "not count what a run takes; the reference backend does",
                  backend->name);
    if (options->run_milliseconds == 0) {
        return KILN_OK;
    }
    KLN_RETURN_IF(!exec->may_stop, KILN_ERROR_UNSUPPORTED,
                  "kiln_context_options: run_milliseconds is set, and a run of the %s "
                  "backend%s cannot be stopped%s",
                  backend->name, ON_A_GPU(exec));
    return make_watch(exec);
}

void exec_stop_destroy(kln_exec *exec)
{
    exec_watch *self = exec->watch;
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
    exec->watch = NULL;
}

/* --- around a run --- */

void exec_run_begins(kln_exec *exec)
{
    if (exec->may_stop) {
        atomic_store(&exec->run_state, EXEC_RUN_UNDER_WAY);
    }
    if (exec->watch != NULL) {
        set_deadline(exec->watch, kln_deadline((int64_t)exec->run_milliseconds));
    }
}

kiln_status exec_run_ends(kln_exec *exec, kiln_status status)
{
    int expected = EXEC_RUN_UNDER_WAY;
    if (!exec->may_stop) {
        return status;
    }
    if (exec->watch != NULL) {
        set_deadline(exec->watch, 0);
    }
    if (atomic_compare_exchange_strong(&exec->run_state, &expected, EXEC_RUN_NONE)) {
        return status;
    }
    while (atomic_load(&exec->run_state) != EXEC_RUN_STOPPED) {
        (void)sched_yield();
    }
    if (exec->shared->backend->context.stop != NULL) {
        exec->shared->backend->context.stop(exec->state, false);
    }
    const kiln_status reason = exec->stop_reason;
    atomic_store(&exec->run_state, EXEC_RUN_NONE);
    if (status == KILN_OK) {
        return status; /* it finished before it was stopped */
    }
    const char *rest = exec->gpu != NULL && exec->gpu->left
                           ? "; what the GPU was given runs on, and kiln_context_wait waits for it"
                           : "";
    return reason == KILN_ERROR_TIMEOUT
               ? kln_fail(reason, "the run was stopped after the %llu ms that it may take%s",
                          (unsigned long long)exec->run_milliseconds, rest)
               : kln_fail(reason, "the run was cancelled%s", rest);
}

kiln_status kln_exec_cancel(kln_exec *exec)
{
    KLN_RETURN_IF(!exec->may_stop, KILN_ERROR_UNSUPPORTED,
                  "kiln_context_cancel: a run of the %s backend%s cannot be stopped%s",
                  exec->shared->info.name, ON_A_GPU(exec));
    stop_run(exec, KILN_ERROR_CANCELLED);
    return KILN_OK;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A background build, whose engine takes over when it is done. */
#include "scheduler_parts.h"

static kiln_status take_over(kiln_scheduler *scheduler, kiln_engine *engine)
{
    kiln_status status = KILN_ERROR_BUSY;
    while ((status = kiln_scheduler_replace(scheduler, &engine, 1)) == KILN_ERROR_BUSY) {
        (void)pthread_mutex_lock(&scheduler->lock);
        while (scheduler->replacing) {
            (void)pthread_cond_wait(&scheduler->rest, &scheduler->lock);
        }
        (void)pthread_mutex_unlock(&scheduler->lock);
    }
    return status;
}

static void *follow(void *user)
{
    kiln_scheduler *scheduler = user;
    build_follower *self = &scheduler->follower;
    kiln_engine *engine = NULL;
    kiln_status status = kiln_build_wait(self->build, UINT64_MAX, &engine);
    KLN_THEN(status, take_over(scheduler, engine));
    kiln_engine_release(engine);
    if (status != KILN_OK) {
        kln_log(KILN_LOG_WARNING, "scheduler", "the engines in use stay: %s", kiln_error_message());
    }
    if (self->replaced != NULL) {
        self->replaced(self->user, status, status != KILN_OK ? kiln_error_message() : "");
    }
    KLN_LOCKED(&scheduler->lock);
    self->done = true;
    return NULL;
}

void scheduler_follow_end(kiln_scheduler *scheduler)
{
    build_follower *self = &scheduler->follower;
    if (self->build != NULL) {
        kiln_build_cancel(self->build);
        (void)pthread_join(self->thread, NULL);
        kiln_build_destroy(self->build);
        self->build = NULL;
    }
}

static kiln_status begin(kiln_scheduler *scheduler)
{
    build_follower *self = &scheduler->follower;
    (void)pthread_mutex_lock(&scheduler->lock);
    const bool busy = self->claimed || (self->build != NULL && !self->done);
    const bool closed = scheduler->closed;
    self->claimed = self->claimed || (!busy && !closed);
    (void)pthread_mutex_unlock(&scheduler->lock);
    if (busy) {
        return kln_fail(KILN_ERROR_BUSY,
                        "kiln_scheduler_replace_built: another build is waited "
                        "for; one at a time takes over");
    }
    return closed ? kln_fail(KILN_ERROR_STATE,
                             "kiln_scheduler_replace_built: the scheduler was "
                             "told to drain or to stop")
                  : KILN_OK;
}

kiln_status kiln_scheduler_replace_built(kiln_scheduler *scheduler, kiln_build *build,
                                         kiln_replaced_function replaced, void *user)
{
    KLN_RETURN_IF_NULL(scheduler);
    KLN_RETURN_IF_ERROR(kln_forks_check(scheduler->forks, __func__, "scheduler"));
    KLN_RETURN_IF_NULL(build);
    KLN_RETURN_IF_ERROR(begin(scheduler));
    build_follower *self = &scheduler->follower;
    scheduler_follow_end(scheduler);
    self->build = build;
    self->replaced = replaced;
    self->user = user;
    self->done = false;
    const int error = kln_thread_start(&self->thread, follow, scheduler);
    if (error != 0) {
        self->build = NULL; /* the caller keeps it */
    }
    (void)pthread_mutex_lock(&scheduler->lock);
    self->claimed = false;
    (void)pthread_mutex_unlock(&scheduler->lock);
    return error == 0
               ? KILN_OK
               : kln_fail(KILN_ERROR_OUT_OF_MEMORY,
                          "a thread that waits for a build cannot be made: %s", strerror(error));
}

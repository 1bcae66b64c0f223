/* SPDX-License-Identifier: Apache-2.0 */
#include <time.h>

#include "exec_parts.h"

/* So often the end of a run that may be left is asked for without a pause, for about a millisecond;
 * a pause makes its end known so much later at most. */
#define ASKED_AT_ONCE 1000
#define PAUSE_NANOSECONDS 50000

kiln_status exec_order(kiln_event *event, kiln_stream *earlier, kiln_stream *later)
{
    KLN_RETURN_IF_ERROR(kiln_event_record(event, earlier));
    return kiln_stream_wait_event(later, event);
}

void exec_begin_under_way(kln_exec *exec, bool waits)
{
    exec->gpu->is_under_way = true;
    exec->gpu->is_waited_for = waits;
    if (!waits) {
        (void)atomic_fetch_add(&exec->shared->under_way, 1);
    }
}

void exec_end_under_way(kln_exec *exec)
{
    exec_gpu *gpu = exec->gpu;
    if (gpu->is_under_way && !gpu->is_waited_for) {
        (void)atomic_fetch_sub(&exec->shared->under_way, 1);
    }
    gpu->is_under_way = false;
}

kiln_status exec_finish(kln_exec *exec)
{
    exec_gpu *gpu = exec->gpu;
    const kiln_status status = gpu->has_event   ? kiln_event_synchronize(gpu->after)
                               : gpu->has_fence ? kln_fence_wait(&gpu->fence, gpu->target)
                                                : kln_stream_wait(gpu->target);
    exec_end_under_way(exec);
    if (status != KILN_OK) {
        exec->has_results = false;
        return status;
    }
    if (gpu->shown->stages) {
        transfers_copy_out(exec, gpu->shown, gpu->is_waited_for);
    }
    return KILN_OK;
}

/* The driver's own wait hears nobody who says that it shall stop. */
kiln_status exec_finish_or_leave(kln_exec *exec)
{
    exec_gpu *gpu = exec->gpu;
    const struct timespec pause = {.tv_nsec = PAUSE_NANOSECONDS};
    bool done = false;
    for (unsigned asked = 0;; asked += asked < ASKED_AT_ONCE) {
        if (kiln_event_query(gpu->after, &done) != KILN_OK || done) {
            return exec_finish(exec);
        }
        if (exec_is_stopped(exec)) {
            gpu->left = true;
            exec->has_results = false;
            return kln_fail(KILN_ERROR_CANCELLED, "the run was left");
        }
        if (asked >= ASKED_AT_ONCE) {
            (void)nanosleep(&pause, NULL);
        }
    }
}

static kiln_status end_left(kln_exec *exec, bool waited)
{
    bool done = waited;
    const kiln_status status = waited ? kiln_event_synchronize(exec->gpu->after)
                                      : kiln_event_query(exec->gpu->after, &done);
    KLN_RETURN_IF(status == KILN_OK && !done, KILN_ERROR_STATE,
                  "a run that was stopped is still under way on the GPU; what is bound must "
                  "stay until kiln_context_wait has waited for its end");
    exec_end_under_way(exec);
    exec->gpu->left = false;
    return status;
}

/* It was counted as one that worked when it was enqueued. */
static void take_back(kln_exec *exec)
{
    exec_end_under_way(exec);
    exec->has_results = false;
    exec->runs--;
    exec->failed_runs++;
    exec->gpu->hits -= exec->gpu->replayed;
}

kiln_status kln_exec_wait(kln_exec *exec, bool also_left)
{
    exec_gpu *gpu = exec->gpu;
    kln_cuda_scope scope;
    if (gpu == NULL || !gpu->is_under_way) {
        return KILN_OK;
    }
    const bool was_left = gpu->left;
    kiln_status status = kln_cuda_enter(gpu->device, &scope);
    if (status == KILN_OK) {
        status = was_left ? end_left(exec, also_left) : exec_finish(exec);
        kln_cuda_leave(&scope);
    }
    if (status != KILN_OK && !was_left) {
        take_back(exec);
    }
    return status;
}

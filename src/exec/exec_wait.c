/* SPDX-License-Identifier: Apache-2.0 */
#include "exec_parts.h"

/* A wait that can be stopped polls this many times without a pause, about a millisecond. After that
 * it sleeps between polls, which delays noticing the end by at most one pause. */
#define ASKED_AT_ONCE 1000
#define PAUSE_NANOSECONDS 50000

/* From this length on, the thread sleeps through a run, up to an eighth of the run plus
 * AWAKE_NANOSECONDS before the expected end: a thread wakes up 50 to 60 us late, and its processor
 * needs some more time to be back at full speed. */
#define LONG_NANOSECONDS UINT64_C(1200000)
#define AWAKE_NANOSECONDS UINT64_C(300000)
#define TIMED_EVERY 64

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

/* --- sleeping instead of polling --- */

bool run_pace_times(run_pace *pace)
{
    const bool times = pace->shortest == 0 || pace->shortest >= LONG_NANOSECONDS / 2 ||
                       pace->untimed >= TIMED_EVERY;
    pace->untimed = times ? 0 : pace->untimed + 1;
    return times;
}

uint64_t run_pace_sleep(const run_pace *pace)
{
    return pace->shortest >= LONG_NANOSECONDS
               ? pace->shortest - pace->shortest / 8 - AWAKE_NANOSECONDS
               : 0;
}

void run_pace_note(run_pace *pace, uint64_t took, bool overslept)
{
    if (overslept) {
        pace->shortest /= 2;
    } else if (pace->shortest == 0 || took < pace->shortest) {
        pace->shortest = took;
    } else {
        pace->shortest += (took - pace->shortest) / 16;
    }
}

static bool is_over(const exec_gpu *gpu)
{
    bool done = false;
    return gpu->has_event   ? kiln_event_query(gpu->after, &done) == KILN_OK && done
           : gpu->has_fence ? kln_fence_is_passed(&gpu->fence)
                            : kiln_stream_query(gpu->target, &done) == KILN_OK && done;
}

/* Sleeps through the part of the run that is expected to remain; returns true if the run was over
 * when it woke up. */
static bool sleep_through(const exec_gpu *gpu)
{
    const uint64_t nap = gpu->begun != 0 ? run_pace_sleep(&gpu->shown->pace) : 0;
    const uint64_t gone = nap != 0 ? kln_now() - gpu->begun : 0;
    if (nap <= gone) {
        return false;
    }
    const struct timespec rest = kln_timespec(nap - gone);
    (void)nanosleep(&rest, NULL);
    return is_over(gpu);
}

kiln_status exec_finish(kln_exec *exec)
{
    exec_gpu *gpu = exec->gpu;
    const bool overslept = sleep_through(gpu);
    const kiln_status status = gpu->has_event   ? kiln_event_synchronize(gpu->after)
                               : gpu->has_fence ? kln_fence_wait(&gpu->fence, gpu->target)
                                                : kln_stream_wait(gpu->target);
    exec_end_under_way(exec);
    if (status != KILN_OK) {
        exec->has_results = false;
        return status;
    }
    if (gpu->begun != 0) {
        run_pace_note(&gpu->shown->pace, kln_now() - gpu->begun, overslept);
    }
    if (gpu->shown->stages) {
        transfers_copy_out(exec, gpu->shown, gpu->is_waited_for);
    }
    return KILN_OK;
}

/* The driver's own wait cannot be interrupted. */
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

/* Enqueuing it counted it as a successful run. */
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

/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler_parts.h"

void scheduler_release(kiln_scheduler *scheduler)
{
    if (atomic_fetch_sub(&scheduler->references, 1) != 1) {
        return;
    }
    while (scheduler->free != NULL) {
        kiln_request *request = scheduler->free;
        scheduler->free = request->next;
        (void)sem_destroy(&request->answered);
        kln_free(request);
    }
    for (size_t i = 0; i < FIGURES; i++) {
        kiln_histogram_destroy(scheduler->figures[i]);
    }
    block_list_finish(&scheduler->blocks);
    request_queue_finish(&scheduler->queue);
    kln_arena_finish(&scheduler->rules.arena);
    (void)pthread_cond_destroy(&scheduler->work);
    (void)pthread_cond_destroy(&scheduler->timer);
    (void)pthread_cond_destroy(&scheduler->rest);
    (void)pthread_mutex_destroy(&scheduler->lock);
    kln_free(scheduler);
}

uint64_t scheduler_now(const kiln_scheduler *scheduler)
{
    return scheduler->clock != NULL ? scheduler->clock->now(scheduler->clock->user) : kln_now();
}

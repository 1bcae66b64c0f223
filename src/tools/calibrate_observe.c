/* SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>

#include "calibrate_parts.h"

kiln_status kln_calibration_start(kln_calibration *of)
{
    of->thread_count = kln_calibration_threads(of);
    of->scratches = kln_arena_alloc_zeroed(&of->arena, of->thread_count, sizeof(void *));
    for (size_t i = 0; of->scratches != NULL && i < of->thread_count; i++) {
        of->scratches[i] = kln_observer_scratch_create();
        KLN_RETURN_IF_NO_MEMORY(of->scratches[i], 1, "a histogram");
    }
    return of->scratches != NULL ? KILN_OK : kln_fail_memory(1, "threads that count");
}

void kln_calibration_stop(kln_calibration *of)
{
    for (size_t i = 0; of->scratches != NULL && i < of->thread_count; i++) {
        kln_free(of->scratches[i]);
    }
}

typedef struct work {
    kln_observed *observed;
    const kiln_tensor *tensors;
    size_t count;
    atomic_size_t next;
} work;

typedef struct worker {
    work *shared;
    kln_observer_scratch *scratch;
    pthread_t thread;
    bool runs;
    kiln_status status;
    kln_message message;
} worker;

kiln_status kln_calibration_count(kln_observed *observed, const kiln_tensor *tensor,
                                  kln_observer_scratch *scratch)
{
    KLN_RETURN_IF_ERROR(kln_observer_add(&observed->observer, tensor, scratch));
    if (observed->channels != NULL) {
        kln_channels_add(observed->channels, observed->channel_count, observed->channels_are_last,
                         tensor);
    }
    for (kln_products *p = observed->products; p != NULL; p = p->next) {
        kln_products_add(p, tensor);
    }
    return KILN_OK;
}

/* Each tensor is observed by a single thread. */
static void *count_some(void *user)
{
    worker *self = user;
    work *shared = self->shared;
    while (self->status == KILN_OK) {
        const size_t i = atomic_fetch_add(&shared->next, 1);
        if (i >= shared->count) {
            break;
        }
        self->status =
            kln_calibration_count(&shared->observed[i], &shared->tensors[i], self->scratch);
        if (self->status != KILN_OK) {
            self->status = kln_fail_within(self->status, "tensor \"%s\"", shared->observed[i].name);
            kln_message_keep(&self->message);
        }
    }
    return NULL;
}

kiln_status kln_calibration_observe(kln_calibration *of, size_t first, const kiln_tensor *tensors,
                                    size_t count)
{
    work shared = {.observed = of->observed + first, .tensors = tensors, .count = count};
    const size_t threads = count < of->thread_count ? count : of->thread_count;
    KLN_SCOPED_FREE worker *workers = kln_alloc_zeroed(threads + 1, sizeof *workers);
    KLN_RETURN_IF_NO_MEMORY(workers, threads * sizeof *workers, "threads that count");
    /* If a thread cannot be started, the others do its share. */
    for (size_t i = 0; i < threads; i++) {
        workers[i] = (worker){.shared = &shared, .scratch = of->scratches[i]};
        workers[i].runs =
            i > 0 && kln_thread_start(&workers[i].thread, count_some, &workers[i]) == 0;
    }
    if (threads > 0) {
        (void)count_some(&workers[0]);
    }
    kiln_status status = KILN_OK;
    for (size_t i = 0; i < threads; i++) {
        if (workers[i].runs) {
            (void)pthread_join(workers[i].thread, NULL);
        }
        if (status == KILN_OK && workers[i].status != KILN_OK) {
            status = workers[i].status;
            kln_message_restore(&workers[i].message);
        }
    }
    return status;
}

kiln_status kln_calibration_tell(kln_calibration *of)
{
    of->batches++;
    const kiln_calibrate_progress progress = {.batches = of->batches,
                                              .most = of->options.batches,
                                              .tensors = of->count,
                                              .parts = of->part_count,
                                              .nanoseconds = kln_now() - of->begin};
    KLN_RETURN_IF(
        of->options.progress != NULL && !of->options.progress(of->options.user, &progress),
        KILN_ERROR_CANCELLED, "the calibration was cancelled after %llu batches",
        (unsigned long long)of->batches);
    return KILN_OK;
}

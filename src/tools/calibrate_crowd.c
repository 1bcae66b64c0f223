/* SPDX-License-Identifier: Apache-2.0 */
/* Batches that run concurrently on the CPU, a thread each.
 *
 * ONNX Runtime's intra-op threads synchronize at every operator; batches need not. Tensors are
 * observed while the network runs (kln_watch), so none is kept. Each tensor is observed in the
 * order of the batches, so that results do not depend on which is faster: each run follows the
 * previous one through the graph. */
#include "calibrate_parts.h"

#define ALIGNMENT ((size_t)64)

struct kln_runner {
    kln_calibration *of;
    kln_observer_scratch *scratch;
    pthread_t thread;
    bool has_thread;
    bool is_busy; /* under the crowd's lock */
    kiln_context *context;
    kiln_named_tensor *bound; /* inputs copied to `memory`, and the run's number */
    size_t bound_count;
    unsigned char *memory;
    size_t room;
    int64_t run;
    uint64_t source; /* number of the source's batch that it is from */
    kiln_status status;
    kln_message message;
};

/* --- observing --- */

/* Waits for the run's turn with the tensor; false if an earlier run has failed. */
static bool wait_for_turn(kln_calibration *of, const kln_observed *observed, int64_t run)
{
    KLN_LOCKED(&of->crowd.lock);
    while (observed->next_run != run && run <= of->crowd.last) {
        (void)pthread_cond_wait(&of->crowd.changed, &of->crowd.lock);
    }
    return observed->next_run == run && run <= of->crowd.last;
}

/* Cancels the runs after this one. */
static void end_after(kln_calibration *of, int64_t run)
{
    of->crowd.last = run < of->crowd.last ? run : of->crowd.last;
    (void)pthread_cond_broadcast(&of->crowd.changed);
}

/* kln_watch.see */
static kiln_status see(void *user, size_t index, int64_t run, const kiln_tensor *tensor)
{
    kln_calibration *of = user;
    kln_observed *observed = &of->observed[of->input_count + index];
    const kln_runner *self = &of->crowd.runners[(size_t)run % of->crowd.count];
    KLN_RETURN_IF(!wait_for_turn(of, observed, run), KILN_ERROR_CANCELLED,
                  "the calibration ended before");
    const kiln_status status = kln_calibration_count(observed, tensor, self->scratch);
    KLN_LOCKED(&of->crowd.lock);
    observed->next_run = run + 1;
    (void)pthread_cond_broadcast(&of->crowd.changed);
    return status;
}

/* --- running --- */

static kiln_status run_one(kln_runner *self)
{
    const kiln_engine *engine = self->of->engines[0];
    if (self->context == NULL) {
        KLN_RETURN_IF_ERROR(kiln_context_create(self->of->engines[0], NULL, &self->context));
    }
    for (size_t i = 0; i < self->bound_count; i++) {
        if (kln_names_get(&engine->inputs, self->bound[i].name) != KLN_NAMES_NONE) {
            KLN_RETURN_IF_ERROR(
                kiln_context_bind(self->context, self->bound[i].name, &self->bound[i].tensor));
        }
    }
    return kiln_context_run(self->context);
}

static void run_and_keep(kln_runner *self)
{
    self->status = run_one(self);
    if (self->status != KILN_OK) {
        kln_message_keep(&self->message);
    }
    KLN_LOCKED(&self->of->crowd.lock);
    self->is_busy = false;
    if (self->status != KILN_OK) {
        end_after(self->of, self->run);
    }
    (void)pthread_cond_broadcast(&self->of->crowd.changed);
}

static bool wait_for_work(kln_runner *self)
{
    kln_crowd *crowd = &self->of->crowd;
    KLN_LOCKED(&crowd->lock);
    while (!self->is_busy && !crowd->is_over) {
        (void)pthread_cond_wait(&crowd->changed, &crowd->lock);
    }
    return self->is_busy;
}

static void *run_each(void *user)
{
    while (wait_for_work(user)) {
        run_and_keep(user);
    }
    return NULL;
}

/* --- distributing batches --- */

static void wait_until_done(kln_runner *self)
{
    KLN_LOCKED(&self->of->crowd.lock);
    while (self->is_busy) {
        (void)pthread_cond_wait(&self->of->crowd.changed, &self->of->crowd.lock);
    }
}

/* Waits for the oldest batch that is not done. */
static kiln_status finish_one(kln_calibration *of)
{
    kln_runner *self = &of->crowd.runners[of->batches % of->crowd.count];
    wait_until_done(self);
    if (self->status != KILN_OK) {
        of->source_batch = self->source;
        kln_message_restore(&self->message);
        return self->status;
    }
    return kln_calibration_tell(of);
}

kiln_status kln_calibration_finish_runs(kln_calibration *of)
{
    while (of->batches < of->started) {
        KLN_RETURN_IF_ERROR(finish_one(of));
    }
    return KILN_OK;
}

static bool binds_alike(const kln_runner *self, const kln_calibration *of)
{
    bool alike = self->bound_count == of->bound_count + 1;
    for (size_t i = 0; alike && i < of->bound_count; i++) {
        alike =
            self->bound[i].name == of->bound[i].name &&
            kiln_shape_equal(&self->bound[i].tensor.desc.shape, &of->bound[i].tensor.desc.shape);
    }
    return alike;
}

/* Copies the batch, because the source will reuse its memory. Strings are not copied, so a batch
 * with strings is waited for. */
static kiln_status copy_batch(kln_runner *self, bool *waits)
{
    const kln_calibration *of = self->of;
    size_t bytes = 0;
    for (size_t i = 0; i < of->bound_count; i++) {
        bytes += (of->bound[i].tensor.bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    if (bytes > self->room) {
        kln_free(self->memory);
        self->room = 0;
        self->memory = kln_alloc_aligned(bytes, ALIGNMENT);
        KLN_RETURN_IF_NO_MEMORY(self->memory, bytes, "a batch");
        self->room = bytes;
    }
    if (!binds_alike(self, of)) {
        kiln_context_destroy(self->context);
        self->context = NULL;
    }
    size_t at = 0;
    for (size_t i = 0; i < of->bound_count; i++) {
        kiln_named_tensor *to = &self->bound[i];
        *to = of->bound[i];
        *waits = *waits || to->tensor.desc.dtype == KILN_DTYPE_STRING;
        if (to->tensor.desc.dtype != KILN_DTYPE_STRING && to->tensor.bytes > 0) {
            to->tensor.data = memcpy(self->memory + at, to->tensor.data, to->tensor.bytes);
            at += (to->tensor.bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        }
    }
    self->bound[of->bound_count] = (kiln_named_tensor){
        of->crowd.run_name,
        {.desc = {.dtype = KILN_DTYPE_INT64}, .data = &self->run, .bytes = sizeof self->run}};
    self->bound_count = of->bound_count + 1;
    return KILN_OK;
}

kiln_status kln_calibration_start_run(kln_calibration *of)
{
    bool waits = false;
    kln_crowd *crowd = &of->crowd;
    if (of->engines[0] == NULL) {
        KLN_RETURN_IF_ERROR(kln_calibration_build(of, 0));
    }
    while (of->started - of->batches >= crowd->width) {
        KLN_RETURN_IF_ERROR(finish_one(of));
    }
    kln_runner *self = &crowd->runners[of->started % crowd->count];
    self->run = (int64_t)of->started;
    self->source = of->source_batch;
    KLN_RETURN_IF_ERROR(copy_batch(self, &waits));
    of->started++;
    if (!self->has_thread) {
        run_and_keep(self);
    } else {
        KLN_LOCKED(&crowd->lock);
        self->is_busy = true;
        (void)pthread_cond_broadcast(&crowd->changed);
    }
    return waits || !self->has_thread ? kln_calibration_finish_runs(of) : KILN_OK;
}

/* --- all runners --- */

kiln_status kln_calibration_gather(kln_calibration *of, size_t count)
{
    kln_crowd *crowd = &of->crowd;
    const size_t most = of->inference->graph->input_count + 1;
    crowd->runners = kln_arena_alloc_zeroed(&of->arena, count, sizeof *crowd->runners);
    KLN_RETURN_IF_NO_MEMORY(crowd->runners, count * sizeof *crowd->runners, "threads that run");
    (void)pthread_mutex_init(&crowd->lock, NULL); /* cannot fail on Linux */
    (void)pthread_cond_init(&crowd->changed, NULL);
    crowd->count = crowd->width = count;
    crowd->last = INT64_MAX;
    crowd->watch = (kln_watch){see, of};
    for (size_t i = 0; i < count; i++) {
        kln_runner *self = &crowd->runners[i];
        self->of = of;
        self->scratch = kln_observer_scratch_create();
        self->bound = kln_arena_alloc_zeroed(&of->arena, most, sizeof *self->bound);
        KLN_FAIL_IF(self->scratch == NULL || self->bound == NULL,
                    kln_fail_memory(most * sizeof *self->bound, "a batch"));
    }
    /* Without a thread, this one does the work. */
    for (size_t i = 0; i < count && count > 1; i++) {
        kln_runner *self = &crowd->runners[i];
        self->has_thread = kln_thread_start(&self->thread, run_each, self) == 0;
    }
    return KILN_OK;
}

void kln_calibration_disperse(kln_calibration *of)
{
    kln_crowd *crowd = &of->crowd;
    if (crowd->count == 0) {
        return;
    }
    (void)pthread_mutex_lock(&crowd->lock);
    crowd->is_over = true;
    end_after(of, -1);
    (void)pthread_mutex_unlock(&crowd->lock);
    for (size_t i = 0; i < crowd->count; i++) {
        kln_runner *self = &crowd->runners[i];
        if (self->has_thread) {
            (void)pthread_join(self->thread, NULL);
        }
        kiln_context_destroy(self->context);
        kln_free(self->memory);
        kln_free(self->scratch);
    }
    (void)pthread_cond_destroy(&crowd->changed);
    (void)pthread_mutex_destroy(&crowd->lock);
    crowd->count = 0;
}

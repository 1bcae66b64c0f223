/* SPDX-License-Identifier: Apache-2.0 */
/* A generator: creation and destruction, its queue, and the thread that makes its steps. */
#include <errno.h>

#include "stream_parts.h"

#define DEFAULT_LIMIT 1024
#define DEFAULT_LOGITS_BYTES ((uint64_t)256 << 20)

/* --- memory --- */

static void drop_memory(kiln_generator *self)
{
    kiln_buffer *const buffers[] = {self->tokens,  self->mask,       self->positions,
                                    self->columns, self->branch,     self->logits,
                                    self->last,    self->top_tokens, self->top_logits};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(buffers); i++) {
        kiln_buffer_destroy(buffers[i]);
    }
    for (size_t i = 0; self->given != NULL && i < self->model.given_count; i++) {
        kiln_buffer_destroy(self->given[i]);
    }
    kln_free(self->given);
    kln_free(self->rows);
    kln_free(self->group);
    kln_free(self->cuts);
    kln_free(self->lengths);
    kln_free(self->masked.rows);
    stream_cache_finish(self);
    sampler_finish(&self->sampler);
    stream_model_finish(&self->model);
    kiln_stream_destroy(self->stream);
}

/* --- making steps --- */

static bool has_work(const kiln_generator *self)
{
    return self->counters.waiting + self->counters.running != 0;
}

/* Called with the lock held, which it releases during the step. */
static void make_step(kiln_generator *self)
{
    self->stepping = true;
    (void)pthread_mutex_unlock(&self->lock);
    generator_make_step(self);
    (void)pthread_mutex_lock(&self->lock);
    self->stepping = false;
    (void)pthread_cond_broadcast(&self->news);
}

static void *step_on(void *user)
{
    kiln_generator *self = user;
    KLN_LOCKED(&self->lock);
    while (!self->ends) {
        if (has_work(self)) {
            make_step(self);
        } else {
            (void)pthread_cond_wait(&self->work, &self->lock);
        }
    }
    return NULL;
}

bool generator_wait(kiln_generator *self, uint64_t until)
{
    if (!self->has_thread && !self->stepping && has_work(self)) {
        make_step(self);
        return until == UINT64_MAX || kln_now() < until;
    }
    if (until == UINT64_MAX) {
        (void)pthread_cond_wait(&self->news, &self->lock);
        return true;
    }
    const struct timespec when = kln_timespec(until);
    return pthread_cond_timedwait(&self->news, &self->lock, &when) != ETIMEDOUT;
}

kiln_status kiln_generator_step(kiln_generator *generator, size_t *active)
{
    KLN_RETURN_IF_NULL(generator);
    KLN_RETURN_IF_ERROR(kln_forks_check(generator->forks, __func__, "generator"));
    kiln_status status = KILN_OK;
    KLN_LOCKED(&generator->lock);
    if (generator->stepping || generator->has_thread) {
        status = kln_fail(KILN_ERROR_BUSY, "kiln_generator_step: %s",
                          generator->has_thread ? "the generator has a thread that makes the steps"
                                                : "another thread makes a step");
    } else if (generator->closed) {
        status = kln_fail(KILN_ERROR_STATE, "kiln_generator_step: the generator was stopped");
    } else if (has_work(generator)) {
        make_step(generator);
    }
    if (active != NULL) {
        *active = (size_t)(generator->counters.waiting + generator->counters.running);
    }
    return status;
}

/* --- destruction --- */

/* Removes the first waiting sequence; NULL if there is none. Called with the lock held. */
static kiln_sequence *take_first(kiln_generator *self)
{
    kiln_sequence *first = self->first;
    if (first != NULL) {
        self->first = first->next;
        self->last_waiting = self->first != NULL ? self->last_waiting : NULL;
        first->next = NULL;
    }
    return first;
}

void kiln_generator_destroy(kiln_generator *generator)
{
    static const char *const sentence = "the generator was destroyed";
    if (generator == NULL || generator->forks != kln_forks()) {
        return;
    }
    (void)pthread_mutex_lock(&generator->lock);
    generator->closed = true;
    generator->ends = true;
    (void)pthread_cond_broadcast(&generator->work);
    (void)pthread_mutex_unlock(&generator->lock);
    if (generator->has_thread) {
        (void)pthread_join(generator->thread, NULL);
    }
    kiln_sequence *sequence = NULL;
    do {
        (void)pthread_mutex_lock(&generator->lock);
        sequence = take_first(generator);
        (void)pthread_mutex_unlock(&generator->lock);
        if (sequence != NULL) {
            sequence_end(sequence, KILN_FINISH_CANCELLED, KILN_ERROR_CANCELLED, sentence);
        }
    } while (sequence != NULL);
    for (int64_t i = 0; i < generator->row_count; i++) {
        if (generator->rows[i] != NULL) {
            sequence_end(generator->rows[i], KILN_FINISH_CANCELLED, KILN_ERROR_CANCELLED, sentence);
        }
    }
    drop_memory(generator);
    generator_release(generator);
}

/* --- create --- */

/* The contexts of all engines share one stream, so that their work and the copies in between stay
 * in order. Prefills come in too many shapes to be captured as graphs, and so do steps with a cache
 * that grows each time. */
static kiln_status make_context(const kiln_generator *self, const stream_part *part,
                                const stream_limits *limits, kiln_context_options own,
                                kiln_context **context)
{
    const bool repeats = part == &self->model.decode && self->model.layout != KILN_CACHE_GROWING;
    own.stream = self->stream;
    own.graphs = repeats || self->stream == NULL ? own.graphs : KILN_GRAPH_OFF;
    KLN_RETURN_IF_ERROR(kiln_context_create(part->engine, &own, context));
    return limits->profile >= 0 ? kiln_context_set_profile(*context, limits->profile) : KILN_OK;
}

/* One context per profile. Only one runs at a time, so they can share the memory for intermediate
 * tensors. */
static kiln_status make_steps(kiln_generator *self, kiln_context_options own)
{
    stream_model *model = &self->model;
    own.share_device_memory |= model->step_count > 1 && self->stream != NULL &&
                               model->decode.engine->shared.backend->plan != NULL;
    for (size_t i = 0; i < model->step_count; i++) {
        stream_step *step = &model->steps[i];
        KLN_RETURN_IF_ERROR(make_context(self, &model->decode, &step->limits, own, &step->context));
    }
    return KILN_OK;
}

static kiln_status make_contexts(kiln_generator *self, const kiln_generator_options *options)
{
    stream_model *model = &self->model;
    kiln_context_options own = KILN_CONTEXT_OPTIONS_INIT;
    if (options->context != NULL) {
        KLN_RETURN_IF_ERROR(
            kln_options_read("kiln_context_options", options->context, &own, sizeof own));
    }
    KLN_RETURN_IF(own.stream != NULL, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_generator_options: context: contexts of a generator work on a stream "
                  "of its own");
    if (model->device >= 0) {
        KLN_RETURN_IF_ERROR(kiln_stream_create(model->device, 0, &self->stream));
    }
    KLN_RETURN_IF_ERROR(make_steps(self, own));
    KLN_RETURN_IF_ERROR(
        make_context(self, &model->prefill, &model->prefill.limits, own, &model->prefill.context));
    return model->encoder.engine != NULL
               ? make_context(self, &model->encoder, &model->encoder.limits, own,
                              &model->encoder.context)
               : KILN_OK;
}

/* The buffers of a step, at their largest size. */
static kiln_status make_memory(kiln_generator *self)
{
    const stream_model *model = &self->model;
    const kiln_location location = self->stream != NULL ? KILN_LOCATION_PINNED : KILN_LOCATION_HOST;
    const size_t rows = (size_t)model->max_batch;
    const size_t most = rows * (size_t)(self->cache.most_width + 1) * sizeof(int64_t);
    self->rows = kln_alloc_zeroed(rows, sizeof(kiln_sequence *));
    self->group = kln_alloc_zeroed(rows, sizeof(kiln_sequence *));
    self->cuts = kln_alloc_zeroed(rows + 1, sizeof *self->cuts);
    self->lengths = kln_alloc_zeroed(rows, sizeof *self->lengths);
    self->masked.rows = kln_alloc_zeroed(rows, sizeof *self->masked.rows);
    self->given = kln_alloc_zeroed(model->given_count + 1, sizeof(kiln_buffer *));
    KLN_FAIL_IF(self->rows == NULL || self->group == NULL || self->cuts == NULL ||
                    self->lengths == NULL || self->masked.rows == NULL || self->given == NULL,
                kln_fail_memory(rows * sizeof *self->lengths, "the rows of a batch"));
    KLN_RETURN_IF_ERROR(generator_grow(self, &self->tokens, location, most));
    KLN_RETURN_IF_ERROR(generator_grow(self, &self->mask, location, most));
    KLN_RETURN_IF_ERROR(generator_grow(self, &self->positions, location, most));
    KLN_RETURN_IF_ERROR(generator_grow(self, &self->columns, location, most));
    KLN_RETURN_IF_ERROR(generator_grow(self, &self->branch, location, 1));
    return sampler_make((size_t)model->vocabulary, &self->sampler);
}

static kiln_status fill(kiln_generator *self, kiln_engine *engine,
                        const kiln_generator_options *options)
{
    KLN_RETURN_IF_ERROR(stream_model_make(engine, options, &self->model));
    self->logits_bytes = options->logits_bytes != 0 ? options->logits_bytes : DEFAULT_LOGITS_BYTES;
    self->waiting_limit = options->queue_limit != 0 ? options->queue_limit : DEFAULT_LIMIT;
    KLN_RETURN_IF_ERROR(make_contexts(self, options));
    KLN_RETURN_IF_ERROR(stream_cache_make(self, options->preallocate));
    KLN_RETURN_IF_ERROR(make_memory(self));
    if (options->thread) {
        self->has_thread = kln_thread_start(&self->thread, step_on, self) == 0;
        KLN_RETURN_IF(!self->has_thread, KILN_ERROR_OUT_OF_MEMORY,
                      "kiln_generator_create: the system gives no further thread");
    }
    return KILN_OK;
}

static kiln_generator *allocate(void)
{
    kiln_generator *made = kln_alloc_zeroed(1, sizeof *made);
    if (made != NULL) {
        atomic_init(&made->references, 1);
        made->forks = kln_forks_begin();
        made->counters.struct_size = sizeof made->counters;
        (void)pthread_mutex_init(&made->lock, NULL);
        (void)pthread_cond_init(&made->work, NULL);
        kln_condition_init(&made->news);
    }
    return made;
}

kiln_status kiln_generator_create(kiln_engine *engine, const kiln_generator_options *options,
                                  kiln_generator **generator)
{
    kiln_generator_options own = KILN_GENERATOR_OPTIONS_INIT;
    KLN_RETURN_IF_NULL_RESULT(generator, engine);
    if (options != NULL) {
        KLN_RETURN_IF_ERROR(kln_options_read("kiln_generator_options", options, &own, sizeof own));
    }
    KLN_RETURN_IF((unsigned)own.layout > KILN_CACHE_WHOLE, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_generator_options: layout is %d, one of kiln_cache_layout (0 to %d) is "
                  "needed",
                  (int)own.layout, KILN_CACHE_WHOLE);
    kiln_generator *made = allocate();
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "a generator");
    const kiln_status status = fill(made, engine, &own);
    if (status != KILN_OK) {
        drop_memory(made);
        generator_release(made);
        return status;
    }
    *generator = made;
    return KILN_OK;
}

/* --- the queue --- */

static void append(kiln_generator *self, kiln_sequence *sequence)
{
    if (self->last_waiting != NULL) {
        self->last_waiting->next = sequence;
    } else {
        self->first = sequence;
    }
    self->last_waiting = sequence;
}

static kiln_status take_over(kiln_generator *self, kiln_sequence *sequence)
{
    KLN_RETURN_IF(self->closed, KILN_ERROR_STATE,
                  "kiln_generator_submit: the generator was stopped");
    if (self->counters.waiting >= self->waiting_limit) {
        return kln_fail(KILN_ERROR_QUEUE_FULL,
                        "kiln_generator_submit: %llu sequences wait, and queue_limit is %zu; take "
                        "steps, or raise it",
                        (unsigned long long)self->counters.waiting, self->waiting_limit);
    }
    (void)atomic_fetch_add(&sequence->references, 1);
    append(self, sequence);
    self->counters.submitted++;
    self->counters.waiting++;
    (void)pthread_cond_signal(&self->work);
    (void)pthread_cond_broadcast(&self->news); /* a waiting thread may make steps */
    return KILN_OK;
}

kiln_status kiln_generator_submit(kiln_generator *generator, const int64_t *prompt, size_t count,
                                  const kiln_sequence_options *options, kiln_sequence **sequence)
{
    KLN_RETURN_IF_NULL_RESULT(sequence, generator, prompt);
    KLN_RETURN_IF_ERROR(kln_forks_check(generator->forks, __func__, "generator"));
    kiln_sequence *made = NULL;
    kiln_status status = sequence_make(generator, prompt, count, options, &made);
    (void)pthread_mutex_lock(&generator->lock);
    KLN_THEN(status, take_over(generator, made));
    generator->counters.refused += status != KILN_OK;
    (void)pthread_mutex_unlock(&generator->lock);
    if (status != KILN_OK) {
        if (made != NULL) {
            sequence_release(made);
        }
        return status;
    }
    *sequence = made;
    return KILN_OK;
}

/* Removes the sequence from the queue; false if it was not waiting. Called with the lock held. */
static bool take_out(kiln_generator *self, kiln_sequence *sequence)
{
    kiln_sequence *before = NULL;
    for (kiln_sequence *at = self->first; at != NULL; before = at, at = at->next) {
        if (at == sequence) {
            *(before != NULL ? &before->next : &self->first) = at->next;
            self->last_waiting = self->last_waiting == at ? before : self->last_waiting;
            at->next = NULL;
            return true;
        }
    }
    return false;
}

kiln_status kiln_sequence_cancel(kiln_sequence *sequence)
{
    KLN_RETURN_IF_NULL(sequence);
    kiln_generator *self = sequence->generator;
    KLN_RETURN_IF_ERROR(kln_forks_check(self->forks, __func__, "generator"));
    (void)pthread_mutex_lock(&self->lock);
    const bool ended = sequence->state == SEQUENCE_ENDED;
    const bool waited = !ended && take_out(self, sequence);
    atomic_store(&sequence->cancelled, true);
    (void)pthread_mutex_unlock(&self->lock);
    if (waited) {
        sequence_end(sequence, KILN_FINISH_CANCELLED, KILN_ERROR_CANCELLED,
                     "the sequence was cancelled");
    }
    return ended ? kln_fail(KILN_ERROR_STATE, "kiln_sequence_cancel: the sequence has ended")
                 : KILN_OK;
}

/* --- counters and properties --- */

kiln_status kiln_generator_get_counters(kiln_generator *generator,
                                        kiln_generator_counters *counters)
{
    KLN_RETURN_IF_NULL(generator, counters);
    (void)pthread_mutex_lock(&generator->lock);
    const kiln_generator_counters now = generator->counters;
    (void)pthread_mutex_unlock(&generator->lock);
    return kln_info_write("kiln_generator_counters", counters, &now, sizeof now);
}

kiln_status kiln_generator_get_info(const kiln_generator *generator, kiln_generator_info *info)
{
    KLN_RETURN_IF_NULL(generator, info);
    const stream_model *model = &generator->model;
    const kiln_generator_info known = {.struct_size = sizeof known,
                                       .layout = model->layout,
                                       .pair_count = model->pair_count + model->kept_pairs,
                                       .max_batch = model->max_batch,
                                       .max_length = model->max_length,
                                       .vocabulary = model->vocabulary,
                                       .ragged = model->ragged};
    return kln_info_write("kiln_generator_info", info, &known, sizeof known);
}

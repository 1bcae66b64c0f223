/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "scheduler_parts.h"

#define MOST_KINDS 8  /* considered for one batch */
#define AHEAD_PARTS 4 /* per batch: rows sent one by one would each stall the device */

/* --- answering --- */

static void collect(kiln_scheduler *scheduler, kiln_request *request)
{
    const bool is_first = scheduler->collected == NULL;
    request_retain(request);
    request->next = NULL;
    if (is_first) {
        scheduler->collected = request;
    } else {
        scheduler->collected_last->next = request;
    }
    scheduler->collected_last = request;
    request->rings = is_first && scheduler->event >= 0;
}

void scheduler_answer(kiln_scheduler *scheduler, kiln_request *request, kiln_request_state state,
                      kiln_status status, const char *sentence, uint64_t now)
{
    kiln_scheduler_counters *counters = &scheduler->counters;
    uint64_t *const counts[] = {[KILN_REQUEST_DONE] = &counters->done,
                                [KILN_REQUEST_FAILED] = &counters->failed,
                                [KILN_REQUEST_CANCELLED] = &counters->cancelled,
                                [KILN_REQUEST_EXPIRED] = &counters->expired};
    (*counts[state])++;
    request->status = status;
    if (sentence != NULL) {
        (void)snprintf(request->sentence, sizeof request->sentence, "%s", sentence);
    }
    kiln_histogram_record(scheduler->figures[KILN_SCHEDULER_TOTAL_TIME], now - request->submitted);
    if (request->options.collect) {
        collect(scheduler, request);
    }
    (void)atomic_fetch_add(&scheduler->untold, 1);
    atomic_store(&request->state, state);
    (void)pthread_cond_broadcast(&scheduler->rest);
}

static void note_batch(kiln_scheduler *scheduler, const seat *at, const batch_outcome *outcome)
{
    kiln_scheduler_counters *counters = &scheduler->counters;
    const int64_t rows = count_rows(at->requests, at->request_count);
    for (size_t i = 0; i < at->request_count; i++) {
        const kiln_request *request = at->requests[i];
        kiln_histogram_record(scheduler->figures[KILN_SCHEDULER_QUEUE_TIME],
                              request->begun - request->submitted);
    }
    kiln_scheduler_engine_counters *own = &at->pool->counters[at->number];
    own->batches += outcome->runs;
    own->rows += (uint64_t)rows;
    own->run_nanoseconds += outcome->ran;
    counters->batches += outcome->runs;
    counters->rows += (uint64_t)rows;
    counters->padding += (uint64_t)outcome->padding;
    counters->retried += outcome->retried;
    counters->profile_switches += at->switched;
    counters->graph_hits += outcome->graph_hits;
    counters->graph_misses += outcome->graph_misses;
    counters->padded += (uint64_t)outcome->padded;
    counters->copy_nanoseconds += at->request_count * outcome->copied;
    counters->run_nanoseconds += at->request_count * outcome->ran;
    batch_measure(scheduler, at, outcome);
    kiln_histogram_record(scheduler->figures[KILN_SCHEDULER_COPY_TIME], outcome->copied);
    kiln_histogram_record(scheduler->figures[KILN_SCHEDULER_RUN_TIME], outcome->ran);
    kiln_histogram_record(scheduler->figures[KILN_SCHEDULER_BATCH_ROWS], (uint64_t)rows);
    if (outcome->apart && !scheduler->apart) {
        scheduler->apart = true;
        kln_log(KILN_LOG_WARNING, "scheduler",
                "requests are not joined any more: outputs do not have the rows of the inputs");
    }
}

void scheduler_finish(kiln_scheduler *scheduler, seat *at, const batch_outcome *outcome)
{
    kiln_request *told = NULL;
    const uint64_t now = scheduler_now(scheduler);
    (void)pthread_mutex_lock(&scheduler->lock);
    note_batch(scheduler, at, outcome);
    scheduler->counters.running -= at->request_count;
    for (size_t i = at->request_count; i-- > 0;) {
        kiln_request *request = at->requests[i];
        if (atomic_load(&request->cancelled)) {
            scheduler_answer(scheduler, request, KILN_REQUEST_CANCELLED, KILN_ERROR_CANCELLED,
                             "the request was cancelled while it ran", now);
        } else {
            scheduler_answer(scheduler, request,
                             request->status == KILN_OK ? KILN_REQUEST_DONE : KILN_REQUEST_FAILED,
                             request->status, NULL, now);
        }
        request->previous = told;
        told = request;
    }
    at->busy = false;
    at->request_count = 0;
    scheduler_wake(scheduler);
    (void)pthread_mutex_unlock(&scheduler->lock);
    request_tell_all(told);
}

/* The CPU time of this thread, in nanoseconds. */
static uint64_t processor_time(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

void scheduler_serve(kiln_scheduler *scheduler, seat *at)
{
    batch_outcome outcome;
    const uint64_t begin = at->timed ? processor_time() : 0;
    seat_run(scheduler, at, &outcome);
    outcome.processor = at->timed ? processor_time() - begin : 0;
    scheduler_finish(scheduler, at, &outcome);
}

/* --- gathering --- */

static bool is_free(const seat *at)
{
    return !at->busy && !at->wanted;
}

static bool any_free(const kiln_scheduler *scheduler)
{
    bool found = false;
    for (size_t i = 0; !found && i < scheduler->pool->count; i++) {
        found = is_free(scheduler->pool->seats[i]);
    }
    return found;
}

/* The number of busy contexts that share the stream of context `k` of an engine. */
static size_t count_before(const engine_pool *pool, size_t first, size_t k)
{
    size_t busy = 0;
    for (size_t other = k % LANES; other < pool->contexts; other += LANES) {
        busy += !is_free(pool->seats[first + other]);
    }
    return busy;
}

/* Prefers the context that rows were sent ahead to. Otherwise spreads the work: the device with the
 * most free contexts, and on it the stream with the least work queued. */
static seat *find_seat(const kiln_scheduler *scheduler)
{
    const engine_pool *pool = scheduler->pool;
    seat *found = NULL;
    size_t most = 0;
    for (size_t i = 0; i < pool->count; i += pool->contexts) {
        seat *here = NULL;
        size_t free = 0;
        size_t least = SIZE_MAX;
        for (size_t k = 0; k < pool->contexts; k++) {
            seat *one = pool->seats[i + k];
            const size_t before = is_free(one) ? count_before(pool, i, k) : SIZE_MAX;
            if (is_free(one) && one->ahead != 0) {
                return one;
            }
            free += is_free(one);
            here = before < least ? one : here;
            least = before < least ? before : least;
        }
        if (free > most) {
            most = free;
            found = here;
        }
    }
    return found;
}

/* Whether the shapes are equal except for the rows. */
static bool are_alike(const schedule_rules *rules, const kiln_request *a, const kiln_request *b)
{
    bool alike = a->likeness == b->likeness;
    for (size_t i = 0; alike && i < rules->input_count; i++) {
        kiln_shape shape = a->shapes[i];
        shape.dims[rules->axis] = b->shapes[i].dims[rules->axis];
        alike = kiln_shape_equal(&shape, &b->shapes[i]);
    }
    return alike;
}

/* Adds a request to a seat's batch, and its rows to `*rows`, up to `most`; false once there is no
 * room left. */
static bool add(const kiln_scheduler *scheduler, seat *at, kiln_request *request, int64_t most,
                int64_t *rows, uint64_t *due)
{
    const bool fits = *rows + request->rows <= most || *rows == 0;
    if (fits) {
        const uint64_t longest = UINT64_MAX - 1 - request->submitted;
        const uint64_t delay = scheduler->delay < longest ? scheduler->delay : longest;
        const uint64_t own =
            request->options.schedule == KILN_SCHEDULE_LATENCY ? 0 : request->submitted + delay;
        *due = own < *due ? own : *due;
        *rows += request->rows;
        at->requests[at->request_count++] = request;
    }
    return fits && *rows < most;
}

/* Its deadline has passed: the keeper will answer it. */
static bool is_late(const kiln_request *request, uint64_t now)
{
    return request->options.deadline_nanoseconds != 0 &&
           request->options.deadline_nanoseconds <= now;
}

/* Fills a batch with `first` and, in queue order, requests like it. Returns when it has to run at
 * the latest; 0 for at once. */
static uint64_t gather(const kiln_scheduler *scheduler, seat *at, kiln_request *first, uint64_t now)
{
    const schedule_rules *rules = &scheduler->rules;
    uint64_t due = scheduler->closed ? 0 : UINT64_MAX;
    int64_t rows = 0;
    at->request_count = 0;
    const int64_t room = batch_profile_most(rules, at->engine, first);
    const int64_t join = batch_join_rows(scheduler, first);
    const int64_t most = room < join ? room : join;
    bool has_room =
        add(scheduler, at, first, most, &rows, &due) && rules->axis >= 0 && !scheduler->apart;
    for (kiln_request *next = request_queue_first(&scheduler->queue); has_room && next != NULL;
         next = request_queue_next(&scheduler->queue, next)) {
        if (next != first && !is_late(next, now) && are_alike(rules, first, next)) {
            has_room = add(scheduler, at, next, most, &rows, &due);
        }
    }
    return has_room ? due : 0;
}

/* The first latency request that has not expired. */
static kiln_request *first_urgent(const request_queue *queue, uint64_t now)
{
    kiln_request *request = request_queue_first(queue);
    while (request != NULL &&
           (request->options.schedule != KILN_SCHEDULE_LATENCY || is_late(request, now))) {
        request = request_queue_next(queue, request);
    }
    return request;
}

/* Gathers a batch for the first request of each kind, in order of priority, until one is due.
 * Otherwise returns when the first one will be. Beyond MOST_KINDS the others wait for their turn,
 * unless they are urgent. */
static uint64_t gather_due(const kiln_scheduler *scheduler, seat *at, uint64_t now)
{
    const request_queue *queue = &scheduler->queue;
    kiln_request *heads[MOST_KINDS];
    size_t count = 0;
    uint64_t due = UINT64_MAX;
    for (kiln_request *request = request_queue_first(queue);
         request != NULL && count < MOST_KINDS && due > now;
         request = request_queue_next(queue, request)) {
        bool is_new = !is_late(request, now);
        for (size_t i = 0; is_new && i < count; i++) {
            is_new = !are_alike(&scheduler->rules, heads[i], request);
        }
        if (is_new) {
            const uint64_t own = gather(scheduler, at, request, now);
            heads[count++] = request;
            due = own < due ? own : due;
        }
    }
    if (due > now && queue->urgent != 0) {
        kiln_request *urgent = first_urgent(queue, now);
        due = urgent != NULL ? gather(scheduler, at, urgent, now) : due;
    }
    return due;
}

void scheduler_send_ahead(kiln_scheduler *scheduler)
{
    const request_queue *queue = &scheduler->queue;
    const int64_t whole = scheduler->rules.join_rows;
    const int64_t part = (whole + AHEAD_PARTS - 1) / AHEAD_PARTS;
    seat *at = queue->rows >= scheduler->ahead_rows + part && queue->rows < whole &&
                       queue->urgent == 0 && !scheduler->apart
                   ? find_seat(scheduler)
                   : NULL;
    if (at == NULL || !at->sends_ahead) {
        return;
    }
    scheduler->ahead_rows = queue->rows;
    (void)gather(scheduler, at, request_queue_first(queue), scheduler_now(scheduler));
    batch_send_ahead(&(batch){.scheduler = scheduler,
                              .at = at,
                              .requests = at->requests,
                              .count = at->request_count,
                              .filled = whole});
    at->request_count = 0;
}

void scheduler_withdraw(kiln_scheduler *scheduler, kiln_request *request)
{
    if (request->ahead_at != NULL) {
        seat_forget_ahead(scheduler, request->ahead_at);
    }
    request_queue_remove(&scheduler->queue, request);
    scheduler->counters.waiting--;
}

/* Data sent ahead is only usable if the batch has all that its context was sent, and nothing that
 * was sent to another context. */
static void settle_ahead(kiln_scheduler *scheduler, seat *at)
{
    size_t own = 0;
    for (size_t i = 0; i < at->request_count; i++) {
        seat *sent = at->requests[i]->ahead_at;
        own += sent == at;
        if (sent != NULL && sent != at) {
            seat_forget_ahead(scheduler, sent);
        }
    }
    if (own != at->ahead) {
        seat_forget_ahead(scheduler, at);
    }
    scheduler->ahead_rows = 0;
}

static void begin(kiln_scheduler *scheduler, seat *at, uint64_t now)
{
    settle_ahead(scheduler, at);
    for (size_t i = 0; i < at->request_count; i++) {
        kiln_request *request = at->requests[i];
        request_queue_remove(&scheduler->queue, request);
        request->begun = now;
        atomic_store(&request->state, KILN_REQUEST_RUNNING);
    }
    scheduler->counters.waiting -= at->request_count;
    scheduler->counters.running += at->request_count;
    at->apart = scheduler->apart;
    at->timed = scheduler->rules.join_measured && at->pool->joined.quick == 0;
    at->begun = now;
    at->busy = true;
}

seat *scheduler_take(kiln_scheduler *scheduler, uint64_t *due)
{
    seat *at = scheduler->queue.count != 0 ? find_seat(scheduler) : NULL;
    *due = UINT64_MAX;
    if (at == NULL) {
        return NULL;
    }
    const uint64_t now = scheduler_now(scheduler);
    *due = gather_due(scheduler, at, now);
    seat *chosen = *due <= now ? batch_choose(scheduler, at, now, due) : NULL;
    if (chosen == NULL) {
        at->request_count = 0;
        return NULL;
    }
    begin(scheduler, chosen, now);
    return chosen;
}

/* --- threads --- */

void scheduler_wake(kiln_scheduler *scheduler)
{
    const request_queue *queue = &scheduler->queue;
    if (queue->count != 0 &&
        (!scheduler->has_leader || scheduler->closed || queue->urgent != 0 ||
         queue->rows >= batch_join_rows(scheduler, request_queue_first(queue))) &&
        any_free(scheduler)) {
        (void)pthread_cond_signal(&scheduler->work);
    }
}

static void wait_until(pthread_cond_t *condition, pthread_mutex_t *lock, uint64_t until)
{
    const struct timespec time = kln_timespec(until);
    (void)pthread_cond_timedwait(condition, lock, &time);
}

void *scheduler_worker(void *user)
{
    kiln_scheduler *scheduler = user;
    (void)pthread_mutex_lock(&scheduler->lock);
    while (!scheduler->ends) {
        uint64_t due = UINT64_MAX;
        seat *at = scheduler_take(scheduler, &due);
        if (at != NULL) {
            scheduler_wake(scheduler);
            (void)pthread_mutex_unlock(&scheduler->lock);
            scheduler_serve(scheduler, at);
            (void)pthread_mutex_lock(&scheduler->lock);
        } else if (due != UINT64_MAX && !scheduler->has_leader) {
            scheduler->has_leader = true;
            wait_until(&scheduler->work, &scheduler->lock, due);
            scheduler->has_leader = false;
        } else {
            (void)pthread_cond_wait(&scheduler->work, &scheduler->lock);
        }
    }
    (void)pthread_mutex_unlock(&scheduler->lock);
    return NULL;
}

static void expire(kiln_scheduler *scheduler, kiln_request *request, uint64_t now)
{
    char sentence[160];
    scheduler_withdraw(scheduler, request);
    (void)snprintf(sentence, sizeof sentence,
                   "the request waited for %.3f ms and did not run by its deadline; %zu other%s "
                   "waited with it",
                   (double)(now - request->submitted) / 1e6, scheduler->queue.count,
                   KLN_S(scheduler->queue.count));
    scheduler_answer(scheduler, request, KILN_REQUEST_EXPIRED, KILN_ERROR_TIMEOUT, sentence, now);
    (void)pthread_mutex_unlock(&scheduler->lock);
    request_tell(request);
    (void)pthread_mutex_lock(&scheduler->lock);
}

uint64_t scheduler_expire(kiln_scheduler *scheduler)
{
    kiln_request *earliest = NULL;
    while ((earliest = request_queue_earliest(&scheduler->queue)) != NULL) {
        const uint64_t now = scheduler_now(scheduler);
        if (earliest->options.deadline_nanoseconds > now) {
            return earliest->options.deadline_nanoseconds;
        }
        expire(scheduler, earliest, now);
    }
    return UINT64_MAX;
}

void *scheduler_keeper(void *user)
{
    kiln_scheduler *scheduler = user;
    KLN_LOCKED(&scheduler->lock);
    while (!scheduler->ends) {
        const uint64_t next = scheduler_expire(scheduler);
        if (scheduler->ends) {
            break;
        }
        if (next == UINT64_MAX) {
            (void)pthread_cond_wait(&scheduler->timer, &scheduler->lock);
        } else {
            wait_until(&scheduler->timer, &scheduler->lock, next);
        }
    }
    return NULL;
}

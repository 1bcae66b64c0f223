/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler_parts.h"

kiln_status request_queue_init(request_queue *queue, size_t limit)
{
    queue->limit = limit;
    queue->deadlines = kln_alloc_zeroed(limit, sizeof(kiln_request *));
    return queue->deadlines != NULL
               ? KILN_OK
               : kln_fail_memory(limit * sizeof(kiln_request *), "a scheduler's queue");
}

void request_queue_finish(request_queue *queue)
{
    kln_free(queue->deadlines);
    queue->deadlines = NULL;
}

/* --- deadlines --- */

static void put(request_queue *queue, size_t place, kiln_request *request)
{
    queue->deadlines[place] = request;
    request->place = place;
}

static uint64_t deadline_at(const request_queue *queue, size_t place)
{
    return queue->deadlines[place]->options.deadline_nanoseconds;
}

/* Moves the entry at `place`, which may be out of order, up or down the heap. */
static void settle(request_queue *queue, size_t place)
{
    kiln_request *request = queue->deadlines[place];
    const uint64_t deadline = request->options.deadline_nanoseconds;
    while (place > 0 && deadline_at(queue, (place - 1) / 2) > deadline) {
        put(queue, place, queue->deadlines[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    for (size_t child = 2 * place + 1; child < queue->deadline_count; child = 2 * place + 1) {
        if (child + 1 < queue->deadline_count &&
            deadline_at(queue, child + 1) < deadline_at(queue, child)) {
            child++;
        }
        if (deadline_at(queue, child) >= deadline) {
            break;
        }
        put(queue, place, queue->deadlines[child]);
        place = child;
    }
    put(queue, place, request);
}

static void forget_deadline(request_queue *queue, kiln_request *request)
{
    const size_t place = request->place;
    if (place == NOT_IN_HEAP) {
        return;
    }
    request->place = NOT_IN_HEAP;
    kiln_request *last = queue->deadlines[--queue->deadline_count];
    if (last != request) {
        put(queue, place, last);
        settle(queue, place);
    }
}

kiln_request *request_queue_earliest(const request_queue *queue)
{
    return queue->deadline_count != 0 ? queue->deadlines[0] : NULL;
}

/* --- order --- */

void request_queue_push(request_queue *queue, kiln_request *request)
{
    const int32_t level = request->options.priority;
    request->next = NULL;
    request->previous = queue->levels[level].last;
    if (request->previous != NULL) {
        request->previous->next = request;
    } else {
        queue->levels[level].first = request;
    }
    queue->levels[level].last = request;
    queue->count++;
    queue->rows += request->rows;
    queue->urgent += request->options.schedule == KILN_SCHEDULE_LATENCY;
    request->place = NOT_IN_HEAP;
    if (request->options.deadline_nanoseconds != 0) {
        put(queue, queue->deadline_count++, request);
        settle(queue, request->place);
    }
}

void request_queue_remove(request_queue *queue, kiln_request *request)
{
    const int32_t level = request->options.priority;
    if (request->previous != NULL) {
        request->previous->next = request->next;
    } else {
        queue->levels[level].first = request->next;
    }
    if (request->next != NULL) {
        request->next->previous = request->previous;
    } else {
        queue->levels[level].last = request->previous;
    }
    queue->count--;
    queue->rows -= request->rows;
    queue->urgent -= request->options.schedule == KILN_SCHEDULE_LATENCY;
    forget_deadline(queue, request);
}

static kiln_request *first_below(const request_queue *queue, int32_t level)
{
    for (; level >= 0; level--) {
        if (queue->levels[level].first != NULL) {
            return queue->levels[level].first;
        }
    }
    return NULL;
}

kiln_request *request_queue_first(const request_queue *queue)
{
    return first_below(queue, KILN_MAX_PRIORITY);
}

kiln_request *request_queue_next(const request_queue *queue, const kiln_request *request)
{
    return request->next != NULL ? request->next
                                 : first_below(queue, request->options.priority - 1);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "schedule_load.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bench_times.h"

void open_request(kiln_engine *engine, kiln_location location, char **shapes, size_t shape_count,
                  one_request *made)
{
    feed_open(&made->fed, engine, location, 1, shapes, shape_count);
    bench_require(kiln_context_run(made->fed.context));
    for (size_t i = 0; i < made->fed.input_count; i++) {
        made->inputs[i] = (kiln_named_tensor){made->fed.inputs[i].name, made->fed.inputs[i].tensor};
    }
    for (size_t i = 0; i < made->fed.output_count; i++) {
        made->outputs[i] =
            (kiln_named_tensor){made->fed.outputs[i].name, made->fed.outputs[i].tensor};
    }
}

static void open_side(const load *self, const kiln_named_tensor *from, feed_side *side,
                      kiln_named_tensor *named)
{
    const kiln_span content = {from->tensor.data, from->tensor.bytes};
    bench_require(kiln_buffer_create(self->location, 0, content.size, &side->buffer));
    bench_require(kiln_buffer_write(side->buffer, 0, content, NULL));
    bench_require(kiln_buffer_tensor(side->buffer, 0, from->tensor.desc.dtype,
                                     &from->tensor.desc.shape, &side->tensor));
    *named = (kiln_named_tensor){from->name, side->tensor};
}

/* Like another one, in memory of its own; without a context. */
static void open_like(const load *self, const one_request *like, one_request *made)
{
    made->fed =
        (feed){.input_count = like->fed.input_count, .output_count = like->fed.output_count};
    for (size_t i = 0; i < like->fed.input_count; i++) {
        open_side(self, &like->inputs[i], &made->fed.inputs[i], &made->inputs[i]);
    }
    for (size_t i = 0; i < like->fed.output_count; i++) {
        open_side(self, &like->outputs[i], &made->fed.outputs[i], &made->outputs[i]);
    }
}

/* --- checking --- */

static double *numbers_of(const kiln_tensor *tensor, int64_t *count)
{
    bench_require(kiln_shape_elements(&tensor->desc.shape, count));
    double *numbers = bench_allocate((size_t)*count * sizeof *numbers);
    bench_require(kiln_tensor_read(tensor, 0, (size_t)*count, numbers));
    return numbers;
}

/* The largest difference, as a part of the largest number. */
static double compare(const kiln_tensor *expected, const kiln_tensor *found)
{
    int64_t count = 0;
    int64_t other = 0;
    double *a = numbers_of(expected, &count);
    double *b = numbers_of(found, &other);
    double most = 1e-30;
    double worst = count == other ? 0 : HUGE_VAL;
    for (int64_t i = 0; i < count && count == other; i++) {
        const double difference = fabs(a[i] - b[i]);
        worst = difference <= worst ? worst : difference; /* NaN too */
        most = fabs(a[i]) > most ? fabs(a[i]) : most;
    }
    free(a);
    free(b);
    return worst / most;
}

typedef struct circle {
    const load *how;
    const one_request *like;
    kiln_scheduler *scheduler;
    atomic_bool ends;
    atomic_ullong answered;
    atomic_size_t outstanding;
} circle;

/* A request that is submitted anew as soon as it is answered, in the thread that answers. */
typedef struct caller {
    circle *round;
    one_request request;
    pthread_t thread;
    double worst;
} caller;

static void check(caller *self, size_t output, const kiln_tensor *found)
{
    const double worst = compare(&self->round->like->outputs[output].tensor, found);
    self->worst = worst <= self->worst ? self->worst : worst;
}

static void submit_again(void *user, kiln_request *done);

static void submit(caller *self)
{
    const kiln_request_options options =
        KILN_REQUEST_OPTIONS(.answered = submit_again, .user = self);
    kiln_request *made = NULL;
    bench_require(kiln_scheduler_submit(self->round->scheduler, self->request.inputs,
                                        self->request.fed.input_count, NULL, 0, &options, &made));
    kiln_request_release(made);
}

static void submit_again(void *user, kiln_request *done)
{
    caller *self = user;
    if (kiln_request_get_state(done) != KILN_REQUEST_DONE) {
        (void)fprintf(stderr, "a request was not done\n");
        exit(1);
    }
    for (size_t i = 0; self->round->how->checks && i < self->request.fed.output_count; i++) {
        kiln_tensor found;
        bench_require(kiln_request_output(done, self->request.outputs[i].name, &found));
        check(self, i, &found);
    }
    (void)atomic_fetch_add(&self->round->answered, 1);
    if (atomic_load(&self->round->ends)) {
        (void)atomic_fetch_sub(&self->round->outstanding, 1);
    } else {
        submit(self);
    }
}

/* With a thread that waits for its answer. */
static void *call_again(void *user)
{
    caller *self = user;
    while (!atomic_load(&self->round->ends)) {
        bench_require(kiln_scheduler_run(self->round->scheduler, self->request.inputs,
                                         self->request.fed.input_count, self->request.outputs,
                                         self->request.fed.output_count, NULL));
        for (size_t i = 0; self->round->how->checks && i < self->request.fed.output_count; i++) {
            check(self, i, &self->request.outputs[i].tensor);
        }
        (void)atomic_fetch_add(&self->round->answered, 1);
    }
    (void)atomic_fetch_sub(&self->round->outstanding, 1);
    return NULL;
}

static void sleep_for(double seconds)
{
    const struct timespec time = {.tv_sec = (time_t)seconds,
                                  .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    (void)nanosleep(&time, NULL);
}

double load_rows(load *self, kiln_scheduler *scheduler, const one_request *request, double seconds)
{
    circle round = {self, request, scheduler, .outstanding = self->at_once};
    caller *callers = bench_allocate(self->at_once * sizeof *callers);
    for (size_t i = 0; i < self->at_once; i++) {
        callers[i].round = &round;
        callers[i].worst = 0;
        open_like(self, request, &callers[i].request);
    }
    for (size_t i = 0; i < self->at_once; i++) {
        if (!self->has_callers) {
            submit(&callers[i]);
        } else if (pthread_create(&callers[i].thread, NULL, call_again, &callers[i]) != 0) {
            exit(1);
        }
    }
    sleep_for(seconds / 2);
    const unsigned long long before = atomic_load(&round.answered);
    const double begin = bench_milliseconds();
    sleep_for(seconds);
    const unsigned long long answered = atomic_load(&round.answered) - before;
    const double took = (bench_milliseconds() - begin) / 1e3;
    atomic_store(&round.ends, true);
    while (atomic_load(&round.outstanding) != 0) {
        sleep_for(0.001);
    }
    for (size_t i = 0; i < self->at_once; i++) {
        if (self->has_callers) {
            (void)pthread_join(callers[i].thread, NULL);
        }
        feed_close(&callers[i].request.fed);
        self->worst = callers[i].worst <= self->worst ? self->worst : callers[i].worst;
    }
    free(callers);
    return (double)answered / took;
}

/* What it measured of itself, medians. */
void print_figures(kiln_scheduler *scheduler)
{
    static const char *const names[] = {"queue", "copy", "run", "total"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        kiln_histogram *times = NULL;
        kiln_histogram_summary found = {.struct_size = sizeof found};
        bench_require(kiln_histogram_create(&times));
        bench_require(kiln_scheduler_get_figure(scheduler, (kiln_scheduler_figure)i, times));
        bench_require(kiln_histogram_summarize(times, &found));
        (void)fprintf(stderr, " %s %.0f us", names[i], found.median / 1e3);
        kiln_histogram_destroy(times);
    }
}

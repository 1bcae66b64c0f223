/* SPDX-License-Identifier: Apache-2.0 */
/* Requests over engines that the mock plays: y = factor * x, in rows of numbers. */
#ifndef SCHEDULER_TEST_H
#define SCHEDULER_TEST_H

#include "kiln_test.h"

#define COLUMNS 4
#define MOST_RUNS 64
#define MOMENT UINT64_C(1)
#define HOUR (UINT64_C(3600) * 1000000000)

/* What the engine does, and what it was asked for. */
typedef struct play {
    float factor;
    float poison;        /* a run that meets it fails */
    int64_t more_rows;   /* than the input has */
    uint64_t fail_every; /* each run whose number this divides */
    bool holds;          /* runs wait until it is false */
    int waiting;         /* runs that do */
    int runs;
    int64_t rows[MOST_RUNS];
    float first[MOST_RUNS];
    pthread_mutex_t lock;
    pthread_cond_t changed;
} play;

#define PLAY_INIT                                                     \
    {                                                                 \
        .factor = 2, .poison = -1, .lock = PTHREAD_MUTEX_INITIALIZER, \
        .changed = PTHREAD_COND_INITIALIZER                           \
    }

static inline bool note_run(play *self, const kiln_tensor *x)
{
    const float *values = x->data;
    const int64_t rows = x->desc.shape.dims[0];
    bool poisoned = false;
    (void)pthread_mutex_lock(&self->lock);
    if (self->runs < MOST_RUNS) {
        self->rows[self->runs] = rows;
        self->first[self->runs] = values[0];
    }
    self->runs++;
    self->waiting++;
    (void)pthread_cond_broadcast(&self->changed);
    while (self->holds) {
        (void)pthread_cond_wait(&self->changed, &self->lock);
    }
    self->waiting--;
    (void)pthread_mutex_unlock(&self->lock);
    for (int64_t i = 0; i < rows; i++) {
        poisoned = poisoned || values[i * x->desc.shape.dims[1]] == self->poison;
    }
    return !poisoned;
}

static inline kiln_status run(void *user, kiln_mock_run *one, char message[1024])
{
    play *self = user;
    kiln_shape *shape = &one->outputs[0].desc.shape;
    if (!note_run(self, &one->inputs[0])) {
        (void)snprintf(message, 1024, "poison");
        return KILN_ERROR_BACKEND;
    }
    if (shape->rank == 2 && shape->dims[1] < one->inputs[0].desc.shape.dims[1]) {
        (void)snprintf(message, 1024, "no room");
        return KILN_ERROR_SHAPE;
    }
    const float *x = one->inputs[0].data;
    float *y = one->outputs[0].data;
    const int64_t count = one->inputs[0].desc.shape.dims[0] * one->inputs[0].desc.shape.dims[1];
    for (int64_t i = 0; i < count; i++) {
        y[i] = self->factor * x[i];
    }
    if (self->more_rows != 0) {
        shape->dims[0] -= self->more_rows;
    }
    return KILN_OK;
}

static inline kiln_engine *engine_of(play *self, int64_t rows, int64_t columns)
{
    kiln_binding x = {.struct_size = sizeof x,
                      .name = "x",
                      .is_input = true,
                      .dtype = KILN_DTYPE_FLOAT32,
                      .shape = KILN_SHAPE(rows, columns),
                      .dim_names = {"n", "c"}};
    kiln_binding y = x;
    y.name = "y";
    y.is_input = false;
    kiln_mock_options options =
        KILN_MOCK_OPTIONS(.inputs = &x, .input_count = 1, .outputs = &y, .output_count = 1,
                          .handler = run, .user = self, .fail_every = self->fail_every);
    return new_mock(&options);
}

static inline kiln_scheduler *scheduler_of(play *self, int64_t rows, kiln_schedule schedule,
                                           int64_t max_batch, uint64_t delay)
{
    owned_engine engine = engine_of(self, rows, KILN_DYNAMIC);
    kiln_scheduler_options options =
        KILN_SCHEDULER_OPTIONS(.schedule = schedule, .max_batch = max_batch,
                               .delay_nanoseconds = delay);
    return scheduler_on(&engine, 1, &options);
}

/* Of requests with any number of rows that wait for each other. */
static inline kiln_scheduler *joining(play *self, int64_t max_batch, uint64_t delay)
{
    return scheduler_of(self, KILN_DYNAMIC, KILN_SCHEDULE_THROUGHPUT, max_batch, delay);
}

/* One request's memory: all of its numbers are `value`. */
typedef struct rows_of {
    float x[8 * COLUMNS];
    float y[8 * COLUMNS];
    kiln_named_tensor input;
    kiln_named_tensor output;
} rows_of;

static inline rows_of *fill_rows(rows_of *self, int64_t rows, int64_t columns, float value)
{
    const size_t bytes = (size_t)(rows * columns) * sizeof(float);
    for (int64_t i = 0; i < rows * columns; i++) {
        self->x[i] = value;
        self->y[i] = -1;
    }
    self->input = (kiln_named_tensor){
        "x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(rows, columns), self->x, bytes)};
    self->output = (kiln_named_tensor){
        "y", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(rows, columns), self->y, bytes)};
    return self;
}

static inline kiln_request *submit(kiln_scheduler *scheduler, const rows_of *data, bool given,
                                   const kiln_request_options *options)
{
    kiln_request *request = NULL;
    assert_ok(
        kiln_scheduler_submit(scheduler, &data->input, 1, &data->output, given, options, &request));
    return request;
}

static inline void check_done(kiln_request *request, const rows_of *data, float factor)
{
    kiln_tensor y;
    assert_ok(kiln_request_wait(request, -1));
    assert_int_equal(kiln_request_get_state(request), KILN_REQUEST_DONE);
    assert_ok(kiln_request_output(request, "y", &y));
    assert_true(kiln_shape_equal(&y.desc.shape, &data->input.tensor.desc.shape));
    assert_int_equal(y.bytes, data->input.tensor.bytes);
    for (size_t i = 0; i < y.bytes / sizeof(float); i++) {
        assert_true(((const float *)y.data)[i] == factor * data->x[i]);
    }
    kiln_request_release(request);
}

static inline void hold(play *self, bool holds)
{
    (void)pthread_mutex_lock(&self->lock);
    self->holds = holds;
    (void)pthread_cond_broadcast(&self->changed);
    (void)pthread_mutex_unlock(&self->lock);
}

static inline void wait_for_runs(play *self, int waiting)
{
    (void)pthread_mutex_lock(&self->lock);
    while (self->waiting < waiting) {
        (void)pthread_cond_wait(&self->changed, &self->lock);
    }
    (void)pthread_mutex_unlock(&self->lock);
}

static inline kiln_scheduler_counters counted(kiln_scheduler *scheduler)
{
    const kiln_scheduler_counters counters = scheduler_counters(scheduler);
    assert_int_equal(counters.submitted, counters.done + counters.failed + counters.cancelled +
                                             counters.expired + counters.waiting +
                                             counters.running);
    return counters;
}

static inline void check_all(kiln_request *const *requests, const rows_of *data, int count)
{
    for (int i = 0; i < count; i++) {
        check_done(requests[i], &data[i], 2);
    }
}

/* What runs (`occupy`) comes to its end. */
static inline void let_go(play *self, kiln_request *running, const rows_of *data)
{
    hold(self, false);
    check_done(running, data, 2);
}

/* A request that runs until `hold(self, false)`. */
static inline kiln_request *occupy(play *self, kiln_scheduler *scheduler, const rows_of *data)
{
    kiln_request_options at_once = KILN_REQUEST_OPTIONS(.schedule = KILN_SCHEDULE_LATENCY);
    hold(self, true);
    kiln_request *request = submit(scheduler, data, true, &at_once);
    wait_for_runs(self, 1);
    assert_int_equal(kiln_request_get_state(request), KILN_REQUEST_RUNNING);
    return request;
}

#endif

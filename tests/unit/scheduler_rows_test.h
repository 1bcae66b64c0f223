/* SPDX-License-Identifier: Apache-2.0 */
/* Requests of rows that are large enough to travel to a GPU one by one. */
#ifndef SCHEDULER_ROWS_TEST_H
#define SCHEDULER_ROWS_TEST_H

#include "mock_gpu_test.h"
#include "scheduler/scheduler_parts.h"

enum { COLUMNS = 16384, MOST_ROWS = 8, CALLERS = 4 };

/* Of all elements, where the one of mock_gpu_test.h counts rows. */
static inline kiln_status compute_rows(void *user, kiln_mock_run *run, char message[1024])
{
    kiln_mock_run flat = *run;
    kiln_tensor x = run->inputs[0];
    x.desc.shape.dims[0] *= COLUMNS;
    flat.inputs = &x;
    return run_now(user, &flat, message);
}

static inline kiln_status enqueue_rows(void *user, kiln_mock_run *run, kiln_stream *stream,
                                       char message[1024])
{
    kiln_mock_run flat = *run;
    kiln_tensor x = run->inputs[0];
    x.desc.shape.dims[0] *= COLUMNS;
    flat.inputs = &x;
    return run_later(user, &flat, stream, message);
}

static kiln_mock_handler handler_of_rows = compute_rows;
static bool all_on_one_stream;

/* Of the mock's runs, which graphs repeat. */
static inline kiln_engine *make_row_engine(behaviour *how, int32_t device)
{
    const kiln_binding x =
        binding_of("x", KILN_DTYPE_FLOAT32, KILN_SHAPE(KILN_DYNAMIC, COLUMNS), "n");
    kiln_binding y = x;
    y.name = "y";
    kiln_mock_options mock = options_of(how);
    mock.handler = handler_of_rows;
    mock.enqueue = enqueue_rows;
    mock.inputs = &x;
    mock.input_count = 1;
    mock.outputs = &y;
    mock.output_count = 1;
    mock.device = device;
    mock.one_stream = all_on_one_stream;
    work_count = 0;
    return new_mock(&mock);
}

static inline kiln_scheduler *open_rows(behaviour *how, kiln_scheduler_options options,
                                        kiln_engine **engine)
{
    *engine = make_row_engine(how, 0);
    options.struct_size = sizeof options;
    options.max_batch = MOST_ROWS;
    options.contexts = options.contexts != 0 ? options.contexts : 1;
    return scheduler_on(engine, 1, &options);
}

/* A request whose memory is of one kind. */
typedef struct rows {
    kiln_buffer *buffers[2];
    kiln_named_tensor x, y;
    int64_t count;
} rows;

static inline void make_rows(rows *made, kiln_location location, int64_t count, float value)
{
    const kiln_shape shape = KILN_SHAPE(count, COLUMNS);
    const size_t bytes = (size_t)count * COLUMNS * sizeof(float);
    made->count = count;
    kiln_named_tensor *const sides[] = {&made->x, &made->y};
    for (size_t i = 0; i < 2; i++) {
        sides[i]->name = i == 0 ? "x" : "y";
        assert_ok(kiln_buffer_create(location, 0, bytes, &made->buffers[i]));
        assert_ok(
            kiln_buffer_tensor(made->buffers[i], 0, KILN_DTYPE_FLOAT32, &shape, &sides[i]->tensor));
    }
    float *x = made->x.tensor.data;
    for (int64_t i = 0; i < count * COLUMNS; i++) {
        x[i] = value + (float)(i % 1009);
    }
}

static inline void check_rows(const rows *made)
{
    const float *x = made->x.tensor.data;
    const float *y = made->y.tensor.data;
    for (int64_t i = 0; i < made->count * COLUMNS; i++) {
        assert_true(y[i] == 2 * x[i]);
    }
}

static inline void free_rows(rows *made)
{
    kiln_buffer_destroy(made->buffers[0]);
    kiln_buffer_destroy(made->buffers[1]);
}

/* All at once, so that they share batches; what each came to. */
static inline void run_together(kiln_scheduler *scheduler, rows *all, size_t count,
                                kiln_status expected)
{
    kiln_request *requests[CALLERS];
    for (size_t i = 0; i < count; i++) {
        assert_ok(kiln_scheduler_submit(scheduler, &all[i].x, 1, &all[i].y, 1, NULL, &requests[i]));
    }
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(kiln_request_wait(requests[i], -1), expected);
        kiln_request_release(requests[i]);
    }
}

#define GATHERS                                                             \
    (kiln_scheduler_options)                                                \
    {                                                                       \
        .schedule = KILN_SCHEDULE_THROUGHPUT, .delay_nanoseconds = 50000000 \
    }

static inline kiln_context_counters count_runs(const kiln_scheduler *scheduler)
{
    return counters_of(scheduler->pool->seats[0]->context);
}

#endif

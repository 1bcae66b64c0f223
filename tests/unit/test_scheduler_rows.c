/* SPDX-License-Identifier: Apache-2.0 */
/* Large rows of a batch go to a GPU one by one, from wherever requests have them. */
#include "mock_gpu_test.h"
#include "scheduler/scheduler_parts.h"

enum { COLUMNS = 16384, MOST_ROWS = 8, CALLERS = 4 };

/* Of all elements, where the one of mock_gpu_test.h counts rows. */
static kiln_status compute_rows(void *user, kiln_mock_run *run, char message[1024])
{
    kiln_mock_run flat = *run;
    kiln_tensor x = run->inputs[0];
    x.desc.shape.dims[0] *= COLUMNS;
    flat.inputs = &x;
    return run_now(user, &flat, message);
}

static kiln_status enqueue_rows(void *user, kiln_mock_run *run, kiln_stream *stream,
                                char message[1024])
{
    kiln_mock_run flat = *run;
    kiln_tensor x = run->inputs[0];
    x.desc.shape.dims[0] *= COLUMNS;
    flat.inputs = &x;
    return run_later(user, &flat, stream, message);
}

static kiln_mock_handler handler_of_rows = compute_rows;

/* Of the mock's runs, which graphs repeat. */
static kiln_engine *make_row_engine(behaviour *how, int32_t device)
{
    kiln_engine *engine = NULL;
    const kiln_binding x = {.struct_size = sizeof x,
                            .name = "x",
                            .dtype = KILN_DTYPE_FLOAT32,
                            .shape = KILN_SHAPE(KILN_DYNAMIC, COLUMNS),
                            .dim_names = {"n"}};
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
    work_count = 0;
    assert_ok(kiln_engine_create_mock(&mock, &engine));
    return engine;
}

static kiln_scheduler *open_rows(behaviour *how, kiln_scheduler_options options,
                                 kiln_engine **engine)
{
    kiln_scheduler *scheduler = NULL;
    *engine = make_row_engine(how, 0);
    options.struct_size = sizeof options;
    options.max_batch = MOST_ROWS;
    options.contexts = 1;
    assert_ok(kiln_scheduler_create(engine, 1, &options, &scheduler));
    return scheduler;
}

/* A request whose memory is of one kind. */
typedef struct rows {
    kiln_buffer *buffers[2];
    kiln_named_tensor x, y;
    int64_t count;
} rows;

static void make_rows(rows *made, kiln_location location, int64_t count, float value)
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

static void check_rows(const rows *made)
{
    const float *x = made->x.tensor.data;
    const float *y = made->y.tensor.data;
    for (int64_t i = 0; i < made->count * COLUMNS; i++) {
        assert_true(y[i] == 2 * x[i]);
    }
}

static void free_rows(rows *made)
{
    kiln_buffer_destroy(made->buffers[0]);
    kiln_buffer_destroy(made->buffers[1]);
}

/* All at once, so that they share batches; what each came to. */
static void run_together(kiln_scheduler *scheduler, rows *all, size_t count, kiln_status expected)
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

static kiln_context_counters count_runs(const kiln_scheduler *scheduler)
{
    kiln_context_counters found = {.struct_size = sizeof found};
    assert_ok(kiln_context_get_counters(scheduler->pool->seats[0]->context, &found));
    return found;
}

static void share_batches(void)
{
    static const struct {
        kiln_location places[CALLERS];
        int64_t counts[CALLERS];
        bool by_host; /* some go by way of the host's pinned memory */
    } cases[] = {
        {{KILN_LOCATION_PINNED, KILN_LOCATION_PINNED, KILN_LOCATION_PINNED, KILN_LOCATION_PINNED},
         {2, 2, 3, 1},
         false},
        {{KILN_LOCATION_PINNED, KILN_LOCATION_PINNED, KILN_LOCATION_PINNED, KILN_LOCATION_PINNED},
         {1, 1, 1, 2}, /* filled up with zeros */
         false},
        {{KILN_LOCATION_HOST, KILN_LOCATION_PINNED, KILN_LOCATION_MANAGED, KILN_LOCATION_HOST},
         {2, 2, 1, 1},
         true},
    };
    for (size_t c = 0; c < KLN_ARRAY_LENGTH(cases); c++) {
        behaviour how = {.drifts = false};
        owned_engine engine = NULL;
        owned_scheduler scheduler = open_rows(&how, GATHERS, &engine);
        rows all[CALLERS];
        for (size_t i = 0; i < CALLERS; i++) {
            make_rows(&all[i], cases[c].places[i], cases[c].counts[i], (float)i);
        }
        for (int round = 0; round < 4; round++) {
            run_together(scheduler, all, CALLERS, KILN_OK);
            for (size_t i = 0; i < CALLERS; i++) {
                check_rows(&all[i]);
                memset(all[i].y.tensor.data, 0, all[i].y.tensor.bytes);
            }
        }
        assert_int_equal(count_runs(scheduler).graphs, 1);
        assert_non_null(scheduler->pool->seats[0]->rows[0]);
        assert_int_equal(scheduler->pool->seats[0]->inputs[0] != NULL, cases[c].by_host);
        for (size_t i = 0; i < CALLERS; i++) {
            free_rows(&all[i]);
        }
    }
}

FAKE_TEST(rows_of_all_kinds_of_memory_share_a_batch)
{
    (void)state;
    const unsigned long before = calls("cuMemcpyBatchAsync");
    share_batches();
    assert_true(calls("cuMemcpyBatchAsync") >= before + 16);
}

FAKE_TEST(a_driver_that_knows_no_batches_of_copies_does_each)
{
    (void)state;
    const unsigned long before = calls("cuMemcpyBatchAsync");
    kln_cuda_close();
    set("KILN_CUDA_DRIVER", FAKE_CUDA_PLAIN);
    share_batches();
    assert_int_equal(calls("cuMemcpyBatchAsync"), before);
}

/* The requests of a batch that failed may free their memory: nothing reads it any more. */
FAKE_TEST(a_batch_that_fails_reads_its_rows_no_more)
{
    behaviour how = {.drifts = false};
    owned_engine engine = NULL;
    owned_scheduler scheduler = open_rows(&how, GATHERS, &engine);
    rows all[2];
    for (size_t i = 0; i < 2; i++) {
        make_rows(&all[i], KILN_LOCATION_PINNED, 4, (float)i);
    }
    run_together(scheduler, all, 2, KILN_OK);
    set("FAKE_CUDA_LOST", "719");
    run_together(scheduler, all, 2, KILN_ERROR_DEVICE);
    set("FAKE_CUDA_LOST", NULL);
    run_together(scheduler, all, 2, KILN_OK);
    check_rows(&all[1]);
    free_rows(&all[0]);
    free_rows(&all[1]);
}

/* Outputs that nobody has memory for lie in one block of pinned memory, which goes when the last of
 * those is released who see a part of it, and is used again. */
FAKE_TEST(outputs_are_shown_where_the_gpu_wrote_them)
{
    (void)state;
    behaviour how = {.drifts = false};
    owned_engine engine = NULL;
    owned_scheduler scheduler = open_rows(&how, GATHERS, &engine);
    unsigned long once = 0;
    rows all[2];
    for (size_t i = 0; i < 2; i++) {
        make_rows(&all[i], KILN_LOCATION_PINNED, 4, (float)i);
    }
    for (int round = 0; round < 30; round++) {
        kiln_request *requests[2];
        kiln_tensor seen[2];
        for (size_t i = 0; i < 2; i++) {
            assert_ok(kiln_scheduler_submit(scheduler, &all[i].x, 1, NULL, 0, NULL, &requests[i]));
        }
        for (size_t i = 0; i < 2; i++) {
            assert_ok(kiln_request_wait(requests[i], -1));
            assert_ok(kiln_request_output(requests[i], "y", &seen[i]));
            assert_int_equal(seen[i].desc.location, KILN_LOCATION_PINNED);
            memcpy(all[i].y.tensor.data, seen[i].data, seen[i].bytes);
            check_rows(&all[i]);
        }
        assert_ptr_equal((unsigned char *)seen[0].data + seen[0].bytes, seen[1].data);
        once = round == 0 ? fake_number("fake_cuda_bytes", "") : once;
        kiln_request_release(requests[0]);
        kiln_request_release(requests[1]);
    }
    /* The scheduler may be late to let the last one go; a graph has memory, too. */
    const unsigned long block = (unsigned long)MOST_ROWS * COLUMNS * sizeof(float);
    assert_true(fake_number("fake_cuda_bytes", "") <= once + 3 * block);
    assert_int_equal(count_runs(scheduler).graphs, 1);
    free_rows(&all[0]);
    free_rows(&all[1]);
}

/* Rows of the outputs are not those of the inputs: nothing is joined from then on. */
static kiln_status drop_a_row(void *user, kiln_mock_run *run, char message[1024])
{
    const kiln_status status = compute_rows(user, run, message);
    run->outputs[0].desc.shape.dims[0] = 1;
    return status;
}

FAKE_TEST(outputs_of_other_rows_end_the_joining)
{
    (void)state;
    behaviour how = {.drifts = false};
    owned_engine engine = NULL;
    const kiln_context_options plain = KILN_CONTEXT_OPTIONS(.graphs = KILN_GRAPH_OFF);
    kiln_scheduler_options options = GATHERS;
    options.context = &plain;
    handler_of_rows = drop_a_row;
    owned_scheduler scheduler = open_rows(&how, options, &engine);
    handler_of_rows = compute_rows;
    rows all[2];
    for (size_t i = 0; i < 2; i++) {
        make_rows(&all[i], KILN_LOCATION_PINNED, 1, (float)i);
    }
    for (int round = 0; round < 2; round++) {
        run_together(scheduler, all, 2, KILN_OK);
        check_rows(&all[0]);
        check_rows(&all[1]);
    }
    assert_true(scheduler->pool->seats[0]->unbound);
    assert_true(scheduler->apart);
    free_rows(&all[0]);
    free_rows(&all[1]);
}

/* One queue before two GPUs: a batch goes where a context is free, with its rows. */
FAKE_TEST(each_gpu_serves_its_part)
{
    (void)state;
    behaviour how = {.drifts = false};
    owned_engine first = make_row_engine(&how, 0);
    owned_engine second = make_row_engine(&how, 1);
    kiln_engine *const engines[] = {first, second};
    owned_scheduler scheduler = NULL;
    kiln_scheduler_options options = GATHERS;
    kiln_scheduler_engine_counters found[2];
    rows all[2];
    options.struct_size = sizeof options;
    options.max_batch = MOST_ROWS;
    options.contexts = 1;
    assert_ok(kiln_scheduler_create(engines, 2, &options, &scheduler));
    for (size_t i = 0; i < 2; i++) {
        make_rows(&all[i], KILN_LOCATION_PINNED, 4, (float)i);
    }
    for (size_t i = 0; i < 12; i++) {
        seat *other = scheduler->pool->seats[i % 3 == 0];
        other->busy = true; /* as if it had work */
        run_together(scheduler, all, 2, KILN_OK);
        check_rows(&all[0]);
        check_rows(&all[1]);
        other->busy = false;
    }
    for (size_t i = 0; i < 2; i++) {
        found[i] = (kiln_scheduler_engine_counters){.struct_size = sizeof found[i]};
        assert_ok(kiln_scheduler_get_engine_counters(scheduler, i, &found[i]));
        assert_int_equal(found[i].device, i);
        assert_int_equal(found[i].rows, found[i].batches * 8);
        assert_int_equal(found[i].running, 0);
        assert_true(found[i].run_nanoseconds > 0);
    }
    assert_int_equal(found[0].batches, 4);
    assert_int_equal(found[1].batches, 8);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT,
                 kiln_scheduler_get_engine_counters(scheduler, 2, &found[0]),
                 "index is 2, the scheduler has 2 engines");
    free_rows(&all[0]);
    free_rows(&all[1]);
}

/* --- many threads --- */

static kiln_scheduler *watched;

static kiln_status run_once_all_sleep(void *user, kiln_mock_run *run, char message[1024])
{
    const seat *at = watched->pool->seats[0];
    for (size_t i = 0; i < at->request_count;) {
        if (atomic_load(&at->requests[i]->sleepers) != 0) {
            i++;
        } else {
            (void)sched_yield();
        }
    }
    return compute_rows(user, run, message);
}

static void *run_and_wait(void *user)
{
    rows one;
    make_rows(&one, KILN_LOCATION_PINNED, 1, 7);
    assert_ok(kiln_scheduler_run(user, &one.x, 1, &one.y, 1, NULL));
    check_rows(&one);
    free_rows(&one);
    return NULL;
}

FAKE_TEST(many_who_sleep_are_woken_by_several_threads)
{
    (void)state;
    behaviour how = {.drifts = false};
    pthread_t threads[MOST_ROWS];
    owned_engine engine = NULL;
    const kiln_context_options plain = KILN_CONTEXT_OPTIONS(.graphs = KILN_GRAPH_OFF);
    handler_of_rows = run_once_all_sleep;
    owned_scheduler scheduler =
        open_rows(&how,
                  (kiln_scheduler_options){.schedule = KILN_SCHEDULE_THROUGHPUT,
                                           .delay_nanoseconds = UINT64_C(60000000000),
                                           .context = &plain},
                  &engine);
    handler_of_rows = compute_rows;
    watched = scheduler;
    for (size_t i = 0; i < MOST_ROWS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, run_and_wait, scheduler), 0);
    }
    for (size_t i = 0; i < MOST_ROWS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_true(scheduler->crew.started);
    assert_ok(kiln_scheduler_drain(scheduler, -1)); /* when all were told */
}

/* --- all at once --- */

typedef struct wanderer {
    kiln_scheduler *scheduler;
    unsigned seed;
    unsigned long count;
} wanderer;

static void run_one(kiln_scheduler *scheduler, rows *all, unsigned chance)
{
    rows *one = &all[chance % 2];
    const bool given = chance & 2;
    kiln_request *request = NULL;
    kiln_tensor seen = one->y.tensor;
    memset(one->y.tensor.data, 0, one->y.tensor.bytes);
    assert_ok(kiln_scheduler_submit(scheduler, &one->x, 1, given ? &one->y : NULL, given, NULL,
                                    &request));
    if ((chance & 28) == 0) {
        const kiln_status cancelled = kiln_request_cancel(request);
        assert_true(cancelled == KILN_OK || cancelled == KILN_ERROR_STATE);
    }
    const kiln_status status = kiln_request_wait(request, -1);
    assert_true(status == KILN_OK || status == KILN_ERROR_CANCELLED);
    if (status == KILN_OK) {
        assert_ok(kiln_request_output(request, "y", &seen));
        if (!given) {
            memcpy(one->y.tensor.data, seen.data, seen.bytes);
        }
        check_rows(one);
    }
    kiln_request_release(request);
}

static void *wander(void *user)
{
    wanderer *self = user;
    rows all[2];
    make_rows(&all[0], KILN_LOCATION_HOST, 1 + self->seed % 3, (float)self->seed);
    make_rows(&all[1], KILN_LOCATION_PINNED, 1 + self->seed % 3, (float)self->seed + 1);
    for (unsigned long i = 0; i < self->count; i++) {
        self->seed = self->seed * 1664525U + 1013904223U;
        run_one(self->scheduler, all, self->seed >> 16);
    }
    free_rows(&all[0]);
    free_rows(&all[1]);
    return NULL;
}

static void wander_together(kiln_scheduler *scheduler, unsigned long count)
{
    enum { THREADS = 6 };
    pthread_t threads[THREADS];
    wanderer all[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        all[i] = (wanderer){scheduler, i, count / THREADS};
        assert_int_equal(pthread_create(&threads[i], NULL, wander, &all[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
}

/* KILN_SOAK_REQUESTS of the environment: how many, 240 without. */
FAKE_TEST(memory_stays_flat_whatever_comes)
{
    (void)state;
    behaviour how = {.drifts = false};
    owned_engine engine = NULL;
    const char *asked = getenv("KILN_SOAK_REQUESTS");
    const unsigned long count = asked != NULL ? strtoul(asked, NULL, 10) : 240;
    kiln_scheduler_options options = GATHERS;
    options.delay_nanoseconds = 300000;
    owned_scheduler scheduler = open_rows(&how, options, &engine);
    kiln_scheduler_counters counters = {.struct_size = sizeof counters};
    wander_together(scheduler, count / 2);
    const unsigned long bytes = fake_number("fake_cuda_bytes", "");
    wander_together(scheduler, count / 2);
    const unsigned long block = (unsigned long)MOST_ROWS * COLUMNS * sizeof(float);
    assert_true(fake_number("fake_cuda_bytes", "") <= bytes + 6 * block);
    assert_ok(kiln_scheduler_get_counters(scheduler, &counters));
    assert_int_equal(counters.submitted, count / 2 / 6 * 12);
    assert_int_equal(counters.done + counters.cancelled, counters.submitted);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What a scheduler once got wrong: shapes that nobody expected, ends that came too early. */
#include <sys/wait.h>

#include "graph_maker.h"
#include "scheduler_test.h"

static kiln_scheduler *scheduler_with(kiln_engine *engine, kiln_scheduler_options options)
{
    options.struct_size = sizeof options;
    return scheduler_on(&engine, 1, &options);
}

/* --- outputs of other shapes --- */

TEST(a_result_larger_than_its_memory_is_not_written)
{
    play self = PLAY_INIT;
    owned_scheduler scheduler = joining(&self, 8, MOMENT);
    rows_of first;
    rows_of small;
    rows_of other;
    kiln_request *running = occupy(&self, scheduler, fill_rows(&first, 1, COLUMNS, 9));
    fill_rows(&small, 1, COLUMNS, 1);
    small.output.tensor.desc.shape = KILN_SHAPE(1, 2);
    small.output.tensor.bytes = 2 * sizeof(float);
    owned_request refused = submit(scheduler, &small, true, NULL);
    kiln_request *good = submit(scheduler, fill_rows(&other, 1, COLUMNS, 2), false, NULL);
    let_go(&self, running, &first);
    check_done(good, &other, 2);
    assert_status(KILN_ERROR_SHAPE, kiln_request_wait(refused, -1));
    assert_true(small.y[2] == -1 && small.y[3] == -1);
    assert_int_equal(counted(scheduler).retried, 1);
}

TEST(rows_of_an_inner_axis_are_taken_out_of_a_padded_run)
{
    play self = PLAY_INIT;
    static const int64_t four = 4;
    owned_engine engine = engine_of(&self, 2, KILN_DYNAMIC);
    owned_scheduler scheduler = scheduler_with(
        engine,
        (kiln_scheduler_options){.batch_axis = 1, .batch_sizes = &four, .batch_size_count = 1});
    rows_of data[2];
    for (int round = 0; round < 2; round++) {
        kiln_request *requests[2];
        rows_of first;
        kiln_request *running = occupy(&self, scheduler, fill_rows(&first, 2, 1, 9));
        for (int i = 0; i <= round; i++) {
            fill_rows(&data[i], 2, 1 + i, 1);
            for (int k = 0; k < 2 + 2 * i; k++) {
                data[i].x[k] = (float)(10 * i + k);
            }
            requests[i] = submit(scheduler, &data[i], false, NULL);
        }
        let_go(&self, running, &first);
        check_all(requests, data, round + 1);
    }
}

TEST(a_padded_request_whose_output_has_no_rows_runs_as_it_is)
{
    play self = PLAY_INIT;
    static const int64_t four = 4;
    self.more_rows = 1;
    owned_engine engine = engine_of(&self, KILN_DYNAMIC, COLUMNS);
    owned_scheduler scheduler = scheduler_with(
        engine, (kiln_scheduler_options){.batch_sizes = &four, .batch_size_count = 1});
    rows_of data;
    owned_request request = submit(scheduler, fill_rows(&data, 2, COLUMNS, 3), false, NULL);
    kiln_tensor y;
    assert_ok(kiln_request_wait(request, -1));
    assert_ok(kiln_request_output(request, "y", &y));
    assert_true(y.desc.shape.dims[0] == 1 && ((const float *)y.data)[0] == 6);
}

/* A model whose output has as many rows as it finds different numbers. */
TEST(outputs_may_have_other_rows_than_inputs)
{
    kiln_build_options options = KILN_BUILD_OPTIONS(.backend = "reference");
    owned_engine engine =
        built_bytes(made_model(17, "in x float32[n]; y=Unique(x); out y float32[m]"), &options);
    owned_scheduler scheduler = scheduler_with(
        engine, (kiln_scheduler_options){.schedule = KILN_SCHEDULE_THROUGHPUT, .max_batch = 8});
    float x[] = {1, 2, 2, 1};
    const kiln_named_tensor input = {
        "x", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(4), x, sizeof x)};
    for (int round = 0; round < 2; round++) {
        kiln_request *requests[2] = {NULL, NULL};
        for (int i = 0; i < 2; i++) {
            assert_ok(kiln_scheduler_submit(scheduler, &input, 1, NULL, 0, NULL, &requests[i]));
        }
        for (int i = 0; i < 2; i++) {
            kiln_tensor y;
            assert_ok(kiln_request_wait(requests[i], -1));
            assert_ok(kiln_request_output(requests[i], "y", &y));
            assert_int_equal(y.desc.shape.dims[0], 2);
            assert_true(((const float *)y.data)[0] == 1 && ((const float *)y.data)[1] == 2);
            kiln_request_release(requests[i]);
        }
    }
}

/* --- a warmup --- */

TEST(a_warmup_fills_up_what_no_request_brings)
{
    play self = PLAY_INIT;
    static const int64_t eight = 8;
    self.poison = 0; /* which is what it is filled up with */
    owned_engine engine = engine_of(&self, KILN_DYNAMIC, COLUMNS);
    owned_scheduler scheduler = scheduler_with(
        engine,
        (kiln_scheduler_options){.max_batch = 2, .batch_sizes = &eight, .batch_size_count = 1});
    rows_of data;
    fill_rows(&data, 1, COLUMNS, 1);
    assert_status(KILN_ERROR_BACKEND, kiln_scheduler_warmup(scheduler, &data.input, 1, 0));
    self.poison = -1;
    assert_ok(kiln_scheduler_warmup(scheduler, &data.input, 1, 0));
    assert_int_equal(self.rows[1], 8);
}

/* --- time --- */

TEST(a_deadline_that_is_over_is_kept)
{
    play self = PLAY_INIT;
    owned_scheduler scheduler = scheduler_of(&self, KILN_DYNAMIC, KILN_SCHEDULE_LATENCY, 4, MOMENT);
    rows_of data;
    kiln_request_options late = KILN_REQUEST_OPTIONS(.deadline_nanoseconds = 1);
    fill_rows(&data, 1, COLUMNS, 1);
    for (int i = 0; i < 50; i++) {
        assert_status(KILN_ERROR_TIMEOUT,
                      kiln_scheduler_run(scheduler, &data.input, 1, &data.output, 1, &late));
        owned_request request = submit(scheduler, &data, true, &late);
        check_done(submit(scheduler, &data, true, NULL), &data, 2);
        assert_status(KILN_ERROR_TIMEOUT, kiln_request_wait(request, -1));
    }
    assert_int_equal(self.runs, 50);
    assert_int_equal(counted(scheduler).expired, 100);
}

TEST(a_delay_without_end_is_long)
{
    play self = PLAY_INIT;
    owned_scheduler scheduler = joining(&self, 2, UINT64_MAX);
    rows_of data[2];
    kiln_request *one = submit(scheduler, fill_rows(&data[0], 1, COLUMNS, 1), false, NULL);
    assert_status(KILN_ERROR_BUSY, kiln_request_wait(one, 20));
    kiln_request *other = submit(scheduler, fill_rows(&data[1], 1, COLUMNS, 2), false, NULL);
    check_done(one, &data[0], 2);
    check_done(other, &data[1], 2);
    assert_int_equal(self.runs, 1);
}

TEST(a_full_batch_waits_for_no_other_kind)
{
    play self = PLAY_INIT;
    owned_scheduler scheduler = joining(&self, 4, HOUR);
    rows_of odd;
    rows_of data[4];
    kiln_request *requests[4];
    owned_request alone = submit(scheduler, fill_rows(&odd, 1, 3, 1), false, NULL);
    for (int i = 0; i < 4; i++) {
        requests[i] = submit(scheduler, fill_rows(&data[i], 1, COLUMNS, (float)i), false, NULL);
    }
    for (int i = 0; i < 4; i++) {
        assert_ok(kiln_request_wait(requests[i], 10000));
        check_done(requests[i], &data[i], 2);
    }
    assert_int_equal(kiln_request_get_state(alone), KILN_REQUEST_WAITING);
}

/* --- the end --- */

static void answer_slowly(void *user, kiln_request *request)
{
    (void)usleep(30000);
    (*(int *)user)++;
    kiln_request_release(request);
}

TEST(what_is_drained_was_called_back)
{
    play self = PLAY_INIT;
    for (int stops = 0; stops < 2; stops++) {
        owned_scheduler scheduler =
            scheduler_of(&self, KILN_DYNAMIC, KILN_SCHEDULE_LATENCY, 4, MOMENT);
        rows_of data;
        int answers = 0;
        kiln_request_options told =
            KILN_REQUEST_OPTIONS(.answered = answer_slowly, .user = &answers);
        fill_rows(&data, 1, COLUMNS, 1);
        (void)submit(scheduler, &data, true, &told);
        assert_ok(stops ? kiln_scheduler_stop(scheduler) : kiln_scheduler_drain(scheduler, -1));
        assert_int_equal(answers, 1);
    }
}

/* In the child the threads are missing, and a lock may be held for good. */
static int use_in_a_child(kiln_scheduler *scheduler, kiln_request *running, const rows_of *data)
{
    kiln_request *request = NULL;
    kiln_engine *none = NULL;
    int event = -1;
    kiln_scheduler_counters counters = {.struct_size = sizeof counters};
    const kiln_status states[] = {
        kiln_scheduler_submit(scheduler, &data->input, 1, NULL, 0, NULL, &request),
        kiln_scheduler_run(scheduler, &data->input, 1, &data->output, 1, NULL),
        kiln_scheduler_warmup(scheduler, &data->input, 1, 0),
        kiln_scheduler_replace(scheduler, &none, 1),
        kiln_scheduler_drain(scheduler, 1),
        kiln_scheduler_stop(scheduler),
        kiln_scheduler_next(scheduler, &request),
        kiln_scheduler_event(scheduler, &event),
        kiln_scheduler_get_counters(scheduler, &counters),
        kiln_request_cancel(running),
        kiln_request_wait(running, -1)};
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        if (states[i] != KILN_ERROR_STATE) {
            return (int)i + 1;
        }
    }
    kiln_request_release(running);
    kiln_scheduler_destroy(scheduler);
    return 0;
}

TEST(a_fork_leaves_it_to_the_parent)
{
    play self = PLAY_INIT;
    owned_scheduler scheduler = scheduler_of(&self, KILN_DYNAMIC, KILN_SCHEDULE_LATENCY, 4, MOMENT);
    rows_of data;
    int ended = 0;
    kiln_request *running = occupy(&self, scheduler, fill_rows(&data, 1, COLUMNS, 1));
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)alarm(10);
        _exit(use_in_a_child(scheduler, running, &data));
    }
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_true(WIFEXITED(ended));
    assert_int_equal(WEXITSTATUS(ended), 0);
    let_go(&self, running, &data);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of a request: batches, order, ends, and who is told. */
#include <poll.h>

#include "scheduler_test.h"

/* --- runs --- */

TEST(one_request_runs_in_the_callers_memory)
{
    play self = PLAY_INIT;
    owned_scheduler scheduler = scheduler_of(&self, KILN_DYNAMIC, KILN_SCHEDULE_LATENCY, 0, MOMENT);
    rows_of data;
    for (int i = 0; i < 10; i++) {
        fill_rows(&data, 1 + i % 8, COLUMNS, (float)i);
        assert_ok(kiln_scheduler_run(scheduler, &data.input, 1, &data.output, 1, NULL));
        assert_true(data.y[0] == 2 * (float)i && data.y[(1 + i % 8) * COLUMNS - 1] == 2 * (float)i);
    }
    check_done(submit(scheduler, &data, false, NULL), &data, 2);
    check_done(submit(scheduler, &data, true, NULL), &data, 2);
    const kiln_scheduler_counters counters = counted(scheduler);
    assert_true(counters.done == 12 && counters.batches == 12 && counters.padding == 0);
    assert_int_equal(counters.max_batch, 32);
}

TEST(run_here_runs_in_the_thread_that_submits)
{
    play self = PLAY_INIT;
    owned_scheduler scheduler = scheduler_of(&self, KILN_DYNAMIC, KILN_SCHEDULE_LATENCY, 0, MOMENT);
    kiln_request_options here = KILN_REQUEST_OPTIONS_INIT;
    rows_of data;
    rows_of other;
    here.run_here = true;
    for (int i = 0; i < 10; i++) {
        kiln_request *request = submit(scheduler, fill_rows(&data, 1, COLUMNS, 3), false, &here);
        assert_int_equal(kiln_request_get_state(request), KILN_REQUEST_DONE);
        check_done(request, &data, 2);
    }
    /* With no context free it waits like any other. */
    kiln_request *running = occupy(&self, scheduler, fill_rows(&other, 1, COLUMNS, 9));
    kiln_request *request = submit(scheduler, fill_rows(&data, 1, COLUMNS, 3), false, &here);
    assert_int_equal(kiln_request_get_state(request), KILN_REQUEST_WAITING);
    let_go(&self, running, &other);
    check_done(request, &data, 2);
    assert_int_equal(counted(scheduler).done, 12);
}

TEST(what_waits_shares_a_batch)
{
    play self = PLAY_INIT;
    owned_scheduler scheduler = joining(&self, 8, MOMENT);
    rows_of data[6];
    kiln_request *requests[6];
    rows_of first;
    kiln_request *running = occupy(&self, scheduler, fill_rows(&first, 1, COLUMNS, 9));
    /* 1 + 2 + 1 + 2 + 1 rows, the last with memory of its own, and one that is not like them. */
    for (int i = 0; i < 6; i++) {
        fill_rows(&data[i], 1 + i % 2, i == 5 ? 3 : COLUMNS, (float)(i + 1));
        requests[i] = submit(scheduler, &data[i], i == 4, NULL);
    }
    let_go(&self, running, &first);
    check_all(requests, data, 6);
    assert_true(data[4].y[0] == 10 && data[0].y[0] == -1);
    assert_int_equal(self.runs, 3);
    assert_int_equal(self.rows[1], 7);
    assert_int_equal(self.rows[2], 2);
    const kiln_scheduler_counters counters = counted(scheduler);
    assert_true(counters.batches == 3 && counters.rows == 10 && counters.done == 7);
}

TEST(requests_are_joined_to_so_many_rows)
{
    play self = PLAY_INIT;
    owned_engine engine = engine_of(&self, KILN_DYNAMIC, COLUMNS);
    kiln_scheduler_options options = KILN_SCHEDULER_OPTIONS_INIT;
    rows_of first;
    rows_of data[6];
    kiln_request *requests[6];
    options.max_batch = 8;
    options.join_rows = 2;
    owned_scheduler scheduler = scheduler_on(&engine, 1, &options);
    kiln_request *running = occupy(&self, scheduler, fill_rows(&first, 1, COLUMNS, 9));
    for (int i = 0; i < 6; i++) { /* 1, 1, 1, 1, then 7 and 1 that are not joined */
        fill_rows(&data[i], i == 4 ? 7 : 1, COLUMNS, (float)i);
        requests[i] = submit(scheduler, &data[i], false, NULL);
    }
    let_go(&self, running, &first);
    check_all(requests, data, 6);
    assert_int_equal(self.runs, 5);
    assert_true(self.rows[1] == 2 && self.rows[2] == 2 && self.rows[3] == 7 && self.rows[4] == 1);
    options.join_rows = -1;
    kiln_scheduler *none = NULL;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_scheduler_create(&engine, 1, &options, &none),
                 "join_rows is -1");
}

TEST(a_full_batch_does_not_wait)
{
    play self = PLAY_INIT;
    owned_engine engine = engine_of(&self, KILN_DYNAMIC, COLUMNS);
    rows_of data[4];
    kiln_request *requests[4];
    kiln_scheduler_options options =
        KILN_SCHEDULER_OPTIONS(.schedule = KILN_SCHEDULE_THROUGHPUT, .max_batch = 4,
                               .delay_nanoseconds = HOUR);
    owned_scheduler scheduler = scheduler_on(&engine, 1, &options);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 4; i++) {
            requests[i] = submit(scheduler, fill_rows(&data[i], 1, COLUMNS, (float)i), false, NULL);
        }
        check_all(requests, data, 4);
    }
    assert_int_equal(self.runs, 20);
    /* And what is urgent waits for none, but takes those with it that are there. */
    kiln_request_options urgent = KILN_REQUEST_OPTIONS(.schedule = KILN_SCHEDULE_LATENCY);
    requests[0] = submit(scheduler, fill_rows(&data[0], 1, COLUMNS, 5), false, NULL);
    requests[1] = submit(scheduler, fill_rows(&data[1], 1, COLUMNS, 6), false, &urgent);
    check_done(requests[0], &data[0], 2);
    check_done(requests[1], &data[1], 2);
    assert_int_equal(self.rows[20], 2);
}

TEST(a_fixed_batch_is_filled_up)
{
    play self = PLAY_INIT;
    owned_scheduler scheduler = scheduler_of(&self, 8, KILN_SCHEDULE_LATENCY, 0, MOMENT);
    rows_of data;
    for (int64_t rows = 1; rows <= 8; rows++) {
        fill_rows(&data, rows, COLUMNS, 3);
        check_done(submit(scheduler, &data, rows % 2 == 0, NULL), &data, 2);
        assert_int_equal(self.rows[rows - 1], 8);
    }
    assert_int_equal(counted(scheduler).padding, 28);
    assert_int_equal(counted(scheduler).max_batch, 8);
}

TEST(sizes_of_batches_can_be_stated)
{
    play self = PLAY_INIT;
    static const int64_t sizes[] = {2, 5};
    owned_engine engine = engine_of(&self, KILN_DYNAMIC, COLUMNS);
    rows_of data;
    kiln_scheduler_options options =
        KILN_SCHEDULER_OPTIONS(.batch_sizes = sizes, .batch_size_count = 2);
    owned_scheduler scheduler = scheduler_on(&engine, 1, &options);
    for (int64_t rows = 1; rows <= 5; rows++) {
        check_done(submit(scheduler, fill_rows(&data, rows, COLUMNS, 3), false, NULL), &data, 2);
        assert_int_equal(self.rows[rows - 1], rows <= 2 ? 2 : 5);
    }
    owned_request request = NULL;
    fill_rows(&data, 6, COLUMNS, 3);
    assert_fails(KILN_ERROR_LIMIT,
                 kiln_scheduler_submit(scheduler, &data.input, 1, NULL, 0, NULL, &request),
                 "a request has 6 rows; 1 to 5");
}

/* --- order --- */

TEST(the_first_to_be_served_is_of_the_highest_priority)
{
    play self = PLAY_INIT;
    owned_scheduler scheduler = scheduler_of(&self, KILN_DYNAMIC, KILN_SCHEDULE_LATENCY, 1, MOMENT);
    static const int32_t priorities[] = {0, 3, 0, KILN_MAX_PRIORITY, 3};
    static const float order[] = {9, 3, 1, 4, 0, 2};
    rows_of data[5];
    rows_of first;
    kiln_request *requests[5];
    kiln_request *running = occupy(&self, scheduler, fill_rows(&first, 1, COLUMNS, 9));
    for (int i = 0; i < 5; i++) {
        kiln_request_options options = KILN_REQUEST_OPTIONS(.priority = priorities[i]);
        requests[i] = submit(scheduler, fill_rows(&data[i], 1, COLUMNS, (float)i), true, &options);
    }
    assert_int_equal(counted(scheduler).waiting, 5);
    let_go(&self, running, &first);
    check_all(requests, data, 5);
    for (int i = 0; i < 6; i++) {
        assert_true(self.first[i] == order[i]);
    }
}

/* --- the other ends of a request --- */

TEST(a_deadline_ends_a_request_that_waits)
{
    play self = PLAY_INIT;
    owned_scheduler scheduler = scheduler_of(&self, KILN_DYNAMIC, KILN_SCHEDULE_LATENCY, 1, MOMENT);
    rows_of data;
    rows_of first;
    kiln_request *running = occupy(&self, scheduler, fill_rows(&first, 1, COLUMNS, 9));
    kiln_request *late[20];
    for (int i = 0; i < 20; i++) {
        kiln_request_options options =
            KILN_REQUEST_OPTIONS(.deadline_nanoseconds =
                                     kiln_clock_now() + (uint64_t)(i * 7 % 20) * 500000);
        late[i] = submit(scheduler, fill_rows(&data, 1, COLUMNS, 1), false, &options);
    }
    for (int i = 0; i < 20; i++) {
        assert_fails(KILN_ERROR_TIMEOUT, kiln_request_wait(late[i], -1),
                     "did not run by its deadline");
        assert_int_equal(kiln_request_get_state(late[i]), KILN_REQUEST_EXPIRED);
        kiln_request_release(late[i]);
    }
    let_go(&self, running, &first);
    kiln_request_options options =
        KILN_REQUEST_OPTIONS(.deadline_nanoseconds = kiln_clock_now() + HOUR);
    check_done(submit(scheduler, &first, true, &options), &first, 2);
    const kiln_scheduler_counters counters = counted(scheduler);
    assert_true(counters.expired == 20 && counters.done == 2);
}

TEST(a_request_can_be_cancelled)
{
    play self = PLAY_INIT;
    owned_scheduler scheduler = scheduler_of(&self, KILN_DYNAMIC, KILN_SCHEDULE_LATENCY, 1, MOMENT);
    rows_of data;
    rows_of first;
    owned_request running = occupy(&self, scheduler, fill_rows(&first, 1, COLUMNS, 9));
    owned_request waiting = submit(scheduler, fill_rows(&data, 1, COLUMNS, 1), false, NULL);
    assert_status(KILN_ERROR_BUSY, kiln_request_wait(waiting, 0));
    assert_ok(kiln_request_cancel(waiting));
    assert_fails(KILN_ERROR_CANCELLED, kiln_request_wait(waiting, -1), "cancelled while it waited");
    assert_status(KILN_ERROR_STATE, kiln_request_cancel(waiting));
    kiln_tensor y;
    assert_status(KILN_ERROR_STATE, kiln_request_output(waiting, "y", &y));
    assert_ok(kiln_request_cancel(running));
    assert_int_equal(kiln_request_get_state(running), KILN_REQUEST_RUNNING);
    hold(&self, false);
    assert_fails(KILN_ERROR_CANCELLED, kiln_request_wait(running, -1), "cancelled while it ran");
    assert_int_equal(counted(scheduler).cancelled, 2);
}

TEST(one_bad_request_spoils_no_other)
{
    play self = PLAY_INIT;
    self.poison = 3;
    owned_scheduler scheduler = joining(&self, 8, MOMENT);
    rows_of data[6];
    rows_of first;
    kiln_request *requests[6];
    kiln_request *running = occupy(&self, scheduler, fill_rows(&first, 1, COLUMNS, 9));
    for (int i = 0; i < 6; i++) {
        requests[i] =
            submit(scheduler, fill_rows(&data[i], 1, COLUMNS, (float)i), i % 2 == 0, NULL);
    }
    let_go(&self, running, &first);
    for (int i = 0; i < 6; i++) {
        if (i != 3) {
            check_done(requests[i], &data[i], 2);
        }
    }
    assert_fails(KILN_ERROR_BACKEND, kiln_request_wait(requests[3], -1), "poison");
    kiln_request_release(requests[3]);
    const kiln_scheduler_counters counters = counted(scheduler);
    assert_true(counters.failed == 1 && counters.done == 6 && counters.retried == 1);
    assert_int_equal(counters.batches, 8);
}

TEST(outputs_without_rows_are_not_taken_apart)
{
    play self = PLAY_INIT;
    self.more_rows = 1; /* fewer, in fact */
    owned_scheduler scheduler = joining(&self, 8, MOMENT);
    rows_of data[3];
    rows_of first;
    kiln_request *requests[3];
    for (int round = 0; round < 2; round++) {
        owned_request running = occupy(&self, scheduler, fill_rows(&first, 2, COLUMNS, 9));
        for (int i = 0; i < 3; i++) {
            requests[i] = submit(scheduler, fill_rows(&data[i], 2, COLUMNS, (float)i), false, NULL);
        }
        hold(&self, false);
        for (int i = 0; i < 3; i++) {
            kiln_tensor y;
            assert_ok(kiln_request_wait(requests[i], -1));
            assert_ok(kiln_request_output(requests[i], "y", &y));
            assert_int_equal(y.desc.shape.dims[0], 1);
            assert_true(((const float *)y.data)[0] == 2 * (float)i);
            kiln_request_release(requests[i]);
        }
        assert_int_equal(counted(scheduler).retried, 1);
    }
}

TEST(a_queue_has_an_end)
{
    play self = PLAY_INIT;
    owned_engine engine = engine_of(&self, KILN_DYNAMIC, COLUMNS);
    rows_of data;
    kiln_scheduler_options options = KILN_SCHEDULER_OPTIONS(.queue_limit = 3, .max_batch = 1);
    owned_scheduler scheduler = scheduler_on(&engine, 1, &options);
    kiln_request *requests[4] = {occupy(&self, scheduler, fill_rows(&data, 1, COLUMNS, 1))};
    for (int i = 1; i < 4; i++) {
        requests[i] = submit(scheduler, &data, false, NULL);
    }
    kiln_request *refused = NULL;
    assert_fails(KILN_ERROR_QUEUE_FULL,
                 kiln_scheduler_submit(scheduler, &data.input, 1, NULL, 0, NULL, &refused),
                 "3 requests wait already");
    assert_null(refused);
    assert_fails(KILN_ERROR_BUSY, kiln_scheduler_drain(scheduler, 1),
                 "4 requests are not answered");
    assert_status(KILN_ERROR_STATE,
                  kiln_scheduler_run(scheduler, &data.input, 1, &data.output, 1, NULL));
    hold(&self, false);
    assert_ok(kiln_scheduler_drain(scheduler, -1));
    for (int i = 0; i < 4; i++) {
        check_done(requests[i], &data, 2);
    }
    const kiln_scheduler_counters counters = counted(scheduler);
    assert_true(counters.refused == 2 && counters.done == 4);
}

TEST(a_stop_cancels_what_waits)
{
    play self = PLAY_INIT;
    kiln_scheduler *scheduler = joining(&self, 8, MOMENT);
    rows_of data;
    kiln_scheduler_counters counters;
    owned_request waiting = NULL;
    kiln_request_options late =
        KILN_REQUEST_OPTIONS(.deadline_nanoseconds = kiln_clock_now() + HOUR);
    kiln_request *running = occupy(&self, scheduler, fill_rows(&data, 1, COLUMNS, 1));
    waiting = submit(scheduler, &data, false, &late);
    hold(&self, false);
    assert_ok(kiln_scheduler_stop(scheduler));
    counters = counted(scheduler);
    assert_true(counters.waiting == 0 && counters.running == 0);
    kiln_scheduler_destroy(scheduler);
    /* What was answered outlives it. */
    check_done(running, &data, 2);
    assert_true(kiln_request_get_state(waiting) == KILN_REQUEST_CANCELLED ||
                kiln_request_get_state(waiting) == KILN_REQUEST_DONE);
}

/* --- being told --- */

static void count_answer(void *user, kiln_request *request)
{
    int *answers = user;
    assert_true(kiln_request_get_state(request) >= KILN_REQUEST_DONE);
    (*answers)++;
    kiln_request_release(request);
}

TEST(answers_are_called_back_and_collected)
{
    play self = PLAY_INIT;
    owned_scheduler scheduler = scheduler_of(&self, KILN_DYNAMIC, KILN_SCHEDULE_LATENCY, 1, MOMENT);
    rows_of data;
    int answers = 0;
    int event = -1;
    kiln_request_options told = KILN_REQUEST_OPTIONS(.answered = count_answer, .user = &answers);
    fill_rows(&data, 1, COLUMNS, 4);
    for (int i = 0; i < 5; i++) {
        (void)submit(scheduler, &data, false, &told); /* released when it is answered */
    }
    kiln_request_options collected = KILN_REQUEST_OPTIONS(.collect = true);
    assert_ok(kiln_scheduler_event(scheduler, &event));
    for (int i = 0; i < 3; i++) {
        kiln_request_release(submit(scheduler, &data, false, &collected));
    }
    for (int found = 0; found < 3;) {
        struct pollfd wait = {.fd = event, .events = POLLIN};
        uint64_t number = 0;
        kiln_request *request = NULL;
        assert_int_equal(poll(&wait, 1, 10000), 1);
        assert_int_equal(read(event, &number, sizeof number), sizeof number);
        while (kiln_scheduler_next(scheduler, &request) == KILN_OK && request != NULL) {
            check_done(request, &data, 2);
            found++;
        }
    }
    assert_ok(kiln_scheduler_stop(scheduler));
    assert_int_equal(answers, 5);
}

TEST(figures_are_of_every_request)
{
    play self = PLAY_INIT;
    owned_scheduler scheduler = joining(&self, 8, HOUR);
    rows_of data;
    kiln_request *requests[8];
    for (int i = 0; i < 8; i++) {
        requests[i] = submit(scheduler, fill_rows(&data, 1, COLUMNS, 1), false, NULL);
    }
    for (int i = 0; i < 8; i++) {
        check_done(requests[i], &data, 2);
    }
    for (int figure = 0; figure <= KILN_SCHEDULER_BATCH_ROWS; figure++) {
        owned_histogram histogram = NULL;
        kiln_histogram_summary found = {.struct_size = sizeof found};
        assert_ok(kiln_histogram_create(&histogram));
        assert_ok(kiln_scheduler_get_figure(scheduler, (kiln_scheduler_figure)figure, histogram));
        assert_ok(kiln_histogram_summarize(histogram, &found));
        const bool of_requests =
            figure == KILN_SCHEDULER_QUEUE_TIME || figure == KILN_SCHEDULER_TOTAL_TIME;
        assert_int_equal(found.count, of_requests ? 8 : counted(scheduler).batches);
        assert_true(figure != KILN_SCHEDULER_BATCH_ROWS || found.mean * (double)found.count == 8.0);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Schedulers under load, short of memory, and with what they refuse. */
#include "scheduler_test.h"

/* --- other engines --- */

#define CALLERS 8

typedef struct caller {
    kiln_scheduler *scheduler;
    int requests;
    unsigned seed;
    float low, high; /* what the factor may be */
} caller;

static void *call_again_and_again(void *user)
{
    caller *self = user;
    for (int i = 0; i < self->requests; i++) {
        rows_of data;
        kiln_request_options options =
            KILN_REQUEST_OPTIONS(.schedule = (kiln_schedule)(rand_r(&self->seed) % 3),
                                 .priority = rand_r(&self->seed) % (KILN_MAX_PRIORITY + 1));
        const float value = (float)(rand_r(&self->seed) % 1000 + 1);
        fill_rows(&data, rand_r(&self->seed) % 4 + 1, COLUMNS, value);
        assert_ok(kiln_scheduler_run(self->scheduler, &data.input, 1, &data.output, 1, &options));
        assert_true(data.y[0] == self->low * value || data.y[0] == self->high * value);
    }
    return NULL;
}

static kiln_test_crew start(caller callers[CALLERS], kiln_scheduler *scheduler, int requests,
                            float high)
{
    for (unsigned i = 0; i < CALLERS; i++) {
        callers[i] = (caller){scheduler, requests, i, 2, high};
    }
    return kiln_test_start(CALLERS, call_again_and_again, callers, sizeof *callers);
}

TEST(engines_change_between_two_batches)
{
    play before = PLAY_INIT;
    play after = PLAY_INIT;
    after.factor = 3;
    owned_scheduler scheduler =
        scheduler_of(&before, KILN_DYNAMIC, KILN_SCHEDULE_LATENCY, 4, MOMENT);
    caller callers[CALLERS];
    rows_of data;
    const kiln_test_crew crew = start(callers, scheduler, 200, 3);
    for (int i = 0; i < 20; i++) {
        kiln_engine *both[2] = {
            engine_of(i % 2 == 0 ? &after : &before, KILN_DYNAMIC, KILN_DYNAMIC),
            engine_of(i % 2 == 0 ? &after : &before, KILN_DYNAMIC, KILN_DYNAMIC)};
        assert_ok(kiln_scheduler_replace(scheduler, both, i % 2 == 0 ? 1 : 2));
        kiln_engine_release(both[0]);
        kiln_engine_release(both[1]);
    }
    kiln_test_join(&crew);
    fill_rows(&data, 1, COLUMNS, 5);
    assert_ok(kiln_scheduler_run(scheduler, &data.input, 1, &data.output, 1, NULL));
    assert_true(data.y[0] == 10);
    owned_engine other = engine_of(&after, 4, COLUMNS);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_scheduler_replace(scheduler, &other, 1),
                 "have the same inputs and outputs");
    assert_int_equal(counted(scheduler).done, CALLERS * 200 + 1);
}

/* --- under load --- */

TEST(a_warmup_runs_every_size_on_every_context)
{
    play self = PLAY_INIT;
    static const int64_t sizes[] = {1, 2, 6};
    owned_engine engine = engine_of(&self, KILN_DYNAMIC, COLUMNS);
    rows_of data;
    kiln_scheduler_options options =
        KILN_SCHEDULER_OPTIONS(.batch_sizes = sizes, .batch_size_count = 3, .contexts = 2);
    owned_scheduler scheduler = scheduler_on(&engine, 1, &options);
    fill_rows(&data, 2, COLUMNS, 1);
    assert_ok(kiln_scheduler_warmup(scheduler, &data.input, 1, 0));
    /* Of sizes that a request of two rows fits into, four runs each. */
    assert_int_equal(self.runs, 16);
    for (int i = 0; i < 16; i++) {
        assert_int_equal(self.rows[i], i % 8 < 4 ? 2 : 6);
    }
    data.input.name = "z";
    assert_status(KILN_ERROR_NAME, kiln_scheduler_warmup(scheduler, &data.input, 1, 0));
    const kiln_scheduler_counters counters = counted(scheduler);
    assert_true(counters.submitted == 0 && counters.batches == 0);
}

TEST(many_threads_get_their_own_answers)
{
    play self = PLAY_INIT;
    owned_engine engine = engine_of(&self, KILN_DYNAMIC, COLUMNS);
    caller callers[CALLERS];
    kiln_scheduler_options options =
        KILN_SCHEDULER_OPTIONS(.contexts = 3, .max_batch = 8, .delay_nanoseconds = 50000);
    owned_scheduler scheduler = scheduler_on(&engine, 1, &options);
    const kiln_test_crew crew = start(callers, scheduler, 500, 2);
    kiln_test_join(&crew);
    const kiln_scheduler_counters counters = counted(scheduler);
    assert_int_equal(counters.done, CALLERS * 500);
    assert_true(counters.batches <= CALLERS * 500 && counters.running == 0);
}

/* A request whose batch has not let go of it yet when the next one comes adds one to those that are
 * kept; that cannot go on. */
TEST(a_steady_state_allocates_nothing)
{
    play self = PLAY_INIT;
    owned_scheduler scheduler = joining(&self, 4, HOUR);
    kiln_allocation_counters before;
    kiln_allocation_counters after = {.allocations = 0};
    rows_of data[4];
    for (int round = 0; round < 200; round++) {
        kiln_request *requests[4];
        if (round % 20 == 0) {
            kiln_get_allocation_counters(&before);
        }
        for (int i = 0; i < 4; i++) {
            requests[i] = submit(scheduler, fill_rows(&data[i], 1, COLUMNS, (float)i), false, NULL);
        }
        check_all(requests, data, 4);
        kiln_get_allocation_counters(&after);
        if (round % 20 == 19 && after.allocations == before.allocations) {
            return;
        }
    }
    fail_msg("each 20 rounds allocated something");
}

static kiln_status make_and_submit(void *user)
{
    rows_of data;
    static const int64_t sizes[] = {1, 2, 8};
    const kiln_scheduler_padding padding = {"x", 1, 3};
    const kiln_scheduler_options options =
        KILN_SCHEDULER_OPTIONS(.batch_sizes = sizes, .batch_size_count = 3, .paddings = &padding,
                               .padding_count = 1, .lengths = sizes, .length_count = 3);
    owned_engine engine = NULL;
    owned_scheduler scheduler = NULL;
    kiln_binding x = {.struct_size = sizeof x,
                      .name = "x",
                      .is_input = true,
                      .dtype = KILN_DTYPE_FLOAT32,
                      .shape = KILN_SHAPE(KILN_DYNAMIC, KILN_DYNAMIC),
                      .dim_names = {"n", "c"}};
    kiln_binding y = x;
    kiln_status status = KILN_OK;
    y.name = "y";
    y.is_input = false;
    kiln_mock_options mock = KILN_MOCK_OPTIONS(.inputs = &x, .input_count = 1, .outputs = &y,
                                               .output_count = 1, .handler = run, .user = user);
    status = kiln_engine_create_mock(&mock, &engine);
    if (status == KILN_OK) {
        status = kiln_scheduler_create(&engine, 1, &options, &scheduler);
    }
    fill_rows(&data, 2, COLUMNS, 1);
    if (status == KILN_OK) {
        status = kiln_scheduler_warmup(scheduler, &data.input, 1, 1);
    }
    if (status == KILN_OK) {
        status = kiln_scheduler_replace(scheduler, &engine, 1);
    }
    for (int given = 0; given < 2 && status == KILN_OK; given++) {
        owned_request request = NULL;
        status = kiln_scheduler_submit(scheduler, &data.input, 1, &data.output, (size_t)given, NULL,
                                       &request);
        if (status == KILN_OK) {
            status = kiln_request_wait(request, -1);
        }
    }
    return status;
}

TEST(memory_that_is_short_is_told)
{
    play self = PLAY_INIT;
    kiln_test_each_allocation(make_and_submit, &self);
}

/* --- what is refused --- */

TEST(requests_that_do_not_fit_are_refused)
{
    play self = PLAY_INIT;
    owned_scheduler scheduler = scheduler_of(&self, KILN_DYNAMIC, KILN_SCHEDULE_LATENCY, 4, MOMENT);
    rows_of data;
    rows_of other;
    fill_rows(&data, 2, COLUMNS, 1);
    fill_rows(&other, 1, COLUMNS, 1);
    kiln_named_tensor none = data.input;
    kiln_named_tensor whole = data.input;
    kiln_named_tensor flat = data.input;
    kiln_named_tensor device = data.input;
    kiln_named_tensor strange = data.input;
    kiln_named_tensor empty = data.input;
    whole.tensor.desc.dtype = KILN_DTYPE_INT32;
    flat.tensor.desc.shape = KILN_SHAPE(8);
    device.tensor.desc.location = KILN_LOCATION_DEVICE;
    strange.name = "z";
    none.name = NULL;
    empty.tensor.desc.shape = KILN_SHAPE(0, COLUMNS);
    const kiln_named_tensor twice[] = {data.input, data.input};
    kiln_request_options options = KILN_REQUEST_OPTIONS(.priority = 8);
    const struct {
        const kiln_named_tensor *inputs;
        size_t input_count;
        const kiln_named_tensor *outputs;
        size_t output_count;
        const kiln_request_options *options;
        kiln_status status;
        const char *words;
    } cases[] = {
        {NULL, 1, NULL, 0, NULL, KILN_ERROR_NULL_ARGUMENT, "inputs"},
        {&none, 1, NULL, 0, NULL, KILN_ERROR_NULL_ARGUMENT, "name"},
        {NULL, 0, NULL, 0, NULL, KILN_ERROR_NOT_BOUND, "does not bring input \"x\""},
        {&strange, 1, NULL, 0, NULL, KILN_ERROR_NAME, "\"z\""},
        {twice, 2, NULL, 0, NULL, KILN_ERROR_NAME, "twice"},
        {&whole, 1, NULL, 0, NULL, KILN_ERROR_DTYPE, "float32 is needed, int32 was given"},
        {&flat, 1, NULL, 0, NULL, KILN_ERROR_RANK, "2 dimensions (?x?) are needed"},
        {&device, 1, NULL, 0, NULL, KILN_ERROR_UNSUPPORTED, "in memory of the device"},
        {&empty, 1, NULL, 0, NULL, KILN_ERROR_SHAPE, "a request has 0 rows"},
        {&data.input, 1, &other.output, 1, NULL, KILN_ERROR_SHAPE, "has 1 row"},
        {&data.input, 1, NULL, 0, &options, KILN_ERROR_INVALID_ARGUMENT, "priority is 8"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        owned_request request = NULL;
        assert_fails(cases[i].status,
                     kiln_scheduler_submit(scheduler, cases[i].inputs, cases[i].input_count,
                                           cases[i].outputs, cases[i].output_count,
                                           cases[i].options, &request),
                     cases[i].words);
        assert_null(request);
    }
    other.output.tensor.data = NULL;
    assert_fails(KILN_ERROR_NULL_ARGUMENT,
                 kiln_scheduler_run(scheduler, &data.input, 1, &other.output, 1, NULL),
                 "\"y\" has no memory");
    assert_int_equal(counted(scheduler).refused, sizeof cases / sizeof *cases + 1);
    assert_int_equal(self.runs, 0);
}

TEST(schedulers_that_make_no_sense_are_refused)
{
    play self = PLAY_INIT;
    owned_engine dynamic = engine_of(&self, KILN_DYNAMIC, KILN_DYNAMIC);
    owned_engine fixed = engine_of(&self, 8, COLUMNS);
    owned_engine single = engine_of(&self, 1, COLUMNS);
    static const int64_t falling[] = {4, 2};
    const struct {
        kiln_engine *engines[2];
        size_t count;
        kiln_scheduler_options options;
        kiln_status status;
        const char *words;
    } cases[] = {
        {{dynamic}, 0, {.max_batch = 0}, KILN_ERROR_INVALID_ARGUMENT, "0 engines"},
        {{NULL}, 1, {.max_batch = 0}, KILN_ERROR_NULL_ARGUMENT, "engines"},
        {{dynamic, fixed}, 2, {.max_batch = 0}, KILN_ERROR_INVALID_ARGUMENT, "the same inputs"},
        {{dynamic}, 1, {.max_batch = -1}, KILN_ERROR_INVALID_ARGUMENT, "max_batch is -1"},
        {{dynamic}, 1, {.contexts = 65}, KILN_ERROR_INVALID_ARGUMENT, "contexts is 65"},
        {{dynamic},
         1,
         {.schedule = (kiln_schedule)9},
         KILN_ERROR_INVALID_ARGUMENT,
         "schedule is 9"},
        {{dynamic},
         1,
         {.batch_axis = 2, .max_batch = 4},
         KILN_ERROR_UNSUPPORTED,
         "it has no such dimension"},
        {{dynamic},
         1,
         {.batch_sizes = falling, .batch_size_count = 2},
         KILN_ERROR_INVALID_ARGUMENT,
         "batch_sizes[1] is 2"},
        {{dynamic}, 1, {.batch_size_count = 2}, KILN_ERROR_NULL_ARGUMENT, "batch_sizes"},
        {{fixed}, 1, {.max_batch = 9}, KILN_ERROR_UNSUPPORTED, "batches of 8 and no others"},
        {{single}, 1, {.max_batch = 2}, KILN_ERROR_UNSUPPORTED, "it is fixed to 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        owned_scheduler scheduler = NULL;
        kiln_scheduler_options options = cases[i].options;
        options.struct_size = sizeof options;
        assert_fails(cases[i].status,
                     kiln_scheduler_create(cases[i].engines, cases[i].count, &options, &scheduler),
                     cases[i].words);
        assert_null(scheduler);
    }
}

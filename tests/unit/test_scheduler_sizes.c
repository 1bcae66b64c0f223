/* SPDX-License-Identifier: Apache-2.0 */
/* What a batch becomes: sizes and optimization profiles, what was measured, lengths. */
#include "scheduler/scheduler_parts.h"
#include "scheduler_test.h"

/* An engine of the mock, with profiles that none was built with. */
typedef struct profiled {
    kiln_engine *engine;
    kiln_profile_input inputs[4];
    kiln_profile profiles[4];
} profiled;

static void open_profiled(profiled *self, play *plays, const int64_t (*rows)[2], size_t count)
{
    self->engine = engine_of(plays, KILN_DYNAMIC, KILN_DYNAMIC);
    for (size_t i = 0; i < count; i++) {
        self->inputs[i] = (kiln_profile_input){.name = "x",
                                               .min = KILN_SHAPE(rows[i][0], 1),
                                               .opt = KILN_SHAPE(rows[i][1], COLUMNS),
                                               .max = KILN_SHAPE(rows[i][1], COLUMNS)};
        self->profiles[i] = (kiln_profile){.inputs = &self->inputs[i], .input_count = 1};
    }
    self->engine->shared.description.profiles = self->profiles;
    self->engine->shared.description.profile_count = count;
}

static void close_profiled(profiled *self)
{
    self->engine->shared.description.profile_count = 0;
    kiln_engine_release(self->engine);
}

static kiln_scheduler *open_scheduler(kiln_engine *engine, kiln_scheduler_options options)
{
    options.struct_size = sizeof options;
    return scheduler_on(&engine, 1, &options);
}

static void run_rows(kiln_scheduler *scheduler, int64_t rows)
{
    rows_of data;
    fill_rows(&data, rows, COLUMNS, 5);
    assert_ok(kiln_scheduler_run(scheduler, &data.input, 1, &data.output, 1, NULL));
    assert_true(data.y[rows * COLUMNS - 1] == 10);
}

TEST(a_profile_whose_smallest_batch_is_not_one_is_filled_up_to)
{
    play self = PLAY_INIT;
    profiled two = {.engine = NULL};
    open_profiled(&two, &self, (const int64_t[][2]){{4, 6}}, 1);
    owned_scheduler scheduler = open_scheduler(two.engine, (kiln_scheduler_options){.contexts = 1});
    assert_int_equal(counted(scheduler).max_batch, 6);
    run_rows(scheduler, 1);
    run_rows(scheduler, 5);
    assert_int_equal(self.rows[0], 4);
    assert_int_equal(self.rows[1], 6);
    assert_int_equal(counted(scheduler).padding, 4);
    close_profiled(&two);
}

TEST(sizes_between_two_profiles_are_left_out)
{
    play self = PLAY_INIT;
    profiled two = {.engine = NULL};
    owned_scheduler none = NULL;
    static const int64_t between[] = {1, 4};
    const kiln_scheduler_options wrong =
        KILN_SCHEDULER_OPTIONS(.batch_sizes = between, .batch_size_count = 2);
    const kiln_scheduler_options large = KILN_SCHEDULER_OPTIONS(.max_batch = 9);
    open_profiled(&two, &self, (const int64_t[][2]){{1, 2}, {6, 8}}, 2);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_scheduler_create(&two.engine, 1, &wrong, &none),
                 "batches of 4 rows", "not every engine has an optimization profile");
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_scheduler_create(&two.engine, 1, &large, &none),
                 "batches of 9 rows", "8 at most");
    owned_scheduler scheduler = open_scheduler(two.engine, (kiln_scheduler_options){.contexts = 1});
    for (int64_t rows = 1; rows <= 8; rows++) {
        run_rows(scheduler, rows);
    }
    static const int64_t expected[] = {1, 2, 6, 6, 6, 6, 8, 8};
    assert_memory_equal(self.rows, expected, sizeof expected);
    assert_int_equal(counted(scheduler).profile_switches, 1);
    run_rows(scheduler, 1);
    assert_int_equal(counted(scheduler).profile_switches, 2);
    close_profiled(&two);
}

TEST(contexts_keep_to_their_profiles)
{
    play self = PLAY_INIT;
    profiled two = {.engine = NULL};
    open_profiled(&two, &self, (const int64_t[][2]){{1, 2}, {6, 8}}, 2);
    owned_scheduler scheduler = open_scheduler(two.engine, (kiln_scheduler_options){.contexts = 2});
    for (int i = 0; i < 10; i++) {
        run_rows(scheduler, i % 2 == 0 ? 1 : 8);
    }
    assert_int_equal(counted(scheduler).profile_switches, 0);
    close_profiled(&two);
}

static void measured(kiln_scheduler *scheduler, const uint64_t *times)
{
    for (size_t i = 0; i < scheduler->pool->sizes.count; i++) {
        scheduler->pool->runs[i] = (mean_time){.mean = times[i], .count = 100};
    }
}

/* --- as many rows as pay --- */

static void note_runs(kiln_scheduler *scheduler, int64_t rows, const uint64_t *times, size_t count)
{
    kiln_request one = {.rows = rows};
    kiln_request *requests[] = {&one};
    const seat at = {
        .pool = scheduler->pool, .requests = requests, .request_count = 1, .timed = true};
    KLN_LOCKED(&scheduler->lock);
    for (size_t i = 0; i < count; i++) {
        batch_measure(scheduler, &at,
                      &(batch_outcome){.runs = 1, .ran = HOUR, .processor = times[i]});
    }
}

static int64_t joins(kiln_scheduler *scheduler, uint64_t likeness)
{
    KLN_LOCKED(&scheduler->lock);
    return batch_join_rows(scheduler, &(kiln_request){.likeness = likeness});
}

static kiln_scheduler *open_measured(kiln_engine *engine)
{
    return open_scheduler(
        engine, (kiln_scheduler_options){
                    .contexts = 1, .max_batch = 8, .join_rows = 4, .join_measured = true});
}

/* Times of 1, 2 and 4 rows; the least of a size counts, and of sizes that are nearly as good the
 * largest. */
TEST(rows_are_joined_as_far_as_it_pays)
{
    static const struct {
        uint64_t times[3][5];
        int64_t joins;
    } cases[] = {
        {{{100, 100, 100, 100, 100}, {220, 220, 220, 220, 220}, {440, 440, 440, 440, 440}}, 1},
        {{{100, 100, 100, 100, 100}, {170, 170, 170, 170, 170}, {400, 400, 400, 400, 400}}, 2},
        {{{100, 100, 100, 100, 100}, {150, 150, 150, 150, 150}, {200, 200, 200, 200, 200}}, 4},
        {{{100, 100, 100, 100, 100}, {200, 200, 200, 200, 200}, {410, 410, 410, 410, 410}}, 4},
        {{{100, 100, 100, 100, 100}, {900, 180, 900, 900, 900}, {800, 999, 390, 999, 999}}, 2},
    };
    for (size_t c = 0; c < KLN_ARRAY_LENGTH(cases); c++) {
        play self = PLAY_INIT;
        owned_engine engine = engine_of(&self, KILN_DYNAMIC, COLUMNS);
        owned_scheduler scheduler = open_measured(engine);
        for (size_t k = 0; k < 3; k++) {
            assert_int_equal(joins(scheduler, 0), 1 << k); /* what was seen too seldom is tried */
            note_runs(scheduler, 1 << k, cases[c].times[k], 5);
        }
        assert_int_equal(joins(scheduler, 0), cases[c].joins);
        assert_int_equal(joins(scheduler, 7), 4); /* another shape, of which nothing is known */
        note_runs(scheduler, 3, cases[c].times[0], 1);
        assert_int_equal(joins(scheduler, 0), cases[c].joins);
    }
}

/* What the machine does changes: each size is looked at again, and old times are forgotten. */
TEST(joined_rows_are_measured_again)
{
    static const uint64_t quick[] = {100, 100, 100, 100, 100, 100, 100, 100};
    static const uint64_t slow[] = {900, 900, 900, 900, 900, 900, 900, 900};
    play self = PLAY_INIT;
    owned_engine engine = engine_of(&self, KILN_DYNAMIC, COLUMNS);
    owned_scheduler scheduler = open_measured(engine);
    int64_t looked[3] = {0};
    for (int64_t k = 0; k < 3; k++) {
        note_runs(scheduler, INT64_C(1) << k, quick, 4);
    }
    for (int i = 0; i < 32 * 6; i++) {
        const int64_t rows = joins(scheduler, 0);
        looked[rows / 2] += rows != 4 || scheduler->pool->joined.batches % 32 == 0;
        note_runs(scheduler, rows, quick, 1);
    }
    assert_true(looked[0] == 2 && looked[1] == 2 && looked[2] == 2);
    note_runs(scheduler, 4, slow, 8);
    note_runs(scheduler, 2, slow, 8);
    note_runs(scheduler, 1, quick, 1);
    assert_int_equal(joins(scheduler, 0), 1);
}

TEST(batches_have_as_many_rows_as_pay)
{
    static const uint64_t times[3][4] = {
        {100, 100, 100, 100}, {150, 150, 150, 150}, {440, 440, 440, 440}};
    play self = PLAY_INIT;
    rows_of data[9];
    kiln_request *requests[9];
    owned_engine engine = engine_of(&self, KILN_DYNAMIC, COLUMNS);
    owned_scheduler scheduler = open_measured(engine);
    for (size_t k = 0; k < 3; k++) {
        note_runs(scheduler, 1 << k, times[k], 4);
    }
    hold(&self, true);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(requests); i++) {
        requests[i] = submit(scheduler, fill_rows(&data[i], 1, COLUMNS, 1), true, NULL);
        if (i == 0) {
            wait_for_runs(&self, 1);
        }
    }
    for (const uint64_t begin = kln_now(); kln_now() - begin < 1000000;) {
        /* a quick run is joined to anything */
    }
    (void)pthread_mutex_lock(&scheduler->lock);
    scheduler->pool->joined.likeness = requests[0]->likeness;
    (void)pthread_mutex_unlock(&scheduler->lock);
    hold(&self, false);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(requests); i++) {
        check_done(requests[i], &data[i], 2);
    }
    assert_int_equal(self.rows[1], 2);
    run_rows(scheduler, 8); /* one alone may have more */
}

/* A context whose batch ends soon is waited for where a switch takes longer, and no other. */
static void wait_or_switch(uint64_t run, uint64_t switching, uint64_t switches)
{
    play self = PLAY_INIT;
    profiled two = {.engine = NULL};
    rows_of data[3];
    kiln_request *requests[3];
    open_profiled(&two, &self, (const int64_t[][2]){{1, 2}, {6, 8}}, 2);
    kiln_scheduler *scheduler = open_scheduler(two.engine, (kiln_scheduler_options){.contexts = 2});
    run_rows(scheduler, 1);
    run_rows(scheduler, 8);
    hold(&self, true);
    requests[0] = submit(scheduler, fill_rows(&data[0], 1, COLUMNS, 1), true, NULL);
    wait_for_runs(&self, 1);
    (void)pthread_mutex_lock(&scheduler->lock);
    measured(scheduler, (const uint64_t[]){run, run, run, run});
    scheduler->pool->switching = (mean_time){.mean = switching, .count = 100};
    (void)pthread_mutex_unlock(&scheduler->lock);
    requests[1] = submit(scheduler, fill_rows(&data[1], 1, COLUMNS, 2), true, NULL);
    if (switches != 0) {
        wait_for_runs(&self, 2);
    }
    hold(&self, false);
    check_done(requests[0], &data[0], 2);
    check_done(requests[1], &data[1], 2);
    assert_int_equal(counted(scheduler).profile_switches, switches);
    kiln_scheduler_destroy(scheduler);
    close_profiled(&two);
}

TEST(waiting_is_weighed_against_switching)
{
    wait_or_switch(HOUR, 2 * HOUR, 0);
    wait_or_switch(HOUR, HOUR / 2, 1);
}

/* Five requests wait while a first one runs; what they then ran as. */
static void run_five(const uint64_t *times, const int64_t *expected, int runs)
{
    play self = PLAY_INIT;
    rows_of data[6];
    kiln_request *requests[6];
    static const int64_t sizes[] = {1, 2, 4, 8};
    owned_engine engine = engine_of(&self, KILN_DYNAMIC, KILN_DYNAMIC);
    owned_scheduler scheduler = open_scheduler(
        engine, (kiln_scheduler_options){.batch_sizes = sizes, .batch_size_count = 4});
    requests[0] = occupy(&self, scheduler, fill_rows(&data[0], 1, COLUMNS, 1));
    for (int i = 1; i < 6; i++) {
        requests[i] = submit(scheduler, fill_rows(&data[i], 1, COLUMNS, (float)i), false, NULL);
    }
    (void)pthread_mutex_lock(&scheduler->lock);
    measured(scheduler, times);
    (void)pthread_mutex_unlock(&scheduler->lock);
    hold(&self, false);
    check_all(requests, data, 6);
    assert_int_equal(self.runs, 1 + runs);
    assert_memory_equal(self.rows + 1, expected, (size_t)runs * sizeof *expected);
}

TEST(two_full_runs_instead_of_one_half_empty_one_where_they_are_faster)
{
    run_five((const uint64_t[]){HOUR, HOUR, HOUR, 3 * HOUR}, (const int64_t[]){4, 1}, 2);
    run_five((const uint64_t[]){HOUR, HOUR, HOUR, HOUR + 1}, (const int64_t[]){8}, 1);
}

/* --- lengths --- */

static kiln_scheduler *open_padded(play *self, const int64_t *lengths, size_t count)
{
    owned_engine engine = engine_of(self, KILN_DYNAMIC, KILN_DYNAMIC);
    const kiln_scheduler_padding x = {.name = "x", .axis = 1, .value = 7};
    return open_scheduler(engine, (kiln_scheduler_options){.paddings = &x,
                                                           .padding_count = 1,
                                                           .lengths = lengths,
                                                           .length_count = count,
                                                           .contexts = 1});
}

static void join_lengths(play *self, bool given)
{
    rows_of data[4];
    kiln_request *requests[4];
    static const int64_t lengths[] = {3, 8};
    owned_scheduler scheduler = open_padded(self, lengths, 2);
    requests[0] = occupy(self, scheduler, fill_rows(&data[0], 2, 2, 1));
    requests[1] = submit(scheduler, fill_rows(&data[1], 1, 3, 2), given, NULL);
    requests[2] = submit(scheduler, fill_rows(&data[2], 2, 1, 3), given, NULL);
    requests[3] = submit(scheduler, fill_rows(&data[3], 1, 4, 4), given, NULL);
    hold(self, false);
    check_all(requests, data, 4);
    const kiln_scheduler_counters counters = counted(scheduler);
    assert_int_equal(counters.batches, 3); /* of lengths 3, 3 and 8 */
    assert_int_equal(counters.padded, 2 * 1 + 0 + 2 * 2 + 4);
}

TEST(shorter_requests_are_filled_up_and_their_results_cut)
{
    for (int given = 0; given < 2; given++) {
        play self = PLAY_INIT;
        join_lengths(&self, given == 1);
        assert_int_equal(self.rows[1], 3);
    }
}

TEST(lengths_are_powers_of_two_where_none_are_stated)
{
    play self = PLAY_INIT;
    rows_of data;
    owned_scheduler scheduler = open_padded(&self, NULL, 0);
    for (int64_t length = 1; length <= 5; length++) {
        kiln_request *request =
            submit(scheduler, fill_rows(&data, 1, length, (float)length), false, NULL);
        check_done(request, &data, 2);
    }
    assert_int_equal(counted(scheduler).padded, 0 + 0 + 1 + 0 + 3);
}

/* Along either order of the two axes, in the middle of others. */
TEST(parts_of_a_batch_come_back_as_they_went_in)
{
    enum { MOST = 2 * 5 * 3 * 6 * 2 };
    float joined[MOST];
    float own[MOST];
    float back[MOST];
    const kiln_shape wholes[] = {KILN_SHAPE(2, 5, 3, 6, 2), KILN_SHAPE(2, 6, 3, 5, 2)};
    const kiln_shape parts[] = {KILN_SHAPE(2, 2, 3, 4, 2), KILN_SHAPE(2, 4, 3, 2, 2)};
    const float value = 9;
    for (int i = 0; i < 2; i++) {
        const int32_t axis = i == 0 ? 1 : 3;
        for (int k = 0; k < MOST; k++) {
            own[k] = (float)k;
            joined[k] = back[k] = -1;
        }
        length_copy copy = {KILN_DTYPE_FLOAT32,
                            (unsigned char *)joined,
                            &wholes[i],
                            (unsigned char *)own,
                            &parts[i],
                            axis,
                            4 - axis,
                            3,
                            (const unsigned char *)&value};
        copy_lengths(&copy);
        int filled = 0;
        int untouched = 0;
        for (int k = 0; k < MOST; k++) {
            filled += joined[k] == 9;
            untouched += joined[k] == -1;
        }
        assert_int_equal(untouched, 2 * 3 * 3 * 6 * 2); /* three rows of others */
        assert_true(filled >= 2 * 2 * 3 * 2 * 2 && filled <= 2 * 2 * 3 * 2 * 2 + 1);
        copy.own = (unsigned char *)back;
        copy.value = NULL;
        copy_lengths(&copy);
        assert_memory_equal(back, own, 2 * 2 * 3 * 4 * 2 * sizeof(float));
    }
}

TEST(paddings_that_make_no_sense_are_refused)
{
    play self = PLAY_INIT;
    owned_engine dynamic = engine_of(&self, KILN_DYNAMIC, KILN_DYNAMIC);
    owned_engine fixed = engine_of(&self, KILN_DYNAMIC, COLUMNS);
    static const int64_t falling[] = {4, 2};
    const struct {
        kiln_engine *engine;
        kiln_scheduler_padding padding;
        kiln_scheduler_options options;
        kiln_status status;
        const char *words;
    } cases[] = {
        {dynamic, {"z", 1, 0}, {.max_batch = 0}, KILN_ERROR_NAME, "no such input or output"},
        {dynamic, {NULL, 1, 0}, {.max_batch = 0}, KILN_ERROR_NULL_ARGUMENT, "paddings"},
        {dynamic, {"x", 0, 0}, {.max_batch = 0}, KILN_ERROR_INVALID_ARGUMENT, "dimension 0"},
        {dynamic, {"x", 2, 0}, {.max_batch = 0}, KILN_ERROR_INVALID_ARGUMENT, "dimension 2"},
        {fixed, {"x", 1, 0}, {.max_batch = 0}, KILN_ERROR_INVALID_ARGUMENT, "dynamic dimension"},
        {dynamic, {"y", 1, 0}, {.max_batch = 0}, KILN_ERROR_UNSUPPORTED, "input \"x\""},
        {dynamic, {"x", 1, 0}, {.batch_axis = -1}, KILN_ERROR_UNSUPPORTED, "not joined"},
        {dynamic,
         {"x", 1, 0},
         {.lengths = falling, .length_count = 2},
         KILN_ERROR_INVALID_ARGUMENT,
         "lengths[1] is 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        owned_scheduler scheduler = NULL;
        kiln_scheduler_options options = cases[i].options;
        options.struct_size = sizeof options;
        options.paddings = &cases[i].padding;
        options.padding_count = 1;
        assert_fails(cases[i].status,
                     kiln_scheduler_create(&cases[i].engine, 1, &options, &scheduler),
                     cases[i].words);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Engines that come while requests go on: built in the background, replaced, given new weights. */
#include "graph_maker.h"
#include "scheduler/scheduler_parts.h"
#include "scheduler_test.h"

#define CALLERS 4
#define BUILDS 8

/* --- requests that go on --- */

typedef struct traffic {
    kiln_scheduler *scheduler;
    atomic_bool ends;
    atomic_ullong answered, wrong;
    kiln_test_crew crew;
} traffic;

/* Each is answered by one engine: all of its numbers times 2, or all times 3. */
static void *call_on(void *user)
{
    traffic *self = user;
    rows_of data;
    for (int64_t i = 0; !atomic_load(&self->ends); i++) {
        const int64_t rows = i % 4 + 1;
        fill_rows(&data, rows, COLUMNS, (float)(i % 1000 + 1));
        const kiln_status status =
            kiln_scheduler_run(self->scheduler, &data.input, 1, &data.output, 1, NULL);
        bool right = status == KILN_OK;
        for (int64_t k = 0; right && k < rows * COLUMNS; k++) {
            right = data.y[k] == data.y[0] &&
                    (data.y[k] == 2 * data.x[0] || data.y[k] == 3 * data.x[0]);
        }
        (void)atomic_fetch_add(&self->wrong, !right);
        (void)atomic_fetch_add(&self->answered, 1);
    }
    return NULL;
}

static void begin_traffic(traffic *self, kiln_scheduler *scheduler)
{
    self->scheduler = scheduler;
    self->crew = kiln_test_start(CALLERS, call_on, self, 0);
}

static void end_traffic(traffic *self)
{
    atomic_store(&self->ends, true);
    kiln_test_join(&self->crew);
    assert_int_equal(self->wrong, 0);
    assert_int_equal(counted(self->scheduler).done, self->answered);
}

static float factor_of(kiln_scheduler *scheduler)
{
    rows_of data;
    fill_rows(&data, 1, COLUMNS, 1);
    assert_ok(kiln_scheduler_run(scheduler, &data.input, 1, &data.output, 1, NULL));
    return data.y[0];
}

/* --- builds --- */

typedef struct model {
    unsigned char bytes[4096];
    kiln_span span;
} model;

/* y = x * factor, in rows of four. */
static void make_model(model *self, float factor)
{
    const kiln_span made = made_model(
        17, "in x float32[n,4]; w={%.1f}; y=Mul(x,w); out y float32[n,4]", (double)factor);
    assert_true(made.size <= sizeof self->bytes);
    memcpy(self->bytes, made.data, made.size);
    self->span = (kiln_span){self->bytes, made.size};
}

static kiln_engine *build(const model *of, const char *backend)
{
    const kiln_build_options options = KILN_BUILD_OPTIONS(.backend = backend, .threads = 1);
    return built_bytes(of->span, &options);
}

static kiln_build *start_build(kiln_span bytes, const char *backend)
{
    const kiln_build_options options = KILN_BUILD_OPTIONS(.backend = backend, .threads = 1);
    kiln_build *job = NULL;
    assert_ok(kiln_build_start_bytes(bytes, &options, NULL, &job));
    return job;
}

static kiln_scheduler *serve(kiln_engine *engine)
{
    const kiln_scheduler_options options =
        KILN_SCHEDULER_OPTIONS(.max_batch = 8, .contexts = 2, .delay_nanoseconds = 1000);
    return scheduler_on(&engine, 1, &options);
}

typedef struct ending {
    sem_t told;
    atomic_int calls;
    kiln_status status;
    char message[256];
} ending;

static void note_end(void *user, kiln_status status, const char *message)
{
    ending *self = user;
    self->status = status;
    (void)snprintf(self->message, sizeof self->message, "%s", message);
    (void)atomic_fetch_add(&self->calls, 1);
    (void)sem_post(&self->told);
}

static void replace_built(kiln_scheduler *scheduler, kiln_build *job, ending *end)
{
    kiln_status status = KILN_ERROR_BUSY;
    (void)sem_init(&end->told, 0, 0);
    atomic_store(&end->calls, 0);
    /* The thread of the one before may be about to end. */
    while ((status = kiln_scheduler_replace_built(scheduler, job, note_end, end)) ==
           KILN_ERROR_BUSY) {
        (void)sched_yield();
    }
    assert_ok(status);
    while (sem_wait(&end->told) != 0) {
    }
}

TEST(builds_take_over_while_requests_go_on)
{
    static const char *const backends[] = {"reference", "onnxruntime"};
    model models[2];
    make_model(&models[0], 2);
    make_model(&models[1], 3);
    owned_engine first = build(&models[0], "onnxruntime");
    owned_scheduler scheduler = serve(first);
    traffic calls = {.ends = false};
    ending end;
    begin_traffic(&calls, scheduler);
    for (int i = 0; i < BUILDS; i++) {
        replace_built(scheduler, start_build(models[(i + 1) % 2].span, backends[i % 2]), &end);
        assert_int_equal(end.status, KILN_OK);
        assert_string_equal(end.message, "");
        assert_true(factor_of(scheduler) == (i % 2 == 0 ? 3 : 2));
        (void)atomic_fetch_add(&calls.answered, 1);
    }
    end_traffic(&calls);
    assert_int_equal(counted(scheduler).replaced, BUILDS);
    assert_int_equal(atomic_load(&first->references), 1);
}

TEST(a_build_that_fails_changes_nothing)
{
    static const unsigned char nonsense[] = {9, 9, 9};
    model two;
    make_model(&two, 2);
    owned_engine first = build(&two, "reference");
    owned_scheduler scheduler = serve(first);
    ending end;
    replace_built(scheduler, start_build((kiln_span){nonsense, 3}, "reference"), &end);
    assert_int_not_equal(end.status, KILN_OK);
    assert_true(end.message[0] != '\0');
    assert_true(factor_of(scheduler) == 2);
    assert_int_equal(counted(scheduler).replaced, 0);
}

TEST(another_models_build_is_refused)
{
    model two;
    make_model(&two, 2);
    owned_engine first = build(&two, "reference");
    owned_scheduler scheduler = serve(first);
    ending end;
    const kiln_span other = made_model(17, "in x float32[n,4]; z=Neg(x); out z float32[n,4]");
    replace_built(scheduler, start_build(other, "reference"), &end);
    assert_int_equal(end.status, KILN_ERROR_INVALID_ARGUMENT);
    assert_non_null(strstr(end.message, "have the same inputs and outputs"));
    assert_true(factor_of(scheduler) == 2);
}

TEST(a_scheduler_that_goes_takes_its_build_along)
{
    model two;
    make_model(&two, 2);
    owned_engine first = build(&two, "reference");
    for (int i = 0; i < 10; i++) {
        kiln_scheduler *scheduler = serve(first);
        ending end;
        (void)sem_init(&end.told, 0, 0);
        atomic_store(&end.calls, 0);
        kiln_build *job = start_build(two.span, "reference");
        assert_ok(kiln_scheduler_replace_built(scheduler, job, note_end, &end));
        if (i % 2 == 0) {
            assert_ok(kiln_scheduler_stop(scheduler));
        }
        kiln_scheduler_destroy(scheduler);
        assert_int_equal(end.calls, 1);
        assert_true(end.status == KILN_OK || end.status == KILN_ERROR_CANCELLED ||
                    end.status == KILN_ERROR_STATE);
    }
    assert_int_equal(atomic_load(&first->references), 1);
    owned_scheduler stopped = serve(first);
    assert_ok(kiln_scheduler_stop(stopped));
    owned_build job = start_build(two.span, "reference");
    assert_fails(KILN_ERROR_STATE, kiln_scheduler_replace_built(stopped, job, NULL, NULL),
                 "drain or to stop");
}

/* --- what is replaced --- */

static void *replace(void *user)
{
    void **both = user;
    kiln_engine *engine = both[1];
    assert_ok(kiln_scheduler_replace(both[0], &engine, 1));
    return NULL;
}

TEST(an_old_engine_lasts_as_long_as_its_last_batch)
{
    play before = PLAY_INIT;
    play after = PLAY_INIT;
    rows_of data;
    pthread_t thread;
    after.factor = 3;
    owned_engine old = engine_of(&before, KILN_DYNAMIC, KILN_DYNAMIC);
    owned_engine new = engine_of(&after, KILN_DYNAMIC, KILN_DYNAMIC);
    owned_scheduler scheduler = serve(old);
    kiln_request *request = occupy(&before, scheduler, fill_rows(&data, 1, COLUMNS, 4));
    void *both[] = {scheduler, new};
    assert_int_equal(pthread_create(&thread, NULL, replace, both), 0);
    while (counted(scheduler).replaced == 0) {
        (void)sched_yield();
    }
    assert_true(factor_of(scheduler) == 3);
    assert_int_equal(kiln_request_get_state(request), KILN_REQUEST_RUNNING);
    assert_true(atomic_load(&old->references) > 1);
    hold(&before, false);
    check_done(request, &data, 2);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(atomic_load(&old->references), 1);
}

TEST(contexts_that_take_over_are_warm)
{
    play before = PLAY_INIT;
    play after = PLAY_INIT;
    play broken = PLAY_INIT;
    rows_of data;
    after.factor = 3;
    broken.poison = 1;
    owned_engine old = engine_of(&before, KILN_DYNAMIC, KILN_DYNAMIC);
    owned_engine bad = engine_of(&broken, KILN_DYNAMIC, KILN_DYNAMIC);
    owned_engine new = engine_of(&after, KILN_DYNAMIC, KILN_DYNAMIC);
    owned_scheduler scheduler = serve(old);
    fill_rows(&data, 1, COLUMNS, 1);
    assert_ok(kiln_scheduler_warmup(scheduler, &data.input, 1, 1));
    fill_rows(&data, 1, COLUMNS, 9); /* what it was warmed up with is kept */
    assert_fails(KILN_ERROR_BACKEND, kiln_scheduler_replace(scheduler, &bad, 1), "poison");
    assert_int_equal(atomic_load(&bad->references), 1);
    assert_true(factor_of(scheduler) == 2);
    assert_ok(kiln_scheduler_replace(scheduler, &new, 1));
    assert_true(after.runs > 0);
    assert_true(after.first[0] == 1);
    const int warm = after.runs;
    assert_true(factor_of(scheduler) == 3);
    assert_int_equal(after.runs, warm + 1);
}

TEST(new_weights_come_between_two_batches)
{
    static const char *const backends[] = {"reference", "onnxruntime"};
    for (size_t i = 0; i < 2; i++) {
        model two;
        make_model(&two, 2);
        owned_engine engine = build(&two, backends[i]);
        owned_scheduler scheduler = serve(engine);
        traffic calls = {.ends = false};
        begin_traffic(&calls, scheduler);
        for (int k = 0; k < 20; k++) {
            float factor = k % 2 == 0 ? 3 : 2;
            const kiln_named_tensor weight = {
                "w", KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1), &factor, sizeof factor)};
            assert_ok(kiln_engine_refit(engine, &weight, 1, NULL));
            assert_true(factor_of(scheduler) == factor);
            (void)atomic_fetch_add(&calls.answered, 1);
        }
        end_traffic(&calls);
    }
}

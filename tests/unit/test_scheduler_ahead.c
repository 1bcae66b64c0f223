/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of a batch that still gathers are sent to the GPU while it does, and whatever becomes of
 * their requests, each batch computes its own. */
#include "cuda/cuda_driver.h"
#include "scheduler_rows_test.h"

enum { REQUESTS = 4 };

/* Requests of two rows, a quarter of a batch each, in pinned memory. */
typedef struct scene {
    behaviour how;
    kiln_engine *engine;
    kiln_scheduler *scheduler;
    rows all[REQUESTS];
    kiln_request *requests[REQUESTS];
} scene;

static void open_scene(scene *self, int32_t contexts)
{
    kiln_scheduler_options options = GATHERS;
    options.delay_nanoseconds = UINT64_C(3600000000000); /* a whole batch alone runs */
    options.contexts = contexts;
    self->how = (behaviour){.drifts = false};
    self->scheduler = open_rows(&self->how, options, &self->engine);
    for (size_t i = 0; i < REQUESTS; i++) {
        make_rows(&self->all[i], KILN_LOCATION_PINNED, 2, (float)i);
    }
    assert_ok(kiln_scheduler_warmup(self->scheduler, &self->all[0].x, 1, 0));
}

static void close_scene(scene *self)
{
    kiln_scheduler_destroy(self->scheduler);
    kiln_engine_release(self->engine);
    for (size_t i = 0; i < REQUESTS; i++) {
        free_rows(&self->all[i]);
    }
}

static void submit(scene *self, size_t i, int32_t priority)
{
    const kiln_request_options options = KILN_REQUEST_OPTIONS(.priority = priority);
    memset(self->all[i].y.tensor.data, 0, self->all[i].y.tensor.bytes);
    assert_ok(kiln_scheduler_submit(self->scheduler, &self->all[i].x, 1, &self->all[i].y, 1,
                                    &options, &self->requests[i]));
}

static void expect(scene *self, size_t i, kiln_status status)
{
    assert_int_equal(kiln_request_wait(self->requests[i], -1), status);
    kiln_request_release(self->requests[i]);
    if (status == KILN_OK) {
        check_rows(&self->all[i]);
    }
}

static void expect_all(scene *self)
{
    for (size_t i = 0; i < REQUESTS; i++) {
        expect(self, i, KILN_OK);
    }
}

/* Requests whose rows are on the device, of the context that has any. */
static size_t count_ahead(const scene *self)
{
    const engine_pool *pool = self->scheduler->pool;
    size_t ahead = 0;
    KLN_LOCKED(&self->scheduler->lock);
    for (size_t i = 0; i < pool->count; i++) {
        ahead += pool->seats[i]->busy ? 0 : pool->seats[i]->ahead;
    }
    return ahead;
}

FAKE_TEST(rows_travel_while_their_batch_gathers)
{
    scene self;
    open_scene(&self, 1);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i + 1 < REQUESTS; i++) {
            submit(&self, i, 0);
            assert_int_equal(count_ahead(&self), i + 1);
        }
        submit(&self, REQUESTS - 1, 0);
        expect_all(&self);
        assert_int_equal(count_ahead(&self), 0);
    }
    close_scene(&self);
}

/* Whoever comes later and stands before them moves their rows. */
FAKE_TEST(an_order_that_changes_moves_what_was_sent)
{
    scene self;
    open_scene(&self, 2);
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < REQUESTS; i++) {
            submit(&self, i, (int32_t)i % 3);
        }
        expect_all(&self);
    }
    close_scene(&self);
}

FAKE_TEST(a_request_that_leaves_its_batch_takes_its_rows_along)
{
    scene self;
    open_scene(&self, 2);
    for (size_t gone = 0; gone + 1 < REQUESTS; gone++) {
        for (size_t i = 0; i + 1 < REQUESTS; i++) {
            submit(&self, i, 0);
        }
        assert_ok(kiln_request_cancel(self.requests[gone]));
        expect(&self, gone, KILN_ERROR_CANCELLED);
        /* Nothing reads it any more. */
        memset(self.all[gone].x.tensor.data, 0xff, self.all[gone].x.tensor.bytes);
        free_rows(&self.all[gone]);
        make_rows(&self.all[gone], KILN_LOCATION_PINNED, 2, (float)gone + 10);
        submit(&self, gone, 0);
        submit(&self, REQUESTS - 1, 0);
        expect_all(&self);
    }
    close_scene(&self);
}

/* An urgent one takes along those that are there, in its order; one of other rows does not. */
FAKE_TEST(a_batch_of_others_leaves_rows_to_be_sent_again)
{
    scene self;
    open_scene(&self, 1);
    rows whole;
    kiln_request *other = NULL;
    make_rows(&whole, KILN_LOCATION_PINNED, MOST_ROWS, 7);
    const kiln_request_options first = KILN_REQUEST_OPTIONS(.priority = KILN_MAX_PRIORITY);
    submit(&self, 0, 0);
    submit(&self, 1, 0);
    assert_int_equal(count_ahead(&self), 2);
    assert_ok(kiln_scheduler_submit(self.scheduler, &whole.x, 1, &whole.y, 1, &first, &other));
    assert_ok(kiln_request_wait(other, -1));
    kiln_request_release(other);
    check_rows(&whole);
    submit(&self, 2, 0);
    submit(&self, 3, 0);
    expect_all(&self);
    free_rows(&whole);
    close_scene(&self);
}

FAKE_TEST(engines_that_go_keep_nothing_of_what_was_sent)
{
    scene self;
    open_scene(&self, 2);
    owned_engine next = make_row_engine(&self.how, 0);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i + 1 < REQUESTS; i++) {
            submit(&self, i, 0);
        }
        assert_int_equal(count_ahead(&self), 3);
        assert_ok(kiln_scheduler_replace(self.scheduler, &next, 1));
        assert_int_equal(count_ahead(&self), 0);
        submit(&self, REQUESTS - 1, 0);
        expect_all(&self);
    }
    close_scene(&self);
}

/* A warmup computes in the memory where rows were sent. */
FAKE_TEST(a_warmup_takes_the_place_of_what_was_sent)
{
    scene self;
    open_scene(&self, 1);
    for (size_t i = 0; i + 1 < REQUESTS; i++) {
        submit(&self, i, 0);
    }
    assert_ok(kiln_scheduler_warmup(self.scheduler, &self.all[0].x, 1, 0));
    submit(&self, REQUESTS - 1, 0);
    expect_all(&self);
    close_scene(&self);
}

FAKE_TEST(rows_that_could_not_be_sent_are_sent_with_their_batch)
{
    scene self;
    open_scene(&self, 1);
    submit(&self, 0, 0);
    set("FAKE_CUDA_LOST", "719");
    submit(&self, 1, 0);
    set("FAKE_CUDA_LOST", NULL);
    assert_false(self.scheduler->pool->seats[0]->sends_ahead);
    submit(&self, 2, 0);
    submit(&self, 3, 0);
    expect_all(&self);
    close_scene(&self);
}

static int32_t urgency_of(const seat *of)
{
    int priority = 0;
    void *stream = kiln_stream_handle(kiln_context_stream(of->context));
    assert_int_equal(cuda_functions()->stream_priority(stream, &priority), CU_SUCCESS);
    return -priority;
}

/* Two streams that run one network are not of one priority, as far as the device has two. */
FAKE_TEST(every_second_context_is_ahead)
{
    static const int32_t priorities[] = {0, -2, -5};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(priorities); i++) {
        for (int32_t contexts = 1; contexts <= LANES + 2; contexts++) {
            behaviour how = {.drifts = false};
            owned_engine engine = NULL;
            const kiln_context_options wishes = KILN_CONTEXT_OPTIONS(.priority = priorities[i]);
            kiln_scheduler_options options = GATHERS;
            options.contexts = contexts;
            options.context = &wishes;
            owned_scheduler scheduler = open_rows(&how, options, &engine);
            for (int32_t k = 0; k < contexts; k++) {
                const bool ahead = contexts > 1 && k % LANES == 0 && priorities[i] > -5;
                assert_int_equal(urgency_of(scheduler->pool->seats[k]), ahead - priorities[i]);
            }
        }
    }
}

/* A context that shares its stream would make those who submit wait for others. */
FAKE_TEST(nothing_is_sent_ahead_where_contexts_take_turns)
{
    const kiln_context_options overlaps = KILN_CONTEXT_OPTIONS(.overlap_copies = true);
    for (int way = 0; way < 4; way++) {
        behaviour how = {.drifts = false};
        owned_engine engine = NULL;
        kiln_scheduler_options options = GATHERS;
        options.contexts = way == 1 ? LANES + 1 : LANES;
        options.context = way == 2 ? &overlaps : NULL;
        all_on_one_stream = way == 3;
        owned_scheduler scheduler = open_rows(&how, options, &engine);
        all_on_one_stream = false;
        assert_int_equal(scheduler->pool->seats[0]->sends_ahead, way == 0);
    }
}

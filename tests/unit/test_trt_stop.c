/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of a plan that are told to stop: the wait for them ends. */
#include "fake_tensorrt_test.h"

#include <time.h>

#define ROWS 4

static atomic_bool is_free;

static void sleep_some(void *user)
{
    const struct timespec some = {.tv_nsec = 500000000};
    (void)nanosleep(&some, NULL);
    atomic_store(&is_free, true);
}

/* What is enqueued on `stream` from now on waits for half a second; over the stand-in, until
 * somebody waits for it. */
static void occupy(kiln_stream *stream)
{
    atomic_store(&is_free, false);
    if (ON_STAND_IN) {
        set("FAKE_CUDA_BUSY", "1");
    } else {
        assert_ok(kiln_stream_call(stream, sleep_some, NULL));
    }
}

static void run_well(kiln_context *context, float value)
{
    static float x[ROWS * 4]; /* stays bound */
    for (int i = 0; i < ROWS * 4; i++) {
        x[i] = i % 2 == 0 ? value : -value;
    }
    set("FAKE_CUDA_BUSY", NULL);
    const kiln_tensor y = run_floats(context, KILN_SHAPE(ROWS, 4), x);
    for (int i = 0; i < ROWS * 4; i++) {
        assert_true(((const float *)y.data)[i] == (i % 2 == 0 ? value : 0));
    }
}

static kiln_context *make_stoppable(size_t layout, kiln_stream *stream, uint64_t milliseconds)
{
    kiln_engine *engine = build_relu(layout);
    kiln_context_options options = KILN_CONTEXT_OPTIONS(.stop_waiting = true, .stream = stream,
                                                        .run_milliseconds = milliseconds);
    kiln_context *context = context_with(engine, &options);
    kiln_engine_release(engine);
    for (int i = 1; i < 5; i++) {
        run_well(context, (float)i);
    }
    return context;
}

LAYOUTS_TEST(a_run_past_its_time_is_left)
{
    owned_stream stream = stream_on(0);
    kiln_context *context = make_stoppable(i, stream, 50);
    for (int round = 1; round < 3; round++) {
        static float x[ROWS * 4];
        bind_tensor(context, "x", host_floats(x, KILN_SHAPE(ROWS, 4)));
        occupy(stream);
        assert_fails(KILN_ERROR_TIMEOUT, kiln_context_run(context), "kiln_context_wait");
        assert_false(atomic_load(&is_free));
        assert_status(KILN_ERROR_STATE, kiln_context_run(context));
        assert_ok(kiln_context_wait(context));
        assert_true(ON_STAND_IN || atomic_load(&is_free));
        run_well(context, (float)round);
    }
    occupy(stream);
    assert_status(KILN_ERROR_TIMEOUT, kiln_context_run(context));
    kiln_context_destroy(context); /* waits */
    assert_true(ON_STAND_IN || atomic_load(&is_free));
}

/* Runs that begin and end while others are cancelled end as they should or as cancelled. */
LAYOUTS_TEST(cancelling_at_any_moment_does_no_harm)
{
    owned_context context = make_stoppable(i, NULL, 10000);
    kiln_test_canceller other = {.context = context};
    kiln_test_begin_cancelling(&other, 1);
    for (int round = 0; round < 300; round++) {
        const kiln_status status = kiln_context_run(context);
        assert_true(status == KILN_OK || status == KILN_ERROR_CANCELLED);
        if (status != KILN_OK) {
            assert_ok(kiln_context_wait(context));
        }
    }
    kiln_test_end_cancelling(&other);
    run_well(context, 9);
}

/* Contexts that take turns are waited for to the end: the next one's memory is the same. */
LAYOUTS_TEST(who_shares_memory_is_waited_for)
{
    owned_engine engine = build_relu(i);
    kiln_context_options options =
        KILN_CONTEXT_OPTIONS(.stop_waiting = true, .share_device_memory = true,
                             .run_milliseconds = 10000);
    owned_context context = context_with(engine, &options);
    for (int round = 0; round < 5; round++) {
        run_well(context, (float)round);
    }
}

/* SPDX-License-Identifier: Apache-2.0 */
/* On a GPU a run that is told to stop is left: the mock enqueues its work, tests/fake/fake_cuda.h
 * plays a driver whose work comes to no end until somebody waits for it. */
#include <time.h>

#include "mock_gpu_test.h"

static kiln_context *make_stoppable(behaviour *how, uint64_t milliseconds, kiln_graph_policy graphs)
{
    kiln_context_options options =
        KILN_CONTEXT_OPTIONS(.stop_waiting = true, .run_milliseconds = milliseconds,
                             .graphs = graphs);
    return make_context(how, false, &options);
}

/* From the third run on they are enqueued, whether by a graph or without one. */
static void warm(kiln_context *context, float *x, int64_t count)
{
    for (int i = 0; i < 3; i++) {
        run_and_check(context, x, count, (float)i);
    }
}

static void expect_refusal(kiln_context *context, const kiln_tensor *input)
{
    kiln_tensor y;
    assert_fails(KILN_ERROR_STATE, kiln_context_run(context), "kiln_context_wait");
    assert_status(KILN_ERROR_STATE, kiln_context_bind(context, "x", input));
    assert_status(KILN_ERROR_STATE, kiln_context_tensor(context, "y", &y));
    assert_status(KILN_ERROR_STATE, kiln_context_enqueue(context, NULL));
    assert_ok(kiln_context_cancel(context));
    (void)counters_of(context);
}

FAKE_TEST(a_run_past_its_time_is_left)
{
    static const kiln_graph_policy policies[] = {KILN_GRAPH_AUTOMATIC, KILN_GRAPH_OFF};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(policies); i++) {
        behaviour how = {.drifts = false};
        owned_context context = make_stoppable(&how, 20, policies[i]);
        float x[4] = {0};
        float result[4] = {0};
        const kiln_tensor input = floats(x, 4);
        const kiln_tensor output = floats(result, 4);
        assert_ok(kiln_context_bind(context, "y", &output));
        warm(context, x, 4);
        const kiln_context_counters before = counters_of(context);
        for (int round = 0; round < 2; round++) {
            kiln_tensor y;
            set("FAKE_CUDA_BUSY", "1");
            result[3] = -1;
            x[3] = 100;
            assert_fails(KILN_ERROR_TIMEOUT, kiln_context_run(context),
                         "after the 20 ms that it may take", "kiln_context_wait");
            expect_refusal(context, &input);
            x[3] = 7; /* the caller's again, as is the output, which nobody writes any more */
            assert_ok(kiln_context_wait(context));
            assert_true(result[3] == -1);
            assert_status(KILN_ERROR_STATE, kiln_context_tensor(context, "y", &y));
            set("FAKE_CUDA_BUSY", NULL);
            run_and_check(context, x, 4, 5);
            assert_true(result[3] == 10);
        }
        const kiln_context_counters after = counters_of(context);
        assert_int_equal(after.runs - before.runs, 2);
        /* Those that were not let in count as none. */
        assert_int_equal(after.failed_runs - before.failed_runs, 2);
        assert_int_equal(after.graph_hits - before.graph_hits, i == 0 ? 2 : 0);
    }
}

/* Whose work has ended by itself needs no wait, and one that is destroyed waits by itself. */
FAKE_TEST(what_was_left_ends)
{
    behaviour how = {.drifts = false};
    owned_context context = make_stoppable(&how, 20, KILN_GRAPH_AUTOMATIC);
    float x[4] = {0};
    warm(context, x, 4);
    set("FAKE_CUDA_BUSY", "1");
    assert_status(KILN_ERROR_TIMEOUT, kiln_context_run(context));
    set("FAKE_CUDA_BUSY", NULL);
    run_and_check(context, x, 4, 3);
    set("FAKE_CUDA_BUSY", "1");
    assert_status(KILN_ERROR_TIMEOUT, kiln_context_run(context));
}

FAKE_TEST(a_run_is_cancelled_at_any_moment)
{
    behaviour how = {.drifts = false};
    owned_context context = make_stoppable(&how, 0, KILN_GRAPH_AUTOMATIC);
    kiln_test_canceller other = {.context = context, .pause = 100};
    float x[4] = {0};
    int cancelled = 0;
    warm(context, x, 4);
    set("FAKE_CUDA_BUSY", "1");
    kiln_test_begin_cancelling(&other, 1);
    for (int round = 0; round < 200; round++) {
        const kiln_status status = kiln_context_run(context);
        assert_status(KILN_ERROR_CANCELLED, status);
        cancelled++;
        assert_ok(kiln_context_wait(context));
    }
    kiln_test_end_cancelling(&other);
    assert_int_equal(cancelled, 200);
    set("FAKE_CUDA_BUSY", NULL);
    run_and_check(context, x, 4, 9);
}

/* An enqueued run is nobody's wait: it is waited for as ever. */
FAKE_TEST(an_enqueued_run_is_waited_for)
{
    behaviour how = {.drifts = false};
    owned_context context = make_stoppable(&how, 20, KILN_GRAPH_AUTOMATIC);
    float x[4] = {0};
    warm(context, x, 4);
    x[3] = 21;
    set("FAKE_CUDA_BUSY", "1");
    assert_ok(kiln_context_enqueue(context, NULL));
    assert_ok(kiln_context_cancel(context));
    assert_ok(kiln_context_wait(context));
    const kiln_tensor y = tensor_in(context, "y");
    assert_true(((const float *)y.data)[3] == 42);
}

FAKE_TEST(who_did_not_ask_waits)
{
    behaviour how = {.drifts = false};
    owned_engine engine = make_engine(&how, false, 0);
    owned_context context = NULL;
    kiln_context_options options = KILN_CONTEXT_OPTIONS(.run_milliseconds = 20);
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_context_create(engine, &options, &context),
                 "set stop_waiting");
    assert_ok(kiln_context_create(engine, NULL, &context));
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_context_cancel(context), "set stop_waiting");
}

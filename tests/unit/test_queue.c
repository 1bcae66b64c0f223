/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts over an engine on a GPU: the mock enqueues its work, tests/fake/fake_cuda.h plays the
 * driver. */
#include "mock_gpu_test.h"

FAKE_TEST(the_second_run_is_captured_and_the_third_replayed)
{
    behaviour how = {.drifts = false};
    owned_context context = make_context(&how, true, NULL);
    float x[8] = {0};
    run_and_check(context, x, 8, 1);
    kiln_context_counters counters = counters_of(context);
    assert_int_equal(counters.graph_captures, 0);
    assert_int_equal(counters.graph_misses, 1);
    run_and_check(context, x, 8, 2);
    counters = counters_of(context);
    assert_int_equal(counters.graph_captures, 1);
    assert_int_equal(counters.graph_misses, 2);
    assert_int_equal(counters.graphs, 1);
    assert_true(counters.staging_bytes >= 2 * sizeof x);
    const unsigned runs = how.runs;
    run_and_check(context, x, 8, 3);
    run_and_check(context, x, 8, 4);
    counters = counters_of(context);
    assert_int_equal(counters.graph_hits, 2);
    assert_int_equal(counters.runs, 4);
    assert_int_equal(how.runs, runs); /* the backend is not asked */
    assert_string_equal(counters.graph_reason, "");
}

FAKE_TEST(replays_allocate_nothing)
{
    behaviour how = {.drifts = false};
    owned_context context = make_context(&how, false, NULL);
    float x[8] = {0};
    run_and_check(context, x, 8, 1);
    run_and_check(context, x, 8, 2);
    const unsigned long device = calls("cuMemAlloc_v2") + calls("cuMemHostAlloc");
    const uint64_t before = kiln_test_allocations();
    for (int i = 0; i < 100; i++) {
        run_and_check(context, x, 8, (float)i);
    }
    assert_int_equal(kiln_test_allocations(), before);
    assert_int_equal(calls("cuMemAlloc_v2") + calls("cuMemHostAlloc"), device);
}

/* Room for a few graphs of one kernel each (kln_graph_bytes): what they hold beside is small. */
static kiln_context *make_small_cache(behaviour *how, uint64_t graphs)
{
    kiln_context_options options =
        KILN_CONTEXT_OPTIONS(.graph_bytes = graphs * (uint64_t)(300 << 10));
    return make_context(how, true, &options);
}

FAKE_TEST(each_set_of_shapes_has_its_graph)
{
    behaviour how = {.drifts = false};
    owned_context context = make_small_cache(&how, 4);
    float x[8] = {0};
    for (int64_t count = 1; count <= 3; count++) {
        run_and_check(context, x, count, 1);
        run_and_check(context, x, count, 2);
    }
    kiln_context_counters counters = counters_of(context);
    assert_int_equal(counters.graph_captures, 3);
    assert_int_equal(counters.graph_evictions, 0);
    assert_int_equal(counters.graphs, 3);
    for (int64_t count = 1; count <= 3; count++) {
        run_and_check(context, x, count, 3);
    }
    counters = counters_of(context);
    assert_int_equal(counters.graph_hits, 3);
    assert_int_equal(counters.graph_hits + counters.graph_misses, counters.runs);
}

/* More sets of shapes than there is room for, one after the other: those that have a graph keep it.
 */
FAKE_TEST(shapes_in_turn_do_not_drive_each_other_out)
{
    enum { SHAPES = 11, ROOM = 8, ROUNDS = 40 };
    behaviour how = {.drifts = false};
    owned_context context = make_small_cache(&how, ROOM);
    float x[SHAPES] = {0};
    for (int round = 0; round < ROUNDS; round++) {
        for (int64_t count = 1; count <= SHAPES; count++) {
            run_and_check(context, x, count, (float)round);
        }
    }
    const kiln_context_counters counters = counters_of(context);
    assert_int_equal(counters.graphs, ROOM);
    assert_int_equal(counters.graph_evictions, 0);
    assert_int_equal(counters.graph_hits, ROOM * (ROUNDS - 2));
    assert_int_equal(counters.graph_failures, 0);
    assert_non_null(strstr(counters.graph_reason, "which are used as often"));
}

FAKE_TEST(shapes_that_are_used_more_take_the_room)
{
    behaviour how = {.drifts = false};
    owned_context context = make_small_cache(&how, 2);
    float x[8] = {0};
    for (int64_t count = 1; count <= 2; count++) {
        for (int i = 0; i < 20; i++) {
            run_and_check(context, x, count, (float)i);
        }
    }
    assert_int_equal(counters_of(context).graphs, 2);
    const uint64_t before = counters_of(context).graph_hits;
    for (int i = 0; i < 300; i++) {
        run_and_check(context, x, 3 + i % 2, (float)i);
    }
    const kiln_context_counters counters = counters_of(context);
    assert_int_equal(counters.graph_evictions, 2);
    assert_int_equal(counters.graphs, 2);
    assert_true(counters.graph_hits - before > 200);
}

/* Past what is remembered, an old entry is made a new one's. */
FAKE_TEST(a_thousand_shapes_take_bounded_memory)
{
    enum { SHAPES = 1200 };
    behaviour how = {.drifts = false};
    owned_context context = make_small_cache(&how, 2);
    float *x = calloc(SHAPES, sizeof *x);
    assert_non_null(x);
    for (int64_t count = 1; count <= SHAPES; count++) {
        run_and_check(context, x, count, 1);
    }
    const uint64_t before = kiln_test_allocations();
    for (int64_t count = 1; count <= SHAPES; count++) {
        run_and_check(context, x, count, 2);
    }
    assert_int_equal(kiln_test_allocations(), before);
    assert_int_equal(counters_of(context).graph_failures, 0);
    free(x);
}

FAKE_TEST(no_room_at_all_is_no_failure_unless_a_graph_is_required)
{
    behaviour how = {.drifts = false};
    kiln_context_options options = KILN_CONTEXT_OPTIONS(.graph_bytes = 1000);
    owned_context context = make_context(&how, true, &options);
    float x[8] = {0};
    for (int i = 0; i < 4; i++) {
        run_and_check(context, x, 8, (float)i);
    }
    kiln_context_counters counters = counters_of(context);
    assert_int_equal(counters.graph_hits, 0);
    assert_int_equal(counters.graph_misses, 4);
    assert_non_null(strstr(counters.graph_reason, "kiln_context_options.graph_bytes allows 1000"));
    kiln_context_destroy(context);
    options.graphs = KILN_GRAPH_REQUIRED;
    context = make_context(&how, true, &options);
    bind_tensor(context, "x", floats(x, 8));
    assert_fails(KILN_ERROR_LIMIT, kiln_context_run(context), "a captured graph is required");
    counters = counters_of(context);
    assert_int_equal(counters.runs, 0);
    assert_int_equal(counters.failed_runs, 1);
}

/* A run is a hit or a miss, and one that failed is neither. */
FAKE_TEST(counters_add_up)
{
    behaviour how = {.drifts = false};
    owned_context context = make_context(&how, true, NULL);
    float x[8] = {0};
    for (int i = 0; i < 6; i++) {
        run_and_check(context, x, 8, (float)i);
        set("FAKE_CUDA_LOST", "719");
        assert_status(KILN_ERROR_DEVICE, kiln_context_run(context));
        set("FAKE_CUDA_LOST", NULL);
    }
    /* One that was enqueued fails when it is waited for. */
    for (int i = 0; i < 2; i++) {
        assert_ok(kiln_context_enqueue(context, NULL));
        set("FAKE_CUDA_LOST", "719");
        assert_status(KILN_ERROR_DEVICE, kiln_context_wait(context));
        set("FAKE_CUDA_LOST", NULL);
    }
    const kiln_context_counters counters = counters_of(context);
    assert_int_equal(counters.runs, 6);
    assert_int_equal(counters.failed_runs, 8);
    assert_int_equal(counters.graph_hits + counters.graph_misses, 6);
}

FAKE_TEST(a_capture_that_fails_says_why_and_runs_go_on)
{
    behaviour how = {.drifts = false};
    set("FAKE_CUDA_CAPTURE", "fail");
    owned_context context = make_context(&how, true, NULL);
    float x[8] = {0};
    for (int i = 0; i < 4; i++) {
        run_and_check(context, x, 8, (float)i);
    }
    const kiln_context_counters counters = counters_of(context);
    assert_int_equal(counters.graph_failures, 1);
    assert_int_equal(counters.graph_captures, 0);
    assert_int_equal(counters.graph_misses, 4);
    assert_int_equal(counters.staging_bytes, 0);
    assert_non_null(strstr(counters.graph_reason, "900"));
}

FAKE_TEST(a_replay_with_another_result_is_refused)
{
    behaviour how = {.drifts = true};
    owned_context context = make_context(&how, true, NULL);
    float x[8] = {0};
    bind_tensor(context, "x", floats(x, 8));
    assert_ok(kiln_context_run(context));
    assert_ok(kiln_context_run(context));
    const kiln_context_counters counters = counters_of(context);
    assert_int_equal(counters.graph_failures, 1);
    assert_non_null(strstr(counters.graph_reason, "another output \"y\""));
}

FAKE_TEST(what_is_required_is_kept_or_refused)
{
    behaviour how = {.drifts = false};
    kiln_context_options options = KILN_CONTEXT_OPTIONS(.graphs = KILN_GRAPH_REQUIRED);
    owned_context context = make_context(&how, true, &options);
    float x[8] = {0};
    run_and_check(context, x, 8, 1);
    assert_int_equal(counters_of(context).graph_captures, 1);
    run_and_check(context, x, 8, 2);
    assert_int_equal(counters_of(context).graph_hits, 1);
    how.fails = true;
    bind_tensor(context, "x", floats(x, 4));
    assert_fails(KILN_ERROR_BACKEND, kiln_context_run(context), "a captured graph is required",
                 "this work does not travel");
    assert_status(KILN_ERROR_BACKEND, kiln_context_run(context));
    how.fails = false;
    run_and_check(context, x, 4, 3);
    assert_int_equal(counters_of(context).failed_runs, 2);
}

FAKE_TEST(off_means_that_nothing_is_captured)
{
    behaviour how = {.drifts = false};
    kiln_context_options options = KILN_CONTEXT_OPTIONS(.graphs = KILN_GRAPH_OFF);
    owned_context context = make_context(&how, true, &options);
    float x[8] = {0};
    const unsigned long captures = calls("cuStreamBeginCapture_v2");
    for (int i = 0; i < 3; i++) {
        run_and_check(context, x, 8, (float)i);
    }
    assert_int_equal(how.enqueued, 0);
    assert_int_equal(calls("cuStreamBeginCapture_v2"), captures);
    /* Enqueued all the same, once the shapes are known. */
    float y[8] = {0};
    bind_tensor(context, "y", floats(y, 8));
    for (int i = 0; i < 3; i++) {
        x[7] = (float)i;
        assert_ok(kiln_context_enqueue(context, NULL));
        x[7] = -1;
        assert_ok(kiln_context_wait(context));
        assert_true(y[7] == 2 * (float)i);
    }
    assert_true(how.enqueued > 0);
}

FAKE_TEST(memory_of_every_place_is_used_where_it_lies)
{
    static const kiln_location places[] = {KILN_LOCATION_PINNED, KILN_LOCATION_MANAGED,
                                           KILN_LOCATION_DEVICE};
    for (size_t p = 0; p < KLN_ARRAY_LENGTH(places); p++) {
        behaviour how = {.drifts = false};
        owned_context context = make_context(&how, true, NULL);
        float x[8] = {0};
        float y[8] = {0};
        bind_tensor(context, "x", placed(floats(x, 8), places[p]));
        bind_tensor(context, "y", placed(floats(y, 8), places[p]));
        for (int i = 0; i < 4; i++) {
            x[0] = (float)i;
            assert_ok(kiln_context_run(context));
            assert_true(y[0] == 2 * (float)i);
        }
        assert_int_equal(counters_of(context).graph_hits, 2);
        /* Another address is another graph. */
        float z[8] = {0};
        bind_tensor(context, "y", placed(floats(z, 8), places[p]));
        assert_ok(kiln_context_run(context));
        assert_true(z[0] == 6);
        assert_int_equal(counters_of(context).graph_hits, 2);
    }
}

/* The input is read from a copy, so that the run can be repeated. */
FAKE_TEST(outputs_over_inputs_are_captured_too)
{
    behaviour how = {.drifts = false};
    owned_context context = make_context(&how, true, NULL);
    float x[8] = {1};
    const kiln_tensor both = placed(floats(x, 8), KILN_LOCATION_DEVICE);
    assert_ok(kiln_context_bind(context, "x", &both));
    assert_ok(kiln_context_bind(context, "y", &both));
    for (int i = 0; i < 6; i++) {
        assert_ok(kiln_context_run(context));
    }
    assert_true(x[0] == 64);
    assert_int_equal(counters_of(context).graph_hits, 4);
    assert_string_equal(counters_of(context).graph_reason, "");
}

FAKE_TEST(the_contexts_own_memory_is_pinned_and_stays_with_its_graph)
{
    behaviour how = {.drifts = false};
    owned_context context = make_context(&how, false, NULL);
    const kiln_shape eight = KILN_SHAPE(8);
    const kiln_shape more = KILN_SHAPE(800);
    kiln_tensor x;
    kiln_tensor y;
    assert_ok(kiln_context_reshape(context, "x", &eight));
    assert_ok(kiln_context_tensor(context, "x", &x));
    assert_int_equal(x.desc.location, KILN_LOCATION_PINNED);
    for (int i = 0; i < 4; i++) {
        ((float *)x.data)[0] = (float)i;
        assert_ok(kiln_context_run(context));
        assert_ok(kiln_context_tensor(context, "y", &y));
        assert_true(((float *)y.data)[0] == 2 * (float)i);
    }
    assert_int_equal(counters_of(context).graphs, 1);
    assert_ok(kiln_context_reshape(context, "x", &more)); /* the memory moves */
    assert_int_equal(counters_of(context).graphs, 0);
    assert_ok(kiln_context_run(context));
}

static kiln_status fill_with(void *user, kiln_mutable_span memory)
{
    float *next = user;
    if (*next > 5) {
        return KILN_ERROR_IO;
    }
    assert_int_equal(memory.size, 8 * sizeof(float));
    ((float *)memory.data)[0] = (*next)++;
    return KILN_OK;
}

FAKE_TEST(an_input_may_be_written_at_the_last_moment)
{
    behaviour how = {.drifts = false};
    owned_context context = make_context(&how, true, NULL);
    const kiln_shape eight = KILN_SHAPE(8);
    float next = 1;
    kiln_tensor y;
    assert_status(KILN_ERROR_NAME,
                  kiln_context_bind_deferred(context, "z", &eight, fill_with, &next));
    assert_ok(kiln_context_bind_deferred(context, "x", &eight, fill_with, &next));
    for (int i = 1; i <= 5; i++) {
        assert_ok(kiln_context_run(context));
        assert_ok(kiln_context_tensor(context, "y", &y));
        assert_true(((float *)y.data)[0] == 2 * (float)i);
    }
    assert_fails(KILN_ERROR_IO, kiln_context_run(context), "input \"x\": its fill function failed");
    float x[8] = {21};
    bind_tensor(context, "x", floats(x, 8));
    assert_ok(kiln_context_run(context));
}

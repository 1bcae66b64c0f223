/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_cuda_test.h"
#include "graph_maker.h"
#include "kiln_test.h"

#define ENDLESS (INT64_C(1) << 62)

static const char *const backends[] = {"reference", "onnxruntime"};

/* y: x with 1 added `trips` times; all: each of the sums, where it is asked for. */
static kiln_engine *make_engine_as(const kiln_build_options *options, bool with_all)
{
    owned_maker m;
    kln_onnx_graph *outer = NULL;
    maker_model(&m, 17, "in trips int64[]; in x float32[2]; one={1.0}");
    maker_node(&m, "Loop", "trips,,x", with_all ? "y,all" : "y");
    maker_enter(&m, "body", &outer);
    maker_text(&m,
               "in i int64[]; in on bool[]; in v float32[2]; on_out=Identity(on); "
               "v_out=Add(v,one); out on_out bool[]; out v_out float32[2]");
    if (with_all) {
        maker_text(&m, "each=Identity(v_out); out each float32[2]");
    }
    maker_leave(&m, outer);
    maker_output(&m, "y", 1, "2");
    if (with_all) {
        maker_output(&m, "all", 1, "n,2");
    }
    assert_ok(m.status);
    return built_bytes(maker_span(m.model), options);
}

static kiln_engine *make_engine(const char *backend, bool with_all)
{
    kiln_build_options options = backend_options(backend);
    options.threads = 1;
    return make_engine_as(&options, with_all);
}

typedef struct seat {
    kiln_context *context;
    int64_t trips;
    float x[2];
    float y[2];
} seat;

/* Over an engine that goes with the seat. */
static void take_seat_at(seat *s, kiln_engine *engine, const kiln_context_options *options)
{
    *s = (seat){.trips = 3, .x = {1, 2}};
    assert_ok(kiln_context_create(engine, options, &s->context));
    kiln_engine_release(engine);
    assert_ok(kiln_context_bind(
        s->context, "trips",
        &KILN_HOST_TENSOR(KILN_DTYPE_INT64, KILN_SHAPE_SCALAR, &s->trips, sizeof s->trips)));
    assert_ok(kiln_context_bind(
        s->context, "x", &KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(2), s->x, sizeof s->x)));
    assert_ok(kiln_context_bind(
        s->context, "y", &KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(2), s->y, sizeof s->y)));
}

static void take_seat(seat *s, const char *backend, bool with_all,
                      const kiln_context_options *options)
{
    take_seat_at(s, make_engine(backend, with_all), options);
}

static void expect_a_good_run(seat *s)
{
    s->trips = 3;
    memset(s->y, 0, sizeof s->y);
    assert_ok(kiln_context_run(s->context));
    assert_true(s->y[0] > 3.9F && s->y[0] < 4.1F && s->y[1] > 4.9F && s->y[1] < 5.1F);
}

TEST_EACH(an_endless_run_is_cancelled, i, KLN_ARRAY_LENGTH(backends))
{
    seat s;
    take_seat(&s, backends[i], false, NULL);
    expect_a_good_run(&s);
    for (int round = 0; round < 3; round++) {
        kiln_test_canceller other = {.context = s.context, .pause = 5000};
        s.trips = ENDLESS;
        kiln_test_begin_cancelling(&other, 1);
        const kiln_status status = kiln_context_run(s.context);
        kiln_test_end_cancelling(&other);
        assert_int_equal(KILN_ERROR_CANCELLED, status);
        assert_message("the run was cancelled");
        expect_a_good_run(&s);
    }
    /* With nothing under way it is for nobody. */
    assert_ok(kiln_context_cancel(s.context));
    expect_a_good_run(&s);
    kiln_context_destroy(s.context);
}

TEST_EACH(a_run_has_a_limit_of_time, i, KLN_ARRAY_LENGTH(backends))
{
    seat s;
    kiln_context_options options = KILN_CONTEXT_OPTIONS(.run_milliseconds = 30);
    take_seat(&s, backends[i], false, &options);
    for (int round = 0; round < 2; round++) {
        s.trips = ENDLESS;
        assert_fails(KILN_ERROR_TIMEOUT, kiln_context_run(s.context),
                     "after the 30 ms that it may take");
    }
    kiln_context_destroy(s.context);
    options.run_milliseconds = UINT64_MAX;
    take_seat(&s, backends[i], false, &options);
    for (int round = 0; round < 100; round++) {
        expect_a_good_run(&s);
    }
    kiln_context_destroy(s.context);
}

TEST(a_run_has_a_limit_of_memory)
{
    seat s;
    kiln_context_options options = KILN_CONTEXT_OPTIONS(.run_memory_bytes = 1 << 20);
    take_seat(&s, "reference", true, &options);
    for (int round = 0; round < 3; round++) {
        s.trips = ENDLESS;
        assert_fails(KILN_ERROR_LIMIT, kiln_context_run(s.context), "1048576 are allowed");
        expect_a_good_run(&s);
    }
    kiln_context_destroy(s.context);
}

TEST(what_cannot_be_kept_is_refused)
{
    owned_context context = NULL;
    owned_engine engine = make_engine("onnxruntime", false);
    kiln_context_options options = KILN_CONTEXT_OPTIONS(.run_memory_bytes = 1);
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_context_create(engine, &options, &context),
                 "run_memory_bytes");
    kiln_engine_release(engine);
    kiln_mock_options mock = KILN_MOCK_OPTIONS(.handler = kiln_test_idle);
    assert_ok(kiln_engine_create_mock(&mock, &engine));
    options.run_memory_bytes = 0;
    options.run_milliseconds = 1;
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_context_create(engine, &options, &context),
                 "cannot be stopped");
    assert_ok(kiln_context_create(engine, NULL, &context));
    assert_status(KILN_ERROR_UNSUPPORTED, kiln_context_cancel(context));
}

/* Runs that begin and end while others are cancelled end as they should or as cancelled. */
TEST_EACH(cancelling_at_any_moment_does_no_harm, i, KLN_ARRAY_LENGTH(backends))
{
    seat s;
    kiln_context_options options = KILN_CONTEXT_OPTIONS(.run_milliseconds = 10000);
    take_seat(&s, backends[i], false, &options);
    kiln_test_canceller other = {.context = s.context};
    kiln_test_begin_cancelling(&other, 2);
    for (int round = 0; round < 300; round++) {
        const kiln_status status = kiln_context_run(s.context);
        assert_true(status == KILN_OK || status == KILN_ERROR_CANCELLED);
    }
    kiln_test_end_cancelling(&other);
    expect_a_good_run(&s);
    kiln_context_destroy(s.context);
}

/* What ONNX Runtime gives to a GPU node by node stops between the nodes, if the caller may be told
 * so: tests/fake/fake_cuda_ort.c plays its CUDA provider. */
FAKE_TEST(a_loop_on_a_gpu_is_stopped)
{
    kiln_backend_info info = {.struct_size = sizeof info};
    seat s;
    assert_ok(kiln_backend_choose("onnxruntime", &info));
    set("FAKE_ORT_REAL", info.library);
    kiln_build_options options =
        KILN_BUILD_OPTIONS(.backend = "onnxruntime", .library = kiln_test_built("fake/cudaort"),
                           .provider = KILN_PROVIDER_CUDA, .threads = 1);
    kiln_context_options limits =
        KILN_CONTEXT_OPTIONS(.graphs = KILN_GRAPH_OFF, .stop_waiting = true,
                             .run_milliseconds = 30);
    take_seat_at(&s, make_engine_as(&options, false), &limits);
    for (int round = 0; round < 2; round++) {
        s.trips = ENDLESS;
        assert_fails(KILN_ERROR_TIMEOUT, kiln_context_run(s.context),
                     "after the 30 ms that it may take");
    }
    kiln_context_destroy(s.context);
    limits.run_milliseconds = 0;
    take_seat_at(&s, make_engine_as(&options, false), &limits);
    expect_a_good_run(&s);
    kiln_context_destroy(s.context);
}

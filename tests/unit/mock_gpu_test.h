/* SPDX-License-Identifier: Apache-2.0 */
/* An engine of the mock on a GPU, y = 2 x, for tests over the fake CUDA driver. */
#ifndef MOCK_GPU_TEST_H
#define MOCK_GPU_TEST_H

#include "context_test.h"
#include "fake_cuda_test.h"

/* How the mock behaves, for contexts on several threads as well. */
typedef struct behaviour {
    bool drifts;     /* each run adds one more: no replay gives what the run before gave */
    bool fails;      /* enqueue fails */
    const void *far; /* reading this input counts: it lies across a bus */
    atomic_uint runs;
    atomic_uint enqueued;
} behaviour;

typedef struct work {
    const float *x;
    float *y;
    int64_t count;
    float plus;
    bool is_far;
} work;

/* Recorded in graphs, so it lasts as long as the test. */
static work works[4096];
static atomic_size_t work_count;
static atomic_ulong far_reads;

static inline void compute(void *user)
{
    const work *todo = user;
    far_reads += todo->is_far ? 1 : 0;
    for (int64_t i = 0; i < todo->count; i++) {
        todo->y[i] = 2 * todo->x[i] + todo->plus;
    }
}

static inline work work_of(behaviour *how, const kiln_mock_run *run)
{
    return (work){.x = run->inputs[0].data,
                  .y = run->outputs[0].data,
                  .count = run->inputs[0].desc.shape.dims[0],
                  .plus = how->drifts ? (float)how->runs : 0,
                  .is_far = how->far != NULL && run->inputs[0].data == how->far};
}

static inline kiln_status run_now(void *user, kiln_mock_run *run, char message[1024])
{
    behaviour *how = user;
    how->runs++;
    work todo = work_of(how, run);
    compute(&todo);
    return KILN_OK;
}

static inline kiln_status run_later(void *user, kiln_mock_run *run, kiln_stream *stream,
                                    char message[1024])
{
    behaviour *how = user;
    how->runs++;
    how->enqueued++;
    if (how->fails) {
        (void)snprintf(message, 1024, "this work does not travel");
        return KILN_ERROR_BACKEND;
    }
    assert_int_equal(run->inputs[0].desc.location, KILN_LOCATION_DEVICE);
    assert_int_equal(run->outputs[0].desc.location, KILN_LOCATION_DEVICE);
    const size_t place = work_count++;
    assert_true(place < KLN_ARRAY_LENGTH(works));
    work *todo = &works[place];
    *todo = work_of(how, run);
    return kiln_stream_call(stream, compute, todo);
}

/* An engine with the options' handlers: "x" and "y" are floats, as many as a run is given. */
static inline kiln_status create_engine(kiln_mock_options options, kiln_engine **engine)
{
    const kiln_binding x = binding_of("x", KILN_DTYPE_FLOAT32, KILN_SHAPE(KILN_DYNAMIC), "n");
    kiln_binding y = x;
    y.name = "y";
    options.inputs = &x;
    options.input_count = 1;
    options.outputs = &y;
    options.output_count = 1;
    work_count = 0;
    return kiln_engine_create_mock(&options, engine);
}

/* An engine on the CPU has no `enqueue`. */
static inline kiln_mock_options options_of(behaviour *how)
{
    return KILN_MOCK_OPTIONS(.handler = run_now, .enqueue = run_later, .user = how);
}

static inline kiln_engine *make_engine(behaviour *how, bool one_stream, int32_t device)
{
    kiln_mock_options options = options_of(how);
    options.device = device;
    options.one_stream = one_stream;
    kiln_engine *engine = NULL;
    assert_ok(create_engine(options, &engine));
    return engine;
}

static inline kiln_context *make_context(behaviour *how, bool one_stream,
                                         const kiln_context_options *options)
{
    owned_engine engine = make_engine(how, one_stream, 0);
    return context_with(engine, options);
}

static inline kiln_tensor placed(kiln_tensor tensor, kiln_location location)
{
    tensor.desc.location = location;
    return tensor;
}

static inline void run_and_check(kiln_context *context, float *x, int64_t count, float value)
{
    run_and_expect(context, x, count, value, 2 * value);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Results fed back as inputs, and other memory that a run reads and writes: 20 steps of a recurrent
 * network on each backend there is, against the same steps with copies. */
#include "fake_tensorrt_test.h"

#define STEPS 20
#define WIDTH 4

/* hidden = past [1, 4] times "w", present = hidden + x, y = present times "v". */
static kiln_network *recurrent_network(void)
{
    static float w[2][WIDTH * WIDTH];
    for (int i = 0; i < WIDTH * WIDTH; i++) {
        w[0][i] = (float)((i * 5 + i / WIDTH * 3) % 7 - 3) / 8;
        w[1][i] = (float)((i * 3 + i / WIDTH * 5) % 5 - 2) / 4;
    }
    return made_network(w[0],
                        "in x float32[1,%d]; in past float32[1,%d]; floats w float32[%d,%d]; "
                        "floats v float32[%d,%d]; hidden=MatMul(past,w); present=Add(hidden,x); "
                        "y=MatMul(present,v); out present; out y",
                        WIDTH, WIDTH, WIDTH, WIDTH, WIDTH, WIDTH);
}

/* --- one backend after the other --- */

#define BACKENDS (FAKE_LAYOUTS + 2)

/* NULL where it is not here. */
static kiln_engine *make_engine(size_t backend)
{
    static const char *const names[] = {"reference", "onnxruntime"};
    kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
    if (backend < FAKE_LAYOUTS) {
        options = fake_options(backend);
    } else {
        options.backend = names[backend - FAKE_LAYOUTS];
    }
    kiln_network *network = recurrent_network();
    kiln_engine *engine = NULL;
    const kiln_status status = kiln_engine_build(network, &options, &engine);
    kiln_network_destroy(network);
    if (status != KILN_OK) {
        assert_true(backend > FAKE_LAYOUTS);
        assert_null(engine);
    }
    return engine;
}

typedef struct steps {
    float x[STEPS][WIDTH];
    float y[STEPS][WIDTH]; /* as they should be */
    float present[STEPS][WIDTH];
} steps;

static kiln_tensor row_of(void *data)
{
    return KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(1, WIDTH), data, WIDTH * sizeof(float));
}

static void bind_row(kiln_context *context, const char *name, void *data)
{
    bind_tensor(context, name, row_of(data));
}

static void check_row(kiln_context *context, const char *name, const float *expected)
{
    const kiln_tensor found = tensor_in(context, name);
    assert_memory_equal(found.data, expected, WIDTH * sizeof(float));
}

/* With memory of its own for everything. */
static void run_with_copies(kiln_engine *engine, steps *all)
{
    float past[WIDTH] = {1, -1, 2, -2};
    owned_context context = context_on(engine);
    for (int i = 0; i < STEPS; i++) {
        for (int k = 0; k < WIDTH; k++) {
            all->x[i][k] = (float)((i * 7 + k * 3) % 5 - 2);
        }
        float present[WIDTH];
        float y[WIDTH];
        bind_row(context, "x", all->x[i]);
        bind_row(context, "past", past);
        bind_row(context, "present", present);
        bind_row(context, "y", y);
        assert_ok(kiln_context_run(context));
        memcpy(all->present[i], present, sizeof present);
        memcpy(all->y[i], y, sizeof y);
        memcpy(past, present, sizeof past);
    }
}

static void start(kiln_context *context, const steps *all, int step, float *x)
{
    memcpy(x, all->x[step], WIDTH * sizeof(float));
    bind_row(context, "x", x);
}

/* --- the ways to feed back --- */

static void bind_result(kiln_context *context, const steps *all)
{
    float x[WIDTH];
    float past[WIDTH] = {1, -1, 2, -2};
    bind_row(context, "past", past);
    for (int i = 0; i < STEPS; i++) {
        start(context, all, i, x);
        assert_ok(kiln_context_run(context));
        check_row(context, "y", all->y[i]);
        check_row(context, "present", all->present[i]);
        kiln_tensor present = tensor_in(context, "present");
        assert_ok(kiln_context_bind(context, "past", &present));
    }
}

static void bind_result_over_own_memory(kiln_context *context, const steps *all)
{
    float x[WIDTH];
    const kiln_shape row = KILN_SHAPE(1, WIDTH);
    static const float first[WIDTH] = {1, -1, 2, -2};
    kiln_tensor past;
    assert_ok(kiln_context_reshape(context, "past", &row));
    assert_ok(kiln_context_tensor(context, "past", &past));
    memcpy(past.data, first, sizeof first);
    start(context, all, 0, x);
    /* Until it is a graph's memory that the result lies in. */
    for (int i = 0; i < 4; i++) {
        assert_ok(kiln_context_run(context));
    }
    for (int i = 1; i < STEPS; i++) {
        kiln_tensor present = tensor_in(context, "present");
        start(context, all, i, x);
        assert_ok(kiln_context_bind(context, "past", &present));
        assert_ok(kiln_context_run(context));
        check_row(context, "y", all->y[i]);
    }
}

static void run_tensors(kiln_context *context, const steps *all)
{
    float x[WIDTH];
    float past[WIDTH] = {1, -1, 2, -2};
    kiln_named_tensor inputs[] = {{"x", row_of(x)}, {"past", row_of(past)}};
    kiln_allocation_counters before = {.allocations = 0};
    kiln_allocation_counters after = {.allocations = 0};
    for (int i = 0; i < STEPS; i++) {
        kiln_named_tensor outputs[] = {{"present", {.data = NULL}}, {"y", {.data = NULL}}};
        memcpy(x, all->x[i], sizeof x);
        kiln_get_allocation_counters(&before);
        assert_ok(kiln_context_run_tensors(context, inputs, 2, outputs, 2));
        kiln_get_allocation_counters(&after);
        if (i > 4 && ON_STAND_IN) {
            assert_int_equal(after.allocations, before.allocations);
        }
        assert_memory_equal(outputs[1].tensor.data, all->y[i], sizeof x);
        inputs[1].tensor = outputs[0].tensor;
    }
}

static void one_memory_for_both(kiln_context *context, const steps *all)
{
    float x[WIDTH];
    float both[WIDTH] = {1, -1, 2, -2};
    bind_row(context, "x", x);
    bind_row(context, "past", both);
    bind_row(context, "present", both);
    for (int i = 0; i < STEPS; i++) {
        memcpy(x, all->x[i], sizeof x);
        assert_ok(kiln_context_run(context));
        assert_memory_equal(both, all->present[i], sizeof both);
        check_row(context, "y", all->y[i]);
    }
    /* And none once they lie apart again. */
    float other[WIDTH];
    bind_row(context, "present", other);
    memcpy(both, all->present[3], sizeof both);
    memcpy(x, all->x[4], sizeof x);
    assert_ok(kiln_context_run(context));
    assert_memory_equal(other, all->present[4], sizeof other);
    assert_memory_equal(both, all->present[3], sizeof both);
    const kiln_tensor past = tensor_in(context, "past");
    assert_ptr_equal(past.data, both);
}

static void memory_that_overlaps_in_part(kiln_context *context, const steps *all)
{
    for (size_t shift = 1; shift < WIDTH; shift++) {
        for (int below = 0; below < 2; below++) {
            float x[WIDTH];
            float memory[2 * WIDTH] = {0};
            float *past = below ? memory + shift : memory;
            float *present = below ? memory : memory + shift;
            static const float first[WIDTH] = {1, -1, 2, -2};
            memcpy(past, first, sizeof first);
            bind_row(context, "x", x);
            bind_row(context, "past", past);
            bind_row(context, "present", present);
            for (int i = 0; i < STEPS; i++) {
                memcpy(x, all->x[i], sizeof x);
                assert_ok(kiln_context_run(context));
                assert_memory_equal(present, all->present[i], sizeof x);
                check_row(context, "y", all->y[i]);
                memmove(past, present, sizeof x);
            }
        }
    }
}

static void the_inputs_own_memory(kiln_context *context, const steps *all)
{
    float x[WIDTH];
    static const float first[WIDTH] = {1, -1, 2, -2};
    const kiln_shape row = KILN_SHAPE(1, WIDTH);
    kiln_tensor past;
    assert_ok(kiln_context_reshape(context, "past", &row));
    assert_ok(kiln_context_tensor(context, "past", &past));
    memcpy(past.data, first, sizeof first);
    assert_ok(kiln_context_bind(context, "present", &past));
    for (int i = 0; i < STEPS; i++) {
        start(context, all, i, x);
        assert_ok(kiln_context_run(context));
        assert_memory_equal(past.data, all->present[i], sizeof x);
        check_row(context, "y", all->y[i]);
    }
}

static void two_memories_in_turn(kiln_context *context, const steps *all)
{
    float x[WIDTH];
    float memories[2][WIDTH] = {{1, -1, 2, -2}};
    bind_row(context, "x", x);
    for (int i = 0; i < STEPS; i++) {
        memcpy(x, all->x[i], sizeof x);
        bind_row(context, "past", memories[i % 2]);
        bind_row(context, "present", memories[(i + 1) % 2]);
        assert_ok(kiln_context_run(context));
        assert_memory_equal(memories[(i + 1) % 2], all->present[i], sizeof x);
        check_row(context, "y", all->y[i]);
    }
    const kiln_context_counters counters = counters_of(context);
    assert_int_equal(counters.bytes_owned, 0); /* nothing was copied */
}

TENSORRT_TEST(each_way_gives_what_copies_give)
{
    static void (*const ways[])(kiln_context *, const steps *) = {
        bind_result,         bind_result_over_own_memory,  run_tensors,
        one_memory_for_both, memory_that_overlaps_in_part, the_inputs_own_memory,
        two_memories_in_turn};
    for (size_t backend = 0; backend < BACKENDS; backend++) {
        owned_engine engine = make_engine(backend);
        for (size_t i = 0; engine != NULL && i < KLN_ARRAY_LENGTH(ways); i++) {
            steps all;
            run_with_copies(engine, &all);
            owned_context context = context_on(engine);
            ways[i](context, &all);
        }
    }
}

/* In memory that the device reaches, on a stream of the caller's and without waiting. */
TENSORRT_TEST(memory_of_the_device_too)
{
    static const kiln_location places[] = {KILN_LOCATION_PINNED, KILN_LOCATION_MANAGED,
                                           KILN_LOCATION_DEVICE};
    for (size_t i = 0; i < FAKE_LAYOUTS * 6; i++) {
        const kiln_location place = places[i % 3];
        steps all;
        owned_engine engine = make_engine(i / 6);
        run_with_copies(engine, &all);
        owned_context context = context_on(engine);
        float x[WIDTH];
        float first[WIDTH] = {1, -1, 2, -2};
        const kiln_shape row = KILN_SHAPE(1, WIDTH);
        owned_stream stream = stream_on(0);
        owned_buffer buffer = new_buffer(place, 0, 256);
        kiln_tensor both = buffer_tensor(buffer, 0, KILN_DTYPE_FLOAT32, &row);
        assert_ok(kiln_buffer_write(buffer, 0, (kiln_span){first, sizeof first}, NULL));
        bind_row(context, "x", x);
        assert_ok(kiln_context_bind(context, "past", &both));
        assert_ok(kiln_context_bind(context, "present", &both));
        for (int step = 0; step < STEPS; step++) {
            memcpy(x, all.x[step], sizeof x);
            if (i / 3 % 2 == 0) {
                assert_ok(kiln_context_run(context));
            } else {
                assert_ok(kiln_context_enqueue(context, stream));
                assert_ok(kiln_context_wait(context));
            }
            assert_ok(kiln_buffer_read(buffer, 0, (kiln_mutable_span){first, sizeof first}, NULL));
            if (memcmp(first, all.present[step], sizeof first) != 0) {
                fail_msg("step %d, %s memory, %s: %g %g %g %g, expected %g %g %g %g", step,
                         kiln_location_name(place), i / 3 % 2 == 0 ? "waited for" : "enqueued",
                         (double)first[0], (double)first[1], (double)first[2], (double)first[3],
                         (double)all.present[step][0], (double)all.present[step][1],
                         (double)all.present[step][2], (double)all.present[step][3]);
            }
            check_row(context, "y", all.y[step]);
        }
    }
}

/* --- what cannot be meant --- */

static void check_refusals(kiln_context *context, const steps *all)
{
    float x[WIDTH];
    float past[WIDTH] = {1, -1, 2, -2};
    float memory[2 * WIDTH];
    start(context, all, 0, x);
    bind_row(context, "past", past);
    assert_ok(kiln_context_run(context));
    kiln_tensor present = tensor_in(context, "present");
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_context_bind(context, "y", &present),
                 "output \"y\": the memory at ",
                 "with the last result of output \"present\"; bind memory of your own");
    assert_ok(kiln_context_bind(context, "past", &present));
    start(context, all, 1, x);
    assert_ok(kiln_context_run(context));
    check_row(context, "y", all->y[1]);
    /* What was fed to that run is gone. */
    start(context, all, 2, x);
    assert_fails(KILN_ERROR_STATE, kiln_context_run(context),
                 "input \"past\" is bound to the result of output \"present\" of an earlier run");
    bind_row(context, "past", past);
    bind_row(context, "present", memory);
    bind_row(context, "y", memory + WIDTH - 1);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_context_run(context),
                 "outputs \"present\" and \"y\" are bound to memory that overlaps");
    bind_row(context, "y", memory + WIDTH);
    start(context, all, 0, x);
    assert_ok(kiln_context_run(context));
    assert_memory_equal(memory, all->present[0], sizeof x);
    assert_memory_equal(memory + WIDTH, all->y[0], sizeof x);
}

/* Runs of a warmup are one run to what was fed. */
static void check_warmup(kiln_context *context, const steps *all)
{
    float x[WIDTH];
    float past[WIDTH] = {1, -1, 2, -2};
    const kiln_tensor zeroed = {.data = NULL};
    kiln_tensor present;
    assert_ok(kiln_context_bind(context, "present", &zeroed));
    assert_ok(kiln_context_bind(context, "y", &zeroed));
    start(context, all, 0, x);
    bind_row(context, "past", past);
    assert_ok(kiln_context_warmup(context, 5, 0, NULL));
    assert_ok(kiln_context_tensor(context, "present", &present));
    assert_ok(kiln_context_bind(context, "past", &present));
    start(context, all, 1, x);
    assert_ok(kiln_context_warmup(context, 5, 0, NULL));
    check_row(context, "y", all->y[1]);
    assert_status(KILN_ERROR_STATE, kiln_context_warmup(context, 1, 0, NULL));
    check_row(context, "y", all->y[1]); /* they are still there */
}

EACH_OF(TENSORRT_TEST(what_cannot_be_meant_is_refused), what_cannot_be_meant_is_refused, backend,
        BACKENDS)
{
    owned_engine engine = make_engine(backend);
    if (engine != NULL) {
        steps all;
        run_with_copies(engine, &all);
        owned_context context = context_on(engine);
        check_refusals(context, &all);
        check_warmup(context, &all);
    }
}

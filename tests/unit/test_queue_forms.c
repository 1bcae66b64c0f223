/* SPDX-License-Identifier: Apache-2.0 */
/* Which form a captured run gets: the driver that tests/fake/fake_cuda.h plays makes some slow. */
#include <stdlib.h>

#include "mock_gpu_test.h"

/* Past what a device may read over the bus. */
enum { COUNT = (4 << 20) / (int)sizeof(float) + 64 };

/* What the engine's log said, a line for each message. */
static char lines[16384];
static size_t line_bytes;

static void keep_line(void *user, kiln_log_level level, const char *component, const char *message)
{
    (void)user;
    (void)level;
    if (strcmp(component, "engine") == 0 && line_bytes < sizeof lines) {
        line_bytes +=
            (size_t)snprintf(lines + line_bytes, sizeof lines - line_bytes, "%s\n", message);
    }
}

static int begin_forms(void **state)
{
    line_bytes = 0;
    lines[0] = '\0';
    kiln_log_set_sink(keep_line, NULL, KILN_LOG_DEBUG);
    return begin_fake(state);
}

static int end_forms(void **state)
{
    kiln_log_set_sink(NULL, NULL, KILN_LOG_OFF);
    return end_fake(state);
}

static void assert_said(const char *words)
{
    if (strstr(lines, words) == NULL) {
        fail_msg("\"%s\" is not in the log:\n%s", words, lines);
    }
}

/* --- y = 2 x --- */

static kiln_context *capture_one(behaviour *how, float *x, int64_t count)
{
    kiln_context *context = make_context(how, true, NULL);
    run_and_check(context, x, count, 1);
    run_and_check(context, x, count, 2);
    assert_int_equal(counters_of(context).graph_captures, 1);
    return context;
}

static void inputs_may_travel_ahead_of_the_graph(void **state)
{
    (void)state;
    behaviour how = {.drifts = false};
    float *x = calloc(COUNT, sizeof *x);
    assert_non_null(x);
    set("FAKE_CUDA_SLOW", "30000");
    set("FAKE_CUDA_KERNELS", "load");
    kiln_context *context = capture_one(&how, x, COUNT);
    set("FAKE_CUDA_SLOW", NULL);
    assert_said("kept: inputs copied ahead, outputs copied\n");
    assert_said("no graph with inputs gathered by a kernel, outputs copied: loading the kernel");
    for (int i = 3; i < 6; i++) {
        const unsigned long copies = calls("cuMemcpyAsync");
        run_and_check(context, x, COUNT, (float)i);
        assert_int_equal(calls("cuMemcpyAsync"), copies + 1);
    }
    assert_int_equal(counters_of(context).graph_hits, 3);
    kiln_context_destroy(context);
    free(x);
}

static void a_kernel_gathers_where_copies_are_slow(void **state)
{
    (void)state;
    behaviour how = {.drifts = false};
    float *x = calloc(COUNT, sizeof *x);
    assert_non_null(x);
    /* The kernel is played a thread at a time, so it takes some milliseconds itself. */
    set("FAKE_CUDA_SLOW_COPIES", "50000");
    kiln_context *context = capture_one(&how, x, COUNT);
    assert_said("kept: inputs gathered by a kernel, outputs gathered by a kernel\n");
    const unsigned long copies = calls("cuMemcpyAsync");
    const unsigned long launches = calls("cuLaunchKernel");
    for (int i = 3; i < 6; i++) {
        run_and_check(context, x, COUNT, (float)i);
    }
    assert_int_equal(counters_of(context).graph_hits, 3);
    assert_int_equal(calls("cuMemcpyAsync"), copies);
    assert_int_equal(calls("cuLaunchKernel"), launches); /* they are in the graph */
    kiln_context_destroy(context);
    free(x);
}

static void small_tensors_stay_where_they_lie(void **state)
{
    (void)state;
    behaviour how = {.drifts = false};
    float x[64] = {0};
    set("FAKE_CUDA_SLOW_COPIES", "1000");
    set("FAKE_CUDA_KERNELS", "launch");
    kiln_context *context = capture_one(&how, x, 64);
    assert_said("kept: inputs mapped, outputs mapped\n");
    assert_said("a graph of 3 nodes, inputs copied, outputs copied: ");
    assert_said("a graph of 1 nodes, inputs mapped, outputs mapped: ");
    assert_true(counters_of(context).staging_bytes == 2 * sizeof x); /* pinned, not the device's */
    /* The form tried last had memory of the device, which is gone: a bare run is bound anew. */
    kiln_tensor y;
    run_and_check(context, x, 64, 3);
    assert_ok(kiln_context_tensor(context, "y", &y));
    const float *const shown = y.data;
    assert_ok(kiln_context_run_raw(context, NULL));
    assert_ptr_equal(works[work_count - 1].y, shown);
    kiln_context_destroy(context);
}

/* Each form is tried once, and no more than seven are. */
static void the_forms_tried_are_few(void **state)
{
    (void)state;
    behaviour how = {.drifts = false};
    float x[64] = {0};
    kiln_context *context = capture_one(&how, x, 64);
    size_t count = 0;
    for (const char *at = lines; (at = strstr(at, "a graph of ")) != NULL; at++) {
        const size_t length = strcspn(at, ":");
        char form[128];
        (void)snprintf(form, sizeof form, "%.*s", (int)length, at);
        assert_null(strstr(at + 1, form));
        count++;
    }
    assert_in_range(count, 5, 7);
    kiln_context_destroy(context);
}

static void what_is_large_is_not_gathered(void **state)
{
    (void)state;
    enum { LARGE = (16 << 20) / (int)sizeof(float) + 1 };
    behaviour how = {.drifts = false};
    float *x = calloc(LARGE, sizeof *x);
    assert_non_null(x);
    const unsigned long launches = calls("cuLaunchKernel");
    kiln_context *context = capture_one(&how, x, LARGE);
    assert_int_equal(calls("cuLaunchKernel"), launches);
    assert_null(strstr(lines, "gathered"));
    kiln_context_destroy(context);
    free(x);
}

static void without_kernels_there_are_copies(void **state)
{
    (void)state;
    static const struct {
        const char *fault; /* NULL: the functions are not there */
        const char *words;
    } faults[] = {
        {"load", "outputs copied: loading the kernel"},
        {"name", "outputs copied: loading the kernel"},
        {"launch", "outputs copied: copying by a kernel"},
        {NULL, "outputs copied: this driver (CUDA 12.8) lacks functions"},
    };
    float *x = calloc(COUNT, sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(faults); i++) {
        behaviour how = {.drifts = false};
        line_bytes = 0;
        lines[0] = '\0';
        set("FAKE_CUDA_KERNELS", faults[i].fault);
        if (faults[i].fault == NULL) {
            kln_cuda_close();
            set("KILN_CUDA_DRIVER", FAKE_CUDA_PLAIN);
        }
        kiln_context *context = capture_one(&how, x, COUNT);
        assert_said("no graph with inputs gathered by a kernel, ");
        assert_said(faults[i].words);
        assert_said(", outputs copied\n");
        run_and_check(context, x, COUNT, 5);
        assert_int_equal(counters_of(context).graph_hits, 1);
        kiln_context_destroy(context);
    }
    free(x);
}

/* --- more tensors than one launch takes: y_i = 2 x_i --- */

enum { TENSORS = KLN_CUDA_PIECES + 4, EACH = 65536 };

typedef struct many_work {
    const float *x[TENSORS];
    float *y[TENSORS];
} many_work;

static many_work many_works[64];
static size_t many_count;

static void compute_many(void *user)
{
    const many_work *todo = user;
    for (size_t t = 0; t < TENSORS; t++) {
        for (size_t i = 0; i < EACH - t; i++) {
            todo->y[t][i] = 2 * todo->x[t][i];
        }
    }
}

static many_work many_work_of(const kiln_mock_run *run)
{
    many_work todo;
    for (size_t t = 0; t < TENSORS; t++) {
        todo.x[t] = run->inputs[t].data;
        todo.y[t] = run->outputs[t].data;
    }
    return todo;
}

static kiln_status many_now(void *user, kiln_mock_run *run, char message[1024])
{
    (void)user;
    (void)message;
    many_work todo = many_work_of(run);
    compute_many(&todo);
    return KILN_OK;
}

static kiln_status many_later(void *user, kiln_mock_run *run, kiln_stream *stream,
                              char message[1024])
{
    (void)user;
    (void)message;
    assert_true(many_count < KLN_ARRAY_LENGTH(many_works));
    many_work *todo = &many_works[many_count++];
    *todo = many_work_of(run);
    return kiln_stream_call(stream, compute_many, todo);
}

static char many_names[2][TENSORS][8];

static kiln_context *make_many(void)
{
    kiln_binding bindings[2][TENSORS];
    for (size_t t = 0; t < TENSORS; t++) {
        for (size_t side = 0; side < 2; side++) {
            (void)snprintf(many_names[side][t], sizeof many_names[side][t], "%c%zu", "xy"[side], t);
            bindings[side][t] = (kiln_binding){.struct_size = sizeof bindings[side][t],
                                               .name = many_names[side][t],
                                               .dtype = KILN_DTYPE_FLOAT32,
                                               .shape = KILN_SHAPE((int64_t)(EACH - t))};
        }
    }
    kiln_mock_options options = KILN_MOCK_OPTIONS_INIT;
    options.inputs = bindings[0];
    options.input_count = TENSORS;
    options.outputs = bindings[1];
    options.output_count = TENSORS;
    options.handler = many_now;
    options.enqueue = many_later;
    options.user = many_works;
    kiln_engine *engine = NULL;
    kiln_context *context = NULL;
    many_count = 0;
    assert_ok(kiln_engine_create_mock(&options, &engine));
    assert_ok(kiln_context_create(engine, NULL, &context));
    kiln_engine_release(engine);
    return context;
}

static void more_tensors_than_a_launch_takes_are_several(void **state)
{
    (void)state;
    kiln_context *context = make_many();
    float *x = calloc((size_t)TENSORS * EACH, sizeof *x);
    assert_non_null(x);
    for (size_t t = 0; t < TENSORS; t++) {
        const kiln_tensor tensor = floats(x + t * EACH, (int64_t)(EACH - t));
        assert_ok(kiln_context_bind(context, many_names[0][t], &tensor));
    }
    set("FAKE_CUDA_SLOW_COPIES", "6000");
    for (int round = 1; round < 5; round++) {
        for (size_t t = 0; t < TENSORS; t++) {
            x[t * EACH] = (float)round;
            x[t * EACH + EACH - t - 1] = (float)(round * 1000 + (int)t);
        }
        assert_ok(kiln_context_run(context));
        for (size_t t = 0; t < TENSORS; t++) {
            kiln_tensor y;
            assert_ok(kiln_context_tensor(context, many_names[1][t], &y));
            const float *data = y.data;
            assert_true(data[0] == 2 * (float)round);
            assert_true(data[EACH - t - 1] == 2 * (float)(round * 1000 + (int)t));
        }
    }
    assert_int_equal(counters_of(context).graph_hits, 2);
    assert_said("a graph of 5 nodes, inputs gathered by a kernel, outputs gathered by a kernel: ");
    assert_said("kept: inputs gathered by a kernel, outputs gathered by a kernel\n");
    kiln_context_destroy(context);
    free(x);
}

#define forms_test(function) cmocka_unit_test_setup_teardown(function, begin_forms, end_forms)

int main(void)
{
    const struct CMUnitTest tests[] = {
        forms_test(inputs_may_travel_ahead_of_the_graph),
        forms_test(a_kernel_gathers_where_copies_are_slow),
        forms_test(small_tensors_stay_where_they_lie),
        forms_test(the_forms_tried_are_few),
        forms_test(what_is_large_is_not_gathered),
        forms_test(without_kernels_there_are_copies),
        forms_test(more_tensors_than_a_launch_takes_are_several),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

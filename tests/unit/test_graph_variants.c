/* SPDX-License-Identifier: Apache-2.0 */
/* Which variant a captured run gets: by rule at first, by measuring in a warmup. The driver that
 * tests/fake/fake_cuda.h plays makes some slow, by a clock that knows nothing of this machine. */
#include <cJSON.h>

#include "exec/graph_variants.h"
#include "mock_gpu_test.h"

/* Past what a device may write over the bus. */
enum { COUNT = (4 << 20) / (int)sizeof(float) + 64 };
/* By rule a kernel gathers so many. */
enum { GATHERED = (512 << 10) / (int)sizeof(float) };

/* Time is what the fake driver says that its work took, 20 ms for reading over the bus, and 0.1
 * ms for each look at the clock. The driver stays open, for it counts from there. */
uint64_t __wrap_kln_now(void);

static unsigned long (*device_took)(void);
static atomic_ulong looks;

uint64_t __wrap_kln_now(void)
{
    const unsigned long on_device = device_took() + far_reads * 20000000;
    return on_device + atomic_fetch_add(&looks, 1) * 100000;
}

/* What the engine's log said, a line for each message. */
static char lines[16384];
static size_t line_bytes;

static void keep_line(void *user, kiln_log_level level, const char *component, const char *message)
{
    if (strcmp(component, "engine") == 0 && line_bytes < sizeof lines) {
        line_bytes +=
            (size_t)snprintf(lines + line_bytes, sizeof lines - line_bytes, "%s\n", message);
    }
}

static int begin_variants(void **state)
{
    void *address = dlsym(dlopen(FAKE_CUDA, RTLD_NOW | RTLD_LOCAL), "fake_cuda_took");
    assert_non_null(address);
    memcpy(&device_took, &address, sizeof address);
    line_bytes = 0;
    lines[0] = '\0';
    kiln_log_set_sink(keep_line, NULL, KILN_LOG_DEBUG);
    return begin_fake(state);
}

static int end_variants(void **state)
{
    kiln_log_set_sink(NULL, NULL, KILN_LOG_OFF);
    return end_fake(state);
}

static void assert_kept(const char *in, const char *out)
{
    char begin[128];
    (void)snprintf(begin, sizeof begin, "inputs %s, outputs %s: ", in, out);
    for (const char *at = lines; (at = strstr(at, begin)) != NULL; at++) {
        const size_t length = strcspn(at, "\n");
        if (length > 6 && strncmp(at + length - 6, ", kept", 6) == 0) {
            return;
        }
    }
    fail_msg("inputs %s, outputs %s were not kept:\n%s", in, out, lines);
}

static void assert_said(const char *words)
{
    if (strstr(lines, words) == NULL) {
        fail_msg("\"%s\" is not in the log:\n%s", words, lines);
    }
}

static void free_floats(float *const *memory)
{
    free(*memory);
}

#define owned_floats __attribute__((cleanup(free_floats))) float *
static float *zeros(size_t count)
{
    float *memory = calloc(count, sizeof *memory);
    assert_non_null(memory);
    return memory;
}

/* --- y = 2 x --- */

/* As run_and_check, from pinned memory. */
static void run_pinned(kiln_context *context, float *x, int64_t count, float value)
{
    x[count - 1] = value;
    bind_tensor(context, "x", placed(floats(x, count), KILN_LOCATION_PINNED));
    assert_ok(kiln_context_run(context));
    const kiln_tensor y = tensor_in(context, "y");
    assert_true(((const float *)y.data)[count - 1] == 2 * value);
}

static kiln_context *capture_one(behaviour *how, float *x, int64_t count)
{
    kiln_context *context = make_context(how, true, NULL);
    run_pinned(context, x, count, 1);
    run_pinned(context, x, count, 2);
    assert_int_equal(counters_of(context).graph_captures, 1);
    assert_null(strstr(lines, "kept")); /* nothing is measured in a run */
    return context;
}

/* The same after a warmup: three runs, of which the last is a replay. */
static kiln_context *measure_one(behaviour *how, float *x, int64_t count)
{
    kiln_context *context = make_context(how, true, NULL);
    bind_tensor(context, "x", placed(floats(x, count), KILN_LOCATION_PINNED));
    assert_ok(kiln_context_warmup(context, 3, 0, NULL));
    const kiln_context_counters counters = counters_of(context);
    assert_int_equal(counters.graph_captures, 1);
    assert_int_equal(counters.graphs, 1);
    assert_int_equal(counters.runs, 3);
    assert_int_equal(counters.graph_hits, 1);
    run_pinned(context, x, count, 2);
    return context;
}

#define VARIANTS_TEST(name) TEST_WITH(name, begin_variants, end_variants)

VARIANTS_TEST(inputs_may_travel_ahead_of_the_graph)
{
    behaviour how = {.drifts = false};
    owned_floats x = zeros(COUNT);
    how.far = x;
    set("FAKE_CUDA_SLOW", "30000");
    set("FAKE_CUDA_KERNELS", "load");
    owned_context context = measure_one(&how, x, COUNT);
    set("FAKE_CUDA_SLOW", NULL);
    assert_kept("outside", "copied");
    assert_said("no graph with inputs gathered, outputs copied: loading the kernel");
    for (int i = 3; i < 6; i++) {
        const unsigned long copies = calls("cuMemcpyAsync");
        run_pinned(context, x, COUNT, (float)i);
        assert_int_equal(calls("cuMemcpyAsync"), copies + 1);
    }
    assert_int_equal(counters_of(context).graph_hits, 5);
}

VARIANTS_TEST(a_kernel_gathers_where_copies_are_slow)
{
    behaviour how = {.drifts = false};
    owned_floats x = zeros(COUNT);
    how.far = x;
    set("FAKE_CUDA_SLOW_COPIES", "50000");
    owned_context context = measure_one(&how, x, COUNT);
    assert_kept("gathered", "gathered");
    const unsigned long copies = calls("cuMemcpyAsync");
    const unsigned long launches = calls("cuLaunchKernel");
    for (int i = 3; i < 6; i++) {
        run_pinned(context, x, COUNT, (float)i);
    }
    assert_int_equal(counters_of(context).graph_hits, 5);
    assert_int_equal(calls("cuMemcpyAsync"), copies);
    assert_int_equal(calls("cuLaunchKernel"), launches); /* they are in the graph */
}

VARIANTS_TEST(small_tensors_stay_where_they_lie)
{
    behaviour how = {.drifts = false};
    float x[64] = {0};
    set("FAKE_CUDA_SLOW_COPIES", "1000");
    set("FAKE_CUDA_KERNELS", "launch");
    owned_context context = measure_one(&how, x, 64);
    assert_kept("mapped", "mapped");
    assert_true(counters_of(context).staging_bytes ==
                sizeof x); /* the output's, pinned, not the device's */
    /* The form tried last had memory of the device, which is gone: a bare run is bound anew. */
    run_pinned(context, x, 64, 3);
    const kiln_tensor y = tensor_in(context, "y");
    const float *const shown = y.data;
    assert_ok(kiln_context_run_raw(context, NULL));
    assert_ptr_equal(works[work_count - 1].y, shown);
}

/* Each pair of modes that pinned memory can have is measured once; outputs never go ahead. */
VARIANTS_TEST(every_variant_is_measured)
{
    static const char *const modes[] = {"mapped", "copied", "outside", "gathered"};
    behaviour how = {.drifts = false};
    float x[64] = {0};
    owned_context context = measure_one(&how, x, 64);
    for (size_t in = 0; in < KLN_ARRAY_LENGTH(modes); in++) {
        for (size_t out = 0; out < KLN_ARRAY_LENGTH(modes); out++) {
            char words[128];
            (void)snprintf(words, sizeof words, "inputs %s, outputs %s: ", modes[in], modes[out]);
            const char *found = strstr(lines, words);
            assert_true((found != NULL) == (out != 2));
            assert_true(found == NULL || strstr(found + 1, words) == NULL);
        }
    }
    /* Once is enough: the next warmup only runs. */
    line_bytes = 0;
    assert_ok(kiln_context_warmup(context, 2, 0, NULL));
    assert_int_equal(line_bytes, 0);
}

/* Of a run without a warmup the first one of each size is chosen by rule, and captured once. */
VARIANTS_TEST(a_run_captures_one_variant_by_rule)
{
    static const struct {
        int64_t count;
        const char *words;
    } cases[] = {
        {16, "a graph of 2 nodes, inputs gathered, outputs mapped\n"},
        {128 << 10, "a graph of 3 nodes, inputs gathered, outputs gathered\n"},
        {1 << 20, "a graph of 3 nodes, inputs copied, outputs copied\n"},
    };
    owned_floats x = zeros(1 << 20);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(cases); i++) {
        behaviour how = {.drifts = false};
        line_bytes = 0;
        const unsigned long captures = calls("cuStreamBeginCapture_v2");
        owned_context context = capture_one(&how, x, cases[i].count);
        assert_said(cases[i].words);
        assert_int_equal(calls("cuStreamBeginCapture_v2"), captures + 1);
    }
}

/* What one context measured the next one begins with, for the same shapes. By rule a kernel would
 * gather so much; the played device is faster where it lies. */
VARIANTS_TEST(what_was_measured_stays_with_the_engine)
{
    behaviour how = {.drifts = false};
    owned_floats x = zeros(GATHERED);
    owned_engine engine = make_engine(&how, true, 0);
    const int64_t counts[] = {GATHERED, GATHERED, GATHERED - 1};
    static const char *const words[] = {"inputs gathered", "inputs mapped", "inputs gathered"};
    set("FAKE_CUDA_SLOW_COPIES", "3000");
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(counts); i++) {
        line_bytes = 0;
        owned_context context = context_on(engine);
        run_pinned(context, x, counts[i], 1);
        run_pinned(context, x, counts[i], 2);
        assert_said(words[i]);
        if (i == 0) {
            assert_ok(kiln_context_warmup(context, 1, 0, NULL));
            assert_kept("mapped", "mapped");
        }
    }
}

/* --- in a manifest --- */

static kiln_status read_back(const char *text, measured_variants *found)
{
    cJSON *root = cJSON_Parse(text);
    assert_non_null(root);
    const kiln_status status = measured_variants_read(found, root);
    cJSON_Delete(root);
    return status;
}

TEST(variants_are_written_down_and_read)
{
    measured_variants kept = {.count = 0};
    measured_variants found = {.count = 7};
    measured_variant row = {.gpu = "a GPU",
                            .variant = {.in = TRANSFER_OUTSIDE, .out = TRANSFER_GATHERED}};
    for (uint64_t i = 0; i < MEASURED_VARIANTS + 3; i++) {
        row.bindings = UINT64_C(0xfedcba9876543210) + i;
        row.nanoseconds = 1000 + i;
        row.variant.unfenced = i % 2 == 0;
        measured_variants_put(&kept, &row);
        measured_variants_put(&kept, &row); /* in its own place */
    }
    assert_int_equal(kept.count, MEASURED_VARIANTS);
    cJSON *root = cJSON_CreateObject();
    assert_true(measured_variants_write(&kept, root));
    char *text = cJSON_Print(root);
    assert_ok(read_back(text, &found));
    graph_variant variant = {.in = TRANSFER_MAPPED, .out = TRANSFER_MAPPED};
    assert_false(measured_variants_get(&found, row.bindings, "another GPU", &variant));
    assert_false(measured_variants_get(&found, UINT64_C(0xfedcba9876543212), "a GPU", &variant));
    assert_true(measured_variants_get(&found, row.bindings, "a GPU", &variant));
    assert_int_equal(variant.in, TRANSFER_OUTSIDE);
    assert_int_equal(variant.out, TRANSFER_GATHERED);
    const bool unfenced = variant.unfenced;
    assert_true(measured_variants_get(&found, row.bindings - 1, "a GPU", &variant));
    assert_true(unfenced && !variant.unfenced);
    cJSON_free(text);
    cJSON_Delete(root);
    assert_ok(read_back("{}", &found));
    assert_int_equal(found.count, 0);
}

TEST(variants_of_nonsense_are_refused)
{
    static const char *const rows[] = {
        "1",
        "{}",
        "{\"bindings\": \"12\", \"gpu\": \"g\", \"inputs\": \"copied\", \"outputs\": "
        "\"copied\", \"nanoseconds\": 1}",
        "{\"bindings\": \"0123456789abcdef\", \"gpu\": \"\", \"inputs\": \"copied\", "
        "\"outputs\": \"copied\", \"nanoseconds\": 1}",
        "{\"bindings\": \"0123456789abcdef\", \"gpu\": \"g\", \"inputs\": \"carried\", "
        "\"outputs\": \"copied\", \"nanoseconds\": 1}",
        "{\"bindings\": \"0123456789abcdef\", \"gpu\": \"g\", \"inputs\": \"copied\", "
        "\"outputs\": \"ahead\", \"nanoseconds\": 1}",
        "{\"bindings\": \"0123456789abcdef\", \"gpu\": \"g\", \"inputs\": \"copied\", "
        "\"outputs\": \"copied\", \"nanoseconds\": -1}",
    };
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(rows); i++) {
        char text[512];
        measured_variants found;
        (void)snprintf(text, sizeof text, "{\"graph_variants\": [%s]}", rows[i]);
        assert_fails(KILN_ERROR_MALFORMED, read_back(text, &found), "graph_variants");
    }
}

VARIANTS_TEST(what_is_large_is_not_gathered)
{
    enum { LARGE = (16 << 20) / (int)sizeof(float) + 1 };
    behaviour how = {.drifts = false};
    owned_floats x = zeros(LARGE);
    const unsigned long launches = calls("cuLaunchKernel");
    owned_context context = measure_one(&how, x, LARGE);
    assert_int_equal(calls("cuLaunchKernel"), launches);
    assert_null(strstr(lines, "gathered"));
}

/* A first layer may read a large input over the bus as fast as a copy brings it. */
VARIANTS_TEST(large_inputs_may_stay_where_they_lie)
{
    behaviour how = {.drifts = false};
    owned_floats x = zeros(COUNT);
    set("FAKE_CUDA_SLOW_COPIES", "20000");
    set("FAKE_CUDA_KERNELS", "load");
    owned_context context = measure_one(&how, x, COUNT);
    assert_kept("mapped", "copied");
    assert_null(strstr(lines, "outputs mapped: "));
}

VARIANTS_TEST(without_kernels_there_are_copies)
{
    static const struct {
        const char *fault; /* NULL: the functions are not there */
        const char *words;
    } faults[] = {
        {"load", "loading the kernel"},
        {"name", "loading the kernel"},
        {"launch", "copying by a kernel"},
        {NULL, "this driver (CUDA 12.8) lacks functions"},
    };
    owned_floats x = zeros(COUNT);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(faults); i++) {
        behaviour how = {.drifts = false};
        line_bytes = 0;
        lines[0] = '\0';
        set("FAKE_CUDA_KERNELS", faults[i].fault);
        if (faults[i].fault == NULL) {
            kln_cuda_close();
            set("KILN_CUDA_DRIVER", FAKE_CUDA_PLAIN);
        }
        owned_context context = capture_one(&how, x, GATHERED);
        assert_said("no graph with inputs gathered, outputs gathered: ");
        assert_said(faults[i].words);
        assert_said("a graph of 3 nodes, inputs copied, outputs copied\n");
        run_pinned(context, x, GATHERED, 5);
        assert_int_equal(counters_of(context).graph_hits, 1);
    }
}

/* --- ordinary memory --- */

/* Of large tensors in ordinary memory the driver copies straight from and to where they lie, unless
 * nobody waits: then the memory is the caller's again as soon as the call returns. */
VARIANTS_TEST(ordinary_memory_is_handed_to_the_driver)
{
    behaviour how = {.drifts = false};
    owned_floats memory = zeros((size_t)4 * COUNT);
    owned_context context = make_context(&how, false, NULL);
    for (int i = 0; i < 8; i++) {
        float *x = memory + (size_t)(i % 2) * COUNT; /* it may move */
        float *y = memory + (size_t)(2 + i % 2) * COUNT;
        bind_tensor(context, "x", floats(x, COUNT));
        bind_tensor(context, "y", floats(y, COUNT));
        x[COUNT - 1] = (float)i;
        y[COUNT - 1] = -1;
        if (i < 5) {
            assert_ok(kiln_context_run(context));
        } else {
            assert_ok(kiln_context_enqueue(context, NULL));
            x[COUNT - 1] = -7;
            assert_ok(kiln_context_wait(context));
        }
        assert_true(y[COUNT - 1] == 2 * (float)i);
    }
    assert_said("inputs direct, outputs direct\n");
    const kiln_context_counters counters = counters_of(context);
    assert_int_equal(counters.graph_captures, 1);
    assert_int_equal(counters.graph_hits, 6);
    assert_ok(kiln_context_warmup(context, 3, 0, NULL));
    assert_said("inputs direct, outputs copied: ");
}

/* --- more tensors than one launch takes: y_i = 2 x_i --- */

enum { TENSORS = KLN_CUDA_PIECES + 4, EACH = 4096 };

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
    many_work todo = many_work_of(run);
    compute_many(&todo);
    return KILN_OK;
}

static kiln_status many_later(void *user, kiln_mock_run *run, kiln_stream *stream,
                              char message[1024])
{
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
    kiln_mock_options options =
        KILN_MOCK_OPTIONS(.inputs = bindings[0], .input_count = TENSORS, .outputs = bindings[1],
                          .output_count = TENSORS, .handler = many_now, .enqueue = many_later,
                          .user = many_works);
    many_count = 0;
    owned_engine engine = new_mock(&options);
    return context_on(engine);
}

VARIANTS_TEST(more_tensors_than_a_launch_takes_are_several)
{
    owned_context context = make_many();
    owned_floats x = zeros((size_t)TENSORS * EACH);
    for (size_t t = 0; t < TENSORS; t++) {
        const kiln_tensor tensor =
            placed(floats(x + t * EACH, (int64_t)(EACH - t)), KILN_LOCATION_PINNED);
        assert_ok(kiln_context_bind(context, many_names[0][t], &tensor));
    }
    for (int round = 1; round < 5; round++) {
        for (size_t t = 0; t < TENSORS; t++) {
            x[t * EACH] = (float)round;
            x[t * EACH + EACH - t - 1] = (float)(round * 1000 + (int)t);
        }
        assert_ok(kiln_context_run(context));
        for (size_t t = 0; t < TENSORS; t++) {
            const kiln_tensor y = tensor_in(context, many_names[1][t]);
            const float *data = y.data;
            assert_true(data[0] == 2 * (float)round);
            assert_true(data[EACH - t - 1] == 2 * (float)(round * 1000 + (int)t));
        }
    }
    assert_int_equal(counters_of(context).graph_hits, 2);
    assert_said("a graph of 6 nodes, inputs gathered, outputs gathered\n");
}

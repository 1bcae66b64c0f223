/* SPDX-License-Identifier: Apache-2.0 */
/* A scheduler over engines that compute: over a played GPU, whose graphs are captured once, and
 * over real models, whose results are those of a context's own runs. */
#include <sys/mman.h>

#include "mock_gpu_test.h"
#include "scheduler/scheduler_parts.h"

static kiln_scheduler *open_scheduler(kiln_engine *engine, kiln_scheduler_options options)
{
    options.struct_size = sizeof options;
    return scheduler_on(&engine, 1, &options);
}

/* --- a GPU --- */

enum { ROWS = 8, CONTEXTS = 2 };

static kiln_named_tensor floats_of(const char *name, float *data, int64_t count)
{
    return (kiln_named_tensor){name, KILN_HOST_TENSOR(KILN_DTYPE_FLOAT32, KILN_SHAPE(count), data,
                                                      (size_t)count * sizeof(float))};
}

static void double_floats(kiln_scheduler *scheduler, int64_t count, float value)
{
    float x[ROWS];
    float y[ROWS];
    for (int64_t i = 0; i < count; i++) {
        x[i] = value + (float)i;
    }
    const kiln_named_tensor input = floats_of("x", x, count);
    const kiln_named_tensor output = floats_of("y", y, count);
    assert_ok(kiln_scheduler_run(scheduler, &input, 1, &output, 1, NULL));
    for (int64_t i = 0; i < count; i++) {
        assert_true(y[i] == 2 * x[i]);
    }
}

static void *double_many(void *user)
{
    for (int i = 0; i < 100; i++) {
        double_floats(user, i % ROWS + 1, (float)i);
    }
    return NULL;
}

static void double_on_threads(kiln_scheduler *scheduler)
{
    kiln_test_in_threads(4, double_many, scheduler, 0);
}

typedef struct gpu_state {
    uint64_t graphs, captures, misses, hits;
    const void *pinned[CONTEXTS];
    unsigned long bytes;
    unsigned long long allocations;
} gpu_state;

static gpu_state look_at(const kiln_scheduler *scheduler)
{
    gpu_state found = {.bytes = fake_number("fake_cuda_bytes", "")};
    kiln_allocation_counters counters;
    for (size_t i = 0; i < CONTEXTS; i++) {
        const kiln_context_counters one = counters_of(scheduler->pool->seats[i]->context);
        const kiln_tensor view = buffer_tensor(scheduler->pool->seats[i]->inputs[0], 0,
                                               KILN_DTYPE_FLOAT32, &KILN_SHAPE(1));
        assert_int_equal(view.desc.location, KILN_LOCATION_PINNED);
        found.graphs += one.graphs;
        found.captures += one.graph_captures;
        found.misses += one.graph_misses;
        found.hits += one.graph_hits;
        found.pinned[i] = view.data;
    }
    kiln_get_allocation_counters(&counters);
    found.allocations = counters.allocations;
    return found;
}

FAKE_TEST(graphs_are_captured_once_for_each_size_and_context)
{
    behaviour how = {.drifts = false};
    float x[1] = {1};
    owned_engine engine = make_engine(&how, false, 0);
    owned_scheduler scheduler =
        open_scheduler(engine, (kiln_scheduler_options){.max_batch = ROWS, .contexts = CONTEXTS});
    const kiln_named_tensor input = floats_of("x", x, 1);
    assert_ok(kiln_scheduler_warmup(scheduler, &input, 1, 20));
    const gpu_state warm = look_at(scheduler);
    assert_int_equal(warm.graphs, CONTEXTS * 4); /* of 1, 2, 4 and 8 rows */
    assert_true(warm.captures >= warm.graphs);   /* the warmup may have tried several ways */
    double_on_threads(scheduler);
    const gpu_state begun = look_at(scheduler);
    assert_int_equal(begun.graphs, warm.graphs);
    assert_int_equal(begun.misses, warm.misses);
    (void)double_many(scheduler); /* of which no more are outstanding than were */
    const gpu_state after = look_at(scheduler);
    const kiln_scheduler_counters counters = scheduler_counters(scheduler);
    assert_int_equal(after.graphs, begun.graphs);
    assert_int_equal(after.captures, begun.captures);
    assert_int_equal(after.misses, begun.misses);
    assert_int_equal(after.hits + after.misses - warm.hits - warm.misses, counters.batches);
    assert_int_equal(after.bytes, begun.bytes);
    assert_memory_equal(after.pinned, warm.pinned, sizeof warm.pinned);
    assert_int_equal(after.allocations, begun.allocations);
}

/* Large batches are joined by several threads. */
enum { LARGE = 16384, LARGE_REQUESTS = 4 };

static void *double_large(void *user)
{
    float *x = malloc(LARGE * sizeof *x);
    float *y = malloc(LARGE * sizeof *y);
    assert_non_null(x);
    assert_non_null(y);
    for (int round = 0; round < 5; round++) {
        for (int64_t i = 0; i < LARGE; i++) {
            x[i] = (float)(i % 1000 + round);
        }
        const kiln_named_tensor input = floats_of("x", x, LARGE);
        const kiln_named_tensor output = floats_of("y", y, LARGE);
        assert_ok(kiln_scheduler_run(user, &input, 1, &output, 1, NULL));
        for (int64_t i = 0; i < LARGE; i++) {
            assert_true(y[i] == 2 * x[i]);
        }
    }
    free(x);
    free(y);
    return NULL;
}

FAKE_TEST(large_requests_are_joined_by_several_threads)
{
    behaviour how = {.drifts = false};
    static const int64_t whole[] = {LARGE, LARGE * LARGE_REQUESTS};
    owned_engine engine = make_engine(&how, false, 0);
    owned_scheduler scheduler =
        open_scheduler(engine, (kiln_scheduler_options){.schedule = KILN_SCHEDULE_THROUGHPUT,
                                                        .delay_nanoseconds = 50000000,
                                                        .batch_sizes = whole,
                                                        .batch_size_count = 2,
                                                        .contexts = CONTEXTS});
    kiln_test_in_threads(LARGE_REQUESTS, double_large, scheduler, 0);
    assert_true(scheduler->crew.started);
    const kiln_scheduler_counters counters = scheduler_counters(scheduler);
    assert_int_equal(counters.rows, 5 * LARGE_REQUESTS * LARGE);
}

/* Served on the CPU until the engine for the GPU is there, and back. */
FAKE_TEST(from_the_cpu_to_a_gpu_and_back)
{
    behaviour how = {.drifts = false};
    float x[1] = {1};
    owned_engine cpu = NULL;
    assert_ok(create_engine(KILN_MOCK_OPTIONS(.handler = run_now, .user = &how), &cpu));
    owned_engine gpu = make_engine(&how, false, 0);
    owned_scheduler scheduler = open_scheduler(cpu, (kiln_scheduler_options){.max_batch = ROWS});
    const kiln_named_tensor input = floats_of("x", x, 1);
    assert_ok(kiln_scheduler_warmup(scheduler, &input, 1, 1));
    double_floats(scheduler, 3, 1);
    kiln_engine *both[] = {cpu, gpu};
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_scheduler_replace(scheduler, both, 2),
                 "all on GPUs or all on the CPU");
    assert_ok(kiln_scheduler_replace(scheduler, &both[1], 1));
    assert_int_equal(scheduler->pool->count, 2);
    double_on_threads(scheduler);
    const kiln_scheduler_counters counters = scheduler_counters(scheduler);
    assert_int_equal(counters.graph_hits, counters.batches - 1); /* all captured while it warmed */
    assert_int_equal(counters.graph_misses, 0);
    assert_ok(kiln_scheduler_replace(scheduler, &both[0], 1));
    double_floats(scheduler, 3, 1);
    assert_int_equal(scheduler->pool->sizes.count, 0);
}

/* What lies behind a request's memory is not read, though an earlier one was larger. */
FAKE_TEST(a_request_alone_on_a_gpu_is_read_to_its_end)
{
    behaviour how = {.drifts = false};
    float y[64];
    float large[64] = {1};
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    owned_engine engine = make_engine(&how, false, 0);
    owned_scheduler scheduler =
        open_scheduler(engine, (kiln_scheduler_options){.batch_axis = -1, .contexts = 1});
    unsigned char *memory =
        mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    assert_int_equal(mprotect(memory + page, page, PROT_NONE), 0);
    float *small = (float *)(void *)(memory + page - 4 * sizeof(float));
    small[3] = 5;
    kiln_named_tensor input = floats_of("x", large, 64);
    kiln_named_tensor output = floats_of("y", y, 64);
    assert_ok(kiln_scheduler_run(scheduler, &input, 1, &output, 1, NULL));
    input = floats_of("x", small, 4);
    output = floats_of("y", y, 4);
    assert_ok(kiln_scheduler_run(scheduler, &input, 1, &output, 1, NULL));
    assert_true(y[3] == 10);
    assert_int_equal(munmap(memory, 2 * page), 0);
}

/* --- real models --- */

enum { REQUESTS = 6, MOST_OUTPUTS = 512 };

typedef struct real_model {
    const char *path;
    kiln_dtype dtype;
    int64_t row[3]; /* the dimensions of a row, 0: none */
} real_model;

static const real_model models[] = {
    {"models/magika/model.onnx", KILN_DTYPE_INT32, {2048}},
    {"models/rapidocr/cls.onnx", KILN_DTYPE_FLOAT32, {3, 48, 48}},
};

static kiln_shape shape_of(const real_model *model, int64_t rows)
{
    kiln_shape shape = {.rank = 1, .dims = {rows}};
    for (size_t i = 0; i < 3 && model->row[i] != 0; i++) {
        shape.dims[shape.rank++] = model->row[i];
    }
    return shape;
}

/* Small numbers, others for each request. */
static kiln_named_tensor make_input(const real_model *model, const char *name, int number)
{
    const kiln_shape shape = shape_of(model, number % 3 + 1);
    size_t bytes = 0;
    assert_ok(kiln_tensor_bytes(model->dtype, &shape, &bytes));
    unsigned char *data = malloc(bytes);
    assert_non_null(data);
    for (size_t i = 0; i < bytes / 4; i++) {
        const int32_t whole = (int32_t)((i * 7 + (size_t)number * 13) % 200);
        const float real = (float)whole / 200;
        memcpy(data + 4 * i, model->dtype == KILN_DTYPE_INT32 ? (const void *)&whole : &real, 4);
    }
    return (kiln_named_tensor){name, KILN_HOST_TENSOR(model->dtype, shape, data, bytes)};
}

static void assert_near(const kiln_tensor *found, const kiln_tensor *wanted, float most)
{
    const float *a = found->data;
    const float *b = wanted->data;
    assert_true(kiln_shape_equal(&found->desc.shape, &wanted->desc.shape));
    assert_int_equal(found->bytes, wanted->bytes);
    for (size_t i = 0; i < found->bytes / sizeof(float); i++) {
        assert_true(fabsf(a[i] - b[i]) <= most);
    }
}

static void compare_with_a_context(kiln_engine *engine, const real_model *model,
                                   kiln_scheduler_options options, float most)
{
    kiln_request *requests[REQUESTS];
    kiln_named_tensor inputs[REQUESTS];
    const kiln_binding in = input_at(engine, 0);
    const kiln_binding out = output_at(engine, 0);
    owned_context context = context_on(engine);
    owned_scheduler scheduler = open_scheduler(engine, options);
    for (int i = 0; i < REQUESTS; i++) {
        inputs[i] = make_input(model, in.name, i);
        assert_ok(kiln_scheduler_submit(scheduler, &inputs[i], 1, NULL, 0, NULL, &requests[i]));
    }
    for (int i = 0; i < REQUESTS; i++) {
        kiln_named_tensor own = {.name = out.name};
        kiln_tensor found;
        assert_ok(kiln_context_run_tensors(context, &inputs[i], 1, &own, 1));
        assert_ok(kiln_request_wait(requests[i], -1));
        assert_ok(kiln_request_output(requests[i], out.name, &found));
        assert_near(&found, &own.tensor, most);
        kiln_request_release(requests[i]);
        free(inputs[i].tensor.data);
    }
    const kiln_scheduler_counters counters = scheduler_counters(scheduler);
    assert_int_equal(counters.done, REQUESTS);
    assert_int_equal(counters.batches, options.batch_axis < 0 ? REQUESTS : 1);
}

TEST(results_of_real_models_are_those_of_a_context)
{
    static const char *const backends[] = {"onnxruntime", "reference"};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(models); i++) {
        for (size_t k = 0; k < KLN_ARRAY_LENGTH(backends); k++) {
            kiln_build_options options = KILN_BUILD_OPTIONS(.backend = backends[k]);
            SKIP_IF(access(kiln_test_deps(models[i].path), R_OK) != 0);
            owned_engine engine = built_file(kiln_test_deps(models[i].path), &options);
            const kiln_scheduler_options joined = {.schedule = KILN_SCHEDULE_THROUGHPUT,
                                                   .max_batch = 12, /* of all six together */
                                                   .delay_nanoseconds = UINT64_C(60000000000)};
            const kiln_scheduler_options alone = {.batch_axis = -1};
            compare_with_a_context(engine, &models[i], joined, 1e-5F);
            compare_with_a_context(engine, &models[i], alone, 0);
        }
    }
}

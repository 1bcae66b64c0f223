/* SPDX-License-Identifier: Apache-2.0 */
#include "context_test.h"

/* The mock doubles x ("n" floats) into y and sets total (fixed: 1 float) to its sum. */
static kiln_status doubling(void *user, kiln_mock_run *run, char message[1024])
{
    if (user != NULL && *(int *)user != 0) {
        (void)snprintf(message, 1024, "told to fail");
        return KILN_ERROR_BACKEND;
    }
    const float *x = run->inputs[0].data;
    float *y = run->outputs[0].data;
    float sum = 0;
    for (int64_t i = 0; i < run->inputs[0].desc.shape.dims[0]; i++) {
        y[i] = 2 * x[i];
        sum += x[i];
    }
    *(float *)run->outputs[1].data = sum;
    return KILN_OK;
}

static kiln_engine *make_engine(void *user, uint64_t fail_every, uint64_t latency)
{
    const kiln_binding input = binding_of("x", KILN_DTYPE_FLOAT32, KILN_SHAPE(KILN_DYNAMIC), "n");
    kiln_binding outputs[] = {input, binding_of("total", KILN_DTYPE_FLOAT32, KILN_SHAPE(1), NULL)};
    outputs[0].name = "y";
    kiln_mock_options options =
        KILN_MOCK_OPTIONS(.inputs = &input, .input_count = 1, .outputs = outputs, .output_count = 2,
                          .handler = doubling, .user = user, .fail_every = fail_every,
                          .latency_nanoseconds = latency);
    return new_mock(&options);
}

static kiln_context *make_context(void)
{
    owned_engine engine = make_engine(NULL, 0, 0);
    return context_on(engine);
}

TEST(an_engine_describes_its_bindings)
{
    kiln_engine *engine = make_engine(NULL, 0, 0);
    assert_int_equal(kiln_engine_input_count(engine), 1);
    assert_int_equal(kiln_engine_output_count(engine), 2);
    kiln_binding binding = input_at(engine, 0);
    assert_string_equal(binding.name, "x");
    assert_true(binding.is_input);
    assert_string_equal(binding.dim_names[0], "n");
    assert_ok(kiln_engine_output(engine, 1, &binding));
    assert_string_equal(binding.name, "total");
    assert_false(binding.is_input);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_output(engine, 2, &binding),
                 "output 2 was asked for, there are 2");
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_input(engine, 1, &binding));
    binding.struct_size = 8;
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_input(engine, 0, &binding));
    kiln_backend_info info = {.struct_size = sizeof info};
    assert_ok(kiln_engine_backend(engine, &info));
    assert_string_equal(info.name, "mock");
    kiln_metadata line;
    assert_int_equal(kiln_engine_metadata_count(engine), 0);
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_metadata(engine, 0, &line));
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_engine_save(engine, kiln_test_path("mock.plan")),
                 "mock");
    assert_ptr_equal(kiln_engine_retain(engine), engine);
    kiln_engine_release(engine);
    kiln_engine_release(engine);
    kiln_engine_release(NULL);
    assert_null(kiln_engine_retain(NULL));
    assert_int_equal(kiln_engine_input_count(NULL), 0);
    assert_int_equal(kiln_engine_output_count(NULL), 0);
    assert_int_equal(kiln_engine_metadata_count(NULL), 0);
}

TEST(bound_memory_is_used_as_it_is)
{
    owned_context context = make_context();
    float x[] = {1, 2, 3};
    float y[3] = {0};
    bind_tensor(context, "x", floats(x, 3));
    bind_tensor(context, "y", floats(y, 3));
    kiln_tensor shown;
    assert_fails(KILN_ERROR_STATE, kiln_context_tensor(context, "y", &shown),
                 "there is no result yet");
    assert_ok(kiln_context_run(context));
    assert_true(y[0] == 2 && y[1] == 4 && y[2] == 6);
    assert_ok(kiln_context_tensor(context, "y", &shown));
    assert_ptr_equal(shown.data, y);
    assert_ok(kiln_context_tensor(context, "total", &shown));
    assert_true(*(float *)shown.data == 6);
    x[0] = 10;
    assert_ok(kiln_context_run(context));
    assert_true(y[0] == 20);
    const kiln_context_counters counters = counters_of(context);
    assert_int_equal(counters.runs, 2);
    assert_int_equal(counters.binds, 3);
}

TEST(a_binding_can_be_taken_back)
{
    owned_context context = make_context();
    float x[] = {1, 2};
    const kiln_tensor input = floats(x, 2);
    assert_ok(kiln_context_bind(context, "x", &input));
    assert_ok(kiln_context_run(context));
    assert_ok(kiln_context_bind(context, "x", &(kiln_tensor){.data = NULL}));
    assert_fails(KILN_ERROR_NOT_BOUND, kiln_context_run(context), "input \"x\" is not bound",
                 "or give it a shape (kiln_context_reshape)");
    kiln_tensor shown;
    assert_fails(KILN_ERROR_NOT_BOUND, kiln_context_tensor(context, "x", &shown),
                 "kiln_context_reshape");
    assert_ok(kiln_context_bind(context, "x", &input));
    assert_ok(kiln_context_run(context));
}

TEST(the_context_provides_memory)
{
    owned_context context = make_context();
    assert_ok(kiln_context_reshape(context, "x", &KILN_SHAPE(4)));
    const kiln_tensor input = tensor_in(context, "x");
    assert_int_equal(input.bytes, 16);
    assert_int_equal((uintptr_t)input.data % 64, 0);
    float *x = input.data;
    assert_true(x[0] == 0 && x[3] == 0);
    x[1] = 5;
    assert_ok(kiln_context_run(context));
    kiln_tensor output = tensor_in(context, "y");
    assert_int_equal(output.desc.shape.dims[0], 4);
    assert_true(((float *)output.data)[1] == 10);
    const kiln_context_counters counters = counters_of(context);
    assert_int_equal(counters.bytes_owned, 16);
    assert_ok(kiln_context_reshape(context, "x", &KILN_SHAPE(2)));
    assert_status(KILN_ERROR_STATE, kiln_context_tensor(context, "y", &output));
    assert_ok(kiln_context_run(context));
    assert_ok(kiln_context_tensor(context, "y", &output));
    assert_int_equal(output.desc.shape.dims[0], 2);
}

TEST(what_does_not_fit_is_refused_by_kind)
{
    owned_context context = make_context();
    float x[8] = {0};
    kiln_tensor tensor = floats(x, 4);
    assert_fails(KILN_ERROR_NAME, kiln_context_bind(context, "z", &tensor),
                 "there is no input or output \"z\"; there are \"x\", \"y\", \"total\"");
    tensor.desc.dtype = KILN_DTYPE_INT32;
    assert_fails(KILN_ERROR_DTYPE, kiln_context_bind(context, "x", &tensor),
                 "float32 is needed, int32 was given");
    tensor = floats(x, 4);
    tensor.desc.shape = KILN_SHAPE(2, 2);
    assert_fails(KILN_ERROR_RANK, kiln_context_bind(context, "x", &tensor),
                 "1 dimension (?) is needed, 2 were given (2x2)");
    tensor.desc.shape.rank = 9;
    assert_status(KILN_ERROR_RANK, kiln_context_bind(context, "x", &tensor));
    tensor = floats(x, 4);
    assert_fails(KILN_ERROR_SHAPE, kiln_context_bind(context, "total", &tensor),
                 "dimension 0 must be 1, it is 4");
    tensor.desc.shape.dims[0] = -4;
    assert_status(KILN_ERROR_SHAPE, kiln_context_bind(context, "x", &tensor));
    tensor = floats(x, 4);
    tensor.bytes = 15;
    assert_status(KILN_ERROR_SIZE, kiln_context_bind(context, "x", &tensor));
    tensor = floats(x, 4);
    tensor.data = (char *)x + 1;
    assert_status(KILN_ERROR_ALIGNMENT, kiln_context_bind(context, "x", &tensor));
    tensor = floats(NULL, 4);
    assert_status(KILN_ERROR_NULL_ARGUMENT, kiln_context_bind(context, "x", &tensor));
    tensor = floats(x, 4);
    tensor.desc.location = KILN_LOCATION_DEVICE;
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_context_bind(context, "x", &tensor),
                 "no device memory");
    tensor = floats(x, 4);
    tensor.desc.format = KILN_FORMAT_HWC8;
    assert_status(KILN_ERROR_UNSUPPORTED, kiln_context_bind(context, "x", &tensor));
    tensor = floats(x, 4);
    tensor.desc.strides = (kiln_strides){1, {2}};
    assert_fails(KILN_ERROR_UNSUPPORTED, kiln_context_bind(context, "x", &tensor), "strides");
    assert_status(KILN_ERROR_NAME, kiln_context_reshape(context, "y", &KILN_SHAPE(4)));
    assert_status(KILN_ERROR_RANK, kiln_context_reshape(context, "x", &KILN_SHAPE(4, 4)));
    assert_status(KILN_ERROR_SHAPE, kiln_context_reshape(context, "x", &KILN_SHAPE(KILN_DYNAMIC)));
    assert_status(KILN_ERROR_NOT_BOUND, kiln_context_run(context));
}

/* What tests/null does not reach: sizes, and pointers within structs. */
TEST(what_is_half_given_is_refused)
{
    owned_context context = make_context();
    kiln_engine *engine = NULL;
    kiln_context_counters counters = {.struct_size = 4};
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_context_get_counters(context, &counters));
    assert_status(KILN_ERROR_EMPTY, kiln_engine_build_bytes((kiln_span){"", 0}, NULL, &engine));
    assert_fails(KILN_ERROR_NULL_ARGUMENT,
                 kiln_engine_create_mock(&KILN_MOCK_OPTIONS_INIT, &engine), "handler");
    kiln_context_destroy(NULL);
}

TEST(one_call_binds_runs_and_shows)
{
    owned_context context = make_context();
    float x[] = {1, 2, 3};
    float y[3] = {0};
    const kiln_named_tensor input = {"x", floats(x, 3)};
    kiln_named_tensor outputs[] = {{"total", {.data = NULL}}, {"y", floats(y, 3)}};
    assert_ok(kiln_context_run_tensors(context, &input, 1, outputs, 2));
    assert_true(y[2] == 6);
    assert_true(*(float *)outputs[0].tensor.data == 6);
    const kiln_named_tensor twice[] = {input, input};
    assert_fails(KILN_ERROR_NAME, kiln_context_run_tensors(context, twice, 2, NULL, 0),
                 "given twice");
    const kiln_named_tensor output_as_input = {"y", floats(y, 3)};
    assert_fails(KILN_ERROR_NAME, kiln_context_run_tensors(context, &output_as_input, 1, NULL, 0),
                 "there is no input \"y\"; there is \"x\"");
    const kiln_named_tensor nameless = {NULL, floats(y, 3)};
    assert_status(KILN_ERROR_NULL_ARGUMENT,
                  kiln_context_run_tensors(context, &nameless, 1, NULL, 0));
    kiln_context_counters counters = counters_of(context);
    const uint64_t binds = counters.binds;
    assert_ok(kiln_context_run_tensors(context, &input, 1, outputs + 1, 1));
    assert_ok(kiln_context_get_counters(context, &counters));
    assert_int_equal(counters.binds, binds);
}

TEST(a_failed_run_leaves_the_context_usable)
{
    int fail_now = 1;
    owned_engine engine = make_engine(&fail_now, 3, 0);
    owned_context context = context_on(engine);
    assert_ok(kiln_context_reshape(context, "x", &KILN_SHAPE(2)));
    assert_fails(KILN_ERROR_BACKEND, kiln_context_run(context), "told to fail");
    kiln_tensor shown;
    assert_status(KILN_ERROR_STATE, kiln_context_tensor(context, "y", &shown));
    fail_now = 0;
    assert_ok(kiln_context_run(context));
    assert_fails(KILN_ERROR_BACKEND, kiln_context_run(context), "fails run 3");
    assert_ok(kiln_context_run(context));
    const kiln_context_counters counters = counters_of(context);
    assert_int_equal(counters.runs, 2);
    assert_int_equal(counters.failed_runs, 2);
}

/* Each way to ask for a run counts once, also where it fails before the backend is asked. */
TEST(counters_add_up)
{
    int fail_now = 0;
    float x[2] = {1, 2};
    owned_engine engine = make_engine(&fail_now, 0, 0);
    kiln_context_counters counters = {.struct_size = sizeof counters};
    owned_context context = context_on(engine);
    assert_status(KILN_ERROR_NOT_BOUND, kiln_context_run(context));
    const kiln_named_tensor right = {"x", floats(x, 2)};
    const kiln_named_tensor wrong = {"nobody", floats(x, 2)};
    for (uint64_t i = 0; i < 4; i++) {
        assert_ok(kiln_context_run_tensors(context, &right, 1, NULL, 0));
        assert_ok(kiln_context_run(context));
        assert_ok(kiln_context_enqueue(context, NULL));
        assert_status(KILN_ERROR_NAME, kiln_context_run_tensors(context, &wrong, 1, NULL, 0));
        fail_now = 1;
        assert_status(KILN_ERROR_BACKEND, kiln_context_run_tensors(context, &right, 1, NULL, 0));
        assert_status(KILN_ERROR_BACKEND, kiln_context_run(context));
        fail_now = 0;
        assert_ok(kiln_context_get_counters(context, &counters));
        assert_int_equal(counters.runs, 3 * (i + 1));
        assert_int_equal(counters.failed_runs, 3 * (i + 1) + 1);
        assert_int_equal(counters.graph_hits + counters.graph_misses, 0);
    }
    assert_ok(kiln_context_warmup(context, 5, 0, NULL));
    fail_now = 1;
    assert_status(KILN_ERROR_BACKEND, kiln_context_warmup(context, 5, 0, NULL));
    assert_ok(kiln_context_get_counters(context, &counters));
    assert_int_equal(counters.runs, 3 * 4 + 5);
    assert_int_equal(counters.failed_runs, 3 * 4 + 2);
}

TEST(a_warmup_is_summarised)
{
    kiln_engine *engine = make_engine(NULL, 0, 2000000);
    owned_context context = context_on(engine);
    kiln_engine_release(engine);
    kiln_warmup_summary summary = {.struct_size = sizeof summary};
    assert_status(KILN_ERROR_NOT_BOUND, kiln_context_warmup(context, 1, 0, &summary));
    assert_ok(kiln_context_reshape(context, "x", &KILN_SHAPE(2)));
    assert_ok(kiln_context_warmup(context, 3, 0, &summary));
    assert_int_equal(summary.runs, 3);
    assert_true(summary.minimum_nanoseconds >= 2000000);
    assert_true(summary.first_nanoseconds >= summary.minimum_nanoseconds);
    assert_true(summary.median_nanoseconds >= summary.minimum_nanoseconds);
    assert_true(summary.total_nanoseconds >= 6000000);
    assert_ok(kiln_context_warmup(context, 0, 1, &summary));
    assert_int_equal(summary.runs, 1);
    assert_ok(kiln_context_warmup(context, 0, 0, NULL));
    uint64_t samples[4] = {0};
    summary.samples = samples;
    summary.sample_capacity = 4;
    assert_ok(kiln_context_warmup(context, 6, 0, &summary));
    assert_int_equal(summary.runs, 6);
    assert_int_equal(summary.sample_count, 4);
    assert_int_equal(samples[0], summary.first_nanoseconds);
    for (size_t i = 0; i < 4; i++) {
        assert_in_range(samples[i], summary.minimum_nanoseconds, summary.maximum_nanoseconds);
    }
    assert_in_range(summary.median_nanoseconds, summary.minimum_nanoseconds,
                    summary.p90_nanoseconds);
    assert_in_range(summary.p90_nanoseconds, summary.median_nanoseconds, summary.p95_nanoseconds);
    assert_in_range(summary.p99_nanoseconds, summary.p95_nanoseconds, summary.maximum_nanoseconds);
    summary.struct_size = 3;
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_context_warmup(context, 1, 0, &summary));
}

TEST(a_failed_warmup_leaves_its_samples)
{
    kiln_engine *engine = make_engine(NULL, 3, 0);
    owned_context context = context_on(engine);
    kiln_engine_release(engine);
    assert_ok(kiln_context_reshape(context, "x", &KILN_SHAPE(2)));
    uint64_t samples[8] = {0};
    kiln_warmup_summary summary = {
        .struct_size = sizeof summary, .samples = samples, .sample_capacity = 8};
    assert_true(kiln_context_warmup(context, 5, 0, &summary) != KILN_OK);
    assert_int_equal(summary.sample_count, 2);
}

TEST(a_run_after_warmup_allocates_nothing)
{
    owned_context context = make_context();
    assert_ok(kiln_context_reshape(context, "x", &KILN_SHAPE(64)));
    assert_ok(kiln_context_warmup(context, 3, 0, NULL));
    const uint64_t before = kiln_test_allocations();
    for (int i = 0; i < 1000; i++) {
        assert_ok(kiln_context_run(context));
        (void)tensor_in(context, "y");
    }
    assert_int_equal(kiln_test_allocations(), before);
}

static atomic_int inside;
static atomic_bool let_go;

static kiln_status waiting(void *user, kiln_mock_run *run, char message[1024])
{
    atomic_fetch_add(&inside, 1);
    while (!atomic_load(&let_go)) {
    }
    return KILN_OK;
}

static void *run_in_thread(void *context)
{
    return (void *)(uintptr_t)kiln_context_run(context);
}

TEST(a_second_thread_is_told_that_the_context_is_busy)
{
    kiln_mock_options options = KILN_MOCK_OPTIONS(.handler = waiting);
    kiln_engine *engine = new_mock(&options);
    kiln_context *contexts[2];
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        assert_ok(kiln_context_create(engine, NULL, &contexts[i]));
        assert_int_equal(pthread_create(&threads[i], NULL, run_in_thread, contexts[i]), 0);
    }
    kiln_engine_release(engine);
    while (atomic_load(&inside) < 2) {
    }
    kiln_tensor shown;
    kiln_context_counters counters = {.struct_size = sizeof counters};
    assert_fails(KILN_ERROR_BUSY, kiln_context_run(contexts[0]), "another thread");
    assert_status(KILN_ERROR_BUSY, kiln_context_tensor(contexts[0], "x", &shown));
    assert_status(KILN_ERROR_BUSY, kiln_context_bind(contexts[0], "x", &shown));
    assert_status(KILN_ERROR_BUSY, kiln_context_reshape(contexts[1], "x", &KILN_SHAPE(1)));
    assert_status(KILN_ERROR_BUSY, kiln_context_warmup(contexts[1], 1, 0, NULL));
    assert_status(KILN_ERROR_BUSY, kiln_context_get_counters(contexts[1], &counters));
    assert_status(KILN_ERROR_BUSY, kiln_context_run_tensors(contexts[1], NULL, 0, NULL, 0));
    atomic_store(&let_go, true);
    for (int i = 0; i < 2; i++) {
        void *result = NULL;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_int_equal((uintptr_t)result, KILN_OK);
        assert_ok(kiln_context_run(contexts[i]));
        kiln_context_destroy(contexts[i]);
    }
}

ALLOCATIONS(TEST, each_failed_allocation_is_survived)
{
    const kiln_binding binding = binding_of("x", KILN_DTYPE_FLOAT32, KILN_SHAPE(KILN_DYNAMIC), "n");
    kiln_binding outputs[2] = {binding, binding};
    outputs[0].name = "y";
    outputs[1].name = "total";
    kiln_mock_options options =
        KILN_MOCK_OPTIONS(.inputs = &binding, .input_count = 1, .outputs = outputs,
                          .output_count = 2, .handler = doubling);
    owned_engine engine = NULL;
    owned_context context = NULL;
    TRY(kiln_engine_create_mock(&options, &engine));
    TRY(kiln_context_create(engine, NULL, &context));
    TRY(kiln_context_reshape(context, "x", &KILN_SHAPE(3)));
    return kiln_context_warmup(context, 2, 0, NULL);
}

TEST(the_mock_checks_its_options)
{
    kiln_engine *engine = NULL;
    kiln_binding binding = {.struct_size = sizeof binding, .dtype = KILN_DTYPE_FLOAT32};
    kiln_mock_options options = KILN_MOCK_OPTIONS(.handler = doubling, .input_count = 1);
    assert_status(KILN_ERROR_NULL_ARGUMENT, kiln_engine_create_mock(&options, &engine));
    options.inputs = &binding;
    assert_fails(KILN_ERROR_NULL_ARGUMENT, kiln_engine_create_mock(&options, &engine), "name");
    binding.name = "text";
    binding.dtype = KILN_DTYPE_UNDEFINED;
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_create_mock(&options, &engine),
                 "\"text\"");
    assert_null(engine);
    options.struct_size = 4;
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_create_mock(&options, &engine));
}

TEST(build_options_are_checked)
{
    kiln_engine *engine = NULL;
    kiln_build_options options = KILN_BUILD_OPTIONS(.threads = -1);
    assert_fails(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_build_file("x", &options, &engine),
                 "threads is -1; it must be 0 to 4096");
    options = KILN_BUILD_OPTIONS(.optimization = (kiln_optimization)17);
    assert_status(KILN_ERROR_INVALID_ARGUMENT, kiln_engine_build_file("x", &options, &engine));
    options = KILN_BUILD_OPTIONS_INIT;
    assert_status(KILN_ERROR_NOT_FOUND,
                  kiln_engine_build_file(kiln_test_path("absent.onnx"), &options, &engine));
    options.backend = "no such backend";
    assert_status(KILN_ERROR_NAME,
                  kiln_engine_build_file(kiln_test_file("some.onnx", "abc", 3), &options, &engine));
    options.backend = "mock";
    assert_int_not_equal(kiln_engine_build_file(kiln_test_path("some.onnx"), &options, &engine),
                         KILN_OK);
}

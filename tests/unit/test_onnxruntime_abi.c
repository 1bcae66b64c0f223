/* SPDX-License-Identifier: Apache-2.0 */
/* Calls ONNX Runtime through each slot that Kiln uses and looks at what came of it: a wrong slot
 * or a wrong type shows here, not in somebody's program. */
#include "ort_abi_test.h"

TESTS_BEGIN(open_runtime)

TEST(the_version_is_new_enough)
{
    unsigned major = 0;
    unsigned minor = 0;
    assert_int_equal(sscanf(runtime->version, "%u.%u", &major, &minor), 2);
    assert_int_equal(major, 1);
    assert_true(minor >= ORT_LEVEL_NEEDED);
    print_message("ONNX Runtime %s from %s\n", runtime->version,
                  kln_library_path(runtime->library));
}

/* Slots 10, 13, 14, 22, 23, 24, 25, 100 and the two ways to a refusal, 1 and 2. */
TEST(options_take_what_is_right_and_refuse_the_rest)
{
    owned_ort(SessionOptions) options = NULL;
    check(api->CreateSessionOptions(&options));
    assert_non_null(options);
    check(api->SetSessionExecutionMode(options, ORT_MODE_PARALLEL));
    check(api->SetSessionExecutionMode(options, ORT_MODE_SEQUENTIAL));
    check(api->SetInterOpNumThreads(options, 2));
    check(api->SetIntraOpNumThreads(options, 2));
    check(api->SetSessionLogSeverityLevel(options, ORT_LEVEL_ERROR));
    OrtStatus *status = api->SetSessionExecutionMode(options, 77);
    assert_non_null(status);
    assert_int_equal(api->GetErrorCode(status), ORT_CODE_INVALID_ARGUMENT);
    assert_true(api->GetErrorMessage(status)[0] != '\0');
    api->ReleaseStatus(status);
    check_fails(api->SetSessionGraphOptimizationLevel(options, 55), -1);
    check(api->SetSessionGraphOptimizationLevel(options, ORT_GRAPH_ALL));
    status = api->SetIntraOpNumThreads(options, -1);
    if (status != NULL) {
        api->ReleaseStatus(status);
    }
    api->ReleaseSessionOptions(NULL);
    api->ReleaseStatus(NULL);
}

/* 4, 6, 69, 78, 94. */
TEST(the_environment_is_one_for_the_process)
{
    assert_non_null(runtime->env);
    check(api->DisableTelemetryEvents(runtime->env));
    OrtAllocator *allocator = NULL;
    check(api->GetAllocatorWithDefaultOptions(&allocator));
    assert_ptr_equal(allocator, runtime->allocator);
    OrtMemoryInfo *memory = NULL;
    check(api->CreateCpuMemoryInfo(ORT_ALLOCATOR_DEVICE, ORT_MEMORY_DEFAULT, &memory));
    assert_non_null(memory);
    api->ReleaseMemoryInfo(memory);
}

/* 14, 110: what is written is where the library says. */
TEST(a_session_is_profiled)
{
    const kiln_span model = unary_model("Neg", "n");
    owned_ort(SessionOptions) options = NULL;
    owned_ort(Session) session = NULL;
    char *written = NULL;
    const char *prefix = kiln_test_path("profile");
    check(api->CreateSessionOptions(&options));
    check(api->EnableProfiling(options, prefix));
    check(api->CreateSessionFromArray(runtime->env, model.data, model.size, options, &session));
    check(api->SessionEndProfiling(session, runtime->allocator, &written));
    assert_int_equal(strncmp(written, prefix, strlen(prefix)), 0);
    assert_int_equal(remove(written), 0);
    check(api->AllocatorFree(runtime->allocator, written));
}

/* 7, 8, 95. */
TEST(a_session_comes_from_a_file_or_from_bytes)
{
    const kiln_span model = unary_model("Neg", "n");
    owned_ort(SessionOptions) options = NULL;
    OrtSession *session = session_with(model, 1);
    assert_non_null(session);
    api->ReleaseSession(session);
    session = NULL;
    check(api->CreateSessionOptions(&options));
    check(api->CreateSession(runtime->env, kiln_test_file("neg.onnx", model.data, model.size),
                             options, &session));
    assert_non_null(session);
    api->ReleaseSession(session);
    check_fails(api->CreateSession(runtime->env, kiln_test_path("none.onnx"), options, &session),
                ORT_CODE_NO_SUCHFILE);
    check_fails(api->CreateSessionFromArray(runtime->env, "\x08", 1, options, &session),
                ORT_CODE_INVALID_PROTOBUF);
}

static void look_at_type(OrtTypeInfo *type, const char *name)
{
    const OrtTensorTypeAndShapeInfo *info = NULL;
    ort_value_type kind = 0;
    ort_element_type element = 0;
    size_t rank = 0;
    int64_t dims[3] = {0};
    const char *names[3] = {NULL};
    check(api->GetOnnxTypeFromTypeInfo(type, &kind));
    assert_int_equal(kind, ORT_VALUE_TENSOR);
    check(api->CastTypeInfoToTensorInfo(type, &info));
    check(api->GetTensorElementType(info, &element));
    assert_int_equal(ort_dtype(element), KILN_DTYPE_FLOAT32);
    check(api->GetDimensionsCount(info, &rank));
    assert_int_equal(rank, 3);
    check(api->GetDimensions(info, dims, rank));
    assert_int_equal(dims[0], 4);
    assert_int_equal(dims[1], -1);
    assert_int_equal(dims[2], -1);
    check(api->GetSymbolicDimensions(info, names, rank));
    assert_string_equal(names[0], "");
    assert_string_equal(names[1], name);
    if (api->TensorTypeAndShape_HasShape != NULL) {
        assert_true(api->TensorTypeAndShape_HasShape(info));
    }
    api->ReleaseTypeInfo(type);
}

/* 30, 31, 33, 34, 36, 37, 55, 56, 60 to 63, 76, 98, 390. */
TEST(a_session_names_its_inputs_and_outputs)
{
    OrtSession *session =
        session_with(made_model(17,
                                "in first float32[4,batch,?]; in second float32; "
                                "result=Neg(first); out result float32[4,batch,?]"),
                     1);
    size_t count = 0;
    char *name = NULL;
    OrtTypeInfo *type = NULL;
    check(api->SessionGetInputCount(session, &count));
    assert_int_equal(count, 2);
    check(api->SessionGetOutputCount(session, &count));
    assert_int_equal(count, 1);
    check(api->SessionGetInputName(session, 1, runtime->allocator, &name));
    assert_text(name, "second");
    check(api->SessionGetOutputName(session, 0, runtime->allocator, &name));
    assert_text(name, "result");
    check(api->SessionGetInputTypeInfo(session, 0, &type));
    look_at_type(type, "batch");
    check(api->SessionGetOutputTypeInfo(session, 0, &type));
    look_at_type(type, "batch");
    if (api->TensorTypeAndShape_HasShape != NULL) {
        const OrtTensorTypeAndShapeInfo *info = NULL;
        check(api->SessionGetInputTypeInfo(session, 1, &type));
        check(api->CastTypeInfoToTensorInfo(type, &info));
        assert_false(api->TensorTypeAndShape_HasShape(info));
        api->ReleaseTypeInfo(type);
    }
    check_fails(api->SessionGetInputName(session, 9, runtime->allocator, &name), -1);
    api->ReleaseSession(session);
}

/* 111 to 118, 123, 158. */
TEST(a_session_has_metadata)
{
    owned_ort(Session) session = session_with(unary_model("Neg", "n"), 1);
    OrtModelMetadata *metadata = NULL;
    OrtAllocator *allocator = runtime->allocator;
    char *text = NULL;
    char **keys = NULL;
    int64_t number = 0;
    check(api->SessionGetModelMetadata(session, &metadata));
    check(api->ModelMetadataGetProducerName(metadata, allocator, &text));
    assert_text(text, "a test");
    check(api->ModelMetadataGetGraphName(metadata, allocator, &text));
    assert_text(text, "the graph");
    check(api->ModelMetadataGetDomain(metadata, allocator, &text));
    assert_text(text, "example");
    check(api->ModelMetadataGetDescription(metadata, allocator, &text));
    assert_text(text, "what it is");
    check(api->ModelMetadataGetGraphDescription(metadata, allocator, &text));
    assert_text(text, "");
    check(api->ModelMetadataGetVersion(metadata, &number));
    assert_int_equal(number, 42);
    check(api->ModelMetadataGetCustomMetadataMapKeys(metadata, allocator, &keys, &number));
    assert_int_equal(number, 1);
    check(api->ModelMetadataLookupCustomMetadataMap(metadata, allocator, keys[0], &text));
    assert_text(text, "hello");
    assert_text(keys[0], "greeting");
    check(api->AllocatorFree(allocator, keys));
    api->ReleaseModelMetadata(metadata);
}

static void look_at_value(OrtValue *value, float first, int64_t count)
{
    OrtTensorTypeAndShapeInfo *info = NULL;
    ort_element_type element = 0;
    size_t rank = 0;
    int64_t found = 0;
    void *data = NULL;
    check(api->GetTensorTypeAndShape(value, &info));
    check(api->GetTensorElementType(info, &element));
    check(api->GetDimensionsCount(info, &rank));
    assert_int_equal(rank, 1);
    check(api->GetDimensions(info, &found, 1));
    assert_int_equal(found, count);
    api->ReleaseTensorTypeAndShapeInfo(info);
    check(api->GetTensorMutableData(value, &data));
    assert_memory_equal(data, &first, sizeof first);
}

/* 39, 49, 51, 65, 96, 97, 99, 133 to 138, 140. */
TEST(a_run_reads_and_writes_what_is_bound)
{
    owned_ort(Session) session = session_with(unary_model("Neg", "n"), 1);
    OrtRunOptions *options = NULL;
    OrtIoBinding *binding = NULL;
    float x[] = {5, 6};
    float y[] = {0, 0};
    check(api->CreateRunOptions(&options));
    check(api->CreateIoBinding(session, &binding));
    OrtValue *input = wrap(x, 2);
    OrtValue *output = wrap(y, 2);
    look_at_value(input, 5, 2);
    check(api->BindInput(binding, "x", input));
    check(api->BindOutput(binding, "y", output));
    /* The binding shares the values. */
    api->ReleaseValue(input);
    api->ReleaseValue(output);
    check(api->RunWithBinding(session, options, binding));
    assert_memory_equal(y, ((const float[]){-5, -6}), sizeof y);
    x[0] = 7;
    check(api->RunWithBinding(session, options, binding));
    assert_memory_equal(y, ((const float[]){-7, -6}), sizeof y);

    OrtValue **values = NULL;
    size_t count = 0;
    check(api->BindOutputToDevice(binding, "y", runtime->host));
    check(api->RunWithBinding(session, options, binding));
    check(api->GetBoundOutputValues(binding, runtime->allocator, &values, &count));
    assert_int_equal(count, 1);
    look_at_value(values[0], -7, 2);
    api->ReleaseValue(values[0]);
    check(api->AllocatorFree(runtime->allocator, values));
    api->ReleaseIoBinding(binding);
    api->ReleaseRunOptions(options);
}

/* 48, 127, 252. */
TEST(strings_are_written_and_read_in_place)
{
    const int64_t count = 2;
    OrtValue *value = NULL;
    char *place = NULL;
    size_t size = 0;
    check(api->CreateTensorAsOrtValue(runtime->allocator, &count, 1, ort_element(KILN_DTYPE_STRING),
                                      &value));
    check(api->GetStringTensorElementLength(value, 1, &size));
    assert_int_equal(size, 0);
    check(api->GetResizedStringTensorElementBuffer(value, 1, 3, &place));
    memcpy(place, "a\0b", 3);
    check(api->GetStringTensorElementLength(value, 1, &size));
    assert_int_equal(size, 3);
    check(api->GetResizedStringTensorElementBuffer(value, 1, 3, &place));
    assert_memory_equal(place, "a\0b", 3);
    api->ReleaseValue(value);
}

/* Runs without a binding, of which one is told to stop before it begins. */
TEST(runs_are_fed_and_stopped)
{
    static const char *const inputs[] = {"x"};
    static const char *const outputs[] = {"y"};
    owned_ort(Session) session = session_with(unary_model("Neg", "n"), 1);
    OrtRunOptions *options = NULL;
    float x[] = {5, 6};
    const OrtValue *const fed[] = {wrap(x, 2)};
    OrtValue *made[] = {NULL};
    check(api->CreateRunOptions(&options));
    check(api->RunOptionsSetTerminate(options));
    check_fails(api->Run(session, options, inputs, fed, 1, outputs, 1, made), -1);
    assert_null(made[0]);
    check(api->RunOptionsUnsetTerminate(options));
    check(api->Run(session, options, inputs, fed, 1, outputs, 1, made));
    look_at_value(made[0], -5, 2);
    api->ReleaseValue(made[0]);
    api->ReleaseValue((OrtValue *)(uintptr_t)fed[0]);
    api->ReleaseRunOptions(options);
}

/* What Kiln's way with outputs rests on: the tensor that a run made for an output is the next
 * run's memory, and another shape is refused, unless the output is bound anew. */
TEST(what_a_run_allocated_is_kept_for_the_next)
{
    owned_ort(Session) session = session_with(unary_model("Neg", "n"), 1);
    OrtRunOptions *options = NULL;
    OrtIoBinding *binding = NULL;
    float x[] = {5, 6, 7};
    check(api->CreateRunOptions(&options));
    check(api->CreateIoBinding(session, &binding));
    OrtValue *two = wrap(x, 2);
    OrtValue *three = wrap(x, 3);
    check(api->BindInput(binding, "x", two));
    check(api->BindOutputToDevice(binding, "y", runtime->host));
    check(api->RunWithBinding(session, options, binding));
    check(api->RunWithBinding(session, options, binding));
    check(api->BindInput(binding, "x", three));
    OrtStatus *status = api->RunWithBinding(session, options, binding);
    assert_non_null(status);
    assert_int_equal(ort_classify(api->GetErrorCode(status), api->GetErrorMessage(status)),
                     KILN_ERROR_SHAPE);
    api->ReleaseStatus(status);
    check(api->BindOutputToDevice(binding, "y", runtime->host));
    check(api->RunWithBinding(session, options, binding));
    api->ReleaseValue(two);
    api->ReleaseValue(three);
    api->ReleaseIoBinding(binding);
    api->ReleaseRunOptions(options);
}

/* Each type's number is right when ONNX Runtime counts the bytes as Kiln does. */
TEST(every_element_type_has_kilns_size)
{
    static const kiln_dtype dtypes[] = {
        KILN_DTYPE_FLOAT32,  KILN_DTYPE_UINT8,      KILN_DTYPE_INT8,       KILN_DTYPE_UINT16,
        KILN_DTYPE_INT16,    KILN_DTYPE_INT32,      KILN_DTYPE_INT64,      KILN_DTYPE_BOOL,
        KILN_DTYPE_FLOAT16,  KILN_DTYPE_FLOAT64,    KILN_DTYPE_UINT32,     KILN_DTYPE_UINT64,
        KILN_DTYPE_BFLOAT16, KILN_DTYPE_FLOAT8E4M3, KILN_DTYPE_FLOAT8E5M2, KILN_DTYPE_UINT4,
        KILN_DTYPE_INT4};
    static unsigned char data[256];
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(dtypes); i++) {
        const kiln_shape shape = KILN_SHAPE(7);
        size_t bytes = 0;
        OrtValue *value = NULL;
        assert_int_equal(ort_dtype(ort_element(dtypes[i])), dtypes[i]);
        assert_ok(kiln_tensor_bytes(dtypes[i], &shape, &bytes));
        check(api->CreateTensorWithDataAsOrtValue(runtime->host, data, bytes, shape.dims, 1,
                                                  ort_element(dtypes[i]), &value));
        api->ReleaseValue(value);
        OrtStatus *status = api->CreateTensorWithDataAsOrtValue(
            runtime->host, data, bytes - 1, shape.dims, 1, ort_element(dtypes[i]), &value);
        if (status == NULL) {
            fail_msg("%s: %zu bytes were enough", kiln_dtype_name(dtypes[i]), bytes - 1);
        }
        api->ReleaseStatus(status);
    }
    assert_int_equal(ort_element(KILN_DTYPE_UNDEFINED), 0);
    assert_int_equal(ort_dtype(0), KILN_DTYPE_UNDEFINED);
    assert_int_equal(ort_dtype(18), KILN_DTYPE_UNDEFINED);
}

/* 68, 125, 126, 165: what the CUDA provider needs and every build has. */
TEST(providers_are_listed_and_memory_is_described)
{
    assert_true(has_provider("CPUExecutionProvider"));
    assert_false(has_provider("NoSuchExecutionProvider"));
    OrtMemoryInfo *memory = NULL;
    check(api->CreateMemoryInfo("Cpu", ORT_ALLOCATOR_DEVICE, 0, ORT_MEMORY_DEFAULT, &memory));
    assert_non_null(memory);
    api->ReleaseMemoryInfo(memory);
    OrtRunOptions *run_options = NULL;
    check(api->CreateRunOptions(&run_options));
    check(api->AddRunConfigEntry(run_options, "disable_synchronize_execution_providers", "1"));
    check_fails(api->AddRunConfigEntry(run_options, "", "1"), -1);
    api->ReleaseRunOptions(run_options);
}

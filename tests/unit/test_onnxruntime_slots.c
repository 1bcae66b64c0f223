/* SPDX-License-Identifier: Apache-2.0 */
/* More slots of ONNX Runtime (test_onnxruntime_abi.c): providers, external weights, profiles. */
#include "ort_abi_test.h"

TESTS_BEGIN(open_runtime)

static void assert_refused(OrtStatus *status, const char *words)
{
    assert_non_null(status);
    if (strstr(api->GetErrorMessage(status), words) == NULL) {
        fail_msg("\"%s\" is not about \"%s\"", api->GetErrorMessage(status), words);
    }
    api->ReleaseStatus(status);
}

/* 204, 205, 206, 208, 263. A library without the provider has these slots all the same, and each
 * of them refuses. */
TEST(the_cuda_provider_takes_options_or_is_not_there)
{
    static const char *const keys[] = {"device_id", "use_tf32"};
    static const char *const values[] = {"0", "0"};
    static const char *const unknown[] = {"no_such_option"};
    static _Alignas(16) unsigned char room[4096];
    OrtCUDAProviderOptionsV2 *provider = NULL;
    owned_ort(SessionOptions) options = NULL;
    check(api->CreateSessionOptions(&options));
    if (has_provider("CUDAExecutionProvider")) {
        check(api->CreateCUDAProviderOptions(&provider));
        assert_non_null(provider);
        check(api->UpdateCUDAProviderOptions(provider, keys, values, 2));
        assert_refused(api->UpdateCUDAProviderOptions(provider, unknown, values, 1),
                       "no_such_option");
        check(api->UpdateCUDAProviderOptionsWithValue(provider, "user_compute_stream", NULL));
    } else {
        assert_refused(api->CreateCUDAProviderOptions(&provider), "CUDA");
        assert_null(provider);
        assert_refused(api->UpdateCUDAProviderOptions(provider, keys, values, 2), "CUDA");
        assert_refused(
            api->UpdateCUDAProviderOptionsWithValue(provider, "user_compute_stream", NULL), "CUDA");
        /* This one does not mind that nobody made the options, but reads them. */
        assert_refused(api->SessionOptionsAppendExecutionProvider_CUDA_V2(
                           options, (OrtCUDAProviderOptionsV2 *)(void *)room),
                       "Cuda");
    }
    api->ReleaseCUDAProviderOptions(provider);
}

/* 279: a session from bytes finds its external weights in memory, by the name of the file. */
TEST(external_weights_are_taken_from_memory)
{
    const kiln_span model =
        made_model(17, "in x float32[2]; file w float32[2] w.bin; y=Mul(x,w); out y float32[2]");
    const char *const names[] = {"w.bin"};
    float weights[] = {3, 4};
    char *const contents[] = {(char *)weights};
    const size_t sizes[] = {sizeof weights};
    owned_ort(SessionOptions) options = NULL;
    owned_ort(Session) session = NULL;
    OrtIoBinding *binding = NULL;
    check(api->CreateSessionOptions(&options));
    assert_refused(
        api->CreateSessionFromArray(runtime->env, model.data, model.size, options, &session),
        "w.bin");
    check(api->AddExternalInitializersFromFilesInMemory(options, names, contents, sizes, 1));
    check(api->CreateSessionFromArray(runtime->env, model.data, model.size, options, &session));
    float x[] = {5, 6};
    float y[] = {0, 0};
    OrtValue *input = wrap(x, 2);
    OrtValue *output = wrap(y, 2);
    check(api->CreateIoBinding(session, &binding));
    check(api->BindInput(binding, "x", input));
    check(api->BindOutput(binding, "y", output));
    check(api->RunWithBinding(session, NULL, binding));
    assert_memory_equal(y, ((const float[]){15, 24}), sizeof y);
    api->ReleaseValue(input);
    api->ReleaseValue(output);
    api->ReleaseIoBinding(binding);
}

/* 407 to 412. */
TEST(a_session_tells_which_provider_has_each_node)
{
    SKIP_IF(api->Session_GetEpGraphAssignmentInfo == NULL);
    const kiln_span model = unary_model("Neg", "n");
    const OrtEpAssignedSubgraph *const *parts = NULL;
    const OrtEpAssignedNode *const *nodes = NULL;
    owned_ort(SessionOptions) options = NULL;
    owned_ort(Session) session = NULL;
    size_t count = 0;
    const char *text = NULL;
    check(api->CreateSessionOptions(&options));
    check(api->AddSessionConfigEntry(options, "session.record_ep_graph_assignment_info", "1"));
    check(api->CreateSessionFromArray(runtime->env, model.data, model.size, options, &session));
    check(api->Session_GetEpGraphAssignmentInfo(session, &parts, &count));
    assert_int_equal(count, 1);
    check(api->EpAssignedSubgraph_GetEpName(parts[0], &text));
    assert_string_equal(text, "CPUExecutionProvider");
    check(api->EpAssignedSubgraph_GetNodes(parts[0], &nodes, &count));
    assert_int_equal(count, 1);
    check(api->EpAssignedNode_GetOperatorType(nodes[0], &text));
    assert_string_equal(text, "Neg");
    check(api->EpAssignedNode_GetName(nodes[0], &text));
    assert_non_null(text);
}

/* --- an operator of one's own --- */

static const char *op_name(const OrtCustomOp *op)
{
    (void)op;
    return "Scale";
}

static const char *op_provider(const OrtCustomOp *op)
{
    (void)op;
    return NULL;
}

static ort_element_type op_type(const OrtCustomOp *op, size_t index)
{
    (void)op;
    (void)index;
    return ort_element(KILN_DTYPE_FLOAT32);
}

static size_t op_count(const OrtCustomOp *op)
{
    (void)op;
    return 1;
}

static unsigned int op_required(const OrtCustomOp *op, size_t index)
{
    (void)op;
    (void)index;
    return 0;
}

static ort_memory_kind op_memory(const OrtCustomOp *op, size_t index)
{
    (void)op;
    (void)index;
    return ORT_MEMORY_DEFAULT;
}

static int64_t factor;

static OrtStatus *op_make(const OrtCustomOp *op, const void *table, const OrtKernelInfo *info,
                          void **kernel)
{
    (void)op;
    assert_non_null(table);
    assert_refused(api->KernelInfoGetAttribute_int64(info, "no_such", &factor), "no_such");
    check(api->KernelInfoGetAttribute_int64(info, "factor", &factor));
    *kernel = &factor;
    return NULL;
}

static OrtStatus *op_run(void *kernel, OrtKernelContext *context)
{
    const OrtValue *from = NULL;
    OrtValue *to = NULL;
    void *data[2];
    const int64_t count = 1;
    assert_ptr_equal(kernel, &factor);
    check(api->KernelContext_GetInput(context, 0, &from));
    check(api->KernelContext_GetOutput(context, 0, &count, 1, &to));
    check(api->GetTensorMutableData((OrtValue *)(uintptr_t)from, &data[0]));
    check(api->GetTensorMutableData(to, &data[1]));
    *(float *)data[1] = *(const float *)data[0] * (float)factor;
    return *(const float *)data[0] < 0 ? api->CreateStatus(ORT_CODE_FAIL, "below 0") : NULL;
}

static void op_end(void *kernel)
{
    assert_ptr_equal(kernel, &factor);
    factor = 0;
}

/* 0, 26, 27, 28, 86, 90, 91, 101, and the places in ort_custom_op. */
TEST(an_operator_of_ones_own_is_run)
{
    static const ort_custom_op op = {.version = ORT_CUSTOM_OP_LEVEL,
                                     .GetName = op_name,
                                     .GetExecutionProviderType = op_provider,
                                     .GetInputType = op_type,
                                     .GetInputTypeCount = op_count,
                                     .GetOutputType = op_type,
                                     .GetOutputTypeCount = op_count,
                                     .KernelDestroy = op_end,
                                     .GetInputCharacteristic = op_required,
                                     .GetOutputCharacteristic = op_required,
                                     .GetInputMemoryType = op_memory,
                                     .CreateKernelV2 = op_make,
                                     .KernelComputeV2 = op_run};
    static const char *const names[] = {"x", "y"};
    owned_maker m;
    kln_onnx_opset sets[] = {{.domain = "", .version = 17}, {.domain = "a.test", .version = 1}};
    OrtCustomOpDomain *domain = NULL;
    OrtSessionOptions *options = NULL;
    OrtSession *session = NULL;
    float number = 5;
    maker_model(&m, 17, "in x float32[1]; y=Scale(x) factor=3; out y float32[1]");
    assert_ok(m.status);
    m.graph->nodes[0].domain = "a.test";
    m.model->opsets = sets;
    m.model->opset_count = 2;
    const kiln_span model = maker_span(m.model);
    check(api->CreateCustomOpDomain("a.test", &domain));
    check(api->CustomOpDomain_Add(domain, (const OrtCustomOp *)(const void *)&op));
    check(api->CreateSessionOptions(&options));
    check(api->AddCustomOpDomain(options, domain));
    check(api->CreateSessionFromArray(runtime->env, model.data, model.size, options, &session));
    api->ReleaseSessionOptions(options);
    for (int i = 0; i < 2; i++) {
        OrtValue *value = wrap(&number, 1);
        OrtValue *result = NULL;
        OrtStatus *status = api->Run(session, NULL, &names[0], (const OrtValue *const *)&value, 1,
                                     &names[1], 1, &result);
        if (i == 0) {
            void *data = NULL;
            check(status);
            check(api->GetTensorMutableData(result, &data));
            assert_float_equal(*(const float *)data, 15, 0);
            number = -1;
        } else {
            assert_refused(status, "below 0");
        }
        api->ReleaseValue(result);
        api->ReleaseValue(value);
    }
    api->ReleaseSession(session);
    assert_int_equal(factor, 0);
    api->ReleaseCustomOpDomain(domain);
}

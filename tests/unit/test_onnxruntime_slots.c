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
    OrtSessionOptions *options = NULL;
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
    api->ReleaseSessionOptions(options);
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
    OrtSessionOptions *options = NULL;
    OrtSession *session = NULL;
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
    api->ReleaseSession(session);
    api->ReleaseSessionOptions(options);
}

/* 407 to 412. */
TEST(a_session_tells_which_provider_has_each_node)
{
    if (api->Session_GetEpGraphAssignmentInfo == NULL) {
        skip();
    }
    const kiln_span model = unary_model("Neg", "n");
    const OrtEpAssignedSubgraph *const *parts = NULL;
    const OrtEpAssignedNode *const *nodes = NULL;
    OrtSessionOptions *options = NULL;
    OrtSession *session = NULL;
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
    api->ReleaseSession(session);
    api->ReleaseSessionOptions(options);
}

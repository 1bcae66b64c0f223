/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of ONNX Runtime's slots share. */
#ifndef ORT_ABI_TEST_H
#define ORT_ABI_TEST_H

#include "backends/onnxruntime/ort_runtime.h"
#include "graph_maker.h"
#include "kiln_test.h"

static const ort_runtime *runtime;
static const ort_api *api;

static inline void check(OrtStatus *status)
{
    if (status != NULL) {
        fail_msg("%s", api->GetErrorMessage(status));
    }
}

/* The call fails, with this code where it is one. */
static inline void check_fails(OrtStatus *status, int code)
{
    assert_non_null(status);
    assert_true(code < 0 || (int)api->GetErrorCode(status) == code);
    api->ReleaseStatus(status);
}

/* They end with their block. */
#define ORT_ENDS(type)                                      \
    static inline void end_##type(Ort##type *const *object) \
    {                                                       \
        api->Release##type(*object);                        \
    }
ORT_ENDS(Session)
ORT_ENDS(SessionOptions)
#define owned_ort(type) __attribute__((cleanup(end_##type))) Ort##type *

static inline void assert_text(char *text, const char *expected)
{
    assert_string_equal(text, expected);
    check(api->AllocatorFree(runtime->allocator, text));
}

static inline OrtSession *session_with(kiln_span model, int threads)
{
    OrtSessionOptions *options = NULL;
    OrtSession *session = NULL;
    check(api->CreateSessionOptions(&options));
    check(api->SetIntraOpNumThreads(options, threads));
    check(api->SetSessionGraphOptimizationLevel(options, ORT_GRAPH_BASIC));
    check(api->CreateSessionFromArray(runtime->env, model.data, model.size, options, &session));
    api->ReleaseSessionOptions(options);
    return session;
}

static inline bool open_runtime(void)
{
    if (ort_runtime_open(NULL, &runtime) != KILN_OK) {
        print_message("%s\n", kiln_error_message());
        exit(1);
    }
    api = &runtime->api;
    return true;
}

static inline OrtValue *wrap(float *data, int64_t count)
{
    OrtValue *value = NULL;
    check(api->CreateTensorWithDataAsOrtValue(runtime->host, data, (size_t)count * sizeof *data,
                                              &count, 1, ort_element(KILN_DTYPE_FLOAT32), &value));
    return value;
}

static inline bool has_provider(const char *wanted)
{
    char **names = NULL;
    int count = 0;
    bool found = false;
    check(api->GetAvailableProviders(&names, &count));
    for (int i = 0; i < count; i++) {
        found = found || strcmp(names[i], wanted) == 0;
    }
    check(api->ReleaseAvailableProviders(names, count));
    return found;
}

#endif

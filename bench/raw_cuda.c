/* SPDX-License-Identifier: Apache-2.0 */
#include "raw_cuda.h"

#include <stdlib.h>
#include <string.h>

#include "bench_times.h"
#include "raw_driver.h"
#include "raw_ort_open.h"

#define MOST_BINDINGS 8
#define MOST_SETTINGS 16

struct raw_cuda {
    ort_api api;
    raw_driver cuda;
    OrtEnv *environment;
    OrtMemoryInfo *cpu;
    OrtMemoryInfo *gpu;
    const char *version;
};

typedef struct side {
    raw_tensor what;
    void *host;
    raw_address device;
    OrtValue *value;
} side;

struct raw_session {
    raw_cuda *raw;
    raw_form form;
    void *stream;
    OrtSession *session;
    OrtIoBinding *binding;
    OrtRunOptions *options;
    side inputs[MOST_BINDINGS];
    size_t input_count;
    side outputs[MOST_BINDINGS];
    size_t output_count;
    void *graph;
};

static void check(const raw_cuda *raw, OrtStatus *status)
{
    raw_ort_check(&raw->api, status);
}

raw_cuda *raw_cuda_open(const char *path)
{
    raw_cuda *raw = bench_allocate(sizeof *raw);
    const ort_api *api = &raw->api;
    raw->environment = raw_ort_open(path, &raw->api, &raw->version);
    raw_driver_open(&raw->cuda);
    check(raw, api->CreateCpuMemoryInfo(ORT_ALLOCATOR_DEVICE, ORT_MEMORY_DEFAULT, &raw->cpu));
    check(raw,
          api->CreateMemoryInfo("Cuda", ORT_ALLOCATOR_DEVICE, 0, ORT_MEMORY_DEFAULT, &raw->gpu));
    return raw;
}

const char *raw_cuda_version(const raw_cuda *raw)
{
    return raw->version;
}

static void make_session(raw_session *made, const char *path, const char *const *settings)
{
    raw_cuda *raw = made->raw;
    const ort_api *api = &raw->api;
    OrtSessionOptions *options = NULL;
    OrtCUDAProviderOptionsV2 *provider = NULL;
    const char *keys[MOST_SETTINGS] = {"enable_cuda_graph"};
    const char *values[MOST_SETTINGS] = {"1"};
    size_t count = made->form == RAW_OWN_GRAPH ? 1 : 0;
    check(raw, api->CreateSessionOptions(&options));
    check(raw, api->CreateCUDAProviderOptions(&provider));
    for (; settings != NULL && settings[0] != NULL; settings += 2) {
        if (strchr(settings[0], '.') != NULL) {
            check(raw, api->AddSessionConfigEntry(options, settings[0], settings[1]));
        } else if (count < MOST_SETTINGS) {
            keys[count] = settings[0];
            values[count++] = settings[1];
        }
    }
    /* In one call: each puts back to its default what it does not name. */
    if (count != 0) {
        check(raw, api->UpdateCUDAProviderOptions(provider, keys, values, count));
    }
    if (made->form != RAW_DEFAULT) {
        raw_check_cuda(raw->cuda.stream_create(&made->stream, 1, 0), "a stream");
        check(raw, api->UpdateCUDAProviderOptionsWithValue(provider, "user_compute_stream",
                                                           made->stream));
    }
    check(raw, api->SessionOptionsAppendExecutionProvider_CUDA_V2(options, provider));
    check(raw, api->CreateSession(raw->environment, path, options, &made->session));
    api->ReleaseCUDAProviderOptions(provider);
    api->ReleaseSessionOptions(options);
    check(raw, api->CreateIoBinding(made->session, &made->binding));
    check(raw, api->CreateRunOptions(&made->options));
    if (made->form != RAW_DEFAULT) {
        check(raw, api->AddRunConfigEntry(made->options, "disable_synchronize_execution_providers",
                                          "1"));
    }
}

static void make_side(raw_session *made, side *to, const raw_tensor *from, int is_input)
{
    raw_cuda *raw = made->raw;
    to->what = *from;
    raw_check_cuda(raw->cuda.allocate_host(&to->host, from->bytes, 2), "pinned memory");
    if (is_input) {
        memcpy(to->host, from->data, from->bytes);
    }
    void *data = to->host;
    if (made->form != RAW_DEFAULT && made->form != RAW_MAPPED) {
        raw_check_cuda(raw->cuda.allocate(&to->device, from->bytes), "device memory");
        raw_check_cuda(raw->cuda.copy(to->device, RAW_HOST(to->host), from->bytes, made->stream),
                       "a copy");
        data = (void *)(uintptr_t)to->device;
    }
    check(raw, raw->api.CreateTensorWithDataAsOrtValue(
                   made->form == RAW_DEFAULT ? raw->cpu : raw->gpu, data, from->bytes, from->dims,
                   from->rank, from->type, &to->value));
}

static void bind_inputs(raw_session *session)
{
    for (size_t i = 0; i < session->input_count; i++) {
        check(session->raw,
              session->raw->api.BindInput(session->binding, session->inputs[i].what.name,
                                          session->inputs[i].value));
    }
}

static void copy(raw_session *session, int in)
{
    const raw_driver *cuda = &session->raw->cuda;
    for (size_t i = 0; in && i < session->input_count; i++) {
        const side *from = &session->inputs[i];
        raw_check_cuda(
            cuda->copy(from->device, RAW_HOST(from->host), from->what.bytes, session->stream),
            "a copy");
    }
    for (size_t i = 0; !in && i < session->output_count; i++) {
        const side *from = &session->outputs[i];
        raw_check_cuda(
            cuda->copy(RAW_HOST(from->host), from->device, from->what.bytes, session->stream),
            "a copy");
    }
}

static void run_once(raw_session *session)
{
    check(session->raw,
          session->raw->api.RunWithBinding(session->session, session->options, session->binding));
}

static void wait_for(raw_session *session)
{
    raw_check_cuda(session->raw->cuda.stream_wait(session->stream), "waiting");
}

static void capture(raw_session *session)
{
    const raw_driver *cuda = &session->raw->cuda;
    void *graph = NULL;
    raw_check_cuda(cuda->capture_begin(session->stream, 2), "a capture");
    if (session->form == RAW_COPIES) {
        copy(session, 1);
    }
    run_once(session);
    if (session->form == RAW_COPIES) {
        copy(session, 0);
    }
    raw_check_cuda(cuda->capture_end(session->stream, &graph), "a capture");
    raw_check_cuda(cuda->instantiate(&session->graph, graph, 0), "a graph");
    raw_check_cuda(cuda->graph_destroy(graph), "a graph");
}

raw_session *raw_cuda_load(raw_cuda *raw, const char *path, raw_form form,
                           const char *const *settings, const raw_tensor *inputs,
                           size_t input_count, const raw_tensor *outputs, size_t output_count)
{
    raw_session *made = bench_allocate(sizeof *made);
    if (input_count > MOST_BINDINGS || output_count > MOST_BINDINGS) {
        exit(1);
    }
    made->raw = raw;
    made->form = form;
    make_session(made, path, settings);
    made->input_count = input_count;
    made->output_count = output_count;
    for (size_t i = 0; i < input_count; i++) {
        make_side(made, &made->inputs[i], &inputs[i], 1);
    }
    for (size_t i = 0; i < output_count; i++) {
        make_side(made, &made->outputs[i], &outputs[i], 0);
        check(raw, raw->api.BindOutput(made->binding, outputs[i].name, made->outputs[i].value));
    }
    bind_inputs(made);
    for (int i = 0; i < 3; i++) {
        run_once(made);
        if (form != RAW_DEFAULT) {
            wait_for(made);
        }
    }
    if (form == RAW_DEVICE || form == RAW_COPIES || form == RAW_MAPPED) {
        capture(made);
    }
    return made;
}

void raw_cuda_run(raw_session *session)
{
    if (session->form == RAW_DEFAULT) {
        /* Host memory is copied to the device when it is bound. */
        bind_inputs(session);
        run_once(session);
        return;
    }
    if (session->graph != NULL) {
        raw_check_cuda(session->raw->cuda.launch(session->graph, session->stream), "a launch");
    } else {
        copy(session, 1);
        run_once(session);
        copy(session, 0);
    }
    wait_for(session);
}

const void *raw_cuda_output(const raw_session *session)
{
    return session->outputs[0].host;
}

static void drop_side(raw_session *session, side *from)
{
    const raw_cuda *raw = session->raw;
    raw->api.ReleaseValue(from->value);
    if (from->device != 0) {
        raw_check_cuda(raw->cuda.release(from->device), "device memory");
    }
    raw_check_cuda(raw->cuda.release_host(from->host), "pinned memory");
}

void raw_cuda_unload(raw_session *session)
{
    const raw_cuda *raw = session->raw;
    if (session->graph != NULL) {
        raw_check_cuda(raw->cuda.exec_destroy(session->graph), "a graph");
    }
    raw->api.ReleaseIoBinding(session->binding);
    raw->api.ReleaseRunOptions(session->options);
    raw->api.ReleaseSession(session->session);
    for (size_t i = 0; i < session->input_count; i++) {
        drop_side(session, &session->inputs[i]);
    }
    for (size_t i = 0; i < session->output_count; i++) {
        drop_side(session, &session->outputs[i]);
    }
    if (session->stream != NULL) {
        raw_check_cuda(raw->cuda.stream_destroy(session->stream), "a stream");
    }
    free(session);
}

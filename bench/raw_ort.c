/* SPDX-License-Identifier: Apache-2.0 */
#include "raw_ort.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_times.h"
#include "raw_driver.h"
#include "raw_ort_open.h"

struct raw_ort {
    ort_api api;
    OrtEnv *environment;
    OrtMemoryInfo *cpu;
    OrtSession *session;
    OrtIoBinding *binding;
    OrtRunOptions *run_options;
    OrtValue *results[8];
};

const unsigned char identity_model[67] = {
    0x08, 0x08, 0x12, 0x00, 0x3a, 0x37, 0x0a, 0x10, 0x0a, 0x01, 0x78, 0x12, 0x01, 0x79,
    0x22, 0x08, 0x49, 0x64, 0x65, 0x6e, 0x74, 0x69, 0x74, 0x79, 0x12, 0x01, 0x67, 0x5a,
    0x0f, 0x0a, 0x01, 0x78, 0x12, 0x0a, 0x0a, 0x08, 0x08, 0x01, 0x12, 0x04, 0x0a, 0x02,
    0x08, 0x40, 0x62, 0x0f, 0x0a, 0x01, 0x79, 0x12, 0x0a, 0x0a, 0x08, 0x08, 0x01, 0x12,
    0x04, 0x0a, 0x02, 0x08, 0x40, 0x42, 0x04, 0x0a, 0x00, 0x10, 0x11};

void raw_ort_check(const ort_api *api, OrtStatus *status)
{
    if (status != NULL) {
        (void)fprintf(stderr, "raw ONNX Runtime: %s\n", api->GetErrorMessage(status));
        exit(1);
    }
}

static void check(const raw_ort *raw, OrtStatus *status)
{
    raw_ort_check(&raw->api, status);
}

static void quiet(void *user, ort_logging_level severity, const char *category, const char *logid,
                  const char *location, const char *message)
{
    (void)user;
    (void)severity;
    (void)category;
    (void)logid;
    (void)location;
    (void)message;
}

OrtEnv *raw_ort_open(const char *path, ort_api *api, const char **version)
{
    void *symbol = dlsym(raw_open_library(path), "OrtGetApiBase");
    const ort_api_base *(*get_base)(void);
    OrtEnv *environment = NULL;
    if (symbol == NULL) {
        (void)fprintf(stderr, "raw ONNX Runtime: %s has no OrtGetApiBase\n", path);
        exit(1);
    }
    memcpy(&get_base, &symbol, sizeof get_base);
    const unsigned char *table = get_base()->GetApi(ORT_LEVEL_NEEDED);
    if (version != NULL) {
        *version = get_base()->GetVersionString();
    }
    /* Slots past that level would lie past the table's end. */
#define FILL(slot, level, result, name, parameters)                                    \
    if ((level) <= ORT_LEVEL_NEEDED) {                                                 \
        memcpy(&api->name, table + (size_t)(slot) * sizeof(void *), sizeof api->name); \
    }
    ORT_API_LIST(FILL)
#undef FILL
    raw_ort_check(
        api, api->CreateEnvWithCustomLogger(quiet, NULL, ORT_LEVEL_ERROR, "raw", &environment));
    return environment;
}

raw_ort *raw_open(const char *path)
{
    raw_ort *raw = bench_allocate(sizeof *raw);
    raw->environment = raw_ort_open(path, &raw->api, NULL);
    check(raw, raw->api.CreateCpuMemoryInfo(ORT_ALLOCATOR_DEVICE, ORT_MEMORY_DEFAULT, &raw->cpu));
    return raw;
}

void raw_load(raw_ort *raw, const char *path, const void *bytes, size_t size)
{
    OrtSessionOptions *options = NULL;
    check(raw, raw->api.CreateSessionOptions(&options));
    check(raw, raw->api.SetIntraOpNumThreads(options, 1));
    check(raw, path != NULL ? raw->api.CreateSession(raw->environment, path, options, &raw->session)
                            : raw->api.CreateSessionFromArray(raw->environment, bytes, size,
                                                              options, &raw->session));
    raw->api.ReleaseSessionOptions(options);
    check(raw, raw->api.CreateIoBinding(raw->session, &raw->binding));
    check(raw, raw->api.CreateRunOptions(&raw->run_options));
}

static OrtValue *wrap(raw_ort *raw, const raw_tensor *tensor)
{
    OrtValue *value = NULL;
    check(raw, raw->api.CreateTensorWithDataAsOrtValue(raw->cpu, tensor->data, tensor->bytes,
                                                       tensor->dims, tensor->rank, tensor->type,
                                                       &value));
    return value;
}

void raw_bind(raw_ort *raw, const raw_tensor *input, const raw_tensor *output)
{
    OrtValue *in = wrap(raw, input);
    OrtValue *out = wrap(raw, output);
    check(raw, raw->api.BindInput(raw->binding, input->name, in));
    check(raw, raw->api.BindOutput(raw->binding, output->name, out));
    raw->api.ReleaseValue(in);
    raw->api.ReleaseValue(out);
}

void raw_run(raw_ort *raw)
{
    OrtStatus *status = raw->api.RunWithBinding(raw->session, raw->run_options, raw->binding);
    if (status != NULL) {
        check(raw, status);
    }
}

static void read_result(raw_ort *raw, OrtValue *value, raw_tensor *output)
{
    OrtTensorTypeAndShapeInfo *info = NULL;
    check(raw, raw->api.GetTensorTypeAndShape(value, &info));
    check(raw, raw->api.GetDimensionsCount(info, &output->rank));
    check(raw, raw->api.GetDimensions(info, output->dims, output->rank));
    raw->api.ReleaseTensorTypeAndShapeInfo(info);
    check(raw, raw->api.GetTensorMutableData(value, &output->data));
}

static void release_results(raw_ort *raw)
{
    for (size_t i = 0; i < 8; i++) {
        raw->api.ReleaseValue(raw->results[i]);
        raw->results[i] = NULL;
    }
}

void raw_run_feeds(raw_ort *raw, const raw_tensor *inputs, size_t input_count, raw_tensor *outputs,
                   size_t output_count)
{
    const char *input_names[256];
    const char *output_names[8];
    OrtValue *values[256];
    release_results(raw);
    for (size_t i = 0; i < input_count; i++) {
        input_names[i] = inputs[i].name;
        values[i] = wrap(raw, &inputs[i]);
    }
    for (size_t i = 0; i < output_count; i++) {
        output_names[i] = outputs[i].name;
        raw->results[i] = outputs[i].data != NULL ? wrap(raw, &outputs[i]) : NULL;
    }
    check(raw,
          raw->api.Run(raw->session, raw->run_options, input_names, (const OrtValue *const *)values,
                       input_count, output_names, output_count, raw->results));
    for (size_t i = 0; i < input_count; i++) {
        raw->api.ReleaseValue(values[i]);
    }
    for (size_t i = 0; i < output_count; i++) {
        if (outputs[i].data == NULL) {
            read_result(raw, raw->results[i], &outputs[i]);
        }
    }
}

void raw_unload(raw_ort *raw)
{
    release_results(raw);
    raw->api.ReleaseIoBinding(raw->binding);
    raw->api.ReleaseRunOptions(raw->run_options);
    raw->api.ReleaseSession(raw->session);
}

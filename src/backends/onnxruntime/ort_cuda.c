/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>

#include "ort_engine.h"

/* How many nodes a message names. */
#define NAMED_NODES 8

/* --- options --- */

kiln_status ort_cuda_check_options(const kiln_build_options *options)
{
    const kln_option *option =
        kln_options_beyond(options, KLN_OPTIONS_ANY | KLN_OPTIONS_ONNXRUNTIME);
    KLN_RETURN_IF(options->device > 0 && options->provider != KILN_PROVIDER_CUDA,
                  KILN_ERROR_NO_DEVICE,
                  "kiln_build_options: \"device\" is %d, but ONNX Runtime computes on the "
                  "CPU here; set provider to KILN_PROVIDER_CUDA or leave it out",
                  options->device);
    return option == NULL || options->provider == KILN_PROVIDER_CUDA
               ? KILN_OK
               : kln_fail(KILN_ERROR_UNSUPPORTED,
                          "kiln_build_options: \"%s\" is set, which ONNX Runtime has with its CUDA "
                          "provider only; set provider to KILN_PROVIDER_CUDA or leave it out",
                          option->shown.name);
}

/* --- the provider --- */

static kiln_status check_provider(const ort_runtime *runtime)
{
    char **names = NULL;
    int count = 0;
    bool found = false;
    KLN_RETURN_IF_ERROR(ort_check(runtime, runtime->api.GetAvailableProviders(&names, &count),
                                  "the providers there are"));
    for (int i = 0; i < count; i++) {
        found = found || strcmp(names[i], "CUDAExecutionProvider") == 0;
    }
    KLN_RETURN_IF_ERROR(ort_check(runtime, runtime->api.ReleaseAvailableProviders(names, count),
                                  "the providers there are"));
    KLN_RETURN_IF(!found, KILN_ERROR_UNSUPPORTED,
                  "%s was built without the CUDA provider; install onnxruntime-gpu and set "
                  "KILN_ONNXRUNTIME to its folder",
                  kln_library_path(runtime->library));
    return KILN_OK;
}

static kiln_status set_provider(const ort_engine *engine, const kiln_build_options *options,
                                OrtCUDAProviderOptionsV2 *provider)
{
    const ort_api *api = &engine->runtime->api;
    static const char *const searches[] = {"EXHAUSTIVE", "EXHAUSTIVE", "HEURISTIC", "DEFAULT"};
    const bool as_needed = options->arena_growth == KILN_ARENA_AS_NEEDED;
    const char *keys[7] = {"device_id", "cudnn_conv_algo_search", "arena_extend_strategy",
                           "gpu_mem_limit"};
    const char *values[7] = {KLN_PRINTED("%d", engine->device), searches[options->conv_search],
                             as_needed ? "kSameAsRequested" : "kNextPowerOfTwo",
                             KLN_PRINTED("%" PRIu64, options->gpu_memory_bytes)};
    size_t count = options->gpu_memory_bytes != 0 ? 4 : 3;
    const struct {
        const char *key;
        kiln_switch value;
    } switches[] = {{"use_tf32", options->tf32},
                    {"prefer_nhwc", options->prefer_nhwc},
                    {"fuse_conv_bias", options->fuse_conv_bias}};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(switches); i++) {
        if (switches[i].value != KILN_SWITCH_DEFAULT) {
            keys[count] = switches[i].key;
            values[count++] = switches[i].value == KILN_SWITCH_OFF ? "0" : "1";
        }
    }
    /* In one call, because each call resets what it does not name. */
    KLN_RETURN_IF_ERROR(ort_check(engine->runtime,
                                  api->UpdateCUDAProviderOptions(provider, keys, values, count),
                                  "the options of the CUDA provider"));
    return ort_check(engine->runtime,
                     api->UpdateCUDAProviderOptionsWithValue(provider, "user_compute_stream",
                                                             kiln_stream_handle(engine->stream)),
                     "the stream of the CUDA provider");
}

static kiln_status append(const ort_engine *engine, const kiln_build_options *options,
                          OrtSessionOptions *session_options)
{
    const ort_runtime *runtime = engine->runtime;
    OrtCUDAProviderOptionsV2 *provider = NULL;
    char missing[ORT_CUDA_MISSING];
    char context[ORT_CUDA_MISSING + 64];
    ort_cuda_open_parts(runtime, missing);
    (void)snprintf(context, sizeof context, "the CUDA provider (it needs CUDA and cuDNN%s)",
                   missing);
    KLN_RETURN_IF_ERROR(
        ort_check(runtime, runtime->api.CreateCUDAProviderOptions(&provider), "the CUDA provider"));
    kiln_status status = set_provider(engine, options, provider);
    KLN_THEN(status, ort_check(runtime,
                               runtime->api.SessionOptionsAppendExecutionProvider_CUDA_V2(
                                   session_options, provider),
                               context));
    runtime->api.ReleaseCUDAProviderOptions(provider);
    return status;
}

kiln_status ort_cuda_append(ort_engine *engine, const kiln_build_options *options,
                            OrtSessionOptions *session_options)
{
    const ort_runtime *runtime = engine->runtime;
    KLN_RETURN_IF_ERROR(check_provider(runtime));
    KLN_RETURN_IF_ERROR(kiln_stream_create(options->device, 0, &engine->stream));
    engine->device = options->device;
    KLN_RETURN_IF_ERROR(
        ort_check(runtime,
                  runtime->api.CreateMemoryInfo("Cuda", ORT_ALLOCATOR_DEVICE, engine->device,
                                                ORT_MEMORY_DEFAULT, &engine->gpu_memory),
                  "the memory of the device"));
    if (runtime->api.Session_GetEpGraphAssignmentInfo != NULL) {
        KLN_RETURN_IF_ERROR(
            ort_check(runtime,
                      runtime->api.AddSessionConfigEntry(
                          session_options, "session.record_ep_graph_assignment_info", "1"),
                      "session options"));
    }
    return append(engine, options, session_options);
}

void ort_cuda_finish(ort_engine *engine)
{
    if (engine->gpu_memory != NULL) {
        engine->runtime->api.ReleaseMemoryInfo(engine->gpu_memory);
    }
    kiln_stream_destroy(engine->stream);
}

/* --- nodes on the CPU --- */

static kiln_status add_node(ort_engine *engine, const OrtEpAssignedNode *node)
{
    const ort_api *api = &engine->runtime->api;
    const char *name = NULL;
    const char *type = NULL;
    KLN_RETURN_IF_ERROR(
        ort_check(engine->runtime, api->EpAssignedNode_GetName(node, &name), "a node"));
    KLN_RETURN_IF_ERROR(
        ort_check(engine->runtime, api->EpAssignedNode_GetOperatorType(node, &type), "a node"));
    char *line = kln_arena_printf(&engine->arena, "%s \"%s\"", type, name);
    KLN_RETURN_IF_NO_MEMORY(line, strlen(name), "the list of nodes on the CPU");
    engine->host_nodes[engine->host_node_count++] = line;
    return KILN_OK;
}

typedef struct assigned {
    const OrtEpAssignedNode *const *nodes;
    size_t count;
    bool on_cpu;
} assigned;

static kiln_status read_assigned(const ort_runtime *runtime, const OrtEpAssignedSubgraph *part,
                                 assigned *found)
{
    const char *provider = NULL;
    KLN_RETURN_IF_ERROR(ort_check(
        runtime, runtime->api.EpAssignedSubgraph_GetEpName(part, &provider), "a provider"));
    found->on_cpu = strcmp(provider, "CPUExecutionProvider") == 0;
    return ort_check(runtime,
                     runtime->api.EpAssignedSubgraph_GetNodes(part, &found->nodes, &found->count),
                     "the nodes of a provider");
}

static kiln_status list_nodes(ort_engine *engine)
{
    const ort_runtime *runtime = engine->runtime;
    const OrtEpAssignedSubgraph *const *parts = NULL;
    size_t part_count = 0;
    size_t count = 0;
    assigned found = {.nodes = NULL};
    KLN_RETURN_IF_ERROR(ort_check(
        runtime,
        runtime->api.Session_GetEpGraphAssignmentInfo(engine->session, &parts, &part_count),
        "which nodes run where"));
    for (size_t i = 0; i < part_count; i++) {
        KLN_RETURN_IF_ERROR(read_assigned(runtime, parts[i], &found));
        count += found.on_cpu ? found.count : 0;
    }
    KLN_ARENA_NEW(&engine->arena, engine->host_nodes, count, "the list of nodes on the CPU");
    for (size_t i = 0; i < part_count; i++) {
        KLN_RETURN_IF_ERROR(read_assigned(runtime, parts[i], &found));
        for (size_t k = 0; found.on_cpu && k < found.count; k++) {
            KLN_RETURN_IF_ERROR(add_node(engine, found.nodes[k]));
        }
    }
    return KILN_OK;
}

/* "3 nodes run on the CPU: Shape "a", Gather "b", ..." */
static void describe_nodes(const ort_engine *engine, char *text, size_t size)
{
    const size_t count = engine->host_node_count;
    int used = snprintf(text, size, "%zu node%s run%s on the CPU:", count, count == 1 ? "" : "s",
                        count == 1 ? "s" : "");
    for (size_t i = 0; i < count && used > 0 && (size_t)used < size; i++) {
        const bool ends = i == NAMED_NODES;
        const int more = snprintf(text + used, size - (size_t)used, "%s %s", i != 0 ? "," : "",
                                  ends ? "..." : engine->host_nodes[i]);
        used = more < 0 || ends ? -1 : used + more;
    }
}

kiln_status ort_cuda_read_nodes(ort_engine *engine, const kiln_build_options *options)
{
    char text[480] = "";
    if (engine->runtime->api.Session_GetEpGraphAssignmentInfo == NULL) {
        (void)snprintf(text, sizeof text,
                       "ONNX Runtime %s does not say which nodes run on the CPU; 1.24 does",
                       engine->runtime->version);
    } else {
        KLN_RETURN_IF_ERROR(list_nodes(engine));
        if (engine->host_node_count != 0) {
            describe_nodes(engine, text, sizeof text);
        }
    }
    KLN_RETURN_IF(options->gpu_only && text[0] != '\0', KILN_ERROR_UNSUPPORTED,
                  "gpu_only is set, and %s", text);
    if (text[0] == '\0' && engine->passed_count != 0) {
        (void)snprintf(text, sizeof text, "an output of the model is one of its inputs");
    }
    if (text[0] == '\0') {
        return KILN_OK;
    }
    engine->no_capture = kln_arena_strdup(&engine->arena, text);
    return engine->no_capture != NULL ? KILN_OK : kln_fail_memory(sizeof text, "a sentence");
}

/* --- for the engine module --- */

int32_t ort_cuda_device(void *engine)
{
    return ((const ort_engine *)engine)->device;
}

kiln_stream *ort_cuda_stream(void *engine)
{
    return ((const ort_engine *)engine)->stream;
}

const char *ort_cuda_no_capture(void *engine)
{
    return ((const ort_engine *)engine)->no_capture;
}

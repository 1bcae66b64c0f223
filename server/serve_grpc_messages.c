/* SPDX-License-Identifier: Apache-2.0 */
/* The messages and methods of inference.GRPCInferenceService, as defined by the Open Inference
 * Protocol and Triton, and of grpc.health.v1.Health. */
#include "serve_grpc_messages.h"

#include <string.h>

#include "config_pbtxt.h"

#define MESSAGE(name, ...)                                          \
    static const serve_proto_field name##_fields[] = {__VA_ARGS__}; \
    static const serve_proto_message name = {SERVE_LENGTH(name##_fields), name##_fields}
#define FIELD(number, kind, name)                \
    {                                            \
        number, SERVE_PROTO_##kind, false, name, \
        {                                        \
            NULL                                 \
        }                                        \
    }
#define LIST(number, kind, name)                \
    {                                           \
        number, SERVE_PROTO_##kind, true, name, \
        {                                       \
            NULL                                \
        }                                       \
    }
#define OF(number, kind, name, message)          \
    {                                            \
        number, SERVE_PROTO_##kind, false, name, \
        {                                        \
            &(message)                           \
        }                                        \
    }
#define LIST_OF(number, message_name, name)      \
    {                                            \
        number, SERVE_PROTO_MESSAGE, true, name, \
        {                                        \
            &(message_name)                      \
        }                                        \
    }

/* --- requests --- */

MESSAGE(parameter, FIELD(1, BOOL, NULL), FIELD(2, INT, NULL), FIELD(3, STRING, NULL),
        FIELD(4, DOUBLE, NULL), FIELD(5, UINT, NULL));
MESSAGE(contents, LIST(1, BOOL, NULL), LIST(2, INT, NULL), LIST(3, INT, NULL), LIST(4, UINT, NULL),
        LIST(5, UINT, NULL), LIST(6, FLOAT, NULL), LIST(7, DOUBLE, NULL), LIST(8, TEXT, NULL));
MESSAGE(infer_input, FIELD(1, STRING, "name"), FIELD(2, STRING, "datatype"), LIST(3, INT, "shape"),
        OF(4, MAP, "parameters", parameter), OF(5, SELF, "data", contents));
MESSAGE(infer_wish, FIELD(1, STRING, "name"), OF(2, MAP, "parameters", parameter));
MESSAGE(infer_request, FIELD(3, STRING, "id"), OF(4, MAP, "parameters", parameter),
        LIST_OF(5, infer_input, "inputs"), LIST_OF(6, infer_wish, "outputs"),
        LIST(SERVE_GRPC_RAW_INPUT, RAW, NULL));
MESSAGE(text_request, FIELD(3, STRING, "id"), OF(4, MAP, "parameters", parameter));
const serve_proto_message *const serve_grpc_text_request = &text_request;
MESSAGE(index_request, FIELD(2, BOOL, "ready"));
MESSAGE(repository_parameter, FIELD(1, BOOL, NULL), FIELD(2, INT, NULL), FIELD(3, STRING, NULL),
        FIELD(4, RAW, NULL));
MESSAGE(control_request, OF(3, MAP, "parameters", repository_parameter));

/* --- answers --- */

#define TYPE(name) "TYPE_" #name,
static const char *const types[] = {"TYPE_INVALID", MODEL_TYPE_LIST(TYPE) NULL};

MESSAGE(live, FIELD(1, BOOL, "live"));
MESSAGE(ready, FIELD(1, BOOL, "ready"));
MESSAGE(server, FIELD(1, STRING, "name"), FIELD(2, STRING, "version"),
        LIST(3, STRING, "extensions"));
MESSAGE(tensor, FIELD(1, STRING, "name"), FIELD(2, STRING, "datatype"), LIST(3, INT, "shape"));
MESSAGE(model, FIELD(1, STRING, "name"), LIST(2, STRING, "versions"), FIELD(3, STRING, "platform"),
        LIST_OF(4, tensor, "inputs"), LIST_OF(5, tensor, "outputs"));
MESSAGE(latest, FIELD(1, UINT, "num_versions"));
MESSAGE(specific, LIST(1, INT, "versions"));
MESSAGE(nothing, FIELD(1, BOOL, ""));
MESSAGE(version_policy, OF(1, MESSAGE, "latest", latest), OF(2, MESSAGE, "all", nothing),
        OF(3, MESSAGE, "specific", specific));
MESSAGE(transaction_policy, FIELD(1, BOOL, "decoupled"));
MESSAGE(config_input, FIELD(1, STRING, "name"),
        {2, SERVE_PROTO_ENUM, false, "data_type", {.words = types}}, LIST(4, INT, "dims"));
MESSAGE(config_output, FIELD(1, STRING, "name"),
        {2, SERVE_PROTO_ENUM, false, "data_type", {.words = types}}, LIST(3, INT, "dims"));
static const char *const kinds[] = {"KIND_AUTO", "KIND_GPU", "KIND_CPU", "KIND_MODEL", NULL};
MESSAGE(instance_group, FIELD(1, STRING, "name"), FIELD(2, INT, "count"),
        {4, SERVE_PROTO_ENUM, false, "kind", {.words = kinds}});
MESSAGE(dynamic_batching, FIELD(2, UINT, "max_queue_delay_microseconds"));
MESSAGE(config, FIELD(1, STRING, "name"), FIELD(2, STRING, "platform"),
        OF(3, MESSAGE, "version_policy", version_policy), FIELD(4, INT, "max_batch_size"),
        LIST_OF(5, config_input, "input"), LIST_OF(6, config_output, "output"),
        LIST_OF(7, instance_group, "instance_group"),
        OF(11, MESSAGE, "dynamic_batching", dynamic_batching), FIELD(17, STRING, "backend"),
        OF(19, MESSAGE, "model_transaction_policy", transaction_policy));
MESSAGE(config_answer, OF(1, MESSAGE, "config", config));
MESSAGE(duration, FIELD(1, UINT, "count"), FIELD(2, UINT, "ns"));
MESSAGE(durations, OF(1, MESSAGE, "success", duration), OF(2, MESSAGE, "fail", duration),
        OF(3, MESSAGE, "queue", duration), OF(4, MESSAGE, "compute_input", duration),
        OF(5, MESSAGE, "compute_infer", duration), OF(6, MESSAGE, "compute_output", duration),
        OF(7, MESSAGE, "cache_hit", duration), OF(8, MESSAGE, "cache_miss", duration));
MESSAGE(statistics, FIELD(1, STRING, "name"), FIELD(2, STRING, "version"),
        FIELD(3, UINT, "last_inference"), FIELD(4, UINT, "inference_count"),
        FIELD(5, UINT, "execution_count"), OF(6, MESSAGE, "inference_stats", durations));
MESSAGE(all_statistics, LIST_OF(1, statistics, "model_stats"));
MESSAGE(index_entry, FIELD(1, STRING, "name"), FIELD(2, STRING, "version"),
        FIELD(3, STRING, "state"), FIELD(4, STRING, "reason"));
MESSAGE(repository_index, LIST_OF(1, index_entry, "models"));
MESSAGE(infer_answer, FIELD(1, STRING, "model_name"), FIELD(2, STRING, "model_version"),
        FIELD(3, STRING, "id"), LIST_OF(5, tensor, "outputs"));
const serve_proto_message *const serve_grpc_infer_answer = &infer_answer;
MESSAGE(region_request, FIELD(2, STRING, "key"), FIELD(3, UINT, "offset"),
        FIELD(4, UINT, "byte_size"));
MESSAGE(region, FIELD(1, STRING, "name"), FIELD(2, STRING, "key"), FIELD(3, UINT, "offset"),
        FIELD(4, UINT, "byte_size"));
MESSAGE(region_entry, FIELD(1, STRING, "name"), OF(2, MESSAGE, "region", region));
MESSAGE(regions, LIST_OF(1, region_entry, "regions"));
static const char *const health[] = {"UNKNOWN", "SERVING", "NOT_SERVING", NULL};
MESSAGE(health_answer, {1, SERVE_PROTO_ENUM, false, "status", {.words = health}});

/* --- methods --- */

#define REGION "v2/systemsharedmemory/region/"
#define HEALTH "/grpc.health.v1.Health/"
#define CUDA "v2/cudasharedmemory/region/"
#define INFERENCE "/inference.GRPCInferenceService/"

static const serve_grpc_method methods[] = {
    {INFERENCE "ServerLive", "GET", "v2/health/live", 0, 0, NULL, &live, NULL, 0},
    {INFERENCE "ServerReady", "GET", "v2/health/ready", 0, 0, NULL, &ready, NULL, 0},
    {INFERENCE "ServerMetadata", "GET", "v2", 0, 0, NULL, &server, NULL, 0},
    {INFERENCE "ModelReady", "GET", "v2/models/*/ready", 1, 2, NULL, &ready, NULL, SERVE_GRPC_ASKS},
    {INFERENCE "ModelMetadata", "GET", "v2/models/*", 1, 2, NULL, &model, NULL, 0},
    {INFERENCE "ModelConfig", "GET", "v2/models/*/config", 1, 2, NULL, &config_answer, "config", 0},
    {INFERENCE "ModelStatistics", "GET", "v2/models/*/stats", 1, 2, NULL, &all_statistics, NULL,
     SERVE_GRPC_ALL},
    {INFERENCE "ModelInfer", "POST", "v2/models/*/infer", 1, 2, &infer_request, &infer_answer, NULL,
     SERVE_GRPC_INFERS},
    {INFERENCE "ModelStreamInfer", "POST", "v2/models/*/infer", 1, 2, &infer_request, &infer_answer,
     NULL, SERVE_GRPC_INFERS | SERVE_GRPC_STREAMS},
    {INFERENCE "RepositoryIndex", "POST", "v2/repository/index", 0, 0, &index_request,
     &repository_index, "models", 0},
    {INFERENCE "RepositoryModelLoad", "POST", "v2/repository/models/*/load", 2, 0, &control_request,
     &nothing, NULL, 0},
    {INFERENCE "RepositoryModelUnload", "POST", "v2/repository/models/*/unload", 2, 0,
     &control_request, &nothing, NULL, 0},
    {INFERENCE "SystemSharedMemoryStatus", "GET", REGION "*/status", 1, 0, NULL, &regions,
     "regions", SERVE_GRPC_ALL},
    {INFERENCE "SystemSharedMemoryRegister", "POST", REGION "*/register", 1, 0, &region_request,
     &nothing, NULL, 0},
    {INFERENCE "SystemSharedMemoryUnregister", "POST", REGION "*/unregister", 1, 0, NULL, &nothing,
     NULL, SERVE_GRPC_ALL},
    {INFERENCE "CudaSharedMemoryStatus", "GET", CUDA "*/status", 1, 0, NULL, &regions, "regions",
     SERVE_GRPC_ALL},
    {INFERENCE "CudaSharedMemoryRegister", "POST", CUDA "*/register", 1, 0, NULL, &nothing, NULL,
     0},
    {INFERENCE "CudaSharedMemoryUnregister", "POST", CUDA "*/unregister", 1, 0, NULL, &nothing,
     NULL, SERVE_GRPC_ALL},
    {INFERENCE "TraceSetting", "POST", "v2/trace/setting", 0, 0, NULL, &nothing, NULL, 0},
    {INFERENCE "LogSettings", "POST", "v2/logging", 0, 0, NULL, &nothing, NULL, 0},
    {HEALTH "Check", "GET", "v2/health/ready", 1, 0, NULL, &health_answer, NULL, SERVE_GRPC_HEALTH},
    {HEALTH "Watch", "GET", "v2/health/ready", 1, 0, NULL, &health_answer, NULL,
     SERVE_GRPC_HEALTH | SERVE_GRPC_WATCHES},
};

const serve_grpc_method *serve_grpc_method_of(const char *path)
{
    for (size_t i = 0; i < SERVE_LENGTH(methods); i++) {
        if (strcmp(methods[i].path, path) == 0) {
            return &methods[i];
        }
    }
    return NULL;
}

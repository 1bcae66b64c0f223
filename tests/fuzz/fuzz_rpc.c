/* SPDX-License-Identifier: Apache-2.0 */
/* A message of gRPC: it becomes JSON that can be read, or is refused with a reason; and what the
 * answers' tables make of any JSON can be read again. The first byte chooses the method. */
#include "fuzz_parts.h"
#include "serve_grpc_messages.h"

static const char *const paths[] = {"ModelInfer",    "ModelStatistics", "ModelConfig",
                                    "ModelMetadata", "RepositoryIndex", "RepositoryModelLoad"};

static void read_back(serve_proto_span message)
{
    serve_proto_value value;
    const char *reason = NULL;
    while (serve_proto_next(&message, &value, &reason)) {
    }
    FAULT_IF(reason != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[80] = "/inference.GRPCInferenceService/";
    serve_text json = {.data = NULL};
    serve_text message = {.data = NULL};
    const char *reason = NULL;
    serve_json reader;
    serve_slice value;
    if (size == 0) {
        return 0;
    }
    strcat(path, paths[*data % SERVE_LENGTH(paths)]);
    const serve_grpc_method *method = serve_grpc_method_of(path);
    uint8_t *body = malloc(size); /* of the very size, so that a byte too far is seen */
    FAULT_IF(body == NULL || method == NULL);
    memcpy(body, data + 1, size - 1);
    if (method->request != NULL &&
        serve_proto_to_json(method->request, (serve_proto_span){body, size - 1}, &json, &reason)) {
        serve_json_init(&reader, json.data, json.size);
        FAULT_IF(!serve_json_skip(&reader, &value) || !serve_json_end(&reader));
    } else if (method->request != NULL && reason == NULL) {
        abort();
    }
    serve_json_init(&reader, (const char *)body, size - 1);
    if (serve_proto_from_json(method->answer, &reader, &message)) {
        read_back((serve_proto_span){(const uint8_t *)message.data, message.size});
    }
    serve_text_finish(&json);
    serve_text_finish(&message);
    free(body);
    return 0;
}

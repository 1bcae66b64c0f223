/* SPDX-License-Identifier: Apache-2.0 */
/* Text generation through ModelStreamInfer: a request with input_ids as its only input is answered
 * token by token. */
#include <stdlib.h>

#include "serve_grpc.h"

#define INPUTS 5
#define PARAMETERS 4
#define INFER_RESPONSE 2
#define ERROR_MESSAGE 1

/* --- the request --- */

/* The type of the only input if that is input_ids, else KILN_DTYPE_UNDEFINED. */
static kiln_dtype tokens_type(serve_proto_span message)
{
    serve_proto_value value;
    const char *reason = NULL;
    kiln_dtype dtype = KILN_DTYPE_UNDEFINED;
    size_t count = 0;
    bool named = false;
    while (serve_proto_next(&message, &value, &reason)) {
        serve_proto_span input = value.bytes;
        if (value.number != INPUTS || value.type != 2) {
            continue;
        }
        count++;
        while (serve_proto_next(&input, &value, &reason)) {
            const serve_slice word = {(const char *)value.bytes.at, value.bytes.size};
            named |= value.number == 1 && value.type == 2 && word.size == 9 &&
                     memcmp(word.at, "input_ids", 9) == 0;
            if (value.number == 2 && value.type == 2 && word.size == 5) {
                dtype = memcmp(word.at, "INT64", 5) == 0   ? KILN_DTYPE_INT64
                        : memcmp(word.at, "INT32", 5) == 0 ? KILN_DTYPE_INT32
                                                           : KILN_DTYPE_UNDEFINED;
            }
        }
    }
    return count == 1 && named ? dtype : KILN_DTYPE_UNDEFINED;
}

bool serve_call_is_text(serve_call *call, serve_proto_span message, const char *name,
                        const char *version)
{
    serve_problem problem = {.code = 0};
    if (!serve_call_streams(call) || call->tensors.count != 1 ||
        tokens_type(message) == KILN_DTYPE_UNDEFINED) {
        return false;
    }
    serve_instance *instance =
        serve_find(call->at.server, name, version[0] != '\0' ? version : NULL, &problem);
    const bool writes = instance != NULL && instance->generator_count != 0;
    if (instance != NULL) {
        serve_instance_release(instance);
    }
    return writes;
}

/* Builds the JSON that generate_stream takes: the message without its tensor, and the tokens. */
bool serve_call_text_json(serve_call *call, serve_proto_span message, const char **reason)
{
    const bool wide = tokens_type(message) == KILN_DTYPE_INT64;
    const size_t size = wide ? 8 : 4;
    const serve_slice *raw = &call->tensors.items[0];
    if (!serve_proto_to_json(serve_grpc_text_request, message, &call->json, reason)) {
        return false;
    }
    call->json.size -= call->json.failed ? 0 : 1; /* drops the closing brace */
    serve_text_string(&call->json, !call->json.failed && call->json.size > 1 ? ",\"input_ids\":["
                                                                             : "\"input_ids\":[");
    for (size_t at = 0; at + size <= raw->size; at += size) {
        int64_t token = 0;
        int32_t narrow = 0;
        memcpy(&token, raw->at + at, wide ? 8 : 0);
        memcpy(&narrow, raw->at + at, 4);
        serve_text_string(&call->json, at > 0 ? "," : "");
        serve_text_integer(&call->json, wide ? token : (int64_t)narrow);
    }
    serve_text_string(&call->json, "]}");
    return true;
}

/* --- tokens --- */

static void put_parameter(serve_text *into, const char *key, uint32_t number, serve_slice value)
{
    serve_text inner = {.data = NULL};
    serve_text entry = {.data = NULL};
    serve_proto_put_head(&inner, number, value.size);
    serve_text_append(&inner, value.at, value.size);
    serve_proto_put_head(&entry, 1, strlen(key));
    serve_text_string(&entry, key);
    serve_proto_put_head(&entry, 2, inner.size);
    serve_text_append(&entry, inner.data, inner.size);
    serve_proto_put_head(into, PARAMETERS, entry.size);
    serve_text_append(into, entry.data, entry.size);
    into->failed |= inner.failed || entry.failed;
    serve_text_finish(&inner);
    serve_text_finish(&entry);
}

/* Converts an event of generate_stream into an answer of ModelStreamInfer. */
static void put_event(serve_text *out, serve_slice event)
{
    static const char tensor[] =
        ",\"outputs\":[{\"name\":\"output_ids\",\"datatype\":\"INT64\",\"shape\":[1]}]}";
    serve_text whole = {.data = NULL};
    serve_text inner = {.data = NULL};
    char sentence[SERVE_SENTENCE] = "";
    char finish[16] = "";
    int64_t token = 0;
    serve_json json;
    serve_slice key;
    serve_slice value;
    serve_json_init(&json, event.at, event.size);
    bool read = serve_json_enter(&json, '{');
    while (read && serve_json_member(&json, &key)) {
        read = serve_json_is(&key, "error") ? serve_json_string(&json, sentence, sizeof sentence)
               : serve_json_is(&key, "finish_reason")
                   ? serve_json_string(&json, finish, sizeof finish)
               : serve_json_is(&key, "output_ids")
                   ? serve_json_enter(&json, '[') && serve_json_element(&json) &&
                         serve_json_integer(&json, &token) && !serve_json_element(&json)
                   : serve_json_skip(&json, &value);
    }
    if (sentence[0] != '\0') {
        serve_text_string(&inner, sentence);
    } else {
        serve_text_append(&whole, event.at, event.size - 1);
        serve_text_string(&whole, tensor);
        serve_json_init(&json, whole.data, whole.size);
        out->failed |=
            whole.failed || !serve_proto_from_json(serve_grpc_infer_answer, &json, &inner);
        if (finish[0] != '\0') {
            put_parameter(&inner, "finish_reason", 3, (serve_slice){finish, strlen(finish)});
        }
        serve_call_put_final(&inner, finish[0] != '\0');
        serve_proto_put_head(&inner, SERVE_GRPC_RAW_OUTPUT, sizeof token);
        serve_text_append(&inner, &token, sizeof token);
    }
    serve_text_finish(&whole);
    serve_proto_put_head(&whole, sentence[0] != '\0' ? ERROR_MESSAGE : INFER_RESPONSE, inner.size);
    const size_t size = whole.size + inner.size;
    const char prefix[SERVE_GRPC_PREFIX] = {0, (char)(size >> 24), (char)(size >> 16),
                                            (char)(size >> 8), (char)size};
    serve_text_append(out, prefix, sizeof prefix);
    serve_text_append(out, whole.data, whole.size);
    serve_text_append(out, inner.data, inner.size);
    out->failed |= whole.failed || inner.failed;
    serve_text_finish(&whole);
    serve_text_finish(&inner);
}

/* Converts the complete events. */
static void put_events(serve_call *call)
{
    static const char begin[] = "data: ";
    serve_text *events = &call->events;
    size_t used = 0;
    char *end = NULL;
    while (!events->failed && events->data != NULL &&
           (end = strstr(events->data + used, "\n\n")) != NULL) {
        const char *at = events->data + used + sizeof begin - 1;
        put_event(&call->out, (serve_slice){at, (size_t)(end - at)});
        used = (size_t)(end - events->data) + 2;
    }
    call->out.failed |= events->failed;
    if (used != 0 && events->data != NULL) {
        memmove(events->data, events->data + used, events->size - used + 1);
        events->size -= used;
    }
}

void serve_call_read_text(serve_call *call)
{
    char buffer[4096];
    ssize_t size = 0;
    do {
        size = call->read(call->read_user, 0, buffer, sizeof buffer);
        if (size > 0) {
            serve_text_append(&call->events, buffer, (size_t)size);
            put_events(call);
        }
    } while (size > 0 && call->out.size == 0 && !call->out.failed);
    if (size == 0) {
        return; /* sleeps until there is more */
    }
    if (size > 0 && serve_call_send_out(call)) {
        return; /* the next one is read once it is sent */
    }
    serve_call_stop_text(call);
    if (size == MHD_CONTENT_READER_END_OF_STREAM) {
        serve_call_finish_request(call);
    } else {
        (void)serve_no_memory(&call->at.problem);
        serve_call_end(call, false);
    }
}

void serve_call_stop_text(serve_call *call)
{
    if (call->read != NULL) {
        call->read_release(call->read_user);
        call->read = NULL;
    }
    serve_text_finish(&call->events);
}

bool serve_call_stream(serve_connection *at,
                       ssize_t (*read)(void *user, uint64_t position, char *buffer, size_t size),
                       void (*release)(void *user), void *user)
{
    serve_call *call = (serve_call *)at;
    at->code = 200;
    call->read = read;
    call->read_release = release;
    call->read_user = user;
    serve_call_read_text(call);
    return true;
}

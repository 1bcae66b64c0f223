/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <strings.h>

#include "serve_data.h"
#include "serve_shared.h"

static serve_result json(serve_connection *at, int code, serve_text *text)
{
    (void)serve_answer_text(at, code, "application/json", text);
    return SERVE_DONE;
}

static serve_result refused(serve_connection *at)
{
    (void)at;
    return SERVE_REFUSED;
}

/* --- the server --- */

static serve_result show_server(serve_connection *at)
{
    serve_text text = {.data = NULL};
    serve_text_string(&text, "{\"name\":\"kiln\",\"version\":");
    serve_text_json(&text, kiln_version_string());
    serve_text_string(&text,
                      ",\"extensions\":[\"binary_tensor_data\",\"classification\",\"generate\","
                      "\"model_configuration\",\"model_repository\","
                      "\"model_repository(unload_dependents)\",\"statistics\"");
    serve_text_string(&text,
                      at->server->options->shared_memory ? ",\"system_shared_memory\"]}" : "]}");
    return json(at, 200, &text);
}

static serve_result show_flag(serve_connection *at, const char *name, bool value)
{
    serve_text text = {.data = NULL};
    serve_text_printf(&text, "{\"%s\":%s}", name, value ? "true" : "false");
    return json(at, value ? 200 : 503, &text);
}

static serve_result show_live(serve_connection *at)
{
    return show_flag(at, "live", !serve_is_lost(at->server));
}

static serve_result show_ready(serve_connection *at)
{
    return show_flag(at, "ready", serve_is_ready(at->server));
}

/* --- a model --- */

static serve_instance *find(serve_connection *at)
{
    const bool has_version = at->segment_count > 4 && strcmp(at->segments[3], "versions") == 0;
    return serve_find(at->server, at->segments[2], has_version ? at->segments[4] : NULL,
                      &at->problem);
}

/* Answers with the model's name and what `put` adds. */
static serve_result show_with(serve_connection *at,
                              void (*put)(serve_text *text, const serve_instance *model))
{
    serve_instance *model = find(at);
    serve_text text = {.data = NULL};
    if (model == NULL) {
        return refused(at);
    }
    serve_text_string(&text, "{\"name\":");
    serve_text_json(&text, model->name);
    put(&text, model);
    serve_text_string(&text, "}");
    serve_instance_release(model);
    return json(at, 200, &text);
}

static void put_ready(serve_text *text, const serve_instance *model)
{
    (void)model;
    serve_text_string(text, ",\"ready\":true");
}

static serve_result show_model_ready(serve_connection *at)
{
    return show_with(at, put_ready);
}

static void put_dims(serve_text *text, const kiln_shape *shape, int32_t first)
{
    serve_text_string(text, "[");
    for (int32_t d = first; d < (shape->rank < 0 ? 1 : shape->rank); d++) {
        serve_text_string(text, d > first ? "," : "");
        serve_text_integer(text, shape->rank < 0 || shape->dims[d] < 0 ? -1 : shape->dims[d]);
    }
    serve_text_string(text, "]");
}

static void put_bindings(serve_text *text, const char *key, const serve_binding *bindings,
                         size_t count, bool configuration, bool batched)
{
    serve_text_printf(text, ",\"%s\":[", key);
    for (size_t i = 0; i < count; i++) {
        serve_text_printf(text, "%s{\"name\":", i > 0 ? "," : "");
        serve_text_json(text, bindings[i].name);
        serve_text_printf(text, ",\"%s\":\"%s\",\"%s\":", configuration ? "data_type" : "datatype",
                          configuration ? serve_config_type(bindings[i].dtype)
                                        : serve_type_name(bindings[i].dtype),
                          configuration ? "dims" : "shape");
        put_dims(text, &bindings[i].shape, configuration && batched ? 1 : 0);
        serve_text_string(text, "}");
    }
    serve_text_string(text, "]");
}

static void put_model(serve_text *text, const serve_instance *model)
{
    serve_text_string(text, ",\"versions\":[");
    serve_versions_put(text, model);
    serve_text_printf(text, "],\"platform\":\"%s\"", model->platform);
    put_bindings(text, "inputs", model->inputs, model->input_count, false, false);
    put_bindings(text, "outputs", model->outputs, model->output_count, false, false);
}

static serve_result show_model(serve_connection *at)
{
    return show_with(at, put_model);
}

/* If max_batch_size is 0, the dimensions are the model's own, including the rows. */
static void put_configuration(serve_text *text, const serve_instance *model)
{
    serve_text_printf(text,
                      ",\"platform\":\"%s\",\"backend\":\"%.*s\",\"max_batch_size\":%lld,"
                      "\"version_policy\":%s,\"model_transaction_policy\":{\"decoupled\":%s}",
                      model->platform, (int)strcspn(model->platform, "_"), model->platform,
                      (long long)model->row_limit, model->version_policy.data,
                      model->decoupled ? "true" : "false");
    const bool batched = model->row_limit > 0;
    put_bindings(text, "input", model->inputs, model->input_count, true, batched);
    put_bindings(text, "output", model->outputs, model->output_count, true, batched);
    serve_text_string(text, ",\"instance_group\":[{\"name\":");
    serve_text_json(text, model->name);
    serve_text_printf(text, ",\"kind\":\"%s\",\"count\":%d}]",
                      model->on_gpu ? "KIND_GPU" : "KIND_CPU", (int)model->contexts);
    if (model->max_batch > 0) {
        serve_text_printf(text, ",\"dynamic_batching\":{\"max_queue_delay_microseconds\":%llu}",
                          (unsigned long long)(model->delay / 1000));
    }
}

static serve_result show_configuration(serve_connection *at)
{
    return show_with(at, put_configuration);
}

/* --- the repository --- */

static serve_result show_index(serve_connection *at)
{
    serve_models *models = &at->server->models;
    serve_text text = {.data = NULL};
    serve_json body;
    serve_slice key;
    bool ready_alone = false;
    serve_json_init(&body, at->body, at->body_size);
    if (at->body_size != 0 && serve_json_enter(&body, '{')) {
        while (serve_json_member(&body, &key) &&
               (serve_json_is(&key, "ready") ? serve_json_bool(&body, &ready_alone)
                                             : serve_json_skip(&body, &(serve_slice){NULL, 0}))) {
        }
    }
    if (body.reason != NULL) {
        (void)serve_refuse(&at->problem, 400, "the request's JSON: %s", body.reason);
        return SERVE_REFUSED;
    }
    const char *comma = "";
    serve_text_string(&text, "[");
    (void)pthread_rwlock_rdlock(&models->lock);
    for (const serve_model *model = models->first; model != NULL; model = model->next) {
        for (const serve_version *version = model->versions; version != NULL;
             version = version->next) {
            const bool ready = version->state == SERVE_READY;
            if (!ready && ready_alone) {
                continue;
            }
            serve_text_printf(&text, "%s{\"name\":", comma);
            serve_text_json(&text, model->name);
            serve_text_printf(&text,
                              ",\"version\":\"%s\",\"state\":\"%s\",\"reason\":", version->version,
                              serve_states[version->state]);
            serve_text_json(&text, ready ? "" : version->reason);
            serve_text_string(&text, "}");
            comma = ",";
        }
    }
    (void)pthread_rwlock_unlock(&models->lock);
    serve_text_string(&text, "]");
    return json(at, 200, &text);
}

/* The body may be empty, or an object whose "parameters" ask only for what is supported. */
static bool check_control(serve_connection *at)
{
    serve_json body;
    serve_slice key;
    serve_slice value = {NULL, 0};
    serve_json_init(&body, at->body, at->body_size);
    if (at->body_size == 0) {
        return true;
    }
    bool plain = serve_json_enter(&body, '{');
    while (plain && serve_json_member(&body, &key)) {
        if (!serve_json_is(&key, "parameters")) {
            plain = serve_json_skip(&body, &value);
            continue;
        }
        plain = serve_json_enter(&body, '{');
        while (plain && serve_json_member(&body, &key)) {
            if (!serve_json_is(&key, "unload_dependents")) {
                return serve_refuse(&at->problem, 400,
                                    "a model is loaded as it lies in the repository: the parameter "
                                    "\"%.*s\" is not offered",
                                    (int)(key.size < 60 ? key.size : 60), key.at);
            }
            plain = serve_json_skip(&body, &value);
        }
        body.fresh = false;
    }
    return (serve_json_end(&body) && plain) ||
           serve_refuse(&at->problem, 400, "the request's JSON: %s",
                        body.reason != NULL ? body.reason : "it is broken");
}

static serve_result control(serve_connection *at, bool unloads)
{
    if (at->server->options->no_control) {
        (void)serve_refuse(&at->problem, 403,
                           "this server loads and unloads no models on request (--no-control)");
        return SERVE_REFUSED;
    }
    return check_control(at) ? serve_control(at, unloads) : SERVE_REFUSED;
}

static serve_result load(serve_connection *at)
{
    return control(at, false);
}

static serve_result unload(serve_connection *at)
{
    return control(at, true);
}

static serve_result show_control(serve_connection *at)
{
    serve_text text = {.data = NULL};
    if (at->problem.code != 0) {
        return SERVE_REFUSED;
    }
    serve_text_string(&text, "{}");
    return json(at, 200, &text);
}

/* --- paths --- */

#define MODEL_ROUTES(method, path, ...)                    \
    {method, "v2/models/*" path, __VA_ARGS__},             \
    {                                                      \
        method, "v2/models/*/versions/*" path, __VA_ARGS__ \
    }
#define INFERS .run = serve_infer_run, .again = serve_infer_again, .finish = serve_infer_finish
#define WRITES \
    .run = serve_generate_run, .again = serve_generate_again, .finish = serve_generate_finish

#define SHARED "v2/systemsharedmemory"
#define CUDA "v2/cudasharedmemory"
#define NONE_OF(path)                                             \
    {"GET", path "/status", .run = serve_shared_show_none},       \
    {                                                             \
        "POST", path "/unregister", .run = serve_shared_drop_none \
    }
#define NOT_OFFERED(path)                        \
    {"GET", path, .run = serve_shared_refuse},   \
    {                                            \
        "POST", path, .run = serve_shared_refuse \
    }

/* Most frequent first. */
static const serve_route routes[] = {
    MODEL_ROUTES("POST", "/infer", INFERS),
    {"GET", "", .run = serve_page_run},
    {"GET", "metrics", .run = serve_metrics_run},
    {"GET", "v2", .run = show_server},
    {"GET", "v2/health/live", .open = true, .run = show_live},
    {"GET", "v2/health/ready", .open = true, .run = show_ready},
    {"GET", "v2/models/stats", .run = serve_statistics_run},
    MODEL_ROUTES("POST", "/generate", WRITES),
    MODEL_ROUTES("POST", "/generate_stream", WRITES),
    MODEL_ROUTES("GET", "", .run = show_model),
    MODEL_ROUTES("GET", "/ready", .run = show_model_ready),
    MODEL_ROUTES("GET", "/config", .run = show_configuration),
    MODEL_ROUTES("GET", "/stats", .run = serve_statistics_run),
    {"POST", "v2/repository/index", .run = show_index},
    {"POST", "v2/repository/models/*/load", .run = load, .again = show_control},
    {"POST", "v2/repository/models/*/unload", .run = unload, .again = show_control},
    {"GET", SHARED "/region/*/status", .run = serve_shared_show},
    {"POST", SHARED "/region/*/register", .run = serve_shared_register},
    {"POST", SHARED "/region/*/unregister", .run = serve_shared_unregister},
    {"GET", SHARED "/status", .run = serve_shared_show},
    {"POST", SHARED "/unregister", .run = serve_shared_unregister},
    {"GET", SHARED "/region/status", .run = serve_shared_show}, /* as gRPC asks for all */
    {"POST", SHARED "/region/unregister", .run = serve_shared_unregister},
    NONE_OF(CUDA),
    NONE_OF(CUDA "/region"),
    NONE_OF(CUDA "/region/*"),
    NOT_OFFERED(CUDA "/region/*/register"),
    NOT_OFFERED("v2/logging"),
    NOT_OFFERED("v2/trace/setting"),
    NOT_OFFERED("v2/models/*/trace/setting"),
};

static int hex(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* Decodes one segment. False if it is malformed, contains a NUL, or is too long. */
static bool decode(const char *at, size_t length, char *segment)
{
    size_t used = 0;
    for (size_t i = 0; i < length; i++) {
        char c = at[i];
        if (c == '%') {
            const bool whole = length - i > 2;
            const int high = whole ? hex(at[i + 1]) : -1;
            const int low = whole ? hex(at[i + 2]) : -1;
            if (high < 0 || low < 0 || high + low == 0) {
                return false;
            }
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (used + 1 >= SERVE_NAME) {
            return false;
        }
        segment[used++] = c;
    }
    segment[used] = '\0';
    return true;
}

/* The path of a target, which may be a whole URL: RFC 9112, section 3.2.2. */
static const char *path_of(const char *target)
{
    const size_t scheme = strncasecmp(target, "http://", 7) == 0    ? 7
                          : strncasecmp(target, "https://", 8) == 0 ? 8
                                                                    : 0;
    const char *path = scheme != 0 ? strchr(target + scheme, '/') : target;
    return path != NULL ? path : "/";
}

static bool divide(serve_connection *at)
{
    const char *path = path_of(at->uri);
    at->segment_count = 0;
    if (path[0] != '/') {
        return serve_refuse(&at->problem, 400, "the path does not begin with /");
    }
    while (*path == '/') {
        const size_t length = strcspn(path + 1, "/");
        if (length == 0 && path[1] == '\0') {
            break; /* a trailing slash */
        }
        if (at->segment_count == SERVE_SEGMENTS ||
            !decode(path + 1, length, at->segments[at->segment_count])) {
            return serve_refuse(&at->problem, 400, "the path cannot be read");
        }
        at->segment_count++;
        path += 1 + length;
    }
    return true;
}

static bool fits(const serve_route *route, const serve_connection *at)
{
    const char *pattern = route->path;
    size_t count = 0;
    while (*pattern != '\0') {
        const size_t length = strcspn(pattern, "/");
        const char *segment = count < at->segment_count ? at->segments[count] : NULL;
        const bool any = length == 1 && *pattern == '*';
        if (segment == NULL ||
            (any ? segment[0] == '\0'
                 : strlen(segment) != length || memcmp(segment, pattern, length) != 0)) {
            return false;
        }
        count++;
        pattern += length + (pattern[length] == '/' ? 1 : 0);
    }
    return count == at->segment_count;
}

const serve_route *serve_route_find(serve_connection *at)
{
    return divide(at) ? serve_route_match(at) : NULL;
}

const serve_route *serve_route_match(serve_connection *at)
{
    const char *method = strcmp(at->method, "HEAD") == 0 ? "GET" : at->method;
    bool gets = false;
    bool posts = false;
    for (size_t i = 0; i < SERVE_LENGTH(routes); i++) {
        if (!fits(&routes[i], at)) {
            continue;
        }
        if (strcmp(routes[i].method, method) == 0) {
            return &routes[i];
        }
        gets |= routes[i].method[0] == 'G';
        posts |= routes[i].method[0] == 'P';
    }
    at->allowed = gets && posts ? "GET, HEAD, POST" : gets ? "GET, HEAD" : "POST";
    (void)(gets || posts ? serve_refuse(&at->problem, 405, "this path takes %s", at->allowed)
                         : serve_refuse(&at->problem, 404, "there is nothing at this path"));
    return NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */

#include "serve_request.h"

bool serve_read_broken(serve_reader *self, const char *where)
{
    return serve_refuse_json(self->problem, &self->json, self->before, where);
}

bool serve_read_skip(serve_reader *self)
{
    serve_slice value;
    return serve_json_skip(&self->json, &value) || serve_read_broken(self, "a value");
}

static bool read_whole(serve_reader *self, const char *what, int64_t least, int64_t most,
                       int64_t *value)
{
    if (!serve_json_integer(&self->json, value)) {
        return serve_read_broken(self, what);
    }
    return (*value >= least && *value <= most) ||
           serve_refuse(self->problem, 400, "parameter \"%s\" is %lld; %lld to %lld are possible",
                        what, (long long)*value, (long long)least, (long long)most);
}

static bool is_foreign(const serve_slice *key, const char **what)
{
    static const char *const foreign[][2] = {
        {"sequence_id", "sequences of requests are"},
        {"sequence_start", "sequences of requests are"},
        {"sequence_end", "sequences of requests are"},
    };
    for (size_t i = 0; i < SERVE_LENGTH(foreign); i++) {
        if (serve_json_is(key, foreign[i][0])) {
            *what = foreign[i][1];
            return true;
        }
    }
    return false;
}

static bool read_region(serve_reader *self, serve_entry *of)
{
    char name[SERVE_NAME];
    const serve *server = self->infer->instance->server;
    if (server == NULL || !server->options->shared_memory) {
        return serve_refuse(self->problem, 400,
                            "this server reads and writes no shared memory (--shared-memory)");
    }
    if (!serve_json_string(&self->json, name, sizeof name)) {
        return serve_read_broken(self, "\"shared_memory_region\"");
    }
    of->place.region = serve_arena_string(self->arena, name);
    return of->place.region != NULL || serve_no_memory(self->problem);
}

bool serve_read_parameters(serve_reader *self, serve_entry *of)
{
    serve_slice key;
    const char *what = NULL;
    int64_t priority = 0;
    if (!serve_json_enter(&self->json, '{')) {
        return serve_read_broken(self, "\"parameters\"");
    }
    while (serve_json_member(&self->json, &key)) {
        bool read = true;
        if (is_foreign(&key, &what)) {
            return serve_refuse(self->problem, 400, "%s not offered here (parameter \"%.*s\")",
                                what, (int)key.size, key.at);
        }
        if (of != NULL && serve_json_is(&key, "binary_data_size")) {
            read = read_whole(self, "binary_data_size", 0, INT64_MAX, &of->binary_size);
        } else if (of != NULL && serve_json_is(&key, "classification")) {
            read = read_whole(self, "classification", 0, INT32_MAX, &of->classes);
        } else if (of != NULL && serve_json_is(&key, "binary_data")) {
            of->has_binary = true;
            read = serve_json_bool(&self->json, &of->binary) ||
                   serve_read_broken(self, "\"binary_data\"");
        } else if (of != NULL && serve_json_is(&key, "shared_memory_region")) {
            read = read_region(self, of);
        } else if (of != NULL && serve_json_is(&key, "shared_memory_byte_size")) {
            read = read_whole(self, "shared_memory_byte_size", 0, INT64_MAX, &of->place.size);
        } else if (of != NULL && serve_json_is(&key, "shared_memory_offset")) {
            read = read_whole(self, "shared_memory_offset", 0, INT64_MAX, &of->place.offset);
        } else if (of == NULL && serve_json_is(&key, "binary_data_output")) {
            read = serve_json_bool(&self->json, &self->infer->binary) ||
                   serve_read_broken(self, "\"binary_data_output\"");
        } else if (of == NULL && serve_json_is(&key, "timeout")) {
            read = read_whole(self, "timeout", 0, INT64_MAX / 1000, &self->infer->timeout);
        } else if (of == NULL && serve_json_is(&key, "priority")) {
            read = read_whole(self, "priority", 0, INT32_MAX, &priority);
        } else {
            read = serve_read_skip(self);
        }
        if (!read) {
            return false;
        }
    }
    /* In the protocol 1 is the highest priority, and 0 means the default. */
    self->infer->priority = priority == 0 || priority > KILN_MAX_PRIORITY
                                ? self->infer->priority
                                : (int32_t)(KILN_MAX_PRIORITY + 1 - priority);
    return self->json.reason == NULL || serve_read_broken(self, "\"parameters\"");
}

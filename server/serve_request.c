/* SPDX-License-Identifier: Apache-2.0 */

#include "serve_request.h"

static bool twice(serve_reader *self, const char *what)
{
    return serve_refuse(self->problem, 400, "the request's JSON gives \"%s\" more than once", what);
}

/* --- inputs and outputs --- */

static bool read_shape(serve_reader *self, kiln_shape *shape)
{
    if (!serve_json_enter(&self->json, '[')) {
        return serve_read_broken(self, "\"shape\"");
    }
    shape->rank = 0;
    while (serve_json_element(&self->json)) {
        int64_t size = 0;
        if (shape->rank == KILN_MAX_RANK) {
            return serve_refuse(self->problem, 400, "a shape has more than %d dimensions",
                                KILN_MAX_RANK);
        }
        if (!serve_json_integer(&self->json, &size)) {
            return serve_read_broken(self, "\"shape\"");
        }
        if (size < 0) {
            return serve_refuse(self->problem, 400, "a shape has the dimension %lld",
                                (long long)size);
        }
        shape->dims[shape->rank++] = size;
    }
    return self->json.reason == NULL || serve_read_broken(self, "\"shape\"");
}

/* Reads data directly if its type is already known, as most clients order it; otherwise skips it
 * for now. */
static bool read_data(serve_reader *self)
{
    serve_entry *read = &self->entry;
    if (self->list[0] != 'i' || !read->has_name || !read->has_shape || !read->has_datatype) {
        return serve_json_skip(&self->json, &read->data) || serve_read_broken(self, "\"data\"");
    }
    self->level = SERVE_NUMBERS;
    return serve_input_prepare(self) && serve_input_begin(self, &self->json);
}

static bool read_member(serve_reader *self, const serve_slice *key)
{
    serve_json *json = &self->json;
    serve_entry *read = &self->entry;
    bool *const given = serve_json_is(key, "name")       ? &read->has_name
                        : serve_json_is(key, "shape")    ? &read->has_shape
                        : serve_json_is(key, "datatype") ? &read->has_datatype
                        : serve_json_is(key, "data")     ? &read->has_data
                                                         : NULL;
    if (given != NULL && *given) {
        return serve_refuse(self->problem, 400, "a tensor gives \"%.*s\" more than once",
                            (int)key->size, key->at);
    }
    if (given != NULL) {
        *given = true;
    }
    return given == &read->has_name ? serve_json_string(json, read->name, sizeof read->name) ||
                                          serve_read_broken(self, "\"name\"")
           : given == &read->has_shape ? read_shape(self, &read->shape)
           : given == &read->has_datatype
               ? serve_json_string(json, read->datatype, sizeof read->datatype) ||
                     serve_read_broken(self, "\"datatype\"")
           : given == &read->has_data         ? read_data(self)
           : serve_json_is(key, "parameters") ? serve_read_parameters(self, read)
                                              : serve_read_skip(self);
}

static bool take_wish(serve_reader *self)
{
    const serve_entry *read = &self->entry;
    const serve_instance *model = self->infer->instance;
    const serve_binding *binding = serve_binding_find(model->outputs, model->output_count,
                                                      read->name, self->infer->wish_count);
    if (binding == NULL || self->infer->wish_count == model->output_count) {
        return serve_refuse(self->problem, 400,
                            binding == NULL ? "the model has no output \"%.200s\""
                                            : "more outputs are asked for than the model has, "
                                              "\"%.200s\" among them",
                            read->name);
    }
    self->infer->wishes[self->infer->wish_count++] =
        (serve_wish){(size_t)(binding - model->outputs), read->has_binary, read->binary,
                     read->classes, read->place};
    if (read->place.region != NULL && read->classes > 0) {
        return serve_refuse(self->problem, 400,
                            "output \"%.200s\": classes are not written to shared memory",
                            read->name);
    }
    return read->place.region == NULL ||
           serve_place_check(model->server, &read->place, read->name, self->problem);
}

/* Called after all members of an entry. */
static bool end_entry(serve_reader *self)
{
    if (!self->entry.has_name) {
        return serve_refuse(self->problem, 400, "an entry of \"%s\" has no name", self->list);
    }
    if (self->list[0] == 'o') {
        return take_wish(self);
    }
    if (!serve_input_take(self)) {
        return false;
    }
    self->infer->inputs[self->infer->input_count++] = self->entry.input;
    return true;
}

static bool begin_list(serve_reader *self, const char *list)
{
    const serve_instance *model = self->infer->instance;
    const bool is_input = list[0] == 'i';
    serve_infer *infer = self->infer;
    if (is_input ? infer->inputs != NULL : infer->wishes != NULL) {
        return twice(self, list);
    }
    const size_t count = (is_input ? model->input_count : model->output_count) + 1;
    void *items = serve_arena_take(
        self->arena, count * (is_input ? sizeof *infer->inputs : sizeof *infer->wishes));
    infer->inputs = is_input ? items : infer->inputs;
    infer->wishes = is_input ? infer->wishes : items;
    self->list = list;
    self->level = SERVE_LIST;
    return items == NULL ? serve_no_memory(self->problem)
                         : serve_json_enter(&self->json, '[') || serve_read_broken(self, list);
}

/* --- the whole request --- */

static bool read_id(serve_reader *self)
{
    char text[SERVE_LONGEST_NAME];
    if (self->infer->id != NULL) {
        return twice(self, "id");
    }
    if (!serve_json_string(&self->json, text, sizeof text)) {
        return serve_read_broken(self, "\"id\"");
    }
    self->infer->id = serve_arena_string(self->arena, text);
    return self->infer->id != NULL || serve_no_memory(self->problem);
}

static bool read_top(serve_reader *self, const serve_slice *key)
{
    return serve_json_is(key, "inputs")       ? begin_list(self, "inputs")
           : serve_json_is(key, "outputs")    ? begin_list(self, "outputs")
           : serve_json_is(key, "id")         ? read_id(self)
           : serve_json_is(key, "parameters") ? serve_read_parameters(self, NULL)
                                              : serve_read_skip(self);
}

/* Reads the next piece of JSON. */
static bool step(serve_reader *self)
{
    serve_json *json = &self->json;
    serve_slice key;
    switch (self->level) {
        case SERVE_BEGIN:
            self->level = SERVE_TOP;
            return serve_json_enter(json, '{') || serve_read_broken(self, "");
        case SERVE_TOP:
            if (serve_json_member(json, &key)) {
                return read_top(self, &key);
            }
            self->level = SERVE_END;
            return serve_json_end(json) || serve_read_broken(self, "");
        case SERVE_LIST:
            if (serve_json_element(json)) {
                self->entry = (serve_entry){.binary_size = -1};
                self->level = SERVE_ENTRY;
                return serve_json_enter(json, '{') || serve_read_broken(self, self->list);
            }
            self->level = SERVE_TOP;
            return json->reason == NULL || serve_read_broken(self, self->list);
        case SERVE_ENTRY:
            if (serve_json_member(json, &key)) {
                return read_member(self, &key);
            }
            self->level = SERVE_LIST;
            return json->reason == NULL ? end_entry(self) : serve_read_broken(self, self->list);
        case SERVE_NUMBERS:
            if (!serve_input_go_on(self, json)) {
                return false;
            }
            self->level = self->numbers.depth == 0 ? SERVE_ENTRY : SERVE_NUMBERS;
            return true;
        default: return true;
    }
}

bool serve_read_on(serve_reader *self)
{
    bool was_among = false;
    while (self->level != SERVE_END && !(self->json.open && was_among)) {
        was_among = self->level == SERVE_NUMBERS;
        if (!step(self)) {
            return false;
        }
    }
    return true;
}

/* If no outputs are named, all are wanted; fills in what the request's own parameters decide. */
static bool settle_wishes(serve_reader *self)
{
    serve_infer *infer = self->infer;
    for (size_t i = 0; i < infer->wish_count; i++) {
        serve_wish *wish = &infer->wishes[i];
        wish->binary = wish->says_binary && self->tensors == NULL ? wish->binary : infer->binary;
    }
    if (infer->wish_count != 0) {
        return true;
    }
    const size_t count = infer->instance->output_count;
    infer->wishes = serve_arena_take(self->arena, (count + 1) * sizeof(serve_wish));
    for (size_t i = 0; infer->wishes != NULL && i < count; i++) {
        infer->wishes[i] = (serve_wish){.index = i, .binary = infer->binary};
    }
    infer->wish_count = infer->wishes != NULL ? count : 0;
    return infer->wishes != NULL || serve_no_memory(self->problem);
}

bool serve_read_finish(serve_reader *self)
{
    const serve_tensors *tensors = self->tensors;
    if (!serve_read_on(self)) {
        return false;
    }
    self->infer->binary |= tensors != NULL;
    if (!settle_wishes(self)) {
        return false;
    }
    if (tensors != NULL && self->taken != tensors->count) {
        return serve_refuse(self->problem, 400, "%zu raw contents are given for %zu inputs",
                            tensors->count, self->infer->input_count);
    }
    return self->at == self->size ||
           serve_refuse(self->problem, 400,
                        "%zu bytes of the body belong to no input: the sum of binary_data_size is "
                        "smaller",
                        self->size - self->at);
}

bool serve_infer_read(char *body, size_t size, size_t head_size, const serve_tensors *tensors,
                      serve_arena *arena, serve_infer *infer, serve_problem *problem)
{
    serve_reader self = {
        .arena = arena, .infer = infer, .problem = problem, .body = body, .size = size};
    self.tensors = tensors;
    self.at = head_size < size ? head_size : size;
    serve_json_init(&self.json, body, self.at);
    return serve_read_finish(&self);
}

bool serve_infer_open(serve_connection *at)
{
    const char *version = at->segment_count > 4 ? at->segments[4] : NULL;
    if (at->infer == NULL) {
        at->infer = serve_arena_take(&at->arena, sizeof *at->infer);
        if (at->infer == NULL) {
            return serve_no_memory(&at->problem);
        }
        *at->infer = (serve_infer){.instance = NULL};
    }
    if (at->infer->instance == NULL) {
        at->infer->instance = serve_find(at->server, at->segments[2], version, &at->problem);
    }
    return at->infer->instance != NULL;
}

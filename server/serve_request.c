/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "serve_data.h"
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

static const serve_binding *find_binding(const serve_binding *bindings, size_t count,
                                         const char *name, size_t guess)
{
    for (size_t i = 0; i < count; i++) {
        const serve_binding *binding = &bindings[(guess + i) % count];
        if (strcmp(binding->name, name) == 0) {
            return binding;
        }
    }
    return NULL;
}

/* The next of the binary tensors, where it lies if its address allows that. */
static bool take_binary(serve_reader *self, const serve_entry *read, kiln_tensor *tensor)
{
    const bool apart = self->tensors != NULL;
    const size_t left = apart ? self->tensors->count - self->taken : self->size - self->at;
    const serve_slice next = !apart      ? (serve_slice){self->body + self->at, left}
                             : left != 0 ? self->tensors->items[self->taken++]
                                         : (serve_slice){NULL, 0};
    const uint64_t given = apart ? next.size : (uint64_t)read->binary_size;
    if (given != tensor->bytes) {
        return serve_refuse(
            self->problem, 400, "input \"%.200s\": %s %llu, its type and shape take %zu bytes",
            read->name, apart ? "the size of its raw contents is" : "binary_data_size is",
            (unsigned long long)given, tensor->bytes);
    }
    if (given > next.size) {
        return serve_refuse(self->problem, 400,
                            "input \"%.200s\": binary_data_size is %llu, and %zu bytes are left of "
                            "the body",
                            read->name, (unsigned long long)given, left);
    }
    self->at += apart ? 0 : tensor->bytes;
    tensor->data = (void *)(uintptr_t)next.at; /* a run only reads it */
    if ((uintptr_t)next.at % kiln_dtype_alignment(tensor->desc.dtype) != 0) {
        tensor->data = serve_arena_take(self->arena, tensor->bytes);
        if (tensor->data == NULL) {
            return serve_refuse(self->problem, 503, "memory is short");
        }
        memcpy(tensor->data, next.at, tensor->bytes);
    }
    return tensor->desc.dtype != KILN_DTYPE_BOOL ||
           serve_data_is_bool(tensor->data, tensor->bytes) ||
           serve_refuse(self->problem, 400, "input \"%.200s\": a BOOL is neither 0 nor 1",
                        read->name);
}

/* The data that comes next in `json`. */
static bool take_json(serve_reader *self, serve_json *json, serve_entry *read)
{
    kiln_tensor *tensor = &read->input.tensor;
    char sentence[300];
    int64_t elements = 0;
    (void)!kiln_shape_elements(&tensor->desc.shape, &elements);
    if (elements > json->end - json->at) { /* so that a shape alone takes no memory */
        return serve_refuse(self->problem, 400,
                            "input \"%.200s\": its shape asks for %lld elements, and its data has "
                            "fewer",
                            read->name, (long long)elements);
    }
    tensor->data = serve_arena_take(self->arena, tensor->bytes);
    if (tensor->data == NULL) {
        return serve_refuse(self->problem, 503, "memory is short");
    }
    if (serve_data_read(json, tensor, sentence, sizeof sentence)) {
        return true;
    }
    return json->reason != NULL && json == &self->json
               ? serve_read_broken(self, "\"data\"")
               : serve_refuse(self->problem, 400, "input \"%.200s\": %s", read->name, sentence);
}

static bool check_shape(serve_reader *self, const serve_entry *read, const serve_binding *binding)
{
    const kiln_shape *shape = &read->shape;
    const int64_t limit = self->infer->instance->row_limit;
    bool fits = binding->shape.rank < 0 || binding->shape.rank == shape->rank;
    for (int32_t d = 0; fits && binding->shape.rank >= 0 && d < shape->rank; d++) {
        fits = binding->shape.dims[d] < 0 || binding->shape.dims[d] == shape->dims[d];
    }
    if (!fits) {
        char needed[256];
        char given[256];
        (void)kiln_shape_format(&binding->shape, needed, sizeof needed);
        (void)kiln_shape_format(shape, given, sizeof given);
        return serve_refuse(self->problem, 400,
                            "input \"%.200s\" has the shape %s; the model needs %s", read->name,
                            given, needed);
    }
    return limit == 0 || shape->rank == 0 || shape->dims[0] <= limit ||
           serve_refuse(self->problem, 400,
                        "input \"%.200s\" has %lld rows; the model takes %lld (max_batch_size)",
                        read->name, (long long)shape->dims[0], (long long)limit);
}

/* What of an input must be known before its data. */
static bool prepare_input(serve_reader *self, serve_entry *read)
{
    const serve_instance *model = self->infer->instance;
    const size_t count = self->infer->input_count;
    const serve_binding *binding =
        find_binding(model->inputs, model->input_count, read->name, count);
    const kiln_dtype dtype = serve_type_of(read->datatype);
    kiln_tensor *tensor = &read->input.tensor;
    if (binding == NULL || count == model->input_count) {
        return serve_refuse(self->problem, 400,
                            binding == NULL ? "the model has no input \"%.200s\""
                                            : "more inputs are given than the model has, "
                                              "\"%.200s\" among them",
                            read->name);
    }
    if (!read->has_shape || !read->has_datatype) {
        return serve_refuse(self->problem, 400, "input \"%.200s\" has no %s", read->name,
                            read->has_shape ? "datatype" : "shape");
    }
    if (dtype != binding->dtype) {
        return serve_refuse(self->problem, 400,
                            "input \"%.200s\" has the datatype \"%s\"; the model needs %s",
                            read->name, read->datatype, serve_type_name(binding->dtype));
    }
    if (!check_shape(self, read, binding)) {
        return false;
    }
    read->input = (kiln_named_tensor){.name = binding->name};
    tensor->desc = (kiln_tensor_desc){.dtype = dtype, .shape = read->shape};
    int64_t elements = 0;
    return (kiln_shape_elements(&read->shape, &elements) == KILN_OK &&
            kiln_tensor_bytes(dtype, &read->shape, &tensor->bytes) == KILN_OK) ||
           serve_refuse(self->problem, 400, "input \"%.200s\": its shape is too large", read->name);
}

/* Data is read where it lies if what it is to become is known by then, as most clients write it,
 * and else is stepped over for now. */
static bool read_data(serve_reader *self, serve_entry *read)
{
    if (!read->is_input || !read->has_name || !read->has_shape || !read->has_datatype) {
        return serve_json_skip(&self->json, &read->data) || serve_read_broken(self, "\"data\"");
    }
    return prepare_input(self, read) && take_json(self, &self->json, read);
}

/* What is left to be done for an input once all of it was read. */
static bool take_input(serve_reader *self, serve_entry *read)
{
    serve_json late;
    if (read->input.name == NULL && !prepare_input(self, read)) {
        return false;
    }
    const bool apart = self->tensors != NULL && self->tensors->count != 0;
    if ((read->binary_size >= 0 || apart) && read->has_data) {
        return serve_refuse(
            self->problem, 400, "input \"%.200s\" has both %s", read->name,
            apart ? "contents and raw contents" : "\"data\" and a binary_data_size");
    }
    if (read->binary_size >= 0 || apart) {
        return take_binary(self, read, &read->input.tensor);
    }
    if (!read->has_data) {
        return serve_refuse(self->problem, 400,
                            "input \"%.200s\" has neither \"data\" nor a binary_data_size",
                            read->name);
    }
    serve_json_init(&late, read->data.at, read->data.size);
    return read->data.at == NULL || take_json(self, &late, read);
}

static bool read_member(serve_reader *self, const serve_slice *key, serve_entry *read)
{
    serve_json *json = &self->json;
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
    if (given == &read->has_name) {
        return serve_json_string(json, read->name, sizeof read->name) ||
               serve_read_broken(self, "\"name\"");
    }
    if (given == &read->has_shape) {
        return read_shape(self, &read->shape);
    }
    if (given == &read->has_datatype) {
        return serve_json_string(json, read->datatype, sizeof read->datatype) ||
               serve_read_broken(self, "\"datatype\"");
    }
    if (given == &read->has_data) {
        return read_data(self, read);
    }
    return serve_json_is(key, "parameters") ? serve_read_parameters(self, read)
                                            : serve_read_skip(self);
}

static bool read_entry(serve_reader *self, const char *list, serve_entry *read)
{
    serve_slice key;
    *read = (serve_entry){.binary_size = -1, .is_input = strcmp(list, "inputs") == 0};
    if (!serve_json_enter(&self->json, '{')) {
        return serve_read_broken(self, list);
    }
    while (serve_json_member(&self->json, &key)) {
        if (!read_member(self, &key, read)) {
            return false;
        }
    }
    if (self->json.reason != NULL) {
        return serve_read_broken(self, list);
    }
    return read->has_name ||
           serve_refuse(self->problem, 400, "an entry of \"%s\" has no name", list);
}

static bool read_inputs(serve_reader *self)
{
    const serve_instance *model = self->infer->instance;
    serve_entry read;
    if (self->infer->inputs != NULL) {
        return twice(self, "inputs");
    }
    self->infer->inputs =
        serve_arena_take(self->arena, (model->input_count + 1) * sizeof(kiln_named_tensor));
    if (self->infer->inputs == NULL) {
        return serve_refuse(self->problem, 503, "memory is short");
    }
    if (!serve_json_enter(&self->json, '[')) {
        return serve_read_broken(self, "\"inputs\"");
    }
    while (serve_json_element(&self->json)) {
        if (!read_entry(self, "inputs", &read) || !take_input(self, &read)) {
            return false;
        }
        self->infer->inputs[self->infer->input_count] = read.input;
        self->infer->input_count++;
    }
    return self->json.reason == NULL || serve_read_broken(self, "\"inputs\"");
}

static bool read_outputs(serve_reader *self)
{
    const serve_instance *model = self->infer->instance;
    serve_entry read;
    if (self->infer->wishes != NULL) {
        return twice(self, "outputs");
    }
    self->infer->wishes =
        serve_arena_take(self->arena, (model->output_count + 1) * sizeof(serve_wish));
    if (self->infer->wishes == NULL) {
        return serve_refuse(self->problem, 503, "memory is short");
    }
    if (!serve_json_enter(&self->json, '[')) {
        return serve_read_broken(self, "\"outputs\"");
    }
    while (serve_json_element(&self->json)) {
        if (!read_entry(self, "outputs", &read)) {
            return false;
        }
        const serve_binding *binding =
            find_binding(model->outputs, model->output_count, read.name, self->infer->wish_count);
        if (binding == NULL || self->infer->wish_count == model->output_count) {
            return serve_refuse(self->problem, 400,
                                binding == NULL ? "the model has no output \"%.200s\""
                                                : "more outputs are asked for than the model has, "
                                                  "\"%.200s\" among them",
                                read.name);
        }
        self->infer->wishes[self->infer->wish_count++] = (serve_wish){
            (size_t)(binding - model->outputs), read.has_binary, read.binary, read.classes};
    }
    return self->json.reason == NULL || serve_read_broken(self, "\"outputs\"");
}

/* --- the whole --- */

static bool read_id(serve_reader *self)
{
    char text[SERVE_LONGEST_NAME];
    if (self->infer->id != NULL) {
        return twice(self, "id");
    }
    if (!serve_json_string(&self->json, text, sizeof text)) {
        return serve_read_broken(self, "\"id\"");
    }
    self->infer->id = serve_arena_take(self->arena, strlen(text) + 1);
    if (self->infer->id == NULL) {
        return serve_refuse(self->problem, 503, "memory is short");
    }
    memcpy(self->infer->id, text, strlen(text) + 1);
    return true;
}

static bool read_top(serve_reader *self)
{
    serve_slice key;
    if (!serve_json_enter(&self->json, '{')) {
        return serve_read_broken(self, "");
    }
    while (serve_json_member(&self->json, &key)) {
        const bool read = serve_json_is(&key, "inputs")       ? read_inputs(self)
                          : serve_json_is(&key, "outputs")    ? read_outputs(self)
                          : serve_json_is(&key, "id")         ? read_id(self)
                          : serve_json_is(&key, "parameters") ? serve_read_parameters(self, NULL)
                                                              : serve_read_skip(self);
        if (!read) {
            return false;
        }
    }
    return serve_json_end(&self->json) || serve_read_broken(self, "");
}

/* All outputs where none is named; and what was left to the request's own parameter. */
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
        infer->wishes[i] = (serve_wish){i, false, infer->binary, 0};
    }
    infer->wish_count = infer->wishes != NULL ? count : 0;
    return infer->wishes != NULL || serve_refuse(self->problem, 503, "memory is short");
}

bool serve_infer_read(char *body, size_t size, size_t head_size, const serve_tensors *tensors,
                      serve_arena *arena, serve_infer *infer, serve_problem *problem)
{
    serve_reader self = {
        .arena = arena, .infer = infer, .problem = problem, .body = body, .size = size};
    self.tensors = tensors;
    self.at = head_size < size ? head_size : size;
    serve_json_init(&self.json, body, self.at);
    if (!read_top(&self)) {
        return false;
    }
    infer->binary |= tensors != NULL;
    if (!settle_wishes(&self)) {
        return false;
    }
    if (tensors != NULL && self.taken != tensors->count) {
        return serve_refuse(problem, 400, "%zu raw contents are given for %zu inputs",
                            tensors->count, infer->input_count);
    }
    return self.at == size ||
           serve_refuse(problem, 400,
                        "%zu bytes of the body belong to no input: the sum of binary_data_size is "
                        "smaller",
                        size - self.at);
}

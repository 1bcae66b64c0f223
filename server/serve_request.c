/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "serve_data.h"
#include "serve_infer.h"

#define LONGEST_NAME 1024

/* Where the reading is. */
typedef struct reader {
    serve_json json;
    serve_arena *arena;
    serve_infer *infer;
    serve_problem *problem;
    char *body;
    size_t size;
    size_t at; /* of the binary tensors that were not taken yet */
} reader;

/* What was read of an entry of "inputs" or "outputs". */
typedef struct entry {
    char name[LONGEST_NAME];
    char datatype[16];
    kiln_shape shape;
    serve_slice data;
    bool has_name, has_shape, has_datatype, has_data;
    int64_t binary_size; /* -1: not given */
    bool binary, has_binary;
    int64_t classes;
    bool is_input;
    kiln_named_tensor input; /* what it becomes, once its name is not NULL */
} entry;

static bool broken(reader *self, const char *where)
{
    return serve_refuse(self->problem, 400, "the request's JSON, byte %zu: %s%s%s",
                        (size_t)(self->json.at - self->json.begin),
                        self->json.reason != NULL ? self->json.reason : "it is broken",
                        where[0] != '\0' ? ", in " : "", where);
}

static bool twice(reader *self, const char *what)
{
    return serve_refuse(self->problem, 400, "the request's JSON gives \"%s\" more than once", what);
}

static bool skip(reader *self)
{
    serve_slice value;
    return serve_json_skip(&self->json, &value) || broken(self, "a value");
}

/* --- parameters --- */

static bool read_whole(reader *self, const char *what, int64_t least, int64_t most, int64_t *value)
{
    if (!serve_json_integer(&self->json, value)) {
        return broken(self, what);
    }
    return (*value >= least && *value <= most) ||
           serve_refuse(self->problem, 400, "parameter \"%s\" is %lld; %lld to %lld are possible",
                        what, (long long)*value, (long long)least, (long long)most);
}

static bool is_foreign(const serve_slice *key, const char **what)
{
    static const char *const foreign[][2] = {
        {"shared_memory_region", "shared memory is"},
        {"shared_memory_byte_size", "shared memory is"},
        {"shared_memory_offset", "shared memory is"},
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

/* Of an entry, or of the request where `of` is NULL; what nobody knows is stepped over, as the
 * protocol has it. */
static bool read_parameters(reader *self, entry *of)
{
    serve_slice key;
    const char *what = NULL;
    int64_t priority = 0;
    if (!serve_json_enter(&self->json, '{')) {
        return broken(self, "\"parameters\"");
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
            read = serve_json_bool(&self->json, &of->binary) || broken(self, "\"binary_data\"");
        } else if (of == NULL && serve_json_is(&key, "binary_data_output")) {
            read = serve_json_bool(&self->json, &self->infer->binary) ||
                   broken(self, "\"binary_data_output\"");
        } else if (of == NULL && serve_json_is(&key, "timeout")) {
            read = read_whole(self, "timeout", 0, INT64_MAX / 1000, &self->infer->timeout);
        } else if (of == NULL && serve_json_is(&key, "priority")) {
            read = read_whole(self, "priority", 0, INT32_MAX, &priority);
        } else {
            read = skip(self);
        }
        if (!read) {
            return false;
        }
    }
    /* There 1 comes first and 0 is the default. */
    self->infer->priority = priority == 0 || priority > KILN_MAX_PRIORITY
                                ? self->infer->priority
                                : (int32_t)(KILN_MAX_PRIORITY + 1 - priority);
    return self->json.reason == NULL || broken(self, "\"parameters\"");
}

/* --- inputs and outputs --- */

static bool read_shape(reader *self, kiln_shape *shape)
{
    if (!serve_json_enter(&self->json, '[')) {
        return broken(self, "\"shape\"");
    }
    shape->rank = 0;
    while (serve_json_element(&self->json)) {
        int64_t size = 0;
        if (shape->rank == KILN_MAX_RANK) {
            return serve_refuse(self->problem, 400, "a shape has more than %d dimensions",
                                KILN_MAX_RANK);
        }
        if (!serve_json_integer(&self->json, &size)) {
            return broken(self, "\"shape\"");
        }
        if (size < 0) {
            return serve_refuse(self->problem, 400, "a shape has the dimension %lld",
                                (long long)size);
        }
        shape->dims[shape->rank++] = size;
    }
    return self->json.reason == NULL || broken(self, "\"shape\"");
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
static bool take_binary(reader *self, const entry *read, kiln_tensor *tensor)
{
    const size_t left = self->size - self->at;
    if ((uint64_t)read->binary_size != tensor->bytes) {
        return serve_refuse(self->problem, 400,
                            "input \"%.200s\": binary_data_size is %lld, its type and shape take "
                            "%zu bytes",
                            read->name, (long long)read->binary_size, tensor->bytes);
    }
    if (tensor->bytes > left) {
        return serve_refuse(self->problem, 400,
                            "input \"%.200s\": binary_data_size is %lld, and %zu bytes are left of "
                            "the body",
                            read->name, (long long)read->binary_size, left);
    }
    char *data = self->body + self->at;
    self->at += tensor->bytes;
    if ((uintptr_t)data % kiln_dtype_alignment(tensor->desc.dtype) != 0) {
        char *copy = serve_arena_take(self->arena, tensor->bytes);
        if (copy == NULL) {
            return serve_refuse(self->problem, 503, "memory is short");
        }
        memcpy(copy, data, tensor->bytes);
        data = copy;
    }
    tensor->data = data;
    if (tensor->desc.dtype == KILN_DTYPE_BOOL && !serve_data_is_bool(data, tensor->bytes)) {
        return serve_refuse(self->problem, 400, "input \"%.200s\": a BOOL is neither 0 nor 1",
                            read->name);
    }
    return true;
}

/* The data that comes next in `json`. */
static bool take_json(reader *self, serve_json *json, entry *read)
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
               ? broken(self, "\"data\"")
               : serve_refuse(self->problem, 400, "input \"%.200s\": %s", read->name, sentence);
}

static bool check_shape(reader *self, const entry *read, const serve_binding *binding)
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
static bool prepare_input(reader *self, entry *read)
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
static bool read_data(reader *self, entry *read)
{
    if (!read->is_input || !read->has_name || !read->has_shape || !read->has_datatype) {
        return serve_json_skip(&self->json, &read->data) || broken(self, "\"data\"");
    }
    return prepare_input(self, read) && take_json(self, &self->json, read);
}

/* What is left to be done for an input once all of it was read. */
static bool take_input(reader *self, entry *read)
{
    serve_json late;
    if (read->input.name == NULL && !prepare_input(self, read)) {
        return false;
    }
    if (read->binary_size >= 0 && read->has_data) {
        return serve_refuse(self->problem, 400,
                            "input \"%.200s\" has both \"data\" and a binary_data_size",
                            read->name);
    }
    if (read->binary_size >= 0) {
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

static bool read_member(reader *self, const serve_slice *key, entry *read)
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
        return serve_json_string(json, read->name, sizeof read->name) || broken(self, "\"name\"");
    }
    if (given == &read->has_shape) {
        return read_shape(self, &read->shape);
    }
    if (given == &read->has_datatype) {
        return serve_json_string(json, read->datatype, sizeof read->datatype) ||
               broken(self, "\"datatype\"");
    }
    if (given == &read->has_data) {
        return read_data(self, read);
    }
    return serve_json_is(key, "parameters") ? read_parameters(self, read) : skip(self);
}

static bool read_entry(reader *self, const char *list, entry *read)
{
    serve_slice key;
    *read = (entry){.binary_size = -1, .is_input = strcmp(list, "inputs") == 0};
    if (!serve_json_enter(&self->json, '{')) {
        return broken(self, list);
    }
    while (serve_json_member(&self->json, &key)) {
        if (!read_member(self, &key, read)) {
            return false;
        }
    }
    if (self->json.reason != NULL) {
        return broken(self, list);
    }
    return read->has_name ||
           serve_refuse(self->problem, 400, "an entry of \"%s\" has no name", list);
}

static bool read_inputs(reader *self)
{
    const serve_instance *model = self->infer->instance;
    entry read;
    if (self->infer->inputs != NULL) {
        return twice(self, "inputs");
    }
    self->infer->inputs =
        serve_arena_take(self->arena, (model->input_count + 1) * sizeof(kiln_named_tensor));
    if (self->infer->inputs == NULL) {
        return serve_refuse(self->problem, 503, "memory is short");
    }
    if (!serve_json_enter(&self->json, '[')) {
        return broken(self, "\"inputs\"");
    }
    while (serve_json_element(&self->json)) {
        if (!read_entry(self, "inputs", &read) || !take_input(self, &read)) {
            return false;
        }
        self->infer->inputs[self->infer->input_count] = read.input;
        self->infer->input_count++;
    }
    return self->json.reason == NULL || broken(self, "\"inputs\"");
}

static bool read_outputs(reader *self)
{
    const serve_instance *model = self->infer->instance;
    entry read;
    if (self->infer->wishes != NULL) {
        return twice(self, "outputs");
    }
    self->infer->wishes =
        serve_arena_take(self->arena, (model->output_count + 1) * sizeof(serve_wish));
    if (self->infer->wishes == NULL) {
        return serve_refuse(self->problem, 503, "memory is short");
    }
    if (!serve_json_enter(&self->json, '[')) {
        return broken(self, "\"outputs\"");
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
    return self->json.reason == NULL || broken(self, "\"outputs\"");
}

/* --- the whole --- */

static bool read_id(reader *self)
{
    char text[LONGEST_NAME];
    if (self->infer->id != NULL) {
        return twice(self, "id");
    }
    if (!serve_json_string(&self->json, text, sizeof text)) {
        return broken(self, "\"id\"");
    }
    self->infer->id = serve_arena_take(self->arena, strlen(text) + 1);
    if (self->infer->id == NULL) {
        return serve_refuse(self->problem, 503, "memory is short");
    }
    memcpy(self->infer->id, text, strlen(text) + 1);
    return true;
}

static bool read_top(reader *self)
{
    serve_slice key;
    if (!serve_json_enter(&self->json, '{')) {
        return broken(self, "");
    }
    while (serve_json_member(&self->json, &key)) {
        const bool read = serve_json_is(&key, "inputs")       ? read_inputs(self)
                          : serve_json_is(&key, "outputs")    ? read_outputs(self)
                          : serve_json_is(&key, "id")         ? read_id(self)
                          : serve_json_is(&key, "parameters") ? read_parameters(self, NULL)
                                                              : skip(self);
        if (!read) {
            return false;
        }
    }
    return serve_json_end(&self->json) || broken(self, "");
}

/* All outputs where none is named; and what was left to the request's own parameter. */
static bool settle_wishes(reader *self)
{
    serve_infer *infer = self->infer;
    for (size_t i = 0; i < infer->wish_count; i++) {
        serve_wish *wish = &infer->wishes[i];
        wish->binary = wish->says_binary ? wish->binary : infer->binary;
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

bool serve_infer_read(char *body, size_t size, size_t head_size, serve_arena *arena,
                      serve_infer *infer, serve_problem *problem)
{
    reader self = {.arena = arena, .infer = infer, .problem = problem, .body = body, .size = size};
    self.at = head_size < size ? head_size : size;
    serve_json_init(&self.json, body, self.at);
    if (!read_top(&self) || !settle_wishes(&self)) {
        return false;
    }
    return self.at == size ||
           serve_refuse(problem, 400,
                        "%zu bytes of the body belong to no input: the sum of binary_data_size is "
                        "smaller",
                        size - self.at);
}
